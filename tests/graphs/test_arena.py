"""The compiled graph: its shape, its steps as rows, its ends."""

import importlib.util
import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from langgraph.checkpoint.memory import MemorySaver
from langgraph.graph.state import CompiledStateGraph

from agents.rules import RulesTherapist
from agents.seats import (
    Answered,
    Confirmation,
    ConfirmView,
    Diagnoses,
    DiagnosisProposal,
    Failure,
    Formulation,
    JudgeView,
    PatientView,
    Place,
    PlanResponse,
    Score,
    TherapistView,
    TrialView,
    Utterance,
)
from graphs.arena import FIXED, NODES, graph
from graphs.plans import START_HEALTH
from graphs.routes import recursion_limit
from graphs.session import open_session
from graphs.state import ArenaState
from mentalarena.config import ArenaConfig
from mentalarena.errors import ParseError
from mentalarena.roster import builtin_cases
from tests.graphs.people import CRISIS_LINE, SilentPatient
from tests.graphs.support import play, rows

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def config(tmp_path: Path) -> ArenaConfig:
    return ArenaConfig(
        exchanges=2, probe_rounds=2, max_plans=2, judge_samples=2, db=str(tmp_path / "arena.db")
    )


# --- shape ---------------------------------------------------------------------------------------


def test_the_graph_is_what_langgraph_serves() -> None:
    served = json.loads((ROOT / "langgraph.json").read_text("utf-8"))["graphs"]["arena"]
    file, name = served.split(":")
    # The server loads the file by its path, without a package around it.
    spec = importlib.util.spec_from_file_location("served_arena", ROOT / file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, name)
    assert isinstance(found, CompiledStateGraph)
    assert found.checkpointer is None, "the server supplies its own"


def test_the_context_is_a_plain_form() -> None:
    schema = graph.get_context_jsonschema()
    assert schema is not None
    fields = schema["properties"]
    assert {"patient", "therapist", "guidance", "exchanges", "seed", "db"} <= set(fields)
    kinds = {str(field.get("type", "enum" if "enum" in field else "")) for field in fields.values()}
    assert kinds <= {"string", "integer", "number", "enum"}, kinds


def test_every_node_declares_less_than_the_whole_state() -> None:
    everything = set(ArenaState.__annotations__)
    for name, (_, schema) in NODES.items():
        assert set(schema.__annotations__) < everything, name


def test_edges_are_those_of_the_design() -> None:
    drawn = graph.get_graph()
    edges = {(edge.source, edge.target) for edge in drawn.edges}
    conditional = {
        ("patient", "safety"), ("patient", "therapist"), ("patient", "formulate"),
        ("decode", "therapist"), ("decode", "diagnose"), ("score", "propose"), ("score", "close"),
    }  # fmt: skip
    fixed = {(s, "__end__" if t == "END" else t) for s, t in FIXED.items()}
    assert edges == {("__start__", "encode")} | conditional | fixed


# --- steps ---------------------------------------------------------------------------------------


async def test_routes_are_the_path_without_a_gap(
    config: ArenaConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = await play(config, builtin_cases()["kenji-1"], monkeypatch)
    steps = played["routes"]
    assert [step["step"] for step in steps] == list(range(len(steps)))
    assert [step["source"] for step in steps] == ["START", *played["state"]["path"]]
    assert [step["target"] for step in steps] == [*played["state"]["path"], "END"]
    assert all(step["reason"] for step in steps)


async def test_a_reroute_is_visible_as_rows(
    config: ArenaConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = await play(config, builtin_cases()["kenji-1"], monkeypatch)
    rerouted = [d for d in played["decisions"] if d["component"]]
    assert rerouted, "two exchanges cannot cover eight components"
    probes = [t for t in played["turns"] if t["purpose"] == "probe"]
    assert len(probes) == 2 * len(rerouted), "a question and an answer for each"
    for decision in rerouted:
        (deviation,) = [
            d for d in played["deviations"]
            if (d["round"], d["component"]) == (decision["round"], decision["component"])
        ]  # fmt: skip
        assert deviation["verdict"] in ("missed", "distorted", "unsupported")
        assert deviation["threshold"] is not None
        assert decision["guidance"], "what was asked because of it"
        later = [d for d in played["deviations"] if d["round"] == decision["round"] + 1]
        assert later, "whether the next formulation got better"


@pytest.mark.parametrize("guidance", ["none", "topic", "placebo", "oracle"])
async def test_every_arm_has_the_same_budget_of_exchanges(
    guidance: str, config: ArenaConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ignorant(RulesTherapist):
        """Never formulates anything, so that no arm ends early."""

        async def formulate(self, view: TherapistView, at: Place) -> Answered[Formulation]:
            return Answered(Formulation())

    arm = replace(config, guidance=guidance)  # type: ignore[arg-type]
    case = builtin_cases()["maren-1"]
    played = await play(arm, case, monkeypatch, {"therapist": Ignorant()})
    assert [t["purpose"] for t in played["turns"] if t["speaker"] == "therapist"] == [
        "exchange", "exchange", "probe", "probe",
    ]  # fmt: skip
    assert len(played["decisions"]) == 3
    told = [d["guidance"] for d in played["decisions"]]
    assert all(told[:2]) is (guidance != "none")
    assert told[2] == ""
    assert {d["guidance_kind"] for d in played["decisions"]} == {guidance}
    assert played["episode"]["guidance"] == guidance


async def test_candidates_of_a_kind_compete_from_the_same_health(
    config: ArenaConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = await play(replace(config, accept_score=10.0), builtin_cases()["grace-1"], monkeypatch)
    treatments = [p for p in played["plans"] if p["kind"] == "treatment"]
    medications = [p for p in played["plans"] if p["kind"] == "medication"]
    assert {p["health_before"] for p in treatments} == {START_HEALTH}
    (chosen,) = [p for p in treatments if p["chosen"]]
    assert {p["health_before"] for p in medications} == {chosen["health_after"]}
    assert chosen["score"] == max(p["score"] for p in treatments)


# --- seats that misbehave ------------------------------------------------------------------------


class Alarming(SilentPatient):
    """Every answer is a crisis."""

    async def speak(self, view: PatientView, at: Place) -> Answered[Utterance]:
        return Answered(Utterance(text=CRISIS_LINE))


class Unimpressed:
    """A judge that accepts nothing."""

    async def score(self, view: JudgeView, at: Place, sample: int) -> Answered[Score | None]:
        return Answered(Score(score=1, reason="no"))


async def test_the_recursion_limit_holds_in_the_worst_case(
    config: ArenaConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blank(RulesTherapist):
        async def formulate(self, view: TherapistView, at: Place) -> Answered[Formulation]:
            return Answered(Formulation())

    seats = {"patient": Alarming(), "therapist": Blank(), "judge": Unimpressed()}
    played = await play(config, builtin_cases()["maren-1"], monkeypatch, seats)
    assert played["episode"]["status"] == "ok"
    assert played["episode"]["crisis"] == 1
    # One super-step to spare: the limit is derived, not generous.
    assert len(played["state"]["path"]) == recursion_limit(config) - 1
    safety = [t for t in played["turns"] if t["purpose"] == "safety"]
    assert len(safety) == 2 * (1 + config.exchanges + config.probe_rounds)
    found = [flag for flag in played["flags"] if flag["place"] == "turn"]
    assert {(flag["screen"], flag["qualifier"]) for flag in found} == {("crisis", None)}
    spoken = [t for t in played["turns"] if t["speaker"] == "patient"]
    assert {flag["idx"] for flag in found} == {turn["idx"] for turn in spoken}


async def test_an_unreadable_score_accepts_nothing(
    config: ArenaConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Mumbling:
        async def score(self, view: JudgeView, at: Place, sample: int) -> Answered[Score | None]:
            return Answered(None, None, (Failure("parse", f"no number in sample {sample}", None),))

    played = await play(config, builtin_cases()["maren-1"], monkeypatch, {"judge": Mumbling()})
    assert [p["score"] for p in played["plans"]] == [None] * 4
    assert not any(p["chosen"] for p in played["plans"])
    assert {s["score"] for s in played["scores"]} == {None}
    assert {(e["boundary"], e["type"]) for e in played["errors"]} == {("parse", "ParseFailure")}
    assert played["episode"]["status"] == "ok", "the episode is complete, and says what it lacks"


async def test_an_unreadable_health_stays_empty(
    config: ArenaConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Vague(SilentPatient):
        async def respond(self, view: TrialView, at: Place) -> Answered[PlanResponse]:
            return Answered(PlanResponse(response="Better, I think.", health=None))

    played = await play(config, builtin_cases()["maren-1"], monkeypatch, {"patient": Vague()})
    assert {p["health_after"] for p in played["plans"]} == {None}
    assert {p["health_before"] for p in played["plans"]} == {START_HEALTH}


async def test_a_role_flip_is_marked_on_its_turn(
    config: ArenaConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Flipping(SilentPatient):
        async def speak(self, view: PatientView, at: Place) -> Answered[Utterance]:
            failures = (Failure("role_flip", "speaks as the therapist", None),)
            return Answered(Utterance(text="How does that make you feel?"), None, failures)

    played = await play(config, builtin_cases()["maren-1"], monkeypatch, {"patient": Flipping()})
    flips = [t["role_flip"] for t in played["turns"] if t["speaker"] == "patient"]
    assert all(flips)
    assert {(e["boundary"], e["type"]) for e in played["errors"]} == {("role_flip", "RoleFlip")}


def _raise(error: Exception) -> Callable[..., Any]:
    class Broken(SilentPatient):
        async def speak(self, view: PatientView, at: Place) -> Answered[Utterance]:
            if at.visit == 1:
                raise error
            return await super().speak(view, at)

    return Broken


@pytest.mark.parametrize(
    ("error", "boundary"), [(ParseError("no words"), "parse"), (ZeroDivisionError("x"), "internal")]
)
async def test_a_broken_episode_is_a_row_that_keeps_what_it_reached(
    error: Exception, boundary: str, config: ArenaConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(type(error)):
        await play(config, builtin_cases()["maren-1"], monkeypatch, {"patient": _raise(error)()})
    assert rows(config, "select status from episodes") == [{"status": "failed"}]
    assert [row["boundary"] for row in rows(config, "select boundary from errors")] == [boundary]
    assert len(rows(config, "select * from turns")) == 2
    steps = rows(config, "select target from routes order by step")
    assert [step["target"] for step in steps] == ["encode", "patient", "therapist", "patient"]


class Rejecting(SilentPatient):
    """Says that neither diagnosis fits, and speaks of a crisis where no turn is."""

    async def confirm(self, view: ConfirmView, at: Place) -> Answered[Confirmation]:
        return Answered(Confirmation(choice=None, reason="Neither sounds like me."))

    async def respond(self, view: TrialView, at: Place) -> Answered[PlanResponse]:
        return Answered(PlanResponse(response=CRISIS_LINE, health=2))


async def test_a_rejected_diagnosis_is_not_confirmed(
    config: ArenaConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = await play(config, builtin_cases()["maren-1"], monkeypatch, {"patient": Rejecting()})
    assert not any(d["chosen"] for d in played["diagnoses"])
    assert played["diagnoses"][0]["reason"] == "Neither sounds like me.", "the patient's own words"
    assert played["plans"], "plans are made for the likelier one"
    assert rows(config, "select * from sft_candidates where task = 'diagnosis'") == []


async def test_a_choice_out_of_range_is_a_failure(
    config: ArenaConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Second(SilentPatient):
        async def confirm(self, view: ConfirmView, at: Place) -> Answered[Confirmation]:
            return Answered(Confirmation(choice=2, reason="The second one."))

    class Single(RulesTherapist):
        async def diagnose(self, view: TherapistView, at: Place) -> Answered[Diagnoses]:
            return Answered(Diagnoses(options=(DiagnosisProposal(label="Insomnia"),)))

    seats = {"patient": Second(), "therapist": Single()}
    played = await play(config, builtin_cases()["maren-1"], monkeypatch, seats)
    (diagnosis,) = played["diagnoses"]
    assert (diagnosis["chosen"], diagnosis["reason"]) == (0, "no readable choice")
    assert [e["message"] for e in played["errors"]] == ["confirm: choice 2 of 1 options"]


async def test_a_crisis_in_a_response_is_flagged(
    config: ArenaConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = await play(config, builtin_cases()["maren-1"], monkeypatch, {"patient": Rejecting()})
    assert played["episode"]["crisis"] == 1
    assert all(plan["crisis"] for plan in played["plans"])


async def test_a_placebo_carries_nothing_of_the_verdicts(
    config: ArenaConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Blank(RulesTherapist):
        async def formulate(self, view: TherapistView, at: Place) -> Answered[Formulation]:
            return Answered(Formulation())

    arm = replace(config, guidance="placebo", probe_rounds=20)
    played = await play(arm, builtin_cases()["maren-1"], monkeypatch, {"therapist": Blank()})
    told = [d for d in played["decisions"] if d["component"]]
    # Everything is missed, so an honest reroute would always explore.
    assert {d["mode"] for d in told} == {"explore", "revisit"}
    assert len({d["component"] for d in told}) > 3
    assert any(d["component"] != d["chosen"] for d in told), "what the manager chose is kept"


# --- callers -------------------------------------------------------------------------------------


async def test_nothing_is_required_of_a_caller(
    config: ArenaConfig, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Studio may start a run with an empty form: no context, no case."""
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ended = await graph.ainvoke({}, {"recursion_limit": recursion_limit(ArenaConfig())})
    session = open_session(ArenaConfig())
    try:
        assert ended["status"] == "ok"
        assert session.store.fetch("select id from episodes") == [{"id": ended["episode_id"]}]
    finally:
        session.close()


async def test_a_thread_in_studio_may_play_again(
    config: ArenaConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The development server keeps a thread's state; a second run is a second episode."""
    served = graph.builder.compile(checkpointer=MemorySaver())
    thread: Any = {
        "configurable": {"thread_id": "one"},
        "recursion_limit": recursion_limit(config),
    }
    ended = []
    for case_id in ("kenji-1", "noah-1"):
        ended.append(await served.ainvoke({"case_id": case_id}, thread, context=config))
    first, second = ended
    open_session(config).close()
    assert first["episode_id"] != second["episode_id"]
    assert second["path"][0] == "encode"
    assert second["path"].count("encode") == 1
    found = rows(config, "select case_id, status from episodes order by case_id")
    assert [(row["case_id"], row["status"]) for row in found] == [
        ("kenji-1", "ok"), ("noah-1", "ok"),
    ]  # fmt: skip
    turns = rows(config, "select episode_id, count(*) as n from turns group by 1")
    assert {row["n"] for row in turns if row["episode_id"] == second["episode_id"]} == {
        len(second["turns"])
    }


async def test_samples_of_one_case_are_numbered(
    config: ArenaConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = builtin_cases()["noah-1"]
    for _ in range(2):
        await play(config, case, monkeypatch)
    found = rows(
        config, "select sample, config_hash from episodes e join runs r on r.id = e.run_id"
    )
    assert sorted(row["sample"] for row in found) == [0, 1]
    assert len({row["config_hash"] for row in found}) == 1


def test_the_configuration_hash_follows_the_experiment(config: ArenaConfig, tmp_path: Path) -> None:
    def hash_of(**changes: Any) -> str:
        session = open_session(replace(config, **changes))
        try:
            return session.ledger.config_hash
        finally:
            session.close()

    same = hash_of()
    assert hash_of(db=str(tmp_path / "other.db"), timeout=3.0) == same
    assert hash_of(seed=1) != same
    assert hash_of(guidance="none") != same
    assert hash_of(exchanges=3) != same


async def test_two_configurations_on_one_file_share_its_writer(config: ArenaConfig) -> None:
    first, second = open_session(config), open_session(replace(config, seed=1))
    assert first is not second
    assert first.store is second.store
    first.close()
    assert second.store.fetch("select count(*) as n from runs") == [{"n": 0}]
    second.close()
    again = open_session(config)
    assert again.store is not second.store
    again.close()
