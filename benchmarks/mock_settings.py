"""How the mock server behaves, and the command line that says so.

Why: tests give settings by name, a process of its own gets them as flags; both are one list.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from mentalarena.errors import ConfigurationError

_NAMED_FAULTS = ("quota", "cut", "garbage", "hang", "empty")


@dataclass(frozen=True, slots=True)
class MockSettings:
    """How the server behaves."""

    port: int = 0
    """0 takes a free one."""
    latency: float = 0.0
    """Seconds from the request's last byte to the answer's first."""
    jitter: float = 0.0
    """Seconds by which the latency varies both ways, evenly."""
    reply_words: int = 60
    """About how many words of prose an answer has."""
    score: int = 0
    """What every field named ``score`` holds; 0 draws it."""
    fail: Mapping[str, float] = field(default_factory=dict)
    """Kind of failure to its share of chat requests; together at most 1."""
    burst: Mapping[str, int] = field(default_factory=dict)
    """Kind of failure to how many of the first chat requests meet it."""
    retry_after: float = 1.0
    """Seconds a 429 or 503 asks to wait; negative leaves the header out."""
    retry_after_format: str = "seconds"
    """seconds, ms (the ``retry-after-ms`` header) or date."""
    slow_body: float = 0.0
    """Seconds over which the body of an answer is spread."""
    seed: int = 0
    """Seed of answers and failures."""
    json_schema: bool = True
    """False refuses every ``response_format`` but text, as servers do that do not know it."""
    require_key: str = ""
    """The bearer key that ``/v1`` asks for; empty asks for none."""
    models: tuple[str, ...] = ()
    """The models that exist; empty answers to every name. Where there are some, LoRA adapters can
    be loaded beside them by name, as with vLLM."""
    log: str = ""
    """Path of a JSON Lines file with one row a request."""

    def __post_init__(self) -> None:
        for kind in (*self.fail, *self.burst):
            if kind not in _NAMED_FAULTS and not (kind.isdigit() and 400 <= int(kind) <= 599):
                raise ConfigurationError(
                    f"failure {kind!r} is unknown: use a status from 400 to 599 or "
                    + ", ".join(_NAMED_FAULTS)
                )
        if min(self.fail.values(), default=0) < 0 or sum(self.fail.values()) > 1 + 1e-9:
            raise ConfigurationError("fail: shares must not be negative, and at most 1 together")
        if min(self.burst.values(), default=0) < 0:
            raise ConfigurationError("burst: counts must not be negative")
        if not 0 <= self.port <= 65535:
            raise ConfigurationError(f"port must be from 0 to 65535, not {self.port}")
        if self.retry_after_format not in ("seconds", "ms", "date"):
            raise ConfigurationError("retry_after_format must be seconds, ms or date")
        if min(self.latency, self.jitter, self.slow_body) < 0 or self.reply_words < 1:
            raise ConfigurationError("latency, jitter, slow_body: from 0; reply_words: from 1")


def to_flags(settings: MockSettings) -> list[str]:
    """The command line that gives these settings."""
    flags: list[str] = []
    for item in fields(MockSettings):
        value = getattr(settings, item.name)
        flag = "--" + item.name.replace("_", "-")
        if item.name == "json_schema":
            flags += [] if value else ["--no-json-schema"]
        elif isinstance(value, Mapping):
            flags += [f"{flag}={','.join(f'{kind}={share}' for kind, share in value.items())}"]
        elif item.name == "log":
            flags += [f"{flag}={Path(value).resolve()}"] if value else []
        else:
            flags += [f"{flag}={','.join(value) if isinstance(value, tuple) else value}"]
    return flags


def _pairs(text: str) -> dict[str, float]:
    try:
        pairs = (item.split("=") for item in text.split(",") if item)
        return {kind.strip(): float(share) for kind, share in pairs}
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not kind=number,kind=number") from None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.mock_server",
        description="A mock of an OpenAI-compatible server: known answers, latency and failures.",
    )
    default = MockSettings()
    for name, kind, text in (
        ("port", int, "0 takes a free one"),
        ("latency", float, "seconds before an answer"),
        ("jitter", float, "seconds by which it varies both ways"),
        ("reply_words", int, "about how many words an answer has"),
        ("score", int, "what every field named score holds; 0 draws it"),
        ("retry_after", float, "seconds a 429 or 503 asks to wait; negative: no header"),
        ("slow_body", float, "seconds over which a body is spread"),
        ("seed", int, "seed of answers and failures"),
        ("require_key", str, "ask for this bearer key"),
        ("log", str, "JSON Lines file with one row a request"),
    ):
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=kind, default=getattr(default, name), help=text)
    parser.add_argument(
        "--retry-after-format", choices=("seconds", "ms", "date"), default="seconds"
    )
    parser.add_argument("--fail", type=_pairs, default={}, help="e.g. 429=0.2,500=0.1,cut=0.05")
    parser.add_argument("--burst", type=_pairs, default={}, help="e.g. 429=64: the first 64")
    parser.add_argument("--models", default="", help="names that exist, by comma; empty: all")
    parser.add_argument("--no-json-schema", dest="json_schema", action="store_false")
    parser.add_argument("--exit-with-stdin", action="store_true", help="stop when stdin ends")
    return parser


def read_flags(arguments: Sequence[str] | None = None) -> tuple[MockSettings, bool]:
    """Settings from a command line, and whether to stop when standard input ends."""
    parser = _parser()
    values = vars(parser.parse_args(arguments))
    exit_with_stdin = values.pop("exit_with_stdin")
    values["models"] = tuple(name for name in values["models"].split(",") if name)
    values["burst"] = {kind: int(count) for kind, count in values["burst"].items()}
    try:
        return MockSettings(**values), exit_with_stdin
    except ConfigurationError as problem:
        parser.error(str(problem))
