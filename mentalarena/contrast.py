"""Where a statement repeats a clause nearly word for word, but turns it round.

Why: to a sentence encoder "they always say yes" and "they never say yes" are neighbors. Where a
part of a statement shares most of its words with one wording of the clause, what differs can be
read off: a negation more or less, one word of a pair of opposites for the other, or somebody else
in the place of the patient. Everything that is said in other words passes: a check that finds
little and is hardly ever wrong. ``docs/decoder.md`` has its figures.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

from mentalarena.clauses import units

_FEWEST = 3
"""Content words that must be shared."""
SHARED = 0.65
"""Share of content words in common (of both texts together) from which a wording is repeated."""

_SELF_WORDS = (
    "i me my mine myself i'm i've i'd i'll he him his himself she her hers herself they them "
    "their theirs themselves themself they're they've they'd they'll patient patient's"
)
_SELF = frozenset(_SELF_WORDS.split())
_SUBJECT_WORDS = "i i'm i've i'd i'll he he's she she's they they're they've they'd they'll patient"
_SUBJECT = frozenset(_SUBJECT_WORDS.split())
_OTHERS_WORDS = (
    "people everybody everyone somebody someone relatives family friends colleagues others "
    "parents neighbors neighbours strangers"
)
_OTHERS = frozenset(_OTHERS_WORDS.split())
_NEGATION = re.compile(
    r"\b(?:not|no|never|neither|nor|nobody|nothing|none|without|cannot|hardly|\w+n't|"
    r"no one|very opposite of)\b"
)
_EMPTY_WORDS = (
    "a about all am an and any are as at be because been but by can could did do does for "
    "from get go got had has have if in into is it its just more most of off on one only or "
    "our out over so some such than that the then there these this those to too up very was "
    "we were what when where which while who whom will with would you your feel feels think "
    "thinks believe believes know knows"
)
_EMPTY = frozenset(_EMPTY_WORDS.split())
_OPPOSITES = (
    ("always", "never"), ("everybody", "nobody"), ("everyone", "no one"), ("all", "none"),
    ("everything", "nothing"), ("more", "less"), ("avoid", "seek"), ("hide", "show"),
    ("quiet", "loud"), ("alone", "together"), ("accept", "refuse"), ("love", "hate"),
    ("safe", "dangerous"), ("weak", "strong"), ("good", "bad"), ("first", "last"),
    ("worse", "better"), ("worthless", "valuable"), ("trust", "distrust"), ("stay", "leave"),
)  # fmt: skip
_OPPOSITE = {a: b for a, b in _OPPOSITES} | {b: a for a, b in _OPPOSITES}


class Contrast(NamedTuple):
    """How a part of a statement contradicts a clause."""

    kind: str
    """negated, opposite or wrong agent."""
    clause: int
    part: str
    wording: str


class _Read(NamedTuple):
    content: frozenset[str]
    plain: frozenset[str]
    negations: int
    own: bool
    """Whether the patient is a subject."""
    others: frozenset[str]


def _stem(word: str) -> str:
    return re.sub(r"(?:ing|ed|es|s|e)$", "", word) if len(word) > 4 else word


@lru_cache(maxsize=8192)
def _read(text: str) -> _Read:
    lower = text.lower().replace("\u2019", "'")
    said = re.findall(r"[\w']+", lower)
    plain = frozenset(said)
    content = frozenset(
        _stem(word)
        for word in said
        if word not in _EMPTY and word not in _SELF and not _NEGATION.fullmatch(word)
    )
    return _Read(
        content,
        plain,
        len(_NEGATION.findall(lower)),
        bool(plain & _SUBJECT),
        plain & _OTHERS,
    )


def contrast(statement: str, clauses: Sequence[Sequence[str]]) -> Contrast | None:
    """The first part of a statement that repeats a clause and turns it round; None without one.

    Args:
        statement: what is said.
        clauses: per clause its wordings.
    """
    for part in units(statement):
        said = _read(part)
        best, where = 0.0, (0, "")
        for index, wordings in enumerate(clauses):
            for wording in wordings:
                for unit in units(wording):
                    held = _read(unit)
                    both = len(said.content & held.content)
                    share = both / len(said.content | held.content) if both >= _FEWEST else 0.0
                    if share > best:
                        best, where = share, (index, unit)
        if best < SHARED:
            continue
        kind = _turned(said, _read(where[1]))
        if kind:
            return Contrast(kind, where[0], part, where[1])
    return None


def _turned(said: _Read, held: _Read) -> str | None:
    if said.negations % 2 != held.negations % 2:
        return "negated"
    fresh, gone = said.plain - held.plain, held.plain - said.plain
    if any(_OPPOSITE.get(word) in gone for word in fresh):
        return "opposite"
    if held.own and said.others - held.others and not said.own:
        return "wrong agent"
    return None
