"""What a run has spent, and when it must stop: calls, tokens, money.

Why: an experiment against a paid server needs a limit that holds while many episodes are in flight.
Spending is counted where an answer is journaled, and the limit is checked where a new call would be
made, so that a run stops within one call per episode in flight and goes on later where it stopped.
"""

import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from mentalarena.errors import BudgetError, ConfigurationError

PER = 1_000_000
"""Prices are per million tokens."""


class Price(BaseModel):
    """What a model costs, in any one currency, per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: Annotated[float, Field(ge=0)]
    completion: Annotated[float, Field(ge=0)]


class Prices(RootModel[dict[str, Price]]):
    """Prices by model name, as it stands after ``openai:``."""


def read_prices(path: str) -> dict[str, Price]:
    """A TOML file with one table per model: ``[name]``, ``prompt = …``, ``completion = …``.

    Raises:
        ConfigurationError: unreadable, or a price that is not a number from 0.
    """
    try:
        values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        return Prices.model_validate(values).root
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigurationError(f"price file {path}: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"price file {path}, {where}: {first['msg']}") from error


@dataclass(slots=True)
class Meter:
    """Counts what is spent and refuses what would go over."""

    max_calls: int | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    prices: dict[str, Price] = field(default_factory=dict)
    calls: int = 0
    tokens: int = 0
    cost: float = 0.0
    retries: int = 0
    """Requests beyond one a call, since this process began."""

    def cost_of(self, spec: str, prompt: int | None, completion: int | None) -> float | None:
        """Cost of one answer; None when the model has no price or the server counted nothing."""
        name = spec.split(",", 1)[0].partition(":")[2] or spec
        price = self.prices.get(name)
        if price is None or prompt is None or completion is None:
            return None
        return (prompt * price.prompt + completion * price.completion) / PER

    def spend(
        self, prompt: int | None, completion: int | None, cost: float | None, requests: int = 1
    ) -> None:
        """Count one paid answer, and the requests that it took."""
        self.calls += 1
        self.retries += requests - 1
        self.tokens += (prompt or 0) + (completion or 0)
        self.cost += cost or 0.0

    def check(self) -> None:
        """Say no when a budget is used up.

        Raises:
            BudgetError: names the budget.
        """
        for name, spent, limit in (
            ("--max-calls", self.calls, self.max_calls),
            ("--max-tokens", self.tokens, self.max_tokens),
            ("--max-cost", self.cost, self.max_cost),
        ):
            if limit is not None and spent >= limit:
                raise BudgetError(f"{name} {limit:g} is used up (spent {spent:g})")
