"""A judge played by a model (or a person): scores one plan from what the patient said of itself.

Why not the whole dialogue: it would be paid for with every plan and every sample, and what the
therapist said of the patient is not what the patient said (:mod:`agents.excerpts`).
"""

from agents.ask import Ask
from agents.excerpts import excerpt
from agents.prompting import Prompt, render
from agents.seats import Answered, JudgeView, Place, Score


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
        excerpt(view.lines),
        diagnosis=view.diagnosis,
        kind=view.kind,
        plan=view.name,
        rationale=view.rationale or "not given",
        response=view.response,
        before=view.health_before,
        after=view.health_after,
    )
