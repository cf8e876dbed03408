"""What one row teaches: a prompt as a seat is asked, the answer that it should give, and why.

Why: a model that is trained on one wording and asked in another has learned something else. So
rows are rendered by the functions by which seats are asked (``agents``), from views that hold what
the seat may see; a therapist's row never holds the record, and never the guidance after which a
question was asked: the guidance is what the model has to do without.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from string import Template
from typing import Any, Literal

from agents.ask import form_of
from agents.excerpts import questions_only
from agents.labelled import to_labelled
from agents.patient import render_small_speak, render_speak
from agents.prompting import Prompt, PromptTemplate, formulation_text, render, template, transcript
from agents.seats import (
    Answer,
    Attempt,
    ComponentStatement,
    Diagnoses,
    DiagnosisProposal,
    Formulation,
    PatientView,
    PlanProposal,
    PlanView,
    TherapistView,
    Utterance,
)
from agents.small_form import to_small_form
from agents.therapist import (
    render_ask,
    render_diagnose,
    render_formulate,
    render_propose,
    render_small_ask,
)
from mentalarena.case import COMPONENTS, Case
from mentalarena.encoder import component_text, encode
from mentalarena.exchanges import asked, exchanges_left
from mentalarena.models import AnswerMode
from mentalarena.nosology import name_of
from training.trajectories import Trajectory

Task = Literal[
    "patient_turn",
    "therapist_turn",
    "formulation",
    "diagnosis",
    "treatment",
    "medication",
    "cognitive_model",
]
Source = Literal["dialogue", "formulation", "record"]
Role = Literal["patient", "therapist"]


@dataclass(frozen=True, slots=True)
class Example:
    """One row, not yet rendered."""

    task: Task
    idx: int
    """Which one of its task in the episode: turn, round or attempt."""
    trajectory: Trajectory | None
    """The episode it comes from; None for a row that comes from a file."""
    case_id: str
    patient_id: str
    split: str
    source: Source
    """What the input was made from; ``record`` says that the hidden record is in the row."""
    answer: Answer
    prompt: Callable[[], Prompt]
    context: str
    """What the answer answers; with it, the row's gist."""
    code: str | None = None
    """ICD-10-CM code of the diagnosis that the row teaches or plans by; None when unmapped."""
    coded: bool = False
    """Whether the row needs a code."""
    score: float | None = None
    """Judge's mean for a plan (1 to 10); share of aligned components of a formulation (0 to 1)."""
    heard: tuple[str, ...] = ()
    """What the patient had said: where words of the record may come from."""
    rejected: Answer | None = None
    """The worse answer, in a preference pair."""
    margin: float | None = None
    """By how much the better one is better, on the scale of ``score``."""
    agreement: float | None = None
    """Share of judges' comparisons that the better plan wins; :func:`training.pairs.agreement`."""

    @property
    def role(self) -> Role:
        """Whose answer it is."""
        return "patient" if self.task == "patient_turn" else "therapist"

    def messages(self, answers: AnswerMode) -> list[dict[str, str]]:
        """The prompt as it is sent."""
        return self.prompt().messages(form_of(type(self.answer), answers))


def completion(answer: Answer, answers: AnswerMode) -> str:
    """An answer as a model should write it; :func:`agents.answers.read` reads it back."""
    if isinstance(answer, Utterance):
        return answer.text
    if answers == "json":
        return json.dumps(answer.model_dump(mode="json"), ensure_ascii=False)
    return to_small_form(answer) if answers == "small" else to_labelled(answer)


def examples(
    played: Trajectory, tasks: frozenset[str], source: Source, answers: AnswerMode
) -> Iterator[Example]:
    """The rows of one episode for these tasks.

    Args:
        played: The episode.
        tasks: Which tasks.
        source: What diagnoses and plans are made from: ``dialogue`` is what the seat was shown,
            ``formulation`` leaves the dialogue out, ``record`` puts the gold record in the
            formulation's place, and makes it the target of the formulation task (the paper's
            choice, an ablation).
        answers: How the model will be asked.
    """
    for found in played.candidates:
        if found["task"] not in tasks:
            continue
        if found["task"] in ("patient_turn", "therapist_turn"):
            yield _turn(played, found, answers == "small")
        elif found["task"] == "formulation":
            yield _formulation(played, found, source)
        elif found["task"] == "diagnosis":
            yield _diagnosis(played, found, source)
        else:
            yield _plan(played, found, source)


def base(played: Trajectory, task: Task, idx: int, source: Source, **values: Any) -> Example:
    """A row of an episode."""
    values.setdefault("heard", tuple(said(played)))
    return Example(
        task=task,
        idx=idx,
        trajectory=played,
        case_id=played.case.id,
        patient_id=played.patient_id,
        split=played.split,
        source=source,
        **values,
    )


def said(played: Trajectory, until: int | None = None) -> Iterator[str]:
    """What the patient said before a turn."""
    return (turn["text"] for turn in played.turns[:until] if turn["speaker"] == "patient")


def _turn(played: Trajectory, found: Mapping[str, Any], small: bool) -> Example:
    idx = found["idx"]
    lines, before = played.lines(idx), played.turns[:idx]
    left = exchanges_left(before, played.run)
    if found["task"] == "patient_turn":

        def prompt() -> Prompt:
            if played.principle is None:
                raise ValueError(f"episode {played.id} has turns and no behavior principle")
            view = PatientView(played.case, played.principle, lines, left)
            return render_small_speak(view) if small else render_speak(view)

    else:
        rounds = asked(before, "probe")
        if played.turns[idx]["purpose"] == "probe":
            rounds += 1

        def prompt() -> Prompt:
            formulation = played.formulations[rounds - 1] if rounds else None
            # Without guidance: the question that it led to is taught as the therapist's own.
            view = TherapistView(lines, "", formulation, left)
            return render_small_ask(view) if small else render_ask(view)

    return base(
        played,
        found["task"],
        idx,
        "record" if found["task"] == "patient_turn" else "dialogue",
        answer=Utterance(text=found["target"]),
        prompt=prompt,
        context=lines[-1].text if lines else "",
        heard=tuple(said(played, idx)),
    )


def _formulation(played: Trajectory, found: Mapping[str, Any], source: Source) -> Example:
    answer = gold(played) if source == "record" else _aligned(played, found["idx"])
    return base(
        played,
        "formulation",
        found["idx"],
        "record" if source == "record" else "dialogue",
        answer=answer,
        # The whole dialogue and no notes: what was made of it step by step is learned in one.
        prompt=lambda: render_formulate(TherapistView(played.lines(), "", None, 0)),
        context=transcript(played.lines()),
        score=None if source == "record" else found["score"],
    )


def _aligned(played: Trajectory, number: int) -> Formulation:
    """A formulation less what the decoder did not find aligned: that would teach to guess."""
    found = played.formulations[number]
    if number not in played.aligned:
        # The decoder never saw it, so it has no score, and the filters let none without one pass.
        return found
    kept = [one for one in COMPONENTS if one.value in played.aligned[number]]
    return Formulation(**{one.value: found.of(one) for one in kept})


def _diagnosis(played: Trajectory, found: Mapping[str, Any], source: Source) -> Example:
    confirmed = next(one for one in played.diagnoses if one["idx"] == found["idx"])
    other = next((one for one in played.diagnoses if one["idx"] != found["idx"]), None)
    answer = diagnoses(confirmed, other)
    return base(
        played,
        "diagnosis",
        found["idx"],
        source,
        answer=answer,
        prompt=lambda: diagnose_prompt(played, source),
        context=_shown(played, source),
        # Two are asked for: a row that could name only one would teach to answer half.
        code=found["code"] if len(answer.options) == 2 else None,
        coded=True,
    )


def diagnoses(first: Mapping[str, Any], second: Mapping[str, Any] | None) -> Diagnoses:
    """Two diagnoses under their official names, in this order; one that has no code is left out."""
    options: list[DiagnosisProposal] = []
    for one in (first, second):
        if one is None or (one is second and one["code"] is None):
            continue
        label = name_of(one["code"]) if one["code"] else one["label"]
        if label.casefold() not in {option.label.casefold() for option in options}:
            options.append(DiagnosisProposal(label=label, rationale=one["rationale"]))
    return Diagnoses(options=tuple(options))


def diagnose_prompt(played: Trajectory, source: Source) -> Prompt:
    """The prompt of the two diagnoses."""
    if source == "dialogue":
        return render_diagnose(TherapistView(played.lines(), "", stated(played, source), 0))
    return render(
        "therapist", "diagnose", None, formulation=formulation_text(stated(played, source))
    )


def stated(played: Trajectory, source: Source) -> Formulation:
    """The formulation that diagnoses and plans are made from."""
    if source == "record":
        return gold(played)
    return played.formulations[-1] if played.formulations else Formulation()


def gold(played: Trajectory) -> Formulation:
    """The encoded record as a formulation: what the therapist would have to state."""
    if played.principle is None:
        raise ValueError(f"episode {played.id} has no behavior principle")
    encoded = encode(played.case, played.principle)
    return Formulation(
        **{
            component.value: ComponentStatement(statement=encoded.text(component))
            for component in COMPONENTS
        }
    )


def _shown(played: Trajectory, source: Source) -> str:
    if source == "dialogue":
        return transcript(questions_only(played.lines()))
    return formulation_text(stated(played, source))


def _plan(played: Trajectory, found: Mapping[str, Any], source: Source) -> Example:
    code = next((one["code"] for one in played.diagnoses if one["chosen"]), None)
    plan = json.loads(found["target"])
    return base(
        played,
        found["task"],
        found["idx"],
        "record" if source == "record" else "formulation",
        answer=PlanProposal(name=plan["name"], rationale=plan["rationale"]),
        prompt=lambda: propose_prompt(played, found["task"], code, source),
        context=formulation_text(stated(played, source)),
        code=code,
        coded=True,
        score=found["score"],
    )


def propose_prompt(played: Trajectory, kind: Any, code: str | None, source: Source) -> Prompt:
    """The prompt of the first plan of a kind; for medication, with the treatment that stays.

    Plans of the same kind that were tried and dropped are left out: the one that was best after
    several tries is taught as the first.
    """
    earlier: tuple[Attempt, ...] = ()
    if kind == "medication":
        kept = [p for p in played.plans if p["kind"] == "treatment" and p["chosen"]]
        earlier = tuple(played.attempt("treatment", plan["attempt"]) for plan in kept)
    label = name_of(code) if code else "none"
    view = PlanView(played.lines(), stated(played, source), label, kind, earlier)
    return render_propose(view)


def seed_example(case: Case, split: str) -> Example:
    """The paper's seed task: from history to cognitive model. It holds the record by design."""
    clauses = {
        name: ComponentStatement(statement=component_text([c.text for c in found]))
        for name, found in (
            (component.value, case.cognitive_model.clauses(component))
            for component in COMPONENTS
            if component.value in type(case.cognitive_model).model_fields
        )
    }
    values = {
        "history": component_text([clause.text for clause in case.history]),
        "situation": component_text([clause.text for clause in case.situation]),
    }
    return Example(
        task="cognitive_model",
        idx=0,
        trajectory=None,
        case_id=case.id,
        patient_id=case.patient_id,
        split=split,
        source="record",
        answer=Formulation(**clauses),
        prompt=lambda: _seed_prompt(values),
        context=values["history"],
    )


@cache
def seed_template() -> PromptTemplate:
    """The prompt of the seed task: the therapist's system text and an instruction of its own."""
    file = resources.files("training").joinpath("prompts", "cognitive_model.md")
    system = template("therapist", "formulate").system
    return PromptTemplate(
        "training.cognitive_model", system, file.read_text(encoding="utf-8").strip()
    )


def _seed_prompt(values: Mapping[str, str]) -> Prompt:
    found = seed_template()
    return Prompt(found, found.system, Template(found.instruction).substitute(values))
