"""Two models under the same scaffolds: do their geometries agree, and does one map onto the other?

Replies to the questions of all splits under every scaffold and paraphrase, generated once (the test replies
are those of `lab compare`). Layers are chosen on *select*, maps fitted on *extract* and *select*, everything
is reported on *test*; statistics are those of `lab.geometry`.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from lab.geometry.cka import CKA
from lab.geometry.maps import METHODS, map_scores, ridge, shared_map
from lab.geometry.neighbours import neighbours
from lab.geometry.rsa import RSA
from lab.geometry.shares import agreement, shares
from lab.geometry.similarity import NO_LAYER, compare
from lab.landing import Projections, landing_cells
from lab.pipelines.compare import (
    POSITIONS,
    CompareConfig,
    Landed,
    Progress,
    check,
    labels_of,
    land_side,
    resolve_model,
    resolve_trait_set,
)
from lab.pipelines.multiverse import multiverse
from lab.pipelines.replies import Measured, Runner, scaffold_jobs
from lab.records import ModelIdentity, Position, ScaffoldFile, Split, TraitSet
from lab.records.geometry import GeometryBook, MultiverseCell, Place, PlacedLanding, StateGrid
from lab.records.maps import LandingAgreement, MapScore, Share, SharedMap, SharedPoint
from lab.records.similarity import Dissimilarity, GridCell, Similarity
from lab.store import Store, content_key, readable

if TYPE_CHECKING:
    from lab.models import LoadedModel

TRAIN: tuple[Split, ...] = ("extract", "select")
MEASURES = (CKA, RSA, neighbours(3), neighbours(5))
_TABLES: dict[str, type] = {
    "similarities": Similarity, "cells": GridCell, "dissimilarities": Dissimilarity, "maps": MapScore,
    "shares": Share, "agreements": LandingAgreement,
}  # fmt: skip
Pair = tuple[StateGrid, StateGrid]


@dataclass(frozen=True)
class GeometryConfig:
    """What to compare and how hard to look."""

    models: tuple[str, ...]
    scaffolds: tuple[ScaffoldFile, ...]
    trait_set: str = "auto"
    dtype: str = "float32"
    seed: int = 0
    max_new_tokens: int = 40
    permutations: int = 999
    """Relabelings of the scaffolds for similarities and shares."""
    pairings: int = 100
    """Random pairings of the scaffolds that every map is fitted again for."""

    @property
    def base(self) -> CompareConfig:
        """The comparison whose test replies these are."""
        return CompareConfig(
            self.models, self.scaffolds, self.trait_set, self.dtype, self.seed, self.max_new_tokens
        )


def geometry(config: GeometryConfig, store: Store, progress: Progress) -> GeometryBook:
    """Run (or find) the comparison of two models' geometry. LabError for what the user can mend."""
    models, traits = load_pair(config, progress)
    run = "geometry-" + run_key("geometry-2", config, models, traits)
    if store.has(run):
        progress("found a finished run", 1.0)
        return load_geometry(store, run)
    sides = measure_sides(config, models, traits, store, lambda stage, x: progress(stage, 0.02 + 0.78 * x))
    places = []
    for k, position in enumerate(POSITIONS):
        progress(f"statistics, {position}", 0.8 + 0.1 * k)
        places.append(_place(config, traits, sides, position, np.random.default_rng([config.seed, 8, k])))
    landings = [row for side in sides for row in _landings(side)]
    found = GeometryBook(
        run, tuple(s.identity for s in sides), tuple(s.label for s in sides), tuple(places), tuple(landings),
        settings_of(config, traits), multiverse([s.landed for s in sides], [t.name for t in traits.traits]),
    )  # fmt: skip
    save_geometry(store, found)
    progress("done", 1.0)
    return found


def load_pair(config: GeometryConfig, progress: Progress) -> tuple[list["LoadedModel"], TraitSet]:
    """Both models and the trait set. LabError for what the user can mend."""
    check(config.base)
    progress("loading models", 0.0)
    from lab.models import load

    models = [load(resolve_model(name), config.dtype) for name in config.models]
    return models, resolve_trait_set(config.trait_set, models)


def run_key(kind: str, config: GeometryConfig, models: Sequence["LoadedModel"], traits: TraitSet) -> str:
    """A key of everything that the result depends on."""
    settings = {k: v for k, v in asdict(config).items() if k not in ("models", "trait_set")}
    return content_key(kind, [m.identity.fingerprint for m in models], settings, asdict(traits))[:10]


def settings_of(config: GeometryConfig, traits: TraitSet) -> dict[str, object]:
    """What a saved run says of how it was made."""
    return {
        **{k: v for k, v in asdict(config).items() if k not in ("models", "scaffolds", "trait_set")},
        "trait_set": traits.name, "traits": [t.name for t in traits.traits],
        "scaffolds": [s.name for s in config.scaffolds],
        "questions": {s: len(traits.of(s)) for s in get_args(Split)},
    }  # fmt: skip


# ------------------------------------------------------------------ states


@dataclass(frozen=True)
class Side:
    """One model with its test replies, and the training replies under the scaffolds, by split."""

    label: str
    identity: ModelIdentity
    landed: Landed
    training: dict[Split, list[Measured]]


def measure_sides(
    config: GeometryConfig, models: Sequence["LoadedModel"], traits: TraitSet, store: Store,
    progress: Progress,
) -> list[Side]:  # fmt: skip
    """Replies of both models to everything; from the cache where they are there."""
    each = sum(len(s.paraphrases) for s in config.scaffolds) * len(traits.questions)
    each += 2 * len(traits.traits) * len(traits.questions) + 2 * len(traits.of("test"))
    done, sides = 0, []
    for stream, (label, model) in enumerate(zip(labels_of(models), models, strict=True)):

        def tick(n: int, label: str = label) -> None:
            nonlocal done
            done += n
            progress(f"replies of {label}", min(1.0, done / (2 * each)))

        runner = Runner(model, config.base, store, stream, tick)
        landed = land_side(label, model, traits, config.base, runner, stream)
        sides.append(Side(label, model.identity, landed, _training(config, traits, runner)))
    return sides


def _training(config: GeometryConfig, traits: TraitSet, runner: Runner) -> dict[Split, list[Measured]]:
    return {
        split: runner.measure([scaffold_jobs(traits, s, split) for s in config.scaffolds]) for split in TRAIN
    }


def grid_of(
    side: Side, scaffolds: Sequence[ScaffoldFile], traits: TraitSet, position: Position, split: Split
) -> StateGrid:
    """States of one model on one split; as many paraphrases as the scaffold with the fewest has."""
    measured = side.landed.measured[1:] if split == "test" else side.training[split]
    questions = traits.of(split)
    fewest = min(len(s.paraphrases) for s in scaffolds)
    acts = []
    for scaffold, m in zip(scaffolds, measured, strict=True):
        states = m.pooled[position]
        cells = states.reshape(len(scaffold.paraphrases), len(questions), *states.shape[1:])
        acts.append(cells[:fewest])
    return StateGrid(
        side.label, side.identity.fingerprint, position, split, tuple(s.name for s in scaffolds),
        tuple(q.id for q in questions), np.stack(acts),
    )  # fmt: skip


def pairs_of(
    config: GeometryConfig, sides: Sequence[Side], traits: TraitSet, position: Position
) -> dict[Split, Pair]:
    """The states of both models, by split."""
    found: dict[Split, Pair] = {}
    for split in get_args(Split):
        a, b = (grid_of(side, config.scaffolds, traits, position, split) for side in sides)
        found[split] = (a, b)
    return found


# ------------------------------------------------------------------ statistics


def _place(
    config: GeometryConfig, traits: TraitSet, sides: Sequence[Side], position: Position,
    rng: np.random.Generator,
) -> Place:  # fmt: skip
    pairs = pairs_of(config, sides, traits, position)
    report = compare(pairs["select"], pairs["test"], MEASURES, rng, draws=config.permutations)
    train = [pairs[s] for s in TRAIN]
    chosen = next(s for s in report.similarities if s.measure == CKA.name)
    layers = (chosen.layer_a, chosen.layer_b)
    maps, shared = (), ()
    if NO_LAYER not in layers:
        maps = map_scores(train, pairs["test"], layers, rng, METHODS, config.pairings)
        shared = _shared(train, pairs["test"], layers, maps)
    found_shares, agreements = _landing_statistics(config, sides, position, rng)
    return Place(
        position, report.similarities, report.cells, report.dissimilarities, maps, shared, found_shares,
        agreements,
    )  # fmt: skip


def _shared(
    train: Sequence[Pair], test: Pair, layers: tuple[int, int], maps: Sequence[MapScore]
) -> tuple[SharedMap, ...]:
    """The picture by ridge, A carried into B and B into A."""
    names = test[0].scaffolds
    toward = next((name for name in names if "assistant" in name.lower()), min(names))
    back = [(b, a) for a, b in train], (test[1], test[0]), (layers[1], layers[0])
    found = []
    for there, target, at in ((train, test, layers), back):
        score = next(m for m in maps if m.method == ridge.name and m.source == target[0].model)
        found.append(shared_map(there, target, at, score, toward=toward))
    return tuple(found)


def _landing_statistics(
    config: GeometryConfig, sides: Sequence[Side], position: Position, rng: np.random.Generator
) -> tuple[tuple[Share, ...], tuple[LandingAgreement, ...]]:
    found_shares: list[Share] = []
    agreements = []
    for a, b in zip(*(_of(side, position) for side in sides), strict=True):
        tables = landing_cells(a), landing_cells(b)
        found_shares += shares(np.stack(tables), a.trait, rng, config.permutations)
        agreements.append(agreement(*tables, a.trait, rng))
    return tuple(found_shares), tuple(agreements)


def _of(side: Side, position: Position) -> list[Projections]:
    return [p for p in side.landed.projections if p.position == position]


def _landings(side: Side) -> list[PlacedLanding]:
    found = []
    for p in side.landed.projections:
        table = landing_cells(p)
        for name, cells in zip(p.scaffolds, table, strict=True):
            known = cells[~np.isnan(cells)]
            value = float(known.mean()) if len(known) else float("nan")
            found.append(PlacedLanding(side.label, p.position, p.trait, name, value))
    return found


# ------------------------------------------------------------------ on disk


def save_geometry(store: Store, found: GeometryBook) -> None:
    """A run of tables, one per kind of record, with a column for the position."""
    tables: dict[str, list[dict[str, Any]]] = {name: [] for name in (*_TABLES, "shared", "points")}
    for place in found.places:
        for name in _TABLES:
            tables[name] += [{**asdict(r), "place": place.position} for r in getattr(place, name)]
        for k, drawn in enumerate(place.shared):
            row = {**asdict(drawn), "place": place.position, "number": k}
            points = row.pop("points")
            tables["shared"].append(row)
            tables["points"] += [{**point, "place": place.position, "number": k} for point in points]
    extra = {name: [asdict(r) for r in getattr(found, name)] for name in ("landings", "multiverse")}
    more = {"labels": found.labels, "settings": dict(found.settings)}
    store.save_records(found.run, "geometry", found.models, {**tables, **extra}, more)


def load_geometry(store: Store, run: str) -> GeometryBook:
    """The geometry of a finished run. LabError when it is missing, damaged or of another version."""
    data, tables = store.load_rows(run, "geometry", (*_TABLES, "shared", "points", "landings", "multiverse"))
    with readable(run):
        return _book(run, data, tables)


def _book(run: str, data: dict[str, Any], tables: dict[str, list[dict[str, Any]]]) -> GeometryBook:
    def of(name: str, kind: type, place: object, number: object = None) -> tuple[Any, ...]:
        rows = [r for r in tables[name] if r["place"] == place and (number is None or r["number"] == number)]
        return tuple(kind(**{k: v for k, v in r.items() if k not in ("place", "number")}) for r in rows)

    places = []
    for position in dict.fromkeys(r["place"] for r in tables["similarities"]):
        kinds = {name: of(name, kind, position) for name, kind in _TABLES.items()}
        drawn = [r for r in tables["shared"] if r["place"] == position]
        shared = tuple(
            SharedMap(
                **{k: v for k, v in r.items() if k not in ("place", "number")},
                points=of("points", SharedPoint, position, r["number"]),
            )
            for r in drawn
        )
        places.append(Place(position, shared=shared, **kinds))
    return GeometryBook(
        run, tuple(ModelIdentity(**m) for m in data["models"]), tuple(data["labels"]), tuple(places),
        tuple(PlacedLanding(**r) for r in tables["landings"]), data["settings"],
        tuple(MultiverseCell(**r) for r in tables["multiverse"]),
    )  # fmt: skip
