"""The Flesch-Kincaid grade of a text: years of school that it asks for.

Why: patients who talk like an essay are no patients, and the grade says so in one figure. The
formula needs words, sentences and syllables; packages that count these bring a pronouncing
dictionary and a tokenizer for it. Syllables are estimated here by groups of vowels, which is known
to be off by a few percent either way: good for a limit, not for a study of texts.
"""

import re
from collections.abc import Iterable

_WORD = re.compile(r"[a-z]+(?:['\u2019][a-z]+)?")
_SENTENCE_END = re.compile(r"[.!?…]+(?=\s|$)")
_VOWELS = re.compile(r"[aeiouy]+")
_SILENT = re.compile(r"(?:[^laeiouy]e|[^aeiouytd]ed|[^aeiouyscxz]es)$")


def syllables(word: str) -> int:
    """Estimated number of syllables, at least 1."""
    word = word.lower().replace("\u2019", "'").split("'")[0]
    groups = len(_VOWELS.findall(word))
    return max(groups - bool(_SILENT.search(word)), 1)


def grade(texts: Iterable[str]) -> float:
    """Flesch-Kincaid grade of some texts taken together; 0 when they hold no word."""
    words = sentences = sounds = 0
    for text in texts:
        found = _WORD.findall(text.lower())
        words += len(found)
        sentences += max(len(_SENTENCE_END.findall(text)), 1) if found else 0
        sounds += sum(map(syllables, found))
    if not words:
        return 0.0
    return 0.39 * words / sentences + 11.8 * sounds / words - 15.59
