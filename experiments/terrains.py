"""Do two models share the geometry in which scaffolds lie, and is what they do not share more than a seed's?

Question. The same 21 scaffolds in hearth-a and in four others: hearth-b (another architecture, width, depth,
tokenizer and seed), hearth-a2 (another seed of the same recipe), hearth-a-next (trained on on another diet,
9 % of the weights' norm moved), hearth-a-moe (eight half-sized experts made of each MLP, trained on).

Predictions. (1) hearth-a and hearth-b are as alike as two seeds: debiased CKA and RSA of the pair reach the
lower limit of the seed pair's. (2) The next version is more alike than another seed: intervals of CKA apart.
(3) The mixture of experts lies between these two. (4) In every pair and on every trait the scaffold explains
more of the variance of landings than the weights and scaffold x weights together.
When this was written, (1), (2) and (4) had been seen on these very pairs, (3) and hearth-a-moe had not.

Verdict rule. As the sentences say, by the values over the replies; an interval is over questions with these
scaffolds fixed.

Run: python experiments/terrains.py [--runs runs] [--figures FOLDER]     (ten minutes a pair the first time)
"""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lab.figures import controls, dissimilarities, geometry, geometry_tables, scores, shared
from lab.figures.export import export
from lab.pipelines.compare import shipped_scaffolds
from lab.pipelines.geometry import GeometryConfig
from lab.pipelines.geometry import geometry as compare
from lab.records import Position
from lab.records.geometry import GeometryBook, Place
from lab.store import Store


@dataclass(frozen=True)
class Config:
    """Whom to hold against whom."""

    first: str = "hearth-a"
    others: tuple[str, ...] = ("hearth-b", "hearth-a2", "hearth-a-next", "hearth-a-moe")
    position: Position = "reply_mean"
    runs: Path = Path("runs")
    figures: Path | None = None


def row(name: str, place: Place) -> dict[str, object]:
    """One pair in numbers."""
    cka, rsa = place.similarities[:2]
    ridge = next(m for m in place.maps if m.method == "ridge")
    shares = {(s.trait, s.source): s.share for s in place.shares}
    traits = list(dict.fromkeys(s.trait for s in place.shares))
    return {
        "with": name, "cka": cka.value, "cka_low": cka.low, "cka_high": cka.high, "cka_ceiling": cka.ceiling,
        "rsa": rsa.value, "rsa_low": rsa.low, "rsa_high": rsa.high, "map_r2": ridge.r2, "map_ceiling": ridge.ceiling,
        "found": ridge.retrieval,
        **{f"{kind} {t}": shares[t, kind] for t in traits for kind in ("scaffold", "weights", "scaffold x weights")},
    }  # fmt: skip


def verdicts(table: pd.DataFrame) -> list[str]:
    """The verdict rule, in words; a pair that was not run is not judged."""
    at = {str(r["with"]): r for r in table.to_dict("records")}
    found: list[tuple[str, bool]] = []
    seed, twin = at.get("hearth-a2"), at.get("hearth-a-next")
    if seed and (other := at.get("hearth-b")):
        alike = other["cka"] >= seed["cka_low"] and other["rsa"] >= seed["rsa_low"]
        found.append(("(1) another architecture is as alike as another seed", alike))
    if seed and twin:
        found.append(
            ("(2) the next version is more alike than another seed", twin["cka_low"] > seed["cka_high"])
        )
        if mixed := at.get("hearth-a-moe"):
            between = seed["cka"] < mixed["cka"] < twin["cka"]
            found.append(("(3) the mixture of experts lies between them", between))
    traits = [
        str(c).removeprefix("scaffold ")
        for c in table
        if str(c).startswith("scaffold ") and " x " not in str(c)
    ]
    more = all(
        r[f"scaffold {t}"] > r[f"weights {t}"] + r[f"scaffold x weights {t}"]
        for r in at.values()
        for t in traits
    )
    found.append(("(4) the scaffold explains more than weights and scaffold x weights", more))
    return [f"{what}: {'supported' if holds else 'refuted'}" for what, holds in found]


def draw(book: GeometryBook, position: Position, folder: Path) -> None:
    """Every figure of the pair, with its numbers and its origin."""
    measure = geometry.measures(book, position)[0]
    source, target = book.labels
    pictures: Mapping[str, tuple[Callable[[], Any], pd.DataFrame]] = {
        "layers": (lambda: geometry.layer_grid(book, position, measure), geometry_tables.grid(book, position, measure)),
        "dissimilarities": (
            lambda: dissimilarities.dissimilarities(book, position), geometry_tables.dissimilarities(book, position),
        ),
        "maps": (lambda: scores.map_scores(book, position), geometry_tables.maps(book, position)),
        "shared": (
            lambda: shared.shared_map(book, position, source), geometry_tables.shared(book, position, source),
        ),
        "shares": (lambda: scores.variance_shares(book, position), geometry_tables.shares(book, position)),
        "controls": (lambda: controls.controls_strip(book), geometry_tables.similarities(book)),
    }  # fmt: skip
    origin = {"run": book.run, "models": [asdict(m) for m in book.models], "settings": dict(book.settings)}
    for name, (make, table) in pictures.items():
        export(make(), folder / target, name, table, {**origin, "figure": name})


def main(config: Config) -> pd.DataFrame:
    """One row per pair; figures where they are asked for."""
    rows = []
    for other in config.others:
        book = compare(
            GeometryConfig((config.first, other), tuple(shipped_scaffolds())), Store(config.runs),
            lambda stage, part, other=other: print(f"\r{other}: {part:4.0%} {stage:40}", end="", flush=True),
        )  # fmt: skip
        rows.append(row(other, book.at(config.position)))
        if config.figures is not None:
            draw(book, config.position, config.figures)
    table = pd.DataFrame(rows)
    print(f"\n{table.round(3).T.to_string(header=False)}")
    print("\n".join(verdicts(table)))
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("others", nargs="*", default=Config.others)
    parser.add_argument("--runs", type=Path, default=Config.runs)
    parser.add_argument("--figures", type=Path)
    asked = parser.parse_args()
    main(Config(others=tuple(asked.others), runs=asked.runs, figures=asked.figures))
