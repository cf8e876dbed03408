"""What a batch says of itself while it is played."""

import re
from io import StringIO

import pytest
from rich.console import Console

from graphs.progress import EVERY, Pace, Tally, duration, shown
from mentalarena.budget import Meter
from tests.graphs.batches import pause


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Three:
    def in_flight(self) -> int:
        return 3


def drawn(pace: Pace) -> str:
    console = Console(file=StringIO(), width=100, color_system=None)
    console.print(pace)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def pace(clock: Clock) -> Pace:
    tally, meter = Tally(planned=40, done_before=10), Meter()
    meter.spend(800, 200, 0.5, requests=3)
    made = Pace(tally, meter, Three(), clock)
    clock.now += 120
    tally.ok, tally.in_play = 10, 4
    for _ in range(59):
        meter.spend(80, 20, 0.05)
    return made


def test_it_tells_pace_cost_and_what_is_to_come(pace: Pace) -> None:
    text = " ".join(drawn(pace).split())
    assert "20 of 40 episodes 2:00 about 4:00 left" in text
    assert "4 in play, 3 requests in flight, 5.0 episodes/min, 0.5 calls/s" in text
    assert "60 calls, 6,900 of about 13,800 tokens, 2 retries" in text
    assert "cost 3.45 of about 6.90" in text
    assert "failed" not in text
    line = pace.line()
    for part in ("20 of 40 complete", "2 retries", "3 requests in flight", "about 4:00 left"):
        assert part in line
    assert "\n" not in line


def test_failures_are_told_by_what_they_crossed(clock: Clock) -> None:
    tally = Tally(planned=5, done_before=0, failed=3, stopped="interrupted")
    tally.boundaries.update(provider=2, parse=1)
    text = drawn(Pace(tally, Meter(), Three(), clock))
    assert "3 failed: parse 1, provider 2" in text
    assert "no further episode is begun" in text
    assert "calls" not in text


def test_nothing_is_foretold_before_an_episode_has_ended(clock: Clock) -> None:
    pace = Pace(Tally(planned=5, done_before=2), Meter(), Three(), clock)
    clock.now += 60
    assert pace.seconds_left() is None
    assert "left" not in drawn(pace)


def test_a_terminal_is_drawn_again_and_a_pipe_gets_lines(
    monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    tally, meter = Tally(planned=2, done_before=0), Meter()
    out = StringIO()
    console = Console(file=out, force_terminal=True, width=80)
    with shown(tally, meter, Three(), console):
        tally.ok = 1
        pause(1.2)
        tally.ok = 2
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue())
    assert "0 of 2 episodes" in text
    assert "1 of 2 episodes" in text
    assert "2 of 2 episodes" in text
    monkeypatch.setattr("graphs.progress.time.monotonic", clock)
    monkeypatch.setattr(Pace.__init__, "__defaults__", (clock,))
    out = StringIO()
    with shown(tally, meter, Three(), Console(file=out, width=200)) as changed:
        changed()
        assert out.getvalue() == "", "not at once"
        clock.now += EVERY
        changed()
        changed()
        clock.now += EVERY
        changed()
    assert len(out.getvalue().splitlines()) == 2
    assert "\x1b" not in out.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.6, "1:00"), (3600, "1:00:00"), (3725, "1:02:05")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
