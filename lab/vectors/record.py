"""The record of a persona vector, whether it belongs to a model, and its way to and from a direction."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from lab.records import Direction, LabError, ModelIdentity, Position, Site, Split
from lab.shapes import LayerModel, Model

_ROLE_MEANS = ("mean", "pos_3")
"""What assistant-axis calls a role's mean activation, over all replies or those that play the role fully."""


@dataclass(frozen=True)
class PersonaVector:
    """One trait's vectors over the layers of one model, with what is known of where they come from.

    vectors [layer, d_model] float32: row l at the residual stream after block l, not normalised, in the
    unit of the activations, positive = more of the trait. A layer without a vector is a row of NaN (or of
    zeros, which has no direction either). `layer` is the layer that was chosen, None if none was;
    `position` where it was pooled; `split` on which questions it was made; `model`, `fingerprint` and
    `dtype` whose space it lives in ("" and None: not known); `embeddings` [d_model] the same vector before
    the first block, where known; `settings` how it was made, plain values that JSON can hold.
    Raises LabError when the vectors are not float32 [layer, d_model], hold an infinity, are NaN in a part
    of a row, or have no direction at any layer, and when `layer` names a row without one.
    """

    trait: str
    vectors: LayerModel
    layer: int | None = None
    position: Position | None = None
    split: Split | None = None
    model: str = ""
    fingerprint: str | None = None
    dtype: str = ""
    embeddings: Model | None = None
    settings: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or self.vectors.dtype != np.float32 or 0 in self.vectors.shape:
            raise LabError(
                f"expected float32 vectors [layers, d_model], got {self.vectors.dtype} "
                f"{list(self.vectors.shape)}; give one row per block, .astype(np.float32)"
            )
        empty = np.isnan(self.vectors).all(axis=1, keepdims=True)
        broken = np.any(~np.isfinite(self.vectors) & ~empty, axis=1)
        if broken.any():
            raise LabError(
                f"expected each layer finite, or NaN as a whole, got layers {listed(broken)} with NaN or "
                "infinite numbers among others; make the vector again"
            )
        if not self.known.any():
            raise LabError(
                "expected a vector at one layer at least, got NaN or zeros at every layer; make it again"
            )
        if self.layer is not None and not (0 <= self.layer < self.layers and self.known[self.layer]):
            raise LabError(
                f"expected a chosen layer that has a vector ({listed(self.known)}), got {self.layer}; "
                "layers are counted from 0"
            )
        first = self.embeddings
        if first is not None and (first.shape != (self.d_model,) or not np.isfinite(first).all()):
            raise LabError(
                f"expected finite embeddings [{self.d_model}], got {list(first.shape)}; leave them out (None)"
            )

    @property
    def layers(self) -> int:
        """Blocks of the model, with or without a vector."""
        return self.vectors.shape[0]

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return self.vectors.shape[1]

    @property
    def known(self) -> Bool[ndarray, " layer"]:
        """Which layers have a vector: finite and not all zeros."""
        return np.isfinite(self.vectors).all(axis=1) & (self.vectors != 0).any(axis=1)


# ------------------------------------------------------------------ does it belong to this model


def check_fits(vector: PersonaVector, identity: ModelIdentity, force: bool = False) -> None:
    """LabError unless the vector lives in this model's space.

    Another d_model or number of layers is always refused; another or unknown fingerprint only without
    `force`, which is for a user who knows that the weights are the same.
    """
    if (vector.layers, vector.d_model) != (identity.layers, identity.d_model):
        raise LabError(
            f"expected a vector for {identity.name} with {identity.layers} layers of width "
            f"{identity.d_model}, got {vector.layers} layers of width {vector.d_model} ({vector.trait}); "
            f"take another model, or, if only the layers differ, read the file with layers={identity.layers}"
        )
    if force or vector.fingerprint == identity.fingerprint:
        return
    theirs = vector.fingerprint[:16] if vector.fingerprint else "unknown: the file carried none"
    maker = vector.model or "a model that it does not name"
    raise LabError(
        f"expected a vector made on {identity.name} (fingerprint {identity.fingerprint[:16]}), got "
        f"{vector.trait} made on {maker} (fingerprint {theirs}); extract it again with this model, or force "
        "it (--force) if you know that the weights are the same"
    )


def from_direction(
    direction: Direction, identity: ModelIdentity, settings: Mapping[str, object] | None = None
) -> PersonaVector:
    """The direction, at its original length, as a vector over layers; every other layer is NaN.

    Raises LabError when the direction was made on another model than `identity`.
    """
    if direction.fingerprint != identity.fingerprint:
        raise LabError(
            f"expected a direction of {identity.name} (fingerprint {identity.fingerprint[:16]}), got one of "
            f"fingerprint {direction.fingerprint[:16]}; pass the identity of the model that it was made on"
        )
    vectors = np.full((identity.layers, identity.d_model), np.nan, np.float32)
    vectors[direction.site.layer] = direction.vector * direction.length
    return PersonaVector(
        direction.trait, vectors, direction.site.layer, direction.position, direction.split,
        identity.name, identity.fingerprint, identity.dtype, settings=dict(settings or {}),
    )  # fmt: skip


def to_direction(
    vector: PersonaVector, identity: ModelIdentity, layer: int | None = None, force: bool = False
) -> Direction:
    """The unit vector (float64) and length at `layer`, or at the layer that was chosen, in this model.

    Raises LabError as `check_fits`; when no layer is known or the layer has no vector; when position or
    split is not known (say them with `dataclasses.replace`: a direction without them cannot be judged);
    and for an assistant-axis role, whose mean activation points nowhere until another is subtracted. The
    direction carries `identity`'s fingerprint, also where it was forced.
    """
    check_fits(vector, identity, force)
    made = vector.settings
    if made.get("format") == "assistant_axis" and made.get("type") in _ROLE_MEANS:
        raise LabError(
            f"expected a difference, got the mean activation of {vector.trait} (type {made['type']}); "
            "subtract the vectors of the default role and put the result into a PersonaVector of its own"
        )
    layer = vector.layer if layer is None else layer
    if layer is None or not (0 <= layer < vector.layers and vector.known[layer]):
        raise LabError(f"expected a layer with a vector ({listed(vector.known)}), got {layer}; name one")
    if vector.position is None or vector.split is None:
        raise LabError(
            f"expected position and split, got {vector.position} and {vector.split} ({vector.trait}); say "
            "where it was pooled and on which questions it was made with dataclasses.replace"
        )
    row = vector.vectors[layer].astype(np.float64)
    length = float(np.linalg.norm(row))
    return Direction(
        vector.trait, Site(layer), vector.position, row / length, length, identity.fingerprint, vector.split
    )


# ------------------------------------------------------------------ what every format needs


def listed(layers: Bool[ndarray, " layer"]) -> str:
    """The layers that are true, in words for a message."""
    return ", ".join(str(layer) for layer in np.flatnonzero(layers))


def without_zeros(rows: LayerModel) -> LayerModel:
    """The rows as float32, those of zeros as NaN."""
    rows = np.array(rows, np.float32)
    rows[(rows == 0).all(axis=1)] = np.nan
    return rows


def check_layers(found: int, layers: int | None) -> None:
    """LabError unless a file has as many layers as its reader was told; None: not told."""
    if layers is not None and found != layers:
        raise LabError(f"expected {layers} layers, got {found}; take the model that the vector was made on")
