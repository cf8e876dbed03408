"""A trained adapter as one GGUF file, served by llama.cpp and compared with what was trained.

Why: the bundled model plays through llama.cpp, many times faster than through transformers on a
CPU. The adapter is merged into the weights, which are written in 8 bits under the names and the
metadata of the bundled file; then both are asked for the same next tokens, because a tensor that
was written transposed or under a wrong name still makes words.

Run it: ``python -m training.merged TUNED --out FILE.gguf``, on what ``training.lora`` wrote with
the model ``local``. Needs ``mentalarena[train,local]``.
"""

import json
import math
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from mentalarena.errors import ConfigurationError, ProviderError
from mentalarena.flags import option
from mentalarena.local_model import LocalServer, serve, verified_model
from mentalarena.models import require
from training.base_model import unpacked_model
from training.run_folder import ADAPTER, RECORD

TOLERANCE = 0.1
"""Nats by which log-probabilities of the likeliest tokens may differ on average: 8-bit rounding
of the untrained model makes 0.07."""
PROMPTS = (
    "What brings you here today?",
    "I have not slept for a week, and I keep thinking that it is my fault.",
    "What went through your mind when she left the room?",
    "They said that I could go, but I stayed until everybody else had gone home.",
)
"""What both are asked to go on with; each at several places."""
TOP = 5


class Difference(NamedTuple):
    """How far two models are apart on the same next tokens."""

    places: int
    same_choice: int
    """Places at which both find the same token likeliest."""
    mean: float
    """Mean difference of log-probabilities of the :data:`TOP` likeliest tokens, nats."""
    worst: float


def merge(tuned: Path) -> Any:
    """The bundled model with a run's adapter in its weights.

    Raises:
        ConfigurationError: the folder holds no finished run on the bundled model.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    try:
        record = json.loads((tuned / RECORD).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(
            f"{tuned} holds no readable {RECORD}: name a folder that training.lora wrote"
        ) from error
    if record["status"] != "done" or record["identity"]["recipe"]["model"] != "local":
        raise ConfigurationError(
            f"{tuned} is not a finished run on the model `local`: only that one has a GGUF to "
            "write into"
        )
    model = AutoModelForCausalLM.from_pretrained(str(unpacked_model()), dtype="float32")
    merged = PeftModel.from_pretrained(model, str(tuned / ADAPTER)).merge_and_unload()
    return merged.eval()


def write_gguf(model: Any, out: Path) -> None:
    """Write a model's weights in 8 bits, with the metadata and tokenizer of the bundled file."""
    import gguf

    source = gguf.GGUFReader(str(verified_model()))
    beside = out.with_name(f".{out.name}")
    writer = gguf.GGUFWriter(str(beside), "llama")
    for item in source.fields.values():
        if item.name.startswith("GGUF.") or item.name == "general.architecture":
            continue
        if item.name == "general.file_type":
            writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
            continue
        inner = item.types[-1] if item.types[0] == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(item.name, item.contents(), item.types[0], sub_type=inner)
    names = [tensor.name for tensor in source.tensors]
    eight = gguf.GGMLQuantizationType.Q8_0
    for name, values in _tensors(model, names):
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, eight), raw_dtype=eight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    beside.replace(out)


def _tensors(model: Any, names: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """The weights under llama.cpp's names, in the order of the bundled file."""
    import gguf

    config = model.config
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    by_name: dict[str, Any] = {}
    for key, tensor in model.state_dict().items():
        name = table.get_name(key, try_suffixes=(".weight",))
        values = tensor.float().numpy()
        if key.endswith("q_proj.weight"):
            values = interleaved(values, config.num_attention_heads)
        elif key.endswith("k_proj.weight"):
            values = interleaved(values, config.num_key_value_heads)
        by_name[str(name)] = values
    for name in names:
        if name not in by_name:
            raise ConfigurationError(f"the bundled model holds {name}, the trained one does not")
        yield name, by_name[name]


def interleaved(values: Any, heads: int) -> Any:
    """Rows of a query or key projection, as llama.cpp rotates them: pairs side by side.

    transformers keeps the two halves of a head's rotation one after the other.
    """
    rows, columns = values.shape
    halves = values.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def compare(model: Any, tokenizer: Any, server: LocalServer) -> Difference:
    """Ask both for the next token at several places of the prompts."""
    import torch

    places = same = 0
    gaps: list[float] = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0]
        for end in range(2, len(ids) + 1, 3):
            expected = torch.log_softmax(logits[end - 1], dim=-1)
            likeliest = [int(i) for i in expected.topk(TOP).indices]
            found = _next_token(server, ids[:end])
            places += 1
            same += max(found, key=lambda token: found[token]) == likeliest[0]
            gaps += [
                abs(found.get(token, -math.inf) - float(expected[token])) for token in likeliest
            ]
    return Difference(places, same, sum(gaps) / len(gaps), max(gaps))


def _next_token(server: LocalServer, ids: Sequence[int]) -> dict[int, float]:
    """Log-probabilities of the next token at llama.cpp, by token id."""
    body = {"prompt": list(ids), "n_predict": 1, "n_probs": 50, "temperature": 0.0,
            "cache_prompt": False}  # fmt: skip
    request = urllib.request.Request(
        server.url.removesuffix("/v1") + "/completion",
        json.dumps(body).encode(),
        {"Content-Type": "application/json", "Authorization": f"Bearer {server.key}"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        first = json.load(answer)["completion_probabilities"][0]
    return {int(one["id"]): float(one["logprob"]) for one in first["top_logprobs"]}


def check(model: Any, out: Path) -> Difference:
    """Serve the file and compare it with the model it was written from.

    Raises:
        ProviderError: they differ by more than :data:`TOLERANCE`.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(unpacked_model()))
    held, server = serve(out)
    try:
        found = compare(model, tokenizer, server)
    finally:
        del held
    if not found.mean <= TOLERANCE:
        raise ProviderError(
            f"{out} does not say what was trained: the likeliest tokens differ by {found.mean:.3f} "
            f"nats on average, {TOLERANCE} are allowed"
        )
    return found


@click.command("merged")
@click.argument("tuned", type=click.Path(path_type=Path))
@option("--out", default="merged.gguf", show_default=True, metavar="FILE", help="File to write.")
def merged(tuned: Path, out: str) -> None:
    """Merge a trained adapter into the bundled model, write a GGUF file, and check it."""
    for package, install in (("gguf", "train"), ("peft", "train"), ("xllamacpp", "local")):
        require(package, f"mentalarena[{install}]")
    model = merge(tuned)
    path = Path(out)
    write_gguf(model, path)
    found = check(model, path)
    click.echo(
        f"{path}: {path.stat().st_size / 1e6:.0f} MB; of {found.places} next tokens the same "
        f"{found.same_choice} are likeliest, log-probabilities differ by {found.mean:.3f} nats "
        f"(at most {found.worst:.3f})"
    )


if __name__ == "__main__":
    from mentalarena.cli import run_command

    run_command(merged, "python -m training.merged")
