"""The arena: the state machine of one episode, and the command that plays it.

Why: what happens next is decided here and nowhere else. ``graph`` is compiled without a
checkpointer; LangGraph Studio supplies its own (``langgraph.json``), and the journal is how an
episode resumes.

Run it: ``python -m graphs.arena`` (the same as ``mentalarena run``); ``--help`` lists the flags.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Literal, get_args

from langgraph.errors import GraphBubbleUp
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime, get_runtime
from langgraph.types import Overwrite

from graphs import nodes, plans, routes
from graphs.forks import config_of
from graphs.records import route_row, rows_of
from graphs.session import Session, session_for
from graphs.state import (
    ArenaInput,
    ArenaState,
    CloseInput,
    DecodeInput,
    EncodeInput,
    JudgeInput,
    PatientInput,
    SafetyInput,
    TherapistInput,
)
from mentalarena.config import ArenaConfig
from mentalarena.store import Write

Node = Callable[[Any, Session, Any], Awaitable[ArenaState]]
Recorded = Callable[..., Awaitable[ArenaState]]

NODES: dict[str, tuple[Node, type]] = {
    "encode": (nodes.encode_case, EncodeInput),
    "patient": (nodes.patient, PatientInput),
    "safety": (nodes.safety_turn, SafetyInput),
    "therapist": (nodes.therapist, TherapistInput),
    "formulate": (nodes.formulate, TherapistInput),
    "decode": (nodes.decode, DecodeInput),
    "diagnose": (plans.diagnose, TherapistInput),
    "confirm": (plans.confirm, PatientInput),
    "propose": (plans.propose, TherapistInput),
    "trial": (plans.trial, PatientInput),
    "score": (plans.score, JudgeInput),
    "close": (plans.close, CloseInput),
}

FIXED: dict[str, str] = {
    "encode": "patient",
    "safety": "patient",
    "therapist": "patient",
    "formulate": "decode",
    "diagnose": "confirm",
    "confirm": "propose",
    "propose": "trial",
    "trial": "score",
    "close": "END",
}
"""Edges without a choice."""


async def after_patient(
    state: ArenaState,
) -> Literal["safety", "therapist", "formulate"]:
    """Edge: :func:`graphs.routes.after_patient`."""
    return await _take("patient", state, routes.after_patient)  # type: ignore[return-value]


async def after_decode(
    state: ArenaState,
) -> Literal["therapist", "diagnose"]:
    """Edge: :func:`graphs.routes.after_decode`."""
    return await _take("decode", state, routes.after_decode)  # type: ignore[return-value]


async def after_score(
    state: ArenaState,
) -> Literal["propose", "close"]:
    """Edge: :func:`graphs.routes.after_score`."""
    return await _take("score", state, routes.after_score)  # type: ignore[return-value]


async def _take(
    source: str, state: ArenaState, rule: Callable[[ArenaState, ArenaConfig], routes.Route]
) -> str:
    """Apply a routing rule and note the step for the store."""
    # Not a parameter: LangGraph has none to give where a state is set by hand.
    runtime: Runtime[ArenaConfig] | None = get_runtime(ArenaConfig)
    if runtime is None:
        return rule(state, config_of(state)).target
    session = await session_for(runtime.context)
    route = rule(state, session.config)
    episode_id = state["episode_id"]
    session.note(
        episode_id,
        route_row(episode_id, len(state["path"]), source, route.target, route.reason),
    )
    if checkpointed(runtime):
        await session.save(episode_id, [], at_once=True)
    return route.target


def checkpointed(runtime: Runtime[ArenaConfig]) -> bool:
    """Whether LangGraph keeps the state of each step, and goes on from there.

    Rows must then be stored as early as the state; without it an episode resumes by being run
    again from its journal, and writes them again.
    """
    info = runtime.execution_info
    return info is not None and info.thread_id is not None


def recorded(name: str, node: Node) -> Recorded:
    """The graph's form of a node: find the live objects, run, store what it added."""

    async def run(state: Any, runtime: Runtime[ArenaConfig]) -> ArenaState:
        session = await session_for(runtime.context)
        opened: ArenaState = {}
        if name == "encode":
            opened = await nodes.open_episode(state, session)
            state = {**state, **opened, "path": []}
        episode_id, attempt = state["episode_id"], state["attempt"]
        try:
            update = await node(state, session, session.place(state, name))
            rows: list[Write] = list(rows_of(episode_id, attempt, update))
            if name == "encode":
                rows.append(route_row(episode_id, 0, "START", "encode", "an episode begins"))
            if name in FIXED:
                step = len(state["path"]) + 1
                rows.append(route_row(episode_id, step, name, FIXED[name], "always"))
            if name == "close":
                rows.append(plans.closing_stamp(episode_id))
            await session.save(episode_id, rows, at_once=name == "close" or checkpointed(runtime))
        except GraphBubbleUp:
            # A person is waited for: the node runs again with the answer.
            raise
        except BaseException as error:
            await session.fail(episode_id, attempt, error)
            raise
        if name == "close":
            session.forget(episode_id)
        added: Any = {**update, "path": [name]}
        # What an earlier episode of a thread left is dropped, whatever this node adds itself.
        emptied = opened.keys() & added.keys()
        added |= {channel: Overwrite(added[channel]) for channel in emptied}
        return {**opened, **added}

    return run


def add_edges(builder: StateGraph[Any, ArenaConfig, Any, Any]) -> None:
    """Connect the nodes."""
    builder.add_edge(START, "encode")
    for source, target in FIXED.items():
        builder.add_edge(source, END if target == "END" else target)
    builder.add_conditional_edges("patient", after_patient, list(get_args(routes.AfterPatient)))
    builder.add_conditional_edges("decode", after_decode, list(get_args(routes.AfterDecode)))
    builder.add_conditional_edges("score", after_score, list(get_args(routes.AfterScore)))


def build() -> CompiledStateGraph[ArenaState, ArenaConfig, ArenaInput, ArenaState]:
    """The compiled graph."""
    builder = StateGraph(
        ArenaState, context_schema=ArenaConfig, input_schema=ArenaInput, output_schema=ArenaState
    )
    for name, (node, schema) in NODES.items():
        builder.add_node(name, recorded(name, node), input_schema=schema)
    add_edges(builder)
    return builder.compile(name="arena")


graph = build()


if __name__ == "__main__":
    from mentalarena.cli import COMMANDS, load, run_command

    run_command(load(COMMANDS["run"][0]), "python -m graphs.arena")
