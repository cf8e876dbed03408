"""The loop's gates close on what was planted, and leave the model before in its place."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.mock_server import MockServer
from mentalarena.cli import cli, run_command
from mentalarena.config import ArenaConfig
from mentalarena.errors import ConfigurationError, ProviderError
from mentalarena.roster import read_patient_file
from mentalarena.similarity import SentenceEncoder
from mentalarena.store import open_store
from training import tiny_models
from training.selfplay import stages
from training.selfplay.gates import Gate, data_gates, decide, model_gates
from training.selfplay.loop import Rounds, told
from training.selfplay.measures import data_measures
from training.selfplay.plots import draw
from training.selfplay.recipe import FOLDER, Gates, LoopRecipe, read_gates, read_loop_recipe
from training.selfplay.serving import load_adapter, serve
from training.selfplay.stages import TEACHER, Loop

GATES = read_gates("")
SMALL = {"teacher_episodes": 30, "new_patients": 3, "perplexity_rows": 0, "probe_episodes": 0,
         "min_aligned": 0.1, "questions": ()}  # fmt: skip


def recipe(**values: Any) -> LoopRecipe:
    return read_loop_recipe("smoke").model_copy(update={**SMALL, **values})


def make_loop(folder: Path, **values: Any) -> Loop:
    return Loop("loop", recipe(**values), "huggingface:none,answers=labelled", 3,
                str(folder / "loop.db"), folder / "out")  # fmt: skip


def teacher_plays(loop: Loop, iteration: int, **values: Any) -> dict[str, Any]:
    """The teacher's part of an iteration's episodes: what needs no model."""
    stages.make_patients(loop, iteration)
    config = replace(loop.config(iteration, "rules", "rules"), **values)
    found = stages._played(loop, iteration, TEACHER, config, 30, 0, None)
    return {TEACHER: found}


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a loop whose first two iterations were played by the teacher."""
    folder = tmp_path_factory.mktemp("loop")
    loop = make_loop(folder)
    for iteration in (1, 2):
        teacher_plays(loop, iteration)
    return folder


@pytest.fixture
def folder(played: Path, tmp_path: Path) -> Path:
    shutil.copytree(played, tmp_path / "copy")
    return tmp_path / "copy"


def looked_at(loop: Loop, iteration: int) -> tuple[dict[str, Any], dict[str, Gate]]:
    with open_store(loop.db) as store:
        stages.make_dataset(loop, iteration, store)
        found = data_measures(loop, iteration, store, SentenceEncoder(store))
    return found, {gate.name: gate for gate in data_gates(found, GATES)}


def test_good_data_open_every_gate(folder: Path) -> None:
    loop = make_loop(folder)
    measures, gates = looked_at(loop, 1)
    assert {name: gate.state for name, gate in gates.items() if gate.state == "closed"} == {}
    assert measures["novelty"] is None, "nothing came before"
    assert measures["rows"] > GATES.min_rows
    again, later = looked_at(loop, 2)
    assert later["novelty"].state != "closed", later["novelty"]
    assert again["novelty"] > 0.4
    people = read_patient_file(str(loop.folder(2) / stages.PATIENTS)).patients
    new = {one.id for one in people if one.synthetic}
    first = read_patient_file(str(loop.folder(1) / stages.PATIENTS)).patients
    assert len(new) == 3
    assert not new & {one.id for one in first}
    assert {one.split for one in people if one.synthetic} == {"train"}
    assert "test" not in {one.split for one in people}


def test_earlier_rows_are_mixed_in_by_their_weight(folder: Path) -> None:
    loop = make_loop(folder, weights=(1.0, 0.5))
    with open_store(loop.db) as store:
        rows = stages.make_dataset(loop, 2, store)["rows"]["train"]
        found = store.fetch(
            "select e.iteration, count(*) as n from dataset_rows d join episodes e"
            " on e.id = d.episode_id group by 1 order by 1"
        )
    counts = {row["iteration"]: row["n"] for row in found}
    assert sum(counts.values()) == rows
    assert 0.3 < counts[1] / counts[2] < 0.7
    loop = make_loop(folder, weights=(1.0,))
    with open_store(loop.db) as store:
        made = stages.make_dataset(loop, 2, store)
        assert made["rows"]["train"] == counts[2]
        # The same store, the same bytes.
        assert stages.make_dataset(loop, 2, store)["files"] == made["files"]


Plant = Callable[[sqlite3.Connection], object]


def one_text(db: sqlite3.Connection) -> None:
    db.execute("update turns set text = case speaker when 'patient' then 'I feel sad all day long'"
               " else 'What makes you feel so sad, all day long?' end")  # fmt: skip
    db.execute("update formulations set statement = 'They feel sad all day long.', quotes = '[]'")


def one_label(db: sqlite3.Connection) -> None:
    db.execute("update diagnoses set code = 'F32.1', label = 'Major depressive disorder'")


def flips(db: sqlite3.Connection) -> None:
    db.execute("update turns set role_flip = 1 where speaker = 'therapist' and idx = 1 and"
               " episode_id in (select id from episodes order by id limit 40)")  # fmt: skip


@pytest.mark.parametrize(
    ("plant", "gate"),
    [(one_text, "duplicates"), (one_label, "label_entropy"), (flips, "safety")],
)
def test_what_is_planted_closes_its_gate(folder: Path, plant: Plant, gate: str) -> None:
    loop = make_loop(folder)
    with sqlite3.connect(loop.db) as db:
        plant(db)
    _, gates = looked_at(loop, 1)
    assert gates[gate].state == "closed", gates
    decision, reason = decide(gates.values(), 0, patience=2)
    assert decision == "keep"
    assert f"{gate}: " in reason


def test_a_crisis_that_the_screen_had_missed_closes_its_gate(folder: Path) -> None:
    loop = make_loop(folder)
    with sqlite3.connect(loop.db) as db:
        ids = [row[0] for row in db.execute("select id from episodes order by id")][::3]
        db.executemany(
            "update turns set text = 'I am going to kill myself tonight.' where speaker = 'patient'"
            " and idx = 2 and episode_id = ?",
            [(one,) for one in ids],
        )
    _, gates = looked_at(loop, 1)
    assert gates["crisis"].state == "closed"


def test_copies_of_an_earlier_iteration_are_not_new(folder: Path) -> None:
    loop = make_loop(folder, weights=(1.0,))
    with sqlite3.connect(loop.db) as db:
        # The second iteration's episodes say what the first one's said, one by one.
        of = [
            [row[0] for row in db.execute(
                "select id from episodes where iteration = ? and status = 'ok' order by id", (n,)
            )]
            for n in (1, 2)
        ]  # fmt: skip
        pairs = list(zip(*of, strict=False))
        assert len(pairs) > 20
        for old, new in pairs:
            for table, key in (("turns", "idx"), ("formulations", "round, component")):
                columns = "text" if table == "turns" else "statement, quotes"
                values = db.execute(
                    f"select {columns}, {key} from {table} where episode_id = ?", (old,)
                ).fetchall()
                width = columns.count(",") + 1
                sets = ", ".join(f"{name.strip()} = ?" for name in columns.split(","))
                where = " and ".join(f"{name.strip()} = ?" for name in key.split(","))
                db.executemany(
                    f"update {table} set {sets} where {where} and episode_id = ?",
                    [(*row[:width], *row[width:], new) for row in values],
                )
        gone = [row[0] for row in db.execute("select id from episodes where iteration = 2")]
        kept = {new for _, new in pairs}
        db.executemany("update episodes set status = 'failed' where id = ?",
                       [(one,) for one in gone if one not in kept])  # fmt: skip
    measures, gates = looked_at(loop, 2)
    assert measures["novelty"] < 0.1
    assert gates["novelty"].state == "closed"


def test_guidance_that_quotes_the_record_closes_its_gate(tmp_path: Path) -> None:
    loop = make_loop(tmp_path)
    teacher_plays(loop, 1, guidance="oracle")
    measures, gates = looked_at(loop, 1)
    assert measures["leak"] > 0.1
    assert gates["leak"].state == "closed"


class Stages:
    """What needs a model, replaced: a candidate is another rule-based therapist."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, before: str, candidate: str) -> None:
        self.done: list[str] = []
        self._before, self._candidate = before, candidate
        monkeypatch.setattr(stages, "play", self._play)
        monkeypatch.setattr(stages, "train", self._train)
        monkeypatch.setattr(stages, "serve_candidate", self._serve)
        monkeypatch.setattr(Loop, "answers", property(lambda loop: "labelled"))

    def _play(self, loop: Loop, iteration: int, model: str, console: Any) -> dict[str, Any]:
        self.done.append(f"{iteration} play {model}")
        return teacher_plays(loop, iteration)

    def _train(self, loop: Loop, iteration: int) -> dict[str, Any]:
        self.done.append(f"{iteration} train")
        return {"adapter": "adapter", "adapter_sha256": "0" * 64, "dev_loss": [[0, 2.0], [4, 1.5]]}

    def _serve(self, loop: Loop, iteration: int) -> dict[str, Any]:
        return {"spec": self._candidate, "sha256": "0" * 64, "check": "none"}


def go(loop: Loop, before: str, iterations: int, gates: Gates = GATES) -> dict[str, Any]:
    rounds = Rounds(replace(loop, model=before), gates, lambda text: None, None)
    rounds.go(iterations)
    with open_store(loop.db) as store:
        return told(replace(loop, model=before), store)


def test_a_worse_model_is_not_promoted_and_the_loop_stops(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse = Stages(monkeypatch, "rules", "rules,misread=0.8")
    found = go(make_loop(folder, samples=2), "rules", 3)
    assert found["model"] == "rules"
    assert [row["decision"] for row in found["iterations"]] == ["keep", "stop"]
    gate = found["iterations"][0]["gates"]["improvement"]
    assert gate["state"] == "closed"
    assert gate["value"] < 0
    # Kept means that the same model plays on; stopped means that nothing is played any more.
    assert worse.done == ["1 play rules", "1 train", "2 play rules", "2 train"]
    assert "2 iterations in a row changed nothing" in found["iterations"][1]["reason"]


def test_a_better_model_is_promoted_and_plays_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = Stages(monkeypatch, "rules,misread=0.8", "rules").done
    loop = make_loop(folder, samples=2)
    found = go(loop, "rules,misread=0.8", 2)
    first, second = found["iterations"]
    assert (first["decision"], first["accepted"]) == ("promote", 1)
    assert first["gates"]["improvement"]["value"] > 0
    assert found["model"] == "rules"
    assert done[2] == "2 play rules"
    # The second candidate is the model that already plays: no gain, so it is kept.
    assert second["decision"] == "keep"
    # The same command has nothing to do, and more iterations go on from there.
    before = list(done)
    assert go(loop, "rules,misread=0.8", 2)["iterations"] == found["iterations"]
    assert done == before
    with open_store(loop.db) as store:
        rows = store.fetch("select * from lineage where iteration = 1")
    assert {row["model"] for row in rows} == {"rules"}
    assert {row["played_in"] for row in rows} == {1}
    turn = next(row for row in rows if row["task"] == "therapist_turn")
    assert turn["speaker"] == "therapist"
    assert draw(found, folder / "plot.png")
    assert (folder / "plot.png").stat().st_size > 20_000
    with pytest.raises(ConfigurationError, match=r"other values of gates.patience"):
        go(loop, "rules,misread=0.8", 3, GATES.model_copy(update={"patience": 5}))


def test_data_that_close_a_gate_are_not_trained_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = Stages(monkeypatch, "rules", "rules").done
    with sqlite3.connect(folder / "loop.db") as db:
        one_label(db)
    found = go(make_loop(folder), "rules", 1)
    (row,) = found["iterations"]
    assert row["decision"] == "keep"
    assert row["gates"]["label_entropy"]["state"] == "closed"
    assert row["candidate"] is None
    assert done == ["1 play rules"]
    assert found["model"] == "rules"


def difference(value: float, low: float | None, high: float | None) -> dict[str, Any]:
    return {"difference": {"value": value, "low": low, "high": high}}


def test_gates_of_a_model_look_at_the_right_end_of_the_interval() -> None:
    def states(
        gain: Any, form: Any = None, asked: Any = (), stated: float | None = 1.0
    ) -> dict[str, str]:
        measures = {"understanding_at_0": gain} if gain else {}
        if form:
            measures["valid_format"] = form
        compared = {"primary": "understanding_at_0", "measures": measures}
        known = {} if stated is None else {"stated_at_0": {"value": stated}}
        gates = model_gates(compared, {"measures": known}, asked, GATES)
        return {gate.name: gate.state for gate in gates}

    up, open_, down = difference(0.2, 0.1, 0.3), difference(0, -0.1, 0.1), difference(-1, -2, -0.1)
    assert states(up)["improvement"] == "open"
    assert states(open_)["improvement"] == "closed"
    # Equal models: an interval of no width at 0 is no gain.
    assert states(difference(0, 0, 0))["improvement"] == "closed"
    assert states(None)["improvement"] == "closed"
    assert states(difference(0.2, None, None))["improvement"] == "closed"
    assert states(up, down)["valid_format"] == "closed"
    assert states(up, open_)["valid_format"] == "open"
    # Who says nothing misreads nothing: a gain over one who does, and no better therapist.
    assert states(up, stated=0.0)["stated"] == "closed"
    assert states(up, stated=0.6)["stated"] == "warned"
    assert states(up, stated=0.8)["stated"] == "open"
    assert states(up, stated=None)["stated"] == "warned", "not measured"
    assert states(up)["general"] == "warned", "not measured"
    assert states(up, open_, [{"task": "a", "against": up}, {"task": "b", "against": down}])[
        "general"
    ] == "closed"  # fmt: skip


@pytest.mark.parametrize("name", sorted(path.stem for path in FOLDER.glob("*.toml")))
def test_every_recipe_is_read(name: str) -> None:
    assert read_loop_recipe(name).tasks


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("episodes = 2\n", "episodes: Field required"),
        ("weights = [1.0, 0.5]", "weights"),
        ('guidance = "topic"', "guidance"),
        ("teacher = ", "teacher"),
    ],
)
def test_a_wrong_recipe_is_one_line(
    change: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (FOLDER / "smoke.toml").read_text("utf-8")
    wrong = {"episodes = 2\n": "", "weights = [1.0, 0.5]": "weights = [2.0]",
             'guidance = "topic"': 'guidance = "all"', "teacher = ": "taecher = "}  # fmt: skip
    path = tmp_path / "own.toml"
    path.write_text(text.replace(change, wrong[change], 1), "utf-8")
    with pytest.raises(SystemExit) as left:
        run_command(cli, "mentalarena", ["selfplay", "--recipe", str(path), "--db",
                                         str(tmp_path / "a.db")])  # fmt: skip
    assert left.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert str(path) in line
    assert said in line
    assert not (tmp_path / "a.db").exists()


def test_weights_that_are_not_those_that_play_are_refused(tmp_path: Path) -> None:
    loop = replace(make_loop(tmp_path), model="openai:m")
    with pytest.raises(ConfigurationError, match="different weights"):
        _ = loop.lora
    with pytest.raises(ConfigurationError, match="serve = 'merge' is for local models"):
        serve("merge", "openai:m", tmp_path, tmp_path / "m.gguf", "n", "", 5)


def test_an_adapter_arrives_at_a_server_as_a_models_name(tmp_path: Path) -> None:
    adapter = tmp_path / "tuned" / "adapter"
    adapter.mkdir(parents=True)
    (adapter / "adapter_model.safetensors").write_bytes(b"weights")
    with MockServer(models=("base",), reply_words=8) as server:
        with pytest.raises(ProviderError, match="no adapter found"):
            load_adapter(server.base_url, "loop-1", adapter, 5)
        (adapter / "adapter_config.json").write_text("{}", "utf-8")
        for _ in range(2):
            served = serve("server", "openai:base", tmp_path / "tuned", tmp_path / "m.gguf",
                           "loop-1", server.base_url, 5)  # fmt: skip
        loads = [seen for seen in server.requests if seen.path.endswith("load_lora_adapter")]
        assert [seen.outcome for seen in loads] == ["404", "ok"], "what is loaded is left alone"
        assert served.spec.startswith("openai:loop-1")
        loop = replace(make_loop(tmp_path), model="openai:base", base_url=server.base_url)
        loop = replace(
            loop,
            recipe=recipe(evaluation="short.toml", samples=1, serve="server", answer_tokens=1024),
        )
        evaluation, rows = stages.evaluate(loop, served.spec, "dev", None)
        asked = {seen.body["model"] for seen in server.requests if "messages" in (seen.body or {})}
    assert asked == {"loop-1"}
    assert evaluation.startswith("ev-")
    assert {row["status"] for row in rows} == {"ok"}
    with MockServer() as plain, pytest.raises(ProviderError, match="--enable-lora"):
        load_adapter(plain.base_url, "loop-1", adapter, 5)
    with pytest.raises(ProviderError, match="does not answer"):
        load_adapter("http://127.0.0.1:9/v1", "loop-1", adapter, 5)


def test_an_adapter_beside_its_weights_takes_a_seat(tmp_path: Path) -> None:
    path = tiny_models.save_model(tmp_path / "model")
    served = serve("adapter", f"huggingface:{path},answers=small", tmp_path / "tuned",
                   tmp_path / "m.gguf", "n", "", 5)  # fmt: skip
    assert served.spec == f"huggingface:{path},adapter={tmp_path}/tuned/adapter,answers=small"


def test_the_configuration_of_an_iteration_seats_the_model(tmp_path: Path) -> None:
    loop = make_loop(tmp_path, patient="model", judge="rules")
    config = loop.config(2, "local", "local")
    assert (config.patient, config.therapist, config.judge) == ("local", "local", "rules")
    assert config.seed == loop.seed + 2
    assert isinstance(config, ArenaConfig)
    assert json.loads(loop.recipe.model_dump_json())["patient"] == "model"


def test_a_gates_file_names_what_differs(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text("min_rows = 7\nleak = { warn = 0, close = 1 }\n", "utf-8")
    found = read_gates(str(own))
    assert (found.min_rows, found.leak.close) == (7, 1.0)
    assert found.novelty == GATES.novelty
    own.write_text("min_row = 7\n", "utf-8")
    with pytest.raises(ConfigurationError, match=r"own\.toml: min_row: "):
        read_gates(str(own))
    assert read_gates(str(FOLDER.parent / "gates" / "smoke.toml")).improvement.close == -9.0
