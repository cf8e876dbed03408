"""Self-play that goes round by itself: ``mentalarena selfplay``.

Why: a loop that is a day of manual steps is gone round once. One command plays, collects, trains,
serves, measures on development patients and decides; killed at any moment, the same command goes
on; and whatever a gate closes on leaves the model before in its place. How it decides:
``docs/selfplay.md``.

Run it: ``python -m training.selfplay --iterations 2``, or ``mentalarena selfplay``.
"""

import json
import warnings
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from mentalarena.config import DEFAULT_DB, ArenaConfig
from mentalarena.flags import option
from mentalarena.models import ModelSpec, check_model, require
from mentalarena.store import open_store
from training.selfplay import plots, stages
from training.selfplay.loop import Rounds, Say, gain, told
from training.selfplay.recipe import GATES, read_gates, read_loop_recipe
from training.selfplay.stages import Loop

SMOKE = "smoke"


@click.command("selfplay", context_settings={"max_content_width": 100})
@option("--iterations", default=2, show_default=True, type=click.IntRange(1, 1000),
        help="How often to go round; more than before goes on.")  # fmt: skip
@option("--model", default="local", show_default=True, metavar="SPEC",
        help="The model to begin with: local, huggingface:PATH, or openai:NAME on a vLLM server.",
        )  # fmt: skip
@option("--recipe", default="smollm2-cpu", show_default=True, metavar="NAME|FILE.toml",
        help="Sizes, seats and training of an iteration: smollm2-cpu, vllm-8b, smoke, or a file.",
        )  # fmt: skip
@option("--gates", default="", metavar="FILE",
        help="What an iteration is held to.  [default: recipes/gates/default.toml]")  # fmt: skip
@option("--data", default="", metavar="DIR",
        help="Folder of question sets for general ability.  [default: the recipe's]")  # fmt: skip
@option("--run", "name", default="selfplay", show_default=True, metavar="NAME",
        help="Name of the loop; a store may hold several.")  # fmt: skip
@option("--out", default="selfplay", show_default=True, metavar="DIR",
        help="Folder of patients, datasets, adapters and merged models.")  # fmt: skip
@option("--base-url", default="", metavar="URL",
        help="Server of openai: models.  [default: OPENAI_BASE_URL]")  # fmt: skip
@option("--timeout", default=ArenaConfig().timeout, show_default=True,
        type=click.FloatRange(0, 3600, min_open=True),
        help="Seconds after which a request is given up.")  # fmt: skip
@option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**20), help="Seed.")
@option("--db", default=DEFAULT_DB, show_default=True, metavar="PATH", help="Path of the store.")
@option("--final-test", is_flag=True,
        help="At the end, once: the first and the last model on test patients.")  # fmt: skip
@option("--smoke", is_flag=True,
        help="The machinery at work, in minutes: a tiny model of random weights.")  # fmt: skip
@option("--json", "as_json", is_flag=True, help="Print one JSON object at the end, nothing else.")
def selfplay(
    iterations: int, model: str, recipe: str, gates: str, data: str, name: str, out: str,
    base_url: str, timeout: float, seed: int, db: str, final_test: bool, smoke: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Play, train, measure and decide, again and again; the same command goes on.

    Every flag has an environment variable: MENTALARENA_ and the flag's name in capitals.
    """
    # The libraries of a fine-tuning tell each other, many times, what is to change in them.
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    for package in ("trl", "peft", "datasketch"):
        require(package, "mentalarena[train]")
    folder = Path(out)
    if smoke:
        recipe, model = SMOKE, f"huggingface:{_tiny(folder)},answers=labelled"
        gates = gates or str(GATES / "smoke.toml")
    made = read_loop_recipe(recipe)
    loop = Loop(name, made, model, seed, db, folder, base_url, timeout, data)
    check_model(ModelSpec.parse(model), base_url)
    # Whatever does not go together is better known before the first episode.
    _ = loop.lora
    limits = read_gates(gates)
    say: Say = (lambda text: None) if as_json else (lambda text: click.echo(text, err=True))
    console = None if as_json else Console(stderr=True, highlight=False)
    Rounds(loop, limits, say, console).go(iterations)
    with open_store(db) as store:
        found = told(loop, store)
    if final_test and found["model"] == model:
        say("--final-test: no iteration promoted a model, so there is nothing to compare")
    elif final_test:
        found["test"] = _tested(loop, found["model"])
    if plots.draw(found, folder / "selfplay.png"):
        found["plot"] = str(folder / "selfplay.png")
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        _show(found)
    return 0


def _tiny(folder: Path) -> Path:
    """A model of random weights, made once."""
    from transformers.utils import logging

    from training.tiny_models import save_model

    logging.disable_progress_bar()
    path = folder / "tiny-model"
    if not (path / "tokenizer_config.json").is_file():
        path.mkdir(parents=True, exist_ok=True)
        save_model(path)
    return path


def _tested(loop: Loop, model: str) -> dict[str, Any]:
    """The first and the last model on test patients, who decide nothing."""
    from training import arena_measures

    first, before = stages.evaluate(loop, loop.model, "test", None)
    last, after = stages.evaluate(loop, model, "test", None)
    return {
        "first": {"id": first, "model": loop.model, **arena_measures.summary(before)},
        "last": {"id": last, "model": model, **arena_measures.summary(after)},
        "compared": arena_measures.compare(after, before),
    }


def _figure(value: Any) -> str:
    return "-" if value is None else f"{value:.2f}" if isinstance(value, float) else f"{value:,}"


def _gain(row: dict[str, Any]) -> str:
    if "evaluate" not in row["stages"]:
        return "not trained"
    found = gain(row)
    if found is None:
        return "not measured"
    return f"{found['value']:+.2f} ({found['low']:+.2f} to {found['high']:+.2f})"


def _show(found: dict[str, Any]) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    columns = ("", "rows", "own", "yield", "novelty", "labels", "perplexity", "gain on dev",
               "decision")  # fmt: skip
    for name in columns:
        table.add_column(name, justify="left" if name == "decision" else "right")
    for row in found["iterations"]:
        measures = row["measures"] or {}
        names = ("rows", "kept_own", "funnel_yield", "novelty", "label_entropy", "perplexity")
        figures = [_figure(measures.get(one)) for one in names]
        table.add_row(str(row["iteration"]), *figures, _gain(row), row["decision"] or row["stage"])
    console = Console(highlight=False)
    console.print(table)
    for row in found["iterations"]:
        if row["reason"]:
            console.print(f"iteration {row['iteration']}: {row['reason']}", markup=False)
    if test := found.get("test"):
        one = test["compared"]["measures"][test["compared"]["primary"]]["difference"]
        console.print(
            f"test patients, last against first: {one['value']:+.3f} ({one['low']:+.3f} to "
            f"{one['high']:+.3f})", markup=False,
        )  # fmt: skip
    console.print(f"model: {found['model']}", markup=False)
    if "plot" in found:
        console.print(f"plot: {found['plot']}", markup=False)
