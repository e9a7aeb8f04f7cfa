"""Quality cards: planted traits are found, absent ones are not, at the rate that was promised."""

import numpy as np
import pytest
from scipy import stats

from lab.cards import auroc_interval, trait_cards, transfers
from lab.directions import Contrast
from lab.estimators import ESTIMATORS
from lab.stats import auroc

SPLITS = {"extract": 16, "select": 10, "test": 12}
POSITIONS = ("reply_mean", "spawn")


def planted(strength, rng, layers=3, d=12, scale=1.0):
    """Poles of a trait along one axis of layer 1, question effects on all, per pooling and split."""
    found = {}
    for position in POSITIONS:
        found[position] = {}
        for split, n in SPLITS.items():
            question = np.repeat(rng.normal(0, 2, (n, layers, d)), 2, axis=0)
            acts = question + rng.normal(0, scale, (2 * n, layers, d))
            up = np.tile([True, False], n)
            acts[up, 1, 0] += strength
            ids = np.repeat([f"{split}-{k}" for k in range(n)], 2)
            found[position][split] = Contrast(acts.astype(np.float32), up, ids, split)
    return found


def swapped(contrasts, rng):
    """The same states with the poles swapped in a random part of the questions, alike at all poolings."""
    found = {p: {} for p in contrasts}
    for split in SPLITS:
        ids = contrasts[POSITIONS[0]][split].questions
        flip = dict(zip(np.unique(ids), rng.random(len(np.unique(ids))) < 0.5, strict=True))
        turn = np.array([flip[q] for q in ids])
        for p in contrasts:
            c = contrasts[p][split]
            found[p][split] = Contrast(c.acts, c.positive ^ turn, c.questions, split)
    return found


def test_a_planted_trait_is_found_where_it_is():
    cards, alike = trait_cards(
        planted(6.0, np.random.default_rng(0)), np.random.default_rng(1), model="m", trait="t"
    )
    assert len(cards) == 8
    (best,) = [c for c in cards if c.selected]
    assert (best.estimator, best.position, best.layer) == ("mean_difference", "reply_mean", 1)
    assert best.auroc > 0.9
    assert best.p < 0.01
    assert best.low <= best.auroc <= best.high
    assert (best.n, best.questions) == (24, 12)
    assert len(alike) == 28
    same = [
        a.r for a in alike if {a.first, a.second} == {"mean_difference reply_mean", "paired_pca reply_mean"}
    ]
    assert same[0] > 0.9
    across = [
        a.r for a in alike if {a.first, a.second} == {"mean_difference reply_mean", "mean_difference spawn"}
    ]
    assert abs(across[0]) < 0.6, "two poolings with independent noise agree about nothing but the poles"


def test_another_pooling_is_taken_only_where_it_is_clearly_better():
    rng = np.random.default_rng(3)
    weak, strong = planted(0.5, rng), planted(8.0, rng)
    mixed = {"reply_mean": weak["reply_mean"], "spawn": strong["spawn"]}
    cards, _ = trait_cards(mixed, rng, model="m", trait="t")
    (best,) = [c for c in cards if c.selected]
    assert best.position == "spawn"


@pytest.mark.parametrize("strength", [0.0, pytest.param(6.0, marks=pytest.mark.slow)])
def test_under_permuted_labels_no_direction_is_found_more_often_than_promised(strength):
    """200 permuted extractions by all estimators, choice of recipe and layer included; 5 % significant."""
    rng, hits = np.random.default_rng(11), 0
    world = planted(strength, rng)
    for _ in range(200):
        cards, _ = trait_cards(swapped(world, rng), rng, model="m", trait="t")
        assert {c.estimator for c in cards} == set(ESTIMATORS)
        (best,) = [c for c in cards if c.selected]
        hits += best.p < 0.05
    low, high = stats.binom.interval(0.95, 200, 0.05)
    assert low <= hits <= high


def test_the_interval_of_an_auroc_holds_it_and_narrows_with_questions():
    def width(n):
        rng = np.random.default_rng(5)
        up = np.tile([True, False], n)
        value = rng.normal(0, 1, 2 * n) + up
        low, high = auroc_interval(value, up, np.repeat(np.arange(n), 2), rng)
        assert low < auroc(value[up], value[~up]) < high
        return high - low

    assert width(80) < 0.7 * width(12)


def ways(other_axis, rng):
    """A trait by instruction along axis 0 of layer 1, by scenario along `other_axis`."""
    told = planted(6.0, rng)
    shown = planted(0.0, rng)
    for contrasts in shown.values():
        for c in contrasts.values():
            c.acts[c.positive, 1, other_axis] += 6.0
    return {"instruction": told, "scenario": shown}


def carried(contrasts, rng):
    cards = [
        card
        for way, c in contrasts.items()
        for card in trait_cards(c, rng, model="m", trait="t", elicitation=way)[0]
    ]
    return {(t.made_by, t.read_on): t for t in transfers(contrasts, cards, rng)}


def test_a_direction_reads_the_other_elicitation_where_both_bring_out_the_same():
    found = carried(ways(0, np.random.default_rng(7)), np.random.default_rng(8))
    assert set(found) == {("instruction", "scenario"), ("scenario", "instruction")}
    for t in found.values():
        assert t.layer == 1
        assert t.auroc > 0.9 and t.p < 0.01 and t.cosine > 0.8
        assert t.low <= t.auroc <= t.high


def test_a_direction_does_not_read_the_other_elicitation_where_they_differ():
    found = carried(ways(5, np.random.default_rng(9)), np.random.default_rng(10))
    for t in found.values():
        assert 0.2 < t.auroc < 0.8 and abs(t.cosine) < 0.5
