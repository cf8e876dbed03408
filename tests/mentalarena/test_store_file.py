"""What cannot be a store is named and left alone; what can be is opened, by several at once."""

import multiprocessing
import os
import sqlite3
import tempfile
from pathlib import Path

import pytest
import sqlite_utils  # noqa: F401  (the unprivileged child cannot import it any more)

from mentalarena import store_file
from mentalarena.errors import StoreError
from mentalarena.store import Row, open_store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "odd name #1?.db"


def test_wrong_paths_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is a folder: give the path of a file"):
        open_store(tmp_path)
    with pytest.raises(StoreError, match=r"there is no folder .*missing: create it"):
        open_store(tmp_path / "missing" / "arena.db")
    assert not (tmp_path / "missing").exists()
    text = tmp_path / "notes.txt"
    text.write_text("Dear diary, this is no database. " * 100)
    with pytest.raises(StoreError, match="not a SQLite file, give another path") as caught:
        open_store(text)
    assert "\n" not in str(caught.value)
    assert text.read_text().startswith("Dear diary")


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("create table bookmarks (url)")
    other.close()
    content = path.read_bytes()
    with pytest.raises(StoreError, match="another program"):
        open_store(path)
    assert path.read_bytes() == content


def test_a_newer_schema_is_refused(path: Path) -> None:
    open_store(path).close()
    with sqlite3.connect(path) as newer:
        newer.execute(
            "insert into _sqlite_migrations (migration_set, name, applied_at)"
            " values ('mentalarena', 'm999_future', 'later')"
        )
    newer.close()
    with pytest.raises(StoreError, match=r"newer version \(schema m999_future\): upgrade"):
        open_store(path)


def test_a_locked_file_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_file, "_BUSY_SECONDS", 0.1)
    hold = sqlite3.connect(path, isolation_level=None)
    hold.execute("begin exclusive")
    with pytest.raises(StoreError, match="locked: another process holds the file"):
        open_store(path)
    hold.close()
    open_store(path).close()


def open_without_privileges(path: Path) -> str:
    """What open_store says to somebody whom permissions bind (root may write everything)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setuid(65534)
            open_store(path).close()
            os.write(writer, b"opened")
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text


def test_what_cannot_be_written_is_named() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)
        assert open_without_privileges(folder / "fresh.db") == "opened"
        path = folder / "arena.db"
        open_store(path).close()
        path.chmod(0o444)
        said = open_without_privileges(path)
        assert said == (
            f"StoreError: {path} cannot be written: change its permissions or give another path"
        )
        path.chmod(0o666)
        folder.chmod(0o555)
        said = open_without_privileges(path)
        assert said.startswith(f"StoreError: {path}: the folder {folder} cannot be written")
        folder.chmod(0o755)


def _open_and_write(path: Path, number: int) -> None:
    with open_store(path) as store:
        store.write_sync([Row("templates", {"hash": str(number), "name": "n", "text": "t"})])


def test_processes_may_open_a_new_file_at_once(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    children = [context.Process(target=_open_and_write, args=(path, i)) for i in range(4)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    with open_store(path) as store:
        assert store.fetch("select count(*) as n from templates") == [{"n": 4}]
