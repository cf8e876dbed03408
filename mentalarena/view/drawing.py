"""The path of one episode through the graph, drawn as SVG.

Why: that the decoder changes the path is the point of the method, so the path is drawn: steps taken
are solid, reroutes stand out, what was never reached stays pale. Where a node stands is fixed here;
a test compares nodes and edges with the compiled graph, which this package does not import.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

WIDTH, HEIGHT = 720, 292
_HALF_W, _HALF_H = 41, 17

NODES: Mapping[str, tuple[int, int]] = {
    "START": (22, 40), "encode": (110, 40), "patient": (280, 40), "therapist": (480, 40),
    "safety": (280, 130), "formulate": (480, 130), "decode": (650, 130),
    "diagnose": (650, 220), "confirm": (540, 220), "propose": (430, 220), "trial": (320, 220),
    "score": (210, 220), "close": (100, 220), "END": (22, 220),
}  # fmt: skip
"""Centers."""
_ENDS = ("START", "END")

EDGES: Mapping[tuple[str, str], int] = {
    ("START", "encode"): 0, ("encode", "patient"): 0, ("patient", "therapist"): -16,
    ("therapist", "patient"): -16, ("patient", "safety"): 10, ("safety", "patient"): 10,
    ("patient", "formulate"): 0, ("formulate", "decode"): 0, ("decode", "therapist"): 18,
    ("decode", "diagnose"): 0, ("diagnose", "confirm"): 0, ("confirm", "propose"): 0,
    ("propose", "trial"): 0, ("trial", "score"): 0, ("score", "propose"): -46,
    ("score", "close"): 0, ("close", "END"): 0,
}  # fmt: skip
"""Every edge of the graph, and how far it bends to its left."""
REROUTE = ("decode", "therapist")


class Edge(NamedTuple):
    """One line of the drawing."""

    kind: str
    """``taken``, ``reroute`` or ``pale``."""
    path: str
    """SVG path data."""
    width: float
    label: str
    """How often it was taken, when more than once; empty otherwise."""
    x: float
    y: float
    """Where the label stands."""
    title: str
    """Every step taken along it, with its reason; shown when pointed at."""


class Node(NamedTuple):
    """One box of the drawing."""

    name: str
    kind: str
    """``visited``, ``last`` (where the episode ended early) or ``pale``."""
    x: int
    y: int
    is_end: bool


class Drawing(NamedTuple):
    """What the template draws."""

    edges: Sequence[Edge]
    nodes: Sequence[Node]
    strangers: Sequence[str]
    """Steps along edges that this version does not know."""
    summary: str
    """The drawing in words, for those who do not see it."""


def draw(routes: Iterable[Mapping[str, Any]], finished: bool) -> Drawing:
    """The drawing of an episode's rows of ``routes``.

    Args:
        routes: source, target, step and reason, in the order of steps.
        finished: whether the episode came to its end; otherwise its last node is marked.
    """
    taken: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    last = "START"
    for route in routes:
        taken[route["source"], route["target"]].append(route)
        last = route["target"]
    visited = {name for edge in taken for name in edge}
    edges = [_edge(edge, bend, taken.get(edge, [])) for edge, bend in EDGES.items()]
    # The lines that matter lie on top.
    edges.sort(key=lambda edge: ("pale", "taken", "reroute").index(edge.kind))
    nodes = []
    for name, (x, y) in NODES.items():
        kind = "visited" if name in visited else "pale"
        if name == last and not finished and taken:
            kind = "last"
        nodes.append(Node(name, kind, x, y, name in _ENDS))
    strangers = [f"{a} → {b}, {len(steps)} times" for (a, b), steps in taken.items()
                 if (a, b) not in EDGES]  # fmt: skip
    reroutes = len(taken.get(REROUTE, []))
    steps = sum(len(found) for found in taken.values())
    times = "once" if reroutes == 1 else f"{reroutes} times"
    summary = f"Path of {steps} steps; sent back from decode to therapist {times}; last: {last}."
    return Drawing(edges, nodes, strangers, summary)


def _edge(edge: tuple[str, str], bend: int, steps: Sequence[Mapping[str, Any]]) -> Edge:
    (x1, y1), (x2, y2) = _border(edge[0], edge[1], bend), _border(edge[1], edge[0], -bend)
    dx, dy = x2 - x1, y2 - y1
    length = max((dx * dx + dy * dy) ** 0.5, 1.0)
    # The control point of the curve lies beside its middle.
    cx, cy = (x1 + x2) / 2 + dy / length * bend, (y1 + y2) / 2 - dx / length * bend
    path = f"M{x1:.0f} {y1:.0f}Q{cx:.0f} {cy:.0f} {x2:.0f} {y2:.0f}"
    kind = "pale" if not steps else "reroute" if edge == REROUTE else "taken"
    label = f"×{len(steps)}" if len(steps) > 1 else ""
    mark = f"↺ {label or '×1'}" if kind == "reroute" else label
    where = (x1 + 2 * cx + x2) / 4, (y1 + 2 * cy + y2) / 4
    title = "\n".join(f"step {s['step']}: {s['reason']}" for s in steps)
    return Edge(
        kind,
        path,
        min(1.2 + 0.4 * len(steps), 3.2),
        mark,
        *where,
        f"{edge[0]} → {edge[1]}\n{title}",
    )


def _border(name: str, toward: str, bend: int) -> tuple[float, float]:
    """Where a line from ``name`` to ``toward`` leaves its box; a bent one, beside the middle."""
    (x, y), (tx, ty) = NODES[name], NODES[toward]
    if name in _ENDS:
        return x + 11, y
    dx, dy = tx - x, ty - y
    shift = max(-14, min(14, bend / 2))
    if (name, toward) in (("score", "propose"), ("propose", "score")):
        # Below the boxes, round those that stand between.
        return x, y + _HALF_H
    if abs(dx) * _HALF_H > abs(dy) * _HALF_W:
        side = 1 if dx > 0 else -1
        return x + side * _HALF_W, y - side * shift
    side = 1 if dy > 0 else -1
    return x + side * shift + dx * _HALF_H / max(abs(dy), 1), y + side * _HALF_H
