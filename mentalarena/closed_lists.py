"""Which labels of a closed vocabulary a statement names.

Why: core beliefs and emotions are lists, so a formulation of them is compared as a set. A therapist
who writes ``incompetent, unwanted`` or ``worried and low`` has to be read as one who writes the
labels themselves, and one who writes ``not sad, just tired`` as naming nothing. A core belief is
named by an item that is the label and nothing else, or by one whose sentence is near the label's;
in a longer item, *different* or *alone* are everyday words. Emotion words are read by the list of
synonyms only: beside "I feel …" a sentence encoder finds every adjective near some emotion (cosine
of tired and numb 0.68, of work and sad 0.54). What an item denies, it does not name.
"""

import re
from collections.abc import Iterable

from mentalarena.case import CLOSED_LISTS, Component
from mentalarena.similarity import Embedder

NEAREST = 0.5
"""Cosine from which an item that matches no label by its words counts as the nearest one.
Provisional: chosen by eye, not calibrated."""

_EMOTION_WORDS: dict[str, str] = {
    "sad": "sadness grief grieving depressed unhappy gloomy miserable tearful sorrow",
    "anxious": "anxiety worried worry worries nervous tense tension uneasy jittery dread",
    "angry": "anger furious rage resentful resentment mad outraged bitter",
    "guilty": "guilt remorse regret",
    "ashamed": "shame embarrassed embarrassment humiliated humiliation mortified",
    "hopeless": "hopelessness despair despairing desperate",
    "lonely": "loneliness isolated",
    "hurt": "wounded rejected",
    "disgusted": "disgust revulsion repulsed",
    "jealous": "jealousy envy envious",
    "suspicious": "suspicion mistrust mistrustful distrust wary",
    "disappointed": "disappointment",
    "numb": "numbness empty emptiness detached",
    "overwhelmed": "overwhelm swamped",
    "elated": "elation euphoric euphoria exhilarated",
    "irritable": "irritability irritated irritation annoyed annoyance frustrated frustration",
    "afraid": "fear fearful scared frightened terrified panic panicky terror",
    "relieved": "relief",
}
_SYNONYMS = {word: label for label, words in _EMOTION_WORDS.items() for word in words.split()}

_PHRASES: dict[str, str] = {
    "helpless: incompetent": "I am incompetent",
    "helpless: powerless": "I am powerless",
    "helpless: vulnerable": "I am vulnerable and weak",
    "helpless: trapped": "I am trapped",
    "helpless: failure": "I am a failure",
    "helpless: out of control": "I am out of control",
    "unlovable: unwanted": "nobody wants me",
    "unlovable: different": "I am different and do not belong",
    "unlovable: rejected": "I will be rejected",
    "unlovable: alone": "I will always be alone",
    "worthless: bad": "I am a bad person",
    "worthless: burden": "I am a burden",
    "worthless: undeserving": "I do not deserve good things",
    "worthless: defective": "I am defective",
    "other people: untrustworthy": "other people cannot be trusted",
    "world: dangerous": "the world is dangerous",
    "self: special": "I am special and above others",
    "self: competent": "I am competent",
}

_NEGATION = re.compile(
    r"\b(?:not(?! (?:only|just|merely))|no|never|neither|nor|nobody|without|cannot|\w+n't"
    r"|rather than|instead of)\b"
)
_DENIED_BELIEF = re.compile(rf"{_NEGATION.pattern} (?:\w+ )?(?:believe|think|feel|see|consider)\b")
_LOW = re.compile(
    r"(?:^|\b(?:feel|feels|feeling|felt)\s+)(?:(?:so|very|quite|really|rather|a bit)\s+)*"
    r"(?:low|down)(?P<rest>.*)"
)
_FRAME = re.compile(
    r"(?:(?:the patient|patient|i|he|she|they|it|believes?|that|at heart|deep down|always"
    r"|i'm|he's|she's|they're|am|is|are|being|as|a|an|the)\s+)+"
)
_STEM = re.compile(r"(?:ing|ed|ure|s)$")
_FRAME_WORDS = "i am a an the is are be to of me who other people and do does will"
_EMPTY_WORDS = frozenset(_FRAME_WORDS.split())


def label_phrase(label: str) -> str:
    """A label as a sentence that can be compared with other sentences."""
    return _PHRASES.get(label, f"I feel {label}")


def split_items(statement: str) -> list[str]:
    """The items of a list written as prose, in lower case.

    Separators are ``; , / and but``, ends of lines and ends of sentences.
    """
    text = statement.lower().replace("\u2019", "'")
    items = re.split(r"[;,/\n]|[.!?]\s|\b(?:and|but)\b", text)
    return [item.strip(" .-*•\"'!?") for item in items if item.strip(" .-*•\"'!?")]


def labels_in(component: Component, statement: str, embedder: Embedder) -> frozenset[str]:
    """The labels of ``component``'s closed list that ``statement`` names."""
    items = split_items(statement)
    if component is Component.EMOTIONS:
        return frozenset(label for item in items for label in _emotions(item))
    found = set()
    unread = []
    for item in items:
        label = _belief(item)
        if label:
            found.add(label)
        elif not _DENIED_BELIEF.search(item):
            unread.append(item)
    return frozenset(found | _nearest(unread, embedder))


def _emotions(item: str) -> set[str]:
    negation = _NEGATION.search(item)
    said = item[: negation.start()] if negation else item
    found = {
        label for label in CLOSED_LISTS[Component.EMOTIONS] if re.search(rf"\b{label}\b", said)
    }
    found |= {_SYNONYMS[word] for word in re.findall(r"\w+", said) if word in _SYNONYMS}
    low = _LOW.search(said)
    # "worn down" and "low on money" are no mood; "low" alone, or felt, is.
    if low and (low.start() or low[0].startswith("fe") or not low["rest"].strip()):
        found.add("sad")
    return found


def _belief(item: str) -> str | None:
    """The core belief of which ``item`` is the name and nothing more."""
    plain = _FRAME.sub("", item, count=1) if _FRAME.match(item) else item
    for label in CLOSED_LISTS[Component.CORE_BELIEFS]:
        family, name = label.split(": ")
        if re.fullmatch(rf"(?:{family}\W+(?:(?:is|are)\s+)?)?(?:an?\s+)?{name}\W*", plain):
            return label
    return None


def _polarity(text: str) -> dict[str, bool]:
    """Per content word, whether it stands before any negation (True) or after one."""
    negation = _NEGATION.search(text)
    edge = negation.end() if negation else len(text)
    return {
        _STEM.sub("", word[0]): word.start() < edge
        for word in re.finditer(r"[\w']+", text)
        if word[0] not in _EMPTY_WORDS
    }


def _nearest(items: Iterable[str], embedder: Embedder) -> set[str]:
    labels = CLOSED_LISTS[Component.CORE_BELIEFS]
    phrases = embedder.vectors([label_phrase(label) for label in labels])
    found = set()
    for item in items:
        cosines = phrases @ embedder.vectors([item])[0]
        best = int(cosines.argmax())
        if cosines[best] < NEAREST:
            continue
        # A cosine hardly sees a negation: what the one affirms and the other denies is no match.
        held, said = _polarity(label_phrase(labels[best]).lower()), _polarity(item)
        if all(held[word] == said[word] for word in held.keys() & said.keys()):
            found.add(labels[best])
    return found


def overlap(first: frozenset[str], second: frozenset[str]) -> float:
    """Dice overlap of two label sets, 0 to 1."""
    if not first and not second:
        return 0.0
    return 2 * len(first & second) / (len(first) + len(second))
