"""Excerpts hold the speakers' own words, in order, and leave out by rule."""

from itertools import pairwise

from agents.excerpts import EXCERPT_WORDS, excerpt, heard, questions_only
from agents.seats import Line

LONG = "I was in the kitchen and could not move for what felt like an hour."
LINES = (
    Line("patient", LONG),
    Line("therapist", "That is hard. Were you alone? Take your time."),
    Line("patient", "Yes."),
    Line("therapist", "And then? What did you do?"),
    Line("patient", LONG),
    Line("therapist", "I see. Say more about that."),
)


def test_the_judge_reads_the_patient_and_the_questions_behind_short_answers() -> None:
    assert heard(LINES) == (
        LINES[0],
        Line("therapist", "Were you alone?"),
        LINES[2],
        LINES[4],
    )
    assert excerpt(LINES) == heard(LINES)


def test_a_formulation_reads_questions_and_what_a_short_answer_answers() -> None:
    assert questions_only(LINES) == (
        LINES[0],
        LINES[1],
        LINES[2],
        Line("therapist", "What did you do?"),
        LINES[4],
        Line("therapist", "Say more about that."),
    )
    assert questions_only(()) == ()


def test_an_answer_never_changes_what_stands_before_it() -> None:
    shown = [questions_only(LINES[:end]) for end in (1, 3, 5)]
    for before, after in pairwise(shown):
        assert after[: len(before)] == before


def _talkative(turns: int) -> tuple[Line, ...]:
    said = []
    for turn in range(turns):
        new = " ".join(f"word{turn}x{place}" for place in range(12))
        said.append(Line("patient", f"Well, you know how it is with me. {new}. As I said before."))
        said.append(Line("therapist", "I hear you. And what then?"))
    return tuple(said)


def test_a_long_dialogue_becomes_what_was_new_in_it() -> None:
    lines = (Line("patient", "No."), *_talkative(30))
    shown = excerpt(lines, 100)
    words = sum(len(line.text.replace("\u2026", "").split()) for line in shown)
    assert 85 < words <= 100
    assert shown[0] == lines[0], "short answers stay"
    assert all(line.speaker == "patient" for line in shown)
    text = " ".join(line.text for line in shown)
    assert text.count("As I said before.") <= 1
    spoken = " ".join(line.text for line in lines)
    for line in shown:
        for part in line.text.split("\u2026"):
            assert part.strip() in spoken, "nothing is reworded"
    order = [int(word[4:].partition("x")[0]) for word in text.split() if word.startswith("word")]
    assert order == sorted(order)


def test_an_excerpt_follows_from_the_dialogue_alone() -> None:
    lines = _talkative(40)
    first = excerpt(lines)
    excerpt.cache_clear()
    assert excerpt(lines) == first != heard(lines)
    assert sum(len(line.text.split()) for line in first) <= EXCERPT_WORDS + 2 * len(first)


def test_speech_without_an_end_is_cut_and_not_lost() -> None:
    endless = Line("patient", " ".join(f"word{place}" for place in range(400)))
    (shown,) = excerpt((endless,), 100)
    assert 40 < len(shown.text.split()) <= 101
    assert shown.text.rstrip("\u2026 ") in endless.text


def test_a_line_without_a_sentence_of_its_own_is_left_out() -> None:
    echo = Line("patient", "Sorry, but there is nothing at all that I want to say to you now.")
    assert excerpt((echo, echo, echo), 20) == (echo,)
