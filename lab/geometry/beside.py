"""Is one pair of models less alike than another, such as two seeds of one recipe? Both under one design.

The interval of a single agreement says how far it moves with other questions; two such intervals do not say
how far their difference moves, since hard questions lower both. Here both agreements are taken anew on the same
draws of questions. What varies between training runs is not in it: one reference pair is one pair of seeds.
"""

from collections.abc import Sequence

import numpy as np

from lab.geometry.grids import Measure, agreement
from lab.records.similarity import Beside, ChosenGrams
from lab.stats import MIN_CLUSTERS, cluster_weights, interval


def beside(
    position: str, one: Sequence[ChosenGrams], other: Sequence[ChosenGrams], measures: Sequence[Measure],
    rng: np.random.Generator, draws: int = 1000,
) -> tuple[Beside, ...]:  # fmt: skip
    """Every measure of `one` beside that of `other`, on the questions that both have."""
    return tuple(_one(position, m, _of(one, m), _of(other, m), rng, draws) for m in measures)


def _of(grams: Sequence[ChosenGrams], measure: Measure) -> ChosenGrams | None:
    return next((g for g in grams if g.measure == measure.name), None)


def _one(
    position: str, measure: Measure, one: ChosenGrams | None, other: ChosenGrams | None,
    rng: np.random.Generator, draws: int,
) -> Beside:  # fmt: skip
    if one is None or other is None:
        return Beside(position, measure.name, 0, "one of the runs has no value here")
    questions = [q for q in one.questions if q in set(other.questions)]
    if len(questions) < MIN_CLUSTERS:
        why = f"{len(questions)} common questions without a failed reply, and {MIN_CLUSTERS} are needed"
        return Beside(position, measure.name, len(questions), why)
    pairs = [_cut(g, questions) for g in (one, other)]
    values = [agreement(measure.relate(a), measure.relate(b)) for a, b in pairs]
    weights = cluster_weights([np.arange(len(questions))], draws, rng)
    moved = [measure.resampled(a, b, weights) for a, b in pairs]
    difference = values[0] - values[1]
    shift = moved[0] - moved[1]
    # As in `lab.geometry.similarity.question_interval`: a resample holds fewer questions and agrees less.
    low, high = interval(shift - np.nanmean(shift) + difference, len(questions))
    return Beside(
        position, measure.name, len(questions), "", values[0], values[1], difference, float(low), float(high)
    )


def _cut(grams: ChosenGrams, questions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    at = [grams.questions.index(q) for q in questions]
    return grams.a[:, at][:, :, :, at], grams.b[:, at][:, :, :, at]
