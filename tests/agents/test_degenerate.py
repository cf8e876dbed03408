"""Answers that say nothing: what is found, and what a person may say all the same."""

import pytest

from agents.degenerate import degenerate
from agents.prompting import NAMES, template
from agents.seats import Line
from mentalarena.roster import builtin_cases, principles

TOLD = (
    'Say what troubles you most on the surface. Examples: "a name of six words or more". name: x.'
)
LINES = (
    Line("patient", "I sit in the car for an hour before I can go in."),
    Line("therapist", "What goes on in you while you sit in the car?"),
)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Hello. Say what troubles you most on the surface, please.", "instruction"),
        ("I am tired. I am tired. I am tired.", "again and again"),
        ("I'm so glad, I\u2019m so glad, and yet I'm so glad, I'm so glad.", "again and again"),
        ("I sit in the car for an hour, before I can go in!", "earlier line"),
        (LINES[1].text, "earlier line"),
    ],
)
def test_stuck_answers_are_found(text: str, why: str) -> None:
    assert why in (degenerate(text, TOLD, LINES) or "")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A name of six words or more.",
        "What troubles me most? The car.",
        "No. No. No. I will not.",
        "I am tired. I am tired, really.",
        "I don't know.",
        "As I said, I sit in the car for an hour before I can go in, and then I drive home.",
    ],
)
def test_what_people_say_is_let_through(text: str) -> None:
    assert degenerate(text, TOLD, (*LINES, Line("patient", "I don't know."))) is None


def test_no_written_utterance_is_taken_for_a_machine_that_is_stuck() -> None:
    instructions = [template(seat, name).text for seat, names in NAMES.items() for name in names]
    spoken = [line for principle in principles().values() for line in principle.utterances]
    for case in builtin_cases().values():
        spoken += case.openings
        for clauses in (case.history, case.situation, *dict(case.cognitive_model).values()):
            spoken += [line for clause in clauses for line in clause.utterances]
    assert len(spoken) > 500
    found = [line for line in spoken for told in instructions if degenerate(line, told)]
    assert found == []
