"""What a statement has in common with a record, on texts whose likeness is plain."""

import pytest

from mentalarena.case import Component
from mentalarena.clauses import MOST_PARTS, statement_parts
from mentalarena.comparison import OPEN, RECORDED, Comparison, Peer, builtin_peers
from mentalarena.roster import builtin_cases, principles
from mentalarena.similarity import SentenceEncoder

COPING, THOUGHTS = Component.COPING_STRATEGIES, Component.AUTOMATIC_THOUGHTS
RECORD = {
    COPING: (
        ("They stay at home.", "I do not leave the house."),
        ("They drink in the evening.", "After supper I open a bottle."),
    ),
    THOUGHTS: (("The train will crash.", "I thought, this train will crash."),),
}
PEERS = {
    COPING: [
        Peer("ada", (("They repair bicycles.", "I mend a chain."),)),
        Peer("bob", (("They phone their sister.", "I ring my sister."),)),
        Peer("cy", (("They count the stairs.", "I count every stair."),)),
    ]
}


@pytest.fixture(scope="module")
def comparison(encoder: SentenceEncoder) -> Comparison:
    return Comparison(PEERS, encoder)


def test_a_statement_is_cut_where_it_says_something_else() -> None:
    assert statement_parts("They stay in, and they drink alone; nobody knows it. Fine.") == (
        "They stay in", "they drink alone", "nobody knows it", "Fine",
    )  # fmt: skip
    many = " ".join(f"This is sentence number {n}." for n in range(9))
    parts = statement_parts(many)
    assert len(parts) == MOST_PARTS
    assert parts[-1].endswith("number 8")
    assert statement_parts("?!") == ("?!",)


def test_each_part_is_set_against_its_own_clause(comparison: Comparison) -> None:
    held = comparison.holds(COPING, "dee", RECORD)
    found = comparison.compare(COPING, held, "They drink at night; they do not go out.")
    assert found.clauses == (1, 0)
    assert found.rank == 0
    assert found.features["support_z"] > 2
    assert found.features["margin"] > 0


def test_what_is_true_of_another_or_of_another_component_scores_less(
    comparison: Comparison,
) -> None:
    held = comparison.holds(COPING, "dee", RECORD)
    right = comparison.compare(COPING, held, "They do not leave the house.").features
    other = comparison.compare(COPING, held, "They mend bicycles.")
    elsewhere = comparison.compare(COPING, held, "They thought the train would crash.").features
    assert other.features["support_z"] < 0 < right["support_z"]
    assert other.rank >= 1 / 3
    assert elsewhere["margin"] < 0 < right["margin"]


def test_nobody_is_their_own_peer(comparison: Comparison) -> None:
    wordings = {COPING: PEERS[COPING][0].wordings}
    assert comparison.holds(COPING, "ada", wordings).mask.tolist() == [False, True, True]
    # The same record under another name is the same person for this purpose.
    assert comparison.holds(COPING, "zoe", wordings).mask.tolist() == [False, True, True]
    held = comparison.holds(COPING, "dee", RECORD)
    told = "They mend bicycles."
    alone = comparison.compare(COPING, held, told, without="ada")
    assert alone.similarity == comparison.compare(COPING, held, told).similarity
    assert alone.features != comparison.compare(COPING, held, told).features


def test_peers_are_train_and_dev_patients_once_each() -> None:
    peers = builtin_peers(builtin_cases())
    used = {case.patient_id for case in builtin_cases().values() if case.split != "test"}
    assert set(peers) == set(OPEN)
    for component in RECORDED:
        assert sorted(peer.owner for peer in peers[component]) == sorted(used)
    assert len(peers[Component.BEHAVIOR_PRINCIPLES]) == len(principles())
