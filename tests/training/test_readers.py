"""Every published format becomes the same few fields; a record at fault is named."""

import json
from pathlib import Path

import pytest

from mentalarena.errors import ConfigurationError
from training.tasks.catalog import BBH, MMLU, SUITES, TASKS, Loaded, find_task, load, named_tasks
from training.tasks.items import Item, Question, chosen, questions, set_hash
from training.tasks.readers import (
    CAMS_CAUSES,
    BadRecord,
    bbh,
    cams,
    imhi,
    lettered,
    medmcqa,
    pubmedqa,
    read_records,
)

SETS = Path(__file__).parents[2] / "examples" / "questions"


def test_every_format_is_read() -> None:
    golds = {
        name: [item.gold_label for item in load(name, str(SETS), "test").items]
        for name in named_tasks(["all", "pubmedqa_no_abstract", "medmcqa_psychiatry"], str(SETS))
    }
    assert golds == {
        "medqa": ["B", "A", "B", "C", "B"],
        "medmcqa": ["A", "D", "B", "A"],
        "medmcqa_psychiatry": ["A", "B"],
        "pubmedqa": ["yes", "no", "yes", "maybe", "no"],
        "pubmedqa_no_abstract": ["yes", "no", "yes", "maybe", "no"],
        "cams": ["C", "E", "A", "F"],
        "dreaddit": ["yes", "no", "yes"],
        "irf": ["yes", "no"],
        "mmlu_professional_psychology": ["A", "C", "B"],
        "bbh_date_understanding": ["A", "C"],
        "bbh_navigate": ["yes", "no"],
    }


def test_other_releases_of_a_set_give_the_same_items() -> None:
    (one,) = lettered([{"question": "Q?", "options": {"A": "x", "B": "y", "C": "z", "D": "w"},
                        "answer_idx": "C"}])  # fmt: skip
    others = [
        {"sent1": "Q?", "ending0": "x", "ending1": "y", "ending2": "z", "ending3": "w", "label": 2},
        {"question": "Q?", "choices": ["x", "y", "z", "w"], "answer": 2},
        ["Q?", "x", "y", "z", "w", "C"],
    ]
    assert {item.hash for item in lettered(others)} == {one.hash}
    rows = [{"question": f"Q{n}", "opa": "x", "opb": "y", "opc": "z", "opd": "w"} for n in range(4)]
    from_one = medmcqa([{**row, "cop": n + 1} for n, row in enumerate(rows)])
    from_zero = medmcqa([{**row, "cop": n} for n, row in enumerate(rows)])
    assert [item.hash for item in from_one] == [item.hash for item in from_zero]
    official = {"QUESTION": "Q?", "CONTEXTS": ["a", "b"], "final_decision": "no"}
    hub = {"question": "Q?", "context": {"contexts": ["a", "b"]}, "final_decision": "no"}
    assert len({item.hash for item in pubmedqa([official, hub])}) == 1


def test_what_a_post_is_and_what_is_asked_of_it_are_told_apart() -> None:
    items = load("dreaddit", str(SETS), "test").items
    assert items[1].question == "Does the poster suffer from stress?"
    assert "Question everything the label tells you" in items[1].context
    assert load("cams", str(SETS), "test").items[0].options == CAMS_CAUSES


@pytest.mark.parametrize(("read", "record", "message"), [
    (lettered, {"question": "Q", "options": {"A": "x", "B": "y"}, "answer_idx": "E"}, "answer_idx"),
    (lettered, {"question": "Q", "options": {"A": "x", "C": "y"}, "answer_idx": "A"}, "letters"),
    (lettered, {"options": {"A": "x", "B": "y"}, "answer_idx": "A"}, "no field question"),
    (medmcqa, {"question": "Q", "cop": -1}, "published without labels"),
    (medmcqa, {"question": "Q", "cop": 2}, "counts from"),
    (pubmedqa, {"QUESTION": "Q", "CONTEXTS": [], "final_decision": "perhaps"}, "final_decision"),
    (imhi, {"query": "no marker", "gpt-3.5-turbo": "Yes."}, "Question:"),
    (imhi, {"query": "p Question: q", "gpt-3.5-turbo": "Perhaps."}, "Yes nor No"),
    (imhi, {"query": "p Question: q", "gpt-3.5-turbo": "Nobody knows."}, "Yes nor No"),
    (cams, {"query": "p Question: q", "gpt-3.5-turbo": "related to weather."}, "cause"),
    (bbh, {"input": "Sort: b a", "target": "a b"}, "closed list"),
])  # fmt: skip
def test_a_record_at_fault_is_refused(read: object, record: object, message: str) -> None:
    with pytest.raises(BadRecord, match=message):
        list(read([record]))  # type: ignore[operator]


def test_the_file_and_the_record_are_named(tmp_path: Path) -> None:
    good = {"question": "Q", "options": {"A": "x", "B": "y"}, "answer_idx": "A"}
    lines = [json.dumps(good), json.dumps({**good, "answer_idx": "Z"})]
    (tmp_path / "medqa.jsonl").write_text("\n".join(lines), "utf-8")
    with pytest.raises(ConfigurationError, match=r"medqa\.jsonl: record 2: answer_idx is 'Z'"):
        load("medqa", str(tmp_path), "test")
    (tmp_path / "medqa.jsonl").write_text("\n".join([lines[0], "{"]), "utf-8")
    with pytest.raises(ConfigurationError, match=r"medqa\.jsonl: line 2: not JSON"):
        load("medqa", str(tmp_path), "test")
    (tmp_path / "medqa.jsonl").write_text("", "utf-8")
    with pytest.raises(ConfigurationError, match="holds no record"):
        load("medqa", str(tmp_path), "test")
    with pytest.raises(ConfigurationError, match=r"split dev: expected medqa\.dev\.jsonl"):
        load("medqa", str(tmp_path), "dev")


def test_files_are_known_by_their_hash(tmp_path: Path) -> None:
    text = (SETS / "medqa.jsonl").read_text("utf-8")
    (tmp_path / "medqa.jsonl").write_text(text, "utf-8")
    one = load("medqa", str(SETS), "test")
    assert load("medqa", str(tmp_path), "test").source == one.source
    (tmp_path / "medqa.jsonl").write_text(text + "\n", "utf-8")
    changed = load("medqa", str(tmp_path), "test")
    assert changed.source["sha256"] != one.source["sha256"]
    assert set_hash(changed.items) == set_hash(one.items), "the same items in another file"


def test_names_are_found_or_refused() -> None:
    assert named_tasks(["medqa", "mmlu", "medqa"], "")[:2] == ["medqa", f"mmlu_{MMLU[0]}"]
    assert len(SUITES["bbh"]) == len(BBH)
    assert find_task("mmlu_astronomy").subject == "astronomy"
    with pytest.raises(ConfigurationError, match="did you mean medmcqa"):
        find_task("medmqca")
    with pytest.raises(ConfigurationError, match="needs --data"):
        named_tasks(["all"], "")
    with pytest.raises(ConfigurationError, match="cannot be downloaded: give --data DIR"):
        load("cams", "", "test")
    assert all(task.name == name for name, task in TASKS.items())


def test_a_hub_is_read_like_a_file_and_its_absence_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is no hub here: its library gives the rows of our file as it would give a hub's."""
    import datasets

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    rows = read_records(SETS / "medqa.jsonl")
    asked: list[tuple[object, ...]] = []

    def load_dataset(*args: object, split: str) -> datasets.Dataset:
        asked.append((*args, split))
        return datasets.Dataset.from_list(rows)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = load("medqa", "", "test")
    assert set_hash(found.items) == set_hash(load("medqa", str(SETS), "test").items)
    assert asked == [("GBaker/MedQA-USMLE-4-options", None, "test")]
    assert found.source["hub"] == "GBaker/MedQA-USMLE-4-options"

    def unreachable(*args: object, split: str) -> datasets.Dataset:
        raise ConnectionError("no network")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(ConfigurationError, match="without a network give --data DIR"):
        load("medqa", "", "test")


# --- items ---------------------------------------------------------------------------------------

ITEM = Item("Q", ("w", "x", "y", "z"), 2)


def test_turning_the_options_keeps_the_right_one_right() -> None:
    for rotation in range(4):
        shown = Question(ITEM, rotation).shown
        assert shown.options[shown.gold] == "y"
        assert sorted(shown.options) == sorted(ITEM.options)
    assert {Question(ITEM, turn).shown.gold_label for turn in range(4)} == set("ABCD")
    assert len(questions([ITEM, Item("Q", ("yes", "no"), 0, words=True)], 4)) == 5


def test_repeats_are_one_item_that_counts_as_often() -> None:
    items = [ITEM, Item("R", ("a", "b"), 0), ITEM]
    merged = chosen(items, None, 0)
    assert [(item.question, item.copies) for item in merged] == [("Q", 2), ("R", 1)]
    loaded: Loaded = load("pubmedqa", str(SETS), "test")
    merged = chosen(loaded.items, None, 0)
    assert (len(merged), sum(item.copies for item in merged)) == (4, 5)
    assert len({item.cluster for item in merged}) == 3, "one question of two abstracts"


def test_a_sample_is_seeded_and_of_the_size_asked_for() -> None:
    items = [Item(f"Q{n % 80}", ("a", "b"), 0) for n in range(100)]
    for limit in (1, 50, 99):
        picked = chosen(items, limit, 3)
        assert sum(item.copies for item in picked) == limit
        assert set_hash(picked) == set_hash(chosen(items, limit, 3))
    assert set_hash(chosen(items, 50, 3)) != set_hash(chosen(items, 50, 4))
    assert sum(item.copies for item in chosen(items, 500, 0)) == 100
