"""``huggingface:`` seats on a tiny random model and adapter that the test builds, offline."""

import os
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from agents import registry
from agents.seats import JudgeSeat, PatientSeat, TherapistSeat
from mentalarena.config import ArenaConfig
from mentalarena.errors import ConfigurationError
from mentalarena.models import ModelSpec
from mentalarena.provider import ModelClient
from tests.agents.support import (
    JUDGE_VIEW,
    PATIENT_VIEW,
    THERAPIST_VIEW,
    MemoryJournal,
    place,
)

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}"
MESSAGES = [
    {"role": "system", "content": "You are a patient."},
    {"role": "user", "content": "Speak."},
]


def build(folder: Path, template: str | None = TEMPLATE) -> str:
    """A two-layer Llama with random weights and a byte-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    vocabulary = {token: index for index, token in enumerate(specials + alphabet)}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    # As Llama's tokenizers do: a start token is put in front of every text.
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="<|end|>",
        pad_token="<|end|>",
        extra_special_tokens=specials[2:],
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=16384,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return build(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def adapter(base: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(base),
        LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"]),
    )
    torch.manual_seed(1)
    for name, weights in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weights, std=1.0)
    folder = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(folder)
    return str(folder)


def client(spec: str, temperature: float = 0.0, max_tokens: int = 12) -> ModelClient:
    return ModelClient(
        ModelSpec.parse(spec),
        base_url="",
        temperature=temperature,
        max_tokens=max_tokens,
        timeout=60,
    )


async def test_an_answer_is_counted_and_repeats(base: str) -> None:
    model = client(f"huggingface:{base}")
    first = await model.answer(MESSAGES)
    # Special tokens of the template once each, every character a token, no second start token.
    characters = len(MESSAGES[0]["content"]) + len(MESSAGES[1]["content"])
    assert first.prompt_tokens == characters + 5
    assert 1 <= first.completion_tokens <= 12
    assert first.truncated is (first.completion_tokens == 12)
    assert "You are a patient." not in first.text
    assert (await model.answer(MESSAGES)).text == first.text


async def test_a_seed_decides_the_draw(base: str) -> None:
    model = client(f"huggingface:{base}", temperature=1.0)
    one, same, other = [(await model.answer(MESSAGES, seed=seed)).text for seed in (1, 1, 2)]
    assert one == same != other


async def test_an_adapter_changes_the_answers(base: str, adapter: str) -> None:
    plain = await client(f"huggingface:{base}").answer(MESSAGES)
    tuned = await client(f"huggingface:{base},adapter={adapter}").answer(MESSAGES)
    assert tuned.text != plain.text
    assert adapter in tuned.resolved_model


async def test_a_template_without_a_system_role_gets_it_in_the_user_message(
    base: str, tmp_path: Path
) -> None:
    folder = build(tmp_path, NO_SYSTEM + TEMPLATE)
    reply = await client(f"huggingface:{folder}").answer(MESSAGES)
    characters = len(MESSAGES[0]["content"]) + len(MESSAGES[1]["content"]) + len("\n\n")
    assert reply.prompt_tokens == characters + 3


async def test_a_model_without_template_or_weights_is_one_clear_line(
    base: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="chat template"):
        await client(f"huggingface:{build(tmp_path / 'bare', None)}").answer(MESSAGES)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="cannot be loaded") as caught:
        await client(f"huggingface:{tmp_path / 'empty'}").answer(MESSAGES)
    assert "\n" not in str(caught.value)


async def test_seats_play_on_a_model_that_says_nothing_readable(base: str, adapter: str) -> None:
    config = ArenaConfig(answer_tokens=16, temperature=1.0)
    spec = f"huggingface:{base},adapter={adapter}"
    patient, therapist, judge = (
        registry.seat(role, spec, config) for role in ("patient", "therapist", "judge")
    )
    assert isinstance(patient, PatientSeat)
    assert isinstance(therapist, TherapistSeat)
    assert isinstance(judge, JudgeSeat)
    journal = MemoryJournal()
    assert (await patient.speak(PATIENT_VIEW, place(journal, "p"))).value.text
    formulation = await therapist.formulate(THERAPIST_VIEW, place(journal, "t"))
    assert formulation.value.is_empty()
    score = await judge.score(JUDGE_VIEW, place(journal, "j"), 0)
    assert score.value is None
    assert len(score.failures) == 3
