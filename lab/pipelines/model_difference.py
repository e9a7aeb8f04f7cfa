"""Which latents of one model's dictionary its near twin has too: matched reading, checked by latent scaling."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.axis import same_coordinates
from lab.geometry.latent_scaling import Read, latent_scales
from lab.pipelines.compare import Progress, resolve_model
from lab.pipelines.feature_replies import Opened, open_sae
from lab.records import LabError, ModelIdentity
from lab.records.decomposition import DifferenceBook, LatentScale
from lab.store import Store, content_key, readable

if TYPE_CHECKING:
    from lab.models import LoadedModel

VERSION = 1
TEXTS = 128
COORDINATES = 0.5
"""Least mean correlation of dimensions over texts, from which two models are said to have the same coordinates."""


@dataclass(frozen=True)
class DifferenceConfig:
    """Whose dictionary, and which other model. model: "" for the one that the files name."""

    sae: str
    other: str
    model: str = ""
    corpus: str = ""
    """Held-out texts of it are read; "": what the dictionary was trained on."""
    texts: int = TEXTS
    shifts: int = 20
    dtype: str = "float32"
    seed: int = 0
    force: bool = False


def model_difference(config: DifferenceConfig, store: Store, progress: Progress) -> DifferenceBook:
    """Run (or find) the reading of one dictionary in both models.

    LabError for what the user can mend: models that do not share tokens or width, no corpus, too few texts.
    """
    from lab.features.difference import check_same_tokens
    from lab.models import load

    progress("loading models and dictionary", 0.0)
    opened = open_sae(config.sae, config.model, store, config.dtype, config.force)
    other = load(resolve_model(config.other), config.dtype)
    check_same_tokens(opened.model, other)
    corpus = config.corpus or opened.sae.origin.corpus
    if not corpus:
        raise LabError(f"{config.sae} does not say on which texts it was trained; give --corpus")
    settings = {k: v for k, v in asdict(config).items() if k not in ("sae", "model", "other", "force")}
    settings["corpus"] = corpus
    key = content_key(
        "difference-1", opened.model.identity.fingerprint, other.identity.fingerprint, opened.digest, settings
    )
    run = f"difference-{key[:10]}"
    if store.has(run):
        progress("found a finished run", 1.0)
        return load_difference(store, run)
    found = _read(run, config, opened, other, settings, progress)
    save_difference(store, found)
    progress("done", 1.0)
    return found


def _read(
    run: str, config: DifferenceConfig, opened: Opened, other: "LoadedModel", settings: Mapping[str, Any],
    progress: Progress,
) -> DifferenceBook:  # fmt: skip
    from lab.features.corpora import open_corpus
    from lab.features.difference import read_both
    from lab.features.load import decoder_rows
    from lab.features.quality import held_out_tokens

    corpus = open_corpus(settings["corpus"], "held_out", config.seed)
    progress("reading both models", 0.1)
    rows = held_out_tokens(opened.model, corpus, config.texts, config.seed)
    codes, states, text = read_both(opened.sae, (opened.model, other), rows)
    means = [_by_text(s, text) for s in states]
    shared = same_coordinates(*means)
    progress("latent scaling", 0.5)
    latents: tuple[LatentScale, ...] = ()
    why = ""
    if shared >= COORDINATES:
        rng = np.random.default_rng([config.seed, 40])
        latents = latent_scales(Read(*codes, *states, text), decoder_rows(opened.sae), rng, config.shifts)
    else:
        why = (
            f"the two models do not have the same coordinates (their dimensions correlate {shared:.2f} over texts, "
            f"expected {COORDINATES} or more), so every latent would look peculiar; compare matched features instead"
        )
    return DifferenceBook(
        run, (opened.model.identity, other.identity), opened.sae.name, opened.sae.site.layer, shared, len(rows),
        len(text), latents, settings, why,
    )  # fmt: skip


def _by_text(states: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Mean state of every text, [text, d_model]."""
    total = np.zeros((int(text.max()) + 1, states.shape[1]))
    np.add.at(total, text, states.astype(np.float64))
    return total / np.bincount(text)[:, None]


# ------------------------------------------------------------------ runs


def save_difference(store: Store, found: DifferenceBook) -> None:
    """A run with one table."""
    more = {
        "sae": found.sae, "layer": found.layer, "coordinates": found.coordinates, "texts": found.texts,
        "tokens": found.tokens, "why": found.why, "settings": dict(found.settings), "version": VERSION,
    }  # fmt: skip
    rows = {"latents": [asdict(r) for r in found.latents]}
    store.save_records(found.run, "difference", found.models, rows, more)


def load_difference(store: Store, run: str) -> DifferenceBook:
    """The difference of a finished run. LabError when it is missing, damaged or of another kind."""
    data, rows = store.load_rows(run, "difference", ("latents",))
    with readable(run):
        return DifferenceBook(
            run, tuple(ModelIdentity(**m) for m in data["models"]), data["sae"], data["layer"], data["coordinates"],
            data["texts"], data["tokens"], tuple(LatentScale(**r) for r in rows["latents"]), data["settings"],
            data["why"],
        )  # fmt: skip
