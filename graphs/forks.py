"""Which episode a step belongs to when the state of every step can be taken up again.

Why: a thread of a LangGraph server may be forked at any past step, edited, given another
configuration, or left and found again after the server was killed. A step that simply goes on where
its episode stands belongs to it; any other begins a branch, an episode of its own in the store, so
that no row of an episode is ever replaced by another course of events.
"""

import asyncio
import json
from dataclasses import asdict
from typing import Any, NamedTuple, cast

from graphs import views
from graphs.ledger import keep_cases, standing
from graphs.records import route_row, rows_of
from graphs.session import Session
from graphs.state import ArenaState, Claim, Lineage
from mentalarena.case import Case
from mentalarena.config import ArenaConfig, changed_keys
from mentalarena.errors import ConfigurationError, StoreError
from mentalarena.journal import digest
from mentalarena.store import Change, Write
from mentalarena.trajectory import find_episode

NO_EPISODE = "this thread holds no episode yet: run it with an input, {} for one"


class Taken(NamedTuple):
    """A branch that is to be played."""

    claim: Claim
    seed: int
    resumed: bool


async def claim_branch(
    session: Session,
    case: Case,
    parent: str,
    parent_attempt: int,
    step: int,
    run_seed: int,
    key: str = "",
) -> Taken:
    """Take a branch of this parent, step and configuration: the one that waits, or a new one.

    Args:
        session: What plays it.
        case: The parent's case.
        parent: The episode it leaves.
        parent_attempt: Which attempt of it.
        step: Super-steps before this one are the parent's.
        run_seed: What its seed is drawn from, with the parent, the step and its ordinal there.
        key: Tells it from others there that may wait as well.
    """
    store, ledger = session.store, session.ledger
    # All branches of one parent, step and configuration are one run; the sample is the ordinal.
    parts = [parent, parent_attempt, step, ledger.config_hash]
    run_id = f"branch-{digest([*parts, key] if key else parts, 12)}"
    if not await store.fetch_async("select id from runs where id = ?", (run_id,)):
        await asyncio.to_thread(ledger.open_run, "branch", run_id)
    rows = await store.fetch_async(
        "select sample, status, seed from episodes where run_id = ? order by sample", (run_id,)
    )
    branch = {"parent": parent, "parent_attempt": parent_attempt, "branch_step": step}
    for row in rows:
        if row["status"] != "ok":
            claim = await ledger.claim(case, row["sample"], row["seed"], run_id, branch)
            return Taken(claim, row["seed"], True)
    ordinal = len(rows)
    if key:
        (others,) = await store.fetch_async(
            "select count(*) as n from episodes where parent = ? and branch_step = ?",
            (parent, step),
        )
        ordinal = others["n"]
    seed = int(digest([run_seed, parent, step, ordinal], 12), 16) % 2**31
    return Taken(await ledger.claim(case, len(rows), seed, run_id, branch), seed, False)


async def goes_on(state: ArenaState, lineage: Lineage | None, session: Session, at: int) -> bool:
    """Whether a step goes on with its episode; if so, the episode is under way again.

    Args:
        state: The whole state.
        lineage: What was noted when the episode began.
        session: What plays it now.
        at: LangGraph's count of steps.

    Raises:
        ConfigurationError: the thread holds no episode.
        StoreError: the store does not hold the thread's episode.
    """
    if lineage is None or "episode_id" not in state:
        raise ConfigurationError(NO_EPISODE)
    found = await standing(session.store, state["episode_id"])
    if found is None:
        raise StoreError(
            f"episode {state['episode_id']} of this thread is not in {session.store.path}: give "
            "the db that it was begun with"
        )
    now = lineage_of(state, session, at)
    if (lineage["offset"], lineage["config"]) != (now["offset"], now["config"]):
        return False
    if found.attempts != state["attempt"]:
        return False
    if found.status == "ok" or found.spoiled:
        return False
    if found.status != "running":
        again = {"status": "running", "finished_at": None}
        await session.store.write([Change("episodes", {"id": state["episode_id"]}, again)])
    return True


def lineage_of(state: ArenaState, session: Session, at: int) -> Lineage:
    """The lineage of a step that goes on."""
    return {
        "offset": at - len(state.get("path", ())),
        "config": session.ledger.config_hash,
        "context": asdict(session.config),
    }


def config_of(state: ArenaState) -> ArenaConfig:
    """The configuration that a thread's episode is played under, when no run tells it.

    Raises:
        ConfigurationError: the thread holds no episode.
    """
    lineage = state.get("lineage")
    if lineage is None:
        raise ConfigurationError(NO_EPISODE)
    return ArenaConfig(**lineage["context"])


async def open_branch(
    state: ArenaState, session: Session, node: str, at: int, key: str
) -> dict[str, Any]:
    """Begin a branch before this step: its row, and those of what came before, from the state.

    Args:
        state: The whole state, as it is before the step.
        session: What plays it.
        node: Which node the step is.
        at: LangGraph's count of steps.
        key: What this fork is known by when its first node runs again with a person's answer.

    Returns:
        The channels that make the state the branch's.
    """
    case = views.case_of(state["case"])
    await asyncio.to_thread(keep_cases, session.store, [case])
    parent, step = state["episode_id"], len(state["path"])
    taken = await claim_branch(
        session, case, parent, state["attempt"], step, session.config.seed, key
    )
    episode_id, attempt = taken.claim["episode_id"], taken.claim["attempt"]
    rows: list[Write] = list(rows_of(episode_id, attempt, state))
    routes = await session.store.fetch_async(
        "select * from routes where episode_id = ? and step <= ? order by step", (parent, step)
    )
    for route in routes:
        reason, target = route["reason"], route["target"]
        if route["step"] == step and target != node:
            reason, target = "set by hand", node
        rows.append(route_row(episode_id, route["step"], route["source"], target, reason))
    await session.store.write(rows)
    return {
        **cast(dict[str, Any], taken.claim),
        "seed": taken.seed,
        "lineage": lineage_of(state, session, at),
        "status": "running",
    }


class TakenUp(NamedTuple):
    """An interrupted episode of the store."""

    claim: Claim
    case_id: str
    seed: int


async def take_up(session: Session, prefix: str) -> TakenUp:
    """Go on with an episode of the store from its journal.

    Raises:
        ConfigurationError: it is complete, is another command's, or was played under another
            configuration.
        StoreError: there is none whose id begins so, or more than one.
    """
    store = session.store
    episode_id = await asyncio.to_thread(find_episode, store, prefix)
    (row,) = await store.fetch_async(
        "select e.case_id, e.seed, e.status, r.kind, r.config from episodes e "
        "join runs r on r.id = e.run_id where e.id = ?",
        (episode_id,),
    )
    if row["kind"] != "arena":
        raise ConfigurationError(
            f"episode {episode_id} is of a {row['kind']} run: the command that began it goes on "
            "with it"
        )
    if row["status"] == "ok":
        raise ConfigurationError(
            f"episode {episode_id} is complete: leave `episode` empty to play another one, or fork "
            "its thread"
        )
    if changed := sorted(changed_keys(json.loads(row["config"]), session.identity)):
        raise ConfigurationError(
            f"episode {episode_id} was begun with another {', '.join(changed)}: use the same values"
        )
    found = await standing(store, episode_id)
    assert found is not None, "it was found above"
    return TakenUp(await session.ledger.take_up(episode_id, found), row["case_id"], row["seed"])
