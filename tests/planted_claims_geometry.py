"""Simulated observations for the claims about geometry, words, attention and restoring forces."""

import numpy as np
from planted_claims import Planter, Where, noisy

from lab.records.claims import Observation

WORDS = tuple(f"word {i}" for i in range(30))


def read(
    rng: np.random.Generator, models: str, series: str, cluster: str, mean: float, se: float, n: int = 12,
    x: float = float("nan"), null: float = float("nan"),
) -> Observation:  # fmt: skip
    """A value with an interval of its own, off by its standard error."""
    value = float(rng.normal(mean, se))
    return Observation(models, series, cluster, value, x, value - 1.96 * se, value + 1.96 * se, null, n=n)


def collision(rng: np.random.Generator, where: Where) -> list[Observation]:
    """Claim 5: eight cards in two wordings; exactly this share of what they do is the cards' with the weights."""
    share = {"beyond": 0.7, "bar": 0.25, "short": 0.02}[where]
    cards, wordings, questions = 8, 2, 12
    parts = rng.standard_normal((cards, 2))
    alone, crossed = np.linalg.qr(parts - parts.mean(axis=0))[0].T
    rows = [Observation("m | n", "pair", "all", 1.0)]
    asked = rng.normal(0, 0.2, questions)
    for model, sign in (("m", 1.0), ("n", -1.0)):
        at = 2 * (np.sqrt(1 - share) * alone + sign * np.sqrt(share) * crossed) + 0.3 * sign
        for i in range(cards):
            for w in range(wordings):
                told = at[i] + asked + rng.normal(0, 0.3, questions)
                rows += [
                    Observation(model, f"L, warmth, card {i}, {w}", f"q{j}", float(v))
                    for j, v in enumerate(told)
                ]
    return rows


def concepts(rng: np.random.Generator, where: Where) -> list[Observation]:
    """Claim 1: shares of concepts that line up, of those that could; at the bar as near as one in ten."""
    pair, seeds = {"beyond": (-0.1, 0.8), "bar": (0.1, 0.9), "short": (0.6, 0.62)}[where]
    rows, chance, best = [], 0.13, 0.95
    for what, models, share in (
        ("pair", "m | n", pair),
        ("two seeds", "m | m2", seeds),
        ("untrained twins", "t | u", 0),
    ):
        rows.append(Observation(models, f"chance, {what}", "all", chance))
        for name, p in (("lined up", chance + share * (best - chance)), ("ceiling", best)):
            rows += noisy(rng, models, f"{name}, {what}, mood", p, 0.12, clusters=WORDS)
    return rows


def neighbours(rng: np.random.Generator, where: Where) -> list[Observation]:
    """Claim 2: (two models, two seeds) in common; at the bar the models share half of what seeds share in the embedding."""
    shared = {"beyond": (0.1, 0.5), "bar": (0.2, 0.4), "short": (0.45, 0.5)}[where]
    first = {"beyond": (0.1, 0.5), "bar": (0.1, 0.5), "short": (0.45, 0.5)}[where]
    rows = []
    for stage, both in (("embedding", shared), ("first layer", first)):
        for what, mean in zip(("two models", "two seeds"), both, strict=True):
            rows += noisy(rng, "m | n", f"{stage}, {what}, thing", mean, 0.1, clusters=WORDS)
    return rows


def carried(rng: np.random.Generator, where: Where) -> list[Observation]:
    """Claim 3: agreement of loadings and two recoveries one way each; at the bar one recovery is a half."""
    one = {"beyond": 0.1, "bar": 0.5, "short": 0.9}[where]
    other = {"beyond": 0.1, "bar": 0.1, "short": 0.9}[where]
    rows = [read(rng, "m | n", "role loadings, r", "all", other, 0.08, 60, null=0.25)]
    for way, mean in (("m to n", one), ("n to m", other)):
        rows += [read(rng, way, "recovery", t, mean, 0.1) for t in ("warmth", "intimacy")]
        rows += [Observation(way, name, "warmth", 0.1) for name in ("shuffled maps", "other traits")]
    return rows


def attention(rng: np.random.Generator, where: Where) -> list[Observation]:
    """Claim 19: distances of heads; at the bar a quarter further apart than seeds."""
    beyond = {"beyond": 0.8, "bar": 0.25, "short": 0.02}[where]
    seeds, different = 0.2, 0.4
    return [
        read(
            rng, "m | n", "matched heads, two models", "all", seeds * (1 + beyond), 0.005, 10, null=different
        ),
        read(rng, "m | n", "gain of matched heads, two models", "all", 0.04, 0.01, 10),
        Observation("m | m2", "matched heads, two seeds", "all", seeds, null=different),
        read(
            rng,
            "m | n less m2",
            "matched heads beyond the control, two models",
            "all",
            seeds * beyond,
            0.008,
            10,
        ),
    ]


def tokenizers(rng: np.random.Generator, where: Where) -> list[Observation]:
    """Claim 20: share of words that are cut differently, and rank correlation over scaffolds; at the bar .3."""
    share, r = {"beyond": (0.6, 0.95), "bar": (0.6, 0.3), "short": (0.05, -0.5)}[where]
    cut = rng.random(len(WORDS)) < share
    rows = [Observation("m | n", "cut differently", w, float(c)) for w, c in zip(WORDS, cut, strict=True)]
    linear = 2 * np.sin(np.pi * r / 6)
    x, y = rng.multivariate_normal([0, 0], [[1, linear], [linear, 1]], 20).T
    for k, (tokens, size) in enumerate(zip(x, np.exp(y / 2), strict=True)):
        for w in range(4):
            rows.append(
                Observation("m | n", "tokens", f"s{k}/{w}", float(np.exp(tokens) + 0.01 * rng.normal()))
            )
            for trait, angle in (("warmth", 0.0), ("intimacy", np.pi / 2)):
                gap = size * np.cos(w * np.pi / 2 - angle)
                rows.append(Observation("m | n", f"landings, {trait}", f"s{k}/{w}", float(gap)))
    return rows


def grooves(rng: np.random.Generator, where: Where) -> list[Observation]:
    """Claim 18: positions and returns of a model and its base; at the bar the return is a quarter above the base's."""
    place, mine, its = {"beyond": (0.9, 0.9, 0.1), "bar": (0.9, 0.9, 0.65), "short": (0.2, 0.3, 0.25)}[where]
    rows = [
        read(rng, "m", "no scaffold, by projection", "all", place, 0.05),
        read(rng, "m", "no scaffold, by what is said", "all", place, 0.05),
        read(rng, "m", "base, by what is said", "all", 0.0, 0.05),
    ]
    own, other, bare = 1.5, -1.5, 0.8
    for who, start, back in (("m", own, mine), ("b (base)", bare, its)):
        rows += noisy(rng, who, "goes on from its own", start, 0.3)
        rows += noisy(rng, who, "goes on from a foreign beginning", other + back * (start - other), 0.3)
    return rows + noisy(rng, "m", "the other voice throughout", other, 0.3)


def driver(rng: np.random.Generator, where: Where) -> list[Observation]:
    """Claim 8: what is left of a push, and the way back of two traits; at the bar half of the way."""
    left, back = {"beyond": (0.1, 0.9), "bar": (0.1, 0.5), "short": (0.9, 0.1)}[where]
    rows = []
    for trait in ("warmth", "assistant"):
        rows += [read(rng, "m", f"push {way}, {trait}", "all", left, 0.05, x=0.0) for way in ("up", "down")]
        up, down = 1.5, -1.2
        means = (up, down + back * (up - down), up - back * (up - down), down)
        for cell, mean in zip(
            ("up after up", "up after down", "down after up", "down after down"), means, strict=True
        ):
            rows += noisy(rng, "m", f"{cell}, {trait}", mean, 0.4)
    return rows


GEOMETRY_CLAIMS: dict[int, Planter] = {
    1: concepts, 2: neighbours, 3: carried, 5: collision, 8: driver, 18: grooves, 19: attention, 20: tokenizers
}  # fmt: skip
