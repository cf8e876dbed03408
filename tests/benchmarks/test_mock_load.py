"""The mock server under many clients, in a process of its own, and when somebody leaves."""

import asyncio
import http.client
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from benchmarks.mock_server import MockServer, MockServerProcess
from benchmarks.mock_settings import MockSettings, read_flags, to_flags
from mentalarena.errors import ConfigurationError
from tests.benchmarks.support import (
    ROOT,
    chat,
    request,
    wait_until,
)


async def load(port: int, connections: int, each: int) -> int:
    """Send ``each`` requests on each of many kept connections; returns how many got 200."""
    data = json.dumps(request("How was your week? " * 20)).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"

    async def client() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        good = 0
        for _ in range(each):
            writer.write(head.encode() + data)
            got = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"Content-Length: (\d+)", got)
            assert length is not None
            await reader.readexactly(int(length[1]))
            good += got.startswith(b"HTTP/1.1 200 ")
        writer.close()
        return good

    return sum(await asyncio.gather(*(client() for _ in range(connections))))


def test_a_thousand_connections_at_once() -> None:
    with MockServerProcess(latency=1.0) as server:
        port = urlsplit(server.base_url).port
        assert port is not None
        start = time.monotonic()
        assert asyncio.run(load(port, 400, 1)) == 400
        clients = [subprocess.Popen(_load_command(port), cwd=ROOT) for _ in range(2)]
        assert [client.wait(60) for client in clients] == [0, 0]
        taken = time.monotonic() - start
        assert server.stats()["max_in_flight"] >= 1000
    assert taken < 30


def _load_command(port: int) -> list[str]:
    # Two clients, because one process may open about a thousand files only.
    code = (
        "import asyncio\n"
        "async def one(start):\n"
        f"    reader, writer = await asyncio.open_connection('127.0.0.1', {port})\n"
        "    await start.wait()\n"
        '    body = b\'{"model": "m", "messages": [{"role": "user", "content": "x"}]}\'\n'
        "    head = b'POST /v1/chat/completions HTTP/1.1\\r\\nContent-Length: %d\\r\\n\\r\\n'\n"
        "    writer.write(head % len(body) + body)\n"
        "    assert (await reader.readuntil(b'\\r\\n\\r\\n')).startswith(b'HTTP/1.1 200 ')\n"
        "    writer.close()\n"
        "async def main():\n"
        "    start = asyncio.Event()\n"
        "    tasks = [asyncio.create_task(one(start)) for _ in range(600)]\n"
        "    await asyncio.sleep(0.5)\n"
        "    start.set()\n"
        "    await asyncio.gather(*tasks)\n"
        "asyncio.run(main())\n"
    )
    return [sys.executable, "-c", code]


def test_throughput(record_property: Callable[[str, object], None]) -> None:
    with MockServerProcess() as server:
        port = urlsplit(server.base_url).port
        assert port is not None
        start = time.monotonic()
        assert asyncio.run(load(port, 32, 60)) == 32 * 60
        rate = 32 * 60 / (time.monotonic() - start)
    record_property("requests_per_second", round(rate))
    # Far below what it does, so that only a broken server fails on a busy machine.
    assert rate > 150


def test_the_log_of_a_process_has_one_row_a_request(tmp_path: Path) -> None:
    log = tmp_path / "requests.jsonl"
    with MockServerProcess(log=str(log), fail={"500": 0.5}, models=("m",)) as server:
        connection = http.client.HTTPConnection(urlsplit(server.base_url).netloc, timeout=5)
        for n in range(10):
            data = json.dumps(request(f"Hello {n}"))
            connection.request(
                "POST", "/v1/chat/completions", data, {"Authorization": "Bearer secret"}
            )
            connection.getresponse().read()
        connection.close()
        stats = server.stats()
    rows = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    chats = [row for row in rows if row["path"] == "/v1/chat/completions"]
    assert [row["body"]["messages"][0]["content"] for row in chats] == [
        f"Hello {n}" for n in range(10)
    ]
    assert sum(row["outcome"] == "500" for row in chats) == stats["outcomes"]["500"] > 0
    assert "secret" not in log.read_text("utf-8")


def test_a_process_ends_with_the_one_that_started_it() -> None:
    code = (
        "import os, signal\n"
        "from benchmarks.mock_server import MockServerProcess\n"
        "with MockServerProcess() as server:\n"
        "    os.write(1, server.base_url.encode())\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=ROOT, check=False)
    port = urlsplit(done.stdout.decode()).port
    assert port is not None

    def gone() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    wait_until(gone)


def test_leaving_does_not_wait_for_a_request_that_hangs() -> None:
    with MockServer(fail={"hang": 1}) as server:
        connection = http.client.HTTPConnection(urlsplit(server.base_url).netloc, timeout=20)
        connection.request("POST", "/v1/chat/completions", json.dumps(request()))
        wait_until(lambda: server.stats()["in_flight"] == 1)
        start = time.monotonic()
    assert time.monotonic() - start < 1
    assert server.requests[0].outcome == "hang"
    connection.close()


def test_an_answer_under_way_is_finished_before_closing() -> None:
    with MockServer(latency=0.5) as server:
        connection = http.client.HTTPConnection(urlsplit(server.base_url).netloc, timeout=20)
        connection.request("POST", "/v1/chat/completions", json.dumps(request()))
        wait_until(lambda: server.stats()["in_flight"] == 1)
    assert json.load(connection.getresponse())["choices"]
    connection.close()


def test_a_client_that_leaves_is_counted() -> None:
    with MockServer(latency=0.6) as server:
        with pytest.raises(openai.APITimeoutError):
            chat(server, timeout=0.2).invoke("Hello")
        wait_until(lambda: bool(server.stats()["outcomes"]))
        assert server.stats()["outcomes"] == {"abandoned": 1}


def test_a_taken_port_is_an_error() -> None:
    with MockServer() as server:
        port = urlsplit(server.base_url).port
        with pytest.raises(OSError, match="in use"):
            MockServer(port=port).__enter__()


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    [
        {"fail": {"explode": 0.1}},
        {"fail": {"200": 0.1}},
        {"fail": {"429": 0.7, "500": 0.7}},
        {"burst": {"429": -1}},
        {"retry_after_format": "minutes"},
        {"latency": -1},
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        MockSettings(**settings)


def test_flags_carry_every_setting() -> None:
    settings = MockSettings(
        latency=0.25, jitter=0.1, reply_words=20, fail={"429": 0.2, "cut": 0.1}, burst={"429": 3},
        retry_after=2, retry_after_format="date", slow_body=0.5, seed=7, json_schema=False,
        require_key="k", models=("a", "b"), log="/somewhere/log.jsonl",
    )  # fmt: skip
    assert read_flags(to_flags(settings))[0] == settings


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--fail", "explode=1"], "explode"),
        (["--fail", "429"], "kind=number"),
        (["--port", "70000"], "65535"),
        (["--log", "/no/such/folder/log.jsonl"], "/no/such/folder"),
    ],
)
def test_a_wrong_flag_says_what_is_wrong_and_exits_2(flags: list[str], named: str) -> None:
    command = [sys.executable, "-m", "benchmarks.mock_server", *flags]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert named in done.stderr
    assert "Traceback" not in done.stderr
