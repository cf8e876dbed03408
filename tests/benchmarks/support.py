"""What the tests of the mock server share: requests, and ways to send them."""

import http.client
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from langchain_openai import ChatOpenAI
from pydantic import BaseModel, SecretStr

from benchmarks.mock_answers import answer, read_prompt
from benchmarks.mock_server import MockServer

ROOT = Path(__file__).resolve().parents[2]
DIALOGUE = (
    "Patient: I keep the phone off. Nobody has called since May anyway.\n"
    "Therapist: What goes through your mind then?\n"
    "Patient: That they are better off without my moods. It is easier to stay in bed."
)


def chat(server: MockServer, **settings: Any) -> ChatOpenAI:
    values = {"model": "some-model", "api_key": SecretStr("k"), "timeout": 10, "max_retries": 0}
    return ChatOpenAI(base_url=server.base_url, **{**values, **settings})


def post(
    server: MockServer, body: Any, path: str = "/v1/chat/completions", **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    connection = http.client.HTTPConnection(urlsplit(server.base_url).netloc, timeout=10)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("POST", path, data, {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    read = response.read()
    connection.close()
    return response.status, response.headers, read


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.01)


def request(text: str = "Hello", **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], **more}


def schema_request(model: type[BaseModel], text: str = DIALOGUE, **more: Any) -> dict[str, Any]:
    wanted = {"name": model.__name__, "schema": model.model_json_schema(), **more}
    return request(text, response_format={"type": "json_schema", "json_schema": wanted})


def answered(body: dict[str, Any], seed: int = 0, words: int = 60) -> str:
    return answer(read_prompt(body), body, seed, words).text
