"""A therapist played by a model (or a person): sees the dialogue and guidance only."""

import re
from typing import Annotated

from pydantic import Field

from agents.answers import read
from agents.ask import Ask, Reask
from agents.excerpts import questions_only
from agents.prompting import Prompt, attempts_text, formulation_text, render, render_chat
from agents.seats import (
    Answer,
    Answered,
    ComponentStatement,
    Diagnoses,
    DiagnosisProposal,
    Formulation,
    Place,
    PlanProposal,
    PlanView,
    TherapistView,
    Utterance,
)
from agents.speech import check_spoken
from mentalarena.case import CLOSED_LISTS, COMPONENTS, Component
from mentalarena.errors import ParseError

_LABELS = "|".join(component.label for component in COMPONENTS)
_KNOWN = (
    "known|stated|mentioned|specified|provided|given|discussed|disclosed|expressed|explored|"
    "established|determined|identified|assessed|clear|available|applicable|addressed|reported|"
    "described|explained|revealed|covered|indicated|evident|apparent|noted|found|shared"
)
_FACTS = "information|info|data|evidence|details?|context"
_NOTHING_STATED = re.compile(
    rf"(?:(?:the )?(?:patients )?(?:{_LABELS}) )?"
    r"(?:(?:still|currently|so far|as yet|at this point|this|it|its|that|they|there|these|is|are|"
    r"has|have|was|were|remains?|answer|statement|theyre) )*"
    rf"(?:(?:not|none|nothing|isnt|arent|hasnt|havent|wasnt)(?: yet)?(?: been)?"
    rf"(?: explicitly| directly| clearly| fully)? (?:{_KNOWN}|said)"
    rf"|(?:not enough|insufficient|too little|no)(?: relevant| further)? (?:{_FACTS})"
    rf"(?: (?:is|was|has been))?(?: (?:{_KNOWN}))?"
    r"|can ?not be (?:determined|inferred|known|assessed|stated|said)"
    r"|(?:yet )?to be (?:determined|explored|assessed|established|clarified|found out)"
    r"|to find out|left (?:empty|blank)|(?:no|empty) statement|none|not yet|"
    r"unknown|unclear|unspecified|undetermined|undisclosed|unstated|null|nil|n ?a|tbd)"
    r"(?: (?:yet|so far|currently|at present|for now|here|at this (?:point|time|stage)|"
    r"(?:from|in|by|during|on) (?:the |this |our )?(?:conversation|dialogue|transcript|session|"
    r"patient|text|context)|about (?:this|it|that|them)|"
    r"to (?:say|tell|know|determine|judge|decide|state|infer|assess|formulate)"
    r"(?: (?:this|it|that|them))?))*"
)
"""A whole statement, in lower case and without marks, that says only that nothing is stated."""

_IN_PLAIN_WORDS = {
    Component.CORE_BELIEFS: "what I believe about myself",
    Component.INTERMEDIATE_BELIEFS: "the rules that I live by",
    Component.INTERMEDIATE_BELIEFS_DEPRESSION: "what I tell myself when I am at my worst",
    Component.COPING_STRATEGIES: "how I protect myself when it hurts",
    Component.AUTOMATIC_THOUGHTS: "what went through my mind",
    Component.EMOTIONS: "what I felt",
    Component.BEHAVIORS: "what I did then",
    Component.BEHAVIOR_PRINCIPLES: "how I am when I talk to somebody",
}
"""How a patient would name each component: a small model copies the name that it reads."""


class _AnyDiagnoses(Answer):
    """Diagnoses as a model named them, equal ones included."""

    options: Annotated[tuple[DiagnosisProposal, ...], Field(max_length=2)]


class ModelTherapist:
    """The therapist's seat."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def ask(self, view: TherapistView, at: Place) -> Answered[Utterance]:
        """See :class:`agents.seats.TherapistSeat`."""
        prompt = render_small_ask(view) if self._ask.small else render_ask(view)
        return await check_spoken(self._ask, prompt, at, "ask", "therapist")

    async def formulate(self, view: TherapistView, at: Place) -> Answered[Formulation]:
        """See :class:`agents.seats.TherapistSeat`; empty, with failures, when nothing is readable.

        A formulation that states nothing is asked for once more, then taken at its word. An episode
        goes on with an empty one: it shows as a coverage gap on every component.
        """

        def check(formulation: Formulation) -> None:
            if stated(formulation).is_empty():
                raise Reask("empty", "no component was stated", once=True)

        answered = await self._ask.attempt(
            render_formulate(view), Formulation, at, "formulate", check=check
        )
        value = stated(answered.value or Formulation())
        return Answered(value, answered.call_id, answered.failures)

    async def diagnose(self, view: TherapistView, at: Place) -> Answered[Diagnoses]:
        """See :class:`agents.seats.TherapistSeat`; one diagnosis when no second could be had."""

        def check(diagnoses: Diagnoses) -> None:
            if len(diagnoses.options) < 2:
                raise Reask("parse", "two different diagnoses are wanted, one was named")

        return await self._ask(
            render_diagnose(view),
            Diagnoses,
            at,
            "diagnose",
            check=check,
            salvage=self._some_diagnosis,
        )

    async def propose(self, view: PlanView, at: Place) -> Answered[PlanProposal]:
        """See :class:`agents.seats.TherapistSeat`."""
        tried = {_plain(attempt.name) for attempt in view.earlier if attempt.kind == view.kind}

        def check(plan: PlanProposal) -> None:
            if _plain(plan.name) in tried:
                raise Reask("parse", f"{plan.name[:80]} was tried already; propose another plan")

        return await self._ask(
            render_propose(view), PlanProposal, at, "propose", check=check, salvage=self._some_plan
        )

    def _some_diagnosis(self, text: str) -> Diagnoses | None:
        try:
            named = read(text, _AnyDiagnoses, labelled=self._ask.labelled).options
        except ParseError:
            # No line was labelled: the first line is the diagnosis; what it means is decided later.
            head = text.strip().splitlines()[0].strip(" -*#\"'")
            named = (DiagnosisProposal(label=head[:120]),) if head and "{" not in head else ()
        distinct = {option.label.casefold(): option for option in reversed(named)}
        options = tuple(reversed(distinct.values()))[:2]
        return Diagnoses(options=options) if options else None

    def _some_plan(self, text: str) -> PlanProposal:
        return read(text, PlanProposal, labelled=self._ask.labelled, partial=True)


def stated(formulation: Formulation) -> Formulation:
    """The formulation without statements that only say that nothing is known, and their quotes.

    Models are asked to leave such a statement empty and often write "not stated" all the same;
    taken as it is, it would be judged as something that the therapist believes.
    """
    kept = {
        component.value: ComponentStatement()
        for component in COMPONENTS
        if says_nothing(formulation.of(component).statement)
    }
    return formulation.model_copy(update=kept)


def says_nothing(statement: str) -> bool:
    """Whether a whole statement is another way to leave it empty: "not known yet", "n/a", "-"."""
    bare = re.sub(r"['\u2019]", "", statement.casefold())
    words = " ".join(re.findall(r"[^\W_]+", bare))
    return not words or _NOTHING_STATED.fullmatch(words) is not None


def render_ask(view: TherapistView) -> Prompt:
    """The prompt of a therapist's turn; of a probe when there is guidance.

    A probe is shown its notes on what the guidance names; the rest is not asked about now.
    """
    return render(
        "therapist",
        "probe" if view.guidance else "ask",
        view.lines,
        formulation=formulation_text(view.formulation, named(view.guidance)),
        guidance=view.guidance,
        left=max(view.exchanges_left, 1),
    )


def render_small_ask(view: TherapistView) -> Prompt:
    """The same for a small model: a chat, and a cue."""
    return render_chat(
        "therapist",
        "small_probe" if view.guidance else "small_ask",
        view.lines,
        topic=plain_topic(view.guidance),
    )


def plain_topic(guidance: str) -> str:
    """What guidance asks about, named as the patient would; whatever follows it stays as it is."""
    component = named(guidance)
    if component is None:
        return f"this: {guidance}"
    return f"{_IN_PLAIN_WORDS[component]}. {guidance.partition('. ')[2]}".rstrip()


def named(guidance: str) -> Component | None:
    """The component that guidance names in its first sentence; None when it names none."""
    advice = guidance.partition(". ")[0].casefold()
    found = [component for component in COMPONENTS if component.label in advice]
    # One component's label begins with another's.
    return max(found, key=lambda one: len(one.label), default=None)


def render_formulate(view: TherapistView) -> Prompt:
    """The prompt of a formulation; guidance is not part of it."""
    return render(
        "therapist",
        "formulate",
        questions_only(view.lines),
        formulation=formulation_text(view.formulation),
        core_beliefs="; ".join(CLOSED_LISTS[Component.CORE_BELIEFS]),
        emotions=", ".join(CLOSED_LISTS[Component.EMOTIONS]),
    )


def render_diagnose(view: TherapistView) -> Prompt:
    """The prompt of the two diagnoses."""
    return render(
        "therapist",
        "diagnose",
        questions_only(view.lines),
        formulation=formulation_text(view.formulation),
    )


def render_propose(view: PlanView) -> Prompt:
    """The prompt of a plan: the formulation stands for the dialogue it was made from."""
    return render(
        "therapist",
        view.kind,
        formulation=formulation_text(view.formulation),
        diagnosis=view.diagnosis,
        earlier=attempts_text(view.earlier, view.kind),
    )


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())
