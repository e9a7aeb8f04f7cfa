"""Untrained twins: words alone make networks agree, and beside twins that is no finding."""

from dataclasses import replace

import numpy as np
import pytest

from experiments import random_weights
from lab.geometry.cka import CKA
from lab.geometry.fits import procrustes, ridge
from lab.geometry.grids import relabelings
from lab.geometry.maps import map_score
from lab.geometry.similarity import choose_layers, paired_grams, similarity
from lab.geometry.untrained import chosen_layers, control, map_table, similarities, why_not
from lab.models import untrained
from lab.records.geometry import StateGrid
from lab.records.similarity import NO_LAYER
from lab.store import Store

SPLITS = {"extract": 4, "select": 4, "test": 6}


def grids(rng, words, k, side, learnt=None, width=20, scaffolds=9, noise=2.5):
    """Per split k networks of one side that see `words` [scaffold, r] each in its own way; the first also knows
    `learnt`."""
    found = {}
    for split, n in SPLITS.items():
        found[split] = []
        for network in range(k):
            rng_net = np.random.default_rng([7, side, network])
            places = words if learnt is None or network else np.hstack([words, 3 * learnt])
            embed = rng_net.normal(size=(places.shape[1], width))
            x = (places @ embed)[:, None, None, None] + noise * rng.normal(size=(scaffolds, 1, n, 2, width))
            names, asked = tuple(f"s{i}" for i in range(scaffolds)), tuple(f"{split} {i}" for i in range(n))
            found[split].append(StateGrid("ab"[side], f"{side} {network}", "spawn", split, names, asked, x))
    return found


def both(a, b):
    return {split: (a[split], b[split]) for split in SPLITS}


def test_what_words_give_is_no_finding_and_what_is_learnt_beyond_them_is():
    rng = np.random.default_rng(0)
    words, learnt = rng.normal(size=(9, 3)), rng.normal(size=(9, 4))
    plain = both(grids(rng, words, 5, 0), grids(rng, words, 5, 1))
    first = [plain[s][0][0] for s in SPLITS], [plain[s][1][0] for s in SPLITS]
    orders = relabelings(9, 99, rng)
    choosing, telling = (paired_grams(first[0][k], first[1][k]) for k in (1, 2))
    permuted = similarity(telling, CKA, choose_layers(choosing, CKA, orders), rng, 20)[0]
    assert permuted.p == 0.01, "above chance by the words alone"
    beside = control(
        "CKA", similarities(chosen_layers(plain["select"], CKA), plain["test"], CKA), plain["test"]
    )
    assert beside.value == pytest.approx(permuted.value)
    assert beside.words > 0.5 and beside.p > 0.05
    knows = both(grids(rng, words, 5, 0, learnt), grids(rng, words, 5, 1, learnt))
    found = control(
        "CKA", similarities(chosen_layers(knows["select"], CKA), knows["test"], CKA), knows["test"]
    )
    assert (found.p, found.twins) == (1 / 25, 4)
    assert found.value > found.words_high >= found.words


@pytest.mark.parametrize("method", [ridge, procrustes], ids=lambda m: m.name)
def test_the_table_of_maps_holds_the_score_of_every_pair(method):
    rng = np.random.default_rng(1)
    made = both(
        grids(rng, rng.normal(size=(9, 3)), 3, 0), grids(rng, rng.normal(size=(9, 3)), 3, 1, width=12)
    )
    layers = rng.integers(0, 2, size=(3, 3, 2))
    layers[1, 2] = NO_LAYER
    table = map_table(made["extract"], made["test"], layers, method)
    assert np.isnan(table[1, 2])
    for i, j in [(i, j) for i, j in np.ndindex(3, 3) if (i, j) != (1, 2)]:
        train, test = ((made[s][0][i], made[s][1][j]) for s in ("extract", "test"))
        told = map_score([train], test, tuple(layers[i, j]), method, rng, 1)
        assert table[i, j] == pytest.approx(told.r2, abs=1e-9)


def test_a_failed_reply_leaves_its_question_out_everywhere():
    rng = np.random.default_rng(2)
    made = both(*(grids(rng, rng.normal(size=(9, 3)), 2, side) for side in (0, 1)))
    broken = made["test"][0][0].acts.copy()
    broken[3, 0, 2] = np.nan
    test = ([replace(made["test"][0][0], acts=broken), made["test"][0][1]], made["test"][1])
    assert control("CKA", similarities(chosen_layers(made["select"], CKA), test, CKA), test).questions == 5


def test_it_says_why_it_abstains():
    assert "no untrained twins" in why_not(9, {"test": 6}, 0)
    assert "4 scaffolds, and 5 are needed" in why_not(4, {"test": 6}, 4)
    assert "1 select questions" in why_not(9, {"select": 1, "test": 6}, 4)
    assert why_not(9, {"select": 2, "test": 6}, 4) == ""
    rng = np.random.default_rng(3)
    test = (
        grids(rng, rng.normal(size=(9, 3)), 2, 0)["test"],
        grids(rng, rng.normal(size=(9, 3)), 2, 1)["test"],
    )
    silent = control("CKA", np.full((2, 2), np.nan), test)
    assert silent.why and np.isnan(silent.p)


def test_a_twin_has_the_shape_and_not_the_weights_and_its_seed_says_which(loaded):
    model = loaded("llama")
    before = {k: v.clone() for k, v in model.network.state_dict().items()}
    one, again, other = (untrained(model, seed) for seed in (1, 1, 2))
    weights = [m.network.get_input_embeddings().weight for m in (model, one, again, other)]
    assert weights[0].shape == weights[1].shape
    assert weights[1].equal(weights[2])
    assert not weights[1].equal(weights[3]) and not weights[0].equal(weights[1])
    assert all(before[k].equal(v) for k, v in model.network.state_dict().items())
    assert len({m.identity.fingerprint for m in (model, one, again, other)}) == 3
    assert one.identity.fingerprint == again.identity.fingerprint


def test_the_experiment_gives_a_rate_for_every_test_it_names(tmp_path):
    config = random_weights.Config(pairs=1, twins=2, permutations=19, reply_tokens=2)
    rows = random_weights.main(config, tmp_path)
    named = {row["what"] for row in rows}
    assert {
        f"{p}, debiased CKA, {how}" for p in ("spawn", "reply_mean") for how in ("permuted", "beside twins")
    } <= named
    assert "spawn, shared map as the lab draws it" in named
    assert all(0 <= row["low"] <= row["rate"] <= row["high"] <= 1 and row["pairs"] == 1 for row in rows)
    assert Store(tmp_path / "runs").runs() == []
