"""What the manager lets the therapist know after a reroute, and how much of the record it carries.

Why: feedback written by somebody who sees the record leaks it. ``topic`` guidance, the default, is
therefore made from a component's *name* alone. ``oracle`` exists as a labelled ablation: it quotes
the record on purpose, and its leak is measured.
"""

import re
from collections.abc import Sequence
from typing import Literal, get_args

from mentalarena.case import Component
from mentalarena.config import Guidance

Mode = Literal["revisit", "explore"]
MODES: tuple[Mode, ...] = get_args(Mode)

_TOPIC: dict[Mode, str] = {
    "revisit": "Revisit the patient's {label}: what you have understood of them may not be right.",
    "explore": "Explore the patient's {label}: you do not know enough about them yet.",
}


def guidance_text(
    kind: Guidance, component: Component, mode: Mode, record: Sequence[str] = ()
) -> str:
    """The words the therapist gets.

    Args:
        kind: ``none`` gives an empty text; ``placebo`` reads like ``topic`` (the caller drew a
            random component); ``oracle`` adds what the patient holds.
        component: what to ask about.
        mode: ask again, or ask at last.
        record: the component's clauses; used by ``oracle`` only.
    """
    if kind == "none":
        return ""
    text = _TOPIC[mode].format(label=component.label)
    if kind == "oracle":
        text += " The patient holds: " + " ".join(clause.rstrip(".") + "." for clause in record)
    return text


def _grams(text: str, n: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


def leak(text: str, record: Sequence[str], fixed: str = "") -> float:
    """Share of the record's three-word spans (whole clauses where shorter) found in ``text``.

    0 for a text that carries nothing of the record, 1 for one that carries all of it.

    Args:
        text: what the therapist is let know.
        record: the clauses that it might carry.
        fixed: words that it has whatever the record is; a span of them tells nothing of it, even
            where the record happens to say "you do not know" too.
    """
    found = total = 0
    for clause in record:
        n = min(3, len(re.findall(r"\w+", clause)))
        if n == 0:
            continue
        spans = _grams(clause, n) - _grams(fixed, n)
        total += len(spans)
        found += len(spans & _grams(text, n))
    return round(found / total, 6) if total else 0.0
