"""What the crisis screen finds and what it raises for nothing, on sentences that were frozen first.

Why: a lexicon looks good on the sentences it was made from. These were written by somebody who had
not seen its rules. The first table is what the rules of that day made of all of them and is the
only one without any bias; the others say what the present rules make of the half they were improved
on and of the half that only reports, beside what the first rules made of the same halves.

How to run::

    python -m benchmarks.safety_check [--json]

A hit is a sentence of present danger with at least one finding that counts; a false alarm is one
without present danger that has one. Intervals are Wilson's (95 %). Sentences are an author's, not
patients': shares over them say nothing about how often people say such things.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from benchmarks.frozen import Item, Share, blind, count, half, key, read
from mentalarena.safety import Kind, screen

Answers = Mapping[str, Sequence[str]]
"""By the key of a text: the kinds found, with a qualifier after a slash where there is one."""

STATUSES = ("none", "idiom", "negated", "past", "third_person", "fiction")


def answers(items: Sequence[Item]) -> Answers:
    """What the present rules answer."""
    return {
        key(item["text"]): [
            f.kind + (f"/{f.qualifier}" if f.qualifier else "") for f in screen(item["text"])
        ]
        for item in items
    }


def figures(items: Sequence[Item], found: Answers) -> dict[str, Share]:
    """Hits by label, whether the label was among the kinds found, and false alarms by status."""

    def kinds(item: Item) -> list[str]:
        return [kind for kind in found[key(item["text"])] if "/" not in kind]

    danger = [item for item in items if item["crisis"]]
    calm = [item for item in items if not item["crisis"]]
    flagged = [item for item in danger if kinds(item)]
    result = {"hits": count(danger, lambda item: bool(kinds(item)))}
    for label in get_args(Kind):
        of_label = [item for item in danger if item["label"] == label]
        result[f"hits: {label}"] = count(of_label, lambda item: bool(kinds(item)))
    result["right kind among hits"] = count(flagged, lambda item: item["label"] in kinds(item))
    result["false alarms"] = count(calm, lambda item: bool(kinds(item)))
    for status in STATUSES:
        of_status = [item for item in calm if item["status"] == status]
        result[f"false alarms: {status}"] = count(of_status, lambda item: bool(kinds(item)))
    return result


def measure() -> dict[str, dict[str, Share]]:
    """Every table, by name."""
    items = read("crisis")
    first, present = blind("crisis"), answers(items)
    halves = {name: [i for i in items if half(i["text"]) == name] for name in ("report", "improve")}
    return {
        "blind, all": figures(items, first),
        "report half, before": figures(halves["report"], first),
        "report half, now": figures(halves["report"], present),
        "improve half, before": figures(halves["improve"], first),
        "improve half, now": figures(halves["improve"], present),
    }


def show(title: str, tables: Mapping[str, Mapping[str, Share]]) -> None:
    """Print tables side by side, a row a figure."""
    shown = Table("", *tables, title=title)
    for row in next(iter(tables.values())):
        shown.add_row(row, *(str(table[row]) for table in tables.values()))
    Console(width=max(160, Console().width), highlight=False).print(shown)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the figures, as tables or as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    tables = measure()
    if options.json:
        found: dict[str, Any] = {
            name: {row: value._asdict() for row, value in table.items()}
            for name, table in tables.items()
        }
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    show("Crisis screen on 289 frozen sentences", tables)


if __name__ == "__main__":
    main()
