"""Small English: joining, quoting and retelling stay grammatical and verbatim."""

from collections.abc import Iterator

import pytest

from agents.rules.cues import TOPICS, aimed, aims, look_up, sharpness
from agents.rules.language import (
    attach,
    data,
    made_utterance,
    sentences,
    substance,
    to_third,
    words,
)
from agents.rules.therapist import asked_topic
from mentalarena.case import CLOSED_LISTS
from mentalarena.safety import is_crisis


@pytest.mark.parametrize(
    ("said", "retold"),
    [
        ("I always check the door.", "they always check the door."),
        ("I'm tired and I've had enough.", "they are tired and they have had enough."),
        ("I was never good at it, was I?", "they were never good at it, were they?"),
        ("I never was a singer.", "they never were a singer."),
        ("My sister took it from me.", "their sister took it from them."),
        ("Honestly, I'd rather do it myself.", "they would rather do it themselves."),
        ("I'd been down for weeks.", "they had been down for weeks."),
        ("When I am low, nobody hears from me.", "when they are low, nobody hears from them."),
        ("We never talk about ours.", "they never talk about theirs."),
        ("Maria says I am slow.", "Maria says they are slow."),
        ("That mistake wasn't mine.", "that mistake wasn't theirs."),
    ],
)
def test_first_person_is_retold_in_the_third(said: str, retold: str) -> None:
    assert to_third(said) == retold


@pytest.mark.parametrize(
    ("lead", "sentence", "joined"),
    [
        ("Honestly,", "The nights are long.", "Honestly, the nights are long."),
        ("Honestly,", "I sleep badly.", "Honestly, I sleep badly."),
        ("Honestly,", "Nana fell.", "Nana fell."),
        ("Well,", "But I stayed.", "But I stayed."),
        ("It's this:", "Nana fell.", "It's this: Nana fell."),
        (
            "May I? It's near it, but",
            "One plate broke.",
            "May I? It's near it, but one plate broke.",
        ),
        ("Hm.", "The nights are long.", "Hm. The nights are long."),
        ("", "The nights are long.", "The nights are long."),
    ],
)
def test_leads_join_grammatically(lead: str, sentence: str, joined: str) -> None:
    assert attach(lead, sentence) == joined


def test_sentences_are_verbatim_spans() -> None:
    text = 'I saw Dr. Lund. "Rest," he said. So I rest… Every day? Yes!'
    found = sentences(text)
    assert found == ("I saw Dr. Lund.", '"Rest," he said.', "So I rest…", "Every day?", "Yes!")
    assert all(span in text for span in found)


def test_stock_phrases_carry_nothing() -> None:
    for style in ("plain", "verbose", "tangential", "hostile", "guarded", "ingratiating"):
        for phrase in data("patient")[style]["deflect"]:
            assert [substance(part) for part in sentences(phrase)] == [""] * len(sentences(phrase))
    assert substance("Then, and this is the part people don't see, I weep.") == "I weep."
    assert substance("I weep at night.") == "I weep at night."


@pytest.mark.parametrize("label", [label for labels in CLOSED_LISTS.values() for label in labels])
def test_every_closed_label_has_cues_and_a_sentence_that_meets_them(label: str) -> None:
    from agents.rules.cues import label_index

    component = next(c for c, labels in CLOSED_LISTS.items() if label in labels)
    spoken = data("labels")["spoken"][label]
    assert label in look_up(words(spoken), label_index(component))


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("The patient avoids meetings.", "I avoid meetings."),
        ("Avoids the hall and hides his hands.", "I avoid the hall and hide my hands."),
        ("She is afraid of dogs.", "I am afraid of dogs."),
        ("Has lost interest in her friends.", "I have lost interest in my friends."),
        ("Often checks the door.", "I many times check the door."),
        ("He reports difficulty sleeping.", "I have trouble sleeping."),
        ("Their mother died when they were six.", "my mother died when I was six."),
        ("If people get close, they leave.", "if people get close, they leave."),
        ("I am a failure.", "I am a failure."),
        ("Nightmares since the accident.", "Nightmares since the accident."),
    ],
)
def test_imported_clauses_are_spoken_in_the_first_person(text: str, spoken: str) -> None:
    made = made_utterance(text)
    assert made.endswith(f": {spoken}")
    assert made != text


def test_no_phrase_of_the_seats_sounds_like_a_crisis() -> None:
    def phrases(node: object) -> Iterator[str]:
        if isinstance(node, str):
            yield node
        elif isinstance(node, dict):
            for part in node.values():
                yield from phrases(part)
        elif isinstance(node, list):
            for part in node:
                yield from phrases(part)

    found = [text for name in ("patient", "therapist") for text in phrases(data(name))]
    assert len(found) > 500
    assert [text for text in found if is_crisis(text)] == []
    assert is_crisis("I want to kill myself tonight.")


@pytest.mark.parametrize("topic", TOPICS)
def test_the_question_bank_is_aimed_where_it_says(topic: str) -> None:
    bank = data("therapist")["questions"][topic]
    assert len(set(bank)) >= 10
    for question in bank:
        assert asked_topic(question) == topic
        assert aimed(question) == topic, (question, aims(question))
        assert sharpness(question, topic) >= 0.5, (question, aims(question))


@pytest.mark.parametrize(
    ("question", "topic"),
    [
        ("Could you share what thoughts were running through your mind?", "automatic_thoughts"),
        ("How did that make you feel emotionally?", "emotions"),
        ("What coping mechanisms do you use to manage the stress?", "coping_strategies"),
        ("Can you describe how you see yourself as a person deep down?", "core_beliefs"),
        ("When did these symptoms first begin, and how often do they occur?", "history"),
        ("Are there any rules or expectations you hold yourself to?", "intermediate_beliefs"),
        (
            "When you're feeling really down, what do you believe about trying?",
            "intermediate_beliefs_depression",
        ),
        ("How do you interact with others when there is conflict?", "behavior_principles"),
        ("What did you do after that argument ended?", "behaviors"),
        ("What brings you here today? What has been happening?", "situation"),
        (
            'You said "I feel like a failure". I wonder what was happening that day?',
            "situation",
        ),
    ],
)
def test_questions_of_others_are_understood(question: str, topic: str) -> None:
    assert aimed(question) == topic, aims(question)
