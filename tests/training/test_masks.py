"""The loss is on the answer and its end, never on the prompt; shown on the trainer's batches."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mentalarena.errors import ConfigurationError
from training import tiny_models
from training.answer_loss import answer_loss
from training.base_model import load_model, load_tokenizer
from training.lora import Job, make_trainer
from training.masks import IGNORED, check_mask, encode_rows, shuffled_targets, spread
from training.recipe import read_recipe


def row(number: int, prompt: str = "What do you plan?", answer: str = "name: rest") -> Any:
    return {
        "id": str(number), "task": f"task{number % 2}",
        "prompt": [{"role": "system", "content": "You help."}, {"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": f"{answer} {number}"}],
    }  # fmt: skip


@pytest.fixture(scope="module", params=["chatml", "llama3"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def tokenizer(form: str) -> Any:
    return tiny_models.tokenizer(form)


def learned(encoded: Any) -> list[int]:
    return [label for label in encoded["labels"] if label != IGNORED]


def test_the_answer_and_its_end_are_learned_and_the_prompt_is_not(tokenizer: Any) -> None:
    rows = [row(n) for n in range(5)]
    found = encode_rows(tokenizer, rows, 512)
    assert (found.cut, found.too_long) == (0, [])
    for one, encoded in zip(rows, found.rows, strict=True):
        ids = learned(encoded)
        assert tokenizer.decode(ids[:-1]) == one["completion"][0]["content"]
        assert ids[-1] == tokenizer.eos_token_id
        asked = encoded["input_ids"][: -len(ids)]
        assert set(encoded["labels"][: len(asked)]) == {IGNORED}
        assert tokenizer.decode(asked) == tokenizer.apply_chat_template(
            one["prompt"], tokenize=False, add_generation_prompt=True
        )


def test_truncation_takes_from_the_prompt_and_never_empties_a_mask(tokenizer: Any) -> None:
    rows = [row(1, "long " * 300, "an answer"), row(2, answer="word " * 300)]
    found = encode_rows(tokenizer, rows, 64)
    (kept,) = found.rows
    assert found.cut == 1
    assert found.too_long == ["2"]
    assert len(kept["input_ids"]) == 64
    assert tokenizer.decode(learned(kept)[:-1]) == "an answer 1"
    assert learned(kept)[-1] == tokenizer.eos_token_id


def test_batches_of_the_real_trainer_carry_these_masks(form: str, tmp_path: Path) -> None:
    path = str(tiny_models.save_model(tmp_path / "model", form))
    recipe = replace(read_recipe("smollm2-cpu"), model=path)
    tokenizer, model = load_tokenizer(path), load_model(path, recipe)
    rows = [row(n, "Why so? " * (1 + n % 4)) for n in range(6)]
    found = encode_rows(tokenizer, rows, 256)
    job = Job(tmp_path, tmp_path / "out", recipe)
    trainer = make_trainer(job, model, tokenizer, found, found)
    answers = {one["completion"][0]["content"] for one in rows}
    seen = set()
    for batch in trainer.get_train_dataloader():
        assert batch["input_ids"].shape == batch["labels"].shape
        for ids, labels, there in zip(
            batch["input_ids"], batch["labels"], batch["attention_mask"], strict=True
        ):
            kept = labels != IGNORED
            assert kept.any()
            assert bool((ids[kept] == labels[kept]).all())
            text = tokenizer.decode(labels[kept][:-1])
            seen.add(text)
            assert int(labels[kept][-1]) == tokenizer.eos_token_id
            assert not kept[there == 0].any(), "padding is not learned"
            before = tokenizer.decode(ids[~kept & (there == 1)])
            assert "Why so?" in before
            assert text not in before
    assert seen == answers


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([IGNORED] * 4, "empty loss mask"),
        ([5, 6, 7, 2], "not its answer alone, after a prompt"),
        ([IGNORED, 6, IGNORED, 2], "not its answer alone"),
        ([IGNORED, 6, 7, IGNORED], "not its answer alone"),
        ([IGNORED, IGNORED, 9, 2], "labels are not its tokens"),
    ],
)
def test_a_wrong_mask_is_refused(labels: list[int], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_mask({"input_ids": [5, 6, 7, 2], "labels": labels}, {2})
    with pytest.raises(ConfigurationError, match="leaves the end token out"):
        check_mask({"input_ids": [5, 6, 7], "labels": [IGNORED, 6, 7]}, {2})
    check_mask({"input_ids": [5, 6, 7, 2], "labels": [IGNORED, 6, 7, 2]}, {2})


def test_a_template_without_an_end_or_that_rewrites_is_refused() -> None:
    found = tiny_models.tokenizer("chatml")
    found.chat_template = tiny_models.CHATML.replace("<|im_end|>", "")
    with pytest.raises(ConfigurationError, match="no token that would stop the model"):
        encode_rows(found, [row(1)], 128)
    found.chat_template = "{{ messages | length }}" + tiny_models.CHATML
    with pytest.raises(ConfigurationError, match="renders the prompt otherwise"):
        encode_rows(found, [row(1)], 128)


def test_the_control_keeps_tasks_and_answers_and_no_pair() -> None:
    rows = [row(n) for n in range(20)]
    control = shuffled_targets(rows, 3)
    assert control == shuffled_targets(rows, 3)
    assert control != shuffled_targets(rows, 4)
    for task in ("task0", "task1"):
        before = [r["completion"] for r in rows if r["task"] == task]
        after = [r["completion"] for r in control if r["task"] == task]
        key = str
        assert sorted(before, key=key) == sorted(after, key=key)
    assert all(a["completion"] != b["completion"] for a, b in zip(rows, control, strict=True))
    assert [r["prompt"] for r in rows] == [r["prompt"] for r in control]


def test_dev_rows_are_spread_over_tasks() -> None:
    rows = [{"task": "many", "n": n} for n in range(50)] + [{"task": "few", "n": n} for n in (1, 2)]
    found = spread(rows, 10, 0)
    assert [r["task"] for r in found].count("few") == 2
    assert len(found) == 10
    assert spread(rows, 0, 0) == rows


def test_the_loss_and_its_gradient_are_those_of_trl(form: str, tmp_path: Path) -> None:
    import torch
    from trl import SFTTrainer

    path = str(tiny_models.save_model(tmp_path / "model", form))
    recipe = replace(read_recipe("smollm2-cpu"), model=path, dtype="float32", batch_size=3)
    tokenizer, model = load_tokenizer(path), load_model(path, recipe)
    # Answers of unlike length under prompts of unlike length: no two columns are the same.
    rows = [row(n, "Why so? " * (1 + n), "rest " * (9 - 3 * n)) for n in range(3)]
    found = encode_rows(tokenizer, rows, 512)
    trainer = make_trainer(Job(tmp_path, tmp_path / "out", recipe), model, tokenizer, found, found)
    (batch,) = trainer.get_train_dataloader()
    trained = [p for p in trainer.model.parameters() if p.requires_grad]

    wide: list[int] = []
    head = trainer.model.get_output_embeddings()
    head.register_forward_hook(lambda module, given, logits: wide.append(logits.shape[1]))

    def told(loss_of: Any) -> tuple[float, list[Any]]:
        trainer.model.zero_grad()
        loss = loss_of()
        loss.backward()
        return loss.item(), [p.grad.clone() for p in trained if p.grad is not None]

    for items in (torch.tensor(40), None):
        ours = told(lambda items=items: answer_loss(trainer.model, batch, items))
        theirs = told(
            lambda items=items: SFTTrainer.compute_loss(
                trainer, trainer.model, dict(batch), False, items
            )
        )
        assert ours[0] == pytest.approx(theirs[0], abs=1e-5)
        assert ours[1]
        assert any(gradient.abs().max() > 0 for gradient in ours[1])
        for one, other in zip(ours[1], theirs[1], strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-3)
    # The head saw no more than the columns that hold answers; trl's does not go through it.
    columns = (batch["labels"][:, 1:] != IGNORED).any(dim=0).sum().item()
    assert wide == [columns] * 2
    assert columns < batch["labels"].shape[1] - 20
    trainer.compute_loss(trainer.model, dict(batch), False, torch.tensor(40))
    assert len(wide) == 3, "the trainer takes this loss"
