"""One pair of models beside a reference pair: differences of agreement, with the verdict in words."""

from collections.abc import Sequence
from math import isfinite

import plotly.graph_objects as go

from lab.figures.geometry import number
from lab.figures.theme import LIGHT, POSITION_WORDS, Theme, axis, blank, finish, reach, span, text
from lab.records import LabError
from lab.records.similarity import Beside

WORDS: dict[str, str] = {k: str(v) for k, v in POSITION_WORDS.items()}


def beside_strip(rows: Sequence[Beside], pair: str, reference: str, theme: Theme = LIGHT) -> go.Figure:
    """Agreement of `pair` minus that of `reference`, per place and measure; left of 0: less alike.

    LabError where there is no row.
    """
    if not rows:
        raise LabError("there is nothing to draw: expected at least one agreement beside its reference")
    figure = go.Figure(
        layout=blank(theme, f"<b>{text(pair)}</b> beside <b>{text(reference)}</b>", 30 + 30 * len(rows))
    )
    known = [r for r in rows if isfinite(r.difference)]
    at = {id(r): k for k, r in enumerate(rows)}
    figure.add_trace(
        go.Scatter(
            x=[r.difference for r in known], y=[at[id(r)] for r in known], mode="markers", showlegend=False,
            meta={"role": "difference"}, marker={"size": 9, "symbol": "square", "color": theme.ink},
            error_x={"type": "data", "symmetric": False, "thickness": 1.5, "width": 0, "color": theme.ink,
                     "array": [r.high - r.difference for r in known],
                     "arrayminus": [r.difference - r.low for r in known]},
            customdata=[[r.position, r.measure, number(r.value), number(r.reference)] for r in known],
            hovertemplate="%{customdata[2]} beside %{customdata[3]}: %{x:+.3f}<extra></extra>",
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[1.02] * len(rows), y=list(range(len(rows))), xaxis="x2", mode="text", showlegend=False,
            text=["cannot tell" if r.why else r.verdict.removesuffix(" the reference pair") for r in rows],
            textposition="middle left", textfont={"size": 11, "color": theme.faint}, hoverinfo="skip",
            meta={"role": "verdict"},
        )
    )  # fmt: skip
    ends = reach([v for r in known for v in (r.low, r.high)], 0.02)
    figure.update_layout(
        xaxis=axis(theme, "difference of agreement  (0 = as alike as the reference pair)", range=ends, domain=[0, 0.8]),
        xaxis2={"domain": [0.8, 1], "range": [0, 1], "visible": False, "anchor": "y"},
        yaxis=axis(
            theme, range=[len(rows) - 0.5, -0.5], tickvals=list(range(len(rows))), showgrid=False, zeroline=False,
            ticktext=[f"{text(r.measure)}, {WORDS.get(r.position, r.position)}" for r in rows],
        ),
    )  # fmt: skip
    lines = [
        "Unit: of each measure. Bars: 95 % bootstrap, both pairs on the same draws of questions, scaffolds fixed. "
        "The reference is one pair: with two seeds it shows what one other seed changes, not how seeds vary.",
        f"Split: test; n = {span(r.questions for r in rows)} questions.",
        *dict.fromkeys(f"{text(r.measure)}: {text(r.why)}." for r in rows if r.why),
    ]
    finish(figure, lines, theme, 52)
    return figure
