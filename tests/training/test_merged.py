"""Weights reach llama.cpp under the right names and in its order of rows."""

import json
from pathlib import Path

import numpy as np
import pytest

from mentalarena.errors import ConfigurationError, ProviderError
from training.merged import check, interleaved, merge, write_gguf


def test_rotary_halves_become_neighbors() -> None:
    # Two heads of four rows: first half 0 1, second half 2 3.
    values = np.arange(8, dtype=np.float32).reshape(8, 1)
    assert interleaved(values, 2).ravel().tolist() == [0, 2, 1, 3, 4, 6, 5, 7]


def test_only_a_finished_run_on_the_bundled_model_is_merged(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"holds no readable run\.json"):
        merge(tmp_path)
    record = {"status": "begun", "identity": {"recipe": {"model": "local"}}}
    (tmp_path / "run.json").write_text(json.dumps(record), "utf-8")
    with pytest.raises(ConfigurationError, match="not a finished run on the model `local`"):
        merge(tmp_path)


@pytest.mark.slow
def test_llama_cpp_serves_what_was_trained(tmp_path: Path) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    from training.base_model import unpacked_model

    model = AutoModelForCausalLM.from_pretrained(str(unpacked_model()), dtype="float32")
    write_gguf(model, tmp_path / "before.gguf")
    check(model, tmp_path / "before.gguf")
    torch.manual_seed(1)
    config = LoraConfig(
        r=8, lora_alpha=16, target_modules="all-linear", init_lora_weights=False,
        task_type="CAUSAL_LM",
    )  # fmt: skip
    tuned = get_peft_model(model, config)
    for name, weights in tuned.named_parameters():
        if "lora_B" in name:
            weights.data.mul_(0.15)
    merged = tuned.merge_and_unload().eval()
    write_gguf(merged, tmp_path / "after.gguf")
    found = check(merged, tmp_path / "after.gguf")
    assert found.same_choice >= 0.75 * found.places
    # The check tells the trained model from the untrained one.
    with pytest.raises(ProviderError, match="does not say what was trained"):
        check(merged, tmp_path / "before.gguf")
