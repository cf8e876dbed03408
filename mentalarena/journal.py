"""The journal: every answer that was paid for, under a key that comes from the state.

Why: an episode resumes, replays and is audited by running it again; answers come from here until
they end. A key depends on where in the episode a call stands, never on the order of arrival, and
each entry carries the hash of the prompt it answered, so that a changed prompt stops a replay
instead of passing silently.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Protocol

from mentalarena.budget import Meter
from mentalarena.errors import ReplayError
from mentalarena.rows import Row, Write

if TYPE_CHECKING:
    from mentalarena.store_api import EpisodeStore


def digest(value: object, length: int = 64) -> str:
    """SHA-256 (hex, ``length`` digits) of a value's canonical JSON."""
    canonical = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:length]


def journal_key(
    episode_id: str, attempt: int, node: str, visit: int, purpose: str, sample: int, reask: int
) -> str:
    """Key of one model call: 32 hex digits."""
    return digest([episode_id, attempt, node, visit, purpose, sample, reask], 32)


@dataclass(frozen=True, slots=True)
class Call:
    """One answered model call: a row of ``calls``."""

    id: str
    episode_id: str
    attempt: int
    step: int
    """Super-steps before it in the attempt: what a trajectory's calls are ordered by."""
    node: str
    visit: int
    sample: int
    reask: int
    seat: str
    purpose: str
    model: str
    """The spec that was asked for."""
    resolved_model: str
    """The name the server answered with."""
    template_hash: str
    prompt_hash: str
    prompt_tokens: int | None
    completion_tokens: int | None
    cost: float | None
    latency_ms: float
    attempts: int
    """Requests made for this answer, retries included."""
    answer: str
    """The raw text."""
    failure: str | None
    """Why this answer was refused (``parse: …``, ``empty: …``, ``role_flip: …``), if it was. Where
    no better one came it may have been taken all the same."""


_COLUMNS = tuple(field.name for field in fields(Call))

Messages = Sequence[Mapping[str, str]]
"""``{"role", "content"}`` mappings, as they are sent."""


class Journal(Protocol):
    """What the door to a model needs of a journal."""

    async def find(self, key: str, prompt_hash: str, messages: Messages = ()) -> Call | None:
        """The stored answer, or None. Raises ReplayError when it answered another prompt.

        The messages are what the hash was made of: no part of the look-up, but of an audit.
        """
        ...

    async def record(self, call: Call, template: tuple[str, str, str]) -> None:
        """Store an answer and its template (hash, name, text); returns once committed."""
        ...


class EpisodeJournal:
    """The journal of one episode, in the ``calls`` table of a store.

    What was stored before is read once, on the first look-up: a new episode costs one query, and
    a resumed one no more.
    """

    def __init__(
        self,
        store: "EpisodeStore",
        episode_id: str,
        known_templates: set[str],
        meter: Meter,
        before: Callable[[], Sequence[Write]] = tuple,
    ) -> None:
        self._store = store
        self._episode_id = episode_id
        self._known_templates = known_templates
        """Hashes of templates that this process has stored already; shared by its episodes."""
        self._meter = meter
        self._before = before
        """Takes what else is to be written, in the same batch, before the next answer."""
        self._calls: dict[str, Call] | None = None

    async def find(self, key: str, prompt_hash: str, messages: Messages = ()) -> Call | None:
        """See :class:`Journal`."""
        if self._calls is None:
            rows = await self._store.fetch_async(
                "select * from calls where episode_id = ?", (self._episode_id,)
            )
            self._calls = {row["id"]: Call(**{c: row[c] for c in _COLUMNS}) for row in rows}
        call = self._calls.get(key)
        if call is not None and call.prompt_hash != prompt_hash:
            raise ReplayError(
                f"call {key} ({call.seat}, {call.purpose}) of episode {call.episode_id} was made "
                f"with another prompt (stored hash {call.prompt_hash[:12]}, now {prompt_hash[:12]})"
                f": prompts or code changed; `mentalarena branch {call.episode_id} --db "
                f"{self._store.path}` goes on from there in a new episode"
            )
        if call is None:
            # What is not found here is about to be paid for.
            self._meter.check()
        return call

    async def record(self, call: Call, template: tuple[str, str, str]) -> None:
        """See :class:`Journal`."""
        cost = self._meter.cost_of(call.model, call.prompt_tokens, call.completion_tokens)
        call = replace(call, cost=cost)
        rows: list[Write] = [Row("calls", {name: getattr(call, name) for name in _COLUMNS})]
        digest_, name, text = template
        if digest_ not in self._known_templates:
            rows.insert(0, Row("templates", {"hash": digest_, "name": name, "text": text}))
        # It is paid for, stored or not: a budget that waited for the store would overrun by more.
        self._meter.spend(call.prompt_tokens, call.completion_tokens, cost, call.attempts)
        await self._store.write([*self._before(), *rows])
        self._known_templates.add(digest_)
        if self._calls is not None:
            self._calls[call.id] = call
