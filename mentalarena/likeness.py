"""How alike two cases are, by the sentence encoder.

Why: whether a person is new, or another one in other words, decides whether built-in cases are
distinct, whether a synthetic one is kept, and how diverse a set is; all three measure it here. A
case is its seven open parts (history, situation and the five open components of the record), each
the mean direction of its clauses; two cases are as alike as these parts are on average, each with
its like. Two situations of one patient share the lasting parts, so they are more alike than two
people.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from mentalarena.case import Case, Clause, Component
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


def parts_of(case: Case) -> tuple[tuple[Clause, ...], ...]:
    """The clauses of :data:`PARTS`, in order."""
    model = case.cognitive_model
    return (case.history, case.situation, *(model.clauses(Component(part)) for part in PARTS[2:]))


def signatures(
    cases: Sequence[Case], embedder: Embedder, known: Mapping[str, Vectors] | None = None
) -> Vectors:
    """A unit vector per case, shape ``(len(cases), 7 * dimensions)``.

    The product of two is the mean of the cosines of their parts.

    Args:
        cases: The cases.
        embedder: The sentence encoder; asked once for each text.
        known: Signatures by case hash that need not be made.
    """
    known = known or {}
    new = [case for case in cases if case.hash not in known]
    texts = {clause.text: 0 for case in new for part in parts_of(case) for clause in part}
    vectors = embedder.vectors(list(texts)) if texts else np.zeros((0, 0), dtype=np.float32)
    place = {text: row for row, text in enumerate(texts)}
    made = dict(known)
    for case in new:
        rows = [[place[clause.text] for clause in part] for part in parts_of(case)]
        made[case.hash] = signature([vectors[row] for row in rows])
    return np.stack([made[case.hash] for case in cases]) if cases else vectors


def signature(parts: Sequence[Vectors]) -> Vectors:
    """A signature from the clauses' vectors of each part, shapes ``(clauses, dimensions)``."""
    means = np.stack([part.mean(axis=0) for part in parts])
    means /= np.linalg.norm(means, axis=1, keepdims=True) * np.sqrt(len(parts))
    return np.asarray(means.reshape(-1), dtype=np.float32)


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
