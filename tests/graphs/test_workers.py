"""Workers change nothing but the time it takes: same rows, same budget, same way to stop."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.durability import trajectories
from benchmarks.mock_server import MockServer
from graphs.batch import batch
from mentalarena.store import open_store
from tests.graphs.batches import (
    SHORT,
    check_whole,
    model,
    pause,
    result,
    short_recipe,
    start,
    wait_for_requests,
)
from tests.graphs.test_commands import Command, command, one_line  # noqa: F401


@pytest.fixture(autouse=True)
def _short_recipe(command: Command, tmp_path: Path) -> None:  # noqa: F811
    short_recipe(tmp_path)


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer(reply_words=12, latency=0.05) as running:
        yield running


def workers_of(pid: int) -> list[int]:
    """Process ids of a batch's workers."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()
    return [
        int(child)
        for child in children
        if b"graphs.worker" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < deadline, "a worker outlived its driver"
        pause(0.02)


def undisturbed(command: Command, *args: str) -> dict[str, str]:  # noqa: F811
    """The trajectories of a batch in one process, with nothing going wrong."""
    with MockServer(reply_words=12) as server:
        assert result(command(batch, *model(server), *args, "--json"))["left"] == 0
    with open_store("arena.db") as store:
        rows = trajectories(store)
    for part in Path().glob("arena.db*"):
        part.unlink()
    return rows


@pytest.mark.parametrize("concurrency", ["4", "auto"])
def test_workers_give_the_rows_of_one_process(
    command: Command,  # noqa: F811
    server: MockServer,
    concurrency: str,
) -> None:
    expected = undisturbed(command, "--episodes", "6")
    args = (*model(server), "--episodes", "6", "--workers", "2", "--concurrency", concurrency)
    ended = command(batch, *args, "--json")
    assert ended.code == 0, ended.err
    done = result(ended)
    assert done["calls"] == server.stats()["chat_requests"]
    with open_store("arena.db") as store:
        assert trajectories(store) == expected
        check_whole(store)
        paid = store.fetch("select count(*) as n from calls")[0]["n"]
        limits = store.fetch("select distinct worker from concurrency order by worker")
    assert paid == done["calls"]
    assert [row["worker"] for row in limits] == ([1, 2] if concurrency == "auto" else [])
    assert "nothing to do" in command(batch, *args).out


def test_rule_based_seats_play_in_workers(command: Command) -> None:  # noqa: F811
    args = (*SHORT, "--episodes", "4", "--quiet")
    assert command(batch, *args, "--run", "one").code == 0
    assert command(batch, *args, "--run", "two", "--workers", "2").code == 0
    with open_store("arena.db") as store:
        same = store.fetch(
            "select count(distinct a.episode_id) as n from turns a join episodes x on "
            "x.id = a.episode_id join episodes y on y.case_id = x.case_id and y.run_id = 'two' "
            "join turns b on b.episode_id = y.id and b.idx = a.idx and b.text = a.text "
            "where x.run_id = 'one'"
        )
        different = store.fetch(
            "select count(*) as n from turns a join episodes x on x.id = a.episode_id "
            "join episodes y on y.case_id = x.case_id and y.run_id = 'two' join turns b "
            "on b.episode_id = y.id and b.idx = a.idx and b.text <> a.text where x.run_id = 'one'"
        )
    assert same == [{"n": 4}]
    assert different == [{"n": 0}]


def test_a_worker_s_death_costs_what_it_had_in_flight(
    command: Command,  # noqa: F811
    tmp_path: Path,
    server: MockServer,
) -> None:
    args = ("--episodes", "8", "--concurrency", "4")
    expected = undisturbed(command, *args)
    process = start(tmp_path, server, *args, "--workers", "2", "--json")
    wait_for_requests(server, process, 12)
    victim, _ = workers_of(process.pid)
    os.kill(victim, signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, (out, err)
    assert server.stats()["answered_again"] <= 2, "a worker has half of the episodes in flight"
    with open_store(tmp_path / "arena.db") as store:
        assert trajectories(store) == expected
        assert store.fetch("select distinct attempts from episodes") == [{"attempts": 1}]
        check_whole(store)


@pytest.mark.parametrize("requests", [4, 40])
def test_workers_end_with_their_driver(tmp_path: Path, server: MockServer, requests: int) -> None:
    """At once, and when threads of theirs wait for the encoder, which is still being loaded."""
    process = start(tmp_path, server, "--episodes", "40", "--workers", "2")
    wait_for_requests(server, process, requests)
    workers = workers_of(process.pid)
    assert len(workers) == 2
    process.kill()
    process.communicate()
    wait_until_gone(workers)


def test_ctrl_c_drains_and_a_second_one_stops(tmp_path: Path) -> None:
    with MockServer(reply_words=12, latency=1.0) as server:
        process = start(
            tmp_path, server, "--episodes", "20", "--concurrency", "4", "--workers", "2"
        )
        wait_for_requests(server, process, 4)
        workers = workers_of(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "again stops at once" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    wait_until_gone(workers)
    with open_store(tmp_path / "arena.db") as store:
        states = store.fetch("select distinct status from episodes")
    assert states == [{"status": "aborted"}], "what was stopped says so"


def test_a_budget_holds_over_all_workers(command: Command, server: MockServer) -> None:  # noqa: F811
    args = (*model(server), "--episodes", "8", "--concurrency", "4", "--workers", "2", "--json")
    stopped = command(batch, *args, "--max-calls", "20")
    assert stopped.code == 1
    first = result(stopped)
    assert 20 <= first["calls"] <= 20 + 4, "within one call per episode in flight"
    assert "--max-calls 20 is used up" in first["stopped"]
    assert result(command(batch, *args))["left"] == 0
    assert server.stats()["answered_again"] == 0


def test_workers_that_do_not_stay_alive_end_the_batch(
    command: Command,  # noqa: F811
    server: MockServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    ended = command(batch, *model(server), "--episodes", "4", "--workers", "2")
    assert "workers died one after the other" in one_line(ended)
    monkeypatch.undo()
    assert server.stats()["chat_requests"] == 0


@pytest.mark.parametrize("spec", ["local", "human", "huggingface:some/model"])
def test_a_model_that_cannot_be_shared_is_refused(command: Command, spec: str) -> None:  # noqa: F811
    line = one_line(command(batch, "--judge", spec, "--workers", "2"))
    assert line.startswith("error: --workers 2 cannot play judge")
    assert "use openai:NAME" in line
    assert not Path("arena.db").exists()


def test_an_address_needs_ray(command: Command) -> None:  # noqa: F811
    assert "--address needs --executor ray" in one_line(command(batch, "--address", "auto"))
