"""How far apart scaffolds lie in two models: two matrices in one order and scale, and where they differ."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.figures.cells import add_cells
from lab.figures.geometry import abstention, measures, said, similarity_of, sizes
from lab.figures.landing import shorten
from lab.figures.theme import LIGHT, POSITION_WORDS, Theme, axis, blank, finish, text
from lab.figures.tokens import shade
from lab.records import Position
from lab.records.geometry import GeometryBook
from lab.records.similarity import NO_LAYER, Dissimilarity, Similarity

NAMED = 26
"""Scaffolds up to which their names fit beside a matrix."""


def seriation(rows: Sequence[Dissimilarity]) -> list[str]:
    """Scaffolds of one or both models in one order: each beside its nearest among those not yet placed.

    Near is the mean rank over the models given. The first is the scaffold that lies farthest from all others;
    ties, and pairs whose ranks are not known, keep the order of the records.
    """
    names = list(dict.fromkeys(s for x in rows for s in (x.scaffold_a, x.scaffold_b)))
    ranks: dict[frozenset[str], list[float]] = {}
    for x in rows:
        ranks.setdefault(frozenset((x.scaffold_a, x.scaffold_b)), []).append(
            x.rank if isfinite(x.rank) else 1
        )

    def apart(s: str, t: str) -> float:
        known = ranks.get(frozenset((s, t)), [1.0])
        return sum(known) / len(known)

    order = sorted(names, key=lambda s: -sum(apart(s, t) for t in names if t != s))[:1]
    while len(order) < len(names):
        order.append(min((t for t in names if t not in order), key=lambda t: apart(order[-1], t)))
    return order


def matrices(
    book: GeometryBook, position: Position, measure: str | None = None
) -> tuple[Similarity, list[Dissimilarity], list[Dissimilarity]]:
    """The dissimilarities of A and of B at the layers that `measure` chose, and its value.

    None: the measure that chose first. No rows where it chose no layer.
    """
    place = book.at(position)
    if measure is None:
        measure = next(
            (s.measure for s in place.similarities if s.layer_a != NO_LAYER), measures(book, position)[0]
        )
    s = similarity_of(book, position, measure)
    sides = ((s.model_a, s.layer_a), (s.model_b, s.layer_b))
    a, b = ([x for x in place.dissimilarities if (x.model, x.layer) == side] for side in sides)
    return s, a, b


def dissimilarities(
    book: GeometryBook, position: Position, measure: str | None = None, theme: Theme = LIGHT
) -> go.Figure:
    """Distances between scaffolds in A and in B, one order and one scale, and the difference of their ranks."""
    s, a, b = matrices(book, position, measure)
    title = "Which scaffolds lie apart, and where the models differ about it"
    unit = (
        "Unit: crossnobis (unbiased squared distance, may fall below 0) over the root mean square of the model's own "
        f"pairs; {POSITION_WORDS[position]}."
    )
    if not any(isfinite(x.value) for x in a) or not any(isfinite(x.value) for x in b):
        return abstention(title, s.why or "this run has no dissimilarities", [unit, sizes(s)], theme)
    order = seriation([*a, *b])
    values = [x.value for x in (*a, *b) if isfinite(x.value)]
    low, high = min(0.0, *values), max(values)
    scale = [[0.0, shade(low, high, theme)[0]], [-low / (high - low), theme.paper], [1.0, theme.high]]
    figure = make_subplots(1, 3, horizontal_spacing=0.0)
    figure.update_layout(blank(theme, title, 250))
    for column, rows in ((1, a), (2, b)):
        shown = {(x.scaffold_a, x.scaffold_b): x.value for x in rows}
        heat = _matrix(order, shown, rows[0].model, rows[0].layer, low, high, scale[low == 0 :], theme)
        heat.update(showscale=column == 2, colorbar=_bar("distance  (1 = rms)", 0.6))
        add_cells(figure, heat, row=1, col=column)
    ranks = {(x.scaffold_a, x.scaffold_b): x.rank for x in b}
    off = {k: x.rank - ranks.get(k, float("nan")) for x in a if (k := (x.scaffold_a, x.scaffold_b))}
    diverging = [[0, theme.low], [0.5, theme.paper], [1, theme.high]]
    heat = _matrix(order, off, "difference", NO_LAYER, -1, 1, diverging, theme)
    add_cells(figure, heat.update(colorbar=_bar("rank in A − rank in B", 1.0)), row=1, col=3)
    heads = (f"{text(s.model_a)}, layer {s.layer_a}", f"{text(s.model_b)}, layer {s.layer_b}", "rank, A − B")
    _matrix_axes(figure, order, heads, theme)
    note = (
        f"Rank: 0 the nearest pair, 1 the farthest; green: farther apart in {text(s.model_a)}. n = {len(a)} pairs. Order: "
        "from the scaffold farthest from all others, each followed by its nearest of those left (mean rank of both)."
    )
    agreement = f"Layers chosen by {text(s.measure)} on {text(s.chosen_on)}; on {s.split} it is {said(s)}."
    finish(figure, [unit, note, agreement, sizes(s)], theme, 24)
    return figure


def _bar(words: str, x: float) -> dict[str, Any]:
    title = {"text": words, "side": "right", "font": {"size": 11}}
    return {
        "title": title, "thickness": 10, "x": x, "y": 1, "yanchor": "top", "lenmode": "pixels", "len": 180,
        "ypad": 0, "tickfont": {"size": 10},
    }  # fmt: skip


def _matrix(
    order: Sequence[str], values: dict[tuple[str, str], float], model: str, layer: int, low: float, high: float,
    scale: Sequence[Any], theme: Theme,
) -> go.Heatmap:  # fmt: skip
    def value(s: str, t: str) -> float | None:
        found = values.get((s, t), values.get((t, s), float("nan")))
        return found if isfinite(found) else None

    where = f"in {text(model)}" if layer != NO_LAYER else "rank in A − rank in B"
    return go.Heatmap(
        z=[[value(s, t) for t in order] for s in order], x=list(range(len(order))), y=list(range(len(order))),
        zmin=low, zmax=high, colorscale=list(scale), hoverongaps=False, xgap=1, ygap=1,
        customdata=[[[s, t, model, layer] for t in order] for s in order],
        text=[[f"{text(s)}<br>{text(t)}" for t in order] for s in order],
        hovertemplate=f"%{{text}}<br>{where}: %{{z:.2f}}<extra></extra>",
        meta={"role": "difference" if layer == NO_LAYER else "dissimilarity", "model": model},
    )  # fmt: skip


def _matrix_axes(figure: go.Figure, order: Sequence[str], heads: Sequence[str], theme: Theme) -> None:
    """Squares at the right of their thirds, beside their scales; names at the first where they fit."""
    ends = [-0.5, len(order) - 0.5]
    plain = axis(theme, showgrid=False, zeroline=False, showticklabels=False, ticks="", constrain="domain")
    for column, (domain, head) in enumerate(
        zip(((0, 0.29), (0.3, 0.59), (0.7, 0.99)), heads, strict=True), 1
    ):
        k = "" if column == 1 else str(column)
        figure.update_xaxes(
            {**plain, "range": ends, "domain": domain, "constraintoward": "right"}, col=column
        )
        figure.update_yaxes(
            {**plain, "range": ends[::-1], "scaleanchor": f"x{k}", "constraintoward": "top"}, col=column
        )
        figure.add_annotation(
            text=head, x=0, xref=f"x{k} domain", y=1, yref=f"y{k} domain", yshift=4, xanchor="left", yanchor="bottom",
            showarrow=False, font={"size": 12, "color": theme.faint},
        )  # fmt: skip
    if len(order) <= NAMED:
        names = [text(shorten(s, 20)) for s in order]
        figure.update_yaxes(
            {"showticklabels": True, "tickvals": list(range(len(order))), "ticktext": names, "tickfont": {"size": 9}},
            col=1,
        )  # fmt: skip
