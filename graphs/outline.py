"""The calls that an episode will make, before it is played: rendered, with filler for what is said.

Why: what a run will cost should be known before it is paid for. The prompts are rendered from the
same templates, records and views as the real ones, so that the sizes follow every change to them;
only what seats will say is not known yet, and is taken to have a given number of words.
"""

import itertools
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import NamedTuple

from agents.ask import form_of
from agents.judge import render_compare, render_score
from agents.manager import render_principle, render_probe
from agents.patient import render_confirm, render_respond, render_small_speak, render_speak
from agents.prompting import Prompt
from agents.registry import SEATS, SeatSpec
from agents.seats import (
    Answer,
    Attempt,
    Comparison,
    ComparisonView,
    ComponentStatement,
    Confirmation,
    ConfirmView,
    Diagnoses,
    DiagnosisProposal,
    Formulation,
    JudgeView,
    Line,
    ManagerView,
    PatientView,
    PlanKind,
    PlanProposal,
    PlanResponse,
    PlanView,
    PrincipleChoice,
    ProbeChoice,
    ProbeView,
    Score,
    Seat,
    Speaker,
    TherapistView,
    TrialView,
    Utterance,
)
from agents.therapist import (
    render_ask,
    render_diagnose,
    render_formulate,
    render_propose,
    render_small_ask,
)
from graphs.routes import PLAN_KINDS
from mentalarena.case import COMPONENTS, Case, Component
from mentalarena.config import ArenaConfig
from mentalarena.encoder import encode
from mentalarena.guidance import guidance_text
from mentalarena.models import AnswerMode
from mentalarena.roster import principle_groups

_SENTENCE = 12
"""Words of a filler sentence."""
_PLAN = "Cognitive behavioral therapy with activity planning"
_DIAGNOSES = ("Major depressive disorder, recurrent, moderate", "Generalized anxiety disorder")
_CANDIDATES = 5
_SHORTEST_STATEMENT = 6
"""Words; what is stated of a component is a part of a formulation's words."""


class Course(NamedTuple):
    """How an episode is taken to go."""

    probes: int
    plans: int
    """Of each kind."""
    words: int
    """Of everything that a seat says or gives as its reason."""
    quotes: int
    """Of each component of a formulation."""


class Expected(NamedTuple):
    """One call."""

    seat: Seat
    purpose: str
    spec: str
    prompt_characters: int
    answer_characters: int


def courses(config: ArenaConfig) -> tuple[Course, Course]:
    """The shortest and the longest way through an episode, with short and with long answers."""
    least = config.probe_rounds if config.probes == "all" else 0
    shortest = Course(probes=least, plans=1, words=20, quotes=1)
    longest = Course(probes=config.probe_rounds, plans=config.max_plans, words=120, quotes=2)
    return shortest, longest


def model_seats(config: ArenaConfig) -> dict[Seat, SeatSpec]:
    """The seats on which a model sits: the others make no paid calls."""
    found = {seat: SeatSpec.parse(getattr(config, seat), seat) for seat in SEATS}
    return {seat: spec for seat, spec in found.items() if spec.model is not None}


def outline(config: ArenaConfig, case: Case, course: Course) -> Iterator[Expected]:
    """The calls of one episode of this case; none for seats without a model."""
    seats = model_seats(config)
    answers = {seat: spec.model.answers for seat, spec in seats.items() if spec.model is not None}
    for call in _Imagined(config, case, course, answers).calls():
        if call.seat not in seats:
            continue
        sent = call.prompt.messages(form_of(type(call.answer), answers[call.seat]))
        answer = call.answer
        said = answer.text if isinstance(answer, Utterance) else answer.model_dump_json()
        yield Expected(
            call.seat,
            call.purpose,
            seats[call.seat].text,
            sum(len(message["content"]) for message in sent),
            len(said),
        )


class _Call(NamedTuple):
    seat: Seat
    purpose: str
    prompt: Prompt
    answer: Answer


class _Imagined:
    """One episode in the making; what is said in it is filler."""

    def __init__(
        self, config: ArenaConfig, case: Case, course: Course, answers: Mapping[Seat, AnswerMode]
    ) -> None:
        self._config = config
        self._case = case
        self._course = course
        self._cued = {seat for seat, mode in answers.items() if mode == "small"}
        """Seats whose model is asked for its turns with a short cue."""
        self._groups = principle_groups()[:_CANDIDATES]
        self._principle = self._groups[0].principles[0]
        self._words = (f"w{number:04d}" for number in itertools.count())
        self._lines: tuple[Line, ...] = ()
        self._formulation = Formulation()
        self._tried: tuple[Attempt, ...] = ()

    def calls(self) -> Iterator[_Call]:
        """Every call, in order."""
        yield self._choose_principle()
        yield self._speak()
        for _ in range(self._config.exchanges):
            yield self._ask("")
            yield self._speak()
        yield self._formulate()
        yield from self._compare()
        for round_ in range(self._course.probes):
            component = COMPONENTS[round_ % len(COMPONENTS)]
            yield self._choose_probe(component, COMPONENTS[:round_])
            encoded = encode(self._case, self._principle).components[component]
            yield self._ask(guidance_text(self._config.guidance, component, "revisit", encoded))
            yield self._speak()
            yield self._formulate()
            yield from self._compare()
        yield self._diagnose()
        yield self._confirm()
        for kind in PLAN_KINDS:
            for _ in range(self._course.plans):
                yield from self._plan(kind)

    def _filler(self, words: int) -> str:
        """Sentences of as many words, no word twice: five letters each, as English has about."""
        said = list(itertools.islice(self._words, words))
        for end in (*range(_SENTENCE - 1, words, _SENTENCE), words - 1):
            said[end] = said[end].rstrip(".") + "."
        return " ".join(said)

    def _said(self) -> str:
        return self._filler(self._course.words)

    def _choose_principle(self) -> _Call:
        coping = tuple(clause.text for clause in self._case.cognitive_model.coping_strategies)
        view = ManagerView(coping, tuple((group.principles[0], 0.5) for group in self._groups))
        answer = PrincipleChoice(choice=1, reason=self._said())
        return _Call("manager", "principle", render_principle(view), answer)

    def _choose_probe(self, component: Component, probed: tuple[Component, ...]) -> _Call:
        view = ProbeView(tuple((one, "missed", 0.5) for one in COMPONENTS), probed)
        return _Call("manager", "probe", render_probe(view), ProbeChoice(component=component))

    def _speak(self) -> _Call:
        view = PatientView(self._case, self._principle, self._lines, self._config.exchanges)
        prompt = render_small_speak(view) if "patient" in self._cued else render_speak(view)
        return self._spoken("patient", "speak", prompt)

    def _ask(self, guidance: str) -> _Call:
        view = TherapistView(self._lines, guidance, self._formulation, self._config.exchanges)
        prompt = render_small_ask(view) if "therapist" in self._cued else render_ask(view)
        return self._spoken("therapist", "ask", prompt)

    def _spoken(self, speaker: Speaker, purpose: str, prompt: Prompt) -> _Call:
        answer = Utterance(text=self._said())
        self._lines += (Line(speaker, answer.text),)
        return _Call(speaker, purpose, prompt, answer)

    def _formulate(self) -> _Call:
        view = TherapistView(self._lines, "", self._formulation, 0)
        prompt = render_formulate(view)
        share = max(self._course.words // len(COMPONENTS), _SHORTEST_STATEMENT)
        self._formulation = Formulation(
            **{
                component.value: ComponentStatement(
                    statement=self._filler(share),
                    quotes=tuple(self._filler(_SENTENCE) for _ in range(self._course.quotes)),
                )
                for component in COMPONENTS
            }
        )
        return _Call("therapist", "formulate", prompt, self._formulation)

    def _compare(self) -> Iterator[_Call]:
        """The judge's comparisons of a formulation, when it is the scorer."""
        if self._config.scorer != "judge":
            return
        held = encode(self._case, self._principle).components
        for component in COMPONENTS:
            stated = self._formulation.of(component)
            view = ComparisonView(component, held[component], stated.statement, stated.quotes)
            answer = Comparison(rating=5, clause=1, quote=self._filler(5), reason=self._said())
            yield _Call("judge", "compare", render_compare(view), answer)

    def _diagnose(self) -> _Call:
        view = TherapistView(self._lines, "", self._formulation, 0)
        return _Call("therapist", "diagnose", render_diagnose(view), Diagnoses(options=self._named))

    @cached_property
    def _named(self) -> tuple[DiagnosisProposal, ...]:
        return tuple(DiagnosisProposal(label=label, rationale=self._said()) for label in _DIAGNOSES)

    def _confirm(self) -> _Call:
        view = ConfirmView(self._case, self._lines, self._named)
        answer = Confirmation(choice=1, reason=self._said())
        return _Call("patient", "confirm", render_confirm(view), answer)

    def _plan(self, kind: PlanKind) -> Iterator[_Call]:
        """A plan, how it went, and every sample of its score."""
        lines, label = self._lines, _DIAGNOSES[0]
        plan_view = PlanView(lines, self._formulation, label, kind, self._tried)
        plan = PlanProposal(name=_PLAN, rationale=self._said())
        yield _Call("therapist", "propose", render_propose(plan_view), plan)
        trial_view = TrialView(
            self._case, lines, label, kind, plan.name, plan.rationale, 3, self._tried
        )
        told = PlanResponse(response=self._said(), health=3)
        yield _Call("patient", "respond", render_respond(trial_view), told)
        judge_view = JudgeView(lines, label, kind, plan.name, plan.rationale, told.response, 3, 3)
        for _ in range(self._config.judge_samples):
            score = Score(score=5, reason=self._said())
            yield _Call("judge", "score", render_score(judge_view), score)
        self._tried += (Attempt(kind, plan.name, told.response, 5.0),)
