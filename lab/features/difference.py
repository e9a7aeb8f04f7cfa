"""The same tokens as two models hold them, in the features of one model's dictionary: for latent scaling.

No crosscoder is trained. SAELens has none at the version that this lab stands on (its proposal is open), and of the
public ones none is on the package index in a form that installs beside it: dictionary-learning 0.1.0 has no crosscoder
in it (that is a fork, by git only) and wants an old nnsight and wandb; sparsify's was not taken in; diffing-toolkit wants
Python 3.12, vllm and two packages by git. So a dictionary of one model is read on both, and what looks peculiar to
one is checked by `lab.geometry.latent_scaling`.
"""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array, vstack

from lab.features.load import Sae, encode_tokens
from lab.features.stream import Tokens, states
from lab.models import LoadedModel
from lab.records import LabError


def check_same_tokens(one: LoadedModel, other: LoadedModel) -> None:
    """LabError for two models whose tokens or widths differ, or where the other has fewer layers."""
    words = [dict(m.tokenizer.get_vocab()) for m in (one, other)]
    templates = [m.tokenizer.chat_template for m in (one, other)]
    if words[0] != words[1] or templates[0] != templates[1]:
        raise LabError(
            f"expected two models with one tokenizer and chat template, so that they read the same tokens, got "
            f"{one.identity.name} and {other.identity.name}; models that differ in these are compared by matched "
            "features (lab sae features)"
        )
    if one.identity.d_model != other.identity.d_model:
        raise LabError(
            f"expected models of one width, got {one.identity.d_model} ({one.identity.name}) and "
            f"{other.identity.d_model} ({other.identity.name})"
        )


def read_both(
    sae: Sae, models: tuple[LoadedModel, LoadedModel], rows: Sequence[Tokens]
) -> tuple[tuple[csr_array, csr_array], tuple[np.ndarray, np.ndarray], np.ndarray]:
    """(codes [token, feature] of either model, their states [token, d_model], text [token]) at all counted tokens.

    Both models are read at the dictionary's site; texts are numbered by row. Memory: both models' states.
    """
    kept = [np.flatnonzero(row.counts) for row in rows]
    codes = [_codes(sae, model, rows, kept) for model in models]
    found = [_states(sae, model, rows, kept) for model in models]
    text = np.repeat(np.arange(len(rows)), [len(k) for k in kept])
    return (codes[0], codes[1]), (found[0], found[1]), text


def _codes(sae: Sae, model: LoadedModel, rows: Sequence[Tokens], kept: Sequence[np.ndarray]) -> csr_array:
    parts = dict(encode_tokens(sae, model, rows))
    empty = csr_array((0, sae.origin.d_sae), dtype=np.float32)
    return csr_array(vstack([parts[i][at] if i in parts else empty for i, at in enumerate(kept)]))


def _states(sae: Sae, model: LoadedModel, rows: Sequence[Tokens], kept: Sequence[np.ndarray]) -> np.ndarray:
    parts = {i: found.cpu().numpy()[kept[i]] for i, found in states(model, sae.site, rows)}
    return np.concatenate([parts[i] for i in range(len(rows)) if i in parts])
