"""Stores to look at: real episodes, and many copies of them."""

import re
import sqlite3
from pathlib import Path

import pytest

from benchmarks.mock_server import MockServer
from graphs.batch import batch
from mentalarena.cli import run_command

COPIED = (
    "turns", "routes", "formulations", "deviations", "decisions", "injections", "diagnoses",
    "plans", "scores", "calls",
)  # fmt: skip


def play(db: Path, *args: str) -> None:
    """Play a batch into ``db``; it must not fail."""
    with pytest.raises(SystemExit) as left:
        run_command(batch, "batch", ["--db", str(db), "--quiet", *args])
    assert not left.value.code


def played_store(db: Path) -> Path:
    """A handful of real episodes: rule-based ones, and some of the model behind a mock server."""
    play(db, "--run", "rules", "--episodes", "6", "--recipe", "default")
    with MockServer(reply_words=40) as server:
        play(db, "--run", "models", "--episodes", "3", "--recipe", "paper",
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
