"""Is a latent of one model's dictionary in another model too? Its contribution, scaled to fit both models' states.

Both models read the same tokens. A latent that the dictionary of A finds silent in B's states need not be missing
there: it may be too weak to be switched on, or be spread over other latents. Latent scaling (Minder et al., arXiv
2504.02922, sec. 3) therefore asks how far B's states move along the latent's decoder row when A activates it:

    beta = argmin sum over tokens of |state - beta f d|^2,    nu = beta of B / beta of A

There every latent is fitted by itself, to the error or to the reconstruction; latents that fire together and point
alike then count for each other. Here all are fitted together, states and activations centred, so that each beta is what
no other latent accounts for, and error and reconstruction need not be told apart:

    beta = solve(cov(F) * (D D'), diag(F' Y D'))      * elementwise, F [token, latent], D [latent, d], Y [token, d]

`alone` is the fit of every latent by itself. Only where both are low is a latent called peculiar to A: where the first
alone is, latents that fire with it carry it in B ("decoupled").
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray
from scipy import stats
from scipy.linalg import LinAlgError, cho_factor, cho_solve
from scipy.sparse import csr_array

from lab.records import LabError
from lab.records.decomposition import LatentScale
from lab.stats import MIN_CLUSTERS, benjamini_hochberg

GROUPS = 20
"""Groups of texts, at most, that are left out in turn."""
RIDGE = 1e-6
"""Added to the diagonal, in its own units, where two latents are never apart."""
ABSENT, PRESENT = 0.2, 0.5
"""nu up to which a latent counts as missing, and from which it counts as there. The former is also the ratio of
activities under which a latent looks missing."""
ALPHA = 0.05
UNKNOWN = "cannot tell"
States = Float[ndarray, "token d_model"]
Latents = Float[ndarray, " latent"]
Gram = Float[ndarray, "latent latent"]


@dataclass(frozen=True)
class Read:
    """The same tokens as two models hold them, coded by the dictionary of the first.

    codes_a, codes_b [token, feature]: what the dictionary makes of either model's states; a, b [token, d_model]: these
    states; text [token]: which text, 0-based. LabError for unequal numbers of tokens or unequal widths.
    """

    codes_a: csr_array
    codes_b: csr_array
    a: States
    b: Float[ndarray, "_ _"]
    text: Int[ndarray, " token"]

    def __post_init__(self) -> None:
        tokens = {
            *(_tokens(c) for c in (self.codes_a, self.codes_b)),
            len(self.a),
            len(self.b),
            len(self.text),
        }
        if len(tokens) != 1 or self.a.shape != self.b.shape:
            raise LabError(
                f"expected the same tokens in both models and states of one width, got {self.a.shape} and {self.b.shape} "
                f"for {len(self.text)} tokens; give two models with one tokenizer and one width"
            )


def _tokens(codes: csr_array) -> int:
    shape: Any = codes.shape
    return int(shape[0])


@dataclass(frozen=True)
class Fitted:
    """beta of both models [latent], and nu."""

    a: Latents
    b: Latents

    @property
    def nu(self) -> Latents:
        """b / a; NaN where a is not above 0."""
        return np.where(self.a > 0, self.b / np.where(self.a > 0, self.a, 1.0), np.nan)


# ------------------------------------------------------------------ fitting


@dataclass(frozen=True)
class _Moments:
    """Sums over tokens: n, of activations [latent], of their products, of activation x <row, state> for a and b, and of
    states [d_model]."""

    n: int
    total: Latents
    products: Gram
    along: tuple[Latents, Latents]
    states: tuple[Float[ndarray, " d_model"], Float[ndarray, " d_model"]]

    def without(self, other: "_Moments") -> "_Moments":
        """Of the other tokens."""
        along = self.along[0] - other.along[0], self.along[1] - other.along[1]
        states = self.states[0] - other.states[0], self.states[1] - other.states[1]
        return _Moments(
            self.n - other.n, self.total - other.total, self.products - other.products, along, states
        )


def _moments(codes: csr_array, rows: Float[ndarray, "latent d_model"], a: States, b: States) -> _Moments:
    products = (codes.T @ codes).toarray().astype(np.float64)
    total = np.asarray(codes.sum(axis=0), dtype=np.float64).ravel()
    along = _along(codes, rows, a), _along(codes, rows, b)
    return _Moments(
        len(a), total, products, along, (a.sum(axis=0, dtype=np.float64), b.sum(axis=0, dtype=np.float64))
    )


def _along(codes: csr_array, rows: Float[ndarray, "latent d_model"], states: States) -> Latents:
    """Sum over tokens of activation x <row, state>."""
    return ((codes.T @ states.astype(np.float64)) * rows).sum(axis=1)


def _targets(found: _Moments, rows: Float[ndarray, "latent d_model"]) -> tuple[Latents, Latents]:
    """The same of centred activations and states."""
    means = [rows @ (s / found.n) for s in found.states]
    return found.along[0] - found.total * means[0], found.along[1] - found.total * means[1]


def _normal(found: _Moments, rows: Float[ndarray, "latent d_model"]) -> Gram:
    centred = found.products - np.outer(found.total, found.total) / found.n
    return centred * (rows @ rows.T)


def _factor(normal: Gram) -> tuple[Gram, bool]:
    """Cholesky factor. LabError where latents cannot be told apart."""
    size = np.diag(normal).copy()
    try:
        return cho_factor(normal + RIDGE * np.diag(np.maximum(size, 1e-12 * size.max())))
    except LinAlgError as error:
        raise LabError(
            f"the {len(normal)} latents cannot be told apart on these texts ({error}); give more texts"
        ) from error


def together(codes: csr_array, rows: Float[ndarray, "latent d_model"], a: States, b: States) -> Fitted:
    """beta of every latent in both models' states, all latents at once."""
    return _together(_moments(codes, rows, a, b), rows)


def _together(found: _Moments, rows: Float[ndarray, "latent d_model"]) -> Fitted:
    factor, targets = _factor(_normal(found, rows)), _targets(found, rows)
    return Fitted(np.asarray(cho_solve(factor, targets[0])), np.asarray(cho_solve(factor, targets[1])))


def alone(codes: csr_array, rows: Float[ndarray, "latent d_model"], a: States, b: States) -> Fitted:
    """beta of every latent as if there were no other, the closed form of arXiv 2504.02922, centred."""
    return _alone(_moments(codes, rows, a, b), rows)


def _alone(found: _Moments, rows: Float[ndarray, "latent d_model"]) -> Fitted:
    size, targets = np.diag(_normal(found, rows)), _targets(found, rows)
    safe = np.where(size > 0, size, np.nan)
    return Fitted(targets[0] / safe, targets[1] / safe)


# ------------------------------------------------------------------ what is reported


def latent_scales(
    read: Read, rows: Float[ndarray, "feature d_model"], rng: np.random.Generator, shifts: int = 20
) -> tuple[LatentScale, ...]:
    """One row per latent that A activates in at least 5 texts; the others cannot be told and are left out.

    nu is NaN where A's own states do not clearly hold the latent (beta_a is not clearly above 0). Intervals: up to
    GROUPS groups of texts are left out in turn and everything fitted again. Null: B's states moved
    along by `shifts` random numbers of tokens, so that they are of other texts. LabError for fewer than 5 texts
    and where no latent is left.
    """
    kept, texts = _often(read)
    codes, rows = csr_array(read.codes_a[:, kept], dtype=np.float64), rows[kept].astype(np.float64)
    whole = _moments(codes, rows, read.a, read.b)
    factor, targets = _factor(_normal(whole, rows)), _targets(whole, rows)
    found = Fitted(*(np.asarray(cho_solve(factor, t)) for t in targets))
    parts = [_together(whole.without(g), rows) for g in _moments_by_group(codes, rows, read, rng)]
    quantile, freedom = float(stats.t.ppf(0.975, len(parts) - 1)), len(parts) - 1
    clear = found.a > quantile * _jackknife_error(np.array([fit.a for fit in parts]))
    nu, error = np.where(clear, found.nu, np.nan), _jackknife_error(np.array([fit.nu for fit in parts]))
    p = np.where(error > 0, stats.t.cdf((nu - PRESENT) / np.where(error > 0, error, 1.0), freedom), np.nan)
    low, high, q = nu - quantile * error, nu + quantile * error, benjamini_hochberg(p)
    null = np.abs(_null(codes, rows, read, factor, whole, shifts, rng)) / np.where(clear, found.a, 1.0)
    null_high = np.where(clear, np.quantile(null, 0.95, axis=0), np.nan)
    active, silent = (np.asarray(c.mean(axis=0)).ravel()[kept] for c in (read.codes_a, read.codes_b))
    ratio, by_itself = silent / active, _alone(whole, rows).nu
    return tuple(
        LatentScale(
            int(kept[i]), int(texts[i]), float(active[i]), float(ratio[i]), float(found.a[i]), float(found.b[i]),
            float(nu[i]), float(low[i]), float(high[i]), float(by_itself[i]), float(null_high[i]), float(p[i]),
            float(q[i]), verdict(ratio[i], nu[i], low[i], high[i], by_itself[i], null_high[i], q[i]),
        )
        for i in range(len(kept))
    )  # fmt: skip


def verdict(
    ratio: float, nu: float, low: float, high: float, by_itself: float, null_high: float, q: float
) -> str:
    """What scale and activity say together of a latent in B.

    "specific": nu is at most ABSENT and clearly below PRESENT, and fitted alone it is no more than that. "decoupled":
    the former only, so that latents which fire with it carry it in B. "moved": as "specific", and yet the dictionary
    reads it in B at least half as much, on other tokens. "shrunk": the dictionary finds it (nearly) silent in B and yet it
    is there, nu clearly above its null: "only in A" would be an artefact. "shared": nu clearly above PRESENT. "weaker":
    there, and clearly below PRESENT. "cannot tell": else, and where nu is NaN.
    """
    if not np.isfinite([nu, low, high, by_itself]).all():
        return UNKNOWN
    if nu <= ABSENT and high < PRESENT and q < ALPHA:
        if by_itself > PRESENT:
            return "decoupled"
        return "specific" if ratio < PRESENT else "moved"
    if low > null_high:
        if ratio < ABSENT:
            return "shrunk"
        if low > PRESENT:
            return "shared"
        if high < PRESENT:
            return "weaker"
    return UNKNOWN


def _often(read: Read) -> tuple[Int[ndarray, " latent"], Int[ndarray, " latent"]]:
    """Latents that A activates in enough texts, and in how many."""
    count = int(read.text.max()) + 1 if len(read.text) else 0
    if count < MIN_CLUSTERS:
        raise LabError(f"expected at least {MIN_CLUSTERS} texts, got {count}; give more")
    member = csr_array((np.ones(len(read.text)), (read.text, np.arange(len(read.text)))))
    on = read.codes_a.copy()
    on.data = (on.data > 0).astype(np.float64)
    fires = csr_array(member @ on).toarray() > 0
    texts = fires.sum(axis=0)
    kept = np.flatnonzero(texts >= MIN_CLUSTERS)
    if not len(kept):
        raise LabError(f"no latent is active in {MIN_CLUSTERS} of {count} texts; give more texts")
    return kept, texts[kept]


def _moments_by_group(
    codes: csr_array, rows: Float[ndarray, "latent d_model"], read: Read, rng: np.random.Generator
) -> Iterator[_Moments]:
    """Of every group of texts, drawn at random; one at a time, since each is as large as the whole."""
    texts = rng.permutation(int(read.text.max()) + 1)
    for group in np.array_split(texts, min(GROUPS, len(texts))):
        here: Bool[ndarray, " token"] = np.isin(read.text, group)
        yield _moments(csr_array(codes[here]), rows, read.a[here], read.b[here])


def _jackknife_error(left: Float[ndarray, "group latent"]) -> Latents:
    groups = len(left)
    return np.sqrt((groups - 1) / groups * ((left - left.mean(axis=0)) ** 2).sum(axis=0))


def _null(
    codes: csr_array, rows: Float[ndarray, "latent d_model"], read: Read, factor: tuple[Gram, bool],
    whole: _Moments, shifts: int, rng: np.random.Generator,
) -> Float[ndarray, "shift latent"]:  # fmt: skip
    """beta in B's states when these are moved along by part of all tokens."""
    mean, tokens = rows @ (whole.states[1] / whole.n), len(read.b)
    by: Sequence[int] = rng.integers(tokens // 4, max(tokens // 4 + 1, 3 * tokens // 4), size=shifts).tolist()
    found = [_along(codes, rows, np.roll(read.b, k, axis=0)) - whole.total * mean for k in by]
    return np.asarray(cho_solve(factor, np.array(found).T)).T
