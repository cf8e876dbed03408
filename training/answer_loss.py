"""The loss of answers on a CPU, without the head's work on prompts.

Why: an answer is a tenth of its row. On a GPU trl puts only the positions of answers through the
language model's head; elsewhere all of them, and with a small model and a large vocabulary that was
more than a third of the time of a step.
"""

from collections.abc import Mapping
from typing import Any


def answer_loss(model: Any, inputs: Mapping[str, Any], answer_tokens: Any | None) -> Any:
    """Negative log-likelihood of the answers of a batch, nats a token; a scalar tensor.

    Args:
        model: A causal language model that takes ``logits_to_keep`` as positions.
        inputs: ``input_ids``, ``attention_mask`` and ``labels``, each (rows, tokens); -100 in the
            labels for what is not in the loss.
        answer_tokens: What the sum is divided by: tokens of the answers of all batches of the step;
            those of this batch when it is None.
    """
    import torch

    rest = {name: value for name, value in inputs.items() if name != "labels"}
    targets = inputs["labels"][:, 1:]
    learned = targets != -100
    # Positions at which some row of the batch has an answer; rows of like length share most.
    columns = learned.any(dim=0).nonzero().squeeze(-1)
    logits = model(**rest, logits_to_keep=columns).logits.float()
    total = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), targets[:, columns].flatten(), ignore_index=-100, reduction="sum"
    )
    return total / (learned.sum() if answer_tokens is None else answer_tokens)


def answer_trainer() -> type[Any]:
    """The trainer of trl with this loss for one process on a CPU, and its own elsewhere."""
    from trl import SFTTrainer

    class AnswerTrainer(SFTTrainer):  # type: ignore[misc]  # trl is untyped.
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False,
            num_items_in_batch: Any | None = None,
        ) -> Any:  # fmt: skip
            # Of several processes trl weighs each one's part, which this does not.
            alone = self.args.use_cpu and self.args.world_size == 1 and not self.aux_loss_enabled
            if return_outputs or not alone:
                return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
            return answer_loss(model, inputs | {"use_cache": False}, num_items_in_batch)

    return AnswerTrainer
