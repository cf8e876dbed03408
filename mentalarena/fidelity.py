"""How far a patient kept to its record: ``mentalarena fidelity``.

Why: model patients tell too much at once, drift into somebody else, deny what they hold, and take
the therapist's part. Each of these can be counted from stored turns, for any seat, and two runs
(say of two models) can be set side by side on the same patients.

Measures, turn by turn (table ``fidelity``; how good they are: ``python -m benchmarks.fidelity``):

* disclosure: the record's clauses that some sentence of the turn, or two in a row, comes near to
  by the sentence encoder, less what all built-in texts have in common (their mean vector). Core
  beliefs and emotions, which are labels, are left out. On average that is right for rule-based
  patients, which also say exactly what they disclosed (``turns.disclosed``); for a single clause it
  is wrong more often than right.
* persona: the share of the other patients in the store whose record holds a clause to which the
  turn is at least as near as to the nearest of its own record. Drift is the mean of the later half
  of a patient's turns less that of the earlier half.
* contradiction: a sentence that is near to a clause and has a negation where the clause and its
  utterances have none, or the reverse. A crude sign, kept to be read, not to be believed.
* role flips, as the seats' own check stored them (``turns.role_flip``).

How to run: ``mentalarena fidelity [RUN ...] [--db PATH] [--json]``; with two runs the last column
is the second less the first, over the patients that both have played.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import click
import numpy as np
from rich.console import Console
from rich.table import Table

from mentalarena.builtin_vectors import builtin_vectors
from mentalarena.case import CLOSED_LISTS, Case, Component
from mentalarena.clusters import Clustered, add_up, difference, ratio
from mentalarena.config import DEFAULT_DB
from mentalarena.errors import StoreError
from mentalarena.similarity import Embedder, SentenceEncoder
from mentalarena.store import Row, Store, open_store

DISCLOSED_AT: Final = 0.3375
"""Cosine, less the common part, from which a sentence counts as telling a clause: tuned on train
and dev patients by ``benchmarks/fidelity.py``."""
CONTRADICTS_AT: Final = 0.5
"""Plain cosine from which a sentence of the other polarity is kept to be read: at 0.3, every third
turn of a rule-based patient would be, which never contradicts its record."""

_NEGATIONS = re.compile(
    r"\b(?:not|never|no|nobody|none|nothing|neither|nor|cannot|without|hardly|\w+n't)\b"
)


class Told(NamedTuple):
    """What one turn tells of a record."""

    estimated: tuple[str, ...]
    """Clauses, ``topic:index``."""
    persona: float | None
    contradicted: tuple[dict[str, Any], ...]


def record_clauses(case: Case) -> dict[str, str]:
    """The clauses of a record that are sentences, by ``topic:index``."""
    topics: dict[str, Any] = {"situation": case.situation, "history": case.history}
    for component in Component:
        if component not in CLOSED_LISTS and component is not Component.BEHAVIOR_PRINCIPLES:
            topics[component.value] = case.cognitive_model.clauses(component)
    return {
        f"{topic}:{index}": clause.text
        for topic, clauses in topics.items()
        for index, clause in enumerate(clauses)
    }


def units(text: str) -> list[str]:
    """The sentences of a turn, and each two that follow one another."""
    single = [s for s in re.split(r"(?<=[.!?\u2026])\s+", text.strip()) if re.search(r"\w", s)]
    return single + [f"{a} {b}" for a, b in pairwise(single)]


def negated(text: str) -> bool:
    """Whether a sentence has an odd number of negations."""
    return len(_NEGATIONS.findall(text.lower().replace("\u2019", "'"))) % 2 == 1


class Reader:
    """Compares turns with records.

    Args:
        cases: every case that a turn may belong to; the others of them are its rivals.
        embedder: makes the vectors.
    """

    def __init__(self, cases: Iterable[Case], embedder: Embedder) -> None:
        self._embedder = embedder
        self._cases = {case.id: case for case in cases}
        self._clauses = {case.id: record_clauses(case) for case in self._cases.values()}
        self._vectors = {
            case_id: embedder.vectors(list(clauses.values()))
            for case_id, clauses in self._clauses.items()
        }
        known = builtin_vectors()
        # With another encoder the shipped vectors mean nothing, and nothing is taken away.
        self._common = (
            np.mean(list(known.values()), axis=0)
            if known and embedder.hash == SentenceEncoder.hash
            else np.float32(0)
        )
        self._polarity = {
            case.id: _polarities(case, self._clauses[case.id]) for case in self._cases.values()
        }

    def clauses(self, case_id: str) -> Mapping[str, str]:
        """The clauses of one case, by ``topic:index``."""
        return self._clauses[case_id]

    def nearness(self, case_id: str, text: str) -> np.ndarray[Any, Any]:
        """Per clause of a case, the cosine of the nearest unit of a turn, less the common part."""
        said = units(text)
        if not said:
            return np.zeros(len(self._clauses[case_id]), dtype=np.float32)
        return self._near(case_id, self._embedder.vectors(said))

    def _near(self, case_id: str, vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        clauses, said = (self._own(v) for v in (self._vectors[case_id], vectors))
        return np.asarray((clauses @ said.T).max(axis=1))

    def _own(self, vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        less = vectors - self._common
        return np.asarray(less / np.linalg.norm(less, axis=1, keepdims=True).clip(min=1e-9))

    def read(self, case_id: str, text: str, threshold: float = DISCLOSED_AT) -> Told:
        """What one turn tells of its own record, and of how many others as much."""
        said = units(text)
        keys = list(self._clauses[case_id])
        if not said:
            return Told((), None, ())
        vectors = self._embedder.vectors(said)
        cosines = self._vectors[case_id] @ vectors.T
        nearest = cosines.max(axis=1)
        near = self._near(case_id, vectors)
        estimated = tuple(
            key for key, cosine in zip(keys, near, strict=True) if cosine >= threshold
        )
        contradicted = []
        for index, key in enumerate(keys):
            unit = int(cosines[index].argmax())
            polarity = self._polarity[case_id][key]
            if (
                cosines[index, unit] >= CONTRADICTS_AT
                and polarity is not None
                and negated(said[unit]) != polarity
            ):
                contradicted.append(
                    {
                        "sentence": said[unit],
                        "clause": key,
                        "cosine": round(float(cosines[index, unit]), 4),
                    }
                )
        return Told(estimated, self._persona(case_id, vectors, nearest), tuple(contradicted))

    def _persona(
        self, case_id: str, vectors: np.ndarray[Any, Any], own: np.ndarray[Any, Any]
    ) -> float | None:
        patient = self._cases[case_id].patient_id
        best: dict[str, float] = {}
        for other, clauses in self._vectors.items():
            rival = self._cases[other].patient_id
            if rival != patient:
                best[rival] = max(best.get(rival, -1.0), float((clauses @ vectors.T).max()))
        if not best:
            return None
        return round(sum(value >= float(own.max()) for value in best.values()) / len(best), 4)


def _polarities(case: Case, clauses: Mapping[str, str]) -> dict[str, bool | None]:
    """Whether each clause is negated; None where its own utterances are of both kinds."""
    said: dict[str, bool | None] = {}
    for key, text in clauses.items():
        topic, index = key.split(":")
        sources: Any = (
            getattr(case, topic)
            if topic in ("situation", "history")
            else case.cognitive_model.clauses(Component(topic))
        )
        kinds = {negated(text), *(negated(way) for way in sources[int(index)].utterances)}
        said[key] = kinds.pop() if len(kinds) == 1 else None
    return said


def fill(store: Store, runs: Sequence[str], embedder: Embedder) -> int:
    """Measure the complete episodes of runs that were not measured yet; returns how many."""
    rows = store.fetch(
        "select e.id, e.case_id from episodes e where e.status = 'ok' and e.run_id in"
        " (select value from json_each(?)) and not exists (select 1 from fidelity f"
        " where f.episode_id = e.id and f.encoder_hash = ? and f.threshold = ?)",
        (json.dumps(list(runs)), embedder.hash, DISCLOSED_AT),
    )
    if not rows:
        return 0
    stored = store.fetch("select record from cases")
    reader = Reader([Case.model_validate_json(row["record"]) for row in stored], embedder)
    for episode in rows:
        turns = store.fetch(
            "select idx, text from turns where episode_id = ? and speaker = 'patient'",
            (episode["id"],),
        )
        store.write_sync(list(_rows(reader, episode, turns, embedder.hash)))
    return len(rows)


def _rows(
    reader: Reader,
    episode: Mapping[str, Any],
    turns: Sequence[Mapping[str, Any]],
    encoder_hash: str,
) -> Iterator[Row]:
    for turn in turns:
        told = reader.read(episode["case_id"], turn["text"])
        yield Row(
            "fidelity",
            {
                "episode_id": episode["id"],
                "idx": turn["idx"],
                "clauses": len(reader.clauses(episode["case_id"])),
                "estimated": list(told.estimated),
                "threshold": DISCLOSED_AT,
                "persona": told.persona,
                "contradicted": list(told.contradicted),
                "words": len(turn["text"].split()),
                "encoder_hash": encoder_hash,
            },
        )


_TURNS: Final = """
select c.patient_id, f.episode_id, f.idx, f.clauses, f.estimated, f.persona, f.words,
  json_array_length(f.contradicted) as contradicted, t.disclosed, t.role_flip
from fidelity f
join turns t using (episode_id, idx)
join episodes e on e.id = f.episode_id
join cases c on c.id = e.case_id
where e.run_id = ? and e.status = 'ok'
order by f.episode_id, f.idx
"""

Sums = dict[str, dict[str, tuple[float, float]]]
"""By measure, then by patient: what is divided by what."""


def sums(store: Store, run: str) -> Sums:
    """The sums of one run, from which its figures and differences are made."""
    rows = store.fetch(_TURNS, (run,))
    parts: dict[str, list[tuple[str, float, float]]] = {}

    def add(measure: str, patient: str, part: float, whole: float = 1.0) -> None:
        parts.setdefault(measure, []).append((patient, part, whole))

    episodes: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        episodes.setdefault(row["episode_id"], []).append(row)
    for turns in episodes.values():
        patient, clauses = turns[0]["patient_id"], turns[0]["clauses"]
        told: set[str] = set()
        for position, turn in enumerate(turns):
            estimated = json.loads(turn["estimated"])
            told.update(estimated)
            add("disclosed a turn, estimate", patient, len(estimated) / clauses)
            if position == 0:
                add("disclosed at once (opening), estimate", patient, len(estimated) / clauses)
            if turn["disclosed"] is not None:
                exact = {key.removesuffix(":made") for key in json.loads(turn["disclosed"])}
                known = [key for key in exact if key.split(":")[0] not in _LABELS]
                add("disclosed a turn, the seat's own account", patient, len(known) / clauses)
            add("words a turn", patient, turn["words"])
            if turn["persona"] is not None:
                add("as near to other patients", patient, turn["persona"])
            add("to be read for contradiction, a turn", patient, turn["contradicted"])
            add("role flips, a turn", patient, turn["role_flip"])
        add("disclosed by the end, estimate", patient, len(told) / clauses)
        if (drift := _drift([turn["persona"] for turn in turns])) is not None:
            add("drift towards other patients", patient, drift)
    return {measure: add_up(found) for measure, found in parts.items()}


_LABELS: Final = frozenset(
    {*(component.value for component in CLOSED_LISTS), Component.BEHAVIOR_PRINCIPLES.value}
)


def _drift(persona: Sequence[float | None]) -> float | None:
    """Mean of the later half less that of the earlier one."""
    known = [value for value in persona if value is not None]
    if len(known) < 2:
        return None
    half = len(known) // 2
    return float(np.mean(known[-half:]) - np.mean(known[:half]))


def compare_runs(store: Store, runs: Sequence[str]) -> dict[str, dict[str, Clustered | None]]:
    """By measure: the figure of each run and, for two runs, ``difference``."""
    found = {run: sums(store, run) for run in runs}
    measures = list(dict.fromkeys(measure for one in found.values() for measure in one))
    table: dict[str, dict[str, Clustered | None]] = {}
    for measure in measures:
        table[measure] = {run: ratio(found[run].get(measure, {})) for run in runs}
        if len(runs) == 2:
            first, second = (found[run].get(measure, {}) for run in runs)
            table[measure]["difference"] = difference(first, second)
    return table


def _known_runs(store: Store, wanted: Sequence[str]) -> list[str]:
    rows = store.fetch(
        "select r.id from runs r where exists (select 1 from episodes e where e.run_id = r.id"
        " and e.status = 'ok') order by r.created_at desc, r.id"
    )
    known = [str(row["id"]) for row in rows]
    if not known:
        raise StoreError(f"{store.path} holds no complete episode yet: play one first")
    for run in wanted:
        if run not in known:
            raise StoreError(
                f"RUN {run!r}: {store.path} holds complete episodes of {', '.join(known[:8])}"
            )
    return list(dict.fromkeys(wanted)) or known[:1]


@click.command("fidelity")
@click.argument("runs", nargs=-1, metavar="[RUN]...")
@click.option("--db", default=DEFAULT_DB, envvar="MENTALARENA_DB", show_default=True,
              metavar="PATH", help="Path of the store.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, envvar="MENTALARENA_JSON",
              help="Print one JSON object.")  # fmt: skip
def fidelity(runs: tuple[str, ...], db: str, as_json: bool) -> int:
    """How far patients kept to their record: the last run, or the RUNs side by side.

    Turns that were not measured yet are measured and stored. Intervals (95 %) are over patients;
    with two runs the last column is the second less the first, paired by patient.
    """
    with open_store(db) as store:
        chosen = _known_runs(store, runs)
        embedder = SentenceEncoder(cache=store, known=builtin_vectors())
        measured = fill(store, chosen, embedder)
        table = compare_runs(store, chosen)
    if as_json:
        plain = {
            measure: {run: value._asdict() if value else None for run, value in row.items()}
            for measure, row in table.items()
        }
        found = {"measured_now": measured, "threshold": DISCLOSED_AT, "measures": plain}
        click.echo(json.dumps(found, indent=1))
        return 0
    shown = Table("a mean over patients (95 %)", *chosen, *(["difference"] * (len(chosen) == 2)))
    for measure, row in table.items():
        shown.add_row(measure, *(str(value) if value else "-" for value in row.values()))
    Console(highlight=False).print(shown)
    return 0
