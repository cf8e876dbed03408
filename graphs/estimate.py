"""What is left of a batch will need, about: calls, tokens, cost: ``graphs.batch --dry-run``.

Why: a budget has to be set before the first call is paid for. An estimate rests on what episodes of
the same configuration have really taken, where the store holds some, and otherwise on what the
recipe allows, with prompts rendered as they will be sent (:mod:`graphs.outline`). It is a range,
and it says where it comes from.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from graphs.outline import Expected, courses, model_seats, outline
from graphs.scheduler import Job
from graphs.session import Session
from mentalarena.case import Case

CHARACTERS_PER_TOKEN = 4
"""Of English text, about; every tokenizer has a figure of its own (the bundled model's: 4.2)."""
ENOUGH = 5
"""With fewer stored episodes the range is still what the recipe allows."""
_SAMPLE = 30
"""Of more different cases, so many are rendered: prompts differ by the length of the record."""


class Usage(NamedTuple):
    """Calls and tokens of one model."""

    calls: float = 0
    prompt: float = 0
    completion: float = 0

    def plus(self, other: "Usage", times: float = 1) -> "Usage":
        """The sum with so many times the other."""
        return Usage(*(mine + times * more for mine, more in zip(self, other, strict=True)))


ByModel = Mapping[str, Usage]
"""Seat spec → what it takes."""


class Range(NamedTuple):
    """From the least to the most that is likely."""

    low: float
    high: float
    expected: float | None
    """The mean of stored episodes, times what is left; None without any."""

    def plain(self, digits: int | None = None) -> dict[str, float | None]:
        """As JSON."""
        rounded = (None if value is None else round(value, digits) for value in self)
        return dict(zip(self._fields, rounded, strict=True))

    def text(self, form: str) -> str:
        """As text, each number by the format ``form``."""
        whole = f"{self.low:{form}}"
        if self.high != self.low:
            whole += f" to {self.high:{form}}"
        if self.expected is not None and self.high != self.low:
            whole += f", about {self.expected:{form}}"
        return whole


class Estimate(NamedTuple):
    """What the missing episodes of a batch will need."""

    calls: Range
    prompt_tokens: Range
    completion_tokens: Range
    tokens: Range
    cost: Range | None
    """None without prices, or with a model that has none."""
    unpriced: tuple[str, ...]
    """Models without a price, when there are prices."""
    source: str
    """Where it comes from."""

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "estimated_calls": self.calls.plain(),
            "estimated_tokens": self.tokens.plain(),
            "estimated_prompt_tokens": self.prompt_tokens.plain(),
            "estimated_completion_tokens": self.completion_tokens.plain(),
            "estimated_cost": None if self.cost is None else self.cost.plain(6),
            "estimated_from": self.source,
        }

    def lines(self) -> list[str]:
        """As text, a line each."""
        found = [
            f"estimated calls: {self.calls.text(',.0f')}",
            f"estimated tokens: {self.tokens.text(',.0f')} "
            f"(in: {self.prompt_tokens.text(',.0f')}; out: {self.completion_tokens.text(',.0f')})",
        ]
        if self.cost is not None:
            found.append(f"estimated cost: {self.cost.text(',.4f')}")
        elif self.unpriced:
            found.append(f"estimated cost: unknown, no price for {', '.join(self.unpriced)}")
        return [*found, f"estimated from: {self.source}"]


def estimate(session: Session, jobs: Sequence[Job], run_id: str) -> Estimate:
    """What the episodes of a plan that are not complete will need.

    Args:
        session: Its store says what is complete, what is half played, and what others took.
        jobs: The whole plan.
        run_id: The name of the run.
    """
    states = {
        row["id"]: row["status"] for row in session.store.fetch("select id, status from episodes")
    }
    ids = {session.ledger.episode_id(job.case, job.sample, run_id): job.case for job in jobs}
    missing = [one for one in ids if states.get(one) != "ok"]
    specs = {spec.text for spec in model_seats(session.config).values()}
    if not specs or not missing:
        why = "no seat is a model" if not specs else "every episode is complete"
        return _estimate(session, [{}], [{}], None, f"{why}: no call will be made")
    low, high = _by_recipe(session, [ids[one] for one in missing])
    stored = _stored(session, specs)
    expected = None
    if stored:
        expected = _scaled(_sum(stored), len(missing) / len(stored))
        source = (
            f"{len(stored)} complete episode{'s' if len(stored) > 1 else ''} of this "
            "configuration in the store"
        )
    if len(stored) >= ENOUGH:
        lows = highs = [_scaled(one, len(missing)) for one in stored]
        source += ": the mean, and from the least to the most that one of them took"
    else:
        seen = [_scaled(one, len(missing)) for one in stored]
        lows, highs = [low, *seen], [high, *seen]
        range_ = (
            "the recipe: from first plans and formulations accepted and short answers to every "
            "probe and plan used and long answers; answers asked for again, turns after a crisis "
            "and failed episodes come on top"
        )
        source = f"{source}; the range is that of {range_}" if stored else range_
    begun = [one for one in missing if states.get(one) in ("running", "aborted")]
    paid = _scaled(_sum(_taken(session, begun, specs)), -1)
    return _estimate(
        session,
        [_sum([one, paid]) for one in lows],
        [_sum([one, paid]) for one in highs],
        None if expected is None else _sum([expected, paid]),
        source,
    )


def _by_recipe(session: Session, cases: Sequence[Case]) -> tuple[ByModel, ByModel]:
    """The least and the most that one episode of each of these cases takes."""
    distinct = list({case.id: case for case in cases}.values())
    some = distinct[:: max(len(distinct) // _SAMPLE, 1)]
    shortest, longest = (
        _scaled(
            _sum(_rendered(outline(session.config, case, course)) for case in some),
            len(cases) / len(some),
        )
        for course in courses(session.config)
    )
    return shortest, longest


def _rendered(calls: Iterable[Expected]) -> ByModel:
    return _sum(
        {
            call.spec: Usage(
                1,
                call.prompt_characters / CHARACTERS_PER_TOKEN,
                call.answer_characters / CHARACTERS_PER_TOKEN,
            )
        }
        for call in calls
    )


def _stored(session: Session, specs: set[str]) -> list[ByModel]:
    """What each complete episode of this configuration took, whatever its seed.

    Those whose server did not count tokens say nothing and are left out.
    """
    now = _without_seed(session.identity)
    runs = [
        row["id"]
        for row in session.store.fetch("select id, config from runs")
        if _without_seed(json.loads(row["config"])) == now
    ]
    rows = session.store.fetch(
        "select id from episodes where status = 'ok' and parent is null "
        "and run_id in (select value from json_each(?)) and not exists (select * from calls k "
        "where k.episode_id = episodes.id and k.model in (select value from json_each(?)) "
        "and (k.prompt_tokens is null or k.completion_tokens is null))",
        (json.dumps(runs), json.dumps(sorted(specs))),
    )
    return _taken(session, [row["id"] for row in rows], specs)


def _without_seed(identity: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in identity.items() if key != "seed"}


def _taken(session: Session, episodes: Sequence[str], specs: set[str]) -> list[ByModel]:
    """What was paid for each of these episodes, all attempts together; none where nothing was."""
    rows = session.store.fetch(
        "select episode_id, model, count(*) as calls, coalesce(sum(prompt_tokens), 0) as prompt, "
        "coalesce(sum(completion_tokens), 0) as completion from calls "
        "where episode_id in (select value from json_each(?)) group by episode_id, model",
        (json.dumps(episodes),),
    )
    found: dict[str, dict[str, Usage]] = defaultdict(dict)
    for row in rows:
        if row["model"] in specs:
            usage = Usage(row["calls"], row["prompt"], row["completion"])
            found[row["episode_id"]][row["model"]] = usage
    return list(found.values())


def _sum(parts: Iterable[ByModel]) -> ByModel:
    total: dict[str, Usage] = defaultdict(Usage)
    for part in parts:
        for spec, usage in part.items():
            total[spec] = total[spec].plus(usage)
    return total


def _scaled(usage: ByModel, times: float) -> ByModel:
    return {spec: Usage().plus(one, times) for spec, one in usage.items()}


def _estimate(
    session: Session,
    lows: Sequence[ByModel],
    highs: Sequence[ByModel],
    expected: ByModel | None,
    source: str,
) -> Estimate:
    """Ranges from the smallest of ``lows`` to the largest of ``highs``, figure by figure."""

    def span(figure: Callable[[ByModel], float]) -> Range:
        return Range(
            max(min(figure(one) for one in lows), 0),
            max(max(figure(one) for one in highs), 0),
            None if expected is None else max(figure(expected), 0),
        )

    def total(figure: Callable[[Usage], float]) -> Range:
        return span(lambda by_model: sum(figure(usage) for usage in by_model.values()))

    meter = session.meter
    specs = sorted({spec for one in highs for spec in one})
    unpriced = tuple(spec for spec in specs if meter.cost_of(spec, 0, 0) is None)
    cost = None
    if meter.prices and not unpriced:
        cost = span(
            lambda by_model: sum(
                meter.cost_of(spec, round(usage.prompt), round(usage.completion)) or 0.0
                for spec, usage in by_model.items()
            )
        )
    return Estimate(
        calls=total(lambda usage: usage.calls),
        prompt_tokens=total(lambda usage: usage.prompt),
        completion_tokens=total(lambda usage: usage.completion),
        tokens=total(lambda usage: usage.prompt + usage.completion),
        cost=cost,
        unpriced=unpriced if meter.prices else (),
        source=source,
    )
