"""A tested claim as a picture: effects against their bars, and the course of what was observed."""

from collections.abc import Sequence
from math import isfinite, nan
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots
from scipy import stats

from lab.figures.theme import LIGHT, MODEL_COLOURS, MODEL_SYMBOLS, Theme, axis, blank, finish, span, text
from lab.records.claims import Effect, Finding, Observation, Side, Verdict

VERDICT_SYMBOLS: dict[Verdict, str] = {"supported": "circle", "refuted": "x", "cannot tell": "circle-open"}
ROW, PANEL, COURSE = 42, 74, 300
"""Pixels of an effect, of its panel's head and axis, and of the course's panel."""
HEAD, NAME, WHY = 54, 26, 32
"""Characters of a line in a panel's head, in a row's name, and in the reason of an abstention."""
Panel = tuple[str, str, Side, float]


def claim_figure(finding: Finding, theme: Theme = LIGHT) -> go.Figure:
    """A panel per kind of effect, a row per model (interval, bar, wanted side shaded); below, the course, if any."""
    panels = panels_of(finding.effects)
    courses = course(finding.observations)
    heights = [ROW * len(each) + 14 for each in panels.values()] + [COURSE] * bool(courses)
    rows, total = len(heights), sum(heights) + PANEL * (len(heights) - 1)
    figure = make_subplots(
        rows, 1, row_heights=heights, vertical_spacing=PANEL / total if rows > 1 else 0,
        subplot_titles=[_head(p, each) for p, each in panels.items()] + ["What was observed"] * bool(courses),
    )  # fmt: skip
    figure.update_layout(blank(theme, _title(finding), total))
    figure.update_annotations(
        font={"size": 12, "color": theme.ink}, x=0, xref="paper", xanchor="left", align="left"
    )
    models = speakers(finding.effects)
    for k, (panel, each) in enumerate(panels.items(), 1):
        _draw_panel(figure, panel, each, k, models, theme)
    if courses:
        _draw_course(figure, courses, rows, models, theme)
    finish(figure, _notes(finding, bool(courses)), theme, 52)
    return figure


def _title(finding: Finding) -> str:
    said = "<br>".join(text(line) for line in wrap(finding.title, 120))
    return f"Claim {finding.claim}: <b>{finding.said}</b><br><sup>{said}</sup>"


def panels_of(effects: Sequence[Effect]) -> dict[Panel, list[Effect]]:
    """Effects of one kind and bar, whatever the models."""
    found: dict[Panel, list[Effect]] = {}
    for e in effects:
        found.setdefault((e.what, e.unit, e.side, e.bar), []).append(e)
    return found


def speakers(effects: Sequence[Effect]) -> list[str]:
    """The models, or pairs of them, that effects are of: each keeps one colour, whatever it was asked about."""
    return list(dict.fromkeys(_who(e.models) for e in effects))


def _who(models: str) -> str:
    """Without what may stand behind a comma, such as a category of concepts."""
    return models.split(", ")[0]


def effects_table(finding: Finding) -> pd.DataFrame:
    """The numbers of the effects' panels."""
    return pd.DataFrame([vars(e) for e in finding.effects])


def observations_table(finding: Finding) -> pd.DataFrame:
    """Everything the effects were made of."""
    return pd.DataFrame([vars(o) for o in finding.observations])


# ------------------------------------------------------------------ effects


def _head(panel: Panel, effects: Sequence[Effect]) -> str:
    what, unit, _, _ = panel
    beside = "" if any(e.decides for e in effects) else " (beside: does not decide)"
    return "<br>".join(text(line) for line in wrap(f"{what}, in {unit}{beside}", HEAD))


def _draw_panel(
    figure: go.Figure, panel: Panel, effects: Sequence[Effect], row: int, models: Sequence[str], theme: Theme
) -> None:
    _, _, side, bar = panel
    points = [v for e in effects for v in (e.effect, e.low, e.high) if isfinite(v)] + [bar, 0.0]
    air = 0.08 * (max(points) - min(points) or 1.0)
    ends = [min(points) - air, max(points) + air]
    for y, e in enumerate(effects):
        figure.add_trace(_mark(e, y, models.index(_who(e.models)), theme), row, 1)
    wanted = [bar, ends[1]] if side == "above" else [ends[0], bar]
    figure.add_vrect(*wanted, fillcolor=theme.floor, line_width=0, layer="below", row=row, col=1)  # type: ignore[arg-type]
    line = {"color": theme.faint, "dash": "dash", "width": 1.5}
    figure.add_vline(bar, line=line, row=row, col=1)  # type: ignore[arg-type]
    figure.update_xaxes(axis(theme, "", range=ends, nticks=5, domain=[0, 0.6]), row=row, col=1)
    names = ["<br>".join(text(line) for line in wrap(e.models, NAME)) for e in effects]
    low = {"range": [len(effects) - 0.5, -0.5], "showgrid": False, "zeroline": False}
    figure.update_yaxes(
        axis(theme, "", tickvals=list(range(len(names))), ticktext=names, tickfont={"size": 11}, **low),
        row=row,
        col=1,
    )
    for y, e in enumerate(effects):
        figure.add_annotation(
            text=f"<b>{e.said}</b>{_numbers(e)}", align="left", x=0.62, xanchor="left", xref="paper", y=y,
            yanchor="middle", yref="y" if row == 1 else f"y{row}", showarrow=False, font={"size": 10, "color": theme.ink},
        )  # fmt: skip


def _mark(e: Effect, y: int, k: int, theme: Theme) -> go.Scatter:
    bounded = isfinite(e.low)
    colour = MODEL_COLOURS[k % len(MODEL_COLOURS)]
    return go.Scatter(
        x=[e.effect if isfinite(e.effect) else None], y=[y], mode="markers", showlegend=False, cliponaxis=False,
        marker={"symbol": VERDICT_SYMBOLS[e.verdict], "size": 10, "color": colour, "line": {"width": 2, "color": colour}},
        error_x={"type": "data", "symmetric": False, "array": [e.high - e.effect if bounded else 0],
                 "arrayminus": [e.effect - e.low if bounded else 0], "thickness": 2, "width": 0},
        customdata=[[e.models]], text=[f"n = {e.n} {text(e.cluster)}"], meta={"role": "effect"},
        hovertemplate=f"{text(e.models)}: %{{x:.3g}}, %{{text}}<extra></extra>",
    )  # fmt: skip


def _numbers(e: Effect) -> str:
    """Under the verdict, in lines that fit beside a panel on a narrow page."""
    if not isfinite(e.effect):
        return "".join(f"<br>{text(line)}" for line in wrap(e.why, WHY))
    bounds = f" [{e.low:.3g}, {e.high:.3g}]" if isfinite(e.low) else ""
    p = f"p {e.p:.3f}, " if isfinite(e.p) else ""
    return f"<br>{f'{e.effect:.3g}{bounds}'.replace('-', '−')}<br>{p}n = {e.n} {text(e.cluster)}"


# ------------------------------------------------------------------ single observations

POINT, LEAST, MOST = 9, 140, 460
"""Pixels between two observations, and of the picture at least and at most."""


def observed(finding: Finding, series: str, theme: Theme = LIGHT) -> go.Figure:
    """A dot per observation of a series, in the order of its values; a mark carries its place in the series.

    An observation's own 95 % interval is drawn where it has one; what failed (NaN) is left out, and counted in the note.
    """
    rows = series_of(finding, series)
    known = sorted((k for k, r in enumerate(rows) if isfinite(r.value)), key=lambda k: rows[k].value)
    models = list(dict.fromkeys([*speakers(finding.effects), *(_who(r.models) for r in rows)]))
    height = min(MOST, max(LEAST, POINT * len(known)))
    figure = go.Figure(layout=blank(theme, f"What was observed: <b>{text(series)}</b>", height))
    for k, who in enumerate(models):
        mine = [(y, i) for y, i in enumerate(known) if _who(rows[i].models) == who]
        if not mine:
            continue
        colour = MODEL_COLOURS[k % len(MODEL_COLOURS)]
        own = any(isfinite(rows[i].low) for _, i in mine)
        figure.add_trace(
            go.Scatter(
                x=[rows[i].value for _, i in mine], y=[y for y, _ in mine], mode="markers", name=text(who),
                marker={"size": 7, "color": colour, "symbol": MODEL_SYMBOLS[k % len(MODEL_SYMBOLS)]},
                error_x=_own([rows[i] for _, i in mine]) if own else None, showlegend=True,
                customdata=[[str(i), text(rows[i].cluster)] for _, i in mine], meta={"role": "observation"},
                hovertemplate="%{customdata[1]}: %{x:.3g}<extra>%{fullData.name}</extra>",
            )
        )  # fmt: skip
    figure.update_xaxes(axis(theme, "value", nticks=8))
    figure.update_yaxes(axis(theme, "in order", showticklabels=False, showgrid=False, zeroline=False))
    lost = f" {len(rows) - len(known)} have no value." if len(known) < len(rows) else ""
    finish(
        figure,
        [f"A mark: one observation, n = {len(known)}; unit and null: as the measure says.{lost}"],
        theme,
        52,
    )
    return figure


def series_of(finding: Finding, series: str) -> list[Observation]:
    """The observations of a series, in the order in which they were made."""
    return [o for o in finding.observations if o.series == series]


def _own(rows: Sequence[Observation]) -> dict[str, Any]:
    return {
        "type": "data", "symmetric": False, "thickness": 1, "width": 0,
        "array": [r.high - r.value if isfinite(r.high) else 0 for r in rows],
        "arrayminus": [r.value - r.low if isfinite(r.low) else 0 for r in rows],
    }  # fmt: skip


# ------------------------------------------------------------------ course


def course(rows: Sequence[Observation]) -> list[pd.DataFrame]:
    """Mean over clusters at every x with a t interval, a table per models and series; empty where nothing has an x."""
    placed = [r for r in rows if isfinite(r.x) and isfinite(r.value)]
    if not placed:
        return []
    frame = pd.DataFrame([vars(r) for r in placed])
    found = []
    groups: Any = frame.groupby(["models", "series"], sort=False)
    for (models, series), part in groups:
        if part["x"].nunique() < 2:
            continue
        cells = part.groupby(["x", "cluster"])["value"].mean().groupby("x")
        table = pd.DataFrame({"mean": cells.mean(), "sd": cells.std(), "n": cells.count()}).reset_index()
        table["reach"] = [
            stats.t.ppf(0.975, n - 1) * sd / np.sqrt(n) if n >= 5 else nan
            for n, sd in zip(table["n"], table["sd"], strict=True)
        ]
        found.append(table.assign(models=models, series=series))
    return found


def _draw_course(
    figure: go.Figure, courses: Sequence[pd.DataFrame], row: int, shown: Sequence[str], theme: Theme
) -> None:
    series = list(dict.fromkeys(str(c["series"].iloc[0]) for c in courses))
    models = list(dict.fromkeys([*shown, *(_who(str(c["models"].iloc[0])) for c in courses)]))
    dashes = ("solid", "dash", "dot", "dashdot", "longdash")
    for table in courses:
        who, what = str(table["models"].iloc[0]), str(table["series"].iloc[0])
        k, s = models.index(_who(who)), series.index(what)
        colour = MODEL_COLOURS[k % len(MODEL_COLOURS)]
        figure.add_trace(
            go.Scatter(
                x=table["x"], y=table["mean"], mode="lines+markers", name=f"{text(who)}, {text(what)}",
                line={"color": colour, "dash": dashes[s % len(dashes)], "width": 1.5},
                marker={"symbol": MODEL_SYMBOLS[s % len(MODEL_SYMBOLS)], "size": 7, "color": colour},
                error_y={"type": "data", "array": table["reach"].fillna(0), "thickness": 1, "width": 2},
                customdata=[[who, what]] * len(table), meta={"role": "course"},
                hovertemplate="%{x:g}: %{y:.3g}<extra>%{fullData.name}</extra>",
            ),
            row, 1,
        )  # fmt: skip
    figure.update_xaxes(axis(theme, ""), row=row, col=1)
    figure.update_yaxes(axis(theme, "observed", rangemode="tozero"), row=row, col=1)


def _notes(finding: Finding, courses: bool) -> list[str]:
    lines = [
        "Dashed: the bar, set before the run; shaded: where the claim wants the effect. Bars: 95 % intervals. Filled dot: "
        "supported; cross: refuted; open: cannot tell.",
        f"Rule: {text(finding.sections.get('Verdict rule', ''))}",
    ]
    for (what, *_), each in panels_of(finding.effects).items():
        nulls = " / ".join(dict.fromkeys(text(e.null) for e in each))
        n = span([e.n for e in each])
        lines.append(f"{text(what)}: null {nulls}; split: {each[0].split}; n = {n} {text(each[0].cluster)}.")
    if courses:
        lines.append("Below: means over clusters; bars: 95 % t interval, from five clusters on.")
    return list(dict.fromkeys(lines))
