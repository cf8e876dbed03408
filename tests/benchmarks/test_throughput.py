"""The throughput benchmark: its arithmetic on made-up logs, and a real batch from outside."""

from pathlib import Path

import pytest

from benchmarks.batch_run import Answered, BatchFailedError, BatchRun, Situation, run_batch
from benchmarks.figures import write_recipe
from benchmarks.throughput import (
    CALLS_13,
    CALLS_20,
    cpu_ms_per_call,
    ends_of_episodes,
    full_span_efficiency,
    whole_span_efficiency,
)
from mentalarena.config import read_recipe

LATENCY = 0.5


def made(starts: list[float], in_flight: int = 2, cpu: float = 0.0) -> BatchRun:
    """A batch whose calls arrived at these moments and were answered after the latency."""
    answered = [Answered(100 + start, 100 + start + LATENCY, 10) for start in starts]
    return BatchRun(Situation(LATENCY, in_flight, 4, Path("r.toml")), 98.0, cpu, {}, answered)


def test_a_server_that_is_always_full_is_an_efficiency_of_one() -> None:
    run = made([0.0, 0.0, 0.5, 0.5, 1.0, 1.0])
    assert whole_span_efficiency(run) == pytest.approx(1.0)
    assert full_span_efficiency(run, [100.5, 100.5, 101.0, 101.5]) == pytest.approx(1.0)


def test_a_pause_between_calls_is_lost_time() -> None:
    run = made([0.0, 0.0, 1.0, 1.0])
    assert whole_span_efficiency(run) == pytest.approx(2 / 3)


def test_the_tail_is_left_out_of_the_full_span_only() -> None:
    # Two in flight until 1.0, then one episode is alone for two more calls.
    run = made([0.0, 0.0, 0.5, 0.5, 1.0, 1.5])
    assert whole_span_efficiency(run) == pytest.approx(0.75)
    assert full_span_efficiency(run, [100.5, 100.5, 101.0, 102.0]) == pytest.approx(1.0)


def test_a_call_under_way_at_the_end_counts_with_its_part() -> None:
    run = made([0.0, 0.25, 0.5, 0.75])
    # Until 1.0: three whole calls and half a call of 0.5 s each, of 2 x 1.0 s that were possible.
    assert full_span_efficiency(run, [100.5, 100.75, 101.0, 101.25]) == pytest.approx(1.75 / 2)


def test_start_up_is_taken_off_the_cpu_of_a_call() -> None:
    one = made([0.0], cpu=8.0)
    assert cpu_ms_per_call(made([0.0] * 11, cpu=8.05), one) == pytest.approx(5.0)
    assert made([0.25]).first_call_seconds == pytest.approx(2.25)


@pytest.mark.parametrize("recipe", [CALLS_13, CALLS_20])
def test_a_recipe_file_says_what_the_recipe_says(tmp_path: Path, recipe: object) -> None:
    assert read_recipe(str(write_recipe(recipe, tmp_path / "r.toml"))) == recipe  # type: ignore[arg-type]


@pytest.mark.slow
def test_a_real_batch_is_watched_from_outside(tmp_path: Path) -> None:
    recipe = write_recipe(CALLS_13, tmp_path / "calls13.toml")
    run = run_batch(Situation(0.05, 2, 3, recipe), tmp_path / "arena.db")
    assert run.calls == run.summary["calls"] == 3 * 13
    assert all(one.finished - one.received >= 0.05 and one.prompt_bytes > 0 for one in run.answered)
    assert 0 < run.first_call_seconds < run.answered[-1].finished - run.started
    assert run.cpu > 0
    assert run.settled_memory() > 50_000_000
    ends = ends_of_episodes(tmp_path / "arena.db")
    assert len(ends) == 3
    assert 0 < full_span_efficiency(run, ends) <= 1
    assert 0 < whole_span_efficiency(run) <= 1


@pytest.mark.slow
def test_a_batch_that_fails_has_no_figures(tmp_path: Path) -> None:
    missing = Situation(0.0, 1, 1, tmp_path / "missing.toml")
    with pytest.raises(BatchFailedError, match=r"missing\.toml"):
        run_batch(missing, tmp_path / "arena.db")
