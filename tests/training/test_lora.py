"""Fine-tuning runs, is recorded, goes on after a crash, and refuses what does not fit."""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mentalarena.cli import run_command
from mentalarena.errors import ConfigurationError
from mentalarena.huggingface import generate, load
from mentalarena.models import ModelSpec
from tests.training.test_released import line
from training import lora, tiny_models
from training.base_model import load_model, quantization
from training.build import Wanted, build
from training.lora import Job, train
from training.recipe import LoraRecipe, checked, read_recipe
from training.run_folder import last_checkpoint

RECIPES = {
    "smollm2-cpu": "chatml",
    "smollm2-overnight": "chatml",
    "paper-llama3-8b": "llama3",
    "qlora-8b": "llama3",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Datasets for two ways of asking, in the folders ``small`` and ``labelled``."""
    folder = tmp_path_factory.mktemp("data")
    source = folder / "rows.jsonl"
    source.write_text("".join(json.dumps(line(n)) + "\n" for n in range(30)), "utf-8")
    for answers in ("small", "labelled"):
        build(None, folder / answers, Wanted(released=source, answers=answers))  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {form: tiny_models.save_model(folder / form, form) for form in ("chatml", "llama3")}


def tiny(recipe: LoraRecipe, model: Path, **values: Any) -> LoraRecipe:
    """A recipe for a tiny model: everything else is as it is."""
    fixed = {"model": str(model), "quantize": "none", "max_length": 96, "eval_rows": 4}
    return replace(recipe, **{**fixed, **values})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_a_step(
    name: str, data: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    recipe = read_recipe(name)
    small = tiny(recipe, models[RECIPES[name]], batch_size=2, accumulation=1, warmup_ratio=0.0)
    job = Job(data / recipe.answers, tmp_path / "out", small, max_steps=1)
    record = train(job)
    assert record["status"] == "done"
    assert record["steps"] == 1
    assert record["train_loss"][0][1] > 0
    assert record["rows"] > 50
    assert record["computed_in"] == {
        "device": "cpu", "autocast": "bfloat16", "adapter": "float32", "frozen": "float32",
    }  # fmt: skip
    adapter = json.loads((tmp_path / "out" / "adapter" / "adapter_config.json").read_text("utf-8"))
    assert (adapter["r"], adapter["lora_alpha"], adapter["lora_dropout"]) == (
        recipe.r, recipe.alpha, recipe.dropout
    )  # fmt: skip
    adapted = {name.rpartition(".")[2] for name in adapter["target_modules"]}
    assert adapted == {
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"
    }  # fmt: skip
    # The same command again has nothing to do.
    assert train(job) == record


def test_the_papers_hyperparameters_are_the_published_ones() -> None:
    recipe = read_recipe("paper-llama3-8b")
    assert (recipe.r, recipe.alpha, recipe.dropout) == (64, 16, 0.1)
    assert (recipe.learning_rate, recipe.batch_size, recipe.epochs) == (2e-4, 4, 4)
    assert (recipe.weight_decay, recipe.max_grad_norm, recipe.warmup_ratio) == (1e-3, 0.3, 0.03)


def test_four_bits_need_a_gpu_and_say_so(models: dict[str, Path]) -> None:
    recipe = replace(read_recipe("qlora-8b"), model=str(models["llama3"]))
    kept = quantization(recipe)
    assert (kept.load_in_4bit, kept.bnb_4bit_quant_type) == (True, "nf4")
    with pytest.raises(ConfigurationError, match="needs a CUDA GPU, and there is none here"):
        load_model(str(models["llama3"]), recipe)


def learning(models: dict[str, Path], **values: Any) -> LoraRecipe:
    base = {
        "learning_rate": 5e-3, "epochs": 2, "batch_size": 4, "accumulation": 1, "eval_steps": 4,
        "dropout": 0.1, "warmup_ratio": 0.0, "patience": 0,
    }  # fmt: skip
    return tiny(read_recipe("smollm2-cpu"), models["chatml"], **{**base, **values})


def test_loss_falls_and_the_adapter_changes_what_the_model_says(
    data: Path, models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = learning(models, learning_rate=2e-2)
    record = train(Job(data / "small", tmp_path / "out", recipe, seed=1, max_steps=12))
    looks = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    assert looks == [
        f"step {step} of 12: loss {loss:.3f} on dev" for step, loss in record["dev_loss"]
    ]
    assert record["best_dev_loss"] < record["dev_loss"][0][1] - 0.2
    assert record["dev_loss"][0][0] == 0, "dev was looked at before the first step"
    assert (tmp_path / "out" / "loss.png").stat().st_size > 5000
    spec = {"provider": "huggingface", "name": str(models["chatml"]), "answers": "labelled"}
    said = []
    for adapter in ("", str(tmp_path / "out" / "adapter")):
        model = load(
            ModelSpec(**spec, adapter=adapter), temperature=0, max_tokens=12, timeout=60  # type: ignore[arg-type]
        )  # fmt: skip
        said.append(generate(model, [{"role": "user", "content": "What do you plan?"}], 1).text)
    assert said[0] != said[1]


def test_training_ends_early_when_dev_does_not_improve(
    data: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    recipe = learning(models, learning_rate=1e-9, eval_steps=1, patience=2, epochs=50)
    record = train(Job(data / "small", tmp_path / "out", recipe))
    assert record["steps"] < 60


def test_what_is_computed_in_float32_is_said_so(
    data: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    job = Job(data / "small", tmp_path / "out", learning(models, dtype="float32"), max_steps=1)
    assert train(job)["computed_in"]["autocast"] == "no"


def test_as_many_rows_of_each_task_are_learned_from(
    data: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    recipe = learning(models, train_rows=9)
    assert train(Job(data / "small", tmp_path / "out", recipe, max_steps=1))["rows"] == 9


def test_the_seed_decides(data: Path, models: dict[str, Path], tmp_path: Path) -> None:
    recipe = learning(models)
    hashes = [
        train(Job(data / "small", tmp_path / str(n), recipe, seed, max_steps=3))["adapter_sha256"]
        for n, seed in enumerate((5, 5, 6))
    ]
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    # Rows of like length in a batch; or alone, in any order.
    "batches",
    [{}, {"batch_size": 1, "accumulation": 2}],
    ids=["grouped", "alone"],
)
def test_a_crash_goes_on_from_the_last_whole_checkpoint(
    batches: dict[str, int], data: Path, models: dict[str, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    from transformers import TrainerCallback

    class Crash(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            steps.append(state.global_step)
            if state.global_step == crash_at[0]:
                raise SystemError("power cut")

    made = lora.make_trainer
    steps: list[int] = []
    crash_at = [7]

    def crashing(*args: Any) -> Any:
        trainer = made(*args)
        trainer.add_callback(Crash())
        return trainer

    monkeypatch.setattr(lora, "make_trainer", crashing)
    job = Job(data / "small", tmp_path / "out", learning(models, **batches), max_steps=10)
    with pytest.raises(SystemError, match="power cut"):
        train(job)
    # A checkpoint that the crash left half-written is passed over.
    half = tmp_path / "out" / "checkpoints" / "checkpoint-6"
    shutil.copytree(tmp_path / "out" / "checkpoints" / "checkpoint-4", half)
    (half / "trainer_state.json").write_text("{", "utf-8")
    found = last_checkpoint(tmp_path / "out" / "checkpoints")
    assert found is not None
    assert found.endswith("checkpoint-4")
    steps.clear()
    crash_at[0] = -1
    record = train(job)
    assert steps == [5, 6, 7, 8, 9, 10], "the steps before the checkpoint are not made again"
    whole = train(replace(job, out=tmp_path / "whole"))
    assert record["adapter_sha256"] == whole["adapter_sha256"]
    assert record["dev_loss"] == whole["dev_loss"]


@pytest.mark.slow
def test_a_killed_run_goes_on(data: Path, models: dict[str, Path], tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    values = {item: getattr(learning(models, eval_steps=2, epochs=20), item)
              for item in LoraRecipe.__dataclass_fields__}  # fmt: skip
    recipe.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items()), "utf-8")
    command = [sys.executable, "-m", "training.lora", "--dataset", str(data / "small"),
               "--recipe", str(recipe), "--max-steps", "40"]  # fmt: skip
    out = tmp_path / "killed"
    process = subprocess.Popen([*command, "--out", str(out)])
    deadline = time.monotonic() + 240
    while last_checkpoint(out / "checkpoints") is None:
        assert time.monotonic() < deadline
        assert process.poll() is None
        process.poll()
    process.kill()
    process.wait()
    assert json.loads((out / "run.json").read_text("utf-8"))["status"] == "begun"
    subprocess.run([*command, "--out", str(out)], check=True)
    subprocess.run([*command, "--out", str(tmp_path / "whole")], check=True)
    records = [json.loads((folder / "run.json").read_text("utf-8"))
               for folder in (out, tmp_path / "whole")]  # fmt: skip
    assert records[0]["adapter_sha256"] == records[1]["adapter_sha256"]


# --- what is refused -----------------------------------------------------------------------------


def command(*args: str) -> int:
    with pytest.raises(SystemExit) as left:
        run_command(lora.lora, "x", list(args))
    return int(left.value.code or 0)


def test_what_does_not_fit_is_refused_in_one_line(
    data: Path, models: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*args: str) -> str:
        assert command(*args) == 2
        (text,) = capsys.readouterr().err.strip().splitlines()
        return text

    ours = shutil.copytree(data / "small", tmp_path / "small")
    model = ("--model", str(models["chatml"]), "--out", str(tmp_path / "out"))
    assert "holds no readable manifest.json" in said("--dataset", str(tmp_path), *model)
    assert "was made for answers=labelled, the recipe asks with answers=small" in said(
        "--dataset", str(data / "labelled"), *model
    )
    assert (
        "give a .toml file, or one of paper-llama3-8b, qlora-8b, smollm2-cpu, smollm2-overnight"
        in said("--dataset", str(ours), "--recipe", "nope", *model)
    )
    facts = json.loads((ours / "manifest.json").read_text("utf-8"))
    spoiled = facts | {"templates": facts["templates"] | {"therapist.diagnose": "0"}}
    (ours / "manifest.json").write_text(json.dumps(spoiled), "utf-8")
    assert "another prompt therapist.diagnose" in said("--dataset", str(ours), *model)
    (ours / "manifest.json").write_text(json.dumps(facts), "utf-8")
    with (ours / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write("{}\n")
    assert "train.jsonl is not what manifest.json says" in said("--dataset", str(ours), *model)
    assert not (tmp_path / "out").exists()


def test_another_run_in_the_folder_is_refused(
    data: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    job = Job(data / "small", tmp_path / "out", learning(models), max_steps=1)
    train(job)
    with pytest.raises(ConfigurationError, match="a run with another arm, seed"):
        train(replace(job, seed=9, shuffle_targets=True))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"r": 0}, "r must be 1 or more, not 0"),
        ({"dropout": 1.0}, "dropout must be below 1"),
        ({"schedule": "steep"}, "schedule must be one of constant"),
        ({"epochs": "2"}, "epochs must be a number"),
        ({"batch_size": 1.5}, "batch_size must be a whole number"),
        ({"gradient_checkpointing": 1}, "gradient_checkpointing must be true or false"),
        ({"rank": 3}, "unknown key rank"),
    ],
)
def test_a_recipe_names_what_is_wrong(change: dict[str, Any], message: str) -> None:
    recipe = read_recipe("smollm2-cpu")
    values = {name: getattr(recipe, name) for name in LoraRecipe.__dataclass_fields__}
    assert checked(values, "here", LoraRecipe) == recipe
    with pytest.raises(ConfigurationError, match=message):
        checked(values | change, "here", LoraRecipe)
    del values["r"]
    with pytest.raises(ConfigurationError, match="missing key r"):
        checked(values, "here", LoraRecipe)
