"""Maps between two models: planted maps come back, shared questions and the training fit fool nobody."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from sklearn.linear_model import LinearRegression, Ridge

from lab.geometry.fits import (
    COMPONENTS,
    FOLDS,
    PENALTIES,
    Cells,
    centred,
    procrustes,
    ridge,
    ridge_by_scaffold,
)
from lab.geometry.maps import (
    METHODS,
    _point,
    carry,
    cells,
    fit_map,
    map_score,
    map_scores,
    shared_map,
)
from lab.geometry.relative import relative
from lab.records import LabError
from lab.records.geometry import StateGrid

LINEAR = (ridge, ridge_by_scaffold, procrustes)
NAMES = (
    "assistant",
    "bard",
    "clerk",
    "diver",
    "elder",
    "friar",
    "guard",
    "heron",
    "idler",
    "judge",
    "knave",
    "lover",
)


def grid(acts, model, split):
    """A grid of one layer from states [scaffold, paraphrase, question, d]."""
    names, questions = NAMES[: len(acts)], tuple(f"{split} {i}" for i in range(acts.shape[2]))
    return StateGrid(model, f"print of {model}", "reply_mean", split, names, questions, acts[:, :, :, None])


def world(rng, scaffolds=8, questions=(5, 4, 5), width=(24, 40), shared=True, noise=0.3, topic=3.0, paraphrases=2,
          latent=4, common=None):  # fmt: skip
    """([extract, select], test, (A, B)): both models place scaffolds, and vary by question, along a latent plane
    of their own; the latents are the same in both models (`shared`), or their first `common` are, or none."""
    common = latent if common is None else common
    z = rng.normal(size=(2, scaffolds, latent))
    z[1, :, :common] = z[0, :, :common] if shared else z[1, :, :common]
    frames = [rng.normal(size=(latent, d)) / np.sqrt(d) * 4 for d in width]
    topics = rng.normal(size=(sum(questions), latent))
    sets, start = [], 0
    for split, n in zip(("extract", "select", "test"), questions, strict=True):
        mixed = rng.normal(size=(2, scaffolds, paraphrases, n, latent)) * 0.3
        mixed[1, ..., :common] = mixed[0, ..., :common] if shared else mixed[1, ..., :common]
        level = topic * topics[start : start + n]
        pair = [
            (z[side][:, None, None] + mixed[side] + level) @ frames[side]
            + noise * rng.normal(size=(scaffolds, paraphrases, n, width[side]))
            for side in (0, 1)
        ]
        sets.append(tuple(grid(acts, model, split) for acts, model in zip(pair, "ab", strict=True)))
        start += n
    return sets[:2], sets[2], frames


def changed(sets, side, function):
    """The same design with one model's states [..., d] changed."""
    train, test = sets

    def one(pair):
        acts = function(pair[side].acts)
        return tuple(replace(g, acts=acts) if i == side else g for i, g in enumerate(pair))

    return [one(pair) for pair in train], one(test)


def score(sets, method, draws=19, seed=0):
    return map_score(sets[0], sets[1], (0, 0), method, np.random.default_rng(seed), draws)


# ------------------------------------------------------------------ planted maps


def test_a_planted_map_between_two_widths_predicts_unseen_scaffolds_on_unseen_questions():
    train, test, _ = world(np.random.default_rng(0), scaffolds=12)
    found = map_scores(train, test, (0, 0), np.random.default_rng(1), draws=39)
    assert [(s.method, s.source, s.target) for s in found] == [
        (m.name, a, b) for a, b in ("ab", "ba") for m in METHODS
    ]
    for s in found:
        assert s.r2 > (0.9 if s.method == "ridge" else 0.8), s
        assert s.low < s.r2 < s.high <= 1
        assert s.retrieval == 1 or (s.method == "relative" and s.retrieval > 0.7)  # angles differ a little
        assert s.p == s.retrieval_p == pytest.approx(1 / 40)
        assert s.null_high < 0.2 < s.r2
        assert s.null_retrieval < 0.2
        assert (s.scaffolds, s.questions, s.train_questions, s.dropped, s.why) == (12, 5, 9, 0, "")
        assert (s.chance, s.split) == (pytest.approx(1 / 12), "test")


def test_independent_geometry_with_shared_questions_is_not_predicted():
    for seed, method in enumerate((*LINEAR, relative)):
        sets = world(np.random.default_rng(seed), scaffolds=12, shared=False, noise=0.1)[:2]
        plain = [np.concatenate([p[side].acts.mean(axis=1)[:, :, 0] for p in sets[0]], 1) for side in (0, 1)]
        level = [side.mean(axis=0) for side in plain]
        found = score(sets, method)
        assert found.r2 < 0.1
        assert found.p > 0.05
        assert found.retrieval <= 0.25
        # What centring is for: by question means alone the models look like one.
        assert LinearRegression().fit(*level).score(*level) > 0.99


def test_false_positives_come_at_the_stated_rate_and_retrieval_does_not_exceed_chance():
    rng = np.random.default_rng(2)
    for method, d in ((ridge, 12), (relative, 12), (procrustes, 6)):
        size = {"questions": (2, 1, 4), "width": (d, d), "paraphrases": 1, "shared": False}
        found = [score(world(rng, **size)[:2], method, seed=i) for i in range(200)]
        p = np.array([s.p for s in found])
        assert 3 <= (p <= 0.05).sum() <= 18, method.name  # 99 % binomial interval of 200 at 5 %
        assert 82 <= (p <= 0.5).sum() <= 118, method.name  # and at 50 %
        assert np.mean([s.r2 for s in found]) < 0.02
        assert np.mean([s.retrieval_p <= 0.05 for s in found]) < 0.09
        assert np.mean([s.retrieval for s in found]) < 1 / 8 + 0.03
        assert np.mean([s.null_retrieval for s in found]) < 1 / 8 + 0.01


def test_the_training_fit_is_perfect_on_independent_data_and_is_not_what_is_reported():
    sets = world(np.random.default_rng(3), width=(90, 90), shared=False, noise=1.0)[:2]
    data = cells(*sets, (0, 0))
    x, y = (centred(side).reshape(-1, 90) for side in (data.x, data.y))
    assert LinearRegression(fit_intercept=False).fit(x, y).score(x, y) == pytest.approx(1.0)
    for method in LINEAR:
        found = score(sets, method)
        assert found.r2 < 0.1
        assert found.high < 0.5


def test_leaving_out_scaffolds_for_the_penalty_costs_less_where_little_is_shared():
    rng, gaps, power = np.random.default_rng(4), [], []
    for _ in range(6):
        sets = world(rng, scaffolds=12, latent=8, common=2, noise=0.1)[:2]
        one, other = (score(sets, m) for m in (ridge, ridge_by_scaffold))
        gaps.append(other.r2 - one.r2)
        power.append((one.r2, other.r2))
    assert np.median(gaps) > 0.1
    assert np.mean(power, axis=0)[1] > -0.15


# ------------------------------------------------------------------ invariances


@pytest.mark.parametrize("method", [*LINEAR, relative], ids=lambda m: m.name)
def test_rotation_scale_and_question_levels_of_either_model_change_nothing(method):
    rng = np.random.default_rng(5)
    sets = world(rng, noise=1.0)[:2]
    before = score(sets, method)
    for side, width in enumerate((24, 40)):
        turn = np.linalg.qr(rng.normal(size=(width, width)))[0]
        after = score(changed(sets, side, lambda acts, turn=turn: 3.0 * acts @ turn), method)
        moved = score(
            changed(sets, side, lambda a: a + np.linspace(0, 50, a.shape[2])[:, None, None]), method
        )
        for same in (after, moved):
            assert same.r2 == pytest.approx(before.r2, abs=1e-6)
            assert same.p == before.p
            assert same.retrieval == before.retrieval
            assert same.setting == pytest.approx(before.setting, nan_ok=True)


@pytest.mark.parametrize("method", [*LINEAR, relative], ids=lambda m: m.name)
def test_relabelling_scaffolds_in_both_models_changes_nothing_and_in_one_breaks_it(method):
    sets = world(np.random.default_rng(6))[:2]
    order = np.random.default_rng(7).permutation(8)
    both = changed(changed(sets, 0, lambda a: a[order]), 1, lambda a: a[order])
    assert score(both, method).r2 == pytest.approx(score(sets, method).r2, abs=1e-9)
    assert score(changed(sets, 1, lambda a: a[order]), method).r2 < 0.3


def test_one_massive_dimension_neither_makes_nor_hides_agreement():
    def massive(acts):
        return np.concatenate([acts, np.full((*acts.shape[:-1], 1), 1000.0)], axis=-1)

    rng = np.random.default_rng(8)
    for shared in (True, False):
        sets = world(rng, shared=shared)[:2]
        before = score(sets, ridge)
        after = score(changed(changed(sets, 0, massive), 1, massive), ridge)
        assert after.r2 == pytest.approx(before.r2, abs=1e-6)
        assert (after.p <= 0.05) == shared


# ------------------------------------------------------------------ second opinions


def slow(sets, order, predict):
    """Held-out R² and retrieval by the letter: refit by `predict(x, y, new)` for each scaffold."""
    data = cells(sets[0], sets[1], (0, 0))
    x, y, x_test, y_test = (side.mean(axis=1) for side in (data.x, data.y, data.x_test, data.y_test))
    y, y_test = y[order], y_test[order]
    residual = total = hits = 0.0
    for s in range(len(x)):
        rest = [t for t in range(len(x)) if t != s]
        a, b, new, actual = (side - side[rest].mean(axis=0) for side in (x, y, x_test, y_test))
        predicted = predict(a[rest], b[rest], new[s])
        residual += ((actual[s] - predicted) ** 2).sum()
        total += (actual[s] ** 2).sum()
        near = [u.mean(axis=0) @ predicted.mean(axis=0) / np.linalg.norm(u.mean(axis=0)) for u in actual]
        hits += np.argmax(near) == s
    return 1 - residual / total, hits / len(x)


def slow_ridge(folds, again):
    """Ridge by scikit-learn; `folds(shape)` labels the rows, `again` centres without the left-out rows."""

    def predict(x, y, new):
        (scaffolds, questions, width), label = x.shape, folds(x.shape)
        top = np.linalg.norm(x.reshape(-1, width), 2) ** 2
        errors = np.zeros(len(PENALTIES))
        for fold in np.unique(label):
            left = label == fold
            mx, my = (
                np.stack([s[~left[:, q] if again else slice(None), q].mean(axis=0) for q in range(questions)])
                for s in (x, y)
            )
            for i, penalty in enumerate(PENALTIES * top):
                model = Ridge(alpha=penalty, fit_intercept=False).fit((x - mx)[~left], (y - my)[~left])
                errors[i] += (((y - my)[left] - model.predict((x - mx)[left])) ** 2).sum()
        model = Ridge(alpha=PENALTIES[errors.argmin()] * top, fit_intercept=False)
        return model.fit(x.reshape(-1, width), y.reshape(scaffolds * questions, -1)).predict(new)

    return predict


def slow_procrustes(x, y, new):
    def fitted(x, y, k):
        va, vb = (np.linalg.svd(s.reshape(-1, s.shape[2]))[2][:k].T for s in (x, y))
        za, zb = (s.reshape(-1, s.shape[2]) @ v for s, v in ((x, va), (y, vb)))
        turn, total = orthogonal_procrustes(za, zb)
        return va @ turn @ vb.T * total / (za**2).sum()

    options = sorted({min(k, x.shape[2], y.shape[2]) for k in COMPONENTS})
    fold = np.arange(x.shape[1]) % FOLDS
    errors = [
        sum(
            ((y[:, fold == f] - x[:, fold == f] @ fitted(x[:, fold != f], y[:, fold != f], k)) ** 2).sum()
            for f in range(FOLDS)
        )
        for k in options
    ]
    return new @ fitted(x, y, options[int(np.argmin(errors))])


@pytest.mark.parametrize(
    ("method", "predict"),
    [
        (ridge, slow_ridge(lambda s: np.tile(np.arange(s[1]), (s[0], 1)), again=False)),
        (ridge_by_scaffold, slow_ridge(lambda s: np.tile(np.arange(s[0])[:, None], (1, s[1])), again=True)),
        (procrustes, slow_procrustes),
    ],
    ids=lambda v: getattr(v, "name", ""),
)
def test_scores_equal_a_plain_refit(method, predict):
    for noise, shared, width in ((1.5, True, (12, 15)), (0.3, False, (15, 60))):
        size = {"width": width, "questions": (3, 3, 2), "noise": noise, "shared": shared}
        sets = world(np.random.default_rng(9), **size)[:2]
        orders = np.stack([np.arange(8), np.random.default_rng(10).permutation(8)])
        found = method.held_out(cells(*sets, (0, 0)), orders)
        for draw, order in enumerate(orders):
            r2, retrieval = slow(sets, order, predict)
            assert found.r2[draw] == pytest.approx(r2, abs=1e-6)
            assert found.hit[draw].mean() == retrieval


def test_relative_coordinates_equal_a_plain_loop():
    sets = world(np.random.default_rng(11), noise=1.0)[:2]
    data = cells(*sets, (0, 0))
    order = np.random.default_rng(12).permutation(8)
    found = relative.held_out(data, np.stack([np.arange(8), order]))
    sides = [side.mean(axis=1) for side in (data.x, data.y, data.x_test, data.y_test)]
    for draw, pairing in enumerate((np.arange(8), order)):
        x, y, x_test, y_test = sides[0], sides[1][pairing], sides[2], sides[3][pairing]
        residual = total = hits = 0.0
        for s in range(8):
            rest = [t for t in range(8) if t != s]
            a, b, new_a, new_b = (side - side[rest].mean(axis=0) for side in (x, y, x_test, y_test))
            for q in range(x_test.shape[1]):
                for u in rest:
                    ra, rb = cosine(new_a[s, q], a[u].mean(axis=0)), cosine(new_b[s, q], b[u].mean(axis=0))
                    residual, total = residual + (ra - rb) ** 2, total + rb**2
            near = []
            for u in range(8):
                anchors = [t for t in rest if t != u]
                ra = [cosine(new_a[s].mean(axis=0), a[t].mean(axis=0)) for t in anchors]
                rb = [cosine(new_b[u].mean(axis=0), b[t].mean(axis=0)) for t in anchors]
                near.append(cosine(np.array(ra), np.array(rb)))
            hits += np.argmax(near) == s
        assert found.r2[draw] == pytest.approx(1 - residual / total)
        assert found.hit[draw].mean() == hits / 8


def cosine(u, v):
    return u @ v / np.linalg.norm(u) / np.linalg.norm(v)


@pytest.mark.parametrize("method", LINEAR, ids=lambda m: m.name)
def test_pairing_by_an_order_equals_reordering_the_states(method):
    train, _, _ = world(np.random.default_rng(13))
    order = np.random.default_rng(14).permutation(8)
    paired = fit_map(train, (0, 0), method, order)
    moved = fit_map(changed((train, train[0]), 1, lambda a: a[order])[0], (0, 0), method)
    np.testing.assert_allclose(paired.matrix, moved.matrix, atol=1e-9)
    np.testing.assert_allclose(paired(np.eye(24)), paired.matrix, atol=1e-12)


# ------------------------------------------------------------------ ceiling


def test_the_ceiling_is_the_share_of_variance_that_repeats():
    rng = np.random.default_rng(15)
    for paraphrases, mixed in ((3, 0.7), (1, 0.0)):
        found = []
        for _ in range(60):
            true = rng.normal(size=(10, 1, 1, 30)) + mixed * rng.normal(size=(10, 1, 6, 30))
            raw = true + 2.0 * rng.normal(size=(10, paraphrases, 6, 30)) + rng.normal(size=(6, 30))
            found.append(ridge.ceiling(Cells(raw, raw, raw, raw, 0)))
        signal = 1 + mixed**2
        assert np.mean(found) == pytest.approx(signal / (signal + 4 / paraphrases), abs=0.015)
    noise = [rng.normal(size=(10, 2, 6, 30)) for _ in range(60)]
    assert np.mean([ridge.ceiling(Cells(n, n, n, n, 0)) for n in noise]) == pytest.approx(0, abs=0.02)


def test_a_map_from_the_noiseless_source_reaches_the_ceiling():
    rng = np.random.default_rng(16)
    clean, test, _ = world(rng, scaffolds=12, noise=0.0, questions=(8, 8, 8))

    # Paraphrases of the clean world differ; make them one wording, then give the target noise of its own.
    def one(a):
        return np.repeat(a.mean(axis=1, keepdims=True), 2, axis=1)

    sets = changed((clean, test), 0, one)
    sets = changed(sets, 1, lambda a: one(a) + 0.8 * rng.normal(size=a.shape))
    found = score(sets, ridge)
    assert 0.3 < found.ceiling < 0.95
    assert found.r2 == pytest.approx(found.ceiling, abs=0.06)


def test_the_ceiling_of_relative_coordinates_needs_a_second_wording():
    rng = np.random.default_rng(17)
    assert 0.5 < score(world(rng)[:2], relative).ceiling < 1
    found = score(world(rng, paraphrases=1)[:2], relative)
    assert np.isnan(found.ceiling)
    assert found.r2 > 0.5


# ------------------------------------------------------------------ what is missing


def test_a_question_with_a_failed_reply_is_dropped_for_both_models_and_counted():
    train, test, _ = world(np.random.default_rng(18))
    holed = [[replace(g, acts=g.acts.copy()) for g in pair] for pair in (*train, test)]
    holed[0][0].acts[2, 1, 3] = np.nan
    holed[2][1].acts[5, 0, 1, :, 7] = np.nan
    kept = [[0, 1, 2, 4], [0, 1, 2, 3], [0, 2, 3, 4]]
    without = [
        tuple(replace(g, acts=g.acts[:, :, k], questions=tuple(g.questions[i] for i in k)) for g in pair)
        for pair, k in zip((*train, test), kept, strict=True)
    ]
    for method in METHODS:
        found = score(([tuple(p) for p in holed[:2]], tuple(holed[2])), method)
        plain = score((without[:2], without[2]), method)
        assert found == replace(plain, dropped=2) or (np.isnan(found.setting) and found.r2 == plain.r2)
        assert (found.dropped, found.questions, found.train_questions) == (2, 4, 8)
    assert np.isfinite(fit_map([tuple(p) for p in holed[:2]], (0, 0), ridge).matrix).all()


def test_it_abstains_with_a_reason_below_five_scaffolds_and_without_questions_or_variation():
    rng = np.random.default_rng(19)
    few = score(world(rng, scaffolds=4)[:2], ridge)
    assert np.isnan([few.r2, few.p, few.retrieval, few.ceiling]).all()
    assert "4 scaffolds" in few.why and "add scaffolds" in few.why
    short = score(world(rng, questions=(1, 1, 3))[:2], ridge)
    assert np.isnan(short.r2) and "2 training and 3 test questions" in short.why
    flat = changed(world(rng)[:2], 1, lambda a: np.broadcast_to(a[:1, :1], a.shape).copy())
    still = score(flat, relative)
    assert np.isnan(still.r2) and "target's states at this layer do not depend on the scaffold" in still.why


def test_designs_that_do_not_fit_or_are_not_held_out_are_refused():
    train, test, _ = world(np.random.default_rng(20))
    with pytest.raises(LabError, match="no map was fitted on"):
        map_score(train, train[0], (0, 0), ridge, np.random.default_rng(0))
    with pytest.raises(LabError, match="no map was fitted on"):
        cells([], test, (0, 0))
    with pytest.raises(LabError, match="no map was fitted on"):
        cells([train[1]], train[0], (0, 0))
    with pytest.raises(LabError, match="read all questions on one design"):
        cells([tuple(reversed(train[0]))], test, (0, 0))
    other = tuple(replace(g, fingerprint="another") for g in train[0])
    with pytest.raises(LabError, match="another"):
        cells([other], test, (0, 0))


# ------------------------------------------------------------------ carried directions


@pytest.mark.parametrize("method", LINEAR, ids=lambda m: m.name)
def test_a_planted_direction_is_carried_to_its_partner_with_its_sign(method):
    train, _, frames = world(np.random.default_rng(21), scaffolds=12, noise=0.1)
    fitted = fit_map(train, (0, 0), method)
    permuted = fit_map(train, (0, 0), method, np.random.default_rng(22).permutation(12))
    latent = np.random.default_rng(23).normal(size=4)
    source, target = latent @ frames[0], latent @ frames[1]
    there = carry(fitted, source)
    assert np.linalg.norm(there) == pytest.approx(1)
    assert cosine(there, target) > (0.98 if method is not procrustes else 0.9)
    np.testing.assert_allclose(carry(fitted, -7 * source), -there, atol=1e-12)
    assert abs(cosine(carry(permuted, source), target)) < 0.9


def test_what_cannot_be_carried_is_refused():
    train, _, _ = world(np.random.default_rng(24))
    with pytest.raises(LabError, match="relative coordinates compare"):
        fit_map(train, (0, 0), relative)
    fitted = fit_map(train, (0, 0), procrustes)
    with pytest.raises(LabError, match="width 24"):
        carry(fitted, np.ones(40))
    outside = np.linalg.svd(fitted.left.T)[2][-1]
    with pytest.raises(LabError, match="sends to 0"):
        carry(fitted, outside)
    with pytest.raises(LabError, match="got 1"):
        fit_map(
            [tuple(replace(g, acts=g.acts[:, :, :1], questions=g.questions[:1]) for g in train[0])],
            (0, 0),
            ridge,
        )


# ------------------------------------------------------------------ the shared map


@pytest.mark.parametrize("method", LINEAR, ids=lambda m: m.name)
def test_the_shared_map_lays_carried_landings_onto_the_target_s_own(method):
    train, test, _ = world(np.random.default_rng(25), scaffolds=12, noise=0.2, latent=2)
    found = shared_map(train, test, (0, 0), score((train, test), method, 39), method)
    assert found.why == "" and found.toward == "assistant"
    assert found.share_x > found.share_y > 0.05
    own, carried = ({p.scaffold: p for p in found.points if p.model == m} for m in "ba")
    assert list(own) == list(carried) == list(NAMES)
    at = [np.array([(p.x, p.y) for p in side.values()]) for side in (own, carried)]
    np.testing.assert_allclose(at[0].mean(axis=0), 0, atol=1e-9)
    assert np.linalg.norm(at[0] - at[1]) < 0.35 * np.linalg.norm(at[0])
    assert all(p.radius_a >= p.radius_b > 0 and -90 < p.angle <= 90 for p in found.points)
    landings = centred(test[1].at(0)).mean(axis=1)
    assert (np.linalg.norm(at[0], axis=1) <= np.linalg.norm(landings, axis=1) + 1e-9).all()
    assert (at[0] ** 2).sum() > 0.9 * (landings**2).sum()


def test_the_shared_map_is_oriented_by_a_scaffold_and_not_by_chance():
    rng = np.random.default_rng(26)
    train, test, _ = world(rng, noise=0.2)
    first = shared_map(train, test, (0, 0), score((train, test), ridge, 39))
    turn = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    turned = changed((train, test), 1, lambda a: -a @ turn)
    again = shared_map(*turned, (0, 0), score(turned, ridge, 39))
    for p, q in zip(first.points, again.points, strict=True):
        np.testing.assert_allclose([p.x, p.y, p.radius_a], [q.x, q.y, q.radius_a], rtol=1e-6, atol=1e-8)
    other = shared_map(train, test, (0, 0), score((train, test), ridge, 39), toward="nobody")
    assert other.toward == "assistant"  # first by name
    toward = shared_map(train, test, (0, 0), score((train, test), ridge, 39), toward="diver")
    data = centred(np.concatenate([p[1].at(0) for p in train], axis=2)).mean(axis=1)
    signs = np.sign(
        np.array([[p.x, p.y] for p in toward.points[:8]]) / [[p.x, p.y] for p in first.points[:8]]
    )
    assert (signs == signs[0]).all()
    right = np.linalg.svd(data)[2][:2]
    flips = np.sign(right @ data[NAMES.index("diver")]) * np.sign(right @ data[0])
    np.testing.assert_array_equal(signs[0], flips)


def test_no_shared_map_is_drawn_that_does_not_beat_its_null():
    train, test, _ = world(np.random.default_rng(27), shared=False)
    result = score((train, test), ridge)
    found = shared_map(train, test, (0, 0), result)
    assert found.points == () and "there is no shared map to draw" in found.why
    worse = replace(result, p=0.01, r2=-0.2)
    assert shared_map(train, test, (0, 0), worse).points == ()
    few = world(np.random.default_rng(28), scaffolds=4)[:2]
    assert "4 scaffolds" in shared_map(*few, (0, 0), score(few, ridge)).why
    with pytest.raises(LabError, match="score the map that is drawn"):
        shared_map(train, test, (0, 0), result, procrustes)


def test_ellipses_hold_the_true_landing_and_point_the_right_way():
    rng, inside = np.random.default_rng(29), 0
    spread = np.array([[3.0, 1.2], [1.2, 1.0]])
    for at in rng.multivariate_normal([2.0, -1.0], spread, size=(2000, 8)):
        p = _point("a", "s", at)
        turn = np.radians(p.angle)
        along = np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) @ [2 - p.x, -1 - p.y]
        inside += (along[0] / p.radius_a) ** 2 + (along[1] / p.radius_b) ** 2 <= 1
    assert 0.937 < inside / 2000 < 0.963
    many = _point("a", "s", rng.multivariate_normal([0, 0], spread, size=5000))
    right = np.linalg.eigh(spread)[1][:, 1]
    assert many.angle == pytest.approx(np.degrees(np.arctan(right[1] / right[0])), abs=2)
    assert many.radius_a / many.radius_b == pytest.approx(
        np.sqrt(np.divide(*np.linalg.eigvalsh(spread)[::-1])), rel=0.05
    )
    assert np.isnan(_point("a", "s", rng.normal(size=(4, 2))).radius_a)
