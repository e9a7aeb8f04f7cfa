"""Simulated observations for claims about weights, architectures and teachers."""

import numpy as np
from planted_claims import Planter, Where, noisy

from lab.records.claims import Observation

SCAFFOLDS = tuple(f"scaffold {i:02}" for i in range(12))


def weight_change(rng: np.random.Generator, where: Where) -> list[Observation]:
    """Claim 10: squared distances of three traits each; at the bar the model is another draw of the same landings."""
    size = {"beyond": 3.0, "bar": 1.0, "short": 0.2}[where]

    def distances(scale: float) -> np.ndarray:
        return scale * np.sqrt((rng.normal(size=(len(SCAFFOLDS), 9)) ** 2).mean(axis=1))

    rows = [
        Observation("m", "two wordings", s, v)
        for s, v in zip(SCAFFOLDS, distances(1.0).tolist(), strict=True)
    ]
    for kind in ("random", "low rank", "towards the next version"):
        for x, grows in ((0.001, 0.3), (0.01, 1.0), (0.1, 3.0)):
            rows += [
                Observation("m", f"moved, {kind}", s, v, x=x)
                for s, v in zip(SCAFFOLDS, distances(size * grows).tolist(), strict=True)
            ]
            rows += noisy(rng, "m", f"divergence, {kind}", 0.1 * grows, 0.02, x, SCAFFOLDS)
    return rows


def plateaus(rng: np.random.Generator, where: Where) -> list[Observation]:
    """Claim 11: jumpiness of twins over the same ladders, which differ among themselves, and the share of gaps."""
    more = {"beyond": 1.0, "bar": float(np.log(1.5)), "short": 0.0}[where]
    gaps = {"beyond": 0.6, "bar": 0.25, "short": 0.05}[where]
    rows = []
    for place in ("in words", "in states"):
        ladder = rng.normal(0.8, 0.3, len(SCAFFOLDS))
        for role, extra in (("dense", 0.0), ("experts", more)):
            values = ladder + extra + rng.normal(0, 0.15, len(SCAFFOLDS))
            rows += [
                Observation(role, f"jumpiness, {place}, {role}", s, float(v))
                for s, v in zip(SCAFFOLDS, values, strict=True)
            ]
            rows += noisy(rng, role, f"largest tenth, {place}, {role}", 0.3, 0.05, clusters=SCAFFOLDS)
        rows += noisy(rng, "experts", f"switch ratio, {place}, experts", more, 0.2, clusters=SCAFFOLDS)
    rows += noisy(rng, "experts", "gaps, in states, experts", gaps, 0.05, clusters=SCAFFOLDS)
    rows += noisy(rng, "experts", "switches, in states, experts", 5, 1, clusters=SCAFFOLDS)
    for role in ("dense", "experts"):
        rows += noisy(rng, role, f"loss, {role}", 1.0, 0.05, clusters=SCAFFOLDS)
    return rows


def signature(rng: np.random.Generator, where: Where) -> list[Observation]:
    """Claim 12: own minus other of two seeds, on the same questions; students that learned."""
    size = {"beyond": 0.5, "bar": 0.1, "short": -0.2}[where]
    rows = noisy(rng, "a | b", "what separates the teachers", 0.3, 0.05)
    for seed in (1, 2):
        rows += noisy(rng, "a | b", f"own minus other, seed {seed}", 0.3 * size, 0.04)
    for series, near in (("one teacher", 0.8), ("two teachers", 0.8 - 0.3 * size)):
        rows += noisy(rng, "a | b", f"students of {series}", near, 0.03)
    for teacher in (1, 2):
        for what in ("way from the base's loss to its own", "use of the scaffold"):
            rows.append(Observation(f"student of {teacher}", what, "all", 0.8, n=36))
    return rows


PLANTED_MODELS: dict[int, Planter] = {10: weight_change, 11: plateaus, 12: signature}
