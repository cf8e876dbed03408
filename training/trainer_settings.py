"""What trl's trainers are told alike, on rows and on pairs.

Why: a setting that one of them forgot (a seed, a checkpoint, a mask that is made twice) would make
two fine-tunings that cannot be compared, or that do not go on after a kill.
"""

from pathlib import Path
from typing import Any

import click

from training.recipe import Recipe
from training.run_folder import CHECKPOINTS


def arguments(
    recipe: Recipe, out: Path, *, seed: int, max_steps: int | None, on_cpu: bool, watched: bool
) -> dict[str, Any]:
    """Arguments of a trainer's configuration.

    Args:
        recipe: How to train.
        out: Folder of the run.
        seed: Of the order of rows, and of a new adapter.
        max_steps: Steps after which to stop whatever the recipe says.
        on_cpu: Whether the model is on the CPU.
        watched: Whether there are rows of dev to look at.
    """
    looks: dict[str, Any] = {}
    if watched:
        looks = {
            "eval_strategy": "steps",
            "eval_on_start": True,
            "eval_steps": recipe.eval_steps,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }
    return {
        "output_dir": str(out / CHECKPOINTS),
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule,
        "warmup_steps": recipe.warmup_ratio,
        "num_train_epochs": recipe.epochs,
        "max_steps": max_steps or -1,
        "per_device_train_batch_size": recipe.batch_size,
        "per_device_eval_batch_size": recipe.batch_size,
        "gradient_accumulation_steps": recipe.accumulation,
        "weight_decay": recipe.weight_decay,
        "max_grad_norm": recipe.max_grad_norm,
        "bf16": recipe.dtype == "bfloat16",
        # trl's own default is to do so.
        "gradient_checkpointing": recipe.gradient_checkpointing,
        "fp16": False,
        "use_cpu": on_cpu,
        "save_strategy": "steps",
        "save_steps": recipe.eval_steps,
        "save_total_limit": 2,
        "logging_steps": 1,
        "logging_first_step": True,
        "seed": seed,
        "data_seed": seed,
        "dataloader_pin_memory": not on_cpu,
        "report_to": [],
        "disable_tqdm": True,
        # Rows come with ids and masks of their own (training.masks): nothing is to be cut.
        "max_length": None,
        **looks,
    }


def is_on_cpu(model: Any) -> bool:
    """Whether a model is on the CPU, with no GPU to move it to."""
    import torch

    return next(model.parameters()).device.type == "cpu" and not torch.cuda.is_available()


def stopping(recipe: Recipe, watched: bool) -> list[Any]:
    """What ends training early."""
    from transformers import EarlyStoppingCallback

    return [EarlyStoppingCallback(recipe.patience)] if watched and recipe.patience else []


def with_progress(trainer: Any) -> Any:
    """The trainer, saying a line at each look at dev instead of every figure of every step."""
    from transformers import PrinterCallback, TrainerCallback

    class Progress(TrainerCallback):  # type: ignore[misc]  # Untyped.
        def on_evaluate(
            self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any
        ) -> None:
            step = f"step {state.global_step} of {state.max_steps}"
            click.echo(f"{step}: loss {metrics['eval_loss']:.3f} on dev", err=True)

    # The record keeps the losses of all steps.
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Progress())
    return trainer


def quiet() -> None:
    """Bars for every file that is read or written would hide what is said."""
    import datasets
    from transformers.utils import logging

    logging.disable_progress_bar()
    datasets.disable_progress_bars()


def ends(model: Any) -> list[int]:
    """Ids at which a model stops, as its generation settings name them."""
    found = model.generation_config.eos_token_id
    return list(found) if isinstance(found, list) else [found] if found is not None else []
