"""What the tests of the seats share: a journal in memory, places, a case, a scripted answerer."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from agents.seats import (
    Attempt,
    ConfirmView,
    DiagnosisProposal,
    Formulation,
    JudgeView,
    Line,
    ManagerView,
    PatientView,
    Place,
    PlanView,
    ProbeView,
    TherapistView,
    TrialView,
)
from mentalarena.case import Case, Clause, CognitiveModel, Component, Demographics, Principle
from mentalarena.errors import ReplayError
from mentalarena.journal import Call, Messages
from mentalarena.provider import Reply


@dataclass
class MemoryJournal:
    """A journal that keeps its calls in a dictionary."""

    calls: dict[str, Call] = field(default_factory=dict)
    templates: dict[str, tuple[str, str]] = field(default_factory=dict)

    async def find(self, key: str, prompt_hash: str, messages: Messages = ()) -> Call | None:
        call = self.calls.get(key)
        if call is not None and call.prompt_hash != prompt_hash:
            raise ReplayError("another prompt")
        return call

    async def record(self, call: Call, template: tuple[str, str, str]) -> None:
        assert call.id not in self.calls, "a key was recorded twice"
        self.calls[call.id] = call
        self.templates[template[0]] = template[1:]


@dataclass
class Scripted:
    """Answers from a list, or from a function of the messages; keeps what it was asked."""

    answers: list[str | Reply] | Callable[[list[dict[str, str]]], str]
    asked: list[list[dict[str, str]]] = field(default_factory=list)
    schemas: list[dict[str, Any] | None] = field(default_factory=list)
    seeds: list[int | None] = field(default_factory=list)

    async def answer(
        self,
        messages: list[dict[str, str]],
        schema: dict[str, Any] | None = None,
        seed: int | None = None,
        grammar: str | None = None,
    ) -> Reply:
        self.asked.append(messages)
        self.schemas.append(schema)
        self.seeds.append(seed)
        made = self.answers(messages) if callable(self.answers) else self.answers.pop(0)
        return made if isinstance(made, Reply) else Reply(made, "scripted-1", 10, 5, 1.5, 1)


def place(journal: MemoryJournal, node: str = "patient", visit: int = 0) -> Place:
    return Place("episode", 0, node, visit, 0, 7, journal)


def clause(text: str) -> Clause:
    return Clause(text=text, utterances=(f"Well, {text.lower()}", f"I mean, {text.lower()}"))


CASE = Case(
    id="robin-desk",
    patient_id="robin",
    name="Robin",
    split="train",
    source="test",
    presentation="depressive",
    style="guarded",
    demographics=Demographics(
        age=34, gender="woman", culture="Irish", languages="English", work="clerk", family="single"
    ),
    history=(clause("Low mood for SECRETHISTORY weeks after a move."),),
    strengths=("keeps a garden",),
    openings=("I am so tired of everything.",),
    situation=(clause("Her manager returned a report with SECRETSITUATION notes."),),
    cognitive_model=CognitiveModel(
        core_beliefs=(Clause(text="helpless: incompetent"),),
        intermediate_beliefs=(clause("If I make a mistake, SECRETRULE."),),
        intermediate_beliefs_depression=(clause("SECRETDEPRESSED anyway."),),
        coping_strategies=(clause("Works late, SECRETCOPING."),),
        automatic_thoughts=(clause("SECRETTHOUGHT they know."),),
        emotions=(Clause(text="ashamed"),),
        behaviors=(clause("SECRETBEHAVIOR under the desk."),),
    ),
)
PRINCIPLE = Principle(
    id="slow-1",
    group="slow",
    text="Opens up only to precise questions.",
    utterances=("Why do you ask?", "Hm, I suppose."),
)
LINES = (
    Line("patient", "I am so tired of everything."),
    Line("therapist", "When did you last notice that?"),
    Line("patient", "On Monday, at work."),
)
FORMULATION = Formulation.model_validate(
    {"emotions": {"statement": "ashamed", "quotes": ["so tired of everything"]}}
)
EARLIER = (Attempt("treatment", "Behavioral activation", "It did nothing.", 4.5),)
PATIENT_VIEW = PatientView(CASE, PRINCIPLE, LINES[:2], 3)
OPENING_VIEW = PatientView(CASE, PRINCIPLE, (), 4)
CONFIRM_VIEW = ConfirmView(
    CASE, LINES, (DiagnosisProposal(label="Panic disorder"), DiagnosisProposal(label="Insomnia"))
)
TRIAL_VIEW = TrialView(
    CASE, LINES, "Insomnia", "treatment", "Sleep restriction", "Because of nights.", 3, EARLIER
)
THERAPIST_VIEW = TherapistView(LINES, "", None, 3)
PROBE_VIEW = TherapistView(LINES, "Ask about the coping strategies.", FORMULATION, 2)
PLAN_VIEW = PlanView(LINES, FORMULATION, "Insomnia", "treatment", EARLIER)
MANAGER_VIEW = ManagerView(("Works late.",), ((PRINCIPLE, 0.8), (PRINCIPLE, 0.5)))
CHOOSE_VIEW = ProbeView(
    (
        (Component.COPING_STRATEGIES, "missed", 0.9),
        (Component.EMOTIONS, "distorted", 0.4),
    ),
    (Component.EMOTIONS,),
)
JUDGE_VIEW = JudgeView(
    LINES, "Insomnia", "treatment", "Sleep restriction", "Because.", "It helped a bit.", 3, 5
)
