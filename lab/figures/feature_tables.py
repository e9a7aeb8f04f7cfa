"""What runs of `lab sae …` say, as tables: for CSV files and for reading."""

from collections.abc import Iterable
from math import isnan

import pandas as pd

from lab.figures.feature_words import card_of, features_of, labels_of
from lab.figures.tables import table_of
from lab.records.decomposition import (
    CausalEffect,
    DecompositionBook,
    DirectionPart,
    ExplainedShare,
    ReadoutBook,
    SegmentEffect,
    ShareNull,
    SwitchedFeature,
)
from lab.records.feature_cards import FeatureBook, FeatureLabel, FeatureSummary
from lab.records.features import SaeCard

# ------------------------------------------------------------------ dictionaries


def quality(cards: Iterable[SaeCard]) -> pd.DataFrame:
    """A row per dictionary and number with its 95 % interval over held-out texts; nothing where it could not be told."""
    rows = []
    for card in cards:
        q, o = card.quality, card.origin
        if q is None:
            continue
        where = {"dictionary": card.name}
        n = {"texts": q.texts, "tokens": q.tokens}
        rows += [
            {**where, "what": "variance explained", "value": q.explained_variance, "low": q.explained_low,
             "high": q.explained_high, **n, "reference": "0: the mean state"},
            {**where, "what": "active features per token (L0)", "value": q.l0, "low": q.l0_low, "high": q.l0_high, **n,
             "reference": f"training ended at {number(o.l0_trained)}"},
            {**where, "what": "dead features", "value": q.dead, "low": q.dead_low, "high": q.dead_high, **n,
             "reference": "none of these tokens switches them on"},
            {**where, "what": "loss recovered when spliced in", "value": q.loss_recovered, "low": q.recovered_low,
             "high": q.recovered_high, "texts": q.texts, "tokens": q.loss_tokens,
             "reference": f"nats per token ({q.loss_on}): {q.loss_clean:.3f} as it is, {q.loss_spliced:.3f} spliced, "
             f"{q.loss_ablated:.3f} mean state (0)"},
        ]  # fmt: skip
    names = ["dictionary", "what", "value", "low", "high", "texts", "tokens", "reference"]
    return pd.DataFrame(rows, columns=names)


def summaries(book: FeatureBook, saes: Iterable[str]) -> pd.DataFrame:
    """What holds of whole dictionaries: value, interval, null, n."""
    wanted = set(saes)
    found = table_of([s for s in book.summaries if s.sae in wanted], FeatureSummary)
    return found.rename(columns={"sae": "dictionary"})


def number(value: float) -> str:
    """A number, or that it is not known."""
    return "an unknown value" if isnan(value) else f"{value:.1f}"


# ------------------------------------------------------------------ cards


def histogram(book: FeatureBook, sae: str, feature: int) -> pd.DataFrame:
    """One row per bin."""
    card = card_of(book, sae, feature)
    step = card.highest / max(1, len(card.histogram))
    rows = [(sae, feature, k * step, (k + 1) * step, n) for k, n in enumerate(card.histogram)]
    return pd.DataFrame(rows, columns=["sae", "feature", "from", "to", "tokens"])


def tokens(book: FeatureBook, sae: str, feature: int) -> pd.DataFrame:
    """One row per promoted or suppressed token, with what random rows reach."""
    card = card_of(book, sae, feature)
    both = [
        *zip(card.promoted, card.promoted_logits, strict=True),
        *zip(card.suppressed, card.suppressed_logits, strict=True),
    ]
    rows = [(sae, feature, token, logit, card.promoted_null) for token, logit in both]
    return pd.DataFrame(rows, columns=["sae", "feature", "token", "logit", "null"])


def labels(book: FeatureBook, sae: str, feature: int) -> pd.DataFrame:
    """One row per trait and persona that was kept for a feature."""
    return table_of(labels_of(book, sae, feature), FeatureLabel)


def of_label(book: FeatureBook, sae: str, kind: str, label: str) -> pd.DataFrame:
    """One row per feature that was kept for a trait or a persona."""
    return table_of(features_of(book, sae, kind, label), FeatureLabel)


# ------------------------------------------------------------------ directions and scaffolds


def shares(book: DecompositionBook, trait: str) -> pd.DataFrame:
    """What k features explain of a direction, with the nulls' 95 % points."""
    own = table_of([s for s in book.shares if s.trait == trait], ExplainedShare)
    null = table_of([s for s in book.nulls if s.trait == trait], ShareNull)
    return own.merge(null, on=["trait", "method", "k"], how="left")


def parts(book: DecompositionBook, trait: str, method: str, k: int) -> pd.DataFrame:
    """The features of a direction at one k."""
    mine = [p for p in book.parts if (p.trait, p.method, p.k) == (trait, method, k)]
    return table_of(mine, DirectionPart)


def causal(book: DecompositionBook, trait: str) -> pd.DataFrame:
    """What pushing and taking out parts of a direction does."""
    return table_of([c for c in book.causal if c.trait == trait], CausalEffect)


def switched(book: ReadoutBook, scaffold: str, model: str = "") -> pd.DataFrame:
    """One row per feature that could be tested under a scaffold, of one model or of all."""
    mine = [f for f in book.features if f.scaffold == scaffold and model in ("", f.model)]
    return table_of(mine, SwitchedFeature)


def segments(book: ReadoutBook, scaffold: str, model: str) -> pd.DataFrame:
    """One row per segment and feature that the scaffold switches on."""
    mine = [s for s in book.segments if (s.scaffold, s.model) == (scaffold, model)]
    return table_of(mine, SegmentEffect)


def places(book: ReadoutBook, scaffold: str) -> pd.DataFrame:
    """How many features each model's scaffold switches on and off, and what their matches do."""
    rows = []
    for model in book.labels:
        mine = [f for f in book.features if (f.model, f.scaffold) == (model, scaffold)]
        clear = [f for f in mine if f.q < 0.05]
        row: dict[str, object] = {
            "model": model, "tested": len(mine), "switched on": sum(f.effect > 0 for f in clear),
            "switched off": sum(f.effect < 0 for f in clear),
        }  # fmt: skip
        words = ("common", "opposite", "only here", "cannot tell", "no counterpart")
        row |= {f"on, {w}": sum(f.effect > 0 and f.place == w for f in clear) for w in words}
        rows.append({**row, "questions": max((f.n for f in mine), default=0), "split": "test"})
    return pd.DataFrame(rows)
