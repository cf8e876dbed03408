"""The crisis screen: transparent lexicon rules over what a patient says, and what to answer.

Why: an utterance that speaks of suicide, self-harm or violence goes through the ``safety`` turn
and stays out of training unless asked for. Rules are data (``data/crisis.json``), so that each
finding names the rule that made it and anybody can argue with it.

Limits: a lexicon misses indirect language, irony and every language but English; it takes a past
attempt for history even when the danger is not over, reads quoted speech and questions as the
speaker's own, and flags some figures of speech. On sentences that were frozen before the rules were
widened it finds 24 of 59 crises and raises 4 false alarms in 77 (``python -m
benchmarks.safety_check``; docs/validation.md): expect it to miss more than half of what is said
freshly. It is a filter for simulated dialogue, not a clinical instrument, and must never be used to
judge a real person's risk.
"""

import json
import re
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple

Kind = Literal[
    "passive_ideation",
    "active_ideation",
    "plan",
    "intent",
    "attempt",
    "self_harm",
    "harm_to_others",
]
Qualifier = Literal["negated", "past", "third_person", "idiom", "fiction"]

GRAVEST_FIRST: tuple[str, ...] = (
    "attempt",
    "intent",
    "plan",
    "harm_to_others",
    "active_ideation",
    "self_harm",
    "passive_ideation",
)
"""The order in which the kinds of one turn are named."""

SAFETY_LINES: tuple[str, ...] = (
    "Thank you for telling me; I take what you just said seriously. Are you safe right now? This "
    "is a simulation for research, but if there is an emergency, please contact your local "
    "emergency services or a crisis line at once.",
    "Before we go on with anything else, I want to ask about your safety: is there anything near "
    "you now that you could use to hurt yourself or somebody else? In an emergency, please reach "
    "your local emergency services or a crisis line; this conversation is a research simulation "
    "and cannot replace them.",
    "That sounds like a great deal to carry, and I am not going to pass over it. Are you in danger "
    "at this moment, and is there somebody who could be with you? If the danger is immediate, "
    "local emergency services or a crisis line can help; what we do here is a simulation for "
    "research.",
    "I hear how serious this is. Can you tell me whether you, and the people around you, are safe "
    "right now? This is only a simulation for research, so in an emergency please contact local "
    "emergency services or a crisis line in your area.",
)
"""What a therapist says in a ``safety`` turn; no numbers, because those differ by country."""


class CrisisFinding(NamedTuple):
    """One place where a rule matched."""

    kind: Kind
    span: tuple[int, int]
    """Start and end in the text as given."""
    rule: str
    """The rule's id in ``data/crisis.json``."""
    qualifier: Qualifier | None = None
    """Why it is no crisis; None when it counts as one."""


class _Rule(NamedTuple):
    id: str
    kind: Kind
    pattern: re.Pattern[str]
    negatable: bool
    qualifier: Qualifier | None


class _Lexicon(NamedTuple):
    rules: tuple[_Rule, ...]
    any_rule: re.Pattern[str]
    """Matches wherever some rule does: one pass settles most texts, which speak of no crisis."""
    idioms: tuple[re.Pattern[str], ...]
    cues: dict[str, re.Pattern[str]]
    any_spelling: re.Pattern[str]
    """One group a spelling that is read as another."""
    spellings: tuple[str, ...]
    """What the group of the same number stands for."""


@cache
def _lexicon() -> _Lexicon:
    path = files("mentalarena") / "data" / "crisis.json"
    data = json.loads(path.read_text(encoding="utf-8"))

    def compiled(*patterns: str) -> re.Pattern[str]:
        whole = "|".join(patterns)
        # Twice, because a fragment may hold another; a brace of a repeat count is left alone.
        for _ in range(2):
            for name, fragment in data["fragments"].items():
                whole = whole.replace("{" + name + "}", f"(?:{fragment})")
        return re.compile(rf"(?<!\w)(?:{whole})(?!\w)")

    return _Lexicon(
        tuple(
            _Rule(
                rule["id"],
                rule["kind"],
                compiled(rule["pattern"]),
                rule.get("negatable", True),
                rule.get("qualifier"),
            )
            for rule in data["rules"]
        ),
        compiled(*(rule["pattern"] for rule in data["rules"])),
        tuple(compiled(idiom) for idiom in data["idioms"]),
        {name: re.compile(cue) for name, cue in data["cues"].items()},
        re.compile(rf"(?<![\w'])(?:{'|'.join(f'({way})' for way in data['spellings'])})(?![\w'])"),
        tuple(data["spellings"].values()),
    )


def _same_length_lower(text: str) -> str:
    lowered = text.lower()
    if len(lowered) != len(text):
        # A few letters of other alphabets grow; they stay as they are.
        lowered = "".join(char.lower() if len(char.lower()) == 1 else char for char in text)
    return lowered.replace("\u2019", "'").replace("\u2018", "'").replace("\u02bc", "'")


def _spelled(lowered: str) -> tuple[str, list[int] | None]:
    """The text in the spelling of the rules, and where each of its characters stood before.

    The second is None when nothing changed.
    """
    lexicon = _lexicon()
    pieces: list[str] = []
    places: list[int] = []
    done = 0
    for match in lexicon.any_spelling.finditer(lowered):
        pieces.append(lowered[done : match.start()])
        places.extend(range(done, match.start()))
        meant = lexicon.spellings[(match.lastindex or 1) - 1]
        pieces.append(meant)
        # The first half of the word points at its start, the rest at its last character, so that a
        # finding that begins or ends inside it covers the word as it was written.
        places.extend(
            match.start() if i < len(meant) / 2 else match.end() - 1 for i in range(len(meant))
        )
        done = match.end()
    if not pieces:
        return lowered, None
    pieces.append(lowered[done:])
    places.extend(range(done, len(lowered)))
    return "".join(pieces), places


def _around(text: str, boundary: re.Pattern[str], start: int, end: int) -> tuple[int, int]:
    """The stretch between the boundaries nearest to a match."""
    left = max((m.end() for m in boundary.finditer(text, 0, start)), default=0)
    after = boundary.search(text, end)
    return left, after.start() if after else len(text)


def _last(cue: re.Pattern[str], text: str) -> int:
    return max((match.end() for match in cue.finditer(text)), default=-1)


def _qualify(text: str, match: re.Match[str], rule: _Rule) -> Qualifier | None:
    cues = _lexicon().cues
    start, end = match.span()
    if rule.qualifier is not None:
        return rule.qualifier
    left, _ = _around(text, cues["clause"], start, end)
    before = text[left:start]
    if cues["answered_no"].search(text[end:]):
        return "negated"
    denied = cues["negation"].search(cues["not_negation"].sub(" ", before))
    if rule.negatable and denied and not cues["taken_back"].search(text[end:]):
        return "negated"
    if cues["fiction"].search(before):
        return "fiction"
    # "myself" and "my" settle whose life it is, whoever was named before.
    own = re.search(r"\bmy(?:self)?\b", match[0]) and rule.kind != "harm_to_others"
    first = _last(cues["first_person"], text[left:end])
    if not own and _last(cues["third_person"], before) > first:
        return "third_person"
    left, right = _around(text, cues["sentence"], start, end)
    sentence = text[left:right]
    if cues["past"].search(sentence) and not cues["now"].search(sentence):
        return "past"
    return None


def screen(text: str) -> tuple[CrisisFinding, ...]:
    """Every place where a rule matches, in order, qualified ones included."""
    lexicon = _lexicon()
    lowered, places = _spelled(_same_length_lower(text))
    if not lexicon.any_rule.search(lowered):
        return ()
    idioms = [match.span() for idiom in lexicon.idioms for match in idiom.finditer(lowered)]
    findings = []
    for rule in lexicon.rules:
        for match in rule.pattern.finditer(lowered):
            start, end = match.span()
            figurative = any(first < end and start < last for first, last in idioms)
            qualifier = "idiom" if figurative else _qualify(lowered, match, rule)
            span = (start, end) if places is None else (places[start], places[end - 1] + 1)
            findings.append(CrisisFinding(rule.kind, span, rule.id, qualifier))
    return tuple(sorted(findings, key=lambda finding: (finding.span, finding.rule)))


def is_crisis(text: str) -> bool:
    """Whether some finding counts: it is not negated, past, somebody else's or an idiom."""
    return any(finding.qualifier is None for finding in screen(text))
