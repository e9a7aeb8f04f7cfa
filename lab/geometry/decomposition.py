"""What a direction is made of: few decoder rows of a sparse dictionary, signed or non-negative, against nulls.

A direction is a difference of states, not a state: encoding it would put the dictionary off its distribution and lose
what is negative in it (arXiv 2411.08790). So it is regressed on decoder rows. An overcomplete dictionary explains a
good part of *any* direction; therefore a share means nothing without what directions that are not the trait reach, at
equal norm.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from warnings import catch_warnings, simplefilter

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy import stats
from scipy.optimize import nnls
from sklearn.linear_model import orthogonal_mp

from lab.records import LabError
from lab.stats import MIN_CLUSTERS, upper_p

KS = (1, 2, 4, 8, 16, 32)
"""Numbers of features that are reported."""
ALPHA = 0.05
Rows = Float[ndarray, "feature d_model"]
Unit = Float[ndarray, " d_model"]


@dataclass(frozen=True)
class Sparse:
    """The best few decoder rows of a unit direction, in the order in which they were chosen.

    features [rank]; weights [step, rank]: of the rows as they are, row i after i + 1 choices, 0 beyond; share [step]:
    1 - squared residual, within [0, 1], never falling.
    """

    features: Int[ndarray, " rank"]
    weights: Float[ndarray, "step rank"]
    share: Float[ndarray, " step"]

    def at(self, k: int) -> tuple[Int[ndarray, " rank"], Float[ndarray, " rank"]]:
        """Features and weights after k choices, or after all where fewer were needed."""
        step = min(k, len(self.features))
        return self.features[:step], self.weights[step - 1, :step] if step else self.weights[:0, 0]

    def explained(self, ks: Sequence[int]) -> Float[ndarray, " k"]:
        """Share after each k choices."""
        if not len(self.share):
            return np.zeros(len(ks))
        return self.share[np.minimum(ks, len(self.share)) - 1]


Fit = Callable[[Rows, Unit, int], Sparse]


def signed(rows: Rows, direction: Unit, k: int) -> Sparse:
    """Orthogonal matching pursuit (Pati et al. 1993; scikit-learn): weights of both signs, refitted at every step.

    Rows count by their direction only. Stops early where nothing is left.
    """
    shape, size = _shapes(rows)
    target = direction / np.linalg.norm(direction)
    with catch_warnings():
        simplefilter("ignore", RuntimeWarning)  # "ended prematurely": nothing is left to explain
        path = orthogonal_mp(shape.T, target, n_nonzero_coefs=min(k, *shape.shape), return_path=True)
    path = np.asarray(path).reshape(len(shape), -1)
    order: list[int] = []
    for step in path.T:
        order += [int(i) for i in np.flatnonzero(step) if i not in order]
    return _sparse(order, path[order].T, shape @ target, size)


def non_negative(rows: Rows, direction: Unit, k: int) -> Sparse:
    """The same with weights of at least 0: the row that points most along what is left, then all refitted.

    Non-negative orthogonal matching pursuit (Bruckstein, Elad & Zibulevsky 2008). A weight may fall back to 0.
    """
    shape, size = _shapes(rows)
    target = direction / np.linalg.norm(direction)
    along, order, steps = shape @ target, [], []
    left = target
    while len(order) < min(k, *shape.shape):
        gain = shape @ left
        gain[order] = -np.inf
        best = int(np.argmax(gain))
        if gain[best] <= 1e-9:
            break
        order.append(best)
        weights, _ = nnls(shape[order].T, target)
        steps.append(weights)
        left = target - weights @ shape[order]
    weights = np.zeros((len(steps), len(order)))
    for i, step in enumerate(steps):
        weights[i, : len(step)] = step
    return _sparse(order, weights, along, size)


METHODS: dict[str, Fit] = {"signed": signed, "non-negative": non_negative}


def _shapes(rows: Rows) -> tuple[Rows, Float[ndarray, " feature"]]:
    """Rows of unit length and their lengths; a row of length 0 stays 0 and is never chosen."""
    size = np.linalg.norm(rows.astype(np.float64), axis=1)
    return rows.astype(np.float64) / np.where(size > 0, size, 1.0)[:, None], size


def _sparse(
    order: Sequence[int], weights: Float[ndarray, "step rank"], along: Float[ndarray, " feature"],
    size: Float[ndarray, " feature"],
) -> Sparse:  # fmt: skip
    """With weights of the rows as they are. A projection explains what it has in common with its target."""
    chosen = np.array(order, dtype=np.int64)
    share = np.maximum.accumulate(np.clip(weights @ along[chosen], 0.0, 1.0)) if len(order) else np.zeros(0)
    return Sparse(chosen, weights / size[chosen], share)


def reconstruction(rows: Rows, features: Int[ndarray, " rank"], weights: Float[ndarray, " rank"]) -> Unit:
    """The part of a unit direction that weighted decoder rows make: its squared length is the share they explain."""
    return weights @ rows[features].astype(np.float64)


# ------------------------------------------------------------------ against nulls


@dataclass(frozen=True)
class Against:
    """A share curve beside one kind of null: shares [draw, k], p [k], and p of the mean over all k."""

    shares: Float[ndarray, "draw k"]
    p: Float[ndarray, " k"]
    p_mean: float


@dataclass(frozen=True)
class Decomposition:
    """A direction in decoder rows, its shares at `ks`, and what nulls reach.

    low, high [k]: 95 %, NaN where no groups were left out. decomposable: the mean share over `ks` is above
    95 % of every null; one number per curve, so that trying several k is paid for. null, p: the hardest.
    """

    ks: tuple[int, ...]
    sparse: Sparse
    share: Float[ndarray, " k"]
    low: Float[ndarray, " k"]
    high: Float[ndarray, " k"]
    nulls: Mapping[str, Against]
    null: str
    p: float
    why: str

    @property
    def decomposable(self) -> bool:
        """Whether it is made of few features more than every null."""
        return self.p <= ALPHA

    @property
    def half(self) -> int:
        """Fewest of `ks` that explain half of it; 0 where none does."""
        return next((k for k, share in zip(self.ks, self.share, strict=True) if share >= 0.5), 0)


def decompose(
    direction: Float[ndarray, " _"], rows: Rows, nulls: Mapping[str, Float[ndarray, "draw k"]], fit: Fit = signed,
    ks: Sequence[int] = KS, left_out: Float[ndarray, "group d_model"] | None = None,
) -> Decomposition:  # fmt: skip
    """Shares of a direction that k decoder rows explain, beside those of null directions (`null_shares`).

    left_out: the direction without one group of questions each, for the interval. LabError for a direction that is not
    finite or 0, for one of another width, for no null, and where a null has other ks.
    """
    check(direction, rows)
    ks = usable(ks, rows)
    wrong = {name: draws.shape for name, draws in nulls.items() if draws.shape[1:] != (len(ks),)}
    if not nulls or wrong:
        raise LabError(
            f"expected nulls as shares [draw, {len(ks)}], got {wrong or 'none'}; a share means nothing alone"
        )
    sparse = fit(rows, direction, max(ks))
    share = sparse.explained(ks)
    against = {
        name: Against(
            draws, np.array([upper_p(float(s), draws[:, i]) for i, s in enumerate(share)]),
            upper_p(float(share.mean()), draws.mean(axis=1)),
        )
        for name, draws in nulls.items()
    }  # fmt: skip
    hardest = max(against, key=lambda name: against[name].p_mean)
    p = against[hardest].p_mean
    low, high = _limits(share, left_out, rows, fit, ks)
    return Decomposition(ks, sparse, share, low, high, against, hardest, p, _why(p, hardest, share, ks))


def check(direction: Float[ndarray, " _"], rows: Rows) -> None:
    """LabError for a direction that cannot be decomposed in these rows."""
    if direction.shape != (rows.shape[1],) or not np.isfinite(direction).all() or not direction.any():
        raise LabError(
            f"expected a finite direction of width {rows.shape[1]}, not 0, got shape {direction.shape}; take it at the "
            "dictionary's own layer, from replies that are not all empty"
        )


def usable(ks: Sequence[int], rows: Rows) -> tuple[int, ...]:
    """Those k that leave something to explain: at most half of the width, where even noise is explained."""
    return tuple(k for k in ks if k <= max(1, min(rows.shape[1] // 2, len(rows))))


def null_shares(
    directions: Float[ndarray, "draw d_model"], rows: Rows, fit: Fit = signed, ks: Sequence[int] = KS
) -> Float[ndarray, "draw k"]:
    """What k decoder rows explain of each of many directions (their lengths do not count)."""
    ks = usable(ks, rows)
    return np.array([fit(rows, d, max(ks)).explained(ks) for d in directions]).reshape(-1, len(ks))


def random_directions(draws: int, width: int, rng: np.random.Generator) -> Float[ndarray, "draw d_model"]:
    """Isotropic unit vectors: the easiest null, too easy alone."""
    drawn = rng.standard_normal((draws, width))
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def _limits(
    share: Float[ndarray, " k"], left_out: Float[ndarray, "group d_model"] | None, rows: Rows, fit: Fit,
    ks: Sequence[int],
) -> tuple[Float[ndarray, " k"], Float[ndarray, " k"]]:  # fmt: skip
    """Jackknife limits over groups of questions, features chosen anew in each; NaN below 5 groups."""
    nothing = np.full(len(ks), np.nan)
    if left_out is None or len(left_out) < MIN_CLUSTERS:
        return nothing, nothing.copy()
    found, groups = null_shares(left_out, rows, fit, ks), len(left_out)
    error = np.sqrt((groups - 1) / groups * ((found - found.mean(axis=0)) ** 2).sum(axis=0))
    reach = stats.t.ppf(0.975, groups - 1) * error
    return np.maximum(share - reach, 0.0), np.minimum(share + reach, 1.0)


def _why(p: float, null: str, share: Float[ndarray, " k"], ks: Sequence[int]) -> str:
    """The verdict in a sentence."""
    told = f"{ks[-1]} features explain {share[-1]:.0%}"
    if p <= ALPHA:
        return f"{told}, more than 95 % of every null (hardest: {null}, p = {p:.3f})"
    return f"not decomposable: {told}, no more than {null} directions do (p = {p:.2f})"
