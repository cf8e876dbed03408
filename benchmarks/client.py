"""What a model call costs us beside the model: CPU time through langchain-openai.

Why: a batch is bounded by what one core can send and read. The plain client spends most of a call
on rewriting what it sends; this says how much each shortcut (``mentalarena/fast_client.py``,
``mentalarena/http_transport.py``) saves, and what is left of it in a whole call
(:class:`ModelClient`). A whole batch is measured by ``benchmarks/throughput.py``.

How to run::

    python -m benchmarks.client [--json] [--quick] [--profile]

The server is a process of its own, so its time is not counted. CPU time is user and system time of
this process, all threads, after a warm-up, the better of two rounds.
"""

import argparse
import asyncio
import cProfile
import json
import os
import pstats
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from langchain_openai import ChatOpenAI
from openai import DefaultAsyncHttpxClient
from pydantic import SecretStr

from benchmarks.mock_server import MockServerProcess
from mentalarena import fast_client, http_transport
from mentalarena.models import ModelSpec
from mentalarena.provider import ModelClient

Call = Callable[[int], Awaitable[Any]]
Messages = list[dict[str, str]]

SCHEMA: dict[str, Any] = {
    "name": "Plan",
    "strict": True,
    "schema": {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "rationale": {"type": "string"},
            "score": {"type": "integer", "minimum": 1, "maximum": 10},
        },
        "required": ["name", "rationale", "score"],
        "additionalProperties": False,
    },
}
_TURN = "I do not sleep well, and at work I check everything again before anybody can see it. " * 3


class Variant(NamedTuple):
    """One way to send a request."""

    name: str
    client: type[ChatOpenAI]
    aiohttp: bool


VARIANTS = (
    Variant("plain", ChatOpenAI, aiohttp=False),
    Variant("through aiohttp", ChatOpenAI, aiohttp=True),
    Variant("plain JSON", fast_client.FastChatOpenAI, aiohttp=False),
    Variant("both", fast_client.FastChatOpenAI, aiohttp=True),
)


def history(messages: int) -> Messages:
    """A system text and turns of about 250 characters, ``messages`` in all."""
    turns = [{"role": ("user", "assistant")[n % 2], "content": _TURN} for n in range(messages - 1)]
    return [{"role": "system", "content": "You are the patient. " * 40}, *turns]


def prompt() -> Messages:
    """Two messages as the seats send them: 20 turns of dialogue inside the second."""
    return [
        {"role": "system", "content": "You are the patient. " * 200},
        {"role": "user", "content": "\n".join(f"Patient: {_TURN}" for _ in range(20))},
    ]


async def cpu_ms(call: Call, calls: int, in_flight: int, rounds: int = 2) -> float:
    """CPU milliseconds of one call, warm, with ``in_flight`` at once."""
    room = asyncio.Semaphore(in_flight)

    async def one(number: int) -> None:
        async with room:
            await call(number)

    async def many(count: int) -> float:
        start = time.process_time()
        await asyncio.gather(*(one(number) for number in range(count)))
        return 1000 * (time.process_time() - start) / count

    await many(in_flight)
    return min([await many(calls) for _ in range(rounds)])


def build(variant: Variant, url: str) -> ChatOpenAI:
    """A chat model with the settings of ``mentalarena.models.chat_model``."""
    http = DefaultAsyncHttpxClient(base_url=url, timeout=120)
    if variant.aiohttp:
        http = http_transport.http_client(url, 120, trust_env=False)
    return variant.client(
        model="mock",
        base_url=url,
        api_key=SecretStr("none"),
        temperature=0.7,
        extra_body={"max_tokens": 512},
        timeout=120,
        max_retries=0,
        use_responses_api=False,
        http_async_client=http,
    )


async def measure_variant(
    variant: Variant, url: str, messages: Messages, calls: int, in_flight: int, *, schema: bool
) -> float:
    """CPU milliseconds of one ``ainvoke``."""
    model = build(variant, url)
    options: dict[str, Any] = {}
    if schema:
        options["response_format"] = {"type": "json_schema", "json_schema": SCHEMA}
    try:
        return await cpu_ms(
            lambda number: model.ainvoke(messages, seed=number, **options), calls, in_flight
        )
    finally:
        await model.root_async_client.close()


async def measure_answer(url: str, calls: int, in_flight: int, *, schema: bool) -> float:
    """CPU milliseconds of one :meth:`ModelClient.answer` with a prompt of the seats."""
    client = ModelClient(
        ModelSpec.parse("openai:mock"), base_url=url, temperature=0.7, max_tokens=512, timeout=120
    )
    messages, wanted = prompt(), SCHEMA if schema else None
    return await cpu_ms(lambda number: client.answer(messages, wanted, number), calls, in_flight)


def measure(*, quick: bool) -> dict[str, Any]:
    """Every figure, in CPU milliseconds a call."""
    calls = 100 if quick else 200
    found: dict[str, Any] = {"cpu_ms": {}, "answer_cpu_ms": {}}
    with MockServerProcess(latency=0.05) as server:
        url = server.base_url
        rows = [(f"{size} messages", history(size), 16, False) for size in (2, 7, 20, 40)]
        rows += [("our prompt", prompt(), 16, False), ("our prompt, schema", prompt(), 16, True)]
        rows += [(f"our prompt, {n} in flight", prompt(), n, False) for n in (64, 256, 1000)]
        for name, messages, in_flight, schema in rows:
            found["cpu_ms"][name] = {
                variant.name: asyncio.run(
                    measure_variant(
                        variant, url, messages, max(calls, in_flight), in_flight, schema=schema
                    )
                )
                for variant in VARIANTS
            }
        for name, schema in (("text", False), ("schema", True)):
            found["answer_cpu_ms"][name] = asyncio.run(
                measure_answer(url, calls, 16, schema=schema)
            )
    return found


def profile(lines: int = 25) -> None:
    """Print where the fast client's time goes, by function, imports left out."""
    with MockServerProcess() as server:
        url, messages = server.base_url, prompt()

        async def run() -> None:
            model = build(VARIANTS[-1], url)
            await cpu_ms(lambda number: model.ainvoke(messages, seed=number), 100, 16, rounds=1)
            watch = cProfile.Profile(time.process_time)
            watch.enable()
            await cpu_ms(lambda number: model.ainvoke(messages, seed=number), 300, 16, rounds=1)
            watch.disable()
            pstats.Stats(watch).strip_dirs().sort_stats("cumulative").print_stats(lines)

        asyncio.run(run())


def show(found: dict[str, Any]) -> str:
    """The figures as text."""
    names = [variant.name for variant in VARIANTS]
    lines = ["CPU ms a call", " " * 26 + "".join(f"{name:>22}" for name in names)]
    for name, row in found["cpu_ms"].items():
        lines.append(f"{name:26}" + "".join(f"{row[column]:22.2f}" for column in names))
    for name, figure in found["answer_cpu_ms"].items():
        lines.append(f"ModelClient.answer, {name:6}{figure:22.2f}")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 0 whatever the figures are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.client", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--quick", action="store_true", help="fewer calls")
    parser.add_argument("--profile", action="store_true", help="print a profile instead")
    options = parser.parse_args(arguments)
    # A trace of each call would be most of its cost.
    os.environ["LANGSMITH_TRACING"] = "false"
    if options.profile:
        profile()
        return 0
    found = measure(quick=options.quick)
    sys.stdout.write((json.dumps(found, indent=1) if options.json else show(found)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
