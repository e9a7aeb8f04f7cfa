"""What scaffolds switch on in sparse features, segment by segment, and which latents a near twin has too."""

from collections.abc import Mapping, Sequence
from math import isfinite

import plotly.graph_objects as go

from lab.figures import lookup
from lab.figures.cells import SHOWN_STILL, add_cells
from lab.figures.geometry import abstention
from lab.figures.landing import shorten
from lab.figures.reading import interval, probability
from lab.figures.theme import LIGHT, Theme, axis, blank, finish, reach, span, text
from lab.records.decomposition import (
    DifferenceBook,
    LatentScale,
    ReadoutBook,
    SegmentEffect,
    SwitchedFeature,
)

MOST = 24
"""Features that a figure shows."""
PLACE_SYMBOLS = {
    "common": "circle", "opposite": "diamond", "only here": "square", "cannot tell": "circle-open",
    "no counterpart": "x-thin", "": "circle",
}  # fmt: skip
VERDICT_SYMBOLS = {
    "shared": "circle", "weaker": "circle-open", "shrunk": "diamond", "specific": "square",
    "decoupled": "triangle-up", "moved": "square-open", "cannot tell": "x-thin",
}  # fmt: skip
VERDICT_WORDS = {
    "shared": "in both", "weaker": "in both, weaker", "shrunk": "looks missing, is not",
    "specific": "only in the first", "decoupled": "carried by others", "moved": "on elsewhere",
    "cannot tell": "cannot tell",
}  # fmt: skip
SAID_WORDS = {"same": "the replies staying what they were", "anew": "replies made anew"}
Names = Mapping[int, str]


def switched_of(book: ReadoutBook, model: str, scaffold: str) -> list[SwitchedFeature]:
    """Features that a scaffold switches (q < .05), the largest effect first. LabError for another model or scaffold."""
    lookup.require(model, book.labels, "model")
    lookup.require(scaffold, book.scaffolds, "scaffold")
    mine = [f for f in book.features if (f.model, f.scaffold) == (model, scaffold) and f.q < 0.05]
    return sorted(mine, key=lambda f: -abs(f.effect))


def segments_of(book: ReadoutBook, model: str, scaffold: str, said: str = "same") -> list[SegmentEffect]:
    """What each segment holds up, in the "same" replies or in replies made "anew". LabError as `switched_of`."""
    switched_of(book, model, scaffold)
    lookup.require(said, list(SAID_WORDS), "way to leave a segment out")
    return [s for s in book.segments if (s.model, s.scaffold, s.said) == (model, scaffold, said)]


def _name(names: Names | None, feature: int) -> str:
    return text((names or {}).get(feature, f"feature {feature}"))


# ------------------------------------------------------------------ switched on


def readout_bars(
    book: ReadoutBook, model: str, scaffold: str, theme: Theme = LIGHT, names: Names | None = None
) -> go.Figure:
    """The features that a scaffold switches most in one model, with intervals; marks say what the match does."""
    rows = switched_of(book, model, scaffold)
    title = f"What <b>{text(scaffold)}</b> switches in <b>{text(model)}</b>"
    notes = _readout_notes(book, model, scaffold, rows)
    if not rows:
        return abstention(title, "no feature differs from neutral for more than chance", notes, theme)
    shown = rows[:MOST]
    figure = go.Figure(layout=blank(theme, title, 60 + 24 * max(3, len(shown))))
    figure.add_trace(_bars(shown, theme))
    for place in dict.fromkeys(f.place for f in shown if f.place):
        figure.add_trace(_marks(shown, place, theme))
    ends = [len(shown) - 0.5, -0.5]
    ticks = {"tickvals": list(range(len(shown))), "ticktext": [_name(names, f.feature) for f in shown]}
    figure.update_yaxes(axis(theme, range=ends, showgrid=False, zeroline=False, **ticks))
    wide = reach([v / f.unit for f in shown for v in (f.difference, f.low, f.high)], 0.05)
    figure.update_xaxes(axis(theme, "change of activation  (1 = on at every token)", range=wide))
    finish(figure, notes, theme, 52)
    return figure


def _bars(rows: Sequence[SwitchedFeature], theme: Theme) -> go.Bar:
    return go.Bar(
        x=[f.effect for f in rows], y=list(range(len(rows))), orientation="h", showlegend=False,
        marker={"color": [theme.high if f.effect > 0 else theme.low for f in rows], "line": {"width": 0}},
        error_x={"type": "data", "symmetric": False, "thickness": 1.5, "width": 4, "color": theme.ink,
                 "array": [f.high / f.unit - f.effect for f in rows],
                 "arrayminus": [f.effect - f.low / f.unit for f in rows]},
        customdata=[[f.feature, interval(f.low / f.unit, f.high / f.unit), probability("q", f.q), f.match] for f in rows],
        meta={"role": "effect"},
        hovertemplate="feature %{customdata[0]}: %{x:+.3f} %{customdata[1]}, %{customdata[2]}<extra></extra>",
    )  # fmt: skip


def _marks(rows: Sequence[SwitchedFeature], place: str, theme: Theme) -> go.Scatter:
    mine = [(i, f) for i, f in enumerate(rows) if f.place == place]
    words = {"common": "switched alike in the other model", "opposite": "switched the other way there",
             "only here": "only here", "no counterpart": "no counterpart there"}  # fmt: skip
    return go.Scatter(
        x=[0.0] * len(mine), y=[i for i, _ in mine], mode="markers", name=words.get(place, text(place)),
        marker={"symbol": PLACE_SYMBOLS[place], "size": 9, "color": theme.ink, "line": {"width": 1.5, "color": theme.ink}},
        customdata=[[f.feature, f.match] for _, f in mine], meta={"role": "place", "place": place},
        hovertemplate=f"feature %{{customdata[0]}}, its match %{{customdata[1]}}: {text(place)}<extra></extra>",
    )  # fmt: skip


def _readout_notes(
    book: ReadoutBook, model: str, scaffold: str, rows: Sequence[SwitchedFeature]
) -> list[str]:
    tested = [f for f in book.features if (f.model, f.scaffold) == (model, scaffold)]
    shown = f" The {MOST} largest are shown." if len(rows) > MOST else ""
    sae = book.saes[book.labels.index(model)]
    places = ", ".join(
        f"{sum(f.place == p for f in rows)} {p}" for p in dict.fromkeys(f.place for f in rows) if p
    )
    return [
        "Unit: mean activation over a reply's tokens, under the scaffold minus without, in the feature's own mean "
        f"activation where it is on ({text(sae)}). Split: test; n = {span(f.n for f in tested)} questions; bars 95 % "
        "bootstrap over them.",
        f"{len(rows)} of {len(tested)} features are switched (q < .05). Null: signs of the questions' differences flipped; "
        f"Benjamini-Hochberg over features.{shown}{_floor(tested)}",
        *([f"In the other model: {places}."] if places else []),
        *([f"{text(book.why)}."] if book.why else []),
    ]


def _floor(tested: Sequence[SwitchedFeature]) -> str:
    """What so few questions cannot show: the smallest p of a sign flip, and how many features must share it."""
    lowest = max([2.0 ** (1 - f.n) for f in tested] or [0.0])
    needed = int(lowest * len(tested) / 0.05) + 1
    if needed == 1:
        return ""
    return f" No p can be below {lowest:.2g} at this n, so fewer than {needed} switched features would not be told."


# ------------------------------------------------------------------ segment by segment


def segment_map(
    book: ReadoutBook, model: str, scaffold: str, said: str = "same", theme: Theme = LIGHT, names: Names | None = None,
) -> go.Figure:  # fmt: skip
    """How far the features that a scaffold switches on fall without each of its segments; clear falls are ringed."""
    rows = segments_of(book, model, scaffold, said)
    title = f"Which segment of <b>{text(scaffold)}</b> holds a feature up in <b>{text(model)}</b>?"
    notes = [
        f"Unit: as the readout; positive: the feature falls when the segment is left out, {SAID_WORDS[said]}. "
        "Provenance in brackets. "
        f"Split: test; n = {span(s.n for s in rows)} questions. Null: sign flip; rings: q < .05, Benjamini-Hochberg over "
        "features and segments.",
    ]
    held = {s.feature for s in rows}
    order = [f.feature for f in switched_of(book, model, scaffold) if f.effect > 0 and f.feature in held][
        :MOST
    ]
    rows = [s for s in rows if s.feature in set(order)]
    if not rows:
        return abstention(title, "no feature is switched on, or no segment was left out", notes, theme)
    segments = sorted({s.segment for s in rows})
    by = {(s.segment, s.feature): s for s in rows}
    figure = go.Figure(layout=blank(theme, title, 80 + 30 * max(3, len(segments))))
    wide = max(abs(s.fall) for s in rows if isfinite(s.fall)) or 1.0
    heat = go.Heatmap(
        z=[[by[k, f].fall for f in order] for k in segments], x=list(range(len(order))), y=list(range(len(segments))),
        zmin=-wide, zmax=wide, colorscale=[[0, theme.low], [0.5, theme.paper], [1, theme.high]], xgap=1, ygap=1,
        colorbar={"title": {"text": "fall"}, "thickness": 10}, meta={"role": "fall"},
        customdata=[[[f, interval(by[k, f].low, by[k, f].high), probability("q", by[k, f].q)] for f in order]
                    for k in segments],
        hovertemplate="feature %{customdata[0]}: %{z:+.3f} %{customdata[1]}, %{customdata[2]}<extra></extra>",
    )  # fmt: skip
    add_cells(figure, heat)
    clear = [s for s in rows if s.q < 0.05]
    figure.add_trace(
        go.Scatter(
            x=[order.index(s.feature) for s in clear], y=[segments.index(s.segment) for s in clear], mode="markers",
            marker={"symbol": "circle-open", "size": 12, "color": theme.ink, "line": {"width": 2}}, showlegend=False,
            hoverinfo="skip", meta={"role": "clear"}, unselected=SHOWN_STILL,
        )
    )  # fmt: skip
    firsts = [next(s for s in rows if s.segment == k) for k in segments]
    words = [f"{text(shorten(s.text, 34))} [{text(s.provenance)}]" for s in firsts]
    lines = {"tickvals": list(range(len(segments))), "ticktext": words, "showgrid": False, "zeroline": False}
    figure.update_yaxes(axis(theme, range=[len(segments) - 0.5, -0.5], **lines))
    columns = {
        "tickvals": list(range(len(order))),
        "ticktext": [_name(names, f) for f in order],
        "tickangle": -60,
    }
    figure.update_xaxes(
        axis(theme, range=[-0.5, len(order) - 0.5], showgrid=False, zeroline=False, **columns)
    )
    finish(figure, notes, theme, 100)
    return figure


# ------------------------------------------------------------------ two models


def scale_scatter(book: DifferenceBook, theme: Theme = LIGHT) -> go.Figure:
    """Every latent: how active it is in the other model by the dictionary, and how much of it is really there."""
    a, b = (m.name for m in book.models)
    title = f"Which latents of <b>{text(a)}</b> does <b>{text(b)}</b> have too?"
    if not book.latents:
        return abstention(title, book.why or "no latent is active in enough texts", _scale_notes(book), theme)
    figure = go.Figure(layout=blank(theme, title, 420))
    for verdict in VERDICT_SYMBOLS:
        mine = [x for x in book.latents if x.verdict == verdict and isfinite(x.nu)]
        if mine:
            figure.add_trace(_latents(mine, verdict, theme))
    for level in (0.0, 1.0):
        figure.add_hline(y=level, line={"color": theme.faint, "width": 1})
    nulls = sorted(x.null_high for x in book.latents if isfinite(x.null_high))
    if nulls:
        high = nulls[len(nulls) // 2]
        figure.add_hrect(y0=-high, y1=high, fillcolor=theme.floor, line_width=0, layer="below")
    figure.update_xaxes(
        axis(theme, f"activity in {text(b)} over that in {text(a)}, as the dictionary reads it",
             range=reach([x.ratio for x in book.latents]))
    )  # fmt: skip
    figure.update_yaxes(
        axis(theme, f"nu: contribution in {text(b)} over that in {text(a)}", range=reach([x.nu for x in book.latents]))
    )  # fmt: skip
    finish(figure, _scale_notes(book), theme, 52)
    return figure


def _latents(rows: Sequence[LatentScale], verdict: str, theme: Theme) -> go.Scatter:
    colour = {"specific": theme.high, "shrunk": theme.low}.get(
        verdict, theme.ink if verdict == "shared" else theme.faint
    )
    return go.Scatter(
        x=[x.ratio for x in rows], y=[x.nu for x in rows], mode="markers", name=f"{VERDICT_WORDS[verdict]} ({len(rows)})",
        marker={"symbol": VERDICT_SYMBOLS[verdict], "size": 7, "color": colour, "opacity": 0.75,
                "line": {"width": 1, "color": colour}},
        customdata=[[x.feature, interval(x.low, x.high), x.texts, x.alone, probability("q", x.q)] for x in rows],
        meta={"role": "latent", "verdict": verdict},
        hovertemplate="feature %{customdata[0]}: nu %{y:.2f} %{customdata[1]} (alone %{customdata[3]:.2f}), activity ratio "
        "%{x:.2f}, in %{customdata[2]} texts; of nu at least .5: %{customdata[4]}<extra></extra>",
    )  # fmt: skip


def _scale_notes(book: DifferenceBook) -> list[str]:
    gone = sum(not isfinite(x.nu) for x in book.latents)
    return [
        f"Unit: scale of the latent's contribution, all latents fitted together, {text(book.sae)}, layer {book.layer}; "
        f"1 as in the first model, 0 absent. n = {book.tokens} tokens of {book.texts} texts, the same in both. Split: held "
        f"out from the dictionary's training. {gone} of {len(book.latents)} latents are not drawn: the first model's own "
        "states do not clearly hold them.",
        "Grey band: 95 % of |nu| (median latent) where the other model's texts are paired wrongly. Verdicts: 95 % "
        "intervals, jackknife over texts; “only in the first” also q < .05 against nu of at least .5, Benjamini-Hochberg. "
        f"Dimensions of both models correlate {book.coordinates:.2f} over texts.",
    ]
