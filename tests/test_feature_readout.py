"""Encoded replies compared, features taken out, scaffolds read out: planted differences come back, nothing else does."""

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch

from lab.features.contrast import Coded, by_question, coded, paired, reply_tokens
from lab.features.edits import AblateFeatures
from lab.features.load import Sae, load_sae
from lab.features.readout import Switched, falls, matching_of, places, switched, typical
from lab.features.stream import states
from lab.records import Direction, LabError, Site
from lab.records.feature_cards import FeatureTwin
from lab.stats import benjamini_hochberg, sign_flip
from lab.steering import steered

SAID = ("I am Ada.", "", "Yes, it is so, and it rains.", "Tea")


def save_sae(folder, model, rows, layer=1):
    """A dictionary with these orthonormal decoder rows that codes a state by what it has of each, above 0."""
    from sae_lens import StandardSAE, StandardSAEConfig
    from sae_lens.saes.sae import SAEMetadata

    about = SAEMetadata(
        model_name=model.identity.name, hook_name=f"blocks.{layer}.hook_out", lab_model=model.identity.path,
        lab_fingerprint=model.identity.fingerprint, lab_processed_weights=False, lab_corpus="hearth",
    )  # fmt: skip
    d = len(rows)
    module = StandardSAE(StandardSAEConfig(d_in=d, d_sae=d, apply_b_dec_to_input=False, metadata=about))
    matrix = torch.from_numpy(np.asarray(rows, np.float32))
    with torch.no_grad():
        module.W_dec.copy_(matrix)
        module.W_enc.copy_(matrix.T)
        module.b_enc.zero_()
        module.b_dec.zero_()
    module.save_model(folder)
    return folder


@pytest.fixture(scope="module")
def sae(loaded, tmp_path_factory) -> Sae:
    """Feature j is dimension j above 0."""
    model = loaded("llama")
    return load_sae(str(save_sae(tmp_path_factory.mktemp("sae") / "eye", model, np.eye(32))), model)


# ------------------------------------------------------------------ encoded replies


def test_replies_are_coded_over_their_own_tokens(loaded, sae):
    model = loaded("llama")
    rows = reply_tokens(model, ("You are Ada.", "", "", ""), ["Who are you?"] * 4, SAID)
    found = coded(sae, model, rows)
    assert np.isnan(found.mean[1]).all() and np.isnan(found.on[1]).all(), "nothing was said"
    for i, state in states(model, Site(1), rows):
        said = np.maximum(state.cpu().numpy()[rows[i].reply], 0)
        if i != 1:
            np.testing.assert_allclose(found.mean[i], said.mean(axis=0), atol=1e-5)
            np.testing.assert_allclose(found.on[i], (said > 0).mean(axis=0))
    asked = by_question(found.mean, np.array(["a", "b", "a", "c"]), ["c", "a", "b"])
    np.testing.assert_allclose(asked[1], (found.mean[0] + found.mean[2]) / 2)
    np.testing.assert_allclose(asked[0], found.mean[3])
    assert np.isnan(asked[2]).all()


def test_a_pair_of_conditions_is_tested_as_one_feature_after_another_would_be():
    rng = np.random.default_rng(0)
    for questions, tolerance in ((8, 1e-12), (30, 0.02)):
        one, other = rng.gamma(1.0, size=(2, questions, 12))
        one[:, 0] += 3.0
        one[:, 1], other[:, 1] = 0.0, 0.0
        one[3] = np.nan
        found = paired(one, other, rng)
        known = np.arange(questions) != 3
        slow = [sign_flip((one - other)[known, j], rng) for j in range(12)]
        np.testing.assert_allclose(found.p[2:], slow[2:], atol=tolerance)
        assert found.p[0] < 0.02 and np.isnan(found.p[1]), "a feature that never differs is no test"
        np.testing.assert_allclose(found.q, benjamini_hochberg(found.p))
        assert found.n == questions - 1
        assert ((found.low <= found.difference) & (found.difference <= found.high)).all()
        turned = paired(other, one, np.random.default_rng(1))
        np.testing.assert_allclose(turned.difference, -found.difference)


def test_few_questions_abstain_and_none_is_an_error():
    rng = np.random.default_rng(2)
    found = paired(rng.random((4, 3)), rng.random((4, 3)), rng)
    assert np.isnan([found.low, found.high, found.p, found.q]).all() and np.isfinite(found.difference).all()
    with pytest.raises(LabError, match="got none in common"):
        paired(np.full((4, 3), np.nan), rng.random((4, 3)), rng)


def test_false_discoveries_stay_as_rare_as_said_and_intervals_hold():
    rng = np.random.default_rng(3)
    wrong, held = [], []
    for _ in range(60):
        topic = rng.normal(size=(12, 1))
        one, other = (topic + rng.normal(size=(12, 20)) for _ in range(2))
        found = paired(one, other, rng, 300, 500)
        wrong.append((found.q < 0.05).any())
        held.append(((found.low <= 0) & (found.high >= 0)).mean())
    assert np.mean(wrong) < 0.15, "any false one among 20 features without a difference"
    assert 0.92 < np.mean(held) < 0.98


# ------------------------------------------------------------------ taken out


def along(model, layer=1):
    vector = np.eye(32, dtype=np.float32)[0]
    return Direction("t", Site(layer), "reply_mean", vector, 1.0, model.identity.fingerprint, "extract")


def test_features_are_taken_out_and_nothing_else(loaded, sae):
    model = loaded("llama")
    rows = reply_tokens(model, [""], ["Who are you?"], [SAID[0]])
    (_, plain), *_ = states(model, Site(1), rows)
    edit = AblateFeatures(along(model), (3, 5), "abc", sae)
    kept = []
    model.bridge.reset_hooks()
    with torch.no_grad(), steered(model, [edit]):
        hook = model.bridge.hooks(fwd_hooks=[("blocks.1.hook_out", lambda value, hook: kept.append(value))])
        with hook:
            model.network(input_ids=torch.from_numpy(rows[0].ids)[None])
    right = plain.numpy().copy()
    right[:, [3, 5]] = np.minimum(right[:, [3, 5]], 0)
    np.testing.assert_allclose(kept[0][0].numpy(), right, atol=1e-4)
    h = torch.randn(2, 3, 32)
    h[..., 7] = -1.0
    np.testing.assert_allclose(AblateFeatures(along(model), (7,), "abc", sae)(h, h), h, atol=1e-5)
    assert edit(h.bfloat16(), h).dtype == torch.bfloat16


def test_what_a_cache_key_is_made_of_holds_no_weights(loaded, sae):
    model = loaded("llama")
    one, other = (AblateFeatures(along(model), f, "abc", sae) for f in ((3,), (4,)))
    assert set(asdict(one)) == {"direction", "features", "digest"}
    assert asdict(one)["features"] != asdict(other)["features"]
    for wrong in ((), (32,), (-1,)):
        with pytest.raises(LabError, match="expected features from 0 to 31, at least one"):
            AblateFeatures(along(model), wrong, "abc", sae)
    with pytest.raises(LabError, match="expected a direction at layer 1"):
        AblateFeatures(along(model, 0), (1,), "abc", sae)


# ------------------------------------------------------------------ scaffolds


def replies(rng, level, questions=12, unit=1.0):
    """Two replies a question; features are on at `level` [feature] of the tokens."""
    share = np.clip(rng.normal(level, 0.05, (2 * questions, len(level))), 0, 1)
    return Coded(share * unit, share)


ASKED = [f"q{k}" for k in range(12)]
WHICH = np.array([q for q in ASKED for _ in range(2)])


def read(rng, level, neutral, unit=1.0):
    return switched(
        replies(rng, level, unit=unit), replies(rng, neutral, unit=unit), (WHICH, WHICH), ASKED, rng
    )


def test_a_scaffold_switches_what_was_planted_and_its_unit_does_not_matter():
    rng = np.random.default_rng(4)
    neutral = np.full(40, 0.3)
    level = neutral.copy()
    level[:3], level[3:5] = 0.7, 0.1
    for unit in (1.0, 50.0):
        found = read(rng, level, neutral, unit)
        assert found.sign[:5].tolist() == [1, 1, 1, -1, -1]
        assert np.abs(found.sign[5:]).sum() <= 2
        np.testing.assert_allclose(found.unit, unit)
        np.testing.assert_allclose(found.effect[:5], [0.4, 0.4, 0.4, -0.2, -0.2], atol=0.06)
    silent = Coded(np.zeros((4, 2)), np.zeros((4, 2)))
    assert np.isnan(typical(silent)).all()


def test_what_two_models_share_is_told_from_what_only_one_does():
    rng = np.random.default_rng(8)
    neutral = np.full(6, 0.3)
    here = read(rng, np.array([0.7, 0.7, 0.7, 0.7, 0.1, 0.3]), neutral)
    there = read(rng, np.array([0.3, 0.7, 0.1, 0.3, 0.1, 0.7]), neutral, 9.0)
    match = {0: 1, 1: 2, 2: 0, 4: 4, 5: 5}
    assert places(here, there, match) == ["common", "opposite", "only here", "no counterpart", "common", ""]


def test_a_noisy_match_is_no_evidence_of_absence():
    rng = np.random.default_rng(6)
    here = read(rng, np.array([0.6]), np.array([0.3]))
    share = np.clip(rng.normal(0.5, 0.4, (24, 1)), 0, 1)
    noisy = switched(Coded(share, share), Coded(share[::-1], share[::-1]), (WHICH, WHICH), ASKED, rng)
    assert noisy.sign[0] == 0 and places(here, noisy, {0: 0}) == ["cannot tell"]


def test_the_segment_that_holds_a_feature_up_is_found():
    rng = np.random.default_rng(7)
    neutral = np.full(8, 0.2)
    level = neutral.copy()
    level[[1, 6]] = 0.8
    on = read(rng, level, neutral, 3.0)

    def asked(change):
        return by_question(replies(rng, level + change, unit=3.0).mean, WHICH, ASKED)

    less = np.zeros((3, 8))
    less[0, 1] = less[2, 6] = -0.5
    found = falls(asked(0.0), [asked(change) for change in less], on, rng)
    assert found.features.tolist() == [1, 6] and found.n == (12, 12, 12)
    np.testing.assert_allclose(found.fall, [[0.5, 0], [0, 0], [0, 0.5]], atol=0.06)
    clear = found.q < 0.05
    assert clear[0, 0] and clear[2, 1] and clear.sum() <= 3
    nothing = falls(asked(0.0), [asked(0.0)], Switched(on.found, on.unit * np.nan), rng)
    assert np.isnan(nothing.fall).all()


def test_matches_are_those_that_beat_chance_both_ways_round():
    nan = float("nan")
    rows = [
        FeatureTwin(sae, f, relation, other, twin, 0.9, nan, nan, nan, q, q, 10)
        for sae, f, relation, other, twin, q in (
            ("a", 1, "model", "b", 7, 0.01), ("a", 2, "model", "b", 8, 0.4), ("a", 3, "model", "b", -1, nan),
            ("a", 4, "seed", "b", 9, 0.01), ("b", 7, "model", "a", 1, 0.01), ("b", 5, "model", "c", 1, 0.01),
        )
    ]  # fmt: skip
    assert matching_of(rows, "a", "b") == ({1: 7}, {7: 1})
    assert json.dumps(matching_of(rows, "a", "b")[0]) == '{"1": 7}'
