"""One episode in the terminal: transcript, verdict grid, reroutes, plans.

Why: people trust a simulation when they can look at one episode and see why it went where it went.
The pieces are shared with the live view of ``graphs.arena``. Whatever a model or a case file wrote
is shown as text: control and direction characters are replaced, markup is never interpreted.

Run it: ``mentalarena show [EPISODE] [--db PATH] [--json]``; with ``--html FILE``, one page that
stands alone; with ``--prompts``, what each seat was shown (:mod:`graphs.audit`, which this package
reaches only by way of :mod:`mentalarena.cli`).
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mentalarena.cli import AUDIT, load
from mentalarena.component import COMPONENTS, Component
from mentalarena.config import DEFAULT_DB
from mentalarena.files import write_page
from mentalarena.hints import command_name, with_db
from mentalarena.store_reader import open_readonly
from mentalarena.text import clean
from mentalarena.trajectory import (
    find_episode,
    in_order,
    last_episode,
    read_trajectory,
    record_by_component,
)

GLYPHS: Mapping[str, tuple[str, str]] = {
    "aligned": ("●", "green"),
    "unclear": ("◐", "yellow"),
    "missed": ("○", "bright_black"),
    "distorted": ("✗", "red"),
    "unsupported": ("!", "magenta"),
}
_SPEAKERS = {"patient": "cyan", "therapist": "blue"}
_OUTCOMES = {"aligned": "green", "biased": "red", "incomplete": "yellow"}
_WIDTH = 12


def turn_block(turn: Mapping[str, Any]) -> RenderableType:
    """One spoken turn."""
    speaker = turn["speaker"]
    table = Table.grid(padding=(0, 1))
    table.add_column(width=_WIDTH, justify="right", no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    name = Text(speaker, style=f"bold {_SPEAKERS[speaker]}")
    body = Text(clean(turn["text"]))
    marks = []
    if turn["purpose"] == "probe" and speaker == "therapist":
        marks.append(("probe", "bold yellow"))
    if turn["purpose"] == "safety" and speaker == "therapist":
        marks.append(("safety", "bold magenta"))
    if turn["crisis"]:
        kinds = dict.fromkeys(clean(found["kind"]) for found in turn["crisis"])
        marks.append((f"crisis screen: {', '.join(kinds)}", "bold magenta"))
    for flag in turn.get("flags", ()):
        if flag["screen"] == "reply":
            marks.append((f"reply: {clean(flag['kind'])}", "bold red"))
        elif flag["qualifier"] is not None:
            shown = f"not counted: {clean(flag['kind'])}, {clean(flag['qualifier'])}"
            marks.append((shown, "dim"))
    if (kept := turn.get("fidelity")) is not None:
        marks.append((_fidelity(turn, kept), "dim"))
    if turn["role_flip"]:
        marks.append(("role flip", "bold red"))
    for mark, style in marks:
        body.append(f"  [{mark}]", style=style)
    table.add_row(name, body)
    return table


def _fidelity(turn: Mapping[str, Any], kept: Mapping[str, Any]) -> str:
    """What ``mentalarena fidelity`` found of a turn."""
    told = f"told ~{len(kept['estimated'])}"
    if turn["disclosed"] is not None:
        told += f" ({len(turn['disclosed'])})"
    told += f" of {kept['clauses']}"
    if kept["persona"] is not None:
        told += f", near {kept['persona']:.0%} of others"
    if kept["contradicted"]:
        told += f", {len(kept['contradicted'])} against the record?"
    return told


def grid(deviations: Sequence[Mapping[str, Any]], round_: int) -> RenderableType:
    """Components by round up to ``round_``, with the reasons of that round."""
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    for _ in range(3):
        table.add_column(no_wrap=True)
    table.add_column(ratio=1, style="dim", overflow="fold")
    by_component = {
        component.value: [d for d in deviations if d["component"] == component.value]
        for component in COMPONENTS
    }
    for component in COMPONENTS:
        history = [d for d in by_component[component.value] if d["round"] <= round_]
        if not history:
            continue
        marks = Text()
        for deviation in history:
            glyph, style = GLYPHS[deviation["verdict"]]
            marks.append(glyph + " ", style=style)
        last = history[-1]
        style = GLYPHS[last["verdict"]][1]
        table.add_row(
            "",
            Text(component.label),
            marks,
            Text(last["verdict"], style=style),
            Text(clean(in_short(last))),
        )
    return table


def in_short(deviation: Mapping[str, Any]) -> str:
    """The figures of a reason and its clause's number; the words are in ``--json``."""
    head = deviation["reason"].partition("; ")[0].partition(": ")[0]
    clause = deviation.get("clause")
    return head if clause is None else f"{head}, clause {clause + 1}"


def decision_line(decision: Mapping[str, Any]) -> RenderableType:
    """The decision of one round."""
    text = Text(f"round {decision['round']}: ", style="bold")
    text.append(decision["decision"], style=f"bold {_OUTCOMES[decision['decision']]}")
    if decision["component"]:
        component = Component(decision["component"]).label
        text.append("  ↺ reroute", style="bold yellow")
        text.append(f" to {decision['mode']} {component}\n", style="not bold")
        if decision["guidance"]:
            text.append("told: ", style="not bold dim")
            text.append(clean(decision["guidance"]), style="not bold italic")
        else:
            text.append("the therapist is told nothing", style="not bold dim")
    return Padding(text, (0, 0, 0, 2))


def diagnosis_lines(diagnoses: Sequence[Mapping[str, Any]]) -> RenderableType:
    """The candidate diagnoses; the confirmed one marked."""
    table = Table.grid(padding=(0, 1))
    table.add_column(width=_WIDTH, justify="right", style="bold")
    table.add_column(no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    for i, diagnosis in enumerate(diagnoses):
        text = Text(clean(diagnosis["label"]), style="bold" if diagnosis["chosen"] else "")
        codes = diagnosis.get("codes") or [diagnosis["code"] or "unmapped"]
        text.append(f"  {', '.join(codes)}", style="dim")
        if diagnosis["chosen"] and diagnosis["reason"]:
            text.append(f"\n{clean(diagnosis['reason'])}", style="not bold italic dim")
        mark = Text("✓", style="green") if diagnosis["chosen"] else Text("·")
        table.add_row("diagnosis" if i == 0 else "", mark, text)
    return table


def plan_line(plan: Mapping[str, Any]) -> RenderableType:
    """One plan with the patient's response and the mean score."""
    table = Table.grid(padding=(0, 1))
    table.add_column(width=_WIDTH, justify="right", style="bold")
    table.add_column(ratio=1, overflow="fold")
    text = Text(clean(plan["name"]))
    score = "unreadable score" if plan["score"] is None else f"score {plan['score']:.1f}"
    after = "?" if plan["health_after"] is None else plan["health_after"]
    text.append(f"  {score}, health {plan['health_before']} → {after}", style="dim")
    if plan["chosen"]:
        text.append("  ✓ chosen", style="green")
    if plan["response"]:
        text.append(f"\n{clean(plan['response'])}", style="italic dim")
    table.add_row(plan["kind"], text)
    return table


def legend() -> Text:
    """What the glyphs mean."""
    text = Text("  ")
    for verdict, (glyph, style) in GLYPHS.items():
        text.append(f"{glyph} {verdict}   ", style=style)
    return text


def render(trajectory: Mapping[str, Any]) -> RenderableType:
    """A whole stored episode."""
    episode, case = trajectory["episode"], trajectory["case"]
    config = trajectory["run"]["config"]
    head = Text(f"episode {episode['id']}", style="bold")
    head.append(f"  {episode['status']}", style="green" if episode["status"] == "ok" else "red")
    head.append(
        clean(
            f"\ncase {case['id']} ({case['presentation']}, {case['style']}, {case['split']})   "
            f"seed {episode['seed']}   guidance {episode['guidance']}"
            f"\npatient {config['patient']}   therapist {config['therapist']}   "
            f"manager {config['manager']}   judge {config['judge']}"
        )
        + ("   self-judged" if episode["self_judged"] else ""),
        style="dim",
    )
    if episode["parent"] is not None:
        shared = f"which played the steps before {episode['branch_step']}"
        head.append(f"\nbranch of {episode['parent']}, {shared}", style="dim")
    blocks: list[RenderableType] = [head, Text()]
    blocks += _dialogue(trajectory)
    if trajectory["diagnoses"]:
        codes = trajectory["diagnosis_codes"]
        named = [
            {**d, "codes": [c["code"] for c in codes if c["idx"] == d["idx"]]}
            for d in trajectory["diagnoses"]
        ]
        blocks += [Text(), diagnosis_lines(named)]
    for kind, plans in groupby(trajectory["plans"], key=lambda plan: plan["kind"]):
        del kind
        blocks += [plan_line(plan) for plan in plans]
    blocks += _footer(trajectory)
    return Group(*blocks)


def _dialogue(trajectory: Mapping[str, Any]) -> list[RenderableType]:
    """Turns with the verdict grids between them, in the order in which they happened."""
    blocks: list[RenderableType] = []
    kept = {row["idx"]: row for row in trajectory["fidelity"]}
    flags = [flag for flag in trajectory["flags"] if flag["place"] == "turn"]
    for kind, row in in_order(trajectory):
        if kind == "turn":
            found = [flag for flag in flags if flag["idx"] == row["idx"]]
            blocks.append(turn_block({**row, "flags": found, "fidelity": kept.get(row["idx"])}))
        else:
            marks = grid(trajectory["deviations"], row["round"])
            blocks += [Text(), marks, decision_line(row), Text()]
    if trajectory["decisions"]:
        blocks.append(legend())
    return blocks


def _footer(trajectory: Mapping[str, Any]) -> list[RenderableType]:
    blocks: list[RenderableType] = []
    calls, errors = trajectory["calls"], trajectory["errors"]
    if calls:
        tokens = sum((c["prompt_tokens"] or 0) + (c["completion_tokens"] or 0) for c in calls)
        failed = sum(c["failure"] is not None for c in calls)
        blocks.append(
            Text(f"\n{len(calls)} model calls, {tokens:,} tokens, {failed} unusable answers",
                 style="dim")
        )  # fmt: skip
    for error in errors:
        blocks.append(Text(f"{error['boundary']}: {clean(error['message'])}", style="red"))
    return blocks


def comparison(trajectory: Mapping[str, Any]) -> RenderableType:
    """What the therapist stated last, beside what the record says, component by component.

    It shows the hidden record: nobody on the therapist's seat may see it before the episode ends.
    """
    table = Table(box=SIMPLE_HEAD, padding=(0, 1), title="what was understood, and what is so",
                  title_justify="left", title_style="bold")  # fmt: skip
    for head, ratio in (("component", 2), ("", None), ("stated", 4), ("the record", 4)):
        table.add_column(head, ratio=ratio, overflow="fold")
    if not trajectory["decisions"]:
        return Text("nothing was formulated: there is nothing to compare")
    last = trajectory["decisions"][-1]["round"]
    stated = {f["component"]: f for f in trajectory["formulations"] if f["round"] == last}
    judged = {d["component"]: d for d in trajectory["deviations"] if d["round"] == last}
    for component, clauses in record_by_component(trajectory).items():
        if component.value not in judged:
            continue
        deviation = judged[component.value]
        glyph, style = GLYPHS[deviation["verdict"]]
        verdict = Text(f"{deviation['verdict']}\n", style=style)
        verdict.append(clean(deviation["reason"]), style="dim")
        name = Text(component.label, style="bold").append("\n").append(verdict)
        words = stated.get(component.value, {}).get("statement") or "nothing"
        record = Text(clean("\n".join(clauses)) or "nothing chosen")
        table.add_row(name, Text(glyph, style=style), Text(clean(words)), record)
        table.add_row()
    counts = Counter(deviation["verdict"] for deviation in judged.values())
    total = Text("  ")
    for verdict_name, (glyph, style) in GLYPHS.items():
        total.append(f"{glyph} {counts[verdict_name]} {verdict_name}   ", style=style)
    return Group(table, total)


@click.command("show")
@click.argument("episode", required=False)
@click.option("--db", default=DEFAULT_DB, envvar="MENTALARENA_DB", show_default=True,
              metavar="PATH", help="Path of the store.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, envvar="MENTALARENA_JSON",
              help="Print everything as JSON.")  # fmt: skip
@click.option("--html", "html", default=None, envvar="MENTALARENA_HTML", metavar="FILE",
              help="Write it as one self-contained page instead.")  # fmt: skip
@click.option("--compare", is_flag=True, envvar="MENTALARENA_COMPARE",
              help="What the therapist stated last beside what the record says.")  # fmt: skip
@click.option("--prompts", is_flag=True, envvar="MENTALARENA_PROMPTS",
              help="What each seat was shown: the prompts, rendered again without a model call "
              "and checked against their stored hashes; exit code 1 when one differs.")  # fmt: skip
@click.option("--seat", type=click.Choice(("patient", "therapist", "manager", "judge")),
              envvar="MENTALARENA_SEAT", help="With --prompts: this seat's only.")  # fmt: skip
def show(
    episode: str | None,
    db: str,
    as_json: bool,
    html: str | None,
    compare: bool,
    prompts: bool,
    seat: str | None,
) -> int:
    """Show one episode: the last one, or the one whose id begins with EPISODE.

    The store is opened for reading only.
    """
    if seat is not None and not prompts:
        raise click.UsageError("--seat goes with --prompts")
    if html is not None and (as_json or prompts or compare):
        raise click.UsageError("--html goes with none of --json, --prompts and --compare")
    with open_readonly(db) as store:
        episode_id = find_episode(store, episode) if episode else last_episode(store)
        if prompts:
            code: int = load(AUDIT)(store, episode_id, seat, as_json)
            return code
        if html is not None:
            from mentalarena.view.episode import episode_page

            write_page(html, episode_page(store, episode_id))
            click.echo(f"wrote {html}")
            return 0
        trajectory = read_trajectory(store, episode_id)
    if as_json:
        click.echo(json.dumps(trajectory, ensure_ascii=False, indent=1, sort_keys=True))
        return 0
    Console(highlight=False).print(comparison(trajectory) if compare else render(trajectory))
    # Not part of what is shown, which may be on its way into a file.
    click.echo(f"next: {command_name()} view{with_db(db)}   (in a browser)", err=True)
    return 0
