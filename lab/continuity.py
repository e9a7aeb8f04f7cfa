"""The continuity battery, pure: what a reply is worth on an item, and scores over items.

    outcome(item, seen, score) -> Verdict                 1, 0 or NaN, with the reason
    tone_match(stated, judged) -> float                   how near the judged traits are to the stated ones
    family_scores(outcomes, rng) -> FamilyScore rows      per condition and family
    changes(outcomes, pairs, rng) -> FamilyChange rows    the same items under two conditions
    tone_tells(outcomes, rng) -> ToneTells rows           does tone predict passing?

Items are the unit of n; intervals resample characters, of which an item of Hearth has its own. NaN is unknown.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.records.continuity import (
    EVERY,
    FAMILIES,
    Check,
    ContinuityItem,
    FamilyChange,
    FamilyScore,
    Outcome,
    ToneTells,
)
from lab.stats import (
    MIN_CLUSTERS,
    average,
    benjamini_hochberg,
    binomial_interval,
    cluster_weights,
    interval,
    sign_flip,
)

Derives = Callable[[str, str, Mapping[str, str]], bool]
"""Whether a sentence of the reply (first) comes from the slot (second) with these variables (third)."""
PASS = 50.0
"""The rubric judge's score, 0 to 100, from which a reply has passed."""
DRAWS = 2000
BY_TONE = ("archive_not_identity", "agency_left")
"""Families of which items pass by judged traits: tone can not come apart from them."""
UNKNOWN = float("nan")


@dataclass(frozen=True)
class Seen:
    """A reply and what can be read in it: the grammar's derivations (None outside Hearth) and judged traits."""

    text: str
    derives: Derives | None = None
    traits: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """1, 0 or NaN; what failed, or why it is unknown."""

    passed: float
    reason: str = ""


# ------------------------------------------------------------------ one reply


def says(text: str, phrase: str) -> bool:
    """Whether the phrase is in the text as whole words, without regard to case or to how it is spaced."""
    words = r"\s+".join(re.escape(w) for w in phrase.split())
    return re.search(rf"(?<!\w){words}(?!\w)", text.replace("’", "'"), re.IGNORECASE) is not None


def tone_match(stated: Mapping[str, float], judged: Mapping[str, float]) -> float:
    """Regression of judged on stated traits through the origin, over the traits that are stated and could be judged.

    1: as stated, 0: as if nothing had been stated, negative: the opposite. A judge that reads one short reply
    leans to its prior, so that even a perfect reply stays below 1. NaN where no stated trait was judged.
    """
    pairs = [(s, judged[t]) for t, s in stated.items() if s and not isnan(judged.get(t, UNKNOWN))]
    if not pairs:
        return UNKNOWN
    s, x = np.array(pairs, dtype=np.float64).T
    return float(s @ x / (s @ s))


def outcome(
    item: ContinuityItem,
    seen: Seen,
    stated: Mapping[str, float],
    score: float = UNKNOWN,
    why: str = "",
) -> Verdict:
    """What one reply is worth: every check must hold, and the rubric's judge must give PASS or more.

    stated: the traits that the scaffold gave, by trait; score: the judge's, NaN with the reason in `why` where it has
    none. An empty reply is unknown. An item with a rubric is unknown without a score even if a check fails: else
    only failures would be known. Raises ValueError for an item with neither checks nor rubric.
    """
    if not item.checks and not item.rubric:
        raise ValueError(f"{item.id}: an item without checks and rubric has no outcome")
    if not seen.text.strip():
        return Verdict(UNKNOWN, "empty reply")
    if item.rubric and isnan(score):
        return Verdict(UNKNOWN, why or "its rubric needs a judge")
    verdicts = [_check(check, seen, stated) for check in item.checks]
    if item.rubric:
        verdicts.append(Verdict(float(score >= PASS), f"the judge gives {score:.0f} of 100"))
    failed = next((v for v in verdicts if v.passed == 0), None)
    unknown = next((v for v in verdicts if isnan(v.passed)), None)
    return failed or unknown or Verdict(1.0)


def _check(check: Check, seen: Seen, stated: Mapping[str, float]) -> Verdict:
    if check.kind in ("says", "avoids"):
        found = [w for w in check.words if says(seen.text, w)]
        if check.kind == "says":
            return Verdict(float(bool(found)), f"does not say {' or '.join(check.words)}")
        return Verdict(float(not found), f"says {', '.join(found)}")
    if check.kind in ("derives", "underives"):
        if seen.derives is None:
            return Verdict(UNKNOWN, "its grammar is Hearth's, which this reply is not read in")
        found = [slot for slot in check.words if seen.derives(seen.text, slot, check.filling)]
        if check.kind == "derives":
            return Verdict(float(bool(found)), f"no sentence of {' or '.join(check.words)}")
        return Verdict(float(not found), f"a sentence of {', '.join(found)}")
    if check.kind == "voice":
        tone = tone_match(stated, seen.traits)
        return (
            Verdict(UNKNOWN, "no trait could be judged") if isnan(tone) else _side(tone, "the stated voice")
        )
    return _leans(check, seen)


def _side(value: float, what: str) -> Verdict:
    return Verdict(float(value > 0), f"judged {value:+.2f} towards {what}")


def _leans(check: Check, seen: Seen) -> Verdict:
    verdicts = []
    for word in check.words:
        trait, sign = word.split()
        value = seen.traits.get(trait, UNKNOWN)
        if isnan(value):
            return Verdict(UNKNOWN, f"{trait} could not be judged")
        verdicts.append(_side(value if sign == "+" else -value, word))
    return next((v for v in verdicts if v.passed == 0), verdicts[0])


# ------------------------------------------------------------------ scores

Column = Float[ndarray, " item"]


def family_scores(
    outcomes: Sequence[Outcome], rng: np.random.Generator, draws: int = DRAWS
) -> tuple[FamilyScore, ...]:
    """Per model, condition and family, then over all items, in the order in which they first appear."""
    return tuple(
        _score(rows, family, rng, draws)
        for _, part in _by_condition(outcomes)
        for family, rows in _by_family(part)
    )


def _by_condition(outcomes: Sequence[Outcome]) -> list[tuple[tuple[str, str], list[Outcome]]]:
    keys = dict.fromkeys((o.model, o.condition) for o in outcomes)
    return [(k, [o for o in outcomes if (o.model, o.condition) == k]) for k in keys]


def _by_family(outcomes: Sequence[Outcome]) -> list[tuple[str, list[Outcome]]]:
    found = {o.family for o in outcomes}
    parts: list[tuple[str, list[Outcome]]] = [
        (f, [o for o in outcomes if o.family == f]) for f in FAMILIES if f in found
    ]
    return [*parts, (EVERY, list(outcomes))]


def _score(
    rows: Sequence[Outcome], family: str, rng: np.random.Generator, draws: int, least: float = 0.0
) -> FamilyScore:
    """`least`: the smallest value that `passed` can take, -1 for changes."""
    passed, tone = (np.array([getattr(o, name) for o in rows]) for name in ("passed", "tone"))
    weights = _weights(rows, rng, draws)
    share, low, high, n = _settled(*_mean(passed, weights, rows), passed, rows, least)
    match, tone_low, tone_high, tone_n = _mean(tone, weights, rows)
    first = rows[0]
    chance = float(average(np.array([o.chance for o in rows]), 0))
    ceiling = float(average(np.array([o.ceiling for o in rows]), 0))
    return FamilyScore(
        first.model, first.condition, family, share, low, high, n, len(rows) - n, chance, ceiling, match, tone_low,
        tone_high, tone_n,
    )  # fmt: skip


def _weights(rows: Sequence[Outcome], rng: np.random.Generator, draws: int) -> Float[ndarray, "draw item"]:
    return cluster_weights([np.array([o.who for o in rows])], draws, rng)


def _mean(
    values: Column, weights: Float[ndarray, "draw item"], rows: Sequence[Outcome]
) -> tuple[float, float, float, int]:
    """Mean of what is known, its 95 % cluster-bootstrap limits (NaN for too few characters), and how many it is of."""
    known = ~np.isnan(values)
    n = int(known.sum())
    if not n:
        return UNKNOWN, UNKNOWN, UNKNOWN, 0
    clusters = len({o.who for o, k in zip(rows, known, strict=True) if k})
    drawn = weights[:, known]
    total = drawn.sum(axis=1)
    means = np.where(total > 0, drawn @ values[known] / np.maximum(total, 1), np.nan)
    low, high = interval(means, clusters)
    return float(values[known].mean()), float(low), float(high), n


def _settled(
    share: float, low: float, high: float, n: int, values: Column, rows: Sequence[Outcome], least: float
) -> tuple[float, float, float, int]:
    """Limits where all items came out alike, which leaves a bootstrap nothing to draw: from the exact binomial limit
    of "no character of so many is otherwise" (Clopper & Pearson), those that are otherwise at the far end."""
    known = values[~np.isnan(values)]
    clusters = len({o.who for o, v in zip(rows, values, strict=True) if not isnan(v)})
    if clusters < MIN_CLUSTERS or np.ptp(known) > 0:
        return share, low, high, n
    margin = binomial_interval(0, clusters)[1]
    return share, share - margin * (share - least), share + margin * (1 - share), n


# ------------------------------------------------------------------ two conditions


def changes(
    outcomes: Sequence[Outcome],
    pairs: Sequence[tuple[str, str]],
    rng: np.random.Generator,
    draws: int = DRAWS,
) -> tuple[FamilyChange, ...]:
    """For each (condition, against) what the first changes against the second, per family and over all items.

    Items without an outcome under both are left out of the mean. Raises ValueError for a condition nobody answered.
    """
    known = {o.condition for o in outcomes}
    found: list[FamilyChange] = []
    for condition, against in pairs:
        if missing := {condition, against} - known:
            raise ValueError(f"expected outcomes under {condition} and {against}, got none of {missing}")
        for model in dict.fromkeys(o.model for o in outcomes):
            one, two = (
                {o.item: o for o in outcomes if o.model == model and o.condition == c}
                for c in (condition, against)
            )
            moved = [
                replace(o, passed=o.passed - two[k].passed, tone=o.tone - two[k].tone)
                for k, o in one.items()
                if k in two
            ]
            rows = [_change(part, against, f, rng, draws) for f, part in _by_family(moved)]
            q = benjamini_hochberg(np.array([r.p for r in rows[:-1]]))
            found += [replace(r, q=float(x)) for r, x in zip(rows, [*q, np.nan], strict=True)]
    return tuple(found)


def _change(
    rows: Sequence[Outcome], against: str, family: str, rng: np.random.Generator, draws: int
) -> FamilyChange:
    moved = _score(rows, family, rng, draws, least=-1.0)
    by_who: dict[str, list[float]] = {}
    for o in rows:
        if not isnan(o.passed):
            by_who.setdefault(o.who, []).append(o.passed)
    means = np.array([np.mean(v) for v in by_who.values()], dtype=np.float64)
    p = sign_flip(means, rng) if len(means) else UNKNOWN
    return FamilyChange(
        moved.model, moved.condition, against, family, moved.passed, moved.low, moved.high, p, UNKNOWN, moved.n,
        len(means), moved.tone, moved.tone_low, moved.tone_high, moved.tone_n,
    )  # fmt: skip


# ------------------------------------------------------------------ warm and true


def tone_tells(
    outcomes: Sequence[Outcome], rng: np.random.Generator, draws: int = DRAWS
) -> tuple[ToneTells, ...]:
    """Per model and condition: does a reply with the better tone pass sooner than another of its family?"""
    found = []
    for (model, condition), part in _by_condition(outcomes):
        rows = [o for o in part if o.family not in BY_TONE and not isnan(o.passed) and not isnan(o.tone)]
        found.append(ToneTells(model, condition, *_tells(rows, rng, draws), len(rows)))
    return tuple(found)


def _tells(rows: Sequence[Outcome], rng: np.random.Generator, draws: int) -> tuple[float, float, float, int]:
    """AUROC over pairs inside families, its limits, and the number of pairs; NaN without a pair."""
    if not rows:
        return UNKNOWN, UNKNOWN, UNKNOWN, 0
    weights = np.vstack([np.ones(len(rows)), _weights(rows, rng, draws)])
    wins, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    for family in {o.family for o in rows}:
        up = [i for i, o in enumerate(rows) if o.family == family and o.passed == 1]
        down = [i for i, o in enumerate(rows) if o.family == family and o.passed == 0]
        gap = np.array([[rows[i].tone - rows[j].tone for j in down] for i in up]).reshape(len(up), len(down))
        better = (gap > 0) + 0.5 * (gap == 0)
        wins += np.einsum("di,ij,dj->d", weights[:, up], better, weights[:, down])
        pairs += weights[:, up].sum(axis=1) * weights[:, down].sum(axis=1)
    if not pairs[0]:
        return UNKNOWN, UNKNOWN, UNKNOWN, 0
    share = np.where(pairs > 0, wins / np.maximum(pairs, 1), np.nan)
    low, high = interval(share[1:], len({o.who for o in rows}))
    return float(share[0]), float(low), float(high), int(pairs[0])
