"""Between two models, in bars and dots: how well maps predict held-out states, and what makes landings differ."""

from collections.abc import Sequence
from math import isfinite

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.figures import lookup
from lab.figures.geometry import CEILING, NULL, abstention, number, traits
from lab.figures.landing import shorten, span_words
from lab.figures.reading import interval, probability
from lab.figures.theme import (
    LIGHT,
    MODEL_COLOURS,
    MODEL_SYMBOLS,
    POSITION_WORDS,
    Theme,
    axis,
    blank,
    finish,
    reach,
    span,
    text,
)
from lab.records import Position
from lab.records.geometry import GeometryBook
from lab.records.maps import MapScore, Share

SOURCE_WORDS = {
    "question": "question", "scaffold": "scaffold", "weights": "weights", "scaffold x weights": "scaffold × weights",
    "residual": "residual",
}  # fmt: skip
ROW = 74
"""Pixels of a method: two directions, each with two lines of numbers."""
Placed = Sequence[tuple[float, MapScore]]


# ------------------------------------------------------------------ maps


def map_scores(book: GeometryBook, position: Position, theme: Theme = LIGHT) -> go.Figure:
    """Held-out R² and retrieval of every map, both ways, with null, chance and ceiling; numbers beside."""
    scores = book.at(position).maps
    title = "Do one model's states predict the other's?"
    notes = [
        *_map_notes(scores, position),
        *dict.fromkeys(f"{text(m.method)}: {text(m.why)}." for m in scores if m.why),
    ]
    if not scores or not any(isfinite(m.r2) for m in scores):
        why = scores[0].why if scores else "no layers were chosen, so no map was fitted"
        return abstention(title, why or "no map has a score", notes, theme)
    methods = list(dict.fromkeys(m.method for m in scores))
    placed = [(methods.index(m.method) + 0.2 * (2 * book.labels.index(m.source) - 1), m) for m in scores]
    figure = make_subplots(1, 3, shared_yaxes=True, column_widths=[0.44, 0.26, 0.3], horizontal_spacing=0.02)
    figure.update_layout(blank(theme, title, ROW * max(2, len(methods))))
    known = [(y, m) for y, m in placed if isfinite(m.r2)]
    for trace in _r2_traces(book, placed, theme):
        figure.add_trace(trace, 1, 1)
    for trace in _retrieval_traces(book, known, theme):
        figure.add_trace(trace, 1, 2)
    figure.add_trace(_numbers(placed, theme), 1, 3)
    figure.update_yaxes(axis(theme, range=[len(methods) - 0.5, -0.5], showgrid=False, zeroline=False))
    figure.update_yaxes(tickvals=list(range(len(methods))), ticktext=[text(m) for m in methods], col=1)
    wide = [v for _, m in known for v in (m.r2, m.low, m.high, m.null_high, m.ceiling)]
    figure.update_xaxes(axis(theme, "held-out R²  (0 = mean of the others)", range=reach(wide)), col=1)
    figure.update_xaxes(axis(theme, "share retrieved", range=[-0.05, 1.05]), col=2)
    figure.update_xaxes(visible=False, range=[0, 1], col=3)
    finish(figure, notes, theme, 52)
    return figure


def _way(m: MapScore) -> list[object]:
    return [m.method, m.source, m.target, probability("p", m.p), probability("p", m.retrieval_p)]


def _r2_traces(book: GeometryBook, placed: Placed, theme: Theme) -> list[go.Scatter]:
    known = [(y, m) for y, m in placed if isfinite(m.r2)]
    tick = {"symbol": NULL, "size": 15, "color": theme.faint, "line": {"width": 3}}
    found = [_ticks(known, [m.null_high for _, m in known], "null", "random pairings, 95 %", tick)]
    for k, label in enumerate(book.labels[:2]):
        mine = [(y, m) for y, m in known if m.source == label]
        words = f"{text(label)} predicts {text(next((x for x in book.labels[:2] if x != label), '?'))}"
        found.append(_dots(mine, [m.r2 for _, m in mine], "r2", words, k, theme, True))
        found[-1].error_x = {
            "type": "data", "symmetric": False, "thickness": 2, "width": 0, "color": MODEL_COLOURS[k],
            "array": [m.high - m.r2 for _, m in mine], "arrayminus": [m.r2 - m.low for _, m in mine],
        }  # fmt: skip
    capped = [(y, m) for y, m in known if isfinite(m.ceiling)]
    top = {"symbol": CEILING, "size": 11, "color": theme.ink}
    found.append(_ticks(capped, [m.ceiling for _, m in capped], "ceiling", "ceiling", top))
    gaps = [(y, m) for y, m in placed if not isfinite(m.r2)]
    if gaps:
        found.append(
            go.Scatter(
                x=[0.0] * len(gaps), y=[y for y, _ in gaps], mode="text", showlegend=False, hoverinfo="skip",
                text=[f"{text(m.source)} → {text(m.target)}: cannot tell" for _, m in gaps],
                textposition="middle right", textfont={"size": 11, "color": theme.faint},
                customdata=[_way(m) for _, m in gaps], meta={"role": "gap"},
            )
        )  # fmt: skip
    return found


def _retrieval_traces(book: GeometryBook, known: Placed, theme: Theme) -> list[go.Scatter]:
    chance = {"symbol": NULL, "size": 15, "color": theme.ink, "line": {"width": 1}}
    null = {"symbol": NULL, "size": 15, "color": theme.faint, "line": {"width": 3}}
    found = [
        _ticks(
            known,
            [m.null_retrieval for _, m in known],
            "null retrieval",
            "random pairings, mean",
            null,
            False,
        ),
        _ticks(known, [m.chance for _, m in known], "chance", "chance, 1 / scaffolds", chance),
    ]
    for k, label in enumerate(book.labels[:2]):
        mine = [(y, m) for y, m in known if m.source == label]
        found.append(_dots(mine, [m.retrieval for _, m in mine], "retrieval", text(label), k, theme, False))
    return found


def _dots(
    rows: Placed, x: Sequence[float], role: str, words: str, k: int, theme: Theme, legend: bool
) -> go.Scatter:
    return go.Scatter(
        x=list(x), y=[y for y, _ in rows], mode="markers", name=words, showlegend=legend, cliponaxis=False,
        marker={"symbol": MODEL_SYMBOLS[k], "size": 10, "color": MODEL_COLOURS[k],
                "line": {"color": theme.paper, "width": 1}},
        customdata=[_way(m) for _, m in rows], meta={"role": role},
        hovertemplate=f"%{{customdata[0]}}, {words}: {role} %{{x:.2f}}, "
        f"%{{customdata[{3 if role == 'r2' else 4}]}}<extra></extra>",
    )  # fmt: skip


def _ticks(
    rows: Placed, x: Sequence[float], role: str, words: str, marker: dict[str, object], legend: bool = True
) -> go.Scatter:
    return go.Scatter(
        x=list(x), y=[y for y, _ in rows], mode="markers", name=words, marker=marker, showlegend=legend,
        customdata=[_way(m) for _, m in rows], meta={"role": role}, cliponaxis=False,
        hovertemplate=f"%{{customdata[0]}}, {words}: %{{x:.2f}}<extra></extra>",
    )  # fmt: skip


def _numbers(placed: Placed, theme: Theme) -> go.Scatter:
    def words(m: MapScore) -> str:
        if not isfinite(m.r2):
            return "cannot tell"
        return (
            f"R² {number(m.r2)} {interval(m.low, m.high)}, {probability('p', m.p)}<br>"
            f"retrieved {number(m.retrieval)}, {probability('p', m.retrieval_p)}"
        )

    return go.Scatter(
        x=[0.0] * len(placed), y=[y for y, _ in placed], mode="text", text=[words(m) for _, m in placed],
        textposition="middle right", textfont={"size": 10, "color": theme.ink}, cliponaxis=False, showlegend=False,
        hoverinfo="skip", customdata=[_way(m) for _, m in placed], meta={"role": "numbers"},
    )  # fmt: skip


def _map_notes(scores: Sequence[MapScore], position: Position) -> list[str]:
    lines = [
        "Unit: share of the variance of the target's states around the mean of the other scaffolds (relative: of its "
        f"anchor coordinates, so not to be held against the other two); below 0 is worse than that mean; "
        f"{POSITION_WORDS[position]}.",
        "Held out twice: no fit saw the scaffold or the questions it is scored on. Null: scaffolds paired at random, "
        "fitted again. Bars: 95 %, resampling scaffolds. Retrieved: scaffolds nearest to their own landing, of all.",
    ]
    if scores:
        lines.append(
            f"Split: {span_words(m.split for m in scores)}; n = {span(m.scaffolds for m in scores)} scaffolds, "
            f"{span(m.questions for m in scores)} questions, fitted on {span(m.train_questions for m in scores)} others "
            f"({span(m.dropped for m in scores)} dropped)."
        )
    return lines


# ------------------------------------------------------------------ variance


def variance_shares(
    book: GeometryBook, position: Position, theme: Theme = LIGHT, trait: str | None = None
) -> go.Figure:
    """What the landings' variance comes from: a panel per source, a bar per trait, one scale, nothing clamped.

    trait: only this one. LabError for a trait that the run does not have.
    """
    rows = book.at(position).shares
    if trait is not None:
        lookup.require(trait, traits(book), "trait")
        rows = tuple(s for s in rows if s.trait == trait)
    title = "What makes landings differ: the scaffold, the weights, or both together?"
    notes = [
        *_share_notes(rows, position),
        *dict.fromkeys(f"{text(s.trait)}: {text(s.why)}." for s in rows if s.why),
    ]
    if not any(isfinite(s.share) for s in rows):
        return abstention(title, rows[0].why if rows else "this run has no landings", notes, theme)
    names = list(dict.fromkeys(s.trait for s in rows))
    kinds = list(dict.fromkeys(s.source for s in rows))
    heads = [SOURCE_WORDS.get(k, text(k)) for k in kinds]
    figure = make_subplots(1, len(kinds), shared_yaxes=True, horizontal_spacing=0.02, subplot_titles=heads)
    figure.update_layout(blank(theme, title, 30 + 48 * max(2, len(names))))
    for column, kind in enumerate(kinds, 1):
        mine = [(names.index(s.trait), s) for s in rows if s.source == kind]
        for trace in _share_traces(mine, kind, column == 1, theme):
            figure.add_trace(trace, 1, column)
    ends = reach([v for s in rows for v in (s.share, s.low, s.high, s.null_high)])
    figure.update_xaxes(axis(theme, "share of variance", range=ends, tickformat=".0%", nticks=4))
    figure.update_yaxes(axis(theme, range=[len(names) - 0.5, -0.6], showgrid=False, zeroline=False))
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=[text(shorten(n)) for n in names], col=1)
    figure.update_annotations(font={"size": 12, "color": theme.faint})
    figure.update_layout(barmode="overlay", bargap=0.6)
    finish(figure, notes, theme, 52)
    return figure


def _share_traces(rows: Sequence[tuple[int, Share]], kind: str, first: bool, theme: Theme) -> list:
    known = [(y, s) for y, s in rows if isfinite(s.share)]
    tested = [(y, s) for y, s in known if isfinite(s.null_high)]
    gaps = [(y, s) for y, s in rows if not isfinite(s.share)]
    bars = go.Bar(
        x=[s.share for _, s in known], y=[y for y, _ in known], orientation="h", showlegend=False,
        marker={"color": [theme.faint if s.p < 0.05 else theme.null for _, s in known], "line": {"width": 0}},
        error_x={"type": "data", "symmetric": False, "thickness": 1.5, "width": 4, "color": theme.ink,
                 "array": [s.high - s.share for _, s in known], "arrayminus": [s.share - s.low for _, s in known]},
        customdata=[[s.trait, kind, probability("p", s.p), interval(s.low, s.high), text(s.trait)] for _, s in known],
        hovertemplate="%{customdata[4]}, %{customdata[1]}: %{x:.1%} %{customdata[3]}, %{customdata[2]}<extra></extra>",
        meta={"role": "share", "source": kind},
    )  # fmt: skip
    null = go.Scatter(
        x=[s.null_high for _, s in tested], y=[y for y, _ in tested], mode="markers", name="labels shuffled, 95 %",
        marker={"symbol": NULL, "size": 18, "color": theme.ink, "line": {"width": 2}}, showlegend=first,
        customdata=[[s.trait, kind] for _, s in tested], meta={"role": "null", "source": kind},
        hovertemplate="labels shuffled, 95 %: %{x:.1%}<extra></extra>",
    )  # fmt: skip
    unknown = go.Scatter(
        x=[0.0] * len(gaps), y=[y for y, _ in gaps], mode="text", text=["cannot tell"] * len(gaps),
        textposition="middle right", textfont={"size": 11, "color": theme.faint}, showlegend=False, hoverinfo="skip",
        customdata=[[s.trait, kind] for _, s in gaps], meta={"role": "gap", "source": kind},
    )  # fmt: skip
    numbers = go.Scatter(
        x=[0.0] * len(known), y=[y - 0.36 for y, _ in known], mode="text", textposition="middle right",
        text=[_percent(s) for _, s in known], textfont={"size": 10, "color": theme.ink}, showlegend=False,
        hoverinfo="skip", cliponaxis=False, customdata=[[s.trait, kind] for _, s in known],
        meta={"role": "numbers", "source": kind},
    )  # fmt: skip
    return [bars, null, numbers, *([unknown] if gaps else [])]


def _percent(s: Share) -> str:
    """`4.1 % [3.9, 4.3]`."""
    bounds = f" [{100 * s.low:.1f}, {100 * s.high:.1f}]" if isfinite(s.low) and isfinite(s.high) else ""
    return f"{100 * s.share:.1f} %{bounds}".replace("-", "−")


def _share_notes(rows: Sequence[Share], position: Position) -> list[str]:
    return [
        "Unit: share of the variance of L over questions, scaffolds and both models, noise subtracted, so it may fall "
        f"below 0; the five sum to 1; {POSITION_WORDS[position]}. Scaffold × weights: what a scaffold does to one model "
        "and not to the other.",
        f"Split: test; n = {span(s.n for s in rows)} questions, {span(s.scaffolds for s in rows)} scaffolds "
        f"({span(s.dropped for s in rows)} dropped). Bars' ends: 95 %, resampling questions. Dark: p < .05, labels "
        "shuffled; the residual has no test.",
    ]
