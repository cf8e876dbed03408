"""Finds answers that say nothing: the instruction read back, a sentence in a loop, a turn again.

Why: a small model, and at times a large one, falls into these, and once such a turn stands in the
dialogue everything after it copies it. The three rules look at whole sentences or turns only, word
for word, so that a person who comes back to a thought is not taken for a machine that is stuck.
"""

import re
from collections.abc import Mapping
from functools import lru_cache

from agents.seats import Line

_ECHO_WORDS = 6
"""Shorter sentences of an instruction may well be what somebody would say."""
_LOOP = 3
"""How often a sentence, or a clause between commas, must come for a loop."""
_LOOP_WORDS = 3
_TURN_WORDS = 8
_QUOTED = re.compile(r"\"[^\"]*\"|\u201c[^\u201d]*\u201d")


def degenerate(text: str, instruction: str, lines: tuple[Line, ...] = ()) -> str | None:
    """What is wrong with an answer, written for the model; None when nothing is.

    Args:
        text: The words of a turn, or of one field.
        instruction: The prompt's template as written, without dialogue and record. What it gives
            as an example in quotes may be said.
        lines: The dialogue before a spoken turn.
    """
    told = _told(instruction)
    said = _sentences(text)
    for sentence in said:
        if any(_holds(sentence, length, asked) for length, asked in told.items()):
            return "it repeats the instruction"
    for units in (said, _sentences(text.replace(",", "."))):
        for unit in units:
            if len(unit) >= _LOOP_WORDS and units.count(unit) >= _LOOP:
                return "it says the same again and again"
    words = _words(text)
    if len(words) >= _TURN_WORDS and any(_line_words(line.text) == words for line in lines):
        return "it repeats an earlier line"
    return None


@lru_cache(maxsize=64)
def _told(instruction: str) -> Mapping[int, frozenset[tuple[str, ...]]]:
    """The longer sentences of an instruction, by length in words; a template is written once."""
    found: dict[int, set[tuple[str, ...]]] = {}
    for part in re.split(r"[:;\n]", _QUOTED.sub(". ", instruction)):
        for sentence in _sentences(part):
            if len(sentence) >= _ECHO_WORDS:
                found.setdefault(len(sentence), set()).add(sentence)
    return {length: frozenset(asked) for length, asked in found.items()}


def _words(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[^\W_]+", text.replace("\u2019", "'").replace("'", "").casefold()))


_line_words = lru_cache(maxsize=2048)(_words)
"""Every turn is compared with all the lines before it, again and again the same ones."""


def _sentences(text: str) -> list[tuple[str, ...]]:
    return [words for part in re.split(r"[.!?…\n]+", text) if (words := _words(part))]


def _holds(whole: tuple[str, ...], length: int, parts: frozenset[tuple[str, ...]]) -> bool:
    """Whether some run of ``length`` words is one of ``parts``."""
    return any(whole[start : start + length] in parts for start in range(len(whole) - length + 1))
