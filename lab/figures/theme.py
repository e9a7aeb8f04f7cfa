"""Colours and panel furniture that every figure shares."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape, unescape
from textwrap import wrap
from typing import Any

import plotly.graph_objects as go

# Okabe-Ito blue and vermillion: told apart by every common colour vision, and at least 3:1
# against both papers, so that a model keeps its colour in light and dark.
MODEL_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
MODEL_SYMBOLS = ("circle", "diamond", "square", "triangle-up")
FADED = 0.3
"""Opacity of marks beside the one that was clicked."""
NOTE_CHARACTERS = 112
TOP = 92
POSITION_WORDS = {"reply_mean": "mean over the reply's tokens", "spawn": "last prompt token"}
L_UNIT = "L: 0 is the model's own neutral, 1 is half its own pole-to-pole range"


@dataclass(frozen=True)
class Theme:
    """Paper, ink and the two ends of the diverging scale (purple and green: never a model's colour)."""

    name: str
    paper: str
    ink: str
    faint: str
    grid: str
    null: str
    floor: str
    low: str
    high: str


LIGHT = Theme("light", "#ffffff", "#1f2328", "#5b636d", "#e6e8eb", "#c9ced4", "#eef0f2", "#762a83", "#1b7837")
DARK = Theme("dark", "#0e1117", "#e8eaed", "#a5adb8", "#2a2f3a", "#3a404b", "#232936", "#c58bd0", "#6fc78a")


def text(value: object) -> str:
    """User text for a plotly label: plotly reads a few HTML tags, so none may come through."""
    return escape(str(value), quote=False)


def blank(theme: Theme, title: str, height: int) -> go.Layout:
    """The layout every figure starts from: `height` pixels of panels; `title` is already escaped."""
    return go.Layout(
        title={"text": title, "x": 0, "xref": "paper", "xanchor": "left", "y": 1, "yanchor": "top",
               "yref": "container", "pad": {"t": 14}, "font": {"size": 16}},
        paper_bgcolor=theme.paper,
        plot_bgcolor=theme.paper,
        font={"family": "Inter, Helvetica, Arial, sans-serif", "size": 13, "color": theme.ink},
        height=TOP + height,
        margin={"l": 12, "r": 16, "t": TOP, "b": 0},
        hoverlabel={"bgcolor": theme.paper, "font": {"color": theme.ink}, "align": "left"},
        legend={"orientation": "h", "x": 0, "xref": "paper", "y": 1, "yref": "container",
                "yanchor": "top", "font": {"size": 12}, "bgcolor": "rgba(0,0,0,0)"},
    )  # fmt: skip


def axis(theme: Theme, title: str = "", **more: object) -> dict:
    """An axis with a faint grid and no box."""
    return {
        "title": {"text": title, "font": {"size": 12}, "standoff": 8},
        "gridcolor": theme.grid, "linecolor": theme.grid, "zeroline": True,
        "zerolinecolor": theme.faint, "zerolinewidth": 1, "zerolinelayer": "above traces",
        "automargin": True, **more,
    }  # fmt: skip


def finish(figure: go.Figure, lines: Sequence[str], theme: Theme, below: int) -> None:
    """Write unit, n, split and null `below` pixels under the panels, and make room for them."""
    _stay_readable(figure)
    pieces = [piece for line in lines for piece in wrap(line, NOTE_CHARACTERS)]
    figure.add_annotation(
        text="<br>".join(pieces), x=0, xref="paper", y=0, yref="paper", yshift=-below,
        xanchor="left", yanchor="top", align="left", showarrow=False,
        font={"size": 11, "color": theme.faint}, name="panel note",
    )  # fmt: skip
    bottom = below + 16 * len(pieces) + 14
    layout: Any = figure.layout
    height = layout.height + bottom
    figure.update_layout(height=height, margin={"b": bottom}, legend={"y": 1 - 40 / height})


def _stay_readable(figure: go.Figure) -> None:
    """Names keep their colour when a mark is clicked; the other marks fade.

    Plotly fades both, unless something is said of the names: then the marks must be told to.
    """
    traces: Any = figure.select_traces({"type": "scatter"})
    for trace in traces:
        if "text" in (trace.mode or "") and isinstance(trace.textfont.color, str):
            trace.unselected.textfont.color = trace.textfont.color
            if "markers" in trace.mode and trace.unselected.marker.opacity is None:
                trace.unselected.marker.opacity = FADED


def apart(figure: go.Figure) -> tuple[go.Figure, str]:
    """A copy without the note under the panels, and that note as plain text: for a place narrower than a page."""
    copy = go.Figure(figure)
    layout = copy.to_dict()["layout"]
    notes = [a for a in layout.get("annotations", ()) if a.get("name") == "panel note"]
    cut = sum(16 * (a["text"].count("<br>") + 1) for a in notes)
    height = layout["height"] - cut
    bottom = layout["margin"]["b"] - cut
    copy.update_layout(
        height=height, margin={"b": bottom}, legend={"y": 1 - 40 / height}, title={"xref": "container"}
    )
    copy.layout.annotations = [a for a in layout.get("annotations", ()) if a not in notes]
    return copy, unescape(" ".join(a["text"].replace("<br>", " ") for a in notes))


def span(values: Iterable[float], digits: int | None = None) -> str:
    """`24`, or `24 to 72` when the values differ."""
    seen = sorted(set(values))
    if not seen:
        return "not recorded"
    shown = [f"{x:.{digits}f}" if digits is not None else f"{x}" for x in (seen[0], seen[-1])]
    return shown[0] if shown[0] == shown[1] else f"{shown[0]} to {shown[1]}"


def reach(values: Iterable[float], least: float = 0.2) -> list[float]:
    """An axis range that holds every finite value and 0, with air on both sides: nothing is cut."""
    finite = [v for v in values if v == v and abs(v) != float("inf")]
    low, high = min([-least, *finite]), max([least, *finite])
    air = 0.06 * (high - low)
    return [low - air, high + air]
