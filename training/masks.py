"""From rows to token ids with labels: the answer is learned, its end is, the prompt is not.

Why: a wrong mask trains without complaint. An end token left out of the loss gives a model that
never stops; a mask that is empty after truncation gives steps on nothing; a prompt in the loss
teaches the questions. So the ids and labels are made here, in one place, checked, and handed to the
trainer as they are.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mentalarena.errors import ConfigurationError

IGNORED = -100
"""The label of a token that is not learned."""


@dataclass(slots=True)
class Encoded:
    """Rows as a trainer takes them."""

    rows: list[dict[str, list[int]]] = field(default_factory=list)
    cut: int = 0
    """Rows whose prompt lost its beginning."""
    too_long: list[str] = field(default_factory=list)
    """Ids of rows whose answer does not fit; they are left out."""


def encode_rows(
    tokenizer: Any, rows: Sequence[Mapping[str, Any]], max_length: int, ends: Sequence[int] = ()
) -> Encoded:
    """Token ids and labels of rows with ``prompt`` and ``completion``.

    Args:
        tokenizer: Of the model, with a chat template.
        rows: From a dataset's file.
        max_length: Tokens of a row. A longer prompt loses its beginning; an answer is never cut.
        ends: Further ids that end an answer of the model; its tokenizer's own is one.

    Raises:
        ConfigurationError: the template cannot render a row, or gives an answer without an end.
    """
    found = Encoded()
    stops = {tokenizer.eos_token_id, *ends}
    for row in rows:
        prompt, answer = _encoded(tokenizer, row, stops)
        room = max_length - len(answer)
        if room < 1:
            found.too_long.append(str(row["id"]))
            continue
        if len(prompt) > room:
            prompt = prompt[-room:]
            found.cut += 1
        found.rows.append(
            {"input_ids": prompt + answer, "labels": [IGNORED] * len(prompt) + answer}
        )
    for one in found.rows:
        check_mask(one, stops)
    return found


@dataclass(slots=True)
class EncodedPairs:
    """Pairs as a trainer takes them: ``prompt_ids``, ``chosen_ids``, ``rejected_ids``."""

    rows: list[dict[str, list[int]]] = field(default_factory=list)
    sources: list[Mapping[str, Any]] = field(default_factory=list)
    """What each row was made from."""
    cut: int = 0
    """Pairs whose prompt lost its beginning."""
    too_long: list[str] = field(default_factory=list)
    """Ids of pairs of which an answer does not fit; they are left out."""


def encode_pairs(
    tokenizer: Any, rows: Sequence[Mapping[str, Any]], max_length: int, ends: Sequence[int] = ()
) -> EncodedPairs:
    """Token ids of pairs, rendered as :func:`encode_rows` renders rows.

    Both answers stand under one prompt, cut alike, so that what is compared is the answers; both
    end as the model ends.

    Args:
        tokenizer: Of the model, with a chat template.
        rows: With ``prompt``, ``chosen`` and ``rejected``.
        max_length: Tokens of a prompt with its longer answer; as in :func:`encode_rows`.
        ends: Further ids that end an answer of the model.

    Raises:
        ConfigurationError: the template cannot render a row, or gives an answer without an end;
            the two answers of a pair are the same tokens.
    """
    found = EncodedPairs()
    stops = {tokenizer.eos_token_id, *ends}
    for row in rows:
        prompt, chosen = _encoded(tokenizer, {**row, "completion": row["chosen"]}, stops)
        _, rejected = _encoded(tokenizer, {**row, "completion": row["rejected"]}, stops)
        if chosen == rejected:
            raise ConfigurationError(f"row {row['id']}: both answers of the pair are the same")
        room = max_length - max(len(chosen), len(rejected))
        if room < 1:
            found.too_long.append(str(row["id"]))
            continue
        if len(prompt) > room:
            prompt = prompt[-room:]
            found.cut += 1
        for answer in (chosen, rejected):
            labels = [IGNORED] * len(prompt) + answer
            check_mask({"input_ids": prompt + answer, "labels": labels}, stops)
        found.rows.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
        found.sources.append(row)
    return found


def shuffled_pairs(rows: Sequence[Mapping[str, Any]], seed: int) -> list[dict[str, Any]]:
    """The control: of every second pair of a task, drawn by seed, the answers change places.

    Prompts and answers stay; only which of the two is the better one is lost.
    """
    by_task: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        by_task.setdefault(row["task"], []).append(place)
    draw = random.Random(f"{seed}/shuffled pairs")
    turned: set[int] = set()
    for places in by_task.values():
        turned.update(draw.sample(places, len(places) // 2))
    return [
        {**row, "chosen": row["rejected"], "rejected": row["chosen"]}
        if place in turned
        else dict(row)
        for place, row in enumerate(rows)
    ]


def _encoded(
    tokenizer: Any, row: Mapping[str, Any], stops: set[int]
) -> tuple[list[int], list[int]]:
    prompt = _rendered(tokenizer, row["prompt"], generate=True)
    whole = _rendered(tokenizer, [*row["prompt"], *row["completion"]], generate=False)
    if not whole.startswith(prompt):
        raise ConfigurationError(
            f"row {row['id']}: the chat template renders the prompt otherwise once it is answered; "
            "take a model whose template only appends"
        )
    answer = _ids(tokenizer, whole[len(prompt) :])
    last = max((place for place, token in enumerate(answer) if token in stops), default=None)
    if last is None:
        raise ConfigurationError(
            f"row {row['id']}: the chat template ends an answer with no token that would stop the "
            "model; take an instruction-tuned model"
        )
    # What the template writes after the end (a line break) is nobody's answer.
    return _ids(tokenizer, prompt), answer[: last + 1]


def _rendered(tokenizer: Any, messages: Sequence[Any], *, generate: bool) -> str:
    from jinja2.exceptions import TemplateError

    try:
        return str(
            tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=generate
            )
        )
    except TemplateError as error:
        raise ConfigurationError(
            f"the model's chat template refuses a row: {str(error)[:200]}"
        ) from error


def _ids(tokenizer: Any, text: str) -> list[int]:
    # The template has written the special tokens already.
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def check_mask(row: Mapping[str, Sequence[int]], stops: set[int]) -> None:
    """Check that a row learns its whole answer with its end, and nothing before it.

    Raises:
        ConfigurationError: it does not.
    """
    labels = list(row["labels"])
    learned = [place for place, label in enumerate(labels) if label != IGNORED]
    if not learned:
        raise ConfigurationError("a row has an empty loss mask: nothing of it would be learned")
    if learned != list(range(learned[0], len(labels))) or learned[0] == 0:
        raise ConfigurationError("a row's loss mask is not its answer alone, after a prompt")
    if labels[learned[0] :] != list(row["input_ids"])[learned[0] :]:
        raise ConfigurationError("a row's labels are not its tokens")
    if labels[-1] not in stops:
        raise ConfigurationError("a row's loss mask leaves the end token out")


def shuffled_targets(rows: Sequence[Mapping[str, Any]], seed: int) -> list[dict[str, Any]]:
    """The control: every prompt with the answer of another row of its task.

    Prompts, answers, lengths and forms stay; only what belongs together is lost.
    """
    by_task: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        by_task.setdefault(row["task"], []).append(place)
    answers = [row["completion"] for row in rows]
    draw = random.Random(f"{seed}/shuffled targets")
    for places in by_task.values():
        turned = places[:]
        draw.shuffle(turned)
        # A cycle leaves none where it was.
        for place, other in zip(turned, [*turned[1:], turned[0]], strict=True):
            answers[place] = rows[other]["completion"]
    return [{**row, "completion": answer} for row, answer in zip(rows, answers, strict=True)]


def spread(
    rows: Sequence[Mapping[str, Any]], count: int, seed: int, purpose: str = "eval rows"
) -> list[Mapping[str, Any]]:
    """A seeded sample with as many rows of each task as there are of the rarest, or nearly so."""
    if not count or count >= len(rows):
        return list(rows)
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_task.setdefault(row["task"], []).append(row)
    draw = random.Random(f"{seed}/{purpose}")
    piles = [draw.sample(pile, len(pile)) for _, pile in sorted(by_task.items())]
    found: list[Mapping[str, Any]] = []
    while len(found) < count:
        for pile in piles:
            if pile and len(found) < count:
                found.append(pile.pop())
    return found
