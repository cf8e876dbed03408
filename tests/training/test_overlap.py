"""A test that stands in the training set is found, and a common phrase is not."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentalarena.errors import ConfigurationError
from tests.graphs.test_commands import Command, command
from training.evaluate import evaluate
from training.overlap import RUN, OverlapIndex, contaminated, texts_of, words

__all__ = ["command"]

SETS = Path(__file__).parents[2] / "examples" / "questions"
LONG = "She counts the stairs each night and starts again when she loses her place among them"


def test_thirteen_words_in_a_row_are_found_whatever_their_case_and_marks() -> None:
    index = OverlapIndex({"item": LONG})
    told = LONG.split()
    assert index.find(f"He wrote: “{' '.join(told[:RUN]).upper()}!”, and left.") == {"item"}
    assert index.find("-- ".join(told[2 : 2 + RUN])) == {"item"}
    assert not index.find(" ".join(told[: RUN - 1]))
    assert not index.find(" ".join(reversed(told)))


def test_a_short_text_is_found_whole_and_a_very_short_one_not_at_all() -> None:
    index = OverlapIndex({"short": "Which bone is the longest?", "common": "What is it?"})
    assert index.find("asked: which bone is the longest, he") == {"short"}
    assert not index.find("which bone is the shortest; what is it?")
    assert index.too_short == ["common"]


@given(st.lists(st.sampled_from("abcdefgh"), min_size=RUN, max_size=40),
       st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=40))  # fmt: skip
def test_a_run_is_found_exactly_where_it_is(one: list[str], two: list[str]) -> None:
    mine = {tuple(one[n : n + RUN]) for n in range(len(one) - RUN + 1)}
    theirs = {tuple(two[n : n + RUN]) for n in range(len(two) - RUN + 1)}
    assert bool(OverlapIndex({"x": " ".join(one)}).find(" ".join(two))) == bool(mine & theirs)


def test_words_are_counted_not_marks() -> None:
    assert words("Don\u2019t, “stop” — it's 3:45!") == ["don't", "stop", "it's", "3", "45"]


def test_every_format_of_a_training_set_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": [{"content": LONG}]}) + "\n", "utf-8")
    (tmp_path / "b.json").write_text(json.dumps([{"prompt": "x", "completion": LONG}]), "utf-8")
    (tmp_path / "c.txt").write_text(LONG, "utf-8")
    assert contaminated(OverlapIndex({"i": LONG}), texts_of(tmp_path)) == {"i": 3}
    with pytest.raises(ConfigurationError, match="expected a file or a folder"):
        list(texts_of(tmp_path / "nothing"))


def test_an_evaluation_says_how_much_of_it_was_trained_on(command: Command, tmp_path: Path) -> None:
    first = json.loads((SETS / "medqa.jsonl").read_text("utf-8").splitlines()[0])
    row = {"prompt": first["question"], "completion": first["answer"]}
    (tmp_path / "sft.jsonl").write_text(json.dumps(row), "utf-8")
    ended = command(evaluate, "--model", "constant", "--tasks", "medqa", "--data", str(SETS),
                    "--training-data", str(tmp_path / "sft.jsonl"), "--json")  # fmt: skip
    (found,) = json.loads(ended.out)["evaluations"]
    assert found["contamination"]["overlapping"] == 1
    assert found["contamination"]["items"] == 5
    assert found["metrics"]["accuracy"]["value"] == 3 / 5
    # The item that was trained on was one of the three that the constant answer has right.
    assert found["contamination"]["clean_accuracy"]["value"] == 2 / 4
    shown = command(evaluate, "--model", "constant", "--tasks", "medqa", "--data", str(SETS),
                    "--training-data", str(tmp_path / "sft.jsonl"))  # fmt: skip
    assert "1 of 5 items share 13 words" in " ".join(shown.out.split())
