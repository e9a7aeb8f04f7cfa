"""Replies token by token: the trace of a trait, and the text that scrolls to a chosen token."""

from collections.abc import Mapping
from html import escape
from typing import Protocol

import plotly.graph_objects as go

from lab.figures.theme import LIGHT, MODEL_COLOURS, Theme, axis, blank, finish, reach, text
from lab.figures.tokens import IN_L, Scale, legend, scale_limit, shaded

L_NOTE = (
    "L: 0 the model's own neutral, 1 half its own pole-to-pole range; a push is part of what is read at its "
    "own layer. One reply, one seed: no interval. Click a mark to find the token below."
)
SD_NOTE = (
    "sd: of the tokens of ordinary turns; 0 is their mean, the band holds the middle 95 % of them. One reply: no "
    "interval. Click a mark to find the token below."
)


class Traced(Protocol):
    """A reply with each token's value per trait."""

    @property
    def tokens(self) -> tuple[str, ...]: ...

    @property
    def traces(self) -> Mapping[str, tuple[float, ...]]: ...


def token_trace(
    name: str, replies: Mapping[str, Traced], trait: str, theme: Theme = LIGHT, *, scale: Scale = IN_L,
    note: str = L_NOTE, band: tuple[float, float] | None = None,
) -> go.Figure:  # fmt: skip
    """One line per reply (keys are their names); every mark carries reply name and token number.

    `band`: where ordinary tokens are, in the unit of the scale.
    """
    figure = go.Figure(layout=blank(theme, f"{text(name)}: <b>{text(trait)}</b>, token by token", 200))
    longest = max([len(r.tokens) for r in replies.values()], default=0)
    if band is not None and longest:
        figure.add_trace(
            go.Scatter(
                x=[-0.5, longest - 0.5, longest - 0.5, -0.5], y=[band[0], band[0], band[1], band[1]],
                fill="toself", mode="lines", fillcolor=theme.null, line={"width": 0}, opacity=0.6,
                hoverinfo="skip", name="95 % of ordinary tokens", meta={"role": "band"},
            )
        )  # fmt: skip
    colours = (theme.faint, MODEL_COLOURS[0])[-len(replies) :]
    for colour, (words, reply) in zip(colours, replies.items(), strict=False):
        values = reply.traces[trait]
        figure.add_trace(
            go.Scatter(
                x=list(range(len(values))), y=list(values), mode="lines+markers", name=text(words),
                line={"color": colour, "width": 1.5}, marker={"size": 7}, meta={"role": words},
                customdata=[[words, k, text(token)] for k, token in enumerate(reply.tokens)],
                hovertemplate="%{customdata[2]}<br>token %{x}: " + scale.symbol + " %{y:.2f}<extra></extra>",
            )
        )  # fmt: skip
    bounds = reach([*(band or ()), *(v for r in replies.values() for v in r.traces[trait])])
    figure.update_xaxes(axis(theme, "reply token"))
    figure.update_yaxes(axis(theme, scale.symbol, range=bounds))
    finish(figure, [note] if note else [], theme, 52)
    return figure


def scrolling(
    replies: Mapping[str, Traced], trait: str, chosen: tuple[str, int] | None, theme: Theme = LIGHT,
    scale: Scale = IN_L,
) -> str:  # fmt: skip
    """A page of its own: the replies as shaded tokens, the chosen one outlined and scrolled to."""
    limit = scale_limit(v for r in replies.values() for v in r.traces[trait])
    parts = [
        f'<p style="margin:8px 0 2px"><b>{escape(words)}</b></p>'
        + shaded(r.tokens, r.traces[trait], {"reply": words}, limit, theme, scale)
        for words, r in replies.items()
    ]
    style = f"background:{theme.paper};color:{theme.ink};font:14px Inter,Helvetica,Arial,sans-serif;margin:0"
    script = ""
    if chosen is not None:
        words, token = chosen
        found = f'[data-reply="{escape(str(words))}"][data-token="{int(token)}"]'
        script = (
            f"<script>const t=document.querySelector({found!r});"
            "if(t){t.style.outline='2px solid';t.scrollIntoView({block:'center'});}</script>"
        )
    return f'<body style="{style}">{legend(trait, limit, theme, scale)}{"".join(parts)}{script}</body>'
