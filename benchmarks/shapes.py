"""Episodes for the store's benchmark: played once, then multiplied under new ids.

Why: what a store is asked to keep decides how fast it is. So the batches are those that episodes
hand over, in their order and size: an episode of every case asked for is played against the mock
server, what it writes is noted on its way to the store, and copies differ in their ids only.
"""

import hashlib
import tempfile
from asyncio import run
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple

from benchmarks.episodes import play
from benchmarks.mock_server import MockServer
from graphs.arena import graph
from graphs.session import open_session
from mentalarena.config import ArenaConfig, read_recipe
from mentalarena.rows import Change, Delete, Insert, Row, Write
from mentalarena.store import Store

Batch = list[Write]
_IDS = ("id", "episode_id", "call_id", "response_call_id")
_SHARED = ("runs", "cases", "templates")


class Shape(NamedTuple):
    """What a few episodes wrote."""

    shared: Batch
    """Runs, cases and templates: written once."""
    episodes: list[list[Batch]]
    """The batches of each episode, in order."""


class _Recorder:
    """A store that notes what is written."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.path = store.path
        self.batches: list[Batch] = []
        self.fetch = store.fetch
        self.fetch_async = store.fetch_async
        self.vectors = store.vectors
        self.put_vectors = store.put_vectors

    async def write(self, rows: Sequence[Write]) -> None:
        self.batches.append(list(rows))
        await self._store.write(rows)

    def write_sync(self, rows: Sequence[Write]) -> None:
        self.batches.append(list(rows))
        self._store.write_sync(rows)


def played(episodes: int, recipe: str, reply_words: int) -> Shape:
    """Play this many of the built-in cases against the mock server.

    Args:
        episodes: How many.
        recipe: Name or file of a recipe.
        reply_words: About how many words of prose an answer has.
    """
    with tempfile.TemporaryDirectory() as folder, MockServer(reply_words=reply_words) as server:
        config = replace(
            ArenaConfig().with_recipe(read_recipe(recipe)),
            patient="openai:mock",
            therapist="openai:mock",
            manager="openai:mock",
            judge="openai:mock",
            base_url=server.base_url,
            db=f"{folder}/arena.db",
        )
        with closing(open_session(config)) as session:
            store = session.store
            assert isinstance(store, Store)
            recorder = session.store = _Recorder(store)
            try:
                run(play(session, graph, episodes, episodes))
            finally:
                session.store = store
    return _sorted_out(recorder.batches)


def _sorted_out(batches: Iterable[Batch]) -> Shape:
    shared: Batch = []
    by_episode: dict[str, list[Batch]] = {}
    for batch in batches:
        shared += [row for row in batch if row.table in _SHARED]
        if own := [row for row in batch if row.table not in _SHARED]:
            by_episode.setdefault(_episode(own[0]), []).append(own)
    return Shape(shared, list(by_episode.values()))


def _episode(write: Write) -> str:
    named = _named(write)
    return str(named["id"] if write.table == "episodes" else named["episode_id"])


def _named(write: Write) -> Mapping[str, Any]:
    """The values that say which row it is."""
    if isinstance(write, Change):
        return write.key
    return write.where if isinstance(write, Delete) else write.values


def copy(episode: Sequence[Batch], number: int) -> list[Batch]:
    """The same episode under ids of its own; texts are shared with the original."""
    ids: dict[str, str] = {}

    def renamed(values: Mapping[str, Any]) -> dict[str, Any]:
        fresh = dict(values)
        for column in _IDS:
            old = fresh.get(column)
            if old is not None:
                fresh[column] = ids.get(old) or ids.setdefault(old, _new_id(old, number))
        return fresh

    return [[_rewritten(write, renamed) for write in batch] for batch in episode]


def _new_id(old: str, number: int) -> str:
    # Ids are hashes, so that the rows of many episodes land all over the indexes.
    prefix = "ep-" if old.startswith("ep-") else ""
    return prefix + hashlib.sha256(f"{old}/{number}".encode()).hexdigest()[: len(old) - len(prefix)]


def _rewritten(write: Write, renamed: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Write:
    if isinstance(write, Row):
        return Row(write.table, renamed(write.values))
    if isinstance(write, Insert):
        return Insert(write.table, renamed(write.values))
    if isinstance(write, Change):
        return Change(write.table, renamed(write.key), write.values)
    return Delete(write.table, renamed(write.where))
