"""Persona vectors of one model: made on *extract*, layer chosen on *select*, saved with their identity."""

from dataclasses import asdict
from pathlib import Path
from typing import get_args

import numpy as np

from lab.cards import Contrasts, trait_cards
from lab.estimators import mean_difference
from lab.pipelines.compare import (
    POOLED,
    CompareConfig,
    Extraction,
    Progress,
    Runner,
    extract_side,
    resolve_model,
    resolve_trait_set,
)
from lab.records import LabError, ModelIdentity, PoleReply, Position, Split, TraitBook, TraitSet
from lab.store import Store, content_key
from lab.vectors.files import Format, load, save
from lab.vectors.record import PersonaVector

SPLITS: tuple[Split, ...] = get_args(Split)


def extract(
    model: str, store: Store, progress: Progress, trait_set: str = "auto", *, dtype: str, seed: int,
    max_new_tokens: int,
) -> TraitBook:  # fmt: skip
    """Extract every trait at every pooling and save each as `<trait>.<pooling>.safetensors` in a run.

    The files are `lab.vectors.record.PersonaVector`: all layers, the chosen one named. Beside them: how
    every recipe separates the poles on *test*, how alike recipes read, and the test replies. Replies are
    shared with `compare` through the cache.
    """
    progress("loading model", 0.0)
    from lab.models import load as load_model

    loaded = load_model(resolve_model(model), dtype)
    traits = resolve_trait_set(trait_set, [loaded])
    config = CompareConfig((model,), (), trait_set, dtype, seed, max_new_tokens)
    key = content_key("extract-4", loaded.identity.fingerprint, asdict(traits), dtype, seed, max_new_tokens)
    run = f"extract-{key[:10]}"
    if store.has(run):
        progress("found a finished run", 1.0)
        return store.load_traits(run)
    total, done = 2 * len(traits.traits) * len(traits.questions), 0

    def tick(n: int) -> None:
        nonlocal done
        done += n
        progress(f"replies of {loaded.identity.name}", 0.02 + 0.9 * done / total)

    runner = Runner(loaded, config, store, 0, tick)
    name = loaded.identity.name
    made = extract_side(name, loaded, traits, config, runner, np.random.default_rng([seed, 1, 0]), POOLED)
    cards, agreements, replies = [], [], []
    for k, trait in enumerate(traits.traits):
        progress(f"recipes of {trait.name}", 0.92 + 0.07 * k / len(traits.traits))
        contrasts: Contrasts = {p: {s: made.poles[trait.name].of(p, s) for s in SPLITS} for p in POOLED}
        rng = np.random.default_rng([seed, 5, k])
        more, alike = trait_cards(contrasts, rng, model=name, trait=trait.name)
        cards += more
        agreements += alike
        replies += _replies(name, made, trait.name)
    found = TraitBook(run, loaded.identity, made.depth, tuple(cards), tuple(agreements), tuple(replies))

    def write(folder: Path) -> None:
        for trait, position in made.directions:
            vector = _vector(made, loaded.identity, traits, config, trait, position)
            save(vector, folder / f"{trait}.{position}.safetensors")

    store.save_traits(found, write)
    progress("done", 1.0)
    return found


def _replies(model: str, made: Extraction, trait: str) -> list[PoleReply]:
    """The test replies at both poles, placed between the poles of *select*."""
    pole, direction = made.poles[trait], made.directions[trait, "reply_mean"]
    along = pole.pooled["reply_mean"][:, direction.site.layer].astype(np.float64) @ direction.vector
    split = np.array([j.question.split for j in pole.jobs])
    up = np.array([j.condition == "positive" for j in pole.jobs])
    high = np.nanmean(along[up & (split == "select")])
    low = np.nanmean(along[~up & (split == "select")])
    return [
        PoleReply(
            model, trait, "positive" if up[i] else "negative", job.question.text, job.system, reply.text,
            float((along[i] - (high + low) / 2) / ((high - low) / 2)),
        )
        for i, (job, reply) in enumerate(zip(pole.jobs, pole.replies, strict=True))
        if job.question.split == "test"
    ]  # fmt: skip


def _vector(
    made: Extraction, identity: ModelIdentity, traits: TraitSet, config: CompareConfig, trait: str,
    position: Position,
) -> PersonaVector:  # fmt: skip
    """Mean differences of all layers, the chosen one named."""
    contrast = made.poles[trait].of(position, "extract")
    rows = mean_difference(contrast.acts, contrast.positive, contrast.questions).astype(np.float32)
    settings = {
        "estimator": "mean_difference", "questions": len(traits.of("extract")), "seed": config.seed,
        "max_new_tokens": config.max_new_tokens, "trait_set": traits.name,
    }  # fmt: skip
    return PersonaVector(
        trait, rows, made.directions[trait, position].site.layer, position, "extract", identity.name,
        identity.fingerprint, identity.dtype, settings=settings,
    )  # fmt: skip


def export(
    store: Store, run: str, trait: str, path: Path, position: Position = "reply_mean",
    format: Format | None = None,
) -> tuple[str, ...]:  # fmt: skip
    """Write one vector of an extraction to `path` in another tool's format.

    Returns what that format cannot hold, in sentences. LabError for an unknown run, trait or pooling.
    """
    folder = store.folder(run)
    source = folder / f"{trait}.{position}.safetensors"
    if not source.is_file():
        there = sorted(p.stem for p in folder.glob("*.safetensors"))
        raise LabError(
            f"run {run} has no vector {trait}.{position}; "
            + (f"it has {', '.join(there)}" if there else "it is not a run of `lab extract`")
        )
    return save(load(source), path, format)
