"""Questions are asked once, kept one row each, judged in one place, and counted whole."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mock_server import MockServer, MockServerProcess
from mentalarena.errors import ConfigurationError
from mentalarena.rows import Change
from mentalarena.store import Store, open_store
from tests.graphs.test_commands import Command, command, heed_interrupts, one_line
from training import candidates, question_run, results
from training.candidates import Baseline, Given, Keep, Reader
from training.evaluate import evaluate
from training.likelihood import Scorer
from training.tasks.catalog import load
from training.tasks.items import Question
from training.tasks.prompts import Style

__all__ = ["command"]

SETS = Path(__file__).parents[2] / "examples" / "questions"


class Says:
    """A candidate that says what it is told to, and counts how often it is asked."""

    scoring: candidates.Scoring = "generation"

    def __init__(self, say: Callable[[Question], Given], name: str = "says") -> None:
        self._say = say
        self._name = name
        self.asked: list[tuple[str, int]] = []

    def identity(self) -> dict[str, Any]:
        return {"model": self._name}

    async def answer(
        self, questions: Sequence[Question], everything: Sequence[Question], style: Style,
        subject: str, keep: Keep,
    ) -> None:  # fmt: skip
        for question in questions:
            self.asked.append(question.key)
            await keep(question, self._say(question))


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with open_store(tmp_path / "e.db") as opened:
        yield opened


def evaluated(store: Store, who: Any, task: str = "medqa", **more: Any) -> dict[str, Any]:
    evaluation_id = asyncio.run(
        question_run.run(store, who, "m", load(task, str(SETS), "test"), "test", **more)
    )
    (row,) = store.fetch("select * from evaluations where id = ?", (evaluation_id,))
    return {**row, "metrics": json.loads(row["metrics"])}


def saying(text: str) -> Says:
    return Says(lambda question: Given(text))


# --- what counts ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "outcome"), [
    ("", "unparsable"), ("ABCD", "unparsable"), ("I cannot answer", "refused"),
    ("not", "unparsable"), ("know", "unparsable"),
])  # fmt: skip
@pytest.mark.parametrize("task", ["medqa", "pubmedqa", "medmcqa", "dreaddit"])
def test_what_is_no_answer_scores_nothing_and_stays_in_the_denominator(
    store: Store, text: str, outcome: str, task: str
) -> None:
    metrics = evaluated(store, saying(text), task)["metrics"]
    assert metrics["accuracy"]["value"] == 0.0
    assert metrics["outcomes"][outcome] == metrics["n"] == metrics["accuracy"]["n"] > 0
    assert metrics["balanced_accuracy"]["value"] == metrics["macro_f1"]["value"] == 0.0
    assert metrics["predicted"] == {"none": metrics["n"]}


def test_a_failure_is_never_right(store: Store) -> None:
    found = evaluated(store, Says(lambda question: Given("B", failure="the server fell over")))
    assert found["metrics"]["outcomes"]["failed"] == found["metrics"]["n"] == 5
    assert found["metrics"]["accuracy"]["value"] == 0
    assert found["status"] == "incomplete"


def test_a_likelihood_that_is_tied_is_no_answer(store: Store) -> None:
    flat = Says(lambda question: Given(scores=dict.fromkeys(question.shown.labels, -1.0)))
    assert evaluated(store, flat)["metrics"]["outcomes"]["unparsable"] == 5


def test_every_item_is_a_row_that_says_everything(store: Store) -> None:
    found = evaluated(store, saying("The answer is B."))
    rows = store.fetch(question_run.ROWS, (found["id"],))
    assert len(rows) == 5
    for row in rows:
        assert row["answer"] == "The answer is B."
        assert row["predicted"] == "B"
        assert row["outcome"] == ("right" if row["gold"] == "B" else "wrong")
        assert json.loads(row["labels"]) == ["A", "B", "C", "D"]
        assert len(json.loads(row["options"])) == 4
    assert found["metrics"]["outcomes"]["right"] == 3


def test_baselines_reach_what_the_answers_say(store: Store) -> None:
    metrics = evaluated(store, Baseline("constant", 0))["metrics"]
    assert metrics["accuracy"]["value"] == metrics["baselines"]["constant"] == 3 / 5
    assert metrics["predicted"] == {"B": 5}
    assert metrics["baselines"]["chance"] == 0.25
    majority = evaluated(store, Baseline("majority", 0))
    assert set(majority["metrics"]["predicted"]) <= set("ABCD")
    one, same, other = (evaluated(store, Baseline("chance", seed)) for seed in (1, 1, 2))
    assert one["id"] == same["id"] != other["id"]


def test_majority_learns_from_other_items_only(store: Store) -> None:
    loaded = load("medqa", str(SETS), "test")
    put = [Question(item) for item in loaded.items]
    kept: dict[tuple[str, int], str] = {}

    async def keep(question: Question, given: Given) -> None:
        kept[question.key] = given.answer

    asyncio.run(Baseline("majority", 0).answer(put, put, "question", "", keep))
    for question in put:
        fold = int(question.item.cluster, 16) % 5
        others = [q for q in put if int(q.item.cluster, 16) % 5 != fold]
        assert kept[question.key] == candidates.most_frequent(others)


def test_degenerate_sets_are_called_so() -> None:
    def row(gold: str, cluster: str) -> dict[str, Any]:
        return {
            "gold": gold, "cluster": cluster, "rotation": 0, "labels": '["yes","no","maybe"]'
        }  # fmt: skip

    rows = [row("yes", f"q{n % 95}") for n in range(100)] + [row("no", f"r{n}") for n in range(5)]
    said = " | ".join(results.warnings(rows))
    assert "degenerate: yes is right in 100 of 105" in said
    assert "5 of 105 questions are repeats" in said
    assert "never right here: maybe" in said
    assert "small" not in said
    assert not results.warnings(
        [row(g, f"q{n}") for n, g in enumerate(["yes", "no", "maybe"] * 40)]
    )


# --- once ----------------------------------------------------------------------------------------


def test_nothing_is_asked_twice(store: Store) -> None:
    first, again = saying("B"), saying("C")
    one = evaluated(store, first)
    two = evaluated(store, again)
    assert one["id"] == two["id"]
    assert (len(first.asked), again.asked) == (5, [])
    assert two["metrics"]["outcomes"]["right"] == 3


def test_repeats_in_a_set_are_asked_once_and_counted_twice(store: Store) -> None:
    who = saying("no")
    metrics = evaluated(store, who, "pubmedqa")["metrics"]
    assert (len(who.asked), metrics["n"], metrics["items"]) == (4, 5, 4)
    assert metrics["outcomes"]["right"] == 2


def test_a_larger_sample_takes_over_the_answers_of_a_smaller_one(store: Store) -> None:
    small, large = saying("B"), saying("B")
    one = evaluated(store, small, limit=3)
    two = evaluated(store, large)
    assert one["id"] != two["id"]
    assert (len(small.asked), len(large.asked)) == (3, 2)
    assert not set(small.asked) & set(large.asked)


def test_failures_are_asked_again_and_answers_are_not(store: Store) -> None:
    flaky = Says(lambda q: Given("B") if q.item.gold else Given(failure="no"))
    assert evaluated(store, flaky)["status"] == "incomplete"
    well = saying("B")
    assert evaluated(store, well)["status"] == "ok"
    assert len(well.asked) == 1


def test_turned_options_are_rows_of_their_own(store: Store) -> None:
    metrics = evaluated(store, saying("B"), rotations=4)["metrics"]
    assert (metrics["n"], metrics["items"], metrics["rows"]) == (20, 5, 20)
    assert metrics["accuracy"]["value"] == 0.25, "a letter is right in one of four orders"
    assert metrics["accuracy"]["clusters"] == 5
    assert metrics["rotation"] == {"orders": 4, "right_in_all": 0.0, "right_in_some": 1.0}
    knows = Says(lambda q: Given(q.shown.gold_label), "knows")
    assert evaluated(store, knows, rotations=4)["metrics"]["rotation"]["right_in_all"] == 1.0


def test_stored_answers_are_judged_again_without_a_model(store: Store) -> None:
    found = evaluated(store, saying("B"))
    for row in store.fetch(question_run.ROWS, (found["id"],)):
        key = {name: row[name] for name in ("evaluation_id", "item_hash", "rotation")}
        # As an older parser may have left it.
        worse = {"predicted": None, "outcome": "unparsable"}
        store.write_sync([Change("evaluation_items", key, worse)])
    assert question_run.rescore(store, found["id"][:8]) == [found["id"]]
    (row,) = store.fetch("select metrics from evaluations")
    assert json.loads(row["metrics"]) == found["metrics"]
    with pytest.raises(ConfigurationError, match="holds no such evaluation"):
        question_run.rescore(store, "ev-nothing")


# --- two models ----------------------------------------------------------------------------------


def test_two_evaluations_are_compared_item_by_item(store: Store) -> None:
    one, two = evaluated(store, saying("B")), evaluated(store, Says(lambda q: Given("A"), "a"))
    rows = [store.fetch(question_run.ROWS, (each["id"],)) for each in (one, two)]
    found = results.compare(*rows)
    assert found["difference"]["value"] == pytest.approx(2 / 5)
    assert (found["discordant"], found["only_first"], found["only_second"]) == (4, 3, 1)
    assert found["test"] == "McNemar, exact"
    assert found["p"] == pytest.approx(0.625)
    fewer = evaluated(store, saying("B"), limit=3)
    with pytest.raises(ConfigurationError, match="share 3 of 3 and 5 items"):
        results.compare(store.fetch(question_run.ROWS, (fewer["id"],)), rows[1])


# --- models that are read ------------------------------------------------------------------------


class Biased:
    """A scorer that likes the last label, and chokes on one prompt."""

    name = "biased"

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def scores(self, prompts: Sequence[tuple[str, Sequence[str]]]) -> list[list[float]]:
        self.prompts += [text for text, _ in prompts]
        if any("grandmother" in text for text, _ in prompts):
            raise RuntimeError("too long")
        return [[-float(len(words) - n) for n in range(len(words))] for _, words in prompts]


def test_likelihoods_are_kept_and_one_bad_item_takes_no_other_with_it(store: Store) -> None:
    biased: Scorer = Biased()
    spec = candidates.ModelSpec.parse("huggingface:anything")
    who = Reader(spec, 10, lambda spec, timeout: biased)  # type: ignore[arg-type,return-value]
    metrics = evaluated(store, who)["metrics"]
    assert metrics["outcomes"] == {
        "failed": 1, "refused": 0, "right": 0, "unparsable": 0, "wrong": 4
    }  # fmt: skip
    assert metrics["predicted"] == {"D": 4, "none": 1}
    (row,) = store.fetch("select scores from evaluation_items where scores is not null limit 1")
    assert json.loads(row["scores"]) == {"A": -4.0, "B": -3.0, "C": -2.0, "D": -1.0}


def test_a_server_has_no_likelihoods(command: Command) -> None:
    ended = command(evaluate, "--model", "openai:m", "--tasks", "medqa", "--data", str(SETS),
                    "--scoring", "likelihood", "--base-url", "http://127.0.0.1:9/v1")  # fmt: skip
    assert "servers do not tell the probabilities" in one_line(ended)


# --- the command, against a server ---------------------------------------------------------------


def test_a_server_is_asked_through_the_projects_client(command: Command) -> None:
    with MockServer(fail={"500": 0.2}, retry_after=0.01) as server:
        args = ("--model", "openai:m", "--tasks", "medqa,pubmedqa", "--data", str(SETS),
                "--base-url", server.base_url, "--json")  # fmt: skip
        ended = command(evaluate, *args)
        assert ended.code == 0, ended.err
        first = server.stats()
        again = command(evaluate, *args)
        assert server.stats()["chat_requests"] == first["chat_requests"], "asked again"
    found = json.loads(ended.out)["evaluations"]
    assert [one["metrics"] for one in found] == [
        one["metrics"] for one in json.loads(again.out)["evaluations"]
    ]
    assert first["answered_again"] == 0
    assert [one["metrics"]["n"] for one in found] == [5, 5]
    assert all(one["metrics"]["outcomes"]["unparsable"] == 0 for one in found)
    body = next(seen.body for seen in server.requests if seen.body)
    labels = body["response_format"]["json_schema"]["schema"]["$defs"]["Label"]["enum"]
    assert labels in (["A", "B", "C", "D"], ["yes", "no", "maybe"])
    assert body["temperature"] == 0


def test_a_server_that_says_nothing_scores_nothing(command: Command) -> None:
    with MockServer(fail={"empty": 1.0}) as server:
        ended = command(evaluate, "--model", "openai:m", "--tasks", "medqa,pubmedqa", "--data",
                        str(SETS), "--base-url", server.base_url, "--json")  # fmt: skip
    for one in json.loads(ended.out)["evaluations"]:
        assert one["metrics"]["accuracy"]["value"] == 0
        assert one["metrics"]["outcomes"]["unparsable"] == one["metrics"]["n"]


def test_a_wrong_key_stops_at_once_and_keeps_nothing_as_an_answer(command: Command) -> None:
    with MockServer(require_key="other") as server:
        ended = command(evaluate, "--model", "openai:m", "--tasks", "medqa", "--data", str(SETS),
                        "--base-url", server.base_url)  # fmt: skip
        assert "refused the key" in one_line(ended)
        assert server.stats()["chat_requests"] <= 5
    with open_store("arena.db") as store:
        assert store.fetch("select count(*) as n from evaluation_items") == [{"n": 0}]


def test_killed_and_started_again_no_stored_answer_is_asked_for_twice(tmp_path: Path) -> None:
    rows = [
        {"question": f"Question number {n}?", "options": dict(zip("ABCD", "wxyz", strict=True)),
         "answer_idx": "A"} for n in range(60)
    ]  # fmt: skip
    (tmp_path / "medqa.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    with MockServerProcess(latency=0.05) as server:
        start = [
            sys.executable, "-m", "training.evaluate", "--model", "openai:m", "--tasks", "medqa",
            "--data", str(tmp_path), "--base-url", server.base_url, "--concurrency", "4",
            "--db", str(tmp_path / "e.db"), "--json",
        ]  # fmt: skip
        killed = subprocess.Popen(start, preexec_fn=heed_interrupts)
        deadline = time.monotonic() + 60
        while server.stats()["chat_requests"] < 20:
            assert time.monotonic() < deadline
            assert killed.poll() is None
            threading.Event().wait(0.005)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        at_kill = server.stats()["chat_requests"]
        with open_store(tmp_path / "e.db") as store:
            (before,) = store.fetch("select count(*) as n from evaluation_items")
        done = subprocess.run(start, capture_output=True, text=True, check=True)
        stats = server.stats()
    (found,) = json.loads(done.stdout)["evaluations"]
    assert (found["status"], found["metrics"]["n"]) == ("ok", 60)
    assert 0 < before["n"] < 60
    # What was stored is not asked for again: the rest is, and no more than the rest.
    assert stats["chat_requests"] - at_kill == 60 - before["n"]
    # Which is to say: only what was in flight at the kill, at most four, was asked for twice.
    assert stats["chat_requests"] <= 64
    with open_store(tmp_path / "e.db") as store:
        rows = store.fetch(question_run.ROWS, (found["id"],))
    assert len(rows) == 60
