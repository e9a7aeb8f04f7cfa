"""What all steering conditions of one model share: settings, pushes, replies, judge, task."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lab.dosage import Reader, Taken
from lab.pipelines.compare import CompareConfig, extract_side
from lab.pipelines.given import VectorFile, take_vectors
from lab.pipelines.origins import Extracted, Given, Origin, around
from lab.pipelines.readers import reader_of
from lab.pipelines.replies import POOLED, Job, Measured, Runner, neutral_jobs
from lab.prompts.tasks import Task, is_right
from lab.records import Direction, LabError, Position, Split, TraitSet
from lab.steering import Ablate, Add, Edit
from lab.store import Store, content_key

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
    positions: tuple[Position, ...] = ("reply_mean", "spawn", "decision", "first_tokens")
    """Poolings to choose from."""
    vectors: tuple[VectorFile, ...] = ()
    """Files to take the directions from; none: they are extracted."""
    spread: int = 1
    """Layers that share the push, around the chosen one, each with its own direction."""
    controls: int = 8
    """Directions of each kind of control: random, permuted, covariance."""
    ablate: bool = False
    """Whether the direction is also taken out, at the layers of the push."""
    percentiles: tuple[float, ...] = (90.0, 99.0)
    """Of unscaffolded token projections, where caps are tried; floors at 100 minus these."""
    cap_layers: int = 1
    """Layers that are capped, around the chosen one, each with its own direction and threshold."""
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
        if min(self.spread, self.controls, self.release, self.cap_layers) < 1 or self.window < 2:
            raise LabError(
                "spread, controls, release and cap-layers must be at least 1 and the window at least 2"
            )
        if not self.positions or len(set(self.positions)) < len(self.positions):
            raise LabError(f"expected poolings to choose from, each once, got {list(self.positions)}")
        unknown = [p for p in self.positions if p not in POOLED]
        if unknown:
            raise LabError(f"no pooling {', '.join(unknown)}; there are {', '.join(POOLED)}")
        if not self.percentiles or not all(50 < p < 100 for p in self.percentiles):
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

    def ablation(self) -> list[Edit]:
        """The directions taken out instead, each at its layer."""
        return [Ablate(d) for d in self.directions]

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
    origin: Origin
    reader: Reader
    tick: Callable[[str], None]
    norm: NDArray[np.float64]
    taken: dict[str, Taken] = field(default_factory=dict)
    """What the judge keeps of replies that it has read; weighing them again would cost forward passes."""

    @property
    def name(self) -> str:
        return self.model.identity.name

    def say(self, jobs: Sequence[Job], edits: Sequence[Edit] = (), **reading) -> Measured:
        """Replies to the jobs under the edits."""
        return self.runner.measure([jobs], edits=edits, **reading)[0]

    def read(self, jobs: Sequence[Job], edits: Sequence[Edit] = ()) -> Taken:
        """The same, for the judge."""
        questions, replies = [j.question.text for j in jobs], [r.text for r in self.say(jobs, edits).replies]
        key = content_key(questions, replies)
        if key not in self.taken:
            self.taken[key] = self.reader.take(questions, replies)
        return self.taken[key]

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
        return self.read(self.neutral(split))

    def ability(self, edits: Sequence[Edit] = (), system: str = "") -> float:
        """Share of task items right."""
        jobs = [Job("task", 0, q, system) for q in self.task.questions]
        replies = self.say(jobs, edits).replies
        return float(np.mean([is_right(r.text, a) for r, a in zip(replies, self.task.answers, strict=True)]))

    def push(self, trait: str, position: Position) -> Push:
        """The trait's own direction at the chosen layer, or at `spread` layers around it."""
        made = around(self.origin, trait, position, self.config.spread)
        return Push(made, tuple(float(self.norm[d.site.layer]) for d in made))


def make_bench(
    config: SteerConfig, loaded: "LoadedModel", traits: TraitSet, task: Task, store: Store,
    tick: Callable[[str], None],
) -> Bench:  # fmt: skip
    """Directions, the unit of pushes and the judge of one model. LabError when the judge lacks a trait."""
    base = CompareConfig(
        (config.model,), (), config.trait_set, config.dtype, config.seed, config.max_new_tokens
    )
    runner = Runner(loaded, base, store, 0, lambda _: None)
    origin = _origin(config, loaded, traits, base, runner, tick)
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
    return Bench(config, loaded, traits, task, runner, origin, reader, tick, plain.norm)


def _origin(
    config: SteerConfig, loaded: "LoadedModel", traits: TraitSet, base: CompareConfig, runner: Runner,
    tick: Callable[[str], None],
) -> Origin:  # fmt: skip
    """Directions out of files where they are given, else extracted."""
    if config.vectors:
        return _given(config, loaded, traits, runner)
    tick(f"replies at both poles of {len(traits.traits)} traits")
    rng = np.random.default_rng([config.seed, 1, 0])
    made = extract_side(loaded.identity.name, loaded, traits, base, runner, rng, config.positions)
    return Extracted(made, loaded.identity, config.positions)


def _given(config: SteerConfig, loaded: "LoadedModel", traits: TraitSet, runner: Runner) -> Given:
    vectors = take_vectors(config.vectors, loaded.identity)
    known = [t.name for t in traits.traits]
    for name, vector in vectors.items():
        if name not in known:
            raise LabError(
                f"expected a vector of a trait of the set {traits.name!r} ({', '.join(known)}), whose prompts it is "
                f"held against, got one of {name!r}; name it with --vector TRAIT=FILE, or give another set"
            )
        if vector.split != "extract":
            raise LabError(f"expected a vector made on extract questions, got {name} made on {vector.split}")

    def ordinary(position: Position) -> NDArray[np.float32]:
        found = runner.measure([neutral_jobs(traits, s, SAMPLES) for s in ("extract", "select")])
        return np.concatenate([m.pooled[position] for m in found])

    return Given(vectors, loaded.identity, ordinary)
