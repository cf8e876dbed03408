"""Promise 1: no span of the hidden record reaches therapist or judge but through a patient's turn.

Prompts are read where they arrive, at a server that speaks the real protocol. Each check is also
shown to fail when the barrier is broken on purpose.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import agents.judge
import agents.therapist
import graphs.nodes
import graphs.views
from agents import seats
from agents.prompting import Prompt
from agents.seats import Line
from benchmarks.mock_server import MockServer
from graphs import state as schemas
from mentalarena.case import Case
from mentalarena.config import ArenaConfig
from tests.graphs.people import (
    CRISIS_LINE,
    SilentPatient,
    TalkingPatient,
    canary_case,
    other_labels,
)
from tests.graphs.support import play, rows


@pytest.fixture
def server() -> Iterator[MockServer]:
    with MockServer(reply_words=12) as running:
        yield running


@pytest.fixture
def config(server: MockServer, tmp_path: Path) -> ArenaConfig:
    return ArenaConfig(
        patient="rules",
        therapist="openai:the-therapist",
        manager="rules",
        judge="openai:the-judge",
        base_url=server.base_url,
        exchanges=3,
        probe_rounds=2,
        max_plans=2,
        accept_score=10.0,
        judge_samples=2,
        db=str(tmp_path / "leak.db"),
    )


def prompts(server: MockServer) -> list[str]:
    """What therapist and judge were sent, in order."""
    return [
        "\n".join(message["content"] for message in seen.body["messages"])
        for seen in server.requests
        if seen.body is not None and "messages" in seen.body
    ]


def assert_no_leak(texts: list[str], canaries: list[str]) -> None:
    """No canary in any text."""
    for number, text in enumerate(texts):
        found = [canary for canary in canaries if canary in text]
        assert not found, f"text {number} carries {found[:3]}: {text[:200]}"


def assert_spoken_first(texts: list[str], canaries: list[str], spoken: list[str]) -> None:
    """Every canary in a prompt stands in a patient's turn that the prompt quotes before it."""
    for text in texts:
        heard = " ".join(line for line in spoken if line in text)
        found = [canary for canary in canaries if canary in text and canary not in heard]
        assert not found, f"{found[:3]} was not spoken: {text[:200]}"


EVERY_ROUTE = {"encode", "patient", "safety", "therapist", "formulate", "decode", "diagnose",
               "confirm", "propose", "trial", "score", "close"}  # fmt: skip


@pytest.mark.parametrize("guidance", ["none", "topic", "placebo"])
async def test_a_silent_patients_record_reaches_nobody(
    guidance: str, config: ArenaConfig, server: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, canaries = canary_case("hid")
    played = await play(
        replace(config, guidance=guidance), case, monkeypatch, {"patient": SilentPatient()}
    )
    assert set(played["state"]["path"]) == EVERY_ROUTE
    assert any(turn["text"] == CRISIS_LINE for turn in played["turns"])
    assert {plan["kind"] for plan in played["plans"]} == {"treatment", "medication"}
    sent = prompts(server)
    assert len(sent) >= 20
    assert_no_leak(sent, canaries)
    assert_no_leak([decision["guidance"] for decision in played["decisions"]], canaries)
    stored = rows(config, "select text from templates union all select answer from calls")
    assert_no_leak([row["text"] for row in stored], canaries)
    trained = rows(config, "select target from sft_candidates where task != 'patient_turn'")
    assert trained
    assert_no_leak([row["target"] for row in trained], canaries)


async def test_prompts_do_not_depend_on_the_record(
    config: ArenaConfig, server: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Non-interference: other record, closed lists included, but the same words: same prompts."""
    first, _ = canary_case("one")
    second = other_labels(canary_case("two")[0])
    assert first.cognitive_model != second.cognitive_model
    quiet = replace(config, guidance="none")
    for case in (first, second):
        await play(quiet, case, monkeypatch, {"patient": SilentPatient()})
    sent = prompts(server)
    half = len(sent) // 2
    assert sorted(sent[:half]) == sorted(sent[half:])


async def test_a_speaking_patients_record_is_known_only_from_its_turns(
    config: ArenaConfig, server: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, canaries = canary_case("say", spoken=True)
    # A patient by the rules need not answer: a few more questions make sure that it speaks.
    longer = replace(config, exchanges=8)
    played = await play(longer, case, monkeypatch, {"patient": TalkingPatient()})
    spoken = [turn["text"] for turn in played["turns"] if turn["speaker"] == "patient"]
    said = [canary for canary in canaries if any(canary in text for text in spoken)]
    assert said, "the patient must speak for this to prove anything"
    sent = prompts(server)
    assert any(canary in text for text in sent for canary in said)
    assert_spoken_first(sent, canaries, spoken)


async def test_oracle_guidance_leaks_and_says_so(
    config: ArenaConfig, server: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, canaries = canary_case("ora")
    played = await play(
        replace(config, guidance="oracle", probe_rounds=8),
        case,
        monkeypatch,
        {"patient": SilentPatient()},
    )
    assert played["episode"]["guidance"] == "oracle"
    told = [decision for decision in played["decisions"] if decision["guidance"]]
    assert told
    assert all(decision["guidance_kind"] == "oracle" for decision in told)
    assert all(decision["leak"] == 1 for decision in told)
    with pytest.raises(AssertionError, match="carries"):
        assert_no_leak(prompts(server), canaries)


# --- the checks fail when the barrier is broken --------------------------------------------------


def _whispering_lines(turns: Any) -> tuple[Line, ...]:
    heard = tuple(Line(turn["speaker"], turn["text"]) for turn in turns)
    return (*heard, Line("patient", _secret[0])) if heard else heard


def _leak_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs.views, "lines", _whispering_lines)


def _leak_guidance(monkeypatch: pytest.MonkeyPatch) -> None:
    def told(kind: Any, component: Any, mode: Any, record: Any = ()) -> str:
        return f"Ask about {_secret[0]}"

    monkeypatch.setattr(graphs.nodes, "guidance_text", told)


def _leak_prompt(module: Any, name: str) -> Callable[[pytest.MonkeyPatch], None]:
    def broken(monkeypatch: pytest.MonkeyPatch) -> None:
        honest = getattr(module, name)

        def render(view: Any) -> Prompt:
            prompt: Prompt = honest(view)
            return replace(prompt, user=f"{prompt.user}\n{_secret[0]}")

        monkeypatch.setattr(module, name, render)

    return broken


_secret: list[str] = []

BROKEN: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a view's lines": _leak_lines,
    "the guidance": _leak_guidance,
    "the question's prompt": _leak_prompt(agents.therapist, "render_ask"),
    "the formulation request": _leak_prompt(agents.therapist, "render_formulate"),
    "the diagnosis request": _leak_prompt(agents.therapist, "render_diagnose"),
    "the plan request": _leak_prompt(agents.therapist, "render_propose"),
    "the judge's prompt": _leak_prompt(agents.judge, "render_score"),
}


@pytest.mark.parametrize("place", list(BROKEN))
async def test_a_broken_barrier_is_caught(
    place: str, config: ArenaConfig, server: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    case, canaries = canary_case("brk")
    _secret[:] = [case.history[0].text]
    BROKEN[place](monkeypatch)
    played = await play(config, case, monkeypatch, {"patient": SilentPatient()})
    with pytest.raises(AssertionError, match="carries"):
        assert_no_leak(prompts(server), canaries)
    spoken = [turn["text"] for turn in played["turns"]]
    with pytest.raises(AssertionError, match="was not spoken"):
        assert_spoken_first(prompts(server), canaries, spoken)


async def test_broken_interference_is_caught(
    config: ArenaConfig, server: MockServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = agents.therapist.render_formulate
    held: list[Case] = []

    def render(view: Any) -> Prompt:
        prompt: Prompt = honest(view)
        belief = held[0].cognitive_model.core_beliefs[0].text
        return replace(prompt, user=prompt.user + belief)

    monkeypatch.setattr(agents.therapist, "render_formulate", render)
    first, _ = canary_case("one")
    for case in (first, other_labels(first)):
        held[:] = [case]
        await play(
            replace(config, guidance="none"), case, monkeypatch, {"patient": SilentPatient()}
        )
    sent = prompts(server)
    half = len(sent) // 2
    assert sorted(sent[:half]) != sorted(sent[half:])


# --- by construction -----------------------------------------------------------------------------

BLIND_SCHEMAS = (schemas.TherapistInput, schemas.JudgeInput, schemas.SafetyInput)
BLIND_VIEWS = (seats.TherapistView, seats.PlanView, seats.JudgeView, seats.ProbeView)


@pytest.mark.parametrize("schema", BLIND_SCHEMAS)
def test_blind_schemas_hold_no_channel_with_the_record(schema: type) -> None:
    hidden = {"case", "case_id", "principle", "principle_scores", "deviations", "injections"}
    assert not hidden & set(get_type_hints(schema))


@pytest.mark.parametrize("view", BLIND_VIEWS)
def test_blind_views_hold_no_field_with_the_record(view: type) -> None:
    for name, hint in get_type_hints(view, vars(seats)).items():
        shown = str(hint)
        assert "Case" not in shown, name
        assert "Principle" not in shown, name
        assert "Deviation" not in shown, name
