"""The frozen configuration of a run: plain strings and numbers, checked on construction.

Why: the same object is the ``context_schema`` of the graph (the form in LangGraph Studio), what the
command line builds, and what is hashed to say whether two episodes are the same experiment.
"""

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from mentalarena.errors import ConfigurationError
from mentalarena.models import spec_identity

Guidance = Literal["none", "topic", "placebo", "oracle"]

Scorer = Literal["embedding", "judge"]
Probes = Literal["until-aligned", "all"]
Ablation = Literal["none", "encoder", "decoder"]
CHOICES: dict[str, tuple[str, ...]] = {
    "guidance": get_args(Guidance),
    "scorer": get_args(Scorer),
    "probes": get_args(Probes),
    "ablate": get_args(Ablation),
}
"""What the settings that are one of several may be."""

DEFAULT_DB = "arena.db"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How long an episode is and when a plan is good enough."""

    exchanges: int = 6
    """Question-and-answer pairs before the first formulation."""
    probe_rounds: int = 5
    """Reroutes allowed after it."""
    max_plans: int = 3
    """Plans tried per kind."""
    accept_score: float = 9.0
    """Mean judge score (1 to 10) at which a plan is taken."""
    judge_samples: int = 2
    """Scores drawn per plan."""


_DEFAULT = Recipe()

RECIPES: dict[str, Recipe] = {
    "default": _DEFAULT,
    "pilot": Recipe(exchanges=4, probe_rounds=1, max_plans=1, judge_samples=1),
    # MentalArena (arXiv 2410.06845): four exchanges, five rounds, seven plans, acceptance 9.
    "paper": Recipe(exchanges=4, probe_rounds=5, max_plans=7, accept_score=9.0, judge_samples=1),
}

_LIMITS: dict[str, tuple[float, float]] = {
    "exchanges": (1, 50),
    "probe_rounds": (0, 50),
    "max_plans": (1, 20),
    "accept_score": (1, 10),
    "judge_samples": (1, 20),
}


def read_recipe(name: str) -> Recipe:
    """A recipe by name, or from a TOML file with any of :class:`Recipe`'s keys.

    Raises:
        ConfigurationError: unknown name, unreadable file, unknown key or value out of range.
    """
    if name in RECIPES:
        return RECIPES[name]
    if not name.endswith(".toml"):
        raise ConfigurationError(
            f"recipe {name!r} is unknown: use {', '.join(RECIPES)} or a path ending in .toml"
        )
    try:
        values = tomllib.loads(Path(name).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(
            f"recipe file {name} cannot be read ({error.strerror}): name a file, or one of "
            f"{', '.join(RECIPES)}"
        ) from error
    except (ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)[:200]
        raise ConfigurationError(f"recipe file {name}: {what}") from error
    known = [item.name for item in fields(Recipe)]
    for key, value in values.items():
        if key not in known:
            raise ConfigurationError(
                f"recipe file {name}: unknown key {key!r}; known are {', '.join(known)}"
            )
        _check_number(f"recipe file {name}: {key}", key, value)
    return replace(Recipe(), **values)


def _check_number(where: str, key: str, value: object) -> None:
    low, high = _LIMITS[key]
    whole = key != "accept_score"
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        what = "a whole number" if whole else "a number"
        given = "a number of that size" if isinstance(value, int) else repr(value)[:80]
        if isinstance(value, int) and abs(value) < 10**9:
            given = repr(value)
        raise ConfigurationError(f"{where} must be {what} from {low:g} to {high:g}, not {given}")


@dataclass(frozen=True, slots=True)
class ArenaConfig:
    """Everything that decides what an episode plays, and where it is kept."""

    patient: str = "rules"
    """Seat spec of the patient."""
    therapist: str = "rules"
    """Seat spec of the therapist."""
    manager: str = "rules"
    """Seat spec of the manager."""
    judge: str = "rules"
    """Seat spec of the judge."""
    guidance: Guidance = "topic"
    """What the therapist is told after a reroute: none, topic, placebo or oracle."""
    scorer: Scorer = "embedding"
    """Who decides whether a statement is true of the record: the sentence encoder's score, or a
    model on the judge's seat; the encoder's figures are recorded either way."""
    probes: Probes = "until-aligned"
    """When probing ends: at the first aligned formulation, or (``all``) when the probes are used,
    so that every arm of a comparison has the same number of exchanges."""
    ablate: Ablation = "none"
    """What is switched off: ``encoder`` (the patient's behavior principle is drawn at random) or
    ``decoder`` (formulations are judged and recorded, and never lead to a reroute)."""
    exchanges: int = _DEFAULT.exchanges
    """Question-and-answer pairs before the first formulation."""
    probe_rounds: int = _DEFAULT.probe_rounds
    """Reroutes allowed after it."""
    max_plans: int = _DEFAULT.max_plans
    """Plans tried per kind (treatment, then medication)."""
    accept_score: float = _DEFAULT.accept_score
    """Mean judge score at which a plan is taken."""
    judge_samples: int = _DEFAULT.judge_samples
    """Scores drawn per plan."""
    temperature: float = 0.7
    """Sampling temperature of model seats."""
    answer_tokens: int = 1024
    """Longest answer of a model seat, tokens."""
    seed: int = 0
    """Seed of the run."""
    thresholds: str = ""
    """Path of a threshold file; empty for the built-in one."""
    base_url: str = ""
    """OpenAI-compatible server of ``openai:`` seats; empty for OPENAI_BASE_URL or OpenAI's own."""
    timeout: float = 120.0
    """Seconds after which one request is given up."""
    db: str = DEFAULT_DB
    """Path of the store."""
    cases: str = ""
    """Path of a case file; empty for the built-in patients."""
    principles: str = ""
    """Path of a file of behavior principles; empty for the built-in ones."""

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ConfigurationError(
                    f"{name} {getattr(self, name)!r} is unknown: use {', '.join(choices)}"
                )
        if self.scorer == "judge" and self.judge == "rules":
            raise ConfigurationError(
                "scorer judge needs a model on the judge's seat, not rules: name one with --judge"
            )
        for item in fields(self):
            value = getattr(self, item.name)
            if item.type in (str, "str") and not isinstance(value, str):
                raise ConfigurationError(f"{item.name} must be text, not {value!r}")
        for key in _LIMITS:
            _check_number(key, key, getattr(self, key))
        for key in ("accept_score", "temperature", "timeout"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigurationError(f"{key} must be a number, not {value!r}")
            # 9 and 9.0 are one experiment: they must hash alike.
            object.__setattr__(self, key, float(value))
        if not 0 <= self.temperature <= 2:
            raise ConfigurationError(f"temperature must be from 0 to 2, not {self.temperature!r}")
        if not 16 <= self.answer_tokens <= 32768:
            raise ConfigurationError(
                f"answer_tokens must be 16 to 32768, not {self.answer_tokens!r}"
            )
        if not 0 < self.timeout <= 3600:
            raise ConfigurationError(
                f"timeout must be above 0 and up to 3600 s, not {self.timeout!r}"
            )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ConfigurationError(f"seed must be a whole number from 0, not {self.seed!r}")
        for name in ("patient", "therapist", "manager", "judge"):
            if not isinstance(getattr(self, name), str) or not getattr(self, name):
                raise ConfigurationError(f"{name} must be a seat spec, e.g. rules or openai:NAME")

    def with_recipe(self, recipe: Recipe) -> "ArenaConfig":
        """The same configuration with a recipe's numbers."""
        return replace(self, **asdict(recipe))

    def identity(self) -> dict[str, Any]:
        """What makes two runs the same experiment; paths, servers and timeouts do not.

        Raises:
            ConfigurationError: a seat's GGUF file is not there.
        """
        values = asdict(self)
        for name in ("patient", "therapist", "manager", "judge"):
            values[name] = spec_identity(values[name])
        for name in ("db", "base_url", "timeout", "cases", "thresholds", "principles"):
            del values[name]
        return values


def changed_keys(stored: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Keys whose values differ; those of a nested mapping with a dot."""
    for key in stored.keys() | now.keys():
        old, new = stored.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from (f"{key}.{inner}" for inner in changed_keys(old, new))
        elif old != new:
            yield key
