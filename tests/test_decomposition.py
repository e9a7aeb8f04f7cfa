"""Directions in decoder rows: planted combinations come back, random directions are told to be none; and who wrote them."""

import numpy as np
import pytest

from lab.estimators import unit
from lab.geometry.decomposition import (
    decompose,
    non_negative,
    null_shares,
    random_directions,
    reconstruction,
    signed,
    usable,
)
from lab.records import LabError

WIDTH, FEATURES = 48, 192
DRAWS = 60


def rows_of(rng, alike=0.0):
    """Decoder rows of different lengths; `alike`: what they have in common."""
    rows = rng.normal(size=(FEATURES, WIDTH)) + alike * rng.normal(size=WIDTH)
    return rows * rng.uniform(0.5, 2.0, size=FEATURES)[:, None]


def planted(rng, rows, weights, noise=0.05):
    """A unit direction made of some rows, with noise of a share of its length."""
    features = rng.choice(len(rows), len(weights), replace=False)
    made = np.array(weights) @ unit(rows[features])
    return unit(made + noise * np.linalg.norm(made) * unit(rng.normal(size=WIDTH))), features


def nulls(rng, rows, fit=signed):
    """Random directions, and some that lie in a few dimensions as real ones do."""
    shape = np.diag(1 / np.arange(1, WIDTH + 1))
    shaped = rng.normal(size=(DRAWS, WIDTH)) @ shape
    return {
        "random": null_shares(random_directions(DRAWS, WIDTH, rng), rows, fit),
        "covariance": null_shares(unit(shaped), rows, fit),
    }


@pytest.mark.parametrize("alike", [0.0, 0.4])
def test_a_planted_combination_comes_back_with_support_and_signs(alike):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        rows = rows_of(rng, alike)
        direction, true = planted(rng, rows, [1.0, -0.8, 0.7, -0.6])
        found = decompose(direction, rows, nulls(rng, rows))
        features, weights = found.sparse.at(4)
        assert set(features) == set(true)
        signs = dict(zip(features.tolist(), np.sign(weights), strict=True))
        assert [signs[f] for f in true.tolist()] == [1, -1, 1, -1]
        assert found.decomposable and found.p <= 2 / (1 + DRAWS)
        assert found.share[found.ks.index(4)] > 0.98 and found.half in (1, 2)
        np.testing.assert_allclose(
            ((direction - reconstruction(rows, features, weights)) ** 2).sum(), 1 - found.sparse.share[3]
        )


def test_non_negative_weights_find_a_positive_combination_and_refuse_its_opposite():
    for seed in range(10):
        rng = np.random.default_rng(100 + seed)
        rows = rows_of(rng)
        direction, true = planted(rng, rows, [1.0, 0.8, 0.7])
        against = nulls(rng, rows, non_negative)
        found = decompose(direction, rows, against, non_negative)
        features, weights = found.sparse.at(3)
        assert set(features) == set(true) and (weights > 0).all() and found.decomposable
        turned = decompose(-direction, rows, against, non_negative)
        assert turned.share[2] < found.share[2] - 0.1, "a signed fit would not care"
        assert (turned.sparse.weights >= 0).all()


def test_a_random_direction_is_not_decomposable_more_often_than_one_time_in_twenty():
    rng = np.random.default_rng(5)
    rows = rows_of(rng)
    against = {"random": null_shares(random_directions(200, WIDTH, rng), rows)}
    found = [decompose(d, rows, against) for d in random_directions(120, WIDTH, rng)]
    wrong = np.mean([d.decomposable for d in found])
    assert wrong < 0.11, "binomial 99 % at .05"
    assert np.mean([d.p for d in found]) == pytest.approx(0.5, abs=0.1)
    refused = next(d for d in found if not d.decomposable)
    assert refused.why.startswith("not decomposable: 16 features explain")
    assert refused.share[-1] > 0.5, "a good part of any direction is explained all the same"


def test_isotropic_nulls_are_too_easy_and_covariance_matched_ones_are_not():
    rng = np.random.default_rng(6)
    rows = rows_of(rng)

    def dense(draws):
        return unit(rng.normal(size=(draws, FEATURES)) @ rows)

    easy = {"random": null_shares(random_directions(DRAWS, WIDTH, rng), rows)}
    matched = {**easy, "covariance": null_shares(dense(DRAWS), rows)}
    found = dense(60)
    called = {
        name: np.mean([decompose(d, rows, n).decomposable for d in found])
        for name, n in (("easy", easy), ("matched", matched))
    }
    assert called["easy"] > 0.3, "mixtures of all rows lean towards the longest of them"
    assert called["matched"] < 0.15


def test_the_hardest_null_decides():
    rng = np.random.default_rng(7)
    rows = rows_of(rng)
    direction, _ = planted(rng, rows, [1.0, 1.0])
    others = np.array([planted(rng, rows, [1.0, 1.0])[0] for _ in range(DRAWS)])
    against = {**nulls(rng, rows), "permuted": null_shares(others, rows)}
    found = decompose(direction, rows, against)
    assert found.null == "permuted" and not found.decomposable
    assert found.nulls["random"].p_mean < 0.05 < found.nulls["permuted"].p_mean


def slow_pursuit(rows, direction, k):
    """Orthogonal matching pursuit by lstsq, no library."""
    shape, chosen, left = unit(rows), [], direction
    shares = []
    for _ in range(k):
        chosen.append(int(np.argmax(np.abs(shape @ left))))
        weights = np.linalg.lstsq(rows[chosen].T, direction, rcond=None)[0]
        left = direction - weights @ rows[chosen]
        shares.append(1 - (left**2).sum())
    return chosen, weights, shares


def test_the_library_does_what_a_slow_formula_does():
    rng = np.random.default_rng(8)
    rows, direction = rows_of(rng, 0.3), unit(rng.normal(size=WIDTH))
    found = signed(rows, direction, 12)
    chosen, weights, shares = slow_pursuit(rows, direction, 12)
    assert found.features.tolist() == chosen
    np.testing.assert_allclose(found.weights[-1], weights)
    np.testing.assert_allclose(found.share, shares)


@pytest.mark.parametrize("fit", [signed, non_negative])
def test_rotation_scale_and_order_do_not_matter(fit):
    rng = np.random.default_rng(9)
    rows, direction = rows_of(rng), unit(rng.normal(size=WIDTH))
    found = fit(rows, direction, 10)
    turn = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0]
    turned = fit(rows @ turn, 3.0 * direction @ turn, 10)
    np.testing.assert_array_equal(turned.features, found.features)
    np.testing.assert_allclose(turned.share, found.share)
    np.testing.assert_allclose(turned.weights, found.weights, atol=1e-9)
    longer = fit(2.0 * rows, direction, 10)
    np.testing.assert_allclose(longer.weights, found.weights / 2.0, atol=1e-9)
    order = rng.permutation(FEATURES)
    np.testing.assert_array_equal(order[fit(rows[order], direction, 10).features], found.features)
    assert (np.diff(found.share) >= 0).all() and found.share[-1] <= 1


def test_a_direction_that_is_used_up_stops_early():
    rng = np.random.default_rng(10)
    rows = np.concatenate([np.eye(WIDTH), np.zeros((3, WIDTH))])
    for fit in (signed, non_negative):
        found = fit(rows, rows[5] * 4.0, 8)
        assert found.features.tolist() == [5]
        np.testing.assert_allclose(found.explained((1, 2, 8)), 1.0)
        features, weights = found.at(8)
        np.testing.assert_allclose(reconstruction(rows, features, weights), rows[5])
    assert non_negative(-np.abs(rows), np.ones(WIDTH), 4).explained((1, 4)).tolist() == [0.0, 0.0]
    assert usable((1, 2, 24, 25), rows_of(rng)) == (1, 2, 24)


def test_the_interval_grows_with_the_scatter_of_the_questions_and_needs_five_groups():
    rng = np.random.default_rng(11)
    rows = rows_of(rng)
    direction, _ = planted(rng, rows, [1.0, -1.0], 0.0)
    against = nulls(rng, rows)
    widths = []
    for noise in (0.02, 0.1):
        left_out = direction + noise * rng.normal(size=(8, WIDTH)) / np.sqrt(WIDTH)
        found = decompose(direction, rows, against, left_out=left_out)
        assert (found.low <= found.share).all() and (found.share <= found.high).all()
        widths.append((found.high - found.low)[1])
    assert widths[1] > 2 * widths[0]
    assert np.isnan(decompose(direction, rows, against, left_out=left_out[:4]).low).all()


def test_what_cannot_be_decomposed_is_refused():
    rng = np.random.default_rng(12)
    rows = rows_of(rng)
    against = nulls(rng, rows)
    for wrong in (np.full(WIDTH, np.nan), np.zeros(WIDTH), np.ones(WIDTH + 1)):
        with pytest.raises(LabError, match=f"expected a finite direction of width {WIDTH}"):
            decompose(wrong, rows, against)
    for none in ({}, {"random": np.zeros((5, 2))}):
        with pytest.raises(LabError, match=r"expected nulls as shares \[draw, 5\]"):
            decompose(np.ones(WIDTH), rows, none)
