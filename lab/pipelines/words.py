"""The same text in two models with different tokenizers: cuts, surprisal, attention.

One text is shown in full; a set of design texts gives the numbers with intervals. Heads are matched on one
half of the design texts (extract) and reported on the other (test). A third model, a second seed of the first, says how
far apart two trainings of one recipe are. What the chat template adds is grey in pictures and left out of numbers.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from lab.geometry.attention import compare_heads
from lab.geometry.words import words_of
from lab.pipelines.compare import labels_of, shipped_scaffolds
from lab.pipelines.texts import PLACES, Reading, load_models, read_text
from lab.pipelines.word_measures import (
    attention_measures,
    cut_measures,
    match_rows,
    token_cells,
    word_attention,
    word_pieces,
)
from lab.records import LabError, ModelIdentity
from lab.records.words import HeadMatch, TokenCell, WordAttention, WordMeasure, WordPieces, WordsBook
from lab.store import Store, content_key, readable

if TYPE_CHECKING:
    from lab.models import LoadedModel

Progress = Callable[[str, float], None]
FEWEST = 16
"""Words that a design text needs, so that there is attention to compare."""
ARRAYS = "attention.safetensors"
_TABLES: dict[str, type] = {
    "words": WordPieces,
    "cells": TokenCell,
    "measures": WordMeasure,
    "matches": HeadMatch,
}


@dataclass(frozen=True)
class WordsConfig:
    """Which text, in which models, and over which texts numbers are taken."""

    models: tuple[str, str]
    """Two model folders, shipped names or hub names; the same twice is allowed."""
    control: str | None = None
    """A second seed of the first model."""
    text: str | None = None
    """The text that is shown; None: the first design text."""
    design: tuple[str, ...] = ()
    """Texts for numbers and head matching; none: the shipped scaffolds."""
    place: str = "system"
    dtype: str = "float32"
    seed: int = 0
    draws: int = 1000


def shipped_texts() -> tuple[str, ...]:
    """Every shipped scaffold that says something, in its first wording."""
    texts = (s.paraphrases[0].text.strip() for s in shipped_scaffolds())
    return tuple(t for t in texts if t)


def check_text(text: str, words: int = 1) -> str:
    """The text without blanks around it. LabError when it has fewer words than asked for."""
    found = sum(not w.mark for w in words_of(text))
    if found < words:
        raise LabError(
            f"expected a text of at least {words} word{'s' if words > 1 else ''}, got {found} in {text[:60]!r}; give "
            "letters or digits to read"
        )
    return text.strip()


def words(config: WordsConfig, store: Store, progress: Progress) -> WordsBook:
    """Read the texts in all models and compare, or find what was saved. LabError for what cannot be read or compared."""
    if config.place not in PLACES:
        raise LabError(f"the place of a text must be one of {', '.join(PLACES)}, got {config.place!r}")
    design = tuple(check_text(t, FEWEST) for t in config.design or shipped_texts())
    if len(design) < 4:
        raise LabError(
            f"expected at least 4 design texts, half to match heads on, got {len(design)}; add texts"
        )
    text = check_text(design[0] if config.text is None else config.text)
    progress("loading models", 0.0)
    models = load_models([*config.models, *([config.control] if config.control else [])], config.dtype)
    run = _run_key(config, models, text, design)
    if store.has(run):
        progress("found a finished run", 1.0)
        return load_words(store, run)
    total, shown, read = len(models) * (len(design) + 1), [], []
    for k, model in enumerate(models):
        rows = []
        for i, one in enumerate((text, *design)):
            progress(f"reading in {model.identity.name}", 0.1 + 0.7 * (k * (len(design) + 1) + i) / total)
            rows.append(read_text(model, one, PLACES[config.place]))
        shown.append(rows[0])
        read.append(rows[1:])
    progress("statistics", 0.85)
    found = _conclude(config, run, models, text, shown, read)
    save_words(store, found)
    progress("done", 1.0)
    return found


def _run_key(config: WordsConfig, models: Sequence["LoadedModel"], text: str, design: Sequence[str]) -> str:
    """The id of the run: the same models, texts and settings give the same id."""
    fingerprints = [m.identity.fingerprint for m in models]
    return "words-" + content_key("words-1", fingerprints, text, list(design), _settings(config))[:10]


def _settings(config: WordsConfig) -> dict[str, object]:
    return {k: v for k, v in asdict(config).items() if k not in ("models", "control", "text", "design")}


def _conclude(
    config: WordsConfig, run: str, models: Sequence["LoadedModel"], text: str, shown: Sequence[Reading],
    read: Sequence[Sequence[Reading]],
) -> WordsBook:  # fmt: skip
    rng = np.random.default_rng([config.seed, 8])
    labels = labels_of(models)
    heads = compare_heads([[r.attention for r in rows] for rows in read], rng)
    scope = f"{len(read[0])} texts"
    measures = [
        *cut_measures("this text", labels, [[r] for r in shown[:2]], config.draws, rng),
        *cut_measures(scope, labels, read[:2], config.draws, rng),
        *attention_measures(scope, labels, read, heads, config.draws, rng),
    ]
    sizes = [r.outside.shape[1] for r in shown]
    return WordsBook(
        run=run, models=tuple(m.identity for m in models), labels=labels, place=config.place, text=text,
        words=word_pieces(shown[0], shown[1], text), cells=token_cells(labels, shown[:2]),
        measures=tuple(measures),
        matches=match_rows(labels, sizes, heads.matchings[0], rng, config.draws),
        attention=(word_attention(labels[0], shown[0]), word_attention(labels[1], shown[1])),
        grid=heads.grid,
        settings={**_settings(config), "texts": len(read[0])},
    )  # fmt: skip


# ------------------------------------------------------------------ on disk


def save_words(store: Store, found: WordsBook) -> None:
    """A run of tables, one per kind of record, and one file of arrays."""
    arrays = {
        "grid": found.grid,
        **{f"attention_{k}": x.attention for k, x in enumerate(found.attention)},
        **{f"outside_{k}": x.outside for k, x in enumerate(found.attention)},
    }

    def write(folder: Path) -> None:
        save_file({name: np.ascontiguousarray(x) for name, x in arrays.items()}, folder / ARRAYS)

    tables = {name: pd.DataFrame([asdict(r) for r in getattr(found, name)]) for name in _TABLES}
    more = {
        "labels": found.labels, "place": found.place, "text": found.text, "settings": dict(found.settings),
        "attended": [[x.model, list(x.words)] for x in found.attention],
    }  # fmt: skip
    store.save_tables(found.run, "words", found.models, tables, write, more)


def load_words(store: Store, run: str) -> WordsBook:
    """What a finished run says. LabError when it is missing, damaged or of another version."""
    data, rows = store.load_rows(run, "words", tuple(_TABLES))
    try:
        arrays = load_file(store.folder(run) / ARRAYS)
    except (OSError, SafetensorError) as error:
        raise LabError(
            f"the arrays of run {run} are damaged ({error}); delete its folder and run it again"
        ) from error
    with readable(run):
        a, b = (
            WordAttention(model, tuple(words), arrays[f"attention_{k}"], arrays[f"outside_{k}"])
            for k, (model, words) in enumerate(data["attended"])
        )
        tables = {name: tuple(kind(**r) for r in rows[name]) for name, kind in _TABLES.items()}
        return WordsBook(
            run=run, models=tuple(ModelIdentity(**m) for m in data["models"]), labels=tuple(data["labels"]),
            place=data["place"], text=data["text"], attention=(a, b), grid=arrays["grid"],
            settings=data["settings"], **tables,
        )  # fmt: skip
