"""An episode as it happens, in the terminal.

Why: what a newcomer should see first is the method at work: the verdict grid, the reroute and why.
It reads the graph's updates and nothing else; the pieces are those of ``mentalarena show``. A
person on the therapist's seat sees nothing of the record, not even by way of a verdict, before the
episode ends; then the comparison, component by component.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from agents.registry import is_human, is_rules
from mentalarena.case import Case
from mentalarena.config import ArenaConfig
from mentalarena.show import (
    comparison,
    decision_line,
    diagnosis_lines,
    grid,
    legend,
    plan_line,
    turn_block,
)
from mentalarena.text import clean

SIMULATOR_NOTE = (
    "{who}: built-in rule-based seats. They are a simulator that shows the machinery at work, not "
    "a language model, and nothing about people follows from them."
)


class LiveView:
    """Prints what each update adds."""

    def __init__(self, console: Console, config: ArenaConfig) -> None:
        self._console = console
        self._deviations: list[Mapping[str, Any]] = []
        self._blind = is_human(config.therapist)
        """Whether a person is the therapist, who must not see what deviates."""
        self.compares = self._blind or is_human(config.patient)
        """Whether a person spoke, who wants to see at the end what was understood."""

    def opening(self, config: ArenaConfig, episodes: int) -> None:
        """What is going to be played, and by whom."""
        roles = ("patient", "therapist", "manager", "judge")
        seats = [getattr(config, role) for role in roles]
        simulated = [role for role, spec in zip(roles, seats, strict=True) if is_rules(spec)]
        if simulated:
            everybody = len(simulated) == len(roles)
            who = "No model is configured" if everybody else ", ".join(simulated)
            self._console.print(Text(SIMULATOR_NOTE.format(who=who), style="yellow"))
        named = zip(roles, seats, strict=True)
        self._console.print(
            Text(
                clean(
                    "   ".join(f"{name} {spec}" for name, spec in named)
                    + f"\nguidance {config.guidance}   seed {config.seed}   episodes {episodes}   "
                    f"store {config.db}"
                ),
                style="dim",
            )
        )

    def episode(self, case: Case, episode_id: str, number: int, total: int) -> None:
        """An episode begins."""
        self._deviations = []
        title = f"episode {number} of {total}   {episode_id}   case {case.id}"
        self._console.print()
        known = "" if self._blind else f"   {case.presentation}, {case.style}"
        self._console.print(Rule(Text(clean(title + known), "bold")))

    def update(self, node: str, update: Mapping[str, Any]) -> None:
        """A node has answered."""
        for turn in update.get("turns", ()):
            self._console.print(turn_block(turn))
        if node == "decode":
            self._decoded(update)
        if node == "confirm":
            self._console.print(diagnosis_lines(update["diagnoses"]))
        for plan in update.get("plans", ()):
            if node == "score":
                self._console.print(plan_line(plan))
        if node == "close":
            self._closed(update["plans"])
        for failure in update.get("failures", ()):
            line = f"{failure['boundary']}, {failure['node']}: {failure['message']}"
            self._console.print(Text(clean(line), style="red"))

    def _decoded(self, update: Mapping[str, Any]) -> None:
        self._deviations += update["deviations"]
        decision = update["decisions"][0]
        if self._blind:
            return
        if decision["round"] == 0:
            self._console.print()
            self._console.print(Text("what the therapist understood, against the record:", "dim"))
            self._console.print(legend())
        self._console.print()
        self._console.print(grid(self._deviations, decision["round"]))
        self._console.print(decision_line(decision))
        self._console.print()

    def _closed(self, chosen: Sequence[Mapping[str, Any]]) -> None:
        names = "; ".join(f"{plan['kind']}: {clean(plan['name'])}" for plan in chosen)
        text = Text("chosen  ", style="bold green")
        text.append(names or "no plan had a readable score", style="bold")
        self._console.print(text)

    def ended(self, trajectory: Mapping[str, Any]) -> None:
        """An episode in which a person spoke has come to its end: what it was about."""
        self._console.print()
        self._console.print(comparison(trajectory))

    def failed(self, error: BaseException) -> None:
        """An episode ended early."""
        self._console.print(Text(f"episode failed: {clean(str(error))}", style="bold red"))
