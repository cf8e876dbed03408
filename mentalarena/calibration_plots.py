"""Plots of a calibration: what the scores mean, and where right and wrong statements lie.

Why: a table of areas hides whether a score of 0.8 is right eight times in ten, and how much the
two kinds overlap. Needs matplotlib (``pip install "mentalarena[plots]"``), which nothing else does.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mentalarena.errors import ConfigurationError
from mentalarena.labelled import RIGHT

BINS = 10
_NAMES = {
    "right": "right (paraphrase, partial)",
    "other_patient": "another patient's",
    "other_component": "another component's",
    "vague": "vague",
    "distorted": "distorted",
}
_COLORS = {
    "right": "#1b6ca8", "other_patient": "#c44e52", "other_component": "#dd8452",
    "vague": "#8c8c8c", "distorted": "#7b4f9e",
}  # fmt: skip

Plotted = Mapping[str, Sequence[tuple[str, float]]]
"""Per part of the data: kind and score of each statement."""


def pyplot() -> Any:
    """Matplotlib's plotting module, drawing into files only.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot as plt
    except ImportError as error:
        raise ConfigurationError(
            'plots need matplotlib, which is not installed: pip install "mentalarena[plots]", '
            "or leave --plots out"
        ) from error
    return plt


def draw(plotted: Plotted, folder: Path) -> list[Path]:
    """Write ``reliability.png`` and ``scores.png``; their paths.

    Raises:
        ConfigurationError: matplotlib is missing, or the folder cannot be written.
    """
    plt = pyplot()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return [_reliability(plt, plotted, folder), _histograms(plt, plotted, folder)]
    except OSError as error:
        raise ConfigurationError(f"--plots {folder} cannot be written: {error.strerror}") from error


def reliability(rows: Sequence[tuple[str, float]]) -> list[tuple[float, float, int]]:
    """Per tenth of the score: mean score, share of right statements, number.

    Right statements weigh as much as wrong ones, and each kind of wrong ones but ``distorted``
    alike, as the weights were fitted.
    """
    kinds = ["right" if kind in RIGHT else kind for kind, _ in rows]
    shares = {"right": 1.0, "other_patient": 1 / 3, "other_component": 1 / 3, "vague": 1 / 3}
    weight = np.array([shares.get(kind, 0.0) / kinds.count(kind) for kind in kinds])
    score = np.array([value for _, value in rows])
    right = np.array([kind == "right" for kind in kinds])
    which = np.minimum((score * BINS).astype(int), BINS - 1)
    found = []
    for number in range(BINS):
        here = (which == number) & (weight > 0)
        total = weight[here].sum()
        if total > 0:
            found.append((
                float((score[here] * weight[here]).sum() / total),
                float(weight[here & right].sum() / total),
                int(here.sum()),
            ))  # fmt: skip
    return found


def _reliability(plt: Any, plotted: Plotted, folder: Path) -> Path:
    figure, axes = plt.subplots(figsize=(5.2, 4.8), dpi=110)
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, label="as it should be")
    for part, marker, color in (("tuning", "o", "#8c8c8c"), ("test", "s", "#1b6ca8")):
        points = reliability(plotted[part])
        label = "train and dev, out of fold" if part == "tuning" else "test patients"
        axes.plot([p[0] for p in points], [p[1] for p in points], marker=marker, color=color,
                  label=label)  # fmt: skip
    axes.set(xlabel="score", ylabel="share of right statements", xlim=(0, 1), ylim=(0, 1),
             title="Reliability of the decoder's score")  # fmt: skip
    axes.legend(frameon=False, loc="upper left")
    return _save(plt, figure, folder / "reliability.png")


def _histograms(plt: Any, plotted: Plotted, folder: Path) -> Path:
    kinds = list(_NAMES)
    figure, grid = plt.subplots(len(kinds), 1, figsize=(6.4, 7.2), dpi=110, sharex=True)
    edges = np.linspace(0, 1, 41)
    for axes, kind in zip(grid, kinds, strict=True):
        values = [v for k, v in plotted["test"] if (k in RIGHT if kind == "right" else k == kind)]
        axes.hist(values, bins=edges, density=True, color=_COLORS[kind])
        axes.set_yticks([])
        axes.set_title(f"{_NAMES[kind]} (n = {len(values)})", loc="left", fontsize=9)
    grid[-1].set_xlabel("score")
    figure.suptitle("Scores of test patients' statements", fontsize=11)
    return _save(plt, figure, folder / "scores.png")


def _save(plt: Any, figure: Any, path: Path) -> Path:
    figure.tight_layout()
    # No version or date in the file: the same scores give the same picture.
    figure.savefig(path, metadata={"Software": None})
    plt.close(figure)
    return path
