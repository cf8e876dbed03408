"""Thresholds: how the decoder scores, and where `aligned` begins, bound to encoder and scorer.

Why: a score means something only with the encoder and the figures that it was measured with. Each
component has its own limits, and the decision on a whole formulation has a joint rule, because
eight components that are each wrong one time in twenty are together wrong one time in three. The
built-in file is made by ``mentalarena calibrate``; one made for another encoder or another version
of the scorer is refused.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mentalarena.case import CLOSED_LISTS, Component
from mentalarena.comparison import FEATURES
from mentalarena.errors import ConfigurationError
from mentalarena.similarity import Embedder

SCORER = "embedding"
SCORER_VERSION = 2
"""Goes up whenever the same statement may get other figures."""
BUILT_IN = Path("data") / "thresholds.json"

Share = Annotated[float, Field(ge=0, le=1)]


class Weights(BaseModel):
    """A logistic model: the score is ``1 / (1 + exp(-(bias + sum of weight times feature)))``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bias: float
    support_z: Annotated[float, Field(ge=0)]
    margin: Annotated[float, Field(ge=0)]

    def score(self, features: Mapping[str, float]) -> float:
        """0 (nothing in common) to 1."""
        total = self.bias + sum(getattr(self, name) * features[name] for name in FEATURES)
        return round(1 / (1 + math.exp(-max(-60.0, min(60.0, total)))), 6)


class ComponentThreshold(BaseModel):
    """How one component is judged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: Weights | None = None
    """None for closed lists, whose score is the overlap of the two sets of labels."""
    threshold: Share
    """Where right and wrong statements are told apart best; the decision uses the band."""
    band_low: Share
    """Below it a statement is distorted."""
    band_high: Share
    """From it on a statement is aligned; between the two it is unclear."""

    def judge(self, score: float) -> tuple[Literal["aligned", "unclear", "distorted"], str]:
        """What a score amounts to, and why in a few characters."""
        low, high = self.band_low, self.band_high
        if score < low:
            return "distorted", f"{score:.2f} < {low:.2f}"
        if score < high:
            return "unclear", f"{low:.2f} ≤ {score:.2f} < {high:.2f}"
        return "aligned", f"{score:.2f} ≥ {high:.2f}"


class Thresholds(BaseModel):
    """A threshold file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: str
    encoder_hash: str
    scorer: str
    scorer_version: int
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
        ConfigurationError: unreadable, malformed, incomplete, or made for another encoder or
            scorer.
    """
    name = path or "built-in thresholds"
    try:
        if path:
            text = Path(path).read_text(encoding="utf-8")
        else:
            text = (resources.files("mentalarena") / str(BUILT_IN)).read_text("utf-8")
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
    made_for = (thresholds.scorer, thresholds.scorer_version)
    if made_for != (SCORER, SCORER_VERSION):
        raise ConfigurationError(
            f"threshold file {name} was made for scorer {made_for[0]} version {made_for[1]}, but "
            f"{SCORER} version {SCORER_VERSION} is in use: make it anew with mentalarena calibrate"
        )
    missing = [component.value for component in Component if component not in thresholds.components]
    if missing:
        raise ConfigurationError(f"threshold file {name} lacks component {', '.join(missing)}")
    for component, limits in thresholds.components.items():
        if (limits.weights is None) != (component in CLOSED_LISTS):
            raise ConfigurationError(
                f"threshold file {name}, field components.{component.value}.weights: "
                "open components need weights, closed lists have none"
            )
    return thresholds
