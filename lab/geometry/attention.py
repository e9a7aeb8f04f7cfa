"""Attention of two models over the words of the same text, whatever their tokenizers: heads matched, held out.

A head's pattern [query, key] over tokens becomes one over words. Between heads: the squared Hellinger
distance of two rows, 1 - sum sqrt(p q), averaged over rows; 0 same, 1 disjoint. It lies between ln 2 times
the Jensen-Shannon divergence in bits and that divergence, but all pairs of heads are one matrix product,
so it also serves models with a thousand heads.

Any two heads that look at the word before agree on any text, and the best of many pairs always looks good.
So heads are matched on some texts and reported on others, and the null is the same procedure, matching
included, while the models read different texts: what is left is what position alone explains. The gain over
that null is what counts: a head that looks everywhere is near to every head.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.optimize import linear_sum_assignment

from lab.records import LabError
from lab.records.words import Cut, Word
from lab.stats import average

LEAST_MASS = 1e-3
"""A word that gives less of its attention to the text has a row of NaN: what is left is rounding."""
Heads = Float[ndarray, "head word word"]
HeadsA = Float[ndarray, "head_a word word"]
HeadsB = Float[ndarray, "head_b word_b word_b"]
AnyHeads = Float[ndarray, "_head _word _word"]
Costs = Float[ndarray, "text head_a head_b"]
Pairs = Int[ndarray, "pair 2"]
Divergence = Callable[[HeadsA, HeadsB], Float[ndarray, "head_a head_b"]]


# ------------------------------------------------------------------ from tokens to words


def word_weights(cut: Cut, words: Sequence[Word]) -> Float[ndarray, "token word"]:
    """Share of each token's visible characters that lies in each word; rows sum to 1, or to 0 for blanks."""
    counts = np.zeros((len(cut.start), len(words)))
    for k, word in enumerate(words):
        counts[:, k] = np.clip(np.minimum(cut.end, word.end) - np.maximum(cut.start, word.start), 0, None)
    total = counts.sum(axis=1, keepdims=True)
    return counts / np.where(total > 0, total, 1.0)


def to_words(
    pattern: Float[ndarray, "head query key"], weights: Float[ndarray, "query word"], first: int
) -> tuple[Heads, Float[ndarray, " head"]]:
    """Attention over words, and the share [head] of it that went elsewhere before that.

    `pattern` has the queries of the text's tokens and the keys of the whole prompt, of which the text's
    begin at `first`. A word's row is the mean over its tokens (by characters), a word's column the sum.
    What goes to template, BOS, blanks, or later words (a token over two words) is dropped and the rest of the row brought
    to a sum of 1; NaN where less than LEAST_MASS of a row is left.
    """
    text = pattern[:, :, first : first + len(weights)].astype(np.float64)
    size = weights.sum(axis=0)
    queries = weights / np.where(size > 0, size, 1.0)
    rows = np.einsum(
        "tq,htk->hqk", queries, np.einsum("htj,jk->htk", text, weights, optimize=True), optimize=True
    )
    rows = np.tril(rows)
    mass = rows.sum(axis=-1, keepdims=True)
    known = mass > LEAST_MASS
    seen = size > 0
    outside = 1.0 - mass[:, seen, 0].mean(axis=1) if seen.any() else np.full(len(rows), np.nan)
    return np.where(known, rows / np.where(known, mass, 1.0), np.nan), outside


def head_mean(heads: Heads) -> Float[ndarray, "1 word word"]:
    """The mean over heads, as one head; a word that some heads leave unknown has the mean of the others."""
    return np.asarray(average(heads, 0))[None]


def crop(heads: Heads, words: int) -> Float[ndarray, "head {words} {words}"]:
    """The first words alone: rows look back only, so they still sum to 1."""
    return heads[:, :words, :words]


def shuffled_keys(heads: Heads, rng: np.random.Generator) -> Heads:
    """Each row's attention moved to random words among those it may look at, alike for all heads."""
    found = heads.copy()
    for q in range(heads.shape[1]):
        found[:, q, : q + 1] = heads[:, q, rng.permutation(q + 1)]
    return found


# ------------------------------------------------------------------ between heads


def squared_hellinger(a: HeadsA, b: HeadsB) -> Float[ndarray, "head_a head_b"]:
    """Mean over rows of 1 - sum sqrt(p q); rows that either head leaves unknown do not count.

    The first row is left out: there is one word to look at. NaN without a common row.
    """
    _same_words(a, b)
    one, other = a[:, 1:], b[:, 1:]
    known = [np.asarray(~np.isnan(x).any(axis=-1), np.float64) for x in (one, other)]
    roots = [
        np.sqrt(np.nan_to_num(x, copy=True)).astype(np.float64).reshape(len(x), -1) for x in (one, other)
    ]
    rows, overlap = known[0] @ known[1].T, np.matmul(roots[0], roots[1].T)
    return np.where(rows > 0, np.clip(1.0 - overlap / np.maximum(rows, 1.0), 0.0, 1.0), np.nan)


def jensen_shannon(a: HeadsA, b: HeadsB) -> Float[ndarray, "head_a head_b"]:
    """Mean over rows of the Jensen-Shannon divergence in bits (Lin 1991), 0 same, 1 disjoint; else the same."""
    _same_words(a, b)
    found = np.full((len(a), len(b)), np.nan)
    for i, one in enumerate(a[:, 1:]):
        for j, other in enumerate(b[:, 1:]):
            both = _entropy((one + other) / 2) - (_entropy(one) + _entropy(other)) / 2
            found[i, j] = average(both, 0)
    return np.clip(found, 0.0, 1.0)


def _entropy(rows: Float[ndarray, "row word"]) -> Float[ndarray, " row"]:
    """Bits; NaN for a row that is unknown."""
    safe = np.where(rows > 0, rows, 1.0)
    return np.where(np.isnan(rows).any(axis=-1), np.nan, -(safe * np.log2(safe)).sum(axis=-1))


def _same_words(a: HeadsA, b: HeadsB) -> None:
    if a.shape[1:] != b.shape[1:]:
        raise LabError(
            f"expected attention over the same words, got {a.shape[1]} and {b.shape[1]}; crop both to one length"
        )


def best_pairs(costs: Costs) -> Pairs:
    """The assignment of heads to heads with the least mean divergence over texts; one pair per head.

    Of the model with more heads some stay alone. An unknown divergence counts as 1. Ties keep the order.
    """
    mean = np.asarray(average(costs, 0))
    rows, columns = linear_sum_assignment(np.where(np.isnan(mean), 1.0, mean))
    return np.stack([rows, columns], axis=1)


# ------------------------------------------------------------------ over texts


@dataclass(frozen=True)
class Divergences:
    """Divergences [text, head_a, head_b] of two models over texts of one split.

    same: both read the text; other: B reads the next text instead (after the last, the first); shuffled:
    B's attention is moved to random words that it may look at.
    """

    same: Costs
    other: Costs
    shuffled: Costs


def divergences(
    a: Sequence[HeadsA], b: Sequence[HeadsB], rng: np.random.Generator, divergence: Divergence = squared_hellinger
) -> Divergences:  # fmt: skip
    """All pairs of heads on every text, all of one number of words. LabError below 2 texts."""
    if len(a) != len(b) or len(a) < 2:
        raise LabError(
            f"expected attention of both models on the same texts, at least 2, got {len(a)} and {len(b)}"
        )
    pairs = list(zip(a, b, [*b[1:], b[0]], strict=True))
    return Divergences(
        same=np.stack([divergence(one, same) for one, same, _ in pairs]),
        other=np.stack([divergence(one, other) for one, _, other in pairs]),
        shuffled=np.stack([divergence(one, shuffled_keys(same, rng)) for one, same, _ in pairs]),
    )


@dataclass(frozen=True)
class Matching:
    """Heads matched on extract texts and what that is worth on test texts, each [text, pair].

    value: divergence of matched heads; other: of the heads that the same procedure matches while B reads
    other texts, on such texts; apart: of the matched heads themselves on such texts; shuffled: when B looks
    at random words;
    unmatched [text]: mean over all pairs of heads, what matching at random gives. NaN: a head of the pair
    hardly looked at that text.
    """

    pairs: Pairs
    value: Float[ndarray, "text pair"]
    other: Float[ndarray, "text pair"]
    apart: Float[ndarray, "text pair"]
    shuffled: Float[ndarray, "text pair"]
    unmatched: Float[ndarray, " text"]


def matched(extract: Divergences, test: Divergences) -> Matching:
    """Match on the extract texts, measure on the test texts."""
    pairs, null = best_pairs(extract.same), best_pairs(extract.other)
    return Matching(
        pairs, _at(test.same, pairs), _at(test.other, null), _at(test.other, pairs),
        _at(test.shuffled, pairs),
        np.asarray(average(test.same.reshape(len(test.same), -1), 1)),
    )  # fmt: skip


def _at(costs: Costs, pairs: Pairs) -> Float[ndarray, "text pair"]:
    return costs[:, pairs[:, 0], pairs[:, 1]]


def beyond_control(b: Matching, c: Matching) -> Float[ndarray, " text"]:
    """Per test text, how much further A is from B than from C: mean over A's heads that both matched."""
    shared = np.intersect1d(b.pairs[:, 0], c.pairs[:, 0])
    sides = [m.value[:, np.isin(m.pairs[:, 0], shared)] for m in (b, c)]
    return np.asarray(average(sides[0], 1)) - np.asarray(average(sides[1], 1))


@dataclass(frozen=True)
class HeadComparison:
    """Heads of A against those of each other model, over texts of one length.

    matchings: one per other model; means: the same for attention averaged over all heads (one pair);
    grid [head_a, head_b]: mean divergence on the test texts, first other model; words: how many of each
    text; extract, test: how many texts.
    """

    matchings: tuple[Matching, ...]
    means: tuple[Matching, ...]
    grid: Float[ndarray, "head_a head_b"]
    words: int
    extract: int
    test: int


def compare_heads(
    models: Sequence[Sequence[AnyHeads]], rng: np.random.Generator,
    divergence: Divergence = squared_hellinger,
) -> HeadComparison:  # fmt: skip
    """Attention [model][text] of A, then of the others, on the same texts; a random half is for extract.

    All texts are cropped to the words of the shortest, so that rows mean the same in the null.
    LabError below 4 texts.
    """
    texts = len(models[0])
    if texts < 4:
        raise LabError(f"expected at least 4 texts, half of them to match heads on, got {texts}; add texts")
    length = min(heads.shape[1] for rows in models for heads in rows)
    order = rng.permutation(texts)
    halves = (np.sort(order[: texts // 2]), np.sort(order[texts // 2 :]))
    cropped = [[crop(heads, length) for heads in rows] for rows in models]
    averaged = [[head_mean(heads) for heads in rows] for rows in cropped]

    def against(rows: Sequence[Sequence[AnyHeads]], k: int) -> tuple[Divergences, Divergences]:
        extract, test = (
            divergences([rows[0][i] for i in half], [rows[k][i] for i in half], rng, divergence)
            for half in halves
        )
        return extract, test

    others = range(1, len(models))
    found = [against(cropped, k) for k in others]
    return HeadComparison(
        tuple(matched(*pair) for pair in found), tuple(matched(*against(averaged, k)) for k in others),
        np.asarray(average(found[0][1].same, 0)), length, len(halves[0]), len(halves[1]),
    )  # fmt: skip
