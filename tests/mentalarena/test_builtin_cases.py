"""The built-in patients are of the quality that the decoder and the rule-based seats rely on."""

import json
import re
from itertools import chain
from pathlib import Path

import pytest

import mentalarena.case as case_module
from mentalarena.case import CLOSED_LISTS, Case, Clause, Component, Patient

FOLDER = Path(case_module.__file__).parent / "data" / "cases"
FILES = sorted(FOLDER.glob("*.json"))
PATIENTS = [Patient.model_validate(json.loads(path.read_text("utf-8"))) for path in FILES]
CASES = [case for patient in PATIENTS for case in patient.cases()]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower().replace("'", "").replace("\u2019", ""))


def grams(text: str, n: int = 5) -> set[tuple[str, ...]]:
    tokens = words(text)
    return {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}


def record_clauses(case: Case) -> list[Clause]:
    model = case.cognitive_model
    components = [c for c in Component if c is not Component.BEHAVIOR_PRINCIPLES]
    return list(chain(case.history, case.situation, *(model.clauses(c) for c in components)))


def test_there_are_enough_patients_in_every_split() -> None:
    assert len(PATIENTS) >= 12
    assert {"train", "dev", "test"} == {patient.split for patient in PATIENTS}
    assert len({patient.id for patient in PATIENTS}) == len(PATIENTS)
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file_is_named_after_the_patient(path: Path) -> None:
    assert json.loads(path.read_text("utf-8"))["id"] == path.stem


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_every_clause_has_two_utterances_of_its_own(case: Case) -> None:
    seen: set[str] = set()
    for clause in record_clauses(case):
        assert len(clause.utterances) >= 2, clause.text
        for utterance in clause.utterances:
            assert utterance not in seen, utterance
            seen.add(utterance)
            assert 4 <= len(words(utterance)) <= 40, utterance


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_nothing_spoken_repeats_the_record(case: Case) -> None:
    record = set().union(*(grams(clause.text) for clause in record_clauses(case)))
    spoken = chain(case.openings, *(clause.utterances for clause in record_clauses(case)))
    for text in spoken:
        assert not grams(text) & record, text
        assert case.name.split()[0].lower() not in words(text), text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_spoken_lines_are_in_the_first_person(case: Case) -> None:
    first_person = {"i", "im", "ive", "id", "ill", "my", "me", "mine", "myself", "we", "us", "our"}
    for clause in record_clauses(case):
        own = [text for text in clause.utterances if first_person & set(words(text))]
        assert own, clause.utterances


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_every_component_says_enough(case: Case) -> None:
    for component in Component:
        if component is Component.BEHAVIOR_PRINCIPLES:
            continue
        clauses = case.cognitive_model.clauses(component)
        assert len(clauses) >= 2, component
        if component not in CLOSED_LISTS:
            assert sum(len(words(clause.text)) for clause in clauses) >= 12, component
    assert len(case.openings) >= 2
    assert len(case.history) >= 4
    assert case.reference
