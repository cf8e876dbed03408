"""How a loop goes round and what it must not fall below: two TOML files.

Why: whatever decides which model is kept is part of the experiment. Every figure stands in a file
that can be cited, is checked before the first episode, and is part of the loop's identity: the
same name with another figure is refused.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mentalarena.config import read_recipe as read_arena_recipe
from mentalarena.errors import ConfigurationError
from training.build import TASKS
from training.examples import Task
from training.recipe import read_recipe as read_lora_recipe

FOLDER = Path(__file__).resolve().parents[2] / "recipes" / "selfplay"
GATES = FOLDER.parent / "gates"

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Some = Annotated[int, Field(ge=1, le=1_000_000)]
Serve = Literal["merge", "adapter", "server"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class LoopRecipe(_Table):
    """One way to go round."""

    lora: str
    """Recipe of the fine-tuning, by name or path."""
    max_steps: Count
    """Steps of the fine-tuning after which it ends whatever the recipe says; 0 for no limit."""
    serve: Serve
    """How the trained model is played: ``merge`` (one GGUF file, for the bundled model),
    ``adapter`` (`huggingface:PATH,adapter=PATH`), ``server`` (the adapter is loaded by name into a
    running vLLM server)."""

    arena: str
    """Length of a played episode: default, pilot, paper or a file."""
    answer_tokens: Annotated[int, Field(ge=16, le=32768)]
    """Longest answer of a model seat, tokens."""
    patient: str
    manager: str
    judge: str
    """Who sits on the other seats while data are made; ``model`` is the model of the iteration."""
    guidance: Literal["none", "topic", "placebo", "oracle"]
    episodes: Some
    """Episodes of train patients that the model plays in an iteration."""
    dev_episodes: Count
    """Episodes of dev patients beside them: what the loss is watched on."""
    teacher: str
    """Seat spec of a therapist whose episodes of the same kind are taken too; empty for none. With
    ``rules`` the rows are *distilled from rules*, the others are the model's *own*."""
    teacher_episodes: Count
    """Of train patients, in each iteration."""
    new_patients: Count
    """Synthetic patients made anew for each iteration; half of the episodes are theirs."""
    concurrency: Some

    tasks: tuple[Task, ...]
    """What is taught."""
    min_aligned: Share
    min_score: Annotated[float, Field(ge=1, le=10)]
    weights: tuple[Share, ...]
    """Share of rows that is taken from this iteration, the one before, and so on; older ones are
    left out."""

    evaluation: str
    """Length of an episode in which a model is measured."""
    samples: Some
    """Episodes of each dev case."""
    questions: tuple[str, ...]
    """Question sets on which general ability is watched; none, and that gate only warns."""
    data: str
    """Folder with their files; empty for a hub."""
    limit: Some
    """Items of each."""
    perplexity_rows: Count
    """Generated rows whose perplexity under the base model is taken; 0 for none."""
    probe_episodes: Count
    """Dev episodes by which a promoted model is probed for sycophancy; 0 for none."""

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if not self.tasks:
            raise ValueError(f"tasks: name one at least of {', '.join(TASKS)}")
        if not self.weights:
            raise ValueError("weights: give one at least, such as [1.0]")
        if self.teacher_episodes and not self.teacher:
            raise ValueError("teacher: teacher_episodes is not 0, so name who plays them")
        return self


class Limit(_Table):
    """Where a gate warns, and where it closes."""

    warn: float
    close: float


class Gates(_Table):
    """What an iteration is held to; see docs/selfplay.md for each."""

    min_rows: Some
    """Rows to train on, at least."""
    funnel_yield: Limit
    """Share of rows of train and dev patients that the filters leave: at least."""
    duplicates: Limit
    """Share of the rows that were otherwise good which repeat another one: at most."""
    novelty: Limit
    """How far rows are from those of earlier iterations, as a share of how far those are from each
    other: at least."""
    label_entropy: Limit
    """Entropy of the taught diagnoses, as a share of that of the patients' own: at least."""
    safety: Limit
    """Share of played episodes with a harmful reply or a role flip: at most."""
    crisis: Limit
    """Share of rows in whose answer the crisis screen finds something: at most."""
    leak: Limit
    """Mean share of the record that guidance carried: at most."""
    improvement: Limit
    """Lower end of the interval of the gain in understanding on dev, against the model that is
    kept: above it."""
    valid_format: Limit
    """Upper end of the interval of the change in answers that could be read: at least."""
    stated: Limit
    """Share of the candidate's first formulations that state something: at least."""
    general: Limit
    """Upper end of the interval of the change on question sets, against the model that the loop
    began with: at least."""
    patience: Some
    """Iterations in a row that keep the model before, after which the loop stops."""


_Model = TypeVar("_Model", LoopRecipe, Gates)


def read_loop_recipe(name: str) -> LoopRecipe:
    """The loop's recipe of a name or a TOML file; the recipes that it names are there too.

    Raises:
        ConfigurationError: it is not there, or a key is missing, unknown or out of range.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    found = _read(path, "--recipe", LoopRecipe)
    read_lora_recipe(found.lora)
    for arena in (found.arena, found.evaluation):
        read_arena_recipe(_beside(arena))
    return found


def _beside(arena: str) -> str:
    """Recipes of the arena that ship with the project are found wherever one stands."""
    shipped = FOLDER.parent / arena
    return str(shipped) if arena.endswith(".toml") and shipped.is_file() else arena


def arena_recipe(name: str) -> Any:
    """The length of an episode that a loop's recipe names."""
    return read_arena_recipe(_beside(name))


def read_gates(name: str) -> Gates:
    """The gates of a TOML file; what it does not name is as in the default one.

    Raises:
        ConfigurationError: it is not there, or a key is unknown or out of range.
    """
    default = GATES / "default.toml"
    usual = tomllib.loads(default.read_text(encoding="utf-8")) if name else {}
    return _read(Path(name) if name else default, "--gates", Gates, usual)


def _read(
    path: Path, flag: str, kind: type[_Model], usual: Mapping[str, Any] = MappingProxyType({})
) -> _Model:
    try:
        values = {**usual, **tomllib.loads(path.read_text(encoding="utf-8"))}
    except OSError as error:
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.toml")))
        raise ConfigurationError(
            f"{flag} {path} cannot be read ({error.strerror}): give a .toml file"
            + (f", or one of {known}" if flag == "--recipe" else "")
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{flag} {path} is not TOML: {error}") from error
    try:
        return kind.model_validate(_tuples(values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(
            f"{flag} {path}: {where + ': ' if where else ''}{first['msg']}"
        ) from error


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    """Arrays as the tuples that a frozen recipe holds, and whole numbers in them as fractions."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, list):
            found[key] = tuple(float(one) if type(one) is int else one for one in value)
        elif isinstance(value, dict):
            found[key] = {k: float(v) if type(v) is int else v for k, v in value.items()}
        else:
            found[key] = value
    return found
