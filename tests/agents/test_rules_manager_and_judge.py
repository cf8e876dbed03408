"""The rule-based manager chooses predictably; the judge scores by its stated rule."""

from statistics import mean

import pytest

from agents.rules import RulesJudge, RulesManager
from agents.rules.plans import fit, group_of, same_plan
from agents.seats import JudgeSeat, JudgeView, ManagerSeat, ManagerView, ProbeView
from mentalarena.case import Component, Principle
from mentalarena.errors import ConfigurationError
from tests.agents.example_case import place, run

DEPRESSION = "Major depressive disorder, single episode, moderate"


def principle(name: str) -> Principle:
    return Principle(id=name, group="g", text=f"Does {name}.", utterances=("I do.", "I did."))


def chosen(*similarities: float, seed: int = 0) -> int:
    rows = tuple((principle(f"p{i}"), s) for i, s in enumerate(similarities))
    view = ManagerView(("copes",), rows)
    return run(RulesManager().choose_principle(view, place("encode", 0, seed))).value.choice


def test_best_principle_is_chosen_and_near_ties_are_drawn() -> None:
    assert isinstance(RulesManager(), ManagerSeat)
    assert {chosen(0.4, 0.6, 0.3, seed=seed) for seed in range(20)} == {2}
    assert {chosen(0.60, 0.59, 0.3, seed=seed) for seed in range(40)} == {1, 2}
    with pytest.raises(ConfigurationError, match="candidates"):
        chosen()


def probed(*before: Component) -> Component:
    view = ProbeView(
        ((Component.EMOTIONS, "distorted", 0.9), (Component.BEHAVIORS, "missed", 0.5)), before
    )
    return run(RulesManager().choose_probe(view, place("decode"))).value.component


def test_worst_is_probed_unless_just_probed() -> None:
    assert probed() is Component.EMOTIONS
    assert probed(Component.EMOTIONS) is Component.BEHAVIORS
    assert probed(Component.EMOTIONS, Component.BEHAVIORS) is Component.EMOTIONS
    only = ProbeView(((Component.EMOTIONS, "missed", 0.9),), (Component.EMOTIONS,))
    answer = run(RulesManager().choose_probe(only, place("decode")))
    assert answer.value.component is Component.EMOTIONS


def scores(name: str, before: int, after: int | None, kind: str = "treatment") -> list[int]:
    found = []
    for seed in range(40):
        view = JudgeView((), DEPRESSION, kind, name, "", "Fine.", before, after)  # type: ignore[arg-type]
        answer = run(RulesJudge().score(view, place("trial", 0, seed), seed % 3)).value
        assert answer is not None
        assert "fit" in answer.reason
        found.append(answer.score)
    return found


def test_score_follows_fit_change_and_level() -> None:
    assert isinstance(RulesJudge(), JudgeSeat)
    good = scores("Cognitive behavioral therapy", 4, 7)
    assert mean(good) > mean(scores("Supportive counseling", 4, 7)) + 1
    assert mean(good) > mean(scores("Cognitive behavioral therapy", 4, 4)) + 1
    assert mean(good) > mean(scores("Imagery rehearsal therapy", 4, 7)) + 2
    assert mean(good) >= 9 - 0.5
    assert 1 < len(set(good)) <= 3
    assert mean(scores("Benzodiazepine (class)", 4, 2, "medication")) < 3
    unchanged = scores("Cognitive behavioral therapy", 4, None)
    assert unchanged == scores("Cognitive behavioral therapy", 4, 4)


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("F41.0", "panic and agoraphobia"),
        ("F40.10", "social and specific phobias"),
        ("F40.00", "panic and agoraphobia"),
        ("F41.1", "anxiety"),
        ("F10.20", "alcohol"),
        ("F12.20", "substance use"),
        ("F60.3", "borderline"),
        ("F60.81", "personality"),
        ("F51.01", "sleep"),
        ("F84.0", "autism"),
        ("F90.2", "attention and other developmental"),
        ("F43.23", "adjustment and below any threshold"),
        ("F43.10", "trauma"),
        ("Z63.4", "adjustment and below any threshold"),
        ("F20.9", "psychotic"),
        (None, "general"),
    ],
)
def test_codes_find_their_table(code: str | None, name: str) -> None:
    assert group_of(code).name == name


def test_plans_of_others_are_recognized() -> None:
    assert fit("CBT", "treatment", "F32.1") == 1.0
    assert fit("An SSRI", "medication", "F41.1") == 1.0
    assert fit("Stimulant", "medication", "F20.9") < 0.4
    assert same_plan("CBT", "Cognitive behavioral therapy")
    assert not same_plan("CBT", "Psychodynamic psychotherapy")
