"""The console script ``mentalarena``: a thin dispatcher that imports a command when it is called.

Why: ``mentalarena --help`` must answer at once, while the commands import torch and langgraph. This
module is also where an error becomes one line and an exit code: 2 for what the user can mend, 1
for a run with failed episodes, 130 for an interrupted one.
"""

import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

import click

from mentalarena.errors import MentalArenaError
from mentalarena.text import clean

_LONGEST = 1200
"""Characters of an error line."""

COMMANDS: dict[str, tuple[str, str]] = {
    "run": ("graphs.play:run", "Play episodes, one after the other, and watch them."),
    "batch": ("graphs.batch:batch", "Play many episodes; resumable, bounded, counted."),
    "show": ("mentalarena.show:show", "Show one stored episode, or what its seats were shown."),
    "view": ("mentalarena.view.command:view", "Look at a store in a browser, read-only."),
    "report": ("mentalarena.report.command:report", "Write a run's figures and plots to a file."),
    "fidelity": ("mentalarena.fidelity:fidelity", "How far patients kept to their record."),
    "judges": ("graphs.judges:judges", "Agreement of judges, and what sways judge and patient."),
    "replay": ("graphs.reproduce:replay", "Make stored episodes again, without a model; compare."),
    "branch": ("graphs.branch:branch", "Play an episode again from some step on."),
    "calibrate": ("mentalarena.calibrate:calibrate", "Derive and test the decoder's thresholds."),
    "cases": ("graphs.cases:cases", "List, check, import, make and compare patients."),
    "dataset": ("training.dataset:dataset", "Make training data from stored episodes."),
    "evaluate": ("training.evaluate:evaluate", "Measure a model, with error bars."),
    "selfplay": ("training.selfplay.command:selfplay", "Play, train, measure, decide; again."),
    "doctor": ("mentalarena.doctor:doctor", "Check the environment."),
}


AUDIT = "graphs.audit:show_prompts"
"""What ``show --prompts`` calls: this package imports no ``graphs`` but here, when it is asked."""


def load(target: str) -> Any:
    """What ``module:name`` names, imported now."""
    module, name = target.split(":")
    return getattr(import_module(module), name)


class LazyGroup(click.Group):
    """Commands by name; the module of one is imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = load(COMMANDS[cmd_name][0])
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup)
@click.version_option(package_name="mentalarena", prog_name="mentalarena")
def cli() -> None:
    """Self-play laboratory for mental-health dialogue. Research only, never clinical advice."""


def run_command(command: click.Command, name: str, args: Sequence[str] | None = None) -> NoReturn:
    """Run a command and leave with its exit code; errors become one line on stderr."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a glyph gets a substitute, not an end in mid-episode.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Tracing to an endpoint that is not there costs more than the graph; whoever wants it says so.
    os.environ.setdefault("LANGSMITH_TRACING", "false")
    code: int | None
    try:
        code = command.main(args=args, prog_name=name, standalone_mode=False)
    except click.UsageError as error:
        hint = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
        code = _say(f"{error.format_message()}{hint}", 2)
    except click.ClickException as error:
        code = _say(error.format_message(), 2)
    except MentalArenaError as error:
        code = _say(str(error), 2)
    except (KeyboardInterrupt, click.Abort):
        code = _say("interrupted; what was stored is kept", 130)
    except BrokenPipeError:
        # The reader (head, less) has left: nothing to say, and nowhere to say it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        code = _say(f"the output cannot be written: {error.strerror or error}", 2)
    sys.exit(code or 0)


def _say(message: str, code: int) -> int:
    # What a server or a file says may be part of it: no escape codes, and no pages of it.
    line = clean(" ".join(message.split()))
    line = line if len(line) <= _LONGEST else f"{line[:_LONGEST]} …"
    click.echo(f"error: {line}", err=True)
    return code


def main() -> NoReturn:
    """Entry point of the console script."""
    run_command(cli, "mentalarena")


if __name__ == "__main__":
    main()
