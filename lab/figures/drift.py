"""A conversation turn by turn: where each reply stands, what is ordinary, and where it drifts."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from lab.figures.theme import LIGHT, MODEL_COLOURS, Theme, axis, blank, finish, reach, text

SERIES = {
    "slope": "push that the reply would need  (ordinary sd)",
    "projection": "projection of the reply's states  (raw)",
}


class Followed(Protocol):
    """Alarms of one series: turn numbers, 0-based."""

    @property
    def alarms(self) -> Sequence[int]: ...


class Watched(Protocol):
    """One trait along a conversation; value, expected, reach are [turn]."""

    @property
    def trait(self) -> str: ...
    @property
    def value(self) -> NDArray[np.float64]: ...
    @property
    def expected(self) -> NDArray[np.float64]: ...
    @property
    def reach(self) -> NDArray[np.float64]: ...
    @property
    def course(self) -> Followed: ...


def turn_course(
    watched: Watched, kind: str, replies: Sequence[str], note: str, theme: Theme = LIGHT
) -> go.Figure:
    """One series over turns with the band of ordinary turns; alarms are marked, points carry their turn."""
    figure = go.Figure(layout=blank(theme, f"<b>{text(watched.trait)}</b>, turn by turn", 300))
    turns = np.arange(1, len(watched.value) + 1)
    low, high = watched.expected - watched.reach, watched.expected + watched.reach
    known = np.flatnonzero(~np.isnan(low))
    figure.add_trace(
        go.Scatter(
            x=[*turns[known], *turns[known][::-1]], y=[*high[known], *low[known][::-1]], fill="toself",
            mode="lines", fillcolor=theme.null, line={"width": 0}, opacity=0.6, hoverinfo="skip",
            name="95 % of ordinary turns", meta={"role": "band"},
        )
    )  # fmt: skip
    alarms = set(watched.course.alarms)
    shown = [r if len(r) < 80 else r[:77] + "…" for r in replies]
    figure.add_trace(
        go.Scatter(
            x=turns, y=watched.value, mode="lines+markers", name="reply", meta={"role": "value"},
            line={"color": MODEL_COLOURS[0], "width": 1.5},
            marker={
                "size": [14 if t in alarms else 9 for t in range(len(turns))],
                "symbol": ["x" if t in alarms else "circle" for t in range(len(turns))],
                "color": [MODEL_COLOURS[1] if t in alarms else MODEL_COLOURS[0] for t in range(len(turns))],
            },
            customdata=[[t, text(said), "ALARM " if t in alarms else ""] for t, said in enumerate(shown)],
            hovertemplate="%{customdata[2]}turn %{x}: %{y:.2f}<br>%{customdata[1]}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(axis(theme, "turn of the assistant", dtick=1 if len(turns) <= 30 else None))
    bounds = reach([*watched.value, *low[known], *high[known]])
    figure.update_yaxes(axis(theme, SERIES[kind], range=bounds))
    finish(figure, [note], theme, 52)
    return figure
