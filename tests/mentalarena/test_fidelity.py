"""What a turn tells of a record, and how two runs are set side by side."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from mentalarena.case import Case
from mentalarena.fidelity import Reader, _drift, compare_runs, fill, negated, record_clauses, units
from mentalarena.roster import builtin_cases
from mentalarena.store import Row, Store, open_store

NOAH, MAREN = builtin_cases()["noah-1"], builtin_cases()["maren-1"]


class Words:
    """Texts as bags of words: near when they share words, whatever the encoder thinks."""

    hash = "words"

    def __init__(self) -> None:
        self._places: dict[str, int] = {}

    def vectors(self, texts: Sequence[str]) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        made = np.zeros((len(texts), 4096), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.lower().replace(".", "").split():
                made[row, self._places.setdefault(word, len(self._places))] += 1
            made[row] /= max(float(np.linalg.norm(made[row])), 1e-9)
        return made


def clause(case: Case, key: str) -> str:
    return record_clauses(case)[key]


def test_closed_lists_are_no_sentences() -> None:
    topics = {key.split(":")[0] for key in record_clauses(NOAH)}
    assert topics == {
        "situation", "history", "intermediate_beliefs", "intermediate_beliefs_depression",
        "coping_strategies", "automatic_thoughts", "behaviors",
    }  # fmt: skip


def test_units_are_sentences_and_pairs() -> None:
    assert units("I go. You stay! … Why?") == [
        "I go.", "You stay!", "Why?", "I go. You stay!", "You stay! Why?"
    ]  # fmt: skip
    assert units("  ") == []


def test_what_is_said_counts_as_told_and_nothing_else() -> None:
    reader = Reader([NOAH, MAREN], Words())
    told = reader.read("noah-1", f"Well. {clause(NOAH, 'history:0')} So.")
    assert "history:0" in told.estimated
    assert told.persona == 0.0
    assert reader.read("noah-1", "Perhaps tomorrow.").estimated == ()
    strange = reader.read("noah-1", clause(MAREN, "history:0"))
    assert strange.persona == 1.0, "as near to another patient"
    assert Reader([NOAH], Words()).read("noah-1", "Anything.").persona is None


def test_polarity() -> None:
    assert negated("I do not sleep")
    assert negated("I don\u2019t sleep")
    assert not negated("I never do nothing")
    reader = Reader([NOAH, MAREN], Words())
    key = next(k for k, p in reader._polarity["noah-1"].items() if p is False)
    said = clause(NOAH, key)
    assert key not in {kept["clause"] for kept in reader.read("noah-1", said).contradicted}
    kept = reader.read("noah-1", f"Never, {said}").contradicted
    assert key in {found["clause"] for found in kept}


def test_drift_is_the_later_half_less_the_earlier() -> None:
    assert _drift([0.0, 0.2, 0.4, 0.6]) == pytest.approx(0.4)
    assert _drift([0.0, None]) is None


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "arena.db") as opened:
        for run in ("near", "far"):
            opened.write_sync(
                [Row("runs", {"id": run, "kind": "batch", "config": {}, "config_hash": run,
                              "code_version": "1"})]
            )  # fmt: skip
        for case in (NOAH, MAREN):
            row = {
                "id": case.id, "hash": case.hash, "patient_id": case.patient_id,
                "split": case.split, "source": case.source, "presentation": case.presentation,
                "style": case.style.value, "record": case.model_dump(mode="json"),
            }  # fmt: skip
            opened.write_sync([Row("cases", row)])
        for run, other in (("near", False), ("far", True)):
            for case, stranger in ((NOAH, MAREN), (MAREN, NOAH)):
                episode = f"{run}-{case.id}"
                opened.write_sync(
                    [Row("episodes", {"id": episode, "run_id": run, "case_id": case.id,
                                      "case_hash": case.hash, "sample": 0, "seed": 1,
                                      "guidance": "topic", "status": "ok"})]
                )  # fmt: skip
                for idx in range(4):
                    speaker = "therapist" if idx % 2 else "patient"
                    said = clause(stranger if other else case, f"history:{idx // 2}")
                    turn = {"episode_id": episode, "idx": idx, "speaker": speaker, "text": said}
                    told = None if other else [f"history:{idx // 2}", "emotions:0"]
                    opened.write_sync(
                        [Row("turns", turn | {"purpose": "exchange", "role_flip": other,
                                              "disclosed": told})]
                    )  # fmt: skip
        yield opened


def test_two_runs_in_one_table(store: Store) -> None:
    assert fill(store, ["near", "far"], Words()) == 4
    assert fill(store, ["near", "far"], Words()) == 0, "measured once"
    assert store.fetch("select count(*) as n from fidelity")[0]["n"] == 8, "patients' turns only"
    table = compare_runs(store, ["near", "far"])
    persona = table["as near to other patients"]
    assert persona["near"] is not None
    assert persona["near"].value == 0.0
    assert persona["difference"] is not None
    assert persona["difference"].value == 1.0
    flips = table["role flips, a turn"]["far"]
    assert flips is not None
    assert flips.value == 1.0
    own = table["disclosed a turn, the seat's own account"]["near"]
    assert own is not None
    shares = [1 / len(record_clauses(case)) for case in (NOAH, MAREN)]
    assert own.value == pytest.approx(sum(shares) / 2), "labels are left out of both"
    assert table["disclosed a turn, the seat's own account"]["far"] is None
