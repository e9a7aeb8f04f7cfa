"""One feature of a sparse dictionary: what it fires on, how strongly, what it promotes, with what it goes."""

from collections.abc import Mapping, Sequence
from html import escape
from math import isfinite

import plotly.graph_objects as go

from lab.figures.feature_words import CLEAR, card_of, features_of, fires_words, labels_of
from lab.figures.geometry import abstention
from lab.figures.reading import interval, probability
from lab.figures.theme import (
    LIGHT,
    Theme,
    axis,
    blank,
    finish,
    reach,
    span,
    text,
)
from lab.figures.tokens import Scale, shaded
from lab.records.feature_cards import QUANTILES, FeatureBook, FeatureCard, FeatureLabel

MOST = 20
"""Rows of a forest."""
QUANTILE_WORDS = {
    "top": "Strongest", "90 %": "At the 90 % quantile of what is not 0", "50 %": "At its median",
}  # fmt: skip
IN_ACTIVATION = Scale("activation", "0: the feature is off", "read all of them")


# ------------------------------------------------------------------ examples


def examples(book: FeatureBook, sae: str, feature: int, theme: Theme = LIGHT) -> str:
    """HTML of the places where it fires, by quantile, each token shaded by the activation; user text escaped."""
    card = card_of(book, sae, feature)
    mine = [e for e in book.examples if (e.sae, e.feature) == (sae, feature)]
    parts = []
    for quantile in QUANTILES:
        rows = sorted((e for e in mine if e.quantile == quantile), key=lambda e: e.rank)
        if rows:
            parts.append(f'<div style="margin-top:8px"><b>{escape(QUANTILE_WORDS[quantile])}</b></div>')
        for row in rows:
            data = {"sae": sae, "feature": feature, "text": row.text}
            who = "the assistant" if row.reply else "a prompt or text"
            said = f"{row.activation:.2f}, text {row.text}, said by {who}"
            parts.append(
                f'<div style="font-size:12px;color:{theme.faint}">{said}</div>'
                + shaded(row.tokens, row.values, data, max(card.highest, 1e-9), theme, IN_ACTIVATION)
            )
    if not parts:
        parts = [f'<i style="color:{theme.faint}">It is never on in these texts.</i>']
    style = f"background:{theme.paper};color:{theme.ink};padding:4px 0"
    return f'<div class="feature-examples" style="{style}">{_scale(card, theme)}{"".join(parts)}</div>'


def _scale(card: FeatureCard, theme: Theme) -> str:
    if not card.texts:
        return ""
    bar = "display:inline-block;width:120px;height:10px;margin:0 6px;"
    bar += f"border:1px solid {theme.grid};background:linear-gradient(90deg,{theme.paper},{theme.high})"
    return (
        f'<div style="font-size:12px;color:{theme.faint}">activation: 0<span style="{bar}"></span>{card.highest:.2f}; '
        "one place per text; held-out texts</div>"
    )


# ------------------------------------------------------------------ figures


def activation_histogram(book: FeatureBook, sae: str, feature: int, theme: Theme = LIGHT) -> go.Figure:
    """How strongly it fires where it does."""
    card = card_of(book, sae, feature)
    notes = [
        f"Unit: activation; {text(fires_words(card))} Split: texts held out from the dictionary's training. No null: it is "
        "a count."
    ]
    title = f"How strongly <b>{feature}</b> fires"
    if not card.histogram:
        return abstention(title, "it is never on in these texts", notes, theme)
    step = card.highest / len(card.histogram)
    figure = go.Figure(layout=blank(theme, title, 150))
    edges = [[k * step, (k + 1) * step] for k in range(len(card.histogram))]
    figure.add_trace(
        go.Bar(
            x=[low + step / 2 for low, _ in edges], y=list(card.histogram), width=step, showlegend=False,
            marker={"color": theme.high, "line": {"width": 1, "color": theme.paper}}, customdata=edges,
            meta={"role": "histogram"},
            hovertemplate="%{customdata[0]:.2f} to %{customdata[1]:.2f}: %{y} tokens<extra></extra>",
        )
    )  # fmt: skip
    figure.update_xaxes(axis(theme, "activation", range=[0, card.highest * 1.02]))
    figure.update_yaxes(axis(theme, "tokens", rangemode="tozero"))
    finish(figure, notes, theme, 52)
    return figure


def token_bars(book: FeatureBook, sae: str, feature: int, theme: Theme = LIGHT) -> go.Figure:
    """The tokens whose logits it raises and lowers most, with what random rows reach."""
    card = card_of(book, sae, feature)
    title = f"What <b>{feature}</b> promotes"
    pairs = [
        *zip(card.promoted, card.promoted_logits, strict=True),
        *reversed(list(zip(card.suppressed, card.suppressed_logits, strict=True))),
    ]
    notes = [
        "Unit: change of the logit in nats that its mean activation makes through the last norm and the unembedding alone. "
        f"Dotted: ±{card.promoted_null:.2f}, 97.5 % of the largest for random rows of equal length with the decoder's "
        "covariance (null). No split and no interval: it is computed from the weights.",
    ]
    if not pairs:
        return abstention(title, "this run kept no tokens", notes, theme)
    figure = go.Figure(layout=blank(theme, title, 40 + 20 * len(pairs)))
    figure.add_trace(
        go.Bar(
            x=[v for _, v in pairs], y=list(range(len(pairs))), orientation="h", showlegend=False,
            marker={"color": [theme.high if v > 0 else theme.low for _, v in pairs], "line": {"width": 0}},
            customdata=[[text(repr(t))] for t, _ in pairs], meta={"role": "logit"},
            hovertemplate="%{customdata[0]}: %{x:+.2f} nats<extra></extra>",
        )
    )  # fmt: skip
    for x in (-card.promoted_null, card.promoted_null) if isfinite(card.promoted_null) else ():
        figure.add_vline(x=x, line={"color": theme.faint, "width": 1.5, "dash": "dot"})
    ticks = [text(t.replace("\n", "⏎")) or "∅" for t, _ in pairs]
    ends = [len(pairs) - 0.5, -0.5]
    places = {"tickvals": list(range(len(pairs))), "ticktext": ticks}
    figure.update_yaxes(axis(theme, range=ends, showgrid=False, zeroline=False, **places))
    bar = card.promoted_null if isfinite(card.promoted_null) else 0.0
    figure.update_xaxes(
        axis(theme, "change of the logit, nats", range=reach([*(v for _, v in pairs), bar, -bar]))
    )
    finish(figure, notes, theme, 52)
    return figure


def goes_with(book: FeatureBook, sae: str, feature: int, theme: Theme = LIGHT) -> go.Figure:
    """Traits and personas that a feature goes with."""
    card_of(book, sae, feature)
    rows = labels_of(book, sae, feature)[:MOST]
    many = len({r.source for r in book.labels}) > 1
    who = {"trait": "", "persona": ", persona"}
    ticks = [text(f"{r.label}{who[r.kind]}" + (f" ({r.source})" if many else "")) for r in rows]
    marks = [[r.kind, r.label] for r in rows]
    return _forest(f"What <b>{feature}</b> goes with", rows, ticks, marks, theme)


def label_features(
    book: FeatureBook, sae: str, kind: str, label: str, theme: Theme = LIGHT, words: Mapping[int, str] | None = None
) -> go.Figure:  # fmt: skip
    """Features that go with a trait or a persona, the clear ones first; a click says which."""
    rows = features_of(book, sae, kind, label)[:MOST]
    ticks = [text((words or {}).get(r.feature, str(r.feature))) for r in rows]
    marks = [[str(r.feature)] for r in rows]
    return _forest(f"Features that go with <b>{text(label)}</b>", rows, ticks, marks, theme)


def _forest(
    title: str, rows: Sequence[FeatureLabel], ticks: Sequence[str], marks: Sequence[Sequence[str]], theme: Theme
) -> go.Figure:  # fmt: skip
    source = ", ".join(dict.fromkeys(r.source for r in rows)) or "no labelled texts"
    notes = [
        "Unit: point-biserial correlation of the feature's mean activation over a text and the text's value "
        f"({text(source)}). n = {span(r.n for r in rows)} texts, held out from the dictionary's training; bars 95 % "
        "bootstrap over them. Null: labels permuted; filled: q < .05, Benjamini-Hochberg over the features.",
    ]
    if not rows:
        return abstention(title, "nothing is known of the speakers of these texts", notes, theme)
    figure = go.Figure(layout=blank(theme, title, 50 + 22 * max(3, len(rows))))
    figure.add_trace(
        go.Scatter(
            x=[r.r for r in rows], y=list(range(len(rows))), mode="markers", showlegend=False,
            marker={"symbol": ["circle" if r.q < CLEAR else "circle-open" for r in rows], "size": 8, "color": theme.ink},
            error_x={"type": "data", "symmetric": False, "thickness": 1.5, "width": 3, "color": theme.ink,
                     "array": [r.high - r.r for r in rows], "arrayminus": [r.r - r.low for r in rows]},
            customdata=[[*m, interval(r.low, r.high), probability("q", r.q), r.n]
                        for m, r in zip(marks, rows, strict=True)],
            text=ticks, meta={"role": "label"},
            hovertemplate="%{text}: r %{x:+.2f}<extra></extra>",
        )
    )  # fmt: skip
    ends = [max(3, len(rows)) - 0.5, -0.5]
    places = {"tickvals": list(range(len(rows))), "ticktext": list(ticks)}
    figure.update_yaxes(axis(theme, range=ends, showgrid=False, zeroline=False, **places))
    wide = reach([v for r in rows for v in (r.r, r.low, r.high)])
    figure.update_xaxes(axis(theme, "correlation", range=wide))
    finish(figure, notes, theme, 52)
    return figure
