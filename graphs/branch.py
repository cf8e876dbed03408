"""Play a stored episode again from some step on: ``mentalarena branch``.

Why: to ask what another therapist, another guidance or other luck would have made of the same
moment, and to go on with an episode whose prompts have changed since, without paying again for what
came before. A branch is an episode of its own. The super-steps before its branch point are the
parent's: the same answers, from the parent's journal and never copied, and the same draws of
rule-based seats. From the point on it has a seed of its own, made from the parent, the point and
how many branches it had there before.

Run it: ``python -m graphs.branch EPISODE [--step N] [--therapist SPEC] …``, or ``mentalarena
branch``.
"""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import click
from filelock import FileLock, Timeout
from rich.console import Console

from agents.registry import check_seats, is_rules
from agents.seats import Place, Seat
from graphs.console import LiveView
from graphs.episode import Observer, Played, ignore, play_episode
from graphs.forks import claim_branch
from graphs.options import ARENA_OPTIONS, option
from graphs.replay import (
    NotStoredError,
    Origin,
    ReplaySession,
    StoredCall,
    Stretch,
    placed,
    read_origin,
)
from graphs.session import Parts, Session, using
from graphs.state import Episode
from mentalarena.builtin_vectors import builtin_vectors
from mentalarena.config import ArenaConfig, read_recipe
from mentalarena.errors import ConfigurationError, ProviderError, ReplayError, StoreError
from mentalarena.hints import command_name
from mentalarena.journal import Call, Journal, Messages
from mentalarena.roster import read_library
from mentalarena.similarity import SentenceEncoder
from mentalarena.store import Store, open_store
from mentalarena.store_reader import StoreReader, open_readonly
from mentalarena.text import clean
from mentalarena.thresholds import Thresholds, read_thresholds
from mentalarena.trajectory import find_episode, read_trajectory

SEATS: tuple[Seat, ...] = ("patient", "therapist", "manager", "judge")


class _PointError(Exception):
    """The replay of the parent has come to the branch point."""


class _Preview(ReplaySession):
    """Runs the parent under the branch's configuration, up to where the two part."""

    def __init__(
        self,
        origin: Origin,
        store: StoreReader,
        config: ArenaConfig,
        thresholds: Thresholds,
        step: int | None,
    ) -> None:
        super().__init__(origin, store, self._compare, config, thresholds)
        self._until = step
        # With a given step, whoever answered before it has answered; without one, the branch
        # begins where somebody else would answer, or the same one would be drawn from otherwise.
        self._changed = set() if step is not None else changed_seats(origin.config, config)

    @staticmethod
    def _compare(stored: StoredCall, prompt_hash: str, messages: Messages) -> None:
        if stored.call.prompt_hash != prompt_hash:
            raise _PointError

    def place(self, state: Episode, node: str) -> Place:
        at = super().place(state, node)
        # Nobody is asked at the close: a branch there would be the parent again.
        if self._until is not None and at.step >= self._until and node != "close":
            raise _PointError
        return at

    def seat(self, role: Seat) -> Any:
        if role in self._changed:
            raise _PointError
        return super().seat(role)


def changed_seats(before: ArenaConfig, now: ArenaConfig) -> set[Seat]:
    """Seats that somebody else holds now, or a model that is sampled otherwise."""
    sampling = ("temperature", "answer_tokens")
    resampled = any(getattr(before, name) != getattr(now, name) for name in sampling)
    return {
        role
        for role in SEATS
        if getattr(before, role) != getattr(now, role)
        or (resampled and not is_rules(getattr(now, role)))
    }


class Point(NamedTuple):
    """Where a branch leaves its parent."""

    step: int
    asked: int | None
    """The step that was asked for, when the prompts do not match so far."""


async def find_point(
    store: StoreReader,
    origin: Origin,
    config: ArenaConfig,
    thresholds: Thresholds,
    step: int | None,
) -> Point:
    """The first super-step that is not the parent's, found without any model call.

    Raises:
        ConfigurationError: the step is beyond the parent's end, or nothing differs up to there.
    """
    preview = _Preview(origin, store, config, thresholds, step)
    error = await preview.replay(origin.attempts)
    reached = preview.step
    if isinstance(error, _PointError):
        return Point(reached, step if step is not None and reached < step else None)
    # The last step of a complete episode is its close, at which nobody is asked.
    last = reached - 1 if error is None else reached
    if step is not None:
        raise ConfigurationError(
            f"--step {step} is beyond the end of episode {origin.episode_id}: give one from 0 to "
            f"{last}"
        )
    if error is None:
        why = "every prompt is as it was" if origin.calls else "it holds no model call to compare"
        raise ConfigurationError(
            f"episode {origin.episode_id} would go the same way to its end ({why}): say where to "
            f"branch with --step N (0 to {last}), or change a seat, the guidance or the recipe"
        )
    if isinstance(error, NotStoredError) or origin.status != "ok":
        return Point(reached, None)
    raise error


class _Shared:
    """The journal of an ancestor: read, never added to."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    async def find(self, key: str, prompt_hash: str, messages: Messages = ()) -> Call:
        """The ancestor's answer.

        Raises:
            ReplayError: it is not there, or answered another prompt.
        """
        call = await self._journal.find(key, prompt_hash)
        if call is None:
            raise ReplayError(
                f"an answer that the branch shares with its parent is not stored (call {key})"
            )
        return call

    async def record(self, call: Call, template: tuple[str, str, str]) -> None:
        """Never called: every answer is found, or the episode ends."""
        raise AssertionError("nothing is recorded for an ancestor")


class BranchSession(Session):
    """A session in which the steps before the branch point are the parent's."""

    def __init__(self, config: ArenaConfig, parts: Parts, stretches: tuple[Stretch, ...]) -> None:
        super().__init__(config, parts)
        self._stretches = stretches

    def place(self, state: Episode, node: str) -> Place:
        """As in any session; before the branch point, where the parent stood."""
        at = super().place(state, node)
        there = placed(at, self._stretches)
        if there is at:
            return at
        return replace(there, journal=_Shared(self.journal(there.episode_id)))


class Branched(NamedTuple):
    """How a branch ended."""

    played: Played
    resumed: bool


async def play_branch(
    store: Store,
    origin: Origin,
    config: ArenaConfig,
    thresholds: Thresholds,
    step: int,
    view: LiveView | None = None,
) -> Branched:
    """Play a new branch, or go on with the one of this parent, step and configuration that waits.

    Args:
        store: The parent's store, open for writing.
        origin: The parent.
        config: What the branch plays.
        thresholds: What its decoder decides by.
        step: The branch point: super-steps before it are the parent's.
        view: Where to show it.
    """
    embedder = SentenceEncoder(store, builtin_vectors())
    embedder.preload()
    cases = {origin.case.id: origin.case}
    parts = Parts(store, embedder, thresholds, cases, origin.library)
    # A branch of a branch shares no more with the root than both agree on.
    above = tuple(one._replace(until=min(one.until, step)) for one in origin.stretches)
    parent = Stretch(origin.episode_id, origin.attempts, origin.seed, step)
    session = BranchSession(config, parts, (*above, parent))
    taken = await claim_branch(
        session, origin.case, origin.episode_id, origin.attempts, step, config.seed
    )
    claim = taken.claim
    observe: Observer = ignore
    if view is not None:
        view.opening(config, 1)
        view.episode(origin.case, claim["episode_id"], 1, 1)
        observe = view.update
    with using(session):
        played = await play_episode(session, origin.case, taken.seed, claim, observe)
    return Branched(played, taken.resumed)


def configured(parent: ArenaConfig, given: Mapping[str, Any]) -> ArenaConfig:
    """The parent's configuration with the flags that were given.

    Raises:
        ConfigurationError: a value cannot be used as given.
    """
    values = {name: value for name, value in given.items() if value is not None}
    recipe, model = values.pop("recipe", None), values.pop("model", None)
    if recipe is not None:
        parent = parent.with_recipe(read_recipe(recipe))
    if model is not None:
        parent = replace(parent, **dict.fromkeys(SEATS, model))
    return replace(parent, **values)


def _parents_options(command: Any) -> Any:
    """The flags of an episode; what is not given is the parent's, and so is the case."""
    for add in reversed(ARENA_OPTIONS):
        command = add(command)
    kept = []
    for parameter in command.__click_params__:
        if parameter.name == "cases":
            continue
        if parameter.name != "db":
            parameter.default = None
            parameter.show_default = False
            parameter.help = parameter.help.partition("  [default:")[0]
        if parameter.name == "seed":
            parameter.help = "Seed of the run; another one gives other branches."
        kept.append(parameter)
    command.__click_params__ = kept
    return command


@click.command("branch", context_settings={"max_content_width": 100})
@click.argument("episode")
@option(
    "--step",
    default=None,
    type=click.IntRange(0),
    help="Super-steps before this one are the parent's (counted as in its `routes`).  [default: as "
    "far as prompts, seats and sampling are the same]",
)
@_parents_options
@option("--json", "as_json", is_flag=True, help="Print one JSON object at the end, nothing else.")
@option("--quiet", is_flag=True, help="Do not show the dialogue.")
def branch(
    episode: str, step: int | None, db: str, as_json: bool, quiet: bool, **given: Any
) -> int:
    """Play the episode whose id begins with EPISODE again, from some step on.

    A flag that is not given keeps the value of the parent's run. The same command again plays
    another branch; one that was interrupted or failed is gone on with first.

    Every flag has an environment variable: MENTALARENA_ and the flag's name in capitals.
    """
    with open_readonly(db) as reader:
        origin = read_origin(reader, find_episode(reader, episode))
        config = configured(origin.config, given)
        thresholds = origin.thresholds
        if config.thresholds:
            thresholds = read_thresholds(config.thresholds, SentenceEncoder())
        if config.principles:
            origin = replace(origin, library=read_library(config.principles))
        point = asyncio.run(find_point(reader, origin, config, thresholds, step))
    check_seats(config)
    if point.asked is not None:
        click.echo(
            f"the prompts are the parent's up to step {point.step} only: branching there, and not "
            f"at step {point.asked}",
            err=True,
        )
    view = None if quiet or as_json else LiveView(Console(highlight=False), config)
    try:
        with FileLock(f"{db}.branch.lock").acquire(timeout=0), open_store(db) as store:
            playing = play_branch(store, origin, config, thresholds, point.step, view)
            branched = asyncio.run(playing)
            return _report(store, origin, config, point, branched, view, as_json, quiet)
    except Timeout:
        raise StoreError(
            f"another branch is being played in {db}: wait for it, or branch in a copy of the store"
        ) from None


def _report(
    store: Store,
    origin: Origin,
    config: ArenaConfig,
    point: Point,
    branched: Branched,
    view: LiveView | None,
    as_json: bool,
    quiet: bool,
) -> int:
    episode_id, error = branched.played
    if isinstance(error, ProviderError) and error.fatal:
        raise error
    (row,) = store.fetch(
        "select s.*, e.seed from episode_summary s join episodes e on e.id = s.episode_id "
        "where s.episode_id = ?",
        (episode_id,),
    )
    if view is not None and view.compares and error is None:
        view.ended(read_trajectory(store, episode_id))
    if as_json:
        result = {
            "db": config.db,
            "parent": origin.episode_id,
            "branch_step": point.step,
            "resumed": branched.resumed,
            "episode": row,
            "error": str(error) if error else None,
        }
        click.echo(json.dumps(result, ensure_ascii=False, indent=1))
    elif quiet:
        click.echo(f"{episode_id} {'failed' if error else 'ok'}")
    else:
        click.echo(
            f"\n{episode_id} is a branch of {origin.episode_id} from step {point.step}: "
            f"{row['calls']} calls of its own"
        )
    if error is not None:
        why = clean(" ".join(str(error).split()))[:300]
        click.echo(
            f"the branch failed: {why}; `{command_name()} show {episode_id} --db {config.db}` "
            "shows it, the same command goes on with it",
            err=True,
        )
        return 1
    return 0


if __name__ == "__main__":
    from mentalarena.cli import run_command

    run_command(branch, "python -m graphs.branch")
