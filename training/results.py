"""From stored rows to figures: what an evaluation says, and what it cannot say.

Why: one number invites belief. Each evaluation is counted with its interval, the baselines that
its own items set, the outcomes that are no answers, what the model tends to say, and warnings where
the set could not tell a good model from a constant. All of it is made from rows, so that it can be
made again from a store alone.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from mentalarena.errors import ConfigurationError
from training import statistics

Rows = Sequence[Mapping[str, Any]]

OUTCOMES = ("right", "wrong", "unparsable", "refused", "failed")
"""Only ``right`` is correct, and all are in the denominator."""


class _Expanded(NamedTuple):
    """Rows as often as the set holds their items."""

    rows: list[Mapping[str, Any]]
    right: list[float]
    clusters: list[str]


def _expanded(rows: Rows) -> _Expanded:
    found = [row for row in rows for _ in range(row["copies"])]
    right = [float(row["outcome"] == "right") for row in found]
    return _Expanded(found, right, [row["cluster"] for row in found])


def summary(rows: Rows) -> dict[str, Any]:
    """Everything that one evaluation says, ready for JSON.

    Args:
        rows: Its rows of ``evaluation_items``.
    """
    if not rows:
        return {"n": 0, "warnings": ["no item was answered"]}
    expanded, right, clusters = _expanded(rows)
    gold = [row["gold"] for row in expanded]
    predicted = [row["predicted"] for row in expanded]
    by_class = statistics.classes(gold, predicted, clusters)
    outcomes = Counter(row["outcome"] for row in expanded)
    answers = Counter("none" if label is None else label for label in predicted)
    truth = Counter(gold)
    accuracy = statistics.mean(right, clusters, share=True)
    found: dict[str, Any] = {
        "n": len(expanded),
        "items": len({row["item_hash"] for row in rows}),
        "rows": len(rows),
        "accuracy": accuracy.plain(),
        "balanced_accuracy": by_class.balanced.plain(),
        "macro_f1": by_class.macro_f1.plain(),
        "outcomes": {name: outcomes[name] for name in OUTCOMES},
        "truncated": sum(row["truncated"] for row in expanded),
        "baselines": baselines(expanded),
        "predicted": dict(sorted(answers.items())),
        "gold": dict(sorted(truth.items())),
        "detectable": statistics.detectable(accuracy.error),
        "tokens": sum(
            (row["prompt_tokens"] or 0) + (row["completion_tokens"] or 0) for row in rows
        ),
        "warnings": warnings(expanded),
    }
    if len(rows) > found["items"]:
        found["rotation"] = _rotation(rows)
    return found


def baselines(rows: Rows) -> dict[str, float]:
    """What no reading reaches on these items: the best constant answer, and chance."""
    gold = Counter(row["gold"] for row in rows)
    return {
        "constant": max(gold.values()) / len(rows),
        "chance": sum(1 / len(json.loads(row["labels"])) for row in rows) / len(rows),
    }


def warnings(rows: Rows) -> list[str]:
    """Why this set may tell less than its size says."""
    gold = Counter(row["gold"] for row in rows)
    label, most = gold.most_common(1)[0]
    found = []
    if most / len(rows) >= statistics.LOPSIDED:
        found.append(
            f"degenerate: {label} is right in {most} of {len(rows)}, so a constant answer gets "
            f"{100 * most / len(rows):.2f} %"
        )
    once = [row for row in rows if row["rotation"] == 0]
    repeats = len(once) - len({row["cluster"] for row in once})
    if repeats:
        found.append(f"{repeats} of {len(once)} questions are repeats; intervals count each once")
    possible = {name for row in rows for name in json.loads(row["labels"])}
    if missing := sorted(possible - set(gold)):
        found.append(f"never right here: {', '.join(missing)}")
    if scarce := [name for name, n in sorted(gold.items()) if n < statistics.SCARCE]:
        found.append(
            f"balanced accuracy and macro-F1 rest on few items of: "
            f"{', '.join(f'{name} ({gold[name]})' for name in scarce)}"
        )
    if len(once) < statistics.TINY:
        low, high = statistics.wilson(0.5 * len(once), len(once))
        found.append(f"small: {len(once)} items, ±{50 * (high - low):.0f} points at 50 %")
    return found


def _rotation(rows: Rows) -> dict[str, Any]:
    """How an answer follows the option rather than its place."""
    by_item: dict[str, list[bool]] = {}
    for row in rows:
        by_item.setdefault(row["item_hash"], []).append(row["outcome"] == "right")
    turned = [flags for flags in by_item.values() if len(flags) > 1]
    return {
        "orders": max(len(flags) for flags in turned),
        "right_in_all": sum(all(flags) for flags in turned) / len(turned),
        "right_in_some": sum(any(flags) for flags in turned) / len(turned),
    }


def compare(first: Rows, second: Rows) -> dict[str, Any]:
    """One evaluation against another on the same items, ready for JSON.

    Raises:
        ConfigurationError: they were not made on the same items.
    """
    others = {(row["item_hash"], row["rotation"]): row for row in second}
    keys = {(row["item_hash"], row["rotation"]) for row in first}
    if keys != set(others):
        shared = len(keys & set(others))
        raise ConfigurationError(
            f"--against: the two evaluations share {shared} of {len(keys)} and {len(others)} "
            "items: make them with the same --data, --limit, --seed and --rotations"
        )
    one, right, clusters = _expanded(first)
    two = [float(others[row["item_hash"], row["rotation"]]["outcome"] == "right") for row in one]
    found = statistics.paired(right, two, clusters, share=True)
    return {
        "n": len(right),
        "difference": found.difference.plain(),
        "p": found.p,
        "test": found.test,
        "discordant": found.discordant,
        "only_first": found.only_first,
        "only_second": found.only_second,
        "detectable": found.detectable,
    }
