"""From the slice of the state that a node may read to what its seat is shown.

Why: the nodes of dialogue, plans and scores build their views from the same few pieces; nothing
here takes more than spoken turns, the therapist's own work and recorded failures.
"""

from collections.abc import Sequence

from agents.seats import Failure, Formulation, Line
from graphs.state import FailureRecord, TherapistInput, Turn
from mentalarena.safety import screen


def lines(turns: Sequence[Turn]) -> tuple[Line, ...]:
    """Spoken words only: nothing that the store keeps beside them."""
    return tuple(Line(turn["speaker"], turn["text"]) for turn in turns)


def crisis_findings(text: str) -> list[dict[str, str]]:
    """What the crisis screen counts as a crisis in something a patient said."""
    return [
        {"kind": f.kind, "span": text[slice(*f.span)], "rule": f.rule}
        for f in screen(text)
        if f.qualifier is None
    ]


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
