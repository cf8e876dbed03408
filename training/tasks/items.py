"""One item of a question set, and one way of putting it to a model.

Why: every format (MedQA, MedMCQA, PubMedQA, MMLU, IMHI, BBH) becomes the same few fields, so that
asking, scoring and counting are written once. An item is known by its content: the same question
in another file, or a file in another order, is the same item, and is not asked again.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from random import Random

from mentalarena.journal import digest

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True)
class Item:
    """A question with a closed list of answers."""

    question: str
    options: tuple[str, ...]
    """What may be answered, in the file's order."""
    gold: int
    """Position of the right option."""
    context: str = ""
    """What the question is about (an abstract, a post); empty when there is none."""
    words: bool = False
    """Whether the options are themselves the answers (yes, no, maybe) and carry no letters."""
    copies: int = 1
    """How often the set holds the item: it is asked once and counted as often."""

    @cached_property
    def hash(self) -> str:
        """What the item is known by: hash of everything but ``copies``."""
        return digest([self.question, self.options, self.gold, self.context, self.words], 32)

    @cached_property
    def cluster(self) -> str:
        """What repeats of a question share, whatever stands around it."""
        return digest(" ".join(self.question.lower().split()), 16)

    @property
    def labels(self) -> tuple[str, ...]:
        """What an answer names: letters, or the options themselves."""
        return self.options if self.words else tuple(LETTERS[: len(self.options)])

    @property
    def gold_label(self) -> str:
        """The label of the right option."""
        return self.labels[self.gold]

    def text(self) -> str:
        """All words of the item, for contamination scans."""
        return " ".join((self.context, self.question, *(() if self.words else self.options)))


@dataclass(frozen=True)
class Question:
    """An item as it is put: with its options turned by some places."""

    item: Item
    rotation: int = 0
    """Places by which the options are turned; 0 is the file's order."""

    @cached_property
    def shown(self) -> Item:
        """The item with its options in the order shown; ``gold`` follows."""
        if not self.rotation:
            return self.item
        count = len(self.item.options)
        order = [(place + self.rotation) % count for place in range(count)]
        options = tuple(self.item.options[place] for place in order)
        return replace(self.item, options=options, gold=order.index(self.item.gold))

    @property
    def key(self) -> tuple[str, int]:
        """What the question is known by within an evaluation."""
        return self.item.hash, self.rotation


def questions(items: Iterable[Item], rotations: int) -> list[Question]:
    """Every item in ``rotations`` orders of its options; yes and no are not turned."""
    return [
        Question(item, rotation)
        for item in items
        for rotation in range(1 if item.words else min(rotations, len(item.options)))
    ]


def chosen(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """A seeded sample of ``limit`` items (all without one), repeats merged into ``copies``.

    The sample is drawn over positions in the file, so that ``limit`` is the number that counts.
    """
    places = list(range(len(items)))
    if limit is not None and limit < len(items):
        places = sorted(Random(f"{seed}/items").sample(places, limit))
    found: dict[str, Item] = {}
    for place in places:
        item = items[place]
        if item.hash in found:
            item = replace(item, copies=found[item.hash].copies + item.copies)
        found[item.hash] = item
    return list(found.values())


def set_hash(items: Iterable[Item]) -> str:
    """What a choice of items is known by, whatever their order."""
    return digest(sorted((item.hash, item.copies) for item in items), 32)
