"""Error bars: intervals, paired tests, corrections, and what a set is too small to show.

Why: a difference without an interval is an anecdote, and items that hang together (turns of one
patient, repeats of one question) are fewer than they look. Wilson intervals, exact tests and
bootstrap are scipy's; balanced accuracy and F1 are checked against scikit-learn, and the rest
against published examples and statsmodels, in ``tests/training/test_statistics.py``.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEVEL = 0.95
POWER = 0.8
RESAMPLES = 2000
FEW_CLUSTERS = 20
"""Below it a bootstrap over clusters is too narrow, and Student's t with one degree of freedom less
than there are clusters stands in."""
TINY = 100
"""Items below which a set is called small."""
SCARCE = 10
"""Items of a class below which figures that weigh classes alike are called shaky."""
LOPSIDED = 0.9
"""Share of one class from which a set is called degenerate."""


class Estimate(NamedTuple):
    """A mean and how well it is known."""

    value: float
    low: float | None
    """Lower end of the interval; None where there is nothing to tell it from."""
    high: float | None
    error: float | None
    """Standard error."""
    n: int
    clusters: int
    method: str
    """How the interval was made."""

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return self._asdict()


def wilson(right: float, n: float) -> tuple[float, float]:
    """Wilson's score interval; numbers need not be whole."""
    z = _z(LEVEL)
    middle = (right + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(right * (n - right) / n + z * z / 4)
    # Where all are alike one end is exact, whatever the rounding of the sum says.
    return (0.0 if right <= 0 else middle - half), (1.0 if right >= n else middle + half)


def _z(level: float) -> float:
    return float(stats.norm.ppf(0.5 + level / 2))


def mean(values: Sequence[float], clusters: Sequence[str], *, share: bool = False) -> Estimate:
    """The mean of ``values`` with an interval that knows of clusters.

    Args:
        values: One an item.
        clusters: What each belongs to, such as a patient or a question.
        share: Whether values are from 0 to 1 (mostly either): then Wilson's interval is used where
            each item is a cluster of its own, and where all values are alike.
    """
    x = np.asarray(values, dtype=float)
    sums, counts = _by_cluster(x, clusters)
    n, k = len(x), len(counts)
    if n == 0:
        return Estimate(math.nan, None, None, None, 0, 0, "none")
    value = float(x.mean())
    error = _clustered_error(sums, counts, value)
    if share and (k == n or not error):
        # All alike within few clusters: what is known is no more than so many clusters tell.
        low, high = wilson(value * k, k)
        method = "Wilson" if k == n else f"Wilson over {k} clusters"
        return Estimate(value, low, high, error, n, k, method)
    if error is None:
        return Estimate(value, None, None, None, n, k, "one cluster")
    if k < FEW_CLUSTERS:
        reach = float(stats.t.ppf(0.5 + LEVEL / 2, k - 1)) * error
        low, high = value - reach, value + reach
        method = f"t over {k} clusters"
    else:
        low, high = bootstrap(lambda chosen: sums[chosen].sum(-1) / counts[chosen].sum(-1), k)
        method = f"bootstrap over {k} clusters" if k < n else "bootstrap"
    if share:
        low, high = max(0.0, low), min(1.0, high)
    return Estimate(value, low, high, error, n, k, method)


def _by_cluster(x: Floats, clusters: Sequence[str]) -> tuple[Floats, Floats]:
    names, place = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    sums, counts = np.zeros(len(names)), np.zeros(len(names))
    np.add.at(sums, place, x)
    np.add.at(counts, place, 1.0)
    return sums, counts


def _clustered_error(sums: Floats, counts: Floats, value: float) -> float | None:
    """Standard error of a mean whose items come in clusters (linearized, small-sample factor)."""
    k = len(counts)
    if k < 2:
        return None
    off = sums - value * counts
    return float(math.sqrt(k / (k - 1) * float((off**2).sum())) / counts.sum())


def bootstrap(statistic: Callable[[Ints], Floats], clusters: int) -> tuple[float, float]:
    """Percentile interval of a statistic of clusters drawn with replacement.

    Args:
        statistic: Given positions of clusters, shape (..., clusters), the statistic of each draw.
        clusters: How many there are.
    """
    found = stats.bootstrap(
        (np.arange(clusters),),
        lambda drawn, axis=-1: statistic(drawn),
        n_resamples=RESAMPLES,
        vectorized=True,
        batch=200,
        confidence_level=LEVEL,
        method="percentile",
        rng=np.random.default_rng(0),
    )
    low, high = found.confidence_interval
    return float(low), float(high)


# --- several classes -----------------------------------------------------------------------------


class Classes(NamedTuple):
    """How an answer agrees with the truth, class by class."""

    balanced: Estimate
    """Balanced accuracy: the mean of the classes' recalls."""
    macro_f1: Estimate


def classes(
    gold: Sequence[str], predicted: Sequence[str | None], clusters: Sequence[str]
) -> Classes:
    """Balanced accuracy and macro-F1 over the classes that occur in ``gold``.

    An answer that could not be read, or names a class that does not occur, counts against the
    recall of its item's class and for no class's precision.
    """
    names = sorted(set(gold))
    codes = {name: code for code, name in enumerate(names)}
    others = len(names)
    groups, place = np.unique(np.asarray(clusters, dtype=object).astype(str), return_inverse=True)
    table = np.zeros((len(groups), len(names), len(names) + 1))
    for at, true, said in zip(place, gold, predicted, strict=True):
        table[at, codes[true], codes.get(said or "", others)] += 1

    def of(statistic: Callable[[Floats], Floats]) -> Estimate:
        value = float(statistic(table.sum(0)))
        low: float | None = None
        high: float | None = None
        if len(groups) > 1:
            low, high = bootstrap(lambda chosen: statistic(table[chosen].sum(-3)), len(groups))
        method = f"bootstrap over {len(groups)} clusters"
        return Estimate(value, low, high, None, len(gold), len(groups), method)

    return Classes(of(_balanced), of(_macro_f1))


def _balanced(table: Floats) -> Floats:
    """Mean recall of confusion tables, shape (..., gold, predicted); classes not drawn left out."""
    hits = np.diagonal(table, axis1=-2, axis2=-1)
    totals = table.sum(-1)
    there = totals > 0
    recalls = np.divide(hits, totals, out=np.zeros_like(hits), where=there)
    return np.asarray(recalls.sum(-1) / there.sum(-1))


def _macro_f1(table: Floats) -> Floats:
    hits = np.diagonal(table, axis1=-2, axis2=-1)
    totals, said = table.sum(-1), table[..., :, :-1].sum(-2)
    there = totals > 0
    scores = np.divide(2 * hits, totals + said, out=np.zeros_like(hits), where=there)
    return np.asarray(scores.sum(-1) / there.sum(-1))


# --- two models ----------------------------------------------------------------------------------


class Paired(NamedTuple):
    """One model against another on the same items."""

    difference: Estimate
    p: float | None
    """Two-sided; None where nothing can be tested."""
    test: str
    only_first: int
    """Items that the first has right and the second has not; 0 where values are no shares."""
    only_second: int
    detectable: float | None
    """The smallest true difference that this many items would show 8 times in 10."""

    @property
    def discordant(self) -> int:
        """Items on which they differ."""
        return self.only_first + self.only_second


def paired(
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[str],
    *,
    share: bool = False,
) -> Paired:
    """The mean difference first minus second over the same items.

    Args:
        first: Values of one model, item by item.
        second: Values of the other on the same items.
        clusters: What each item belongs to.
        share: Whether values are 0 or 1: then the test is McNemar's exact one where items are
            independent. In all other cases it is a t test over clusters.
    """
    one, two = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    difference = mean((one - two).tolist(), clusters)
    only_first, only_second = int((one > two).sum()), int((one < two).sum())
    p: float | None
    if share and difference.clusters == difference.n:
        p, test = mcnemar(only_first, only_second), "McNemar, exact"
    elif difference.error is None:
        p, test = None, "none: one cluster"
    elif difference.error == 0:
        p, test = None, "none: no variation"
    else:
        t = abs(difference.value) / difference.error
        p = float(2 * stats.t.sf(t, difference.clusters - 1))
        test = f"t over {difference.clusters} clusters"
    return Paired(difference, p, test, only_first, only_second, detectable(difference.error))


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p of McNemar's test on the discordant items."""
    if only_first + only_second == 0:
        return 1.0
    return float(stats.binomtest(only_first, only_first + only_second, 0.5).pvalue)


def detectable(error: float | None) -> float | None:
    """The smallest true difference that is found at the 5 % level with a power of 80 %.

    Args:
        error: Standard error of the difference, clusters taken into account.
    """
    return None if not error else (_z(LEVEL) + float(stats.norm.ppf(POWER))) * error


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's correction for several tests; None stays None and is not counted."""
    order = sorted((p, at) for at, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, at) in enumerate(order):
        highest = max(highest, min(1.0, p * (len(order) - rank)))
        adjusted[at] = highest
    return adjusted
