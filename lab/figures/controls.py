"""What every similarity of a geometry run is held against: its null, its ceiling, each model against itself."""

from collections.abc import Sequence
from math import isfinite

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.figures.geometry import CEILING, NULL, measures, positions
from lab.figures.landing import span_words
from lab.figures.reading import probability
from lab.figures.theme import (
    LIGHT,
    MODEL_COLOURS,
    MODEL_SYMBOLS,
    POSITION_WORDS,
    Theme,
    axis,
    blank,
    finish,
    reach,
    span,
    text,
)
from lab.records import Position
from lab.records.geometry import GeometryBook


def controls_strip(book: GeometryBook, theme: Theme = LIGHT) -> go.Figure:
    """Every measure at every place: its value, its null, its ceiling, and each model against itself."""
    known = positions(book)
    names = list(dict.fromkeys(m for p in known for m in measures(book, p)))
    heads = [POSITION_WORDS[p] for p in known]
    figure = make_subplots(
        1, max(1, len(known)), shared_yaxes=True, horizontal_spacing=0.03, subplot_titles=heads
    )
    figure.update_layout(blank(theme, "What each value is held against", 30 + 34 * len(names)))
    rows = [s for p in known for s in book.at(p).similarities]
    for column, position in enumerate(known, 1):
        for trace in _control_traces(book, position, names, column == 1, theme):
            figure.add_trace(trace, 1, column)
    wide = [
        v
        for s in rows
        for v in (s.value, s.low, s.high, s.null_high, s.ceiling, s.reliability_a, s.reliability_b)
    ]
    wide += [v for p in known for u in book.at(p).untrained for v in (u.words, u.words_high) if not u.source]
    figure.update_xaxes(axis(theme, "agreement  (0 = chance, 1 = same)", range=reach(wide)))
    figure.update_yaxes(
        axis(
            theme,
            range=[len(names) - 0.5, -0.5],
            tickvals=list(range(len(names))),
            showgrid=False,
            zeroline=False,
        )
    )
    figure.update_yaxes(ticktext=[text(n) for n in names], col=1)
    figure.update_annotations(font={"size": 12, "color": theme.faint})
    lines = [
        "Unit: of each measure, 0 chance, 1 the same geometry. Null: 95 % of relabelings of the scaffolds, the search for "
        "layers repeated. Model against itself: disjoint halves of the questions; ceiling: the root of their product.",
        f"Split: {span_words(s.split for s in rows)}; n = {span(s.scaffolds for s in rows)} scaffolds, "
        f"{span(s.questions for s in rows)} questions. Bars: 95 % bootstrap over questions. "
        f"{_untrained_words(book, known)}",
        *dict.fromkeys(f"{text(s.measure)}, {POSITION_WORDS[p]}: {text(s.why)}."
                       for p in known for s in book.at(p).similarities if s.why),
    ]  # fmt: skip
    finish(figure, lines, theme, 52)
    return figure


def _untrained_words(book: GeometryBook, known: Sequence[Position]) -> str:
    """What the marks of untrained networks mean, or why there are none."""
    rows = [u for p in known for u in book.at(p).untrained]
    if any(not u.why for u in rows):
        told = span(u.p for u in rows if not u.why and not u.source)
        return (
            f"Untrained: {span(u.twins for u in rows)} networks a side with random weights that read the same texts (first "
            f"wordings), median and largest of their pairs; p of the two models among them {told}."
        )
    reasons = dict.fromkeys(u.why for u in rows) or ["not in this run"]
    return f"Untrained networks on the same texts: {text('; '.join(reasons))}."


def _untrained(
    book: GeometryBook, position: Position, names: Sequence[str], first: bool, theme: Theme
) -> go.Scatter:
    rows = [u for u in book.at(position).untrained if u.what in names and isfinite(u.words)]
    return go.Scatter(
        x=[u.words for u in rows], y=[names.index(u.what) - 0.27 for u in rows], mode="markers",
        name="untrained, same texts", showlegend=first, legendgroup="untrained", meta={"role": "untrained"},
        marker={"symbol": "x-thin", "size": 8, "color": theme.faint, "line": {"width": 2, "color": theme.faint}},
        error_x={"type": "data", "symmetric": False, "thickness": 1.5, "width": 3, "color": theme.faint,
                 "array": [u.words_high - u.words for u in rows], "arrayminus": [0.0] * len(rows)},
        customdata=[[u.what, position, u.words_high, probability("p", u.p)] for u in rows],
        hovertemplate="untrained networks: median %{x:.2f}, largest %{customdata[2]:.2f} (%{customdata[3]} of the two "
        "models among them)<extra></extra>",
    )  # fmt: skip


def _control_traces(
    book: GeometryBook, position: Position, names: Sequence[str], first: bool, theme: Theme
) -> list[go.Scatter]:
    found = book.at(position).similarities
    rows = [s for s in found if isfinite(s.value)]
    gaps = [s for s in found if not isfinite(s.value)]

    def marks(role: str, words: str, x: Sequence[float], shift: float, **marker: object) -> go.Scatter:
        return go.Scatter(
            x=list(x), y=[names.index(s.measure) + shift for s in rows], mode="markers", name=words,
            showlegend=first, legendgroup=role, marker=marker, meta={"role": role},
            customdata=[[s.measure, position, probability("p", s.p)] for s in rows],
            hovertemplate=f"{words}: %{{x:.2f}} (%{{customdata[2]}} of the value)<extra></extra>",
        )  # fmt: skip

    value = marks("value", "value", [s.value for s in rows], 0.0, symbol="square", size=9, color=theme.ink)
    value.error_x = {
        "type": "data", "symmetric": False, "thickness": 1.5, "width": 0, "color": theme.ink,
        "array": [s.high - s.value for s in rows], "arrayminus": [s.value - s.low for s in rows],
    }  # fmt: skip
    own = ([s.reliability_a for s in rows], [s.reliability_b for s in rows])
    tick = {"symbol": NULL, "size": 16, "color": theme.faint, "line": {"width": 3}}
    unknown = go.Scatter(
        x=[0.0] * len(gaps), y=[names.index(s.measure) for s in gaps], mode="text", text=["cannot tell"] * len(gaps),
        textposition="middle right", textfont={"size": 11, "color": theme.faint}, showlegend=False, hoverinfo="skip",
        customdata=[[s.measure, position] for s in gaps], meta={"role": "gap"},
    )  # fmt: skip
    return [
        marks("null", "null, 95 %", [s.null_high for s in rows], 0.0, **tick), value,
        *(marks(f"itself {k}", f"{text(label)}, itself", x, 0.27, symbol=MODEL_SYMBOLS[k], size=7,
                color=MODEL_COLOURS[k]) for k, (label, x) in enumerate(zip(book.labels[:2], own, strict=False))),
        _untrained(book, position, names, first, theme),
        marks("ceiling", "ceiling", [s.ceiling for s in rows], 0.0, symbol=CEILING, size=12, color=theme.ink),
        *([unknown] if gaps else []),
    ]  # fmt: skip
