"""Measured figures, their limits, and how they are shown: what the benchmarks share."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rich.table import Table

from mentalarena.config import Recipe


class Figure(NamedTuple):
    """One measured figure and its limit."""

    name: str
    value: float
    unit: str
    sense: str = ""
    """``>=`` or ``<=``; empty for a figure without a limit."""
    limit: float = 0.0

    @property
    def verdict(self) -> str:
        """``pass``, ``miss``, or empty without a limit."""
        if not self.sense:
            return ""
        kept = self.value >= self.limit if self.sense == ">=" else self.value <= self.limit
        return "pass" if kept else "miss"


def write_recipe(recipe: Recipe, path: Path) -> Path:
    """The recipe as a file for ``--recipe``."""
    lines = [f"{name} = {getattr(recipe, name)}" for name in Recipe.__dataclass_fields__]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def table(title: str, figures: Sequence[Figure]) -> Table:
    """The figures as people read them."""
    shown = Table("figure", "value", "budget", "", title=title)
    shown.columns[1].justify = "right"
    for one in figures:
        budget = f"{one.sense} {one.limit:g} {one.unit}" if one.sense else ""
        shown.add_row(one.name, f"{one.value:.3g} {one.unit}".strip(), budget.strip(), one.verdict)
    return shown
