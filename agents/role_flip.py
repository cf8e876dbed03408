"""Detects patients that speak as the therapist, therapists that speak as a patient, and scripts.

Why: two instances of one model drift into each other's role, and such turns ruin both the dialogue
and what is learned from it. The rules are few, readable and cautious: a false alarm costs a call
and biases what patients may say, so a phrase counts only where the right speaker would hardly use
it. What they miss stays missed; :mod:`tests.agents.test_role_flip` says how much that is.
"""

import re

from agents.seats import Speaker

_LABELS: dict[Speaker, str] = {
    "patient": r"patient|client",
    "therapist": r"therapist|counsel(?:l?or|ing)|doctor|psychologist|psychiatrist|dr\.? \w+",
}
_LABEL_TAIL = r"[*_\]]*\s*:\s*[*_]*\s*"


def _label(speaker: Speaker) -> re.Pattern[str]:
    return re.compile(rf"(?im)^\s*[*_\[#> -]*(?:{_LABELS[speaker]}){_LABEL_TAIL}")


_LABEL = {speaker: _label(speaker) for speaker in _LABELS}
_QUOTES = (('"', '"'), ("\u201c", "\u201d"), ("'", "'"))

# Said by a patient, these are the therapist's lines.
_THERAPIST_LINES = (
    r"\bas (?:your|a|an?) (?:\w+ )?(?:therapist|counsell?or|psychologist|clinician)\b(?!,? you)",
    r"\bi(?:'m| am) (?:your|a|an?) (?:\w+ )?(?:therapist|counsell?or|psychologist|clinician)\b"
    r"(?! (?:at|in|by|for|myself|too)\b)",
    r"\bhow (?:does|did|do) (?:that|this|it|those \w+) make you feel\b",
    r"\bthank(?:s| you) for (?:sharing|opening up|trusting me|telling me|being so open)\b",
    r"^(?:it|that) sounds (?:like|as if|as though) you(?:'re|'ve| )",
    r"\bwhat (?:brings|brought) you (?:here|in)\b",
    r"\bhow can i (?:help|support|assist) you\b",
    r"\b(?:can|could|would) you (?:please )?(?:tell|share with) me (?:a (?:bit|little) )?more\b"
    r".*\b(?:you|your)\b",
    r"\bi(?:'d| would) like (?:you )?to (?:explore|invite you|understand) (?:\w+ )*your\b",
    r"\blet(?:'s| us) (?:explore|work on|look at|talk about) (?:\w+ ){0,3}your\b",
    r"\bi(?:'m| am) here to (?:listen|help|support)(?: to)? (?:and support )?you\b",
    r"\b(?:i hear|i understand) (?:that )?you(?:'re| are) (?:feeling|struggling|going through)\b",
    r"\bhow long have you (?:been|felt|had)\b",
    r"\bwhat (?:goes|went|was going) through your mind\b",
    r"\b(?:have|are) you (?:been )?(?:having|had|having any) (?:any )?thoughts of (?:"
    r"hurting|harming|ending|killing)\b",
    r"\byour (?:feelings|emotions|thoughts) are "
    r"(?:completely |perfectly |totally )?(?:valid|normal)\b",
    r"\bon a scale (?:of|from) (?:one|1|0|zero) to (?:ten|10)\b.*\byou\b",
)
# Said by a therapist, these are a patient's.
_PATIENT_LINES = (
    r"\b(?:i|i've|i have) (?:just )?(?:feel|felt|feeling|been feeling) (?:so |really |very |just )?"
    r"(?:depressed|hopeless|worthless|anxious|empty|useless|numb|miserable|lonely|sad)\b",
    r"\bi(?:'m| am) (?:so |really |very |just )?(?:depressed|worthless|hopeless|a failure|a burden|"
    r"a mess|exhausted all)\b",
    r"\bmy (?:therapist|psychiatrist|counsell?or|doctor) "
    r"(?:said|says|told|thinks|gave|prescribed)\b",
    r", (?:doctor|doc)[.!?]*$",
    r"\bi (?:can't|cannot|can not) (?:sleep|cope|stop crying|get out of bed|go on|eat|concentrate|"
    r"take (?:it|this) any ?more)\b",
    r"\bi(?:'ve| have) been (?:struggling|having trouble|crying|drinking|cutting|self-harming)\b",
    r"\bi (?:don't|do not) know (?:what to do|how to cope|how to go on) any ?more\b",
    r"\bi (?:lost|hate|quit|lost interest in) my (?:job|life|work)\b",
    r"\bas (?:a|your) patient\b(?!,? you)",
    r"\bi(?:'m| am) (?:a|your|the) (?:patient|client)\b",
    r"\bi (?:want|wanted|need|would like) (?:your|some) (?:help|advice) with my\b",
    r"\bsometimes i (?:want|wish|think about) (?:to die|dying|i (?:was|were) dead|it would all)\b",
    r"\bmy (?:panic attacks|depression|anxiety|drinking|nightmares) "
    r"(?:is|are|has|have|got|gets|came|keeps?|started|makes?)\b",
    r"\bi (?:keep|kept) (?:having|thinking about|replaying)\b",
)
_FOREIGN: dict[Speaker, re.Pattern[str]] = {
    "patient": re.compile("|".join(_THERAPIST_LINES), re.IGNORECASE | re.MULTILINE),
    "therapist": re.compile("|".join(_PATIENT_LINES), re.IGNORECASE | re.MULTILINE),
}
# A therapist repeats the patient's words in quotes, and asks about what "you" say; neither is its
# own complaint. A patient likewise reports what others said.
_QUOTED = re.compile(r"\"[^\"]*\"|\u201c[^\u201d]*\u201d|(?<!\w)'[^']{3,}'(?!\w)")
_REPORTED = re.compile(
    r"(?i)\b(?:ask|asked|say|said|says|saying|told|"
    r"tell(?:s|ing)? (?:me|you|yourself|myself)|asks|asking|thought|thinking|like|mean|"
    r"(?:if|when) (?:people|they|she|he|someone|everyone))\b[^.?!]*"
)


def other(speaker: Speaker) -> Speaker:
    """The other speaker."""
    return "therapist" if speaker == "patient" else "patient"


def own_words(text: str, speaker: Speaker) -> tuple[str, bool]:
    """What a speaker really said, and whether it went on to write the other's lines too.

    A leading label of its own and quotes around the whole are dropped; everything from the first
    line on that begins with the other's label is cut off. When nothing comes before such a line,
    its words are kept without the label: then they are the other's.
    """
    text = text.strip()
    found = _LABEL[other(speaker)].search(text)
    scripted = found is not None
    if found is not None:
        head = _plain(text[: found.start()], speaker)
        rest = text[found.end() :]
        again = _LABEL[speaker].search(rest)
        text = head or rest[: again.start() if again else len(rest)].strip() or text
    return _plain(text, speaker), scripted


def _plain(text: str, speaker: Speaker) -> str:
    text = text.strip()
    label = _LABEL[speaker].match(text)
    if label:
        text = text[label.end() :].strip()
    # A second label of one's own is a script with the other's lines left out.
    second = _LABEL[speaker].search(text)
    if second and second.start() > 0:
        text = text[: second.start()].strip()
    for left, right in _QUOTES:
        inner = text[1:-1]
        if text.startswith(left) and text.endswith(right) and len(text) > 2 and left not in inner:
            text = inner.strip()
    return text


def is_flipped(text: str, speaker: Speaker) -> str | None:
    """The words by which a speaker gives itself away as the other one, or None."""
    plain = text.replace("\u2018", "'").replace("\u2019", "'")
    plain = _QUOTED.sub(" ", plain)
    for sentence in re.split(r"(?<=[.!?…])\s+|\n+", plain):
        match = _FOREIGN[speaker].search(sentence.strip())
        if match and not _is_reported(sentence.strip(), match.start()):
            return match[0].strip(" ,")
    return None


def _is_reported(sentence: str, start: int) -> bool:
    """Whether the words stand after "she asked", "you said", "when people": told, not said."""
    return any(found.start() < start < found.end() for found in _REPORTED.finditer(sentence))
