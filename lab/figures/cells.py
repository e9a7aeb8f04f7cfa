"""Marks over the cells of a heat map, so that a click on a cell chooses as a click on any other mark does."""

from typing import Any

import plotly.graph_objects as go

MOST = 5000
"""Cells; more marks than this would make a page slow, and their cells too small to hit."""
SHOWN_STILL = {"marker": {"opacity": 1}}
"""`unselected` of marks that stay as they are when a cell is clicked."""
SIZE = 6
"""Across, in pixels. Marks that overlap would take clicks for their neighbours."""


def add_cells(figure: go.Figure, heat: go.Heatmap, row: int | None = None, col: int | None = None) -> None:
    """Put a heat map into a figure (row and column: of a subplot) so that its cells can be clicked."""
    figure.add_trace(heat, row=row, col=col)
    figure.add_trace(cell_marks(heat), row=row, col=col)


def cell_marks(heat: go.Heatmap) -> go.Scatter:
    """An unseen mark in every known cell, with the cell's `customdata` (its z behind it) and its words on hover.

    None where there are over `MOST` cells. A heat map alone cannot be clicked in Streamlit: its selections are
    made of points. Its own words are silenced, for only one of the two is shown. Needs `customdata` [row,
    column, field] and `hovertemplate`.
    """
    below: Any = heat
    fields = len(below.customdata[0][0]) if len(below.customdata) else 0
    cells = [(j, i, value) for i, row in enumerate(below.z) for j, value in enumerate(row)]
    known = [c for c in cells if c[2] is not None and c[2] == c[2]] if len(cells) <= MOST else []
    ids: list[list[Any]] = [[*below.customdata[i][j], float(value)] for j, i, value in known]
    words = None if below.text is None else [below.text[i][j] for j, i, _ in known]
    template = str(below.hovertemplate).replace("%{z", f"%{{customdata[{fields}]")
    if known:
        below.update(hoverinfo="skip", hovertemplate=None)
    unseen = {"marker": {"opacity": 0}}
    return go.Scatter(
        x=[below.x[j] for j, _, _ in known], y=[below.y[i] for _, i, _ in known], mode="markers", text=words,
        marker={"symbol": "square", "size": SIZE, "opacity": 0}, selected=unseen, unselected=unseen,
        customdata=ids, hovertemplate=template, showlegend=False, cliponaxis=True, meta={"role": "cells"},
    )  # fmt: skip
