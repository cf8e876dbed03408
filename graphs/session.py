"""What an episode needs that is alive: the store, the seats, encoder, decoder and people.

Why: the graph's context holds plain strings and numbers (they are the form in LangGraph Studio), so
live objects are made from it once a process and found again here by every node.
"""

import asyncio
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from agents.prompting import STYLES, styles_text, template_hashes
from agents.registry import SeatSpec, seat
from agents.seats import JudgeSeat, ManagerSeat, PatientSeat, Place, TherapistSeat
from graphs.ledger import Ledger, keep_cases
from graphs.records import error_row
from graphs.state import Episode
from mentalarena.budget import Meter
from mentalarena.builtin_vectors import builtin_vectors
from mentalarena.case import Case
from mentalarena.comparison import builtin_peers
from mentalarena.config import ArenaConfig
from mentalarena.decoder import SymptomDecoder
from mentalarena.errors import BudgetError, CaseError, MentalArenaError, ReplayError, StoreError
from mentalarena.journal import EpisodeJournal, Journal, digest
from mentalarena.models import spec_identity
from mentalarena.roster import (
    Library,
    builtin_cases,
    find_case,
    read_case_file,
    read_library,
)
from mentalarena.similarity import SentenceEncoder
from mentalarena.store import Change, Row, Store, Write, open_store, utc_now
from mentalarena.store_api import EpisodeStore
from mentalarena.thresholds import Thresholds, read_thresholds

T = TypeVar("T")

_encoding = ThreadPoolExecutor(4, "encoding")
"""Threads that may wait for the sentence encoder; the others' work must not wait behind them."""

_MOST_PENDING = 100
"""Rows of one episode that may wait to be written with its next answer; rule-based seats give
none."""


class Parts(NamedTuple):
    """What a session is made of where it is not made from files on this machine."""

    store: EpisodeStore
    embedder: SentenceEncoder
    thresholds: Thresholds
    cases: Mapping[str, Case]
    library: Library


class Session:
    """Live objects of one configuration; made once a process, see :func:`session_for`."""

    def __init__(self, config: ArenaConfig, parts: Parts) -> None:
        self.config = config
        self.store, self.embedder, self.thresholds, self.cases, self.library = parts
        self._pending: dict[str, list[Write]] = {}
        self._journals: dict[str, EpisodeJournal] = {}
        self._known_templates: set[str] = set()
        self.meter = Meter()
        self.waiting = 0
        """Episodes that wait for the sentence encoder."""
        self.iteration = 0
        """Of the self-play loop that episodes are played for; set before the first one."""
        self.waits: Callable[[], None] = lambda: None
        """Called when one more does."""

    @cached_property
    def decoder(self) -> SymptomDecoder:
        """The Symptom Decoder, with the built-in patients to tell a record apart from."""
        peers = builtin_peers(builtin_cases(), self.library.groups)
        return SymptomDecoder(self.embedder, self.thresholds, peers)

    @cached_property
    def patient(self) -> PatientSeat:
        """Whoever sits on the patient's seat."""
        return seat("patient", self.config.patient, self.config)

    @cached_property
    def therapist(self) -> TherapistSeat:
        """Whoever sits on the therapist's seat."""
        return seat("therapist", self.config.therapist, self.config)

    @cached_property
    def manager(self) -> ManagerSeat:
        """Whoever sits on the manager's seat."""
        return seat("manager", self.config.manager, self.config)

    @cached_property
    def judge(self) -> JudgeSeat:
        """Whoever sits on the judge's seat."""
        return seat("judge", self.config.judge, self.config)

    @cached_property
    def identity(self) -> dict[str, object]:
        """Everything that makes an experiment what it is."""
        return {
            **self.config.identity(),
            "thresholds_hash": self.thresholds.hash,
            "encoder_hash": self.embedder.hash,
            "principles_hash": self.library.hash,
            "templates": template_hashes(),
            "cases": sorted(case.hash for case in self.cases.values()),
        }

    @cached_property
    def ledger(self) -> Ledger:
        """Runs, cases and episodes of this configuration."""
        styles = {"hash": digest(styles_text()), "name": STYLES, "text": styles_text()}
        limits = {
            "hash": self.thresholds.hash, "name": "thresholds", "text": self.thresholds.text,
        }  # fmt: skip
        library = {"hash": self.library.hash, "name": "principles", "text": self.library.text}
        return Ledger(
            self.store,
            self.identity,
            guidance=self.config.guidance,
            self_judged=self.self_judged,
            iteration=self.iteration,
            texts=(styles, limits, library),
        )

    @property
    def self_judged(self) -> bool:
        """Whether the model that judges also plays patient or therapist, however it is asked."""
        judge, *others = (
            SeatSpec.parse(spec_identity(spec)).model
            for spec in (self.config.judge, self.config.patient, self.config.therapist)
        )
        return judge is not None and any(
            other is not None
            and (other.provider, other.name, other.adapter)
            == (judge.provider, judge.name, judge.adapter)
            for other in others
        )

    def find_case(self, case_id: str) -> Case:
        """The case with this id: from the case file or the built-in ones, else from the store.

        Raises:
            UnknownCaseError: neither holds it.
        """
        if case_id not in self.cases:
            rows = self.store.fetch("select record from cases where id = ?", (case_id,))
            if rows:
                return Case.model_validate_json(rows[0]["record"])
        return find_case(case_id, self.cases.values())

    def place(self, state: Episode, node: str) -> Place:
        """Where in the episode ``node`` stands now."""
        return Place(
            episode_id=state["episode_id"],
            attempt=state["attempt"],
            node=node,
            visit=state["path"].count(node),
            step=len(state["path"]),
            seed=state["seed"],
            journal=self.journal(state["episode_id"]),
        )

    def journal(self, episode_id: str) -> Journal:
        """The journal of an episode that is being played."""
        if episode_id not in self._journals:
            self._journals[episode_id] = EpisodeJournal(
                self.store,
                episode_id,
                self._known_templates,
                self.meter,
                partial(self._take, episode_id),
            )
        return self._journals[episode_id]

    def forget(self, episode_id: str) -> None:
        """Let go of what was kept in memory for an episode that has ended."""
        self._journals.pop(episode_id, None)
        self._pending.pop(episode_id, None)

    def note(self, episode_id: str, row: Row) -> None:
        """Keep a row for the next :meth:`save` of this episode."""
        self._pending.setdefault(episode_id, []).append(row)

    async def save(self, episode_id: str, rows: Sequence[Write], *, at_once: bool) -> None:
        """Keep what a node added, together with what was noted.

        What a node adds follows from answers that are committed already, so it may wait for the
        next answer and be written with that: one wait for the disk a call instead of two. With
        ``at_once`` it returns once everything is committed.
        """
        pending = self._pending.setdefault(episode_id, [])
        pending += rows
        if at_once or len(pending) >= _MOST_PENDING:
            await self.store.write(self._take(episode_id))

    def _take(self, episode_id: str) -> list[Write]:
        return self._pending.pop(episode_id, [])

    async def encoding(self, work: Callable[[], T]) -> T:
        """What ``work``, which needs the sentence encoder, gives; in a thread.

        An episode that waits here asks no model: :attr:`waiting` tells how many do.
        """
        loop = asyncio.get_running_loop()
        self.waiting += 1
        self.waits()
        try:
            return await loop.run_in_executor(_encoding, copy_context().run, work)
        finally:
            self.waiting -= 1

    async def fail(self, episode_id: str, attempt: int, error: BaseException) -> None:
        """Record why an episode ended early; what it had reached stays."""
        stopped = isinstance(error, asyncio.CancelledError | KeyboardInterrupt | BudgetError)
        # The step that led here is kept too, unless it is what the store refused.
        refused = isinstance(error, StoreError)
        rows: list[Write] = [] if refused else [*self._pending.get(episode_id, ())]
        if not stopped:
            boundary = error.boundary if isinstance(error, MentalArenaError) else "internal"
            message = str(error) if isinstance(error, MentalArenaError) else _located(error)
            rows.append(
                error_row(episode_id, attempt, boundary, type(error).__name__, message, None)
            )
        # Nothing is wrong with an episode that was stopped, or whose replay was: it can go on.
        status = "aborted" if stopped or isinstance(error, ReplayError) else "failed"
        rows.append(
            Change("episodes", {"id": episode_id}, {"status": status, "finished_at": utc_now()})
        )
        self.forget(episode_id)
        # A store that refused the episode's rows will refuse these; its error is the one to show.
        with suppress(StoreError):
            await self.store.write(rows)

    def close(self) -> None:
        """Drain the writer and close the store, unless another session still uses it."""
        if _sessions.get(self.config) is self:
            del _sessions[self.config]
        if isinstance(self.store, Store):
            _release_store(self.config.db)


def _located(error: BaseException) -> str:
    """An unexpected error and the line it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{where}"


def _complain(config: ArenaConfig, complaints: Sequence[object], kept: int) -> str:
    lines = "; ".join(str(complaint) for complaint in complaints[:5])
    more = f"; and {len(complaints) - 5} more" if len(complaints) > 5 else ""
    keep = (
        f"{kept} good case{'s' if kept != 1 else ''} kept in {config.db}: play one with --case ID "
        "(without --cases), or mend the file and run again"
        if kept
        else "no case could be kept: mend the file and run again"
    )
    return f"{lines}{more} ({keep})"


_sessions: dict[ArenaConfig, Session] = {}
_stores: dict[Path, tuple[Store, int]] = {}
_lock = threading.RLock()


def _share_store(path: str) -> Store:
    """The process's one store, and so its one writer, for a file; counted by its users."""
    key = Path(path).resolve()
    with _lock:
        store, users = _stores.get(key) or (open_store(path), 0)
        _stores[key] = (store, users + 1)
        return store


def _release_store(path: str) -> None:
    key = Path(path).resolve()
    with _lock:
        store, users = _stores.pop(key)
        if users > 1:
            _stores[key] = (store, users - 1)
            return
    store.close()


def open_session(config: ArenaConfig) -> Session:
    """The process's session for this configuration, made on first use. Blocks.

    Raises:
        StoreError: the store cannot be opened.
        CaseError: the case file holds a case that cannot be used (the good ones are kept), or the
            principle file cannot be used.
        ConfigurationError: the threshold file cannot be used.
    """
    with _lock:
        if config not in _sessions:
            store = _share_store(config.db)
            try:
                embedder = SentenceEncoder(store, builtin_vectors())
                thresholds = read_thresholds(config.thresholds, embedder)
                library = read_library(config.principles)
                parts = Parts(store, embedder, thresholds, _read_cases(config, store), library)
                _sessions[config] = Session(config, parts)
            except BaseException:
                _release_store(config.db)
                raise
        return _sessions[config]


_chosen: ContextVar[Session | None] = ContextVar("_chosen", default=None)


@contextmanager
def using(session: Session) -> Iterator[None]:
    """Let the graph's nodes find this session, whatever the configuration; in this context only."""
    token = _chosen.set(session)
    try:
        yield
    finally:
        _chosen.reset(token)


def adopt_session(session: Session) -> None:
    """Make this the process's session for its configuration: what the graph's nodes will find."""
    with _lock:
        _sessions[session.config] = session


def _read_cases(config: ArenaConfig, store: Store) -> Mapping[str, Case]:
    if not config.cases:
        return builtin_cases()
    found = read_case_file(config.cases)
    if found.complaints:
        keep_cases(store, found.cases)
        raise CaseError(_complain(config, found.complaints, len(found.cases)))
    return {case.id: case for case in found.cases}


async def session_for(config: ArenaConfig | None) -> Session:
    """The same, without blocking the event loop; no context means the default configuration."""
    config = config or ArenaConfig()
    session = _chosen.get() or _sessions.get(config)
    return session if session is not None else await asyncio.to_thread(open_session, config)
