"""Shared word runs between two collections of texts: whether a test leaked into training.

Why: a model that was trained on an evaluation's items is measured on its memory. Two texts overlap
when they share a run of thirteen words, cases and punctuation aside; a shorter text when all of it
stands in the other. Used by evaluation (items against a training set) and, the other way round,
for keeping evaluation items out of a training set.

How: ``OverlapIndex(evaluation_texts).find(training_text)`` names the texts that it shares with.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mentalarena.errors import ConfigurationError
from training.tasks.readers import read_records

RUN = 13
"""Words in a run; what GPT-3's authors and many after them took."""
SHORTEST = 5
"""Words of a text below which it is too common to be looked for."""

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")


def words(text: str) -> list[str]:
    """The words of a text, lower case, without punctuation."""
    return [word.replace("\u2019", "'") for word in _WORD.findall(text.lower())]


def runs(found: list[str], length: int) -> Iterator[tuple[str, ...]]:
    """All runs of ``length`` neighboring words."""
    for start in range(len(found) - length + 1):
        yield tuple(found[start : start + length])


class OverlapIndex:
    """Texts that others may share word runs with.

    Args:
        texts: What is looked for, by name.
        run: Words in a run.
    """

    def __init__(self, texts: Mapping[str, str], run: int = RUN) -> None:
        self._names: dict[tuple[str, ...], set[str]] = {}
        self._lengths: set[int] = set()
        self.too_short: list[str] = []
        """Names of texts too short to be looked for."""
        for name, text in texts.items():
            found = words(text)
            length = min(run, len(found))
            if length < min(SHORTEST, run):
                self.too_short.append(name)
                continue
            self._lengths.add(length)
            for gram in runs(found, length):
                self._names.setdefault(gram, set()).add(name)

    def find(self, text: str) -> set[str]:
        """Names of the texts that ``text`` shares a run with."""
        found = words(text)
        names: set[str] = set()
        for length in self._lengths:
            for gram in runs(found, length):
                names |= self._names.get(gram, set())
        return names


def contaminated(index: OverlapIndex, training: Iterable[str]) -> dict[str, int]:
    """Names of indexed texts that training texts share a run with, and how many of them do."""
    counts: dict[str, int] = {}
    for text in training:
        for name in index.find(text):
            counts[name] = counts.get(name, 0) + 1
    return counts


def texts_of(path: Path) -> Iterator[str]:
    """Every row of a training set as one text: all strings in it, whatever its format.

    Args:
        path: A ``.jsonl``, ``.json``, ``.csv`` or ``.txt`` file, or a folder of such.

    Raises:
        ConfigurationError: nothing there can be read.
    """
    suffixes = (".jsonl", ".json", ".csv", ".txt")
    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in suffixes)
    if not files or not path.exists():
        raise ConfigurationError(
            f"--training-data {path}: expected a file or a folder of {', '.join(suffixes)}"
        )
    for file in files:
        if file.suffix == ".txt":
            yield file.read_text(encoding="utf-8", errors="replace")
            continue
        for record in read_records(file):
            yield " ".join(_strings(record))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
