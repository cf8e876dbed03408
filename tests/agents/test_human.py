"""A person at a real terminal: the whole command runs on a pseudo-terminal."""

from pathlib import Path

import pytest

from tests.agents.terminal import PATIENCE, Terminal


@pytest.fixture
def terminal(tmp_path: Path):
    db = str(tmp_path / "human.db")
    opened = Terminal("run", "--therapist", "human", "--episodes", "2", "--db", db)
    opened.wait_for("\n> ")
    yield opened
    opened.close()


def test_the_first_ctrl_c_ends_the_run(terminal: Terminal) -> None:
    terminal.type("\x03")
    assert terminal.exit_code(within=10) == 130
    assert "interrupted; what was stored is kept" in terminal.shown
    assert "Traceback" not in terminal.shown


def test_ctrl_c_in_a_later_turn_ends_it_too(terminal: Terminal) -> None:
    terminal.type("How long has it been like this?\n")
    shown = len(terminal.shown)
    while "\n> " not in terminal.shown[shown:]:
        assert terminal._read(PATIENCE)
    terminal.type("half a line\x03")
    assert terminal.exit_code(within=10) == 130
    assert "Traceback" not in terminal.shown


def test_the_end_of_input_is_one_clear_line(terminal: Terminal) -> None:
    shown = len(terminal.shown)
    terminal.type("\x04")
    assert terminal.exit_code(within=10) == 2
    rows = [row for row in terminal.shown[shown:].splitlines() if row.strip()]
    assert rows[-1] == "error: the terminal was closed while the human seat was asked"
    assert "Traceback" not in terminal.shown
