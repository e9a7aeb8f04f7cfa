"""Calibration of the statistics by simulation: coverage, false-positive rates, second opinions."""

from itertools import product

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn.metrics import roc_auc_score

from lab.stats import (
    auroc,
    average,
    benjamini_hochberg,
    binomial_interval,
    cluster_weights,
    d_prime,
    interval,
    sign_flip,
    tally,
    upper_p,
    why_no_test,
)


def crossed(rng, questions=12, paraphrases=3, paraphrase_sd=0.3):
    """One crossed design with true mean 0: values, question labels, paraphrase labels, wording effects."""
    q, p = np.repeat(np.arange(questions), paraphrases), np.tile(np.arange(paraphrases), questions)
    wording = paraphrase_sd * rng.normal(size=paraphrases)
    values = 0.5 * rng.normal(size=questions)[q] + wording[p] + 0.5 * rng.normal(size=len(q))
    return values, q, p, wording


def test_cluster_weights_are_products_of_level_counts():
    rng = np.random.default_rng(0)
    _, q, p, _ = crossed(rng)
    weights = cluster_weights([q, p], 200, rng)
    table = weights.reshape(200, 12, 3)
    for draw in table:
        assert np.linalg.matrix_rank(draw) == 1
    assert (weights.sum(1) == 36).all()  # 12 questions drawn × 3 paraphrases drawn, one row per cell
    only_questions = cluster_weights([q], 200, rng).reshape(200, 12, 3)
    assert (only_questions == only_questions[..., :1]).all()


def test_cluster_weights_have_mean_multiplicity_one():
    rng = np.random.default_rng(20)
    _, q, p, _ = crossed(rng)
    for factors in ([q], [p], [q, p], [q.astype(str), p]):
        weights = cluster_weights(factors, 4000, rng)
        assert weights.shape == (4000, 36)
        np.testing.assert_allclose(weights.mean(0), 1.0, atol=0.15)
    uneven = cluster_weights([np.array([5, 5, 5, 9])], 4000, rng)  # 2 clusters: of 3 rows and of 1
    assert (uneven[:, 0] + uneven[:, 3] == 2).all()
    np.testing.assert_allclose(uneven.mean(0), 1.0, atol=0.05)


def test_cluster_weights_refuse_unequal_factors():
    with pytest.raises(ValueError, match="one common length"):
        cluster_weights([np.arange(3), np.arange(4)], 5, np.random.default_rng(0))
    for nothing in ([], [np.array([])]):
        with pytest.raises(ValueError, match="above 0"):
            cluster_weights(nothing, 5, np.random.default_rng(0))


def test_interval_coverage_with_twelve_questions():
    """95 % intervals, 12 questions × 3 paraphrases (1000 worlds each, 600 draws, measured).

    | target and interval                           | wording sd 0 | 0.3  | 1.0  |
    |-----------------------------------------------|--------------|------|------|
    | these wordings, questions, plain percentile   | .913         | .907 | .905 |
    | these wordings, questions, expanded (ours)    | .941         | .945 | .931 |
    | all wordings, crossed, plain percentile       | .956         | .908 | .786 |
    | all wordings, crossed, expanded               | .982         | .942 | .831 |
    | all wordings, questions, expanded             | .941         | .842 | .428 |

    With three paraphrases no resampling is calibrated for "all wordings": it is too wide without a
    wording effect and far too short with a large one. So wordings are fixed and reported apart.
    """
    rng = np.random.default_rng(1)
    plain, ours = [], []
    for _ in range(800):
        values, q, _, wording = crossed(rng)
        weights = cluster_weights([q], 500, rng)
        means = weights @ values / weights.sum(1)
        for kept, (low, high) in ((plain, np.quantile(means, [0.025, 0.975])), (ours, interval(means, 12))):
            kept.append(low <= wording.mean() <= high)
    assert 0.92 <= np.mean(ours) <= 0.98
    assert np.mean(plain) < np.mean(ours)


def test_interval_abstains_below_five_clusters_and_skips_nan():
    low, high = interval(np.arange(10.0), 4)
    assert np.isnan(low)
    assert np.isnan(high)
    draws = np.stack([np.arange(100.0), np.full(100, np.nan)], axis=1)
    low, high = interval(draws, 12)
    assert low[0] < high[0]
    assert np.isnan(low[1])


def test_binomial_interval_is_clopper_and_pearson_s():
    for hits, n in ((0, 20), (3, 20), (20, 20), (25, 500)):
        expected = scipy_stats.binomtest(hits, n).proportion_ci(0.9, method="exact")
        assert binomial_interval(hits, n, 0.9) == pytest.approx((expected.low, expected.high))
    assert np.isnan(binomial_interval(0, 0)).all()


def test_upper_p_counts_draws_at_or_above_the_value():
    assert upper_p(0.5, np.array([0.5, 0.4, 0.6])) == 3 / 4
    assert upper_p(1.0, np.zeros(19)) == 1 / 20
    assert upper_p(0.3, np.zeros(0)) == 1.0
    assert np.isnan(upper_p(float("nan"), np.zeros(3)))
    assert upper_p(0.5, np.array([0.1, np.nan, 0.2])) == 2 / 4  # an unknown draw may have been above
    rng = np.random.default_rng(22)
    for _ in range(20):
        values = rng.integers(-3, 4, 50) / 7
        assert upper_p(values[0], values[1:]) == (values >= values[0]).mean()


@pytest.mark.parametrize("unit", [1e-15, 1.0, 1e15])
def test_ties_are_those_of_rounding_in_any_unit(unit):
    rng = np.random.default_rng(23)
    null = unit * rng.normal(size=200)
    for value in (null[0], 3 * unit, -2 * unit):
        near, off = value * (1 + 1e-13), value * (1 + 1e-6)
        assert upper_p(near, np.append(null, value)) == upper_p(value, np.append(null, value))
        assert sum(tally(off, np.array([*null[1:], value]))) == (null[1:] >= off).sum() + (value >= off)
    # A value of 0 but for rounding, as an R² may be, ties with another one.
    assert tally(2e-16 * unit, np.array([-1e-16 * unit, unit, -unit])) == (1, 1)
    assert tally(1e-3 * unit, np.array([2e-3 * unit, 1e6 * unit, -unit])) == (2, 0)


def test_upper_p_is_exact_for_few_draws_and_agrees_with_scipy():
    rng = np.random.default_rng(24)
    p = np.array([upper_p(x[0], x[1:]) for x in rng.normal(size=(4000, 20))])
    low, high = scipy_stats.binom.interval(0.999, 4000, 0.05)
    assert low <= (p <= 0.05).sum() <= high
    x, y = rng.normal(size=8), rng.normal(size=8) + 0.5
    result = scipy_stats.permutation_test(
        (x, y), lambda a, b, axis=0: b.mean(axis) - a.mean(axis), n_resamples=999, alternative="greater",
        vectorized=True, rng=np.random.default_rng(25),
    )  # fmt: skip
    assert upper_p(y.mean() - x.mean(), result.null_distribution) == pytest.approx(result.pvalue)


def test_sign_flip_exact_small_case_by_hand():
    # 5 equal positive values: only all-plus and all-minus reach the observed sum.
    assert sign_flip(np.ones(5), np.random.default_rng(0)) == pytest.approx(2 / 32)
    assert sign_flip(np.array([1.0, -1, 2, -2, 0]), np.random.default_rng(0)) == 1.0


@pytest.mark.parametrize("n", [5, 6, 9])
def test_sign_flip_equals_brute_force_enumeration(n):
    rng = np.random.default_rng(n)
    for values in (rng.normal(0.5, 1, n), rng.integers(-2, 4, n).astype(float)):
        sums = [
            abs(sum(s * v for s, v in zip(signs, values, strict=True)))
            for signs in product((-1, 1), repeat=n)
        ]
        expected = np.mean(np.array(sums) >= abs(values.sum()) - 1e-9)
        assert sign_flip(values, rng) == pytest.approx(expected)
        assert sign_flip(np.append(values, np.nan), rng) == pytest.approx(expected)


@pytest.mark.parametrize("clusters", [10, 20])  # exact, sampled
def test_sign_flip_p_is_uniform_under_the_null(clusters):
    rng = np.random.default_rng(21)
    p = [sign_flip(rng.laplace(size=clusters), rng, draws=500) for _ in range(600)]
    assert scipy_stats.kstest(p, "uniform").pvalue > 0.01


def test_sign_flip_agrees_with_scipy():
    rng = np.random.default_rng(2)
    values = rng.normal(0.5, 1, size=9)
    result = scipy_stats.permutation_test(
        (values,), np.mean, permutation_type="samples", n_resamples=np.inf, vectorized=False
    )
    assert sign_flip(values, rng) == pytest.approx(result.pvalue)
    long = rng.normal(0.3, 1, size=30)
    assert sign_flip(long, rng) == pytest.approx(scipy_stats.ttest_1samp(long, 0).pvalue, abs=0.03)


@pytest.mark.parametrize("clusters", [8, 25])
def test_sign_flip_false_positive_rate(clusters):
    rng = np.random.default_rng(3)
    p = np.array([sign_flip(rng.normal(size=clusters), rng, draws=400) for _ in range(500)])
    low, high = scipy_stats.binom.interval(0.999, 500, 0.05)
    assert low <= (p <= 0.05).sum() <= high


def test_sign_flip_abstains_with_a_reason():
    values = np.array([1.0, 2, 3, 4, np.nan])
    assert np.isnan(sign_flip(values, np.random.default_rng(0)))
    assert "4 clusters" in why_no_test(values)
    assert why_no_test(np.ones(5)) == ""


def test_benjamini_hochberg_agrees_with_scipy_and_skips_nan():
    p = np.random.default_rng(4).random(20) ** 2
    expected = scipy_stats.false_discovery_control(p)
    holes = np.insert(p, [0, 7, 20], np.nan)
    q = benjamini_hochberg(holes)
    np.testing.assert_allclose(q[~np.isnan(holes)], expected)
    assert np.isnan(q).sum() == 3
    assert np.isnan(benjamini_hochberg(np.full(3, np.nan))).all()


def test_auroc_counts_pairs():
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 6, 15).astype(float), rng.integers(0, 5, 11).astype(float)
    slow = np.mean([(x > y) + 0.5 * (x == y) for x in a for y in b])
    assert auroc(np.append(a, np.nan), b) == pytest.approx(slow)
    assert auroc(a, b) == pytest.approx(
        roc_auc_score(np.repeat([1, 0], [len(a), len(b)]), np.concatenate([a, b]))
    )
    assert np.isnan(auroc(np.array([np.nan]), b))
    assert np.isnan(auroc(a, np.array([])))


def test_d_prime_planted_and_vectorised():
    rng = np.random.default_rng(6)
    a, b = rng.normal(3, 2, size=(4, 5000)), rng.normal(1, 2, size=(4, 4000))
    together = d_prime(a, b)
    np.testing.assert_allclose(together, [d_prime(x, y) for x, y in zip(a, b, strict=True)])
    np.testing.assert_allclose(together, 1.0, atol=0.1)
    np.testing.assert_allclose(d_prime(7 * a - 3, 7 * b - 3), together)
    assert d_prime(np.append(a[0], np.nan), b[0]) == pytest.approx(together[0])
    assert np.isnan(d_prime(np.ones(3), np.ones(3)))
    assert np.isnan(d_prime(np.array([np.nan, np.nan]), b[0]))


def test_d_prime_is_the_pooled_formula_and_survives_nan(recwarn):
    a, b = np.array([1.0, 2.0, 6.0]), np.array([0.0, 4.0, 1.0, 1.0, 3.0])
    pooled = np.sqrt((2 * a.var(ddof=1) + 4 * b.var(ddof=1)) / 6)
    assert d_prime(a, b) == pytest.approx((a.mean() - b.mean()) / pooled)
    assert d_prime(b, a) == pytest.approx(-d_prime(a, b))
    rows = d_prime(np.stack([a, np.full(3, np.nan), np.ones(3)]), np.stack([b, b, np.ones(5)]))
    assert rows[0] == pytest.approx(d_prime(a, b))
    assert np.isnan(rows[1:]).all()
    assert np.isnan(d_prime(a[:1], b[:1]))  # two values leave no freedom for a spread
    assert not recwarn.list


def test_average_of_nothing_is_nan_without_a_warning(recwarn):
    result = average(np.array([[np.nan, 1.0], [np.nan, 3.0]]), 0)
    assert np.isnan(result[0])
    assert result[1] == 2.0
    assert not recwarn.list
