"""Patients from a file in the format of Patient-Psi-CM: a JSON array, a record a situation.

Why: the records that MentalArena was published with are not ours to ship; who has them can bring
them. Records of one name and one prefix of the id (``7-1``, ``7-2``) are one patient with several
situations, so that a person is never in two splits. The split follows from name and prefix alone:
about 60 / 20 / 20, the same wherever the file is imported, whatever else it holds.

What the format does not have is ``unknown`` here, never guessed; what it has in words that differ
from ours (styles, beliefs, emotions) is mapped by the tables below, and what cannot be mapped is
said. Utterances are left to the seats, which make and mark them. Openings say nothing of the
record.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from mentalarena.case import Clause, Component, Demographics, Patient, Situation, Split, Style
from mentalarena.closed_lists import labels_in
from mentalarena.errors import CaseError
from mentalarena.import_report import Remark, Report
from mentalarena.similarity import Embedder
from mentalarena.text_files import read_any

SOURCE = "imported (Patient-Psi-CM)"
LONGEST = 20_000
"""Characters of a field; what is longer is no part of a case."""
_MOST_CLAUSES = 12
_LONGEST_CLAUSE = 4000

_BELIEFS = ("helpless_belief_current", "unlovable_belief_current", "worthless_belief_current")
_TEXTS = {
    "history": True,
    "intermediate_belief": True,
    "intermediate_belief_depression": False,
    "coping_strategies": True,
    "situation": True,
    "auto_thought": True,
    "behavior": True,
}
"""Fields of running text, and whether a record is nothing without them."""
_KEYS = ("name", "id", "type", *_TEXTS, "emotion", *_BELIEFS)

_STYLES = {
    "plain": Style.PLAIN,
    "upset": Style.HOSTILE,
    "verbose": Style.VERBOSE,
    "reserved": Style.GUARDED,
    "tangent": Style.TANGENTIAL,
    "tangential": Style.TANGENTIAL,
    "pleasing": Style.INGRATIATING,
}
_BELIEF_WORDS: tuple[tuple[str, str], ...] = (
    ("out of control", "helpless: out of control"),
    ("trapped", "helpless: trapped"),
    ("failure|loser", "helpless: failure"),
    ("incompetent|inadequate", "helpless: incompetent"),
    ("vulnerable|victim|weak", "helpless: vulnerable"),
    ("powerless|helpless|needy", "helpless: powerless"),
    ("abandon|reject", "unlovable: rejected"),
    ("alone", "unlovable: alone"),
    ("different", "unlovable: different"),
    ("unlovable|undesirable|unwanted|unattractive", "unlovable: unwanted"),
    ("burden", "worthless: burden"),
    ("deserve", "worthless: undeserving"),
    ("immoral|bad|dangerous|toxic|evil", "worthless: bad"),
    ("worthless|waste|defective|not good enough", "worthless: defective"),
)
"""Words of a core belief, tried in this order; of what none is in, the nearest label is taken."""
OPENINGS = (
    "I've never done this before. I was told it might help to talk to somebody.",
    "I don't quite know where to start. It hasn't been easy lately.",
)


class _BadRecord(Exception):
    """A record that cannot be kept: the field, and what is wrong with it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class _Raw(NamedTuple):
    """One record, read."""

    number: int
    name: str
    prefix: str
    style: Style
    texts: dict[str, tuple[str, ...]]
    beliefs: tuple[str, ...]
    emotions: tuple[str, ...]


def import_patient_psi(path: Path, embedder: Embedder) -> tuple[tuple[Patient, ...], Report]:
    """The patients of a file, and what became of its records.

    Args:
        path: A JSON array in any common encoding.
        embedder: For core beliefs in words that the table does not have.

    Raises:
        CaseError: the file cannot be read, or is no JSON array.
    """
    decoded = read_any(path)
    try:
        records = json.loads(decoded.text)
    except (ValueError, RecursionError) as error:
        where = f" (line {error.lineno})" if isinstance(error, json.JSONDecodeError) else ""
        raise CaseError(f"{path} is not JSON{where}: give a JSON array of records") from error
    if not isinstance(records, list) or not records:
        raise CaseError(f"{path} is no JSON array of records: --format patient-psi needs one")
    remarks: list[Remark] = []
    read: list[_Raw] = []
    seen: dict[str, int] = {}
    for number, record in enumerate(records, start=1):
        try:
            read.append(_read(number, record, seen, remarks, embedder))
        except _BadRecord as bad:
            remarks.append(Remark("dropped", number, bad.field, str(bad)))
    people: dict[tuple[str, str], list[_Raw]] = {}
    for raw in read:
        people.setdefault((raw.name.casefold(), raw.prefix.casefold()), []).append(raw)
    patients: list[Patient] = []
    kept = 0
    taken: set[str] = set()
    for key, group in people.items():
        try:
            patients.append(_patient(key, group, taken, remarks))
            kept += len(group)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            remarks += [Remark("dropped", raw.number, field, first["msg"]) for raw in group]
    remarks.sort(key=lambda remark: remark.record)
    return tuple(patients), Report(str(path), decoded.encoding, len(records), kept, tuple(remarks))


def split_of(name: str, prefix: str) -> Split:
    """The split of a person: about 60 / 20 / 20, by nothing but who it is."""
    drawn = int(hashlib.sha256(f"{name}/{prefix}".encode()).hexdigest()[:8], 16) % 100
    return "train" if drawn < 60 else "dev" if drawn < 80 else "test"


def _read(
    number: int,
    record: object,
    seen: dict[str, int],
    remarks: list[Remark],
    embedder: Embedder,
) -> _Raw:
    if not isinstance(record, dict):
        raise _BadRecord("", f"is no object but {type(record).__name__}")
    name, identity = _identity(record)
    texts = {field: _text(record, field, needed) for field, needed in _TEXTS.items()}
    emotions = _emotions(number, record, remarks, embedder)
    beliefs = _beliefs(number, record, remarks, embedder)
    # Last, so that a broken double is called broken and not a double.
    content = {key: record.get(key) for key in _KEYS if key != "id"}
    for key in (f"{name}/{identity}", json.dumps(content, sort_keys=True)):
        if key in seen:
            raise _BadRecord("id", f"repeats record {seen[key]}")
    seen |= {f"{name}/{identity}": number, json.dumps(content, sort_keys=True): number}
    for key in sorted(set(record) - set(_KEYS)):
        remarks.append(Remark("ignored", number, str(key)[:60], "is no field of this format"))
    if not texts["intermediate_belief_depression"]:
        texts["intermediate_belief_depression"] = texts["intermediate_belief"]
        remarks.append(
            Remark(
                "changed",
                number,
                "intermediate_belief_depression",
                "is empty: intermediate_belief stands in for it",
            )
        )
    prefix = re.sub(r"[-_.][^-_.]*$", "", identity)
    style = _style(number, record.get("type"), remarks)
    return _Raw(number, name, prefix, style, texts, beliefs, emotions)


def _identity(record: Mapping[str, Any]) -> tuple[str, str]:
    name, identity = record.get("name"), record.get("id")
    if isinstance(identity, int) and not isinstance(identity, bool):
        identity = str(identity)
    for field, value in (("name", name), ("id", identity)):
        if not isinstance(value, str) or not value.strip():
            wrong = _what_is_wrong(value) if not value or isinstance(value, str) else ""
            raise _BadRecord(field, wrong or f"must be text, not {type(value).__name__}")
        _check_text(field, value, 200)
    return str(name).strip(), str(identity).strip()


def _what_is_wrong(value: object) -> str:
    if value is None:
        return "is missing"
    return "is empty" if not value else "holds nothing but blanks"


def _check_text(field: str, text: str, longest: int = LONGEST) -> None:
    if len(text) > longest:
        raise _BadRecord(field, f"has {len(text):,} characters, more than {longest:,}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise _BadRecord(field, "holds half a character (a lone surrogate)") from None


def _items(record: Mapping[str, Any], field: str) -> list[str]:
    """A field that may be text or a list of texts, as texts without blanks around them."""
    value = record.get(field)
    if value is None:
        return []
    items = value if isinstance(value, list) else [value]
    for item in items:
        if not isinstance(item, str):
            inside = " inside a list" if isinstance(value, list) else ""
            raise _BadRecord(field, f"must be text, not {type(item).__name__}{inside}")
        _check_text(field, item)
    return [" ".join(item.split()) for item in items if item.strip()]


def _text(record: Mapping[str, Any], field: str, needed: bool) -> tuple[str, ...]:
    items = _items(record, field)
    if not items and needed:
        raise _BadRecord(field, _what_is_wrong(record.get(field)))
    clauses = [part for item in items for part in _sentences(item)]
    if any(len(clause) > _LONGEST_CLAUSE for clause in clauses):
        raise _BadRecord(field, f"has a sentence of more than {_LONGEST_CLAUSE:,} characters")
    return tuple(_fewer(clauses))


def _sentences(text: str) -> list[str]:
    parts = re.split(r"(?<=[.!?])\s+|;\s+", text)
    return [part for part in parts if part.strip(" .!?;")]


def _fewer(clauses: Sequence[str]) -> list[str]:
    """No more clauses than a component may have; neighbors are joined."""
    size = -(-len(clauses) // _MOST_CLAUSES)
    return [" ".join(clauses[i : i + size]) for i in range(0, len(clauses), size or 1)]


def _style(number: int, value: object, remarks: list[Remark]) -> Style:
    names = value if isinstance(value, list) else [value]
    for name in names:
        if isinstance(name, str) and name.strip().lower() in _STYLES:
            return _STYLES[name.strip().lower()]
    said = "is missing" if value in (None, "", []) else f"{str(value)[:40]!r} is not known"
    remarks.append(Remark("changed", number, "type", f"{said}: the style is plain"))
    return Style.PLAIN


def _emotions(
    number: int, record: Mapping[str, Any], remarks: list[Remark], embedder: Embedder
) -> tuple[str, ...]:
    found: dict[str, None] = {}
    items = _items(record, "emotion")
    for item in items:
        # "sad/down/lonely" is one feeling in several words: the first that is known names it.
        words = (labels_in(Component.EMOTIONS, word, embedder) for word in item.split("/"))
        label = next((label for labels in words for label in sorted(labels)), None)
        if label is None:
            remarks.append(Remark("ignored", number, "emotion", f"{item[:60]!r} is not known"))
        else:
            found[label] = None
    if not found:
        raise _BadRecord("emotion", "names no known emotion" if items else "is missing or empty")
    return tuple(found)


def _beliefs(
    number: int, record: Mapping[str, Any], remarks: list[Remark], embedder: Embedder
) -> tuple[str, ...]:
    found: dict[str, None] = {}
    said = False
    for field in _BELIEFS:
        for item in _items(record, field):
            said = True
            table = (label for words, label in _BELIEF_WORDS if re.search(words, item.lower()))
            label = next(table, None) or next(
                iter(sorted(labels_in(Component.CORE_BELIEFS, item, embedder))), None
            )
            if label is None:
                remarks.append(Remark("ignored", number, field, f"{item[:60]!r} is near no label"))
            else:
                found[label] = None
    if not found:
        raise _BadRecord(
            ", ".join(_BELIEFS), "name no known core belief" if said else "are all empty"
        )
    return tuple(found)


def _patient(
    key: tuple[str, str], group: Sequence[_Raw], taken: set[str], remarks: list[Remark]
) -> Patient:
    first = group[0]
    for field in ("history", "intermediate_belief", "intermediate_belief_depression",
                  "coping_strategies"):  # fmt: skip
        if len({raw.texts[field] for raw in group}) > 1:
            others = ", ".join(str(raw.number) for raw in group[1:])
            message = f"differs from record {others} of the same patient: joined"
            remarks.append(Remark("changed", first.number, field, message))
    base = re.sub(r"[^a-z0-9]+", "-", f"{first.name}-{first.prefix}".lower()).strip("-")[:48]
    base = base or f"patient-{first.number}"
    identity = next(one for n in range(1, 10_000) if (one := f"{base}{'' if n == 1 else f'.{n}'}")
                    not in taken)  # fmt: skip
    taken.add(identity)
    situations = tuple(
        Situation(
            id=f"{identity}-{position}",
            openings=OPENINGS,
            situation=_clauses(raw.texts["situation"]),
            automatic_thoughts=_clauses(raw.texts["auto_thought"]),
            emotions=_clauses(raw.emotions),
            behaviors=_clauses(raw.texts["behavior"]),
        )
        for position, raw in enumerate(group, start=1)
    )
    return Patient.model_validate(
        {
            "id": identity,
            "name": first.name,
            "split": split_of(*key),
            "source": SOURCE,
            "presentation": "unknown",
            "style": first.style,
            "demographics": _demographics(first),
            "history": _joined(group, "history"),
            "beliefs": {
                "core_beliefs": _clauses(_merged(raw.beliefs for raw in group)),
                "intermediate_beliefs": _joined(group, "intermediate_belief"),
                "intermediate_beliefs_depression": _joined(group, "intermediate_belief_depression"),
                "coping_strategies": _joined(group, "coping_strategies"),
            },
            "situations": situations,
        }
    )


def _merged(lists: Iterable[Sequence[str]]) -> list[str]:
    return _fewer(list(dict.fromkeys(item for one in lists for item in one)))


def _joined(group: Sequence[_Raw], field: str) -> tuple[Clause, ...]:
    return _clauses(_merged(raw.texts[field] for raw in group))


def _clauses(texts: Sequence[str]) -> tuple[Clause, ...]:
    return tuple(Clause(text=text) for text in texts)


def _demographics(raw: _Raw) -> Demographics:
    """What the history says in so many words; pronouns may be anybody's and are not read."""
    history = " ".join(raw.texts["history"])
    found = re.search(
        r"\b(?P<age>\d\d)[- ]years?[- ]old\b"
        r"(?:\W+(?:\w+\W+){0,2}?(?P<gender>man|woman|male|female)\b)?",
        history,
    )
    age = int(found["age"]) if found and int(found["age"]) >= 12 else None
    gender = {"male": "man", "female": "woman"}.get(said := (found and found["gender"]) or "", said)
    rest = dict.fromkeys(("culture", "languages", "work", "family"), "unknown")
    return Demographics(age=age, gender=gender or "unknown", **rest)
