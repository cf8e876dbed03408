"""Clauses repeated and turned round are found; the same in other words, or plainly, is not."""

from random import Random

import pytest

from agents.rules.language import to_third
from agents.rules.misread import _BENDERS
from agents.seats import ComponentStatement, Formulation
from mentalarena.comparison import RECORDED
from mentalarena.contrast import contrast
from mentalarena.labelled import labelled, records

CLAUSES = [
    [
        "If they refuse a request, people turn away.",
        "If I refuse a request they all turn away.",
    ],
    ["They check the locks every night.", "I check every lock in the house at night, twice."],
]


@pytest.mark.parametrize(
    ("statement", "kind", "clause"),
    [
        ("They do not check the locks every night.", "negated", 1),
        ("They sleep well. They never check the locks every night.", "negated", 1),
        ("Their relatives check the locks every night.", "wrong agent", 1),
        ("He checks the locks every night.", None, None),
        ("Other people turn away if they refuse a request.", None, None),
        ("The patient goes round the doors before bed.", None, None),
        ("They do not see the sea every summer.", None, None),
        ("", None, None),
    ],
)
def test_what_is_turned_round(statement: str, kind: str | None, clause: int | None) -> None:
    found = contrast(statement, CLAUSES)
    assert (found and found.kind, found and found.clause) == (kind, clause)


def test_no_right_statement_of_a_tuning_patient_is_turned_round() -> None:
    wordings = {record.owner: record.wordings for record in records()}
    for component in RECORDED:
        for item in labelled("tuning", component):
            if item.right:
                assert contrast(item.statement, wordings[item.owner][component]) is None


def test_bent_utterances_are_found_and_straight_ones_are_not() -> None:
    """As the rule-based therapist states and misreads them: the figures of docs/decoder.md."""
    found = dict.fromkeys(("straight", "negated", "reversed", "wrong_agent"), 0)
    number = 0
    for record in records():
        if record.part != "tuning" or len(record.wordings) == 1:
            continue
        for component in RECORDED:
            clauses = record.wordings[component]
            told = " ".join(to_third(words[1]) for words in clauses)
            straight = Formulation(
                **{component.value: ComponentStatement(statement=told, quotes=("q",))}
            )
            number += 1
            found["straight"] += contrast(told, clauses) is not None
            for kind in ("negated", "reversed", "wrong_agent"):
                bent = _BENDERS[kind](component, straight, Random(1), False)
                assert bent is not None
                found[kind] += contrast(bent.statement, clauses) is not None
    assert number == 195
    assert found["straight"] == 0
    assert found["negated"] > 0.5 * number
    assert found["reversed"] > 0.6 * number
    assert found["wrong_agent"] > 0.7 * number
