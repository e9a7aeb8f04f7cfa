"""Simulated observations for every claim: beyond its bar, at its bar, and short of it."""

from collections.abc import Callable
from typing import Literal

import numpy as np

from lab.records.claims import Observation

Where = Literal["beyond", "bar", "short"]
"""beyond: the claim is true by far; bar: true of the least favourable null; short: false by far."""
Planter = Callable[[np.random.Generator, Where], list[Observation]]
QUESTIONS = tuple(f"q{i:02}" for i in range(24))


def noisy(
    rng: np.random.Generator, models: str, series: str, mean: float, sd: float, x: float = float("nan"),
    clusters: tuple[str, ...] = QUESTIONS,
) -> list[Observation]:  # fmt: skip
    """One value per cluster around a mean."""
    values = rng.normal(mean, sd, len(clusters))
    return [Observation(models, series, c, float(v), x) for c, v in zip(clusters, values, strict=True)]


def told(
    rng: np.random.Generator, models: str, series: str, mean: float, se: float, **more: float | int | str
) -> Observation:
    """One value with an interval of its own, off by its standard error."""
    value = float(rng.normal(mean, se))
    return Observation(models, series, "all", value, low=value - 1.96 * se, high=value + 1.96 * se, **more)  # type: ignore[arg-type]


def spawn_point(rng: np.random.Generator, where: Where) -> list[Observation]:
    """Claim 6: two traits, the distance shared between them; floor of .1 per wording and trait."""
    size = {"beyond": 6.0, "bar": 3.0, "short": 1.0}[where]
    floor = 0.1
    rows = []
    for place in ("reply_mean", "spawn"):
        for trait in ("warmth", "assistant"):
            gap = size * floor * np.sqrt(2)
            rows += noisy(rng, "m", f"{place}, {trait}", gap, 0.1)
            rows.append(Observation("m", f"floor, {place}, {trait}", "all", floor))
    for trait in ("warmth", "assistant"):
        for third in (0, 2):
            rows += noisy(rng, "m", f"third {third}, {trait}", 1.0, 0.1, x=float(third))
    return rows


PLANTED: dict[int, Planter] = {6: spawn_point}

from planted_claims_models import PLANTED_MODELS  # noqa: E402

PLANTED |= PLANTED_MODELS

from planted_claims_scaffolds import SCAFFOLD_CLAIMS  # noqa: E402

PLANTED |= SCAFFOLD_CLAIMS

from planted_claims_geometry import GEOMETRY_CLAIMS  # noqa: E402

PLANTED |= GEOMETRY_CLAIMS
