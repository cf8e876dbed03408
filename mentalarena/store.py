"""The store: one SQLite file, one writer, acknowledged batches, read-only readers.

Why: nothing that was paid for may be lost, and many episodes write at the same moment. Every batch
goes through one bounded queue to one thread with one connection, which commits what has gathered
in a single transaction and then acknowledges each batch: a write that returned survives a kill.
A batch that breaks a rule fails alone. Nothing else in the project writes or reads SQLite; opening
the file is in ``mentalarena/store_file.py``.
"""

import asyncio
import json
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

from mentalarena.errors import StoreError
from mentalarena.rows import (
    Change,
    Delete,
    Insert,
    Row,
    Step,
    Write,
    read_tables,
    render,
    side_by_side,
)
from mentalarena.store_file import (
    FATAL,
    explain,
    file_ids,
    open_reader,
    open_writer,
    primary_code,
    rescue,
)
from mentalarena.store_reader import VECTORS, read_rows

__all__ = ["Change", "Delete", "Insert", "Row", "Store", "Write", "open_store", "utc_now"]

_QUEUE_BATCHES: Final = 256
"""Batches that may wait for the writer; a submitter beyond them waits for room."""
_READER_THREADS: Final = 4
_INDEX_TURNS: Final = """
insert into turns_fts(rowid, text) select id, text from turns
where id > (select coalesce(max(id), 0) from turns_fts_docsize)
"""
"""A new turn's id is above those of all others, so above those of all that are indexed."""


def utc_now() -> str:
    """The present moment as the store writes it, e.g. ``2026-01-31T09:30:00.000Z``."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def open_store(path: str | Path) -> "Store":
    """Open the store at ``path``; create the file, and bring its schema up to date, as needed.

    Raises:
        StoreError: the folder is missing, the file is not a store, is locked, cannot be written,
            or was written by a newer version.
    """
    path = Path(path)
    connection = open_writer(path)
    try:
        return Store(path, connection)
    except sqlite3.Error as error:
        connection.close()
        raise StoreError(explain(path, error)) from error
    except BaseException:
        connection.close()
        raise


class Store:
    """An open store; made by :func:`open_store`, thread safe, a context manager."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._tables = read_tables(connection)
        self._file_ids = file_ids(path)
        self._inbox = _Inbox(path)
        self._fatal: str | None = None
        self._readers: deque[sqlite3.Connection] = deque()
        self._reader_threads = ThreadPoolExecutor(_READER_THREADS, "store-reader")
        self._writer = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._writer.start()

    def __enter__(self) -> "Store":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    # --- writing ---------------------------------------------------------------------------------

    async def write(self, rows: Sequence[Write]) -> None:
        """Write a batch, all of it or nothing; returns once it is committed.

        May be awaited from any event loop. A batch that was handed over is written even when the
        waiting task is cancelled.

        Raises:
            StoreError: unknown table or column, a value that cannot be stored, a broken
                constraint, a full disk, a closed store.
        """
        if not rows:
            return
        loop = asyncio.get_running_loop()
        committed = loop.create_future()
        batch = _Batch(self._prepare(rows), committed)
        while True:
            room = loop.create_future()
            if self._inbox.offer(batch, partial(_wake, loop, room)):
                break
            await room
        await committed

    def write_sync(self, rows: Sequence[Write]) -> None:
        """As :meth:`write`, for code without an event loop: blocks until committed."""
        if not rows:
            return
        self._submit(self._prepare(rows))

    def _submit(self, steps: list[Step]) -> None:
        committed: Future[None] = Future()
        batch = _Batch(steps, committed)
        room = threading.Event()
        while not self._inbox.offer(batch, room.set):
            room.wait()
            room.clear()
        committed.result()

    def put_vectors(self, encoder_hash: str, vectors: Mapping[str, bytes]) -> None:
        """Keep embeddings (float32, little endian) by text hash; one that is there stays."""
        self.write_sync(
            [
                Row("embeddings", {"encoder_hash": encoder_hash, "text_hash": key, "vector": value})
                for key, value in vectors.items()
            ]
        )

    # --- reading ---------------------------------------------------------------------------------

    def fetch(
        self, sql: str, params: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[dict[str, Any]]:
        """Rows of one query on a read-only connection; JSON columns come as their text.

        Raises:
            StoreError: the query is wrong or would write, or the store is closed.
        """
        try:
            reader = self._borrow_reader()
            try:
                return read_rows(reader, self.path, sql, params)
            finally:
                self._readers.append(reader)
                if self._inbox.closed:
                    self._close_readers()
        except StoreError:
            if not self._inbox.closed and file_ids(self.path) != self._file_ids:
                # Not the query's fault: the writer saves what it can, and says what happened.
                self._submit([])
            raise

    async def fetch_async(
        self, sql: str, params: Sequence[Any] | Mapping[str, Any] = ()
    ) -> list[dict[str, Any]]:
        """As :meth:`fetch`, in a thread of the store's own: a busy default pool cannot delay it."""
        self._inbox.check_open()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._reader_threads, self.fetch, sql, params)

    def vectors(self, encoder_hash: str, text_hashes: Iterable[str]) -> dict[str, bytes]:
        """The stored embeddings among ``text_hashes``: float32, little endian, by text hash."""
        rows = self.fetch(VECTORS, (encoder_hash, json.dumps(list(text_hashes))))
        return {row["text_hash"]: row["vector"] for row in rows}

    def close(self) -> None:
        """Write what is queued, fold the log into the file, close; a second call does nothing."""
        if not self._inbox.close():
            return
        self._writer.join()
        self._reader_threads.shutdown()
        self._close_readers()
        # All that was acknowledged is in the log already; a full disk must not hide that here.
        with suppress(sqlite3.Error):
            self._connection.execute("pragma wal_checkpoint(truncate)")
        self._connection.close()

    # --- inside ----------------------------------------------------------------------------------

    def _borrow_reader(self) -> sqlite3.Connection:
        self._inbox.check_open()
        try:
            return self._readers.pop()
        except IndexError:
            pass
        return open_reader(self.path)

    def _close_readers(self) -> None:
        with suppress(IndexError):
            while True:
                self._readers.pop().close()

    def _prepare(self, rows: Sequence[Write]) -> list[Step]:
        """Check and render a batch, in the submitter's thread."""
        try:
            return render(self._tables, rows)
        except StoreError as error:
            raise StoreError(f"{self.path}: {error}") from error

    def _run(self) -> None:
        while batches := self._inbox.take():
            _acknowledge(batches, self._commit(batches))

    def _commit(self, batches: "list[_Batch]") -> list[str | None]:
        """One transaction for all; the reason of refusal of each, None when committed."""
        if self._fatal is not None:
            return [self._fatal] * len(batches)
        try:
            self._together(batches)
        except _RefusedError as error:
            self._roll_back()
            if len(batches) == 1:
                return [str(error)]
            # Rare: every batch for itself, so that the one at fault fails alone.
            return [outcome for batch in batches for outcome in self._commit([batch])]
        # Whatever went wrong: a submitter must hear of it, or it would wait for ever.
        except Exception as error:
            self._roll_back()
            refusal = explain(self.path, error)
            if primary_code(error) not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                self._fatal = refusal
            return [refusal] * len(batches)
        # SQLite goes on writing into a file that has no name any more.
        if file_ids(self.path) != self._file_ids:
            self._fatal = rescue(self.path, self._connection)
        return [self._fatal] * len(batches)

    def _together(self, batches: "list[_Batch]") -> None:
        """Commit all batches, rows of one table side by side; raises when one is refused."""
        try:
            self._transact(batches)
        except _RefusedError as error:
            if not error.dangles:
                raise
            # A row may come to stand before the one it refers to; what counts is the whole. Not
            # from the start: it makes SQLite compile every statement again, half of a commit's
            # time.
            self._roll_back()
            self._transact(batches, defer=True)

    def _transact(self, batches: "list[_Batch]", *, defer: bool = False) -> None:
        self._connection.execute("begin immediate")
        if defer:
            self._connection.execute("pragma defer_foreign_keys = on")
        self._apply(side_by_side(step for batch in batches for step in batch.steps))
        # One flush of the full-text index for all turns: it costs as much as many rows.
        if any(step.table == "turns" for batch in batches for step in batch.steps):
            self._connection.execute(_INDEX_TURNS)
        try:
            self._connection.execute("commit")
        except sqlite3.IntegrityError as error:
            raise _RefusedError(explain(self.path, error)) from error

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self._connection.in_transaction:
                self._connection.execute("rollback")

    def _apply(self, steps: Iterable[Step]) -> None:
        for step in steps:
            try:
                changed = self._connection.executemany(step.statement, step.rows).rowcount
            except (sqlite3.Error, OverflowError, UnicodeError) as error:
                if primary_code(error) in FATAL or not self._connection.in_transaction:
                    raise
                raise _RefusedError(
                    f"{explain(self.path, error)} (table {step.table})",
                    dangles=getattr(error, "sqlite_errorcode", 0)
                    == sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY,
                ) from error
            if step.must_change and changed == 0:
                raise _RefusedError(f"{self.path}: no row with this key to change ({step.table})")


class _RefusedError(Exception):
    """The batch is at fault, not the file.

    Args:
        message: One line for the user.
        dangles: Whether a row refers to one that was not there yet.
    """

    def __init__(self, message: str, *, dangles: bool = False) -> None:
        super().__init__(message)
        self.dangles = dangles


class _Batch(NamedTuple):
    steps: list[Step]
    committed: "asyncio.Future[None] | Future[None]"


class _Inbox:
    """Bounded queue between many submitters and the writer, who takes all there is at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = threading.Condition()
        self._batches: list[_Batch] = []
        self._waiting_for_room: list[Callable[[], None]] = []
        self.closed = False

    def check_open(self) -> None:
        if self.closed:
            raise StoreError(f"{self._path}: the store is closed; open it again")

    def offer(self, batch: _Batch, when_room: Callable[[], None]) -> bool:
        """Take ``batch``, or promise to call ``when_room`` once when trying again may help."""
        with self._changed:
            self.check_open()
            if len(self._batches) >= _QUEUE_BATCHES:
                self._waiting_for_room.append(when_room)
                return False
            self._batches.append(batch)
            self._changed.notify()
            return True

    def take(self) -> list[_Batch]:
        """Everything that waits, at least one; empty when closed and drained."""
        with self._changed:
            while not self._batches and not self.closed:
                self._changed.wait()
            batches, self._batches = self._batches, []
            waiting, self._waiting_for_room = self._waiting_for_room, []
        for tell in waiting:
            tell()
        return batches

    def close(self) -> bool:
        """Refuse more; False when it was closed before."""
        with self._changed:
            was_open, self.closed = not self.closed, True
            self._changed.notify()
        return was_open


def _acknowledge(batches: Sequence[_Batch], refusals: Sequence[str | None]) -> None:
    """Tell every submitter; a loop is woken once for all of its batches, which is what it costs."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[None], str | None]]] = {}
    for batch, refusal in zip(batches, refusals, strict=True):
        if isinstance(batch.committed, Future):
            _settle([(batch.committed, refusal)])
        else:
            by_loop.setdefault(batch.committed.get_loop(), []).append((batch.committed, refusal))
    for loop, outcomes in by_loop.items():
        # The loop may be gone by now; then nobody waits.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(_settle, outcomes)


def _settle(
    outcomes: "Iterable[tuple[asyncio.Future[None] | Future[None], str | None]]",
) -> None:
    for future, refusal in outcomes:
        # One whose task was cancelled is done already; its batch was written all the same.
        if future.done():
            continue
        if refusal is None:
            future.set_result(None)
        else:
            future.set_exception(StoreError(refusal))


def _wake(loop: asyncio.AbstractEventLoop, future: "asyncio.Future[None]") -> None:
    def settle() -> None:
        if not future.done():
            future.set_result(None)

    # The loop may be gone by now; then nobody waits.
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(settle)
