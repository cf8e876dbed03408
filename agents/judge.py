"""A judge played by a model (or a person): scores one plan from the dialogue and its outcome.

Why not the whole dialogue: a score rests on what the patient said. A question is kept where the
answer is too short to be understood without it; the rest of the therapist's words would be paid for
with every plan and says nothing about the patient.
"""

import re

from agents.ask import Ask
from agents.prompting import Prompt, render
from agents.seats import Answered, JudgeView, Line, Place, Score

_CLEAR_WORDS = 12
"""An answer of so many words is taken to be clear without its question."""


class ModelJudge:
    """The judge's seat."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def score(self, view: JudgeView, at: Place, sample: int) -> Answered[Score | None]:
        """See :class:`agents.seats.JudgeSeat`; never guessed: None when it could not be read."""
        return await self._ask.attempt(render_score(view), Score, at, "score", sample)


def render_score(view: JudgeView) -> Prompt:
    """The prompt of a score."""
    return render(
        "judge",
        "score",
        heard(view.lines),
        diagnosis=view.diagnosis,
        kind=view.kind,
        plan=view.name,
        rationale=view.rationale or "not given",
        response=view.response,
        before=view.health_before,
        after=view.health_after,
    )


def heard(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    """The patient's lines, and before a short one the question (last sentence) that it answers."""
    kept: list[Line] = []
    for position, line in enumerate(lines):
        if line.speaker == "patient":
            kept.append(line)
            continue
        following = lines[position + 1 : position + 2]
        if following and len(following[0].text.split()) < _CLEAR_WORDS:
            question = re.split(r"(?<=[.!?…])\s+", line.text.strip())[-1]
            kept.append(line._replace(text=question))
    return tuple(kept)
