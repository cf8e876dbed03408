"""Which plan fits which disorder, by an illustrative table (``data/plans.toml``).

Why: therapist, patient and judge all need a notion of fit, and it must be one that can be looked
up. The table names psychological treatments and drug *classes*, no brands and no doses; it is made
for a simulation and is no guideline.
"""

from dataclasses import dataclass
from functools import cache, lru_cache

from agents.rules.cues import Index, build_index, look_up
from agents.rules.language import data, words
from agents.seats import PlanKind
from mentalarena.nosology import family, map_label

UNKNOWN_FIT = 0.35
"""Fit of a plan of a kind that the disorder's table does not hold."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One row of the table."""

    kind: str
    name: str
    fit: float
    """0 (contrary to what usually helps) to 1 (first line)."""
    reason: str


@dataclass(frozen=True, slots=True)
class Group:
    """A group of disorders that share their plans."""

    name: str
    treatment: tuple[Plan, ...]
    medication: tuple[Plan, ...]

    def plans(self, kind: PlanKind) -> tuple[Plan, ...]:
        """The rows of one kind, as listed."""
        return self.treatment if kind == "treatment" else self.medication


@cache
def _groups() -> tuple[tuple[Group, tuple[str, ...], tuple[str, ...]], ...]:
    return tuple(
        (
            Group(
                row["name"],
                tuple(Plan(*plan) for plan in row["treatment"]),
                tuple(Plan(*plan) for plan in row["medication"]),
            ),
            tuple(row.get("codes", ())),
            tuple(row.get("families", ())),
        )
        for row in data("plans")["groups"]
    )


@lru_cache(maxsize=1024)
def group_of(code: str | None) -> Group:
    """The group of an ICD-10-CM code: the longest listed code prefix, else its family."""
    best: tuple[int, Group] | None = None
    home = family(code) if code else "other"
    for group, codes, families in _groups():
        length = max(
            (len(prefix) for prefix in codes if code and code.startswith(prefix)), default=0
        )
        if home in families and not length:
            length = 1
        if length and (best is None or length > best[0]):
            best = (length, group)
    return best[1] if best else _groups()[-1][0]


@lru_cache(maxsize=1024)
def code_of(label: str) -> str | None:
    """The ICD-10-CM code of a label in anybody's words; None when it maps to none."""
    return map_label(label).code


@cache
def _kinds() -> Index:
    return build_index(data("plans")["kinds"])


@lru_cache(maxsize=1024)
def kinds_of(name: str) -> frozenset[str]:
    """What kinds of plan a name speaks of."""
    return frozenset(look_up(words(name), _kinds()))


@lru_cache(maxsize=4096)
def fit(name: str, kind: PlanKind, code: str | None) -> float:
    """How well a plan fits a disorder, 0 to 1.

    A listed name has its own fit, any other the best of the kinds it speaks of, and a name whose
    kinds the group does not list :data:`UNKNOWN_FIT`.
    """
    rows = group_of(code).plans(kind)
    for plan in rows:
        if words(plan.name) == words(name):
            return plan.fit
    found = kinds_of(name)
    return max((plan.fit for plan in rows if plan.kind in found), default=UNKNOWN_FIT)


def general(kind: PlanKind) -> tuple[Plan, ...]:
    """Plans that can be offered whatever the disorder."""
    return _groups()[-1][0].plans(kind)


def same_plan(a: str, b: str) -> bool:
    """Whether two names mean much the same plan."""
    if words(a) == words(b):
        return True
    kinds = kinds_of(a)
    return bool(kinds) and kinds == kinds_of(b)
