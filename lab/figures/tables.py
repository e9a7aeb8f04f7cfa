"""What a run says as tables, one row per record, for CSV files and for reading."""

from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from lab.figures import lookup
from lab.records import Comparison, Interaction, Landing, LayerScore, NoiseFloor, Position, ReplyRow
from lab.records.cards import (
    ElicitationTransfer,
    PoleReply,
    RecipeAgreement,
    RemovedReply,
    TraitBook,
    TraitCard,
)
from lab.records.personas import PersonaMap, RoleLanding, RoleReply
from lab.records.steering import CapRow, DoseRow, PoolingDose, ReleaseRow, Steering


def table_of(records: Sequence[object], kind: type) -> pd.DataFrame:
    """One row per record, with the columns of its kind also where there is none."""
    columns = list(kind.__dataclass_fields__)
    return pd.DataFrame([asdict(x) for x in records], columns=columns)  # type: ignore[call-overload]


def roles(found: PersonaMap) -> pd.DataFrame:
    """One row per model and role: place along and across the axis; the assistant's end first."""
    order: list[RoleLanding] = sorted(found.landings, key=lambda r: (r.model, -r.loading))
    return table_of(order, RoleLanding)


def role_replies(replies: Sequence[RoleReply]) -> pd.DataFrame:
    """One row per test reply of one row of a persona map, the assistant's end first."""
    order = sorted(replies, key=lambda r: (r.loading != r.loading, -r.loading))
    return table_of(order, RoleReply).reindex(columns=["loading", "question", "text", "system"])


def landings(comparison: Comparison) -> pd.DataFrame:
    """One row per model, scaffold, wording (-1: their mean), trait and position."""
    return table_of(comparison.landings, Landing)


def interactions(comparison: Comparison) -> pd.DataFrame:
    """One row per scaffold, trait and position: D with interval, p and q."""
    return table_of(comparison.interactions, Interaction)


def noise_floor(comparison: Comparison) -> pd.DataFrame:
    """One row per model, trait and position: what rewording does to L."""
    return table_of(comparison.noise_floor, NoiseFloor)


def depth(comparison: Comparison) -> pd.DataFrame:
    """One row per model, trait, position and layer: separation of the poles, with its null."""
    return table_of(comparison.depth, LayerScore)


def summary(comparison: Comparison, trait: str, position: Position) -> pd.DataFrame:
    """One row per scaffold: L of every model with interval and null band, then D, p, q and n."""
    rows = []
    for scaffold in lookup.scaffolds(comparison):
        row: dict[str, object] = {"scaffold": scaffold, "trait": trait, "position": position}
        for label in comparison.labels:
            x, _ = lookup.landing(comparison, label, scaffold, trait, position)
            for field in ("L", "low", "high", "null_low", "null_high", "n", "split"):
                row[f"{label}: {field}"] = None if x is None else getattr(x, field)
        d = lookup.interaction(comparison, scaffold, trait, position)
        for field in ("D", "low", "high", "p", "q", "n"):
            row[field if field == "D" else f"D: {field}"] = None if d is None else getattr(d, field)
        row["noise floor"] = lookup.floor(comparison, trait, position)
        rows.append(row)
    return pd.DataFrame(rows)


def profile(comparison: Comparison, scaffold: str, position: Position) -> pd.DataFrame:
    """The summary rows of one scaffold, one per trait."""
    parts = [summary(comparison, trait, position) for trait in lookup.traits(comparison)]
    whole = pd.concat(parts, ignore_index=True)
    return whole.loc[whole["scaffold"] == scaffold, :].reset_index(drop=True)


def tokens(rows: Sequence[ReplyRow], trait: str) -> pd.DataFrame:
    """One row per token of each reply with its raw projection (NaN where none was stored)."""
    out = []
    for row in rows:
        values = row.reply.projections.get(trait, ())
        for i, token in enumerate(row.reply.tokens):
            value = values[i] if i < len(values) else float("nan")
            out.append((row.model, row.scaffold, row.paraphrase, row.question, i, token, value))
    names = ["model", "scaffold", "paraphrase", "question", "token_index", "token", "projection"]
    return pd.DataFrame(out, columns=names)


def doses(found: Steering, trait: str | None = None) -> pd.DataFrame:
    """One row per condition and trait read; of one pushed trait, or of all."""
    table = table_of(found.doses, DoseRow)
    return table if trait is None else table.loc[table["steered"] == trait, :].reset_index(drop=True)


def poolings(found: Steering, trait: str) -> pd.DataFrame:
    """One row per pooling of a trait's direction: how well it steers on *select*."""
    return table_of([p for p in found.poolings if p.trait == trait], PoolingDose)


def caps(found: Steering) -> pd.DataFrame:
    """One row per trait, edit, threshold and condition."""
    return table_of(found.caps, CapRow)


def releases(found: Steering, trait: str) -> pd.DataFrame:
    """One row per dose and token."""
    table = table_of(found.releases, ReleaseRow)
    return table.loc[table["trait"] == trait, :].reset_index(drop=True)


def cards(book: TraitBook, trait: str | None = None) -> pd.DataFrame:
    """One row per trait and recipe; of one trait, or the selected recipe of every trait."""
    rows = [c for c in book.cards if (c.trait == trait if trait else c.selected)]
    return table_of(rows, TraitCard)


def transfers(book: TraitBook, trait: str) -> pd.DataFrame:
    """How each elicitation's direction reads what the other brings out, on *test*."""
    return table_of([t for t in book.transfers if t.trait == trait], ElicitationTransfer)


def removed(book: TraitBook, trait: str) -> pd.DataFrame:
    """The replies that a filter took out before directions of a trait were made, and why."""
    return table_of([r for r in book.removed if r.trait == trait], RemovedReply)


def pole_replies(book: TraitBook, trait: str) -> pd.DataFrame:
    """Test replies of a trait, the highest place first."""
    mine = sorted((r for r in book.replies if r.trait == trait), key=lambda r: -r.place)
    return table_of(mine, PoleReply)


def agreements(book: TraitBook, trait: str) -> pd.DataFrame:
    """One row per pair of recipes."""
    return table_of([a for a in book.agreements if a.trait == trait], RecipeAgreement)


def depth_of_traits(book: TraitBook, trait: str) -> pd.DataFrame:
    """One row per pooling and layer."""
    return table_of([s for s in book.depth if s.trait == trait], LayerScore)
