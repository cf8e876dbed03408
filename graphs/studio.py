"""The arena as LangGraph Studio shows it: with a chat, people who are asked, and forks.

Why: a server keeps the state of every step, so a thread can be left for days, taken up at any past
step, and edited there. Nothing of that may change what the store holds of an episode. Here

* every node stores its rows before LangGraph stores its state;
* a run that does not simply go on where its episode stands (a fork, an edited state, another
  configuration, another answer of a person, an episode that has ended) is an episode of its own:
  a branch, with ``parent`` and ``branch_step``;
* a person on a seat is asked by ``interrupt()``, and the answer is journaled like any other;
* ``messages`` holds the dialogue for Studio's chat. No node reads it, no table has it.

Run it: ``langgraph dev`` (``langgraph.json`` names :data:`graph`); see ``docs/studio.md``.
"""

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any, get_type_hints

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.channels import EphemeralValue
from langgraph.errors import GraphBubbleUp, GraphInterrupt
from langgraph.graph import StateGraph
from langgraph.graph.message import add_messages
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime
from langgraph.types import Overwrite, interrupt
from typing_extensions import TypedDict

from agents import human
from agents.registry import check_seats
from graphs.arena import NODES, Node, Recorded, add_edges, recorded
from graphs.forks import goes_on, lineage_of, open_branch, take_up
from graphs.nodes import identify, new_episode
from graphs.session import Session, session_for
from graphs.state import ArenaState, Claim, Turn
from mentalarena.config import ArenaConfig
from mentalarena.errors import StoreError
from mentalarena.journal import Call

_OURS = "ep-"
"""How the ids of our messages begin, as those of episodes do; what a person types has others."""


class StudioInput(TypedDict, total=False):
    """What Studio asks for: nothing is required."""

    case_id: str
    """Which case to play; the thread's, or a seeded choice, when empty."""
    seed: int
    """The episode's seed; the thread's, or the configuration's, when absent."""
    episode: Annotated[str, EphemeralValue]
    """An episode of the store that was interrupted, to be gone on with."""
    messages: Annotated[list[AnyMessage], add_messages]
    """In the chat: the id of a case."""


class StudioState(ArenaState, total=False):
    """Every channel of the arena, and those that only Studio needs."""

    messages: Annotated[list[AnyMessage], add_messages]
    """The dialogue, for the chat."""
    episode: Annotated[str, EphemeralValue]


class AnsweredOtherwiseError(GraphBubbleUp):
    """A person answers a question again, and not as they did before."""

    def __init__(self, answer: str) -> None:
        super().__init__(answer)
        self.answer = answer


class ServedStoreError(StoreError, RuntimeError):
    """A refusal of the store in words that reach Studio: the server hides those of OSErrors."""


class _Desk:
    """Asks the person in Studio by ``interrupt()``.

    LangGraph runs an interrupted node again from its beginning, and hands out answers by counting
    the calls of ``interrupt()``. So a question whose answer was given to this task makes its call
    too when the journal answers it; one that was answered elsewhere (before the server was killed,
    say) makes none.
    """

    def __init__(self, task: str) -> None:
        self.name = f"human:{task}"
        self._given: list[str] = []
        self._asked = 0

    def again(self) -> None:
        """Begin with the first question again, within the same run of the node."""
        self._asked = 0

    def drop(self, answers: Sequence[str]) -> None:
        """Pass over answers that this task was given for another episode than it now plays.

        LangGraph hands out the last one once more when a node that failed is run again.
        """
        with suppress(GraphInterrupt):
            for _ in answers:
                interrupt("this was answered")
            if answers and (last := _text(interrupt("this was answered"))) != answers[-1]:
                self._given.append(last)

    def ask(self, messages: list[dict[str, str]], schema: dict[str, Any] | None) -> str:
        """See :class:`agents.human.Desk`.

        Raises:
            GraphInterrupt: there is no answer yet; the node is run again when there is.
        """
        return self._answer(
            {
                "question": messages[-1]["content"],
                "instructions": messages[0]["content"],
                "answer": "your words" if schema is None else schema["schema"],
            }
        )

    def recall(self, call: Call) -> None:
        """See :class:`agents.human.Desk`.

        Raises:
            AnsweredOtherwiseError: the person has answered once more, and otherwise.
        """
        if call.resolved_model != self.name:
            return
        # Nothing is given where a server that was killed had not kept the answer.
        with suppress(GraphInterrupt):
            given = self._answer(call.answer)
            if given != call.answer:
                raise AnsweredOtherwiseError(given)

    def _answer(self, question: Any) -> str:
        self._asked += 1
        if self._asked > len(self._given):
            self._given.append(_text(interrupt(question)))
        return self._given[self._asked - 1]


def _text(value: Any) -> str:
    """What was typed; an object where the answer has fields."""
    return value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def message(episode_id: str, turn: Turn) -> BaseMessage:
    """A turn as a chat shows it: the therapist on the one side, the patient on the other."""
    kind = HumanMessage if turn["speaker"] == "therapist" else AIMessage
    return kind(turn["text"], id=f"{episode_id}-{turn['idx']}", name=turn["speaker"])


def _served(name: str, node: Node, schema: type) -> Recorded:
    """A node as a server runs it: it may find itself in a fork, and a person may be asked."""
    inner = recorded(name, node)
    # The node itself is handed its slice and no more, as in the arena's own graph.
    wanted = frozenset(get_type_hints(schema))

    async def run(
        state: StudioState, runtime: Runtime[ArenaConfig], config: RunnableConfig
    ) -> StudioState:
        try:
            return await play(state, runtime, config)
        except StoreError as error:
            raise ServedStoreError(str(error)) from error

    async def play(
        state: StudioState, runtime: Runtime[ArenaConfig], config: RunnableConfig
    ) -> StudioState:
        session = await session_for(runtime.context)
        at = config["metadata"]["langgraph_step"]
        # The same when LangGraph runs the node again with an answer, and another in every fork.
        task = runtime.execution_info.task_id if runtime.execution_info else ""
        key = task
        desk = _Desk(task)
        token = human.desk.set(desk)
        try:
            opened = await _opened(state, session, name, at, key)
            if "lineage" in opened:
                desk.drop(await _answers(session, state["episode_id"], desk.name))
            while True:
                now = {**state, **opened}
                try:
                    update = await inner({key: now[key] for key in wanted & now.keys()}, runtime)
                    break
                except AnsweredOtherwiseError as other:
                    key = f"{task}/{other.answer}"
                    opened = await _opened(state, session, name, at, key, forked=True)
                    desk.again()
        finally:
            human.desk.reset(token)
        if name == "encode":
            _begun.pop(key, None)
        return _shown(name, state, opened, update, session, at)

    return run


def _shown(
    name: str,
    state: StudioState,
    opened: dict[str, Any],
    update: ArenaState,
    session: Session,
    at: int,
) -> StudioState:
    """A node's update with what Studio shows of it."""
    added: Any = {**opened, **update}
    if name == "encode":
        typed = _typed(state)
        # Of an episode before, nothing is left.
        added["messages"] = Overwrite([typed] if typed else [])
        added["lineage"] = lineage_of({}, session, at)
        return added  # type: ignore[no-any-return]
    episode_id = opened.get("episode_id", state["episode_id"])
    spoken = [message(episode_id, turn) for turn in update.get("turns", ())]
    if opened:
        # What was said before a branch is said in the branch too.
        before = [message(episode_id, turn) for turn in state.get("turns", ())]
        added["messages"] = Overwrite(before + spoken)
    elif spoken:
        added["messages"] = spoken
    return added  # type: ignore[no-any-return]


async def _opened(
    state: StudioState, session: Session, name: str, at: int, key: str, *, forked: bool = False
) -> dict[str, Any]:
    """What has to change in the state before the node runs: nothing, when it simply goes on."""
    if name == "encode":
        await asyncio.to_thread(check_seats, session.config)
    await asyncio.to_thread(lambda: session.ledger)
    if name == "encode":
        return await _begin(state, session, key)
    if not forked and await goes_on(state, state.get("lineage"), session, at):
        return {}
    return await open_branch(state, session, name, at, key)


async def _answers(session: Session, episode_id: str, by: str) -> list[str]:
    """What an episode was answered by one person in one task, in order."""
    rows = await session.store.fetch_async(
        "select answer from calls where episode_id = ? and resolved_model = ? order by rowid",
        (episode_id, by),
    )
    return [row["answer"] for row in rows]


_begun: dict[str, Claim] = {}
"""Episodes whose first node has not ended yet, because a person is asked in it, by task."""


async def _begin(state: StudioState, session: Session, key: str) -> dict[str, Any]:
    """Which episode a thread begins: a new one, or one of the store."""
    if state.get("episode"):
        claim, case_id, seed = await take_up(session, state["episode"])
        return {"claim": claim, "case_id": case_id, "seed": seed}
    given = dict(state)
    if (typed := _typed(state)) is not None:
        given["case_id"] = str(typed.content).strip()
    case, seed = await identify(given, session)  # type: ignore[arg-type]
    if key not in _begun:
        _begun[key] = await new_episode(case, seed, session)
    return {"claim": _begun[key], "case_id": case.id, "seed": seed}


def _typed(state: StudioState) -> BaseMessage | None:
    """What the person in Studio typed to begin this episode, unless they have named a case."""
    named = state.get("case_id")
    if named and named != state.get("case", {}).get("id"):
        return None
    messages = state.get("messages")
    last = messages[-1] if messages else None
    return None if last is None or str(last.id).startswith(_OURS) else last


def build() -> CompiledStateGraph[StudioState, ArenaConfig, StudioInput, StudioState]:
    """The compiled graph."""
    builder = StateGraph(
        StudioState, context_schema=ArenaConfig, input_schema=StudioInput, output_schema=StudioState
    )
    for name, (node, schema) in NODES.items():
        builder.add_node(name, _served(name, node, schema))
    add_edges(builder)
    return builder.compile(name="arena")


graph = build()
