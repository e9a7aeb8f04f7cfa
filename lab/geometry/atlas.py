"""Do two models put the same concepts in corresponding places? Within categories too, and concept by concept.

Concepts take the place of scaffolds and sentence frames that of questions, so the measures of
`lab.geometry.similarity` serve. Words of one category are alike in every model: `within` looks only at pairs
inside a category, and labels are permuted there, so that what is left is about the concepts.

A concept's *landing* is its mean state over frames. Maps are fitted on other concepts (folds, drawn within
categories) in one half of the frames, and predict the held-out concepts in the other half; every mean that
is subtracted is over the training concepts.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from lab.geometry.fits import PENALTIES
from lab.geometry.grids import Gram, Measure, Orders, Relations, Weights, gram, unit_relations
from lab.geometry.neighbours import membership
from lab.geometry.rsa import distances
from lab.records import LabError

Codes = Int[ndarray, " concept"]
Source = Float[ndarray, "concept d_source"]
Train = Int[ndarray, " train"]
Apart = Float[ndarray, "concept concept"]
FOLDS = 5
"""Folds of concepts; a map is fitted for every fold and every pair of folds, on at least three fifths of them."""


def groups(codes: Codes) -> list[Int[ndarray, " member"]]:
    """The concepts of each category."""
    return [np.flatnonzero(codes == c) for c in np.unique(codes)]


# ------------------------------------------------------------------ agreement within categories


def within(codes: Codes) -> Callable[[Measure], Measure]:
    """Makes a measure look only at pairs of concepts of one category.

    Its value is the mean over categories of the measure on that category alone, weighed by pairs, so 0 is the
    mean over all relabelings inside categories, and what a category's words share (their frames, too, if these
    are the category's own) is gone. Raises LabError for a category that is too small for the measure.
    """
    members = groups(codes)
    pairs = np.array([len(m) * (len(m) - 1) for m in members], dtype=np.float64)
    shares = pairs / pairs.sum()

    def of(measure: Measure) -> Measure:
        least = min(len(m) for m in members)
        if least < measure.least:
            raise LabError(
                f"expected at least {measure.least} concepts in every category for {measure.name}, got {least}; add words"
            )

        def relate(whole: Gram) -> Relations:
            parts = [
                np.sqrt(share) * unit_relations(measure.relate(_block(whole, m)))
                for share, m in zip(shares, members, strict=True)
            ]
            found = np.zeros((len(whole), len(whole), parts[0].shape[2]))
            for m, part in zip(members, parts, strict=True):
                found[m[:, None], m] = part
            return found

        def resampled(a: Gram, b: Gram, weights: Weights) -> Float[ndarray, " draw"]:
            each = (measure.resampled(_block(a, m), _block(b, m), weights) for m in members)
            return np.asarray(sum(s * x for s, x in zip(shares, each, strict=True)))

        return Measure(measure.name, relate, resampled, measure.step_up, measure.least)

    return of


def _block(
    whole: Gram, members: Int[ndarray, " member"]
) -> Float[ndarray, "member question member question"]:
    return whole[members][:, :, members]


def relabelings_within(codes: Codes, draws: int, rng: np.random.Generator) -> Orders:
    """Uniform random permutations of the concepts that keep every category together."""
    orders = np.tile(np.arange(len(codes)), (draws, 1))
    for m in groups(codes):
        orders[:, m] = m[np.argsort(rng.random((draws, len(m))), axis=1)]
    return orders


# ------------------------------------------------------------------ maps


@dataclass(frozen=True)
class Landings:
    """Landings of source and target: x, y in the frames that maps are fitted on, x_test, y_test in the others."""

    x: Float[ndarray, "concept d_source"]
    y: Float[ndarray, "concept d_target"]
    x_test: Float[ndarray, "concept d_source"]
    y_test: Float[ndarray, "concept d_target"]

    def ceiling(self) -> "Landings":
        """The target predicted from itself in the other half of the frames: no noise of a frame is shared."""
        return Landings(self.y, self.y_test, self.y, self.y_test)

    def back(self) -> "Landings":
        """The other way."""
        return Landings(self.y, self.x, self.y_test, self.x_test)


@dataclass(frozen=True)
class HeldOut:
    """Per pairing and concept of the source: squares of residual and target, cosine, rank (1 nearest, ties halved)."""

    residual: Float[ndarray, "draw concept"]
    total: Float[ndarray, "draw concept"]
    cosine: Float[ndarray, "draw concept"]
    rank: Float[ndarray, "draw concept"]

    @property
    def r2(self) -> Float[ndarray, "draw concept"]:
        """1 - residual / total of every concept; NaN for a target that lies on the mean."""
        return 1 - self.residual / np.where(self.total > 0, self.total, np.nan)

    @property
    def pooled(self) -> Float[ndarray, " draw"]:
        """1 - residual / total over all concepts."""
        return 1 - self.residual.sum(axis=1) / self.total.sum(axis=1)

    def within_rank(self, most: int) -> Float[ndarray, " draw"]:
        """Share of concepts of at most that rank."""
        return (self.rank <= most).mean(axis=1)


def draw_folds(codes: Codes, number: int, rng: np.random.Generator) -> Codes:
    """The fold of every concept; folds hold equally many of each category, up to one.

    Raises LabError where a category has too few concepts to be left without two folds.
    """
    fold, start = np.zeros(len(codes), dtype=np.int64), 0
    for m in groups(codes):
        if len(m) < number:
            raise LabError(f"expected at least {number} concepts in every category, got {len(m)}; add words")
        fold[rng.permutation(m)] = (start + np.arange(len(m))) % number
        start += len(m)
    return fold


def held_out(data: Landings, centre: Codes, fold: Codes, orders: Orders) -> HeldOut:
    """Predict the concepts of each fold from those of the others, source s paired with target orders[draw, s].

    Ridge regression; the penalty is chosen by leaving out one training concept at a time, in closed form, means
    included. centre: concepts of equal number have the mean of their training concepts subtracted and are each
    other's candidates in the ranking (zeros: all of them; categories: within the category); `orders` must keep
    these numbers. A map leans towards what it was fitted on, so a concept is ranked against those of another
    fold by a map fitted without either fold. On unrelated models the mean rank is then (candidates + 1) / 2, but
    first places are rarer than 1 / candidates, for a concept has to win under several maps: use the null.
    Raises LabError for states that are not finite or do not depend on the word.
    """
    if not all(np.isfinite(side).all() for side in (data.x, data.y, data.x_test, data.y_test)):
        raise LabError("expected finite landings, got NaN or infinite ones; read the model in float32")
    source, target = _products(data.x, data.x_test), _products(data.y, data.y_test)
    if not all(np.trace(side) > 0 for p in (source, target) for side in (p.fit, p.test)):
        raise LabError("expected concepts that differ, got states that do not depend on the word")
    found = HeldOut(*(np.zeros(orders.shape) for _ in range(4)))
    found.rank[:] = 1.0
    names = np.unique(fold).tolist()
    for f, g in ((f, g) for f in names for g in names if f <= g):
        train = np.flatnonzero((fold != f) & (fold != g))
        fit = _fit(source, train, centre)
        sides = ((f, f),) if f == g else ((f, g), (g, f))
        for draw, order in enumerate(orders):
            dot, length, own = fit(target.paired(order))
            near = dot / np.maximum(length[:, None] * np.sqrt(own), 1e-300)
            for mine, theirs in sides:
                test = np.flatnonzero(fold == mine)
                rivals = (fold == theirs) & (centre[test][:, None] == centre)
                found.rank[draw, test] += _lost(near, test, rivals)
            if f == g:
                at = np.flatnonzero(fold == f)
                found.total[draw, at] = own[at]
                found.residual[draw, at] = own[at] - 2 * dot[at, at] + length[at] ** 2
                found.cosine[draw, at] = near[at, at]
    return found


@dataclass(frozen=True)
class _Products:
    """Inner products of a side's landings: in the frames of the fit, across, in the others; [test or fit, fit or test]."""

    fit: Apart
    across: Apart
    test: Apart

    def paired(self, order: Int[ndarray, " concept"]) -> "_Products":
        """Concept order[s] in the place of s."""
        return _Products(*(side[order][:, order] for side in (self.fit, self.across, self.test)))


def _products(states: Source, test: Source) -> _Products:
    one, other = states - states.mean(axis=0), test - test.mean(axis=0)
    return _Products(one @ one.T, other @ one.T, other @ other.T)


def _around(products: Apart, train: Train, centre: Codes) -> Apart:
    """Products of states relative to the mean of the training concepts of their group, on both sides."""
    found = products.copy()
    for m in groups(centre):
        found[m] -= found[np.intersect1d(m, train)].mean(axis=0)
    for m in groups(centre):
        found[:, m] -= found[:, np.intersect1d(m, train)].mean(axis=1, keepdims=True)
    return found


Fitted = tuple[Apart, Float[ndarray, " concept"], Float[ndarray, " concept"]]


def _fit(source: _Products, train: Train, centre: Codes) -> Callable[[_Products], Fitted]:
    """A function of the target: <mapped s, own t> of all concepts, |mapped s|, |own t|^2, in the test frames.

    Left out one at a time, the residual of a concept is its residual over 1 - its leverage, group means being
    part of the fit (Cook & Weisberg 1982, sec. 2.2): rows of (J - H) / diag(J - H), J the centring in groups.
    """
    inside = _around(source.fit, train, centre)[np.ix_(train, train)]
    new = _around(source.across, train, centre)[:, train]
    centring = _around(np.eye(len(centre)), train, centre)[np.ix_(train, train)]
    size, vectors = np.linalg.eigh(inside)
    size = np.maximum(size, 0.0)
    weights, losses = [], []
    for penalty in PENALTIES * max(size[-1], 1e-300):
        inverse = (vectors / (size + penalty)) @ vectors.T
        rest = centring - inside @ inverse
        rest /= np.diagonal(rest)[:, None]
        weights.append(new @ inverse)
        losses.append((rest.T @ rest).ravel())
    stack = np.stack(losses)

    def join(target: _Products) -> Fitted:
        kernel = _around(target.fit, train, centre)[np.ix_(train, train)]
        weight = weights[int(np.argmin(stack @ kernel.ravel()))]
        dot = weight @ _around(target.across, train, centre)[:, train].T
        length = np.sqrt(np.maximum(((weight @ kernel) * weight).sum(axis=1), 0.0))
        return dot, length, np.maximum(np.diagonal(_around(target.test, train, centre)), 0.0)

    return join


def _lost(
    near: Apart, test: Int[ndarray, " test"], rivals: Bool[ndarray, "test concept"]
) -> Float[ndarray, " test"]:
    """How many rivals are nearer than the own landing, a tie counting half."""
    own = near[test, test][:, None]
    apart_by = near[test] - own
    apart_by[np.arange(len(test)), test] = -np.inf
    return ((apart_by > 1e-12) & rivals).sum(axis=1) + 0.5 * ((np.abs(apart_by) <= 1e-12) & rivals).sum(
        axis=1
    )


# ------------------------------------------------------------------ neighbours


def apart(states: Float[ndarray, "concept frame d_model"]) -> Apart:
    """Crossnobis distances between concepts over frames, in units of their root mean square.

    One frame (an embedding, which knows no frames): plain squared distances. Raises LabError where concepts
    do not differ.
    """
    cells = np.repeat(states, 2, axis=1) if states.shape[1] == 1 else states
    found = distances(gram(cells))
    size = np.sqrt((found**2).sum() / (len(found) * (len(found) - 1)))
    if not size > 0:
        raise LabError("expected concepts that differ, got states that do not depend on the word")
    return found / size


def nearest(found: Apart, k: int) -> Int[ndarray, "concept k"]:
    """The k nearest concepts of each, nearest first; ties in the order of the concepts."""
    away = found.copy()
    np.fill_diagonal(away, np.inf)
    return np.argsort(away, axis=1, kind="stable")[:, :k]


@dataclass(frozen=True)
class Overlap:
    """Share of the k nearest that two models have in common, and its null: B relabeled by each of the orders.

    purity_a, purity_b: share of the k nearest that are of the concept's own category.
    """

    shared: Float[ndarray, " concept"]
    null: Float[ndarray, "draw concept"]
    purity_a: Float[ndarray, " concept"]
    purity_b: Float[ndarray, " concept"]


def overlap(a: Apart, b: Apart, codes: Codes, k: int, orders: Orders) -> Overlap:
    """Common neighbours of every concept; ties at the border share the place. LabError for k beyond n - 2."""
    if not 1 <= k <= len(a) - 2:
        raise LabError(f"expected between 1 and {len(a) - 2} neighbours of {len(a)} concepts, got {k}")
    one, other = membership(a[None], k)[0], membership(b[None], k)[0]
    same = codes[:, None] == codes
    null = [(one * other[order][:, order]).sum(axis=1) / k for order in orders]
    return Overlap(
        (one * other).sum(axis=1) / k,
        np.stack(null),
        (one * same).sum(axis=1) / k,
        (other * same).sum(axis=1) / k,
    )
