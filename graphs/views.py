"""From the slice of the state that a node may read to what its seat is shown.

Why: the nodes of dialogue, plans and scores build their views from the same few pieces; nothing
here takes more than spoken turns, the therapist's own work and recorded failures.
"""

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from agents.seats import Failure, Formulation, Line
from graphs.state import FailureRecord, Finding, TherapistInput, Turn
from mentalarena.case import Case
from mentalarena.replies import screen_reply
from mentalarena.safety import GRAVEST_FIRST, screen

_CASES = 1024
"""Different cases that are kept for the next node that asks; of more, some are read anew."""


def case_of(channel: Mapping[str, Any]) -> Case:
    """The case that a state holds: one object for all episodes in play that hold an equal one.

    Reading it anew at every turn of every episode would take a tenth of an episode's memory.
    """
    found = _shared.get(id(channel))
    if found is not None and found[0] is channel:
        return found[1]
    return _case(json.dumps(channel))


_shared: dict[int, tuple[Mapping[str, Any], Case]] = {}
"""Channels that :func:`case_channel` made, which are known without a look inside; each is held, so
that its identity stays its own."""


@lru_cache(_CASES)
def _case(text: str) -> Case:
    return Case.model_validate_json(text)


def case_channel(case: Case) -> dict[str, Any]:
    """A case as a state holds it, shared likewise: a channel is replaced, never changed."""
    channel = _case_channel(case.model_dump_json())
    if id(channel) not in _shared:
        if len(_shared) >= _CASES:
            _shared.clear()
        _shared[id(channel)] = channel, case
    return channel


@lru_cache(_CASES)
def _case_channel(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    return found


def lines(turns: Sequence[Turn]) -> tuple[Line, ...]:
    """Spoken words only: nothing that the store keeps beside them."""
    return tuple(Line(turn["speaker"], turn["text"]) for turn in turns)


def patient_flags(text: str) -> list[Finding]:
    """Everything that the crisis screen finds in something a patient said."""
    return [
        {
            "screen": "crisis",
            "kind": f.kind,
            "qualifier": f.qualifier,
            "rule": f.rule,
            "span": text[slice(*f.span)],
        }
        for f in screen(text)
    ]


def therapist_flags(text: str, after_crisis: bool = False) -> list[Finding]:
    """What a therapist should not have said in this (:mod:`mentalarena.replies`)."""
    return [
        {
            "screen": "reply",
            "kind": f.kind,
            "qualifier": None,
            "rule": f.rule,
            "span": text[slice(*f.span)],
        }
        for f in screen_reply(text, after_crisis)
    ]


def crises(flags: Sequence[Finding]) -> list[dict[str, str]]:
    """The findings that count as a crisis, the gravest kind first."""
    counted = [f for f in flags if f["screen"] == "crisis" and f["qualifier"] is None]
    counted.sort(key=lambda f: GRAVEST_FIRST.index(f["kind"]))
    return [{"kind": f["kind"], "span": f["span"], "rule": f["rule"]} for f in counted]


def last_formulation(state: TherapistInput) -> Formulation | None:
    """What the therapist stated last; None before the first round."""
    formulations = state.get("formulations")
    return Formulation.model_validate(formulations[-1]["components"]) if formulations else None


def failure_records(node: str, failures: Sequence[Failure]) -> list[FailureRecord]:
    """Unusable answers, as the state keeps them."""
    return [
        {"node": node, "boundary": f.boundary, "message": f.message, "call_id": f.call_id}
        for f in failures
    ]
