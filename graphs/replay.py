"""Running a stored episode again without a model: what audits and branches stand on.

Why: prompts are not stored. Whoever wants to know what a seat was shown, or up to where an episode
would still go as it went, runs it again through the same graph: answers come from the journal;
configuration, case, thresholds and prompt texts from the store; what the nodes write is dropped.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple, cast

from pydantic import ValidationError

from agents.prompting import STYLES
from agents.registry import is_rules, replayed_seat
from agents.seats import JudgeSeat, ManagerSeat, PatientSeat, Place, Seat, TherapistSeat
from graphs.episode import play_episode
from graphs.session import Parts, Session, using
from graphs.state import Claim, Episode
from mentalarena.builtin_vectors import builtin_vectors
from mentalarena.case import Case
from mentalarena.config import ArenaConfig
from mentalarena.errors import ConfigurationError, ReplayError
from mentalarena.journal import Call, Journal, Messages
from mentalarena.provider import Reply
from mentalarena.roster import Library, builtin_library
from mentalarena.rows import Write
from mentalarena.similarity import SentenceEncoder
from mentalarena.store import Store
from mentalarena.store_api import ReadableStore
from mentalarena.store_reader import StoreReader
from mentalarena.thresholds import Thresholds, read_thresholds

_DERIVED = frozenset({"thresholds_hash", "encoder_hash", "principles_hash", "templates", "cases"})
"""Keys of a run's identity that are no fields of its configuration."""


class NotStoredError(ReplayError):
    """A replay has come to a question whose answer the journal does not hold."""


class Stretch(NamedTuple):
    """What an episode shares with one that it descends from."""

    episode_id: str
    attempt: int
    seed: int
    until: int
    """Super-steps before this one were played there."""


class StoredCall(NamedTuple):
    """A row of the journal with the name of its template."""

    call: Call
    template: str


@dataclass(frozen=True, slots=True)
class Origin:
    """A stored episode, and all that it takes to run it again."""

    episode_id: str
    status: str
    attempts: int
    seed: int
    config: ArenaConfig
    case: Case
    thresholds: Thresholds
    library: Library
    texts: Mapping[str, str]
    """Prompt texts as they were, by template name."""
    calls: Mapping[str, StoredCall]
    """The journal of every attempt, and of the episodes it branched from, by key."""
    stretches: tuple[Stretch, ...]
    """Root first; empty for an episode that is no branch."""

    def rule_based(self) -> tuple[str, ...]:
        """The seats that make no model call."""
        seats = ("patient", "therapist", "manager", "judge")
        return tuple(seat for seat in seats if is_rules(getattr(self.config, seat)))


def read_origin(store: StoreReader | Store, episode_id: str) -> Origin:
    """Read a stored episode.

    Raises:
        ConfigurationError: it was played with what this version, or this store, does not have.
    """
    (episode,) = store.fetch(
        "select e.*, r.config, c.record from episodes e join runs r on r.id = e.run_id "
        "left join cases c on c.hash = e.case_hash where e.id = ?",
        (episode_id,),
    )
    if episode["record"] is None:
        raise ConfigurationError(f"episode {episode_id}: its case is not in {store.path} any more")
    stored = json.loads(episode["config"])
    stretches = _stretches(store, episode)
    ids = [*(stretch.episode_id for stretch in stretches), episode_id]
    calls, texts = _calls(store, ids)
    styles = _text(store, stored["templates"].get(STYLES))
    return Origin(
        episode_id=episode_id,
        status=episode["status"],
        attempts=episode["attempts"],
        seed=episode["seed"],
        config=_config(store, episode_id, stored),
        case=_case(episode_id, episode["record"]),
        thresholds=_thresholds(store, episode_id, stored),
        library=_library(store, episode_id, stored),
        texts=texts if styles is None else {**texts, STYLES: styles},
        calls=calls,
        stretches=stretches,
    )


def _case(episode_id: str, record: str) -> Case:
    try:
        return Case.model_validate_json(record)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(
            f"episode {episode_id}: this version cannot read its case (field {field}: "
            f"{first['msg']}): use the version that played it (runs.code_version)"
        ) from error


def _stretches(store: ReadableStore, episode: Mapping[str, Any]) -> tuple[Stretch, ...]:
    found: list[Stretch] = []
    child = episode
    while child["parent"] is not None:
        (parent,) = store.fetch("select * from episodes where id = ?", (child["parent"],))
        # A branch of a branch shares no more with the root than both agree on.
        until = min([child["branch_step"], *(stretch.until for stretch in found)])
        found.insert(0, Stretch(parent["id"], child["parent_attempt"], parent["seed"], until))
        child = parent
    return tuple(found)


def _config(store: ReadableStore, episode_id: str, stored: Mapping[str, Any]) -> ArenaConfig:
    known = {item.name for item in fields(ArenaConfig)}
    values = {key: value for key, value in stored.items() if key not in _DERIVED}
    if unknown := sorted(values.keys() - known):
        raise ConfigurationError(
            f"episode {episode_id} was played with {', '.join(unknown)}, which this version does "
            "not know: use the version that played it (runs.code_version)"
        )
    return ArenaConfig(db=str(store.path), **values)


def _thresholds(
    store: StoreReader | Store, episode_id: str, stored: Mapping[str, Any]
) -> Thresholds:
    built_in = read_thresholds("", SentenceEncoder())
    if stored["encoder_hash"] != built_in.encoder_hash:
        raise ConfigurationError(
            f"episode {episode_id} was played with another sentence encoder "
            f"({stored['encoder_hash'][:12]}), and its verdicts cannot be made again with this one "
            f"({built_in.encoder_hash[:12]})"
        )
    if stored["thresholds_hash"] == built_in.hash:
        return built_in
    text = _text(store, stored["thresholds_hash"])
    if text is None:
        raise ConfigurationError(
            f"episode {episode_id}: its thresholds ({stored['thresholds_hash'][:12]}) are not in "
            f"{store.path}, and the built-in ones are others"
        )
    try:
        return Thresholds.model_validate_json(text)
    except ValidationError as error:
        raise ConfigurationError(
            f"episode {episode_id}: this version cannot read its thresholds "
            f"({stored['thresholds_hash'][:12]}): use the version that played it "
            "(runs.code_version)"
        ) from error


def _library(store: ReadableStore, episode_id: str, stored: Mapping[str, Any]) -> Library:
    built_in = builtin_library()
    # Episodes from before principles could be chosen do not say which they had.
    hash_ = stored.get("principles_hash", built_in.hash)
    if hash_ == built_in.hash:
        return built_in
    text = _text(store, hash_)
    if text is None:
        raise ConfigurationError(
            f"episode {episode_id}: its behavior principles ({hash_[:12]}) are not in "
            f"{store.path}, and the built-in ones are others"
        )
    return Library.from_text(text, f"of episode {episode_id}")


def _text(store: ReadableStore, hash_: str | None) -> str | None:
    rows = store.fetch("select text from templates where hash = ?", (hash_,))
    return rows[0]["text"] if rows else None


def _calls(
    store: ReadableStore, ids: Sequence[str]
) -> tuple[dict[str, StoredCall], dict[str, str]]:
    columns = [item.name for item in fields(Call)]
    calls: dict[str, StoredCall] = {}
    texts: dict[str, str] = {}
    for episode_id in ids:
        rows = store.fetch(
            "select k.*, t.name as template, t.text from calls k join templates t "
            "on t.hash = k.template_hash where k.episode_id = ?",
            (episode_id,),
        )
        for row in rows:
            call = Call(**{column: row[column] for column in columns})
            calls[call.id] = StoredCall(call, row["template"])
            texts[row["template"]] = row["text"]
    return calls, texts


def placed(at: Place, stretches: Sequence[Stretch]) -> Place:
    """The place of a branch's step: one that it shares is the ancestor's, keys and draws alike."""
    for stretch in stretches:
        if at.step < stretch.until:
            return replace(
                at, episode_id=stretch.episode_id, attempt=stretch.attempt, seed=stretch.seed
            )
    return at


class _Unwritten:
    """A store that is read only: what a replay writes is there already, or belongs elsewhere."""

    def __init__(self, store: StoreReader | Store, into: Store | None) -> None:
        self.path = store.path
        self.fetch = store.fetch
        self.fetch_async = store.fetch_async
        self.vectors = store.vectors
        self._into = into

    async def write(self, rows: Sequence[Write]) -> None:
        """Hand them to the other store; without one, drop them."""
        if self._into is not None:
            await self._into.write(rows)

    def write_sync(self, rows: Sequence[Write]) -> None:
        """The same, blocking."""
        if self._into is not None:
            self._into.write_sync(rows)

    def put_vectors(self, encoder_hash: str, vectors: Mapping[str, bytes]) -> None:
        """Drop them."""


class _Nobody:
    """Sits where a model would: a replay finds every answer in the journal, or ends."""

    async def answer(
        self,
        messages: list[dict[str, str]],
        schema: dict[str, Any] | None = None,
        seed: int | None = None,
        grammar: str | None = None,
    ) -> Reply:
        """Never called: see :meth:`_StoredJournal.find`."""
        raise AssertionError("a replay asks nobody")


OnCall = Callable[[StoredCall, str, Messages], None]
"""Called with a stored call, the hash of the prompt as it is rendered now, and its messages."""


class _StoredJournal:
    """Answers from what was stored, whatever the prompt; ``on_call`` judges it."""

    def __init__(self, calls: Mapping[str, StoredCall], on_call: OnCall) -> None:
        self._stored = calls
        self._on_call = on_call

    async def find(self, key: str, prompt_hash: str, messages: Messages = ()) -> Call:
        """See :class:`mentalarena.journal.Journal`.

        Raises:
            NotStoredError: there is no answer under this key.
        """
        if key not in self._stored:
            raise NotStoredError("the next answer is not in the journal")
        found = self._stored[key]
        self._on_call(found, prompt_hash, messages)
        return found.call

    async def record(self, call: Call, template: tuple[str, str, str]) -> None:
        """Never called: nothing is asked."""
        raise AssertionError("a replay records nothing")


class ReplaySession(Session):
    """A session that plays a stored episode from its journal and writes nothing to its store.

    Args:
        origin: The episode.
        store: Where it is.
        on_call: Looks at every call; what it raises ends the replay.
        config: Another configuration than the stored one, to see how far that goes.
        thresholds: Likewise.
        into: Another store, for what the nodes write; by default it is dropped.
    """

    def __init__(
        self,
        origin: Origin,
        store: StoreReader | Store,
        on_call: OnCall,
        config: ArenaConfig | None = None,
        thresholds: Thresholds | None = None,
        into: Store | None = None,
    ) -> None:
        unwritten = _Unwritten(store, into)
        embedder = SentenceEncoder(unwritten, builtin_vectors())
        parts = Parts(
            unwritten,
            embedder,
            thresholds or origin.thresholds,
            {origin.case.id: origin.case},
            origin.library,
        )
        super().__init__(config or origin.config, parts)
        self.origin = origin
        self._answers = _StoredJournal(origin.calls, on_call)
        self.step = 0
        """The super-step that was begun last."""
        self.node = ""
        """Its node."""

    def place(self, state: Episode, node: str) -> Place:
        """As in any session; a step that the episode shares is placed where it was played."""
        at = super().place(state, node)
        self.step, self.node = at.step, node
        return placed(at, self.origin.stretches)

    def journal(self, episode_id: str) -> Journal:
        """The stored journal."""
        return self._answers

    def seat(self, role: Seat) -> Any:
        """Whoever sits on a seat, with nobody behind it."""
        return replayed_seat(role, getattr(self.config, role), _Nobody())

    @property
    def patient(self) -> PatientSeat:
        """See :class:`Session`."""
        return cast(PatientSeat, self.seat("patient"))

    @property
    def therapist(self) -> TherapistSeat:
        """See :class:`Session`."""
        return cast(TherapistSeat, self.seat("therapist"))

    @property
    def manager(self) -> ManagerSeat:
        """See :class:`Session`."""
        return cast(ManagerSeat, self.seat("manager"))

    @property
    def judge(self) -> JudgeSeat:
        """See :class:`Session`."""
        return cast(JudgeSeat, self.seat("judge"))

    async def replay(self, attempt: int) -> Exception | None:
        """Run one attempt as far as it goes; what ended it, or None when it came to its end."""
        origin = self.origin
        claim: Claim = {"episode_id": origin.episode_id, "attempt": attempt}
        with using(self):
            return (await play_episode(self, origin.case, origin.seed, claim)).error


def in_order(calls: Iterable[Call]) -> list[Call]:
    """Calls of one attempt as an episode asks them."""
    return sorted(calls, key=lambda c: (c.attempt, c.step, c.node, c.purpose, c.sample, c.reask))
