"""A direction in sparse features: how much few of them explain, which they are, and whether they carry the trait."""

from collections.abc import Mapping, Sequence
from math import isfinite

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.figures import lookup
from lab.figures.geometry import NULL, abstention
from lab.figures.reading import interval, probability
from lab.figures.theme import (
    LIGHT,
    MODEL_COLOURS,
    POSITION_WORDS,
    Theme,
    axis,
    blank,
    finish,
    reach,
    span,
    text,
)
from lab.records.decomposition import (
    CausalEffect,
    DecompositionBook,
    DecompositionVerdict,
    DirectionPart,
    ExplainedShare,
    ShareNull,
)

NULL_WORDS = {
    "random": "random directions", "permuted": "poles swapped", "covariance": "ordinary variation",
}  # fmt: skip
NULL_DASHES = {"random": "dot", "permuted": "dash", "covariance": "dashdot"}
PART_WORDS = {
    "direction": "the whole direction", "features": "its features", "residual": "the direction without them",
    "random": "other features", "instruction": "the instruction itself",
}  # fmt: skip
WAY_WORDS = {"steer": "pushed: upper minus lower dose", "ablate": "taken out under the instruction"}
Names = Mapping[int, str]


def traits(book: DecompositionBook) -> list[str]:
    """Traits in the order of the run."""
    return list(dict.fromkeys(v.trait for v in book.verdicts))


def verdict_of(book: DecompositionBook, trait: str, method: str = "signed") -> DecompositionVerdict:
    """LabError for another trait or method."""
    lookup.require(trait, traits(book), "trait")
    lookup.require(method, methods(book), "method")
    return next(v for v in book.verdicts if (v.trait, v.method) == (trait, method))


def methods(book: DecompositionBook) -> list[str]:
    """How directions were regressed."""
    return list(dict.fromkeys(v.method for v in book.verdicts))


def parts_of(
    book: DecompositionBook, trait: str, method: str = "signed", k: int | None = None
) -> list[DirectionPart]:
    """The features at one k (None: the largest), the heaviest first. LabError as `verdict_of`."""
    verdict_of(book, trait, method)
    mine = [p for p in book.parts if (p.trait, p.method) == (trait, method)]
    wanted = k or max((p.k for p in mine), default=0)
    return sorted((p for p in mine if p.k == wanted), key=lambda p: -abs(p.weight))


# ------------------------------------------------------------------ explained share


def share_curve(book: DecompositionBook, trait: str, theme: Theme = LIGHT) -> go.Figure:
    """Share of a direction that k features explain, with interval and nulls, a panel per method."""
    verdicts = [verdict_of(book, trait, m) for m in methods(book)]
    title = f"How much of <b>{text(trait)}</b> do few features explain?"
    heads = [
        f"{text(v.method)}: {'few features' if v.decomposable else 'not decomposable'}" for v in verdicts
    ]
    figure = make_subplots(1, len(verdicts), shared_yaxes=True, horizontal_spacing=0.04, subplot_titles=heads)
    figure.update_layout(blank(theme, title, 340))
    for column, verdict in enumerate(verdicts, 1):
        rows = [s for s in book.shares if (s.trait, s.method) == (trait, verdict.method)]
        nulls = [s for s in book.nulls if (s.trait, s.method) == (trait, verdict.method)]
        for trace in (*_null_lines(nulls, column == 1, theme), *_curves(rows, verdict, column == 1, theme)):
            figure.add_trace(trace, 1, column)
    ks = sorted({s.k for s in book.shares})
    ticks = {"type": "log", "tickvals": ks, "ticktext": [str(k) for k in ks]}
    figure.update_xaxes(axis(theme, "features", zeroline=False, **ticks))
    share = axis(theme, "share of the direction explained", range=[-0.02, 1.04], tickformat=".0%")
    figure.update_yaxes(axis(theme, range=[-0.02, 1.04], tickformat=".0%"))
    figure.update_yaxes(share, col=1)
    figure.update_annotations(font={"size": 12, "color": theme.faint})
    finish(figure, _share_notes(book, trait, verdicts), theme, 52)
    return figure


def _curves(
    rows: Sequence[ExplainedShare], verdict: DecompositionVerdict, first: bool, theme: Theme
) -> list[go.Scatter]:
    colour = MODEL_COLOURS[0]
    bars = {
        "type": "data", "symmetric": False, "thickness": 1.5, "width": 3, "color": colour,
        "array": [s.high - s.share for s in rows], "arrayminus": [s.share - s.low for s in rows],
    }  # fmt: skip
    own = go.Scatter(
        x=[s.k for s in rows], y=[s.share for s in rows], mode="lines+markers", name="the trait's direction",
        legendgroup="own", showlegend=first, line={"color": colour, "width": 2}, marker={"size": 8}, error_y=bars,
        meta={"role": "share", "method": verdict.method}, customdata=[[interval(s.low, s.high)] for s in rows],
        hovertemplate="%{x} features: %{y:.1%} %{customdata[0]}<extra></extra>",
    )  # fmt: skip
    again = go.Scatter(
        x=[s.k for s in rows], y=[s.held_out for s in rows], mode="markers", name="of the test questions' direction",
        legendgroup="again", showlegend=first, meta={"role": "held out", "method": verdict.method},
        marker={"symbol": "circle-open", "size": 8, "color": colour, "line": {"width": 1.5}},
        hovertemplate="%{x} features, of the test questions' direction: %{y:.1%}<extra></extra>",
    )  # fmt: skip
    ceiling = go.Scatter(
        x=[rows[0].k, rows[-1].k] if rows else [], y=[verdict.ceiling] * 2 if rows else [], mode="lines",
        name="what the whole direction has of it", legendgroup="ceiling", showlegend=first,
        line={"color": theme.ink, "width": 1}, meta={"role": "ceiling", "method": verdict.method},
        hovertemplate="the whole direction: %{y:.1%}<extra></extra>",
    )  # fmt: skip
    return [ceiling, own, again]


def _null_lines(rows: Sequence[ShareNull], first: bool, theme: Theme) -> list[go.Scatter]:
    found = []
    for null in dict.fromkeys(r.null for r in rows):
        mine = [r for r in rows if r.null == null]
        found.append(
            go.Scatter(
                x=[r.k for r in mine], y=[r.high for r in mine], mode="lines+markers",
                name=f"{NULL_WORDS.get(null, text(null))}, 95 %", legendgroup=null, showlegend=first,
                line={"color": theme.faint, "width": 1.5, "dash": NULL_DASHES.get(null, "solid")},
                marker={"symbol": NULL.replace("ns", "ew"), "size": 8, "line": {"width": 2, "color": theme.faint}},
                meta={"role": "null", "null": null}, customdata=[[r.median, probability("p", r.p)] for r in mine],
                hovertemplate=f"{NULL_WORDS.get(null, text(null))}: 95 % below %{{y:.1%}}, median %{{customdata[0]:.1%}} "
                "(%{customdata[1]})<extra></extra>",
            )
        )  # fmt: skip
    return found


def _share_notes(book: DecompositionBook, trait: str, verdicts: Sequence[DecompositionVerdict]) -> list[str]:
    rows = [s for s in book.shares if s.trait == trait]
    draws = span(s.draws for s in book.nulls if s.trait == trait)
    return [
        f"Unit: squared length of the part of the unit direction that k decoder rows of {text(book.sae)} make "
        f"({book.settings.get('features', '?')} features, layer {book.layer}, {POSITION_WORDS[verdicts[0].position]}). "
        f"Nulls: {draws} unit directions of each kind, 95 % points.",
        f"Split: extract, n = {span(s.n for s in rows)} questions; bars 95 %, jackknife over them, features chosen anew. "
        "Open circles: the same part against the direction that test questions make.",
        *(f"{text(v.method)}: {text(v.why)}." for v in verdicts),
    ]


# ------------------------------------------------------------------ which features


def part_bars(
    book: DecompositionBook, trait: str, method: str = "signed", k: int | None = None, theme: Theme = LIGHT,
    names: Names | None = None,
) -> go.Figure:  # fmt: skip
    """Weights of the features of a direction, and beside each what encoded replies say of it.

    names: words for features, from their cards.
    """
    verdict, rows = verdict_of(book, trait, method), parts_of(book, trait, method, k)
    title = f"The features of <b>{text(trait)}</b>, {text(method)}"
    notes = _part_notes(book, trait, verdict, rows)
    if not rows:
        return abstention(title, "no feature points along this direction", notes, theme)
    figure = make_subplots(1, 2, shared_yaxes=True, horizontal_spacing=0.04, column_widths=[0.5, 0.5])
    figure.update_layout(blank(theme, title, 60 + 24 * max(3, len(rows))))
    figure.add_trace(_weights(rows, theme), 1, 1)
    figure.add_trace(_differences(rows, theme), 1, 2)
    ticks = [text((names or {}).get(p.feature, f"feature {p.feature}")) for p in rows]
    ends = [len(rows) - 0.5, -0.5]
    figure.update_yaxes(axis(theme, range=ends, showgrid=False, zeroline=False))
    figure.update_yaxes(tickvals=list(range(len(rows))), ticktext=ticks, col=1)
    weight = axis(theme, "weight of the decoder row", range=reach([p.weight for p in rows], 0.05))
    figure.update_xaxes(weight, col=1)
    wide = [v for p in rows for v in (p.difference, p.low, p.high)]
    figure.update_xaxes(axis(theme, "on more at the positive pole", range=reach(wide, 0.01)), col=2)
    finish(figure, notes, theme, 52)
    return figure


def _weights(rows: Sequence[DirectionPart], theme: Theme) -> go.Bar:
    return go.Bar(
        x=[p.weight for p in rows], y=list(range(len(rows))), orientation="h", showlegend=False,
        marker={"color": [theme.high if p.weight > 0 else theme.low for p in rows], "line": {"width": 0}},
        customdata=[[p.feature, p.rank, p.cosine] for p in rows], meta={"role": "weight"},
        hovertemplate="feature %{customdata[0]}: weight %{x:+.3f}, chosen %{customdata[1]}., cosine "
        "%{customdata[2]:+.2f}<extra></extra>",
    )  # fmt: skip


def _differences(rows: Sequence[DirectionPart], theme: Theme) -> go.Scatter:
    known = [(i, p) for i, p in enumerate(rows) if isfinite(p.difference)]
    return go.Scatter(
        x=[p.difference for _, p in known], y=[i for i, _ in known], mode="markers", showlegend=False,
        marker={"symbol": ["circle" if p.q < 0.05 else "circle-open" for _, p in known], "size": 8, "color": theme.ink},
        error_x={"type": "data", "symmetric": False, "thickness": 1.5, "width": 3, "color": theme.ink,
                 "array": [p.high - p.difference for _, p in known],
                 "arrayminus": [p.difference - p.low for _, p in known]},
        customdata=[[p.feature, interval(p.low, p.high), probability("q", p.q)] for _, p in known],
        meta={"role": "difference"},
        hovertemplate="feature %{customdata[0]}: %{x:+.3f} %{customdata[1]}, %{customdata[2]}<extra></extra>",
    )  # fmt: skip


def _part_notes(
    book: DecompositionBook, trait: str, verdict: DecompositionVerdict, rows: Sequence[DirectionPart]
) -> list[str]:
    n = span(d.n for d in book.differences if d.trait == trait)
    seen = sum(1 for p in rows if isfinite(p.difference))
    agree = (
        f"{verdict.agree:.0%} of {verdict.told} clear ones agree in sign" if verdict.told else "none is clear"
    )
    return [
        f"Left: weight of each decoder row in the unit direction (split: extract; {text(book.sae)}, layer {book.layer}). "
        f"Right: mean activation in encoded replies, positive minus negative pole (split: test, n = {n} questions; 95 % "
        f"bootstrap over them; filled: q < .05, sign flip, Benjamini-Hochberg); {len(rows) - seen} of {len(rows)} differ "
        f"on fewer than 5 questions; {agree}.",
        f"Null: {text(verdict.why)}.",
    ]


# ------------------------------------------------------------------ do they carry it


def causal_effects(book: DecompositionBook, trait: str, theme: Theme = LIGHT) -> go.Figure:
    """What pushing and taking out the direction, its features, the rest and other features does to the trait."""
    verdict_of(book, trait)
    mine = [c for c in book.causal if c.trait == trait]
    title = f"Do the features carry <b>{text(trait)}</b>?"
    if not mine:
        return abstention(title, "nothing was pushed or taken out in this run (--causal)", [], theme)
    ways = list(dict.fromkeys(c.way for c in mine))
    heads = [WAY_WORDS.get(w, text(w)) for w in ways]
    figure = make_subplots(1, len(ways), horizontal_spacing=0.2, subplot_titles=heads)
    figure.update_layout(blank(theme, title, 260))
    for column, way in enumerate(ways, 1):
        rows = [c for c in mine if c.way == way]
        kinds = [w for w in PART_WORDS if any(c.what == w for c in rows)]
        figure.add_trace(_effects(rows, kinds, theme), 1, column)
        figure.update_xaxes(
            axis(theme, "change of the reading", range=reach([v for c in rows for v in (c.effect, c.low, c.high)])),
            col=column,
        )  # fmt: skip
        words = [PART_WORDS[w] for w in kinds]
        figure.update_yaxes(
            axis(theme, range=[len(kinds) - 0.5, -0.5], tickvals=list(range(len(kinds))), ticktext=words,
                 showgrid=False, zeroline=False),
            col=column,
        )  # fmt: skip
    figure.update_annotations(font={"size": 12, "color": theme.faint})
    finish(figure, _causal_notes(book, mine), theme, 52)
    return figure


def _effects(rows: Sequence[CausalEffect], kinds: Sequence[str], theme: Theme) -> go.Scatter:
    def bar(value: float, c: CausalEffect) -> float:
        return 0.0 if c.what == "random" else value

    return go.Scatter(
        x=[c.effect for c in rows], y=[kinds.index(c.what) for c in rows], mode="markers", showlegend=False,
        marker={"symbol": ["x-thin" if c.what == "random" else "circle" for c in rows], "size": 9,
                "color": [theme.faint if c.what == "random" else MODEL_COLOURS[0] for c in rows],
                "line": {"width": 1.5, "color": theme.faint}},
        error_x={"type": "data", "symmetric": False, "thickness": 1.5, "width": 3, "color": MODEL_COLOURS[0],
                 "array": [bar(c.high - c.effect, c) for c in rows],
                 "arrayminus": [bar(c.effect - c.low, c) for c in rows]},
        customdata=[[PART_WORDS[c.what], interval(c.low, c.high), f"{c.share:.0%}" if isfinite(c.share) else "unknown",
                     c.coherence] for c in rows],
        meta={"role": rows[0].way},
        hovertemplate="%{customdata[0]}: %{x:+.2f} %{customdata[1]}, share %{customdata[2]}, coherence "
        "%{customdata[3]:.0%}<extra></extra>",
    )  # fmt: skip


def _causal_notes(book: DecompositionBook, rows: Sequence[CausalEffect]) -> list[str]:
    told = []
    for c in rows:
        if c.what == "features":
            part = f", {c.share:.0%} of the whole" if isfinite(c.share) else ""
            told.append(
                f"{WAY_WORDS[c.way].split(':')[0]}: {c.effect:+.2f} {interval(c.low, c.high)}{part}; 97.5 % of other "
                f"features stay within ±{c.null_high:.2f} ({probability('p', c.p)})"
            )
    pushed = next((c for c in rows if c.way == "steer"), None)
    doses = (
        f"doses {pushed.down:+g} and {pushed.up:+g} mean residual norms, chosen on select; " if pushed else ""
    )
    draws = len({c.draw for c in rows if c.what == "random"})
    return [
        f"Unit: {text(book.settings.get('unit', 'not recorded'))}, judge “{text(book.settings.get('judge', '?'))}”. "
        f"Split: test; n = {span(c.n for c in rows)} replies a condition; bars 95 %, jackknife over questions. "
        f"{doses}layer {book.layer}.",
        f"{span(c.k for c in rows)} features of the signed fit, pushed at the length that they have in the unit direction; "
        f"null (crosses): {draws} sets of as many other features, about as often on, at the same length.",
        *(f"{words}." for words in told),
    ]
