"""Small English: words, sentences, person, and how two sentences join.

Why: rule-based seats speak from sentences that others wrote. To join them grammatically, to quote
them exactly and to retell them in the third person takes a handful of rules; they are kept in one
place, without any model, and tested on their own.
"""

import re
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from random import Random
from tomllib import loads
from typing import Any, TypeVar

T = TypeVar("T")


@cache
def data(name: str) -> dict[str, Any]:
    """One of the package's phrase or table files, read once."""
    return loads((files("agents.rules") / "data" / f"{name}.toml").read_text("utf-8"))


_LISTS = data("language")
_WORD = re.compile(r"[a-z0-9]+")
_SENTENCE_END = re.compile(
    r"(?<!\bDr)(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bSt)([.!?…]+[\"”']?)\s+(?=[\"“'A-Z0-9])"
)
_QUOTED = re.compile(r"[\"“][^\"“”]*[\"”]")

_LOWERABLE = frozenset(_LISTS["lowerable"].split())
_JOINED_ALREADY = frozenset(_LISTS["joined_already"].split())
_STOP = frozenset(_LISTS["stop"].split())


@lru_cache(maxsize=8192)
def words(text: str) -> tuple[str, ...]:
    """Lower-case words; apostrophes vanish (``can't`` is ``cant``)."""
    return tuple(_WORD.findall(text.lower().replace("'", "").replace("\u2019", "")))


def content(text: str) -> frozenset[str]:
    """The words that carry a sentence's content, cut to a rough stem."""
    return frozenset(_stem(word) for word in words(text) if word not in _STOP and len(word) > 2)


def _stem(word: str) -> str:
    for ending in ("ing", "edly", "ed", "ies", "es", "ly", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def normal(text: str) -> str:
    """Text as compared for "was this said": words only, one space apart, framed by spaces."""
    return " " + " ".join(words(text)) + " "


@lru_cache(maxsize=8192)
def sentences(text: str) -> tuple[str, ...]:
    """The sentences of a turn, each a verbatim span of it."""
    spans, start = [], 0
    for match in _SENTENCE_END.finditer(text):
        spans.append(text[start : match.end(1)].strip())
        start = match.end()
    spans.append(text[start:].strip())
    return tuple(span for span in spans if span)


def unquoted(text: str) -> str:
    """Text without what stands in double quotation marks."""
    return _QUOTED.sub(" ", text)


def lower_first(sentence: str) -> str | None:
    """The sentence with a small first letter, or None when that might spoil a name."""
    first = sentence.split(" ", 1)[0]
    plain = first.lower().replace("\u2019", "'").rstrip(",")
    if plain in ("i", "i'm", "i've", "i'd", "i'll"):
        return sentence
    if plain in _LOWERABLE:
        return sentence[0].lower() + sentence[1:]
    return None


def attach(lead: str, sentence: str) -> str:
    """Put a lead before a sentence.

    A lead that ends with a word, comma, colon or dash runs on into the sentence when the sentence
    can take it, and is left out when it cannot; any other lead stands as a sentence of its own.
    """
    if not lead:
        return sentence
    if not (lead[-1].isalnum() or lead[-1] in ",:—"):
        return f"{lead} {sentence}"
    opener = words(sentence)[:1]
    if opener and opener[0] in _JOINED_ALREADY:
        return sentence
    if lead[-1] in ":—":
        return f"{lead} {lower_first(sentence) or sentence}"
    lowered = lower_first(sentence)
    return sentence if lowered is None else f"{lead} {lowered}"


@cache
def _stock() -> tuple[frozenset[str], tuple[str, ...]]:
    """Phrases that carry nothing: whole sentences as words, and leads that run on, as written."""
    whole: set[str] = set()
    leads: set[str] = set()
    for style in data("patient").values():
        for bank in style.values():
            for phrase in bank:
                *before, last = sentences(phrase) or ("",)
                whole.update(normal(part) for part in before)
                if last and (last[-1].isalnum() or last[-1] in ",:—"):
                    leads.add(last)
                else:
                    whole.add(normal(last))
    whole.discard(normal(""))
    return frozenset(whole), tuple(sorted(leads, key=lambda lead: (-len(lead), lead)))


@lru_cache(maxsize=8192)
def substance(sentence: str) -> str:
    """A patient's sentence without the phrases that only lead into it; a verbatim span, or empty.

    Empty when the whole sentence is a stock phrase (a greeting, a refusal, a remark on talking).
    """
    whole, leads = _stock()
    if normal(sentence) in whole:
        return ""
    for lead in leads:
        if sentence.startswith(lead + " "):
            return substance(sentence[len(lead) + 1 :].strip())
    return sentence


def finish(sentence: str) -> str:
    """The sentence with an end mark."""
    sentence = sentence.strip()
    return sentence if sentence[-1:] in '.!?…"”' else sentence + "."


def unused(bank: Sequence[str], spoken: str, random: Random) -> str:
    """A phrase of the bank that ``spoken`` (see :func:`normal`) does not hold; "" when all do."""
    fresh = [phrase for phrase in bank if normal(phrase) not in spoken]
    return random.choice(fresh) if fresh else ""


def shuffled(items: Iterable[T], random: Random) -> list[T]:
    """A shuffled copy."""
    copy = list(items)
    random.shuffle(copy)
    return copy


# --- retelling in the third person ---------------------------------------------------------------

# Longer patterns first. "They" is singular: its verbs are those of "I", except for "to be".
_THIRD: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), into)
    for pattern, into in (
        (r"\bI['\u2019]m\b", "they are"),
        (r"\bI am\b", "they are"),
        (r"\bam I\b", "are they"),
        (r"\bwas I\b", "were they"),
        (
            r"\bI (already|also|always|just|never|often|once|only|really|still|usually) was\b",
            r"they \1 were",
        ),
        (
            r"\bI (already|also|always|just|never|often|only|really|still|usually) am\b",
            r"they \1 are",
        ),
        (r"\bI wasn['\u2019]t\b", "they were not"),
        (r"\bI was\b", "they were"),
        (r"\band I\b(?= am\b)", "and they"),
        (r"\bI['\u2019]ve\b", "they have"),
        (r"\bI['\u2019]d\b", "they would"),
        (r"\bI['\u2019]ll\b", "they will"),
    )
)
_PAST_PERFECT = re.compile(r"\bthey would (?=(?:better|been|had|gone|done|\w+ed|never \w+ed)\b)")
_PERSON = re.compile(
    r"\b(?:I|me|my|mine|myself|we|us|our|ours|ourselves|we're|we\u2019re|we've|we\u2019ve|am)\b"
)
_PERSON_CAPITAL = re.compile(
    r"\b(?:Me|My|Mine|Myself|We|Us|Our|Ours|We're|We\u2019re|We've|We\u2019ve)\b"
)
_PERSON_WORDS = {
    "i": "they",
    "me": "them",
    "my": "their",
    "mine": "theirs",
    "myself": "themselves",
    "we": "they",
    "us": "them",
    "our": "their",
    "ours": "theirs",
    "ourselves": "themselves",
    "we're": "they are",
    "we\u2019re": "they are",
    "we've": "they have",
    "we\u2019ve": "they have",
    "am": "are",
}
_FILLER = re.compile(
    r"^(?:(?:well|honestly|look|anyway|also|and|but|so|plus|okay|to be honest|you know|i mean|"
    r"i guess|i suppose|i don['\u2019]t know)\b[,—: ]+)+",
    re.IGNORECASE,
)


@lru_cache(maxsize=8192)
def to_third(sentence: str) -> str:
    """A first-person sentence retold of "they"; no capital unless the first word needs one."""
    text = _FILLER.sub("", sentence.strip()) or sentence.strip()
    first = text.split(" ", 1)[0].lower().replace("\u2019", "'").rstrip(",")
    lowered = first in _LOWERABLE
    for pattern, into in _THIRD:
        text = pattern.sub(into, text)
    text = _PERSON.sub(lambda m: _PERSON_WORDS[m[0].lower()], text)
    text = _PERSON_CAPITAL.sub(lambda m: _PERSON_WORDS[m[0].lower()], text)
    text = _PAST_PERFECT.sub("they had ", text)
    if lowered and not text.startswith("they"):
        text = text[0].lower() + text[1:]
    return text


def capital(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


# --- first-person sentences for imported clauses -------------------------------------------------

_IRREGULAR = {
    "is": "am",
    "was": "was",
    "has": "have",
    "does": "do",
    "goes": "go",
    "isn't": "am not",
    "doesn't": "don't",
    "hasn't": "haven't",
    "were": "was",
    "are": "am",
}
_SUBJECT = re.compile(
    r"^(?:the (?:patient|client)|this (?:patient|client|person)|she|he|they|patient|client)\b",
    re.IGNORECASE,
)
_OPENERS = frozenset(_LISTS["openers"].split())
_ADVERBS = frozenset(_LISTS["adverbs"].split())
_NOT_VERBS = frozenset(_LISTS["not_verbs"].split())
_PLAINER = (
    (r"\bexperiences?\b", "get"),
    (r"\bdifficult(?:y|ies)\b", "trouble"),
    (r"\bfrequently\b", "many times"),
    (r"\boften\b", "many times"),
    (r"\bbecause\b", "since"),
    (r"\bindividuals\b", "people"),
    (r"\bchildren\b", "kids"),
    (r"\bapproximately\b", "about"),
    (r"\breports? that\b", ""),
    (r"\breports\b", "has"),
    (r"\bstates? that\b", ""),
    (r"\battempts? to\b", "try to"),
    (r"\bsignificant\b", "a real"),
    (r"\bprior to\b", "before"),
)


def made_utterance(text: str) -> str:
    """A plain first-person sentence for a clause that came without utterances of its own.

    It keeps the clause's content, so it is close to the record: seats mark it where it is spoken.
    """
    if _starts_with_verb(text):
        text = f"He {text[0].lower()}{text[1:]}"
    third = _SUBJECT.match(text) or re.match(r"(?:his|her|their)\b", text, re.IGNORECASE)
    for pattern, into in _PLAINER:
        text = re.sub(pattern, into, text, flags=re.IGNORECASE)
    if third:
        text = _SUBJECT.sub("I", text, count=1)
        text = re.sub(
            r"^(I(?: (?:also|always|never|many times|sometimes|usually|still))?) ([a-z\u2019']+)",
            lambda m: f"{m[1]} {_first_person_verb(m[2])}",
            text,
        )
        text = re.sub(
            r"\b(and|but|or|when|because|since|that|if) (?:she|he|they) ([a-z\u2019']+)",
            lambda m: f"{m[1]} I {_first_person_verb(m[2])}",
            text,
        )
        text = re.sub(
            r"\b(and|but|or) ([a-z]+s)\b",
            lambda m: f"{m[1]} {_opening_verb(m[2])}",
            text,
        )
        text = re.sub(r"\b(?:himself|herself|themselves)\b", "myself", text)
        text = re.sub(r"\b(?:his|their)\b|\bher(?= [a-z])", "my", text, flags=re.IGNORECASE)
        text = re.sub(r"\b(?:him|them|her)\b", "me", text)
    text = finish(" ".join(text.split()))
    if words(text)[:1] and words(text)[0] in ("i", "im", "ive", "my", "if", "when"):
        return attach("I suppose you could put it like this:", text)
    return f"With me it is like this: {lower_first(text) or text}"


def _starts_with_verb(text: str) -> bool:
    """Whether a clause leaves its subject out, as in "Often avoids meetings"."""
    found = [word for word in words(text)[:2] if word not in _ADVERBS]
    if not found:
        return False
    verb = _first_person_verb(found[0])
    return found[0] in ("has", "is", "does") or (verb != found[0] and verb in _OPENERS)


def _opening_verb(word: str) -> str:
    """The first-person form of a word that is surely a verb; any other as it is."""
    verb = _first_person_verb(word)
    return verb if verb in _OPENERS or word in ("has", "is", "does") else word


def _first_person_verb(verb: str) -> str:
    plain = verb.replace("\u2019", "'")
    if plain in _IRREGULAR:
        return _IRREGULAR[plain]
    if not verb.endswith("s") or verb.endswith("ss") or verb in _NOT_VERBS:
        return verb
    if verb.endswith("ies") and len(verb) > 4:
        return verb[:-3] + "y"
    if verb.endswith(("shes", "ches", "sses", "xes", "zzes")):
        return verb[:-2]
    return verb[:-1]
