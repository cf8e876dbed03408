"""Files of a dataset: rows for trl, and the same rows for other trainers.

Why: what a trainer reads differs, the rows do not. Everything is made from the rows that passed
the filters; what a provider would refuse is refused here, before it is uploaded.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from mentalarena.errors import ConfigurationError
from mentalarena.journal import digest
from mentalarena.models import AnswerMode, require
from training.examples import Example, completion

Export = Literal["messages", "chat", "parquet"]
EXPORTS: tuple[Export, ...] = get_args(Export)
FEWEST = 10
"""Rows that providers ask for at least."""

Row = dict[str, Any]


def row(example: Example, answers: AnswerMode, origin: str = "") -> Row:
    """A row as trl reads it: ``prompt`` and ``completion``, or ``chosen`` and ``rejected``.

    Args:
        example: What to write.
        answers: How the model will be asked.
        origin: Who gave the answer, for rows that come from no episode.
    """
    said: dict[str, Any] = {"prompt": example.messages(answers)}
    if example.rejected is None:
        said["completion"] = _spoken(completion(example.answer, answers))
    else:
        said["chosen"] = _spoken(completion(example.answer, answers))
        said["rejected"] = _spoken(completion(example.rejected, answers))
    head = {"task": example.task, "role": example.role, "patient_id": example.patient_id}
    return {"id": digest([head, said], 16), **head, **said, "meta": _meta(example, origin)}


def _spoken(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _meta(example: Example, origin: str) -> dict[str, Any]:
    """Where a row comes from."""
    played = example.trajectory
    taught = example.source == "record" and example.task in ("formulation", "cognitive_model")
    by = origin if played is None else str(played.run.config[example.role])
    return {
        "episode_id": played.id if played else None,
        "run_id": played.run.id if played else None,
        "iteration": played.iteration if played else None,
        "guidance": played.guidance if played else None,
        "case_id": example.case_id,
        "idx": example.idx,
        "source": example.source,
        "answered_by": "record" if taught else by,
        "score": example.score,
        "code": example.code,
        "margin": example.margin,
        "agreement": example.agreement,
    }


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows, one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for one in rows:
            file.write(json.dumps(one, ensure_ascii=False, allow_nan=False) + "\n")


def read_jsonl(path: Path) -> list[Row]:
    """Rows of a file of JSON lines."""
    # Not splitlines(): a JSON text may hold other line separators than the newline.
    return [json.loads(line) for line in path.read_text("utf-8").split("\n") if line]


def conversation(one: Mapping[str, Any]) -> dict[str, Any]:
    """A row as one conversation: ``messages``, the answer last."""
    return {"messages": [*one["prompt"], *one["completion"]]}


def provider_row(one: Mapping[str, Any]) -> dict[str, Any]:
    """A row as providers of fine-tuning read it; a pair as their preference format."""
    if "completion" in one:
        return conversation(one)
    return {
        "input": {"messages": one["prompt"]},
        "preferred_output": one["chosen"],
        "non_preferred_output": one["rejected"],
    }


def check_provider_file(path: Path) -> int:
    """Check a file of provider chat rows as a provider would; the number of rows.

    Raises:
        ConfigurationError: a line would be refused; it is named with its field.
    """
    found = path.read_text("utf-8").split("\n")
    lines = [line for line in found if line]
    for number, line in enumerate(lines, start=1):
        wrong = _refused(line)
        if wrong:
            raise ConfigurationError(f"{path}: line {number}: {wrong}")
    return len(lines)


def _refused(line: str) -> str | None:
    try:
        one = json.loads(line)
    except ValueError as error:
        return f"not JSON: {error}"
    if not isinstance(one, dict):
        return "not a JSON object"
    if set(one) == {"messages"}:
        return _bad_messages(one["messages"], "messages", "assistant")
    if set(one) == {"input", "preferred_output", "non_preferred_output"}:
        prompt = one["input"].get("messages") if isinstance(one["input"], dict) else None
        return (
            _bad_messages(prompt, "input.messages", "user")
            or _bad_messages(one["preferred_output"], "preferred_output", "assistant", 1)
            or _bad_messages(one["non_preferred_output"], "non_preferred_output", "assistant", 1)
        )
    return f"fields {', '.join(sorted(one))}: expected messages, or input and two outputs"


def _bad_messages(messages: Any, field: str, last: str, length: int | None = None) -> str | None:
    if not isinstance(messages, list) or not messages:
        return f"{field} is not a list of messages"
    if length is not None and len(messages) != length:
        return f"{field} must hold {length} message"
    for place, message in enumerate(messages):
        where = f"{field}.{place}"
        if not isinstance(message, dict) or set(message) != {"role", "content"}:
            return f"{where} must have role and content and nothing else"
        if message["role"] not in ("system", "user", "assistant"):
            return f"{where}.role is {message['role']!r}"
        if message["role"] == "system" and place:
            return f"{where}: a system message comes first"
        if not isinstance(message["content"], str) or not message["content"].strip():
            return f"{where}.content is empty"
    if messages[-1]["role"] != last:
        return f"{field} must end with {last}, not {messages[-1]['role']}"
    return None


def _messages(rows: Sequence[Row], path: Path) -> None:
    if any("completion" not in one for one in rows):
        raise ConfigurationError("--export messages: a preference pair is not one conversation")
    write_jsonl(path.with_suffix(".jsonl"), (conversation(one) for one in rows))


def _chat(rows: Sequence[Row], path: Path) -> None:
    write_jsonl(path.with_suffix(".jsonl"), map(provider_row, rows))
    check_provider_file(path.with_suffix(".jsonl"))


def _parquet(rows: Sequence[Row], path: Path) -> None:
    require("datasets", "mentalarena[train]")
    import datasets

    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.disable_progress_bars()
    datasets.Dataset.from_list(list(rows)).to_parquet(str(path.with_suffix(".parquet")))


WRITERS: Mapping[Export, Callable[[Sequence[Row], Path], None]] = {
    "messages": _messages,
    "chat": _chat,
    "parquet": _parquet,
}


def export(rows: Mapping[str, Sequence[Row]], folder: Path, wanted: Sequence[Export]) -> None:
    """Write the rows of each split in other formats: ``FORMAT/SPLIT.…`` in the folder.

    Raises:
        ConfigurationError: the rows cannot be had in the format.
    """
    for name in wanted:
        for split, found in rows.items():
            if name == "chat" and split == "train" and len(found) < FEWEST:
                raise ConfigurationError(
                    f"--export chat: providers want at least {FEWEST} rows, train has {len(found)}"
                )
            if found:
                WRITERS[name](found, folder / name / split)
