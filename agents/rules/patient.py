"""The rule-based patient: lets out its record piece by piece, in sentences written for it.

Why: an arena needs a patient whose openness depends on how it is asked, and of whom one knows
afterwards exactly what it has let out. Each turn is worked out anew from what was said aloud:
which topics the question is aimed at (:mod:`agents.rules.cues`), what has been told, how the talk
has gone; the conversational style sets how likely an answer is, how long, and how it is dressed.
The wording of the record (``clause.text``) is never spoken.
"""

from dataclasses import dataclass
from functools import lru_cache
from random import Random

from agents.rules import cues
from agents.rules.answers import answer_confirmation, answer_plan
from agents.rules.language import (
    attach,
    content,
    data,
    finish,
    made_utterance,
    normal,
    shuffled,
    unquoted,
    unused,
)
from agents.seats import (
    Answered,
    Confirmation,
    ConfirmView,
    Line,
    PatientView,
    Place,
    PlanResponse,
    TrialView,
    Utterance,
)
from mentalarena.case import COMPONENTS, Case, Component, Principle, Style


@dataclass(frozen=True, slots=True)
class Manner:
    """The numbers behind a conversational style."""

    openness: float
    """Chance of an answer to a well-aimed question before rapport counts."""
    trust: float
    """Rapport at the start, 0 to 1."""
    more: tuple[float, ...]
    """Chance of a second, third … statement once there is a first."""
    drift: float
    """Chance of moving to another topic."""
    lead: float
    """Chance of words before the answer."""
    tail: float
    """Chance of words after it."""


MANNERS: dict[Style, Manner] = {
    Style.PLAIN: Manner(0.72, 0.50, (0.35, 0.10), 0.05, 0.45, 0.25),
    Style.VERBOSE: Manner(0.80, 0.55, (0.85, 0.40), 0.12, 0.60, 0.45),
    Style.TANGENTIAL: Manner(0.60, 0.50, (0.45, 0.15), 0.45, 0.60, 0.55),
    Style.HOSTILE: Manner(0.52, 0.20, (0.25,), 0.08, 0.70, 0.45),
    Style.GUARDED: Manner(0.44, 0.20, (0.15,), 0.08, 0.60, 0.40),
    Style.INGRATIATING: Manner(0.62, 0.60, (0.35, 0.10), 0.10, 0.75, 0.50),
}

_DEPTH = {
    "core_beliefs": 0.18,
    "intermediate_beliefs_depression": 0.10,
    "intermediate_beliefs": 0.06,
}
"""How much less likely the deeper topics are told."""

_BESIDE = {
    "core_beliefs": ("intermediate_beliefs", "automatic_thoughts", "history"),
    "intermediate_beliefs": ("core_beliefs", "coping_strategies", "automatic_thoughts"),
    "intermediate_beliefs_depression": ("intermediate_beliefs", "emotions", "history"),
    "coping_strategies": ("behaviors", "intermediate_beliefs", "situation"),
    "automatic_thoughts": ("emotions", "situation", "behaviors"),
    "emotions": ("automatic_thoughts", "behaviors", "situation"),
    "behaviors": ("coping_strategies", "emotions", "situation"),
    "behavior_principles": ("coping_strategies", "behaviors", "situation"),
    "history": ("situation", "behaviors", "emotions"),
    "situation": ("history", "emotions", "automatic_thoughts"),
}
"""Topics that lie next to a topic."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One clause as the patient can say it."""

    key: str
    """``topic:index``, with ``:made`` after it when the utterances were made by rule."""
    topic: str
    ways: tuple[str, ...]
    """The utterances."""
    marks: tuple[str, ...]
    """The utterances as words, for looking them up in what was said."""
    words: frozenset[str]


@lru_cache(maxsize=256)
def _pieces(case: Case, principle: Principle) -> dict[str, tuple[Piece, ...]]:
    sources: dict[str, tuple[tuple[str, tuple[str, ...]], ...]] = {
        "history": tuple((clause.text, clause.utterances) for clause in case.history),
        "situation": tuple((clause.text, clause.utterances) for clause in case.situation),
        "behavior_principles": ((principle.text, principle.utterances),),
    }
    for component in COMPONENTS:
        if component is not Component.BEHAVIOR_PRINCIPLES:
            sources[component.value] = tuple(
                (clause.text, clause.utterances)
                for clause in case.cognitive_model.clauses(component)
            )
    pieces = {}
    for topic, rows in sources.items():
        found = []
        for index, (text, utterances) in enumerate(rows):
            made = "" if utterances else ":made"
            ways = utterances or (_made(topic, text),)
            found.append(
                Piece(
                    f"{topic}:{index}{made}",
                    topic,
                    tuple(finish(way) for way in ways),
                    tuple(normal(way) for way in ways),
                    content(" ".join((text, *ways))),
                )
            )
        pieces[topic] = tuple(found)
    return pieces


def _made(topic: str, text: str) -> str:
    """An utterance for a clause that has none; labels of closed lists have a sentence each."""
    return data("labels").get("spoken", {}).get(text) or made_utterance(text)


def rapport(style: Style, lines: tuple[Line, ...]) -> float:
    """How far the patient trusts the therapist by now, 0 to 1.

    Grows with turns and with reflections and validation, falls with confrontation, with questions
    asked twice and with a third question in a row on one topic.
    """
    level = MANNERS[style].trust
    asked: set[str] = set()
    row: list[str | None] = []
    for line in lines:
        if line.speaker != "therapist":
            continue
        said = cues.manner(line.text)
        level += 0.04
        level += 0.05 * min(2, said.get("warm", 0.0))
        level -= 0.18 * min(2, said.get("confronting", 0.0))
        question = normal(unquoted(line.text))
        if question in asked:
            level -= 0.12
        asked.add(question)
        row.append(cues.aimed(line.text))
        if row[-1] and row[-3:] == [row[-1]] * 3:
            level -= 0.08
    return max(0.0, min(1.0, level))


class _Turn:
    """The making of one turn."""

    def __init__(self, view: PatientView, random: Random) -> None:
        self.random = random
        self.style = view.case.style
        self.manner = MANNERS[self.style]
        self.bank = data("patient")[self.style.value]
        self.pieces = _pieces(view.case, view.principle)
        self.lines = view.lines
        self.heard = next((x.text for x in reversed(view.lines) if x.speaker == "therapist"), "")
        # A bar between turns keeps a phrase from being found across two of them.
        self.spoken = "|".join(normal(x.text) for x in view.lines if x.speaker == "patient")
        self.trust = rapport(self.style, view.lines)
        self.said: list[str] = []
        self.disclosed: list[str] = []

    def phrase(self, use: str) -> str:
        """A phrase of this style not used in this episode, or none."""
        return unused(self.bank[use], self.so_far(), self.random)

    def so_far(self) -> str:
        """All that the patient has said, this turn included, as words."""
        return "|".join((self.spoken, *(normal(part) for part in self.said)))

    def open_ways(self, piece: Piece) -> list[str]:
        """What is left to say of a piece."""
        return [
            way
            for way, mark in zip(piece.ways, piece.marks, strict=True)
            if mark.strip() not in self.spoken and way not in self.said
        ]

    def is_told(self, piece: Piece) -> bool:
        """Whether any of it was said, before or in this turn."""
        return piece.key in self.disclosed or any(
            mark.strip() in self.spoken for mark in piece.marks
        )

    def fresh(self, topic: str) -> list[Piece]:
        """Pieces of a topic not yet told; those the question touches most first."""
        pieces = shuffled((p for p in self.pieces[topic] if not self.is_told(p)), self.random)
        touched = content(unquoted(self.heard))
        return sorted(pieces, key=lambda piece: -len(piece.words & touched))

    def say(self, piece: Piece, lead: str = "") -> None:
        """Speak one way of a piece."""
        ways = self.open_ways(piece)
        way = self.random.choice(ways) if len(ways) == len(piece.ways) else ways[0]
        self.said.append(attach(lead, way))
        self.disclosed.append(piece.key)

    def lead(self) -> str:
        """Words before an answer, by style; open ones when there is trust."""
        if self.random.random() >= self.manner.lead:
            return ""
        if self.trust > 0.7 and self.style in (Style.GUARDED, Style.PLAIN, Style.HOSTILE):
            if self.random.random() < 0.6:
                return unused(data("patient")["emphasis"]["trust"], self.so_far(), self.random)
            return "" if self.style is Style.HOSTILE else self.phrase("lead")
        return self.phrase("lead")

    def result(self) -> Answered[Utterance]:
        """What was said, joined."""
        return Answered(Utterance(text=" ".join(self.said)), disclosed=tuple(self.disclosed))


def _openly(turn: _Turn, topic: str) -> float:
    """Chance that the patient answers a question aimed at this topic."""
    aim = cues.sharpness(turn.heard, topic)
    asked_before = sum(
        line.speaker == "therapist" and cues.aimed(line.text) == topic for line in turn.lines
    )
    return (
        turn.manner.openness
        + 0.45 * (turn.trust - 0.4)
        + 0.30 * (aim - 0.6)
        + (0.15 if asked_before > 1 else 0.0)
        - _DEPTH.get(topic, 0.0)
    )


class RulesPatient:
    """Holds a case and speaks from it; keeps no state of its own."""

    async def speak(self, view: PatientView, at: Place) -> Answered[Utterance]:
        """The opening complaint, or an answer to the therapist's last line.

        ``disclosed`` of the answer names the clauses spoken, ``topic:index``.
        """
        # Two cases under one seed must not meet the same phrases.
        random = at.random(f"speak/{view.case.id}")
        turn = _Turn(view, random)
        if not turn.heard:
            return _opening(view.case, turn)
        if cues.manner(turn.heard).get("safety"):
            turn.said.append(unused(data("patient")["safety"]["answer"], turn.spoken, random))
            turn.said[-1] = turn.said[-1] or "I'm still all right to go on."
            return turn.result()
        ranked = [topic for topic, _ in cues.aims(turn.heard)]
        topic = ranked[0] if ranked else random.choice(("situation", "history", "emotions"))
        # A question that aims at two things is sometimes taken for the second of them.
        if len(ranked) > 1 and random.random() > 0.5 + cues.sharpness(turn.heard, topic):
            topic = ranked[1]
        if random.random() < turn.manner.drift:
            return _drift(turn, topic)
        if random.random() >= _openly(turn, topic):
            return _deflect(turn, topic)
        return _answer(turn, topic)

    async def confirm(self, view: ConfirmView, at: Place) -> Answered[Confirmation]:
        """Which diagnosis is nearer to the record's reference, in lay words and with some noise."""
        return Answered(answer_confirmation(view, at.random("confirm")))

    async def respond(self, view: TrialView, at: Place) -> Answered[PlanResponse]:
        """How the health state moves under a plan, and a line that says so."""
        return Answered(answer_plan(view, at.random("respond")))


def _opening(case: Case, turn: _Turn) -> Answered[Utterance]:
    complaint = finish(turn.random.choice(case.openings))
    greeting = turn.random.choice(turn.bank["opening"]) if turn.random.random() < 0.6 else ""
    turn.said.append(attach(greeting, complaint))
    if turn.random.random() < turn.manner.more[0] - 0.4:
        pieces = turn.fresh("situation")
        if pieces:
            turn.say(pieces[0], turn.phrase("link"))
    return turn.result()


def _answer(turn: _Turn, topic: str) -> Answered[Utterance]:
    """Tell something of the topic: new if there is, else again in other words, else say so."""
    pieces = turn.fresh(topic)
    if pieces:
        turn.say(pieces.pop(0), turn.lead())
    else:
        again = [piece for piece in turn.pieces[topic] if turn.open_ways(piece)]
        if not again:
            return _exhausted(turn, topic)
        turn.say(turn.random.choice(again), turn.phrase("again"))
    _go_on(turn, topic, pieces)
    return turn.result()


def _go_on(turn: _Turn, topic: str, pieces: list[Piece]) -> None:
    """More statements and closing words, by style."""
    for chance in turn.manner.more:
        if turn.random.random() >= chance + 0.2 * (turn.trust - 0.5):
            break
        if not pieces:
            pieces = turn.fresh(turn.random.choice(_BESIDE[topic]))
        if pieces:
            turn.say(pieces.pop(0), turn.phrase("link"))
    told = turn.is_told(turn.pieces["behavior_principles"][0])
    if not told and turn.random.random() < 0.06:
        turn.say(turn.pieces["behavior_principles"][0])
    elif turn.random.random() < turn.manner.tail:
        closing = turn.phrase("tail")
        if closing:
            turn.said.append(closing)


def _exhausted(turn: _Turn, topic: str) -> Answered[Utterance]:
    said_so = turn.phrase("exhausted") or "I've told you all of that."
    turn.said.append(said_so)
    neighbor = turn.random.choice(_BESIDE[topic])
    pieces = turn.fresh(neighbor)
    if pieces and turn.random.random() < turn.manner.more[0] + 0.1:
        turn.say(pieces[0], turn.phrase("bridge"))
    return turn.result()


def _drift(turn: _Turn, topic: str) -> Answered[Utterance]:
    """Take the question as a cue for something else."""
    neighbors = list(_BESIDE[topic])
    if turn.style is Style.TANGENTIAL:
        neighbors = shuffled((t for t in cues.TOPICS if t != topic), turn.random)
    for neighbor in neighbors:
        pieces = turn.fresh(neighbor)
        if pieces:
            turn.say(pieces.pop(0), turn.phrase("bridge"))
            if turn.style is Style.TANGENTIAL and turn.random.random() < 0.4:
                back = turn.fresh(topic)
                if back:
                    turn.say(back[0], turn.phrase("link"))
            _close(turn)
            return turn.result()
    return _answer(turn, topic)


def _deflect(turn: _Turn, topic: str) -> Answered[Utterance]:
    """Turn the question down, and perhaps offer something smaller."""
    refusal = turn.phrase("deflect")
    if not refusal:
        return _answer(turn, topic)
    principle = turn.pieces["behavior_principles"][0]
    if not turn.is_told(principle) and turn.random.random() < 0.08:
        turn.say(principle)
        return turn.result()
    turn.said.append(refusal)
    if turn.random.random() < 0.25 + 0.35 * turn.trust:
        pieces = turn.fresh(turn.random.choice(_BESIDE[topic]))
        if pieces:
            turn.say(pieces[0], turn.phrase("bridge"))
    return turn.result()


def _close(turn: _Turn) -> None:
    if turn.random.random() < turn.manner.tail:
        closing = turn.phrase("tail")
        if closing:
            turn.said.append(closing)
