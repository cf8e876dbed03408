"""How much likelier a model finds the better answer of a pair than the worse one.

Why: the trainer's own figures are means over batches, of pairs that hang together. Here every pair
of held-out patients has its log-probabilities under the model as it was and as it became, so that
a change is paired and its interval knows of patients.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from training.statistics import mean, paired


class LogProbs(NamedTuple):
    """Log-probability of each answer of a pair given its prompt, nats, summed over tokens."""

    chosen: float
    rejected: float

    @property
    def margin(self) -> float:
        """Chosen less rejected."""
        return self.chosen - self.rejected


def log_probs(
    model: Any, rows: Sequence[Mapping[str, list[int]]], collator: Any, size: int,
    precision: Callable[[], AbstractContextManager[Any]],
) -> list[LogProbs]:  # fmt: skip
    """Log-probabilities of both answers of each pair.

    Args:
        model: With the adapter that is asked active.
        rows: Of :func:`training.masks.encode_pairs`.
        collator: That of the trainer, so that both see the same batches.
        size: Pairs at a time.
        precision: In which the model is asked: the trainer's autocast.
    """
    import torch

    device = next(model.parameters()).device
    found: list[LogProbs] = []
    model.eval()
    for start in range(0, len(rows), size):
        batch = {k: v.to(device) for k, v in collator(list(rows[start : start + size])).items()}
        with torch.no_grad(), precision():
            logits = model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).logits
        ids, answer = batch["input_ids"][:, 1:], batch["completion_mask"][:, 1:]
        for place in range(len(ids) // 2):
            chosen, rejected = (
                _summed(logits[one, :-1], ids[one], answer[one])
                for one in (place, place + len(ids) // 2)
            )
            found.append(LogProbs(chosen, rejected))
    return found


def _summed(logits: Any, ids: Any, answer: Any) -> float:
    """Over an answer's tokens only: the logits of a whole batch in float32 would fill memory."""
    import torch

    there = answer.bool()
    spread = torch.log_softmax(logits[there].float(), dim=-1)
    return float(spread.gather(-1, ids[there].unsqueeze(-1)).sum())


def figures(
    sources: Sequence[Mapping[str, Any]], before: Sequence[LogProbs], after: Sequence[LogProbs],
    beta: float,
) -> dict[str, Any]:  # fmt: skip
    """What became of held-out pairs, for JSON; intervals are clustered by patient.

    The reward of an answer is ``beta`` times the log-ratio of the model to its reference, which is
    the model as it was before: at the start all rewards are 0, so that the margin's change is the
    margin, and before it no pair is told apart.

    Args:
        sources: The pairs.
        before: Log-probabilities under the reference.
        after: The same under the trained model.
        beta: Of the recipe.
    """
    patients = [str(one["patient_id"]) for one in sources]
    old, new = [one.margin for one in before], [one.margin for one in after]
    rewards = [beta * (two - one) for one, two in zip(old, new, strict=True)]
    margin = paired(rewards, [0.0] * len(rewards), patients)
    tasks = sorted({str(one["task"]) for one in sources})
    return {
        "pairs": len(sources),
        "patients": len(set(patients)),
        "reward_margin": {"before": 0.0, "after": margin.difference.plain(), "p": margin.p},
        "reward_accuracy": mean([float(r > 0) for r in rewards], patients, share=True).plain(),
        "log_prob_margin": _both(old, new, patients, share=False),
        "log_prob_accuracy": _both(
            [float(one > 0) for one in old], [float(one > 0) for one in new], patients, share=True
        ),
        "log_prob_chosen": _both(
            [one.chosen for one in before], [one.chosen for one in after], patients, share=False
        ),
        "reward_margin_by_task": {
            task: mean(
                [r for r, one in zip(rewards, sources, strict=True) if one["task"] == task],
                [p for p, one in zip(patients, sources, strict=True) if one["task"] == task],
            ).plain()
            for task in tasks
        },
    }


def _both(
    before: Sequence[float], after: Sequence[float], patients: Sequence[str], *, share: bool
) -> dict[str, Any]:
    change = paired(after, before, patients, share=share)
    return {
        "before": mean(before, patients, share=share).plain(),
        "after": mean(after, patients, share=share).plain(),
        "change": {**change.difference.plain(), "p": change.p, "test": change.test},
    }
