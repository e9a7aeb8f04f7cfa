"""Claim 14: tone is the easiest layer to copy; warm is not true.

Question. A scaffold stripped of memory and boundaries keeps its tone. Does the model, under it, sound as under the
whole scaffold and fail the continuity battery all the same? And does tone tell which replies keep continuity?

Prediction. Tone is matched to within .1, the battery falls by more than .2, and tone tells nothing (AUROC near .5).
When this was written, the battery had been run on both organisms and had shown just this; the bars are what would
matter: a tenth of the range from a neutral to a full match of tone, a fifth of all items.

Measure. The battery of lab/continuity (data/continuity) under the whole scaffold and under its tone lines alone.
Tone match: how near the reply's judged traits are to what the scaffold states (1: as stated, 0: as without a
scaffold). Differences over the items both conditions share; interval by resampling characters (in Hearth each item
has its own). Beside: AUROC of tone for passed over failed replies inside families.

Null. No difference: 0; AUROC .5.

Verdict rule. Supported: tone falls by less than .1 and the battery by more than .2. One refuted refutes it.

What would change it. Batteries whose items are about tone; scaffolds whose memory carries the voice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lab.claims import Frame, abstain, all_of, difference, names, of, reported
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import Progress
from lab.pipelines.continuity import ContinuityConfig, continuity
from lab.pipelines.continuity_items import FULL, TONE_ONLY
from lab.records.claims import Effect, Observation
from lab.store import Store

TITLE = "Tone is the easiest layer to copy; warm is not true"
COMBINE = all_of


@dataclass(frozen=True)
class Config(ClaimConfig):
    """Longest reply of the battery."""

    reply_tokens: int = 120
    tone: bool = True


CONFIG = Config()
QUICK = Config(reply_tokens=16, tone=False)


def observe(config: Config, store: Store, progress: Progress) -> list[Observation]:
    """Per model, condition and item: passed, and tone match."""
    found: list[Observation] = []
    for k, name in enumerate(config.models):
        part = lambda stage, share, k=k: progress(stage, (k + share) / len(config.models))  # noqa: E731
        result = continuity(
            ContinuityConfig(
                name, conditions=(FULL, TONE_ONLY), dtype=config.dtype, seed=config.seed, tone=config.tone,
                max_new_tokens=config.reply_tokens,
            ),
            store, part,
        )  # fmt: skip
        for o in result.outcomes:
            found.append(Observation(o.model, f"passed, {o.condition}", o.who, float(o.passed), note=o.reply))
            found.append(Observation(o.model, f"tone, {o.condition}", o.who, float(o.tone)))
        for t in result.tells:
            row = Observation(
                t.model, f"tells, {t.condition}", "all", t.auroc, low=t.low, high=t.high, n=t.pairs
            )
            found.append(row)
    return found


def judge(observed: Sequence[Observation], rng: np.random.Generator) -> list[Effect]:
    """The verdict rule."""
    found = []
    for model in names(observed, "models"):
        mine = of(observed, models=model)
        whole, tone = FULL.name, TONE_ONLY.name
        battery = Frame(
            model,
            "battery lost without memory and boundaries",
            "share of items",
            "above",
            0.2,
            "no difference: 0",
            "characters",
        )
        found.append(
            difference(of(mine, series=f"passed, {whole}"), of(mine, series=f"passed, {tone}"), rng, battery)
        )
        lost = replace(battery, what="tone lost without them", unit="tone match", side="below", bar=0.1)
        found.append(
            difference(of(mine, series=f"tone, {whole}"), of(mine, series=f"tone, {tone}"), rng, lost)
        )
        tells = replace(
            battery, what="tone of passed over failed replies", unit="AUROC", side="below", bar=0.7,
            null="no information: .5", decides=False,
        )  # fmt: skip
        rows = of(mine, series=f"tells, {whole}")
        found.append(
            reported(rows[0], tells)
            if rows
            else abstain("no family has both passed and failed replies", tells)
        )
    return found
