"""Do a judge's scores tell replies made under a trait's positive prompts from those under its negative ones?

Two questions that look alike: whether a judge tells the poles apart (`separation`), and whether two judges
order the replies *inside* a pole alike (`agreement_within`). Any two judges that tell the poles apart
agree over all replies, however little they agree on more than that.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from numpy import ndarray

from lab.judging.judges import Scores, Unit
from lab.judging.trust import Questions, spearman
from lab.records import LabError
from lab.stats import auroc, average, cluster_weights, interval

Positive = Bool[ndarray, " item"]


@dataclass(frozen=True)
class Separation:
    """How well one judge tells the poles apart: AUROC, 0.5 by chance, 1 when every positive is above.

    low, high: 95 % cluster bootstrap over questions (NaN below 5); positive, negative: mean scores in
    `unit`; `n` scored replies to `questions` questions; counts: replies by status, unscored ones too.
    """

    judge: str
    unit: Unit
    auroc: float
    low: float
    high: float
    positive: float
    negative: float
    n: int
    questions: int
    counts: Mapping[str, int]


def separation(
    scores: Scores, positive: Positive, questions: Questions, rng: np.random.Generator, draws: int = 1000
) -> Separation:
    """AUROC of a judge's scores between the poles. LabError for unequal lengths."""
    _check(len(scores.rows), positive, questions)
    values = scores.values
    known = ~np.isnan(values)
    up, down = known & positive, known & ~positive
    low = high = float("nan")
    clusters = len(np.unique(questions[known]))
    if up.any() and down.any():
        weights = cluster_weights([questions[known]], draws, rng)
        above = (values[up][:, None] > values[down]) + 0.5 * (values[up][:, None] == values[down])
        w_up, w_down = weights[:, positive[known]], weights[:, ~positive[known]]
        total = w_up.sum(axis=1) * w_down.sum(axis=1)
        drawn = np.where(total > 0, ((w_up @ above) * w_down).sum(axis=1), np.nan) / np.maximum(total, 1)
        low, high = (float(x) for x in interval(drawn, clusters))
    return Separation(
        scores.judge, scores.unit, auroc(values[positive], values[~positive]), low, high,
        float(average(values[positive], 0)), float(average(values[~positive], 0)),
        int(known.sum()), clusters, scores.counts,
    )  # fmt: skip


@dataclass(frozen=True)
class Within:
    """Rank agreement of two judges inside the poles, with its 95 % cluster-bootstrap interval."""

    first: str
    second: str
    spearman: float
    low: float
    high: float
    n: int


def agreement_within(
    first: Scores, second: Scores, positive: Positive, questions: Questions, rng: np.random.Generator,
    draws: int = 1000,
) -> Within:  # fmt: skip
    """Mean over both poles of Spearman's correlation inside the pole, equal weight to each.

    NaN below 3 replies in a pole that both scored, or without variation there. LabError for unequal
    lengths.
    """
    _check(len(first.rows), positive, questions)
    _check(len(second.rows), positive, questions)
    both = ~np.isnan(first.values) & ~np.isnan(second.values)
    n = int(both.sum())
    nan = float("nan")
    nothing = Within(first.judge, second.judge, nan, nan, nan, n)
    if min((both & positive).sum(), (both & ~positive).sum()) < 3:
        return nothing
    weights = np.ones((draws + 1, n))  # the first row is the point value
    weights[1:] = cluster_weights([questions[both]], draws, rng)
    x, y, up = first.values[both], second.values[both], positive[both]
    with np.errstate(invalid="ignore"):  # a draw without a reply of one pole
        rho = np.mean([spearman(x[p], y[p], weights[:, p]) for p in (up, ~up)], axis=0)
    if np.isnan(rho[0]):
        return nothing
    low, high = interval(rho[1:], len(np.unique(questions[both])))
    return Within(first.judge, second.judge, float(rho[0]), float(low), float(high), n)


def _check(n: int, positive: Positive, questions: Questions) -> None:
    if len({n, len(positive), len(questions)}) != 1:
        raise LabError(
            f"expected scores, poles and questions of the same replies, got {n}, {len(positive)} and "
            f"{len(questions)}; give all three for every reply"
        )
