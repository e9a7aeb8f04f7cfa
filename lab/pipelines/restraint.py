"""Holding a trait back, and letting it go: caps and floors, and what is left of a push."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from numpy import ndarray
from numpy.typing import NDArray

from lab.dosage import Chosen, binomial_interval, change, decay, mean_coherence, paths
from lab.pipelines.bench import Bench, Push
from lab.pipelines.origins import above, around
from lab.records import Direction, Position, Split, Trait
from lab.records.steering import CapRow, HalfLife, ReleaseRow
from lab.steering import Cap, Edit, Floor


@dataclass(frozen=True)
class _Restraint:
    """One cap or floor: its edits, and its row but for what happens under a condition."""

    kind: str
    percentile: float
    directions: tuple[Direction, ...]
    taus: tuple[float, ...]

    @property
    def sign(self) -> float:
        return 1.0 if self.kind == "cap" else -1.0

    def edits(self) -> list[Edit]:
        make = Cap if self.kind == "cap" else Floor
        return [make(d, tau) for d, tau in zip(self.directions, self.taus, strict=True)]

    def touched(self, tokens: Sequence[Float[ndarray, "token layer"]]) -> list[Bool[ndarray, " token"]]:
        """Which tokens of each reply it would move, at any layer."""
        return [np.any(self.sign * (t - np.array(self.taus)) > 0, axis=1) for t in tokens]


def caps(bench: Bench, trait: Trait, position: Position) -> list[CapRow]:
    """Caps against the positive pole and floors against the negative, thresholds from *select*.

    At the pooling that steers best, at `cap_layers` layers around the chosen one, each with the percentile of
    its own projections.
    """
    directions = around(bench.origin, trait.name, position, bench.config.cap_layers)
    select, test = (_projections(bench, directions, split) for split in ("select", "test"))
    pool = np.concatenate(select)
    if not len(pool):
        return []
    rows = []
    for q in bench.config.percentiles:
        for kind, at, prompts in (("cap", q, trait.positive), ("floor", 100 - q, trait.negative)):
            taus = tuple(np.percentile(pool, at, axis=0).tolist())
            rows += _capped(bench, _Restraint(kind, q, directions, taus), test, prompts)
            bench.tick(f"{trait.name}: {kind} at {at:g} %")
    return rows


def _projections(
    bench: Bench, directions: Sequence[Direction], split: Split
) -> list[Float[ndarray, "token layer"]]:
    """Projections of the tokens of every reply without scaffold, at each direction's layer."""
    # Projections are kept by trait: several layers of one need a name each.
    named = [
        replace(d, trait=d.trait if len(directions) == 1 else f"{d.trait} {d.site.layer}") for d in directions
    ]
    replies = bench.say(bench.neutral(split), directions=named).replies
    return [np.array([r.projections[d.trait] for d in named], dtype=np.float64).T for r in replies]


def _capped(
    bench: Bench, restraint: _Restraint, test: Sequence[Float[ndarray, "token layer"]], prompts: Sequence[str]
) -> list[CapRow]:
    """Benign work, and the pole that the edit is meant against."""
    chosen = restraint.directions[len(restraint.directions) // 2]
    index = bench.reader.traits.index(chosen.trait)
    touched, edits = restraint.touched(test), restraint.edits()
    alarms = [bool(t.any()) for t in touched]
    low, high = binomial_interval(sum(alarms), len(alarms))
    rows = []
    conditions = (("neutral", bench.neutral("test"), ""), ("against", bench.told(prompts), prompts[0]))
    for condition, jobs, system in conditions:
        questions = [j.question.id for j in jobs]
        plain, edited = bench.read(jobs), bench.read(jobs, edits)
        moved = change(edited, questions, plain, questions)
        rows.append(
            CapRow(
                bench.name, chosen.trait, restraint.kind, restraint.percentile,
                restraint.taus[len(restraint.taus) // 2], float(np.concatenate(touched).mean()),
                float(np.mean(alarms)), condition, float(plain.pooled(np.arange(len(jobs)))[index]),
                float(moved.reading[index]), float(moved.low[index]), float(moved.high[index]),
                mean_coherence(plain), moved.coherence, bench.ability((), system), bench.ability(edits, system),
                len(jobs), low, high, chosen.position, tuple(d.site.layer for d in restraint.directions),
                restraint.taus,
            )
        )  # fmt: skip
    return rows


def letting_go(
    bench: Bench, trait: str, push: Push, chosen: Chosen
) -> tuple[list[ReleaseRow], list[HalfLife]]:
    """Push for some reply tokens, let go, and follow the projection token by token.

    Read above the push: at its own layer nothing of it can last but by the words that were said, since
    what later tokens look back at is made below.
    """
    config, jobs = bench.config, bench.neutral("test")
    top, last = push.directions[-1].site.layer, bench.model.identity.layers - 1
    direction = above(bench.origin, trait, push.directions[0].position, top, last)
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
