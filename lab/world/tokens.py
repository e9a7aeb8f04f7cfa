"""Tokenizers of the organisms, and reply distributions over their tokens.

The world speaks words; an organism speaks tokens. `token_targets` carries the exact next-word
distribution of the source over to exact next-token distributions, so that training can use
them as soft targets and the loss can be held against the source's own entropy.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lab.world.conversation import Step

_SPLIT = Regex(r" ?[\p{L}']+| ?\p{N}| ?[^\s\p{L}\p{N}]|\s+")


@dataclass(frozen=True)
class ChatMarks:
    """The special tokens of a chat format and its Jinja template."""

    bos: str | None
    end: str
    pad: str
    extra: tuple[str, ...]
    template: str


ROLE_MARKS = ChatMarks(
    bos="<s>", end="<|end|>", pad="<pad>", extra=("<|system|>", "<|user|>", "<|assistant|>"),
    template=(
        "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    ),
)  # fmt: skip
CHATML_MARKS = ChatMarks(
    bos=None, end="<|im_end|>", pad="<|pad|>", extra=("<|im_start|>",),
    template=(
        "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
)  # fmt: skip


def train_tokenizer(
    texts: Iterable[str], vocab_size: int, marks: ChatMarks, whole: Sequence[str] = ()
) -> PreTrainedTokenizerFast:
    """Byte-level BPE of `vocab_size` over `texts`; merges never cross a word boundary.

    Tokens are then added until every word of `whole` is one token behind a space.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(_SPLIT, "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    specials = [t for t in (marks.pad, marks.bos, marks.end, *marks.extra) if t]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(t, special=True, normalized=False) for t in specials],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer = _with_whole_words(tokenizer, whole)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=marks.bos, eos_token=marks.end, pad_token=marks.pad,
        clean_up_tokenization_spaces=False,
    )  # fmt: skip
    fast.chat_template = marks.template
    return fast


def _with_whole_words(tokenizer: Tokenizer, words: Sequence[str]) -> Tokenizer:
    """The tokenizer with merges appended that join each word, left to right, from the pieces it has."""
    data = json.loads(tokenizer.to_str())
    vocab, merges = data["model"]["vocab"], data["model"]["merges"]
    for word in words:
        pieces = tokenizer.encode(f" {word}", add_special_tokens=False).tokens
        while len(pieces) > 1:
            joined = pieces[0] + pieces[1]
            vocab.setdefault(joined, len(vocab))
            merges.append(pieces[:2])
            pieces = [joined, *pieces[2:]]
            tokenizer = Tokenizer.from_str(json.dumps(data))
    return tokenizer


@dataclass
class Pieces:
    """Token ids of a word, cached; `first` says that no space stands before it."""

    encode: Callable[[str], list[int]]
    end: int
    _known: dict[tuple[str, bool], tuple[int, ...]] = field(default_factory=dict)

    def of(self, word: str, first: bool) -> tuple[int, ...]:
        """The ids of `word`; the empty word is the end of the reply."""
        if not word:
            return (self.end,)
        key = (word, first)
        if key not in self._known:
            bare = first or word in ",.!?;:"
            self._known[key] = tuple(self.encode(word if bare else " " + word))
        return self._known[key]


@dataclass(frozen=True)
class Targets:
    """A reply as tokens with exact distributions, in sparse rows.

    `ids` [token] are the reply's tokens (the end included); entry e says that token
    `token[e]` has probability `p[e]` at reply position `row[e]`.
    """

    ids: NDArray[np.int32]
    row: NDArray[np.int32]
    token: NDArray[np.int32]
    p: NDArray[np.float32]


def token_targets(steps: Sequence[Step], pieces: Pieces) -> Targets:
    """Exact next-token distributions along one reply.

    Where the pieces of one possible word begin those of another ("play", "playing"), the
    undecided mass is carried to the next position, so the rows stay exact.
    """
    ids: list[int] = []
    rows: list[dict[int, float]] = []
    pending: list[tuple[tuple[int, ...], float]] = []
    for index, step in enumerate(steps):
        live = [(pieces.of(w, index == 0), p) for w, p in step.probabilities.items()]
        scale = 1.0 - sum(p for _, p in pending)
        live = [(pcs, p * scale) for pcs, p in live] + pending
        actual = pieces.of(step.word, index == 0)
        for depth, token in enumerate(actual):
            row: dict[int, float] = {}
            for pcs, p in live:
                row[pcs[depth]] = row.get(pcs[depth], 0.0) + p
            ids.append(token)
            rows.append(row)
            live = [(pcs, p / row[token]) for pcs, p in live if pcs[depth] == token]
            if depth + 1 < len(actual):
                live = [(pcs, p) for pcs, p in live if len(pcs) > depth + 1]
                total = sum(p for _, p in live)
                live = [(pcs, p / total) for pcs, p in live]
        pending = [(pcs[len(actual) :], p) for pcs, p in live if len(pcs) > len(actual)]
    lengths = [len(row) for row in rows]
    return Targets(
        np.array(ids, np.int32),
        np.repeat(np.arange(len(rows)), lengths).astype(np.int32),
        np.array([t for row in rows for t in row], np.int32),
        np.array([p for row in rows for p in row.values()], np.float32),
    )
