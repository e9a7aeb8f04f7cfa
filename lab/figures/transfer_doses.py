"""What each dose of a carried direction does, and what the model then says: look-ups and the dose curve."""

from collections.abc import Sequence
from math import isfinite

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.figures import lookup
from lab.figures.geometry import abstention
from lab.figures.landing import span_words
from lab.figures.reading import interval
from lab.figures.steering import CONTROL_SYMBOLS
from lab.figures.tables import table_of
from lab.figures.theme import (
    LIGHT,
    MODEL_COLOURS,
    MODEL_SYMBOLS,
    Theme,
    axis,
    blank,
    finish,
    reach,
    span,
    text,
)
from lab.figures.transfer import traits, ways
from lab.records.geometry import Transfer, TransferBook, TransferDose, TransferReply

SIDES = {"up": "upper dose", "down": "lower dose"}
KINDS = {
    "none": "no push", "native": "its own direction", "carried": "the carried direction",
    "random": "a random direction", "permuted": "carried by a shuffled map", "wrong": "another trait, carried",
}  # fmt: skip
CONTROLS = {"random": "random directions", "permuted": "shuffled maps", "wrong": "other traits, carried"}
SYMBOLS = {
    "random": CONTROL_SYMBOLS["random"],
    "permuted": "circle-open",
    "wrong": CONTROL_SYMBOLS["other"],
}
APART = 0.012
"""Controls stand this much beside their dose, so that their ranges do not cover each other."""


# ------------------------------------------------------------------ what there is


def sources(book: TransferBook) -> list[str]:
    """Models whose directions were carried over."""
    return list(dict.fromkeys(s for s, _ in ways(book)))


def transfer_of(book: TransferBook, trait: str, source: str) -> Transfer:
    """One trait carried one way. LabError for another trait or model."""
    lookup.require(trait, traits(book), "trait")
    lookup.require(source, sources(book), "model")
    return next(t for t in book.transfers if (t.trait, t.source) == (trait, source))


def doses_of(book: TransferBook, trait: str, source: str) -> list[TransferDose]:
    """What single doses did, in the order of the run. LabError as for `transfer_of`."""
    transfer_of(book, trait, source)
    return [d for d in book.doses if (d.trait, d.source) == (trait, source)]


def doses(book: TransferBook, trait: str, source: str) -> pd.DataFrame:
    """One row per kind and dose."""
    return table_of(doses_of(book, trait, source), TransferDose)


def head(reply: TransferReply) -> str:
    """What stands over a reply: the push, and which one it was of several."""
    words = KINDS[reply.kind]
    return f"{words} ({reply.draw})" if reply.draw else words


def questions(book: TransferBook) -> dict[str, str]:
    """Ids of the questions with stored replies, and what was asked."""
    return {r.question: r.asked for r in book.replies}


def replies_of(
    book: TransferBook, trait: str, source: str, side: str, question: str
) -> dict[str, list[TransferReply]]:
    """Kind to what the target said to one question, without a push and under each push of one dose (`SIDES`).

    LabError as for `transfer_of`, and for another side.
    """
    lookup.require(side, list(SIDES), "dose")
    t = transfer_of(book, trait, source)
    dose = t.up if side == "up" else t.down
    mine = [
        r for r in book.replies
        if (r.source, r.question) == (source, question) and (r.kind == "none" or (r.trait, r.dose) == (trait, dose))
    ]  # fmt: skip
    return {kind: found for kind in KINDS if (found := [r for r in mine if r.kind == kind])}


# ------------------------------------------------------------------ figure


def dose_curve(book: TransferBook, trait: str, source: str, theme: Theme = LIGHT) -> go.Figure:
    """Change of the reading, and coherence, at the lower dose, without a push and at the upper dose.

    The target's own direction and the carried one as lines, controls as marks beside their dose.
    """
    t, rows = transfer_of(book, trait, source), doses_of(book, trait, source)
    title = f"What each dose of <b>{text(trait)}</b> does in <b>{text(t.target)}</b>"
    notes = _notes(t, rows)
    if not any(isfinite(d.change) for d in rows):
        why = "no steered reply could be read" if rows else "this run kept no single doses"
        return abstention(title, why, notes, theme)
    figure = make_subplots(1, 2, horizontal_spacing=0.09, column_widths=[0.62, 0.38])
    figure.update_layout(blank(theme, title, 340))
    for kind, model in (("native", t.target), ("carried", t.source)):
        k = book.labels.index(model)
        words = f"{text(t.target)}, its own" if kind == "native" else f"{text(t.source)}'s, carried over"
        mine = [d for d in rows if d.kind in (kind, "none")]
        figure.add_trace(_line(kind, mine, "change", k, words), 1, 1)
        figure.add_trace(_line(kind, mine, "coherence", k, words), 1, 2)
    for place, kind in enumerate(CONTROLS):
        mine = [d for d in rows if d.kind == kind and isfinite(d.change)]
        if mine:
            figure.add_trace(_marks(mine, "change", kind, (place - 1) * APART, theme), 1, 1)
            figure.add_trace(_marks(mine, "coherence", kind, (place - 1) * APART, theme), 1, 2)
    doses = sorted({0.0, *(d.dose for d in rows)})
    ticks = {"tickvals": doses, "ticktext": [f"{d:g}".replace("-", "−") for d in doses]}
    push = axis(theme, "push  (mean residual norms of the site)", range=reach(doses, 0.1), **ticks)
    figure.update_xaxes(push)
    ends = reach([v for d in rows for v in (d.change, d.low, d.high)])
    unit = f"change of the reading  ({text(t.unit)})"
    figure.update_yaxes(axis(theme, unit, range=ends), col=1)
    share = axis(theme, "share that is language", range=[-0.04, 1.04], tickformat=".0%")
    figure.update_yaxes(share, col=2)
    finish(figure, notes, theme, 52)
    return figure


def _ids(rows: Sequence[TransferDose]) -> list[list[object]]:
    return [
        [d.trait, d.source, "down" if d.dose < 0 else "up", d.kind, interval(d.low, d.high), d.draws]
        for d in rows
    ]


def _line(role: str, rows: Sequence[TransferDose], name: str, k: int, words: str) -> go.Scatter:
    """Through both doses and no push; only changes have bars."""
    known = sorted((d for d in rows if isfinite(getattr(d, name))), key=lambda d: d.dose)
    style = MODEL_SYMBOLS[k] + ("" if role == "native" else "-open")
    found = go.Scatter(
        x=[d.dose for d in known], y=[getattr(d, name) for d in known], mode="lines+markers", name=words,
        line={"color": MODEL_COLOURS[k], "width": 2, "dash": "solid" if role == "native" else "dash"},
        marker={"symbol": style, "size": 10, "color": MODEL_COLOURS[k], "line": {"width": 2, "color": MODEL_COLOURS[k]}},
        customdata=_ids(known), meta={"role": f"{role} {name}"}, showlegend=name == "change", cliponaxis=False,
        hovertemplate=f"{words}, push %{{x:+g}}: %{{y:.2f}} %{{customdata[4]}}<extra></extra>",
    )  # fmt: skip
    if name == "change":
        found.error_y = {
            "type": "data", "symmetric": False, "thickness": 2, "width": 0, "color": MODEL_COLOURS[k],
            "array": [d.high - d.change for d in known], "arrayminus": [d.change - d.low for d in known],
        }  # fmt: skip
    else:
        found.hovertemplate = f"{words}, push %{{x:+g}}: %{{y:.0%}}<extra></extra>"
    return found


def _marks(rows: Sequence[TransferDose], name: str, kind: str, shift: float, theme: Theme) -> go.Scatter:
    found = go.Scatter(
        x=[d.dose + shift for d in rows], y=[getattr(d, name) for d in rows], mode="markers", name=CONTROLS[kind],
        marker={"symbol": SYMBOLS[kind], "size": 8, "color": theme.faint, "line": {"width": 1.5, "color": theme.faint}},
        customdata=_ids(rows), meta={"role": f"{kind} {name}"}, showlegend=name == "change", cliponaxis=False,
        hovertemplate=f"{CONTROLS[kind]}, mean of %{{customdata[5]}}: %{{y:.2f}}<extra></extra>",
    )  # fmt: skip
    if name == "change":
        found.error_y = {
            "type": "data", "symmetric": False, "thickness": 1.5, "width": 3, "color": theme.faint,
            "array": [d.high - d.change for d in rows], "arrayminus": [d.change - d.low for d in rows],
        }  # fmt: skip
    return found


def _notes(t: Transfer, rows: Sequence[TransferDose]) -> list[str]:
    drawn = {d.kind: d.draws for d in rows}
    sizes = ", ".join(f"{drawn[k]} {words}" for k, words in CONTROLS.items() if k in drawn) or "no controls"
    few = [f"{drawn[k]} {words}" for k, words in CONTROLS.items() if 0 < drawn.get(k, 0) < 5]
    lines = [
        f"Unit: {text(t.unit)}, read by the judge “{text(t.judge)}”; change from no push on the same questions and seeds, "
        "so 0 there. Lines: 95 %, jackknife over questions. Doses chosen on select for the own direction; layer "
        f"{t.layer_target}.",
        f"Split: test; n = {span(d.n for d in rows)} replies a dose, {t.questions} questions. Null: {sizes}; a mark is "
        "their mean, its bar what 95 % of them lie within.",
    ]
    if few:
        lines.append(f"5 draws are needed for a bar: {span_words(few)} given.")
    if any(not isfinite(d.change) for d in rows):
        lines.append("A dose without a mark: its replies could not be read.")
    return lines
