"""Does a direction of one model work in the other: what steering with it does, beside native and controls."""

from collections.abc import Sequence
from math import isfinite

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from lab.figures.geometry import NULL, abstention, number
from lab.figures.landing import shorten, span_words
from lab.figures.reading import interval, probability
from lab.figures.steering import CONTROL_SYMBOLS
from lab.figures.tables import table_of
from lab.figures.theme import (
    LIGHT,
    MODEL_COLOURS,
    MODEL_SYMBOLS,
    TOP,
    Theme,
    axis,
    blank,
    finish,
    reach,
    span,
    text,
)
from lab.records.geometry import Transfer, TransferBook

ROW = 56
SHIFT = 0.17
"""Native stands this much above the middle of its row, controls once and twice as much below."""
FEWEST = 5
"""Scaffolds that shuffled pairings need."""
LEGEND = 24
"""Pixels of the legend's second line."""
Way = tuple[str, str]


def ways(book: TransferBook) -> list[Way]:
    """(source, target), in the order of the run."""
    return list(dict.fromkeys((t.source, t.target) for t in book.transfers))


def traits(book: TransferBook) -> list[str]:
    """Traits whose directions were carried over."""
    return list(dict.fromkeys(t.trait for t in book.transfers))


def transfers(book: TransferBook) -> pd.DataFrame:
    """One row per trait and way: effects with intervals, controls, recovery, doses, layers; names as they are."""
    return table_of(book.transfers, Transfer)


def numbers(book: TransferBook) -> pd.DataFrame:
    """The same to be read: a row per trait and way, every effect with its interval or its null, n and split."""
    return pd.DataFrame(
        [
            {
                "trait": t.trait, "from": t.source, "into": t.target, "layers": f"{t.layer_source} → {t.layer_target}",
                "doses": f"{t.down:+g}, {t.up:+g}".replace("-", "−"), "own": _with(t.native, t.native_low, t.native_high),
                "carried": _with(t.carried, t.carried_low, t.carried_high),
                "recovery": _with(t.recovery, t.recovery_low, t.recovery_high),
                "p": f"{probability('p', t.p)}, {t.controls} maps",
                "shuffled maps, mean (95 %)": f"{number(t.permuted)} ({number(t.permuted_high)})",
                "random, mean": number(t.random), "other traits, mean": number(t.wrong), "cosine": number(t.cosine),
                "n": f"{t.n} replies, {t.questions} questions", "split": "test", "unit": t.unit, "judge": t.judge,
            }
            for t in book.transfers
        ]
    )  # fmt: skip


def _with(value: float, low: float, high: float) -> str:
    return f"{number(value)} {interval(low, high)}" if isfinite(value) else "cannot tell"


# ------------------------------------------------------------------ figure


def transfer_matrix(book: TransferBook, theme: Theme = LIGHT) -> go.Figure:
    """A panel per way, a row per trait: the effect of the target's own direction, of the carried one, of controls.

    One axis per unit: panels share it unless their judges' units differ. Recovery stands at the right.
    """
    title = "Does a direction of one model work in the other?"
    notes = _notes(book)
    if not any(isfinite(t.native) or isfinite(t.carried) for t in book.transfers):
        why = "no steered reply could be read" if book.transfers else "this run carried nothing over"
        return abstention(title, why, notes, theme)
    known, names = ways(book), traits(book)
    heads = [h for s, t in known for h in (f"from <b>{text(s)}</b> into <b>{text(t)}</b>", "")]
    figure = make_subplots(
        len(known), 2, shared_yaxes=True, column_widths=[0.75, 0.25], horizontal_spacing=0.01,
        vertical_spacing=0.24 / len(known), subplot_titles=heads,
    )  # fmt: skip
    figure.update_layout(blank(theme, title, 30 + LEGEND + len(known) * (70 + ROW * len(names))))
    one_unit = len({t.unit for t in book.transfers}) == 1
    for k, way in enumerate(known, 1):
        rows = [t for t in book.transfers if (t.source, t.target) == way]
        for trace in [*_effects(book, rows, names, theme), *_controls(rows, names, k == 1, theme)]:
            figure.add_trace(trace, k, 1)
        figure.add_trace(_numbers(rows, names, theme), k, 2)
        ends = reach([v for t in (book.transfers if one_unit else rows) for v in _all(t)])
        words = f"change of the reading  ({text(span_words(t.unit for t in rows))})"
        figure.update_xaxes(axis(theme, words, range=ends), row=k, col=1)
    figure.update_xaxes(visible=False, range=[0, 1], col=2)
    figure.update_yaxes(axis(theme, range=[len(names) - 0.45, -0.55], showgrid=False, zeroline=False))
    figure.update_yaxes(tickvals=list(range(len(names))), ticktext=[text(shorten(n)) for n in names], col=1)
    figure.update_yaxes(showline=False, col=2)
    figure.update_annotations(font={"size": 13, "color": theme.ink}, x=0, xanchor="left")
    figure.update_layout(margin={"t": TOP + LEGEND})
    finish(figure, notes, theme, 52)
    return figure


def _all(t: Transfer) -> tuple[float, ...]:
    own = (t.native, t.native_low, t.native_high, t.carried, t.carried_low, t.carried_high)
    return (*own, t.random, t.permuted, t.permuted_high, t.wrong)


def _id(t: Transfer) -> list[object]:
    doses = f"doses {t.down:+g} and {t.up:+g}; layer {t.layer_source} → {t.layer_target}".replace("-", "−")
    return [t.trait, t.source, t.target, text(t.trait), doses]


def _effects(
    book: TransferBook, rows: Sequence[Transfer], names: Sequence[str], theme: Theme
) -> list[go.Scatter]:
    """Native in the target's colour and carried in the source's, each with its interval."""
    source, target = rows[0].source, rows[0].target
    words = {"native": f"{text(target)}, its own", "carried": f"{text(source)}'s, carried over"}
    found = []
    for role, model, shift in (("native", target, -SHIFT), ("carried", source, 0.0)):
        k = book.labels.index(model)
        mine = [t for t in rows if isfinite(getattr(t, role))]
        value, low, high = ([getattr(t, f"{role}{end}") for t in mine] for end in ("", "_low", "_high"))
        bar = {
            "type": "data", "symmetric": False, "thickness": 2, "width": 0, "color": MODEL_COLOURS[k],
            "array": [h - v for h, v in zip(high, value, strict=True)],
            "arrayminus": [v - x for v, x in zip(value, low, strict=True)],
        }  # fmt: skip
        found.append(
            go.Scatter(
                x=value, y=[names.index(t.trait) + shift for t in mine], mode="markers", name=words[role],
                error_x=bar, legendgroup=f"{role} {k}", meta={"role": role}, cliponaxis=False,
                marker={"symbol": MODEL_SYMBOLS[k] + ("" if role == "native" else "-open"), "size": 11,
                        "color": MODEL_COLOURS[k], "line": {"width": 2, "color": MODEL_COLOURS[k]}},
                customdata=[[*_id(t), interval(x, h)] for t, x, h in zip(mine, low, high, strict=True)],
                hovertemplate=f"%{{customdata[3]}}, {words[role]}: %{{x:.2f}} %{{customdata[5]}}<br>%{{customdata[4]}}"
                "<extra></extra>",
            )
        )  # fmt: skip
    gaps = [t for t in rows if not (isfinite(t.native) and isfinite(t.carried))]
    if gaps:
        found.append(
            go.Scatter(
                x=[0.0] * len(gaps), y=[names.index(t.trait) for t in gaps], mode="text", showlegend=False,
                text=[_missing(t) for t in gaps], textposition="middle right", meta={"role": "gap"},
                textfont={"size": 11, "color": theme.faint}, customdata=[_id(t) for t in gaps], hoverinfo="skip",
            )
        )  # fmt: skip
    return found


def _missing(t: Transfer) -> str:
    lost = [words for words, v in (("its own", t.native), ("carried", t.carried)) if not isfinite(v)]
    return f"{' and '.join(lost)}: cannot tell"


def _controls(rows: Sequence[Transfer], names: Sequence[str], first: bool, theme: Theme) -> list[go.Scatter]:
    thin = {"width": 1.5, "color": theme.faint}
    kinds: tuple[tuple[str, str, float, dict[str, object]], ...] = (
        ("permuted_high", "shuffled maps, 95 %", SHIFT,
         {"symbol": NULL, "size": 15, "color": theme.faint, "line": {"width": 3}}),
        ("permuted", "shuffled maps, mean", SHIFT,
         {"symbol": "circle-open", "size": 7, "color": theme.faint, "line": thin}),
        ("random", "random directions", 2 * SHIFT,
         {"symbol": CONTROL_SYMBOLS["random"], "size": 8, "color": theme.faint, "line": thin}),
        ("wrong", "other traits, carried", 2 * SHIFT,
         {"symbol": CONTROL_SYMBOLS["other"], "size": 8, "color": theme.faint, "line": thin}),
    )  # fmt: skip
    found = []
    for role, words, shift, marker in kinds:
        mine = [t for t in rows if isfinite(getattr(t, role))]
        found.append(
            go.Scatter(
                x=[getattr(t, role) for t in mine], y=[names.index(t.trait) + shift for t in mine],
                mode="markers", name=words, showlegend=first, legendgroup=role, marker=marker,
                customdata=[_id(t) for t in mine], meta={"role": role}, cliponaxis=False,
                hovertemplate=f"%{{customdata[3]}}, {words}: %{{x:.2f}}<extra></extra>",
            )
        )  # fmt: skip
    return found


def _numbers(rows: Sequence[Transfer], names: Sequence[str], theme: Theme) -> go.Scatter:
    return go.Scatter(
        x=[0.0] * len(rows), y=[names.index(t.trait) for t in rows], mode="text", text=[_said(t) for t in rows],
        textposition="middle right", textfont={"size": 11, "color": theme.ink}, cliponaxis=False, showlegend=False,
        hoverinfo="skip", customdata=[_id(t) for t in rows], meta={"role": "numbers"},
    )  # fmt: skip


def _said(t: Transfer) -> str:
    tests = f"{probability('p', t.p)}, cosine {number(t.cosine)}"
    if not isfinite(t.recovery):
        return f"recovery: cannot tell<br>{tests}"
    return f"recovery {number(t.recovery)} {interval(t.recovery_low, t.recovery_high)}<br>{tests}"


# ------------------------------------------------------------------ words


def _notes(book: TransferBook) -> list[str]:
    rows = book.transfers
    units, judges = text(span_words(t.unit for t in rows)), text(span_words(t.judge for t in rows))
    lines = [
        f"Unit: {units}, read by the judge “{judges}”: the reading at the upper minus at the lower dose, "
        f"{_doses(rows)} of the site's mean residual norm, chosen on select for the target's own direction. Bars: 95 %, "
        "jackknife over questions.",
        f"Split: test; n = {span(t.n for t in rows)} replies a dose, {span(t.questions for t in rows)} questions.",
        f"Recovery: (carried − random) / (own − random); 1, as good as its own; 0, as any direction of that norm. Null, p: "
        f"{span(t.controls for t in rows)} maps fitted on shuffled pairings of the scaffolds; "
        f"{book.settings.get('controls', 'not recorded how many')} random directions. Marks of controls are "
        "means unless the legend says 95 %. Cosine: of the carried with the target's own direction.",
    ]
    few = min((t.controls for t in rows), default=0)
    if rows and 1 / (1 + few) > 0.05:
        lines.append(
            f"With {few} shuffled maps no {probability('p', 1 / (1 + few)).replace('=', 'below')} is possible."
        )
    given = book.settings.get("scaffolds")
    if isinstance(given, list | tuple) and len(given) < FEWEST:
        lines.append(f"p: {FEWEST} scaffolds are needed to shuffle their pairing, {len(given)} given.")
    if any(not isfinite(t.recovery) for t in rows):
        lines.append("Cannot tell: own and random do not differ clearly, or replies could not be read.")
    return lines


def _doses(rows: Sequence[Transfer]) -> str:
    return f"{span(t.down for t in rows)} and {span(t.up for t in rows)}".replace("-", "−")
