"""A formulation's statement in parts: what is embedded when it is compared with a record.

Why: a statement of two clauses lies between both in the encoder's space and near neither, so that
half of what it says is lost in one cosine. Each part is embedded alone, short and often met again
in the next round, where its vector is known already.
"""

import re
from functools import lru_cache

MOST_PARTS = 5
"""Parts a statement is cut into at most; what is beyond them stays in the last one."""
_FEWEST_WORDS = 3
_SENTENCE = re.compile(r"(?<=[.!?])\s+|;\s*|\n+")
_CLAUSE = re.compile(r",\s+(?:(?:and|but|so|while|yet|or)\s+)?")


@lru_cache(maxsize=4096)
def statement_parts(statement: str) -> tuple[str, ...]:
    """The parts of a statement, those beyond :data:`MOST_PARTS` in the last one; never empty."""
    found = list(units(statement))
    if len(found) > MOST_PARTS:
        found[MOST_PARTS - 1 :] = [", ".join(found[MOST_PARTS - 1 :])]
    return tuple(found) or (statement.strip(),)


@lru_cache(maxsize=16384)
def units(statement: str) -> tuple[str, ...]:
    """The sentences of a text, and their clauses where a comma ends one.

    A fragment of fewer than three words stays with what is before it.
    """
    parts: list[str] = []
    for sentence in _SENTENCE.split(statement.strip()):
        pieces: list[str] = []
        for piece in _CLAUSE.split(sentence):
            short = len(piece.split()) < _FEWEST_WORDS
            if pieces and (short or len(pieces[-1].split()) < _FEWEST_WORDS):
                pieces[-1] = f"{pieces[-1]}, {piece}"
            else:
                pieces.append(piece)
        parts += pieces
    found = [part.strip(" ,.;:!?") for part in parts]
    return tuple(part for part in found if part)
