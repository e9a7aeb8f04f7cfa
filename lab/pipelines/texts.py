"""A text in a chat, as one model reads it: where its tokens are cut, how surprising they are, where heads look.

Each text stands alone in a chat, in one place of it; what the chat template adds is kept apart.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from lab.geometry import attention as geometry
from lab.geometry.words import repaired, words_of
from lab.pipelines.compare import resolve_model
from lab.records import LabError, Message
from lab.records.words import Cut, Word

if TYPE_CHECKING:
    from lab.models import LoadedModel

QUESTION = "Who are you?"
"""What is asked where a place needs a user's words besides the text."""
LONGEST = 512
"""Tokens of a text; attention grows with their square."""
WORDS = 96
"""Words of a text over which attention is kept: its first ones."""


@dataclass(frozen=True)
class Placed:
    """One text inside the chat of one model.

    ids [pos]: the whole prompt up to the end of the text's last token; the text's tokens start at `first`; cut: which
    characters of the text they hold; before: what the template wrote in front.
    """

    ids: Int[ndarray, " pos"]
    first: int
    cut: Cut
    before: str


Place = Callable[[Any, str], Placed]


def as_reply(tokenizer: Any, text: str) -> Placed:
    """The text as the assistant's reply to QUESTION."""
    from lab.prompts.chat import render

    chat = render(tokenizer, [Message("user", QUESTION)])
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = np.concatenate([chat.ids, np.array(coded["input_ids"], np.int64)])
    return Placed(ids, len(chat.ids), repaired(text, coded["offset_mapping"]), chat.text)


def as_user(tokenizer: Any, text: str) -> Placed:
    """The text as the user's message."""
    return _in_prompt(tokenizer, text, [Message("user", text)])


def as_system(tokenizer: Any, text: str) -> Placed:
    """The text as the system prompt, where scaffolds stand."""
    return _in_prompt(tokenizer, text, [Message("system", text), Message("user", QUESTION)])


PLACES: dict[str, Place] = {"system": as_system, "user": as_user, "reply": as_reply}


def _in_prompt(tokenizer: Any, text: str, messages: Sequence[Message]) -> Placed:
    """A chat that begins with the text. Tokens that also hold template characters count as the text's."""
    from lab.prompts.chat import render

    chat = render(tokenizer, messages)
    special = tokenizer.chat_template is None
    coded = tokenizer(chat.text, add_special_tokens=special, return_offsets_mapping=True)
    whole = repaired(chat.text, coded["offset_mapping"])
    begin = chat.text.find(text, int(whole.start[chat.spans[0].start]))
    if begin < 0 or coded["input_ids"] != chat.ids.tolist():
        raise LabError("the chat template changes the text, so it cannot be located; try --place reply")
    end = begin + len(text)
    inside = np.flatnonzero((whole.start < end) & (whole.end > begin) & (whole.end > whole.start))
    rows = slice(int(inside[0]), int(inside[-1]) + 1)
    offsets = np.clip(np.stack([whole.start[rows], whole.end[rows]], axis=1) - begin, 0, len(text))
    return Placed(
        chat.ids[: rows.stop], rows.start, repaired(text, [(int(s), int(e)) for s, e in offsets]),
        chat.text[:begin],
    )  # fmt: skip


# ------------------------------------------------------------------ one text in one model


@dataclass(frozen=True)
class Reading:
    """One text as one model reads it.

    nats [token]: surprisal -log p of the text's tokens, NaN for one with nothing before it; attention
    [layer * head, word, word] over the first words and outside [layer, head], as in WordAttention.
    """

    placed: Placed
    nats: Float[ndarray, " token"]
    words: tuple[Word, ...]
    attention: Float[ndarray, "layer_head word word"]
    outside: Float[ndarray, "layer head"]


def pattern_hook(layer: int) -> str:
    """The bridge's name of a layer's attention pattern [batch, head, query, key]."""
    return f"blocks.{layer}.attn.hook_pattern"


def read_text(model: "LoadedModel", text: str, place: Place, most: int = WORDS) -> Reading:
    """One forward pass; a layer's patterns over tokens are let go as soon as they are summed to words.

    LabError for a text without words, of more than LONGEST tokens or longer than the context, and for a
    model that has layers without attention patterns.
    """
    import torch

    name = model.identity.name
    placed = place(model.tokenizer, text)
    _check_length(name, placed, model.context)
    words = words_of(text)[:most]
    weights = geometry.word_weights(placed.cut, words)
    found: dict[int, tuple[geometry.Heads, Float[ndarray, " head"]]] = {}

    def keep(value: "torch.Tensor", hook: Any, layer: int) -> None:
        pattern = value[0, :, placed.first :].detach().float().cpu().numpy()
        found[layer] = geometry.to_words(pattern, weights, placed.first)

    layers = range(model.identity.layers)
    hooks = [(pattern_hook(k), lambda value, hook, k=k: keep(value, hook, k)) for k in layers]
    ids = torch.from_numpy(placed.ids[None]).to(model.device)
    with torch.inference_mode(), model.bridge.hooks(fwd_hooks=hooks):
        logits = model.network(input_ids=ids, use_cache=False).logits[0]
        start = max(placed.first, 1)
        nats = torch.nn.functional.cross_entropy(
            logits[start - 1 : -1].float(), ids[0, start:], reduction="none"
        )
    missing = [k for k in layers if k not in found]
    if missing:
        raise LabError(
            f"{name}: no attention pattern came out of layer {missing[0]}; expected softmax attention in every "
            "layer: compare models with such attention"
        )
    unknown = np.full(start - placed.first, np.nan)
    return Reading(
        placed, np.concatenate([unknown, nats.double().cpu().numpy()]), words,
        np.concatenate([found[k][0] for k in layers]).astype(np.float32),
        np.stack([found[k][1] for k in layers]),
    )  # fmt: skip


def _check_length(name: str, placed: Placed, context: int) -> None:
    tokens = len(placed.ids) - placed.first
    if tokens > LONGEST or len(placed.ids) > context:
        raise LabError(
            f"expected a text of at most {LONGEST} tokens that fits the context of {context}, got {tokens} tokens "
            f"({len(placed.ids)} with the template) in {name}; take a shorter text"
        )


def load_models(names: Sequence[str], dtype: str) -> list["LoadedModel"]:
    """The models, each loaded once. LabError where a tokenizer gives no character offsets."""
    from lab.models import read_checkpoint, wire

    loaded: dict[str, LoadedModel] = {}
    for name in names:
        if name not in loaded:
            checkpoint = read_checkpoint(resolve_model(name), dtype)
            if not getattr(checkpoint.tokenizer, "is_fast", False):
                raise LabError(
                    f"{name}: its tokenizer ({type(checkpoint.tokenizer).__name__}) gives no character offsets; "
                    "expected a fast one: put a tokenizer.json into the folder (load with AutoTokenizer from a "
                    "checkpoint that has one, then save_pretrained)"
                )
            loaded[name] = wire(checkpoint)
    return [loaded[name] for name in names]
