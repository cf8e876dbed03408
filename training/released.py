"""Rows in the format that was released with the MentalArena paper, as rows of ours.

Why: data that others have trained on should be weighed on the same scale. Each line names symptoms,
an illness, a treatment and a medicine with their explanations; it becomes up to three rows under
the therapist's prompts, and passes through the same filters with the same funnel.

Its symptoms are a record and no dialogue, so the rows say ``record``. Lines have no patient: equal
symptoms count as one, and one in ten of them goes to dev.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from agents.prompting import Prompt, render
from agents.seats import Answer, Diagnoses, DiagnosisProposal, PlanProposal
from mentalarena.errors import ConfigurationError
from mentalarena.journal import digest
from mentalarena.nosology import map_label, name_of
from training.examples import Example, Task

FIELDS = ("symptom", "illness", "treatment", "explain_t", "medicine", "explain_m")
DEV_SHARE = 10
"""One of so many distinct symptoms is kept for dev."""
_LONGEST = 2000
"""Characters of a label or a plan."""


class Released(NamedTuple):
    """What a file held."""

    rows: list[Example]
    lines: int
    complaints: list[str]
    """Lines that could not be read, each with its number and why."""


def read_released(path: Path) -> Released:
    """The rows of a file of JSON lines.

    Raises:
        ConfigurationError: the file cannot be read, or no line of it is in the format.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"--released {path} cannot be read: {error}") from error
    rows: list[Example] = []
    complaints: list[str] = []
    lines = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    for number, line in lines:
        record = _record(line)
        if isinstance(record, str):
            complaints.append(f"{path.name}: line {number}: {record}")
        else:
            rows += _rows(record, number)
    if not rows:
        found = complaints[0] if complaints else "it is empty"
        raise ConfigurationError(
            f"--released {path} holds no row with the fields {', '.join(FIELDS)}: {found}"
        )
    return Released(rows, len(lines), complaints)


def _record(line: str) -> dict[str, str] | str:
    """The fields of a line, or what is wrong with it."""
    try:
        found = json.loads(line)
    except ValueError:
        return "not JSON"
    if not isinstance(found, Mapping):
        return "not a JSON object"
    values: dict[str, str] = {}
    for name in FIELDS:
        value = found.get(name, "")
        if value is not None and not isinstance(value, str):
            return f"field {name}: text is wanted, not {type(value).__name__}"
        values[name] = " ".join((value or "").split())[:_LONGEST]
    if not values["symptom"]:
        return "field symptom: missing or empty"
    return values


def _rows(record: Mapping[str, str], line: int) -> Iterator[Example]:
    code = map_label(record["illness"]).code if record["illness"] else None
    # A label that maps to nothing stays as it is, and the funnel counts it.
    label = name_of(code) if code else record["illness"] or "N/A"
    diagnosis = Diagnoses(options=(DiagnosisProposal(label=label),))
    yield _row(record, line, "diagnosis", diagnosis, code)
    for kind, name, why in (
        ("treatment", "treatment", "explain_t"),
        ("medication", "medicine", "explain_m"),
    ):
        plan = PlanProposal(name=record[name] or "N/A", rationale=record[why])
        yield _row(record, line, kind, plan, code)


def _row(
    record: Mapping[str, str], line: int, task: Any, answer: Answer, code: str | None
) -> Example:
    symptom = record["symptom"]
    patient = "released-" + digest(symptom.casefold(), 12)
    in_dev = int(digest(patient, 8), 16) % DEV_SHARE == 0
    return Example(
        task=task,
        idx=line,
        trajectory=None,
        case_id=patient,
        patient_id=patient,
        split="dev" if in_dev else "train",
        source="record",
        answer=answer,
        prompt=lambda: _prompt(task, symptom, name_of(code) if code else "none"),
        context=symptom,
        code=code,
        coded=True,
    )


def _prompt(task: Task, symptom: str, diagnosis: str) -> Prompt:
    if task == "diagnosis":
        return render("therapist", "diagnose", None, formulation=symptom)
    return render(
        "therapist", task, None, formulation=symptom, diagnosis=diagnosis, earlier="(none)"
    )
