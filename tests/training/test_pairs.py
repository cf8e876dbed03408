"""Judges have to agree on a pair of plans; what they do not agree on is dropped and named."""

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mentalarena.store_reader import open_readonly
from tests.training.test_dataset import LOOSE, change, dropped, of_task, rows, rule_store  # noqa: F401
from training.build import Wanted, build
from training.pairs import agreement


def samples(judge: str, better: list[int], worse: list[int], kind: str = "treatment") -> list[Any]:
    return [
        {"kind": kind, "attempt": attempt, "judge": judge, "score": score}
        for attempt, scores in ((0, better), (1, worse))
        for score in scores
    ]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (samples("a", [8], [5]), None),
        (samples("a", [8, 8], [5, 7]), 1.0),
        (samples("a", [8, 6], [6, 7]), (1 + 1 + 0.5 + 0) / 4),
        (samples("a", [7, 7], [7, 7]), 0.5),
        # Each judge counts alike, and none is held against another's scale.
        (samples("a", [3, 3, 3], [2, 2, 2]) + samples("b", [6], [9]), 0.5),
        (samples("a", [8], [5]) + samples("b", [4], [2]), 1.0),
        # One that scored only one of the two says nothing of the pair.
        (samples("a", [8, 9], [5, 5]) + samples("b", [1], []), 1.0),
        (samples("a", [8, 9], [5, 5], "medication"), None),
    ],
)
def test_agreement(found: list[Any], expected: float | None) -> None:
    assert agreement(found, "treatment", 0, 1) == expected


def test_pairs_on_which_judges_disagree_are_dropped(rule_store: Path, tmp_path: Path) -> None:  # noqa: F811
    db = Path(shutil.copy(rule_store, tmp_path / "played.db"))
    tasks = ("treatment", "medication")

    def made(out: str, **values: Any) -> Any:
        limits = type(LOOSE)(**{
            "min_score": 1, "min_margin": 1, "max_entropy": 9, "near_duplicate": 0, **values
        })  # fmt: skip
        with closing(open_readonly(db)) as store:
            return build(
                store, tmp_path / out, Wanted(kind="preference", tasks=tasks, limits=limits)
            )

    # One sample a plan: it agrees with itself, nothing is dropped, and the rows do not claim more.
    alone = made("alone")
    assert dropped(alone, "judge agreement") == 0
    assert {row["meta"]["agreement"] for row in rows(alone)} == {None}
    # A second judge of the same stored plans finds the worse one better.
    columns = "episode_id, place, attempt, seat, spec, variant, sample, value"
    change(
        db,
        f"insert into judgments({columns}) select episode_id, kind, attempt, 'judge', 'b', 'plain',"
        " 0, 11 - score from scores",
    )
    torn = made("torn", min_agreement=0.5)
    assert {row["meta"]["agreement"] for row in rows(torn)} == {0.5}
    with pytest.raises(Exception, match="'judge agreement' took"):
        made("none")
    # What was shown changed, or to a patient, is no second judge's word on the plan.
    change(db, "update judgments set variant = 'flattery'")
    assert dropped(made("plain"), "judge agreement") == 0
    # The second judge agrees.
    change(db, "update judgments set variant = 'plain', value = 11 - value")
    assert {row["meta"]["agreement"] for row in rows(made("both"))} == {1.0}
