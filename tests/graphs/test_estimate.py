"""What a dry run says holds against what is then really paid, and says where it comes from."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents.seats import Seat
from benchmarks.mock_server import MockServer
from graphs.batch import batch
from graphs.estimate import ENOUGH, estimate
from graphs.outline import Course, courses, outline
from graphs.scheduler import plan
from graphs.session import open_session
from mentalarena.config import ArenaConfig
from mentalarena.roster import builtin_cases
from mentalarena.store import Change, open_store
from tests.graphs.batches import SHORT, model, result, short_recipe
from tests.graphs.test_commands import Command, Ended, command  # noqa: F401

FIGURES = ("calls", "tokens", "prompt_tokens", "completion_tokens")


@pytest.fixture(autouse=True)
def _short_recipe(command: Command, tmp_path: Path) -> None:  # noqa: F811
    short_recipe(tmp_path)
    (tmp_path / "prices.toml").write_text("[m]\nprompt = 1.5\ncompletion = 6\n", "utf-8")


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer(reply_words=60) as running:
        yield running


def estimated(ended: Ended) -> dict[str, Any]:
    assert ended.code == 0, ended.err
    return result(ended)


def paid() -> dict[str, float]:
    """What the calls of the store took."""
    with open_store("arena.db") as store:
        (row,) = store.fetch(
            "select count(*) as calls, sum(prompt_tokens) as prompt_tokens, "
            "sum(completion_tokens) as completion_tokens, coalesce(sum(cost), 0) as cost from calls"
        )
    return {**row, "tokens": row["prompt_tokens"] + row["completion_tokens"]}


def test_rules_make_no_calls(command: Command) -> None:  # noqa: F811
    said = estimated(command(batch, *SHORT, "--episodes", "3", "--dry-run", "--json"))
    for figure in FIGURES:
        assert said[f"estimated_{figure}"] == {"low": 0, "high": 0, "expected": None}
    assert said["estimated_from"] == "no seat is a model: no call will be made"
    assert command(batch, *SHORT, "--episodes", "3", "--quiet").code == 0
    with open_store("arena.db") as store:
        assert store.fetch("select id from calls") == []


@pytest.mark.parametrize(
    "seats",
    [("--model", "openai:m"), ("--therapist", "openai:m", "--judge", "openai:m,answers=labelled")],
)
def test_what_is_paid_lies_in_the_range(
    seats: tuple[str, ...],
    command: Command,  # noqa: F811
    server: MockServer,
) -> None:
    args = (*seats, "--base-url", server.base_url, *SHORT, "--episodes", "4",
            "--prices", "prices.toml")  # fmt: skip
    said = estimated(command(batch, *args, "--dry-run", "--json"))
    assert said["estimated_from"].startswith("the recipe")
    assert result(command(batch, *args, "--json"))["left"] == 0
    taken = paid()
    for figure in (*FIGURES, "cost"):
        low, high, expected = said[f"estimated_{figure}"].values()
        assert 0 < low <= taken[figure] <= high, figure
        assert expected is None
    done = estimated(command(batch, *args, "--dry-run", "--json"))
    assert done["estimated_calls"]["high"] == 0
    assert done["estimated_from"] == "every episode is complete: no call will be made"


def test_stored_episodes_say_what_the_others_will_take(
    command: Command,  # noqa: F811
    server: MockServer,
) -> None:
    args = (*model(server), "--prices", "prices.toml", "--episodes")
    assert command(batch, *args, "2", "--quiet").code == 0
    few = estimated(command(batch, *args, "12", "--dry-run", "--json"))
    assert few["to_play"] == 10
    assert "2 complete episodes" in few["estimated_from"]
    assert "the recipe" in few["estimated_from"], "two episodes make no range"
    first = paid()
    for figure in (*FIGURES, "cost"):
        low, high, expected = few[f"estimated_{figure}"].values()
        assert low <= expected <= high
        assert expected == pytest.approx(5 * first[figure], abs=2), "ten episodes as those two"
    assert few["estimated_calls"]["low"] < few["estimated_calls"]["high"]

    assert command(batch, *args, str(ENOUGH), "--quiet").code == 0
    before = paid()
    many = estimated(command(batch, *args, "12", "--dry-run", "--json"))
    assert f"{ENOUGH} complete episodes" in many["estimated_from"]
    assert "the recipe" not in many["estimated_from"]
    assert command(batch, *args, "12", "--quiet").code == 0
    for figure in (*FIGURES, "cost"):
        low, high, expected = many[f"estimated_{figure}"].values()
        taken = paid()[figure] - before[figure]
        assert low <= expected <= high
        assert expected == pytest.approx(taken, rel=0.25), figure

    other_seed = estimated(
        command(batch, *args, "2", "--seed", "9", "--run", "again", "--dry-run", "--json")
    )
    assert "12 complete episodes" in other_seed["estimated_from"]
    other = estimated(
        command(batch, *args, "2", "--guidance", "none", "--run", "none", "--dry-run", "--json")
    )
    assert other["estimated_from"].startswith("the recipe"), "another configuration says nothing"


def test_what_was_paid_for_half_an_episode_is_not_needed_again(
    command: Command,  # noqa: F811
    server: MockServer,
) -> None:
    args = (*model(server), "--episodes", "3")
    whole = estimated(command(batch, *args, "--dry-run", "--json"))
    assert command(batch, *args, "--concurrency", "3", "--max-calls", "12", "--quiet").code == 1
    rest = estimated(command(batch, *args, "--dry-run", "--json"))
    assert rest["to_resume"] == 3
    spent = paid()
    for figure in FIGURES:
        for end in ("low", "high"):
            left = rest[f"estimated_{figure}"][end]
            assert left == pytest.approx(whole[f"estimated_{figure}"][end] - spent[figure], abs=2)


def test_a_model_without_a_price_is_named(command: Command, server: MockServer) -> None:  # noqa: F811
    args = (*model(server), "--judge", "openai:dear", "--episodes", "1", "--dry-run")
    assert estimated(command(batch, *args, "--json"))["estimated_cost"] is None
    assert "cost" not in command(batch, *args).out
    text = command(batch, *args, "--prices", "prices.toml").out
    assert "estimated cost: unknown, no price for openai:dear" in text
    assert "estimated calls: " in text
    assert "estimated from: the recipe" in text


def test_episodes_without_counted_tokens_say_nothing(
    command: Command,  # noqa: F811
    server: MockServer,
) -> None:
    args = (*model(server), "--episodes")
    assert command(batch, *args, "1", "--quiet").code == 0
    with open_store("arena.db") as store:
        store.write_sync([
            Change("calls", {"id": row["id"]}, {"prompt_tokens": None})
            for row in store.fetch("select id from calls limit 1")
        ])  # fmt: skip
    said = estimated(command(batch, *args, "2", "--dry-run", "--json"))
    assert said["estimated_from"].startswith("the recipe")


def models(config: ArenaConfig, spec: str) -> ArenaConfig:
    return replace(config, patient=spec, therapist=spec, manager=spec, judge=spec)


def test_an_outline_has_the_calls_of_a_real_episode(command: Command) -> None:  # noqa: F811
    recipe = {"exchanges": 2, "probe_rounds": 2, "max_plans": 2, "judge_samples": 2}
    Path("long.toml").write_text("\n".join(f"{key} = {value}" for key, value in recipe.items()))
    with MockServer(reply_words=60, score=5) as server:
        args = ("--model", "openai:m", "--base-url", server.base_url, "--recipe", "long.toml")
        assert command(batch, *args, "--case", "noah-1", "--quiet").code == 0
    with open_store("arena.db") as store:
        played = store.fetch(
            "select seat, purpose, count(*) as calls, sum(prompt_tokens) as tokens "
            "from calls where reask = 0 group by seat, purpose"
        )
    config = models(ArenaConfig(**recipe), "openai:m")
    course = Course(probes=2, plans=2, words=60, quotes=2)
    calls: Counter[tuple[Seat, str]] = Counter()
    tokens: Counter[tuple[Seat, str]] = Counter()
    for call in outline(config, builtin_cases()["noah-1"], course):
        calls[call.seat, call.purpose] += 1
        tokens[call.seat, call.purpose] += call.prompt_characters // 4
    assert calls == {(row["seat"], row["purpose"]): row["calls"] for row in played}
    for row in played:
        made = tokens[row["seat"], row["purpose"]]
        assert made == pytest.approx(row["tokens"], rel=0.2), row["purpose"]


@pytest.mark.parametrize("answers", ["json", "labelled", "small"])
def test_an_outline_is_rendered_as_the_seats_are_asked(answers: str) -> None:
    config = models(ArenaConfig(), f"openai:m,answers={answers}")
    shortest, longest = courses(config)
    case = builtin_cases()["noah-1"]
    prompts = {
        (call.seat, call.purpose): call.prompt_characters for call in outline(config, case, longest)
    }
    assert len(prompts) == 10
    plain = {
        (call.seat, call.purpose): call.prompt_characters
        for call in outline(models(config, "openai:m"), case, longest)
    }
    assert (prompts["patient", "speak"] < plain["patient", "speak"]) is (answers == "small")
    assert (prompts["therapist", "formulate"] != plain["therapist", "formulate"]) is (
        answers != "json"
    )
    assert sum(1 for _ in outline(config, case, shortest)) == 1 + 1 + 12 + 1 + 2 + 2 * (2 + 2)
    rules = replace(config, judge="rules", patient="rules")
    assert {call.seat for call in outline(rules, case, longest)} == {"therapist", "manager"}


def test_an_estimate_opens_no_run(tmp_path: Path, server: MockServer) -> None:
    """A dry run leaves no row behind."""
    config = models(ArenaConfig(db=str(tmp_path / "dry.db"), base_url=server.base_url), "openai:m")
    with closing(open_session(config)) as session:
        said = estimate(session, plan(session, None, 1, 3), "batch")
        assert said.calls.low > 0
        assert json.loads(json.dumps(said.plain()))["estimated_calls"]["high"] == said.calls.high
        for table in ("runs", "episodes", "cases", "calls"):
            assert session.store.fetch(f"select * from {table}") == []
    assert server.stats()["chat_requests"] == 0
