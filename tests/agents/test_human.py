"""A person at a real terminal: the whole command runs on a pseudo-terminal."""

import os
import select
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="needs a pseudo-terminal")

PATIENCE = 60.0
"""Seconds to wait for the prompt: the command imports and opens its store first."""


class Terminal:
    """A command on a pseudo-terminal: what it shows, and what is typed."""

    def __init__(self, *arguments: str) -> None:
        self.shown = ""
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            # Tests started in the background inherit an ignored interrupt; a terminal does not.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.execv(sys.executable, [sys.executable, "-m", "mentalarena.cli", *arguments])

    def wait_for(self, text: str) -> None:
        end = time.monotonic() + PATIENCE
        while text not in self.shown:
            assert self._read(end - time.monotonic()), f"{text!r} never came: {self.shown[-2000:]}"

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def exit_code(self, within: float) -> int:
        """How it ended; the clock runs from now."""
        end = time.monotonic() + within
        while self._read(end - time.monotonic()):
            pass
        while time.monotonic() < end:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._pid = 0
                return os.waitstatus_to_exitcode(status)
            threading.Event().wait(0.02)
        pytest.fail(f"still running after {within} s: {self.shown[-500:]}")

    def close(self) -> None:
        if self._pid:
            os.kill(self._pid, 9)
            os.waitpid(self._pid, 0)
        os.close(self._fd)

    def _read(self, timeout: float) -> bool:
        if not select.select([self._fd], [], [], max(timeout, 0))[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)


@pytest.fixture
def terminal(tmp_path: Path):
    db = str(tmp_path / "human.db")
    opened = Terminal("run", "--therapist", "human", "--episodes", "2", "--db", db)
    opened.wait_for("\n> ")
    yield opened
    opened.close()


def test_the_first_ctrl_c_ends_the_run(terminal: Terminal) -> None:
    terminal.type("\x03")
    assert terminal.exit_code(within=10) == 130
    assert "interrupted; what was stored is kept" in terminal.shown
    assert "Traceback" not in terminal.shown


def test_ctrl_c_in_a_later_turn_ends_it_too(terminal: Terminal) -> None:
    terminal.type("How long has it been like this?\n")
    shown = len(terminal.shown)
    while "\n> " not in terminal.shown[shown:]:
        assert terminal._read(PATIENCE)
    terminal.type("half a line\x03")
    assert terminal.exit_code(within=10) == 130
    assert "Traceback" not in terminal.shown


def test_the_end_of_input_is_one_clear_line(terminal: Terminal) -> None:
    shown = len(terminal.shown)
    terminal.type("\x04")
    assert terminal.exit_code(within=10) == 2
    rows = [row for row in terminal.shown[shown:].splitlines() if row.strip()]
    assert rows[-1] == "error: the terminal was closed while the human seat was asked"
    assert "Traceback" not in terminal.shown
