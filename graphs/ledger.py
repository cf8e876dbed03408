"""Who is played in which run: the rows of cases, runs and episodes.

Why: an episode is identified by content (configuration, case, sample), so that the same command
again finds what is done, goes on with what was interrupted, and tries again what failed.
"""

import json
import secrets
import threading
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any, NamedTuple

from graphs.records import ANSWER_FAILURES
from graphs.state import Claim
from mentalarena.case import Case
from mentalarena.errors import CaseError, StoreError
from mentalarena.journal import digest
from mentalarena.store import Change, Delete, Insert, Row, Write, utc_now
from mentalarena.store_api import EpisodeStore

TRAJECTORY = (
    "turns", "routes", "flags", "formulations", "deviations", "decisions", "injections",
    "diagnosis_codes", "diagnoses", "scores", "plans",
)  # fmt: skip
"""Tables that hold one attempt's trajectory; calls and errors keep those of every attempt."""


def keep_cases(store: EpisodeStore, cases: Sequence[Case]) -> None:
    """Store cases.

    Raises:
        CaseError: the store holds another case under one of the ids.
    """
    rows: list[Write] = []
    for case in cases:
        known = store.fetch("select hash from cases where id = ?", (case.id,))
        if known and known[0]["hash"] != case.hash:
            raise CaseError(
                f"case {case.id!r} differs from the one of that id in {store.path}: give "
                "it another id, or use another --db, so that stored episodes keep their case"
            )
        if not known:
            record = case.model_dump(mode="json")
            columns = "id patient_id split source synthetic parents presentation style"
            values = {name: record[name] for name in columns.split()}
            rows.append(Row("cases", {**values, "hash": case.hash, "record": record}))
    store.write_sync(rows)


class Ledger:
    """Bookkeeping of one configuration in one store."""

    def __init__(
        self,
        store: EpisodeStore,
        identity: Mapping[str, Any],
        *,
        guidance: str,
        self_judged: bool,
        iteration: int = 0,
        texts: Sequence[Mapping[str, str]] = (),
    ) -> None:
        self._store = store
        self._texts = texts
        """Rows of ``templates`` that the identity names by hash and no call carries."""
        self._identity = identity
        self.config_hash = digest(identity)
        self._guidance = guidance
        self._self_judged = self_judged
        self._iteration = iteration
        self._run_id: str | None = None
        self._lock = threading.Lock()

    def open_run(self, kind: str = "arena", run_id: str | None = None) -> str:
        """Write the row of a run and return its id; one without a name takes episodes to come."""
        if run_id is None:
            run_id = self._run_id = "run-" + secrets.token_hex(6)
        values = {
            "id": run_id,
            "created_at": utc_now(),
            "kind": kind,
            "config": dict(self._identity),
            "config_hash": self.config_hash,
            "code_version": metadata.version("mentalarena"),
        }
        texts = [Row("templates", dict(text)) for text in self._texts]
        self._store.write_sync([*texts, Row("runs", values)])
        return run_id

    def open_episode(self, case: Case, seed: int, run_id: str | None = None) -> str:
        """Write the row of a new sample of this case and return its id."""
        with self._lock:
            keep_cases(self._store, [case])
            run_id = run_id or self._run_id or self.open_run()
            (found,) = self._store.fetch(
                "select count(*) as n from episodes e join runs r on r.id = e.run_id "
                "where r.config_hash = ? and r.kind = 'arena' and e.case_hash = ?",
                (self.config_hash, case.hash),
            )
            sample = found["n"]
            while not self._insert(case, sample, seed, run_id):
                sample += 1
            return self.episode_id(case, sample)

    def _insert(self, case: Case, sample: int, seed: int, run_id: str) -> bool:
        """Whether this sample's row could be written; another process may have taken it."""
        episode_id = self.episode_id(case, sample)
        try:
            self._store.write_sync([self._episode(episode_id, case, sample, seed, run_id)])
        except StoreError:
            if self._store.fetch("select id from episodes where id = ?", (episode_id,)):
                return False
            raise
        return True

    def episode_id(self, case: Case, sample: int, run: str = "") -> str:
        """Id of one sample of a case under this configuration, in a named run if there is one."""
        return "ep-" + digest([run, self.config_hash, case.hash, sample], 16)

    def _episode(
        self,
        episode_id: str,
        case: Case,
        sample: int,
        seed: int,
        run_id: str,
        branch: Mapping[str, Any] | None = None,
    ) -> Insert:
        values = {
            "id": episode_id,
            "run_id": run_id,
            "case_id": case.id,
            "case_hash": case.hash,
            "sample": sample,
            "seed": seed,
            "iteration": self._iteration,
            "guidance": self._guidance,
            "status": "running",
            "attempts": 1,
            "self_judged": self._self_judged,
            "crisis": False,
            "started_at": utc_now(),
            **(branch or {}),
        }
        return Insert("episodes", values)

    async def claim(
        self,
        case: Case,
        sample: int,
        seed: int,
        run_id: str,
        branch: Mapping[str, Any] | None = None,
    ) -> Claim:
        """Take an episode of a named run that is not complete: new, interrupted, or failed.

        An interrupted one, or one that a server or the store let down, goes on in the same attempt,
        its answers coming from the journal. One that failed by what was answered begins another
        attempt: the calls and errors of the failed one stay, its half-made trajectory goes.
        ``branch`` says what a new one branches from (parent, parent_attempt, branch_step).
        """
        episode_id = self.episode_id(case, sample, run_id)
        found = await standing(self._store, episode_id)
        if found is None:
            row = self._episode(episode_id, case, sample, seed, run_id, branch)
            await self._store.write([row])
            return {"episode_id": episode_id, "attempt": 1}
        return await self.take_up(episode_id, found)

    async def take_up(self, episode_id: str, found: "Standing") -> Claim:
        """Go on with an episode that is not complete, in the same attempt or in another one."""
        attempt = found.attempts
        changes: dict[str, Any] = {"status": "running", "finished_at": None}
        writes: list[Write] = []
        if found.spoiled:
            attempt += 1
            changes |= {"attempts": attempt, "crisis": False}
            gone = (*TRAJECTORY, "fidelity", "judgments")
            writes += [Delete(table, {"episode_id": episode_id}) for table in gone]
        await self._store.write([*writes, Change("episodes", {"id": episode_id}, changes)])
        return {"episode_id": episode_id, "attempt": attempt}


class Standing(NamedTuple):
    """How far an episode of the store has come."""

    status: str
    attempts: int
    spoiled: bool
    """Failed by what was answered, and not because a server or the store let it down."""


async def standing(store: EpisodeStore, episode_id: str) -> Standing | None:
    """How an episode stands; None when the store does not hold it."""
    rows = await store.fetch_async(
        "select status, attempts, (select boundary from errors x where x.episode_id = e.id "
        "and x.attempt = e.attempts and x.type not in (select value from json_each(?)) "
        "order by created_at desc limit 1) as let_down_by from episodes e where id = ?",
        (json.dumps(list(ANSWER_FAILURES.values())), episode_id),
    )
    if not rows:
        return None
    status, let_down_by = rows[0]["status"], rows[0]["let_down_by"]
    spoiled = status == "failed" and let_down_by not in ("provider", "store")
    return Standing(status, rows[0]["attempts"], spoiled)
