"""``mentalarena show``: in the terminal and as a file, harmless whatever it shows."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mentalarena.cli import run_command
from mentalarena.show import show
from mentalarena.store_reader import open_readonly
from mentalarena.text import clean
from tests.mentalarena.view.stores import BIDI, ESCAPES, FORBIDDEN, WORD

Shown = Callable[..., str]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str]) -> Shown:
    def call(db: Path, *args: str) -> str:
        with pytest.raises(SystemExit) as left:
            run_command(show, "show", ["--db", str(db), *args])
        captured = capsys.readouterr()
        assert not left.value.code, captured.err
        return captured.out

    return call


def an_episode(db: Path) -> str:
    with open_readonly(db) as store:
        sql = "select id from episodes where run_id <> 'rules' limit 1"
        return str(store.fetch(sql)[0]["id"])


@pytest.mark.parametrize("args", [(), ("--compare",)], ids=["transcript", "compare"])
def test_hostile_text_is_only_text_in_the_terminal(
    shown: Shown, hostile: Path, args: tuple[str, ...]
) -> None:
    out = shown(hostile, an_episode(hostile), *args)
    assert not FORBIDDEN & set(out)
    assert "drop table turns" in "".join(out.split("\n")) or "drop" in out
    if not args:
        assert out.count("W") >= 10 * len(WORD), "nothing was left out"


def test_every_control_and_direction_character_is_replaced() -> None:
    assert not FORBIDDEN & set(clean(ESCAPES + BIDI + "\0"))
    assert clean("é 漢字 ✗\n\tok") == "é 漢字 ✗\n\tok"
    assert clean("\ud800\ue000\u200b") == "\ufffd" * 3


def test_the_comparison_has_what_was_stated_and_what_is_so(shown: Shown, played: Path) -> None:
    with open_readonly(played) as store:
        (row,) = store.fetch("select id, case_id from episodes where run_id = 'rules' limit 1")
        verdicts = store.fetch(
            "select verdict from deviations where episode_id = ? and round ="
            " (select max(round) from deviations where episode_id = ?)", (row["id"], row["id"])
        )  # fmt: skip
    out = shown(played, row["id"], "--compare")
    for label in ("core beliefs", "behavior principles", "the record", "stated"):
        assert label in out
    aligned = sum(found["verdict"] == "aligned" for found in verdicts)
    assert f"● {aligned} aligned" in out


def test_a_page_is_written_whole_or_not_at_all(shown: Shown, played: Path, tmp_path: Path) -> None:
    target = tmp_path / "episode.html"
    assert "wrote" in shown(played, an_episode(played), "--html", str(target))
    assert target.read_text("utf-8").rstrip().endswith("</html>")
    assert [path.name for path in tmp_path.iterdir()] == ["episode.html"]
    with pytest.raises(SystemExit) as left:
        run_command(show, "show", ["--db", str(played), "--html", str(tmp_path / "no" / "x.html")])
    assert left.value.code == 2
