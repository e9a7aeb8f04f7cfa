"""What every other recipe for the direction would have concluded: one mark per recipe, the reported one starred.

A specification curve (Simonsohn, Simmons & Nelson 2020): values in ascending order, below them what each recipe is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.figures import lookup
from lab.figures.geometry import abstention, number
from lab.figures.reading import probability
from lab.figures.steering import PLACES
from lab.figures.theme import LIGHT, Theme, axis, blank, finish, reach, text
from lab.figures.traits import ESTIMATOR_WORDS, recipe_words
from lab.records.geometry import GeometryBook, MultiverseCell

CONCLUSIONS = {
    "r": "agreement of landings, r",
    "scaffold": "share of the scaffold",
    "crossed": "share of scaffold × weights",
}
HEADS = {key: words.capitalize() for key, words in CONCLUSIONS.items()}
LABELS = {"r": "r", "scaffold": "share of variance", "crossed": "share of variance"}
SOURCES = {"scaffold": "scaffold", "crossed": "scaffold x weights"}
NAN = float("nan")


@dataclass(frozen=True)
class Held:
    """What the run holds the reported value against. why: the reason where it has nothing."""

    why: str = ""

    scaffolds: int = 0
    questions: int = 0
    dropped: int = 0
    low: float = NAN
    high: float = NAN
    p: float = NAN
    null: float = NAN
    ceiling: float = NAN


def traits(book: GeometryBook) -> list[str]:
    """Traits with other recipes."""
    return list(dict.fromkeys(c.trait for c in book.multiverse))


def recipes(book: GeometryBook, trait: str) -> tuple[list[MultiverseCell], MultiverseCell | None]:
    """The grid of recipes, and the one that the run reports. LabError for another trait."""
    lookup.require(trait, traits(book) or list(dict.fromkeys(x.trait for x in book.landings)), "trait")
    mine = [c for c in book.multiverse if c.trait == trait]
    return [c for c in mine if not c.selected], next((c for c in mine if c.selected), None)


def held(book: GeometryBook, trait: str, what: str) -> Held:
    """Interval, null and ceiling of the reported recipe's value."""
    place = next((p for p in book.places if p.position == "reply_mean"), None)
    nothing = Held("this run has no interval and no null for the reported recipe")
    if place is None:
        return nothing
    if what == "r":
        a = next((a for a in place.agreements if a.trait == trait), None)
        if a is None:
            return nothing
        return Held(a.why, a.n, a.questions, a.dropped, a.low, a.high, a.p, a.null_high, a.ceiling)
    wanted = (trait, SOURCES[what])
    s = next((s for s in place.shares if (s.trait, s.source) == wanted), None)
    return Held(s.why, s.scaffolds, s.n, s.dropped, s.low, s.high, s.p, s.null_high) if s else nothing


# ------------------------------------------------------------------ figure


def multiverse_strip(book: GeometryBook, trait: str, what: str = "r", theme: Theme = LIGHT) -> go.Figure:
    """The conclusion by every recipe in ascending order, and under it each one's estimator, pooling and depth.

    what: a key of CONCLUSIONS. Recipes without an answer stand at the right end as `?`. LabError for another
    trait or conclusion.
    """
    lookup.require(what, list(CONCLUSIONS), "conclusion")
    grid, reported = recipes(book, trait)
    against = held(book, trait, what)
    title = f"Would another recipe conclude the same of <b>{text(trait)}</b>? {HEADS[what]}"
    notes = _notes(grid, reported, what, against)
    row = _in_order([*grid, *([reported] if reported else [])], what)
    why = against.why if grid else "this run tried no other recipes"
    if not why and not any(isfinite(_value(c, what)) for c in row):
        why = "no recipe has a unit in both models"
    if why:
        return abstention(title, why, notes, theme)
    estimators, poolings = (
        list(dict.fromkeys(getattr(c, f) for c in grid)) for f in ("estimator", "position")
    )
    depths = sorted({c.depth for c in grid})
    figure = make_subplots(
        4, 1, shared_xaxes=True, vertical_spacing=0.03,
        row_heights=[230, *(20 + 16 * len(x) for x in (estimators, poolings, depths))],
    )  # fmt: skip
    figure.update_layout(blank(theme, title, 520))
    held_against = (against.low, against.high, against.null, against.ceiling)
    ends = reach([*(_value(c, what) for c in row), *held_against], 0.2 if what == "r" else 0.02)
    for trace in _value_traces(row, what, against, ends[0], theme):
        figure.add_trace(trace, 1, 1)
    ticks = "" if what == "r" else ".0%"
    figure.update_yaxes(axis(theme, LABELS[what], range=ends, tickformat=ticks), row=1)
    _facets(figure, row, what, (estimators, poolings), depths, theme)
    figure.update_xaxes(range=[-1.5, len(row) + 0.5], showgrid=False, zeroline=False, showticklabels=False)
    words = axis(theme, "recipes, the lowest value first", showgrid=False, zeroline=False)
    figure.update_xaxes(words, row=4)
    if reported and isfinite(_value(reported, what)):
        line = {"color": theme.ink, "width": 1, "dash": "dot"}
        figure.add_vline(x=row.index(reported), line=line, layer="below")
    finish(figure, notes, theme, 34)
    return figure


def _value(c: MultiverseCell, what: str) -> float:
    return getattr(c, what)


def _shown(what: str, *values: float) -> str:
    """`0.31`, or for shares `31.0 %`; of several: `[0.31, 0.40]`."""
    if len(values) > 1 and not all(map(isfinite, values)):
        return "[no interval]"
    said = [
        number(v) if what == "r" or not isfinite(v) else f"{100 * v:.1f} %".replace("-", "−") for v in values
    ]
    return said[0] if len(said) == 1 else f"[{', '.join(said)}]"


def _in_order(cells: Sequence[MultiverseCell], what: str) -> list[MultiverseCell]:
    """Ascending; those without an answer last."""
    known = [c for c in cells if isfinite(_value(c, what))]
    gaps = [c for c in cells if not isfinite(_value(c, what))]
    return [*sorted(known, key=lambda c: _value(c, what)), *gaps]


def _ids(cells: Sequence[MultiverseCell]) -> list[list[object]]:
    return [
        [c.trait, c.estimator, c.position, c.depth, text(recipe_words(c.estimator, c.position))]
        for c in cells
    ]


def _value_traces(
    row: Sequence[MultiverseCell], what: str, against: Held, floor: float, theme: Theme
) -> list[go.Scatter]:
    known = [c for c in row if isfinite(_value(c, what))]
    plain = [c for c in known if not c.selected]
    star = [c for c in known if c.selected]
    gaps = [c for c in row if not isfinite(_value(c, what))]

    def marks(role: str, words: str, cells: Sequence[MultiverseCell], **marker: object) -> go.Scatter:
        return go.Scatter(
            x=[row.index(c) for c in cells], y=[_value(c, what) for c in cells], mode="markers", name=words,
            marker=marker, customdata=_ids(cells), meta={"role": role}, cliponaxis=False,
            hovertemplate="%{customdata[4]}, depth %{customdata[3]:.2f}: %{y:.3f}<extra></extra>",
        )  # fmt: skip

    found = [marks("recipe", "another recipe", plain, size=6, color=theme.faint)]
    if star:
        chosen = marks("reported", "the reported recipe", star, symbol="star", size=15, color=theme.ink)
        chosen.error_y = {
            "type": "data", "symmetric": False, "thickness": 1.5, "width": 4, "color": theme.ink,
            "array": [against.high - _value(star[0], what)], "arrayminus": [_value(star[0], what) - against.low],
        }  # fmt: skip
        found.append(chosen)
    found += _levels(len(row), star or known[:1], against, theme)
    if gaps:
        found.append(
            go.Scatter(
                x=[row.index(c) for c in gaps], y=[floor] * len(gaps), mode="text", text=["?"] * len(gaps),
                textfont={"color": theme.faint}, textposition="top center", showlegend=False,
                customdata=_ids(gaps), meta={"role": "gap"},
                hovertemplate="%{customdata[4]}, depth %{customdata[3]:.2f}: cannot tell<extra></extra>",
            )
        )  # fmt: skip
    return found


def _levels(n: int, at: Sequence[MultiverseCell], against: Held, theme: Theme) -> list[go.Scatter]:
    """Null and ceiling of the reported recipe as lines over the whole width."""
    found = []
    kinds = (
        ("null", "its null, 95 %", against.null, "dash"),
        ("ceiling", "its ceiling", against.ceiling, "solid"),
    )
    for role, words, level, dash in kinds:
        if isfinite(level):
            found.append(
                go.Scatter(
                    x=[-1.5, n + 0.5], y=[level, level], mode="lines", name=words, meta={"role": role},
                    line={"color": theme.faint, "width": 1.5, "dash": dash}, customdata=_ids([at[0]] * 2),
                    hovertemplate=f"{words}: %{{y:.3f}}<extra></extra>",
                )
            )  # fmt: skip
    return found


def _facets(
    figure: go.Figure, row: Sequence[MultiverseCell], what: str, kinds: tuple[list[str], list[str]],
    depths: Sequence[float], theme: Theme,
) -> None:  # fmt: skip
    """Three panels of dots; depth on its own scale, for the reported depth may lie between those of the grid."""
    estimators, poolings = kinds
    panels = (
        ("estimator", [_place(estimators, c.estimator) for c in row], list(range(len(estimators))),
         [ESTIMATOR_WORDS.get(e, text(e)) for e in estimators]),
        ("pooling", [_place(poolings, c.position) for c in row], list(range(len(poolings))),
         [PLACES.get(p, text(p)) for p in poolings]),
        ("depth", [c.depth for c in row], list(depths), [f"depth {d:.2g}" for d in depths]),
    )  # fmt: skip
    for k, (role, y, ticks, words) in enumerate(panels, 2):
        for chosen in (False, True):
            mine = [i for i, c in enumerate(row) if c.selected == chosen]
            colours = [theme.faint if isfinite(_value(row[i], what)) else theme.null for i in mine]
            marker = (
                {"symbol": "star", "size": 11, "color": theme.ink}
                if chosen
                else {"size": 5, "color": colours}
            )
            figure.add_trace(
                go.Scatter(
                    x=mine, y=[y[i] for i in mine], mode="markers", marker=marker, showlegend=False,
                    cliponaxis=False, customdata=_ids([row[i] for i in mine]),
                    meta={"role": f"{role} reported" if chosen else role},
                    hovertemplate="%{customdata[4]}, depth %{customdata[3]:.2f}<extra></extra>",
                ), k, 1,
            )  # fmt: skip
        air = 0.6 * (ticks[1] - ticks[0] if len(ticks) > 1 else 1)
        ends = [max([*ticks, *y]) + air, min([*ticks, *y]) - air]
        figure.update_yaxes(axis(theme, range=ends, zeroline=False, tickvals=ticks, ticktext=words), row=k)


def _place(known: Sequence[str], name: str) -> float:
    return float(known.index(name)) if name in known else NAN


# ------------------------------------------------------------------ words


def _notes(
    grid: Sequence[MultiverseCell], reported: MultiverseCell | None, what: str, against: Held
) -> list[str]:
    unit = (
        "Unit: r over scaffolds of the two models' landings L, −1 to 1, both models read by the same recipe."
        if what == "r"
        else f"Unit: share of the variance of L that {SOURCES[what].replace(' x ', ' × ')} explains, noise subtracted, "
        "so it may fall below 0; both models read by the same recipe."
    )
    dropped = f" ({against.dropped} dropped)" if against.dropped else ""
    sizes = f"{against.scaffolds} scaffolds, {against.questions} questions{dropped}"
    return [
        unit,
        _spread(grid, what, against.null),
        _reported(reported, what, against),
        f"Split: test; n = {sizes if against.scaffolds else 'not recorded'}. All recipes read the same replies, so their "
        "spread is no interval; interval, null and ceiling were computed for the reported recipe only. Depth is relative: "
        "0 the first layer, 1 the last.",
    ]


def _spread(grid: Sequence[MultiverseCell], what: str, null: float) -> str:
    known = [_value(c, what) for c in grid if isfinite(_value(c, what))]
    sizes = " × ".join(
        f"{len({getattr(c, f) for c in grid})} {words}"
        for f, words in (("estimator", "estimators"), ("position", "poolings"), ("depth", "depths"))
    )
    said = f"Other recipes: {len(grid)} ({sizes})"
    if len(grid) > len(known):
        said += f", {len(grid) - len(known)} without an answer (?: a model has no unit by it)"
    if known:
        ends = f"{_shown(what, min(known))} to {_shown(what, max(known))}"
        said += f"; the {len(known)} with one from {ends}, median {_shown(what, median(known))}"
        if isfinite(null):
            said += f", {sum(v > null for v in known)} of them above the reported recipe's null"
    return said + "."


def _reported(c: MultiverseCell | None, what: str, against: Held) -> str:
    if c is None:
        return "The reported recipe is not recorded."
    recipe = f"{text(recipe_words(c.estimator, c.position))}, depth {c.depth:.2f}"
    if not isfinite(_value(c, what)):
        return f"Reported ({recipe}): cannot tell."
    shuffled = "random pairings" if what == "r" else "labels shuffled"
    ceiling = (
        f"; ceiling (both alike, measured this well): {_shown(what, against.ceiling)}" if what == "r" else ""
    )
    value = _shown(what, _value(c, what))
    return (
        f"Reported, the star ({recipe}, the mean of both models' layers, chosen on select): {value} "
        f"{_shown(what, against.low, against.high)}, {probability('p', against.p)}; null, 95 % of {shuffled}: "
        f"{_shown(what, against.null)}{ceiling}."
    )
