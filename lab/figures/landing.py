"""The landing forest and its kin: where scaffolds put two models, with intervals and nulls."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.figures import lookup
from lab.figures.reading import interval, probability, signed
from lab.figures.theme import (
    L_UNIT,
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
from lab.records import Comparison, Interaction, Landing, LayerScore, Position

ROW_PIXELS = 44


@dataclass(frozen=True)
class Row:
    """One row of a forest: a scaffold on a trait, in every model, with its interaction."""

    name: str
    scaffold: str
    trait: str
    landings: tuple[tuple[Landing | None, list[Landing]], ...]
    interaction: Interaction | None
    floor: float | None


def landing_forest(
    comparison: Comparison, trait: str, position: Position = "reply_mean", theme: Theme = LIGHT
) -> go.Figure:
    """Rows scaffolds: L of each model with interval, null band and paraphrases; D, p and q beside."""
    lookup.require(trait, lookup.traits(comparison), "trait")
    rows = [_row(comparison, s, s, trait, position) for s in lookup.scaffolds(comparison)]
    title = f"Where each scaffold lands on <b>{text(trait)}</b>"
    return _forest(comparison, rows, title, position, theme)


def trait_profiles(
    comparison: Comparison, scaffold: str, position: Position = "reply_mean", theme: Theme = LIGHT
) -> go.Figure:
    """Rows traits: both models' L under one scaffold, drawn as in the landing forest."""
    lookup.require(scaffold, lookup.scaffolds(comparison), "scaffold")
    rows = [_row(comparison, t, scaffold, t, position) for t in lookup.traits(comparison)]
    title = f"What <b>{text(scaffold)}</b> does to every trait"
    return _forest(comparison, rows, title, position, theme)


def depth_profile(
    comparison: Comparison, trait: str, position: Position = "reply_mean", theme: Theme = LIGHT
) -> go.Figure:
    """d' of the trait's poles per relative depth on the select split, with its permutation null."""
    lookup.require(trait, lookup.traits(comparison), "trait")
    figure = go.Figure(layout=blank(theme, f"Where <b>{text(trait)}</b> can be read", 250))
    scores = [x for x in comparison.depth if x.trait == trait and x.position == position]
    best = max((x.d_prime for x in scores if x.chosen), default=0.0)
    for i, (model, label) in enumerate(zip(comparison.models, comparison.labels, strict=True)):
        mine = sorted((x for x in scores if x.model == label), key=lambda x: x.layer)
        above = any(x.chosen and x.d_prime == best for x in mine)
        figure.add_traces(_depth_traces(mine, i, max(1, model.layers - 1), above, theme))
    depth = "relative depth  (0 = first block, 1 = last block)"
    figure.update_xaxes(axis(theme, depth, range=[-0.04, 1.04], zeroline=False))
    low, high = reach([v for x in scores for v in (x.d_prime, x.null_high)])
    low = low if any(x.d_prime < 0 for x in scores) else 0.0
    figure.update_yaxes(axis(theme, "d′  (within-pole sd)", range=[low, high]))
    lines = [
        f"Unit: d′ between the trait's poles, direction from other questions; {POSITION_WORDS[position]}.",
        f"Split: {span_words(x.split for x in scores)}; n = {_sizes(comparison, scores)} questions. "
        "Ring: the layer chosen here.",
        "Null (dotted): 97.5 % point of d′ under pole-swapped directions.",
    ]
    finish(figure, lines, theme, 52)
    return figure


def span_words(values: Iterable[str]) -> str:
    """The distinct words, in order, or `not recorded`."""
    return ", ".join(dict.fromkeys(values)) or "not recorded"


def _sizes(comparison: Comparison, scores: Sequence[LayerScore]) -> str:
    splits = dict.fromkeys(x.split for x in scores)
    return ", ".join(lookup.split_size(comparison, s) for s in splits) or "not recorded"


def _depth_traces(
    scores: Sequence[LayerScore], i: int, last: int, above: bool, theme: Theme
) -> list[go.Scatter]:
    label = scores[0].model if scores else ""
    depth = [x.layer / last for x in scores]
    ids = [[label, x.trait, x.layer, x.auroc] for x in scores]
    null = go.Scatter(
        x=depth, y=[x.null_high for x in scores], mode="lines", name=f"{text(label)}: null", legendrank=1001,
        line={"color": MODEL_COLOURS[i], "width": 1.5, "dash": "dot"}, customdata=ids,
        hovertemplate="null of %{customdata[0]} at layer %{customdata[2]}: d′ %{y:.2f}<extra></extra>",
        meta={"role": "null", "model": label},
    )  # fmt: skip
    line = go.Scatter(
        x=depth, y=[x.d_prime for x in scores], mode="lines+markers", name=text(label),
        line={"color": MODEL_COLOURS[i], "width": 2}, customdata=ids,
        marker={"symbol": MODEL_SYMBOLS[i], "size": 8},
        hovertemplate=f"{text(label)}, layer %{{customdata[2]}}<br>d′ %{{y:.2f}}, "
        "AUROC %{customdata[3]:.2f}<extra></extra>",
        meta={"role": "score", "model": label},
    )  # fmt: skip
    picked = [(d, x) for d, x in zip(depth, scores, strict=True) if x.chosen]
    ring = go.Scatter(
        x=[d for d, _ in picked], y=[x.d_prime for _, x in picked], mode="markers+text",
        text=[f"layer {x.layer}" for _, x in picked], showlegend=False, hoverinfo="skip",
        textposition="top center" if above else "bottom center",
        textfont={"color": theme.ink, "size": 12}, cliponaxis=False,
        marker={"symbol": MODEL_SYMBOLS[i] + "-open", "size": 18, "color": theme.ink, "line": {"width": 2}},
        customdata=[[label, x.trait, x.layer, x.auroc] for _, x in picked],
        meta={"role": "chosen", "model": label},
    )  # fmt: skip
    return [null, line, ring]


def _row(comparison: Comparison, name: str, scaffold: str, trait: str, position: Position) -> Row:
    found = tuple(lookup.landing(comparison, m, scaffold, trait, position) for m in comparison.labels)
    d = lookup.interaction(comparison, scaffold, trait, position)
    return Row(name, scaffold, trait, found, d, lookup.floor(comparison, trait, position))


def _forest(
    comparison: Comparison, rows: Sequence[Row], title: str, position: Position, theme: Theme
) -> go.Figure:
    a, b = [text(x) for x in (*comparison.labels, "?", "?")[:2]]
    figure = make_subplots(
        rows=1, cols=3, shared_yaxes=True, column_widths=[0.5, 0.26, 0.24], horizontal_spacing=0.02
    )
    figure.update_layout(blank(theme, title, ROW_PIXELS * max(2, len(rows))))
    for i, label in enumerate(comparison.labels):
        for trace in _model_traces(rows, label, i, len(comparison.labels), theme):
            figure.add_trace(trace, row=1, col=1)
    for trace in _interaction_traces(rows, theme):
        figure.add_trace(trace, row=1, col=2)
    figure.add_trace(_numbers(rows, theme), row=1, col=3)
    _forest_axes(figure, rows, theme)
    _headings(figure, f"D = {a} − {b}", theme)
    figure.update_layout(barmode="overlay")
    finish(figure, _forest_notes(rows, position, a, b), theme, 50)
    return figure


def _offset(i: int, models: int) -> float:
    """Where model i sits inside a row of height 1, the first on top."""
    return 0.19 * (2 * i - (models - 1)) / max(1, models - 1) if models > 1 else 0.0


def _model_traces(rows: Sequence[Row], label: str, i: int, models: int, theme: Theme) -> list:
    at = _offset(i, models)
    whole = [(y + at, r, r.landings[i][0]) for y, r in enumerate(rows)]
    marks = [(y, r, x) for y, r, x in whole if x is not None and isfinite(x.L)]
    banded = [m for m in marks if isfinite(m[2].null_low) and isfinite(m[2].null_high)]
    single = [(y + at, r, x) for y, r in enumerate(rows) for x in r.landings[i][1] if isfinite(x.L)]
    ids = [[r.scaffold, label, r.trait] for _, r, _ in marks]
    null = go.Bar(
        y=[y for y, _, _ in banded], base=[x.null_low for _, _, x in banded],
        x=[x.null_high - x.null_low for _, _, x in banded], orientation="h", width=0.34,
        marker={"color": theme.null, "line": {"width": 0}}, name="null (95 %)", legendgroup="null",
        showlegend=i == 0, legendrank=1001, meta={"role": "null", "model": label},
        customdata=[[r.scaffold, label, r.trait] for _, r, _ in banded],
        hovertemplate=f"null of {text(label)}: %{{base:.2f}} to %{{x:.2f}}<extra></extra>",
    )  # fmt: skip
    ticks = go.Scatter(
        x=[x.L for _, _, x in single], y=[y for y, _, _ in single], mode="markers",
        opacity=0.55 if theme.name == "light" else 0.85,
        marker={"symbol": "line-ns", "size": 9, "line": {"color": MODEL_COLOURS[i], "width": 1.5}},
        name="single wording", legendgroup="wording", legendrank=1002, showlegend=i == 0 and bool(single),
        customdata=[[r.scaffold, label, r.trait, x.paraphrase] for _, r, x in single],
        hovertemplate="wording %{customdata[3]}: L %{x:.2f}<extra></extra>",
        meta={"role": "paraphrase", "model": label},
    )  # fmt: skip
    mark = go.Scatter(
        x=[x.L for _, _, x in marks], y=[y for y, _, _ in marks], mode="markers", name=text(label),
        marker={"symbol": MODEL_SYMBOLS[i], "size": 10, "color": MODEL_COLOURS[i],
                "line": {"color": theme.paper, "width": 1}},
        error_x={"type": "data", "symmetric": False, "array": [x.high - x.L for _, _, x in marks],
                 "arrayminus": [x.L - x.low for _, _, x in marks], "color": MODEL_COLOURS[i],
                 "thickness": 2, "width": 0},
        customdata=[[*c, x.low, x.high, x.null_low, x.null_high, x.d_prime, x.n, x.layer]
                    for c, (_, _, x) in zip(ids, marks, strict=True)],
        text=[text(r.name) for _, r, _ in marks], meta={"role": "landing", "model": label},
        hovertemplate=f"<b>%{{text}}</b> in {text(label)}<br>L %{{x:.2f}} [%{{customdata[3]:.2f}}, "
        "%{customdata[4]:.2f}]<br>null %{customdata[5]:.2f} to %{customdata[6]:.2f}<br>"
        "d′ from neutral %{customdata[7]:.2f}, n = %{customdata[8]}, layer %{customdata[9]}<extra></extra>",
    )  # fmt: skip
    unknown = [(y, r) for y, r, x in whole if x is None or not isfinite(x.L)]
    gap = go.Scatter(
        x=[0.0] * len(unknown), y=[y for y, _ in unknown], mode="text", showlegend=False,
        text=[f"{text(label)}: cannot tell"] * len(unknown), textposition="middle right",
        textfont={"size": 11, "color": theme.faint}, hoverinfo="skip", meta={"role": "gap", "model": label},
        customdata=[[r.scaffold, label, r.trait] for _, r in unknown],
    )  # fmt: skip
    return [null, ticks, mark, gap] if unknown else [null, ticks, mark]


def _interaction_traces(rows: Sequence[Row], theme: Theme) -> list:
    tested = [(y, r, r.interaction) for y, r in enumerate(rows)]
    marks = [(y, r, x) for y, r, x in tested if x is not None and isfinite(x.D)]
    floors = [(y, r.floor) for y, r in enumerate(rows) if r.floor is not None]
    noise = go.Bar(
        y=[y for y, _ in floors], base=[-f for _, f in floors], x=[2 * f for _, f in floors],
        orientation="h", width=1.0, marker={"color": theme.floor, "line": {"width": 0}},
        name="noise floor (95 %)", hoverinfo="skip",
        showlegend=bool(floors), meta={"role": "noise floor"}, legendrank=1003,
    )  # fmt: skip
    d = go.Scatter(
        x=[x.D for _, _, x in marks], y=[y for y, _, _ in marks], mode="markers", showlegend=False,
        marker={"symbol": ["square" if x.q < 0.05 else "square-open" for _, _, x in marks], "size": 9,
                "color": theme.ink, "line": {"width": 2}},
        error_x={"type": "data", "symmetric": False, "array": [x.high - x.D for _, _, x in marks],
                 "arrayminus": [x.D - x.low for _, _, x in marks], "color": theme.ink,
                 "thickness": 1.5, "width": 0},
        customdata=[[r.scaffold, "interaction", r.trait, x.p, x.q, x.n, x.low, x.high] for _, r, x in marks],
        text=[text(r.name) for _, r, _ in marks], meta={"role": "interaction"},
        hovertemplate="<b>%{text}</b><br>D %{x:.2f} [%{customdata[6]:.2f}, %{customdata[7]:.2f}]<br>"
        "p %{customdata[3]:.3f}, q %{customdata[4]:.3f}, n = %{customdata[5]}<extra></extra>",
    )  # fmt: skip
    return [noise, d]


def _numbers(rows: Sequence[Row], theme: Theme) -> go.Scatter:
    def words(x: Interaction | None) -> str:
        if x is None or not isfinite(x.D):
            return "cannot tell"
        bold = ("<b>", "</b>") if x.q < 0.05 else ("", "")
        tests = f"{probability('p', x.p)}, {probability('q', x.q)}"
        return f"{bold[0]}{signed(x.D)}{bold[1]} {interval(x.low, x.high)}<br>{tests}"

    return go.Scatter(
        x=[0.0] * len(rows), y=list(range(len(rows))), mode="text", showlegend=False, hoverinfo="skip",
        text=[words(r.interaction) for r in rows], textposition="middle right", cliponaxis=False,
        textfont={"size": 12, "color": theme.ink}, meta={"role": "numbers"},
        customdata=[[r.scaffold, "interaction", r.trait] for r in rows],
    )  # fmt: skip


def _forest_axes(figure: go.Figure, rows: Sequence[Row], theme: Theme) -> None:
    every = [x for r in rows for whole, single in r.landings for x in (whole, *single) if x is not None]
    wide = [
        v
        for x in every
        for v in (x.L, *((x.low, x.high, x.null_low, x.null_high) if x.paraphrase < 0 else ()))
    ]
    tests = [r.interaction for r in rows if r.interaction is not None]
    spread = [v for x in tests for v in (x.low, x.high)]
    spread += [v for r in rows if r.floor for v in (-r.floor, r.floor)]
    far = max([abs(v) for v in reach(spread)])
    figure.update_yaxes(
        axis(theme, showgrid=False, zeroline=False, range=[len(rows) - 0.5, -0.5], fixedrange=True)
    )
    figure.update_yaxes(
        tickvals=list(range(len(rows))), ticktext=[text(shorten(r.name)) for r in rows], row=1, col=1
    )
    figure.update_xaxes(axis(theme, "L  (0 own neutral, 1 half own range)", range=reach(wide)), row=1, col=1)
    figure.update_xaxes(axis(theme, "D  (unit of L)", range=[-far, far]), row=1, col=2)
    figure.update_xaxes(visible=False, range=[0, 1], fixedrange=True, row=1, col=3)
    for y in range(1, len(rows)):
        figure.add_shape(
            type="line", xref="paper", x0=0, x1=1, yref="y", y0=y - 0.5, y1=y - 0.5, layer="below",
            line={"color": theme.grid, "width": 1},
        )  # fmt: skip


def shorten(name: str, most: int = 28) -> str:
    """A row label that leaves room for the plot; the whole name is in the hover text."""
    return name if len(name) <= most else name[: most - 1] + "…"


def _headings(figure: go.Figure, difference: str, theme: Theme) -> None:
    for column, words in ((1, "landing"), (2, difference), (3, "D [95 %], p and q")):
        domain = figure.layout[f"xaxis{'' if column == 1 else column}"].domain
        figure.add_annotation(
            text=words, x=domain[0], xref="paper", y=1, yref="paper", yshift=4, xanchor="left",
            yanchor="bottom", showarrow=False, font={"size": 12, "color": theme.faint},
        )  # fmt: skip


def _forest_notes(rows: Sequence[Row], position: Position, a: str, b: str) -> list[str]:
    whole = [x for r in rows for x, _ in r.landings if x is not None]
    tests = [r.interaction for r in rows if r.interaction is not None]
    return [
        f"{L_UNIT}; {POSITION_WORDS[position]}.",
        f"Split: {span_words(x.split for x in whole)}; "
        f"n = {span(x.n for x in whole)} replies per mark; bars: 95 % cluster bootstrap.",
        "Null (grey bars): 95 % of L under pole-swapped directions of equal norm. Ticks: single wordings.",
        f"D: {a} beyond {b}; n = {span(x.n for x in tests)} questions, same split; "
        "filled: q < .05 (Benjamini–Hochberg).",
        "Shade behind D: 95 % of differences between two wordings inside one model (noise floor).",
    ]
