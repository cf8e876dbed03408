"""One real batch against a mock server, watched from outside: what the benchmarks measure.

Why: a figure about a command is worth something only when the command itself was run, as a user
runs it, and was measured by others: the server's log says what arrived when, the system says what
the process cost. Nothing inside the client is timed or patched.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.mock_server import MockServerProcess

ROOT = Path(__file__).resolve().parent.parent


class Answered(NamedTuple):
    """One chat completion in the server's log."""

    received: float
    """Unix time of the request's last byte."""
    finished: float
    """Unix time at which the answer was handed to the system."""
    prompt_bytes: int
    """Bytes of its messages' text."""


@dataclass(frozen=True, slots=True)
class Situation:
    """What a batch is run in."""

    latency: float
    """Seconds from a request to its answer."""
    in_flight: int
    """Episodes at once."""
    episodes: int
    recipe: Path
    """TOML file with the recipe's keys; one judge sample, so that an episode has one call at a
    time and as many calls are in flight as episodes."""


@dataclass(slots=True)
class BatchRun:
    """What one batch did and cost."""

    situation: Situation
    started: float
    """Unix time at which the process was started."""
    cpu: float
    """Seconds of user and system time of the whole process."""
    summary: dict[str, Any]
    """What ``--json`` printed."""
    answered: list[Answered]
    """Whole answers, in order of arrival."""
    memory: list[tuple[float, int]] = field(default_factory=list)
    """(Unix time, bytes resident), a few a second."""

    @property
    def calls(self) -> int:
        """Chat completions answered."""
        return len(self.answered)

    @property
    def first_call_seconds(self) -> float:
        """Seconds from the start of the process to the first call at the server."""
        return self.answered[0].received - self.started

    @property
    def span(self) -> tuple[float, float]:
        """Unix times of the first call's arrival and of the last answer."""
        return self.answered[0].received, max(one.finished for one in self.answered)

    def settled_memory(self) -> int:
        """Largest resident size in the second half of the span, bytes.

        Loading the sentence encoder has a peak of its own at the beginning, behind which what the
        episodes need would be hidden.
        """
        start, end = self.span
        middle = (start + end) / 2
        return max(size for when, size in self.memory if middle <= when <= end)


class BatchFailedError(RuntimeError):
    """The batch did not complete every episode: its figures would mean nothing."""


def run_batch(situation: Situation, db: Path, run: str = "batch") -> BatchRun:
    """Play a batch in a child process against a server of its own.

    Raises:
        BatchFailedError: some episode failed, or the command did.
    """
    log = db.with_name(f"{db.stem}-{run}.jsonl")
    with MockServerProcess(latency=situation.latency, log=str(log)) as server:
        command = [
            *(sys.executable, "-m", "graphs.batch", "--model", "openai:mock"),
            *("--base-url", server.base_url, "--recipe", str(situation.recipe)),
            *("--episodes", str(situation.episodes), "--concurrency", str(situation.in_flight)),
            *("--db", str(db), "--run", run, "--seed", "1", "--json"),
        ]
        made = _watched(command, db.with_suffix(f".{run}.out"))
    summary = json.loads(made.output or "{}")
    if made.code or summary.get("played") != situation.episodes:
        raise BatchFailedError(f"{' '.join(command)}: exit {made.code}: {made.errors[-500:]}")
    return BatchRun(situation, made.started, made.cpu, summary, _read_log(log), made.memory)


class _Made(NamedTuple):
    code: int
    output: str
    errors: str
    started: float
    cpu: float
    memory: list[tuple[float, int]]


def _watched(command: Sequence[str], output: Path) -> _Made:
    """Run a command to its end, with its CPU seconds (user and system) and resident sizes."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "LANGSMITH_TRACING": "false"}
    errors = output.with_suffix(".err")
    memory: list[tuple[float, int]] = []
    with output.open("w") as out, errors.open("w") as err:
        started = time.time()
        process = subprocess.Popen(
            command, stdout=out, stderr=err, cwd=output.parent, env=environment
        )
        ended = threading.Event()
        watcher = threading.Thread(target=_sample, args=(process.pid, ended, memory))
        watcher.start()
        try:
            # wait4 and not wait: only it tells what this one child has used.
            _, status, used = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            raise
        finally:
            ended.set()
            watcher.join()
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu = used.ru_utime + used.ru_stime
    return _Made(process.returncode, output.read_text(), errors.read_text(), started, cpu, memory)


def _sample(pid: int, ended: threading.Event, into: list[tuple[float, int]]) -> None:
    while not ended.wait(0.25):
        told = subprocess.run(
            ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=False
        ).stdout
        if told.strip():
            into.append((time.time(), int(told) * 1024))


def _read_log(log: Path) -> list[Answered]:
    found = []
    with log.open(encoding="utf-8") as rows:
        for text in rows:
            row = json.loads(text)
            if row["path"] == "/v1/chat/completions" and row["outcome"] == "ok":
                size = sum(len(message["content"].encode()) for message in row["body"]["messages"])
                found.append(Answered(row["received"], row["finished"], size))
    return sorted(found)
