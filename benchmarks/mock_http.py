"""As much of HTTP/1.1 as the mock server needs: one request in, one response out.

Why: a response that breaks off, or that takes its time, is what clients have to be tested against,
and HTTP libraries are made so that neither can happen.
"""

import asyncio
import json
from http import HTTPStatus
from typing import Any, NamedTuple

MAX_BODY = 32 * 2**20
"""Longest request body, bytes."""


class Response(NamedTuple):
    """What goes back: a body, or server-sent events when ``events`` has any."""

    status: int
    body: bytes = b""
    events: tuple[bytes, ...] = ()
    headers: tuple[tuple[str, str], ...] = ()
    cut: bool = False
    content_type: str = "application/json"


class ProtocolError(Exception):
    """A request that cannot be read; the connection ends with this status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Request(NamedTuple):
    """One request as it was read; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    keep_alive: bool


async def read_request(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> Request | None:
    """The next request of a connection; None when the client has closed it."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        raise ProtocolError(431, "the request header is too long") from None
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    first, *rest = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    parts = first.split(" ")
    if len(parts) != 3 or parts[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise ProtocolError(400, "the request line is not HTTP/1.1")
    headers: dict[str, str] = {}
    for line in rest:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise ProtocolError(400, "a header line is malformed")
        headers[name.lower()] = value.strip()

    if headers.get("expect", "").lower() == "100-continue":
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    coding, length = headers.get("transfer-encoding"), headers.get("content-length", "0")
    if coding is not None and (coding.lower() != "chunked" or "content-length" in headers):
        raise ProtocolError(400, "the body's length is ambiguous")
    try:
        if coding is not None:
            body = await _read_chunks(reader)
        elif not (length.isascii() and length.isdigit()):
            raise ProtocolError(400, "Content-Length is not a number")
        elif int(length) > MAX_BODY:
            raise ProtocolError(413, "the request body is too long")
        else:
            body = await reader.readexactly(int(length))
    except asyncio.LimitOverrunError:
        raise ProtocolError(400, "a chunk's size line is too long") from None
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    connection = headers.get("connection", "").lower()
    keep_alive = connection != "close" and (parts[2] == "HTTP/1.1" or connection == "keep-alive")
    return Request(parts[0], parts[1].partition("?")[0], headers, body, keep_alive)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while True:
        size = (await reader.readuntil(b"\r\n")).partition(b";")[0].strip()
        try:
            count = int(size, 16)
        except ValueError:
            raise ProtocolError(400, "a chunk size is malformed") from None
        if count < 0 or len(body) + count > MAX_BODY:
            raise ProtocolError(413, "the request body is too long")
        if count == 0:
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass  # trailers
            return bytes(body)
        body += await reader.readexactly(count)
        if await reader.readexactly(2) != b"\r\n":
            raise ProtocolError(400, "a chunk is longer than its size")


def json_response(status: int, value: Any, *headers: tuple[str, str]) -> Response:
    """A response whose body is JSON."""
    return Response(status, json.dumps(value).encode(), headers=headers)


async def send(
    writer: asyncio.StreamWriter,
    response: Response,
    *,
    request_id: str,
    keep_alive: bool,
    slow_body: float = 0.0,
) -> None:
    """Write a response; ``slow_body`` is the seconds over which the body of a 200 is spread."""
    try:
        reason = HTTPStatus(response.status).phrase
    except ValueError:
        reason = "Unknown"
    lines = [
        f"HTTP/1.1 {response.status} {reason}",
        f"Content-Type: {response.content_type}",
        *(f"{name}: {value}" for name, value in response.headers),
        f"x-request-id: {request_id}",
    ]
    if response.events:
        pieces = [b"%x\r\n%b\r\n" % (len(event), event) for event in response.events]
        lines.append("Transfer-Encoding: chunked")
        if response.cut:
            pieces = pieces[: len(pieces) // 2]
        else:
            pieces.append(b"0\r\n\r\n")
    else:
        body = response.body
        lines.append(f"Content-Length: {len(body)}")
        if response.cut:
            body = body[: len(body) // 2]
        size = max(-(-len(body) // 10), 1)
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
    if not keep_alive:
        lines.append("Connection: close")
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    if slow_body and response.status == 200:
        writer.write(head)
        for piece in pieces:
            await asyncio.sleep(slow_body / len(pieces))
            writer.write(piece)
            await writer.drain()
    else:
        writer.write(head + b"".join(pieces))
    await writer.drain()
