"""A worker: plays the episodes it is given; what it stores and spends, it asks its driver for.

Why: one core's worth of Python plays only so many episodes at once. A worker keeps nothing that
matters: its store is the driver's, reached over a connection, so what the driver has acknowledged
survives the worker's death, and another worker goes on from there.

How it is run: :mod:`graphs.executors` starts ``python -m graphs.worker FD`` with one end of a
socket pair; a Ray actor holds the same :class:`Worker`.
"""

import asyncio
import contextvars
import itertools
import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from graphs import loop
from graphs.episode import play_episode
from graphs.limits import LimitHistory
from graphs.link import (
    Ended,
    Left,
    Limit,
    Message,
    Play,
    Reply,
    Request,
    Setup,
    Stop,
    next_message,
    packed,
)
from graphs.session import Parts, Session, adopt_session
from graphs.warm import warm
from mentalarena.budget import Meter
from mentalarena.builtin_vectors import builtin_vectors
from mentalarena.case import Case
from mentalarena.encoder_process import Vectors
from mentalarena.errors import MentalArenaError, StoreError
from mentalarena.gate import Gate, gate
from mentalarena.limiter import Limiter, Moment, limiter
from mentalarena.rows import Write
from mentalarena.similarity import SentenceEncoder
from mentalarena.store_api import Params

_GONE = "the driver of the batch is gone"


class Worker:
    """Plays episodes in the running event loop.

    Args:
        setup: What is played.
        send: Takes a message for the driver; called from the event loop only.
    """

    def __init__(self, setup: Setup, send: Callable[[Message], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._ids = itertools.count()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._playing: set[asyncio.Task[None]] = set()
        self._lost = False
        self._stopping: asyncio.Task[None] | None = None
        self.gone = asyncio.Event()
        """Set when the worker has left, at the driver's wish."""
        store = LinkedStore(setup.config.db, self)
        self._cases: dict[str, Case] = {}
        parts = Parts(store, LinkedEncoder(self), setup.thresholds, self._cases, setup.library)
        self._session = Session(setup.config, parts)
        self._session.meter = self._meter = LinkedMeter.of(setup.meter)
        adopt_session(self._session)
        warm(self._session)
        self._history: LimitHistory | None = None
        self._in_flight: Callable[[], int]
        if setup.requests is not None:
            held = Gate(setup.requests)
            gate.set(held)
            self._in_flight = lambda: held.held
        else:
            history = self._history = LimitHistory(store, setup.run_id, setup.worker)

            def note(moment: Moment) -> None:
                history.add(moment)
                send(Limit(moment.limit))

            found = Limiter(note, self._meter.check)
            limiter.set(found)
            self._in_flight = lambda: found.in_flight
        # An actor hears each thing in a context of its own; episodes need what this one holds.
        self._context = contextvars.copy_context()

    def receive(self, message: Message) -> None:
        """Take a message of the driver; called from the event loop only."""
        if isinstance(message, Reply):
            self._meter.calls, self._meter.tokens, self._meter.cost = message.spent
            waiting = self._waiting.pop(message.id)
            if waiting.done():
                return
            if message.error is not None:
                waiting.set_exception(message.error)
            else:
                waiting.set_result(message.value)
        elif isinstance(message, Play):
            task = self._loop.create_task(self._play(message), context=self._context)
            self._playing.add(task)
            task.add_done_callback(self._playing.discard)
        elif isinstance(message, Stop):
            self._stopping = asyncio.create_task(self._leave())

    async def request(self, what: Any, argument: Any) -> Any:
        """What the driver answers.

        Raises:
            MentalArenaError: what went wrong there.
        """
        if self._lost:
            raise StoreError(_GONE)
        number = next(self._ids)
        answer = self._waiting[number] = self._loop.create_future()
        self._send(Request(number, what, argument, self._in_flight()))
        return await answer

    def request_sync(self, what: Any, argument: Any) -> Any:
        """The same, from another thread than the event loop's."""
        return asyncio.run_coroutine_threadsafe(self.request(what, argument), self._loop).result()

    def lose(self) -> None:
        """The driver is gone: nothing that waits for it will be answered."""
        self._lost = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(StoreError(_GONE))

    async def _play(self, play: Play) -> None:
        self._cases[play.case.id] = play.case
        played = await play_episode(self._session, play.case, play.seed, play.claim)
        error = played.error
        if error is not None and not isinstance(error, MentalArenaError):
            # An exception of a library may not survive the way; its words are stored already.
            error = RuntimeError(f"{type(error).__name__}: {error}")
        self._send(Ended(play.job, error))

    async def _leave(self) -> None:
        for task in self._playing:
            task.cancel()
        await asyncio.gather(*self._playing, return_exceptions=True)
        if self._history is not None:
            with suppress(StoreError):
                await self._history.flush()
        self._send(Left())
        self.gone.set()


class LinkedMeter(Meter):
    """What the run has spent, as the driver counts it."""

    @classmethod
    def of(cls, meter: Meter) -> "LinkedMeter":
        """With the limits, the prices and the spending of a driver's meter."""
        return cls(**{name: getattr(meter, name) for name in Meter.__dataclass_fields__})

    def spend(
        self, prompt: int | None, completion: int | None, cost: float | None, requests: int = 1
    ) -> None:
        """Nothing: the driver counted the call when it stored it, and has told."""


class LinkedStore:
    """The driver's store; see :class:`mentalarena.store_api.EpisodeStore`."""

    def __init__(self, path: str, worker: Worker) -> None:
        self.path = Path(path)
        self._worker = worker

    async def write(self, rows: Sequence[Write]) -> None:
        """Returns once the driver has committed the rows."""
        if rows:
            await self._worker.request("write", list(rows))

    def write_sync(self, rows: Sequence[Write]) -> None:
        """The same, from a thread."""
        self._worker.request_sync("write", list(rows))

    async def fetch_async(self, sql: str, params: Params = ()) -> list[dict[str, Any]]:
        """Rows of one query."""
        rows: list[dict[str, Any]] = await self._worker.request("fetch", (sql, params))
        return rows

    def fetch(self, sql: str, params: Params = ()) -> list[dict[str, Any]]:
        """The same, from a thread."""
        rows: list[dict[str, Any]] = self._worker.request_sync("fetch", (sql, params))
        return rows

    def vectors(self, encoder_hash: str, text_hashes: Iterable[str]) -> Mapping[str, bytes]:
        """Nothing: the driver's encoder looks into the store itself."""
        return {}

    def put_vectors(self, encoder_hash: str, vectors: Mapping[str, bytes]) -> None:
        """Nothing: the driver's encoder has kept them."""


class LinkedEncoder(SentenceEncoder):
    """The driver's encoder behind this worker's memory: there is one copy of the weights."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(None, builtin_vectors())
        self._worker = worker

    def _embed(self, texts: Mapping[str, str]) -> dict[str, Vectors]:
        made = self._worker.request_sync("vectors", list(texts.values()))
        return dict(zip(texts, np.asarray(made, dtype="<f4"), strict=True))


async def serve(connection: socket.socket) -> None:
    """Play what comes over ``connection``, until the driver says stop or is gone."""
    reader, writer = await asyncio.open_connection(sock=connection)
    setup = await next_message(reader)
    assert isinstance(setup, Setup)
    worker = Worker(setup, lambda message: writer.write(packed(message)))
    listening = asyncio.create_task(_listen(reader, worker))
    leaving = asyncio.create_task(worker.gone.wait())
    await asyncio.wait((listening, leaving), return_when=asyncio.FIRST_COMPLETED)
    if leaving.done():
        await writer.drain()
    listening.cancel()
    leaving.cancel()
    worker.lose()
    writer.close()


async def _until_the_end(connection: socket.socket) -> None:
    await serve(connection)
    sys.stderr.flush()
    # Threads may still wait for an answer of the driver, which will not come. What is not stored by
    # now is not lost: it is made again from the journal.
    os._exit(0)


async def _listen(reader: asyncio.StreamReader, worker: Worker) -> None:
    with suppress(ConnectionError):
        while True:
            worker.receive(await next_message(reader))


if __name__ == "__main__":
    loop.run(_until_the_end(socket.socket(fileno=int(sys.argv[1]))))
