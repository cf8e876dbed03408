"""Model specs, and one request's way through failures of every kind."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from benchmarks.mock_server import MockServer
from mentalarena import provider, retries
from mentalarena.errors import ConfigurationError, MissingExtraError, ProviderError
from mentalarena.models import ModelSpec, api_key, chat_model, require, server_url, shown_url
from mentalarena.provider import ModelClient, Reply
from mentalarena.retries import ATTEMPTS, retry_after

KEY = "sk-test-abcdef1234567890"
MESSAGES = [
    {"role": "system", "content": "You are a therapist."},
    {"role": "user", "content": "Patient: I am tired."},
]
SCHEMA = {
    "name": "Score",
    "strict": True,
    "schema": {
        "type": "object",
        "properties": {"score": {"type": "integer", "minimum": 1, "maximum": 10}},
        "required": ["score"],
        "additionalProperties": False,
    },
}


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_API_BASE"):
        monkeypatch.delenv(name, raising=False)


def client(url: str, spec: str = "openai:mock", timeout: float = 10.0) -> ModelClient:
    return ModelClient(
        ModelSpec.parse(spec), base_url=url, temperature=0.7, max_tokens=64, timeout=timeout
    )


# --- specs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("openai:gpt-x", ModelSpec("openai", "gpt-x")),
        ("openai:org/m:8b,q4", ModelSpec("openai", "org/m:8b,q4")),
        ("openai:gpt-x,answers=labelled", ModelSpec("openai", "gpt-x", answers="labelled")),
        ("local", ModelSpec("local", answers="small")),
        ("local,answers=json", ModelSpec("local", answers="json")),
        ("local:/m/a,b.gguf", ModelSpec("local", "/m/a,b.gguf", answers="small")),
        ("local:a.gguf,answers=json", ModelSpec("local", "a.gguf", answers="json")),
        (
            "huggingface:/m/a,b,adapter=/l/x",
            ModelSpec("huggingface", "/m/a,b", "/l/x", answers="labelled"),
        ),
    ],
)
def test_specs_are_read(text: str, spec: ModelSpec) -> None:
    assert ModelSpec.parse(text) == spec


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("opena:x", "openai:NAME"),
        ("openai:", "name is missing"),
        ("openai:x,adapter=y", "unknown option 'adapter'"),
        ("openai:x,answers=xml", "answers=json or answers=labelled"),
        ("huggingface:x,answers=json", "answers=labelled"),
        ("local:", "name is missing; write local:FILE.gguf"),
        ("huggingface:x,adapter=", "adapter is empty"),
    ],
)
def test_wrong_specs_are_one_clear_line(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        ModelSpec.parse(text)
    assert "\n" not in str(caught.value)


def test_no_key_and_no_server_says_what_to_set() -> None:
    with pytest.raises(ConfigurationError, match=r"OPENAI_API_KEY.*--base-url"):
        chat_model(ModelSpec.parse("openai:x"))


def test_a_server_needs_no_key_and_a_key_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    assert api_key("http://localhost:8000/v1") == "no-key-needed"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:9/v1/")
    assert api_key() == "no-key-needed"
    assert server_url() == "http://localhost:9/v1"
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert api_key() == KEY


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://x/v1", "http://"])
def test_a_wrong_address_is_named(url: str) -> None:
    with pytest.raises(ConfigurationError, match="base_url"):
        server_url(url)


def test_addresses_are_shown_without_secrets() -> None:
    assert shown_url("https://me:pw@host:1/v1?key=x#y") == "https://host:1/v1"


def test_missing_things_come_with_the_way_out() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install 'mentalarena\[local\]'"):
        require("no_such_package_here", "mentalarena[local]")
    with pytest.raises(ConfigurationError, match="no such folder"):
        chat_model(ModelSpec.parse("huggingface:./not/here/at/all"))


def test_importing_the_modules_imports_nothing_heavy() -> None:
    code = (
        "import sys, mentalarena.models, mentalarena.provider, mentalarena.local_model, "
        "mentalarena.huggingface, agents.registry, agents.patient, agents.therapist, "
        "agents.manager, agents.judge, agents.human\n"
        "heavy = {'torch', 'transformers', 'langchain_openai', 'openai', 'xllamacpp', 'peft', "
        "'langchain_core', 'sentence_transformers', 'tenacity'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# --- requests ------------------------------------------------------------------------------------


async def test_an_answer_comes_with_its_provenance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with MockServer(require_key=KEY) as server:
        reply = await client(server.base_url).answer(MESSAGES, seed=5)
        assert server.requests[-1].body["seed"] == 5
    assert isinstance(reply, Reply)
    assert reply.text
    assert reply.resolved_model == "mock"
    assert reply.prompt_tokens > 0 < reply.completion_tokens
    assert reply.attempts == 1
    assert reply.latency_ms > 0


@pytest.mark.parametrize("schema", [None, SCHEMA])
async def test_a_truncated_answer_says_so(schema: dict | None) -> None:
    with MockServer(reply_words=400) as server:
        model = ModelClient(
            ModelSpec.parse("openai:mock"),
            base_url=server.base_url,
            temperature=0,
            max_tokens=2,
            timeout=10,
        )
        reply = await model.answer(MESSAGES, schema)
    assert reply.truncated
    assert reply.text
    assert reply.completion_tokens == 2


@pytest.mark.parametrize("kind", ["429", "500", "503", "cut", "garbage"])
async def test_what_passes_is_retried(kind: str) -> None:
    with MockServer(burst={kind: 2}, retry_after=0.05) as server:
        reply = await client(server.base_url).answer(MESSAGES)
        assert server.stats()["chat_requests"] == 3
    assert reply.attempts == 3
    assert reply.text


async def test_a_timeout_is_not_fatal_and_retried() -> None:
    with MockServer(burst={"hang": 1}) as server:
        reply = await client(server.base_url, timeout=0.5).answer(MESSAGES)
    assert reply.attempts == 2


async def test_retries_end() -> None:
    with MockServer(fail={"500": 1.0}, retry_after=0) as server:
        with pytest.raises(ProviderError, match=rf"HTTP 500.*{ATTEMPTS} attempts") as caught:
            await client(server.base_url).answer(MESSAGES)
        assert server.stats()["chat_requests"] == ATTEMPTS
    assert caught.value.fatal is False


@pytest.mark.parametrize("form", ["seconds", "ms", "date"])
async def test_retry_after_is_obeyed(form: str) -> None:
    wait = 2.0 if form == "date" else 1.0
    with MockServer(burst={"429": 1}, retry_after=wait, retry_after_format=form) as server:
        await client(server.base_url).answer(MESSAGES)
        first, second = server.requests
    # A date has whole seconds: up to one of them may be gone when it is read.
    assert second.received - first.finished >= wait - (1.05 if form == "date" else 0.05)


async def test_a_wait_beyond_patience_is_not_waited_for() -> None:
    with MockServer(fail={"429": 1.0}, retry_after=100_000) as server:
        with pytest.raises(ProviderError, match="rate limit") as caught:
            await asyncio.wait_for(client(server.base_url).answer(MESSAGES), 5)
        assert server.stats()["chat_requests"] == 1
    assert not caught.value.fatal


@pytest.mark.parametrize(
    ("settings", "spec", "words"),
    [
        ({"require_key": "another"}, "openai:mock", "OPENAI_API_KEY"),
        ({"models": ("a",)}, "openai:b", "does not know the model"),
        ({"fail": {"400": 1.0}}, "openai:mock", "refused the request"),
        ({"fail": {"422": 1.0}}, "openai:mock", "refused the request"),
        ({"fail": {"quota": 1.0}}, "openai:mock", "quota"),
    ],
)
async def test_what_cannot_pass_is_fatal_at_once(
    settings: dict, spec: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with MockServer(**settings) as server:
        with pytest.raises(ProviderError, match=words) as caught:
            await client(server.base_url, spec).answer(MESSAGES)
        assert server.stats()["chat_requests"] <= 1
        assert server.base_url in str(caught.value)
    assert caught.value.fatal
    assert "\n" not in str(caught.value)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


async def test_nothing_listening_is_fatal_and_names_the_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retries, "RECONNECT_WAIT", 0.02)
    url = f"http://127.0.0.1:{free_port()}/v1"
    words = rf"nothing answers at {url}.*{ATTEMPTS} attempts"
    for _ in range(2):
        with pytest.raises(ProviderError, match=words) as caught:
            await client(url).answer(MESSAGES)
        assert caught.value.fatal
        assert "\n" not in str(caught.value)


async def test_a_server_that_is_restarted_is_found_again() -> None:
    port = free_port()
    model = client(f"http://127.0.0.1:{port}/v1")
    with MockServer(port=port):
        await model.answer(MESSAGES)

    async def restart() -> MockServer:
        await asyncio.sleep(1.2)
        return MockServer(port=port).__enter__()

    starting = asyncio.create_task(restart())
    reply = await model.answer(MESSAGES)
    (await starting).__exit__()
    assert reply.text
    assert 2 <= reply.attempts <= ATTEMPTS


async def test_a_server_that_answered_once_and_is_gone_is_not_fatal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retries, "RECONNECT_WAIT", 0.02)
    with MockServer() as server:
        await client(server.base_url).answer(MESSAGES)
    # Known of the server, not of the client: another one meets the same.
    for model in (client(server.base_url), client(server.base_url, "openai:other")):
        with pytest.raises(ProviderError, match=f"{ATTEMPTS} attempts") as caught:
            await model.answer(MESSAGES)
        assert not caught.value.fatal


async def test_a_server_without_json_schema_gets_a_way_out() -> None:
    with MockServer(json_schema=False) as server:
        model = client(server.base_url)
        assert (await model.answer(MESSAGES)).text
        with pytest.raises(ProviderError, match="answers=labelled") as caught:
            await model.answer(MESSAGES, SCHEMA)
    assert caught.value.fatal


async def test_the_key_is_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    spec = ModelSpec.parse("openai:mock")
    model = chat_model(spec, base_url="http://localhost:1/v1")
    assert KEY not in repr(model) + str(model) + repr(client("http://localhost:1/v1"))
    assert KEY not in retries.one_line(f"Incorrect API key {KEY}, Bearer {KEY}")
    assert "sk-other" not in retries.one_line("wrong key sk-other-123456789***abc")


def test_retry_after_reads_every_form() -> None:
    soon = datetime.now(UTC) + timedelta(seconds=30)
    assert retry_after({"retry-after": "2.5"}) == 2.5
    assert retry_after({"retry-after-ms": "500", "retry-after": "9"}) == 0.5
    assert 28 < retry_after({"retry-after": format_datetime(soon, usegmt=True)}) <= 30
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None


async def test_many_first_requests_build_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []

    def counted(*args: Any, **settings: Any) -> Any:
        built.append(settings)
        threading.Event().wait(0.1)
        return chat_model(*args, **settings)

    monkeypatch.setattr(provider, "chat_model", counted)
    with MockServer() as server:
        model = client(server.base_url)
        requests = [asyncio.create_task(model.answer(MESSAGES, seed=n)) for n in range(64)]
        await asyncio.sleep(0.02)
        # The one that began the build may well be the one that is interrupted.
        requests[0].cancel()
        done = await asyncio.gather(*requests, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert all(isinstance(reply, Reply) for reply in done[1:])
    assert len(built) == 1
    assert not model._building


async def test_a_build_that_failed_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with MockServer() as server:
        model = client("")
        for reply in await asyncio.gather(
            *(model.answer(MESSAGES) for _ in range(3)), return_exceptions=True
        ):
            assert isinstance(reply, ConfigurationError)
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        assert (await model.answer(MESSAGES)).text


async def test_requests_run_together() -> None:
    with MockServer(latency=0.3) as server:
        model = client(server.base_url)
        await asyncio.gather(*(model.answer(MESSAGES, seed=seed) for seed in range(20)))
        assert server.stats()["max_in_flight"] == 20


async def test_a_body_that_drips_is_given_up_in_time() -> None:
    with MockServer(slow_body=4.0) as server:
        started = time.monotonic()
        model = client(server.base_url, timeout=0.4)
        with pytest.raises(ProviderError, match="did not answer in time"):
            await model.answer([{"role": "user", "content": "hello"}])
        # Four requests of 0.4 s, and the waits between them; never the whole 4 s of one body.
        assert time.monotonic() - started < 12
    assert {seen.outcome for seen in server.requests} == {"abandoned"}
