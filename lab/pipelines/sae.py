"""Sparse dictionaries as jobs: train one, list what is there, measure one.

Dictionaries live in two places: data/saes (shipped) and saes/ in the folder of runs (made here). Their quality
is measured when they are asked for, on held-out text of the corpus they were trained on, and kept in the
store's cache under a key of everything it depends on.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lab.models import files_digest
from lab.pipelines.compare import DATA, resolve_model
from lab.records import LabError, Site
from lab.records.features import SaeCard, SaeOrigin, SaeQuality, SaeSettings
from lab.store import Store, content_key

if TYPE_CHECKING:
    from lab.features.load import Sae
    from lab.models import LoadedModel

SHIPPED = DATA / "saes"
Progress = Callable[[str, float], None]
TEXTS = 128
"""Held-out texts that a dictionary is measured on."""


@dataclass(frozen=True)
class SaeConfig:
    """What to train a dictionary of."""

    model: str
    settings: SaeSettings = field(default_factory=SaeSettings)
    layer: int | None = None
    """None: the middle one."""
    out: Path | None = None
    """None: a name of its own in the folder of runs."""
    dtype: str = "float32"


def roots(store: Store) -> tuple[Path, ...]:
    """Where dictionaries are looked for by name."""
    return store.root / "saes", SHIPPED


def folder_of(name: str, store: Store) -> Path | None:
    """The folder of a dictionary by path or name; None for what may be one of SAELens' list (release/sae_id).

    LabError for a plain name of which there is none here.
    """
    from lab.features.shelf import find, shelf

    folder = find(name, roots(store))
    if folder is None and "/" not in name:
        known = ", ".join(shelf(roots(store))) or "none yet"
        raise LabError(f"there is no dictionary {name!r}; there are: {known} (lab sae list)")
    return folder


def middle(layers: int) -> int:
    """The layer that is taken where none is named."""
    return layers // 2


def train_sae(config: SaeConfig, store: Store, progress: Progress) -> Path:
    """Train, or go on with what was begun, or find what is finished. LabError as `lab.features.train.train`."""
    from lab.models import load

    progress("loading the model", 0.0)
    model = load(resolve_model(config.model), config.dtype)
    layer = middle(model.identity.layers) if config.layer is None else config.layer
    from lab.features.train import train  # SAELens takes seconds to import

    s = config.settings
    name = f"{model.identity.name.replace('/', '-')}-l{layer}-{s.architecture}{s.k}-x{s.expansion}-s{s.seed}"
    return train(model, Site(layer), s, config.out or store.root / "saes" / name, progress, config.model)


# ------------------------------------------------------------------ measuring


@dataclass(frozen=True)
class MeasureConfig:
    """How a dictionary is measured. model, corpus: "" for what its own files name."""

    model: str = ""
    corpus: str = ""
    texts: int = TEXTS
    dtype: str = "float32"
    seed: int = 0
    force: bool = False


def measure_sae(
    name: str, config: MeasureConfig, store: Store, progress: Progress, models: "Models | None" = None
) -> SaeCard:
    """The card of one dictionary, measured at load or found in the cache.

    LabError as `lab.features.load.load_sae`, and where neither `config` nor the files name a model and a corpus.
    """
    from lab.features.shelf import origin_of

    loaded = models or Models()
    folder = folder_of(name, store)
    origin = origin_of(folder) if folder else None
    source = config.model or (origin.path if origin else "")
    if not source:
        raise LabError(f"{name} does not say of which model it was made; give --model")
    corpus = config.corpus or (origin.corpus if origin else "")
    if not corpus:
        raise LabError(f"{name} does not say on which texts it was trained; give --corpus to measure it on")
    key = _key(folder, source, corpus, config)
    hit = store.cached(key) if key else None
    if hit and folder and origin:
        return SaeCard(folder.name, str(folder), origin, SaeQuality(**hit[1]), corpus)
    progress(f"loading {source}", 0.0)
    sae, found = _measured(name, loaded.of(source, config.dtype), corpus, config, store, progress)
    if key:
        store.put(key, {}, asdict(found))
    return SaeCard(sae.name, sae.folder, sae.origin, found, corpus)


def _measured(
    name: str, model: "LoadedModel", corpus: str, config: MeasureConfig, store: Store, progress: Progress
) -> "tuple[Sae, SaeQuality]":
    from lab.features.corpora import open_corpus
    from lab.features.load import load_sae
    from lab.features.quality import held_out_tokens, measure

    sae = load_sae(name, model, roots(store), config.force)
    rows = held_out_tokens(model, open_corpus(corpus, "held_out", config.seed), config.texts, config.seed)
    rng = np.random.default_rng([config.seed, 9])
    return sae, measure(sae, model, rows, rng, progress=lambda x: progress(f"measuring {sae.name}", x))


class Models:
    """Models of one job, the last one kept, since dictionaries of one model stand together."""

    def __init__(self) -> None:
        self._last: tuple[tuple[str, str], LoadedModel] | None = None

    def keep(self, source: str, dtype: str, model: "LoadedModel") -> None:
        """A model that is loaded already."""
        self._last = ((source, dtype), model)

    def of(self, source: str, dtype: str) -> "LoadedModel":
        """The model by shipped name, folder or hub name."""
        from lab.models import load

        if self._last is None or self._last[0] != (source, dtype):
            self._last = None
            self._last = ((source, dtype), load(resolve_model(source), dtype))
        return self._last[1]


def _key(folder: Path | None, source: str, corpus: str, config: MeasureConfig) -> str | None:
    """Everything that the quality depends on; None where a part of it has no files here."""
    model = Path(resolve_model(source))
    if folder is None or not (model / "config.json").is_file():
        return None
    from lab.features.corpora import digest

    parts = [asdict(config), source, corpus, digest(corpus), version("sae-lens")]
    return content_key("sae-quality-1", files_digest(folder), files_digest(model), *parts)


# ------------------------------------------------------------------ the shelf


def list_saes(
    store: Store, progress: Progress, config: MeasureConfig = MeasureConfig()
) -> tuple[SaeCard, ...]:
    """Every dictionary that is here with its card; one that cannot be measured says why in its note."""
    from lab.features.shelf import origin_of, shelf

    found, unread, models = [], [], Models()
    for name, folder in shelf(roots(store)).items():
        try:
            found.append((name, folder, origin_of(folder)))
        except LabError as error:
            unread.append(SaeCard(name, str(folder), _UNREAD, None, "", str(error)))
    found.sort(key=lambda each: (each[2].path, each[0]))
    cards = []
    for i, (name, folder, origin) in enumerate(found):
        tell = lambda said, x, i=i: progress(said, (i + x) / len(found))  # noqa: E731
        try:
            cards.append(measure_sae(str(folder), config, store, tell, models))
        except LabError as error:
            cards.append(SaeCard(name, str(folder), origin, None, "", str(error)))
    return (*cards, *unread)


_UNREAD = SaeOrigin("", 0, 0, "", "", "", "", None, "", 0, -1, float("nan"))


def listed(cards: Sequence[SaeCard]) -> list[dict[str, object]]:
    """What `lab sae list --json` prints: measured at load on held-out text; NaN where it could not be."""
    nan = float("nan")
    return [
        {
            "name": c.name,
            "model": c.origin.model,
            "hook": c.origin.hook,
            "d_sae": c.origin.d_sae,
            "explained_variance": c.quality.explained_variance if c.quality else nan,
            "l0": c.quality.l0 if c.quality else nan,
            "l0_trained": c.origin.l0_trained,
            "loss_recovered": c.quality.loss_recovered if c.quality else nan,
            "dead": c.quality.dead if c.quality else nan,
            "seed": c.origin.seed,
        }
        for c in cards
    ]
