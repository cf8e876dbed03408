"""A running viewer, made once for all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mentalarena.view.stores import Viewer


@pytest.fixture(scope="session")
def browsed(thousand: Path) -> Iterator[Viewer]:
    """The viewer over 1,000 episodes."""
    viewer = Viewer(thousand)
    yield viewer
    said = viewer.close()
    assert "Traceback" not in said
