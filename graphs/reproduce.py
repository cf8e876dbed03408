"""Stored episodes made again and compared row by row: ``mentalarena replay``.

Why: that the same seed and the same answers give the same rows is a claim which anybody who holds a
store should be able to check. Each episode is run again from its journal (:mod:`graphs.replay`), so
no model is called: nobody sits behind the seats. What its nodes write goes into a scratch store
with the same schema, which is removed afterwards, and is compared with what is stored; times alone
may differ. The store itself is only read.

Run it: ``python -m graphs.reproduce [EPISODE ...] [--run NAME]``, or ``mentalarena replay``.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, get_args

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from agents.prompting import stored_texts
from agents.seats import FailureKind
from graphs.episode import episode_seed
from graphs.ledger import keep_cases
from graphs.options import option
from graphs.replay import Origin, ReplaySession, StoredCall, read_origin
from mentalarena.config import DEFAULT_DB
from mentalarena.errors import MentalArenaError, StoreError
from mentalarena.hints import command_name
from mentalarena.journal import Messages, digest
from mentalarena.store import Delete, Insert, Row, Store, open_store
from mentalarena.store_reader import StoreReader, open_readonly
from mentalarena.text import clean
from mentalarena.trajectory import find_episode, read_trajectory

KEYS: Mapping[str, tuple[str, ...]] = {
    "turns": ("idx",),
    "formulations": ("round", "component"),
    "deviations": ("round", "component"),
    "decisions": ("round",),
    "injections": ("round", "component"),
    "routes": ("step",),
    "flags": ("place", "idx", "n"),
    "diagnoses": ("idx",),
    "diagnosis_codes": ("idx", "n"),
    "plans": ("kind", "attempt"),
    "scores": ("kind", "attempt", "sample"),
    "errors": ("id",),
}
"""The tables that the nodes write, and what a row is known by within its episode."""
EPISODE = (
    "case_id", "case_hash", "seed", "guidance", "self_judged", "crisis", "status", "principle_id",
    "principle_scores",
)  # fmt: skip
"""Columns of ``episodes`` that are made again; the others say where the episode belongs."""
TIMES = frozenset({"created_at", "started_at", "finished_at", "latency_ms"})
"""All that may differ. Ids may not: an episode is made again under its own."""

_LISTED = 5
"""Differences of one episode that are told; the others are counted."""
_SHOWN = 60
"""Characters of a value that are shown."""

Table = Mapping[str, Mapping[str, Any]]
"""The compared columns of each row of one table, by the row's key."""


class Difference(NamedTuple):
    """One value that came out otherwise."""

    table: str
    row: str
    """The row's key within its episode, such as ``round 0, component emotions``."""
    column: str
    """Empty when the whole row is on one side only."""
    stored: str
    made: str


class Outcome(NamedTuple):
    """How one episode was made again."""

    episode_id: str
    why_not: str
    """Why it could not be; empty when it could."""
    differences: tuple[Difference, ...]
    """The first of them, in the order of the tables."""
    differing: int
    answers: int
    """Answers that were taken from the journal."""

    @property
    def identical(self) -> bool:
        """Whether every row is as it is stored."""
        return not self.why_not and not self.differing


class _Remake(ReplaySession):
    """Plays a stored episode into a scratch store, and keeps which answers it used."""

    def __init__(self, origin: Origin, store: StoreReader, scratch: Store) -> None:
        super().__init__(origin, store, self._use, into=scratch)
        self.used: dict[str, Mapping[str, Any]] = {}

    def _use(self, stored: StoredCall, prompt_hash: str, messages: Messages) -> None:
        call, text = stored.call, self.origin.texts[stored.template]
        made = {"prompt_hash": prompt_hash, "template_hash": digest(text)}
        self.used[call.id] = made
        # Rows that rest on an answer name it, so it has to be there as well.
        template = {"hash": made["template_hash"], "name": stored.template, "text": text}
        self.note(self.origin.episode_id, Row("templates", template))
        self.note(self.origin.episode_id, Row("calls", asdict(call) | made))


async def reproduce(store: StoreReader, scratch: Store, episode_id: str) -> Outcome:
    """Make a stored episode again in ``scratch``, compare, and empty ``scratch`` of it."""

    def not_made(why: str, answers: int = 0) -> Outcome:
        return Outcome(episode_id, why, (), 0, answers)

    stored = read_trajectory(store, episode_id)
    episode = stored["episode"]
    if episode["status"] != "ok":
        return not_made(f"it is {episode['status']}, and only a complete episode is replayed")
    try:
        origin = read_origin(store, episode_id)
        remake = _Remake(origin, store, scratch)
        await asyncio.to_thread(_open, remake, scratch, stored)
    except MentalArenaError as error:
        return not_made(str(error))
    with stored_texts(origin.texts):
        ended = await remake.replay(origin.attempts)
    made = read_trajectory(scratch, episode_id)
    await scratch.write(
        [
            Delete("episodes", {"id": episode_id}),
            *(Delete("calls", {"id": key}) for key in remake.used),
        ]
    )
    if ended is not None:
        why = str(ended) if isinstance(ended, MentalArenaError) else repr(ended)
        return not_made(f"step {remake.step} ({remake.node}): {why}", len(remake.used))
    found = list(_differences(_tables(stored), _tables(made)))
    found += _differences({"calls": _stored_calls(origin, remake.used)}, {"calls": remake.used})
    return Outcome(episode_id, "", tuple(found[:_LISTED]), len(found), len(remake.used))


def _open(remake: _Remake, scratch: Store, stored: Mapping[str, Any]) -> None:
    """The rows that an episode's own refer to, and the episode's as it was when it began. Blocks.

    Raises:
        MentalArenaError: the case or the seats are not what could have been played.
    """
    origin, config, case = remake.origin, remake.config, remake.origin.case
    before, run = stored["episode"], stored["run"]
    seed = before["seed"]
    if run["kind"] == "batch":
        seed = episode_seed(config.seed, case, before["sample"])
    opened = {
        "id": origin.episode_id,
        "run_id": run["id"],
        "case_id": case.id,
        "case_hash": case.hash,
        "sample": before["sample"],
        "seed": seed,
        "guidance": config.guidance,
        "attempts": origin.attempts,
        "self_judged": remake.self_judged,
    }
    keep_cases(scratch, [case])
    scratch.write_sync([Row("runs", run), Insert("episodes", opened)])


def _stored_calls(origin: Origin, used: Iterable[str]) -> Table:
    """Every stored answer of the attempt, and those of ancestors that were used."""
    attempt, used = (origin.episode_id, origin.attempts), set(used)
    return {
        key: {"prompt_hash": call.prompt_hash, "template_hash": call.template_hash}
        for key, (call, _) in origin.calls.items()
        if key in used or (call.episode_id, call.attempt) == attempt
    }


def _tables(trajectory: Mapping[str, Any]) -> dict[str, Table]:
    """What is compared of a trajectory."""
    episode, case = trajectory["episode"], trajectory["case"]
    last = {"errors": [row for row in trajectory["errors"] if _is_made(row, episode["attempts"])]}
    tables: dict[str, Table] = {
        "episodes": {episode["id"]: {column: episode[column] for column in EPISODE}},
        "cases": {case["id"]: case},
    }
    for table, key in KEYS.items():
        tables[table] = {
            ", ".join(f"{column} {row[column]}" for column in key): {
                column: value for column, value in row.items() if column not in TIMES
            }
            for row in last.get(table, trajectory[table])
        }
    return tables


def _is_made(error: Mapping[str, Any], attempt: int) -> bool:
    """Whether answers of the last attempt led to it: a server's failure is not made again."""
    return error["attempt"] == attempt and error["boundary"] in get_args(FailureKind)


def _differences(stored: Mapping[str, Table], made: Mapping[str, Table]) -> Iterator[Difference]:
    for table, before in stored.items():
        after = made[table]
        for key in dict.fromkeys((*before, *after)):
            if key not in after:
                yield Difference(table, key, "", "a row", "none")
            elif key not in before:
                yield Difference(table, key, "", "none", "a row")
            else:
                for column, value in before[key].items():
                    if (now := after[key][column]) != value:
                        yield Difference(table, key, column, *_clipped(value, now))


def _clipped(stored: object, made: object) -> tuple[str, str]:
    """Both values as JSON, from shortly before they part, cut where they are long."""
    texts = [json.dumps(value, ensure_ascii=False) for value in (stored, made)]
    same = next((i for i, (a, b) in enumerate(zip(*texts, strict=False)) if a != b), 0)
    start = max(0, same - _SHOWN // 3)
    shown = []
    for text in texts:
        piece = text[start : start + _SHOWN]
        shown.append(f"{'…' * (start > 0)}{piece}{'…' * (start + _SHOWN < len(text))}")
    return shown[0], shown[1]


def chosen(store: StoreReader, episodes: Sequence[str], run: str | None) -> list[str]:
    """Ids of the episodes that are named, else of all complete ones, of a run or of the store.

    Raises:
        StoreError: there is no such episode or run, or nothing is complete.
    """
    if episodes:
        return list(dict.fromkeys(find_episode(store, prefix) for prefix in episodes))
    if run is not None and not store.fetch("select 1 from runs where id = ?", (run,)):
        held = store.fetch("select id from runs order by created_at desc limit 6")
        names = ", ".join(row["id"] for row in held) or "none"
        raise StoreError(f"no run {run!r} in {store.path}; the last ones it holds: {names}")
    rows = store.fetch(
        "select id from episodes where status = 'ok' and run_id = coalesce(?, run_id) "
        "order by rowid",
        (run,),
    )
    if not rows:
        where = store.path if run is None else f"run {run!r} of {store.path}"
        raise StoreError(f"no episode of {where} is complete: there is nothing to replay")
    return [row["id"] for row in rows]


async def reproduce_all(
    store: StoreReader, ids: Sequence[str], done: Callable[[Outcome], None]
) -> list[Outcome]:
    """Make episodes again, one after the other: nothing is waited for that would pay for more."""
    outcomes = []
    with (
        TemporaryDirectory(prefix="mentalarena-") as folder,
        open_store(Path(folder) / "scratch.db") as scratch,
    ):
        for episode_id in ids:
            outcomes.append(await reproduce(store, scratch, episode_id))
            done(outcomes[-1])
    return outcomes


@click.command("replay", context_settings={"max_content_width": 100})
@click.argument("episodes", nargs=-1, metavar="[EPISODE]...")
@option(
    "--run",
    "run",
    default=None,
    metavar="NAME",
    help="All complete episodes of this run.  [default: of the store]",
)
@option("--db", default=DEFAULT_DB, show_default=True, metavar="PATH", help="Path of the store.")
@option("--json", "as_json", is_flag=True, help="Print one JSON object at the end, nothing else.")
def replay(episodes: tuple[str, ...], run: str | None, db: str, as_json: bool) -> int:
    """Make stored episodes again without any model call, and compare every row.

    The episodes whose ids begin with EPISODE, or all complete ones. Answers come from the journal;
    rows go into a scratch store, which is removed. The store is opened for reading only. Exit code
    1 when a row differs or an episode cannot be replayed.

    Every flag has an environment variable: MENTALARENA_ and the flag's name in capitals.
    """
    if episodes and run is not None:
        raise click.UsageError("name episodes or a --run, not both")
    console = Console(highlight=False)
    with open_readonly(db) as store:
        ids = chosen(store, episodes, run)
        columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), TextColumn("replayed"))
        watched = console.is_terminal and not as_json
        with Progress(*columns, console=console, transient=True, disable=not watched) as progress:
            task = progress.add_task("", total=len(ids))
            outcomes = asyncio.run(reproduce_all(store, ids, lambda _: progress.advance(task)))
    identical = sum(outcome.identical for outcome in outcomes)
    if as_json:
        click.echo(json.dumps(_plain(db, outcomes), ensure_ascii=False, indent=1))
    else:
        for text in _render(outcomes):
            console.print(text, soft_wrap=True)
        console.print(
            f"{identical} of {len(outcomes)} episodes replayed with identical rows, 0 model calls "
            f"({sum(outcome.answers for outcome in outcomes):,} answers from the journal)",
            soft_wrap=True,
        )
    if identical == len(outcomes):
        return 0
    first = next(outcome for outcome in outcomes if not outcome.identical)
    click.echo(
        f"`{command_name()} show {first.episode_id} --prompts --db {db}` shows whether its seats "
        "were asked the same",
        err=True,
    )
    return 1


def _plain(db: str, outcomes: Sequence[Outcome]) -> dict[str, Any]:
    return {
        "db": db,
        "episodes": len(outcomes),
        "identical": sum(outcome.identical for outcome in outcomes),
        "differ": sum(outcome.differing > 0 for outcome in outcomes),
        "not_replayed": sum(bool(outcome.why_not) for outcome in outcomes),
        "answers_from_journal": sum(outcome.answers for outcome in outcomes),
        "not_identical": [
            {
                "episode": outcome.episode_id,
                "not_replayed": outcome.why_not or None,
                "differing": outcome.differing,
                "differences": [difference._asdict() for difference in outcome.differences],
            }
            for outcome in outcomes
            if not outcome.identical
        ],
    }


def _render(outcomes: Sequence[Outcome]) -> Iterator[Text]:
    for outcome in outcomes:
        if outcome.why_not:
            yield _line(outcome.episode_id, f"not replayed: {outcome.why_not}")
        for table, row, column, stored, made in outcome.differences:
            where = f"{table}, {row}" + (f", {column}" if column else "")
            yield _line(outcome.episode_id, f"{where}: stored {stored}, made {made}")
        if (more := outcome.differing - len(outcome.differences)) > 0:
            yield _line(outcome.episode_id, f"and {more} more")


def _line(episode_id: str, what: str) -> Text:
    text = Text(f"{episode_id}  ", style="bold")
    return text.append(clean(" ".join(what.split())), style="not bold red")


if __name__ == "__main__":
    from mentalarena.cli import run_command

    run_command(replay, "python -m graphs.reproduce")
