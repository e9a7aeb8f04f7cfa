"""Feature cards from a table of activations: how often, how strongly and where a feature fires, and with what it goes.

    examples(activity, sae, rng, …) -> FeatureExample rows      strongest, and at two quantiles, with tokens around
    firing(activity, rng) -> Firing                              share of tokens with intervals over texts, histogram
    text_means(activity) -> [text, feature]                      mean activation over a text (its replies)
    associations(means, values, clusters, strata, rng) -> Associations     point-biserial with interval, p and q
    pooled_p(values, null, like) -> p                            a null shared by features that are alike

Matching of two dictionaries is in `feature_match`, AUROC against labels of places in `feature_auroc`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped
from numpy import ndarray

from lab.records import LabError
from lab.records.feature_cards import QUANTILES, Activity, FeatureExample, Quantile, Sparse, csr
from lab.stats import MIN_CLUSTERS, benjamini_hochberg, cluster_weights, interval

BEFORE, AFTER = 14, 6
"""Tokens shown on either side of an example."""
COUNTS = {"top": 6, "90 %": 3, "50 %": 3}
BINS = 20
ALIKE = 128
"""Features that share a null."""
AT_ONCE = 1024
"""Features that are bootstrapped together."""
TextFeature = Float[ndarray, "text feature"]
PerFeature = Float[ndarray, " feature"]


# ------------------------------------------------------------------ where it fires


def examples(activity: Activity, sae: str) -> Iterator[FeatureExample]:
    """Places where each feature fires, each from another text while there are such: COUNTS per quantile.

    "top": the strongest; "90 %", "50 %": those nearest to that quantile of the activations above 0. Ties go to
    what comes first; a feature that fires seldom has few.
    """
    columns = activity.values.tocsc()
    edge = np.flatnonzero(np.diff(activity.text)) + 1
    first = np.repeat(np.append(0, edge), np.diff(np.concatenate([[0], edge, [len(activity.text)]])))
    last = np.repeat(
        np.append(edge, len(activity.text)), np.diff(np.concatenate([[0], edge, [len(activity.text)]]))
    )
    for feature in range(activity.features):
        where = slice(columns.indptr[feature], columns.indptr[feature + 1])
        order = np.argsort(columns.indices[where])
        at, value = columns.indices[where][order], columns.data[where][order].astype(np.float64)
        at, value = at[value > 0], value[value > 0]
        for quantile in QUANTILES if len(at) else ():
            for rank, k in enumerate(_picked(quantile, value, activity.text[at])):
                low, high = (
                    max(int(first[at[k]]), int(at[k]) - BEFORE),
                    min(int(last[at[k]]), int(at[k]) + AFTER + 1),
                )
                shown = np.zeros(high - low)
                inside = (at >= low) & (at < high)
                shown[at[inside] - low] = value[inside]
                yield FeatureExample(
                    sae, feature, quantile, rank, float(value[k]), int(activity.text[at[k]]),
                    int(activity.position[at[k]]), bool(activity.reply[at[k]]), int(at[k]) - low,
                    tuple(activity.piece(t) for t in range(low, high)), tuple(shown.tolist()),
                )  # fmt: skip


def _picked(quantile: Quantile, value: Float[ndarray, " place"], text: Int[ndarray, " place"]) -> list[int]:
    """Places to show, one per text."""
    wanted = {"top": value.max(), "90 %": np.quantile(value, 0.9), "50 %": np.quantile(value, 0.5)}[quantile]
    found: dict[int, int] = {}
    for k in np.argsort(np.abs(value - wanted), kind="stable").tolist():
        found.setdefault(int(text[k]), k)
        if len(found) == COUNTS[quantile]:
            break
    return list(found.values())


@dataclass(frozen=True)
class Firing:
    """How often and how strongly features fire, each [feature].

    fires: share of tokens, low/high its 95 % interval over texts; texts: in how many; mean, highest: of activations
    above 0, NaN without; histogram [feature, bin]: of these, equal bins from 0 to `highest`.
    """

    fires: PerFeature
    low: PerFeature
    high: PerFeature
    texts: Int[ndarray, " feature"]
    mean: PerFeature
    highest: PerFeature
    histogram: Int[ndarray, "feature bin"]


def firing(activity: Activity, rng: np.random.Generator, draws: int = 1000) -> Firing:
    """Firing of every feature. Intervals are NaN below 5 texts, LabError without a token."""
    if not len(activity.text):
        raise LabError("expected at least one counted token, got none; give texts that say something")
    by_text = _by_text(activity.text)
    on = activity.values.copy()
    on.eliminate_zeros()
    strength, on = on.astype(np.float64), on.astype(bool).astype(np.float64)
    per_text, tokens = (by_text @ on).toarray(), np.asarray(by_text.sum(axis=1)).ravel()
    weights = cluster_weights([np.arange(len(tokens))], draws, rng)
    low, high = _bands(
        lambda part: (weights @ per_text[:, part]) / (weights @ tokens)[:, None],
        activity.features,
        len(tokens),
    )
    count, total = per_text.sum(axis=0), np.asarray(strength.sum(axis=0)).ravel()
    top = np.zeros(activity.features)
    columns = strength.tocoo()
    np.maximum.at(top, columns.col, columns.data)
    bins = np.zeros((activity.features, BINS), np.int64)
    np.add.at(
        bins, (columns.col, np.minimum(BINS * columns.data / top[columns.col], BINS - 1).astype(int)), 1
    )
    known = count > 0
    return Firing(
        count / tokens.sum(), low, high, (per_text > 0).sum(axis=0),
        np.where(known, total / np.maximum(count, 1), np.nan), np.where(known, top, np.nan), bins,
    )  # fmt: skip


def _by_text(text: Int[ndarray, " token"]) -> Sparse:
    """[text, token]: which tokens are of which text, texts without a token left out."""
    _, which = np.unique(text, return_inverse=True)
    return csr((np.ones(len(text)), (which, np.arange(len(text)))))


def _bands(
    draws_of: Callable[[slice], Float[ndarray, "draw part"]], features: int, clusters: int
) -> tuple[PerFeature, PerFeature]:
    """95 % intervals [feature] of draws [draw, part], a part of the features at a time."""
    low, high = np.full((2, features), np.nan)
    for start in range(0, features, AT_ONCE):
        part = slice(start, min(start + AT_ONCE, features))
        low[part], high[part] = interval(draws_of(part), clusters)
    return low, high


# ------------------------------------------------------------------ with what it goes


def text_means(activity: Activity) -> TextFeature:
    """Mean activation over each text of `activity.texts`: over what the assistant says, where it says anything.

    float64; NaN for a text without tokens.
    """
    texts = len(activity.texts)
    speaks = np.zeros(texts, bool)
    speaks[activity.text[activity.reply]] = True
    used = np.flatnonzero(activity.reply | ~speaks[activity.text])
    sums = csr((np.ones(len(used)), (activity.text[used], used)), shape=(texts, len(activity.text)))
    tokens = np.asarray(sums.sum(axis=1)).ravel()
    means = (sums @ activity.values.astype(np.float64)).toarray() / np.maximum(tokens, 1)[:, None]
    means[tokens == 0] = np.nan
    return means


@dataclass(frozen=True)
class Associations:
    """Correlations of features with labels, [label, feature]; n [label]: texts with a value.

    r, interval low/high, p two-sided by permutation, q over the features of one label. NaN where the feature is
    not 0 in fewer than 5 of the label's texts, or the label has fewer than 5 clusters (of either value, where it has two).
    """

    r: Float[ndarray, "label feature"]
    low: Float[ndarray, "label feature"]
    high: Float[ndarray, "label feature"]
    p: Float[ndarray, "label feature"]
    q: Float[ndarray, "label feature"]
    n: Int[ndarray, " label"]


def associations(
    means: TextFeature, values: Float[ndarray, "label text"], clusters: Shaped[ndarray, " text"],
    strata: Shaped[ndarray, " text"], rng: np.random.Generator, draws: int = 500,
) -> Associations:  # fmt: skip
    """Point-biserial (Pearson) correlation of every feature's text means with every label; NaN: no value.

    Intervals resample `clusters` (texts that share a question move together); the null permutes a label's values
    inside each of `strata`, and is shared by features whose means are spread alike (kurtosis), since under
    permutation the spread of r depends on little else.
    """
    shape = (len(values), means.shape[1])
    found = np.full((5, *shape), np.nan)
    number = np.zeros(len(values), np.int64)
    for k, value in enumerate(values):
        known = ~np.isnan(value) & ~np.isnan(means).any(axis=1)
        number[k] = known.sum()
        if not _enough(value[known], clusters[known]):
            continue
        x = means[known]
        usable = np.flatnonzero((x != 0).sum(axis=0) >= MIN_CLUSTERS)
        usable = usable[x[:, usable].std(axis=0) > 0]
        if not len(usable):
            continue
        x = (x[:, usable] - x[:, usable].mean(axis=0)) / x[:, usable].std(axis=0)
        y = (value[known] - value[known].mean()) / value[known].std()
        r = x.T @ y / len(y)
        low, high = _correlation_bands(x, y, clusters[known], rng, draws)
        p = _permutation_p(x, y, strata[known], r, rng, draws)
        found[:, k, usable] = r, low, high, p, benjamini_hochberg(p)
    r, low, high, p, q = found
    return Associations(r, low, high, p, q, number)


def _enough(value: Float[ndarray, " text"], clusters: Shaped[ndarray, " text"]) -> bool:
    """At least 5 clusters, and of each value where there are two."""
    kinds = np.unique(value)
    if len(kinds) < 2:
        return False
    parts = [value == kind for kind in kinds] if len(kinds) == 2 else [np.ones(len(value), bool)]
    return min(len(np.unique(clusters[part])) for part in parts) >= MIN_CLUSTERS


def _correlation_bands(
    x: Float[ndarray, "text feature"], y: Float[ndarray, " text"], clusters: Shaped[ndarray, " text"],
    rng: np.random.Generator, draws: int,
) -> tuple[PerFeature, PerFeature]:  # fmt: skip
    weights = cluster_weights([clusters], draws, rng)
    weights = weights / weights.sum(axis=1, keepdims=True)
    my = weights @ y
    vy = weights @ y**2 - my**2

    def draw(part: slice) -> Float[ndarray, "draw part"]:
        mx = weights @ x[:, part]
        vx = weights @ x[:, part] ** 2 - mx**2
        both = weights @ (x[:, part] * y[:, None]) - mx * my[:, None]
        varies = (vx > 1e-12) & (vy > 1e-12)[:, None]
        return both / np.where(varies, np.sqrt(np.abs(vx * vy[:, None])), np.nan)

    return _bands(draw, x.shape[1], len(np.unique(clusters)))


def _permutation_p(
    x: Float[ndarray, "text feature"], y: Float[ndarray, " text"], strata: Shaped[ndarray, " text"],
    r: PerFeature, rng: np.random.Generator, draws: int,
) -> PerFeature:  # fmt: skip
    shuffled = y[np.stack([permuted(strata, rng) for _ in range(draws)])]
    kurtosis = (x**4).mean(axis=0)
    found = np.empty(len(r))
    for part in alike(kurtosis):
        found[part] = pooled_p(np.abs(r[part]), np.abs(shuffled @ x[:, part]) / len(y))
    return found


def permuted(strata: Shaped[ndarray, " row"], rng: np.random.Generator) -> Int[ndarray, " row"]:
    """Row numbers, shuffled among the rows of each stratum."""
    _, which = np.unique(strata, return_inverse=True)
    order = np.arange(len(which))
    for k in range(int(which.max(initial=-1)) + 1):
        rows = np.flatnonzero(which == k)
        order[rows] = rng.permutation(rows)
    return order


def alike(key: PerFeature, size: int = ALIKE) -> list[Int[ndarray, " part"]]:
    """Groups of about `size` features whose key is nearest to each other."""
    order = np.argsort(key, kind="stable")
    return [part for part in np.array_split(order, max(1, len(order) // size)) if len(part)]


def pooled_p(values: PerFeature, null: Float[ndarray, "draw any_feature"]) -> PerFeature:
    """One-sided p of each value against the null draws of all features together: (1 + at or above) / (1 + draws).

    For features that are alike; unknown draws count as above, an unknown value has an unknown p.
    """
    pool = np.sort(np.where(np.isnan(null), np.inf, null).ravel())
    # As lab.stats.tally: what differs by rounding ties.
    slack = 1e-9 * np.maximum(np.abs(values), 1e-3)
    above = len(pool) - np.searchsorted(pool, values - slack, side="left")
    return np.where(np.isnan(values), np.nan, (1 + above) / (1 + len(pool)))
