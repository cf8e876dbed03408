"""The question sets by name: where their files are found, how they are read and put.

Why: a task is a name, a reader, a style of prompt, and where it can be had: as a file in the
folder of ``--data`` (``NAME.jsonl``, ``.json`` or ``.csv``; ``NAME.dev.jsonl`` for the development
split), or from a hub where there is a network. Nothing is shipped: some sets have no licence.
"""

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mentalarena.errors import ConfigurationError
from mentalarena.models import require
from training.tasks import readers
from training.tasks.items import Item
from training.tasks.prompts import Style

Split = Literal["dev", "test"]
Reader = Callable[[Iterable[Any]], Iterable[Item]]

ARENA = "arena"
"""The task that is played and not read from a file; see :mod:`training.arena_evaluation`."""

SUFFIXES = (".jsonl", ".json", ".csv")


@dataclass(frozen=True)
class Task:
    """One question set."""

    name: str
    about: str
    read: Reader
    style: Style
    files: tuple[str, ...]
    """Stems of the files that hold it, the first that exists."""
    hub: str = ""
    """``owner/name`` of the hub's data set."""
    config: str | None = None
    """Which part of it."""
    splits: Mapping[Split, str] = field(default_factory=dict)
    """The hub's name of each split."""
    subject: str = ""
    """What an MMLU prompt names."""
    harness: str = ""
    """The task of lm-evaluation-harness that is put in the same words."""


_MEDQA = "GBaker/MedQA-USMLE-4-options"
_MEDMCQA = "openlifescienceai/medmcqa"
_PUBMEDQA = "qiaojin/PubMedQA"

_TASKS = (
    Task("medqa", "MedQA (USMLE), four options", readers.lettered, "question",
         ("medqa",), _MEDQA, None, {"test": "test"}, harness="medqa_4options"),
    Task("medqa_psychosis", "MedQA, the paper's selection of 173", readers.lettered, "question",
         ("medqa_psychosis",), harness="medqa_4options"),
    Task("medmcqa", "MedMCQA; its test split is published without labels", readers.medmcqa,
         "choices", ("medmcqa",), _MEDMCQA, None, {"test": "validation"}, harness="medmcqa"),
    Task("medmcqa_psychiatry", "MedMCQA, subject psychiatry", readers.medmcqa_psychiatry,
         "choices", ("medmcqa_psychiatry", "medmcqa"), _MEDMCQA, None, {"test": "validation"},
         harness="medmcqa"),
    Task("medmcqa_psychosis", "MedMCQA, the paper's selection of 314, none of it psychiatry",
         readers.medmcqa, "choices", ("medmcqa_psychosis",), harness="medmcqa"),
    Task("pubmedqa", "PubMedQA, expert labels, with abstracts", readers.pubmedqa, "abstract",
         ("pubmedqa",), _PUBMEDQA, "pqa_labeled", {"test": "train"}, harness="pubmedqa"),
    Task("pubmedqa_no_abstract", "PubMedQA as the paper asks it, without abstracts",
         readers.pubmedqa_no_abstract, "abstract", ("pubmedqa_no_abstract", "pubmedqa"),
         _PUBMEDQA, "pqa_labeled", {"test": "train"}),
    Task("cams", "CAMS in the IMHI form: causes of depression", readers.cams, "post",
         ("cams", "CAMS")),
    Task("dreaddit", "Dreaddit in the IMHI form: stress", readers.imhi, "post", ("dreaddit",)),
    Task("irf", "Irf in the IMHI form: interpersonal risk factors", readers.imhi, "post",
         ("irf", "Irf")),
)  # fmt: skip
TASKS: Mapping[str, Task] = {task.name: task for task in _TASKS}

BBH = (
    "boolean_expressions", "causal_judgement", "date_understanding", "disambiguation_qa",
    "formal_fallacies", "hyperbaton", "logical_deduction_three_objects", "navigate",
    "penguins_in_a_table", "reasoning_about_colored_objects", "ruin_names", "snarks",
    "sports_understanding", "temporal_sequences", "tracking_shuffled_objects_three_objects",
    "web_of_lies",
)  # fmt: skip
"""Tasks of BIG-Bench Hard with closed lists of answers: the suite for what was forgotten."""

MMLU = (
    "professional_psychology", "professional_medicine", "clinical_knowledge",
    "high_school_psychology", "college_medicine", "college_biology", "anatomy",
    "medical_genetics", "human_aging", "nutrition",
)  # fmt: skip
"""The subjects of MMLU that ``mmlu`` stands for; ``mmlu_SUBJECT`` takes any other too."""

SUITES: Mapping[str, tuple[str, ...]] = {
    "bbh": tuple(f"bbh_{name}" for name in BBH),
    "mmlu": tuple(f"mmlu_{name}" for name in MMLU),
}


def find_task(name: str) -> Task:
    """The task of this name.

    Raises:
        ConfigurationError: there is none; near names are offered.
    """
    if name in TASKS:
        return TASKS[name]
    family, _, part = name.partition("_")
    if family == "mmlu" and part:
        return Task(
            name, f"MMLU, {part.replace('_', ' ')}", readers.lettered, "mmlu",
            (name, f"{part}_test", part), "cais/mmlu", part,
            {"dev": "validation", "test": "test"}, part.replace("_", " "), name,
        )  # fmt: skip
    if family == "bbh" and part:
        return Task(
            name, f"BIG-Bench Hard, {part.replace('_', ' ')}", readers.bbh, "bbh", (name, part),
            "SaylorTwift/bbh", part, {"test": "test"},
        )  # fmt: skip
    known = [ARENA, *TASKS, *SUITES]
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise ConfigurationError(
        f"--tasks {name!r} is unknown: {hint}known are {', '.join(known)}, mmlu_SUBJECT, bbh_NAME"
    )


def named_tasks(names: Sequence[str], data: str) -> list[str]:
    """Names of tasks in the order given; suites spelled out, ``all`` as what ``--data`` holds."""
    found: list[str] = []
    for name in names:
        if name == "all":
            if not data:
                raise ConfigurationError("--tasks all needs --data DIR: it means what is in it")
            found += _in_folder(Path(data))
        else:
            found += SUITES.get(name, (name,))
    return list(dict.fromkeys(found))


def _in_folder(folder: Path) -> list[str]:
    stems = {path.stem for path in _listed(folder) if path.suffix in SUFFIXES}
    families = [name for suite in SUITES.values() for name in suite if name in stems]
    found = [name for name, task in TASKS.items() if task.files[0] in stems] + families
    if not found:
        raise ConfigurationError(f"--data {folder} holds no file of a known task")
    return found


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise ConfigurationError(f"--data {folder}: {error.strerror}: name a folder") from error


class Loaded(NamedTuple):
    """A question set that was read."""

    task: Task
    items: list[Item]
    source: dict[str, str]
    """Where it came from: file and SHA-256, or hub, revision and fingerprint."""


def load(name: str, data: str, split: Split) -> Loaded:
    """Read a task's items from ``--data``, or from a hub without one.

    Raises:
        ConfigurationError: no such task, file or split; or a file not in the task's format.
    """
    task = find_task(name)
    if data:
        path = _find_file(task, Path(data), split)
        records: Iterable[Any] = readers.read_records(path)
        source = {"file": path.name, "sha256": sha256(path.read_bytes()).hexdigest()}
        where = str(path)
    else:
        records, source = _download(task, split)
        where = f"{task.hub} ({source['split']})"
    try:
        items = list(_counted(task.read, records))
    except readers.BadRecord as error:
        raise ConfigurationError(f"{where}: {error}") from error
    if not items:
        raise ConfigurationError(f"{where} holds no item of {name}")
    return Loaded(task, items, source)


def _counted(read: Reader, records: Iterable[Any]) -> Iterable[Item]:
    """Items, with the place of the record at fault in what is raised."""
    number = 0
    try:
        for number, item in enumerate(read(records), start=1):  # noqa: B007
            yield item
    except readers.BadRecord as error:
        raise readers.BadRecord(f"record {number + 1}: {error}") from error


def _find_file(task: Task, folder: Path, split: Split) -> Path:
    held = {path.name: path for path in _listed(folder)}
    middle = ".dev" if split == "dev" else ""
    wanted = [f"{stem}{middle}{suffix}" for stem in task.files for suffix in SUFFIXES]
    for name in wanted:
        if name in held:
            return held[name]
    raise ConfigurationError(
        f"--data {folder} holds no file of {task.name}, split {split}: expected {wanted[0]}"
    )


def _download(task: Task, split: Split) -> tuple[Iterable[Any], dict[str, str]]:
    if not task.hub or split not in task.splits:
        what = f"split {split} of {task.name}" if task.hub else task.name
        raise ConfigurationError(
            f"{what} cannot be downloaded: give --data DIR with {task.files[0]}.jsonl"
        )
    require("datasets", "mentalarena[evaluate]")
    import datasets

    datasets.disable_progress_bars()
    try:
        found = datasets.load_dataset(task.hub, task.config, split=task.splits[split])
    # The library lets the errors of half a dozen others through.
    except Exception as error:
        raise ConfigurationError(
            f"{task.hub} cannot be downloaded ({type(error).__name__}): without a network give "
            f"--data DIR with {task.files[0]}.jsonl"
        ) from error
    source = {"hub": task.hub, "split": task.splits[split], "fingerprint": found._fingerprint}
    return list(found), source
