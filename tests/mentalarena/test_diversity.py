"""The diversity report counts and measures what is there, and can be drawn."""

import builtins
import re
from typing import Any

import pytest

from mentalarena.builtin_vectors import builtin_signatures
from mentalarena.diversity import age_band, diversity, evenness, page, plot
from mentalarena.errors import MissingExtraError
from mentalarena.roster import builtin_patients
from mentalarena.similarity import SentenceEncoder

PEOPLE = builtin_patients()


def test_counts_and_distances(encoder: SentenceEncoder) -> None:
    found = diversity(PEOPLE, encoder, builtin_signatures())
    assert found.patients == len(PEOPLE)
    assert found.cases == len(found.distances) == sum(len(one.situations) for one in PEOPLE)
    for name in ("presentation", "style", "gender", "age", "split", "source", "comorbid"):
        assert sum(found.counts[name].values()) == len(PEOPLE), name
    assert found.distances[0] > found.within[0], "two people are further apart than two situations"
    assert found.pairs[0][2] == pytest.approx(found.distances[0])
    plain = found.plain()
    assert plain["nearest_other_patient"]["least"] == round(found.distances[0], 4)


def test_a_copy_shows(encoder: SentenceEncoder) -> None:
    one = PEOPLE[0]
    situations = tuple(each.model_copy(update={"id": f"{each.id}.b"}) for each in one.situations)
    twice = (*PEOPLE, one.model_copy(update={"id": "b", "situations": situations}))
    found = diversity(twice, encoder, builtin_signatures())
    assert found.distances[0] == pytest.approx(0, abs=2e-3)
    assert found.pairs[0][0].startswith(one.id)


def test_evenness_and_ages() -> None:
    assert evenness({"a": 3, "b": 3}) == pytest.approx(1)
    assert evenness({"a": 6, "b": 0}) == 0
    assert evenness({}) == 0
    assert [age_band(age) for age in (None, 12, 19, 20, 70, 110)] == [
        "unknown", "12-19", "12-19", "20-29", "70 and above", "70 and above",
    ]  # fmt: skip


def test_it_can_be_drawn(encoder: SentenceEncoder) -> None:
    pytest.importorskip("matplotlib")
    odd = PEOPLE[0].model_copy(update={"source": "<script>alert(1)</script>"})
    found = diversity((odd, *PEOPLE[1:4]), encoder, builtin_signatures())
    assert plot(found, "Four").startswith(b"\x89PNG")
    text = page(found, "Four & more")
    assert "<script>" not in text
    assert "Four &amp; more" in text
    assert not re.search(r'(?:src|href)="(?!data:)', text), "one file, nothing from elsewhere"


def test_without_matplotlib_the_way_out_is_said(
    monkeypatch: pytest.MonkeyPatch, encoder: SentenceEncoder
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest, **more)

    found = diversity(PEOPLE[:2], encoder, builtin_signatures())
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'mentalarena\[plots\]'"):
        plot(found, "Two")
