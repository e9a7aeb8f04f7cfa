"""How often does each measure call two unrelated models alike? Rates on simulated null worlds.

In a null world the scaffolds of two models lie in unrelated places, and the same questions move both models,
strongly and alike. A test at 5 % then finds agreement in 5 % of worlds. Its p is exact for any number of
relabelings, so few are drawn: with 19, p = .05 is reached by the largest of 20 only.

A share of variance has another null: the effect is absent while the three others, wordings and reply noise
are all there.

Every trial sees the same worlds (`simulate`), so a rate does not depend on which others are asked for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import stats

from lab.geometry.grids import (
    LayerGrid,
    Measure,
    Orders,
    PairedGrams,
    gram,
    layer_grid,
    relations_by_layer,
)
from lab.geometry.maps import Pair
from lab.geometry.similarity import choose_layers
from lab.records import Split
from lab.records.calibration import Rate
from lab.records.geometry import StateGrid
from lab.stats import benjamini_hochberg, binomial_interval, tally, upper_p

Places = Float[ndarray, "scaffold latent"]
Topics = Float[ndarray, "question topic"]
States = Float[ndarray, "scaffold question d_model"]
TwoModels = tuple[Float[ndarray, "scaffold question d_a"], Float[ndarray, "scaffold question d_b"]]

LEVEL = 0.05
NAN = float("nan")
SCAFFOLDS, QUESTIONS = 9, 6
WIDTHS = (24, 40)


# ------------------------------------------------------------------ worlds


def a_model(
    rng: np.random.Generator, places: Places, questions: int, width: int, topics: Topics | None = None,
    noise: float | Float[ndarray, "scaffold 1 1"] = 1.5, turn: float = 0.4,
) -> States:  # fmt: skip
    """Cells of one layer: scaffolds at their places, in a random frame.

    topics: what a question does to every scaffold, for both models to have in common; turn: how far a question
    turns the places; noise: sd of a reply, one for all or per scaffold.
    """
    latent = places.shape[1]
    embed = rng.normal(size=(latent, width))
    x = (places @ embed)[:, None] + noise * rng.normal(size=(len(places), questions, width))
    x += turn * np.einsum("sr,qrd->sqd", places, rng.normal(size=(questions, latent, width)))
    return x if topics is None else x + topics @ rng.normal(size=(topics.shape[1], width))


def strong_topics(rng: np.random.Generator, questions: int) -> Topics:
    """Effects of the questions several times as large as those of the scaffolds."""
    return 5 * rng.normal(size=(questions, 4))


def null_world(
    rng: np.random.Generator, scaffolds: int = SCAFFOLDS, questions: int = QUESTIONS,
    widths: tuple[int, int] = WIDTHS,
) -> TwoModels:  # fmt: skip
    """Two unrelated geometries under the same strong questions."""
    topics = strong_topics(rng, questions)
    a, b = (a_model(rng, rng.normal(size=(scaffolds, 4)), questions, width, topics) for width in widths)
    return a, b


def searched_world(
    rng: np.random.Generator, layers: int = 4, scaffolds: int = SCAFFOLDS, questions: int = QUESTIONS
) -> tuple[PairedGrams, PairedGrams]:
    """Inner products on (select, test) questions, unrelated at every pair of layers.

    The scaffolds keep their places from one set of questions to the other.
    """
    names, asked = tuple(f"s{i}" for i in range(scaffolds)), tuple(f"q{i}" for i in range(2 * questions))
    topics = strong_topics(rng, len(asked))
    sides = [
        np.stack(
            [
                gram(a_model(rng, rng.normal(size=(scaffolds, 3)), len(asked), width, topics))
                for _ in range(layers)
            ]
        )
        for width in WIDTHS
    ]

    def part(split: Split, use: slice) -> PairedGrams:
        a, b = (x[:, :, use][:, :, :, :, use] for x in sides)
        return PairedGrams("a", "b", split, "as is", names, asked[use], 0, a, b, "")

    return part("select", slice(questions)), part("test", slice(questions, None))


def map_world(
    rng: np.random.Generator, scaffolds: int = 8, questions: tuple[int, int, int] = (2, 2, 3),
    widths: tuple[int, int] = (12, 16),
) -> tuple[list[Pair], Pair]:  # fmt: skip
    """(extract and select pairs, test pair) of a null world."""
    cells = null_world(rng, scaffolds, sum(questions), widths)
    names, made, start = tuple(f"s{i}" for i in range(scaffolds)), [], 0
    splits: tuple[Split, ...] = ("extract", "select", "test")
    for split, n in zip(splits, questions, strict=True):
        asked = tuple(f"{split} {i}" for i in range(n))
        a, b = (
            StateGrid(m, m, "reply_mean", split, names, asked, x[:, None, start : start + n, None])
            for m, x in zip("ab", cells, strict=True)
        )
        made.append((a, b))
        start += n
    return made[:2], made[2]


def landing_world(
    rng: np.random.Generator, shape: tuple[int, int, int] = (10, 3, 8), noise: float = 1.0, **sd: float
) -> Float[ndarray, "model=2 scaffold paraphrase question"]:
    """Landings [2, *shape], the sum of effects with the given standard deviations.

    question, scaffold, weights, both (scaffold x weights) are the four effects, of exactly that size. wording
    and wording_weights belong to a paraphrase; by_question (scaffold x question), weights_question and
    all_three are noise too.
    """
    (s, p, q), sign = shape, np.array([1.0, -1.0])[:, None, None, None]

    def effect(n: int) -> Float[ndarray, " level"]:
        values = rng.normal(size=n)
        return (values - values.mean()) / values.std()

    parts = {
        "question": effect(q),
        "scaffold": effect(s)[:, None, None],
        "weights": sign,
        "both": sign * effect(s)[:, None, None],
        "wording": rng.normal(size=(s, p, 1)),
        "wording_weights": sign * rng.normal(size=(s, p, 1)),
        "by_question": rng.normal(size=(s, 1, q)),
        "weights_question": sign * rng.normal(size=q),
        "all_three": rng.normal(size=(2, s, 1, q)),
    }
    found = noise * rng.normal(size=(2, *shape))
    for name, size in sd.items():
        found = found + size * parts[name]
    return found


# ------------------------------------------------------------------ tests


@dataclass(frozen=True)
class Result:
    """A value and what it is under each relabeling."""

    value: float
    null: Float[ndarray, " draw"] = field(repr=False)

    @property
    def p(self) -> float:
        """As reported: ties count against a finding."""
        return upper_p(self.value, self.null)


def tie_broken(result: Result, rng: np.random.Generator) -> float:
    """p with ties broken at random: exactly uniform under the null, where `upper_p` counts all of them."""
    above, level = tally(result.value, result.null)
    return float((above + rng.random() * (level + 1)) / (len(result.null) + 1))


def fixed_pair(cells: TwoModels, measure: Measure, orders: Orders) -> Result:
    """One layer of each model, fixed in advance."""
    one, other = (relations_by_layer(gram(x)[None], measure) for x in cells)
    grid = layer_grid(one, other, orders)
    return Result(float(grid.values[0, 0]), grid.null[:, 0, 0])


@dataclass(frozen=True)
class Search:
    """The pair of layers chosen on select questions, on test questions.

    chosen: against a null that chooses anew; largest: of the whole grid; fixed: a pair that nobody chose;
    unpaid: the chosen pair against the null of a fixed pair, a mistake.
    """

    chosen: Result
    largest: Result
    fixed: Result
    unpaid: Result


def search(choosing: PairedGrams, telling: PairedGrams, measure: Measure, orders: Orders) -> Search:
    """What a search over layers finds, tested in four ways."""
    at = choose_layers(choosing, measure, orders)
    one, other = (relations_by_layer(x, measure) for x in (telling.a, telling.b))
    grid: LayerGrid = layer_grid(one, other, orders)
    value = float(grid.values[at.layer_a, at.layer_b])
    return Search(
        Result(value, at.null(grid)),
        Result(grid.largest, grid.max_null),
        Result(float(grid.values[1, 1]), grid.null[:, 1, 1]),
        Result(value, grid.null[:, at.layer_a, at.layer_b]),
    )


# ------------------------------------------------------------------ trials


@dataclass(frozen=True)
class Outcome:
    """What a measure says of one world; chance: the mean of its null, NaN where it is not kept."""

    value: float
    p: float
    chance: float = NAN


@dataclass(frozen=True)
class Row:
    """One measure of a trial, as in `lab.records.calibration.Rate`."""

    measure: str
    draws: int
    why: str = ""
    at_most: bool = False
    wrong: bool = False


@dataclass(frozen=True)
class Trial:
    """A null world drawn from the generator, and what its measures say of it, one outcome per row."""

    rows: tuple[Row, ...]
    run: Callable[[np.random.Generator], Sequence[Outcome]] = field(repr=False)


# ------------------------------------------------------------------ rates


def rate(row: Row, outcomes: Sequence[Outcome]) -> Rate:
    """The false-alarm rate of one row over worlds, judged by itself."""
    p = np.array([outcome.p for outcome in outcomes])
    known = ~np.isnan(p)
    n, hits = int(known.sum()), int((p[known] <= LEVEL + 1e-12).sum())
    low, high = binomial_interval(hits, n)
    values, chances = (
        np.array([getattr(outcome, what) for outcome in outcomes])[known] for what in ("value", "chance")
    )
    lost = "" if known.all() else f"{len(p) - n} of {len(p)} worlds gave no p"
    found = Rate(
        row.measure, hits / n if n else NAN, low, high, n, "", row.at_most, float(values.mean()) if n else NAN,
        float(chances.mean()) if n else NAN, row.draws, row.wrong, "; ".join(part for part in (row.why, lost) if part),
        float(stats.binom.sf(hits - 1, n, LEVEL)) if n else NAN,
    )  # fmt: skip
    return judged([found])[0]


def judged(rates: Sequence[Rate]) -> tuple[Rate, ...]:
    """The same rates with q over all of them instead of over each by itself, and the verdict that follows."""
    q = benjamini_hochberg(np.array([found.q for found in rates]))
    return tuple(
        replace(found, q=float(one), verdict=_verdict(found.low, float(one)))
        for found, one in zip(rates, q, strict=True)
    )


def _verdict(low: float, q: float) -> str:
    if np.isnan(low):
        return "cannot tell"
    if low <= LEVEL:
        return "holds"
    return "too many" if q <= LEVEL else "unclear"


def simulate(
    chosen: Sequence[Trial], runs: int, seed: int, progress: Callable[[float], None] = lambda share: None
) -> tuple[Rate, ...]:
    """Rates of all rows of the trials, each judged by itself. World i has the seeds (seed, i) for every trial."""
    found: list[list[Sequence[Outcome]]] = [[] for _ in chosen]
    for i in range(runs):
        progress(i / runs)
        for trial, outcomes in zip(chosen, found, strict=True):
            outcomes.append(trial.run(np.random.default_rng([seed, i])))
    progress(1.0)
    return tuple(
        rate(row, column)
        for trial, outcomes in zip(chosen, found, strict=True)
        for row, column in zip(trial.rows, zip(*outcomes, strict=True), strict=True)
    )
