"""A patient played by a model (or a person): speaks from its record and from nothing else."""

from functools import cache

from agents.answers import read
from agents.ask import Ask
from agents.prompting import Prompt, render, render_chat, styles_text, that_matter
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
from agents.speech import check_spoken
from mentalarena.case import COMPONENTS, Case, Clause, Component, Principle, Style


class ModelPatient:
    """The patient's seat."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def speak(self, view: PatientView, at: Place) -> Answered[Utterance]:
        """See :class:`agents.seats.PatientSeat`."""
        prompt = render_small_speak(view) if self._ask.small else render_speak(view)
        return await check_spoken(self._ask, prompt, at, "speak", "patient")

    async def confirm(self, view: ConfirmView, at: Place) -> Answered[Confirmation]:
        """See :class:`agents.seats.PatientSeat`."""
        return await self._ask(
            render_confirm(view), Confirmation, at, "confirm", salvage=self._confirmation
        )

    async def respond(self, view: TrialView, at: Place) -> Answered[PlanResponse]:
        """See :class:`agents.seats.PatientSeat`."""
        return await self._ask(
            render_respond(view), PlanResponse, at, "respond", salvage=self._response
        )

    def _confirmation(self, text: str) -> Confirmation:
        return Confirmation(choice=None, reason=text.strip()[:500])

    def _response(self, text: str) -> PlanResponse:
        return read(text, PlanResponse, labelled=self._ask.labelled, partial=True)


def render_speak(view: PatientView) -> Prompt:
    """The prompt of a patient's turn; of its opening when nothing was said yet."""
    left = view.exchanges_left
    return render(
        "patient",
        "speak" if view.lines else "open",
        view.lines,
        **_record(view.case, view.principle),
        openings=" / ".join(view.case.openings),
        left=f"about {left} more" if left > 0 else "hardly any more",
    )


def render_small_speak(view: PatientView) -> Prompt:
    """The same for a small model: a chat, and a cue."""
    return render_chat(
        "patient",
        "small_speak" if view.lines else "small_open",
        view.lines,
        **_record(view.case, view.principle),
        opening=view.case.openings[0],
    )


def render_confirm(view: ConfirmView) -> Prompt:
    """The prompt by which a patient says which diagnosis fits; by its record, not by its words."""
    options = "\n".join(
        f"{number}. {option.label}" + (f": {option.rationale}" if option.rationale else "")
        for number, option in enumerate(view.options, 1)
    )
    return render("patient", "confirm", **_record(view.case), options=options)


def render_respond(view: TrialView) -> Prompt:
    """The prompt by which a patient answers a plan; the record says more than the dialogue.

    Earlier plans are named only: each starts from the same health, on equal terms.
    """
    return render(
        "patient",
        "respond",
        **_record(view.case),
        diagnosis=view.diagnosis,
        kind=view.kind,
        plan=view.name,
        rationale=view.rationale or "not given",
        health=view.health,
        earlier="; ".join(one.name for one in that_matter(view.earlier, view.kind)) or "none",
    )


def _record(case: Case, principle: Principle | None = None) -> dict[str, str]:
    """The record as the patient's system text needs it.

    The reference diagnosis stays out: people know what they live through, not what it is called.
    """
    who = case.demographics
    model = case.cognitive_model
    treated = "; ".join(f"{past.name} ({past.outcome})" for past in case.past_treatments)
    return {
        "name": case.name,
        "about": f"{_age(who.age)}{who.gender}; {who.work}; {who.family}; "
        f"background: {who.culture}; speaks {who.languages}",
        "history": _joined(case.history),
        "situation": _joined(case.situation),
        "mind": "\n".join(
            f"- {component.label}: {_joined(model.clauses(component))}"
            for component in COMPONENTS
            if component is not Component.BEHAVIOR_PRINCIPLES
        ),
        "strengths": "; ".join(case.strengths) or "not said",
        "past": treated or "nothing so far",
        "style": styles(styles_text())[case.style],
        "principle": principle.text if principle else "as you always do",
    }


def _age(age: int | None) -> str:
    return f"{age} years old, " if age is not None else ""


def _joined(clauses: tuple[Clause, ...]) -> str:
    return " ".join(
        text if text.endswith((".", "!", "?")) else text + ";"
        for text in (clause.text for clause in clauses)
    ).rstrip(";")


@cache
def styles(text: str) -> dict[Style, str]:
    """How each conversational style is explained to a patient, from the lines that say so."""
    rows = (row.split(":", 1) for row in text.splitlines() if row.strip())
    return {Style(name.strip()): text.strip() for name, text in rows}
