"""Intervals over patients are wider than over turns, and differences are paired."""

import pytest

from mentalarena.clusters import add_up, difference, ratio


def test_a_ratio_of_sums_over_patients() -> None:
    found = ratio(add_up([("a", 1, 2), ("a", 1, 2), ("b", 0, 4), ("c", 4, 4)]))
    assert found is not None
    assert (found.value, found.n, found.patients) == (0.5, 12, 3)
    assert found.low <= found.value <= found.high
    assert ratio({}) is None
    assert ratio({"a": (0.0, 0.0)}) is None


def test_turns_of_one_patient_are_not_independent() -> None:
    few = ratio(add_up([(patient, value, 1) for patient, value in zip("abcd", (0, 0, 1, 1))] * 50))  # noqa: B905
    many = ratio(add_up([(str(i), i % 2, 1) for i in range(200)]))
    assert few is not None
    assert many is not None
    assert few.value == many.value == 0.5
    assert few.high - few.low > 3 * (many.high - many.low)


def test_one_patient_has_no_interval() -> None:
    found = ratio({"a": (1.0, 4.0)})
    assert found is not None
    assert found.low == found.high == found.value == 0.25


def test_differences_are_paired() -> None:
    first = {str(i): (float(i), 10.0) for i in range(10)}
    second = {str(i): (i + 1.0, 10.0) for i in range(10)} | {"only here": (10.0, 10.0)}
    found = difference(first, second)
    assert found is not None
    assert found.value == pytest.approx(0.1)
    assert found.low == pytest.approx(0.1)
    assert found.patients == 10
    assert difference({"a": (1.0, 1.0)}, {"b": (1.0, 1.0)}) is None
