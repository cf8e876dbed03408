"""Stored plans put to judges and patients again: agreement, sway and order."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from agents import registry
from agents.seats import Answered, Confirmation, ConfirmView, JudgeView, Place, Score
from benchmarks.mock_server import MockServer
from graphs import judges as module
from graphs.batch import batch
from graphs.judges import judges
from graphs.judges_table import alpha
from mentalarena.store import open_store
from tests.graphs.test_commands import Command, command, one_line  # noqa: F401

SHORT = "exchanges = 2\nprobe_rounds = 0\nmax_plans = 1\njudge_samples = 1\n"


@pytest.fixture
def played(command: Command, tmp_path: Any) -> Command:  # noqa: F811
    """A store with one short episode of six patients."""
    (tmp_path / "short.toml").write_text(SHORT, "utf-8")
    ended = command(
        batch, "--recipe", "short.toml", "--episodes", "6", "--seed", "3", "--quiet", "--run", "r"
    )
    assert ended.code == 0, ended.err
    return command


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer(reply_words=12) as running:
        yield running


def asked(command: Command, *args: str) -> dict[str, Any]:  # noqa: F811
    ended = command(judges, *args, "--json")
    assert ended.code == 0, ended.err
    found: dict[str, Any] = json.loads(ended.out)
    return found


def test_alpha_is_that_of_the_literature() -> None:
    # Krippendorff (2011), the example of four observers and twelve units: ordinal alpha 0.815.
    none = None
    table: list[list[float | None]] = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, none, none, none],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, none, 3],
        [none, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, none],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, none],
    ]
    found = alpha(table, [str(i) for i in range(12)])
    assert found is not None
    assert found["value"] == pytest.approx(0.815, abs=0.001)
    assert found["low"] < found["value"] < found["high"]
    assert alpha(table[:1], [str(i) for i in range(12)]) is None
    assert alpha([[5, 5], [5, 5]], ["a", "b"]) is None, "one score says nothing of agreement"


def test_rules_are_not_swayed_by_words_and_answers_are_kept(played: Command) -> None:
    found = asked(played, "r", "--patient", "rules", "--samples", "3")
    sway = found["sway"]
    for who in ("judge rules", "patient rules"):
        for variant in ("flattery", "agreement"):
            assert (sway[who][variant]["value"], sway[who][variant]["high"]) == (0, 0), who
    assert sway["judge rules"]["misfit"]["value"] < -0.5, "another diagnosis's plan fits less"
    assert found["agreement"]["samples of rules"]["value"] > 0.5
    assert set(found["order"]) == {
        "same diagnosis in both orders", "the one told first, over both orders"
    }  # fmt: skip
    again = asked(played, "r", "--patient", "rules", "--samples", "3")
    assert again["asked_now"] == 0
    assert {**again, "asked_now": 1} == {**found, "asked_now": 1}
    table = played(judges, "r", "--patient", "rules", "--samples", "3").out
    assert "flattery less plain" in table


class Vain:
    """A judge that likes to be pleased, and a patient that takes whatever is told first."""

    async def score(self, view: JudgeView, at: Place, sample: int) -> Answered[Score | None]:
        nice: Sequence[str] = (*module.FLATTERY, *module.AGREEMENT, *module.PLEASED)
        shown = f"{view.rationale} {view.response}"
        return Answered(Score(score=9 if any(text in shown for text in nice) else 6))

    async def confirm(self, view: ConfirmView, at: Place) -> Answered[Confirmation]:
        return Answered(Confirmation(choice=1))


def test_a_seat_that_is_swayed_is_seen(played: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    rules = registry.seat

    def seat(role: Any, spec: str, config: Any) -> Any:
        sitting = rules(role, spec, config)
        if role == "judge":
            return Vain()
        sitting.confirm = Vain().confirm
        return sitting

    monkeypatch.setattr(module, "seat", seat)
    found = asked(played, "r", "--patient", "rules")
    for variant in ("flattery", "agreement", "pleased"):
        assert found["sway"]["judge rules"][variant]["value"] == 3
    assert found["sway"]["judge rules"]["misfit"]["value"] == 0
    assert found["order"]["same diagnosis in both orders"]["value"] == 0
    assert found["order"]["the one told first, over both orders"]["value"] == 1
    del rules("patient", "rules", None).confirm  # type: ignore[arg-type]


def test_models_are_asked_once(played: Command, server: MockServer) -> None:
    model = ("--judge", "openai:a", "--judge", "openai:b", "--base-url", server.base_url)
    found = asked(played, "r", *model, "--patient", "openai:a", "--episodes", "2")
    assert {"samples of openai:a", "samples of openai:b", "judges, one sample each"} == set(
        found["agreement"]
    )
    assert found["unreadable"] == 0
    paid = server.stats()["chat_requests"]
    assert paid >= found["answers"] > 50
    assert asked(played, "r", *model, "--patient", "openai:a", "--episodes", "2")["asked_now"] == 0
    assert server.stats()["chat_requests"] == paid
    with open_store("arena.db") as store:
        store.write_sync([])
        rows = store.fetch("select count(*) as n, count(call_id) as calls from judgments")
        assert rows[0]["n"] == rows[0]["calls"], "every answer has its call"
        assert not store.fetch("select 1 from episodes where id like 'judges/%'")


def test_dropped_plans_are_put_to_judges_when_asked(command: Command, tmp_path: Any) -> None:  # noqa: F811
    more = SHORT.replace("max_plans = 1", "max_plans = 2\naccept_score = 10")
    (tmp_path / "more.toml").write_text(more, "utf-8")
    ended = command(
        batch, "--recipe", "more.toml", "--episodes", "2", "--seed", "3", "--quiet", "--run", "r"
    )
    assert ended.code == 0, ended.err
    few = asked(command, "r", "--samples", "1")
    all_of_them = asked(command, "r", "--samples", "1", "--all-plans")
    with open_store("arena.db") as store:
        dropped = store.fetch("select episode_id, kind, attempt from plans where not chosen")
        put = store.fetch(
            "select variant from judgments j join plans p on p.episode_id = j.episode_id"
            " and p.kind = j.place and p.attempt = j.attempt where not p.chosen"
        )
    assert all_of_them["asked_now"] == len(dropped) > 0
    assert [row["variant"] for row in put] == ["plain"] * len(dropped)
    assert all_of_them["sway"] == few["sway"]


def test_user_errors_are_one_line(played: Command) -> None:
    assert "RUN 'x'" in one_line(played(judges, "x"))
    assert "judge 'gpt' is unknown" in one_line(played(judges, "r", "--judge", "gpt"))


def test_an_empty_store_says_so(command: Command) -> None:  # noqa: F811
    assert "no complete episode" in one_line(command(judges))
