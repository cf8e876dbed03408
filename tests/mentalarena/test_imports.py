"""Importers: what is good is kept, what is not is named, whatever the file looks like."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mentalarena.builtin_vectors import builtin_vectors
from mentalarena.case import Patient, Style
from mentalarena.errors import CaseError
from mentalarena.import_jsonl import import_jsonl
from mentalarena.import_patient_psi import import_patient_psi, split_of
from mentalarena.import_principles import import_principles
from mentalarena.import_report import Report
from mentalarena.roster import builtin_patients, patient_lines, read_patient_file
from mentalarena.similarity import SentenceEncoder
from mentalarena.text_files import read_any, write_whole

STYLES = ("plain", "upset", "verbose", "reserved", "tangent", "pleasing")
ENCODER = SentenceEncoder(known=builtin_vectors())


def record(name: str = "Ada", identity: str = "1-1", **changes: Any) -> dict[str, Any]:
    """A record in the format, of our own making."""
    made = {
        "name": name,
        "id": identity,
        "type": ["reserved"],
        "history": f"{name} is a 41-year-old woman who teaches. Sleeps badly since {identity}.",
        "helpless_belief_current": ["I am incompetent"],
        "unlovable_belief_current": [],
        "worthless_belief_current": ["I am a burden to others"],
        "intermediate_belief": "If I ask for help, people will see through me.",
        "intermediate_belief_depression": "It is no use trying any more.",
        "coping_strategies": "Stays late at school; avoids the staff room.",
        "situation": f"The head teacher asked to talk, on day {identity}.",
        "auto_thought": "She has noticed that I cannot do it.",
        "emotion": ["anxious/worried/fearful/scared/tense", "sad/down/lonely/unhappy"],
        "behavior": "Called in sick and lay in bed.",
    }
    return {**made, **changes}


def write(path: Path, records: object, encoding: str = "utf-8") -> Path:
    path.write_bytes(json.dumps(records, ensure_ascii=False).encode(encoding))
    return path


def read(path: Path) -> tuple[tuple[Patient, ...], Report]:
    return import_patient_psi(path, ENCODER)


def dropped(report: Report) -> list[str]:
    return [str(remark) for remark in report.of("dropped")]


def hundred() -> list[dict[str, Any]]:
    """A hundred records of fifty people, three of them broken."""
    records = [
        record(f"Person {number // 2}", f"{number // 2}-{number % 2 + 1}",
               type=STYLES[number // 2 % 6])
        for number in range(100)
    ]  # fmt: skip
    records[10]["emotion"] = 7
    records[41]["situation"] = "  "
    del records[98]["history"]
    return records


def test_a_hundred_records_with_three_broken(tmp_path: Path) -> None:
    patients, report = read(write(tmp_path / "psi.json", hundred()))
    assert (report.records, report.kept) == (100, 97)
    assert dropped(report) == [
        "dropped: record 11, field emotion: must be text, not int",
        "dropped: record 42, field situation: holds nothing but blanks",
        "dropped: record 99, field history: is missing",
    ]
    assert len(patients) == 50
    assert sum(len(patient.situations) for patient in patients) == 97
    assert {patient.style for patient in patients} == set(Style)
    assert len({patient.id for patient in patients}) == 50
    shares = [sum(p.split == split for p in patients) for split in ("train", "dev", "test")]
    assert shares[0] > 20
    assert min(shares) >= 4
    path = tmp_path / "out.jsonl"
    write_whole(path, patient_lines(patients))
    back = read_patient_file(path)
    assert not back.complaints
    assert back.patients == patients


def test_fields_become_a_case(tmp_path: Path) -> None:
    (patient,), report = read(write(tmp_path / "one.json", [record()]))
    assert not report.remarks
    (case,) = patient.cases()
    model = case.cognitive_model
    labels = [clause.text for clause in model.core_beliefs]
    assert labels == ["helpless: incompetent", "worthless: burden"]
    assert [clause.text for clause in model.emotions] == ["anxious", "sad"]
    assert [clause.text for clause in model.coping_strategies] == [
        "Stays late at school",
        "avoids the staff room.",
    ]
    assert case.style is Style.GUARDED
    assert case.presentation == "unknown"
    assert (case.demographics.age, case.demographics.gender) == (41, "woman")
    assert case.demographics.work == "unknown"
    assert not any(clause.utterances for clause in case.history)
    spoken = " ".join(case.openings).lower()
    assert "school" not in spoken
    assert "sleep" not in spoken


def test_one_person_is_one_patient_whatever_else_the_file_holds(tmp_path: Path) -> None:
    records = [record("Ada", "1-1"), record("Ada", "1-2", history="Grew up in Leeds."),
               record("Ada", "2-1"), record("ada", "1-3")]  # fmt: skip
    patients, report = read(write(tmp_path / "a.json", records))
    assert [len(patient.situations) for patient in patients] == [3, 1]
    assert {patient.split for patient in patients[:1]} == {split_of("ada", "1")}
    assert "Grew up in Leeds." in [clause.text for clause in patients[0].history]
    assert any("differs from record 2, 4" in str(remark) for remark in report.of("changed"))
    alone, _ = read(write(tmp_path / "b.json", [records[0]]))
    assert alone[0].split == patients[0].split


def test_splits_are_about_sixty_twenty_twenty() -> None:
    drawn = [split_of(f"person {n}", str(n)) for n in range(3000)]
    for split, share in (("train", 0.6), ("dev", 0.2), ("test", 0.2)):
        assert abs(drawn.count(split) / 3000 - share) < 0.03


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": None}, "field name: is missing"),
        ({"id": ["1"]}, "field id: must be text, not list"),
        ({"history": {"a": 1}}, "field history: must be text, not dict"),
        ({"auto_thought": ["fine", 3]}, "field auto_thought: must be text, not int inside a list"),
        ({"behavior": []}, "field behavior: is empty"),
        ({"emotion": ["peckish"]}, "field emotion: names no known emotion"),
        ({"history": "x" * 10_000_000}, "has 10,000,000 characters, more than 20,000"),
        ({"situation": "y" * 5000}, "field situation: has a sentence of more than 4,000"),
        ({"situation": "half \ud800 of it"}, "field situation: holds half a character"),
        (
            {"helpless_belief_current": [], "worthless_belief_current": None},
            "worthless_belief_current: are all empty",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_broken_fields_are_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = tmp_path / "one.json"
    path.write_text(json.dumps([record(), {**record("Bo", "2-1"), **changes}]), "utf-8")
    patients, report = read(path)
    assert len(patients) == 1
    (line,) = dropped(report)
    assert line.startswith("dropped: record 2, field ")
    assert message in line


def test_what_is_no_object_a_double_or_unknown_is_said(tmp_path: Path) -> None:
    records = [
        record(), "text", None, record(), {**record(), "id": "1-9"},
        record("Bo", "2-1", mood="low", type="sulky", intermediate_belief_depression=""),
    ]  # fmt: skip
    patients, report = read(write(tmp_path / "a.json", records))
    assert dropped(report) == [
        "dropped: record 2: is no object but str",
        "dropped: record 3: is no object but NoneType",
        "dropped: record 4, field id: repeats record 1",
        "dropped: record 5, field id: repeats record 1",
    ]
    assert [str(remark) for remark in report.of("ignored")] == [
        "ignored: record 6, field mood: is no field of this format"
    ]
    changed = " ".join(str(remark) for remark in report.of("changed"))
    assert "field type: 'sulky' is not known: the style is plain" in changed
    assert "intermediate_belief stands in for it" in changed
    assert len(patients) == 2


def test_long_fields_become_no_more_clauses_than_fit(tmp_path: Path) -> None:
    history = " ".join(f"Sentence number {n} of a long life." for n in range(40))
    (patient,), _ = read(write(tmp_path / "a.json", [record(history=history)]))
    assert len(patient.history) <= 12
    assert " ".join(clause.text for clause in patient.history) == history


@pytest.mark.parametrize(
    ("encoding", "named"),
    [("utf-8", "utf-8"), ("utf-8-sig", "utf-8-sig"), ("utf-16", "utf-16"),
     ("utf-16-le", "utf-16-le"), ("utf-16-be", "utf-16-be"), ("latin-1", "cp1252"),
     ("utf-32", "utf-32")],
)  # fmt: skip
def test_encodings(tmp_path: Path, encoding: str, named: str) -> None:
    path = write(tmp_path / "a.json", [record("Zoë")], encoding)
    (patient,), report = read(path)
    assert patient.name == "Zoë"
    assert report.encoding == named


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{not json", "is not JSON (line 1)"),
        (b'{"name": "a"}', "is no JSON array"),
        (b"[]", "is no JSON array"),
        (b"\xff\xfe\x00", "no text in utf-16"),
        (b"[" * 100_000, "is not JSON"),
        (b'["\x00\x81\xff"]', "no text in UTF-8, UTF-16 or Latin-1"),
    ],
)
def test_files_that_are_no_such_thing(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(CaseError) as caught:
        read(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_beliefs_in_other_words_are_mapped_by_nearness(tmp_path: Path) -> None:
    class Near:
        """Everything is near the label of being trapped, or near nothing."""

        hash = "near"
        value = 1.0

        def vectors(self, texts: list[str]) -> Any:
            known = [text in ("I am trapped", "boxed in by my life") for text in texts]
            return np.array([[self.value, 0.0] if one else [0.0, 0.0] for one in known])

    odd = record(helpless_belief_current=["Boxed in by my life"], worthless_belief_current=[])
    path = write(tmp_path / "a.json", [odd])
    (patient,), _ = import_patient_psi(path, Near())
    assert [clause.text for clause in patient.beliefs.core_beliefs] == ["helpless: trapped"]
    Near.value = 0.1
    patients, report = import_patient_psi(path, Near())
    assert not patients
    assert "name no known core belief" in dropped(report)[0]


# --- own format -----------------------------------------------------------------------------------


def test_own_jsonl_in_another_encoding_keeps_the_good_records(tmp_path: Path) -> None:
    good = patient_lines(builtin_patients()[:2])
    path = tmp_path / "mine.jsonl"
    path.write_bytes((good + '{"id": "x"}\n' + good.splitlines()[0]).encode("utf-16"))
    patients, report = import_jsonl(path)
    assert patients == builtin_patients()[:2]
    assert (report.records, report.kept, report.encoding) == (4, 2, "utf-16")
    assert "record 3, field name" in dropped(report)[0]
    assert "record 4, field situations" in dropped(report)[1]


def test_whole_files_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "one")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "no space left")))
    with pytest.raises(CaseError, match="cannot be written: no space left"):
        write_whole(path, "two")
    assert path.read_text() == "one"
    assert [item.name for item in tmp_path.iterdir()] == ["a.txt"]
    with pytest.raises(CaseError, match="folder"):
        read_any(tmp_path)


# --- principles -----------------------------------------------------------------------------------


def csv(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def test_principles_by_group(tmp_path: Path) -> None:
    text = (
        'Id,Principle,Category\n1,"Answers briefly, at first.",Openness\n2,,Openness\n'
        '3,Answers briefly. ,Pace\n4,"Answers briefly, AT first.",Pace\n5,Looks away,\n'
    )
    library, report = import_principles(csv(tmp_path / "p.csv", text, "utf-16"))
    assert [group.name for group in library.groups] == ["Openness", "Pace", "without a group"]
    assert (report.records, report.kept) == (5, 3)
    assert dropped(report) == [
        "dropped: record 2, field principle: is empty",
        "dropped: record 4, field principle: repeats record 1",
    ]
    assert str(report.of("ignored")[0]) == "ignored: file, field id: is a column without a use here"


def test_principles_without_groups_stand_alone(tmp_path: Path) -> None:
    text = "principles\n" + "".join(f"Rule number {n}\n" for n in range(7)) + "x" * 200_000
    library, report = import_principles(csv(tmp_path / "p.csv", text))
    assert len(library.groups) == 7
    assert "has 200,000 characters" in dropped(report)[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [("a;b\n1;2\n", "has no column of principles among a, b"), ("", "has no column"),
     ("principle\n\n", "holds no principle"), ("text,group\n,x\n", "is empty")],
)  # fmt: skip
def test_files_without_principles(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CaseError, match=message):
        import_principles(csv(tmp_path / "p.csv", text))
