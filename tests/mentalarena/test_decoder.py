"""The decoder as an instrument: evidence, similarity, rank, verdict, decision."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentalarena.case import CLOSED_LISTS, COMPONENTS, Component
from mentalarena.comparison import builtin_peers
from mentalarena.decoder import Rating, SymptomDecoder, found_quotes, normalize
from mentalarena.encoder import TOP_GROUPS, EncodedSymptoms, candidates, encode
from mentalarena.roster import builtin_cases, principle_groups
from mentalarena.similarity import SentenceEncoder
from mentalarena.thresholds import Thresholds, read_thresholds

SPOKEN = [
    "Most nights I lie awake until three. It's exhausting.",
    "When he said “fine, go then”, I just left.",
]


class Said(NamedTuple):
    statement: str = ""
    quotes: tuple[str, ...] = ()


@pytest.fixture(scope="module")
def thresholds(encoder: SentenceEncoder) -> Thresholds:
    return read_thresholds("", encoder)


@pytest.fixture(scope="module")
def decoder(encoder: SentenceEncoder, thresholds: Thresholds) -> SymptomDecoder:
    return SymptomDecoder(encoder, thresholds, builtin_peers(builtin_cases()))


def right(
    case_id: str, encoder: SentenceEncoder
) -> tuple[EncodedSymptoms, dict[Component, Said], list[str]]:
    """The record, a formulation in the record's own words, and a dialogue that supports it."""
    case = builtin_cases()[case_id]
    encoded = encode(case, candidates(case, principle_groups(), encoder)[0][0])
    quote = "I said all of this aloud"
    said = {
        c: Said(
            "; ".join(encoded.components[c]) if c in CLOSED_LISTS else encoded.text(c), (quote,)
        )
        for c in COMPONENTS
    }
    return encoded, said, [f"Well, {quote}, didn't I."]


@pytest.mark.parametrize(
    ("quote", "found"),
    [
        ("I lie awake until three", True),
        ("  i LIE awake, until three… ", False),  # a comma that was not there
        ("I lie awake until three...", True),
        ("fine, go then", True),
        ('"fine, go then"', True),
        ("lie awake", False),  # two words prove nothing
        ("wake until three", False),  # not at a word's edge
        ("I lie awake until four", False),
        ("", False),
    ],
)
def test_quotes_must_be_verbatim(quote: str, found: bool) -> None:
    assert bool(found_quotes([quote], SPOKEN)) is found


@pytest.mark.parametrize(
    ("turn", "found"),
    [
        ("nowI lie awake until three", False),
        ("I lie awake until threefold", False),
        ("I lie awake until three_", False),
        ("nowI lie awake until three, and I lie awake until three.", True),
        ("(I lie awake until three)", True),
    ],
)
def test_a_quote_is_not_part_of_longer_words(turn: str, found: bool) -> None:
    assert bool(found_quotes(["I lie awake until three"], [turn])) is found


def test_a_short_quote_counts_when_it_is_a_whole_turn() -> None:
    assert found_quotes(["Since March."], ["Since March."]) == ["Since March."]


@pytest.mark.parametrize(
    ("turn", "counts"),
    [
        ("I don't know", False),
        ("I don\u2019t really know.", False),
        ("Not really.", False),
        ("I don't know anybody", True),
        ("I don't sleep", True),
    ],
)
def test_a_quote_has_to_say_something(turn: str, counts: bool) -> None:
    assert bool(found_quotes([turn], [turn])) is counts


@given(st.lists(st.text(max_size=60), max_size=4), st.lists(st.text(max_size=120), max_size=4))
def test_no_quote_is_found_that_is_not_there(quotes: list[str], spoken: list[str]) -> None:
    for quote in found_quotes(quotes, spoken):
        assert any(normalize(quote) in normalize(text) for text in spoken)


@pytest.mark.parametrize("case_id", ["maren-1", "kenji-1", "rosalind-1"])
def test_the_record_itself_is_aligned(
    case_id: str, decoder: SymptomDecoder, encoder: SentenceEncoder
) -> None:
    encoded, said, spoken = right(case_id, encoder)
    deviations, decision = decoder.decode(
        builtin_cases()[case_id].patient_id, encoded, said, spoken
    )
    assert [d.component for d in deviations] == list(COMPONENTS)
    assert {d.verdict for d in deviations} == {"aligned"}
    assert decision.outcome == "aligned"
    for deviation in deviations:
        assert deviation.score is not None
        assert deviation.score >= deviation.band_high
        assert deviation.severity == 0


def test_another_patients_record_is_distorted(
    decoder: SymptomDecoder, encoder: SentenceEncoder
) -> None:
    encoded, _, spoken = right("maren-1", encoder)
    _, other, _ = right("kenji-1", encoder)
    deviations, decision = decoder.decode("maren", encoded, other, spoken)
    open_components = [d for d in deviations if d.component not in CLOSED_LISTS]
    assert sum(d.verdict in ("distorted", "unclear") for d in open_components) >= 5
    assert decision.outcome == "biased"


def test_nothing_stated_is_a_coverage_gap(
    decoder: SymptomDecoder, encoder: SentenceEncoder
) -> None:
    encoded, said, spoken = right("maren-1", encoder)
    said[Component.EMOTIONS] = Said()
    deviations, decision = decoder.decode("maren", encoded, said, spoken)
    gap = deviations[COMPONENTS.index(Component.EMOTIONS)]
    assert (gap.verdict, gap.similarity) == ("missed", None)
    assert decision.outcome == "incomplete"
    assert "emotions" in decision.reason


def test_a_right_statement_on_no_evidence_is_unsupported(
    decoder: SymptomDecoder, encoder: SentenceEncoder
) -> None:
    encoded, said, spoken = right("maren-1", encoder)
    said[Component.BEHAVIORS] = said[Component.BEHAVIORS]._replace(quotes=("never said this here",))
    deviations, _ = decoder.decode("maren", encoded, said, spoken)
    verdict = deviations[COMPONENTS.index(Component.BEHAVIORS)]
    assert verdict.verdict == "unsupported"
    assert verdict.score is not None, "figures are kept all the same"
    assert verdict.score > 0.9
    assert verdict.reason == '0 of 1 quotes found; not said: "never said this here"'
    assert verdict.severity == 1


def test_more_intent_biases_than_the_joint_rule_allows(
    decoder: SymptomDecoder, encoder: SentenceEncoder, thresholds: Thresholds
) -> None:
    encoded, said, spoken = right("maren-1", encoder)
    for number, component in enumerate(COMPONENTS):
        said[component] = said[component]._replace(quotes=())
        outcome = decoder.decode("maren", encoded, said, spoken)[1].outcome
        assert outcome == ("biased" if number + 1 > thresholds.max_intent_bias else "aligned")


@pytest.mark.parametrize(
    ("invented", "verdict", "reason"),
    [
        (0, "aligned", '; from "I said all of this aloud"'),
        (1, "aligned", "1 of 2 quotes found"),
        (2, "unsupported", '1 of 3 quotes found; not said: "never said this sentence 0"'),
    ],
)
def test_half_of_the_quotes_must_be_found(
    invented: int, verdict: str, reason: str, decoder: SymptomDecoder, encoder: SentenceEncoder
) -> None:
    encoded, said, spoken = right("maren-1", encoder)
    real = said[Component.BEHAVIORS].quotes
    false = tuple(f"never said this sentence {number}" for number in range(invented))
    # The same quote again, spelled otherwise, is not a second one.
    padded = (*real, real[0].upper(), *false)
    said[Component.BEHAVIORS] = said[Component.BEHAVIORS]._replace(quotes=padded)
    deviation = decoder.decode("maren", encoded, said, spoken)[0][6]
    assert (deviation.component, deviation.verdict) == (Component.BEHAVIORS, verdict)
    assert deviation.reason.endswith(reason)


def test_a_reason_names_clause_and_quote_and_not_the_record(
    decoder: SymptomDecoder, encoder: SentenceEncoder
) -> None:
    encoded, said, spoken = right("maren-1", encoder)
    held = encoded.components[Component.COPING_STRATEGIES]
    turned = "They do not " + held[1].removeprefix("They ")
    said[Component.COPING_STRATEGIES] = said[Component.COPING_STRATEGIES]._replace(statement=turned)
    deviations, _ = decoder.decode("maren", encoded, said, spoken)
    found = deviations[COMPONENTS.index(Component.COPING_STRATEGIES)]
    assert (found.verdict, found.clause) == ("distorted", 1)
    assert found.reason.startswith('negated: "They do not ')
    assert "clause 2" in found.reason
    assert "I said all of this aloud" in found.reason
    assert found.features is not None
    assert set(found.features) == {"support_z", "margin"}


def test_a_judges_ratings_decide_and_the_encoders_figures_stay(
    decoder: SymptomDecoder, encoder: SentenceEncoder
) -> None:
    encoded, said, spoken = right("maren-1", encoder)
    deviations, _ = decoder.decode("maren", encoded, said, spoken)
    ratings = dict.fromkeys(COMPONENTS, Rating(0.9, "true"))
    ratings[Component.BEHAVIORS] = Rating(0.1, "says the opposite")
    ratings[Component.EMOTIONS] = Rating(0.5, "vague")
    ratings[Component.COPING_STRATEGIES] = Rating(None, "")
    judged, decision = decoder.judged(deviations, ratings)
    verdicts = {d.component: d.verdict for d in judged}
    assert verdicts[Component.BEHAVIORS] == "distorted"
    assert verdicts[Component.EMOTIONS] == verdicts[Component.COPING_STRATEGIES] == "unclear"
    assert decision.outcome == "aligned", "one intent bias is allowed"
    for before, after in zip(deviations, judged, strict=True):
        assert after.scorer == "judge"
        assert (after.score, after.features) == (before.score, before.features)
        assert before.reason in after.reason
    ratings = dict.fromkeys(COMPONENTS, Rating(0.0, "no"))
    assert decoder.judged(deviations, ratings)[1].outcome == "biased"


@pytest.mark.parametrize("case_id", ["maren-1", "lucia-1"])
def test_candidates_come_from_five_groups_best_first(
    case_id: str, encoder: SentenceEncoder
) -> None:
    found = candidates(builtin_cases()[case_id], principle_groups(), encoder)
    assert len({principle.group for principle, _ in found}) == TOP_GROUPS
    scores = [score for _, score in found]
    assert scores == sorted(scores, reverse=True)
