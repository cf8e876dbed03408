"""The fast OpenAI client: what it sends, what it makes of answers, and when it steps aside."""

import warnings
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

from benchmarks.mock_server import MockServer
from mentalarena import doctor, fast_client, retries
from mentalarena.errors import ProviderError
from mentalarena.fast_client import FastChatOpenAI, client_class
from mentalarena.models import ModelSpec, chat_model
from tests.mentalarena.test_models import KEY, MESSAGES, SCHEMA, client, free_port

FORMAT = {"type": "json_schema", "json_schema": SCHEMA}
HISTORY = [
    MESSAGES[0],
    *({"role": ("user", "assistant")[n % 2], "content": f"Naïve “turn” {n}\n"} for n in range(19)),
]
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE", *PROXIES):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    client_class.cache_clear()
    yield
    client_class.cache_clear()


async def outcome(server: MockServer, plain: bool, messages: Any, **options: Any) -> Any:
    """The body that the server saw, and the answer or the error."""
    built = chat_model(ModelSpec.parse("openai:mock"), base_url=server.base_url, max_tokens=64)
    assert isinstance(built, FastChatOpenAI)
    if plain:
        fields = ("model_name", "temperature", "extra_body", "max_retries", "http_async_client")
        built = ChatOpenAI(
            **{name: getattr(built, name) for name in fields},
            base_url=server.base_url,
            api_key=built.openai_api_key,
        )
    before = len(server.requests)
    try:
        message = await built.ainvoke(messages, **options)
    except (openai.OpenAIError, KeyError, TypeError, ValueError) as error:
        message = error
    (seen,) = server.requests[before:]
    return seen.body, message


@pytest.mark.parametrize("messages", [MESSAGES, HISTORY], ids=["two", "twenty"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"seed": 3},
        {"response_format": FORMAT, "seed": 3},
        {"extra_body": {"max_tokens": 2}},
        {"extra_body": {"max_tokens": 64, "grammar": "root ::= [a-z]"}},
        {"stop": ["\n"]},
        {"top_p": 0.5},
    ],
    ids=str,
)
async def test_it_sends_and_answers_what_the_plain_client_does(
    messages: Any, options: dict[str, Any]
) -> None:
    with MockServer() as server:
        body, plain = await outcome(server, True, messages, **options)
        fast_body, fast = await outcome(server, False, messages, **options)
    assert fast_body == body
    assert body["messages"] == messages
    assert body["max_tokens"] in (2, 64)
    assert isinstance(plain, AIMessage)
    assert fast.text == plain.text != ""
    assert fast.usage_metadata == plain.usage_metadata
    assert fast.usage_metadata["output_tokens"] > 0
    assert fast.additional_kwargs["refusal"] is plain.additional_kwargs["refusal"] is None
    for name in ("model_name", "finish_reason", "model_provider"):
        assert fast.response_metadata.get(name) == plain.response_metadata.get(name)


@pytest.mark.parametrize("schema", [None, FORMAT], ids=["text", "schema"])
@pytest.mark.parametrize("kind", ["400", "401", "403", "404", "422", "429", "500", "503", "cut"])
async def test_failures_are_the_same_classes(kind: str, schema: Any) -> None:
    options = {} if schema is None else {"response_format": schema}
    with MockServer(fail={kind: 1.0}) as server:
        _, plain = await outcome(server, True, MESSAGES, **options)
        _, fast = await outcome(server, False, MESSAGES, **options)
    assert isinstance(plain, openai.APIError)
    assert type(fast) is type(plain)
    assert fast.message == plain.message
    if isinstance(plain, openai.APIStatusError):
        assert fast.response.headers.get("retry-after") == plain.response.headers.get("retry-after")


async def test_garbage_is_no_answer() -> None:
    with MockServer(fail={"garbage": 1.0}) as server:
        for seed in range(8):
            _, fast = await outcome(server, False, MESSAGES, seed=seed)
            assert isinstance(fast, KeyError | TypeError | ValueError), seed


async def test_truncated_json_keeps_what_was_paid_for() -> None:
    options = {"response_format": FORMAT, "extra_body": {"max_tokens": 2}}
    with MockServer(reply_words=400) as server:
        _, plain = await outcome(server, True, MESSAGES, **options)
        _, fast = await outcome(server, False, MESSAGES, **options)
    assert isinstance(plain, openai.LengthFinishReasonError)
    assert isinstance(fast, openai.LengthFinishReasonError)
    assert fast.completion.usage == plain.completion.usage
    assert fast.completion.model == plain.completion.model
    assert fast.completion.choices[0].message.content == plain.completion.choices[0].message.content


async def test_what_the_seats_do_not_send_takes_the_inherited_way(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Score(BaseModel):
        score: int

    with MockServer() as server:
        model = chat_model(ModelSpec.parse("openai:mock"), base_url=server.base_url)
        assert isinstance(model, FastChatOpenAI)

        async def refuse(*_: Any, **__: Any) -> None:
            raise AssertionError("the short way was taken")

        monkeypatch.setattr(model, "_post", refuse)
        with pytest.raises(AssertionError, match="short way"):
            await model.ainvoke(MESSAGES)
        message = await model.ainvoke(MESSAGES, response_format=Score)
        assert isinstance(message.additional_kwargs["parsed"], Score)


class Watcher(AsyncCallbackHandler):
    """Counts what it is told of."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        self.told.append("start")

    async def on_llm_end(self, *_: Any, **__: Any) -> None:
        self.told.append("end")

    async def on_llm_error(self, *_: Any, **__: Any) -> None:
        self.told.append("error")


@pytest.mark.parametrize("way", ["given", "of the model", "around"])
async def test_who_watches_is_told_of_every_call(way: str) -> None:
    watcher = Watcher()
    with MockServer() as server:
        model = chat_model(ModelSpec.parse("openai:mock"), base_url=server.base_url)
        assert isinstance(model, FastChatOpenAI)

        async def call(options: Any = None) -> None:
            assert (await model.ainvoke(MESSAGES, options)).text

        await call()
        assert watcher.told == []
        if way == "given":
            await call({"callbacks": [watcher]})
        elif way == "of the model":
            model.callbacks = [watcher]
            await call()
        else:
            # As in a node of a graph: what is called inside inherits who watches the graph.
            await RunnableLambda(call).ainvoke(None, {"callbacks": [watcher]})
        assert watcher.told == ["start", "end"]


async def test_a_cookie_of_the_server_is_sent_back() -> None:
    cookies = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        cookies.append(request.headers.get("cookie"))
        answer = fast_client._answer()
        return httpx2.Response(200, json=answer, headers={"set-cookie": "replica=2"})

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(respond)) as http:
        model = FastChatOpenAI(
            model="m", base_url="http://localhost/v1", api_key=KEY, http_async_client=http
        )
        for _ in range(2):
            assert (await model.ainvoke(MESSAGES)).text
    assert cookies == [None, "replica=2"]


async def test_refused_and_hanging_servers_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "RECONNECT_WAIT", 0.01)
    monkeypatch.setattr(retries, "ATTEMPTS", 1)
    with pytest.raises(ProviderError, match="nothing answers"):
        await client(f"http://127.0.0.1:{free_port()}/v1").answer(MESSAGES)
    with (
        MockServer(fail={"hang": 1.0}) as server,
        pytest.raises(ProviderError, match="did not answer in time"),
    ):
        await client(server.base_url, timeout=0.3).answer(MESSAGES)


async def test_the_key_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with MockServer(require_key=KEY) as server:
        assert (await client(server.base_url).answer(MESSAGES, SCHEMA)).text


# --- the check -----------------------------------------------------------------------------------


def test_the_pinned_versions_pass() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert client_class() is FastChatOpenAI
    assert doctor._client().state == "ok"


PLAIN_REQUEST = openai.AsyncOpenAI._build_request
PLAIN_RESULT = ChatOpenAI._create_chat_result
PLAIN_GENERATE = ChatOpenAI._agenerate


def request_is_signed(self: Any, options: Any, **rest: Any) -> Any:
    request = PLAIN_REQUEST(self, options, **rest)
    request.headers["signature"] = str(hash(request.content))
    return request


def result_wants_objects(self: Any, response: Any, *rest: Any) -> Any:
    if isinstance(response, dict):
        raise TypeError("a completion object is needed")
    return PLAIN_RESULT(self, response, *rest)


async def generate_sends_more(self: Any, *given: Any, **options: Any) -> Any:
    return await PLAIN_GENERATE(self, *given, **options, user="somebody")


@pytest.mark.parametrize(
    ("owner", "name", "changed"),
    [
        (openai.AsyncOpenAI, "_build_request", request_is_signed),
        (ChatOpenAI, "_create_chat_result", result_wants_objects),
        (ChatOpenAI, "_agenerate", generate_sends_more),
    ],
)
async def test_changed_internals_give_the_plain_client_and_say_so_once(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, changed: Any
) -> None:
    monkeypatch.setattr(owner, name, changed)
    with MockServer() as server:
        with pytest.warns(RuntimeWarning, match="plain, slower OpenAI client") as caught:
            models = [
                chat_model(ModelSpec.parse("openai:mock"), base_url=server.base_url)
                for _ in range(2)
            ]
        assert len(caught) == 1
        assert [type(model) for model in models] == [ChatOpenAI, ChatOpenAI]
        assert (await models[0].ainvoke(MESSAGES)).text
    found = doctor._client()
    assert found.state == "absent"
    assert "plain" in found.detail
