"""Words of the hidden record in a therapist's row that no patient had spoken.

Why: by construction no therapist is shown the record, but a dataset is made from whatever a store
holds: oracle guidance that a question repeats, a case file whose patient was played by a person
who read out the record, a change to the code that broke the barrier. A span of five words is the
measure, because nothing that a built-in patient may say shares as many with its record.
"""

from collections.abc import Iterator
from functools import lru_cache

from mentalarena.case import CLOSED_LISTS, COMPONENTS, Case, Component
from training.examples import Example
from training.overlap import runs, words

SPAN = 5
"""Words in a row. A shorter clause counts as a whole, from :data:`SHORTEST` words on."""
SHORTEST = 3
LETTERS = 5
"""A span without any word of so many letters ("I do not know what") is nobody's secret."""

Grams = frozenset[tuple[str, ...]]


def leaked(example: Example, text: str, fixed: str) -> bool:
    """Whether a row's text carries a span of its record that the patient had not spoken before.

    Args:
        example: The row.
        text: Prompt and answer together.
        fixed: The template's own words, which stand in every prompt.
    """
    if example.trajectory is None or example.role == "patient" or example.source == "record":
        return False
    principle = example.trajectory.principle
    hidden = _hidden(example.trajectory.case, principle.text if principle else "")
    found = {gram for length, grams in hidden.items() for gram in _grams(text, length) & grams}
    if not found:
        return False
    for heard in (*example.heard, fixed):
        found -= {gram for length in hidden for gram in _grams(heard, length)}
    return bool(found)


@lru_cache(maxsize=512)
def _hidden(case: Case, principle: str) -> dict[int, Grams]:
    """Spans of everything that only the patient knows, by their length.

    Closed lists are left out: every formulation request names all of their labels.
    """
    found: dict[int, set[tuple[str, ...]]] = {}
    for text in (*_texts(case), principle):
        length = min(SPAN, len(words(text)))
        if length >= SHORTEST:
            telling = (gram for gram in _grams(text, length) if max(map(len, gram)) >= LETTERS)
            found.setdefault(length, set()).update(telling)
    return {length: frozenset(grams) for length, grams in found.items()}


def _texts(case: Case) -> Iterator[str]:
    clauses = [*case.history, *case.situation]
    for component in COMPONENTS:
        if component not in CLOSED_LISTS and component is not Component.BEHAVIOR_PRINCIPLES:
            clauses += case.cognitive_model.clauses(component)
    yield from case.strengths
    for clause in clauses:
        yield clause.text
        yield from clause.utterances


@lru_cache(maxsize=4096)
def _grams(text: str, length: int) -> Grams:
    return frozenset(runs(words(text), length))
