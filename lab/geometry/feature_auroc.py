"""Which feature tells a label of places best: AUROC of all features at once, chosen on one half, reported on the other.

    aurocs(ranked(values), codes, labels) -> [label, feature]
    halved(values, text, first) -> Halves                       texts in two halves, ranked once for many labels
    search(halves, codes, labels) -> Search                     per label its best feature and what that is worth
    auroc_band(value, label, text, weights) -> (low, high)       texts resampled

Places are what can carry a label (where a choice was made), values their features, sparse; codes [place] say which
label each has, from 0 to labels - 1, or -1 for none. A feature that is off at a place ties with all others that are
off, half a point each, as in `lab.stats.auroc`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from lab.records.feature_cards import Sparse, csr
from lab.stats import MIN_CLUSTERS, interval

Codes = Int[ndarray, " place"]


@dataclass(frozen=True)
class Ranked:
    """Places ordered by every feature: mid-ranks less that of places where the feature is off, csr [place, feature].

    off [feature]: at how many places it is off; their mid-rank is (off + 1) / 2.
    """

    above: Sparse
    off: Int[ndarray, " feature"]


def ranked(values: Sparse) -> Ranked:
    """Ranks of values [place, feature], none below 0, ties at their mean."""
    columns = values.tocsc()
    columns.eliminate_zeros()
    n, counts = values.shape[0], np.diff(columns.indptr)
    feature = np.repeat(np.arange(values.shape[1]), counts)
    order = np.lexsort((columns.data, feature))
    data, column = columns.data[order], feature[order]
    new = np.ones(len(data), bool)
    new[1:] = (data[1:] != data[:-1]) | (column[1:] != column[:-1])
    begin = np.flatnonzero(new)
    size = np.diff(np.append(begin, len(data)))
    within = np.arange(len(data)) - np.repeat(columns.indptr[:-1], counts)
    off = n - counts
    rank = off[column] + 1 + np.repeat(within[begin] + (size - 1) / 2, size)
    above = np.empty(len(data))
    above[order] = rank - (off[column] + 1) / 2
    rows = columns.indices.astype(np.int64)
    return Ranked(csr((above, (rows, feature)), shape=values.shape), off.astype(np.int64))


def _where(codes: Codes, labels: int) -> Sparse:
    """[label, place]: 1 where a place has the label."""
    at = np.flatnonzero(codes >= 0)
    return csr((np.ones(len(at)), (codes[at], at)), shape=(labels, len(codes)))


def aurocs(places: Ranked, codes: Codes, labels: int) -> Float[ndarray, "label feature"]:
    """Probability that a place with the label has more of the feature than one without, ties counting half.

    NaN for a label that all places or none have.
    """
    positives = np.bincount(codes[codes >= 0], minlength=labels).astype(np.float64)[:, None]
    negatives = len(codes) - positives
    above = (_where(codes, labels) @ places.above).toarray()
    both = positives * negatives
    # Sum of ranks less what it is when all positives come first.
    better = above + positives * (places.off + 1) / 2 - positives * (positives + 1) / 2
    return better / np.where(both > 0, both, np.nan)


@dataclass(frozen=True)
class Halves:
    """Places of texts in two halves; text [place], first [place]: of the half on which features are chosen."""

    text: Int[ndarray, " place"]
    first: Bool[ndarray, " place"]
    chosen: Ranked
    told: Ranked


def halved(values: Sparse, text: Int[ndarray, " place"], first: Bool[ndarray, " place"]) -> Halves:
    """Places ranked in either half."""
    return Halves(text, first, ranked(values[np.flatnonzero(first)]), ranked(values[np.flatnonzero(~first)]))


@dataclass(frozen=True)
class Search:
    """The best feature per label, each [label].

    feature: chosen on the first half, -1 where a half has the label, or its absence, in fewer than 5 texts (then
    all is NaN); selected: its AUROC there, auroc: on the other half; positives, negatives: places of the other half.
    """

    feature: Int[ndarray, " label"]
    selected: Float[ndarray, " label"]
    auroc: Float[ndarray, " label"]
    positives: Int[ndarray, " label"]
    negatives: Int[ndarray, " label"]


def search(halves: Halves, codes: Codes, labels: int) -> Search:
    """For every label the feature with the highest AUROC on the first half, read on the other."""
    rest, enough = codes[~halves.first], enough_texts(halves, codes, labels)
    feature, selected, told = np.full(labels, -1), *np.full((2, labels), np.nan)
    if enough.any():
        # Labels that cannot be scored are not ranked, but their places stay among the others.
        short = np.where(enough, np.cumsum(enough) - 1, -1)
        few = np.append(short, -1)[codes]
        chosen = aurocs(halves.chosen, few[halves.first], int(enough.sum()))
        feature[enough] = at = chosen.argmax(axis=1)
        selected[enough] = chosen[np.arange(len(at)), at]
        told[enough] = aurocs(halves.told, few[~halves.first], len(at))[np.arange(len(at)), at]
    positives = np.bincount(rest[rest >= 0], minlength=labels)
    return Search(feature, selected, told, positives, len(rest) - positives)


def enough_texts(halves: Halves, codes: Codes, labels: int) -> Bool[ndarray, " label"]:
    """Whether at least 5 texts of either half have the label at a place, and at least 5 lack it at one."""
    found = np.ones(labels, bool)
    for half in (halves.first, ~halves.first):
        if not half.any():
            return np.zeros(labels, bool)
        _, which, places = np.unique(halves.text[half], return_inverse=True, return_counts=True)
        by_text = csr((np.ones(len(which)), (np.arange(len(which)), which)))
        counts = (_where(codes[half], labels) @ by_text).tocoo()
        some = np.bincount(counts.row, minlength=labels)
        full = np.bincount(counts.row[counts.data == places[counts.col]], minlength=labels)
        found &= (some >= MIN_CLUSTERS) & (len(places) - full >= MIN_CLUSTERS)
    return found


def auroc_band(
    value: Float[ndarray, " place"], label: Bool[ndarray, " place"], text: Int[ndarray, " place"],
    weights: Float[ndarray, "draw text"],
) -> tuple[float, float]:  # fmt: skip
    """95 % interval of one AUROC, texts resampled with `weights` (lab.stats.cluster_weights over all texts).

    text: columns of `weights`. NaN below 5 texts with or without the label.
    """
    clusters = min(len(np.unique(text[label])), len(np.unique(text[~label])))
    if clusters < MIN_CLUSTERS:
        return float("nan"), float("nan")
    on = np.flatnonzero(value > 0)
    on = on[np.argsort(value[on], kind="stable")]
    off = value <= 0
    # Places where the feature is off are one group of ties: counts per text are enough.
    sides = []
    for side in (label, ~label):
        ties = weights @ np.bincount(text[off & side], minlength=weights.shape[1])
        steps = weights[:, text[on]] * side[on]
        begin = np.flatnonzero(np.diff(value[on], prepend=-1.0))
        groups = np.add.reduceat(steps, begin, axis=1) if len(on) else steps
        sides.append(np.column_stack([ties, groups]))
    with_label, without = sides
    below = np.cumsum(without, axis=1) - without / 2
    both = with_label.sum(axis=1) * without.sum(axis=1)
    found = (with_label * below).sum(axis=1) / np.where(both > 0, both, np.nan)
    low, high = interval(found, clusters)
    return float(low), float(high)
