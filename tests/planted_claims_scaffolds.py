"""Planted observations for the claims about scaffolds, histories and replies."""

from functools import partial

import numpy as np
from planted_claims import Planter, Where, noisy

from lab.records.claims import Observation

SCAFFOLDS = tuple(f"s{i:02}" for i in range(20))
SIZES = dict[Where, float]


def series(
    rng: np.random.Generator, where: Where, means: dict[str, SIZES], sd: float, models: str = "m"
) -> list[Observation]:
    """Independent values per scaffold, each series around its own mean."""
    return [
        o
        for name, sizes in means.items()
        for o in noisy(rng, models, name, sizes[where], sd, clusters=SCAFFOLDS)
    ]


def sizes(beyond: float, bar: float, short: float) -> SIZES:
    """What a series' mean is in each world."""
    return {"beyond": beyond, "bar": bar, "short": short}


def plant(means: dict[str, SIZES], sd: float, models: str = "m") -> Planter:
    """A planter of independent series."""
    return partial(_plant, means, sd, models)


def _plant(
    means: dict[str, SIZES], sd: float, models: str, rng: np.random.Generator, where: Where
) -> list[Observation]:
    return series(rng, where, means, sd, models)


def dissociation(rng: np.random.Generator, where: Where) -> list[Observation]:
    """Claim 4: divergences are squares of distances; the null has the surface at its bar, the inside far beyond."""
    root = {"beyond": 0.5, "bar": 1.0, "short": 2.0}[where]
    rows = noisy(rng, "a | b", "surface", 8 * root**2, 0.5, clusters=SCAFFOLDS)
    rows += noisy(rng, "a | b", "wordings", 8.0, 0.5, clusters=SCAFFOLDS)
    return rows + noisy(rng, "a | b", "inside", 3.0, 0.3, clusters=SCAFFOLDS)


def destination(rng: np.random.Generator, where: Where) -> list[Observation]:
    """Claim 13: mean square distances per question."""
    times = {"beyond": 3.0, "bar": 2.0, "short": 1.2}[where]
    rows = noisy(rng, "m", "scaffolds", times**2, 0.2) + noisy(rng, "m", "wordings", 1.0, 0.05)
    return rows + noisy(rng, "m", "score", 0.9, 0.01, clusters=SCAFFOLDS)


def spread(rng: np.random.Generator, where: Where) -> list[Observation]:
    """Claim 15: AUROC per scaffold, six turns at the bar where nothing is to be found."""
    means = {
        "six turns": sizes(0.97, 0.9, 0.7),
        "one word": sizes(0.96, 0.95, 0.6),
        "one reply": sizes(0.9, 0.9, 0.6),
    }
    return series(rng, where, {**means, "false alarms": sizes(0.05, 0.05, 0.05)}, 0.02)


SCAFFOLD_CLAIMS: dict[int, Planter] = {
    4: dissociation,
    7: plant({"step": sizes(2.0, 1.0, 0.3), "order": sizes(1.8, 1.8, 0.2)}, 0.3),
    9: plant(
        {"own minus other's": sizes(2.0, 1.0, 0.0), "likelihood": sizes(1.0, 0.0, 0.0), "gained": sizes(1.0, 1.0, 1.0),
         "memory used": sizes(0.5, 0.0, 0.0), "own memory": sizes(1.0, 1.0, 0.0), "chosen lines": sizes(2.0, 2.0, 2.0),
         "unchosen lines": sizes(1.0, 1.0, 1.0)}, 0.4, "a | b"),
    13: destination,
    14: plant(
        {"passed, full": sizes(0.9, 0.9, 0.6), "passed, tone-only": sizes(0.4, 0.7, 0.58),
         "tone, full": sizes(0.5, 0.5, 0.5), "tone, tone-only": sizes(0.5, 0.5, 0.2),
         "tells, full": sizes(0.5, 0.5, 0.5)}, 0.1),
    15: spread,
    16: plant({"full, all": sizes(0.9, 0.6, 0.4), "none, all": sizes(0.4, 0.4, 0.4)}, 0.1),
    17: plant(
        {"context": sizes(1.0, 2.0, 4.0), "mood": sizes(1.0, 1.0, 1.0), "pressure": sizes(1.0, 1.0, 4.0),
         "ambiguity": sizes(1.0, 1.0, 1.0), "scrambled": sizes(5.0, 5.0, 5.0)}, 0.3),
    21: plant(
        {"transcript": sizes(0.3, 0.8, 1.0), "last exchange": sizes(0.2, 0.2, 0.2), "facts": sizes(0.0, 0.0, 0.0),
         "key sentences": sizes(0.4, 0.4, 0.4), "own summary": sizes(0.4, 0.4, 0.4), "size, facts": sizes(0.3, 0.3, 0.3)},
        0.1),
    22: plant(
        {"found": sizes(0.95, 0.8, 0.4), "restored": sizes(0.2, 0.2, 2.0), "attack": sizes(5.0, 5.0, 5.0),
         "chance": sizes(0.3, 0.3, 0.3), "found among all": sizes(0.9, 0.4, 0.2),
         "without identity text": sizes(9.0, 9.0, 9.0), "without an entry, user": sizes(0.5, 0.5, 0.5)}, 0.1),
}  # fmt: skip
