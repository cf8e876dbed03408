"""The rule-based judge: scores a plan by a stated sum.

Why: a judge whose rule can be read makes the selection of plans testable, and its noise can be set
against the number of samples.

The score is the rounded sum of

* 1,
* fit: 5 times the fit of the plan to the confirmed diagnosis in the table of
  :mod:`agents.rules.plans` (0 to 1),
* change: the patient's reported change in health, kept within -3 and +3; 0.8 a point up, 0.5 a
  point down,
* level: the health state after the plan, 1 to 10, mapped to 0 to 1.6 (where the patient told none,
  it counts as unchanged),
* mismatch: -1.5 when the plan's kind is not in that table at all,

plus sample noise of -1, 0 or +1 (one time in five each way), kept within 1 and 10.
"""

from agents.rules.plans import UNKNOWN_FIT, code_of, fit
from agents.seats import Answered, JudgeView, Place, Score

_NOISE = (-1, 0, 0, 0, 1)


class RulesJudge:
    """Scores fit, change and level; sees no record."""

    async def score(self, view: JudgeView, at: Place, sample: int) -> Answered[Score | None]:
        """One sample; see the module's docstring for the rule."""
        suited = fit(view.name, view.kind, code_of(view.diagnosis))
        after = view.health_before if view.health_after is None else view.health_after
        change = max(-3, min(3, after - view.health_before))
        moved = 0.8 * change if change > 0 else 0.5 * change
        level = 1.6 * (after - 1) / 9
        mismatch = -1.5 if suited == UNKNOWN_FIT else 0.0
        noise = at.random("score", sample).choice(_NOISE)
        total = 1 + 5 * suited + moved + level + mismatch + noise
        reason = (
            f"fit {suited:.2f} to the diagnosis, change {change:+d}, "
            f"level {after} of 10"
            + (", plan not in the table" if mismatch else "")
            + (f", sample noise {noise:+d}" if noise else "")
        )
        return Answered(Score(score=max(1, min(10, round(total))), reason=reason))
