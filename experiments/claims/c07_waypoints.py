"""Claim 7: memory entries as waypoints.

Question. When the memory entries of a scaffold are added one after the other, does each move the point where the
reply starts, and does it matter in which order they stand?

Prediction. Each entry moves the spawn point by more than another wording does (they are other words at the end of
the prompt). The order matters less than a wording: the traits follow the identity text, not the list.

Measure. At the spawn point, which has no sampling noise: the distance between the landings with k and with k + 1
entries, mean over the steps of a scaffold; and the distance between the full scaffold and the same entries in other
orders, mean over orders. Over all traits, in noise floors (two wordings of one scaffold lie 1 apart). Interval by
resampling scaffolds. The course (beside): distance from the scaffold without memory after k entries, so saturation
can be seen.

Null. Another wording of the same scaffold: 1.

Verdict rule. Both the step and the order above 1 noise floor: supported. One of them below: refuted.

What would change it. Longer memories (here 3 to 4 entries), entries that speak of the traits themselves, or models
that read memory as instruction.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from lab.claims import Frame, all_of, mean_over, names, of
from lab.pipelines.claim_landings import land, load_model, scaffolds_of, variant
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import Progress
from lab.records import Scaffold, ScaffoldFile
from lab.records.claims import Effect, Observation
from lab.store import Store

TITLE = "Memory entries are waypoints: each moves the starting point, and the order leaves a trail"
COMBINE = all_of


@dataclass(frozen=True)
class Config(ClaimConfig):
    """How many other orders of the entries, and how many entries make a scaffold eligible."""

    orders: int = 3
    least: int = 2


CONFIG = Config(scaffolds=0, max_new_tokens=12)
QUICK = Config(scaffolds=14, questions=6, orders=1, max_new_tokens=6)


def observe(config: Config, store: Store, progress: Progress) -> list[Observation]:
    """Per model and scaffold: every step, every order, the course."""
    files = scaffolds_of(config)
    eligible = [f for f in files if len(_entries(f.paraphrases[0])) >= config.least]
    rng = np.random.default_rng([config.seed, 7])
    orders = {
        f.name: [rng.permutation(len(_entries(f.paraphrases[0]))) for _ in range(config.orders)]
        for f in eligible
    }
    variants = [v for f in eligible for v in (*_ladder(f), *_reordered(f, orders[f.name]))]
    found: list[Observation] = []
    for k, name in enumerate(config.models):
        part = lambda stage, share, k=k: progress(stage, (k + share) / len(config.models))  # noqa: E731
        landed = land(load_model(name, config), [*files, *variants], config, store, part)
        for f in eligible:
            steps = [v.name for v in _ladder(f)]
            for j, (before, after) in enumerate(pairwise(steps), 1):
                gap = landed.distance(before, after, "spawn")
                entry = _entries(f.paraphrases[0])[j - 1].text
                found.append(Observation(landed.label, "step", f.name, gap, note=entry))
                course = landed.distance(steps[0], after, "spawn")
                found.append(Observation(landed.label, "from no memory", f.name, course, x=float(j)))
            for v, order in zip(_reordered(f, orders[f.name]), orders[f.name], strict=True):
                if (np.diff(order) < 0).any():
                    gap = landed.distance(steps[-1], v.name, "spawn")
                    found.append(Observation(landed.label, "order", f.name, gap, note=str(order.tolist())))
    return found


def _entries(scaffold: Scaffold) -> list:
    return [s for s in scaffold.segments if s.kind == "memory"]


def _others(scaffold: Scaffold) -> list:
    return [s for s in scaffold.segments if s.kind != "memory"]


def _ladder(f: ScaffoldFile) -> list[ScaffoldFile]:
    """The first wording with its first 0, 1, … entries."""
    first = f.paraphrases[0]
    entries = _entries(first)
    return [
        variant(first, f"{f.name}, {k} entries", [*_others(first), *entries[:k]])
        for k in range(len(entries) + 1)
    ]


def _reordered(f: ScaffoldFile, orders: Sequence[np.ndarray]) -> list[ScaffoldFile]:
    first = f.paraphrases[0]
    entries = _entries(first)
    return [
        variant(first, f"{f.name}, order {j}", [*_others(first), *(entries[i] for i in order)])
        for j, order in enumerate(orders)
    ]


def judge(observed: Sequence[Observation], rng: np.random.Generator) -> list[Effect]:
    """The verdict rule."""
    found = []
    for model in names(observed, "models"):
        frame = Frame(
            model,
            "one more entry moves the spawn point",
            "noise floors",
            "above",
            1.0,
            "another wording: 1",
            "scaffolds",
        )
        mine = of(observed, models=model)
        found.append(mean_over(of(mine, series="step"), rng, frame))
        order = replace(frame, what="another order of the entries moves it")
        found.append(mean_over(of(mine, series="order"), rng, order))
    return found
