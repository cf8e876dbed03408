"""The frozen statements: refused when they changed, and labelled as they should be."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from mentalarena.case import Component
from mentalarena.comparison import OPEN, RECORDED
from mentalarena.errors import ConfigurationError
from mentalarena.labelled import DATA, frozen_pairs, labelled, records
from mentalarena.roster import builtin_cases


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copy(DATA / "frozen.sha256", tmp_path)
    shutil.copytree(DATA / "pairs", tmp_path / "pairs")
    return tmp_path


def test_the_shipped_statements_are_those_that_were_frozen(copy: Path) -> None:
    assert frozen_pairs() == frozen_pairs(copy)
    assert set(frozen_pairs()) - {"principles", "vague"} == {
        case.patient_id for case in builtin_cases().values()
    }


def test_a_changed_statement_is_refused(copy: Path) -> None:
    file = copy / "pairs" / "maren.json"
    file.write_text(file.read_text("utf-8").replace("the", "teh", 1), "utf-8")
    with pytest.raises(ConfigurationError, match=r"maren\.json was changed after it was frozen"):
        frozen_pairs(copy)


@pytest.mark.parametrize("change", ["new", "gone"])
def test_a_file_more_or_less_is_refused(copy: Path, change: str) -> None:
    if change == "new":
        (copy / "pairs" / "somebody.json").write_text('{"pairs": []}', "utf-8")
    else:
        (copy / "pairs" / "maren.json").unlink()
    with pytest.raises(ConfigurationError, match="do not name the same files"):
        frozen_pairs(copy)


@pytest.mark.parametrize("component", RECORDED)
def test_there_are_enough_statements_of_every_kind(component: Component) -> None:
    for part in ("tuning", "test"):
        kinds = Counter(item.kind for item in labelled(part, component))
        assert kinds["other_patient"] >= 200
        assert kinds["other_component"] >= 90
        assert kinds["vague"] >= 200
        assert kinds["paraphrase"] == kinds["partial"] == kinds["distorted"] / 2
    both = [*labelled("tuning", component), *labelled("test", component)]
    assert sum(item.kind == "distorted" for item in both) >= 25


@pytest.mark.parametrize("component", OPEN)
def test_no_one_is_on_both_sides(component: Component) -> None:
    tuning, test = labelled("tuning", component), labelled("test", component)
    assert not {item.cluster for item in tuning} & {item.cluster for item in test}
    for kind in ("paraphrase", "distorted", "vague", "other_patient"):
        mine, theirs = (
            {item.statement for item in part if item.kind == kind} for part in (tuning, test)
        )
        assert not mine & theirs


def test_wrong_statements_are_not_true_of_the_owner() -> None:
    for component in OPEN:
        own = {r.owner: {p.statement for p in r.right.get(component, ())} for r in records()}
        for item in labelled("test", component):
            if item.kind == "other_patient":
                assert item.teller != item.owner
                assert item.statement not in own[item.owner]
            assert item.right == (item.statement in own[item.owner])
