"""HTTP for httpx2 through aiohttp, which takes less processor time than httpx's own connections.

Why: HTTP was a third of the event loop's time, and the loop bounds a batch. The transport that the
OpenAI SDK carries would do, but it takes a cut connection for one that was not made in time, keeps
cookies of its own, and is never closed with its event loop. ``benchmarks/client.py`` measures this
one; docs/seats.md has figures.
"""

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import contextmanager
from typing import cast
from urllib.request import getproxies

import aiohttp
import httpx2
from openai import DefaultAsyncHttpxClient

IDLE_SECONDS = 4.0
"""How long a connection that nobody uses is kept: less than the 5 seconds of uvicorn's default
(``timeout_keep_alive``). A request that meets a closing connection fails, and is made again."""
LONGEST_LINE = 100_000
"""Bytes of one header: what httpx takes, and aiohttp by itself does not."""

_MEANS: tuple[tuple[type[Exception], type[httpx2.TransportError]], ...] = (
    (aiohttp.ConnectionTimeoutError, httpx2.ConnectTimeout),
    (aiohttp.SocketTimeoutError, httpx2.ReadTimeout),
    (TimeoutError, httpx2.ReadTimeout),
    (aiohttp.ClientConnectorError, httpx2.ConnectError),
    (UnicodeError, httpx2.ConnectError),
    (aiohttp.InvalidURL, httpx2.UnsupportedProtocol),
    (aiohttp.NonHttpUrlClientError, httpx2.UnsupportedProtocol),
    (aiohttp.ClientResponseError, httpx2.RemoteProtocolError),
    (aiohttp.ClientError, httpx2.ReadError),
    (OSError, httpx2.ReadError),
)
"""What a failure of aiohttp is called by httpx2: the first row that fits. A name that is no host
name (``a..b``) is a UnicodeError."""


class AiohttpTransport(httpx2.AsyncBaseTransport):
    """Requests over the connections of one aiohttp session, which is closed with its event loop.

    Redirects, cookies and compression are left to the client above.
    """

    def __init__(self) -> None:
        self._ssl = httpx2.create_ssl_context()
        self._session: aiohttp.ClientSession | None = None
        self._closer: AsyncGenerator[None, None] | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Send one request; the body of the answer is read as it comes.

        Being slow to take the request counts for nothing: only connecting and reading have a time.

        Raises:
            httpx2.TransportError: no answer.
        """
        if self._session is None:
            self._session = _session(self._ssl)
            # An event loop ends the generators that are still open in it before it closes.
            self._closer = self._close_with_loop()
            await anext(self._closer)
        seconds = request.extensions.get("timeout", {})
        with _as_httpx():
            answer = await self._session.request(
                request.method,
                str(request.url),
                headers=request.headers,
                data=await request.aread() or None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    connect=seconds.get("pool"),
                    sock_connect=seconds.get("connect"),
                    sock_read=seconds.get("read"),
                ),
            )
        reason = (
            {"reason_phrase": answer.reason.encode("utf-8", "surrogateescape")}
            if answer.reason
            else {}
        )
        return httpx2.Response(
            answer.status,
            headers=cast(list[tuple[bytes, bytes]], answer.raw_headers),
            stream=_Body(answer),
            extensions={"http_version": b"HTTP/1.1", **reason},
        )

    async def aclose(self) -> None:
        """Close every connection."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _close_with_loop(self) -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await self.aclose()


class _Body(httpx2.AsyncByteStream):
    """The body of an answer; its connection is free again when all of it was read."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _as_httpx():
            async for part in self._answer.content.iter_any():
                yield part

    async def aclose(self) -> None:
        # A connection with the rest of an answer in it is closed, not used again.
        self._answer.release()


def _session(context: ssl.SSLContext) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # Who calls bounds the requests in flight; a bound here would be a hidden queue.
        connector=aiohttp.TCPConnector(limit=0, ssl=context, keepalive_timeout=IDLE_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        max_line_size=LONGEST_LINE,
        max_field_size=LONGEST_LINE,
    )


@contextmanager
def _as_httpx() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        for ours, theirs in _MEANS:
            if isinstance(error, ours):
                raise theirs(str(error) or type(error).__name__) from error
        raise


def http_client(url: str, timeout: float, *, trust_env: bool) -> httpx2.AsyncClient:
    """The HTTP client of one chat model in one event loop.

    Args:
        url: Base address of the server.
        timeout: Seconds without a connection, or of silence, after which a request is given up.
        trust_env: Whether proxies of the environment are used.
    """
    # With a transport of our own the proxies of the environment would be passed over.
    proxied = trust_env and not getproxies().keys().isdisjoint(("http", "https", "all"))
    return DefaultAsyncHttpxClient(
        base_url=url,
        timeout=timeout,
        trust_env=trust_env,
        transport=None if proxied else AiohttpTransport(),
    )
