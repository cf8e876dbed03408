"""Work that is done in a process of its own, so that its memory is given back.

Why: a fine-tuning leaves gigabytes with the process that did it, on a GPU too, where the server of
the next stage wants them.
"""

import multiprocessing
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from mentalarena.errors import MentalArenaError, WorkerError

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
    # A daemon is not waited for, should an interrupt come before the first line of what follows.
    process = spawn.Process(target=_do, args=(sender, work, values), daemon=True)
    try:
        process.start()
        sender.close()
        try:
            done, found = receiver.recv()
        except (EOFError, OSError):
            # OSError: it died in the middle of its message.
            process.join()
            killed = process.exitcode == -signal.SIGKILL
            why = ": memory ran out, or somebody killed it" if killed else ""
            raise WorkerError(
                f"the process of {work.__module__} died (exit {process.exitcode}{why}); "
                "the same command goes on"
            ) from None
    finally:
        if process.pid is not None:
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
        sender.send((False, _sendable(error)))


def _sendable(error: Exception) -> Exception:
    """An error as it can be sent, with the lines it came from."""
    lines = traceback.format_exc()
    if not isinstance(error, MentalArenaError):
        error.add_note(lines)
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(lines)
    return error


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
