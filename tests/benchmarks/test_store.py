"""The store's benchmark writes copies of real episodes, and finds them again."""

import json
from pathlib import Path

import pytest

from benchmarks.shapes import copy, played
from benchmarks.store import build, main
from mentalarena.store import open_store
from mentalarena.trajectory import read_trajectory, without_volatile


@pytest.mark.slow
def test_copies_differ_in_their_ids_only(tmp_path: Path) -> None:
    shape = played(2, "pilot", 12)
    assert len(shape.episodes) == 2
    first, again = copy(shape.episodes[0], 0), copy(shape.episodes[0], 1)
    assert [len(batch) for batch in first] == [len(batch) for batch in again]
    path = str(tmp_path / "large.db")
    assert build(path, shape, 60) > 0
    with open_store(path) as store:
        assert store.fetch("select status, count(*) as n from episodes group by 1") == [
            {"status": "ok", "n": 60}
        ]
        assert store.fetch("pragma foreign_key_check") == []
        told = {
            json.dumps(without_volatile(read_trajectory(store, row["id"])), sort_keys=True)
            for row in store.fetch("select id from episodes")
        }
    assert len(told) == 2


@pytest.mark.slow
def test_every_figure_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--episodes", "8", "--stored", "40", "--recipe", "pilot", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert set(printed["budgets"]) <= set(printed["figures"])
    assert {"show: command", "cost_by_seat: count"} <= set(printed["budgets"])
    assert all(value > 0 for value in printed["figures"].values())
