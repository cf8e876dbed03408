"""The rule-based therapist: asks about what it knows least, and states what it heard.

Why: an arena needs a therapist whose questions are aimed, whose formulations rest on spoken words
and whose misreadings are known. It keeps no state: what it asked, heard and took wrongly is read
off the dialogue and the episode's seed.
"""

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from random import Random
from typing import Literal

from agents.rules import cues
from agents.rules.diagnosis import diagnose
from agents.rules.formulation import Heard, formulate, known, listen
from agents.rules.language import data, normal, sentences, substance, unused, words
from agents.rules.misread import Wording, bend
from agents.rules.plans import code_of, general, group_of, same_plan
from agents.seats import (
    Answered,
    Diagnoses,
    Formulation,
    Line,
    Place,
    PlanProposal,
    PlanView,
    TherapistView,
    Utterance,
)
from mentalarena.case import COMPONENTS, Component
from mentalarena.errors import ConfigurationError

ORDER = (
    "situation",
    "emotions",
    "automatic_thoughts",
    "history",
    "behaviors",
    "coping_strategies",
    "intermediate_beliefs",
    "core_beliefs",
    "intermediate_beliefs_depression",
    "behavior_principles",
)
"""From the surface down; what is known least goes first, this settles the rest."""

Mode = Literal["revisit", "explore"]


@cache
def _bank() -> dict[str, str]:
    """Every question of the bank, as words, with its topic."""
    questions = data("therapist")["questions"]
    return {normal(text).strip(): topic for topic, texts in questions.items() for text in texts}


@lru_cache(maxsize=8192)
def asked_topic(line: str) -> str | None:
    """The topic a therapist's line asks for: its own questions by heart, others by their cues."""
    for sentence in reversed(sentences(line)):
        if topic := _bank().get(normal(sentence).strip()):
            return topic
    plain = normal(line)
    for question, topic in _bank().items():
        if question in plain:
            return topic
    return cues.aimed(line)


def read_guidance(guidance: str) -> tuple[Component | None, Mode, str]:
    """Component, mode and record words (``oracle`` only) of a guidance text."""
    asked, _, hint = guidance.partition("The patient holds:")
    text = normal(asked)
    component = next(
        (
            component
            for component in sorted(COMPONENTS, key=lambda c: -len(c.label))
            if normal(component.label).strip() in text
        ),
        None,
    )
    return component, "revisit" if "revisit" in text else "explore", hint.strip()


class RulesTherapist:
    """Asks from a bank, formulates by cues, diagnoses and proposes by tables.

    Args:
        misread: chance with which a stated component is bent (an injected intent bias).
        wording: the set of wordings for it (:mod:`agents.rules.misread`).
    """

    def __init__(self, misread: float = 0.1, wording: Wording = "usual") -> None:
        if not 0 <= misread <= 1:
            raise ConfigurationError(f"misread must be from 0 to 1, not {misread!r}")
        self.misread = misread
        self.wording: Wording = wording

    async def ask(self, view: TherapistView, at: Place) -> Answered[Utterance]:
        """A question on the guided component, or on the topic known least; never one twice."""
        # Two cases under one seed must not meet the same questions.
        random = at.random("ask/" + (view.lines[0].text if view.lines else ""))
        own = [line.text for line in view.lines if line.speaker == "therapist"]
        spoken = "|".join(normal(text) for text in own)
        component, mode, hint = read_guidance(view.guidance)
        heard = listen(view.lines, asked_topic)
        order = [component.value] if component else []
        order += [
            topic for topic in _least_known(heard, own, _salt(view.lines, at)) if topic not in order
        ]
        question = topic = ""
        for topic in order:
            question = unused(data("therapist")["questions"][topic], spoken, random)
            if question:
                break
        if not question:
            # The whole bank was asked, which takes a hundred exchanges and more.
            topic, question = order[0], random.choice(data("therapist")["questions"][order[0]])
        guided = mode if component and topic == component.value else None
        opening = _before(view, heard, topic, guided, own, spoken, random)
        parts = [opening, _hint(hint, random) if guided else "", question]
        return Answered(Utterance(text=" ".join(part for part in parts if part)))

    async def formulate(self, view: TherapistView, at: Place) -> Answered[Formulation]:
        """Statements from spoken words, some bent as ``misread`` says; what was bent is told apart.

        A component that the last question was aimed at is read rightly from then on; the others
        stay as they were.
        """
        salt = _salt(view.lines, at)
        honest = formulate(listen(view.lines, asked_topic), salt)
        repaired = _repaired(view, salt)
        stated, injections = bend(honest, salt, self.misread, repaired, self.wording)
        return Answered(stated, injections=injections)

    async def diagnose(self, view: TherapistView, at: Place) -> Answered[Diagnoses]:
        """Two disorders by indicator tables over what the patient said."""
        return Answered(diagnose(view.lines, at.random("diagnose")))

    async def propose(self, view: PlanView, at: Place) -> Answered[PlanProposal]:
        """The next plan of the table for the confirmed diagnosis; general ones after those."""
        taken = [earlier.name for earlier in view.earlier if earlier.kind == view.kind]
        names = {words(name) for name in taken}
        rows = (*group_of(code_of(view.diagnosis)).plans(view.kind), *general(view.kind))
        fresh = [plan for plan in rows if words(plan.name) not in names]
        unlike = [plan for plan in fresh if not any(same_plan(plan.name, name) for name in taken)]
        choices = unlike or fresh
        if not choices:
            name = f"Review of the {view.kind} after a pause, number {len(taken) + 1}"
            return Answered(PlanProposal(name=name, rationale="Everything listed was tried."))
        # The first two are close in rank; which comes first is a matter of taste.
        near = [plan for plan in choices[:2] if choices[0].fit - plan.fit <= 0.1]
        plan = at.random("propose").choice(near)
        rationale = f"Illustrative choice for {view.diagnosis}: {plan.reason}."
        return Answered(PlanProposal(name=plan.name, rationale=rationale))


def _salt(lines: Sequence[Line], at: Place) -> str:
    """What is the same all through an episode and differs between any two."""
    return f"{at.seed}/{lines[0].text if lines else ''}"


def _repaired(view: TherapistView, salt: str) -> frozenset[Component]:
    """Components not to be bent: asked about just now, or read rightly the last time."""
    if view.formulation is None:
        return frozenset()
    questions = [i for i, line in enumerate(view.lines) if line.speaker == "therapist"]
    right: set[Component] = set()
    if questions:
        topic = asked_topic(view.lines[questions[-1]].text)
        right.update(component for component in COMPONENTS if component.value == topic)
    # Where the last formulation says what an honest one of that time said, it was not bent. A
    # safety line may stand between two rounds, so a few earlier moments are tried.
    for cut in reversed(questions[-3:]):
        then = formulate(listen(view.lines[:cut], asked_topic), salt)
        right.update(
            component
            for component in COMPONENTS
            if then.of(component).statement and then.of(component) == view.formulation.of(component)
        )
    return frozenset(right)


def _least_known(heard: Sequence[Heard], own: Sequence[str], salt: str) -> list[str]:
    counts = known(heard)
    asked = [asked_topic(text) for text in own]
    taste = Random(f"{salt}/order")
    rank = {topic: place + 1.6 * taste.random() for place, topic in enumerate(ORDER)}

    def need(topic: str) -> float:
        told = min(4, counts[topic])
        return rank[topic] + 12.0 * asked.count(topic) + 0.6 * told + 9.0 * (asked[-1:] == [topic])

    return sorted(ORDER, key=need)


def _before(
    view: TherapistView,
    heard: Sequence[Heard],
    topic: str,
    guided: Mode | None,
    own: Sequence[str],
    spoken: str,
    random: Random,
) -> str:
    """Words before the question: a reflection, a validation, a turn, or none."""
    bank = data("therapist")["before"]
    if guided:
        opening = unused(bank[guided], spoken, random)
        quotes = view.formulation.of(Component(topic)).quotes if view.formulation else ()
        said = {line.text for line in view.lines if line.speaker == "patient"}
        short = [q for q in quotes if _quotable(q, spoken) and any(q in text for text in said)]
        if guided == "revisit" and short:
            quote = random.choice(bank["earlier"]).format(quote=random.choice(short))
            return f"{opening} {quote}".strip()
        return opening
    if not own:
        return unused(bank["first"], spoken, random)
    last = next((x.text for x in reversed(view.lines) if x.speaker == "patient"), "")
    latest = [item for item in heard if item.turn == len(view.lines) - 1]
    if not latest:
        return unused(bank["soothe"], spoken, random)
    draw = random.random()
    quotable = [
        span
        for span in map(substance, sentences(last))
        if _quotable(span, spoken) and not cues.is_talk_about_talk(span)
    ]
    if draw < 0.4 and quotable:
        frames = [
            x for x in bank["quote"] if normal(x.split("{quote}")[-1] or x[:14]) not in spoken
        ]
        frame = random.choice(frames or bank["quote"])
        return str(frame.format(quote=random.choice(quotable)))
    if draw < 0.75:
        return unused(bank["validate"], spoken, random)
    if draw < 0.9 and topic != asked_topic(own[-1]):
        return unused(bank["turn"], spoken, random)
    return ""


def _quotable(sentence: str, spoken: str) -> bool:
    """Whether a sentence can be given back whole: short, of the patient, no question."""
    length = len(words(sentence))
    return (
        4 <= length <= 13
        and sentence[0].isupper()
        and re.search(r"\b(?:I|me|my|I'm|I\u2019m)\b", sentence) is not None
        and not re.search(r"[\"“”?]|\b[Yy]ou", sentence)
        and normal(sentence).strip() not in spoken
    )


def _hint(record: str, random: Random) -> str:
    """Up to three words of the record, spoken as a cue; only ``oracle`` guidance has any."""
    long = dict.fromkeys(word for word in re.findall(r"[a-z]{6,}", record.lower()))
    if len(long) < 2:
        return ""
    chosen = random.sample(list(long), min(3, len(long)))
    listed = ", ".join(f'"{word}"' for word in chosen[:-1]) + f' or "{chosen[-1]}"'
    text: str = random.choice(data("therapist")["before"]["words"])
    return text.format(words=listed)
