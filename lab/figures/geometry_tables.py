"""The numbers behind the pictures of a geometry run, one row per record; user text as it is."""

from collections.abc import Sequence

import pandas as pd

from lab.figures import lookup
from lab.figures.dissimilarities import matrices
from lab.figures.geometry import positions, scaffolds, similarity_of, traits
from lab.figures.multiverse import recipes
from lab.figures.shared import agreement_of, shared_of
from lab.figures.tables import table_of
from lab.records import Position
from lab.records.geometry import GeometryBook, MultiverseCell, PlacedLanding
from lab.records.maps import LandingAgreement, MapScore, Share, SharedPoint
from lab.records.similarity import Beside, Dissimilarity, GridCell, Similarity, UntrainedControl


def similarities(book: GeometryBook) -> pd.DataFrame:
    """One row per place and measure: value, null, ceiling and why not."""
    rows = [(p, s) for p in positions(book) for s in book.at(p).similarities]
    table = table_of([s for _, s in rows], Similarity)
    table.insert(0, "position", pd.Series([p for p, _ in rows], dtype=object))
    return table


def prepared(book: GeometryBook) -> pd.DataFrame:
    """One row per place, measure and preparation of the states, the plain one among them."""
    rows = [(p, s) for p in positions(book) for s in (*book.at(p).similarities, *book.at(p).prepared)]
    table = table_of([s for _, s in rows], Similarity)
    table.insert(0, "position", pd.Series([p for p, _ in rows], dtype=object))
    return table.sort_values(["position", "measure"], kind="stable", ignore_index=True)


def untrained(book: GeometryBook) -> pd.DataFrame:
    """One row per place and measure or map: the two models beside untrained networks on the same texts."""
    rows = [(p, u) for p in positions(book) for u in book.at(p).untrained]
    table = table_of([u for _, u in rows], UntrainedControl)
    table.insert(0, "position", pd.Series([p for p, _ in rows], dtype=object))
    return table


def beside(rows: Sequence[Beside]) -> pd.DataFrame:
    """One row per place and measure, with the verdict in words."""
    table = table_of(rows, Beside)
    table["verdict"] = [r.verdict for r in rows]
    return table


def grid(book: GeometryBook, position: Position, measure: str) -> pd.DataFrame:
    """One row per pair of layers, with the null of the largest cell and whether the pair was chosen."""
    s = similarity_of(book, position, measure)
    table = table_of([c for c in book.at(position).cells if c.measure == measure], GridCell)
    table["max_high"] = s.max_high
    table["chosen"] = (table["layer_a"] == s.layer_a) & (table["layer_b"] == s.layer_b)
    return table


def dissimilarities(book: GeometryBook, position: Position, measure: str | None = None) -> pd.DataFrame:
    """One row per pair of scaffolds: distance and rank in A and in B, and rank in A − rank in B."""
    s, a, b = matrices(book, position, measure)
    pair = ["scaffold_a", "scaffold_b"]
    left, right = (table_of(x, Dissimilarity).set_index(pair)[["value", "rank"]] for x in (a, b))
    both = left.add_prefix(f"{s.model_a}: ").join(right.add_prefix(f"{s.model_b}: "), how="outer")
    both["rank difference"] = left["rank"] - right["rank"]
    return both.reset_index()


def maps(book: GeometryBook, position: Position) -> pd.DataFrame:
    """One row per method and direction."""
    return table_of(book.at(position).maps, MapScore)


def shared(book: GeometryBook, position: Position, source: str) -> pd.DataFrame:
    """One row per landing in the plane of the other model; `carried` are those of `source`."""
    found, _ = shared_of(book, position, source)
    table = table_of(found.points if found else (), SharedPoint)
    table["carried"] = table["model"] == source
    return table


def shares(book: GeometryBook, position: Position) -> pd.DataFrame:
    """One row per trait and source of variance."""
    return table_of(book.at(position).shares, Share)


def agreements(book: GeometryBook, position: Position) -> pd.DataFrame:
    """One row per trait."""
    return table_of(book.at(position).agreements, LandingAgreement)


def multiverse(book: GeometryBook, trait: str) -> pd.DataFrame:
    """One row per recipe, the reported one last; NaN where a model has no unit by it."""
    grid, reported = recipes(book, trait)
    return table_of([*grid, *([reported] if reported else [])], MultiverseCell)


def landings(book: GeometryBook, position: Position, trait: str) -> pd.DataFrame:
    """One row per scaffold: L in each model, and what agreement says of the trait."""
    found = agreement_of(book, position, trait)
    rows = [_row(book, position, trait, s) for s in scaffolds(book)]
    said = {
        f: getattr(found, f) if found else None
        for f in ("r", "low", "high", "p", "null_high", "ceiling", "why")
    }
    return pd.DataFrame([{**row, **said} for row in rows])


def scaffold(book: GeometryBook, position: Position, name: str) -> pd.DataFrame:
    """One row per trait: where one scaffold lands in each model. LabError for another scaffold."""
    lookup.require(name, scaffolds(book), "scaffold")
    return pd.DataFrame([_row(book, position, trait, name) for trait in traits(book)])


def _row(book: GeometryBook, position: Position, trait: str, name: str) -> dict[str, object]:
    mine: list[PlacedLanding] = [
        x for x in book.landings if (x.position, x.trait, x.scaffold) == (position, trait, name)
    ]
    values = {x.model: x.L for x in mine}
    row: dict[str, object] = {"scaffold": name, "trait": trait}
    for label in book.labels[:2]:
        row[f"L in {label}"] = values.get(label, float("nan"))
    a, b = (values.get(label, float("nan")) for label in book.labels[:2])
    return {**row, "A − B": a - b}
