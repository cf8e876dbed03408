"""HTTP through aiohttp: how connections are kept and closed, and what failures are called."""

import asyncio
import gc
import gzip
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest

from benchmarks.mock_server import MockServer
from mentalarena.errors import ProviderError
from mentalarena.http_transport import AiohttpTransport, http_client
from mentalarena.models import ModelSpec
from mentalarena.provider import ModelClient
from tests.mentalarena.test_models import MESSAGES, client, free_port

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")

Say = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@asynccontextmanager
async def serving(say: Say) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a server that reads a request's head, then does what it is told, and closes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await say(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    http = http_client(f"http://127.0.0.1:{port}", 0.5, trust_env=False)
    try:
        yield http
    finally:
        await http.aclose()
        server.close()


def sends(text: bytes, then_waits: float = 0) -> Say:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(text)
        await writer.drain()
        await asyncio.sleep(then_waits)

    return say


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "waits", "error"),
    [
        (b"", 0, httpx2.ReadError),
        (b"", 2, httpx2.ReadTimeout),
        (b"overloaded\r\n\r\n", 0, httpx2.RemoteProtocolError),
        (HEAD + b"half", 0, httpx2.ReadError),
        (HEAD + b"half", 2, httpx2.ReadTimeout),
    ],
    ids=["cut", "silent", "no HTTP", "cut in the body", "silent in the body"],
)
async def test_failures_have_the_names_that_the_ladder_knows(
    said: bytes, waits: float, error: type[Exception]
) -> None:
    async with serving(sends(said, waits)) as http:
        with pytest.raises(httpx2.TransportError) as raised:
            await http.get("/")
    assert type(raised.value) is error
    assert str(raised.value)


async def test_a_refused_connection_is_no_other_failure() -> None:
    async with http_client(f"http://127.0.0.1:{free_port()}", 5, trust_env=False) as http:
        with pytest.raises(httpx2.ConnectError):
            await http.get("/")
    async with http_client("http://model.invalid", 5, trust_env=False) as http:
        with pytest.raises(httpx2.ConnectError):
            await http.get("/")


async def test_a_status_is_read_whatever_stands_around_it() -> None:
    said = b"HTTP/1.1 401 Non autoris\xe9\r\nX-Long: %s\r\nContent-Length: 0\r\n\r\n" % (
        b"a" * 50_000
    )
    async with serving(sends(said)) as http:
        response = await http.get("/")
    assert response.status_code == 401
    assert len(response.headers["x-long"]) == 50_000


@pytest.mark.parametrize(
    ("url", "error"),
    [("ftp://x/", httpx2.UnsupportedProtocol), ("http://a..b/", httpx2.ConnectError)],
)
async def test_an_address_that_is_none_is_said_to_be(url: str, error: type[Exception]) -> None:
    async with http_client("http://127.0.0.1", 5, trust_env=False) as http:
        with pytest.raises(error):
            await http.get(url)


async def test_headers_compression_and_redirects_are_as_with_httpx() -> None:
    packed = gzip.compress(b'{"said": "na\xc3\xafve"}')
    seen: list[bytes] = []

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not seen:
            seen.append(await reader.readexactly(4))
            writer.write(b"HTTP/1.1 307 Elsewhere\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n")
        seen.append(await reader.readexactly(4))
        writer.write(
            b"HTTP/1.1 200 Fine\r\nContent-Encoding: gzip\r\nSet-Cookie: a=b\r\n"
            b"X-Two: 1\r\nX-Two: 2\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
        )
        await writer.drain()

    async with serving(say) as http:
        response = await http.post("/a", content=b"body")
        assert response.json() == {"said": "naïve"}
        assert seen == [b"body", b"body"]
        assert (response.reason_phrase, response.url.path) == ("Fine", "/b")
        assert response.headers.get_list("x-two") == ["1", "2"]
        assert dict(http.cookies) == {"a": "b"}


async def test_few_requests_reuse_few_connections_and_many_run_together() -> None:
    with MockServer(latency=0.5) as server:
        model = client(server.base_url)
        for seed in range(3):
            await model.answer(MESSAGES, seed=seed)
        assert server.stats()["connections"] == 1
        many = 130
        await asyncio.gather(*(model.answer(MESSAGES, seed=seed) for seed in range(many)))
        assert server.stats()["max_in_flight"] == many, "no queue that nobody asked for"
        await asyncio.gather(*(model.answer(MESSAGES, seed=seed) for seed in range(many)))
        assert server.stats()["connections"] == many


async def test_an_answer_comes_as_it_is_sent_and_its_rest_is_not_the_next_one() -> None:
    connections: list[asyncio.StreamWriter] = []

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        writer.write(HEAD + (b"half" if len(connections) == 1 else b"all of it"))
        await reader.read()

    async with serving(say) as http:
        async with http.stream("GET", "/") as response:
            assert response.status_code == 200
        assert (await http.get("/")).text == "all of it"
    assert len(connections) == 2
    first = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n"
    async with serving(sends(first, 0.4)) as http, http.stream("GET", "/") as response:
        parts = response.aiter_bytes()
        assert await asyncio.wait_for(anext(parts), 0.3) == b"first"


async def test_a_cancelled_request_leaves_nothing_behind() -> None:
    with MockServer(latency=0.5) as server:
        http = http_client(server.base_url, 5, trust_env=True)
        tasks = [asyncio.create_task(http.get("models")) for _ in range(4)]
        await asyncio.sleep(0.1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (await http.get("models")).status_code == 200
        assert isinstance(http._transport, AiohttpTransport)
        session = http._transport._session
        assert session is not None
        assert session.connector is not None
        assert not session.connector._acquired
        await http.aclose()


def test_connections_are_closed_with_their_loop() -> None:
    """Twice over, in two loops, with the same ModelClient; in a process whose warnings are seen."""
    code = """
import asyncio, gc
from benchmarks.mock_server import MockServer
from mentalarena.models import ModelSpec
from mentalarena.provider import ModelClient

with MockServer() as server:
    model = ModelClient(ModelSpec.parse("openai:mock"), base_url=server.base_url, temperature=0,
                        max_tokens=9, timeout=30)
    async def two():
        await asyncio.gather(*(model.answer([{"role": "user", "content": "Hi"}], seed=n)
                               for n in (1, 2)))
    for _ in range(2):
        asyncio.run(two())
    gc.collect()
    print(server.stats()["chat_requests"])
"""
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.stdout.strip() == "4", done.stderr
    assert "unclosed" not in done.stderr


async def test_proxies_of_the_environment_are_used_for_servers_and_not_for_our_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with MockServer() as proxy:
        monkeypatch.setenv("http_proxy", proxy.base_url.removesuffix("/v1"))
        model = ModelClient(
            ModelSpec.parse("openai:mock"),
            base_url="http://model.invalid/v1",
            temperature=0,
            max_tokens=9,
            timeout=10,
        )
        # Whatever the mock makes of a proxy's request line, it is the one that was asked.
        with pytest.raises(ProviderError):
            await asyncio.wait_for(model.answer(MESSAGES), 60)
        asked = proxy.stats()["requests"]
        assert asked > 0
        with MockServer() as own:
            local = http_client(own.base_url, 5, trust_env=False)
            assert (await local.get("models")).status_code == 200
            assert own.stats()["requests"] == 1
        assert proxy.stats()["requests"] == asked
    gc.collect()
