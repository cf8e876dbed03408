"""Who may sit where: the protocols of the four seats, what each may see, what each answers.

Why: promise 1 (no leak) is kept by construction. A seat is never handed the graph's state; it gets
one frozen view that has no field for anything it must not know. A therapist's or a judge's view
holds spoken text, guidance and its own earlier work, and nothing of the record. Anything that
satisfies a protocol may sit there: a model, a rule-based simulator, a person.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Annotated, Generic, Literal, NamedTuple, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from mentalarena.case import COMPONENTS, Case, Component, Principle
from mentalarena.journal import Journal, journal_key

Speaker = Literal["patient", "therapist"]
Seat = Literal["patient", "therapist", "manager", "judge"]
T = TypeVar("T")

PlanKind = Literal["treatment", "medication"]
Purpose = Literal["opening", "exchange", "probe", "safety"]


# --- where in an episode a seat is asked ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """Where in an episode a seat is asked: all that a journal key or a random draw depends on.

    Neither depends on the order in which answers arrive, so a resumed, replayed or concurrent
    episode draws the same numbers and finds the same journaled answers.
    """

    episode_id: str
    attempt: int
    node: str
    visit: int
    """How often this node has run before in this attempt, from 0."""
    step: int
    """Super-steps before this one in this attempt: the order of calls, not part of their key."""
    seed: int
    """The episode's seed."""
    journal: Journal = field(repr=False, compare=False)

    def key(self, purpose: str, sample: int = 0, reask: int = 0) -> str:
        """The journal key of one call made here."""
        return journal_key(
            self.episode_id, self.attempt, self.node, self.visit, purpose, sample, reask
        )

    def random(self, purpose: str, sample: int = 0) -> Random:
        """A generator of its own for one draw; independent of ids, so equal seeds play equally."""
        return Random(f"{self.seed}/{self.attempt}/{self.node}/{self.visit}/{purpose}/{sample}")


# --- what a seat may see -------------------------------------------------------------------------


class Line(NamedTuple):
    """One spoken turn as everybody in the room heard it."""

    speaker: Speaker
    text: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """A plan already tried in this episode, as the therapist saw it end."""

    kind: PlanKind
    name: str
    response: str
    """What the patient said about it."""
    score: float | None
    """Mean judge score, 1 to 10; None when no sample could be read. Never the judge's words."""


@dataclass(frozen=True, slots=True)
class PatientView:
    """What the patient knows: its own record, and what was said aloud."""

    case: Case
    principle: Principle
    lines: tuple[Line, ...]
    exchanges_left: int


@dataclass(frozen=True, slots=True)
class ConfirmView:
    """The patient is told two diagnoses and says which fits its experience."""

    case: Case
    lines: tuple[Line, ...]
    options: tuple["DiagnosisProposal", ...]


@dataclass(frozen=True, slots=True)
class TrialView:
    """The patient is told a plan and reports how it would respond."""

    case: Case
    lines: tuple[Line, ...]
    diagnosis: str
    kind: PlanKind
    name: str
    rationale: str
    health: int
    """Health state before the plan: 1 (worst) to 10 (well)."""
    earlier: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class TherapistView:
    """What the therapist knows: what was said aloud, guidance, and its own last formulation."""

    lines: tuple[Line, ...]
    guidance: str
    """The manager's words after a reroute; empty otherwise. Not given when formulating."""
    formulation: "Formulation | None"
    exchanges_left: int


@dataclass(frozen=True, slots=True)
class PlanView:
    """What the therapist knows when it proposes a plan."""

    lines: tuple[Line, ...]
    formulation: "Formulation"
    diagnosis: str
    kind: PlanKind
    earlier: tuple[Attempt, ...]


@dataclass(frozen=True, slots=True)
class ManagerView:
    """What the manager sees when it chooses a behavior principle: coping and candidates."""

    coping_strategies: tuple[str, ...]
    candidates: tuple[tuple[Principle, float], ...]
    """Best principle of each of the top five groups, with its similarity, best first."""


@dataclass(frozen=True, slots=True)
class ProbeView:
    """What the manager sees when it chooses what to probe: names and verdicts, no words."""

    deviating: tuple[tuple[Component, str, float], ...]
    """(component, verdict, severity from 0 to 1), worst first."""
    probed: tuple[Component, ...]
    """Components already probed in this episode, in order."""


@dataclass(frozen=True, slots=True)
class JudgeView:
    """What the judge sees: the dialogue, the confirmed diagnosis, one plan and the response.

    No record: a judge's remark could otherwise carry it to the therapist.
    """

    lines: tuple[Line, ...]
    diagnosis: str
    kind: PlanKind
    name: str
    rationale: str
    response: str
    health_before: int
    health_after: int | None
    """None when the patient's number could not be read."""


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """What the judge sees when it, too, compares a statement with the record (``scorer judge``).

    The record is in it, so what comes back goes to the store and to verdicts, and to no seat.
    """

    component: Component
    record: tuple[str, ...]
    """The clauses that the patient holds."""
    statement: str
    quotes: tuple[str, ...]
    """Those of the therapist's quotes that the patient really said."""


# --- what a seat answers -------------------------------------------------------------------------

Short = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]


class Answer(BaseModel):
    """Base of everything that comes from a model, a person or a rule."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Utterance(Answer):
    """Spoken words."""

    text: Short


class ComponentStatement(Answer):
    """The therapist's understanding of one component."""

    statement: Annotated[str, StringConstraints(strip_whitespace=True, max_length=2000)] = ""
    """Empty when the therapist does not know (yet)."""
    quotes: tuple[str, ...] = ()
    """Verbatim spans of the patient's turns that the statement rests on."""


class Formulation(Answer):
    """The decoded symptoms: one statement per component."""

    core_beliefs: ComponentStatement = ComponentStatement()
    intermediate_beliefs: ComponentStatement = ComponentStatement()
    intermediate_beliefs_depression: ComponentStatement = ComponentStatement()
    coping_strategies: ComponentStatement = ComponentStatement()
    automatic_thoughts: ComponentStatement = ComponentStatement()
    emotions: ComponentStatement = ComponentStatement()
    behaviors: ComponentStatement = ComponentStatement()
    behavior_principles: ComponentStatement = ComponentStatement()

    def of(self, component: Component) -> ComponentStatement:
        """The statement of one component."""
        return getattr(self, component.value)  # type: ignore[no-any-return]

    def is_empty(self) -> bool:
        """Whether nothing at all is stated."""
        return not any(self.of(component).statement for component in COMPONENTS)


class DiagnosisProposal(Answer):
    """One candidate diagnosis in the therapist's words."""

    label: Short
    rationale: str = ""


class Diagnoses(Answer):
    """Two distinct diagnoses, the likelier first; one when a model could name no second."""

    options: Annotated[tuple[DiagnosisProposal, ...], Field(min_length=1, max_length=2)]

    @model_validator(mode="after")
    def _labels_are_distinct(self) -> "Diagnoses":
        labels = [option.label.casefold() for option in self.options]
        if len(set(labels)) != len(labels):
            raise ValueError("options: the two labels are the same")
        return self


class Confirmation(Answer):
    """Which of the two fits the patient's experience (1 or 2), and why."""

    choice: Annotated[int, Field(ge=1, le=2)] | None
    """None when no choice could be read."""
    reason: str = ""


class PlanProposal(Answer):
    """One treatment or medication plan."""

    name: Short
    rationale: str = ""


class PlanResponse(Answer):
    """How the patient says it would respond, and its health state after: 1 (worst) to 10 (well)."""

    response: Short
    health: Annotated[int, Field(ge=1, le=10)] | None
    """None when no number could be read."""


class Score(Answer):
    """The judge's score of one plan, 1 to 10."""

    score: Annotated[int, Field(ge=1, le=10)]
    reason: str = ""


class Comparison(Answer):
    """How true a statement is of a record: 0 (says otherwise) to 10 (true, and specific)."""

    rating: Annotated[int, Field(ge=0, le=10)]
    clause: Annotated[int, Field(ge=0)] = 0
    """Number of the record's clause that decided, from 1; 0 for none."""
    quote: str = ""
    """The words of the statement that decided."""
    reason: str = ""


class PrincipleChoice(Answer):
    """Number of the chosen candidate, from 1."""

    choice: Annotated[int, Field(ge=1)]
    reason: str = ""


class ProbeChoice(Answer):
    """The component to probe next."""

    component: Component


FailureKind = Literal["parse", "empty", "role_flip"]
"""What was wrong with an answer: it cannot be read, it can be read and states nothing, or it speaks
for the other side."""


class Failure(NamedTuple):
    """One answer that could not be used, kept as data."""

    boundary: FailureKind
    message: str
    call_id: str | None


class Injection(NamedTuple):
    """An intent bias put in on purpose by a rule-based therapist; no seat reads it."""

    component: Component
    kind: str
    """negated, wrong_agent, wrong_emotion, reversed, swapped or unsupported."""
    truth: str
    """The statement before it was bent."""


class Answered(NamedTuple, Generic[T]):
    """An answer with its provenance."""

    value: T
    call_id: str | None = None
    """Journal key of the call that was used; None for a seat that makes no calls."""
    failures: tuple[Failure, ...] = ()
    disclosed: tuple[str, ...] | None = None
    """Patient turns: ``topic:index`` of each record clause spoken; None when not known."""
    injections: tuple[Injection, ...] = ()


# --- the seats -----------------------------------------------------------------------------------


@runtime_checkable
class PatientSeat(Protocol):
    """Holds the record and speaks from it."""

    async def speak(self, view: PatientView, at: Place) -> Answered[Utterance]:
        """The next line; the opening complaint when nothing was said yet."""
        ...

    async def confirm(self, view: ConfirmView, at: Place) -> Answered[Confirmation]:
        """Which diagnosis fits."""
        ...

    async def respond(self, view: TrialView, at: Place) -> Answered[PlanResponse]:
        """How it would respond to a plan."""
        ...


@runtime_checkable
class TherapistSeat(Protocol):
    """Sees only the dialogue."""

    async def ask(self, view: TherapistView, at: Place) -> Answered[Utterance]:
        """The next question or reflection; obeys ``view.guidance`` when there is any."""
        ...

    async def formulate(self, view: TherapistView, at: Place) -> Answered[Formulation]:
        """The formulation, outside the transcript."""
        ...

    async def diagnose(self, view: TherapistView, at: Place) -> Answered[Diagnoses]:
        """Two distinct diagnoses."""
        ...

    async def propose(self, view: PlanView, at: Place) -> Answered[PlanProposal]:
        """A plan that was not tried yet."""
        ...


@runtime_checkable
class ManagerSeat(Protocol):
    """Chooses among what encoder and decoder found."""

    async def choose_principle(self, view: ManagerView, at: Place) -> Answered[PrincipleChoice]:
        """The behavior principle that fits the coping strategies."""
        ...

    async def choose_probe(self, view: ProbeView, at: Place) -> Answered[ProbeChoice]:
        """The component to ask about next."""
        ...


@runtime_checkable
class JudgeSeat(Protocol):
    """Scores plans; by default another seat than patient and therapist."""

    async def score(self, view: JudgeView, at: Place, sample: int) -> Answered[Score | None]:
        """One sample of the score; None, with failures, when it could not be read."""
        ...


@runtime_checkable
class ComparingSeat(Protocol):
    """A judge who can also compare a statement with the record."""

    async def compare(self, view: ComparisonView, at: Place) -> Answered[Comparison | None]:
        """How true it is; None, with failures, when the answer could not be read."""
        ...
