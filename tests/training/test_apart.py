"""Work in a process of its own: what it gives, what it raises, and that it never stays behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mentalarena.errors import ConfigurationError, WorkerError
from training.apart import apart


def here(value: int) -> tuple[int, int]:
    return value, os.getpid()


def refused() -> None:
    raise ConfigurationError("max_length = 1: raise it")


class OddError(Exception):
    def __init__(self, *, where: str) -> None:
        super().__init__(where)


def broken(odd: bool) -> None:
    if odd:
        raise OddError(where="deep down")
    [][1]


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_result_comes_back_from_another_process() -> None:
    value, process = apart(here, 7)
    assert value == 7
    assert process != os.getpid()


def test_its_error_is_raised_here() -> None:
    with pytest.raises(ConfigurationError, match="max_length = 1: raise it"):
        apart(refused)


def test_an_unexpected_error_brings_the_lines_it_came_from() -> None:
    with pytest.raises(IndexError) as found:
        apart(broken, False)
    assert "[][1]" in "".join(found.value.__notes__)
    with pytest.raises(RuntimeError, match="deep down"):
        apart(broken, True)


def test_a_process_that_dies_is_said_in_one_line() -> None:
    with pytest.raises(WorkerError, match=r"died \(exit -9: memory ran out.*goes on") as found:
        apart(killed)
    assert "\n" not in str(found.value)


def wait_long(note: str) -> None:
    Path(note).write_text(str(os.getpid()), "utf-8")
    threading.Event().wait(600)


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text("utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_it_ends_with_its_parent(tmp_path: Path, how: signal.Signals) -> None:
    note = tmp_path / "pid"
    code = (
        "from training.apart import apart\n"
        "from tests.training.test_apart import wait_long\n"
        f"apart(wait_long, {str(note)!r})\n"
    )
    root = str(Path(__file__).resolve().parents[2])
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=root, stderr=subprocess.PIPE, text=True,
        start_new_session=True, env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (note.is_file() and note.read_text("utf-8")) and time.monotonic() < deadline:
        threading.Event().wait(0.05)
    child = int(note.read_text("utf-8"))
    # Ctrl-C goes to all processes of the terminal.
    (os.killpg if how == signal.SIGINT else os.kill)(parent.pid, how)
    _, said = parent.communicate(timeout=30)
    assert said.count("Traceback") == (how == signal.SIGINT), "the child has nothing to say"
    while is_alive(child) and time.monotonic() < deadline:
        threading.Event().wait(0.05)
    assert not is_alive(child)
