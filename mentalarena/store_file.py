"""The store's file: how it is opened, brought up to date, and what its errors mean.

Why: a path that cannot work is named before anything is written, and SQLite's words alone tell
nobody what to do. ``mentalarena/store.py`` is the only user.
"""

import os
import sqlite3
from itertools import count
from pathlib import Path
from typing import Final

from mentalarena.errors import StoreError

_BUSY_SECONDS = 10.0
"""How long to wait for another process that holds the file."""
FATAL: Final = frozenset(
    {
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOMEM,
    }
)
"""Primary codes after which the store writes nothing more."""
_WAYS_OUT: Final = {
    sqlite3.SQLITE_FULL: "free some space and run the same command again",
    sqlite3.SQLITE_IOERR: "check the disk and run the same command again",
    sqlite3.SQLITE_CORRUPT: "the file is damaged, restore a copy or give another path",
    sqlite3.SQLITE_NOTADB: "this is not a SQLite file, give another path",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable or give another path",
    sqlite3.SQLITE_CANTOPEN: "make the file and its folder writable or give another path",
    sqlite3.SQLITE_BUSY: "another process holds the file, end it or try again later",
    sqlite3.SQLITE_LOCKED: "another process holds the file, end it or try again later",
    sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY: "write the row that is referred to with it or before it",
}


def open_writer(path: Path) -> sqlite3.Connection:
    """The connection that writes; creates the file and brings its schema up to date as needed.

    Raises:
        StoreError: the folder is missing, the file is not a store, is locked, cannot be written,
            or was written by a newer version.
    """
    _check_path(path)
    try:
        connection = sqlite3.connect(
            path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise StoreError(explain(path, error)) from error
    try:
        _migrate(path, connection)
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(explain(path, error)) from error
    except BaseException:
        connection.close()
        raise
    return connection


def open_reader(path: Path, *, immutable: bool = False) -> sqlite3.Connection:
    """A connection to an open store that cannot write; ``immutable`` when nobody can.

    Raises:
        StoreError: the file cannot be opened any more.
    """
    try:
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro" + ("&immutable=1" if immutable else ""),
            uri=True,
            timeout=_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )
    except sqlite3.Error as error:
        raise StoreError(explain(path, error)) from error


def _check_path(path: Path) -> None:
    folder = path.absolute().parent
    if path.is_dir():
        raise StoreError(f"{path} is a folder: give the path of a file in it")
    if not folder.is_dir():
        raise StoreError(f"{path}: there is no folder {folder}: create it or give another path")
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise StoreError(f"{path} cannot be written: change its permissions or give another path")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StoreError(
            f"{path}: the folder {folder} cannot be written, and SQLite keeps its log there: "
            "change its permissions or give another path"
        )


def _migrate(path: Path, connection: sqlite3.Connection) -> None:
    # Here, because sqlite-utils takes longer to import than all the rest of this module.
    from sqlite_utils import Database

    from mentalarena import migrations

    connection.execute("pragma foreign_keys = on")
    database = Database(connection, execute_plugins=False)
    # Tables first: another process may be making them, all at once, between the two looks.
    tables = database.table_names()
    applied = [item.name for item in migrations.migrations.applied(database)]
    known = migrations.names()
    if tables and not applied:
        raise StoreError(f"{path} is the database of another program: give another path")
    if newer := [name for name in applied if name not in known]:
        raise StoreError(
            f"{path} was written by a newer version (schema {newer[-1]}): upgrade mentalarena, "
            "or give another path"
        )
    database.enable_wal()
    connection.execute("pragma synchronous = full")
    # Keys are hashes, so rows land all over the trees: hold more pages, fold the log less often.
    connection.execute("pragma cache_size = -65536")
    connection.execute("pragma wal_autocheckpoint = 16000")
    if applied != known:
        # Taken at once, so that of two processes that open a new file one waits for the other.
        connection.execute("begin immediate")
        migrations.migrations.apply(database)
        connection.execute("commit")


def file_ids(path: Path) -> tuple[tuple[int, int] | None, ...]:
    """What the names of the store and of its log lead to: device and inode, None for nothing."""
    return tuple(_file_id(name) for name in (f"{path}", f"{path}-wal"))


def _file_id(name: str) -> tuple[int, int] | None:
    try:
        found = os.stat(name)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def rescue(path: Path, connection: sqlite3.Connection) -> str:
    """Copy a store whose file was taken away: what is open lives on, but only until it is closed.

    Returns:
        One line: what happened, where the copy is, and the way out.
    """
    copies = (Path(f"{path}.rescued{number or ''}") for number in count())
    copy = next(name for name in copies if not name.exists())
    happened = f"{path} was deleted, moved or replaced while it was in use"
    try:
        connection.execute("vacuum into ?", (str(copy),))
    except sqlite3.Error as error:
        return f"{happened}, and what it held could not be copied to {copy}: {error}"
    return f"{happened}: all it held is in {copy}, move that to {path} and run the same command"


def primary_code(error: Exception) -> int:
    """SQLite's primary result code; 0 for an error that did not come from SQLite."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def explain(path: Path, error: Exception) -> str:
    """What went wrong with the file, and the way out where there is one, in one line."""
    extended = getattr(error, "sqlite_errorcode", 0)
    way_out = _WAYS_OUT.get(extended) or _WAYS_OUT.get(primary_code(error))
    return f"{path}: {error}" + (f": {way_out}" if way_out else "")
