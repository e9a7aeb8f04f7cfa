"""Where the directions of a bench come from: extracted here, or given in files.

An origin knows its traits, the poolings of each, the layers at which there is a direction, the direction at
one of them (None: at the one that was chosen), and control directions: unit vectors [d_model] by (kind, draw).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.dosage import covariance_directions
from lab.estimators import mean_difference, unit
from lab.pipelines.compare import Extraction
from lab.records import Direction, LabError, ModelIdentity, Position, Site
from lab.shapes import Model
from lab.vectors.record import PersonaVector, to_direction

Controls = dict[tuple[str, str], Model]


class Origin(Protocol):
    """Directions of some traits, and directions that are not the trait."""

    @property
    def traits(self) -> tuple[str, ...]: ...

    def positions(self, trait: str) -> tuple[Position, ...]: ...

    def layers(self, trait: str) -> tuple[int, ...]: ...

    def direction(self, trait: str, position: Position, layer: int | None = None) -> Direction: ...

    def controls(
        self, trait: str, position: Position, layer: int, n: int, rng: np.random.Generator
    ) -> Controls: ...


@dataclass(frozen=True)
class Extracted:
    """Mean differences of the model's own replies at both poles."""

    made: Extraction
    identity: ModelIdentity
    poolings: tuple[Position, ...]

    @property
    def traits(self) -> tuple[str, ...]:
        return tuple(self.made.poles)

    def positions(self, trait: str) -> tuple[Position, ...]:
        return self.poolings

    def layers(self, trait: str) -> tuple[int, ...]:
        return tuple(range(self.identity.layers))

    def direction(self, trait: str, position: Position, layer: int | None = None) -> Direction:
        chosen = self.made.directions[trait, position]
        if layer is None or layer == chosen.site.layer:
            return chosen
        raw = self._row(trait, position, layer)
        length = float(np.linalg.norm(raw))
        return Direction(trait, Site(layer), position, unit(raw), length, chosen.fingerprint, "extract")

    def controls(
        self, trait: str, position: Position, layer: int, n: int, rng: np.random.Generator
    ) -> Controls:
        """Random, pole-swapped, of the states' covariance inside the poles, and the other traits' own."""
        drawn = unit(rng.standard_normal((n, self.identity.d_model)))
        states, groups, others = [], [], {}
        for name, poles in self.made.poles.items():
            contrast = poles.of(position, "extract")
            states.append(contrast.acts[:, layer].copy())
            groups += [f"{name} {up}" for up in contrast.positive]
            if name != trait:
                others["other", name] = unit(self._row(name, position, layer))
        rows = np.concatenate(states)
        whole = ~np.isnan(rows).any(axis=1)
        kept = np.array(groups)[whole].tolist()
        own = {
            "random": drawn,
            "permuted": self.made.nulls[trait, position][:n],
            "covariance": covariance_directions(rows[whole], kept, n, rng),
        }
        return {**_numbered(own), **others}

    def _row(self, trait: str, position: Position, layer: int) -> Model:
        contrast = self.made.poles[trait].of(position, "extract")
        return mean_difference(contrast.acts[:, layer : layer + 1], contrast.positive, contrast.questions)[0]


@dataclass(frozen=True)
class Given:
    """Vectors from files. Nobody's replies at the poles are there, so no poles can be swapped.

    `ordinary` gives the model's states in replies without scaffold, [row, layer, d_model], at a pooling.
    """

    vectors: Mapping[str, PersonaVector]
    identity: ModelIdentity
    ordinary: Callable[[Position], Float[ndarray, "row layer d_model"]] = field(repr=False)

    @property
    def traits(self) -> tuple[str, ...]:
        return tuple(self.vectors)

    def positions(self, trait: str) -> tuple[Position, ...]:
        position = self.vectors[trait].position
        assert position is not None, "take_vectors says one"
        return (position,)

    def layers(self, trait: str) -> tuple[int, ...]:
        return tuple(np.flatnonzero(self.vectors[trait].known).tolist())

    def direction(self, trait: str, position: Position, layer: int | None = None) -> Direction:
        return to_direction(self.vectors[trait], self.identity, layer, force=True)

    def controls(
        self, trait: str, position: Position, layer: int, n: int, rng: np.random.Generator
    ) -> Controls:
        """Random, of the covariance of replies without scaffold, and the other vectors given."""
        drawn = unit(rng.standard_normal((n, self.identity.d_model)))
        states = self.ordinary(position)[:, layer]
        states = states[~np.isnan(states).any(axis=1)]
        own = {"random": drawn, "covariance": covariance_directions(states, [""] * len(states), n, rng)}
        others = {
            ("other", name): self.direction(name, position, layer).vector
            for name in self.vectors
            if name != trait and layer in self.layers(name)
        }
        return {**_numbered(own), **others}


def _numbered(sets: Mapping[str, Sequence[Model] | Float[ndarray, "draw d_model"]]) -> Controls:
    return {(kind, str(k)): vector for kind, some in sets.items() for k, vector in enumerate(some)}


def around(origin: Origin, trait: str, position: Position, n: int) -> tuple[Direction, ...]:
    """The chosen direction, or those of `n` neighbouring layers around it. LabError where they are not known."""
    chosen = origin.direction(trait, position)
    if n == 1:
        return (chosen,)
    layers = origin.layers(trait)
    at = layers.index(chosen.site.layer)
    first = max(0, min(at - n // 2, len(layers) - n))
    taken = layers[first : first + n]
    if taken[-1] - taken[0] != len(taken) - 1 or (len(taken) < n and len(layers) < 2):
        raise LabError(
            f"expected directions of {trait} at {n} layers around {chosen.site.layer}, got them at "
            f"{', '.join(map(str, layers))}; take one layer"
        )
    return tuple(origin.direction(trait, position, layer) for layer in taken)


def above(origin: Origin, trait: str, position: Position, top: int, last: int) -> Direction:
    """A trait's direction about halfway between layer `top` and the last; at `top` where none is known above."""
    wanted = min(last, top + max(1, (last - top + 1) // 2))
    higher = [k for k in origin.layers(trait) if k > top] or [top]
    return origin.direction(trait, position, min(higher, key=lambda k: (abs(k - wanted), k)))
