"""From the files that the question sets are published in to items.

Why: numbers can only be compared with published ones if the published files are read as they are.
One function per format turns one record into an item; what cannot be read is named by file, record
and field, and nothing is skipped in silence.
"""

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mentalarena.errors import ConfigurationError
from training.tasks.items import LETTERS, Item

Record = Mapping[str, Any]

CAMS_CAUSES = (
    "none", "bias or abuse", "jobs and career", "medication", "relationship", "alienation",
)  # fmt: skip
"""The interpretations of CAMS, in its authors' order."""


class BadRecord(ValueError):
    """A record that is not in the format; the message names the field."""


def read_records(path: Path) -> list[Any]:
    """The records of a ``.jsonl``, ``.json`` or ``.csv`` file.

    A JSON file may be a list, ``{"examples": [...]}`` (BBH) or records by id (PubMedQA). A CSV file
    without a header of known names (MMLU) gives lists.

    Raises:
        ConfigurationError: the file cannot be read, or holds no record.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"data file {path} cannot be read: {error}") from error
    try:
        records = _parsed(path, text)
    except (ValueError, csv.Error, RecursionError) as error:
        raise ConfigurationError(f"data file {path}: {str(error)[:200]}") from error
    if not records:
        raise ConfigurationError(f"data file {path} holds no record")
    return records


def _parsed(path: Path, text: str) -> list[Any]:
    if path.suffix == ".csv":
        rows = list(csv.reader(text.splitlines(keepends=True)))
        if rows and "query" in rows[0]:
            return [dict(zip(rows[0], row, strict=True)) for row in rows[1:] if row]
        return [row for row in rows if row]
    if path.suffix == ".json":
        whole = json.loads(text)
        if isinstance(whole, dict):
            whole = whole.get("examples", list(whole.values()))
        return list(whole)
    found = []
    # Not splitlines(): a JSON string may hold other line separators than the newline.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                found.append(json.loads(line))
            except ValueError as error:
                raise ValueError(f"line {number}: not JSON: {error}") from error
    return found


def _field(record: Any, *names: str) -> Any:
    for name in names:
        if isinstance(record, Mapping) and record.get(name) is not None:
            return record[name]
    raise BadRecord(f"no field {' or '.join(names)}")


def _gold(labels: Sequence[str], value: object, field: str) -> int:
    if value not in labels:
        raise BadRecord(f"{field} is {value!r}, not one of {', '.join(labels)}")
    return list(labels).index(str(value))


def lettered(records: Iterable[Any]) -> Iterable[Item]:
    """MedQA (``options`` by letter, ``answer_idx``) and MMLU as published in several forms.

    MMLU: the same, or ``choices`` with ``answer`` as a position, or CSV rows of question, four
    choices and letter. MedQA also as ``sent1``, ``ending0`` to ``ending3``, ``label``.
    """
    for record in records:
        if isinstance(record, list):
            if len(record) < 4:
                raise BadRecord("a row must hold question, choices and letter")
            question, *options, letter = record
            gold = _gold(LETTERS[: len(options)], letter.strip(), "the last column")
        elif "sent1" in record:
            question = record["sent1"]
            options = [_field(record, f"ending{place}") for place in range(4)]
            gold = _gold("0123", str(_field(record, "label")), "label")
        elif "choices" in record:
            question, options = _field(record, "question"), list(record["choices"])
            places = [str(place) for place in range(len(options))]
            gold = _gold(places, str(_field(record, "answer")), "answer")
        else:
            question, by_letter = _field(record, "question"), _field(record, "options")
            labels = sorted(by_letter)
            if labels != list(LETTERS[: len(labels)]):
                raise BadRecord(f"options are {', '.join(labels)}, not letters from A")
            options = [by_letter[label] for label in labels]
            gold = _gold(labels, _field(record, "answer_idx"), "answer_idx")
        yield Item(str(question), tuple(str(option) for option in options), gold)


def medmcqa(records: Iterable[Any]) -> Iterable[Item]:
    """MedMCQA: ``opa`` to ``opd``; ``cop`` counts from 1 in one release and from 0 in another."""
    records = list(records)
    answers = {_field(record, "cop") for record in records}
    first = 0 if 0 in answers else 1
    if not answers <= set(range(first, first + 4)):
        raise BadRecord(
            f"cop holds {', '.join(map(str, sorted(answers, key=str)[:6]))}: a labeled file has 1 "
            "to 4 or 0 to 3 (the test split is published without labels)"
        )
    if not answers & {0, 4}:
        raise BadRecord("cop holds neither 0 nor 4, so it cannot be told where it counts from")
    for record in records:
        options = tuple(str(_field(record, name)) for name in ("opa", "opb", "opc", "opd"))
        yield Item(str(_field(record, "question")), options, int(record["cop"]) - first)


def medmcqa_psychiatry(records: Iterable[Any]) -> Iterable[Item]:
    """The items of MedMCQA whose subject is psychiatry."""
    records = list(records)
    for record, item in zip(records, medmcqa(records), strict=True):
        if str(_field(record, "subject_name")).strip().lower() == "psychiatry":
            yield item


def pubmedqa(records: Iterable[Any]) -> Iterable[Item]:
    """PubMedQA with its abstract: ``QUESTION``, ``CONTEXTS``, ``final_decision``."""
    labels = ("yes", "no", "maybe")
    for record in records:
        contexts = _field(record, "CONTEXTS", "context")
        if isinstance(contexts, Mapping):
            contexts = _field(contexts, "contexts")
        question = str(_field(record, "QUESTION", "question"))
        gold = _gold(labels, _field(record, "final_decision"), "final_decision")
        yield Item(question, labels, gold, "\n".join(contexts), words=True)


def pubmedqa_no_abstract(records: Iterable[Any]) -> Iterable[Item]:
    """PubMedQA as the MentalArena paper asks it: the question alone."""
    for item in pubmedqa(records):
        yield Item(item.question, item.options, item.gold, words=True)


def imhi(records: Iterable[Any]) -> Iterable[Item]:
    """Dreaddit and Irf in the IMHI form: a post and its question, answered "Yes, …" or "No, …"."""
    for record in records:
        post, question, answer = _imhi_parts(record)
        match = re.match(r"\s*(yes|no)\b", answer, re.IGNORECASE)
        if not match:
            raise BadRecord("the reference answer begins with neither Yes nor No")
        labels = ("yes", "no")
        yield Item(question, labels, labels.index(match[1].lower()), post, words=True)


def cams(records: Iterable[Any]) -> Iterable[Item]:
    """CAMS in the IMHI form: "… causes of depression related to X" or "… no causes …"."""
    for record in records:
        post, question, answer = _imhi_parts(record)
        named = re.match(r"[^.]*?related to ([a-z ]+?)\s*[.,]", answer, re.IGNORECASE)
        cause = named[1].lower().strip() if named else "none"
        if named is None and not re.match(r"[^.]*\bno causes?\b", answer, re.IGNORECASE):
            raise BadRecord("the reference answer names no cause, nor says that there is none")
        cause = {"bias and abuse": "bias or abuse", "job and career": "jobs and career",
                 "jobs and careers": "jobs and career"}.get(cause, cause)  # fmt: skip
        yield Item(question, CAMS_CAUSES, _gold(CAMS_CAUSES, cause, "the reference's cause"), post)


def _imhi_parts(record: Any) -> tuple[str, str, str]:
    query = str(_field(record, "query"))
    answer = str(_field(record, "gpt-3.5-turbo", "response", "label"))
    post, mark, question = query.rpartition("Question:")
    if not mark:
        raise BadRecord("query holds no 'Question:'")
    return post.strip(), question.strip(), answer


_OPTION = re.compile(r"^\(([A-Z])\)\s*(.+)$", re.MULTILINE)
_DASHED = re.compile(r"^- (.+)$", re.MULTILINE)
_WORDS = (("yes", "no"), ("true", "false"), ("valid", "invalid"))


def bbh(records: Iterable[Any]) -> Iterable[Item]:
    """BIG-Bench Hard: ``input`` with or without an ``Options:`` list, and ``target``."""
    for record in records:
        asked, target = str(_field(record, "input")), str(_field(record, "target")).strip()
        body, _, listed = asked.partition("\nOptions:\n")
        lettered_options = _OPTION.findall(listed)
        if lettered_options:
            labels = [letter for letter, _ in lettered_options]
            if labels != list(LETTERS[: len(labels)]):
                raise BadRecord(f"options are {', '.join(labels)}, not letters from A")
            gold = _gold(labels, target.strip("()"), "target")
            yield Item(body, tuple(text.strip() for _, text in lettered_options), gold)
            continue
        pool = [tuple(word.strip().lower() for word in _DASHED.findall(listed)), *_WORDS]
        words = next((words for words in pool if target.lower() in words), None)
        if words is None:
            raise BadRecord(f"target {target[:40]!r} is not of a closed list")
        yield Item(body, words, words.index(target.lower()), words=True)
