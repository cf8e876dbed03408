"""The frozen sets are what they were, and the checks count what they say they count."""

import pytest

from benchmarks import frozen, labels_check, safety_check
from mentalarena.errors import CaseError


def test_the_sets_are_frozen_and_the_first_answers_cover_them() -> None:
    for name in ("crisis", "labels"):
        items = frozen.read(name)
        assert {frozen.key(item["text"]) for item in items} == set(frozen.blind(name))
        assert {frozen.half(item["text"]) for item in items} == {"improve", "report"}
        seen = {frozen.key(item["text"]) for item in items[:5]}
        assert seen <= frozen.SEEN, "what was seen does not report"
        assert {frozen.half(item["text"]) for item in items[:5]} == {"improve"}


def test_a_changed_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen.hashlib, "sha256", frozen.hashlib.sha1)
    with pytest.raises(CaseError, match="restore it"):
        frozen.read("crisis")


def test_wilson_intervals() -> None:
    # Newcombe (1998), table I: 81 of 263, Wilson score method.
    found = frozen.share(81, 263)
    assert (round(found.low, 3), round(found.high, 3)) == (0.255, 0.366)
    assert str(frozen.share(0, 0)) == "-"


def test_hits_and_false_alarms_are_counted_by_finding_that_count() -> None:
    items = [
        {"text": "a", "label": "plan", "status": "current", "crisis": True},
        {"text": "b", "label": "plan", "status": "current", "crisis": True},
        {"text": "c", "label": "none", "status": "idiom", "crisis": False},
    ]
    found = {
        frozen.key("a"): ["active_ideation"],
        frozen.key("b"): ["plan/negated"],
        frozen.key("c"): ["plan"],
    }
    figures = safety_check.figures(items, found)
    assert figures["hits"][:2] == (1, 2)
    assert figures["right kind among hits"][:2] == (0, 1)
    assert figures["false alarms"][:2] == figures["false alarms: idiom"][:2] == (1, 1)


def test_codes_are_counted_one_by_one() -> None:
    items = [
        {"text": "a", "codes": ["F33.1", "F41.1"], "level": "exact"},
        {"text": "b", "codes": [], "level": None},
        {"text": "c", "codes": ["F32.9"], "level": "category"},
    ]
    found = {
        frozen.key("a"): [[], ["F33.2"]],
        frozen.key("b"): [[], ["F20.9"]],
        frozen.key("c"): [[], ["F32.A"]],
    }
    figures = labels_check.figures(items, found)
    assert figures["with encoder, exact: precision"][:2] == (0, 2)
    assert figures["with encoder, exact: recall"][:2] == (0, 2)
    assert figures["with encoder, category: precision"][:2] == (2, 3)
    assert figures["with encoder, category: recall"][:2] == (2, 3)
    assert figures["with encoder: none"][:2] == (0, 1)


def test_the_present_rules_keep_what_was_measured() -> None:
    report = safety_check.measure()["report half, now"]
    assert (report["hits"].n, report["hits"].hits >= 24) == (59, True)
    assert report["false alarms"].hits <= 4
