"""A trainee interviews a simulated patient, from the first prompt to the comparison."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from mentalarena.roster import builtin_cases
from mentalarena.store_reader import open_readonly
from mentalarena.trajectory import last_episode, read_trajectory
from tests.agents.terminal import Terminal

CASE = builtin_cases()["walter-1"]
RECIPE = "exchanges = 1\nprobe_rounds = 1\nmax_plans = 1\njudge_samples = 1\n"
_COLORS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PROMPT = re.compile(r"(?:^|\n)([^\n]*(?:> |: ))$")


def session(tmp_path: Path, role: str, say: Callable[[str], str]) -> tuple[str, int]:
    """Play one episode with a person on ``role``; what was shown, and how often they were asked.

    ``say`` answers a prompt line.
    """
    (tmp_path / "short.toml").write_text(RECIPE, "utf-8")
    terminal = Terminal(
        "run", f"--{role}", "human", "--case", CASE.id, "--seed", "7", "--recipe",
        str(tmp_path / "short.toml"), "--db", str(tmp_path / "human.db"),
    )  # fmt: skip
    seen = asked = 0
    try:
        while terminal._read(60):
            fresh = _COLORS.sub("", terminal.shown[seen:]).replace("\r", "")
            prompt = _PROMPT.search(fresh)
            if prompt:
                asked += 1
                assert asked < 120, fresh[-2000:]
                seen = len(terminal.shown)
                terminal.type(say(prompt[1]) + "\n")
        assert terminal.exit_code(within=30) == 0, terminal.shown[-2000:]
    finally:
        terminal.close()
    return _COLORS.sub("", terminal.shown).replace("\r", ""), asked


def as_therapist(prompt: str) -> str:
    if "empty to go on" in prompt:
        return ""
    if "label" in prompt or "diagnos" in prompt:
        return "Major depressive disorder"
    if "core beliefs" in prompt:
        return "worthless: burden"
    if "emotions" in prompt:
        return "ashamed"
    if "name" in prompt:
        return "Behavioral activation"
    return "What do you find yourself doing that you did not do before?"


def test_a_trainee_is_shown_the_comparison_and_nothing_before_it(tmp_path: Path) -> None:
    shown, asked = session(tmp_path, "therapist", as_therapist)
    assert asked > 10
    before, title, after = shown.partition("what was understood, and what is so")
    assert title, shown[-3000:]
    # Nothing of the record, of the verdicts or of the diagnosis before the end.
    for clauses in vars(CASE.cognitive_model).values():
        for clause in clauses:
            if len(clause.text.split()) > 3:
                assert clause.text not in " ".join(before.split())
    assert "against the record" not in before
    assert CASE.presentation not in before
    assert not re.search(r"[●◐○✗] (aligned|unclear|missed|distorted)|unsupported", before)
    with open_readonly(tmp_path / "human.db") as store:
        found = read_trajectory(store, last_episode(store))
    assert found["episode"]["status"] == "ok"
    assert {call["model"] for call in found["calls"]} == {"human"}
    words = " ".join(after.split())
    for component in ("core beliefs", "coping strategies", "behavior principles"):
        assert component in words
    assert "worthless: burden" in words
    verdicts = [d["verdict"] for d in found["deviations"]
                if d["round"] == found["decisions"][-1]["round"]]  # fmt: skip
    assert len(verdicts) == 8
    for verdict in set(verdicts):
        assert f"{verdicts.count(verdict)} {verdict}" in words
    assert json.dumps(found["formulations"]).count("worthless: burden") >= 1


def test_a_person_as_the_patient_sees_what_was_understood(tmp_path: Path) -> None:
    def say(prompt: str) -> str:
        if "10" in prompt:
            return "6"
        if "1" in prompt or "number" in prompt or "choice" in prompt:
            return "1"
        return "I feel ashamed, and I drink so that I do not have to think."

    shown, asked = session(tmp_path, "patient", say)
    assert asked >= 4
    assert "what was understood, and what is so" in shown
    assert "round 0:" in shown, "who knows the record may see the verdicts"


def test_a_therapist_of_rules_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from graphs.play import run
    from mentalarena.cli import run_command

    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.toml").write_text(RECIPE, "utf-8")
    with pytest.raises(SystemExit):
        run_command(run, "run", ["--recipe", "short.toml", "--case", CASE.id])
    out = capsys.readouterr().out
    assert "against the record" in out
    assert "what was understood, and what is so" not in out
