"""Many episodes: bounded, resumable, counted: ``mentalarena batch``.

Why: an experiment is hundreds or thousands of episodes against servers that throttle and fall over.
The same command again does what is missing and nothing else; what was paid for is never paid twice,
because an interrupted episode finds its answers in the journal.

Run it: ``python -m graphs.batch --samples 3 --concurrency 16 …``, or ``mentalarena batch``.
"""

import asyncio
import json
import time
from collections import Counter
from contextlib import closing
from typing import Any, Literal, NamedTuple

import click
from filelock import FileLock, Timeout
from rich.console import Console

from agents.registry import SEATS, SeatSpec, check_seats
from graphs import loop
from graphs.estimate import estimate
from graphs.executors import Executor, InProcess, WorkerProcess, Workers
from graphs.ledger import keep_cases
from graphs.options import arena_options, configuration, option
from graphs.scheduler import Batch, Job, plan, run_batch
from graphs.session import Session, open_session
from graphs.warm import warm
from mentalarena.budget import Meter, read_prices
from mentalarena.config import ArenaConfig, changed_keys
from mentalarena.encoder_process import encoder_process
from mentalarena.errors import ConfigurationError, StoreError
from mentalarena.hints import command_name
from mentalarena.models import require

DEFAULT_SEED = 0
"""A batch that is called again must mean the same episodes, so its seed is never drawn."""


def open_named_run(session: Session, name: str, kind: str = "batch") -> str:
    """The run of this name: opened now, or gone on with when its configuration is the same.

    Raises:
        ConfigurationError: the stored run was made under another configuration; names the keys.
    """
    found = session.store.fetch("select config from runs where id = ?", (name,))
    if not found:
        return session.ledger.open_run(kind, name)
    changed = sorted(changed_keys(json.loads(found[0]["config"]), session.identity))
    if changed:
        raise ConfigurationError(
            f"run {name!r} in {session.config.db} was made with other values of "
            f"{', '.join(changed)}: use the same values to go on with it, or another --run NAME "
            "for a new one"
        )
    return name


class Concurrency(click.ParamType[int | None]):
    """A number of requests in flight, or ``auto``, which becomes None."""

    name = "concurrency"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """Read the flag's value."""
        if value is None or value == "auto":
            return None
        return click.IntRange(1, 4096).convert(value, param, ctx)


class How(NamedTuple):
    """How a batch is played; changes nothing in its rows."""

    concurrency: int | None
    """Model requests in flight; None finds out."""
    workers: int
    executor: Literal["local", "ray"]
    address: str
    retries: int
    """Further attempts at an episode that failed."""


def check_how(how: How, config: ArenaConfig) -> None:
    """Check that these seats can be played that way.

    Raises:
        ConfigurationError: they cannot; names the flag.
    """
    if how.address and how.executor != "ray":
        raise ConfigurationError("--address needs --executor ray")
    if how.executor == "local" and how.workers == 1:
        return
    for role in SEATS:
        spec = getattr(config, role)
        if SeatSpec.parse(spec, role).kind in ("local", "huggingface", "human"):
            flag = "--executor ray" if how.executor == "ray" else f"--workers {how.workers}"
            raise ConfigurationError(
                f"{flag} cannot play {role} {spec!r}: each worker would need a copy of its own; "
                "leave the flag out, or put the model behind a server and use openai:NAME"
            )
    if how.executor == "ray":
        require("ray", "mentalarena[ray]")


def executor_for(how: How, work: Batch, session: Session, run_id: str) -> Executor:
    """What plays the episodes of ``work``."""
    if how.executor == "ray":
        from graphs.ray_workers import connector

        connect = connector(how.address, how.workers)
    elif how.workers == 1:
        return InProcess(session, run_id, how.concurrency, work.wake)
    else:
        connect = WorkerProcess.start
    return Workers(session, run_id, how.concurrency, work.wake, how.workers, connect)


@click.command("batch", context_settings={"max_content_width": 100})
@option("--case", "case_id", default=None, metavar="ID", help="Play this case only.")
@option(
    "--samples",
    default=1,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="Episodes per case.",
)
@option(
    "--episodes",
    default=None,
    type=click.IntRange(1, 1_000_000),
    help="Episodes in all, over as many samples as that takes.  [default: --samples of each case]",
)
@option(
    "--concurrency",
    default="8",
    show_default=True,
    type=Concurrency(),
    metavar="N|auto",
    help="Model requests in flight, over all workers; auto finds out what the server takes.",
)
@option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 256),
    help="Processes that play episodes (with ray: actors); 1 plays in this one.",
)
@option(
    "--executor",
    default="local",
    show_default=True,
    type=click.Choice(["local", "ray"]),
    help="Where the workers run: on this machine, or on a Ray cluster.",
)
@option(
    "--address",
    default="",
    metavar="ADDRESS",
    help="Ray cluster to use, such as auto or ray://HOST:10001.  [default: one on this machine]",
)
@option(
    "--retry-episodes",
    default=1,
    show_default=True,
    type=click.IntRange(0, 20),
    help="Further attempts at an episode that failed.",
)
@option(
    "--max-calls",
    default=None,
    type=click.IntRange(1),
    help="Paid model calls of the run, at most.",
)
@option(
    "--max-tokens",
    default=None,
    type=click.IntRange(1),
    help="Tokens in and out of the run, at most.",
)
@option(
    "--max-cost",
    default=None,
    type=click.FloatRange(0, min_open=True),
    help="Cost of the run in the currency of --prices, at most.",
)
@option(
    "--prices",
    default=None,
    metavar="FILE.toml",
    help="Prices per million tokens: [model], prompt = …, completion = ….",
)
@option(
    "--run",
    "name",
    default="batch",
    show_default=True,
    metavar="NAME",
    help="Name of the run; a store may hold several.",
)
@arena_options
@option("--dry-run", is_flag=True, help="Print the plan and play nothing.")
@option("--json", "as_json", is_flag=True, help="Print one JSON object at the end, nothing else.")
@option("--quiet", is_flag=True, help="Do not show progress.")
def batch(
    case_id: str | None,
    samples: int,
    episodes: int | None,
    concurrency: int | None,
    workers: int,
    executor: Literal["local", "ray"],
    address: str,
    retry_episodes: int,
    max_calls: int | None,
    max_tokens: int | None,
    max_cost: float | None,
    prices: str | None,
    name: str,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    **arena: Any,
) -> int:
    """Play many episodes; the same command again does what is missing.

    Every flag has an environment variable: MENTALARENA_ and the flag's name in capitals.
    """
    if arena["seed"] is None:
        arena["seed"] = DEFAULT_SEED
    config = configuration(**arena)
    if max_cost is not None and prices is None:
        raise ConfigurationError("--max-cost needs --prices: a cost is counted from prices")
    meter = Meter(max_calls, max_tokens, max_cost, read_prices(prices) if prices else {})
    how = How(concurrency, workers, executor, address, retry_episodes)
    check_how(how, config)
    check_seats(config)
    if not dry_run:
        # It takes seconds to load, beside all that comes before its first use.
        encoder_process().start()
    with closing(open_session(config)) as session:
        session.meter = meter
        jobs = plan(session, case_id, samples, episodes)
        if dry_run:
            return _dry_run(session, name, jobs, as_json)
        return _play(session, name, jobs, how, as_json, quiet)


def _count_before(session: Session, run_id: str, meter: Meter) -> None:
    """Budgets are those of the run: what earlier invocations paid counts."""
    (spent,) = session.store.fetch(
        "select count(*) as calls, coalesce(sum(coalesce(prompt_tokens, 0) + "
        "coalesce(completion_tokens, 0)), 0) as tokens, coalesce(sum(cost), 0) as cost "
        "from calls k join episodes e on e.id = k.episode_id where e.run_id = ?",
        (run_id,),
    )
    meter.calls, meter.tokens, meter.cost = spent["calls"], spent["tokens"], spent["cost"]


def _dry_run(session: Session, name: str, jobs: list[Job], as_json: bool) -> int:
    ids = {session.ledger.episode_id(job.case, job.sample, name) for job in jobs}
    rows = session.store.fetch("select id, status from episodes")
    states = Counter(row["status"] for row in rows if row["id"] in ids)
    result = {
        "run": name,
        "episodes": len(jobs),
        "complete": states["ok"],
        "to_play": len(jobs) - states["ok"],
        "to_resume": states["running"] + states["aborted"],
        "to_try_again": states["failed"],
    }
    needed = estimate(session, jobs, name)
    if as_json:
        click.echo(json.dumps({**result, **needed.plain()}, indent=1))
    else:
        for key, value in result.items():
            click.echo(f"{key.replace('_', ' ')}: {value}")
        click.echo("\n".join(needed.lines()))
    return 0


def _play(
    session: Session, name: str, jobs: list[Job], how: How, as_json: bool, quiet: bool
) -> int:
    lock = FileLock(f"{session.config.db}.batch.lock")
    try:
        with lock.acquire(timeout=0):
            return _play_locked(session, name, jobs, how, as_json, quiet)
    except Timeout:
        raise StoreError(
            f"another batch is writing to {session.config.db}: wait for it, or use another --db"
        ) from None


def _play_locked(
    session: Session, name: str, jobs: list[Job], how: How, as_json: bool, quiet: bool
) -> int:
    meter = session.meter
    run_id = open_named_run(session, name)
    _count_before(session, run_id, meter)
    before = meter.calls, meter.tokens, meter.cost
    keep_cases(session.store, list({job.case.id: job.case for job in jobs}.values()))
    work = Batch(session, run_id, jobs, how.retries)
    tally = work.tally
    started = time.monotonic()
    interrupted = False
    if work.missing():
        console = None if quiet or as_json else Console(highlight=False)
        if how.executor == "local" and how.workers == 1:
            warm(session)
        try:
            loop.run(run_batch(work, executor_for(how, work, session, run_id), meter, console))
        except asyncio.CancelledError:
            interrupted = True
    seconds = time.monotonic() - started
    left = tally.planned - tally.done_before - tally.ok
    if as_json:
        result = {
            "run": run_id,
            "db": session.config.db,
            "planned": tally.planned,
            "complete": tally.done_before + tally.ok,
            "played": tally.ok,
            "failed": tally.failed,
            "left": left,
            "stopped": tally.stopped or None,
            "calls": meter.calls - before[0],
            "tokens": meter.tokens - before[1],
            "cost": meter.cost - before[2],
            "run_calls": meter.calls,
            "run_tokens": meter.tokens,
            "run_cost": meter.cost,
            "seconds": round(seconds, 3),
        }
        click.echo(json.dumps(result, indent=1))
    elif not work.missing():
        click.echo(f"nothing to do: all {tally.planned} episodes of run {run_id!r} are complete")
    else:
        click.echo(f"{tally.line(meter)}; {seconds:.1f} s")
    if interrupted or tally.stopped == "interrupted":
        click.echo(f"interrupted with {left} episodes left; the same command goes on", err=True)
        return 130
    if left:
        why = f" ({tally.stopped})" if tally.stopped else ""
        again = "with a higher budget " if "is used up" in tally.stopped else ""
        click.echo(
            f"{left} of {tally.planned} episodes are left{why}; the same command {again}goes on; "
            f"`{command_name()} show` shows one",
            err=True,
        )
        return 1
    return 0


if __name__ == "__main__":
    from mentalarena.cli import run_command

    run_command(batch, "python -m graphs.batch")
