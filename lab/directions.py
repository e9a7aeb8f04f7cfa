"""Persona vectors: their pole-swapped nulls, the choice of a layer, and what is a trait's own.

A direction is a weighted sum of activations, sum_i w_i a_i, with weights that depend on labels and
questions only; a null direction is the same sum with the poles swapped in half of the questions. So a
thousand nulls are one matrix product.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import stats

from lab.estimators import Labels, Questions, pole_weights, unit, usable
from lab.records import Direction, LabError, LayerScore, Position, Split
from lab.shapes import ChatLayerModel
from lab.stats import MIN_CLUSTERS, auroc, d_prime

APART = 0.9
"""How much of the overlap of directions `apart` takes out; less than 1, so that two of nearly one direction do not blow
up each other's noise (0 to .3 left in did equally well in experiments/drift.py's development runs)."""


@dataclass(frozen=True)
class Contrast:
    """One model's activations under one trait's contrastive prompts, on one split.

    acts [chat, layer, d_model]; positive [chat] is True for the trait-positive prompt; questions
    [chat] are labels (ints or ids). A NaN row is a reply that failed. Raises LabError when lengths
    differ.
    """

    acts: ChatLayerModel
    positive: Labels
    questions: Questions
    split: Split

    def __post_init__(self) -> None:
        if not len(self.acts) == len(self.positive) == len(self.questions):
            raise LabError(
                f"expected one label and one question per chat, got {len(self.acts)} chats, "
                f"{len(self.positive)} labels and {len(self.questions)} questions; pass the same rows"
            )


def _null_weights(
    positive: Labels, questions: Questions, draws: int, rng: np.random.Generator
) -> Float[ndarray, "draw chat"]:
    """Weights of `mean_difference` with the poles swapped in a random half of the questions.

    Balanced on purpose. Freely shuffled signs leave a remainder of the true difference, and where the
    trait is strong that remainder outweighs the noise, so that after scaling to equal norm the "null"
    is the true direction again (measured: d′ 56 at the 97.5 % point against 53 of the real one). Of an
    odd number of questions one, at random, is left out.
    """
    levels, code = np.unique(questions, return_inverse=True)
    half = len(levels) // 2
    signs = np.repeat([1.0, -1.0, 0.0], [half, half, len(levels) - 2 * half])
    drawn = rng.permuted(np.tile(signs, (draws, 1)), axis=1)[:, code]
    return pole_weights(positive, questions) * drawn * (len(levels) / max(1, 2 * half))


def permuted_directions(
    acts: ChatLayerModel, positive: Labels, questions: Questions, draws: int, rng: np.random.Generator
) -> Float[ndarray, "draw layer d_model"]:
    """`mean_difference` with the poles swapped in a random half of the questions, per draw.

    A null with the real covariance and without the trait: what all questions share cancels. Not
    normalised; use `unit(...)` times the true length for a null of equal norm. Holds
    draws × layers × d_model float64 numbers. Replies to one system prompt are treated as
    exchangeable with those to another, so what a particular prompt adds besides the trait is not in
    this null; other traits' directions are the control for that. Raises LabError as `mean_difference`.
    """
    rows = usable(acts, positive, questions)
    weights = _null_weights(positive[rows], questions[rows], draws, rng)
    return np.tensordot(weights, acts[rows].astype(np.float64), 1)


def layer_scores(
    extract: Contrast,
    select: Contrast,
    rng: np.random.Generator,
    draws: int = 500,
    *,
    model: str,
    trait: str,
    position: Position,
) -> tuple[LayerScore, ...]:
    """How well each layer's direction, made on `extract`, separates the poles on `select`.

    One LayerScore per layer, in order, `chosen` set on the one that `choose_layer` names. null_high
    is the 97.5 % point of d′ on `select` (true labels) over `draws` pole-swapped directions of the
    same layer, widened for few questions (`_null_high`). It is a null per layer, not of the maximum
    over layers: report on `test`. Never holds [draw, layer, d_model]: projections come from the
    chat × chat products. Raises LabError when the splits are not extract and select, share a
    question, or no question keeps both poles.
    """
    _check_splits(extract, select)
    rows = usable(extract.acts, extract.positive, extract.questions)
    held = usable(select.acts, select.positive, select.questions)
    true, where = extract.positive[rows], extract.questions[rows]
    weights = np.concatenate([pole_weights(true[None], where), _null_weights(true, where, draws, rng)])
    up = select.positive[held]
    scores = []
    for layer in range(extract.acts.shape[1]):
        made = extract.acts[rows, layer].astype(np.float64)
        projection = weights @ (made @ select.acts[held, layer].astype(np.float64).T)
        separation = np.asarray(d_prime(projection[:, up], projection[:, ~up]))
        # Layer scores are compared by d′, which has no scale: the direction's length drops out.
        values = (auroc(projection[0, up], projection[0, ~up]), float(separation[0]))
        high = _null_high(separation[1:], len(np.unique(where)))
        scores.append(LayerScore(model, trait, position, layer, "select", *values, high, False))
    best = choose_layer(scores, int(up.sum()), int((~up).sum()))
    return tuple(LayerScore(**{**vars(s), "chosen": s.layer == best}) for s in scores)


def _null_high(separation: Float[ndarray, " draw"], questions: int) -> float:
    """The 97.5 % point of null d′, times the t over the normal quantile at questions − 1 degrees.

    Balanced nulls scatter as the questions of this one sample did, so their plain quantile treats an
    estimated spread as known: without a trait d′ passed it in 4 to 7 % of worlds at 16 to 5 questions
    instead of in 2.5 %; widened, in about 3 % (tests/test_directions.py). NaN below MIN_CLUSTERS
    questions, where only a handful of balanced patterns exist, and where no null d′ is known.
    """
    known = separation[~np.isnan(separation)]
    widen = null_widening(questions)
    return float(np.quantile(known, 0.975) * widen) if len(known) else float("nan")


def null_widening(questions: int) -> float:
    """What a 95 % limit of balanced nulls is to be multiplied with: t over normal quantile.

    `questions` is the number of extract questions behind the direction; NaN below MIN_CLUSTERS.
    """
    if questions < MIN_CLUSTERS:
        return float("nan")
    return float(stats.t.ppf(0.975, questions - 1) / stats.norm.ppf(0.975))


def _check_splits(extract: Contrast, select: Contrast) -> None:
    if (extract.split, select.split) != ("extract", "select"):
        raise LabError(
            f"expected the splits extract and select, got {extract.split} and {select.split}; a layer "
            "is chosen on questions that neither make the direction nor are reported"
        )
    shared = np.intersect1d(extract.questions, select.questions)
    if len(shared):
        raise LabError(
            f"expected disjoint questions, got {len(shared)} in both extract and select (first: "
            f"{shared[0]}); give each question to one split"
        )


def choose_layer(scores: Sequence[LayerScore], positive: int, negative: int) -> int:
    """The layer nearest the middle depth among those whose d′ is not clearly below the largest.

    Clearly: by more than 1.645 standard errors of the largest d′, from `positive` and `negative`
    replies behind it (Hedges & Olkin 1985), or below half of it. Where the poles part everywhere, the largest d′
    is an accident of few questions: taken as it stood it chose layer 1 of hearth-a for the assistant,
    which reads scaffolds with R² .72 against .87 to .89 of layers 2 to 5 (experiments/LOG.md). The
    middle is the mean of the first and last layer scored; of two equally near, the earlier. Raises
    LabError when no layer has a d′ or when a score is not from the select split.
    """
    wrong = {s.split for s in scores} - {"select"}
    usable = [s for s in scores if not np.isnan(s.d_prime)]
    if wrong or not usable:
        raise LabError(
            f"expected d′ from the select split, got {len(usable)} usable of {len(scores)} scores, "
            f"other splits: {sorted(wrong)}; a layer is chosen on select only"
        )
    best = max(s.d_prime for s in usable)
    error = np.sqrt(1 / positive + 1 / negative + best**2 / (2 * (positive + negative)))
    floor = min(best, max(best - 1.645 * error, best / 2))
    near = [s.layer for s in usable if s.d_prime >= floor]
    middle = (min(s.layer for s in scores) + max(s.layer for s in scores)) / 2
    return min(near, key=lambda layer: (abs(layer - middle), layer))


# ------------------------------------------------------------------ what is a trait's own


def apart(directions: Sequence[Direction]) -> list[Direction]:
    """Each direction without what it shares with the others, a unit vector at its own site.

    A trait's direction holds what goes along with the trait: in the shipped organisms the cosines of directions
    follow the correlations of the traits (r .95 and .83). Apart, a push along one hardly moves what the others
    read (the dual basis of the directions, shrunk by `APART` towards themselves). Directions of several layers are
    held against each other as they are, since the residual stream adds up; the length is left as it was. One
    direction alone stays itself.
    """
    if not directions:
        return []
    vectors = np.stack([d.vector for d in directions]).astype(np.float64)
    overlap = APART * vectors @ vectors.T + (1 - APART) * np.eye(len(vectors))
    own = unit(np.linalg.solve(overlap, vectors))
    return [replace(d, vector=v.astype(d.vector.dtype)) for d, v in zip(directions, own, strict=True)]
