"""Directions of one model: made on *extract*, layer chosen on *select*, saved with their identity."""

import json
from dataclasses import asdict, dataclass

import numpy as np

from lab.pipelines.compare import (
    CompareConfig,
    Progress,
    Runner,
    extract_side,
    resolve_model,
    resolve_trait_set,
)
from lab.records import LayerScore
from lab.store import Store, content_key


@dataclass(frozen=True)
class ExtractResult:
    """A saved extraction: the run, the model's name and the scores of every layer on *select*."""

    run: str
    model: str
    depth: tuple[LayerScore, ...]


def extract(
    model: str, store: Store, progress: Progress, trait_set: str = "auto", *, dtype: str, seed: int,
    max_new_tokens: int,
) -> ExtractResult:  # fmt: skip
    """Extract every trait's direction and save them as `directions.safetensors` with `directions.json`.

    Tensors are named `<trait>.<position>`: unit vectors [d_model] at the layer that the JSON names.
    Replies are shared with `compare` through the cache.
    """
    progress("loading model", 0.0)
    from lab.models import load

    loaded = load(resolve_model(model), dtype)
    traits = resolve_trait_set(trait_set, [loaded])
    config = CompareConfig((model,), (), trait_set, dtype, seed, max_new_tokens)
    total, done = 2 * len(traits.traits) * len(traits.questions), 0

    def tick(n: int) -> None:
        nonlocal done
        done += n
        progress(f"replies of {loaded.identity.name}", 0.02 + 0.95 * done / total)

    runner = Runner(loaded, config, store, 0, tick)
    made = extract_side(
        loaded.identity.name, loaded, traits, config, runner, np.random.default_rng([seed, 1, 0])
    )
    run = (
        "extract-"
        + content_key("extract-2", loaded.identity.fingerprint, asdict(traits), dtype, seed, max_new_tokens)[
            :10
        ]
    )
    arrays = {f"{trait}.{position}": d.vector for (trait, position), d in made.directions.items()}
    card = [
        {
            "trait": d.trait, "position": d.position, "layer": d.site.layer, "length": d.length,
            "fingerprint": d.fingerprint, "split": d.split,
        }
        for d in made.directions.values()
    ]  # fmt: skip
    store.save_directions(run, loaded.identity, arrays, json.dumps(card), made.depth)
    progress("done", 1.0)
    return ExtractResult(run, loaded.identity.name, made.depth)
