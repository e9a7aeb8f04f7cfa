"""States of concepts: every word of a set in every frame, read up to its last token, and its embedding.

What comes after the word is never run, since a causal model cannot see it from there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from lab.pipelines.compare import DATA
from lab.pipelines.words import PLACES
from lab.prompts.concepts import read_concepts, shipped_concepts
from lab.records import LabError, ModelIdentity, Rendered
from lab.records.atlas import ConceptSet, Context
from lab.records.geometry import StateGrid

if TYPE_CHECKING:
    from lab.models import LoadedModel

BLOCKS = 12
"""Blocks of a deeper model that are kept, evenly spaced, first and last among them."""


def resolve_concepts(name: str, trait_sets: Sequence[str | None]) -> ConceptSet:
    """The concept set by name or file; "auto": the set that all checkpoints name as their trait set, else "words"."""
    shipped = shipped_concepts(DATA.parent)
    if name == "auto":
        agreed = set(trait_sets)
        only = agreed.pop() if len(agreed) == 1 else None
        name = only if only in shipped else "words"
    path = shipped.get(name, Path(name))
    if not path.is_file():
        raise LabError(f"concept set {name!r} is neither a file nor one of {', '.join(sorted(shipped))}")
    return read_concepts(path)


@dataclass(frozen=True)
class Side:
    """One model's states of all concepts.

    states: at the word's last token, of the `blocks` that are kept; embedding: mean over the word's tokens and
    over frames, in which a word may be cut differently, as a direction from the mean of all words; pieces: how many
    tokens, mean over frames.
    """

    label: str
    identity: ModelIdentity
    blocks: tuple[int, ...]
    states: Float[ndarray, "concept frame block d_model"]
    embedding: Float[ndarray, "concept d_embedding"]
    pieces: Float[ndarray, " concept"]

    def grid(self, concepts: ConceptSet) -> StateGrid:
        """The states as a design of concepts x one wording x frames."""
        frames = tuple(f"frame {k + 1}" for k in range(concepts.frames))
        return StateGrid(
            self.label,
            self.identity.fingerprint,
            "spawn",
            "test",
            concepts.words,
            frames,
            self.states[:, None],
        )

    def embedded(self, concepts: ConceptSet) -> StateGrid:
        """The embedding as such a design; the one vector stands in it twice, for a distance is between two frames."""
        acts = np.repeat(self.embedding[:, None, None, None], 2, axis=2)
        return StateGrid(
            self.label, self.identity.fingerprint, "spawn", "test", concepts.words, ("once", "again"), acts
        )


def kept_blocks(layers: int) -> tuple[int, ...]:
    """Up to BLOCKS evenly spaced blocks, first and last among them."""
    return tuple(sorted({round(x) for x in np.linspace(0, layers - 1, min(layers, BLOCKS)).tolist()}))


def place_word(tokenizer: Any, context: Context) -> tuple[Rendered, Int[ndarray, " token"]]:
    """The chat up to the word's last token, and the ids of the tokens that hold some of the word.

    LabError where the word is in no token.
    """
    placed = PLACES[context.place](tokenizer, context.text)
    cut = placed.cut
    holds = np.flatnonzero((cut.start < context.end) & (cut.end > context.start) & (cut.end > cut.start))
    if len(holds) == 0:
        raise LabError(
            f"no token holds {context.concept!r} in {context.text!r}; the tokenizer drops it: leave it out"
        )
    ids = placed.ids[: placed.first + int(holds[-1]) + 1]
    return Rendered(ids, (), context.text), placed.ids[placed.first + holds]


def read_side(label: str, model: "LoadedModel", concepts: ConceptSet, tick: Callable[[float], None]) -> Side:
    """Read every concept in every frame, one frame at a time."""
    import torch

    from lab.reading import read

    blocks = kept_blocks(model.identity.layers)
    table = model.network.get_input_embeddings().weight
    shape = (len(concepts.words), concepts.frames)
    states = np.empty((*shape, len(blocks), model.identity.d_model), np.float32)
    embedded, pieces = np.zeros((shape[0], table.shape[1])), np.zeros(shape)
    for f in range(concepts.frames):
        tick(f / concepts.frames)
        contexts = [c.context(word, f) for c in concepts.categories for word in c.words]
        placed = [place_word(model.tokenizer, context) for context in contexts]
        chats = [chat for chat, _ in placed]
        if longest := max((len(c.ids) for c in chats if len(c.ids) > model.context), default=0):
            raise LabError(
                f"{label}: a frame of {longest} tokens is longer than its context of {model.context}; shorten it"
            )
        # An empty reply: what is wanted is the state at the last token given.
        states[:, f] = read(model, chats, [""] * len(chats)).pooled["spawn"][:, blocks]
        with torch.inference_mode():
            for k, (_, ids) in enumerate(placed):
                mean = table[torch.from_numpy(ids).to(table.device)].double().mean(dim=0)
                embedded[k] += mean.cpu().numpy() / concepts.frames
                pieces[k, f] = len(ids)
    return Side(label, model.identity, blocks, states, pointed(embedded), pieces.mean(axis=1))


def pointed(vectors: Float[ndarray, "concept d"]) -> Float[ndarray, "concept d"]:
    """Each vector's direction from the mean of all, of length 1; one that lies on the mean stays 0.

    A word of several tokens has the mean of their embeddings, which is shorter than that of a word of one: by plain
    distance it is near everyone, in untrained networks too.
    """
    around = vectors - vectors.mean(axis=0)
    length = np.linalg.norm(around, axis=1, keepdims=True)
    return around / np.where(length > 0, length, 1.0)
