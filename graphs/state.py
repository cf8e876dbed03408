"""The state of one episode, and the slice of it that each node may read.

Why: everything in the state is plain JSON, so it can be checkpointed, shown in LangGraph Studio and
written to the store without translation. Each node declares one of the ``…Input`` schemas below and
receives nothing else: ``TherapistInput`` and ``JudgeInput`` have no channel that holds the record.
"""

import operator
from typing import Annotated, Any, Literal

from typing_extensions import TypedDict

from agents.seats import PlanKind, Purpose, Speaker
from mentalarena.decoder import Outcome, Verdict


class Finding(TypedDict):
    """One finding of the safety rules (:mod:`mentalarena.safety`, :mod:`mentalarena.replies`)."""

    screen: Literal["crisis", "reply"]
    kind: str
    qualifier: str | None
    """Why it does not count; None when it does."""
    rule: str
    span: str


class Turn(TypedDict):
    """One spoken turn."""

    idx: int
    speaker: Speaker
    purpose: Purpose
    text: str
    disclosed: list[str] | None
    """Record clauses spoken (``topic:index``), when the patient seat knows."""
    role_flip: bool
    crisis: list[dict[str, str]]
    """What the crisis screen counts as a crisis, gravest kind first; empty for most turns."""
    flags: list[Finding]
    """Everything the safety rules found, set aside or not."""
    call_id: str | None


class Claim(TypedDict):
    """An episode whose row the runner has opened."""

    episode_id: str
    attempt: int


class FormulationRecord(TypedDict):
    """The therapist's formulation of one round."""

    round: int
    components: dict[str, dict[str, Any]]
    """Component → {statement, quotes}."""
    call_id: str | None


class InjectionRecord(TypedDict):
    """A bias put in on purpose; only the store reads it."""

    round: int
    component: str
    kind: str
    truth: str


class DeviationRecord(TypedDict):
    """The decoder's verdict on one component of one round."""

    round: int
    component: str
    scorer: str
    similarity: float | None
    rank: float | None
    score: float | None
    threshold: float
    band_low: float
    band_high: float
    clause: int | None
    features: dict[str, float] | None
    verdict: Verdict
    reason: str
    judge_score: float | None
    judge_reason: str


class DecisionRecord(TypedDict):
    """The manager's verdict on one formulation, and what it lets the therapist know."""

    round: int
    decision: Outcome
    reason: str
    chosen: str | None
    """What the manager chose to probe; None when there is no reroute."""
    component: str | None
    """What the therapist is sent to: ``chosen``, or a random one under placebo guidance."""
    mode: Literal["revisit", "explore"] | None
    guidance_kind: str
    guidance: str
    leak: float | None
    """Share of the record's words that the guidance carries; measured for oracle guidance."""
    call_id: str | None


class DiagnosisRecord(TypedDict):
    """One candidate diagnosis."""

    idx: int
    label: str
    code: str | None
    codes: list[str]
    """Every code that a comorbid answer names; the first is ``code``."""
    matched_by: str | None
    rationale: str
    chosen: bool
    reason: str
    """What the patient said about its choice, or why there is none; empty for the other."""
    crisis: list[dict[str, str]]
    """What the crisis screen found in the reason."""
    flags: list[Finding]
    call_id: str | None


class PlanRecord(TypedDict):
    """One treatment or medication plan, from proposal to score."""

    kind: PlanKind
    attempt: int
    name: str
    rationale: str
    response: str | None
    crisis: list[dict[str, str]]
    """What the crisis screen found in the response."""
    flags: list[Finding]
    """The same, with what was set aside, and what the reply rules found in the proposal."""
    health_before: int
    health_after: int | None
    score: float | None
    """Mean of the readable judge samples."""
    chosen: bool
    call_id: str | None
    response_call_id: str | None


class ScoreRecord(TypedDict):
    """One judge sample."""

    kind: PlanKind
    attempt: int
    sample: int
    judge: str
    score: int | None
    """None when the answer could not be read: such a sample never accepts a plan."""
    reason: str
    call_id: str | None


class FailureRecord(TypedDict):
    """An answer that could not be used."""

    node: str
    boundary: str
    message: str
    call_id: str | None


class Lineage(TypedDict):
    """What tells a step that goes on from one that does not."""

    offset: int
    """LangGraph's count of steps less ours: a fork and an edited state each add one to it."""
    config: str
    """Hash of the configuration that the episode is played under."""
    context: dict[str, Any]
    """That configuration."""


def merge_plans(old: list[PlanRecord], new: list[PlanRecord]) -> list[PlanRecord]:
    """Replace plans of the same kind and attempt, append the others."""
    by_key = {(plan["kind"], plan["attempt"]): plan for plan in old}
    by_key.update({(plan["kind"], plan["attempt"]): plan for plan in new})
    return list(by_key.values())


class Episode(TypedDict, total=False):
    """What identifies the episode; every node reads it."""

    episode_id: str
    attempt: int
    seed: int
    path: Annotated[list[str], operator.add]
    """Nodes run so far, in order."""


class ArenaInput(TypedDict, total=False):
    """What a caller gives: nothing is required."""

    case_id: str
    """Which case to play; a seeded choice when empty."""
    seed: int
    """The episode's seed; the configuration's when absent."""
    claim: Claim | None
    """Set by a runner that has opened the episode's row; ``encode`` opens one when absent."""


class ArenaState(Episode, total=False):
    """Every channel."""

    case_id: str
    claim: Claim | None
    case: dict[str, Any]
    principle: dict[str, Any]
    principle_scores: dict[str, float]
    turns: Annotated[list[Turn], operator.add]
    formulations: Annotated[list[FormulationRecord], operator.add]
    injections: Annotated[list[InjectionRecord], operator.add]
    deviations: Annotated[list[DeviationRecord], operator.add]
    decisions: Annotated[list[DecisionRecord], operator.add]
    diagnoses: list[DiagnosisRecord]
    plans: Annotated[list[PlanRecord], merge_plans]
    scores: Annotated[list[ScoreRecord], operator.add]
    failures: Annotated[list[FailureRecord], operator.add]
    status: str
    """``running``, or ``ok`` from the close on."""
    lineage: Lineage
    """Only on a server that keeps threads."""


class EncodeInput(Episode, total=False):
    """``encode``: which case."""

    case_id: str
    claim: Claim | None


class PatientInput(Episode, total=False):
    """``patient``, ``confirm``, ``trial``: the record, what was said, what was proposed."""

    case: dict[str, Any]
    principle: dict[str, Any]
    turns: list[Turn]
    diagnoses: list[DiagnosisRecord]
    plans: list[PlanRecord]


class TherapistInput(Episode, total=False):
    """``therapist``, ``formulate``, ``diagnose``, ``propose``: nothing of the record."""

    turns: list[Turn]
    formulations: list[FormulationRecord]
    decisions: list[DecisionRecord]
    diagnoses: list[DiagnosisRecord]
    plans: list[PlanRecord]


class SafetyInput(Episode, total=False):
    """``safety``: what was said."""

    turns: list[Turn]


class DecodeInput(Episode, total=False):
    """``decode``: the record against the formulation."""

    case: dict[str, Any]
    principle: dict[str, Any]
    turns: list[Turn]
    formulations: list[FormulationRecord]
    decisions: list[DecisionRecord]


class JudgeInput(Episode, total=False):
    """``score``: what was said, and one plan; nothing of the record."""

    turns: list[Turn]
    diagnoses: list[DiagnosisRecord]
    plans: list[PlanRecord]


class CloseInput(Episode, total=False):
    """``close``: the plans to choose from."""

    plans: list[PlanRecord]
