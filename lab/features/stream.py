"""Activations of one site from texts and chats: which tokens count, and a shuffled stream of bounded memory."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from lab.features.corpora import START, Corpus, Place, Sample, samples
from lab.models import LoadedModel, hook_name
from lab.prompts.chat import render
from lab.records import LabError, Rendered, Site

TOKENS_AT_ONCE = (4096, 32768)
"""Padded tokens of a forward pass without and with a GPU."""
EMPTY_IN_A_ROW = 10_000
"""Texts without a token that counts, after which a corpus is given up."""
CHARACTERS_PER_TOKEN = 16
"""A text is cut into pieces of this many characters per token of `longest` before it is tokenised."""


# ------------------------------------------------------------------ which tokens count


@dataclass(frozen=True)
class Tokens:
    """One text as a model reads it.

    ids [pos]; counts [pos]: tokens of the text or of a message, without BOS, template and special tokens;
    reply [pos]: those of them that an assistant says.
    """

    ids: Int[ndarray, " pos"]
    counts: Bool[ndarray, " pos"]
    reply: Bool[ndarray, " pos"]


def tokens_of(tokenizer: Any, sample: Sample, longest: int) -> list[Tokens]:
    """A chat as one row, cut off after `longest` tokens; a text as rows of up to `longest` tokens.

    Every row begins with a BOS where the tokenizer has one. LabError as `lab.prompts.chat.render`.
    """
    if not sample.messages:
        return _text_rows(tokenizer, sample.text, longest)
    *before, last = sample.messages
    if last.role != "assistant":
        row = _chat_row(tokenizer, render(tokenizer, sample.messages), [])
        end = int(np.flatnonzero(row.counts)[-1]) + 1 if row.counts.any() else 0
        return [_cut(row, min(end, longest))]
    return [_cut(tokens_of_reply(tokenizer, render(tokenizer, before), last.content), longest)]


def tokens_of_reply(tokenizer: Any, chat: Rendered, reply: str) -> Tokens:
    """A chat with a reply behind it, as `lab.reading` reads them."""
    return _chat_row(tokenizer, chat, tokenizer(reply, add_special_tokens=False)["input_ids"])


def _chat_row(tokenizer: Any, chat: Rendered, said: Sequence[int]) -> Tokens:
    ids = np.concatenate([chat.ids, np.array(said, np.int64)])
    counts, reply = np.zeros(len(ids), bool), np.zeros(len(ids), bool)
    for span in chat.spans:
        counts[span.start : span.end] = True
        reply[span.start : span.end] |= span.role == "assistant"
    counts[len(chat.ids) :] = reply[len(chat.ids) :] = True
    special = np.isin(ids, tokenizer.all_special_ids)
    return Tokens(ids, counts & ~special, reply & ~special)


def _cut(row: Tokens, longest: int) -> Tokens:
    return Tokens(row.ids[:longest], row.counts[:longest], row.reply[:longest])


def _text_rows(tokenizer: Any, text: str, longest: int) -> list[Tokens]:
    front = _front(tokenizer)
    size, rows = longest - len(front), []
    for piece in _pieces(text, longest * CHARACTERS_PER_TOKEN):
        ids = np.array(tokenizer(piece, add_special_tokens=False)["input_ids"], np.int64)
        for start in range(0, len(ids), size):
            row = np.concatenate([front, ids[start : start + size]])
            counts = ~np.isin(row, tokenizer.all_special_ids)
            counts[: len(front)] = False
            rows.append(Tokens(row, counts, np.zeros(len(row), bool)))
    return rows


def _front(tokenizer: Any) -> Int[ndarray, " front"]:
    """What the tokenizer puts before a text."""
    bare, dressed = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    return np.array(dressed[: dressed.index(bare[0])], np.int64)


def _pieces(text: str, most: int) -> Iterator[str]:
    """The text in pieces of up to `most` characters, cut at blanks where there are some."""
    while len(text) > most:
        cut = text.rfind(" ", most // 2, most)
        cut = most if cut < 0 else cut
        yield text[:cut]
        text = text[cut:]
    if text:
        yield text


# ------------------------------------------------------------------ states


class _Reached(Exception):
    """Ends a forward pass: what was asked for is there."""


def states(
    model: LoadedModel, site: Site, rows: Sequence[Tokens], token_budget: int | None = None
) -> Iterator[tuple[int, Float[torch.Tensor, "pos d_model"]]]:
    """(row, its residual states [pos, d_model] at the site), float32, every position, short rows first.

    Rows are read in batches of up to `token_budget` padded tokens (None: TOKENS_AT_ONCE of the device),
    padded on the right, where causal attention never looks. The pass ends at the site. LabError for a layer that
    the model does not have and for states that are not finite.
    """
    check_site(model, site)
    for batch in by_length(rows, token_budget or tokens_at_once(model)):
        found = _forward(model, site, [rows[k] for k in batch])
        yield from ((k, found[n, : len(rows[k].ids)]) for n, k in enumerate(batch))


def tokens_at_once(model: LoadedModel) -> int:
    """Padded tokens of a forward pass on the model's device."""
    return TOKENS_AT_ONCE[model.device.type == "cuda"]


def by_length(rows: Sequence[Tokens], budget: int) -> Iterator[list[int]]:
    """Batches of rows of like length, short ones first, of up to `budget` padded tokens; empty rows are left out."""
    batch: list[int] = []
    for i in sorted((i for i, row in enumerate(rows) if len(row.ids)), key=lambda i: len(rows[i].ids)):
        if batch and len(rows[i].ids) * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def check_site(model: LoadedModel, site: Site) -> None:
    """LabError for a layer that the model does not have."""
    if not 0 <= site.layer < model.identity.layers:
        raise LabError(
            f"{model.identity.name} has the layers 0 to {model.identity.layers - 1}, got layer {site.layer}"
        )


def padded(rows: Sequence[Tokens], model: LoadedModel) -> dict[str, torch.Tensor]:
    """Inputs of the network [row, pos], padded on the right."""
    shape = (len(rows), max(len(row.ids) for row in rows))
    ids = torch.full(shape, model.tokenizer.pad_token_id, dtype=torch.long)
    mask = torch.zeros(shape, dtype=torch.long)
    for k, row in enumerate(rows):
        ids[k, : len(row.ids)], mask[k, : len(row.ids)] = torch.from_numpy(row.ids), 1
    places = torch.arange(shape[1])[None].expand(len(rows), -1)
    named = {"input_ids": ids, "attention_mask": mask, "position_ids": places}
    return {name: value.to(model.device) for name, value in named.items()}


def _forward(
    model: LoadedModel, site: Site, rows: Sequence[Tokens]
) -> Float[torch.Tensor, "row pos d_model"]:
    """States [row, pos, d_model] of one batch."""
    kept: list[torch.Tensor] = []

    def keep(value: torch.Tensor, hook: Any) -> None:
        kept.append(value)
        raise _Reached

    inputs = padded(rows, model)
    try:
        with torch.no_grad(), model.bridge.hooks(fwd_hooks=[(hook_name(site), keep)]):
            model.network.base_model(**inputs, use_cache=False)
    except _Reached:
        pass
    found = kept[0].float()
    if not bool(torch.isfinite(found).all()):
        raise LabError(
            f"{model.identity.name}: NaN or infinite activations at layer {site.layer}; try --dtype float32"
        )
    return found


# ------------------------------------------------------------------ the stream


@dataclass(frozen=True)
class StreamPlace:
    """Where a stream is: the corpus place at which its block of activations begins, the block, batches handed out."""

    start: Place = START
    block: int = 0
    handed: int = 0

    def to_dict(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @staticmethod
    def of(data: dict[str, Any]) -> "StreamPlace":
        """From `to_dict`."""
        return StreamPlace(Place(**data["start"]), data["block"], data["handed"])


class ActivationStream:
    """An endless iterator of float32 activations [batch, d_model] of the counted tokens, shuffled.

    A block of up to `buffer` activations is read, handed out in random order and let go; the up to `batch` - 1 that
    are left over are not used. Memory: `buffer` x d_model x 4 bytes and one forward pass. The same model, site,
    corpus, sizes and seed give the same batches; a stream that begins at another's `place` goes on as that
    one does, after reading its block again. `seen` counts activations handed out since the beginning.
    """

    def __init__(
        self, model: LoadedModel, site: Site, corpus: Corpus, *, batch: int, buffer: int, seed: int,
        longest: int = 1024, token_budget: int | None = None, place: StreamPlace = StreamPlace(), seen: int = 0,
    ) -> None:  # fmt: skip
        check_site(model, site)
        self._longest = min(longest, model.context)
        if buffer < 2 * (batch + self._longest):
            raise LabError(
                f"expected a buffer of at least twice a batch and a text, {2 * (batch + self._longest)} "
                f"activations, got {buffer}"
            )
        self._read = (model, site, corpus, seed, token_budget)
        self._batch, self.place, self.seen = batch, place, seen
        self._window = min(8192, buffer // 8)
        self._windows = self._from(place.start)
        self._held: tuple[list[Tokens], Place] | None = None
        self._buffer = np.empty((buffer, model.identity.d_model), np.float32)
        self._next = place.start
        self._order: Int[ndarray, " row"] | None = None

    @property
    def block(self) -> Float[ndarray, "row d_model"]:
        """The activations [row, d_model] of the block at hand, in the order they were read."""
        return self._buffer[: len(self._block())]

    def __iter__(self) -> "ActivationStream":
        return self

    def __next__(self) -> Float[torch.Tensor, "batch d_model"]:
        order = self._block()
        if (self.place.handed + 1) * self._batch > len(order):
            self.place, self._order = StreamPlace(self._next, self.place.block + 1), None
            order = self._block()
        at = self.place.handed * self._batch
        found = torch.from_numpy(self._buffer[order[at : at + self._batch]])
        self.place = StreamPlace(self.place.start, self.place.block, self.place.handed + 1)
        self.seen += self._batch
        return found

    def _block(self) -> Int[ndarray, " row"]:
        """The order in which the block is handed out; reads it first where that has not been done."""
        if self._order is None:
            rows = self._fill()
            seed = self._read[3]
            self._order = np.random.default_rng([seed, 1, self.place.block]).permutation(rows)
        return self._order

    def _fill(self) -> int:
        """Read windows as long as they fit; how many rows there are now."""
        model, site, _, _, budget = self._read
        filled = 0
        while True:
            texts, after = self._held or next(self._windows)
            size = sum(int(row.counts.sum()) for row in texts)
            if filled + size > len(self._buffer):
                self._held = (texts, after)
                return filled
            self._held = None
            for k, found in states(model, site, texts, budget):
                kept = found.cpu().numpy()[texts[k].counts]
                self._buffer[filled : filled + len(kept)] = kept
                filled += len(kept)
            self._next = after

    def _from(self, place: Place) -> Iterator[tuple[list[Tokens], Place]]:
        """Texts of at least `_window` counted tokens together, with the place behind them."""
        model, _, corpus, seed, _ = self._read
        texts, size, empty = [], 0, 0
        for sample, after in samples(corpus, seed, place):
            rows = tokens_of(model.tokenizer, sample, self._longest)
            found = sum(int(row.counts.sum()) for row in rows)
            texts, size, empty = [*texts, *rows], size + found, 0 if found else empty + 1
            if empty == EMPTY_IN_A_ROW:
                raise LabError(f"{corpus.name}: {empty} texts in a row without a token that counts")
            if size >= self._window:
                yield texts, after
                texts, size = [], 0
