"""Do the scaffolds of two models lie alike: the layer x layer grid, and what all pictures of such a run share."""

from collections.abc import Iterable, Sequence
from math import isfinite
from textwrap import wrap
from typing import Any

import plotly.graph_objects as go

from lab.figures import lookup
from lab.figures.cells import SHOWN_STILL, add_cells
from lab.figures.reading import interval, probability
from lab.figures.theme import (
    LIGHT,
    POSITION_WORDS,
    Theme,
    axis,
    blank,
    finish,
    text,
)
from lab.records import Position
from lab.records.geometry import GeometryBook
from lab.records.similarity import GridCell, Similarity

WRITTEN = 12
"""Layers on a side up to which the cells of a grid carry their numbers."""
CEILING = "triangle-left-open"
NULL = "line-ns-open"


# ------------------------------------------------------------------ what there is


def positions(book: GeometryBook) -> list[Position]:
    """Where the models were compared."""
    return [place.position for place in book.places]


def measures(book: GeometryBook, position: Position) -> list[str]:
    """Measures in the order in which the run has them."""
    return [s.measure for s in book.at(position).similarities]


def traits(book: GeometryBook) -> list[str]:
    """Traits with landings."""
    return list(dict.fromkeys(x.trait for x in book.landings))


def scaffolds(book: GeometryBook) -> list[str]:
    """Scaffolds with landings."""
    return list(dict.fromkeys(x.scaffold for x in book.landings))


def similarity_of(book: GeometryBook, position: Position, measure: str) -> Similarity:
    """One value. LabError for a measure that the run does not have."""
    lookup.require(measure, measures(book, position), "measure")
    return next(s for s in book.at(position).similarities if s.measure == measure)


# ------------------------------------------------------------------ words


def number(value: float) -> str:
    """`0.31`, `−0.02`, or `unknown`."""
    return f"{value:.2f}".replace("-", "−") if isfinite(value) else "unknown"


def said(s: Similarity) -> str:
    """Value, interval, p, null and ceiling of one measure in a line."""
    if not isfinite(s.value):
        return "cannot tell"
    return (
        f"{number(s.value)} {interval(s.low, s.high)}, {probability('p', s.p)}; null 95 %: {number(s.null_high)}; "
        f"ceiling {number(s.ceiling)}"
    )


def sizes(s: Similarity) -> str:
    """Split, n and what the intervals and nulls are."""
    dropped = f" ({s.dropped} dropped)" if s.dropped else ""
    return (
        f"Split: {s.split}; n = {s.scaffolds} scaffolds, {s.questions} questions{dropped}. Intervals: 95 % bootstrap "
        f"over questions, these scaffolds fixed. Null: {s.draws} relabelings of the scaffolds as whole blocks."
    )


def abstention(title: str, why: str, notes: Sequence[str], theme: Theme) -> go.Figure:
    """A figure without marks: the reason stands in their place; `title` and `notes` are escaped, `why` is not."""
    figure = go.Figure(layout=blank(theme, title, 120))
    figure.update_xaxes(visible=False, range=[0, 1])
    figure.update_yaxes(visible=False, range=[0, 1])
    figure.add_annotation(
        text="<br>".join(wrap(f"Cannot tell: {text(why)}.", 96)), x=0, xref="paper", y=0.5, yref="paper",
        xanchor="left", align="left", showarrow=False, font={"size": 14, "color": theme.ink}, name="abstention",
    )  # fmt: skip
    finish(figure, notes, theme, 12)
    return figure


# ------------------------------------------------------------------ layer grid


def layer_grid(book: GeometryBook, position: Position, measure: str, theme: Theme = LIGHT) -> go.Figure:
    """Agreement at every pair of layers, cells beyond the null of the largest outlined, the chosen pair ringed."""
    s = similarity_of(book, position, measure)
    cells = [c for c in book.at(position).cells if c.measure == measure]
    a, b = text(s.model_a), text(s.model_b)
    title = f"Do the scaffolds lie alike in <b>{a}</b> and <b>{b}</b>? {text(measure)}"
    unit = (
        f"Unit: {text(measure)}, 1 is the same geometry, 0 is chance (mean over all relabelings); "
        f"{POSITION_WORDS[position]}; states {text(s.prepared)}."
    )
    if not isfinite(s.value) or not cells:
        return abstention(title, s.why or "this run has no grid", [unit, sizes(s)], theme)
    depth_a, depth_b = (_depths(c) for c in ((c.layer_a for c in cells), (c.layer_b for c in cells)))
    figure = go.Figure(layout=blank(theme, title, 400))
    add_cells(figure, _heat(s, cells, depth_a, depth_b, theme))
    figure.add_traces([
        _outline(s, cells, depth_a, depth_b, theme), *_unknown_cells(cells, depth_a, depth_b, theme),
        _ring(s, depth_a, depth_b, theme),
    ])  # fmt: skip
    for update, label, depths in ((figure.update_xaxes, a, depth_a), (figure.update_yaxes, b, depth_b)):
        half = 0.5 / max(1, len(depths) - 1)
        words = f"relative depth in {label}  (0 = first layer, 1 = last)"
        update(axis(theme, words, range=[-half, 1 + half], showgrid=False, zeroline=False))
        if len(depths) <= WRITTEN:
            update(tickvals=list(depths.values()), ticktext=[f"{d:.2g}" for d in depths.values()])
    finish(figure, [unit, *_grid_notes(s, cells, a, b), sizes(s)], theme, 52)
    return figure


def _depths(layers: Iterable[int]) -> dict[int, float]:
    known = sorted(set(layers))
    return {k: k / max(1, known[-1]) for k in known}


def _heat(
    s: Similarity,
    cells: Sequence[GridCell],
    depth_a: dict[int, float],
    depth_b: dict[int, float],
    theme: Theme,
) -> go.Heatmap:
    at = {(c.layer_a, c.layer_b): c for c in cells}
    rows = [[at.get((i, j)) for i in depth_a] for j in depth_b]
    written = max(len(depth_a), len(depth_b)) <= WRITTEN
    return go.Heatmap(
        z=[[c.value if c and isfinite(c.value) else None for c in row] for row in rows],
        x=list(depth_a.values()), y=list(depth_b.values()), zmin=-1, zmax=1, zmid=0, xgap=1, ygap=1,
        customdata=[
            [[s.measure, i, j, number(c.null_high) if c else "unknown"] for i, c in zip(depth_a, row, strict=True)]
            for j, row in zip(depth_b, rows, strict=True)
        ],
        colorscale=[[0, theme.low], [0.5, theme.paper], [1, theme.high]], meta={"role": "grid"},
        colorbar={"title": {"text": "agreement  (0 = chance)", "side": "right", "font": {"size": 12}}, "thickness": 12},
        texttemplate="%{z:.2f}" if written else None, hoverongaps=False, showlegend=False,
        hovertemplate=f"layer %{{customdata[1]}} of {text(s.model_a)}, layer %{{customdata[2]}} of {text(s.model_b)}<br>"
        "%{z:.2f}; 95 % of this cell's own null: %{customdata[3]}<extra></extra>",
    )  # fmt: skip


def _outline(
    s: Similarity,
    cells: Sequence[GridCell],
    depth_a: dict[int, float],
    depth_b: dict[int, float],
    theme: Theme,
) -> go.Scatter:
    """The border of all cells above the null of the largest, piece by piece along cell edges."""
    above = {(c.layer_a, c.layer_b) for c in cells if c.value > s.max_high}
    half_a, half_b = (0.5 / max(1, len(d) - 1) for d in (depth_a, depth_b))
    x: list[float | None] = []
    y: list[float | None] = []
    ids: list[list[Any]] = []
    for i, j in sorted(above):
        left, right = depth_a[i] - half_a, depth_a[i] + half_a
        low, high = depth_b[j] - half_b, depth_b[j] + half_b
        sides = {
            (i - 1, j): (left, left, low, high), (i + 1, j): (right, right, low, high),
            (i, j - 1): (left, right, low, low), (i, j + 1): (left, right, high, high),
        }  # fmt: skip
        for beyond, (x0, x1, y0, y1) in sides.items():
            if beyond not in above:
                x, y = [*x, x0, x1, None], [*y, y0, y1, None]
                ids += [[s.measure, i, j]] * 3
    return go.Scatter(
        x=x, y=y, mode="lines", line={"color": theme.ink, "width": 2.5}, hoverinfo="skip", cliponaxis=False,
        name="above 95 % of the largest cell under the null", customdata=ids, meta={"role": "max null"},
    )  # fmt: skip


def _unknown_cells(
    cells: Sequence[GridCell], depth_a: dict[int, float], depth_b: dict[int, float], theme: Theme
) -> list[go.Scatter]:
    gaps = [c for c in cells if not isfinite(c.value)]
    mark = go.Scatter(
        x=[depth_a[c.layer_a] for c in gaps], y=[depth_b[c.layer_b] for c in gaps], mode="text",
        text=["?"] * len(gaps), textfont={"color": theme.faint}, showlegend=False, meta={"role": "gap"},
        customdata=[[c.measure, c.layer_a, c.layer_b] for c in gaps],
        hovertemplate="layers %{customdata[1]} and %{customdata[2]}: cannot tell<extra></extra>",
    )  # fmt: skip
    return [mark] if gaps else []


def _ring(s: Similarity, depth_a: dict[int, float], depth_b: dict[int, float], theme: Theme) -> go.Scatter:
    return go.Scatter(
        x=[depth_a[s.layer_a]], y=[depth_b[s.layer_b]], mode="markers", name=f"chosen on {text(s.chosen_on)}",
        marker={"symbol": "circle-open", "size": 38, "color": theme.ink, "line": {"width": 2}},
        customdata=[[s.measure, s.layer_a, s.layer_b]], meta={"role": "chosen"}, hoverinfo="skip",
        cliponaxis=False, unselected=SHOWN_STILL,
    )  # fmt: skip


def _grid_notes(s: Similarity, cells: Sequence[GridCell], a: str, b: str) -> list[str]:
    above = sum(c.value > s.max_high for c in cells)
    found = [
        f"Ring: layer {s.layer_a} of {a}, layer {s.layer_b} of {b}, chosen on {text(s.chosen_on)}: {said(s)}.",
        f"Outlined: {above} of {len(cells)} cells, above {number(s.max_high)}, which 95 % of relabelings do not reach "
        f"in any cell; the largest here is {number(s.largest)} ({probability('p', s.p_max)}).",
    ]
    if any(not isfinite(c.value) for c in cells):
        found.append("?: the scaffolds do not differ at one of the two layers.")
    return [*found, f"{text(s.why)}."] if s.why else found
