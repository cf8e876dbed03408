"""A loop in six pictures: what the paper looks at after the fact, iteration by iteration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mentalarena.errors import ConfigurationError
from mentalarena.models import require
from training.selfplay.loop import gain

BLUE, ORANGE, GREEN, RED = "#3b6ea5", "#d98c3f", "#5b8c5a", "#b5443c"
_SHADES = ("#3b6ea5", "#d98c3f", "#5b8c5a", "#8a6fae", "#b5443c", "#6b6b6b", "#c9a227", "#4aa3a2")


def draw(found: Mapping[str, Any], path: Path) -> bool:
    """Draw a loop; False, and no file, where matplotlib is not installed or nothing was measured.

    Args:
        found: From :func:`training.selfplay.loop.told`.
        path: The PNG file to write.
    """
    try:
        require("matplotlib", "mentalarena[plots]")
    except ConfigurationError:
        return False
    rows = [row for row in found["iterations"] if row["measures"]]
    if not rows:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7.5), layout="constrained")
    axes = figure.subplots(2, 3)
    numbers = [row["iteration"] for row in rows]
    _gain(axes[0][0], rows)
    _shares(axes[0][1], rows, numbers)
    _lines(axes[0][2], rows, numbers, {"novelty": BLUE, "diversity": GREEN},
           "distance of rows", "novelty: to earlier ones\ndiversity: to each other")  # fmt: skip
    _labels(axes[1][0], rows, numbers)
    _lines(axes[1][1], rows, numbers, {"perplexity": BLUE}, "under the first model",
           "perplexity of taught answers")  # fmt: skip
    _losses(axes[1][2], rows)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"{found['run']}: began with {found['began_with']}")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    return True


def _gain(axis: Any, rows: list[dict[str, Any]]) -> None:
    colors = {"promote": GREEN, "keep": ORANGE, "stop": RED}
    for row in rows:
        value = gain(row)
        if value is None:
            axis.annotate(
                "not\nmeasured", (row["iteration"], 0), ha="center", va="bottom", color="#777"
            )
            continue
        axis.errorbar(
            row["iteration"], value["value"],
            yerr=[[value["value"] - value["low"]], [value["high"] - value["value"]]],
            fmt="o", capsize=4, color=colors.get(row["decision"], BLUE),
        )  # fmt: skip
    axis.axhline(0, color="#999", linewidth=0.8)
    axis.set(title="gain in understanding on dev\ngreen promoted, orange kept before, red stopped",
             xlabel="iteration", ylabel="difference, 95 % interval")  # fmt: skip
    _whole(axis, [row["iteration"] for row in rows])


def _whole(axis: Any, numbers: list[int]) -> None:
    axis.set_xticks(numbers)
    axis.set_xlim(min(numbers) - 0.5, max(numbers) + 0.5)


def _shares(axis: Any, rows: list[dict[str, Any]], numbers: list[int]) -> None:
    names = {"funnel_yield": GREEN, "duplicates": ORANGE, "safety": RED, "label_entropy": BLUE}
    _lines(axis, rows, numbers, names, "share", "what the gates see of the data")
    axis.set_ylim(-0.03, None)


def _lines(
    axis: Any, rows: list[dict[str, Any]], numbers: list[int], names: Mapping[str, str],
    label: str, title: str,
) -> None:  # fmt: skip
    for name, color in names.items():
        points = [(n, row["measures"].get(name)) for n, row in zip(numbers, rows, strict=True)]
        known = [(n, value) for n, value in points if value is not None]
        if known:
            axis.plot(*zip(*known, strict=True), "o-", color=color, label=name.replace("_", " "))
    axis.set(xlabel="iteration", ylabel=label, title=title)
    _whole(axis, numbers)
    if axis.lines:
        axis.legend(frameon=False)


def _labels(axis: Any, rows: list[dict[str, Any]], numbers: list[int]) -> None:
    """Shares of the taught diagnoses, the commonest over all iterations first."""
    totals: dict[str, int] = {}
    for row in rows:
        for code, count in row["measures"].get("labels", {}).items():
            totals[code] = totals.get(code, 0) + count
    shown = sorted(totals, key=lambda code: -totals[code])[: len(_SHADES) - 1]
    bottoms = [0.0] * len(rows)
    for code, color in zip([*shown, "others"], _SHADES, strict=False):
        shares = []
        for row in rows:
            labels = row["measures"].get("labels", {})
            whole = sum(labels.values()) or 1
            count = labels.get(code, 0) if code != "others" else sum(
                n for one, n in labels.items() if one not in shown
            )  # fmt: skip
            shares.append(count / whole)
        axis.bar(numbers, shares, bottom=bottoms, color=color, label=code, width=0.6)
        bottoms = [low + share for low, share in zip(bottoms, shares, strict=True)]
    axis.set(title="taught diagnoses (ICD-10-CM)", xlabel="iteration", ylabel="share")
    _whole(axis, numbers)
    if shown:
        # Beside the bars, which fill the whole height; from the top as they lie on each other.
        axis.legend(
            frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), reverse=True
        )


def _losses(axis: Any, rows: list[dict[str, Any]]) -> None:
    for row, color in zip(rows, _SHADES * 9, strict=False):
        facts = (row["stages"].get("train") or {}).get("facts")
        if facts and facts["dev_loss"]:
            axis.plot(*zip(*facts["dev_loss"], strict=True), "o-", color=color,
                      label=f"iteration {row['iteration']}")  # fmt: skip
    axis.set(title="loss on dev patients while training", xlabel="step", ylabel="nats a token")
    if axis.lines:
        axis.legend(frameon=False)
