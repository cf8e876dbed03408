"""Symptom Encoder: what a case holds, in the form that the decoder compares with.

Why: a patient's behavior in the room is part of what a therapist has to understand, and a record
does not state it. The encoder matches the coping strategies against a library of behavior
principles by sentence similarity and keeps the best principle of the five nearest groups; the
manager seat chooses one of them (MentalArena, arXiv 2410.06845, section on the symptom encoder).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mentalarena.case import Case, Component, Principle, PrincipleGroup
from mentalarena.comparison import Wordings, case_wordings
from mentalarena.similarity import Embedder

TOP_GROUPS = 5


@dataclass(frozen=True, slots=True)
class EncodedSymptoms:
    """Components of a case and the chosen principle: what a formulation is compared with."""

    components: Mapping[Component, tuple[str, ...]]
    """Per component its clauses, as the record words them."""
    wordings: Mapping[Component, Wordings]
    """Per component that is stated in free text: each clause, and the patient's ways to say it."""

    def text(self, component: Component) -> str:
        """One component as running text."""
        return component_text(self.components[component])


def component_text(clauses: Sequence[str]) -> str:
    """The clauses of a component as one text, each ended by a full stop."""
    return " ".join(clause.rstrip(".!? ") + "." for clause in clauses)


def encode(case: Case, principle: Principle) -> EncodedSymptoms:
    """The case's components and the principle chosen for it."""
    components: dict[Component, tuple[str, ...]] = {
        component: tuple(clause.text for clause in case.cognitive_model.clauses(component))
        for component in Component
        if component is not Component.BEHAVIOR_PRINCIPLES
    }
    components[Component.BEHAVIOR_PRINCIPLES] = (principle.text,)
    wordings = case_wordings(case)
    wordings[Component.BEHAVIOR_PRINCIPLES] = ((principle.text, *principle.utterances),)
    return EncodedSymptoms(components, wordings)


def candidates(
    case: Case, groups: Sequence[PrincipleGroup], embedder: Embedder
) -> tuple[tuple[Principle, float], ...]:
    """The best principle of each of the :data:`TOP_GROUPS` nearest groups, best first.

    A group is as near as its nearest principle; the score is the mean over the case's coping
    strategies of the cosine with the principle's text.
    """
    strategies = [clause.text for clause in case.cognitive_model.coping_strategies]
    coping = embedder.vectors(strategies)
    best: list[tuple[Principle, float]] = []
    for group in groups:
        principles = embedder.vectors([principle.text for principle in group.principles])
        scores = (principles @ coping.T).mean(axis=1)
        top = int(np.argmax(scores))
        best.append((group.principles[top], round(float(scores[top]), 6)))
    best.sort(key=lambda pair: (-pair[1], pair[0].id))
    return tuple(best[:TOP_GROUPS])
