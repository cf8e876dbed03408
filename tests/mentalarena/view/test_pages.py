"""The viewer's pages as they are answered: whole, quick, small, and harmless whatever they show."""

import json
import sqlite3
import time
from pathlib import Path
from urllib.parse import quote

import pytest

pytest.importorskip("datasette", reason="needs mentalarena[view]")

from mentalarena.store_reader import open_readonly
from mentalarena.view import queries
from mentalarena.view.drawing import draw
from mentalarena.view.episode import episode_page
from mentalarena.view.page import ServerLinks, render, tilde
from mentalarena.view.server import HOSTS, STORE, viewer
from tests.mentalarena.view.stores import HOSTILE, RUN, WORD, check_harmless, text_of

LINKS = ServerLinks()


@pytest.fixture
async def get(request: pytest.FixtureRequest):
    """Ask the viewer of the store that the test names for a page."""
    db: Path = request.getfixturevalue(request.param if hasattr(request, "param") else "thousand")
    shown = viewer(db)
    await shown.invoke_startup()

    async def ask(path: str, method: str = "GET", **more: object):
        return await getattr(shown.client, method.lower())(path, **more)

    ask.shown = shown  # type: ignore[attr-defined]
    yield ask
    shown.executor.shutdown(wait=True)


def ids(db: Path, sql: str) -> list[str]:
    with open_readonly(db) as store:
        return [next(iter(row.values())) for row in store.fetch(sql)]


def every_page(db: Path) -> list[str]:
    """One of each of our pages, and of Datasette's."""
    episode = ids(db, "select episode_id from calls order by length(answer) desc limit 1")[0]
    call = ids(db, "select id from calls limit 1")[0]
    runs = ids(db, "select id from runs")
    return [
        "/", *[LINKS.to("run", run) for run in runs], "/episodes", "/episodes?q=the", "/iterations",
        LINKS.to("episode", episode), LINKS.to("call", call),
        f"/{STORE}", f"/{STORE}/turns", f"/{STORE}/calls?_facet=model", f"/{STORE}/plans",
        LINKS.row("episodes", episode), LINKS.row("calls", call),
        LINKS.rows("turns", episode_id=episode), LINKS.sql("select text from turns limit 3"),
    ]  # fmt: skip


async def test_every_page_is_answered_within_a_second(get, thousand: Path) -> None:
    await get("/")
    for path in every_page(thousand):
        times = []
        # What else the machine does is not the page's doing: the best of a few tries counts.
        while not times or (min(times) >= 1 and len(times) < 4):
            started = time.perf_counter()
            answer = await get(path)
            times.append(time.perf_counter() - started)
            assert answer.status_code == 200, path
        assert min(times) < 1, f"{path} took {times} s"


async def test_a_transcript_stays_below_150_kilobytes(get, thousand: Path) -> None:
    for episode in ids(thousand, "select id from episodes order by id limit 9"):
        answer = await get(LINKS.to("episode", episode))
        assert len(answer.content) < 150_000, episode
    with open_readonly(thousand) as store:
        assert len(episode_page(store, episode).encode()) < 150_000


async def test_an_episode_says_what_was_stored(get, thousand: Path) -> None:
    (episode,) = ids(thousand, "select id from episodes where run_id = 'models' limit 1")
    page = (await get(LINKS.to("episode", episode))).text
    said = " ".join(text_of(page).split())
    with open_readonly(thousand) as store:
        turns = store.fetch("select idx, call_id from turns where episode_id = ?", (episode,))
        rounds = store.fetch("select * from decisions where episode_id = ?", (episode,))
        plans = store.fetch("select * from plans where episode_id = ?", (episode,))
        calls = store.fetch("select * from calls where episode_id = ?", (episode,))
    assert page.count('<article class="turn') == len(turns)
    assert page.count('<article class="decision') == len(rounds)
    assert page.count("popover id=") == 8 * len(rounds)
    assert page.count("popovertarget=") == 8 * len(rounds)
    assert said.count("↺ sent back to") == sum(row["component"] is not None for row in rounds)
    assert f"↺ ×{len(rounds) - 1}" in said, "the reroutes are drawn"
    assert page.count("<meter") == len(plans)
    for turn in turns:
        assert LINKS.to("call", turn["call_id"]) in page
    one = next(call for call in calls if call["id"] == turns[0]["call_id"])
    assert f"{one['prompt_tokens']:,} + {one['completion_tokens']:,} tokens" in said
    assert "patient.open" in said


async def test_facets_and_search_narrow_down(get, thousand: Path) -> None:
    everything = (await get("/episodes")).text
    assert "1,000 episodes" in everything
    some = (await get("/episodes?run=models&status=ok")).text
    (n,) = ids(thousand, "select count(*) from episodes where run_id = 'models'")
    assert f"{n} episodes" in some
    assert f'href="{LINKS.to("episodes", status="ok")}"' in some, "a choice can be taken back"
    assert "Nothing was found" in (await get("/episodes?q=zebra%20quilt")).text
    for odd in ("%22", "a%20AND", "NEAR(", "*", "%00", "' or 1", "text:x", "-the"):
        assert (await get(f"/episodes?q={odd}")).status_code == 200, odd
    for odd in ("page=-1", "page=99999999999", "page=x", "page=9999", "iteration=x", "run=%00"):
        assert (await get(f"/episodes?{odd}")).status_code == 200, odd


async def test_what_is_not_there_is_said_in_the_form_asked_for(get) -> None:
    for path in ("/episode/none", "/run/none", "/call/none", "/nowhere", "/store/nothing"):
        answer = await get(path)
        assert answer.status_code == 404
        assert "Not found" in answer.text
    answer = await get("/store/nothing.json")
    assert answer.status_code == 404
    assert answer.json()["ok"] is False
    assert (await get("/store?sql=selct")).status_code == 400


# --- only to be looked at ------------------------------------------------------------------------


async def test_nothing_can_be_written(get, thousand: Path) -> None:
    before = thousand.read_bytes()
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        answer = await get("/store/turns", method)
        assert answer.status_code == 405, method
    for sql in (
        "delete from turns", "update turns set text = 'x'", "drop table turns", "vacuum",
        "attach database 'x.db' as x", "pragma query_only = 0", "pragma journal_mode = delete",
        "with x as (select 1) delete from turns", "with x as (select 1) insert into templates "
        "select 'a', 'b', 'c'", "insert into turns_fts(turns_fts) values ('rebuild')",
        "explain delete from turns; delete from turns",
    ):  # fmt: skip
        answer = await get("/store.json?" + f"sql={quote(sql)}")
        assert answer.status_code == 400, sql
    database = get.shown.get_database(STORE)
    with pytest.raises(Exception, match="reading only"):
        await database.execute_write("delete from turns")
    for sql in ("delete from turns", "pragma user_version = 7"):
        with pytest.raises(sqlite3.OperationalError, match=r"readonly|read-only"):
            await database.execute_fn(lambda connection, sql=sql: connection.execute(sql))
    assert thousand.read_bytes() == before
    assert not (thousand.parent / "x.db").exists()


async def test_only_this_machine_is_answered(get) -> None:
    for host in HOSTS:
        assert (await get("/", headers={"host": f"{host}:8001"})).status_code == 200
    for host in ("evil.example", "localhost.evil.example:80", "10.0.0.7:8001", ""):
        assert (await get("/", headers={"host": host})).status_code == 403
        assert (await get("/store.json", headers={"host": host})).status_code == 403


async def test_no_page_asks_for_anything_elsewhere(get, thousand: Path) -> None:
    for path in every_page(thousand):
        answer = await get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src" in policy
        assert "http" not in policy
        for attribute in ('src="http', 'href="http', 'src="//', "url(http", "@import"):
            # A link that a reader may click, and addresses of this viewer.
            found = answer.text.replace('href="https://datasette.io/"', "")
            assert attribute not in found.replace("http://localhost", ""), path


# --- hostile text --------------------------------------------------------------------------------


@pytest.mark.parametrize("get", ["hostile"], indirect=True)
async def test_hostile_text_is_only_text(get, hostile: Path) -> None:
    for path in every_page(hostile):
        answer = await get(path)
        assert answer.status_code == 200, path
        check_harmless(answer.text)
    run = await get(LINKS.to("run", RUN))
    assert "a/b &lt;script&gt;" in run.text
    (episode,) = ids(hostile, "select episode_id from turns where call_id is not null limit 1")
    page = (await get(LINKS.to("episode", episode))).text
    assert page.count(WORD) >= 20, "nothing was left out"
    assert "&#39;; drop table turns; --" in page


def test_hostile_text_is_only_text_in_a_file(hostile: Path) -> None:
    with open_readonly(hostile) as store:
        (row,) = store.fetch("select id from episodes limit 1")
        page = episode_page(store, row["id"])
    check_harmless(page)
    assert "<script" not in page
    assert "default-src 'none'" in page


def test_a_page_that_forgets_to_escape_would_be_noticed() -> None:
    with pytest.raises(AssertionError):
        check_harmless(f"<p>{HOSTILE}</p>")
    with pytest.raises(AssertionError):
        check_harmless("<p>\u202e</p>")
    page = render("error.html", title="x", live=False, status=500, message=HOSTILE)
    check_harmless(page)


# --- parts ---------------------------------------------------------------------------------------


def test_a_file_stands_alone(thousand: Path) -> None:
    with open_readonly(thousand) as store:
        page = episode_page(store, store.fetch("select id from episodes limit 1")[0]["id"])
    assert "<script" not in page
    assert "http:" not in page
    assert "https:" not in page
    assert 'href="/' not in page
    assert "<style>" in page


@pytest.mark.parametrize("name", ["a/b", "a.b", "~", "%41", "ä \u202e", "x?y#z&w", "<>"])
def test_names_survive_an_address(name: str) -> None:
    from datasette.utils import tilde_decode

    assert tilde_decode(tilde(name)) == name
    assert "/" not in tilde(name)


def test_a_step_that_the_drawing_does_not_know_is_told() -> None:
    rows = [
        {"source": "START", "target": "encode", "step": 0, "reason": "x"},
        {"source": "encode", "target": "elsewhere", "step": 1, "reason": "y"},
    ]
    drawing = draw(rows, finished=False)
    assert drawing.strangers == ["encode → elsewhere, 1 times"]
    assert "2 steps" in drawing.summary


def test_iterations_show_what_is_there(tmp_path: Path, played: Path) -> None:
    from mentalarena.rows import Row
    from mentalarena.store import open_store

    db = tmp_path / "loop.db"
    with open_store(db) as store:
        run = {"id": "loop", "kind": "selfplay", "config": {}, "config_hash": "h",
               "code_version": "0"}  # fmt: skip
        dataset = {"id": "d" * 40, "path": "data/1", "kind": "sft", "run_ids": ["loop"],
                   "filters": ["status", "safety"], "rows": 7,
                   "funnel": {"all": 30, "status": 21, "safety": 7}}  # fmt: skip
        turn = {"run_id": "loop", "iteration": 1, "stage": "done", "model": "local",
                "dataset_id": "d" * 40, "adapter": "adapters/1", "accepted": 0,
                "candidate": "local:1.gguf", "decision": "keep", "reason": "closed: novelty",
                "gates": {"novelty": {"value": 0.3, "state": "closed", "about": "0.3 as far",
                                      "warn": 0.7, "close": 0.4}},
                "episodes_run_ids": ["loop-1-own"]}  # fmt: skip
        metrics = {"accuracy": {"value": 0.25, "low": 0.1, "high": 0.4, "n": 20}}
        evaluation = {"id": "e1", "run_id": "loop", "iteration": 1, "task": "medqa",
                      "split": "dev", "model": "local", "scoring": "likelihood", "config": {},
                      "config_hash": "h", "items_hash": "i", "source": {}, "status": "ok",
                      "metrics": metrics}  # fmt: skip
        item = {"evaluation_id": "e1", "item_hash": "i", "rotation": 0, "copies": 1,
                "cluster": "i", "prompt": "", "labels": ["A", "B"], "options": ["x", "y"],
                "gold": "A", "predicted": "B", "outcome": "wrong"}  # fmt: skip
        store.write_sync([
            Row("runs", run), Row("datasets", dataset), Row("evaluations", evaluation),
            Row("iterations", {**turn, "evaluation_id": "e1"}), Row("evaluation_items", item),
            Row("iteration_stages", {"run_id": "loop", "iteration": 1, "stage": "play",
                                     "starts": 2, "started_at": "then"}),
        ])  # fmt: skip
    with open_readonly(db) as store:
        page = render(
            "iterations.html", links=LINKS, title="x", live=False,
            iterations=queries.iterations(store), evaluations=queries.evaluations(store),
        )  # fmt: skip
    said = " ".join(text_of(page).split())
    for part in (
        "kept the model before",
        "all 30 status 21 safety 7",
        "adapters/1",
        "novelty closed 0.3 as far closes at 0.400, warns at 0.700",
        "closed: novelty",
        "played loop-1-own",
        "play then 2",
        "accuracy 0.250 (0.100 to 0.400), n 20",
        "1 wrong",
    ):
        assert part in said, part


@pytest.mark.parametrize(
    ("funnel", "steps"),
    [
        ({"all": 3, "ok": 1}, [("all", 3), ("ok", 1)]),
        ({"a": 1, "z": 3}, [("z", 3), ("a", 1)]),
        ([["all", 3], ["ok", 1]], [("all", 3), ("ok", 1)]),
        ([{"filter": "all", "left": 3}], [("all", 3)]),
        ("odd", []),
    ],
)
def test_funnels_of_any_form_are_read(funnel: object, steps: list[object]) -> None:
    assert queries.funnel_steps(json.loads(json.dumps(funnel))) == steps
