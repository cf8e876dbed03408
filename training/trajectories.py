"""Played episodes as training reads them: from the store, by SQL, one at a time.

Why: what is trained on is what was recorded, not what a graph happened to hold. One episode is
small; ten thousand are read one after the other and never held together.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agents.seats import Attempt, Formulation, Line
from mentalarena.case import COMPONENTS, Case, Principle
from mentalarena.errors import ConfigurationError, StoreError
from mentalarena.roster import principles
from mentalarena.store_api import ReadableStore

KINDS = ("arena", "batch", "selfplay")
"""Kinds of run that are read when none is named: evaluations measure, and branches repeat turns."""

_EPISODES = """
select e.id, e.run_id, e.case_id, c.patient_id, c.split, e.sample, e.iteration, e.guidance,
  e.status, e.self_judged, e.principle_id,
  e.crisis or exists (select 1 from turns t where t.episode_id = e.id and t.crisis is not null)
    as crisis,
  exists (select 1 from turns t where t.episode_id = e.id and t.role_flip) as role_flip,
  exists (select 1 from flags f where f.episode_id = e.id and f.screen = 'reply'
    and f.qualifier is null) as harmful_reply
from episodes e cross join cases c on c.id = e.case_id
where e.run_id = ? order by e.case_id, e.sample, e.id
"""
_CANDIDATES = """
select task, idx, target, score, code from sft_candidates where episode_id = ? order by task, idx
"""
_PAIRS = """
select task, component, chosen_idx, rejected_idx, margin from preference_pairs
where episode_id = ? order by task, component, chosen_idx, rejected_idx
"""
_SAMPLES = """
select kind, attempt, judge, score from scores where episode_id = ? and score is not null
union all
select place, attempt, spec, value from judgments where episode_id = ? and seat = 'judge'
  and variant = 'plain' and value is not null
order by 1, 2, 3, 4
"""


@dataclass(frozen=True)
class Run:
    """A run that episodes come from."""

    id: str
    kind: str
    config_hash: str
    config: Mapping[str, Any]
    code_version: str

    @property
    def exchanges(self) -> int:
        """Questions before the first formulation."""
        return int(self.config["exchanges"])

    @property
    def probe_rounds(self) -> int:
        """Reroutes allowed after it."""
        return int(self.config["probe_rounds"])


@dataclass(frozen=True)
class Trajectory:
    """One episode."""

    id: str
    run: Run
    case: Case
    patient_id: str
    split: str
    iteration: int
    guidance: str
    status: str
    crisis: bool
    """The crisis screen found something anywhere in the episode."""
    role_flip: bool
    """A seat spoke as the other one, and the line stands."""
    harmful_reply: bool
    """Something the therapist said or proposed was flagged (:mod:`mentalarena.replies`)."""
    principle: Principle | None
    turns: Sequence[Mapping[str, Any]]
    formulations: Sequence[Formulation]
    """By round."""
    aligned: Mapping[int, frozenset[str]]
    """Components that the decoder found aligned, by round; a round it did not look at is not in
    it."""
    diagnoses: Sequence[Mapping[str, Any]]
    plans: Sequence[Mapping[str, Any]]
    candidates: Sequence[Mapping[str, Any]]
    """Rows of the view ``sft_candidates``."""
    pairs: Sequence[Mapping[str, Any]] = field(default=())
    """Rows of the view ``preference_pairs``."""
    samples: Sequence[Mapping[str, Any]] = field(default=())
    """Each score that a judge gave a plan: when it was played, or by ``mentalarena judges``."""

    def lines(self, until: int | None = None) -> tuple[Line, ...]:
        """What was said before turn ``until``."""
        return tuple(Line(turn["speaker"], turn["text"]) for turn in self.turns[:until])

    def attempt(self, kind: str, number: int) -> Attempt:
        """A plan as the therapist saw it end."""
        plan = next(p for p in self.plans if (p["kind"], p["attempt"]) == (kind, number))
        return Attempt(plan["kind"], plan["name"], plan["response"], plan["score"])


def find_runs(store: ReadableStore, named: Sequence[str] = ()) -> list[Run]:
    """The runs to read, oldest id first; those of :data:`KINDS` when none is named.

    Raises:
        ConfigurationError: a named run is not in the store.
    """
    rows = store.fetch("select id, kind, config_hash, config, code_version from runs order by id")
    known = {row["id"] for row in rows}
    for name in named:
        if name not in known:
            raise ConfigurationError(
                f"--from-run {name!r} is not in {store.path}: it holds "
                + (", ".join(sorted(known)[:8]) or "no run")
            )
    return [
        Run(**{**row, "config": json.loads(row["config"])})
        for row in rows
        if (row["id"] in named if named else row["kind"] in KINDS)
    ]


def check_splits(store: ReadableStore) -> None:
    """Check that no patient, and no synthetic case's family, is in two splits.

    Raises:
        StoreError: one is; the message names it.
    """
    torn = store.fetch(
        "select patient_id, group_concat(distinct split) as splits from cases"
        " group by patient_id having count(distinct split) > 1 order by patient_id limit 1"
    )
    if torn:
        raise StoreError(
            f"patient {torn[0]['patient_id']} is in more than one split ({torn[0]['splits']}) of "
            f"{store.path}: mend the case file and play its cases in another store"
        )
    strays = store.fetch(
        "select c.id, c.split, p.id as parent, p.split as parent_split from cases c,"
        " json_each(c.parents) j join cases p on p.id = j.value or p.patient_id = j.value"
        " where p.split <> c.split order by c.id limit 1"
    )
    if strays:
        found = strays[0]
        raise StoreError(
            f"case {found['id']} ({found['split']}) descends from {found['parent']} "
            f"({found['parent_split']}): a synthetic case has the split of its parents"
        )


def read_trajectories(
    store: ReadableStore, runs: Sequence[Run], iteration: int | None = None, *, pairs: bool = False
) -> Iterator[Trajectory]:
    """The episodes of these runs, in an order that depends on nothing but the store.

    Args:
        store: Where they are.
        runs: From :func:`find_runs`.
        iteration: Only the episodes of one turn of the self-play loop.
        pairs: Whether to read what preference pairs are made from.

    Raises:
        StoreError: an episode names a behavior principle that this version does not know.
    """
    cases: dict[str, Case] = {}
    for run in runs:
        for row in store.fetch(_EPISODES, (run.id,)):
            if iteration is not None and row["iteration"] != iteration:
                continue
            if row["case_id"] not in cases:
                (found,) = store.fetch("select record from cases where id = ?", (row["case_id"],))
                cases[row["case_id"]] = Case.model_validate_json(found["record"])
            yield _trajectory(store, run, cases[row["case_id"]], row, pairs)


def _trajectory(
    store: ReadableStore, run: Run, case: Case, row: Mapping[str, Any], pairs: bool
) -> Trajectory:
    key = (row["id"],)
    return Trajectory(
        id=row["id"],
        run=run,
        case=case,
        patient_id=row["patient_id"],
        split=row["split"],
        iteration=row["iteration"],
        guidance=row["guidance"],
        status=row["status"],
        crisis=bool(row["crisis"]),
        role_flip=bool(row["role_flip"]),
        harmful_reply=bool(row["harmful_reply"]),
        principle=_principle(row["principle_id"], row["id"]),
        turns=store.fetch(
            "select idx, speaker, purpose, text from turns where episode_id = ? order by idx", key
        ),
        formulations=_formulations(store, row["id"]),
        aligned=_aligned(store, row["id"]),
        diagnoses=store.fetch(
            "select idx, label, code, chosen, rationale from diagnoses where episode_id = ?"
            " order by idx",
            key,
        ),
        plans=store.fetch(
            "select kind, attempt, name, rationale, response, score, chosen from plans"
            " where episode_id = ? order by kind desc, attempt",
            key,
        ),
        candidates=store.fetch(_CANDIDATES, key),
        pairs=store.fetch(_PAIRS, key) if pairs else (),
        samples=store.fetch(_SAMPLES, key * 2) if pairs else (),
    )


def _principle(principle_id: str | None, episode_id: str) -> Principle | None:
    if principle_id is None:
        return None
    if principle_id not in principles():
        raise StoreError(
            f"episode {episode_id} was played with the behavior principle {principle_id!r}, which "
            "this version does not know: use the version that played it"
        )
    return principles()[principle_id]


def _formulations(store: ReadableStore, episode_id: str) -> list[Formulation]:
    rounds: dict[int, dict[str, Any]] = {}
    for row in store.fetch(
        "select round, component, statement, quotes from formulations where episode_id = ?"
        " order by round",
        (episode_id,),
    ):
        stated = {"statement": row["statement"], "quotes": json.loads(row["quotes"])}
        rounds.setdefault(row["round"], {})[row["component"]] = stated
    known = {component.value for component in COMPONENTS}
    return [
        Formulation.model_validate({k: v for k, v in stated.items() if k in known})
        for _, stated in sorted(rounds.items())
    ]


def _aligned(store: ReadableStore, episode_id: str) -> dict[int, frozenset[str]]:
    rounds: dict[int, set[str]] = {}
    for row in store.fetch(
        "select round, component, verdict from deviations where episode_id = ?", (episode_id,)
    ):
        found = rounds.setdefault(row["round"], set())
        if row["verdict"] == "aligned":
            found.add(row["component"])
    return {number: frozenset(found) for number, found in rounds.items()}
