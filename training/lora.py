"""Fine-tune a model on a dataset with LoRA: resumable, seeded, recorded.

Why: what was trained on what, and how far, has to be known when a model turns out better or worse.
The loss is taken on answers only, development patients decide when to stop, a run that was killed
goes on from its last checkpoint, and the record names dataset, recipe, model and seed.

Run it: ``python -m training.lora --dataset DIR --recipe smollm2-cpu --out DIR``. Needs
``mentalarena[train]``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from mentalarena.errors import ConfigurationError
from mentalarena.flags import option
from mentalarena.models import require
from training.answer_loss import answer_trainer
from training.base_model import computed_in, load_model, load_tokenizer, model_path
from training.export import read_jsonl
from training.masks import Encoded, encode_rows, shuffled_targets, spread
from training.recipe import LoraRecipe, read_recipe
from training.run_folder import (
    ADAPTER,
    CHECKPOINTS,
    claim,
    dataset_facts,
    file_hash,
    last_checkpoint,
    points,
    write_record,
)
from training.trainer_settings import arguments, ends, is_on_cpu, quiet, stopping, with_progress


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
    facts = dataset_facts(job.dataset, "sft", job.recipe.answers)
    identity = _identity(job, facts)
    record = claim(job.out, identity)
    if record.get("status") == "done":
        return record
    quiet()
    path = model_path(job.recipe)
    tokenizer = load_tokenizer(path)
    model = load_model(path, job.recipe)
    stops = ends(model)
    everything = read_jsonl(job.dataset / "train.jsonl")
    rows: Sequence[Mapping[str, Any]] = spread(
        everything, job.recipe.train_rows, job.seed, "train rows"
    )
    if job.shuffle_targets:
        rows = shuffled_targets(rows, job.seed)
    learned = encode_rows(tokenizer, rows, job.recipe.max_length, stops)
    dev = spread(read_jsonl(job.dataset / "dev.jsonl"), job.recipe.eval_rows, job.seed)
    held = encode_rows(tokenizer, dev, job.recipe.max_length, stops)
    if not learned.rows:
        raise ConfigurationError(
            f"no answer of {job.dataset} fits into max_length = {job.recipe.max_length}: raise it"
        )
    trainer = make_trainer(job, model, tokenizer, learned, held)
    record["computed_in"] = computed_in(trainer)
    write_record(job.out, record)
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
        "train_loss": points(log, "loss"),
        "dev_loss": points(log, "eval_loss"),
        "best_dev_loss": trainer.state.best_metric,
        "adapter_sha256": file_hash(adapter / "adapter_model.safetensors"),
    }
    write_record(job.out, record)
    draw_losses(record, job.out / "loss.png")
    return record


def make_trainer(job: Job, model: Any, tokenizer: Any, learned: Encoded, held: Encoded) -> Any:
    """The trainer of a job, with rows that carry their own masks."""
    import datasets
    from peft import LoraConfig
    from trl import SFTConfig

    recipe = job.recipe
    watched = bool(held.rows)
    settings = arguments(
        recipe, job.out, seed=job.seed, max_steps=job.max_steps, on_cpu=is_on_cpu(model),
        watched=watched,
    )  # fmt: skip
    trainer = answer_trainer()(
        model=model,
        # Rows come with ids and labels of their own (training.masks): nothing is to be added.
        args=SFTConfig(
            **settings,
            # Rows of like length in a batch: less of it is padding. Alone they need no order, in
            # which one task would follow the other.
            train_sampling_strategy="group_by_length" if recipe.batch_size > 1 else "random",
            dataset_kwargs={"skip_prepare_dataset": True},
            packing=False,
        ),
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
        callbacks=stopping(recipe, watched),
    )
    return with_progress(trainer)


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
