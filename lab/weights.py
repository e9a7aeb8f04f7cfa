"""Arithmetic of weight changes: at random, of low rank, or towards another model, at the relative size that is asked for.

A weight is an array whose last two axes are a matrix; leading axes count matrices (the experts of a fused layer).
Size is relative and per matrix: ||change|| / ||weight||, Frobenius norms. Everything is float64.
"""

from collections.abc import Callable, Mapping

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.records import LabError

Weight = Float[ndarray, "*matrices out in"]
Draw = Callable[[Weight, np.random.Generator], Weight]
"""From a weight to a change of any size, which `sized` scales."""


def gaussian(weight: Weight, rng: np.random.Generator) -> Weight:
    """Independent normal entries: no direction is preferred."""
    return rng.normal(size=weight.shape)


def low_rank(rank: int) -> Draw:
    """Products of two normal factors of this rank: what an adapter of that rank could do, drawn at random.

    A matrix with a side shorter than the rank gets a change of full rank. LabError for a rank below 1.
    """
    if rank < 1:
        raise LabError(f"expected a rank of 1 or more, got {rank}")

    def draw(weight: Weight, rng: np.random.Generator) -> Weight:
        *matrices, rows, columns = weight.shape
        inner = min(rank, rows, columns)
        left, right = rng.normal(size=(*matrices, rows, inner)), rng.normal(size=(*matrices, inner, columns))
        return left @ right

    return draw


def norms(weight: Weight) -> Float[ndarray, "*matrices"]:
    """Frobenius norm of every matrix."""
    return np.sqrt((np.asarray(weight, np.float64) ** 2).sum(axis=(-2, -1)))


def sized(change: Weight, weight: Weight, size: float) -> Weight:
    """The change scaled to `size` times the norm of each matrix; a matrix that does not change stays unchanged.

    LabError for a negative size or another shape than the weight's.
    """
    if size < 0:
        raise LabError(f"expected a relative size of 0 or more, got {size}")
    if change.shape != weight.shape:
        raise LabError(
            f"expected a change of the weight's shape {weight.shape}, got {change.shape}; models of one "
            "architecture and size can be led towards each other"
        )
    length = norms(change)
    factor = size * norms(weight) / np.where(length > 0, length, 1.0)
    return np.asarray(change, np.float64) * factor[..., None, None]


def moved(
    weights: Mapping[str, Weight], draw: Draw, size: float, rng: np.random.Generator
) -> dict[str, Weight]:
    """Every weight with a drawn change of this relative size, in the order of the mapping."""
    return {name: w + sized(draw(w, rng), w, size) for name, w in weights.items()}


def towards(weights: Mapping[str, Weight], other: Mapping[str, Weight], size: float) -> dict[str, Weight]:
    """Every weight led in the direction of another model's, by `size` of its own norm (not of the difference's).

    LabError where the two do not have the same weights.
    """
    if why := unlike(weights, other):
        raise LabError(why)
    return {name: w + sized(other[name] - w, w, size) for name, w in weights.items()}


def unlike(weights: Mapping[str, Weight], other: Mapping[str, Weight]) -> str:
    """Why one model cannot be led towards the other, or ""."""
    if weights.keys() != other.keys():
        odd = sorted(weights.keys() ^ other.keys())
        return f"{len(odd)} weights are in one model only, {odd[0]} among them"
    for name, weight in weights.items():
        if weight.shape != other[name].shape:
            return f"{name} has the shape {weight.shape} in one model, {other[name].shape} in the other"
    return ""


def relative_size(before: Mapping[str, Weight], after: Mapping[str, Weight]) -> float:
    """Norm of the change of all weights together over the norm of what they were."""
    change = sum(float((norms(after[n] - w) ** 2).sum()) for n, w in before.items())
    return float(np.sqrt(change / sum(float((norms(w) ** 2).sum()) for w in before.values())))
