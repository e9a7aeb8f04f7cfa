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
from lab.geometry.fits import ridge
from lab.geometry.grids import NOISE_UNITS, WITHOUT_MASSIVE
from lab.geometry.maps import METHODS, map_scores, shared_frame, shared_map
from lab.geometry.neighbours import neighbours
from lab.geometry.rsa import RSA
from lab.geometry.shares import agreement, shares
from lab.geometry.similarity import NO_LAYER, compare
from lab.geometry.trajectories import Frame
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
from lab.pipelines.geometry_runs import load_geometry, save_geometry
from lab.pipelines.multiverse import multiverse
from lab.pipelines.replies import Measured, Runner, scaffold_jobs
from lab.pipelines.trajectories import paths
from lab.pipelines.untrained import controls, read_twins, texts_of, twins_at
from lab.records import ModelIdentity, Position, ScaffoldFile, Split, TraitSet
from lab.records.geometry import GeometryBook, Place, PlacedLanding, StateGrid
from lab.records.maps import LandingAgreement, MapScore, Share, SharedMap
from lab.records.similarity import ChosenGrams, UntrainedControl
from lab.store import Store, content_key

if TYPE_CHECKING:
    from lab.models import LoadedModel

TRAIN: tuple[Split, ...] = ("extract", "select")
MEASURES = (CKA, RSA, neighbours(3), neighbours(5))
PREPARED = (WITHOUT_MASSIVE, NOISE_UNITS)
"""What is done to states besides nothing, to show what depends on it."""
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
    untrained: int = 4
    """Untrained twins of each model that read the same texts; 0: that control is left out."""

    @property
    def base(self) -> CompareConfig:
        """The comparison whose test replies these are."""
        return CompareConfig(
            self.models, self.scaffolds, self.trait_set, self.dtype, self.seed, self.max_new_tokens
        )


def geometry(config: GeometryConfig, store: Store, progress: Progress) -> GeometryBook:
    """Run (or find) the comparison of two models' geometry. LabError for what the user can mend."""
    models, traits = load_pair(config, progress)
    run = "geometry-" + run_key("geometry-5", config, models, traits)
    if store.has(run):
        progress("found a finished run", 1.0)
        return load_geometry(store, run)
    sides = measure_sides(config, models, traits, store, lambda stage, x: progress(stage, 0.02 + 0.6 * x))
    twins = _twins(config, models, traits, sides, store, lambda stage, x: progress(stage, 0.62 + 0.18 * x))
    places, grams = [], {}
    for k, position in enumerate(POSITIONS):
        progress(f"statistics, {position}", 0.8 + 0.09 * k)
        rng = np.random.default_rng([config.seed, 8, k])
        place, grams[position] = _place(config, traits, sides, twins, position, rng)
        places.append(place)
    whole = next(p for p in places if p.position == "reply_mean")
    progress("paths of replies", 0.98)
    walked = paths(models, sides, _frames(config, traits, sides, whole))
    landings = [row for side in sides for row in _landings(side)]
    found = GeometryBook(
        run, tuple(s.identity for s in sides), tuple(s.label for s in sides), tuple(places), tuple(landings),
        settings_of(config, traits, models), multiverse([s.landed for s in sides], [t.name for t in traits.traits]),
    )  # fmt: skip
    save_geometry(store, found, grams, walked)
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


def settings_of(
    config: GeometryConfig, traits: TraitSet, models: Sequence["LoadedModel"]
) -> dict[str, object]:
    """What a saved run says of how it was made. `design`: hashes of what two runs must share to be compared."""
    return {
        "design": {
            "scaffolds": content_key([[s.name, [p.text for p in s.paraphrases]] for s in config.scaffolds]),
            "questions": content_key([[q.id, q.text, q.split] for q in traits.questions]),
            "template of the first model": content_key(models[0].tokenizer.chat_template),
            "first model": models[0].identity.fingerprint[:16],
            "longest reply": config.max_new_tokens,
        },
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


def _twins(
    config: GeometryConfig, models: Sequence["LoadedModel"], traits: TraitSet, sides: Sequence[Side],
    store: Store, progress: Progress,
) -> list[list[dict[tuple[Split, Position], np.ndarray]]]:  # fmt: skip
    """Per side the states of its untrained twins on the texts of that side."""
    questions: dict[Split, tuple[str, ...]] = {
        split: tuple(q.text for q in traits.of(split)) for split in get_args(Split)
    }
    systems = [s.paraphrases[0].text for s in config.scaffolds]
    found, done = [], 0
    for k, (model, side) in enumerate(zip(models, sides, strict=True)):

        def tick(label: str = side.label) -> None:
            nonlocal done
            done += 1
            progress(f"untrained twins of {label}", done / max(1, 2 * config.untrained))

        texts = texts_of(systems, questions, {**side.training, "test": side.landed.measured[1:]})
        seeds = [1000 * config.seed + 100 * k + i for i in range(config.untrained)]
        found.append(read_twins(model, texts, POSITIONS, seeds, store, tick))
    return found


# ------------------------------------------------------------------ statistics


def _place(
    config: GeometryConfig, traits: TraitSet, sides: Sequence[Side], twins: Sequence[Any], position: Position,
    rng: np.random.Generator,
) -> tuple[Place, tuple[ChosenGrams, ...]]:  # fmt: skip
    pairs = pairs_of(config, sides, traits, position)
    report = compare(pairs["select"], pairs["test"], MEASURES, rng, draws=config.permutations)
    train = [pairs[s] for s in TRAIN]
    chosen = next(s for s in report.similarities if s.measure == CKA.name)
    layers = (chosen.layer_a, chosen.layer_b)
    maps, shared = (), ()
    untrained = controls(twins_at(position, pairs, twins), MEASURES, (ridge,))
    if NO_LAYER not in layers:
        maps = map_scores(train, pairs["test"], layers, rng, METHODS, config.pairings)
        shared = _shared(train, pairs["test"], layers, maps, untrained)
    found_shares, agreements = _landing_statistics(config, sides, position, rng)
    prepared = tuple(
        row
        for prepare in PREPARED
        for row in compare(
            pairs["select"], pairs["test"], MEASURES, rng, prepare, config.permutations
        ).similarities
    )
    place = Place(
        position, report.similarities, report.cells, report.dissimilarities, maps, shared, found_shares,
        agreements, prepared, untrained,
    )  # fmt: skip
    return place, report.grams


def _shared(
    train: Sequence[Pair], test: Pair, layers: tuple[int, int], maps: Sequence[MapScore],
    untrained: Sequence[UntrainedControl],
) -> tuple[SharedMap, ...]:  # fmt: skip
    """The picture by ridge, A carried into B and B into A; none where words alone would draw it."""
    names = test[0].scaffolds
    toward = next((name for name in names if "assistant" in name.lower()), min(names))
    back = [(b, a) for a, b in train], (test[1], test[0]), (layers[1], layers[0])
    found = []
    for there, target, at in ((train, test, layers), back):
        score = next(m for m in maps if m.method == ridge.name and m.source == target[0].model)
        drawn = shared_map(there, target, at, score, toward=toward)
        same = (u for u in untrained if (u.what, u.source) == (ridge.name, target[0].model))
        found.append(_unless_words(drawn, next(same, None)))
    return tuple(found)


def _frames(config: GeometryConfig, traits: TraitSet, sides: Sequence[Side], place: Place) -> list[Frame]:
    """Frames of the maps that are drawn."""
    pairs = pairs_of(config, sides, traits, place.position)
    train, test = [pairs[s] for s in TRAIN], pairs["test"]
    ways = (train, test), ([(b, a) for a, b in train], (test[1], test[0]))
    found = []
    for drawn, (there, target) in zip(place.shared, ways, strict=False):
        if drawn.points:
            score = next(m for m in place.maps if (m.method, m.source) == (ridge.name, drawn.source))
            at = score.layer_source, score.layer_target
            found.append(shared_frame(there, target, at, score, toward=drawn.toward))
    return found


def _unless_words(drawn: SharedMap, words: UntrainedControl | None) -> SharedMap:
    """The picture, or the reason against it: untrained networks map onto each other as well."""
    if drawn.why or words is None or words.why or words.p < 0.05:
        return drawn
    why = (
        f"fitted on extract alone held-out R² is {words.value:.2f}, and untrained networks that read the same "
        f"texts reach {words.words_high:.2f} (p = {words.p:.2f}): the words alone would draw this map"
    )
    return SharedMap(drawn.source, drawn.target, drawn.method, drawn.toward, why)


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
