"""One text in two models: where words are cut, and how surprising each stretch is; every number as a table."""

from collections.abc import Sequence
from dataclasses import asdict
from html import escape
from math import isfinite

import pandas as pd

from lab.figures.reading import interval, probability
from lab.figures.theme import LIGHT, MODEL_COLOURS, Theme
from lab.figures.tokens import shade
from lab.records import LabError
from lab.records.words import HeadMatch, TokenCell, WordMeasure, WordPieces, WordsBook

LINE = 88
"""Characters of a line of the strip."""
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


def given(book: WordsBook, label: str) -> str:
    """The prompt of one model up to the end of the text, template and all. LabError for a model without cells."""
    mine = [c for c in book.cells if c.model == label]
    if not mine:
        raise LabError(f"No cells of {label!r} here; there are those of {', '.join(book.pair)}.")
    return "".join(c.text for c in mine if c.template) + book.text


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
    lines = [f"{_over(m)}: same cuts inside words, F1 {said(m)} ({_size(m)})" for m in agree]
    body = f'<div style="line-height:2.1;font-size:15px">{"".join(parts)}{_blanks(book.text[at:])}</div>'
    return _page("fragmentation-map", legend, body, lines, theme)


def _over(row: WordMeasure) -> str:
    return row.scope if row.scope == "this text" else f"over {row.scope}"


def _size(row: WordMeasure) -> str:
    """n, split and what there is to be said besides; escaped."""
    return escape(f"n = {row.n} {row.over}, split: {row.split}" + (f"; {row.note}" if row.note else ""))


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
    rows = [
        f"{_over(m)}: {escape(m.model)} {said(m)} {m.unit} ({_size(m)})" for m in rows_of(book, "surprisal")
    ]
    rows += [
        f"{_over(m)}: share of the visible characters in a token of both models {said(m)} ({_size(m)})"
        for m in rows_of(book, "characters in a token of both")
    ]
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
