"""From stored episodes to training data: rows, splits, a funnel, a manifest and a card.

Why: what a model learns from has to be as open to inspection as what it is tested on. Rows are read
from the store by SQL, filtered in a fixed order, split by patient, and written so that the same
store gives the same bytes; the set is entered in the store, so that a model can be traced to it.

Run it: ``python -m training.dataset --out DIR``, or ``mentalarena dataset --out DIR``.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import click
from rich.console import Console
from rich.table import Table

from mentalarena.case import Case
from mentalarena.config import DEFAULT_DB
from mentalarena.errors import ConfigurationError, StoreError
from mentalarena.flags import option
from mentalarena.models import AnswerMode, require
from mentalarena.rows import Row as StoreRow
from mentalarena.store import open_store
from mentalarena.store_api import ReadableStore
from training.card import MANIFEST, card, manifest, write_manifest
from training.examples import Example, Source, Task, examples, seed_example
from training.export import EXPORTS, Export, export, row, write_jsonl
from training.filters import Limits, Step, described, evaluation_index, filters, run_filters
from training.pairs import pairs
from training.released import read_released
from training.trajectories import Run, check_splits, find_runs, read_trajectories

Kind = Literal["sft", "preference"]
TASKS: tuple[Task, ...] = get_args(Task)
DEFAULT_TASKS = tuple(task for task in TASKS if task != "cognitive_model")
_LIMITS = Limits()
SPLITS = ("train", "dev")
"""What is written; test patients are for measuring only."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a dataset is to hold."""

    kind: Kind = "sft"
    tasks: tuple[Task, ...] = DEFAULT_TASKS
    source: Source = "dialogue"
    answers: AnswerMode = "labelled"
    from_run: tuple[str, ...] = ()
    iteration: int | None = None
    released: Path | None = None
    evaluation_data: Path | None = None
    exports: tuple[Export, ...] = ()
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Made:
    """A dataset that was written."""

    folder: Path
    facts: dict[str, Any]
    """The manifest."""
    complaints: list[str]
    """Lines of an imported file that could not be read."""


@dataclass(frozen=True, slots=True)
class _Found:
    examples: list[Example]
    runs: list[Run] = field(default_factory=list)
    origin: dict[str, Any] = field(default_factory=dict)
    complaints: list[str] = field(default_factory=list)


def build(store: ReadableStore | None, out: Path, wanted: Wanted) -> Made:
    """Make a dataset and put it in a folder, whole or not at all.

    Args:
        store: Where the episodes are; not looked at for ``wanted.released``.
        out: The folder. One that holds a dataset already is replaced.
        wanted: What to make.

    Raises:
        ConfigurationError: nothing is left to write, or the folder holds something else.
        StoreError: the store holds what must not be trained on together (a patient in two splits).
    """
    require("datasketch", "mentalarena[train]")
    _check_free(out)
    index = evaluation_index(wanted.evaluation_data)
    found = _released(wanted.released) if wanted.released else _played(store, wanted)
    kept, funnel = run_filters(found.examples, filters(wanted.limits, wanted.answers, index))
    if not kept:
        raise ConfigurationError(_nothing_left(funnel))
    origin = str(found.origin.get("file", ""))
    rows = {
        split: [row(one, wanted.answers, origin) for one in kept if one.split == split]
        for split in SPLITS
    }
    with _new_folder(out) as folder:
        for split, of_split in rows.items():
            write_jsonl(folder / f"{split}.jsonl", of_split)
        export(rows, folder, wanted.exports)
        facts = manifest(
            folder,
            kind=wanted.kind,
            asked={"asked_tasks": sorted(wanted.tasks), "source": wanted.source,
                   "answers": wanted.answers},
            limits=described(wanted.limits, index),
            rows=rows,
            kept=kept,
            funnel=funnel,
            runs=found.runs,
            origin=found.origin,
        )  # fmt: skip
        (folder / "README.md").write_text(card(facts), encoding="utf-8")
        write_manifest(folder, facts)
    return Made(out, facts, found.complaints)


def _played(store: ReadableStore | None, wanted: Wanted) -> _Found:
    if store is None:
        raise ConfigurationError("no store to read: give --db, or --released FILE")
    check_splits(store)
    runs = find_runs(store, wanted.from_run)
    tasks = frozenset[str](wanted.tasks)
    found: list[Example] = []
    paired = wanted.kind == "preference"
    seen: dict[str, tuple[Case, str]] = {}
    for played in read_trajectories(store, runs, wanted.iteration, pairs=paired):
        seen.setdefault(played.case.id, (played.case, played.split))
        if paired:
            found += pairs(played, tasks, wanted.source)
        else:
            found += examples(played, tasks, wanted.source, wanted.answers)
    if "cognitive_model" in tasks and not paired:
        found += [seed_example(*seen[case_id]) for case_id in sorted(seen)]
    found.sort(key=_order)
    return _Found(found, runs)


def _order(example: Example) -> tuple[int, str, str, int]:
    episode = example.trajectory.id if example.trajectory else ""
    return TASKS.index(example.task), example.case_id, episode, example.idx


def _released(path: Path) -> _Found:
    found = read_released(path)
    origin = {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "lines": found.lines,
        "unreadable": len(found.complaints),
    }
    ordered = sorted(found.rows, key=lambda one: (TASKS.index(one.task), one.idx))
    return _Found(ordered, origin=origin, complaints=found.complaints)


def _nothing_left(funnel: Sequence[Step]) -> str:
    first, *others = funnel
    if not first.left:
        return (
            "no row of these tasks is in the store: play episodes with `mentalarena batch`, or "
            "name other --tasks or another --from-run"
        )
    worst = max(others, key=lambda step: step.dropped)
    return (
        f"no row is left of {first.left}; the filter {worst.filter!r} took {worst.dropped} "
        f"({worst.why}): loosen it, or play more episodes of train patients"
    )


def _check_free(out: Path) -> None:
    if out.is_file() or (out.is_dir() and any(out.iterdir()) and not (out / MANIFEST).is_file()):
        raise ConfigurationError(
            f"--out {out} holds something that is no dataset: name another folder"
        )


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A folder that takes the place of ``out`` once it is complete."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise ConfigurationError(f"--out {out} cannot be written: {error.strerror}") from error
    try:
        yield made
        made.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        made.replace(out)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def stored(made: Made) -> StoreRow:
    """The row of a dataset in the store."""
    facts = made.facts
    return StoreRow(
        "datasets",
        {
            "id": facts["id"],
            "path": str(made.folder),
            "kind": facts["kind"],
            "run_ids": [run["id"] for run in facts["runs"]],
            "filters": facts["filters"],
            "funnel": facts["funnel"],
            "rows": sum(facts["rows"].values()),
        },
    )


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
@option("--out", default="dataset", show_default=True, metavar="DIR",
        help="Folder to write; one that holds a dataset is replaced.")  # fmt: skip
@option("--kind", default="sft", show_default=True, type=click.Choice(get_args(Kind)),
        help="Rows with one answer, or pairs of a better and a worse one.")  # fmt: skip
@option("--tasks", default=",".join(DEFAULT_TASKS), show_default=True, metavar="NAME,…",
        help="What is taught; cognitive_model too, which holds the record.")  # fmt: skip
@option("--source", default="dialogue", show_default=True, type=click.Choice(get_args(Source)),
        help="What diagnoses and plans are made from; record is the paper's choice, an ablation.",
        )  # fmt: skip
@option("--answers", default="labelled", show_default=True,
        type=click.Choice(get_args(AnswerMode)),
        help="How the trained model will be asked, as in a seat spec.")  # fmt: skip
@option("--from-run", multiple=True, metavar="RUN",
        help="Id of a run to read; may be repeated.  [default: all but evaluations and branches]",
        )  # fmt: skip
@option("--iteration", default=None, type=click.IntRange(0),
        help="Only episodes of this turn of the self-play loop.")  # fmt: skip
@option("--min-score", default=_LIMITS.min_score, show_default=True,
        type=click.FloatRange(1, 10), help="Judge's mean of a plan that is taught.")  # fmt: skip
@option("--min-aligned", default=_LIMITS.min_aligned, show_default=True, type=click.FloatRange(0, 1),
        help="Share of aligned components of a formulation that is taught.")  # fmt: skip
@option("--min-margin", default=_LIMITS.min_margin, show_default=True, type=click.FloatRange(0, 9),
        help="Points between the two plans of a pair.")  # fmt: skip
@option("--max-entropy", default=_LIMITS.max_entropy, show_default=True, type=click.FloatRange(0),
        help="Bits of disagreement among the diagnoses of one case.")  # fmt: skip
@option("--near-duplicate", default=_LIMITS.near_duplicate, show_default=True, type=click.FloatRange(0, 1),
        help="Similarity from which on a row repeats another one; 0 keeps them all.")  # fmt: skip
@option("--include-crisis", is_flag=True,
        help="Keep episodes in which the crisis screen found something.")  # fmt: skip
@option("--evaluation-data", default=None, metavar="PATH",
        help="File or folder of evaluation items that no row may overlap.")  # fmt: skip
@option("--export", "exports", multiple=True, type=click.Choice(EXPORTS),
        help="Write the rows in this format too; may be repeated.")  # fmt: skip
@option("--released", default=None, metavar="FILE",
        help="Read rows released with the MentalArena paper (JSONL) instead of a store.",
        )  # fmt: skip
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
            store.write_sync([stored(made)])
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
