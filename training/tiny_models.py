"""Models of the right architecture with random weights, small enough to train in seconds.

Why: the whole path of training can be walked, in tests and by ``mentalarena selfplay --smoke``,
without a model that has learned anything.
"""

from pathlib import Path
from typing import Any

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""The form of SmolLM2's template: a line break after the end token."""
LLAMA3 = (
    "{{ '<|begin_of_text|>' }}{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + "
    "'<|end_header_id|>\n\n' + m['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
"""The form of Llama 3's."""

SPECIAL = {
    "chatml": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
    "llama3": [
        "<|end_of_text|>", "<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
        "<|eot_id|>",
    ],
}  # fmt: skip


def tokenizer(form: str) -> Any:
    """A byte-level tokenizer with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=SPECIAL[form], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(["the plan that fits this patient, and why it fits"] * 4, trainer)
    end = "<|im_end|>" if form == "chatml" else "<|eot_id|>"
    found = PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token=end, pad_token=SPECIAL[form][0],
        additional_special_tokens=SPECIAL[form],
    )  # fmt: skip
    found.chat_template = CHATML if form == "chatml" else LLAMA3
    return found


def save_model(folder: Path, form: str = "chatml") -> Path:
    """A Llama with two layers; tied embeddings as SmolLM2, or apart as the 8B models."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    found = tokenizer(form)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(found), hidden_size=48, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=4096,
        tie_word_embeddings=form == "chatml", eos_token_id=found.eos_token_id,
        pad_token_id=found.pad_token_id, bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    found.save_pretrained(folder)
    return folder
