"""One request to a chat model: its answer whole, or one line that says why there is none.

Why: an answer comes with what it cost and how it was got, is never empty without saying so, and a
request that cannot be answered is bounded in time. What a failure means, and when to ask again, is
in ``mentalarena/retries.py``; how many requests may be in flight in ``mentalarena/limiter.py``.
"""

import asyncio
import time
import weakref
from contextlib import nullcontext
from typing import Any, NamedTuple

from mentalarena.errors import ProviderError
from mentalarena.limiter import limiter
from mentalarena.local_model import FORM_SAMPLING, SAMPLING, Form
from mentalarena.models import ModelSpec, chat_model, server_url, shown_url
from mentalarena.retries import FailedRequest, classify, one_line, with_retries

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
            body = {**model.extra_body, "grammar": str(grammar)}
            if isinstance(grammar, Form):
                looping = SAMPLING.keys() - FORM_SAMPLING.keys()
                body = {name: value for name, value in body.items() if name not in looping}
            options["extra_body"] = body

        # Our own servers have slots of their own, and never say that they have too much to do.
        limit = limiter.get() if self._spec.provider == "openai" else None

        async def request() -> Reply:
            async with gate, limit.request() if limit else nullcontext() as slot:
                try:
                    reply = await self._request(model, messages, options)
                except FailedRequest as failed:
                    if slot is not None and failed.throttled:
                        slot.throttled(failed.wait)
                    elif slot is not None and failed.silent:
                        slot.silent()
                    raise
                if slot is not None:
                    slot.succeeded()
                return reply

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
                f"{self._server}: {type(error).__name__}: {one_line(str(error))}"
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


def _in_flight(spec: ModelSpec) -> int:
    """Requests sent at once; a queue inside our own server would count against their timeout."""
    if spec.provider == "local":
        from mentalarena.local_model import SLOTS

        return SLOTS
    return 1000


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
