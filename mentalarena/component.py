"""The components of the cognitive model, by name.

Why: whoever shows or counts verdicts needs their names and order, and not the pydantic models of
:mod:`mentalarena.case`, which take longer to import than an episode takes to be shown.
"""

from enum import StrEnum


class Component(StrEnum):
    """One part of the cognitive model that a therapist can formulate."""

    CORE_BELIEFS = "core_beliefs"
    INTERMEDIATE_BELIEFS = "intermediate_beliefs"
    INTERMEDIATE_BELIEFS_DEPRESSION = "intermediate_beliefs_depression"
    COPING_STRATEGIES = "coping_strategies"
    AUTOMATIC_THOUGHTS = "automatic_thoughts"
    EMOTIONS = "emotions"
    BEHAVIORS = "behaviors"
    BEHAVIOR_PRINCIPLES = "behavior_principles"

    @property
    def label(self) -> str:
        """The component's name as people read it, e.g. ``core beliefs``."""
        if self is Component.INTERMEDIATE_BELIEFS_DEPRESSION:
            return "intermediate beliefs during depression"
        return self.value.replace("_", " ")


COMPONENTS: tuple[Component, ...] = tuple(Component)
