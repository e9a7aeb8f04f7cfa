"""The atlas of two models' untrained twins: how far the words alone, their letters and tokens, make concepts line up."""

from dataclasses import asdict

from lab.models import untrained
from lab.pipelines.atlas import AtlasConfig, Progress, conclude, load_atlas, save_atlas
from lab.pipelines.compare import labels_of
from lab.pipelines.concept_states import read_side, resolve_concepts
from lab.pipelines.words import load_models
from lab.records.atlas import AtlasBook
from lab.store import Store, content_key


def twin_seed(seed: int, side: int, twin: int) -> int:
    """What the weights of a side's twin are drawn with."""
    return 1000 * seed + 100 * side + twin


def untrained_atlas(config: AtlasConfig, twin: int, store: Store, progress: Progress) -> AtlasBook:
    """Run (or find) the atlas of the twin-th untrained twins: same architectures and tokenizers, weights drawn anew."""
    progress("loading models", 0.0)
    models = load_models(config.models, config.dtype)
    concepts = resolve_concepts(config.concepts, [m.trait_set for m in models])
    settings = {k: v for k, v in asdict(config).items() if k not in ("models", "concepts")}
    settings["untrained twin"] = twin
    key = content_key("atlas-twins-2", [m.identity.fingerprint for m in models], settings, asdict(concepts))
    run = f"atlas-{key[:10]}"
    if store.has(run):
        progress("found a finished run", 1.0)
        return load_atlas(store, run)
    sides = []
    for k, (label, model) in enumerate(zip(labels_of(models), models, strict=True)):
        drawn = untrained(model, twin_seed(config.seed, k, twin))
        part = lambda x, k=k, label=label: progress(f"reading {label}, untrained", 0.3 * (k + x))  # noqa: E731
        sides.append(read_side(f"{label} untrained", drawn, concepts, part))
    found = conclude(config, run, concepts, sides, settings, lambda s, x: progress(s, 0.6 + 0.39 * x))
    save_atlas(store, found)
    return found
