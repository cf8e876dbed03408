"""What the page of one episode shows, gathered from its trajectory.

Why: the same gathering serves the viewer and ``mentalarena show --html``; a template only lays it
out.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from mentalarena.case import COMPONENTS
from mentalarena.store_api import ReadableStore
from mentalarena.trajectory import in_order, read_trajectory, record_by_component
from mentalarena.view.drawing import draw
from mentalarena.view.page import Links, render

SPEAKING = ("patient", "therapist", "safety")
"""Nodes that add one turn each time they run."""


def episode_page(store: ReadableStore, episode_id: str, links: Links | None = None) -> str:
    """The page of a stored episode; without ``links`` one that stands alone.

    Raises:
        StoreError: the store cannot be read.
        IndexError: it holds no such episode.
    """
    return render("episode.html", links=links, **gathered(store, episode_id))


def gathered(store: ReadableStore, episode_id: str) -> dict[str, Any]:
    """Everything the template needs, from the store."""
    trajectory = read_trajectory(store, episode_id)
    names = template_names(store, {call["template_hash"] for call in trajectory["calls"]})
    return laid_out(trajectory, names)


def laid_out(trajectory: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Everything the template needs, from a trajectory and the names of its prompt templates."""
    episode = trajectory["episode"]
    calls = {call["id"]: dict(call) for call in trajectory["calls"]}
    for call in calls.values():
        call["template"] = names.get(call["template_hash"], call["template_hash"][:12])
    anchors = _anchors(trajectory)
    record = record_by_component(trajectory)
    return {
        **trajectory,
        "title": f"{episode['id']} · {trajectory['case']['id']}",
        "live": episode["status"] == "running",
        "flow": _flow(trajectory),
        "grid": _grid(trajectory, record),
        "rounds": [decision["round"] for decision in trajectory["decisions"]],
        "calls_by_id": calls,
        "drawing": draw(trajectory["routes"], episode["status"] == "ok"),
        "anchors": anchors,
        "tries": _tries(trajectory),
        "costs": _costs(trajectory["calls"]),
        "config": _seats(trajectory["run"]["config"]),
    }


def template_names(store: ReadableStore, hashes: set[str]) -> dict[str, str]:
    """Names of prompt templates by their hash."""
    marks = ", ".join("?" * len(hashes))
    rows = store.fetch(f"select hash, name from templates where hash in ({marks})", sorted(hashes))
    return {row["hash"]: row["name"] for row in rows}


def _seats(config: Mapping[str, Any]) -> dict[str, Any]:
    return {role: config.get(role, "?") for role in ("patient", "therapist", "manager", "judge")}


def _flow(trajectory: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Turns and decisions as they came; a decision carries the counts of its verdicts."""
    verdicts: dict[int, list[str]] = defaultdict(list)
    for deviation in trajectory["deviations"]:
        verdicts[deviation["round"]].append(deviation["verdict"])
    flow = []
    for kind, row in in_order(trajectory):
        counts = {}
        if kind == "decision":
            found = verdicts[row["round"]]
            counts = {verdict: found.count(verdict) for verdict in dict.fromkeys(sorted(found))}
        flow.append({"kind": kind, "row": row, "counts": counts})
    return flow


def _grid(
    trajectory: Mapping[str, Any], record: Mapping[Any, Sequence[str]]
) -> list[dict[str, Any]]:
    """One row a component: what the record says, and a cell for each round."""
    stated = {(f["round"], f["component"]): f for f in trajectory["formulations"]}
    judged = {(d["round"], d["component"]): d for d in trajectory["deviations"]}
    bent = {(i["round"], i["component"]): i for i in trajectory["injections"]}
    probed = {d["round"]: d["component"] for d in trajectory["decisions"]}
    rows = []
    for component in COMPONENTS:
        cells = []
        for round_ in [decision["round"] for decision in trajectory["decisions"]]:
            key = round_, component.value
            cells.append(
                {
                    "round": round_,
                    "deviation": judged.get(key),
                    "formulation": stated.get(key),
                    "injection": bent.get(key),
                    "probed": probed[round_] == component.value,
                }
            )
        rows.append({"component": component.value, "record": record[component], "cells": cells})
    return rows


def _anchors(trajectory: Mapping[str, Any]) -> dict[int, str]:
    """Where on the page what happened in a step is shown, by step."""
    turns = iter(trajectory["turns"])
    decisions = iter(trajectory["decisions"])
    anchors: dict[int, str] = {}
    for route in trajectory["routes"]:
        if route["source"] in SPEAKING and (turn := next(turns, None)) is not None:
            anchors[route["step"]] = f"turn-{turn['idx']}"
        elif route["source"] == "decode" and (decision := next(decisions, None)) is not None:
            anchors[route["step"]] = f"round-{decision['round']}"
        elif route["source"] in ("confirm", "diagnose"):
            anchors[route["step"]] = "diagnoses"
        elif route["source"] in ("propose", "trial", "score"):
            anchors[route["step"]] = "plans"
    return anchors


def _tries(trajectory: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Plans in the order tried, each with its samples of scores."""
    scores: dict[tuple[str, int], list[Mapping[str, Any]]] = defaultdict(list)
    for score in trajectory["scores"]:
        scores[score["kind"], score["attempt"]].append(score)
    return [
        {"kind": kind, "plans": [{**p, "scores": scores[kind, p["attempt"]]} for p in plans]}
        for kind, plans in groupby(trajectory["plans"], key=lambda plan: plan["kind"])
    ]


def _costs(calls: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Calls, tokens, cost and time by seat."""
    rows = []
    for seat in dict.fromkeys(call["seat"] for call in calls):
        own = [call for call in calls if call["seat"] == seat]
        priced = [call["cost"] for call in own if call["cost"] is not None]
        rows.append(
            {
                "seat": seat,
                "calls": len(own),
                "unusable": sum(call["failure"] is not None for call in own),
                "prompt_tokens": sum(call["prompt_tokens"] or 0 for call in own),
                "completion_tokens": sum(call["completion_tokens"] or 0 for call in own),
                "cost": sum(priced) if priced else None,
                "seconds": sum(call["latency_ms"] for call in own) / 1000,
            }
        )
    return rows
