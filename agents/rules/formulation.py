"""What the rule-based therapist makes of a dialogue: components stated from spoken words only.

Why: the decoder compares a formulation with a record, so the formulation must come from somewhere
else: from what was said. Every sentence of a patient's turn goes to the component that its words,
and the question before it, speak for; the best ones are retold in the third person, with the
sentences themselves as quotes. A patient who answers beside the question is misfiled, as happens.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from random import Random
from typing import NamedTuple

from agents.rules import cues
from agents.rules.language import capital, data, sentences, substance, to_third, words
from agents.seats import ComponentStatement, Formulation, Line
from mentalarena.case import CLOSED_LISTS, COMPONENTS, Component

ASKED = 2.2
"""What the question before it adds to a sentence's weight for that topic."""
ENOUGH = 1.4
"""Weight from which a sentence counts as speaking of a topic."""
MOST = 3
"""Sentences a statement rests on at most."""
MOST_LABELS = {Component.CORE_BELIEFS: 3, Component.EMOTIONS: 4}


class Heard(NamedTuple):
    """One sentence of the patient, and where it was put."""

    text: str
    topic: str
    weight: float
    turn: int
    asked: bool
    """Whether it came as an answer to a question on that topic."""


def listen(
    lines: Sequence[Line], asked: Callable[[str], str | None] = cues.aimed
) -> tuple[Heard, ...]:
    """Every sentence of the patient that speaks of something, with its topic.

    Args:
        lines: the dialogue.
        asked: which topic a therapist's line asks for.
    """
    found: list[Heard] = []
    question: str | None = "situation"
    for turn, line in enumerate(lines):
        if line.speaker == "therapist":
            question = asked(line.text)
            continue
        found += [
            Heard(sentence, topic, weight, turn, answered)
            for sentence, topic, weight, answered in _filed(line.text, question)
        ]
    return tuple(found)


@lru_cache(maxsize=4096)
def _filed(text: str, question: str | None) -> tuple[tuple[str, str, float, bool], ...]:
    """Sentence, topic, weight and ``asked`` of what a turn tells; heard again at every question."""
    found = []
    for sentence in filter(None, map(substance, sentences(text))):
        weights = dict(cues.about(sentence))
        talk = cues.is_talk_about_talk(sentence)
        if talk and question != Component.BEHAVIOR_PRINCIPLES:
            # What the patient says about the talk itself tells how it is with people, if that.
            weights = {"behavior_principles": weights.get("behavior_principles", 0.0)}
        elif question and len(words(sentence)) >= 4:
            weights[question] = weights.get(question, 0.0) + ASKED
        if not weights:
            continue
        topic = max(weights, key=lambda name: (weights[name], -cues.TOPICS.index(name)))
        if weights[topic] >= ENOUGH:
            found.append((sentence, topic, weights[topic], topic == question and not talk))
    return tuple(found)


def known(heard: Sequence[Heard]) -> dict[str, int]:
    """How many sentences speak of each topic."""
    counts = dict.fromkeys(cues.TOPICS, 0)
    for item in heard:
        counts[item.topic] += 1
    return counts


@lru_cache(maxsize=1024)
def formulate(heard: tuple[Heard, ...], salt: str) -> Formulation:
    """A statement per component from what was heard; empty where nothing was.

    The wording depends on component and ``salt`` alone, so that an unchanged understanding reads
    the same at every round.
    """
    statements = {}
    for component in COMPONENTS:
        if component in CLOSED_LISTS:
            statements[component.value] = _labels(component, heard)
        else:
            statements[component.value] = _retold(component, heard, salt)
    return Formulation(**statements)


def _retold(component: Component, heard: Sequence[Heard], salt: str) -> ComponentStatement:
    mine = [item for item in heard if item.topic == component.value]
    # Answers to the question itself come first; among equals the longer sentence says more.
    best = sorted(mine, key=lambda h: (not h.asked, -h.weight - len(words(h.text)) / 12))[:MOST]
    if not best:
        return ComponentStatement()
    best.sort(key=lambda item: (item.turn, mine.index(item)))
    frames = data("therapist")["statements"][component.value]
    frame = Random(f"{salt}/frame/{component.value}").choice(frames)
    retold = [to_third(item.text) for item in best]
    if retold[0][:1].isupper():
        # A name or a word that might be one comes first: it cannot follow a comma.
        frame = "{said}"
    first = retold[0]
    said = " ".join([first, *(capital(text) for text in retold[1:])])
    return ComponentStatement(
        statement=capital(frame.format(said=said))[:2000], quotes=tuple(item.text for item in best)
    )


def _labels(component: Component, heard: Sequence[Heard]) -> ComponentStatement:
    index = cues.label_index(component)
    totals: dict[str, float] = {}
    witnesses: dict[str, str] = {}
    for item in heard:
        if item.topic == component.value:
            share = 1.0 if item.asked else 0.8
        elif cues.about(item.text).get(component.value, 0.0) >= 2:
            share = 0.5
        else:
            continue
        for label, weight in cues.look_up(words(item.text), index).items():
            totals[label] = totals.get(label, 0.0) + share * weight
            witnesses.setdefault(label, item.text)
    labels = sorted(totals, key=lambda label: (-totals[label], label))
    labels = [x for x in labels if totals[x] >= 0.4 * totals[labels[0]]][: MOST_LABELS[component]]
    quotes = dict.fromkeys(witnesses[label] for label in labels)
    return ComponentStatement(statement="; ".join(labels), quotes=tuple(quotes))
