"""``mentalarena replay``: makes the same rows again, asks nobody, and names what does not fit."""

import json
import shutil
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

import mentalarena.similarity
from benchmarks.mock_server import MockServer
from graphs.batch import batch
from graphs.branch import branch
from graphs.ledger import TRAJECTORY
from graphs.play import run
from graphs.reproduce import EPISODE, KEYS, replay
from mentalarena.migrations import migrations
from mentalarena.rows import read_tables
from mentalarena.similarity import SentenceEncoder
from mentalarena.store_reader import open_readonly
from mentalarena.thresholds import read_thresholds
from tests.graphs.batches import SHORT, model, result, short_recipe
from tests.graphs.test_commands import Command, Ended, command, one_line  # noqa: F401

RULES = ("--episodes", "2", "--therapist", "rules,misread=0.5", *SHORT)


@pytest.fixture(autouse=True)
def _short_recipe(command: Command, tmp_path: Path) -> None:  # noqa: F811
    short_recipe(tmp_path)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two small stores by who played them: rules that misread, and a model that stumbles once."""
    folder = tmp_path_factory.mktemp("stored")
    short_recipe(folder)
    paths = {name: folder / f"{name}.db" for name in ("rules", "model")}
    with (
        pytest.MonkeyPatch.context() as here,
        MockServer(reply_words=12, burst={"empty": 2}) as server,
    ):
        here.chdir(folder)
        for name, seats in (("rules", RULES), ("model", (*model(server), "--episodes", "2"))):
            args = [*seats, "--db", str(paths[name]), "--quiet"]
            assert batch.main(args, standalone_mode=False) == 0
    return paths


@pytest.fixture
def rules(stored: dict[str, Path]) -> None:
    """The store is one that rule-based seats filled."""
    shutil.copy(stored["rules"], "arena.db")


@pytest.fixture
def by_model(stored: dict[str, Path]) -> None:
    """The store is one that a model filled; its server is gone."""
    shutil.copy(stored["model"], "arena.db")


def fetch(sql: str, *params: object) -> list[dict[str, Any]]:
    with open_readonly("arena.db") as store:
        return store.fetch(sql, params)


def change(sql: str, *values: object) -> None:
    """Alter the stored file behind the project's back."""
    with sqlite3.connect("arena.db") as db:
        assert db.execute(sql, values).rowcount == 1
    db.close()


def check_identical(ended: Ended, episodes: int) -> dict[str, Any]:
    assert ended.code == 0, ended
    found = result(ended)
    assert found["episodes"] == found["identical"] == episodes
    assert (found["differ"], found["not_replayed"], found["not_identical"]) == (0, 0, [])
    return found


def different(ended: Ended) -> list[dict[str, str]]:
    """The differences of the one episode that is not identical."""
    assert ended.code == 1, ended
    (episode,) = result(ended)["not_identical"]
    assert episode["not_replayed"] is None
    assert 0 < len(episode["differences"]) <= 5
    assert episode["differing"] >= len(episode["differences"])
    found: list[dict[str, str]] = episode["differences"]
    return found


# --- identical -----------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_batch_comes_out_again_with_no_call_and_nothing_written(
    command: Command,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: str,
) -> None:
    with MockServer(reply_words=12) as server:
        args = (*model(server), "--episodes", "4", "--workers", workers, "--quiet")
        assert command(batch, *args).code == 0
        paid = server.stats()["chat_requests"]
        before = Path("arena.db").read_bytes()
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(scratch))
        found = check_identical(command(replay, "--json"), 4)
        assert found["answers_from_journal"] == paid
        assert server.stats()["chat_requests"] == paid, "a replay asks nobody"
    ended = command(replay, "--run", "batch")
    assert ended.code == 0, "nor does it need the server"
    assert ended.out == (
        "4 of 4 episodes replayed with identical rows, 0 model calls "
        f"({paid:,} answers from the journal)\n"
    )
    assert Path("arena.db").read_bytes() == before
    assert not list(scratch.iterdir()), "the scratch store is gone"


@pytest.mark.slow
def test_a_hundred_episodes_take_well_under_a_minute(command: Command) -> None:  # noqa: F811
    """Of processor time: how long the machine lets one wait is its own affair."""
    with MockServer(reply_words=40) as server:
        args = ("--model", "openai:m", "--base-url", server.base_url, "--episodes", "100")
        assert command(batch, *args, "--workers", "2", "--quiet").code == 0
        paid = server.stats()["chat_requests"]
    before = time.process_time()
    found = check_identical(command(replay, "--json"), 100)
    assert time.process_time() - before < 40
    assert found["answers_from_journal"] == paid > 5000


@pytest.mark.usefixtures("rules")
def test_rule_based_episodes_come_out_again_with_their_injections(command: Command) -> None:  # noqa: F811
    assert fetch("select * from injections")
    assert check_identical(command(replay, "--json"), 2)["answers_from_journal"] == 0


@pytest.mark.usefixtures("by_model")
def test_unusable_answers_are_made_again_too(command: Command) -> None:  # noqa: F811
    errors = fetch("select boundary, type from errors")
    assert len(errors) >= 2
    assert {(row["boundary"], row["type"]) for row in errors} == {("parse", "ParseFailure")}
    check_identical(command(replay, "--json"), 2)


@pytest.mark.usefixtures("by_model")
def test_vectors_come_from_the_store(
    command: Command,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def loaded() -> None:
        raise AssertionError("the encoder was loaded")

    assert fetch("select * from embeddings")
    monkeypatch.setattr(mentalarena.similarity, "encoder_process", loaded)
    check_identical(command(replay, "--json"), 2)


def test_vectors_that_are_gone_are_made_again(command: Command, by_model: None) -> None:  # noqa: F811
    with sqlite3.connect("arena.db") as db:
        assert db.execute("delete from embeddings").rowcount > 0
    db.close()
    check_identical(command(replay, "--json"), 2)
    assert fetch("select * from embeddings") == [], "and are not stored"


def test_an_episode_that_went_on_after_an_interruption_is_no_other(command: Command) -> None:  # noqa: F811
    with MockServer(reply_words=12) as server:
        args = (*model(server), "--episodes", "2", "--quiet")
        assert command(batch, *args, "--max-calls", "9").code == 1
        assert command(batch, *args).code == 0
    check_identical(command(replay, "--json"), 2)


def test_of_several_attempts_the_last_is_made_again(command: Command) -> None:  # noqa: F811
    with MockServer(reply_words=12, burst={"empty": 6}) as server:
        args = (*model(server), "--case", "noah-1", "--retry-episodes", "3", "--quiet")
        assert command(batch, *args).code == 0
    assert fetch("select attempts from episodes") == [{"attempts": 2}]
    (last,) = fetch("select count(*) as n from calls where attempt = 2")
    assert 0 < last["n"] < fetch("select count(*) as n from calls")[0]["n"]
    assert check_identical(command(replay, "--json"), 1)["answers_from_journal"] == last["n"]


def test_branches_come_out_again(command: Command) -> None:  # noqa: F811
    with MockServer(reply_words=12) as server:
        ended = command(run, *model(server), "--case", "noah-1", "--seed", "3", "--quiet")
        parent = ended.out.split()[0]
        for child, step in ((parent, "3"), (None, "5")):
            if child is None:
                (row,) = fetch("select id from episodes where parent is not null")
                child = row["id"]
            args = (child, "--step", step, "--base-url", server.base_url, "--quiet")
            assert command(branch, *args).code == 0
    check_identical(command(replay, "--json"), 3)
    (key,) = fetch("select call_id from turns where episode_id = ? and idx = 0", parent)
    change("update calls set prompt_hash = 'x' where id = ?", key["call_id"])
    found = result(command(replay, "--json"))
    assert found["differ"] == 3, "a branch rests on its parent's answers"


# --- not identical -------------------------------------------------------------------------------

TAMPERED = {
    "turns.text": "update turns set text = text || ' No.' {first} and idx = 2",
    "turns.disclosed": "update turns set disclosed = '[\"none:0\"]' {first} and idx = 2",
    "deviations.similarity": "update deviations set similarity = 0.123456 {first} "
    "and round = 0 and component = 'emotions'",
    "deviations.band_low": "update deviations set band_low = band_low + 1e-9 {first} "
    "and round = 0 and component = 'behaviors'",
    "decisions.reason": "update decisions set reason = 'by chance' {first} and round = 0",
    "injections.truth": "update injections set truth = '?' where (episode_id, round, component) = "
    "(select episode_id, round, component from injections limit 1)",
    "routes.target": "update routes set target = 'close' {first} and step = 3",
    "formulations.statement": "update formulations set statement = '?' {first} "
    "and round = 0 and component = 'behaviors'",
    "diagnoses.rationale": "update diagnoses set rationale = '?' {first} and idx = 1",
    "plans.health_after": "update plans set health_after = 11 - health_after {first} "
    "and kind = 'treatment'",
    "scores.score": "update scores set score = 11 - score {first} and kind = 'treatment'",
    "episodes.crisis": "update episodes set crisis = 1 - crisis where id = {id}",
    "episodes.principle_id": "update episodes set principle_id = '?' where id = {id}",
    "episodes.principle_scores": "update episodes set principle_scores = '{{}}' where id = {id}",
    "episodes.self_judged": "update episodes set self_judged = 1 where id = {id}",
    "episodes.guidance": "update episodes set guidance = 'oracle' where id = {id}",
    "cases.split": "update cases set split = case split when 'test' then 'dev' else 'test' end "
    "where id = (select case_id from episodes where id = {id})",
}


@pytest.mark.usefixtures("rules")
@pytest.mark.parametrize("place", TAMPERED)
def test_a_value_that_was_altered_is_named(command: Command, place: str) -> None:  # noqa: F811
    first = "(select id from episodes order by id limit 1)"
    change(TAMPERED[place].format(id=first, first=f"where episode_id = {first}"))
    (difference,) = different(command(replay, "--json"))
    assert f"{difference['table']}.{difference['column']}" == place
    assert difference["stored"] != difference["made"]


@pytest.mark.usefixtures("rules")
def test_another_seed_is_named_and_plays_otherwise(command: Command) -> None:  # noqa: F811
    change("update episodes set seed = seed + 1 where id = (select min(id) from episodes)")
    places = [(one["table"], one["column"]) for one in different(command(replay, "--json"))]
    assert places[0] == ("episodes", "seed")
    assert ("turns", "text") in places


@pytest.mark.usefixtures("rules")
def test_rows_too_few_and_too_many_are_named(command: Command) -> None:  # noqa: F811
    (row,) = fetch("select * from turns order by episode_id, idx desc limit 1")
    change("delete from turns where episode_id = ? and idx = ?", row["episode_id"], row["idx"])
    change(
        "insert into errors (id, episode_id, attempt, boundary, type, message) "
        "values ('e1', ?, 1, 'role_flip', 'RoleFlip', 'patient: spoke as therapist')",
        row["episode_id"],
    )
    # A server's failure came and went; only what answers led to is made again.
    change(
        "insert into errors (id, episode_id, attempt, boundary, type, message) "
        "values ('e2', ?, 1, 'provider', 'ProviderError', 'no answer in time')",
        row["episode_id"],
    )
    found = [tuple(one.values()) for one in different(command(replay, "--json"))]
    assert found == [
        ("turns", f"idx {row['idx']}", "", "none", "a row"),
        ("errors", "id e1", "", "a row", "none"),
    ]


@pytest.mark.usefixtures("rules")
def test_a_difference_is_told_in_one_line_where_the_values_part(command: Command) -> None:  # noqa: F811
    (row,) = fetch("select episode_id, text from turns order by episode_id, idx limit 1")
    text = "So it is. \x1b[31m" + "and so on " * 40
    change("update turns set text = ? where text = ?", text, row["text"])
    ended = command(replay)
    assert ended.code == 1
    line, last = ended.out.splitlines()
    assert line.startswith(f'{row["episode_id"]}  turns, idx 0, text: stored "So it is. ')
    assert len(line) < 250, "long values are cut"
    assert "\x1b" not in ended.out
    assert last.startswith("1 of 2 episodes replayed with identical rows, 0 model calls")
    assert f"show {row['episode_id']} --prompts" in ended.err


@pytest.mark.usefixtures("by_model")
def test_an_answer_to_another_prompt_is_named(command: Command) -> None:  # noqa: F811
    key, *_ = fetch("select id from calls where purpose = 'diagnose'")
    change("update calls set prompt_hash = ? where id = ?", "0" * 64, key["id"])
    (difference,) = different(command(replay, "--json"))
    assert difference["table"] == "calls"
    assert (difference["row"], difference["column"]) == (key["id"], "prompt_hash")


@pytest.mark.usefixtures("by_model")
def test_an_answer_that_was_altered_shows_in_what_follows_from_it(command: Command) -> None:  # noqa: F811
    key, *_ = fetch("select id from calls where seat = 'patient' and step = 1")
    change("update calls set answer = 'I never said this.' where id = ?", key["id"])
    found = different(command(replay, "--json"))
    assert found[0]["table"] == "turns"
    assert found[0]["made"] == '"I never said this."'


@pytest.mark.usefixtures("by_model")
def test_a_stored_answer_that_no_step_uses_is_named(command: Command) -> None:  # noqa: F811
    columns = "episode_id, attempt, step, node, visit, sample, seat, purpose, model, answer, "
    columns += "resolved_model, template_hash, prompt_hash, latency_ms, attempts"
    change(
        f"insert into calls (id, reask, {columns}) select 'spare', 9, {columns} from calls "
        "where purpose = 'diagnose' limit 1"
    )
    (difference,) = different(command(replay, "--json"))
    assert tuple(difference.values()) == ("calls", "spare", "", "a row", "none")


@pytest.mark.usefixtures("by_model")
def test_a_missing_answer_is_said_and_the_other_episode_is_replayed(command: Command) -> None:  # noqa: F811
    gone, *_ = fetch("select id, episode_id, step from calls where purpose = 'confirm'")
    with sqlite3.connect("arena.db") as db:
        db.execute("update diagnoses set call_id = null where call_id = ?", (gone["id"],))
        db.execute("delete from calls where id = ?", (gone["id"],))
    db.close()
    ended = command(replay)
    assert ended.code == 1
    line, last = ended.out.splitlines()
    assert line == (
        f"{gone['episode_id']}  not replayed: step {gone['step']} (confirm): the next answer is "
        "not in the journal"
    )
    assert last.startswith("1 of 2 episodes")
    found = result(command(replay, "--json"))
    assert (found["identical"], found["differ"], found["not_replayed"]) == (1, 0, 1)


@pytest.mark.usefixtures("rules")
def test_what_another_version_played_is_said(command: Command) -> None:  # noqa: F811
    change("update runs set config = json_set(config, '$.novelty', 1)")
    ended = command(replay)
    assert ended.code == 1
    assert ended.out.count("not replayed: episode ep-") == 2
    assert "novelty, which this version does not know" in ended.out
    assert "0 of 2 episodes" in ended.out


def test_a_run_is_replayed_with_its_own_thresholds(command: Command) -> None:  # noqa: F811
    values = json.loads(read_thresholds("", SentenceEncoder()).text)
    values["max_intent_bias"] = values["max_missed"] = 8
    Path("lenient.json").write_text(json.dumps(values), "utf-8")
    assert command(batch, *RULES, "--thresholds", "lenient.json", "--quiet").code == 0
    Path("lenient.json").unlink()
    check_identical(command(replay, "--json"), 2)
    change("update templates set text = '{}' where name = 'thresholds'")
    ended = command(replay)
    assert ended.code == 1
    assert ended.out.count("this version cannot read its thresholds") == 2


# --- which episodes ------------------------------------------------------------------------------


@pytest.mark.usefixtures("rules")
def test_episodes_are_named_by_the_beginning_of_their_ids(command: Command) -> None:  # noqa: F811
    first, _ = (row["id"] for row in fetch("select id from episodes order by id"))
    change("update turns set text = '?' where episode_id <> ? and idx = 0", first)
    check_identical(command(replay, first, first[:9], "--json"), 1)


def test_only_complete_episodes_are_replayed(command: Command) -> None:  # noqa: F811
    with MockServer(reply_words=12, burst={"empty": 6}) as server:
        args = (*model(server), "--retry-episodes", "0", "--quiet")
        assert command(batch, *args, "--case", "noah-1").code == 1
        assert command(batch, *args, "--case", "walter-1").code == 0
    (failed,) = fetch("select id from episodes where status = 'failed'")
    check_identical(command(replay, "--run", "batch", "--json"), 1)
    ended = command(replay, failed["id"])
    assert ended.code == 1
    assert f"{failed['id']}  not replayed: it is failed, and only a complete" in ended.out
    assert "0 of 1 episodes" in ended.out
    with sqlite3.connect("arena.db") as db:
        db.execute("update episodes set status = 'aborted'")
    db.close()
    assert "no episode of arena.db is complete" in one_line(command(replay))


@pytest.mark.usefixtures("rules")
def test_user_errors_are_one_line(command: Command) -> None:  # noqa: F811
    assert "no run 'other' in arena.db; the last ones it holds: batch" in one_line(
        command(replay, "--run", "other")
    )
    assert "no episode 'ep-?' in the store" in one_line(command(replay, "ep-?"))
    assert "fits several episodes" in one_line(command(replay, "ep-"))
    assert "not both" in one_line(command(replay, "ep-", "--run", "batch"))
    assert "there is no store at other.db" in one_line(command(replay, "--db", "other.db"))


@pytest.mark.usefixtures("rules")
def test_progress_is_shown_in_a_terminal_and_never_with_json(
    command: Command,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "2/2" in command(replay).out
    check_identical(command(replay, "--json"), 2)


# --- nothing is left out -------------------------------------------------------------------------


def test_every_table_of_a_trajectory_is_compared_by_its_key() -> None:
    with Database(memory=True) as database:
        migrations.apply(database)
        schema = read_tables(database.conn)
    assert set(KEYS) == {*TRAJECTORY, "errors"}
    for table, key in KEYS.items():
        whole = set(schema[table].key)
        assert set(key) == (whole if table == "errors" else whole - {"episode_id"}), table
    belonging = {
        "id", "run_id", "sample", "iteration", "attempts", "started_at", "finished_at", "parent",
        "parent_attempt", "branch_step",
    }  # fmt: skip
    assert set(EPISODE) == schema["episodes"].columns - belonging


def test_the_json_is_one_object_with_every_figure(command: Command, rules: None) -> None:  # noqa: F811
    values = json.loads(command(replay, "--json").out)
    assert values == {
        "db": "arena.db", "episodes": 2, "identical": 2, "differ": 0, "not_replayed": 0,
        "answers_from_journal": 0, "not_identical": [],
    }  # fmt: skip
