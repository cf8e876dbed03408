"""Who may ask a model, where the number of requests in flight is given and not found out.

Why: a place that is empty between two requests is time lost, so it is given on the moment an answer
has arrived, and more episodes are in play than there are places. Of those that wait, the one with
the fewest answers goes first: a batch is over when its last episode is, and whoever has furthest to
go would be that one. Kept up strictly, that would march all episodes in step, and they would come
to the decoder all at once and leave every place empty while it computes; so each has a head start
of its own. Answers that have arrived and are not stored yet are bounded too, because a kill costs
them.
"""

import asyncio
import heapq
import itertools
from contextvars import ContextVar
from types import TracebackType

UNSTORED = 8
"""Places for each answer that may be on its way to the store: one in eight, and at least one."""
HEAD_START = 3.0
"""Answers that one episode is let be ahead of another, at most."""
_GOLDEN = (5**0.5 - 1) / 2
"""Its multiples, of which only the fraction counts, spread any number of them evenly."""


class Progress:
    """How many answers an episode has had from models."""

    def __init__(self) -> None:
        self.answers = 0
        self.head_start: float | None = None
        """Answers that it is let be ahead; the gate gives it at the first wait."""


class Gate:
    """Places for requests, first for who has furthest to go; belongs to one event loop."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._waiting: list[tuple[float, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._episodes = itertools.count()
        self.held = 0
        """Places taken."""
        self.storing = asyncio.Semaphore(max(1, places // UNSTORED))
        """Taken with an answer before its place is given on, until the answer is stored: a kill
        costs no more than the places and these."""

    async def __aenter__(self) -> "Gate":
        if self._free:
            self._free -= 1
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            heapq.heappush(self._waiting, (self._rank(), next(self._numbers), turn))
            try:
                await turn
            except asyncio.CancelledError:
                # Its turn may have come in the same moment.
                if turn.done() and not turn.cancelled():
                    self._give_on()
                raise
        self.held += 1
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.held -= 1
        if (mine := progress.get()) is not None:
            mine.answers += 1
        self._give_on()

    def _rank(self) -> float:
        """Who waits with the lowest goes first."""
        mine = progress.get()
        if mine is None:
            return 0
        if mine.head_start is None:
            mine.head_start = HEAD_START * (next(self._episodes) * _GOLDEN % 1)
        return mine.answers - mine.head_start

    def _give_on(self) -> None:
        while self._waiting:
            turn = heapq.heappop(self._waiting)[2]
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


gate: ContextVar[Gate | None] = ContextVar("gate", default=None)
"""The gate of the run that is being played, if it has one."""
progress: ContextVar[Progress | None] = ContextVar("progress", default=None)
"""That of the episode that is being played."""
