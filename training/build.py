"""A dataset made whole or not at all: rows read, filtered, split by patient and written.

Why: a folder that a crash left half-made would be trained on. Everything is written beside its
place and moved there at the end; the same store and the same wishes give the same bytes.
"""

import hashlib
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from mentalarena.case import Case
from mentalarena.errors import ConfigurationError
from mentalarena.models import AnswerMode, require
from mentalarena.rows import Row as StoreRow
from mentalarena.store_api import ReadableStore
from training.card import MANIFEST, card, manifest, write_manifest
from training.examples import Example, Source, Task, examples, seed_example
from training.export import Export, export, row, write_jsonl
from training.filters import (
    Limits,
    Step,
    described,
    evaluation_index,
    filters,
    mixing,
    run_filters,
)
from training.pairs import pairs
from training.released import read_released
from training.trajectories import Run, check_splits, find_runs, read_trajectories

Kind = Literal["sft", "preference"]
TASKS: tuple[Task, ...] = get_args(Task)
DEFAULT_TASKS = tuple(task for task in TASKS if task != "cognitive_model")
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
    shares: tuple[tuple[str, float], ...] = ()
    """Runs of which a share of the rows to train on is taken; all of others."""
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
    origins: list[dict[str, Any]]
    """Where each row comes from: rows of ``dataset_rows`` without the dataset."""


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
    chosen = filters(wanted.limits, wanted.answers, index)
    if wanted.shares:
        chosen = (*chosen, mixing(dict(wanted.shares)))
    kept, funnel = run_filters(found.examples, chosen)
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
            asked={
                "asked_tasks": sorted(wanted.tasks),
                "source": wanted.source,
                "answers": wanted.answers,
            },
            limits=described(wanted.limits, index),
            rows=rows,
            kept=kept,
            funnel=funnel,
            runs=found.runs,
            origin=found.origin,
        )
        (folder / "README.md").write_text(card(facts), encoding="utf-8")
        write_manifest(folder, facts)
    origins = [
        {"row_id": one["id"], "split": split, "task": one["task"],
         "episode_id": one["meta"]["episode_id"], "idx": one["meta"]["idx"]}
        for split, of_split in rows.items()
        for one in of_split
    ]  # fmt: skip
    return Made(out, facts, found.complaints, origins)


def candidates(store: ReadableStore, wanted: Wanted) -> list[Example]:
    """Every row that the episodes of a store give, before any filter, in order."""
    return _played(store, wanted).examples


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


def stored(made: Made) -> list[StoreRow]:
    """The rows of a dataset in the store: itself, and where each of its rows comes from."""
    facts = made.facts
    itself = StoreRow(
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
    return [
        itself,
        *(StoreRow("dataset_rows", {"dataset_id": facts["id"], **one}) for one in made.origins),
    ]
