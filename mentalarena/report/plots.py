"""The plots of a report, as SVG.

Why: a figure with its interval is read faster than a table, and has to look the same when it is
made again: no date, no random name in the file. Only names of ours stand in a plot, never text of a
model or a file; the table under each plot has every number.
"""

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from mentalarena.report.figures import Diversity, Point

_COLORS = ("#2f57c9", "#b35900", "#1a7f37", "#9a1fa0")
_SETTINGS = {
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e5e1",
    "axes.axisbelow": True,
    "figure.constrained_layout.use": True,
}


def points(found: Sequence[Point], axis: str, *, line: bool = False, top: float = 1.0) -> str:
    """Estimates with their intervals; one color a group.

    Args:
        found: what is drawn, in order.
        axis: what the figure is.
        line: join the points of a group, for an axis with an order; otherwise bars lie down.
        top: end of the figure's axis.
    """
    places = list(dict.fromkeys(point.at for point in found))
    groups = list(dict.fromkeys(point.group for point in found))
    height = 3.2 if line else 0.9 + 0.34 * len(places) * max(1, 0.6 * len(groups))

    shared = len(places) < len(found)

    def fill(axes: Any) -> None:
        for number, group in enumerate(groups):
            own = [point for point in found if point.group == group]
            # Beside each other where two groups share a place.
            shift = (number - (len(groups) - 1) / 2) * (0.06 if line else 0.26) * shared
            at = [places.index(point.at) + shift for point in own]
            means = [point.estimate.mean for point in own]
            errors = [_arms(own, "low"), _arms(own, "high")]
            color = _COLORS[number % len(_COLORS)]
            style = {"fmt": "o-" if line else "o", "color": color, "capsize": 3, "label": group}
            if line:
                axes.errorbar(at, means, yerr=errors, **style)
            else:
                axes.errorbar(means, at, xerr=errors, **style)
        ticks = range(len(places))
        if line:
            axes.set_xticks(ticks, places)
            axes.set_ylim(0, top)
            axes.set_ylabel(axis)
            axes.set_xlabel("round")
        else:
            axes.set_yticks(ticks, places)
            axes.set_ylim(len(places) - 0.4, -0.6)
            axes.set_xlim(0, top)
            axes.set_xlabel(axis)
        if len(groups) > 1:
            axes.legend(frameon=False)

    return _drawn(fill, height)


def _arms(found: Sequence[Point], end: str) -> list[float]:
    ends = [(point.estimate.mean, getattr(point.estimate, end)) for point in found]
    return [0.0 if stop is None else abs(stop - mean) for mean, stop in ends]


def tokens(costs: Sequence[dict[str, Any]]) -> str:
    """Tokens in and out by seat."""
    seats = list(dict.fromkeys(row["seat"] for row in costs))

    def fill(axes: Any) -> None:
        left = [0.0] * len(seats)
        for number, (column, name) in enumerate(
            (("prompt_tokens", "in"), ("completion_tokens", "out"))
        ):
            sums = [
                float(sum(row[column] or 0 for row in costs if row["seat"] == seat))
                for seat in seats
            ]
            axes.barh(seats, sums, left=left, color=_COLORS[number], label=name, height=0.55)
            left = [a + b for a, b in zip(left, sums, strict=True)]
        axes.invert_yaxis()
        axes.set_xlabel("tokens")
        axes.legend(frameon=False)

    return _drawn(fill, 0.9 + 0.4 * len(seats))


def distinct(found: Sequence[Diversity]) -> str:
    """Different n-grams among 1,000, by speaker."""

    def fill(axes: Any) -> None:
        for number, one in enumerate(found):
            drawn = [(n, share) for n, share in one.distinct.items() if share is not None]
            at = [n + (number - 0.5) * 0.3 for n, _ in drawn]
            axes.bar(at, [s for _, s in drawn], 0.28, color=_COLORS[number], label=one.speaker)
        axes.set_xticks((1, 2, 3), ("words", "pairs", "triples"))
        axes.set_ylim(0, 1)
        axes.set_ylabel("share of different ones")
        axes.legend(frameon=False)

    return _drawn(fill, 3.0)


def _drawn(fill: Any, height: float) -> str:
    """A figure as a data address, so that the names inside it stay inside."""
    # Without pyplot: it keeps every figure, and looks for a display.
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**_SETTINGS, "svg.hashsalt": "mentalarena"}):
        figure = Figure(figsize=(7.2, height))
        fill(figure.add_subplot())
        out = BytesIO()
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None, "Creator": None})
    return "data:image/svg+xml;base64," + base64.b64encode(out.getvalue()).decode()
