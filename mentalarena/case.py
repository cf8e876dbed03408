"""What a patient holds: the pydantic model of a person, a case and its hidden record.

Why: everything else (encoder, decoder, seats, splits, training) stands on this one description.
The hidden part follows Beck's cognitive conceptualization diagram (J. S. Beck, *Cognitive
Behavior Therapy: Basics and Beyond*). A *patient* is a person with one or more *situations*;
a :class:`Case` is one person in one of them. The file format is the patient record
(:class:`Patient`), because what a person believes is written once and splits are by person.
"""

import hashlib
import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from mentalarena.component import COMPONENTS as COMPONENTS
from mentalarena.component import Component as Component

CLOSED_LISTS: dict[Component, tuple[str, ...]] = {
    # Beck's three families of negative core beliefs, in words of our own; two adaptive ones, so
    # that a person is not only their difficulties.
    Component.CORE_BELIEFS: (
        "helpless: incompetent",
        "helpless: powerless",
        "helpless: vulnerable",
        "helpless: trapped",
        "helpless: failure",
        "helpless: out of control",
        "unlovable: unwanted",
        "unlovable: different",
        "unlovable: rejected",
        "unlovable: alone",
        "worthless: bad",
        "worthless: burden",
        "worthless: undeserving",
        "worthless: defective",
        "other people: untrustworthy",
        "world: dangerous",
        "self: special",
        "self: competent",
    ),
    Component.EMOTIONS: (
        "sad",
        "anxious",
        "angry",
        "guilty",
        "ashamed",
        "hopeless",
        "lonely",
        "hurt",
        "disgusted",
        "jealous",
        "suspicious",
        "disappointed",
        "numb",
        "overwhelmed",
        "elated",
        "irritable",
        "afraid",
        "relieved",
    ),
}
"""Closed vocabularies; a clause of these components is one of these labels."""


class Style(StrEnum):
    """How a patient converses, whatever the subject."""

    PLAIN = "plain"
    VERBOSE = "verbose"
    TANGENTIAL = "tangential"
    HOSTILE = "hostile"
    GUARDED = "guarded"
    INGRATIATING = "ingratiating"


Split = Literal["train", "dev", "test"]
DisorderGroup = Literal[
    "depressive",
    "anxiety",
    "obsessive-compulsive",
    "trauma",
    "bipolar",
    "psychotic",
    "eating",
    "substance-use",
    "personality",
    "sleep",
    "neurodevelopmental",
    "adjustment",
]
Presentation = Literal[DisorderGroup, "subthreshold", "unknown"]
"""``unknown`` is for imported people whose source does not say."""
Varied = Literal["age", "gender", "name", "culture"]
"""What a counterfactual pair differs in."""

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]
Spoken = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
"""What a patient may say in one go."""
Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]


class Record(BaseModel):
    """Base of everything read from a case file: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Clause(Record):
    """One statement of the record, and the patient's own ways to say it."""

    text: Text
    """The record's wording: hidden, never spoken."""
    utterances: tuple[Spoken, ...] = ()
    """First-person sentences with the same content in other words, written apart from ``text``."""


Clauses = Annotated[tuple[Clause, ...], Field(min_length=1, max_length=12)]


class Demographics(Record):
    """Who the patient is; what an import does not know is ``unknown``, an age is None."""

    age: Annotated[int, Field(ge=12, le=110)] | None
    gender: Text
    culture: Text
    languages: Text
    work: Text
    family: Text


class PastTreatment(Record):
    """What was tried before, and what came of it; a plan that repeats it fits less or more."""

    name: Text
    outcome: Literal["helped", "partly", "nothing", "worse"]


class Reference(Record):
    """Reference diagnosis: an ICD-10-CM chapter F code (or a Z code below any threshold)."""

    code: Annotated[str, StringConstraints(pattern=r"^[FZ]\d\d(\.[0-9A-Z]{1,4})?$")]
    label: Text


class Situation(Record):
    """What brings the patient here this time, and what it sets off."""

    id: Identifier
    openings: Annotated[tuple[Spoken, ...], Field(min_length=1)]
    """First lines the patient may open with: a complaint, not a summary of the record."""
    situation: Clauses
    automatic_thoughts: Clauses
    emotions: Clauses
    behaviors: Clauses


class Beliefs(Record):
    """The lasting part of the cognitive model."""

    core_beliefs: Clauses
    intermediate_beliefs: Clauses
    intermediate_beliefs_depression: Clauses
    coping_strategies: Clauses


class CognitiveModel(Record):
    """The seven components that a record states; behavior principles are matched by the encoder."""

    core_beliefs: Clauses
    intermediate_beliefs: Clauses
    intermediate_beliefs_depression: Clauses
    coping_strategies: Clauses
    automatic_thoughts: Clauses
    emotions: Clauses
    behaviors: Clauses

    def clauses(self, component: Component) -> tuple[Clause, ...]:
        """The clauses of one component; behavior principles are not part of a record."""
        return getattr(self, component.value)  # type: ignore[no-any-return]

    @model_validator(mode="after")
    def _labels_are_in_the_closed_lists(self) -> "CognitiveModel":
        for component, labels in CLOSED_LISTS.items():
            for position, clause in enumerate(self.clauses(component)):
                if clause.text not in labels:
                    raise ValueError(
                        f"{component.value}.{position}.text: {clause.text[:60]!r} is not one of: "
                        + ", ".join(labels)
                    )
        return self


class Person(Record):
    """What is true of somebody in every situation."""

    id: Identifier
    name: Text
    split: Split
    source: Text
    synthetic: bool = False
    parents: tuple[Identifier, ...] = ()
    """Patients that a synthetic one was made from; the original of a counterfactual one."""
    varied: Varied | None = None
    """The one attribute in which a counterfactual patient differs from its original."""
    presentation: Presentation
    style: Style
    demographics: Demographics
    history: Clauses
    """Symptoms, course, life events: what a diagnosis rests on."""
    strengths: tuple[Text, ...] = ()
    past_treatments: tuple[PastTreatment, ...] = ()
    reference: tuple[Reference, ...] = ()
    """Main diagnosis first, comorbid ones after it; empty when unknown."""


class Case(Person):
    """One patient in one situation: the unit that an episode plays. Hidden from the therapist."""

    patient_id: Identifier
    openings: Annotated[tuple[Spoken, ...], Field(min_length=1)]
    situation: Clauses
    cognitive_model: CognitiveModel

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON: two cases that differ anywhere differ here."""
        plain = self.model_dump(mode="json")
        if self.varied is None:
            # Left out, so that the cases of older stores keep the hashes they were played under.
            del plain["varied"]
        canonical = json.dumps(plain, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


class Patient(Person):
    """A person as written in a case file (``*.json`` holds one, ``*.jsonl`` one a line)."""

    beliefs: Beliefs
    situations: Annotated[tuple[Situation, ...], Field(min_length=1)]

    def cases(self) -> Iterator[Case]:
        """One :class:`Case` per situation."""
        shared = {name: getattr(self, name) for name in Person.model_fields if name != "id"}
        for situation in self.situations:
            model = CognitiveModel(
                **{name: getattr(self.beliefs, name) for name in Beliefs.model_fields},
                automatic_thoughts=situation.automatic_thoughts,
                emotions=situation.emotions,
                behaviors=situation.behaviors,
            )
            yield Case(
                id=situation.id,
                patient_id=self.id,
                openings=situation.openings,
                situation=situation.situation,
                cognitive_model=model,
                **shared,
            )

    @model_validator(mode="after")
    def _every_situation_is_a_case(self) -> "Patient":
        ids = [situation.id for situation in self.situations]
        if len(set(ids)) != len(ids):
            raise ValueError("situations: two situations share an id")
        list(self.cases())
        return self


class Principle(Record):
    """A behavior principle: how a person tends to act in the conversation itself."""

    id: Identifier
    group: Identifier
    text: Text
    utterances: tuple[Text, ...] = ()
    """First-person lines by which a patient shows or admits it, not repeating ``text``."""


class PrincipleGroup(Record):
    """A family of behavior principles."""

    id: Identifier
    name: Text
    principles: Annotated[tuple[Principle, ...], Field(min_length=1)]
