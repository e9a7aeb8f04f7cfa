"""Concept atlas: planted places come back, categories alone do not count, held out is held out."""

import json
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from lab.geometry import atlas
from lab.geometry.atlas import Landings
from lab.geometry.cka import CKA
from lab.geometry.fits import PENALTIES
from lab.geometry.grids import agreement, gram
from lab.geometry.neighbours import neighbours
from lab.geometry.rsa import RSA
from lab.pipelines.atlas import AtlasConfig, load_atlas
from lab.pipelines.atlas import atlas as job
from lab.pipelines.concept_states import kept_blocks, place_word, resolve_concepts
from lab.records import LabError
from lab.records.atlas import EMBEDDING, Category, ConceptSet
from lab.store import Store

MEASURES = (CKA, RSA, neighbours(3))
CODES = np.repeat([0, 1, 2], 14)


def cells(
    rng, shared, own, codes=CODES, categories=3.0, frames=6, width=20, noise=0.3, places=None, lift=1.0
):
    """States [concept, frame, d]: category + `shared` places + private ones + noise, in a random rotation.

    lift: how much a frame moves the words of a category, each category otherwise.
    """
    n = len(codes)
    rotation = np.linalg.qr(rng.normal(size=(width, width)))[0]
    latent = np.zeros((n, width))
    latent[:, :3] = categories * np.eye(3)[codes]
    latent[:, 3:9] += shared * (rng.normal(size=(n, 6)) if places is None else places)
    latent += own * rng.normal(size=(n, width))
    level = lift * rng.normal(size=(3, frames, width))[codes]
    return level + (latent @ rotation)[:, None] + noise * rng.normal(size=(n, frames, width))


def both(rng, shared, own, **more):
    places = rng.normal(size=(len(CODES), 6))
    return [cells(rng, shared, own, places=places, **more) for _ in range(2)]


def landings(a, b):
    half = a.shape[1] // 2
    return Landings(
        *(x[:, part].mean(axis=1) for part in (slice(0, half), slice(half, None)) for x in (a, b))
    )


def pairing(draws, rng, codes=CODES):
    return np.concatenate([np.arange(len(codes))[None], atlas.relabelings_within(codes, draws, rng)])


# ------------------------------------------------------------------ agreement within categories


@pytest.mark.parametrize("measure", MEASURES, ids=lambda m: m.name)
def test_what_categories_and_their_frames_share_is_no_agreement_within_them(measure):
    inside = atlas.within(CODES)(measure)
    found, alike, whole = [], [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        for into, states in ((found, both(rng, 0.0, 1.0, categories=8.0)), (alike, both(rng, 1.0, 0.1))):
            grams = [gram(x) for x in states]
            into.append(agreement(*(inside.relate(g) for g in grams)))
            if into is found:
                whole.append(agreement(*(measure.relate(g) for g in grams)))
    assert min(whole) > 0.05  # over all pairs, that categories are apart counts
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(20) + 0.01
    assert np.mean(alike) > 0.6


@pytest.mark.parametrize("measure", MEASURES, ids=lambda m: m.name)
def test_within_is_the_mean_over_categories_and_what_is_resampled_is_the_same_thing(measure):
    rng = np.random.default_rng(0)
    a, b = (gram(x) for x in both(rng, 1.0, 1.0))
    codes = np.repeat([5, 1], [28, 14])
    inside = atlas.within(codes)(measure)
    parts = []
    for c in (5, 1):
        m = np.flatnonzero(codes == c)
        parts.append(agreement(*(measure.relate(g[m][:, :, m]) for g in (a, b))))
    sizes = np.array([28 * 27, 14 * 13])
    value = agreement(inside.relate(a), inside.relate(b))
    assert value == pytest.approx(parts @ sizes / sizes.sum())
    assert inside.resampled(a, b, np.ones((1, 6)))[0] == pytest.approx(value)
    assert agreement(inside.relate(a), inside.relate(a)) == pytest.approx(1.0)
    one = atlas.within(np.zeros(42, dtype=int))(measure)
    assert agreement(one.relate(a), one.relate(b)) == pytest.approx(
        agreement(measure.relate(a), measure.relate(b))
    )


def test_relabelings_keep_categories_and_reach_every_place():
    orders = atlas.relabelings_within(CODES, 400, np.random.default_rng(1))
    assert (CODES[orders] == CODES).all()
    assert (np.sort(orders, axis=1) == np.arange(len(CODES))).all()
    assert len(set(orders[:, 0].tolist())) == 14
    with pytest.raises(LabError, match=r"at least 12 concepts in every category.*got 3"):
        atlas.within(np.repeat([0, 1], [20, 3]))(neighbours(10))


# ------------------------------------------------------------------ maps


def test_a_planted_map_puts_unseen_concepts_in_their_places_and_a_random_pairing_does_not():
    rng = np.random.default_rng(2)
    data = landings(*both(rng, 1.0, 0.05, noise=0.1, lift=0.0))
    fold = atlas.draw_folds(CODES, 5, rng)
    for centre in (CODES, np.zeros_like(CODES)):
        found = atlas.held_out(data, centre, fold, pairing(20, rng))
        assert found.pooled[0] > 0.9
        assert found.pooled[1:].max() < (0.1 if centre.any() else 0.8)  # categories alone predict something
        assert found.within_rank(1)[0] > 0.9 > found.within_rank(1)[1:].max()
        assert np.corrcoef(found.cosine[0], found.r2[0])[0, 1] > 0.3


def test_independent_models_are_at_chance_with_a_fair_ranking():
    ranks, r2 = [], []
    for seed in range(15):
        rng = np.random.default_rng(seed)
        data = landings(*both(rng, 0.0, 1.0))
        fold = atlas.draw_folds(CODES, 5, rng)
        found = atlas.held_out(data, CODES, fold, np.arange(len(CODES))[None])
        ranks.append(found.rank.mean())
        r2.append(found.pooled[0])
    assert np.mean(ranks) == pytest.approx((14 + 1) / 2, abs=0.5)
    assert -0.5 < np.mean(r2) < 0.05


def test_predictions_are_those_of_a_ridge_regression_that_never_saw_the_concept():
    rng = np.random.default_rng(3)
    data = landings(*both(rng, 1.0, 0.7))
    fold = atlas.draw_folds(CODES, 5, rng)
    found = atlas.held_out(data, CODES, fold, np.arange(len(CODES))[None])
    f = 2
    test, train = np.flatnonzero(fold == f), np.flatnonzero(fold != f)

    def around(states, rows):
        out = states.copy()
        for c in range(3):
            out[c == CODES] -= states[[i for i in rows if CODES[i] == c]].mean(axis=0)
        return out

    def left_out_error(alpha):
        total = 0.0
        for i in train:
            rest = np.setdiff1d(train, [i])
            x, y = around(data.x, rest), around(data.y, rest)
            total += (
                (Ridge(alpha=alpha, fit_intercept=False).fit(x[rest], y[rest]).predict(x[[i]]) - y[i]) ** 2
            ).sum()
        return total

    x, y = around(data.x, train), around(data.y, train)
    top = np.linalg.eigvalsh(x[train] @ x[train].T)[-1]
    alpha = min(PENALTIES * top, key=left_out_error)
    fit = Ridge(alpha=alpha, fit_intercept=False).fit(x[train], y[train])
    mapped, own = fit.predict(around(data.x_test, train)[test]), around(data.y_test, train)[test]
    np.testing.assert_allclose(found.residual[0, test], ((mapped - own) ** 2).sum(axis=1), rtol=1e-6)
    np.testing.assert_allclose(found.total[0, test], (own**2).sum(axis=1))
    cosine = (mapped * own).sum(axis=1) / np.linalg.norm(mapped, axis=1) / np.linalg.norm(own, axis=1)
    np.testing.assert_allclose(found.cosine[0, test], cosine)


def test_scores_do_not_change_under_rotation_and_scale_and_a_model_maps_onto_itself():
    rng = np.random.default_rng(4)
    a, b = both(rng, 1.0, 0.5)
    fold = atlas.draw_folds(CODES, 5, rng)
    data, orders = landings(a, b), pairing(3, rng)
    turned = 7 * b @ np.linalg.qr(rng.normal(size=(20, 20)))[0]
    first, again = (atlas.held_out(landings(a, x), CODES, fold, orders) for x in (b, turned))
    np.testing.assert_allclose(first.r2, again.r2)
    np.testing.assert_array_equal(first.rank, again.rank)
    self_map = atlas.held_out(data.ceiling(), CODES, fold, orders[:1])
    assert self_map.pooled[0] > first.pooled[0]
    assert self_map.within_rank(1)[0] > 0.9
    broken = data.x.copy()
    broken[0, 0] = np.nan
    with pytest.raises(LabError, match="finite landings"):
        atlas.held_out(replace(data, x=broken), CODES, fold, orders)
    with pytest.raises(LabError, match="do not depend on the word"):
        atlas.held_out(replace(data, y=np.ones_like(data.y)), CODES, fold, orders)


def test_folds_are_balanced_within_categories():
    fold = atlas.draw_folds(CODES, 5, np.random.default_rng(5))
    counts = np.array([[((fold == f) & (c == CODES)).sum() for f in range(5)] for c in range(3)])
    assert counts.min() >= 2 and counts.max() <= 3
    assert np.ptp(counts.sum(axis=0)) <= 1
    with pytest.raises(LabError, match="at least 5 concepts"):
        atlas.draw_folds(np.array([0] * 9 + [1] * 4), 5, np.random.default_rng(0))


# ------------------------------------------------------------------ neighbours


def test_neighbours_and_what_two_models_share_of_them_by_hand():
    line = np.array([0.0, 1.0, 3.0, 7.0, 15.0, 31.0])[:, None, None] * np.ones((1, 1, 1))
    d = atlas.apart(line)
    assert atlas.nearest(d, 2)[0].tolist() == [1, 2] and atlas.nearest(d, 2)[5].tolist() == [4, 3]
    off = ~np.eye(6, dtype=bool)
    assert np.sqrt((d[off] ** 2).mean()) == pytest.approx(1.0)
    codes = np.array([0, 0, 0, 1, 1, 1])
    mirrored = atlas.apart(line[::-1])
    orders = np.arange(6)[None]
    same, other = (atlas.overlap(d, x, codes, 2, orders) for x in (d, mirrored))
    np.testing.assert_allclose(same.shared, 1.0)
    np.testing.assert_allclose(same.null[0], same.shared)
    expected = [len({*atlas.nearest(d, 2)[s]} & {*atlas.nearest(mirrored, 2)[s]}) / 2 for s in range(6)]
    np.testing.assert_allclose(other.shared, expected)
    assert same.purity_a.tolist() == [1.0, 1.0, 1.0, 0.0, 0.5, 1.0]
    back = atlas.overlap(d, mirrored, codes, 2, np.arange(6)[None, ::-1])
    np.testing.assert_allclose(back.null[0], 1.0)
    with pytest.raises(LabError, match="between 1 and 4 neighbours of 6"):
        atlas.overlap(d, d, codes, 5, orders)
    with pytest.raises(LabError, match="do not depend on the word"):
        atlas.apart(np.ones((6, 3, 2)))


def test_categories_alone_bring_neighbours_and_the_null_within_them_knows():
    rng = np.random.default_rng(6)
    shared, null, chance = [], [], 5 / (len(CODES) - 1)
    for _ in range(10):
        a, b = both(rng, 0.0, 1.0, categories=6.0)
        found = atlas.overlap(
            atlas.apart(a), atlas.apart(b), CODES, 5, atlas.relabelings_within(CODES, 20, rng)
        )
        shared.append(found.shared.mean())
        null.append(found.null.mean())
    assert np.mean(shared) > 2 * chance
    assert np.mean(shared) == pytest.approx(np.mean(null), abs=0.02)


# ------------------------------------------------------------------ in models


LEADS = [
    "I hate",
    "Oh, this",
    "After",
    "Do you ever think about",
    "Let us chat about",
    "I am sick of",
    "Nice weather for",
    "Tell me about",
]
FOODS = [
    "bread",
    "dough",
    "tea",
    "cheese",
    "soup",
    "onions",
    "fruit",
    "honey",
    "coffee",
    "porridge",
    "waffles",
    "muesli",
]
ROLES = [
    "baker",
    "singer",
    "clerk",
    "nurse",
    "juggler",
    "captain",
    "dancer",
    "judge",
    "butler",
    "painter",
    "pilot",
    "poet",
]
SMALL = {
    "name": "small",
    "frames": [f"{lead} {{word}}, I suppose." for lead in LEADS],
    "categories": {
        "food": {"words": FOODS},
        "role": {"phrase": "the {word}", "place": "system", "words": ROLES},
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    folder = tmp_path_factory.mktemp("atlas")
    (folder / "small.json").write_text(json.dumps(SMALL))
    config = AtlasConfig(
        ("hearth-a", "hearth-b"), str(folder / "small.json"), permutations=19, pairings=19, neighbours=5
    )
    store = Store(folder / "runs")
    return job(config, store, lambda stage, share: None), config, store


def test_an_atlas_of_two_organisms_is_whole_and_comes_back_from_disk(book):
    found, config, store = book
    assert found.stages == ("embedding", "first layer", "chosen layers")
    assert found.labels == ("hearth-a", "hearth-b")
    flat = [s.found for s in found.similarities if s.stage == "embedding"]
    assert all((f.layer_a, f.layer_b) == (EMBEDDING, EMBEDDING) and "one vector" in f.why for f in flat)
    assert all(np.isnan(f.low) and not np.isnan(f.value) for f in flat)
    first = [s.found for s in found.similarities if s.stage == "first layer"]
    assert all((f.layer_a, f.layer_b) == (0, 0) and f.questions == 4 for f in first)
    assert len(found.scores) == 3 * 2 * 2 * 24
    assert all(1 <= s.rank <= s.candidates == (24 if s.scope == "all" else 12) for s in found.scores)
    lists = [n for n in found.neighbours if (n.stage, n.model, n.concept) == ("embedding", "hearth-a", "tea")]
    assert [n.rank for n in lists] == [1, 2, 3, 4, 5] and "tea" not in {n.neighbour for n in lists}
    assert [n.distance for n in lists] == sorted(n.distance for n in lists)
    mine = next(s for s in found.shared if (s.stage, s.concept) == ("embedding", "tea"))
    assert mine.shared == pytest.approx(sum(n.shared for n in lists) / 5)
    assert {d.layer_a for d in found.depth} == {EMBEDDING, *range(6)}
    assert all(c.pieces_a >= 1 for c in found.concepts)
    again = load_atlas(store, found.run)
    np.testing.assert_equal(again.scores, found.scores)
    assert again.concept_set == found.concept_set
    assert again.maps[0] == found.maps[0] and again.neighbours == found.neighbours
    assert job(config, store, lambda stage, share: None).maps == again.maps
    with pytest.raises(LabError, match="has no first layer"):
        replace(found, maps=()).scores_at("first layer", "all")


def test_a_word_is_read_at_its_last_token_and_nothing_after_it():
    from transformers import AutoTokenizer

    from lab.pipelines.compare import resolve_model

    tokenizer = AutoTokenizer.from_pretrained(resolve_model("hearth-a"))
    one = Category("x", ("porridge",), ("I hate {word} today.", "Oh, {word}!"), phrase="the {word}")
    for frame, place in ((0, "user"), (1, "system")):
        context = replace(one, place=place).context("porridge", frame)
        assert context.text[context.start : context.end] == "porridge"
        chat, ids = place_word(tokenizer, context)
        assert tokenizer.decode(ids).strip() == "porridge"
        assert tokenizer.decode(chat.ids).endswith("the porridge")
        assert chat.ids[-len(ids) :].tolist() == ids.tolist()


def test_sets_are_found_by_name_and_deep_models_are_thinned():
    assert resolve_concepts("auto", ["hearth", "hearth"]).name == "hearth"
    assert resolve_concepts("auto", ["hearth", None]).name == "words"
    assert resolve_concepts("auto", [None, None]).name == "words"
    with pytest.raises(LabError, match="neither a file nor one of hearth, words"):
        resolve_concepts("nothing", [])
    assert kept_blocks(6) == tuple(range(6))
    deep = kept_blocks(80)
    assert (len(deep), deep[0], deep[-1]) == (12, 0, 79)
    assert ConceptSet("x", (Category("a", ("b",), ("c {word}",)),)).shared_frames
