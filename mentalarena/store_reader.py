"""Reading a store without ever writing to it: what ``show`` and audits open.

Why: looking must not create a file, change its schema, or need the right to write. A store on a
read-only disk, or one that another process is writing to, is read like any other. Beside the file
SQLite itself may leave an empty ``-wal`` and a ``-shm``, which the next writer takes away.
"""

import asyncio
import json
import sqlite3
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from mentalarena.errors import StoreError
from mentalarena.store_api import Params
from mentalarena.store_file import explain, open_reader, primary_code

SCHEMA: Final = (
    "m001_tables", "m002_views", "m003_evaluations", "m004_instruments", "m005_decoder_scores",
    "m006_selfplay",
    "m007_measures",
)  # fmt: skip
"""The migrations of this version. Importing them takes longer than all of a reader's work, so their
names stand here too; a test compares the two."""
VECTORS: Final = (
    "select text_hash, vector from embeddings where encoder_hash = ?"
    " and text_hash in (select value from json_each(?))"
)


def read_rows(
    connection: sqlite3.Connection, path: Path, sql: str, params: Params
) -> list[dict[str, Any]]:
    """Rows of one query.

    Raises:
        StoreError: the query is wrong or would write.
    """
    try:
        cursor = connection.execute(sql, params)
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor]
    except sqlite3.Error as error:
        query = " ".join(sql.split())[:80]
        raise StoreError(f"{explain(path, error)} (query: {query})") from error


def open_readonly(path: str | Path) -> "StoreReader":
    """Open the store at ``path`` for reading only; nothing is created or brought up to date.

    Raises:
        StoreError: there is no file, it is not a store, or another version wrote its schema.
    """
    path = Path(path)
    if not path.is_file():
        raise StoreError(
            f"there is no store at {path}: play an episode first, or name it with --db"
        )
    connection = connect_readonly(path)
    try:
        _check_schema(path, connection)
    except BaseException:
        connection.close()
        raise
    return StoreReader(path, connection)


def connect_readonly(path: Path) -> sqlite3.Connection:
    """A connection that cannot write, also where the folder cannot be written.

    Raises:
        StoreError: the file cannot be opened.
    """
    connection = open_reader(path)
    try:
        connection.execute("select 1 from sqlite_schema").fetchone()
        return connection
    except sqlite3.Error as error:
        connection.close()
        unshared = primary_code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
        # In a folder that cannot be written SQLite cannot share the file with a writer. Without a
        # log there is none, and all that was committed is in the file itself.
        if not unshared or Path(f"{path}-wal").exists():
            raise StoreError(explain(path, error)) from error
    return open_reader(path, immutable=True)


def _check_schema(path: Path, connection: sqlite3.Connection) -> None:
    try:
        found = connection.execute(
            "select name from _sqlite_migrations where migration_set = 'mentalarena' order by id"
        )
        applied = [name for (name,) in found]
    except sqlite3.OperationalError as error:
        if primary_code(error) != sqlite3.SQLITE_ERROR:
            raise StoreError(explain(path, error)) from error
        applied = []
    except sqlite3.Error as error:
        raise StoreError(explain(path, error)) from error
    if not applied:
        raise StoreError(f"{path} is not a store of MentalArena: give another path")
    if newer := [name for name in applied if name not in SCHEMA]:
        raise StoreError(
            f"{path} was written by a newer version (schema {newer[-1]}): upgrade mentalarena, "
            "or give another path"
        )
    if len(applied) < len(SCHEMA):
        raise StoreError(
            f"{path} was written by an older version (schema {applied[-1]}): "
            f"`mentalarena batch --dry-run --db {path}` brings it up to date"
        )


class StoreReader:
    """An open store that cannot be written; thread safe, a context manager."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._lock = threading.Lock()

    def __enter__(self) -> "StoreReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def fetch(self, sql: str, params: Params = ()) -> list[dict[str, Any]]:
        """See :meth:`mentalarena.store.Store.fetch`."""
        with self._lock:
            return read_rows(self._connection, self.path, sql, params)

    async def fetch_async(self, sql: str, params: Params = ()) -> list[dict[str, Any]]:
        """The same, without blocking the event loop."""
        return await asyncio.to_thread(self.fetch, sql, params)

    def vectors(self, encoder_hash: str, text_hashes: Iterable[str]) -> dict[str, bytes]:
        """See :meth:`mentalarena.store.Store.vectors`."""
        rows = self.fetch(VECTORS, (encoder_hash, json.dumps(list(text_hashes))))
        return {row["text_hash"]: row["vector"] for row in rows}

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
