"""Error rates of the similarity tests on simulated worlds: 5 % is 5 %, and agreement that is there is found."""

import numpy as np
import pytest
from scipy.stats import binom

from lab.geometry.calibration import (
    a_model,
    fixed_pair,
    null_world,
    search,
    searched_world,
    strong_topics,
    tie_broken,
)
from lab.geometry.cka import CKA
from lab.geometry.grids import WITHOUT_MASSIVE, relabelings
from lab.geometry.neighbours import neighbours
from lab.geometry.rsa import RSA

MEASURES = (CKA, RSA, neighbours(3))


def p_values(cells, rng, draws=99, measures=MEASURES):
    """(p, p with ties broken at random) per measure for one pair of layers, from the cells of A and of B."""
    cells = tuple(cells)
    orders = relabelings(len(cells[0]), draws, rng)
    found = [fixed_pair(cells, measure, orders) for measure in measures]
    return np.array([(tested.p, tie_broken(tested, rng)) for tested in found]).T


def assert_5_percent(hits, exact, worlds):
    """Hits of p at .05 are not above the 99 % binomial interval of 5 %, those of the exact p within it.

    Neighbours have few possible shares: ties count against a finding and their p is conservative.
    """
    low, high = binom.interval(0.99, worlds, 0.05)
    assert (hits <= high).all(), hits
    assert ((low <= exact) & (exact <= high)).all(), exact


def test_unrelated_models_are_called_alike_at_the_stated_rate():
    rng = np.random.default_rng(1)
    hits = np.sum([p_values(null_world(rng), rng) <= 0.05 for _ in range(500)], axis=0)
    assert_5_percent(hits[0], hits[1], 500)


def loud_world(rng):
    """Some scaffolds get much noisier replies, in other places in each model."""
    for width in (24, 40):
        noise = np.where(rng.random(8) < 0.3, 4.0, 1.0)[:, None, None]
        yield a_model(rng, rng.normal(size=(8, 3)), 6, width, noise=noise)


def massive_world(rng):
    for x in null_world(rng, 8):
        x[:, :, 3] = 500 + 80 * rng.normal(size=(8, 1)) + 20 * rng.normal(size=x.shape[:2])
        yield x


def cut_world(rng):
    for x in massive_world(rng):
        yield WITHOUT_MASSIVE.apply(x)


def silent_world(rng):
    """No scaffold does anything: noise only."""
    for width in (24, 40):
        yield a_model(rng, np.zeros((8, 2)), 6, width)


@pytest.mark.slow
@pytest.mark.parametrize(
    "world", [loud_world, massive_world, cut_world, silent_world], ids=lambda w: w.__name__
)
def test_the_rate_holds_with_loud_scaffolds_massive_dimensions_and_no_scaffolds(world):
    rng, measures = np.random.default_rng(1), (CKA, RSA, neighbours(2), neighbours(4))
    hits = np.sum([p_values(world(rng), rng, 199, measures) <= 0.05 for _ in range(1000)], axis=0)
    assert_5_percent(hits[0], hits[1], 1000)


def test_power_rises_with_agreement_and_is_above_9_in_10_where_it_is_strong():
    rng, worlds = np.random.default_rng(2), 60
    power = np.zeros((4, 3))
    for i, shared in enumerate((0.0, 0.5, 0.8, 0.95)):
        for _ in range(worlds):
            places = rng.normal(size=(10, 5))
            other = shared * places + np.sqrt(1 - shared**2) * rng.normal(size=places.shape)
            topics = strong_topics(rng, 6)
            pair = [a_model(rng, p, 6, w, topics) for p, w in ((places, 32), (other, 48))]
            power[i] += p_values(pair, rng)[0] <= 0.05
    power /= worlds
    assert (np.diff(power, axis=0) > 0).all(), power
    assert (power[-1] > 0.9).all(), power
    assert (power[0] < 0.15).all(), power


# ------------------------------------------------------------------ searching layers


def search_errors(rng, worlds, measure):
    """False alarms [p or exact p, the chosen pair | the grid's largest | a fixed pair | the chosen pair held
    against a null that does not choose] at .05 between unrelated models."""
    hits = np.zeros((2, 4), dtype=int)
    for _ in range(worlds):
        found = search(*searched_world(rng), measure, relabelings(9, 99, rng))
        tests = (found.chosen, found.largest, found.fixed, found.unpaid)
        hits += np.array([[t.p for t in tests], [tie_broken(t, rng) for t in tests]]) <= 0.05
    return hits


def test_a_search_over_layers_is_paid_for_and_other_questions_do_not_pay_for_it():
    hits = search_errors(np.random.default_rng(3), 120, RSA)
    assert_5_percent(hits[0, :3], hits[1, :3], 120)
    assert hits[0, 3] > 0.15 * 120, hits


@pytest.mark.slow
@pytest.mark.parametrize("measure", MEASURES, ids=lambda m: m.name)
def test_the_rates_of_a_search_for_every_measure(measure):
    hits = search_errors(np.random.default_rng(4), 500, measure)
    assert_5_percent(hits[0, :3], hits[1, :3], 500)
    assert hits[0, 3] > 0.15 * 500, hits
