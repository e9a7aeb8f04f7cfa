"""Variance shares and agreement of landings: planted parts come back, and what is not there is not found."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from lab.geometry.calibration import landing_world as world
from lab.geometry.shares import SOURCES, agreement, reliability, shares, squares, variance_shares
from lab.records import LabError

SHAPE = (10, 3, 8)


# ------------------------------------------------------------------ the decomposition


def test_squares_are_those_of_a_regression_on_dummies_and_leave_nothing_out():
    rng = np.random.default_rng(0)
    table = world(rng, (5, 3, 4), scaffold=1.0, question=1.0, wording=1.0, by_question=1.0)[0]
    s, p, q = (np.eye(n)[i.ravel()] for n, i in zip(table.shape, np.indices(table.shape), strict=True))

    def cross(a, b):
        return (a[:, :, None] * b[:, None, :]).reshape(len(a), -1)

    def explained(*columns):
        design = np.concatenate([np.ones((table.size, 1)), *columns], axis=1)
        fitted = design @ np.linalg.lstsq(design, table.ravel(), rcond=None)[0]
        return ((fitted - table.mean()) ** 2).sum()

    found = squares(table)
    assert found.mean == pytest.approx(table.size * table.mean() ** 2)
    assert found.question == pytest.approx(explained(q))
    assert found.scaffold == pytest.approx(explained(s))
    assert found.paraphrase == pytest.approx(explained(cross(s, p)) - explained(s))
    assert found.cross == pytest.approx(explained(cross(s, q)) - explained(s) - explained(q))
    assert found.total == pytest.approx((table**2).sum())
    many = squares(np.stack([table, 2 * table]))
    assert many.rest == pytest.approx(np.array([1, 4]) * found.rest)


def test_without_noise_the_shares_are_the_planted_ones_exactly():
    rng = np.random.default_rng(1)
    sd = {"question": 2.0, "scaffold": 1.5, "weights": 0.5, "both": 1.0}
    found = variance_shares(world(rng, noise=0.0, **sd))
    np.testing.assert_allclose(found, np.array([4.0, 2.25, 0.25, 1.0, 0.0]) / 7.5, atol=1e-12)


@pytest.mark.parametrize("shape", [SHAPE, (10, 1, 8)])
def test_planted_shares_come_back_on_average_under_every_kind_of_noise(shape):
    rng = np.random.default_rng(2)
    noises = [{}, {"by_question": 1.0, "all_three": 0.7}, {"wording": 0.8, "wording_weights": 0.5}]
    for extra in noises if shape[1] > 1 else noises[:2]:
        sd = {"question": 0.8, "scaffold": 1.0, "weights": 0.4, "both": 0.6}
        found = np.array([variance_shares(world(rng, shape, **sd, **extra)) for _ in range(300)])
        np.testing.assert_allclose(found.sum(axis=1), 1.0)
        right = np.array([0.64, 1.0, 0.16, 0.36]) / (2.16 + 1 + sum(v**2 for v in extra.values()))
        np.testing.assert_allclose(found.mean(axis=0)[:4], right, atol=0.015)


def test_a_single_wording_counts_as_its_scaffold_and_more_wordings_do_not():
    rng = np.random.default_rng(3)
    one, three = (
        np.mean([variance_shares(world(rng, (10, p, 8), wording=1.0)) for _ in range(100)], axis=0)[1]
        for p in (1, 3)
    )
    assert one == pytest.approx(0.5, abs=0.06)
    assert three == pytest.approx(0.0, abs=0.04)


def test_shares_do_not_depend_on_level_unit_or_labels():
    rng = np.random.default_rng(4)
    landings = world(rng, scaffold=1.0, both=0.5, question=0.5)
    before = variance_shares(landings)
    order = rng.permutation(10)
    for same in (7 + landings, -3 * landings, landings[::-1], landings[:, order], landings[..., ::-1]):
        np.testing.assert_allclose(variance_shares(same), before, atol=1e-12)
    alike = world(rng, scaffold=2.0)
    assert variance_shares(alike)[3] < 0.02
    assert variance_shares(alike * np.array([3.0, 1.0])[:, None, None, None])[3] > 0.1


# ------------------------------------------------------------------ tests and intervals


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"by_question": 1.0, "weights_question": 0.0, "all_three": 1.0},
        {"wording": 1.0, "wording_weights": 1.0},
        {"wording": 0.4, "wording_weights": 0.4, "by_question": 0.6, "all_three": 0.6},
    ],
    ids=["noise", "questions", "wordings", "mixed"],
)
def test_what_is_not_there_is_found_at_the_stated_rate(extra):
    rng = np.random.default_rng(5)
    found = [shares(world(rng, (8, 2, 6), **extra), "t", rng, 99) for _ in range(200)]
    p = np.array([[s.p for s in one[:4]] for one in found])
    value = np.array([[s.share for s in one] for one in found])
    assert ((p <= 0.05).sum(axis=0) <= 18).all()  # 99 % binomial interval of 200 at 5 %
    assert ((p <= 0.05).mean(axis=0) > 0).all()
    assert (p.mean(axis=0) > 0.42).all()
    assert (np.abs(value.mean(axis=0) - [0, 0, 0, 0, 1]) < 3.5 * value.std(axis=0) / np.sqrt(200)).all()
    assert (value[:, :4].min(axis=0) < 0).all()  # never clamped
    over = np.array([[s.share > s.null_high for s in one[:4]] for one in found])
    assert (over.mean(axis=0) < 0.13).all()


def test_what_is_there_is_found():
    rng = np.random.default_rng(6)
    sd = {"question": 0.5, "scaffold": 0.5, "weights": 0.4, "both": 0.5, "wording": 0.2, "by_question": 0.3}
    found = shares(world(rng, **sd), "t", rng, 199)
    assert [s.source for s in found] == list(SOURCES)
    assert all(s.p <= 0.02 for s in found[:4])  # swapping models on 8 questions reaches 2 / 256 at best
    assert all(s.share > s.null_high > 0 for s in found[:4])
    assert all(s.low < s.share < s.high for s in found)
    assert np.isnan([found[4].p, found[4].null_high]).all()
    assert sum(s.share for s in found) == pytest.approx(1)
    assert (found[0].scaffolds, found[0].n, found[0].dropped, found[0].why) == (10, 8, 0, "")


def test_one_effect_does_not_show_up_as_another():
    rng = np.random.default_rng(7)
    for i, name in enumerate(("question", "scaffold", "weights", "both")):
        p = np.array(
            [[s.p for s in shares(world(rng, (8, 2, 8), **{name: 2.0}), "t", rng, 99)[:4]] for _ in range(40)]
        )
        rate = (p <= 0.05).mean(axis=0)
        assert rate[i] == 1
        assert (np.delete(rate, i) < 0.17).all()


def test_intervals_over_questions_hold_the_planted_shares():
    rng = np.random.default_rng(8)
    sd = {"scaffold": 1.0, "both": 0.6, "weights": 0.4, "by_question": 0.5}
    right = np.array([1.0, 0.16, 0.36]) / (1.52 + 0.25 + 1)
    hits = []
    for _ in range(120):
        found = shares(world(rng, (10, 1, 8), **sd), "t", rng, 200)[1:4]
        hits.append([s.low <= r <= s.high for s, r in zip(found, right, strict=True)])
    assert (np.mean(hits, axis=0) > 0.87).all()
    assert (np.mean(hits, axis=0) < 1).any()


def test_a_question_with_a_hole_is_dropped_for_both_models():
    landings = world(np.random.default_rng(9), scaffold=1.0)
    holed = landings.copy()
    holed[1, 4, 2, 5] = np.nan
    found = shares(holed, "t", np.random.default_rng(10), 49)
    plain = shares(np.delete(landings, 5, axis=3), "t", np.random.default_rng(10), 49)
    assert [(s.share, s.low, s.p) for s in found[:4]] == [(s.share, s.low, s.p) for s in plain[:4]]
    assert (found[0].n, found[0].dropped) == (7, 1)


def test_shares_abstain_with_a_reason():
    rng = np.random.default_rng(11)
    few = shares(world(rng, (4, 3, 8)), "t", rng, 19)
    assert len(few) == 5 and all(np.isnan(s.share) and "4 scaffolds" in s.why for s in few)
    short = world(rng)
    short[..., :4] = np.nan
    assert all(
        "4 questions" in s.why and np.isnan(s.p) and s.dropped == 4 for s in shares(short, "t", rng, 19)
    )
    assert "all landings are the same" in shares(np.ones((2, *SHAPE)), "t", rng, 19)[0].why
    with pytest.raises(LabError, match="2 models, scaffold, paraphrase, question"):
        shares(world(rng)[:1], "t", rng)


# ------------------------------------------------------------------ agreement


def test_reliability_is_the_mean_of_all_split_halves():
    rng = np.random.default_rng(12)
    side = world(rng, (9, 2, 6), scaffold=0.7)[0]
    by_question = side.mean(axis=1)
    halves = []
    for half in combinations(range(6), 3):
        one = by_question[:, half].sum(axis=1)
        other = by_question[:, [q for q in range(6) if q not in half]].sum(axis=1)
        # Flanagan and Rulon's split-half coefficient, stepped up; alpha is its mean.
        halves.append(4 * np.cov(one, other)[0, 1] / np.var(one + other, ddof=1))
    assert reliability(side) == pytest.approx(np.mean(halves))
    assert np.isnan(reliability(side[..., :1]))
    assert np.mean([reliability(rng.normal(size=(20, 2, 6))) for _ in range(50)]) < 0.3


def test_two_models_with_the_same_landings_agree_up_to_the_ceiling():
    rng, r, top = np.random.default_rng(13), [], []
    for _ in range(60):
        landings = world(rng, (16, 2, 8), scaffold=0.5)
        found = agreement(landings[0], landings[1], "t", rng, 199)
        r.append(found.r)
        top.append(found.ceiling)
        assert found.low < found.r < found.high
    assert np.mean(r) == pytest.approx(np.mean(top), abs=0.06)
    assert 0.7 < np.mean(r) < 0.9


def test_agreement_is_pearson_and_spearman_with_a_permutation_p():
    rng = np.random.default_rng(14)
    a, b = world(rng, (8, 2, 8), scaffold=0.5)
    found = agreement(a, b, "warmth", rng, 4999)
    x, y = a.mean(axis=(1, 2)), b.mean(axis=(1, 2))
    assert found.r == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert found.rho == pytest.approx(stats.spearmanr(x, y)[0])
    test = stats.permutation_test(
        (x,), lambda v: np.corrcoef(v, y)[0, 1], permutation_type="pairings", n_resamples=999,
        alternative="greater", rng=np.random.default_rng(15),
    )  # fmt: skip
    assert found.p == pytest.approx(test.pvalue, abs=0.04)
    assert (found.n, found.questions, found.trait) == (8, 8, "warmth")
    same = agreement(a, 3 * a - 1, "t", rng, 99)
    assert (same.r, same.rho, same.p) == (pytest.approx(1), pytest.approx(1), pytest.approx(1 / 100))
    shifted = agreement(a + np.arange(8), b - np.arange(8), "t", rng, 99)
    assert shifted.r == pytest.approx(found.r)
    assert agreement(a, -a, "t", rng, 99).p == 1


def test_unrelated_models_agree_at_the_stated_rate_in_spite_of_shared_questions():
    rng = np.random.default_rng(16)
    level = 5 * rng.normal(size=4)

    def one():
        return world(rng, (8, 1, 4), scaffold=1.0)[0] + level

    found = [agreement(one(), one(), "t", rng, 99) for _ in range(200)]
    for p in ([f.p for f in found], [f.rho_p for f in found]):
        assert 2 <= np.sum(np.array(p) <= 0.05) <= 18
        assert 0.43 < np.mean(p) < 0.57


def test_agreement_drops_holes_and_abstains_with_a_reason():
    rng = np.random.default_rng(17)
    a, b = world(rng, scaffold=1.0)
    holed = b.copy()
    holed[3, 0, 2] = np.nan
    found = agreement(a, holed, "t", np.random.default_rng(18), 49)
    plain = agreement(np.delete(a, 2, 2), np.delete(b, 2, 2), "t", np.random.default_rng(18), 49)
    assert (found.r, found.p, found.ceiling) == (plain.r, plain.p, plain.ceiling)
    assert (found.questions, found.dropped) == (7, 1)
    assert "4 scaffolds" in agreement(a[:4], b[:4], "t", rng).why
    assert "1 questions" in agreement(a[..., :1], b[..., :1], "t", rng).why
    flat = agreement(a, np.zeros_like(a), "t", rng)
    assert np.isnan(flat.r) and "nothing to correlate" in flat.why
    with pytest.raises(LabError, match="of one design"):
        agreement(a, b[:, :2], "t", rng)
