"""Estimators: a planted direction comes back from each, questions do not leak, the known trap is shown."""

import numpy as np
import pytest

from lab.estimators import ESTIMATORS, mean_difference, paired_pca, unit, whitened_lda
from lab.records import LabError
from lab.stats import auroc

EVERY = pytest.mark.parametrize("name", ESTIMATORS)


def planted(rng, strength=6.0, questions=40, prompts=2, width=24, layers=2, topic=3.0, noise=None):
    """Replies at both poles with a common direction per layer; returns acts, positive, questions, truth."""
    q = np.repeat(np.arange(questions), 2 * prompts)
    positive = np.tile(np.arange(2 * prompts) < prompts, questions)
    truth = unit(rng.normal(size=(layers, width)))
    scatter = rng.normal(size=(len(q), layers, width)) @ (np.eye(width) if noise is None else noise)
    acts = scatter + topic * rng.normal(size=(questions, layers, width))[q]
    return acts + strength * (positive - 0.5)[:, None, None] * truth, positive, q, truth


@EVERY
def test_a_planted_direction_is_recovered(name):
    acts, positive, questions, truth = planted(np.random.default_rng(0))
    found = ESTIMATORS[name](acts, positive, questions)
    cosine = np.einsum("ld,ld->l", unit(found), truth)
    assert (cosine > 0.9).all(), cosine
    assert np.linalg.norm(found, axis=-1) == pytest.approx(6.0 * cosine, rel=0.15)


@EVERY
def test_it_points_to_the_positive_pole(name):
    acts, positive, questions, _ = planted(np.random.default_rng(1))
    up, down = ESTIMATORS[name](acts, positive, questions), ESTIMATORS[name](acts, ~positive, questions)
    assert (np.einsum("ld,ld->l", unit(up), unit(down)) < -0.99).all()


@EVERY
def test_a_topic_that_one_pole_was_asked_more_about_does_not_leak(name):
    acts, positive, questions, truth = planted(np.random.default_rng(2), strength=3.0, prompts=4, topic=60.0)
    keep = np.ones(len(questions), bool)
    keep[np.flatnonzero(positive & (questions < 20))[::2]] = False
    keep[np.flatnonzero(~positive & (questions >= 20))[::2]] = False
    found = unit(ESTIMATORS[name](acts[keep], positive[keep], questions[keep]))
    assert (np.einsum("ld,ld->l", found, truth) > 0.6).all()


@EVERY
def test_failed_replies_and_lost_questions_are_left_out(name):
    acts, positive, questions, _ = planted(np.random.default_rng(3))
    acts[5] = np.nan
    acts[(questions == 7) & positive] = np.nan
    whole = ~np.isnan(acts).any(axis=(1, 2)) & (questions != 7)
    np.testing.assert_allclose(
        ESTIMATORS[name](acts, positive, questions),
        ESTIMATORS[name](acts[whole], positive[whole], questions[whole]),
        rtol=1e-6,
    )


@EVERY
def test_nothing_to_compare_is_an_error(name):
    acts, positive, questions, _ = planted(np.random.default_rng(4), questions=3)
    with pytest.raises(LabError, match="usable reply at both poles"):
        ESTIMATORS[name](np.full_like(acts, np.nan), positive, questions)


@EVERY
def test_more_dimensions_than_replies(name):
    acts, positive, questions, truth = planted(np.random.default_rng(5), width=300, questions=20, layers=1)
    found = unit(ESTIMATORS[name](acts, positive, questions))
    assert np.einsum("ld,ld->l", found, truth)[0] > 0.5


def test_centring_pair_differences_removes_the_mean_that_is_looked_for():
    """The known trap: centred differences have their largest variance anywhere but along the trait."""
    acts, positive, questions, truth = planted(np.random.default_rng(6), layers=1, prompts=1)
    differences = acts[positive] - acts[~positive]
    _, _, right = np.linalg.svd(differences[:, 0] - differences[:, 0].mean(axis=0))
    assert abs(right[0] @ truth[0]) < 0.5
    assert unit(paired_pca(acts, positive, questions))[0] @ truth[0] > 0.95


def test_whitening_reads_better_where_noise_has_a_shape():
    rng = np.random.default_rng(7)
    width = 16
    noise = np.diag(np.geomspace(8.0, 0.5, width))
    acts, positive, questions, _ = planted(
        rng, strength=2.0, questions=120, width=width, layers=1, topic=0.0, noise=noise
    )
    half = questions < 60
    scores = {}
    for estimate in (mean_difference, whitened_lda):
        vector = unit(estimate(acts[half], positive[half], questions[half]))[0]
        value = acts[~half, 0] @ vector
        scores[estimate] = auroc(value[positive[~half]], value[~positive[~half]])
    assert scores[whitened_lda] > scores[mean_difference] + 0.05
