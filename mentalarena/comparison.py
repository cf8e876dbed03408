"""What a statement has in common with a record: the figures that the decoder's score is made of.

Why: one cosine of two texts says little. The encoder's cosines depend on the subject and on the
length of both texts, so a figure means something only beside what *others* would get. Here a
statement is taken apart (:mod:`mentalarena.clauses`), each part is set against every clause of the
record in all of its wordings, and the outcome is set against the same component of other patients
and against the other components of the same patient. Decoder and calibration use these lines, so
that limits and verdicts mean the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mentalarena.case import CLOSED_LISTS, Case, Component, PrincipleGroup
from mentalarena.clauses import statement_parts
from mentalarena.roster import principle_groups
from mentalarena.similarity import Embedder

Numbers = npt.NDArray[np.float64]
Wordings = tuple[tuple[str, ...], ...]
"""Per clause, its wordings: the record's own first, then the patient's ways to say it."""

OPEN = tuple(component for component in Component if component not in CLOSED_LISTS)
"""Components that are stated in free text."""
RECORDED = tuple(component for component in OPEN if component is not Component.BEHAVIOR_PRINCIPLES)
"""Those of them that a record states."""

FEATURES = ("support_z", "margin")
"""What the score weighs, see :class:`Compared`."""


_RECORDS = 512
"""Components of patients whose vectors are kept ready, those used last."""


class Peer(NamedTuple):
    """The component of another patient (or another principle), to compare against."""

    owner: str
    wordings: Wordings


Peers = Mapping[Component, Sequence[Peer]]


class Compared(NamedTuple):
    """One statement against one record."""

    similarity: float
    """Support: mean over the statement's parts of the likeness with the clause nearest to each."""
    rank: float
    """Share of peers who support the statement at least as well, 0 to 1."""
    features: dict[str, float]
    """By the names in :data:`FEATURES`: ``support_z``, how many standard deviations the support
    lies above the mean of what the peers give the same statement; ``margin``, how far the likeness
    of the statement as a whole exceeds that with the nearest other component of the same patient
    (0 where there is none)."""
    clauses: tuple[int, ...]
    """Per part of the statement, the clause that is nearest to it."""
    likeness: tuple[float, ...]
    """Per part, how like it is to that clause."""


def _unit(vectors: Numbers) -> Numbers:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float64)


class _Stack:
    """Clauses of one or more records, ready to be compared with many vectors at once."""

    def __init__(self, records: Sequence[Wordings], embedder: Embedder) -> None:
        wordings = [words for record in records for words in record]
        self._all = embedder.vectors([text for words in wordings for text in words]).astype(float)
        counts = [len(words) for words in wordings]
        self._starts = np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(int)
        sums = np.add.reduceat(self._all, self._starts, axis=0)
        self._centers = _unit(sums / np.array(counts)[:, None])
        self._records = np.concatenate([[0], np.cumsum([len(r) for r in records])[:-1]]).astype(int)
        totals = np.add.reduceat(self._centers, self._records, axis=0)
        self.whole = _unit(totals)
        """One vector a record, shape (records, dimensions)."""

    def clauses(self, vectors: Numbers) -> Numbers:
        """Likeness of each vector with each clause: half its nearest wording, half their mean."""
        nearest = np.maximum.reduceat(vectors @ self._all.T, self._starts, axis=1)
        return np.asarray(0.5 * nearest + 0.5 * (vectors @ self._centers.T), dtype=np.float64)

    def support(self, vectors: Numbers) -> Numbers:
        """Mean over the vectors of the likeness with the nearest clause, per record."""
        best = np.maximum.reduceat(self.clauses(vectors), self._records, axis=1)
        return np.asarray(best.mean(axis=0), dtype=np.float64)


def _own_words(record: Wordings) -> list[str]:
    return [words[0] for words in record]


@dataclass(frozen=True)
class Held:
    """One component of a patient, beside what it is told apart from."""

    own: _Stack
    others: Numbers | None
    """One vector for each of the patient's other components; None where there is nothing to tell it
    apart from."""
    mask: npt.NDArray[np.bool_]
    """Which peers count: not the patient, and nobody with the same record."""


class Comparison:
    """Compares statements with records, against fixed peers.

    Args:
        peers: per component, the texts to tell a record apart from.
        embedder: makes the vectors.
    """

    def __init__(self, peers: Peers, embedder: Embedder) -> None:
        self._peers = peers
        self._embedder = embedder
        self._stacks: dict[Component, _Stack] = {}
        # Every formulation of every episode with a patient asks for the same.
        self._record = lru_cache(_RECORDS)(self._stack_of)
        self._held = lru_cache(_RECORDS)(self._hold)

    def _stack(self, component: Component) -> _Stack:
        if component not in self._stacks:
            records = [peer.wordings for peer in self._peers[component]]
            self._stacks[component] = _Stack(records, self._embedder)
        return self._stacks[component]

    def holds(
        self, component: Component, owner: str, wordings: Mapping[Component, Wordings]
    ) -> Held:
        """What a patient holds, prepared for :meth:`compare`.

        Args:
            component: which of the components.
            owner: whose it is: never its own peer.
            wordings: every component of the patient that is known.
        """
        rest = tuple(
            wordings[other]
            for other in RECORDED
            if other is not component and other in wordings
            and component is not Component.BEHAVIOR_PRINCIPLES
        )  # fmt: skip
        return self._held(component, owner, wordings[component], rest)

    def _stack_of(self, record: Wordings) -> _Stack:
        return _Stack([record], self._embedder)

    def _hold(
        self, component: Component, owner: str, record: Wordings, rest: tuple[Wordings, ...]
    ) -> Held:
        others = np.concatenate([self._record(other).whole for other in rest]) if rest else None
        same = _own_words(record)
        mask = np.array(
            [
                peer.owner != owner and _own_words(peer.wordings) != same
                for peer in self._peers[component]
            ]
        )
        return Held(self._record(record), others, mask)

    def compare(
        self, component: Component, held: Held, statement: str, without: str = ""
    ) -> Compared:
        """Set a statement against what a patient holds.

        Args:
            component: what both are about.
            held: from :meth:`holds`.
            statement: what is said.
            without: a further peer who does not count (who a borrowed statement is true of).
        """
        parts = self._embedder.vectors(statement_parts(statement)).astype(float)
        whole = _unit(parts.mean(axis=0))
        mask = held.mask
        if without:
            mask = mask & np.array([peer.owner != without for peer in self._peers[component]])
        alike = held.own.clauses(parts)
        support = float(alike.max(axis=1).mean())
        rivals = self._stack(component).support(parts)[mask]
        margin = 0.0
        if held.others is not None:
            margin = float(whole @ held.own.whole[0]) - float((held.others @ whole).max())
        support_z = (support - float(rivals.mean())) / max(float(rivals.std()), 1e-6)
        return Compared(
            similarity=round(support, 6),
            rank=round(float((rivals >= support).mean()), 6),
            features={"support_z": round(support_z, 6), "margin": round(margin, 6)},
            clauses=tuple(int(index) for index in alike.argmax(axis=1)),
            likeness=tuple(round(float(value), 6) for value in alike.max(axis=1)),
        )


def case_wordings(case: Case) -> dict[Component, Wordings]:
    """Every open component that a case's record states."""
    return {
        component: tuple(
            (clause.text, *clause.utterances) for clause in case.cognitive_model.clauses(component)
        )
        for component in RECORDED
    }


def builtin_peers(
    cases: Mapping[str, Case], groups: Sequence[PrincipleGroup] = ()
) -> dict[Component, tuple[Peer, ...]]:
    """Who statements are compared against: train and dev patients, in their first situation.

    Test patients are never part of the instrument that is tested with them; for behavior
    principles it is every principle of the library.

    Args:
        cases: The people.
        groups: The library of behavior principles; the built-in one when empty.
    """
    first: dict[str, Case] = {}
    for case_id in sorted(cases):
        first.setdefault(cases[case_id].patient_id, cases[case_id])
    found: dict[Component, tuple[Peer, ...]] = {
        component: tuple(
            Peer(patient_id, case_wordings(case)[component])
            for patient_id, case in first.items()
            if case.split != "test"
        )
        for component in RECORDED
    }
    found[Component.BEHAVIOR_PRINCIPLES] = tuple(
        Peer(principle.id, ((principle.text, *principle.utterances),))
        for group in groups or principle_groups()
        for principle in group.principles
    )
    return found
