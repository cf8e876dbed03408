"""What played episodes say of a candidate: read from the store by SQL, counted by patient.

Why: the paper scored its therapist on examination questions only. Here held-out patients are
played, and what is counted is whether the patient was understood: at once, in the end, after how
many rounds, with which diagnosis, with plans of which worth. Episodes of one patient hang together,
so every interval is over patients.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, NamedTuple

import numpy as np

from mentalarena.case import COMPONENTS, Case
from mentalarena.errors import ConfigurationError
from mentalarena.similarity import Embedder
from mentalarena.store_api import ReadableStore
from training import statistics

Rows = Sequence[Mapping[str, Any]]


class Measure(NamedTuple):
    """One column of ``arena_measures``."""

    about: str
    share: bool
    """Whether an episode's value is from 0 to 1."""
    better: str
    """Which way is better: ``more``, ``less``, or empty where neither is."""


MEASURES: Final[Mapping[str, Measure]] = {
    "understanding_at_0": Measure("understanding (-1 to 1)", False, "more"),
    "components_at_0": Measure("components understood", True, "more"),
    "biases_at_0": Measure("components misread", True, "less"),
    "aligned_at_0": Measure("aligned as a whole", True, "more"),
    "aligned": Measure("aligned in some round", True, "more"),
    "rounds_to_alignment": Measure("rounds until aligned", False, "less"),
    "valid_format": Measure("readable at first asking", True, "more"),
    "stated_at_0": Measure("states something", True, ""),
    "diagnosis_exact": Measure("diagnosis: same code", True, "more"),
    "diagnosis_block": Measure("diagnosis: same block", True, "more"),
    "treatment_score": Measure("treatment score (to 10)", False, "more"),
    "medication_score": Measure("medication score (to 10)", False, "more"),
    "fidelity": Measure("fidelity of the patient", True, "more"),
    "crisis": Measure("crisis flagged", True, ""),
    "therapist_flips": Measure("therapist's role flips", True, "less"),
    "patient_flips": Measure("patient's role flips", True, "less"),
    "question_relevance": Measure("questions tied to what was said", True, "more"),
}
"""What is counted. The first decides: each component of the first formulation counts +1 when it was
understood and -1 when it was misread, so that guessing does not pay. Silence has a 0: a gain over
one who misreads, which is why ``stated_at_0`` stands beside it. What is counted of the first
formulation is counted among valid ones: one that could not be read at first asking has no value
there, and counts in ``valid_format`` alone."""

PRIMARY: Final = next(iter(MEASURES))

_ROWS: Final = "select * from arena_measures where run_id = ? order by case_id, sample"
_TURNS: Final = """
select t.speaker, t.text from turns t where t.episode_id = ? order by t.idx
"""


def measured(
    store: ReadableStore, run_id: str, cases: Mapping[str, Case], embedder: Embedder
) -> list[dict[str, Any]]:
    """One row an episode of a run: the view's columns, fidelity, and relevance of the questions.

    Args:
        store: Where the episodes are.
        run_id: The run.
        cases: Whose records the patient's words are compared with, by case id.
        embedder: What they are compared by.
    """
    rows = store.fetch(_ROWS, (run_id,))
    records = _records(cases, embedder)
    turns = {row["episode_id"]: store.fetch(_TURNS, (row["episode_id"],)) for row in rows}
    for row in rows:
        spoken = [t["text"] for t in turns[row["episode_id"]] if t["speaker"] == "patient"]
        row["fidelity"] = _fidelity(row["patient_id"], spoken, records, embedder)
    asked = [(row["patient_id"], _exchanges(turns[row["episode_id"]])) for row in rows]
    for row, relevance in zip(rows, _relevance(asked, embedder), strict=True):
        row["question_relevance"] = relevance
    return rows


def _exchanges(turns: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """What a patient said last, and what the therapist then asked."""
    return [
        (before["text"], turn["text"])
        for before, turn in pairwise(turns)
        if (before["speaker"], turn["speaker"]) == ("patient", "therapist")
    ]


def _relevance(
    dialogues: Sequence[tuple[str, Sequence[tuple[str, str]]]], embedder: Embedder
) -> list[float | None]:
    """How well questions are tied to what was said just before, for each dialogue.

    Of a question: the share of other patients' turns that fit it less well than the one that it
    answers; those that fit as well count half. So 0.5 is chance, whatever is asked of everybody.

    Args:
        dialogues: Whose it is, and for each question what the patient had said, and the question.
        embedder: What they are compared by.
    """
    said = [(patient, text) for patient, pairs in dialogues for text, _ in pairs]
    if not said:
        return [None for _ in dialogues]
    owners = np.array([patient for patient, _ in said])
    turns = embedder.vectors([text for _, text in said])
    questions = embedder.vectors([question for _, pairs in dialogues for _, question in pairs])
    # Rounded: equal texts must not be told apart by the order of a sum.
    fits = np.round(questions @ turns.T, 6)
    own = np.diagonal(fits)
    found: list[float | None] = []
    start = 0
    for patient, pairs in dialogues:
        others = owners != patient
        places = range(start, start + len(pairs))
        start += len(pairs)
        if not pairs or not others.any():
            found.append(None)
            continue
        shares = [
            np.mean((fits[place, others] < own[place]) + 0.5 * (fits[place, others] == own[place]))
            for place in places
        ]
        found.append(float(np.mean(shares)))
    return found


def _records(cases: Mapping[str, Case], embedder: Embedder) -> dict[str, Any]:
    """The vectors of every clause of each patient's records."""
    clauses: dict[str, dict[str, None]] = {}
    for case in cases.values():
        mine = clauses.setdefault(case.patient_id, {})
        for component in COMPONENTS[:-1]:
            mine |= dict.fromkeys(clause.text for clause in case.cognitive_model.clauses(component))
    return {patient: embedder.vectors(list(texts)) for patient, texts in clauses.items()}


def _fidelity(
    patient_id: str, spoken: Sequence[str], records: Mapping[str, Any], embedder: Embedder
) -> float | None:
    """Share of other patients whose record fits what was said less well than the patient's own.

    A record fits as well as its clauses do on average, each at its nearest turn. 0.5 is chance.
    """
    if not spoken or patient_id not in records or len(records) < 2:
        return None
    turns = embedder.vectors(list(spoken))
    fits = {name: float((found @ turns.T).max(axis=1).mean()) for name, found in records.items()}
    own = fits.pop(patient_id)
    return float(np.mean([other < own for other in fits.values()]))


def summary(rows: Rows) -> dict[str, Any]:
    """Everything that the episodes of one candidate say, ready for JSON."""
    patients = {row["patient_id"] for row in rows}
    found: dict[str, Any] = {
        "episodes": len(rows),
        "patients": len(patients),
        "failed": sum(row["status"] != "ok" for row in rows),
        "measures": {},
        "warnings": [],
    }
    for name, measure in MEASURES.items():
        known = [row for row in rows if row[name] is not None]
        if known:
            values = [float(row[name]) for row in known]
            clusters = [row["patient_id"] for row in known]
            estimate = statistics.mean(values, clusters, share=measure.share)
            found["measures"][name] = estimate.plain()
    if len(patients) < statistics.FEW_CLUSTERS:
        found["warnings"].append(
            f"{len(patients)} patients: intervals are over patients, by Student's t, and wide; "
            "more episodes of the same patients do not narrow them much"
        )
    if found["failed"]:
        found["warnings"].append(
            f"{found['failed']} of {len(rows)} episodes did not end; they count in what they "
            "reached"
        )
    return found


def compare(first: Rows, second: Rows) -> dict[str, Any]:
    """One candidate against another, paired by case and seed, ready for JSON.

    The primary measure was named beforehand and stands alone; the p values of all others are
    corrected among themselves (Holm).

    Raises:
        ConfigurationError: they did not play the same cases with the same seeds.
    """
    key = ("case_id", "sample", "seed")
    others = {tuple(row[name] for name in key): row for row in second}
    mine = {tuple(row[name] for name in key): row for row in first}
    if mine.keys() != others.keys():
        raise ConfigurationError(
            "--against: the two evaluations did not play the same cases with the same seeds: make "
            "them with the same --split, --samples, --cases and --seed"
        )
    found: dict[str, Any] = {}
    for name, measure in MEASURES.items():
        pairs = [
            (float(row[name]), float(others[place][name]), row["patient_id"])
            for place, row in mine.items()
            if row[name] is not None and others[place][name] is not None
        ]
        if not pairs:
            continue
        one, two, clusters = (list(column) for column in zip(*pairs, strict=True))
        result = statistics.paired(one, two, clusters)
        found[name] = {
            "difference": result.difference.plain(),
            "p": result.p,
            "test": result.test,
            "discordant": result.discordant,
            "detectable": result.detectable,
            "verdict": _verdict(result.difference, measure.better),
        }
    others_p = [one["p"] if name != PRIMARY else None for name, one in found.items()]
    for (name, one), corrected in zip(found.items(), statistics.holm(others_p), strict=True):
        one["p_holm"] = one["p"] if name == PRIMARY else corrected
    return {"primary": PRIMARY, "measures": found}


def _verdict(difference: statistics.Estimate, better: str) -> str:
    """Which of the two the interval calls better: ``first``, ``second`` or ``open``."""
    if difference.low is None or difference.high is None or not better:
        return "open"
    if difference.low <= 0 <= difference.high:
        return "open"
    more = difference.value > 0
    return "first" if more == (better == "more") else "second"
