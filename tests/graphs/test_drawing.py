"""The viewer's drawing is that of the graph as it is compiled."""

from itertools import pairwise

from graphs.arena import NODES, graph
from mentalarena.view.drawing import EDGES, REROUTE, draw
from mentalarena.view.drawing import NODES as DRAWN


def test_every_node_and_edge_of_the_graph_is_drawn() -> None:
    def name(node: str) -> str:
        return node.strip("_").upper() if node.startswith("__") else node

    compiled = {(name(edge.source), name(edge.target)) for edge in graph.get_graph().edges}
    assert set(EDGES) == compiled
    assert set(DRAWN) == {*NODES, "START", "END"}


def test_reroutes_stand_out_and_an_early_end_is_marked() -> None:
    path = ["START", "encode", "patient", "formulate", "decode", "therapist", "patient"]
    steps = pairwise(path)
    rows = [{"source": a, "target": b, "step": i, "reason": f"why {i}"}
            for i, (a, b) in enumerate(steps)]  # fmt: skip
    drawing = draw(rows, finished=False)
    kinds = {edge.path: edge.kind for edge in drawing.edges}
    assert list(kinds.values()).count("reroute") == 1
    assert list(kinds.values()).count("taken") == len(rows) - 1
    (reroute,) = (edge for edge in drawing.edges if edge.kind == "reroute")
    assert reroute.label == "↺ ×1"
    assert reroute.title == " → ".join(REROUTE) + "\nstep 4: why 4"
    assert {node.name for node in drawing.nodes if node.kind == "last"} == {"patient"}
    assert {node.name for node in drawing.nodes if node.kind == "pale"} >= {"close", "END"}
    assert not drawing.strangers
    assert "sent back from decode to therapist once" in drawing.summary
    assert all(node.kind != "last" for node in draw(rows, finished=True).nodes)
