"""What the rule-based patient answers to a diagnosis and to a plan.

Why: these two answers steer the second half of an episode, so their rules stand apart from the
dialogue. A diagnosis is weighed against the record's reference codes, or against the history where
there is none. A plan moves the health state by

    4 * (fit - 0.45) + history + repetition + style + noise

where fit comes from :mod:`agents.rules.plans` for the reference (or the told) diagnosis, history is
+0.5 / -0.2 / -0.8 / -1.5 for a like treatment that helped / partly / nothing / worse, repetition is
-1.0 for a plan like an earlier one, style is -0.4 (hostile), -0.2 (guarded) or +0.3 (ingratiating),
and noise is normal with a standard deviation of 0.6.
"""

from random import Random

from agents.rules.cues import build_index, look_up
from agents.rules.language import attach, content, data, finish, made_utterance, normal, words
from agents.rules.plans import code_of, fit, same_plan
from agents.seats import Confirmation, ConfirmView, PlanResponse, TrialView
from mentalarena.case import Case, Clause, Style
from mentalarena.nosology import family, same_diagnosis

NOISE = 0.07
"""Chance that the patient picks the diagnosis that fits less."""
NEITHER = 0.15
"""A single offered diagnosis that fits less than this is not recognized."""

_LIKENESS = {"exact": 1.0, "category": 0.9, "block": 0.6, "different": 0.0}
_OUTCOME = {"helped": 0.5, "partly": -0.2, "nothing": -0.8, "worse": -1.5}
_LEANING = {Style.HOSTILE: -0.4, Style.GUARDED: -0.2, Style.INGRATIATING: 0.3}


def likeness(label: str, case: Case) -> float:
    """How well a label fits a case, 0 to 1.

    By code against the reference diagnoses (comorbid ones count a little less), by shared words
    where the label maps to no code, and by words of the history where there is no reference.
    """
    code = code_of(label)
    best = 0.0
    for rank, reference in enumerate(case.reference):
        weight = 1.0 if rank == 0 else 0.85
        shared = content(label) & content(reference.label)
        value = 0.5 * len(shared) / max(1, len(content(reference.label)))
        if code:
            value = max(value, _LIKENESS[same_diagnosis(code, reference.code)])
            if family(code) == family(reference.code):
                value = max(value, 0.6)
        best = max(best, weight * value)
    if not case.reference:
        history = content(" ".join(clause.text for clause in case.history))
        indicators = content(" ".join(data("disorders")["indicators"].get(label, [label])))
        best = min(1.0, 4 * len(history & indicators) / max(1, len(history)))
    return best


def answer_confirmation(view: ConfirmView, random: Random) -> Confirmation:
    """Choose among one or two options, and say why from the patient's own sentences."""
    bank = data("patient")["confirm"]
    fits = [likeness(option.label, view.case) for option in view.options]
    # Equal fits are common, and the order in which two labels are told must not decide them.
    taste = [Random(option.label).random() for option in view.options]
    choice = max(range(len(fits)), key=lambda index: (fits[index], taste[index]))
    slip = random.random() < NOISE
    if len(fits) == 1:
        if (fits[0] < NEITHER) != slip:
            return Confirmation(choice=None, reason=random.choice(bank["neither"]))
        opening = random.choice(bank["only"])
    else:
        choice = 1 - choice if slip else choice
        opening = random.choice(bank["first" if choice == 0 else "second"])
    why = _lay_reason(view, view.options[choice].label, random)
    return Confirmation(
        choice=choice + 1, reason=f"{opening} {attach(random.choice(bank['because']), why)}"
    )


def _lay_reason(view: ConfirmView, label: str, random: Random) -> str:
    """A sentence of the history that speaks for the label, one already said if there is one."""
    spoken = "|".join(normal(line.text) for line in view.lines if line.speaker == "patient")
    indicators = data("disorders")["indicators"].get(label)
    index = build_index({label: indicators}) if indicators else None

    def weight(way: str) -> float:
        told = 1.0 if normal(way).strip() in spoken else 0.0
        return told + (sum(look_up(words(way), index).values()) if index else 0.0)

    ways = [way for clause in view.case.history for way in _ways(clause)]
    heaviest = max(weight(way) for way in ways)
    return finish(random.choice([way for way in ways if weight(way) >= heaviest]))


def _ways(clause: Clause) -> tuple[str, ...]:
    return clause.utterances or (made_utterance(clause.text),)


def answer_plan(view: TrialView, random: Random) -> PlanResponse:
    """Health after a plan, and a line that says how it would go."""
    bank = data("patient")["respond"]
    case = view.case
    code = case.reference[0].code if case.reference else code_of(view.diagnosis)
    past = next((p for p in case.past_treatments if same_plan(p.name, view.name)), None)
    repeated = any(
        earlier.kind == view.kind and same_plan(earlier.name, view.name) for earlier in view.earlier
    )
    move = (
        4 * (fit(view.name, view.kind, code) - 0.45)
        + (_OUTCOME[past.outcome] if past else 0.0)
        + (-1.0 if repeated else 0.0)
        + _LEANING.get(case.style, 0.0)
        + random.gauss(0, 0.6)
    )
    health = max(1, min(10, view.health + round(move)))
    felt = (
        "worse" if move < -0.5 else "same" if move < 0.5 else "little" if move < 1.5 else "better"
    )
    parts = []
    if random.random() < 0.6:
        parts.append(random.choice(bank[case.style.value]))
    if repeated and random.random() < 0.7:
        parts.append(random.choice(bank["repeat"]))
    if past:
        parts.append(random.choice(bank[f"tried_{past.outcome}"]))
    said = "|".join(normal(earlier.response) for earlier in view.earlier)
    fresh = [line for line in bank[felt] if normal(line).strip() not in said]
    parts.append(random.choice(fresh or bank[felt]))
    if len(parts) > 1 and parts[0].endswith(","):
        parts[:2] = [attach(parts[0], parts[1])]
    return PlanResponse(response=" ".join(parts), health=health)
