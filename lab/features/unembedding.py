"""Which tokens a feature promotes and suppresses: its decoder row through the last norm and the unembedding.

An approximation, and a usual one: what later blocks make of the feature is left out, the norm is replaced by its
derivative (the mean over sampled last states), and a cap or scale of the logits by the identity. So it
is the direct path only; it says more of late layers than of early ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from lab.features.stream import Tokens, states
from lab.models import LoadedModel
from lab.records import Site

if TYPE_CHECKING:
    import torch

STATES = 32
"""Last states over which the norm's derivative is averaged."""
ROWS_AT_ONCE = 512


@dataclass(frozen=True)
class Promoted:
    """Tokens by the logit that one unit of each feature adds to them, the vocabulary's mean taken off (nats).

    up, down [feature, rank]: ids of the most raised and most lowered tokens; up_logits, down_logits: how much.
    """

    up: Int[ndarray, "feature rank"]
    up_logits: Float[ndarray, "feature rank"]
    down: Int[ndarray, "feature rank"]
    down_logits: Float[ndarray, "feature rank"]


def norm_slope(
    model: LoadedModel, rows: Sequence[Tokens], rng: np.random.Generator, count: int = STATES
) -> "Float[torch.Tensor, 'd_out d_in']":
    """Mean derivative of the final norm at `count` random counted tokens of the rows (last-block states)."""
    import torch

    picked = [rows[i] for i in rng.choice(len(rows), size=min(count, len(rows)), replace=False)]
    norm = model.bridge.ln_final.original_component
    total = torch.zeros(model.identity.d_model, model.identity.d_model, device=model.device)
    used = 0
    for i, found in states(model, Site(model.identity.layers - 1), picked):
        at = np.flatnonzero(picked[i].counts)
        for k in rng.choice(at, size=min(len(at), -(-count // len(picked))), replace=False):
            state = found[int(k)].to(
                next(norm.parameters()).dtype if any(True for _ in norm.parameters()) else None
            )
            slope = torch.func.jacrev(lambda h: norm(h[None])[0])(state)
            total += slope.detach().float()  # type: ignore[union-attr]
            used += 1
    return total / max(used, 1)


def promoted(
    model: LoadedModel, slope: "Float[torch.Tensor, 'd_out d_in']", rows: Float[ndarray, "feature d_in"], count: int = 8
) -> Promoted:  # fmt: skip
    """The `count` tokens that each decoder row raises and lowers most.

    Only ids that the tokenizer has (some embeddings have spare rows). Memory: ROWS_AT_ONCE x vocabulary.
    """
    import torch

    weight = model.network.get_output_embeddings().weight.detach()
    vocab = min(len(model.tokenizer), len(weight))
    # What every token gets alike does not change a prediction.
    unembed = (weight[:vocab].float() - weight[:vocab].float().mean(dim=0)) @ slope
    up, down, count = [], [], min(count, vocab)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = torch.from_numpy(rows[start : start + ROWS_AT_ONCE]).float().to(unembed.device)
        with torch.no_grad():
            logits = part @ unembed.T
            up.append(logits.topk(count, dim=-1))
            down.append(logits.topk(count, dim=-1, largest=False))
    return Promoted(*(_joined(x, what) for x in (up, down) for what in ("indices", "values")))


def _joined(found: list, what: str) -> ndarray:
    return np.concatenate([getattr(x, what).cpu().numpy() for x in found])


def random_rows(
    rows: Float[ndarray, "feature d_in"], rng: np.random.Generator, count: int = 256
) -> Float[ndarray, "count d_in"]:
    """Random rows of unit length with the second moments of the (unit) rows: the null of what a row promotes."""
    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    found = rng.normal(size=(count, len(unit))) @ unit
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)
