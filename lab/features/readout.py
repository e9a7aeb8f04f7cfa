"""What a scaffold switches on: features of its replies against the model's own neutral, alone and beside another model.

Activations of different features, and of different dictionaries, have different scales. An effect is therefore a change
in units of the feature's own mean activation where it is on: about the change of the share of tokens that have it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from lab.features.contrast import ByFeature, Coded, Paired, by_question, paired
from lab.records.feature_cards import FeatureTwin
from lab.stats import benjamini_hochberg

ALPHA = 0.05
Matching = tuple[Mapping[int, int], Mapping[int, int]]
"""Features of one dictionary to those of another, and back."""


@dataclass(frozen=True)
class Switched:
    """One model under one scaffold. found: scaffolded against neutral; unit [feature]: mean activation where it is
    on, NaN for a feature that never is."""

    found: Paired
    unit: ByFeature

    @property
    def effect(self) -> ByFeature:
        """The difference in `unit`."""
        return self.found.difference / self.unit

    @property
    def limits(self) -> tuple[ByFeature, ByFeature]:
        """Of the effect."""
        return self.found.low / self.unit, self.found.high / self.unit

    @property
    def sign(self) -> Int[ndarray, " feature"]:
        """1 switched on, -1 switched off, 0 neither or not known (q < .05)."""
        return np.where(self.found.q < ALPHA, np.sign(self.found.difference), 0).astype(np.int64)


def switched(
    scaffolded: Coded, neutral: Coded, questions: tuple[ndarray, ndarray], asked: Sequence[str],
    rng: np.random.Generator, draws: int = 1000,
) -> Switched:  # fmt: skip
    """Compare replies under a scaffold with those without on the same questions.

    questions: of the replies of either condition. LabError as `paired`.
    """
    one, other = (
        by_question(coded.mean, which, asked)
        for coded, which in zip((scaffolded, neutral), questions, strict=True)
    )
    return Switched(paired(one, other, rng, draws), typical(scaffolded, neutral))


def typical(*conditions: Coded) -> ByFeature:
    """Mean activation of every feature over the tokens at which it is on, replies weighing alike; NaN if none is."""
    total = sum(np.nansum(c.mean, axis=0) for c in conditions)
    on = np.asarray(sum(np.nansum(c.on, axis=0) for c in conditions))
    return np.where(on > 0, total / np.where(on > 0, on, 1.0), np.nan)


# ------------------------------------------------------------------ beside another model


def matching_of(twins: Sequence[FeatureTwin], one: str, other: str, alpha: float = ALPHA) -> Matching:
    """Pairs of features that fire on the same words for more than chance (q < alpha), both ways round.

    twins: of a run of `lab sae features` over the dictionaries `one` and `other`.
    """

    def way(here: str, there: str) -> dict[int, int]:
        return {
            t.feature: t.twin
            for t in twins
            if (t.relation, t.sae, t.other) == ("model", here, there) and t.twin >= 0 and t.q < alpha
        }

    return way(one, other), way(other, one)


def places(here: Switched, there: Switched, match: Mapping[int, int]) -> list[str]:
    """Of every feature: what its match in the other model does under the same scaffold.

    match: feature here to feature there. "" for one that is not switched; "no counterpart"; "common" and "opposite" where
    both are switched; "only here" where the match's effect lies, with its whole interval, within half of this one's: that
    its change is not significant would not show that there is none; else "cannot tell".
    """
    signs, others = here.sign, there.sign
    effect, (low, high) = here.effect, there.limits
    found = []
    for i, sign in enumerate(signs):
        j = match.get(i, -1)
        if sign == 0:
            found.append("")
        elif j < 0:
            found.append("no counterpart")
        elif others[j]:
            found.append("common" if others[j] == sign else "opposite")
        else:
            within = max(-low[j], high[j]) < abs(effect[i]) / 2
            found.append("only here" if within else "cannot tell")
    return found


# ------------------------------------------------------------------ segment by segment


@dataclass(frozen=True)
class Falls:
    """What is lost without each segment, [segment, feature] of the `features` that were looked at, in their units.

    p: sign flip; q: over all segments and features. n [segment]: questions.
    """

    features: Int[ndarray, " feature"]
    fall: Float[ndarray, "segment feature"]
    low: Float[ndarray, "segment feature"]
    high: Float[ndarray, "segment feature"]
    p: Float[ndarray, "segment feature"]
    q: Float[ndarray, "segment feature"]
    n: tuple[int, ...]


def falls(
    whole: Float[ndarray, "question feature"], without: Sequence[Float[ndarray, "question feature"]], on: Switched,
    rng: np.random.Generator, draws: int = 1000,
) -> Falls:  # fmt: skip
    """How far every feature that the scaffold switches on falls when a segment is left out.

    whole, without: mean activations by question, all features, under the scaffold and without one segment each.
    """
    features = np.flatnonzero(on.sign > 0)
    found = [paired(whole[:, features], w[:, features], rng, draws) for w in without]
    unit = on.unit[features]
    p = np.array([f.p for f in found]).reshape(len(found), len(features))
    fall, low, high = (
        np.array([getattr(f, name) / unit for f in found]).reshape(p.shape)
        for name in ("difference", "low", "high")
    )
    q = benjamini_hochberg(p.ravel()).reshape(p.shape)
    return Falls(features, fall, low, high, p, q, tuple(f.n for f in found))
