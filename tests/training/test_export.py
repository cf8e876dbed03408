"""Exports are what trainers and providers read, and what they would refuse is refused here."""

import json
from pathlib import Path
from typing import Any

import pytest

from mentalarena.errors import ConfigurationError
from training.export import check_provider_file, export, provider_row, read_jsonl

PROMPT = [{"role": "system", "content": "You are one."}, {"role": "user", "content": "Hello?"}]
SAID = [{"role": "assistant", "content": "Hello. \u2028 Yes."}]


def sft(number: int) -> dict[str, Any]:
    meta = {"episode_id": None if number % 2 else "e", "score": None if number % 3 else 8.5}
    return {"id": str(number), "task": "diagnosis", "prompt": PROMPT, "completion": SAID,
            "meta": meta}  # fmt: skip


def pair(number: int) -> dict[str, Any]:
    worse = [{"role": "assistant", "content": "What?"}]
    return {"id": str(number), "prompt": PROMPT, "chosen": SAID, "rejected": worse}


def test_every_export_holds_every_row(tmp_path: Path) -> None:
    import datasets

    rows = {"train": [sft(n) for n in range(12)], "dev": [sft(20)]}
    export(rows, tmp_path, ("messages", "chat", "parquet"))
    for name in ("messages", "chat"):
        for split, expected in rows.items():
            found = read_jsonl(tmp_path / name / f"{split}.jsonl")
            assert found == [{"messages": [*PROMPT, *SAID]}] * len(expected)
    back = datasets.Dataset.from_parquet(str(tmp_path / "parquet" / "train.parquet"))
    assert back.to_list() == rows["train"]


def test_pairs_become_a_providers_preferences(tmp_path: Path) -> None:
    export({"train": [pair(n) for n in range(10)], "dev": []}, tmp_path, ("chat", "parquet"))
    (first, *rest) = read_jsonl(tmp_path / "chat" / "train.jsonl")
    assert len(rest) == 9
    assert first["input"]["messages"] == PROMPT
    assert first["preferred_output"] == SAID
    assert not (tmp_path / "chat" / "dev.jsonl").exists()


def test_a_provider_wants_ten_rows(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="at least 10 rows, train has 9"):
        export({"train": [sft(n) for n in range(9)]}, tmp_path, ("chat",))


def spoiled(**values: Any) -> dict[str, Any]:
    return provider_row(sft(1)) | values


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[]", "line 2: not a JSON object"),
        (json.dumps(spoiled(task="x")), "fields messages, task"),
        (json.dumps({"messages": []}), "messages is not a list of messages"),
        (json.dumps({"messages": PROMPT}), "must end with assistant, not user"),
        (json.dumps({"messages": [*SAID, *PROMPT, *SAID]}), "a system message comes first"),
        (json.dumps({"messages": [{"role": "tool", "content": "a"}]}), "role is 'tool'"),
        (json.dumps({"messages": [*PROMPT, {"role": "assistant", "content": " "}]}),
         "messages.2.content is empty"),
        (json.dumps({"messages": [{"role": "user", "content": "a", "name": "b"}]}),
         "must have role and content and nothing else"),
        (json.dumps(provider_row(pair(1)) | {"preferred_output": SAID + SAID}),
         "preferred_output must hold 1 message"),
        (json.dumps(provider_row(pair(1)) | {"input": {"messages": PROMPT + SAID}}),
         "input.messages must end with user"),
    ],
)  # fmt: skip
def test_what_a_provider_would_refuse_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "chat.jsonl"
    good = json.dumps(provider_row(sft(1)))
    path.write_text(f"{good}\n{line}\n", "utf-8")
    with pytest.raises(ConfigurationError) as raised:
        check_provider_file(path)
    assert message in str(raised.value)
    assert "line 2" in str(raised.value)
    path.write_text(f"{good}\n{good}\n", "utf-8")
    assert check_provider_file(path) == 2
