"""What a scaffold does to matched features of two models: change in one against change in the other."""

from dataclasses import asdict, dataclass
from math import isfinite

import pandas as pd
import plotly.graph_objects as go

from lab.figures import lookup
from lab.figures.feature_words import CLEAR, stability
from lab.figures.geometry import abstention
from lab.figures.reading import interval, probability
from lab.figures.theme import LIGHT, Theme, axis, blank, finish, reach, span, text
from lab.records.decomposition import ReadoutBook, SwitchedFeature
from lab.records.feature_cards import FeatureBook

SYMBOLS = {
    "clear in both": "circle", "clear in the first": "square", "clear in the second": "diamond",
    "clear in neither": "circle-open",
}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """A feature of the first model with its match in the second, and what a scaffold does to both.

    x, y: change of activation (`SwitchedFeature.effect`) with 95 % intervals and q; r: correlation of the two features at
    the words of texts that had no part in matching, with interval and q; recurs: whether the first one comes back in
    another seed of its dictionary, in words; n: questions.
    """

    feature: int
    match: int
    x: float
    x_low: float
    x_high: float
    x_q: float
    y: float
    y_low: float
    y_high: float
    y_q: float
    r: float
    r_low: float
    r_high: float
    r_q: float
    recurs: str
    n: int

    @property
    def clear(self) -> str:
        """Where the change is no chance."""
        here, there = self.x_q < CLEAR, self.y_q < CLEAR
        both = {(True, True): "both", (True, False): "the first", (False, True): "the second"}
        return f"clear in {both.get((here, there), 'neither')}"


def pairs(book: FeatureBook, read: ReadoutBook, scaffold: str) -> tuple[list[Pair], int]:
    """Matched features (q < .05) that a scaffold could be tested on in both models, and how many it could not.

    LabError for another scaffold, and where the readout is not of both dictionaries of the run.
    """
    lookup.require(scaffold, read.scaffolds, "scaffold")
    for sae in book.saes:
        lookup.require(sae, read.saes, "dictionary")
    one, other = (_effects(read, read.saes.index(sae), scaffold) for sae in book.saes)
    found, lost = [], 0
    for t in book.twins:
        if (t.relation, t.sae, t.other) != ("model", *book.saes) or t.twin < 0 or not t.q < CLEAR:
            continue
        a, b = one.get(t.feature), other.get(t.twin)
        if a is None or b is None:
            lost += 1
            continue
        recurs = stability(book, book.saes[0], t.feature)[0]
        found.append(
            Pair(
                t.feature, t.twin, a.effect, a.low / a.unit, a.high / a.unit, a.q, b.effect, b.low / b.unit,
                b.high / b.unit, b.q, t.r, t.low, t.high, t.q, recurs, min(a.n, b.n),
            )
        )  # fmt: skip
    return found, lost


def _effects(read: ReadoutBook, side: int, scaffold: str) -> dict[int, SwitchedFeature]:
    wanted = (read.labels[side], scaffold)
    return {f.feature: f for f in read.features if (f.model, f.scaffold) == wanted}


def table(book: FeatureBook, read: ReadoutBook, scaffold: str) -> pd.DataFrame:
    """One row per pair."""
    rows = [{**asdict(p), "clear": p.clear} for p in pairs(book, read, scaffold)[0]]
    return pd.DataFrame(rows, columns=[*Pair.__dataclass_fields__, "clear"])


def feature_scatter(book: FeatureBook, read: ReadoutBook, scaffold: str, theme: Theme = LIGHT) -> go.Figure:
    """A dot per matched pair, coloured by how good the match is; a mark carries both features."""
    found, lost = pairs(book, read, scaffold)
    a, b = (read.labels[read.saes.index(sae)] for sae in book.saes)
    title = f"What <b>{text(scaffold)}</b> does to matched features"
    notes = _notes(book, found, lost)
    if not found:
        return abstention(
            title, "no feature is matched that differs from neutral in both models", notes, theme
        )
    figure = go.Figure(layout=blank(theme, title, 460))
    wide = reach([v for p in found for v in (p.x, p.y)], 0.05)
    figure.add_trace(
        go.Scatter(
            x=wide, y=wide, mode="lines", line={"color": theme.faint, "width": 1, "dash": "dot"}, hoverinfo="skip",
            name="the same in both", meta={"role": "identity"},
        )
    )  # fmt: skip
    first = True
    for clear in SYMBOLS:
        mine = [p for p in found if p.clear == clear]
        if mine:
            figure.add_trace(_dots(mine, clear, first, theme))
            first = False
    figure.update_xaxes(axis(theme, f"change of activation in {text(a)}", range=wide))
    figure.update_yaxes(axis(theme, f"change of activation in {text(b)}", range=wide))
    finish(figure, notes, theme, 52)
    return figure


def _dots(rows: list[Pair], clear: str, first: bool, theme: Theme) -> go.Scatter:
    faint = clear == "clear in neither"
    return go.Scatter(
        x=[p.x for p in rows], y=[p.y for p in rows], mode="markers", name=f"{clear} ({len(rows)})",
        marker={
            "symbol": SYMBOLS[clear], "size": 6 if faint else 9, "color": [p.r for p in rows], "cmin": 0, "cmax": 1,
            "colorscale": [[0, theme.null], [1, theme.high]],
            "line": {"width": 1 if faint else 0.5, "color": theme.ink},
            "showscale": first, "colorbar": {"title": {"text": "match r"}, "thickness": 10, "len": 0.8},
            "opacity": 0.5 if faint else 1,
        },
        customdata=[[str(p.feature), str(p.match), *_said(p)] for p in rows], meta={"role": "pair", "clear": clear},
        hovertemplate="%{customdata[0]} here %{x:+.3f} %{customdata[2]}<br>%{customdata[1]} there %{y:+.3f} "
        "%{customdata[3]}<br>match %{customdata[4]}<br>in another seed: %{customdata[5]}<extra></extra>",
    )  # fmt: skip


def _said(p: Pair) -> list[str]:
    return [
        f"{interval(p.x_low, p.x_high)}, {probability('q', p.x_q)}",
        f"{interval(p.y_low, p.y_high)}, {probability('q', p.y_q)}",
        f"r {p.r:.2f} {interval(p.r_low, p.r_high)}", p.recurs,
    ]  # fmt: skip


def _notes(book: FeatureBook, found: list[Pair], lost: int) -> list[str]:
    told = [p for p in book.twins if p.relation == "model" and p.sae == book.saes[0] and isfinite(p.r)]
    return [
        "Unit: mean activation over a reply's tokens, under the scaffold minus without, in the feature's own mean "
        f"activation where it is on. Split: test; n = {span(p.n for p in found)} questions. Clear: q < .05; null: signs of "
        "the questions' differences flipped, Benjamini-Hochberg over the features of a model. Not clear is not unchanged. "
        "Intervals (95 %, over questions) are at the marks.",
        f"Pairs: {len(found)} of {len(told)} features of {text(book.saes[0])} whose nearest in {text(book.saes[1])} fires "
        "on the same words for more than chance (q < .05; null: words of other texts), matched on one half of the texts; "
        f"colour: correlation on the other half. {lost} more pairs differ from neutral on fewer than 5 questions in one of "
        "the models.",
    ]
