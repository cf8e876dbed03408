"""How good the measures of ``mentalarena fidelity`` are, where the truth is known.

Why: for a model patient nobody knows which clauses a turn tells; the sentence encoder guesses. A
rule-based patient says exactly what it told, in sentences that were written apart from the record's
wording, so its turns show how far the guess can be trusted. Distorted statements of the frozen
pairs (``mentalarena/data/pairs``) show how much the search for contradictions misses.

How to run::

    python -m benchmarks.fidelity --db PATH [--run NAME] [--episodes 102] [--seed 1] [--json]

Plays what is missing of a run of rule-based seats in the store at PATH, unless ``--run`` names one.
The threshold is the one at which the mean share of clauses told in a turn is right over train and
dev patients; the figures are those of test patients at the threshold that the project uses.
``persona``: the share of turns that are nearer to their own record than to half of the others',
beside the same turns laid to the charge of another patient. Intervals are clustered by patient.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from mentalarena.builtin_vectors import builtin_vectors
from mentalarena.case import CLOSED_LISTS, Case, Component
from mentalarena.clusters import Clustered, add_up, ratio
from mentalarena.fidelity import CONTRADICTS_AT, DISCLOSED_AT, Reader, negated
from mentalarena.roster import builtin_cases
from mentalarena.similarity import Embedder, SentenceEncoder
from mentalarena.store import Store, open_store

THRESHOLDS = tuple(round(0.2 + 0.0125 * step, 4) for step in range(33))
_TURNS = """
select c.patient_id, c.split, e.case_id, e.id as episode_id, t.text, t.disclosed
from turns t join episodes e on e.id = t.episode_id join cases c on c.id = e.case_id
where e.run_id = ? and e.status = 'ok' and t.speaker = 'patient' and t.disclosed is not null
  and e.sample < ?
"""


class Turn(NamedTuple):
    """One turn: which clauses it told, and how near it is to each."""

    patient: str
    split: str
    case: str
    text: str
    told: np.ndarray[Any, Any]
    """Per clause, whether the seat says that it told it."""
    near: np.ndarray[Any, Any]
    """Per clause, the cosine of the nearest sentence."""


def play(options: argparse.Namespace) -> str:
    """Play what is missing of a run of rule-based seats; its name.

    Raises:
        SystemExit: the batch did not end well.
    """
    command = [
        sys.executable, "-m", "mentalarena.cli", "batch", "--db", options.db, "--run", "fidelity",
        "--model", "rules", "--episodes", str(options.episodes), "--seed", str(options.seed),
        "--quiet", "--json",
    ]  # fmt: skip
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return "fidelity"


def read_turns(store: Store, run: str, reader: Reader, samples: int) -> list[Turn]:
    """The turns of a run whose seat says what it told."""
    found = []
    for row in store.fetch(_TURNS, (run, samples)):
        keys = list(reader.clauses(row["case_id"]))
        told = {key.removesuffix(":made") for key in json.loads(row["disclosed"])}
        found.append(
            Turn(
                row["patient_id"],
                row["split"],
                row["case_id"],
                row["text"],
                np.array([key in told for key in keys]),
                reader.nearness(row["case_id"], row["text"]),
            )
        )
    return found


def fair_threshold(turns: Sequence[Turn]) -> float:
    """The threshold at which the mean share of clauses a turn is what the seats say it is."""
    exact = float(np.mean([turn.told.mean() for turn in turns]))

    def off(threshold: float) -> float:
        return abs(float(np.mean([(turn.near >= threshold).mean() for turn in turns])) - exact)

    return min(THRESHOLDS, key=off)


def disclosure(turns: Sequence[Turn], threshold: float) -> dict[str, Clustered | float | None]:
    """Precision, recall and shares at a threshold."""
    rows = [(turn, turn.near >= threshold) for turn in turns]
    exact = [float(turn.told.mean()) for turn in turns]
    estimate = [float(said.mean()) for _, said in rows]
    return {
        "precision": ratio(
            add_up([(t.patient, float((s & t.told).sum()), float(s.sum())) for t, s in rows])
        ),
        "recall": ratio(
            add_up([(t.patient, float((s & t.told).sum()), float(t.told.sum())) for t, s in rows])
        ),
        "share of clauses a turn, exact": ratio(
            add_up([(t.patient, e, 1) for t, e in zip(turns, exact, strict=True)])
        ),
        "share of clauses a turn, estimate": ratio(
            add_up([(t.patient, e, 1) for t, e in zip(turns, estimate, strict=True)])
        ),
        "rank correlation of shares over turns": round(
            float(spearmanr(exact, estimate).statistic), 3
        ),
    }


def persona(turns: Sequence[Turn], reader: Reader) -> dict[str, Clustered | None]:
    """Turns nearer to their own record than to half of the others', and the same when laid astray.

    Only turns that told something count: small talk is nobody's.
    """
    telling = [turn for turn in turns if turn.told.any()][:600]
    patients = sorted({turn.patient for turn in telling})
    case_of = {turn.patient: turn.case for turn in telling}
    own, astray = [], []
    for turn in telling:
        other = case_of[patients[(patients.index(turn.patient) + 1) % len(patients)]]
        for case, rows in ((turn.case, own), (other, astray)):
            value = reader.read(case, turn.text).persona
            rows.append((turn.patient, float(value is not None and value < 0.5), 1.0))
    return {
        "nearer to their own record": ratio(add_up(own)),
        "laid to another patient": ratio(add_up(astray)),
    }


def contradictions(cases: Mapping[str, Case], embedder: Embedder) -> dict[str, Clustered | None]:
    """Share of statements that would be kept as contradictions, by what they are."""
    rows: dict[str, list[tuple[str, float, float]]] = {}
    folder = files("mentalarena") / "data" / "pairs"
    for path in sorted(folder.iterdir(), key=lambda p: p.name):
        data = json.loads(path.read_text("utf-8"))
        for pair in data.get("pairs", ()) if "patient" in data else ():
            component = Component(pair["component"])
            case = cases.get(pair.get("case", ""))
            if case is None or component in CLOSED_LISTS or len(pair.get("clauses", ())) != 1:
                continue
            (clause,) = (case.cognitive_model.clauses(component)[i] for i in pair["clauses"])
            kind = pair.get("form") or "right (partial)"
            near = embedder.vectors([pair["statement"], clause.text])
            kept = (
                float(near[0] @ near[1]) >= CONTRADICTS_AT
                and len({negated(clause.text), *map(negated, clause.utterances)}) == 1
                and negated(pair["statement"]) != negated(clause.text)
            )
            rows.setdefault(kind, []).append((data["patient"], float(kept), 1.0))
    return {kind: ratio(add_up(found)) for kind, found in sorted(rows.items())}


def kept_of_rules(turns: Sequence[Turn], reader: Reader) -> Clustered | None:
    """Share of a rule-based patient's turns that are kept: all of them wrongly."""
    return ratio(
        add_up(
            [(t.patient, float(bool(reader.read(t.case, t.text).contradicted)), 1.0) for t in turns]
        )
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Play, measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--db", required=True, help="path of the store to play into")
    parser.add_argument(
        "--run", help="a run of the store with rule-based patients; else one is played"
    )
    parser.add_argument("--episodes", type=int, default=102)
    parser.add_argument(
        "--samples", type=int, default=2, help="episodes of each case that are read"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    run = options.run or play(options)
    cases = builtin_cases()
    with open_store(options.db) as store:
        embedder = SentenceEncoder(cache=store, known=builtin_vectors())
        reader = Reader(cases.values(), embedder)
        turns = read_turns(store, run, reader, options.samples)
        tuning = [turn for turn in turns if turn.split != "test"]
        held_out = [turn for turn in turns if turn.split == "test"]
        found: dict[str, Any] = {
            "turns": {"train and dev": len(tuning), "test": len(held_out)},
            "fair threshold, train and dev": fair_threshold(tuning),
            "threshold in use": DISCLOSED_AT,
            "disclosure, test": disclosure(held_out, DISCLOSED_AT),
            "persona, test": persona(held_out, reader),
            "kept as contradiction": {
                **contradictions(cases, embedder),
                "a turn of a rule-based patient, test": kept_of_rules(held_out, reader),
            },
        }
    if options.json:
        plain = json.loads(json.dumps(found, default=str))
        sys.stdout.write(json.dumps(plain, indent=1) + "\n")
        return
    console = Console(highlight=False)
    for name, value in found.items():
        if not isinstance(value, dict):
            console.print(f"{name}: {value}")
            continue
        table = Table(name, "share (95 %)", "n", "patients")
        for row, figure in value.items():
            if isinstance(figure, Clustered):
                table.add_row(row, str(figure), f"{figure.n:.0f}", str(figure.patients))
            else:
                table.add_row(row, str(figure), "", "")
        console.print(table)


if __name__ == "__main__":
    main()
