"""The model to fine-tune: tokenizer and weights, from transformers or from the bundled GGUF.

Why: the bundled model comes as a quantized GGUF. transformers reads it, but what it reads counts as
quantized and can be neither trained nor saved; so the weights are put into a fresh model of the
same shape once, and kept beside the checksum of the file they came from.
"""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from mentalarena.errors import ConfigurationError
from mentalarena.local_model import MODEL_SHA256, verified_model
from training.recipe import Recipe


def cache_folder() -> Path:
    """Where unpacked weights are kept: ``MENTALARENA_CACHE``, else the user's cache folder."""
    given = os.environ.get("MENTALARENA_CACHE", "")
    if given:
        return Path(given).expanduser()
    root = os.environ.get("XDG_CACHE_HOME", "") or "~/.cache"
    return Path(root).expanduser() / "mentalarena"


def unpacked_model() -> Path:
    """A folder with the bundled model as transformers loads it; made on first use, about a minute.

    Raises:
        MissingExtraError: the model's package is not installed.
        ConfigurationError: the folder cannot be written.
    """
    source = verified_model()
    folder = cache_folder() / f"smollm2-135m-{MODEL_SHA256[:12]}"
    if (folder / "config.json").is_file():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    except OSError as error:
        raise ConfigurationError(
            f"the model cannot be unpacked to {folder} ({error.strerror}): set MENTALARENA_CACHE "
            "to a folder that can be written"
        ) from error
    try:
        _unpack(source, made)
        if not folder.exists():
            made.replace(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _unpack(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    where = {"gguf_file": source.name}
    read = AutoModelForCausalLM.from_pretrained(str(source.parent), dtype=torch.float32, **where)
    weights = {name: tensor.detach().clone() for name, tensor in read.state_dict().items()}
    settings = read.config.to_dict()
    settings.pop("quantization_config", None)
    fresh = AutoModelForCausalLM.from_config(type(read.config).from_dict(settings))
    fresh.load_state_dict(weights)
    tokenizer = AutoTokenizer.from_pretrained(str(source.parent), **where)
    tokenizer.save_pretrained(folder)
    fresh.save_pretrained(folder)


def model_path(recipe: Recipe) -> str:
    """What transformers loads for a recipe: a folder or a hub name."""
    if recipe.model == "local":
        return str(unpacked_model())
    path = Path(recipe.model).expanduser()
    return str(path) if path.exists() else recipe.model


def quantization(recipe: Recipe) -> Any:
    """How frozen weights are kept; None for as they are."""
    if recipe.quantize == "none":
        return None
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, recipe.dtype),
    )


def load_tokenizer(path: str) -> Any:
    """The tokenizer of a model.

    Raises:
        ConfigurationError: it cannot be loaded, or has no chat template.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigurationError(_unloadable(path, error)) from error
    if not tokenizer.chat_template:
        raise ConfigurationError(
            f"model {path}: its tokenizer has no chat template; use an instruction-tuned model"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_model(path: str, recipe: Recipe) -> Any:
    """The weights of a model, frozen as the recipe says.

    Raises:
        ConfigurationError: they cannot be loaded here.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if recipe.quantize != "none" and not torch.cuda.is_available():
        raise ConfigurationError(
            f"quantize = {recipe.quantize!r} needs a CUDA GPU, and there is none here: take the "
            'recipe smollm2-cpu, or set quantize = "none"'
        )
    # Without a GPU the weights stay as exact as the adapter: autocast computes in bfloat16.
    dtype = getattr(torch, recipe.dtype) if torch.cuda.is_available() else torch.float32
    settings: dict[str, Any] = {"dtype": dtype}
    kept = quantization(recipe)
    if kept is not None:
        settings |= {"quantization_config": kept, "device_map": {"": 0}}
    try:
        return AutoModelForCausalLM.from_pretrained(path, **settings)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigurationError(_unloadable(path, error)) from error


def computed_in(trainer: Any) -> dict[str, str]:
    """What a trainer's products are computed in, and what its weights are kept in."""
    kept = {
        kind: sorted({str(p.dtype).removeprefix("torch.") for p in found})
        for kind, found in (
            ("frozen", [p for p in trainer.model.parameters() if not p.requires_grad]),
            ("adapter", [p for p in trainer.model.parameters() if p.requires_grad]),
        )
    }
    found = {kind: ", ".join(names) for kind, names in kept.items()}
    autocast = trainer.accelerator.mixed_precision
    return {
        "device": trainer.args.device.type,
        "autocast": {"bf16": "bfloat16", "fp16": "float16"}.get(autocast, "no"),
        **found,
    }


def _unloadable(path: str, error: Exception) -> str:
    return f"model {path} cannot be loaded: {' '.join(str(error).split())[:200]}"
