"""What steering does, as numbers: changes with intervals, choice of dose, controls, half-life.

Pure: readings and projections in, numbers out. A `Taken` is what a judge keeps of a set of replies;
its readings pool any subset of them, so that an interval over questions costs no generation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from numpy.typing import NDArray
from scipy import stats

from lab.records import LabError
from lab.stats import MIN_CLUSTERS, cluster_weights, interval, upper_p

COHERENT = 0.9
"""Least coherence of a dose that is taken."""


class Taken(Protocol):
    """What a judge keeps of replies, to read any subset of them together."""

    @property
    def coherence(self) -> Float[ndarray, " reply"]:
        """Share of each reply that is language; NaN for a reply without text."""
        ...

    def pooled(self, rows: Int[ndarray, " row"]) -> Float[ndarray, " trait"]:
        """The reading of these replies taken together; NaN where there is nothing to read."""
        ...


class Reader(Protocol):
    """Reads traits from replies to questions."""

    @property
    def judge(self) -> str: ...

    @property
    def unit(self) -> str: ...

    @property
    def traits(self) -> tuple[str, ...]: ...

    def take(self, questions: Sequence[str], replies: Sequence[str]) -> Taken:
        """The replies as evidence; questions are the user turns they answer."""
        ...


@dataclass(frozen=True)
class Change:
    """Readings of one condition, [trait], and their change from the base, with 95 % limits.

    wrong_way: share of questions whose reading moved against `sign`; coherence: mean over replies.
    """

    reading: NDArray[np.float64]
    change: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    wrong_way: NDArray[np.float64]
    coherence: float
    n: int


def change(
    taken: Taken, questions: Sequence[str], base: Taken, base_questions: Sequence[str], sign: float = 1.0
) -> Change:
    """How the pooled reading differs from the base's, with a delete-one jackknife over questions.

    Both sides lose the same question at a time, so what a question adds to both cancels. A question
    without a reading on either side counts neither way in wrong_way. LabError when no question is in both.
    """
    here, there = np.array(questions), np.array(base_questions)
    shared = [q for q in dict.fromkeys(here.tolist()) if q in set(there.tolist())]
    if not shared:
        raise LabError("expected replies to the same questions on both sides, got none in common")
    reading = taken.pooled(np.arange(len(here)))
    whole = reading - base.pooled(np.arange(len(there)))
    left_out = np.array(
        [taken.pooled(np.flatnonzero(here != q)) - base.pooled(np.flatnonzero(there != q)) for q in shared]
        if len(shared) > 1
        else [np.full_like(whole, np.nan)]
    )
    low, high = jackknife_interval(whole, left_out)
    moved = np.array(
        [taken.pooled(np.flatnonzero(here == q)) - base.pooled(np.flatnonzero(there == q)) for q in shared]
    )
    known = ~np.isnan(moved)
    with np.errstate(invalid="ignore"):
        against = (np.sign(moved) == -np.sign(sign)) & known
        wrong = np.where(known.any(axis=0), against.sum(axis=0) / np.maximum(known.sum(axis=0), 1), np.nan)
    return Change(reading, whole, low, high, wrong, mean_coherence(taken), len(here))


def jackknife_interval(
    whole: Float[ndarray, " trait"], left_out: Float[ndarray, "question trait"]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """95 % limits: estimate -+ t(k - 1) times the delete-one jackknife standard error.

    NaN below five questions or where a leave-one-out value is unknown. Source: Efron & Stein 1981.
    """
    k = len(left_out)
    if k < 5:
        return np.full_like(whole, np.nan), np.full_like(whole, np.nan)
    error = np.sqrt((k - 1) / k * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))
    reach = stats.t.ppf(0.975, k - 1) * error
    return whole - reach, whole + reach


def mean_coherence(taken: Taken) -> float:
    """Mean over replies; one without text counts as 0."""
    return float(np.nan_to_num(taken.coherence).mean()) if len(taken.coherence) else float("nan")


@dataclass(frozen=True)
class Chosen:
    """The strongest coherent doses of one way to push: coefficients and their readings' difference."""

    down: float
    up: float
    effect: float
    reached: bool


def choose_doses(readings: Mapping[float, tuple[float, float]], least: float = COHERENT) -> Chosen:
    """Per sign the coherent dose whose reading lies farthest in its own direction.

    `readings`: (reading, coherence) per coefficient, unsteered (0) among them. A sign without a
    coherent dose keeps its weakest and `reached` is False. LabError when a sign is missing.
    """
    sides = {s: {c: v for c, v in readings.items() if np.sign(c) == s} for s in (-1, 1)}
    if not sides[-1] or not sides[1]:
        raise LabError(f"expected doses on both sides of 0, got {sorted(readings)}")
    picked, reached = {}, True
    for sign, doses in sides.items():
        fit = {c: r for c, (r, coherence) in doses.items() if coherence >= least and not np.isnan(r)}
        reached &= bool(fit)
        picked[sign] = max(fit, key=lambda c: sign * fit[c]) if fit else min(doses, key=abs)
    down, up = picked[-1], picked[1]
    return Chosen(down, up, readings[up][0] - readings[down][0], reached)


def control_p(effect: float, controls: Sequence[float]) -> tuple[float, float]:
    """(97.5 % point of |control effect|, p): p = (1 + controls at least as large) / (1 + controls)."""
    known = np.abs([c for c in controls if not np.isnan(c)])
    if not len(known) or np.isnan(effect):
        return float("nan"), float("nan")
    return float(np.quantile(known, 0.975)), upper_p(abs(effect), known)


def binomial_interval(hits: int, n: int) -> tuple[float, float]:
    """Exact 95 % limits of a share (Clopper & Pearson 1934), trials counted as independent; NaN below five."""
    if n < MIN_CLUSTERS:
        return float("nan"), float("nan")
    found = stats.binomtest(hits, n).proportion_ci(0.95, "exact")
    return float(found.low), float(found.high)


def covariance_directions(
    states: Float[ndarray, "chat d_model"], groups: Sequence[str], draws: int, rng: np.random.Generator
) -> Float[ndarray, "draw d_model"]:
    """Unit vectors drawn with the covariance that the states have inside their groups.

    `groups` are conditions (trait and pole): centred inside them, so that what the conditions differ
    in, the traits themselves, is not in the draw; otherwise like ordinary variation of the model.
    """
    labels = np.array(groups)
    centred = states.astype(np.float64)
    for group in np.unique(labels):
        centred[labels == group] -= centred[labels == group].mean(axis=0)
    drawn = rng.standard_normal((draws, len(centred))) @ centred
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def paths(projections: Sequence[Sequence[float]], length: int) -> Float[ndarray, "reply token"]:
    """Token projections of replies as one array, NaN beyond each reply's end."""
    out = np.full((len(projections), length), np.nan)
    for k, row in enumerate(projections):
        out[k, : min(length, len(row))] = row[:length]
    return out


@dataclass(frozen=True)
class Decay:
    """Mean difference per token [token] with 95 % limits and counts, and what it says of the return."""

    mean: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n: NDArray[np.int64]
    carried: float
    half_life: float


def decay(
    difference: Float[ndarray, "reply token"], questions: Sequence[str], release: int,
    rng: np.random.Generator, draws: int = 1000,
) -> Decay:  # fmt: skip
    """Course of a difference that was pushed for the first `release` tokens.

    Limits: cluster bootstrap over questions. half_life: tokens from the first one without push until
    the mean falls to half of its value there, linear in between; NaN where the interval there
    holds 0 or the mean does not halve.
    """
    known = ~np.isnan(difference)
    filled = np.where(known, difference, 0.0)
    labels = np.array(questions)
    weights = np.concatenate([np.ones((1, len(labels))), cluster_weights([labels], draws, rng)])
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (weights @ filled) / (weights @ known)
    mean = means[0]
    low, high = map(np.asarray, interval(means[1:], len(np.unique(labels))))
    carried = float(mean[release]) if len(mean) > release else float("nan")
    told = len(mean) > release and (low[release] > 0 or high[release] < 0)
    half = _halving(mean[release:]) if told else float("nan")
    return Decay(mean, low, high, known.sum(axis=0), carried, half)


def _halving(path: Float[ndarray, " token"]) -> float:
    """Where a path first comes down to half of its first value, in tokens; NaN if it does not."""
    share = path / path[0]
    below = np.flatnonzero(share <= 0.5)
    if not len(below):
        return float("nan")
    k = int(below[0])
    return k - 1 + float((share[k - 1] - 0.5) / (share[k - 1] - share[k]))
