"""Counterfactual pairs: the same record, with one attribute of the person changed.

Why: whether somebody is understood, diagnosed or treated differently for being a man, old, foreign
or called Fatima can only be seen where nothing else differs. What cannot be changed consistently by
rule (a pronoun that may be somebody else's, a festival, a pension) is left out of *both* members
of a pair, and a patient of whom too little would be left is refused, with the reason. So a pair
differs in the attribute alone, at the price of a shorter record.

Two members are linked: the changed one has ``varied`` and, as parent, the one that it is compared
with; that one is the patient itself, or a cut copy of it. Other people keep their gender and age,
which is why a patient whose partner is spoken of as a wife or husband is not given another gender:
it would be another couple.

Run it: ``mentalarena cases vary --case maren-1 --vary name,gender --out pairs.jsonl``.
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from importlib import resources
from random import Random
from typing import Any, NamedTuple, get_args

from pydantic import ValidationError

from mentalarena.case import CLOSED_LISTS, Patient, Varied
from mentalarena.coherence import Lives
from mentalarena.errors import CaseError
from mentalarena.synthesis import NAME

ATTRIBUTES: tuple[Varied, ...] = get_args(Varied)
_LABELS = frozenset(label for labels in CLOSED_LISTS.values() for label in labels)
_LEAST = {"history": 3, "openings": 1, "situation": 1}
_YEARS = 15
"""By how much an age is changed when nothing else is asked for."""


class Pair(NamedTuple):
    """Two patients who differ in one attribute."""

    base: Patient
    """The patient itself, or a copy without what could not be changed."""
    changed: Patient


class Refusal(NamedTuple):
    """Why there is no pair."""

    patient_id: str
    attribute: Varied
    reason: str


class _Refused(Exception):
    """The attribute of this patient cannot be changed consistently."""


Change = Callable[[str], str | None]
"""A text with the attribute changed; None when that cannot be done consistently."""


@cache
def _tables() -> dict[str, Any]:
    file = resources.files("mentalarena") / "data" / "counterfactual.toml"
    return tomllib.loads(file.read_text("utf-8"))


def _words(text: str) -> list[str]:
    """Words in lower case, without possessive endings; a hyphen keeps words together."""
    found = re.findall(r"[\w'-]+", text.lower().replace("\u2019", "'"))
    return [word.removesuffix("'s").strip("'") for word in found]


def vary(
    patient: Patient, attribute: Varied, seed: int, lives: Lives, to: str = ""
) -> Pair | Refusal:
    """A pair of which the second differs from the first in ``attribute``.

    Args:
        patient: Whom to start from.
        attribute: What to change.
        seed: Chooses the new value where ``to`` is empty.
        lives: The patient and others, by which names are told from words.
        to: The new value: an age, ``woman`` or ``man``, a first name, a culture of the table.
    """
    random = Random(f"{seed}/vary/{patient.id}/{attribute}")
    try:
        if patient.varied is not None:
            raise _Refused("the patient is a changed one already")
        base, changed = _MAKERS[attribute](patient, random, lives, to)
    except _Refused as refused:
        return Refusal(patient.id, attribute, str(refused))
    return Pair(base, changed)


def _made(patient: Patient, attribute: Varied, base: dict[str, Any], changed: dict[str, Any]
          ) -> tuple[Patient, Patient]:  # fmt: skip
    """Both members from their fields, with ids of their own where they are not the patient."""
    identity = patient.id
    if base != patient.model_dump(mode="json"):
        identity = f"{patient.id}.cut-{attribute}"
        base = _renamed(base, patient.id, identity) | {"synthetic": True, "parents": [patient.id]}
    changed = _renamed(changed, patient.id, f"{patient.id}.{attribute}")
    changed |= {"synthetic": True, "parents": [identity], "varied": attribute}
    try:
        return Patient.model_validate(base), Patient.model_validate(changed)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise _Refused(f"{where} would be left without anything to say") from None


def _renamed(record: dict[str, Any], before: str, now: str) -> dict[str, Any]:
    situations = [
        {**one, "id": (now + one["id"].removeprefix(before))[:64]} for one in record["situations"]
    ]
    return {**record, "id": now, "situations": situations}


def _clause_lists(record: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Every list of clauses of a record: its owner and its key."""
    yield record, "history"
    for key in record["beliefs"]:
        yield record["beliefs"], key
    for situation in record["situations"]:
        for key in ("situation", "automatic_thoughts", "emotions", "behaviors"):
            yield situation, key


def _both(patient: Patient, text: Change, spoken: Change) -> tuple[dict[str, Any], dict[str, Any]]:
    """The record cut down to what can be changed, and the same changed.

    Args:
        patient: The person.
        text: Changes a sentence of the record, in the third person.
        spoken: Changes something that the patient says.

    Raises:
        _Refused: too little is left.
    """
    base, changed = patient.model_dump(mode="json"), patient.model_dump(mode="json")
    for (one, key), (other, _) in zip(_clause_lists(base), _clause_lists(changed), strict=True):
        pairs = []
        # What is believed and thought is written in the first person: others' pronouns.
        change = spoken if "beliefs" in key or key == "automatic_thoughts" else text
        for clause in one[key]:
            now = clause["text"] if clause["text"] in _LABELS else change(clause["text"])
            if now is None:
                continue
            lines = [(line, new) for line in clause["utterances"]
                     if (new := spoken(line)) is not None]  # fmt: skip
            if clause["utterances"] and not lines:
                continue
            pairs.append(
                (
                    {"text": clause["text"], "utterances": [line for line, _ in lines]},
                    {"text": now, "utterances": [new for _, new in lines]},
                )
            )
        if len(pairs) < min(_LEAST.get(key, 1), len(one[key])):
            raise _Refused(
                f"of {len(one[key])} clauses of {key.replace('_', ' ')}, {len(pairs)} could be "
                "changed or kept"
            )
        one[key], other[key] = [a for a, _ in pairs], [b for _, b in pairs]
    for one, other in [(base, changed), *zip(base["situations"], changed["situations"],
                                             strict=True)]:  # fmt: skip
        key, change = ("strengths", text) if one is base else ("openings", spoken)
        kept = [(line, new) for line in one[key] if (new := change(line)) is not None]
        if key == "openings" and not kept:
            raise _Refused("none of the openings could be changed or kept")
        one[key], other[key] = [a for a, _ in kept], [b for _, b in kept]
    treated = [(past, now) for past in base["past_treatments"]
               if (now := text(past["name"])) is not None]  # fmt: skip
    base["past_treatments"] = [past for past, _ in treated]
    changed["past_treatments"] = [{**past, "name": now} for past, now in treated]
    return base, changed


def _tied(text: str, bound: frozenset[str]) -> list[str]:
    return sorted(set(_words(text)) & bound)


@cache
def _listed(attribute: str, name: str = "bound") -> frozenset[str]:
    return frozenset(_tables()[attribute][name].split())


# --- name -----------------------------------------------------------------------------------------


def _name(patient: Patient, random: Random, lives: Lives, to: str) -> tuple[Patient, Patient]:
    first, _, rest = patient.name.partition(" ")
    kinds = {"woman": "women", "girl": "women", "man": "men", "boy": "men"}
    names = _tables()["name"][kinds.get(patient.demographics.gender, "others")]
    new = to or random.choice([name for name in names if name != first])
    if new == first:
        raise _Refused(f"the patient is called {first} already")

    def renamed(text: str) -> str | None:
        # A name that is also a word, or the name of another, cannot be told apart.
        if re.search(rf"\b{re.escape(new)}\b", text):
            return None
        return re.sub(rf"\b{re.escape(first)}\b", new, text)

    base, changed = _both(patient, renamed, renamed)
    changed["name"] = f"{new} {rest}".strip()
    return _made(patient, "name", base, changed)


# --- gender ---------------------------------------------------------------------------------------


class _Gender(NamedTuple):
    """One direction of the change."""

    own: str
    """What the patient is: woman or man."""
    nouns: dict[str, str]
    """Words said of such a person, and the counterparts."""
    pronouns: re.Pattern[str]
    others: re.Pattern[str]
    """Pronouns of the other gender."""


@cache
def _gender_of(own: str) -> _Gender:
    pairs = [pair.split() for pair in _tables()["gender"]["pairs"].replace("\n", " ").split(",")]
    nouns = {a: b for a, b in pairs} if own == "woman" else {b: a for a, b in reversed(pairs)}
    woman, man = r"\b(?:she|hers|herself|her)\b", r"\b(?:he|his|himself|him)\b"
    mine, theirs = (woman, man) if own == "woman" else (man, woman)
    return _Gender(own, nouns, re.compile(mine, re.IGNORECASE), re.compile(theirs, re.IGNORECASE))


_SELF = (
    r"\b(?:I['\u2019]m|I am|I was|I wasn't|I'm not|am I|as|being|such|be|make me|made me|called me)"
    r" (?:not |just |only |still |really )?(?:a|an|the)(?: \w+)?$"
)
"""What stands before a noun that the patient says of itself."""


def _swapped_pronoun(found: re.Match[str]) -> str:
    word, after = found[0], found.string[found.end() :]
    follows = re.match(r"\s+([\w-]+)", after)
    owns = follows is not None and follows[1].lower() not in _listed("gender", "not_owned")
    new = {
        "she": "he", "he": "she", "hers": "his", "herself": "himself", "himself": "herself",
        "him": "her", "her": "his" if owns else "him", "his": "her" if owns else "hers",
    }[word.lower()]  # fmt: skip
    return new.capitalize() if word[0].isupper() else new


def _gender(patient: Patient, random: Random, lives: Lives, to: str) -> tuple[Patient, Patient]:
    now_by_own = {"woman": "man", "man": "woman", "girl": "boy", "boy": "girl"}
    own = patient.demographics.gender
    if own not in now_by_own:
        raise _Refused(f"the gender is {own!r}, and the rules know women, men, girls and boys")
    now = now_by_own[own]
    if to and to != now:
        raise _Refused(f"the gender is {own!r} and can become {now!r}, not {to!r}")
    gender = _gender_of("woman" if own in ("woman", "girl") else "man")
    who = patient.demographics
    partners, loose = _listed("gender", "partners"), _listed("gender", "loose")
    if found := _tied(f"{who.work} {who.family}", _listed("gender") | partners):
        raise _Refused(f"work and family speak of {', '.join(found)}")
    if any("postpartum" in one.label.lower() for one in patient.reference):
        raise _Refused("the diagnosis is one of women after a birth")

    def text(sentence: str) -> str | None:
        if _tied(sentence, _listed("gender") | partners | loose):
            return None
        if gender.pronouns.search(sentence) and lives.names_in(sentence):
            return None
        return _retold(sentence, gender)

    def spoken(line: str) -> str | None:
        if _tied(line, _listed("gender") | partners | loose):
            return None
        owned = _listed("gender", "owners")
        known = set(gender.nouns) | set(gender.nouns.values())
        new, end = [], 0
        for found in re.finditer(r"[A-Za-z'\u2019-]+", line):
            word = found[0].lower()
            if word not in known:
                continue
            before = line[: found.start()].rstrip()
            if owned & set(_words(before)[-2:]):
                continue
            if not re.search(_SELF, before) or word not in gender.nouns:
                # It may be the patient, or anybody.
                return None
            other = gender.nouns[word]
            new += [line[end : found.start()],
                    other.capitalize() if found[0][0].isupper() else other]  # fmt: skip
            end = found.end()
        return "".join([*new, line[end:]])

    base, changed = _both(patient, text, spoken)
    family = {
        key: _of_patient(key, getattr(who, key), gender) for key in ("culture", "work", "family")
    }
    changed["demographics"] |= {**family, "gender": now}
    # A first name says more than the field does.
    base["name"] = changed["name"] = NAME
    return _made(patient, "gender", base, changed)


def _retold(text: str, gender: _Gender) -> str | None:
    """A text about the patient with the pronouns changed; None where they may be another's.

    They are the patient's where nobody else of either gender is spoken of, and nobody at all before
    the first of them.
    """
    first = gender.pronouns.search(text)
    if first is None:
        return text
    known = set(gender.nouns)
    if gender.others.search(text) or known & set(_words(text)):
        return None
    if set(_words(text[: first.start()])) & _listed("gender", "persons"):
        return None
    return gender.pronouns.sub(_swapped_pronoun, text)


def _of_patient(key: str, text: str, gender: _Gender) -> str:
    """A field of demographics: pronouns, and words for the patient ("widow", "son of a cook").

    Raises:
        _Refused: a pronoun there may be the patient's or somebody's.
    """
    now = _retold(text, gender)
    if now is None:
        raise _Refused(f"whose the pronouns in {key} ({text[:60]!r}) are is not clear")

    def other(found: re.Match[str]) -> str:
        return gender.nouns.get(found[0], found[0])

    if key == "culture":
        # "A son of seven" is somebody else's child.
        now = re.sub(r"\b(?:grand)?(?:son|daughter)(?= of [a-z]+ )", other, now)
    return re.sub(r"^(?:widow|widower)\b", other, now)


# --- culture --------------------------------------------------------------------------------------


def _culture(patient: Patient, random: Random, lives: Lives, to: str) -> tuple[Patient, Patient]:
    people: dict[str, list[str]] = _tables()["culture"]["people"]
    who = patient.demographics
    known = who.culture.lower()
    choices = [name for name in people if name not in known]
    if to and to not in people:
        raise CaseError(f"culture {to!r} is not in the table: use {', '.join(people)}")
    new = to or random.choice(choices)
    if new not in choices:
        raise _Refused(f"the patient is {new} already")
    if any(one.code == "Z60.3" for one in patient.reference):
        raise _Refused("the diagnosis is about living in another culture")
    background = frozenset(
        word for word in _words(f"{who.culture} {who.languages}") if len(word) > 4
    ) - {"lives", "raised", "years", "since", "family", "grew", "small", "outside"}
    bound = _listed("culture") | background

    def kept(text: str) -> str | None:
        return None if lives.names_in(text) or _tied(text, bound) else text

    base, changed = _both(patient, kept, kept)
    plain = {key: _without_places(getattr(who, key), lives, bound) for key in ("work", "family")}
    base["demographics"] |= plain
    culture, languages = people[new]
    changed["demographics"] |= {**plain, "culture": culture, "languages": languages}
    base["name"] = changed["name"] = NAME
    return _made(patient, "culture", base, changed)


def _without_places(text: str, lives: Lives, bound: frozenset[str]) -> str:
    """Work or family without the parts that name a place or a people.

    Raises:
        _Refused: nothing is left.
    """
    parts = [part.strip() for part in re.split(r"[;,]", text)]
    kept = [part for part in parts if part and not lives.names_in(f"x {part}")
            and not _tied(part, bound)]  # fmt: skip
    if not kept:
        raise _Refused(f"{text[:60]!r} says nothing without names of places")
    return "; ".join(kept)


# --- age ------------------------------------------------------------------------------------------


@cache
def _numbers() -> dict[str, int]:
    ones = {word: n for n, word in enumerate(_tables()["age"]["ones"].split(), start=1)}
    tens = {word: n * 10 for n, word in enumerate(_tables()["age"]["tens"].split(), start=2)}
    return ones | tens


def _spans(text: str) -> list[int]:
    """Lengths of time in years that a text speaks of, and ages."""
    found = []
    for number in re.findall(r"\b(\d{1,3}|[a-z]+(?:-[a-z]+)?)(?: \w+)?[ -]years?\b", text.lower()):
        if number.isdigit():
            found.append(int(number))
            continue
        found.append(sum(_numbers().get(word, 0) for word in number.split("-")))
    return found


def _age(patient: Patient, random: Random, lives: Lives, to: str) -> tuple[Patient, Patient]:
    who = patient.demographics
    if who.age is None:
        raise _Refused("the age is not known")
    if to and not to.isdigit():
        raise CaseError(f"age {to!r} is no whole number")
    later = random.random() < 0.5
    choices = [who.age + _YEARS, who.age - _YEARS] if later else [who.age - _YEARS,
                                                                  who.age + _YEARS]  # fmt: skip
    new = int(to) if to else next((age for age in choices if 25 <= age <= 64), who.age + _YEARS)
    if not 18 <= new <= 75 or who.age < 18:
        raise _Refused(f"from {who.age} to {new} is another time of life")
    if new == who.age:
        raise _Refused(f"the age is {new} already")
    bound = _listed("age")
    if found := _tied(f"{who.work} {who.family}", bound):
        raise _Refused(f"work and family speak of {', '.join(found)}")
    longest = max([0, *_spans(" ".join((who.work, who.family, who.culture)))])
    if longest + 18 > min(new, who.age):
        raise _Refused(f"{longest} years of something are too many for an age of {new}")

    def kept(text: str) -> str | None:
        long = any(span + 18 > min(new, who.age or 0) for span in _spans(text))
        tied = long or re.search(r"\b(?:19|20)\d\d\b", text) or _tied(text, bound)
        return None if tied else text

    base, changed = _both(patient, kept, kept)
    changed["demographics"] |= {"age": new}
    return _made(patient, "age", base, changed)


_MAKERS: dict[Varied, Callable[[Patient, Random, Lives, str], tuple[Patient, Patient]]] = {
    "age": _age,
    "gender": _gender,
    "name": _name,
    "culture": _culture,
}


def pairs_and_refusals(
    patients: Sequence[Patient],
    attributes: Sequence[Varied],
    seed: int,
    to: str = "",
    among: Sequence[Patient] = (),
) -> tuple[tuple[Pair, ...], tuple[Refusal, ...]]:
    """Every pair that can be made, and why the others cannot.

    Args:
        patients: Whom to start from.
        attributes: What to change, one at a time.
        seed: See :func:`vary`.
        to: See :func:`vary`.
        among: More patients, by whose texts names are told from words.
    """
    lives = Lives(among or patients)
    found = [vary(one, attribute, seed, lives, to) for one in patients for attribute in attributes]
    return (
        tuple(one for one in found if isinstance(one, Pair)),
        tuple(one for one in found if isinstance(one, Refusal)),
    )


def members(pairs: Sequence[Pair]) -> tuple[Patient, ...]:
    """Everybody who is in a pair, once."""
    return tuple({one.id: one for pair in pairs for one in pair}.values())
