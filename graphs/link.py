"""What the driver of a batch and its workers say to each other.

Why: workers play episodes; the driver holds what there is only one of: the store's writer, the
sentence encoder and the budget. Everything between them is one of these messages, so that a worker
may be a process of this machine (a socket) or an actor of a Ray cluster (its method calls).
A message is pickled: both ends are this project, started by the same user.
"""

import asyncio
import pickle
import struct
from typing import Any, Literal, NamedTuple

from graphs.state import Claim
from mentalarena.budget import Meter
from mentalarena.case import Case
from mentalarena.config import ArenaConfig
from mentalarena.errors import MentalArenaError
from mentalarena.roster import Library
from mentalarena.thresholds import Thresholds

_LENGTH = struct.Struct("!Q")


class Setup(NamedTuple):
    """Driver to worker, once: what is played and within what limits."""

    worker: int
    """Number of the worker, from 1."""
    run_id: str
    config: ArenaConfig
    thresholds: Thresholds
    library: Library
    meter: Meter
    """Limits, prices, and what was spent when the worker was started."""
    requests: int | None
    """How many it may have in flight; None for it to find out."""


class Play(NamedTuple):
    """Driver to worker: play this episode."""

    job: int
    case: Case
    seed: int
    claim: Claim


class Stop(NamedTuple):
    """Driver to worker: end what is being played, record it as stopped, and leave."""


class Request(NamedTuple):
    """Worker to driver: do this where the store and the encoder are."""

    id: int
    what: Literal["write", "fetch", "vectors"]
    argument: Any
    """Rows; (SQL, parameters); texts."""
    in_flight: int = 0
    """Requests that the worker has in flight."""


class Reply(NamedTuple):
    """Driver to worker: what came of a request."""

    id: int
    value: Any
    error: MentalArenaError | None
    spent: tuple[int, int, float]
    """Calls, tokens and cost of the whole run so far."""


class Ended(NamedTuple):
    """Worker to driver: an episode has ended, well when there is no error."""

    job: int
    error: Exception | None


class Limit(NamedTuple):
    """Worker to driver: it may have this many requests in flight now."""

    requests: int


class Left(NamedTuple):
    """Worker to driver: nothing is being played any more, nothing more will be said."""


Message = Setup | Play | Stop | Request | Reply | Ended | Limit | Left


def packed(message: Message) -> bytes:
    """A message as bytes, its length before it."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


async def next_message(reader: asyncio.StreamReader) -> Message:
    """The next message.

    Raises:
        ConnectionError: the other side is gone.
    """
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        message: Message = pickle.loads(await reader.readexactly(length))
    except asyncio.IncompleteReadError as error:
        raise ConnectionResetError("the other side is gone") from error
    return message
