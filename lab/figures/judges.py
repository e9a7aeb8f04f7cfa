"""Judges of one trait side by side: do they tell its poles apart, and do they agree?"""

from collections.abc import Mapping, Sequence
from math import isfinite

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.figures.landing import shorten
from lab.figures.theme import LIGHT, MODEL_COLOURS, Theme, axis, blank, finish, span, text

Row = Mapping[str, object]
"""One judge on one trait, as `lab judge` keeps it (`lab.judging.verdicts.document`)."""
COLUMNS = {
    "judge": "judge", "unit": "unit", "auroc": "AUROC", "first": "held against", "spearman": "ρ with it",
    "within": "ρ inside the poles", "retest": "ρ asked twice", "calibration_error": "error in its unit",
    "calibration_null": "error of the median", "coherence": "coherence", "n": "replies", "unscored": "unscored",
}  # fmt: skip
WITH_ENDS = {"auroc", "spearman", "within", "retest", "calibration_error"}


def table(rows: Sequence[Row]) -> pd.DataFrame:
    """One line per judge, intervals in brackets; empty where it was not asked or cannot be told."""
    lines = [{words: _cell(row, name) for name, words in COLUMNS.items()} for row in rows]
    return pd.DataFrame(lines, columns=list(COLUMNS.values()))


def _cell(row: Row, name: str) -> str:
    value = row[name]
    if name == "first" and value == row["judge"]:
        return ""
    if not isinstance(value, float):
        return str(value)
    if not isfinite(value):
        return ""
    stem = name.removesuffix("_error")
    low, high = (_number(row, f"{stem}_{end}") for end in ("low", "high"))
    ends = f" [{low:.2f}, {high:.2f}]" if name in WITH_ENDS and isfinite(low) else ""
    return f"{value:.2f}{ends}"


def _number(row: Row, name: str) -> float:
    value = row.get(name)
    return float(value) if isinstance(value, (int, float)) else float("nan")


def judges(rows: Sequence[Row], trait: str, theme: Theme = LIGHT) -> go.Figure:
    """AUROC of the poles by each judge, and its rank correlation with the first judge, with 95 % intervals."""
    names = [text(shorten(str(r["judge"]), 28)) for r in rows]
    figure = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.06)
    figure.update_layout(blank(theme, f"<b>{text(trait)}</b>: judges", 34 * max(3, len(rows))))
    figure.add_trace(_dots(rows, "auroc", "AUROC of the poles", 0.0, MODEL_COLOURS[0]), 1, 1)
    figure.add_trace(_dots(rows, "spearman", "all replies", -0.12, MODEL_COLOURS[0]), 1, 2)
    figure.add_trace(_dots(rows, "within", "inside the poles", 0.12, theme.faint), 1, 2)
    figure.update_yaxes(axis(theme, range=[len(rows) - 0.5, -0.5], showgrid=False, zeroline=False))
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=names, col=1)
    figure.update_xaxes(axis(theme, "AUROC of the poles  (chance 0.5)", range=[0, 1.05]), col=1)
    first = text(shorten(str(rows[0]["first"]), 28)) if rows else ""
    figure.update_xaxes(axis(theme, f"rank correlation with {first}", range=[-1.05, 1.05]), col=2)
    figure.add_vline(x=0.5, line={"color": theme.faint, "dash": "dot", "width": 1}, row=1, col=1)  # type: ignore[arg-type]
    n = span(int(_number(r, "n")) for r in rows)
    questions = span(int(_number(r, "questions")) for r in rows)
    note = (
        f"n {n} replies to {questions} questions of all splits, at both poles; 95 % cluster bootstrap over questions. "
        "Inside the poles: the mean of the correlations in each pole, which the poles' distance does not help."
    )
    finish(figure, [note], theme, 52)
    return figure


def _dots(rows: Sequence[Row], name: str, words: str, shift: float, colour: str) -> go.Scatter:
    """One mark per judge that has the number, with its interval."""
    known = [(k, r) for k, r in enumerate(rows) if isfinite(_number(r, name))]
    x = [_number(r, name) for _, r in known]
    return go.Scatter(
        x=x, y=[k + shift for k, _ in known], mode="markers", name=words, meta={"role": name},
        marker={"color": colour, "size": 10},
        error_x={
            "type": "data", "symmetric": False, "thickness": 1.5, "width": 0,
            "array": [_number(r, f"{name}_high") - v for (_, r), v in zip(known, x, strict=True)],
            "arrayminus": [v - _number(r, f"{name}_low") for (_, r), v in zip(known, x, strict=True)],
        },
        customdata=[[text(r["judge"])] for _, r in known],
        hovertemplate="%{customdata[0]}: %{x:.2f}<extra></extra>",
    )  # fmt: skip
