"""What other recipes would have concluded: the same landings by every estimator, pooling and depth."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy import ndarray

from lab.directions import Contrast
from lab.estimators import ESTIMATORS
from lab.geometry.shares import SOURCES, variance_shares
from lab.landing import Projections, landing_cells
from lab.pipelines.compare import Landed
from lab.pipelines.replies import POOLED
from lab.recipes import make_directions
from lab.records import Position
from lab.records.geometry import MultiverseCell
from lab.stats import correlation

DEPTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
SELECTED = ("mean_difference", "reply_mean")


def multiverse(sides: Sequence[Landed], traits: Sequence[str]) -> tuple[MultiverseCell, ...]:
    """One cell per trait, estimator, pooling and relative depth; and the recipe that the run reports."""
    found = []
    for trait in traits:
        tables = [_tables(side, trait) for side in sides]
        found += [
            _cell(trait, estimator, position, depth, [t[estimator, position][k] for t in tables])
            for estimator, position in tables[0]
            for k, depth in enumerate(DEPTHS)
        ]
        reported = [_reported(side, trait) for side in sides]
        depth = float(np.mean([p.layer / max(1, n - 1) for p, n in reported]))
        cell = _cell(trait, *SELECTED, depth, [landing_cells(p) for p, _ in reported])
        found.append(replace(cell, selected=True))
    return tuple(found)


def _reported(side: Landed, trait: str) -> tuple[Projections, int]:
    """The projections that the run reports, and how many layers there are."""
    p = next(p for p in side.projections if (p.trait, p.position) == (trait, SELECTED[1]))
    return p, side.measured[0].pooled[SELECTED[1]].shape[1]


def _tables(side: Landed, trait: str) -> dict[tuple[str, Position], list[ndarray]]:
    """L [scaffold, paraphrase, question] per estimator and pooling, at each depth."""
    poles = side.made.poles[trait]
    contrasts: dict[Position, Contrast] = {p: poles.of(p, "extract") for p in POOLED}
    found: dict[tuple[str, Position], list[ndarray]] = {}
    for (estimator, position), made in make_directions(contrasts, ESTIMATORS).items():
        template = next(p for p in side.projections if p.trait == trait)
        test = np.array([j.question.split == "test" for j in poles.jobs])
        states = np.concatenate([poles.pooled[position][test], *(m.pooled[position] for m in side.measured)])
        layers = [round(depth * (len(made) - 1)) for depth in DEPTHS]
        found[estimator, position] = [
            landing_cells(
                replace(
                    template, position=position, layer=layer, value=states[:, layer].astype(np.float64) @ made[layer],
                    null_value=np.zeros((len(states), 0)),
                )
            )
            for layer in layers
        ]  # fmt: skip
    return found


def _cell(
    trait: str, estimator: str, position: Position, depth: float, tables: Sequence[ndarray]
) -> MultiverseCell:
    both = np.stack(tables)
    known = ~np.isnan(both).any(axis=(0, 1, 2))
    nan = float("nan")
    if not known.any():
        return MultiverseCell(trait, estimator, position, depth, nan, nan, nan, False)
    a, b = both[..., known].mean(axis=(2, 3))
    shares = dict(zip(SOURCES, variance_shares(both[..., known]).tolist(), strict=True))
    return MultiverseCell(
        trait, estimator, position, depth, float(correlation(a, b, np.ones(len(a)))), shares["scaffold"],
        shares["scaffold x weights"], False,
    )  # fmt: skip
