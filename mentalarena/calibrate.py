"""``mentalarena calibrate``: thresholds for the decoder, and what they are worth.

Why: the thresholds in the repository have to be what somebody else gets, with the error they have
on people they were not set with. Embeds about 5,000 short texts: a few minutes on one core.

Run it: ``mentalarena calibrate`` prints the figures; ``--write`` replaces the built-in threshold
file, ``--out FILE`` writes one for ``--thresholds``, ``--plots FOLDER`` draws. ``make calibrate``
does all three, and the tables of ``docs/decoder.md``.
"""

import json
import sys
from pathlib import Path
from typing import Any

import click

_ROWS = (
    ("auc_other_patient", "AUC against other patients"),
    ("auc_other_component", "AUC against other components"),
    ("auc_vague", "AUC against vague statements"),
    ("auc_distorted", "AUC against distorted statements"),
    ("false_alarm", "false alarms (right called distorted)"),
    ("miss", "misses (another patient's not called distorted)"),
    ("reroute_when_right", "right formulations rerouted"),
)


@click.command()
@click.option("--json", "as_json", is_flag=True, envvar="MENTALARENA_JSON",
              help="Print one JSON object.")  # fmt: skip
@click.option("--write", is_flag=True, envvar="MENTALARENA_WRITE",
              help="Replace the built-in threshold file.")  # fmt: skip
@click.option("--out", default=None, metavar="FILE", envvar="MENTALARENA_OUT",
              type=click.Path(dir_okay=False, path_type=Path),
              help="Write the thresholds here, for --thresholds.")  # fmt: skip
@click.option("--report", default=None, metavar="FILE", envvar="MENTALARENA_REPORT",
              type=click.Path(dir_okay=False, path_type=Path),
              help="Write the JSON here, too.")  # fmt: skip
@click.option("--plots", default=None, metavar="FOLDER", envvar="MENTALARENA_PLOTS",
              type=click.Path(file_okay=False, path_type=Path),
              help="Draw reliability and scores here; needs matplotlib.")  # fmt: skip
def calibrate(
    as_json: bool, write: bool, out: Path | None, report: Path | None, plots: Path | None
) -> None:
    """Derive the decoder's thresholds from labelled statements, and test them.

    Set on train and dev patients, tested on test patients. All statements were written by the
    authors of the records; no human rater has judged them.
    """
    from mentalarena.builtin_vectors import builtin_vectors
    from mentalarena.calibration import calibrate as derived
    from mentalarena.similarity import SentenceEncoder
    from mentalarena.thresholds import BUILT_IN

    if plots is not None:
        from mentalarena.calibration_plots import pyplot

        pyplot()  # Missing? Say so now, not after minutes of embedding.
    say = (lambda text: None) if as_json else (lambda text: click.echo(f"{text} …", err=True))
    thresholds, result, plotted = derived(SentenceEncoder(known=builtin_vectors()), say)
    text = thresholds.model_dump_json(indent=1) + "\n"
    targets = [(Path(__file__).parent / BUILT_IN, text)] if write else []
    targets += [(out, text)] if out is not None else []
    targets += [(report, json.dumps(result, indent=1) + "\n")] if report is not None else []
    for path, content in targets:
        _put(path, content)
    if plots is not None:
        from mentalarena.calibration_plots import draw

        draw(plotted, plots)
    click.echo(json.dumps(result, indent=1) if as_json else table(result))


def _put(path: Path, text: str) -> None:
    from mentalarena.errors import ConfigurationError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error


def shown(figure: dict[str, Any]) -> str:
    """A figure with its interval."""
    low, high = figure["interval"]
    return f"{figure['value']:.3f} ({low:.3f} to {high:.3f})"


def table(result: dict[str, Any]) -> str:
    """The pooled figures, tuning beside test."""
    lines = [f"{'':50}{'train and dev, out of fold':30}test"]
    for key, name in _ROWS:
        parts = [shown(result[part]["pooled"][key]) for part in ("tuning", "test")]
        lines.append(f"{name:50}{parts[0]:30}{parts[1]}")
    lines.append("95 % intervals over patients; author-written statements, no human raters")
    return "\n".join(lines)


if __name__ == "__main__":
    from mentalarena.cli import run_command

    run_command(calibrate, "python -m mentalarena.calibrate", sys.argv[1:])
