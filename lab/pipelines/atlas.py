"""Concepts in two models: where their words stand in the embedding, the first layer and the layers that agree most.

Every word is read in every frame, up to its last token. Layers are chosen on one half of the frames, by
agreement within categories; everything is reported on the other half, maps besides on concepts that
they were not fitted on. Statistics are those of `lab.geometry`.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.geometry import atlas as geometry
from lab.geometry.cka import CKA
from lab.geometry.grids import (
    WITHOUT_MASSIVE,
    Measure,
    Orders,
    PairedGrams,
    paired_grams,
    relabelings,
)
from lab.geometry.neighbours import neighbours
from lab.geometry.rsa import RSA
from lab.geometry.similarity import Pair, at_depth, choose_layers, halves, similarity
from lab.pipelines.compare import labels_of, unseen_words
from lab.pipelines.concept_states import Side, read_side, resolve_concepts
from lab.pipelines.words import load_models
from lab.records import LabError, ModelIdentity
from lab.records.atlas import (
    EMBEDDING,
    NEAR,
    AtlasBook,
    AtlasMap,
    AtlasSimilarity,
    Category,
    Concept,
    ConceptScore,
    ConceptSet,
    DepthRow,
    Neighbour,
    Scope,
    SharedNeighbours,
    Stage,
)
from lab.records.geometry import StateGrid
from lab.records.similarity import NO_LAYER, GridCell, Similarity
from lab.stats import benjamini_hochberg, cluster_weights, interval, upper_p
from lab.store import Store, content_key

Progress = Callable[[str, float], None]
MEASURES = (CKA, RSA, neighbours(5), neighbours(10))
SCOPES: tuple[Scope, ...] = ("all", "within category")
RESAMPLES = 400
"""Draws of frames for an interval; each holds a concept x concept matrix."""
NO_FRAMES = "one vector per word: there are no frames to draw an interval or a ceiling from"
_TABLES: dict[str, type] = {
    "concepts": Concept, "depth": DepthRow, "maps": AtlasMap, "scores": ConceptScore, "neighbours": Neighbour,
    "shared": SharedNeighbours,
}  # fmt: skip


@dataclass(frozen=True)
class AtlasConfig:
    """Which models, over which concepts, and how hard to look."""

    models: tuple[str, str]
    """Two model folders, shipped names or hub names; the same twice is a control."""
    concepts: str = "auto"
    """A file, a shipped set, or "auto": the set that both checkpoints name as their trait set, else "words"."""
    dtype: str = "float32"
    seed: int = 0
    permutations: int = 200
    """Relabelings of the concepts for similarities and neighbours."""
    pairings: int = 100
    """Random pairings of the concepts that every map is fitted again for."""
    neighbours: int = 10
    """How many nearest concepts are listed and compared."""


def atlas(config: AtlasConfig, store: Store, progress: Progress) -> AtlasBook:
    """Run (or find) the atlas of two models. LabError for what the user can mend."""
    progress("loading models", 0.0)
    models = load_models(config.models, config.dtype)
    concepts = resolve_concepts(config.concepts, [m.trait_set for m in models])
    settings = {k: v for k, v in asdict(config).items() if k not in ("models", "concepts")}
    if not 1 <= config.neighbours <= len(concepts.words) - 2:
        raise LabError(
            f"expected between 1 and {len(concepts.words) - 2} neighbours of {len(concepts.words)} concepts, got "
            f"{config.neighbours}"
        )
    key = content_key("atlas-2", [m.identity.fingerprint for m in models], settings, asdict(concepts))
    run = f"atlas-{key[:10]}"
    if store.has(run):
        progress("found a finished run", 1.0)
        return load_atlas(store, run)
    sides = []
    for k, (label, model) in enumerate(zip(labels_of(models), models, strict=True)):
        sides.append(
            read_side(
                label,
                model,
                concepts,
                lambda x, k=k, label=label: progress(f"reading {label}", 0.05 + 0.3 * (k + x)),
            )
        )
    settings["unseen"] = {
        side.label: unseen_words(name, " ".join(concepts.words)) or []
        for side, name in zip(sides, config.models, strict=True)
    }
    found = conclude(
        config, run, concepts, sides, settings, lambda stage, x: progress(stage, 0.65 + 0.33 * x)
    )
    save_atlas(store, found)
    progress("done", 1.0)
    return found


# ------------------------------------------------------------------ all of it


def conclude(
    config: AtlasConfig, run: str, concepts: ConceptSet, sides: Sequence[Side], settings: dict[str, object],
    progress: Progress,
) -> AtlasBook:  # fmt: skip
    """Everything that the states of two models say."""
    progress("similarity", 0.0)
    rng = np.random.default_rng([config.seed, 9])
    a, b = (side.grid(concepts) for side in sides)
    train, test = halves(a, b, rng)
    similarities, depth = similarities_of(config, concepts, sides, train, test, rng)
    chosen = next(
        s.found for s in similarities
        if (s.stage, s.scope, s.found.measure) == ("chosen layers", "within category", CKA.name)
    )  # fmt: skip
    layers: dict[Stage, tuple[int, int]] = {
        "embedding": (EMBEDDING, EMBEDDING), "first layer": (0, 0), "chosen layers": (chosen.layer_a, chosen.layer_b)
    }  # fmt: skip
    if NO_LAYER in layers["chosen layers"]:
        del layers["chosen layers"]
    maps, scores, near, shared = [], [], [], []
    for k, (stage, at) in enumerate(layers.items()):
        progress(f"maps and neighbours, {stage}", 0.4 + 0.2 * k)
        rng = np.random.default_rng([config.seed, 10, k])
        states = [
            _states(side, grids, layer)
            for side, grids, layer in zip(sides, zip(train, test, strict=True), at, strict=True)
        ]
        found = _maps(config, concepts, sides, stage, at, states, rng)
        maps += found[0]
        scores += found[1]
        found = _neighbourhoods(config, concepts, sides, stage, [both[1] for both in states], rng)
        near += found[0]
        shared += found[1]
    codes = [c.name for c in concepts.categories]
    counted = zip(
        concepts.words, concepts.codes, sides[0].pieces.tolist(), sides[1].pieces.tolist(), strict=True
    )
    return AtlasBook(
        run, tuple(s.identity for s in sides), tuple(s.label for s in sides), concepts,
        tuple(Concept(word, codes[code], a, b) for word, code, a, b in counted),
        similarities, depth, tuple(maps), tuple(scores), tuple(near), tuple(shared), settings,
    )  # fmt: skip


States = Float[ndarray, "concept frame _"]  # two models, two widths


def _states(side: Side, grids: tuple[StateGrid, StateGrid], layer: int) -> tuple[States, States]:
    """One layer's states in the frames to fit on and in the others; the embedding is the same in both."""
    if layer == EMBEDDING:
        return side.embedding[:, None], side.embedding[:, None]
    train, test = (grid.at(side.blocks.index(layer))[:, 0] for grid in grids)
    return train, test


# ------------------------------------------------------------------ similarity


@dataclass(frozen=True)
class _Designs:
    """Inner products in the frames to choose layers on, in the others (also without massive dimensions), of embeddings."""

    choosing: PairedGrams
    telling: PairedGrams
    bare: PairedGrams
    embedded: PairedGrams


def similarities_of(
    config: AtlasConfig, concepts: ConceptSet, sides: Sequence[Side], select: Pair, test: Pair,
    rng: np.random.Generator,
) -> tuple[tuple[AtlasSimilarity, ...], tuple[DepthRow, ...]]:  # fmt: skip
    """Every measure in both scopes: at the embedding, the first layer and the layers chosen on half of the frames."""
    a, b = (side.embedded(concepts) for side in sides)
    designs = _Designs(
        paired_grams(*select), paired_grams(*test), paired_grams(*test, WITHOUT_MASSIVE), paired_grams(a, b)
    )
    rows: list[AtlasSimilarity] = []
    depth: list[DepthRow] = []
    for scope in SCOPES:
        orders, seen = _scope(scope, np.array(concepts.codes), config.permutations, rng)
        for measure in MEASURES:
            found, cells = _at_stages(designs, seen(measure), orders, rng)
            rows += [AtlasSimilarity(stage, scope, _in_words(s, stage, sides)) for stage, s in found]
            flat = found[0][1]
            none = float("nan")
            depth.append(
                DepthRow(scope, measure.name, none, EMBEDDING, EMBEDDING, flat.value, flat.null_high)
            )
            depth += _profile(scope, cells, sides)
    return tuple(rows), tuple(depth)


def _at_stages(
    designs: _Designs, measure: Measure, orders: Orders, rng: np.random.Generator
) -> tuple[list[tuple[Stage, Similarity]], tuple[GridCell, ...]]:
    """One measure at every stage, and its grid; CKA at its chosen layers also without massive dimensions."""
    flat, whole = designs.embedded, designs.telling
    first = replace(whole, a=whole.a[:1], b=whole.b[:1])
    choice = choose_layers(designs.choosing, measure, orders)
    chosen, cells = similarity(whole, measure, choice, rng, RESAMPLES)
    found: list[tuple[Stage, Similarity]] = [
        ("embedding", similarity(flat, measure, at_depth(flat, 0.0, orders), rng, RESAMPLES)[0]),
        ("first layer", similarity(first, measure, at_depth(first, 0.0, orders), rng, RESAMPLES)[0]),
        ("chosen layers", chosen),
    ]
    if measure.name == CKA.name:
        found.append(("chosen layers", similarity(designs.bare, measure, choice, rng, RESAMPLES)[0]))
    return found, cells


def _scope(
    scope: Scope, codes: ndarray, draws: int, rng: np.random.Generator
) -> tuple[Orders, Callable[[Measure], Measure]]:
    if scope == "all":
        return relabelings(len(codes), draws, rng), lambda measure: measure
    return geometry.relabelings_within(codes, draws, rng), geometry.within(codes)


def _in_words(found: Similarity, stage: Stage, sides: Sequence[Side]) -> Similarity:
    """Layers as blocks of the models, and the reason in the atlas's words."""
    why = found.why.replace("scaffold", "concept").replace("question", "frame")
    if stage == "embedding":
        why = why if np.isnan(found.value) else NO_FRAMES
        return replace(found, layer_a=EMBEDDING, layer_b=EMBEDDING, split="none", why=why)
    if found.layer_a == NO_LAYER:
        return replace(found, why=why)
    return replace(
        found, layer_a=sides[0].blocks[found.layer_a], layer_b=sides[1].blocks[found.layer_b], why=why
    )


def _profile(scope: Scope, cells: Sequence[GridCell], sides: Sequence[Side]) -> list[DepthRow]:
    """The cells at equal relative depth."""
    at = {(c.layer_a, c.layer_b): c for c in cells}
    sizes = [len(side.blocks) for side in sides]
    found = []
    for share in np.linspace(0, 1, max(sizes)).tolist() if at else []:
        a, b = (round(share * (n - 1)) for n in sizes)
        c = at[a, b]
        found.append(
            DepthRow(scope, c.measure, share, sides[0].blocks[a], sides[1].blocks[b], c.value, c.null_high)
        )
    return found


# ------------------------------------------------------------------ maps


def _maps(
    config: AtlasConfig, concepts: ConceptSet, sides: Sequence[Side], stage: Stage, at: tuple[int, int],
    states: Sequence[tuple[States, States]], rng: np.random.Generator,
) -> tuple[list[AtlasMap], list[ConceptScore]]:  # fmt: skip
    """Maps both ways in both scopes."""
    (x, x_test), (y, y_test) = (tuple(part.mean(axis=1) for part in both) for both in states)
    there = geometry.Landings(x, y, x_test, y_test)
    codes = np.array(concepts.codes)
    frames = 0 if stage == "embedding" else states[0][1].shape[1]
    maps, scores = [], []
    for scope in SCOPES:
        centre = codes if scope == "within category" else np.zeros_like(codes)
        fold = geometry.draw_folds(codes, geometry.FOLDS, rng)
        orders = np.concatenate([np.arange(len(codes))[None], _scope(scope, codes, config.pairings, rng)[0]])
        for data, (source, target), (a, b) in ((there, sides, at), (there.back(), sides[::-1], at[::-1])):
            found = geometry.held_out(data, centre, fold, orders)
            ceiling = geometry.held_out(data.ceiling(), centre, fold, orders[:1])
            row = _map_row(found, ceiling, rng)
            maps.append(
                AtlasMap(
                    stage, scope, source.label, target.label, a, b, "ridge", **row,
                    concepts=len(codes), folds=geometry.FOLDS, frames=frames, draws=config.pairings,
                )
            )  # fmt: skip
            candidates = (centre[:, None] == centre).sum(axis=1)
            scores += _score_rows(concepts, maps[-1], found, ceiling, candidates)
    return maps, scores


def _map_row(
    found: geometry.HeldOut, ceiling: geometry.HeldOut, rng: np.random.Generator
) -> dict[str, float]:
    size = found.rank.shape[1]
    weights = cluster_weights([np.arange(size)], 1000, rng)
    low, high = interval((1 - (weights @ found.residual[0]) / (weights @ found.total[0])), size)
    r2 = found.pooled
    row = {
        "r2": float(r2[0]), "low": float(low), "high": float(high), "null_high": float(np.quantile(r2[1:], 0.95)),
        "p": upper_p(float(r2[0]), r2[1:]), "ceiling": float(ceiling.pooled[0]),
    }  # fmt: skip
    for name, most in (("first", 1), ("near", NEAR)):
        share = found.within_rank(most)
        low, high = interval((weights @ (found.rank[0] <= most)) / size, size)
        row |= {
            name: float(share[0]), f"{name}_low": float(low), f"{name}_high": float(high),
            f"{name}_null": float(share[1:].mean()), f"{name}_p": upper_p(float(share[0]), share[1:]),
            f"{name}_ceiling": float(ceiling.within_rank(most)[0]),
        }  # fmt: skip
    return row


def _score_rows(
    concepts: ConceptSet,
    made: AtlasMap,
    found: geometry.HeldOut,
    ceiling: geometry.HeldOut,
    candidates: ndarray,
) -> list[ConceptScore]:
    r2 = found.r2
    p = np.array([upper_p(float(r2[0, k]), r2[1:, k]) for k in range(r2.shape[1])])
    q = benjamini_hochberg(p)
    names = [c.name for c in concepts.categories]
    return [
        ConceptScore(
            made.stage, made.scope, made.source, made.target, word, names[concepts.codes[k]], float(r2[0, k]),
            float(np.nanquantile(r2[1:, k], 0.95)), float(p[k]), float(q[k]), float(found.cosine[0, k]),
            float(found.rank[0, k]), int(candidates[k]), float(ceiling.rank[0, k]),
        )
        for k, word in enumerate(concepts.words)
    ]  # fmt: skip


# ------------------------------------------------------------------ neighbours


def _neighbourhoods(
    config: AtlasConfig, concepts: ConceptSet, sides: Sequence[Side], stage: Stage, states: Sequence[States],
    rng: np.random.Generator,
) -> tuple[list[Neighbour], list[SharedNeighbours]]:  # fmt: skip
    """Who is near whom in each model, in the frames that no layer was chosen on."""
    codes, k = np.array(concepts.codes), config.neighbours
    distances = [geometry.apart(x) for x in states]
    a, b = distances
    near = [geometry.nearest(d, k) for d in distances]
    rows = []
    for side, own, other, d in zip(sides, near, near[::-1], distances, strict=True):
        for s, word in enumerate(concepts.words):
            rows += [
                Neighbour(
                    stage, side.label, word, r + 1, concepts.words[t], float(d[s, t]), bool(t in other[s])
                )
                for r, t in enumerate(own[s].tolist())
            ]
    orders = geometry.relabelings_within(codes, config.permutations, rng)
    found = geometry.overlap(a, b, codes, k, orders)
    names, everyone = [c.name for c in concepts.categories], np.arange(len(codes))
    parts = [("", "", everyone), *(("", names[codes[m[0]]], m) for m in geometry.groups(codes))]
    parts += [(word, names[codes[s]], everyone[s : s + 1]) for s, word in enumerate(concepts.words)]
    weights = {len(m): cluster_weights([np.arange(len(m))], 1000, rng) / len(m) for _, _, m in parts}
    shared = []
    for word, category, m in parts:
        low, high = interval(weights[len(m)] @ found.shared[m], len(m))
        null, value = found.null[:, m].mean(axis=1), float(found.shared[m].mean())
        own = np.mean([(codes == codes[s]).sum() - 1 for s in m]) / (len(codes) - 1)
        shared.append(
            SharedNeighbours(
                stage, word, category, k, len(m), value, float(low), float(high), k / (len(codes) - 1),
                float(null.mean()), float(np.quantile(null, 0.95)), upper_p(value, null),
                float(found.purity_a[m].mean()), float(found.purity_b[m].mean()), float(own),
            )
        )  # fmt: skip
    return rows, shared


# ------------------------------------------------------------------ on disk


def save_atlas(store: Store, found: AtlasBook) -> None:
    """A run of tables, one per kind of record; the concept set goes into the manifest."""
    tables: dict[str, list[dict[str, Any]]] = {
        name: [asdict(r) for r in getattr(found, name)] for name in _TABLES
    }
    tables["similarities"] = [
        {**asdict(s.found), "stage": s.stage, "scope": s.scope} for s in found.similarities
    ]
    more = {
        "labels": found.labels,
        "settings": dict(found.settings),
        "concept_set": asdict(found.concept_set),
    }
    store.save_records(found.run, "atlas", found.models, tables, more)


def load_atlas(store: Store, run: str) -> AtlasBook:
    """The atlas of a finished run. LabError when it is missing or damaged."""
    data, tables = store.load_rows(run, "atlas", (*_TABLES, "similarities"))
    made = data["concept_set"]
    categories = tuple(
        Category(**{**c, "words": tuple(c["words"]), "frames": tuple(c["frames"])})
        for c in made["categories"]
    )
    names = [f.name for f in fields(Similarity)]
    return AtlasBook(
        run=run, models=tuple(ModelIdentity(**m) for m in data["models"]), labels=tuple(data["labels"]),
        concept_set=ConceptSet(made["name"], categories), settings=data["settings"],
        similarities=tuple(
            AtlasSimilarity(r["stage"], r["scope"], Similarity(**{n: r[n] for n in names})) for r in tables["similarities"]
        ),
        **{name: tuple(kind(**r) for r in tables[name]) for name, kind in _TABLES.items()},
    )  # fmt: skip
