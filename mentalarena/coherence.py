"""What of one patient's record can be another's: the life in it, found by rule.

Why: a belief belongs to many people, a seamstress's spoiled sleeve to one. Before a clause of one
patient becomes part of another, its text and its utterances are searched for what ties them to a
life: names, other people, words that only this patient's circumstances explain. Lists and counts,
so that a refusal can be explained by pointing at a word; they let some odd combinations through,
and docs/cases.md says so.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from mentalarena.case import CLOSED_LISTS, Clause, Patient, Presentation

_LISTS = tomllib.loads(
    (resources.files("mentalarena") / "data" / "life_words.toml").read_text("utf-8")
)
_OTHERS = frozenset(_LISTS["others"].split())
_DATES = frozenset(_LISTS["dates"].split())
_LABELS = frozenset(label for labels in CLOSED_LISTS.values() for label in labels)
"""They are nobody's own."""
_CAPITAL = re.compile(r"(?P<inside>(?<=[\w,;:)] ))?\b(?P<word>[A-Z][a-z]+)\b")
_FEW = 2
"""A word that so many patients use, or fewer, is part of a life when its owner's circumstances
hold it too."""
_EVERYDAY = 4
"""Letters up to which a word says too little to tie anything to a life."""

_GENERAL: frozenset[Presentation] = frozenset(
    ("depressive", "anxiety", "adjustment", "subthreshold")
)
"""Presentations whose thoughts and ways of coping are met in every other."""
_BELIEFS_OF = _GENERAL | {"trauma", "personality", "sleep", "neurodevelopmental"}
"""Presentations whose beliefs are; those of the others are about food, voices, germs or drink."""


class Loose(NamedTuple):
    """A clause without a life: what is left of it, and whose it was."""

    owner: str
    clause: Clause


def compatible(base: Patient, donor: Patient, part: str) -> bool:
    """Whether a part of what the donor holds could be found in somebody like the base.

    Most beliefs are of more than one disorder; what people do and think because of them is not. A
    teenager's rules and a pensioner's are about other things.
    """
    one, other = base.demographics.age, donor.demographics.age
    if one is not None and other is not None and (one < 20) != (other < 20):
        return False
    beliefs = part.endswith("beliefs") or part == "intermediate_beliefs_depression"
    general = _BELIEFS_OF if beliefs else _GENERAL
    return donor.presentation == base.presentation or donor.presentation in general


@cache
def _lower_case(patients: tuple[Patient, ...]) -> frozenset[str]:
    """Words that these patients' texts have in lower case: no names, though some have a capital."""
    # Ids are first names in lower case.
    left_out: Any = {"id": True, "parents": True, "situations": {"__all__": {"id"}}}
    texts = " ".join(patient.model_dump_json(exclude=left_out) for patient in patients)
    return frozenset(re.findall(r"\b[a-z]+\b", texts))


def stems(text: str) -> set[str]:
    """Words without common endings."""
    found = re.findall(r"[a-z]+", text.lower().replace("'", "").replace("\u2019", ""))
    return {re.sub(r"(?:ing|ed|es|s|ly|er)$", "", word) for word in found}


def _circumstances(patient: Patient) -> str:
    """What the record says of the patient's life, and not only of how it is."""
    who = patient.demographics
    parts = [who.culture, who.languages, who.work, who.family, *patient.strengths]
    clauses = [*patient.history, *(one for each in patient.situations for one in each.situation)]
    return " ".join([*parts, *(clause.text for clause in clauses)])


class Lives:
    """The lives of some patients, by the words that only they explain."""

    def __init__(self, patients: Sequence[Patient]) -> None:
        self._words = _lower_case(tuple(patients))
        own = {patient.id: stems(_circumstances(patient)) for patient in patients}
        used = Counter(stem for found in own.values() for stem in found)
        self._own = {
            identity: {stem for stem in found if used[stem] <= _FEW and len(stem) > _EVERYDAY}
            for identity, found in own.items()
        }

    def names_in(self, text: str) -> set[str]:
        """People, places and brands: capitals inside a sentence, or of a word met nowhere else.

        The calendar's names are everybody's.
        """
        found = {
            one["word"]
            for one in _CAPITAL.finditer(text)
            if one["inside"] is not None or one["word"].lower() not in self._words
        }
        return {word for word in found if word.lower() not in _DATES}

    def nameless(self, clause: Clause, least: int = 1) -> Clause | None:
        """The clause without utterances that name somebody; None when too few are left."""
        if self.names_in(clause.text):
            return None
        kept = tuple(line for line in clause.utterances if not self.names_in(line))
        return clause.model_copy(update={"utterances": kept}) if len(kept) >= least else None

    def ties(self, owner: str, text: str) -> set[str]:
        """What ties a text to its owner's life; empty when anybody might say it."""
        plain = set(re.findall(r"[a-z]+", text.lower()))
        return self.names_in(text) | (plain & _OTHERS) | (stems(text) & self._own[owner])

    def loose(self, owner: str, clauses: Sequence[Clause], least: int = 1) -> Iterator[Loose]:
        """The clauses that can be somebody else's, with the utterances that can."""
        for clause in clauses:
            if clause.text not in _LABELS and self.ties(owner, clause.text):
                continue
            kept = tuple(line for line in clause.utterances if not self.ties(owner, line))
            if len(kept) >= least:
                yield Loose(owner, clause.model_copy(update={"utterances": kept}))
