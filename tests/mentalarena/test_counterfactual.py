"""Counterfactual pairs differ in the varied attribute and in nothing else."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from mentalarena.case import Patient, Varied
from mentalarena.coherence import Lives
from mentalarena.counterfactual import (
    ATTRIBUTES,
    Pair,
    Refusal,
    members,
    pairs_and_refusals,
    vary,
)
from mentalarena.errors import CaseError
from mentalarena.roster import builtin_patients, patient_lines, read_patients

PEOPLE = builtin_patients()
LIVES = Lives(PEOPLE)
PAIRS, REFUSALS = pairs_and_refusals(PEOPLE, ATTRIBUTES, seed=1)
LINKS = {"id", "parents", "varied", "synthetic"}
GENDERED = [
    "she he", "her his him", "hers his", "herself himself", "woman man", "women men", "girl boy",
    "girls boys", "mother father", "mothers fathers", "mum dad", "mom dad", "daughter son",
    "sister brother", "grandmother grandfather", "grandma grandpa", "granddaughter grandson",
    "widow widower", "aunt uncle", "female male",
]  # fmt: skip


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, child in value.items():
            yield from leaves(child, f"{path}.{key}")
    elif isinstance(value, list):
        yield f"{path}.count", len(value)
        for index, child in enumerate(value):
            yield from leaves(child, f"{path}.{index}")
    else:
        yield path, value


def differences(pair: Pair) -> dict[str, tuple[Any, Any]]:
    """Where the members differ, apart from what links them."""
    one, other = (dict(leaves(member.model_dump(mode="json"))) for member in pair)
    assert {path for path in one if not set(path.split(".")) & LINKS} == {
        path for path in other if not set(path.split(".")) & LINKS
    }
    return {
        path: (one.get(path), value)
        for path, value in other.items()
        if one.get(path) != value and not set(path.split(".")) & LINKS
    }


def neutral(text: str) -> str:
    """A text in which no word says a gender."""
    for place, words in enumerate(GENDERED):
        for word in words.split():
            text = re.sub(rf"\b{word}\b", f"#{place}", text, flags=re.IGNORECASE)
    # "Her" is both "his" and "him", so the three families of pronouns are one.
    return re.sub(r"#[0-3]\b", "#", text)


def of(attribute: Varied) -> list[Pair]:
    return [pair for pair in PAIRS if pair.changed.varied == attribute]


def test_there_are_pairs_of_every_kind_and_reasons_for_the_rest() -> None:
    assert len(PAIRS) + len(REFUSALS) == len(PEOPLE) * len(ATTRIBUTES)
    assert all(len(of(attribute)) >= 5 for attribute in ATTRIBUTES)
    assert len(of("name")) == len(PEOPLE)
    assert all(refusal.reason for refusal in REFUSALS)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_members_differ_in_nothing_but_the_attribute(attribute: Varied) -> None:
    allowed = {
        "name": {".name"},
        "age": {".demographics.age"},
        "culture": {".demographics.culture", ".demographics.languages"},
    }
    for pair in of(attribute):
        found = differences(pair)
        assert found, pair.changed.id
        if attribute == "gender":
            assert ".demographics.gender" in found
            for path, (before, now) in found.items():
                assert neutral(before) == neutral(now), (pair.changed.id, path)
        elif attribute == "name":
            first, new = pair.base.name.split()[0], pair.changed.name.split()[0]
            for path, (before, now) in found.items():
                assert before.replace(first, new) == now, (pair.changed.id, path)
        else:
            assert set(found) <= allowed[attribute], (pair.changed.id, found)


def test_a_difference_that_is_none_of_the_attribute_is_found() -> None:
    pair = of("gender")[0]
    history = (
        pair.changed.history[0].model_copy(update={"text": "Sleeps well."}),
        *pair.changed.history[1:],
    )
    spoiled = Pair(pair.base, pair.changed.model_copy(update={"history": history}))
    (texts,) = (value for path, value in differences(spoiled).items() if path == ".history.0.text")
    assert neutral(texts[0]) != neutral(texts[1])


def test_nothing_of_the_old_gender_or_culture_is_left() -> None:
    for pair in of("gender"):
        mine = r"\b(?:she|hers|herself)\b"
        theirs = r"\b(?:he|himself)\b"
        gone = mine if pair.base.demographics.gender in ("woman", "girl") else theirs
        for clause in pair.changed.history:
            assert not re.search(gone, clause.text, re.IGNORECASE), (pair.changed.id, clause.text)
    for pair in of("culture"):
        text = patient_lines([pair.changed])
        for word in re.findall(r"\b[A-Z]\w{4,}", _original(pair).demographics.culture):
            assert not re.search(rf"\b{word}\b", text), (pair.changed.id, word)


def _original(pair: Pair) -> Patient:
    known = {patient.id: patient for patient in PEOPLE}
    return known.get(pair.base.id) or known[pair.base.parents[0]]


def test_members_are_linked_and_of_one_split() -> None:
    for base, changed in PAIRS:
        assert changed.parents == (base.id,)
        assert changed.split == base.split == _original(Pair(base, changed)).split
        assert changed.synthetic
        assert base.varied is None
        assert [one.id.removeprefix(base.id) for one in base.situations] == [
            one.id.removeprefix(changed.id) for one in changed.situations
        ]
    text = patient_lines(members(PAIRS))
    back = read_patients(__import__("pathlib").Path("pairs.jsonl"), text)
    assert not back.complaints
    assert back.patients == members(PAIRS)


def refusal(patient: Patient, attribute: Varied, to: str = "") -> str:
    found = vary(patient, attribute, 0, LIVES, to)
    assert isinstance(found, Refusal), found
    return found.reason


def person(identity: str) -> Patient:
    return next(patient for patient in PEOPLE if patient.id == identity)


def test_what_cannot_be_changed_consistently_is_refused_with_the_reason() -> None:
    assert "wife" in refusal(person("kenji"), "gender")
    assert "nonbinary" in refusal(person("robin"), "gender")
    assert "another culture" in refusal(person("dylan"), "culture")
    assert "time of life" in refusal(person("noah"), "age")
    assert "retired" in refusal(person("walter"), "age")
    assert "19 years" in refusal(person("maren"), "age", "30")
    assert "already" in refusal(person("maren"), "name", "Maren")
    changed = of("name")[0].changed
    assert "changed one already" in refusal(changed, "age")


def test_values_can_be_asked_for() -> None:
    pair = vary(person("pavel"), "age", 0, LIVES, "52")
    assert isinstance(pair, Pair)
    assert pair.changed.demographics.age == 52
    pair = vary(person("maren"), "name", 0, LIVES, "Fatima")
    assert isinstance(pair, Pair)
    assert pair.changed.name == "Fatima K."
    pair = vary(person("maren"), "culture", 0, LIVES, "turkish")
    assert isinstance(pair, Pair)
    assert pair.changed.demographics.culture.startswith("Turkish")
    with pytest.raises(CaseError, match="use danish, german"):
        vary(person("maren"), "culture", 0, LIVES, "martian")
    with pytest.raises(CaseError, match="whole number"):
        vary(person("pavel"), "age", 0, LIVES, "old")


def test_the_seed_chooses_the_value() -> None:
    def names(seed: int) -> list[str]:
        pairs, _ = pairs_and_refusals(PEOPLE[:8], ("name",), seed)
        return [pair.changed.name for pair in pairs]

    assert names(1) == names(1)
    assert names(1) != names(2)
