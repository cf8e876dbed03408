"""Rates and areas with intervals: what a calibration reports.

Why: statements of one patient are not independent of each other, so every interval resamples whole
patients. Numbers are drawn from a fixed seed: the same scores give the same report.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
RESAMPLES = 1000


def auc(right: Floats, wrong: Floats) -> float:
    """Chance that a right statement scores above a wrong one; ties count half."""
    if not right.size or not wrong.size:
        return float("nan")
    order = np.sort(wrong)
    below = np.searchsorted(order, right, "left")
    upto = np.searchsorted(order, right, "right")
    return float((below + upto).sum() / (2 * right.size * wrong.size))


def clustered(
    figure: Callable[[npt.NDArray[np.int64]], float],
    clusters: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """A figure with its 95 % interval from a bootstrap over clusters (percentiles).

    Both are None where the figure is not defined.

    Args:
        figure: from the indices of rows, some more than once.
        clusters: whose each row is.
        resamples: how often clusters are drawn anew.
        seed: of the draws.
    """
    names = sorted(set(clusters))
    of = np.asarray(clusters)
    rows = [np.flatnonzero(of == name) for name in names]
    draw = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        chosen = draw.integers(0, len(names), len(names))
        value = figure(np.concatenate([rows[index] for index in chosen]))
        if np.isfinite(value):
            drawn.append(value)
    value = figure(np.arange(len(of)))
    if not np.isfinite(value) or not drawn:
        return {"value": None, "interval": None, "n": len(of), "clusters": len(names)}
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {
        "value": round(value, 4),
        "interval": [round(float(low), 4), round(float(high), 4)],
        "n": len(of),
        "clusters": len(names),
    }


def fit_logistic(
    features: Floats, right: Flags, weights: Floats, *, steps: int = 4000, ridge: float = 1e-3
) -> tuple[float, Floats]:
    """Bias and weights of a logistic model in which no weight is negative.

    A figure of likeness that counted *against* a statement would have learned how the statements
    were written, not whether they are true. Projected gradient descent on scaled features.
    """
    scale = features.std(axis=0)
    scale[scale == 0] = np.inf  # a figure that never differs weighs nothing
    scaled = features / scale
    weights = weights / weights.sum()
    design = np.column_stack([np.ones(len(scaled)), scaled])
    step = 4 / float(np.linalg.eigvalsh((design * weights[:, None]).T @ design)[-1])
    found = np.zeros(design.shape[1])
    for _ in range(steps):
        chance = 1 / (1 + np.exp(-(design @ found)))
        slope = design.T @ (weights * (chance - right))
        slope[1:] += ridge * found[1:]
        found -= step * slope
        found[1:] = np.maximum(found[1:], 0.0)
    return float(found[0]), found[1:] / scale
