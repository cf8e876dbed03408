"""A server that speaks OpenAI's chat completions protocol and fails on request.

Why: retries, rate limits, resuming and throughput can only be tested and measured against a server
whose latency and failures are known, and whose answers are a pure function of the prompt (see
``benchmarks/mock_answers.py``). What goes wrong is drawn from the prompt and from how often it was
asked, so the same requests meet the same failures in whatever order they arrive.

How to run::

    python -m benchmarks.mock_server --port 8000 --latency 1 --fail 429=0.2,cut=0.05

It prints its base URL when it is ready, binds to 127.0.0.1 only, and stops on Ctrl-C or SIGTERM.
From Python: :class:`MockServer` (a thread) or :class:`MockServerProcess` (its CPU time is not the
client's, and it ends with the process that started it).

Kinds of failure, for ``--fail kind=rate,…`` (drawn) and ``--burst kind=N,…`` (the first N):
a status from 400 to 599; ``quota`` (429 that no retry cures); ``cut`` (half of the body, then the
connection closes); ``garbage`` (200 with a body that is not JSON, or JSON without choices);
``hang`` (no answer until the client leaves); ``empty`` (an answer with no text). Refusals below
500 are sent at once, everything else after the latency.
"""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

from benchmarks.mock_core import Core, Seen
from benchmarks.mock_settings import MockSettings, read_flags, to_flags

T = TypeVar("T")


class MockServer:
    """The server in a thread of this process, with an event loop of its own.

    Use it as a context manager; settings are those of :class:`MockSettings`, by name.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = MockSettings(**settings)
        self.base_url = ""
        """``http://127.0.0.1:PORT/v1`` once started."""
        self._core = Core(self.settings, keep_requests=True)
        self._ready = threading.Event()
        self._problem: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="mock-server", daemon=True)

    @property
    def requests(self) -> list[Seen]:
        """Every request so far, in order of arrival."""
        return self._read(lambda: list(self._core.requests))

    def stats(self) -> dict[str, Any]:
        """Counts so far.

        ``connections``, ``open_connections``, ``requests``, ``chat_requests``, ``in_flight``,
        ``max_in_flight``, ``outcomes`` (outcome to count), ``prompts`` (different ones seen),
        ``prompts_answered``, ``answered_again`` (whole answers to a prompt that had one: what was
        paid twice), ``prompt_tokens`` and ``completion_tokens`` (of whole answers).
        """
        return self._read(self._core.stats)

    def _read(self, read: Callable[[], T]) -> T:
        """What ``read`` finds between two steps of the server's loop.

        A client has its answer a moment before the server has counted it; by the time the loop
        gets to a call from outside it is done with both.
        """

        async def between_steps() -> T:
            return read()

        if self._loop is None or self._loop.is_closed():
            return read()
        return asyncio.run_coroutine_threadsafe(between_steps(), self._loop).result(timeout=30)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        if self._problem is not None:
            raise self._problem
        return self

    def __exit__(self, *_: object) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        try:
            self.base_url = await self._core.start()
        except OSError as problem:
            self._problem = problem
            return
        finally:
            self._ready.set()
        await self._stop.wait()
        await self._core.close()


class MockServerProcess:
    """The server in a process of its own; requests themselves are in its ``log`` only.

    Use it as a context manager; settings are those of :class:`MockSettings`, by name.
    """

    def __init__(self, **settings: Any) -> None:
        self.settings = MockSettings(**settings)
        self.base_url = ""
        """``http://127.0.0.1:PORT/v1`` once started."""
        self._process: subprocess.Popen[str] | None = None

    def stats(self) -> dict[str, Any]:
        """Counts so far: see :meth:`MockServer.stats`."""
        with urllib.request.urlopen(self.base_url.removesuffix("v1") + "stats", timeout=10) as got:
            counts: dict[str, Any] = json.load(got)
        return counts

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "benchmarks.mock_server", *to_flags(self.settings)]
        self._process = subprocess.Popen(
            [*command, "--exit-with-stdin"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Ctrl-C in a terminal is for the client: it may still want its answers.
            start_new_session=True,
            cwd=Path(__file__).resolve().parent.parent,
        )
        assert self._process.stdout is not None
        self.base_url = self._process.stdout.readline().strip()
        if not self.base_url:
            self.__exit__()
            raise OSError(f"the mock server did not start: exit {self._process.returncode}")
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            # Closing its standard input is what tells it to stop.
            self._process.communicate()


async def _serve_until_told(settings: MockSettings, *, exit_with_stdin: bool) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    core = Core(settings, keep_requests=False)
    base_url = await core.start()
    if exit_with_stdin:

        def wait_for_the_end() -> None:
            sys.stdin.buffer.read()
            loop.call_soon_threadsafe(stop.set)

        threading.Thread(target=wait_for_the_end, daemon=True).start()
    sys.stdout.write(base_url + "\n")
    sys.stdout.flush()
    await stop.wait()
    await core.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until Ctrl-C, SIGTERM or the end of standard input."""
    settings, exit_with_stdin = read_flags(arguments)
    _allow_many_connections()
    try:
        asyncio.run(_serve_until_told(settings, exit_with_stdin=exit_with_stdin))
    except OSError as problem:
        sys.stderr.write(f"the mock server cannot start on port {settings.port}: {problem}\n")
        return 2
    return 0


def _allow_many_connections() -> None:
    try:
        import resource
    except ImportError:  # not on Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 16384 if hard == resource.RLIM_INFINITY else min(16384, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    sys.exit(main())
