"""Replies token by token: the trace of a trait, and the text that scrolls to a chosen token."""

from collections.abc import Mapping
from html import escape
from typing import Protocol

import plotly.graph_objects as go

from lab.figures.theme import LIGHT, MODEL_COLOURS, Theme, axis, blank, finish, reach, text
from lab.figures.tokens import legend, scale_limit, shaded


class Traced(Protocol):
    """A reply with each token's value per trait, in L."""

    @property
    def tokens(self) -> tuple[str, ...]: ...

    @property
    def traces(self) -> Mapping[str, tuple[float, ...]]: ...


def token_trace(name: str, replies: Mapping[str, Traced], trait: str, theme: Theme = LIGHT) -> go.Figure:
    """One line per reply (keys are their names); every mark carries reply name and token number."""
    figure = go.Figure(layout=blank(theme, f"{text(name)}: <b>{text(trait)}</b>, token by token", 200))
    for colour, (words, reply) in zip((theme.faint, MODEL_COLOURS[0]), replies.items(), strict=False):
        values = reply.traces[trait]
        figure.add_trace(
            go.Scatter(
                x=list(range(len(values))), y=list(values), mode="lines+markers", name=text(words),
                line={"color": colour, "width": 1.5}, marker={"size": 7}, meta={"role": words},
                customdata=[[words, k, text(token)] for k, token in enumerate(reply.tokens)],
                hovertemplate="%{customdata[2]}<br>token %{x}: L %{y:.2f}<extra></extra>",
            )
        )  # fmt: skip
    bounds = reach([v for r in replies.values() for v in r.traces[trait]])
    figure.update_xaxes(axis(theme, "reply token"))
    figure.update_yaxes(axis(theme, "L", range=bounds))
    note = (
        "L: 0 the model's own neutral, 1 half its own pole-to-pole range; a push is part of what is read at its "
        "own layer. One reply, one seed: no interval. Click a mark to find the token below."
    )
    finish(figure, [note], theme, 52)
    return figure


def scrolling(
    replies: Mapping[str, Traced], trait: str, chosen: tuple[str, int] | None, theme: Theme = LIGHT
) -> str:
    """A page of its own: the replies as shaded tokens, the chosen one outlined and scrolled to."""
    limit = scale_limit(v for r in replies.values() for v in r.traces[trait])
    parts = [
        f'<p style="margin:8px 0 2px"><b>{escape(words)}</b></p>'
        + shaded(r.tokens, r.traces[trait], {"reply": words}, limit, theme)
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
    return f'<body style="{style}">{legend(trait, limit, theme)}{"".join(parts)}{script}</body>'
