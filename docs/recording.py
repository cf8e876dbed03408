"""The README's record of a batch that is killed and goes on.

Why: that nothing is paid twice is a promise, and a promise is believed when it is seen. The batch
is real, the server is the mock one of ``benchmarks``, which counts what it is asked; the kill falls
after a fixed number of requests, with one of them in flight, so the record comes out the same.

Run it: ``make docs`` does.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from benchmarks.mock_server import MockServerProcess

KILLED_AT = 9
"""Requests that the server has seen when the process is killed."""
_PLAYED = (
    "batch", "--case", "walter-1", "--samples", "2", "--recipe", "pilot", "--concurrency", "1",
)  # fmt: skip
_PATIENCE = 120.0


class Recorded(NamedTuple):
    """What happened."""

    stored: int
    """Answers in the store after the kill."""
    calls: int
    """Answers that the finished batch took, over both invocations."""
    asked: int
    """Requests that the server saw, over both."""
    episodes: int


def record() -> Recorded:
    """Start a batch, kill it, and run the same command again."""
    with TemporaryDirectory() as folder, MockServerProcess(reply_words=20, latency=0.3) as server:
        plain = {k: v for k, v in os.environ.items() if not k.startswith("MENTALARENA_")}
        command = [
            sys.executable, "-m", "mentalarena.cli", *_PLAYED, "--model", "openai:NAME",
            "--base-url", server.base_url, "--json",
        ]  # fmt: skip
        first = subprocess.Popen(
            command, cwd=folder, env=plain, stdout=subprocess.DEVNULL, start_new_session=True
        )
        deadline = time.monotonic() + _PATIENCE
        while server.stats()["chat_requests"] < KILLED_AT:
            if first.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the batch ended before it could be killed")
            threading.Event().wait(0.005)
        # The answer before it may be on its way to the disk; this one is not there for a while.
        threading.Event().wait(0.15)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
        stored = _stored(Path(folder) / "arena.db")
        done = subprocess.run(
            command, cwd=folder, env=plain, capture_output=True, text=True, check=True
        )
        result = json.loads(done.stdout)
        asked = server.stats()["chat_requests"]
    return Recorded(stored, result["run_calls"], asked, result["complete"])


def _stored(db: Path) -> int:
    from mentalarena.store_reader import open_readonly

    with open_readonly(db) as store:
        return int(store.fetch("select count(*) as n from calls")[0]["n"])


def recording() -> str:
    """The record as a block of text."""
    found = record()
    command = f"mentalarena {' '.join(_PLAYED)} --model openai:NAME --base-url URL"
    lines = [
        f"$ {command} &",
        f"$ kill -9 $!        # the server has been asked {KILLED_AT} times; "
        f"{found.stored} answers are stored",
        f"$ {command}",
        f"{found.episodes} of {found.episodes} complete: {found.calls} answers, for which the "
        f"server was asked {found.asked} times",
    ]
    return "```text\n" + "\n".join(lines) + "\n```"
