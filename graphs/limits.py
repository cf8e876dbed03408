"""The history of an adaptive limit, kept with the run it belongs to.

Why: how many requests a server took, and when it refused, explains a run's duration and helps to
choose a fixed number the next time.
"""

import asyncio

from mentalarena.limiter import Moment
from mentalarena.rows import Row
from mentalarena.store import utc_now
from mentalarena.store_api import EpisodeStore


class LimitHistory:
    """Writes each change of a limit into ``concurrency``.

    Args:
        store: Where to.
        run_id: The run.
        worker: Number of the worker whose limit it is; 0 for the driver.
    """

    def __init__(self, store: EpisodeStore, run_id: str, worker: int) -> None:
        self._store = store
        self._run_id = run_id
        self._worker = worker
        self._rows: list[Row] = []
        self._writing: asyncio.Task[None] | None = None

    def add(self, moment: Moment) -> None:
        """Note a change; it is written soon, together with others."""
        values = {"run_id": self._run_id, "worker": self._worker, "at": utc_now()}
        self._rows.append(Row("concurrency", {**values, **moment._asdict()}))
        if self._writing is None or self._writing.done():
            self._writing = asyncio.create_task(self._write())

    async def flush(self) -> None:
        """Return once everything noted is written.

        Raises:
            StoreError: it cannot be.
        """
        while self._rows or (self._writing is not None and not self._writing.done()):
            await (self._writing if self._writing and not self._writing.done() else self._write())

    async def _write(self) -> None:
        # What comes in a burst makes one batch.
        await asyncio.sleep(0.2)
        rows, self._rows = self._rows, []
        await self._store.write(list(rows))
