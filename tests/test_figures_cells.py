"""A click on a cell of a heat map: the marks that take it."""

from typing import Any

import plotly.graph_objects as go

from lab.figures.cells import MOST, cell_marks


def heat(rows: int, columns: int) -> Any:
    return go.Heatmap(
        z=[[None if i == j else i + j / 10 for j in range(columns)] for i in range(rows)],
        x=[f"x{j}" for j in range(columns)], y=list(range(rows)),
        customdata=[[[f"row {i}", f"column {j}"] for j in range(columns)] for i in range(rows)],
        hovertemplate="%{customdata[1]}: %{z:.1f} of %{y}<extra></extra>",
    )  # fmt: skip


def test_every_known_cell_has_one_unseen_mark_with_its_data_and_its_words():
    below = heat(3, 4)
    marks: Any = cell_marks(below)
    places = {(x, y): c for x, y, c in zip(marks.x, marks.y, marks.customdata, strict=True)}
    assert len(places) == 3 * 4 - 3
    assert places["x3", 1] == ["row 1", "column 3", 1.3]
    assert ("x1", 1) not in places, "what is unknown cannot be clicked"
    assert marks.hovertemplate == "%{customdata[1]}: %{customdata[2]:.1f} of %{y}<extra></extra>"
    assert (below.hoverinfo, below.hovertemplate) == ("skip", None), "not both at once"
    assert marks.marker.opacity == marks.selected.marker.opacity == marks.unselected.marker.opacity == 0


def test_too_many_cells_keep_their_own_words():
    below = heat(1, MOST + 1)
    marks: Any = cell_marks(below)
    assert len(marks.x) == 0
    assert below.hovertemplate and below.hoverinfo is None
