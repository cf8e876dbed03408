"""Play episodes one after the other and watch them: ``mentalarena run``.

Why: the main path of the project, from nothing configured to a stored trajectory, in one command.

Run it: ``python -m graphs.arena``, or ``mentalarena run``.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from random import Random
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from agents.registry import check_seats
from graphs.console import LiveView
from graphs.episode import Played, episode_seed, play_episode
from graphs.ledger import keep_cases
from graphs.options import arena_options, configuration, option
from graphs.session import Session, open_session
from mentalarena.case import Case
from mentalarena.errors import ProviderError
from mentalarena.hints import command_name, with_db
from mentalarena.text import clean
from mentalarena.trajectory import read_trajectory


def choose_cases(session: Session, case_id: str | None, episodes: int) -> list[Case]:
    """The cases to play: the one asked for, or a seeded shuffle of all, again and again."""
    if case_id:
        return [session.find_case(case_id)] * episodes
    pool = sorted(session.cases.values(), key=lambda case: case.id)
    Random(f"{session.config.seed}/cases").shuffle(pool)
    return [pool[i % len(pool)] for i in range(episodes)]


async def play(session: Session, cases: list[Case], view: LiveView | None) -> list[Played]:
    """Play ``cases`` in order under one run.

    Raises:
        ProviderError: a failure that would meet every further episode too.
    """
    session.embedder.preload()
    run_id = await asyncio.to_thread(session.ledger.open_run)
    outcomes: list[Played] = []

    def observe(node: str, update: Mapping[str, Any]) -> None:
        if view is not None:
            view.update(node, update)

    played: Counter[str] = Counter()
    for number, case in enumerate(cases, start=1):
        seed = episode_seed(session.config.seed, case, played[case.id])
        played[case.id] += 1
        episode_id = await asyncio.to_thread(session.ledger.open_episode, case, seed, run_id)
        if view is not None:
            view.episode(case, episode_id, number, len(cases))
        outcome = await play_episode(
            session, case, seed, {"episode_id": episode_id, "attempt": 1}, observe
        )
        outcomes.append(outcome)
        if isinstance(outcome.error, ProviderError) and outcome.error.fatal:
            raise outcome.error
        if view is None:
            continue
        if outcome.error is not None:
            view.failed(outcome.error)
        elif view.compares:
            view.ended(await asyncio.to_thread(read_trajectory, session.store, episode_id))
    return outcomes


def _summary(session: Session, outcomes: list[Played]) -> list[dict[str, Any]]:
    rows = []
    for outcome in outcomes:
        found = session.store.fetch(
            "select * from episode_summary where episode_id = ?", (outcome.episode_id,)
        )
        rows += [{**row, "error": str(outcome.error) if outcome.error else None} for row in found]
    return rows


def _next_steps(session: Session, outcomes: list[Played], console: Console) -> None:
    command = command_name()
    db = with_db(session.config.db)
    console.print()
    console.print(Text("next", style="bold"))
    last = outcomes[-1].episode_id
    steps = [
        (f"{command} show {last}{db}", "this episode again: transcript, verdicts, reroutes"),
        (f"{command} show {last}{db} --json", "everything stored about it"),
        (f"{command} view{db}", "all of it in a browser"),
        (f"{command} run --episodes 5{db}", "five other patients"),
        (f"{command} run --model local", "the bundled language model on every seat"),
        (f"{command} run --model openai:NAME --base-url URL", "any OpenAI-compatible server"),
        (f"{command} doctor", "what this machine has"),
    ]
    width = max(len(step) for step, _ in steps)
    for step, what in steps:
        console.print(
            Text(f"  {step.ljust(width)}  "), Text(what, style="dim"), sep="", soft_wrap=True
        )


@click.command("run", context_settings={"max_content_width": 100})
@option(
    "--case",
    "case_id",
    default=None,
    metavar="ID",
    help="Play this case; a seeded choice when not given.",
)
@option(
    "--episodes",
    default=1,
    type=click.IntRange(1, 100_000),
    show_default=True,
    help="How many episodes.",
)
@arena_options
@option("--json", "as_json", is_flag=True, help="Print one JSON object at the end, nothing else.")
@option("--quiet", is_flag=True, help="Do not show the dialogue.")
def run(case_id: str | None, episodes: int, as_json: bool, quiet: bool, **arena: Any) -> int:
    """Play episodes, one after the other, and watch them.

    Every flag has an environment variable: MENTALARENA_ and the flag's name in capitals.
    """
    config = configuration(**arena)
    check_seats(config)
    console = Console(highlight=False)
    with closing(open_session(config)) as session:
        chosen = choose_cases(session, case_id, episodes)
        view = None if quiet or as_json else LiveView(console, config)
        # A case that cannot be kept is better known before the first episode than after the last.
        keep_cases(session.store, list({case.id: case for case in chosen}.values()))
        if view is not None:
            view.opening(config, episodes)
        outcomes = asyncio.run(play(session, chosen, view))
        failed = [outcome for outcome in outcomes if outcome.error is not None]
        if as_json:
            rows = _summary(session, outcomes)
            result = {"db": config.db, "seed": config.seed, "failed": len(failed), "episodes": rows}
            click.echo(json.dumps(result, ensure_ascii=False, indent=1))
        elif quiet:
            for outcome in outcomes:
                click.echo(f"{outcome.episode_id} {'failed' if outcome.error else 'ok'}")
        else:
            _next_steps(session, outcomes, console)
    if failed:
        again = f"`{command_name()} show {failed[0].episode_id} --db {config.db}` says why"
        why = clean(" ".join(str(failed[0].error).split()))[:300]
        click.echo(f"{len(failed)} of {len(outcomes)} episodes failed: {why}; {again}", err=True)
        return 1
    return 0
