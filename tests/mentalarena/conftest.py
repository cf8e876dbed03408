"""For the tests of this folder: one loaded encoder, the real one, and stores to look at."""

from pathlib import Path

import pytest

from mentalarena.builtin_vectors import builtin_vectors
from mentalarena.similarity import SentenceEncoder
from tests.mentalarena.view.stores import copied, made_hostile, played_store, snapshot


@pytest.fixture(scope="session")
def encoder() -> SentenceEncoder:
    return SentenceEncoder(known=builtin_vectors())


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real episodes, of rules and of a model behind a mock server."""
    return played_store(tmp_path_factory.mktemp("played") / "arena.db")


@pytest.fixture(scope="session")
def thousand(played: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of 1,000 episodes."""
    return copied(snapshot(played, tmp_path_factory.mktemp("thousand")), 1000)


@pytest.fixture(scope="session")
def hostile(played: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store in which everything that came from elsewhere is hostile."""
    return made_hostile(snapshot(played, tmp_path_factory.mktemp("hostile")))
