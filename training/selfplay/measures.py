"""What an iteration's data are like: yield, repetition, novelty, labels, safety, leak, perplexity.

Why: self-play goes bad in its data before it goes bad in its model. Rows become copies of earlier
rows, everybody gets the same diagnosis, dialogues drift into what must not be taught. Each figure
here is taken from the episodes of *this* iteration, however many earlier rows are mixed in.
"""

import math
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any, NamedTuple

import numpy as np

from mentalarena.safety import is_crisis
from mentalarena.similarity import Embedder
from mentalarena.store_api import ReadableStore
from training.build import Wanted, candidates
from training.examples import Example, completion
from training.export import read_jsonl
from training.filters import Limits, Step, entropy, filters, gist, run_filters
from training.selfplay.stages import OWN, TEACHER, Loop

SAMPLE = 200
"""Rows whose distances are taken, of each side."""

_EPISODES = """
select count(*) as episodes,
  sum(exists (select 1 from exclusions x where x.episode_id = e.id and x.reason not like 'crisis%'))
    as flagged
from episodes e where e.status = 'ok' and e.run_id in (select value from json_each(?))
"""
_LEAK = """
select avg(d.leak) as leak, count(d.leak) as n from decisions d join episodes e
on e.id = d.episode_id where e.run_id in (select value from json_each(?))
"""

_DIAGNOSES = """
select d.code, json_extract(c.record, '$.reference[0].code') as held
from diagnoses d join episodes e on e.id = d.episode_id join cases c on c.id = e.case_id
where d.chosen and e.status = 'ok' and e.run_id in (select value from json_each(?))
order by e.id
"""


class Filtered(NamedTuple):
    """The rows of one iteration alone, less what the filters take."""

    kept: list[Example]
    funnel: list[Step]


def filtered(loop: Loop, iteration: int, store: ReadableStore) -> Filtered:
    """What the episodes of one iteration give, before rows are mixed."""
    recipe = loop.recipe
    names = [loop.episodes_run(iteration, who) for who in (OWN, TEACHER)]
    known = {row["id"] for row in store.fetch("select id from runs")}
    limits = Limits(min_aligned=recipe.min_aligned, min_score=recipe.min_score)
    wanted = Wanted(
        tasks=recipe.tasks, answers=loop.answers, limits=limits,
        from_run=tuple(name for name in names if name in known),
    )  # fmt: skip
    return Filtered(*run_filters(candidates(store, wanted), filters(limits, loop.answers, None)))


def data_measures(
    loop: Loop, iteration: int, store: ReadableStore, embedder: Embedder
) -> dict[str, Any]:
    """Everything that the gates ask of the data of an iteration; None for what cannot be told."""
    now = filtered(loop, iteration, store)
    before = [
        example
        for earlier in range(1, iteration)
        for example in filtered(loop, earlier, store).kept
    ]
    runs = _json([loop.episodes_run(iteration, who) for who in (OWN, TEACHER)])
    (played,) = store.fetch(_EPISODES, (runs,))
    (leak,) = store.fetch(_LEAK, (runs,))
    steps = {step.filter: step for step in now.funnel}
    repeated = steps["exact duplicate"].dropped + steps["near duplicate"].dropped
    good = steps["exact duplicate"].before
    distances = _Distances(embedder, loop.seed)
    texts = [gist(example, loop.answers) for example in now.kept]
    earlier_texts = [gist(example, loop.answers) for example in before]
    return {
        "rows": len(read_jsonl(loop.folder(iteration) / "dataset" / "train.jsonl")),
        "kept": len(now.kept),
        "kept_own": sum(_own(loop, iteration, example) for example in now.kept),
        "funnel_yield": _share(len(now.kept), steps["split"].left),
        "duplicates": _share(repeated, good),
        "novelty": distances.novelty(texts, earlier_texts),
        "diversity": distances.within(texts),
        **_labels(store, runs),
        "safety": _share(played["flagged"] or 0, played["episodes"]),
        "crisis": _share(sum(map(_in_crisis(loop), now.kept)), len(now.kept)),
        "leak": leak["leak"] if leak["n"] else 0.0,
        "episodes": played["episodes"],
    }


def _json(values: Sequence[str]) -> str:
    return "[" + ",".join(f'"{value}"' for value in values) + "]"


def _share(part: float, whole: float) -> float | None:
    return round(part / whole, 6) if whole else None


def _own(loop: Loop, iteration: int, example: Example) -> bool:
    played = example.trajectory
    return played is not None and played.run.id == loop.episodes_run(iteration, OWN)


def _labels(store: ReadableStore, runs: str) -> dict[str, Any]:
    """Entropy of the confirmed diagnoses beside that of the same patients' records, bits.

    Of all episodes that ended well, whether diagnoses are taught or not: a model that says one
    thing to everybody shows it here first.
    """
    found = store.fetch(_DIAGNOSES, (runs,))
    given = [row["code"] or "none" for row in found]
    bits, possible = entropy(given), entropy([row["held"] or "none" for row in found])
    return {
        "label_entropy": round(bits / possible, 6) if possible > 0 else None,
        "label_bits": round(bits, 4) if given else None,
        "labels": dict(Counter(given).most_common(12)),
    }


def _in_crisis(loop: Loop) -> Any:
    """Whether a row speaks of a crisis: in what the patient had said, or in its answer.

    The filter trusts what was stored when the episode was played; here the words are read again.
    """
    seen: dict[str, bool] = {}

    def found(example: Example) -> bool:
        played = example.trajectory
        if played is not None and played.id not in seen:
            seen[played.id] = any(
                is_crisis(turn["text"]) for turn in played.turns if turn["speaker"] == "patient"
            )
        said = example.task != "therapist_turn" and is_crisis(
            completion(example.answer, loop.answers)
        )
        return said or (played is not None and seen[played.id])

    return found


class _Distances:
    """Distances of texts to their nearest others, 1 minus the cosine; a seeded sample of many."""

    def __init__(self, embedder: Embedder, seed: int) -> None:
        self._embedder, self._seed = embedder, seed

    def _vectors(self, texts: Sequence[str]) -> Any:
        chosen = list(dict.fromkeys(texts))
        if len(chosen) > SAMPLE:
            chosen = Random(f"{self._seed}/distances").sample(chosen, SAMPLE)
        return self._embedder.vectors(chosen)

    def within(self, texts: Sequence[str]) -> float | None:
        """Median distance of each text to the nearest other one."""
        vectors = self._vectors(texts)
        if len(vectors) < 2:
            return None
        likeness = vectors @ vectors.T
        np.fill_diagonal(likeness, -1.0)
        return round(float(np.median(1 - likeness.max(axis=1))), 6)

    def novelty(self, texts: Sequence[str], earlier: Sequence[str]) -> float | None:
        """Median distance to the nearest earlier text, in units of that among earlier ones."""
        among = self.within(earlier)
        now = self._vectors(texts)
        if among is None or not len(now):
            return None
        nearest = (now @ self._vectors(earlier).T).max(axis=1)
        return round(float(np.median(1 - nearest)) / max(among, 1e-6), 6)


def perplexity(loop: Loop, iteration: int) -> float | None:
    """How surprising the taught answers are to the model that the loop began with.

    Of a seeded sample of rows, spread over the tasks; exp of the mean loss of a token. It falls
    where a model is taught what it would have said anyway.
    """
    rows = read_jsonl(loop.folder(iteration) / "dataset" / "train.jsonl")
    if not rows or not loop.recipe.perplexity_rows:
        return None
    import torch

    from training.answer_loss import answer_loss
    from training.base_model import load_model, load_tokenizer, model_path
    from training.masks import IGNORED, encode_rows, spread

    path = model_path(loop.lora)
    chosen = spread(rows, loop.recipe.perplexity_rows, loop.seed)
    tokenizer = load_tokenizer(path)
    encoded = encode_rows(tokenizer, chosen, loop.lora.max_length).rows
    model = load_model(path, loop.lora).eval()
    lost, tokens = 0.0, 0
    with torch.no_grad():
        for one in encoded:
            batch = {
                name: torch.tensor([one[name]], device=model.device)
                for name in ("input_ids", "labels")
            }
            learned = int((batch["labels"][:, 1:] != IGNORED).sum())
            lost += float(answer_loss(model, batch, None)) * learned
            tokens += learned
    return round(math.exp(lost / tokens), 4) if tokens else None
