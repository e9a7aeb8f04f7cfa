"""What readings of the same texts in two models say: pieces of words, cuts, surprisal, heads; a record each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy import ndarray

from lab.geometry.attention import HeadComparison, Matching, beyond_control
from lab.geometry.words import (
    Estimate,
    boundary_agreement,
    cells,
    coverage,
    cut_words,
    over_texts,
    pieces,
    words_of,
)
from lab.pipelines.texts import Reading
from lab.records.words import HeadMatch, TokenCell, WordAttention, WordMeasure, WordPieces
from lab.stats import MIN_CLUSTERS, average, benjamini_hochberg


def word_pieces(a: Reading, b: Reading, text: str) -> tuple[WordPieces, ...]:
    """How many tokens of either model touch each word of a text."""
    found = words_of(text)
    counts = zip(pieces(a.placed.cut, found).tolist(), pieces(b.placed.cut, found).tolist(), strict=True)
    return tuple(
        WordPieces(w.text, w.start, w.end, w.mark, i, j) for w, (i, j) in zip(found, counts, strict=True)
    )


def token_cells(labels: Sequence[str], readings: Sequence[Reading]) -> tuple[TokenCell, ...]:
    """The shown text cell by cell in each model, what its template wrote before the text first."""
    rows = []
    for label, reading in zip(labels, readings, strict=False):
        rows.append(TokenCell(label, reading.placed.before, -1, -1, reading.placed.first, float("nan"), True))
        cut = reading.placed.cut
        for c in cells(cut, reading.nats):
            rows.append(TokenCell(label, cut.text[c.start : c.end], c.start, c.end, c.tokens, c.value, False))
    return tuple(rows)


def word_attention(label: str, reading: Reading) -> WordAttention:
    """The attention of one model over the first words of the shown text."""
    layers, heads = reading.outside.shape
    size = len(reading.words)
    return WordAttention(
        label, tuple(w.text for w in reading.words), reading.attention.reshape(layers, heads, size, size),
        reading.outside,
    )  # fmt: skip


# ------------------------------------------------------------------ numbers


@dataclass(frozen=True)
class _Rows:
    """Writes one measure a row; what all rows share stands here."""

    scope: str
    over: str
    split: str

    def row(self, what: str, model: str, found: Estimate, unit: str, note: str = "") -> WordMeasure:
        if np.isnan(found.low) and 0 < found.n < MIN_CLUSTERS:
            few = f"{MIN_CLUSTERS} {self.over} are needed for an interval, {found.n} given"
            note = f"{note}; {few}" if note else few
        return WordMeasure(
            what, model, self.scope, found.value, found.low, found.high, found.null, found.p, found.n, self.over,
            unit, self.split, note,
        )  # fmt: skip


def cut_measures(
    scope: str, labels: Sequence[str], read: Sequence[Sequence[Reading]], draws: int,
    rng: np.random.Generator,
) -> list[WordMeasure]:  # fmt: skip
    """How A and B cut the texts, and how surprising they find them; `read` [model][text]."""
    write, sides = _Rows(scope, "texts", "all"), list(zip(labels, read, strict=False))
    both, between = list(zip(*read, strict=True)), " | ".join(labels[:2])
    shared = np.array([coverage(a.placed.cut, b.placed.cut) for a, b in both])
    visible = np.array([sum(not c.isspace() for c in a.placed.cut.text) for a, _ in both])

    def over(values: ndarray, sizes: ndarray, null: float = np.nan) -> Estimate:
        return over_texts(values, rng, null, sizes, draws)

    rows = [write.row("characters in a token of both", between, over(shared, visible), "share")]
    for unit, per in (("tokens per word", _word_tokens), ("tokens per character", _text_tokens)):
        parts = {label: np.array([per(r) for r in own]) for label, own in sides}
        ratio = {label: x[:, 0] / x[:, 1] for label, x in parts.items()}
        rows += [write.row(unit, label, over(ratio[label], x[:, 1]), unit) for label, x in parts.items()]
    rows.append(_agreement_row(scope, between, both, draws, rng))
    nats = {label: np.array([_nats(r) for r in own]) for label, own in sides}
    rate = {label: x[:, 0] / x[:, 1] for label, x in nats.items()}
    unit = "nats per character"
    rows += [write.row("surprisal", label, over(rate[label], x[:, 1]), unit) for label, x in nats.items()]
    a, b = (rate[label] for label in labels[:2])
    rows.append(write.row("surprisal, first less second", between, over(a - b, visible, 0.0), unit))
    return rows


def _word_tokens(reading: Reading) -> tuple[int, int]:
    """Tokens that touch words, a token counting in each, and the words; marks left out."""
    words = [w for w in words_of(reading.placed.cut.text) if not w.mark]
    return int(pieces(reading.placed.cut, words).sum()), len(words)


def _text_tokens(reading: Reading) -> tuple[int, int]:
    return len(reading.placed.cut.start), len(reading.placed.cut.text)


def _nats(reading: Reading) -> tuple[float, int]:
    """Surprisal in all and the characters of the cells where it is known."""
    known = [c for c in cells(reading.placed.cut, reading.nats) if not np.isnan(c.value)]
    return sum(c.value for c in known), sum(c.end - c.start for c in known)


def _agreement_row(
    scope: str, between: str, both: Sequence[tuple[Reading, Reading]], draws: int,
    rng: np.random.Generator,
) -> WordMeasure:  # fmt: skip
    words = [w for a, b in both for w in cut_words(a.placed.cut, b.placed.cut)]
    found = boundary_agreement(words, rng, draws)
    note = f"random places in any word: {found.anywhere:.2f}" if found.n else "neither cuts a word"
    estimate = Estimate(found.f1, found.low, found.high, found.chance, found.p, found.n)
    return _Rows(scope, "cut words", "all").row("same cuts inside words", between, estimate, "F1", note)


def attention_measures(
    scope: str, labels: Sequence[str], read: Sequence[Sequence[Reading]], heads: HeadComparison,
    draws: int, rng: np.random.Generator,
) -> list[WordMeasure]:  # fmt: skip
    """How far apart the models' attention is on the test texts, beside null and control."""
    unit = "squared Hellinger distance"
    test = _Rows(f"{heads.test} texts x {heads.words} words", "texts", "test")
    rows = []
    for label, own in zip(labels, read, strict=True):
        outside = np.array([r.outside.mean() for r in own])
        estimate = over_texts(outside, rng, draws=draws)
        everything = _Rows(scope, "texts", "all")
        rows.append(everything.row("attention outside the text's words", label, estimate, "share"))

    def against(values: ndarray, null: ndarray | float = np.nan) -> Estimate:
        return over_texts(values, rng, null, draws=draws)

    for other, one, mean in zip(labels[1:], heads.matchings, heads.means, strict=True):
        between = f"{labels[0]} | {other}"
        value, null, moved = (np.asarray(average(x, 1)) for x in (one.value, one.other, one.shuffled))
        note = f"{len(one.pairs)} pairs, matched on {heads.extract} other texts; null: all of it on different texts"
        unknown = int(np.isnan(one.value).sum())
        note += (
            f"; {unknown} of {one.value.size} values unknown: a head that hardly looks at the text"
            if unknown
            else ""
        )
        rows.append(test.row("matched heads", between, against(value, null), unit, note))
        note = "how much nearer on the same text than on different ones"
        rows.append(test.row("gain of matched heads", between, against(null - value, 0.0), unit, note))
        note = "null: the second model's attention on random words it may look at"
        rows.append(test.row("matched heads, shuffled", between, against(value, moved), unit, note))
        rows.append(test.row("all pairs of heads", between, against(one.unmatched), unit))
        found = against(mean.value[:, 0], mean.other[:, 0])
        rows.append(test.row("mean over heads", between, found, unit, "null: different texts"))
    if len(heads.matchings) > 1:
        further = beyond_control(heads.matchings[0], heads.matchings[1])
        between, note = f"{labels[0]} | {labels[1]} less {labels[2]}", "over heads that both matched"
        rows.append(test.row("matched heads beyond the control", between, against(further, 0.0), unit, note))
    return rows


def match_rows(
    labels: Sequence[str], heads: Sequence[int], found: Matching, rng: np.random.Generator, draws: int
) -> tuple[HeadMatch, ...]:  # fmt: skip
    """One row per matched pair; its own null is the same pair on different texts."""
    rows = []
    for k, (i, j) in enumerate(found.pairs.tolist()):
        value = over_texts(found.value[:, k], rng, draws=draws)
        gain = over_texts(found.apart[:, k] - found.value[:, k], rng, 0.0, draws=draws)
        rows.append((i, j, value, gain))
    q = benjamini_hochberg(np.array([gain.p for *_, gain in rows]))
    return tuple(
        HeadMatch(
            labels[0], labels[1], i // heads[0], i % heads[0], j // heads[1], j % heads[1], value.value, value.low,
            value.high, value.value + gain.value, gain.value, gain.low, gain.high, float(p), value.n, "test",
        )
        for (i, j, value, gain), p in zip(rows, q, strict=True)
    )  # fmt: skip
