"""From what a model said to the label it chose, or to the reason why there is none.

Why: the released scorer of the method counts an empty reply as right and looks for letters inside
of words. Here an answer counts only where it is given as one: as the whole reply, as the value of
``answer`` in JSON, after "answer is" or "answer:", at the head of the reply and set off from what
follows, or as the exact words of one option. Two different answers are none. Nothing else is read.
"""

import json
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

Trouble = Literal["unparsable", "refused"]

_APOSTROPHE = "['\u2019]"
_REFUSALS = re.compile(
    rf"\b(?:cannot|can{_APOSTROPHE}?t|could not|couldn{_APOSTROPHE}?t|unable to|not able to|"
    rf"will not|won{_APOSTROPHE}t|refuse to|decline to|must not|should not|not going to)\s+"
    r"(?:\w+ly\s+)?(?:answer|choose|select|provide|give|offer|help|assist|determine|decide|"
    r"diagnose|comply|say|tell|make|respond|discuss|engage|do)\b"
    rf"|\bi (?:do not|don{_APOSTROPHE}?t) know\b|\bas an ai\b"
    rf"|\bi(?:{_APOSTROPHE}m| am) (?:sorry|not sure)\b|\bi (?:decline|refuse)\b"
    r"|\b(?:insufficient|not enough|no sufficient) information\b"
    r"|\bsee(?:k)? (?:a )?professional help\b",
    re.IGNORECASE,
)
_DECLARED = (
    r"(?:answer|choice|option|response)(?:\s+(?:is|would\s+be|should\s+be)|\s*[:=])"
    r"(?:\s*(?:option|choice|:))?"
)
_SET_OFF = r"(?=\s*$|\s*[.,;:!)\]}*\"'`\n]|\s*[-\u2013\u2014]\s|\s+because\b|\s+since\b)"
_OPENING = r"[\s(\[{*\"'`_]*"


class Parse(NamedTuple):
    """What an answer was read as."""

    label: str | None
    trouble: Trouble | None
    """Why there is no label; None when there is one."""


def parse(text: str, labels: Sequence[str], options: Sequence[str]) -> Parse:
    """The label that an answer chooses.

    Args:
        text: The whole reply.
        labels: What may be chosen: letters, or words such as yes and no.
        options: The words that the labels stand for.
    """
    stated = _as_json(text)
    if stated is not None:
        text = stated
    plain = _bare(text)
    if (whole := _whole(plain, labels, options)) is not None:
        return Parse(whole, None)
    if _REFUSALS.search(text):
        # Whoever declines and answers at once has not answered.
        return Parse(None, "refused")
    declared = _declared(text, labels)
    if len(declared) == 1:
        return Parse(declared.pop(), None)
    if not declared and (head := _head(text, labels, options)) is not None:
        return Parse(head, None)
    return Parse(None, "unparsable")


def _as_json(text: str) -> str | None:
    """The value of ``answer`` where the reply is a JSON object, fenced or not; "" without one."""
    body = re.sub(r"^\s*```(?:json)?\s*|\s*```\s*$", "", text)
    if not body.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    answer = value.get("answer") if isinstance(value, dict) else None
    return answer if isinstance(answer, str) else ""


def _bare(text: str) -> str:
    """Without spaces and marks around it, and spaces within as one."""
    return re.sub(r"\s+", " ", text).strip(" \t\n.,;:!()[]{}*\"'`_")


def _whole(plain: str, labels: Sequence[str], options: Sequence[str]) -> str | None:
    lowered = plain.lower()
    # With an option that is itself a letter (blood groups), what is meant by a bare one is not
    # known unless both readings agree; labels come first, since a label is what was asked for.
    for label in labels:
        if lowered == label.lower():
            return label
    named = [
        label
        for label, option in zip(labels, options, strict=True)
        if lowered and _bare(option).lower() == lowered
    ]
    if len(named) == 1:
        return named[0]
    for label, option in zip(labels, options, strict=True):
        if re.fullmatch(
            rf"\(?{re.escape(label)}[).:]*\s*{re.escape(_bare(option))}", plain, re.IGNORECASE
        ):
            return label
    return None


def _any(labels: Sequence[str]) -> str:
    return "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))


def _canonical(found: str, labels: Sequence[str]) -> str:
    return next(label for label in labels if label.lower() == found.lower())


def _alone(labels: Sequence[str]) -> str:
    """No second label may follow: "A, B or C" is a list, not an answer."""
    return rf"(?!\s*(?:[,/&]|or\b|and\b)\s*(?:(?:or|and)\s+)?(?:{_any(labels)})\b)"


def _declared(text: str, labels: Sequence[str]) -> set[str]:
    pattern = rf"\b{_DECLARED}{_OPENING}(?:({_any(labels)}){_SET_OFF}{_alone(labels)})?"
    found = set()
    for match in re.finditer(pattern, text, re.IGNORECASE):
        if match[1]:
            found.add(_canonical(match[1], labels))
    return found


def _head(text: str, labels: Sequence[str], options: Sequence[str]) -> str | None:
    """A label at the head of the reply, unless another one heads a line further down."""
    lettered = all(len(label) == 1 for label in labels)
    # "A patient …" begins with a word; "A. Lithium" or "B)" with a label.
    after = r"(?=\s*$|\s*[).:\]]|\s*\n)" if lettered else _SET_OFF
    pattern = rf"(?m)^{_OPENING}({_any(labels)}){after}{_alone(labels)}"
    flags = 0 if lettered else re.IGNORECASE
    heads = [
        (match.start(), _canonical(match[1], labels)) for match in re.finditer(pattern, text, flags)
    ]
    first = re.match(r"\s*", text)
    if heads and first is not None and heads[0][0] <= first.end():
        return heads[0][1] if len({label for _, label in heads}) == 1 else None
    line = _bare(text.strip().partition("\n")[0])
    return _whole(line, labels, options) if line and not heads else None
