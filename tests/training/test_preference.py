"""DPO on pairs: masks, reference, figures, resumption, and what is refused."""

import hashlib
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents.prompting import template_hashes
from mentalarena.cli import run_command
from mentalarena.errors import ConfigurationError
from training import preference, tiny_models
from training.base_model import load_model, load_tokenizer
from training.export import write_jsonl
from training.margins import LogProbs, figures, log_probs
from training.masks import encode_pairs, shuffled_pairs
from training.preference import Job, make_trainer, train
from training.recipe import PreferenceRecipe, read_preference_recipe
from training.run_folder import last_checkpoint

RECIPES = {"dpo-smollm2-cpu": "chatml", "dpo-8b": "llama3"}
GOOD, BAD = ("walk", "sleep", "call a friend"), ("drink", "hide", "wait")


def pair(number: int, split: str = "train", *, swap: bool = False, words: int = 1) -> Any:
    """A pair of which the better answer can be told by its words, whoever the patient is."""
    spoken = [
        [{"role": "assistant", "content": f"name: {' '.join([of[number % 3]] * words)}"}]
        for of in (GOOD, BAD)
    ]
    if swap:
        spoken.reverse()
    return {
        "id": f"{split}{number}", "task": ("treatment", "medication")[number % 2],
        "role": "therapist", "patient_id": f"{split}-{number % 4}",
        "prompt": [{"role": "user", "content": f"What do you plan for {split} {number}?"}],
        "chosen": spoken[0], "rejected": spoken[1], "meta": {"answered_by": "rules"},
    }  # fmt: skip


def save(folder: Path, rows: dict[str, Sequence[Any]], **values: Any) -> Path:
    """A dataset of pairs, as far as training looks at one."""
    for split, found in rows.items():
        write_jsonl(folder / f"{split}.jsonl", found)
    files = {
        f"{split}.jsonl": {
            "sha256": hashlib.sha256((folder / f"{split}.jsonl").read_bytes()).hexdigest()
        }
        for split in rows
    }
    facts = {
        "id": folder.name, "kind": "preference", "answers": "small", "files": files,
        "templates": template_hashes(), "answered_by": {"rules": 1},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(facts | values), "utf-8")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dataset in ``pairs``, and the same with all answers of train swapped in ``swapped``."""
    folder = tmp_path_factory.mktemp("data")
    dev = [pair(n, "dev") for n in range(12)]
    for name, swap in (("pairs", False), ("swapped", True)):
        save(folder / name, {"train": [pair(n, swap=swap) for n in range(24)], "dev": dev})
    save(folder / "labelled", {"train": [pair(1)], "dev": dev}, answers="labelled")
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {form: tiny_models.save_model(folder / form, form) for form in ("chatml", "llama3")}


def learning(models: dict[str, Path], **values: Any) -> PreferenceRecipe:
    fixed: dict[str, Any] = {
        "model": str(models["chatml"]), "quantize": "none", "dtype": "float32", "max_length": 96,
        "learning_rate": 5e-3, "epochs": 4.0, "batch_size": 4, "accumulation": 1, "eval_steps": 4,
        "warmup_ratio": 0.0, "patience": 0, "eval_rows": 0, "r": 8,
    }  # fmt: skip
    return replace(read_preference_recipe("dpo-smollm2-cpu"), **{**fixed, **values})


@pytest.fixture(scope="module")
def first(data: Path, models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run from the base model; others start from it or are compared with it."""
    out = tmp_path_factory.mktemp("first") / "out"
    train(Job(data / "pairs", out, learning(models), max_steps=12))
    return out


def record_of(folder: Path) -> Any:
    return json.loads((folder / "run.json").read_text("utf-8"))


# --- masks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["chatml", "llama3"])
def test_batches_of_the_real_trainer_hold_prompt_answer_and_end(
    form: str, models: dict[str, Path], tmp_path: Path
) -> None:
    recipe = learning(models, model=str(models[form]))
    tokenizer, model = load_tokenizer(recipe.model), load_model(recipe.model, recipe)
    rows = [pair(n, words=1 + n) for n in range(6)]
    rows[5]["prompt"][0]["content"] = "long " * 200 + "What do you plan for me?"
    found = encode_pairs(tokenizer, rows, 160)
    assert (found.cut, found.too_long) == (1, [])
    job = Job(tmp_path, tmp_path / "out", recipe)
    trainer = make_trainer(job, model, tokenizer, found, found)
    seen = set()
    for batch in trainer.get_train_dataloader():
        half = len(batch["input_ids"]) // 2
        prompts = []
        for place, (ids, there, learned) in enumerate(
            zip(batch["input_ids"], batch["attention_mask"], batch["completion_mask"], strict=True)
        ):
            assert not learned[there == 0].any(), "padding is not compared"
            assert int(there.sum()) <= 160
            answer = ids[learned == 1]
            assert int(answer[-1]) == tokenizer.eos_token_id
            seen.add((place < half, tokenizer.decode(answer[:-1])))
            prompts.append(tokenizer.decode(ids[(learned == 0) & (there == 1)]))
        assert prompts[:half] == prompts[half:], "both answers stand under one prompt"
        for prompt in prompts:
            assert "plan for" in prompt
            assert "name:" not in prompt
    expected = {(True, row["chosen"][0]["content"]) for row in rows}
    assert seen == expected | {(False, row["rejected"][0]["content"]) for row in rows}
    whole = tokenizer.apply_chat_template(
        rows[0]["prompt"], tokenize=False, add_generation_prompt=True
    )
    assert tokenizer.decode(found.rows[0]["prompt_ids"]) == whole


def test_an_answer_is_never_cut_and_equal_answers_are_refused() -> None:
    tokenizer = tiny_models.tokenizer("chatml")
    long = pair(0)
    long["rejected"] = [{"role": "assistant", "content": "word " * 200}]
    found = encode_pairs(tokenizer, [long, pair(1)], 96)
    assert found.too_long == ["train0"]
    assert [row["id"] for row in found.sources] == ["train1"]
    with pytest.raises(ConfigurationError, match="both answers of the pair are the same"):
        encode_pairs(tokenizer, [{**pair(1), "rejected": pair(1)["chosen"]}], 96)


# --- what is learned -----------------------------------------------------------------------------


def test_held_out_pairs_are_told_apart_and_the_figures_say_by_how_much(first: Path) -> None:
    record = record_of(first)
    held = record["held_out"]
    assert (held["pairs"], held["patients"]) == (12, 4)
    margin = held["reward_margin"]
    assert margin["before"] == 0
    assert 0 < margin["after"]["low"] < margin["after"]["value"] < margin["after"]["high"]
    change = held["log_prob_margin"]["change"]
    beta = record["identity"]["recipe"]["beta"]
    assert margin["after"]["value"] == pytest.approx(beta * change["value"])
    assert held["reward_accuracy"]["value"] == 1
    assert set(held["reward_margin_by_task"]) == {"treatment", "medication"}
    assert "4 clusters" in margin["after"]["method"], "patients are what is independent"
    # trl's own mean over batches of the same pairs, before the first step and at the end.
    steps = dict(map(tuple, record["dev_margin"]))
    assert steps[0] == 0
    assert steps[12] == pytest.approx(margin["after"]["value"], abs=1e-4)
    assert record["dev_loss"][0][1] == pytest.approx(0.693147, abs=1e-5)


def test_swapped_and_shuffled_pairs_do_not_raise_the_margin(
    first: Path, data: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    job = Job(data / "swapped", tmp_path / "swapped", learning(models), max_steps=12)
    margin = train(job)["held_out"]["reward_margin"]["after"]
    assert margin["high"] < 0
    control = Job(data / "pairs", tmp_path / "shuffled", learning(models, patience=0),
                  max_steps=12, shuffle_pairs=True)  # fmt: skip
    record = train(control)
    assert record["identity"]["arm"] == "shuffled pairs"
    learned = record_of(first)["held_out"]["reward_margin"]["after"]["value"]
    assert abs(record["held_out"]["reward_margin"]["after"]["value"]) < 0.25 * learned


def test_the_control_turns_half_of_each_task() -> None:
    rows = [pair(n) for n in range(20)]
    control = shuffled_pairs(rows, 3)
    assert control == shuffled_pairs(rows, 3) != shuffled_pairs(rows, 4)
    for task in ("treatment", "medication"):
        both = [(a, b) for a, b in zip(rows, control, strict=True) if a["task"] == task]
        assert sum(a["chosen"] == b["rejected"] for a, b in both) == 5
        assert sum(a["chosen"] == b["chosen"] for a, b in both) == 5


def test_a_start_is_its_own_reference_and_is_not_changed(
    first: Path, data: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    # What the recipe says of model and adapter is not asked: the start decides.
    recipe = learning(models, model="elsewhere", r=4)
    job = Job(data / "pairs", tmp_path / "out", recipe, first, max_steps=4)
    record = train(job)
    assert record["identity"]["recipe"]["r"] == 8
    assert record["identity"]["start"]["adapter_sha256"] == record_of(first)["adapter_sha256"]
    old, new = record_of(first)["held_out"], record["held_out"]
    assert new["reward_margin"]["before"] == 0
    ended = old["log_prob_margin"]["after"]["value"]
    assert new["log_prob_margin"]["before"]["value"] == pytest.approx(ended, abs=1e-4)
    assert new["log_prob_margin"]["after"]["value"] > ended
    assert dict(map(tuple, record["dev_margin"]))[0] == 0
    assert {
        path.name for path in (tmp_path / "out" / "adapter").iterdir() if path.is_dir()
    } == set()
    # An adapter that is not what its record says is refused.
    spoiled = shutil.copytree(first, tmp_path / "spoiled")
    (spoiled / "adapter" / "adapter_model.safetensors").write_bytes(b"x")
    with pytest.raises(ConfigurationError, match="not the one that its record names"):
        train(replace(job, start=spoiled, out=tmp_path / "other"))


def test_log_probabilities_are_those_of_the_model(models: dict[str, Path], tmp_path: Path) -> None:
    import torch

    recipe = learning(models)
    tokenizer, model = load_tokenizer(recipe.model), load_model(recipe.model, recipe)
    found = encode_pairs(tokenizer, [pair(n, words=1 + n) for n in range(3)], 96)
    trainer = make_trainer(Job(tmp_path, tmp_path / "out", recipe), model, tokenizer, found, found)
    got = log_probs(trainer.model, found.rows, trainer.data_collator, 2, torch.no_grad)
    for row, one in zip(found.rows, got, strict=True):
        ids = row["prompt_ids"] + row["rejected_ids"]
        with torch.no_grad():
            spread = torch.log_softmax(trainer.model(torch.tensor([ids])).logits[0], dim=-1)
        start = len(row["prompt_ids"])
        alone = sum(float(spread[at - 1, ids[at]]) for at in range(start, len(ids)))
        assert one.rejected == pytest.approx(alone, abs=1e-3)


def test_figures_are_paired_and_clustered() -> None:
    sources = [{"patient_id": str(n // 2), "task": "treatment"} for n in range(8)]
    before = [LogProbs(-5.0, -4.0)] * 8
    after = [LogProbs(-5.0, -4.0 - n / 2) for n in range(8)]
    found = figures(sources, before, after, 0.1)
    assert found["reward_margin"]["after"]["value"] == pytest.approx(0.1 * 1.75)
    assert found["reward_margin"]["after"]["clusters"] == 4
    assert found["reward_accuracy"]["value"] == 7 / 8
    assert found["log_prob_accuracy"]["before"]["value"] == 0
    assert found["log_prob_accuracy"]["after"]["value"] == 5 / 8
    assert json.loads(json.dumps(found)) == found


# --- going on ------------------------------------------------------------------------------------


@pytest.mark.parametrize("from_start", [False, True])
def test_a_crash_goes_on_with_the_same_bytes(
    from_start: bool, first: Path, data: Path, models: dict[str, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from transformers import TrainerCallback

    class Crash(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            steps.append(state.global_step)
            if state.global_step == crash_at[0]:
                raise SystemError("power cut")

    made = preference.make_trainer
    steps: list[int] = []
    crash_at = [5]

    def crashing(*args: Any) -> Any:
        trainer = made(*args)
        trainer.add_callback(Crash())
        return trainer

    monkeypatch.setattr(preference, "make_trainer", crashing)
    start = first if from_start else None
    job = Job(data / "pairs", tmp_path / "out", learning(models, eval_steps=2), start, max_steps=6)
    with pytest.raises(SystemError, match="power cut"):
        train(job)
    assert record_of(tmp_path / "out")["status"] == "begun"
    found = last_checkpoint(tmp_path / "out" / "checkpoints")
    assert found is not None
    assert found.endswith("checkpoint-4")
    steps.clear()
    crash_at[0] = -1
    record = train(job)
    assert steps == [5, 6]
    whole = train(replace(job, out=tmp_path / "whole"))
    assert record["adapter_sha256"] == whole["adapter_sha256"]
    assert record["held_out"] == whole["held_out"]
    assert record["dev_margin"] == whole["dev_margin"]
    # The same command again has nothing to do.
    assert train(job) == record


@pytest.mark.slow
def test_a_killed_run_goes_on(
    first: Path, data: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    values = {item: getattr(learning(models, eval_steps=2, epochs=20.0), item)
              for item in PreferenceRecipe.__dataclass_fields__}  # fmt: skip
    recipe.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items()), "utf-8")
    command = [sys.executable, "-m", "training.preference", "--dataset", str(data / "pairs"),
               "--recipe", str(recipe), "--start", str(first), "--max-steps", "40"]  # fmt: skip
    out = tmp_path / "killed"
    process = subprocess.Popen([*command, "--out", str(out)])
    deadline = time.monotonic() + 240
    while last_checkpoint(out / "checkpoints") is None:
        assert time.monotonic() < deadline
        assert process.poll() is None
    process.kill()
    process.wait()
    assert record_of(out)["status"] == "begun"
    subprocess.run([*command, "--out", str(out)], check=True)
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True)
    assert record_of(out)["adapter_sha256"] == record_of(tmp_path / "whole")["adapter_sha256"]


# --- recipes and refusals ------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_a_step(name: str, models: dict[str, Path], tmp_path: Path) -> None:
    recipe = replace(
        read_preference_recipe(name), model=str(models[RECIPES[name]]), quantize="none",
        accumulation=1, warmup_ratio=0.0,
    )  # fmt: skip
    rows = {"train": [pair(n) for n in range(4)], "dev": [pair(n, "dev") for n in range(2)]}
    folder = save(tmp_path / "data", rows, answers=recipe.answers)
    record = train(Job(folder, tmp_path / "out", recipe, max_steps=1))
    assert record["steps"] == 1
    assert record["train_loss"][0][1] == pytest.approx(0.6931, abs=1e-3)
    assert record["held_out"]["reward_margin"]["before"] == 0


def command(*args: str) -> int:
    with pytest.raises(SystemExit) as left:
        run_command(preference.preference, "x", list(args))
    return int(left.value.code or 0)


def test_what_does_not_fit_is_refused_in_one_line(
    data: Path, models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*args: str) -> str:
        assert command(*args) == 2
        (text,) = capsys.readouterr().err.strip().splitlines()
        return text

    out = ("--out", str(tmp_path / "out"))
    model = ("--model", str(models["chatml"]), *out)
    rows = {"train": [pair(1)], "dev": [pair(1, "dev")]}
    sft = save(tmp_path / "sft", rows, kind="sft")
    assert "what is wanted here is `mentalarena dataset --kind preference`" in said(
        "--dataset", str(sft), *model
    )
    assert "was made for answers=labelled" in said("--dataset", str(data / "labelled"), *model)
    assert "or one of dpo-8b, dpo-smollm2-cpu" in said(
        "--dataset", str(data / "pairs"), "--recipe", "nope", *model
    )
    assert "holds no readable run.json" in said(
        "--dataset", str(data / "pairs"), "--start", str(tmp_path), *out
    )
    assert "--model: with --start the model is that of the run" in said(
        "--dataset", str(data / "pairs"), "--start", "x", *model
    )
    old = save(tmp_path / "old", rows, templates={**template_hashes(), "therapist.diagnose": "0"})
    assert "another prompt therapist.diagnose" in said("--dataset", str(old), *model)
    with (old / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write("{}\n")
    save(tmp_path / "changed", rows)
    (tmp_path / "changed" / "dev.jsonl").write_text("", "utf-8")
    assert "dev.jsonl is not what manifest.json says" in said(
        "--dataset", str(tmp_path / "changed"), *model
    )
    assert not (tmp_path / "out").exists()


def test_another_run_in_the_folder_is_refused(
    first: Path, data: Path, models: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    job = Job(data / "pairs", first, learning(models), max_steps=12)
    assert train(job)["status"] == "done"
    with pytest.raises(ConfigurationError, match="a run with another arm, seed"):
        train(replace(job, seed=9, shuffle_pairs=True))
    with pytest.raises(ConfigurationError, match="a run with another dataset, recipe"):
        train(replace(job, dataset=data / "swapped", recipe=learning(models, beta=0.5)))


def test_without_dev_pairs_nothing_is_measured(models: dict[str, Path], tmp_path: Path) -> None:
    folder = save(tmp_path / "data", {"train": [pair(n) for n in range(4)], "dev": []})
    record = train(Job(folder, tmp_path / "out", learning(models), max_steps=1))
    assert record["held_out"] is None
    assert record["dev_loss"] == []
