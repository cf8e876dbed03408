"""The rule-based patient: what it lets out, when, and in whose words."""

import re
from statistics import mean

import pytest

from agents.rules import RulesPatient
from agents.rules.language import words
from agents.rules.patient import rapport
from agents.seats import (
    Attempt,
    ConfirmView,
    DiagnosisProposal,
    Line,
    PatientSeat,
    PatientView,
    TrialView,
)
from mentalarena.case import COMPONENTS, Case, Clause, Component, Style
from tests.agents.example_case import PRINCIPLE, case, place, play, run, told

ASKED = "How do you cope when it gets to be too much?"


def say(lines: tuple[Line, ...], seed: int, who: Case) -> tuple[str, tuple[str, ...]]:
    answer = run(RulesPatient().speak(PatientView(who, PRINCIPLE, lines, 3), place("p", 1, seed)))
    assert answer.disclosed is not None
    return answer.value.text, answer.disclosed


def share_disclosing(lines: tuple[Line, ...], who: Case, topic: str, seeds: int = 300) -> float:
    return mean(
        any(key.startswith(topic) for key in say(lines, seed, who)[1]) for seed in range(seeds)
    )


def clauses_of(who: Case) -> dict[str, Clause]:
    model = who.cognitive_model
    found = {f"history:{i}": clause for i, clause in enumerate(who.history)}
    found |= {f"situation:{i}": clause for i, clause in enumerate(who.situation)}
    for component in COMPONENTS:
        if component is not Component.BEHAVIOR_PRINCIPLES:
            for i, clause in enumerate(model.clauses(component)):
                found[f"{component.value}:{i}"] = clause
    return found


def test_satisfies_the_protocol() -> None:
    assert isinstance(RulesPatient(), PatientSeat)


@pytest.mark.parametrize("style", list(Style))
def test_opens_with_one_of_its_openings(style: Style) -> None:
    who = case(style)
    texts = {say((), seed, who)[0] for seed in range(30)}
    assert len(texts) > 3
    for text in texts:
        assert any(words(o) == words(text)[-len(words(o)) :] or o[5:] in text for o in who.openings)


def test_same_place_same_answer() -> None:
    lines = told("I dropped a tray.", ASKED)
    for style in Style:
        for seed in range(10):
            assert say(lines, seed, case(style)) == say(lines, seed, case(style))


@pytest.mark.parametrize("style", list(Style))
def test_never_speaks_the_record_and_tells_what_it_disclosed(style: Style) -> None:
    who = case(style)
    known = clauses_of(who)
    record = " | ".join(" ".join(words(clause.text)) for clause in known.values())
    for seed in range(12):
        lines, disclosed = play(seed, 9, style)
        spoken = " ".join(line.text for line in lines if line.speaker == "patient")
        tokens = words(spoken)
        for i in range(len(tokens) - 4):
            assert " ".join(tokens[i : i + 5]) not in record
        assert all(line.text.strip() for line in lines)
        for key in disclosed:
            ways = PRINCIPLE.utterances if key.startswith("behavior_pr") else known[key].utterances
            assert any(" ".join(words(way)) in " ".join(tokens) for way in ways), key


@pytest.mark.parametrize("style", list(Style))
def test_no_utterance_is_spoken_twice(style: Style) -> None:
    who = case(style)
    for seed in range(12):
        lines, _ = play(seed, 12, style)
        tokens = " ".join(" ".join(words(x.text)) for x in lines if x.speaker == "patient")
        for clause in clauses_of(who).values():
            for way in clause.utterances:
                assert tokens.count(" ".join(words(way))) <= 1, way


def test_aim_raises_disclosure() -> None:
    who = case()
    aimed = share_disclosing(told("I dropped a tray.", ASKED), who, "coping_strategies")
    beside = share_disclosing(
        told("I dropped a tray.", "How do you cope, and what did you do then, and did you sleep?"),
        who,
        "coping_strategies",
    )
    away = share_disclosing(
        told("I dropped a tray.", "When did it begin?"), who, "coping_strategies"
    )
    assert aimed > beside + 0.1
    assert beside > away


@pytest.mark.parametrize("style", [Style.PLAIN, Style.GUARDED, Style.HOSTILE])
def test_rapport_raises_disclosure(style: Style) -> None:
    who = case(style)
    warm, cold = ["I dropped a tray."], ["I dropped a tray."]
    for _ in range(3):
        warm += ["Thank you for telling me, that makes sense to me.", "Mm."]
        cold += ["That is not true, you are wrong about this.", "Mm."]
    warm_lines, cold_lines = told(*warm, ASKED), told(*cold, ASKED)
    assert rapport(style, warm_lines) > rapport(style, cold_lines)
    warm_share = share_disclosing(warm_lines, who, "coping_strategies")
    assert warm_share > share_disclosing(cold_lines, who, "coping_strategies") + 0.1


def test_asking_the_same_question_again_costs_rapport() -> None:
    fresh = told("A.", ASKED, "B.", "What takes the edge off?")
    stale = told("A.", ASKED, "B.", ASKED)
    assert rapport(Style.PLAIN, stale) < rapport(Style.PLAIN, fresh)


def test_styles_differ() -> None:
    lines = told("I dropped a tray.", ASKED)
    length = {
        s: mean(len(words(say(lines, seed, case(s))[0])) for seed in range(150)) for s in Style
    }
    told_share = {s: share_disclosing(lines, case(s), "coping_strategies", 150) for s in Style}
    assert length[Style.VERBOSE] > 1.4 * length[Style.PLAIN] > length[Style.GUARDED]
    assert told_share[Style.PLAIN] > told_share[Style.GUARDED] + 0.2
    assert told_share[Style.PLAIN] > told_share[Style.HOSTILE] + 0.1
    assert told_share[Style.PLAIN] > told_share[Style.TANGENTIAL] + 0.15


def test_asked_again_it_takes_the_second_way_and_then_says_so() -> None:
    who = case()
    model = who.cognitive_model.coping_strategies
    first = tuple(c.utterances[0] for c in model)
    lines = told("I dropped a tray.", ASKED, " ".join(first), "What takes the edge off for you?")
    again = [say(lines, seed, who) for seed in range(60)]
    seconds = [c.utterances[1] for c in model]
    assert sum(any(s.lower()[5:] in text.lower() for s in seconds) for text, _ in again) > 30
    everything = " ".join(way for c in model for way in c.utterances)
    lines = told("I dropped a tray.", ASKED, everything, "What takes the edge off for you?")
    spent = [say(lines, seed, who) for seed in range(60)]
    assert not any(key.startswith("coping") for _, keys in spent for key in keys)
    said_so = re.compile(r"said|told|repeat|covered|more to it|gave you|nothing new|anything else")
    assert sum(bool(said_so.search(text.lower())) for text, _ in spent) > 30


def test_imported_clauses_get_marked_utterances() -> None:
    who = case()
    bare = who.cognitive_model.model_copy(
        update={
            "coping_strategies": (Clause(text="Avoids the staff room and hides her tiredness."),),
            "emotions": (Clause(text="ashamed"),),
        }
    )
    who = who.model_copy(update={"cognitive_model": bare})
    told_ = {say(told("A.", ASKED), seed, who) for seed in range(40)}
    made = [text for text, keys in told_ if "coping_strategies:0:made" in keys]
    assert made
    assert all("I avoid the staff room" in text for text in made)
    asked = told("A.", "What do you feel when that happens?")
    assert any("emotions:0:made" in say(asked, seed, who)[1] for seed in range(20))


def test_safety_question_is_answered_and_discloses_nothing() -> None:
    lines = told("It is all too much.", "Are you thinking of hurting yourself? Are you safe?")
    text, disclosed = say(lines, 3, case())
    assert disclosed == ()
    assert text


def options(*labels: str) -> tuple[DiagnosisProposal, ...]:
    return tuple(DiagnosisProposal(label=label) for label in labels)


def test_confirms_the_nearer_diagnosis_nearly_always() -> None:
    patient = RulesPatient()
    offered = options("Panic disorder", "Recurrent major depression, moderate")
    choices = [
        run(patient.confirm(ConfirmView(case(), (), offered), place("confirm", 0, seed))).value
        for seed in range(400)
    ]
    wrong = mean(answer.choice == 1 for answer in choices)
    assert 0.03 < wrong < 0.12
    record = " ".join(clause.text for clause in case().history)
    for answer in choices:
        assert any(way[5:] in answer.reason for c in case().history for way in c.utterances), (
            answer.reason
        )
        assert "depress" not in answer.reason.lower()
        assert answer.reason not in record


def test_family_beats_another_family_and_no_reference_falls_back_on_history() -> None:
    patient = RulesPatient()
    offered = options("Dysthymic disorder", "Schizophrenia, unspecified")
    answers = [
        run(patient.confirm(ConfirmView(case(), (), offered), place("c", 0, seed))).value.choice
        for seed in range(60)
    ]
    assert answers.count(1) > 48
    unknown = case().model_copy(update={"reference": ()})
    offered = options(
        "Major depressive disorder, recurrent, moderate", "Specific (isolated) phobias"
    )
    answers = [
        run(patient.confirm(ConfirmView(unknown, (), offered), place("c", 0, seed))).value.choice
        for seed in range(60)
    ]
    assert answers.count(1) > 48


def test_single_option_is_taken_or_left() -> None:
    patient = RulesPatient()
    fits = [
        run(patient.confirm(ConfirmView(case(), (), options(label)), place("c", 0, seed))).value
        for label in ("Major depressive disorder, recurrent, moderate",)
        for seed in range(50)
    ]
    alien = [
        run(
            patient.confirm(ConfirmView(case(), (), options("Narcolepsy")), place("c", 0, seed))
        ).value
        for seed in range(50)
    ]
    assert sum(answer.choice == 1 for answer in fits) > 40
    assert sum(answer.choice is None for answer in alien) > 40


def trial(name: str, seed: int, kind: str = "treatment", **changes: object) -> TrialView:
    values = {
        "case": case(),
        "lines": (),
        "diagnosis": "Major depressive disorder, recurrent, moderate",
        "kind": kind,
        "name": name,
        "rationale": "",
        "health": 4,
        "earlier": (),
    } | changes
    return TrialView(**values)  # type: ignore[arg-type]


def moves(name: str, kind: str = "treatment", **changes: object) -> list[int]:
    found = []
    for seed in range(120):
        view = trial(name, seed, kind, **changes)
        answer = run(RulesPatient().respond(view, place("trial", 0, seed))).value
        assert answer.response
        assert answer.health is not None
        found.append(answer.health - view.health)
    return found


def test_health_moves_by_fit_history_and_repetition() -> None:
    first_line = mean(moves("Cognitive behavioral therapy"))
    alien = mean(moves("Exposure and response prevention"))
    assert first_line > alien + 1.5
    assert mean(moves("Supportive counseling")) < mean(moves("Problem-solving therapy")) - 0.8
    earlier = (Attempt("treatment", "CBT in a group", "fine", 6.0),)
    assert mean(moves("Cognitive behavioral therapy", earlier=earlier)) < first_line - 0.6
    assert mean(moves("Benzodiazepine (class)", "medication")) < 0
    hostile = mean(moves("Cognitive behavioral therapy", case=case(Style.HOSTILE)))
    assert hostile < first_line
    assert len(set(moves("Cognitive behavioral therapy"))) > 1


def test_health_stays_within_its_scale() -> None:
    assert max(moves("Cognitive behavioral therapy", health=10)) == 0
    assert min(moves("Benzodiazepine (class)", "medication", health=1)) == 0
