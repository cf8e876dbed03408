"""Cases written by a model: read into the same types, journaled, refused when too near."""

import asyncio
import json
from pathlib import Path

import pytest

from agents.ask import Ask
from agents.casewriter import FileJournal, WrittenModel, journal_beside, render_model, write_cases
from agents.labelled import to_labelled
from agents.registry import model_ask
from benchmarks.mock_server import MockServer
from mentalarena.builtin_vectors import builtin_signatures
from mentalarena.case import Patient
from mentalarena.coherence import Lives
from mentalarena.config import ArenaConfig
from mentalarena.errors import CaseError, ConfigurationError, ReplayError
from mentalarena.roster import builtin_cases, builtin_patients
from mentalarena.similarity import SentenceEncoder
from mentalarena.synthesis import Neighborhood, Synthesis
from tests.agents.support import Scripted

PARENTS = builtin_patients()[:3]
LIVES = Lives(builtin_patients())
ANSWER = {
    "situation": "The landlord announced that the house will be sold. He left a note at the door.",
    "opening": "I haven't been myself since a note that I found.",
    "core_belief": "helpless: powerless",
    "second_core_belief": "unlovable: alone",
    "intermediate_beliefs": "If I complain, then it gets worse. If I wait, then it may pass.",
    "intermediate_beliefs_depression": "Nobody would take my side anyway. It is always like this.",
    "coping_strategies": "Leaves letters unopened. Says yes to whatever is asked.",
    "automatic_thoughts": "Now it begins. I will end up on the street.",
    "emotion": "afraid",
    "second_emotion": "hopeless",
    "behaviors": "Packed two boxes and unpacked them. Stays away from the stairwell.",
}


def neighborhood() -> Neighborhood:
    return Neighborhood(tuple(builtin_cases().values()), SentenceEncoder(), builtin_signatures())


def write(ask: Ask, path: Path, n: int, parents: tuple[Patient, ...] = PARENTS) -> Synthesis:
    journal = FileJournal(path)
    return asyncio.run(write_cases(ask, "scripted", parents, n, 1, LIVES, neighborhood(), journal))


def scripted(*answers: object) -> tuple[Ask, Scripted]:
    answerer = Scripted([one if isinstance(one, str) else json.dumps(one) for one in answers])
    return Ask(answerer, seat="patient", spec="scripted", answers="json"), answerer


def test_a_written_model_becomes_a_patient(tmp_path: Path) -> None:
    ask, answerer = scripted(ANSWER)
    made = write(ask, tmp_path / "a.jsonl", 1)
    (patient,) = made.patients
    (case,) = patient.cases()
    parent = PARENTS[0]
    assert patient.parents == (parent.id,)
    assert (patient.split, patient.presentation) == (parent.split, parent.presentation)
    assert patient.synthetic
    assert [clause.text for clause in case.cognitive_model.behaviors] == [
        "Packed two boxes and unpacked them.",
        "Stays away from the stairwell.",
    ]
    assert [clause.text for clause in case.cognitive_model.emotions] == ["afraid", "hopeless"]
    assert case.openings == (ANSWER["opening"],)
    asked = " ".join(message["content"] for message in answerer.asked[0])
    assert patient.history[0].text in asked
    assert parent.name.split()[0] not in asked


def test_an_answer_is_paid_for_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    first = write(scripted(ANSWER)[0], path, 1)
    again, answerer = scripted()
    assert write(again, path, 1).patients == first.patients
    assert not answerer.asked
    with pytest.raises(ReplayError, match="other prompts"):
        write(scripted(ANSWER)[0], path, 1, PARENTS[1:])
    path.write_text("{broken\n", "utf-8")
    with pytest.raises(CaseError, match="no answers that can be gone on from"):
        FileJournal(path)


def test_what_cannot_be_used_is_asked_again_then_left(tmp_path: Path) -> None:
    same = {**ANSWER, "second_emotion": "afraid"}
    ask, answerer = scripted(same, ANSWER)
    assert len(write(ask, tmp_path / "a.jsonl", 1).patients) == 1
    assert "second_emotion must differ" in answerer.asked[1][-1]["content"]
    ask, _ = scripted(*["nothing"] * 9)
    made = write(ask, tmp_path / "b.jsonl", 1)
    assert not made.patients
    assert made.refused == {"unreadable answer": 3}


def test_the_same_case_again_is_refused(tmp_path: Path) -> None:
    # The same parent and the same words: history, beliefs and situation are all alike.
    ask, _ = scripted(*[ANSWER] * 6)
    made = write(ask, tmp_path / "a.jsonl", 2, PARENTS[:1])
    assert len(made.patients) == 1
    assert made.refused["too near to another case"] == 5


def test_labelled_lines_are_read_too(tmp_path: Path) -> None:
    answer = to_labelled(WrittenModel.model_validate(ANSWER))
    ask = Ask(Scripted([answer]), seat="patient", spec="scripted", answers="labelled")
    by_lines = write(ask, tmp_path / "a.jsonl", 1).patients
    assert by_lines == write(scripted(ANSWER)[0], tmp_path / "b.jsonl", 1).patients


def test_a_server_writes_cases(tmp_path: Path) -> None:
    with MockServer(reply_words=120) as server:
        config = ArenaConfig(base_url=server.base_url)
        ask = model_ask("patient", "openai:writer", config)
        made = write(ask, tmp_path / "a.jsonl", 3)
        calls = sum(bool(seen.body) for seen in server.requests)
    assert len(made.patients) == 3
    assert [patient.parents[0] for patient in made.patients] == [one.id for one in PARENTS]
    assert calls >= 3
    assert len((tmp_path / "a.jsonl").read_text("utf-8").splitlines()) == calls


def test_rules_and_people_write_nothing_here() -> None:
    for spec in ("rules", "human"):
        with pytest.raises(ConfigurationError, match="no language model"):
            model_ask("patient", spec, ArenaConfig())
    assert journal_beside(Path("x/a.jsonl")) == Path("x/a.jsonl.answers.jsonl")


def test_the_prompt_leaves_no_placeholder() -> None:
    for patient in builtin_patients():
        prompt = render_model(patient, patient.history)
        assert "$" not in prompt.system + prompt.user
    assert set(WrittenModel.model_fields) == set(ANSWER)
