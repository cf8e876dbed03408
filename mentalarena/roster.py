"""The people: built-in patients and behavior principles, and case files.

Why: one loader for what ships with the project and for what a user brings, so that both obey the
same checks. A case file is JSON (one patient record or a list of them) or JSON Lines (one record a
line). A malformed record never takes a good one with it: all good ones come back beside a list of
complaints that name file, record and field.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from mentalarena.case import Case, Patient, Principle, PrincipleGroup
from mentalarena.errors import CaseError, UnknownCaseError


class Complaint(NamedTuple):
    """Why one record of a case file was dropped."""

    file: str
    record: int
    """Position in the file, from 1."""
    where: str
    """The line, or the record's id where it could be read."""
    field: str
    message: str

    def __str__(self) -> str:
        """One line that names file, record and field."""
        field = f", field {self.field}" if self.field else ""
        return f"{self.file}: record {self.record} ({self.where}){field}: {self.message}"


class PatientFile(NamedTuple):
    """The people of a case file."""

    patients: tuple[Patient, ...]
    complaints: tuple[Complaint, ...]


class CaseFile(NamedTuple):
    """What a case file held."""

    cases: tuple[Case, ...]
    complaints: tuple[Complaint, ...]


@cache
def builtin_patients() -> tuple[Patient, ...]:
    """The patients that ship with the project, by id."""
    folder = resources.files("mentalarena") / "data" / "cases"
    files = sorted(
        (item for item in folder.iterdir() if item.name.endswith(".json")),
        key=lambda item: item.name,
    )
    return tuple(Patient.model_validate_json(item.read_text(encoding="utf-8")) for item in files)


@cache
def builtin_cases() -> Mapping[str, Case]:
    """The built-in cases, by id."""
    return {case.id: case for patient in builtin_patients() for case in patient.cases()}


_GROUPS = TypeAdapter(tuple[PrincipleGroup, ...])


class Library(NamedTuple):
    """Behavior principles that coping strategies are matched with."""

    groups: tuple[PrincipleGroup, ...]

    @property
    def text(self) -> str:
        """The canonical content, as a store keeps it."""
        plain = _GROUPS.dump_python(self.groups, mode="json")
        return json.dumps(plain, sort_keys=True, ensure_ascii=False)

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical content: part of a run's configuration."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @classmethod
    def from_text(cls, text: str, name: str) -> "Library":
        """Read a library; ``name`` is how messages call it.

        Raises:
            CaseError: it is malformed, or holds an id twice.
        """
        try:
            groups = _GROUPS.validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            field = ".".join(str(part) for part in first["loc"])
            raise CaseError(f"principle file {name}, field {field}: {first['msg']}") from error
        ids = [item.id for group in groups for item in group.principles]
        twice = sorted({one for one in ids if ids.count(one) > 1})
        if twice:
            raise CaseError(f"principle file {name}: id {twice[0]!r} is taken twice")
        if not groups:
            raise CaseError(f"principle file {name} holds no group of principles")
        return cls(groups)


def read_library(path: str) -> Library:
    """The principle file at ``path``, or the built-in one for an empty path.

    Raises:
        CaseError: unreadable or malformed.
    """
    if not path:
        return builtin_library()
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise CaseError(
            f"principle file {path} cannot be read ({error}): make one with "
            "`mentalarena cases import FILE.csv --format principles`"
        ) from error
    return Library.from_text(text, path)


@cache
def builtin_library() -> Library:
    """The behavior principles that ship with the project."""
    text = (resources.files("mentalarena") / "data" / "principles.json").read_text("utf-8")
    return Library.from_text(text, "of the package")


def principle_groups() -> tuple[PrincipleGroup, ...]:
    """The built-in behavior principles, by group."""
    return builtin_library().groups


@cache
def principles() -> Mapping[str, Principle]:
    """The built-in behavior principles, by id."""
    return {item.id: item for group in principle_groups() for item in group.principles}


def read_patient_file(path: str | Path) -> PatientFile:
    """Read patient records from a ``.json`` or ``.jsonl`` file.

    Raises:
        CaseError: the file cannot be read at all, or holds no record.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except IsADirectoryError as error:
        raise CaseError(f"case file {path} is a folder: name a .json or .jsonl file") from error
    except OSError as error:
        raise CaseError(f"case file {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise CaseError(
            f"case file {path} is not UTF-8 (byte {error.start}): save it as UTF-8, or run "
            "`mentalarena cases import` on it"
        ) from error
    found = read_patients(path, text)
    if not found.patients and not found.complaints:
        raise CaseError(f"case file {path} holds no record")
    return found


def read_case_file(path: str | Path) -> CaseFile:
    """The same file, as cases.

    Raises:
        CaseError: the file cannot be read at all, or holds no record.
    """
    found = read_patient_file(path)
    cases = tuple(case for patient in found.patients for case in patient.cases())
    return CaseFile(cases, found.complaints)


def read_patients(path: Path, text: str) -> PatientFile:
    """Patient records from the text of a case file; its name says whether it is JSON Lines."""
    patients: list[Patient] = []
    complaints: list[Complaint] = []
    seen: set[str] = set()
    people: set[str] = set()
    for number, (where, raw) in enumerate(_records(path, text), start=1):
        if isinstance(raw, Exception):
            message = f"not JSON: {_json_complaint(raw)}"
            complaints.append(Complaint(str(path), number, where, "", message))
            continue
        try:
            patient = Patient.model_validate(raw)
        except ValidationError as error:
            complaints.append(complaint(str(path), number, where, raw, error))
            continue
        twice = sorted(seen & {case.id for case in patient.cases()})
        if twice or patient.id in people:
            # Splits are by patient: two records of one id could put a person into two splits.
            field, taken = ("situations", twice[0]) if twice else ("id", patient.id)
            message = f"{taken!r} is already taken by an earlier record"
            complaints.append(Complaint(str(path), number, where, field, message))
            continue
        people.add(patient.id)
        seen.update(case.id for case in patient.cases())
        patients.append(patient)
    return PatientFile(tuple(patients), tuple(complaints))


def patient_lines(patients: Iterable[Patient]) -> str:
    """Patient records as JSON Lines: what ``--cases`` reads."""
    # A line separator inside a text must not look like the end of a line to anybody.
    lines = (
        json.dumps(patient.model_dump(mode="json", exclude_defaults=True)) for patient in patients
    )
    return "".join(line + "\n" for line in lines)


def _records(path: Path, text: str) -> Iterator[tuple[str, object]]:
    """(where, parsed JSON or the error that parsing raised), one a record."""
    if path.suffix.lower() == ".jsonl":
        # Not splitlines(): a JSON string may hold other line separators than the newline.
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                try:
                    yield f"line {number}", json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield f"line {number}", error
        return
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        yield f"line {getattr(error, 'lineno', 1)}", error
        return
    for record in parsed if isinstance(parsed, list) else [parsed]:
        identity = record.get("id") if isinstance(record, dict) else None
        yield f"id {identity}" if isinstance(identity, str) else "no id", record


def _json_complaint(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} (column {error.colno})"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)[:120]


def complaint(file: str, number: int, where: str, raw: object, error: ValidationError) -> Complaint:
    """Why a record is no patient: the first thing that is wrong, and how many more are."""
    first = error.errors(include_url=False, include_input=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    more = error.error_count() - 1
    if more:
        message += f" (and {more} more)"
    if where.startswith("line") and isinstance(raw, dict) and isinstance(raw.get("id"), str):
        where += f", id {raw['id'][:64]}"
    return Complaint(file, number, where, field, message)


def find_case(case_id: str, cases: Iterable[Case]) -> Case:
    """The case with this id.

    Raises:
        UnknownCaseError: there is none; near names are offered.
    """
    import difflib

    by_id = {case.id: case for case in cases}
    if case_id in by_id:
        return by_id[case_id]
    near = difflib.get_close_matches(case_id, by_id, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(sorted(by_id))}"
    raise UnknownCaseError(f"case {case_id!r} is unknown: {hint}")
