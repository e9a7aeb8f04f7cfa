"""The same feature in two dictionaries: matched by activation on one half of texts, reported on the other.

Two dictionaries of one model are compared at tokens; dictionaries of two models with two tokenizers at words, where
every character of a token has the token's activation and a word the mean of its characters.

    token_units(a, b) / word_units(a, b) -> (Units of A, Units of B, coverage)
    match(a, b, scramble, rng) -> Match               scramble: `shuffled_rows` or `other_texts`
    nearest_rows(a, b) -> (which, cosine);  cosine_null(a, b, rng) -> best cosines with random rows

The best of thousands of features always looks good, so the null is the same search, choosing included, on
scrambled pairs of rows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.sparse import vstack

from lab.geometry.features import AT_ONCE, alike, pooled_p
from lab.geometry.words import words_of
from lab.records import LabError
from lab.records.feature_cards import Activity, Sparse, csr
from lab.stats import MIN_CLUSTERS, benjamini_hochberg, cluster_weights, interval

CELLS = 2**24
"""Correlations that are held at once."""
PerA = Float[ndarray, " feature_a"]
Rows = Int[ndarray, " row"]
Pairing = tuple[Rows, Rows]


# ------------------------------------------------------------------ common rows


@dataclass(frozen=True)
class Units:
    """Activations csr [unit, feature] at tokens or words; text [unit]: which text each is of, ascending."""

    values: Sparse
    text: Int[ndarray, " unit"]


def token_units(a: Activity, b: Activity) -> tuple[Units, Units, float]:
    """The tokens themselves, of two dictionaries of one model. LabError where they are not the same tokens."""
    same = len(a.text) == len(b.text) and np.array_equal(a.text, b.text) and np.array_equal(a.end, b.end)
    if not same:
        raise LabError(
            f"expected the same tokens read by one model, got {len(a.text)} and {len(b.text)}; read the same texts"
        )
    return Units(a.values, a.text), Units(b.values, b.text), 1.0


def word_units(a: Activity, b: Activity) -> tuple[Units, Units, float]:
    """The words that both models read of each text from its beginning, and the share of all words that these are.

    Texts are compared word by word, so blanks do not matter; one is left where they part (cut off, or a
    template that changes it). LabError for different numbers of texts and where nothing is common.
    """
    if len(a.texts) != len(b.texts):
        raise LabError(
            f"expected the same texts in both models, got {len(a.texts)} and {len(b.texts)}; read the same samples"
        )
    rows, texts, common, whole = ([], []), [], 0, 0
    for i, pair in enumerate(zip(a.texts, b.texts, strict=True)):
        words = [words_of(text) for text in pair]
        n = 0
        while n < min(map(len, words)) and words[0][n].text == words[1][n].text:
            n += 1
        common, whole = common + n, whole + max(map(len, words))
        for side, table, said in zip(rows, (a, b), words, strict=True):
            spans = np.array([(w.start, w.end) for w in said[:n]], dtype=np.int64).reshape(-1, 2)
            side.append(_word_means(table, i, spans))
        texts += [i] * n
    if not common:
        raise LabError("the two models have no word in common; expected the same texts read by both")
    one, other = (csr(vstack(side, format="csr")) for side in rows)
    text = np.array(texts)
    return Units(one, text), Units(other, text), common / whole


def _word_means(table: Activity, text: int, spans: Int[ndarray, "word 2"]) -> Sparse:
    """[word, feature]: mean over each word's characters of the activation of the token that holds them."""
    tokens = np.arange(*np.searchsorted(table.text, [text, text + 1]))
    start, end = table.start[tokens], table.end[tokens]
    overlap = np.minimum(end, spans[:, 1:]) - np.maximum(start, spans[:, :1])
    held = np.clip(overlap, 0, None) / np.maximum(spans[:, 1:] - spans[:, :1], 1)
    return csr(csr(held) @ table.values[tokens])


# ------------------------------------------------------------------ scrambled pairs


Scramble = Callable[[Int[ndarray, " unit"], np.random.Generator], Pairing]


def shuffled_rows(text: Int[ndarray, " unit"], rng: np.random.Generator) -> Pairing:
    """Every unit of A with a random one of B."""
    return np.arange(len(text)), rng.permutation(len(text))


def other_texts(text: Int[ndarray, " unit"], rng: np.random.Generator) -> Pairing:
    """A reads one text, B another: words in order, as many as the shorter has. What is left is place in the text."""
    edges = np.flatnonzero(np.diff(text, prepend=-1, append=-1))
    spans = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    order = rng.permutation(len(spans))
    one, other = [], []
    for k, mine in enumerate(order):
        (a, a_end), (b, b_end) = spans[mine], spans[order[(k + 1) % len(order)]]
        n = min(a_end - a, b_end - b)
        one.append(np.arange(a, a + n))
        other.append(np.arange(b, b + n))
    return np.concatenate(one), np.concatenate(other)


# ------------------------------------------------------------------ matching


@dataclass(frozen=True)
class Match:
    """The nearest feature of B for every feature of A, each [feature_a].

    twin: chosen on one half of the texts, -1 where A's feature does not vary there; r: correlation on the other half,
    low/high its 95 % interval over texts; null: mean of the same search on scrambled rows, p: one-sided, against
    the null of features that fire about as often, q over features; null_r [draw, feature_a]. NaN where A's feature
    fires in fewer than 5 texts of the other half. units, texts: of the other half.
    """

    twin: Int[ndarray, " feature_a"]
    r: PerA
    low: PerA
    high: PerA
    null: PerA
    p: PerA
    q: PerA
    null_r: Float[ndarray, "draw feature_a"]
    units: int
    texts: int


def match(
    a: Units, b: Units, scramble: Scramble, rng: np.random.Generator, nulls: int = 10, draws: int = 500
) -> Match:
    """Choose on a random half of the texts, report on the other; `nulls` scrambled searches. LabError below 4 texts."""
    texts = np.unique(a.text)
    if len(texts) < 4:
        raise LabError(f"expected at least 4 texts, half of them to choose on, got {len(texts)}; add texts")
    chosen = rng.permutation(texts)[: len(texts) // 2]
    inside = np.isin(a.text, chosen)
    # In float32 the sums over many tokens would lose rare features.
    x, y = a.values.astype(np.float64), b.values.astype(np.float64)
    xa, xb, ya, yb = x[inside], x[~inside], y[inside], y[~inside]
    twin, _ = best(xa, ya)
    r = paired(xb, yb, twin)
    null = np.full((nulls, len(r)), np.nan)
    for k in range(nulls):
        one, other = scramble(a.text[inside], rng)
        wrong, _ = best(xa[one], ya[other])
        one, other = scramble(a.text[~inside], rng)
        null[k] = paired(xb[one], yb[other], wrong)
    rest = a.text[~inside]
    spread = _firing_texts(xb, rest)
    seldom = spread < MIN_CLUSTERS
    r, null = np.where(seldom, np.nan, r), np.where(seldom, np.nan, null)
    low, high = _bands(xb, yb, twin, rest, rng, draws)
    p = np.full(len(r), np.nan)
    known = np.flatnonzero(~np.isnan(r))
    for part in alike(np.asarray((xb[:, known] > 0).sum(axis=0), np.float64).ravel()):
        # A scrambled search that finds nothing that varies found no correlation.
        p[known[part]] = pooled_p(r[known[part]], np.nan_to_num(null[:, known[part]]))
    mean = np.where(np.isnan(r), np.nan, np.nan_to_num(null).mean(axis=0) if nulls else np.nan)
    return Match(
        twin, r, np.where(seldom, np.nan, low), np.where(seldom, np.nan, high), mean, p, benjamini_hochberg(p), null,
        xb.shape[0], len(texts) - len(chosen),
    )  # fmt: skip


def best(x: Sparse, y: Sparse) -> tuple[Int[ndarray, " feature_a"], PerA]:
    """For every column of x the column of y with the highest correlation, and that; -1 and NaN where x does not vary.

    Memory: CELLS correlations.
    """
    which, value = np.full(x.shape[1], -1), np.full(x.shape[1], np.nan)
    mean, sd = _moments(y)
    for part in _parts(x.shape[1], y.shape[1]):
        mine = csr(x[:, part])
        m, s = _moments(mine)
        cross = (mine.T @ y).toarray() / max(x.shape[0], 1) - np.outer(m, mean)
        scale = np.outer(s, sd)
        r = np.where(scale > 0, cross / np.where(scale > 0, scale, 1.0), -np.inf)
        top = r.argmax(axis=1)
        at = r[np.arange(len(top)), top]
        which[part] = np.where(np.isfinite(at), top, -1)
        value[part] = np.where(np.isfinite(at), at, np.nan)
    return which, value


def paired(x: Sparse, y: Sparse, twin: Int[ndarray, " feature_a"]) -> PerA:
    """Correlation of every column of x with its twin of y; NaN without a twin or where one does not vary."""
    other = _twins(y, twin)
    (m, s), (n, t) = _moments(x), _moments(other)
    cross = np.asarray(x.multiply(other).sum(axis=0)).ravel() / max(x.shape[0], 1) - m * n
    scale = s * t * (twin >= 0)
    return np.where(scale > 0, cross / np.where(scale > 0, scale, 1.0), np.nan)


def _twins(y: Sparse, twin: Int[ndarray, " feature_a"]) -> Sparse:
    """Columns of y in the order of their partners; a copy of column 0 where there is none."""
    return csr(y.tocsc()[:, np.maximum(twin, 0)])


def _moments(x: Sparse) -> tuple[PerA, PerA]:
    """Mean and standard deviation of the columns, float64; a spread that is rounding is 0."""
    n = max(x.shape[0], 1)
    mean = np.asarray(x.sum(axis=0, dtype=np.float64)).ravel() / n
    square = np.asarray(x.multiply(x).sum(axis=0, dtype=np.float64)).ravel() / n
    variance = square - mean**2
    return mean, np.sqrt(np.where(variance > 1e-12 * square, variance, 0.0))


def _parts(columns: int, against: int) -> Iterator[slice]:
    step = max(1, CELLS // max(against, 1))
    return (slice(k, min(k + step, columns)) for k in range(0, columns, step))


def _text_rows(text: Int[ndarray, " unit"]) -> Sparse:
    _, which = np.unique(text, return_inverse=True)
    return csr((np.ones(len(text)), (which, np.arange(len(text)))))


def _firing_texts(x: Sparse, text: Int[ndarray, " unit"]) -> Int[ndarray, " feature_a"]:
    return np.asarray(((_text_rows(text) @ x) > 0).sum(axis=0)).ravel()


def _bands(
    x: Sparse, y: Sparse, twin: Int[ndarray, " feature_a"], text: Int[ndarray, " unit"],
    rng: np.random.Generator, draws: int,
) -> tuple[PerA, PerA]:  # fmt: skip
    """95 % intervals of `paired`, texts resampled: correlations from sums per text."""
    by_text = _text_rows(text)
    weights = cluster_weights([np.arange(by_text.shape[0])], draws, rng)
    total = (weights @ np.asarray(by_text.sum(axis=1)).ravel())[:, None]
    low, high = np.full((2, x.shape[1]), np.nan)
    for start in range(0, x.shape[1], AT_ONCE):
        part = slice(start, min(start + AT_ONCE, x.shape[1]))
        one, other = csr(x[:, part]).astype(np.float64), _twins(y, twin[part]).astype(np.float64)
        sums = [(by_text @ s).toarray() for s in (
            one, other, one.multiply(one), other.multiply(other), one.multiply(other)
        )]  # fmt: skip
        m, n, xx, yy, xy = ((weights @ s) / total for s in sums)
        scale = (xx - m**2) * (yy - n**2)
        varies = scale > 1e-12 * xx * yy
        r = (xy - m * n) / np.where(varies, np.sqrt(np.abs(scale)), np.nan)
        low[part], high[part] = interval(r, by_text.shape[0])
    return np.where(twin >= 0, low, np.nan), np.where(twin >= 0, high, np.nan)


# ------------------------------------------------------------------ decoder rows


def nearest_rows(
    a: Float[ndarray, "feature_a d_in"], b: Float[ndarray, "feature_b d_b"]
) -> tuple[Int[ndarray, " feature_a"], PerA]:
    """For every decoder row of A the row of B with the highest cosine, and that. LabError for unlike widths."""
    if a.shape[1] != b.shape[1]:
        raise LabError(f"expected decoders of one width, got {a.shape[1]} and {b.shape[1]}; take one model's")
    one, other = _unit(a), _unit(b)
    which, value = np.zeros(len(a), np.int64), np.zeros(len(a))
    for part in _parts(len(a), len(b)):
        cosine = one[part] @ other.T
        which[part], value[part] = cosine.argmax(axis=1), cosine.max(axis=1)
    return which, value


def cosine_null(
    a: Float[ndarray, "feature_a d_in"], b: Float[ndarray, "feature_b d_in"], rng: np.random.Generator
) -> PerA:
    """Best cosine of each row of A with as many random rows as B has, of the second moments of B's unit rows."""
    unit = _unit(b)
    values, axes = np.linalg.eigh(unit.T @ unit / len(unit))
    root = axes * np.sqrt(np.clip(values, 0.0, None))
    return nearest_rows(a, rng.normal(size=b.shape) @ root.T)[1]


def _unit(rows: Float[ndarray, "feature d_in"]) -> Float[ndarray, "feature d_in"]:
    rows = rows.astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
