"""Holding a trait back, and letting it go: caps and floors, and what is left of a push."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lab.dosage import Chosen, change, decay, mean_coherence, paths
from lab.pipelines.bench import Bench, Push
from lab.records import CapRow, HalfLife, ReleaseRow, Trait
from lab.steering import Cap, Edit, Floor


def caps(bench: Bench, trait: Trait) -> list[CapRow]:
    """Caps against the positive pole and floors against the negative, thresholds from *select*."""
    direction = bench.made.directions[trait.name, bench.config.positions[0]]
    tokens = {
        split: [
            r.projections[trait.name] for r in bench.say(bench.neutral(split), directions=[direction]).replies
        ]
        for split in ("select", "test")
    }
    pool = np.concatenate([np.array(t) for t in tokens["select"]])
    if not len(pool):
        return []
    rows = []
    for q in bench.config.percentiles:
        for kind, at, prompts in (("cap", q, trait.positive), ("floor", 100 - q, trait.negative)):
            tau = float(np.percentile(pool, at))
            edit = Cap(direction, tau) if kind == "cap" else Floor(direction, tau)
            sign = 1.0 if kind == "cap" else -1.0
            over = [sign * (np.array(t) - tau) > 0 for t in tokens["test"]]
            alarms = (float(np.concatenate(over).mean()), float(np.mean([o.any() for o in over])))
            rows += _capped(bench, trait.name, kind, q, tau, alarms, edit, prompts)
            bench.tick(f"{trait.name}: {kind} at {at:g} %")
    return rows


def _capped(
    bench: Bench, trait: str, kind: str, percentile: float, tau: float, alarms: tuple[float, float],
    edit: Edit, prompts: Sequence[str],
) -> list[CapRow]:  # fmt: skip
    """Benign work, and the pole that the edit is meant against."""
    index = bench.reader.traits.index(trait)
    rows = []
    conditions = (("neutral", bench.neutral("test"), ""), ("against", bench.told(prompts), prompts[0]))
    for condition, jobs, system in conditions:
        questions = [j.question.id for j in jobs]
        plain, edited = bench.read(jobs), bench.read(jobs, [edit])
        moved = change(edited, questions, plain, questions)
        rows.append(
            CapRow(
                bench.name,
                trait,
                kind,
                percentile,
                tau,
                *alarms,
                condition,
                float(plain.pooled(np.arange(len(jobs)))[index]),
                float(moved.reading[index]),
                float(moved.low[index]),
                float(moved.high[index]),
                mean_coherence(plain),
                moved.coherence,
                bench.ability((), system),
                bench.ability([edit], system),
                len(jobs),
            )
        )
    return rows


def letting_go(
    bench: Bench, trait: str, push: Push, chosen: Chosen
) -> tuple[list[ReleaseRow], list[HalfLife]]:
    """Push for some reply tokens, let go, and follow the projection token by token.

    Read above the push: at its own layer nothing of it can last but by the words that were said, since
    what later tokens look back at is made below.
    """
    config, jobs = bench.config, bench.neutral("test")
    direction = bench.above(trait, push)
    length = config.release + config.window
    questions = [j.question.id for j in jobs]

    def course(edits: Sequence[Edit]) -> NDArray[np.float64]:
        release = config.release if edits else None
        said = bench.say(jobs, edits, directions=[direction], release=release)
        return paths([r.projections[trait] for r in said.replies], length)

    plain = course([])
    rows, halves = [], []
    for c in (chosen.down, chosen.up):
        difference = course(push.edits(c)) - plain
        difference = difference / np.nanmean(difference[:, : config.release])
        rng = np.random.default_rng([config.seed, 4])
        found = decay(difference, questions, config.release, rng)
        rows += [
            ReleaseRow(
                bench.name, trait, c, t, t < config.release, float(found.mean[t]), float(found.low[t]),
                float(found.high[t]), int(found.n[t]),
            )
            for t in range(length)
        ]  # fmt: skip
        at = config.release
        halves.append(
            HalfLife(
                bench.name, trait, c, found.carried, float(found.low[at]), float(found.high[at]),
                found.half_life, config.window, direction.site.layer,
            )
        )  # fmt: skip
        bench.tick(f"{trait}: letting go")
    return rows, halves
