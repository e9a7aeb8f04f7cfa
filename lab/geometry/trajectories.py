"""The plane of a shared map for any state of either model, one reply token included.

A landing of the shared map is linear in the mean state of its replies, so every token of a reply has a place
in the same plane, and the mean of these places is the place of the reply. What is linear, per model and
scaffold: two directions of the model's own width and an origin per question. For the target the directions
are the axes; for the source they are the axes behind the map that was fitted without the scaffold. The
origins are the question means that the landings stand relative to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.geometry.fits import Cells, Linear, States, centred, others
from lab.records import LabError, Position, Split
from lab.records.geometry import StateGrid

Path = Float[ndarray, "token 2"]


@dataclass(frozen=True)
class View:
    """How one model is seen in the plane: a raw state h lies at h @ along − origin.

    along [scaffold, d_model, 2], origin [scaffold, question, 2]; in activation units of the frame's target.
    """

    model: str
    fingerprint: str
    layer: int
    along: Float[ndarray, "scaffold d_model 2"] = field(repr=False)
    origin: Float[ndarray, "scaffold question 2"] = field(repr=False)

    def __call__(self, states: States) -> Float[ndarray, "scaffold question 2"]:
        """Places of the raw states [scaffold, question, d_model] of all scaffolds on all questions."""
        return states @ self.along - self.origin


@dataclass(frozen=True)
class Frame:
    """The plane of the target's landings, and how both models are seen in it.

    toward: the scaffold that lies at the positive end of both axes; share [2]: of the variance between the
    target's landings on the training questions. questions: those without a failed reply in either model.
    """

    source: View
    target: View
    position: Position
    split: Split
    scaffolds: tuple[str, ...]
    questions: tuple[str, ...]
    toward: str
    share: Float[ndarray, " 2"] = field(repr=False)

    def of(self, model: str) -> View:
        """The view of one of the two models. LabError for another."""
        for view in (self.target, self.source):
            if view.model == model:
                return view
        raise LabError(
            f"expected {self.source.model} or {self.target.model}, whose frame this is, got {model}; make the "
            "frame of the models that are drawn"
        )

    def along(self, model: str, scaffold: str) -> Float[ndarray, "d_model 2"]:
        """The two directions of the model's own width on which its tokens under a scaffold are projected."""
        return self.of(model).along[_index(scaffold, self.scaffolds, "scaffold")]

    def place(self, model: str, scaffold: str, question: str, projected: Path) -> Path:
        """Places [token, 2] of tokens whose projections on `along` are `projected` [token, 2]."""
        s = _index(scaffold, self.scaffolds, "scaffold")
        q = _index(question, self.questions, "question")
        return projected - self.of(model).origin[s, q]


def _index(name: str, known: Sequence[str], what: str) -> int:
    if name not in known:
        raise LabError(
            f"expected a {what} of the frame, got {name!r}; it has {', '.join(known)}: read the replies that the "
            "map was tested on"
        )
    return known.index(name)


def frame_of(
    data: Cells, test: tuple[StateGrid, StateGrid], questions: Sequence[str], layers: tuple[int, int],
    method: Linear, toward: str,
) -> Frame:  # fmt: skip
    """The frame of `lab.geometry.maps.shared_map`; `questions` label the test questions of `data`.

    Axes: first two principal components of the target's landings on the training questions, `toward` at the
    positive end of each.
    """
    names = test[0].scaffolds
    y = centred(data.y)
    _, spread, right = np.linalg.svd(y.mean(axis=1), full_matrices=False)
    axes = right[:2].T * np.where(y.mean(axis=1)[names.index(toward)] @ right[:2].T < 0, -1.0, 1.0)
    along, origin = _carried(data, method, axes)
    level = data.y_test.mean(axis=(0, 1)) @ axes
    source, target = (
        View(grid.model, grid.fingerprint, layer, directions, origins)
        for grid, layer, directions, origins in (
            (test[0], layers[0], along, origin),
            (test[1], layers[1], np.broadcast_to(axes, (len(names), *axes.shape)), np.broadcast_to(level, origin.shape)),
        )
    )  # fmt: skip
    return Frame(
        source, target, test[0].position, test[0].split, names, tuple(questions), toward,
        (spread**2 / (spread**2).sum())[:2],
    )  # fmt: skip


def _carried(
    data: Cells, method: Linear, axes: Float[ndarray, "d_target 2"]
) -> tuple[Float[ndarray, "scaffold d_source 2"], Float[ndarray, "scaffold question 2"]]:
    """The source's directions and origins, each scaffold by the map that was fitted without it.

    A map predicts displacements from the other scaffolds' mean, so the origin takes that mean off the source
    and puts the target's on.
    """
    (x, span_x), (y, span_y) = _narrow(centred(data.x)), _narrow(centred(data.y))
    x_test, y_test = data.x_test.mean(axis=1), centred(data.y_test)
    seen = span_y.T @ axes
    along, origin = [], []
    for i in range(len(x)):
        fitted = method.fit(
            np.delete(x, i, axis=0) - others(x, i), np.delete(y, i, axis=0) - others(y, i)
        )  # fmt: skip
        along.append(span_x @ (fitted.left @ (fitted.core @ (fitted.right @ seen))))
        origin.append(others(x_test, i) @ along[i] - others(y_test, i) @ axes)
    return np.stack(along), np.stack(origin)


def _narrow(states: States) -> tuple[Float[ndarray, "scaffold question k"], Float[ndarray, "d_model k"]]:
    """States in coordinates of an orthonormal basis of their span where that is narrower, and the basis.

    A fitted map lies in the span of the states that it was fitted on, so nothing that it sees is lost.
    """
    rows = states.reshape(-1, states.shape[2])
    basis = np.linalg.qr(rows.T)[0] if len(rows) < rows.shape[1] else np.eye(rows.shape[1])
    return states @ basis, basis


def running_mean(path: Path) -> Path:
    """Mean of the places up to and with each token [token, 2]: it ends at the mean of all, the landing."""
    return np.cumsum(path, axis=0) / np.arange(1, len(path) + 1)[:, None]
