"""Intent biases put in on purpose: a right statement bent in one of six known ways.

Why: what a decoder finds can only be counted against what was put in. Kinds: ``negated`` (the
opposite is said to hold), ``wrong_agent`` (somebody else is said to do it), ``wrong_emotion``,
``reversed`` (coping turned around), ``swapped`` (another component's content) and ``unsupported``
(invented, with quotes that nobody said). Which component is bent, and how, hangs on the episode's
seed and opening alone, so a misreading lasts until it is asked about.

There are two sets of wordings: the ``usual`` one, and ``check``, which nothing but
``python -m benchmarks.injections`` uses. A decoder whose tables or thresholds were made with the
first in view is measured on the second. Kinds that only draw from closed lists, or move another
component's words, have no wording to hold out.
"""

import re
from collections.abc import Callable
from random import Random
from typing import Literal

from agents.rules.language import capital, data, normal
from agents.seats import ComponentStatement, Formulation, Injection
from mentalarena.case import CLOSED_LISTS, COMPONENTS, Component

_KINDS: dict[Component, tuple[str, ...]] = {
    Component.CORE_BELIEFS: ("negated", "wrong_agent", "unsupported"),
    Component.EMOTIONS: ("wrong_emotion", "unsupported"),
    Component.COPING_STRATEGIES: ("reversed", "wrong_agent", "swapped", "unsupported"),
}
_OTHERS = ("negated", "wrong_agent", "swapped", "unsupported")

Wording = Literal["usual", "check"]

_TURNED = (
    (r"\balways\b", "never"), (r"\bnever\b", "always"), (r"\b(?:cannot|can['\u2019]t)\b", "can"),
    (r"\bthey do not\b", "they do"), (r"\bthey don['\u2019]t\b", "they do"),
    (r"\bthey have to\b", "they do not have to"), (r"\bthey are\b", "they are not"),
    (r"\bthey were\b", "they were not"), (r"\bthey should\b", "they should not"),
    (r"\bthey must\b", "they need not"), (r"\bthey can\b", "they cannot"),
    (r"\bthey (feel|think|want|need|like|believe|expect|know|care)\b", r"they do not \1"),
    (r"\bnobody\b", "everybody"), (r"\bno one\b", "everyone"), (r"\bnothing\b", "everything"),
)  # fmt: skip
_REVERSED = (
    (r"\bavoid(s|ing)?\b", "seek out"), (r"\bstay away from\b", "go looking for"),
    (r"\bkeep away from\b", "go looking for"), (r"\bhide\b", "show"), (r"\bsay yes\b", "say no"),
    (r"\bto themselves\b", "in front of everyone"), (r"\bkeep quiet\b", "speak up"),
    (r"\bcheck\b", "leave unchecked"), (r"\bput off\b", "do at once"),
    (r"\bask for help\b", "refuse help"), (r"\bnever\b", "always"), (r"\balways\b", "never"),
)  # fmt: skip
_AGENTS = ("other people", "the people around them", "their relatives", "their friends")

_TURNED_CHECK = (
    (r"\balways\b", "hardly ever"), (r"\bnever\b", "constantly"),
    (r"\b(?:cannot|can['\u2019]t)\b", "are well able to"),
    (r"\bthey do not\b", "they very much do"), (r"\bthey don['\u2019]t\b", "they very much do"),
    (r"\bthey have to\b", "they are free not to"), (r"\bthey are\b", "they are anything but"),
    (r"\bthey were\b", "they were anything but"), (r"\bthey should\b", "they ought not to"),
    (r"\bthey must\b", "they may well not"), (r"\bthey can\b", "they are unable to"),
    (r"\bthey (feel|think|want|need|like|believe|expect|know|care)\b", r"they fail to \1"),
    (r"\bnobody\b", "anyone at all"), (r"\bno one\b", "anyone at all"),
    (r"\bnothing\b", "all of it"),
)  # fmt: skip
_REVERSED_CHECK = (
    (r"\bavoid(s|ing)?\b", "make straight for"), (r"\bstay away from\b", "head right into"),
    (r"\bkeep away from\b", "head right into"), (r"\bhide\b", "put on display"),
    (r"\bsay yes\b", "refuse"), (r"\bto themselves\b", "for all to hear"),
    (r"\bkeep quiet\b", "raise their voice"), (r"\bcheck\b", "take on trust"),
    (r"\bput off\b", "get over with"), (r"\bask for help\b", "manage everything alone"),
    (r"\bnever\b", "constantly"), (r"\balways\b", "hardly ever"),
)  # fmt: skip
_AGENTS_CHECK = ("their partner", "everyone at work", "the neighbors", "strangers they meet")
_INVENTED_CHECK: dict[Component, tuple[tuple[str, str], ...]] = {
    Component.INTERMEDIATE_BELIEFS: (
        ("Anyone who rests on a weekday is a thief.", "Resting on a weekday is stealing."),
        ("A meal eaten alone should be eaten standing.", "Alone, you eat standing up."),
    ),
    Component.INTERMEDIATE_BELIEFS_DEPRESSION: (
        (
            "In bad times they hold that the old house was cursed.",
            "The old house was cursed, I know that then.",
        ),
        (
            "When low, they are sure that red clothes bring luck.",
            "Only red helps me, on those days.",
        ),
    ),
    Component.COPING_STRATEGIES: (
        ("They count the tiles of the bathroom until it is over.", "I count the bathroom tiles."),
        ("They bake bread for the entire street.", "I bake for the whole street."),
    ),
    Component.AUTOMATIC_THOUGHTS: (
        ("They think that the ferry has sunk.", "The ferry's gone down, that's my thought."),
        ("They think that the piano is out of tune.", "That piano is off, I think at once."),
    ),
    Component.BEHAVIORS: (
        ("They sort the coins in a jar by year.", "I sort my coins by year."),
        ("They swim in the lake before breakfast.", "I'm in the lake before breakfast."),
    ),
    Component.BEHAVIOR_PRINCIPLES: (
        ("With people they only speak in proverbs.", "I answer people in proverbs."),
        ("They salute whoever enters a room.", "I salute anyone who comes in."),
    ),
    Component.CORE_BELIEFS: (
        ("self: special", "There's a star named after me."),
        ("world: dangerous", "The ground itself could open any day."),
    ),
    Component.EMOTIONS: (
        ("elated", "I danced all the way home."),
        ("disgusted", "It turned my stomach, all of it."),
    ),
}


def bend(
    honest: Formulation,
    salt: str,
    rate: float,
    repaired: frozenset[Component],
    wording: Wording = "usual",
) -> tuple[Formulation, tuple[Injection, ...]]:
    """The formulation with some stated components bent, and what they said before.

    Args:
        honest: what was understood.
        salt: what is the same all through an episode; decides which components are bent and how.
        rate: chance of each stated component.
        repaired: components that are not bent, whatever the draw.
        wording: the set of wordings.
    """
    changed: dict[str, ComponentStatement] = {}
    injections = []
    for component in COMPONENTS:
        draw = Random(f"{salt}/misread/{component.value}")
        before = honest.of(component)
        if draw.random() >= rate or not before.statement or component in repaired:
            continue
        kinds = list(_KINDS.get(component, _OTHERS))
        draw.shuffle(kinds)
        for kind in kinds:
            bender, own = _BENDERS[kind], Random(f"{salt}/{kind}/{component.value}")
            after = bender(component, honest, own, wording == "check")
            if after is not None and normal(after.statement) != normal(before.statement):
                changed[component.value] = after
                injections.append(Injection(component, kind, before.statement))
                break
    return honest.model_copy(update=changed), tuple(injections)


def _negated(
    component: Component, honest: Formulation, draw: Random, check: bool
) -> ComponentStatement | None:
    before = honest.of(component)
    if component in CLOSED_LISTS:
        positive = [x for x in ("self: competent", "self: special") if x not in before.statement]
        return _restated(before, positive[0]) if positive else None
    for pattern, into in _TURNED_CHECK if check else _TURNED:
        turned, count = re.subn(pattern, into, before.statement, flags=re.IGNORECASE)
        if count:
            return _restated(before, capital(turned))
    frame = "It would be quite wrong to say that" if check else "It is not so that"
    return _restated(before, f"{frame} {before.statement[0].lower()}{before.statement[1:]}")


def _wrong_agent(
    component: Component, honest: Formulation, draw: Random, check: bool
) -> ComponentStatement | None:
    before = honest.of(component)
    if component is Component.CORE_BELIEFS:
        others = [
            label
            for label in ("other people: untrustworthy", "world: dangerous")
            if label not in before.statement
        ]
        return _restated(before, draw.choice(others)) if others else None
    agent = draw.choice(_AGENTS_CHECK if check else _AGENTS)
    turned, count = re.subn(r"\bthey\b", agent, before.statement, flags=re.IGNORECASE)
    return _restated(before, capital(turned)) if count else None


def _wrong_emotion(
    component: Component, honest: Formulation, draw: Random, check: bool
) -> ComponentStatement | None:
    before = honest.of(component)
    named = before.statement.split("; ")
    others = [label for label in CLOSED_LISTS[component] if label not in named]
    return _restated(before, "; ".join(draw.sample(others, min(len(named), len(others)))))


def _reversed(
    component: Component, honest: Formulation, draw: Random, check: bool
) -> ComponentStatement | None:
    before = honest.of(component)
    for pattern, into in _REVERSED_CHECK if check else _REVERSED:
        turned, count = re.subn(pattern, into, before.statement, flags=re.IGNORECASE)
        if count:
            return _restated(before, capital(turned))
    frame = (
        "What helps them is the exact contrary" if check else "They do the very opposite of this"
    )
    return _restated(before, f"{frame}: {before.statement}")


def _swapped(
    component: Component, honest: Formulation, draw: Random, check: bool
) -> ComponentStatement | None:
    others = [
        other
        for other in COMPONENTS
        if other != component and other not in CLOSED_LISTS and honest.of(other).statement
    ]
    return honest.of(draw.choice(others)) if others else None


def _unsupported(
    component: Component, honest: Formulation, draw: Random, check: bool
) -> ComponentStatement | None:
    invented = (
        _INVENTED_CHECK[component] if check else data("therapist")["invented"][component.value]
    )
    named = honest.of(component).statement
    fresh = [(statement, quote) for statement, quote in invented if statement not in named]
    statement, quote = draw.choice(fresh)
    return ComponentStatement(statement=statement, quotes=(quote,))


def _restated(before: ComponentStatement, statement: str) -> ComponentStatement:
    said = re.sub(r"([.!?] )([a-z])", lambda m: m[1] + m[2].upper(), statement)
    return ComponentStatement(statement=said[:2000], quotes=before.quotes)


_Bender = Callable[[Component, Formulation, Random, bool], ComponentStatement | None]
_BENDERS: dict[str, _Bender] = {
    "negated": _negated,
    "wrong_agent": _wrong_agent,
    "wrong_emotion": _wrong_emotion,
    "reversed": _reversed,
    "swapped": _swapped,
    "unsupported": _unsupported,
}
