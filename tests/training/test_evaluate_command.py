"""The command as a user meets it: what it compares, prints, refuses, and exits with."""

import json
import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

from mentalarena.store import open_store
from tests.agents.test_huggingface import base
from tests.graphs.test_commands import Command, command, one_line
from training.evaluate import evaluate

__all__ = ["base", "command"]

ROOT = Path(__file__).parents[2]
SETS = str(ROOT / "examples" / "questions")
SHARED = ROOT.parent / "shared" / "data"


def test_a_stored_evaluation_is_compared_with_and_named(command: Command) -> None:
    asked = ("--tasks", "medqa", "--data", SETS, "--json")
    (one,) = json.loads(command(evaluate, "--model", "constant", *asked).out)["evaluations"]
    ended = command(evaluate, "--model", "chance", "--against", one["id"], *asked)
    (two,) = json.loads(ended.out)["evaluations"]
    assert (two["against"]["id"], two["against"]["model"]) == (one["id"], "constant")
    same = command(evaluate, "--model", "chance", "--against", "constant", *asked)
    assert json.loads(same.out)["evaluations"][0]["against"] == two["against"]
    difference = two["metrics"]["accuracy"]["value"] - one["metrics"]["accuracy"]["value"]
    assert two["against"]["difference"]["value"] == pytest.approx(difference)
    other = command(evaluate, "--model", "chance", "--tasks", "pubmedqa", "--data", SETS,
                    "--against", one["id"])  # fmt: skip
    assert "is of task medqa: give --tasks medqa" in one_line(other)


def test_several_tasks_are_corrected_for_each_other(command: Command) -> None:
    ended = command(evaluate, "--model", "constant", "--against", "chance", "--tasks",
                    "medqa,medmcqa,pubmedqa", "--data", SETS, "--json")  # fmt: skip
    found = [one["against"] for one in json.loads(ended.out)["evaluations"]]
    smallest = min(one["p"] for one in found if one["p"] is not None)
    counted = sum(one["p"] is not None for one in found)
    corrected = [one["p_holm"] for one in found if one["p"] == smallest]
    assert corrected[0] == pytest.approx(min(1.0, smallest * counted))


def test_what_is_printed_says_what_it_rests_on(command: Command) -> None:
    ended = command(evaluate, "--model", "constant", "--tasks", "all", "--data", SETS)
    said = " ".join(ended.out.split())
    assert "medqa constant" in said
    assert "60.00 % [23.1, 88.2] n 5, Wilson" in said
    assert "constant, chance 60.00 %, 25.00 % with no reading" in said
    assert "right 3, wrong 2, unparsable 0, refused 0, failed 0" in said
    assert "small: 5 items" in said
    assert "2 of 5 questions are repeats" in said
    assert ended.code == 0


def test_rescoring_needs_a_store_and_no_model(command: Command) -> None:
    assert "there is no store" in one_line(command(evaluate, "--rescore", "all"))
    assert not Path("arena.db").exists()
    first = command(evaluate, "--model", "constant", "--tasks", "medqa", "--data", SETS, "--json")
    with open_store("arena.db") as store:
        stored = store.fetch("select * from evaluation_items order by item_hash")
    again = command(evaluate, "--rescore", "all", "--json")
    one, two = (json.loads(ended.out)["evaluations"][0] for ended in (first, again))
    assert one["metrics"] == two["metrics"]
    with open_store("arena.db") as store:
        assert store.fetch("select * from evaluation_items order by item_hash") == stored


@pytest.mark.parametrize(("args", "message"), [
    ((), "--model SPEC is missing"),
    (("--model", "constant"), "--tasks is missing"),
    (("--model", "constnt", "--tasks", "medqa"), "or constant, majority, chance"),
    (("--model", "constant", "--tasks", "medqqa"), "did you mean medqa?"),
    (("--model", "constant", "--tasks", "irf", "--data", "."), "expected irf.jsonl"),
    (("--model", "constant", "--tasks", "medqa", "--data", "nowhere"), "name a folder"),
    (("--model", "constant", "--tasks", "medqa", "--split", "dev"), "expected medqa.dev.jsonl"),
    (("--model", "constant", "--tasks", "medqa", "--against", "ev-00"), "no evaluation whose id"),
    (("--model", "constant", "--tasks", "medqa", "--training-data", "gone"), "file or a folder"),
    (("--model", "constant", "--tasks", "arena"), "therapist 'constant' is unknown"),
    (("--model", "rules", "--tasks", "medqa"), "unknown kind 'rules'"),
    (("--model", "rules", "--tasks", "arena", "--workers", "2", "--patient", "local"), "worker"),
    (("--model", "openai:m", "--tasks", "medqa", "--base-url", "http://127.0.0.1:9"), "nothing"),
])  # fmt: skip
def test_mistakes_are_one_line(command: Command, args: tuple[str, ...], message: str) -> None:
    data = () if "--data" in args else ("--data", SETS)
    assert message in one_line(command(evaluate, *args, *data))


def test_a_hugging_face_model_is_read_and_heard(base: str, command: Command) -> None:
    asked = ("--model", f"huggingface:{base}", "--tasks", "medqa", "--data", SETS, "--json")
    (read,) = json.loads(command(evaluate, *asked).out)["evaluations"]
    assert read["scoring"] == "likelihood"
    assert sum(read["metrics"]["predicted"].values()) == 5
    assert read["metrics"]["outcomes"]["failed"] == 0
    spoken = command(evaluate, *asked, "--scoring", "generation", "--limit", "1")
    (heard,) = json.loads(spoken.out)["evaluations"]
    # Weights drawn at random say no label: that is no failure of the run, and not right.
    assert heard["scoring"] == "generation"
    assert heard["metrics"]["outcomes"]["failed"] == heard["metrics"]["outcomes"]["right"] == 0
    assert heard["metrics"]["truncated"] == 1


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="the public question sets are not here")
def test_a_constant_answer_beats_the_papers_models_on_the_papers_sets(command: Command) -> None:
    ended = command(evaluate, "--model", "constant", "--tasks", "all", "--data", str(SHARED),
                    "--json")  # fmt: skip
    found = {one["task"]: one["metrics"] for one in json.loads(ended.out)["evaluations"]}
    shown = {
        name: (one["n"], f"{100 * one['accuracy']['value']:.2f}") for name, one in found.items()
    }
    assert shown == {
        "medqa_psychosis": (173, "29.48"),
        "medmcqa_psychiatry": (16, "31.25"),
        "medmcqa_psychosis": (314, "42.36"),
        "pubmedqa": (328, "97.87"),
        "mmlu_professional_medicine": (272, "44.85"),
    }
    called = {name for name, one in found.items() if "degenerate" in " ".join(one["warnings"])}
    assert called == {"pubmedqa"}
    assert found["pubmedqa"]["balanced_accuracy"]["value"] == 0.5
