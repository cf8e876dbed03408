"""The schema says what it holds, refuses what it must not hold, and its views answer."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlite_utils import Database

from mentalarena.case import COMPONENTS
from mentalarena.errors import StoreError
from mentalarena.migrations import migrations, names
from mentalarena.schema import ABOUT, schema_markdown
from mentalarena.store import Change, Row, Store, open_store

SECRET = "hidden-canary"
"""Stands in every field that a therapist must never be trained on."""


def turn(idx: int, speaker: str, text: str, **values: Any) -> Row:
    fixed = {"episode_id": "e", "idx": idx, "speaker": speaker, "purpose": "exchange"}
    return Row("turns", fixed | {"text": text} | values)


def stated(
    round_: int, component: str, statement: str, verdict: str, similarity: float
) -> list[Row]:
    key = {"episode_id": "e", "round": round_, "component": component}
    return [
        Row("formulations", key | {"statement": statement, "quotes": ["I do"]}),
        Row(
            "deviations",
            key | {"scorer": "embedding", "verdict": verdict, "similarity": similarity},
        ),
    ]


def plan(kind: str, attempt: int, name: str, score: float | None, chosen: bool = False) -> Row:
    return Row(
        "plans",
        {
            "episode_id": "e", "kind": kind, "attempt": attempt, "name": name, "score": score,
            "rationale": f"why {name}", "response": SECRET, "chosen": chosen,
        },
    )  # fmt: skip


def call(number: int, seat: str, **values: Any) -> Row:
    fixed = {
        "id": f"call{number}", "episode_id": "e", "attempt": 1, "step": number, "node": "n",
        "visit": 0, "sample": 0, "reask": 0, "seat": seat, "purpose": "exchange",
        "model": "openai:m", "resolved_model": "m", "template_hash": "t", "prompt_hash": "p",
        "prompt_tokens": 100, "completion_tokens": 10, "cost": 0.5, "latency_ms": 200.0,
        "attempts": 1, "answer": "a", "failure": None,
    }  # fmt: skip
    return Row("calls", fixed | values)


def an_episode() -> list[Row]:
    """Two rounds: coping was distorted, then repaired; emotions aligned; behaviors missed."""
    return [
        Row(
            "runs",
            {"id": "r", "kind": "arena", "config": {}, "config_hash": "h", "code_version": "1"},
        ),
        Row(
            "cases",
            {
                "id": "c", "hash": "ch", "patient_id": "p", "split": "dev", "source": "s",
                "presentation": "anxiety", "style": "guarded", "record": {"beliefs": SECRET},
            },
        ),
        Row(
            "episodes",
            {
                "id": "e", "run_id": "r", "case_id": "c", "case_hash": "ch", "sample": 0,
                "seed": 1, "guidance": "topic", "status": "ok", "principle_id": SECRET,
            },
        ),
        Row("templates", {"hash": "t", "name": "n", "text": "t"}),
        call(0, "patient"),
        call(1, "therapist", prompt_tokens=None, completion_tokens=None, cost=None),
        call(2, "therapist", failure="parse: no", attempts=3),
        turn(0, "patient", "I cannot sleep", purpose="opening", disclosed=[SECRET]),
        turn(1, "therapist", "What keeps you awake?", call_id="call1"),
        turn(2, "patient", "I want it to end", crisis=["lexicon"]),
        turn(3, "therapist", "Are you safe?", purpose="safety", role_flip=True),
        *stated(0, "coping_strategies", "seeks crowds", "distorted", 0.25),
        *stated(0, "emotions", "sad", "aligned", 1.0),
        *stated(0, "behaviors", "", "missed", 0.0),
        *stated(1, "coping_strategies", "avoids people", "aligned", 0.75),
        *stated(1, "emotions", "sad", "aligned", 1.0),
        *stated(1, "behaviors", "", "missed", 0.0),
        Row(
            "decisions",
            {
                "episode_id": "e", "round": 0, "decision": "biased", "guidance_kind": "topic",
                "component": "coping_strategies", "mode": "revisit", "guidance": SECRET,
            },
        ),
        Row(
            "decisions",
            {"episode_id": "e", "round": 1, "decision": "incomplete", "guidance_kind": "topic"},
        ),
        Row(
            "injections",
            {
                "episode_id": "e", "round": 0, "component": "coping_strategies",
                "kind": "reversed", "truth": SECRET,
            },
        ),
        Row(
            "diagnoses",
            {
                "episode_id": "e", "idx": 0, "label": "Panic disorder", "code": "F41.0",
                "status": "mapped", "rationale": "attacks", "reason": SECRET,
            },
        ),
        Row(
            "diagnoses",
            {
                "episode_id": "e", "idx": 1, "label": "Insomnia", "code": "F51.01", "chosen": True,
                "status": "mapped", "rationale": "no sleep", "reason": SECRET,
            },
        ),
        plan("treatment", 0, "rest", 4.0),
        plan("treatment", 1, "sleep restriction", 8.5, chosen=True),
        plan("treatment", 2, "unread", None),
        plan("medication", 0, "none chosen", 5.0),
        plan("medication", 1, "better", 6.0),
        *[
            Row(
                "scores",
                {
                    "episode_id": "e", "kind": "treatment", "attempt": 1, "sample": sample,
                    "judge": "rules", "score": 8 + sample, "reason": SECRET,
                },
            )
            for sample in range(2)
        ],
    ]  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "arena.db") as opened:
        opened.write_sync(an_episode())
        yield opened


# --- schema --------------------------------------------------------------------------------------


def test_docs_are_generated_from_the_schema() -> None:
    path = Path(__file__).parents[2] / "docs" / "schema.md"
    assert path.read_text("utf-8") == schema_markdown(), (
        "stale: run python -m mentalarena.schema > docs/schema.md"
    )


def test_every_table_and_view_is_described(store: Store) -> None:
    listed = {
        row["name"]
        for row in store.fetch(
            "select name from sqlite_schema where type in ('table', 'view')"
            " and name not like 'sqlite_%' and name not like '_sqlite_%'"
            " and name not like 'turns_fts%'"
        )
    }
    assert listed == set(ABOUT)


def test_notes_and_closed_lists_reach_the_docs() -> None:
    text = schema_markdown()
    assert "| `status` | text |  | 'running' | one of `running`, `ok`, `failed`, `aborted`;" in text
    assert "| `principle_scores` | text | yes |  | JSON" in text
    assert "Key: `episode_id, idx`." in text
    assert "Refers to `plans` by `episode_id, kind, attempt`." in text


def test_every_table_is_strict(store: Store) -> None:
    loose = store.fetch(
        "select name from pragma_table_list where schema = 'main' and type = 'table'"
        " and not strict and name not like 'sqlite_%' and name <> '_sqlite_migrations'"
    )
    assert loose == []


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_component_can_be_stated(store: Store, component: str) -> None:
    store.write_sync(stated(2, component, "x", "unclear", 0.5))


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("runs", "kind", "party"),
        ("cases", "split", "validation"),
        ("episodes", "guidance", "hints"),
        ("episodes", "status", "done"),
        ("turns", "speaker", "manager"),
        ("turns", "purpose", "small talk"),
        ("formulations", "component", "mood"),
        ("deviations", "verdict", "wrong"),
        ("decisions", "decision", "unclear"),
        ("decisions", "mode", "again"),
        ("decisions", "guidance_kind", "loud"),
        ("diagnoses", "status", "guessed"),
        ("diagnoses", "code", None),
        ("plans", "kind", "surgery"),
        ("plans", "score", 11),
        ("scores", "score", 0),
    ],
)
def test_closed_lists_are_closed(store: Store, table: str, column: str, value: Any) -> None:
    row = next(row for row in an_episode() if row.table == table)
    with pytest.raises(StoreError, match="CHECK constraint failed"):
        store.write_sync([Row(table, row.values | {column: value})])


def test_an_old_file_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    old = Database(sqlite3.connect(path), execute_plugins=False)
    migrations.apply(old, stop_before="m002_views")
    old.execute("insert into templates values ('h', 'n', 't')")
    old.close()
    with open_store(path) as store:
        assert store.fetch("select hash from templates") == [{"hash": "h"}]
        assert store.fetch("select * from episode_summary") == []
        applied = store.fetch("select name from _sqlite_migrations order by id")
        assert [row["name"] for row in applied] == names()
    open_store(path).close()


def test_deleting_an_episode_deletes_what_hangs_on_it(store: Store) -> None:
    store.close()
    connection = sqlite3.connect(store.path)
    connection.execute("pragma foreign_keys = on")
    connection.execute("delete from episodes")
    for table in ("turns", "formulations", "deviations", "decisions", "plans", "scores"):
        assert connection.execute(f"select count(*) from {table}").fetchone() == (0,), table
    found = connection.execute("select count(*) from turns_fts where turns_fts match 'sleep'")
    assert found.fetchone() == (0,)
    connection.rollback()
    connection.close()


# --- full-text search ----------------------------------------------------------------------------


def search(store: Store, words: str) -> list[int]:
    rows = store.fetch(
        "select turns.idx from turns_fts join turns on turns.id = turns_fts.rowid"
        " where turns_fts match ? order by turns.idx",
        (words,),
    )
    return [row["idx"] for row in rows]


def test_search_follows_inserts_upserts_and_changes(store: Store) -> None:
    assert search(store, "sleep") == [0]
    assert search(store, "sleeping") == [0]  # stemmed
    store.write_sync([turn(0, "patient", "I dream of horses"), turn(1, "therapist", "Horses?")])
    assert search(store, "sleep") == []
    assert search(store, "horse") == [0, 1]
    store.write_sync([Change("turns", {"episode_id": "e", "idx": 1}, {"text": "Go on"})])
    assert search(store, "horse") == [0]
    store.write_sync([turn(0, "patient", "I dream of horses", role_flip=1)])
    assert search(store, '"dream of horses"') == [0]
    with pytest.raises(StoreError):
        store.write_sync([turn(0, "patient", "a zebra"), turn(1, "nobody", "a zebra")])
    assert search(store, "zebra") == []
    store.close()
    connection = sqlite3.connect(store.path)
    # Raises when the index and the table differ.
    connection.execute("insert into turns_fts(turns_fts, rank) values ('integrity-check', 1)")
    connection.close()


# --- views ---------------------------------------------------------------------------------------


def test_episode_summary(store: Store) -> None:
    [row] = store.fetch("select * from episode_summary")
    expected = {
        "episode_id": "e", "run_id": "r", "case_id": "c", "patient_id": "p", "split": "dev",
        "presentation": "anxiety", "style": "guarded", "iteration": 0, "sample": 0,
        "guidance": "topic", "status": "ok", "self_judged": 0, "crisis": 0, "rounds": 2,
        "first_decision": "biased", "last_decision": "incomplete", "aligned_components": 2,
        "reroutes": 1, "diagnosis_code": "F51.01", "treatment": "sleep restriction",
        "treatment_score": 8.5, "medication": "better", "medication_score": 6.0, "turns": 4,
        "calls": 3, "tokens": 220, "finished_at": None,
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert set(row) == {*expected, "started_at"}


def test_an_episode_that_has_just_begun_has_its_row(store: Store) -> None:
    values = next(row for row in an_episode() if row.table == "episodes").values
    store.write_sync([Row("episodes", values | {"id": "f", "status": "running"})])
    [row] = store.fetch("select * from episode_summary where episode_id = 'f'")
    assert (row["rounds"], row["turns"], row["tokens"], row["treatment"]) == (0, 0, 0, None)


def test_bias_by_component(store: Store) -> None:
    rows = store.fetch("select * from bias_by_component order by component, verdict")
    figures = {
        (row["component"], row["verdict"]): (
            row["n"], row["share"], row["first_n"], row["first_share"], row["last_n"],
            row["last_share"],
        )
        for row in rows
    }  # fmt: skip
    assert figures == {
        ("behaviors", "missed"): (2, 1.0, 1, 1.0, 1, 1.0),
        ("coping_strategies", "aligned"): (1, 0.5, 0, 0.0, 1, 1.0),
        ("coping_strategies", "distorted"): (1, 0.5, 1, 1.0, 0, 0.0),
        ("emotions", "aligned"): (2, 1.0, 1, 1.0, 1, 1.0),
    }
    store.write_sync([Change("episodes", {"id": "e"}, {"status": "failed"})])
    assert store.fetch("select * from bias_by_component") == []


def test_cost_by_seat(store: Store) -> None:
    rows = store.fetch("select * from cost_by_seat order by seat")
    assert [tuple(row.values()) for row in rows] == [
        ("r", "patient", "openai:m", 1, 0, 1, 100, 10, 0.5, 200.0),
        ("r", "therapist", "openai:m", 2, 1, 4, 100, 10, 0.5, 200.0),
    ]


TOTALS = (
    "select * from bias_by_component order by component, verdict",
    "select * from cost_by_seat order by seat",
    "select calls, tokens from episode_summary",
)


def test_what_is_counted_at_the_end_is_what_the_rows_say(store: Store) -> None:
    def end() -> None:
        """The status is set again, as it is when an episode ends: triggers count."""
        store.write_sync([Change("episodes", {"id": "e"}, {"status": "ok"})])

    live = [store.fetch(sql) for sql in TOTALS]
    assert store.fetch("select * from verdict_counts") == []
    end()
    assert sum(row["n"] for row in store.fetch("select n from verdict_counts")) == 6
    assert [store.fetch(sql) for sql in TOTALS] == live
    # What is changed afterwards is not answered from the counts.
    store.write_sync([*stated(2, "emotions", "angry", "distorted", 0.1), call(3, "judge")])
    changed = [store.fetch(sql) for sql in TOTALS]
    assert changed[0][-1]["verdict"] == "distorted"
    assert changed[2] == [{"calls": 4, "tokens": 330}]
    end()
    assert [store.fetch(sql) for sql in TOTALS] == changed
    store.write_sync([Change("calls", {"id": "call3"}, {"prompt_tokens": 0})])
    assert store.fetch(TOTALS[2]) == [{"calls": 4, "tokens": 230}]


def test_the_history_of_a_limit_is_kept(store: Store) -> None:
    moment = {"run_id": "r", "worker": 0, "at": "2026-01-31T09:30:00.000Z", "in_flight": 3}
    store.write_sync([Row("concurrency", moment | {"reason": "grow", "limit": 4})])
    store.write_sync([Row("concurrency", moment | {"reason": "throttled", "limit": 2})])
    store.write_sync([Row("concurrency", moment | {"reason": "grow", "limit": 5})])
    found = store.fetch('select reason, "limit" from concurrency order by reason')
    assert [tuple(row.values()) for row in found] == [("grow", 5), ("throttled", 2)]


def test_sft_candidates(store: Store) -> None:
    rows = store.fetch("select * from sft_candidates order by task, idx")
    assert [(row["task"], row["idx"], row["score"], row["crisis"]) for row in rows] == [
        ("diagnosis", 1, None, 0),
        ("formulation", 1, pytest.approx(2 / 3), 0),
        ("patient_turn", 0, None, 0),
        ("patient_turn", 2, None, 1),
        ("therapist_turn", 1, None, 0),
        ("therapist_turn", 3, None, 0),
        ("treatment", 1, 8.5, 0),
    ]
    target = {(row["task"], row["idx"]): row["target"] for row in rows}
    assert target["therapist_turn", 1] == "What keeps you awake?"
    assert json.loads(target["diagnosis", 1]) == {
        "label": "Insomnia", "code": "F51.01", "rationale": "no sleep",
    }  # fmt: skip
    assert json.loads(target["formulation", 1]) == {
        "behaviors": {"statement": "", "quotes": ["I do"]},
        "coping_strategies": {"statement": "avoids people", "quotes": ["I do"]},
        "emotions": {"statement": "sad", "quotes": ["I do"]},
    }
    assert {(row["split"], row["patient_id"], row["guidance"]) for row in rows} == {
        ("dev", "p", "topic")
    }
    store.write_sync([Change("episodes", {"id": "e"}, {"crisis": 1, "self_judged": 1})])
    rows = store.fetch("select distinct crisis, self_judged from sft_candidates")
    assert rows == [{"crisis": 1, "self_judged": 1}]


def test_preference_pairs(store: Store) -> None:
    rows = store.fetch("select * from preference_pairs order by task, margin")
    assert [(row["task"], row["component"], row["chosen_idx"], row["rejected_idx"], row["margin"])
            for row in rows] == [
        ("diagnosis", None, 1, 0, None),
        ("formulation", "coping_strategies", 1, 0, 0.5),
        ("medication", None, 1, 0, 1.0),
        ("treatment", None, 1, 0, 4.5),
    ]  # fmt: skip
    assert (rows[1]["chosen"], rows[1]["rejected"]) == ("avoids people", "seeks crowds")
    assert json.loads(rows[3]["chosen"]) == {
        "name": "sleep restriction",
        "rationale": "why sleep restriction",
    }


def test_one_repair_gives_one_pair(store: Store) -> None:
    store.write_sync(
        [
            *stated(2, "coping_strategies", "is cruel", "unsupported", 0.1),
            *stated(3, "coping_strategies", "keeps away", "unclear", 0.5),
            *stated(4, "coping_strategies", "keeps away from people", "aligned", 0.7),
            *stated(5, "coping_strategies", "keeps away from people", "aligned", 0.7),
        ]
    )
    rows = store.fetch(
        "select chosen_idx, rejected_idx from preference_pairs where task = 'formulation'"
        " order by chosen_idx"
    )
    assert [tuple(row.values()) for row in rows] == [(1, 0), (4, 2)]


def test_an_unmapped_diagnosis_is_no_preference(store: Store) -> None:
    store.write_sync(
        [Change("diagnoses", {"episode_id": "e", "idx": 1}, {"code": None, "status": "unmapped"})]
    )
    assert store.fetch("select * from preference_pairs where task = 'diagnosis'") == []


def test_training_views_never_carry_what_the_therapist_must_not_know(store: Store) -> None:
    everything = json.dumps(
        store.fetch("select * from sft_candidates") + store.fetch("select * from preference_pairs")
    )
    assert "sleep restriction" in everything
    assert SECRET not in everything


def flag(
    idx: int, screen: str, kind: str, qualifier: str | None = None, place: str = "turn"
) -> Row:
    return Row(
        "flags",
        {
            "episode_id": "e", "place": place, "idx": idx, "n": 0, "screen": screen,
            "kind": kind, "qualifier": qualifier, "rule": "r", "span": "s",
        },
    )  # fmt: skip


def test_exclusions_say_what_training_leaves_out_and_why(store: Store) -> None:
    assert store.fetch("select place, idx, reason from exclusions") == [
        {"place": "turn", "idx": 3, "reason": "role flip"}
    ]
    store.write_sync(
        [
            flag(0, "crisis", "plan", "negated"),
            flag(1, "reply", "dismisses_risk"),
            flag(1, "reply", "gives_method", place="treatment"),
            flag(2, "crisis", "intent"),
        ]
    )
    rows = store.fetch("select place, idx, reason from exclusions order by place, idx")
    assert [(row["place"], row["idx"], row["reason"]) for row in rows] == [
        ("episode", None, "crisis: intent"),
        ("treatment", 1, "reply: gives_method"),
        ("turn", 1, "reply: dismisses_risk"),
        ("turn", 3, "role flip"),
    ]


def test_a_finding_is_set_aside_for_a_known_reason_only(store: Store) -> None:
    with pytest.raises(StoreError):
        store.write_sync([flag(0, "crisis", "plan", "maybe")])
