"""Marks of a path through the shared frame: its line, its first token and its landing, and what stands around it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import plotly.graph_objects as go

from lab.figures.labels import place_names
from lab.figures.theme import Theme, text
from lab.records.maps import SharedPoint
from lab.records.trajectories import PathPoint

Place = tuple[float, float]
FEW = 3
"""Replies of a model up to which marks are drawn large."""
BEFORE = 48
"""Characters of the reply that hover text shows in front of a token."""


@dataclass(frozen=True)
class Reply:
    """The path of one reply of one model; `points` in the order of its tokens."""

    model: str
    question: str
    points: tuple[PathPoint, ...]

    @property
    def known(self) -> bool:
        """Whether its tokens have places."""
        return bool(self.points) and isfinite(self.points[-1].mean_x)

    @property
    def text(self) -> str:
        """What was said."""
        return "".join(p.text for p in self.points)

    @property
    def landing(self) -> Place:
        """The mean place of all its tokens."""
        return place_of(self.points[-1], "mean")

    def at(self, shown: str) -> list[Place]:
        """Places of the tokens, or their running means."""
        return [place_of(p, shown) for p in self.points]


def place_of(p: PathPoint, shown: str) -> Place:
    """Of the token itself, or the running mean with it."""
    return (p.x, p.y) if shown == "tokens" else (p.mean_x, p.mean_y)


# ------------------------------------------------------------------ marks


def behind(
    points: Sequence[SharedPoint], mark: Mapping[str, str], pixels: float | None, theme: Theme
) -> go.Scatter:
    """Landings of the other scaffolds in one model, faint; named where `pixels` says how wide a unit is."""
    at = [(p.x, p.y) for p in points]
    nameless = [("", "top center")] * len(points)
    names = place_names(at, [p.scaffold for p in points], [], pixels) if pixels else nameless
    return go.Scatter(
        x=[x for x, _ in at], y=[y for _, y in at], mode="markers+text", cliponaxis=False, showlegend=False,
        text=[text(n) for n, _ in names], textposition=[place for _, place in names],
        textfont={"size": 10, "color": theme.faint}, opacity=0.6,
        marker={"size": 6, "symbol": f"{mark['symbol']}-open", "color": theme.faint},
        customdata=[[p.scaffold, p.model, text(p.scaffold), text(p.model)] for p in points],
        hovertemplate="landing of <b>%{customdata[2]}</b>, %{customdata[3]}<extra></extra>",
        meta={"role": "landing", "model": points[0].model if points else ""},
    )  # fmt: skip


def scaffold_landing(points: Sequence[SharedPoint], mark: Mapping[str, str], words: str) -> go.Scatter:
    """Where the scaffold itself lands in one model, the mean over all test questions."""
    return go.Scatter(
        x=[p.x for p in points], y=[p.y for p in points], mode="markers", legendgroup=words, showlegend=False,
        marker={"size": 17, "symbol": f"{mark['symbol']}-open", "color": mark["color"], "line": {"width": 2}},
        customdata=[[p.scaffold, p.model, text(p.scaffold)] for p in points], cliponaxis=False,
        hovertemplate=f"landing of <b>%{{customdata[2]}}</b>, {words}: mean over the test questions<extra></extra>",
        meta={"role": "chosen landing", "model": points[0].model if points else ""},
    )  # fmt: skip


def common_line(
    line: Sequence[Place], scaffold: str, model: str, mark: Mapping[str, str], words: str
) -> go.Scatter:
    """Mean over all scaffolds per token, dotted."""
    return go.Scatter(
        x=[x for x, _ in line], y=[y for _, y in line], mode="lines", legendgroup=words, showlegend=False,
        line={"color": mark["color"], "width": 1, "dash": "dot"}, meta={"role": "common", "model": model},
        customdata=[[scaffold, model, k] for k in range(len(line))],
        hovertemplate=f"mean over all scaffolds, {words}, token %{{customdata[2]}}<extra></extra>",
    )  # fmt: skip


def path_line(
    mine: Sequence[Reply], scaffold: str, shown: str, mark: Mapping[str, str], words: str, small: bool = False
) -> go.Scatter:  # fmt: skip
    """Line through the tokens of each reply, with a dot per token but where it is small."""
    at: list[Place | tuple[None, None]] = []
    ids: list[list[object]] = []
    for r in mine:
        at += [*r.at(shown), (None, None)]
        ids += [*_ids(r, scaffold), [scaffold, r.model, r.question, -1, "", ""]]
    faint = shown == "tokens"
    return go.Scatter(
        x=[x for x, _ in at], y=[y for _, y in at], mode="lines" if small else "lines+markers", name=words,
        line={"color": mark["color"], "width": 0.7 if faint or small else 1.6}, opacity=0.6 if faint else 1.0,
        marker={"size": 5 if len(mine) <= FEW else 3, "color": mark["color"]}, showlegend=not small,
        legendgroup=words, customdata=ids, cliponaxis=False,
        meta={"role": "overview" if small else "path", "model": mine[0].model},
        hovertemplate=f"%{{customdata[4]}}<b>%{{customdata[5]}}</b><br>{words}, token %{{customdata[3]}}: "
        "%{x:.2f}, %{y:.2f}<extra></extra>",
    )  # fmt: skip


def start_and_end(
    mine: Sequence[Reply], scaffold: str, shown: str, mark: Mapping[str, str], words: str, theme: Theme
) -> list[go.Scatter]:  # fmt: skip
    """The first token and the landing of each reply."""
    start = {"size": 10, "symbol": "x-thin-open", "line": {"width": 2}}
    size = 12 if len(mine) <= FEW else 8
    end = {"size": size, "symbol": mark["symbol"], "line": {"color": theme.paper, "width": 1}}
    return [
        go.Scatter(
            x=[x for x, _ in spots], y=[y for _, y in spots], mode="markers", name=words, legendgroup=words,
            showlegend=False, cliponaxis=False, customdata=[[scaffold, r.model, text(r.question)] for r in mine],
            marker={**marker, "color": mark["color"]}, meta={"role": role, "model": mine[0].model},
            hovertemplate=f"{said}, {words}, question %{{customdata[2]}}<extra></extra>",
        )
        for role, said, spots, marker in (
            ("start", "first token", [r.at(shown)[0] for r in mine], start),
            ("end", "landing of this reply", [r.landing for r in mine], end),
        )
    ]  # fmt: skip


def _ids(reply: Reply, scaffold: str) -> list[list[object]]:
    """Per token what it belongs to, and its place in the text for the hover box."""
    rows: list[list[object]] = []
    said = ""
    for p in reply.points:
        before = said if len(said) <= BEFORE else "…" + said[-BEFORE:]
        rows.append([scaffold, p.model, p.question, p.token, _visible(before), _visible(p.text)])
        said += p.text
    return rows


def _visible(words: str) -> str:
    return text(words.replace("\n", "⏎"))
