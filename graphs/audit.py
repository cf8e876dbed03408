"""What each seat was shown: ``mentalarena show EPISODE --prompts``.

Why: a claim that a therapist did not see the record, or that two arms saw the same, should be
checked on the prompts themselves. They are not stored. They are rendered again, from the stored
templates, by running the stored episode again without a model (:mod:`graphs.replay`), and each is
compared with the hash that was stored with its answer. Nothing is written.

Run it: ``mentalarena show [EPISODE] --prompts [--seat SEAT] [--json]``.
"""

import asyncio
import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import click
from rich.console import Console
from rich.text import Text

from agents.prompting import stored_texts
from graphs.replay import NotStoredError, Origin, ReplaySession, StoredCall, in_order, read_origin
from mentalarena.errors import MentalArenaError
from mentalarena.journal import Call, Messages
from mentalarena.store_reader import StoreReader
from mentalarena.text import clean

MATCHES, DIFFERS, NOT_RENDERED = "matches", "DIFFERS", "NOT RENDERED"
_STYLES = {MATCHES: "green", DIFFERS: "bold red", NOT_RENDERED: "bold red"}


class Audited(NamedTuple):
    """One stored call, and the prompt it answered."""

    stored: StoredCall
    verdict: str
    messages: Messages
    """As rendered now; empty where the replay did not come to this call."""

    def plain(self) -> dict[str, Any]:
        """As JSON."""
        call = self.stored.call
        return {
            "call_id": call.id,
            "episode_id": call.episode_id,
            "attempt": call.attempt,
            "step": call.step,
            "node": call.node,
            "visit": call.visit,
            "seat": call.seat,
            "model": call.model,
            "purpose": call.purpose,
            "sample": call.sample,
            "reask": call.reask,
            "template": self.stored.template,
            "template_hash": call.template_hash,
            "prompt_hash": call.prompt_hash,
            "hash": self.verdict,
            "messages": [dict(message) for message in self.messages],
            "answer": call.answer,
            "failure": call.failure,
        }


class Audit(NamedTuple):
    """The calls of an episode in their order, and where each attempt's replay ended."""

    origin: Origin
    calls: list[Audited]
    endings: dict[int, str]
    """Attempt → why its replay ended early; attempts that came to the end are left out."""

    def wrong(self) -> str:
        """What is not as it was stored, in one line; empty when everything is."""
        differ = sum(one.verdict == DIFFERS for one in self.calls)
        missing = sum(one.verdict == NOT_RENDERED for one in self.calls)
        said = []
        if differ:
            said.append(f"{differ} of {len(self.calls)} prompts differ from what was sent")
        if missing:
            said.append(f"{missing} of {len(self.calls)} could not be rendered")
        if not said and self.origin.status == "ok" and self.origin.attempts in self.endings:
            said.append(f"the replay ended early: {self.endings[self.origin.attempts]}")
        return "; ".join(said)


async def audit_episode(store: StoreReader, episode_id: str) -> Audit:
    """Render every prompt of an episode again, attempt by attempt.

    Raises:
        ConfigurationError: the episode cannot be run again with this version and store.
    """
    origin = read_origin(store, episode_id)
    seen: dict[str, Audited] = {}
    endings: dict[int, str] = {}

    def look(stored: StoredCall, prompt_hash: str, messages: Messages) -> None:
        verdict = MATCHES if prompt_hash == stored.call.prompt_hash else DIFFERS
        seen[stored.call.id] = Audited(stored, verdict, messages)

    with stored_texts(origin.texts):
        for attempt in range(1, origin.attempts + 1):
            session = ReplaySession(origin, store, look)
            error = await session.replay(attempt)
            if error is not None:
                endings[attempt] = f"step {session.step}: {_why(error)}"
    # What an ancestor played after the branch is no part of this episode.
    own = [key for key, one in origin.calls.items() if one.call.episode_id == episode_id]
    for key in own:
        seen.setdefault(key, Audited(origin.calls[key], NOT_RENDERED, ()))
    shared = [one.stored.call for one in seen.values() if one.stored.call.episode_id != episode_id]
    played = [origin.calls[key].call for key in own]
    order = [*in_order(shared), *in_order(played)]
    return Audit(origin, [seen[call.id] for call in order], endings)


def _why(error: Exception) -> str:
    if isinstance(error, NotStoredError):
        return str(error)
    known = isinstance(error, MentalArenaError)
    return str(error) if known else f"{type(error).__name__}: {error}"


def show_prompts(store: StoreReader, episode_id: str, seat: str | None, as_json: bool) -> int:
    """Print the audit of an episode; 1 when a prompt differs or could not be rendered."""
    audit = asyncio.run(audit_episode(store, episode_id))
    if seat is not None:
        audit = audit._replace(calls=[one for one in audit.calls if one.stored.call.seat == seat])
    wrong = audit.wrong()
    if as_json:
        click.echo(json.dumps(_plain(audit, seat), ensure_ascii=False, indent=1))
    else:
        console = Console(highlight=False)
        for text in _render(audit, seat):
            console.print(text, soft_wrap=True)
    if wrong:
        click.echo(
            f"{wrong}: the code, the case or the journal is not what it was when episode "
            f"{episode_id} was played",
            err=True,
        )
        return 1
    return 0


def _plain(audit: Audit, seat: str | None) -> dict[str, Any]:
    origin = audit.origin
    return {
        "episode": origin.episode_id,
        "status": origin.status,
        "attempts": origin.attempts,
        "seat": seat,
        "rule_based": list(origin.rule_based()),
        "branched_from": [stretch._asdict() for stretch in origin.stretches],
        "ended": {str(attempt): why for attempt, why in audit.endings.items()},
        "differ": sum(one.verdict == DIFFERS for one in audit.calls),
        "not_rendered": sum(one.verdict == NOT_RENDERED for one in audit.calls),
        "calls": [one.plain() for one in audit.calls],
    }


def _render(audit: Audit, seat: str | None) -> Iterator[Text]:
    origin = audit.origin
    yield Text(f"episode {origin.episode_id}  {origin.status}", style="bold")
    for stretch in origin.stretches:
        yield Text(f"steps before {stretch.until} were played in {stretch.episode_id}", style="dim")
    if rules := origin.rule_based():
        yield Text(f"rule-based, so without model calls: {', '.join(rules)}", style="dim")
    if not audit.calls:
        whose = f"the {seat}" if seat else "the episode"
        yield Text(f"{whose} made no model call: there is no prompt to show")
    for one in audit.calls:
        yield from _block(one, origin.episode_id)
    for attempt, why in audit.endings.items():
        yield Text(f"\nattempt {attempt} could be rendered up to {clean(why)}", style="yellow")
    matching = sum(one.verdict == MATCHES for one in audit.calls)
    if audit.calls:
        yield Text(f"\n{matching} of {len(audit.calls)} prompts match their stored hash")


def _block(one: Audited, episode_id: str) -> Iterator[Text]:
    call = one.stored.call
    head = Text("\n")
    head.append(f"step {call.step}  {call.node}", style="bold")
    head.append(f"  {call.seat}: {call.purpose}{_numbers(call)}  template {one.stored.template}")
    head.append(f"  hash {one.verdict}", style=_STYLES[one.verdict])
    origin = "" if call.episode_id == episode_id else f"  from {call.episode_id}"
    head.append(f"  attempt {call.attempt}{origin}", style="dim")
    yield head
    for message in one.messages:
        yield Text(f"  {message['role']}", style="bold cyan")
        yield _indented(message["content"])
    yield Text("  answer", style="bold cyan")
    yield _indented(call.answer)
    if call.failure is not None:
        yield Text(f"  refused: {clean(call.failure)}", style="red")


def _numbers(call: Call) -> str:
    sample = f", sample {call.sample + 1}" if call.node == "score" else ""
    return sample + (f", asked again ({call.reask})" if call.reask else "")


def _indented(text: str) -> Text:
    """Whole and as it is: a prompt that was cut or wrapped could not be compared."""
    return Text("\n".join(f"    {line}" for line in clean(text).split("\n")))
