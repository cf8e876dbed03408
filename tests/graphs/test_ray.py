"""A Ray cluster plays a batch, and loses an actor on the way: ``make test-ray``."""

import os
import signal
from pathlib import Path

import pytest

from benchmarks.durability import trajectories
from benchmarks.mock_server import MockServer
from graphs.batch import batch
from mentalarena.store import open_store
from tests.graphs.batches import (
    check_whole,
    model,
    result,
    short_recipe,
    start,
    wait_for_requests,
)
from tests.graphs.test_commands import Command, command  # noqa: F401

pytest.importorskip("ray")
pytestmark = pytest.mark.ray
EPISODES = 200
IN_FLIGHT = 32


def actors() -> list[int]:
    """Process ids of Ray actors that play episodes, on this machine."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name = (folder / "cmdline").read_bytes()
        except OSError:  # It has ended.
            continue
        if name.startswith(b"ray::Actor"):
            found.append(int(folder.name))
    return found


def test_two_hundred_episodes_and_a_dead_actor(command: Command, tmp_path: Path) -> None:  # noqa: F811
    short_recipe(tmp_path)
    args = ("--episodes", str(EPISODES), "--concurrency", str(IN_FLIGHT), "--json")
    with MockServer(reply_words=12) as server:
        assert result(command(batch, *model(server), *args))["left"] == 0
        with open_store("arena.db") as store:
            undisturbed = trajectories(store)
    for part in Path().glob("arena.db*"):
        part.unlink()
    assert not actors(), "this test needs a machine without other Ray actors"
    with MockServer(reply_words=12, latency=0.05) as server:
        process = start(tmp_path, server, *args, "--executor", "ray", "--workers", "2")
        wait_for_requests(server, process, 600)
        victim, _ = actors()
        os.kill(victim, signal.SIGKILL)
        out, err = process.communicate(timeout=400)
        assert process.returncode == 0, (out, err)
        assert server.stats()["answered_again"] <= IN_FLIGHT
    with open_store("arena.db") as store:
        assert len(undisturbed) == EPISODES
        assert trajectories(store) == undisturbed
        assert store.fetch("select distinct attempts from episodes") == [{"attempts": 1}]
        check_whole(store)
