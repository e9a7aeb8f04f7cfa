"""The persona map and the agreement of two models about roles."""

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from lab.figures import lookup
from lab.figures.labels import place_names
from lab.figures.reading import probability
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
    text,
)
from lab.records.personas import (
    DEFAULT,
    NOBODY,
    AxisSummary,
    PersonaMap,
    RoleLanding,
    RoleReply,
    base_words,
    beside_roles,
    said_by,
    said_rows,
    state_rows,
)

NAMED = 7
"""Roles written out at each end of the axis; the others are named on hover."""
FIXED = (DEFAULT, NOBODY)
WIDTH, HEIGHT = 800, 460
"""Pixels of the map: what it is mostly drawn at, by which names are placed; and what it is."""


def roles_of(found: PersonaMap, model: str) -> tuple[RoleLanding, ...]:
    """The roles of one model, then what is no role. LabError for an unknown model."""
    lookup.require(model, [s.model for s in found.summaries], "model")
    return tuple(r for r in found.landings if r.model == model)


def replies_of(found: PersonaMap, model: str, role: str) -> tuple[RoleReply, ...]:
    """What was said by who stands at a row of one model's map; none in runs that kept no replies."""
    own = {said_by(model): NOBODY, **{row: said_by(base) for row, base in state_rows(found).items()}}
    at = own.get(role, role)
    return tuple(r for r in found.replies if r.model == model and r.role == at)


def persona_map(found: PersonaMap, model: str, theme: Theme = LIGHT) -> go.Figure:
    """Roles of one model, no scaffold and base models: along the assistant axis, and across it."""
    rows = roles_of(found, model)
    summary = next(s for s in found.summaries if s.model == model)
    i = [s.model for s in found.summaries].index(model)
    title = f"Who stands where between the assistant and the others: <b>{text(model)}</b>"
    figure = go.Figure(layout=blank(theme, title, HEIGHT))
    kinds = _kinds(found, rows)
    bounds = reach([v for r in rows for v in (r.loading, r.low, r.high)])
    sides = reach([r.across for r in rows])
    names = _names([r for some in kinds.values() for r in some], _named(found, kinds["roles"]), bounds, sides)
    looks = {
        label: (theme.ink, symbol) for label, symbol in zip(kinds, ("", "star", "x", "cross"), strict=True)
    }
    looks["roles"] = (MODEL_COLOURS[i], MODEL_SYMBOLS[i])
    for label, some in kinds.items():
        if some or label == "roles":
            figure.add_trace(_marks(some, names, *looks[label], label, theme))
    along = "along the assistant axis  (0 = mean role, 1 = default assistant)"
    figure.update_xaxes(axis(theme, along, range=bounds))
    figure.update_yaxes(axis(theme, "across it  (sd over roles)", range=sides))
    told = [text(words) for words in base_words(found, model)]
    finish(figure, [*_notes(summary, len(kinds["roles"])), *told], theme, 52)
    return figure


def _kinds(found: PersonaMap, rows: Sequence[RoleLanding]) -> dict[str, list[RoleLanding]]:
    """Rows by what they are, as the legend calls it."""
    beside, said, states = beside_roles(found), said_rows(found), state_rows(found)
    return {
        "roles": [r for r in rows if r.role not in beside],
        "default and no scaffold": [r for r in rows if r.role in FIXED],
        "what is said without scaffold": [r for r in rows if r.role in said],
        "a base model's states": [r for r in rows if r.role in states],
    }


def _named(found: PersonaMap, roles: Sequence[RoleLanding]) -> dict[str, str]:
    """Rows that are written out, with their names: what is no role first, then the ends of the axis."""
    order = [r.role for r in sorted(roles, key=lambda r: r.loading)]
    ends = [*order[:NAMED], *order[-NAMED:]]
    return {
        **{row: row for row in FIXED},
        **said_rows(found),
        **state_rows(found),
        **{row: row for row in ends},
    }


def _names(
    rows: Sequence[RoleLanding], named: Mapping[str, str], bounds: Sequence[float], sides: Sequence[float]
) -> dict[str, tuple[str, str]]:
    """Name and its place beside the mark, by row, so that no name covers another."""
    wide, high = WIDTH / (bounds[1] - bounds[0]), HEIGHT / (sides[1] - sides[0])
    at = {r.role: (r.loading * wide, r.across * high) for r in rows}
    shown = [row for row in at if row in named]
    taken = [spot for row, spot in at.items() if row not in named]
    placed = place_names([at[row] for row in shown], [named[row] for row in shown], taken, 1.0)
    return dict(zip(shown, placed, strict=True))


def _marks(
    rows: Sequence[RoleLanding], names: Mapping[str, tuple[str, str]], colour: str, symbol: str, label: str,
    theme: Theme,
) -> go.Scatter:  # fmt: skip
    spans = {
        "type": "data", "symmetric": False, "thickness": 1, "width": 0, "color": theme.faint,
        "array": [r.high - r.loading for r in rows], "arrayminus": [r.loading - r.low for r in rows],
    }  # fmt: skip
    shown = [names.get(r.role, ("", "top center")) for r in rows]
    return go.Scatter(
        x=[r.loading for r in rows], y=[r.across for r in rows], mode="markers+text", name=label,
        text=[text(name) for name, _ in shown], textposition=[place for _, place in shown],
        textfont={"size": 11, "color": theme.ink}, cliponaxis=False, error_x=spans,
        marker={"color": colour, "symbol": symbol, "size": 9}, customdata=[[r.role, r.model] for r in rows],
        hovertemplate="%{customdata[0]}<br>along %{x:.2f}, across %{y:.2f}<extra></extra>",
        meta={"role": label},
    )  # fmt: skip


def _notes(summary: AxisSummary, roles: int) -> list[str]:
    return [
        f"Unit: along, distance of the default from the mean role; {POSITION_WORDS[summary.position]}, layer "
        f"{summary.layer}. Bars: 95 % bootstrap over questions. Split: {summary.split}; n = {summary.n} questions, "
        f"{roles} roles.",
        f"The first component of the roles holds {summary.share:.0%} of the variance between them and has cosine "
        f"{summary.cosine:.2f} with the axis; the component across holds {summary.across:.0%}, its sign is arbitrary. "
        f"Reliability of the places along the axis: {summary.reliability:.2f}.",
    ]


def role_agreement(found: PersonaMap, theme: Theme = LIGHT) -> go.Figure:
    """Every role's place along the axis of one model against its place in the other."""
    a, b = (s.model for s in found.summaries)
    other = {r.role: r for r in roles_of(found, b)}
    pairs = [(r, other[r.role]) for r in roles_of(found, a) if r.role in other]
    figure = go.Figure(layout=blank(theme, "Do the two order the roles alike?", 460))
    bounds = reach([v for p in pairs for r in p for v in (r.loading, r.low, r.high)])
    figure.add_trace(
        go.Scatter(
            x=bounds, y=bounds, mode="lines", line={"color": theme.null, "width": 1, "dash": "dot"},
            name="the same place in both", hoverinfo="skip", meta={"role": "identity"},
        )
    )  # fmt: skip
    order = sorted(pairs, key=lambda p: abs(p[0].loading - p[1].loading))
    beside = beside_roles(found)
    named = {p[0].role for p in order[-2 * NAMED :]} | set(beside)
    figure.add_trace(
        go.Scatter(
            x=[p.loading for p, _ in pairs], y=[q.loading for _, q in pairs], mode="markers+text",
            text=[text(p.role) if p.role in named else "" for p, _ in pairs], textposition="top center",
            textfont={"size": 11, "color": theme.ink}, cliponaxis=False, name="roles",
            marker={
                "color": [theme.ink if p.role in beside else theme.high for p, _ in pairs], "size": 9,
                "symbol": ["star" if p.role in FIXED else "x" if p.role in beside else "circle" for p, _ in pairs],
            },
            customdata=[[p.role] for p, _ in pairs], meta={"role": "roles"},
            hovertemplate="%{customdata[0]}<br>%{x:.2f} and %{y:.2f}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(axis(theme, f"along the axis of {text(a)}", range=bounds))
    figure.update_yaxes(axis(theme, f"along the axis of {text(b)}", range=bounds))
    lines = ["Unit: 0 the mean role, 1 the default assistant, in each model. Named: where they differ most."]
    if found.agreement is not None:
        g = found.agreement
        lines.append(
            f"r = {g.r:.2f} [{g.low:.2f}, {g.high:.2f}] over {g.n} roles ({probability('p', g.p)}; null 97.5 %: "
            f"{g.null_high:.2f}); two models with the same true places would reach {g.ceiling:.2f}."
        )
    finish(figure, lines, theme, 52)
    return figure
