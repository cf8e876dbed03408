"""Reports: figures checked against numbers counted by hand, and the command."""

import base64
import re
import shlex
from pathlib import Path

import pytest

pytest.importorskip("matplotlib", reason="needs mentalarena[plots]")

from mentalarena.cli import COMMANDS, cli, run_command
from mentalarena.report import figures
from mentalarena.report.command import find_run, report_page
from mentalarena.report.figures import Estimate, estimate
from mentalarena.report.origin import origin
from mentalarena.store_reader import open_readonly
from tests.mentalarena.view.stores import RUN, check_harmless, text_of


def test_an_interval_is_of_patients_and_not_of_episodes() -> None:
    one_each = [(f"p{i}", float(i % 2)) for i in range(40)]
    ten_each = [(f"p{i % 4}", float(i % 2)) for i in range(40)]
    wide, narrow = estimate(ten_each), estimate(one_each)
    assert wide.mean == narrow.mean == 0.5
    assert wide.high - wide.low > narrow.high - narrow.low  # type: ignore[operator]
    assert (wide.n, wide.patients) == (40, 4)
    assert estimate([("p", 1.0), ("p", 0.0)]) == Estimate(0.5, None, None, 2, 1)
    assert estimate([("a", 1.0), ("b", 1.0)])[:3] == (1.0, 1.0, 1.0)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    import numpy as np

    drawn = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        values = [(f"p{i}", float(v)) for i in range(30)
                  for v in drawn.normal(drawn.normal(), 0.5, 4)]  # fmt: skip
        found = estimate(values)
        covered += found.low <= 0 <= found.high  # type: ignore[operator]
    assert 0.87 <= covered / 200 <= 0.99


def test_figures_are_those_counted_by_hand(played: Path) -> None:
    with open_readonly(played) as store:
        rounds = figures.alignment_by_round(store, "rules")
        first = store.fetch(
            "select avg(verdict = 'aligned') as share from deviations join episodes e"
            " on e.id = episode_id where round = 0 and e.run_id = 'rules'"
        )[0]["share"]
        assert rounds[0].at == "0"
        assert rounds[0].estimate.mean == pytest.approx(first)
        assert len({point.estimate.n for point in rounds}) == 1, "ended episodes go on counting"
        last = store.fetch(
            "select avg(aligned_components) / 8 as share from episode_summary"
            " where run_id = 'rules'"
        )[0]["share"]
        assert rounds[-1].estimate.mean == pytest.approx(last)
        bias = {(p.group, p.at): p.estimate.mean for p in figures.bias_by_component(store, "rules")}
        by_hand = store.fetch(
            "select sum(first_share) as share from bias_by_component where run_id = 'rules'"
            " and component = 'behaviors' and verdict in ('distorted', 'unsupported')"
        )[0]["share"]
        assert bias["first round", "behaviors"] == pytest.approx(by_hand or 0.0)
        scores = figures.plan_scores(store, "rules")
        (mean,) = store.fetch(
            "select avg(score) as score from plans join episodes e on e.id = episode_id"
            " where e.run_id = 'rules' and kind = 'treatment' and attempt = 0"
        )
        assert scores[0].at == "treatment 1"
        assert scores[0].estimate.mean == pytest.approx(mean["score"])
        told = figures.disclosure_by_style(store, "rules")
        assert all(0 < point.estimate.mean <= 1 for point in told)
        assert figures.disclosure_by_style(store, "models") == [], "a model does not say"
        therapist, patient = figures.diversity(store, "rules")
        assert (therapist.speaker, patient.speaker) == ("therapist", "patient")
        assert 0 < patient.distinct[1] < patient.distinct[2] <= 1  # type: ignore[operator]
        assert figures.alignment_by_round(store, "no such run") == []


def test_a_text_said_again_is_counted_and_different_words_are() -> None:
    assert figures._distinct([["a", "b"] * 500], 1) == 0.002
    assert figures._distinct([[str(i) for i in range(1000)]], 1) == 1.0
    assert figures._distinct([["a"]], 1) is None


def test_the_page_stands_alone_and_comes_out_the_same(played: Path) -> None:
    with open_readonly(played) as store:
        pages = [report_page(store, find_run(store, "models")) for _ in range(2)]
    assert pages[0] == pages[1]
    page = pages[0]
    assert "<script" not in page
    assert "http:" not in page
    assert "https:" not in page
    plots = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', page)
    assert len(plots) == 5, "a model's disclosure is not known"
    assert all(base64.b64decode(plot).rstrip().endswith(b"</svg>") for plot in plots)
    said = text_of(page)
    for part in ("configuration", "exchanges", "openai:mock-model", "mean ms", "said again"):
        assert part in said, part


def test_the_commands_in_it_make_the_run_again(played: Path, tmp_path: Path) -> None:
    with open_readonly(played) as store:
        run = find_run(store, "rules")
        again, report = origin(store, run).commands
        models = origin(store, find_run(store, "models")).commands[0]
    assert "--model openai:mock-model --seed 0 --recipe paper" in models
    words = shlex.split(again)
    words[words.index("--db") + 1] = str(tmp_path / "again.db")
    with pytest.raises(SystemExit) as left:
        run_command(cli, "mentalarena", [*words[1:], "--quiet"])
    assert not left.value.code
    with open_readonly(tmp_path / "again.db") as store:
        made = find_run(store, "rules")
        episodes = store.fetch("select count(*) as n from episodes")[0]["n"]
    assert made["config_hash"] == run["config_hash"]
    assert episodes == 4
    assert shlex.split(report)[1] in COMMANDS


def test_hostile_text_is_only_text_in_a_report(hostile: Path) -> None:
    with open_readonly(hostile) as store:
        for name in ("rules", RUN):
            page = report_page(store, find_run(store, name))
            check_harmless(page)
            assert "<script" not in page


def test_what_is_wrong_is_one_line(
    played: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for args, message in (
        (["none", "--html", "x.html", "--db", str(played)], "no run 'none'"),
        (["rules", "--db", str(played)], "--html"),
        (["rules", "--html", "no/where.html", "--db", str(played)], "no/where.html"),
        (["--html", "x.html"], "no store at arena.db"),
    ):
        with pytest.raises(SystemExit) as left:
            run_command(cli, "mentalarena", ["report", *args])
        captured = capsys.readouterr()
        assert left.value.code == 2
        assert message in captured.err
        assert len(captured.err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir()), "nothing is left behind"
