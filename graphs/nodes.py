"""The nodes of the dialogue: read a slice of the state, hand one seat its view, return its answer.

Why: promise 1. A node of the therapist or the judge is given a schema without the record
(:mod:`graphs.state`), builds a view without the record (:mod:`agents.seats`), and calls one seat.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import fields
from random import Random
from typing import Any, cast

from langgraph.types import Overwrite

from agents.seats import (
    Answered,
    ComparingSeat,
    ComparisonView,
    Formulation,
    ManagerView,
    PatientView,
    Place,
    ProbeView,
    Purpose,
    TherapistView,
    Utterance,
)
from graphs import views
from graphs.routes import will_probe
from graphs.session import Session
from graphs.state import (
    ArenaState,
    Claim,
    DecisionRecord,
    DecodeInput,
    DeviationRecord,
    EncodeInput,
    FailureRecord,
    PatientInput,
    SafetyInput,
    TherapistInput,
    Turn,
)
from mentalarena import safety
from mentalarena.case import COMPONENTS, Case, Component, Principle
from mentalarena.decoder import Deviation, Rating, found_quotes, given_quotes
from mentalarena.encoder import EncodedSymptoms, candidates, encode
from mentalarena.errors import ConfigurationError
from mentalarena.exchanges import exchanges_left
from mentalarena.guidance import MODES, Mode, guidance_text, leak

REDUCED = (
    "path", "turns", "formulations", "injections", "deviations", "decisions", "plans", "scores",
    "failures",
)  # fmt: skip
"""Channels that add up: what an earlier episode of the thread left in them has to go."""

_FIGURES = tuple(item.name for item in fields(Deviation))


def _turn(
    turns: Sequence[Turn], speaker: Any, purpose: Purpose, answer: Answered[Utterance]
) -> Turn:
    text = answer.value.text
    if speaker == "patient":
        flags = views.patient_flags(text)
    else:
        before = next((turn for turn in reversed(turns) if turn["speaker"] == "patient"), None)
        flags = views.therapist_flags(text, bool(before and before["crisis"]))
    return {
        "idx": len(turns),
        "speaker": speaker,
        "purpose": purpose,
        "text": text,
        "disclosed": None if answer.disclosed is None else list(answer.disclosed),
        # A flipped answer that stands is one whose own call was the flipped one.
        "role_flip": any(
            f.boundary == "role_flip" and f.call_id == answer.call_id for f in answer.failures
        ),
        "crisis": views.crises(flags),
        "flags": flags,
        "call_id": answer.call_id,
    }


async def identify(state: EncodeInput, session: Session) -> tuple[Case, int]:
    """The case and the seed that an episode is begun with.

    Raises:
        UnknownCaseError: there is no such case.
    """
    seed = state.get("seed", session.config.seed)
    case_id = state.get("case_id") or at_random(sorted(session.cases), seed)
    return await asyncio.to_thread(session.find_case, case_id), seed


async def new_episode(case: Case, seed: int, session: Session) -> Claim:
    """Open the row of a new sample."""
    episode_id = await asyncio.to_thread(session.ledger.open_episode, case, seed)
    return {"episode_id": episode_id, "attempt": 1}


async def open_episode(state: EncodeInput, session: Session) -> ArenaState:
    """Identify the episode; open its row when the caller (Studio, a script) has not.

    A thread in Studio may play again: what the episode before left in the channels is dropped.
    """
    case, seed = await identify(state, session)
    claim = state.get("claim")
    if claim is None:
        claim = await new_episode(case, seed, session)
    opened: ArenaState = {
        "episode_id": claim["episode_id"],
        "attempt": claim["attempt"],
        "claim": None,
        "seed": seed,
        "case_id": case.id,
        "status": "running",
    }
    if state.get("path"):
        for channel in REDUCED:
            opened[channel] = Overwrite([])  # type: ignore[literal-required]
    return opened


def at_random(ids: Sequence[str], seed: int) -> str:
    """A seeded choice of a case."""
    return Random(f"{seed}/cases").choice(ids)


async def encode_case(state: EncodeInput, session: Session, at: Place) -> ArenaState:
    """``encode``: match coping strategies with behavior principles; the manager chooses one."""
    if session.config.ablate == "encoder":
        case = await asyncio.to_thread(session.find_case, state["case_id"])
        known = {one.id: one for group in session.library.groups for one in group.principles}
        drawn = at.random("ablate_encoder").choice(sorted(known))
        return {
            "case": views.case_channel(case),
            "principle": known[drawn].model_dump(mode="json"),
            "principle_scores": {},
            "failures": [],
        }
    case, found = await session.encoding(lambda: _matched(state["case_id"], session))
    view = ManagerView(
        tuple(clause.text for clause in case.cognitive_model.coping_strategies), found
    )
    answer = await session.manager.choose_principle(view, at)
    principle = found[answer.value.choice - 1][0]
    return {
        "case": views.case_channel(case),
        "principle": principle.model_dump(mode="json"),
        "principle_scores": {candidate.id: score for candidate, score in found},
        "failures": views.failure_records("encode", answer.failures),
    }


def _matched(case_id: str, session: Session) -> tuple[Case, tuple[tuple[Principle, float], ...]]:
    """The case and its candidate principles; reads files and the store, so it runs in a thread."""
    case = session.find_case(case_id)
    return case, candidates(case, session.library.groups, session.embedder)


async def patient(state: PatientInput, session: Session, at: Place) -> ArenaState:
    """``patient``: opens, or answers what the therapist said."""
    turns = state.get("turns", [])
    purpose: Purpose = turns[-1]["purpose"] if turns else "opening"
    view = PatientView(
        case=views.case_of(state["case"]),
        principle=Principle.model_validate(state["principle"]),
        lines=views.lines(turns),
        exchanges_left=exchanges_left(turns, session.config),
    )
    answer = await session.patient.speak(view, at)
    return {
        "turns": [_turn(turns, "patient", purpose, answer)],
        "failures": views.failure_records("patient", answer.failures),
    }


async def safety_turn(state: SafetyInput, session: Session, at: Place) -> ArenaState:
    """``safety``: a fixed line that takes a crisis seriously; no seat is asked."""
    line = at.random("safety").choice(safety.SAFETY_LINES)
    answer = Answered(Utterance(text=line))
    return {"turns": [_turn(state["turns"], "therapist", "safety", answer)]}


async def therapist(state: TherapistInput, session: Session, at: Place) -> ArenaState:
    """``therapist``: the next question; a probe when the decoder rerouted the dialogue."""
    turns, decisions = state["turns"], state.get("decisions", [])
    probe = bool(state.get("formulations"))
    view = TherapistView(
        lines=views.lines(turns),
        guidance=decisions[-1]["guidance"] if probe else "",
        formulation=views.last_formulation(state),
        exchanges_left=exchanges_left(turns, session.config),
    )
    answer = await session.therapist.ask(view, at)
    purpose: Purpose = "probe" if probe else "exchange"
    return {
        "turns": [_turn(turns, "therapist", purpose, answer)],
        "failures": views.failure_records("therapist", answer.failures),
    }


async def formulate(state: TherapistInput, session: Session, at: Place) -> ArenaState:
    """``formulate``: what the therapist has understood, outside the transcript."""
    view = TherapistView(
        lines=views.lines(state["turns"]),
        guidance="",
        formulation=views.last_formulation(state),
        exchanges_left=0,
    )
    answer = await session.therapist.formulate(view, at)
    round_ = len(state.get("formulations", []))
    return {
        "formulations": [
            {
                "round": round_,
                "components": answer.value.model_dump(mode="json"),
                "call_id": answer.call_id,
            }
        ],
        "injections": [
            {"round": round_, "component": i.component.value, "kind": i.kind, "truth": i.truth}
            for i in answer.injections
        ],
        "failures": views.failure_records("formulate", answer.failures),
    }


async def decode(state: DecodeInput, session: Session, at: Place) -> ArenaState:
    """``decode``: verdict per component, decision, and what the therapist is let know."""
    case = views.case_of(state["case"])
    encoded = encode(case, Principle.model_validate(state["principle"]))
    latest = state["formulations"][-1]
    formulation = Formulation.model_validate(latest["components"])
    spoken = [turn["text"] for turn in state["turns"] if turn["speaker"] == "patient"]
    deviations, decision = await session.encoding(
        # The decoder itself is made on first use, from files: in the thread too.
        lambda: session.decoder.decode(
            case.patient_id,
            encoded,
            {component: formulation.of(component) for component in COMPONENTS},
            spoken,
        )
    )
    failures: list[FailureRecord] = []
    if session.config.scorer == "judge":
        ratings, failures = await _rated(deviations, encoded, formulation, spoken, session, at)
        deviations, decision = session.decoder.judged(deviations, ratings)
    earlier = state.get("decisions", [])
    record: DecisionRecord = {
        "round": latest["round"],
        "decision": decision.outcome,
        "reason": decision.reason,
        "chosen": None,
        "component": None,
        "mode": None,
        "guidance_kind": session.config.guidance,
        "guidance": "",
        "leak": None,
        "call_id": None,
    }
    # Every round but the first came of a probe.
    if will_probe(decision.outcome, latest["round"], session.config):
        failures += await _guide(record, deviations, earlier, encoded, session, at)
    return {
        "deviations": [_deviation(latest["round"], deviation) for deviation in deviations],
        "decisions": [record],
        "failures": failures,
    }


async def _rated(
    deviations: Sequence[Deviation],
    encoded: EncodedSymptoms,
    formulation: Formulation,
    spoken: Sequence[str],
    session: Session,
    at: Place,
) -> tuple[dict[Component, Rating], list[FailureRecord]]:
    """Let the judge compare what is stated on evidence with the record, a call a component."""
    judge = session.judge
    if not isinstance(judge, ComparingSeat):
        raise ConfigurationError("scorer judge: who sits on the judge's seat cannot compare")
    ratings: dict[Component, Rating] = {}
    failures: list[FailureRecord] = []
    for deviation in deviations:
        if deviation.verdict in ("missed", "unsupported"):
            continue
        component = deviation.component
        stated = formulation.of(component)
        found = tuple(found_quotes(given_quotes(stated.quotes), spoken))
        view = ComparisonView(component, encoded.components[component], stated.statement, found)
        answer = await judge.compare(view, at)
        failures += views.failure_records("decode", answer.failures)
        if answer.value is None:
            ratings[component] = Rating(None, "")
            continue
        value = answer.value
        where = f"clause {value.clause}: " if value.clause else ""
        quote = f'"{value.quote}" ' if value.quote else ""
        ratings[component] = Rating(value.rating / 10, f"{where}{quote}{value.reason}".strip())
    return ratings, failures


def _deviation(round_: int, deviation: Deviation) -> DeviationRecord:
    figures = {name: getattr(deviation, name) for name in _FIGURES}
    return cast(
        DeviationRecord, {"round": round_, **figures, "component": figures["component"].value}
    )


async def _guide(
    record: DecisionRecord,
    deviations: Sequence[Deviation],
    earlier: Sequence[DecisionRecord],
    encoded: EncodedSymptoms,
    session: Session,
    at: Place,
) -> list[FailureRecord]:
    """Let the manager choose what to probe, and put the guidance into ``record``."""
    off = sorted((d for d in deviations if d.severity > 0), key=lambda d: -d.severity)
    view = ProbeView(
        deviating=tuple((d.component, d.verdict, d.severity) for d in off),
        probed=tuple(Component(d["component"]) for d in earlier if d["component"]),
    )
    answer = await session.manager.choose_probe(view, at)
    by_component = {d.component: d for d in off}
    chosen = target = answer.value.component
    mode: Mode = "explore" if by_component[chosen].verdict == "missed" else "revisit"
    if session.config.guidance == "placebo":
        # Component and mode are drawn from all: a placebo carries nothing of the verdicts, and
        # may by chance name what deviates.
        random = at.random("placebo")
        target, mode = random.choice(COMPONENTS), random.choice(MODES)
    clauses = encoded.components[target]
    record["chosen"] = chosen.value
    record["component"] = target.value
    record["mode"] = mode
    record["guidance"] = guidance_text(session.config.guidance, target, mode, clauses)
    # Made anew from the name alone: what any record's guidance would say is no leak of this one.
    fixed = guidance_text("topic", target, mode)
    record["leak"] = leak(record["guidance"], clauses, fixed)
    record["call_id"] = answer.call_id
    return views.failure_records("decode", answer.failures)
