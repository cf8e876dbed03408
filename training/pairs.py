"""Preference pairs: a better and a worse answer to one prompt, from one episode.

Why: an episode keeps every plan with its score, every formulation with its verdicts and the
diagnosis that the patient turned down. Both answers of a pair stand under the same prompt, the one
that is asked, so that what is preferred is the answer and not the situation.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agents.prompting import formulation_text, transcript
from agents.seats import PlanProposal, TherapistView
from agents.therapist import render_formulate
from training.examples import (
    Example,
    Source,
    base,
    diagnose_prompt,
    diagnoses,
    propose_prompt,
    said,
    stated,
)
from training.trajectories import Trajectory


def pairs(played: Trajectory, tasks: frozenset[str], source: Source) -> Iterator[Example]:
    """The preference pairs of one episode for these tasks; see :func:`training.examples.examples`.

    A formulation pair needs the dialogue: ``source`` does not change it.
    """
    for found in played.pairs:
        if found["task"] not in tasks:
            continue
        if found["task"] == "formulation":
            yield _mended(played, found)
        elif found["task"] == "diagnosis":
            yield _confirmed(played, found, source)
        else:
            yield _plans(played, found, source)


def _plans(played: Trajectory, found: Mapping[str, Any], source: Source) -> Example:
    kind = found["task"]
    by_attempt = {p["attempt"]: p for p in played.plans if p["kind"] == kind}
    better, worse = by_attempt[found["chosen_idx"]], by_attempt[found["rejected_idx"]]
    code = next((one["code"] for one in played.diagnoses if one["chosen"]), None)
    return base(
        played,
        kind,
        found["chosen_idx"],
        "record" if source == "record" else "formulation",
        answer=PlanProposal(name=better["name"], rationale=better["rationale"]),
        rejected=PlanProposal(name=worse["name"], rationale=worse["rationale"]),
        prompt=lambda: propose_prompt(played, kind, code, source),
        context=formulation_text(stated(played, source)),
        code=code,
        coded=True,
        score=better["score"],
        margin=found["margin"],
        agreement=agreement(played.samples, kind, found["chosen_idx"], found["rejected_idx"]),
    )


def agreement(
    samples: Sequence[Mapping[str, Any]], kind: str, better: int, worse: int
) -> float | None:
    """How far judges agree that one plan is better than another.

    Every sample of a judge for the one is held against every sample of the same judge for the
    other: what one sample has to do with another of the same number is nothing, and two judges may
    use the scale differently. A tie counts half; each judge counts alike.

    Args:
        samples: Rows with ``kind``, ``attempt``, ``judge`` and ``score``.
        kind: Treatment or medication.
        better: Attempt of the plan with the higher mean.
        worse: Attempt of the other.

    Returns:
        From 0 (all prefer the other) over 0.5 (a coin) to 1; None where there is no more than one
        comparison, which agrees with itself.
    """
    by_judge: dict[str, dict[int, list[int]]] = {}
    for row in samples:
        if row["kind"] == kind and row["attempt"] in (better, worse):
            of = by_judge.setdefault(row["judge"], {better: [], worse: []})
            of[row["attempt"]].append(row["score"])
    shares = []
    compared = 0
    for of in by_judge.values():
        wins = [(a > b) + (a == b) / 2 for a in of[better] for b in of[worse]]
        compared += len(wins)
        if wins:
            shares.append(sum(wins) / len(wins))
    return sum(shares) / len(shares) if compared > 1 else None


def _mended(played: Trajectory, found: Mapping[str, Any]) -> Example:
    """A formulation in which one component was wrong, against the same one put right."""
    component = found["component"]
    bent = played.formulations[found["rejected_idx"]]
    mended = played.formulations[found["chosen_idx"]]
    until = _turns_of_round(played, found["chosen_idx"])
    lines = played.lines(until)
    return base(
        played,
        "formulation",
        found["chosen_idx"],
        "dialogue",
        answer=mended,
        rejected=mended.model_copy(update={component: getattr(bent, component)}),
        prompt=lambda: render_formulate(TherapistView(lines, "", None, 0)),
        context=f"{component}\n{transcript(lines)}",
        margin=found["margin"],
        heard=tuple(said(played, until)),
    )


def _turns_of_round(played: Trajectory, round_: int) -> int:
    """How many turns had been spoken when the formulation of a round was made."""
    probes = [
        turn["idx"]
        for turn in played.turns
        if turn["speaker"] == "therapist" and turn["purpose"] == "probe"
    ]
    # The next probe comes after the formulation; the last round has heard everything.
    return probes[round_] if round_ < len(probes) else len(played.turns)


def _confirmed(played: Trajectory, found: Mapping[str, Any], source: Source) -> Example:
    by_idx = {one["idx"]: one for one in played.diagnoses}
    yes, no = by_idx[found["chosen_idx"]], by_idx[found["rejected_idx"]]
    # The worse answer names the same two the other way round: the likelier one comes first.
    return base(
        played,
        "diagnosis",
        found["chosen_idx"],
        source,
        answer=diagnoses(yes, no),
        rejected=diagnoses(no, yes),
        prompt=lambda: diagnose_prompt(played, source),
        context=transcript(played.lines()),
        code=yes["code"] if no["code"] else None,
        coded=True,
    )
