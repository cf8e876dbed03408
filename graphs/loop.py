"""The event loop that many episodes share, set up for many small turns.

Why: a batch is thousands of small steps that wait for a server, the store's thread and the
encoder's threads, and every hand-over costs. uvloop, libuv's event loop, takes about a tenth less
CPU a call than asyncio's own; and a thread that computes gives the interpreter back after one
millisecond instead of five, which is what an answer waited for until it was committed.
"""

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

SWITCH_SECONDS = 0.001
"""How long a thread may keep the interpreter while others want it."""


def run(main: Coroutine[Any, Any, T]) -> T:
    """As :func:`asyncio.run`, for a process that plays many episodes at once."""
    sys.setswitchinterval(SWITCH_SECONDS)
    if sys.platform == "win32":
        return asyncio.run(main)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
