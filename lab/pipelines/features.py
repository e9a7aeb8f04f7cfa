"""Cards of every feature of one dictionary, or of two of different models side by side, as a job and a saved run.

    features(config, store, progress) -> FeatureBook       lab sae features NAME [--other NAME2]
    load_features(store, run) -> FeatureBook;  save_features(store, book)
    latest(store, sae) -> run id or None                    the newest run with cards of a dictionary
    search(book, word) -> Hit rows                          where a word, trait or persona turns up

Cards are made on held-out texts of the dictionary's corpus; for Hearth on new conversations whose z and personas are
known. One run is one content: the same files, texts and settings are found again.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.models import files_digest
from lab.pipelines.feature_labels import LabelledTexts, hearth_texts, plain_texts, run_texts
from lab.pipelines.feature_replies import Opened, open_sae
from lab.pipelines.feature_sides import Side, side, twins_by_model, twins_by_seed
from lab.pipelines.sae import roots
from lab.records import LabError, ModelIdentity
from lab.records.feature_cards import TABLES, FeatureBook, FeatureCard, FeatureExample
from lab.store import Store, content_key, readable

if TYPE_CHECKING:
    from pathlib import Path

KIND = "features"
NONE = "none"
TELLS = 0.9
"""AUROC from which on a search names a feature's choice."""
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
    key = content_key("features-1", digests, others, corpus, digest(corpus), settings)
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
    tables: dict[str, list[Any]] = {name: [] for name in TABLES}
    share, replies = 0.85 / len(opened), _replies_of(config, opened, store)
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
    )  # fmt: skip


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


# ------------------------------------------------------------------ on disk


def save_features(store: Store, found: FeatureBook) -> None:
    """A run of tables, one per kind of record."""
    rows = {name: [dict(vars(r)) for r in getattr(found, name)] for name in TABLES}
    more = {"saes": found.saes, "corpus": found.corpus, "settings": dict(found.settings)}
    store.save_records(found.run, KIND, found.models, rows, more)


def load_features(store: Store, run: str) -> FeatureBook:
    """What a finished run says. LabError when it is missing, damaged or of another version."""
    data, rows = store.load_rows(run, KIND, tuple(TABLES))
    with readable(run):
        tables = {name: tuple(kind(**_plain(r)) for r in rows[name]) for name, kind in TABLES.items()}
        return FeatureBook(
            run, tuple(ModelIdentity(**m) for m in data["models"]), tuple(data["saes"]), data["corpus"],
            **tables, settings=data["settings"],
        )  # fmt: skip


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """Tuples for what a table gives back as arrays."""
    return {k: tuple(v.tolist()) if isinstance(v, np.ndarray) else v for k, v in row.items()}


def latest(store: Store, sae: str) -> str | None:
    """The newest run with cards of a dictionary."""
    for info in store.runs():
        if info.kind == KIND and sae in store.load_rows(info.id, KIND, ())[0]["saes"]:
            return info.id
    return None


# ------------------------------------------------------------------ search


@dataclass(frozen=True)
class Hit:
    """A feature that a search found, why, and how strongly (0 to 1)."""

    sae: str
    feature: int
    score: float
    why: str


def search(book: FeatureBook, word: str, most: int = 50) -> tuple[Hit, ...]:
    """Features that fire on a word, promote it, or go with a trait, persona or choice of that name; strongest first.

    Score: the share of a feature's top examples that peak inside the word; |r| of a label with q < .05, against the
    strongest; the part of its activation at a choice that it tells with TELLS; for a promoted token half its share
    of the strongest one.
    """
    asked = word.strip().lower()
    if not asked:
        raise LabError("expected a word to search for, got nothing")
    found: dict[tuple[str, int], Hit] = {}
    for hit in (*_on_words(book, asked), *_by_name(book, asked), *_promoting(book.cards, asked)):
        key = (hit.sae, hit.feature)
        if key not in found or hit.score > found[key].score:
            found[key] = hit
    return tuple(sorted(found.values(), key=lambda h: (-h.score, h.sae, h.feature))[:most])


def peak_word(example: FeatureExample) -> str:
    """The word, or mark, in which an example has its highest token."""
    begin = sum(map(len, example.tokens[: example.at]))
    end = begin + len(example.tokens[example.at])
    text = "".join(example.tokens)
    words = [
        m
        for m in re.finditer(r"[\w'’]+|[^\w\s]+", text)
        if m.start() < max(end, begin + 1) and m.end() > begin
    ]
    return words[-1].group() if words else ""


def _on_words(book: FeatureBook, asked: str) -> Iterator[Hit]:
    tops: dict[tuple[str, int], list[bool]] = {}
    for example in book.examples:
        if example.quantile == "top":
            peak = peak_word(example).lower()
            tops.setdefault((example.sae, example.feature), []).append(peak == asked)
    for (sae, feature), said in tops.items():
        if any(said):
            yield Hit(
                sae, feature, sum(said) / len(said), f"fires on it in {sum(said)} of {len(said)} top examples"
            )


def _by_name(book: FeatureBook, asked: str) -> Iterator[Hit]:
    rows = [r for r in book.labels if asked in r.label.lower() and r.q < 0.05]
    top = max((abs(r.r) for r in rows), default=1.0)
    for row in rows:
        yield Hit(row.sae, row.feature, abs(row.r) / top, f"goes with {row.kind} {row.label}, r {row.r:+.2f}")
    for row in book.choices:
        if (asked in row.trait.lower() or asked in row.words.lower().split()) and row.auroc >= TELLS:
            said = f"{row.words!r} ({row.trait} {row.load:+g}), AUROC {row.auroc:.2f}, {row.mass:.0%} of its activation"
            yield Hit(row.sae, row.feature, row.mass, f"tells {said}")


def _promoting(cards: tuple[FeatureCard, ...], asked: str) -> Iterator[Hit]:
    for card in cards:
        for token, logit in zip(card.promoted, card.promoted_logits, strict=True):
            if token.strip().lower() == asked and logit > card.promoted_null:
                share = logit / max(card.promoted_logits[0], 1e-12)
                yield Hit(card.sae, card.feature, 0.5 * share, f"promotes it by {logit:.1f} nats")
                break
