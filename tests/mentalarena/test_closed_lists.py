"""Statements of a closed list: what they name, what they deny, what are everyday words."""

import pytest

from mentalarena.case import CLOSED_LISTS, Component
from mentalarena.closed_lists import labels_in, overlap
from mentalarena.similarity import SentenceEncoder


@pytest.mark.parametrize(
    ("component", "statement", "labels"),
    [
        (Component.EMOTIONS, "sad; anxious", {"sad", "anxious"}),
        (Component.EMOTIONS, "Worried and ashamed, at times furious",
         {"anxious", "ashamed", "angry"}),
        (Component.EMOTIONS, "gloomy", {"sad"}),
        (Component.CORE_BELIEFS, "helpless: incompetent; unlovable: alone",
         {"helpless: incompetent", "unlovable: alone"}),
        (Component.CORE_BELIEFS, "incompetent", {"helpless: incompetent"}),
        (Component.CORE_BELIEFS, "I am a failure", {"helpless: failure"}),
        (Component.CORE_BELIEFS, "people cannot be trusted", {"other people: untrustworthy"}),
        (Component.EMOTIONS, "the bicycle chain", set()),
        (Component.EMOTIONS, "", set()),
    ],
)  # fmt: skip
def test_labels_of_closed_lists(
    component: Component, statement: str, labels: set[str], encoder: SentenceEncoder
) -> None:
    assert labels_in(component, statement, encoder) == labels


@pytest.mark.parametrize("component", list(CLOSED_LISTS))
def test_every_label_is_read_as_itself(component: Component, encoder: SentenceEncoder) -> None:
    for label in CLOSED_LISTS[component]:
        assert labels_in(component, label, encoder) == {label}


def test_overlap_is_dice() -> None:
    assert overlap(frozenset("ab"), frozenset("bc")) == pytest.approx(0.5)
    assert overlap(frozenset("ab"), frozenset("ab")) == 1
    assert overlap(frozenset(), frozenset("a")) == 0
    assert overlap(frozenset(), frozenset()) == 0


@pytest.mark.parametrize(
    ("statement", "labels"),
    [
        ("not sad, just tired", set()),
        ("worn down", set()),
        ("low on money", set()),
        ("feeling let down", set()),
        ("no longer anxious; never angry; without guilt", set()),
        ("they aren\u2019t afraid", set()),
        ("not sad but anxious", {"anxious"}),
        ("sad rather than angry", {"sad"}),
        ("not only sad, also ashamed", {"sad", "ashamed"}),
        ("worried and low", {"anxious", "sad"}),
        ("I feel so low in the evening", {"sad"}),
    ],
)
def test_emotions_denied_or_meant_otherwise(
    statement: str, labels: set[str], encoder: SentenceEncoder
) -> None:
    assert labels_in(Component.EMOTIONS, statement, encoder) == labels


@pytest.mark.parametrize(
    ("statement", "labels"),
    [
        ("they do not believe they are a burden; they are treated in a different way", set()),
        ("they are not a burden", set()),
        ("others can be trusted", set()),
        ("they did not fail", set()),
        ("works alone in the office; had a bad night", set()),
        ("believes that she is a burden", {"worthless: burden"}),
        ("They are different.", {"unlovable: different"}),
        ("helpless (incompetent)", {"helpless: incompetent"}),
        ("Helpless: failure. Unlovable: alone.", {"helpless: failure", "unlovable: alone"}),
        ("a burden to her family", {"worthless: burden"}),
        ("nobody wants me", {"unlovable: unwanted"}),
        ("the world is not safe", {"world: dangerous"}),
    ],
)
def test_core_beliefs_denied_or_meant_otherwise(
    statement: str, labels: set[str], encoder: SentenceEncoder
) -> None:
    assert labels_in(Component.CORE_BELIEFS, statement, encoder) == labels
