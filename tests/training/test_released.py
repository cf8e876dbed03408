"""Rows in the paper's released format pass the same filters, and the funnel names each fault."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mentalarena.cli import run_command
from training.build import Made, Wanted, build
from training.dataset import dataset
from training.export import read_jsonl
from training.filters import Limits
from training.released import read_released

TOPICS = (
    "sleep", "work", "money", "children", "parents", "school", "the neighbors", "driving",
    "crowds", "illness", "food", "the past", "marriage", "church", "the garden",
)  # fmt: skip
NAMES = (
    "Major depressive disorder, recurrent, moderate",
    "Generalized anxiety disorder",
    "Panic disorder",
    "Social phobia, generalized",
    "Obsessive-compulsive disorder",
)


def line(number: int, **values: Any) -> dict[str, Any]:
    """A clean row; each person has words of their own."""
    topic = TOPICS[number % len(TOPICS)]
    letter = chr(97 + number % 26)
    symptom = (
        f"Person {number} has worried about {topic} since year {1900 + number}, avoids "
        f"street{letter}{number}, keeps list{number} and says so to friend{number}"
    )
    return {
        "symptom": symptom,
        "illness": NAMES[number % len(NAMES)],
        "treatment": f"Weekly talks about {topic} with plan{number}",
        "explain_t": f"It fits because of habit{number} and goal{number}.",
        "medicine": f"An SSRI at step{number}",
        "explain_m": f"It eases worry{number} within {number} days.",
    } | values


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """300 rows: 170 clean ones, and four kinds of fault."""
    rows = [line(n) for n in range(170)]
    rows += [
        line(n, illness=f"Doctor 2's diagnosis is the better one, says patient {n}")
        for n in range(170, 220)
    ]
    rows += [line(n, medicine="N/A", explain_m="N/A") for n in range(220, 250)]
    rows += [line(n) for n in range(20)]  # said twice
    # Ten people with three diagnoses each: none is commoner than another.
    rows += [
        line(250 + n, illness=name, treatment=f"Talk {n}{place}", medicine=f"Drug {n}{place}")
        for n in range(10)
        for place, name in enumerate(NAMES[:3])
    ]  # fmt: skip
    assert len(rows) == 300
    path = tmp_path / "released.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def made_of(path: Path, out: Path, **limits: Any) -> Made:
    return build(None, out, Wanted(released=path, limits=Limits(**limits)))


def test_the_funnel_names_each_fault(released: Path, tmp_path: Path) -> None:
    made = made_of(released, tmp_path / "set")
    dropped = {step["filter"]: step["dropped"] for step in made.facts["funnel"]}
    assert made.facts["funnel"][0]["left"] == 900
    assert {name: n for name, n in dropped.items() if n} == {
        "empty": 30,  # N/A medicines
        "unmapped label": 150,  # Doctor 2's diagnosis, and the plans made by it
        "contradictory labels": 90,
        "exact duplicate": 60,
    }
    assert sum(made.facts["rows"].values()) == 900 - 30 - 150 - 90 - 60
    rows = [row for split in ("train", "dev") for row in read_jsonl(made.folder / f"{split}.jsonl")]
    text = json.dumps(rows)
    assert "Doctor 2" not in text
    assert '"name: N/A' not in text
    assert {row["meta"]["source"] for row in rows} == {"record"}
    assert {row["meta"]["answered_by"] for row in rows} == {"released.jsonl"}


def test_what_was_contradictory_is_kept_within_a_wider_limit(
    released: Path, tmp_path: Path
) -> None:
    made = made_of(released, tmp_path / "set", max_entropy=2.0)
    dropped = {step["filter"]: step["dropped"] for step in made.facts["funnel"]}
    assert dropped["contradictory labels"] == 0


def test_the_commonest_label_stays(tmp_path: Path) -> None:
    labels = [NAMES[0]] * 3 + [NAMES[1], NAMES[2], NAMES[3]]
    rows = [line(1, illness=name, treatment=f"plan {i}") for i, name in enumerate(labels)]
    path = tmp_path / "one.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    made = made_of(path, tmp_path / "set", near_duplicate=0)
    found = read_jsonl(made.folder / "train.jsonl") + read_jsonl(made.folder / "dev.jsonl")
    assert {row["meta"]["code"] for row in found} == {"F33.1"}
    assert Counter(row["task"] for row in found) == {
        "diagnosis": 1, "treatment": 3, "medication": 1
    }  # fmt: skip


def test_equal_symptoms_are_one_patient(released: Path) -> None:
    rows = read_released(released).rows
    splits: dict[str, set[str]] = {}
    for row in rows:
        splits.setdefault(row.patient_id, set()).add(row.split)
    assert all(len(found) == 1 for found in splits.values())
    assert Counter(next(iter(found)) for found in splits.values())["dev"] > 10
    assert len(splits) == 260


def test_lines_that_cannot_be_read_are_named_and_take_none_with_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mixed.jsonl"
    lines = [json.dumps(line(1)), "{", json.dumps([1]), json.dumps(line(2, symptom="")),
             json.dumps(line(3, treatment=["a"]))]  # fmt: skip
    path.write_text("\n".join(lines), "utf-8")
    with pytest.raises(SystemExit) as left:
        run_command(dataset, "x", ["--released", str(path), "--out", str(tmp_path / "set")])
    assert not left.value.code
    said = capsys.readouterr().err
    assert "mixed.jsonl: line 2: not JSON" in said
    assert "line 3: not a JSON object" in said
    assert "line 4: field symptom: missing or empty" in said
    assert "line 5: field treatment: text is wanted, not list" in said


def test_near_duplicates_are_found_and_dev_keeps_its_row(tmp_path: Path) -> None:
    rows = read_released_lines(tmp_path, [line(n) for n in range(40)])
    dev = next(row for row in rows if row.split == "dev")
    train = next(row for row in rows if row.split == "train")
    # The same case told again with one word changed, on the other side of the split.
    again = [line(dev.idx - 1), line(train.idx - 1)]
    for copy in again:
        copy["symptom"] += " today"
    path = tmp_path / "twice.jsonl"
    lines = [line(n) for n in range(40)] + again
    path.write_text("".join(json.dumps(one) + "\n" for one in lines), "utf-8")
    made = made_of(path, tmp_path / "near", near_duplicate=0.7)
    step = next(s for s in made.facts["funnel"] if s["filter"] == "near duplicate")
    assert step["dropped"] == 6
    kept = made_of(path, tmp_path / "all", near_duplicate=0)
    assert sum(kept.facts["rows"].values()) == sum(made.facts["rows"].values()) + 6
    dev_ids = {row["id"] for row in read_jsonl(kept.folder / "dev.jsonl")}
    originals = {r["id"] for r in read_jsonl(made.folder / "dev.jsonl")}
    assert originals <= dev_ids
    assert any(row["meta"]["idx"] == dev.idx for row in read_jsonl(made.folder / "dev.jsonl"))


def read_released_lines(folder: Path, lines: list[dict[str, Any]]) -> list[Any]:
    path = folder / "lines.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in lines), "utf-8")
    return read_released(path).rows
