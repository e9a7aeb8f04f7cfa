"""Error rates of the similarity tests on simulated worlds: 5 % is 5 %, and agreement that is there is found."""

import numpy as np
import pytest
from scipy.stats import binom

from lab.geometry.cka import CKA
from lab.geometry.grids import (
    WITHOUT_MASSIVE,
    PairedGrams,
    gram,
    layer_grid,
    relabelings,
    relations_by_layer,
    upper_p,
)
from lab.geometry.neighbours import neighbours
from lab.geometry.rsa import RSA
from lab.geometry.similarity import choose_layers
from lab.records import Split

MEASURES = (CKA, RSA, neighbours(3))


def a_model(rng, places, questions, width, topics=None, noise: float | np.ndarray = 1.5):
    """Cells [scaffold, question, d_model] of one layer; `topics` [question, r] is common to both models."""
    embed = rng.normal(size=(places.shape[1], width))
    x = (places @ embed)[:, None] + noise * rng.normal(size=(len(places), questions, width))
    x += 0.4 * np.einsum("sr,qrd->sqd", places, rng.normal(size=(questions, len(embed), width)))
    return x if topics is None else x + topics @ rng.normal(size=(topics.shape[1], width))


def tie_broken(value, null, rng):
    """p with ties broken at random: exactly uniform under the null, where `upper_p` counts all of them."""
    above, level = (null > value + 1e-12).sum(), (np.abs(null - value) <= 1e-12).sum()
    return (above + rng.random() * (level + 1)) / (len(null) + 1)


def p_values(cells, rng, draws=99, measures=MEASURES):
    """(p, p with ties broken at random) per measure for one pair of layers, from the cells of A and of B."""
    one, other = (gram(x)[None] for x in cells)
    orders, found = relabelings(one.shape[1], draws, rng), []
    for measure in measures:
        grid = layer_grid(relations_by_layer(one, measure), relations_by_layer(other, measure), orders)
        value, null = grid.values[0, 0], grid.null[:, 0, 0]
        found.append((upper_p(value, null), tie_broken(value, null, rng)))
    return np.array(found).T


def assert_5_percent(hits, exact, worlds):
    """Hits of p at .05 are not above the 99 % binomial interval of 5 %, those of the exact p within it.

    Neighbours have few possible shares: ties count against a finding and their p is conservative.
    """
    low, high = binom.interval(0.99, worlds, 0.05)
    assert (hits <= high).all(), hits
    assert ((low <= exact) & (exact <= high)).all(), exact


def null_world(rng, scaffolds=9, questions=6):
    """Two unrelated geometries under the same strong questions."""
    topics = 5 * rng.normal(size=(questions, 4))
    return [a_model(rng, rng.normal(size=(scaffolds, 4)), questions, w, topics) for w in (24, 40)]


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
            topics = 5 * rng.normal(size=(6, 4))
            pair = [a_model(rng, p, 6, w, topics) for p, w in ((places, 32), (other, 48))]
            power[i] += p_values(pair, rng)[0] <= 0.05
    power /= worlds
    assert (np.diff(power, axis=0) > 0).all(), power
    assert (power[-1] > 0.9).all(), power
    assert (power[0] < 0.15).all(), power


# ------------------------------------------------------------------ searching layers


def searched(rng, layers=4, scaffolds=9, questions=6):
    """Grams of (select, test) questions of two unrelated models; scaffolds keep their places on both."""
    names, asked = tuple(f"s{i}" for i in range(scaffolds)), tuple(f"q{i}" for i in range(2 * questions))
    sides = [
        np.stack([gram(a_model(rng, rng.normal(size=(scaffolds, 3)), len(asked), 24)) for _ in range(layers)])
        for _ in "ab"
    ]

    def part(split: Split, use: slice) -> PairedGrams:
        a, b = (x[:, :, use][:, :, :, :, use] for x in sides)
        return PairedGrams("a", "b", split, "as is", names, asked[use], 0, a, b, "")

    return part("select", slice(questions)), part("test", slice(questions, None))


def search_errors(rng, worlds, measure):
    """False alarms [p or exact p, the chosen pair | the grid's largest | a fixed pair | the chosen pair held
    against a null that does not choose] at .05 between unrelated models."""
    hits = np.zeros((2, 4), dtype=int)
    for _ in range(worlds):
        choosing, telling = searched(rng)
        orders = relabelings(9, 99, rng)
        at = choose_layers(choosing, measure, orders)
        sides = [relations_by_layer(x, measure) for x in (telling.a, telling.b)]
        grid = layer_grid(sides[0], sides[1], orders)
        value = grid.values[at.layer_a, at.layer_b]
        tests = (
            (value, at.null(grid)),
            (grid.largest, grid.max_null),
            (grid.values[1, 1], grid.null[:, 1, 1]),
            (value, grid.null[:, at.layer_a, at.layer_b]),
        )
        hits += np.array([[upper_p(*t) for t in tests], [tie_broken(*t, rng) for t in tests]]) <= 0.05
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
