"""Thresholds from labelled statements: the joint rule, and that the shipped file is what comes."""

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from mentalarena.calibrate import calibrate, table
from mentalarena.calibration import Scored, _limits, called_distorted, joint_limit, tail
from mentalarena.calibration_plots import draw, reliability
from mentalarena.case import Component
from mentalarena.errors import ConfigurationError
from mentalarena.labelled import Labelled
from mentalarena.thresholds import Weights

ROOT = Path(__file__).resolve().parents[2]
REPORT = json.loads((ROOT / "docs/figures/decoder.json").read_text("utf-8"))


@pytest.mark.parametrize(
    ("alarms", "limit"),
    [
        ([[0.0, 0.0, 0.0]] * 10, 0),
        ([[0.0, 0.0, 0.0]] * 9 + [[1.0, 1.0, 1.0]], 0),
        # The same rates per component, but in one patient of five: independence would allow 2.
        ([[0.0, 0.0, 0.0]] * 4 + [[1.0, 1.0, 1.0]], 3),
        ([[0.2, 0.2, 0.2]] * 5, 2),
        ([[0.2, 0.2]] * 5, 1),
    ],
)
def test_the_joint_limit_keeps_a_patients_alarms_together(
    alarms: list[list[float]], limit: int
) -> None:
    assert joint_limit(alarms) == limit
    assert np.mean([tail(rates)[limit] for rates in alarms]) <= 0.10 + 1e-9


def rows(kinds: str, contradicts: bool = False) -> list[Scored]:
    names = {"r": "paraphrase", "o": "other_patient"}
    return [
        Scored(
            Labelled(Component.BEHAVIORS, "a", "a", names[k], "", "said", "a"),  # type: ignore[arg-type]
            np.zeros(2),
            contradicts,
        )
        for k in kinds
    ]


def test_limits_keep_false_alarms_and_false_passes_below_what_is_allowed() -> None:
    draw_ = np.random.default_rng(3)
    right, wrong = draw_.beta(6, 2, 300), draw_.beta(2, 6, 4000)
    found = np.concatenate([right, wrong])
    weights = Weights(bias=0, support_z=1, margin=1)
    limits = _limits(weights, rows("r" * 300 + "o" * 4000), found)
    assert 0.02 <= (right < limits.band_low).mean() <= 0.04
    assert 0.04 <= (wrong >= limits.band_high).mean() <= 0.05
    assert limits.band_low <= limits.threshold <= limits.band_high
    # Far apart: the band is empty, and nothing is both.
    easy = np.concatenate([right / 10 + 0.9, wrong / 10])
    limits = _limits(weights, rows("r" * 300 + "o" * 4000), easy)
    assert limits.band_high - limits.band_low <= 0.0011


def test_what_contradicts_is_distorted_whatever_its_score() -> None:
    limits = _limits(Weights(bias=0, support_z=1, margin=1), rows("ro"), np.array([0.9, 0.1]))
    assert called_distorted(rows("r"), np.array([0.99]), limits).tolist() == [False]
    assert called_distorted(rows("r", True), np.array([0.99]), limits).tolist() == [True]


def test_the_shipped_report_says_what_the_docs_say() -> None:
    """Targets that are met stay met; the one that is not is not talked up."""
    pooled = REPORT["test"]["pooled"]
    assert pooled["auc_other_component"]["value"] >= 0.95
    assert pooled["auc_vague"]["value"] >= 0.95
    assert pooled["auc_other_patient"]["value"] >= 0.95
    assert pooled["false_alarm"]["value"] <= 0.05
    assert pooled["reroute_when_right"]["value"] <= 0.10
    assert pooled["auc_distorted"]["value"] < 0.85
    text = (ROOT / "docs/decoder.md").read_text("utf-8")
    for key in ("auc_other_patient", "auc_other_component", "auc_vague", "auc_distorted",
                "false_alarm", "miss", "reroute_when_right"):  # fmt: skip
        assert f"{pooled[key]['value']:.3f}" in text, key


def test_the_report_belongs_to_the_shipped_thresholds() -> None:
    from mentalarena.builtin_vectors import builtin_vectors
    from mentalarena.similarity import SentenceEncoder
    from mentalarena.thresholds import read_thresholds

    shipped = read_thresholds("", SentenceEncoder(known=builtin_vectors()))
    assert REPORT["thresholds_hash"] == shipped.hash
    assert REPORT["max_intent_bias"] == shipped.max_intent_bias
    assert "author-written" in table(REPORT)


@pytest.mark.slow
def test_the_shipped_thresholds_are_what_the_command_makes(tmp_path: Path) -> None:
    """Embeds every labelled statement: a minute or two."""
    out = tmp_path / "thresholds.json"
    ended = CliRunner().invoke(calibrate, ["--json", "--out", str(out)], catch_exceptions=False)
    assert ended.exit_code == 0
    made, shipped = (
        json.loads(path.read_text("utf-8"))
        for path in (out, ROOT / "mentalarena/data/thresholds.json")
    )
    found = json.loads(ended.stdout)
    for part in ("tuning", "test"):
        for key, figure in REPORT[part]["pooled"].items():
            if "value" in figure:
                assert found[part]["pooled"][key]["value"] == pytest.approx(
                    figure["value"], abs=2e-3
                )
    # Another build of torch may differ in the last digits of a vector.
    assert made.keys() == shipped.keys()
    assert made["max_intent_bias"] == shipped["max_intent_bias"]
    for component, limits in shipped["components"].items():
        for key in ("threshold", "band_low", "band_high"):
            assert made["components"][component][key] == pytest.approx(limits[key], abs=5e-3)


def test_plots_without_matplotlib_say_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = builtins.__import__

    def missing(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigurationError, match=r'pip install "mentalarena\[plots\]"'):
        CliRunner().invoke(calibrate, ["--plots", str(tmp_path)], catch_exceptions=False)


def test_plots_are_drawn_and_a_reliable_score_lies_on_the_line(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    draw_ = np.random.default_rng(1)
    scores = draw_.random(6000)
    right = draw_.random(6000) < scores
    kinds = ["paraphrase" if r else k for r, k in zip(
        right, ["other_patient", "other_component", "vague"] * 2000, strict=True)]  # fmt: skip
    sample = list(zip(kinds, scores.tolist(), strict=True))
    for mean, share, number in reliability(sample):
        assert number > 400
        assert share == pytest.approx(mean, abs=0.06)
    paths = draw({"tuning": sample, "test": [*sample, ("distorted", 0.5)]}, tmp_path / "plots")
    assert [path.name for path in paths] == ["reliability.png", "scores.png"]
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)
