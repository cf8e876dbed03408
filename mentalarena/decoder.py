"""Symptom Decoder: compares what the therapist understood with what the patient holds.

Why: this is the instrument on which the dialogue is rerouted, so every figure that decided
something is returned with the verdict. Per component: is the evidence really in the dialogue; how
similar is the statement to the record; how many *other* patients would it fit at least as well
(a vague guess fits everyone). Then the decision on the whole formulation, by a joint rule.
Source of the idea: MentalArena (arXiv 2410.06845), symptom decoder; thresholds, rank and evidence
are ours.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol

from mentalarena.calibration import Thresholds
from mentalarena.case import COMPONENTS, Component
from mentalarena.comparison import Peers, compare
from mentalarena.encoder import EncodedSymptoms
from mentalarena.similarity import Embedder

Verdict = Literal["aligned", "unclear", "missed", "distorted", "unsupported"]
Outcome = Literal["biased", "incomplete", "aligned"]
INTENT_BIAS: frozenset[Verdict] = frozenset({"distorted", "unsupported"})

SCORER = "embedding"
_MIN_QUOTE_WORDS = 3
_STOP_WORDS = (
    "a about ah all am an and any are as at be been but can can't could couldn't did didn't "
    "do does doesn't don't for from get go got guess had has have he her him his how i i'd "
    "i'll i'm i've if in is isn't it it's its just kind know let like m maybe me mean might "
    "mm much my no not of oh ok okay on one or our perhaps please pretty probably quite "
    "really right s say she so some something sort suppose sure t tell thank thanks that "
    "that's the them then there there's these they thing things think this those to too uh um "
    "us very was wasn't we well were what what's when where which who why will with won't "
    "would wouldn't yeah yes you you're your"
)
_SAYS_NOTHING = frozenset(_STOP_WORDS.split())
"""Words that fit beneath any statement; a quote of nothing else is no evidence."""


class Stated(Protocol):
    """One component of a formulation."""

    @property
    def statement(self) -> str:
        """What the therapist holds; empty when unknown."""
        ...

    @property
    def quotes(self) -> Sequence[str]:
        """Verbatim spans of the patient's turns."""
        ...


@dataclass(frozen=True, slots=True)
class Deviation:
    """The verdict on one component, with every figure behind it."""

    component: Component
    scorer: str
    similarity: float | None
    """Cosine, or set overlap for closed lists; None when there is nothing to compare."""
    rank: float | None
    """Share of other patients whose component is at least as similar, 0 to 1."""
    threshold: float
    band_low: float
    band_high: float
    rank_limit: float
    verdict: Verdict
    reason: str

    @property
    def severity(self) -> float:
        """How far off, 0 to 1: what the manager orders probes by."""
        if self.verdict in ("aligned", "unclear"):
            return 0.0
        if self.verdict == "unsupported":
            return 1.0
        if self.verdict == "missed" or self.similarity is None:
            return 0.5
        return round(min(1.0, 0.5 + max(0.0, self.band_low - self.similarity)), 6)


class Decision(NamedTuple):
    """The manager's verdict on a whole formulation."""

    outcome: Outcome
    reason: str


@lru_cache(maxsize=8192)
def normalize(text: str) -> str:
    """Text as quotes are compared: lower case, single spaces, no quotation marks or ellipses."""
    text = text.lower().replace("\u2019", "'")
    text = re.sub(r"[\"“”„«»…]|\.\.\.", " ", text)
    return re.sub(r"\s+", " ", text).strip(" '.,;:!?-")


def given_quotes(quotes: Sequence[str]) -> list[str]:
    """The quotes that were given: neither empty nor said twice."""
    distinct: dict[str, str] = {}
    for quote in quotes:
        if normalize(quote):
            distinct.setdefault(normalize(quote), quote)
    return list(distinct.values())


def found_quotes(quotes: Sequence[str], spoken: Sequence[str]) -> list[str]:
    """Those quotes that are verbatim spans of what the patient said, and say something.

    A quote of fewer than three words is evidence only when it is the whole of a turn; one without
    a content word ("I don't know") never is.
    """
    turns = [f" {normalize(text)} " for text in spoken]
    found = []
    for quote in quotes:
        plain = normalize(quote)
        if all(word in _SAYS_NOTHING for word in re.findall(r"[\w']+", plain)):
            continue
        long_enough = len(plain.split()) >= _MIN_QUOTE_WORDS
        if any(
            (long_enough and re.search(rf"(?<!\w){re.escape(plain)}(?!\w)", turn))
            or plain == turn.strip()
            for turn in turns
        ):
            found.append(quote)
    return found


class SymptomDecoder:
    """Judges formulations under one set of thresholds."""

    def __init__(self, embedder: Embedder, thresholds: Thresholds, peers: Peers) -> None:
        self._embedder = embedder
        self._thresholds = thresholds
        self._peers = peers

    def decode(
        self,
        patient_id: str,
        encoded: EncodedSymptoms,
        formulation: Mapping[Component, Stated],
        spoken: Sequence[str],
    ) -> tuple[tuple[Deviation, ...], Decision]:
        """Verdict per component, and the decision.

        Args:
            patient_id: whose record it is; left out of the ranking.
            encoded: what the patient holds.
            formulation: what the therapist states.
            spoken: the patient's turns, in order: the only valid evidence.
        """
        deviations = tuple(
            self._judge(patient_id, component, encoded, formulation[component], spoken)
            for component in COMPONENTS
        )
        return deviations, self._decide(deviations)

    def _judge(
        self,
        patient_id: str,
        component: Component,
        encoded: EncodedSymptoms,
        stated: Stated,
        spoken: Sequence[str],
    ) -> Deviation:
        limits = self._thresholds.components[component]

        def verdict(
            kind: Verdict, reason: str, similarity: float | None = None, rank: float | None = None
        ) -> Deviation:
            return Deviation(
                component,
                SCORER,
                similarity,
                rank,
                limits.threshold,
                limits.band_low,
                limits.band_high,
                limits.rank_limit,
                kind,
                reason,
            )

        if not stated.statement.strip():
            return verdict("missed", "not stated")
        similarity, rank = compare(
            component,
            encoded.components[component],
            stated.statement,
            self._peers(component, patient_id),
            self._embedder,
        )
        given = given_quotes(stated.quotes)
        found = found_quotes(given, spoken)
        share = f"{len(found)} of {len(given)} quotes found"
        # One true quote among many invented ones is a cover, not evidence.
        if not found or 2 * len(found) < len(given):
            return verdict("unsupported", share if given else "no quote given", similarity, rank)
        kind, reason = limits.judge(similarity, rank)
        if len(found) < len(given):
            reason = f"{reason}; {share}"
        return verdict(kind, reason, similarity, rank)

    def _decide(self, deviations: Sequence[Deviation]) -> Decision:
        bias = [d.component.label for d in deviations if d.verdict in INTENT_BIAS]
        gaps = [d.component.label for d in deviations if d.verdict == "missed"]
        limit, gap_limit = self._thresholds.max_intent_bias, self._thresholds.max_missed
        if len(bias) > limit:
            return Decision(
                "biased", f"{len(bias)} intent biases (more than {limit}): {', '.join(bias)}"
            )
        if len(gaps) > gap_limit:
            return Decision(
                "incomplete", f"{len(gaps)} not stated (more than {gap_limit}): {', '.join(gaps)}"
            )
        return Decision("aligned", f"{len(bias)} intent biases, {len(gaps)} not stated: allowed")
