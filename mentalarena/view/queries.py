"""What the pages about runs, episodes, calls and iterations ask of the store.

Why: plain functions over a store that can be read, so that the viewer, a report and a test ask the
same questions. No answer here reads a whole table of rows that grow with every turn.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mentalarena.store_api import ReadableStore
from mentalarena.view.episode import template_names

PAGE = 50
"""Episodes, or turns found, on one page."""

FACETS: Mapping[str, str] = {
    "run": "e.run_id",
    "status": "e.status",
    "guidance": "e.guidance",
    "split": "c.split",
    "presentation": "c.presentation",
    "style": "c.style",
    "case": "e.case_id",
    "iteration": "e.iteration",
    "crisis": "e.crisis",
    "decision": "(select decision from decisions d where d.episode_id = e.id"
    " order by round desc limit 1)",
}
"""What episodes may be narrowed down by, and where it stands."""
_FACET_ROWS = 12
_STATES = "status, count(*) as n"


def runs(store: ReadableStore) -> list[dict[str, Any]]:
    """Every run, the newest first, with its episodes by status."""
    counted: dict[str, dict[str, int]] = {}
    for row in store.fetch(f"select run_id, {_STATES} from episodes group by run_id, status"):
        counted.setdefault(row["run_id"], {})[row["status"]] = row["n"]
    found = store.fetch("select * from runs order by created_at desc, id")
    for run in found:
        run["config"] = json.loads(run["config"])
        run["states"] = counted.get(run["id"], {})
    return found


def run(store: ReadableStore, run_id: str) -> dict[str, Any] | None:
    """One run with what is known of its episodes as a whole; None when there is none."""
    found = store.fetch("select * from runs where id = ?", (run_id,))
    if not found:
        return None
    of_run = {"run": run_id}
    states = store.fetch(
        f"select {_STATES} from episodes where run_id = :run group by status", of_run
    )
    return {
        "run": {**found[0], "config": json.loads(found[0]["config"])},
        "states": {row["status"]: row["n"] for row in states},
        "bias": bias(store, run_id),
        "costs": store.fetch(
            "select * from cost_by_seat where run_id = :run order by seat, model", of_run
        ),
        "decisions": store.fetch(
            "select d.round, d.decision, count(*) as n from episodes e"
            " join decisions d on d.episode_id = e.id"
            " where e.run_id = :run and e.status = 'ok' group by d.round, d.decision", of_run
        ),
        "errors": store.fetch(
            "select x.boundary, x.type, count(*) as n, max(x.message) as message from episodes e"
            " join errors x on x.episode_id = e.id where e.run_id = :run"
            " group by x.boundary, x.type order by n desc", of_run
        ),
        "limits": store.fetch(
            "select worker, at, reason, in_flight, \"limit\" from concurrency"
            " where run_id = :run order by at desc limit 20", of_run
        ),
        "latest": store.fetch(
            "select id, case_id, status, started_at from episodes where run_id = :run"
            " order by started_at desc limit 12", of_run
        ),
    }  # fmt: skip


def bias(store: ReadableStore, run_id: str) -> list[dict[str, Any]]:
    """By guidance and component: the share of each verdict, in the first round and the last."""
    rows = store.fetch(
        "select guidance, component, verdict, n, first_n, last_n, first_share, last_share"
        " from bias_by_component where run_id = ?", (run_id,)
    )  # fmt: skip
    groups: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        key = row["guidance"], row["component"]
        group = groups.setdefault(
            key, {"guidance": key[0], "component": key[1], "first": {}, "last": {}, "episodes": 0}
        )
        group["first"][row["verdict"]] = row["first_share"]
        group["last"][row["verdict"]] = row["last_share"]
        group["episodes"] += row["last_n"]
    return list(groups.values())


def episodes(
    store: ReadableStore, chosen: Mapping[str, str], query: str, page: int
) -> dict[str, Any]:
    """One page of the episodes that ``chosen`` leaves, and what else they may be narrowed by.

    Args:
        store: where to look.
        chosen: values by the names of :data:`FACETS`.
        query: words that must have been said in one turn; empty for any.
        page: from 0.
    """
    where = " and ".join(f"{FACETS[name]} = :{name}" for name in chosen) or "1"
    # A value from an address is text; some columns hold numbers.
    values: dict[str, Any] = {
        name: int(value) if name in ("iteration", "crisis") and value.isdigit() else value
        for name, value in chosen.items()
    }
    source = f"episodes e join cases c on c.id = e.case_id where {where}"
    answer: dict[str, Any] = {"chosen": dict(chosen), "q": query, "page": page, "hits": None}
    if query:
        answer["hits"], answer["more"] = search(store, query, where, values, page)
        return answer | {"facets": {}, "episodes": [], "total": None}
    (total,) = store.fetch(f"select count(*) as n from {source}", values)
    found = store.fetch(
        "select e.id, e.run_id, e.case_id, c.presentation, c.style, c.split, e.guidance, e.status,"
        " e.crisis, e.started_at, (select count(component) from decisions d"
        " where d.episode_id = e.id) as reroutes, (select count(*) from turns t"
        f" where t.episode_id = e.id) as turns, {FACETS['decision']} as decision,"
        " (select count(*) from deviations v where v.episode_id = e.id and v.verdict = 'aligned'"
        " and v.round = (select max(round) from deviations w where w.episode_id = e.id)) as aligned"
        f" from {source} order by e.started_at desc, e.id limit {PAGE} offset :offset",
        {**values, "offset": page * PAGE},
    )
    facets = {}
    for name, column in FACETS.items():
        if name in chosen:
            continue
        rows = store.fetch(
            f"select {column} as value, count(*) as n from {source} group by 1"
            f" order by n desc, value limit {_FACET_ROWS}", values
        )  # fmt: skip
        if len(rows) > 1:
            facets[name] = rows
    more = (page + 1) * PAGE < total["n"]
    return answer | {"episodes": found, "facets": facets, "total": total["n"], "more": more}


def match_expression(query: str) -> str:
    """What a person typed as a full-text query that always parses: its words, all of them."""
    words = query.replace("\0", " ").replace('"', " ").split()[:20]
    return " ".join(f'"{word[:100]}"' for word in words)


def search(
    store: ReadableStore, query: str, where: str, values: Mapping[str, Any], page: int
) -> tuple[list[dict[str, Any]], bool]:
    """Turns in which every word was said, the best first, and whether there are more."""
    expression = match_expression(query)
    if not expression:
        return [], False
    rows = store.fetch(
        "select t.episode_id, t.idx, t.speaker, e.case_id,"
        # Marks that cannot be part of a page: the template turns them into tags.
        " snippet(turns_fts, 0, char(2), char(3), ' … ', 40) as snippet"
        " from turns_fts join turns t on t.id = turns_fts.rowid"
        " join episodes e on e.id = t.episode_id join cases c on c.id = e.case_id"
        f" where turns_fts match :match and {where} order by turns_fts.rank"
        f" limit {PAGE + 1} offset :offset",
        {**values, "match": expression, "offset": page * PAGE},
    )
    for row in rows:
        row["pieces"] = snippet_pieces(row["snippet"])
    return rows[:PAGE], len(rows) > PAGE


def snippet_pieces(snippet: str) -> list[tuple[bool, str]]:
    """A snippet in pieces; True for what was looked for."""
    pieces = []
    for part in snippet.split("\2"):
        found, mark, rest = part.partition("\3")
        pieces += [(True, found), (False, rest)] if mark else [(False, part)]
    return pieces


def call(store: ReadableStore, call_id: str) -> dict[str, Any] | None:
    """One journaled call with its template and what came of it; None when there is none."""
    found = store.fetch("select * from calls where id = ?", (call_id,))
    if not found:
        return None
    (row,) = found
    names = template_names(store, {row["template_hash"]})
    text = store.fetch("select text from templates where hash = ?", (row["template_hash"],))
    uses = store.fetch("select idx, speaker from turns where call_id = ?", (call_id,))
    neighbors = store.fetch(
        "select id, node, purpose, reask, sample from calls where episode_id = ?"
        " order by attempt, step, sample, reask", (row["episode_id"],)
    )  # fmt: skip
    return {
        "call": row,
        "template_name": names.get(row["template_hash"], ""),
        "template_text": text[0]["text"] if text else "",
        "turns": uses,
        "neighbors": neighbors,
    }


def iterations(store: ReadableStore) -> list[dict[str, Any]]:
    """Every turn of every self-play loop, with its data set and its evaluations."""
    found = store.fetch("select * from iterations order by run_id, iteration")
    sets = {row["id"]: row for row in store.fetch("select * from datasets")}
    for row in sets.values():
        for column in ("run_ids", "filters", "funnel"):
            row[column] = json.loads(row[column])
        row["steps"] = funnel_steps(row["funnel"])
    evaluated = evaluations(store)
    for row in found:
        for column in ("gates", "measures", "episodes_run_ids"):
            row[column] = json.loads(row[column]) if row[column] else None
        row["dataset"] = sets.get(row["dataset_id"])
        row["evaluations"] = [
            item for item in evaluated if item["id"] in (row["evaluation_id"], row["baseline_id"])
        ]
        row["stages"] = store.fetch(
            "select stage, starts, started_at, finished_at, seconds from iteration_stages"
            " where run_id = ? and iteration = ? order by started_at",
            (row["run_id"], row["iteration"]),
        )
    return found


def evaluations(store: ReadableStore) -> list[dict[str, Any]]:
    """Every evaluation with its metrics and how its items came out."""
    outcomes: dict[str, dict[str, int]] = {}
    for row in store.fetch(
        "select evaluation_id, outcome, count(*) as n from evaluation_items group by 1, 2"
    ):
        outcomes.setdefault(row["evaluation_id"], {})[row["outcome"]] = row["n"]
    found = store.fetch("select * from evaluations order by created_at desc, id")
    for row in found:
        row["metrics"] = json.loads(row["metrics"]) if row["metrics"] else {}
        row["outcomes"] = outcomes.get(row["id"], {})
    return found


def funnel_steps(funnel: Any) -> list[tuple[str, Any]]:
    """A funnel as names and what was left, whether it was written as a list or a mapping."""
    if isinstance(funnel, Mapping):
        # The store sorts the names of a mapping; what is left only becomes less.
        steps = [(str(name), left) for name, left in funnel.items()]
        numbers = all(isinstance(left, int | float) for _, left in steps)
        return sorted(steps, key=lambda step: -step[1]) if numbers else steps
    steps = []
    for item in funnel if isinstance(funnel, Sequence) else ():
        if isinstance(item, Mapping):
            values = list(item.values())
            steps.append((str(values[0]), values[-1]) if values else ("", None))
        elif isinstance(item, Sequence) and not isinstance(item, str) and len(item) > 1:
            steps.append((str(item[0]), item[-1]))
    return steps
