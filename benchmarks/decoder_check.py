"""How the Symptom Decoder judges statements that are known to be right or wrong. Provisional.

Why: thresholds are set with the built-in train and dev patients; what they do to people they were
not set with has to be looked at. Here it is the built-in *test* patients, too few for more than a
first look: a calibration in earnest needs more people and statements that others wrote.

How to run::

    python -m benchmarks.decoder_check --json

A right formulation of a case states every open component in its patient's utterances (the first
ones, the last ones, or the first ones without the last clause) and the closed lists by their
labels. A wrong one is another test patient's. All quotes are real, so that figures alone decide.
Closed lists in the patient's own words are given apart: prompts ask for labels.
"""

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mentalarena.builtin_vectors import builtin_vectors
from mentalarena.calibration import peers, ranked_against, read_thresholds
from mentalarena.case import CLOSED_LISTS, COMPONENTS, Case, Component
from mentalarena.decoder import SymptomDecoder
from mentalarena.encoder import candidates, encode
from mentalarena.roster import builtin_cases, principle_groups
from mentalarena.similarity import Embedder, SentenceEncoder

VERDICTS = ("aligned", "unclear", "distorted")
TRUTHS = ("right", "wrong")


class Said(NamedTuple):
    """A statement and the turns it rests on."""

    statement: str
    quotes: tuple[str, ...]


Told = dict[Component, Said]


def formulations(case: Case, embedder: Embedder, *, labels: bool = True) -> list[Told]:
    """The right formulations of a case: first utterances, last ones, and first ones but one.

    Args:
        case: whose record it is.
        embedder: finds the behavior principle.
        labels: state closed lists by their labels; else in the patient's utterances.
    """
    principle = candidates(case, principle_groups(), embedder)[0][0]
    ways: list[Told] = [{}, {}, {}]
    for component in COMPONENTS:
        if component is Component.BEHAVIOR_PRINCIPLES:
            clauses = [(principle.text, principle.utterances)]
        else:
            held = case.cognitive_model.clauses(component)
            clauses = [(clause.text, clause.utterances) for clause in held]
        partial = clauses[:-1] if len(clauses) > 1 else clauses
        for told, part, which in zip(ways, (clauses, clauses, partial), (0, -1, 0), strict=True):
            quotes = tuple(utterances[which] for _, utterances in part)
            names = labels and component in CLOSED_LISTS
            statement = "; ".join(text for text, _ in part) if names else " ".join(quotes)
            told[component] = Said(statement, quotes)
    return ways


class Count:
    """Verdicts and decisions, by truth."""

    def __init__(self) -> None:
        self.verdicts: Counter[tuple[Component, str, str]] = Counter()
        self.outcomes: Counter[tuple[str, str]] = Counter()

    def shares(self, components: Sequence[Component], truth: str) -> dict[str, float | int]:
        """Share of each verdict over these components, and n."""
        found = {v: sum(self.verdicts[c, truth, v] for c in components) for v in VERDICTS}
        n = sum(found.values())
        return {v: round(number / n, 3) for v, number in found.items()} | {"n": n}

    def biased(self, truth: str) -> dict[str, float | int]:
        """Share of whole formulations that are rerouted as biased, and n."""
        n = sum(number for (kind, _), number in self.outcomes.items() if kind == truth)
        return {"biased": round(self.outcomes[truth, "biased"] / n, 3), "n": n}


def count(
    cases: Sequence[Case], decoder: SymptomDecoder, embedder: Embedder, *, labels: bool = True
) -> Count:
    """Judge every right formulation against its own case and those of other patients."""
    told = {case.id: formulations(case, embedder, labels=labels) for case in cases}
    result = Count()
    for case in cases:
        encoded = encode(case, candidates(case, principle_groups(), embedder)[0][0])
        for teller in cases:
            if teller.id != case.id and teller.patient_id == case.patient_id:
                continue  # the same person in another situation is neither right nor wrong
            truth = "right" if teller.id == case.id else "wrong"
            for formulation in told[teller.id]:
                spoken = [quote for said in formulation.values() for quote in said.quotes]
                deviations, decision = decoder.decode(case.patient_id, encoded, formulation, spoken)
                for deviation in deviations:
                    result.verdicts[deviation.component, truth, deviation.verdict] += 1
                result.outcomes[truth, decision.outcome] += 1
    return result


def measure() -> dict[str, object]:
    """Everything this module reports."""
    embedder = SentenceEncoder(known=builtin_vectors())
    thresholds = read_thresholds("", embedder)
    decoder = SymptomDecoder(embedder, thresholds, ranked_against(peers(builtin_cases())))
    cases = [case for case in builtin_cases().values() if case.split == "test"]
    by_labels = count(cases, decoder, embedder)
    in_words = count(cases, decoder, embedder, labels=False)
    return {
        "provisional": True,
        "patients": len({case.patient_id for case in cases}),
        "cases": len(cases),
        "thresholds": thresholds.hash,
        "max_intent_bias": thresholds.max_intent_bias,
        "components": {
            c.value: {truth: by_labels.shares([c], truth) for truth in TRUTHS} for c in COMPONENTS
        },
        "pooled": {truth: by_labels.shares(COMPONENTS, truth) for truth in TRUTHS},
        "closed_lists_in_own_words": {
            c.value: {truth: in_words.shares([c], truth) for truth in TRUTHS} for c in CLOSED_LISTS
        },
        "formulations": {truth: by_labels.biased(truth) for truth in TRUTHS},
    }


def _table(name: str, rows: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    lines = [f"{name:32}" + "".join(f"{t + ' ' + v:>17}" for t in TRUTHS for v in (*VERDICTS, "n"))]
    for row, shares in rows.items():
        cells = [shares[truth][verdict] for truth in TRUTHS for verdict in (*VERDICTS, "n")]
        lines.append(f"{row:32}" + "".join(f"{cell:>17}" for cell in cells))
    return "\n".join(lines)


def main() -> None:
    """Print the figures, as a table or as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    found: dict[str, object] = measure()
    if options.json:
        sys.stdout.write(json.dumps(found, indent=1) + "\n")
        return
    components, pooled, words = (
        found[key] for key in ("components", "pooled", "closed_lists_in_own_words")
    )
    assert isinstance(components, dict)
    assert isinstance(words, dict)
    sys.stdout.write(
        f"provisional: {found['patients']} test patients, {found['cases']} cases\n"
        + _table("component", components | {"pooled": pooled})
        + "\n"
        + _table("closed lists in own words", words)
        + f"\nwhole formulations: {json.dumps(found['formulations'])}\n"
    )


if __name__ == "__main__":
    main()
