"""The flags that say what an episode plays; shared by every command that plays episodes.

Why: a flag means the same everywhere, has an environment variable of the same name, and becomes
one frozen configuration in one place.
"""

import secrets
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

import click

from mentalarena.config import CHOICES, DEFAULT_DB, RECIPES, ArenaConfig, read_recipe
from mentalarena.flags import option as option

Command = TypeVar("Command", bound=Callable[..., Any])

_DEFAULTS = ArenaConfig()


_SEAT = "Seat spec of the {seat}.  [default: --model]"

ARENA_OPTIONS = (
    option(
        "--cases",
        default="",
        metavar="FILE",
        help="Case file (.json or .jsonl) instead of the built-in patients.",
    ),
    option(
        "--principles",
        default="",
        metavar="FILE",
        help="File of behavior principles instead of the built-in ones.",
    ),
    option(
        "--model",
        default="rules",
        show_default=True,
        metavar="SPEC",
        help="Seat spec for all four seats: rules, openai:NAME, huggingface:PATH[,adapter=PATH], "
        "local, human.",
    ),
    option("--patient", default=None, metavar="SPEC", help=_SEAT.format(seat="patient")),
    option(
        "--therapist",
        default=None,
        metavar="SPEC",
        help="Seat spec of the therapist; rules,misread=0.2 misreads on purpose.  "
        "[default: --model]",
    ),
    option("--manager", default=None, metavar="SPEC", help=_SEAT.format(seat="manager")),
    option("--judge", default=None, metavar="SPEC", help=_SEAT.format(seat="judge")),
    option(
        "--base-url",
        default="",
        metavar="URL",
        help="OpenAI-compatible server of openai: seats.  [default: OPENAI_BASE_URL]",
    ),
    option(
        "--guidance",
        default=_DEFAULTS.guidance,
        show_default=True,
        type=click.Choice(CHOICES["guidance"]),
        help="What the therapist is told after a reroute.",
    ),
    option(
        "--scorer",
        default=_DEFAULTS.scorer,
        show_default=True,
        type=click.Choice(CHOICES["scorer"]),
        help="Who decides whether a statement is true of the record.",
    ),
    option(
        "--probes",
        default=_DEFAULTS.probes,
        show_default=True,
        type=click.Choice(CHOICES["probes"]),
        help="When probing ends: when aligned, or when all are used (equal arms).",
    ),
    option(
        "--ablate",
        default=_DEFAULTS.ablate,
        show_default=True,
        type=click.Choice(CHOICES["ablate"]),
        help="What is switched off: a labelled ablation.",
    ),
    option(
        "--recipe",
        default="default",
        show_default=True,
        metavar=f"{'|'.join(RECIPES)}|FILE.toml",
        help="Length of an episode.",
    ),
    option(
        "--temperature",
        default=_DEFAULTS.temperature,
        show_default=True,
        type=float,
        help="Sampling temperature of model seats.",
    ),
    option(
        "--answer-tokens",
        default=_DEFAULTS.answer_tokens,
        show_default=True,
        type=int,
        help="Longest answer of a model seat, tokens.",
    ),
    option(
        "--timeout",
        default=_DEFAULTS.timeout,
        show_default=True,
        type=float,
        help="Seconds after which a request is given up.",
    ),
    option(
        "--thresholds",
        default="",
        metavar="FILE",
        help="Threshold file of the decoder instead of the built-in one.",
    ),
    option(
        "--seed",
        default=None,
        type=click.IntRange(0, 2**31 - 1),
        help="Seed of the run; drawn and shown when not given.",
    ),
    option(
        "--db", default=DEFAULT_DB, show_default=True, metavar="PATH", help="Path of the store."
    ),
)


def arena_options(command: Command) -> Command:
    """Add :data:`ARENA_OPTIONS` to a command; its function takes them as keywords."""
    for add in reversed(ARENA_OPTIONS):
        command = add(command)
    return command


def configuration(model: str, recipe: str, seed: int | None, **values: Any) -> ArenaConfig:
    """The configuration that the flags of :func:`arena_options` describe.

    Raises:
        ConfigurationError: a value cannot be used as given.
    """
    for seat in ("patient", "therapist", "manager", "judge"):
        values[seat] = values[seat] or model
    drawn = secrets.randbelow(2**31) if seed is None else seed
    return replace(ArenaConfig().with_recipe(read_recipe(recipe)), seed=drawn, **values)
