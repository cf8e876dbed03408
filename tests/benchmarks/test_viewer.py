"""The benchmark of a viewer beside a batch: its arithmetic, and that it measures what it says."""

import math
from pathlib import Path

import pytest

from benchmarks.viewer import EVERY, Pair, interval, measure
from mentalarena.view.page import asset, render

pytest.importorskip("datasette", reason="needs mentalarena[view]")


def test_growth_is_of_the_pair_and_has_an_interval() -> None:
    assert Pair(10.0, 10.4, 3).growth == pytest.approx(4.0)
    assert interval([1.0, 2.0, 3.0]) == pytest.approx(4.30 / math.sqrt(3))
    assert math.isnan(interval([1.0]))


def test_it_looks_as_often_as_the_pages_do() -> None:
    page = render("error.html", title="x", live=True, status=404, message="x", links=None)
    assert "data-live" not in page, "a file follows nothing"
    assert "dataset.live" in asset("arena.js")
    server = (Path(__file__).parents[2] / "mentalarena/view/pages/server.html").read_text("utf-8")
    assert f'data-live="{EVERY * 1000:.0f}"' in server


@pytest.mark.slow
def test_a_pair_is_measured(tmp_path: Path) -> None:
    (pair,) = measure(1, 6, tmp_path)
    assert pair.alone > 0
    assert pair.looks >= 1
