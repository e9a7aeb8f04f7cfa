"""From observations to effects to verdicts: pure, one rule for all claims.

An effect is held against a bar, the size that would matter, set before the run. The 95 % interval beyond the bar on
the claim's side: supported. The whole interval on the other side: refuted. Else: cannot tell. Where an effect has
a null of its own, "supported" also needs p < .05. So an effect that truly lies at the bar is called supported in
2.5 % of runs, and one beyond it on the wrong side in fewer.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isnan

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.errors import LabError
from lab.records.claims import Effect, Observation, Side, Verdict
from lab.stats import MIN_CLUSTERS, binomial_interval, cluster_weights, interval, sign_flip

DRAWS = 4000
"""Bootstrap draws."""
ALPHA = 0.05
Combine = Callable[[Sequence[Verdict]], Verdict]


# ------------------------------------------------------------------ verdicts


def verdict(low: float, high: float, side: Side, bar: float, p: float = float("nan")) -> Verdict:
    """What an interval says of an effect that should lie on `side` of `bar`; p: of its own null, NaN for none."""
    if isnan(low) or isnan(high):
        return "cannot tell"
    beyond, short = (low > bar, high < bar) if side == "above" else (high < bar, low > bar)
    if beyond:
        return "supported" if isnan(p) or p < ALPHA else "cannot tell"
    return "refuted" if short else "cannot tell"


def all_of(verdicts: Sequence[Verdict]) -> Verdict:
    """A claim that needs every effect: one refuted refutes it."""
    if not verdicts:
        return "cannot tell"
    if "refuted" in verdicts:
        return "refuted"
    return "supported" if set(verdicts) == {"supported"} else "cannot tell"


def any_of(verdicts: Sequence[Verdict]) -> Verdict:
    """A claim for which one effect is enough: only all refuted refute it. Use with corrected intervals."""
    if not verdicts:
        return "cannot tell"
    if "supported" in verdicts:
        return "supported"
    return "refuted" if set(verdicts) == {"refuted"} else "cannot tell"


def conclude(effects: Sequence[Effect], combine: Combine = all_of) -> tuple[Verdict, str]:
    """The claim's verdict over the effects that decide, and over which models it speaks."""
    deciding = [e for e in effects if e.decides]
    over = dict.fromkeys(e.models for e in deciding)
    return combine([e.verdict for e in deciding]), ", ".join(over)


# ------------------------------------------------------------------ choosing observations


def of(
    rows: Sequence[Observation],
    *,
    models: str | None = None,
    series: str | None = None,
    x: float | None = None,
) -> tuple[Observation, ...]:
    """The observations of some models, series and place."""
    return tuple(
        r
        for r in rows
        if (models is None or r.models == models)
        and (series is None or r.series == series)
        and (x is None or r.x == x)
    )


def names(rows: Sequence[Observation], field: str) -> tuple[str, ...]:
    """The different values of `models`, `series` or `cluster`, in order of appearance."""
    return tuple(dict.fromkeys(getattr(r, field) for r in rows))


def by_cluster(rows: Sequence[Observation]) -> dict[str, float]:
    """Mean value per cluster; what failed (NaN) is left out, a cluster that only failed is NaN."""
    found: dict[str, list[float]] = {}
    for r in rows:
        found.setdefault(r.cluster, []).append(r.value)
    return {c: float(np.nanmean(v)) if not np.isnan(v).all() else float("nan") for c, v in found.items()}


# ------------------------------------------------------------------ effects


@dataclass(frozen=True)
class Frame:
    """What an effect is of, and what it is held against: the fields of `Effect` that are known before the run."""

    models: str
    what: str
    unit: str
    side: Side
    bar: float
    null: str
    """In words, with its value where there is one."""
    cluster: str = "questions"
    p: float = float("nan")
    split: str = "test"
    decides: bool = True


def effect(value: float, low: float, high: float, n: int, frame: Frame, why: str = "") -> Effect:
    """An effect with the verdict that its interval gives it."""
    reason = why or ("" if not isnan(low) else f"{n} {frame.cluster}: an interval needs {MIN_CLUSTERS}")
    said = verdict(low, high, frame.side, frame.bar, frame.p)
    return Effect(
        frame.models, frame.what, float(value), float(low), float(high), frame.unit, frame.side, frame.bar, frame.null,
        float(frame.p), n, frame.cluster, frame.split, frame.decides, said, reason,
    )  # fmt: skip


def abstain(why: str, frame: Frame) -> Effect:
    """An effect that could not be measured."""
    nan = float("nan")
    return effect(nan, nan, nan, 0, frame, why)


def mean_over(rows: Sequence[Observation], rng: np.random.Generator, frame: Frame) -> Effect:
    """The mean over clusters, with a cluster-bootstrap interval."""
    return statistic([rows], lambda columns: columns[0], rng, frame)


def difference(
    more: Sequence[Observation], less: Sequence[Observation], rng: np.random.Generator, frame: Frame
) -> Effect:
    """Mean of `more` − mean of `less` over the clusters they share, resampled together."""
    return statistic([more, less], lambda columns: columns[0] - columns[1], rng, frame)


def ratio(
    over: Sequence[Observation], under: Sequence[Observation], rng: np.random.Generator, frame: Frame
) -> Effect:
    """Mean of `over` / mean of `under` over the clusters they share, resampled together."""
    return statistic([over, under], lambda columns: columns[0] / columns[1], rng, frame)


def statistic(
    columns: Sequence[Sequence[Observation]],
    of_means: Callable[[Float[ndarray, "column draw"]], Float[ndarray, " draw"]],
    rng: np.random.Generator,
    frame: Frame,
) -> Effect:
    """Any function of the columns' means over the clusters that all of them have, with a bootstrap interval.

    Where all outcomes (0 or 1) agree, resampling knows no doubt: then the interval reaches as far as the exact
    binomial limit of n hits in n (Clopper & Pearson 1934) does from 1.
    """
    tables = [by_cluster(c) for c in columns]
    shared = [c for c in tables[0] if all(c in t and not isnan(t[c]) for t in tables)]
    if len(shared) < 2:
        return abstain(f"{len(shared)} {frame.cluster} have a value; an interval needs {MIN_CLUSTERS}", frame)
    values = np.array([[t[c] for c in shared] for t in tables])
    weights = cluster_weights([np.arange(len(shared))], DRAWS, rng)
    weights = np.concatenate([np.ones((1, len(shared))), weights])
    means = values @ weights.T / weights.sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        draws = of_means(means)
    low, high = (float(v) for v in interval(draws[1:], len(shared)))
    if low == high and np.isin(values, (0.0, 1.0)).all():
        reach = 1 - binomial_interval(len(shared), len(shared))[0]
        low, high = max(low - reach, -1.0), min(high + reach, 1.0)
    return effect(float(draws[0]), low, high, len(shared), frame)


def against_zero(rows: Sequence[Observation], rng: np.random.Generator) -> float:
    """Two-sided sign-flip p that the mean over clusters is 0; NaN below five clusters."""
    return sign_flip(np.array(list(by_cluster(rows).values())), rng)


def reported(row: Observation, frame: Frame) -> Effect:
    """An observation that brings its own interval and test, as an effect; its null goes into the frame's words."""
    null = frame.null if isnan(row.null) else f"{frame.null}, 95 %: {row.null:.2f}"
    p = frame.p if isnan(row.p) else row.p
    return effect(row.value, row.low, row.high, row.n, replace(frame, null=null, p=p), row.note)


def only(rows: Sequence[Observation], what: str) -> Observation:
    """The one observation of its kind. LabError when there is none or more."""
    if len(rows) != 1:
        raise LabError(f"expected one observation of {what}, got {len(rows)}; run the claim again")
    return rows[0]
