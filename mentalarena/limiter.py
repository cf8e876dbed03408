"""How many requests may be in flight: found out, not guessed.

Why: a server's limit is seldom known and changes with its load. The limiter starts low and doubles
each round (slow start) until the server says "too many" or falls silent; then it halves, waits as
long as it was told to, and feels its way up again by one request a round. It grows only while the
limit is what holds requests back, and it takes the many refusals of one overload for one.
The scheme is that of TCP's congestion control (RFC 5681), with requests in the place of segments.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import Literal, NamedTuple

START = 4
"""Requests in flight at first."""
MOST = 1000
"""Requests in flight at most: the size of the client's connection pool."""
CUT = 0.5
"""What is left of the limit after an overload."""
PAUSE = 1.0
"""Seconds without a new request after an overload whose refusals name no time."""

Reason = Literal["start", "grow", "throttled", "silent"]


class Moment(NamedTuple):
    """One change of the limit."""

    reason: Reason
    limit: int
    in_flight: int


class _Entry(NamedTuple):
    """How a request was let in."""

    at: float
    """On the monotonic clock, seconds."""
    full: bool
    """Whether it took the last place."""


class Limiter:
    """A limit on requests in flight that follows what the server can take.

    Belongs to one event loop.

    Args:
        changed: Called at every change of the whole-number limit.
        check: Called when a request's turn has come; what it raises, the request raises. It may
            have waited long, and what was to be spent may be spent by now.
        start: Limit to begin with.
        most: Limit that is never passed.
    """

    def __init__(
        self,
        changed: Callable[[Moment], None],
        check: Callable[[], None] = lambda: None,
        *,
        start: int = START,
        most: int = MOST,
    ) -> None:
        self._changed = changed
        self._check = check
        self._limit = float(min(start, most))
        self._most = most
        self._threshold = float(most)
        """Below it the limit doubles each round, above it grows by one."""
        self._in_flight = 0
        self._waiting: deque[asyncio.Future[_Entry]] = deque()
        self._resume_at = 0.0
        self._cut_at = float("-inf")
        self._alarm: asyncio.TimerHandle | None = None
        self._tell("start")

    @property
    def limit(self) -> int:
        """Requests that may be in flight now."""
        return int(self._limit)

    @property
    def in_flight(self) -> int:
        """Requests in flight now."""
        return self._in_flight

    def request(self) -> "_Slot":
        """A slot for one request: waits for room, and reports how the request went."""
        return _Slot(self)

    async def _enter(self) -> _Entry:
        if not self._waiting and self._has_room():
            return self._let_in()
        turn: asyncio.Future[_Entry] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._admit()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave()
            raise

    def _let_in(self) -> _Entry:
        self._in_flight += 1
        return _Entry(time.monotonic(), self._in_flight >= self.limit)

    def _leave(self) -> None:
        self._in_flight -= 1
        self._admit()

    def _has_room(self) -> bool:
        return self._in_flight < self.limit and time.monotonic() >= self._resume_at

    def _admit(self) -> None:
        """Let those in for whom there is room; after a pause, come back by itself."""
        while self._waiting and self._has_room():
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(self._let_in())
        left = self._resume_at - time.monotonic()
        if self._waiting and left > 0 and self._alarm is None:
            self._alarm = asyncio.get_running_loop().call_later(left + 0.001, self._after_pause)

    def _after_pause(self) -> None:
        self._alarm = None
        self._admit()

    def _succeeded(self, entry: _Entry) -> None:
        # What began before a cut tells nothing about the limit after it; what began while there was
        # room tells nothing about a higher one.
        if not entry.full or entry.at < self._cut_at:
            return
        before = self.limit
        gain = 1.0 if self._limit < self._threshold else 1.0 / self._limit
        self._limit = min(self._limit + gain, float(self._most))
        if self.limit != before:
            self._tell("grow")
            self._admit()

    def _overloaded(self, entry: _Entry, reason: Reason, wait: float | None) -> None:
        now = time.monotonic()
        pause = PAUSE if wait is None else wait
        self._resume_at = max(self._resume_at, now + pause)
        if entry.at < self._cut_at:
            return
        self._cut_at = now
        # What was in flight is what the server could not take, where that is less than the limit.
        self._limit = max(1.0, min(self._limit, float(self._in_flight)) * CUT)
        self._threshold = self._limit
        self._tell(reason)

    def _tell(self, reason: Reason) -> None:
        self._changed(Moment(reason, self.limit, self._in_flight))


class _Slot(AbstractAsyncContextManager["_Slot"]):
    """One request's place; the request says how it went before it leaves."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter
        self._entry = _Entry(0.0, False)

    async def __aenter__(self) -> "_Slot":
        self._entry = await self._limiter._enter()
        try:
            self._limiter._check()
        except BaseException:
            self._limiter._leave()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._limiter._leave()

    def succeeded(self) -> None:
        """The server answered."""
        self._limiter._succeeded(self._entry)

    def throttled(self, wait: float | None) -> None:
        """The server said that it has too much to do, and perhaps for how long (seconds)."""
        self._limiter._overloaded(self._entry, "throttled", wait)

    def silent(self) -> None:
        """The server did not answer in time."""
        self._limiter._overloaded(self._entry, "silent", 0.0)


limiter: ContextVar[Limiter | None] = ContextVar("limiter", default=None)
"""The limiter of the run that is being played, if it has one; whichever seat makes a request."""
