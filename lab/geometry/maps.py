"""Does one model's state predict the other's? Scores of maps between two models, and what maps are for.

A state is the mean over the paraphrases of one scaffold, on one question, at one layer. Both sides are
*question-centred*: relative to the mean over scaffolds on the same question, because shared questions
alone make two models look alike. A map therefore carries displacements and has no intercept.

What is scored is held out twice. For each scaffold, a map (`ridge` or `procrustes` of `lab.geometry.fits`;
`relative` needs none) is fitted on the training questions (extract and select) of all other scaffolds, and
predicts that scaffold on the test questions; every mean that is subtracted is over the other scaffolds. The
fit's own R² says nothing: it is 1 on independent data as soon as there are as many coordinates as rows
(tests/test_maps.py).

The null pairs B's scaffolds, as whole blocks, with A's at random and fits again, choice of penalty or of
components included. Retrieval on independent data lies below 1 / scaffolds, for a map's image leans
towards the scaffolds that it was fitted on; the null has that in it.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from scipy import stats

from lab.geometry.fits import (
    Cells,
    Linear,
    Map,
    Method,
    Order,
    RawSource,
    RawTarget,
    centred,
    procrustes,
    ridge,
)
from lab.geometry.relative import relative
from lab.geometry.trajectories import Frame, frame_of
from lab.records import LabError
from lab.records.geometry import StateGrid, check_pair
from lab.records.maps import MapScore, SharedMap, SharedPoint
from lab.stats import MIN_CLUSTERS, cluster_weights, interval, upper_p

Pair = tuple[StateGrid, StateGrid]
Layers = tuple[int, int]

METHODS: tuple[Method, ...] = (ridge, procrustes, relative)
MIN_TRAIN = 3
"""Training questions below which a penalty cannot be chosen."""


def cells(train: Sequence[Pair], test: Pair, layers: Layers) -> Cells:
    """Join the training pairs (extract, select) and drop questions with a NaN in either model.

    Raises LabError where designs differ, or where the test questions are not apart from the training ones.
    """
    _check_design([test, *train])
    seen = [q for a, _ in train for q in a.questions]
    shared = sorted(set(test[0].questions) & set(seen))
    splits = [a.split for a, _ in train]
    if not seen or shared or len(set(seen)) < len(seen) or test[0].split in {"extract", *splits}:
        raise LabError(
            f"expected training questions and, on another split, test questions that no map was fitted on; got "
            f"{splits} to train, {test[0].split} to test and {shared[:3]} in both; fit on extract and select, "
            "report on test"
        )
    (x, y, lost), (x_test, y_test, lost_test) = _joined(train, layers), _joined([test], layers)
    return Cells(x, y, x_test, y_test, lost + lost_test)


def _check_design(pairs: Sequence[Pair]) -> None:
    for pair in pairs:
        check_pair(*pair)
        for mine, first in zip(pair, pairs[0], strict=True):
            got, expected = ((g.model, g.fingerprint, g.position, g.scaffolds) for g in (mine, first))
            if got != expected:
                raise LabError(f"expected states of {expected}, got {got}; read all questions on one design")


def _joined(pairs: Sequence[Pair], layers: Layers) -> tuple[RawSource, RawTarget, int]:
    """Both models' states on the questions of all pairs without a failed reply, and how many had one."""
    x, y = (
        np.concatenate([pair[side].at(layer) for pair in pairs], axis=2) for side, layer in enumerate(layers)
    )
    failed = _failed(x, y)
    return x[:, :, ~failed], y[:, :, ~failed], int(failed.sum())


def _failed(x: RawSource, y: RawTarget) -> Bool[ndarray, " train"]:
    """Questions on which some reply of either model failed."""
    return np.asarray(np.isnan(x).any(axis=(0, 1, 3)) | np.isnan(y).any(axis=(0, 1, 3)))


# ------------------------------------------------------------------ scores


def map_score(
    train: Sequence[Pair], test: Pair, layers: Layers, method: Method,
    rng: np.random.Generator, draws: int = 100,
) -> MapScore:  # fmt: skip
    """How well the first model of each pair predicts the second; `layers` of each.

    train: pairs on extract and select questions, test: on test questions. Abstains (NaN and `why`) below 5
    scaffolds or 3 training questions, without a test question, and where states do not depend on
    the scaffold. Raises LabError as `cells` does.
    """
    data = cells(train, test, layers)
    size = len(data.x)
    record = MapScore(
        method.name, test[0].model, test[1].model, *layers, test[0].position, test[0].split,
        size, data.x_test.shape[2], data.x.shape[2], data.dropped, _why_not(data), chance=1 / size,
    )  # fmt: skip
    if record.why:
        return record
    orders = np.stack([np.arange(size), *(rng.permutation(size) for _ in range(draws))])
    found = method.held_out(data, orders)
    weights = cluster_weights([np.arange(size)], 1000, rng)
    low, high = interval(1 - (weights @ found.residual[0]) / (weights @ found.total[0]), size)
    r2, hits = found.r2, found.hit.mean(axis=1)
    return replace(
        record, r2=float(r2[0]), low=float(low), high=float(high), null_high=float(np.quantile(r2[1:], 0.95)),
        p=upper_p(r2[0], r2[1:]), retrieval=float(hits[0]), retrieval_p=upper_p(hits[0], hits[1:]),
        null_retrieval=float(hits[1:].mean()), ceiling=method.ceiling(data), setting=float(np.median(found.setting[0])),
    )  # fmt: skip


def _why_not(data: Cells) -> str:
    size, train, test = len(data.x), data.x.shape[2], data.x_test.shape[2]
    if size < MIN_CLUSTERS:
        return (
            f"{size} scaffolds, and a pairing test needs {MIN_CLUSTERS} (8 or more is the aim): add scaffolds"
        )
    if train < MIN_TRAIN or test < 1:
        return (
            f"{train} training and {test} test questions without a failed reply ({data.dropped} dropped), "
            f"and a map needs {MIN_TRAIN} and 1: add questions"
        )
    sides = {"source": (data.x, data.x_test), "target": (data.y, data.y_test)}
    for what, raw in ((side, raw) for side, both in sides.items() for raw in both):
        if (centred(raw) ** 2).sum() <= 1e-12 * (raw.mean(axis=1) ** 2).sum():
            return f"the {what}'s states at this layer do not depend on the scaffold: there is nothing to map"
    return ""


def map_scores(
    train: Sequence[Pair], test: Pair, layers: Layers, rng: np.random.Generator,
    methods: Sequence[Method] = METHODS, draws: int = 100,
) -> tuple[MapScore, ...]:  # fmt: skip
    """`map_score` by every method, first from the first model to the second, then back."""
    there = (train, test, layers)
    back = ([(b, a) for a, b in train], (test[1], test[0]), (layers[1], layers[0]))
    return tuple(map_score(*way, method, rng, draws) for way in (there, back) for method in methods)


# ------------------------------------------------------------------ using a map


def fit_map(train: Sequence[Pair], layers: Layers, method: Method, order: Order | None = None) -> Map:
    """The map from the first model to the second on all training questions and scaffolds.

    order: pairs scaffold s of the first with order[s] of the second (a permuted map is the control for a
    carried direction). Raises LabError for `relative`, which has no linear part.
    """
    if not isinstance(method, Linear):
        raise LabError(
            f"expected a method with a linear part (ridge or procrustes), got {method.name}; relative "
            "coordinates compare two models and carry nothing"
        )
    _check_design(train)
    x, y, _ = _joined(train, layers)
    if x.shape[2] < MIN_TRAIN:
        raise LabError(
            f"expected {MIN_TRAIN} training questions without a failed reply, got {x.shape[2]}; add questions"
        )
    return method.fit(centred(x), centred(y), order)


def carry(fitted: Map, direction: Float[ndarray, " d_source"]) -> Float[ndarray, " d_target"]:
    """A direction of the source as a direction of the target, unit length, sign kept.

    It is carried as a displacement (what one adds to steer), not as a probe's weights. Raises LabError for
    another width, or where the map sends it to nothing.
    """
    if direction.shape != (fitted.left.shape[0],):
        raise LabError(
            f"expected a direction of width {fitted.left.shape[0]}, got the shape {direction.shape}"
        )
    image = fitted(direction.astype(np.float64))
    length = float(np.linalg.norm(image))
    if not length > 1e-12 * float(np.linalg.norm(direction)):
        raise LabError("expected a direction that the map carries somewhere, got one that it sends to 0")
    return image / length


def shared_map(
    train: Sequence[Pair], test: Pair, layers: Layers, score: MapScore,
    method: Linear = ridge, toward: str = "assistant",
) -> SharedMap:  # fmt: skip
    """Landings of both models on test questions in the plane of the second's own landings.

    Axes: first two principal components of the target's landings on the *training* questions, each turned so
    that `toward` (else the first scaffold by name) lies at its positive end. The target's landings stand
    beside the source's, carried over by the map that was fitted without that scaffold. Ellipses: 95 % over
    questions, fits kept: Hotelling's region for a mean of two coordinates, of which a bootstrap of the mean
    is an approximation from within. `score` is the `map_score` of the same method; no
    points unless its p is below .05 and its R² above 0. Raises LabError where it belongs to something else.
    """
    names = test[0].scaffolds
    toward = toward if toward in names else min(names)
    why = _why_no_map(test, layers, score, method)
    empty = SharedMap(test[0].model, test[1].model, method.name, toward, why)
    if why:
        return empty
    frame = shared_frame(train, test, layers, score, method, toward)
    x, y, _ = _joined([test], layers)
    points = tuple(
        _point(view.model, name, at)
        for view, raw in ((frame.target, y), (frame.source, x))
        for name, at in zip(names, view(raw.mean(axis=1)), strict=True)
    )
    share_x, share_y = frame.share.tolist()
    return replace(empty, points=points, share_x=share_x, share_y=share_y)


def shared_frame(
    train: Sequence[Pair], test: Pair, layers: Layers, score: MapScore,
    method: Linear = ridge, toward: str = "assistant",
) -> Frame:  # fmt: skip
    """The plane in which `shared_map` draws landings, for any state of either model.

    The places of a reply's tokens have the reply's landing as their mean. Raises LabError where `shared_map`
    draws nothing, with its reason, and where `score` belongs to something else.
    """
    why = _why_no_map(test, layers, score, method)
    if why:
        raise LabError(f"expected a map that may be drawn: {why}")
    names = test[0].scaffolds
    data = cells(train, test, layers)
    failed = _failed(*(grid.at(layer) for grid, layer in zip(test, layers, strict=True)))
    questions = [q for q, lost in zip(test[0].questions, failed, strict=True) if not lost]
    return frame_of(data, test, questions, layers, method, toward if toward in names else min(names))


def _why_no_map(test: Pair, layers: Layers, score: MapScore, method: Linear) -> str:
    expected = (method.name, test[0].model, test[1].model, *layers, test[0].position, test[0].split)
    got = (
        score.method, score.source, score.target, score.layer_source, score.layer_target, score.position, score.split
    )  # fmt: skip
    if got != expected:
        raise LabError(f"expected the score of {expected}, got that of {got}; score the map that is drawn")
    if score.p < 0.05 and score.r2 > 0:
        return ""
    return score.why or (
        f"held-out R² is {score.r2:.2f}, and random pairings reach {score.null_high:.2f} (p = {score.p:.2f}): "
        "there is no shared map to draw unless it beats these and 0"
    )


def _point(model: str, scaffold: str, at: Float[ndarray, "question 2"]) -> SharedPoint:
    n, (x, y) = len(at), at.mean(axis=0)
    if n < MIN_CLUSTERS:
        return SharedPoint(model, scaffold, float(x), float(y))
    size, turn = np.linalg.eigh(np.cov(at.T) / n)
    b, a = np.sqrt(np.maximum(size, 0.0) * stats.f.ppf(0.95, 2, n - 2) * 2 * (n - 1) / (n - 2))
    angle = float(np.degrees(np.arctan2(turn[1, 1], turn[0, 1])))
    angle = angle - 180 if angle > 90 else angle + 180 if angle <= -90 else angle
    return SharedPoint(model, scaffold, float(x), float(y), float(a), float(b), angle)
