"""A decomposition as tables: rows out of fits, and runs on disk."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.estimators import unit
from lab.geometry.decomposition import Decomposition
from lab.records import ModelIdentity, Position
from lab.records.decomposition import (
    CausalEffect,
    DecompositionBook,
    DecompositionVerdict,
    DirectionPart,
    ExplainedShare,
    FeatureDifference,
    ShareNull,
)
from lab.shapes import Model
from lab.store import Store, readable

VERSION = 1
TABLES: dict[str, type] = {
    "shares": ExplainedShare, "nulls": ShareNull, "parts": DirectionPart, "verdicts": DecompositionVerdict,
    "differences": FeatureDifference, "causal": CausalEffect,
}  # fmt: skip
"""Names of a book's tables and what their rows are."""


def share_rows(
    trait: str, method: str, made: Decomposition, rows: Float[ndarray, "feature d_model"], test: Model, n: int
) -> list[ExplainedShare]:
    """Shares by k with what they explain of `test`, the unit direction of test questions; n: extract questions."""
    found = []
    for i, k in enumerate(made.ks):
        features, weights = made.sparse.at(k)
        again = unit(weights @ rows[features]) @ test if len(features) else np.nan
        found.append(
            ExplainedShare(
                trait, method, k, float(made.share[i]), float(made.low[i]), float(made.high[i]),
                float(max(again, 0.0)) ** 2, n,
            )
        )  # fmt: skip
    return found


def null_rows(trait: str, method: str, made: Decomposition) -> list[ShareNull]:
    """What every null reaches, by k."""
    return [
        ShareNull(
            trait, method, k, name, float(np.median(null.shares[:, i])), float(np.quantile(null.shares[:, i], 0.95)),
            float(null.p[i]), len(null.shares),
        )
        for name, null in made.nulls.items()
        for i, k in enumerate(made.ks)
    ]  # fmt: skip


def part_rows(
    trait: str, method: str, made: Decomposition, rows: Float[ndarray, "feature d_model"], direction: Model,
    told: Mapping[int, FeatureDifference],
) -> list[DirectionPart]:  # fmt: skip
    """The features at every k, each beside what encoded replies say of it (`told`)."""
    found = []
    for k in made.ks:
        for rank, (feature, weight) in enumerate(zip(*made.sparse.at(k), strict=True), 1):
            row, seen = rows[feature], told.get(int(feature))
            cosine = float(row @ direction / np.linalg.norm(row))
            part = DirectionPart(trait, method, k, rank, int(feature), float(weight), cosine)
            if seen is not None:
                beside = {"difference": seen.difference, "low": seen.low, "high": seen.high, "q": seen.q}
                part = replace(part, **beside)
            found.append(part)
    return found


def verdict_row(
    trait: str, method: str, position: Position, layer: int, made: Decomposition, ceiling: float,
    parts: Sequence[DirectionPart],
) -> DecompositionVerdict:  # fmt: skip
    """The verdict; `parts` are those whose signs are held against encoded replies."""
    clear = [p for p in parts if p.q < 0.05 and p.weight]
    agree = float(np.mean([p.weight * p.difference > 0 for p in clear])) if clear else float("nan")
    return DecompositionVerdict(
        trait, method, position, layer, made.decomposable, float(made.share.mean()), made.p,
        made.null, made.half, ceiling, agree, len(clear), made.why,
    )  # fmt: skip


# ------------------------------------------------------------------ runs


def save_decomposition(store: Store, found: DecompositionBook) -> None:
    """A run of tables, one per kind of record."""
    rows = {name: [asdict(r) for r in getattr(found, name)] for name in TABLES}
    more = {"sae": found.sae, "layer": found.layer, "settings": dict(found.settings), "version": VERSION}
    store.save_records(found.run, "decompose", [found.model], rows, more)


def load_decomposition(store: Store, run: str) -> DecompositionBook:
    """The decomposition of a finished run. LabError when it is missing, damaged or of another kind."""
    data, rows = store.load_rows(run, "decompose", tuple(TABLES))
    with readable(run):
        tables: dict[str, Any] = {n: tuple(kind(**r) for r in rows[n]) for n, kind in TABLES.items()}
        model = ModelIdentity(**data["models"][0])
        return DecompositionBook(run, model, data["sae"], data["layer"], **tables, settings=data["settings"])
