"""Mutual nearest neighbours of scaffolds: which scaffolds lie next to which, in both models alike.

Neighbours are taken by crossnobis distance, which is the squared distance between the mean states over
questions less what noise adds to it: a scaffold with noisier replies in both models would otherwise be
nobody's neighbour in either, and count as agreement.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.geometry.grids import Gram, Measure, Relations, Weights
from lab.geometry.rsa import Distances, crossnobis, distances, spearman_brown
from lab.records import LabError
from lab.stats import MIN_CLUSTERS


def membership(found: Distances, k: int) -> Distances:
    """1 where t is among the k nearest of s, else 0; scaffolds tied at the border share what is left.

    Sharing keeps identical scaffolds from being paired by their order, which is the same in both models.
    """
    n = found.shape[1]
    away = found.copy()
    away[:, np.arange(n), np.arange(n)] = np.inf
    border = np.sort(away, axis=2)[:, :, k - 1 : k]
    slack = 1e-9 * np.abs(found).max(axis=(1, 2), keepdims=True)
    inside, tied = away < border - slack, np.abs(away - border) <= slack
    left = (k - inside.sum(axis=2, keepdims=True)) / np.maximum(tied.sum(axis=2, keepdims=True), 1)
    return np.where(np.isnan(found).any(axis=(1, 2), keepdims=True), np.nan, inside + left * tied)


def _above_chance(found: Distances, k: int) -> Distances:
    n = found.shape[1]
    return (membership(found, k) - k / (n - 1)) * (1 - np.eye(n))


def neighbours(k: int) -> Measure:
    """(share of common neighbours − chance) / (1 − chance), chance = k / (scaffolds − 1): 0 chance, 1 same.

    The share is the mean over scaffolds of |common k nearest| / k (Huh et al. 2024, mutual k-NN). Raises
    LabError for k below 1. Needs k + 2 scaffolds: with k + 1 everyone is a neighbour.
    """
    if k < 1:
        raise LabError(f"expected a number of neighbours from 1 up, got {k}")

    def relate(gram: Gram) -> Relations:
        above = _above_chance(distances(gram)[None], k)[0]
        return np.stack([above, above.T], axis=-1)

    def resampled(a: Gram, b: Gram, weights: Weights) -> Float[ndarray, " draw"]:
        one, other = (
            _above_chance(crossnobis(gram, weights), k).reshape(len(weights), -1) for gram in (a, b)
        )
        lengths = (one**2).sum(axis=1) * (other**2).sum(axis=1)
        return (one * other).sum(axis=1) / np.sqrt(np.where(lengths > 0, lengths, np.nan))

    name = f"mutual neighbours, k = {k}"
    return Measure(name, relate, resampled, spearman_brown, max(MIN_CLUSTERS, k + 2))
