"""Many episodes: the same command does what is missing, pays nothing twice, and stops when told."""

import json
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from benchmarks.durability import trajectories
from benchmarks.mock_server import MockServer
from graphs.batch import batch, changed_keys
from graphs.play import run
from mentalarena.roster import builtin_cases
from mentalarena.store import Change, open_store
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
    with MockServer(reply_words=12) as running:
        yield running


def test_the_same_command_again_has_nothing_to_do(command: Command, server: MockServer) -> None:  # noqa: F811
    args = (*model(server), "--episodes", "6", "--json")
    first = result(command(batch, *args))
    assert (first["planned"], first["complete"], first["played"], first["left"]) == (6, 6, 6, 0)
    paid = server.stats()["chat_requests"]
    assert first["calls"] == paid
    again = command(batch, *args)
    assert again.code == 0
    assert result(again)["played"] == 0
    assert server.stats()["chat_requests"] == paid, "nothing was asked"
    more = result(command(batch, *args[:-3], "--episodes", "8", "--json"))
    assert (more["planned"], more["played"]) == (8, 2)


def test_rule_based_batches_need_no_server(command: Command) -> None:  # noqa: F811
    ended = command(batch, *SHORT, "--samples", "2", "--case", "noah-1")
    assert ended.code == 0, ended.err
    assert "2 of 2 complete" in ended.out
    assert "nothing to do" in command(batch, *SHORT, "--samples", "2", "--case", "noah-1").out
    with open_store("arena.db") as store:
        seeds = store.fetch("select distinct seed from episodes")
        assert len(seeds) == 2, "samples of one case differ"
        check_whole(store)


def test_a_changed_configuration_is_refused_by_name(command: Command) -> None:  # noqa: F811
    assert command(batch, *SHORT, "--episodes", "1", "--quiet").code == 0
    line = one_line(
        command(batch, *SHORT, "--episodes", "1", "--guidance", "none", "--temperature", "0.1")
    )
    assert "other values of guidance, temperature" in line
    assert "another --run NAME" in line
    other = command(batch, *SHORT, "--episodes", "1", "--guidance", "none", "--run", "none-arm")
    assert other.code == 0
    free = command(batch, *SHORT, "--episodes", "1", "--concurrency", "3", "--timeout", "9")
    assert "nothing to do" in free.out, "what is no part of the experiment may change"


def test_changed_keys_are_named_with_their_path() -> None:
    stored = {"a": 1, "b": {"x": 1, "y": 2}, "c": [1]}
    now = {"a": 1, "b": {"x": 1, "y": 3}, "d": 1}
    assert sorted(changed_keys(stored, now)) == ["b.y", "c", "d"]


def test_a_dry_run_plays_nothing(command: Command, server: MockServer) -> None:  # noqa: F811
    planned = result(command(batch, *model(server), "--samples", "2", "--dry-run", "--json"))
    assert planned["episodes"] == planned["to_play"] == 2 * len(builtin_cases())
    assert server.stats()["chat_requests"] == 0


def test_a_budget_stops_and_a_higher_one_goes_on(command: Command, server: MockServer) -> None:  # noqa: F811
    args = (*model(server), "--episodes", "6", "--concurrency", "3")
    stopped = command(batch, *args, "--max-calls", "20", "--json")
    assert stopped.code == 1
    first = result(stopped)
    assert 20 <= first["calls"] <= 20 + 3, "within one call per episode in flight"
    assert "--max-calls 20 is used up" in first["stopped"]
    assert "with a higher budget goes on" in stopped.err
    with open_store("arena.db") as store:
        states = {row["status"] for row in store.fetch("select status from episodes")}
        assert states <= {"ok", "aborted"}
        assert store.fetch("select * from errors where boundary = 'configuration'") == []
    rest = result(command(batch, *args, "--json"))
    assert rest["left"] == 0
    assert first["calls"] + rest["calls"] == server.stats()["chat_requests"]
    assert server.stats()["answered_again"] == 0, "no answer was paid twice"


def test_cost_is_counted_from_prices(command: Command, server: MockServer) -> None:  # noqa: F811
    Path("prices.toml").write_text("[m]\nprompt = 1000000\ncompletion = 0\n", "utf-8")
    args = (*model(server), "--episodes", "2", "--prices", "prices.toml")
    stopped = command(batch, *args, "--max-cost", "5000", "--json")
    spent = result(stopped)["cost"]
    with open_store("arena.db") as store:
        (row,) = store.fetch("select sum(cost) as cost, sum(prompt_tokens) as n from calls")
    assert spent == row["cost"] == row["n"]
    assert "needs --prices" in one_line(command(batch, *model(server), "--max-cost", "1"))


def test_budgets_are_those_of_the_run(command: Command, server: MockServer) -> None:  # noqa: F811
    args = (*model(server), "--episodes", "6", "--concurrency", "1", "--max-calls", "15", "--json")
    first, second = result(command(batch, *args)), result(command(batch, *args))
    # The request after the last allowed one may be under way while that is being stored.
    assert 15 <= first["calls"] == first["run_calls"] <= 16
    assert (second["calls"], second["run_calls"]) == (0, first["calls"]), (
        "only a higher budget goes on"
    )


def test_a_server_that_falls_over_costs_no_answer_twice(command: Command) -> None:  # noqa: F811
    """What a provider failure interrupts goes on in the same attempt, from the journal."""
    with MockServer(reply_words=12) as server:
        args = (*model(server), "--case", "noah-1", "--json", "--retry-episodes", "0")
        assert result(command(batch, *args))["left"] == 0
        whole = server.stats()["chat_requests"]
    Path("arena.db").unlink()
    with MockServer(reply_words=12, fail={"500": 0.25}, seed=3) as server:
        args = (*model(server), "--case", "noah-1", "--json", "--retry-episodes", "0")
        attempts = 0
        while command(batch, *args).code == 1 and attempts < 20:
            attempts += 1
        assert server.stats()["answered_again"] == 0
    with open_store("arena.db") as store:
        (episode,) = store.fetch("select * from episodes")
        (calls,) = store.fetch("select count(*) as n from calls")
    assert (episode["status"], episode["attempts"]) == ("ok", 1)
    assert calls["n"] == whole


def test_two_named_runs_of_one_configuration_are_two(command: Command) -> None:  # noqa: F811
    for name in ("one", "two"):
        ended = command(batch, *SHORT, "--case", "noah-1", "--run", name, "--json")
        assert result(ended)["played"] == 1
    with open_store("arena.db") as store:
        found = store.fetch("select run_id from episodes order by run_id")
    assert [row["run_id"] for row in found] == ["one", "two"]


def test_a_second_batch_on_the_same_file_is_refused(command: Command) -> None:  # noqa: F811
    with FileLock("arena.db.batch.lock"):
        line = one_line(command(batch, *SHORT, "--episodes", "1"))
    assert "another batch is writing to arena.db" in line


def test_an_unexpected_error_is_a_row_and_the_others_go_on(
    command: Command,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import graphs.nodes

    honest = graphs.nodes.candidates

    def broken(case: Any, groups: Any, embedder: Any) -> Any:
        if case.id == "noah-1":
            raise IndexError("off by one")
        return honest(case, groups, embedder)

    monkeypatch.setattr(graphs.nodes, "candidates", broken)
    ended = command(batch, *SHORT, "--json", "--retry-episodes", "0")
    assert ended.code == 1
    done = result(ended)
    assert (done["failed"], done["complete"]) == (1, done["planned"] - 1)
    with open_store("arena.db") as store:
        (error,) = store.fetch("select * from errors where type = 'IndexError'")
    assert error["boundary"] == "internal"
    assert "off by one (test_batch.py" in error["message"]


def test_a_failed_episode_is_tried_again_and_both_attempts_stay(command: Command) -> None:  # noqa: F811
    with MockServer(reply_words=12, burst={"empty": 3}) as server:
        # The patient's opening comes to nothing; a manager would fall back on the best candidate.
        args = (*model(server), "--manager", "rules", "--case", "noah-1", "--json")
        ended = command(batch, *args, "--retry-episodes", "0")
        assert ended.code == 1
        assert "the same command goes on" in ended.err
        assert result(ended)["failed"] == 1
        again = command(batch, *args)
        assert again.code == 0, again.err
    with open_store("arena.db") as store:
        (episode,) = store.fetch("select * from episodes")
        assert (episode["status"], episode["attempts"]) == ("ok", 2)
        assert {row["attempt"] for row in store.fetch("select attempt from errors")} == {1}
        assert store.fetch("select count(*) as n from calls where failure is not null")[0]["n"] >= 3
        check_whole(store)


def test_a_replay_asks_nothing_and_writes_the_same_rows(
    command: Command,  # noqa: F811
    server: MockServer,
) -> None:
    args = (*model(server), "--episodes", "5", "--json")
    command(batch, *args)
    paid = server.stats()["chat_requests"]
    with open_store("arena.db") as store:
        before = trajectories(store)
        ids = [row["id"] for row in store.fetch("select id from episodes")]
    _mark_interrupted(ids)
    assert result(command(batch, *args))["played"] == 5
    assert server.stats()["chat_requests"] == paid
    with open_store("arena.db") as store:
        assert trajectories(store) == before


def _mark_interrupted(ids: list[str]) -> None:
    with open_store("arena.db") as store:
        store.write_sync([Change("episodes", {"id": i}, {"status": "running"}) for i in ids])


def test_a_changed_prompt_stops_a_replay(command: Command, server: MockServer) -> None:  # noqa: F811
    args = (*model(server), "--case", "noah-1")
    command(batch, *args)
    paid = server.stats()["chat_requests"]
    with open_store("arena.db") as store:
        ids = [row["id"] for row in store.fetch("select id from episodes")]
        calls = store.fetch("select id from calls order by step desc limit 1")
    _mark_interrupted(ids)
    with open_store("arena.db") as store:
        store.write_sync([Change("calls", {"id": calls[0]["id"]}, {"prompt_hash": "0" * 64})])
    assert "was made with another prompt" in one_line(command(batch, *args))
    assert server.stats()["chat_requests"] == paid, "a replay is never paid for anew"
    with open_store("arena.db") as store:
        assert store.fetch("select status, attempts from episodes") == [
            {"status": "aborted", "attempts": 1}
        ]


def test_a_run_and_a_batch_share_a_store(command: Command) -> None:  # noqa: F811
    assert command(run, *SHORT, "--quiet").code == 0
    assert command(batch, *SHORT, "--episodes", "2", "--quiet").code == 0


def test_ctrl_c_drains(tmp_path: Path) -> None:
    with MockServer(reply_words=12, latency=0.1) as server:
        process = start(tmp_path, server, "--concurrency", "2", "--json")
        wait_for_requests(server, process, 6)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "the same command goes on" in err
    assert json.loads(out)["stopped"] == "interrupted"
    with open_store(tmp_path / "arena.db") as store:
        states = [row["status"] for row in store.fetch("select status from episodes")]
    assert set(states) == {"ok"}, "those in flight were finished"


def test_a_second_ctrl_c_stops(tmp_path: Path) -> None:
    with MockServer(reply_words=12, latency=1.0) as server:
        process = start(tmp_path, server, "--concurrency", "4")
        wait_for_requests(server, process, 4)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert "again stops at once" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "Traceback" not in err


@pytest.mark.slow
def test_killed_at_random_moments_nothing_is_lost_or_paid_twice(
    command: Command,  # noqa: F811
    tmp_path: Path,
) -> None:
    in_flight, episodes = 16, 40
    args = ("--episodes", str(episodes), "--concurrency", str(in_flight), "--json")
    with MockServer(reply_words=12) as server:
        assert result(command(batch, *model(server), *args))["left"] == 0
        with open_store("arena.db") as store:
            undisturbed = trajectories(store)
    Path("arena.db").unlink()
    draw = random.Random(1)
    with MockServer(reply_words=12, latency=0.05) as server:
        kills = 0
        while kills < 6:
            process = start(tmp_path, server, *args)
            before = server.stats()["chat_requests"]
            target = before + draw.randrange(2, 120)
            while server.stats()["chat_requests"] < target and process.poll() is None:
                pause(0.002)
            if process.poll() is not None:
                break
            process.kill()
            process.communicate()
            kills += 1
        assert kills, "at least one kill is needed to prove anything"
        assert command(batch, *model(server), *args).code == 0
        repeated = server.stats()["answered_again"]
        assert repeated <= kills * in_flight, (repeated, kills)
    with open_store("arena.db") as store:
        check_whole(store)
        assert trajectories(store) == undisturbed
