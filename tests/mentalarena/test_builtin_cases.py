"""The built-in patients pass the twelve checks, and each check can fail."""

from pathlib import Path
from typing import Any

import pytest

import mentalarena.case as case_module
from agents.rules.diagnosis import ranked_labels
from mentalarena.builtin_vectors import builtin_signatures
from mentalarena.case import Case, Clause, Component, Reference
from mentalarena.case_checks import CHECKS, WHAT, Found, check_cases, rank_of
from mentalarena.roster import builtin_cases, builtin_patients
from mentalarena.similarity import SentenceEncoder

FOLDER = Path(case_module.__file__).parent / "data" / "cases"
CASES = tuple(builtin_cases().values())


@pytest.fixture(scope="module")
def found() -> dict[str, tuple[Found, ...]]:
    return check_cases(CASES, SentenceEncoder(), ranked_labels, known=builtin_signatures())


def test_there_are_twelve_checks_and_each_says_what_it_asks() -> None:
    assert len(CHECKS) == 12
    assert WHAT.keys() == CHECKS.keys()


@pytest.mark.parametrize("check", CHECKS)
def test_all_built_in_cases_pass(check: str, found: dict[str, tuple[Found, ...]]) -> None:
    wrong = [
        f"{case_id}: {problem}"
        for case_id, results in found.items()
        for result in results
        if result.check == check
        for problem in result.problems
    ]
    assert not wrong, "\n".join(wrong)
    assert len(found) == len(CASES)


def test_ids_files_and_splits() -> None:
    assert sorted(patient.id for patient in builtin_patients()) == sorted(
        path.stem for path in FOLDER.glob("*.json")
    )
    assert len(CASES) == sum(len(patient.situations) for patient in builtin_patients())
    assert {patient.split for patient in builtin_patients()} == {"train", "dev", "test"}


# --- each check sees what it is for ---------------------------------------------------------------

CASE = builtin_cases()["maren-1"]


def changed(part: str, index: int, **changes: Any) -> Case:
    """The case with one clause changed."""
    model = CASE.cognitive_model
    clauses = list(getattr(CASE, part) if part in ("history", "situation") else
                   model.clauses(Component(part)))  # fmt: skip
    clauses[index] = clauses[index].model_copy(update=changes)
    if part in ("history", "situation"):
        return CASE.model_copy(update={part: tuple(clauses)})
    return CASE.model_copy(
        update={"cognitive_model": model.model_copy(update={part: tuple(clauses)})}
    )


def spoken(*lines: str) -> Case:
    return changed("history", 0, utterances=lines)


def model(**changes: tuple[Clause, ...]) -> Case:
    return CASE.model_copy(
        update={"cognitive_model": CASE.cognitive_model.model_copy(update=changes)}
    )


FINE = "Some things I would rather not go into."
TEXT = CASE.history[0].text
BROKEN = {
    "components": model(behaviors=(Clause(text="Naps."),)),
    "frame": CASE.model_copy(update={"openings": CASE.openings[:1]}),
    "utterances": spoken(FINE),
    "repeats": spoken(FINE, FINE.lower()),
    "length": spoken(FINE, "I do."),
    "echo": spoken(FINE, f"I mean, {TEXT}"),
    "name": spoken(FINE, f"People say to me, {CASE.name.split()[0]}, just rest."),
    "first person": spoken("People say a lot of things.", "It is what it is, mostly."),
    "narrative": CASE.model_copy(
        update={"reference": (Reference(code="F60.2", label="Antisocial personality disorder"),)}
    ),
    "reference": CASE.model_copy(
        update={"reference": (Reference(code="F33.1", label="Schizophrenia"),)}
    ),
    "reading level": CASE.model_copy(
        update={
            "history": tuple(
                clause.model_copy(
                    update={
                        "utterances": (
                            "I experience considerable psychological deterioration, necessitating "
                            f"comprehensive institutional intervention number {n}.",
                        )
                        * 40
                    }
                )
                for n, clause in enumerate(CASE.history)
            )
        }
    ),
    "distinct": CASE.model_copy(update={"id": "double", "patient_id": "double"}),
}


@pytest.mark.parametrize("check", CHECKS)
def test_a_case_that_breaks_a_check_is_found(check: str, encoder: SentenceEncoder) -> None:
    known = builtin_signatures()
    results = check_cases([CASE], encoder, ranked_labels, CASES, known)
    assert not named(check, results[CASE.id]).problems
    results = check_cases([BROKEN[check]], encoder, ranked_labels, CASES, known)
    assert named(check, results[BROKEN[check].id]).problems


def named(check: str, results: tuple[Found, ...]) -> Found:
    return next(result for result in results if result.check == check)


def test_ranks_count_groups_and_not_labels() -> None:
    labels = ["Panic disorder", "Generalized anxiety disorder", "Nonsense", "Bulimia nervosa"]
    assert rank_of("F40.10", labels) == 1
    assert rank_of("F50.01", labels) == 2
    assert rank_of("F20.9", labels) is None
