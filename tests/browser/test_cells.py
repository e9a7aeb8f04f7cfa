"""A click on a cell of a heat map in a real browser takes that cell, not its neighbour."""

import plotly.graph_objects as go
import pytest

from lab.figures.cells import add_cells

pytestmark = pytest.mark.browser
HEARD = """plot => plot.on('plotly_click', e => { window.clicked = e.points[0].customdata; })"""


@pytest.mark.parametrize(
    ("n", "size"), [(30, 400), (3, 600)], ids=["cells of 13 pixels", "cells of 200 pixels"]
)
def test_a_click_anywhere_in_a_cell_takes_it(open_page, tmp_path, n, size):
    figure = go.Figure(
        layout={"width": size, "height": size, "margin": dict.fromkeys("lrtb", 0), "hovermode": "closest"}
    )
    heat = go.Heatmap(
        z=[[i + j for j in range(n)] for i in range(n)], x=list(range(n)), y=list(range(n)), showscale=False,
        customdata=[[[i, j] for j in range(n)] for i in range(n)], hovertemplate="%{z}<extra></extra>",
    )  # fmt: skip
    add_cells(figure, heat)
    ends = [-0.5, n - 0.5]
    figure.update_layout(xaxis={"range": ends, "visible": False}, yaxis={"range": ends, "visible": False})
    file = tmp_path / "cells.html"
    figure.write_html(file, include_plotlyjs=True)
    page = open_page(file.as_uri(), [])
    page.goto(file.as_uri())
    plot = page.locator(".js-plotly-plot")
    plot.locator(".heatmaplayer image").wait_for(timeout=60_000)
    plot.evaluate(HEARD)
    box, cell = plot.bounding_box(), size / n
    for row, column, across, up in ((1, 2, 0.5, 0.5), (n - 2, 1, 0.1, 0.2), (2, n - 2, 0.9, 0.85)):
        x, y = box["x"] + (column + across) * cell, box["y"] + size - (row + up) * cell
        page.mouse.move(x - 2, y - 2)
        page.mouse.move(x, y)
        page.wait_for_timeout(400)
        page.mouse.click(x, y)
        page.wait_for_timeout(400)  # two clicks within .3 s are a double click, which sets the axes anew
        assert page.evaluate("window.clicked")[:2] == [row, column]
