"""The live view shows text of models and files as text, and a trainee nothing of the record."""

from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from graphs.console import LiveView
from mentalarena.config import ArenaConfig
from mentalarena.roster import builtin_cases
from tests.mentalarena.view.stores import FORBIDDEN, HOSTILE, SHORT, WORD

TURN = {
    "idx": 0, "speaker": "patient", "purpose": "opening", "text": HOSTILE, "role_flip": True,
    "crisis": [{"kind": SHORT}],
}  # fmt: skip
DEVIATION = {"round": 0, "component": "emotions", "verdict": "distorted", "reason": SHORT}
DECISION = {
    "round": 0, "decision": "biased", "component": "emotions", "mode": "revisit", "guidance": SHORT,
}  # fmt: skip
DIAGNOSIS = {"label": SHORT, "code": None, "chosen": True, "reason": SHORT}
PLAN = {
    "kind": "treatment", "name": HOSTILE, "score": 5.0, "health_before": 5, "health_after": 6,
    "chosen": True, "response": SHORT,
}  # fmt: skip
FAILURE = {"boundary": "parse", "node": "patient", "message": SHORT}


def shown(**config: Any) -> str:
    out = StringIO()
    view = LiveView(Console(file=out, width=100, color_system=None), ArenaConfig(**config))
    case = builtin_cases()["walter-1"]
    view.opening(ArenaConfig(**config), 1)
    view.episode(case, "ep-1", 1, 1)
    view.update("patient", {"turns": [TURN]})
    view.update("decode", {"deviations": [DEVIATION], "decisions": [DECISION]})
    view.update("confirm", {"diagnoses": [DIAGNOSIS], "failures": [FAILURE]})
    view.update("score", {"plans": [PLAN]})
    view.update("close", {"plans": [PLAN]})
    view.failed(RuntimeError(SHORT))
    return out.getvalue()


def test_hostile_text_is_only_text_while_it_is_played() -> None:
    text = shown()
    assert not FORBIDDEN & set(text)
    assert text.count("W") >= 3 * len(WORD), "nothing was left out"
    assert "reroute to revisit emotions" in text


@pytest.mark.parametrize(("seat", "seen"), [("therapist", False), ("patient", True)])
def test_only_a_trainee_is_kept_from_verdicts(seat: str, seen: bool) -> None:
    text = shown(**{seat: "human"})
    assert ("distorted" in text) == seen
    assert ("substance-use" in text) == seen
