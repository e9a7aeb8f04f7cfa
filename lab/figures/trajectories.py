"""Replies on their way through the shared frame of two models, token by token, to where they land."""

from collections.abc import Sequence
from math import isfinite

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.figures import lookup
from lab.figures.geometry import abstention, number, scaffolds
from lab.figures.landing import span_words
from lab.figures.shared import WIDE, shared_of, sources
from lab.figures.tables import table_of
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
from lab.figures.trajectory_marks import (
    Place,
    Reply,
    behind,
    common_line,
    path_line,
    place_of,
    scaffold_landing,
    start_and_end,
)
from lab.records import Position
from lab.records.geometry import GeometryBook
from lab.records.maps import MapScore, SharedMap
from lab.records.trajectories import PathPoint

SHOWN = {"mean": "running mean", "tokens": "single tokens"}
"""What a path can show of a reply."""
POSITION: Position = "reply_mean"
"""Where landings are the mean of a reply's tokens."""
HIGH = 480
"""Pixels of the panels' height."""


# ------------------------------------------------------------------ what there is


def questions(paths: Sequence[PathPoint], target: str) -> list[str]:
    """Questions with paths in a frame."""
    return list(dict.fromkeys(p.question for p in paths if p.target == target))


def replies(
    paths: Sequence[PathPoint], target: str, scaffold: str, asked: Sequence[str]
) -> tuple[Reply, ...]:
    """The replies under one scaffold to some questions, the target's first. LabError for another question."""
    known = questions(paths, target)
    for question in asked:
        lookup.require(question, known, "question")
    found: dict[tuple[str, str], list[PathPoint]] = {}
    for p in paths:
        if (p.target, p.scaffold) == (target, scaffold) and p.question in asked:
            found.setdefault((p.model, p.question), []).append(p)
    order = sorted(found, key=lambda key: key[0] != target)
    return tuple(Reply(*key, tuple(sorted(found[key], key=lambda p: p.token))) for key in order)


def table(
    paths: Sequence[PathPoint], target: str, scaffold: str, asked: Sequence[str]
) -> pd.DataFrame:  # fmt: skip
    """One row per token of the replies that are drawn."""
    return table_of([p for r in replies(paths, target, scaffold, asked) for p in r.points], PathPoint)


# ------------------------------------------------------------------ the figure


def trajectories(
    book: GeometryBook, position: Position, source: str, paths: Sequence[PathPoint], scaffold: str,
    asked: Sequence[str], shown: str = "mean", theme: Theme = LIGHT,
) -> go.Figure:  # fmt: skip
    """Both models' replies under one scaffold to some questions, from the first token to the landing.

    shown: a key of `SHOWN`. In the plane of the other model than `source`, whose tokens are carried over; left
    among the landings of all scaffolds, right alone and larger. LabError for what the run does not have.
    """
    found, score = shared_of(book, position, source)
    lookup.require(scaffold, scaffolds(book), "scaffold")
    lookup.require(shown, list(SHOWN), "way to show a path")
    target = next(m for m in sources(book) if m != source)
    drawn = replies(paths, target, scaffold, asked)
    title = _title(scaffold, source, target, score)
    notes = _notes(found, score, drawn, shown)
    why = _why_not(found, drawn, position)
    if why or found is None:
        return abstention(title, why, notes, theme)
    figure = make_subplots(cols=2, column_widths=[0.6, 0.4], horizontal_spacing=0.09)
    figure.update_layout(blank(theme, title, HIGH))
    known = [r for r in drawn if r.known]
    places = [xy for r in known for xy in (*r.at(shown), r.landing)]
    mine = [(p.x, p.y) for p in found.points if p.scaffold == scaffold]
    common = {m: common_path(paths, target, m, asked, shown) for m in (target, source)}
    everything = [
        *((p.x, p.y) for p in found.points),
        *places,
        *(xy for line in common.values() for xy in line),
    ]
    pixels = _axes(figure, found, everything, _square([*places, *mine]), theme)
    for model in (target, source):
        words = text(model) if model == target else f"{text(model)}, carried over"
        mark, own = _mark(book, model), [r for r in known if r.model == model]
        others = [p for p in found.points if p.model == model and p.scaffold != scaffold]
        figure.add_trace(behind(others, mark, pixels if model == target else None, theme), 1, 1)
        figure.add_trace(common_line(common[model], scaffold, model, mark, words), 1, 1)
        if own:
            figure.add_trace(path_line(own, scaffold, shown, mark, words, small=True), 1, 1)
            figure.add_trace(path_line(own, scaffold, shown, mark, words), 1, 2)
            figure.add_traces(start_and_end(own, scaffold, shown, mark, words, theme), 1, 2)
        landing = [p for p in found.points if (p.model, p.scaffold) == (model, scaffold)]
        figure.add_trace(scaffold_landing(landing, mark, words), 1, 2)
    finish(figure, notes, theme, 52)
    return figure


def common_path(
    paths: Sequence[PathPoint], target: str, model: str, asked: Sequence[str], shown: str
) -> list[Place]:
    """Per token the mean over all scaffolds' replies to the questions, as far as half of them go.

    What all replies have in common at a token belongs to no scaffold; 0 where they have nothing in common.
    """
    at: dict[int, list[Place]] = {}
    for p in paths:
        if (p.target, p.model) == (target, model) and p.question in asked and isfinite(p.mean_x):
            at.setdefault(p.token, []).append(place_of(p, shown))
    return [
        (sum(x for x, _ in at[k]) / len(at[k]), sum(y for _, y in at[k]) / len(at[k]))
        for k in sorted(at)
        if 2 * len(at[k]) >= len(at[0])
    ]


def _title(scaffold: str, source: str, target: str, score: MapScore | None) -> str:
    title = f"<b>{text(scaffold)}</b> token by token, {text(source)} carried into {text(target)}"
    if score is not None and isfinite(score.r2):
        title += f": held-out R² {number(score.r2)} (random pairings, 95 %: {number(score.null_high)})"
    return title


def _why_not(found: SharedMap | None, drawn: Sequence[Reply], position: Position) -> str:
    if position != POSITION:
        return f"a reply's path ends at a landing over the reply, and these landings are of {POSITION_WORDS[position]}"
    if found is None:
        return "no layers were chosen, so there is nothing to map"
    if found.why or not found.points:
        return found.why or "this run has no points"
    if not drawn:
        return "this run has no paths of these replies"
    if not any(r.known for r in drawn):
        return "the replies, read again, fall into other tokens than those they were generated in"
    return ""


def _mark(book: GeometryBook, model: str) -> dict[str, str]:
    k = book.labels.index(model)
    return {"color": MODEL_COLOURS[k], "symbol": MODEL_SYMBOLS[k]}


def _square(places: Sequence[Place]) -> tuple[list[float], list[float]]:
    """The smallest square around the places, with air."""
    sides = [[xy[k] for xy in places] for k in range(2)]
    half = 0.58 * max(0.1, *(max(side) - min(side) for side in sides))
    x, y = ([(max(side) + min(side)) / 2 - half, (max(side) + min(side)) / 2 + half] for side in sides)
    return x, y


def _axes(
    figure: go.Figure, found: SharedMap, places: Sequence[Place], near: tuple[list[float], list[float]],
    theme: Theme,
) -> float:  # fmt: skip
    """Equal axes around everything and 0 at the left, `near` at the right; the pixels of one unit at the left."""
    sides = reach([x for x, _ in places]), reach([y for _, y in places])
    words = [
        f"{which} axis of {text(found.target)}'s landings  ({share:.0%} of their variance)"
        for which, share in (("first", found.share_x), ("second", found.share_y))
    ]
    titles = (words, ["first axis, the square on the left enlarged", "second axis"])
    for col, (x, y), said, anchor in zip((1, 2), (sides, near), titles, ("x", "x2"), strict=True):
        figure.update_xaxes(axis(theme, said[0], range=x, constrain="domain"), col=col)
        equal = {"scaleanchor": anchor, "scaleratio": 1, "constrain": "domain"}
        figure.update_yaxes(axis(theme, said[1], range=y, **equal), col=col)
    line = {"color": theme.ink, "width": 1}
    figure.add_shape(type="rect", x0=near[0][0], x1=near[0][1], y0=near[1][0], y1=near[1][1], line=line, name="enlarged",
                     xref="x", yref="y")  # fmt: skip
    return min(0.55 * WIDE / (sides[0][1] - sides[0][0]), HIGH / (sides[1][1] - sides[1][0]))


# ------------------------------------------------------------------ words


def _notes(
    found: SharedMap | None, score: MapScore | None, drawn: Sequence[Reply], shown: str
) -> list[str]:  # fmt: skip
    known = [r for r in drawn if r.known]
    lines = [
        "Unit: the activation unit of the frame's model, relative to the mean over scaffolds on the same question. "
        + _what(shown)
    ]
    if found is not None and found.points:
        lines.append(
            "Right: cross, the first token; filled mark, landing of the reply; large open mark, landing of the scaffold, "
            "mean over the test questions. Left: landings of the other scaffolds; dotted, the mean over all scaffolds' "
            "replies at that token: what is far from 0 there belongs to no scaffold. Axes: principal components of "
            f"{text(found.target)}'s landings on the training questions, signs arbitrary, turned so that "
            f"{text(found.toward)} lies at the positive end. The rest of the variance is not in this plane."
        )
    sizes = ", ".join(
        f"{text(m)} {span(len(r.points) for r in known if r.model == m)}"
        for m in dict.fromkeys(r.model for r in known)
    )
    asked = list(dict.fromkeys(r.question for r in drawn))
    lines.append(
        f"n = {len(asked)} question{'' if len(asked) == 1 else 's'} ({', '.join(map(text, asked[:4]))}"
        f"{', …' if len(asked) > 4 else ''}), first wording of the scaffold, one reply each; tokens per reply: "
        f"{sizes or 'none'}. One reply and one seed: no interval."
    )
    if score is not None:
        lines.append(
            f"Split: {span_words([score.split])}. Map: {text(score.method)}, fitted without this scaffold on "
            f"{score.train_questions} other questions."
        )
    lost = [r for r in drawn if not r.known]
    if lost:
        lines.append(
            "Cannot tell, for read again they fall into other tokens than they were generated in: "
            + ", ".join(f"{text(r.model)} on {text(r.question)}" for r in lost)
            + "."
        )
    return lines


def _what(shown: str) -> str:
    if shown == "tokens":
        return "A dot is the state of one token; a reply lands at the mean of its dots."
    return (
        "Running mean: the mean place of the reply's tokens so far; the first is that of one token, the last that of all, "
        "which is the landing. It calms down as tokens add up, whatever the reply says."
    )
