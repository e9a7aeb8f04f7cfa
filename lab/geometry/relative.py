"""Relative coordinates: each model described by cosines to its own landings, then compared without a fit.

The coordinates of a state are its cosines to the landings of the training scaffolds, the anchors (Moschella et
al. 2023, "Relative representations enable zero-shot latent space communication", sec. 3). A's coordinates are
the prediction of B's, which is right up to rotation and scale, not up to any linear map. R² and retrieval
are taken in these coordinates. States of unrelated models give an R² near −1 (two independent vectors of one
length), and a noisier model has smaller cosines, which costs R² though the two agree.

*Ceiling*: the R² of one half of B's paraphrases for the other half. It has half the data, so it is
low; NaN for one paraphrase.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from lab.geometry.fits import Cells, HeldOut, compact, others


@dataclass(frozen=True)
class Relative:
    """Cosines to the landings of the other scaffolds on the training questions; nothing is fitted.

    Residual and total are sums of squares over test questions and anchors, total around 0 (a state that has
    nothing to do with any anchor). Nearest: by cosine between coordinate vectors of mean landings;
    a candidate's cosine with itself as an anchor is left out.
    """

    name: str = "relative"

    def held_out(self, data: Cells, orders: Int[ndarray, "draw scaffold"]) -> HeldOut:
        """See `Method`; the setting is NaN."""
        (states_a, landings_a), (states_b, landings_b) = (
            _relative(*compact(*side)) for side in ((data.x, data.x_test), (data.y, data.y_test))
        )
        found = HeldOut(*(np.full(orders.shape, np.nan) for _ in range(4)))
        for draw, order in enumerate(orders):
            for i, j in enumerate(order):
                actual = states_b[j][:, order]
                found.residual[draw, i] = ((actual - states_a[i]) ** 2).sum()
                found.total[draw, i] = (actual**2).sum()
                mapped = np.zeros(len(order))
                mapped[order] = landings_a[i, i]
                candidates = landings_b[j]
                length = np.linalg.norm(candidates, axis=1) * np.sqrt((mapped**2).sum() - mapped**2)
                near = candidates @ mapped / np.maximum(length, 1e-300)
                found.hit[draw, i] = near.argmax() == j
        return found

    def ceiling(self, data: Cells) -> float:
        """See `Method`."""
        paraphrases = min(data.y.shape[1], data.y_test.shape[1])
        if paraphrases < 2:
            return float("nan")
        half = paraphrases // 2
        first, second = ((data.y[:, p], data.y_test[:, p]) for p in (slice(0, half), slice(half, None)))
        halves = Cells(first[0], second[0], first[1], second[1], 0)
        return float(self.held_out(halves, np.arange(len(data.y))[None]).r2[0])


def _relative(
    train: Float[ndarray, "scaffold train d_model"], test: Float[ndarray, "scaffold question d_model"]
) -> tuple[Float[ndarray, "scaffold question anchor"], Float[ndarray, "scaffold candidate anchor"]]:
    """Coordinates of each left-out scaffold's test states, and of all landings in the same frame.

    The left-out scaffold is no anchor, and no candidate is its own: those entries are 0.
    """
    everyone, anchors = range(len(train)), train.mean(axis=1)
    states, landings = [], []
    for i in everyone:
        axes = _unit(anchors - np.delete(anchors, i, axis=0).mean(axis=0))
        axes[i] = 0.0
        middle = others(test, i)
        states.append(_unit(test[i] - middle) @ axes.T)
        landings.append(_unit(test.mean(axis=1) - middle.mean(axis=0)) @ axes.T)
        np.fill_diagonal(landings[-1], 0.0)
    return np.stack(states), np.stack(landings)


def _unit(vectors: Float[ndarray, "row d_model"]) -> Float[ndarray, "row d_model"]:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)


relative = Relative()
