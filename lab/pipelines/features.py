"""Cards of every feature of one dictionary, or of two of different models side by side, as a job and a saved run.

    features(config, store, progress) -> FeatureBook       lab sae features NAME [--other NAME2]

What a run says on disk, and searching in it: `lab.pipelines.feature_runs`. Cards are made on held-out texts of the
dictionary's corpus; for Hearth on new conversations whose z and personas are known. One run is one content: the same
files, texts and settings are found again.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.models import files_digest
from lab.pipelines.feature_labels import LabelledTexts, hearth_texts, plain_texts, run_texts
from lab.pipelines.feature_replies import Opened, open_sae
from lab.pipelines.feature_runs import KIND, load_features, save_features
from lab.pipelines.feature_sides import Side, side, twins_by_model, twins_by_seed
from lab.pipelines.sae import TEXTS, MeasureConfig, Models, measure_sae, roots
from lab.records import LabError
from lab.records.feature_cards import TABLES, FeatureBook
from lab.records.features import SaeCard
from lab.store import Store, content_key

if TYPE_CHECKING:
    from pathlib import Path

NONE = "none"
Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class FeaturesConfig:
    """Which dictionary, on which texts."""

    sae: str
    other: str = ""
    """A dictionary of another model that gets cards too, and whose features are matched."""
    second: str = ""
    """Another seed of the same dictionary; "" for what is on the shelf, "none" for nothing."""
    model: str = ""
    """"": the one that the dictionary's files name."""
    other_model: str = ""
    corpus: str = ""
    """"": the one it was trained on; its held-out part is read."""
    texts: int = 256
    per_persona: int = 6
    """Conversations of each persona, on Hearth."""
    truth_texts: int = 1500
    """Conversations that are read for the choices of the grammar alone, on Hearth; 0: none."""
    replies: tuple[str, ...] = ()
    """Runs of lab extract or lab compare whose replies say with what a feature goes."""
    dtype: str = "float32"
    seed: int = 0
    force: bool = False


def features(config: FeaturesConfig, store: Store, progress: Progress) -> FeatureBook:
    """Make or find the cards. LabError for what cannot be opened, read or matched."""
    from lab.features.corpora import HEARTH, open_corpus

    progress("loading models and dictionaries", 0.0)
    opened = [open_sae(config.sae, config.model, store, config.dtype, config.force)]
    if config.other:
        opened.append(open_sae(config.other, config.other_model, store, config.dtype, config.force))
        if opened[1].sae.name == opened[0].sae.name:
            raise LabError(
                "--other: expected another dictionary, got the same one; a second seed is --second"
            )
    corpus = config.corpus or opened[0].sae.origin.corpus
    if not corpus:
        raise LabError(f"{config.sae} does not say on which texts it was trained; give --corpus")
    seconds = [_second(each, config.second if k == 0 else "", store) for k, each in enumerate(opened)]
    run = _run_key(config, opened, seconds, corpus)
    if store.has(run):
        progress("found a finished run", 1.0)
        return load_features(store, run)
    if corpus == HEARTH:
        texts = hearth_texts(config.texts, config.per_persona, config.seed)
    else:
        texts = plain_texts(open_corpus(corpus, "held_out", config.seed), config.texts, config.seed)
    found = _book(config, run, opened, seconds, corpus, texts, store, progress)
    save_features(store, found)
    progress("done", 1.0)
    return found


def _run_key(config: FeaturesConfig, opened: list[Opened], seconds: "list[Path | None]", corpus: str) -> str:
    from lab.features.corpora import digest

    digests = [(each.digest, each.model.identity.fingerprint) for each in opened]
    others = [files_digest(path) if path else "" for path in seconds]
    settings = {
        k: v for k, v in asdict(config).items() if k not in ("sae", "other", "second", "model", "other_model")
    }
    key = content_key("features-2", digests, others, corpus, digest(corpus), settings)
    return f"{KIND}-{key[:10]}"


def _second(opened: Opened, asked: str, store: Store) -> "Path | None":
    """The folder of another seed: what was asked for, or one of the shelf with the same model, site and shape."""
    from lab.features.shelf import find, origin_of, shelf

    if asked == NONE:
        return None
    if asked:
        folder = find(asked, roots(store))
        if folder is None:
            known = ", ".join(shelf(roots(store))) or "none yet"
            raise LabError(f"--second: no dictionary {asked!r}; there are {known}")
        return folder
    mine = opened.sae.origin
    for name, folder in shelf(roots(store)).items():
        if name == opened.sae.name:
            continue
        try:
            origin = origin_of(folder)
        except LabError:
            continue  # lab sae list tells of it
        same = replace(origin, tokens=mine.tokens, seed=mine.seed, l0_trained=mine.l0_trained, path=mine.path)
        if repr(same) == repr(mine) and origin.seed != mine.seed:
            return folder
    return None


def _book(
    config: FeaturesConfig, run: str, opened: list[Opened], seconds: "list[Path | None]", corpus: str,
    texts: LabelledTexts, store: Store, progress: Progress,
) -> FeatureBook:  # fmt: skip
    from lab.features.corpora import HEARTH
    from lab.features.load import load_sae

    sides: list[Side] = []
    qualities: list[SaeCard] = []
    tables: dict[str, list[Any]] = {name: [] for name in TABLES}
    share, replies = 0.8 / len(opened), _replies_of(config, opened, store)
    for k, each in enumerate(opened):
        tell = lambda said, x, k=k: progress(said, 0.05 + share * (k + 0.7 * x))  # noqa: E731
        rng = np.random.default_rng([config.seed, 31, k])
        extra = [run_texts(store, name, each.model) for name in replies[k]]
        sides.append(side(each, texts.samples, texts.labels, extra, rng, tell))
        for name in ("cards", "examples", "labels"):
            tables[name] += getattr(sides[-1], name)
        if seconds[k]:
            tell("another seed", 1.0)
            second = load_sae(str(seconds[k]), each.model, (), config.force)
            _add(tables, "twins", twins_by_seed(sides[-1], second, rng))
        if corpus == HEARTH and config.truth_texts:
            tell(f"{each.sae.name}: choices of the grammar", 1.1)
            _add_truth(tables, each, config, rng)
        tell("how good the dictionary is", 1.3)
        qualities.append(_quality(config, k, each, corpus, store))
    if len(sides) == 2:
        progress("matching features of two models", 0.92)
        _add(tables, "twins", twins_by_model(sides[0], sides[1], np.random.default_rng([config.seed, 32])))
    settings = {
        **{k: v for k, v in asdict(config).items() if k not in ("model", "other_model", "force")},
        "texts_read": len(texts.samples), "labels": texts.labels.source,
        "second_seeds": [str(path.name) if path else "" for path in seconds],
    }  # fmt: skip
    return FeatureBook(
        run, tuple(each.model.identity for each in opened), tuple(s.name for s in sides), corpus,
        **{name: tuple(rows) for name, rows in tables.items()}, settings=settings,
        qualities=tuple(qualities),
    )  # fmt: skip


def _quality(config: FeaturesConfig, k: int, opened: Opened, corpus: str, store: Store) -> SaeCard:
    """How good a dictionary is as loaded, or why that cannot be told."""
    name, model = ((config.sae, config.model), (config.other, config.other_model))[k]
    source = model or opened.sae.origin.path
    models = Models()
    models.keep(source, config.dtype, opened.model)
    texts = min(config.texts, TEXTS)
    measured = MeasureConfig(model, corpus, texts, config.dtype, force=config.force)
    try:
        return measure_sae(name, measured, store, lambda said, x: None, models)
    except LabError as error:
        return SaeCard(opened.sae.name, opened.sae.folder, opened.sae.origin, None, corpus, str(error))


def _replies_of(config: FeaturesConfig, opened: list[Opened], store: Store) -> list[list[str]]:
    """Per side the runs with replies of its model. LabError for a run that is of neither."""
    found: list[list[str]] = [[] for _ in opened]
    kinds = {info.id: info.kind for info in store.runs()}
    for run in config.replies:
        models = store.load_rows(run, kinds.get(run, ""), ())[0]["models"]
        owners = [
            k
            for k, each in enumerate(opened)
            if each.model.identity.fingerprint in {m["fingerprint"] for m in models}
        ]
        if not owners:
            names = " or ".join(each.model.identity.name for each in opened)
            raise LabError(f"--replies: run {run} has no replies of {names}; give a run of this model")
        for k in owners:
            found[k].append(run)
    return found


def _add(tables: dict[str, list[Any]], name: str, found: tuple[tuple[Any, ...], tuple[Any, ...]]) -> None:
    tables[name] += found[0]
    tables["summaries"] += found[1]


def _add_truth(
    tables: dict[str, list[Any]], opened: Opened, config: FeaturesConfig, rng: np.random.Generator
) -> None:
    from lab.pipelines.feature_places import hearth_places
    from lab.pipelines.feature_truth import choice_scores, feature_choices

    seen = hearth_places(opened, config.truth_texts, config.seed)
    tables["choices"] += feature_choices(seen, opened.sae.name, rng)
    _add(tables, "scores", choice_scores(seen, opened.sae.name, rng, ("in slot", "pole")))
