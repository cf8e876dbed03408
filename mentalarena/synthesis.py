"""New patients by rule: the parts of others, put together again where they agree.

Why: fifty people are few, and a model that plays them a thousand times learns them by heart. A
synthetic patient has the life of one built-in patient (demographics, history, one situation and
what it sets off) without the names in it, and beliefs, ways of coping and further symptoms of
others who could have that life: of the same split, of the same or a compatible presentation, and
only what is free of their own lives (:mod:`mentalarena.coherence`). Whoever comes out too near to
another, or does not speak for its diagnosis any more, is refused. Nothing is written anew, so a
synthetic set is more of the same people and not more people.

Run it: ``mentalarena cases synthesize --n 100 --out FILE``.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from random import Random
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from mentalarena.case import Beliefs, Case, Clause, Patient, Situation, Style
from mentalarena.case_checks import (
    CHECKS,
    Diagnostician,
    Nearest,
    Subject,
    rank_of,
    spoken_lines,
)
from mentalarena.coherence import Lives, Loose, compatible
from mentalarena.encoder_process import Vectors
from mentalarena.errors import CaseError
from mentalarena.likeness import nearest_others, parts_of, signature, signatures
from mentalarena.similarity import Embedder

NAME = "N. N."
SOURCE = "synthetic (by rule)"
_PATIENCE = 300
"""Refusals in a row, and four more for each life, after which the parents count as used up."""
_LASTING_SHARE, _PASSING_SHARE = 0.8, 0.4
"""Share of beliefs and coping, and of what a situation sets off, that comes from somebody else."""
_RANK = 2
_KEPT_CHECKS = ("components", "repeats", "length", "echo", "first person", "reading level")
"""Quality checks that a synthetic case has to pass beside those of :func:`_refused`."""


class Synthesis(NamedTuple):
    """What came of it."""

    patients: tuple[Patient, ...]
    limit: float
    """Likeness of the two nearest built-in cases; no synthetic one is nearer to any other."""
    nearest: float
    """Likeness of the two nearest cases of which one is synthetic."""
    refused: Mapping[str, int]
    """Attempts that were refused, by reason."""


class Neighborhood:
    """The cases that are there already, as signatures, and how near a new one may come."""

    def __init__(
        self, cases: Sequence[Case], embedder: Embedder, known: Mapping[str, Vectors]
    ) -> None:
        self.embedder = embedder
        found = signatures(cases, embedder, known)
        likest = nearest_others(found, [case.id for case in cases])
        self.limit = max((likeness for _, likeness in likest), default=1.0)
        self.nearest = -1.0
        """Likeness of the nearest pair with a new one in it."""
        self._rows = found
        """Signatures, with room for more below the last of :attr:`_ids`."""
        self._ids = [case.id for case in cases]
        self._vectors: dict[str, Vectors] = {}

    def admit(self, case: Case) -> str:
        """Take a case in, or say which one it is too near to."""
        row = self._signature(case)
        likeness = self._rows[: len(self._ids)] @ row
        best = int(likeness.argmax())
        if likeness[best] > self.limit:
            return self._ids[best]
        self.nearest = max(self.nearest, float(likeness[best]))
        self._keep(case, row)
        return ""

    def take(self, case: Case) -> None:
        """Take a case in that is there anyway, however near to others it is."""
        self._keep(case, self._signature(case))

    def _keep(self, case: Case, row: Vectors) -> None:
        if len(self._ids) == len(self._rows):
            more = np.zeros((max(len(self._rows), 64), len(row)), dtype=np.float32)
            self._rows = np.concatenate([self._rows.reshape(-1, len(row)), more])
        self._rows[len(self._ids)] = row
        self._ids.append(case.id)

    def _signature(self, case: Case) -> Vectors:
        texts = [clause.text for part in parts_of(case) for clause in part]
        new = [text for text in dict.fromkeys(texts) if text not in self._vectors]
        if new:
            self._vectors |= dict(zip(new, self.embedder.vectors(new), strict=True))
        return signature(
            [np.stack([self._vectors[one.text] for one in part]) for part in parts_of(case)]
        )


def synthesize(
    parents: Sequence[Patient],
    n: int,
    seed: int,
    lives: Lives,
    neighborhood: Neighborhood,
    diagnose: Diagnostician,
    progress: Callable[[int], None] = lambda done: None,
) -> Synthesis:
    """Up to ``n`` synthetic patients; fewer when the parents give no more.

    Args:
        parents: Whom they are made from; synthetic and counterfactual ones are left out.
        n: How many are wanted.
        seed: The same seed, parents and ``n`` give the same patients.
        lives: The parents' and others', by which names are told from words.
        neighborhood: Whom they must not be too near to.
        diagnose: The rule tables, for what a patient's words speak for.
        progress: Called with the number of patients made so far.

    Raises:
        CaseError: there is no parent to begin with.
    """
    pool = tuple(one for one in parents if not one.synthetic and one.varied is None)
    loosened = {one.id: _loosened(one, lives) for one in pool}
    bases = [base for one in pool for base in _bases(one, lives)]
    if not bases:
        raise CaseError("there is no patient whose life can be told without names: nothing to do")
    made: list[Patient] = []
    refused: Counter[str] = Counter()
    in_vain = 0
    for attempt in count():
        if len(made) == n or in_vain > _PATIENCE + 4 * len(bases):
            break
        in_vain += 1
        random = Random(f"{seed}/synthesize/{attempt}")
        # Everybody in turn, so that the presentations stay as they are among the parents.
        base = bases[attempt % len(bases)]
        donors = [one for one in pool if one.split == base.patient.split
                  and one.id != base.patient.id]  # fmt: skip
        identity = f"syn-{seed}-{len(made) + 1:04d}"
        try:
            others = {
                part: [loose for one in donors if compatible(base.patient, one, part)
                       for loose in loosened[one.id][part]]
                for part in (*_LASTING, *_PASSING)
            }  # fmt: skip
            patient = _composed(identity, base, others, random)
        except ValidationError:
            refused["incomplete"] += 1
            continue
        reason = _refused(patient, diagnose) or (
            "too near to another case" if neighborhood.admit(next(patient.cases())) else ""
        )
        if reason:
            refused[reason] += 1
            continue
        made.append(patient)
        in_vain = 0
        progress(len(made))
    return Synthesis(tuple(made), neighborhood.limit, neighborhood.nearest, refused)


class _Base(NamedTuple):
    """A life: a patient in one situation, without names."""

    patient: Patient
    history: tuple[Clause, ...]
    openings: tuple[str, ...]
    situation: tuple[Clause, ...]
    inner: Mapping[str, tuple[Clause, ...]]
    """By part: what else is known, without names."""


_LASTING = (
    "core_beliefs",
    "intermediate_beliefs",
    "intermediate_beliefs_depression",
    "coping_strategies",
)
_PASSING = ("automatic_thoughts", "emotions", "behaviors")


def _bases(patient: Patient, lives: Lives) -> Iterator[_Base]:
    def nameless(clauses: Sequence[Clause]) -> tuple[Clause, ...]:
        return tuple(one for clause in clauses if (one := lives.nameless(clause)) is not None)

    history = nameless(patient.history)
    lasting = {part: nameless(getattr(patient.beliefs, part)) for part in _LASTING}
    for each in patient.situations:
        openings = tuple(line for line in each.openings if not lives.names_in(line))
        situation = nameless(each.situation)
        passing = {part: nameless(getattr(each, part)) for part in _PASSING}
        if len(history) >= 4 and len(situation) >= 2 and len(openings) >= 2:
            yield _Base(patient, history, openings, situation, {**lasting, **passing})


def _loosened(patient: Patient, lives: Lives) -> dict[str, list[Loose]]:
    parts = {part: list(getattr(patient.beliefs, part)) for part in _LASTING}
    parts |= {part: [c for each in patient.situations for c in getattr(each, part)]
              for part in _PASSING}  # fmt: skip
    parts["history"] = list(patient.history)
    return {part: list(lives.loose(patient.id, clauses)) for part, clauses in parts.items()}


def _composed(
    identity: str, base: _Base, donors: Mapping[str, Sequence[Loose]], random: Random
) -> Patient:
    owners: dict[str, None] = {base.patient.id: None}

    def drawn(part: str, share: float) -> list[Clause]:
        others = random.sample(donors[part], len(donors[part]))
        mine = random.sample(base.inner[part], len(base.inner[part]))
        wanted = random.randint(2, 3)
        found: list[Clause] = []
        while len(found) < wanted and (others or mine):
            if others and (not mine or random.random() < share):
                loose = others.pop()
                if any(loose.clause.text == clause.text for clause in found):
                    continue
                owners[loose.owner] = None
                found.append(loose.clause)
            else:
                clause = mine.pop()
                if all(clause.text != other.text for other in found):
                    found.append(clause)
        return found

    beliefs = {part: drawn(part, _LASTING_SHARE) for part in _LASTING}
    # What a situation sets off is mostly its own.
    passing = {part: drawn(part, _PASSING_SHARE) for part in _PASSING}
    kept = random.randint(4, len(base.history))
    history = [base.history[i] for i in sorted(random.sample(range(len(base.history)), kept))]
    parts = random.randint(2, len(base.situation))
    situation = [
        base.situation[i] for i in sorted(random.sample(range(len(base.situation)), parts))
    ]
    patient = base.patient
    return Patient(
        id=identity,
        name=NAME,
        split=patient.split,
        source=SOURCE,
        synthetic=True,
        parents=tuple(owners),
        presentation=patient.presentation,
        style=random.choice(tuple(Style)),
        demographics=patient.demographics,
        history=tuple(history),
        strengths=patient.strengths,
        past_treatments=patient.past_treatments,
        reference=patient.reference,
        beliefs=Beliefs.model_validate(beliefs),
        situations=(
            Situation(
                id=f"{identity}-1",
                openings=base.openings,
                situation=tuple(situation),
                **{part: tuple(clauses) for part, clauses in passing.items()},
            ),
        ),
    )


def _refused(patient: Patient, diagnose: Diagnostician) -> str:
    """Why a composed patient is none, apart from its distance to others; empty when it is one."""
    if len(patient.parents) < 2:
        return "made from one patient alone"
    case = next(patient.cases())
    subject = Subject(case, Nearest("", -1.0), ())
    for name in _KEPT_CHECKS:
        if CHECKS[name](subject).problems:
            return f"check {name}"
    rank = rank_of(patient.reference[0].code, tuple(diagnose(spoken_lines(case)))) \
        if patient.reference else 1  # fmt: skip
    if rank is None or rank > _RANK:
        return "does not speak for its diagnosis"
    return ""
