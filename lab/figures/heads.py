"""Which heads of two models look alike: all pairs, the matched ones beside their null, and where one pair looks."""

from math import isfinite

import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float
from numpy import ndarray
from plotly.subplots import make_subplots

from lab.figures.cells import SHOWN_STILL, add_cells
from lab.figures.reading import interval, probability
from lab.figures.theme import LIGHT, MODEL_SYMBOLS, Theme, axis, blank, finish, text
from lab.figures.words import said
from lab.records import LabError
from lab.records.words import HeadMatch, WordsBook

SHOWN = 40
"""Words of an attention picture; more could not be read."""
PAIRS = 40
"""Matched pairs drawn; the table has all."""
FEWEST = 5
"""Test texts that an interval needs."""
Panel = Float[ndarray, "word word"]
Head = tuple[int, int]
"""Layer and head."""
DISTANCE = "squared Hellinger distance of attention over words  (0 same, 1 disjoint)"


def pair_name(match: HeadMatch) -> str:
    """`0.2 with 1.3`: layer.head of A, of B."""
    return _named((match.layer_a, match.head_a), (match.layer_b, match.head_b))


def _named(a: Head, b: Head) -> str:
    return f"{a[0]}.{a[1]} with {b[0]}.{b[1]}"


def heads_of(book: WordsBook, pair: str) -> tuple[Head, Head] | None:
    """The two heads that a name such as `0.2 with 1.3` means, matched or not; None if there are no such heads."""
    a, b = (_heads(x.outside.shape) for x in book.attention)
    return next(((i, j) for i in a for j in b if _named(i, j) == pair), None)


def attended(book: WordsBook, pair: str) -> pd.DataFrame:
    """One row per pair of words: what share of its attention each head of a pair gives to the word before.

    `pair`: as `pair_name` says it. NaN where a head hardly looks at the text. LabError when there is no such pair.
    """
    where, panels = _pair_panels(book, pair)
    seen = book.attention[0].words[: len(panels[0])]
    rows = [
        (i, j, seen[i], seen[j], *(float(panel[i, j]) for panel in panels))
        for i in range(len(seen))
        for j in range(i + 1)
    ]
    shares = [f"{label}: head {layer}.{head}" for label, (layer, head) in zip(book.pair, where, strict=True)]
    return pd.DataFrame(rows, columns=["looking", "looked at", "word", "word looked at", *shares])


def _pair_panels(book: WordsBook, pair: str) -> tuple[tuple[Head, Head], list[Panel]]:
    """The two heads of a pair, and their attention over the words that are shown."""
    where = heads_of(book, pair)
    if where is None:
        last = _named(*(_heads(x.outside.shape)[-1] for x in book.attention))
        raise LabError(
            f"No pair of heads “{pair}”; expected layer.head of {book.pair[0]} with layer.head of {book.pair[1]}, up to "
            f"“{last}”."
        )
    return where, [x.attention[at][:SHOWN, :SHOWN] for x, at in zip(book.attention, where, strict=True)]


def head_grid(book: WordsBook, theme: Theme = LIGHT) -> go.Figure:
    """Divergence of every head of A from every head of B on the test texts; squares: matched on the others."""
    a, b = (_head_names(x.outside.shape) for x in book.attention)
    title = f"Which heads look alike: <b>{text(book.labels[0])}</b> and <b>{text(book.labels[1])}</b>"
    figure = go.Figure(layout=blank(theme, title, min(800, max(240, 21 * len(a)))))
    most = max([0.01, *(v for v in book.grid.ravel().tolist() if isfinite(v))])
    heat = go.Heatmap(
        z=book.grid, x=b, y=a, zmin=0, zmax=most, xgap=1, ygap=1, meta={"role": "grid"},
        colorscale=[[0, theme.high], [1, theme.paper]],
        colorbar={"title": {"text": "divergence", "side": "right", "font": {"size": 12}}, "thickness": 12},
        customdata=[[[f"{i} with {j}"] for j in b] for i in a],
        hovertemplate="%{y} and %{x}: %{z:.2f}<extra></extra>",
    )  # fmt: skip
    add_cells(figure, heat)
    figure.add_trace(
        go.Scatter(
            x=[f"{m.layer_b}.{m.head_b}" for m in book.matches],
            y=[f"{m.layer_a}.{m.head_a}" for m in book.matches],
            mode="markers", name="matched on the extract texts", meta={"role": "matched"}, showlegend=True,
            marker={"symbol": "square-open", "size": 15, "color": theme.ink, "line": {"width": 2}}, unselected=SHOWN_STILL,
            customdata=[[pair_name(m)] for m in book.matches],
            hovertemplate="%{y} matched with %{x}<extra></extra>",
        )
    )  # fmt: skip
    kind = {"type": "category", "showgrid": False, "dtick": 1 if len(a) <= 32 else None}
    for update, label, ends in (
        (figure.update_yaxes, 0, [len(a) - 0.5, -0.5]),
        (figure.update_xaxes, 1, [-0.5, len(b) - 0.5]),
    ):
        update(axis(theme, f"layer.head of {text(book.labels[label])}", range=ends, **kind))
    finish(figure, _head_notes(book), theme, 58)
    return figure


def _heads(shape: tuple[int, ...]) -> list[Head]:
    return [(layer, head) for layer in range(shape[0]) for head in range(shape[1])]


def _head_names(shape: tuple[int, ...]) -> list[str]:
    return [f"{layer}.{head}" for layer, head in _heads(shape)]


def _head_notes(book: WordsBook) -> list[str]:
    """Matched, mean and control with their nulls, one line a measure."""
    found = []
    for what in (
        "matched heads",
        "gain of matched heads",
        "mean over heads",
        "matched heads beyond the control",
    ):
        rows = [m for m in book.measures if m.what == what]
        found += [f"{what}, {text(m.model)}: {said(m)} ({text(m.note)})." for m in rows]
    test = next((m for m in book.measures if m.split == "test"), None)
    over = f"Split: test, {test.scope}. " if test else ""
    return [
        f"Unit: {DISTANCE}. {over}Intervals: bootstrap over texts; null: the two read different texts.",
        *found,
    ]


def matched_heads(book: WordsBook, theme: Theme = LIGHT) -> go.Figure:
    """Each matched pair: how far apart on one text, with interval, and on different texts."""
    rows = sorted(book.matches, key=lambda m: -m.gain if isfinite(m.gain) else 0.0)[:PAIRS]
    names = [pair_name(m) for m in rows]
    figure = go.Figure(
        layout=blank(theme, "Matched heads, on the same text and on different ones", 24 * len(rows))
    )
    figure.add_trace(
        go.Scatter(
            x=[m.other_text for m in rows], y=names, mode="markers", name="the two read different texts (null)",
            meta={"role": "null"}, customdata=[[name] for name in names],
            marker={"symbol": "line-ns-open", "size": 14, "color": theme.faint, "line": {"width": 3}},
            hovertemplate="%{y}: %{x:.2f} on different texts<extra></extra>",
        )
    )  # fmt: skip
    spans = {
        "type": "data", "symmetric": False, "thickness": 1.5, "width": 0,
        "array": [m.high - m.divergence for m in rows], "arrayminus": [m.divergence - m.low for m in rows],
    }  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[m.divergence for m in rows], y=names, mode="markers", name="the same text", error_x=spans,
            meta={"role": "matched"},
            marker={
                "size": 9, "color": theme.ink,
                "symbol": [MODEL_SYMBOLS[0] if m.q < 0.05 else f"{MODEL_SYMBOLS[0]}-open" for m in rows],
            },
            customdata=[
                [name, f"{interval(m.low, m.high)}, {probability('q', m.q)}, n = {m.n} texts"]
                for name, m in zip(names, rows, strict=True)
            ],
            hovertemplate="%{y}: %{x:.2f} %{customdata[1]}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(axis(theme, DISTANCE, range=[0, 1]))
    names_axis = f"layer.head of {text(book.labels[0])} with {text(book.labels[1])}"
    figure.update_yaxes(axis(theme, names_axis, autorange="reversed", type="category", dtick=1))
    n = rows[0].n if rows else 0
    left_out = (
        f" The {PAIRS} pairs of the largest gain of {len(book.matches)}." if len(book.matches) > PAIRS else ""
    )
    note = (
        f"Pairs chosen on the extract texts, measured on {n} test texts; bars: 95 % bootstrap over texts. Filled: nearer "
        "on the same text than on different ones at q < .05 (sign flips over texts, Benjamini–Hochberg over pairs)."
        f"{left_out}"
    )
    few = f"No bars: {FEWEST} test texts are needed, {n} given." if 0 < n < FEWEST else ""
    finish(figure, [note, *([few] if few else [])], theme, 52)
    return figure


def pair_attention(book: WordsBook, pair: str, theme: Theme = LIGHT) -> go.Figure:
    """Where the two heads of a pair look in the shown text, word by word, one scale for both.

    `pair`: as `pair_name` says it, matched or not. Raises LabError when there is no such pair.
    """
    where, panels = _pair_panels(book, pair)
    shares = [float(x.outside[at]) for x, at in zip(book.attention, where, strict=True)]
    titles = [
        f"{text(label)}, head {layer}.{head} ({share:.0%} elsewhere)"
        for label, (layer, head), share in zip(book.pair, where, shares, strict=True)
    ]
    words = [text(w) for w in book.attention[0].words[:SHOWN]]
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.1)
    figure.update_layout(blank(theme, f"Where heads {pair} look", 430))
    at = list(range(len(words)))
    for k, panel in enumerate(panels):
        shown = [[float(v) if j <= i else None for j, v in enumerate(row)] for i, row in enumerate(panel)]
        figure.add_trace(
            go.Heatmap(
                z=shown, x=at, y=at, zmin=0, zmax=1, showscale=k == 1, hoverongaps=False,
                customdata=[[f"{q} looks at {w}" for w in words] for q in words],
                colorscale=[[0, theme.paper], [1, theme.high]], meta={"role": book.labels[k]},
                colorbar={"title": {"text": "share of attention", "side": "right", "font": {"size": 12}}, "thickness": 12},
                hovertemplate="%{customdata}: %{z:.2f}<extra></extra>",
            ), row=1, col=k + 1,
        )  # fmt: skip
    ticks = {"tickvals": at, "ticktext": words, "tickfont": {"size": 9}, "showgrid": False, "zeroline": False}
    figure.update_xaxes({**axis(theme, "the word looked at", tickangle=-90), **ticks})
    figure.update_yaxes({**axis(theme), **ticks, "autorange": "reversed"})
    figure.update_annotations(font={"size": 12, "color": theme.ink})
    first = f"Rows: the word that looks; the first {len(words)} words and marks of one text: no interval, an example."
    finish(figure, [
        f"{first} Each row sums to 1 over the words up to its own; what went to template, BOS and blanks was dropped and "
        f"stands in the titles. {_apart(book, pair, where)}"
    ], theme, 110)  # fmt: skip
    return figure


def _apart(book: WordsBook, pair: str, where: tuple[Head, Head]) -> str:
    """How far apart a pair is over the test texts; with interval and null if it was matched."""
    match = next((m for m in book.matches if pair_name(m) == pair), None)
    if match is not None:
        return (
            f"Over test texts this pair is {match.divergence:.2f} {interval(match.low, match.high)} apart, "
            f"{match.other_text:.2f} on different texts."
        )
    i, j = (_heads(x.outside.shape).index(at) for x, at in zip(book.attention, where, strict=True))
    return (
        f"Over test texts this pair is {book.grid[i, j]:.2f} apart; it was not matched: no interval, no null."
    )
