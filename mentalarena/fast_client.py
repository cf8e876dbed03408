"""``ChatOpenAI`` without the work that costs most of its time: same requests, same answers.

Why: the OpenAI SDK rewrites every message and JSON schema recursively before it sends them, builds
typed objects from the answer which langchain-openai takes apart again, and makes the same address
and headers anew; LangChain prepares reports to callbacks, of which there are none.
:class:`FastChatOpenAI` sends the body that langchain-openai made as it is, under headers that the
SDK made once, and reads the answer as plain JSON. ``benchmarks/client.py`` measures what it saves,
with the connections of ``mentalarena/http_transport.py`` and without; docs/seats.md has figures.

It replaces a method of langchain-openai, so it proves itself: :func:`difference` lets both clients
answer canned responses, once a process. When they differ, :func:`client_class` warns and gives the
plain client. ``mentalarena doctor`` says which one is in use.
"""

import asyncio
import json
import ssl
import warnings
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import anyio
import httpx2
import openai
from langchain_core.callbacks import AsyncCallbackManager, AsyncCallbackManagerForLLMRun
from langchain_core.language_models import LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langchain_openai import ChatOpenAI
from langchain_openai.chat_models import base
from openai._models import FinalRequestOptions
from openai.types.chat import ChatCompletion
from pydantic import PrivateAttr, SecretStr

_KNOWN = frozenset(
    ("model", "messages", "stream", "temperature", "seed", "response_format", "extra_body")
)


class FastChatOpenAI(ChatOpenAI):
    """``ChatOpenAI`` whose asynchronous chat completions skip the SDK's typed layers.

    Anything that the seats do not send (tools, streams, a pydantic class as response format, the
    Responses API) takes the inherited way.
    """

    _like: tuple[FinalRequestOptions, httpx2.Request] | None = PrivateAttr(default=None)
    """A request of the SDK, without its body, as all others are."""

    async def ainvoke(
        self,
        input: LanguageModelInput,
        config: RunnableConfig | None = None,
        *,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> AIMessage:
        """As inherited; the reports to callbacks are left out while there are none."""
        if config is not None or not kwargs.keys() <= _KNOWN or self._is_watched():
            return await super().ainvoke(input, config, stop=stop, **kwargs)
        messages = self._convert_input(input).to_messages()
        result = await self._agenerate_with_cache(messages, stop, **kwargs)
        message = result.generations[0].message
        assert isinstance(message, AIMessage)
        return message

    def _is_watched(self) -> bool:
        """Whether somebody is told of each call: a tracer, a stream of the graph, a callback."""
        around = var_child_runnable_config.get() or {}
        manager = AsyncCallbackManager.configure(
            around.get("callbacks"), self.callbacks, verbose=self.verbose
        )
        return bool(manager.handlers)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        body = self._get_request_payload(messages, stop=stop, **kwargs)
        schema = body.get("response_format")
        if (
            not body.keys() <= _KNOWN
            or body["stream"]
            or self.include_response_headers
            or not (schema is None or isinstance(schema, dict))
        ):
            return await super()._agenerate(messages, stop, run_manager, **kwargs)
        body.update(body.pop("extra_body", None) or {})
        try:
            answer = await self._post(body)
        except openai.BadRequestError as error:
            base._handle_openai_bad_request(error)
            raise
        except openai.APIError as error:
            base._handle_openai_api_error(error)
            raise
        # The SDK gives bad JSON as text, and this refuses what is no chat completion.
        result = self._create_chat_result(answer)
        choice = answer["choices"][0]
        if schema is not None and choice.get("finish_reason") == "length":
            raise openai.LengthFinishReasonError(completion=ChatCompletion.construct(**answer))
        if schema is not None and choice.get("finish_reason") == "content_filter":
            raise openai.ContentFilterFinishReasonError()
        result.generations[0].message.additional_kwargs["refusal"] = choice["message"].get(
            "refusal"
        )
        return result

    async def _post(self, body: dict[str, Any]) -> Any:
        """What the SDK's ``post`` sends, gives and raises; address and headers are made once.

        Raises:
            openai.APIError: no answer, or one that is a failure.
        """
        sdk, http = self.root_async_client, self.http_async_client
        if http is None or http.cookies:
            # A server that binds a client to itself by a cookie; only the SDK sends it back.
            return await sdk.post("/chat/completions", body=body, cast_to=object)
        if self._like is None:
            options = FinalRequestOptions.construct(method="post", url="/chat/completions")
            like = sdk._build_request(await sdk._prepare_options(options))
            del like.headers["content-length"]
            self._like = options, like
        options, like = self._like
        request = httpx2.Request(
            like.method,
            like.url,
            headers=like.headers,
            content=json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False),
            extensions=like.extensions,
        )
        try:
            response = await http.send(request)
        except httpx2.TimeoutException as error:
            raise openai.APITimeoutError(request=request) from error
        except (httpx2.RequestError, ssl.SSLError, anyio.EndOfStream) as error:
            raise openai.APIConnectionError(request=request) from error
        if not response.is_success:
            raise sdk._make_status_error_from_response(response)
        return await sdk._process_response(
            cast_to=object, options=options, response=response, stream=False, stream_cls=None
        )


@lru_cache(maxsize=1)
def client_class() -> type[ChatOpenAI]:
    """The fast client, or the plain one with a warning when the fast one does not do the same."""
    found = difference()
    if found is None:
        return FastChatOpenAI
    warnings.warn(
        f"model calls take the plain, slower OpenAI client: {found} (install the versions of "
        "constraints.txt to get the fast one)",
        RuntimeWarning,
        stacklevel=2,
    )
    return ChatOpenAI


def difference() -> str | None:
    """How the fast client differs from the plain one on canned responses, or None.

    No connection is opened. It runs in a thread and event loop of its own, so that it may be called
    from anywhere.
    """
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(asyncio.run, _difference()).result()


_FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "Score",
        "strict": True,
        "schema": {"type": "object", "properties": {"score": {"type": "integer"}}},
    },
}
_USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def _answer(finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    said = {"role": "assistant", "content": '{"score": 3}', **message}
    choice = {"index": 0, "message": said, "finish_reason": finish_reason}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "named-by-server",
        "choices": [choice],
        "usage": _USAGE,
    }


_CANNED: dict[str, tuple[int, Any]] = {
    "an answer": (200, _answer()),
    "a refusal": (200, _answer(content=None, refusal="I cannot.")),
    "a truncated answer": (200, _answer("length")),
    "a filtered answer": (200, _answer("content_filter", content="")),
    "no choices": (200, {"object": "error", "message": "overloaded"}),
    "a refused request": (400, {"error": {"message": "no such option"}}),
    "a rate limit": (429, {"error": {"message": "slow down"}}),
    "no JSON": (200, "overloaded"),
    "no connection": (0, httpx2.ConnectError("refused")),
    "no answer in time": (0, httpx2.ReadTimeout("silent")),
}


async def _difference() -> str | None:
    for what, (status, answer) in _CANNED.items():
        for options in ({"seed": 1}, {"seed": 1, "response_format": _FORMAT}):
            plain = await _outcome(ChatOpenAI, status, answer, options)
            fast = await _outcome(FastChatOpenAI, status, answer, options)
            if fast != plain:
                return f"with {what} the fast client gave {fast!r:.200}, the plain {plain!r:.200}"
    return None


async def _outcome(
    client: type[ChatOpenAI], status: int, answer: Any, options: dict[str, Any]
) -> tuple[Any, ...]:
    """What a client sent, and what it made of the response."""
    sent: list[tuple[Any, ...]] = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        sent.append(
            (
                f"{request.method} {request.url}",
                # The SDK's notes on how it was called from Python differ, as that does.
                [pair for pair in request.headers.items() if not pair[0].startswith("x-stainless")],
                request.extensions["timeout"],
                json.loads(request.content),
            )
        )
        if isinstance(answer, Exception):
            raise answer
        return httpx2.Response(status, json=answer, headers={"retry-after": "1"})

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(respond)) as http:
        model = client(
            model="m",
            base_url="http://localhost/v1",
            api_key=SecretStr("k"),
            temperature=0.5,
            extra_body={"max_tokens": 9},
            max_retries=0,
            use_responses_api=False,
            http_async_client=http,
        )
        try:
            message = await model.ainvoke([SystemMessage("s"), HumanMessage("u")], **options)
        except Exception as error:
            # A body that is no answer is refused by both, in words of their own.
            sdk = isinstance(error, openai.OpenAIError)
            return (*sent, type(error).__name__ if sdk else "not a chat completion")
    return (
        *sent,
        message.text,
        message.additional_kwargs.get("refusal"),
        message.usage_metadata,
        *(message.response_metadata.get(name) for name in ("id", "model_name", "finish_reason")),
    )
