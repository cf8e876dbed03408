"""Statements with known truth: what the decoder is calibrated and tested with.

Why: an instrument needs cases whose answer is known before it is looked at. The statements of
``data/pairs`` were written by the authors of the records, before any scorer was tuned and without
a look at one's output, and are frozen: ``data/frozen.sha256`` holds each file's hash, and a file
that changed is refused. No human rater has judged them.

Right are a patient's paraphrases (all clauses of a component) and partial statements (some of
them). Wrong are, each a type of its own: ``distorted`` ones of the same component; right ones of
the same component of *other* patients; right ones of *other components* of the same case; and
``vague`` ones that would fit nearly anybody. Patients are split as in the case files: tuning is
train and dev, and test is test; the vague statements, which belong to nobody, are split by turns,
principles by the group they are in.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from mentalarena.case import Case, Component
from mentalarena.comparison import RECORDED, Wordings, case_wordings
from mentalarena.errors import ConfigurationError
from mentalarena.roster import builtin_cases, principle_groups

DATA = Path(__file__).parent / "data"
Part = Literal["tuning", "test"]
Kind = Literal[
    "paraphrase", "partial", "distorted", "other_patient", "other_component", "vague"
]  # fmt: skip
RIGHT: tuple[Kind, ...] = ("paraphrase", "partial")
WRONG: tuple[Kind, ...] = ("other_patient", "other_component", "vague", "distorted")
_EVERY = 4
"""One principle group in so many is kept for the test."""


class Pair(BaseModel):
    """One statement as it was written down."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    component: Component
    kind: Literal["paraphrase", "partial", "distorted", "vague"]
    statement: str
    case: str = ""
    principle: str = ""
    form: str = ""
    clauses: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Labelled:
    """A statement set against a record."""

    component: Component
    owner: str
    """Whose record it is: a patient, or a principle."""
    cluster: str
    """What it depends on: the patient, or the principle's group."""
    kind: Kind
    form: str
    """How a distorted statement is distorted."""
    statement: str
    teller: str
    """Who it is true of; empty for what is true of nobody or everybody."""

    @property
    def right(self) -> bool:
        """Whether it is true of the owner."""
        return self.kind in RIGHT


def frozen_pairs(folder: Path = DATA) -> dict[str, tuple[Pair, ...]]:
    """The statements by file (a patient's id, ``principles``, ``vague``), hashes checked.

    Raises:
        ConfigurationError: a file is missing, new or changed.
    """
    listed = {}
    for line in (folder / "frozen.sha256").read_text("utf-8").splitlines():
        digest, _, name = line.partition("  ")
        if name.startswith("pairs/"):
            listed[name] = digest
    present = {f"pairs/{path.name}" for path in (folder / "pairs").glob("*.json")}
    if odd := sorted(present ^ set(listed)):
        raise ConfigurationError(
            f"{folder / odd[0]}: the frozen statements and {folder / 'frozen.sha256'} do not name "
            "the same files: restore both"
        )
    found = {}
    for name, digest in sorted(listed.items()):
        raw = (folder / name).read_bytes()
        if hashlib.sha256(raw).hexdigest() != digest:
            raise ConfigurationError(
                f"{folder / name} was changed after it was frozen: restore it (a correction needs "
                "a new hash in frozen.sha256 and a word in docs/decoder.md)"
            )
        pairs = json.loads(raw)["pairs"]
        found[Path(name).stem] = tuple(Pair.model_validate(pair) for pair in pairs)
    return found


@dataclass(frozen=True, slots=True)
class Record:
    """What a statement is compared with: one component's owner and all that is known of it."""

    owner: str
    cluster: str
    part: Part
    wordings: dict[Component, Wordings]
    right: dict[Component, tuple[Pair, ...]]
    distorted: dict[Component, tuple[Pair, ...]]


@cache
def records() -> tuple[Record, ...]:
    """Every owner of statements: patients in their first situation, then principles."""
    pairs = frozen_pairs()
    first: dict[str, Case] = {}
    for _, case in sorted(builtin_cases().items()):
        first.setdefault(case.patient_id, case)
    found = []
    for patient_id, case in first.items():
        own = pairs.get(patient_id, ())
        part: Part = "test" if case.split == "test" else "tuning"
        found.append(Record(
            patient_id, patient_id, part, case_wordings(case),
            {c: tuple(p for p in own if p.component is c and p.kind in RIGHT) for c in RECORDED},
            {c: tuple(p for p in own if p.component is c and p.kind == "distorted")
             for c in RECORDED},
        ))  # fmt: skip
    principle = Component.BEHAVIOR_PRINCIPLES
    for number, group in enumerate(principle_groups()):
        for item in group.principles:
            own = tuple(p for p in pairs["principles"] if p.principle == item.id)
            found.append(Record(
                item.id, group.id, "test" if number % _EVERY == _EVERY - 1 else "tuning",
                {principle: ((item.text, *item.utterances),)},
                {principle: tuple(p for p in own if p.kind in RIGHT)},
                {principle: tuple(p for p in own if p.kind == "distorted")},
            ))  # fmt: skip
    return tuple(found)


def labelled(part: Part, component: Component) -> list[Labelled]:
    """Every statement of one component with its truth, records in the order of the files.

    Args:
        part: whose records and statements.
        component: one of those stated in free text.
    """
    owners = [r for r in records() if r.part == part and r.right.get(component)]
    vague = [p for p in frozen_pairs()["vague"] if p.component is component]
    vague = vague[(0 if part == "test" else 1) :: 2]
    found = []
    for record in owners:
        for kind, form, statement, teller in _against(record, component, owners, vague):
            found.append(
                Labelled(component, record.owner, record.cluster, kind, form, statement, teller)
            )
    return found


def _against(
    record: Record, component: Component, owners: Iterable[Record], vague: Iterable[Pair]
) -> Iterator[tuple[Kind, str, str, str]]:
    own = {_plain(p.statement) for p in record.right[component]}
    for pair in record.right[component]:
        yield pair.kind, "", pair.statement, record.owner
    for pair in record.distorted[component]:
        yield "distorted", pair.form, pair.statement, ""
    for other in owners:
        # The same person, the same group of principles or the same words are no clear negative.
        if other.cluster == record.cluster:
            continue
        for pair in other.right[component]:
            if _plain(pair.statement) not in own:
                yield "other_patient", "", pair.statement, other.owner
    for elsewhere, pairs in record.right.items():
        if elsewhere is not component:
            for pair in pairs:
                yield "other_component", elsewhere.value, pair.statement, record.owner
    for pair in vague:
        yield "vague", "", pair.statement, ""


def _plain(text: str) -> str:
    return " ".join(text.lower().split())
