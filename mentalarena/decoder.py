"""Symptom Decoder: compares what the therapist understood with what the patient holds.

Why: this is the instrument on which the dialogue is rerouted, so every figure that decided
something is returned with the verdict, and the reason names the clause and the quote. Per
component: is the evidence really in the dialogue; does the statement repeat a clause and turn it
round (:mod:`mentalarena.contrast`); how much better does it fit this record than those of other
patients (a vague guess fits everyone) and than the patient's other components
(:mod:`mentalarena.comparison`). Then the decision on the whole formulation, by a joint rule.
Source of the idea: MentalArena (arXiv 2410.06845), symptom decoder; score, limits and evidence are
ours.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol

from mentalarena.case import CLOSED_LISTS, COMPONENTS, Component
from mentalarena.clauses import statement_parts
from mentalarena.closed_lists import labels_in, overlap
from mentalarena.comparison import Comparison, Peers
from mentalarena.contrast import contrast
from mentalarena.encoder import EncodedSymptoms
from mentalarena.similarity import Embedder
from mentalarena.thresholds import SCORER, ComponentThreshold, Thresholds

Verdict = Literal["aligned", "unclear", "missed", "distorted", "unsupported"]
Outcome = Literal["biased", "incomplete", "aligned"]
INTENT_BIAS: frozenset[Verdict] = frozenset({"distorted", "unsupported"})

_MIN_QUOTE_WORDS = 3
_LONGEST_SHOWN = 60
"""Characters of a quote in a reason."""
JUDGE_ALIGNED, JUDGE_UNCLEAR = 0.7, 0.4
"""Ratings of a judge (0 to 1) from which a statement is aligned, or not distorted. Set by the words
of its rubric, not calibrated."""
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
    """Support by the record, a cosine; set overlap for closed lists; None when nothing is said."""
    rank: float | None
    """Share of other patients whose component supports it at least as well, 0 to 1."""
    score: float | None
    """What is held against the limits, 0 to 1."""
    threshold: float
    band_low: float
    band_high: float
    clause: int | None
    """Number, from 0, of the record's clause that the verdict is about; None where it is all."""
    features: Mapping[str, float] | None
    """What the score was made of."""
    verdict: Verdict
    reason: str
    """In figures, with the clause's number and the quote; never the record's words."""
    judge_score: float | None = None
    """A judge's rating, 0 to 1, when one was asked and could be read."""
    judge_reason: str = ""

    @property
    def severity(self) -> float:
        """How far off, 0 to 1: what the manager orders probes by."""
        if self.verdict in ("aligned", "unclear"):
            return 0.0
        if self.verdict == "unsupported":
            return 1.0
        if self.verdict == "missed" or self.score is None:
            return 0.5
        return round(min(1.0, 0.5 + max(0.0, self.band_low - self.score)), 6)


class Rating(NamedTuple):
    """What a judge makes of one component: how true the statement is of the record."""

    score: float | None
    """0 to 1; None when the answer could not be read."""
    reason: str


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
            (long_enough and _holds_words(turn, plain)) or plain == turn.strip() for turn in turns
        ):
            found.append(quote)
    return found


def _holds_words(text: str, words: str) -> bool:
    """Whether the words stand in the text, not as parts of longer ones."""
    # A pattern made for each quote would take longer to compile than all else here.
    start = text.find(words)
    while start >= 0:
        around = text[max(start - 1, 0) : start], text[start + len(words) :][:1]
        if not any(char.isalnum() or char == "_" for char in around):
            return True
        start = text.find(words, start + 1)
    return False


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN].rsplit(" ", 1)[0] + " …"


class SymptomDecoder:
    """Judges formulations under one set of thresholds."""

    def __init__(self, embedder: Embedder, thresholds: Thresholds, peers: Peers) -> None:
        self._embedder = embedder
        self._thresholds = thresholds
        self._comparison = Comparison(peers, embedder)

    def decode(
        self,
        patient_id: str,
        encoded: EncodedSymptoms,
        formulation: Mapping[Component, Stated],
        spoken: Sequence[str],
    ) -> tuple[tuple[Deviation, ...], Decision]:
        """Verdict per component, and the decision.

        Args:
            patient_id: whose record it is; never compared against as another's.
            encoded: what the patient holds.
            formulation: what the therapist states.
            spoken: the patient's turns, in order: the only valid evidence.
        """
        deviations = tuple(
            self._judge(patient_id, component, encoded, formulation[component], spoken)
            for component in COMPONENTS
        )
        return deviations, self.decide(deviations)

    def _judge(
        self,
        patient_id: str,
        component: Component,
        encoded: EncodedSymptoms,
        stated: Stated,
        spoken: Sequence[str],
    ) -> Deviation:
        limits = self._thresholds.components[component]
        blank = Deviation(
            component, SCORER, None, None, None,
            limits.threshold, limits.band_low, limits.band_high, None, None, "missed", "not stated",
        )  # fmt: skip
        if not stated.statement.strip():
            return blank
        measured = (
            self._overlapping(blank, encoded, stated, limits)
            if component in CLOSED_LISTS
            else self._compared(blank, patient_id, encoded, stated, limits)
        )
        given = given_quotes(stated.quotes)
        found = found_quotes(given, spoken)
        share = f"{len(found)} of {len(given)} quotes found"
        # One true quote among many invented ones is a cover, not evidence.
        if not found or 2 * len(found) < len(given):
            unsaid = [quote for quote in given if quote not in found]
            why = f'{share}; not said: "{_short(unsaid[0])}"' if given else "no quote given"
            return replace(measured, verdict="unsupported", reason=why)
        reason = f'{measured.reason}; from "{_short(found[0])}"'
        if len(found) < len(given):
            reason = f"{reason}; {share}"
        return replace(measured, reason=reason)

    def _overlapping(
        self,
        blank: Deviation,
        encoded: EncodedSymptoms,
        stated: Stated,
        limits: ComponentThreshold,
    ) -> Deviation:
        """A closed list: the labels that are named, as a set."""
        held = frozenset(encoded.components[blank.component])
        named = labels_in(blank.component, stated.statement, self._embedder)
        score = round(overlap(named, held), 6)
        verdict, why = limits.judge(score)
        shared = f"{len(named & held)} of {len(held)} labels, {len(named - held)} others"
        return replace(
            blank, similarity=score, score=score, verdict=verdict, reason=f"{why}: {shared}"
        )

    def _compared(
        self,
        blank: Deviation,
        patient_id: str,
        encoded: EncodedSymptoms,
        stated: Stated,
        limits: ComponentThreshold,
    ) -> Deviation:
        """Free text: the score of the comparison, unless it turns a clause round."""
        component = blank.component
        assert limits.weights is not None
        held = self._comparison.holds(component, patient_id, encoded.wordings)
        figures = self._comparison.compare(component, held, stated.statement)
        parts = statement_parts(stated.statement)
        score = limits.weights.score(figures.features)
        verdict, why = limits.judge(score)
        clear = verdict != "distorted"
        at = max(range(len(parts)), key=lambda i: figures.likeness[i] * (1 if clear else -1))
        clause = figures.clauses[at]
        reason = (
            f'{why}: "{_short(parts[at])}" is nearest to clause {clause + 1} '
            f"({figures.likeness[at]:.2f})"
        )
        turned = contrast(stated.statement, encoded.wordings[component])
        if turned is not None:
            verdict, clause = "distorted", turned.clause
            reason = f'{turned.kind}: "{_short(turned.part)}" turns clause {clause + 1} round'
        return replace(
            blank,
            similarity=figures.similarity,
            rank=figures.rank,
            score=score,
            clause=clause,
            features=figures.features,
            verdict=verdict,
            reason=reason,
        )

    def judged(
        self, deviations: Sequence[Deviation], ratings: Mapping[Component, Rating]
    ) -> tuple[tuple[Deviation, ...], Decision]:
        """The verdicts as a judge has them, beside what the encoder measured.

        What is not stated or not supported stays so; a rating that could not be read is unclear.
        """
        found = []
        for deviation in deviations:
            rating = ratings.get(deviation.component)
            if rating is None:
                found.append(deviation)
                continue
            verdict: Verdict
            if rating.score is None:
                verdict, why = "unclear", "the judge's answer could not be read"
            elif rating.score >= JUDGE_ALIGNED:
                verdict, why = "aligned", f"judge {rating.score:.1f} ≥ {JUDGE_ALIGNED}"
            elif rating.score >= JUDGE_UNCLEAR:
                verdict, why = "unclear", f"judge {rating.score:.1f} < {JUDGE_ALIGNED}"
            else:
                verdict, why = "distorted", f"judge {rating.score:.1f} < {JUDGE_UNCLEAR}"
            found.append(
                replace(
                    deviation,
                    scorer="judge",
                    verdict=verdict,
                    reason=f"{why}; encoder: {deviation.verdict}, {deviation.reason}",
                    judge_score=rating.score,
                    judge_reason=rating.reason,
                )
            )
        return tuple(found), self.decide(found)

    def decide(self, deviations: Sequence[Deviation]) -> Decision:
        """The decision on a whole formulation, by the joint rule."""
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
