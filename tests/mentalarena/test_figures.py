"""Rates, areas and fits against values that are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu
from sklearn.linear_model import LogisticRegression

from mentalarena.figures import auc, clustered, fit_logistic

SCORES = st.lists(st.integers(0, 6).map(float), min_size=1, max_size=30)


@given(SCORES, SCORES)
def test_auc_is_the_rank_statistic(right: list[float], wrong: list[float]) -> None:
    statistic = mannwhitneyu(right, wrong).statistic
    expected = statistic / (len(right) * len(wrong))
    assert auc(np.array(right), np.array(wrong)) == pytest.approx(expected)


def test_no_wrong_statement_no_area() -> None:
    assert np.isnan(auc(np.array([1.0]), np.array([])))


def test_intervals_follow_clusters_not_rows() -> None:
    """Ten patients who all say one thing a hundred times are ten, not a thousand."""
    values = np.repeat([0.0, 1.0] * 5, 100)
    alone = [str(number) for number in range(1000)]
    patients = np.repeat([str(number) for number in range(10)], 100).tolist()

    def mean(at: np.ndarray) -> float:
        return float(values[at].mean())

    wide, narrow = (clustered(mean, names, resamples=400) for names in (patients, alone))
    assert wide["value"] == narrow["value"] == 0.5
    assert wide["clusters"] == 10
    low, high = wide["interval"]
    assert high - low > 0.4 > 0.1 > narrow["interval"][1] - narrow["interval"][0]
    assert clustered(mean, patients, resamples=400) == wide


def test_the_fit_is_the_logistic_one_and_no_weight_is_negative() -> None:
    draw = np.random.default_rng(5)
    features = draw.normal(size=(3000, 3)) * [1.0, 0.1, 5.0]
    chance = 1 / (1 + np.exp(-(0.3 + 1.2 * features[:, 0] + 6 * features[:, 1])))
    right = draw.random(3000) < chance
    bias, weights = fit_logistic(features, right, np.ones(3000), ridge=0.0)
    model = LogisticRegression(C=1e6).fit(features, right)
    if model.coef_[0][2] > 0:
        assert weights == pytest.approx(model.coef_[0], rel=0.02, abs=0.01)
    assert weights[:2] == pytest.approx(model.coef_[0][:2], rel=0.02)
    assert bias == pytest.approx(model.intercept_[0], abs=0.02)
    assert fit_logistic(-features, right, np.ones(3000))[1][:2].tolist() == [0.0, 0.0]
    constant = np.column_stack([features[:, 0], np.zeros(3000)])
    assert fit_logistic(constant, right, np.ones(3000))[1][1] == 0.0
