"""What a loop does in an iteration, stage by stage; each is done once, however often it is killed.

Why: an iteration takes hours, and machines die. Every stage is made of parts that go on where they
were (batches, fine-tuning, evaluations) or that are made whole or not at all (patients, datasets,
merged files), and gives facts, with hashes, that the next one starts from.
"""

import asyncio
import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from filelock import FileLock, Timeout
from rich.console import Console

from agents.registry import check_seats
from agents.rules.diagnosis import ranked_labels
from graphs.batch import How, check_how, executor_for, open_named_run
from graphs.ledger import keep_cases
from graphs.scheduler import Batch, Job, run_batch
from graphs.session import open_session
from mentalarena.builtin_vectors import builtin_signatures
from mentalarena.case import Case, Patient
from mentalarena.coherence import Lives
from mentalarena.config import ArenaConfig
from mentalarena.encoder_process import encoder_process
from mentalarena.errors import ConfigurationError, ProviderError, StoreError
from mentalarena.models import AnswerMode, ModelSpec
from mentalarena.roster import (
    builtin_cases,
    builtin_patients,
    patient_lines,
    read_patient_file,
)
from mentalarena.similarity import SentenceEncoder
from mentalarena.store import Store
from mentalarena.synthesis import Neighborhood, synthesize
from mentalarena.text_files import write_whole
from training import lora
from training.apart import apart
from training.arena_evaluation import Arena
from training.arena_evaluation import play as evaluate_in_arena
from training.build import Wanted, build, stored
from training.card import MANIFEST
from training.filters import Limits
from training.recipe import LoraRecipe, read_recipe
from training.run_folder import ADAPTER
from training.selfplay.recipe import LoopRecipe, arena_recipe
from training.selfplay.serving import Served, serve

PATIENTS = "patients.jsonl"
OWN, TEACHER = "own", "teacher"


@dataclass(frozen=True, slots=True)
class Loop:
    """One loop: what it is made of, and where it is kept."""

    name: str
    """Of its run in the store."""
    recipe: LoopRecipe
    model: str
    """Seat spec that it began with."""
    seed: int
    db: str
    out: Path
    base_url: str = ""
    timeout: float = 120.0
    data: str = ""
    """Folder of question sets; empty for the recipe's."""

    @property
    def lora(self) -> LoraRecipe:
        """How the model is fine-tuned: the recipe's weights, or those that were named to play."""
        spec = ModelSpec.parse(self.model)
        # Rows are made for the way in which the model is asked, so that is what is trained.
        recipe = replace(read_recipe(self.recipe.lora), answers=spec.answers)
        if spec.provider == "huggingface":
            return replace(recipe, model=spec.name)
        if (spec.provider == "local") != (recipe.model == "local"):
            raise ConfigurationError(
                f"--model {self.model} and the fine-tuning recipe {self.recipe.lora}, which trains "
                f"{recipe.model}, are different weights: name the ones that are played"
            )
        return recipe

    @property
    def answers(self) -> AnswerMode:
        """How the model is asked."""
        return ModelSpec.parse(self.model).answers

    def folder(self, iteration: int) -> Path:
        """What an iteration makes outside of the store."""
        return self.out / f"iteration-{iteration}"

    def episodes_run(self, iteration: int, who: str) -> str:
        """Name of a run that an iteration plays."""
        return f"{self.name}-{iteration}-{who}"

    def config(self, iteration: int, therapist: str, model: str) -> ArenaConfig:
        """The configuration of episodes that data are made from."""
        recipe = self.recipe

        def seated(spec: str) -> str:
            return model if spec == "model" else spec

        patients = self.folder(iteration) / PATIENTS
        return ArenaConfig(
            therapist=therapist, patient=seated(recipe.patient), manager=seated(recipe.manager),
            judge=seated(recipe.judge), guidance=recipe.guidance, seed=self.seed + iteration,
            answer_tokens=recipe.answer_tokens, base_url=self.base_url, timeout=self.timeout,
            db=self.db, cases=str(patients),
        ).with_recipe(arena_recipe(recipe.arena))  # fmt: skip


# --- play ----------------------------------------------------------------------------------------


def make_patients(loop: Loop, iteration: int) -> Path:
    """The people of an iteration: the built-in ones of train and dev, and new ones of train.

    A new one is made of two built-in ones of train, and nearer to none that came before, in this
    iteration or an earlier one, than the nearest two built-in ones are to each other.
    """
    path = loop.folder(iteration) / PATIENTS
    if path.is_file():
        return path
    people = [one for one in builtin_patients() if one.split != "test"]
    made: tuple[Patient, ...] = ()
    if loop.recipe.new_patients:
        parents = tuple(one for one in people if one.split == "train")
        neighborhood = Neighborhood(
            tuple(builtin_cases().values()), SentenceEncoder(), builtin_signatures()
        )
        for earlier in range(1, iteration):
            before = read_patient_file(str(loop.folder(earlier) / PATIENTS)).patients
            for case in (case for one in before if one.synthetic for case in one.cases()):
                neighborhood.take(case)
        found = synthesize(
            parents, loop.recipe.new_patients, loop.seed * 1000 + iteration,
            Lives(builtin_patients()), neighborhood, ranked_labels,
        )  # fmt: skip
        made = found.patients
        if len(made) < loop.recipe.new_patients:
            raise ConfigurationError(
                f"new_patients = {loop.recipe.new_patients}: the built-in patients of train give "
                f"{len(made)} more that are unlike all others; ask for fewer"
            )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, patient_lines((*people, *made)))
    return path


def chosen_jobs(
    cases: Sequence[Case], episodes: int, dev_episodes: int, seed: int, iteration: int
) -> list[Job]:
    """Which episodes are played: train patients, half of them new where there are any, and dev.

    Everybody in turn, in an order that is drawn for the iteration.
    """
    draw = Random(f"{seed}/{iteration}/who is played")

    def taken(pool: list[Case], count: int) -> list[Job]:
        order = draw.sample(sorted(pool, key=lambda case: case.id), len(pool))
        return [Job(order[n % len(order)], n // len(order)) for n in range(count)] if order else []

    train = [case for case in cases if case.split == "train"]
    new = [case for case in train if case.synthetic]
    half = episodes // 2 if new else 0
    return [
        *taken([case for case in train if not case.synthetic], episodes - half),
        *taken(new, half),
        *taken([case for case in cases if case.split == "dev"], dev_episodes),
    ]


def play(loop: Loop, iteration: int, model: str, console: Console | None) -> dict[str, Any]:
    """Play the episodes of an iteration: the model's own, and its teacher's.

    Raises:
        ProviderError: the model could not be asked any more; the same command goes on.
        StoreError: a batch is writing to the same store.
    """
    make_patients(loop, iteration)
    recipe, found = loop.recipe, dict[str, Any]()
    parts = [(OWN, model, recipe.episodes, recipe.dev_episodes)]
    if recipe.teacher and recipe.teacher_episodes:
        parts.append((TEACHER, recipe.teacher, recipe.teacher_episodes, recipe.dev_episodes))
    for who, therapist, episodes, dev in parts:
        # A teacher teaches the model, so it faces what does not change with it.
        config = loop.config(iteration, therapist, model)
        found[who] = _played(loop, iteration, who, config, episodes, dev, console)
    return found


def _played(
    loop: Loop, iteration: int, who: str, config: ArenaConfig, episodes: int, dev: int,
    console: Console | None,
) -> dict[str, Any]:  # fmt: skip
    how = How(loop.recipe.concurrency, 1, "local", "", 1)
    check_how(how, config)
    check_seats(config)
    encoder_process().start()
    with closing(open_session(config)) as session:
        session.iteration = iteration
        jobs = chosen_jobs(list(session.cases.values()), episodes, dev, loop.seed, iteration)
        store = session.store
        assert isinstance(store, Store)
        run_id = open_named_run(session, loop.episodes_run(iteration, who), "selfplay")
        keep_cases(store, list({job.case.id: job.case for job in jobs}.values()))
        work = Batch(session, run_id, jobs, how.retries)
        if work.missing():
            executor = executor_for(how, work, session, run_id)
            try:
                with FileLock(f"{loop.db}.batch.lock").acquire(timeout=0):
                    asyncio.run(run_batch(work, executor, session.meter, console))
            except Timeout:
                raise StoreError(
                    f"a batch is writing to {loop.db}: wait for it, or use another --db"
                ) from None
            if work.tally.stopped == "interrupted":
                raise KeyboardInterrupt
            if work.tally.stopped:
                raise ProviderError(f"episodes of {run_id}: {work.tally.stopped}")
        (counts,) = store.fetch(
            "select count(*) as episodes, sum(status = 'ok') as ok, sum(status = 'failed') as "
            "failed from episodes where run_id = ?",
            (run_id,),
        )
    return {"run": run_id, "therapist": config.therapist, **counts}


# --- dataset -------------------------------------------------------------------------------------


def make_dataset(loop: Loop, iteration: int, store: Store) -> dict[str, Any]:
    """Rows of this iteration and of earlier ones, each with its weight."""
    recipe = loop.recipe
    shares: list[tuple[str, float]] = []
    for age, share in enumerate(recipe.weights):
        for who in (OWN, TEACHER):
            run_id = loop.episodes_run(iteration - age, who)
            if iteration - age >= 1 and share and _has_run(store, run_id):
                shares.append((run_id, share))
    wanted = Wanted(
        tasks=recipe.tasks,
        answers=loop.answers,
        from_run=tuple(run_id for run_id, _ in shares),
        shares=tuple(shares),
        limits=Limits(min_aligned=recipe.min_aligned, min_score=recipe.min_score),
    )
    made = build(store, loop.folder(iteration) / "dataset", wanted)
    store.write_sync(stored(made))
    facts = made.facts
    files = {name: one["sha256"] for name, one in facts["files"].items()}
    return {"id": facts["id"], "folder": str(made.folder), "rows": facts["rows"],
            "answered_by": facts["answered_by"], "funnel": facts["funnel"],
            "files": files}  # fmt: skip


def _has_run(store: Store, run_id: str) -> bool:
    return bool(store.fetch("select 1 from runs where id = ?", (run_id,)))


# --- train and serve -----------------------------------------------------------------------------


def train(loop: Loop, iteration: int) -> dict[str, Any]:
    """Fine-tune the weights that the loop began with on the iteration's rows.

    Always those: adapters on adapters drift, and what an iteration adds could not be told apart.
    """
    folder = loop.folder(iteration)
    job = lora.Job(
        folder / "dataset", folder / "tuned", loop.lora, loop.seed, loop.recipe.max_steps or None
    )
    # In a process of its own: it would keep what it took, from the server of the next stage too.
    record = apart(lora.train, job)
    kept = ("steps", "rows", "seconds", "best_dev_loss", "adapter_sha256")
    return {
        "adapter": str(folder / "tuned" / ADAPTER),
        "dev_loss": record["dev_loss"],
        **{name: record[name] for name in kept},
    }


def serve_candidate(loop: Loop, iteration: int) -> dict[str, Any]:
    """Make the trained model playable; its seat spec, and what shows that it is the trained one."""
    folder = loop.folder(iteration)
    served: Served = serve(
        loop.recipe.serve, loop.model, folder / "tuned", folder / "model.gguf",
        f"{loop.name}-{iteration}", loop.base_url, loop.timeout,
    )  # fmt: skip
    return served._asdict()


# --- evaluate ------------------------------------------------------------------------------------


def evaluate(
    loop: Loop, model: str, split: str, console: Console | None
) -> tuple[str, list[dict[str, Any]]]:
    """Play patients of a split with a model as therapist; the evaluation's id, and its episodes.

    The opponents are the rule-based ones, so that iterations are measured by the same yardstick
    whoever the model played with.
    """
    recipe = loop.recipe
    config = ArenaConfig(
        guidance="topic", seed=loop.seed, answer_tokens=recipe.answer_tokens,
        base_url=loop.base_url, timeout=loop.timeout, db=loop.db,
    ).with_recipe(arena_recipe(recipe.evaluation))  # fmt: skip
    assert split in ("dev", "test")
    arena = Arena(config, "therapist", split, recipe.samples, 1, recipe.concurrency)  # type: ignore[arg-type]
    outcome = evaluate_in_arena(arena, model, console)
    if outcome.stopped:
        raise ProviderError(f"evaluation of {model}: {outcome.stopped}")
    return outcome.evaluation_id, outcome.rows


def ask_questions(loop: Loop, models: Sequence[str]) -> list[dict[str, Any]]:
    """The first of two models on the recipe's question sets, compared with the second."""
    from training.evaluate import Asking, compared_questions
    from training.tasks.catalog import load, named_tasks

    recipe = loop.recipe
    if not recipe.questions:
        return []
    data = loop.data or recipe.data
    loaded = [load(name, data, "test") for name in named_tasks(list(recipe.questions), data)]
    asking = Asking(
        recipe.limit, loop.seed, 1, "auto", loop.base_url, loop.timeout, recipe.concurrency
    )
    return compared_questions(loop.db, models[0], loaded, "test", asking, models[1])


def dataset_facts(loop: Loop, iteration: int) -> dict[str, Any]:
    """The manifest of an iteration's dataset."""
    found: dict[str, Any] = json.loads(
        (loop.folder(iteration) / "dataset" / MANIFEST).read_text("utf-8")
    )
    return found
