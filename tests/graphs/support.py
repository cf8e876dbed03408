"""Play an episode on seats of one's own choosing, in a store of its own."""

from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

import graphs.session
from agents.registry import seat
from graphs.arena import graph
from graphs.routes import recursion_limit
from graphs.session import open_session
from mentalarena.case import Case
from mentalarena.config import ArenaConfig
from mentalarena.trajectory import read_trajectory


async def play(
    config: ArenaConfig,
    case: Case,
    monkeypatch: pytest.MonkeyPatch,
    seats: Mapping[str, Any] | None = None,
    seed: int = 7,
) -> dict[str, Any]:
    """The trajectory of one episode; ``seats`` replaces the live seat of a role."""

    def chosen(role: Any, spec: str, config: ArenaConfig) -> Any:
        return (seats or {}).get(role) or seat(role, spec, config)

    monkeypatch.setattr(graphs.session, "seat", chosen)
    with closing(open_session(config)) as session:
        monkeypatch.setattr(session, "cases", {case.id: case})
        result = await graph.ainvoke(
            {"case_id": case.id, "seed": seed},
            {"recursion_limit": recursion_limit(config)},
            context=config,
        )
        return {"state": result, **read_trajectory(session.store, result["episode_id"])}


def rows(config: ArenaConfig, sql: str) -> list[dict[str, Any]]:
    """Read the store of a finished play."""
    with closing(open_session(replace(config))) as session:
        return session.store.fetch(sql)
