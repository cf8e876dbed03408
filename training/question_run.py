"""One candidate on one question set: what is missing is asked, stored at once, judged, counted.

Why: an evaluation is known by how it asks and by what it asks. The same command after a kill asks
only what has no answer yet; a larger sample of the same set takes over the answers of a smaller
one; a better parser judges stored answers again without a model. Every question is one row.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mentalarena.errors import ConfigurationError
from mentalarena.journal import digest
from mentalarena.rows import Change, Row, Write
from mentalarena.store import Store, utc_now
from training.candidates import Candidate, Given
from training.results import summary
from training.tasks.catalog import Loaded, Split
from training.tasks.items import Item, Question, chosen, questions, set_hash
from training.tasks.parsers import parse
from training.tasks.prompts import prompts_hash

ITEM_COLUMNS = (
    "item_hash", "rotation", "copies", "cluster", "prompt", "labels", "options", "gold", "answer",
    "scores", "predicted", "outcome", "failure", "truncated", "resolved_model", "prompt_tokens",
    "completion_tokens", "latency_ms", "attempts",
)  # fmt: skip
_JSON = ("labels", "options", "scores")
ROWS = "select * from evaluation_items where evaluation_id = ? order by item_hash, rotation"


@dataclass(frozen=True)
class Evaluation:
    """A candidate, a question set, and the rows that say how it went."""

    id: str
    model: str
    task: str
    split: Split
    scoring: str
    config: dict[str, Any]
    config_hash: str
    items_hash: str
    source: dict[str, str]
    asked: tuple[Question, ...]

    def row(self) -> Row:
        """The row of the evaluation before its first answer."""
        return Row(
            "evaluations",
            {
                "id": self.id, "task": self.task, "split": self.split, "model": self.model,
                "scoring": self.scoring, "config": self.config, "config_hash": self.config_hash,
                "items_hash": self.items_hash, "source": self.source, "status": "running",
                "finished_at": None,
            },
        )  # fmt: skip


def evaluation(
    candidate: Candidate, model: str, loaded: Loaded, split: Split, items: Sequence[Item],
    rotations: int,
) -> Evaluation:  # fmt: skip
    """The evaluation that these choices make; nothing is asked or written yet."""
    config = {
        **candidate.identity(),
        "task": loaded.task.name,
        "scoring": candidate.scoring,
        "rotations": rotations,
        "prompts": "" if candidate.scoring == "baseline" else prompts_hash(),
        "style": loaded.task.style,
    }
    config_hash, items_hash = digest(config, 32), set_hash(items)
    return Evaluation(
        "ev-" + digest([config_hash, items_hash, split], 16),
        model,
        loaded.task.name,
        split,
        candidate.scoring,
        config,
        config_hash,
        items_hash,
        loaded.source,
        tuple(questions(items, rotations)),
    )


async def run(
    store: Store, candidate: Candidate, model: str, loaded: Loaded, split: Split,
    *, limit: int | None = None, seed: int = 0, rotations: int = 1,
) -> str:  # fmt: skip
    """Ask what is missing, store and count; returns the evaluation's id.

    Raises:
        ProviderError: a failure that would meet every further question too; what was answered is
            kept, and the same call goes on.
    """
    items = chosen(loaded.items, limit, seed)
    this = evaluation(candidate, model, loaded, split, items, rotations)
    await store.write([this.row()])
    await store.write(_taken_over(store, this))
    answered = {
        (row["item_hash"], row["rotation"])
        for row in store.fetch(
            "select item_hash, rotation from evaluation_items "
            "where evaluation_id = ? and outcome <> 'failed'",
            (this.id,),
        )
    }
    missing = [question for question in this.asked if question.key not in answered]

    async def keep(question: Question, given: Given) -> None:
        await store.write([Row("evaluation_items", _row(this.id, question, given))])

    task = loaded.task
    await candidate.answer(missing, this.asked, task.style, task.subject, keep)
    await store.write(finished(store, this.id))
    return this.id


def _taken_over(store: Store, this: Evaluation) -> list[Write]:
    """Answers of earlier evaluations that asked the same questions in the same way."""
    if this.scoring == "baseline":
        # What a baseline says hangs on the whole set.
        return []
    wanted = {question.key: question for question in this.asked}
    rows = store.fetch(
        "select i.* from evaluation_items i join evaluations e on e.id = i.evaluation_id "
        "where e.config_hash = ? and e.id <> ? and i.outcome <> 'failed' and not exists "
        "(select 1 from evaluation_items o where o.evaluation_id = ? "
        " and o.item_hash = i.item_hash and o.rotation = i.rotation)",
        (this.config_hash, this.id, this.id),
    )
    found: list[Write] = []
    for row in rows:
        question = wanted.pop((row["item_hash"], row["rotation"]), None)
        if question is not None:
            found.append(Row("evaluation_items", _copied(row, this.id, question.item.copies)))
    return found


def _copied(row: Mapping[str, Any], evaluation_id: str, copies: int) -> dict[str, Any]:
    values = {column: row[column] for column in ITEM_COLUMNS}
    for column in _JSON:
        if values[column] is not None:
            values[column] = json.loads(values[column])
    return {**values, "evaluation_id": evaluation_id, "copies": copies}


def _row(evaluation_id: str, question: Question, given: Given) -> dict[str, Any]:
    shown = question.shown
    return {
        "evaluation_id": evaluation_id,
        "item_hash": question.item.hash,
        "rotation": question.rotation,
        "copies": question.item.copies,
        "cluster": question.item.cluster,
        "prompt": given.prompt,
        "labels": list(shown.labels),
        "options": list(shown.options),
        "gold": shown.gold_label,
        "answer": given.answer,
        "scores": None if given.scores is None else dict(given.scores),
        "failure": given.failure,
        "truncated": given.truncated,
        "resolved_model": given.resolved_model,
        "prompt_tokens": given.prompt_tokens,
        "completion_tokens": given.completion_tokens,
        "latency_ms": given.latency_ms,
        "attempts": given.attempts,
        **judged(
            given.answer, given.scores, given.failure, shown.labels, shown.options,
            shown.gold_label,
        ),
    }  # fmt: skip


def judged(
    answer: str, scores: Mapping[str, float] | None, failure: str | None, labels: Sequence[str],
    options: Sequence[str], gold: str,
) -> dict[str, Any]:  # fmt: skip
    """What an answer is worth: ``predicted`` and ``outcome``. The one place where it is decided."""
    if failure is not None:
        return {"predicted": None, "outcome": "failed"}
    if scores is not None:
        best = max(scores.values())
        likeliest = [label for label in labels if scores[label] == best]
        # Labels that are equally likely are no answer.
        label, trouble = (likeliest[0], None) if len(likeliest) == 1 else (None, "unparsable")
    else:
        label, trouble = parse(answer, labels, options)
    if label is None:
        return {"predicted": None, "outcome": trouble}
    return {"predicted": label, "outcome": "right" if label == gold else "wrong"}


def finished(store: Store, evaluation_id: str) -> list[Write]:
    """The writes that count an evaluation's rows and close it."""
    rows = store.fetch(ROWS, (evaluation_id,))
    left = any(row["outcome"] == "failed" for row in rows)
    return [
        Change(
            "evaluations",
            {"id": evaluation_id},
            {
                "status": "incomplete" if left else "ok",
                "metrics": summary(rows),
                "finished_at": utc_now(),
            },
        )
    ]


def rescore(store: Store, prefix: str) -> list[str]:
    """Judge the stored answers of evaluations again, with the parsers of today; asks no model.

    Args:
        store: Where they are.
        prefix: How the id of one begins, or ``all``.

    Returns:
        The ids.

    Raises:
        ConfigurationError: there is none.
    """
    start = "" if prefix == "all" else prefix
    ids = [
        row["id"]
        for row in store.fetch(
            "select id from evaluations where substr(id, 1, ?) = ? and scoring <> 'arena' "
            "order by created_at, id",
            (len(start), start),
        )
    ]
    if not ids:
        raise ConfigurationError(f"--rescore {prefix}: {store.path} holds no such evaluation")
    for evaluation_id in ids:
        changes: list[Write] = []
        for row in store.fetch(ROWS, (evaluation_id,)):
            scores = None if row["scores"] is None else json.loads(row["scores"])
            found = judged(
                row["answer"], scores, row["failure"], json.loads(row["labels"]),
                json.loads(row["options"]), row["gold"],
            )  # fmt: skip
            if any(found[name] != row[name] for name in found):
                key = {name: row[name] for name in ("evaluation_id", "item_hash", "rotation")}
                changes.append(Change("evaluation_items", key, found))
        store.write_sync(changes)
        store.write_sync(finished(store, evaluation_id))
    return ids


def find_evaluation(store: Store, prefix: str) -> dict[str, Any]:
    """The one stored evaluation whose id begins with ``prefix``.

    Raises:
        ConfigurationError: there is none, or more than one.
    """
    rows = store.fetch(
        "select * from evaluations where substr(id, 1, ?) = ?", (len(prefix), prefix)
    )
    if len(rows) != 1:
        what = "no evaluation" if not rows else "several evaluations"
        raise ConfigurationError(f"{store.path} holds {what} whose id begins with {prefix!r}")
    return rows[0]
