"""What an episode needs of a store, wherever the store is.

Why: an episode is played in the process that holds the store, in a worker process that reaches it
over a connection, or again for an audit that may only read. It must not know which.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mentalarena.rows import Write

Params = Sequence[Any] | Mapping[str, Any]


class ReadableStore(Protocol):
    """Any open store, whether or not it may be written."""

    path: Path

    def fetch(self, sql: str, params: Params = ()) -> list[dict[str, Any]]:
        """Rows of one query."""
        ...


class EpisodeStore(Protocol):
    """The part of :class:`mentalarena.store.Store` that episodes use; see there."""

    path: Path

    async def write(self, rows: Sequence[Write]) -> None:
        """Write a batch, all of it or nothing; returns once it is committed."""
        ...

    def write_sync(self, rows: Sequence[Write]) -> None:
        """The same, blocking."""
        ...

    def fetch(self, sql: str, params: Params = ()) -> list[dict[str, Any]]:
        """Rows of one query."""
        ...

    async def fetch_async(self, sql: str, params: Params = ()) -> list[dict[str, Any]]:
        """The same, without blocking the event loop."""
        ...

    def vectors(self, encoder_hash: str, text_hashes: Iterable[str]) -> Mapping[str, bytes]:
        """The stored embeddings among ``text_hashes``."""
        ...

    def put_vectors(self, encoder_hash: str, vectors: Mapping[str, bytes]) -> None:
        """Keep embeddings by text hash."""
        ...
