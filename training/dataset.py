"""From stored episodes to training data: rows, splits, a funnel, a manifest and a card.

Why: what a model learns from has to be as open to inspection as what it is tested on. Rows are read
from the store by SQL, filtered in a fixed order, split by patient, and written so that the same
store gives the same bytes; the set is entered in the store, so that a model can be traced to it.

Run it: ``python -m training.dataset --out DIR``, or ``mentalarena dataset --out DIR``.
"""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import click
from rich.console import Console
from rich.table import Table

from mentalarena.config import DEFAULT_DB
from mentalarena.errors import ConfigurationError, StoreError
from mentalarena.flags import option
from mentalarena.models import AnswerMode
from mentalarena.store import open_store
from training.build import DEFAULT_TASKS, TASKS, Kind, Made, Wanted, build, stored
from training.examples import Source, Task
from training.export import EXPORTS, Export
from training.filters import Limits

_LIMITS = Limits()


def funnel_table(facts: dict[str, Any]) -> Table:
    """The funnel, as it is shown in a terminal."""
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("filter", style="bold")
    table.add_column("dropped", justify="right")
    table.add_column("left", justify="right")
    table.add_column("why", style="dim")
    for step in facts["funnel"]:
        table.add_row(step["filter"], f"{step['dropped']:,}", f"{step['left']:,}", step["why"])
    return table


def _tasks(text: str) -> tuple[Task, ...]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in TASKS]
    if unknown or not names:
        raise ConfigurationError(
            f"--tasks {text!r}: {unknown[0] if unknown else 'nothing'!r} is no task; known are "
            + ", ".join(TASKS)
        )
    return tuple(task for task in TASKS if task in names)


@click.command("dataset", context_settings={"max_content_width": 100})
@option("--db", default=DEFAULT_DB, show_default=True, metavar="PATH", help="Path of the store.")
@option(
    "--out",
    default="dataset",
    show_default=True,
    metavar="DIR",
    help="Folder to write; one that holds a dataset is replaced.",
)
@option(
    "--kind",
    default="sft",
    show_default=True,
    type=click.Choice(get_args(Kind)),
    help="Rows with one answer, or pairs of a better and a worse one.",
)
@option(
    "--tasks",
    default=",".join(DEFAULT_TASKS),
    show_default=True,
    metavar="NAME,…",
    help="What is taught; cognitive_model too, which holds the record.",
)
@option(
    "--source",
    default="dialogue",
    show_default=True,
    type=click.Choice(get_args(Source)),
    help="What diagnoses and plans are made from; record is the paper's choice, an ablation.",
)
@option(
    "--answers",
    default="labelled",
    show_default=True,
    type=click.Choice(get_args(AnswerMode)),
    help="How the trained model will be asked, as in a seat spec.",
)
@option(
    "--from-run",
    multiple=True,
    metavar="RUN",
    help="Id of a run to read; may be repeated.  [default: all but evaluations and branches]",
)
@option(
    "--iteration",
    default=None,
    type=click.IntRange(0),
    help="Only episodes of this turn of the self-play loop.",
)
@option(
    "--min-score",
    default=_LIMITS.min_score,
    show_default=True,
    type=click.FloatRange(1, 10),
    help="Judge's mean of a plan that is taught.",
)
@option(
    "--min-aligned",
    default=_LIMITS.min_aligned,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of aligned components of a formulation that is taught.",
)
@option(
    "--min-margin",
    default=_LIMITS.min_margin,
    show_default=True,
    type=click.FloatRange(0, 9),
    help="Points between the two plans of a pair.",
)
@option(
    "--min-agreement",
    default=_LIMITS.min_agreement,
    show_default=True,
    type=click.FloatRange(0.5, 1, min_open=True),
    help="Share of judges' comparisons that the better plan of a pair wins.",
)
@option(
    "--max-entropy",
    default=_LIMITS.max_entropy,
    show_default=True,
    type=click.FloatRange(0),
    help="Bits of disagreement among the diagnoses of one case.",
)
@option(
    "--near-duplicate",
    default=_LIMITS.near_duplicate,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Similarity from which on a row repeats another one; 0 keeps them all.",
)
@option(
    "--include-crisis",
    is_flag=True,
    help="Keep episodes in which the crisis screen found something.",
)
@option(
    "--evaluation-data",
    default=None,
    metavar="PATH",
    help="File or folder of evaluation items that no row may overlap.",
)
@option(
    "--export",
    "exports",
    multiple=True,
    type=click.Choice(EXPORTS),
    help="Write the rows in this format too; may be repeated.",
)
@option(
    "--released",
    default=None,
    metavar="FILE",
    help="Read rows released with the MentalArena paper (JSONL) instead of a store.",
)
@option("--json", "as_json", is_flag=True, help="Print the manifest as JSON.")
def dataset(
    db: str,
    out: str,
    tasks: str,
    from_run: tuple[str, ...],
    evaluation_data: str | None,
    exports: tuple[Export, ...],
    released: str | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Make training data from stored episodes: filtered, split by patient, with a funnel."""
    names = [item.name for item in fields(Limits)]
    limits = Limits(**{name: values.pop(name) for name in names})
    wanted = Wanted(
        tasks=_tasks(tasks),
        from_run=from_run,
        released=Path(released) if released else None,
        evaluation_data=Path(evaluation_data) if evaluation_data else None,
        exports=tuple(dict.fromkeys(exports)),
        limits=limits,
        **values,
    )
    if released:
        if wanted.kind == "preference":
            raise ConfigurationError("--released: such rows hold no second answer; use --kind sft")
        made = build(None, Path(out), wanted)
    else:
        if not Path(db).is_file():
            # Opening would make one.
            raise StoreError(
                f"there is no store at {db}: play episodes first, or name it with --db"
            )
        with open_store(db) as store:
            made = build(store, Path(out), wanted)
            store.write_sync(stored(made))
    _say(made, as_json)


def _say(made: Made, as_json: bool) -> None:
    facts = made.facts
    if as_json:
        click.echo(json.dumps(facts, ensure_ascii=False, indent=1, sort_keys=True))
        return
    for complaint in made.complaints[:5]:
        click.echo(f"left out: {complaint}", err=True)
    if len(made.complaints) > 5:
        click.echo(f"left out: {len(made.complaints) - 5} more lines", err=True)
    console = Console(highlight=False)
    console.print(funnel_table(facts))
    rows = facts["rows"]
    click.echo(f"{rows['train']} rows to train on, {rows['dev']} for development: {made.folder}")


if __name__ == "__main__":
    from mentalarena.cli import run_command

    run_command(dataset, "python -m training.dataset")
