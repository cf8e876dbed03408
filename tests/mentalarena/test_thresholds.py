"""Threshold files: bound to encoder and scorer, and complete."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from mentalarena.case import CLOSED_LISTS, Component
from mentalarena.errors import ConfigurationError
from mentalarena.similarity import SentenceEncoder
from mentalarena.thresholds import Weights, read_thresholds

BUILT_IN = json.loads(
    (resources.files("mentalarena") / "data" / "thresholds.json").read_text("utf-8")
)


def write(tmp_path: Path, **changes: Any) -> str:
    path = tmp_path / "thresholds.json"
    path.write_text(json.dumps({**BUILT_IN, **changes}), "utf-8")
    return str(path)


def test_a_file_for_another_encoder_is_refused(tmp_path: Path, encoder: SentenceEncoder) -> None:
    path = write(tmp_path, encoder="other", encoder_hash="f" * 64)
    with pytest.raises(ConfigurationError, match=r"was made for encoder other .*calibrate"):
        read_thresholds(path, encoder)


@pytest.mark.parametrize("change", [{"scorer": "cosine"}, {"scorer_version": 1}])
def test_a_file_for_another_scorer_is_refused(
    tmp_path: Path, encoder: SentenceEncoder, change: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError, match=r"was made for scorer .*mentalarena calibrate"):
        read_thresholds(write(tmp_path, **change), encoder)


def without_weights() -> dict[str, Any]:
    components = json.loads(json.dumps(BUILT_IN["components"]))
    components["behaviors"]["weights"] = None
    return components


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"components": {}}, "lacks component core_beliefs"),
        ({"components": without_weights()}, r"field components\.behaviors\.weights"),
        ({"max_missed": -1}, "field max_missed"),
        ({"surprise": 1}, "field surprise"),
    ],
)
def test_malformed_files_name_the_field(
    tmp_path: Path, encoder: SentenceEncoder, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read_thresholds(write(tmp_path, **changes), encoder)


def test_a_missing_file_is_named(encoder: SentenceEncoder) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.json cannot be read"):
        read_thresholds("nowhere.json", encoder)


def test_the_hash_follows_the_content(tmp_path: Path, encoder: SentenceEncoder) -> None:
    built_in = read_thresholds("", encoder)
    assert read_thresholds(write(tmp_path), encoder).hash == built_in.hash
    assert read_thresholds(write(tmp_path, max_missed=2), encoder).hash != built_in.hash


def test_bands_lie_in_order_and_closed_lists_have_no_weights(encoder: SentenceEncoder) -> None:
    for component, limits in read_thresholds("", encoder).components.items():
        assert limits.band_low <= limits.band_high
        assert (limits.weights is None) == (component in CLOSED_LISTS)


def test_a_score_grows_with_either_figure() -> None:
    weights = Weights(bias=-1, support_z=0.5, margin=2)
    base = weights.score({"support_z": 1.0, "margin": 0.1})
    assert base == pytest.approx(1 / (1 + 2.718281828**0.3), abs=1e-6)
    assert weights.score({"support_z": 2.0, "margin": 0.1}) > base
    assert weights.score({"support_z": 1.0, "margin": 0.2}) > base
    assert 0 <= weights.score({"support_z": -1e6, "margin": 0.0}) < 1e-9
    assert set(Component) == {Component(name) for name in BUILT_IN["components"]}
