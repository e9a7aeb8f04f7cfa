"""Where a scaffold puts a model on a trait, in the model's own unit, with uncertainty.

    L(s) = ( <h(s), v> − mean over neutral ) / ( (mean over positive − mean over negative) / 2 )

0 is the model's own neutral (no scaffold), 1 is half its own range from pole to pole; positive is more
of the trait. The unit is half the range between the poles, and not positive − neutral, because a model
may stand at a pole by nature: an assistant without a scaffold is the assistant, positive − neutral is
then about 0 and L has no bounded interval (shown in tests/test_landing.py).

All means are question-balanced: every value is first taken relative to the neutral reply to the same
question, averaged over questions within a paraphrase, then over paraphrases. Intervals resample
questions, jointly for scaffold, neutral and both poles and for both models. Paraphrases are fixed:
an interval speaks of these wordings on new questions, and how much wording matters is `noise_floor`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Shaped
from numpy import ndarray
from scipy import stats

from lab.records import Anchors, Interaction, LabError, Landing, NoiseFloor, Position, Split
from lab.stats import average, benjamini_hochberg, cluster_weights, d_prime, interval, sign_flip

ANCHORS = ("negative", "neutral", "positive")
Table = Float[ndarray, "paraphrase question *draw"]
Cells = Float[ndarray, "paraphrase question"]
Weights = Float[ndarray, "draw question"]
Draws = Float[ndarray, " draw"]


@dataclass(frozen=True)
class Projections:
    """Raw projections <h, v> of one model on one trait's direction, one row per reply.

    value [row] (NaN: the reply failed); condition [row] is "positive", "negative", "neutral" or a
    scaffold's name; paraphrase [row] is the index of the wording (for poles, of the prompt; 0 for
    neutral); question [row] is a label; several rows of one cell are seeds. null_value [row, draw]
    are projections on pole-swapped directions of the same norm (draw may be 0). Raises LabError
    for unequal lengths, a missing anchor, or the extract split, where the direction was made.
    """

    model: str
    trait: str
    position: Position
    layer: int
    split: Split
    value: Float[ndarray, " row"]
    condition: Shaped[ndarray, " row"]
    paraphrase: Shaped[ndarray, " row"]
    question: Shaped[ndarray, " row"]
    null_value: Float[ndarray, "row draw"] = field(repr=False)
    null_widening: float = 1.0
    """How much wider the null band is than its draws (`directions.null_widening`)."""

    def __post_init__(self) -> None:
        what = f"{self.model}, trait {self.trait}"
        columns = (self.value, self.condition, self.paraphrase, self.question, self.null_value)
        if len({len(column) for column in columns}) != 1:
            raise LabError(f"{what}: expected columns of one length, got {[len(c) for c in columns]}")
        absent = [name for name in ANCHORS if name not in self.condition]
        if absent:
            raise LabError(f"{what}: expected rows of {ANCHORS}, {absent} came without any; ask them too")
        if self.split == "extract":
            raise LabError(f"{what}: expected test (or select), got extract, which made the direction")

    @property
    def scaffolds(self) -> tuple[str, ...]:
        """Scaffold names in order of first appearance, anchors left out."""
        return tuple(str(c) for c in dict.fromkeys(self.condition.tolist()) if c not in ANCHORS)


@dataclass(frozen=True)
class _Relative:
    """Cell means minus the neutral of the same question: [paraphrase, question] per condition."""

    positive: Table
    negative: Table
    scaffolds: dict[str, Table]


def _cells(p: Projections, values: Float[ndarray, "row *draw"], condition: str) -> Table:
    """Mean of the known rows of each paraphrase × question cell, NaN for an empty one; both sorted."""
    rows = (p.condition == condition) & ~np.isnan(values).any(axis=tuple(range(1, values.ndim)))
    questions, paraphrases = np.unique(p.question), _paraphrases(p, condition)
    total = np.zeros((len(paraphrases), len(questions), *values.shape[1:]))
    count = np.zeros((len(paraphrases), len(questions), *[1] * (values.ndim - 1)))
    at = (np.searchsorted(paraphrases, p.paraphrase[rows]), np.searchsorted(questions, p.question[rows]))
    np.add.at(total, at, values[rows])
    np.add.at(count, at, 1.0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _paraphrases(p: Projections, condition: str) -> Shaped[ndarray, " paraphrase"]:
    return np.unique(p.paraphrase[p.condition == condition])


def _relative(p: Projections, values: Float[ndarray, "row *draw"]) -> _Relative:
    neutral = average(_cells(p, values, "neutral"), 0)
    scaffolds = {name: _cells(p, values, name) - neutral for name in p.scaffolds}
    positive, negative = (_cells(p, values, name) - neutral for name in ("positive", "negative"))
    return _Relative(positive, negative, scaffolds)


def _mean(table: Cells, weights: Weights) -> Draws:
    """Mean over paraphrases of the weighted mean over the questions that have a value, per draw."""
    known = (~np.isnan(table)).astype(np.float64)
    total, mass = weights @ np.nan_to_num(table).T, weights @ known.T
    return np.asarray(average(np.where(mass > 0, total / np.where(mass > 0, mass, 1.0), np.nan), 1))


def _unit(relative: _Relative, weights: Weights) -> Draws:
    return (_mean(relative.positive, weights) - _mean(relative.negative, weights)) / 2


def _questions(p: Projections) -> int:
    """Questions with a usable neutral reply: the clusters that carry an interval."""
    return len(np.unique(p.question[(p.condition == "neutral") & ~np.isnan(p.value)]))


def _once(p: Projections) -> Weights:
    """Every question once: the weights of a point estimate."""
    return np.ones((1, len(np.unique(p.question))))


def has_unit(p: Projections, level: float = 0.95) -> bool:
    """Whether this model's poles lie clearly apart on this direction; if not, every L is NaN.

    The t interval of positive − negative over questions must exclude 0 (at least 2 questions).
    This is what the expanded percentile bootstrap approximates for a mean, without its randomness,
    so that anchors, landings, interactions and noise floor always agree.
    """
    relative = _relative(p, p.value)
    gap = np.asarray(average(relative.positive, 0) - average(relative.negative, 0))
    gap = gap[~np.isnan(gap)]
    if len(gap) < 2:
        return False
    reach = stats.t.ppf((1 + level) / 2, len(gap) - 1) * gap.std(ddof=1) / np.sqrt(len(gap))
    return bool(abs(gap.mean()) > reach)


def anchors(p: Projections) -> Anchors:
    """The model's fixed points in raw projections; `unit` = (positive − negative) / 2 counts as 1.

    The poles are neutral plus their mean distance from neutral on the same questions. `unit` is
    given even where `has_unit` is False, so that the reason for a missing L can be seen.
    """
    once, relative = _once(p), _relative(p, p.value)
    neutral = float(average(np.asarray(average(_cells(p, p.value, "neutral"), 0)), 0))
    low, high = (float(_mean(t, once)[0]) for t in (relative.negative, relative.positive))
    return Anchors(
        p.model, p.trait, p.position, p.layer, neutral + low, neutral, neutral + high, (high - low) / 2
    )


# ------------------------------------------------------------------ landings


def landings(p: Projections, rng: np.random.Generator, draws: int = 1000) -> tuple[Landing, ...]:
    """Per scaffold one Landing over its paraphrases (paraphrase −1), then one per paraphrase.

    L, low, high in units of the model (module docstring). low/high: 95 % over questions, anchors
    included, these paraphrases fixed (`stats.interval`). null_low/null_high: 95 % band of L over
    pole-swapped directions, divided by the true unit. d_prime: scaffold rows against neutral rows,
    raw. n: usable replies under the scaffold. Without a unit (`has_unit`) L, interval and band are
    NaN; below 5 questions the interval is.
    """
    relative, null = _relative(p, p.value), _relative(p, p.null_value)
    weights = np.concatenate([_once(p), cluster_weights([np.unique(p.question)], draws, rng)])
    units = _unit(relative, weights) if has_unit(p) else np.full(len(weights), np.nan)
    found = []
    for name in p.scaffolds:
        table, null_table = relative.scaffolds[name], null.scaffolds[name]
        labels = _paraphrases(p, name)
        for index in (-1, *range(len(labels))):
            pick = slice(None) if index < 0 else slice(index, index + 1)
            label = -1 if index < 0 else int(labels[index])
            found.append(_landing(p, (name, label), table[pick], null_table[pick], weights, units))
    return tuple(found)


def _landing(
    p: Projections, key: tuple[str, int], table: Cells, null: Table, weights: Weights, units: Draws
) -> Landing:
    name, paraphrase = key
    values = _mean(table, weights) / units
    clusters = min(_questions(p), int((~np.isnan(table)).any(axis=0).sum()))
    low, high = interval(values[1:], clusters)
    band = np.asarray(average(np.asarray(average(null, 1)), 0)) / units[0]
    band = band[~np.isnan(band)]
    null_low, null_high = np.quantile(band, [0.025, 0.975]) if len(band) else (np.nan, np.nan)
    middle = band.mean() if len(band) else np.nan
    null_low, null_high = (middle + p.null_widening * (x - middle) for x in (null_low, null_high))
    rows = (p.condition == name) & ((p.paraphrase == paraphrase) | (paraphrase == -1))
    return Landing(
        model=p.model, scaffold=name, paraphrase=paraphrase, trait=p.trait, position=p.position,
        L=float(values[0]), low=float(low), high=float(high),
        null_low=float(null_low), null_high=float(null_high),
        d_prime=float(d_prime(p.value[rows], p.value[p.condition == "neutral"])),
        n=int((~np.isnan(p.value[rows])).sum()), split=p.split, layer=p.layer,
    )  # fmt: skip


def landing_cells(p: Projections) -> Float[ndarray, "scaffold paraphrase question"]:
    """L of single cells, scaffolds in the order of `Projections.scaffolds`, questions sorted.

    As many paraphrases as the scaffold with the fewest has. NaN: a failed reply, here or without a scaffold,
    or (all) a model without a unit.
    """
    relative = _relative(p, p.value)
    unit = _unit(relative, _once(p))[0] if has_unit(p) else np.nan
    tables = [relative.scaffolds[name] for name in p.scaffolds]
    fewest = min(len(t) for t in tables)
    return np.stack([t[:fewest] for t in tables]) / unit


# ------------------------------------------------------------------ two models, and one model's noise


def interactions(
    pa: Sequence[Projections], pb: Sequence[Projections], rng: np.random.Generator, draws: int = 1000
) -> tuple[Interaction, ...]:
    """D(s) = L_A(s) − L_B(s) for every trait (pa[i] with pb[i]) and scaffold; L(neutral) is 0 by unit.

    Positive: the scaffold moves A further towards the trait than B, each in its own unit. Cells that
    failed in either model are left out of both, so with failures D can differ a little from the
    difference of two Landings. low/high: 95 %, questions resampled jointly for both models, these
    paraphrases fixed. p: two-sided sign-flip over per-question jackknife pseudo-values of D, which
    carry the units' noise; q: Benjamini–Hochberg over all returned. n: questions. NaN where either
    model has no unit, or (interval, p, q) below 5 questions. Raises LabError when the two sides do
    not hold the same traits, positions, split, questions, scaffolds and paraphrases.
    """
    if len(pa) != len(pb):
        raise LabError(f"expected as many traits for A as for B, got {len(pa)} and {len(pb)}")
    found = [cell for a, b in zip(pa, pb, strict=True) for cell in _pair(a, b, rng, draws)]
    q = benjamini_hochberg(np.array([cell.p for cell in found], dtype=np.float64))
    return tuple(Interaction(**{**vars(cell), "q": float(x)}) for cell, x in zip(found, q, strict=True))


def _pair(a: Projections, b: Projections, rng: np.random.Generator, draws: int) -> list[Interaction]:
    _check_pair(a, b)
    ra, rb = _relative(a, a.value), _relative(b, b.value)
    count = len(np.unique(a.question))
    # First the point, then one question left out at a time (jackknife), then the bootstrap.
    leave_out = np.ones((count, count)) - np.eye(count)
    weights = np.concatenate([_once(a), leave_out, cluster_weights([np.arange(count)], draws, rng)])
    usable = has_unit(a) and has_unit(b)
    ua, ub = (_unit(r, weights) if usable else np.full(len(weights), np.nan) for r in (ra, rb))
    found = []
    for name in a.scaffolds:
        ta, tb = ra.scaffolds[name], rb.scaffolds[name]
        hole = np.isnan(ta) | np.isnan(tb)
        d = _mean(np.where(hole, np.nan, ta), weights) / ua - _mean(np.where(hole, np.nan, tb), weights) / ub
        carried = (~hole).any(axis=0)
        n = int(carried.sum())
        pseudo = np.where(carried, n * d[0] - (n - 1) * d[1 : count + 1], np.nan)
        low, high = interval(d[count + 1 :], n)
        p = sign_flip(pseudo, rng)
        where = (name, a.trait, a.position)
        found.append(Interaction(*where, float(d[0]), float(low), float(high), p, float("nan"), n))
    return found


def _check_pair(a: Projections, b: Projections) -> None:
    def design(p: Projections) -> dict[str, object]:
        wording = {name: _paraphrases(p, name).tolist() for name in p.scaffolds}
        return {
            "trait": p.trait,
            "position": p.position,
            "split": p.split,
            "questions": np.unique(p.question).tolist(),
            "scaffolds and paraphrases": wording,
        }

    for what, (x, y) in {k: (v, design(b)[k]) for k, v in design(a).items()}.items():
        if x != y:
            raise LabError(
                f"expected the same {what} in {a.model} and {b.model}, got {x} and {y}; run both models "
                "on one design (a reply that failed stays as a NaN row)"
            )


def noise_floor(p: Projections) -> NoiseFloor:
    """How far L moves inside one model when only the wording changes.

    paraphrase_sd: sd of a paraphrase's L (mean over questions, its sampling noise included) around
    its scaffold's mean, pooled over scaffolds on sum(paraphrases − 1) degrees of freedom.
    difference_95 = t(.975, df) · sqrt(2) · sd: |difference| of two further paraphrases of a scaffold
    stays below it in 95 % of pairs (1.96 in place of t promises too little; measured in
    tests/test_landing.py). n: paraphrases used. NaN without a unit or without a second paraphrase.
    """
    relative, once = _relative(p, p.value), _once(p)
    unit = _unit(relative, once)[0] if has_unit(p) else np.nan
    squares, freedom, n = 0.0, 0, 0
    for table in relative.scaffolds.values():
        L = np.array([_mean(row[None], once)[0] for row in table]) / unit
        L = L[~np.isnan(L)]
        n += len(L)
        if len(L) > 1:
            squares += float(((L - L.mean()) ** 2).sum())
            freedom += len(L) - 1
    sd = float(np.sqrt(squares / freedom)) if freedom else float("nan")
    limit = float(stats.t.ppf(0.975, freedom) * np.sqrt(2) * sd) if freedom else float("nan")
    return NoiseFloor(p.model, p.trait, p.position, sd, limit, n)
