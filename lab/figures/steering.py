"""Steering: dose and response with controls and prompt, what else moves, and the return."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.figures import lookup
from lab.figures.cells import add_cells
from lab.figures.theme import LIGHT, MODEL_COLOURS, POSITION_WORDS, Theme, axis, blank, finish, reach, text
from lab.records.steering import DoseRow, Steering, SteerSummary

CONTROLS = ("random", "permuted", "covariance", "other")
CONTROL_WORDS = {
    "random": "random directions", "permuted": "poles swapped", "covariance": "ordinary variation",
    "other": "other traits' directions",
}  # fmt: skip
CONTROL_SYMBOLS = {
    "random": "x-thin",
    "permuted": "line-ew",
    "covariance": "cross-thin",
    "other": "star-triangle-up",
}
PLACES = {**POSITION_WORDS, "first_tokens": "first tokens", "decision": "tokens by entropy"}


def traits(found: Steering) -> list[str]:
    """Traits that were pushed."""
    return [s.trait for s in found.summaries]


def summary_of(found: Steering, trait: str) -> SteerSummary:
    """LabError for a trait that was not pushed."""
    lookup.require(trait, traits(found), "trait")
    return next(s for s in found.summaries if s.trait == trait)


def rows_of(found: Steering, trait: str, *kinds: str, read: str | None = None) -> list[DoseRow]:
    """Rows of one pushed trait, by coefficient; `read` is the trait itself unless named."""
    wanted = read or trait
    rows = [r for r in found.doses if r.steered == trait and r.read == wanted and r.kind in kinds]
    return sorted(rows, key=lambda r: r.coefficient)


def dose_response(found: Steering, trait: str, theme: Theme = LIGHT) -> go.Figure:
    """Three panels over the size of the push: the trait, coherence, task; prompt and controls beside."""
    s, colour = summary_of(found, trait), MODEL_COLOURS[0]
    title = f"Pushing <b>{text(trait)}</b> in {text(found.model.name)}: what it moves and what it costs"
    figure = make_subplots(rows=1, cols=3, horizontal_spacing=0.09)
    figure.update_layout(blank(theme, title, 380))
    curve = rows_of(found, trait, "native", "none")
    for column, name in ((1, "change"), (2, "coherence"), (3, "task")):
        figure.add_trace(_line(curve, name, colour, column == 1), 1, column)
        for row in rows_of(found, trait, "prompt"):
            _told(figure, row, getattr(row, name), column, theme)
    for kind in CONTROLS:
        rows = rows_of(found, trait, kind)
        if rows:
            figure.add_trace(_marks(rows, "change", kind, theme, True), 1, 1)
            figure.add_trace(_marks(rows, "coherence", kind, theme, False), 1, 2)
    mine = [*curve, *rows_of(found, trait, *CONTROLS, "prompt")]
    across = reach([r.coefficient for r in curve])
    push = "push  (mean residual norms of the site)"
    figure.update_xaxes(axis(theme, push, range=across))
    taken_out = rows_of(found, trait, "ablate")
    for column, name in ((1, "change"), (2, "coherence"), (3, "task")):
        if taken_out:
            figure.add_trace(_taken_out(taken_out[0], name, colour, column == 1), 1, column)
    bounds = reach([v for r in [*mine, *taken_out] for v in (r.change, r.low, r.high)])
    figure.update_yaxes(axis(theme, f"change of the reading  ({text(found.unit)})", range=bounds), col=1)
    for column, words in ((2, "share that is coherent"), (3, "share of task items right")):
        figure.update_yaxes(axis(theme, words, range=[-0.04, 1.04], tickformat=".0%"), col=column)
    finish(figure, _notes(found, s), theme, 52)
    return figure


def _line(rows: Sequence[DoseRow], name: str, colour: str, bars: bool) -> go.Scatter:
    spans = {
        "type": "data", "symmetric": False, "thickness": 1.5, "width": 3, "color": colour,
        "array": [0 if r.kind == "none" else r.high - r.change for r in rows],
        "arrayminus": [0 if r.kind == "none" else r.change - r.low for r in rows],
    }  # fmt: skip
    values = [0.0 if r.kind == "none" and name == "change" else getattr(r, name) for r in rows]
    return go.Scatter(
        x=[r.coefficient for r in rows], y=values, mode="lines+markers", name="its own direction",
        line={"color": colour, "width": 2}, marker={"size": 8}, error_y=spans if bars else None,
        showlegend=bars, meta={"role": f"native {name}"}, customdata=[[r.reading, r.wrong_way] for r in rows],
        hovertemplate="push %{x:+.3f}<br>%{y:.2f}; reading %{customdata[0]:.2f}; wrong way %{customdata[1]:.0%}"
        "<extra></extra>",
    )  # fmt: skip


def _told(figure: go.Figure, row: DoseRow, value: float, column: int, theme: Theme) -> None:
    """The prompt baseline: a level, since a prompt has no size of push."""
    more = row.coefficient > 0
    more_about: dict[str, Any] = {"row": 1, "col": column}
    if column == 1:
        words = {"text": f"told {'more' if more else 'less'}", "font": {"size": 11, "color": theme.faint}}
        more_about |= {"annotation": words, "annotation_position": "top left" if more else "bottom left"}
    line = {"color": theme.high if more else theme.low, "width": 1.5, "dash": "dash"}
    figure.add_hline(y=value, line=line, **more_about)


def _marks(rows: Sequence[DoseRow], name: str, kind: str, theme: Theme, legend: bool) -> go.Scatter:
    return go.Scatter(
        x=[r.coefficient for r in rows], y=[getattr(r, name) for r in rows], mode="markers",
        name=CONTROL_WORDS[kind], showlegend=legend, meta={"role": f"{kind} {name}"},
        marker={"symbol": CONTROL_SYMBOLS[kind], "size": 8, "color": theme.faint,
                "line": {"width": 1.5, "color": theme.faint}},
        customdata=[[r.draw] for r in rows],
        hovertemplate=f"{CONTROL_WORDS[kind]} %{{customdata[0]}}<br>push %{{x:+.3f}}: %{{y:.2f}}<extra></extra>",
    )  # fmt: skip


def _taken_out(row: DoseRow, name: str, colour: str, first: bool) -> go.Scatter:
    """The direction ablated: no size of push, so at 0."""
    spans = {"type": "data", "symmetric": False, "thickness": 1.5, "width": 3, "color": colour,
             "array": [row.high - row.change], "arrayminus": [row.change - row.low]}  # fmt: skip
    return go.Scatter(
        x=[0.0], y=[getattr(row, name)], mode="markers", name="its direction taken out", showlegend=first,
        marker={"symbol": "diamond-open", "size": 11, "color": colour, "line": {"width": 2}},
        error_y=spans if first else None, meta={"role": f"ablate {name}"},
        hovertemplate="taken out: %{y:.2f}<extra></extra>",
    )  # fmt: skip


def _notes(found: Steering, s: SteerSummary) -> list[str]:
    test = next(r for r in found.doses if r.steered == s.trait and r.kind == "none")
    layers = ", ".join(str(k) for k in s.layers)
    return [
        f"Unit: {text(found.unit)}, read by the judge “{text(found.judge)}”; change from no push on the same "
        f"questions and seeds. Bars: 95 %, jackknife over questions. Split: {test.split}; n = {test.n} replies a "
        f"point. Direction: {PLACES[s.position]}, layer {layers}; pooling and doses chosen on select.",
        f"From {s.down:+g} to {s.up:+g}: {s.effect:+.2f} [{s.low:+.2f}, {s.high:+.2f}], told instead {s.prompt:+.2f}; "
        f"of {s.controls} controls of equal norm 97.5 % stay within ±{s.null_high:.2f} (p = {s.p:.3f}). "
        f"On the questions that chose it was {s.select_effect:+.2f}."
        + ("" if s.reached else " No dose was coherent enough; the weakest are shown as chosen."),
    ]


def entanglement(found: Steering, theme: Theme = LIGHT) -> go.Figure:
    """Push each trait from its lower to its upper chosen dose and read every trait."""
    pushed = traits(found)
    read = list(dict.fromkeys(r.read for r in found.doses))
    values = [[moved(found, t, r) for r in read] for t in pushed]
    limit = max([0.1, *(abs(v) for row in values for v in row if v == v)])
    title = f"Push one trait, read all: {text(found.model.name)}"
    figure = go.Figure(layout=blank(theme, title, 90 + 44 * len(pushed)))
    heat = go.Heatmap(
        z=values, x=[text(r) for r in read], y=[text(t) for t in pushed], zmin=-limit, zmax=limit, zmid=0,
        colorscale=[[0, theme.low], [0.5, theme.paper], [1, theme.high]], xgap=2, ygap=2,
        text=[["" if v != v else f"{v:+.2f}" for v in row] for row in values], texttemplate="%{text}",
        colorbar={"title": {"text": text(found.unit), "side": "right"}, "thickness": 12},
        customdata=[[[t, r] for r in read] for t in pushed],
        hovertemplate="push %{y}, read %{x}: %{z:+.2f}<extra></extra>", meta={"role": "matrix"},
    )  # fmt: skip
    add_cells(figure, heat)
    figure.update_yaxes(axis(theme, "pushed", range=[len(pushed) - 0.5, -0.5], showgrid=False))
    figure.update_xaxes(axis(theme, "read", range=[-0.5, len(read) - 0.5], showgrid=False, tickangle=-40))
    test = found.doses[0]
    line = (
        f"Reading at the upper minus at the lower chosen dose, {text(found.unit)}, judge “{text(found.judge)}”; "
        f"split {test.split}, n = {test.n} replies a dose; the model's own traits go together, so some of "
        "this is no fault of the direction. Intervals are in the table."
    )
    finish(figure, [line], theme, 110)
    return figure


def moved(found: Steering, trait: str, read: str) -> float:
    """Reading of one trait at the upper minus at the lower chosen dose of another."""
    s = summary_of(found, trait)
    rows = {r.coefficient: r.reading for r in rows_of(found, trait, "native", read=read)}
    return rows[s.up] - rows[s.down]


def letting_go(found: Steering, trait: str, theme: Theme = LIGHT) -> go.Figure:
    """Projection steered minus unsteered, token by token, in units of what it is under the push."""
    rows = [r for r in found.releases if r.trait == trait]
    halves = [h for h in found.half_lives if h.trait == trait]
    figure = go.Figure(layout=blank(theme, f"Push <b>{text(trait)}</b>, then let go", 320))
    end = 1 + max([r.token for r in rows if r.pushed], default=-1)
    for colour, h in zip((theme.low, theme.high), halves, strict=False):
        mine = [r for r in rows if r.coefficient == h.coefficient]
        x = [r.token for r in mine]
        band = go.Scatter(
            x=[*x, *x[::-1]], y=[*(r.high for r in mine), *(r.low for r in mine[::-1])], fill="toself",
            fillcolor=colour, opacity=0.18, line={"width": 0}, hoverinfo="skip", showlegend=False,
            meta={"role": f"band {h.coefficient:+g}"},
        )  # fmt: skip
        line = go.Scatter(
            x=x, y=[r.difference for r in mine], mode="lines+markers", name=f"push {h.coefficient:+g}",
            line={"color": colour, "width": 2}, marker={"size": 5}, meta={"role": f"course {h.coefficient:+g}"},
            customdata=[[r.n] for r in mine],
            hovertemplate="token %{x}: %{y:.2f} (n = %{customdata[0]})<extra></extra>",
        )  # fmt: skip
        figure.add_traces([band, line])
    figure.add_vline(x=end - 0.5, line={"color": theme.faint, "dash": "dot", "width": 1.5})
    bounds = reach([v for r in rows for v in (r.low, r.high)])
    figure.update_xaxes(axis(theme, "reply token  (let go at the dotted line)"))
    figure.update_yaxes(axis(theme, "difference  (1 = under the push)", range=bounds))
    told = [
        f"{h.coefficient:+g}: {h.carried:.2f} [{h.low:.2f}, {h.high:.2f}] is carried into the first free token, "
        + (f"half of it is left after {h.tokens:.1f} tokens" if h.tokens == h.tokens else "no half-life in the window")
        for h in halves
    ]  # fmt: skip
    lines = [
        f"Read at layer {halves[0].layer if halves else '?'}, above the push; same questions and seeds with and without. "
        "Bands: 95 % bootstrap over questions; split test. " + "; ".join(told) + "."
    ]
    finish(figure, lines, theme, 52)
    return figure
