"""How well free-text diagnoses are mapped to ICD-10-CM codes, on labels that were frozen first.

Why: a label mapped to the wrong code is counted, compared and trained on. The labels were written
by somebody who had not seen the tables. The first column is what the mapping of that day made of
all of them and is the only one without any bias; the others say what the present one makes of the
half it was improved on and of the half that only reports, beside what the first made of them.

How to run::

    python -m benchmarks.labels_check [--json]

A label may stand for several codes (comorbid answers) or for none. ``exact`` counts codes; in
``category`` their first three characters. Precision: of the codes given, how many are meant;
recall: of the codes meant, how many are given. A label whose code cannot be told more closely than
its category is marked so in the set and counts in ``category`` only. ``none`` is the share of
labels without a code that are left without one. Intervals are Wilson's (95 %), with labels taken as
independent.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.frozen import Item, Share, blind, half, key, read, share
from benchmarks.safety_check import show
from mentalarena.nosology import map_labels
from mentalarena.similarity import SentenceEncoder

Answers = Mapping[str, Sequence[Sequence[str]]]
"""By the key of a text: the codes without the sentence encoder, and with it."""


def answers(items: Sequence[Item]) -> Answers:
    """What the present mapping answers."""
    nearest = SentenceEncoder().nearest
    return {
        key(item["text"]): [
            [code for label in map_labels(item["text"], by) if (code := label.code) is not None]
            for by in (None, nearest)
        ]
        for item in items
    }


def first_answers() -> Answers:
    """What the first mapping answered: one code at most."""
    return {
        text: [[code] if code else [] for code in codes] for text, codes in blind("labels").items()
    }


def figures(items: Sequence[Item], found: Answers) -> dict[str, Share]:
    """Precision and recall by level, with the sentence encoder and without."""
    result: dict[str, Share] = {}
    for name, which in (("with encoder", 1), ("without encoder", 0)):
        for level in ("exact", "category"):
            known = [i for i in items if level == "category" or i.get("level") != "category"]
            right = given = meant = 0
            for item in known:
                codes, said = set(item["codes"]), set(found[key(item["text"])][which])
                if level == "category":
                    codes, said = {c[:3] for c in codes}, {c[:3] for c in said}
                right += len(codes & said)
                given += len(said)
                meant += len(codes)
            result[f"{name}, {level}: precision"] = share(right, given)
            result[f"{name}, {level}: recall"] = share(right, meant)
        empty = [item for item in items if not item["codes"]]
        result[f"{name}: none"] = share(
            sum(not found[key(item["text"])][which] for item in empty), len(empty)
        )
        several = [item for item in items if len(item["codes"]) > 1]
        result[f"{name}: all codes of comorbid labels"] = share(
            sum(
                {c[:3] for c in item["codes"]} == {c[:3] for c in found[key(item["text"])][which]}
                for item in several
            ),
            len(several),
        )
    return result


def measure() -> dict[str, dict[str, Share]]:
    """Every table, by name."""
    items = read("labels")
    first, present = first_answers(), answers(items)
    halves = {name: [i for i in items if half(i["text"]) == name] for name in ("report", "improve")}
    return {
        "blind, all": figures(items, first),
        "report half, before": figures(halves["report"], first),
        "report half, now": figures(halves["report"], present),
        "improve half, before": figures(halves["improve"], first),
        "improve half, now": figures(halves["improve"], present),
    }


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
    show("Diagnosis labels on 271 frozen labels", tables)


if __name__ == "__main__":
    main()
