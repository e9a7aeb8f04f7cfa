"""Changes, doses, controls and half-lives, on planted numbers."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy import stats

from lab.dosage import (
    binomial_interval,
    change,
    choose_doses,
    control_p,
    covariance_directions,
    decay,
    jackknife_interval,
    mean_coherence,
    paths,
)
from lab.records import LabError


@dataclass
class Plain:
    """A judge whose pooled reading is the mean of known values [reply, trait]."""

    values: np.ndarray

    @property
    def coherence(self):
        return np.where(np.isnan(self.values[:, 0]), np.nan, 1.0)

    def pooled(self, rows):
        here = self.values[rows]
        return np.nanmean(here, axis=0) if len(rows) and not np.isnan(here).all() else np.full(2, np.nan)


QUESTIONS = [f"q{k // 2}" for k in range(16)]


def planted(shift, seed=0):
    """Two traits read with noise, question effects shared by all conditions."""
    rng = np.random.default_rng(seed)
    question = np.repeat(np.random.default_rng(99).normal(0, 3, (8, 2)), 2, axis=0)
    return Plain(question + np.array([shift, 0.0]) + rng.normal(0, 0.1, (16, 2)))


def test_a_change_is_paired_over_questions():
    found = change(planted(1.0, 1), QUESTIONS, planted(0.0, 2), QUESTIONS)
    assert found.change[0] == pytest.approx(1.0, abs=0.15)
    assert found.low[0] < 1.0 < found.high[0]
    assert found.high[0] - found.low[0] < 0.5, "question effects of sd 3 must cancel"
    assert found.low[1] < 0.0 < found.high[1]
    assert found.wrong_way[0] == 0.0


def test_wrong_way_counts_questions_that_move_against_the_push():
    base, moved = planted(0.0, 1), planted(0.0, 1)
    moved.values[:, 0] += np.where(np.arange(16) < 4, -1.0, 1.0)
    assert change(moved, QUESTIONS, base, QUESTIONS, 0.5).wrong_way[0] == pytest.approx(0.25)
    assert change(moved, QUESTIONS, base, QUESTIONS, -0.5).wrong_way[0] == pytest.approx(0.75)


def test_a_change_without_a_shared_question_is_refused():
    with pytest.raises(LabError, match="none in common"):
        change(planted(0), QUESTIONS, planted(0), [f"other {q}" for q in QUESTIONS])


def test_the_jackknife_of_a_mean_is_its_t_interval():
    rng = np.random.default_rng(0)
    x = rng.normal(size=12)
    left_out = np.array([[np.delete(x, k).mean()] for k in range(12)])
    low, high = jackknife_interval(np.array([x.mean()]), left_out)
    reach = 2.200985 * x.std(ddof=1) / np.sqrt(12)
    np.testing.assert_allclose([low[0], high[0]], [x.mean() - reach, x.mean() + reach], rtol=1e-5)
    assert np.isnan(jackknife_interval(np.zeros(1), np.zeros((4, 1)))[0]).all()


def test_coverage_of_the_interval_of_a_change():
    """Of 300 worlds with question and reply noise 95 % intervals hold the truth in about 95 %."""
    rng, hits = np.random.default_rng(5), 0
    for _ in range(300):
        per_question = np.repeat(rng.normal(0, 1, (8, 2)), 2, axis=0)
        moved = Plain(per_question + 0.7 + rng.normal(0, 0.5, (16, 2)))
        found = change(moved, QUESTIONS, Plain(np.zeros((16, 2))), QUESTIONS)
        hits += found.low[0] <= 0.7 <= found.high[0]
    assert 0.91 <= hits / 300 <= 0.985


def test_the_strongest_coherent_dose_is_chosen_per_side():
    readings = {0.0: (0.0, 1.0), -0.2: (-1.0, 1.0), -0.4: (-2.0, 0.5), 0.2: (1.0, 0.95), 0.4: (1.5, 0.9)}
    found = choose_doses(readings)
    assert (found.down, found.up, found.reached) == (-0.2, 0.4, True)
    assert found.effect == pytest.approx(2.5)
    broken = choose_doses({**readings, -0.2: (-1.0, 0.2)})
    assert (broken.down, broken.reached) == (-0.2, False)
    with pytest.raises(LabError, match="both sides"):
        choose_doses({0.0: (0.0, 1.0), 0.2: (1.0, 1.0)})


def test_a_push_the_wrong_way_is_not_the_best():
    readings = {0.0: (0.0, 1.0), -0.2: (-1.0, 1.0), -0.4: (3.0, 1.0), 0.2: (0.5, 1.0)}
    assert choose_doses(readings).down == -0.2


@pytest.mark.parametrize(("hits", "n"), [(0, 20), (3, 24), (24, 24), (10, 200)])
def test_a_share_has_the_exact_binomial_interval(hits, n):
    """Second opinion: the ends are where the binomial's own tail is 2.5 %."""
    low, high = binomial_interval(hits, n)
    assert low <= hits / n <= high
    if hits:
        assert stats.binom.sf(hits - 1, n, low) == pytest.approx(0.025, abs=1e-6)
    if hits < n:
        assert stats.binom.cdf(hits, n, high) == pytest.approx(0.025, abs=1e-6)
    assert all(np.isnan(binomial_interval(2, 4)))


def test_control_p_counts_both_tails():
    high, p = control_p(2.0, [-3.0, 0.1, 0.2, float("nan")])
    assert p == pytest.approx(2 / 4)
    assert high == pytest.approx(np.quantile([0.1, 0.2, 3.0], 0.975))
    assert all(np.isnan(control_p(float("nan"), [1.0])))


def test_covariance_directions_follow_the_spread_inside_groups_only():
    rng = np.random.default_rng(0)
    states = rng.normal(size=(400, 6)) * np.array([5, 1, 1, 1, 1, 1])
    groups = ["a", "b"] * 200
    states[::2, 5] += 100.0
    drawn = covariance_directions(states, groups, 500, rng)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), 1.0)
    share = (drawn**2).mean(axis=0)
    assert share[0] > 0.6
    assert share[5] < 0.1, "what the groups differ in is not in the draw"


def test_half_life_of_a_planted_decay():
    rng = np.random.default_rng(1)
    course = np.concatenate([np.ones(4), 0.8 * 0.5 ** (np.arange(12) / 3)])
    difference = course + rng.normal(0, 0.05, (24, 16))
    found = decay(difference, [f"q{k // 2}" for k in range(24)], 4, rng)
    assert found.carried == pytest.approx(0.8, abs=0.05)
    assert found.half_life == pytest.approx(3.0, abs=0.4)
    assert ((found.low <= course) & (course <= found.high)).mean() > 0.75


def test_nothing_carried_has_no_half_life():
    rng = np.random.default_rng(2)
    difference = np.concatenate([np.ones((24, 4)), np.zeros((24, 12))], axis=1) + rng.normal(0, 0.2, (24, 16))
    found = decay(difference, [f"q{k // 2}" for k in range(24)], 4, rng)
    assert found.low[4] < 0 < found.high[4]
    assert np.isnan(found.half_life)


def test_paths_end_with_their_replies():
    np.testing.assert_array_equal(paths([[1.0, 2.0, 3.0], [4.0]], 2), [[1.0, 2.0], [4.0, np.nan]])


def test_a_reply_without_text_is_not_coherent():
    assert mean_coherence(Plain(np.array([[1.0, 1.0], [np.nan, np.nan]]))) == 0.5
