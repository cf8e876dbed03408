"""One episode, from a case and a seed to its end.

Why: ``mentalarena run`` watches one episode after the other, a batch plays many at once; both play
each of them here, so that a failure is the same row and the same outcome.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from graphs.arena import graph
from graphs.routes import recursion_limit
from graphs.session import Session
from graphs.state import Claim
from mentalarena.case import Case
from mentalarena.errors import MentalArenaError
from mentalarena.gate import Progress, progress
from mentalarena.journal import digest

Observer = Callable[[str, Mapping[str, Any]], None]
"""Called with a node's name and what it added to the state."""


class Played(NamedTuple):
    """How one episode ended."""

    episode_id: str
    error: Exception | None

    @property
    def boundary(self) -> str:
        """What the error crossed; ``internal`` for one that is nobody's but ours."""
        return self.error.boundary if isinstance(self.error, MentalArenaError) else "internal"


def episode_seed(seed: int, case: Case, ordinal: int) -> int:
    """Seed of the ``ordinal``-th episode of a case under a run's seed; below 2**31."""
    return int(digest([seed, case.hash, ordinal], 12), 16) % 2**31


def ignore(node: str, update: Mapping[str, Any]) -> None:
    """An observer that looks away."""


async def play_episode(
    session: Session, case: Case, seed: int, claim: Claim, observe: Observer = ignore
) -> Played:
    """Play a claimed episode to its end; whatever goes wrong is recorded and returned."""
    progress.set(Progress())
    try:
        async for update in graph.astream(
            {"case_id": case.id, "seed": seed, "claim": claim},
            {"recursion_limit": recursion_limit(session.config)},
            context=session.config,
            stream_mode="updates",
        ):
            for node, added in update.items():
                observe(node, added)
    except Exception as error:
        return Played(claim["episode_id"], error)
    return Played(claim["episode_id"], None)
