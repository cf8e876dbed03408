"""The figures of a run, each with its interval.

Why: episodes of one patient resemble each other, so an interval over episodes would be too narrow:
patients are drawn again, with all their episodes (percentile bootstrap, 95 %). Two patients are the
least that gives an interval; below that a figure stands without one.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mentalarena.case import COMPONENTS
from mentalarena.decoder import INTENT_BIAS
from mentalarena.store_api import ReadableStore

DRAWS = 2000
"""Bootstrap samples."""
_SEED = 20261
_BLOCK = 1000
"""N-grams of a block that different ones are counted in: their share falls with a text's length."""
_OF_RUN = "from episodes e join cases c on c.id = e.case_id where e.run_id = ? and e.status = 'ok'"


class Estimate(NamedTuple):
    """A mean, its interval, and what it was made from."""

    mean: float
    low: float | None
    high: float | None
    n: int
    """Values, mostly one an episode."""
    patients: int


class Point(NamedTuple):
    """One estimate of a figure."""

    group: str
    """What is compared, such as the first round and the last; a series of the plot."""
    at: str
    """Where it stands on the axis."""
    estimate: Estimate


def estimate(values: Sequence[tuple[str, float]]) -> Estimate:
    """Mean and interval of values that belong to patients.

    Args:
        values: patient id and value; at least one.
    """
    by_patient: dict[str, list[float]] = defaultdict(list)
    for patient, value in values:
        by_patient[patient].append(value)
    sums = np.array([sum(own) for own in by_patient.values()])
    counts = np.array([len(own) for own in by_patient.values()])
    mean = float(sums.sum() / counts.sum())
    if len(by_patient) < 2:
        return Estimate(mean, None, None, len(values), len(by_patient))
    drawn = np.random.default_rng(_SEED).integers(0, len(sums), (DRAWS, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Estimate(mean, float(low), float(high), len(values), len(by_patient))


def alignment_by_round(store: ReadableStore, run_id: str) -> list[Point]:
    """Share of components aligned, round by round.

    An episode that ended with an earlier round counts with its last one from then on: it ended
    because nothing was left to mend; without it later rounds would look worse than they are.
    """
    rows = store.fetch(
        "select e.id, c.patient_id, e.guidance, v.round, avg(v.verdict = 'aligned') as share"
        " from episodes e join cases c on c.id = e.case_id join deviations v on v.episode_id = e.id"
        " where e.run_id = ? and e.status = 'ok' group by e.id, v.round order by e.id, v.round",
        (run_id,),
    )
    episodes: dict[tuple[str, str, str], dict[int, float]] = defaultdict(dict)
    for row in rows:
        episodes[row["id"], row["patient_id"], row["guidance"]][row["round"]] = row["share"]
    rounds = range(max((row["round"] for row in rows), default=-1) + 1)
    values: dict[tuple[str, int], list[tuple[str, float]]] = defaultdict(list)
    for (_, patient, guidance), shares in episodes.items():
        last = None
        for round_ in rounds:
            last = shares.get(round_, last)
            if last is not None:
                values[guidance, round_].append((patient, last))
    return [Point(group, str(at), estimate(own)) for (group, at), own in sorted(values.items())]


def bias_by_component(store: ReadableStore, run_id: str) -> list[Point]:
    """Share of episodes with an intent bias in a component, in the first round and in the last."""
    rows = store.fetch(
        "select c.patient_id, v.component, v.verdict,"
        " v.round = (select min(round) from deviations x where x.episode_id = e.id) as is_first,"
        " v.round = (select max(round) from deviations x where x.episode_id = e.id) as is_last"
        " from episodes e join cases c on c.id = e.case_id join deviations v on v.episode_id = e.id"
        " where e.run_id = ? and e.status = 'ok'",
        (run_id,),
    )
    values: dict[tuple[str, str], list[tuple[str, float]]] = defaultdict(list)
    for row in rows:
        value = row["patient_id"], float(row["verdict"] in INTENT_BIAS)
        for group, counts in (("first round", row["is_first"]), ("last round", row["is_last"])):
            if counts:
                values[group, row["component"]].append(value)
    return [
        Point(group, component.label, estimate(values[group, component.value]))
        for group in ("first round", "last round")
        for component in COMPONENTS
        if values[group, component.value]
    ]


def disclosure_by_style(store: ReadableStore, run_id: str) -> list[Point]:
    """Share of the record's clauses that the patient came to tell, by conversational style.

    Known where the patient's seat says which clauses a turn tells: that of the rules.
    """
    told: dict[str, set[str]] = defaultdict(set)
    known = set()
    for row in store.fetch(
        "select t.episode_id, t.disclosed from episodes e join turns t on t.episode_id = e.id"
        " where e.run_id = ? and e.status = 'ok' and t.speaker = 'patient'"
        " and t.disclosed is not null", (run_id,)
    ):  # fmt: skip
        known.add(row["episode_id"])
        told[row["episode_id"]].update(json.loads(row["disclosed"]))
    values: dict[str, list[tuple[str, float]]] = defaultdict(list)
    clauses: dict[str, set[str]] = {}
    for row in store.fetch(f"select e.id, e.case_id, c.patient_id, c.style {_OF_RUN}", (run_id,)):
        if row["id"] not in known:
            continue
        if row["case_id"] not in clauses:
            clauses[row["case_id"]] = _clauses(store, row["case_id"])
        own = clauses[row["case_id"]]
        if own:
            share = len(told[row["id"]] & own) / len(own)
            values[row["style"]].append((row["patient_id"], share))
    return [Point("told", style, estimate(own)) for style, own in sorted(values.items())]


def _clauses(store: ReadableStore, case_id: str) -> set[str]:
    """Names of the clauses of a case's cognitive model, as turns name them."""
    (row,) = store.fetch("select record from cases where id = ?", (case_id,))
    model = json.loads(row["record"]).get("cognitive_model", {})
    return {f"{name}:{i}" for name, own in model.items() for i in range(len(own))}


def plan_scores(store: ReadableStore, run_id: str) -> list[Point]:
    """Mean score of the plans, by kind and try.

    A later try is made only where the one before fell short, so tries are not of the same episodes.
    """
    rows = store.fetch(
        "select c.patient_id, p.kind, p.attempt, p.score from episodes e"
        " join cases c on c.id = e.case_id join plans p on p.episode_id = e.id"
        " where e.run_id = ? and e.status = 'ok' and p.score is not null", (run_id,)
    )  # fmt: skip
    values: dict[tuple[str, int], list[tuple[str, float]]] = defaultdict(list)
    for row in rows:
        values[row["kind"], row["attempt"]].append((row["patient_id"], row["score"]))
    order = sorted(values, key=lambda key: (key[0] != "treatment", key[1]))
    return [Point(kind, f"{kind} {at + 1}", estimate(values[kind, at])) for kind, at in order]


def cost_by_seat(store: ReadableStore, run_id: str) -> list[dict[str, Any]]:
    """Calls, tokens and cost by seat and model; what failed episodes used is part of it."""
    return store.fetch(
        "select * from cost_by_seat where run_id = ? order by seat, model", (run_id,)
    )


class Diversity(NamedTuple):
    """How varied what one speaker said is."""

    speaker: str
    distinct: Mapping[int, float | None]
    """By n: share of different ones among 1,000 n-grams in a row; None for less text."""
    repeated: float
    """Share of turns that were said in the same words in another episode of the run."""
    turns: int


def diversity(store: ReadableStore, run_id: str) -> list[Diversity]:
    """Of the therapist and of the patient."""
    said: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in store.fetch(
        "select t.episode_id, t.speaker, t.text from episodes e join turns t on t.episode_id = e.id"
        " where e.run_id = ? and e.status = 'ok' and t.purpose <> 'safety'"
        " order by e.id, t.idx", (run_id,)
    ):  # fmt: skip
        said[row["speaker"]].append((row["episode_id"], row["text"]))
    found = []
    for speaker, turns in sorted(said.items(), reverse=True):
        words = [re.findall(r"\w+", text.lower()) for _, text in turns]
        where: dict[str, set[str]] = defaultdict(set)
        for episode, text in turns:
            where[text].add(episode)
        repeated = sum(len(where[text]) > 1 for _, text in turns) / len(turns)
        distinct = {n: _distinct(words, n) for n in (1, 2, 3)}
        found.append(Diversity(speaker, distinct, repeated, len(turns)))
    return found


def _distinct(turns: Iterable[Sequence[str]], n: int) -> float | None:
    grams = [tuple(turn[i : i + n]) for turn in turns for i in range(len(turn) - n + 1)]
    blocks = [grams[i : i + _BLOCK] for i in range(0, len(grams) - _BLOCK + 1, _BLOCK)]
    return sum(len(set(block)) for block in blocks) / (len(blocks) * _BLOCK) if blocks else None


def counts(store: ReadableStore, run_id: str) -> dict[str, Any]:
    """Episodes by status, and how the last decision of the finished ones came out."""
    states = store.fetch(
        "select status, count(*) as n from episodes where run_id = ? group by status", (run_id,)
    )
    decided = store.fetch(
        "select last_decision from episode_summary where run_id = ? and status = 'ok'", (run_id,)
    )
    patients = store.fetch(
        f"select count(distinct c.patient_id) as patients, count(distinct c.id) as cases {_OF_RUN}",
        (run_id,),
    )
    return {
        "states": {row["status"]: row["n"] for row in states},
        "decisions": Counter(row["last_decision"] or "none" for row in decided),
        **patients[0],
    }
