"""The rule-based therapist: what it asks, what it states, what is bent on purpose."""

from itertools import combinations
from statistics import mean
from typing import get_args

import pytest

from agents.rules import RulesTherapist
from agents.rules.formulation import listen
from agents.rules.language import data, normal, sentences, words
from agents.rules.plans import code_of
from agents.rules.therapist import asked_topic, read_guidance
from agents.seats import (
    Answered,
    Attempt,
    Formulation,
    Line,
    PlanView,
    TherapistSeat,
    TherapistView,
)
from mentalarena.case import CLOSED_LISTS, COMPONENTS, Component, DisorderGroup, Style
from mentalarena.errors import ConfigurationError
from mentalarena.guidance import guidance_text
from mentalarena.nosology import family
from tests.agents.example_case import case, place, play, run, told

TALK = told(
    "I dropped a whole tray on Monday.",
    "What goes through your mind at that moment?",
    "I thought, now they know what they've got in me.",
    "How do you cope when it gets to be too much?",
    "I keep busy, I say yes to every extra shift they have.",
    "What do you feel when that happens?",
    "I felt ashamed, I wanted to sink into the floor.",
    "Deep down, how do you see yourself?",
    "I'm a failure, if you add it all up.",
    "What rules do you live by when it comes to this?",
    "I should never need a hand from anybody, that's how I was raised.",
    "What have you stopped doing because of it?",
    "I've stopped picking up when my sister rings.",
    "When you are low, what do you expect of trying?",
    "On bad days there's no point in anything I could start.",
    "How are you with other people, when you are not in here?",
    "When people fuss over me I laugh and hand them a plate.",
)


def formulated(
    lines: tuple[Line, ...],
    seed: int = 0,
    misread: float = 0.0,
    last: Formulation | None = None,
    visit: int = 0,
) -> Answered[Formulation]:
    view = TherapistView(lines, "", last, 0)
    return run(RulesTherapist(misread).formulate(view, place("formulate", visit, seed)))


def test_satisfies_the_protocol_and_checks_its_rate() -> None:
    assert isinstance(RulesTherapist(), TherapistSeat)
    with pytest.raises(ConfigurationError, match="misread"):
        RulesTherapist(1.5)


def test_same_place_same_answer() -> None:
    for seed in range(8):
        assert play(seed) == play(seed)
    assert formulated(TALK, 3, 0.5) == formulated(TALK, 3, 0.5)


def test_no_question_is_asked_twice_and_topics_spread() -> None:
    bank = {normal(q).strip() for qs in data("therapist")["questions"].values() for q in qs}
    for seed in range(6):
        lines, _ = play(seed, 20)
        asked = [x.text for x in lines if x.speaker == "therapist"]
        questions = [q for text in asked for q in bank if q in normal(text)]
        assert len(questions) == len(set(questions)) == len(asked)
        assert {asked_topic(text) for text in asked[:10]} >= {c.value for c in COMPONENTS}


def test_what_it_quotes_was_said() -> None:
    quoting = 0
    for seed in range(20):
        lines, _ = play(seed, 8, Style.VERBOSE)
        for i, line in enumerate(lines):
            if line.speaker == "therapist" and '"' in line.text:
                quote = line.text.split('"')[1]
                assert any(quote in earlier.text for earlier in lines[:i]), quote
                quoting += 1
    assert quoting > 15


@pytest.mark.parametrize("style", list(Style))
def test_five_episodes_in_a_row_do_not_read_alike(style: Style) -> None:
    spoken = {}
    for seed in range(5):
        lines, _ = play(seed, 6, style)
        for speaker in ("patient", "therapist"):
            spoken[seed, speaker] = {
                normal(sentence)
                for line in lines
                if line.speaker == speaker
                for sentence in sentences(line.text)
            }
    for speaker, limit in (("therapist", 0.25), ("patient", 0.45)):
        shares = [
            len(a & b) / min(len(a), len(b))
            for a, b in combinations([spoken[seed, speaker] for seed in range(5)], 2)
        ]
        assert mean(shares) < limit, (speaker, mean(shares))


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("mode", ["revisit", "explore"])
def test_guidance_is_obeyed(component: Component, mode: str) -> None:
    text = guidance_text("topic", component, mode)  # type: ignore[arg-type]
    assert read_guidance(text) == (component, mode, "")
    last = formulated(TALK).value
    for seed in range(15):
        answer = run(
            RulesTherapist().ask(TherapistView(TALK, text, last, 1), place("ask", 7, seed))
        )
        assert asked_topic(answer.value.text) == component.value
        assert normal(component.label).strip() not in normal(answer.value.text) or component in (
            Component.EMOTIONS,
        )


def test_oracle_guidance_is_used_to_aim() -> None:
    record = ("Takes on extra shifts so as not to think.", "Hides tiredness behind jokes.")
    text = guidance_text("oracle", Component.COPING_STRATEGIES, "explore", record)
    component, mode, hint = read_guidance(text)
    assert (component, mode) == (Component.COPING_STRATEGIES, "explore")
    assert "shifts" in hint
    answer = run(RulesTherapist().ask(TherapistView(TALK, text, None, 1), place("ask")))
    assert asked_topic(answer.value.text) == "coping_strategies"
    assert {"shifts", "tiredness", "behind"} & set(words(answer.value.text))


def test_without_guidance_it_asks_for_what_it_knows_least() -> None:
    silent = told("I dropped a tray.")
    topics = {
        asked_topic(
            run(
                RulesTherapist().ask(TherapistView(silent, "", None, 5), place("a", 0, s))
            ).value.text
        )
        for s in range(40)
    }
    assert topics <= {"situation", "history", "emotions", "automatic_thoughts"}
    rest = TALK[:13]
    nexts = {
        asked_topic(
            run(RulesTherapist().ask(TherapistView(rest, "", None, 5), place("a", 0, s))).value.text
        )
        for s in range(40)
    }
    done = {asked_topic(line.text) for line in rest if line.speaker == "therapist"}
    assert not nexts & done


def test_formulates_each_component_from_its_answer() -> None:
    found = formulated(TALK).value
    assert found.core_beliefs.statement == "helpless: failure"
    assert "ashamed" in found.emotions.statement
    assert "say yes to every extra shift" in found.coping_strategies.statement
    assert "they know what they've got in them" in found.automatic_thoughts.statement
    assert "never need a hand" in found.intermediate_beliefs.statement
    assert "no point" in found.intermediate_beliefs_depression.statement
    assert "their sister" in found.behaviors.statement
    assert "hand them a plate" in found.behavior_principles.statement


def test_nothing_said_is_nothing_stated() -> None:
    found = formulated(TALK[:3]).value
    assert found.coping_strategies.statement == ""
    assert found.coping_strategies.quotes == ()
    assert formulated(told("Hello.")).value.is_empty()


@pytest.mark.parametrize("style", list(Style))
def test_statements_rest_on_verbatim_quotes_and_spoken_words(style: Style) -> None:
    for seed in range(6):
        lines, _ = play(seed, 9, style)
        spoken = [line.text for line in lines if line.speaker == "patient"]
        said = set(words(" ".join(spoken)))
        found = formulated(lines, seed).value
        for component in COMPONENTS:
            stated = found.of(component)
            assert bool(stated.statement) == bool(stated.quotes)
            assert all(any(quote in text for text in spoken) for quote in stated.quotes)
            if component in CLOSED_LISTS:
                labels = stated.statement.split("; ") if stated.statement else []
                assert set(labels) <= set(CLOSED_LISTS[component])
                continue
            frames = words(" ".join(data("therapist")["statements"][component.value]))
            person = set(
                words("they them their theirs themselves are were have had would will not")
            )
            assert set(words(stated.statement)) <= said | set(frames) | person


def test_a_good_listener_hears_most_of_what_was_said() -> None:
    right = total = 0
    for seed in range(20):
        lines, disclosed = play(seed, 9)
        heard = listen(lines, asked_topic)
        model = case().cognitive_model
        for key in disclosed:
            topic, index = key.split(":")[:2]
            if topic in ("history", "situation", "behavior_principles"):
                continue
            ways = model.clauses(Component(topic))[int(index)].utterances
            mine = [h for h in heard if any(h.text.lower() in w.lower() for w in ways)]
            total += 1
            right += any(h.topic == topic for h in mine)
    assert total > 100
    assert right / total > 0.75


def test_misreadings_come_at_their_rate_with_the_truth_kept() -> None:
    kinds: dict[str, int] = {}
    stated = bent = 0
    for seed in range(250):
        honest = formulated(TALK, seed).value
        answer = formulated(TALK, seed, 0.2)
        hurt = {injection.component: injection for injection in answer.injections}
        for component in COMPONENTS:
            stated += bool(honest.of(component).statement)
            now = answer.value.of(component)
            if component in hurt:
                bent += 1
                kinds[hurt[component].kind] = kinds.get(hurt[component].kind, 0) + 1
                assert hurt[component].truth == honest.of(component).statement
                assert now.statement
                assert now.statement != honest.of(component).statement
                if hurt[component].kind == "unsupported":
                    text = " ".join(line.text for line in TALK)
                    assert all(quote not in text for quote in now.quotes)
            else:
                assert now == honest.of(component)
    assert stated == 250 * len(COMPONENTS)
    assert 0.16 < bent / stated < 0.24
    assert set(kinds) == {
        "negated",
        "wrong_agent",
        "wrong_emotion",
        "reversed",
        "swapped",
        "unsupported",
    }
    assert not formulated(TALK, 1, 0.0).injections
    assert len(formulated(TALK, 1, 1.0).injections) == len(COMPONENTS)


def test_a_probe_repairs_and_the_rest_stays_bent() -> None:
    for seed in range(10):
        first = formulated(TALK, seed, 1.0)
        more = (
            *TALK,
            Line("therapist", "What takes the edge off?"),
            Line("patient", "I joke with the girls at the counter so nobody sees."),
        )
        second = formulated(more, seed, 1.0, first.value, 1)
        hurt = {injection.component: injection.kind for injection in second.injections}
        assert Component.COPING_STRATEGIES not in hurt
        assert "say yes to every extra shift" in second.value.coping_strategies.statement
        before = {injection.component: injection.kind for injection in first.injections}
        del before[Component.COPING_STRATEGIES]
        assert hurt == before
        again = (
            *more,
            Line("therapist", "What do you feel when that happens?"),
            Line("patient", "I feel so sad, I cry into the dishwasher."),
        )
        third = formulated(again, seed, 1.0, second.value, 2)
        hurt = {injection.component: injection.kind for injection in third.injections}
        assert Component.COPING_STRATEGIES not in hurt
        assert Component.EMOTIONS not in hurt
        assert len(hurt) == len(COMPONENTS) - 2


def test_diagnoses_two_distinct_labels_with_quotes() -> None:
    hits = 0
    for seed in range(20):
        lines, _ = play(seed, 9, Style.VERBOSE)
        answer = run(RulesTherapist().diagnose(TherapistView(lines, "", None, 0), place("d")))
        labels = [option.label for option in answer.value.options]
        assert len(set(labels)) == 2
        for option in answer.value.options:
            quote = option.rationale.split('"')[1]
            assert any(quote in line.text for line in lines if line.speaker == "patient")
        codes = [code_of(label) for label in labels]
        assert all(codes)
        hits += any(family(code) == "depressive" for code in codes if code)
    assert hits >= 16


def test_diagnoses_from_a_mute_patient_too() -> None:
    lines = told("Hm.")
    answer = run(RulesTherapist().diagnose(TherapistView(lines, "", None, 0), place("d")))
    assert len(answer.value.options) == 2


def test_indicator_tables_cover_the_field() -> None:
    labels = list(data("disorders")["indicators"])
    codes = [code_of(label) for label in labels]
    assert len(labels) >= 25
    assert all(codes)
    assert len(set(codes)) == len(codes)
    assert {family(code) for code in codes if code} >= set(get_args(DisorderGroup))


@pytest.mark.parametrize("label", list(data("disorders")["indicators"]))
def test_plans_never_repeat_and_start_with_the_first_line(label: str) -> None:
    for kind in ("treatment", "medication"):
        earlier: list[Attempt] = []
        for visit in range(20):
            view = PlanView(TALK, Formulation(), label, kind, tuple(earlier))
            name = run(RulesTherapist().propose(view, place("p", visit))).value.name
            assert words(name) not in {words(attempt.name) for attempt in earlier}
            assert not any(unit in words(name) for unit in ("mg", "milligram", "dose"))
            earlier.append(Attempt(kind, name, "fine", 5.0))


def test_the_check_has_wordings_of_its_own() -> None:
    for seed in range(40):
        view, at = TherapistView(TALK, "", None, 0), place("formulate", 0, seed)
        usual = run(RulesTherapist(1.0).formulate(view, at))
        check = run(RulesTherapist(1.0, "check").formulate(view, at))
        kinds = {i.component: i.kind for i in usual.injections}
        for injection in check.injections:
            mine, other = check.value.of(injection.component), usual.value.of(injection.component)
            open_list = injection.component not in CLOSED_LISTS
            if injection.kind in ("negated", "reversed", "unsupported") and open_list:
                assert mine.statement != other.statement, injection
            # Where both bend a component in the same way, only the wording differs.
            if kinds.get(injection.component) == injection.kind == "swapped":
                assert mine == other
