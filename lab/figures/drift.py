"""A conversation turn by turn: where each reply stands, what is ordinary, and where it drifts."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

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


class Added(Followed, Protocol):
    """Alarms, and the sums that raise them, [turn]."""

    @property
    def up(self) -> NDArray[np.float64]: ...
    @property
    def down(self) -> NDArray[np.float64]: ...


class Watchful(Watched, Protocol):
    """The same with the sums and their threshold."""

    @property
    def course(self) -> Added: ...
    @property
    def threshold(self) -> float: ...


def turn_course(
    watched: Watchful, kind: str, replies: Sequence[str], note: str, theme: Theme = LIGHT
) -> go.Figure:
    """One series over turns with the band of ordinary turns, and below it what adds up; points carry their turn.

    Alarms are marked; the sum for less of the trait is drawn downwards.
    """
    figure = make_subplots(2, 1, shared_xaxes=True, row_heights=[0.62, 0.38], vertical_spacing=0.06)
    figure.update_layout(blank(theme, f"<b>{text(watched.trait)}</b>, turn by turn", 430))
    _line(figure, "reply", watched, replies, MODEL_COLOURS[0], theme)
    _axes(figure, kind, [watched], theme)
    _sums(figure, watched, replies, theme)
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
            customdata=_told(watched.course, replies, name),
            hovertemplate="%{customdata[2]}turn %{x}: %{y:.2f}<br>%{customdata[1]}<extra></extra>",
        )
    )  # fmt: skip


def _told(course: Followed, replies: Sequence[str], name: str) -> list[list[object]]:
    """What a turn's mark carries: its number from 0, how the reply begins, whether it is an alarm, whose line."""
    shown = [r if len(r) < 80 else r[:77] + "…" for r in replies]
    return [[t, text(said), "ALARM " if t in course.alarms else "", name] for t, said in enumerate(shown)]


def _sums(figure: go.Figure, watched: Watchful, replies: Sequence[str], theme: Theme) -> None:
    """Both sums and their threshold in the lower panel."""
    turns, h = np.arange(1, len(watched.value) + 1), watched.threshold
    for role, values, colour in (
        ("sum for more of it", watched.course.up, MODEL_COLOURS[0]),
        ("sum for less of it", -watched.course.down, MODEL_COLOURS[1]),
    ):
        figure.add_trace(
            go.Scatter(
                x=turns, y=values, mode="lines+markers", name=role, meta={"role": role},
                line={"color": colour, "width": 1.5, "dash": "dot"}, marker={"size": 6, "color": colour},
                customdata=_told(watched.course, replies, role),
                hovertemplate="%{customdata[2]}turn %{x}, %{customdata[3]}: %{y:.2f}<extra></extra>",
            ),
            row=2, col=1,
        )  # fmt: skip
    for at in (h, -h):
        figure.add_hline(
            at, line={"color": theme.ink, "width": 1, "dash": "dash"}, row=2, col=1, name="threshold",  # type: ignore[arg-type]
        )  # fmt: skip
    ends = [*watched.course.up, *-watched.course.down, 1.1 * h, -1.1 * h]
    figure.update_yaxes(axis(theme, "what adds up", range=reach(ends)), row=2, col=1)
    figure.update_xaxes(title_text="", row=1, col=1)


def _axes(figure: go.Figure, kind: str, watched: Sequence[Watched], theme: Theme) -> None:
    """Every value and every band inside; turns counted from 1."""
    longest = max([len(w.value) for w in watched], default=0)
    ends = [v for w in watched for v in (*w.value, *(w.expected - w.reach), *(w.expected + w.reach))]
    figure.update_xaxes(
        axis(theme, "turn of the assistant", dtick=1 if longest <= 30 else None, range=[0.5, longest + 0.5])
    )
    figure.update_yaxes(axis(theme, SERIES[kind], range=reach(ends)))
