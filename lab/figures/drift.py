"""A conversation turn by turn: where each reply stands, what is ordinary, and where it drifts."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from lab.figures.theme import LIGHT, MODEL_COLOURS, Theme, axis, blank, finish, reach, text

SERIES = {
    "ratio": "evidence for more of the trait  (nats)",
    "projection": "projection of the reply's states  (raw)",
    "level": "mean of the reply's tokens  (L)",
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
    _line(figure, "reply", watched, replies, MODEL_COLOURS[0], theme)
    _axes(figure, kind, [watched], theme)
    finish(figure, [note], theme, 52)
    return figure


def turn_courses(
    title: str, lines: Mapping[str, tuple[Watched, Sequence[str]]], kind: str, theme: Theme = LIGHT
) -> go.Figure:
    """The same for several conversations with their replies, a line and a band each (keys are their names)."""
    figure = go.Figure(layout=blank(theme, text(title), 250))
    for colour, (name, (watched, replies)) in zip(
        (theme.faint, MODEL_COLOURS[0]), lines.items(), strict=False
    ):
        _line(figure, name, watched, replies, colour, theme)
    _axes(figure, kind, [watched for watched, _ in lines.values()], theme)
    finish(figure, [], theme, 52)
    return figure


def _line(
    figure: go.Figure, name: str, watched: Watched, replies: Sequence[str], colour: str, theme: Theme
) -> None:
    turns = np.arange(1, len(watched.value) + 1)
    low, high = watched.expected - watched.reach, watched.expected + watched.reach
    known = np.flatnonzero(~np.isnan(low))
    alarms = set(watched.course.alarms)
    shown = [r if len(r) < 80 else r[:77] + "…" for r in replies]
    if len(known):
        figure.add_trace(
            go.Scatter(
                x=[*turns[known], *turns[known][::-1]], y=[*high[known], *low[known][::-1]], fill="toself",
                mode="lines", fillcolor=theme.null, line={"width": 0}, opacity=0.6, hoverinfo="skip",
                name="95 % of ordinary turns", meta={"role": "band"}, legendgroup="band",
                showlegend=not figure.data,
            )
        )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=turns, y=watched.value, mode="lines+markers", name=text(name), meta={"role": "value"},
            line={"color": colour, "width": 1.5},
            marker={
                "size": [14 if t in alarms else 9 for t in range(len(turns))],
                "symbol": ["x" if t in alarms else "circle" for t in range(len(turns))],
                "color": [MODEL_COLOURS[1] if t in alarms else colour for t in range(len(turns))],
            },
            customdata=[
                [t, text(said), "ALARM " if t in alarms else "", name] for t, said in enumerate(shown)
            ],
            hovertemplate="%{customdata[2]}turn %{x}: %{y:.2f}<br>%{customdata[1]}<extra></extra>",
        )
    )  # fmt: skip


def _axes(figure: go.Figure, kind: str, watched: Sequence[Watched], theme: Theme) -> None:
    """Every value and every band inside; turns counted from 1."""
    longest = max([len(w.value) for w in watched], default=0)
    ends = [v for w in watched for v in (*w.value, *(w.expected - w.reach), *(w.expected + w.reach))]
    figure.update_xaxes(
        axis(theme, "turn of the assistant", dtick=1 if longest <= 30 else None, range=[0.5, longest + 0.5])
    )
    figure.update_yaxes(axis(theme, SERIES[kind], range=reach(ends)))
