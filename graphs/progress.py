"""How a batch gets on: counted once, shown as it suits what is looked at.

Why: whoever waits for hours wants to know what is done, how fast, what it has cost and will cost,
and what goes wrong where. A terminal gets a few lines that are drawn again twice a second; a file
or a pipe gets a line every ten seconds.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mentalarena.budget import Meter

EVERY = 10.0
"""Seconds between two lines where there is no terminal."""
REDRAWN = 2.0
"""Times a second that a terminal is drawn again: each costs a millisecond of the batch."""


class Flying(Protocol):
    """Whoever makes the requests; see :class:`graphs.executors.Executor`."""

    def in_flight(self) -> int:
        """Requests in flight."""
        ...


@dataclass(slots=True)
class Tally:
    """What a batch has done so far."""

    planned: int
    done_before: int
    ok: int = 0
    failed: int = 0
    unfinished: int = 0
    """Stopped on the way by an interrupt or a budget; the same command goes on."""
    in_play: int = 0
    boundaries: Counter[str] = field(default_factory=Counter)
    stopped: str = ""
    """Why the batch ended early; empty when it did not."""

    def line(self, meter: Meter) -> str:
        """One line of progress."""
        parts = [
            f"{self.done_before + self.ok} of {self.planned} complete",
            f"{self.in_play} in play",
        ]
        if self.failed:
            reasons = ", ".join(f"{n} {name}" for name, n in sorted(self.boundaries.items()))
            parts.append(f"{self.failed} failed ({reasons})")
        if meter.calls:
            parts.append(f"{meter.calls:,} calls, {meter.tokens:,} tokens")
        if meter.retries:
            parts.append(f"{meter.retries:,} retries")
        if meter.cost:
            parts.append(f"cost {_projected(meter.cost, self, '.2f')}")
        return ", ".join(parts)


class Pace:
    """The figures of a batch that come from the clock.

    Args:
        tally: What it has done.
        meter: What it has spent, earlier invocations of the run included.
        executor: Who plays it.
        clock: Seconds from anywhere.
    """

    def __init__(
        self,
        tally: Tally,
        meter: Meter,
        executor: Flying,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tally = tally
        self._meter = meter
        self._executor = executor
        self._clock = clock
        self._began = clock()
        self._calls_before = meter.calls

    @property
    def seconds(self) -> float:
        """Since it began."""
        return self._clock() - self._began

    def seconds_left(self) -> float | None:
        """At the pace so far; None before an episode has ended."""
        ended = self._tally.ok + self._tally.failed
        left = self._tally.planned - self._tally.done_before - ended
        return self.seconds * left / ended if ended else None

    def speed(self) -> str:
        """Requests in flight, episodes and calls by time."""
        parts = [f"{self._executor.in_flight()} requests in flight"]
        seconds = max(self.seconds, 0.001)
        if self._tally.ok:
            parts.append(f"{60 * self._tally.ok / seconds:.1f} episodes/min")
        if calls := self._meter.calls - self._calls_before:
            parts.append(f"{calls / seconds:.1f} calls/s")
        return ", ".join(parts)

    def line(self) -> str:
        """Everything in one line."""
        left = self.seconds_left()
        ahead = "" if left is None else f", about {duration(left)} left"
        return f"{self._tally.line(self._meter)}, {self.speed()}{ahead}"

    def drawn(self) -> RenderableType:
        """Everything in a few lines, the failures in red."""
        tally, meter = self._tally, self._meter
        done = tally.done_before + tally.ok + tally.failed
        left = self.seconds_left()
        head = Table.grid(padding=(0, 1))
        head.add_row(
            ProgressBar(total=max(tally.planned, 1), completed=done, width=28),
            Text(f"{done} of {tally.planned} episodes", style="bold"),
            Text(duration(self.seconds)),
            Text("" if left is None else f"about {duration(left)} left", style="dim"),
        )
        lines: list[RenderableType] = [head]
        lines.append(Text(f"{tally.in_play} in play, {self.speed()}", style="dim"))
        if meter.calls:
            spent = f"{meter.calls:,} calls, {_projected(meter.tokens, tally, ',.0f')} tokens"
            spent += f", {meter.retries:,} retries"
            if meter.cost:
                spent += f", cost {_projected(meter.cost, tally, '.2f')}"
            lines.append(Text(spent))
        if tally.failed:
            reasons = ", ".join(f"{name} {n}" for name, n in sorted(tally.boundaries.items()))
            lines.append(Text(f"{tally.failed} failed: {reasons}", style="red"))
        if tally.stopped:
            lines.append(Text("no further episode is begun; those in play end", style="yellow"))
        return Group(*lines)

    def __rich__(self) -> RenderableType:
        """What a live display draws, each time anew."""
        return self.drawn()


def _projected(spent: float, tally: Tally, form: str) -> str:
    """What was spent, of what the whole run will have cost when it goes on like this."""
    complete = tally.done_before + tally.ok
    left = tally.planned - complete
    if not complete or not left:
        return format(spent, form)
    return f"{spent:{form}} of about {spent * tally.planned / complete:{form}}"


def duration(seconds: float) -> str:
    """Minutes and seconds, hours where there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


@contextmanager
def shown(
    tally: Tally, meter: Meter, executor: Flying, console: Console
) -> Iterator[Callable[[], None]]:
    """Show progress meanwhile; gives what is to be called when an episode begins or ends."""
    pace = Pace(tally, meter, executor)
    if console.is_terminal:
        with Live(pace, console=console, refresh_per_second=REDRAWN):
            yield lambda: None
        return
    last = 0.0

    def line() -> None:
        nonlocal last
        if pace.seconds - last >= EVERY:
            last = pace.seconds
            console.print(pace.line())

    yield line
