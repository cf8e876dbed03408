"""Synthetic patients: of one split, coherent by rule, and nearer to nobody than allowed."""

import time
from itertools import combinations

import numpy as np
import pytest

from agents.rules.diagnosis import ranked_labels
from mentalarena.builtin_vectors import builtin_signatures
from mentalarena.case import Clause, Patient
from mentalarena.case_checks import rank_of, spoken_lines
from mentalarena.coherence import Lives, compatible
from mentalarena.likeness import signatures
from mentalarena.roster import builtin_cases, builtin_patients, patient_lines
from mentalarena.similarity import SentenceEncoder
from mentalarena.synthesis import Neighborhood, Synthesis, synthesize

PEOPLE = builtin_patients()
BUILT_IN = tuple(builtin_cases().values())
BY_ID = {patient.id: patient for patient in PEOPLE}
LIVES = Lives(PEOPLE)


def make(n: int, seed: int, encoder: SentenceEncoder, parents: tuple[Patient, ...] = PEOPLE
         ) -> Synthesis:  # fmt: skip
    neighborhood = Neighborhood(BUILT_IN, encoder, builtin_signatures())
    return synthesize(parents, n, seed, LIVES, neighborhood, ranked_labels)


@pytest.fixture(scope="module")
def made(encoder: SentenceEncoder) -> Synthesis:
    return make(12, 3, encoder)


def nearest(patients: tuple[Patient, ...], encoder: SentenceEncoder) -> float:
    """Likeness of the nearest two cases of which one is synthetic."""
    cases = [case for patient in patients for case in patient.cases()]
    new = signatures(cases, encoder)
    old = signatures(BUILT_IN, encoder, builtin_signatures())
    among = new @ new.T
    np.fill_diagonal(among, -1)
    return float(max(among.max(), (new @ old.T).max()))


def built_in_limit(encoder: SentenceEncoder) -> float:
    old = signatures(BUILT_IN, encoder, builtin_signatures())
    return max(float(old[a] @ old[b]) for a, b in combinations(range(len(old)), 2))


def check(patients: tuple[Patient, ...]) -> None:
    for patient in patients:
        parents = [BY_ID[parent] for parent in patient.parents]
        assert len(parents) >= 2
        assert {parent.split for parent in parents} == {patient.split}
        assert patient.synthetic
        assert patient.presentation == parents[0].presentation
        assert patient.demographics == parents[0].demographics
        assert patient.reference == parents[0].reference
        (case,) = patient.cases()
        rank = rank_of(patient.reference[0].code, ranked_labels(spoken_lines(case)))
        assert rank is not None
        assert rank <= 2
        for line in spoken_lines(case):
            assert not LIVES.names_in(line), (patient.id, line)


def test_parents_are_of_one_split_and_everything_is_theirs(made: Synthesis) -> None:
    assert len(made.patients) == 12
    check(made.patients)
    assert len({patient.split for patient in made.patients}) > 1
    for patient in made.patients:
        theirs = " ".join(BY_ID[parent].model_dump_json() for parent in patient.parents)
        (case,) = patient.cases()
        for line in spoken_lines(case):
            assert line.replace('"', '\\"') in theirs


def test_none_is_nearer_to_another_than_the_nearest_two_built_in_cases(
    made: Synthesis, encoder: SentenceEncoder
) -> None:
    limit = built_in_limit(encoder)
    assert made.limit == pytest.approx(limit, abs=2e-3)
    assert nearest(made.patients, encoder) <= made.limit + 2e-3
    assert made.nearest == pytest.approx(nearest(made.patients, encoder), abs=2e-3)


def test_the_same_seed_makes_the_same_people(made: Synthesis, encoder: SentenceEncoder) -> None:
    few = tuple(one for one in PEOPLE if one.id in {p for m in made.patients for p in m.parents})
    once, again = make(4, 5, encoder, few), make(4, 5, encoder, few)
    assert patient_lines(once.patients) == patient_lines(again.patients)
    other = make(4, 6, encoder, few)
    assert patient_lines(other.patients) != patient_lines(once.patients)


def test_a_near_duplicate_is_refused(encoder: SentenceEncoder) -> None:
    neighborhood = Neighborhood(BUILT_IN, encoder, builtin_signatures())
    again = BUILT_IN[0].model_copy(update={"id": "again"})
    assert neighborhood.admit(again) == BUILT_IN[0].id


def test_parents_that_give_no_more_are_the_end(encoder: SentenceEncoder) -> None:
    neighborhood = Neighborhood(BUILT_IN, encoder, builtin_signatures())
    neighborhood.limit = 0.0
    few = (BY_ID["maren"], BY_ID["pavel"])
    found = synthesize(few, 5, 1, LIVES, neighborhood, ranked_labels)
    assert not found.patients
    assert found.refused["too near to another case"] > 20


# --- coherence ------------------------------------------------------------------------------------


def clause(text: str, *utterances: str) -> Clause:
    return Clause(text=text, utterances=utterances)


@pytest.mark.parametrize(
    ("sentence", "tie"),
    [
        ("I see Nesto when my hands stop.", "Nesto"),
        ("Jitka wrote it down for me.", "Jitka"),
        ("I told my sister nothing.", "sister"),
        ("If he leaves, I have nobody.", "he"),
        ("They will stop trusting me with the dresses.", "dress"),
    ],
)
def test_a_life_is_found_by_the_word_that_gives_it_away(sentence: str, tie: str) -> None:
    assert tie in LIVES.ties("dolores", sentence)


def test_what_anybody_might_say_is_loose() -> None:
    own = clause("If I rest, everything falls apart.", "I can't stop, it all comes down if I do.",
                 "My mother never stopped either.")  # fmt: skip
    (loose,) = LIVES.loose("dolores", [own])
    assert loose.clause.utterances == own.utterances[:1]
    assert not list(LIVES.loose("dolores", [own], least=2))
    assert not list(LIVES.loose("dolores", [clause("Avoids her daughter.", "I stay in bed.")]))
    assert LIVES.names_in("On Monday I was in Winnipeg.") == {"Winnipeg"}


def test_donors_are_of_a_compatible_presentation_and_time_of_life() -> None:
    noah, maren, farid = BY_ID["noah"], BY_ID["maren"], BY_ID["farid"]
    assert not compatible(noah, maren, "core_beliefs"), "a boy of 16 and a woman of 44"
    assert not compatible(maren, farid, "intermediate_beliefs"), "voices stay where they are"
    assert compatible(farid, maren, "coping_strategies")
    assert not compatible(maren, BY_ID["pavel"], "coping_strategies")
    assert compatible(maren, BY_ID["pavel"], "core_beliefs")


@pytest.mark.slow
def test_five_hundred_in_less_than_two_minutes(encoder: SentenceEncoder) -> None:
    began = time.monotonic()
    found = make(500, 1, encoder)
    seconds = time.monotonic() - began
    assert len(found.patients) == 500
    check(found.patients)
    assert nearest(found.patients, encoder) <= built_in_limit(encoder) + 2e-3
    assert seconds < 120, f"{seconds:.0f} s"
