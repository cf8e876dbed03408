"""Evaluations as people read them: one block a task, figures with their error and baseline.

Why: what is printed is what is believed. No accuracy stands without its interval, the best constant
answer and the answers that were none; no difference without p and the number of items it rests on.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from mentalarena.text import clean
from training.arena_measures import MEASURES, Measure
from training.results import OUTCOMES


def percent(estimate: Mapping[str, Any]) -> str:
    """``74.57 % [67.7, 80.4]``."""
    low, high = estimate["low"], estimate["high"]
    interval = "" if low is None else f" [{100 * low:.1f}, {100 * high:.1f}]"
    return f"{100 * estimate['value']:.2f} %{interval}"


def p_value(p: float | None) -> str:
    """``p = 0.031``, ``p < 0.0001`` or a dash."""
    if p is None:
        return "–"
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.4f}"


def _rows(pairs: Sequence[tuple[str, str]]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(ratio=1)
    for name, value in pairs:
        table.add_row(name, Text(clean(value)))
    return Padding(table, (0, 0, 0, 2))


def _head(result: Mapping[str, Any]) -> Text:
    head = Text(result["task"], style="bold")
    head.append(f"  {clean(result['model'])}", style="bold cyan")
    head.append(f"  {result['scoring']}, split {result['split']}  {result['id']}", style="dim")
    return head


def _warnings(found: Sequence[str]) -> list[RenderableType]:
    return [Padding(Text(f"! {clean(line)}", style="yellow"), (0, 0, 0, 2)) for line in found]


def questions_block(result: Mapping[str, Any]) -> RenderableType:
    """One evaluation on a question set."""
    metrics = result["metrics"]
    if not metrics["n"]:
        return Group(_head(result), *_warnings(metrics["warnings"]))
    base, outcomes = metrics["baselines"], metrics["outcomes"]
    accuracy = metrics["accuracy"]
    pairs = [
        ("accuracy", f"{percent(accuracy)}  n {metrics['n']}, {accuracy['method']}"),
        ("constant, chance",
         f"{100 * base['constant']:.2f} %, {100 * base['chance']:.2f} % with no reading"),
        ("balanced, macro-F1",
         f"{percent(metrics['balanced_accuracy'])}, {percent(metrics['macro_f1'])}"),
        ("outcomes", ", ".join(f"{name} {outcomes[name]}" for name in OUTCOMES)),
        ("predicted", ", ".join(f"{name} {n}" for name, n in metrics["predicted"].items())),
        ("truth", ", ".join(f"{name} {n}" for name, n in metrics["gold"].items())),
    ]  # fmt: skip
    if metrics["detectable"]:
        pairs.append((
            "detectable",
            f"{100 * metrics['detectable']:.1f} points off a given number, 8 times in 10",
        ))  # fmt: skip
    if turned := metrics.get("rotation"):
        pairs.append((
            f"{turned['orders']} orders",
            f"right in all {100 * turned['right_in_all']:.1f} %, "
            f"in some {100 * turned['right_in_some']:.1f} %",
        ))  # fmt: skip
    if metrics["truncated"]:
        pairs.append(("cut off", f"{metrics['truncated']} answers at the token limit"))
    if found := result.get("contamination"):
        pairs.append(("contamination", _contamination(found)))
    if against := result.get("against"):
        pairs.append((f"against {against['model']}", _difference(against)))
    return Group(_head(result), _rows(pairs), *_warnings(metrics["warnings"]))


def _contamination(found: Mapping[str, Any]) -> str:
    text = f"{found['overlapping']} of {found['items']} items share {found['run']} words with it"
    if found["overlapping"] and found.get("clean_accuracy"):
        text += f"; accuracy without them {percent(found['clean_accuracy'])}"
    return text


def _difference(against: Mapping[str, Any]) -> str:
    low, high = against["difference"]["low"], against["difference"]["high"]
    interval = "" if low is None else f" [{100 * low:+.1f}, {100 * high:+.1f}]"
    text = (
        f"{100 * against['difference']['value']:+.1f} points{interval}, {p_value(against['p'])} "
        f"({against['test']})"
    )
    if against.get("p_holm") is not None:
        text += f", corrected {p_value(against['p_holm'])}"
    text += (
        f"; {against['discordant']} discordant: {against['only_first']} only here, "
        f"{against['only_second']} only there"
    )
    if against["detectable"]:
        text += f"; {100 * against['detectable']:.1f} points would be found 8 times in 10"
    return text


def arena_block(result: Mapping[str, Any]) -> RenderableType:
    """One evaluation in the arena."""
    metrics, against = result["metrics"], result.get("against")
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("", "value", *(("difference", "p", "better") if against else ())):
        table.add_column(name, no_wrap=True)
    for name, measure in MEASURES.items():
        if name not in metrics["measures"]:
            continue
        row = [Text(measure.about), Text(_value(metrics["measures"][name], measure))]
        if against and name in against["measures"]:
            found = against["measures"][name]
            better = {"first": "this", "second": "other", "open": "open"}[found["verdict"]]
            row += [
                Text(_value(found["difference"], measure, sign="+")),
                Text("" if found["p_holm"] is None else f"{found['p_holm']:.4f}"),
                Text(better, style="bold" if better != "open" else "dim"),
            ]
        table.add_row(*row)
    counted = (
        f"{result['seat']} under test, {metrics['episodes']} episodes of {metrics['patients']} "
        f"patients, {metrics['failed']} failed"
    )
    if against:
        counted += f"; against {clean(against['model'])} ({against['id']})"
    return Group(
        _head(result),
        Padding(Text(counted, style="dim"), (0, 0, 0, 2)),
        Padding(table, (0, 0, 0, 2)),
        *_warnings(metrics["warnings"]),
    )


def _value(estimate: Mapping[str, Any], measure: Measure, sign: str = "") -> str:
    """``18.3 % [3, 34]`` for shares, ``0.42 [0.31, 0.53]`` for others."""
    factor, digits, ends, unit = (100, 1, 0, " %") if measure.share else (1, 2, 2, "")
    text = f"{factor * estimate['value']:{sign}.{digits}f}{unit}"
    if estimate["low"] is None:
        return text
    low, high = factor * estimate["low"], factor * estimate["high"]
    return f"{text} [{low:.{ends}f}, {high:.{ends}f}]"


def show(results: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print all blocks."""
    for place, result in enumerate(results):
        if place:
            console.print()
        console.print(arena_block(result) if result["scoring"] == "arena" else
                      questions_block(result), soft_wrap=False)  # fmt: skip
