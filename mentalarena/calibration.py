"""From statements with known truth to thresholds, and to what they are worth on test patients.

Why: the dialogue is rerouted on the decoder's verdicts, so how often they are wrong has to be
known, and known from people it was not set with. Everything is set on train and dev patients
(``tuning``), with scores that are out of fold: the weights that score a patient were fitted on
others. Test patients are looked at once, at the end, with thresholds as they stand.

``mentalarena calibrate`` (:mod:`mentalarena.calibrate`) runs this; ``docs/decoder.md`` says what
was tried and what the figures do not show.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mentalarena.case import CLOSED_LISTS, Component
from mentalarena.comparison import FEATURES, OPEN, RECORDED, Comparison, builtin_peers
from mentalarena.contrast import contrast
from mentalarena.encoder_process import ENCODER_NAME
from mentalarena.figures import Floats, auc, clustered, fit_logistic
from mentalarena.labelled import RIGHT, WRONG, Labelled, Part, labelled, records
from mentalarena.roster import builtin_cases
from mentalarena.similarity import Embedder
from mentalarena.thresholds import (
    SCORER,
    SCORER_VERSION,
    ComponentThreshold,
    Thresholds,
    Weights,
)

REROUTE_WHEN_RIGHT = 0.10
"""Largest share of right and complete formulations that the joint rule may reroute."""
FALSE_ALARM = 0.04
"""Share of right tuning statements below the band: a fifth less than the 5 % that are allowed."""
FALSE_PASS = 0.05
"""Share of other patients' statements, in tuning, from the upper edge of the band on."""
FOLDS = 6
FITTED = ("other_patient", "other_component", "vague")
"""Kinds of wrong statements that weights are fitted on, each with the same weight in all.
``distorted`` is left out: see ``docs/decoder.md``."""


@dataclass(frozen=True, slots=True)
class Scored:
    """A labelled statement with its figures."""

    item: Labelled
    features: Floats
    contradicts: bool
    """Whether it repeats a clause and turns it round: distorted whatever its score."""


def compared(part: Part, embedder: Embedder) -> dict[Component, list[Scored]]:
    """Figures of every labelled statement, per open component."""
    comparison = Comparison(builtin_peers(builtin_cases()), embedder)
    by_owner = {record.owner: record for record in records()}
    found: dict[Component, list[Scored]] = {}
    for component in OPEN:
        held = {
            record.owner: comparison.holds(component, record.owner, record.wordings)
            for record in records()
            if record.part == part and component in record.wordings
        }
        rows = []
        for item in labelled(part, component):
            without = "" if item.teller == item.owner else item.teller
            figures = comparison.compare(component, held[item.owner], item.statement, without)
            wordings = by_owner[item.owner].wordings[component]
            turned = contrast(item.statement, wordings) is not None
            values = np.array([figures.features[name] for name in FEATURES])
            rows.append(Scored(item, values, turned))
        found[component] = rows
    return found


def _weight(rows: Sequence[Scored]) -> Floats:
    """Right statements count as much as wrong ones, and each kind of wrong ones alike."""
    kinds = ["right" if row.item.right else row.item.kind for row in rows]
    present = [kind for kind in FITTED if kind in kinds]
    share = {"right": 1.0} | dict.fromkeys(present, 1.0 / max(len(present), 1))
    return np.array([share.get(kind, 0.0) / kinds.count(kind) for kind in kinds])


def _fit(rows: Sequence[Scored]) -> Weights:
    used = [row for row in rows if row.item.right or row.item.kind in FITTED]
    features = np.stack([row.features for row in used])
    right = np.array([row.item.right for row in used])
    bias, weights = fit_logistic(features, right, _weight(used))
    values = {name: round(float(w), 4) for name, w in zip(FEATURES, weights, strict=True)}
    return Weights(bias=round(bias, 4), **values)


def scores(rows: Sequence[Scored], weights: Weights) -> Floats:
    """The score of each statement, 0 to 1."""
    return np.array([weights.score(dict(zip(FEATURES, row.features, strict=True))) for row in rows])


def _folds(rows: Sequence[Scored]) -> dict[str, int]:
    """Fold of each cluster: by turns, in the order of their names."""
    names = sorted({row.item.cluster for row in rows})
    return {name: number % FOLDS for number, name in enumerate(names)}


def out_of_fold(rows: Sequence[Scored]) -> Floats:
    """Scores by weights that were fitted without the owner, and without what the teller said."""
    fold = _folds(rows)
    teller = {record.owner: record.cluster for record in records()}
    found = np.zeros(len(rows))
    for number in range(FOLDS):
        inside = np.array([fold[row.item.cluster] == number for row in rows])
        train = [
            row
            for row, out in zip(rows, inside, strict=True)
            if not out and fold.get(teller.get(row.item.teller, ""), -1) != number
        ]
        held_out = [row for row, here in zip(rows, inside, strict=True) if here]
        found[inside] = scores(held_out, _fit(train))
    return found


def _limits(weights: Weights, rows: Sequence[Scored], found: Floats) -> ComponentThreshold:
    right = np.sort(found[[row.item.right for row in rows]])
    wrong = np.sort(found[[row.item.kind == "other_patient" for row in rows]])
    low = float(right[int(FALSE_ALARM * right.size)])
    high = max(low, float(wrong[int(np.ceil((1 - FALSE_PASS) * wrong.size)) - 1]))
    grid = np.unique(np.concatenate([right, wrong]))
    gap = [abs(float((right < t).mean()) - float((wrong >= t).mean())) for t in grid]
    # Rounded outward, so that a limit made of a statement's own score does not fall on it.
    return ComponentThreshold(
        weights=weights,
        threshold=round(float(grid[int(np.argmin(gap))]), 3),
        band_low=np.floor(low * 1000) / 1000,
        band_high=np.ceil(high * 1000) / 1000,
    )


def joint_limit(alarms: Sequence[Sequence[float]]) -> int:
    """Smallest number of intent biases that right formulations exceed at most one time in ten.

    Args:
        alarms: per patient, per component, the share of right statements called distorted.
    """
    tails = np.array([tail(rates) for rates in alarms])
    # Rounded: a tail of exactly one in ten must not depend on the last digit of a sum.
    return int(np.argmax(tails.mean(axis=0).round(9) <= REROUTE_WHEN_RIGHT))


def tail(rates: Sequence[float]) -> Floats:
    """Per number k from 0: the share of whole right formulations with more than k false alarms.

    A right formulation takes all its components from one patient, one right statement of each, so
    that a patient who is hard to read in one component and in another counts as such: nothing is
    taken as independent over patients. The count over all such draws of one patient is exact.
    """
    distribution = np.array([1.0])
    for rate in rates:
        distribution = np.convolve(distribution, [1 - rate, rate])
    return np.asarray(1 - np.cumsum(distribution), dtype=np.float64)


def _alarms(
    rows: Mapping[Component, Sequence[Scored]], distorted: Mapping[Component, np.ndarray[Any, Any]]
) -> dict[str, list[float]]:
    """Per patient, per open component: the share of right statements called distorted.

    Which behavior principle a patient shows is the encoder's choice, so that component's share is
    that of all principles.
    """
    principle = Component.BEHAVIOR_PRINCIPLES
    of_principles = [
        bool(called)
        for row, called in zip(rows[principle], distorted[principle], strict=True)
        if row.item.right
    ]
    shared = float(np.mean(of_principles))
    found: dict[str, list[float]] = {}
    for component in RECORDED:
        by_patient: dict[str, list[bool]] = {}
        for row, called in zip(rows[component], distorted[component], strict=True):
            if row.item.right:
                by_patient.setdefault(row.item.owner, []).append(bool(called))
        for patient_id, calls in by_patient.items():
            found.setdefault(patient_id, []).append(float(np.mean(calls)))
    return {patient_id: [*rates, shared] for patient_id, rates in found.items()}


def derive(
    tuning: Mapping[Component, Sequence[Scored]], encoder_hash: str
) -> tuple[Thresholds, dict[Component, Floats]]:
    """Thresholds from tuning statements, and the out-of-fold scores that they were set by."""
    recorded = [row for component in RECORDED for row in tuning[component]]
    principle = Component.BEHAVIOR_PRINCIPLES
    weights = dict.fromkeys(RECORDED, _fit(recorded)) | {principle: _fit(tuning[principle])}
    pooled = out_of_fold(recorded)
    found: dict[Component, Floats] = {principle: out_of_fold(tuning[principle])}
    start = 0
    for component in RECORDED:
        found[component] = pooled[start : start + len(tuning[component])]
        start += len(tuning[component])
    components = {
        component: ComponentThreshold(threshold=0.5, band_low=0.4, band_high=0.5)
        if component in CLOSED_LISTS
        else _limits(weights[component], tuning[component], found[component])
        for component in Component
    }
    called = {c: called_distorted(tuning[c], found[c], components[c]) for c in OPEN}
    alarms = _alarms(tuning, called)
    thresholds = Thresholds(
        encoder=ENCODER_NAME,
        encoder_hash=encoder_hash,
        scorer=SCORER,
        scorer_version=SCORER_VERSION,
        made_from=f"author-written statements about {len(alarms)} train and dev patients",
        components=components,
        max_intent_bias=joint_limit(list(alarms.values())),
        # A complete formulation states every component, so none of them is rerouted by this.
        max_missed=0,
    )
    return thresholds, found


def called_distorted(
    rows: Sequence[Scored], found: Floats, limits: ComponentThreshold
) -> np.ndarray[Any, Any]:
    """Which statements the decoder calls distorted: by score, or because they contradict."""
    return np.logical_or(found < limits.band_low, [row.contradicts for row in rows])


def report(
    rows: Mapping[Component, Sequence[Scored]],
    found: Mapping[Component, Floats],
    thresholds: Thresholds,
) -> dict[str, Any]:
    """What scores and verdicts are worth: pooled over what a record states, and per component."""
    pooled = _figures(
        [row for c in RECORDED for row in rows[c]],
        np.concatenate([found[c] for c in RECORDED]),
        np.concatenate(
            [called_distorted(rows[c], found[c], thresholds.components[c]) for c in RECORDED]
        ),
        np.concatenate([found[c] >= thresholds.components[c].band_high for c in RECORDED]),
    )
    called = {c: called_distorted(rows[c], found[c], thresholds.components[c]) for c in OPEN}
    alarms = _alarms(rows, called)
    patients = list(alarms)
    limit = thresholds.max_intent_bias
    tails = np.array([tail(alarms[patient])[limit] for patient in patients])
    pooled["reroute_when_right"] = clustered(lambda at: float(tails[at].mean()), patients)
    components = {
        c.value: _figures(
            rows[c], found[c], called[c], found[c] >= thresholds.components[c].band_high
        )
        for c in OPEN
    }
    return {"pooled": pooled, "components": components}


def _figures(
    rows: Sequence[Scored],
    found: Floats,
    called: np.ndarray[Any, Any],
    aligned: np.ndarray[Any, Any],
) -> dict[str, Any]:
    kinds = np.array([row.item.kind for row in rows])
    owners = np.array([row.item.cluster for row in rows])
    # What contradicts outright is wrong with certainty as far as the decoder is concerned.
    ranked = np.where([row.contradicts for row in rows], -1.0, found)
    right = np.isin(kinds, RIGHT)

    def share(which: np.ndarray[Any, Any], what: np.ndarray[Any, Any]) -> dict[str, Any]:
        at = np.flatnonzero(which)
        return clustered(lambda picked: float(what[at][picked].mean()), owners[at].tolist())

    def area(kind: str) -> dict[str, Any]:
        at = np.flatnonzero(right | (kinds == kind))

        def of(picked: np.ndarray[Any, Any]) -> float:
            rows_ = at[picked]
            return auc(ranked[rows_[right[rows_]]], ranked[rows_[~right[rows_]]])

        return {**clustered(of, owners[at].tolist()), "n": int((kinds == kind).sum())}

    present = [kind for kind in WRONG if (kinds == kind).any()]
    result: dict[str, Any] = {f"auc_{kind}": area(kind) for kind in present}
    result["false_alarm"] = share(right, called)
    result["right_aligned"] = share(right, aligned & ~called)
    result["miss"] = share(kinds == "other_patient", ~called)
    result["miss_by_kind"] = {kind: share(kinds == kind, ~called) for kind in present}
    result["called_aligned_by_kind"] = {
        kind: share(kinds == kind, aligned & ~called) for kind in present
    }
    result["distorted_by_form"] = {
        form: round(auc(ranked[right], ranked[forms == form]), 4)
        for forms in [np.array([row.item.form for row in rows])]
        for form in sorted({row.item.form for row in rows if row.item.kind == "distorted"})
    }
    return result


def calibrate(
    embedder: Embedder, say: Callable[[str], None] = lambda text: None
) -> tuple[Thresholds, dict[str, Any], dict[str, Any]]:
    """Thresholds, the report (``tuning`` out of fold, and ``test``), and scores for the plots."""
    say("comparing train and dev patients' statements")
    tuning = compared("tuning", embedder)
    thresholds, found = derive(tuning, embedder.hash)
    say("comparing test patients' statements")
    test = compared("test", embedder)
    final = {}
    for component in OPEN:
        weights = thresholds.components[component].weights
        assert weights is not None
        final[component] = scores(test[component], weights)
    say("resampling patients for the intervals")
    result = {
        "encoder": thresholds.encoder,
        "encoder_hash": thresholds.encoder_hash,
        "scorer": thresholds.scorer,
        "scorer_version": thresholds.scorer_version,
        "thresholds_hash": thresholds.hash,
        "max_intent_bias": thresholds.max_intent_bias,
        "test": report(test, final, thresholds),
        "tuning": report(tuning, found, thresholds),
    }
    plotted = {
        "tuning": [(row.item.kind, value) for c in RECORDED
                   for row, value in zip(tuning[c], found[c], strict=True)],
        "test": [(row.item.kind, value) for c in RECORDED
                 for row, value in zip(test[c], final[c], strict=True)],
    }  # fmt: skip
    return thresholds, result, plotted
