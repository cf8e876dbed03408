"""Frozen validation sets, their two halves, and intervals: what the checks of instruments share.

Why: a rule that was tuned on a sentence proves nothing about it. The sets were written before the
rules were tuned and are held by hash (``mentalarena/data/frozen.sha256``). What the rules made of
them *before* anybody improved a rule stands in ``benchmarks/blind.json``. Only then was each set
split by a fixed rule (:func:`half`): rules may be improved on one half, the other half reports.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from scipy.stats import binomtest

from mentalarena.errors import CaseError

Half = Literal["improve", "report"]
Item = Mapping[str, Any]

BLIND: Final = Path(__file__).with_name("blind.json")
"""Answers of the first rules, by the SHA-256 of the item's text; never written again."""


SEEN: Final = frozenset(
    {
        "4b64602130080486",
        "372f1287359074ce",
        "650c15471ef9b10f",
        "f8c04d3690d682d6",
        "f61a905fba4984d9",
        "6bb5405e1617fd92",
        "e0b4da154cad73c9",
        "2593d9c75d2e8bbc",
        "fd317b3e274566dc",
        "2b1f7bda5c083a6b",
    }
)
"""The first five items of each file, which whoever improved the rules saw on opening it."""


class Share(NamedTuple):
    """A share with its Wilson interval (95 %)."""

    hits: int
    n: int
    low: float
    high: float

    def __str__(self) -> str:
        if not self.n:
            return "-"
        return f"{self.hits}/{self.n} = {self.hits / self.n:.2f} ({self.low:.2f}-{self.high:.2f})"


def share(hits: int, n: int) -> Share:
    """The share of ``hits`` in ``n`` with its interval; an empty one when ``n`` is 0."""
    if not n:
        return Share(0, 0, 0.0, 1.0)
    interval = binomtest(hits, n).proportion_ci(0.95, "wilson")
    return Share(hits, n, round(float(interval.low), 4), round(float(interval.high), 4))


def count(items: Sequence[Item], holds: Callable[[Item], bool]) -> Share:
    """The share of items for which something holds."""
    return share(sum(map(holds, items)), len(items))


def key(text: str) -> str:
    """What stands for a text in ``blind.json``."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def half(text: str) -> Half:
    """The half of a set that a text belongs to: SHA-256 of it even (improve) or odd (report).

    What was seen belongs to the first, whatever its hash.
    """
    if key(text) in SEEN:
        return "improve"
    return "improve" if hashlib.sha256(text.encode()).digest()[-1] % 2 == 0 else "report"


def read(name: str) -> list[Item]:
    """The items of ``validation/NAME.jsonl``.

    Raises:
        CaseError: the file is not the one that was frozen.
    """
    data = files("mentalarena") / "data"
    path = f"validation/{name}.jsonl"
    content = (data / path).read_bytes()
    frozen = (data / "frozen.sha256").read_text("utf-8").splitlines()
    if f"{hashlib.sha256(content).hexdigest()}  {path}" not in frozen:
        raise CaseError(f"{path} is not what frozen.sha256 names: restore it from version control")
    return [json.loads(line) for line in content.decode("utf-8").splitlines()]


def blind(name: str) -> Mapping[str, Any]:
    """Answers of the first rules to the items of a set, by :func:`key`."""
    answers: Mapping[str, Any] = json.loads(BLIND.read_text("utf-8"))[name]
    return answers
