"""New cases by a model: from a history to the cognitive model it could have led to.

Why: recombined cases hold nothing that was not there before. Here a model is asked for what
MentalArena's seed data were made for (history in, cognitive model out), run forwards: it invents a
situation and the beliefs, thoughts and ways of coping of somebody with the history of a built-in
patient. What it writes is read into the same types as everything else, and refused when it is too
near to a case that exists. Utterances are left to the seats, which make and mark them.

Every answer is kept in a file beside the case file, so that the same command again asks only for
what is missing.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path

from pydantic import ValidationError

from agents.ask import Ask, Reask
from agents.prompting import Prompt, render
from agents.seats import Answer, Place, Short
from mentalarena.case import CLOSED_LISTS, Clause, Component, Patient
from mentalarena.coherence import Lives
from mentalarena.errors import CaseError, ReplayError
from mentalarena.journal import Call, Messages
from mentalarena.synthesis import NAME, Neighborhood, Synthesis

_SOURCE = "synthetic (by model {model})"
_MOST_CLAUSES = 6
_TRIES = 3
"""Draws per wanted patient."""

_CoreBelief = StrEnum(  # type: ignore[misc]
    "_CoreBelief", {label: label for label in CLOSED_LISTS[Component.CORE_BELIEFS]}
)
_Emotion = StrEnum(  # type: ignore[misc]
    "_Emotion", {label: label for label in CLOSED_LISTS[Component.EMOTIONS]}
)


class WrittenModel(Answer):
    """What a model writes of a person: running texts, and labels of the closed lists."""

    situation: Short
    opening: Short
    core_belief: _CoreBelief
    second_core_belief: _CoreBelief
    intermediate_beliefs: Short
    intermediate_beliefs_depression: Short
    coping_strategies: Short
    automatic_thoughts: Short
    emotion: _Emotion
    second_emotion: _Emotion
    behaviors: Short


class FileJournal:
    """Answers in a JSON Lines file, each on the disk before it is used."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._calls: dict[str, Call] = {}
        try:
            lines = path.read_text("utf-8").splitlines() if path.exists() else []
            for line in lines:
                call = Call(**json.loads(line))
                self._calls[call.id] = call
        except (OSError, ValueError, TypeError) as error:
            raise CaseError(f"{path} holds no answers that can be gone on from: {error}") from error

    async def find(self, key: str, prompt_hash: str, messages: Messages = ()) -> Call | None:
        """See :class:`mentalarena.journal.Journal`."""
        call = self._calls.get(key)
        if call is not None and call.prompt_hash != prompt_hash:
            raise ReplayError(
                f"{self._path} holds answers to other prompts: name another --out, or remove it"
            )
        return call

    async def record(self, call: Call, template: tuple[str, str, str]) -> None:
        """See :class:`mentalarena.journal.Journal`."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(call)) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._calls[call.id] = call


def render_model(patient: Patient, history: Sequence[Clause]) -> Prompt:
    """The prompt that asks for a cognitive model."""
    who = patient.demographics
    age = f"{who.age} years old, " if who.age is not None else ""
    codes = "; ".join(reference.label for reference in patient.reference)
    return render(
        "casewriter",
        "model",
        about=f"{age}{who.gender}; {who.work}; {who.family}; background: {who.culture}",
        history=" ".join(clause.text for clause in history),
        diagnosis=codes or "none",
        core_beliefs="; ".join(CLOSED_LISTS[Component.CORE_BELIEFS]),
        emotions=", ".join(CLOSED_LISTS[Component.EMOTIONS]),
    )


async def write_cases(
    ask: Ask,
    model: str,
    parents: Sequence[Patient],
    n: int,
    seed: int,
    lives: Lives,
    neighborhood: Neighborhood,
    journal: FileJournal,
    progress: Callable[[int], None] = lambda done: None,
) -> Synthesis:
    """Up to ``n`` patients with histories of the parents, one after the other.

    Args:
        ask: The door to the model.
        model: Its spec, which becomes part of what is said of the source.
        parents: Whose histories are used, in turn; synthetic ones are left out.
        n: How many are wanted.
        seed: Of the model's sampling.
        lives: The parents' and others', by which names are told from words.
        neighborhood: Whom they must not be too near to.
        journal: Where answers are kept.
        progress: Called with the number of patients made so far.

    Raises:
        CaseError: there is no parent whose history can be told without names.
        ProviderError: the model could not be reached or refused.
    """
    pool = tuple(one for one in parents if not one.synthetic and one.varied is None)
    bases = [(one, history) for one in pool if len(history := _history(one, lives)) >= 2]
    if not bases:
        raise CaseError("there is no patient whose history can be told without names")
    made: list[Patient] = []
    refused: Counter[str] = Counter()
    for attempt in range(_TRIES * n):
        if len(made) == n:
            break
        parent, history = bases[attempt % len(bases)]
        at = Place(f"cases-{seed}", 1, "casewriter", attempt, attempt, seed, journal)
        answer = await ask.attempt(
            render_model(parent, history), WrittenModel, at, "model", check=_check
        )
        if answer.value is None:
            refused["unreadable answer"] += 1
            continue
        identity = f"wri-{seed}-{len(made) + 1:04d}"
        try:
            patient = _patient(identity, parent, history, answer.value, model)
        except ValidationError:
            refused["incomplete"] += 1
            continue
        if neighborhood.admit(next(patient.cases())):
            refused["too near to another case"] += 1
            continue
        made.append(patient)
        progress(len(made))
    return Synthesis(tuple(made), neighborhood.limit, neighborhood.nearest, refused)


def _history(patient: Patient, lives: Lives) -> tuple[Clause, ...]:
    found = (lives.nameless(clause) for clause in patient.history)
    return tuple(clause for clause in found if clause is not None)


def _check(written: WrittenModel) -> None:
    if written.core_belief == written.second_core_belief:
        raise Reask("parse", "second_core_belief must differ from core_belief")
    if written.emotion == written.second_emotion:
        raise Reask("parse", "second_emotion must differ from emotion")


def _clauses(text: str) -> tuple[Clause, ...]:
    parts = [part.strip() for part in re.split(r"(?<=[.!?])\s+", text) if part.strip(" .!?")]
    return tuple(Clause(text=part) for part in dict.fromkeys(parts))[:_MOST_CLAUSES]


def _patient(
    identity: str,
    parent: Patient,
    history: Sequence[Clause],
    written: WrittenModel,
    model: str,
) -> Patient:
    record = parent.model_dump(
        mode="json", exclude={"id", "beliefs", "situations", "history", "name", "source"}
    )
    return Patient.model_validate(
        {
            **record,
            "id": identity,
            "name": NAME,
            "source": _SOURCE.format(model=model)[:4000],
            "synthetic": True,
            "parents": (parent.id,),
            "history": tuple(history),
            "beliefs": {
                "core_beliefs": _labels(written.core_belief, written.second_core_belief),
                **{
                    part: _clauses(getattr(written, part))
                    for part in (
                        "intermediate_beliefs",
                        "intermediate_beliefs_depression",
                        "coping_strategies",
                    )
                },
            },
            "situations": (
                {
                    "id": f"{identity}-1",
                    "openings": (written.opening[:1000],),
                    "situation": _clauses(written.situation),
                    "automatic_thoughts": _clauses(written.automatic_thoughts),
                    "emotions": _labels(written.emotion, written.second_emotion),
                    "behaviors": _clauses(written.behaviors),
                },
            ),
        }
    )


def _labels(*labels: str) -> tuple[Clause, ...]:
    return tuple(Clause(text=str(label)) for label in labels)


def journal_beside(out: Path) -> Path:
    """Where the answers behind a case file are kept."""
    return out.with_name(out.name + ".answers.jsonl")
