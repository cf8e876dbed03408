"""The folder of a fine-tuning: its record, its checkpoints, and the dataset that it may learn from.

Why: fine-tuning on rows and on pairs keep the same promises. What was asked for is written before
the first step, another run in the folder is refused, a killed run finds its last whole checkpoint,
and a dataset that was not made for the model that is trained is turned away.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from agents.prompting import template_hashes
from mentalarena.errors import ConfigurationError
from mentalarena.journal import digest
from mentalarena.models import AnswerMode
from training.card import MANIFEST

ADAPTER = "adapter"
CHECKPOINTS = "checkpoints"
RECORD = "run.json"
"""Written at the start with what was asked for, and at the end with what came of it."""


def dataset_facts(dataset: Path, kind: str, answers: AnswerMode) -> dict[str, Any]:
    """The manifest of a dataset, checked against its files, the way of asking and the prompts.

    Args:
        dataset: The folder.
        kind: ``sft`` or ``preference``.
        answers: How the trained model will be asked.

    Raises:
        ConfigurationError: it does not fit, or is not what was made.
    """
    path = dataset / MANIFEST
    try:
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"--dataset {dataset} holds no readable {MANIFEST}: make one with `mentalarena dataset`"
        ) from error
    if facts.get("kind") != kind:
        raise ConfigurationError(
            f"--dataset {dataset} is of kind {facts.get('kind')!r}: what is wanted here is "
            f"`mentalarena dataset --kind {kind}`"
        )
    if facts["answers"] != answers:
        raise ConfigurationError(
            f"--dataset {dataset} was made for answers={facts['answers']}, the recipe asks "
            f"with answers={answers}: make it with --answers {answers}"
        )
    now = template_hashes()
    changed = [name for name in now if facts["templates"].get(name) != now[name]]
    if changed:
        raise ConfigurationError(
            f"--dataset {dataset} was made with another prompt {changed[0]}: what is trained "
            "would not be what is asked; make the dataset again"
        )
    for split in ("train", "dev"):
        name = f"{split}.jsonl"
        if file_hash(dataset / name) != facts["files"].get(name, {}).get("sha256"):
            raise ConfigurationError(
                f"{dataset / name} is not what {MANIFEST} says: make the dataset again"
            )
    return facts


def claim(out: Path, identity: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a folder: begun, or gone on with.

    Raises:
        ConfigurationError: the folder holds another run; the changed keys are named.
    """
    path = out / RECORD
    try:
        if path.is_file():
            record: dict[str, Any] = json.loads(path.read_text("utf-8"))
            old = record["identity"]
            changed = sorted(
                key for key in identity.keys() | old.keys() if identity.get(key) != old.get(key)
            )
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
        write_record(out, record)
    except OSError as error:
        raise ConfigurationError(f"--out {out} cannot be written: {error.strerror}") from error
    return record


def _versions() -> dict[str, str]:
    names = ("mentalarena", "torch", "transformers", "trl", "peft")
    return {name: metadata.version(name) for name in names}


def write_record(out: Path, record: Mapping[str, Any]) -> None:
    """Write the record of a folder, whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
    beside = out / f".{RECORD}"
    with beside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(out / RECORD)


def read_done(folder: Path) -> dict[str, Any]:
    """The record of a finished run.

    Raises:
        ConfigurationError: the folder holds none.
    """
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{folder} holds no readable {RECORD}: name a folder that training.lora wrote"
        ) from error
    if record["status"] != "done":
        raise ConfigurationError(f"{folder} is not a finished run: give its command again first")
    return record


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


def file_hash(path: Path) -> str:
    """SHA-256 of a file; empty when there is none."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def points(log: Sequence[Mapping[str, Any]], name: str) -> list[list[float]]:
    """(step, value) of a figure in a trainer's log; the last one of a step."""
    found = {int(entry["step"]): float(entry[name]) for entry in log if name in entry}
    return [[step, round(value, 6)] for step, value in sorted(found.items())]
