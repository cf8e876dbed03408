"""The door to a model: journal, re-asks, salvage; and reading answers, whatever they look like."""

import json
import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.answers import json_schema, read
from agents.ask import Ask, Reask
from agents.labelled import labelled_format, to_labelled
from agents.prompting import render
from agents.seats import (
    Answer,
    ComponentStatement,
    Confirmation,
    Diagnoses,
    DiagnosisProposal,
    Formulation,
    PlanProposal,
    PlanResponse,
    PrincipleChoice,
    ProbeChoice,
    Score,
    Utterance,
)
from agents.small_form import labelled_grammar, to_small_form
from benchmarks.mock_schema import check_strict
from mentalarena.case import COMPONENTS
from mentalarena.errors import ParseError, ReplayError
from mentalarena.provider import Reply
from tests.agents.support import LINES, MemoryJournal, Scripted, place

TYPES: tuple[type[Answer], ...] = (
    Formulation,
    Diagnoses,
    Confirmation,
    PlanProposal,
    PlanResponse,
    Score,
    PrincipleChoice,
    ProbeChoice,
)
PROMPT = render("therapist", "ask", LINES, formulation="(none yet)", guidance="", left=3)


def asker(*answers: str | Reply, mode: str = "labelled") -> tuple[Ask, Scripted]:
    scripted = Scripted(list(answers))
    return Ask(scripted, seat="judge", spec="openai:x", answers=mode), scripted


async def test_every_call_is_recorded_with_its_failure() -> None:
    journal = MemoryJournal()
    ask, scripted = asker("nonsense", "score: 8\nreason: fits")
    got = await ask(PROMPT, Score, place(journal), "score")
    assert got.value == Score(score=8, reason="fits")
    first, second = journal.calls.values()
    assert first.failure is not None
    assert first.failure.startswith("parse: ")
    assert first.answer == "nonsense"
    assert second.failure is None
    assert got.call_id == second.id
    assert got.failures[0].call_id == first.id
    assert second.resolved_model == "scripted-1"
    assert (second.prompt_tokens, second.completion_tokens) == (10, 5)
    assert second.template_hash == PROMPT.template.hash
    assert journal.templates[PROMPT.template.hash] == ("therapist.ask", PROMPT.template.text)
    note = scripted.asked[1][1]["content"].removeprefix(PROMPT.user)
    assert "could not be used" in note
    assert scripted.asked[0][0] == scripted.asked[1][0]


async def test_a_second_time_nothing_is_asked() -> None:
    journal = MemoryJournal()
    ask, _ = asker("nonsense", "score: 8")
    first = await ask(PROMPT, Score, place(journal), "score")
    silent, scripted = asker()
    assert await silent(PROMPT, Score, place(journal), "score") == first
    assert scripted.asked == []


async def test_an_interrupted_re_ask_goes_on_where_it_stopped() -> None:
    journal = MemoryJournal()
    ask, _ = asker("nonsense")
    with pytest.raises(IndexError):
        await ask(PROMPT, Score, place(journal), "score")
    later, scripted = asker("score: 5")
    got = await later(PROMPT, Score, place(journal), "score")
    assert got.value.score == 5
    assert len(scripted.asked) == 1


async def test_a_changed_prompt_stops_a_replay() -> None:
    journal = MemoryJournal()
    ask, _ = asker("score: 8")
    await ask(PROMPT, Score, place(journal), "score")
    changed = render("therapist", "ask", LINES[:1], formulation="", guidance="", left=3)
    with pytest.raises(ReplayError):
        await ask(changed, Score, place(journal), "score")


async def test_an_answer_is_not_used_before_it_is_recorded() -> None:
    class Refusing(MemoryJournal):
        async def record(self, call: object, template: object) -> None:
            raise OSError("disk full")

    ask, _ = asker("score: 8")
    with pytest.raises(OSError, match="disk full"):
        await ask(PROMPT, Score, place(Refusing()), "score")


async def test_the_end_of_re_asks_is_an_error_that_names_seat_and_purpose() -> None:
    ask, scripted = asker("a", "b", "c", "d")
    with pytest.raises(ParseError, match=r"judge \(openai:x\).*Score for score in 3 answers"):
        await ask(PROMPT, Score, place(MemoryJournal()), "score")
    assert len(scripted.asked) == 3


async def test_salvage_takes_the_latest_answer_that_holds_something() -> None:
    journal = MemoryJournal()
    ask, _ = asker("first", "second", "")
    got = await ask(
        PROMPT, Score, place(journal), "score", salvage=lambda text: Score(score=len(text))
    )
    assert got.value.score == len("second")
    assert journal.calls[got.call_id].answer == "second"
    assert len(got.failures) == 3


async def test_a_check_asks_again() -> None:
    def check(score: Score) -> None:
        if score.score < 5:
            raise Reask("parse", "too low")

    ask, scripted = asker("score: 2", "score: 7")
    got = await ask(PROMPT, Score, place(MemoryJournal()), "score", check=check)
    assert got.value.score == 7
    assert "too low" in scripted.asked[1][1]["content"]


async def test_a_truncated_answer_is_used_and_recorded_as_such() -> None:
    journal = MemoryJournal()
    ask, _ = asker(Reply("I see. And when di", "m", 1, 1, 1.0, 1, truncated=True))
    got = await ask(PROMPT, Utterance, place(journal), "ask")
    assert got.value.text == "I see."
    assert "cut off" in got.failures[0].message
    assert "cut off" in journal.calls[got.call_id].failure
    assert await ask(PROMPT, Utterance, place(journal), "ask") == got


async def test_a_truncated_object_is_asked_for_again() -> None:
    cut = Reply('{"score": 7, "rea', "m", 1, 1, 1.0, 1, truncated=True)
    ask, _ = asker(cut, '{"score": 7, "reason": "fits"}', mode="json")
    got = await ask(PROMPT, Score, place(MemoryJournal()), "score")
    assert got.value.reason == "fits"
    assert "cut off" in got.failures[0].message


async def test_modes_have_keys_of_their_own_prompts() -> None:
    journal = MemoryJournal()
    ask, _ = asker("score: 8")
    await ask(PROMPT, Score, place(journal), "score")
    other, _ = asker("{}", mode="json")
    with pytest.raises(ReplayError):
        await other(PROMPT, Score, place(journal), "score")


# --- reading -------------------------------------------------------------------------------------

WORDS = st.text(st.characters(categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=60).map(
    lambda text: " ".join(text.split())
)
# What a line begins with decides what it is: texts that begin like a label or a list are not what
# a writer of labelled lines would put there.
TEXT = WORDS.map(lambda text: f"a{text}").filter(lambda text: not text.startswith("a<"))
NUMBER = st.integers(1, 10)
VALUES: st.SearchStrategy[Answer] = st.one_of(
    st.builds(
        Formulation,
        **{
            component.value: st.builds(
                ComponentStatement,
                statement=TEXT,
                quotes=st.lists(TEXT, max_size=3).map(tuple),
            )
            for component in COMPONENTS
        },
    ),
    st.lists(
        st.builds(DiagnosisProposal, label=TEXT, rationale=TEXT),
        min_size=1,
        max_size=2,
        unique_by=lambda option: option.label.casefold(),
    ).map(lambda options: Diagnoses(options=tuple(options))),
    st.builds(Confirmation, choice=st.integers(1, 2), reason=TEXT),
    st.builds(PlanProposal, name=TEXT, rationale=TEXT),
    st.builds(PlanResponse, response=TEXT, health=NUMBER),
    st.builds(Score, score=NUMBER, reason=TEXT),
    st.builds(PrincipleChoice, choice=NUMBER, reason=TEXT),
    st.builds(ProbeChoice, component=st.sampled_from(COMPONENTS)),
)


@given(VALUES)
def test_what_is_written_is_read_back(value: Answer) -> None:
    assert read(to_labelled(value), type(value), labelled=True) == value
    assert read(value.model_dump_json(), type(value), labelled=False) == value
    fenced = f"Here you are:\n```json\n{value.model_dump_json(indent=1)}\n```\nBye {{}}"
    assert read(fenced, type(value), labelled=False) == value


LONG = st.text(st.sampled_from("abc, <>'.\u2026-9"), max_size=300).map(lambda text: f"- a b {text}")
STATED = st.builds(
    ComponentStatement,
    # A quote of nothing, and a text that is too short to be one, are left out.
    statement=st.one_of(st.just(""), st.just("- 9"), LONG),
    quotes=st.lists(LONG, max_size=3).map(tuple),
)


def as_regex(grammar: str) -> re.Pattern[str]:
    """What a grammar of labelled lines lets pass."""
    root, text = (rule.partition("::=")[2].strip() for rule in grammar.strip().splitlines())
    parts = re.findall(r'"(?:[^"\\]|\\.)*"|\[[^]]*\]|text|[()?|]', root)
    known = {"text": f"(?:{text.replace(' ', '')})"}
    return re.compile(
        "".join(
            re.escape(json.loads(part)) if part.startswith('"') else known.get(part, part)
            for part in parts
        )
    )


@given(st.builds(Formulation, core_beliefs=STATED, automatic_thoughts=STATED))
def test_what_a_small_model_is_taught_is_what_its_grammar_allows(value: Formulation) -> None:
    form = to_small_form(value)
    assert as_regex(labelled_grammar(Formulation)).fullmatch(form), form
    # Every label in its order, parts that were not stated empty; a quote may be left out.
    labels = [row.partition(":")[0] for row in form.splitlines()]
    assert [label for label in labels if label != "quote"] == [
        component.value.replace("_", " ") for component in COMPONENTS
    ]
    back = read(form, Formulation, labelled=True)
    assert len(back.core_beliefs.quotes) <= 1
    plain = re.sub("[<>]", "", " ".join(value.core_beliefs.statement.split()))
    assert back.core_beliefs.statement in plain
    assert back.behaviors.statement == ""


def test_a_short_formulation_is_taught_whole() -> None:
    stated = ComponentStatement(statement="They fear the dark.", quotes=("I keep the light on",))
    value = Formulation(emotions=ComponentStatement(statement="afraid"), behaviors=stated)
    assert read(to_small_form(value), Formulation, labelled=True) == value


def dressed(row: str, random: Random) -> str:
    """A labelled line as models like to write it."""
    label, _, text = row.partition(": ")
    label = random.choice([label, label.upper(), label.title(), label.replace(" ", "_")])
    form = random.choice(
        ["{}: {}", "- {}: {}", "**{}:** {}", "**{}**: {}", "## {}: {}", "{} :  {}"]
    )
    return form.format(label, text)


@given(VALUES.filter(lambda value: not isinstance(value, Formulation)), st.randoms())
def test_case_marks_and_order_do_not_matter(value: Answer, random: Random) -> None:
    rows = [dressed(row, random) for row in to_labelled(value).splitlines()]
    random.shuffle(rows)
    assert read("\n\n".join(rows), type(value), labelled=True) == value


GARBAGE = st.one_of(
    st.text(max_size=300),
    st.lists(
        st.one_of(
            st.text(max_size=40),
            st.sampled_from(
                [row for kind in TYPES for row in labelled_format(kind).splitlines()]
                + ["score:", "quote: x", "health: ninety", "{", '{"score": 4', "option 2: x", "[]"]
            ),
        ),
        max_size=12,
    ).map("\n".join),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["score", "options", "health", "emotions", "label"]), inner
            )
        ),
        max_leaves=8,
    ).map(lambda value: json.dumps(value)),
)


@given(GARBAGE, st.sampled_from(TYPES), st.booleans(), st.booleans())
def test_garbage_raises_nothing_but_parse_errors(
    text: str, kind: type[Answer], labelled: bool, partial: bool
) -> None:
    try:
        value = read(text, kind, labelled=labelled, partial=partial)
    except ParseError:
        return
    assert isinstance(value, kind)


@given(st.text(max_size=80))
def test_a_score_needs_its_place(text: str) -> None:
    try:
        value = read(f"I think {text.replace(':', '')}", Score, labelled=True)
    except ParseError:
        return
    # Only a line that begins with the label, or a whole object, may count.
    assert "score" in text.lower() or "{" in text, value


def test_lines_after_a_text_belong_to_it_and_repeats_do_not_count() -> None:
    text = "name: Light therapy\nrationale: It is winter\nand dark.\nname: Another\nrationale: no"
    assert read(text, PlanProposal, labelled=True) == PlanProposal(
        name="Light therapy", rationale="It is winter and dark."
    )


@pytest.mark.parametrize("kind", TYPES)
def test_schemas_are_strict(kind: type[Answer]) -> None:
    schema = json_schema(kind)
    check_strict(schema["schema"], schema["name"])
    text = json.dumps(schema["schema"])
    assert '"default"' not in text
    assert '"null"' not in text


def test_the_format_says_what_to_fill_in() -> None:
    assert labelled_format(Score).splitlines() == [
        "score: <a whole number from 1 to 10>",
        "reason: <one sentence>",
    ]
    assert labelled_format(Formulation).count("quote:") == len(COMPONENTS)


def test_a_copied_form_is_no_answer() -> None:
    with pytest.raises(ParseError):
        read(labelled_format(PlanProposal), PlanProposal, labelled=True)


def test_grammars_hold_labels_ranges_and_options() -> None:
    assert '("1" | "2" | "3"' in labelled_grammar(Score)
    assert '"core_beliefs" |' in labelled_grammar(ProbeChoice)
    assert labelled_grammar(Diagnoses).count("rationale") == 2
