"""Where the source of Hearth's replies chose, and what each feature of a dictionary is there.

A place is a stretch of a reply that one trait-bearing choice of the source made; its value is the highest activation
of the feature on its tokens.

    options() -> Option rows                                every trait-bearing choice, in a fixed order
    places(activity, rng) -> Places
    places_of(sae, model, rows, rng, progress) -> Places         many texts, bounded memory
    hearth_places(opened, texts, seed, progress) -> Places  new conversations
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int
from numpy import ndarray
from scipy.sparse import vstack

from lab.records import LabError
from lab.records.feature_cards import Activity, Sparse, csr
from lab.world.choices import Option, choices_in, trait_choices
from lab.world.library import library

if TYPE_CHECKING:
    from lab.features.load import Sae
    from lab.features.stream import Tokens
    from lab.models import LoadedModel
    from lab.pipelines.feature_replies import Opened

ROWS_AT_ONCE = 128
"""Texts whose tokens are held together."""


@cache
def options() -> tuple[Option, ...]:
    """Every trait-bearing choice of Hearth's grammar."""
    return trait_choices(library().grammar)


@dataclass(frozen=True)
class Places:
    """Where the source chose: values csr [place, feature], choice [place] (number in `options()`), text [place].

    elsewhere: the same over as many tokens at a random other spot of the same reply. A longer stretch has more
    chances to be high, and a reply's persona shows everywhere in it: what a feature tells from elsewhere, it does
    not tell from the choice. sentences, parsed: of the replies, and how many of them could be read.
    """

    values: Sparse
    elsewhere: Sparse
    choice: Int[ndarray, " place"]
    text: Int[ndarray, " place"]
    sentences: int
    parsed: int

    @property
    def inner(self) -> Int[ndarray, " some"]:
        """Places of choices that hold no others: sentences are not told from the phrases inside them."""
        return np.flatnonzero(np.array([o.inner for o in options()])[self.choice])

    def of(self, at: Int[ndarray, " some"]) -> "Places":
        """Some of the places."""
        return replace(
            self,
            values=self.values[at],
            elsewhere=self.elsewhere[at],
            choice=self.choice[at],
            text=self.text[at],
        )


# ------------------------------------------------------------------ places


def places(activity: Activity, rng: np.random.Generator) -> Places:
    """The trait-bearing choices of every reply, with the highest activation of each feature on their tokens."""
    number = {(o.slot, o.alternative): k for k, o in enumerate(options())}
    rows, other, choice, text, sentences, parsed = [], [], [], [], 0, 0
    for tokens in _replies(activity):
        i, begin = int(activity.text[tokens[0]]), int(activity.start[tokens[0]])
        read = choices_in(activity.texts[i][begin : activity.end[tokens[-1]]])
        sentences, parsed = sentences + read.sentences, parsed + read.parsed
        start, end = activity.start[tokens] - begin, activity.end[tokens] - begin
        for made in read.choices:
            held = np.flatnonzero((start < made.end) & (end > made.start))
            if (made.slot, made.alternative) in number and len(held):
                rows.append(tokens[held])
                other.append(tokens[_elsewhere(held, len(tokens), rng)])
                choice.append(number[made.slot, made.alternative])
                text.append(i)
    values, elsewhere = (_highest(activity.values, runs) for runs in (rows, other))
    return Places(values, elsewhere, np.array(choice, np.int64), np.array(text, np.int64), sentences, parsed)


def _elsewhere(held: Int[ndarray, " _held"], tokens: int, rng: np.random.Generator) -> Int[ndarray, " _held"]:
    """As many tokens of a reply, unbroken and apart from `held` where it is long enough."""
    starts = np.arange(tokens - len(held) + 1)
    apart = starts[(starts + len(held) <= held[0]) | (starts > held[-1])]
    return int(rng.choice(apart if len(apart) else starts)) + np.arange(len(held))


def _replies(activity: Activity) -> Iterator[Int[ndarray, " token"]]:
    """The tokens of each reply: unbroken runs that the assistant says."""
    said = np.flatnonzero(activity.reply)
    cut = (np.diff(activity.position[said]) != 1) | (np.diff(activity.text[said]) != 0)
    yield from (run for run in np.split(said, np.flatnonzero(cut) + 1) if len(run))


def _highest(values: Sparse, runs: Sequence[Int[ndarray, " _held"]]) -> Sparse:
    """Maximum over runs of rows, csr [place, feature]; values are at least 0."""
    shape = (len(runs), values.shape[1])
    cells = values[np.concatenate([np.zeros(0, np.int64), *runs])].tocoo()
    if not cells.nnz:
        return csr(shape, dtype=np.float32)
    place = np.repeat(np.arange(len(runs)), [len(run) for run in runs])[cells.row]
    key = place * shape[1] + cells.col
    order = np.argsort(key, kind="stable")
    begin = np.flatnonzero(np.diff(key[order], prepend=-1))
    top, where = np.maximum.reduceat(cells.data[order], begin), key[order][begin]
    return csr((top, (where // shape[1], where % shape[1])), shape=shape)


def places_of(
    sae: "Sae", model: "LoadedModel", rows: "Sequence[Tokens]", rng: np.random.Generator,
    progress: Callable[[float], None] | None = None,
) -> Places:  # fmt: skip
    """Places of many texts, ROWS_AT_ONCE at a time: only what stands at a choice is kept.

    LabError when no reply can be read, as with replies that are not Hearth's.
    """
    from lab.features.activity import activity

    found = []
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = places(activity(sae, model, rows[start : start + ROWS_AT_ONCE]), rng)
        found.append(replace(part, text=part.text + start))
        if progress is not None:
            progress(min(1.0, (start + ROWS_AT_ONCE) / len(rows)))
    sentences, parsed = sum(p.sentences for p in found), sum(p.parsed for p in found)
    if not any(len(p.choice) for p in found):
        raise LabError(
            f"none of {sentences} sentences of the replies is of Hearth's grammar; the known truth is only for "
            "conversations of Hearth (--corpus hearth)"
        )
    values, elsewhere = (
        csr(vstack([getattr(p, k) for p in found], format="csr")) for k in ("values", "elsewhere")
    )
    choice, text = (np.concatenate([getattr(p, k) for p in found]) for k in ("choice", "text"))
    return Places(values, elsewhere, choice, text, sentences, parsed)


def hearth_places(
    opened: "Opened", texts: int, seed: int, progress: Callable[[float], None] | None = None
) -> Places:
    """The choices in new conversations of Hearth, as the opened model reads them."""
    from lab.features.stream import tokens_of
    from lab.pipelines.feature_labels import hearth_texts

    samples = hearth_texts(texts, 0, seed).samples
    rows = [row for s in samples for row in tokens_of(opened.model.tokenizer, s, opened.model.context)]
    return places_of(opened.sae, opened.model, rows, np.random.default_rng([seed, 42]), progress)
