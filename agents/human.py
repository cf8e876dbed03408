"""A person at the terminal, or elsewhere, answering through the same door as a model.

Why: with :class:`Human` behind :class:`agents.ask.Ask`, the seats of a model serve a person too,
and what a person says is journaled, so that an interrupted episode resumes without asking again.
A person who is not at this process's terminal is asked through a :class:`Desk` that whoever runs
the episode has set up (:mod:`graphs.studio`).
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from mentalarena.errors import ConfigurationError, ProviderError
from mentalarena.journal import Call
from mentalarena.provider import Reply

T = TypeVar("T")


class Desk(Protocol):
    """Where a person is asked who is not at the terminal."""

    name: str
    """Stored with each answer as ``calls.resolved_model``."""

    def ask(self, messages: list[dict[str, str]], schema: dict[str, Any] | None) -> str:
        """The person's answer; JSON where there is a schema."""
        ...

    def recall(self, call: Call) -> None:
        """Told of each question that the journal answers, in the order of all questions."""
        ...


desk: ContextVar[Desk | None] = ContextVar("desk", default=None)
"""Where the person of this context sits; None for the terminal."""


class Human:
    """Shows a prompt and reads the answer, one field at a time; one for all seats of a process."""

    def __init__(self) -> None:
        self._shown: str | None = None
        # Of threads and not of a loop: a process may run one event loop after the other.
        self._turn = threading.Lock()

    async def answer(
        self,
        messages: list[dict[str, str]],
        schema: dict[str, Any] | None = None,
        seed: int | None = None,
        grammar: str | None = None,
    ) -> Reply:
        """See :class:`agents.ask.Answerer`.

        Raises:
            ConfigurationError: nobody sits at a terminal.
            ProviderError: the terminal was closed while a person was asked (fatal).
        """
        started = time.perf_counter()
        if (elsewhere := desk.get()) is not None:
            text = elsewhere.ask(messages, schema)
            latency = (time.perf_counter() - started) * 1000
            return Reply(text, elsewhere.name, None, None, latency, 1)
        check_terminal()
        given_up = threading.Event()

        def take_turn() -> tuple[str, float] | None:
            # One conversation at a time: two seats or episodes cannot share a keyboard.
            with self._turn:
                if given_up.is_set():
                    return None
                started = time.perf_counter()
                text = self._read(messages, schema)
                return text, (time.perf_counter() - started) * 1000

        try:
            taken = await _in_daemon_thread(take_turn)
        finally:
            given_up.set()
        assert taken is not None, "a turn is given up only by whoever waits for it"
        text, latency = taken
        return Reply(text, "human", None, None, latency, 1)

    def recall(self, call: Call) -> None:
        """Tell the desk, if there is one, of a question that the journal answers."""
        if (elsewhere := desk.get()) is not None:
            elsewhere.recall(call)

    def _read(self, messages: list[dict[str, str]], schema: dict[str, Any] | None) -> str:
        system, user = messages[0]["content"], messages[-1]["content"]
        if system != self._shown:
            _write(f"\n{'-' * 72}\n{system}\n{'-' * 72}")
            self._shown = system
        _write(f"\n{user}\n")
        if schema is None:
            return _line("> ")
        root = schema["schema"]
        return json.dumps(_field(root, root, ""), ensure_ascii=False)


async def _in_daemon_thread(work: Callable[[], T]) -> T:
    """What ``work`` returns or raises, from a thread that nobody joins.

    The event loop's own threads are joined when it closes: after Ctrl-C that would wait for a line
    that nobody types any more.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if done.cancelled():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result: T | None = None
        failed: Exception | None = None
        try:
            result = work()
        except Exception as error:
            failed = error
        try:
            loop.call_soon_threadsafe(settle, result, failed)
        except RuntimeError:
            # The loop was closed meanwhile: nobody waits for this answer.
            return

    threading.Thread(target=run, name="human", daemon=True).start()
    return await done


def check_terminal() -> None:
    """Check that a person can be asked.

    Raises:
        ConfigurationError: standard input or output is not a terminal, and nobody is elsewhere.
    """
    if desk.get() is None and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ConfigurationError(
            "the human seat needs a terminal: run it without pipes and redirections, or use "
            "LangGraph Studio"
        )


def _field(node: dict[str, Any], root: dict[str, Any], label: str) -> Any:
    """Ask for one value of a JSON schema (the subset that the answer types use)."""
    if "$ref" in node:
        node = root["$defs"][node["$ref"].rsplit("/", 1)[-1]]
    kind = node.get("type")
    if kind == "object":
        return {
            name: _field(child, root, f"{label} {name}".strip().replace("_", " "))
            for name, child in node["properties"].items()
        }
    if kind == "array":
        return _list(node, root, label)
    if kind == "integer":
        return _number(node, label)
    options = node.get("enum")
    while True:
        text = _line(f"{label}: ")
        if not options or text in options:
            return text
        _write("one of: " + ", ".join(options))


def _list(node: dict[str, Any], root: dict[str, Any], label: str) -> list[Any]:
    limit = node.get("maxItems")
    if limit:
        return [_field(node["items"], root, f"{label} {n + 1}") for n in range(limit)]
    items: list[Any] = []
    while True:
        text = _line(f"{label} (empty to go on): ")
        if not text:
            return items
        items.append(text)


def _number(node: dict[str, Any], label: str) -> int:
    low, high = node.get("minimum"), node.get("maximum")
    span = f" ({low} to {high})" if high is not None else ""
    while True:
        text = _line(f"{label}{span}: ")
        try:
            number = int(text)
        except ValueError:
            _write("a whole number, please")
            continue
        if (low is None or number >= low) and (high is None or number <= high):
            return number
        _write(f"from {low} to {high}, please")


def _line(prompt: str) -> str:
    try:
        return input(prompt).strip()
    except (EOFError, OSError):
        # The prompt still stands on this line.
        _write("")
        raise ProviderError(
            "the terminal was closed while the human seat was asked", fatal=True
        ) from None


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
