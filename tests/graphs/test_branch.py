"""``mentalarena branch``: shares the parent's steps, plays the rest anew, pays for each once."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import agents.prompting
from benchmarks.mock_server import MockServer
from graphs.batch import batch
from graphs.branch import branch
from graphs.play import run
from mentalarena.show import show
from mentalarena.store_reader import open_readonly
from mentalarena.trajectory import read_trajectory
from tests.graphs.test_commands import Command, Ended, command, one_line  # noqa: F401

SHORT = "exchanges = 2\nprobe_rounds = 1\nmax_plans = 1\njudge_samples = 2\n"


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer(reply_words=12) as running:
        yield running


@pytest.fixture(autouse=True)
def _short_recipe(command: Command, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "short.toml").write_text(SHORT, "utf-8")


def played(command: Command, server: MockServer, *args: str) -> str:  # noqa: F811
    ended = command(
        run, "--model", "openai:m", "--base-url", server.base_url, "--recipe", "short.toml",
        "--case", "noah-1", "--seed", "3", "--quiet", *args,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    return ended.out.split()[0]


def branched(command: Command, server: MockServer, *args: str) -> dict[str, Any]:  # noqa: F811
    ended = command(branch, *args, "--base-url", server.base_url, "--json")
    assert ended.code == 0, ended.err
    values: dict[str, Any] = json.loads(ended.out)
    return values


def trajectory(episode_id: str) -> dict[str, Any]:
    with open_readonly("arena.db") as store:
        return read_trajectory(store, episode_id)


def fetch(sql: str, *params: object) -> list[dict[str, Any]]:
    with open_readonly("arena.db") as store:
        return store.fetch(sql, params)


def spoken(episode_id: str) -> list[str]:
    return [turn["text"] for turn in trajectory(episode_id)["turns"]]


def audit(command: Command, episode_id: str) -> dict[str, Any]:  # noqa: F811
    ended: Ended = command(show, episode_id, "--prompts", "--json")
    assert ended.code == 0, ended.err
    values: dict[str, Any] = json.loads(ended.out)
    return values


def test_steps_before_the_point_are_the_parents_and_are_paid_once(
    command: Command,  # noqa: F811
    server: MockServer,
) -> None:
    parent = played(command, server)
    before, paid = trajectory(parent), server.stats()["chat_requests"]
    result = branched(command, server, parent, "--step", "4")
    child = result["episode"]["episode_id"]
    assert (result["branch_step"], result["resumed"], result["error"]) == (4, False, None)
    assert trajectory(parent) == before, "the parent stays as it is"
    after = trajectory(child)
    row = after["episode"]
    assert (row["parent"], row["parent_attempt"], row["branch_step"]) == (parent, 1, 4)
    assert row["seed"] != before["episode"]["seed"]
    # encode, patient, therapist, patient: three turns are shared, down to the call they rest on.
    kept = ("text", "call_id", "purpose")
    assert [[turn[k] for k in kept] for turn in after["turns"][:3]] == [
        [turn[k] for k in kept] for turn in before["turns"][:3]
    ]
    assert after["turns"][3]["text"] != before["turns"][3]["text"]
    assert min(call["step"] for call in after["calls"]) == 4
    stored = fetch("select count(*) as n, sum(prompt_tokens + completion_tokens) as t from calls")
    stats = server.stats()
    assert stored == [
        {"n": stats["chat_requests"], "t": stats["prompt_tokens"] + stats["completion_tokens"]}
    ]
    assert stats["chat_requests"] - paid == len(after["calls"]) == result["episode"]["calls"]
    by_run = fetch("select sum(calls) as n from cost_by_seat where run_id = ?", row["run_id"])
    assert by_run == [{"n": len(after["calls"])}], "a shared answer is not charged to the branch"
    assert fetch("pragma foreign_key_check") == []


def test_another_branch_has_other_luck_and_a_copy_of_the_store_the_same(
    command: Command,  # noqa: F811
    server: MockServer,
) -> None:
    parent = played(command, server)
    shutil.copy("arena.db", "copy.db")
    one = branched(command, server, parent, "--step", "4")["episode"]
    two = branched(command, server, parent, "--step", "4")["episode"]
    assert (one["sample"], two["sample"]) == (0, 1)
    assert one["seed"] != two["seed"]
    assert spoken(one["episode_id"]) != spoken(two["episode_id"])
    again = branched(command, server, parent, "--step", "4", "--db", "copy.db")["episode"]
    assert (again["episode_id"], again["seed"]) == (one["episode_id"], one["seed"])
    with open_readonly("copy.db") as store:
        turns = read_trajectory(store, again["episode_id"])["turns"]
    assert [turn["text"] for turn in turns] == spoken(one["episode_id"])


def test_another_seat_begins_where_it_would_answer(
    command: Command,  # noqa: F811
    server: MockServer,
) -> None:
    parent = played(command, server)
    result = branched(command, server, parent, "--therapist", "openai:other")
    assert result["branch_step"] == 2, "after encode and the patient's opening"
    after = trajectory(result["episode"]["episode_id"])
    assert {c["model"] for c in after["calls"] if c["seat"] == "therapist"} == {"openai:other"}
    assert {c["model"] for c in after["calls"] if c["seat"] != "therapist"} == {"openai:m"}
    assert after["run"]["config"]["exchanges"] == 2, "what was not given is the parent's"
    assert after["run"]["kind"] == "branch"
    later = branched(command, server, parent, "--therapist", "openai:other", "--step", "4")
    assert later["branch_step"] == 4, "with a step, the parent's therapist has said what it said"
    resampled = branched(command, server, parent, "--temperature", "0.1")
    assert resampled["branch_step"] == 0


def test_another_guidance_begins_at_the_probe(command: Command, server: MockServer) -> None:  # noqa: F811
    parent = played(command, server)
    (probe,) = fetch(
        "select step from calls where seat = 'therapist' and purpose = 'ask' and visit = 2"
    )
    result = branched(command, server, parent, "--guidance", "none")
    assert result["branch_step"] == probe["step"]
    after = trajectory(result["episode"]["episode_id"])
    assert after["decisions"][0]["guidance"] == ""
    assert spoken(parent)[:5] == [turn["text"] for turn in after["turns"][:5]]


def test_rule_based_seats_act_as_before_up_to_the_point(command: Command) -> None:  # noqa: F811
    ended = command(
        run, "--case", "noah-1", "--seed", "5", "--therapist", "rules,misread=0.5", "--quiet"
    )
    parent = ended.out.split()[0]
    ended = command(branch, parent, "--step", "20", "--json")
    assert ended.code == 0, ended.err
    child = json.loads(ended.out)["episode"]["episode_id"]
    before, after = trajectory(parent), trajectory(child)

    def early(found: dict[str, Any], table: str, key: str, below: int) -> list[dict[str, Any]]:
        own = ("episode_id", "id")
        return [
            {k: v for k, v in row.items() if k not in own} for row in found[table]
            if row[key] < below
        ]  # fmt: skip

    assert early(after, "routes", "step", 20) == early(before, "routes", "step", 20)
    for table in ("deviations", "injections", "formulations"):
        assert early(after, table, "round", 1) == early(before, table, "round", 1)
    pairs = zip(spoken(child), spoken(parent), strict=False)
    parted = next(number for number, (now, then) in enumerate(pairs) if now != then)
    assert parted >= 15, "they spoke alike up to the point, and then no more"
    assert after["episode"]["status"] == "ok"


def test_the_parents_last_attempt_is_the_one_that_is_shared(command: Command) -> None:  # noqa: F811
    """Draws depend on the attempt: before the point they are those of the parent's second."""
    with MockServer(reply_words=12, burst={"empty": 6}) as server:
        ended = command(
            batch, "--model", "openai:m", "--patient", "rules", "--base-url", server.base_url,
            "--recipe", "short.toml", "--case", "noah-1", "--json",
        )  # fmt: skip
        assert json.loads(ended.out)["complete"] == 1, ended
        (parent,) = fetch("select * from episodes")
        assert parent["attempts"] == 2
        result = branched(command, server, parent["id"], "--step", "6")
    child = result["episode"]["episode_id"]
    (row,) = fetch("select attempts, parent_attempt from episodes where id = ?", child)
    assert row == {"attempts": 1, "parent_attempt": 2}
    assert spoken(child)[:5] == spoken(parent["id"])[:5]
    found = audit(command, child)
    assert {call["hash"] for call in found["calls"]} == {"matches"}


def test_a_branch_and_its_branch_can_be_audited(command: Command, server: MockServer) -> None:  # noqa: F811
    parent = played(command, server)
    child = branched(command, server, parent, "--step", "6")["episode"]["episode_id"]
    low = branched(command, server, child, "--step", "3")["episode"]["episode_id"]
    high = branched(command, server, child, "--step", "8")["episode"]["episode_id"]
    paid = server.stats()["chat_requests"]

    def owners(episode_id: str) -> dict[str, set[int]]:
        found = audit(command, episode_id)
        assert {call["hash"] for call in found["calls"]} == {"matches"}
        steps: dict[str, set[int]] = {}
        for call in found["calls"]:
            steps.setdefault(call["episode_id"], set()).add(call["step"])
        return steps

    assert max(owners(child)[parent]) < 6 <= min(owners(child)[child])
    assert set(owners(low)) == {parent, low}, "it left before its parent was itself"
    assert max(owners(low)[parent]) < 3 <= min(owners(low)[low])
    of_high = owners(high)
    assert max(of_high[parent]) < 6 <= min(of_high[child])
    assert max(of_high[child]) < 8 <= min(of_high[high])
    assert server.stats()["chat_requests"] == paid
    assert f"steps before 6 were played in {parent}" in command(show, child, "--prompts").out
    assert f"branch of {parent}" in command(show, child).out


def test_a_changed_prompt_is_branched_from(
    command: Command,  # noqa: F811
    server: MockServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parent = played(command, server)
    honest = agents.prompting.read_text

    def reworded(file: str) -> str:
        return honest(file) + (" Be brief." if file == "therapist.diagnose.md" else "")

    with monkeypatch.context() as today:
        today.setattr(agents.prompting, "read_text", reworded)
        agents.prompting._package_template.cache_clear()
        result = branched(command, server, parent)
        told = command(branch, parent, "--step", "13", "--base-url", server.base_url, "--quiet")
    agents.prompting._package_template.cache_clear()
    (diagnosed,) = fetch(
        "select step from calls where purpose = 'diagnose' and episode_id = ?", parent
    )
    assert result["branch_step"] == diagnosed["step"] < 13
    child = result["episode"]["episode_id"]
    assert spoken(child) == spoken(parent)
    assert f"up to step {diagnosed['step']} only: branching there" in told.err
    assert audit(command, child)["calls"], "each part is rendered with its own templates"


def test_the_way_out_that_a_refused_replay_names_works(
    command: Command,  # noqa: F811
    server: MockServer,
) -> None:
    args = ("--model", "openai:m", "--base-url", server.base_url, "--recipe", "short.toml",
            "--case", "noah-1", "--json")  # fmt: skip
    assert command(batch, *args, "--max-calls", "6").code == 1
    with sqlite3.connect("arena.db") as db:
        db.execute("update calls set prompt_hash = 'other' where step = 3")
    db.close()
    refused = command(batch, *args)
    assert refused.code == 2
    (episode,) = fetch("select id from episodes")
    way_out = f"mentalarena branch {episode['id']} --db arena.db"
    assert f"`{way_out}` goes on from there in a new episode" in refused.err
    result = branched(command, server, *way_out.split()[2:])
    assert (result["branch_step"], result["episode"]["status"]) == (3, "ok")


def test_a_branch_that_failed_is_gone_on_with(command: Command, server: MockServer) -> None:  # noqa: F811
    parent = played(command, server)
    with MockServer(reply_words=12, burst={"400": 1}) as other:
        refused = command(branch, parent, "--step", "4", "--base-url", other.base_url, "--json")
        assert refused.code == 2
        (waiting,) = fetch("select id, status from episodes where parent = ?", parent)
        assert waiting["status"] == "failed"
        result = branched(command, other, parent, "--step", "4")
        assert result["resumed"]
        assert result["episode"]["episode_id"] == waiting["id"]
        assert other.stats()["answered_again"] == 0
        assert not branched(command, other, parent, "--step", "4")["resumed"]


def test_what_cannot_be_branched_is_one_line(command: Command, server: MockServer) -> None:  # noqa: F811
    assert "there is no store at arena.db" in one_line(command(branch, "ep-"))
    assert not Path("arena.db").exists()
    parent = played(command, server)
    assert "no episode 'nobody'" in one_line(command(branch, "nobody"))
    beyond = one_line(command(branch, parent, "--step", "99"))
    last = max(route["step"] for route in trajectory(parent)["routes"]) - 2
    assert f"--step 99 is beyond the end of episode {parent}: give one from 0 to {last}" in beyond
    assert "beyond the end" in one_line(command(branch, parent, "--step", str(last + 1)))
    same = one_line(command(branch, parent))
    assert "every prompt is as it was" in same
    assert f"--step N (0 to {last})" in same
    rules = command(run, "--recipe", "short.toml", "--quiet").out.split()[0]
    assert "it holds no model call to compare" in one_line(command(branch, rules))
    assert [row["parent"] for row in fetch("select parent from episodes")] == [None, None]
