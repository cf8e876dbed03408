"""Model specs, and the chat model behind each: any OpenAI-compatible server, Hugging Face, local.

Why: a spec is a plain string in a configuration, so that changing the model is changing one flag.
Everything heavy (langchain, torch, the llama.cpp binding) is imported here and only when a spec
asks for it. Keys come from the environment and go nowhere but into the client.
"""

import importlib.util
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, get_args
from urllib.parse import urlsplit

from mentalarena.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

Provider = Literal["openai", "huggingface", "local"]
AnswerMode = Literal["json", "labelled", "small"]

OPENAI_URL = "https://api.openai.com/v1"
# Servers that ask for no key still want the header; the SDK refuses to build without one.
_NO_KEY = "no-key-needed"
_OPTIONS = re.compile(r",(?=[a-z_]+=)")
_STORED = re.compile(r"sha256-[0-9a-f]{64}")
"""In place of a file's path, in what is stored."""
_ALLOWED: dict[str, tuple[str, ...]] = {
    "openai": ("answers",),
    "huggingface": ("adapter", "answers"),
    "local": ("answers",),
}
_ANSWERS = {"openai": "json", "huggingface": "labelled", "local": "small"}


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One parsed model spec, e.g. ``openai:NAME`` or ``huggingface:PATH,adapter=PATH``."""

    provider: Provider
    name: str = ""
    """Model name or path; of ``local`` a GGUF file, empty for the bundled model."""
    adapter: str = ""
    """Path of a LoRA adapter (``huggingface`` only)."""
    answers: AnswerMode = "json"
    """How answers are asked for: by JSON schema, as labelled lines of plain text, or as a ``small``
    model needs it: labelled lines, and spoken turns as a chat with a short cue."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a spec.

        Raises:
            ConfigurationError: unknown provider or option, or a missing name.
        """
        head, *rest = _OPTIONS.split(text.strip())
        provider, colon, name = head.partition(":")
        if provider not in get_args(Provider):
            raise ConfigurationError(
                f"model {text!r}: unknown kind {provider!r}; use openai:NAME, "
                "huggingface:PATH[,adapter=PATH] or local[:FILE.gguf]"
            )
        if not name.strip() and (colon or provider != "local"):
            what = {"openai": "NAME", "huggingface": "PATH"}.get(provider, "FILE.gguf")
            raise ConfigurationError(
                f"model {text!r}: the name is missing; write {provider}:{what}"
            )
        options = dict(item.split("=", 1) for item in rest)
        for key, value in options.items():
            if key not in _ALLOWED[provider]:
                raise ConfigurationError(
                    f"model {text!r}: unknown option {key!r}; {provider} takes "
                    + ", ".join(_ALLOWED[provider])
                )
            if not value.strip():
                raise ConfigurationError(f"model {text!r}: option {key} is empty")
        answers = options.get("answers", _ANSWERS[provider])
        allowed = tuple(
            mode for mode in get_args(AnswerMode) if mode != "json" or provider != "huggingface"
        )
        if answers not in allowed:
            raise ConfigurationError(
                f"model {text!r}: answers={answers} is not possible; use answers="
                + " or answers=".join(allowed)
            )
        return cls(
            provider=provider,  # type: ignore[arg-type]
            name=name.strip(),
            adapter=options.get("adapter", "").strip(),
            answers=answers,  # type: ignore[arg-type]
        )


def spec_identity(text: str) -> str:
    """A seat or model spec as it is stored: a GGUF file by its content, anything else as it is.

    Where a file lies says nothing about what it answers, and another file may lie there tomorrow.

    Raises:
        ConfigurationError: the spec is wrong, or names a file that is not there.
    """
    if not text.strip().startswith("local:"):
        return text
    spec = ModelSpec.parse(text)
    if _STORED.fullmatch(spec.name):
        return text
    from mentalarena.local_model import file_sha256, named_file

    options = "" if spec.answers == _ANSWERS["local"] else f",answers={spec.answers}"
    return f"local:sha256-{file_sha256(named_file(spec.name))}{options}"


def server_url(base_url: str = "") -> str:
    """The server of ``openai:`` models: the argument, OPENAI_BASE_URL, or OpenAI's own.

    Raises:
        ConfigurationError: not an http or https address.
    """
    url = base_url or os.environ.get("OPENAI_BASE_URL", "") or OPENAI_URL
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username
    except ValueError:
        usable = False
    if not usable:
        # A user and password in the address are refused: the key goes into OPENAI_API_KEY.
        raise ConfigurationError(
            f"base_url {shown_url(url)!r} must be an http(s) address, e.g. http://localhost:8000/v1"
        )
    return url.rstrip("/")


def shown_url(url: str) -> str:
    """An address fit for a message: without user, password, query or fragment."""
    return re.sub(r"^([a-z]+://)?[^/@]*@", r"\1", url.split("?")[0].split("#")[0])


def api_key(base_url: str = "") -> str:
    """The key for ``openai:`` models, from OPENAI_API_KEY.

    Raises:
        ConfigurationError: no key, and the server is OpenAI's own.
    """
    key = os.environ.get("OPENAI_API_KEY", "").strip()
    if key:
        return key
    if server_url(base_url) != OPENAI_URL:
        return _NO_KEY
    raise ConfigurationError(
        "openai: models need a key or a server: set OPENAI_API_KEY, or give --base-url "
        "(OPENAI_BASE_URL) of any OpenAI-compatible server"
    )


def require(package: str, install: str) -> None:
    """Check that a package is installed, without importing it.

    Args:
        package: Its import name.
        install: What to give pip for it.

    Raises:
        MissingExtraError: it is not; the message carries the pip line.
    """
    if importlib.util.find_spec(package) is None:
        raise MissingExtraError(f"{package} is not installed; run: pip install '{install}'")


def check_model(spec: ModelSpec, base_url: str = "") -> None:
    """Cheap validation of a model: key, packages and paths; loads nothing, opens no connection.

    Raises:
        ConfigurationError: something is missing; the message says how to get it.
    """
    if spec.provider == "openai":
        require("langchain_openai", "langchain-openai")
        api_key(base_url)
    elif spec.provider == "local":
        from mentalarena.local_model import named_file

        require("langchain_openai", "langchain-openai")
        require("xllamacpp", "mentalarena[local]")
        named_file(spec.name)
    else:
        for package in ("langchain_huggingface", "transformers", "torch"):
            require(package, package.replace("_", "-"))
        # ``owner/name`` may be a hub name; anything else that is not there cannot be one.
        if not Path(spec.name).expanduser().exists() and not re.fullmatch(
            r"[\w.-]+(/[\w.-]+)?", spec.name
        ):
            raise ConfigurationError(f"huggingface model: no such folder: {spec.name}")
        if spec.adapter:
            require("peft", "mentalarena[train]")
            if not (Path(spec.adapter).expanduser() / "adapter_config.json").is_file():
                raise ConfigurationError(
                    f"huggingface adapter: {spec.adapter} holds no adapter_config.json; "
                    "give the folder that the fine-tuning wrote"
                )


def chat_model(
    spec: ModelSpec,
    *,
    base_url: str = "",
    temperature: float = 0.7,
    max_tokens: int = 512,
    timeout: float = 120.0,
    seed: int | None = None,
) -> "BaseChatModel":
    """The chat model of a spec. Loads weights or starts the bundled server where needed.

    An ``openai:`` or ``local`` model belongs to the event loop it first runs in: its connections
    die with the loop, so build one per loop.

    Args:
        spec: What to build.
        base_url: Server of an ``openai:`` model; empty for OPENAI_BASE_URL or OpenAI's own.
        temperature: Sampling temperature; 0 is greedy.
        max_tokens: Longest answer, tokens.
        timeout: Seconds after which one request is given up.
        seed: Sampling seed sent with every request, where the caller gives none of its own.

    Raises:
        ConfigurationError: no key, no such path, no chat template.
        MissingExtraError: a package is not installed.
    """
    check_model(spec, base_url)
    if spec.provider == "huggingface":
        from mentalarena.huggingface import load

        return load(spec, temperature=temperature, max_tokens=max_tokens, timeout=timeout)
    url, key, name = server_url(base_url), "", spec.name
    sampling: dict[str, float | int] = {}
    if spec.provider == "local":
        from mentalarena.local_model import SAMPLING, local_server, model_name

        server = local_server(spec.name)
        sampling = SAMPLING
        url, key, name = server.url, server.key, model_name(spec.name)
    else:
        key = api_key(base_url)
    from pydantic import SecretStr

    from mentalarena.fast_client import client_class
    from mentalarena.http_transport import http_client

    # Compatible servers know max_tokens; OpenAI's newer models accept only its successor.
    limit = {"max_completion_tokens": max_tokens}
    if url != OPENAI_URL:
        limit = {"max_tokens": max_tokens}
    return client_class()(
        model=name,
        base_url=url,
        api_key=SecretStr(key),
        temperature=temperature,
        extra_body={**sampling, **limit},
        timeout=timeout,
        max_retries=0,
        seed=seed,
        use_responses_api=False,
        # The package's shared client would be reused by the next event loop and fail there; a
        # proxy from the environment must not stand between us and our own loopback server.
        http_async_client=http_client(url, timeout, trust_env=spec.provider != "local"),
    )
