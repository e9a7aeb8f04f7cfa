"""Similarity of scaffold geometry: chance is 0, identity 1, and every formula has a slow second opinion."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from properties import massive
from scipy.stats import ortho_group, spearmanr

from lab.geometry import cka, rsa
from lab.geometry.cka import CKA
from lab.geometry.grids import (
    NOISE_UNITS,
    WITHOUT_MASSIVE,
    agreement,
    gram,
    layer_grid,
    paired_grams,
    peak_layers,
    relabelings,
    relations_by_layer,
)
from lab.geometry.neighbours import membership, neighbours
from lab.geometry.rsa import RSA, crossnobis, distances
from lab.geometry.similarity import (
    at_depth,
    choose_layers,
    compare,
    dissimilarities,
    halves,
    question_interval,
    reliability,
    similarity,
)
from lab.records import LabError, Split
from lab.records.geometry import StateGrid
from lab.records.similarity import NO_LAYER

MEASURES = (CKA, RSA, neighbours(3))
every_measure = pytest.mark.parametrize("measure", MEASURES, ids=lambda m: m.name)


def states(
    rng, places, questions=6, width=32, noise: float | np.ndarray = 1.0, topic=3.0, turn=0.5, embed=None
):
    """Cells [scaffold, question, d_model]: scaffolds at `places` [scaffold, r], carried in by `embed`.

    `topic`: what a question does to every scaffold; `turn`: how far a question turns the places.
    """
    embed = rng.normal(size=(places.shape[1], width)) if embed is None else embed
    width = embed.shape[1]
    found = topic * rng.normal(size=(questions, width)) + (places @ embed)[:, None]
    found = found + turn * np.einsum("sr,qrd->sqd", places, rng.normal(size=(questions, len(embed), width)))
    return found + noise * rng.normal(size=found.shape)


def grid_of(cells, model="a", split: Split = "test"):
    """A StateGrid from cells [layer, scaffold, question, d_model], one paraphrase."""
    acts = np.moveaxis(np.asarray(cells), 0, 2)[:, None]
    names = tuple(f"s{i}" for i in range(acts.shape[0]))
    questions = tuple(f"q{i}" for i in range(acts.shape[2]))
    return StateGrid(model, model, "reply_mean", split, names, questions, acts)


def value(measure, a, b):
    return agreement(measure.relate(gram(a)), measure.relate(gram(b)))


def mean_value(measure, make, worlds=40):
    """Mean over worlds, and its standard error."""
    found = [value(measure, *make()) for _ in range(worlds)]
    return np.mean(found), np.std(found) / np.sqrt(worlds)


# ------------------------------------------------------------------ properties


@every_measure
def test_question_levels_empty_dimensions_and_the_order_of_models_and_scaffolds_change_nothing(measure):
    rng = np.random.default_rng(0)
    x, other = states(rng, rng.normal(size=(9, 4))), states(rng, rng.normal(size=(9, 4)), width=20)
    moved = np.concatenate([x + 50 * rng.normal(size=(1, 6, 32)), np.zeros((9, 6, 13))], axis=2)
    assert value(measure, x, moved) == pytest.approx(1.0)
    assert value(measure, moved, other) == pytest.approx(value(measure, x, other), abs=1e-9)
    assert value(measure, x, other) == pytest.approx(value(measure, other, x))
    order = rng.permutation(9)
    assert value(measure, x[order], other[order]) == pytest.approx(value(measure, x, other))


@every_measure
def test_an_axis_stretched_differently_changes_the_value(measure):
    """The invariance is isotropic: without this the test above would pass for a constant."""
    rng = np.random.default_rng(1)
    x = states(rng, rng.normal(size=(9, 4)))
    assert value(measure, x, x * np.geomspace(0.05, 5, 32)) < 0.98


@every_measure
def test_the_mean_over_all_relabelings_is_exactly_0(measure):
    rng = np.random.default_rng(2)
    a, b = (gram(states(rng, rng.normal(size=(6, 3)), questions=3)) for _ in range(2))
    every = np.array(list(itertools.permutations(range(6))))
    grid = layer_grid(relations_by_layer(a[None], measure), relations_by_layer(b[None], measure), every)
    assert grid.null.mean() == pytest.approx(0.0, abs=1e-12)
    assert grid.null.std() > 0.05


def _row_wise(x):
    """The usual debiased CKA's relations: question-centred rows, only each row's own product left out."""
    rows = (x - x.mean(axis=0)).reshape(-1, x.shape[2])
    return cka.u_centred((rows @ rows.T)[:, :, None])


def test_leaving_out_only_a_rows_own_product_would_call_unrelated_scaffolds_alike():
    """Why lab.geometry.cka is debiased over scaffolds: question-centring does not undo shared design."""
    rng, usual, ours = np.random.default_rng(4), [], []
    for _ in range(5):
        x, y = (rng.normal(size=(12, 1, d)) + rng.normal(size=(12, 5, d)) for d in (400, 600))
        usual.append(agreement(_row_wise(x), _row_wise(y)))
        ours.append(value(CKA, x, y))
    assert np.mean(usual) > 0.85
    assert abs(np.mean(ours)) < 0.1


@every_measure
def test_massive_dimensions_can_hide_agreement_and_the_preparations_bring_it_back(measure):
    rng = np.random.default_rng(7)
    places, hidden, without, scaled = rng.normal(size=(10, 4)), [], [], []
    for _ in range(5):
        a, b = (massive(rng, states(rng, places, noise=0.5)) for _ in range(2))
        hidden.append(value(measure, a, b))
        without.append(value(measure, *(WITHOUT_MASSIVE.apply(x) for x in (a, b))))
        scaled.append(value(measure, *(NOISE_UNITS.apply(x) for x in (a, b))))
    assert abs(np.mean(hidden)) < 0.4
    assert np.mean(without) > 0.55
    assert np.mean(scaled) > np.mean(hidden) + 0.25


def test_preparations_leave_out_what_they_say():
    rng = np.random.default_rng(8)
    x = states(rng, rng.normal(size=(8, 3)))
    assert WITHOUT_MASSIVE.apply(massive(rng, x)).shape[2] == 31
    assert WITHOUT_MASSIVE.apply(x).shape == x.shape
    x[:, :, 3] = 4.0
    scaled = NOISE_UNITS.apply(x)
    assert scaled.shape[2] == 31
    off = scaled - scaled.mean(axis=0)
    np.testing.assert_allclose(((off - off.mean(axis=1, keepdims=True)) ** 2).mean(axis=(0, 1)), 1.0)


def test_a_scaffold_far_out_in_both_models_is_agreement_for_rsa_and_not_for_cka():
    rng, found = np.random.default_rng(9), {CKA: [], RSA: []}
    for _ in range(40):
        a, b = (
            states(rng, rng.normal(size=(10, 3)) * np.where(np.arange(10) == 0, 5, 1)[:, None]) for _ in "ab"
        )
        for measure, values in found.items():
            values.append(value(measure, a, b))
    assert np.mean(found[RSA]) > 0.25
    assert abs(np.mean(found[CKA])) < 0.1


def test_noisier_replies_to_the_same_scaffold_in_both_models_are_not_agreement():
    rng = np.random.default_rng(10)
    loud = np.where(np.arange(10) < 3, 4.0, 1.0)[:, None, None]

    def make():
        for _ in range(2):
            yield states(rng, 0.5 * rng.normal(size=(10, 3)), noise=loud, turn=0.0)

    for measure in (CKA, neighbours(3)):
        mean, error = mean_value(measure, make, 60)
        assert abs(mean) < 3.3 * error
    plain = []
    for _ in range(60):  # by distances between mean states the quiet scaffolds find each other in both
        means = [x.mean(axis=1) for x in make()]
        away = np.stack([((m[:, None] - m[None]) ** 2).sum(-1) for m in means])
        plain.append((np.prod(membership(away, 3), axis=0).sum() / 30 - 3 / 9) / (6 / 9))
    assert np.mean(plain) > 0.1


# ------------------------------------------------------------------ second opinions


def test_u_centring_is_the_residual_of_an_additive_fit_without_the_diagonal():
    rng = np.random.default_rng(11)
    n, m = 6, rng.normal(size=(6, 6))
    off = ~np.eye(n, dtype=bool)
    design = np.zeros((n, n, 2 * n))
    for i in range(n):
        design[i, :, i] = design[:, i, n + i] = 1
    fit = np.linalg.lstsq(design[off], m[off], rcond=None)[0]
    slow = np.zeros((n, n))
    slow[off] = m[off] - design[off] @ fit
    np.testing.assert_allclose(cka.u_centred(m[:, :, None])[:, :, 0], slow, atol=1e-12)


def test_on_one_question_cka_is_the_published_debiased_estimator():
    """Song et al. 2012, eq. 4, written with traces, on the plain Grams of one question."""
    rng = np.random.default_rng(12)
    x, y = rng.normal(size=(2, 11, 1, 7))
    y[..., :3] += x[..., :3]

    def hsic(k, m):
        n, one = len(k), np.ones(len(k))
        k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
        total = (one @ k @ one) * (one @ m @ one) / ((n - 1) * (n - 2)) - 2 / (n - 2) * one @ k @ m @ one
        return (np.trace(k @ m) + total) / (n * (n - 3))

    k, m = (z[:, 0] @ z[:, 0].T for z in (x, y))
    assert value(CKA, x, y) == pytest.approx(hsic(k, m) / np.sqrt(hsic(k, k) * hsic(m, m)))


def test_crossnobis_is_the_mean_product_over_different_questions():
    rng = np.random.default_rng(13)
    x = states(rng, rng.normal(size=(5, 2)), questions=4)
    fast = distances(gram(x))
    for s, t in itertools.permutations(range(5), 2):
        apart = x[s] - x[t]
        slow = np.mean([apart[q] @ apart[r] for q, r in itertools.permutations(range(4), 2)])
        leave_one_out = np.mean([apart[q] @ np.delete(apart, q, axis=0).mean(axis=0) for q in range(4)])
        assert fast[s, t] == pytest.approx(slow)
        assert fast[s, t] == pytest.approx(leave_one_out)
    # A question drawn twice makes no pair with its copy.
    copied = crossnobis(gram(x), np.array([[2.0, 1, 0, 0], [4, 0, 0, 0]]))
    assert copied[0, 0, 1] == pytest.approx((x[0, 0] - x[1, 0]) @ (x[0, 1] - x[1, 1]))
    assert np.isnan(copied[1]).all()


def test_crossnobis_is_unbiased_where_plain_distances_are_not():
    rng = np.random.default_rng(14)
    places, embed = rng.normal(size=(5, 3)), rng.normal(size=(3, 40))
    true = (((places[:, None] - places[None]) @ embed) ** 2).sum(axis=2)
    made = [states(rng, places, 4, noise=3.0, turn=0.0, embed=embed) for _ in range(400)]
    found = np.mean([distances(gram(x)) for x in made], axis=0)
    np.testing.assert_allclose(found, true, atol=12)
    means = [x.mean(axis=1) for x in made]
    plain = np.mean([((m[0] - m[1]) ** 2).sum() for m in means])
    assert plain - true[0, 1] == pytest.approx(2 * 9 * 40 / 4, rel=0.15)


def test_rsa_is_spearmans_correlation_and_neighbours_are_shares_above_chance():
    rng = np.random.default_rng(15)
    places = rng.normal(size=(9, 3))
    a, b = (states(rng, places, noise=3.0) for _ in range(2))
    upper = np.triu_indices(9, 1)
    one, other = (distances(gram(x)) for x in (a, b))
    assert value(RSA, a, b) == pytest.approx(spearmanr(one[upper], other[upper])[0])
    for k in (1, 2, 4, 7):
        near = [np.argsort(np.where(np.eye(9) > 0, np.inf, d), axis=1)[:, :k] for d in (one, other)]
        share = np.mean([len(set(p) & set(q)) / k for p, q in zip(*near, strict=True)])
        assert value(neighbours(k), a, b) == pytest.approx((share - k / 8) / (1 - k / 8))
    with pytest.raises(LabError, match="from 1 up"):
        neighbours(0)


def test_identical_scaffolds_are_not_paired_by_their_order():
    apart = np.array([[[0.0, 1, 1, 5], [1, 0, 0, 5], [1, 0, 0, 5], [5, 5, 5, 0]]])
    np.testing.assert_allclose(
        membership(apart, 1)[0], [[0, 0.5, 0.5, 0], [0, 0, 1, 0], [0, 1, 0, 0], [1 / 3, 1 / 3, 1 / 3, 0]]
    )
    rng = np.random.default_rng(16)
    a, b = (np.repeat(states(rng, rng.normal(size=(1, 2)), 4), 8, axis=0) for _ in range(2))
    assert all(np.isnan(value(measure, a, b)) for measure in MEASURES)


@every_measure
def test_the_grid_and_its_null_are_what_a_loop_over_layers_and_permutations_finds(measure):
    rng = np.random.default_rng(17)
    a, b = ([gram(states(rng, rng.normal(size=(7, 3)), 4)) for _ in range(n)] for n in (2, 3))
    orders = relabelings(7, 5, rng)
    grid = layer_grid(
        relations_by_layer(np.stack(a), measure), relations_by_layer(np.stack(b), measure), orders
    )
    for i, j in np.ndindex(2, 3):
        assert grid.values[i, j] == pytest.approx(agreement(measure.relate(a[i]), measure.relate(b[j])))
        for order, null in zip(orders, grid.null, strict=True):
            moved = b[j][np.ix_(order, range(4), order, range(4))]
            assert null[i, j] == pytest.approx(agreement(measure.relate(a[i]), measure.relate(moved)))
    np.testing.assert_allclose(grid.max_null, [x.max() for x in grid.null])
    assert grid.largest == grid.values.max()


@every_measure
def test_resampling_every_question_once_gives_the_value_and_copies_are_no_new_questions(measure):
    rng = np.random.default_rng(18)
    places = rng.normal(size=(8, 3))
    a, b = (states(rng, places, 5, noise=2.0) for _ in range(2))
    weights = np.array([[1.0] * 5, [1, 1, 1, 0, 1], [2, 1, 0, 1, 1]])
    found = measure.resampled(gram(a), gram(b), weights)
    assert found[0] == pytest.approx(value(measure, a, b))
    kept = [0, 1, 2, 4]
    assert found[1] == pytest.approx(value(measure, a[:, kept], b[:, kept]))
    assert abs(found[2] - found[0]) < 0.5


# ------------------------------------------------------------------ from grids to records


def frames(rng):
    """How two models carry 4 latent dimensions in 30, both without bending them."""
    return 5 * ortho_group.rvs(30, size=2, random_state=rng)[:, :4]


def two_models(rng, scaffolds=10, questions=8, layers=(3, 4), at=(1, 2), noise=1.0):
    """Grids of two models that share their scaffolds' places at the layers `at` and nowhere else."""
    places, made = rng.normal(size=(scaffolds, 4)), []
    for model, count, shared, embed in zip("ab", layers, at, frames(rng), strict=True):
        at_layer = [places if i == shared else rng.normal(size=places.shape) for i in range(count)]
        cells = [states(rng, here, questions, noise=noise, embed=embed) for here in at_layer]
        made.append(grid_of(cells, model))
    return made[0], made[1]


def select_and_test(rng):
    return halves(*two_models(rng, questions=16), rng)


def test_compare_finds_the_layers_that_agree_and_tells_how_much_on_other_questions():
    rng = np.random.default_rng(19)
    select, test = select_and_test(rng)
    report = compare(select, test, MEASURES, rng, draws=199, resamples=200)
    assert [s.measure for s in report.similarities] == [m.name for m in MEASURES]
    for s in report.similarities:
        assert (s.layer_a, s.layer_b, s.chosen_on, s.split) == (1, 2, "select", "test")
        assert s.p == pytest.approx(1 / 200)
        assert s.p <= s.p_max <= 0.05
        assert s.low < s.value < s.high <= 1
        assert 0 < s.null_high <= s.max_high < s.value == s.largest
        assert s.ceiling == pytest.approx(np.sqrt(s.reliability_a * s.reliability_b))
        assert s.value == pytest.approx(s.ceiling, abs=0.2)
        assert (s.scaffolds, s.questions, s.dropped, s.draws, s.why) == (10, 8, 0, 199, "")
        cells = [c for c in report.cells if c.measure == s.measure]
        assert len(cells) == 12
        assert max(cells, key=lambda c: c.value).value == s.value
        above = [(c.layer_a, c.layer_b) for c in cells if c.value > s.max_high]
        assert above == [(1, 2)]
    rows = [d for d in report.dissimilarities if d.model == "a"]
    assert {d.layer for d in rows} == {1}
    assert len(rows) == 45
    assert np.mean([d.value**2 for d in rows]) == pytest.approx(1.0)
    assert sorted(d.rank for d in rows) == pytest.approx(np.linspace(0, 1, 45))


def test_dissimilarities_name_their_pairs():
    rng = np.random.default_rng(20)
    places = np.array([[0.0, 0], [0, 0], [9, 0], [0, 9], [1, 1]])
    names = tuple("abcde")
    rows = dissimilarities("m", 2, names, gram(states(rng, places, noise=0.5, turn=0.0)))
    found = {(r.scaffold_a, r.scaffold_b): r for r in rows}
    assert found["a", "b"].rank == 0.0
    assert abs(found["a", "b"].value) < 0.05
    assert found["c", "d"].rank == 1.0


def test_layers_may_not_be_chosen_on_the_questions_they_are_reported_on():
    rng = np.random.default_rng(21)
    select, test = select_and_test(rng)
    choosing, telling, orders = paired_grams(*select), paired_grams(*test), relabelings(10, 49, rng)
    with pytest.raises(LabError, match="chosen on other questions"):
        similarity(telling, CKA, choose_layers(telling, CKA, orders), rng)
    leak = replace(choose_layers(choosing, CKA, orders), questions=test[0].questions[:1])
    with pytest.raises(LabError, match="1 in common"):
        similarity(telling, CKA, leak, rng)
    fixed = at_depth(telling, 0.5, orders)
    assert (fixed.layer_a, fixed.layer_b) == (1, 2)
    assert similarity(telling, CKA, fixed, rng, 50)[0].chosen_on == "relative depth"
    with pytest.raises(LabError, match="between 0 and 1"):
        at_depth(telling, 1.5, orders)
    with pytest.raises(LabError, match="one model under the same scaffolds"):
        compare(select, (test[1], test[0]), [CKA], rng)


def test_of_layers_that_agree_alike_the_middlemost_are_taken():
    rng = np.random.default_rng(4)
    values = rng.normal(size=(5, 4, 6))
    values[1, 0, 0] = np.nan
    plain = [np.unravel_index(np.nanargmax(v), v.shape) for v in values]
    np.testing.assert_array_equal(peak_layers(values), plain)
    same = np.full((4, 7), 0.3)
    same[0, 0] = 1.0
    for i in (1, 2, 3):
        same[i, i] = 1.0 - 1e-9
    np.testing.assert_array_equal(peak_layers(same), (2, 2))
    assert peak_layers(values[:0]).shape == (0, 2)


def test_a_model_against_itself_is_told_at_a_layer_that_tells_scaffolds_apart():
    rng = np.random.default_rng(5)
    places, noise = rng.normal(size=(10, 3)), (50.0, 1.0, 50.0)
    cells = np.stack([states(rng, places, questions=12, noise=x) for x in noise])
    select, test = halves(grid_of(cells), grid_of(cells), rng)
    at = choose_layers(paired_grams(*select), CKA, relabelings(10, 20, rng))
    telling = paired_grams(*test)
    found = similarity(telling, CKA, at, rng, 20)[0]
    first = similarity(telling, CKA, at_depth(telling, 0.0, at.orders), rng, 20)[0]
    assert (found.layer_a, found.layer_b) == (1, 1)
    assert found.value == pytest.approx(1) == first.value
    assert found.ceiling > 0.8
    assert first.ceiling < 0.5


def test_the_null_of_a_chosen_pair_chooses_anew_under_each_relabeling():
    rng = np.random.default_rng(32)
    select, test = select_and_test(rng)
    choosing, telling, orders = paired_grams(*select), paired_grams(*test), relabelings(10, 30, rng)
    at = choose_layers(choosing, RSA, orders)
    slow = []
    for order in orders:
        again = choose_layers(replace(choosing, b=choosing.b[:, order][:, :, :, order]), RSA, orders[:0])
        moved = telling.b[again.layer_b][order][:, :, order]
        slow.append(agreement(RSA.relate(telling.a[again.layer_a]), RSA.relate(moved)))
    found = similarity(telling, RSA, at, rng, 20)[0]
    assert found.null_high == pytest.approx(np.quantile(slow, 0.95))
    assert found.p == (1 + sum(x >= found.value for x in slow)) / 31
    fixed = similarity(telling, RSA, at_depth(telling, 0.5, orders), rng, 20)[0]
    assert fixed.value == found.value
    assert fixed.null_high < found.null_high


def test_halves_share_no_question_and_lose_none():
    rng = np.random.default_rng(22)
    a, b = two_models(rng, questions=9)
    select, test = halves(a, b, rng)
    assert set(select[0].questions) | set(test[0].questions) == set(a.questions)
    assert not set(select[0].questions) & set(test[0].questions)
    assert (select[1].split, test[1].split) == ("select", "test")
    column = a.questions.index(test[1].questions[0])
    np.testing.assert_array_equal(test[1].acts[:, :, 0], b.acts[:, :, column])
    assert compare(select, test, [CKA], rng, draws=19, resamples=20).similarities[0].questions == 5


def test_a_failed_reply_leaves_its_question_out_of_both_models_unless_a_paraphrase_is_left():
    rng = np.random.default_rng(23)
    a, b = two_models(rng)
    holed = a.acts.copy()
    holed[4, 0, 3, 1:] = np.nan
    found = paired_grams(replace(a, acts=holed), b)
    assert (found.dropped, len(found.questions), found.why) == (1, 7, "")
    kept = [i for i in range(8) if i != 3]
    left = paired_grams(*(replace(g, questions=found.questions, acts=g.acts[:, :, kept]) for g in (a, b)))
    np.testing.assert_allclose(found.a, left.a)
    np.testing.assert_allclose(found.b, left.b)
    twice = [replace(g, acts=np.repeat(g.acts, 2, axis=1)) for g in (replace(a, acts=holed), b)]
    twice[0].acts[4, 1, 3] = a.acts[4, 0, 3]
    both = paired_grams(*twice)
    assert both.dropped == 0
    np.testing.assert_allclose(both.a, paired_grams(a, b).a)


def test_too_small_a_design_abstains_and_says_why():
    rng = np.random.default_rng(24)
    select, test = select_and_test(rng)

    def few(pair, scaffolds, questions=8):
        a, b = (
            replace(
                g, scaffolds=g.scaffolds[:scaffolds], questions=g.questions[:questions],
                acts=g.acts[:scaffolds, :, :questions],
            )
            for g in pair
        )  # fmt: skip
        return a, b

    report = compare(few(select, 4), few(test, 4), [CKA], rng)
    (s,) = report.similarities
    assert s.why.startswith("4 scaffolds cannot be told from chance")
    assert s.layer_a == NO_LAYER and not report.cells and not report.dissimilarities
    assert all(np.isnan(x) for x in (s.value, s.low, s.p, s.p_max, s.max_high, s.ceiling))
    (s,) = compare(few(select, 5), few(test, 5), [neighbours(5)], rng).similarities
    assert s.why == "mutual neighbours, k = 5 needs 7 scaffolds and there are 5"
    (s,) = compare(select, few(test, 10, 3), [RSA], rng, draws=19, resamples=20).similarities
    assert s.why == "3 questions give no interval and no ceiling: add questions"
    assert not np.isnan(s.value) and np.isnan(s.low) and np.isnan(s.ceiling)
    (s,) = compare(select, few(test, 10, 4), [RSA], rng, draws=19, resamples=20).similarities
    assert s.why == "4 questions give no interval: add questions"
    assert np.isnan(s.high) and not np.isnan(s.ceiling)


def test_a_scaffold_that_always_failed_is_named():
    rng = np.random.default_rng(25)
    a, b = two_models(rng)
    broken = b.acts.copy()
    broken[6] = np.nan
    found = paired_grams(a, replace(b, acts=broken))
    assert found.why == (
        "0 of 8 questions have a state for every scaffold in both models and 2 are needed; "
        "replies failed most often under the scaffold s6"
    )
    select, _ = select_and_test(rng)
    (s,) = compare(select, (a, replace(b, acts=broken)), [CKA], rng).similarities
    assert (s.why, s.questions, s.dropped) == (found.why, 0, 8)


@every_measure
def test_a_layer_at_which_scaffolds_do_not_differ_has_no_value(measure):
    """As the embedding of one last prompt token: equal but for rounding."""
    rng = np.random.default_rng(26)
    select, test = select_and_test(rng)
    flat = test[0].acts.copy()
    flat[:, :, :, 1] = (flat[:1, :, :, 1] * 1.1).astype(np.float32)
    blunt = paired_grams(replace(test[0], acts=flat), test[1])
    orders = relabelings(10, 19, rng)
    found, cells = similarity(blunt, measure, choose_layers(paired_grams(*select), measure, orders), rng, 20)
    assert np.isnan(found.value)
    assert found.why == "the scaffolds do not differ at layer 1 of a or 2 of b"
    assert [c.layer_a for c in cells if np.isnan(c.value)] == [1] * 4
    assert not any(np.isnan(c.null_high) for c in cells if c.layer_a != 1)
    dead = replace(select[0], acts=np.ones_like(select[0].acts))
    assert "at no pair of layers" in choose_layers(paired_grams(dead, select[1]), measure, orders).why


def test_states_that_cannot_be_compared_are_refused():
    rng = np.random.default_rng(27)
    a, b = two_models(rng)
    with pytest.raises(LabError, match="same questions"):
        paired_grams(a, replace(b, questions=tuple(f"x{i}" for i in range(8))))
    infinite = a.acts.copy()
    infinite[0, 0, 0, 0, 0] = np.inf
    with pytest.raises(LabError, match="finite states"):
        paired_grams(replace(a, acts=infinite), b)


# ------------------------------------------------------------------ ceiling and interval


@every_measure
def test_two_models_with_one_geometry_reach_their_ceiling(measure):
    rng, reached, ceiling = np.random.default_rng(28), [], []
    for _ in range(12):
        places, embed = rng.normal(size=(10, 3)), rng.normal(size=(3, 40))
        a, b = (gram(states(rng, places, 10, noise=3.0, embed=embed)) for _ in range(2))
        reached.append(agreement(measure.relate(a), measure.relate(b)))
        ceiling.append(np.sqrt(np.prod([reliability(x, measure, rng, 10) for x in (a, b)])))
    assert np.mean(reached) == pytest.approx(np.mean(ceiling), abs=0.08)
    assert np.mean(reached) < 0.95


@every_measure
def test_reliability_is_1_without_noise_0_without_scaffolds_and_unknown_below_4_questions(measure):
    rng = np.random.default_rng(29)
    places = rng.normal(size=(8, 3))
    assert reliability(gram(states(rng, places, noise=0.0, turn=0.0)), measure, rng) == pytest.approx(1.0)
    nothing = [reliability(gram(states(rng, 0 * places)), measure, rng, 10) for _ in range(10)]
    assert np.mean(nothing) < 0.3
    assert min(nothing) >= 0
    assert np.isnan(reliability(gram(states(rng, places, 3)), measure, rng))


def test_the_interval_holds_what_other_questions_would_give():
    rng = np.random.default_rng(30)
    places = rng.normal(size=(2, 10, 3))
    places[1] = 0.8 * places[0] + 0.6 * places[1]
    embeds = rng.normal(size=(2, 3, 32))

    def draw():
        a, b = (gram(states(rng, p, 12, noise=3.0, embed=e)) for p, e in zip(places, embeds, strict=True))
        return a, b, [agreement(m.relate(a), m.relate(b)) for m in MEASURES]

    centre = np.mean([draw()[2] for _ in range(250)], axis=0)
    hits = np.zeros(3)
    for _ in range(60):
        a, b, own = draw()
        held = [question_interval(a, b, v, m, rng, 200) for v, m in zip(own, MEASURES, strict=True)]
        assert all(low < v < high for v, (low, high) in zip(own, held, strict=True))
        hits += [low <= c <= high for c, (low, high) in zip(centre, held, strict=True)]
    assert (hits >= 52).all()  # 99 % binomial limit of 60 at 95 %


def test_an_interval_without_a_value_is_unknown():
    rng = np.random.default_rng(31)
    a = gram(states(rng, rng.normal(size=(6, 2))))
    assert np.isnan(question_interval(a, a, float("nan"), CKA, rng, 20)).all()
    assert rsa.spearman_brown(0.5) == pytest.approx(2 / 3)
