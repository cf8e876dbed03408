"""A newcomer's walk: each command prints the next one, and the viewer follows what is written."""

import re
import shlex
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from benchmarks.mock_server import MockServer
from mentalarena.cli import COMMANDS, cli, run_command
from mentalarena.store import open_store
from mentalarena.view.command import listening_socket
from tests.mentalarena.view.stores import Viewer, text_of

pytest.importorskip("datasette", reason="needs mentalarena[view]")
pytest.importorskip("matplotlib", reason="needs mentalarena[plots]")


def command(line: str) -> list[str]:
    """A printed command as it is run here."""
    words = shlex.split(line)
    assert words[0].endswith("mentalarena"), line
    assert words[1] in COMMANDS, line
    return [sys.executable, "-m", "mentalarena.cli", *words[1:]]


def printed(text: str, name: str) -> str:
    """The command of this name that a text tells to run."""
    found = re.search(rf"(\S*mentalarena {name}\b.*?)(?:   |  \(|$)", text, re.MULTILINE)
    assert found, f"no {name} in {text[-800:]}"
    return found[1]


def page(address: str) -> str:
    with urllib.request.urlopen(address, timeout=20) as answer:
        return str(answer.read().decode())


def test_each_command_names_the_next(tmp_path: Path) -> None:
    def run(line: str) -> str:
        done = subprocess.run(
            command(line), cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout + done.stderr

    out = run("mentalarena run --recipe pilot --db my.db")
    out = run(printed(out, "show"))
    assert "round 0:" in out
    words = shlex.split(printed(out, "view"))
    assert words[-2:] == ["--db", "my.db"], "the store that was named is named again"
    viewer = Viewer(tmp_path / "my.db")
    try:
        assert "Runs" in page(viewer.address)
    finally:
        said = viewer.close()
    report = printed(said, "report").replace(str(tmp_path / "my.db"), "my.db")
    assert "wrote report.html" in run(report)
    assert (tmp_path / "report.html").read_text("utf-8").rstrip().endswith("</html>")


def test_the_viewer_follows_a_batch_that_is_being_written(tmp_path: Path) -> None:
    with MockServer(reply_words=12, latency=0.1) as server:
        db = tmp_path / "arena.db"
        batch = subprocess.Popen(
            [*command("mentalarena batch --run going --episodes 3 --concurrency 2 --quiet"),
             "--recipe", "pilot", "--model", "openai:m", "--base-url", server.base_url, "--db",
             str(db)],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while server.stats()["chat_requests"] < 3:
            assert time.monotonic() < deadline
            assert batch.poll() is None
            threading.Event().wait(0.02)
        viewer = Viewer(db)
        try:
            seen = page(f"{viewer.address}/run/going")
            assert "running" in text_of(seen)
            assert "data-live" in seen
            address = re.search(r'href="(/episode/[^"]+)"', seen)
            assert address
            before = page(viewer.address + address[1]).count('<article class="turn')
            err = batch.communicate(timeout=90)[1]
            assert batch.returncode == 0, err
            after = page(viewer.address + address[1])
            assert after.count('<article class="turn') > before
            done = page(f"{viewer.address}/run/going")
            assert "3 ok" in text_of(done)
            assert "data-live" not in done
        finally:
            assert "Traceback" not in viewer.close()


def test_what_keeps_the_viewer_from_starting_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    def said(*args: str) -> str:
        with pytest.raises(SystemExit) as left:
            run_command(cli, "mentalarena", ["view", *args])
        captured = capsys.readouterr()
        assert left.value.code == 2
        (line,) = captured.err.strip().splitlines()
        return line

    assert "no store at arena.db" in said()
    assert not (tmp_path / "arena.db").exists()
    (tmp_path / "notes.db").write_text("not a database, by any means, and long enough", "utf-8")
    assert "notes.db" in said("--db", "notes.db")
    open_store(tmp_path / "arena.db").close()
    with listening_socket(0) as taken:
        port = taken.getsockname()[1]
        assert f"--port {port} cannot be used" in said("--port", str(port))
    assert "--port" in said("--port", "70000")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install 'mentalarena[view]'" in said()


def test_a_store_without_an_episode_and_one_that_nobody_may_write_are_shown(tmp_path: Path) -> None:
    db = tmp_path / "empty" / "arena.db"
    db.parent.mkdir()
    open_store(db).close()
    before = db.read_bytes()
    db.chmod(0o444)
    db.parent.chmod(0o555)
    viewer = Viewer(db)
    try:
        assert "The store holds no run yet" in page(viewer.address)
        assert "0 episodes" in page(f"{viewer.address}/episodes")
        assert "no iteration yet" in page(f"{viewer.address}/iterations")
    finally:
        viewer.close()
        db.parent.chmod(0o755)
    assert db.read_bytes() == before
