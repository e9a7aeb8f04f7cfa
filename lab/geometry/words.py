"""One text, two tokenizers: spans on characters, words, pieces per word, agreement of the cuts inside words.

Only characters are common to two tokenizers, so everything is put on them. Whitespace belongs to the token
after it, whichever way a tokenizer counts it (byte-level BPE takes the blank into the token, others leave
it between tokens); blanks at the end belong to the last token.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Real
from numpy import ndarray

from lab.records import LabError
from lab.records.words import Cut, Word
from lab.stats import cluster_weights, interval, sign_flip, upper_p

LEAST_COVERED = 0.5
"""Tokens that hold less of a text's visible characters have offsets that cannot be believed."""
Slots = Bool[ndarray, " slot"]


# ------------------------------------------------------------------ spans


def repaired(text: str, offsets: Sequence[tuple[int, int]]) -> Cut:
    """The cut that a fast tokenizer's offsets mean.

    A token without width reaches to the start of the next one that starts later, the last to the end of the
    text: some tokenizers report (0, 0), (6, 6) where (0, 6), (6, 12) is meant. Where two start at
    one place the first stays without width. Blanks between tokens go to the token after them. Repairing
    twice changes nothing. LabError for spans that run backwards, or that leave out half of what is visible.
    """
    pairs = np.array(offsets, dtype=np.int64).reshape(-1, 2)
    cut = Cut(text, pairs[:, 0], pairs[:, 1])
    start, end = cut.start.copy(), cut.end.copy()
    later = np.append(start[1:], len(text))
    held = np.maximum.accumulate(np.append(0, end))[:-1]
    empty = (start == end) & (start >= held)
    end[empty] = later[empty]
    for t in range(len(start)):
        before = int(end[:t].max(initial=0))
        if before < start[t]:
            start[t] -= len(gap := text[before : start[t]]) - len(gap.rstrip())
    if len(end) and not text[int(end.max()) :].strip():
        end[-1] = len(text)
    found = Cut(text, start, end)
    if coverage(found) < LEAST_COVERED:
        raise LabError(
            f"expected tokens that hold the text's characters, got {coverage(found):.0%} of them; the tokenizer "
            "drops them or its offsets are wrong: take a checkpoint with another tokenizer"
        )
    return found


def covered(cut: Cut) -> Bool[ndarray, " char"]:
    """Which characters lie inside a token."""
    steps = np.zeros(len(cut.text) + 1, dtype=np.int64)
    np.add.at(steps, cut.start, 1)
    np.add.at(steps, cut.end, -1)
    return np.cumsum(steps)[:-1] > 0


def coverage(*cuts: Cut) -> float:
    """Share of the visible characters that lie inside a token of every cut; NaN for a blank text."""
    visible = np.array([not c.isspace() for c in cuts[0].text], dtype=bool)
    inside = np.logical_and.reduce([covered(cut) for cut in cuts])
    return float(inside[visible].mean()) if visible.any() else float("nan")


@dataclass(frozen=True)
class Cell:
    """Characters start to end - 1, held by `tokens` tokens whose values sum to `value`; 0 tokens: by none."""

    start: int
    end: int
    tokens: int
    value: float


def cells(cut: Cut, values: Float[ndarray, " token"]) -> tuple[Cell, ...]:
    """Cells that tile the text: tokens that share characters are one cell, what no token holds is another.

    A token without characters adds to the cell after it, the last ones to the cell before. The sum of
    `value` is the sum of `values`; a cell with an unknown token, or none, is NaN.
    """
    found: list[Cell] = []
    tokens, waiting = 0, 0.0
    for start, end, value in zip(cut.start.tolist(), cut.end.tolist(), values.tolist(), strict=True):
        tokens, waiting = tokens + 1, waiting + value
        if start == end:
            continue
        last = found[-1].end if found else 0
        if start < last:
            old = found.pop()
            cell = Cell(old.start, max(last, end), old.tokens + tokens, old.value + waiting)
        else:
            if start > last:
                found.append(Cell(last, start, 0, float("nan")))
            cell = Cell(start, end, tokens, waiting)
        found.append(cell)
        tokens, waiting = 0, 0.0
    if tokens and found:
        old = found.pop()
        found.append(Cell(old.start, old.end, old.tokens + tokens, old.value + waiting))
    last = found[-1].end if found else 0
    return (*found, Cell(last, len(cut.text), 0, float("nan"))) if last < len(cut.text) else tuple(found)


def spread(cut: Cut, values: Float[ndarray, " token"]) -> Float[ndarray, " char"]:
    """Each character's equal share of its cell's value; NaN where it is unknown."""
    parts = [np.full(c.end - c.start, c.value / (c.end - c.start)) for c in cells(cut, values)]
    return np.concatenate([np.zeros(0), *parts])


# ------------------------------------------------------------------ words


def words_of(text: str) -> tuple[Word, ...]:
    """Words (letters, marks on letters, digits; apostrophes between them) and single punctuation marks.

    Scripts without blanks between words give one word per run. Blanks belong to no word.
    """
    kinds = "".join(map(_kind, text))
    return tuple(
        Word(text[m.start() : m.end()], m.start(), m.end(), "w" not in m.group())
        for m in re.finditer(r"w[wj]*(?:'w[wj]*)*|[m'j]j*", kinds)
    )


def _kind(character: str) -> str:
    if character.isspace():
        return " "
    if character in "'’":
        return "'"
    category = unicodedata.category(character)
    if category[0] == "M" or category == "Cf":  # accents, vowel signs, joiners: part of what they follow
        return "j"
    return "w" if category[0] in "LN" or category == "Pc" else "m"


def pieces(cut: Cut, words: Sequence[Word]) -> Int[ndarray, " word"]:
    """How many tokens touch each word; a token over several words counts in each."""
    begin, end = (np.array([getattr(w, k) for w in words], dtype=np.int64) for k in ("start", "end"))
    touches = (cut.start[:, None] < end) & (cut.end[:, None] > begin) & (cut.end > cut.start)[:, None]
    return touches.sum(axis=0)


def inner_cuts(cut: Cut, words: Sequence[Word]) -> list[Slots]:
    """Per word: at which of the places between its characters a token starts; [characters - 1] each."""
    starts = np.zeros(len(cut.text) + 1, dtype=bool)
    starts[cut.start[cut.end > cut.start]] = True
    return [starts[w.start + 1 : w.end] for w in words]


# ------------------------------------------------------------------ agreement of cuts


@dataclass(frozen=True)
class CutWord:
    """A word's form and where either tokenizer cuts it, [characters - 1] each."""

    form: str
    a: Slots
    b: Slots


def cut_words(a: Cut, b: Cut) -> list[CutWord]:
    """The words, not the marks, of a text in both cuts. LabError for cuts of different texts."""
    if a.text != b.text:
        raise LabError("expected two cuts of one text, got two texts; cut the same text with both tokenizers")
    words = [w for w in words_of(a.text) if not w.mark]
    both = zip(words, inner_cuts(a, words), inner_cuts(b, words), strict=True)
    return [CutWord(word.text, one, other) for word, one, other in both]


def distinct(words: Iterable[CutWord]) -> list[CutWord]:
    """Each word once: a tokenizer cuts a word alike whenever it comes, so repeats are no evidence."""
    return list({(w.form, w.a.tobytes(), w.b.tobytes()): w for w in words}.values())


@dataclass(frozen=True)
class BoundaryAgreement:
    """How far two tokenizers cut words at the same places.

    f1 = 2 |A and B| / (|A| + |B|) over the places inside words, 1 = same, NaN when neither cuts; interval
    by bootstrap over distinct words. chance: its expectation when each word keeps its two numbers of cuts
    and the places are random; anywhere: when only the totals are kept. p: one-sided, of `chance`.
    n: words that at least one of them cuts. p says that places agree, given which words are cut.
    """

    f1: float
    low: float
    high: float
    chance: float
    anywhere: float
    p: float
    n: int


def boundary_agreement(
    words: Sequence[CutWord], rng: np.random.Generator, draws: int = 1000
) -> BoundaryAgreement:
    """Agreement over distinct words of the cuts inside them; NaN p and interval below 5 cut words.

    The null moves B's cuts to random places inside their words. It is exact, so `chance` is hypergeometric:
    sum of a b / places. Words that both leave whole, or that have one character, carry nothing.
    """
    cut = [w for w in distinct(words) if (w.a | w.b).any()]
    if not cut:
        nan = float("nan")
        return BoundaryAgreement(nan, nan, nan, nan, nan, nan, 0)
    rows = np.array([[(w.a & w.b).sum(), w.a.sum(), w.b.sum(), len(w.a)] for w in cut], dtype=np.float64)
    shared, a, b, places = rows.T
    total = float(a.sum() + b.sum())
    everywhere = sum(len(w.a) for w in distinct(words))
    weights = cluster_weights([np.arange(len(cut))], draws, rng)
    low, high = interval(2 * (weights @ shared) / (weights @ (a + b)), len(cut))
    both = (a > 0) & (b > 0)
    null = np.zeros(draws)
    for n, k, m in zip(places[both], a[both], b[both], strict=True):
        null += rng.hypergeometric(int(k), int(n - k), int(m), size=draws)
    p = upper_p(float(shared.sum()), null)
    return BoundaryAgreement(
        f1=float(2 * shared.sum() / total), low=float(low), high=float(high),
        chance=float(2 * (a * b / places).sum() / total),
        anywhere=float(2 * a.sum() * b.sum() / everywhere / total),
        p=p if not np.isnan(low) else float("nan"), n=len(cut),
    )  # fmt: skip


# ------------------------------------------------------------------ over texts


@dataclass(frozen=True)
class Estimate:
    """A value over n texts with its bootstrap interval, null and two-sided sign-flip p; NaN: cannot tell."""

    value: float
    low: float
    high: float
    null: float
    p: float
    n: int


def over_texts(
    values: Float[ndarray, " text"], rng: np.random.Generator, null: Float[ndarray, " text"] | float = np.nan,
    sizes: Real[ndarray, " text"] | None = None, draws: int = 1000,
) -> Estimate:  # fmt: skip
    """Mean over texts, weighted by `sizes` (so that tokens per word is all tokens over all words).

    Texts are resampled. p is of "values and null are equal on average", texts counting alike. NaN texts are
    left out; below 5 texts the interval and p are NaN.
    """
    values = np.asarray(values, dtype=np.float64)
    nulls = np.broadcast_to(np.asarray(null, dtype=np.float64), values.shape)
    weight = np.ones(len(values)) if sizes is None else np.asarray(sizes, dtype=np.float64)
    known = ~np.isnan(values) & (weight > 0)
    values, nulls, weight = values[known], nulls[known], weight[known]
    nan, n = float("nan"), len(values)
    if n == 0:
        return Estimate(nan, nan, nan, nan, nan, 0)
    found = cluster_weights([np.arange(n)], draws, rng) @ np.stack([values * weight, weight], axis=1)
    low, high = interval(found[:, 0] / found[:, 1], n)
    return Estimate(
        float(values @ weight / weight.sum()), float(low), float(high), float(nulls @ weight / weight.sum()),
        sign_flip(nulls - values, rng), n,
    )  # fmt: skip
