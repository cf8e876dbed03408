"""A judge played by a model (or a person): scores one plan from what the patient said of itself.

With ``scorer = "judge"`` it also rates how true each stated component is of the record, by the
rubric of ``prompts/judge.compare.md``.

Why not the whole dialogue: it would be paid for with every plan and every sample, and what the
therapist said of the patient is not what the patient said (:mod:`agents.excerpts`).
"""

from agents.ask import Ask
from agents.excerpts import excerpt
from agents.prompting import Prompt, render
from agents.seats import Answered, Comparison, ComparisonView, JudgeView, Place, Score
from mentalarena.case import COMPONENTS


class ModelJudge:
    """The judge's seat."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def score(self, view: JudgeView, at: Place, sample: int) -> Answered[Score | None]:
        """See :class:`agents.seats.JudgeSeat`; never guessed: None when it could not be read."""
        return await self._ask.attempt(render_score(view), Score, at, "score", sample)

    async def compare(self, view: ComparisonView, at: Place) -> Answered[Comparison | None]:
        """See :class:`agents.seats.ComparingSeat`; never guessed: None when it cannot be read."""
        which = COMPONENTS.index(view.component)
        return await self._ask.attempt(render_compare(view), Comparison, at, "compare", which)


def render_compare(view: ComparisonView) -> Prompt:
    """The prompt of a comparison."""
    record = "\n".join(f"{number}. {text}" for number, text in enumerate(view.record, start=1))
    quotes = "\n".join(f'- "{" ".join(quote.split())}"' for quote in view.quotes)
    return render(
        "judge",
        "compare",
        component=view.component.label,
        record=record,
        statement=" ".join(view.statement.split()),
        quotes=quotes or "(none)",
    )


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
