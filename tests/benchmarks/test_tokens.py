"""The token benchmark counts what was sent, and its worst case is one."""

import json

import pytest

from agents.answers import read
from agents.labelled import labelled_format
from agents.seats import Score
from benchmarks.mock_answers import answer, read_prompt
from benchmarks.tokens import BUDGET, RELEASED_CODE, check_worst, main, measure, played, sent
from mentalarena.config import RECIPES, Recipe
from tests.benchmarks.support import request, schema_request

SHORT = Recipe(exchanges=1, probe_rounds=1, max_plans=2, judge_samples=2)


def rows(*prompts: str) -> list[dict]:
    return [
        {
            "episode_id": "ep", "seat": "judge", "purpose": "score", "prompt_hash": prompt,
            "prompt_tokens": 1, "completion_tokens": 1,
        }
        for prompt in prompts
    ]  # fmt: skip


def test_what_two_prompts_begin_with_is_shared_within_seat_and_episode() -> None:
    prompts = {
        name: [{"role": "system", "content": "fixed"}, {"role": "user", "content": text}]
        for name, text in {"a": "one two", "b": "one three", "c": "two"}.items()
    }
    shared = [call.shared for call in sent(rows("a", "b", "c", "a"), prompts)]
    length = len("fixed") + 1
    assert shared == [0, length + len("one t"), length, length + len("one two")]
    other = [{**row, "seat": row["prompt_hash"]} for row in rows("a", "b")]
    assert [call.shared for call in sent(other, prompts)] == [0, 0]


@pytest.mark.parametrize("score", [3, 9])
def test_every_score_is_the_one_that_was_set(score: int) -> None:
    form = f"Answer in exactly these lines:\n{labelled_format(Score)}"
    for body, labelled in ((schema_request(Score), False), (request(form), True)):
        text = answer(read_prompt(body), body, 0, 20, score).text
        assert read(text, Score, labelled=labelled).score == score


def test_the_worst_case_uses_every_probe_and_plan() -> None:
    calls = played(SHORT, 1, 20, 5)
    check_worst("short", SHORT, calls, 1)
    assert sum(call.purpose == "score" for call in calls) == 8
    with pytest.raises(RuntimeError, match="not worst: 2 calls to formulate an episode, not 6"):
        check_worst("not worst", RECIPES["default"], calls, 1)
    accepted = played(SHORT, 1, 20, 10)
    assert sum(call.purpose == "propose" for call in accepted) == 2


@pytest.mark.slow
def test_the_paper_recipe_keeps_its_budget() -> None:
    figures = measure("paper", 3, 60, worst_case=True)
    assert figures.limit == BUDGET["paper"] == 75_000
    assert figures.highest_prompt_tokens <= figures.limit
    assert 4 * figures.total.prompt_tokens < RELEASED_CODE
    assert figures.total.shared > 0.65
    assert figures.total.calls >= 75


@pytest.mark.slow
def test_json_holds_every_recipe_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--episodes", "1", "--recipe", "pilot", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    usual, worst = printed["recipes"]
    assert (usual["worst_case"], worst["worst_case"]) == (False, True)
    for figures in printed["recipes"]:
        parts = sum(share["prompt_tokens"] for share in figures["shares"])
        assert parts == figures["total"]["prompt_tokens"] == figures["highest_prompt_tokens"] > 0
