"""A manager played by a model (or a person): chooses among what encoder and decoder found."""

from agents.ask import Ask, Reask
from agents.prompting import Prompt, render
from agents.seats import Answered, ManagerView, Place, PrincipleChoice, ProbeChoice, ProbeView


class ModelManager:
    """The manager's seat; without a readable choice the best-ranked one is taken.

    Empty answers included: an episode never ends on a choice that has a good default, and the
    failures say how often it was the default.
    """

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    async def choose_principle(self, view: ManagerView, at: Place) -> Answered[PrincipleChoice]:
        """See :class:`agents.seats.ManagerSeat`."""
        count = len(view.candidates)

        def check(choice: PrincipleChoice) -> None:
            if choice.choice > count:
                raise Reask("parse", f"choice must be from 1 to {count}")

        answered = await self._ask.attempt(
            render_principle(view), PrincipleChoice, at, "principle", check=check
        )
        value = answered.value or PrincipleChoice(choice=1)
        return Answered(value, answered.call_id, answered.failures)

    async def choose_probe(self, view: ProbeView, at: Place) -> Answered[ProbeChoice]:
        """See :class:`agents.seats.ManagerSeat`."""
        names = [component for component, _, _ in view.deviating]

        def check(choice: ProbeChoice) -> None:
            if choice.component not in names:
                raise Reask("parse", "component must be one of: " + ", ".join(names))

        answered = await self._ask.attempt(
            render_probe(view), ProbeChoice, at, "probe", check=check
        )
        value = answered.value or ProbeChoice(component=names[0])
        return Answered(value, answered.call_id, answered.failures)


def render_principle(view: ManagerView) -> Prompt:
    """The prompt of a choice of behavior principle."""
    return render(
        "manager",
        "principle",
        coping="\n".join(f"- {text}" for text in view.coping_strategies),
        candidates="\n".join(
            f"{number}. {principle.text}"
            for number, (principle, _) in enumerate(view.candidates, 1)
        ),
    )


def render_probe(view: ProbeView) -> Prompt:
    """The prompt of a choice of what to ask about."""
    return render(
        "manager",
        "probe",
        deviating="\n".join(
            f"- {component.value}: {verdict}, severity {severity:.2f}"
            for component, verdict, severity in view.deviating
        ),
        probed=", ".join(component.value for component in view.probed) or "none",
    )
