"""The rule-based manager: takes the best match, and probes the worst component not just probed.

Why: the decoder has already measured; what is left to choose is small and should be predictable.
"""

from agents.seats import (
    Answered,
    ManagerView,
    Place,
    PrincipleChoice,
    ProbeChoice,
    ProbeView,
)
from mentalarena.errors import ConfigurationError

NEAR_TIE = 0.02
"""Candidates this close to the best similarity are drawn from by seed."""


class RulesManager:
    """Chooses a behavior principle by similarity and a component by severity."""

    async def choose_principle(self, view: ManagerView, at: Place) -> Answered[PrincipleChoice]:
        """The candidate of highest similarity; among near ties, one by seed."""
        if not view.candidates:
            raise ConfigurationError("candidates: the encoder found no behavior principle")
        best = max(similarity for _, similarity in view.candidates)
        near = [
            number
            for number, (_, similarity) in enumerate(view.candidates, 1)
            if best - similarity <= NEAR_TIE
        ]
        choice = at.random("choose_principle").choice(near)
        reason = "highest similarity" if len(near) == 1 else f"drawn among {len(near)} near ties"
        return Answered(PrincipleChoice(choice=choice, reason=reason))

    async def choose_probe(self, view: ProbeView, at: Place) -> Answered[ProbeChoice]:
        """The most severe deviation, unless it is the one probed last and there is another."""
        if not view.deviating:
            raise ConfigurationError("deviating: there is nothing to probe")
        last = view.probed[-1] if view.probed else None
        open_ = [row for row in view.deviating if row[0] != last] or list(view.deviating)
        # Probed often waits longer: a component that cannot be repaired must not eat all probes.
        component = min(open_, key=lambda row: (view.probed.count(row[0]), -row[2]))[0]
        return Answered(ProbeChoice(component=component))
