"""A command's flag with an environment variable of the same name.

Why: every flag of every command can be set in the environment too, and an empty value that was
given on purpose is refused, because a script with an unset variable means something else. Kept
apart from the flags that play episodes, so that commands that only read a store import no graph.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.core import ParameterSource

Command = TypeVar("Command", bound=Callable[..., Any])


def _not_empty(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    """Refuse an empty value that was given: a script with an unset variable means something else.

    Raises:
        BadParameter: the value is an empty text and not the default.
    """
    source = context.get_parameter_source(parameter.name or "")
    if value == "" and source is not ParameterSource.DEFAULT:
        raise click.BadParameter("is empty; leave the flag out for its default", context, parameter)
    return value


def option(flag: str, *names: str, **settings: Any) -> Callable[[Command], Command]:
    """A click option with an environment variable: ``MENTALARENA_`` and the flag in capitals."""
    settings.setdefault("callback", _not_empty)
    variable = "MENTALARENA_" + flag.lstrip("-").replace("-", "_").upper()
    return click.option(flag, *names, envvar=variable, **settings)
