"""What the mock server answers: text and JSON that follow from the request alone.

Why: a test of resuming, retrying or replaying can only compare rows if the same prompt is answered
in the same words, whatever came before it and however often the connection failed. An answer here
is a pure function of model, messages, response format, the request's ``seed`` and the server's
seed. It is plausible in form only: nothing understands the prompt, and no figure about dialogue
quality may rest on it.

What shapes an answer:

* a last user message with "exactly these lines" and ``label: hint`` lines under it is answered in
  those labels;
* ``response_format`` of type ``json_schema`` is answered by a value that satisfies the schema; a
  keyword that cannot be honored is refused (HTTP 400), never ignored;
* otherwise prose of about ``words`` words, in the voice of a therapist or of a patient, whichever
  the system message names first.

Tokens are approximated as characters // 4, for usage figures and for ``max_tokens`` alike.
"""

import json
import re
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any, NamedTuple

from benchmarks.mock_schema import BadRequestError, Schema, SchemaWriter, check_strict, count_prose
from mentalarena.journal import digest

CHARACTERS_PER_TOKEN = 4


class Prompt(NamedTuple):
    """What of a request decides its answer."""

    model: str
    messages: tuple[tuple[str, str], ...]
    """(role, text) pairs; text parts of one message are joined."""
    response_format: Schema | None
    seed: int | None
    """The request's own ``seed``."""

    @property
    def digest(self) -> str:
        """Canonical hash of all of it: 32 hex digits."""
        return digest(list(self), 32)


class Reply(NamedTuple):
    """One answer and what it cost."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


def tokens(text: str) -> int:
    """Approximate number of tokens; a text that is not empty has at least one."""
    return max(len(text) // CHARACTERS_PER_TOKEN, 1) if text else 0


def read_prompt(body: Any) -> Prompt:
    """The prompt of a chat completion request.

    Raises:
        BadRequestError: a required field is missing or malformed, or a feature is asked for that
            the mock does not have (tools, several choices, log probabilities).
    """
    if not isinstance(body, dict):
        raise BadRequestError("the request body must be a JSON object")
    model, messages = body.get("model"), body.get("messages")
    if not isinstance(model, str) or not model:
        raise BadRequestError("you must provide a model parameter", "model")
    if not isinstance(messages, list) or not messages:
        raise BadRequestError("'messages' must be an array with at least one message", "messages")
    for name in ("tools", "functions", "logprobs", "audio"):
        if body.get(name):
            raise BadRequestError(
                f"the mock server does not support '{name}'", name, "unsupported_parameter"
            )
    if body.get("n") not in (None, 1):
        raise BadRequestError("the mock server gives one choice", "n", "unsupported_value")
    wanted = body.get("response_format")
    if wanted is not None and not isinstance(wanted, dict):
        raise BadRequestError("'response_format' must be an object", "response_format")
    read = tuple(_read_message(index, message) for index, message in enumerate(messages))
    return Prompt(model, read, wanted, body.get("seed"))


def _read_message(index: int, message: Any) -> tuple[str, str]:
    where = f"messages[{index}]"
    if not isinstance(message, dict):
        raise BadRequestError(f"'{where}' must be an object", where)
    role, content = message.get("role"), message.get("content")
    if role not in ("system", "developer", "user", "assistant"):
        raise BadRequestError(f"'{role}' is not one of the roles of '{where}'", f"{where}.role")
    if isinstance(content, str):
        return role, content
    if isinstance(content, list) and all(
        isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
    ):
        return role, "\n".join(part["text"] for part in content)
    raise BadRequestError(f"'{where}.content' must be text", f"{where}.content")


def answer(prompt: Prompt, body: Mapping[str, Any], seed: int, words: int, score: int = 0) -> Reply:
    """The answer to a prompt, cut by the request's ``stop`` and ``max_tokens``.

    Args:
        prompt: what :func:`read_prompt` made of ``body``.
        body: the request; only its limits are read here.
        seed: the server's seed.
        words: about how many words of prose an answer has.
        score: what every field named ``score`` holds; 0 draws it.

    Raises:
        BadRequestError: a limit is malformed, or the schema cannot be honored.
    """
    writer = SchemaWriter(prompt.messages, Random(f"{seed}/{prompt.digest}"), score)
    kind = (prompt.response_format or {}).get("type", "text")
    if kind == "json_schema":
        text = _json_answer(writer, prompt.response_format or {}, words)
    elif kind == "json_object":
        text = json.dumps({"answer": writer.prose(words)})
    elif kind == "text":
        text = writer.lines(words) or writer.prose(words)
    else:
        raise BadRequestError(f"unknown response_format type {kind!r}", "response_format.type")

    stops = body.get("stop") or []
    for stop in [stops] if isinstance(stops, str) else stops:
        text = text.split(stop, 1)[0]
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    finish_reason = "stop"
    if limit is not None:
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise BadRequestError("'max_tokens' must be a whole number from 1", "max_tokens")
        if tokens(text) > limit:
            text, finish_reason = text[: limit * CHARACTERS_PER_TOKEN], "length"
    prompt_tokens = max(sum(len(part) for _, part in prompt.messages) // CHARACTERS_PER_TOKEN, 1)
    return Reply(text, finish_reason, prompt_tokens, tokens(text))


def _json_answer(writer: SchemaWriter, response_format: Schema, words: int) -> str:
    wanted = response_format.get("json_schema")
    if not isinstance(wanted, dict) or not isinstance(wanted.get("schema"), dict):
        raise BadRequestError(
            "missing required parameter: 'response_format.json_schema.schema'",
            "response_format.json_schema.schema",
        )
    schema = wanted["schema"]
    if wanted.get("strict"):
        check_strict(schema, str(wanted.get("name")))
    share = max(words // max(count_prose(schema, schema, "", 0), 1), 6)
    return json.dumps(writer.value(schema, schema, "", share, 0), ensure_ascii=False)


# --- bodies in OpenAI's form ---------------------------------------------------------------------


def error(
    message: str, kind: str, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """An error body."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def usage(reply: Reply) -> dict[str, Any]:
    """The usage object of an answer."""
    return {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "total_tokens": reply.prompt_tokens + reply.completion_tokens,
    }


def completion(reply: Reply, model: str, identity: str, created: int) -> dict[str, Any]:
    """The body of an answer that is not streamed."""
    message = {"role": "assistant", "content": reply.text, "refusal": None}
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": reply.finish_reason,
    }
    return {
        "id": identity,
        "object": "chat.completion",
        "created": created,
        "model": model,
        "choices": [choice],
        "usage": usage(reply),
        "system_fingerprint": None,
    }


def chunks(
    reply: Reply, model: str, identity: str, created: int, *, include_usage: bool
) -> Iterator[dict[str, Any]]:
    """The chunks of a streamed answer, a word each; the last one carries usage when asked to."""
    head: dict[str, Any] = {
        "id": identity,
        "object": "chat.completion.chunk",
        "created": created,
        "model": model,
        "system_fingerprint": None,
    }
    rest = {"usage": None} if include_usage else {}

    def choice(delta: dict[str, str], finish_reason: str | None = None) -> dict[str, Any]:
        listed = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return {**head, "choices": [listed], **rest}

    yield choice({"role": "assistant", "content": ""})
    for piece in re.findall(r"\s*\S+|\s+$", reply.text):
        yield choice({"content": piece})
    yield choice({}, reply.finish_reason)
    if include_usage:
        yield {**head, "choices": [], "usage": usage(reply)}
