"""``mentalarena show --prompts``: shows what was sent, finds what changed, and writes nothing."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import agents.prompting
from benchmarks.mock_server import MockServer
from graphs.batch import batch
from graphs.play import run
from mentalarena.show import show
from mentalarena.store_reader import open_readonly
from tests.graphs.test_commands import Command, Ended, command, one_line  # noqa: F401

SHORT = "exchanges = 2\nprobe_rounds = 1\nmax_plans = 1\njudge_samples = 2\n"


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer(reply_words=12) as running:
        yield running


@pytest.fixture(autouse=True)
def _short_recipe(command: Command, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "short.toml").write_text(SHORT, "utf-8")


def played(command: Command, server: MockServer, *args: str) -> None:  # noqa: F811
    ended = command(
        run, "--model", "openai:m", "--base-url", server.base_url, "--recipe", "short.toml",
        "--case", "noah-1", "--seed", "3", "--quiet", *args,
    )  # fmt: skip
    assert ended.code == 0, ended.err


def audit(ended: Ended) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(ended.out)
    return values


def sent(server: MockServer) -> list[str]:
    """The prompts that arrived, in a form that compares."""
    bodies = [seen.body for seen in server.requests if seen.body]
    return sorted(json.dumps(body["messages"], sort_keys=True) for body in bodies)


def shown(found: dict[str, Any]) -> list[str]:
    """The prompts that an audit shows, in the same form."""
    return sorted(json.dumps(call["messages"], sort_keys=True) for call in found["calls"])


def change(sql: str, *values: object) -> None:
    """Alter the stored file behind the project's back."""
    with sqlite3.connect("arena.db") as db:
        assert db.execute(sql, values).rowcount == 1
    db.close()


def column(sql: str) -> list[Any]:
    with open_readonly("arena.db") as store:
        return [next(iter(row.values())) for row in store.fetch(sql)]


def test_the_prompts_are_those_that_the_server_was_sent(
    command: Command,  # noqa: F811
    server: MockServer,
) -> None:
    played(command, server)
    arrived = sent(server)
    before = Path("arena.db").read_bytes()
    ended = command(show, "--prompts", "--json")
    assert ended.code == 0, ended.err
    found = audit(ended)
    assert server.stats()["chat_requests"] == len(arrived), "an audit asks nobody"
    assert Path("arena.db").read_bytes() == before, "nor does it write"
    assert shown(found) == arrived
    assert {call["hash"] for call in found["calls"]} == {"matches"}
    assert (found["differ"], found["not_rendered"], found["ended"]) == (0, 0, {})
    steps = [call["step"] for call in found["calls"]]
    assert steps == sorted(steps)
    assert {call["template"] for call in found["calls"]} >= {"therapist.ask", "judge.score"}
    answers = [call["answer"] for call in found["calls"]]
    assert sorted(answers) == sorted(column("select answer from calls"))


def test_the_text_shows_every_prompt_whole_and_every_answer(
    command: Command,  # noqa: F811
    server: MockServer,
) -> None:
    played(command, server)
    calls = audit(command(show, "--prompts", "--json"))["calls"]
    text = command(show, "--prompts").out
    for call in calls:
        for message in call["messages"]:
            assert all(line in text for line in message["content"].splitlines())
        assert call["answer"] in text
    assert f"{len(calls)} of {len(calls)} prompts match their stored hash" in text
    assert "step 0  encode  manager: principle  template manager.principle  hash matches" in text


def test_one_seat_is_shown_alone(command: Command, server: MockServer) -> None:  # noqa: F811
    played(command, server)
    found = audit(command(show, "--prompts", "--seat", "therapist", "--json"))
    assert found["calls"]
    assert {call["seat"] for call in found["calls"]} == {"therapist"}
    text = command(show, "--prompts", "--seat", "judge").out
    assert "judge: score, sample 2" in text
    assert "therapist: ask" not in text
    assert "--seat goes with --prompts" in one_line(command(show, "--seat", "judge"))


def test_prompts_are_rendered_from_the_stored_templates(
    command: Command,  # noqa: F811
    server: MockServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither today's files nor today's styles are looked at."""
    played(command, server)
    with monkeypatch.context() as today:
        today.setattr(agents.prompting, "read_text", lambda file: "Another wording.")
        agents.prompting._package_template.cache_clear()
        ended = command(show, "--prompts", "--json")
    agents.prompting._package_template.cache_clear()
    assert ended.code == 0, ended.err
    assert shown(audit(ended)) == sent(server)


def test_a_prompt_that_differs_is_shown_plainly_and_the_rest_too(
    command: Command,  # noqa: F811
    server: MockServer,
) -> None:
    played(command, server)
    key, *_ = column("select id from calls where purpose = 'diagnose'")
    change("update calls set prompt_hash = ? where id = ?", "0" * 64, key)
    ended = command(show, "--prompts")
    assert ended.code == 1
    assert ended.out.count("hash DIFFERS") == 1
    assert "template therapist.diagnose  hash DIFFERS" in ended.out
    assert "judge: score" in ended.out, "what comes after it is rendered all the same"
    assert "1 of " in ended.err
    assert "prompts differ" in ended.err
    found = audit(command(show, "--prompts", "--json"))
    assert [call["call_id"] for call in found["calls"] if call["hash"] == "DIFFERS"] == [key]


def test_an_answer_that_was_altered_shows_in_the_prompts_that_quote_it(
    command: Command,  # noqa: F811
    server: MockServer,
) -> None:
    played(command, server)
    key, *_ = column("select id from calls where seat = 'patient' and step = 1")
    change("update calls set answer = ? where id = ?", "I never said this before.", key)
    found = audit(command(show, "--prompts", "--json"))
    by_verdict = {call["step"]: call["hash"] for call in found["calls"]}
    assert by_verdict[0] == by_verdict[1] == "matches"
    assert by_verdict[2] == "DIFFERS", "the therapist was shown other words"


def test_a_case_that_was_altered_shows(command: Command, server: MockServer) -> None:  # noqa: F811
    played(command, server)
    change('update cases set record = replace(record, \'"name":"\', \'"name":"X\')')
    found = audit(command(show, "--prompts", "--json"))
    patients = {call["hash"] for call in found["calls"] if call["seat"] == "patient"}
    assert patients == {"DIFFERS"}


def test_an_answer_that_is_gone_ends_the_replay_and_the_rest_is_named(
    command: Command,  # noqa: F811
    server: MockServer,
) -> None:
    played(command, server)
    (step,) = column("select step from calls where purpose = 'diagnose'")
    with sqlite3.connect("arena.db") as db:
        db.execute("delete from calls where purpose = 'diagnose'")
    ended = command(show, "--prompts")
    assert ended.code == 1
    assert f"up to step {step}: the next answer is not in the journal" in ended.out
    assert "hash NOT RENDERED" in ended.out
    assert "could not be rendered" in ended.err


def test_every_attempt_is_rendered(command: Command) -> None:  # noqa: F811
    """What a failed attempt was shown is known from its answers, though its trajectory is gone."""
    with MockServer(reply_words=12, burst={"empty": 6}) as server:
        ended = command(
            batch, "--model", "openai:m", "--base-url", server.base_url, "--recipe", "short.toml",
            "--case", "noah-1", "--retry-episodes", "3", "--json",
        )  # fmt: skip
        assert json.loads(ended.out)["complete"] == 1, ended
        arrived = sent(server)
    assert column("select attempts from episodes") == [2]
    ended = command(show, "--prompts", "--json")
    assert ended.code == 0, ended.err
    found = audit(ended)
    assert {call["attempt"] for call in found["calls"]} == {1, 2}
    assert shown(found) == arrived
    assert "gave no readable" in found["ended"]["1"]
    assert "2" not in found["ended"]


def test_an_episode_that_was_stopped_is_rendered_as_far_as_it_went(
    command: Command,  # noqa: F811
    server: MockServer,
) -> None:
    ended = command(
        batch, "--model", "openai:m", "--base-url", server.base_url, "--recipe", "short.toml",
        "--case", "noah-1", "--max-calls", "5", "--quiet", "--json",
    )  # fmt: skip
    assert ended.code == 1
    ended = command(show, "--prompts")
    assert ended.code == 0, ended.err
    assert "aborted" in ended.out
    assert "5 of 5 prompts match" in ended.out
    assert "the next answer is not in the journal" in ended.out


def test_rule_based_seats_made_no_call(command: Command, server: MockServer) -> None:  # noqa: F811
    assert command(run, "--recipe", "short.toml", "--seed", "3", "--quiet").code == 0
    ended = command(show, "--prompts")
    assert ended.code == 0
    assert "rule-based, so without model calls: patient, therapist, manager, judge" in ended.out
    assert "the episode made no model call: there is no prompt to show" in ended.out
    played(command, server, "--patient", "rules", "--therapist", "rules,misread=0.5")
    found = audit(command(show, "--prompts", "--json"))
    assert found["rule_based"] == ["patient", "therapist"]
    assert found["calls"]
    assert {call["hash"] for call in found["calls"]} == {"matches"}


def test_the_thresholds_of_the_run_are_kept_with_it(
    command: Command,  # noqa: F811
    server: MockServer,
) -> None:
    """Verdicts decide what is asked: without the run's own thresholds nothing after them fits."""
    from mentalarena.similarity import SentenceEncoder
    from mentalarena.thresholds import read_thresholds

    values = json.loads(read_thresholds("", SentenceEncoder()).text)
    values["max_intent_bias"] = values["max_missed"] = 8
    Path("lenient.json").write_text(json.dumps(values), "utf-8")
    played(command, server, "--thresholds", "lenient.json")
    Path("lenient.json").unlink()
    assert column("select decision from decisions") == ["aligned"]
    ended = command(show, "--prompts")
    assert ended.code == 0, ended.err
