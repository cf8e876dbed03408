"""Write the parts of the documentation that come from code: ``make docs``.

Why: a drawing, a table or a sample session kept by hand is soon wrong. Generated parts stand
between ``<!-- generated: NAME -->`` and ``<!-- end -->`` in a page, or are whole pages;
``tests/test_docs.py`` fails while one of them differs from what the code gives now.

Run it: ``python -m docs.generate``. It writes only what changed and names it.
"""

import asyncio
import json
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from rich.console import Console

from docs.picture import picture
from docs.recording import recording
from mentalarena.case import Component
from mentalarena.cli import COMMANDS, cli
from mentalarena.config import RECIPES, Recipe
from mentalarena.decoder import INTENT_BIAS
from mentalarena.nosology import name_of
from mentalarena.schema import schema_markdown
from mentalarena.show import GLYPHS, render
from mentalarena.thresholds import Thresholds

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "README.md", "docs/cases.md", "docs/decoder.md", "docs/how-it-works.md", "docs/seats.md",
    "docs/studio.md",
)  # fmt: skip
"""Pages with generated parts."""

DEMO_CASE, DEMO_SEED = "walter-1", 7
"""The sample session; chosen so that a short piece of it shows a reroute and a repair."""

SEATS = {
    "encode": "manager", "patient": "patient", "safety": "no seat", "therapist": "therapist",
    "formulate": "therapist", "decode": "manager", "diagnose": "therapist", "confirm": "patient",
    "propose": "therapist", "trial": "patient", "score": "judge", "close": "no seat",
}  # fmt: skip
"""Who is asked in a node."""
CHOICES = {
    ("patient", "safety"): "crisis",
    ("patient", "therapist"): "exchanges left",
    ("patient", "formulate"): "exchanges used, or probe answered",
    ("decode", "therapist"): "biased or incomplete, probes left",
    ("decode", "diagnose"): "aligned, or no probes left",
    ("score", "propose"): "not good enough, or next kind",
    ("score", "close"): "both kinds settled",
}
"""What a conditional edge means; an edge that is missing here fails the generator."""

GLYPH_MARKS = frozenset(glyph for glyph, _ in GLYPHS.values())
_PART = re.compile(r"(<!-- generated: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def drawing() -> str:
    """The compiled graph as mermaid; dashed edges are decisions."""
    from graphs.arena import graph

    found = graph.get_graph()
    order = list(found.nodes)
    drawn: set[str] = set()

    def node(name: str) -> str:
        if name in ("__start__", "__end__"):
            end = name.strip("_").upper()
            return f"{end}([{end}])"
        # A node is described where it comes first; after that its name is enough.
        first = name not in drawn
        drawn.add(name)
        return f'{name}["{name}<br/>({SEATS[name]})"]' if first else name

    lines = ["flowchart TD"]
    for edge in sorted(found.edges, key=lambda e: (order.index(e.source), order.index(e.target))):
        arrow = f"-. {CHOICES[edge.source, edge.target]} .->" if edge.conditional else "-->"
        lines.append(f"    {node(edge.source)} {arrow} {node(edge.target)}")
    return "```mermaid\n" + "\n".join(lines) + "\n```"


@cache
def demo() -> dict[str, Any]:
    """The trajectory of the sample session, played now on the rule-based seats."""
    from graphs.play import play
    from graphs.session import open_session
    from mentalarena.config import ArenaConfig
    from mentalarena.trajectory import read_trajectory

    with TemporaryDirectory() as folder:
        config = ArenaConfig(db=str(Path(folder) / "demo.db"), seed=DEMO_SEED)
        with closing(open_session(config)) as session:
            case = session.find_case(DEMO_CASE)
            (outcome,) = asyncio.run(play(session, [case], None))
            if outcome.error is not None:
                raise outcome.error
            return read_trajectory(session.store, outcome.episode_id)


def excerpt() -> str:
    """The first verdict grid of the sample session, the probe, and what changed after it.

    Raises:
        RuntimeError: the session does not show a repaired intent bias any more.
    """
    out = StringIO()
    console = Console(file=out, width=94, color_system=None, highlight=False, legacy_windows=False)
    console.print(render(demo()))
    lines = [line.rstrip() for line in out.getvalue().splitlines()]
    grids = [i for i, line in enumerate(lines) if line.startswith("  core beliefs ")]
    decisions = [i for i, line in enumerate(lines) if line.startswith("  round ")]
    probed = demo()["decisions"][0]["component"]
    verdicts = [d["verdict"] for d in demo()["deviations"] if d["component"] == probed][:2]
    if len(verdicts) < 2 or verdicts[0] not in INTENT_BIAS or verdicts[1] != "aligned":
        raise RuntimeError(
            f"the sample session ({DEMO_CASE}, seed {DEMO_SEED}) shows no repair: choose another "
            "DEMO_CASE or DEMO_SEED in docs/generate.py"
        )
    legend = next(line for line in lines if line.startswith("  ● aligned"))
    changed = [
        line
        for before, line in zip(lines[grids[0] : decisions[0]], lines[grids[1] : decisions[1]],
                                strict=True)
        if _said(before) != _said(line)
    ]  # fmt: skip
    shown = [*lines[grids[0] : grids[1]], "  …", *changed, lines[decisions[1]]]
    return (
        f"```text\n$ mentalarena run --case {DEMO_CASE} --seed {DEMO_SEED}\n…\n"
        + "\n".join([legend, *shown])
        + "\n…\n```"
    )


def _said(row: str) -> list[str]:
    """Verdict and reason of a row of the grid, without its name and marks."""
    words = row.split()
    return words[max(index for index, word in enumerate(words) if word in GLYPH_MARKS) + 1 :]


def route() -> str:
    """The steps of the sample session at which there was a choice, with their reasons."""
    rows = [
        (r["step"], r["source"], r["target"], r["reason"])
        for r in demo()["routes"]
        if r["reason"] != "always"
    ]
    command = f"`mentalarena run --case {DEMO_CASE} --seed {DEMO_SEED}`:\n\n"
    return command + table(("step", "from", "to", "why"), rows)


def recipes() -> str:
    """The recipes side by side."""
    names = [item.name for item in fields(Recipe)]
    rows = [(f"`{key}`", *(f"{asdict(recipe)[key]:g}" for recipe in RECIPES.values()))
            for key in names]  # fmt: skip
    return table(("key", *(f"`{name}`" for name in RECIPES)), rows)


def thresholds() -> str:
    """The built-in thresholds, and what they were made from."""
    text = (ROOT / "mentalarena/data/thresholds.json").read_text("utf-8")
    found = Thresholds.model_validate_json(text)
    rows = []
    for component in Component:
        one = found.components[component]
        by = "labels shared" if one.weights is None else "score"
        rows.append((component.label, by, f"{one.band_low:.2f}", f"{one.band_high:.2f}"))
    return (
        f"Encoder {found.encoder}, scorer {found.scorer} version {found.scorer_version}; made from "
        f"{found.made_from}.\n\n"
        + table(("component", "by", "distorted below", "aligned from"), rows)
        + f"\n\nA formulation is `biased` when its intent biases number more than "
        f"{found.max_intent_bias}, else `incomplete` when its components not stated number more "
        f"than {found.max_missed}, else `aligned`."
    )


def _report() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((ROOT / "docs/figures/decoder.json").read_text("utf-8"))
    return found


def _figure(figure: dict[str, Any], digits: int = 3) -> str:
    low, high = (f"{value:.{digits}f}" for value in figure["interval"])
    return f"{figure['value']:.{digits}f} ({low} to {high})"


TARGETS = (
    ("auc_other_patient", "AUC against other patients' statements", "≥ 0.97"),
    ("auc_other_component", "AUC against other components' statements", "≥ 0.95"),
    ("auc_vague", "AUC against vague statements", "≥ 0.95"),
    ("auc_distorted", "AUC against distorted statements", "≥ 0.85"),
    ("false_alarm", "false alarms: right, and called distorted", "≤ 0.05"),
    ("miss", "misses: another patient's, and not called distorted", ""),
    ("right_aligned", "right, and called aligned", ""),
    ("reroute_when_right", "right and complete formulations rerouted", "≤ 0.10"),
)


def decoder_figures() -> str:
    """What the decoder is worth, pooled over the components that a record states."""
    report = _report()
    rows = [
        (name, target, *(_figure(report[part]["pooled"][key]) for part in ("test", "tuning")))
        for key, name, target in TARGETS
    ]
    return table(("", "target", "test patients", "train and dev, out of fold"), rows)


def decoder_kinds() -> str:
    """Per kind of wrong statement, what the verdicts are."""
    pooled = _report()["test"]["pooled"]
    rows = [
        (
            kind.replace("_", " "),
            pooled["miss_by_kind"][kind]["n"],
            _figure(pooled["miss_by_kind"][kind], 2),
            _figure(pooled["called_aligned_by_kind"][kind], 2),
        )
        for kind in pooled["miss_by_kind"]
    ]
    return table(("wrong statement", "n", "not called distorted", "called aligned"), rows)


def decoder_components() -> str:
    """Per component, on test patients."""
    keys = ("auc_other_patient", "auc_other_component", "auc_vague", "auc_distorted",
            "false_alarm", "miss")  # fmt: skip
    rows = []
    for name, found in _report()["test"]["components"].items():
        cells = [f"{found[key]['value']:.2f}" if key in found else "" for key in keys]
        rows.append((Component(name).label, *cells))
    return table(("component", "other patients", "other components", "vague", "distorted",
                  "false alarms", "misses"), rows)  # fmt: skip


def arms() -> str:
    """The arms' table."""
    from benchmarks.guidance_arms import shown

    found = json.loads((ROOT / "docs/figures/arms.json").read_text("utf-8"))
    episodes, patients = found["episodes_per_arm"], found["patients"]
    return f"{episodes} episodes an arm, {patients} patients.\n\n{shown(found)}"


def views() -> str:
    """Every view that a seat is handed, with its fields."""
    from agents import seats

    used = {
        "PatientView": "patient: `speak`", "ConfirmView": "patient: `confirm`",
        "TrialView": "patient: `respond`",
        "TherapistView": "therapist: `ask`, `formulate`, `diagnose`",
        "PlanView": "therapist: `propose`", "ManagerView": "manager: `choose_principle`",
        "ProbeView": "manager: `choose_probe`", "JudgeView": "judge: `score`",
        "ComparisonView": "judge: `compare` (`--scorer judge`)",
    }  # fmt: skip
    found = [
        name for name, item in vars(seats).items() if is_dataclass(item) and name.endswith("View")
    ]
    rows = []
    for name in found:
        view = getattr(seats, name)
        rows.append((used[name], f"`{name}`", ", ".join(f"`{f.name}`" for f in fields(view))))
    return table(("asked", "view", "what it holds"), rows)


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        lines.append("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |")
    return "\n".join(lines)


def _help(command: click.Command, name: str) -> str:
    context = click.Context(command, info_name=name, terminal_width=94, max_content_width=94)
    return f"```text\n{command.get_help(context)}\n```"


def commands() -> str:
    """``docs/commands.md``."""
    parts = [
        "<!-- Generated by `make docs`; do not edit. -->\n\n# Commands",
        "One spelling is used everywhere: `mentalarena COMMAND`, with the environment activated "
        "(`source .venv/bin/activate`). `python -m graphs.arena` is `mentalarena run`, and "
        "`make arena` is that with no flags.",
        "Exit codes: 0 done; 1 an episode failed, `replay` or `show --prompts` found a difference, "
        "or `doctor` something broken; 2 a mistake that the message says how to mend; 130 "
        "interrupted. Errors are one line on standard error.",
        _help(cli, "mentalarena"),
    ]
    variables: dict[str, list[str]] = {}
    with click.Context(cli) as context:
        for name in COMMANDS:
            command = cli.get_command(context, name)
            assert command is not None
            parts += [f"## mentalarena {name}", _help(command, f"mentalarena {name}")]
            inner = command.commands if isinstance(command, click.Group) else {}
            for below, child in sorted(inner.items()):
                full = f"mentalarena {name} {below}"
                parts += [f"### {full}", _help(child, full)]
            named = {name: command, **{f"{name} {below}": child for below, child in inner.items()}}
            for path, one in named.items():
                for option in one.params:
                    if isinstance(option, click.Option) and isinstance(option.envvar, str):
                        flags = variables.setdefault(option.envvar, [])
                        flags.append(f"`{path} {option.opts[0]}`")
    rows = [(f"`{variable}`", ", ".join(flags)) for variable, flags in variables.items()]
    parts += [
        "## Environment variables",
        "A flag on the command line wins over its variable.",
        table(("variable", "flag"), rows),
        "Two more belong to the servers of `openai:` seats: `OPENAI_API_KEY` (read, and never "
        "stored, logged or shown) and `OPENAI_BASE_URL` (used when `--base-url` is not given).",
        "## Modules that run",
        table(("command", "what it does"), _modules()),
    ]
    return "\n\n".join(parts) + "\n"


def _modules() -> list[tuple[str, str]]:
    names = (
        "graphs.arena", "graphs.batch", "graphs.branch", "graphs.reproduce", "training.dataset",
        "training.evaluate", "training.lora", "training.merged", "docs.generate",
        "mentalarena.schema", "mentalarena.builtin_vectors", "mentalarena.calibrate",
        "benchmarks.__main__", "benchmarks.throughput", "benchmarks.tokens", "benchmarks.store",
        "benchmarks.client", "benchmarks.durability", "benchmarks.episodes",
        "benchmarks.guidance_arms", "benchmarks.viewer", "benchmarks.mock_server",
    )  # fmt: skip
    rows = []
    for name in names:
        text = (ROOT / (name.replace(".", "/") + ".py")).read_text("utf-8")
        first = text.removeprefix('"""').split("\n\n")[0]
        rows.append(
            (
                f"`python -m {name.removesuffix('.__main__')}`",
                " ".join(first.replace("``", "`").split()),
            )
        )
    return rows


def people() -> str:
    """What the built-in patients are, counted."""
    from mentalarena.diversity import counts, evenness
    from mentalarena.roster import builtin_patients, principle_groups

    patients = builtin_patients()
    rows = []
    for name, found in counts(patients).items():
        if name == "source":
            continue
        listed = ", ".join(f"{label} ({count})" for label, count in found.items())
        rows.append((name, listed, f"{evenness(found):.2f}"))
    cases = sum(len(one.situations) for one in patients)
    groups = principle_groups()
    principles = sum(len(group.principles) for group in groups)
    return (
        f"{len(patients)} patients with {cases} cases; {principles} behavior principles in "
        f"{len(groups)} groups.\n\n" + table(("what", "patients", "evenness"), rows)
    )


def diagnoses() -> str:
    """The reference codes of the built-in patients."""
    from mentalarena.roster import builtin_patients

    found: dict[tuple[str, str], list[str]] = {}
    for patient in builtin_patients():
        for place, one in enumerate(patient.reference):
            mark = "" if place == 0 else " (beside another)"
            found.setdefault((one.code, name_of(one.code)), []).append(patient.split + mark)
    rows = [
        (f"`{code}`", name, ", ".join(sorted(who))) for (code, name), who in sorted(found.items())
    ]
    return table(("code", "name", "patients, by split"), rows)


def likeness() -> str:
    """How alike the built-in cases are."""
    from mentalarena.builtin_vectors import builtin_signatures
    from mentalarena.diversity import diversity
    from mentalarena.roster import builtin_patients
    from mentalarena.similarity import SentenceEncoder

    plain = diversity(builtin_patients(), SentenceEncoder(), builtin_signatures()).plain()
    rows = [
        (name, *(f"{plain[key][figure]:.2f}" for figure in ("least", "median", "most")))
        for name, key in (
            ("a case of another patient", "nearest_other_patient"),
            ("another situation of the same patient", "nearest_other_situation"),
        )
    ]
    near = plain["nearest_pairs"][0]
    return (
        table(("distance to the nearest", "least", "median", "most"), rows)
        + f"\n\nNearest of all are `{near['case']}` and `{near['other']}`."
    )


def checks() -> str:
    """The twelve checks."""
    from mentalarena.case_checks import WHAT

    return table(("check", "asks that"), list(WHAT.items()))


PARTS: dict[str, Callable[[], str]] = {
    "drawing": drawing,
    "recording": recording,
    "excerpt": excerpt,
    "route": route,
    "recipes": recipes,
    "thresholds": thresholds,
    "decoder-figures": decoder_figures,
    "decoder-kinds": decoder_kinds,
    "decoder-components": decoder_components,
    "arms": arms,
    "views": views,
    "people": people,
    "diagnoses": diagnoses,
    "likeness": likeness,
    "checks": checks,
}


def filled(text: str) -> str:
    """A page's text with its generated parts made anew.

    Raises:
        KeyError: a marker names a part that does not exist.
    """
    return _PART.sub(lambda part: f"{part[1]}{PARTS[part[2]]()}\n{part[3]}", text)


def generated() -> dict[str, str]:
    """Every page that holds generated text, by its path, as it should be."""
    pages = {name: filled((ROOT / name).read_text("utf-8")) for name in PAGES}
    title = f"mentalarena run --case {DEMO_CASE} --seed {DEMO_SEED}"
    return pages | {
        "docs/commands.md": commands(),
        "docs/schema.md": schema_markdown(),
        "docs/reroute.svg": picture(demo(), title),
    }


def main() -> None:
    """Write what changed."""
    for name, text in generated().items():
        path = ROOT / name
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {name}\n")


if __name__ == "__main__":
    main()
