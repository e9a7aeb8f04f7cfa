"""Two models in one frame: landings carried over, how well maps predict, and whether landings agree."""

from collections.abc import Sequence
from math import cos, isfinite, pi, radians, sin

import plotly.graph_objects as go

from lab.figures import lookup
from lab.figures.geometry import abstention, number, scaffolds, traits
from lab.figures.labels import place_names
from lab.figures.landing import span_words
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
from lab.records.maps import LandingAgreement, MapScore, SharedMap, SharedPoint

SQUARE, WIDE = 560, 880
"""Pixels of a figure with equal axes: its height, and the width that names are placed for."""
ARC = 48
"""Corners of an ellipse."""


def sources(book: GeometryBook) -> list[str]:
    """Models whose landings can be carried into the other's frame: both."""
    return list(book.labels[:2])


def _mark(book: GeometryBook, model: str) -> dict[str, str]:
    k = book.labels.index(model)
    return {"color": MODEL_COLOURS[k], "symbol": MODEL_SYMBOLS[k]}


def _frame(figure: go.Figure, x: Sequence[float], y: Sequence[float]) -> float:
    """Equal axes around all points and 0; the pixels of one unit."""
    sides = reach(x), reach(y)
    figure.update_xaxes(range=sides[0], constrain="range")
    figure.update_yaxes(range=sides[1], constrain="range", scaleanchor="x", scaleratio=1)
    return min(WIDE / (sides[0][1] - sides[0][0]), SQUARE / (sides[1][1] - sides[1][0]))


# ------------------------------------------------------------------ shared map


def shared_of(
    book: GeometryBook, position: Position, source: str
) -> tuple[SharedMap | None, MapScore | None]:
    """The landings of `source` in the other's plane, and the score of their map; None where no layer was chosen.

    LabError for another model.
    """
    lookup.require(source, sources(book), "model")
    place = book.at(position)
    found = next((m for m in place.shared if m.source == source), None)
    score = next((m for m in place.maps if found and (m.source, m.method) == (source, found.method)), None)
    return found, score


def shared_map(book: GeometryBook, position: Position, source: str, theme: Theme = LIGHT) -> go.Figure:
    """Both models' landings in the plane of the other than `source`, with 95 % ellipses over questions."""
    found, score = shared_of(book, position, source)
    target = next(m for m in sources(book) if m != source)
    title = f"<b>{text(source)}</b> carried into <b>{text(target)}</b>"
    if score is not None and isfinite(score.r2):
        title += f": held-out R² {number(score.r2)} (random pairings, 95 %: {number(score.null_high)})"
    notes = _map_notes(found, score, position)
    if found is None or found.why or not found.points:
        why = found.why if found else "no layers were chosen, so there is nothing to map"
        return abstention(title, why or "this run has no points", notes, theme)
    figure = go.Figure(layout=blank(theme, title, SQUARE))
    own, carried = ([p for p in found.points if p.model == model] for model in (target, source))
    pixels = _frame(figure, *_extent(found.points))
    names = place_names([(p.x, p.y) for p in own], [p.scaffold for p in own], _along(own, carried), pixels)
    figure.add_trace(_links(own, carried, theme))
    for points, words in ((own, text(target)), (carried, f"{text(source)}, carried over")):
        figure.add_trace(_ellipses(points, _mark(book, points[0].model)["color"]))
        shown = names if points is own else [("", "top center")] * len(points)
        figure.add_trace(_points(points, shown, _mark(book, points[0].model), words, theme))
    for update, share, which in (
        (figure.update_xaxes, found.share_x, "first"), (figure.update_yaxes, found.share_y, "second")
    ):  # fmt: skip
        words = f"{which} axis of {text(target)}'s landings  ({share:.0%} of their variance)"
        update(axis(theme, words))
    finish(figure, notes, theme, 52)
    return figure


def _extent(points: Sequence[SharedPoint]) -> tuple[list[float], list[float]]:
    ring = [v for p in points for v in [(p.x, p.y), *_ellipse(p)]]
    return [x for x, _ in ring], [y for _, y in ring]


def _ellipse(p: SharedPoint) -> list[tuple[float, float]]:
    """Corners of the 95 % ellipse; none where it is not known."""
    if not (isfinite(p.radius_a) and isfinite(p.radius_b)):
        return []
    turn = radians(p.angle)
    corners = [
        (p.radius_a * cos(2 * pi * k / ARC), p.radius_b * sin(2 * pi * k / ARC)) for k in range(ARC + 1)
    ]
    return [(p.x + u * cos(turn) - v * sin(turn), p.y + u * sin(turn) + v * cos(turn)) for u, v in corners]


def _ellipses(points: Sequence[SharedPoint], colour: str) -> go.Scatter:
    x: list[float | None] = []
    y: list[float | None] = []
    ids: list[list[str]] = []
    for p in points:
        ring = _ellipse(p)
        x += [*(u for u, _ in ring), None]
        y += [*(v for _, v in ring), None]
        ids += [[p.scaffold, p.model]] * (len(ring) + 1)
    return go.Scatter(
        x=x, y=y, mode="lines", line={"color": colour, "width": 1}, fill="toself", opacity=0.45, hoverinfo="skip",
        showlegend=False, customdata=ids, meta={"role": "ellipse", "model": points[0].model},
    )  # fmt: skip


def _along(own: Sequence[SharedPoint], carried: Sequence[SharedPoint]) -> list[tuple[float, float]]:
    """Places on the way from a landing to its carried one, the end included, that no name should cover."""
    other = {p.scaffold: p for p in carried}
    both = [(p, other[p.scaffold]) for p in own if p.scaffold in other]
    return [(p.x + k * (q.x - p.x) / 4, p.y + k * (q.y - p.y) / 4) for p, q in both for k in range(1, 5)]


def _links(own: Sequence[SharedPoint], carried: Sequence[SharedPoint], theme: Theme) -> go.Scatter:
    """A thin line between the two landings of each scaffold."""
    other = {p.scaffold: p for p in carried}
    both = [(p, other[p.scaffold]) for p in own if p.scaffold in other]
    return go.Scatter(
        x=[v for p, q in both for v in (p.x, q.x, None)], y=[v for p, q in both for v in (p.y, q.y, None)],
        mode="lines", line={"color": theme.faint, "width": 1}, hoverinfo="skip", showlegend=False,
        customdata=[[p.scaffold] for p, _ in both for _ in range(3)], meta={"role": "link"},
    )  # fmt: skip


def _points(
    points: Sequence[SharedPoint],
    names: Sequence[tuple[str, str]],
    mark: dict[str, str],
    words: str,
    theme: Theme,
) -> go.Scatter:
    return go.Scatter(
        x=[p.x for p in points], y=[p.y for p in points], mode="markers+text", name=words, cliponaxis=False,
        text=[text(n) for n, _ in names], textposition=[place for _, place in names],
        textfont={"size": 11, "color": theme.ink},
        marker={**mark, "size": 8, "line": {"color": theme.paper, "width": 1}},
        customdata=[[p.scaffold, p.model, text(p.scaffold)] for p in points],
        hovertemplate=f"<b>%{{customdata[2]}}</b>, {words}<br>%{{x:.2f}}, %{{y:.2f}}<extra></extra>",
        meta={"role": "landing", "model": points[0].model},
    )  # fmt: skip


def _map_notes(found: SharedMap | None, score: MapScore | None, position: Position) -> list[str]:
    lines = [
        f"Unit: the activation unit of the frame's model; {POSITION_WORDS[position]}. A landing is the mean over the test "
        "questions; ellipses: 95 % over questions, the fits kept."
    ]
    if found is not None and found.points:
        lines.append(
            f"Axes: principal components of {text(found.target)}'s landings on the training questions; their signs are "
            f"arbitrary, turned so that {text(found.toward)} lies at the positive end. The rest of the variance is not in "
            "this plane. A name that would cover another is told on hover."
        )
    if score is not None:
        lines.append(
            f"Map: {text(score.method)}, fitted without the scaffold it carries, on other questions. R² "
            f"{number(score.r2)} {interval(score.low, score.high)}, {probability('p', score.p)}; {_score_sizes([score])}"
        )
    return lines


def _score_sizes(scores: Sequence[MapScore]) -> str:
    return (
        f"split: {span_words(m.split for m in scores)}; n = {span(m.scaffolds for m in scores)} scaffolds, "
        f"{span(m.questions for m in scores)} questions, fitted on {span(m.train_questions for m in scores)} others "
        f"({span(m.dropped for m in scores)} dropped)."
    )


# ------------------------------------------------------------------ agreement


def agreement_of(book: GeometryBook, position: Position, trait: str) -> LandingAgreement | None:
    """LabError for another trait."""
    lookup.require(trait, traits(book), "trait")
    return next((a for a in book.at(position).agreements if a.trait == trait), None)


def agreement(book: GeometryBook, position: Position, trait: str, theme: Theme = LIGHT) -> go.Figure:
    """L of every scaffold in A against its L in B, with the line on which both would be the same."""
    found = agreement_of(book, position, trait)
    a, b = sources(book)
    L = {(x.model, x.scaffold): x.L for x in book.landings if (x.position, x.trait) == (position, trait)}
    pairs = {s: (L.get((a, s), float("nan")), L.get((b, s), float("nan"))) for s in scaffolds(book)}
    known = [(s, x, y) for s, (x, y) in pairs.items() if isfinite(x) and isfinite(y)]
    title = f"Are both moved alike along <b>{text(trait)}</b>?"
    notes = _agreement_notes(found, position, [s for s in pairs if s not in {k[0] for k in known}])
    if not known:
        why = found.why if found and found.why else "no scaffold has a landing in both models"
        return abstention(title, why, notes, theme)
    figure = go.Figure(layout=blank(theme, title, 480))
    ends = reach([v for _, *both in known for v in both])
    pixels = min(WIDE, 480) / (ends[1] - ends[0])
    names = place_names([(x, y) for _, x, y in known], [s for s, *_ in known], [], pixels, ends)
    figure.add_trace(
        go.Scatter(
            x=ends, y=ends, mode="lines", line={"color": theme.faint, "width": 1, "dash": "dot"},
            name="the same L in both", hoverinfo="skip", meta={"role": "identity"}, customdata=[[trait], [trait]],
        )
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[x for _, x, _ in known], y=[y for *_, y in known], mode="markers+text", name="scaffolds",
            text=[text(n) for n, _ in names], textposition=[place for _, place in names], cliponaxis=False,
            textfont={"size": 11, "color": theme.ink}, marker={"size": 9, "color": theme.high},
            customdata=[[s, trait, text(s)] for s, *_ in known], meta={"role": "landing"},
            hovertemplate=f"<b>%{{customdata[2]}}</b><br>L %{{x:.2f}} in {text(a)}, %{{y:.2f}} in {text(b)}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(axis(theme, f"L in {text(a)}", range=ends, constrain="domain"))
    figure.update_yaxes(axis(theme, f"L in {text(b)}", range=ends, scaleanchor="x", constrain="domain"))
    finish(figure, notes, theme, 52)
    return figure


def _agreement_notes(found: LandingAgreement | None, position: Position, missing: Sequence[str]) -> list[str]:
    unit = (
        "Unit: L, 0 the model's own neutral, 1 half its own pole-to-pole range; "
        f"{POSITION_WORDS[position]}. A dot: mean over wordings and test questions; a "
        "name that would cover another is told on hover."
    )
    if found is None:
        return [unit, "Split: test. This run has no agreement on this trait."]
    dropped = f" ({found.dropped} dropped)" if found.dropped else ""
    lines = [unit]
    if isfinite(found.r):
        lines.append(
            f"r = {number(found.r)} {interval(found.low, found.high)}, {probability('p', found.p)}; null, 95 % of random "
            f"pairings: {number(found.null_high)}; ceiling (both alike, measured this well): {number(found.ceiling)}. "
            f"Spearman {number(found.rho)}, {probability('p', found.rho_p)}. Interval: 95 %, resampling scaffolds."
        )
    else:
        lines.append(f"Agreement: cannot tell. {text(found.why or 'No reason was recorded')}.")
    lines.append(f"Split: test; n = {found.n} scaffolds, {found.questions} questions{dropped}.")
    if missing:
        lines.append(f"Cannot tell where these land in one of the models: {', '.join(map(text, missing))}.")
    return lines
