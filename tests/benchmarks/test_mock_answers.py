"""The mock server's answers follow from the prompt alone and have the forms that are asked for."""

import json
import re
from typing import Annotated, Literal, get_args

import pytest
from pydantic import BaseModel, ConfigDict, Field

from agents.answers import read
from agents.labelled import labelled_format
from agents.prompting import read_text
from agents.role_flip import is_flipped
from agents.seats import (
    Confirmation,
    Diagnoses,
    Formulation,
    PlanProposal,
    ProbeChoice,
    Score,
    Speaker,
)
from benchmarks.mock_server import MockServer
from benchmarks.mock_words import DISORDERS, MEDICATIONS, TREATMENTS
from mentalarena.case import Component
from mentalarena.safety import is_crisis
from tests.benchmarks.support import (
    DIALOGUE,
    answered,
    post,
    request,
    schema_request,
)


def test_an_answer_depends_on_the_request_alone() -> None:
    bodies = [request(f"Question {n}") for n in range(20)]
    with MockServer(seed=3) as first, MockServer(seed=3) as second:
        forward = [json.loads(post(first, body)[2])["choices"] for body in bodies]
        backward = [json.loads(post(second, body)[2])["choices"] for body in reversed(bodies)]
    assert forward == backward[::-1]
    assert len({json.dumps(choices) for choices in forward}) == 20


def test_what_decides_an_answer_and_what_does_not() -> None:
    base = answered(request())
    parts = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    assert answered(request(temperature=1.5, user="u")) == base
    assert answered({"model": "m", "messages": parts}) == base
    assert answered({**request(), "model": "other"}) != base
    assert answered(request(seed=1)) != base
    assert answered(request(), seed=1) != base


def test_the_therapist_asks_and_the_patient_tells() -> None:
    def spoken(role: str) -> str:
        system = {"role": "system", "content": f"You are the {role}."}
        return answered({"model": "m", "messages": [system, *request()["messages"]]})

    assert spoken("therapist").endswith("?")
    assert "?" not in spoken("patient")


def test_nobody_falls_out_of_their_role() -> None:
    for speaker in get_args(Speaker):
        system = {"role": "system", "content": read_text(f"{speaker}.system.md")}
        for seed in range(100):
            body = {"model": "m", "messages": [system, *request()["messages"]]}
            text = answered(body, seed)
            assert is_flipped(text, speaker) is None, text
            assert not is_crisis(text), text


def test_a_closed_list_is_drawn_from_what_the_prompt_names() -> None:
    asked = "intermediate beliefs during depression: missed\n- emotions: distorted"
    told = {
        ProbeChoice.model_validate_json(
            answered(schema_request(ProbeChoice, asked), seed)
        ).component
        for seed in range(40)
    }
    assert told >= {Component.EMOTIONS}
    assert Component.BEHAVIORS not in told


def test_a_plan_is_of_the_kind_that_is_asked_for_and_new() -> None:
    asked = (
        "Plans tried before: {}\nPropose one {} plan. For a treatment: ... For a medication: ..."
    )
    for kind, bank in (("treatment", TREATMENTS), ("medication", MEDICATIONS)):
        tried: list[str] = []
        for _ in bank:
            body = schema_request(PlanProposal, asked.format("; ".join(tried), kind))
            tried.append(PlanProposal.model_validate_json(answered(body)).name)
        assert sorted(tried) == sorted(bank)


def test_labelled_lines_are_answered_in_their_labels() -> None:
    text = (
        f"{DIALOGUE}\n\nAnswer in exactly these lines:\n"
        "label: the disorder that fits best\n"
        "second label: the next one\n"
        "score: a number from 1 (worst) to 10 (best)\n"
        "choice: 1 or 2\n"
        "component: one of emotions, behaviors or coping_strategies\n"
        "quote: a verbatim sentence of the patient\n"
        "reason: why, in 2 to 3 sentences\n\nNothing else."
    )
    numbers = set()
    for seed in range(60):
        lines = dict(line.split(": ", 1) for line in answered(request(text), seed).splitlines())
        assert list(lines) == [
            "label", "second label", "score", "choice", "component", "quote", "reason",
        ]  # fmt: skip
        assert {lines["label"], lines["second label"]} <= set(DISORDERS)
        assert lines["label"] != lines["second label"]
        numbers.add(int(lines["score"]))
        assert lines["choice"] in ("1", "2")
        assert lines["component"] in ("emotions", "behaviors", "coping_strategies")
        assert lines["quote"] in DIALOGUE.replace("Therapist: ", "")
        assert len(lines["reason"].split()) > 4
    assert numbers == set(range(1, 11))


def test_the_project_s_own_labelled_form_can_be_read_back() -> None:
    for model in (Formulation, Diagnoses, Confirmation, PlanProposal, Score, ProbeChoice):
        form = f"Answer in exactly these lines:\n{labelled_format(model)}"
        for seed in range(20):
            read(answered(request(f"{DIALOGUE}\n\n{form}"), seed), model, labelled=True)
            read(answered(request(form), seed), model, labelled=True)


class Leaf(BaseModel):
    model_config = ConfigDict(extra="forbid")
    value: Annotated[float, Field(gt=0, lt=1)]
    steps: Annotated[int, Field(ge=3, le=30, multiple_of=5)]
    note: str | None
    short: Annotated[str, Field(min_length=5, max_length=12)]
    below: "Leaf | None"


class Everything(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["a", "b"]
    component: Component
    flags: Annotated[list[bool], Field(min_length=2, max_length=3)]
    leaves: list[Leaf]
    either: int | Leaf
    health: Annotated[int, Field(ge=1, le=10)]
    pair: tuple[int, str]


@pytest.mark.parametrize(
    "model", [Everything, Formulation, Diagnoses, Confirmation, PlanProposal, Score]
)
def test_json_answers_satisfy_their_schema(model: type[BaseModel]) -> None:
    for seed in range(50):
        text = answered(schema_request(model), seed)
        value = model.model_validate_json(text, strict=True)
        # Every property is given, as strict mode has it.
        assert set(json.loads(text)) == set(type(value).model_fields)


def test_quotes_are_verbatim_and_absent_without_a_dialogue() -> None:
    quotes: set[str] = set()
    for seed in range(20):
        formulation = Formulation.model_validate_json(answered(schema_request(Formulation), seed))
        for component in Component:
            quotes.update(formulation.of(component).quotes)
    assert len(quotes) >= 3
    for quote in quotes:
        assert re.search(rf"^Patient: .*{re.escape(quote)}", DIALOGUE, re.MULTILINE), quote
    bare = Formulation.model_validate_json(answered(schema_request(Formulation, "No dialogue.")))
    assert all(not bare.of(component).quotes for component in Component)
