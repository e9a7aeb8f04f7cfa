"""A text in two models made of planted numbers, for figures and pages."""

from itertools import pairwise

import numpy as np

from lab.records import ModelIdentity
from lab.records.words import HeadMatch, TokenCell, WordAttention, WordMeasure, WordPieces, WordsBook

TEXT = "Ada <b>\nsmells & paints!"
LABELS = ("a", "b <i>", "a2")
WORDS = (("Ada", 0, 3, False, 1, 2), ("<", 4, 5, True, 1, 1), ("b", 5, 6, False, 1, 1), (">", 6, 7, True, 1, 1),
         ("smells", 8, 14, False, 3, 1), ("&", 15, 16, True, 1, 1), ("paints", 17, 23, False, 2, 2),
         ("!", 23, 24, True, 1, 1))  # fmt: skip
STARTS = {"a": (0, 3, 8, 10, 12, 14, 16, 19, 23), "b <i>": (0, 1, 3, 8, 14, 16, 19, 23)}
NAN = float("nan")


def _cells(model):
    bounds = [*STARTS[model], len(TEXT)]
    rows = [TokenCell(model, f"<start of {model}>", -1, -1, 3, NAN, True)]
    for k, (start, end) in enumerate(pairwise(bounds)):
        nats = NAN if k == 0 else 1.0 + k
        rows.append(TokenCell(model, TEXT[start:end], start, end, 1 if k < 8 else 2, nats, False))
    return rows


def _attention(model, layers, heads, rng):
    n = len(WORDS)
    raw = np.tril(rng.random((layers, heads, n, n)))
    return WordAttention(
        model, tuple(w[0] for w in WORDS), raw / raw.sum(axis=-1, keepdims=True), rng.random((layers, heads))
    )


def fake_words(place="system", control=True, run="words-fake"):
    rng = np.random.default_rng(0)
    models = tuple(
        ModelIdentity(m, f"/m/{m}", "f" * 64, 10, 2, 8, 100, "float32", False) for m in LABELS[: 2 + control]
    )

    def row(what, model, scope, value, split="all", null=NAN, p=NAN, low=None):
        low = value - 0.1 if low is None else low
        return WordMeasure(
            what, model, scope, value, low, value + 0.1, null, p, 10, "texts", "unit", split, "why"
        )

    between = "a | b <i>"
    measures = [
        row("characters in a token of both", between, "this text", 0.9),
        row("same cuts inside words", between, "this text", 0.5, null=0.2, p=0.03),
        row("surprisal", "a", "this text", 2.0, low=NAN),
        row("surprisal", "b <i>", "this text", 3.0, low=NAN),
        row("matched heads", between, "10 texts", 0.28, "test", 0.38, 0.002),
        row("gain of matched heads", between, "10 texts", 0.1, "test", 0.0, 0.002),
        row("mean over heads", between, "10 texts", 0.06, "test", 0.13, 0.002),
    ]
    matches = tuple(
        HeadMatch(*LABELS[:2], k // 2, k % 2, k // 3, k % 3, 0.2 + k / 20, 0.1, 0.5, 0.4, 0.2 - k / 20, 0.0,
                  0.3, 0.01 if k < 2 else 0.4, 10, "test")
        for k in range(4)
    )  # fmt: skip
    return WordsBook(
        run, models, LABELS[: 2 + control], place, TEXT, tuple(WordPieces(*w) for w in WORDS),
        tuple(c for m in LABELS[:2] for c in _cells(m)), tuple(measures), matches,
        (_attention(LABELS[0], 2, 2, rng), _attention(LABELS[1], 2, 3, rng)), rng.random((4, 6)),
        {"seed": 0, "texts": 10},
    )  # fmt: skip
