"""What is not trained on, in a fixed order, with a count of what each filter took: the funnel.

Why: a number of rows says nothing about what was thrown away, and an order that depends on the
moment gives another set each time. Every row of a funnel names one reason, and the rows add up.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from agents.seats import Diagnoses, Formulation, PlanProposal, Utterance
from agents.therapist import says_nothing
from agents.therapist import stated as without_fillers
from mentalarena.errors import ConfigurationError
from mentalarena.journal import digest
from mentalarena.models import AnswerMode
from training.duplicates import near_duplicates
from training.examples import Example, completion
from training.leaks import leaked
from training.overlap import OverlapIndex, texts_of, words


@dataclass(frozen=True, slots=True)
class Limits:
    """What the filters ask for."""

    min_score: float = 7.0
    """Judge's mean (1 to 10) of a plan that is taught."""
    min_aligned: float = 0.5
    """Share of a formulation's components that the decoder found aligned."""
    min_margin: float = 1.0
    """Points between the two plans of a pair."""
    min_agreement: float = 0.75
    """Share of comparisons by judges that the better plan of a pair wins; a coin would give 0.5,
    and this is half way from there to all."""
    max_entropy: float = 1.0
    """Bits; of the diagnoses that one case was given over its episodes."""
    near_duplicate: float = 0.9
    """Jaccard similarity from which on a row repeats another one; 0 keeps them all."""
    include_crisis: bool = False
    """Keep episodes in which the crisis screen found something."""


class Step(NamedTuple):
    """One row of the funnel."""

    filter: str
    why: str
    before: int
    dropped: int
    left: int
    tasks: dict[str, int]
    """Rows left, by task."""


Kept = Callable[[list[Example]], list[Example]]


class Filter(NamedTuple):
    """One reason to leave rows out."""

    name: str
    why: str
    keep: Kept


def run_filters(
    found: list[Example], filters: Iterable[Filter]
) -> tuple[list[Example], list[Step]]:
    """What is left of the rows, and the funnel."""
    steps = [_step(Filter("candidates", "rows of the tasks asked for", list), found, found)]
    for one in filters:
        left = one.keep(found)
        steps.append(_step(one, found, left))
        found = left
    return found, steps


def _step(one: Filter, before: Sequence[Example], left: Sequence[Example]) -> Step:
    tasks = dict(sorted(Counter[str](example.task for example in left).items()))
    return Step(one.name, one.why, len(before), len(before) - len(left), len(left), tasks)


def filters(
    limits: Limits, answers: AnswerMode, evaluation: OverlapIndex | None
) -> tuple[Filter, ...]:
    """The filters, in their order.

    Args:
        limits: Their figures.
        answers: How the rows will be rendered.
        evaluation: Texts that no row may overlap; None where none were given, and the funnel says
            that nothing was looked for.
    """
    played: list[Filter] = [
        Filter("split", "test patients are never trained on", rows(lambda e: e.split != "test")),
        Filter(
            "status", "the episode did not end well", rows(lambda e: _of(e, "status", "ok") == "ok")
        ),
        Filter(
            "safety", "the crisis screen found something in the episode",
            rows(lambda e: limits.include_crisis or not _of(e, "crisis", False)),
        ),
        Filter(
            "harmful reply", "the therapist told a method, confirmed a delusion, dismissed danger",
            rows(lambda e: not _of(e, "harmful_reply", False)),
        ),
        Filter(
            "role flip", "a seat spoke as the other one in the episode",
            rows(lambda e: not _of(e, "role_flip", False)),
        ),
        Filter(
            "leak", "a therapist's row carries the record beyond what was spoken",
            rows(lambda e: not _leaks(e, answers)),
        ),
        Filter("empty", "nothing is answered (N/A, none, empty)", rows(lambda e: not is_empty(e))),
        Filter("unmapped label", "a diagnosis that maps to no code",
               rows(lambda e: not e.coded or e.code is not None)),
        Filter("score", "below --min-score, --min-aligned or --min-margin, or unscored",
               rows(lambda e: good_enough(e, limits))),
        Filter("judge agreement",
               f"the better plan wins less than {limits.min_agreement:g} of judges' comparisons",
               rows(lambda e: e.agreement is None or e.agreement >= limits.min_agreement)),
        Filter("contradictory labels", "a case's diagnoses disagree beyond --max-entropy bits",
               lambda found: agreeing(found, limits.max_entropy)),
        Filter("exact duplicate", "same prompt and same answer",
               lambda found: distinct(found, answers)),
    ]  # fmt: skip
    why = f"as another row, from {limits.near_duplicate:g} of its three-word runs on"
    if not limits.near_duplicate:
        why = "not looked for: --near-duplicate 0"
    played.append(
        Filter("near duplicate", why, lambda found: unlike(found, limits.near_duplicate, answers))
    )
    if evaluation is None:
        played.append(Filter("evaluation overlap", "not looked for: give --evaluation-data", list))
    else:
        played.append(
            Filter("evaluation overlap", "thirteen words in a row of an evaluation item",
                   rows(lambda e: not overlaps(e, answers, evaluation)))
        )  # fmt: skip
    return tuple(played)


def mixing(shares: Mapping[str, float]) -> Filter:
    """Take a share of the rows to train on of some runs; which ones hangs on the row alone."""

    def taken(example: Example) -> bool:
        if example.trajectory is None or example.split != "train":
            return True
        share = shares.get(example.trajectory.run.id, 1.0)
        drawn = int(digest([example.trajectory.id, example.task, example.idx], 13), 16)
        return drawn < share * 16**13

    return Filter("mixing", "beyond the share that is taken of its iteration", rows(taken))


def rows(keep: Callable[[Example], bool]) -> Kept:
    """A filter that looks at one row at a time."""
    return lambda found: [example for example in found if keep(example)]


def _of(example: Example, name: str, default: Any) -> Any:
    """A property of the row's episode; the default for a row that has none."""
    return default if example.trajectory is None else getattr(example.trajectory, name)


def _leaks(example: Example, answers: AnswerMode) -> bool:
    texts = [message["content"] for message in example.messages(answers)]
    texts += [completion(one, answers) for one in _answers(example)]
    return leaked(example, "\n".join(texts), example.prompt().template.text)


def _answers(example: Example) -> Iterable[Any]:
    return [one for one in (example.answer, example.rejected) if one is not None]


def is_empty(example: Example) -> bool:
    """Whether a row has no answer, or one that only says that there is none."""
    answer = example.answer
    if isinstance(answer, Formulation):
        return without_fillers(answer).is_empty()
    if isinstance(answer, Diagnoses):
        return all(says_nothing(option.label) for option in answer.options)
    if isinstance(answer, PlanProposal):
        return says_nothing(answer.name)
    return isinstance(answer, Utterance) and not words(answer.text)


def good_enough(example: Example, limits: Limits) -> bool:
    """Whether plans and formulations score as high as asked for; turns have no score."""
    if example.task in ("treatment", "medication"):
        # Rows of a file carry no score of ours.
        judged = example.trajectory is not None
        if judged and (example.score is None or example.score < limits.min_score):
            return False
        if example.rejected is not None:
            return example.margin is not None and example.margin >= limits.min_margin
        return True
    if example.task == "formulation" and example.rejected is None and example.source != "record":
        return example.score is not None and example.score >= limits.min_aligned
    return True


def entropy(labels: Iterable[str]) -> float:
    """Entropy of a list of labels, in bits."""
    counts = Counter(labels)
    total = sum(counts.values())
    return -sum(n / total * math.log2(n / total) for n in counts.values())


def agreeing(found: list[Example], limit: float) -> list[Example]:
    """Rows less those of a minority diagnosis, in cases that were given too many different ones.

    A case is judged by its diagnosis rows, or by its plans where there are none. Within the limit
    all stay; beyond it only the commonest diagnosis does, and none where two are equally common.
    """
    given: dict[str, dict[bool, list[str]]] = defaultdict(lambda: {True: [], False: []})
    for example in found:
        if example.coded and example.code is not None:
            given[example.case_id][example.task == "diagnosis"].append(example.code)
    allowed: dict[str, set[str]] = {}
    for case_id, codes in given.items():
        labels = codes[True] or codes[False]
        if entropy(labels) > limit:
            (first, most), *rest = Counter(labels).most_common(2)
            tied = bool(rest) and rest[0][1] == most
            allowed[case_id] = set() if tied else {first}
    return [
        example
        for example in found
        if not example.coded
        or example.case_id not in allowed
        or example.code in allowed[example.case_id]
    ]


def _dev_first(found: list[Example]) -> list[Example]:
    """Rows of dev before others: of two that are alike, training loses its own."""
    return sorted(found, key=lambda example: example.split != "dev")


def _in_order(found: list[Example], dropped: set[int]) -> list[Example]:
    return [example for example in found if id(example) not in dropped]


def distinct(found: list[Example], answers: AnswerMode) -> list[Example]:
    """The first of rows with one prompt and one answer; a row of dev rather than one of train."""
    seen: set[str] = set()
    dropped: set[int] = set()
    for example in _dev_first(found):
        answer = [completion(one, answers) for one in _answers(example)]
        key = digest([example.task, example.messages(answers), answer])
        if key in seen:
            dropped.add(id(example))
        seen.add(key)
    return _in_order(found, dropped)


def unlike(found: list[Example], threshold: float, answers: AnswerMode) -> list[Example]:
    """The first of rows that are nearly the same; compared within a task."""
    if not threshold:
        return list(found)
    by_task: dict[str, list[Example]] = defaultdict(list)
    for example in _dev_first(found):
        by_task[example.task].append(example)
    dropped: set[int] = set()
    for same in by_task.values():
        gists = (gist(example, answers) for example in same)
        alike = near_duplicates(gists, threshold)
        dropped |= {id(example) for example, twice in zip(same, alike, strict=True) if twice}
    return _in_order(found, dropped)


def gist(example: Example, answers: AnswerMode) -> str:
    """What a row is about: its answers, and what they answer."""
    return "\n".join((example.context, *(completion(one, answers) for one in _answers(example))))


def overlaps(example: Example, answers: AnswerMode, evaluation: OverlapIndex) -> bool:
    """Whether a row shares thirteen words in a row with an evaluation item."""
    texts = [completion(one, answers) for one in _answers(example)]
    for message in example.messages(answers):
        # One dialogue stands in many prompts: its lines are looked at once.
        texts += message["content"].splitlines()
    return any(_found(evaluation, text) for text in texts)


@lru_cache(maxsize=65536)
def _found(evaluation: OverlapIndex, text: str) -> bool:
    return bool(evaluation.find(text))


def evaluation_index(folder: Path | None) -> OverlapIndex | None:
    """The items that no row may overlap: every record of every file in a folder.

    Raises:
        ConfigurationError: nothing is there, or it cannot be read.
    """
    if folder is None:
        return None
    if not folder.exists():
        raise ConfigurationError(f"--evaluation-data {folder}: there is no such file or folder")
    return OverlapIndex({str(number): text for number, text in enumerate(texts_of(folder))})


def described(limits: Limits, evaluation: OverlapIndex | None) -> dict[str, Any]:
    """The filters' figures, for the manifest."""
    return {**asdict(limits), "evaluation_overlap": evaluation is not None}
