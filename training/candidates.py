"""What can be evaluated on a question set: baselines, models that speak, models that are read.

Why: a baseline is scored by the same code as a model, so that no figure stands without one. Each
candidate hands over every answer as soon as it has it, and whoever asked stores it before more
than the number in flight can be lost.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Final, Literal, NamedTuple, Protocol

from agents.answers import json_schema
from agents.small_form import labelled_grammar
from mentalarena.errors import ConfigurationError, ProviderError
from mentalarena.journal import digest
from mentalarena.models import ModelSpec, check_model, spec_identity
from mentalarena.provider import ModelClient
from training.likelihood import Scorer, check_scorer, scorer
from training.tasks.items import Question
from training.tasks.prompts import Style, answer_type, chat, continuations, plain

Scoring = Literal["baseline", "generation", "likelihood"]

BASELINES: Final = ("constant", "majority", "chance")
_FOLDS = 5
"""Parts into which items are dealt for ``majority``."""
_AT_ONCE = 8
"""Questions whose likelihoods are asked for before they are stored."""
_TOKENS = 256
"""Longest answer; a label takes three, and some models will not be stopped from explaining."""


class Given(NamedTuple):
    """What a candidate gave to one question."""

    answer: str = ""
    """Raw text; empty when only likelihoods were told."""
    scores: Mapping[str, float] | None = None
    """Log-likelihood by label."""
    failure: str | None = None
    """Why there is no answer."""
    prompt: str = ""
    """What was sent."""
    truncated: bool = False
    resolved_model: str = ""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    latency_ms: float | None = None
    attempts: int = 1


Keep = Callable[[Question, Given], Awaitable[None]]
"""Stores an answer; returns once that is done."""


class Candidate(Protocol):
    """Whatever answers questions."""

    scoring: Scoring

    def identity(self) -> dict[str, Any]:
        """Everything that decides its answers, for the hash that says what may be gone on with."""
        ...

    async def answer(
        self, questions: Sequence[Question], everything: Sequence[Question], style: Style,
        subject: str, keep: Keep,
    ) -> None:  # fmt: skip
        """Answer ``questions``, which are what is missing of ``everything``.

        Raises:
            ProviderError: a failure that would meet every further question too.
        """
        ...


class Baseline:
    """An answer that looks at no question.

    ``constant`` always names the label that is right most often in the very set that is scored: the
    most that a model can reach without reading. ``majority`` names the label that is right most
    often in the other four fifths of the set: what a rule learned elsewhere reaches. ``chance``
    draws a label, seeded by the question.
    """

    scoring: Scoring = "baseline"

    def __init__(self, name: str, seed: int) -> None:
        self._name = name
        self._seed = seed

    def identity(self) -> dict[str, Any]:
        """See :class:`Candidate`."""
        return {"model": self._name, "seed": self._seed if self._name == "chance" else 0}

    async def answer(
        self, questions: Sequence[Question], everything: Sequence[Question], style: Style,
        subject: str, keep: Keep,
    ) -> None:  # fmt: skip
        """See :class:`Candidate`."""
        if self._name == "chance":
            for question in questions:
                draw = Random(f"{self._seed}/{question.item.hash}/{question.rotation}")
                await keep(question, Given(draw.choice(question.shown.labels)))
            return
        folds = _FOLDS if self._name == "majority" else 1
        for fold in range(folds):
            # A repeat of a question must not teach its own answer.
            mine = [q for q in questions if int(q.item.cluster, 16) % folds == fold]
            others = [
                q for q in everything if folds == 1 or int(q.item.cluster, 16) % folds != fold
            ]
            label = most_frequent(others or everything)
            for question in mine:
                await keep(question, Given(label))


def most_frequent(questions: Sequence[Question]) -> str:
    """The label that is right most often; the first of the alphabet among equals."""
    counts: Counter[str] = Counter()
    for question in questions:
        counts[question.shown.gold_label] += question.item.copies
    return min(counts, key=lambda label: (-counts[label], label))


class Speaker:
    """A model that is asked for one label and says something."""

    scoring: Scoring = "generation"

    def __init__(
        self, spec: ModelSpec, *, base_url: str, timeout: float, concurrency: int, seed: int
    ) -> None:
        self._spec = spec
        self._seed = seed
        self._concurrency = concurrency
        self._client = ModelClient(
            spec, base_url=base_url, temperature=0.0, max_tokens=_TOKENS, timeout=timeout
        )

    def identity(self) -> dict[str, Any]:
        """See :class:`Candidate`."""
        return {**_what(self._spec), "answers": self._spec.answers, "seed": self._seed,
                "temperature": 0.0, "max_tokens": _TOKENS}  # fmt: skip

    async def answer(
        self, questions: Sequence[Question], everything: Sequence[Question], style: Style,
        subject: str, keep: Keep,
    ) -> None:  # fmt: skip
        """See :class:`Candidate`."""
        places = asyncio.Semaphore(self._concurrency)
        try:
            async with asyncio.TaskGroup() as group:
                for question in questions:
                    group.create_task(self._one(question, style, places, keep))
        except BaseExceptionGroup as errors:
            # What one met the others will meet too, and one line is enough.
            raise errors.exceptions[0] from None

    async def _one(
        self, question: Question, style: Style, places: asyncio.Semaphore, keep: Keep
    ) -> None:
        messages = chat(question.shown, style, self._spec.answers)
        wanted = answer_type(question.shown.labels)
        schema = json_schema(wanted) if self._spec.answers == "json" else None
        grammar = labelled_grammar(wanted) if self._spec.answers != "json" else None
        prompt = "\n\n".join(message["content"] for message in messages)
        seed = int(digest([self._seed, *question.key], 7), 16)
        # Held until the answer is stored: a kill costs no more than the number in flight.
        async with places:
            try:
                reply = await self._client.answer(messages, schema, seed, grammar)
            except ProviderError as error:
                if error.fatal:
                    raise
                await keep(question, Given(failure=str(error), prompt=prompt))
                return
            await keep(
                question,
                Given(
                    reply.text,
                    prompt=prompt,
                    truncated=reply.truncated,
                    resolved_model=reply.resolved_model,
                    prompt_tokens=reply.prompt_tokens,
                    completion_tokens=reply.completion_tokens,
                    latency_ms=reply.latency_ms,
                    attempts=reply.attempts,
                ),
            )


class Reader:
    """A model whose likelihoods of the labels are read; it says nothing."""

    scoring: Scoring = "likelihood"

    def __init__(
        self, spec: ModelSpec, timeout: float, make: Callable[[ModelSpec, float], Scorer] = scorer
    ) -> None:
        self._spec = spec
        self._timeout = timeout
        self._make = make

    def identity(self) -> dict[str, Any]:
        """See :class:`Candidate`."""
        return _what(self._spec)

    async def answer(
        self, questions: Sequence[Question], everything: Sequence[Question], style: Style,
        subject: str, keep: Keep,
    ) -> None:  # fmt: skip
        """See :class:`Candidate`."""
        if not questions:
            return
        model = await asyncio.to_thread(self._make, self._spec, self._timeout)
        # Long prompts first, as the harness does: what does not fit is known at once.
        texts = {q.key: plain(q.shown, style, subject) for q in questions}
        ordered = sorted(questions, key=lambda q: -len(texts[q.key]))
        for start in range(0, len(ordered), _AT_ONCE):
            batch = ordered[start : start + _AT_ONCE]
            for question, given in await asyncio.to_thread(
                self._batch, model, [(q, texts[q.key]) for q in batch], style
            ):
                await keep(question, given)

    def _batch(
        self, model: Scorer, batch: Sequence[tuple[Question, str]], style: Style
    ) -> list[tuple[Question, Given]]:
        started = time.perf_counter()
        prompts = [(text, continuations(q.shown, style)) for q, text in batch]
        try:
            found = model.scores(prompts)
        except (ProviderError, RuntimeError) as error:
            if len(batch) > 1:
                # One that is too long, say, must not take its neighbors with it.
                return [pair for one in batch for pair in self._batch(model, [one], style)]
            ((question, text),) = batch
            why = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            return [(question, Given(failure=why, prompt=text))]
        each = (time.perf_counter() - started) * 1000 / len(batch)
        return [
            (
                question,
                Given(
                    scores=dict(zip(question.shown.labels, scores, strict=True)),
                    prompt=text,
                    resolved_model=model.name,
                    latency_ms=each,
                ),
            )
            for (question, text), scores in zip(batch, found, strict=True)
        ]


def candidate(
    text: str, scoring: str, *, base_url: str, timeout: float, concurrency: int, seed: int
) -> Candidate:
    """The candidate of ``--model``.

    Args:
        text: ``constant``, ``majority``, ``chance`` or a model spec.
        scoring: ``generation``, ``likelihood`` or ``auto``.
        base_url: Server of an ``openai:`` model.
        timeout: Seconds after which a request is given up.
        concurrency: Requests in flight.
        seed: Seed of ``chance`` and of sampling.

    Raises:
        ConfigurationError: the spec is wrong, names something that is not there, or does not go
            with the scoring.
    """
    if text in BASELINES:
        return Baseline(text, seed)
    try:
        spec = ModelSpec.parse(text)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}; or {', '.join(BASELINES)}") from None
    if scoring == "auto":
        scoring = "generation" if spec.provider == "openai" else "likelihood"
    if scoring == "likelihood":
        check_scorer(spec)
        return Reader(spec, timeout)
    check_model(spec, base_url)
    return Speaker(spec, base_url=base_url, timeout=timeout, concurrency=concurrency, seed=seed)


def _what(spec: ModelSpec) -> dict[str, Any]:
    """A model by name and, where its files are here, by what is in them: a path may be reused."""
    found: dict[str, Any] = {"model": spec_identity(f"{spec.provider}:{spec.name}".rstrip(":"))}
    if spec.provider == "huggingface" and (folder := Path(spec.name).expanduser()).is_dir():
        found["files"] = digest(
            [(p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(folder.iterdir())], 16
        )
    if spec.adapter:
        folder = Path(spec.adapter).expanduser()
        hashes = [
            (path.name, hashlib.sha256(path.read_bytes()).hexdigest())
            for path in sorted(folder.glob("adapter_*"))
        ]
        found |= {"adapter": spec.adapter, "adapter_files": digest(hashes, 16)}
    return found
