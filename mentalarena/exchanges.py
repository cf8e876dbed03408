"""How far a dialogue has come: questions asked, and questions left in its present phase.

Why: the graph routes by it, a seat is told it, and a training row has to repeat what the seat was
told without the graph.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

Turns = Sequence[Mapping[str, object]]
"""Spoken turns with ``speaker`` and ``purpose``, as the state or the store holds them."""


class Pace(Protocol):
    """The part of a configuration that bounds a dialogue."""

    @property
    def exchanges(self) -> int:
        """Questions before the first formulation."""
        ...

    @property
    def probe_rounds(self) -> int:
        """Reroutes allowed after it."""
        ...


def asked(turns: Turns, purpose: str) -> int:
    """Questions that the therapist has put for one purpose."""
    return sum(t["speaker"] == "therapist" and t["purpose"] == purpose for t in turns)


def exchanges_left(turns: Turns, pace: Pace) -> int:
    """Questions left in the present phase: of the exchange budget, or of the probes."""
    if any(turn["purpose"] == "probe" for turn in turns):
        return max(pace.probe_rounds - asked(turns, "probe"), 0)
    return max(pace.exchanges - asked(turns, "exchange"), 0)
