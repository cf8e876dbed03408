"""Thresholds: per component where `aligned` begins, bound to the encoder they were measured with.

Why: one fixed cosine for every component passes about half of all wrong guesses. Each component
has its own threshold, abstain band and rank limit, and the decision on a whole formulation has a
joint rule, because eight components that are each wrong one time in twenty are together wrong one
time in three. A file made for another encoder is refused.

The built-in file is *provisional*: it is derived by ``python -m mentalarena.calibration`` from the
built-in train and dev patients only, with their own utterances as right statements and other
patients' utterances as wrong ones; a closed list is stated by its labels. Utterances were written
by the authors of the records, and no human rater has judged them; limits are measured on the
people they are set with, so ``python -m benchmarks.decoder_check`` looks at the built-in test
patients.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mentalarena.case import CLOSED_LISTS, Case, Component, PrincipleGroup
from mentalarena.comparison import Peers, compare
from mentalarena.encoder import candidates, component_text
from mentalarena.encoder_process import ENCODER_NAME
from mentalarena.errors import ConfigurationError
from mentalarena.roster import principle_groups
from mentalarena.similarity import Embedder

REROUTE_WHEN_RIGHT = 0.10
"""Largest share of right and complete formulations that the joint rule may reroute."""
BAND = 0.05
"""Half-width of the abstain band below and above which a verdict is given."""

Share = Annotated[float, Field(ge=0, le=1)]


class ComponentThreshold(BaseModel):
    """How one component is judged; similarities are cosines, or set overlap for closed lists."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    threshold: Annotated[float, Field(ge=-1, le=1)]
    band_low: Annotated[float, Field(ge=-1, le=1)]
    """Below it a statement is distorted."""
    band_high: Annotated[float, Field(ge=-1, le=1)]
    """From it on a statement is aligned; between the two it is unclear."""
    rank_limit: Share
    """Largest share of other patients whose component may be at least as similar."""

    def judge(
        self, similarity: float, rank: float | None
    ) -> tuple[Literal["aligned", "unclear", "distorted"], str]:
        """What the two figures amount to, and why in a few characters."""
        low, high = self.band_low, self.band_high
        if similarity < low:
            return "distorted", f"{similarity:.2f} < {low:.2f}"
        if rank is not None and rank > self.rank_limit:
            # Similar enough, but as similar to others: a vague guess, not a wrong one.
            return "unclear", f"rank {rank:.2f} > {self.rank_limit:.2f}"
        if similarity < high:
            return "unclear", f"{low:.2f} ≤ {similarity:.2f} < {high:.2f}"
        return "aligned", f"{similarity:.2f} ≥ {high:.2f}"


class Thresholds(BaseModel):
    """A threshold file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str
    encoder_hash: str
    provisional: bool
    made_from: str
    components: dict[Component, ComponentThreshold]
    max_intent_bias: Annotated[int, Field(ge=0)]
    """More deviations of this kind than this make a formulation biased."""
    max_missed: Annotated[int, Field(ge=0)]
    """More coverage gaps than this make a formulation incomplete."""

    @property
    def text(self) -> str:
        """The canonical content, as a store keeps it."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True)

    @property
    def hash(self) -> str:
        """SHA-256 of the canonical content: part of a run's configuration."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def read_thresholds(path: str, embedder: Embedder) -> Thresholds:
    """The threshold file at ``path``, or the built-in one for an empty path.

    Raises:
        ConfigurationError: unreadable, malformed, incomplete, or made for another encoder.
    """
    name = path or "built-in thresholds"
    try:
        if path:
            text = Path(path).read_text(encoding="utf-8")
        else:
            text = (resources.files("mentalarena") / "data" / "thresholds.json").read_text("utf-8")
        thresholds = Thresholds.model_validate_json(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"threshold file {name} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(f"threshold file {name}, field {field}: {first['msg']}") from error
    if thresholds.encoder_hash != embedder.hash:
        raise ConfigurationError(
            f"threshold file {name} was made for encoder {thresholds.encoder} "
            f"({thresholds.encoder_hash[:12]}), but {embedder.hash[:12]} is in use: "
            "calibrate for this encoder, or name its own file"
        )
    missing = [component.value for component in Component if component not in thresholds.components]
    if missing:
        raise ConfigurationError(f"threshold file {name} lacks component {', '.join(missing)}")
    return thresholds


PeerTexts = Mapping[Component, Sequence[tuple[str, str]]]
"""Per open component, (patient id, text); the id is empty for a principle of the library."""


def peers(
    cases: Mapping[str, Case], groups: Sequence[PrincipleGroup] = ()
) -> dict[Component, tuple[tuple[str, str], ...]]:
    """What a statement is ranked against, each distinct (patient id, text) once.

    Args:
        cases: The people.
        groups: The library of behavior principles; the built-in one when empty.

    Train and dev patients only, so that test patients are never part of the instrument that is
    tested with them; for behavior principles every principle of the library.
    """
    found: dict[Component, dict[tuple[str, str], None]] = {
        component: {} for component in Component if component not in CLOSED_LISTS
    }
    found[Component.BEHAVIOR_PRINCIPLES] = {
        ("", component_text([principle.text])): None
        for group in groups or principle_groups()
        for principle in group.principles
    }
    for case in cases.values():
        if case.split == "test":
            continue
        for component, texts in found.items():
            if component is not Component.BEHAVIOR_PRINCIPLES:
                clauses = case.cognitive_model.clauses(component)
                texts[case.patient_id, component_text([c.text for c in clauses])] = None
    return {component: tuple(texts) for component, texts in found.items()}


def ranked_against(texts: PeerTexts) -> Peers:
    """Those texts as the decoder asks for them: of everybody but the patient in question."""

    def others(component: Component, patient_id: str) -> list[str]:
        return [text for owner, text in texts.get(component, ()) if owner != patient_id]

    return others


@dataclass(frozen=True, slots=True)
class Stateable:
    """One component of one patient, and the right statements of it that are known."""

    patient_id: str
    record: tuple[str, ...]
    statements: tuple[str, ...]
    """All of it first, in two wordings where there are two; then all but one clause."""


def stateable(
    component: Component, case: Case, groups: Sequence[PrincipleGroup], embedder: Embedder
) -> Stateable:
    """The record of a component, with right statements made of utterances (or of labels)."""
    if component is Component.BEHAVIOR_PRINCIPLES:
        principle = candidates(case, groups, embedder)[0][0]
        first, last = principle.utterances[0], principle.utterances[-1]
        return Stateable(case.patient_id, (principle.text,), (first, last))
    clauses = case.cognitive_model.clauses(component)
    record = tuple(clause.text for clause in clauses)
    if component in CLOSED_LISTS:
        parts = [record, *(combinations(record, len(record) - 1) if len(record) > 1 else ())]
        return Stateable(case.patient_id, record, tuple("; ".join(part) for part in parts))
    spoken = [clause.utterances for clause in clauses]
    statements = [" ".join(u[0] for u in spoken), " ".join(u[-1] for u in spoken)]
    if len(spoken) > 2:
        statements += [
            " ".join(u[0] for u in part) for part in combinations(spoken, len(spoken) - 1)
        ]
    return Stateable(case.patient_id, record, tuple(statements))


@dataclass(frozen=True, slots=True)
class _Sample:
    """One statement against one record, with known truth."""

    right: bool
    patient_id: str
    """Whose record it is."""
    similarity: float
    rank: float | None


def derive(
    cases: Sequence[Case], groups: Sequence[PrincipleGroup], embedder: Embedder
) -> Thresholds:
    """Provisional thresholds from built-in cases: one case per patient, utterances as statements.

    Per open component: a right statement joins first utterances of all clauses, or of all but one
    (a partial statement); a wrong one is another patient's. The threshold is where misses and false
    alarms are equally frequent; the rank limit is the 95th percentile over right statements.
    """
    people = list({case.patient_id: case for case in cases}.values())
    others = ranked_against(peers({case.id: case for case in cases}))
    components: dict[Component, ComponentThreshold] = {}
    alarms: dict[str, list[float]] = {case.patient_id: [] for case in people}
    for component in Component:
        samples = _samples(component, people, groups, embedder, others)
        limits = _closed_list_threshold() if component in CLOSED_LISTS else _open_threshold(samples)
        components[component] = limits
        for patient_id, rates in alarms.items():
            rates.append(_alarm_rate([s for s in samples if s.patient_id == patient_id], limits))
    return Thresholds(
        encoder=ENCODER_NAME,
        encoder_hash=embedder.hash,
        provisional=True,
        made_from=f"{len(people)} built-in train and dev patients, author-written utterances",
        components=components,
        max_intent_bias=joint_limit(list(alarms.values())),
        # A complete formulation states every component, so none of them is rerouted by this.
        max_missed=0,
    )


def _closed_list_threshold() -> ComponentThreshold:
    # Dice overlap of label sets: half of the labels shared is the middle of the scale, not tuned.
    return ComponentThreshold(threshold=0.5, band_low=0.4, band_high=0.5, rank_limit=1.0)


def _samples(
    component: Component,
    people: Sequence[Case],
    groups: Sequence[PrincipleGroup],
    embedder: Embedder,
    others: Peers,
) -> list[_Sample]:
    known = [stateable(component, case, groups, embedder) for case in people]
    samples = []
    for held in known:
        rivals = others(component, held.patient_id)
        for told in known:
            if told is not held and told.record == held.record:
                continue
            for statement in told.statements:
                figures = compare(component, held.record, statement, rivals, embedder)
                samples.append(_Sample(told is held, held.patient_id, *figures))
    return samples


def _open_threshold(samples: Sequence[_Sample]) -> ComponentThreshold:
    right = np.array([s.similarity for s in samples if s.right])
    wrong = np.array([s.similarity for s in samples if not s.right])
    grid = np.round(np.arange(0.0, 0.9, 0.01), 2)
    gap = [abs(float((right < t).mean()) - float((wrong >= t).mean())) for t in grid]
    threshold = float(grid[int(np.argmin(gap))])
    ranks = np.array([s.rank for s in samples if s.right and s.rank is not None])
    return ComponentThreshold(
        threshold=round(threshold, 2),
        band_low=round(threshold - BAND, 2),
        band_high=round(threshold + BAND, 2),
        rank_limit=round(float(np.quantile(ranks, 0.95)), 2) if ranks.size else 1.0,
    )


def _alarm_rate(samples: Sequence[_Sample], threshold: ComponentThreshold) -> float:
    """Share of right statements that would be called distorted."""
    right = [s for s in samples if s.right]
    return float(np.mean([threshold.judge(s.similarity, s.rank)[0] == "distorted" for s in right]))


def joint_limit(alarms: Sequence[Sequence[float]]) -> int:
    """Smallest number of intent biases that right formulations exceed at most one time in ten.

    A right formulation takes all its components from one patient, one right statement of each, so
    that a patient who is hard to read in one component and in another counts as such. The number
    of false alarms over all such draws is exact for a patient, and averaged over patients.

    Args:
        alarms: per patient, per component, the share of right statements called distorted.
    """
    tails = []
    for rates in alarms:
        distribution = np.array([1.0])
        for rate in rates:
            distribution = np.convolve(distribution, [1 - rate, rate])
        tails.append(1 - np.cumsum(distribution))
    # Rounded: a tail of exactly one in ten must not depend on the last digit of a sum.
    return int(np.argmax(np.mean(tails, axis=0).round(9) <= REROUTE_WHEN_RIGHT))


def main() -> None:
    """Derive the provisional thresholds and write them beside the built-in data."""
    from mentalarena.roster import builtin_cases
    from mentalarena.similarity import SentenceEncoder

    cases = [case for case in builtin_cases().values() if case.split != "test"]
    thresholds = derive(cases, principle_groups(), SentenceEncoder())
    target = Path(__file__).parent / "data" / "thresholds.json"
    target.write_text(thresholds.model_dump_json(indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
