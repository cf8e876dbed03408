"""The check of injected biases counts a bent component once, by what became of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.injections import measure
from mentalarena.store import Row, Store, open_store


def stated(episode: str, round_: int, component: str, verdict: str, said: str = "x") -> list[Row]:
    key = {"episode_id": episode, "round": round_, "component": component}
    return [
        Row("formulations", {**key, "statement": said, "quotes": []}),
        Row("deviations", {**key, "scorer": "embedding", "verdict": verdict}),
    ]


def bent(episode: str, round_: int, component: str, kind: str) -> Row:
    key = {"episode_id": episode, "round": round_, "component": component}
    return Row("injections", {**key, "kind": kind, "truth": "t"})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    rows = [
        Row("runs", {"id": "check", "kind": "batch", "config": {}, "config_hash": "h",
                     "code_version": "1"})
    ]  # fmt: skip
    for patient in ("p", "q"):
        rows += [
            Row("cases", {"id": patient, "hash": patient, "patient_id": patient, "split": "test",
                          "source": "s", "presentation": "anxiety", "style": "plain",
                          "record": {}}),
            Row("episodes", {"id": patient, "run_id": "check", "case_id": patient,
                             "case_hash": patient, "sample": 0, "seed": 1, "guidance": "topic",
                             "status": "ok"}),
        ]  # fmt: skip
        rows += [
            Row("decisions", {"episode_id": patient, "round": r, "decision": "biased",
                              "guidance_kind": "topic"})
            for r in (0, 1)
        ]  # fmt: skip
    # p: one bent and found, mended; one bent in both rounds and passed; one honest and accused.
    rows += stated("p", 0, "behaviors", "distorted") + stated("p", 1, "behaviors", "aligned")
    rows += stated("p", 0, "emotions", "aligned") + stated("p", 1, "emotions", "distorted")
    rows += stated("p", 0, "core_beliefs", "unsupported") + stated(
        "p", 0, "coping_strategies", "aligned"
    )
    rows += [bent("p", 0, "behaviors", "negated")]
    rows += [bent("p", r, "emotions", "wrong_emotion") for r in (0, 1)]
    # q: bent later only, and unclear; what is not stated accuses nobody.
    rows += stated("q", 0, "behaviors", "missed", said="") + stated("q", 1, "behaviors", "unclear")
    rows += [bent("q", 1, "behaviors", "negated")]
    with open_store(tmp_path / "arena.db") as opened:
        opened.write_sync(rows)
        yield opened


def test_each_bent_component_counts_once(store: Store) -> None:
    found = measure(store, "check")
    assert found["episodes"] == 2
    kinds = found["kinds"]
    negated, all_ = kinds["negated"], kinds["all"]
    assert (negated["found"].value, negated["unclear"].value, negated["found"].n) == (0.5, 0.5, 2)
    assert negated["mended when found"].value == 1
    assert negated["mended otherwise"].value == 0
    assert kinds["wrong_emotion"]["passed"].value == 1, "the first verdict counts"
    assert (all_["found"].n, all_["passed"].value) == (3, pytest.approx(1 / 3))
    alarms = found["false alarms"]
    assert (alarms["all"].n, alarms["all"].value) == (2, 0.5)
    assert set(alarms) == {"core_beliefs", "coping_strategies", "all"}
