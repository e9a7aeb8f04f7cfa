"""Do the scaffolds of two models lie alike? Layers chosen on some questions, agreement told on others.

    report = compare((select_a, select_b), (test_a, test_b), (CKA, RSA, neighbours(3)), rng)

Every value comes with a permutation null (scaffold labels as whole blocks), an interval over questions, a
ceiling from each model's own reliability, and the null of the maximum for the whole layer grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from scipy.stats import rankdata

from lab.geometry.grids import (
    AS_IS,
    Gram,
    LayerGrid,
    Measure,
    Orders,
    PairedGrams,
    Preparation,
    agreement,
    layer_grid,
    paired_grams,
    pairs,
    peak_layers,
    relabelings,
    relations_by_layer,
)
from lab.geometry.rsa import distances
from lab.records import LabError
from lab.records.geometry import StateGrid, check_pair
from lab.records.similarity import (
    NO_LAYER,
    ChosenGrams,
    Dissimilarity,
    GridCell,
    Similarity,
    SimilarityReport,
)
from lab.stats import MIN_CLUSTERS, cluster_weights, interval, upper_p

NAN = float("nan")
SPLITS = 50
"""How many random halves of the questions a reliability is the mean of."""
Pair = tuple[StateGrid, StateGrid]


@dataclass(frozen=True)
class LayerChoice:
    """A pair of layers, and the pair that the same search finds under each relabeling of the scaffolds.

    orders: the relabelings; found: the layers (of a, of b) chosen under each. Other questions do not make
    a search free: the scaffolds are the same, so a pair of layers that agrees by chance on some questions
    does so on others. The null of a searched pair therefore repeats the search, see `similarity`.
    chosen_on: a split or how it was fixed; questions: those looked at, none for a pair fixed in advance.
    Layers are NO_LAYER when there was nothing to choose from; `why` is the reason.
    """

    layer_a: int
    layer_b: int
    chosen_on: str
    questions: tuple[str, ...]
    orders: Orders = field(repr=False)
    found: Int[ndarray, "draw 2"] = field(repr=False)
    why: str = ""

    def null(self, grid: LayerGrid) -> Float[ndarray, " draw"]:
        """Agreement at the layers found under each relabeling, in a grid made with the same `orders`."""
        return grid.null[np.arange(len(self.found)), self.found[:, 0], self.found[:, 1]]


def halves(a: StateGrid, b: StateGrid, rng: np.random.Generator) -> tuple[Pair, Pair]:
    """((a, b) on a random half of the questions, to choose layers on, (a, b) on the rest, to report).

    The halves are called "select" and "test". For designs without a select split. Raises LabError where the
    designs differ.
    """
    check_pair(a, b)
    order = rng.permutation(len(a.questions))
    middle = len(order) // 2

    def part(grid: StateGrid, index: ndarray) -> StateGrid:
        names = tuple(grid.questions[i] for i in index)
        return replace(grid, questions=names, acts=grid.acts[:, :, index])

    first, rest = np.sort(order[:middle]), np.sort(order[middle:])
    return (
        (replace(part(a, first), split="select"), replace(part(b, first), split="select")),
        (replace(part(a, rest), split="test"), replace(part(b, rest), split="test")),
    )


def choose_layers(grams: PairedGrams, measure: Measure, orders: Orders) -> LayerChoice:
    """The pair of layers that agree most on these questions, and most under each relabeling of them."""
    why = grams.why or _too_few(grams, measure)
    if not why:
        grid = _grid(grams, measure, orders)
        if grid.known:
            (a, b), found = peak_layers(grid.values), peak_layers(grid.null)
            return LayerChoice(int(a), int(b), grams.split, grams.questions, orders, found)
        why = f"at no pair of layers do the scaffolds differ in both models on the {grams.split} questions"
    nothing = np.full((len(orders), 2), NO_LAYER)
    return LayerChoice(NO_LAYER, NO_LAYER, grams.split, grams.questions, orders, nothing, why)


def at_depth(grams: PairedGrams, share: float, orders: Orders) -> LayerChoice:
    """The layers at one relative depth (0 first, 1 last) of both models: fixed in advance, not searched.

    Raises LabError for a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise LabError(f"expected a relative depth between 0 and 1, got {share}")
    a, b = (round(share * (len(side) - 1)) for side in (grams.a, grams.b))
    return LayerChoice(a, b, "relative depth", (), orders, np.tile([a, b], (len(orders), 1)))


# ------------------------------------------------------------------ one measure


def reliability(gram: Gram, measure: Measure, rng: np.random.Generator, splits: int = SPLITS) -> float:
    """A model's agreement with itself on disjoint halves of the questions, stepped up by the measure.

    Mean over random halves, no lower than 0, then `measure.step_up`. The halves share no question (CKA pairs
    theirs at random), so what a model does on one question only counts as noise. NaN below 4 questions or
    where the layer does not vary.
    """
    questions = gram.shape[1]
    if questions < 4:
        return NAN
    found = []
    for _ in range(splits):
        order = rng.permutation(questions)
        one, other = order[: questions // 2], order[questions // 2 : 2 * (questions // 2)]
        found.append(agreement(*(measure.relate(gram[:, h][:, :, :, h]) for h in (one, other))))
    return float(measure.step_up(max(0.0, float(np.mean(found)))))


def question_interval(
    a: Gram, b: Gram, value: float, measure: Measure, rng: np.random.Generator, resamples: int
) -> tuple[float, float]:
    """95 % cluster bootstrap over questions, the scaffolds fixed: (low, high), within [−1, 1].

    The draws are moved so that their mean is the value: a resample holds about two thirds of the questions,
    so its distances are noisier and agree less. Simulated with 6 or 12 questions (five designs), the
    expanded percentile interval of the moved draws covers .93 to .99, of the unmoved .79 to 1. NaN below
    MIN_CLUSTERS questions.
    """
    questions = a.shape[1]
    draws = measure.resampled(a, b, cluster_weights([np.arange(questions)], resamples, rng))
    if np.isnan(value) or np.isnan(draws).all():
        return NAN, NAN
    low, high = interval(draws + value - np.nanmean(draws), questions)
    return float(np.clip(low, -1, 1)), float(np.clip(high, -1, 1))


def _too_few(grams: PairedGrams, measure: Measure) -> str:
    n = len(grams.scaffolds)
    return "" if n >= measure.least else f"{measure.name} needs {measure.least} scaffolds and there are {n}"


def _grid(grams: PairedGrams, measure: Measure, orders: Orders) -> LayerGrid:
    a, b = (relations_by_layer(side, measure) for side in (grams.a, grams.b))
    return layer_grid(a, b, orders)


def _check_apart(grams: PairedGrams, at: LayerChoice) -> None:
    shared = set(at.questions) & set(grams.questions)
    if shared or at.chosen_on == grams.split:
        raise LabError(
            f"expected layers chosen on other questions than the {grams.split} questions they are reported on, "
            f"got {len(shared)} in common, chosen on {at.chosen_on}; choose on a select split or on `halves`"
        )


def similarity(
    grams: PairedGrams, measure: Measure, at: LayerChoice, rng: np.random.Generator, resamples: int = 1000
) -> tuple[Similarity, tuple[GridCell, ...]]:
    """Agreement at the chosen pair of layers, and the whole grid with its nulls.

    p and null_high of the pair come from a null that chooses anew under each of `at.orders` and reads these
    questions where it chose. Simulated on 4 x 4 unrelated layers, the null of a fixed pair would call 22 to
    44 % of unrelated models alike at 5 %, although the pair was chosen on other questions; this one 3 to 6 %.
    Abstains (NaN, no cells, and why) below 5 scaffolds or 2 common questions. Raises LabError for layers
    that were chosen on the questions reported on.
    """
    _check_apart(grams, at)
    why = at.why or grams.why or _too_few(grams, measure)
    if why:
        return _record(grams, measure, at, {}, why), ()
    grid = _grid(grams, measure, at.orders)
    cells = _cells(measure, grid)
    value = float(grid.values[at.layer_a, at.layer_b])
    if np.isnan(value):
        why = f"the scaffolds do not differ at layer {at.layer_a} of {grams.model_a} or {at.layer_b} of {grams.model_b}"
        return _record(grams, measure, at, {}, why), cells
    a, b, null = grams.a[at.layer_a], grams.b[at.layer_b], at.null(grid)
    low, high = question_interval(a, b, value, measure, rng, resamples)
    own_a, own_b = reliability(a, measure, rng), reliability(b, measure, rng)
    found = {
        "value": value, "low": low, "high": high,
        "p": upper_p(value, null), "null_high": float(np.nanquantile(null, 0.95)),
        "largest": grid.largest, "p_max": upper_p(grid.largest, grid.max_null),
        "max_high": float(np.quantile(grid.max_null, 0.95)),
        "reliability_a": own_a, "reliability_b": own_b, "ceiling": float(np.sqrt(own_a * own_b)),
    }  # fmt: skip
    return _record(grams, measure, at, found, _few_questions(grams)), cells


def _few_questions(grams: PairedGrams) -> str:
    n = len(grams.questions)
    lacks = "interval" if n == 4 else "interval and no ceiling"
    return "" if n >= MIN_CLUSTERS else f"{n} questions give no {lacks}: add questions"


def _record(
    grams: PairedGrams, measure: Measure, at: LayerChoice, found: dict[str, float], why: str
) -> Similarity:
    names = (
        "value", "low", "high", "p", "null_high", "largest", "p_max", "max_high", "reliability_a",
        "reliability_b", "ceiling",
    )  # fmt: skip
    return Similarity(
        measure.name, grams.model_a, grams.model_b, at.layer_a, at.layer_b,
        **{name: found.get(name, NAN) for name in names},
        scaffolds=len(grams.scaffolds), questions=len(grams.questions), dropped=grams.dropped, draws=len(at.orders),
        split=grams.split, chosen_on=at.chosen_on, prepared=grams.prepared, why=why,
    )  # fmt: skip


def _cells(measure: Measure, grid: LayerGrid) -> tuple[GridCell, ...]:
    high = np.quantile(grid.null, 0.95, axis=0)
    return tuple(
        GridCell(measure.name, a, b, float(grid.values[a, b]), float(high[a, b]))
        for a, b in np.ndindex(grid.values.shape)
    )


# ------------------------------------------------------------------ all of it


def dissimilarities(
    model: str, layer: int, scaffolds: tuple[str, ...], gram: Gram
) -> tuple[Dissimilarity, ...]:
    """Crossnobis distance of every pair of scaffolds, in units of their root mean square, and its rank."""
    first, second = pairs(len(scaffolds))
    found: Float[ndarray, " pair"] = distances(gram)[first, second]
    size = float(np.sqrt((found**2).mean()))
    ranks = (rankdata(found) - 1) / (len(found) - 1) if size > 0 else np.full(len(found), NAN)
    values = found / size if size > 0 else np.full(len(found), NAN)
    return tuple(
        Dissimilarity(model, layer, scaffolds[s], scaffolds[t], float(value), float(rank))
        for s, t, value, rank in zip(first, second, values, ranks, strict=True)
    )


def compare(
    select: Pair, test: Pair, measures: Sequence[Measure], rng: np.random.Generator,
    prepare: Preparation = AS_IS, draws: int = 999, resamples: int = 1000,
) -> SimilarityReport:  # fmt: skip
    """Every measure with layers chosen on the select grids and reported on the test grids (A, B each).

    Dissimilarities are of the test questions, at each layer that a measure chose. Raises LabError where
    designs differ, select and test share questions or do not share models and scaffolds.
    """
    for one, other in zip(select, test, strict=True):
        if (one.model, one.fingerprint, one.scaffolds) != (other.model, other.fingerprint, other.scaffolds):
            raise LabError(
                f"expected select and test states of one model under the same scaffolds, got {one.model} with "
                f"{len(one.scaffolds)} and {other.model} with {len(other.scaffolds)} scaffolds"
            )
    choosing, telling = paired_grams(*select, prepare), paired_grams(*test, prepare)
    orders = relabelings(len(telling.scaffolds), draws, rng)
    choices = [choose_layers(choosing, measure, orders) for measure in measures]
    found = [
        similarity(telling, measure, at, rng, resamples)
        for measure, at in zip(measures, choices, strict=True)
    ]
    wanted = dict.fromkeys(
        side
        for at in choices
        if at.layer_a != NO_LAYER and not telling.why
        for side in ((0, at.layer_a), (1, at.layer_b))
    )
    names, grams = (telling.model_a, telling.model_b), (telling.a, telling.b)
    kept = tuple(
        ChosenGrams(measure.name, telling.questions, telling.a[at.layer_a], telling.b[at.layer_b])
        for measure, at in zip(measures, choices, strict=True)
        if at.layer_a != NO_LAYER and not telling.why
    )
    return SimilarityReport(
        tuple(summary for summary, _ in found),
        tuple(cell for _, cells in found for cell in cells),
        tuple(
            row
            for side, layer in wanted
            for row in dissimilarities(names[side], layer, telling.scaffolds, grams[side][layer])
        ),
        kept,
    )
