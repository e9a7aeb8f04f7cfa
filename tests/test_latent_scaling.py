"""Latents of one model in another's states: shared, shrunk, weaker, specific and moved ones are told apart."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from lab.geometry.latent_scaling import Read, alone, latent_scales, together, verdict
from lab.records import LabError

WIDTH, LATENTS, TEXTS, LENGTH = 24, 40, 30, 40
TRUE = {"shared": 1.0, "weaker": 0.3, "shrunk": 0.35, "specific": 0.0}


def codes_of(rng, latents=LATENTS, tokens=TEXTS * LENGTH, rate=0.12):
    """Activations [token, latent], independent but for the pair 0 and 1, of which the second is on with the first."""
    codes = (rng.random((tokens, latents)) < rate) * rng.gamma(4.0, 0.5, (tokens, latents))
    codes[:, 1] = codes[:, 0] * rng.uniform(0.7, 1.3, tokens)
    return codes


def rows_of(rng, latents=LATENTS, size=1.0):
    """Decoder rows; the first two point alike, the second is `size` times as long."""
    rows = rng.normal(size=(latents, WIDTH)) / np.sqrt(WIDTH)
    rows[1] = size * (0.7 * rows[0] + 0.7 * rows[1])
    return rows


def planted(rng, noise=0.3, size=1.0):
    """Two models that hold latents at the scales of TRUE; the dictionary reads small activations in B as none."""
    kinds = np.array([*TRUE] * (LATENTS // 4))
    kinds[:2] = ("shared", "specific")
    scale = np.array([TRUE[k] for k in kinds])
    rows, codes = rows_of(rng, size=size), codes_of(rng)
    a = codes @ rows + noise * rng.normal(size=(len(codes), WIDTH)) + 3.0
    b = (codes * scale) @ rows + noise * rng.normal(size=(len(codes), WIDTH)) - 2.0
    seen = np.where(kinds == "shrunk", 0.0, scale)
    text = np.repeat(np.arange(TEXTS), LENGTH)
    read = Read(csr_array(codes), csr_array(codes * seen), a.astype(np.float32), b.astype(np.float32), text)
    return read, rows, kinds, scale


@pytest.fixture(scope="module")
def found():
    rng = np.random.default_rng(0)
    read, rows, kinds, scale = planted(rng)
    return latent_scales(read, rows, rng), kinds, scale


def test_every_kind_is_told(found):
    latents, kinds, _ = found
    assert [x.feature for x in latents] == list(range(LATENTS))
    right = [x.verdict == kind for x, kind in zip(latents, kinds, strict=True)]
    assert np.mean(right) >= 0.95
    assert {x.verdict for x in latents} <= {*TRUE, "cannot tell"}
    assert not [x for x, k in zip(latents, kinds, strict=True) if k == "shrunk" and x.verdict == "specific"]


def test_scales_come_back_with_intervals_that_hold_them(found):
    latents, _, scale = found
    nu = np.array([x.nu for x in latents])
    np.testing.assert_allclose(nu, scale, atol=0.1)
    np.testing.assert_allclose([x.beta_a for x in latents], 1.0, atol=0.1)
    held = [x.low <= s <= x.high for x, s in zip(latents, scale, strict=True)]
    assert np.mean(held) >= 0.85
    assert all(x.null_high < 0.3 for x in latents)


def test_activity_alone_would_call_shrunk_latents_specific(found):
    latents, kinds, _ = found
    silent = {k for x, k in zip(latents, kinds, strict=True) if x.ratio < 0.2}
    assert silent == {"shrunk", "specific"}


def test_latents_that_fire_together_count_for_each_other_only_when_fitted_alone(found):
    latents, kinds, _ = found
    assert kinds[1] == "specific" and abs(latents[1].nu) < 0.1
    assert latents[1].alone > 0.3, "its neighbour is shared, fires with it and points alike"
    assert latents[1].verdict == "specific"
    rng = np.random.default_rng(8)
    read, rows, *_ = planted(rng, size=0.4)
    nearly = latent_scales(read, rows, rng)[1]
    assert abs(nearly.nu) < 0.2 and nearly.alone > 0.5
    assert nearly.verdict == "decoupled", "its neighbour carries it, so nobody may say that B lacks it"


def test_without_noise_the_fit_is_exact_and_agrees_with_a_dense_least_squares():
    rng = np.random.default_rng(1)
    rows, codes = rows_of(rng, 8), codes_of(rng, 8, 120)
    scale = rng.uniform(-0.5, 1.5, 8)
    a, b = codes @ rows + 1.0, (codes * scale) @ rows - 4.0
    fit = together(csr_array(codes), rows, a, b)
    np.testing.assert_allclose(fit.a, 1.0, atol=1e-4)
    np.testing.assert_allclose(fit.nu, scale, atol=1e-4)
    noisy = b + rng.normal(size=b.shape)
    design = np.stack([np.outer(codes[:, j] - codes[:, j].mean(), rows[j]).ravel() for j in range(8)], axis=1)
    slow = np.linalg.lstsq(design, (noisy - noisy.mean(axis=0)).ravel(), rcond=None)[0]
    np.testing.assert_allclose(together(csr_array(codes), rows, a, noisy).b, slow, atol=1e-4)
    target = (noisy - noisy.mean(axis=0)).ravel()
    one = [np.linalg.lstsq(design[:, [j]], target, rcond=None)[0][0] for j in range(8)]
    np.testing.assert_allclose(alone(csr_array(codes), rows, a, noisy).b, one)


def test_rotation_and_the_scale_of_rows_do_not_matter():
    rng = np.random.default_rng(2)
    read, rows, *_ = planted(rng)
    turn = np.linalg.qr(rng.normal(size=(WIDTH, WIDTH)))[0]
    base = together(read.codes_a, rows, read.a, read.b)
    turned = together(read.codes_a, rows @ turn, read.a @ turn, read.b @ turn)
    np.testing.assert_allclose(turned.b, base.b, atol=1e-5)
    np.testing.assert_allclose(together(read.codes_a, 2 * rows, read.a, read.b).nu, base.nu, atol=1e-5)


def test_a_model_against_itself_shares_everything_and_other_states_share_nothing():
    rng = np.random.default_rng(3)
    read, rows, *_ = planted(rng)
    same = latent_scales(Read(read.codes_a, read.codes_a, read.a, read.a, read.text), rows, rng)
    assert {x.verdict for x in same} == {"shared"}
    np.testing.assert_allclose([x.nu for x in same], 1.0)
    silent = csr_array(read.codes_a.shape)
    apart = latent_scales(
        Read(read.codes_a, silent, read.a, rng.normal(size=read.b.shape), read.text), rows, rng
    )
    assert np.mean([x.verdict == "specific" for x in apart]) > 0.9
    assert not [x for x in apart if x.verdict == "shrunk" and x.nu > 0.3]


def test_the_null_keeps_its_promise():
    rng = np.random.default_rng(4)
    read, rows, *_ = planted(rng)
    b = rng.normal(size=read.b.shape)
    found = latent_scales(Read(read.codes_a, read.codes_a, read.a, b, read.text), rows, rng, shifts=60)
    above = np.mean([abs(x.nu) > x.null_high for x in found])
    assert above < 0.2, "95 % points of |nu| by chance"


def test_words_follow_from_the_numbers():
    nan = float("nan")
    for numbers, words in (
        ((0.0, 0.05, -0.1, 0.2, 0.1, 0.1, 0.001), "specific"),
        ((0.8, 0.05, -0.1, 0.2, 0.1, 0.1, 0.001), "moved"),
        ((0.0, 0.05, -0.1, 0.2, 0.6, 0.1, 0.001), "decoupled"),
        ((0.0, 0.05, -0.1, 0.2, 0.1, 0.1, 0.2), "cannot tell"),
        ((0.1, 0.4, 0.3, 0.6, 0.1, 0.1, 0.2), "shrunk"),
        ((0.1, 0.1, -0.5, 0.7, 0.1, 0.1, 0.2), "cannot tell"),
        ((0.9, 0.9, 0.8, 1.0, 0.9, 0.1, 1.0), "shared"),
        ((0.5, 0.4, 0.35, 0.45, 0.4, 0.1, 0.01), "weaker"),
        ((0.5, 0.5, 0.4, 0.6, 0.4, 0.1, 0.5), "cannot tell"),
        ((0.5, nan, nan, nan, 0.4, 0.1, nan), "cannot tell"),
    ):
        assert verdict(*numbers) == words


def test_a_latent_that_a_itself_does_not_hold_gets_no_verdict():
    rng = np.random.default_rng(7)
    read, rows, *_ = planted(rng)
    a = read.a - np.outer(read.codes_a.toarray()[:, 5], rows[5]).astype(np.float32)
    found = latent_scales(Read(read.codes_a, read.codes_b, a, read.b, read.text), rows, rng)
    assert found[5].verdict == "cannot tell" and abs(found[5].beta_a) < 0.1 and np.isnan(found[5].nu)


def test_too_little_is_refused():
    rng = np.random.default_rng(5)
    read, rows, *_ = planted(rng)
    with pytest.raises(LabError, match="one tokenizer and one width"):
        Read(read.codes_a, read.codes_b, read.a, read.b[:, :5], read.text)
    with pytest.raises(LabError, match="expected at least 5 texts, got 1"):
        latent_scales(Read(read.codes_a, read.codes_b, read.a, read.b, read.text * 0), rows, rng)
    nothing = csr_array(read.codes_a.shape)
    with pytest.raises(LabError, match="no latent is active in 5 of 30 texts"):
        latent_scales(Read(nothing, nothing, read.a, read.b, read.text), rows, rng)


def test_latents_that_a_rarely_activates_are_left_out():
    rng = np.random.default_rng(6)
    read, rows, *_ = planted(rng)
    codes = read.codes_a.toarray()
    codes[4 * LENGTH :, 7] = 0.0
    found = latent_scales(Read(csr_array(codes), read.codes_b, read.a, read.b, read.text), rows, rng)
    assert 7 not in [x.feature for x in found] and len(found) == LATENTS - 1
