"""Sentence similarity: the bundled encoder, content-addressed so that a replay keeps every digit.

Why: encoder and decoder compare sentences, and a verdict must not depend on what else happened to
be in the batch. Each text is therefore embedded alone, and its vector is kept under (encoder hash,
text hash): first in memory, then in the vectors shipped for built-in texts, then in the store.
The encoder is all-MiniLM-L6-v2 (Apache-2.0) from an installed package. It runs in a process of its
own (``mentalarena/encoder_process.py``), which is started on first use, or by
:meth:`SentenceEncoder.preload`.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mentalarena.encoder_process import DIMENSIONS, ENCODER_HASH, Vectors, encoder_process

_REMEMBERED = 20_000
"""Vectors kept in memory beside the built-in ones, those used last: at 1.5 kB each about 30 MB."""


class VectorCache(Protocol):
    """Where vectors outlive the process; the store satisfies it."""

    def vectors(self, encoder_hash: str, text_hashes: Sequence[str]) -> Mapping[str, bytes]:
        """The known ones among ``text_hashes``; float32, little endian."""
        ...

    def put_vectors(self, encoder_hash: str, vectors: Mapping[str, bytes]) -> None:
        """Keep new ones."""
        ...


class Embedder(Protocol):
    """Turns texts into unit vectors."""

    @property
    def hash(self) -> str:
        """What thresholds are bound to."""
        ...

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape ``(len(texts), dimensions)``, float32."""
        ...


def text_hash(text: str) -> str:
    """Content address of a text."""
    return hashlib.sha256(text.encode()).hexdigest()


class _Memory:
    """The vectors used last; thread safe."""

    def __init__(self, known: Mapping[str, Vectors]) -> None:
        self._known = known
        self._recent: OrderedDict[str, Vectors] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Vectors | None:
        known = self._known.get(key)
        if known is not None:
            return known
        with self._lock:
            if key in self._recent:
                self._recent.move_to_end(key)
            return self._recent.get(key)

    def keep(self, vectors: Mapping[str, Vectors]) -> None:
        with self._lock:
            self._recent.update(vectors)
            while len(self._recent) > _REMEMBERED:
                self._recent.popitem(last=False)


class SentenceEncoder:
    """The bundled encoder behind two caches; safe to use from several threads."""

    hash = ENCODER_HASH

    def __init__(
        self, cache: VectorCache | None = None, known: Mapping[str, Vectors] | None = None
    ) -> None:
        self._cache = cache
        self._memory = _Memory(known or {})
        self._lock = threading.Lock()
        """Held while texts are embedded; never for what is already known."""

    def preload(self) -> None:
        """Start loading the model beside whatever happens next."""
        encoder_process().start()

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape ``(len(texts), 384)``, float32.

        Raises:
            ConfigurationError: the encoder is needed and cannot be loaded.
        """
        hashes = [text_hash(text) for text in texts]
        if not hashes:
            return np.zeros((0, DIMENSIONS), dtype=np.float32)
        # Held here until the end: memory may let go of any of them meanwhile.
        found: dict[str, Vectors] = {}
        missing = self._missing(dict(zip(hashes, texts, strict=True)), found)
        if missing:
            with self._lock:
                # Another thread may have embedded some of them while this one waited.
                missing = self._missing(missing, found)
                if missing:
                    fresh = self._embed(missing)
                    self._memory.keep(fresh)
                    found |= fresh
                    if self._cache is not None:
                        kept = {key: vector.tobytes() for key, vector in fresh.items()}
                        self._cache.put_vectors(self.hash, kept)
        return np.stack([found[key] for key in hashes])

    def _missing(self, texts: Mapping[str, str], found: dict[str, Vectors]) -> dict[str, str]:
        """Those texts, by hash, that neither memory nor the cache knows; others go to ``found``."""
        missing = {}
        for key, text in texts.items():
            vector = self._memory.get(key)
            if vector is None:
                missing[key] = text
            else:
                found[key] = vector
        if missing and self._cache is not None:
            stored = self._cache.vectors(self.hash, list(missing))
            read = {key: np.frombuffer(raw, dtype="<f4") for key, raw in stored.items()}
            self._memory.keep(read)
            found |= read
            missing = {key: text for key, text in missing.items() if key not in read}
        return missing

    def _embed(self, texts: Mapping[str, str]) -> dict[str, Vectors]:
        """The vectors of texts, by hash, that are nowhere yet."""
        return dict(zip(texts, encoder_process().embed(list(texts.values())), strict=True))

    def similarity(self, first: str, second: str) -> float:
        """Cosine of two texts, -1 to 1."""
        one, two = self.vectors([first, second])
        return float(one @ two)

    def nearest(self, text: str, among: Sequence[str]) -> tuple[int, float]:
        """Index of the nearest text and its cosine."""
        query = self.vectors([text])[0]
        scores: npt.NDArray[Any] = self.vectors(among) @ query
        best = int(np.argmax(scores))
        return best, float(scores[best])
