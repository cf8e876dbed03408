"""``mentalarena cases`` as a user meets it, and episodes of what it makes."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mock_server import MockServer
from graphs.batch import batch
from graphs.cases import cases
from graphs.play import run
from graphs.reproduce import replay
from mentalarena.case import Patient
from mentalarena.fairness import MEASURES, fairness, t_quantile
from mentalarena.roster import builtin_patients, patient_lines, read_patient_file
from mentalarena.store import open_store
from tests.graphs.test_commands import Command, command, one_line
from tests.mentalarena.test_imports import hundred

__all__ = ["command"]


def stored(question: str) -> list[dict[str, Any]]:
    with open_store("arena.db") as store:
        return [dict(row) for row in store.fetch(question)]


def some(*ids: str) -> Path:
    path = Path("some.jsonl")
    path.write_text(patient_lines([one for one in builtin_patients() if one.id in ids]), "utf-8")
    return path


# --- looking --------------------------------------------------------------------------------------


def test_list_and_show(command: Command) -> None:
    ended = command(cases, "list")
    assert ended.code == 0
    cells = next(line for line in ended.out.splitlines() if line.startswith("maren-1 ")).split()
    assert cells[:4] == ["maren-1", "train", "depressive", "guarded"]
    rows = json.loads(command(cases, "list", "--json").out)
    assert len(rows) == len(builtin_patients())
    shown = command(cases, "show", "maren-1").out
    assert "intermediate beliefs during depression" in shown
    assert builtin_patients()[0].situations
    assert json.loads(command(cases, "show", "maren-1", "--json").out)["id"] == "maren-1"
    assert "did you mean maren-1" in one_line(command(cases, "show", "maren_1"))


def test_what_a_case_file_says_cannot_move_the_cursor(command: Command) -> None:
    record = builtin_patients()[0].model_dump(mode="json")
    record["name"] = "\x1b[2JMallory"
    Path("a.json").write_text(json.dumps(record), "utf-8")
    for args in (("show", record["situations"][0]["id"], "--cases", "a.json"), ("list", "a.json")):
        assert "\x1b" not in command(cases, *args).out


def test_check_says_what_is_wrong_and_fails(command: Command) -> None:
    path = some("maren")
    good = command(cases, "check", str(path))
    assert good.code == 0
    assert "2 cases, 12 checks, 0 failures" in good.out
    record = json.loads(path.read_text("utf-8"))
    record["history"][0]["utterances"] = ["Too short."]
    path.write_text(json.dumps(record), "utf-8")
    bad = command(cases, "check", str(path))
    assert bad.code == 1
    assert "maren-1  length: FAILED" in bad.out
    plain = json.loads(command(cases, "check", str(path), "--case", "maren-2", "--json").out)
    assert list(plain["cases"]) == ["maren-2"]
    assert plain["failed"]["utterances"] == 1


def test_export_and_files_with_broken_records(command: Command) -> None:
    assert command(cases, "export", "dev.json", "--split", "dev").code == 0
    assert {one.split for one in read_patient_file("dev.json").patients} == {"dev"}
    assert command(cases, "export", "one.jsonl", "--case", "maren-2").code == 0
    text = Path("one.jsonl").read_text("utf-8")
    assert [json.loads(line)["id"] for line in text.splitlines()] == ["maren"]
    Path("one.jsonl").write_text(text + "{broken\n", "utf-8")
    line = one_line(command(cases, "list", "one.jsonl"))
    assert "record 2 (line 2)" in line
    assert "mentalarena cases import one.jsonl --format jsonl" in line
    assert command(cases, "import", "one.jsonl", "--format", "jsonl").code == 0
    assert len(read_patient_file("one.cases.jsonl").patients) == 1


# --- importing ------------------------------------------------------------------------------------


def test_an_import_is_played_and_replayed(command: Command) -> None:
    Path("psi.json").write_text(json.dumps(hundred()), "utf-8")
    Path("p.csv").write_text(
        "principle\n" + "".join(f"Answers question {n} with a sigh.\n" for n in range(6)), "utf-8"
    )
    ended = command(cases, "import", "psi.json", "--format", "patient-psi")
    assert ended.code == 0
    assert "97 of 100 records kept (utf-8): 97 cases of 50 patients" in ended.out
    assert "dropped: record 42, field situation: holds nothing but blanks" in ended.out
    assert "next: mentalarena run --cases psi.cases.jsonl" in ended.out
    assert command(cases, "import", "p.csv", "--format", "principles").code == 0
    flags = ("--cases", "psi.cases.jsonl", "--principles", "p.principles.json")
    assert command(run, *flags, "--seed", "3", "--recipe", "pilot", "--quiet").code == 0
    (row,) = stored("select status, principle_id, c.source from episodes join cases c "
                    "on c.id = case_id")  # fmt: skip
    assert row["status"] == "ok"
    assert row["principle_id"].startswith("imported-")
    assert row["source"] == "imported (Patient-Psi-CM)"
    # A replay needs the principles, and finds them in the store.
    Path("p.principles.json").unlink()
    assert command(replay).code == 0


def test_principles_are_part_of_what_makes_an_experiment(command: Command) -> None:
    Path("p.csv").write_text("text,group\nSighs a lot.,a\nLooks away.,b\n", "utf-8")
    assert command(cases, "import", "p.csv", "--format", "principles").code == 0
    once = ("--seed", "3", "--recipe", "pilot", "--quiet", "--case", "maren-1")
    assert command(run, *once).code == 0
    assert command(run, *once, "--principles", "p.principles.json").code == 0
    assert len(stored("select distinct config_hash from runs")) == 2
    Path("bad.json").write_text('[{"id": "a", "name": "A", "principles": []}]', "utf-8")
    line = one_line(command(run, *once, "--principles", "bad.json"))
    assert "principle file bad.json, field 0.principles" in line
    assert "cannot be read" in one_line(command(run, *once, "--principles", "none.json"))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("import", "none.json", "--format", "patient-psi"), "none.json cannot be read"),
        (("import", "bad.json", "--format", "patient-psi"), "is not JSON"),
        (("import", "bad.json", "--format", "jsonl", "--out", "bad.json"), "no record"),
        (("vary", "--vary", "shoe", "--out", "x"), "'shoe'"),
        (("vary", "--vary", "age,name", "--to", "4", "--out", "x"), "--to is for one attribute"),
        (("vary", "--case", "kenji-1", "--vary", "gender", "--out", "x"), "wife"),
        (("synthesize", "--n", "2", "--out", "x", "--model", "human"), "no language model"),
        (("fairness",), "arena.db"),
        (("export", "no/where.json"), "cannot be written"),
    ],
)
def test_mistakes_are_one_line(command: Command, args: tuple[str, ...], message: str) -> None:
    Path("bad.json").write_text("{nothing", "utf-8")
    assert message in one_line(command(cases, *args))
    assert not Path("x").exists()


# --- making ---------------------------------------------------------------------------------------


def play_all(command: Command, path: str, *flags: str) -> None:
    ended = command(batch, "--cases", path, "--recipe", "pilot", "--seed", "1", *flags)
    assert ended.code == 0, ended.err
    assert not stored("select * from errors")
    assert stored("select distinct status from episodes") == [{"status": "ok"}]


def test_synthetic_patients_are_played(command: Command) -> None:
    path = some("maren", "pavel", "tobias", "amahle")
    ended = command(cases, "synthesize", "--n", "3", "--cases", str(path), "--out", "new.jsonl")
    assert ended.code == 0, ended.err
    assert "3 of 3 patients written to new.jsonl" in ended.out
    play_all(command, "new.jsonl")
    rows = stored("select synthetic, parents, split from cases")
    assert {row["synthetic"] for row in rows} == {1}
    assert all(len(json.loads(row["parents"])) >= 2 for row in rows)


def test_a_model_writes_patients_once(command: Command) -> None:
    path = some("maren", "pavel")
    args = ("synthesize", "--n", "2", "--cases", str(path), "--out", "new.jsonl",
            "--model", "openai:writer")  # fmt: skip
    with MockServer(reply_words=120) as server:
        ended = command(cases, *args, "--base-url", server.base_url)
        assert ended.code == 0, ended.err
        asked = sum(bool(seen.body) for seen in server.requests)
        again = command(cases, *args, "--base-url", server.base_url)
        assert again.code == 0
        assert sum(bool(seen.body) for seen in server.requests) == asked
    play_all(command, "new.jsonl")


def test_pairs_are_played_and_compared(command: Command) -> None:
    path = some("maren", "pavel")
    ended = command(cases, "vary", str(path), "--vary", "name,culture", "--out", "pairs.jsonl")
    assert ended.code == 0, ended.err
    play_all(command, "pairs.jsonl", "--samples", "2")
    report = json.loads(command(cases, "fairness", "--json").out)
    assert report["plumbing_check"] is True
    assert report["pairs"] == 16
    rows = {(row["attribute"], row["measure"]): row for row in report["differences"]}
    assert {attribute for attribute, _ in rows} == {"name", "culture"}
    assert rows["name", "told"]["people"] == 2
    text = command(cases, "fairness").out
    assert "this is a plumbing check, no finding" in text
    assert all(f"{name}: " in text for name in MEASURES)


def test_an_unfair_seat_is_found(command: Command) -> None:
    path = some("maren", "pavel", "grace", "walter", "tobias", "farid")
    assert command(cases, "vary", str(path), "--vary", "name", "--out", "pairs.jsonl").code == 0
    play_all(command, "pairs.jsonl")
    with open_store("arena.db") as store:
        assert not [one for one in fairness(store)[1] if one.beyond]
    import sqlite3

    with sqlite3.connect("arena.db") as raw:
        raw.execute(
            "update plans set score = 1 where kind = 'treatment' and episode_id in (select e.id "
            "from episodes e join cases c on c.id = e.case_id "
            "where json_extract(c.record, '$.varied') = 'name')"
        )
    with open_store("arena.db") as store:
        pairs, found = fairness(store)
    assert pairs == 9
    (unfair,) = (one for one in found if one.beyond)
    assert unfair.measure == "treatment"
    assert unfair.high < 0


def test_intervals_use_students_t() -> None:
    # From a table of the distribution.
    for share, freedom, value in ((0.975, 10, 2.228), (0.975, 40, 2.021), (0.995, 15, 2.947)):
        assert t_quantile(share, freedom) == pytest.approx(value, rel=0.01)


def test_diversity_is_said_and_drawn(command: Command) -> None:
    ended = command(cases, "diversity", "--json")
    assert json.loads(ended.out)["patients"] == len(builtin_patients())
    pytest.importorskip("matplotlib")
    ended = command(cases, "diversity", "--png", "d.png", "--html", "d.html")
    assert ended.code == 0
    assert "presentation (evenness" in ended.out
    assert Path("d.png").read_bytes().startswith(b"\x89PNG")
    assert Path("d.html").read_text("utf-8").count("<table>") >= 7


@pytest.mark.slow
def test_fifty_synthetic_patients_are_played(command: Command) -> None:
    began = time.monotonic()
    ended = command(cases, "synthesize", "--n", "50", "--out", "new.jsonl")
    assert ended.code == 0, ended.err
    play_all(command, "new.jsonl")
    assert len(stored("select id from episodes")) == 50
    assert time.monotonic() - began < 300


def test_every_member_can_be_read_back(command: Command) -> None:
    ended = command(
        cases, "vary", "--vary", "age,gender,name,culture", "--out", "p.jsonl", "--json"
    )
    report = json.loads(ended.out)
    people: dict[str, Patient] = {one.id: one for one in read_patient_file("p.jsonl").patients}
    for pair in report["pairs"]:
        assert people[pair["changed"]].parents == (pair["base"],)
        assert people[pair["base"]].varied is None
