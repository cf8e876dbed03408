"""The whole loop with a tiny model of random weights, and killed in every stage of an iteration."""

import json
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
STAGES = ("play", "dataset", "train", "serve", "evaluate", "probe")
MOST = 360
"""Seconds that two iterations may take."""


def command(iterations: int) -> list[str]:
    questions = ROOT / "examples" / "questions"
    return [sys.executable, "-m", "training.selfplay", "--smoke", "--json", "--db", "loop.db",
            "--iterations", str(iterations), "--data", str(questions)]  # fmt: skip


def go(folder: Path, iterations: int) -> dict[str, Any]:
    done = subprocess.run(
        command(iterations), cwd=folder, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def marks(folder: Path) -> dict[str, tuple[str | None, int]]:
    """Each stage of the first iteration: when it was done, and how often it was begun."""
    path = folder / "loop.db"
    if not path.is_file():
        return {}
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as db:
        try:
            rows = db.execute(
                "select stage, finished_at, starts from iteration_stages where iteration = 1"
            ).fetchall()
        except sqlite3.OperationalError:
            return {}
    return {stage: (finished, starts) for stage, finished, starts in rows}


SLOW = """
create trigger slow_mark after update of finished_at on iteration_stages when new.stage = '{}'
begin
    select (with recursive n (i) as (select 1 union all select i + 1 from n where i < 1000000000)
            select count(*) from n);
end
"""
"""Marking a stage as done takes minutes: one of 3 ms is to be killed before it too."""


def change_schema(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "loop.db")) as db:
        db.execute(statement)


def kill_in(folder: Path, stage: str) -> None:
    """Start the loop, and kill it with SIGKILL when a stage has begun, before it is marked."""
    slow = bool(marks(folder))
    if slow:
        change_schema(folder, SLOW.format(stage))
    with (folder / "err.txt").open("w") as err:
        running = subprocess.Popen(
            command(1), cwd=folder, stdout=subprocess.DEVNULL, stderr=err, start_new_session=True
        )
        deadline = time.monotonic() + 300
        while stage not in marks(folder):
            with suppress(subprocess.TimeoutExpired):
                running.wait(0.02)
            assert running.returncode is None, (folder / "err.txt").read_text("utf-8")[-3000:]
            assert time.monotonic() < deadline
        running.send_signal(signal.SIGKILL)
        running.wait()
    if slow:
        change_schema(folder, "drop trigger slow_mark")


def made(found: dict[str, Any]) -> dict[str, Any]:
    """What of the first iteration must not hang on kills."""
    row = found["iterations"][0]
    facts = {name: row["stages"][name]["facts"] for name in ("dataset", "train", "evaluate")}
    return {
        "dataset": facts["dataset"]["files"],
        "dataset_id": row["dataset_id"],
        "adapter": row["adapter_hash"],
        "candidate": row["candidate"],
        "decision": row["decision"],
        "measures": row["measures"],
        "compared": facts["evaluate"]["compared"],
        "questions": [one["metrics"] for one in facts["evaluate"]["questions"]],
    }


def test_the_loop_goes_round_and_a_killed_one_makes_the_same(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    for folder in (whole, killed):
        folder.mkdir()
    started = time.monotonic()
    found = go(whole, 2)
    assert time.monotonic() - started < MOST
    first, second = found["iterations"]
    assert first["decision"] == "promote", first["reason"]
    assert second["model"] == first["candidate"], "what was promoted plays on"
    assert second["measures"]["novelty"] is not None
    assert (whole / "selfplay" / "selfplay.png").stat().st_size > 20_000
    assert set(first["stages"]) == set(STAGES)

    for number, stage in enumerate(STAGES):
        kill_in(killed, stage)
        done = marks(killed)
        assert done[stage][0] is None, f"{stage} was over before it could be killed"
        for earlier in STAGES[:number]:
            assert done[earlier][0] is not None
    again = go(killed, 1)
    assert made(again) == made(found)
    for stage, (finished, starts) in marks(killed).items():
        assert finished is not None
        assert starts == 2, f"{stage} was begun {starts} times: once more than it was killed"
    # Nothing is left to do, and nothing is done.
    before = marks(killed)
    assert go(killed, 1)["iterations"] == again["iterations"]
    assert marks(killed) == before
