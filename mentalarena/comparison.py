"""How near a statement is to a record, and to how many other patients it is at least as near.

Why: the decoder judges by these two figures and the calibration sets limits for them, so both have
to come from the same lines of code, ranked against the same peers.
"""

from collections.abc import Sequence
from typing import Protocol

from mentalarena.case import CLOSED_LISTS, Component
from mentalarena.closed_lists import labels_in, overlap
from mentalarena.encoder import component_text
from mentalarena.similarity import Embedder


class Peers(Protocol):
    """The same component of other patients, to rank against."""

    def __call__(self, component: Component, patient_id: str) -> Sequence[str]:
        """Texts of ``component`` of every peer but this patient."""
        ...


def compare(
    component: Component,
    record: Sequence[str],
    statement: str,
    others: Sequence[str],
    embedder: Embedder,
) -> tuple[float, float | None]:
    """Similarity of a statement with a record, and its rank.

    Args:
        component: what both are about.
        record: the clauses that the patient holds.
        statement: what is said of them.
        others: the component's texts of the peers; those equal to the record are left out.
        embedder: makes the vectors.

    Returns:
        Cosine (set overlap for closed lists), and the share of others that are at least as
        similar, 0 to 1; None where nothing is ranked: closed lists, and no others.
    """
    if component in CLOSED_LISTS:
        labels = labels_in(component, statement, embedder)
        return round(overlap(labels, frozenset(record)), 6), None
    own = component_text(record)
    rivals = [text for text in others if text != own]
    vectors = embedder.vectors([statement, own, *rivals])
    cosines = vectors[1:] @ vectors[0]
    similarity = round(float(cosines[0]), 6)
    if not rivals:
        return similarity, None
    return similarity, round(float((cosines[1:] >= cosines[0]).mean()), 6)
