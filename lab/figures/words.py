"""One text in two models: where words are cut, how surprising each stretch is, which heads look alike."""

from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from math import isfinite

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.figures.reading import interval, probability
from lab.figures.theme import LIGHT, MODEL_COLOURS, MODEL_SYMBOLS, Theme, axis, blank, finish, text
from lab.figures.tokens import shade
from lab.records import LabError
from lab.records.words import HeadMatch, TokenCell, WordMeasure, WordPieces, WordsBook

LINE = 88
"""Characters of a line of the strip."""
SHOWN = 40
"""Words of an attention picture; more could not be read."""
PAIRS = 40
"""Matched pairs drawn; the table has all."""
DISTANCE = "squared Hellinger distance of attention over words  (0 same, 1 disjoint)"
CANNOT = (
    "What this cannot tell: a word per run of letters, so scripts without blanks are one word; the surprisal is that of "
    "the tokenizer's own cut, not of every way to spell the text; attention says where a head looks, not what it moves, "
    "and one that looks everywhere is near to every other, so the gain over different texts counts; "
    "tokenizer, layers and training differ together between two models, so no difference is the tokenizer's alone."
)


def measures(book: WordsBook) -> pd.DataFrame:
    """One row per number."""
    return pd.DataFrame([asdict(m) for m in book.measures], columns=list(WordMeasure.__dataclass_fields__))


def matches(book: WordsBook) -> pd.DataFrame:
    """One row per matched pair of heads."""
    return pd.DataFrame([asdict(m) for m in book.matches], columns=list(HeadMatch.__dataclass_fields__))


def cells(book: WordsBook) -> pd.DataFrame:
    """One row per cell of the strip."""
    return pd.DataFrame([asdict(c) for c in book.cells], columns=list(TokenCell.__dataclass_fields__))


def pieces(book: WordsBook) -> pd.DataFrame:
    """One row per word of the shown text."""
    return pd.DataFrame([asdict(w) for w in book.words], columns=list(WordPieces.__dataclass_fields__))


def rows_of(book: WordsBook, what: str, split: str = "all") -> list[WordMeasure]:
    """The rows of one measure, this text's first. LabError when there is none."""
    found = [m for m in book.measures if m.what == what and m.split == split]
    if not found:
        known = ", ".join(dict.fromkeys(m.what for m in book.measures))
        raise LabError(f"No measure {what!r} here; there are {known}.")
    return found


def said(row: WordMeasure) -> str:
    """`0.60 [0.53, 0.66], chance 0.21, p < .001`, with what there is of it."""
    parts = [f"{row.value:.2f}" if isfinite(row.value) else "cannot tell"]
    if isfinite(row.low):
        parts[0] += f" {interval(row.low, row.high)}"
    if isfinite(row.null):
        parts.append(f"null {row.null:.2f}")
    if isfinite(row.p):
        parts.append(probability("p", row.p))
    return ", ".join(parts)


# ------------------------------------------------------------------ HTML: words and strip


def fragmentation_map(book: WordsBook, theme: Theme = LIGHT) -> str:
    """HTML of the shown text, each word shaded by pieces in B less pieces in A; user text escaped.

    Words that either model cuts carry both counts; every word carries data-start, data-a and data-b.
    """
    limit = max([1, *(abs(w.pieces_b - w.pieces_a) for w in book.words)])
    parts, at = [], 0
    for word in book.words:
        parts.append(_blanks(book.text[at : word.start]))
        parts.append(_word(book, word, limit, theme))
        at = word.end
    a, b = (escape(x) for x in book.pair)
    bar = _bar(f"linear-gradient(90deg,{theme.low},{theme.paper},{theme.high})", theme)
    legend = f"more pieces in {a}{bar}more in {b}; numbers: pieces in {a}|in {b}"
    agree = rows_of(book, "same cuts inside words")
    lines = [f"{_over(m)}: same cuts inside words, F1 {said(m)} ({m.n} {m.over}; {m.note})" for m in agree]
    body = f'<div style="line-height:2.1;font-size:15px">{"".join(parts)}{_blanks(book.text[at:])}</div>'
    return _page("fragmentation-map", legend, body, lines, theme)


def _over(row: WordMeasure) -> str:
    return row.scope if row.scope == "this text" else f"over {row.scope}"


def _word(book: WordsBook, word: WordPieces, limit: int, theme: Theme) -> str:
    back, ink = shade(word.pieces_b - word.pieces_a, limit, theme)
    a, b = book.pair
    hint = escape(f"{word.word}: {word.pieces_a} in {a}, {word.pieces_b} in {b}")
    cut = (word.pieces_a, word.pieces_b) != (1, 1)
    if not cut:
        back, ink = "transparent", "inherit"
    count = (
        f'<sup style="font-size:10px;margin-left:2px">{word.pieces_a}|{word.pieces_b}</sup>' if cut else ""
    )
    return (
        f'<span data-start="{word.start}" data-a="{word.pieces_a}" data-b="{word.pieces_b}" title="{hint}" '
        f'style="background:{back};color:{ink};border-radius:3px">{escape(word.word)}{count}</span>'
    )


def _blanks(between: str) -> str:
    return escape(between).replace("\n", "<br>")


def aligned_strip(book: WordsBook, theme: Theme = LIGHT) -> str:
    """HTML of the shown text, a row per model character over character, one scale for both.

    Shades are nats per character (surprisal of a token over its characters), a thin line starts each
    token; hatched: in no token, or unknown; grey: the template in front. The scale ends where 95 % of both models'
    characters do, for line breaks can be many times the rest. Cells carry data-model and data-start.
    """
    body_cells = [c for c in book.cells if not c.template]
    limit = scale_end(body_cells)
    parts = [_template_line(book, theme)]
    for start, end in lines_of(book.text, LINE):
        parts.append('<div style="margin:6px 0">')
        for k, label in enumerate(book.pair):
            own = [c for c in body_cells if c.model == label and c.start < end and c.end > start]
            row = "".join(_cell(c, max(start, c.start), min(end, c.end), limit, theme) for c in own)
            edge = (
                f"border-left:4px solid {MODEL_COLOURS[k]};padding-left:6px;white-space:pre;line-height:1.55"
            )
            parts.append(f'<div data-row="{escape(label)}" style="{edge}">{row}</div>')
        parts.append("</div>")
    names = "; ".join(
        f'<span style="color:{MODEL_COLOURS[k]}">■</span> {escape(x)}' for k, x in enumerate(book.pair)
    )
    bar = _bar(f"linear-gradient(90deg,{theme.paper},{theme.high})", theme)
    legend = f"{names}; surprisal in nats per character: 0{bar}{limit:.1f} and more; "
    legend += "a line starts a token; hatched: unknown"
    rows = [f"{_over(m)}: {escape(m.model)} {said(m)} {m.unit}" for m in rows_of(book, "surprisal")]
    shared = rows_of(book, "characters in a token of both")[0]
    rows.append(f"{shared.value:.1%} of the visible characters lie in a token of both models.")
    mono = (
        f'<div style="font:13px ui-monospace,Menlo,Consolas,monospace;overflow-x:auto">{"".join(parts)}</div>'
    )
    return _page("aligned-strip", legend, mono, rows, theme)


def scale_end(shown: Sequence[TokenCell]) -> float:
    """Nats per character that 95 % of the known characters do not exceed; above 0."""
    known = [c for c in shown if isfinite(c.nats)]
    each = sorted(c.nats / (c.end - c.start) for c in known for _ in range(c.start, c.end))
    return max(1e-9, each[int(0.95 * (len(each) - 1))]) if each else 1.0


def _template_line(book: WordsBook, theme: Theme) -> str:
    """What each template wrote before the text, grey: read by the model, left out of every number."""
    shown = []
    for label in book.pair:
        before = next(c.text for c in book.cells if c.template and c.model == label)
        words = escape(before[-LINE:]).replace("\n", "⏎") or "nothing"
        shown.append(
            f'<div style="color:{theme.faint};background:{theme.floor}">{escape(label)}, before it: {words}</div>'
        )
    return f'<div style="white-space:pre-wrap">{"".join(shown)}</div>'


def lines_of(shown: str, width: int) -> list[tuple[int, int]]:
    """Character ranges of at most `width` that tile the text, broken after a line break or a blank if there is one."""
    found, start = [], 0
    while start < len(shown):
        end = min(len(shown), start + width)
        newline = shown.find("\n", start, end)
        if newline >= 0:
            end = newline + 1
        elif end < len(shown) and (blank_at := shown.rfind(" ", start, end)) > start:
            end = blank_at + 1
        found.append((start, end))
        start = end
    return found


def _cell(cell: TokenCell, start: int, end: int, limit: float, theme: Theme) -> str:
    shown = escape(cell.text[start - cell.start : end - cell.start]).replace("\n", "⏎").replace("\t", "⇥")
    line = f"box-shadow:inset 1px 0 {theme.faint};" if start == cell.start else ""
    if isfinite(cell.nats):
        each = cell.nats / (cell.end - cell.start)
        back, ink = shade(each, limit, theme)
        hint = f"{cell.nats:.2f} nats, {each:.2f} per character"
        hint += f", {cell.tokens} tokens" if cell.tokens > 1 else ""
    else:
        back = f"repeating-linear-gradient(45deg,{theme.null} 0 3px,{theme.paper} 3px 6px)"
        ink, hint = theme.faint, "in no token" if not cell.tokens else "nothing before it: surprisal unknown"
    return (
        f'<span data-model="{escape(cell.model)}" data-start="{start}" title="{hint}" '
        f'style="background:{back};color:{ink};{line}">{shown}</span>'
    )


def _bar(gradient: str, theme: Theme) -> str:
    style = f"display:inline-block;width:120px;height:10px;margin:0 6px;border:1px solid {theme.grid}"
    return f'<span style="{style};background:{gradient}"></span>'


def _page(name: str, legend: str, body: str, lines: Sequence[str], theme: Theme) -> str:
    small = f"font-size:12px;color:{theme.faint};line-height:1.6"
    notes = "".join(f"<div>{line}</div>" for line in lines)
    return (
        f'<div class="{name}" style="background:{theme.paper};color:{theme.ink};padding:4px 0;'
        f'font-family:Inter,Helvetica,Arial,sans-serif">'
        f'<div style="{small};margin-bottom:4px">{legend}</div>{body}'
        f'<div style="{small};margin-top:8px">{notes}</div></div>'
    )


# ------------------------------------------------------------------ heads


def pair_name(match: HeadMatch) -> str:
    """`0.2 with 1.3`: layer.head of A, of B."""
    return f"{match.layer_a}.{match.head_a} with {match.layer_b}.{match.head_b}"


def head_grid(book: WordsBook, theme: Theme = LIGHT) -> go.Figure:
    """Divergence of every head of A from every head of B on the test texts; squares: matched on the others."""
    a, b = (_head_names(x.outside.shape) for x in book.attention)
    title = f"Which heads look alike: <b>{text(book.labels[0])}</b> and <b>{text(book.labels[1])}</b>"
    figure = go.Figure(layout=blank(theme, title, min(800, max(240, 21 * len(a)))))
    most = max([0.01, *(v for v in book.grid.ravel().tolist() if isfinite(v))])
    figure.add_trace(
        go.Heatmap(
            z=book.grid, x=b, y=a, zmin=0, zmax=most, xgap=1, ygap=1, meta={"role": "grid"},
            colorscale=[[0, theme.high], [1, theme.paper]],
            colorbar={"title": {"text": "divergence", "side": "right", "font": {"size": 12}}, "thickness": 12},
            hovertemplate="%{y} and %{x}: %{z:.2f}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[f"{m.layer_b}.{m.head_b}" for m in book.matches],
            y=[f"{m.layer_a}.{m.head_a}" for m in book.matches],
            mode="markers", name="matched on the extract texts", meta={"role": "matched"}, showlegend=True,
            marker={"symbol": "square-open", "size": 15, "color": theme.ink, "line": {"width": 2}},
            customdata=[[k] for k, _ in enumerate(book.matches)],
            hovertemplate="%{y} matched with %{x}<extra></extra>",
        )
    )  # fmt: skip
    kind = {"type": "category", "showgrid": False, "dtick": 1 if len(a) <= 32 else None}
    figure.update_yaxes(axis(theme, f"layer.head of {text(book.labels[0])}", autorange="reversed", **kind))
    figure.update_xaxes(axis(theme, f"layer.head of {text(book.labels[1])}", **kind))
    finish(figure, _head_notes(book), theme, 58)
    return figure


def _head_names(shape: tuple[int, ...]) -> list[str]:
    return [f"{layer}.{head}" for layer in range(shape[0]) for head in range(shape[1])]


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
            meta={"role": "null"},
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
            customdata=[[probability("q", m.q)] for m in rows],
            hovertemplate="%{y}: %{x:.2f}, %{customdata[0]}<extra></extra>",
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
    finish(figure, [note], theme, 52)
    return figure


def pair_attention(book: WordsBook, pair: int, theme: Theme = LIGHT) -> go.Figure:
    """Where the two heads of a matched pair look in the shown text, word by word, one scale for both.

    Raises LabError when there is no such pair.
    """
    if not 0 <= pair < len(book.matches):
        raise LabError(f"No pair number {pair}; there are {len(book.matches)}.")
    match = book.matches[pair]
    where = ((match.layer_a, match.head_a), (match.layer_b, match.head_b))
    panels = [x.attention[at][:SHOWN, :SHOWN] for x, at in zip(book.attention, where, strict=True)]
    shares = [float(x.outside[at]) for x, at in zip(book.attention, where, strict=True)]
    titles = [
        f"{text(label)}, head {layer}.{head} ({share:.0%} elsewhere)"
        for label, (layer, head), share in zip(book.pair, where, shares, strict=True)
    ]
    words = [text(w) for w in book.attention[0].words[:SHOWN]]
    figure = make_subplots(1, 2, subplot_titles=titles, horizontal_spacing=0.1)
    figure.update_layout(blank(theme, f"Where heads {pair_name(match)} look", 430))
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
        f"stands in the titles. Over test texts this pair is {match.divergence:.2f} "
        f"{interval(match.low, match.high)} apart, {match.other_text:.2f} on different texts."
    ], theme, 110)  # fmt: skip
    return figure
