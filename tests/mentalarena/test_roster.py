"""Case files: the good records are kept, the bad ones named."""

import json
from pathlib import Path
from typing import Any

import pytest

from mentalarena.errors import CaseError, UnknownCaseError
from mentalarena.roster import (
    builtin_cases,
    builtin_patients,
    find_case,
    principle_groups,
    principles,
    read_case_file,
)


def record(**changes: Any) -> dict[str, Any]:
    return {**builtin_patients()[0].model_dump(mode="json"), **changes}


def test_good_records_are_kept_and_bad_ones_named(tmp_path: Path) -> None:
    path = tmp_path / "people.jsonl"
    bad = record(id="bad")
    bad["situations"][0]["emotions"][0]["text"] = ""
    lines = [
        json.dumps(record()),
        "{not json",
        "",
        json.dumps(bad),
        json.dumps(record(style="loud")),
    ]
    path.write_text("\n".join(lines), "utf-8")
    found = read_case_file(path)
    assert {case.patient_id for case in found.cases} == {builtin_patients()[0].id}
    first, second, third = (str(complaint) for complaint in found.complaints)
    assert first.startswith(f"{path}: record 2 (line 2): not JSON")
    assert "record 3 (line 4, id bad), field situations.0.emotions.0.text" in second
    assert "field style" in third


def test_a_label_outside_the_closed_list_is_named(tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    person = record()
    person["beliefs"]["core_beliefs"][0]["text"] = "I am a teapot"
    path.write_text(json.dumps(person), "utf-8")
    (complaint,) = read_case_file(path).complaints
    assert "core_beliefs.0.text: 'I am a teapot' is not one of" in str(complaint)


def test_unknown_keys_and_double_ids_are_named(tmp_path: Path) -> None:
    path = tmp_path / "two.json"
    path.write_text(json.dumps([record(), record(), record(id="x", colour="red")]), "utf-8")
    found = read_case_file(path)
    assert "is already taken" in found.complaints[0].message
    assert found.complaints[1].field == "colour"
    assert len(found.cases) == len(list(builtin_patients()[0].cases()))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", b"", "holds no record"),
        ("latin.json", '{"name": "Zoë"}'.encode("latin-1"), "is not UTF-8"),
    ],
)
def test_unreadable_files(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CaseError, match=message):
        read_case_file(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="cannot be read: No such file"):
        read_case_file(tmp_path / "none.json")
    with pytest.raises(CaseError, match="is a folder"):
        read_case_file(tmp_path)


def test_an_unknown_case_offers_near_names() -> None:
    with pytest.raises(UnknownCaseError, match="did you mean maren-1"):
        find_case("maren_1", builtin_cases().values())


def test_there_are_enough_principles() -> None:
    assert len(principles()) >= 24
    assert len(principle_groups()) >= 6
    assert sum(len(group.principles) for group in principle_groups()) == len(principles())
    for group in principle_groups():
        assert {principle.group for principle in group.principles} == {group.id}


def test_a_case_hash_follows_every_field() -> None:
    case = next(iter(builtin_cases().values()))
    assert case.hash == case.model_copy().hash
    assert case.hash != case.model_copy(update={"name": "Somebody"}).hash
