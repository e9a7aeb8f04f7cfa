"""Weight changes: of the size that was asked, of the rank that was asked, and in a copy."""

import numpy as np
import pytest

from lab.models import fingerprint_of, fresh, matrices, read_checkpoint, wire, with_matrices
from lab.pipelines.claim_landings import Landings
from lab.pipelines.weight_change import displacement, distance, drawn, led
from lab.records import LabError
from lab.weights import gaussian, low_rank, moved, norms, relative_size, sized, towards, unlike

SHAPES = {"square": (12, 12), "wide": (3, 40), "experts": (5, 8, 16)}


@pytest.fixture
def weights():
    """A square matrix, a wide one, and five of a fused layer, of unlike norms."""
    rng = np.random.default_rng(0)
    return {name: 10.0**k * rng.normal(size=shape) for k, (name, shape) in enumerate(SHAPES.items())}


@pytest.mark.parametrize("draw", [gaussian, low_rank(2)], ids=["gaussian", "low rank"])
def test_every_matrix_changes_by_the_size_that_was_asked(weights, draw):
    after = moved(weights, draw, 0.03, np.random.default_rng(1))
    for name, weight in weights.items():
        np.testing.assert_allclose(norms(after[name] - weight) / norms(weight), 0.03)
    assert relative_size(weights, after) == pytest.approx(0.03)
    again, other = (moved(weights, draw, 0.03, np.random.default_rng(seed)) for seed in (1, 2))
    assert all(np.array_equal(after[n], again[n]) for n in weights)
    assert not any(np.array_equal(after[n], other[n]) for n in weights)


@pytest.mark.parametrize(("rank", "found"), [(1, 1), (4, 4), (50, 12)])
def test_low_rank_is_of_that_rank_and_a_gaussian_of_full_rank(weights, rank, found):
    rng = np.random.default_rng(3)
    assert np.linalg.matrix_rank(low_rank(rank)(weights["square"], rng)) == found
    assert np.linalg.matrix_rank(low_rank(rank)(weights["experts"], rng)).tolist() == [min(rank, 8)] * 5
    assert np.linalg.matrix_rank(gaussian(weights["square"], rng)) == 12


def test_a_random_change_prefers_no_direction(weights):
    draws = np.stack([gaussian(weights["square"], np.random.default_rng(k)) for k in range(400)])
    assert np.abs(draws.mean(axis=0)).max() < 0.25
    assert draws.std() == pytest.approx(1.0, abs=0.02)


def test_towards_another_model_points_there_and_by_the_whole_way_arrives(weights):
    rng = np.random.default_rng(4)
    other = moved(weights, gaussian, 0.2, rng)
    other["wide"] = weights["wide"].copy()  # one that training left alone
    some = towards(weights, other, 0.05)
    for name in ("square", "experts"):
        change, way = some[name] - weights[name], other[name] - weights[name]
        cosine = (change * way).sum() / np.sqrt((change**2).sum() * (way**2).sum())
        assert cosine > 0.999  # experts by one factor each
        np.testing.assert_allclose(towards(weights, other, 0.2)[name], other[name])
    assert np.array_equal(some["wide"], weights["wide"])


def test_what_cannot_be_changed_is_told(weights):
    other = {**weights, "square": np.ones((2, 2))}
    assert "(12, 12) in one model, (2, 2) in the other" in unlike(weights, other)
    assert "1 weights are in one model only, wide" in unlike(
        weights, {n: weights[n] for n in ("square", "experts")}
    )
    assert unlike(weights, weights) == ""
    with pytest.raises(LabError, match=r"\(2, 2\) in the other"):
        towards(weights, other, 0.1)
    with pytest.raises(LabError, match="0 or more, got -"):
        sized(weights["square"], weights["square"], -0.1)
    with pytest.raises(LabError, match="one architecture and size"):
        sized(np.ones((2, 2)), weights["square"], 0.1)
    with pytest.raises(LabError, match="rank of 1 or more, got 0"):
        low_rank(0)


# ------------------------------------------------------------------ checkpoints


@pytest.fixture(scope="module")
def source(checkpoint):
    return read_checkpoint(str(checkpoint("llama")))


def test_a_changed_checkpoint_is_another_model_and_the_first_stays(source):
    before = {n: w.copy() for n, w in matrices(source).items()}
    change = drawn(gaussian, 0.05, 0, "changed")
    one, again = change(source), change(source)
    assert relative_size(before, matrices(one)) == pytest.approx(0.05, rel=1e-4)
    assert all(np.array_equal(before[n], w) for n, w in matrices(source).items())
    assert fingerprint_of(source.network, source.tokenizer, source.dtype) == source.fingerprint
    assert one.fingerprint == again.fingerprint != source.fingerprint
    assert one.fingerprint != drawn(gaussian, 0.05, 1, "changed")(source).fingerprint
    assert distance(source, one) == pytest.approx(0.05, rel=1e-4)
    assert wire(one).identity.name == "changed"


def test_no_change_is_the_same_model_and_the_whole_way_is_the_other(source):
    other = drawn(low_rank(4), 0.1, 0, "next")(source)
    assert with_matrices(source, {}, "same").fingerprint == source.fingerprint
    arrived = led(matrices(other), 0.1, "arrived")(source)
    assert distance(other, arrived) < 1e-6


def test_gains_are_left_alone_and_a_tied_embedding_counts_once(source, checkpoint):
    assert not any("norm" in name for name in matrices(source))
    tied = matrices(read_checkpoint(str(checkpoint("llama", tie_word_embeddings=True))))
    assert sum(w.shape[0] == max(x.shape[0] for x in tied.values()) for w in tied.values()) == 1


def test_weights_that_do_not_fit_are_refused(source):
    with pytest.raises(LabError, match="no such weight"):
        with_matrices(source, {"nothing": np.ones((2, 2))}, "x")
    name = next(iter(matrices(source)))
    with pytest.raises(LabError, match=r"expected the shape \(\d+, \d+\), got \(2, 2\)"):
        with_matrices(source, {name: np.ones((2, 2))}, "x")


def test_a_fresh_checkpoint_has_the_shapes_and_other_weights(source):
    one, again, other = (fresh(source, seed) for seed in (1, 1, 2))
    weights = [matrices(c) for c in (source, one, again, other)]
    assert unlike(weights[0], weights[1]) == ""
    name = next(iter(weights[0]))
    assert np.array_equal(weights[1][name], weights[2][name])
    assert not np.array_equal(weights[1][name], weights[3][name])
    assert len({source.fingerprint, one.fingerprint, other.fingerprint}) == 3


# ------------------------------------------------------------------ displacement

TRAITS = ("warmth", "assistant")


def landings(L):
    """Landings [trait, scaffold, wording, question] without a model behind them."""
    names = tuple(f"s{i}" for i in range(L.shape[1]))
    cells = {(t, "reply_mean"): x for t, x in zip(TRAITS, L, strict=True)}
    return Landings("m", names, tuple("abcd"[: L.shape[3]]), TRAITS, cells, {}, None)  # type: ignore[arg-type]


def test_displacement_is_told_in_distances_of_two_wordings():
    rng = np.random.default_rng(6)
    scaffolds, wordings = rng.normal(size=(2, 60, 1, 1)), 0.2 * rng.normal(size=(2, 60, 3, 1))
    before = landings(scaffolds + wordings + np.zeros((2, 60, 3, 4)))
    rms = lambda x: np.sqrt((x**2).mean())  # noqa: E731
    same = displacement(before, before)
    assert not same.value.any() and same.lost == ()
    assert rms(same.wordings) == pytest.approx(1.0)
    unit = 0.2 * np.sqrt(2 * 2)
    shifted = displacement(before, landings(before_plus(before, 0.3)))
    np.testing.assert_allclose(shifted.value, np.sqrt(2) * 0.3 / unit, rtol=0.1)
    reworded = landings(scaffolds + 0.2 * rng.normal(size=(2, 60, 3, 1)) + np.zeros((2, 60, 3, 4)))
    assert rms(displacement(before, reworded).value) == pytest.approx(1.0, abs=0.1)


def before_plus(before, shift):
    return np.stack([before.L[t, "reply_mean"] for t in TRAITS]) + shift


def test_a_trait_without_a_unit_is_left_out_and_named_and_without_any_nothing_is_said():
    rng = np.random.default_rng(7)
    L = rng.normal(size=(2, 6, 3, 4))
    before, holed = landings(L), L + 0.5
    holed[1] = np.nan
    found = displacement(before, landings(holed))
    assert found.lost == ("assistant",)
    assert np.isfinite(found.value).all()
    holed[0] = np.nan
    assert np.isnan(displacement(before, landings(holed)).value).all()
    assert np.isnan(displacement(landings(L[:, :, :1]), landings(L[:, :, :1])).wordings).all()
