"""Concept words in the input embedding, and who their nearest are by direction.

A word of several tokens has the mean of their vectors, which is shorter than that of a word of one: by plain distance it
is near everyone, in every network, also in untrained ones (hearth-a's and hearth-b's untrained twins shared .40 of
their ten nearest beyond chance). So neighbours are those of smallest angle, around the mean of all words.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.geometry.atlas import Codes, Overlap, overlap, relabelings_within
from lab.pipelines.concept_states import place_word, pointed
from lab.records.atlas import ConceptSet

if TYPE_CHECKING:
    from lab.models import LoadedModel


def word_vectors(model: "LoadedModel", concepts: ConceptSet) -> Float[ndarray, "concept d_embedding"]:
    """Mean input embedding of every word's tokens, mean over frames, in which a word may be cut differently."""
    import torch

    table = model.network.get_input_embeddings().weight
    rows = []
    with torch.inference_mode():
        for word in concepts.words:
            ids = [place_word(model.tokenizer, context)[1] for context in concepts.contexts(word)]
            means = [
                table[torch.from_numpy(i).to(table.device)].double().mean(dim=0).cpu().numpy() for i in ids
            ]
            rows.append(np.mean(means, axis=0))
    return np.array(rows)


def angles(vectors: Float[ndarray, "concept d"]) -> Float[ndarray, "concept concept"]:
    """1 - cosine of every pair, around the mean of all; a vector on the mean is at right angles to everyone."""
    own = pointed(vectors)
    return 1 - own @ own.T


def shared_nearest(
    a: Float[ndarray, "concept _"], b: Float[ndarray, "concept _"], codes: Codes, k: int, draws: int,
    rng: np.random.Generator,
) -> Overlap:  # fmt: skip
    """Common nearest by angle; null: the second's labels permuted within categories."""
    return overlap(angles(a), angles(b), codes, k, relabelings_within(codes, draws, rng))
