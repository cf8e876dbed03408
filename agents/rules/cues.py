"""What a question or a sentence is about, read off a lexicon that anybody can check.

Why: the rule-based patient must know what a question is after, whoever wrote it, and the rule-based
therapist what a sentence tells it. Both look up word sequences of ``data/cues.toml``; longer
sequences weigh more. Nothing is learned and nothing is hidden, so every attribution can be
explained by pointing at a word.
"""

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from itertools import product
from typing import NamedTuple

from agents.rules.language import data, sentences, unquoted, words
from mentalarena.case import CLOSED_LISTS, COMPONENTS, Component

TOPICS: tuple[str, ...] = (*(component.value for component in COMPONENTS), "history", "situation")
"""The eight components, and the two parts of a case that are not formulated."""

_ASKS = re.compile(
    r"\?|\b(?:tell me|describe|walk me|help me understand|talk me|say more|give me|i wonder|"
    r"i'd like|i want to|let's|i am curious|i'm curious|share)\b",
    re.IGNORECASE,
)
_ASIDE = 0.25
"""What a sentence that asks nothing weighs in a therapist's line."""


class Index(NamedTuple):
    """Word sequences and what each one speaks for."""

    phrases: Mapping[tuple[str, ...], tuple[tuple[str, float], ...]]
    longest: Mapping[str, int]
    """Words in the longest sequence that begins with a word."""


def build_index(lists: Mapping[str, list[str]]) -> Index:
    """Index of phrases by name; ``a/b c`` stands for ``a c`` and ``b c``; ``!`` doubles."""
    found: dict[tuple[str, ...], list[tuple[str, float]]] = {}
    for name, phrases in lists.items():
        for phrase in phrases:
            strong = phrase.endswith("!")
            parts = [part.split("/") for part in phrase.rstrip("!").split()]
            for choice in product(*parts):
                key = words(" ".join(choice))
                weight = (1.0 + 0.5 * (len(key) - 1)) * (2.0 if strong else 1.0)
                rows = found.setdefault(key, [])
                if all(other != name for other, _ in rows):
                    rows.append((name, weight))
    longest: dict[str, int] = {}
    for key in found:
        longest[key[0]] = max(longest.get(key[0], 0), len(key))
    return Index({key: tuple(rows) for key, rows in found.items()}, longest)


def look_up(tokens: tuple[str, ...], index: Index) -> dict[str, float]:
    """Summed weight by name; a word used by a longer sequence does not count again for it."""
    scores: dict[str, float] = {}
    used: dict[str, int] = {}
    for start, token in enumerate(tokens):
        # Few words begin anything.
        for length in range(min(index.longest.get(token, 0), len(tokens) - start), 0, -1):
            for name, weight in index.phrases.get(tokens[start : start + length], ()):
                if used.get(name, 0) <= start:
                    scores[name] = scores.get(name, 0.0) + weight
                    used[name] = start + length
    return scores


@cache
def _index(section: str) -> Index:
    return build_index(data("cues")[section])


@cache
def label_index(component: Component) -> Index:
    """What speaks for each label of a closed list."""
    lists = data("labels")[component.value]
    return build_index({label: lists[label] for label in CLOSED_LISTS[component]})


@lru_cache(maxsize=8192)
def aims(line: str) -> tuple[tuple[str, float], ...]:
    """Topics that a therapist's line asks for, best first, with weights; empty when unclear.

    What the line quotes does not count, and a reflection before the question counts little.
    """
    scores: dict[str, float] = {}
    parts = sentences(unquoted(line).strip()) or ("",)
    asking = [bool(_ASKS.search(part)) for part in parts]
    for part, asks in zip(parts, asking, strict=True):
        share = 1.0 if asks or not any(asking) else _ASIDE
        for topic, weight in look_up(words(part), _index("question")).items():
            scores[topic] = scores.get(topic, 0.0) + share * weight
    return tuple(sorted(scores.items(), key=lambda item: (-item[1], TOPICS.index(item[0]))))


def aimed(line: str) -> str | None:
    """The topic a line asks for most; None when it asks for none."""
    found = aims(line)
    return found[0][0] if found else None


def sharpness(line: str, topic: str) -> float:
    """How well a line is aimed at a topic: 0 (not at all) to 1 (at nothing else, and clearly)."""
    found = dict(aims(line))
    weight = found.get(topic, 0.0)
    return weight / sum(found.values()) * min(1.0, weight / 2.0) if weight else 0.0


@lru_cache(maxsize=8192)
def about(sentence: str) -> Mapping[str, float]:
    """Topics that a patient's sentence speaks of, with weights."""
    return look_up(words(sentence), _index("sentence"))


@lru_cache(maxsize=8192)
def is_talk_about_talk(sentence: str) -> bool:
    """Whether a patient's sentence is about the conversation and not about its life."""
    meta = look_up(words(sentence), _index("manner")).get("meta", 0.0)
    return meta >= 1.5 and meta >= max(about(sentence).values(), default=0.0)


@lru_cache(maxsize=8192)
def manner(line: str) -> Mapping[str, float]:
    """How a therapist's line is said: ``warm``, ``confronting``, ``safety``."""
    return look_up(words(line), _index("manner"))
