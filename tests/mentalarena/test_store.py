"""The store keeps what it acknowledged, refuses only what is wrong, and says why it cannot open."""

import asyncio
import json
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from struct import pack
from typing import Any

import pytest

import mentalarena.store as store_module
from mentalarena import store_file
from mentalarena.errors import StoreError
from mentalarena.store import Change, Row, Store, open_store, utc_now


def base_rows() -> list[Row]:
    return [
        Row(
            "runs",
            {"id": "r", "kind": "batch", "config": {}, "config_hash": "h", "code_version": "1"},
        ),
        Row(
            "cases",
            {
                "id": "c", "hash": "ch", "patient_id": "p", "split": "train", "source": "s",
                "presentation": "anxiety", "style": "plain", "record": {"é": 1, "a": [True]},
            },
        ),
    ]  # fmt: skip


def episode(name: str, **values: Any) -> Row:
    fixed = {
        "id": name, "run_id": "r", "case_id": "c", "case_hash": "ch", "sample": 0, "seed": 1,
        "guidance": "topic",
    }  # fmt: skip
    return Row("episodes", fixed | values)


def turn(name: str, idx: int, text: str = "hello", **values: Any) -> Row:
    fixed = {
        "episode_id": name, "idx": idx, "speaker": "patient", "purpose": "exchange", "text": text,
    }  # fmt: skip
    return Row("turns", fixed | values)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "odd name #1?.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    with open_store(path) as opened:
        opened.write_sync(base_rows())
        yield opened


def count(store: Store, table: str) -> int:
    return int(store.fetch(f"select count(*) as n from {table}")[0]["n"])


# --- writing and reading -------------------------------------------------------------------------


def test_rows_are_inserted_then_updated_in_the_columns_given(store: Store) -> None:
    store.write_sync([episode("e"), turn("e", 0, "first", disclosed=["history:0"])])
    store.write_sync([turn("e", 0, "second")])
    [row] = store.fetch("select text, disclosed from turns where episode_id = ?", ("e",))
    assert row == {"text": "second", "disclosed": '["history:0"]'}


def test_values_are_stored_canonically(store: Store) -> None:
    store.write_sync([episode("e", self_judged=True)])
    assert store.fetch("select record from cases")[0]["record"] == '{"a":[true],"é":1}'
    assert store.fetch("select self_judged from episodes")[0]["self_judged"] == 1


def test_a_change_updates_one_row_and_refuses_a_missing_one(store: Store) -> None:
    store.write_sync([episode("e"), episode("f")])
    store.write_sync([Change("episodes", {"id": "e"}, {"status": "ok", "crisis": True})])
    assert store.fetch("select id, status, crisis from episodes order by id") == [
        {"id": "e", "status": "ok", "crisis": 1},
        {"id": "f", "status": "running", "crisis": 0},
    ]
    with pytest.raises(StoreError, match="no row with this key"):
        store.write_sync([Change("episodes", {"id": "nobody"}, {"status": "ok"})])
    with pytest.raises(StoreError, match="the key of a change is episode_id, idx"):
        store.write_sync([Change("turns", {"episode_id": "e"}, {"text": "x"})])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Row("nothing", {"id": 1}), "no table 'nothing'"),
        (episode("e", colour="red"), "no column 'colour'"),
        (Row("turns", {"episode_id": "e", "text": "x"}), "a row needs idx"),
        (episode("e", status="fine"), "CHECK constraint failed"),
        (episode("e", sample="many"), "cannot store TEXT value in INTEGER column"),
        (episode("e", run_id=None), "NOT NULL constraint failed: episodes.run_id"),
        (
            episode("e", run_id="unknown"),
            "FOREIGN KEY.*write the row that is referred to with it or",
        ),
        (episode("e", seed=2**70), "too large"),
        (episode("e", case_hash="\ud800"), "surrogates not allowed"),
        (episode("e", started_at=datetime.now(UTC)), "started_at: a datetime cannot be stored"),
        (episode("e", principle_scores={"p": float("nan")}), "principle_scores: cannot be"),
        (episode("e", principle_scores="not json"), "CHECK constraint failed"),
    ],
)
def test_a_wrong_row_is_refused_by_name_and_the_store_goes_on(
    store: Store, row: Row, message: str
) -> None:
    with pytest.raises(StoreError, match=message):
        store.write_sync([episode("other"), row])
    assert count(store, "episodes") == 0  # the batch is all or nothing
    store.write_sync([episode("e")])
    assert count(store, "episodes") == 1


def test_nan_never_becomes_null(store: Store) -> None:
    row = Row("plans", {"episode_id": "e", "kind": "treatment", "attempt": 0, "name": "n"})
    row.values["score"] = float("nan")
    with pytest.raises(StoreError, match=r"plans\.score: nan"):
        store.write_sync([episode("e"), row])


def test_foreign_keys_and_durability_are_on(store: Store) -> None:
    connection = store._connection
    assert connection.execute("pragma foreign_keys").fetchone() == (1,)
    assert connection.execute("pragma synchronous").fetchone() == (2,)
    assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    assert connection.execute("pragma busy_timeout").fetchone() == (10000,)


def test_fetch_reads_only(store: Store) -> None:
    with pytest.raises(StoreError, match="readonly database"):
        store.fetch("delete from runs")
    with pytest.raises(StoreError, match=r"no such column: colour.*query: select colour from runs"):
        store.fetch("select colour\nfrom runs")
    assert count(store, "runs") == 1


def test_fetch_answers_many_threads(store: Store) -> None:
    store.write_sync([episode("e"), *[turn("e", i) for i in range(50)]])
    found: list[int] = []
    threads = [
        threading.Thread(target=lambda: found.extend(count(store, "turns") for _ in range(20)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [50] * 160


def test_vectors_are_kept_as_first_stored(store: Store) -> None:
    first, second = pack("<2f", 1, 2), pack("<2f", 3, 4)
    store.put_vectors("encoder", {"a": first, "b": second})
    store.put_vectors("encoder", {"a": second})
    store.put_vectors("other", {"a": second})
    assert store.vectors("encoder", ["a", "b", "absent"]) == {"a": first, "b": second}
    many = {f"t{i}": first for i in range(40_000)}
    store.put_vectors("many", many)
    assert store.vectors("many", many) == many
    with pytest.raises(StoreError, match="CHECK constraint failed"):
        store.put_vectors("encoder", {"c": b"123"})


def test_utc_now_is_what_sqlite_writes(store: Store) -> None:
    before = utc_now()
    store.write_sync([episode("e")])
    started = store.fetch("select started_at from episodes")[0]["started_at"]
    assert len(before) == len(started) == 24
    assert before <= started <= utc_now()


# --- many writers --------------------------------------------------------------------------------


async def test_tasks_write_at_once_and_each_sees_its_rows(store: Store) -> None:
    async def play(number: int) -> None:
        name = f"e{number}"
        await store.write([episode(name)])
        for idx in range(5):
            await store.write([turn(name, idx)])
            rows = await store.fetch_async("select idx from turns where episode_id = ?", (name,))
            assert len(rows) == idx + 1

    await asyncio.gather(*[play(number) for number in range(40)])
    assert count(store, "turns") == 200


def test_several_event_loops_write_at_once(store: Store) -> None:
    async def play(name: str) -> None:
        await asyncio.gather(*[store.write([episode(f"{name}{i}")]) for i in range(50)])

    threads = [threading.Thread(target=asyncio.run, args=(play(name),)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(store, "episodes") == 200


async def test_what_gathers_is_committed_together(store: Store) -> None:
    statements: list[str] = []
    store._connection.set_trace_callback(statements.append)
    await asyncio.gather(*[store.write([episode(f"e{i}")]) for i in range(100)])
    store._connection.set_trace_callback(None)
    assert count(store, "episodes") == 100
    assert 1 <= sum(s.lower() == "commit" for s in statements) <= 50


async def test_a_bad_batch_fails_alone_in_its_group(store: Store) -> None:
    hold = sqlite3.connect(store.path, isolation_level=None)
    hold.execute("begin immediate")  # the writer waits, so that the rest gathers behind it
    tasks = [asyncio.create_task(store.write([episode("first")]))]
    await asyncio.sleep(0.1)
    tasks += [
        asyncio.create_task(store.write([episode(f"e{i}", status="bad" if i == 3 else "ok")]))
        for i in range(6)
    ]
    await asyncio.sleep(0.1)
    hold.execute("rollback")
    hold.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result).__name__ for result in results].count("StoreError") == 1
    assert isinstance(results[4], StoreError)
    names = [row["id"] for row in store.fetch("select id from episodes order by id")]
    assert names == ["e0", "e1", "e2", "e4", "e5", "first"]


def call(name: str) -> Row:
    values = dict.fromkeys(
        ("node", "seat", "purpose", "model", "resolved_model", "prompt_hash", "answer"), "x"
    ) | dict.fromkeys(("attempt", "step", "visit", "sample", "reask", "attempts"), 1)
    fixed = {"id": name, "episode_id": "b", "template_hash": "t", "latency_ms": 1.0}
    return Row("calls", values | fixed)


def test_what_is_referred_to_may_come_last(store: Store) -> None:
    store.write_sync([Row("templates", {"hash": "t", "name": "n", "text": "t"}), episode("b")])
    executed: list[str] = []
    store._connection.set_trace_callback(executed.append)
    store.write_sync([turn("b", 0, call_id="c"), call("c")])
    # Put in order: the way that makes every statement be compiled again was not needed.
    assert sum(line.startswith("begin") for line in executed) == 1
    change = Change("episodes", {"id": "b"}, {"attempts": 2})
    store.write_sync([turn("b", 1, call_id="d"), change, call("d")])
    assert sum(line.startswith("begin") for line in executed) == 3
    store._connection.set_trace_callback(None)
    assert [row["call_id"] for row in store.fetch("select call_id from turns order by idx")] == [
        "c",
        "d",
    ]


async def test_batches_committed_together_keep_the_order_that_matters(store: Store) -> None:
    """Rows of one table are run side by side; what a row refers to may then stand after it."""
    template = Row("templates", {"hash": "t", "name": "n", "text": "t"})
    store.write_sync([template, episode("a"), episode("b")])

    hold = sqlite3.connect(store.path, isolation_level=None)
    hold.execute("begin immediate")
    tasks = [asyncio.create_task(store.write([episode("first")]))]
    await asyncio.sleep(0.1)
    for rows in (
        [turn("a", 0, "one")],
        [call("c"), turn("b", 0, "two", call_id="c")],
        [turn("a", 0, "three", role_flip=True), turn("a", 0, "four")],
        [turn("b", 1, call_id="nothing")],
        [Change("turns", {"episode_id": "a", "idx": 0}, {"purpose": "probe"})],
        [turn("b", 2, "five")],
    ):
        tasks.append(asyncio.create_task(store.write(rows)))
    await asyncio.sleep(0.1)
    hold.execute("rollback")
    hold.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [i for i, result in enumerate(results) if result is not None] == [4]
    assert "FOREIGN KEY" in str(results[4])
    found = store.fetch(
        "select episode_id, idx, text, purpose, role_flip, call_id from turns order by 1, 2"
    )
    assert [tuple(row.values()) for row in found] == [
        ("a", 0, "four", "probe", 1, None),
        ("b", 0, "two", "exchange", 0, "c"),
        ("b", 2, "five", "exchange", 0, None),
    ]
    matched = store.fetch("select rowid from turns_fts where turns_fts match 'four OR two OR five'")
    assert len(matched) == 3
    assert store.fetch("select rowid from turns_fts where turns_fts match 'one OR three'") == []


async def test_a_full_queue_holds_writers_back_and_the_loop_stays_free(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "_QUEUE_BATCHES", 2)
    hold = sqlite3.connect(store.path, isolation_level=None)
    hold.execute("begin immediate")
    tasks = [asyncio.create_task(store.write([episode("first")]))]
    await asyncio.sleep(0.1)  # the writer has taken it, and waits for the file
    tasks += [asyncio.create_task(store.write([episode(f"e{i}")])) for i in range(20)]
    for _ in range(50):
        await asyncio.sleep(0.002)  # would hang here if a writer blocked the loop
    assert len(store._inbox._batches) == 2
    assert not any(task.done() for task in tasks)
    hold.execute("rollback")
    hold.close()
    await asyncio.gather(*tasks)
    assert count(store, "episodes") == 21


async def test_a_batch_handed_over_is_written_though_the_task_is_cancelled(store: Store) -> None:
    hold = sqlite3.connect(store.path, isolation_level=None)
    hold.execute("begin immediate")
    task = asyncio.create_task(store.write([episode("e")]))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    hold.execute("rollback")
    hold.close()
    await store.write([episode("f")])
    assert count(store, "episodes") == 2


async def test_a_lock_held_too_long_fails_the_write_but_not_the_store(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_file, "_BUSY_SECONDS", 0.1)
    with open_store(path) as store:
        await store.write(base_rows())
        hold = sqlite3.connect(path, isolation_level=None)
        hold.execute("begin immediate")
        with pytest.raises(StoreError, match="locked: another process holds the file"):
            await store.write([episode("e")])
        hold.execute("rollback")
        hold.close()
        await store.write([episode("e")])


# --- closing, reopening, dying -------------------------------------------------------------------


async def test_close_drains_and_a_closed_store_refuses(path: Path) -> None:
    store = open_store(path)
    await store.write(base_rows())
    tasks = [asyncio.create_task(store.write([episode(f"e{i}")])) for i in range(50)]
    await asyncio.sleep(0)
    store.close()
    store.close()
    await asyncio.gather(*tasks)
    for refused in (store.write([episode("x")]), store.fetch_async("select 1")):
        with pytest.raises(StoreError, match="closed"):
            await refused
    with pytest.raises(StoreError, match="closed"):
        store.fetch("select 1")
    assert not path.with_name(path.name + "-wal").exists()
    with open_store(path) as again:
        assert count(again, "episodes") == 50


WRITE_FOR_EVER = """
import asyncio, sys
from mentalarena.store import Row, open_store
store = open_store(sys.argv[1])
async def play(name):
    for idx in range(10**9):
        key = f"{name}-{idx}"
        rows = [Row("templates", {"hash": f"{key}/{i}", "name": key, "text": "x" * 500})
                for i in range(3)]
        await store.write(rows)
        print(key, flush=True)
async def main():
    await asyncio.gather(*[play(name) for name in "abcdefgh"])
asyncio.run(main())
"""


def test_kill_loses_nothing_that_was_acknowledged(path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", WRITE_FOR_EVER, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    acknowledged = [child.stdout.readline().strip() for _ in range(500)]
    child.send_signal(signal.SIGKILL)
    complete = child.stdout.read().rpartition("\n")[0]
    acknowledged += complete.split()
    assert child.wait() == -signal.SIGKILL
    with open_store(path) as store:
        kept = {
            row["name"]: row["n"]
            for row in store.fetch("select name, count(*) as n from templates group by name")
        }
        assert set(acknowledged) <= set(kept)
        assert set(kept.values()) == {3}  # a batch is there whole or not at all
        assert store.fetch("pragma integrity_check") == [{"integrity_check": "ok"}]


FILL = """
import asyncio, os, resource, sys
from mentalarena.errors import StoreError
from mentalarena.store import Row, open_store
store = open_store(sys.argv[1])
def rows(i):
    return [Row("templates", {"hash": str(i), "name": "n", "text": "x" * 20_000})]
store.write_sync(rows("first"))
used = os.path.getsize(sys.argv[1] + "-wal")
resource.setrlimit(resource.RLIMIT_FSIZE, (used + 400_000, used + 400_000))
async def main():
    results = await asyncio.gather(*[store.write(rows(i)) for i in range(200)],
                                   return_exceptions=True)
    kept = [i for i, result in enumerate(results) if result is None]
    refused = [result for result in results if isinstance(result, StoreError)]
    assert len(kept) + len(refused) == 200 and refused, results
    try:
        await asyncio.wait_for(store.write(rows("late")), 5)
    except StoreError as error:
        print(error)
    print(kept)
    try:
        store.write_sync(rows("later"))
    except StoreError as error:
        print("refused")
asyncio.run(main())
store.close()
print("closed")
"""


def test_a_full_disk_fails_everybody_and_keeps_what_was_committed(path: Path) -> None:
    child = subprocess.run(
        [sys.executable, "-c", FILL, str(path)], capture_output=True, text=True, timeout=60
    )
    assert child.returncode == 0, child.stderr
    message, kept, refused, closed = child.stdout.splitlines()
    assert "run the same command again" in message
    assert (refused, closed) == ("refused", "closed")
    with open_store(path) as store:
        found = {row["hash"] for row in store.fetch("select hash from templates")}
        assert found == {"first", *[str(i) for i in json.loads(kept)]}
        store.write_sync([Row("templates", {"hash": "next", "name": "n", "text": "t"})])


@pytest.mark.parametrize("suffix", ["", "-wal"])
async def test_a_file_taken_away_is_noticed_before_anything_is_lost(
    path: Path, suffix: str
) -> None:
    store = open_store(path)
    await store.write([*base_rows(), episode("kept")])
    Path(f"{path}{suffix}").unlink()
    with pytest.raises(StoreError, match="was deleted, moved or replaced") as caught:
        await store.write([episode("late")])
    rescued = Path(f"{path}.rescued")
    assert f"all it held is in {rescued}, move that to {path}" in str(caught.value)
    with pytest.raises(StoreError, match="was deleted"):
        await store.write([episode("later")])
    store.close()
    rescued.replace(path)
    with open_store(path) as again:
        assert "kept" in {row["id"] for row in again.fetch("select id from episodes")}
        assert again.fetch("pragma integrity_check") == [{"integrity_check": "ok"}]


async def test_a_file_taken_away_is_noticed_when_it_is_read(path: Path) -> None:
    store = open_store(path)
    await store.write([*base_rows(), episode("kept")])
    path.unlink()
    with pytest.raises(StoreError, match="was deleted, moved or replaced"):
        await store.fetch_async("select 1 from episodes")
    store.close()
    assert Path(f"{path}.rescued").exists()


def test_importing_the_store_stays_light() -> None:
    code = textwrap.dedent(
        """
        import sys, mentalarena.store
        heavy = {"sqlite_utils", "torch", "numpy", "pydantic"} & set(sys.modules)
        assert not heavy, heavy
        """
    )
    subprocess.run([sys.executable, "-c", code], check=True)
