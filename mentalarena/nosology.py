"""From a diagnosis in anybody's words to an ICD-10-CM code, or to none.

Why: a label in free text can be neither counted nor compared, and an unmapped one must never be
trained on. A label is read as a code, an official name, a synonym and at last, when the caller
hands in an encoder, as the nearest curated phrase. Codes are chapter F and the Z codes that people
below any threshold get. When the code and the name beside it disagree, the name counts: models
recall names better than codes. ``map_label`` reads one diagnosis (of several the first),
``map_labels`` all of a comorbid answer; what is negated, ruled out or in the family's history is
not read at all. How well that works: ``python -m benchmarks.labels_check``.

How: ``map_label("Major Depressive Disorder, moderate").code`` is ``"F32.1"``.
"""

import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from typing import Literal, NamedTuple

from mentalarena.case import DisorderGroup
from mentalarena.errors import CaseError, ConfigurationError

Family = Literal[DisorderGroup, "other"]
MatchedBy = Literal["code", "name", "synonym", "embedding"]
Nearest = Callable[[str, Sequence[str]], tuple[int, float]]

NEAREST_CUTOFF = 0.85
"""Cosine below which the nearest phrase is no match.

Provisional, for all-MiniLM-L6-v2: on the labels of the tests it lets 2 of 40 that mean no code
through (9 of 40 at 0.75). To be calibrated on more labels.
"""


class MappedLabel(NamedTuple):
    """What a label was read as; all fields are None when it could not be read."""

    label: str | None
    """The code's official name."""
    code: str | None
    matched_by: MatchedBy | None


UNMAPPED = MappedLabel(None, None, None)

# Longest prefix wins; where the chapter's blocks and DSM-5-TR differ, DSM-5-TR's grouping is taken.
_FAMILIES: dict[str, Family] = {
    "F1": "substance-use",
    "F2": "psychotic",
    "F30": "bipolar",
    "F31": "bipolar",
    "F32": "depressive",
    "F33": "depressive",
    "F34": "depressive",
    "F34.0": "bipolar",
    "F39": "depressive",
    "F40": "anxiety",
    "F41": "anxiety",
    "F42": "obsessive-compulsive",
    "F43": "trauma",
    "F43.2": "adjustment",
    # Filed under somatic symptoms in both manuals, of which there is no group here.
    "F45.21": "anxiety",
    "F45.22": "obsessive-compulsive",
    "F50": "eating",
    "F51": "sleep",
    "F53.0": "depressive",
    "F53.1": "psychotic",
    "F60": "personality",
    "F63.0": "substance-use",
    "F63.3": "obsessive-compulsive",
    "F7": "neurodevelopmental",
    "F8": "neurodevelopmental",
    "F90": "neurodevelopmental",
    "F93.0": "anxiety",
    "F94.0": "anxiety",
    "F94.1": "trauma",
    "F94.2": "trauma",
    "F95": "neurodevelopmental",
    "F98.2": "eating",
    "F98.3": "eating",
    "Z72.82": "sleep",
}

# A category without a decimal ("F42") is read as a code only where codes are written: first,
# in brackets, or after a colon or the word; anywhere else it may be a model number.
_CODE = re.compile(
    r"\b([FZ]\d[0-9A-Z]\.[0-9A-Z]{1,4}|F\d[0-9A-Z]\d[0-9A-Z]{0,3})\b"
    r"|(?:^\W*|[(\[:]\s*|\bcode\s+|\bicd-?10(?:-cm)?:?\s+)([FZ]\d[0-9A-Z])\b(?!\.\w)",
    re.IGNORECASE,
)
_SENTENCE = r"(?<=[a-z]{4})\.\s+(?=[A-Z])"
_SEGMENTS = re.compile(
    rf"[;\n]|{_SENTENCE}"
    r"|\b(?:(?:and |with )?co-?morbid(?: with)?|co-?occurring|versus|vs|but|rather than|"
    r"instead of|as opposed to)\b",
    re.IGNORECASE,
)
# What stands between two diagnoses of one answer, whatever they are ...
_JOINTS = re.compile(
    rf"[;\n]|{_SENTENCE}"
    r"|(?:^|(?<=\s))\(?\d[.)](?=\s)|\s[+&]\s|\b(?:(?i:(?:and |with )?co-?morbid(?: with)?"
    r"|(?:with )?co-?occurring(?: with)?|in addition to|as well as|along with|together with"
    r"|accompanied by|(?:and |with )?secondary(?! to)|plus|superimposed on|and also))\b"
)
# ... and what does only when there is a diagnosis of its own on each side.
_SOFT_JOINTS = re.compile(
    r"\s*,\s*(?:and\s+)?|\s+(?:and|/)\s+"
    r"|\s+with\s+(?!(?:\w+[ -])*(?:psycho\w+|features?|symptoms?|onset|remission|pattern|insight))",
    re.IGNORECASE,
)
_ALTERNATIVE = re.compile(
    r"\b(?:versus|vs|but|rather than|instead of|as opposed to)\b", re.IGNORECASE
)
_NEGATED = re.compile(
    r"\b(?:not(?! otherwise| elsewhere| due)|no|non|never|without|denie[sd]|r o|isn t|doesn t|"
    r"history|absence|fear|induced)\b"
)
_RULED_OUT = re.compile(r"\b(?:r o|rul(?:e|es|ed|ing) out|unlikely|excluded?|no evidence)\b")
# Cheap test whether any rewrite can apply, because loading rewrites thousands of names.
_MAY_REWRITE = re.compile(
    r"post traum|is(?:ed|ation)\b|our|burn out|bipolar|most recent| pd\b|major depression"
    r"|recurrent episode|psychotic symptom|schizo affective|seasonal|rapid cycl|currently"
    r"|stimulant use|phobia without|trauma related|remission"
)
_REWRITES = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (r"\bpost traumatic\b", "posttraumatic"),
        (r"\b(\w+)isation\b", r"\1ization"),
        (r"\b(\w+)ised\b", r"\1ized"),
        (r"\b(behavi|col|tum)our", r"\1or"),
        (r"\bburn out\b", "burnout"),
        (r"\bbipolar( affective)?( disorder)?( type)? (?:ii|2|two)\b", "bipolarii"),
        (r"\bbipolar( affective)?( disorder)?( type)? (?:i|1|one)\b", "bipolar disorder"),
        (r"\bbipolar affective\b", "bipolar"),
        (r"\b(?:current or )?most recent episode\b", "current episode"),
        (r"\bmajor depression\b", "major depressive disorder"),
        (r"(?<!in )\b(partial|full|early|sustained) remission\b", r"in \1 remission"),
        (r"\brecurrent episode\b", "recurrent"),
        (r"\bpsychotic symptoms?\b", "psychotic features"),
        (r"\bschizo affective\b", "schizoaffective"),
        (r"\b(?:with )?(?:a )?rapid cycling\b", ""),
        # Said of a course that is named anyway; alone, it means a recurrent one.
        (r"\b(?:with )?(?:a )?seasonal pattern\b(?=.*\b(?:recurrent|single)\b)", ""),
        (r"(\b(?:recurrent|single)\b.*?)\b(?:with )?(?:a )?seasonal pattern\b", r"\1"),
        (r"\bcurrently (?=depressed|manic|hypomanic|mixed)", "current episode "),
        (r"\bstimulant use disorder\b(.*)\bcocaine\b", r"cocaine use disorder\1"),
        (
            r"\bstimulant use disorder\b(.*)\b(?:meth)?amphetamines?\b",
            r"amphetamine use disorder\1",
        ),
        # A key is a set of words: it must not be that of panic disorder without agoraphobia.
        (
            r"\bagoraphobia without (?:a )?(?:history of )?panic(?: disorder)?\b",
            "agoraphobia nopanic",
        ),
        (r"\btrauma related disorder\b", "trauma and stressor related disorder"),
        (
            r"\b(paranoid|schizoid|schizotypal|antisocial|borderline|histrionic|narcissistic"
            r"|avoidant|dependent) pd\b",
            r"\1 personality disorder",
        ),
    )
)
_MAX_WORDS = 40


class _Curated(NamedTuple):
    abbreviations: dict[str, str]
    upper_case_only: frozenset[str]
    words: dict[str, frozenset[str]]
    synonyms: dict[str, list[str]]


class _Tables(NamedTuple):
    names: dict[str, str]
    blocks: tuple[tuple[str, str], ...]
    lookup: dict[frozenset[str], tuple[str, MatchedBy]]
    phrases: tuple[str, ...]
    phrase_codes: tuple[str, ...]


def _plain(text: str) -> str:
    if not text.isascii():
        text = unicodedata.normalize("NFKD", text.replace("\u2019", "'"))
        text = text.encode("ascii", "ignore").decode()
    text = text.lower()
    text = re.sub(r"[^a-z0-9]+", " ", text.replace("'s", "s")).strip()
    if _MAY_REWRITE.search(text):
        for pattern, replacement in _REWRITES:
            text = pattern.sub(replacement, text)
    return text


def _stem(word: str) -> str:
    plural = len(word) > 3 and word.endswith("s") and word[-2] not in "sui"
    return word[:-1] if plural else word


def _words(text: str) -> list[str]:
    dropped = _curated().words["dropped"]
    return [_stem(word) for word in _plain(text).split() if word not in dropped]


def _key(words: Sequence[str]) -> frozenset[str]:
    # "anxiety disorder" keeps the word that makes it more than a feeling.
    bare = frozenset(words) - {"disorder"}
    return bare if len(bare) > 1 else frozenset(words)


@cache
def _curated() -> _Curated:
    path = files("mentalarena") / "data" / "icd10cm_synonyms.json"
    data = json.loads(path.read_text(encoding="utf-8"))
    return _Curated(
        data["abbreviations"],
        frozenset(data["upper_case_only"]),
        {name: frozenset(words.split()) for name, words in data["words"].items()},
        data["synonyms"],
    )


@cache
def _tables() -> _Tables:
    folder = files("mentalarena") / "data"
    names: dict[str, str] = {}
    blocks: list[tuple[str, str]] = []
    terms: list[tuple[str, str]] = []
    for line in (folder / "icd10cm_f.tsv").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        code, name, *more = line.split("\t")
        if "-" in code:
            first, last = code.split("-")
            blocks.append((first, last))
            continue
        names[code] = name
        terms += [(code, term) for column in more for term in column.split("|")]
    index: dict[frozenset[str], tuple[str, MatchedBy]] = {}
    for code, name in names.items():
        key = _key(_words(name))
        known = index.get(key)
        # A child named like its parent plus "unspecified" is the assignable code for that name.
        if known is None or code.startswith(known[0]):
            index[key] = (code, "name")
    for code, synonyms in _curated().synonyms.items():
        if code not in names:
            raise ConfigurationError(f"icd10cm_synonyms.json: {code!r} is not in icd10cm_f.tsv")
        for synonym in synonyms:
            key = _key(_words(synonym))
            if key not in index or index[key][0] != code:
                index[key] = (code, "synonym")
    for code, term in terms:
        index.setdefault(_key(_words(term)), (code, "synonym"))
    index.pop(frozenset(), None)
    pairs = [
        (phrase, code)
        for code, synonyms in _curated().synonyms.items()
        for phrase in (names[code], *synonyms)
    ]
    return _Tables(
        names,
        tuple(blocks),
        index,
        tuple(phrase for phrase, _ in pairs),
        tuple(code for _, code in pairs),
    )


def _read_code(text: str) -> str | None:
    names = _tables().names
    if _RULED_OUT.search(_plain(text)):
        return None
    for match in _CODE.finditer(text):
        code = (match[1] or match[2]).upper().replace(".", "")
        code = code[:3] + ("." + code[3:] if code[3:] else "")
        # The WHO's edition and invention both add digits; never cut down to a bare category.
        while code not in names and len(code) > 5:
            code = code[:-1]
        if code in names:
            return code
    return None


def _expand(text: str) -> tuple[str, bool]:
    curated = _curated()
    expanded = False

    def replace(match: re.Match[str]) -> str:
        nonlocal expanded
        word = match[0].replace("-", "")
        upper = word.upper()
        known = curated.abbreviations.get(upper)
        if known is None or (upper in curated.upper_case_only and word != upper):
            return match[0]
        expanded = True
        return known

    return re.sub(r"\b(?:[A-Za-z]-)?[A-Za-z]{2,5}\b", replace, text), expanded


def _read_words(text: str) -> tuple[str, MatchedBy, bool] | None:
    """Code, how it was found, and whether it is all that its segment says."""
    text, expanded = _expand(text)
    index = _tables().lookup
    for segment in _SEGMENTS.split(text):
        if _RULED_OUT.search(_plain(segment)):
            continue
        words = _words(segment)[:_MAX_WORDS]
        for start in range(len(words)):
            before = words[:start]
            if _NEGATED.search(" ".join(before)):
                break
            for end in range(len(words), start, -1):
                found = index.get(_key(words[start:end]))
                if found is None:
                    continue
                rest = before + words[end:]
                whole = all(word in _curated().words["filler"] for word in rest)
                if end < len(words) and words[end] in _curated().words["not_itself"]:
                    break
                # "Anxiety about work" is no diagnosis; "anxiety, severe" is.
                if (
                    whole
                    or not set(words[start:end])
                    <= _curated().words["everyday"] | _curated().words["classes"]
                ):
                    return found[0], "synonym" if expanded else found[1], whole
    return None


def _contradict(a: str, b: str) -> bool:
    """Whether two codes cannot both be meant by one label."""
    families = family(a), family(b)
    return families[0] != families[1] or (families[0] == "other" and a[:3] != b[:3])


def _says_more(name: str, code: str) -> bool:
    """Whether the code of a name is closer than a code for "unspecified" of the same category."""
    return name[:3] == code[:3] and code[3:] == ".9" and name[3:] != ".9"


def _refused(text: str) -> bool:
    text = _plain(text)
    return bool(_NEGATED.search(text) or _RULED_OUT.search(text))


def map_label(text: str, nearest: Nearest | None = None) -> MappedLabel:
    """The ICD-10-CM code that a free-text diagnosis means.

    Args:
        text: One label as a model or a person wrote it.
        nearest: Called with the text and the curated phrases when nothing else matched; returns
            the index of the nearest phrase and its cosine. Without it that step is left out.

    Returns:
        The official name, the code and how it was found; three times None when it was not.
    """
    names = _tables().names
    spoken = _CODE.sub(" ", text)
    found = _read_words(spoken)
    if found is None or not found[2]:
        found = _read_words(re.sub(r"\([^)]*\)", " ", spoken)) or found
    code = _read_code(text)
    # Only a name that is all that was said can outweigh a code: one that contradicts it, or that
    # stands for "unspecified" where the name says more.
    if code is not None and not (
        found and found[2] and (_contradict(found[0], code) or _says_more(found[0], code))
    ):
        return MappedLabel(names[code], code, "code")
    if found is not None:
        return MappedLabel(names[found[0]], found[0], found[1])
    if nearest is not None and text.strip() and not _refused(text):
        position, cosine = nearest(text, _tables().phrases)
        if cosine >= NEAREST_CUTOFF:
            code = _tables().phrase_codes[position]
            return MappedLabel(names[code], code, "embedding")
    return UNMAPPED


def _is_diagnosis(text: str) -> bool:
    """Whether a text is one diagnosis and nothing else."""
    if len(_CODE.findall(text)) > 1:
        return False
    found = _read_words(_CODE.sub(" ", text))
    if found is not None:
        return found[2]
    rest = _words(_CODE.sub(" ", text))
    return _read_code(text) is not None and all(w in _curated().words["filler"] for w in rest)


def _parts(text: str) -> list[str]:
    """The diagnoses of one answer, apart; the whole answer when it is one."""
    if _is_diagnosis(text):
        return [text]
    pieces: list[str] = []
    cuts = [match.span() for match in _SOFT_JOINTS.finditer(text)]
    starts = [0, *(end for _, end in cuts)]
    ends = [*(start for start, _ in cuts), len(text)]
    at = 0
    while at < len(starts):
        # The longest stretch that is one diagnosis: qualifiers stay with what they qualify.
        for last in range(len(ends) - 1, at - 1, -1):
            if _is_diagnosis(text[starts[at] : ends[last]]):
                pieces.append(text[starts[at] : ends[last]])
                at = last + 1
                break
        else:
            return [text]
    return pieces


def map_labels(text: str, nearest: Nearest | None = None) -> tuple[MappedLabel, ...]:
    """Every ICD-10-CM code that one free-text answer means, in the order given.

    Comorbid diagnoses are read apart; of alternatives ("A vs B") only the first is, and what is
    ruled out or negated is left out. Panic disorder beside agoraphobia is their common code.

    Args:
        text: One answer as a model or a person wrote it.
        nearest: See :func:`map_label`.

    Returns:
        Mapped labels with distinct codes; none when nothing could be read.
    """
    found: dict[str, MappedLabel] = {}
    for piece in _JOINTS.split(text):
        first = _ALTERNATIVE.split(piece)[0]
        if not first.strip(" .,:-") or _RULED_OUT.search(_plain(first)):
            continue
        for part in _parts(first):
            mapped = map_label(part, nearest)
            if mapped.code is not None:
                found.setdefault(mapped.code, mapped)
    if {"F41.0", "F40.00"} <= set(found):
        both = MappedLabel(_tables().names["F40.01"], "F40.01", found["F41.0"].matched_by)
        at = min(list(found).index(code) for code in ("F41.0", "F40.00"))
        rest = [label for code, label in found.items() if code not in ("F41.0", "F40.00")]
        return (*rest[:at], both, *rest[at:])
    return tuple(found.values())


def name_of(code: str) -> str:
    """The official name of a code.

    Raises:
        CaseError: not a code of the table.
    """
    try:
        return _tables().names[code.upper()]
    except KeyError:
        raise CaseError(f"code {code!r} is not an ICD-10-CM chapter F or listed Z code") from None


def block(code: str) -> str:
    """The block that a code stands in, e.g. ``F30-F39`` for ``F32.1``.

    Raises:
        CaseError: no listed block holds the code.
    """
    category = code.upper()[:3]
    if category == "F99":
        return "F99"
    for first, last in _tables().blocks:
        if first <= category <= last and first[0] == category[0]:
            return f"{first}-{last}"
    raise CaseError(f"code {code!r} is in no block of ICD-10-CM chapter F or the listed Z codes")


def family(code: str) -> Family:
    """The presentation family of a code; ``other`` for what belongs to none, Z codes included."""
    code = code.upper()
    for length in range(len(code), 1, -1):
        if code[:length] in _FAMILIES:
            return _FAMILIES[code[:length]]
    return "other"


def same_diagnosis(a: str, b: str) -> Literal["exact", "category", "block", "different"]:
    """How near two codes are: equal, equal in the first three characters, in one block, or not.

    Raises:
        CaseError: one of them is in no listed block.
    """
    a, b = a.upper(), b.upper()
    blocks = block(a), block(b)
    if a == b:
        return "exact"
    if a[:3] == b[:3]:
        return "category"
    return "block" if blocks[0] == blocks[1] else "different"
