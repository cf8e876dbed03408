"""The mock server keeps OpenAI's protocol, as OpenAI's own client sees it, and fails as told."""

import asyncio
import http.client
import json
import time
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from langchain_core.messages import AIMessageChunk
from pydantic import BaseModel, SecretStr

from agents.seats import (
    Score,
)
from benchmarks.mock_schema import BadRequestError
from benchmarks.mock_server import MockServer
from benchmarks.mock_words import DISORDERS
from tests.benchmarks.support import (
    DIALOGUE,
    answered,
    chat,
    post,
    request,
    schema_request,
)

# --- the protocol, through the real client -------------------------------------------------------


def test_a_plain_answer_has_text_usage_and_the_model_s_name() -> None:
    with MockServer(reply_words=60) as server:
        message = chat(server).invoke("How was your week?")
        stats = server.stats()
    assert isinstance(message.content, str)
    assert 40 <= len(message.content.split()) <= 80
    assert message.response_metadata["model_name"] == "some-model"
    assert message.response_metadata["finish_reason"] == "stop"
    assert message.usage_metadata is not None
    assert message.usage_metadata["input_tokens"] == len("How was your week?") // 4
    assert message.usage_metadata["output_tokens"] == len(message.content) // 4
    assert stats["outcomes"] == {"ok": 1}
    assert stats["completion_tokens"] == len(message.content) // 4


@pytest.mark.parametrize("words", [15, 60, 200])
def test_replies_are_about_as_long_as_asked(words: int) -> None:
    lengths = [len(answered(request(f"Hello {n}"), words=words).split()) for n in range(40)]
    assert abs(sum(lengths) / 40 - words) < 0.15 * words + 2


def test_max_tokens_and_stop_are_obeyed() -> None:
    with MockServer() as server:
        short = chat(server, max_tokens=5).invoke("Hello")
        stopped = chat(server, stop_sequences=["."]).invoke("Hello")
    assert len(short.content) == 20
    assert short.response_metadata["finish_reason"] == "length"
    assert "." not in stopped.content
    assert stopped.content


class Named(BaseModel):
    label: str
    rationale: str


class Two(BaseModel):
    first: Named
    second: Named


def test_json_schema_through_structured_output() -> None:
    with MockServer() as server:
        model = chat(server).with_structured_output(Two, method="json_schema", strict=True)
        two = [model.invoke(f"{DIALOGUE} {n}") for n in range(30)]
        wanted = server.requests[0].body["response_format"]
    assert wanted["json_schema"]["strict"] is True
    for pair in two:
        assert isinstance(pair, Two)
        assert {pair.first.label, pair.second.label} <= set(DISORDERS)
        assert pair.first.label != pair.second.label
        assert len(pair.first.rationale.split()) > 5


def test_streaming_gives_the_same_text_and_usage() -> None:
    with MockServer() as server:
        whole = chat(server).invoke("Hello")
        pieces = list(chat(server, stream_usage=True).stream("Hello"))
        bare = list(chat(server, stream_usage=False).stream("Hello"))
    assert len(pieces) > 10
    joined = pieces[0]
    for piece in pieces[1:]:
        joined += piece
    assert isinstance(joined, AIMessageChunk)
    assert joined.content == whole.content
    assert joined.response_metadata["finish_reason"] == "stop"
    assert joined.usage_metadata is not None
    assert whole.usage_metadata is not None
    assert joined.usage_metadata["total_tokens"] == whole.usage_metadata["total_tokens"]
    assert all(piece.usage_metadata is None for piece in bare)


def test_streamed_bytes_are_server_sent_events_that_end_in_done() -> None:
    with MockServer() as server:
        _, headers, body = post(
            server, request(stream=True, stream_options={"include_usage": True})
        )
    assert headers["Content-Type"].startswith("text/event-stream")
    events = body.decode().removesuffix("\n\n").split("\n\n")
    assert events[-1] == "data: [DONE]"
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-1]]
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-1]["choices"] == []
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    assert chunks[-1]["usage"]["total_tokens"] > 0


def test_equal_answers_have_ids_of_their_own() -> None:
    with MockServer() as server:
        first, second = (json.loads(post(server, request())[2]) for _ in range(2))
    assert first["choices"] == second["choices"]
    assert first["id"] != second["id"]


def test_models_health_and_stats() -> None:
    with MockServer(models=("a", "b")) as server:
        client = openai.OpenAI(base_url=server.base_url, api_key="k", max_retries=0, timeout=5)
        assert [model.id for model in client.models.list()] == ["a", "b"]
        with pytest.raises(openai.NotFoundError) as raised:
            chat(server, model="c").invoke("Hello")
        assert raised.value.code == "model_not_found"
        connection = http.client.HTTPConnection(urlsplit(server.base_url).netloc, timeout=5)
        connection.request("GET", "/health")
        assert json.load(connection.getresponse()) == {"status": "ok"}
        # The same connection again: it was kept alive.
        connection.request("GET", "/stats")
        assert json.load(connection.getresponse())["requests"] == 4
        connection.close()


def test_a_key_can_be_required_and_is_never_kept() -> None:
    with MockServer(require_key="right-key") as server:
        chat(server, api_key=SecretStr("right-key")).invoke("Hello")
        with pytest.raises(openai.AuthenticationError) as raised:
            chat(server, api_key=SecretStr("wrong-key")).invoke("Hello")
        requests = server.requests
    assert raised.value.code == "invalid_api_key"
    assert [seen.outcome for seen in requests] == ["ok", "401"]
    assert "-key" not in repr(requests)


def test_requests_are_kept_as_they_were_sent() -> None:
    with MockServer() as server:
        before = time.time()
        chat(server, temperature=0.25).invoke("Hello")
        (seen,) = server.requests
    assert seen.body["messages"] == [{"role": "user", "content": "Hello"}]
    assert seen.body["temperature"] == 0.25
    assert seen.headers["content-type"] == "application/json"
    assert before <= seen.received <= seen.finished <= time.time()


# --- requests that are refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"{not json", None),
        (b"\xff\xfe", None),
        ([], None),
        ({"messages": [{"role": "user", "content": "Hello"}]}, "model"),
        ({"model": "m", "messages": []}, "messages"),
        (
            {"model": "m", "messages": [{"role": "robot", "content": "Hello"}]},
            "messages[0].role",
        ),
        (request(max_tokens=0), "max_tokens"),
        (request(n=2), "n"),
        (request(tools=[{"type": "function"}]), "tools"),
        (request(response_format={"type": "json_schema"}), "response_format.json_schema.schema"),
    ],
)
def test_bad_requests_are_400_in_openai_s_form(body: Any, param: str | None) -> None:
    with MockServer() as server:
        status, headers, read = post(server, body)
        assert post(server, request())[0] == 200
    problem = json.loads(read)["error"]
    assert status == 400
    assert headers["Content-Type"] == "application/json"
    assert problem["type"] == "invalid_request_error"
    assert problem["param"] == param
    assert problem["message"]


def test_wrong_paths_and_methods() -> None:
    with MockServer() as server:
        assert post(server, request(), "/v1/completions")[0] == 404
        assert post(server, request(), "/chat/completions")[0] == 404
        status, headers, _ = post(server, request(), "/v1/models")
    assert status == 405
    assert headers["Allow"] == "GET"


def test_a_server_without_json_schema_refuses_it_and_still_talks() -> None:
    with MockServer(json_schema=False) as server:
        model = chat(server).with_structured_output(Score, method="json_schema")
        with pytest.raises(openai.BadRequestError, match="response_format"):
            model.invoke("Hello")
        assert chat(server).invoke("Hello").content


def test_strict_mode_refuses_open_and_optional_properties() -> None:
    lenient = json.loads(answered(schema_request(Score)))
    Score.model_validate(lenient)
    with pytest.raises(BadRequestError, match="additionalProperties"):
        answered(schema_request(Score, strict=True))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "^[a-z]+$"},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"$ref": "#/$defs/missing"},
        {"$ref": "#"},
        {"type": "object", "properties": {"x": {"$ref": "#"}}, "required": ["x"]},
        {"type": "array", "items": {"enum": [1, 2]}, "minItems": 3, "uniqueItems": True},
        {"type": "strng"},
    ],
)
def test_a_schema_that_cannot_be_honored_is_refused(schema: dict[str, Any]) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(BadRequestError, match="invalid schema"):
        answered(request(response_format=wanted))


def test_broken_framing_ends_the_connection_with_400() -> None:
    async def send(port: int, data: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        read = await asyncio.wait_for(reader.read(), 5)
        writer.close()
        return read

    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
    with MockServer() as server:
        port = urlsplit(server.base_url).port
        assert port is not None
        for data in (
            b"nonsense\r\n\r\n",
            head + b"Content-Length: two\r\n\r\n",
            head + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        ):
            assert asyncio.run(send(port, data)).startswith(b"HTTP/1.1 400 ")
        long = asyncio.run(send(port, head + b"Content-Length: 999999999\r\n\r\n"))
        assert long.startswith(b"HTTP/1.1 413 ")


def test_chunked_request_bodies_are_read() -> None:
    data = json.dumps(request()).encode()
    with MockServer() as server:
        connection = http.client.HTTPConnection(urlsplit(server.base_url).netloc, timeout=5)
        pieces = iter([data[:7], data[7:30], data[30:]])
        connection.request("POST", "/v1/chat/completions", pieces, encode_chunked=True)
        read = json.load(connection.getresponse())
        connection.close()
        whole = json.loads(post(server, request())[2])
    assert read["choices"] == whole["choices"]


# --- failures ------------------------------------------------------------------------------------


def test_a_rate_limit_says_when_to_come_back_in_three_ways() -> None:
    found = {}
    for form in ("seconds", "ms", "date"):
        with (
            MockServer(fail={"429": 1}, retry_after=2.5, retry_after_format=form) as server,
            pytest.raises(openai.RateLimitError) as raised,
        ):
            chat(server).invoke("Hello")
        assert raised.value.code == "rate_limit_exceeded"
        found[form] = raised.value.response.headers
    assert found["seconds"]["retry-after"] == "2.5"
    assert found["ms"]["retry-after-ms"] == "2500"
    assert 2 <= parsedate_to_datetime(found["date"]["retry-after"]).timestamp() - time.time() <= 4


def test_other_failures_reach_the_client_as_its_own_errors() -> None:
    expected: dict[str, type[Exception]] = {
        "500": openai.InternalServerError,
        "503": openai.InternalServerError,
        "403": openai.PermissionDeniedError,
        "quota": openai.RateLimitError,
        "hang": openai.APITimeoutError,
    }
    for kind, error in expected.items():
        with MockServer(fail={kind: 1}) as server, pytest.raises(error) as raised:
            chat(server, timeout=0.4).invoke("Hello")
        if kind == "quota":
            assert isinstance(raised.value, openai.RateLimitError)
            assert raised.value.code == "insufficient_quota"
            assert "retry-after" not in raised.value.response.headers


@pytest.mark.parametrize("streamed", [False, True])
def test_a_cut_connection_is_a_connection_error(streamed: bool) -> None:
    with MockServer(fail={"cut": 1}) as server:
        with pytest.raises(Exception, match=r"[Cc]onnection|closed|incomplete") as raised:
            chat(server, streaming=streamed).invoke("Hello")
        assert server.requests[0].outcome == "cut"
    assert not isinstance(raised.value, openai.APITimeoutError)


def test_garbage_is_never_an_answer_and_has_two_forms() -> None:
    bodies = set()
    with MockServer(fail={"garbage": 1}) as server:
        for n in range(12):
            status, _, body = post(server, request(f"Hello {n}"))
            assert status == 200
            bodies.add(body)
            with pytest.raises(Exception) as raised:  # noqa: PT011 (which one is the client's)
                chat(server).invoke(f"Hello {n}")
            assert not isinstance(raised.value, openai.APITimeoutError)
    assert len(bodies) == 2


def test_an_empty_answer_has_no_text() -> None:
    with MockServer(fail={"empty": 1}) as server:
        message = chat(server).invoke("Hello")
    assert message.content == ""
    assert message.usage_metadata is not None
    assert message.usage_metadata["output_tokens"] == 0


def test_a_burst_hits_the_first_requests_only() -> None:
    with MockServer(burst={"429": 2, "500": 1}) as server:
        assert [post(server, request())[0] for _ in range(5)] == [429, 429, 500, 200, 200]


def test_a_request_that_gets_through_at_last_gets_its_own_answer() -> None:
    bodies = [request(f"Question {n}") for n in range(40)]
    with MockServer() as calm:
        expected = [json.loads(post(calm, body)[2])["choices"] for body in bodies]

    def insist(server: MockServer, body: dict[str, Any]) -> tuple[list[int], Any]:
        statuses = []
        while True:
            status, _, read = post(server, body)
            statuses.append(status)
            if status == 200:
                return statuses, json.loads(read)["choices"]

    settings: dict[str, Any] = {"fail": {"429": 0.3, "500": 0.2}, "retry_after": -1}
    with MockServer(**settings) as first, MockServer(**settings) as second:
        there = [insist(first, body) for body in bodies]
        back = [insist(second, body) for body in reversed(bodies)][::-1]
        stats = first.stats()
    # The failures, too, are the same in whatever order the requests come.
    assert there == back
    assert [choices for _, choices in there] == expected
    failed = stats["outcomes"]["429"] + stats["outcomes"]["500"]
    assert 0.3 < failed / stats["chat_requests"] < 0.7
    assert stats["prompts_answered"] == 40
    assert stats["answered_again"] == 0


def test_latency_jitter_and_slow_bodies_take_their_time() -> None:
    def seconds(server: MockServer, text: str) -> float:
        start = time.monotonic()
        post(server, request(text))
        return time.monotonic() - start

    with MockServer(latency=0.3, jitter=0.2) as server:
        taken = [seconds(server, f"Hello {n}") for n in range(6)]
    assert min(taken) >= 0.1
    assert max(taken) - min(taken) > 0.02
    with MockServer(latency=0.1, slow_body=0.4) as server:
        assert 0.5 <= seconds(server, "Hello") < 2
