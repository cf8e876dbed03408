"""Many episodes at once: what is missing of a plan, a bounded number in flight.

Why: how episodes are scheduled, counted, drained and given up on is one matter; what a user types
and reads (:mod:`graphs.batch`) is another.
"""

import asyncio
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import click
from rich.console import Console

from graphs.episode import Played, episode_seed
from graphs.executors import Executor, WorkerLostError
from graphs.progress import Tally, shown
from graphs.session import Session
from mentalarena.budget import Meter
from mentalarena.case import Case
from mentalarena.errors import BudgetError, ProviderError, ReplayError, WorkerError

LOSSES = 3
"""Workers that may die playing an episode before the episode is held to be the cause."""


class Job(NamedTuple):
    """One episode of the plan."""

    case: Case
    sample: int


def plan(session: Session, case_id: str | None, samples: int, episodes: int | None) -> list[Job]:
    """Every case once, then every case again, and so on; cut at ``episodes``."""
    cases = (
        [session.find_case(case_id)]
        if case_id
        else sorted(session.cases.values(), key=lambda case: case.id)
    )
    rounds = samples if episodes is None else -(-episodes // len(cases))
    return [Job(case, sample) for sample in range(rounds) for case in cases][:episodes]


class Batch:
    """Plays the missing episodes of a plan, a bounded number at a time."""

    def __init__(self, session: Session, run_id: str, jobs: list[Job], retries: int) -> None:
        self._session = session
        self._run_id = run_id
        self._retries = retries
        done = {
            row["id"] for row in session.store.fetch("select id from episodes where status = 'ok'")
        }
        self._jobs = [
            job
            for job in jobs
            if session.ledger.episode_id(job.case, job.sample, run_id) not in done
        ]
        self.tally = Tally(len(jobs), len(jobs) - len(self._jobs))
        self._problem: BaseException | None = None
        self._draining = False
        self._woken = asyncio.Event()

    def missing(self) -> list[Job]:
        """What is left to play."""
        return self._jobs

    def wake(self) -> None:
        """Look again whether there is room for another episode."""
        self._woken.set()

    def drain(self, why: str) -> None:
        """Begin no further episode; those in flight end."""
        self.tally.stopped = self.tally.stopped or why
        self._draining = True

    async def play(self, executor: Executor, changed: Callable[[], None]) -> None:
        """Play what is missing; calls ``changed`` whenever an episode begins or ends.

        Raises:
            ProviderError: a failure that would meet every further episode too.
            StoreError: the store takes nothing more.
            WorkerError: no worker stays alive.
        """
        queue = deque(self._jobs)
        playing: set[asyncio.Task[None]] = set()

        def room() -> bool:
            # The last episodes begin together: what they have left to do is then shared by all
            # places, and not by fewer and fewer.
            return len(playing) < executor.room() or 0 < len(queue) <= executor.room() // 2

        def ended(task: asyncio.Task[None]) -> None:
            playing.discard(task)
            if not task.cancelled() and (error := task.exception()) is not None:
                # The store, say: what one met the others will meet too, and one line is enough.
                self._problem = self._problem or error
                self.drain(str(error))
                for other in playing:
                    other.cancel()
            self.tally.in_play = len(playing)
            changed()
            self._woken.set()

        async with executor:
            try:
                while True:
                    self._woken.clear()
                    while queue and not self._draining and room():
                        task = asyncio.create_task(self._one(executor, queue.popleft()))
                        playing.add(task)
                        task.add_done_callback(ended)
                        self.tally.in_play = len(playing)
                        changed()
                    if not playing:
                        break
                    await self._woken.wait()
            finally:
                for task in playing:
                    task.cancel()
                await asyncio.gather(*playing, return_exceptions=True)
        if self._problem is not None:
            raise self._problem

    async def _one(self, executor: Executor, job: Job) -> None:
        session = self._session
        seed = episode_seed(session.config.seed, job.case, job.sample)
        left, losses = self._retries, 0
        while True:
            claim = await session.ledger.claim(job.case, job.sample, seed, self._run_id)
            try:
                played = await executor.play(job.case, seed, claim)
            except WorkerLostError:
                losses += 1
                if losses <= LOSSES:
                    # Nothing is wrong with it that we know of: it goes on from its journal.
                    continue
                problem = WorkerError(f"{losses} workers died playing this episode")
                await session.fail(claim["episode_id"], claim["attempt"], problem)
                played = Played(claim["episode_id"], problem)
            error = played.error
            if error is None:
                self.tally.ok += 1
                return
            if isinstance(error, BudgetError):
                self.tally.unfinished += 1
                self.drain(str(error))
                return
            if isinstance(error, ReplayError) or (isinstance(error, ProviderError) and error.fatal):
                # No further episode would fare better, and a replay is never paid for anew.
                self._problem = self._problem or error
                self.tally.failed += 1
                self.drain(str(error))
                return
            if left == 0 or self._draining:
                self.tally.failed += 1
                self.tally.boundaries[played.boundary] += 1
                return
            left -= 1


@contextmanager
def interruptible(batch: Batch) -> Iterator[None]:
    """The first Ctrl-C drains, the second one stops."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    asked = 0

    def interrupt() -> None:
        nonlocal asked
        asked += 1
        if asked == 1:
            batch.drain("interrupted")
            click.echo("finishing the episodes in flight; Ctrl-C again stops at once", err=True)
        elif task is not None:
            task.cancel()

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


async def run_batch(
    batch: Batch, executor: Executor, meter: Meter, console: Console | None
) -> None:
    """Play with progress on ``console``; without one in silence."""
    with interruptible(batch):
        if console is None:
            await batch.play(executor, lambda: None)
        else:
            with shown(batch.tally, meter, executor, console) as changed:
                await batch.play(executor, changed)
