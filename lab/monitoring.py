"""Drift of a persona over the turns of a conversation: bands, alarms, and how far to trust them.

A conversation is a series of assistant turns. Each turn is one number (a projection, or any baseline in its place), or
two: the reply's log-likelihood ratios under a push along a trait's direction, up and down (`lab.likelihood`). What is
ordinary is learned from ordinary conversations; an alarm is raised by a two-sided cumulative sum (Page 1954, "Continuous
inspection schemes"), in which small shifts that last add up. Numbers are held against the turns before them (self-starting:
Hawkins 1987, "Self-starting CUSUM charts for location and scale") and, where the level is known beforehand (*anchored*),
against that level too. Held against the first turn alone, planted shifts of 2 sd were told from none with an AUROC of
.82 instead of .97 (simulated, 12 turns, shift at turn 5). Ratios add up in nats, less what the level makes of
them: that level is the one of the turns before the sum began, so that what drifts is not held against itself. The
threshold is set on some ordinary conversations so that others see a promised number of false alarms; all rates are per
100 turns.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.records import LabError
from lab.stats import auroc, interval

Series = Float[ndarray, " turn"]
Ratios = Float[ndarray, "turn 2"]
"""Log-likelihood ratios of each reply, pushed towards more and towards less of the trait, in nats."""
SLACK = 0.25
"""Deviation per turn, in sd, that the sum of one number forgives (.25 found more than .5 in simulation)."""
MIN_CONVERSATIONS = 10
"""Fewest ordinary conversations that a band is learned from."""


def leaning(series: Series | Ratios) -> Series:
    """One number per turn: the series itself, or half of what a reply is likelier pushed up than down (nats)."""
    return series if series.ndim == 1 else (series[:, 0] - series[:, 1]) / 2


@dataclass(frozen=True)
class Ordinary:
    """What turns of ordinary conversations look like, each as one number (`leaning`).

    course [turn]: mean over conversations, less the first turn (turns beyond its end take the last); sd:
    of turns around the mean of their own conversation, course removed; reach: a turn's `deviation` stays
    within ± this in 95 % of ordinary turns; n: conversations. level: where conversations start; weight: how
    many of a conversation's own turns the level counts for, 0 where conversations start anywhere and
    infinite where all start at the level.
    """

    course: Series
    sd: float
    reach: float
    n: int
    level: float = 0.0
    weight: float = 0.0

    def expected(self, series: Series) -> tuple[Series, Series]:
        """What each turn is expected to be from the turns before it, and the sd of that, [turn].

        A conversation is held against its own earlier turns, so that a scaffold that starts elsewhere is
        not drift, and against `level` as if that were `weight` turns more (the best linear prediction for
        conversations whose own levels have variance sd² / weight). NaN where there is nothing to hold
        against: in the first turn, when `weight` is 0.
        """
        usual = self.usual(len(series))
        known = np.isfinite(series)
        before = np.concatenate([[0], np.cumsum(known)[:-1]]) + self.weight
        total = np.concatenate([[0.0], np.cumsum(np.where(known, series - usual, 0.0))[:-1]])
        with np.errstate(invalid="ignore", divide="ignore"):
            return usual + total / before, np.where(before > 0, self.sd * np.sqrt(1 + 1 / before), np.nan)

    def usual(self, turns: int) -> Series:
        """What the turns of any conversation are expected to be before it has begun."""
        return self.level + self.course[np.minimum(np.arange(turns), len(self.course) - 1)]

    def deviation(self, series: Series) -> Series:
        """Departure of each turn from what was expected of it, in sd; NaN at the first turn."""
        mean, sd = self.expected(series)
        return (series - mean) / sd


def learn(conversations: Sequence[Series | Ratios], anchored: bool = False) -> Ordinary:
    """The ordinary course, its spread and its band. LabError for too few conversations or no spread.

    `anchored`: what these conversations have in common is expected of a new one from its first turn on, as
    far as they agree in it. Right for ratios, which lean to no side on average under every scaffold; wrong for
    projections, which start wherever the scaffold puts them.
    """
    usable = [c for c in map(leaning, conversations) if np.isfinite(c).sum() > 1]
    if len(usable) < MIN_CONVERSATIONS:
        raise LabError(
            f"expected at least {MIN_CONVERSATIONS} ordinary conversations of two turns or more, got "
            f"{len(usable)}; what is unusual cannot be told without knowing what is usual"
        )
    table = np.full((len(usable), max(len(c) for c in usable)), np.nan)
    for row, series in zip(table, usable, strict=True):
        row[: len(series)] = series - series[np.isfinite(series)][0]
    # A turn that few conversations reach borrows from the turns before it.
    enough = np.isfinite(table).sum(axis=0) >= MIN_CONVERSATIONS // 2
    table = table[:, : int(np.flatnonzero(enough)[-1]) + 1]
    course = np.nanmean(table, axis=0)
    left = table - course
    left -= np.nanmean(left, axis=1, keepdims=True)
    freedom = np.isfinite(left).sum() - len(left) - len(course) + 1
    sd = float(np.sqrt(np.nansum(left**2) / max(1, freedom)))
    if not sd > 0:
        raise LabError("expected ordinary conversations that vary, got the same number at every turn")
    plain = Ordinary(course, sd, np.nan, len(usable), *(_level(usable, course, sd) if anchored else ()))
    deviations = np.concatenate([plain.deviation(c) for c in usable])
    return replace(plain, reach=float(np.nanquantile(np.abs(deviations), 0.95)))


def _level(conversations: Sequence[Series], course: Series, sd: float) -> tuple[float, float]:
    """The common level, and how many turns it counts for: sd² over the variance of conversations' levels."""
    means, noise = [], []
    for series in conversations:
        left = series - course[np.minimum(np.arange(len(series)), len(course) - 1)]
        means.append(np.nanmean(left))
        noise.append(sd**2 / np.isfinite(left).sum())
    between = float(np.var(means, ddof=1) - np.mean(noise))
    return float(np.mean(means)), sd**2 / between if between > 0 else np.inf


# ------------------------------------------------------------------ alarms


@dataclass(frozen=True)
class Course:
    """One conversation as the detector sees it, [turn]: deviation (sd), sums, and alarms.

    up and down are the cumulative sums for more and for less of the trait, in nats for ratios and in sd else; they
    start anew after an alarm. A turn without a value (NaN) leaves them as they were.
    """

    deviation: Series
    up: Series
    down: Series
    alarms: tuple[int, ...]

    @property
    def peak(self) -> float:
        """Largest sum of the conversation: how much it looks like drift."""
        return _peak(self.up, self.down)


def follow(series: Series | Ratios, ordinary: Ordinary, threshold: float = np.inf) -> Course:
    """Run the two-sided cumulative sum along a conversation."""
    return Course(ordinary.deviation(leaning(series)), *_sums(_steps(series, ordinary), threshold))


@dataclass(frozen=True)
class _Steps:
    """What a turn adds to the sums up and down, [turn], less and plus the `level` [turn] at which a sum began."""

    up: Series
    down: Series
    level: Series


def _steps(series: Series | Ratios, ordinary: Ordinary) -> _Steps:
    if series.ndim == 1:
        deviation = ordinary.deviation(series)
        return _Steps(deviation - SLACK, -deviation - SLACK, np.zeros(len(series)))
    usual = ordinary.usual(len(series))
    return _Steps(series[:, 0] - usual, series[:, 1] + usual, ordinary.expected(leaning(series))[0] - usual)


def _peak(up: Series, down: Series) -> float:
    return float(max(up.max(initial=0.0), down.max(initial=0.0)))


def _sums(steps: _Steps, threshold: float) -> tuple[Series, Series, tuple[int, ...]]:
    up, down = np.zeros(len(steps.up)), np.zeros(len(steps.up))
    alarms, high, low, above, below = [], 0.0, 0.0, 0.0, 0.0
    turns = zip(steps.up.tolist(), steps.down.tolist(), steps.level.tolist(), strict=True)
    for t, (rise, fall, level) in enumerate(turns):
        if isfinite(rise) and isfinite(level):
            above, below = level if high == 0 else above, level if low == 0 else below
            high, low = max(0.0, high + rise - above), max(0.0, low + fall + below)
        up[t], down[t] = high, low
        if max(high, low) > threshold:
            alarms.append(t)
            high = low = 0.0
    return up, down, tuple(alarms)


def false_alarms(conversations: Sequence[Series | Ratios], ordinary: Ordinary, threshold: float) -> float:
    """Alarms per 100 turns."""
    turns = sum(len(c) for c in conversations)
    return 100 * sum(len(follow(c, ordinary, threshold).alarms) for c in conversations) / turns


def set_threshold(
    conversations: Sequence[Series | Ratios], ordinary: Ordinary, promised: float = 1.0
) -> float:
    """Lowest threshold at which these ordinary conversations raise at most `promised` alarms per 100 turns.

    Give conversations that the ordinary course was not learned from: its own are nearer to it than new
    ones. Raises LabError for a promise outside (0, 100), and when there are too few turns to tell such a rate
    (100 / promised).
    """
    return joint_threshold([conversations], [ordinary], promised)


def check_promised(promised: float) -> None:
    """LabError for a rate of false alarms per 100 turns that nothing can keep (0) or anything does (100)."""
    if not 0 < promised < 100:
        raise LabError(
            f"expected false alarms above 0 and below 100 per 100 turns, got {promised:g}; 1 is the default"
        )


def joint_threshold(
    conversations: Sequence[Sequence[Series | Ratios]], ordinary: Sequence[Ordinary], promised: float = 1.0
) -> float:
    """One threshold for several series of the same conversations, [series][conversation] and [series].

    The lowest at which at most `promised` of 100 turns raise an alarm in any of the series: deviations are in
    each series' own sd and ratios in nats, so one threshold fits all. One turn more is counted, with an alarm: a
    threshold that lets k of n turns pass is exceeded by a new turn with chance (k + 1) / (n + 1), not k / n, if turns are
    exchangeable (Vovk, Gammerman & Shafer 2005, "Algorithmic Learning in a Random World", 2.2). LabError as
    for `set_threshold`.
    """
    check_promised(promised)
    turns = sum(len(c) for c in conversations[0])
    if turns * promised < 100:
        raise LabError(
            f"expected at least {100 / promised:.0f} ordinary turns to promise {promised:g} false alarms per "
            f"100 turns, got {turns}; add conversations or allow more false alarms"
        )
    pairs = zip(conversations, ordinary, strict=True)
    parts = [(k, _steps(c, o)) for some, o in pairs for k, c in enumerate(some)]
    low, high = 0.0, max(_peak(*_sums(steps, np.inf)[:2]) for _, steps in parts)
    for _ in range(40):
        middle = (low + high) / 2
        alarmed = {(k, t) for k, steps in parts for t in _sums(steps, middle)[2]}
        if 100 * (len(alarmed) + 1) > promised * (turns + 1):
            low = middle
        else:
            high = middle
    return high


def least_threshold(promised: float = 1.0, series: int = 1) -> float:
    """Threshold (nats) of the sums of `series` log-likelihood ratios that keeps the promise in however long a conversation.

    Over what the model itself would say, Page's sum of log-likelihood ratios passes h once in exp(h) turns at
    most (Lorden 1971, "Procedures for reacting to a change in distribution", theorem 2), whatever the ratios are of; each
    series has two sums. What ordinary conversations of a few turns show is lower: there the sums have no time to grow.
    """
    check_promised(promised)
    return float(np.log(200 * series / promised))


# ------------------------------------------------------------------ inside a turn


@dataclass(frozen=True)
class TokenBand:
    """One projection over the tokens of ordinary turns: mean, sd, and the ends of the middle 95 %; n tokens.

    It says what tokens look like and is no interval of a mean. NaN without tokens.
    """

    mean: float
    sd: float
    low: float
    high: float
    n: int


def token_band(replies: Sequence[Sequence[float]]) -> TokenBand:
    """The band of all tokens of these replies [reply][token]."""
    values = np.concatenate([np.zeros(0), *(np.asarray(r, np.float64) for r in replies)])
    if not len(values):
        return TokenBand(np.nan, np.nan, np.nan, np.nan, 0)
    low, high = np.quantile(values, [0.025, 0.975])
    return TokenBand(float(values.mean()), float(values.std()), float(low), float(high), len(values))


# ------------------------------------------------------------------ how good it is


@dataclass(frozen=True)
class Quality:
    """A detector on conversations that drift from a known turn on, and on ordinary ones.

    auroc: chance that a drifting conversation peaks above an ordinary one, with its 95 % bootstrap
    interval over conversations; found: share of drifting conversations with an alarm at or after the
    turn where drift begins; delay: median turns from there to it (NaN if none); early: share with an
    alarm before it; false_alarms per 100 ordinary turns, with the number that was promised.
    """

    auroc: float
    low: float
    high: float
    found: float
    delay: float
    early: float
    false_alarms: float
    promised: float
    drifting: int
    ordinary: int


def quality(
    drifting: Sequence[Series | Ratios], onsets: Sequence[int], plain: Sequence[Series | Ratios], ordinary: Ordinary,
    threshold: float, promised: float, rng: np.random.Generator, draws: int = 1000,
) -> Quality:  # fmt: skip
    """Score a detector on conversations that it was not set up with."""
    courses = [follow(c, ordinary, threshold) for c in drifting]
    peaks = np.array([follow(c, ordinary).peak for c in drifting])
    quiet = np.array([follow(c, ordinary).peak for c in plain])
    late = [[a for a in c.alarms if a >= t] for c, t in zip(courses, onsets, strict=True)]
    delays = [a[0] - t for a, t in zip(late, onsets, strict=True) if a]
    early = [any(a < t for a in c.alarms) for c, t in zip(courses, onsets, strict=True)]
    drawn = [
        auroc(
            peaks[rng.integers(len(peaks), size=len(peaks))], quiet[rng.integers(len(quiet), size=len(quiet))]
        )
        for _ in range(draws)
    ]
    low, high = interval(np.array(drawn), min(len(peaks), len(quiet)))
    return Quality(
        auroc(peaks, quiet), float(low), float(high), len(delays) / len(drifting),
        float(np.median(delays)) if delays else float("nan"), float(np.mean(early)),
        false_alarms(plain, ordinary, threshold), promised, len(drifting), len(plain),
    )  # fmt: skip


# ------------------------------------------------------------------ baselines


def words_of(text: str) -> list[str]:
    """Lower-case words."""
    return re.findall(r"[a-z']+", text.lower())


def word_list(positive: Sequence[str], negative: Sequence[str], size: int = 40) -> Mapping[str, float]:
    """The words that most part two sets of replies, with their weights: the plainest detector of a trait.

    Weights are log-odds ratios with an informative Dirichlet prior, over their standard deviation
    (Monroe, Colaresi & Quinn 2008, "Fightin' Words", eq. 22); `size` words of each pole are kept.
    """
    up, down = (Counter(w for t in texts for w in words_of(t)) for texts in (positive, negative))
    both = up + down
    total, prior = both.total(), {w: 10 * n / both.total() for w, n in both.items()}

    def odds(counts: Counter[str], word: str) -> float:
        inside = counts[word] + prior[word]
        return float(np.log(inside / (counts.total() + 10 - inside)))

    if not total:
        raise LabError("expected replies with words at both poles, got none")
    z = {
        w: (odds(up, w) - odds(down, w)) / np.sqrt(1 / (up[w] + prior[w]) + 1 / (down[w] + prior[w]))
        for w in both
    }
    order = sorted(z, key=lambda w: z[w])
    return {w: z[w] for w in dict.fromkeys([*order[:size], *order[-size:]])}


def word_score(text: str, weights: Mapping[str, float]) -> float:
    """Mean weight of a reply's words; NaN for an empty reply."""
    words = words_of(text)
    return float(np.mean([weights.get(w, 0.0) for w in words])) if words else float("nan")


def length(text: str) -> float:
    """Words of a reply."""
    return float(len(words_of(text)))
