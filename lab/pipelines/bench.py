"""What all steering conditions of one model share: settings, pushes, replies, judge, task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lab.dosage import Reader, Taken
from lab.estimators import mean_difference, unit
from lab.pipelines.compare import CompareConfig, Extraction, extract_side
from lab.pipelines.readers import reader_of
from lab.pipelines.replies import Job, Measured, Runner, neutral_jobs
from lab.prompts.tasks import Task, is_right
from lab.records import Direction, LabError, Position, Site, Split, TraitSet
from lab.steering import Add, Edit
from lab.store import Store

if TYPE_CHECKING:
    from lab.models import LoadedModel

SAMPLES = 2
"""Replies to each question."""


@dataclass(frozen=True)
class SteerConfig:
    """What to steer and how hard to look."""

    model: str
    trait_set: str = "auto"
    doses: tuple[float, ...] = (0.125, 0.25, 0.375, 0.5)
    """Sizes of the push, in mean residual norms of the site; each is tried both ways."""
    positions: tuple[Position, ...] = ("reply_mean", "spawn", "decision")
    """Poolings to choose from."""
    spread: int = 1
    """Layers that share the push, around the chosen one, each with its own direction."""
    controls: int = 8
    """Directions of each kind of control: random, permuted, covariance."""
    percentiles: tuple[float, ...] = (90.0, 99.0)
    """Of unscaffolded token projections, where caps are tried; floors at 100 minus these."""
    release: int = 8
    """Reply tokens after which a push is let go."""
    window: int = 24
    """Tokens that are watched after that."""
    task: Path | None = None
    """A task file; None takes the shipped one."""
    dtype: str = "float32"
    seed: int = 0
    max_new_tokens: int = 110

    def check(self) -> None:
        """LabError for what cannot be run."""
        if not self.doses or min(self.doses) <= 0:
            raise LabError(f"doses must be above 0 (each is tried both ways), got {list(self.doses)}")
        if self.spread < 1 or self.controls < 1 or self.release < 1 or self.window < 2:
            raise LabError("spread, controls and release must be at least 1 and the window at least 2")
        if not all(50 < p < 100 for p in self.percentiles):
            raise LabError(f"percentiles of a cap lie between 50 and 100, got {list(self.percentiles)}")
        if self.max_new_tokens < 8:
            raise LabError(f"max_new_tokens must be at least 8, got {self.max_new_tokens}")


@dataclass(frozen=True)
class Push:
    """One way to push a trait: a direction per layer with the site's mean residual norm."""

    directions: tuple[Direction, ...]
    norms: tuple[float, ...]

    def edits(self, coefficient: float) -> list[Edit]:
        """`coefficient` shared evenly by the layers; none for 0."""
        share = coefficient / len(self.directions)
        pairs = zip(self.directions, self.norms, strict=True)
        return [Add(d, share, n) for d, n in pairs] if coefficient else []

    def along(self, vector: NDArray[np.float64], trait: str) -> "Push":
        """The same push in another direction, at one layer."""
        first = self.directions[len(self.directions) // 2]
        other = Direction(
            trait, first.site, first.position, vector.astype(np.float32), 1.0, first.fingerprint, first.split
        )
        return Push((other,), (self.norms[len(self.norms) // 2],))


@dataclass
class Bench:
    """One model with everything that its conditions share."""

    config: SteerConfig
    model: "LoadedModel"
    traits: TraitSet
    task: Task
    runner: Runner
    made: Extraction
    reader: Reader
    tick: Callable[[str], None]
    norm: NDArray[np.float64]
    base: dict[Split, Taken] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.model.identity.name

    def say(self, jobs: Sequence[Job], edits: Sequence[Edit] = (), **reading) -> Measured:
        """Replies to the jobs under the edits."""
        return self.runner.measure([jobs], edits=edits, **reading)[0]

    def read(self, jobs: Sequence[Job], edits: Sequence[Edit] = ()) -> Taken:
        """The same, for the judge."""
        replies = self.say(jobs, edits).replies
        return self.reader.take([j.question.text for j in jobs], [r.text for r in replies])

    def neutral(self, split: Split) -> list[Job]:
        return neutral_jobs(self.traits, split, SAMPLES)

    def told(self, prompts: Sequence[str]) -> list[Job]:
        """The test questions under one of the instructions in turn."""
        return [
            Job("prompt", k, q, prompts[(i + k) % len(prompts)], sample=k)
            for i, q in enumerate(self.traits.of("test"))
            for k in range(SAMPLES)
        ]

    def unsteered(self, split: Split) -> Taken:
        """What everything is held against."""
        if split not in self.base:
            self.base[split] = self.read(self.neutral(split))
        return self.base[split]

    def ability(self, edits: Sequence[Edit] = (), system: str = "") -> float:
        """Share of task items right."""
        jobs = [Job("task", 0, q, system) for q in self.task.questions]
        replies = self.say(jobs, edits).replies
        return float(np.mean([is_right(r.text, a) for r, a in zip(replies, self.task.answers, strict=True)]))

    def above(self, trait: str, push: Push) -> Direction:
        """The trait's direction halfway between the push and the last layer."""
        top, last = push.directions[-1].site.layer, self.model.identity.layers - 1
        layer = min(last, top + max(1, (last - top + 1) // 2))
        first = push.directions[0]
        contrast = self.made.poles[trait].of(first.position, "extract")
        rows = mean_difference(contrast.acts[:, layer : layer + 1], contrast.positive, contrast.questions)
        vector, length = unit(rows[0]), float(np.linalg.norm(rows[0]))
        return Direction(trait, Site(layer), first.position, vector, length, first.fingerprint, "extract")

    def push(self, trait: str, position: Position) -> Push:
        """The trait's own direction at the chosen layer, or at `spread` layers around it."""
        chosen = self.made.directions[trait, position]
        if self.config.spread == 1:
            return Push((chosen,), (float(self.norm[chosen.site.layer]),))
        contrast = self.made.poles[trait].of(position, "extract")
        rows = mean_difference(contrast.acts, contrast.positive, contrast.questions)
        first = max(0, min(chosen.site.layer - self.config.spread // 2, len(rows) - self.config.spread))
        layers = range(first, min(first + self.config.spread, len(rows)))
        made = tuple(
            Direction(
                trait, Site(k), position, unit(rows[k]), float(np.linalg.norm(rows[k])),
                chosen.fingerprint, "extract",
            )
            for k in layers
        )  # fmt: skip
        return Push(made, tuple(float(self.norm[k]) for k in layers))


def make_bench(
    config: SteerConfig, loaded: "LoadedModel", traits: TraitSet, task: Task, store: Store,
    tick: Callable[[str], None],
) -> Bench:  # fmt: skip
    """Directions, the unit of pushes and the judge of one model. LabError when the judge lacks a trait."""
    base = CompareConfig(
        (config.model,), (), config.trait_set, config.dtype, config.seed, config.max_new_tokens
    )
    runner = Runner(loaded, base, store, 0, lambda _: None)
    tick(f"replies at both poles of {len(traits.traits)} traits")
    rng = np.random.default_rng([config.seed, 1, 0])
    made = extract_side(loaded.identity.name, loaded, traits, base, runner, rng, config.positions)
    tick("replies without push")
    (plain,) = runner.measure([neutral_jobs(traits, "select", SAMPLES)])

    def reference() -> tuple[list[str], list[str]]:
        jobs = [j for split in ("extract", "select") for j in neutral_jobs(traits, split, SAMPLES)]
        (said,) = runner.measure([jobs])
        return [j.question.text for j in jobs], [r.text for r in said.replies]

    reader = reader_of(loaded, traits, reference)
    missing = [t.name for t in traits.traits if t.name not in reader.traits]
    if missing:
        raise LabError(f"the judge {reader.judge} cannot read {', '.join(missing)}")
    return Bench(config, loaded, traits, task, runner, made, reader, tick, plain.norm)
