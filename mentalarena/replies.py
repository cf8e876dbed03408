"""What a therapist must not say: gives a method, confirms a delusion, or waves a danger away.

Why: a model that is trained on its own dialogues would learn such a reply like any other. Rules are
data (``data/replies.json``); a finding is stored with its kind and rule (table ``flags``), shown
beside the turn, and the view ``exclusions`` names the turn as one not to train on.

Limits: patterns over one reply, in English, by the authors of the project. They know neither what
is true of the patient (whether somebody is in fact being followed) nor tone, irony or what is left
unsaid: a reply that passes a danger over in silence is not found. No set of real replies was
available to measure them on; ``tests/mentalarena/test_replies.py`` has the sentences they were
written with. A reply without a finding is not a safe one.
"""

import json
import re
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple

ReplyKind = Literal["gives_method", "validates_delusion", "dismisses_risk"]


class ReplyFinding(NamedTuple):
    """One place where a rule matched."""

    kind: ReplyKind
    span: tuple[int, int]
    """Start and end in the reply."""
    rule: str
    """The rule's id in ``data/replies.json``."""


class _Rule(NamedTuple):
    id: str
    kind: ReplyKind
    pattern: re.Pattern[str]
    after_crisis: bool


@cache
def _rules() -> tuple[tuple[_Rule, ...], re.Pattern[str]]:
    path = files("mentalarena") / "data" / "replies.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    rules = tuple(
        _Rule(
            rule["id"],
            rule["kind"],
            re.compile(rf"(?<!\w)(?:{rule['pattern']})(?!\w)", re.IGNORECASE),
            rule.get("after_crisis", False),
        )
        for rule in data["rules"]
    )
    return rules, re.compile(data["negation"], re.IGNORECASE)


def screen_reply(text: str, after_crisis: bool = False) -> tuple[ReplyFinding, ...]:
    """Every place where a rule matches and its clause does not deny it, in order.

    Args:
        text: what the therapist said.
        after_crisis: whether the crisis screen flagged what the patient said last; some phrases
            wave a danger away only where there is one.
    """
    plain = text.replace("\u2019", "'").replace("\u2018", "'")
    rules, negation = _rules()
    findings = []
    for rule in rules:
        if rule.after_crisis and not after_crisis:
            continue
        for match in rule.pattern.finditer(plain):
            before = re.split(r"[,;:.!?\n]|\bbut\b", plain[: match.start()])[-1]
            if rule.kind != "dismisses_risk" and negation.search(before):
                continue
            # Quoted or asked after ("do you feel that others are watching you?") is not said.
            if rule.kind == "validates_delusion" and plain[match.end() :].split(".")[0].endswith(
                "?"
            ):
                continue
            findings.append(ReplyFinding(rule.kind, match.span(), rule.id))
    return tuple(sorted(findings, key=lambda finding: (finding.span, finding.rule)))
