"""Shares, means and differences with intervals over patients.

Why: episodes of one patient resemble each other, and so do the turns of one episode. An interval
that takes them as independent is too narrow; here whole patients are drawn with replacement.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 2000
"""Resamples of a bootstrap interval."""


class Clustered(NamedTuple):
    """A ratio of sums over patients with its 95 % percentile bootstrap interval."""

    value: float
    low: float
    high: float
    n: float
    """The sum of the denominators: turns, episodes or whatever is counted."""
    patients: int

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


Sums = Mapping[str, tuple[float, float]]
"""By patient: sum of what is counted, and of what it is a share of."""


def _draws(patients: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    # A generator of its own: the same data give the same interval.
    return np.random.default_rng(20_240_610).integers(0, patients, size=(DRAWS, patients))


def _interval(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, [2.5, 97.5])
    return float(low), float(high)


def ratio(sums: Sums) -> Clustered | None:
    """The share of one sum in another; None when there is nothing to divide by.

    With fewer than two patients the interval is not known and is given as the value itself.
    """
    table = np.array([pair for pair in sums.values() if pair[1]], dtype=float)
    if not len(table):
        return None
    value = float(table[:, 0].sum() / table[:, 1].sum())
    total = float(table[:, 1].sum())
    if len(table) < 2:
        return Clustered(value, value, value, total, len(table))
    drawn = table[_draws(len(table))].sum(axis=1)
    low, high = _interval(drawn[:, 0] / drawn[:, 1])
    return Clustered(value, low, high, total, len(table))


def difference(first: Sums, second: Sums) -> Clustered | None:
    """The second ratio less the first, paired over the patients that both have."""
    shared = sorted(p for p in first if p in second and first[p][1] and second[p][1])
    if not shared:
        return None
    a = np.array([first[p] for p in shared], dtype=float)
    b = np.array([second[p] for p in shared], dtype=float)

    def less(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        change = y[..., 0].sum(axis=-1) / y[..., 1].sum(axis=-1)
        return np.asarray(change - x[..., 0].sum(axis=-1) / x[..., 1].sum(axis=-1))

    value = float(less(a, b))
    total = float(b[:, 1].sum())
    if len(shared) < 2:
        return Clustered(value, value, value, total, len(shared))
    picks = _draws(len(shared))
    low, high = _interval(less(a[picks], b[picks]))
    return Clustered(value, low, high, total, len(shared))


def add_up(rows: Sequence[tuple[str, float, float]]) -> dict[str, tuple[float, float]]:
    """(patient, part, whole) rows, added up by patient."""
    sums: dict[str, tuple[float, float]] = {}
    for patient, part, whole in rows:
        before = sums.get(patient, (0.0, 0.0))
        sums[patient] = (before[0] + part, before[1] + whole)
    return sums
