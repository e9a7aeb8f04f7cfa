"""Debiased linear CKA between question-centred states, debiased over scaffolds.

Rows are scaffold x question. Rows of one scaffold are not independent, so excluding only each row's product
with itself, as the usual debiased estimator does (Song et al. 2012, eq. 4; Murphy et al. 2024), leaves the
products of a scaffold with itself on two questions in: they are squared lengths, large in every model, and
independent scaffold geometries then score .94 to .98 at 20 scaffolds x 12 questions and widths 896 and
2048 (measured; question-centring does not help). Here the sums run over *different* scaffolds only, and
each block [scaffold, scaffold] of a pair of questions is U-centred on its own (Székely & Rizzo 2014),
which also takes out everything that depends on the question alone.
"""

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.geometry.grids import Gram, Measure, Relations, Weights


def u_centred(blocks: Relations) -> Relations:
    """The part of each matrix [scaffold, scaffold] that is not additive, its diagonal left out.

    Least squares: blocks[s, t] − u[s] − v[t] for s ≠ t, with rows and columns that sum to 0, and 0 on the
    diagonal. For symmetric matrices this is U-centring. Needs at least 3 scaffolds.
    """
    n = len(blocks)
    found = blocks.copy()
    found[np.arange(n), np.arange(n)] = 0.0
    rows, columns = found.sum(axis=1), found.sum(axis=0)
    half = rows.sum(axis=0) / (2 * (n - 1))
    rows, columns = rows - half, columns - half
    found -= (((n - 1) * rows + columns) / (n * (n - 2)))[:, None]
    found -= (((n - 1) * columns + rows) / (n * (n - 2)))[None, :]
    found[np.arange(n), np.arange(n)] = 0.0
    return found


def relate(gram: Gram) -> Relations:
    """U-centred inner products, a feature per ordered pair of questions."""
    scaffolds, questions = gram.shape[:2]
    return u_centred(gram.transpose(0, 2, 1, 3).reshape(scaffolds, scaffolds, questions**2))


def resampled(a: Gram, b: Gram, weights: Weights) -> Float[ndarray, " draw"]:
    """CKA with weighted questions; a question drawn twice adds pairs with others, not pairs with its copy."""
    questions = a.shape[1]
    one, other = relate(a), relate(b)
    pair_weight = weights[:, :, None] * weights[:, None, :]
    same = np.arange(questions)
    pair_weight[:, same, same] = weights
    flat = pair_weight.reshape(len(weights), -1)

    def weighed(x: Relations, y: Relations) -> Float[ndarray, " draw"]:
        return flat @ np.einsum("stf,stf->f", x, y)

    lengths = weighed(one, one) * weighed(other, other)
    return weighed(one, other) / np.sqrt(np.where(lengths > 0, lengths, np.nan))


def as_it_is(r: float) -> float:
    """Rows are not averaged over questions, so more questions do not raise the reliability of a row."""
    return r


CKA = Measure("debiased CKA", relate, resampled, as_it_is)
