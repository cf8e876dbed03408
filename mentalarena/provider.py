"""One request to a chat model: retried, classified, never empty-handed without saying so.

Why: every server fails in its own words. Here a failure becomes one :class:`ProviderError` line
that names the server and the way out, and says whether a later call can succeed. This is also the
only place that retries: the SDK's own retries are off, so that rungs never multiply.
"""

import asyncio
import email.utils
import os
import re
import time
import weakref
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from mentalarena.errors import ProviderError
from mentalarena.models import ModelSpec, chat_model, server_url, shown_url

if TYPE_CHECKING:
    from tenacity import RetryCallState

T = TypeVar("T")

ATTEMPTS = 4
"""Requests for one answer, the first included."""
LONGEST_WAIT = 120.0
"""Seconds; a server that asks for more is given up on for now."""
RECONNECT_WAIT = 1.0
"""Seconds before the second request to a server that refused the connection; doubled each time, so
that a server that is being restarted is found again."""

_answered: set[str] = set()
"""Servers that have answered in this process: one that is gone now may well come back."""


class Reply(NamedTuple):
    """One answer of a model, or of a person."""

    text: str
    resolved_model: str
    """The name the server answered with."""
    prompt_tokens: int | None
    completion_tokens: int | None
    latency_ms: float
    attempts: int
    """Requests made for it, retries included."""
    truncated: bool = False
    """Whether the token limit cut it off."""


class _Failed(Exception):
    """A classified failure, with what the retry ladder needs to know."""

    def __init__(
        self,
        message: str,
        *,
        fatal: bool,
        transient: bool,
        wait: float | None = None,
        refused: bool = False,
    ) -> None:
        super().__init__(message)
        self.fatal = fatal
        self.transient = transient
        self.wait = wait
        self.refused = refused


class ModelClient:
    """A chat model behind one method; safe to share between seats, tasks and event loops."""

    def __init__(
        self, spec: ModelSpec, *, base_url: str, temperature: float, max_tokens: int, timeout: float
    ) -> None:
        self._spec = spec
        self._settings: dict[str, Any] = {
            "base_url": base_url,
            "temperature": temperature,
            "max_tokens": max_tokens,
            "timeout": timeout,
        }
        # Connections belong to an event loop; weights do not, and are loaded once.
        self._models: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any] = (
            weakref.WeakKeyDictionary()
        )
        self._building: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Task[None]] = (
            weakref.WeakKeyDictionary()
        )
        self._weights: Any = None
        if spec.provider == "openai":
            self._server = shown_url(server_url(base_url))
        else:
            self._server = f"{spec.provider} model {spec.name}".strip()

    def __repr__(self) -> str:
        return f"ModelClient({self._spec!r})"

    async def answer(
        self,
        messages: list[dict[str, str]],
        schema: dict[str, Any] | None = None,
        seed: int | None = None,
        grammar: str | None = None,
    ) -> Reply:
        """One answer to the messages.

        Args:
            messages: ``{"role", "content"}`` dictionaries.
            schema: A ``json_schema`` response format (name, schema, strict), or None for text.
            seed: Sampling seed of this request.
            grammar: GBNF that the bundled model is held to; other servers are not asked for it.

        Raises:
            ProviderError: no answer, after the retries that could help.
            ConfigurationError: the model cannot be built.
        """
        if self._spec.provider == "huggingface":
            return await self._generate(messages, seed)
        model, gate = await self._model()
        options: dict[str, Any] = {}
        if schema is not None:
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        if seed is not None:
            options["seed"] = seed
        if grammar is not None and self._spec.provider == "local":
            # A keyword replaces the model's own extra_body, and with it the token limit.
            options["extra_body"] = {**model.extra_body, "grammar": grammar}

        async def request() -> Reply:
            async with gate:
                return await self._request(model, messages, options)

        reply, attempts = await with_retries(request)
        return reply._replace(attempts=attempts)

    async def _model(self) -> tuple[Any, asyncio.Semaphore]:
        """This event loop's chat model, built once however many ask for it, and its gate."""
        loop = asyncio.get_running_loop()
        if loop not in self._models:
            if loop not in self._building:
                self._building[loop] = loop.create_task(self._build(loop))
            # An episode that is cancelled must not take the others' model with it.
            await asyncio.shield(self._building[loop])
        model: tuple[Any, asyncio.Semaphore] = self._models[loop]
        return model

    async def _build(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            # Imports, and the bundled server's start, would hold up every other episode.
            built = await asyncio.to_thread(chat_model, self._spec, **self._settings)
            self._models[loop] = (built, asyncio.Semaphore(_in_flight(self._spec)))
        finally:
            # After a failure the next request tries again; a kept task would keep its loop alive.
            self._building.pop(loop, None)

    async def _request(
        self, model: Any, messages: list[dict[str, str]], options: dict[str, Any]
    ) -> Reply:
        import openai

        started = time.perf_counter()
        try:
            # The client's own timeout is for silence; a body that drips is bounded here.
            async with asyncio.timeout(self._settings["timeout"]):
                message = await model.ainvoke(messages, **options)
        except openai.LengthFinishReasonError as error:
            # The SDK refuses to hand over JSON that was cut off; what was paid for is kept.
            _answered.add(self._server)
            done = error.completion
            usage = done.usage
            return Reply(
                done.choices[0].message.content or "",
                done.model,
                usage.prompt_tokens if usage else None,
                usage.completion_tokens if usage else None,
                _ms_since(started),
                1,
                truncated=True,
            )
        except Exception as error:
            # Without the cause: a provider's own message may echo the key.
            failed = classify(error, self._server, with_schema="response_format" in options)
            if failed.refused and self._server in _answered:
                failed.fatal = False
            raise failed from None
        _answered.add(self._server)
        counts = message.usage_metadata or {}
        metadata = message.response_metadata
        return Reply(
            message.text or str(message.additional_kwargs.get("refusal") or ""),
            str(metadata.get("model_name") or self._spec.name),
            counts.get("input_tokens"),
            counts.get("output_tokens"),
            _ms_since(started),
            1,
            truncated=metadata.get("finish_reason") == "length",
        )

    async def _generate(self, messages: list[dict[str, str]], seed: int | None) -> Reply:
        from mentalarena import huggingface

        def run() -> tuple[huggingface.Generated, float]:
            # On the one worker thread, so that the weights are loaded once.
            if self._weights is None:
                self._weights = chat_model(self._spec, **self._settings)
            started = time.perf_counter()
            return huggingface.generate(self._weights, messages, seed), _ms_since(started)

        loop = asyncio.get_running_loop()
        try:
            made, latency = await loop.run_in_executor(huggingface.worker(), run)
        except (RuntimeError, IndexError) as error:
            raise ProviderError(
                f"{self._server}: {type(error).__name__}: {_one_line(str(error))}"
            ) from error
        return Reply(
            made.text,
            self._spec.name + (f"+{self._spec.adapter}" if self._spec.adapter else ""),
            made.prompt_tokens,
            made.completion_tokens,
            latency,
            1,
            truncated=made.truncated,
        )


async def with_retries(request: Callable[[], Awaitable[T]]) -> tuple[T, int]:
    """Make a request, again where that can help; returns the answer and the requests made.

    Raises:
        ProviderError: the last failure.
    """
    from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt

    retrying = AsyncRetrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=_wait,
        retry=retry_if_exception(lambda error: isinstance(error, _Failed) and error.transient),
        reraise=True,
    )
    made = 0
    try:
        async for attempt in retrying:
            with attempt:
                made = attempt.retry_state.attempt_number
                answer = await request()
    except _Failed as failed:
        tried = f" ({made} attempts)" if made > 1 else ""
        raise ProviderError(f"{failed}{tried}", fatal=failed.fatal) from None
    return answer, made


def _wait(state: "RetryCallState") -> float:
    """Seconds until the next request: what the server asked for, else exponential with jitter."""
    from tenacity import wait_random_exponential

    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, _Failed) and error.wait is not None:
        return error.wait
    if isinstance(error, _Failed) and error.refused:
        return RECONNECT_WAIT * 2.0 ** (state.attempt_number - 1)
    return wait_random_exponential(multiplier=0.5, min=0.2, max=20)(state)


def classify(error: Exception, server: str, *, with_schema: bool = False) -> _Failed:
    """What a failed request means: one line, whether it is fatal, whether a retry can help."""
    import openai

    if isinstance(error, openai.APITimeoutError | TimeoutError):
        return _Failed(
            f"{server} did not answer in time; raise --timeout or lower the number in flight",
            fatal=False,
            transient=True,
        )
    if isinstance(error, openai.APIConnectionError):
        if _chain_has(error, "ConnectError"):
            return _Failed(
                f"nothing answers at {server}: is the server running, and is --base-url right?",
                fatal=True,
                transient=True,
                refused=True,
            )
        return _Failed(f"{server} cut the connection", fatal=False, transient=True)
    if isinstance(error, openai.APIStatusError):
        return _classify_status(error, server, with_schema)
    # Anything else was raised while reading the body: langchain and the SDK use plain types here.
    detail = _one_line(f"{type(error).__name__}: {error}")
    return _Failed(
        f"{server} sent an answer that is no chat completion ({detail})",
        fatal=False,
        transient=True,
    )


def _classify_status(error: Any, server: str, with_schema: bool) -> _Failed:
    status: int = error.response.status_code
    detail = _one_line(error.message)
    lowered = detail.lower()
    if status == 401 or (status == 403 and "key" in lowered):
        return _Failed(
            f"{server} refused the key (HTTP {status}): check OPENAI_API_KEY",
            fatal=True,
            transient=False,
        )
    if status == 404:
        return _Failed(
            f"{server} does not know the model or the path (HTTP 404: {detail}): check the name "
            "after openai: and that --base-url ends as the server wants it (often /v1)",
            fatal=True,
            transient=False,
        )
    if status == 429 and "insufficient_quota" in str(error.code or "") + lowered:
        return _Failed(
            f"{server}: the account has no quota left (HTTP 429)", fatal=True, transient=False
        )
    if status in (408, 409, 425, 429) or status >= 500:
        wait = retry_after(error.response.headers)
        what = "is over its rate limit" if status == 429 else "failed"
        return _Failed(
            f"{server} {what} (HTTP {status}: {detail})",
            fatal=False,
            transient=wait is None or wait <= LONGEST_WAIT,
            wait=wait,
        )
    if any(word in lowered for word in ("context length", "context window", "context size")) or (
        "context_length" in str(error.code or "")
    ):
        # Fatal for this episode only: another dialogue is shorter.
        return _Failed(
            f"{server}: the prompt is longer than the model's context (HTTP {status}: {detail}): "
            "play fewer exchanges or use a model with more context",
            fatal=False,
            transient=False,
        )
    hint = ""
    if with_schema and any(
        word in lowered for word in ("response_format", "json_schema", "schema", "grammar")
    ):
        hint = "; the server may not know JSON schema: add ,answers=labelled to the seat's spec"
    elif "temperature" in lowered:
        hint = "; set --temperature 1"
    return _Failed(
        f"{server} refused the request (HTTP {status}: {detail}){hint}", fatal=True, transient=False
    )


def retry_after(headers: Any) -> float | None:
    """Seconds a server asks to wait (``Retry-After``: seconds or a date), or None."""
    value = headers.get("retry-after-ms")
    if value is not None:
        try:
            return max(0.0, float(value) / 1000)
        except ValueError:
            pass
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def _in_flight(spec: ModelSpec) -> int:
    """Requests sent at once; a queue inside our own server would count against their timeout."""
    if spec.provider == "local":
        from mentalarena.local_model import SLOTS

        return SLOTS
    return 1000


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000


def _chain_has(error: BaseException | None, name: str) -> bool:
    while error is not None:
        if type(error).__name__ == name:
            return True
        error = error.__cause__ or error.__context__
    return False


def _one_line(text: str) -> str:
    """A provider's words on one short line, keys blotted out."""
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if len(key) > 3:
        text = text.replace(key, "[key]")
    text = re.sub(r"\b(sk|key|hf)[-_][\w*.-]{6,}", "[key]", text)
    text = re.sub(r"(?i)\bbearer\s+\S+", "[key]", text)
    text = " ".join(text.split())
    return text if len(text) <= 200 else text[:199] + "…"
