"""Stores to look at: real episodes, and many copies of them."""

import json
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mentalarena.cli import COMMANDS, load, run_command

COPIED = (
    "turns", "routes", "formulations", "deviations", "decisions", "injections", "diagnoses",
    "plans", "scores", "calls",
)  # fmt: skip


def play(db: Path, *args: str) -> None:
    """Play a batch into ``db``; it must not fail."""
    with pytest.raises(SystemExit) as left:
        run_command(load(COMMANDS["batch"][0]), "batch", ["--db", str(db), "--quiet", *args])
    assert not left.value.code


def played_store(db: Path) -> Path:
    """A handful of real episodes: rule-based ones, and some of the model behind a mock server."""
    # Not for every test of the folder: it takes a while to import.
    from benchmarks.mock_server import MockServer

    play(db, "--run", "rules", "--episodes", "4", "--recipe", "default")
    with MockServer(reply_words=40) as server:
        play(db, "--run", "models", "--episodes", "2", "--recipe", "paper",
             "--model", "openai:mock-model", "--base-url", server.base_url)  # fmt: skip
    return db


def copied(db: Path, episodes: int) -> Path:
    """Fill the store up to so many episodes with copies under other ids."""
    with sqlite3.connect(db) as connection:
        connection.execute("pragma foreign_keys = off")
        originals = [row[0] for row in connection.execute("select id from episodes order by id")]
        columns = {
            table: [row[1] for row in connection.execute(f"pragma table_info({table})")]
            for table in ("episodes", *COPIED)
        }
        for number in range(episodes - len(originals)):
            of = originals[number % len(originals)]
            mark = f"{number:05d}"
            for table, names in columns.items():
                kept = [name for name in names if not (table == "turns" and name == "id")]
                chosen = [_copied_value(table, name) for name in kept]
                where = "id" if table == "episodes" else "episode_id"
                connection.execute(
                    f"insert into {table} ({', '.join(_quoted(kept))})"
                    f" select {', '.join(chosen)} from {table} where {where} = :of",
                    {"of": of, "mark": mark},
                )
        connection.execute("insert into turns_fts(turns_fts) values ('rebuild')")
    return db


def _quoted(names: list[str]) -> list[str]:
    return [f'"{name}"' for name in names]


def _copied_value(table: str, name: str) -> str:
    is_id = (table == "episodes" and name == "id") or name == "episode_id"
    is_call = name in ("call_id", "response_call_id") or (table == "calls" and name == "id")
    if table == "episodes" and name == "sample":
        return "sample + 1000 + cast(:mark as integer)"
    if is_id or is_call:
        return f"{name} || '-' || :mark"
    return f'"{name}"'


def text_of(page: str) -> str:
    """A page's text without its tags."""
    return re.sub(r"<[^>]+>", " ", page)


MARKUP = "<script>document.title='owned'</script>\"'><img src=x onerror=document.title='owned'>"
SQL = "'; drop table turns; --"
ESCAPES = "\x1b]0;owned\x07\x1b[31m\x9b2J\r"
BIDI = "\u202eevil\u2066\u200f"
WORD = "W" * 100_000
SHORT = f"{MARKUP} {SQL} {ESCAPES} {BIDI} \0"
HOSTILE = f"{SHORT} {WORD}"
FORBIDDEN = set("\x1b\x07\x9b\r\u202e\u2066\u200f\0")
"""Characters that no output may hold."""
RUN = "a/b <script>&?#%~ \u202e"
"""A run's name is typed by a person, and stands in addresses."""


def made_hostile(db: Path) -> Path:
    """Put hostile text wherever a model, a person or a file writes."""
    record = {
        "cognitive_model": {"emotions": [{"text": HOSTILE, "utterances": []}]},
        "name": HOSTILE,
    }
    texts = {
        "turns": ("text",), "formulations": ("statement",), "deviations": ("reason", "scorer"),
        "decisions": ("reason", "guidance"), "diagnoses": ("label", "rationale", "reason"),
        "plans": ("name", "rationale", "response"), "scores": ("judge", "reason"),
        "calls": ("model", "resolved_model", "answer", "failure"), "routes": ("reason",),
        "templates": ("text",), "cases": ("source",), "injections": ("kind", "truth"),
        "runs": ("code_version",),
    }  # fmt: skip
    with sqlite3.connect(db) as connection:
        connection.execute("pragma foreign_keys = off")
        for table, columns in texts.items():
            for column in columns:
                long = f"{table}.{column}" in ("turns.text", "plans.name", "calls.model")
                text = HOSTILE if long else SHORT
                connection.execute(f"update {table} set {column} = ?", (text,))
        listed = json.dumps([SHORT])
        connection.execute("update formulations set quotes = ?", (listed,))
        connection.execute("update turns set disclosed = ?", (listed,))
        found = json.dumps([{"kind": SHORT}])
        connection.execute("update turns set crisis = ? where idx = 0", (found,))
        connection.execute("update cases set record = ?", (json.dumps(record),))
        config = dict.fromkeys(("patient", "therapist", "manager", "judge"), HOSTILE)
        connection.execute("update runs set config = ?", (json.dumps(config),))
        connection.execute(
            "insert into errors (id, episode_id, boundary, type, message)"
            " select 'e' || id, id, 'parse', ?, ? from episodes", (SHORT, SHORT),
        )  # fmt: skip
        connection.execute("update runs set id = ? where id = 'models'", (RUN,))
        connection.execute("update episodes set run_id = ? where run_id = 'models'", (RUN,))
        connection.execute("insert into turns_fts(turns_fts) values ('rebuild')")
    return db


def check_harmless(page: str) -> None:
    """A page in which nothing hostile is left but as text."""
    assert not FORBIDDEN & set(page)
    assert "<script>document" not in page
    assert "<img src=x" not in page


def snapshot(db: Path, folder: Path) -> Path:
    """A copy, with what is still in the log."""
    with sqlite3.connect(db) as connection:
        connection.execute("vacuum into ?", (str(folder / "arena.db"),))
    with sqlite3.connect(folder / "arena.db") as connection:
        connection.execute("pragma journal_mode = wal")
    return folder / "arena.db"


class Viewer:
    """``mentalarena view`` in a process of its own."""

    def __init__(self, db: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "mentalarena.cli", "view", "--db", str(db), "--port", "0"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.said = self._process.stdout.readline()
        assert self.said.startswith("http://127.0.0.1:"), self.said + self._process.stdout.read()
        self.address = self.said.split()[0].rstrip("/")

    def close(self) -> str:
        """End it as Ctrl-C does; what it said meanwhile."""
        self._process.send_signal(signal.SIGINT)
        late = threading.Timer(20, self._process.kill)
        late.start()
        try:
            # Not communicate(): it reads past what readline() above took into its buffer.
            assert self._process.stdout is not None
            said = self._process.stdout.read()
            assert self._process.wait() == 0, said
        finally:
            late.cancel()
        return said


def has(program: str) -> bool:
    """Whether a program is installed."""
    return shutil.which(program) is not None
