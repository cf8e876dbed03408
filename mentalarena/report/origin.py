"""Where a run came from: its configuration, and the commands that make it again.

Why: behind every figure stands a command that somebody else can type. The commands are written
from the stored configuration, which is what the run was made under, whatever was typed.
"""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, NamedTuple

from mentalarena.config import RECIPES, ArenaConfig, Recipe
from mentalarena.store_api import ReadableStore

_ROLES = ("patient", "therapist", "manager", "judge")


class Origin(NamedTuple):
    """How a run was made."""

    commands: list[str]
    recipe_file: str
    """Text of the recipe file that the command names; empty for a recipe of ours."""
    notes: list[str]
    """What the configuration does not tell."""


def origin(store: ReadableStore, run: Mapping[str, Any]) -> Origin:
    """The origin of a run, of which ``config`` is read.

    Args:
        store: where its episodes are.
        run: its row, with ``config`` as a mapping.
    """
    config, kind = run["config"], run["kind"]
    if kind not in ("arena", "batch"):
        return Origin([], "", [f"A run of kind {kind} is not made by one command alone."])
    (plan,) = store.fetch(
        "select count(*) as episodes, count(distinct case_id) as cases, min(case_id) as one,"
        " coalesce(max(sample), -1) + 1 as samples from episodes where run_id = ?", (run["id"],)
    )  # fmt: skip
    known = len(config.get("cases", ()))
    words = ["mentalarena", "run" if kind == "arena" else "batch"]
    if kind == "batch":
        words += ["--run", run["id"]]
    if plan["cases"] == 1 and known > 1:
        words += ["--case", plan["one"]]
        known = 1
    if kind == "batch" and plan["episodes"] == plan["samples"] * known:
        words += ["--samples", str(plan["samples"])]
    else:
        words += ["--episodes", str(plan["episodes"])]
    words += _flags(config)
    name, text = _recipe(config)
    if name != "default":
        words += ["--recipe", name]
    words += ["--db", str(store.path)]
    notes = ["Written from the stored configuration; --base-url, --cases and --thresholds FILE are "
             "not part of it (their content is, by hash) and may have been given."]  # fmt: skip
    report = ["mentalarena", "report", run["id"], "--html", "FILE", "--db", str(store.path)]
    return Origin([shlex.join(words), shlex.join(report)], text, notes)


def _flags(config: Mapping[str, Any]) -> list[str]:
    """Flags whose values are not the defaults; one ``--model`` when all seats are alike."""
    default = asdict(ArenaConfig())
    specs = {config.get(role) for role in _ROLES}
    flags = []
    if len(specs) == 1 and (spec := next(iter(specs))) != default["patient"]:
        flags += ["--model", str(spec)]
    elif len(specs) > 1:
        flags += [word for role in _ROLES if config.get(role) != default[role]
                  for word in (f"--{role}", str(config.get(role)))]  # fmt: skip
    for key in ("guidance", "temperature", "answer_tokens"):
        if config.get(key, default[key]) != default[key]:
            flags += [f"--{key.replace('_', '-')}", str(config[key])]
    return [*flags, "--seed", str(config.get("seed", 0))]


def _recipe(config: Mapping[str, Any]) -> tuple[str, str]:
    """Name of the recipe with these numbers; a file's name and text when none of ours has them."""
    values = {item.name: config.get(item.name) for item in fields(Recipe)}
    for name, recipe in RECIPES.items():
        if asdict(recipe) == values:
            return name, ""
    return "recipe.toml", "\n".join(f"{key} = {value:g}" for key, value in values.items()
                                    if value is not None)  # fmt: skip
