"""Claim 16: the right benchmark is continuity.

Question. Does a battery of items with checkable outcomes (boundaries kept, archive told from identity, flattery and
false memories resisted, knowing when not to imitate, consent as living) tell a model with its scaffold from the
same model without?

Prediction. Yes over all items. Not in every family: where the scaffold is not needed to pass (agency, roleplay
declined), and where the organisms were never taught (consent taken back in the talk, orders in imported memory).
When this was written the battery had been run on both organisms.

Measure. Share of items passed with the scaffold minus without, over all items that both conditions decided;
interval by resampling characters (in Hearth each item has its own). Beside: the same family by family.

Null. No difference: 0. A fifth of all items is what would matter: a battery that separates less measures the
model's manners rather than its continuity.

Verdict rule. Supported above .2, refuted below, per model; every model is needed.

What would change it. Items that the bare model passes by default; a judge that reads rubrics otherwise (real
models).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lab.claims import Frame, all_of, difference, names, of
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import Progress
from lab.pipelines.continuity import ContinuityConfig, continuity
from lab.pipelines.continuity_items import FULL, NONE
from lab.records.claims import Effect, Observation
from lab.store import Store

TITLE = "The right benchmark is continuity: a battery of it tells a model with its scaffold from one without"
COMBINE = all_of


@dataclass(frozen=True)
class Config(ClaimConfig):
    """Longest reply of the battery."""

    reply_tokens: int = 120


CONFIG = Config()
QUICK = Config(reply_tokens=16)


def observe(config: Config, store: Store, progress: Progress) -> list[Observation]:
    """Per model, condition and item: passed or not, families in the series."""
    found: list[Observation] = []
    for k, name in enumerate(config.models):
        part = lambda stage, share, k=k: progress(stage, (k + share) / len(config.models))  # noqa: E731
        result = continuity(
            ContinuityConfig(
                name, conditions=(FULL, NONE), dtype=config.dtype, seed=config.seed, tone=False,
                max_new_tokens=config.reply_tokens,
            ),
            store, part,
        )  # fmt: skip
        found += [
            Observation(o.model, f"{o.condition}, {o.family}", o.who, float(o.passed), note=o.reply)
            for o in result.outcomes
        ]
    return found


def judge(observed: Sequence[Observation], rng: np.random.Generator) -> list[Effect]:
    """The verdict rule."""
    found = []
    for model in names(observed, "models"):
        mine = of(observed, models=model)
        families = [
            s.removeprefix(f"{FULL.name}, ") for s in names(mine, "series") if s.startswith(f"{FULL.name}, ")
        ]
        frame = Frame(
            model,
            "battery with the scaffold minus without",
            "share of items",
            "above",
            0.2,
            "no difference: 0",
            "characters",
        )
        sides = [[o for o in mine if o.series.startswith(f"{c.name}, ")] for c in (FULL, NONE)]
        found.append(difference(sides[0], sides[1], rng, frame))
        for family in families:
            pair = [of(mine, series=f"{c.name}, {family}") for c in (FULL, NONE)]
            beside = replace(frame, what=f"the same: {family}", decides=False)
            found.append(difference(pair[0], pair[1], rng, beside))
    return found
