"""Linear maps from one model's question-centred states to the other's, each scaffold held out.

- `ridge`: least squares with an L2 penalty (Hoerl & Kennard 1970), in the dual, so that width is cheap. The
  penalty is chosen by leaving out one question at a time, in closed form (blocks of the hat matrix;
  Cook & Weisberg 1982, sec. 2.2, for single rows). `ridge_by_scaffold` leaves out one scaffold at a time
  instead, as the score does. Simulated pairs that share 2 of 8 dimensions (14 scaffolds, little noise) had
  R² −.35 with the first and .05 with the second, power .54 for both, and power of retrieval .33 and .04:
  the second says more soberly how much is predicted, the first keeps more of who is who.
- `procrustes`: both sides to k principal components, then a rotation and one scale (Schönemann 1966;
  Gower & Dijksterhuis 2004, ch. 4); k is chosen over folds of questions.

*Ceiling*: 1 − noise / total over B's test states, where noise is what a change of wording moves (variance
between paraphrases over their number), or, of a single paraphrase, everything but the scaffold's mean over
questions. A map can pass it where both models answer to the wording alike.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

Raw = Float[ndarray, "scaffold paraphrase question d_model"]
Source = Float[ndarray, "scaffold train d_source"]
Target = Float[ndarray, "scaffold train d_target"]
RawSource = Float[ndarray, "scaffold paraphrase train d_source"]
RawTarget = Float[ndarray, "scaffold paraphrase train d_target"]
States = Float[ndarray, "scaffold question d_model"]
Scores = Float[ndarray, "scaffold _ _"]
Order = Int[ndarray, " scaffold"]
Hat = Float[ndarray, "scaffold question scaffold question"]
LeftOut = Callable[[Hat], Float[ndarray, " pairs"]]

PENALTIES = 10.0 ** np.arange(-5, 2)
"""Candidate ridge penalties, as multiples of the largest eigenvalue of the training states."""
COMPONENTS = (2, 4, 8, 16, 32)
"""Candidate numbers of principal components for `procrustes`."""
FOLDS = 5
"""Folds of questions over which `procrustes` chooses."""


@dataclass(frozen=True)
class Cells:
    """States of two models at one layer each, without the questions on which a reply failed.

    x, y [scaffold, paraphrase, training question, d]: source and target; x_test, y_test on test questions.
    """

    x: RawSource
    y: RawTarget
    x_test: Float[ndarray, "scaffold paraphrase_test question d_source"]
    y_test: Float[ndarray, "scaffold paraphrase_test question d_target"]
    dropped: int


def others(states: States, left_out: int) -> Float[ndarray, "question d_model"]:
    """Mean over all scaffolds but one, per question."""
    return (states.sum(axis=0) - states[left_out]) / (len(states) - 1)


def centred(raw: Raw) -> States:
    """Mean over paraphrases, relative to the mean over all scaffolds on the question."""
    states = raw.mean(axis=1)
    return states - states.mean(axis=0)


def compact(
    train: Float[ndarray, "scaffold paraphrase train d_model"],
    test: Float[ndarray, "scaffold paraphrase_test question d_model"],
) -> tuple[Float[ndarray, "scaffold train k"], Float[ndarray, "scaffold question k"]]:
    """Centred states in coordinates of their own span: every inner product is kept, width is not."""
    both = np.concatenate([centred(train), centred(test)], axis=1)
    if both.shape[2] > both.shape[0] * both.shape[1]:
        rows = both.reshape(-1, both.shape[2])
        size, vectors = np.linalg.eigh(rows @ rows.T)
        both = (vectors * np.sqrt(np.maximum(size, 0.0))).reshape(*both.shape[:2], -1)
    return both[:, : train.shape[2]], both[:, train.shape[2] :]


# ------------------------------------------------------------------ linear maps


@dataclass(frozen=True)
class Map:
    """A linear map of displacements from source to target, kept in factors: left @ core @ right.

    left [d_source, k], core [k, m], right [m, d_target]; setting: what was chosen (penalty or components).
    """

    left: Float[ndarray, "d_source k"]
    core: Float[ndarray, "k m"]
    right: Float[ndarray, "m d_target"]
    setting: float

    def __call__(self, x: Float[ndarray, "*rest d_source"]) -> Float[ndarray, "*rest d_target"]:
        """Question-centred states of the source, carried over."""
        return x @ self.left @ self.core @ self.right

    @property
    def matrix(self) -> Float[ndarray, "d_source d_target"]:
        """The map in one piece."""
        return self.left @ self.core @ self.right


Join = Callable[[Any, Order], Map]


@runtime_checkable
class Method(Protocol):
    """A way to predict one model from the other."""

    @property
    def name(self) -> str:
        """As in records and figures."""
        ...

    def held_out(self, data: Cells, orders: Int[ndarray, "draw scaffold"]) -> "HeldOut":
        """Predict each scaffold from the others, the source's scaffold s paired with orders[draw, s]."""
        ...

    def ceiling(self, data: Cells) -> float:
        """R² within reach of a perfect prediction (docstring of its module)."""
        ...


@dataclass(frozen=True)
class HeldOut:
    """Per draw of a pairing and scaffold: sums of squares, whether its own landing was nearest, the setting."""

    residual: Float[ndarray, "draw scaffold"]
    total: Float[ndarray, "draw scaffold"]
    hit: Float[ndarray, "draw scaffold"]
    setting: Float[ndarray, "draw scaffold"]

    @property
    def r2(self) -> Float[ndarray, " draw"]:
        """1 − residual / total over all scaffolds."""
        return 1 - self.residual.sum(axis=1) / self.total.sum(axis=1)


@dataclass(frozen=True)
class Linear:
    """A method that fits a `Map`: join what only the source says with what only the target says.

    source(x) returns the join, target(y) what a join needs; join(target, order) pairs scaffold s of the
    source with order[s] of the target. Both sides come question-centred, [scaffold, question, d].
    Whatever is costly happens once per side, so a new pairing is cheap.
    """

    name: str
    source: Callable[[States], Join]
    target: Callable[[States], Any]

    def fit(self, x: Source, y: Target, order: Order | None = None) -> Map:
        """The map from x to y."""
        return self.source(x)(self.target(y), np.arange(len(x)) if order is None else order)

    def predictions(
        self, x: Source, y: Target, x_test: Float[ndarray, "scaffold question d_source"],
        orders: Int[ndarray, "draw scaffold"],
    ) -> Iterator[tuple[int, int, Float[ndarray, "question d_target"], float]]:  # fmt: skip
        """(draw, scaffold, its test states in the target relative to the others' mean, setting)."""
        targets = [self.target(np.delete(y, j, axis=0) - others(y, j)) for j in range(len(y))]
        for i in range(len(x)):
            join = self.source(np.delete(x, i, axis=0) - others(x, i))
            new = x_test[i] - others(x_test, i)
            rest = np.delete(orders, i, axis=1)
            for draw, (j, order) in enumerate(
                zip(orders[:, i], rest - (rest > orders[:, i : i + 1]), strict=True)
            ):
                fitted = join(targets[j], order)
                yield draw, i, fitted(new), fitted.setting

    def held_out(self, data: Cells, orders: Int[ndarray, "draw scaffold"]) -> HeldOut:
        """See `Method`."""
        (x, x_test), (y, y_test) = compact(data.x, data.x_test), compact(data.y, data.y_test)
        everyone = range(len(y))
        actual = np.stack([y_test[j] - others(y_test, j) for j in everyone])
        candidates = np.stack([(y_test - others(y_test, j)).mean(axis=1) for j in everyone])
        candidates /= np.maximum(np.linalg.norm(candidates, axis=2, keepdims=True), 1e-300)
        total = (actual**2).sum(axis=(1, 2))[orders]
        found = HeldOut(np.zeros(orders.shape), total, np.zeros(orders.shape), np.zeros(orders.shape))
        for draw, i, predicted, setting in self.predictions(x, y, x_test, orders):
            j = orders[draw, i]
            near = candidates[j] @ predicted.mean(axis=0)
            found.residual[draw, i] = ((actual[j] - predicted) ** 2).sum()
            found.hit[draw, i] = near.argmax() == j and near[j] != 0
            found.setting[draw, i] = setting
        return found

    def ceiling(self, data: Cells) -> float:
        """See `Method`: from variance components of B's test states."""
        raw = data.y_test
        scaffolds, paraphrases, questions, _ = raw.shape
        states = centred(raw)
        if paraphrases > 1:
            within = ((raw - raw.mean(axis=1, keepdims=True)) ** 2).sum()
            noise = within / (scaffolds * questions * (paraphrases - 1)) / paraphrases
        elif questions > 1:
            rest = states - states.mean(axis=1, keepdims=True)
            noise = (rest**2).sum() / ((scaffolds - 1) * (questions - 1))
        else:
            return float("nan")
        # A state minus the mean of the others has S / (S − 1) of a state's own noise and S / (S − 1) times
        # its distance from the mean of all.
        far = scaffolds / (scaffolds - 1)
        return float(1 - noise * far / (far**2 * (states**2).sum() / (scaffolds * questions)))


def _ridge_source(x: States, left_out: LeftOut) -> Join:
    scaffolds, questions, width = x.shape
    rows = x.reshape(-1, width)
    size, vectors = np.linalg.eigh(rows @ rows.T)
    keep = size > 1e-12 * max(size[-1], 1e-300)
    size, vectors = size[keep], vectors[:, keep]
    penalties = PENALTIES * (size[-1] if len(size) else 1.0)
    hats = (
        ((vectors * (size / (size + a))) @ vectors.T).reshape(*x.shape[:2], *x.shape[:2]) for a in penalties
    )
    errors = np.stack([left_out(hat) for hat in hats])
    left = rows.T @ vectors

    def join(target: tuple[States, Hat], order: Order) -> Map:
        y, gram = target
        chosen = int(np.argmin(errors @ gram[order][:, :, order].ravel()))
        core = (vectors / (size + penalties[chosen])).T.reshape(-1, scaffolds, questions)
        core = core[:, np.argsort(order)].reshape(-1, scaffolds * questions)
        return Map(left, core, y.reshape(scaffolds * questions, -1), float(PENALTIES[chosen]))

    return join


def by_question(hat: Hat) -> Float[ndarray, " pairs"]:
    """Weights c such that c · vec(Y Y') is the squared error on questions left out one at a time.

    With hat matrix H, the residual of a left-out block g is (1 − H_gg)⁻¹ (Y − H Y)_g. No mean has to be
    taken again, since rows are centred within questions.
    """
    scaffolds, questions = hat.shape[:2]
    rest = np.eye(scaffolds * questions).reshape(hat.shape) - hat
    every = np.arange(questions)
    return _squared(
        np.linalg.solve(
            rest[:, every, :, every], rest.transpose(1, 0, 2, 3).reshape(questions, scaffolds, -1)
        )
    )


def by_scaffold(hat: Hat) -> Float[ndarray, " pairs"]:
    """The same for scaffolds left out one at a time, question means taken again without them.

    Question means are then part of the fit, free of penalty, so 1 − H becomes J − H with J the
    centring within questions.
    """
    scaffolds, questions = hat.shape[:2]
    centring = np.einsum("st,qr->sqtr", np.eye(scaffolds) - 1 / scaffolds, np.eye(questions))
    rest, every = centring - hat, np.arange(scaffolds)
    return _squared(np.linalg.solve(rest[every, :, every], rest.reshape(scaffolds, questions, -1)))


def _squared(weight: Float[ndarray, "group row rows"]) -> Float[ndarray, " pairs"]:
    flat = weight.reshape(-1, weight.shape[2])
    return (flat.T @ flat).ravel()


def _ridge_target(y: States) -> tuple[States, Hat]:
    rows = y.reshape(-1, y.shape[2])
    return y, (rows @ rows.T).reshape(*y.shape[:2], *y.shape[:2])


@dataclass(frozen=True)
class _Components:
    """One side in its own principal components.

    basis and scores from all questions; per fold of questions, scores in the components of the others:
    train holds these others, check the fold itself.
    """

    basis: Float[ndarray, "d_model k"]
    scores: Float[ndarray, "scaffold question k"]
    train: list[Scores]
    check: list[Scores]


def _components(states: States) -> _Components:
    folds = min(FOLDS, states.shape[1])
    inside = [np.arange(states.shape[1]) % folds == f for f in range(folds)]
    bases = [_basis(states[:, ~part]) for part in inside]
    basis = _basis(states)
    return _Components(
        basis,
        states @ basis,
        [states[:, ~part] @ base for part, base in zip(inside, bases, strict=True)],
        [states[:, part] @ base for part, base in zip(inside, bases, strict=True)],
    )


def _basis(states: States) -> Float[ndarray, "d_model k"]:
    """Leading principal directions, as many as are on offer or as the rows can span; 0 where nothing varies."""
    rows = states.reshape(-1, states.shape[2])
    k = min(max(COMPONENTS), rows.shape[1], (states.shape[0] - 1) * states.shape[1])
    if rows.shape[0] >= rows.shape[1]:
        return np.linalg.eigh(rows.T @ rows)[1][:, ::-1][:, :k]
    size, vectors = np.linalg.eigh(rows @ rows.T)
    size, vectors = size[::-1][:k], vectors[:, ::-1][:, :k]
    varies = size > 1e-12 * size[0]
    return rows.T @ (vectors * np.where(varies, 1 / np.sqrt(np.where(varies, size, 1.0)), 0.0))


def _procrustes_source(x: States) -> Join:
    a = _components(x)
    spread, reach = (np.stack([(z**2).sum(axis=(0, 1)) for z in part]) for part in _common(a.train, a.check))
    whole = (a.scores**2).sum(axis=(0, 1))

    def join(b: _Components, order: Order) -> Map:
        train, check = (
            np.stack([_cross(za, zb[order]) for za, zb in zip(*sides, strict=True)])
            for sides in (_common(a.train, b.train), _common(a.check, b.check))
        )
        options = sorted({min(k, *train.shape[1:]) for k in COMPONENTS})
        errors = [
            _left_out_error(train[:, :k, :k], check[:, :k, :k], spread[:, :k], reach[:, :k]) for k in options
        ]
        k = options[int(np.argmin(errors))]
        rotation, total = _rotation(_cross(a.scores, b.scores[order])[None, :k, :k])
        scale = total[0] / max(whole[:k].sum(), 1e-300)
        return Map(a.basis[:, :k], scale * rotation[0], b.basis[:, :k].T, float(k))

    return join


def _common(*sides: list[Scores]) -> list[list[Scores]]:
    """Each side cut to the number of components that all folds have."""
    return [[z[:, :, : min(z.shape[2] for z in side)] for z in side] for side in sides]


def _cross(
    za: Float[ndarray, "scaffold question k_a"], zb: Float[ndarray, "scaffold question k_b"]
) -> Float[ndarray, "k_a k_b"]:
    return za.reshape(-1, za.shape[2]).T @ zb.reshape(-1, zb.shape[2])


def _rotation(
    cross: Float[ndarray, "fold k k"],
) -> tuple[Float[ndarray, "fold k k"], Float[ndarray, " fold"]]:
    """The orthogonal matrix nearest to each cross product, and the sum of its singular values."""
    u, s, vt = np.linalg.svd(cross)
    return u @ vt, s.sum(axis=1)


def _left_out_error(
    train: Float[ndarray, "fold k k"],
    check: Float[ndarray, "fold k k"],
    spread: Float[ndarray, "fold k"],
    reach: Float[ndarray, "fold k"],
) -> float:
    """Squared error on the left-out folds, but for the constant |Y|²: from cross products and the squares of X."""
    rotation, total = _rotation(train)
    scale = total / np.maximum(spread.sum(axis=1), 1e-300)
    return float((scale**2 * reach.sum(axis=1) - 2 * scale * (rotation * check).sum(axis=(1, 2))).sum())


ridge = Linear("ridge", partial(_ridge_source, left_out=by_question), _ridge_target)
ridge_by_scaffold = Linear("ridge by scaffold", partial(_ridge_source, left_out=by_scaffold), _ridge_target)
procrustes = Linear("procrustes", _procrustes_source, _components)
