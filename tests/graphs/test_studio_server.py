"""``langgraph dev`` itself, offline, driven through its SDK: needs ``mentalarena[studio]``."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import SyncLangGraphClient

from graphs.reproduce import replay
from mentalarena.store_reader import open_readonly
from mentalarena.trajectory import read_trajectory
from tests.graphs.test_commands import Command, command  # noqa: F401
from tests.graphs.test_studio import made_up

pytest.importorskip("langgraph_api", reason='needs pip install "mentalarena[studio]"')
pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 90.0
"""Seconds for the server to come up: it imports everything first."""
DEV = ("langgraph", "dev", "--no-browser", "--no-reload")
DEV_URL = "http://127.0.0.1:2024"
"""Where it listens unless told otherwise; what the page's example speaks to."""
SHORT = {"exchanges": 2, "probe_rounds": 1, "max_plans": 1, "judge_samples": 1}


class Served:
    """``langgraph dev`` in a folder of its own, with the project's own ``langgraph.json``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("langgraph.json", "graphs"):
            if not (folder / name).exists():
                (folder / name).symlink_to(ROOT / name)
        self.start()

    def start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        plain = {k: v for k, v in os.environ.items() if not k.startswith(("LANG", "OPENAI_"))}
        offline = {"LANGGRAPH_CLI_NO_ANALYTICS": "1", "LANGSMITH_TRACING": "false"}
        self._log = (self.folder / "log").open("ab")
        self._process = subprocess.Popen(
            [Path(sys.executable).parent / DEV[0], *DEV[1:],
             "--port", str(port), "--n-jobs-per-worker", "4"],
            cwd=self.folder, env=plain | offline, stdout=self._log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        self.url = f"http://127.0.0.1:{port}"
        self._wait()
        self.client: SyncLangGraphClient = get_sync_client(url=self.url)

    def _wait(self) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/ok", timeout=5).close()
                return
            except (urllib.error.URLError, OSError):
                log = (self.folder / "log").read_text("utf-8", "replace")
                assert self._process.poll() is None, log[-4000:]
                assert time.monotonic() < end, log[-4000:]
                threading.Event().wait(0.2)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def thread(self) -> str:
        return str(self.client.threads.create()["thread_id"])

    def run(self, thread: str, given: Any = None, db: str = "arena.db", **more: Any) -> Any:
        context = SHORT | {"db": db} | more.pop("context", {})
        self.client.runs.wait(thread, "arena", input=given, context=context, **more)
        return self.client.threads.get_state(thread)

    def errors(self, thread: str, context: dict[str, Any]) -> list[Any]:
        """What a run says that does not play."""
        parts = self.client.runs.stream(
            thread, "arena", input={}, context=SHORT | context, stream_mode="updates"
        )
        return [part.data for part in parts if part.event == "error"]

    def stored(self, episode_id: str, db: str = "arena.db") -> dict[str, Any]:
        with open_readonly(self.folder / db) as store:
            return read_trajectory(store, episode_id)

    def episodes(self, db: str = "arena.db") -> list[dict[str, Any]]:
        with open_readonly(self.folder / db) as store:
            return store.fetch("select * from episodes order by started_at")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    server = Served(tmp_path_factory.mktemp("studio"))
    yield server
    server.kill()


def agrees(served: Served, values: Any, db: str = "arena.db") -> None:
    """The store holds what a thread shows."""
    stored = served.stored(values["episode_id"], db)
    assert stored["episode"]["status"] == values["status"]
    assert [turn["text"] for turn in stored["turns"]] == [t["text"] for t in values["turns"]]
    assert [message["content"] for message in values["messages"]] == [
        turn["text"] for turn in values["turns"]
    ]
    for table, key in (("deviations", "verdict"), ("decisions", "guidance"), ("plans", "score")):
        shown, kept = ([row[key] for row in rows] for rows in (values[table], stored[table]))
        assert sorted(shown, key=str) == sorted(kept, key=str), table
    assert [route["source"] for route in stored["routes"]] == ["START", *values["path"]]


def test_the_documented_example_runs(served: Served, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "studio.md").read_text("utf-8")
    assert f" {' '.join(map(str, DEV))}\n" in page
    (example,) = re.findall(r"^```py\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert DEV_URL in example
    exec(example.replace(DEV_URL, served.url), {})
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("patient ")
    assert " is a branch of ep-" in out[-1]


def test_the_form_is_plain_fields(served: Served) -> None:
    (assistant,) = served.client.assistants.search()
    schemas = served.client.assistants.get_schemas(assistant["assistant_id"])
    form = schemas["context_schema"]["properties"]
    assert {"patient", "therapist", "guidance", "exchanges", "seed", "db"} <= set(form)
    kinds = {field.get("type") for field in form.values()}
    assert kinds <= {"string", "integer", "number"}
    assert set(schemas["input_schema"]["properties"]) == {"case_id", "seed", "episode", "messages"}
    drawn = served.client.assistants.get_graph(assistant["assistant_id"])
    assert {"encode", "decode", "close"} <= {node["id"] for node in drawn["nodes"]}


def test_a_run_streams_its_steps_and_leaves_its_history(served: Served) -> None:
    thread = served.thread()
    parts = served.client.runs.stream(
        thread, "arena", input={"case_id": "kenji-1"}, context=SHORT, stream_mode="updates"
    )
    steps = [next(iter(part.data)) for part in parts if part.event == "updates"]
    values = served.client.threads.get_state(thread)["values"]
    assert steps == values["path"]
    agrees(served, values)
    rerouted = [d for d in values["decisions"] if d["component"]]
    assert rerouted, "state shows verdicts and reroutes"
    assert rerouted[0]["guidance"]
    history = served.client.threads.get_history(thread, limit=200)
    assert [past["next"][0] for past in reversed(history) if past["next"]][1:] == steps


def test_forks_are_episodes_of_their_own(
    served: Served,
    command: Command,  # noqa: F811
) -> None:
    thread = served.thread()
    first = served.run(thread, {"case_id": "kenji-1"}, db="forks.db")["values"]
    kept = served.stored(first["episode_id"], "forks.db")
    history = served.client.threads.get_history(thread, limit=200)
    past = next(p for p in history if p["next"] == ["diagnose"])
    again = served.run(thread, db="forks.db", checkpoint=past["checkpoint"])["values"]
    served.client.threads.update_state(thread, {}, checkpoint=past["checkpoint"])
    forked = served.run(thread, db="forks.db")["values"]
    last = past["values"]["turns"][-1]
    line = {**last, "idx": last["idx"] + 1, "text": "One more thing, before you decide."}
    served.client.threads.update_state(
        thread, {"turns": [line]}, checkpoint=past["checkpoint"], as_node="decode"
    )
    edited = served.run(thread, db="forks.db")["values"]
    assert edited["turns"][-1]["text"] == line["text"]
    for values in (again, forked):
        agrees(served, values, "forks.db")
    assert [t["text"] for t in served.stored(edited["episode_id"], "forks.db")["turns"]] == [
        turn["text"] for turn in edited["turns"]
    ]
    rows = served.episodes("forks.db")
    assert [row["parent"] for row in rows] == [None, *[first["episode_id"]] * 3]
    assert {row["branch_step"] for row in rows[1:]} == {first["path"].index("diagnose")}
    assert served.stored(first["episode_id"], "forks.db") == kept
    ids = [first["episode_id"], again["episode_id"], forked["episode_id"]]
    ended = command(replay, *ids, "--db", str(served.folder / "forks.db"))
    assert ended.code == 0, ended.out
    assert ended.out.startswith("3 of 3 episodes replayed with identical rows")


def test_two_runs_at_once(served: Served) -> None:
    threads = [served.thread() for _ in range(2)]
    cases = ("noah-1", "kenji-1")
    runs = [
        served.client.runs.create(
            thread, "arena", input={"case_id": case}, context=SHORT | {"db": "two.db", "seed": 3}
        )
        for thread, case in zip(threads, cases, strict=True)
    ]
    for thread, run in zip(threads, runs, strict=True):
        served.client.runs.join(thread, run["run_id"])
        agrees(served, served.client.threads.get_state(thread)["values"], "two.db")
    rows = served.episodes("two.db")
    assert sorted(row["case_id"] for row in rows) == sorted(cases)
    assert rows[1]["started_at"] < rows[0]["finished_at"], "at once, not one after the other"


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"therapist": "opneai:x"}, "therapist 'opneai:x' is unknown: did you mean openai:x"),
        ({"exchanges": -1}, "exchanges must be a whole number from 1 to 50, not -1"),
        ({"guidance": "some"}, "guidance 'some' is unknown"),
        ({"db": "nowhere/arena.db"}, "nowhere"),
    ],
)
def test_a_wrong_value_of_the_form_is_told_in_the_run(
    wrong: dict[str, Any], told: str, served: Served
) -> None:
    thread = served.thread()
    (error,) = served.errors(thread, {"db": "wrong.db"} | wrong)
    assert error["error"] in ("ConfigurationError", "ServedStoreError")
    assert told in error["message"]
    assert "\n" not in error["message"]
    assert served.client.threads.get(thread)["status"] == "error"


def test_a_killed_server_leaves_an_episode_that_is_gone_on_with(tmp_path: Path) -> None:
    """A person's answers are asked for once, whatever becomes of the server."""
    served = Served(tmp_path)
    try:
        thread = served.thread()
        human = {"context": {"therapist": "human"}}
        state = served.run(thread, {"case_id": "noah-1"}, **human)
        for number in (1, 2):
            answer = made_up(question(state)["answer"], number)
            state = served.run(thread, command={"resume": answer}, **human)
        before = state["values"]
        served.kill()
        (row,) = served.episodes()
        assert row["status"] == "running"
        assert [t["text"] for t in served.stored(row["id"])["turns"]] == [
            turn["text"] for turn in before["turns"]
        ]
        served.start()
        thread = served.thread()
        again = served.run(thread, {"episode": row["id"]}, **human)
        assert again["values"]["turns"] == before["turns"]
        assert question(again) == question(state)
        number = 2
        while again["next"]:
            number += 1
            answer = made_up(question(again)["answer"], number)
            again = served.run(thread, command={"resume": answer}, **human)
        agrees(served, again["values"])
        assert len(served.episodes()) == 1
        calls = served.stored(row["id"])["calls"]
        assert len(calls) == number
        assert {call["attempt"] for call in calls} == {1}
    finally:
        served.kill()


def question(state: Any) -> Any:
    (found,) = [one for task in state["tasks"] for one in task["interrupts"]]
    assert "cognitive_model" not in json.dumps(found)
    return found["value"]
