"""One episode read back from the store, whole: what ``show``, exports and audits look at.

Why: a trajectory is spread over a dozen tables; this puts it together again in one plain structure,
in a fixed order, so that two runs of the same seed can be compared byte for byte.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from mentalarena.component import COMPONENTS, Component
from mentalarena.errors import StoreError
from mentalarena.store_api import ReadableStore

_ORDER = {
    "turns": "idx",
    "formulations": "round, component",
    "deviations": "round, component",
    "decisions": "round",
    "injections": "round, component",
    "routes": "step",
    "flags": "place, idx, n",
    "fidelity": "idx",
    "diagnoses": "idx",
    "diagnosis_codes": "idx, n",
    "plans": "kind desc, attempt",
    "scores": "kind desc, attempt, sample",
    "errors": "attempt, boundary, message, id",
    "calls": "attempt, step, node, purpose, sample, reask",
}
_JSON = {
    "turns": ("disclosed", "crisis"),
    "diagnoses": ("crisis",),
    "plans": ("crisis",),
    "formulations": ("quotes",),
    "fidelity": ("estimated", "contradicted"),
    "episodes": ("principle_scores",),
    "cases": ("record", "parents"),
}
VOLATILE = (
    "id", "episode_id", "run_id", "call_id", "response_call_id", "sample", "started_at",
    "finished_at", "created_at", "latency_ms", "parent",
)  # fmt: skip
"""Keys that differ between two equal episodes: ids and times."""


def last_episode(store: ReadableStore) -> str:
    """Id of the episode that was started last.

    Raises:
        StoreError: the store holds no episode.
    """
    rows = store.fetch("select id from episodes order by started_at desc, rowid desc limit 1")
    if not rows:
        raise StoreError("the store holds no episode yet: play one with `mentalarena run`")
    return str(rows[0]["id"])


def find_episode(store: ReadableStore, prefix: str) -> str:
    """The id of the one episode that begins with ``prefix``.

    Raises:
        StoreError: there is none, or more than one.
    """
    rows = store.fetch(
        "select id from episodes where substr(id, 1, ?) = ? order by id limit 6",
        (len(prefix), prefix),
    )
    if len(rows) == 1:
        return str(rows[0]["id"])
    if not rows:
        raise StoreError(f"no episode {prefix!r} in the store: `mentalarena show` shows the last")
    found = ", ".join(row["id"] for row in rows)
    raise StoreError(f"{prefix!r} fits several episodes: {found}")


def read_trajectory(store: ReadableStore, episode_id: str) -> dict[str, Any]:
    """Everything the store holds of one episode, as plain JSON values.

    Keys: ``episode``, ``run``, ``case``, and one list per table, each in a fixed order.
    """
    import json

    def rows(table: str, where: str, key: str, order: str = "1") -> list[dict[str, Any]]:
        found = store.fetch(f"select * from {table} where {where} = ? order by {order}", (key,))
        for row in found:
            if table == "turns":
                del row["id"]
            for column in _JSON.get(table, ()):
                if row[column] is not None:
                    row[column] = json.loads(row[column])
        return found

    episode = rows("episodes", "id", episode_id)[0]
    run = rows("runs", "id", episode["run_id"])[0]
    run["config"] = json.loads(run["config"])
    trajectory: dict[str, Any] = {
        "episode": episode,
        "run": run,
        "case": rows("cases", "id", episode["case_id"])[0],
    }
    for table, order in _ORDER.items():
        trajectory[table] = rows(table, "episode_id", episode_id, order)
    position = {component.value: i for i, component in enumerate(COMPONENTS)}
    for table in ("formulations", "deviations", "injections"):
        trajectory[table].sort(key=lambda row: (row["round"], position[row["component"]]))
    return trajectory


def in_order(
    trajectory: Mapping[str, Any],
) -> Iterator[tuple[Literal["turn", "decision"], dict[str, Any]]]:
    """Turns, and the decisions between them, in the order in which they happened."""
    turns = list(trajectory["turns"])
    for decision in trajectory["decisions"]:
        before = _turns_before(turns, decision["round"])
        yield from (("turn", turn) for turn in turns[:before])
        turns = turns[before:]
        yield "decision", decision
    yield from (("turn", turn) for turn in turns)


def _turns_before(turns: list[dict[str, Any]], round_: int) -> int:
    """How many of the remaining turns come before the formulation of ``round_``."""
    probes = [
        i for i, t in enumerate(turns) if t["purpose"] == "probe" and t["speaker"] == "therapist"
    ]
    upcoming = 0 if round_ == 0 else 1
    return probes[upcoming] if len(probes) > upcoming else len(turns)


def record_by_component(trajectory: Mapping[str, Any]) -> dict[Component, list[str]]:
    """The hidden record's clauses, component by component; behavior principles by their id."""
    model = trajectory["case"]["record"].get("cognitive_model", {})
    record = {
        component: [clause["text"] for clause in model.get(component.value, ())]
        for component in COMPONENTS
    }
    principle = trajectory["episode"]["principle_id"]
    if principle:
        record[Component.BEHAVIOR_PRINCIPLES] = [_principle_text(principle)]
    return record


def _principle_text(principle_id: str) -> str:
    """The words of a behavior principle; its id when the library does not have it any more."""
    from mentalarena.roster import principles

    known = principles().get(principle_id)
    return known.text if known else principle_id


def without_volatile(value: Any) -> Any:
    """A trajectory less ids and times, for comparing two plays of one seed.

    The ids of clauses, cases and principles are content and stay; only the keys of
    :data:`VOLATILE` go, and a case keeps its ``id`` under ``case_id``.
    """
    if isinstance(value, dict):
        return {k: without_volatile(v) for k, v in value.items() if k not in VOLATILE}
    if isinstance(value, list):
        return [without_volatile(item) for item in value]
    return value
