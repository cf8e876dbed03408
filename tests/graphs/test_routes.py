"""Routing is a pure function of state and configuration."""

from dataclasses import replace
from typing import Any

import pytest

from graphs import routes
from mentalarena.config import ArenaConfig

CONFIG = ArenaConfig(exchanges=2, probe_rounds=2, max_plans=2, accept_score=9.0)


def turn(speaker: str, purpose: str, crisis: bool = False) -> dict[str, Any]:
    found = [{"kind": "passive ideation", "span": "x", "rule": "y"}] if crisis else []
    return {"speaker": speaker, "purpose": purpose, "crisis": found}


def plan(kind: str, attempt: int, score: float | None) -> dict[str, Any]:
    return {"kind": kind, "attempt": attempt, "score": score}


OPENING = [turn("patient", "opening")]
EXCHANGE = [turn("therapist", "exchange"), turn("patient", "exchange")]


@pytest.mark.parametrize(
    ("turns", "formulated", "target"),
    [
        (OPENING, False, "therapist"),
        (OPENING + EXCHANGE, False, "therapist"),
        (OPENING + 2 * EXCHANGE, False, "formulate"),
        ([turn("patient", "opening", crisis=True)], False, "safety"),
        (
            [turn("patient", "opening", True), turn("therapist", "safety"),
             turn("patient", "safety", True)],
            False,
            "therapist",
        ),
        (
            OPENING + 2 * EXCHANGE + [turn("therapist", "probe"), turn("patient", "probe")],
            True,
            "formulate",
        ),
        (
            OPENING + 2 * EXCHANGE + [turn("therapist", "probe"), turn("patient", "probe", True)],
            True,
            "safety",
        ),
    ],
)  # fmt: skip
def test_after_patient(turns: list[Any], formulated: bool, target: str) -> None:
    state: Any = {"turns": turns, "formulations": [{}] if formulated else []}
    assert routes.after_patient(state, CONFIG).target == target


def decision(outcome: str, component: str | None) -> dict[str, Any]:
    return {"decision": outcome, "component": component, "mode": "revisit", "reason": "why"}


def test_after_decode_reroutes_while_a_component_is_probed() -> None:
    state: Any = {"decisions": [decision("biased", "emotions")]}
    route = routes.after_decode(state, CONFIG)
    assert route.target == "therapist"
    assert "emotions" in route.reason
    assert "probe 1 of 2" in route.reason


def test_after_decode_goes_on_when_aligned_or_out_of_probes() -> None:
    aligned: Any = {"decisions": [decision("aligned", None)]}
    assert routes.after_decode(aligned, CONFIG).target == "diagnose"
    spent: Any = {
        "decisions": [
            decision("biased", "emotions"),
            decision("biased", "behaviors"),
            decision("biased", None),
        ]
    }
    route = routes.after_decode(spent, CONFIG)
    assert route.target == "diagnose"
    assert "probes are used" in route.reason


def test_all_probes_are_used_whatever_the_decision() -> None:
    config = replace(CONFIG, probes="all")
    aligned: Any = {"decisions": [decision("aligned", None)]}
    for number in (1, 2):
        route = routes.after_decode(aligned, config)
        assert route.target == "therapist"
        assert f"a question without guidance (probe {number} of 2)" in route.reason
        aligned["decisions"].append(decision("aligned", None))
    assert routes.after_decode(aligned, config).target == "diagnose"


@pytest.mark.parametrize(
    ("probes", "target"), [("until-aligned", "diagnose"), ("all", "therapist")]
)
def test_without_a_decoder_nothing_is_rerouted(probes: Any, target: str) -> None:
    config = replace(CONFIG, ablate="decoder", probes=probes)
    assert not routes.will_probe("biased", 0, config)
    state: Any = {"decisions": [decision("biased", None)]}
    route = routes.after_decode(state, config)
    assert route.target == target
    assert "the decoder is off" in route.reason


@pytest.mark.parametrize(
    ("outcome", "probes", "expected"),
    [("aligned", 0, False), ("biased", 0, True), ("incomplete", 1, True), ("biased", 2, False)],
)
def test_will_probe(outcome: str, probes: int, expected: bool) -> None:
    assert routes.will_probe(outcome, probes, CONFIG) is expected


@pytest.mark.parametrize(
    ("plans", "target", "kind"),
    [
        ([plan("treatment", 0, 5.0)], "propose", "treatment"),
        ([plan("treatment", 0, 9.0)], "propose", "medication"),
        ([plan("treatment", 0, None)], "propose", "treatment"),
        ([plan("treatment", 0, 1.0), plan("treatment", 1, None)], "propose", "medication"),
        ([plan("treatment", 0, 9.5), plan("medication", 0, 9.0)], "close", None),
    ],
)
def test_after_score(plans: list[Any], target: str, kind: str | None) -> None:
    state: Any = {"plans": plans}
    assert routes.after_score(state, CONFIG).target == target
    assert routes.open_kind(plans, CONFIG) == kind


def test_an_unreadable_score_is_never_the_best() -> None:
    plans: Any = [plan("treatment", 0, None), plan("treatment", 1, 1.0)]
    assert routes.best_plan(plans, "treatment") == plans[1]
    assert routes.best_plan(plans[:1], "treatment") is None


def test_the_earlier_of_equal_plans_is_chosen() -> None:
    plans: Any = [plan("treatment", 0, 7.0), plan("treatment", 1, 7.0)]
    assert routes.best_plan(plans, "treatment") == plans[0]


@pytest.mark.parametrize("probes", [0, 1, 5])
def test_recursion_limit_grows_with_the_budgets(probes: int) -> None:
    small = routes.recursion_limit(replace(CONFIG, probe_rounds=probes))
    assert routes.recursion_limit(replace(CONFIG, probe_rounds=probes + 1)) == small + 6
    assert routes.recursion_limit(replace(CONFIG, max_plans=3)) > routes.recursion_limit(CONFIG)
