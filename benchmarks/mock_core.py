"""What the mock server does with a request: answers it, fails it as told, and counts.

Why: one event loop holds all of it, so that nothing here needs a lock; whether that loop runs in a
thread or in a process of its own is ``benchmarks/mock_server.py``'s business.
"""

import asyncio
import contextlib
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from email.utils import formatdate
from pathlib import Path
from random import Random
from typing import IO, Any

from benchmarks.mock_answers import Reply, answer, chunks, completion, error, read_prompt
from benchmarks.mock_http import (
    ProtocolError,
    Request,
    Response,
    json_response,
    read_request,
    send,
)
from benchmarks.mock_schema import BadRequestError
from benchmarks.mock_settings import MockSettings

HOST = "127.0.0.1"
ADAPTERS = "/v1/load_lora_adapter"
_GRACE = 2.0
"""Seconds that answers under way get when the server closes."""


@dataclass(slots=True)
class Seen:
    """One request as the server saw it."""

    received: float
    """Unix time of its last byte."""
    method: str
    path: str
    headers: dict[str, str]
    """Lower-case names; the value of ``authorization`` is left out."""
    body: Any = None
    """Parsed; None when there was none or it could not be parsed."""
    prompt: str = ""
    """Digest of what decides the answer; empty when that could not be read."""
    visit: int = 0
    """How many requests with this prompt came before."""
    outcome: str = ""
    """``ok``, a kind of failure, a status, or ``abandoned``: not delivered, because the client or
    the server left before."""
    finished: float = 0.0
    """Unix time at which the answer was handed to the system; 0 while it is under way."""
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Core:
    """The server proper, inside one event loop."""

    def __init__(self, settings: MockSettings, *, keep_requests: bool) -> None:
        self.settings = settings
        self.requests: list[Seen] = []
        self._keep = keep_requests
        self._counts: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._visits: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._busy: set[asyncio.Task[Any]] = set()
        self._idle: set[asyncio.Task[Any]] = set()
        self._max_in_flight = 0
        self._adapters: list[str] = []
        self._burst = [kind for kind, count in settings.burst.items() for _ in range(count)]
        self._log: IO[str] | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """Listen; returns the base URL."""
        if self.settings.log:
            # One row at a time reaches the file, so that it can be read while the server runs.
            self._log = Path(self.settings.log).open("a", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._server = await asyncio.start_server(
            self._connection, HOST, self.settings.port, backlog=4096
        )
        port = self._server.sockets[0].getsockname()[1]
        return f"http://{HOST}:{port}/v1"

    async def close(self) -> None:
        """Stop listening, let answers under way finish for a moment, then close everything."""
        if self._server is not None:
            self._server.close()
        for task in self._idle:
            task.cancel()
        if self._busy:
            await asyncio.wait(self._busy, timeout=_GRACE)
        left = self._busy | self._idle
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        if self._log is not None:
            self._log.close()

    def stats(self) -> dict[str, Any]:
        """Counts so far; see :meth:`benchmarks.mock_server.MockServer.stats`."""
        return {
            **{name: self._counts[name] for name in ("connections", "requests", "chat_requests")},
            "open_connections": len(self._busy | self._idle),
            "in_flight": len(self._busy),
            "max_in_flight": self._max_in_flight,
            "outcomes": dict(self._outcomes),
            "prompts": len(self._visits),
            "prompts_answered": len(self._answered),
            "answered_again": self._answered.total() - len(self._answered),
            "prompt_tokens": self._counts["prompt_tokens"],
            "completion_tokens": self._counts["completion_tokens"],
        }

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._counts["connections"] += 1
        self._idle.add(task)
        try:
            while request := await read_request(reader, writer):
                self._idle.discard(task)
                self._busy.add(task)
                self._max_in_flight = max(self._max_in_flight, len(self._busy))
                stays = await self._serve(request, reader, writer)
                self._busy.discard(task)
                self._idle.add(task)
                if not stays or self._server is None or not self._server.is_serving():
                    break
        except ProtocolError as problem:
            with contextlib.suppress(ConnectionError):
                await self._send(writer, _refusal(problem.status, str(problem)), keep_alive=False)
        except (ConnectionError, asyncio.CancelledError):
            pass  # The client left, or the server closes: the end of a connection, not an error.
        finally:
            self._busy.discard(task)
            self._idle.discard(task)
            writer.close()

    async def _serve(
        self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Answer one request; returns whether the connection stays open."""
        arrived = asyncio.get_running_loop().time()
        headers = {key: value for key, value in request.headers.items() if key != "authorization"}
        seen = Seen(time.time(), request.method, request.path, headers)
        self._counts["requests"] += 1
        if self._keep:
            self.requests.append(seen)
        try:
            response, delay = self._respond(request, seen)
            if response is None:
                await self._hang(reader)
                return False
            await asyncio.sleep(arrived + delay - asyncio.get_running_loop().time())
            if reader.at_eof():
                raise ConnectionResetError
            await self._send(writer, response, keep_alive=request.keep_alive)
        except (ConnectionError, asyncio.CancelledError):
            if seen.outcome != "hang":
                seen.outcome = "abandoned"
            raise
        finally:
            seen.finished = time.time()
            self._account(seen)
        return request.keep_alive and not response.cut

    async def _hang(self, reader: asyncio.StreamReader) -> None:
        """Wait until the client leaves; closing the server does not wait for it."""
        task = asyncio.current_task()
        assert task is not None
        self._idle.add(task)
        await reader.read()

    def _account(self, seen: Seen) -> None:
        self._outcomes[seen.outcome] += 1
        if seen.outcome == "ok" and seen.prompt:
            self._answered[seen.prompt] += 1
            self._counts["prompt_tokens"] += seen.prompt_tokens
            self._counts["completion_tokens"] += seen.completion_tokens
        if self._log is not None:
            self._log.write(json.dumps(asdict(seen), ensure_ascii=False) + "\n")

    def _respond(self, request: Request, seen: Seen) -> tuple[Response | None, float]:
        """The response (None hangs) and the seconds after which it is due; fills in ``seen``."""
        methods = {"/health": "GET", "/stats": "GET", "/v1/models": "GET"}
        if self.settings.models:
            methods[ADAPTERS] = "POST"
        expected = {**methods, "/v1/chat/completions": "POST"}.get(request.path)
        key = self.settings.require_key
        refused: Response | None = None
        if expected is None:
            refused = _refusal(404, f"unknown path {request.path}", "unknown_url")
        elif request.method != expected:
            refused = _refusal(405, f"{request.path} takes {expected}", "method_not_supported")
            refused = refused._replace(headers=(("Allow", expected),))
        elif (
            key
            and request.path.startswith("/v1/")
            and request.headers.get("authorization") != f"Bearer {key}"
        ):
            refused = _refusal(401, "missing or incorrect API key", "invalid_api_key")
        if refused is not None:
            seen.outcome = str(refused.status)
            return refused, 0.0
        if request.path == "/v1/chat/completions":
            return self._chat(request, seen)
        if request.path == ADAPTERS:
            return self._load_adapter(request, seen), 0.0
        seen.outcome = "ok"
        if request.path == "/v1/models":
            listed = [
                {"id": name, "object": "model", "created": 0, "owned_by": "mock"}
                for name in (*(self.settings.models or ("mock",)), *self._adapters)
            ]
            return json_response(200, {"object": "list", "data": listed}), 0.0
        return json_response(
            200, {"status": "ok"} if request.path == "/health" else self.stats()
        ), 0.0

    def _load_adapter(self, request: Request, seen: Seen) -> Response:
        """As vLLM does: the folder is read by the server, and its name becomes a model's."""
        try:
            seen.body = json.loads(request.body)
            name, path = str(seen.body["lora_name"]), Path(seen.body["lora_path"])
        except (ValueError, KeyError, TypeError) as problem:
            seen.outcome = "400"
            return _refusal(400, f"the request is malformed: {problem!r}")
        if not (path / "adapter_config.json").is_file():
            seen.outcome = "404"
            return _refusal(404, f"no adapter found for {path}", "NotFoundError")
        if name in self._adapters:
            seen.outcome = "400"
            return _refusal(400, f"the adapter '{name}' has already been loaded")
        self._adapters.append(name)
        seen.outcome = "ok"
        return json_response(200, f"Success: LoRA adapter '{name}' added successfully.")

    def _chat(self, request: Request, seen: Seen) -> tuple[Response | None, float]:
        settings = self.settings
        self._counts["chat_requests"] += 1
        serial = self._counts["chat_requests"]
        try:
            seen.body = json.loads(request.body)
            prompt = read_prompt(seen.body)
            wanted = (prompt.response_format or {}).get("type", "text")
            if not settings.json_schema and wanted != "text":
                raise BadRequestError("unknown parameter: 'response_format'", "response_format")
            seen.prompt = prompt.digest
            seen.visit = self._visits[seen.prompt]
            self._visits[seen.prompt] += 1
            reply = answer(prompt, seen.body, settings.seed, settings.reply_words, settings.score)
        except BadRequestError as problem:
            seen.outcome = "400"
            kind = "invalid_request_error"
            return json_response(400, error(str(problem), kind, problem.param, problem.code)), 0.0
        except (ValueError, TypeError, AttributeError, RecursionError) as problem:
            seen.outcome = "400"
            return _refusal(400, f"the request is malformed: {problem!r}"), 0.0
        if settings.models and prompt.model not in (*settings.models, *self._adapters):
            seen.outcome = "404"
            message = f"the model '{prompt.model}' does not exist"
            return _refusal(404, message, "model_not_found"), 0.0

        random = Random(f"{settings.seed}/{seen.prompt}/{seen.visit}")
        drawn = random.random()
        delay = max(settings.latency + settings.jitter * random.uniform(-1, 1), 0.0)
        fault = self._burst[serial - 1] if serial <= len(self._burst) else ""
        if not fault:
            for kind, share in settings.fail.items():
                drawn -= share
                if drawn < 0:
                    fault = kind
                    break
        seen.outcome = fault or "ok"
        if fault == "hang":
            return None, 0.0
        if fault == "quota" or fault.isdigit():
            response = self._fault(fault)
            return response, delay if response.status >= 500 else 0.0
        if fault == "empty":
            reply = reply._replace(text="", finish_reason="stop", completion_tokens=0)
        seen.prompt_tokens, seen.completion_tokens = reply.prompt_tokens, reply.completion_tokens
        # Two answers never share an id, even when they are the same answer.
        identity = f"chatcmpl-{seen.prompt[:16]}{serial:08x}"
        response = _answer_response(seen.body, reply, prompt.model, identity)
        if fault == "cut":
            response = response._replace(cut=True)
        elif fault == "garbage":
            body = random.choice((b"<html>upstream closed", b'{"object": "chat.completion"}'))
            kind = "text/html" if body.startswith(b"<") else response.content_type
            response = Response(200, body, content_type=kind)
        return response, delay

    def _fault(self, kind: str) -> Response:
        """An error response; 429 and 503 say when to come back."""
        if kind == "quota":
            message = "you exceeded your current quota"
            return json_response(
                429, error(message, "insufficient_quota", code="insufficient_quota")
            )
        status = int(kind)
        if status == 429:
            body = error("rate limit reached", "requests", code="rate_limit_exceeded")
        else:
            response = _refusal(status, f"failure {status} was asked for")
            body = json.loads(response.body)
        seconds = self.settings.retry_after
        if status not in (429, 503) or seconds < 0:
            return json_response(status, body)
        header = {
            "seconds": ("Retry-After", f"{seconds:g}"),
            "ms": ("retry-after-ms", f"{seconds * 1000:g}"),
            # Dates have whole seconds: round up, so that nobody comes back too early.
            "date": ("Retry-After", formatdate(int(time.time() + seconds) + 1, usegmt=True)),
        }[self.settings.retry_after_format]
        return json_response(status, body, header)

    async def _send(
        self, writer: asyncio.StreamWriter, response: Response, *, keep_alive: bool
    ) -> None:
        await send(
            writer,
            response,
            request_id=f"req_{self._counts['requests']:08x}",
            keep_alive=keep_alive,
            slow_body=self.settings.slow_body,
        )


def _refusal(status: int, message: str, code: str | None = None) -> Response:
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return json_response(status, error(message, kind, code=code))


def _answer_response(body: Mapping[str, Any], reply: Reply, model: str, identity: str) -> Response:
    created = int(time.time())
    if not body.get("stream"):
        return json_response(200, completion(reply, model, identity, created))
    include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
    made = chunks(reply, model, identity, created, include_usage=include_usage)
    events = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in made]
    return Response(
        200, events=(*events, b"data: [DONE]\n\n"), content_type="text/event-stream; charset=utf-8"
    )
