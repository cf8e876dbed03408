"""How a model is fine-tuned: a recipe in TOML, every key named and checked.

Why: a figure is worth what can be done again. A recipe is part of a training run's record, and a
run that was interrupted goes on only under the same one.
"""

import tomllib
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from mentalarena.errors import ConfigurationError
from mentalarena.models import AnswerMode

FOLDER = Path(__file__).resolve().parents[1] / "recipes"
"""The recipes of this project in a checkout: ``lora`` and ``preference``."""

Quantize = Literal["none", "4bit"]
Dtype = Literal["float32", "bfloat16"]
Schedule = Literal["constant", "constant_with_warmup", "cosine", "linear"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What decides, on rows and on pairs, what training does, but the data and the seed."""

    model: str
    """``local`` for the bundled model, else a folder or hub name of transformers."""
    answers: AnswerMode
    """How the trained model will be asked."""
    r: int
    """Rank of the adapter."""
    alpha: int
    target_modules: str
    """``all-linear``, or names of modules separated by commas."""
    learning_rate: float
    schedule: Schedule
    warmup_ratio: float
    """Share of all steps."""
    epochs: float
    batch_size: int
    """Rows at a time on a device."""
    accumulation: int
    """Such batches a step."""
    weight_decay: float
    max_grad_norm: float
    max_length: int
    """Tokens of a row."""
    eval_steps: int
    """Steps between two looks at dev, and between two checkpoints."""
    patience: int
    """Looks without a lower loss after which training ends; 0 never ends it early."""
    eval_rows: int
    """Rows of dev that are looked at; 0 for all."""
    dtype: Dtype
    """What the model computes in. On a CPU ``bfloat16`` is autocast: all weights stay float32."""
    quantize: Quantize
    gradient_checkpointing: bool

    def modules(self) -> str | list[str]:
        """The modules to adapt, as peft takes them."""
        if self.target_modules == "all-linear":
            return self.target_modules
        return [name.strip() for name in self.target_modules.split(",") if name.strip()]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraRecipe(Recipe):
    """How a model is fine-tuned on rows."""

    train_rows: int
    """Rows that are learned from, as many of each task; 0 for all."""
    dropout: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PreferenceRecipe(Recipe):
    """How a model is fine-tuned on pairs; without dropout, so that it starts as its reference."""

    beta: float
    """How hard the model is held to its reference; a reward is so many times a log-ratio."""


R = TypeVar("R", bound=Recipe)

_POSITIVE = ("r", "alpha", "batch_size", "accumulation", "max_length", "eval_steps")
_ABOVE_ZERO = ("learning_rate", "epochs", "max_grad_norm", "beta")
_NOT_NEGATIVE = ("dropout", "warmup_ratio", "weight_decay", "patience", "eval_rows", "train_rows")
_CHOICES = {"answers": AnswerMode, "schedule": Schedule, "dtype": Dtype, "quantize": Quantize}


def read_recipe(name: str) -> LoraRecipe:
    """The recipe of a name or of a TOML file, for rows.

    Raises:
        ConfigurationError: there is none, or a key is missing, unknown or out of range.
    """
    return _read(name, "lora", LoraRecipe)


def read_preference_recipe(name: str) -> PreferenceRecipe:
    """The same, for pairs.

    Raises:
        ConfigurationError: there is none, or a key is missing, unknown or out of range.
    """
    return _read(name, "preference", PreferenceRecipe)


def _read(name: str, kind: str, wanted: type[R]) -> R:
    """The recipe of a name or of a TOML file.

    Raises:
        ConfigurationError: there is none, or a key is missing, unknown or out of range.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / kind / f"{name}.toml"
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        known = (
            ", ".join(sorted(file.stem for file in (FOLDER / kind).glob("*.toml"))) or "none here"
        )
        raise ConfigurationError(
            f"--recipe {name!r} cannot be read ({error.strerror}): give a .toml file, or one of "
            f"{known}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"recipe {path} is not TOML: {error}") from error
    return checked(values, str(path), wanted)


def checked(values: dict[str, Any], where: str, wanted: type[R]) -> R:
    """A recipe of a kind from its values.

    Raises:
        ConfigurationError: a key is missing, unknown or out of range.
    """
    names = {item.name: item.type for item in fields(wanted)}
    for kind, found in (("missing", names.keys() - values), ("unknown", values.keys() - names)):
        if found:
            raise ConfigurationError(f"recipe {where}: {kind} key {sorted(found)[0]}")
    for key, value in values.items():
        wrong = _wrong(key, value, names[key])
        if wrong:
            raise ConfigurationError(f"recipe {where}: {key} {wrong}, not {value!r}")
    numbers = {key: float(values[key]) for key, kind in names.items() if kind is float}
    return wanted(**{**values, **numbers})


def _wrong(key: str, value: Any, kind: Any) -> str | None:
    if key in _CHOICES:
        allowed = get_args(_CHOICES[key])
        return None if value in allowed else "must be one of " + ", ".join(allowed)
    if kind is str:
        return None if isinstance(value, str) and value.strip() else "must be text"
    if kind is bool:
        return None if isinstance(value, bool) else "must be true or false"
    if isinstance(value, bool) or not isinstance(value, int if kind is int else int | float):
        return "must be a whole number" if kind is int else "must be a number"
    if key in _POSITIVE and value < 1:
        return "must be 1 or more"
    if key in _ABOVE_ZERO and value <= 0:
        return "must be above 0"
    if key in _NOT_NEGATIVE and value < 0:
        return "must be 0 or more"
    if key in ("dropout", "warmup_ratio") and value >= 1:
        return "must be below 1"
    return None
