"""What is written to the store: rows, changes, and the statements made from them.

Why: a batch is checked and rendered in the thread that submits it, so that a wrong column or a
value that SQLite cannot hold is reported there and the one writer only executes.
"""

import json
import math
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from graphlib import TopologicalSorter
from typing import Any, Final, NamedTuple

from mentalarena.errors import StoreError

_WRITE_ONCE: Final = frozenset({"templates", "embeddings"})
"""Tables keyed by content: what is stored first stays, so a replay never changes a digit."""
_AS_IS: Final = frozenset({str, int, bytes, type(None)})


class Row(NamedTuple):
    """One row to insert, or to update in the columns given when its primary key exists."""

    table: str
    values: dict[str, Any]


class Insert(NamedTuple):
    """One row that must not be there yet: another writer may have taken its key."""

    table: str
    values: dict[str, Any]


class Change(NamedTuple):
    """New values for one existing row, named by its whole primary key."""

    table: str
    key: dict[str, Any]
    values: dict[str, Any]


class Delete(NamedTuple):
    """All rows with these values; none is no error."""

    table: str
    where: dict[str, Any]


Write = Row | Insert | Change | Delete


class Table:
    """Columns and key of one table, and the statements made from them."""

    def __init__(
        self, name: str, columns: frozenset[str], key: tuple[str, ...], depth: int = 0
    ) -> None:
        self.name = name
        self.depth = depth
        """Above that of every other table that its rows refer to."""
        self.columns = columns
        self.key = key
        self._upserts: dict[tuple[str, ...], str] = {}

    def upsert(self, values: Mapping[str, Any]) -> str:
        """The statement for a :class:`Row` with these columns, in their order."""
        names = tuple(values)
        known = self._upserts.get(names)
        if known is None:
            self._check(names)
            if missing := [name for name in self.key if name not in values]:
                raise StoreError(f"table {self.name}: a row needs {', '.join(missing)}")
            rest = [name for name in names if name not in self.key]
            action = "nothing"
            if rest and self.name not in _WRITE_ONCE:
                action = "update set " + ", ".join(f'"{name}" = excluded."{name}"' for name in rest)
            known = self._upserts[names] = (
                f"{self._insert(names)} on conflict ({', '.join(self.key)}) do {action}"
            )
        return known

    def insert(self, values: Mapping[str, Any]) -> str:
        """The statement for an :class:`Insert`."""
        self._check(values)
        return self._insert(values)

    def change(self, change: Change) -> str:
        """The statement for a :class:`Change`: its values first, then its key."""
        self._check(change.values)
        if set(change.key) != set(self.key):
            raise StoreError(f"table {self.name}: the key of a change is {', '.join(self.key)}")
        if not change.values:
            raise StoreError(f"table {self.name}: a change needs values")
        assignments = ", ".join(f'"{name}" = ?' for name in change.values)
        condition = " and ".join(f'"{name}" = ?' for name in change.key)
        return f"update {self.name} set {assignments} where {condition}"

    def delete(self, delete: Delete) -> str:
        """The statement for a :class:`Delete`."""
        self._check(delete.where)
        if not delete.where:
            raise StoreError(f"table {self.name}: a delete says which rows")
        condition = " and ".join(f'"{name}" = ?' for name in delete.where)
        return f"delete from {self.name} where {condition}"

    def _check(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.columns:
                raise StoreError(f"table {self.name}: no column {name!r}")

    def _insert(self, names: Collection[str]) -> str:
        # Some names are words of SQL.
        columns = ", ".join(f'"{name}"' for name in names)
        return f"insert into {self.name} ({columns}) values ({', '.join('?' * len(names))})"


class Step(NamedTuple):
    """One statement and the rows it is run with."""

    table: str
    statement: str
    rows: list[list[Any]]
    is_upsert: bool = False
    must_change: bool = False
    depth: int = 0


def render(tables: Mapping[str, Table], rows: Iterable[Write]) -> list[Step]:
    """Check a batch and make its statements; neighbors alike share one.

    Raises:
        StoreError: unknown table or column, or a value that cannot be stored.
    """
    steps: list[Step] = []
    for row in rows:
        name = row.table
        table = tables.get(name)
        if table is None:
            raise StoreError(f"no table {name!r}")
        if isinstance(row, Row):
            statement, values = table.upsert(row.values), plain_values(name, row.values)
            if steps and steps[-1].statement is statement:
                steps[-1].rows.append(values)
            else:
                steps.append(Step(name, statement, [values], is_upsert=True, depth=table.depth))
            continue
        if isinstance(row, Insert):
            statement, values = table.insert(row.values), plain_values(name, row.values)
        elif isinstance(row, Change):
            statement = table.change(row)
            values = plain_values(name, row.values) + plain_values(name, row.key)
        else:
            statement, values = table.delete(row), plain_values(name, row.where)
        steps.append(Step(name, statement, [values], must_change=not isinstance(row, Delete)))
    return steps


def side_by_side(steps: Iterable[Step]) -> list[Step]:
    """The same writes in fewer steps: what is referred to first, rows of one table in order."""
    merged: list[Step] = []
    last: dict[str, Step] = {}
    """The step of each table that further rows may join."""
    since = 0
    """Where the upserts begin that may trade places."""
    for step in steps:
        if not step.is_upsert:
            # What a change or a delete does may depend on any row before it.
            last.clear()
            merged[since:] = sorted(merged[since:], key=_depth)
            merged.append(step)
            since = len(merged)
        elif (open_step := last.get(step.table)) and open_step.statement is step.statement:
            open_step.rows.extend(step.rows)
        else:
            # A copy of the list: a batch that has to be tried alone keeps its own rows.
            last[step.table] = step._replace(rows=list(step.rows))
            merged.append(last[step.table])
    merged[since:] = sorted(merged[since:], key=_depth)
    return merged


def _depth(step: Step) -> int:
    return step.depth


def read_tables(connection: sqlite3.Connection) -> dict[str, Table]:
    """The tables that may be written, by name."""
    tables = {}
    listed = connection.execute(
        "select name from sqlite_schema where type = 'table' and sql like '%strict%'"
    ).fetchall()
    depths = _depths(connection, [name for (name,) in listed])
    for (name,) in listed:
        columns = connection.execute(
            "select name, type, pk from pragma_table_info(?) order by pk", (name,)
        ).fetchall()
        key = tuple(column for column, _, pk in columns if pk)
        if [kind for _, kind, pk in columns if pk] == ["INTEGER"]:
            # A row number is not what callers know a row by; the unique constraint is.
            key = tuple(
                column
                for (column,) in connection.execute(
                    "select i.name from pragma_index_list(?) l, pragma_index_info(l.name) i"
                    " where l.origin = 'u' order by i.seqno",
                    (name,),
                )
            )
        tables[name] = Table(name, frozenset(column for column, _, _ in columns), key, depths[name])
    return tables


def _depths(connection: sqlite3.Connection, names: Sequence[str]) -> dict[str, int]:
    refers: dict[str, set[str]] = {name: set() for name in names}
    for name, found in refers.items():
        listed = connection.execute('select "table" from pragma_foreign_key_list(?)', (name,))
        # A table that refers to itself comes no later for it.
        found.update(other for (other,) in listed if other != name)
    ordered = TopologicalSorter(refers).static_order()
    return {name: depth for depth, name in enumerate(ordered)}


def plain_values(table: str, values: Mapping[str, Any]) -> list[Any]:
    """The values of a row as SQLite stores them; see :func:`plain_value`."""
    return [
        value if type(value) in _AS_IS else plain_value(table, column, value)
        for column, value in values.items()
    ]


def plain_value(table: str, column: str, value: Any) -> str | int | float | bytes | None:
    """A value as SQLite stores it: a bool as int, a dict or list as canonical JSON text.

    Raises:
        StoreError: a NaN or infinity, or a type that has no such form.
    """
    if isinstance(value, bool):
        return int(value)
    if value is None or isinstance(value, str | int | bytes):
        return value
    if isinstance(value, float):
        # SQLite would turn a NaN into NULL without a word.
        if not math.isfinite(value):
            raise StoreError(f"{table}.{column}: {value} is not a number that can be stored")
        return value
    if isinstance(value, dict | list | tuple):
        try:
            return json.dumps(
                value,
                sort_keys=True,
                ensure_ascii=False,
                allow_nan=False,
                separators=(",", ":"),
            )
        except (TypeError, ValueError) as error:
            raise StoreError(f"{table}.{column}: cannot be written as JSON: {error}") from error
    raise StoreError(f"{table}.{column}: a {type(value).__name__} cannot be stored")
