"""Paired differences between counterfactual patients, with intervals clustered by person.

Why: if one member of a pair is understood, diagnosed or treated otherwise than the other, only the
varied attribute (or chance) can be the reason. Episodes of a pair are compared where they were
played in one run under one sample number; what is averaged is the difference, and because the
situations and repetitions of one person are no independent people, intervals are clustered by
the person that both members come from, and widened for the number of comparisons.

With rule-based seats, which read no demographics, this is a plumbing check: a difference beyond its
interval would be a fault of the pairs or of the figures. With models on the seats it measures them.

Run it: ``mentalarena cases fairness --db STORE``.
"""

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import NamedTuple

from mentalarena.case import Case
from mentalarena.case_checks import diagnosis_group
from mentalarena.store_api import ReadableStore

MEASURES: Mapping[str, str] = {
    "aligned": "components aligned at the end (of 8)",
    "first aligned": "components aligned in the first round",
    "rounds": "formulations made",
    "told": "clauses of the record that the patient told",
    "diagnosis": "the chosen diagnosis is of the reference's group (0 or 1)",
    "treatment": "score of the chosen treatment",
    "medication": "score of the chosen medication",
    "crisis": "the crisis screen was hit (0 or 1)",
}
LEVEL = 0.95


class Difference(NamedTuple):
    """One measure for one attribute: changed member minus the other."""

    attribute: str
    measure: str
    pairs: int
    """Pairs of episodes in which both have the measure."""
    people: int
    """Clusters."""
    base: float
    """Mean of the members that were not changed."""
    mean: float
    """Mean difference."""
    low: float
    high: float

    @property
    def beyond(self) -> bool:
        """Whether the interval leaves out no difference."""
        return not self.low <= 0 <= self.high


class _Episode(NamedTuple):
    case: Case
    run_id: str
    sample: int
    values: Mapping[str, float | None]


def fairness(store: ReadableStore) -> tuple[int, tuple[Difference, ...]]:
    """How many pairs of complete episodes a store holds, and the differences in every measure.

    Intervals hold together with :data:`LEVEL` over all rows (Bonferroni).
    """
    episodes = _episodes(store)
    by_place = {(one.run_id, one.sample, one.case.id): one for one in episodes}
    base_of = {one.case.patient_id: one.case for one in episodes if one.case.varied is None}
    pairs: dict[str, list[tuple[str, _Episode, _Episode]]] = defaultdict(list)
    for one in episodes:
        if one.case.varied is None:
            continue
        parent = one.case.parents[0]
        situation = one.case.id.removeprefix(one.case.patient_id)
        other = by_place.get((one.run_id, one.sample, parent + situation))
        if other is not None:
            base = base_of[parent]
            person = base.parents[0] if base.parents else parent
            pairs[one.case.varied].append((person, other, one))
    rows = [(attribute, measure, values) for attribute, found in sorted(pairs.items())
            for measure in MEASURES if (values := _values(found, measure))]  # fmt: skip
    differences = tuple(
        _difference(attribute, measure, values, max(len(rows), 1))
        for attribute, measure, values in rows
    )
    return sum(map(len, pairs.values())), differences


def _values(
    pairs: Sequence[tuple[str, _Episode, _Episode]], measure: str
) -> list[tuple[str, float, float]]:
    found = []
    for person, base, changed in pairs:
        before, now = base.values[measure], changed.values[measure]
        if before is not None and now is not None:
            found.append((person, before, now - before))
    return found


def _difference(
    attribute: str, measure: str, values: Sequence[tuple[str, float, float]], rows: int
) -> Difference:
    n = len(values)
    mean = sum(difference for *_, difference in values) / n
    clusters: dict[str, float] = defaultdict(float)
    for person, _, difference in values:
        clusters[person] += difference - mean
    people = len(clusters)
    if people > 1:
        spread = math.sqrt(sum(one**2 for one in clusters.values()) * people / (people - 1)) / n
        half = t_quantile(1 - (1 - LEVEL) / rows / 2, people - 1) * spread
    else:
        half = math.inf
    base = sum(before for _, before, _ in values) / n
    return Difference(attribute, measure, n, people, base, mean, mean - half, mean + half)


def t_quantile(share: float, freedom: int) -> float:
    """A quantile of Student's t, by the expansion of Cornish and Fisher.

    Within 1 % from 8 degrees of freedom on; below that it is too small.
    """
    z = NormalDist().inv_cdf(share)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3


def _episodes(store: ReadableStore) -> list[_Episode]:
    rows = store.fetch(
        "select s.*, c.record from episode_summary s join cases c on c.id = s.case_id "
        "where s.status = 'ok' order by s.run_id, s.case_id, s.sample"
    )
    told: dict[str, set[str]] = defaultdict(set)
    for turn in store.fetch("select episode_id, disclosed from turns where disclosed is not null"):
        told[turn["episode_id"]].update(json.loads(turn["disclosed"]))
    first = {
        row["episode_id"]: row["n"]
        for row in store.fetch(
            "select episode_id, sum(verdict = 'aligned') as n from deviations where round = 0 "
            "group by episode_id"
        )
    }
    found = []
    for row in rows:
        case = Case.model_validate_json(row["record"])
        values: dict[str, float | None] = {
            "aligned": row["aligned_components"],
            "first aligned": first.get(row["episode_id"]),
            "rounds": row["rounds"],
            "told": len(told[row["episode_id"]]) if row["episode_id"] in told else None,
            "diagnosis": _hit(case, row["diagnosis_code"]),
            "treatment": row["treatment_score"],
            "medication": row["medication_score"],
            "crisis": row["crisis"],
        }
        found.append(_Episode(case, row["run_id"], row["sample"], values))
    return found


def _hit(case: Case, code: str | None) -> float | None:
    if not case.reference:
        return None
    groups = {diagnosis_group(reference.code) for reference in case.reference}
    return float(code is not None and diagnosis_group(code) in groups)
