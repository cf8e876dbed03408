"""How the mock server draws prose, quotes, names and labelled lines for a prompt.

Why: an answer must follow from its prompt alone, and keep the forms that the project reads back:
verbatim quotes of the patient, names of a closed list, ``label: value`` lines.
"""

import re
from collections.abc import Sequence
from functools import cached_property
from random import Random
from typing import Any

from benchmarks.mock_words import (
    CLINICAL,
    DISORDERS,
    MEDICATIONS,
    PATIENT,
    QUESTIONS,
    SLOTS,
    THERAPIST,
    TREATMENTS,
)
from mentalarena.case import COMPONENTS

SPOKEN = ("text", "response", "reply", "answer")
"""Names of fields that a person says aloud."""


class Writer:
    """Draws one answer; everything comes from the messages and one generator."""

    def __init__(self, messages: Sequence[tuple[str, str]], random: Random, score: int = 0) -> None:
        self.random = random
        self._score = score
        self._text = "\n".join(text for _, text in messages)
        self._last_user = next((text for role, text in reversed(messages) if role == "user"), "")
        system = next((text for role, text in messages if role in ("system", "developer")), "")
        named = re.search(r"\b(therapist|patient)\b", system, re.IGNORECASE)
        self._therapist = named is not None and named[1].lower() == "therapist"
        self._used: set[str] = set()

    def prose(self, words: int, bank: tuple[str, ...] = ()) -> str:
        """Sentences of about ``words`` words; a therapist ends with a question."""
        asks = not bank and self._therapist
        bank = bank or (THERAPIST if self._therapist else PATIENT)
        sentences: list[str] = [self._sentence(self.random.choice(QUESTIONS))] if asks else []
        count = sum(len(sentence.split()) for sentence in sentences)
        order: list[str] = []
        while not sentences or count < words - 5:
            order = order or self.random.sample(bank, len(bank))
            sentence = self._sentence(order.pop())
            count += len(sentence.split())
            sentences.insert(0, sentence)
        return " ".join(sentences)

    def _sentence(self, template: str) -> str:
        text = re.sub(r"\{(\w+)\}", lambda slot: self.random.choice(SLOTS[slot[1]]), template)
        return text[0].upper() + text[1:]

    def quote(self, longest: int = 2000) -> str:
        """A sentence that a ``Patient:`` line of the prompt holds verbatim; empty without one."""
        if not self.told:
            return ""
        return self.random.choice(self.random.choice(self.told))[:longest].rstrip()

    @cached_property
    def told(self) -> list[list[str]]:
        """The sentences of every patient line; a line of few words is one sentence."""
        lines = re.findall(r"^Patient: *(\S.*)$", self._text, re.MULTILINE)
        split = ((line, re.split(r"(?<=[.!?]) +", line)) for line in map(str.rstrip, lines))
        return [
            [part for part in parts if len(part.split()) > 2] or [line] for line, parts in split
        ]

    def disorder(self) -> str:
        """A disorder that this answer has not named yet."""
        return self._fresh(DISORDERS)

    def plan(self) -> str:
        """A treatment or a class of drugs that the prompt does not speak of, while there is one."""
        kind = re.search(r"\b(treatment|medication) plan\b", self._last_user)
        bank = MEDICATIONS if kind is not None and kind[1] == "medication" else TREATMENTS
        known = self._text.lower()
        return self._fresh(tuple(name for name in bank if name.lower() not in known) or bank)

    def _fresh(self, bank: tuple[str, ...]) -> str:
        chosen = self.random.choice([name for name in bank if name not in self._used] or bank)
        self._used.add(chosen)
        return chosen

    def lines(self, words: int) -> str:
        """Labelled lines, when the last user message asks for them; else empty."""
        asked = re.search(r"exactly these[^\n]*\blines?\b[^\n]*\n", self._last_user, re.IGNORECASE)
        if asked is None:
            return ""
        labels: list[tuple[str, str]] = []
        for line in self._last_user[asked.end() :].splitlines():
            label = re.match(r"[\s`*-]*([A-Za-z][\w ()/-]{0,60}?)[`*]*: *(.*)", line)
            if label is not None:
                labels.append((label[1], label[2]))
            elif line.strip("` ") and labels:
                break
        if not labels:
            return ""
        share = max(words // len(labels), 6)
        filled = [(name, self._line(name, hint, share)) for name, hint in labels]
        return "\n".join(f"{name}: {text}" for name, text in filled if text)

    def _line(self, name: str, hint: str, words: int) -> str:
        number = re.search(
            r"(?:\bnumber\b|\binteger\b|^)\D*?(-?\d+)(?: *\([^)]*\))? *(?:to|or|and|-) *(-?\d+)\b"
            r"(?! *(?:words?|sentences?|lines?|quotes?)\b)",
            hint,
            re.IGNORECASE,
        )
        if self._score and name.lower() == "score":
            return str(self._score)
        if number is not None:
            return str(self.random.randint(*sorted((int(number[1]), int(number[2])))))
        if re.search(r"\bnumber\b", hint, re.IGNORECASE):
            return str(self.random.randint(1, 2))
        options = re.search(r"\b(?:one|either) of:? (.+?)[.>\])]*$", hint, re.IGNORECASE)
        if options is not None:
            return str(self.random.choice(re.split(r", *(?:or +)?| +or +", options[1]))).strip(
                "`'\""
            )
        key, means = name.lower(), hint.strip("<> ").lower()
        if "quote" in key or "verbatim" in means:
            return self.quote() or ("" if "leave out" in means else "none")
        if "component" in (key, means):
            return str(self.option([part.value for part in COMPONENTS]))
        if re.search(r"\b(reason|rationale)\b", key) is None:
            if re.search(r"\b(label|diagnosis|disorder)\b", key) or means == "label":
                return self.disorder()
            if re.search(r"\b(name|plan|treatment|medication)\b", key) or means == "name":
                return self.plan()
        return self.prose(words, CLINICAL if key not in SPOKEN else ())

    def option(self, options: Sequence[Any]) -> Any:
        """One of a closed list; of those that the last user message names, when it names any."""
        words = {str(item).lower().replace("_", " "): item for item in options if item}
        # Longest first: a name that is part of another name is not a mention of it.
        names = "|".join(re.escape(word) for word in sorted(words, key=len, reverse=True))
        said = self._last_user.lower().replace("_", " ")
        named = dict.fromkeys(re.findall(rf"\b(?:{names})\b", said)) if names else {}
        return self.random.choice([words[word] for word in named] or list(options))
