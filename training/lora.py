"""Fine-tune a model on a dataset with LoRA: resumable, seeded, recorded.

Why: what was trained on what, and how far, has to be known when a model turns out better or worse.
The loss is taken on answers only, development patients decide when to stop, a run that was killed
goes on from its last checkpoint, and the record names dataset, recipe, model and seed.

Run it: ``python -m training.lora --dataset DIR --recipe smollm2-cpu --out DIR``. Needs
``mentalarena[train]``.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import click

from agents.prompting import template_hashes
from mentalarena.errors import ConfigurationError
from mentalarena.flags import option
from mentalarena.journal import digest
from mentalarena.models import require
from training.base_model import computed_in, load_model, load_tokenizer, model_path
from training.card import MANIFEST
from training.export import read_jsonl
from training.masks import Encoded, encode_rows, shuffled_targets, spread
from training.recipe import LoraRecipe, read_recipe

ADAPTER = "adapter"
CHECKPOINTS = "checkpoints"
RECORD = "run.json"
"""Written at the start with what was asked for, and at the end with what came of it."""


@dataclass(frozen=True, slots=True)
class Job:
    """One fine-tuning."""

    dataset: Path
    out: Path
    recipe: LoraRecipe
    seed: int = 0
    max_steps: int | None = None
    """Steps after which to stop whatever the recipe says."""
    shuffle_targets: bool = False
    """The control: answers that belong to other prompts."""


def train(job: Job) -> dict[str, Any]:
    """Fine-tune, or go on with what was begun; the record.

    Raises:
        ConfigurationError: dataset, recipe and model do not go together, or the folder holds
            another run.
    """
    require("trl", "mentalarena[train]")
    require("peft", "mentalarena[train]")
    facts = _dataset_facts(job)
    identity = _identity(job, facts)
    record = _claim(job.out, identity)
    if record.get("status") == "done":
        return record
    _quiet()
    path = model_path(job.recipe)
    tokenizer = load_tokenizer(path)
    model = load_model(path, job.recipe)
    ends = _ends(model)
    everything = read_jsonl(job.dataset / "train.jsonl")
    rows: Sequence[Mapping[str, Any]] = spread(
        everything, job.recipe.train_rows, job.seed, "train rows"
    )
    if job.shuffle_targets:
        rows = shuffled_targets(rows, job.seed)
    learned = encode_rows(tokenizer, rows, job.recipe.max_length, ends)
    dev = spread(read_jsonl(job.dataset / "dev.jsonl"), job.recipe.eval_rows, job.seed)
    held = encode_rows(tokenizer, dev, job.recipe.max_length, ends)
    if not learned.rows:
        raise ConfigurationError(
            f"no answer of {job.dataset} fits into max_length = {job.recipe.max_length}: raise it"
        )
    trainer = make_trainer(job, model, tokenizer, learned, held)
    record["computed_in"] = computed_in(trainer)
    _write_record(job.out, record)
    outcome = trainer.train(resume_from_checkpoint=last_checkpoint(job.out / CHECKPOINTS))
    adapter = job.out / ADAPTER
    trainer.model.save_pretrained(str(adapter))
    tokenizer.save_pretrained(str(adapter))
    log = trainer.state.log_history
    record |= {
        "status": "done",
        "rows": len(learned.rows),
        "cut": learned.cut,
        "too_long": learned.too_long,
        "dev_rows": len(held.rows),
        "steps": trainer.state.global_step,
        "seconds": round(outcome.metrics.get("train_runtime", 0.0), 1),
        "train_loss": _points(log, "loss"),
        "dev_loss": _points(log, "eval_loss"),
        "best_dev_loss": trainer.state.best_metric,
        "adapter_sha256": file_hash(adapter / "adapter_model.safetensors"),
    }
    _write_record(job.out, record)
    draw_losses(record, job.out / "loss.png")
    return record


def make_trainer(job: Job, model: Any, tokenizer: Any, learned: Encoded, held: Encoded) -> Any:
    """The trainer of a job, with rows that carry their own masks."""
    import datasets
    from peft import LoraConfig
    from transformers import EarlyStoppingCallback, PrinterCallback
    from trl import SFTConfig, SFTTrainer

    recipe = job.recipe
    on_cpu = next(model.parameters()).device.type == "cpu" and not _has_gpu()
    watched = bool(held.rows)
    settings: dict[str, Any] = {}
    if watched:
        settings = {
            "eval_strategy": "steps",
            "eval_on_start": True,
            "eval_steps": recipe.eval_steps,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }
    arguments = SFTConfig(
        output_dir=str(job.out / CHECKPOINTS),
        learning_rate=recipe.learning_rate,
        lr_scheduler_type=recipe.schedule,
        warmup_steps=recipe.warmup_ratio,
        num_train_epochs=recipe.epochs,
        max_steps=job.max_steps or -1,
        per_device_train_batch_size=recipe.batch_size,
        per_device_eval_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.accumulation,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        # On a CPU too: twice to three times as fast where it has instructions for it.
        bf16=recipe.dtype == "bfloat16",
        # trl's own default is to do so.
        gradient_checkpointing=recipe.gradient_checkpointing,
        fp16=False,
        use_cpu=on_cpu,
        save_strategy="steps",
        save_steps=recipe.eval_steps,
        save_total_limit=2,
        logging_steps=1,
        logging_first_step=True,
        seed=job.seed,
        data_seed=job.seed,
        dataloader_pin_memory=not on_cpu,
        # Rows of like length in a batch: less of it is padding.
        train_sampling_strategy="group_by_length",
        report_to=[],
        disable_tqdm=True,
        # Rows come with ids and labels of their own (training.masks): nothing is to be added.
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        packing=False,
        **settings,
    )
    stopping = [EarlyStoppingCallback(recipe.patience)] if watched and recipe.patience else []
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        processing_class=tokenizer,
        train_dataset=datasets.Dataset.from_list(learned.rows),
        eval_dataset=datasets.Dataset.from_list(held.rows) if watched else None,
        peft_config=LoraConfig(
            r=recipe.r,
            lora_alpha=recipe.alpha,
            lora_dropout=recipe.dropout,
            target_modules=recipe.modules(),
            task_type="CAUSAL_LM",
        ),
        callbacks=stopping,
    )
    # It would print every figure of every step; the record keeps those that matter.
    trainer.remove_callback(PrinterCallback)
    return trainer


def _quiet() -> None:
    """Bars for every file that is read or written would hide what is said."""
    import datasets
    from transformers.utils import logging

    logging.disable_progress_bar()
    datasets.disable_progress_bars()


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())


def _ends(model: Any) -> list[int]:
    """Ids at which a model stops, as its generation settings name them."""
    found = model.generation_config.eos_token_id
    return list(found) if isinstance(found, list) else [found] if found is not None else []


def last_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint that is whole; one that a kill left half-written is passed over.

    The trainer writes its state last, so that a checkpoint without it is not whole.
    """
    found = [
        path
        for path in folder.glob("checkpoint-*")
        if (path / "trainer_state.json").is_file() and (path / "optimizer.pt").is_file()
    ]
    whole = [path for path in found if _is_json(path / "trainer_state.json")]
    newest = max(whole, key=lambda path: int(path.name.rpartition("-")[2]), default=None)
    return str(newest) if newest else None


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_text("utf-8"))
    except ValueError:
        return False
    return True


def _dataset_facts(job: Job) -> dict[str, Any]:
    """The manifest of the job's dataset, checked against files, recipe and today's prompts."""
    path = job.dataset / MANIFEST
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"--dataset {job.dataset} holds no readable {MANIFEST}: make one with "
            "`mentalarena dataset`"
        ) from error
    if facts.get("kind") != "sft":
        raise ConfigurationError(
            f"--dataset {job.dataset} is of kind {facts.get('kind')!r}: fine-tuning wants "
            "`mentalarena dataset --kind sft`"
        )
    if facts["answers"] != job.recipe.answers:
        raise ConfigurationError(
            f"--dataset {job.dataset} was made for answers={facts['answers']}, the recipe asks "
            f"with answers={job.recipe.answers}: make it with --answers {job.recipe.answers}"
        )
    now = template_hashes()
    changed = [name for name in now if facts["templates"].get(name) != now[name]]
    if changed:
        raise ConfigurationError(
            f"--dataset {job.dataset} was made with another prompt {changed[0]}: what is trained "
            "would not be what is asked; make the dataset again"
        )
    for split in ("train", "dev"):
        name = f"{split}.jsonl"
        if file_hash(job.dataset / name) != facts["files"].get(name, {}).get("sha256"):
            raise ConfigurationError(
                f"{job.dataset / name} is not what {MANIFEST} says: make the dataset again"
            )
    return facts


def _identity(job: Job, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a run is known by: equal for equal runs, wherever they are kept."""
    return {
        "dataset": facts["id"],
        "recipe": asdict(job.recipe),
        "seed": job.seed,
        "max_steps": job.max_steps,
        "arm": "shuffled targets" if job.shuffle_targets else "trained",
        "answered_by": sorted(facts["answered_by"]),
    }


def _claim(out: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a folder: begun, or gone on with.

    Raises:
        ConfigurationError: the folder holds another run; the changed keys are named.
    """
    path = out / RECORD
    try:
        if path.is_file():
            record: dict[str, Any] = json.loads(path.read_text("utf-8"))
            old = record["identity"]
            changed = sorted(key for key in identity if identity[key] != old.get(key))
            if changed:
                raise ConfigurationError(
                    f"--out {out} holds a run with another {', '.join(changed)}: give another "
                    "folder, or the same flags"
                )
            return record
        if out.is_dir() and any(out.iterdir()):
            raise ConfigurationError(f"--out {out} holds something else: give another folder")
        record = {"identity": dict(identity), "status": "begun", "versions": _versions()}
        record["id"] = digest(dict(identity), 24)
        _write_record(out, record)
    except OSError as error:
        raise ConfigurationError(f"--out {out} cannot be written: {error.strerror}") from error
    return record


def _versions() -> dict[str, str]:
    names = ("mentalarena", "torch", "transformers", "trl", "peft")
    return {name: metadata.version(name) for name in names}


def _write_record(out: Path, record: Mapping[str, Any]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    beside = out / f".{RECORD}"
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(out / RECORD)


def file_hash(path: Path) -> str:
    """SHA-256 of a file; empty when there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _points(log: Sequence[Mapping[str, Any]], name: str) -> list[list[float]]:
    """(step, value) of a figure in the trainer's log; the last one of a step."""
    found = {int(entry["step"]): float(entry[name]) for entry in log if name in entry}
    return [[step, round(value, 6)] for step, value in sorted(found.items())]


def draw_losses(record: Mapping[str, Any], path: Path) -> bool:
    """Draw both losses over the steps; False, and no file, where matplotlib is not installed."""
    try:
        require("matplotlib", "mentalarena[plots]")
    except ConfigurationError:
        return False
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, label, style in (("train_loss", "train", "-"), ("dev_loss", "dev patients", "o-")):
        points = record[name]
        if points:
            axes.plot([p[0] for p in points], [p[1] for p in points], style, label=label)
    axes.set_xlabel("step")
    axes.set_ylabel("loss on answers, nats a token")
    axes.set_title(f"{record['identity']['arm']}, seed {record['identity']['seed']}")
    axes.legend()
    figure.savefig(path, dpi=120)
    return True


@click.command("lora", context_settings={"max_content_width": 100})
@option("--dataset", required=True, metavar="DIR", help="A folder that `mentalarena dataset` made.")
@option("--recipe", "name", default="smollm2-cpu", show_default=True, metavar="NAME|FILE.toml",
        help="How to train: smollm2-cpu, paper-llama3-8b, qlora-8b, or a file.")  # fmt: skip
@option("--out", default="tuned", show_default=True, metavar="DIR",
        help="Folder of adapter, checkpoints and record; the same command again goes on.",
        )  # fmt: skip
@option("--model", default=None, metavar="PATH",
        help="Folder or hub name of another model than the recipe's; local for the bundled one.",
        )  # fmt: skip
@option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**31 - 1),
        help="Seed of the order of rows and of the adapter.")  # fmt: skip
@option("--max-steps", default=None, type=click.IntRange(1),
        help="Stop after so many steps, whatever the recipe says.")  # fmt: skip
@option("--shuffle-targets", is_flag=True,
        help="The control: train on answers that belong to other prompts.")  # fmt: skip
def lora(
    dataset: str, name: str, out: str, model: str | None, seed: int, max_steps: int | None,
    shuffle_targets: bool,
) -> None:  # fmt: skip
    """Fine-tune a model on a dataset with LoRA."""
    recipe = read_recipe(name)
    if model is not None:
        recipe = replace(recipe, model=model)
    job = Job(Path(dataset), Path(out), recipe, seed, max_steps, shuffle_targets)
    record = train(job)
    dev = record["dev_loss"]
    trend = f"dev loss {dev[0][1]:.3f} to {record['best_dev_loss']:.3f}" if dev else "no dev rows"
    click.echo(
        f"{record['steps']} steps on {record['rows']} rows in {record['seconds']:.0f} s, {trend}: "
        f"{job.out / ADAPTER}"
    )
    if record["cut"] or record["too_long"]:
        click.echo(
            f"{record['cut']} prompts lost their beginning, {len(record['too_long'])} answers did "
            f"not fit into {recipe.max_length} tokens"
        )


if __name__ == "__main__":
    from mentalarena.cli import run_command

    run_command(lora, "python -m training.lora")
