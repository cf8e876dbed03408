"""The one door to a model: prompt, journal, call, reading, bounded re-ask, record.

Why: whatever sits on a seat, an answer is paid for once, kept whole, and never used before it is
safely recorded. What could not be used is kept too, with the reason, and never becomes an empty
string that something later takes for an answer.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, nullcontext
from typing import Any, Generic, Literal, NamedTuple, Protocol, TypeVar

from agents.answers import json_schema, read
from agents.degenerate import degenerate
from agents.labelled import labelled_format
from agents.prompting import Prompt
from agents.seats import Answer, Answered, Failure, FailureKind, Place, Seat, Utterance
from agents.small_form import SPOKEN_GRAMMARS, labelled_grammar
from mentalarena.errors import ParseError
from mentalarena.gate import gate
from mentalarena.journal import Call, digest
from mentalarena.provider import Reply

T = TypeVar("T", bound=Answer)

Mode = Literal["json", "labelled", "small", "form"]
"""By JSON schema; as labelled lines; as labelled lines, with chats for spoken turns, by a small
model; or field by field, as a person answers."""

_CUT_OFF = "the answer was cut off at the token limit"


class Answerer(Protocol):
    """Whatever answers: a model behind a server, or a person."""

    async def answer(
        self,
        messages: list[dict[str, str]],
        schema: dict[str, Any] | None = None,
        seed: int | None = None,
        grammar: str | None = None,
    ) -> Reply:
        """One answer.

        Args:
            messages: ``{"role", "content"}`` dictionaries: system, then user.
            schema: A ``json_schema`` response format; the answer's text is then JSON.
            seed: Sampling seed of this answer.
            grammar: GBNF that describes the answer; for those who can follow one.

        Raises:
            ProviderError: there is no answer.
        """
        ...


Recall = Callable[[Call], None]
"""Told of a question that is not asked, because its answer is stored."""


class Reask(Exception):
    """Raised by a check: the answer can be read, and is still not as it should be.

    Args:
        kind: The boundary it crossed.
        message: What was wrong, written for the model.
        use: What to take of the answer where no better one comes; the answer itself by default.
        again: False to take ``use`` at once: recorded, but not asked for again.
        once: Ask again once, then take what came: recorded, not argued with.
    """

    def __init__(
        self,
        kind: FailureKind,
        message: str,
        *,
        use: Answer | None = None,
        again: bool = True,
        once: bool = False,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.use = use
        self.again = again
        self.once = once or kind == "role_flip"


class _Tried(NamedTuple, Generic[T]):
    value: T | None
    """What could be read, even when the check refused it."""
    text: str
    call_id: str
    failure: Failure | None
    good: bool
    """Whether to stop here."""
    once: bool = False
    """Whether it is asked for again only once, and taken where nothing better comes."""


class Ask:
    """An answerer bound to a seat."""

    def __init__(
        self,
        answerer: Answerer,
        *,
        seat: Seat,
        spec: str,
        answers: Mode,
        recall: Recall | None = None,
    ) -> None:
        self._answerer = answerer
        self._recall = recall
        self._seat = seat
        self._spec = spec
        self._answers = answers

    def __repr__(self) -> str:
        return f"Ask(seat={self._seat!r}, spec={self._spec!r}, answers={self._answers!r})"

    @property
    def labelled(self) -> bool:
        """Whether structured answers come as labelled lines."""
        return self._answers in ("labelled", "small")

    @property
    def small(self) -> bool:
        """Whether the model needs short cues."""
        return self._answers == "small"

    async def __call__(
        self,
        prompt: Prompt,
        answer_type: type[T],
        at: Place,
        purpose: str,
        sample: int = 0,
        check: Callable[[T], None] | None = None,
        max_reasks: int = 2,
        salvage: Callable[[str], T | None] | None = None,
    ) -> Answered[T]:
        """Ask until an answer can be used.

        Args:
            prompt: What to send.
            answer_type: What to read; an :class:`Utterance` is plain text in every mode.
            at: Where in the episode.
            purpose: Part of the journal key, with ``sample``.
            sample: Which of several draws of the same question.
            check: Looks at a readable answer; raises :class:`Reask` where it is not good.
            max_reasks: How often to ask again.
            salvage: What to make of the text of an answer when no re-ask is left; None for nothing.

        Raises:
            ParseError: nothing usable came.
            ProviderError: the model could not be reached or refused.
            ReplayError: the journal holds an answer to another prompt.
        """
        answered = await self.attempt(
            prompt, answer_type, at, purpose, sample, check, max_reasks, salvage
        )
        if answered.value is None:
            raise ParseError(
                f"{self._seat} ({self._spec}) gave no readable {answer_type.__name__} for "
                f"{purpose} in {len(answered.failures)} answers; the last: "
                f"{answered.failures[-1].message}"
            )
        return answered._replace(value=answered.value)  # type: ignore[return-value]

    async def attempt(
        self,
        prompt: Prompt,
        answer_type: type[T],
        at: Place,
        purpose: str,
        sample: int = 0,
        check: Callable[[T], None] | None = None,
        max_reasks: int = 2,
        salvage: Callable[[str], T | None] | None = None,
    ) -> Answered[T | None]:
        """As calling, but None, with the failures, where that raises ParseError."""
        tried: list[_Tried[T]] = []
        note = ""
        stuck: Counter[FailureKind] = Counter()
        for reask in range(max_reasks + 1):
            one = await self._once(prompt, answer_type, at, purpose, sample, reask, note, check)
            tried.append(one)
            if one.once and one.failure is not None:
                stuck[one.failure.boundary] += 1
            # A model that keeps flipping its role is recorded, not argued with.
            if one.good or max(stuck.values(), default=0) > 1:
                break
            # A small model takes the note for its subject; another seed has to do.
            if one.failure is not None and not self.small:
                note = f"Your last answer could not be used: {one.failure.message}."
        failures = tuple(one.failure for one in tried if one.failure is not None)
        usable = [one for one in tried if one.value is not None and (one.good or one.once)]
        # The last one, but sooner one that says something than one that does not.
        usable.sort(key=lambda one: one.failure is None or one.failure.boundary != "empty")
        if usable:
            return Answered(usable[-1].value, usable[-1].call_id, failures)
        for one in reversed(tried):
            if salvage is None or not one.text.strip():
                continue
            try:
                saved = salvage(one.text)
            except ParseError:
                continue
            if saved is not None:
                return Answered(saved, one.call_id, failures)
        return Answered(None, None, failures)

    async def _once(
        self,
        prompt: Prompt,
        answer_type: type[T],
        at: Place,
        purpose: str,
        sample: int,
        reask: int,
        note: str,
        check: Callable[[T], None] | None,
    ) -> _Tried[T]:
        """One call, or its stored answer: read, checked, recorded."""
        spoken = answer_type is Utterance

        def checked(value: T) -> None:
            if check is not None:
                check(value)
            # A person is not told that what they say sounds like a machine.
            if self._answers != "form":
                _check_sound(value, prompt)

        tail = "\n\n".join(filter(None, (note, form_of(answer_type, self._answers))))
        messages = prompt.messages(tail)
        key = at.key(purpose, sample, reask)
        prompt_hash = digest([messages, self._answers])
        stored = await at.journal.find(key, prompt_hash, messages)
        if stored is not None:
            if self._recall is not None:
                self._recall(stored)
            cut = _CUT_OFF in (stored.failure or "")
            return _judged(stored.answer, cut, key, answer_type, checked, self.labelled)
        schema = None if spoken or self.labelled else json_schema(answer_type)
        seed = int(digest([at.seed, at.attempt, at.node, at.visit, purpose, sample, reask], 7), 16)
        grammar = None
        if self.labelled:
            grammar = SPOKEN_GRAMMARS.get(self._seat) if spoken else labelled_grammar(answer_type)
        place = gate.get()
        async with AsyncExitStack() as until_stored:
            async with place or nullcontext():
                # It may have waited long, and what was to be spent may be spent by now.
                await at.journal.find(key, prompt_hash, messages)
                reply = await self._answerer.answer(messages, schema, seed, grammar)
                if place is not None:
                    await until_stored.enter_async_context(place.storing)
            one = _judged(reply.text, reply.truncated, key, answer_type, checked, self.labelled)
            failure = None
            if one.failure is not None:
                failure = f"{one.failure.boundary}: {one.failure.message}"
            call = Call(
                id=key,
                episode_id=at.episode_id,
                attempt=at.attempt,
                step=at.step,
                node=at.node,
                visit=at.visit,
                sample=sample,
                reask=reask,
                seat=self._seat,
                purpose=purpose,
                model=self._spec,
                resolved_model=reply.resolved_model,
                template_hash=prompt.template.hash,
                prompt_hash=prompt_hash,
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
                cost=None,
                latency_ms=reply.latency_ms,
                attempts=reply.attempts,
                answer=reply.text,
                failure=failure,
            )
            found = prompt.template
            await at.journal.record(call, (found.hash, found.name, found.text))
        return one


def form_of(answer_type: type[Answer], answers: Mode) -> str:
    """What a prompt ends with: the form of its answer; nothing for spoken words."""
    if answer_type is Utterance or answers == "form":
        return ""
    if answers == "json":
        return f"Answer with one JSON object only; its keys: {_keys(answer_type)}."
    return f"Answer in exactly these lines:\n{labelled_format(answer_type)}"


def _check_sound(value: Answer, prompt: Prompt) -> None:
    """Raise :class:`Reask` where a text of the answer is degenerate."""
    lines = prompt.lines if isinstance(value, Utterance) else ()
    for text in _texts(value.model_dump()):
        wrong = degenerate(text, prompt.template.text, lines)
        if wrong:
            raise Reask("parse", wrong, once=True)


def _texts(node: Any) -> Iterator[str]:
    """Every text of an answer, reasons left out: a reason may well be given in a rubric's words."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for key, child in node.items():
            if key != "reason":
                yield from _texts(child)
    elif isinstance(node, (list, tuple)):
        for child in node:
            yield from _texts(child)


def _keys(answer_type: type[Answer]) -> str:
    return ", ".join(answer_type.model_fields)


def _judged(
    text: str,
    cut: bool,
    key: str,
    answer_type: type[T],
    check: Callable[[T], None],
    labelled: bool,
) -> _Tried[T]:
    """What an answer's text is worth; depends on nothing else, so a replay judges it alike."""

    def failed(
        kind: FailureKind, message: str, value: T | None = None, good: bool = False
    ) -> "_Tried[T]":
        if cut and message != _CUT_OFF:
            message = f"{message}; {_CUT_OFF}"
        return _Tried(value, text, key, Failure(kind, message, key), good)

    if not text.strip():
        return failed("parse", "the answer was empty")
    try:
        if answer_type is Utterance:
            value: Any = Utterance(text=_whole_sentences(text, cut))
        else:
            value = read(text, answer_type, labelled=labelled)
        check(value)
    except ParseError as error:
        return failed("parse", str(error))
    except Reask as wrong:
        use: Any = wrong.use or value
        # Nothing was stated, but it was not at its end either.
        kind: FailureKind = "parse" if cut and wrong.kind == "empty" else wrong.kind
        return failed(kind, str(wrong), use, not wrong.again)._replace(once=wrong.once)
    if cut:
        return failed("parse", _CUT_OFF, value, good=True)
    return _Tried(value, text, key, None, good=True)


def _whole_sentences(text: str, cut: bool, limit: int = 2000) -> str:
    """Spoken words without the half sentence that a token limit, or ours, left at the end."""
    text = text.strip()
    if len(text) > limit:
        text, cut = text[:limit], True
    end = max(text.rfind(mark) for mark in ".!?…")
    return text[: end + 1] if cut and end > 0 else text
