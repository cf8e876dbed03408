"""A case, places and short dialogues for the tests of the rule-based seats."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

import pytest

from agents.rules import RulesPatient, RulesTherapist
from agents.seats import Line, PatientView, Place, TherapistView
from mentalarena.case import Case, Patient, Principle, Style
from mentalarena.journal import Journal

T = TypeVar("T")


def clause(text: str, *utterances: str) -> dict[str, Any]:
    return {"text": text, "utterances": utterances}


PATIENT = Patient.model_validate(
    {
        "id": "example",
        "name": "Example E.",
        "split": "train",
        "source": "test",
        "presentation": "depressive",
        "style": "plain",
        "demographics": {
            "age": 41,
            "gender": "woman",
            "culture": "coastal town",
            "languages": "English",
            "work": "school cook",
            "family": "two sons",
        },
        "history": [
            clause(
                "Low mood on most days for ten weeks with loss of interest.",
                "I've been down since the end of summer, and nothing sounds fun.",
                "I used to sing in the choir every Tuesday. I don't care about it now.",
            ),
            clause(
                "Wakes before dawn and cannot fall asleep again.",
                "My eyes open at four and that's the night done for me.",
                "I lie awake and listen to the gulls from half past four.",
            ),
            clause(
                "Appetite is reduced and clothes have become loose.",
                "I cook for two hundred kids and can't finish a bowl of soup myself.",
                "My apron goes around me nearly twice, I'm never hungry.",
            ),
            clause(
                "One earlier depressive episode after the birth of the younger son.",
                "It was like this before, when my youngest was a baby.",
                "Sixteen years ago I had the same gray months, after the second boy.",
            ),
        ],
        "strengths": ["keeps a kitchen of six people calm"],
        "past_treatments": [{"name": "supportive counseling", "outcome": "nothing"}],
        "reference": [{"code": "F33.1", "label": "Major depressive disorder, recurrent, moderate"}],
        "beliefs": {
            "core_beliefs": [
                clause(
                    "helpless: failure",
                    "I'm a failure, if you add it all up.",
                    "I never amount to anything that lasts, that's me.",
                ),
                clause(
                    "worthless: burden",
                    "I'm a burden on my boys, they'd have it easier without me to fret over.",
                    "I weigh on people, I always have.",
                ),
            ],
            "intermediate_beliefs": [
                clause(
                    "If the work is not perfect, then everyone will lose respect.",
                    "If I send out one bad tray, they'll all see I'm not up to the job.",
                    "I have to get every single lunch right or I've lost them.",
                ),
                clause(
                    "One must never ask anyone for help.",
                    "I should never need a hand from anybody, that's how I was raised.",
                    "You carry your own pots, and I do, whatever it costs me.",
                ),
            ],
            "intermediate_beliefs_depression": [
                clause(
                    "Effort is pointless because nothing will ever change.",
                    "When I'm down I think, why bother, tomorrow is the same pan.",
                    "On bad days there's no point in anything I could start.",
                ),
                clause(
                    "Resting proves that she is lazy.",
                    "At my worst I call myself lazy for sitting on a stool.",
                    "When it's bad, even a nap makes me a shirker.",
                ),
            ],
            "coping_strategies": [
                clause(
                    "Takes on extra shifts so as not to think.",
                    "I keep busy, I say yes to every extra shift they have.",
                    "Work is my way of not thinking, so I take the doubles.",
                ),
                clause(
                    "Hides tiredness behind jokes.",
                    "I joke with the girls at the counter so nobody sees.",
                    "I put on the funny apron and pretend, that's how I get through.",
                ),
            ],
        },
        "situations": [
            {
                "id": "example-1",
                "openings": [
                    "I dropped a whole tray on Monday and I haven't been right since.",
                    "My supervisor sent me home, so I thought I'd better see somebody.",
                ],
                "situation": [
                    clause(
                        "Dropped a tray of food in front of the pupils and was sent home.",
                        "On Monday forty plates went over, with the whole hall watching me.",
                        "My supervisor took my hat off me and said go home, Ellen.",
                    ),
                    clause(
                        "The older son is leaving for university next month.",
                        "My eldest moves out in September, his boxes are in the hall already.",
                        "The house will have one boy less in it soon, and I can't think of that.",
                    ),
                ],
                "automatic_thoughts": [
                    clause(
                        "They have finally found out how useless she is.",
                        "I thought, now they know what they've got in me.",
                        "It went through my head that this was the last straw for them.",
                    ),
                    clause(
                        "Her son is relieved to be going.",
                        "I keep thinking he can't wait to be rid of us.",
                        "In my mind he's already stopped phoning.",
                    ),
                ],
                "emotions": [
                    clause(
                        "sad",
                        "I feel so sad, I cry into the dishwasher.",
                        "There's a heaviness on my chest and then the tears come.",
                    ),
                    clause(
                        "ashamed",
                        "I felt ashamed, I wanted to sink into the floor.",
                        "My face burns when I picture that hall.",
                    ),
                ],
                "behaviors": [
                    clause(
                        "Stays in bed on days off and leaves calls unanswered.",
                        "I stay under the covers all Sunday with the phone off.",
                        "I've stopped picking up when my sister rings.",
                    ),
                    clause(
                        "Re-checks every delivery three times.",
                        "I count the deliveries over and over before I sign.",
                        "I go back down to the cold room to look at the dates again.",
                    ),
                ],
            }
        ],
    }
)

PRINCIPLE = Principle(
    id="thanks-and-retreats",
    group="withdrawal",
    text="Becomes cheerful and ends the subject as soon as somebody shows concern.",
    utterances=(
        "When people fuss over me I laugh and hand them a plate.",
        "Somebody asks how I am and I'm off to the kitchen before they've finished.",
    ),
)


@pytest.fixture
def example_case() -> Case:
    """One case of the example patient."""
    return case()


def case(style: Style = Style.PLAIN) -> Case:
    """The example case in a given style."""
    return next(PATIENT.cases()).model_copy(update={"style": style})


def place(node: str, visit: int = 0, seed: int = 0) -> Place:
    """A place without a journal: rule-based seats make no calls."""
    return Place("episode", 0, node, visit, 0, seed, cast(Journal, None))


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run one seat call."""
    return asyncio.run(coroutine)


def told(*turns: str) -> tuple[Line, ...]:
    """Lines from texts, the patient first, in turns."""
    speakers = ("patient", "therapist")
    return tuple(Line(speakers[i % 2], text) for i, text in enumerate(turns))  # type: ignore[arg-type]


def play(
    seed: int, exchanges: int = 6, style: Style = Style.PLAIN, played: Case | None = None
) -> tuple[tuple[Line, ...], tuple[str, ...]]:
    """A dialogue of the two rule-based seats, and all that was disclosed in it."""
    patient, therapist = RulesPatient(), RulesTherapist()
    lines: list[Line] = []
    disclosed: list[str] = []
    who = played or case(style)

    async def talk() -> None:
        for visit in range(exchanges + 1):
            view = PatientView(who, PRINCIPLE, tuple(lines), exchanges - visit)
            answer = await patient.speak(view, place("patient", visit, seed))
            lines.append(Line("patient", answer.value.text))
            disclosed.extend(answer.disclosed or ())
            if visit < exchanges:
                seen = TherapistView(tuple(lines), "", None, exchanges - visit)
                question = await therapist.ask(seen, place("therapist", visit, seed))
                lines.append(Line("therapist", question.value.text))

    asyncio.run(talk())
    return tuple(lines), tuple(disclosed)
