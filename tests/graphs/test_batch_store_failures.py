"""A store that fails under a batch: one line, exit 2, nothing lost, and the command goes on."""

import ctypes
import os
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from benchmarks.mock_server import MockServer
from graphs.batch import batch
from graphs.executors import AT_LEISURE
from mentalarena import store_file
from mentalarena.store import open_store
from tests.graphs.batches import check_whole, model, pause, result, short_recipe
from tests.graphs.test_commands import Command, Ended, command, heed_interrupts, one_line  # noqa: F401

IN_FLIGHT = 2
IN_PLAY = (1 + AT_LEISURE) * IN_FLIGHT
"""Episodes of which each may pay for one answer that a store that has failed cannot take: the place
of one that was refused is free again until the batch has heard of it."""
ARGS = ("--episodes", "6", "--concurrency", str(IN_FLIGHT), "--json")
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1


@pytest.fixture(autouse=True)
def _short_recipe(command: Command, tmp_path: Path) -> None:  # noqa: F811
    short_recipe(tmp_path)


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer(reply_words=12, latency=0.02) as running:
        yield running


def begin(
    server: MockServer, prepare: Callable[[], object] = lambda: None
) -> subprocess.Popen[str]:
    """The batch in a process of its own; ``prepare`` is called in it."""

    def prepared() -> None:
        heed_interrupts()
        prepare()

    return subprocess.Popen(
        [sys.executable, "-m", "graphs.batch", *model(server), *ARGS],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=prepared,
    )  # fmt: skip


def complaint(process: subprocess.Popen[str]) -> str:
    """The one line that a batch ends with."""
    out, err = process.communicate(timeout=120)
    return one_line(Ended(process.returncode, out, err))


def wait_for_requests(server: MockServer, count: int) -> None:
    while server.stats()["chat_requests"] < count:
        pause(0.005)


def check_goes_on(command: Command, server: MockServer) -> None:  # noqa: F811
    """The same command completes the plan, and pays again for what was in flight only."""
    again = command(batch, *model(server), *ARGS)
    assert again.code == 0, again.err
    assert result(again)["complete"] == 6
    assert server.stats()["answered_again"] <= IN_PLAY
    with open_store("arena.db") as store:
        check_whole(store)


def allow_files_up_to(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk(command: Command, server: MockServer) -> None:  # noqa: F811
    # Enough for the schema, the cases and some episodes; then neither file nor log can grow.
    line = complaint(begin(server, allow_files_up_to(1_500_000)))
    assert "arena.db: " in line
    assert "run the same command again" in line
    with open_store("arena.db") as store:
        (kept,) = store.fetch("select count(*) as n from calls")
    paid = server.stats()["chat_requests"]
    assert paid - IN_PLAY <= kept["n"] <= paid
    assert kept["n"] > 0, "the disk has to be full in the middle"
    check_goes_on(command, server)


def test_a_file_that_another_process_holds(
    command: Command,  # noqa: F811
    server: MockServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store_file, "_BUSY_SECONDS", 0.3)
    over = threading.Event()

    def hold() -> None:
        wait_for_requests(server, 8)
        connection = sqlite3.connect("arena.db", isolation_level=None, timeout=60)
        connection.execute("begin immediate")
        over.wait()
        connection.close()

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        line = one_line(command(batch, *model(server), *ARGS))
    finally:
        over.set()
        holder.join()
    assert "arena.db: database is locked: another process holds the file, end it or try" in line
    check_goes_on(command, server)


def heed_permissions() -> None:
    """Let permissions bind this process although it is root's; needs nothing of anybody else."""
    if os.geteuid() == 0:
        ctypes.CDLL(None, use_errno=True).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="capabilities are a matter of Linux")
def test_a_file_or_folder_that_cannot_be_written(
    command: Command,  # noqa: F811
    server: MockServer,
    tmp_path: Path,
) -> None:
    open_store("arena.db").close()
    try:
        Path("arena.db").chmod(0o444)
        line = complaint(begin(server, heed_permissions))
        assert line == (
            "error: arena.db cannot be written: change its permissions or give another path"
        )
        Path("arena.db").chmod(0o644)
        tmp_path.chmod(0o555)
        line = complaint(begin(server, heed_permissions))
        assert f"the folder {tmp_path} cannot be written" in line
    finally:
        tmp_path.chmod(0o755)
    assert server.stats()["chat_requests"] == 0
    check_goes_on(command, server)


@pytest.mark.parametrize("replaced", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_file_that_is_taken_away(
    command: Command,  # noqa: F811
    server: MockServer,
    replaced: bool,
) -> None:
    process = begin(server)
    wait_for_requests(server, 20)
    if replaced:
        with sqlite3.connect("other.db") as other:
            other.execute("create table bookmarks (url)")
        other.close()
        Path("other.db").replace("arena.db")
    else:
        Path("arena.db").unlink()
    line = complaint(process)
    assert "arena.db was deleted, moved or replaced while it was in use" in line
    assert "all it held is in arena.db.rescued, move that to arena.db and run" in line
    Path("arena.db.rescued").replace("arena.db")
    check_goes_on(command, server)


def test_a_damaged_file(command: Command, server: MockServer) -> None:  # noqa: F811
    first = command(batch, *model(server), *ARGS[:1], "3", *ARGS[2:])
    assert first.code == 0, first.err
    shutil.copy("arena.db", "copy.db")
    with open("arena.db", "r+b") as file:
        # All but the first page, which says what the file is.
        file.seek(4096)
        file.write(b"\xff" * (Path("arena.db").stat().st_size - 4096))
    line = one_line(command(batch, *model(server), *ARGS))
    assert "arena.db: database disk image is malformed: the file is damaged, restore a copy" in line
    Path("copy.db").replace("arena.db")
    check_goes_on(command, server)
