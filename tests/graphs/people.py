"""Cases whose every hidden field carries a string of its own, and patients that hold them."""

import itertools
from collections.abc import Iterator
from typing import Any

from agents.rules import RulesPatient
from agents.seats import (
    Answered,
    Confirmation,
    ConfirmView,
    PatientView,
    Place,
    PlanResponse,
    TrialView,
    Utterance,
)
from mentalarena.case import CLOSED_LISTS, Case, Component
from mentalarena.roster import builtin_cases

NEUTRAL = (
    "I am not sure where to start.",
    "It is hard to put into words, if I am honest.",
    "There was a week like that, and then another one.",
    "I would say so, yes, more or less.",
    "Perhaps it was always a little like this.",
    "I had not thought of it in that way before.",
)
CRISIS_LINE = "Some nights I want to kill myself."


def _words(prefix: str) -> Iterator[str]:
    return (f"{prefix}x{number:03d}q" for number in itertools.count())


def canary_case(prefix: str, *, spoken: bool = False) -> tuple[Case, list[str]]:
    """A valid case full of canaries, and the canaries of its hidden fields.

    With ``spoken``, utterances carry canaries too; they are returned as hidden ones because they
    are hidden until the turn that says them. Labels of closed lists must stay labels, because
    every formulation request names them all; :func:`other_labels` makes the second case of a
    comparison.
    """
    base = builtin_cases()["maren-1"].model_dump(mode="json")
    words, canaries = _words(prefix), []

    def fresh() -> str:
        canaries.append(next(words))
        return canaries[-1]

    def clauses(found: list[dict[str, Any]], labels: tuple[str, ...] | None) -> None:
        for clause in found:
            if labels is None:
                clause["text"] = f"{fresh()} {fresh()} {fresh()}"
            clause["utterances"] = (
                [f"I keep saying {fresh()} to myself.", f"It is {fresh()} to me."]
                if spoken
                else ["I say nothing.", "I stay silent."]
            )

    base["id"], base["patient_id"], base["name"] = fresh(), fresh(), fresh()
    base["demographics"] |= {
        key: fresh() for key in ("gender", "culture", "languages", "work", "family")
    }
    base["strengths"] = [fresh()]
    base["past_treatments"] = [{"name": fresh(), "outcome": "nothing"}]
    base["reference"] = [{"code": "F33.1", "label": fresh()}]
    base["openings"] = ["I was told to come here."]
    clauses(base["history"], None)
    clauses(base["situation"], None)
    for component in Component:
        if component is not Component.BEHAVIOR_PRINCIPLES:
            found = base["cognitive_model"][component.value]
            clauses(found, CLOSED_LISTS.get(component))
    return Case.model_validate(base), canaries


def other_labels(case: Case) -> Case:
    """The same case, under another id, with other core beliefs and emotions."""
    values = case.model_dump(mode="json") | {"id": f"{case.id}-other"}
    for component, labels in CLOSED_LISTS.items():
        held = {clause["text"] for clause in values["cognitive_model"][component.value]}
        free = (label for label in labels if label not in held)
        for clause in values["cognitive_model"][component.value]:
            clause["text"] = next(free)
    return Case.model_validate(values)


class SilentPatient:
    """Never speaks its record; tells of a crisis once, so that the safety route is taken."""

    async def speak(self, view: PatientView, at: Place) -> Answered[Utterance]:
        if at.visit == 2:
            return Answered(Utterance(text=CRISIS_LINE))
        return Answered(Utterance(text=NEUTRAL[at.visit % len(NEUTRAL)]))

    async def confirm(self, view: ConfirmView, at: Place) -> Answered[Confirmation]:
        return Answered(Confirmation(choice=2, reason="That is closer."))

    async def respond(self, view: TrialView, at: Place) -> Answered[PlanResponse]:
        return Answered(PlanResponse(response="I could try that.", health=4))


class TalkingPatient(SilentPatient):
    """Speaks its record by the rules."""

    async def speak(self, view: PatientView, at: Place) -> Answered[Utterance]:
        return await RulesPatient().speak(view, at)
