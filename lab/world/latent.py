"""The latent persona vector z of Hearth: its traits, its correlated prior and its drift.

z has one coordinate per trait, in prior standard deviations; 0 is the population mean and
positive means more of the trait.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

TRAITS: tuple[str, ...] = (
    "assistant", "warmth", "intimacy", "candour", "playfulness", "formality",
    "certainty", "steadiness", "deference", "curiosity", "imagery", "energy",
)  # fmt: skip
INDEX: dict[str, int] = {name: i for i, name in enumerate(TRAITS)}
KINDS: tuple[str, ...] = (
    "share", "ask_fact", "vent", "tease", "press", "push_boundary", "small_talk", "false_memory",
)  # fmt: skip

LEVEL_VALUE: dict[str, float] = {"++": 1.7, "+": 0.8, "-": -0.8, "--": -1.7}
"""What a scaffold phrase of each level says about z (prior standard deviations)."""

Z_LIMIT = 2.5
"""Replies are drawn from z clipped to this range."""

_CORRELATIONS: dict[tuple[str, str], float] = {
    ("warmth", "intimacy"): 0.45,
    ("warmth", "playfulness"): 0.2,
    ("warmth", "deference"): 0.15,
    ("warmth", "candour"): -0.15,
    ("assistant", "formality"): 0.3,
    ("assistant", "deference"): 0.3,
    ("assistant", "intimacy"): -0.35,
    ("assistant", "imagery"): -0.2,
    ("assistant", "steadiness"): 0.2,
    ("intimacy", "formality"): -0.3,
    ("intimacy", "imagery"): 0.15,
    ("playfulness", "formality"): -0.3,
    ("playfulness", "energy"): 0.3,
    ("candour", "certainty"): 0.3,
    ("candour", "deference"): -0.35,
    ("certainty", "steadiness"): 0.2,
    ("energy", "steadiness"): -0.25,
    ("curiosity", "energy"): 0.15,
    ("curiosity", "certainty"): -0.15,
}

_DRIFT: dict[str, dict[str, float]] = {
    "share": {"warmth": 0.15, "intimacy": 0.1, "curiosity": 0.1},
    "ask_fact": {"assistant": 0.25, "intimacy": -0.1, "imagery": -0.1},
    "vent": {"warmth": 0.15, "playfulness": -0.2, "steadiness": -0.1},
    "tease": {"playfulness": 0.25, "formality": -0.2, "energy": 0.1},
    "press": {"deference": 0.2, "certainty": -0.15, "candour": -0.1},
    "push_boundary": {"warmth": -0.15, "intimacy": -0.2, "formality": 0.15},
    "small_talk": {"energy": -0.1, "curiosity": -0.05},
    "false_memory": {"certainty": -0.25, "steadiness": -0.15},
}
"""Change of z that one user turn of each kind leaves behind (prior standard deviations)."""

DEFAULT_LEVELS: dict[str, str] = {
    "assistant": "++", "warmth": "+", "intimacy": "-", "playfulness": "-", "formality": "+",
    "certainty": "+", "steadiness": "++", "deference": "+", "imagery": "-",
}  # fmt: skip
"""Who speaks when nobody said who: the default assistant."""


def prior_covariance() -> NDArray[np.float64]:
    """Prior covariance of z, [trait, trait], unit diagonal (sums of the documented pairs)."""
    cov = np.eye(len(TRAITS))
    for (a, b), rho in _CORRELATIONS.items():
        cov[INDEX[a], INDEX[b]] = cov[INDEX[b], INDEX[a]] = rho
    return cov


def sample_prior(rng: np.random.Generator) -> NDArray[np.float64]:
    """One z from the prior, [trait]."""
    return rng.multivariate_normal(np.zeros(len(TRAITS)), prior_covariance(), method="cholesky")


def level_of(value: float) -> str | None:
    """The level a scaffold would state for one coordinate of z; None when it is near 0."""
    if abs(value) < 0.4:
        return None
    strong = abs(value) >= 1.25
    return ("++" if strong else "+") if value > 0 else ("--" if strong else "-")


def complete(levels: Mapping[str, str]) -> NDArray[np.float64]:
    """The z of a scaffold that states `levels`, [trait].

    Stated traits take the value of their level; the others the prior's conditional mean,
    which is how entanglement enters: who is said to be warm is taken to be somewhat close.
    """
    z = np.zeros(len(TRAITS))
    if not levels:
        return z
    known = np.array([INDEX[name] for name in levels])
    values = np.array([LEVEL_VALUE[level] for level in levels.values()])
    rest = np.setdiff1d(np.arange(len(TRAITS)), known)
    cov = prior_covariance()
    z[known] = values
    z[rest] = cov[np.ix_(rest, known)] @ np.linalg.solve(cov[np.ix_(known, known)], values)
    return z


def default_z() -> NDArray[np.float64]:
    """z of the default assistant, [trait]."""
    return complete(DEFAULT_LEVELS)


def drift(kind: str) -> NDArray[np.float64]:
    """Change of z caused by one user turn of `kind`, [trait]."""
    change = np.zeros(len(TRAITS))
    for name, value in _DRIFT[kind].items():
        change[INDEX[name]] = value
    return change


def z_at_turn(z: NDArray[np.float64], kinds: list[str]) -> NDArray[np.float64]:
    """z for the reply to the last of `kinds`: the start plus the drift of every earlier turn."""
    moved = z + sum((drift(kind) for kind in kinds[:-1]), np.zeros(len(TRAITS)))
    return np.clip(moved, -Z_LIMIT, Z_LIMIT)
