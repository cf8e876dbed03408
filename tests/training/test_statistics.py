"""Every figure against a published worked example, or against another library."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import NormalIndPower
from statsmodels.stats.proportion import proportion_confint

from training import statistics
from training.statistics import Estimate


@pytest.mark.parametrize(("right", "n", "low", "high"), [
    (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
])  # fmt: skip
def test_wilson_intervals_are_those_of_newcombe_1998(
    right: int, n: int, low: float, high: float
) -> None:
    """Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    assert statistics.wilson(right, n) == pytest.approx((low, high), abs=5e-5)
    assert statistics.wilson(right, n) == pytest.approx(
        proportion_confint(right, n, method="wilson"), abs=1e-9
    )


# Agresti, Categorical Data Analysis (2nd ed.), section 10.1: of 1600 voters 794 approved twice, 150
# only at the first survey, 86 only at the second, 570 never. Difference -0.04, interval -0.06 to
# -0.02, standard error 0.0095.
FIRST = [1.0] * 794 + [0.0] * 86 + [1.0] * 150 + [0.0] * 570
SECOND = [1.0] * 794 + [1.0] * 86 + [0.0] * 150 + [0.0] * 570
VOTERS = [str(n) for n in range(1600)]


def test_a_paired_comparison_is_that_of_agresti() -> None:
    found = statistics.paired(SECOND, FIRST, VOTERS, share=True)
    difference = found.difference
    assert difference.value == pytest.approx(-0.04)
    assert difference.error == pytest.approx(0.0095, abs=1e-4)
    assert (difference.low, difference.high) == pytest.approx((-0.0587, -0.0213), abs=0.002)
    assert (found.only_first, found.only_second, found.discordant) == (86, 150, 236)
    assert found.test == "McNemar, exact"
    # z = (86 - 150) / sqrt(236) = -4.17, two-sided p 3.1e-5; the exact test is close to it.
    assert found.p == pytest.approx(3.7e-5, abs=1e-6)


def test_mcnemar_is_that_of_statsmodels() -> None:
    from statsmodels.stats.contingency_tables import mcnemar

    for b, c in ((86, 150), (5, 0), (3, 9), (1, 1)):
        table = [[100, b], [c, 100]]
        assert statistics.mcnemar(b, c) == pytest.approx(mcnemar(table, exact=True).pvalue)
    assert statistics.mcnemar(0, 0) == 1.0


def test_holm_is_that_of_statsmodels() -> None:
    values = [0.01, 0.04, 0.03, 0.005, 0.9]
    assert statistics.holm(values) == pytest.approx(multipletests(values, method="holm")[1])
    assert statistics.holm([0.01, None, 0.04]) == [pytest.approx(0.02), None, pytest.approx(0.04)]
    assert statistics.holm([]) == []


def test_the_detectable_difference_is_that_of_statsmodels() -> None:
    found = statistics.paired(SECOND, FIRST, VOTERS, share=True)
    sd = float(np.std(np.subtract(SECOND, FIRST), ddof=1))
    power = NormalIndPower(ddof=0).solve_power(nobs1=1600, alpha=0.05, power=0.8, ratio=0)
    assert found.detectable == pytest.approx(power * sd, rel=1e-3)


def _clustered(seed: int, clusters: int) -> tuple[list[float], list[str]]:
    random = np.random.default_rng(seed)
    values, names = [], []
    for name in range(clusters):
        level = random.normal()
        for _ in range(int(random.integers(2, 9))):
            values.append(level + random.normal())
            names.append(f"p{name}")
    return values, names


@pytest.mark.parametrize("clusters", [3, 8, 40])
def test_clustered_errors_are_those_of_statsmodels(clusters: int) -> None:
    values, names = _clustered(clusters, clusters)
    groups = np.unique(names, return_inverse=True)[1]
    fit = OLS(np.asarray(values), np.ones(len(values))).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}, use_t=True
    )
    found = statistics.mean(values, names)
    # statsmodels without a correction, times the factor for few clusters.
    wanted = float(fit.bse[0]) * (clusters / (clusters - 1)) ** 0.5
    assert found.error == pytest.approx(wanted)
    assert found.value == pytest.approx(float(fit.params[0]))
    assert found.clusters == clusters
    assert found.method == (f"t over {clusters} clusters" if clusters < 20 else
                            f"bootstrap over {clusters} clusters")  # fmt: skip


def test_a_bootstrap_over_clusters_agrees_with_its_standard_error() -> None:
    values, names = _clustered(1, 200)
    found = statistics.mean(values, names)
    assert found.low is not None
    assert found.high is not None
    assert found.error is not None
    assert (found.high - found.low) / (2 * 1.96 * found.error) == pytest.approx(1, abs=0.08)
    assert found == statistics.mean(values, names), "seeded"


def test_repeats_do_not_narrow_an_interval() -> None:
    once = statistics.mean([1.0, 0.0] * 30, [str(n) for n in range(60)], share=True)
    thrice = statistics.mean([1.0, 0.0] * 90, [str(n % 60) for n in range(180)], share=True)
    assert once.method == "Wilson"
    assert thrice.value == once.value
    assert _width(thrice) == pytest.approx(_width(once), rel=0.1)


def _width(found: Estimate) -> float:
    assert found.low is not None
    assert found.high is not None
    return found.high - found.low


def test_few_clusters_that_agree_are_not_certain() -> None:
    found = statistics.mean([1.0] * 300, ["a", "b", "c"] * 100, share=True)
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(statistics.wilson(3, 3)[0])
    alone = statistics.mean([0.0, 1.0, 2.0], ["a"] * 3)
    assert (alone.low, alone.high, alone.method) == (None, None, "one cluster")


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from(["A", "B", "C", "D", None])),
                min_size=2, max_size=60))  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_class_figures_are_those_of_scikit_learn(pairs: list[tuple[str, str | None]]) -> None:
    gold = [true for true, _ in pairs]
    said = [label or "none" for _, label in pairs]
    found = statistics.classes(
        gold, [label for _, label in pairs], [str(n) for n in range(len(pairs))]
    )
    labels = sorted(set(gold))
    with warnings.catch_warnings():
        # That a class was said which is never right is no news here.
        warnings.simplefilter("ignore")
        balanced = balanced_accuracy_score(gold, said)
    assert found.balanced.value == pytest.approx(balanced)
    f1 = f1_score(gold, said, labels=labels, average="macro", zero_division=0)
    assert found.macro_f1.value == pytest.approx(f1)


def test_a_constant_answer_is_at_chance_when_classes_count_alike() -> None:
    gold = ["yes"] * 321 + ["no"] * 7
    found = statistics.classes(gold, ["yes"] * 328, [str(n) for n in range(328)])
    assert found.balanced.value == 0.5


def test_nothing_to_test_is_said() -> None:
    same = statistics.paired([1.0, 0.0], [1.0, 0.0], ["a", "b"])
    assert (same.p, same.discordant, same.detectable) == (None, 0, None)
    one = statistics.paired([1.0, 0.0], [0.0, 0.0], ["a", "a"])
    assert (one.p, one.test) == (None, "none: one cluster")


def test_cluster_t_tests_are_those_of_a_one_sample_test() -> None:
    from scipy import stats

    first, second = [0.9, 0.7, 0.8, 0.6], [0.5, 0.6, 0.4, 0.5]
    found = statistics.paired(first, second, ["a", "b", "c", "d"])
    wanted = stats.ttest_1samp(np.subtract(first, second), 0)
    assert found.p == pytest.approx(wanted.pvalue)
    interval = wanted.confidence_interval()
    assert (found.difference.low, found.difference.high) == pytest.approx(tuple(interval))
