"""Where concepts stand in two models: neighbours side by side, each concept's place, agreement by depth.

Neighbours are ranked lists, not maps of the plane: two projections would differ even where two models agree.
"""

from collections.abc import Sequence
from math import isfinite

import plotly.graph_objects as go

from lab.figures import lookup
from lab.figures.geometry import CEILING, NULL, abstention, number
from lab.figures.reading import interval, probability
from lab.figures.theme import LIGHT, MODEL_COLOURS, MODEL_SYMBOLS, Theme, axis, blank, finish, reach, text
from lab.records.atlas import (
    EMBEDDING,
    NEAR,
    AtlasBook,
    AtlasMap,
    ConceptScore,
    DepthRow,
    Neighbour,
    Scope,
    SharedNeighbours,
    Stage,
)

LINE = 26
"""Pixels of a neighbour, and of a category's bar."""
STRIP = 62
"""Pixels of a category's strip of concepts."""
BEFORE = -0.14
"""Where the embedding stands on the axis of relative depth."""


def concepts(book: AtlasBook) -> list[str]:
    """All concepts, category by category."""
    return [c.concept for c in book.concepts]


def measures(book: AtlasBook) -> list[str]:
    """Measures of agreement."""
    return list(dict.fromkeys(d.measure for d in book.depth))


def map_of(book: AtlasBook, stage: Stage, scope: Scope, source: str) -> AtlasMap:
    """One map's score. LabError for a stage or a model that the run does not have."""
    lookup.require(stage, book.stages, "stage")
    lookup.require(source, book.labels[:2], "model")
    return next(m for m in book.maps if (m.stage, m.scope, m.source) == (stage, scope, source))


def shared_of(book: AtlasBook, stage: Stage, concept: str) -> SharedNeighbours:
    """What two models have in common of a concept's neighbours. LabError for another concept."""
    lookup.require(stage, book.stages, "stage")
    lookup.require(concept, concepts(book), "concept")
    return next(s for s in book.shared if (s.stage, s.concept) == (stage, concept))


def where(book: AtlasBook, stage: Stage) -> str:
    """Which layers are meant, and in what frames; escaped."""
    if stage == "embedding":
        return (
            "Input embedding, mean over the word's tokens, as a direction from the mean of all words: one vector per "
            "word, there are no frames and no split."
        )
    m = map_of(book, stage, "all", book.labels[0])
    how = "chosen on the other half" if stage == "chosen layers" else "fixed in advance"
    return (
        f"Residual stream at the word's last token, after block {m.layer_source} of {text(m.source)} and block "
        f"{m.layer_target} of {text(m.target)} ({how} of the frames); split: test, {m.frames} frames."
    ).replace("fixed in advance of the frames", "fixed in advance")


# ------------------------------------------------------------------ neighbours


def neighbourhood(book: AtlasBook, concept: str, stage: Stage) -> tuple[list[Neighbour], list[Neighbour]]:
    """The nearest concepts in A and in B, nearest first."""
    shared_of(book, stage, concept)
    mine = [n for n in book.neighbours if (n.stage, n.concept) == (stage, concept)]
    a, b = (sorted((n for n in mine if n.model == label), key=lambda n: n.rank) for label in book.labels[:2])
    return a, b


def neighbourhoods(book: AtlasBook, concept: str, stage: Stage, theme: Theme = LIGHT) -> go.Figure:
    """The nearest concepts in A at the left, in B at the right, a line between those that both have."""
    both = neighbourhood(book, concept, stage)
    found = shared_of(book, stage, concept)
    category = {c.concept: c.category for c in book.concepts}
    figure = go.Figure(
        layout=blank(theme, f"Who stands next to <b>{text(concept)}</b>?", LINE * found.k + 20)
    )
    right = {n.neighbour: n.rank for n in both[1]}
    for n in both[0]:
        if n.neighbour in right:
            figure.add_trace(
                go.Scatter(
                    x=[0, 1], y=[n.rank, right[n.neighbour]], mode="lines", hoverinfo="skip", showlegend=False,
                    line={"color": theme.high, "width": 2}, meta={"role": "shared"}, customdata=[[n.neighbour]] * 2,
                )
            )  # fmt: skip
    for k, rows in enumerate(both):
        label = book.labels[k]
        figure.add_trace(
            go.Scatter(
                x=[k] * len(rows), y=[n.rank for n in rows], mode="markers+text", name=text(label), cliponaxis=False,
                text=[f"\u2002{text(n.neighbour)}\u2002" for n in rows],
                textposition="middle right" if k else "middle left",
                textfont={"size": 12, "color": [theme.ink if n.shared else theme.faint for n in rows]},
                marker={
                    "size": 9, "color": MODEL_COLOURS[k], "line": {"width": 2, "color": MODEL_COLOURS[k]},
                    "symbol": [
                        MODEL_SYMBOLS[k] + ("" if category[n.neighbour] == found.category else "-open") for n in rows
                    ],
                },
                customdata=[[n.neighbour, text(category[n.neighbour]), n.distance] for n in rows],
                hovertemplate=f"{text(label)}: number %{{y}}, %{{text}} (%{{customdata[1]}})<br>distance "
                "%{customdata[2]:.2f}<extra></extra>", meta={"role": "neighbours", "model": label},
            )
        )  # fmt: skip
    figure.update_xaxes(
        axis(theme, range=[-0.75, 1.75], showgrid=False, zeroline=False, showticklabels=False)
    )
    ranks = {"range": [found.k + 0.6, 0.4], "dtick": 1, "showgrid": False, "zeroline": False}
    figure.update_yaxes(axis(theme, "nearest first", **ranks))
    finish(figure, _neighbour_notes(book, stage, found), theme, 16)
    return figure


def _neighbour_notes(book: AtlasBook, stage: Stage, found: SharedNeighbours) -> list[str]:
    return [
        where(book, stage),
        f"Unit: rank of the crossnobis distance among {len(book.concepts) - 1} other concepts. Lines and dark names: among "
        f"the {found.k} nearest in both. Filled: of the same category ({text(found.category)}).",
        f"Shared: {round(found.shared * found.k)} of {found.k}; chance {number(found.k * found.chance)}, categories alone "
        f"{number(found.k * found.null)} (95 %: {number(found.k * found.null_high)}), {probability('p', found.p)}. One "
        "concept: no interval.",
    ]


def shared_bars(book: AtlasBook, stage: Stage, theme: Theme = LIGHT) -> go.Figure:
    """Per category, the share of neighbours that both models have in common, with chance and what categories do alone.

    `customdata` of a mark: the first concept of its category, and numbers.
    """
    lookup.require(stage, book.stages, "stage")
    rows = [s for s in book.shared if s.stage == stage and not s.concept]
    names = [text(s.category or "all") for s in rows]
    firsts = [next(c.concept for c in book.concepts if s.category in ("", c.category)) for s in rows]
    k = rows[0].k
    title = f"Of the {k} nearest concepts, how many do both models have?"
    figure = go.Figure(layout=blank(theme, title, LINE * len(rows) + 20))
    spans = {
        "type": "data", "symmetric": False, "thickness": 1.5, "width": 0, "color": theme.ink,
        "array": [s.high - s.shared for s in rows], "arrayminus": [s.shared - s.low for s in rows],
    }  # fmt: skip
    figure.add_trace(
        go.Bar(
            x=[s.shared for s in rows], y=names, orientation="h", name="both models", error_x=spans,
            marker={"color": theme.high, "opacity": 0.75}, meta={"role": "shared"},
            customdata=[[one, s.n, s.purity_a, s.purity_b, s.purity_chance] for one, s in zip(firsts, rows, strict=True)],
            hovertemplate="%{y}: %{x:.2f}, n = %{customdata[1]}<br>of the own category: %{customdata[2]:.2f} and "
            "%{customdata[3]:.2f}, chance %{customdata[4]:.2f}<extra></extra>",
        )
    )  # fmt: skip
    for role, values, said in (
        ("chance", [s.chance for s in rows], "chance"),
        ("null", [s.null_high for s in rows], "categories alone, 95 %"),
    ):
        mark = {
            "symbol": NULL,
            "size": 15,
            "line": {"width": 3},
            "color": theme.ink if role == "null" else theme.faint,
        }
        figure.add_trace(
            go.Scatter(x=values, y=names, mode="markers", name=said, marker=mark, meta={"role": role},
                       customdata=[[one] for one in firsts], hovertemplate=f"{said}: %{{x:.2f}}<extra></extra>")
        )  # fmt: skip
    figure.update_xaxes(axis(theme, f"share of the {k} nearest", range=[0, 1]))
    figure.update_yaxes(axis(theme, autorange="reversed", type="category", showgrid=False))
    sizes = ", ".join(f"{s.n} {text(s.category)}" for s in rows[1:])
    note = (
        f"Bars: mean over concepts, 95 % resampling concepts; n = {sizes}. "
        f"Chance: k / (n − 1). Categories alone: {text(book.settings.get('permutations', 'unknown'))} relabelings of B's "
        "concepts inside their categories."
    )
    finish(figure, [where(book, stage), note], theme, 52)
    return figure


# ------------------------------------------------------------------ concept by concept


def concept_strip(
    book: AtlasBook, stage: Stage, scope: Scope, source: str, theme: Theme = LIGHT
) -> go.Figure:
    """Held-out R² of every concept by category, under the map from `source`; filled: its own place is among the nearest."""
    made = map_of(book, stage, scope, source)
    rows = [s for s in book.scores if (s.stage, s.scope, s.source) == (stage, scope, source)]
    title = f"Which concepts does a map from <b>{text(source)}</b> find in <b>{text(made.target)}</b>?"
    if not any(isfinite(s.r2) for s in rows):
        return abstention(title, "no concept has a score", [where(book, stage)], theme)
    names = list(dict.fromkeys(s.category for s in rows))
    figure = go.Figure(layout=blank(theme, title, STRIP * len(names)))
    for trace in [*_dots(rows, names, book.labels.index(source), theme), *_levels(rows, names, made, theme)]:
        figure.add_trace(trace)
    figure.update_xaxes(
        axis(
            theme, "held-out R²  (0 = mean of the others)", range=reach([*(s.r2 for s in rows), made.ceiling])
        )
    )
    ticks = {
        "tickvals": list(range(len(names))),
        "ticktext": [text(n) for n in names],
        "showgrid": False,
        "zeroline": False,
    }
    figure.update_yaxes(axis(theme, range=[len(names) - 0.5, -0.5], **ticks))
    finish(figure, [where(book, stage), *_map_notes(made)], theme, 52)
    return figure


def _dots(rows: Sequence[ConceptScore], names: Sequence[str], k: int, theme: Theme) -> list[go.Scatter]:
    """A mark per concept: filled where its own place is among the nearest, then the others."""
    found = []
    for near in (True, False):
        mine = [s for s in rows if (s.rank <= NEAR) == near and isfinite(s.r2)]
        marker = {
            "size": 8, "color": MODEL_COLOURS[k], "symbol": MODEL_SYMBOLS[k] + ("" if near else "-open"),
            "line": {"width": 1, "color": theme.paper if near else MODEL_COLOURS[k]},
        }  # fmt: skip
        found.append(
            go.Scatter(
                x=[s.r2 for s in mine], y=[names.index(s.category) + _step(rows, s) for s in mine], mode="markers",
                name=f"own place among the {NEAR} nearest" if near else "not among them",
                meta={"role": "near" if near else "far"}, marker=marker,
                customdata=[
                    [s.concept, text(s.concept), s.rank, s.candidates, s.cosine, probability("q", s.q)] for s in mine
                ],
                hovertemplate="<b>%{customdata[1]}</b><br>R² %{x:.2f}, %{customdata[5]}<br>rank %{customdata[2]:g} of "
                "%{customdata[3]}, cosine %{customdata[4]:.2f}<extra></extra>",
            )
        )  # fmt: skip
    return found


def _levels(
    rows: Sequence[ConceptScore], names: Sequence[str], made: AtlasMap, theme: Theme
) -> list[go.Scatter]:
    """Null and ceiling of every category."""
    null = [_median([s.null_high for s in rows if s.category == n]) for n in names]
    found = []
    for role, values, said, symbol, size in (
        ("null", null, "random pairings, 95 %", NULL, 16),
        ("ceiling", [made.ceiling] * len(names), "ceiling: the target from itself", CEILING, 11),
    ):
        mark = {"symbol": symbol, "size": size, "color": theme.faint, "line": {"width": 3}}
        found.append(
            go.Scatter(x=values, y=list(range(len(names))), mode="markers", name=said, marker=mark, meta={"role": role},
                       customdata=[[next(s.concept for s in rows if s.category == n)] for n in names],
                       hovertemplate=f"{said}: %{{x:.2f}}<extra></extra>")
        )  # fmt: skip
    return found


def _step(rows: Sequence[ConceptScore], one: ConceptScore) -> float:
    """A place beside the middle of the strip, so that neighbouring dots do not cover each other."""
    order = sorted((s for s in rows if s.category == one.category), key=lambda s: s.r2)
    return (-0.24, 0.08, -0.08, 0.24)[order.index(one) % 4]


def _median(values: Sequence[float]) -> float:
    known = sorted(v for v in values if isfinite(v))
    return known[len(known) // 2] if known else float("nan")


def _map_notes(m: AtlasMap) -> list[str]:
    inside = ", inside categories" if m.scope == "within category" else ""
    base = (
        "the mean of the training concepts of its category"
        if m.scope == "within category"
        else "the mean of all training concepts"
    )
    return [
        f"Unit: R² of a concept's landing around {base}, under a {text(m.method)} map fitted on other concepts ({m.folds} "
        f"folds) and other frames. n = {m.concepts} concepts. Ceiling: the same with the target as its own source.",
        f"All: R² {number(m.r2)} {interval(m.low, m.high)}, {probability('p', m.p)}; null 95 %: {number(m.null_high)} "
        f"({m.draws} random pairings{inside}); ceiling {number(m.ceiling)}.",
        f"Own place nearest: {number(m.first)} {interval(m.first_low, m.first_high)} (null {number(m.first_null)}, ceiling "
        f"{number(m.first_ceiling)}); among the {NEAR} nearest: {number(m.near)} {interval(m.near_low, m.near_high)} (null "
        f"{number(m.near_null)}, ceiling {number(m.near_ceiling)}). Intervals: 95 %, resampling concepts.",
    ]


# ------------------------------------------------------------------ depth


def by_depth(book: AtlasBook, scope: Scope, measure: str, theme: Theme = LIGHT) -> go.Figure:
    """Agreement at equal relative depths, the embedding before them, each with 95 % of its null."""
    rows = depth_rows(book, scope, measure)
    names = " and ".join(f"<b>{text(label)}</b>" for label in book.labels[:2])
    title = f"How far down do {names} agree about concepts?"
    chosen = next(
        s.found for s in book.similarities
        if (s.stage, s.scope, s.found.measure, s.found.prepared) == ("chosen layers", scope, measure, "as is")
    )  # fmt: skip
    notes = [
        f"Unit: {text(measure)}, 1 the same geometry, 0 chance; pairs of concepts: {scope}. n = {len(book.concepts)} "
        f"concepts; split: test, {chosen.questions} frames (the embedding has none). Null: {chosen.draws} relabelings"
        f"{' inside categories' if scope == 'within category' else ''}, each depth on its own.",
        f"Best pair of layers by the other half of the frames, {chosen.layer_a} and {chosen.layer_b}: "
        f"{number(chosen.value)} {interval(chosen.low, chosen.high)}, {probability('p', chosen.p)}; null 95 %, search "
        f"included: {number(chosen.null_high)}; ceiling {number(chosen.ceiling)}.",
    ]
    if not any(isfinite(r.value) for r in rows):
        return abstention(title, chosen.why or "this run has no grid of layers", notes, theme)
    figure = go.Figure(layout=blank(theme, title, 260))
    x = [r.depth if isfinite(r.depth) else BEFORE for r in rows]
    lines = (
        ("null", [r.null_high for r in rows], "95 % of the null", theme.faint, "dot"),
        ("value", [r.value for r in rows], text(measure), theme.high, "solid"),
    )
    for role, values, said, colour, dash in lines:
        figure.add_trace(
            go.Scatter(
                x=x, y=values, mode="lines+markers", name=said, line={"color": colour, "width": 2, "dash": dash},
                marker={"size": 8 if role == "value" else 5}, meta={"role": role},
                customdata=[[r.layer_a, r.layer_b, _blocks(r), _stage(book, r)] for r in rows],
                hovertemplate="%{customdata[2]}: %{y:.2f}<extra></extra>",
            )
        )  # fmt: skip
    ticks = {
        "tickvals": [BEFORE, 0, 0.25, 0.5, 0.75, 1],
        "ticktext": ["embedding", "0", "0.25", "0.5", "0.75", "1"],
    }
    figure.update_xaxes(
        axis(theme, "relative depth", range=[BEFORE - 0.06, 1.06], **{**ticks, "zeroline": False})
    )
    figure.update_yaxes(
        axis(theme, "agreement", range=reach([*(r.value for r in rows), *(r.null_high for r in rows), 1.0]))
    )
    finish(figure, notes, theme, 52)
    return figure


def _stage(book: AtlasBook, row: DepthRow) -> Stage:
    """Where the page looks when a depth is clicked: the embedding, the first layer, else the layers that were chosen."""
    if row.layer_a == EMBEDDING:
        return "embedding"
    first = map_of(book, "first layer", "all", book.labels[0])
    return "first layer" if row.layer_a == first.layer_source else "chosen layers"


def _blocks(row: DepthRow) -> str:
    return "embedding" if row.layer_a == EMBEDDING else f"blocks {row.layer_a} and {row.layer_b}"


def depth_rows(book: AtlasBook, scope: Scope, measure: str) -> list[DepthRow]:
    """Agreement by depth, the embedding first. LabError for another measure."""
    lookup.require(measure, measures(book), "measure")
    rows = [d for d in book.depth if (d.scope, d.measure) == (scope, measure)]
    return sorted(rows, key=lambda d: d.depth if isfinite(d.depth) else BEFORE)
