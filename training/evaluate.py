"""Measure a model: question sets and played patients, with error bars: ``mentalarena evaluate``.

Why: an accuracy alone cannot be told from a constant answer, nor a difference from luck. Every item
is one stored row, so that a kill costs nothing, a better parser judges again without a model, and
two models are compared on the same items. What the figures mean: ``docs/evaluation.md``.

Run it: ``python -m training.evaluate --model constant --tasks all --data DIR``, or ``mentalarena
evaluate …``.
"""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import click
from rich.console import Console

from agents.registry import check_reachable
from graphs.options import option
from mentalarena.config import (
    DEFAULT_DB,
    RECIPES,
    ArenaConfig,
    Guidance,
    read_recipe,
)
from mentalarena.errors import ConfigurationError
from mentalarena.models import ModelSpec, server_url
from mentalarena.store import Store, open_store
from training import report, results, statistics
from training.candidates import Candidate, Speaker, candidate
from training.overlap import RUN, OverlapIndex, contaminated, texts_of
from training.question_run import ROWS, find_evaluation, rescore, run
from training.tasks.catalog import ARENA, Loaded, Split, load, named_tasks

Scoring = Literal["auto", "generation", "likelihood"]

_DEFAULTS = ArenaConfig()


class Asking(NamedTuple):
    """How question sets are put."""

    limit: int | None
    seed: int
    rotations: int
    scoring: Scoring
    base_url: str
    timeout: float
    concurrency: int

    def candidate(self, spec: str) -> Candidate:
        """The candidate of a spec, its server known to be there."""
        found = candidate(
            spec,
            self.scoring,
            base_url=self.base_url,
            timeout=self.timeout,
            concurrency=self.concurrency,
            seed=self.seed,
        )
        if isinstance(found, Speaker) and ModelSpec.parse(spec).provider == "openai":
            check_reachable(server_url(self.base_url), timeout=min(5.0, self.timeout))
        return found


@click.command("evaluate", context_settings={"max_content_width": 100})
@option(
    "--model",
    default=None,
    metavar="SPEC",
    help="What is evaluated: openai:NAME, huggingface:PATH[,adapter=PATH], local[:FILE.gguf]; "
    "constant, majority or chance; for the arena any seat spec.",
)
@option(
    "--tasks",
    default="",
    metavar="NAME,…",
    help="Question sets, suites (mmlu, bbh), all (what --data holds), or arena.",
)
@option("--data", default="", metavar="DIR", help="Folder with the sets' files.  [default: a hub]")
@option(
    "--split",
    default="test",
    show_default=True,
    type=click.Choice(["dev", "test"]),
    help="What to measure on; choose models on dev, report test once.",
)
@option("--limit", default=None, type=click.IntRange(1), help="A seeded sample of so many items.")
@option(
    "--against",
    default=None,
    metavar="EVALUATION|SPEC",
    help="Compare, item by item, with a stored evaluation or another model.",
)
@option(
    "--scoring",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "generation", "likelihood"]),
    help="What a model says, or which label it finds likeliest; auto: generation for openai:.",
)
@option(
    "--rotations",
    default=1,
    show_default=True,
    type=click.IntRange(1, 26),
    help="Orders of the options in which each item is put.",
)
@option(
    "--rescore",
    default=None,
    metavar="EVALUATION|all",
    help="Judge stored answers again; asks no model.",
)
@option(
    "--training-data",
    default="",
    metavar="PATH",
    help=f"File or folder to look for the items in: any {RUN} words in a row.",
)
@option(
    "--seat",
    default="therapist",
    show_default=True,
    type=click.Choice(["therapist", "patient"]),
    help="Arena: the seat under test.",
)
@option("--therapist", default="rules", show_default=True, metavar="SPEC", help="Arena: opponent.")
@option("--patient", default="rules", show_default=True, metavar="SPEC", help="Arena: opponent.")
@option("--manager", default="rules", show_default=True, metavar="SPEC", help="Arena: manager.")
@option(
    "--judge",
    default="rules",
    show_default=True,
    metavar="SPEC",
    help="Arena: who scores plans; never the model under test.",
)
@option(
    "--samples",
    default=4,
    show_default=True,
    type=click.IntRange(1, 10_000),
    help="Arena: episodes of each case.",
)
@option(
    "--cases", default="", metavar="FILE", help="Arena: case file instead of built-in patients."
)
@option(
    "--recipe",
    default="default",
    show_default=True,
    metavar=f"{'|'.join(RECIPES)}|FILE.toml",
    help="Arena: length of an episode.",
)
@option(
    "--guidance",
    default=_DEFAULTS.guidance,
    show_default=True,
    type=click.Choice(["none", "topic", "placebo", "oracle"]),
    help="Arena: what the therapist is told after a reroute.",
)
@option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 256),
    help="Arena: processes that play.",
)
@option(
    "--concurrency",
    default=8,
    show_default=True,
    type=click.IntRange(1, 4096),
    help="Requests in flight.",
)
@option(
    "--base-url",
    default="",
    metavar="URL",
    help="OpenAI-compatible server of openai: models.  [default: OPENAI_BASE_URL]",
)
@option(
    "--timeout",
    default=_DEFAULTS.timeout,
    show_default=True,
    type=click.FloatRange(0, 3600, min_open=True),
    help="Seconds after which a request is given up.",
)
@option("--seed", default=0, show_default=True, type=click.IntRange(0, 2**31 - 1), help="Seed.")
@option("--db", default=DEFAULT_DB, show_default=True, metavar="PATH", help="Path of the store.")
@option("--json", "as_json", is_flag=True, help="Print one JSON object at the end, nothing else.")
def evaluate(
    model: str | None,
    tasks: str,
    data: str,
    split: Split,
    limit: int | None,
    against: str | None,
    scoring: Scoring,
    rotations: int,
    rescore: str | None,
    training_data: str,
    seat: Literal["therapist", "patient"],
    therapist: str,
    patient: str,
    manager: str,
    judge: str,
    samples: int,
    cases: str,
    recipe: str,
    guidance: Guidance,
    workers: int,
    concurrency: int,
    base_url: str,
    timeout: float,
    seed: int,
    db: str,
    as_json: bool,
) -> int:
    """Evaluate a model on question sets, or a seat on held-out patients.

    The same command again asks what has no answer yet, and nothing else. Every flag has an
    environment variable: MENTALARENA_ and the flag's name in capitals.
    """
    asking = Asking(limit, seed, rotations, scoring, base_url, timeout, concurrency)
    if rescore is not None:
        return _told(_rescored(db, rescore), db, as_json)
    if model is None:
        raise click.UsageError("--model SPEC is missing: what is to be evaluated?")
    names = named_tasks([name.strip() for name in tasks.split(",") if name.strip()], data)
    if not names:
        raise click.UsageError(f"--tasks is missing: a question set, a suite, all or {ARENA}")
    found: list[dict[str, Any]] = []
    if questions := [name for name in names if name != ARENA]:
        loaded = [load(name, data, split) for name in questions]
        found += compared_questions(db, model, loaded, split, asking, against, training_data)
    if ARENA in names:
        from training.arena_evaluation import Arena

        config = ArenaConfig(
            patient=patient, therapist=therapist, manager=manager, judge=judge, guidance=guidance,
            seed=seed, base_url=base_url, timeout=timeout, db=db, cases=cases,
        ).with_recipe(read_recipe(recipe))  # fmt: skip
        arena = Arena(config, seat, split, samples, workers, concurrency)
        found.append(_arena(arena, model, against, None if as_json else Console(stderr=True)))
    return _told(found, db, as_json)


def _told(found: Sequence[dict[str, Any]], db: str, as_json: bool) -> int:
    """Print results; the exit code says whether something has no answer yet."""
    if as_json:
        click.echo(json.dumps({"db": db, "evaluations": found}, ensure_ascii=False, indent=1))
    else:
        report.show(found, Console(highlight=False))
    left = [one for one in found if one["status"] == "incomplete"]
    for one in left:
        failed = one["metrics"].get("failed", one["metrics"].get("outcomes", {}).get("failed"))
        click.echo(
            f"{one['task']}: {failed} without an answer; the same command tries them again",
            err=True,
        )
    return int(bool(left))


def _result(store: Store, evaluation_id: str) -> dict[str, Any]:
    (row,) = store.fetch("select * from evaluations where id = ?", (evaluation_id,))
    for column in ("config", "source", "metrics"):
        row[column] = None if row[column] is None else json.loads(row[column])
    return row


def _rescored(db: str, prefix: str) -> list[dict[str, Any]]:
    if not Path(db).is_file():
        raise ConfigurationError(f"--rescore: there is no store at {db}: name it with --db")
    with open_store(db) as store:
        return [_result(store, evaluation_id) for evaluation_id in rescore(store, prefix)]


# --- question sets -------------------------------------------------------------------------------


def compared_questions(
    db: str, model: str, loaded: Sequence[Loaded], split: Split, asking: Asking,
    against: str | None, training_data: str = "",
) -> list[dict[str, Any]]:  # fmt: skip
    """Evaluations of a model on question sets, each with its comparison where one is wanted."""
    # Whatever is wrong with it is better known before the first question than after the last.
    texts = list(texts_of(Path(training_data))) if training_data else []
    one = asking.candidate(model)
    two = asking.candidate(against) if against and not _is_stored(against) else None
    with open_store(db) as store:
        earlier = find_evaluation(store, against) if against and two is None else None
        if earlier is not None and [one.task.name for one in loaded] != [earlier["task"]]:
            raise ConfigurationError(
                f"--against {against} is of task {earlier['task']}: give --tasks {earlier['task']}"
            )
        ids, other_ids = asyncio.run(
            _asked(store, loaded, split, asking, [(one, model), *([(two, against)] if two else [])])
        )
        found = [_result(store, evaluation_id) for evaluation_id in ids]
        if earlier is not None:
            other_ids = [earlier["id"]]
        for result, other in zip(found, other_ids, strict=False):
            rows, others = store.fetch(ROWS, (result["id"],)), store.fetch(ROWS, (other,))
            compared = results.compare(rows, others)
            result["against"] = {"id": other, "model": _result(store, other)["model"], **compared}
        corrected = statistics.holm([one["against"]["p"] for one in found if "against" in one])
        for result, p in zip((one for one in found if "against" in one), corrected, strict=True):
            result["against"]["p_holm"] = p
        if training_data:
            _scan(store, found, loaded, training_data, texts)
        return found


def _is_stored(against: str) -> bool:
    return against.startswith("ev-")


async def _asked(
    store: Store, loaded: Sequence[Loaded], split: Split, asking: Asking,
    candidates: Sequence[tuple[Candidate, str | None]],
) -> tuple[list[str], list[str]]:  # fmt: skip
    """Ids of the evaluations of the first candidate, and of the second where there is one."""
    ids: list[list[str]] = [[], []]
    for place, (who, spec) in enumerate(candidates):
        for one in loaded:
            evaluation_id = await run(
                store, who, spec or "", one, split,
                limit=asking.limit, seed=asking.seed, rotations=asking.rotations,
            )  # fmt: skip
            ids[place].append(evaluation_id)
    return ids[0], ids[1]


def _scan(
    store: Store, found: Sequence[dict[str, Any]], loaded: Sequence[Loaded], training_data: str,
    texts: Sequence[str],
) -> None:  # fmt: skip
    """Add to each result how many of its items stand in a training set."""
    for result, one in zip(found, loaded, strict=True):
        rows = store.fetch(ROWS, (result["id"],))
        asked = {row["item_hash"] for row in rows}
        items = {item.hash: item.text() for item in one.items if item.hash in asked}
        index = OverlapIndex(items)
        hits = contaminated(index, texts)
        clean = [row for row in rows if row["item_hash"] not in hits]
        result["contamination"] = {
            "training_data": training_data,
            "run": RUN,
            "items": len(items),
            "too_short": len(index.too_short),
            "overlapping": len(hits),
            "clean_accuracy": results.summary(clean)["accuracy"] if clean else None,
        }


# --- the arena -----------------------------------------------------------------------------------


def _arena(arena: Any, model: str, against: str | None, console: Console | None) -> dict[str, Any]:
    from training import arena_measures
    from training.arena_evaluation import play, stored

    outcome = play(arena, model, console)
    others: tuple[str, list[dict[str, Any]]] | None = None
    if against and not _is_stored(against):
        second = play(arena, against, console)
        others = second.evaluation_id, second.rows
    with open_store(arena.config.db) as store:
        if against and others is None:
            earlier = find_evaluation(store, against)
            if earlier["task"] != ARENA:
                raise ConfigurationError(f"--against {against} is of task {earlier['task']}")
            others = earlier["id"], stored(arena, earlier, model)
        result = {**_result(store, outcome.evaluation_id), "seat": arena.seat}
        if others is not None:
            other = _result(store, others[0])
            compared = arena_measures.compare(outcome.rows, others[1])
            result["against"] = {"id": other["id"], "model": other["model"], **compared}
        return result


if __name__ == "__main__":
    from mentalarena.cli import run_command

    run_command(evaluate, "python -m training.evaluate")
