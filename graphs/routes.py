"""Where an episode goes next: pure functions of the state and the configuration.

Why: rerouting is the method, so it is kept apart from everything that speaks, and is tested without
any model. Each ``after_…`` function is the rule of one conditional edge; it returns the target and
the reason, and both become a row of ``routes``.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from agents.seats import PlanKind
from graphs.state import ArenaState, PlanRecord
from mentalarena.case import Component
from mentalarena.config import ArenaConfig
from mentalarena.exchanges import asked

PLAN_KINDS: tuple[PlanKind, ...] = ("treatment", "medication")


class Route(NamedTuple):
    """One step: where to, and why."""

    target: str
    reason: str


AfterPatient = Literal["safety", "therapist", "formulate"]
AfterDecode = Literal["therapist", "diagnose"]
AfterScore = Literal["propose", "close"]


def after_patient(state: ArenaState, config: ArenaConfig) -> Route:
    """A crisis first; then the exchange budget; a probe's answer goes to a new formulation."""
    turns = state["turns"]
    answered_safety = len(turns) > 1 and turns[-2]["purpose"] == "safety"
    if turns[-1]["crisis"] and not answered_safety:
        return Route("safety", "the crisis screen found " + turns[-1]["crisis"][0]["kind"])
    if state.get("formulations"):
        return Route("formulate", "the probe was answered")
    done = asked(turns, "exchange")
    if done < config.exchanges:
        return Route("therapist", f"exchange {done + 1} of {config.exchanges}")
    return Route("formulate", f"all {config.exchanges} exchanges used")


def will_probe(outcome: str, probes: int, config: ArenaConfig) -> bool:
    """Whether a decision leads to a reroute."""
    if config.ablate == "decoder":
        return False
    return outcome != "aligned" and probes < config.probe_rounds


def after_decode(state: ArenaState, config: ArenaConfig) -> Route:
    """Reroute to the therapist while the formulation deviates and probes are left.

    With ``probes = "all"`` an aligned formulation ends nothing: what is left of the budget is used
    for questions without guidance.
    """
    last = state["decisions"][-1]
    if last["component"] is not None:
        probe = len(state["decisions"])
        return Route(
            "therapist",
            f"{last['decision']}: {last['mode']} {Component(last['component']).label} "
            f"(probe {probe} of {config.probe_rounds})",
        )
    # Every decision but the first came after a probe.
    done = len(state["decisions"]) - 1
    if config.probes == "all" and done < config.probe_rounds:
        why = "the decoder is off" if last["decision"] != "aligned" else "aligned"
        return Route(
            "therapist",
            f"{why}, and all probes are used: a question without guidance "
            f"(probe {done + 1} of {config.probe_rounds})",
        )
    if config.ablate == "decoder":
        return Route("diagnose", f"{last['decision']}, but the decoder is off")
    if last["decision"] == "aligned":
        return Route("diagnose", "aligned: " + last["reason"])
    return Route("diagnose", f"{last['decision']}, but all {config.probe_rounds} probes are used")


def plans_of(plans: Sequence[PlanRecord], kind: PlanKind) -> list[PlanRecord]:
    """The plans of one kind, in the order they were tried."""
    return sorted((p for p in plans if p["kind"] == kind), key=lambda plan: plan["attempt"])


def finished(plans: Sequence[PlanRecord], kind: PlanKind, config: ArenaConfig) -> bool:
    """Whether no further plan of this kind is tried."""
    tried = plans_of(plans, kind)
    if not tried:
        return False
    score = tried[-1]["score"]
    return len(tried) >= config.max_plans or (score is not None and score >= config.accept_score)


def open_kind(plans: Sequence[PlanRecord], config: ArenaConfig) -> PlanKind | None:
    """The kind of plan to propose next: treatment first, then medication, then none."""
    return next((kind for kind in PLAN_KINDS if not finished(plans, kind, config)), None)


def best_plan(plans: Sequence[PlanRecord], kind: PlanKind) -> PlanRecord | None:
    """The plan with the highest mean score; the earlier one of equals; None when none was scored.

    An unreadable score counts as no score, never as a good one.
    """
    scored = [plan for plan in plans_of(plans, kind) if plan["score"] is not None]
    return max(scored, key=lambda plan: plan["score"] or 0.0, default=None)


def after_score(state: ArenaState, config: ArenaConfig) -> Route:
    """Try on until a plan is good enough or tries are used up; treatment, then medication."""
    plans = state["plans"]
    kind = open_kind(plans, config)
    if kind is None:
        return Route("close", "treatment and medication are settled")
    tried = plans_of(plans, kind)
    if not tried:
        return Route("propose", f"treatment is settled; first {kind}")
    score = tried[-1]["score"]
    shown = "unreadable score" if score is None else f"score {score:.1f}"
    return Route(
        "propose",
        f"{kind} {len(tried)} of {config.max_plans}: {shown} below {config.accept_score:g}",
    )


def recursion_limit(config: ArenaConfig) -> int:
    """Most super-steps an episode can take: every answer a crisis, every plan refused.

    encode, opening; per exchange or probe a question and an answer; each answer may add a safety
    turn and its answer; formulate and decode a round; diagnose, confirm; three nodes a plan; close.
    """
    answers = 1 + config.exchanges + config.probe_rounds
    spoken = 1 + 2 * (config.exchanges + config.probe_rounds) + 2 * answers
    rounds = 2 * (config.probe_rounds + 1)
    return 1 + spoken + rounds + 2 + 3 * 2 * config.max_plans + 1 + 1
