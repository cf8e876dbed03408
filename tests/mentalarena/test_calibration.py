"""Threshold files: bound to the encoder, complete, and those that the module derives."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from benchmarks.decoder_check import TRUTHS, VERDICTS, measure
from mentalarena.calibration import derive, joint_limit, peers, ranked_against, read_thresholds
from mentalarena.case import CLOSED_LISTS, Component
from mentalarena.comparison import compare
from mentalarena.errors import ConfigurationError
from mentalarena.roster import builtin_cases, principle_groups, principles
from mentalarena.similarity import SentenceEncoder

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


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"components": {}}, "lacks component core_beliefs"),
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


def test_the_built_in_file_is_what_the_module_derives(encoder: SentenceEncoder) -> None:
    cases = [case for case in builtin_cases().values() if case.split != "test"]
    derived = derive(cases, principle_groups(), encoder)
    assert json.loads(derived.model_dump_json()) == BUILT_IN, (
        "stale: run python -m mentalarena.calibration"
    )


def test_the_hash_follows_the_content(tmp_path: Path, encoder: SentenceEncoder) -> None:
    built_in = read_thresholds("", encoder)
    assert read_thresholds(write(tmp_path), encoder).hash == built_in.hash
    assert read_thresholds(write(tmp_path, max_missed=2), encoder).hash != built_in.hash


def test_peers_are_train_and_dev_patients_once_each() -> None:
    texts = peers(builtin_cases())
    used = {case.patient_id for case in builtin_cases().values() if case.split != "test"}
    assert set(texts) == set(Component) - set(CLOSED_LISTS)
    for component, pairs in texts.items():
        assert len(set(pairs)) == len(pairs)
        expected = {""} if component is Component.BEHAVIOR_PRINCIPLES else used
        assert {owner for owner, _ in pairs} == expected
    assert len(texts[Component.BEHAVIOR_PRINCIPLES]) == len(principles())
    others = ranked_against(texts)
    own = {text for owner, text in texts[Component.BEHAVIORS] if owner == "maren"}
    assert own, "maren is a peer of others"
    assert not own & set(others(Component.BEHAVIORS, "maren"))
    assert own < set(others(Component.BEHAVIORS, "nobody"))


def test_rank_is_the_share_of_others_at_least_as_near(encoder: SentenceEncoder) -> None:
    record, statement = ["I stay at home"], "I stay at home."
    far = ["The bicycle needs a chain.", "Paint dries."]
    # The record's own text among the peers is not a rival.
    rivals = ["I stay at home.", *far]
    assert compare(Component.BEHAVIORS, record, statement, rivals, encoder)[1] == 0
    assert compare(Component.BEHAVIORS, ["I ride a bicycle"], far[0], far, encoder)[1] == 0.5
    assert compare(Component.BEHAVIORS, record, statement, [], encoder)[1] is None
    assert compare(Component.EMOTIONS, ["sad"], "sad; angry", far, encoder) == (0.666667, None)


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


def test_the_check_on_test_patients_tells_right_from_wrong() -> None:
    found: Any = measure()
    assert found["provisional"] is True
    assert found["patients"] == 3
    for shares in found["components"].values():
        for truth in TRUTHS:
            assert sum(shares[truth][v] for v in VERDICTS) == pytest.approx(1, abs=2e-3)
    pooled = found["pooled"]
    assert pooled["right"]["aligned"] > 0.5 > 0.15 > pooled["wrong"]["aligned"]
    assert found["formulations"]["wrong"]["biased"] > found["formulations"]["right"]["biased"]
