"""Uncertainty: intervals, permutation and sign-flip tests, Benjamini–Hochberg, separation. Float64, no state.

Every function takes its randomness as a `numpy.random.Generator`. NaN means "failed, unknown": it is
left out of a mean, never counted as zero, and NaN in a result means that the lab abstains.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Shaped
from numpy import ndarray
from scipy import stats

MIN_CLUSTERS = 5
"""Below this many clusters there is no interval and no test: the result is NaN."""
EXACT_UP_TO = 14
"""Up to this many clusters all 2^n sign patterns are enumerated."""
TIE = 1e-9
"""Draws tie with a value where they differ by less, relative to the larger of |value| and the median |draw|."""


def average(values: Float[ndarray, "..."], axis: int) -> Float[ndarray, "..."] | float:
    """Mean over `axis` of what is not NaN; NaN (without a warning) where nothing is left."""
    known = ~np.isnan(values)
    count = known.sum(axis)
    total = np.where(known, values, 0.0).sum(axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)[()]


# ------------------------------------------------------------------ intervals


def cluster_weights(
    labels: Sequence[Shaped[ndarray, " row"]], draws: int, rng: np.random.Generator
) -> Float[ndarray, "draw row"]:
    """Multiplicity of each row in each draw of a cluster bootstrap, so a mean is a matrix product.

    `labels` has one array [row] per crossed factor (questions, say, then paraphrases). The levels of
    each factor are resampled with replacement, independently; a row's multiplicity is the product.
    With one factor this is the ordinary cluster bootstrap. With two it is the pigeonhole bootstrap
    (Owen 2007, "The pigeonhole bootstrap"), which counts pure row noise about three times, and can
    not know the variance of a factor with few levels: three paraphrases give two degrees of freedom.
    Therefore `lab.landing` resamples questions only and reports paraphrases as a noise floor.

    Raises ValueError for no factor, no row or factors of different length.
    """
    if not labels or len({len(x) for x in labels}) != 1 or len(labels[0]) == 0:
        raise ValueError(
            f"expected label arrays of one common length above 0, got {[len(x) for x in labels]}; "
            "give one array [row] per crossed factor"
        )
    weights = np.ones((draws, len(labels[0])))
    for factor in labels:
        levels, code = np.unique(factor, return_inverse=True)
        n = len(levels)
        counts = rng.multinomial(n, np.full(n, 1 / n), size=draws)
        weights *= counts[:, code]
    return weights


def interval(
    draws: Float[ndarray, "draw *rest"], clusters: int, level: float = 0.95
) -> tuple[Float[ndarray, "*rest"] | float, Float[ndarray, "*rest"] | float]:
    """Expanded percentile interval (low, high) over the first axis of bootstrap draws.

    The plain percentile interval is too short with few clusters: it uses normal instead of t
    quantiles and the divisor n instead of n − 1. Hesterberg (2015, "What teachers should know about
    the bootstrap", sec. 5.3) widens the tail to Φ(−sqrt(n/(n−1)) t) with the t quantile at n − 1
    degrees of freedom; n = `clusters`, 2.5 % becomes 1.1 % for 12. Coverage is measured in
    tests/test_stats.py and tests/test_landing.py. NaN draws are left out.
    Fewer than MIN_CLUSTERS clusters: (NaN, NaN).
    """
    missing = np.full(draws.shape[1:], np.nan)
    if clusters < MIN_CLUSTERS:
        return missing[()], missing.copy()[()]
    t = stats.t.ppf((1 + level) / 2, clusters - 1)
    tail = stats.norm.cdf(-np.sqrt(clusters / (clusters - 1)) * t)
    known = ~np.isnan(draws).all(axis=0)
    safe = np.where(known, draws, 0.0)
    low, high = np.nanquantile(safe, [tail, 1 - tail], axis=0)
    return np.where(known, low, np.nan)[()], np.where(known, high, np.nan)[()]


def binomial_interval(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval (low, high) of a share, `hits` of n (Clopper & Pearson 1934); (NaN, NaN) for n = 0."""
    if n == 0:
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low = float(stats.beta.ppf(tail, hits, n - hits + 1)) if hits else 0.0
    high = float(stats.beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return low, high


# ------------------------------------------------------------------ tests


def tally(value: float, null: Float[ndarray, " draw"]) -> tuple[int, int]:
    """(draws above the value, draws that tie with it in spite of rounding); a NaN draw is above.

    What counts as rounding has the unit of the values, so neither sums of squares in small units nor an R² near 0
    beside large ones are taken for ties or miss one.
    """
    known = np.abs(null[~np.isnan(null)])
    slack = TIE * max(abs(value), float(np.median(known)) if len(known) else 0.0)
    below, level = null < value - slack, np.abs(null - value) <= slack
    return int(len(null) - below.sum() - level.sum()), int(level.sum())


def upper_p(value: float, null: Float[ndarray, " draw"]) -> float:
    """One-sided permutation p, (1 + draws at or above the value) / (1 + draws); NaN for an unknown value.

    Exact for any number of draws (Phipson & Smyth 2010, "Permutation p-values should never be zero"), and
    conservative where values tie.
    """
    if np.isnan(value):
        return float("nan")
    return (1 + sum(tally(value, null))) / (1 + len(null))


def why_no_test(values_by_cluster: Float[ndarray, " cluster"]) -> str:
    """The reason why `sign_flip` abstains, or "" where it answers."""
    n = int((~np.isnan(values_by_cluster)).sum())
    if n >= MIN_CLUSTERS:
        return ""
    return f"{n} clusters have a value and a sign-flip test needs {MIN_CLUSTERS}: add questions"


def sign_flip(
    values_by_cluster: Float[ndarray, " cluster"], rng: np.random.Generator, draws: int = 10000
) -> float:
    """Two-sided p of "the mean over clusters is 0, symmetrically", by flipping cluster signs.

    Exact (all 2^n patterns, `rng` unused) up to EXACT_UP_TO clusters, else (1 + count) / (1 + draws).
    The smallest reachable p is 2^(1−n): .0625 for 5 clusters, .03 for 6. NaN clusters are left out;
    NaN below MIN_CLUSTERS (`why_no_test` says why).
    """
    if why_no_test(values_by_cluster):
        return float("nan")
    values = values_by_cluster[~np.isnan(values_by_cluster)]
    n = len(values)
    # A tie with what was observed must count in spite of rounding.
    bar = abs(values.sum()) - 1e-12 * np.abs(values).sum()
    if n <= EXACT_UP_TO:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
        return float((np.abs(signs @ values) >= bar).mean())
    signs = rng.choice([-1.0, 1.0], size=(draws, n))
    return float((1 + (np.abs(signs @ values) >= bar).sum()) / (1 + draws))


def benjamini_hochberg(p: Float[ndarray, " test"]) -> Float[ndarray, " test"]:
    """False-discovery-rate q values (Benjamini & Hochberg 1995), in the order given.

    A NaN stays NaN and does not count as a test.
    """
    q = np.full(p.shape, np.nan)
    known = np.flatnonzero(~np.isnan(p))
    m = len(known)
    order = known[np.argsort(p[known], kind="stable")]
    raised = p[order] * m / np.arange(1, m + 1)
    q[order] = np.minimum(np.minimum.accumulate(raised[::-1])[::-1], 1.0)
    return q


# ------------------------------------------------------------------ correlation


def correlation(
    x: Float[ndarray, "*rest n"], y: Float[ndarray, "*rest n"], weights: Float[ndarray, "*rest n"]
) -> Float[ndarray, "*rest"]:
    """Weighted Pearson correlation over the last axis; the other axes broadcast (draws of a bootstrap).

    NaN where x or y does not vary.
    """
    total = weights.sum(axis=-1, keepdims=True)
    dx = x - (weights * x).sum(axis=-1, keepdims=True) / total
    dy = y - (weights * y).sum(axis=-1, keepdims=True) / total
    # Relative to the raw square, so that rounding is not taken for variation.
    vx, vy = (weights * dx**2).sum(axis=-1), (weights * dy**2).sum(axis=-1)
    varies = (vx > 1e-18 * (weights * x**2).sum(axis=-1)) & (vy > 1e-18 * (weights * y**2).sum(axis=-1))
    r = (weights * dx * dy).sum(axis=-1) / np.where(varies, np.sqrt(vx * vy), np.nan)
    return np.clip(r, -1.0, 1.0)


# ------------------------------------------------------------------ separation


def auroc(pos: Float[ndarray, " a"], neg: Float[ndarray, " b"]) -> float:
    """Probability that a positive exceeds a negative, ties counting half. 0.5 is chance.

    NaN is left out; NaN when a side is empty.
    """
    pos, neg = pos[~np.isnan(pos)], neg[~np.isnan(neg)]
    if len(pos) == 0 or len(neg) == 0:
        return float("nan")
    ranks = stats.rankdata(np.concatenate([pos, neg]))
    above = ranks[: len(pos)].sum() - len(pos) * (len(pos) + 1) / 2
    return float(above / (len(pos) * len(neg)))


def d_prime(a: Float[ndarray, "*rest a"], b: Float[ndarray, "*rest b"]) -> Float[ndarray, "*rest"] | float:
    """(mean a − mean b) in pooled within-condition standard deviations, over the last axis.

    NaN is left out; NaN when a side is empty, when fewer than 3 values are left in all, or when
    nothing varies. Positive: a lies above b.
    """
    mean_a, mean_b = np.asarray(average(a, -1)), np.asarray(average(b, -1))
    squares = np.nansum((a - mean_a[..., None]) ** 2, -1) + np.nansum((b - mean_b[..., None]) ** 2, -1)
    freedom = (~np.isnan(a)).sum(-1) + (~np.isnan(b)).sum(-1) - 2
    sd = np.sqrt(squares / np.maximum(freedom, 1))
    usable = (freedom > 0) & (sd > 0)
    return np.where(usable, (mean_a - mean_b) / np.where(usable, sd, 1.0), np.nan)[()]
