"""The README's picture of the reroute: one real episode, its path and what it understood by round.

Why: a picture drawn by hand shows what its maker wished. This one is laid out from the rows of the
sample session (:mod:`docs.generate`) with the viewer's own drawing, and a test fails when it is
stale.
"""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, PackageLoader, StrictUndefined
from jinja2.loaders import ChoiceLoader

from mentalarena.case import Component
from mentalarena.text import clean
from mentalarena.trajectory import in_order
from mentalarena.view.episode import laid_out
from mentalarena.view.page import GLYPHS, asset

_LINE = 108
"""Characters of a line of speech."""
_ROW, _COLUMN, _LEFT, _TOP = 26, 50, 330, 372


def picture(trajectory: Mapping[str, Any], title: str) -> str:
    """An SVG of an episode: the path through the graph, verdicts by round, the first reroute."""
    page = laid_out(trajectory, {})
    cells, arcs = [], []
    for y, row in enumerate(page["grid"]):
        for cell in row["cells"]:
            x = _LEFT + _COLUMN * cell["round"]
            verdict = cell["deviation"]["verdict"]
            at = {"x": x, "y": _TOP + _ROW * y, "verdict": verdict, "glyph": GLYPHS[verdict]}
            cells.append({**at, "probed": cell["probed"]})
            if cell["probed"]:
                arcs.append(at)
    labels = [
        {"text": Component(row["component"]).label, "y": _TOP + _ROW * y + 5}
        for y, row in enumerate(page["grid"])
    ]
    speech = _first_reroute(trajectory)
    bottom = _TOP + _ROW * len(labels) + 14
    environment = Environment(
        loader=ChoiceLoader(
            [FileSystemLoader(Path(__file__).parent), PackageLoader("mentalarena.view", "pages")]
        ),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(GLYPHS=GLYPHS)
    text = environment.get_template("picture.svg.jinja").render(
        title=title, style=asset("arena.css"), drawing=page["drawing"], cells=cells, arcs=arcs,
        labels=labels, rounds=[{"n": n, "x": _LEFT + _COLUMN * n} for n in page["rounds"]],
        speech=[{**line, "y": bottom + 22 * (i + 1)} for i, line in enumerate(speech)],
        top=_TOP, column=_COLUMN, height=bottom + 22 * (len(speech) + 1),
    )  # fmt: skip
    return clean(text)


def _first_reroute(trajectory: Mapping[str, Any]) -> list[dict[str, str]]:
    """What was told, asked and answered because of round 0, in lines."""
    flow = list(in_order(trajectory))
    start = next(i for i, (kind, row) in enumerate(flow) if kind == "decision" and row["component"])
    decision = flow[start][1]
    told = f"Round {decision['round']} is {decision['decision']}. {decision['guidance']}"
    said = [("sent back", "head", told)]
    for kind, row in flow[start + 1 :]:
        if kind == "decision":
            break
        said.append((row["speaker"], row["speaker"], row["text"]))
    lines = []
    for who, style, text in said:
        for number, line in enumerate(textwrap.wrap(text, _LINE - 14)):
            lines.append({"who": who if number == 0 else "", "style": style, "text": line})
    return lines
