"""An answer counts only where it is given as one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.tasks.parsers import parse

LETTERS = ("A", "B", "C", "D")
OPTIONS = ("Lithium", "Not to treat", "All of the above", "A walk")
WORDS = ("yes", "no", "maybe")


def letter(text: str) -> str | None:
    return parse(text, LETTERS, OPTIONS).label


def word(text: str) -> str | None:
    return parse(text, WORDS, WORDS).label


@pytest.mark.parametrize("text", [
    "B", "b", " (B) ", "**B**", "B.", "B. Not to treat", "B) Not to treat", "Not to treat",
    "not to treat.", "Answer: B", "answer: b\n", "The answer is B.", "The correct answer is (B).",
    "Weighing all of it, the best choice would be B, since time heals.", "Final answer: **B**",
    '{"answer": "B"}', '```json\n{"answer": "B"}\n```', '{"reason": "A is out", "answer": "B"}',
    "B\nA patient like this needs time.", "The answer is B. I repeat, the answer is B.",
])  # fmt: skip
def test_a_letter_that_is_given_as_an_answer_is_read(text: str) -> None:
    assert letter(text) == "B"


@pytest.mark.parametrize("text", [
    "", " ", "\n\t", "ABCD", "BAD", "A or B", "A, B", "A/B", "The answer is A or B.",
    "The answer is A, B or C.", "Answer: A and B", "The answer is A. The answer is B.",
    "A. Lithium\nB. Not to treat\nC. All of the above\nD. A walk", "A patient came to me",
    "The answer is a matter of taste", "Answer:", "E", "Answer: E", "AB", "?", "{}", "[]", "null",
    '{"answer": "ABCD"}', '{"answer": ""}', '{"answer": 2}', '{"answer": ["A"]}', '{"choice": "A"}',
    "Lithium or a walk", "Lithium is not the answer", "1", "Beta", "the answer is not A",
])  # fmt: skip
def test_what_is_no_answer_is_none(text: str) -> None:
    assert letter(text) is None


@pytest.mark.parametrize("text", [
    "I cannot answer", "I can't answer that.", "I\u2019m sorry, but I can\u2019t help with this.",
    "I am unable to provide a diagnosis.", "As an AI, I do not give medical advice. Answer: A",
    "I do not know", "I don't know.", "I refuse.", "There is not enough information.",
    "I cannot determine it. The answer is B.",
])  # fmt: skip
def test_who_declines_has_refused_even_beside_a_letter(text: str) -> None:
    assert parse(text, LETTERS, OPTIONS) == (None, "refused")


def test_empty_and_all_letters_are_unparsable_and_not_refused() -> None:
    for text in ("", "ABCD"):
        assert parse(text, LETTERS, OPTIONS) == (None, "unparsable")


@pytest.mark.parametrize("text", [
    "not", "know", "I do not know", "nobody", "none", "another", "No evidence supports it",
    "answer: not", "answer: no effect was seen", "yes or no", "yes, no or maybe", "noyes",
    "Yes\nNo", "notice", "snow", "yesterday", "The answer is yes or no",
])  # fmt: skip
def test_not_and_know_are_not_no(text: str) -> None:
    assert word(text) is None


@pytest.mark.parametrize(("text", "label"), [
    ("no", "no"), ("No.", "no"), ("NO", "no"), ("no, it does not", "no"), ("Yes, they do", "yes"),
    ("Answer: no", "no"), ("The answer is maybe.", "maybe"), ('{"answer": "yes"}', "yes"),
    ("yes - the data are clear", "yes"), ("no\n\nNo difference was found.", "no"),
])  # fmt: skip
def test_a_word_that_is_given_as_an_answer_is_read(text: str, label: str) -> None:
    assert word(text) == label


# --- properties ----------------------------------------------------------------------------------


@given(st.text(max_size=200))
def test_whatever_is_said_a_label_or_the_reason_why_not_comes_back(text: str) -> None:
    for labels, options in ((LETTERS, OPTIONS), (WORDS, WORDS)):
        found = parse(text, labels, options)
        assert (found.label in labels) != (found.trouble in ("unparsable", "refused"))


@given(st.text(alphabet=" \t\n\r.,;:!?-*()[]{}\"'`_#/\u2026", max_size=40))
def test_without_a_letter_or_digit_there_is_no_answer(text: str) -> None:
    assert letter(text) is None
    assert word(text) is None


@given(st.text(alphabet="ABCD", min_size=2, max_size=12))
def test_letters_run_together_are_no_answer(text: str) -> None:
    assert letter(text) is None


@given(st.lists(st.sampled_from(
    ["not", "know", "nothing", "another", "now", "note", "unknown", "yet", "eyes", "mayhem"]
), min_size=1, max_size=8))  # fmt: skip
def test_words_that_contain_labels_are_no_answer(said: list[str]) -> None:
    assert word(" ".join(said)) is None


@given(st.sampled_from(LETTERS), st.sampled_from(LETTERS),
       st.sampled_from(["Answer: {}", "The answer is {}.", "{}. so it is", "final answer = ({})"]),
       st.sampled_from(["Answer: {}", "the correct answer is {}"]))  # fmt: skip
def test_two_answers_are_none_unless_they_agree(
    one: str, two: str, first: str, second: str
) -> None:
    found = letter(f"{first.format(one)}\n{second.format(two)}")
    assert found in ((one,) if one == two else (None, two))
    if "nswer" in first:
        assert found == (one if one == two else None)


@given(st.sampled_from(LETTERS),
       st.sampled_from(["{}", "({})", "**{}**", "Answer: {}", "{}.", "[{}]"]),
       st.text(alphabet=" \n\t", max_size=4), st.text(alphabet=" \n\t", max_size=4))  # fmt: skip
def test_space_around_an_answer_changes_nothing(
    label: str, form: str, before: str, after: str
) -> None:
    assert letter(before + form.format(label) + after) == label


@given(st.sampled_from(LETTERS), st.text(max_size=60))
def test_json_is_read_by_its_answer_alone(label: str, reason: str) -> None:
    assert letter(json.dumps({"reason": reason, "answer": label})) == label
