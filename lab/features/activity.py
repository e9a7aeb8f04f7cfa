"""Activations of a dictionary's features over held-out texts, as one sparse table with every token's place.

    spell(tokenizer, row: Tokens) -> Spelled                    what the counted tokens say, and who says which character
    activity(sae, model, rows, most=…, progress=…) -> Activity  [token, feature], tokens in reading order

`Activity` (lab.records.feature_cards) holds the counted tokens alone. Two models that read the same samples have
the same texts up to blanks, however they cut them, so `lab.geometry.feature_match` can lay them on common words.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int
from numpy import ndarray
from scipy.sparse import vstack

from lab.features.load import Sae, encode_tokens
from lab.features.stream import Tokens
from lab.models import LoadedModel
from lab.records import LabError
from lab.records.feature_cards import Activity, csr

MOST_ACTIVE = 60_000_000
"""Activations above 0 that a table may hold: 480 MB."""
BROKEN = "\ufffd"
"""What a tokenizer writes for a part of a character."""


@dataclass(frozen=True)
class Spelled:
    """What counted tokens say: characters start[t] to end[t] - 1 of `text` are those of the t-th counted token."""

    text: str
    start: Int[ndarray, " token"]
    end: Int[ndarray, " token"]


@dataclass
class Speller:
    """Texts of token rows; remembers what a token says after another one."""

    tokenizer: Any
    _known: dict[tuple[int, int], str] = field(default_factory=dict)

    def spell(self, row: Tokens) -> Spelled:
        """The counted tokens of a row; unbroken runs of one speaker are messages, apart by a line break."""
        at = np.flatnonzero(row.counts)
        begins = np.flatnonzero((np.diff(at) > 1) | (np.diff(row.reply[at].astype(int)) != 0)) + 1
        parts, ends, before = [], [np.zeros(0, np.int64)], 0
        for run in np.split(at, begins) if len(at) else []:
            text, stop = self._run(row.ids[run].tolist())
            parts.append(text)
            ends.append(stop + before)
            before += len(text) + 1
        end = np.concatenate(ends)
        start = np.append(0, end[:-1])[: len(end)]
        start[begins] += 1
        return Spelled("\n".join(parts), start, end)

    def _run(self, ids: list[int]) -> tuple[str, Int[ndarray, " token"]]:
        """The text of ids, and where each of them ends in it."""
        whole = self._decode(ids)
        pieces = [self._decode(ids[:1]), *map(self._after, ids, ids[1:])]
        if "".join(pieces) == whole and not any(BROKEN in p for p in pieces):
            return whole, np.cumsum([len(p) for p in pieces])
        return whole, _ends(self._decode, ids, whole)

    def _after(self, before: int, token: int) -> str:
        if (before, token) not in self._known:
            both, one = self._decode([before, token]), self._decode([before])
            # Some tokenizers drop the blank of a text's first token; behind another one it is seen.
            self._known[before, token] = both[len(one) :] if both.startswith(one) else BROKEN
        return self._known[before, token]

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)


def _ends(decode: Callable[[list[int]], str], ids: list[int], whole: str) -> Int[ndarray, " token"]:
    """Ends of tokens that share characters: one that ends inside a character ends where the last whole one does."""
    found = np.zeros(len(ids), np.int64)
    for k in range(1, len(ids) + 1):
        said = decode(ids[:k]).rstrip(BROKEN)
        before = found[k - 2] if k > 1 else 0
        found[k - 1] = max(before, len(said)) if whole.startswith(said) else before
    if len(found):
        found[-1] = len(whole)
    return found


def spell(tokenizer: Any, row: Tokens) -> Spelled:
    """What the counted tokens of one row say."""
    return Speller(tokenizer).spell(row)


def activity(
    sae: Sae, model: LoadedModel, rows: Sequence[Tokens], most: int = MOST_ACTIVE,
    progress: Callable[[float], None] | None = None,
) -> Activity:  # fmt: skip
    """Every feature at every counted token of the rows; text i is rows[i].

    Memory: one batch, and 8 bytes per activation above 0. LabError when these are more than `most`, which an
    untrained or very dense dictionary on many texts can reach.
    """
    empty = csr((0, sae.origin.d_sae), dtype=np.float32)
    parts, active = [empty] * len(rows), 0
    for done, (i, found) in enumerate(encode_tokens(sae, model, rows), 1):
        parts[i] = found[np.flatnonzero(rows[i].counts)].astype(np.float32)
        active += parts[i].nnz
        if active > most:
            raise LabError(
                f"{sae.name}: more than {most:,} activations above 0 in {done} of {len(rows)} texts; give fewer texts "
                "(--texts) or a sparser dictionary"
            )
        if progress is not None:
            progress(done / len(rows))
    speller = Speller(model.tokenizer)
    spelled = [speller.spell(row) for row in rows]
    places = [np.flatnonzero(row.counts) for row in rows]
    join = np.concatenate
    return Activity(
        csr(vstack([empty, *parts], format="csr")),
        np.repeat(np.arange(len(rows)), [len(p) for p in places]),
        join([np.zeros(0, np.int64), *places]),
        join([np.zeros(0, bool), *(row.reply[p] for row, p in zip(rows, places, strict=True))]),
        join([np.zeros(0, np.int64), *(s.start for s in spelled)]),
        join([np.zeros(0, np.int64), *(s.end for s in spelled)]),
        tuple(s.text for s in spelled),
    )
