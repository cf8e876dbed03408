"""An answer that was paid for is found again under the same place, and under no other prompt."""

import asyncio
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mentalarena.budget import Meter
from mentalarena.errors import ReplayError, StoreError
from mentalarena.journal import Call, EpisodeJournal, digest, journal_key
from mentalarena.store import Store, open_store

TEMPLATE = ("t1", "patient/speak", "You are {name}.")


def call(**values: object) -> Call:
    key = journal_key("episode", 0, "patient", 2, "exchange", 0, 0)
    made = Call(
        id=key,
        episode_id="episode",
        attempt=0,
        step=5,
        node="patient",
        visit=2,
        sample=0,
        reask=0,
        seat="patient",
        purpose="exchange",
        model="openai:some",
        resolved_model="some-2026",
        template_hash="t1",
        prompt_hash="a" * 64,
        prompt_tokens=120,
        completion_tokens=None,
        cost=None,
        latency_ms=1234.5,
        attempts=2,
        answer="I don't sleep.\n\n“Never.” 🙂",
        failure=None,
    )
    return replace(made, **values)  # type: ignore[arg-type]


def journal_of(store: Store) -> EpisodeJournal:
    return EpisodeJournal(store, "episode", set(), Meter())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "arena.db") as opened:
        yield opened


async def test_what_was_recorded_is_found_again(store: Store) -> None:
    journal = journal_of(store)
    assert await journal.find(call().id, "a" * 64) is None
    await journal.record(call(), TEMPLATE)
    assert await journal.find(call().id, "a" * 64) == call()
    assert await journal.find("another key", "a" * 64) is None
    assert store.fetch("select * from templates") == [
        {"hash": "t1", "name": "patient/speak", "text": "You are {name}."}
    ]


async def test_it_is_found_after_reopening(tmp_path: Path) -> None:
    unusable = call(failure="parse: no JSON object", answer="")
    with open_store(tmp_path / "arena.db") as store:
        await journal_of(store).record(unusable, TEMPLATE)
    with open_store(tmp_path / "arena.db") as store:
        assert await journal_of(store).find(unusable.id, unusable.prompt_hash) == unusable


async def test_another_prompt_stops_the_replay(store: Store) -> None:
    journal = journal_of(store)
    await journal.record(call(), TEMPLATE)
    with pytest.raises(ReplayError) as caught:
        await journal.find(call().id, "b" * 64)
    message = str(caught.value)
    for part in (call().id, "patient, exchange", "episode episode", "a" * 12, "b" * 12):
        assert part in message
    assert "\n" not in message


async def test_a_template_is_stored_once_and_stays_as_it_was(store: Store) -> None:
    journal = journal_of(store)
    calls = [call(id=f"{i:032x}") for i in range(20)]
    await asyncio.gather(*[journal.record(each, TEMPLATE) for each in calls])
    await journal_of(store).record(call(), ("t1", "patient/speak", "something else"))
    assert [row["text"] for row in store.fetch("select text from templates")] == [TEMPLATE[2]]
    assert store.fetch("select count(*) as n from calls") == [{"n": 21}]


async def test_a_refused_call_does_not_make_its_template_known(store: Store) -> None:
    journal = journal_of(store)
    with pytest.raises(StoreError, match=r"calls\.latency_ms"):
        await journal.record(call(latency_ms=float("nan")), TEMPLATE)
    await journal.record(call(), TEMPLATE)
    assert await journal.find(call().id, call().prompt_hash) == call()


def test_every_field_of_a_call_has_its_column(store: Store) -> None:
    columns = {row["name"] for row in store.fetch("select name from pragma_table_info('calls')")}
    assert columns == {*asdict(call()), "created_at"}


PLACES = st.tuples(
    st.text(max_size=3),
    st.integers(0, 11),
    st.sampled_from(["patient", "therapist"]),
    st.integers(0, 11),
    st.sampled_from(["exchange", "probe"]),
    st.integers(0, 11),
    st.integers(0, 11),
)


@given(PLACES, PLACES)
def test_a_key_belongs_to_one_place(
    one: tuple[str, int, str, int, str, int, int], other: tuple[str, int, str, int, str, int, int]
) -> None:
    assert (journal_key(*one) == journal_key(*other)) == (one == other)
    assert len(journal_key(*one)) == 32


def test_a_key_never_changes_between_versions() -> None:
    assert journal_key("e", 0, "patient", 2, "exchange", 0, 1) == "b60915bf0522294fc0be9d289af1ca31"
    assert digest({"b": 1, "a": "é"}) == digest({"a": "é", "b": 1})
    assert digest({"a": 1}, 12) == digest({"a": 1})[:12]
