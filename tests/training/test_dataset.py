"""A dataset holds what was played, nothing hidden, nothing of test; each promise is also broken."""

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from agents.answers import read
from agents.seats import Diagnoses, Formulation, PlanProposal
from benchmarks.mock_server import MockServer
from graphs.batch import batch
from mentalarena.cli import run_command
from mentalarena.errors import ConfigurationError, StoreError
from mentalarena.journal import digest
from mentalarena.nosology import name_of
from mentalarena.roster import builtin_cases, builtin_patients
from mentalarena.store import open_store
from mentalarena.store_reader import open_readonly
from training.build import Made, Wanted, build
from training.dataset import dataset
from training.export import check_provider_file, read_jsonl
from training.filters import Limits
from training.leaks import SPAN
from training.overlap import words

PATIENTS = ("andre", "aroha", "dylan", "bjarki")
"""Two of train, one of dev, one of test."""
RECIPE = "exchanges = 2\nprobe_rounds = 2\nmax_plans = 3\njudge_samples = 1\naccept_score = 10\n"
LOOSE = Limits(min_score=1, min_aligned=0, max_entropy=9, near_duplicate=0)
Rows = list[dict[str, Any]]


def play(folder: Path, *args: str) -> Path:
    """A store with one episode of each case."""
    (folder / "recipe.toml").write_text(RECIPE, "utf-8")
    path = folder / "played.db"
    people = [patient for patient in builtin_patients() if patient.id in PATIENTS]
    lines = "".join(patient.model_dump_json() + "\n" for patient in people)
    (folder / "people.jsonl").write_text(lines, "utf-8")
    flags = ("--cases", "people.jsonl", "--recipe", "recipe.toml", "--db", "played.db")
    places = [part if part[:2] == "--" else str(folder / part) for part in flags]
    batch.main([*places, "--seed", "5", "--json", *args], standalone_mode=False)
    return path


@pytest.fixture(scope="session")
def rule_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return play(tmp_path_factory.mktemp("rules"))


@pytest.fixture(scope="session")
def model_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with MockServer(reply_words=15) as server:
        args = ("--model", "openai:m", "--base-url", server.base_url)
        yield play(tmp_path_factory.mktemp("models"), *args)


@pytest.fixture
def db(rule_store: Path, tmp_path: Path) -> Path:
    """A store of one's own to spoil."""
    return Path(shutil.copy(rule_store, tmp_path / "played.db"))


@pytest.fixture
def make(db: Path, tmp_path: Path) -> Callable[..., Made]:
    def made(path: Path = db, out: str = "out", **values: Any) -> Made:
        with closing(open_readonly(path)) as store:
            return build(store, tmp_path / out, Wanted(**{"limits": LOOSE} | values))

    return made


def rows(made: Made, split: str = "") -> Rows:
    names = [split] if split else ["train", "dev"]
    return [row for name in names for row in read_jsonl(made.folder / f"{name}.jsonl")]


def of_task(found: Rows, *tasks: str) -> Rows:
    return [row for row in found if row["task"] in tasks]


def text_of(row: Any) -> str:
    parts = [*row["prompt"], *row.get("completion", ()), *row.get("chosen", ())]
    return "\n".join(message["content"] for message in parts)


def change(path: Path, sql: str, *values: Any) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        assert connection.execute(sql, values).rowcount


def dropped(made: Made, name: str) -> int:
    return int(next(s["dropped"] for s in made.facts["funnel"] if s["filter"] == name))


# --- what is in it -------------------------------------------------------------------------------


def test_every_task_has_rows_that_can_be_read_back(make: Callable[..., Made]) -> None:
    found = rows(make())
    assert {row["task"] for row in found} == {
        "patient_turn", "therapist_turn", "formulation", "diagnosis", "treatment", "medication"
    }  # fmt: skip
    kinds: dict[str, Any] = {
        "formulation": Formulation, "diagnosis": Diagnoses, "treatment": PlanProposal,
        "medication": PlanProposal,
    }  # fmt: skip
    for answers in ("labelled", "json", "small"):
        for row in of_task(rows(make(answers=answers, out=answers)), *kinds):
            text = row["completion"][0]["content"]
            value = read(text, kinds[row["task"]], labelled=answers != "json")
            if isinstance(value, Diagnoses):
                assert value.options[0].label == name_of(row["meta"]["code"])
                assert len(value.options) == 2


def test_prompts_are_those_by_which_seats_were_asked(
    model_store: Path, make: Callable[..., Made]
) -> None:
    """The hash of each row's prompt is the one stored with the call that was really made."""
    made = make(model_store, answers="json")
    with closing(open_readonly(model_store)) as store:
        asked = {
            (call["episode_id"], call["prompt_hash"])
            for call in store.fetch("select episode_id, prompt_hash from calls")
        }
        probes = {
            (turn["episode_id"], turn["idx"])
            for turn in store.fetch("select episode_id, idx from turns where purpose = 'probe'")
        }
    checked = set()
    for row in rows(made):
        meta = row["meta"]
        as_asked = (meta["episode_id"], digest([row["prompt"], "json"])) in asked
        guided = row["role"] == "therapist" and (meta["episode_id"], meta["idx"]) in probes
        if row["task"] in ("patient_turn", "therapist_turn"):
            assert as_asked is not guided, row
            checked.add((row["task"], guided))
    assert checked == {("patient_turn", False), ("therapist_turn", False), ("therapist_turn", True)}


def test_diagnoses_are_asked_for_as_the_seat_was(
    model_store: Path, make: Callable[..., Made]
) -> None:
    with closing(open_readonly(model_store)) as store:
        asked = {call["prompt_hash"] for call in store.fetch("select prompt_hash from calls")}
    found = of_task(rows(make(model_store, answers="json")), "diagnosis")
    assert found
    for row in found:
        assert digest([row["prompt"], "json"]) in asked


def test_a_probe_is_taught_without_its_guidance(db: Path, make: Callable[..., Made]) -> None:
    with closing(open_readonly(db)) as store:
        guidance = {
            row["guidance"] for row in store.fetch("select guidance from decisions")
        } - {""}  # fmt: skip
        probes = store.fetch(
            "select text from turns join episodes e on e.id = episode_id join cases c on"
            " c.id = e.case_id where speaker = 'therapist' and purpose = 'probe' and split<>'test'"
        )
    assert guidance
    assert probes
    found = of_task(rows(make()), "therapist_turn")
    taught = {row["completion"][0]["content"] for row in found}
    assert taught >= {probe["text"] for probe in probes}
    for row in found:
        assert not [text for text in guidance if text in text_of(row)]
        assert "supervisor" not in text_of(row)


def test_preference_pairs_share_a_prompt(db: Path, make: Callable[..., Made]) -> None:
    made = make(kind="preference", limits=Limits(near_duplicate=0, min_score=1, min_margin=0.5))
    found = rows(made)
    assert {"treatment", "medication"} <= {row["task"] for row in found}
    for row in found:
        assert row["chosen"] != row["rejected"]
        assert set(row) == {"id", "task", "role", "patient_id", "prompt", "chosen", "rejected",
                            "meta"}  # fmt: skip
    for row in of_task(found, "treatment", "medication"):
        assert row["meta"]["margin"] >= 0.5
    for row in of_task(found, "formulation"):
        chosen, rejected = (
            read(row[key][0]["content"], Formulation, labelled=True).model_dump()
            for key in ("chosen", "rejected")
        )
        assert sum(chosen[name] != rejected[name] for name in chosen) == 1


def test_tasks_can_be_left_out_and_the_seed_task_taken_in(make: Callable[..., Made]) -> None:
    made = make(tasks=("patient_turn", "cognitive_model"))
    assert set(made.facts["tasks"]["train"]) == {"patient_turn", "cognitive_model"}
    (seed, *_) = of_task(rows(made, "dev"), "cognitive_model")
    case = builtin_cases()["dylan-1"]
    assert case.cognitive_model.coping_strategies[0].text.rstrip(".") in text_of(seed)
    assert seed["meta"]["source"] == seed["meta"]["answered_by"] == "record"


def test_the_record_as_source_is_an_ablation_that_says_so(make: Callable[..., Made]) -> None:
    made = make(source="record")
    thought = builtin_cases()["andre-1"].cognitive_model.automatic_thoughts[0].text.rstrip(".")
    found = [row for row in rows(made) if row["patient_id"] == "andre"]
    for task in ("formulation", "diagnosis", "treatment", "medication"):
        for row in of_task(found, task):
            assert thought in text_of(row)
            assert row["meta"]["source"] == "record"
    assert of_task(found, "diagnosis")
    assert "hidden record" in (made.folder / "README.md").read_text("utf-8")
    for row in of_task(rows(make()), "formulation", "diagnosis", "treatment", "therapist_turn"):
        assert thought not in text_of(row)


# --- promises, each broken by planting -----------------------------------------------------------


def spoken_spans(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + SPAN]) for i in range(len(found) - SPAN + 1)}


def test_no_hidden_canary_reaches_a_therapist_row(db: Path, make: Callable[..., Made]) -> None:
    clause = "canaryone canarytwo canarythree canaryfour canaryfive"
    with closing(open_readonly(db)) as store:
        (case,) = store.fetch("select record from cases where id = 'andre-1'")
        (turn,) = store.fetch(
            "select t.episode_id, t.idx from turns t join episodes e on e.id = t.episode_id"
            " where e.case_id = 'andre-1' and speaker = 'therapist' order by idx limit 1"
        )
    record = json.loads(case["record"])
    record["history"][0]["text"] = clause
    change(db, "update cases set record = ? where id = 'andre-1'", json.dumps(record))
    clean = make(out="clean")
    assert dropped(clean, "leak") == 0
    held = [row for row in rows(clean) if "canary" in text_of(row)]
    assert held, "the patient knows it"
    assert {row["role"] for row in held} == {"patient"}

    # The therapist says it, as if the barrier had been broken: every row that shows it goes.
    key = (turn["episode_id"], turn["idx"])
    sql = "update turns set text = ? where episode_id = ? and idx = ?"
    change(db, sql, f"So {clause}?", *key)
    leaking = make(out="leaking")
    assert dropped(leaking, "leak") > 3
    assert not [r for r in rows(leaking) if r["role"] == "therapist" and "canary" in text_of(r)]

    # The patient has said it before: then the therapist may take it up.
    change(db, sql, f"Well, {clause}.", turn["episode_id"], turn["idx"] - 1)
    spoken = make(out="spoken")
    assert dropped(spoken, "leak") == 0
    assert [r for r in rows(spoken) if r["role"] == "therapist" and "canary" in text_of(r)]


def test_splits_are_by_patient_and_test_is_never_written(
    db: Path, make: Callable[..., Made]
) -> None:
    made = make()
    assert {row["patient_id"] for row in rows(made, "train")} == {"andre", "aroha"}
    assert {row["patient_id"] for row in rows(made, "dev")} == {"dylan"}
    assert dropped(made, "split") > 10
    change(db, "update cases set patient_id = 'andre' where id = 'dylan-1'")
    with pytest.raises(StoreError, match=r"patient andre is in more than one split \(.*dev"):
        make()


def test_a_synthetic_case_has_the_split_of_its_parents(db: Path, make: Callable[..., Made]) -> None:
    change(db, "update cases set parents = '[\"bjarki-1\"]' where id = 'andre-1'")
    with pytest.raises(StoreError, match=r"andre-1 \(train\) descends from bjarki-1 \(test\)"):
        make()


@pytest.mark.parametrize(
    ("name", "sql"),
    [
        ("status", "update episodes set status = 'failed' where case_id = 'andre-1'"),
        ("safety", "update episodes set crisis = 1 where case_id = 'andre-1'"),
        ("safety", "update turns set crisis = '[]' where idx = 2 and episode_id ="
                   " (select id from episodes where case_id = 'andre-1')"),
        ("harmful reply", "insert into flags(episode_id, place, idx, n, screen, kind, rule, span)"
                          " select id, 'turn', 3, 0, 'reply', 'dismisses_risk', 'planted', 'no'"
                          " from episodes where case_id = 'andre-1'"),
        ("role flip", "update turns set role_flip = 1 where idx = 3 and episode_id ="
                      " (select id from episodes where case_id = 'andre-1')"),
    ],
)  # fmt: skip
def test_a_spoiled_episode_is_left_out_whole(
    name: str, sql: str, db: Path, make: Callable[..., Made]
) -> None:
    assert [row for row in rows(make(out="before")) if row["patient_id"] == "andre"]
    change(db, sql)
    made = make()
    assert dropped(made, name) > 10
    assert not [row for row in rows(made) if row["patient_id"] == "andre"]
    if name == "safety":
        kept = make(out="kept", limits=Limits(include_crisis=True))
        assert [row for row in rows(kept) if row["patient_id"] == "andre"]
        assert "are **in**" in (kept.folder / "README.md").read_text("utf-8")


def test_no_row_overlaps_an_evaluation_item(
    db: Path, make: Callable[..., Made], tmp_path: Path
) -> None:
    item = "A 34-year-old man has had a low mood for six months and wakes at four every day"
    folder = tmp_path / "sets"
    folder.mkdir()
    (folder / "medqa.jsonl").write_text(json.dumps({"question": item, "answer_idx": "A"}), "utf-8")
    clean = make(evaluation_data=folder, out="clean")
    assert dropped(clean, "evaluation overlap") == 0
    change(db, "update turns set text = text || ' ' || ? where idx = 2 and episode_id ="
               " (select id from episodes where case_id = 'andre-1')", item.upper())  # fmt: skip
    unseen = make(out="unseen")
    assert [row for row in rows(unseen) if item.upper() in text_of(row)]
    assert "not looked for" in (unseen.folder / "README.md").read_text("utf-8")
    made = make(evaluation_data=folder)
    assert dropped(made, "evaluation overlap") > 3
    assert not [row for row in rows(made) if item.upper() in text_of(row)]


def test_equal_stores_give_equal_bytes(db: Path, make: Callable[..., Made]) -> None:
    wanted = {"exports": ("messages", "chat", "parquet"), "limits": Limits(min_aligned=0)}
    first, again = make(out="one", **wanted), make(out="two", **wanted)
    files = sorted(p.relative_to(first.folder) for p in first.folder.rglob("*") if p.is_file())
    assert len(files) == 10
    for name in files:
        assert (first.folder / name).read_bytes() == (again.folder / name).read_bytes(), name
    # Rows that stand in another order in the file say the same.
    with closing(sqlite3.connect(db)) as connection, connection:
        held = connection.execute("select * from turns order by idx desc").fetchall()
        connection.execute("delete from turns")
        for row in held:
            connection.execute(
                f"insert into turns values (null, {', '.join('?' * (len(row) - 1))})", row[1:]
            )
    assert make(out="three", **wanted).facts["id"] == first.facts["id"]
    change(db, "update turns set text = 'Something else was said.' where idx = 2")
    assert make(out="four", **wanted).facts["id"] != first.facts["id"]


def test_runs_of_evaluations_are_not_trained_on(db: Path, make: Callable[..., Made]) -> None:
    run = rows(make(out="before"))[0]["meta"]["run_id"]
    change(db, "update runs set kind = 'evaluation' where id = ?", run)
    with pytest.raises(ConfigurationError, match="no row of these tasks"):
        make()
    assert rows(make(from_run=(run,)))
    with pytest.raises(ConfigurationError, match="'nope' is not in"):
        make(from_run=("nope",))
    with pytest.raises(ConfigurationError, match="no row of these tasks"):
        make(from_run=(run,), iteration=3)


def test_a_formulation_must_be_good_enough(make: Callable[..., Made]) -> None:
    made = make(tasks=("formulation", "patient_turn"), limits=Limits(min_aligned=1.0))
    # What holds nothing aligned is empty once that is left out.
    assert dropped(made, "score") >= 1
    assert dropped(made, "empty") >= 1
    assert not of_task(rows(made), "formulation")


def test_of_a_formulation_what_is_aligned_is_taught_and_nothing_else(
    make: Callable[..., Made], db: Path
) -> None:
    taught = of_task(rows(make(limits=Limits(min_aligned=0.01))), "formulation")
    assert taught
    left_out = 0
    for row in taught:
        with open_store(db) as store:
            found = store.fetch(
                "select component, verdict, statement from formulations join deviations"
                " using (episode_id, round, component) where episode_id = ? and round ="
                " (select max(round) from deviations where episode_id = ?)",
                (row["meta"]["episode_id"],) * 2,
            )
        answer = row["completion"][0]["content"]
        for one in found:
            stated = one["statement"] and f"{one['component'].replace('_', ' ')}: " in answer
            assert bool(stated) == (one["verdict"] == "aligned"), one
            left_out += bool(one["statement"]) and one["verdict"] != "aligned"
    assert left_out


# --- the command ---------------------------------------------------------------------------------


def command(*args: str) -> int:
    with pytest.raises(SystemExit) as left:
        run_command(dataset, "mentalarena dataset", list(args))
    return int(left.value.code or 0)


def test_the_command_writes_a_folder_and_a_row_of_the_store(
    db: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    args = ("--db", str(db), "--out", str(out), "--min-aligned", "0", "--export", "chat")
    assert command(*args) == 0
    said = capsys.readouterr().out
    assert "role flip" in said
    facts = json.loads((out / "manifest.json").read_text("utf-8"))
    with open_store(db) as store:
        (row,) = store.fetch("select * from datasets")
    assert (row["id"], row["kind"], row["rows"]) == (
        facts["id"],
        "sft",
        sum(facts["rows"].values()),
    )
    assert json.loads(row["funnel"]) == facts["funnel"]
    assert check_provider_file(out / "chat" / "train.jsonl") == facts["rows"]["train"]
    # The same command again replaces it by the same.
    before = (out / "train.jsonl").read_bytes()
    assert command(*args) == 0
    assert (out / "train.jsonl").read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--db", "nowhere.db"), "there is no store at nowhere.db"),
        (("--tasks", "poetry"), "--tasks 'poetry': 'poetry' is no task; known are patient_turn"),
        (("--out", "."), "--out . holds something that is no dataset"),
        (("--evaluation-data", "nowhere"), "--evaluation-data nowhere: there is no such file"),
        (("--kind", "preference", "--export", "messages", "--min-score", "1"),
         "--export messages: a preference pair is not one conversation"),
        (("--tasks", "formulation", "--min-aligned", "1"), "the filter 'score' took"),
        (("--released", "nowhere.jsonl"), "--released nowhere.jsonl cannot be read"),
        (("--released", "x", "--kind", "preference"), "such rows hold no second answer"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(
    args: tuple[str, ...], message: str, db: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    held = sorted(tmp_path.iterdir())
    assert command("--db", str(db), "--out", "set", *args) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert sorted(tmp_path.iterdir()) == held, "nothing half-made is left"
