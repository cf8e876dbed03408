"""A command on a pseudo-terminal, as a person meets it."""

import os
import select
import signal
import sys
import threading
import time

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
