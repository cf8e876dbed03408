"""Two diagnoses from what was said, by indicator tables (``data/disorders.toml``).

Why: a rule-based therapist needs a first guess that can be traced to the patient's words. The
tables list what patients say, not criteria; they are illustrative and for simulation only.
"""

from collections.abc import Iterable, Sequence
from functools import cache
from random import Random

from agents.rules.cues import Index, build_index, look_up
from agents.rules.language import data, sentences, substance, words
from agents.seats import Diagnoses, DiagnosisProposal, Line


@cache
def _index() -> Index:
    return build_index(data("disorders")["indicators"])


def _weigh(heard: Iterable[str]) -> tuple[dict[str, float], dict[str, tuple[float, str]]]:
    """What the sentences speak for, by label: the sum, and the sentence that says most."""
    totals: dict[str, float] = {}
    witnesses: dict[str, tuple[float, str]] = {}
    for sentence in heard:
        found = look_up(words(sentence), _index())
        for label, weight in found.items():
            # What speaks for many disorders says little about each.
            totals[label] = totals.get(label, 0.0) + weight / len(found) ** 0.5
            if weight > witnesses.get(label, (0.0, ""))[0]:
                witnesses[label] = (weight, sentence)
    return totals, witnesses


def ranked_labels(spoken: Iterable[str]) -> tuple[str, ...]:
    """The labels of the table that anything in ``spoken`` speaks for, the best supported first."""
    totals, _ = _weigh(part for text in spoken for part in sentences(text))
    return tuple(sorted(totals, key=lambda label: (-totals[label], label)))


def diagnose(lines: Sequence[Line], random: Random) -> Diagnoses:
    """The two disorders that most of what was said speaks for.

    Ties and near ties are settled by ``random``; where nothing speaks for anything, the
    unspecified labels of the table are offered.
    """
    heard = [
        span
        for line in lines
        if line.speaker == "patient"
        for span in map(substance, sentences(line.text))
        if span
    ]
    totals, witnesses = _weigh(heard)
    for label in totals:
        totals[label] += 0.3 * random.random()
    ranked = sorted(totals, key=lambda label: (-totals[label], label))
    proposals = [
        DiagnosisProposal(
            label=label, rationale=f'Among other things the patient said: "{witnesses[label][1]}"'
        )
        for label in ranked[:2]
    ]
    for label in data("disorders")["fallback"]["labels"]:
        if len(proposals) < 2 and label not in ranked:
            said = f'The patient said: "{heard[0]}" ' if heard else ""
            proposals.append(
                DiagnosisProposal(
                    label=label, rationale=f"{said}Little was said that points anywhere else."
                )
            )
    return Diagnoses(options=tuple(proposals))
