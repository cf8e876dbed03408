"""Fine-tune a model on pairs of a better and a worse answer: DPO by trl, on top of a fine-tuning.

Why: rows teach what to say, pairs teach what to leave. What counts is whether held-out patients'
pairs are told apart better than before, so the record has every such figure before and after, with
its interval. The reference is the model that training started from: its adapter is held a second
time, its weights are not. Folder, checkpoints and refusals are those of :mod:`training.lora`.

Run it: ``python -m training.preference --dataset PAIRS --start TUNED --out DIR``. Needs
``mentalarena[train]``.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import click

from mentalarena.errors import ConfigurationError
from mentalarena.flags import option
from mentalarena.models import require
from training.base_model import load_model, load_tokenizer, model_path
from training.export import read_jsonl
from training.margins import figures, log_probs
from training.masks import EncodedPairs, encode_pairs, shuffled_pairs, spread
from training.recipe import PreferenceRecipe, read_preference_recipe
from training.run_folder import (
    ADAPTER,
    CHECKPOINTS,
    claim,
    dataset_facts,
    file_hash,
    last_checkpoint,
    points,
    read_done,
    write_record,
)
from training.trainer_settings import arguments, ends, is_on_cpu, quiet, stopping, with_progress

WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True, slots=True)
class Job:
    """One fine-tuning on pairs."""

    dataset: Path
    out: Path
    recipe: PreferenceRecipe
    start: Path | None = None
    """Folder of a finished fine-tuning; None starts from the recipe's model."""
    seed: int = 0
    max_steps: int | None = None
    """Steps after which to stop whatever the recipe says."""
    shuffle_pairs: bool = False
    """The control: of half of the pairs the worse answer counts as the better one."""


def started(job: Job) -> tuple[Job, dict[str, Any] | None]:
    """The job with what its start decides (model, way of asking, shape of the adapter), and which.

    Raises:
        ConfigurationError: the start is no finished fine-tuning, or its adapter is another one.
    """
    if job.start is None:
        return job, None
    record = read_done(job.start)
    adapter = file_hash(job.start / ADAPTER / WEIGHTS)
    if adapter != record["adapter_sha256"]:
        raise ConfigurationError(
            f"--start {job.start}: its adapter is not the one that its record names"
        )
    tuned = record["identity"]["recipe"]
    same = ("model", "answers", "r", "alpha", "target_modules")
    recipe = replace(job.recipe, **{key: tuned[key] for key in same})
    return replace(job, recipe=recipe), {"id": record["id"], "adapter_sha256": adapter}


def train(job: Job) -> dict[str, Any]:
    """Fine-tune, or go on with what was begun; the record.

    Raises:
        ConfigurationError: dataset, start, recipe and model do not go together, or the folder
            holds another run.
    """
    require("trl", "mentalarena[train]")
    require("peft", "mentalarena[train]")
    job, start = started(job)
    recipe = job.recipe
    facts = dataset_facts(job.dataset, "preference", recipe.answers)
    record = claim(job.out, _identity(job, facts, start))
    if record.get("status") == "done":
        return record
    quiet()
    path = model_path(recipe)
    tokenizer = load_tokenizer(path)
    model = load_model(path, recipe)
    stops = ends(model)
    rows = read_jsonl(job.dataset / "train.jsonl")
    if job.shuffle_pairs:
        rows = shuffled_pairs(rows, job.seed)
    learned = encode_pairs(tokenizer, rows, recipe.max_length, stops)
    dev = spread(read_jsonl(job.dataset / "dev.jsonl"), recipe.eval_rows, job.seed)
    held = encode_pairs(tokenizer, dev, recipe.max_length, stops)
    if not learned.rows:
        raise ConfigurationError(
            f"no pair of {job.dataset} fits into max_length = {recipe.max_length}: raise it"
        )
    trainer = make_trainer(job, model, tokenizer, learned, held)
    outcome = trainer.train(resume_from_checkpoint=last_checkpoint(job.out / CHECKPOINTS))
    adapter = job.out / ADAPTER
    trainer.model.save_pretrained(str(adapter), selected_adapters=["default"])
    tokenizer.save_pretrained(str(adapter))
    log = trainer.state.log_history
    record |= {
        "status": "done",
        "rows": len(learned.rows),
        "cut": learned.cut,
        "too_long": learned.too_long,
        "dev_rows": len(held.rows),
        "answer_tokens": _tokens(learned),
        "steps": trainer.state.global_step,
        "seconds": round(outcome.metrics.get("train_runtime", 0.0), 1),
        "train_loss": points(log, "loss"),
        "train_margin": points(log, "rewards/margins"),
        "dev_loss": points(log, "eval_loss"),
        "dev_margin": points(log, "eval_rewards/margins"),
        "best_dev_loss": trainer.state.best_metric,
        "held_out": measured(trainer, held, recipe) if held.rows else None,
        "adapter_sha256": file_hash(adapter / WEIGHTS),
    }
    write_record(job.out, record)
    return record


def make_trainer(
    job: Job, model: Any, tokenizer: Any, learned: EncodedPairs, held: EncodedPairs
) -> Any:
    """The trainer of a job, with pairs that carry their own ids."""
    import datasets
    from peft import LoraConfig, PeftModel
    from trl import DPOConfig, DPOTrainer

    class Trainer(DPOTrainer):  # type: ignore[misc]
        """One that takes ids as they are: it would render and cut the pairs itself."""

        def _prepare_dataset(self, dataset: Any, *_: Any, **__: Any) -> Any:
            return dataset

    recipe = job.recipe
    watched = bool(held.rows)
    on_cpu = is_on_cpu(model)
    fresh = None
    if job.start is None:
        fresh = LoraConfig(
            r=recipe.r,
            lora_alpha=recipe.alpha,
            # Nothing drops out: the model has to start as its reference.
            lora_dropout=0.0,
            target_modules=recipe.modules(),
            task_type="CAUSAL_LM",
        )
    else:
        model = PeftModel.from_pretrained(model, str(job.start / ADAPTER), is_trainable=True)
    settings = arguments(
        recipe, job.out, seed=job.seed, max_steps=job.max_steps, on_cpu=on_cpu, watched=watched
    )
    trainer = Trainer(
        model=model,
        args=DPOConfig(**settings, beta=recipe.beta, disable_dropout=True),
        processing_class=tokenizer,
        train_dataset=datasets.Dataset.from_list(learned.rows),
        eval_dataset=datasets.Dataset.from_list(held.rows) if watched else None,
        peft_config=fresh,
        callbacks=stopping(recipe, watched),
    )
    return with_progress(trainer)


def measured(trainer: Any, held: EncodedPairs, recipe: PreferenceRecipe) -> dict[str, Any]:
    """Held-out pairs under the reference and under the model, in the precision of training."""
    from trl.trainer.utils import use_adapter

    model = trainer.accelerator.unwrap_model(trainer.model)
    how = (trainer.data_collator, recipe.batch_size)
    after = log_probs(model, held.rows, *how, trainer.accelerator.autocast)
    with use_adapter(model, "ref" if "ref" in model.peft_config else None):
        before = log_probs(model, held.rows, *how, trainer.accelerator.autocast)
    return figures(held.sources, before, after, recipe.beta)


def _tokens(learned: EncodedPairs) -> dict[str, float]:
    """Mean length of the answers: a preference may be one for length."""
    return {
        name: round(sum(len(row[f"{name}_ids"]) for row in learned.rows) / len(learned.rows), 1)
        for name in ("chosen", "rejected")
    }


def _identity(
    job: Job, facts: Mapping[str, Any], start: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What a run is known by: equal for equal runs, wherever they are kept."""
    return {
        "method": "dpo",
        "dataset": facts["id"],
        "start": start,
        "recipe": asdict(job.recipe),
        "seed": job.seed,
        "max_steps": job.max_steps,
        "arm": "shuffled pairs" if job.shuffle_pairs else "trained",
        "answered_by": sorted(facts["answered_by"]),
    }


@click.command("preference", context_settings={"max_content_width": 100})
@option("--dataset", required=True, metavar="DIR",
        help="A folder that `mentalarena dataset --kind preference` made.")  # fmt: skip
@option("--start", default=None, metavar="TUNED",
        help="Folder of training.lora to start from, and to be held to.  "
             "[default: the recipe's model, untrained]")  # fmt: skip
@option("--recipe", "name", default="dpo-smollm2-cpu", show_default=True,
        metavar="NAME|FILE.toml", help="How to train: dpo-smollm2-cpu, dpo-8b, or a file.",
        )  # fmt: skip
@option("--out", default="preferred", show_default=True, metavar="DIR",
        help="Folder of adapter, checkpoints and record; the same command again goes on.",
        )  # fmt: skip
@option("--model", default=None, metavar="PATH",
        help="Another model than the recipe's; with --start it is that run's.")  # fmt: skip
@option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**31 - 1),
        help="Seed of the order of pairs and of a new adapter.")  # fmt: skip
@option("--max-steps", default=None, type=click.IntRange(1),
        help="Stop after so many steps, whatever the recipe says.")  # fmt: skip
@option("--shuffle-pairs", is_flag=True,
        help="The control: in half of the pairs the worse answer counts as the better.",
        )  # fmt: skip
def preference(
    dataset: str, start: str | None, name: str, out: str, model: str | None, seed: int,
    max_steps: int | None, shuffle_pairs: bool,
) -> None:  # fmt: skip
    """Fine-tune a model on preference pairs (DPO)."""
    recipe = read_preference_recipe(name)
    if model is not None:
        if start is not None:
            raise ConfigurationError("--model: with --start the model is that of the run; drop one")
        recipe = replace(recipe, model=model)
    begin = Path(start) if start else None
    job = Job(Path(dataset), Path(out), recipe, begin, seed, max_steps, shuffle_pairs)
    record = train(job)
    click.echo(
        f"{record['steps']} steps on {record['rows']} pairs in {record['seconds']:.0f} s: "
        f"{job.out / ADAPTER}"
    )
    held = record["held_out"]
    if held is None:
        click.echo("no pair of development patients: nothing was measured")
        return
    margin, right = held["reward_margin"]["after"], held["log_prob_accuracy"]
    between = "" if margin["low"] is None else f" ({margin['low']:.3f} to {margin['high']:.3f})"
    click.echo(
        f"{held['pairs']} held-out pairs of {held['patients']} patients: reward margin 0 to "
        f"{margin['value']:.3f}{between}; the better answer is the likelier one in "
        f"{right['before']['value']:.2f} before, {right['after']['value']:.2f} after"
    )
    if record["cut"] or record["too_long"]:
        click.echo(
            f"{record['cut']} prompts lost their beginning, {len(record['too_long'])} pairs did "
            f"not fit into {recipe.max_length} tokens"
        )


if __name__ == "__main__":
    from mentalarena.cli import run_command

    run_command(preference, "python -m training.preference")
