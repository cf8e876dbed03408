"""How alike two cases are, by the sentence encoder.

Why: whether a person is new, or another one in other words, decides whether built-in cases are
distinct, whether a synthetic one is kept, and how diverse a set is; all three measure it here. A
case is its seven open parts (history, situation and the five open components of the record), a
vector each; two cases are as alike as these parts are on average, each with its like. Two
situations of one patient share the record's lasting parts, so they are more alike than two people.
"""

from collections.abc import Sequence

import numpy as np

from mentalarena.case import Case, Clause, Component
from mentalarena.encoder import component_text
from mentalarena.encoder_process import Vectors
from mentalarena.similarity import Embedder

PARTS = (
    "history",
    "situation",
    Component.INTERMEDIATE_BELIEFS.value,
    Component.INTERMEDIATE_BELIEFS_DEPRESSION.value,
    Component.COPING_STRATEGIES.value,
    Component.AUTOMATIC_THOUGHTS.value,
    Component.BEHAVIORS.value,
)
"""What is compared; closed lists are not, because many people share their labels."""


def part_texts(case: Case) -> tuple[str, ...]:
    """The texts of :data:`PARTS`, in order."""

    def clauses(part: str) -> tuple[Clause, ...]:
        if part in ("history", "situation"):
            return case.history if part == "history" else case.situation
        return case.cognitive_model.clauses(Component(part))

    return tuple(component_text([clause.text for clause in clauses(part)]) for part in PARTS)


def signatures(cases: Sequence[Case], embedder: Embedder) -> Vectors:
    """A unit vector per case, shape ``(len(cases), 7 * dimensions)``.

    The product of two is the mean of the cosines of their parts.
    """
    if not cases:
        return np.zeros((0, 0), dtype=np.float32)
    texts = [text for case in cases for text in part_texts(case)]
    vectors = embedder.vectors(texts).reshape(len(cases), -1)
    return np.asarray(vectors / np.sqrt(len(PARTS)), dtype=np.float32)


def nearest_others(
    found: Vectors, owners: Sequence[str], *, same_owner: bool = False
) -> tuple[tuple[int, float], ...]:
    """Per case, index and likeness of the nearest other one.

    Args:
        found: Signatures.
        owners: Patient of each.
        same_owner: Whether another case of the same patient counts as another one.

    Returns:
        Index and likeness; ``(-1, -1.0)`` where there is no other.
    """
    likeness = found @ found.T
    names = np.asarray(owners)
    left_out = np.eye(len(names), dtype=bool) if same_owner else names[:, None] == names[None, :]
    likeness = np.where(left_out, -1.0, likeness)
    best = likeness.argmax(axis=1) if len(names) else np.zeros(0, dtype=int)
    return tuple(
        (int(index), float(row[index])) if row[index] > -1.0 else (-1, -1.0)
        for index, row in zip(best, likeness, strict=True)
    )
