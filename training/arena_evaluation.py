"""Evaluation in the arena: held-out patients, one seat under test, the others always the same.

Why: how well a therapist understands, or a patient holds to a record, shows in play only. The
candidate takes one seat and plays every case of a split several times; its opponents, the seeds
and the lengths are those of whatever it is compared with. Episodes are played by the machinery of
batches, so a kill costs nothing and the same command goes on.
"""

import asyncio
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, Final, Literal, NamedTuple

from filelock import FileLock, Timeout
from rich.console import Console

from agents.registry import check_seats
from graphs.batch import How, check_how, executor_for, open_named_run
from graphs.episode import episode_seed
from graphs.ledger import keep_cases
from graphs.scheduler import Batch, Job, run_batch
from graphs.session import Session, open_session
from mentalarena.config import ArenaConfig, changed_keys
from mentalarena.encoder_process import encoder_process
from mentalarena.errors import ConfigurationError, StoreError
from mentalarena.journal import digest
from mentalarena.roster import builtin_cases
from mentalarena.rows import Change, Row
from mentalarena.store import Store, utc_now
from training import arena_measures
from training.tasks.catalog import ARENA, Split

Seat = Literal["therapist", "patient"]
SEATS: Final[tuple[Seat, ...]] = ("therapist", "patient")


class Arena(NamedTuple):
    """How a candidate is played."""

    config: ArenaConfig
    """The seats of the opponents; the candidate's is overwritten."""
    seat: Seat
    split: Split
    samples: int
    """Episodes of each case."""
    workers: int
    concurrency: int

    def with_candidate(self, spec: str) -> ArenaConfig:
        """The configuration with the candidate on its seat."""
        if self.seat == "patient":
            return replace(self.config, patient=spec)
        return replace(self.config, therapist=spec)


class Outcome(NamedTuple):
    """An evaluation in the arena, played as far as it went."""

    evaluation_id: str
    rows: list[dict[str, Any]]
    """One an episode; see :func:`training.arena_measures.measured`."""
    stopped: str
    """Why it ended early; empty when it did not."""


def play(arena: Arena, spec: str, console: Console | None) -> Outcome:
    """Play what is missing of a candidate's episodes, and count them all.

    Raises:
        ConfigurationError: a seat cannot be taken as given; the candidate would judge itself; the
            split has no patient.
    """
    config = arena.with_candidate(spec)
    how = How(arena.concurrency, arena.workers, "local", "", 1)
    check_how(how, config)
    check_seats(config)
    # It takes seconds to load, beside all that comes before its first use.
    encoder_process().start()
    with closing(open_session(config)) as session:
        if session.self_judged:
            raise ConfigurationError(
                f"--judge {config.judge}: the model under test would score its own plans; give "
                "--judge another one"
            )
        # Before the identity is made: what is not played is no part of it.
        session.cases = {
            case.id: case for case in session.cases.values() if case.split == arena.split
        }
        if not session.cases:
            raise ConfigurationError(f"--split {arena.split}: no patient of it in these cases")
        jobs = [
            Job(case, sample)
            for sample in range(arena.samples)
            for case in sorted(session.cases.values(), key=lambda case: case.id)
        ]
        return _played(session, arena, spec, jobs, how, console)


def _played(
    session: Session, arena: Arena, spec: str, jobs: Sequence[Job], how: How,
    console: Console | None,
) -> Outcome:  # fmt: skip
    store = session.store
    assert isinstance(store, Store)
    config: dict[str, Any] = json.loads(json.dumps({"seat": arena.seat, **session.identity}))
    config_hash = digest(config, 32)
    items = [
        (job.case.hash, job.sample, episode_seed(session.config.seed, job.case, job.sample))
        for job in jobs
    ]
    items_hash = digest(sorted(items), 32)
    evaluation_id = "ev-" + digest([config_hash, items_hash, arena.split], 16)
    stopped = ""
    try:
        with FileLock(f"{session.config.db}.batch.lock").acquire(timeout=0):
            run_id = open_named_run(session, f"evaluation-{config_hash[:16]}", "evaluation")
            keep_cases(store, list({job.case.id: job.case for job in jobs}.values()))
            store.write_sync(
                [
                    Row(
                        "evaluations",
                        {
                            "id": evaluation_id, "task": ARENA, "split": arena.split,
                            "model": spec, "scoring": "arena", "run_id": run_id, "config": config,
                            "config_hash": config_hash, "items_hash": items_hash,
                            "source": {"cases": session.config.cases or "built-in"},
                            "status": "running", "finished_at": None,
                        },
                    )
                ]
            )  # fmt: skip
            work = Batch(session, run_id, list(jobs), how.retries)
            if work.missing():
                executor = executor_for(how, work, session, run_id)
                asyncio.run(run_batch(work, executor, session.meter, console))
                stopped = work.tally.stopped
    except Timeout:
        raise StoreError(
            f"a batch is writing to {session.config.db}: wait for it, or use another --db"
        ) from None
    if stopped == "interrupted":
        raise KeyboardInterrupt
    rows = _rows(session, run_id, arena.samples)
    left = any(row["status"] != "ok" for row in rows) or len(rows) < len(jobs)
    store.write_sync(
        [
            Change(
                "evaluations",
                {"id": evaluation_id},
                {
                    "status": "incomplete" if left else "ok",
                    "metrics": arena_measures.summary(rows),
                    "finished_at": utc_now(),
                },
            )
        ]
    )
    return Outcome(evaluation_id, rows, stopped)


def _rows(session: Session, run_id: str, samples: int) -> list[dict[str, Any]]:
    """The episodes of this evaluation; its run may hold more samples, played for a larger one."""
    others = {**builtin_cases(), **session.cases}
    found = arena_measures.measured(session.store, run_id, others, session.embedder)
    return [row for row in found if row["sample"] < samples]


def stored(arena: Arena, evaluation: dict[str, Any], first: str) -> list[dict[str, Any]]:
    """The rows of a stored evaluation, to be compared with one that ``first`` made.

    Raises:
        ConfigurationError: opponents, lengths or the like were others; names the keys.
    """
    with closing(open_session(arena.with_candidate(first))) as session:
        now = {"seat": arena.seat, **session.identity}
        then = json.loads(evaluation["config"])
        ignored = {arena.seat, "cases"}
        changed = set(changed_keys(then, json.loads(json.dumps(now)))) - ignored
        if changed:
            raise ConfigurationError(
                f"--against {evaluation['id']}: it was played with other values of "
                f"{', '.join(sorted(changed))}: use the same, or name a model to play anew"
            )
        return _rows(session, evaluation["run_id"], arena.samples)
