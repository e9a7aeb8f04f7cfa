"""What is concluded of one judge on the replies of one trait: its poles, its peers, its scale, its filter."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from numpy import ndarray
from scipy.stats import norm

from lab.judging.judges import Item, Score, Scores
from lab.judging.poles import Positive, Separation, Within, agreement_within, separation
from lab.judging.trust import Agreement, Calibration, Questions, Screened, agreement, calibrate, screen
from lab.records import LabError, Trait

LEAST_QUESTIONS = 4
"""Below this many questions nothing is calibrated."""


@dataclass(frozen=True)
class Replies:
    """All replies of one trait, positive pole first.

    positive, questions, pairs [item]: the pole, the question's id, and the index of the pair of prompts
    that the reply was made under.
    """

    trait: Trait
    items: tuple[Item, ...]
    positive: Positive
    questions: Questions
    pairs: Int[ndarray, " item"]


@dataclass(frozen=True)
class Said:
    """What one judge said of the replies of one trait; None where it was not asked."""

    trait: Scores
    again: Scores | None = None
    coherence: Scores | None = None


@dataclass(frozen=True)
class Verdict:
    """One judge on one trait: the poles, and how far it agrees with the first judge, itself and the exact.

    agreement, within: with the first judge (None for itself); retest: with its own second take;
    calibration: of its scores to the exact judge's; coherence: mean, 0 to 100; screened: what the
    literature's filter keeps and why not the rest. None (NaN) where it was not asked or cannot be told.
    """

    trait: str
    separation: Separation
    agreement: Agreement | None
    within: Within | None
    retest: Agreement | None
    calibration: Calibration | None
    coherence: float
    screened: Screened | None


def verdict(
    replies: Replies, mine: Said, heard: Sequence[Said], rng: np.random.Generator, draws: int = 1000,
    filtered: bool = False,
) -> Verdict:  # fmt: skip
    """What is concluded of one judge (`mine`) on one trait.

    heard: what every judge said, `mine` among it; heard[0] is the first judge. `filtered` applies the
    literature's filter. LabError for scores of another number of replies.
    """
    first, positive, questions = heard[0].trait, replies.positive, replies.questions
    exact = next((s.trait for s in heard if s.trait.judge == "exact"), None)
    other = mine is not heard[0]
    coherence = mine.coherence.values if mine.coherence else np.array([np.nan])
    known = coherence[~np.isnan(coherence)]
    return Verdict(
        replies.trait.name,
        separation(mine.trait, positive, questions, rng, draws),
        agreement(first, mine.trait, questions, rng, draws) if other else None,
        agreement_within(first, mine.trait, positive, questions, rng, draws) if other else None,
        agreement(mine.trait, mine.again, questions, rng, draws) if mine.again else None,
        _calibration(mine.trait, exact, questions, rng, draws),
        float(known.mean()) if len(known) else float("nan"),
        screened(mine, positive) if filtered else None,
    )


def _calibration(
    mine: Scores, exact: Scores | None, questions: Questions, rng: np.random.Generator, draws: int
) -> Calibration | None:  # fmt: skip
    if exact is None or mine.judge == "exact":
        return None
    both = ~np.isnan(mine.values) & ~np.isnan(exact.values)
    if len(np.unique(questions[both])) < LEAST_QUESTIONS:
        return None
    return calibrate(mine, exact, questions, rng, draws=draws)


def screened(mine: Said, positive: Positive) -> Screened | None:
    """The literature's filter by one judge; None without coherence, or where its scale has no 50."""
    if mine.coherence is None or mine.trait.unit == "nats per token":
        return None
    trait = percentiles(mine.trait) if mine.trait.unit == "prior sd" else mine.trait
    return screen(trait, mine.coherence, positive)


def percentiles(scores: Scores) -> Scores:
    """Scores in prior sd as the share of the world's population that has less, "0-100".

    50 is the population's mean, so that filters made for rubrics can be used. LabError for other units.
    """
    if scores.unit != "prior sd":
        raise LabError(f"expected scores in prior sd, got {scores.judge} in {scores.unit}")
    rows = [
        Score(100 * float(norm.cdf(r.value)), how=r.how) if r.status == "scored" else r for r in scores.rows
    ]
    return Scores(f"{scores.judge}, percentile", "0-100", tuple(rows))


def document(found: Verdict) -> dict[str, object]:
    """A verdict as one flat row of numbers and words; NaN where there is none."""
    s, a, w, t, c = found.separation, found.agreement, found.within, found.retest, found.calibration
    nan = float("nan")
    return {
        "trait": found.trait, "judge": s.judge, "unit": s.unit, "auroc": s.auroc, "auroc_low": s.low,
        "auroc_high": s.high, "mean_positive": s.positive, "mean_negative": s.negative, "n": s.n,
        "questions": s.questions, "unscored": sum(n for k, n in s.counts.items() if k != "scored"),
        **{k: s.counts.get(k, 0) for k in ("refused", "malformed", "failed")},
        "first": a.first if a else s.judge,
        "spearman": a.spearman if a else nan, "spearman_low": a.spearman_low if a else nan,
        "spearman_high": a.spearman_high if a else nan, "spearman_n": a.n if a else 0,
        "within": w.spearman if w else nan, "within_low": w.low if w else nan,
        "within_high": w.high if w else nan,
        "retest": t.spearman if t else nan, "retest_low": t.spearman_low if t else nan,
        "retest_high": t.spearman_high if t else nan,
        "calibration_error": c.error if c else nan, "calibration_low": c.low if c else nan,
        "calibration_high": c.high if c else nan, "calibration_null": c.null_error if c else nan,
        "coherence": found.coherence,
        "kept": int(found.screened.kept.sum()) if found.screened else -1,
    }  # fmt: skip
