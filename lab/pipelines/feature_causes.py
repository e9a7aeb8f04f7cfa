"""Do the few features of a direction carry the trait? They are pushed, and taken out, while the model speaks.

The unit direction is the sum of its features' part (weights times decoder rows) and a residual at right angles to it;
both are pushed at the length they have in it, beside the whole direction and as many other features at the length of
the first. Doses are chosen on *select* with the whole direction, everything is read on *test*. Taken out are the
features that point to more of the trait, under the instruction to have it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from lab.dosage import (
    Change,
    Chosen,
    Reader,
    Taken,
    change,
    choose_doses,
    control_p,
    mean_coherence,
)
from lab.estimators import unit
from lab.geometry.decomposition import reconstruction
from lab.pipelines.bench import SAMPLES
from lab.pipelines.feature_replies import Opened
from lab.pipelines.readers import reader_of
from lab.pipelines.replies import Job, Runner, neutral_jobs
from lab.records import Direction, LabError, Trait, TraitSet
from lab.records.decomposition import CausalEffect
from lab.shapes import Model
from lab.steering import Ablate, Add
from lab.store import content_key

ALIKE = 32
"""A random feature is drawn from this many that are on about as often as the one it stands for."""
NAN = float("nan")
Features = Int[ndarray, " rank"]
Weights = Float[ndarray, " rank"]
Rows = Float[ndarray, "feature d_model"]


@dataclass(frozen=True)
class CausalConfig:
    """How hard to push, and against how many sets of other features."""

    doses: tuple[float, ...] = (0.125, 0.25, 0.375, 0.5)
    """Sizes of the push, in mean residual norms of the site; each is tried both ways."""
    controls: int = 19
    """Sets of other features; fewer cannot reach a p of .05."""

    def check(self) -> None:
        """LabError for what cannot be run."""
        if not self.doses or min(self.doses) <= 0 or self.controls < 1:
            raise LabError(
                f"expected doses above 0 and at least one control, got {list(self.doses)} and {self.controls}"
            )


def causes(config: CausalConfig, k: int, opened: Opened, traits: TraitSet, runner: Runner) -> "Stage":
    """The check of one model, to be asked trait by trait. LabError when the judge lacks a trait."""

    def reference() -> tuple[list[str], list[str]]:
        jobs = [j for split in ("extract", "select") for j in neutral_jobs(traits, split, SAMPLES)]
        (said,) = runner.measure([jobs])
        return [j.question.text for j in jobs], [r.text for r in said.replies]

    reader = reader_of(opened.model, traits, reference)
    missing = [t.name for t in traits.traits if t.name not in reader.traits]
    if missing:
        raise LabError(f"the judge {reader.judge} cannot read {', '.join(missing)}")
    (plain,) = runner.measure([neutral_jobs(traits, "select", SAMPLES)])
    norm = float(plain.norm[opened.sae.site.layer])
    return Stage(config, k, opened, traits, runner, reader, norm)


@dataclass
class Stage:
    """One model with what its conditions share; `norm`: mean residual norm of the site; `k` features are tried."""

    config: CausalConfig
    k: int
    opened: Opened
    traits: TraitSet
    runner: Runner
    reader: Reader
    norm: float
    taken: dict[str, Taken] = field(default_factory=dict)

    def read(self, jobs: Sequence[Job], edits: Sequence[Any] = ()) -> Taken:
        """What the judge keeps of the replies to jobs under edits."""
        (said,) = self.runner.measure([jobs], edits=edits)
        questions, replies = [j.question.text for j in jobs], [r.text for r in said.replies]
        key = content_key(questions, replies)
        if key not in self.taken:
            self.taken[key] = self.reader.take(questions, replies)
        return self.taken[key]

    def check(
        self, direction: Direction, features: Features, weights: Weights, rows: Rows,
        on: Float[ndarray, " feature"], rng: np.random.Generator,
    ) -> list[CausalEffect]:  # fmt: skip
        """Every row of one trait. on: share of tokens at which each feature is active, to draw its stand-in by."""
        others = [alike(features, on, rng) for _ in range(self.config.controls)]
        return [
            *self._steer(direction, features, weights, rows, others, rng),
            *self._ablate(direction, features, weights, others),
        ]

    # -------------------------------------------------------------- pushed

    def _steer(
        self, direction: Direction, features: Features, weights: Weights, rows: Rows, others: Sequence[Features],
        rng: np.random.Generator,
    ) -> list[CausalEffect]:  # fmt: skip
        whole = np.asarray(direction.vector, np.float64)
        part = reconstruction(rows, features, weights)
        parts = [("direction", -1, whole), ("features", -1, part), ("residual", -1, whole - part)]
        length = float(np.linalg.norm(part))
        for draw, other in enumerate(others):
            mixed = rng.permutation(weights * np.linalg.norm(rows[features], axis=1)) @ unit(rows[other])
            parts.append(("random", draw, length * unit(mixed)))
        chosen = self._doses(direction, whole)
        jobs = neutral_jobs(self.traits, "test", SAMPLES)
        found = []
        for what, draw, vector in parts:
            up, down = (self.read(jobs, self._push(direction, vector, c)) for c in (chosen.up, chosen.down))
            effect = change(up, _ids(jobs), down, _ids(jobs))
            coherence = min(mean_coherence(up), mean_coherence(down))
            row = self._row(direction.trait, "steer", what, draw, effect, coherence, len(jobs))
            found.append((row, float(np.linalg.norm(vector)), chosen))
        return _beside([_dosed(*each) for each in found], "direction")

    def _push(self, direction: Direction, vector: Model, coefficient: float) -> list[Add]:
        """A push along a vector, as long as it is."""
        length = float(np.linalg.norm(vector))
        if length < 1e-9:
            return []
        along = Direction(
            direction.trait, direction.site, direction.position, (vector / length).astype(np.float32), length,
            direction.fingerprint, direction.split,
        )  # fmt: skip
        return [Add(along, coefficient * length, self.norm)]

    def _doses(self, direction: Direction, vector: Model) -> Chosen:
        """Of the whole direction, on select."""
        jobs, index = (
            neutral_jobs(self.traits, "select", SAMPLES),
            self.reader.traits.index(direction.trait),
        )
        everything, readings = np.arange(len(jobs)), {}
        for c in (0.0, *self.config.doses, *(-d for d in self.config.doses)):
            taken = self.read(jobs, self._push(direction, vector, c) if c else ())
            readings[c] = float(taken.pooled(everything)[index]), mean_coherence(taken)
        return choose_doses(readings)

    # -------------------------------------------------------------- taken out

    def _ablate(
        self, direction: Direction, features: Features, weights: Weights, others: Sequence[Features]
    ) -> list[CausalEffect]:
        from lab.features.edits import AblateFeatures

        trait = next(t for t in self.traits.traits if t.name == direction.trait)
        plain, jobs = neutral_jobs(self.traits, "test", SAMPLES), self._told(trait)
        base = self.read(jobs)
        up = weights > 0
        without: list[tuple[str, int, list[Any]]] = [("direction", -1, [Ablate(direction)])]
        if up.any():
            sets = [("features", -1, features[up]), *(("random", i, o[up]) for i, o in enumerate(others))]
            for what, draw, some in sets:
                edit = AblateFeatures(
                    direction, tuple(int(f) for f in some), self.opened.digest, self.opened.sae
                )
                without.append((what, draw, [edit]))
        told = change(base, _ids(jobs), self.read(plain), _ids(plain))
        row = self._row(direction.trait, "ablate", "instruction", -1, told, mean_coherence(base), len(jobs))
        found = [row]
        for what, draw, edits in without:
            taken = self.read(jobs, edits)
            effect = change(taken, _ids(jobs), base, _ids(jobs))
            found.append(
                self._row(direction.trait, "ablate", what, draw, effect, mean_coherence(taken), len(jobs))
            )
        return _beside(found, "instruction")

    def _told(self, trait: Trait) -> list[Job]:
        """The test questions under one of the positive instructions in turn."""
        return [
            Job("prompt", k, q, trait.positive[(i + k) % len(trait.positive)], sample=k)
            for i, q in enumerate(self.traits.of("test"))
            for k in range(SAMPLES)
        ]

    def _row(
        self, trait: str, way: str, what: str, draw: int, found: Change, coherence: float, n: int
    ) -> CausalEffect:
        index = self.reader.traits.index(trait)
        return CausalEffect(
            trait, way, what, draw, self.k, NAN, NAN, NAN, float(found.change[index]), float(found.low[index]),
            float(found.high[index]), NAN, NAN, NAN, coherence, n,
        )  # fmt: skip


def alike(features: Features, on: Float[ndarray, " feature"], rng: np.random.Generator) -> Features:
    """As many other features, each on about as often as the one in its place; none twice."""
    order = np.argsort(on, kind="stable")
    place = np.empty(len(on), np.int64)
    place[order] = np.arange(len(on))
    taken = set(features.tolist())
    found = []
    for feature in features:
        near = sorted(
            (int(f) for f in order if int(f) not in taken), key=lambda f: abs(place[f] - place[feature])
        )[:ALIKE]
        if not near:
            raise LabError(
                f"expected more than {2 * len(features)} features to draw others from, got {len(on)}"
            )
        found.append(int(rng.choice(near)))
        taken.add(found[-1])
    return np.array(found, dtype=np.int64)


def _ids(jobs: Sequence[Job]) -> list[str]:
    return [j.question.id for j in jobs]


def _dosed(row: CausalEffect, length: float, chosen: Chosen) -> CausalEffect:
    return CausalEffect(**{**vars(row), "length": length, "down": chosen.down, "up": chosen.up})


def _beside(rows: Sequence[CausalEffect], whole: str) -> list[CausalEffect]:
    """Each row as a share of the whole, and that of the features beside the random ones."""
    all_of_it = next(r for r in rows if r.what == whole)
    clear = all_of_it.low > 0 or all_of_it.high < 0
    size = all_of_it.effect * (-1.0 if whole == "instruction" else 1.0)
    null = [r.effect for r in rows if r.what == "random"]
    found = []
    for r in rows:
        high, p = control_p(r.effect, null) if r.what == "features" else (NAN, NAN)
        share = r.effect / size if clear and r.what != "instruction" else NAN
        found.append(CausalEffect(**{**vars(r), "share": share, "null_high": high, "p": p}))
    return found
