"""One episode read back from the store, whole: what ``show``, exports and audits look at.

Why: a trajectory is spread over a dozen tables; this puts it together again in one plain structure,
in a fixed order, so that two runs of the same seed can be compared byte for byte.
"""

from typing import Any

from mentalarena.component import COMPONENTS
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
