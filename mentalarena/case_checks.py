"""Twelve checks of a case's quality, each with its figure.

Why: an episode is as good as its patient. What the decoder and the rule-based seats rely on (a
record in other words than what is spoken, every component filled, a person like nobody else) can be
measured, so it is, on the built-in cases in every test run and on anybody's file by ``mentalarena
cases check FILE``. The checks say that a case is usable; that it is true to life only a clinician
could say.

The ninth check asks a rule-based diagnostician, which a higher package owns and hands in.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import NamedTuple, Protocol

from mentalarena.case import CLOSED_LISTS, Case, Clause, Component
from mentalarena.encoder_process import Vectors
from mentalarena.errors import CaseError
from mentalarena.likeness import nearest_others, signatures
from mentalarena.nosology import family, map_label, name_of
from mentalarena.readability import grade
from mentalarena.similarity import Embedder

GRAM = 5
"""Words in a row that nothing spoken may share with the record."""
RANK = 2
"""The reference must be among as many groups of disorders as a therapist names diagnoses."""
GRADE = 10.0
"""Flesch-Kincaid grade up to which people speak; the built-in ones do between 1.8 and 9."""
LIKENESS = 0.65
"""Below it two cases are two people. Of the first fifteen built-in patients the two that are most
alike are 0.53 alike; two situations of one of them up to 0.78."""
_SHORTEST, _LONGEST = 4, 40
_ENOUGH_WORDS = 12
_OPEN = tuple(c for c in Component if c is not Component.BEHAVIOR_PRINCIPLES)


class Diagnostician(Protocol):
    """Ranks disorders by what is spoken; the rule tables do."""

    def __call__(self, spoken: Iterable[str], /) -> Sequence[str]:
        """Labels that ICD-10-CM knows, the best supported first."""
        ...


class Found(NamedTuple):
    """What one check found in one case."""

    check: str
    figure: str
    """What was measured, as it is shown."""
    problems: tuple[str, ...]
    """One line each; none when the case passes."""


class Nearest(NamedTuple):
    """The other patient that a case is most like."""

    case_id: str
    """Empty when there is no other."""
    likeness: float


class Subject(NamedTuple):
    """A case and what was worked out about it beforehand."""

    case: Case
    nearest: Nearest
    labels: tuple[str, ...]
    """What a diagnostician makes of all that the case can say."""


def words(text: str) -> list[str]:
    """Lower-case words; apostrophes vanish."""
    return re.findall(r"[a-z0-9]+", text.lower().replace("'", "").replace("\u2019", ""))


_FIRST_PERSON = frozenset(words("I I'm I've I'd I'll my me mine myself we us our"))


def grams(text: str, n: int = GRAM) -> set[tuple[str, ...]]:
    """All runs of ``n`` words."""
    tokens = words(text)
    return {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}


def clauses_of(case: Case) -> Iterator[tuple[str, Clause]]:
    """Every clause with its place, e.g. ``history.0``."""
    model = case.cognitive_model
    parts = {"history": case.history, "situation": case.situation}
    parts |= {component.value: model.clauses(component) for component in _OPEN}
    for part, clauses in parts.items():
        for index, clause in enumerate(clauses):
            yield f"{part}.{index}", clause


def spoken_lines(case: Case) -> list[str]:
    """Everything that the patient can say of the record."""
    return [*case.openings, *(line for _, clause in clauses_of(case) for line in clause.utterances)]


def _components(subject: Subject) -> Found:
    problems = []
    fewest = 99
    for component in _OPEN:
        clauses = subject.case.cognitive_model.clauses(component)
        fewest = min(fewest, len(clauses))
        if len(clauses) < 2:
            problems.append(f"{component.value} has {len(clauses)} clause, not 2 or more")
        said = sum(len(words(clause.text)) for clause in clauses)
        if component not in CLOSED_LISTS and said < _ENOUGH_WORDS:
            problems.append(f"{component.value} says {said} words, not {_ENOUGH_WORDS} or more")
    return Found("components", f"at least {fewest} clauses each", tuple(problems))


def _frame(subject: Subject) -> Found:
    case = subject.case
    wanted = {"history": 4, "openings": 2, "situation": 2, "strengths": 2}
    counts = {name: len(getattr(case, name)) for name in wanted}
    problems = [
        f"{name} has {counts[name]}, not {least} or more"
        for name, least in wanted.items()
        if counts[name] < least
    ]
    figure = ", ".join(f"{count} {name}" for name, count in counts.items())
    return Found("frame", figure, tuple(problems))


def _utterances(subject: Subject) -> Found:
    counts = {place: len(clause.utterances) for place, clause in clauses_of(subject.case)}
    problems = [
        f"{place} has {count} utterances, not 2" for place, count in counts.items() if count < 2
    ]
    mean = sum(counts.values()) / len(counts)
    return Found("utterances", f"{mean:.1f} a clause", tuple(problems))


def _repeats(subject: Subject) -> Found:
    seen: dict[str, str] = {}
    problems = []
    for place, clause in clauses_of(subject.case):
        for line in clause.utterances:
            key = " ".join(words(line))
            if key in seen:
                problems.append(f"{place} repeats an utterance of {seen[key]}: {line[:60]!r}")
            seen.setdefault(key, place)
    return Found("repeats", f"{len(seen)} different utterances", tuple(problems))


def _length(subject: Subject) -> Found:
    lengths = {line: len(words(line)) for line in spoken_lines(subject.case)}
    problems = [
        f"{count} words, not {_SHORTEST} to {_LONGEST}: {line[:60]!r}"
        for line, count in lengths.items()
        if not _SHORTEST <= count <= _LONGEST
    ]
    spread = f"{min(lengths.values())} to {max(lengths.values())} words" if lengths else "none"
    return Found("length", spread, tuple(problems))


def _echo(subject: Subject) -> Found:
    record: dict[tuple[str, ...], str] = {}
    for place, clause in clauses_of(subject.case):
        record |= dict.fromkeys(grams(clause.text), place)
    problems = []
    for line in spoken_lines(subject.case):
        shared = [gram for gram in grams(line) if gram in record]
        if shared:
            problems.append(f"{' '.join(shared[0])!r} of {record[shared[0]]} is spoken")
    return Found("echo", f"{len(problems)} lines share {GRAM} words", tuple(problems))


def _name(subject: Subject) -> Found:
    case = subject.case
    own = words(case.name.split()[0])
    problems = [
        f"the patient says the own name: {line[:60]!r}"
        for line in spoken_lines(case)
        if set(own) & set(words(line))
    ]
    return Found("name", f"said {len(problems)} times", tuple(problems))


def _first_person(subject: Subject) -> Found:
    total = own = 0
    problems = []
    for place, clause in clauses_of(subject.case):
        mine = [bool(_FIRST_PERSON & set(words(line))) for line in clause.utterances]
        total += len(mine)
        own += sum(mine)
        if mine and not any(mine):
            problems.append(f"{place} has no utterance in the first person")
    return Found("first person", f"{own} of {total} utterances", tuple(problems))


def diagnosis_group(code: str) -> str:
    """Codes that one presentation covers: the family, or the category of a code in none."""
    found = family(code)
    return code[:3] if found == "other" else found


def rank_of(code: str, labels: Sequence[str]) -> int | None:
    """At which place the group of ``code`` comes among those of the labels, from 1."""
    groups: dict[str, None] = {}
    for label in labels:
        found = map_label(label).code
        if found is not None:
            groups[diagnosis_group(found)] = None
    wanted = diagnosis_group(code)
    return list(groups).index(wanted) + 1 if wanted in groups else None


def _narrative(subject: Subject) -> Found:
    case = subject.case
    if not case.reference:
        return Found("narrative", "no reference", ("there is no reference code to compare with",))
    ranks = [rank_of(reference.code, subject.labels) for reference in case.reference]
    figure = ", ".join(
        f"{reference.code} at rank {rank or 'none'}"
        for reference, rank in zip(case.reference, ranks, strict=True)
    )
    # The main diagnosis has to show; comorbid ones may be told of in passing.
    if ranks[0] is not None and ranks[0] <= RANK:
        return Found("narrative", figure, ())
    first = next((map_label(label).code for label in subject.labels), None)
    problem = f"what is said speaks for {first} first; {case.reference[0].code} is not in {RANK}"
    return Found("narrative", figure, (problem,))


def _reference(subject: Subject) -> Found:
    case = subject.case
    problems = []
    for reference in case.reference:
        try:
            official = name_of(reference.code)
        except CaseError as error:
            problems.append(str(error))
            continue
        meant = map_label(reference.label).code
        if meant is None or diagnosis_group(meant) != diagnosis_group(reference.code):
            problems.append(f"{reference.code} is {official!r}, not {reference.label!r}")
    codes = [reference.code for reference in case.reference]
    if not codes:
        problems.append("there is no reference")
    elif case.presentation == "subthreshold":
        if not codes[0].startswith("Z"):
            problems.append(f"subthreshold, and yet the first code is {codes[0]}")
    elif case.presentation not in {family(code) for code in codes}:
        problems.append(f"none of {', '.join(codes)} is {case.presentation}")
    return Found("reference", ", ".join(codes) or "none", tuple(problems))


def _reading(subject: Subject) -> Found:
    found = grade(spoken_lines(subject.case))
    problems = () if found <= GRADE else (f"grade {found:.1f} is above {GRADE:g}",)
    return Found("reading level", f"grade {found:.1f}", problems)


def _distinct(subject: Subject) -> Found:
    other, likeness = subject.nearest
    if not other:
        return Found("distinct", "nobody to compare with", ())
    problems = () if likeness < LIKENESS else (f"{likeness:.2f} like {other}",)
    return Found("distinct", f"{likeness:.2f} like {other}", problems)


CHECKS: Mapping[str, Callable[[Subject], Found]] = {
    "components": _components,
    "frame": _frame,
    "utterances": _utterances,
    "repeats": _repeats,
    "length": _length,
    "echo": _echo,
    "name": _name,
    "first person": _first_person,
    "narrative": _narrative,
    "reference": _reference,
    "reading level": _reading,
    "distinct": _distinct,
}
"""By name, in the order in which they are shown."""

WHAT: Mapping[str, str] = {
    "components": f"every component has two clauses or more; an open one {_ENOUGH_WORDS} words",
    "frame": "history, openings, situation and strengths are there",
    "utterances": "every clause can be said in two ways or more",
    "repeats": "no utterance is used twice",
    "length": f"whatever is spoken has {_SHORTEST} to {_LONGEST} words",
    "echo": f"nothing spoken shares {GRAM} words in a row with the record",
    "name": "the patient does not say its own name",
    "first person": "every clause can be said in the first person",
    "narrative": f"the reference is among the first {RANK} groups of disorders that the rule "
    "tables find in all that the patient can say",
    "reference": "codes exist, mean what their labels say, and suit the presentation",
    "reading level": f"spoken lines are of grade {GRADE:g} at most (Flesch-Kincaid)",
    "distinct": f"less than {LIKENESS:g} like any other patient's case (sentence encoder)",
}
"""What each check asks for."""


def check_cases(
    cases: Sequence[Case],
    embedder: Embedder,
    diagnose: Diagnostician,
    among: Sequence[Case] = (),
    known: Mapping[str, Vectors] | None = None,
) -> dict[str, tuple[Found, ...]]:
    """All twelve checks of some cases.

    Args:
        cases: What is checked.
        embedder: The sentence encoder.
        diagnose: The rule tables.
        among: Other cases that they have to be distinct from, besides one another; cases of the
            same patients, and the originals of counterfactual ones, are left out.
        known: Signatures that need not be made, see :func:`mentalarena.likeness.signatures`.

    Returns:
        What was found, by case id.
    """
    by_id = {case.id: case for case in chain(among, cases)}
    everybody = tuple(by_id.values())
    # A counterfactual patient is its original in all but one respect.
    owners = [case.parents[0] if case.varied else case.patient_id for case in everybody]
    likest = nearest_others(signatures(everybody, embedder, known), owners)
    nearest = {
        case.id: Nearest("" if index < 0 else everybody[index].id, likeness)
        for case, (index, likeness) in zip(everybody, likest, strict=True)
    }
    found = {}
    for case in cases:
        labels = tuple(diagnose(spoken_lines(case)))
        subject = Subject(case, nearest[case.id], labels)
        found[case.id] = tuple(check(subject) for check in CHECKS.values())
    return found
