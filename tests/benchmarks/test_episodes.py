"""The episode benchmark plays the real graph, and its replay leaves the same rows."""

import asyncio
import json
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.episodes import BUDGETS, Recording, main, play
from graphs.session import open_session
from mentalarena.config import RECIPES, ArenaConfig


@pytest.mark.slow
def test_a_replay_writes_what_the_nodes_wrote(tmp_path: Path) -> None:
    config = ArenaConfig(db=str(tmp_path / "arena.db")).with_recipe(RECIPES["pilot"])
    recording = Recording()
    with closing(open_session(config)) as session:
        asyncio.run(play(session, recording.graph(replay=False), 2, 2))
        asyncio.run(play(session, recording.graph(replay=True), 2, 2))
        rows = session.store.fetch(
            "select e.sample, e.seed, e.status, t.idx, t.text from episodes e"
            " join turns t on t.episode_id = e.id order by e.seed, t.idx, e.sample"
        )
    assert len(rows) > 30
    first, again = rows[::2], rows[1::2]
    assert [row | {"sample": 1} for row in first] == again
    assert {row["status"] for row in rows} == {"ok"}


@pytest.mark.slow
def test_every_budget_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--episodes", "2", "--recipe", "pilot", "--starts", "1", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed["budgets"]) == set(BUDGETS) <= set(printed["figures"])
    assert all(value > 0 for value in printed["figures"].values())
