"""Where the episodes of a batch are played: in this process, or in workers of this machine.

Why: how many episodes there are, which is next and what to do when one fails is the scheduler's
matter (:mod:`graphs.scheduler`); where one is played makes no difference to its rows.
"""

import asyncio
import itertools
import math
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Protocol

from graphs.episode import Played, play_episode
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
from graphs.session import Session
from graphs.state import Claim
from mentalarena.case import Case
from mentalarena.errors import MentalArenaError, StoreError, WorkerError
from mentalarena.gate import Gate, gate
from mentalarena.limiter import START, Limiter, Moment, limiter
from mentalarena.rows import Row

AHEAD = 1.25
"""Episodes in play for each request that may be in flight: so many ask at once that a place for a
request does not stay empty while an answer is read and stored, and that an adaptive limit, and not
the number of episodes, is what is felt out."""
AT_LEISURE = 3
"""Further episodes in play, at most, for each that may be: as many as wait for the sentence encoder
and so ask nothing. While the encoder loads, that is all of them."""
RESTARTS = 3
"""How often a worker's place is filled again, as long as no episode ends in between."""
FAREWELL = 10.0
"""Seconds that a worker gets to record what it was playing when it is told to stop."""
_STANDARD_ERROR = 2


class Executor(Protocol):
    """Plays one episode after the other, many at once. Used as an asynchronous context manager."""

    def room(self) -> int:
        """Episodes that may be in play now.

        As many as requests may be in flight, and more while some wait for the sentence encoder.
        """
        ...

    def in_flight(self) -> int:
        """Requests in flight, as far as is known here."""
        ...

    async def play(self, case: Case, seed: int, claim: Claim) -> Played:
        """Play a claimed episode to its end.

        Raises:
            WorkerLostError: whoever played it died; what it stored is there.
            WorkerError: no worker stays alive.
        """
        ...

    async def __aenter__(self) -> "Executor": ...

    async def __aexit__(self, *_: object) -> None: ...


class WorkerLostError(Exception):
    """A worker died while it played an episode."""


class InProcess:
    """Plays in this process's event loop.

    Args:
        session: What is played.
        run_id: The run that the history of an adaptive limit belongs to.
        concurrency: Requests in flight; None to find out what the server takes.
        changed: Called when there may be more room.
    """

    def __init__(
        self, session: Session, run_id: str, concurrency: int | None, changed: Callable[[], None]
    ) -> None:
        self._session = session
        self._run_id = run_id
        self._concurrency = concurrency
        self._changed = changed
        self._limiter: Limiter | None = None
        self._gate: Gate | None = None
        self._history: LimitHistory | None = None

    def room(self) -> int:
        """See :class:`Executor`."""
        if self._concurrency is not None:
            limit = int(self._concurrency * AHEAD)
        else:
            limit = math.ceil((self._limiter.limit if self._limiter else START) * AHEAD)
        return limit + min(AT_LEISURE * limit, self._session.waiting)

    def in_flight(self) -> int:
        """See :class:`Executor`."""
        return self._gate.held if self._gate else self._limiter.in_flight if self._limiter else 0

    async def play(self, case: Case, seed: int, claim: Claim) -> Played:
        """See :class:`Executor`."""
        return await play_episode(self._session, case, seed, claim)

    async def __aenter__(self) -> "InProcess":
        self._session.waits = self._changed
        if self._concurrency is not None:
            self._gate = Gate(self._concurrency)
            gate.set(self._gate)
        else:
            history = self._history = LimitHistory(self._session.store, self._run_id, 0)

            def note(moment: Moment) -> None:
                history.add(moment)
                self._changed()

            self._limiter = Limiter(note, self._session.meter.check)
            limiter.set(self._limiter)
        return self

    async def __aexit__(self, *_: object) -> None:
        limiter.set(None)
        gate.set(None)
        self._session.waits = lambda: None
        if self._history is not None:
            with suppress(StoreError):
                await self._history.flush()


class Connection(Protocol):
    """The driver's end of the line to one worker."""

    def send(self, message: Message) -> None:
        """Say something; what cannot be said any more is dropped."""
        ...

    async def next(self) -> Message:
        """What the worker says next.

        Raises:
            ConnectionError: it is gone.
        """
        ...

    async def close(self) -> None:
        """Make sure that the worker is gone."""
        ...


Connect = Callable[[Setup], Awaitable[Connection]]
"""Starts a worker."""


class Workers:
    """Plays in a number of workers, each of which may have a share of the episodes in flight.

    The store's writer, the encoder and the budget stay here; a worker asks for them.

    Args:
        session: What is played.
        run_id: The run.
        concurrency: Requests in flight, over all workers; None to find out what the server takes.
        changed: Called when there may be more room.
        workers: How many.
        connect: Starts one.
    """

    def __init__(
        self,
        session: Session,
        run_id: str,
        concurrency: int | None,
        changed: Callable[[], None],
        workers: int,
        connect: Connect,
    ) -> None:
        self._session = session
        self._run_id = run_id
        self._concurrency = concurrency
        self._changed = changed
        self._connect = connect
        # A worker that may ask nothing would never end what it is given.
        workers = min(workers, concurrency or workers)
        self._places = [_Place(number) for number in range(1, workers + 1)]
        self._losses = 0
        """Workers lost since an episode ended."""
        self._closing = False
        self._jobs = itertools.count()

    def room(self) -> int:
        """See :class:`Executor`."""
        if self._concurrency is not None:
            limit = int(self._concurrency * AHEAD)
        else:
            limit = sum(math.ceil(place.limit * AHEAD) for place in self._places)
        return limit + min(AT_LEISURE * limit, self._session.waiting)

    def in_flight(self) -> int:
        """See :class:`Executor`; what the workers said last."""
        return sum(place.in_flight for place in self._places)

    async def play(self, case: Case, seed: int, claim: Claim) -> Played:
        """See :class:`Executor`."""
        place = min(self._places, key=lambda place: (place.load, place.number))
        job = next(self._jobs)
        place.load += 1
        try:
            async with place.filling:
                connection = place.connection or await self._fill(place)
            ended = place.playing[job] = asyncio.get_running_loop().create_future()
            connection.send(Play(job, case, seed, claim))
            error = await ended
        finally:
            place.load -= 1
            place.playing.pop(job, None)
        self._losses = 0
        return Played(claim["episode_id"], error)

    async def __aenter__(self) -> "Workers":
        self._session.waits = self._changed
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closing = True
        self._session.waits = lambda: None
        for place in self._places:
            if place.connection is not None:
                place.connection.send(Stop())
        listening = [place.listening for place in self._places if place.listening is not None]
        if listening:
            for task in (await asyncio.wait(listening, timeout=FAREWELL))[1]:
                task.cancel()
        for place in self._places:
            if place.connection is not None:
                await place.connection.close()

    async def _fill(self, place: "_Place") -> Connection:
        """Start a worker in this place."""
        if self._losses > RESTARTS:
            raise WorkerError(
                f"{self._losses} workers died one after the other; what they said is above (one "
                "that the system killed says nothing: it may be out of memory); use fewer "
                "--workers or a lower --concurrency, and the same command goes on"
            )
        setup = Setup(
            place.number,
            self._run_id,
            self._session.config,
            self._session.thresholds,
            self._session.library,
            self._session.meter,
            self._share(place.number),
        )
        connection = place.connection = await self._connect(setup)
        place.listening = asyncio.create_task(self._listen(place, connection))
        return connection

    def _share(self, number: int) -> int | None:
        """Requests that a worker may have in flight; None for it to find out."""
        if self._concurrency is None:
            return None
        whole, rest = divmod(self._concurrency, len(self._places))
        return whole + (number <= rest)

    async def _listen(self, place: "_Place", connection: Connection) -> None:
        serving: set[asyncio.Task[None]] = set()
        try:
            while not isinstance(message := await connection.next(), Left):
                if isinstance(message, Request):
                    place.in_flight = message.in_flight
                    task = asyncio.create_task(self._serve(connection, message))
                    serving.add(task)
                    task.add_done_callback(serving.discard)
                elif isinstance(message, Ended):
                    ended = place.playing.get(message.job)
                    if ended is not None and not ended.done():
                        ended.set_result(message.error)
                elif isinstance(message, Limit):
                    place.limit = message.requests
                    self._changed()
        except ConnectionError:
            if self._closing:
                return
            place.connection = None
            place.in_flight = 0
            self._losses += 1
            # What it asked for before it died is done all the same: it may have been paid for.
            await asyncio.gather(*serving, return_exceptions=True)
            await connection.close()
            for ended in place.playing.values():
                if not ended.done():
                    ended.set_exception(WorkerLostError())

    async def _serve(self, connection: Connection, request: Request) -> None:
        value: object = None
        problem: MentalArenaError | None = None
        store, meter = self._session.store, self._session.meter
        try:
            if request.what == "write":
                await store.write(request.argument)
                for row in request.argument:
                    if isinstance(row, Row) and row.table == "calls":
                        paid = row.values
                        meter.spend(
                            paid["prompt_tokens"], paid["completion_tokens"], paid["cost"],
                            paid["attempts"],
                        )  # fmt: skip
            elif request.what == "fetch":
                value = await store.fetch_async(*request.argument)
            else:
                embed = partial(self._session.embedder.vectors, request.argument)
                value = await self._session.encoding(embed)
        except MentalArenaError as error:
            problem = error
        spent = meter.calls, meter.tokens, meter.cost
        connection.send(Reply(request.id, value, problem, spent))


class _Place:
    """Where one worker stands, and its successor after it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.load = 0
        """Episodes given to it, those included that wait for it to start."""
        self.connection: Connection | None = None
        self.listening: asyncio.Task[None] | None = None
        self.playing: dict[int, asyncio.Future[Exception | None]] = {}
        self.limit = START
        self.in_flight = 0
        self.filling = asyncio.Lock()


class WorkerProcess:
    """A worker in a process of this machine; it ends with the driver, however that ends."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer

    @classmethod
    async def start(cls, setup: Setup) -> "WorkerProcess":
        """Start it and tell it what is played."""
        ours, theirs = socket.socketpair()
        process = subprocess.Popen(
            [sys.executable, "-m", "graphs.worker", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            stdin=subprocess.DEVNULL,
            # Standard output is for results only.
            stdout=_STANDARD_ERROR,
            # Ctrl-C in a terminal is the driver's to act on.
            start_new_session=True,
        )
        theirs.close()
        reader, writer = await asyncio.open_connection(sock=ours)
        started = cls(process, reader, writer)
        started.send(setup)
        return started

    def send(self, message: Message) -> None:
        """See :class:`Connection`."""
        if not self._writer.is_closing():
            self._writer.write(packed(message))

    async def next(self) -> Message:
        """See :class:`Connection`."""
        return await next_message(self._reader)

    async def close(self) -> None:
        """See :class:`Connection`."""
        self._writer.close()
        try:
            await asyncio.to_thread(self._process.wait, FAREWELL)
        except subprocess.TimeoutExpired:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)
