"""Seat specs, live seats, the checks before a run, and the person at the terminal."""

import asyncio
import io
import json
import socket
from dataclasses import replace

import pytest

from agents import human, registry
from agents.human import Human
from agents.registry import SEATS, SeatSpec, check_reachable, check_seats, seat
from agents.seats import TherapistSeat, Utterance
from benchmarks.mock_server import MockServer
from mentalarena.config import ArenaConfig
from mentalarena.errors import ConfigurationError, ProviderError
from tests.agents.support import PATIENT_VIEW, THERAPIST_VIEW, MemoryJournal, place


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("rules", "rules"),
        ("openai:x", "openai"),
        ("huggingface:a/b,adapter=c", "huggingface"),
        ("local", "local"),
        ("human", "human"),
    ],
)
def test_specs_are_read(text: str, kind: str) -> None:
    spec = SeatSpec.parse(text, "judge")
    assert (spec.kind, spec.text) == (kind, text)


def test_only_the_rule_therapist_misreads() -> None:
    assert SeatSpec.parse("rules,misread=0.25", "therapist").misread == 0.25
    assert SeatSpec.parse("rules", "therapist").misread is None
    with pytest.raises(ConfigurationError, match="only the therapist"):
        SeatSpec.parse("rules,misread=0.2", "patient")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("opena:x", "did you mean openai:x"),
        ("Local", "did you mean local"),
        ("gpt-4", "openai:NAME"),
        ("", "openai:NAME"),
        ("x", "answers=json, answers=labelled or answers=small"),
        ("rules,style=x", "misread=RATE"),
        ("rules:x", "misread=RATE"),
        ("human,x=1", "no option"),
        ("openai:", "patient.*name is missing"),
        ("huggingface:x,adaptor=y", "patient.*unknown option 'adaptor'"),
    ],
)
def test_a_wrong_spec_is_one_clear_line(text: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        SeatSpec.parse(text, "patient")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate", ["2", "0.1.2", "."])
def test_a_misread_rate_is_from_0_to_1(rate: str) -> None:
    with pytest.raises(ConfigurationError, match="from 0 to 1"):
        SeatSpec.parse(f"rules,misread={rate}", "therapist")


def test_a_seat_is_resolved_once_and_a_model_shared() -> None:
    config = ArenaConfig(base_url="http://localhost:1/v1")
    seats = [seat(role, "openai:x", config) for role in SEATS]
    assert [seat(role, "openai:x", config) for role in SEATS] == seats
    assert len({type(one) for one in seats}) == 4
    labelled = seat("judge", "openai:x,answers=labelled", config)
    clients = {one._ask._answerer for one in [*seats, labelled]}
    assert len(clients) == 1
    other = seat("judge", "openai:x", replace(config, temperature=0.1))
    assert other is not seats[3]
    assert other._ask._answerer not in clients
    # Neither the seed nor a path is a setting of the model.
    assert seat("judge", "openai:x", replace(config, seed=9, db="b.db")) is seats[3]


def test_checks_find_what_is_wrong_before_anything_runs() -> None:
    check_seats(ArenaConfig())
    with pytest.raises(ConfigurationError, match="OPENAI_API_KEY"):
        check_seats(ArenaConfig(judge="openai:x"))
    with pytest.raises(ConfigurationError, match=r"judge.*did you mean"):
        check_seats(ArenaConfig(judge="opena:x"))
    with pytest.raises(ConfigurationError, match="terminal"):
        check_seats(ArenaConfig(patient="human"))
    with pytest.raises(ConfigurationError, match=r"adapter_config\.json"):
        check_seats(ArenaConfig(patient="huggingface:a/b,adapter=/no/adapter"))


def test_a_server_is_reached_or_named() -> None:
    with MockServer(require_key="x") as server:
        check_seats(ArenaConfig(judge="openai:x", base_url=server.base_url))
        check_reachable(f"{server.base_url}/not/here")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    with pytest.raises(ProviderError, match=f"nothing answers at {url}") as caught:
        check_seats(ArenaConfig(judge="openai:x", base_url=url))
    assert caught.value.fatal
    assert "\n" not in str(caught.value)


# --- the person ----------------------------------------------------------------------------------


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch):
    def type_in(*rows: str) -> Terminal:
        out = Terminal()
        monkeypatch.setattr("sys.stdin", Terminal("".join(f"{row}\n" for row in rows)))
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr(registry, "_seats", {})
        registry._person.cache_clear()
        return out

    return type_in


async def test_a_person_asks_and_is_journaled(typed) -> None:
    out = typed("How long has it been like this?")
    therapist = seat("therapist", "human", ArenaConfig())
    assert isinstance(therapist, TherapistSeat)
    journal = MemoryJournal()
    got = await therapist.ask(THERAPIST_VIEW, place(journal))
    assert got.value == Utterance(text="How long has it been like this?")
    assert journal.calls[got.call_id].resolved_model == "human"
    assert "Patient: I am so tired of everything." in out.getvalue()
    assert await therapist.ask(THERAPIST_VIEW, place(journal)) == got


async def test_a_person_fills_in_fields_one_by_one(typed) -> None:
    typed("Insomnia", "nights", "Panic disorder", "")
    therapist = seat("therapist", "human", ArenaConfig())
    got = await therapist.diagnose(THERAPIST_VIEW, place(MemoryJournal()))
    assert [option.label for option in got.value.options] == ["Insomnia", "Panic disorder"]
    rows = ["sleep badly", "so tired", ""] + ["", ""] * 7
    typed(*rows)
    therapist = seat("therapist", "human", ArenaConfig())
    got = await therapist.formulate(THERAPIST_VIEW, place(MemoryJournal()))
    assert got.value.core_beliefs.statement == "sleep badly"
    assert got.value.core_beliefs.quotes == ("so tired",)
    assert got.failures == ()


async def test_a_person_is_held_to_the_range(typed) -> None:
    from agents.answers import json_schema
    from agents.seats import Score

    out = typed("many", "11", "7", "fits")
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    reply = await Human().answer(messages, json_schema(Score))
    assert json.loads(reply.text) == {"score": 7, "reason": "fits"}
    assert "from 1 to 10, please" in out.getvalue()


async def test_a_closed_terminal_is_one_clear_line(typed) -> None:
    typed()
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    with pytest.raises(ProviderError, match="terminal was closed") as caught:
        await Human().answer(messages)
    assert caught.value.fatal
    assert "\n" not in str(caught.value)


async def test_one_person_holds_all_seats_and_answers_one_after_the_other(typed) -> None:
    out = typed("What keeps you up?", "It is the nights.")
    therapist = seat("therapist", "human", ArenaConfig())
    patient = seat("patient", "human", ArenaConfig())
    assert therapist._ask._answerer is patient._ask._answerer
    asked, said = await asyncio.gather(
        therapist.ask(THERAPIST_VIEW, place(MemoryJournal())),
        patient.speak(PATIENT_VIEW, place(MemoryJournal())),
    )
    assert {asked.value.text, said.value.text} == {"What keeps you up?", "It is the nights."}
    # Each prompt is followed by its own answer: nothing was shown while the other was asked.
    shown = out.getvalue()
    assert shown.count("> ") == 2
    first, second, _ = shown.split("> ")
    assert ("You are Robin" in first) is not ("You are Robin" in second)


def test_a_person_answers_in_several_event_loops(typed) -> None:
    typed("One.", "Two.", "Three.", "Four.")
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    one = Human()

    async def twice() -> list[str]:
        return [got.text for got in await asyncio.gather(*(one.answer(messages) for _ in "ab"))]

    assert sorted(asyncio.run(twice())) == ["One.", "Two."]
    assert sorted(asyncio.run(twice())) == ["Four.", "Three."]


def test_no_terminal_no_person(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    with pytest.raises(ConfigurationError, match="needs a terminal"):
        human.check_terminal()


def test_the_wording_of_a_check_is_a_therapist_s() -> None:
    spec = SeatSpec.parse("rules,misread=0.3,wording=check", "therapist")
    assert (spec.misread, spec.held_out) == (0.3, True)
    assert not SeatSpec.parse("rules,misread=0.3", "therapist").held_out
    sitting = seat("therapist", spec.text, ArenaConfig())
    assert getattr(sitting, "wording", None) == "check"
