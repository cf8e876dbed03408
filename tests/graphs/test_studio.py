"""The graph that LangGraph Studio is served, on a checkpointer of this process."""

import asyncio
import copy
import json
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

import graphs.session
from graphs import studio
from graphs.arena import NODES
from graphs.reproduce import Outcome, reproduce_all
from graphs.routes import recursion_limit
from graphs.session import open_session
from mentalarena.config import ArenaConfig
from mentalarena.errors import CaseError, ConfigurationError, ParseError, StoreError
from mentalarena.store_reader import open_readonly
from mentalarena.trajectory import read_trajectory

State = dict[str, Any]


class Server:
    """What a LangGraph server does with the graph, without the server."""

    def __init__(self, config: ArenaConfig, saver: InMemorySaver | None = None) -> None:
        self.config = config
        self.saver = saver or InMemorySaver()
        self.graph = studio.graph.builder.compile(checkpointer=self.saver)

    def thread(self, name: str = "one", **more: Any) -> Any:
        return {
            "configurable": {"thread_id": name, **more},
            "recursion_limit": recursion_limit(self.config),
        }

    async def run(self, given: Any, thread: Any = None, **changes: Any) -> State:
        found: State = await self.graph.ainvoke(
            given, thread or self.thread(), context=replace(self.config, **changes)
        )
        return found

    async def before(self, node: str, name: str = "one") -> Any:
        """The config of the last checkpoint from which a node was run."""
        async for past in self.graph.aget_state_history(self.thread(name)):
            if past.next == (node,):
                return {**past.config, "recursion_limit": recursion_limit(self.config)}
        raise AssertionError(f"{node} never ran")

    def fetch(self, sql: str, *params: object) -> list[State]:
        with open_readonly(self.config.db) as store:
            return store.fetch(sql, params)

    def stored(self, episode_id: str) -> State:
        with open_readonly(self.config.db) as store:
            return read_trajectory(store, episode_id)

    async def replayed(self) -> list[Outcome]:
        with open_readonly(self.config.db) as store:
            ids = [row["id"] for row in store.fetch("select id from episodes where status = 'ok'")]
            return await reproduce_all(store, ids, lambda _: None)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    config = ArenaConfig(
        exchanges=2, probe_rounds=1, max_plans=1, judge_samples=1, db=str(tmp_path / "s.db")
    )
    open_session(config)
    yield Server(config)
    # Every configuration that a test has used has a session of its own.
    for session in [one for one in graphs.session._sessions.values() if one.config.db == config.db]:
        session.close()


def spoken(state: State) -> list[str]:
    return [turn["text"] for turn in state["turns"]]


def chat(state: State) -> list[str]:
    return [message.content for message in state["messages"]]


def agrees(server: Server, state: State) -> None:
    """The store holds what the state shows."""
    stored = server.stored(state["episode_id"])
    assert [turn["text"] for turn in stored["turns"]] == spoken(state)
    assert [(d["round"], d["decision"], d["component"], d["guidance"]) for d in stored["decisions"]]
    for table, columns in (
        ("decisions", ("round", "decision", "reason", "component", "guidance")),
        ("deviations", ("round", "component", "verdict", "similarity")),
        ("diagnoses", ("idx", "label", "code", "rationale", "reason")),
        ("plans", ("kind", "attempt", "name", "health_after", "score")),
        ("scores", ("kind", "attempt", "sample", "score")),
    ):
        shown = [tuple(row[column] for column in columns) for row in state[table]]
        kept = [tuple(row[column] for column in columns) for row in stored[table]]
        assert sorted(shown, key=str) == sorted(kept, key=str), table
    assert [route["source"] for route in stored["routes"]] == ["START", *state["path"]]
    assert stored["episode"]["status"] == state["status"]
    assert stored["episode"]["seed"] == state["seed"]


# --- what a thread shows -------------------------------------------------------------------------


def test_no_node_reads_the_chat() -> None:
    for name, (_, schema) in NODES.items():
        assert not {"messages", "lineage", "episode"} & set(get_type_hints(schema)), name


async def test_a_node_is_handed_its_slice_only(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, set[str]] = {}

    def spy(name: str, node: studio.Node) -> studio.Recorded:
        inner = recorded(name, node)

        async def run(state: Any, runtime: Any) -> Any:
            seen.setdefault(name, set()).update(state)
            return await inner(state, runtime)

        return run

    recorded = studio.recorded
    monkeypatch.setattr(studio, "recorded", spy)
    server.graph = studio.build().builder.compile(checkpointer=InMemorySaver())
    await server.run({"case_id": "kenji-1"})
    for name, (_, schema) in NODES.items():
        assert name == "safety" or seen[name] <= set(get_type_hints(schema)), name
    assert "case" in seen["patient"]
    assert "case" not in seen["therapist"]


async def test_the_chat_is_the_dialogue_and_is_not_stored(server: Server) -> None:
    state = await server.run({"case_id": "kenji-1"})
    assert chat(state) == spoken(state)
    kinds = {"patient": "ai", "therapist": "human"}
    assert [m.type for m in state["messages"]] == [kinds[t["speaker"]] for t in state["turns"]]
    agrees(server, state)
    text = spoken(state)[0]
    with open_readonly(server.config.db) as store:
        tables = store.fetch("select name from sqlite_schema where type = 'table'")
        held = [
            row["name"] for row in tables
            if any(text in str(r) for r in store.fetch(f"select * from {row['name']}"))
        ]  # fmt: skip
    # The quotes of a formulation are the therapist's, and the full-text index is an index.
    assert set(held) <= {"turns", "formulations", "turns_fts", "turns_fts_content"}


async def test_a_chat_begins_with_the_name_of_a_case(server: Server) -> None:
    state = await server.run({"messages": [{"role": "user", "content": " noah-1 "}]})
    assert state["case_id"] == "noah-1"
    assert chat(state)[1:] == spoken(state)
    again = await server.run({"messages": [{"role": "user", "content": "kenji-1"}]})
    assert again["episode_id"] != state["episode_id"]
    assert chat(again) == ["kenji-1", *spoken(again)]
    agrees(server, again)
    with pytest.raises(CaseError, match="hello"):
        await server.run({"messages": [{"role": "user", "content": "hello"}]})
    named = await server.run({"case_id": "noah-1"})
    assert (named["case_id"], chat(named)) == ("noah-1", spoken(named))


async def test_a_thread_that_plays_again_keeps_nothing_of_before(server: Server) -> None:
    first = await server.run({"case_id": "kenji-1"})
    second = await server.run({"case_id": "noah-1"})
    assert second["episode_id"] != first["episode_id"]
    assert chat(second) == spoken(second)
    assert len(second["path"]) == len(set(range(len(second["path"]))))
    agrees(server, first)
    agrees(server, second)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"therapist": "opneai:x"}, "therapist 'opneai:x' is unknown: did you mean openai:x"),
        ({"judge": "openai:x", "base_url": "http://127.0.0.1:9/v1"}, "nothing answers at"),
    ],
)
async def test_seats_are_checked_before_an_episode_is_opened(
    wrong: State, told: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    with pytest.raises(Exception, match=told):
        await server.run({}, **wrong)
    assert server.fetch("select id from episodes") == []


# --- forks ---------------------------------------------------------------------------------------


async def test_a_run_from_a_past_step_is_a_branch(server: Server) -> None:
    first = await server.run({"case_id": "kenji-1"})
    before = server.stored(first["episode_id"])
    past = await server.before("propose")
    forked = await server.run(None, past)
    assert forked["episode_id"] != first["episode_id"]
    step = server.stored(forked["episode_id"])["episode"]
    assert (step["parent"], step["parent_attempt"]) == (first["episode_id"], 1)
    assert forked["path"][step["branch_step"]] == "propose"
    assert server.stored(first["episode_id"]) == before, "the first one is untouched"
    assert chat(forked) == spoken(forked) == spoken(first)
    agrees(server, forked)
    twice = await server.run(None, past)
    assert len({first["episode_id"], forked["episode_id"], twice["episode_id"]}) == 3
    assert len({first["seed"], forked["seed"], twice["seed"]}) == 3, "luck of its own"
    outcomes = await server.replayed()
    assert [outcome.identical for outcome in outcomes] == [True] * 3


async def test_a_branch_of_a_branch_is_made_again_too(server: Server) -> None:
    await server.run({"case_id": "kenji-1"})
    middle = await server.run(None, await server.before("formulate"))
    last = await server.run(None, await server.before("propose"))
    assert server.stored(last["episode_id"])["episode"]["parent"] == middle["episode_id"]
    assert all(outcome.identical for outcome in await server.replayed())


async def test_another_configuration_is_a_branch(server: Server) -> None:
    first = await server.run({"case_id": "kenji-1"})
    forked = await server.run(None, await server.before("confirm"), max_plans=2)
    agrees(server, forked)
    (row,) = server.fetch(
        "select e.parent, r.kind, json_extract(r.config, '$.max_plans') as plans from episodes e "
        "join runs r on r.id = e.run_id where e.id = ?",
        forked["episode_id"],
    )
    assert row == {"parent": first["episode_id"], "kind": "branch", "plans": 2}
    assert all(outcome.identical for outcome in await server.replayed())


async def test_an_edited_state_is_a_branch_and_so_are_its_rows(server: Server) -> None:
    first = await server.run({"case_id": "kenji-1"})
    before = server.stored(first["episode_id"])
    past = await server.before("formulate")
    held = (await server.graph.aget_state(past)).values["turns"][-1]
    line = {**held, "idx": held["idx"] + 1, "text": "There is something I have not told you."}
    edited = await server.graph.aupdate_state(past, {"turns": [line]})
    forked = await server.run(None, {**server.thread(), **edited})
    assert line["text"] in spoken(forked)
    agrees(server, forked)
    assert server.stored(first["episode_id"]) == before


async def test_two_runs_at_once_share_one_writer(server: Server) -> None:
    before = writers()
    given = ({"case_id": "kenji-1"}, {"case_id": "noah-1"})
    threads = (server.thread("one"), server.thread("two"))
    ended = await asyncio.gather(
        server.run(given[0], threads[0]), server.run(given[1], threads[1], seed=5)
    )
    for state in ended:
        agrees(server, state)
    assert open_session(server.config).store is open_session(replace(server.config, seed=5)).store
    assert writers() == before, "one for all, whatever the configurations"


def writers() -> set[int | None]:
    return {thread.ident for thread in threading.enumerate() if thread.name == "store-writer"}


async def test_new_samples_are_not_counted_as_branches(server: Server) -> None:
    await server.run({"case_id": "kenji-1"})
    await server.run(None, await server.before("propose"))
    await server.run({"case_id": "kenji-1"})
    kinds = server.fetch(
        "select r.kind, e.sample from episodes e join runs r on r.id = e.run_id order by 1, 2"
    )
    assert [tuple(row.values()) for row in kinds] == [("arena", 0), ("arena", 1), ("branch", 0)]


async def test_a_thread_without_an_episode_says_so(server: Server) -> None:
    await server.graph.aupdate_state(server.thread(), {"case_id": "noah-1"}, as_node="encode")
    with pytest.raises(ConfigurationError, match="holds no episode yet"):
        await server.run(None)


async def test_a_thread_whose_store_is_elsewhere_says_so(server: Server, tmp_path: Path) -> None:
    await server.run({"case_id": "kenji-1"})
    elsewhere = replace(server.config, db=str(tmp_path / "other.db"))
    with closing(open_session(elsewhere)), pytest.raises(StoreError, match=r"not in .*other\.db"):
        await server.run(None, await server.before("propose"), db=elsewhere.db)


async def test_a_cancelled_run_goes_on_in_the_same_episode(server: Server) -> None:
    given, thread = {"case_id": "kenji-1"}, server.thread()
    steps = server.graph.astream(given, thread, context=server.config, stream_mode="updates")
    async for step in steps:
        if "formulate" in step:
            break
    await steps.aclose()
    (row,) = server.fetch("select id, status from episodes")
    assert row["status"] in ("running", "aborted")
    ended = await server.run(None)
    assert ended["episode_id"] == row["id"]
    agrees(server, ended)
    assert len(server.fetch("select id from episodes")) == 1
    assert all(outcome.identical for outcome in await server.replayed())


async def test_what_failed_is_gone_on_with_in_a_branch(server: Server) -> None:
    """And a person whose answers could not be read is asked again, not taken at them again."""
    seats = {"therapist": "human"}
    state = await server.run({"case_id": "noah-1"}, **seats)
    while "options" not in json.dumps(asked(state)["answer"]):
        state = await server.run(Command(resume=made_up(asked(state)["answer"], 1)), **seats)
    await server.run(Command(resume=" "), **seats)
    await server.run(Command(resume="  "), **seats)
    with pytest.raises(ParseError, match="in 3 answers"):
        await server.run(Command(resume="   "), **seats)
    assert server.fetch("select status from episodes") == [{"status": "failed"}]
    again = await server.run(None, **seats)
    assert "could not be used" not in asked(again)["question"]
    again = await server.run(Command(resume="oh no"), **seats)
    assert "could not be used" in asked(again)["question"]
    ended = await answered(server, again, seats)
    agrees(server, ended)
    rows = server.fetch("select parent, status from episodes order by started_at")
    assert rows == [
        {"parent": None, "status": "failed"},
        {"parent": state["episode_id"], "status": "ok"},
    ]
    (call, *_) = server.fetch(
        "select answer from calls where purpose = 'diagnose' and episode_id = ? order by reask",
        ended["episode_id"],
    )
    assert call["answer"] == "oh no"
    assert all(outcome.identical for outcome in await server.replayed())


# --- people --------------------------------------------------------------------------------------


def asked(state: State) -> Any:
    (question,) = state["__interrupt__"]
    return question.value


async def answered(server: Server, state: State, seats: State) -> State:
    """Answer everything that is asked until the episode ends."""
    number = 0
    while "__interrupt__" in state:
        number += 1
        schema = asked(state)["answer"]
        state = await server.run(Command(resume=made_up(schema, number)), **seats)
    return state


def made_up(schema: Any, number: int) -> Any:
    """Something that can be read; the number tells answers apart."""
    if isinstance(schema, str):
        return f"I would say that it has been like this for {number} weeks."
    names = schema["properties"]
    if "options" in names:
        return {"options": [{"label": "Insomnia"}, {"label": "Depression"}]}
    if "choice" in names:
        return json.dumps({"choice": 1, "reason": f"Reason {number}."})
    if "score" in names:
        return {"score": number % 10 + 1}
    if "health" in names:
        return {"response": f"I could try that for {number} days.", "health": 5}
    if "name" in names:
        return {"name": f"Plan number {number}"}
    return {"emotions": {"statement": f"sad, {number}", "quotes": []}}


@pytest.mark.parametrize("seat", ["therapist", "patient"])
async def test_a_person_plays_a_seat(seat: str, server: Server) -> None:
    seats = {seat: "human"}
    state = await server.run({"case_id": "noah-1"}, **seats)
    assert server.fetch("select status from episodes") == [{"status": "running"}]
    ended = await answered(server, state, seats)
    assert ended["status"] == "ok"
    agrees(server, ended)
    calls = server.stored(ended["episode_id"])["calls"]
    assert {(call["seat"], call["model"]) for call in calls} == {(seat, "human")}
    assert len(calls) >= 5
    (outcome,) = await server.replayed()
    assert (outcome.identical, outcome.answers) == (True, len(calls))


async def test_a_therapist_is_not_asked_with_the_record(server: Server) -> None:
    state = await server.run({"case_id": "noah-1"}, therapist="human")
    clauses = [
        clause["text"] for part in state["case"]["cognitive_model"].values() for clause in part
    ]
    assert len(clauses) > 5
    shown = json.dumps(asked(state))
    # Names of closed lists are named in every question of a formulation, and not in this one.
    assert not [text for text in clauses if text in shown]
    assert spoken(state)[0] in asked(state)["question"]


async def test_two_questions_of_one_node_are_answered_in_order(server: Server) -> None:
    """What cannot be read is asked again: both answers are kept, each under its own question."""
    seats = {"therapist": "human"}
    state = await server.run({"case_id": "noah-1"}, **seats)
    while "options" not in json.dumps(asked(state)["answer"]):
        state = await server.run(Command(resume=made_up(asked(state)["answer"], 1)), **seats)
    first = asked(state)["question"]
    state = await server.run(Command(resume="no idea"), **seats)
    assert "could not be used" in asked(state)["question"]
    assert asked(state)["question"] != first
    state = await server.run(Command(resume="still none"), **seats)
    good = made_up(asked(state)["answer"], 1)
    state = await server.run(Command(resume=good), **seats)
    calls = server.fetch(
        "select answer from calls where purpose = 'diagnose' order by reask",
    )
    assert [row["answer"] for row in calls] == ["no idea", "still none", json.dumps(good)]
    assert [d["label"] for d in state["diagnoses"]] == ["Insomnia", "Depression"]
    ended = await answered(server, state, seats)
    agrees(server, ended)
    assert all(outcome.identical for outcome in await server.replayed())


async def test_a_person_judges_sample_by_sample(server: Server) -> None:
    seats = {"judge": "human", "judge_samples": 3}
    state = await server.run({"case_id": "noah-1"}, **seats)
    for score in (2, 5, 8):
        assert "score" in asked(state)["answer"]["properties"]
        state = await server.run(Command(resume={"score": score}), **seats)
    assert [s["score"] for s in state["scores"]] == [2, 5, 8]


async def test_a_person_may_hold_the_first_node(server: Server) -> None:
    seats = {"manager": "human"}
    state = await server.run({"case_id": "noah-1"}, **seats)
    state = await server.run(Command(resume={"choice": 2}), **seats)
    assert len(server.fetch("select id from episodes")) == 1
    assert state["principle"]["id"] == list(state["principle_scores"])[1]


async def test_a_fork_is_answered_anew(server: Server) -> None:
    seats = {"patient": "human"}
    await server.run({"case_id": "noah-1"}, **seats)
    first = await server.run(Command(resume="I cannot sleep at night."), **seats)
    first = await server.run(Command(resume="It began in the spring."), **seats)
    before = server.stored(first["episode_id"])
    past = None
    async for point in server.graph.aget_state_history(server.thread()):
        if point.next == ("patient",) and len(point.values.get("turns", ())) == 2:
            past = {**server.thread(), **point.config}
    forked = await server.run(None, past, **seats)
    assert "__interrupt__" in forked
    forked = await server.run(Command(resume="It began with the new job."), **seats)
    assert spoken(forked)[:3] == [*spoken(first)[:2], "It began with the new job."]
    ended = await answered(server, forked, seats)
    agrees(server, ended)
    assert server.stored(first["episode_id"]) == before
    branches = server.fetch("select id, parent from episodes where parent is not null")
    assert branches == [{"id": ended["episode_id"], "parent": first["episode_id"]}]
    assert all(outcome.identical for outcome in await server.replayed())


@pytest.mark.parametrize("same", [True, False])
async def test_an_answer_given_twice_counts_once_and_another_is_a_branch(
    same: bool, server: Server
) -> None:
    """A server that was killed may have kept less of a thread than the store has of its episode."""
    seats = {"patient": "human"}
    await server.run({"case_id": "noah-1"}, **seats)
    kept = copy.deepcopy(server.saver)
    first = await server.run(Command(resume="I cannot sleep at night."), **seats)
    before = server.stored(first["episode_id"])
    restarted = Server(server.config, kept)
    words = "I cannot sleep at night." if same else "I sleep too much."
    again = await restarted.run(Command(resume=words), **seats)
    assert (again["episode_id"] == first["episode_id"]) is same
    assert spoken(again)[0] == words
    assert server.stored(first["episode_id"])["turns"] == before["turns"]
    again = await restarted.run(Command(resume="It began with the new job."), **seats)
    assert spoken(again)[2] == "It began with the new job."
    ended = await answered(restarted, again, seats)
    agrees(restarted, ended)
    assert len(server.fetch("select id from episodes")) == (1 if same else 2)
    assert all(outcome.identical for outcome in await server.replayed())


# --- what is left of a server that was killed ----------------------------------------------------


async def test_an_interrupted_episode_is_taken_up_from_the_store(server: Server) -> None:
    """Its threads are gone; answers come from the journal, none is asked for twice."""
    seats = {"patient": "human"}
    state = await server.run({"case_id": "noah-1"}, **seats)
    state = await server.run(Command(resume="I cannot sleep at night."), **seats)
    state = await server.run(Command(resume="It began in the spring."), **seats)
    restarted = Server(server.config)
    again = await restarted.run({"episode": state["episode_id"][:9]}, **seats)
    assert again["episode_id"] == state["episode_id"]
    assert spoken(again) == spoken(state)
    assert asked(again) == asked(state)
    ended = await answered(restarted, again, seats)
    agrees(restarted, ended)
    with pytest.raises(ConfigurationError, match="is complete"):
        await restarted.run({"episode": ended["episode_id"]}, **seats)
    with pytest.raises(StoreError, match="ep-nothing"):
        await restarted.run({"episode": "ep-nothing"}, **seats)
    other = await restarted.run({"case_id": "kenji-1"})
    assert other["status"] == "ok", "what was refused is not asked for again"


async def test_an_episode_is_taken_up_between_two_questions_of_a_node(server: Server) -> None:
    seats = {"therapist": "human"}
    state = await server.run({"case_id": "noah-1"}, **seats)
    while "options" not in json.dumps(asked(state)["answer"]):
        state = await server.run(Command(resume=made_up(asked(state)["answer"], 1)), **seats)
    state = await server.run(Command(resume="no idea"), **seats)
    restarted = Server(server.config)
    again = await restarted.run({"episode": state["episode_id"]}, **seats)
    assert asked(again) == asked(state)
    again = await restarted.run(Command(resume="still none"), **seats)
    ended = await answered(restarted, again, seats)
    agrees(restarted, ended)
    assert len(server.fetch("select id from episodes")) == 1
    calls = server.fetch("select answer from calls where purpose = 'diagnose' order by reask")
    assert [row["answer"] for row in calls][:2] == ["no idea", "still none"]
    assert all(outcome.identical for outcome in await restarted.replayed())


async def test_an_episode_is_not_taken_up_under_another_configuration(server: Server) -> None:
    state = await server.run({"case_id": "noah-1"}, patient="human")
    with pytest.raises(ConfigurationError, match="another max_plans, patient: use the same"):
        await server.run({"episode": state["episode_id"]}, max_plans=3)
