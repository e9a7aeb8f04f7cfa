"""Replies as token strips: each token shaded by how far it stands from the model's own neutral."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from math import isfinite

from lab.figures import lookup
from lab.figures.theme import LIGHT, MODEL_COLOURS, Theme
from lab.records import Comparison, ReplyRow

POSITION = "reply_mean"


@dataclass(frozen=True)
class Scale:
    """What a token's value is in: its symbol, what 0 is, and what to read instead of one token."""

    symbol: str
    zero: str
    instead: str


IN_L = Scale("L", "the model's own neutral", "read the intervals of the landings")
IN_SD = Scale("sd", "the mean token of ordinary turns", "read the turns")
"""Over the tokens of ordinary turns."""


def token_strip(comparison: Comparison, rows: Sequence[ReplyRow], trait: str, theme: Theme = LIGHT) -> str:
    """HTML of the replies, a block per reply, one colour scale for all, user text escaped.

    Shades are in L: (projection - the model's neutral) / the model's unit, the direction and layer
    of the trait's reply_mean anchors, so that white (or black) is the model's own neutral and the
    scale is symmetric about it. Tokens without a projection are hatched. Every token carries
    data-scaffold, data-model, data-trait and data-token.
    """
    values = [token_L(comparison, row, trait) for row in rows]
    limit = scale_limit(v for reply in values for v in reply if v is not None)
    blocks = [_block(comparison, r, v, trait, limit, theme) for r, v in zip(rows, values, strict=True)]
    grid = '<div style="display:grid;grid-template-columns:repeat(auto-fit,minmax(320px,1fr));gap:0 20px">'
    style = f"background:{theme.paper};color:{theme.ink};padding:4px 0;line-height:1.9"
    body = f"{legend(trait, limit, theme)}{grid}{''.join(blocks)}</div>"
    return f'<div class="token-strip" style="{style}">{body}</div>'


def token_L(comparison: Comparison, row: ReplyRow, trait: str) -> list[float | None]:
    """Each token in units of L; None where no finite projection was stored."""
    anchor = lookup.anchors(comparison, row.model, trait, POSITION)
    raw = row.reply.projections.get(trait, ())
    out: list[float | None] = []
    for i in range(len(row.reply.tokens)):
        known = i < len(raw) and anchor.unit > 0 and isfinite(raw[i])
        out.append((raw[i] - anchor.neutral) / anchor.unit if known else None)
    return out


def scale_limit(values: Iterable[float]) -> float:
    """The end of the symmetric scale: the largest absolute value, and at least 1."""
    return max([1.0, *(abs(v) for v in values)])


def shade(value: float, limit: float, theme: Theme) -> tuple[str, str]:
    """Background and ink of a token: paper at 0, the theme's low end at -limit, high end at +limit."""
    end = theme.high if value >= 0 else theme.low
    share = min(1.0, abs(value) / limit)
    mixed = [round(p + share * (e - p)) for p, e in zip(_rgb(theme.paper), _rgb(end), strict=True)]
    bright = (0.299 * mixed[0] + 0.587 * mixed[1] + 0.114 * mixed[2]) / 255
    return "#{:02x}{:02x}{:02x}".format(*mixed), "#111111" if bright > 0.5 else "#ffffff"


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


def _block(
    comparison: Comparison,
    row: ReplyRow,
    values: Sequence[float | None],
    trait: str,
    limit: float,
    theme: Theme,
) -> str:
    colour = MODEL_COLOURS[comparison.labels.index(row.model)]
    data = {"scaffold": row.scaffold, "model": row.model, "trait": trait}
    edge = f"border-left:4px solid {colour};padding-left:8px;margin:10px 0 2px"
    head = f'<div style="{edge}"><b>{escape(row.model)}</b>'
    asked = (
        f' <span style="color:{theme.faint}">{escape(row.question)}, {escape(row.split)} split</span></div>'
    )
    return f"<div>{head}{asked}{shaded(row.reply.tokens, values, data, limit, theme)}</div>"


def shaded(
    tokens: Sequence[str], values: Sequence[float | None], data: Mapping[str, str], limit: float, theme: Theme,
    scale: Scale = IN_L,
) -> str:  # fmt: skip
    """HTML of one text, each token shaded by its value; `data` is carried by every token."""
    about = "".join(f' data-{name}="{escape(str(value))}"' for name, value in data.items())
    spans = [
        _token(token, value, i, about, limit, theme, scale)
        for i, (token, value) in enumerate(zip(tokens, values, strict=True))
    ]
    body = "".join(spans) or f'<i style="color:{theme.faint}">an empty reply</i>'
    return f'<div style="padding-left:12px;line-height:1.9;background:{theme.paper}">{body}</div>'


def _token(
    token: str, value: float | None, i: int, data: str, limit: float, theme: Theme, scale: Scale
) -> str:
    if value is None:
        stripes = f"repeating-linear-gradient(45deg,{theme.grid} 0 3px,{theme.paper} 3px 6px)"
        style, said = f"background:{stripes};color:{theme.faint}", "no projection"
    else:
        back, ink = shade(value, limit, theme)
        style, said = f"background:{back};color:{ink}", f"{scale.symbol} {value:+.2f}"
    shown = escape(token).replace("\n", "⏎<br>")
    return (
        f'<span{data} data-token="{i}" title="{said}" '
        f'style="{style};white-space:pre-wrap;padding:2px 0;border-radius:2px">{shown}</span>'
    )


def legend(trait: str, limit: float, theme: Theme, scale: Scale = IN_L) -> str:
    """The scale of the shades."""
    bar = f"linear-gradient(90deg,{theme.low},{theme.paper},{theme.high})"
    box = "display:inline-block;width:160px;height:10px;margin:0 6px;"
    box += f"border:1px solid {theme.grid};background:{bar}"
    return (
        f'<div style="font-size:12px;color:{theme.faint}">{escape(trait)} per token, in {scale.symbol}: '
        f'−{limit:.1f}<span style="{box}"></span>+{limit:.1f}; the middle is {scale.zero}. '
        f"One token is no measurement: {scale.instead}.</div>"
    )
