"""Reading never writes: what is missing stays missing, what is old stays old, read-only works."""

import os
import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mentalarena.errors import StoreError
from mentalarena.migrations import names
from mentalarena.store import Row, open_store
from mentalarena.store_reader import SCHEMA, open_readonly


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "arena.db"
    with open_store(path) as store:
        store.write_sync([Row("templates", {"hash": "h", "name": "n", "text": "t"})])
        store.put_vectors("e", {"one": b"\0\0\0\0"})
    return path


def test_the_names_of_the_migrations_are_those_of_the_migrations() -> None:
    assert list(SCHEMA) == names()


def test_it_reads_and_cannot_write(path: Path) -> None:
    before = path.read_bytes()
    with open_readonly(path) as store:
        assert store.fetch("select name from templates where hash = ?", ("h",)) == [{"name": "n"}]
        assert store.vectors("e", ["one", "two"]) == {"one": b"\0\0\0\0"}
        with pytest.raises(StoreError, match="readonly database"):
            store.fetch("delete from templates")
        with pytest.raises(StoreError, match=r"no such table.*query: select \* from none_such"):
            store.fetch("select * from none_such")
    assert path.read_bytes() == before


async def test_it_sees_what_a_writer_has_committed_meanwhile(path: Path) -> None:
    with open_store(path) as writer, open_readonly(path) as reader:
        await writer.write([Row("templates", {"hash": "i", "name": "n", "text": "t"})])
        assert len(await reader.fetch_async("select * from templates")) == 2


def test_a_missing_file_is_not_created(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"there is no store at .*: play an episode first"):
        open_readonly(tmp_path / "none.db")
    assert list(tmp_path.iterdir()) == []


def test_another_version_is_named_and_left_as_it_is(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute(
            "delete from _sqlite_migrations where name in ('m002_views', 'm003_decoder_scores')"
        )
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"older version \(schema m001_tables\): `mentalarena "):
        open_readonly(path)
    assert path.read_bytes() == before
    with sqlite3.connect(path) as db:
        db.execute("update _sqlite_migrations set name = 'm999_future'")
    with pytest.raises(StoreError, match=r"newer version \(schema m999_future\): upgrade"):
        open_readonly(path)


def test_what_is_no_store_is_named(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database, " * 100, "utf-8")
    with pytest.raises(StoreError, match="not a database: this is not a SQLite file"):
        open_readonly(text)
    other = tmp_path / "other.db"
    with sqlite3.connect(other) as db:
        db.execute("create table t (x)")
    with pytest.raises(StoreError, match="is not a store of MentalArena"):
        open_readonly(other)


def without_privileges(work: Callable[[], str]) -> str:
    """What ``work`` says where permissions bind (root may write everything)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            os.write(writer, work().encode())
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text


def test_a_file_in_a_folder_that_cannot_be_written_is_read() -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "arena.db"
        with open_store(path) as store:
            store.write_sync([Row("templates", {"hash": "h", "name": "n", "text": "t"})])

        def read() -> str:
            with open_readonly(path) as store:
                return str(store.fetch("select text from templates"))

        path.chmod(0o444)
        path.parent.chmod(0o555)
        try:
            assert without_privileges(read) == "[{'text': 't'}]"
            assert [item.name for item in path.parent.iterdir()] == ["arena.db"]
        finally:
            path.parent.chmod(0o755)
