"""The continuity battery as a picture: what passed per family, and beside it how near the tone was."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite, isnan
from textwrap import wrap
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.figures.theme import LIGHT, MODEL_COLOURS, Theme, axis, blank, finish, reach, span, text
from lab.records import LabError
from lab.records.continuity import EVERY, FAMILIES, ContinuityResult, FamilyScore

CONDITION_SYMBOLS = ("circle", "circle-open", "diamond-open", "square", "triangle-up-open", "cross-open")
"""Of the conditions, in order; the first, against which the others are held, is filled."""
MARK, AIR = 13, 16
"""Pixels of height that a mark takes in its family's row, and that stay free between two rows."""


@dataclass(frozen=True)
class _Lane:
    """Where one run's marks of one condition lie inside every family's row."""

    found: ContinuityResult
    label: str
    colour: str
    condition: str
    symbol: str
    shift: float
    """In rows, from the middle."""

    def scores(self) -> dict[str, FamilyScore]:
        return {s.family: s for s in self.found.scores if s.condition == self.condition}


def battery(found: Sequence[ContinuityResult], theme: Theme = LIGHT) -> go.Figure:
    """A row per family: share passed with chance and ceiling, and the tone match; a mark per run and condition.

    `found`: one run or two of the same items, whose models take the first and second colour. Marks carry
    (family, condition). LabError where runs differ in items, judge or unit of tone, so that no axis would hold both.
    """
    same(found)
    lanes, families = _lanes(found), families_of(found)
    row = AIR + MARK * len(lanes)
    figure = make_subplots(
        1, 2, column_widths=[0.62, 0.38], horizontal_spacing=0.05, shared_yaxes=True,
        subplot_titles=["passed", "tone match"],
    )  # fmt: skip
    figure.update_layout(blank(theme, _title(found), row * len(families)))
    figure.update_annotations(font={"size": 12, "color": theme.ink}, yshift=2)
    _legend(figure, found, lanes, theme)
    for label, part in _by_run(lanes):
        _draw_ticks(figure, label, part, families, theme)
    for lane in lanes:
        _draw_lane(figure, lane, families)
    _draw_rows(figure, lanes, families, theme)
    tones = [v for lane in lanes for s in lane.scores().values() for v in (s.tone, s.tone_low, s.tone_high)]
    share = axis(
        theme, "share of items", range=[-0.03, 1.03], tickformat=".0%", tickvals=[0, 0.5, 1], zeroline=False
    )
    unit = "<br>".join(wrap(text(found[0].tone_unit), 24))
    figure.update_xaxes(share, row=1, col=1)
    figure.update_xaxes(axis(theme, unit, range=reach(tones), nticks=4, tickangle=0), row=1, col=2)
    finish(figure, _notes(found), theme, 46 + 15 * unit.count("<br>"))
    return figure


def same(found: Sequence[ContinuityResult]) -> None:
    """LabError unless the runs asked the same items of the same judge, with tone in one unit."""
    if not 1 <= len(found) <= len(MODEL_COLOURS):
        raise LabError(f"expected one to {len(MODEL_COLOURS)} runs of the battery, got {len(found)}")
    kinds = {(r.set_name, r.judge, r.tone_unit) for r in found}
    if len(kinds) > 1:
        said = "; ".join(f"{s}, judge {j}, tone in {u}" for s, j, u in sorted(kinds))
        raise LabError(f"expected runs of the same items, judge and unit, got {said}; choose another run")


def families_of(found: Sequence[ContinuityResult]) -> list[str]:
    """Families with a score, then "all"."""
    known = {s.family for r in found for s in r.scores}
    return [f for f in (*FAMILIES, EVERY) if f in known]


def conditions_of(found: Sequence[ContinuityResult]) -> list[str]:
    """Conditions of all runs, in the order in which they were asked."""
    return list(dict.fromkeys(s.condition for r in found for s in r.scores))


def labels(found: Sequence[ContinuityResult]) -> list[str]:
    """The models' names, with the run where two are alike."""
    names = [r.model.name for r in found]
    return [n if names.count(n) == 1 else f"{n} ({r.run})" for n, r in zip(names, found, strict=True)]


def family_words(family: str) -> str:
    """How a family reads."""
    return "all items" if family == EVERY else family.replace("_", " ")


# ------------------------------------------------------------------ tables


def scores_table(found: Sequence[ContinuityResult]) -> pd.DataFrame:
    """The numbers of the figure."""
    return _table(found, "scores")


def changes_table(found: Sequence[ContinuityResult]) -> pd.DataFrame:
    """What the first condition changes against each other one."""
    return _table(found, "changes")


def outcomes_table(found: Sequence[ContinuityResult]) -> pd.DataFrame:
    """Every reply, and what it was worth."""
    return _table(found, "outcomes")


def _table(found: Sequence[ContinuityResult], name: str) -> pd.DataFrame:
    return pd.DataFrame([{"run": r.run, **vars(row)} for r in found for row in getattr(r, name)])


# ------------------------------------------------------------------ marks


def _lanes(found: Sequence[ContinuityResult]) -> list[_Lane]:
    conditions = conditions_of(found)
    symbol = {c: CONDITION_SYMBOLS[k % len(CONDITION_SYMBOLS)] for k, c in enumerate(conditions)}
    rows = [
        (r, label, colour, c)
        for r, label, colour in zip(found, labels(found), MODEL_COLOURS, strict=False)
        for c in conditions_of([r])
    ]
    step = MARK / (AIR + MARK * len(rows))
    middle = (len(rows) - 1) / 2
    return [
        _Lane(r, label, colour, c, symbol[c], (k - middle) * step)
        for k, (r, label, colour, c) in enumerate(rows)
    ]


def _by_run(lanes: Sequence[_Lane]) -> Iterator[tuple[str, list[_Lane]]]:
    for label in dict.fromkeys(lane.label for lane in lanes):
        yield label, [lane for lane in lanes if lane.label == label]


def _draw_lane(figure: go.Figure, lane: _Lane, families: Sequence[str]) -> None:
    scores = lane.scores()
    some = [scores[f] for f in families if f in scores]
    y = [families.index(s.family) + lane.shift for s in some]
    data = [
        [s.family, s.condition, text(lane.label), family_words(s.family), s.n, s.unscored, s.tone_n]
        for s in some
    ]
    about = "<b>%{customdata[2]}</b>, " + text(lane.condition) + "<br>%{customdata[3]}: "
    passed = about + "%{x:.0%} of %{customdata[4]} items; %{customdata[5]} unscored<extra></extra>"
    tone = about + "tone %{x:.2f}, %{customdata[6]} replies<extra></extra>"
    for column, role, values, lows, highs, hover in (
        (1, "passed", [s.passed for s in some], [s.low for s in some], [s.high for s in some], passed),
        (2, "tone", [s.tone for s in some], [s.tone_low for s in some], [s.tone_high for s in some], tone),
    ):
        mark = {"symbol": lane.symbol, "size": 9, "color": lane.colour,
                "line": {"width": 2 if "open" in lane.symbol else 0, "color": lane.colour}}  # fmt: skip
        figure.add_trace(
            go.Scatter(
                x=[v if isfinite(v) else None for v in values], y=y, mode="markers", showlegend=False,
                cliponaxis=False, marker=mark, error_x=_bars(values, lows, highs, lane.colour), customdata=data,
                hovertemplate=hover, meta={"role": role, "condition": lane.condition, "run": lane.found.run},
            ),
            1, column,
        )  # fmt: skip


def _bars(
    values: Sequence[float], lows: Sequence[float], highs: Sequence[float], colour: str
) -> dict[str, Any]:
    return {
        "type": "data", "symmetric": False, "thickness": 1.5, "width": 0, "color": colour,
        "array": [_gap(h, v) for h, v in zip(highs, values, strict=True)],
        "arrayminus": [_gap(v, w) for v, w in zip(values, lows, strict=True)],
    }  # fmt: skip


def _gap(more: float, less: float) -> float:
    return max(0.0, more - less) if isfinite(more) and isfinite(less) else 0.0


def _draw_ticks(
    figure: go.Figure, label: str, lanes: Sequence[_Lane], families: Sequence[str], theme: Theme
) -> None:
    """Chance and ceiling of a run's items, as high as its marks; they are the same under all its conditions."""
    scores = lanes[0].scores()
    some = [scores[f] for f in families if f in scores]
    middle = (lanes[0].shift + lanes[-1].shift) / 2
    for role, colour, width in (("chance", theme.faint, 1.5), ("ceiling", theme.ink, 3.0)):
        known = [(getattr(s, role), s.family) for s in some if not isnan(getattr(s, role))]
        figure.add_trace(
            go.Scatter(
                x=[v for v, _ in known], y=[families.index(f) + middle for _, f in known], mode="markers",
                showlegend=False, cliponaxis=False, meta={"role": role},
                marker={"symbol": "line-ns-open", "size": MARK * len(lanes) / 1.4, "color": colour,
                        "line": {"width": width, "color": colour}},
                customdata=[[f] for _, f in known], text=[family_words(f) for _, f in known],
                hovertemplate=f"{role} of {text(label)}, %{{text}}: %{{x:.0%}}<extra></extra>",
            ),
            1, 1,
        )  # fmt: skip


def _draw_rows(figure: go.Figure, lanes: Sequence[_Lane], families: Sequence[str], theme: Theme) -> None:
    """Names and numbers of the families, what could not be scored, and a line above "all items"."""
    names = []
    for k, family in enumerate(families):
        mine = [s for lane in lanes if (s := lane.scores().get(family)) is not None]
        unscored = max(s.unscored for s in mine)
        more = f", {span([s.unscored for s in mine])} unscored" if unscored else ""
        names.append(
            f"{family_words(family)}<br><span style='font-size:10px'>n {span([s.n for s in mine])}{more}</span>"
        )
        if all(isnan(s.passed) for s in mine):
            figure.add_annotation(
                text="nothing could be scored", x=0.5, y=k, xref="x", yref="y", showarrow=False,
                font={"size": 11, "color": theme.faint}, name="unscored",
            )  # fmt: skip
    ends = [len(families) - 0.5, -0.5]
    shown = {"range": ends, "tickvals": list(range(len(names))), "ticktext": names, "zeroline": False,
             "showgrid": False}  # fmt: skip
    figure.update_yaxes(axis(theme, **shown))
    figure.update_layout(
        shapes=[
            {
                "type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y", "y0": k - 0.5, "y1": k - 0.5,
                "layer": "below", "line": {"color": theme.faint if f == EVERY else theme.grid, "width": 1},
            }
            for k, f in enumerate(families) if k
        ]
    )  # fmt: skip


def _legend(
    figure: go.Figure, found: Sequence[ContinuityResult], lanes: Sequence[_Lane], theme: Theme
) -> None:
    """Colours are models, symbols are conditions, ticks are chance and ceiling."""
    marks: list[tuple[str, dict[str, Any]]] = []
    if len(found) > 1:
        marks += [
            (text(label), {"symbol": "square", "size": 11, "color": part[0].colour})
            for label, part in _by_run(lanes)
        ]
    symbols = {lane.condition: lane.symbol for lane in lanes}
    colour = theme.faint if len(found) > 1 else lanes[0].colour
    marks += [(text(c), {"symbol": s, "size": 9, "color": colour}) for c, s in symbols.items()]
    for role, shade, width in (("chance", theme.faint, 1.5), ("ceiling", theme.ink, 3.0)):
        if any(not isnan(getattr(s, role)) for r in found for s in r.scores):
            line = {"width": width, "color": shade}
            marks.append((role, {"symbol": "line-ns-open", "size": 11, "color": shade, "line": line}))
    for name, mark in marks:
        figure.add_trace(
            go.Scatter(x=[None], y=[None], mode="markers", name=name, marker=mark, meta={"role": "legend"})
        )


def _title(found: Sequence[ContinuityResult]) -> str:
    some = found[0]
    who = " and ".join(f"<b>{text(label)}</b>" for label in labels(found))
    return f"Continuity of {who}<br><sup>items of {text(some.set_name)}, judge {text(some.judge)}</sup>"


def _notes(found: Sequence[ContinuityResult]) -> list[str]:
    known = any(not isnan(s.chance) for r in found for s in r.scores)
    lines = [
        "Passed: every check of the item holds. Bars: 95 %, cluster bootstrap over characters; where all items agree, the "
        "exact binomial limit; none below five characters. n: items; what could not be told is unscored, and left out.",
        "Tone match: regression of judged on stated traits, 0 where nothing of them shows; a judge of one short reply "
        "leans to its prior, so a perfect reply stays below 1." if _exact(found) else
        "Tone match: the model's own likelihood ratio towards what is stated, 0 where nothing of it shows.",
    ]  # fmt: skip
    if known:
        lines.append(
            "Chance, ceiling: the world's own source without and with the scaffold. Split: none; nothing was fitted."
        )
    else:
        lines.append(
            "No chance or ceiling is known for these items: compare conditions. Split: none; nothing was fitted."
        )
    return lines


def _exact(found: Sequence[ContinuityResult]) -> bool:
    """Whether tone was read by Hearth's exact judge."""
    return found[0].judge == "exact"
