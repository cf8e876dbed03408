"""A trained adapter made playable: merged, beside its weights, or by name on a running server.

Why: what is measured has to be what was trained. A merged file is compared with the adapter, and a
server that was asked to load one must list its name afterwards.
"""

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from mentalarena.errors import ConfigurationError, ProviderError
from mentalarena.models import ModelSpec, api_key, server_url
from training.run_folder import ADAPTER, file_hash
from training.selfplay.recipe import Serve


class Served(NamedTuple):
    """A model that can take a seat."""

    spec: str
    """Seat spec."""
    sha256: str
    """Of the file that is played, or of the adapter."""
    check: str
    """What showed that it is the trained one."""


def serve(
    how: Serve, model: str, tuned: Path, merged: Path, name: str, base_url: str, timeout: float
) -> Served:
    """Make what a fine-tuning wrote playable.

    Args:
        how: See :class:`training.selfplay.recipe.LoopRecipe`.
        model: Seat spec that the loop began with.
        tuned: Folder of the fine-tuning.
        merged: Where a merged file goes.
        name: By which a server is to know the adapter.
        base_url: The server.
        timeout: Seconds that it may take to load it.

    Raises:
        ConfigurationError: the model cannot be served that way.
        ProviderError: the file does not say what was trained, or the server refused it.
    """
    spec = ModelSpec.parse(model)
    wanted = {"merge": "local", "adapter": "huggingface", "server": "openai"}[how]
    if spec.provider != wanted:
        raise ConfigurationError(
            f"serve = {how!r} is for {wanted} models, and --model is {model}: take another recipe"
        )
    adapter = tuned / ADAPTER
    weights = file_hash(adapter / "adapter_model.safetensors")
    if how == "merge":
        return _merged(tuned, merged)
    if how == "adapter":
        found = f"huggingface:{spec.name},adapter={adapter},answers={spec.answers}"
        return Served(found, weights, "the adapter's own weights")
    load_adapter(server_url(base_url), name, adapter.resolve(), timeout)
    return Served(f"openai:{name},answers={spec.answers}", weights, "listed by the server")


def _merged(tuned: Path, out: Path) -> Served:
    from training.merged import check, merge, write_gguf

    model = merge(tuned)
    write_gguf(model, out)
    found = check(model, out)
    return Served(
        f"local:{out}",
        file_hash(out),
        f"log-probabilities differ by {found.mean:.3f} nats at {found.places} places",
    )


def load_adapter(url: str, name: str, folder: Path, timeout: float) -> None:
    """Have a vLLM server load an adapter under a name; one that it has already stays.

    The server reads the folder itself, so it must see the same disk; it allows this only with
    ``VLLM_ALLOW_RUNTIME_LORA_UPDATING=True`` and ``--enable-lora``.

    Raises:
        ProviderError: it does not do so; the message says what it answered.
    """
    if name in _models(url, timeout):
        return
    body = {"lora_name": name, "lora_path": str(folder)}
    _ask(f"{url}/load_lora_adapter", body, timeout)
    if name not in _models(url, timeout):
        raise ProviderError(
            f"{url} took the adapter {name} and does not list it among its models", fatal=True
        )


def _models(url: str, timeout: float) -> set[str]:
    listed = json.loads(_ask(f"{url}/models", None, timeout) or "{}")
    return {str(one.get("id")) for one in listed.get("data", [])}


def _ask(address: str, body: dict[str, Any] | None, timeout: float) -> str:
    request = urllib.request.Request(
        address,
        None if body is None else json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {api_key(address)}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return str(answer.read().decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        said = error.read(400).decode("utf-8", "replace")
        hint = ""
        if error.code in (404, 405):
            hint = (
                "; start vLLM with --enable-lora and VLLM_ALLOW_RUNTIME_LORA_UPDATING=True, which "
                "let it load adapters while it runs"
            )
        raise ProviderError(f"{address} answered {error.code}: {said}{hint}", fatal=True) from error
    except (OSError, ValueError) as error:
        raise ProviderError(f"{address} does not answer: {error}", fatal=True) from error
