"""What tests of batches share: a short recipe, a batch in a process of its own, and its rows."""

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.mock_server import MockServer, MockServerProcess
from mentalarena.store import Store
from tests.graphs.test_commands import Ended, heed_interrupts

AnyServer = MockServer | MockServerProcess

SHORT = ("--recipe", "short.toml")


def short_recipe(folder: Path) -> None:
    """The recipe that :data:`SHORT` names, in the folder where commands run."""
    (folder / "short.toml").write_text(
        "exchanges = 1\nprobe_rounds = 1\nmax_plans = 1\njudge_samples = 1\n", "utf-8"
    )


def model(server: AnyServer) -> tuple[str, ...]:
    return ("--model", "openai:m", "--base-url", server.base_url, *SHORT)


def result(ended: Ended) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(ended.out)
    return values


def check_whole(store: Store) -> None:
    """Nothing dangles and nothing is corrupt."""
    assert store.fetch("pragma integrity_check") == [{"integrity_check": "ok"}]
    assert store.fetch("pragma foreign_key_check") == []


def pause(seconds: float) -> None:
    """Let others run for a moment."""
    threading.Event().wait(seconds)


def start(tmp_path: Path, server: AnyServer, *args: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "graphs.batch", *model(server), *args],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=heed_interrupts,
    )  # fmt: skip


def wait_for_requests(server: AnyServer, process: "subprocess.Popen[str]", count: int) -> None:
    deadline = time.monotonic() + 60
    while server.stats()["chat_requests"] < count:
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        pause(0.005)
