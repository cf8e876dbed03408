"""What of a dialogue is shown to who need not hear all of it: excerpts in the speakers' own words.

Why: a dialogue is sent with every formulation and every score, and paid for each time. What is left
out is left out by rule. A summary written by a model would put its reading between the dialogue and
whoever judges by it.
"""

import re
from functools import lru_cache
from itertools import pairwise

from agents.seats import Line

EXCERPT_WORDS = 220
"""A patient who said no more than this is read in full by the judge."""
_CLEAR_WORDS = 12
"""An answer of so many words is taken to be clear without its question."""
_LONGEST_PIECE = 40
"""Words."""
_CONTENT_LETTERS = 4
"""Shorter words carry the sentence and not what it is about."""


@lru_cache(maxsize=256)
def excerpt(lines: tuple[Line, ...], limit: int = EXCERPT_WORDS) -> tuple[Line, ...]:
    """What the judge reads of a dialogue: the same for every plan and sample.

    Args:
        lines: The dialogue.
        limit: Words of the patient to keep. Answers too short to be cut stay, and what is left goes
            to the sentences with most words that no sentence before them had, one after the other.

    Returns:
        The lines of :func:`heard`, with an ellipsis where sentences were left out.
    """
    kept = heard(lines)
    spoken = {at: line for at, line in enumerate(kept) if line.speaker == "patient"}
    left = limit - sum(_length(line.text) for line in spoken.values())
    if left >= 0:
        return kept
    long = {at: _pieces(line.text) for at, line in spoken.items() if not _is_short(line)}
    left += sum(_length(text) for pieces in long.values() for text in pieces)
    chosen: set[tuple[int, int]] = set()
    known: set[str] = set()
    waiting = {
        (at, place): (_content(text), _length(text))
        for at, pieces in long.items()
        for place, text in enumerate(pieces)
    }
    while waiting:
        best = max(waiting, key=lambda one: len(waiting[one][0] - known))
        words, length = waiting.pop(best)
        if not words - known:
            break
        if length <= left:
            chosen.add(best)
            known |= words
            left -= length
    shown = []
    for at, line in enumerate(kept):
        text = line.text if at not in long else _joined(long[at], at, chosen)
        if text:
            shown.append(line._replace(text=text))
    return tuple(shown)


def questions_only(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """The patient's lines, and of the therapist's the question.

    A line that a short answer follows stays whole: what "Yes, that is it." says stands there.
    """
    kept = []
    for line, following in pairwise((*lines, None)):
        if line is None:
            break
        if line.speaker == "therapist" and (following is None or not _is_short(following)):
            line = line._replace(text=_question(line.text))
        kept.append(line)
    return tuple(kept)


def heard(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """The patient's lines, and before a short one the question that it answers."""
    kept: list[Line] = []
    for position, line in enumerate(lines):
        if line.speaker == "patient":
            kept.append(line)
            continue
        following = lines[position + 1 : position + 2]
        if following and _is_short(following[0]):
            kept.append(line._replace(text=_question(line.text)))
    return tuple(kept)


def _question(text: str) -> str:
    """The last sentence that asks; the last one where none does."""
    sentences = _sentences(text)
    return next((one for one in reversed(sentences) if one.endswith("?")), sentences[-1])


def _is_short(line: Line) -> bool:
    return _length(line.text) < _CLEAR_WORDS


def _length(text: str) -> int:
    return len(text.split())


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?…])\s+", text.strip())


def _pieces(text: str) -> list[str]:
    """The sentences, what goes on without an end cut into pieces that can be chosen."""
    return [
        " ".join(words[start : start + _LONGEST_PIECE])
        for words in map(str.split, _sentences(text))
        for start in range(0, len(words), _LONGEST_PIECE)
    ]


def _content(text: str) -> frozenset[str]:
    words = re.findall(r"[^\W_]+", text.casefold())
    return frozenset(word for word in words if len(word) >= _CONTENT_LETTERS)


def _joined(pieces: list[str], at: int, chosen: set[tuple[int, int]]) -> str:
    """The chosen pieces of one line; empty when there are none."""
    shown: list[str] = []
    for place, text in enumerate(pieces):
        if (at, place) in chosen:
            shown.append(text)
        elif not shown or shown[-1] != "…":
            shown.append("…")
    return "" if shown == ["…"] else " ".join(shown)
