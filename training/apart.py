"""Work that is done in a process of its own, so that its memory is given back.

Why: a fine-tuning leaves gigabytes with the process that did it, on a GPU too, where the server of
the next stage wants them.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from mentalarena.errors import WorkerError

T = TypeVar("T")


def apart(work: Callable[..., T], *values: Any) -> T:
    """What ``work`` gives for ``values``; function, values, result and errors can be pickled.

    The process ends with this one, also when this one is killed.

    Raises:
        WorkerError: it died before its work was done.
        Exception: whatever ``work`` raises.
    """
    spawn = multiprocessing.get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=_do, args=(sender, work, values))
    process.start()
    sender.close()
    try:
        done, found = receiver.recv()
    except EOFError:
        process.join()
        raise WorkerError(
            f"the process of {work.__module__} died (exit {process.exitcode}): "
            "if memory ran out, use less of it, and run the same command again"
        ) from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    if not done:
        raise found
    return found  # type: ignore[no-any-return]


def _do(sender: Connection, work: Callable[..., Any], values: tuple[Any, ...]) -> None:
    # Ctrl-C is the parent's to answer, which ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        sender.send((True, work(*values)))
    except Exception as error:
        sender.send((False, error))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
