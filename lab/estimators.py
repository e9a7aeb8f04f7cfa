"""Ways to make a direction from replies at a trait's two poles, as plain functions.

Every estimator takes acts [chat, layer, d_model], positive [chat] (True at the positive pole) and
questions [chat] (labels), and returns [layer, d_model]: a vector that points to more of the trait
and whose length is the mean distance of the poles along it, in the unit of the activations. Rows
with NaN are left out, and so are questions that lose a pole by that. All work on differences
within questions, so no question's topic leaks in. They raise LabError when no question keeps both
poles.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, Shaped
from numpy import ndarray

from lab.records import LabError
from lab.shapes import ChatLayerModel, LayerModel

Labels = Bool[ndarray, " chat"]
Questions = Shaped[ndarray, " chat"]
Estimator = Callable[[ChatLayerModel, Labels, Questions], LayerModel]
PROBE_PENALTY = 1.0
"""Inverse strength (C) of the probe's L2 penalty, for activations of unit scatter per coordinate."""


def usable(acts: ChatLayerModel, positive: Labels, questions: Questions) -> Labels:
    """Rows without NaN, of questions in which both poles still have such a row."""
    whole = ~np.isnan(acts).any(axis=(1, 2))
    both = np.intersect1d(questions[whole & positive], questions[whole & ~positive])
    if len(both) == 0:
        raise LabError(
            "expected at least one question with a usable reply at both poles, got none; "
            "check that replies are not empty and that both poles were asked the same questions"
        )
    return whole & np.isin(questions, both)


def pole_weights(positive: Bool[ndarray, "*draw chat"], questions: Questions) -> Float[ndarray, "*draw chat"]:
    """Weights whose sum with activations is the mean over questions of (positive − negative)."""
    levels, code = np.unique(questions, return_inverse=True)
    member = np.eye(len(levels))[code]
    ups, downs = positive @ member, ~positive @ member
    return np.where(positive, 1 / ups[..., code], -1 / downs[..., code]) / len(levels)


def unit(vectors: Float[ndarray, "*rest d_model"]) -> Float[ndarray, "*rest d_model"]:
    """Each vector divided by its Euclidean length; a zero vector has no direction and becomes NaN."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, np.nan)


def mean_difference(acts: ChatLayerModel, positive: Labels, questions: Questions) -> LayerModel:
    """Mean activation at the positive minus at the negative pole.

    The difference is taken within each question and then averaged over questions, so unequal counts
    do not let a question's topic leak in. Source: Chen et al. 2025 (persona vectors).
    """
    rows = usable(acts, positive, questions)
    return np.tensordot(pole_weights(positive[rows], questions[rows]), acts[rows].astype(np.float64), 1)


def paired_pca(acts: ChatLayerModel, positive: Labels, questions: Questions) -> LayerModel:
    """First principal component of the poles, each pair centred on its own middle.

    With both poles of every question at plus and minus half their difference, the component is that of
    the differences without centring. Centring the differences themselves, as repeng's default does,
    takes out their mean, which is the very thing looked for (tests/test_estimators.py shows it).
    """
    differences = _differences(*_rows(acts, positive, questions))
    mean = differences.mean(axis=0)
    # right singular vectors of [question, d_model] per layer
    _, _, right = np.linalg.svd(differences.transpose(1, 0, 2), full_matrices=False)
    return _scaled(right[:, 0], mean)


def whitened_lda(acts: ChatLayerModel, positive: Labels, questions: Questions) -> LayerModel:
    """Fisher's discriminant: the mean difference, whitened by the covariance inside the poles.

    The covariance is that of what question and pole leave over, shrunk as Ledoit & Wolf (2004) do.
    It reads best where noise has a shape; what it names is a read-out, not the move from pole to pole.
    """
    from sklearn.covariance import ledoit_wolf

    rows, up, where = _rows(acts, positive, questions)
    mean = _differences(rows, up, where).mean(axis=0)
    left = _within_questions(rows, where) - np.where(up, 0.5, -0.5)[:, None, None] * mean
    vectors = []
    for layer in range(rows.shape[1]):
        covariance, _ = ledoit_wolf(left[:, layer], assume_centered=True)
        scale = np.trace(covariance) / len(covariance)
        ridge = 1e-6 * scale * np.eye(len(covariance))
        vectors.append(np.linalg.solve(covariance + ridge, mean[layer]) if scale else mean[layer])
    return _scaled(np.array(vectors), mean)


def logistic_probe(acts: ChatLayerModel, positive: Labels, questions: Questions) -> LayerModel:
    """Weights of an L2-penalised logistic regression of the pole on question-centred activations.

    Activations are divided by one number per layer, their root mean square, so that the penalty
    (`PROBE_PENALTY`) means the same in every model.
    """
    from sklearn.linear_model import LogisticRegression

    rows, up, where = _rows(acts, positive, questions)
    mean = _differences(rows, up, where).mean(axis=0)
    centred = _within_questions(rows, where)
    vectors = []
    for layer in range(rows.shape[1]):
        scale = np.sqrt((centred[:, layer] ** 2).mean()) or 1.0
        probe = LogisticRegression(C=PROBE_PENALTY, fit_intercept=False, max_iter=1000)
        vectors.append(probe.fit(centred[:, layer] / scale, up).coef_[0])
    return _scaled(np.array(vectors), mean)


ESTIMATORS: dict[str, Estimator] = {
    "mean_difference": mean_difference,
    "paired_pca": paired_pca,
    "whitened_lda": whitened_lda,
    "logistic_probe": logistic_probe,
}


def _rows(acts: ChatLayerModel, positive: Labels, questions: Questions):
    """Usable rows in float64 with their labels."""
    keep = usable(acts, positive, questions)
    return acts[keep].astype(np.float64), positive[keep], questions[keep]


def _differences(acts, positive, questions) -> Float[ndarray, "question layer d_model"]:
    """Positive minus negative, per question."""
    return np.array(
        [
            acts[positive & (questions == q)].mean(axis=0) - acts[~positive & (questions == q)].mean(axis=0)
            for q in np.unique(questions)
        ]
    )


def _within_questions(acts, questions):
    """Activations less the middle of their question."""
    centred = np.empty_like(acts)
    for q in np.unique(questions):
        here = questions == q
        centred[here] = acts[here] - acts[here].mean(axis=0)
    return centred


def _scaled(vectors: LayerModel, mean: LayerModel) -> LayerModel:
    """Each vector as long as the poles are apart along it, pointing to the positive pole."""
    directions = unit(vectors)
    return directions * np.einsum("ld,ld->l", directions, mean)[:, None]
