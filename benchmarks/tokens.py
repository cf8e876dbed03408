"""Tokens an episode: what each recipe sends and gets back, and how much of it a cache saves.

Why: prompts are most of what an experiment pays for. Episodes are played against the mock server
in this process, so what is counted is what was sent, and a longer prompt shows up here at once.

How to run::

    python -m benchmarks.tokens            # about a minute on two cores
    python -m benchmarks.tokens --json

Definitions
    Tokens are the mock server's: characters // 4 of each prompt and answer.

    Worst case: every plan gets a 5 and no formulation is aligned, so that all probes and all plans
    of the recipe are used. It is checked that they were.

    Shared: characters of a prompt that an earlier prompt of the same seat in the same episode began
    with as well, which is what a server with a prefix cache does not compute again.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.episodes import play
from benchmarks.mock_server import MockServer
from graphs.arena import graph
from graphs.session import open_session
from mentalarena.config import RECIPES, ArenaConfig, Recipe, read_recipe
from mentalarena.journal import digest

REPLY_WORDS = 60
LOW_SCORE = 5
BUDGET = {"paper": 75_000}
"""Prompt tokens an episode, at most, in the worst case: the limit of the design."""
RELEASED_CODE = 310_000
"""Prompt tokens an episode of the code released with arXiv 2410.06845, about: it was run against a
mock server with answers of this length; its calls carry the whole history and the record."""


class Sent(NamedTuple):
    """One call."""

    episode_id: str
    seat: str
    purpose: str
    prompt_tokens: int
    completion_tokens: int
    characters: int
    """Of the prompt."""
    shared: int
    """Of those, what an earlier prompt of the seat in the episode began with as well."""


class Share(NamedTuple):
    """What one purpose of one seat takes of an episode: means over the episodes."""

    seat: str
    purpose: str
    calls: float
    prompt_tokens: float
    completion_tokens: float
    characters: float
    shared: float
    """0 to 1, of the characters."""


class Figures(NamedTuple):
    """What an episode of one recipe takes."""

    recipe: str
    worst_case: bool
    episodes: int
    highest_prompt_tokens: int
    """Of the episode that took most."""
    total: Share
    shares: list[Share]

    @property
    def limit(self) -> int | None:
        """The budget that this is measured against."""
        return BUDGET.get(self.recipe) if self.worst_case else None


def played(recipe: Recipe, episodes: int, words: int, score: int) -> list[Sent]:
    """The calls of some episodes against the mock server.

    Args:
        recipe: How long an episode is.
        episodes: How many, of the built-in cases in turn.
        words: About how many words of prose an answer has.
        score: What the judge always answers; 0 lets the server draw it.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        MockServer(reply_words=words, score=score) as server,
    ):
        spec = "openai:mock"
        seats = ArenaConfig(patient=spec, therapist=spec, manager=spec, judge=spec)
        config = replace(
            seats.with_recipe(recipe), base_url=server.base_url, db=f"{folder}/arena.db"
        )
        with closing(open_session(config)) as session:
            asyncio.run(play(session, graph, episodes, episodes))
            rows = session.store.fetch(
                "select episode_id, seat, purpose, prompt_hash, prompt_tokens, completion_tokens "
                "from calls order by episode_id, step, sample, reask"
            )
        bodies = [seen.body["messages"] for seen in server.requests if seen.body is not None]
    return list(sent(rows, {digest([messages, "json"]): messages for messages in bodies}))


def sent(rows: Sequence[dict[str, Any]], prompts: dict[str, Any]) -> Iterator[Sent]:
    """Every call with its prompt, and what it shares with earlier ones.

    Args:
        rows: Calls of the store, in the order in which they were made.
        prompts: Messages by prompt hash.
    """
    earlier: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        messages = prompts[row["prompt_hash"]]
        before = earlier[row["episode_id"], row["seat"]]
        # A message that ends is a difference too: what follows it in a cache is another message.
        text = "\0".join(message["content"] for message in messages)
        shared = max((_common(text, other) for other in before), default=0)
        before.append(text)
        yield Sent(
            row["episode_id"],
            row["seat"],
            row["purpose"],
            row["prompt_tokens"],
            row["completion_tokens"],
            len(text),
            shared,
        )


def _common(text: str, other: str) -> int:
    """How many characters both begin with."""
    pairs = enumerate(zip(text, other, strict=False))
    return next((at for at, (one, two) in pairs if one != two), min(len(text), len(other)))


def share(seat: str, purpose: str, calls: Sequence[Sent], episodes: int) -> Share:
    """Means an episode over some of its calls."""
    characters = sum(call.characters for call in calls)
    return Share(
        seat,
        purpose,
        len(calls) / episodes,
        sum(call.prompt_tokens for call in calls) / episodes,
        sum(call.completion_tokens for call in calls) / episodes,
        characters / episodes,
        sum(call.shared for call in calls) / characters,
    )


def check_worst(name: str, recipe: Recipe, calls: Sequence[Sent], episodes: int) -> None:
    """Check that every probe and every plan was used.

    Raises:
        RuntimeError: one was not, so that this is no worst case.
    """
    wanted = {"formulate": 1 + recipe.probe_rounds, "propose": 2 * recipe.max_plans}
    for purpose, count in wanted.items():
        made = sum(call.purpose == purpose for call in calls) / episodes
        if made < count:
            raise RuntimeError(f"{name}: {made:g} calls to {purpose} an episode, not {count}")


def measure(name: str, episodes: int, words: int, *, worst_case: bool) -> Figures:
    """What an episode of a recipe takes."""
    recipe = read_recipe(name)
    calls = played(recipe, episodes, words, LOW_SCORE if worst_case else 0)
    if worst_case:
        check_worst(name, recipe, calls, episodes)
    kinds: dict[tuple[str, str], list[Sent]] = defaultdict(list)
    totals: dict[str, int] = defaultdict(int)
    for call in calls:
        kinds[call.seat, call.purpose].append(call)
        totals[call.episode_id] += call.prompt_tokens
    shares = [share(*kind, some, episodes) for kind, some in kinds.items()]
    shares.sort(key=lambda one: -one.prompt_tokens)
    total = share("", "all", calls, episodes)
    return Figures(name, worst_case, episodes, max(totals.values()), total, shares)


def show(console: Console, figures: Figures) -> None:
    """One table."""
    case = "worst case" if figures.worst_case else "as the mock server scores"
    table = Table(title=f"{figures.recipe}, {case}: means of {figures.episodes} episodes")
    for column in ("seat", "purpose"):
        table.add_column(column)
    for column in ("calls", "prompt tokens", "answer tokens", "prompt characters", "shared"):
        table.add_column(column, justify="right")
    for one in (*figures.shares, figures.total):
        table.add_row(
            one.seat,
            one.purpose,
            f"{one.calls:.1f}",
            f"{one.prompt_tokens:,.0f}",
            f"{one.completion_tokens:,.0f}",
            f"{one.characters:,.0f}",
            f"{one.shared:.0%}",
            end_section=one is figures.shares[-1],
        )
    console.print(table)
    most = figures.highest_prompt_tokens
    line = f"highest of an episode: {most:,} prompt tokens"
    if figures.limit is not None:
        verdict = "ok" if most <= figures.limit else "OVER"
        line += f": {verdict} (budget {figures.limit:,}; the released code: about "
        line += f"{RELEASED_CODE:,}, {RELEASED_CODE / most:.1f} times as many)"
    console.print(line, "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; 1 when a budget is not kept."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tokens", description="Tokens an episode, by recipe and call."
    )
    parser.add_argument("--episodes", type=int, default=22, help="episodes a measurement")
    parser.add_argument("--recipe", action="append", help="name or FILE.toml; default: all named")
    parser.add_argument("--reply-words", type=int, default=REPLY_WORDS, help="words an answer")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    found = [
        measure(name, options.episodes, options.reply_words, worst_case=worst_case)
        for name in options.recipe or RECIPES
        for worst_case in (False, True)
    ]
    if options.json:
        result = {
            "reply_words": options.reply_words,
            "released_code_prompt_tokens": RELEASED_CODE,
            "recipes": [_plain(figures) for figures in found],
        }
        sys.stdout.write(json.dumps(result, indent=1) + "\n")
    else:
        console = Console(highlight=False)
        for figures in found:
            show(console, figures)
    kept = all(one.limit is None or one.highest_prompt_tokens <= one.limit for one in found)
    return 0 if kept else 1


def _plain(figures: Figures) -> dict[str, Any]:
    return {
        **figures._asdict(),
        "budget": figures.limit,
        "total": figures.total._asdict(),
        "shares": [one._asdict() for one in figures.shares],
    }


if __name__ == "__main__":
    sys.exit(main())
