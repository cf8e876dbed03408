"""One loaded encoder for the tests of this folder: the real one."""

import pytest

from mentalarena.builtin_vectors import builtin_vectors
from mentalarena.similarity import SentenceEncoder


@pytest.fixture(scope="session")
def encoder() -> SentenceEncoder:
    return SentenceEncoder(known=builtin_vectors())
