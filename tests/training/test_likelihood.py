"""Prompts are the harness's own, and likelihoods are those of the model."""

import os
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"

from mentalarena.models import ModelSpec
from tests.agents.test_huggingface import adapter, base
from training.likelihood import scorer
from training.tasks.catalog import TASKS, load
from training.tasks.items import Question
from training.tasks.prompts import continuations, plain, prompts_hash
from training.tasks.readers import read_records

__all__ = ["adapter", "base"]

SETS = Path(__file__).parents[2] / "examples" / "questions"


def harness_file(*parts: str) -> Path:
    import lm_eval.tasks

    return Path(lm_eval.tasks.__file__).parent.joinpath(*parts)


def harness_function(*parts: str) -> Any:
    import runpy

    return runpy.run_path(str(harness_file(*parts)))["doc_to_text"]


def test_plain_prompts_are_those_of_the_harness_word_for_word() -> None:
    records = {
        name: read_records(SETS / f"{name}.jsonl") for name in ("medqa", "medmcqa", "pubmedqa")
    }
    medqa = harness_function("medqa", "preprocess_medqa.py")
    medmcqa = harness_function("medmcqa", "utils_medmcqa.py")
    pubmedqa = harness_function("pubmedqa", "preprocess_pubmedqa.py")
    for record, item in zip(records["medqa"], load("medqa", str(SETS), "test").items, strict=True):
        options = list(record["options"].values())
        form = {"sent1": record["question"]} | {f"ending{n}": o for n, o in enumerate(options)}
        assert plain(item, TASKS["medqa"].style) == medqa(form)
    for record, item in zip(
        records["medmcqa"], load("medmcqa", str(SETS), "test").items, strict=True
    ):
        assert plain(item, TASKS["medmcqa"].style) == medmcqa(record)
    for record, item in zip(
        records["pubmedqa"], load("pubmedqa", str(SETS), "test").items, strict=True
    ):
        assert plain(item, TASKS["pubmedqa"].style) == pubmedqa(record)


def test_mmlu_prompts_are_those_of_the_harness() -> None:
    import jinja2
    import yaml

    folder = harness_file("mmlu", "default")
    text = (folder / "_default_template_yaml").read_text("utf-8")
    template = yaml.safe_load(text)["doc_to_text"]
    about = yaml.safe_load((folder / "mmlu_professional_psychology.yaml").read_text("utf-8"))
    loaded = load("mmlu_professional_psychology", str(SETS), "test")
    for item in loaded.items:
        wanted = jinja2.Template(template).render(question=item.question, choices=item.options)
        made = plain(item, loaded.task.style, loaded.task.subject)
        assert made == about["description"] + wanted
        assert continuations(item, loaded.task.style) == (" A", " B", " C", " D")


def test_a_changed_prompt_is_another_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    before = prompts_hash()
    assert before == prompts_hash()
    monkeypatch.setattr("training.tasks.prompts.SYSTEM", "Guess.")
    assert prompts_hash() != before


def test_turned_options_are_shown_turned() -> None:
    item = load("medqa", str(SETS), "test").items[0]
    shown = Question(item, 1).shown
    assert f"A. {item.options[1]}\n" in plain(shown, "question")


def by_hand(folder: str, prompt: str, continuation: str, adapter_folder: str = "") -> float:
    """The log-likelihood, straight from the weights."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    if adapter_folder:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter_folder)
    whole = tokenizer(prompt + continuation, return_tensors="pt")["input_ids"]
    count = len(tokenizer(continuation, add_special_tokens=False)["input_ids"])
    with torch.no_grad():
        told = torch.log_softmax(model(whole).logits[0, :-1].float(), dim=-1)
    tokens = whole[0, 1:]
    return float(sum(told[n, tokens[n]] for n in range(len(tokens) - count, len(tokens))))


def test_likelihoods_are_those_of_the_weights_with_and_without_an_adapter(
    base: str, adapter: str
) -> None:
    prompts = [("Question: why?\nAnswer:", (" yes", " no")), ("Q: x\nA:", (" A", " B", " C"))]
    for spec, more in (
        (f"huggingface:{base}", ""),
        (f"huggingface:{base},adapter={adapter}", adapter),
    ):
        found = scorer(ModelSpec.parse(spec), 60).scores(prompts)
        for (prompt, words), scores in zip(prompts, found, strict=True):
            wanted = [by_hand(base, prompt, word, more) for word in words]
            assert scores == pytest.approx(wanted, abs=1e-3)


@pytest.mark.slow
def test_the_bundled_models_server_tells_likelihoods() -> None:
    from training.likelihood import LIKELY, LlamaClient

    found = scorer(ModelSpec.parse("local"), 120)
    capital = "Question: What is the capital of France?\nAnswer:"
    ((paris, berlin, odd),) = found.scores([(capital, (" Paris", " Berlin", " zygote gloves"))])
    assert odd < berlin < paris < 0
    client: LlamaClient = found._model._server
    tokens = client.tokens(capital)
    listed = client.next_tokens(tokens, client.tokens(" Paris")[0])
    assert len(listed) == LIKELY
    # A word of several tokens is the sum of its steps, however unlikely.
    steps, total = client.tokens(" zygote gloves"), 0.0
    for place, token in enumerate(steps):
        total += client.next_tokens([*tokens, *steps[:place]], token)[token]
    assert odd == pytest.approx(total, abs=0.05)
    assert len(steps) > 1


def test_a_gguf_file_is_known_by_its_content(tmp_path: Path) -> None:
    from training.candidates import candidate

    found = []
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
        spec = f"local:{tmp_path / name}"
        one = candidate(spec, "auto", base_url="", timeout=1, concurrency=1, seed=0)
        assert one.scoring == "likelihood"
        found.append(one.identity())
    assert found[0] == found[1]
    assert str(found[0]["model"]).startswith("local:sha256-")
