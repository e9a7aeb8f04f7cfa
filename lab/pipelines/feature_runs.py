"""Feature cards on disk, and what is found in them by a word. Reading them loads no torch.

load_features(store, run) -> FeatureBook;  save_features(store, book)
latest(store, sae) -> run id or None                    the newest run with cards of a dictionary
search(book, word) -> Hit rows                          where a word, trait or persona turns up
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lab.records import LabError, ModelIdentity
from lab.records.feature_cards import TABLES, FeatureBook, FeatureCard, peak_word
from lab.records.features import SaeCard, SaeOrigin, SaeQuality
from lab.store import Store, readable

KIND = "features"
TELLS = 0.9
"""AUROC from which on a search names a feature's choice."""


def save_features(store: Store, found: FeatureBook) -> None:
    """A run of tables, one per kind of record."""
    rows = {name: [dict(vars(r)) for r in getattr(found, name)] for name in TABLES}
    more = {
        "saes": found.saes, "corpus": found.corpus, "settings": dict(found.settings),
        "qualities": [asdict(card) for card in found.qualities],
    }  # fmt: skip
    store.save_records(found.run, KIND, found.models, rows, more)


def load_features(store: Store, run: str) -> FeatureBook:
    """What a finished run says. LabError when it is missing, damaged or of another version."""
    data, rows = store.load_rows(run, KIND, tuple(TABLES))
    with readable(run):
        tables = {name: tuple(kind(**_plain(r)) for r in rows[name]) for name, kind in TABLES.items()}
        return FeatureBook(
            run, tuple(ModelIdentity(**m) for m in data["models"]), tuple(data["saes"]), data["corpus"],
            **tables, settings=data["settings"], qualities=tuple(_card(c) for c in data.get("qualities", ())),
        )  # fmt: skip


def _card(row: Mapping[str, Any]) -> SaeCard:
    """How good a dictionary was measured to be."""
    quality = row["quality"]
    return SaeCard(
        **{**row, "origin": SaeOrigin(**row["origin"]), "quality": SaeQuality(**quality) if quality else None}
    )


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
