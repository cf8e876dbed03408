"""The nodes after the decoder is done: diagnosis, plans, scores, and the end.

Why: as in :mod:`graphs.nodes`, each hands one seat its view. The judge scores, not the patient, and
every candidate and score is kept: they are the preference data.
"""

import asyncio
from collections.abc import Sequence

from agents.seats import (
    Answered,
    Attempt,
    ConfirmView,
    DiagnosisProposal,
    Failure,
    Formulation,
    JudgeView,
    Place,
    PlanView,
    Score,
    TherapistView,
    TrialView,
)
from graphs import views
from graphs.routes import best_plan, open_kind, plans_of
from graphs.session import Session
from graphs.state import (
    ArenaState,
    CloseInput,
    DiagnosisRecord,
    JudgeInput,
    PatientInput,
    PlanRecord,
    TherapistInput,
)
from mentalarena.nosology import UNMAPPED, map_labels
from mentalarena.store import Change, utc_now

START_HEALTH = 3
"""Health state (1 worst, 10 well) in which every treatment is tried; a medication is tried in the
state that the chosen treatment reached, so that candidates of one kind compete on equal terms."""


async def diagnose(state: TherapistInput, session: Session, at: Place) -> ArenaState:
    """``diagnose``: two distinct diagnoses, mapped to codes."""
    view = TherapistView(
        lines=views.lines(state["turns"]),
        guidance="",
        formulation=views.last_formulation(state),
        exchanges_left=0,
    )
    answer = await session.therapist.diagnose(view, at)
    options = answer.value.options
    codes = await session.encoding(
        lambda: [map_labels(option.label, session.embedder.nearest) for option in options]
    )
    records: list[DiagnosisRecord] = []
    for idx, (option, labels) in enumerate(zip(options, codes, strict=True)):
        mapped = labels[0] if labels else UNMAPPED
        records.append(
            {
                "idx": idx,
                "label": option.label,
                "code": mapped.code,
                "codes": [label.code for label in labels if label.code is not None],
                "matched_by": mapped.matched_by,
                "rationale": option.rationale,
                "chosen": False,
                "reason": "",
                "crisis": [],
                "flags": [],
                "call_id": answer.call_id,
            }
        )
    return {"diagnoses": records, "failures": views.failure_records("diagnose", answer.failures)}


async def confirm(state: PatientInput, session: Session, at: Place) -> ArenaState:
    """``confirm``: the patient says which diagnosis fits, or that none does.

    Nothing is marked as chosen unless the patient chose it; a rejected or unreadable answer leaves
    the therapist's likelier diagnosis to plan by, unconfirmed.
    """
    options = tuple(
        DiagnosisProposal(label=d["label"], rationale=d["rationale"]) for d in state["diagnoses"]
    )
    view = ConfirmView(views.case_of(state["case"]), views.lines(state["turns"]), options)
    answer = await session.patient.confirm(view, at)
    choice, reason = answer.value.choice, answer.value.reason
    failures = list(answer.failures)
    if choice is not None and choice > len(options):
        failures.append(
            Failure("parse", f"choice {choice} of {len(options)} options", answer.call_id)
        )
        choice = None
    if choice is None and failures:
        reason = "no readable choice"
    about = choice - 1 if choice is not None else 0
    records: list[DiagnosisRecord] = []
    for record in state["diagnoses"]:
        said = reason if record["idx"] == about else ""
        chosen = choice is not None and record["idx"] == about
        flags = views.patient_flags(said)
        records.append(
            {
                **record,
                "chosen": chosen,
                "reason": said,
                "crisis": views.crises(flags),
                "flags": flags,
            }
        )
    return {"diagnoses": records, "failures": views.failure_records("confirm", failures)}


def _diagnosis(diagnoses: Sequence[DiagnosisRecord]) -> str:
    """The diagnosis that plans are made for: the confirmed one, else the likelier."""
    return next((d["label"] for d in diagnoses if d["chosen"]), diagnoses[0]["label"])


def _attempts(plans: Sequence[PlanRecord]) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(plan["kind"], plan["name"], plan["response"], plan["score"])
        for plan in plans
        if plan["response"] is not None
    )


def _open_plan(plans: Sequence[PlanRecord]) -> PlanRecord:
    return plans[-1]


async def propose(state: TherapistInput, session: Session, at: Place) -> ArenaState:
    """``propose``: a plan that was not tried yet; treatment first, then medication."""
    plans = state.get("plans", [])
    kind = open_kind(plans, session.config)
    if kind is None:  # the router only comes here while a kind is open
        raise AssertionError("no plan is left to propose")
    formulation = views.last_formulation(state)
    view = PlanView(
        lines=views.lines(state["turns"]),
        formulation=formulation if formulation is not None else Formulation(),
        diagnosis=_diagnosis(state["diagnoses"]),
        kind=kind,
        earlier=_attempts(plans),
    )
    answer = await session.therapist.propose(view, at)
    treatment = best_plan(plans, "treatment")
    before = START_HEALTH
    if kind == "medication" and treatment is not None and treatment["health_after"] is not None:
        before = treatment["health_after"]
    return {
        "plans": [
            {
                "kind": kind,
                "attempt": len(plans_of(plans, kind)),
                "name": answer.value.name,
                "rationale": answer.value.rationale,
                "response": None,
                "crisis": [],
                "flags": views.therapist_flags(f"{answer.value.name}. {answer.value.rationale}"),
                "health_before": before,
                "health_after": None,
                "score": None,
                "chosen": False,
                "call_id": answer.call_id,
                "response_call_id": None,
            }
        ],
        "failures": views.failure_records("propose", answer.failures),
    }


async def trial(state: PatientInput, session: Session, at: Place) -> ArenaState:
    """``trial``: the patient reports how it would respond to the plan."""
    plan = _open_plan(state["plans"])
    view = TrialView(
        case=views.case_of(state["case"]),
        lines=views.lines(state["turns"]),
        diagnosis=_diagnosis(state["diagnoses"]),
        kind=plan["kind"],
        name=plan["name"],
        rationale=plan["rationale"],
        health=plan["health_before"],
        earlier=_attempts(state["plans"]),
    )
    answer = await session.patient.respond(view, at)
    flags = views.patient_flags(answer.value.response)
    tried: PlanRecord = {
        **plan,
        "response": answer.value.response,
        "crisis": views.crises(flags),
        "flags": [*plan["flags"], *flags],
        "health_after": answer.value.health,
        "response_call_id": answer.call_id,
    }
    return {"plans": [tried], "failures": views.failure_records("trial", answer.failures)}


async def score(state: JudgeInput, session: Session, at: Place) -> ArenaState:
    """``score``: the judge's samples; an unreadable one stays empty and is not averaged."""
    plan = _open_plan(state["plans"])
    view = JudgeView(
        lines=views.lines(state["turns"]),
        diagnosis=_diagnosis(state["diagnoses"]),
        kind=plan["kind"],
        name=plan["name"],
        rationale=plan["rationale"],
        response=plan["response"] or "",
        health_before=plan["health_before"],
        health_after=plan["health_after"],
    )
    samples = range(session.config.judge_samples)
    if session.config.judge == "human":
        # A person is asked one thing after the other, and always in the same order.
        answers = [await session.judge.score(view, at, sample) for sample in samples]
    else:
        drawn = await asyncio.gather(
            *(session.judge.score(view, at, sample) for sample in samples), return_exceptions=True
        )
        # All samples are waited for even when one failed: what is under way is paid for and kept.
        answers = [_answered(answer) for answer in drawn]
    readable = [answer.value.score for answer in answers if answer.value is not None]
    mean = round(sum(readable) / len(readable), 6) if readable else None
    return {
        "plans": [{**plan, "score": mean}],
        "scores": [
            {
                "kind": plan["kind"],
                "attempt": plan["attempt"],
                "sample": sample,
                "judge": session.config.judge,
                "score": None if answer.value is None else answer.value.score,
                "reason": "unreadable" if answer.value is None else answer.value.reason,
                "call_id": answer.call_id,
            }
            for sample, answer in zip(samples, answers, strict=True)
        ],
        "failures": [f for a in answers for f in views.failure_records("score", a.failures)],
    }


def _answered(drawn: Answered[Score | None] | BaseException) -> Answered[Score | None]:
    if isinstance(drawn, BaseException):
        raise drawn
    return drawn


async def close(state: CloseInput, session: Session, at: Place) -> ArenaState:
    """``close``: mark the best plan of each kind and stamp the episode as complete."""
    chosen: list[PlanRecord] = []
    for plan in (best_plan(state["plans"], "treatment"), best_plan(state["plans"], "medication")):
        if plan is not None:
            chosen.append({**plan, "chosen": True})
    return {"plans": chosen, "status": "ok"}


def closing_stamp(episode_id: str) -> Change:
    """Success is a stamp: written with the last rows of the episode."""
    return Change("episodes", {"id": episode_id}, {"status": "ok", "finished_at": utc_now()})
