"""Where the same scaffold lands in two models: the main job.

Per model: replies under contrastive trait prompts (extract, select and test questions), mean
difference on *extract*, layer chosen on *select*, landings of every scaffold on *test*, all
from residual states captured while the replies are generated. Then, between the two models,
the interaction D. Every generation stage is cached by content, so a killed run resumes and
a changed scaffold costs only its own replies.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lab.directions import (
    layer_scores,
    null_widening,
    permuted_directions,
)
from lab.estimators import mean_difference, unit
from lab.landing import Projections, anchors, interactions, landings, noise_floor
from lab.models import catalogue, files_digest
from lab.pipelines.poles import Poles, poles_of, split_rows
from lab.pipelines.replies import (
    Job,
    Measured,
    Runner,
    neutral_jobs,
    scaffold_jobs,
)
from lab.prompts.traits import read_trait_set, shipped_trait_sets
from lab.records import (
    Comparison,
    Direction,
    LabError,
    LayerScore,
    Message,
    Position,
    ReplyRow,
    ScaffoldFile,
    Site,
    TraitSet,
)
from lab.store import Store, content_key

if TYPE_CHECKING:
    from lab.models import Checkpoint, LoadedModel

DATA = Path(__file__).resolve().parents[2] / "data"
POSITIONS: tuple[Position, ...] = ("reply_mean", "spawn")
"""Where a comparison reads."""
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class CompareConfig:
    """What to compare and how."""

    models: tuple[str, ...]
    """Two model folders, shipped names or hub names."""
    scaffolds: tuple[ScaffoldFile, ...]
    trait_set: str = "auto"
    """A file, a shipped name, or "auto": what both checkpoints name, else the set for chat models."""
    dtype: str = "float32"
    seed: int = 0
    max_new_tokens: int = 40
    draws: int = 1000
    """Bootstrap draws."""
    permutations: int = 200
    """Pole-swapped directions of the null."""


def resolve_model(name: str) -> str:
    """A shipped organism's folder by its name; anything else as it is."""
    shipped = DATA / "organisms" / name
    return str(shipped) if (shipped / "config.json").is_file() else name


def resolve_trait_set(name: str, models: Sequence["LoadedModel | Checkpoint | Met"]) -> TraitSet:
    """The trait set by name, file or folder of public trait files; "auto": what all checkpoints name, else "chat".

    "persona:warmth,attachment" keeps only the named traits; of a folder only their files are read.
    """
    base, _, picked = (name, "", "") if Path(name).exists() else name.partition(":")
    if base == "auto":
        named = {m.trait_set for m in models}
        agreed = named.pop() if len(named) == 1 else None
        base = agreed or "chat"
    shipped = shipped_trait_sets(DATA.parent)
    path = shipped.get(base, Path(base))
    if not path.exists():
        known = ", ".join(sorted(shipped))
        raise LabError(
            f"trait set {base!r} is neither a file nor one of {known}, nor a folder of trait files"
        )
    names = [t.strip() for t in picked.split(",") if t.strip()]
    return _picked(read_trait_set(path, names), names)


def _picked(traits: TraitSet, names: Sequence[str]) -> TraitSet:
    known = [t.name for t in traits.traits]
    unknown = [n for n in names if n not in known]
    if unknown:
        raise LabError(
            f"the trait set {traits.name!r} has no {', '.join(unknown)}; it has {', '.join(known)}"
        )
    kept = tuple(t for t in traits.traits if not names or t.name in names)
    return TraitSet(traits.name, kept, traits.questions)


def unseen_words(model: str, text: str) -> list[str] | None:
    """Words of `text` that a shipped organism never met in training; None for other models."""
    folder = Path(resolve_model(model))
    words = folder / "words.txt"
    if not words.is_file():
        return None
    from lab.world.grammar import split_words

    known = set(words.read_text(encoding="utf-8").split())
    found = dict.fromkeys(w for w in split_words(text) if any(c.isalnum() for c in w))
    return [w for w in found if w.lower() not in known]


# ------------------------------------------------------------------ one model


@dataclass(frozen=True)
class ModelSide:
    """Everything the comparison needs of one model."""

    projections: tuple[Projections, ...]
    depth: tuple[LayerScore, ...]
    replies: tuple[ReplyRow, ...]


@dataclass(frozen=True)
class Landed:
    """One model with its directions, its test replies and where they project."""

    made: "Extraction"
    groups: tuple[tuple[Job, ...], ...]
    measured: tuple[Measured, ...]
    """Without a scaffold first, then one group per scaffold."""
    projections: tuple[Projections, ...]
    """One per trait and position, in the order of `made.directions`."""


def land_side(
    label: str, model: "LoadedModel", traits: TraitSet, config: CompareConfig, runner: Runner, stream: int,
    histories: Mapping[str, Sequence[Message]] | None = None,
) -> Landed:  # fmt: skip
    """Directions of one model, replies under every scaffold, and their projections.

    `histories`: what was said before the question, by scaffold name.
    """
    made = extract_side(label, model, traits, config, runner, np.random.default_rng([config.seed, 1, stream]))
    reading = [made.directions[t.name, "reply_mean"] for t in traits.traits]
    said = histories or {}
    asked = [scaffold_jobs(traits, s, history=said.get(s.name, ())) for s in config.scaffolds]
    groups = [neutral_jobs(traits), *asked]
    measured = runner.measure(groups, reading)
    projections = [
        _project(label, made.directions[key], made.nulls[key], made.poles[key[0]], groups, measured)
        for key in made.directions
    ]
    return Landed(made, tuple(map(tuple, groups)), tuple(measured), tuple(projections))


def measure_side(
    label: str, model: "LoadedModel", traits: TraitSet, config: CompareConfig, store: Store, stream: int,
    tick: Callable[[int], None],
) -> ModelSide:  # fmt: skip
    """Layer scores, test projections and replies of one model."""
    landed = land_side(label, model, traits, config, Runner(model, config, store, stream, tick), stream)
    replies = tuple(
        ReplyRow(label, j.condition, j.paraphrase, j.question.id, j.question.split, prompt, reply)
        for jobs, m in zip(landed.groups, landed.measured, strict=True)
        for j, prompt, reply in zip(jobs, m.prompts, m.replies, strict=True)
    )
    return ModelSide(landed.projections, landed.made.depth, replies)


@dataclass(frozen=True)
class Extraction:
    """Directions of one model with their evidence; keys are (trait, position)."""

    directions: dict[tuple[str, Position], Direction]
    nulls: dict[tuple[str, Position], NDArray[np.float64]]
    poles: Mapping[str, Poles]
    depth: tuple[LayerScore, ...]


def extract_side(
    label: str, model: "LoadedModel", traits: TraitSet, config: CompareConfig, runner: Runner,
    rng: np.random.Generator, positions: Sequence[Position] = POSITIONS,
    poles: Mapping[str, Poles] | None = None,
) -> Extraction:  # fmt: skip
    """Every trait's direction at every position: made on *extract*, layer chosen on *select*.

    `poles`: in place of all replies by instruction.
    """
    made = Extraction({}, {}, poles or poles_of(traits, runner), ())
    depth: list[LayerScore] = []
    for trait in traits.traits:
        for position in positions:
            key = (trait.name, position)
            scores, made.directions[key], made.nulls[key] = _extract(
                label, model, trait.name, position, made.poles[trait.name], config, rng
            )
            depth += scores
    return Extraction(made.directions, made.nulls, made.poles, tuple(depth))


def _extract(
    label: str, model: "LoadedModel", trait: str, position: Position, pole: Poles, config: CompareConfig,
    rng: np.random.Generator,
) -> tuple[list[LayerScore], Direction, NDArray[np.float64]]:  # fmt: skip
    """Layer scores, the direction at the chosen layer, and its pole-swapped null [draw, d_model]."""
    extract = pole.of(position, "extract")
    scores = layer_scores(
        extract, pole.of(position, "select"), rng, config.permutations,
        model=label, trait=trait, position=position,
    )  # fmt: skip
    layer = next(s.layer for s in scores if s.chosen)
    here = extract.acts[:, layer : layer + 1]
    raw = mean_difference(here, extract.positive, extract.questions)[0]
    null = permuted_directions(here, extract.positive, extract.questions, config.permutations, rng)
    direction = Direction(
        trait, Site(layer), position, unit(raw), float(np.linalg.norm(raw)), model.identity.fingerprint,
        "extract",
    )  # fmt: skip
    return list(scores), direction, unit(null)[:, 0]


def _project(
    label: str, direction: Direction, null: NDArray[np.float64], pole: Poles,
    groups: Sequence[Sequence[Job]], measured: Sequence[Measured],
) -> Projections:  # fmt: skip
    """Test rows of the poles, of neutral and of every scaffold, projected."""
    test = split_rows(pole.jobs, "test")
    jobs = [j for j, keep in zip(pole.jobs, test, strict=True) if keep]
    states = [pole.pooled[direction.position][test]]
    for group, m in zip(groups, measured, strict=True):
        jobs += group
        states.append(m.pooled[direction.position])
    layer = np.concatenate([s[:, direction.site.layer] for s in states]).astype(np.float64)
    return Projections(
        model=label, trait=direction.trait, position=direction.position, layer=direction.site.layer,
        split="test",
        value=layer @ direction.vector, condition=np.array([j.condition for j in jobs]),
        paraphrase=np.array([j.paraphrase for j in jobs]), question=np.array([j.question.id for j in jobs]),
        null_value=layer @ null.T, null_widening=null_widening(len(set(pole.of(direction.position, "extract").questions))),
    )  # fmt: skip


# ------------------------------------------------------------------ the job


def labels_of(models: Sequence["LoadedModel"]) -> tuple[str, ...]:
    """Short distinct labels: the model names, numbered when they are the same."""
    names = [m.identity.name for m in models]
    return tuple(f"{n} ({i + 1})" if names.count(n) > 1 else n for i, n in enumerate(names))


def run_key(config: CompareConfig, fingerprints: Sequence[str], traits: TraitSet) -> str:
    """The id of the run: the same content gives the same id."""
    settings = {k: v for k, v in asdict(config).items() if k not in ("models", "trait_set", "scaffolds")}
    parts = [
        list(fingerprints),
        settings,
        asdict(traits),
        [asdict(s) for s in config.scaffolds],
    ]
    return "compare-" + content_key("compare-3", *parts)[:10]


def compare(config: CompareConfig, store: Store, progress: Progress) -> Comparison:
    """Run (or find) the comparison. `progress(stage, fraction)` is called as it goes.

    Raises LabError for anything the user can mend: models, scaffolds, trait sets, disk.
    """
    check(config)
    progress("loading models", 0.0)
    keys = [_met_key(name, config.dtype) for name in config.models]
    met = [_recall(key, store) for key in keys]
    if all(met) and (found := _finished(config, [m for m in met if m], store)):
        progress("found a finished run", 1.0)
        return found
    from lab.models import read_checkpoint, wire

    checkpoints = [read_checkpoint(resolve_model(name), config.dtype) for name in config.models]
    for key, checkpoint in zip(keys, checkpoints, strict=True):
        if key:
            note = {"fingerprint": checkpoint.fingerprint, "trait_set": checkpoint.trait_set}
            store.put(key, {}, note)
    if found := _finished(config, checkpoints, store):
        progress("found a finished run", 1.0)
        return found
    traits = resolve_trait_set(config.trait_set, checkpoints)
    run = run_key(config, [c.fingerprint for c in checkpoints], traits)
    models = [wire(checkpoint) for checkpoint in checkpoints]
    labels = labels_of(models)
    total = len(models) * _rows(traits, config)
    done = 0

    def tick(label: str) -> Callable[[int], None]:
        def advance(n: int) -> None:
            nonlocal done
            done += n
            progress(f"replies of {label}", 0.02 + 0.93 * done / total)

        return advance

    sides = [
        measure_side(label, model, traits, config, store, stream, tick(label))
        for stream, (label, model) in enumerate(zip(labels, models, strict=True))
    ]
    progress("statistics", 0.96)
    result = conclude(run, config, models, labels, traits, sides)
    store.save_comparison(result, " vs ".join(labels))
    progress("done", 1.0)
    return result


@dataclass(frozen=True)
class Met:
    """What is remembered of a checkpoint folder that was read before."""

    fingerprint: str
    trait_set: str | None


def _met_key(name: str, dtype: str) -> str | None:
    """Where the store keeps what it knows of a folder with these very files; None for hub names."""
    folder = Path(resolve_model(name))
    return content_key("met-1", files_digest(folder), dtype) if (folder / "config.json").is_file() else None


def _recall(key: str | None, store: Store) -> Met | None:
    hit = store.cached(key) if key else None
    return Met(**hit[1]) if hit else None


def _finished(config: CompareConfig, models: Sequence["Met | Checkpoint"], store: Store) -> Comparison | None:
    """The comparison, if it was made before."""
    traits = resolve_trait_set(config.trait_set, models)
    run = run_key(config, [m.fingerprint for m in models], traits)
    return store.load_comparison(run) if store.has(run) else None


def check(config: CompareConfig) -> None:
    """Refuse what cannot be compared."""
    if len(config.models) != 2:
        raise LabError(
            f"a comparison takes two models, got {len(config.models)}: {', '.join(config.models) or 'none'}"
        )
    if not config.scaffolds:
        raise LabError(
            "no scaffold given; name at least one file, e.g. --scaffold data/scaffolds/companion.md"
        )
    names = [s.name for s in config.scaffolds]
    doubled = sorted(
        {n for n in names if names.count(n) > 1} | ({*names} & {"positive", "negative", "neutral"})
    )
    if doubled:
        raise LabError(
            f"scaffold names must be distinct and not positive, negative or neutral: {', '.join(doubled)}"
        )
    if config.max_new_tokens < 4:
        raise LabError(f"max_new_tokens must be at least 4, got {config.max_new_tokens}")


def _rows(traits: TraitSet, config: CompareConfig) -> int:
    poles = 2 * len(traits.traits) * len(traits.questions)
    return poles + len(neutral_jobs(traits)) + sum(len(scaffold_jobs(traits, s)) for s in config.scaffolds)


def conclude(
    run: str, config: CompareConfig, models: Sequence["LoadedModel"], labels: tuple[str, ...], traits: TraitSet,
    sides: Sequence[ModelSide],
) -> Comparison:  # fmt: skip
    """From projections to records: landings, noise floor and interactions with their intervals."""
    rng = np.random.default_rng([config.seed, 2])
    crossed = []
    for position in POSITIONS:
        one, other = ([p for p in side.projections if p.position == position] for side in sides)
        crossed.append(interactions(one, other, rng, config.draws))
    everything = [p for side in sides for p in side.projections]
    return Comparison(
        run=run,
        models=tuple(m.identity for m in models),
        labels=labels,
        scaffolds=config.scaffolds,
        trait_set=traits.name,
        landings=tuple(row for p in everything for row in landings(p, rng, config.draws)),
        interactions=tuple(row for rows in crossed for row in rows),
        noise_floor=tuple(noise_floor(p) for p in everything),
        anchors=tuple(anchors(p) for p in everything),
        depth=tuple(row for side in sides for row in side.depth),
        replies=tuple(row for side in sides for row in side.replies),
        settings=_settings(config, traits),
    )


def _settings(config: CompareConfig, traits: TraitSet) -> dict[str, object]:
    counts = {split: len(traits.of(split)) for split in ("extract", "select", "test")}
    return {
        "seed": config.seed,
        "dtype": config.dtype,
        "max_new_tokens": config.max_new_tokens,
        "bootstrap_draws": config.draws,
        "null_permutations": config.permutations,
        "questions": counts,
        "traits": [t.name for t in traits.traits],
        "temperature": 1.0,
    }


def shipped_models() -> list[dict]:
    """The organisms that come with the lab, as `lab models --json` prints them."""
    return catalogue(DATA / "organisms")


def shipped_scaffolds() -> list[ScaffoldFile]:
    """Every scaffold file that comes with the lab, by file name."""
    from lab.prompts.scaffolds import read_scaffold

    return [read_scaffold(p) for p in sorted((DATA / "scaffolds").glob("*.md")) if p.stem != "README"]
