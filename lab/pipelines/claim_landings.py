"""Landings of any scaffolds in one model, cell by cell: what most claims are tested on.

Directions, unit and neutral are those of `lab compare` (the same cached replies); scaffolds may be made up on the
way: with a segment left out, an entry added, a transcript in place of a memory.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.landing import landing_cells, noise_floor
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import (
    CompareConfig,
    Landed,
    Progress,
    Runner,
    land_side,
    resolve_model,
    resolve_trait_set,
    shipped_scaffolds,
)
from lab.records import Message, Position, Scaffold, ScaffoldFile, Segment, TraitSet
from lab.stats import average
from lab.store import Store

if TYPE_CHECKING:
    from lab.models import LoadedModel

Key = tuple[str, Position]
"""Trait and position."""


@dataclass(frozen=True)
class Landings:
    """Where scaffolds land in one model.

    L[trait, position] [scaffold, paraphrase, question] in the model's own unit (NaN: a failed reply, or a model whose
    poles do not lie apart); floor[trait, position]: sd of L over wordings of one scaffold. landed: the states, the
    replies and the directions behind them.
    """

    label: str
    scaffolds: tuple[str, ...]
    questions: tuple[str, ...]
    traits: tuple[str, ...]
    L: dict[Key, Float[ndarray, "scaffold paraphrase question"]]
    floor: dict[Key, float]
    landed: Landed = field(repr=False)

    def at(self, scaffold: str, trait: str, position: Position = "reply_mean") -> Float[ndarray, " question"]:
        """L of one scaffold by question, mean over its wordings."""
        return np.asarray(average(self.L[trait, position][self.scaffolds.index(scaffold)], 0))

    def distance(self, one: str, other: str, position: Position = "reply_mean") -> float:
        """How far two scaffolds land apart over all traits, in noise floors; NaN without a floor.

        The floor is the root mean square distance of two wordings of one scaffold, so these lie 1 apart.
        """
        gaps = [
            float(average(self.at(one, t, position) - self.at(other, t, position), 0)) for t in self.traits
        ]
        return float(np.sqrt(np.square(gaps).sum()) / self.wordings_apart(position))

    def wordings_apart(self, position: Position = "reply_mean") -> float:
        """The noise floor over all traits, in L: root mean square distance of two wordings; NaN for none."""
        found = float(np.sqrt(2 * sum(self.floor[t, position] ** 2 for t in self.traits)))
        return found or float("nan")

    def reply(self, scaffold: str, question: str, paraphrase: int = 0) -> str:
        """What the model said there."""
        group = 1 + self.scaffolds.index(scaffold)
        jobs, measured = self.landed.groups[group], self.landed.measured[group]
        for job, reply in zip(jobs, measured.replies, strict=True):
            if job.question.id == question and job.paraphrase == paraphrase:
                return reply.text
        raise KeyError((scaffold, question, paraphrase))


def land(
    model: "LoadedModel", scaffolds: Sequence[ScaffoldFile], config: ClaimConfig, store: Store, progress: Progress,
    label: str = "", histories: Mapping[str, Sequence[Message]] | None = None,
) -> Landings:  # fmt: skip
    """Land scaffolds in a loaded model; `histories`: what was said before the question, by scaffold name.

    Raises LabError for a trait set that does not fit.
    """
    name = label or model.identity.name
    traits = traits_of(model, config)
    inner = CompareConfig(
        (name,), tuple(scaffolds), config.traits, config.dtype, config.seed, config.max_new_tokens
    )
    poles = 2 * len(traits.traits) * len(traits.questions)
    total = poles + sum(len(s.paraphrases) for s in scaffolds) * len(traits.of("test"))
    done = 0

    def tick(n: int) -> None:
        nonlocal done
        done += n
        progress(f"replies of {name}", min(0.99, done / total))

    landed = land_side(name, model, traits, inner, Runner(model, inner, store, 0, tick), 0, histories)
    keys = list(landed.made.directions)
    found = dict(zip(keys, landed.projections, strict=True))
    first = landed.projections[0]
    return Landings(
        name, first.scaffolds, tuple(np.unique(first.question).tolist()),
        tuple(dict.fromkeys(t for t, _ in keys)), {k: landing_cells(p) for k, p in found.items()},
        {k: noise_floor(p).paraphrase_sd for k, p in found.items()}, landed,
    )  # fmt: skip


def load_model(name: str, config: ClaimConfig) -> "LoadedModel":
    """A model by shipped name, folder or hub name."""
    from lab.models import load

    return load(resolve_model(name), config.dtype)


def traits_of(model: "LoadedModel", config: ClaimConfig) -> TraitSet:
    """The traits and questions that a claim reads a model on."""
    full = resolve_trait_set(config.traits, [model])
    if not config.questions:
        return full
    kept = [q for split in ("extract", "select", "test") for q in full.of(split)[: config.questions]]
    return TraitSet(full.name, full.traits, tuple(kept))


def scaffolds_of(config: ClaimConfig, first: Sequence[str] = ()) -> tuple[ScaffoldFile, ...]:
    """As many of the shipped scaffolds as the claim asks for, those named before the others."""
    shipped = [s for s in shipped_scaffolds() if any(p.segments for p in s.paraphrases)]
    ordered = sorted(shipped, key=lambda s: first.index(s.name) if s.name in first else len(first))
    return tuple(ordered[: config.scaffolds or None])


def variant(base: Scaffold, name: str, segments: Sequence[Segment]) -> ScaffoldFile:
    """A scaffold of other segments as a file of one wording."""
    return ScaffoldFile(name, "", (replace(base, name=name, segments=tuple(segments)),))
