"""How often a measure calls two unrelated models alike, as `lab calibrate` reports it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rate:
    """The false-alarm rate of one measure on simulated null worlds.

    rate: share of worlds with p at or below .05; low, high: its 95 % interval (Clopper & Pearson 1934); runs:
    worlds that gave a p, NaN p being unknown and not a finding. at_most: whether ties or a larger of two p make
    the promise "at most 5 %" instead of 5 %. mean: the measure's value over the worlds; chance: the mean of its own
    null over the worlds, NaN where the lab does not keep it. draws: relabelings behind each p. wrong: a
    mistake that is shown for comparison and reported nowhere else. why: what is to know about the row.
    q: of "at most 5 %", one-sided exact binomial test, Benjamini–Hochberg over the rows. verdict: "holds" where
    the interval reaches down to .05; else "too many" where q is at most .05, or "unclear", since of right measures 1
    in 40 lies there by luck; "cannot tell" without a world.
    """

    measure: str
    rate: float
    low: float
    high: float
    runs: int
    verdict: str
    at_most: bool
    mean: float
    chance: float
    draws: int
    wrong: bool
    why: str
    q: float
