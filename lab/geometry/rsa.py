"""Cross-validated dissimilarities between scaffolds, and their rank correlation across models (RSA).

Crossnobis (Walther et al. 2016, "Reliability of dissimilarity measures for multi-voxel pattern analysis"):
the squared distance between two scaffolds from products of their difference on *different* questions, so
that noise adds nothing on average and equal states have distance 0. Folds are single questions. With
`grids.NOISE_UNITS` each dimension is divided by its noise.

Spearman's correlation of the two lists of distances: it is what a drawn rank difference shows; it has
Pearson's power here (200 simulated pairs at 10 x 6: .62 against .60 at agreement .7), and one scaffold far
from all others in both models, such as an empty one, lifts it less (mean .39 against .65, otherwise
unrelated). It still lifts it, since that is agreement about distances: read it beside CKA, which ignores it.
"""

import numpy as np
from einops import rearrange
from jaxtyping import Float
from numpy import ndarray
from scipy.stats import rankdata

from lab.geometry.grids import Gram, Measure, Relations, Weights, pairs
from lab.stats import correlation

Distances = Float[ndarray, "draw scaffold scaffold"]


def crossnobis(gram: Gram, weights: Weights) -> Distances:
    """Unbiased squared distances between scaffolds for each draw of questions; may be negative.

    Mean over ordered pairs of different questions (q, r), weighted, of <x_sq − x_tq, x_sr − x_tr>. A
    question and its copy in a bootstrap draw are not different. NaN where a draw holds one question only.
    """
    scaffolds, questions = gram.shape[:2]
    pair_weight = weights[:, :, None] * weights[:, None, :] * (1 - np.eye(questions))
    flat = pair_weight.reshape(len(weights), -1)
    total = flat.sum(axis=1, keepdims=True)
    flat = flat / np.where(total > 0, total, np.nan)
    products = rearrange(gram, "s q t r -> (q r) (s t)")
    means = (flat @ products).reshape(-1, scaffolds, scaffolds)
    lengths = np.diagonal(means, axis1=1, axis2=2)
    return lengths[:, :, None] + lengths[:, None, :] - means - means.transpose(0, 2, 1)


def distances(gram: Gram) -> Float[ndarray, "scaffold scaffold"]:
    """`crossnobis` of all questions, each counted once."""
    return crossnobis(gram, np.ones((1, gram.shape[1])))[0]


def _ranked(found: Distances) -> Float[ndarray, "draw pair"]:
    first, second = pairs(found.shape[1])
    return np.asarray(rankdata(found[:, first, second], axis=1, nan_policy="propagate"))


def relate(gram: Gram) -> Relations:
    """Centred ranks of the distances, one feature."""
    scaffolds = len(gram)
    ranks = _ranked(distances(gram)[None])[0]
    found = np.zeros((scaffolds, scaffolds))
    found[pairs(scaffolds)] = ranks - ranks.mean()
    return (found + found.T)[:, :, None]


def resampled(a: Gram, b: Gram, weights: Weights) -> Float[ndarray, " draw"]:
    """Spearman's correlation of the weighted distances."""
    one, other = (_ranked(crossnobis(gram, weights)) for gram in (a, b))
    return correlation(one, other, np.ones_like(one))


def spearman_brown(r: float) -> float:
    """Reliability of all questions from that of halves, 2r / (1 + r) (Spearman 1910; Brown 1910).

    For ranked crossnobis distances and for neighbours it is near enough (simulated, five designs: predicted
    less measured agreement of twins within .07 and .04); where noise dominates it is too low.
    """
    return 2 * r / (1 + r)


RSA = Measure("RSA (crossnobis, Spearman)", relate, resampled, spearman_brown)
