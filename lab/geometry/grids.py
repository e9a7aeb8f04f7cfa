"""From states to relations between scaffolds, and the layer x layer grid of agreement with its null.

Every measure here is one thing: the cosine between two arrays of relations [scaffold, scaffold, feature]
over unordered pairs of scaffolds, each feature of which sums to 0 over ordered pairs. Relabeling the
scaffolds of one model as whole blocks permutes pairs and changes no length, so a null draw costs one gather
and one matrix product, and the mean over all relabelings is exactly 0: chance needs no simulation.

A layer enters as the inner products of its question-centred states, so nothing depends on rotation or
reflection, and what all scaffolds share on a question is gone before anything is measured.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from lab.records import LabError, Split
from lab.records.geometry import StateGrid, check_pair
from lab.stats import MIN_CLUSTERS, average

Cells = Float[ndarray, "scaffold question d_model"]
Kept = Float[ndarray, "scaffold question d_kept"]
Gram = Float[ndarray, "scaffold question scaffold question"]
Grams = Float[ndarray, "layer scaffold question scaffold question"]
KeptGrams = Float[ndarray, "layer scaffold kept scaffold kept"]
Relations = Float[ndarray, "scaffold scaffold feature"]
LayersA = Float[ndarray, "layer_a scaffold scaffold feature"]
LayersB = Float[ndarray, "layer_b scaffold scaffold feature"]
Orders = Int[ndarray, "draw scaffold"]
Weights = Float[ndarray, "draw question"]

MASSIVE = 100.0
"""`WITHOUT_MASSIVE` leaves out dimensions with more than this many times the median variance."""


@dataclass(frozen=True)
class Preparation:
    """What is done to one layer's states [scaffold, question, d_model] before they are compared."""

    name: str
    apply: Callable[[Cells], Kept] = field(repr=False)


@dataclass(frozen=True)
class Measure:
    """One measure of agreement, as three functions.

    relate(gram): relations, each feature summing to 0 over ordered pairs and [s, t] holding the same
    numbers as [t, s] in some order. resampled(gram_a, gram_b, weights [draw, question]): the agreement with
    each question counted as often as its weight says; weights of 1 give the value itself. step_up(r): what
    a reliability r of halves makes for all questions. least: the fewest scaffolds it is defined for.
    """

    name: str
    relate: Callable[[Gram], Relations] = field(repr=False)
    resampled: Callable[[Gram, Gram, Weights], Float[ndarray, " draw"]] = field(repr=False)
    step_up: Callable[[float], float] = field(repr=False)
    least: int = MIN_CLUSTERS


# ------------------------------------------------------------------ states


def _without_massive(cells: Cells) -> Kept:
    variance = ((cells - cells.mean(axis=0)) ** 2).mean(axis=(0, 1))
    alive = variance[variance > 0]
    return cells if alive.size == 0 else cells[:, :, variance <= MASSIVE * np.median(alive)]


def _in_noise_units(cells: Cells) -> Kept:
    off = cells - cells.mean(axis=0)
    noise = np.sqrt(((off - off.mean(axis=1, keepdims=True)) ** 2).mean(axis=(0, 1)))
    alive = noise > 1e-9 * np.sqrt((cells**2).mean(axis=(0, 1)))
    return cells[:, :, alive] / noise[alive]


AS_IS = Preparation("as is", lambda cells: cells)
"""States as they come: all measures ignore rotation, isotropic scale and what all scaffolds share."""
WITHOUT_MASSIVE = Preparation("without massive dimensions", _without_massive)
"""Without the dimensions whose question-centred variance is above MASSIVE times the median. A massive
dimension does not fool a measure (its null is as wide), but it can be all that the measure sees: show both."""
NOISE_UNITS = Preparation("in noise units", _in_noise_units)
"""Each dimension in standard deviations of its scaffold x question residual: crossnobis with a diagonal
noise matrix (Walther et al. 2016). Depends on the basis, so rotation changes it."""


def known_questions(*grids: StateGrid) -> Bool[ndarray, " question"]:
    """Where every scaffold has at least one paraphrase without NaN, at all layers of all grids."""
    return np.asarray(np.stack([_has_state(grid).all(axis=0) for grid in grids]).all(axis=0))


def _has_state(grid: StateGrid) -> Bool[ndarray, "scaffold question"]:
    failed = np.zeros(grid.acts.shape[:3], dtype=bool)
    for layer in range(grid.layers):
        failed |= np.isnan(grid.acts[:, :, :, layer]).any(axis=-1)
    return np.asarray(~failed.all(axis=1))


def gram(cells: Cells) -> Gram:
    """Inner products of question-centred states, [s, q, t, r] = <x_sq − mean_s x_q, x_tr − mean_s x_r>.

    All zeros where scaffolds differ by no more than rounding. Raises LabError for infinite values.
    """
    scaffolds, questions, _ = cells.shape
    if not np.isfinite(cells).all():
        raise LabError("expected finite states, got infinite ones; read the model in float32 or bfloat16")
    rows = (cells - cells.mean(axis=0)).reshape(scaffolds * questions, -1)
    if (rows**2).sum() <= 1e-18 * (cells**2).sum():
        rows = np.zeros_like(rows)
    return (rows @ rows.T).reshape(scaffolds, questions, scaffolds, questions)


@dataclass(frozen=True)
class PairedGrams:
    """Both models' inner products at every layer, under one design: all that a measure needs.

    questions: those used; dropped: how many were left out. why: "" or the reason to abstain.
    """

    model_a: str
    model_b: str
    split: Split
    prepared: str
    scaffolds: tuple[str, ...]
    questions: tuple[str, ...]
    dropped: int
    a: Float[ndarray, "layer_a scaffold question scaffold question"] = field(repr=False)
    b: Float[ndarray, "layer_b scaffold question scaffold question"] = field(repr=False)
    why: str


def paired_grams(a: StateGrid, b: StateGrid, prepare: Preparation = AS_IS) -> PairedGrams:
    """Inner products of two models' cells; a cell is the mean over its paraphrases without NaN.

    A question on which some scaffold has no paraphrase left in one model is dropped for both, so the design
    stays balanced. Raises LabError where the designs differ. Memory: 8 (scaffolds x questions)^2 bytes a
    layer.
    """
    check_pair(a, b)
    known = known_questions(a, b)

    questions = tuple(q for q, use in zip(a.questions, known, strict=True) if use)
    return PairedGrams(
        a.model, b.model, a.split, prepare.name, a.scaffolds, questions, int((~known).sum()),
        layer_grams(a, known, prepare), layer_grams(b, known, prepare), _too_small(a, b, known),
    )  # fmt: skip


def layer_grams(grid: StateGrid, known: Bool[ndarray, " question"], prepare: Preparation) -> KeptGrams:
    if not known.any():
        return np.zeros((grid.layers, len(grid.scaffolds), 0, len(grid.scaffolds), 0))
    cells = (np.asarray(average(grid.at(layer), 1))[:, known] for layer in range(grid.layers))
    return np.stack([gram(prepare.apply(x)) for x in cells])


def _too_small(a: StateGrid, b: StateGrid, known: Bool[ndarray, " question"]) -> str:
    if len(a.scaffolds) < MIN_CLUSTERS:
        return (
            f"{len(a.scaffolds)} scaffolds cannot be told from chance by permuting their labels; "
            f"at least {MIN_CLUSTERS} are needed and 8 or more are the aim"
        )
    if known.sum() >= 2:
        return ""
    failures = (~_has_state(a)).sum(axis=1) + (~_has_state(b)).sum(axis=1)
    return (
        f"{known.sum()} of {len(known)} questions have a state for every scaffold in both models and 2 are "
        f"needed; replies failed most often under the scaffold {a.scaffolds[int(failures.argmax())]}"
    )


# ------------------------------------------------------------------ agreement and its null


def pairs(scaffolds: int) -> tuple[Int[ndarray, " pair"], Int[ndarray, " pair"]]:
    """Indices (s, t), s < t, of all unordered pairs."""
    first, second = np.triu_indices(scaffolds, 1)
    return first, second


def unit_relations(relations: Relations) -> Relations:
    """Divided by their length over unordered pairs; NaN where they do not vary."""
    first, second = pairs(len(relations))
    length = np.sqrt((relations[first, second] ** 2).sum())
    return relations / length if length > 0 else np.full_like(relations, np.nan)


def agreement(a: Relations, b: Relations) -> float:
    """Cosine over unordered pairs of scaffolds: 1 identical, 0 chance; NaN where one side does not vary."""
    first, second = pairs(len(a))
    return float((unit_relations(a)[first, second] * unit_relations(b)[first, second]).sum())


def relabelings(scaffolds: int, draws: int, rng: np.random.Generator) -> Orders:
    """Uniform random permutations of the scaffold labels."""
    return np.argsort(rng.random((draws, scaffolds)), axis=1)


def relations_by_layer(grams: Grams, measure: Measure) -> Float[ndarray, "layer scaffold scaffold feature"]:
    """Relations of unit length at every layer."""
    return np.stack([unit_relations(measure.relate(one)) for one in grams])


def peak_layers(values: Float[ndarray, "*draw layer_a layer_b"]) -> Int[ndarray, "*draw 2"]:
    """The pair of layers with the largest value, NaN left out; of equal ones (to six decimals) the middlemost.

    A model held against itself where nothing is sampled agrees by 1 at every layer, also where it hardly tells
    scaffolds apart. ValueError where all values are NaN.
    """
    shape = values.shape[-2:]
    rows, columns = (np.abs(np.arange(n) - (n - 1) / 2) for n in shape)
    order = np.argsort((rows[:, None] + columns).ravel(), kind="stable")
    flat = values.reshape(*values.shape[:-2], len(order))[..., order].round(6)
    return np.stack(np.unravel_index(order[np.nanargmax(flat, axis=-1)], shape), axis=-1)


@dataclass(frozen=True)
class LayerGrid:
    """Agreement at every pair of layers and under every relabeling; NaN where a layer does not vary."""

    values: Float[ndarray, "layer_a layer_b"]
    null: Float[ndarray, "draw layer_a layer_b"] = field(repr=False)

    @property
    def largest(self) -> float:
        """The largest value of the grid."""
        return float(np.nanmax(self.values)) if self.known else float("nan")

    @property
    def known(self) -> bool:
        """Whether any cell has a value."""
        return bool((~np.isnan(self.values)).any())

    @property
    def max_null(self) -> Float[ndarray, " draw"]:
        """The largest value of the grid under each relabeling: what a search over layers finds by chance."""
        flat = self.null.reshape(len(self.null), -1)
        return np.nanmax(flat, axis=1) if self.known else np.full(len(flat), np.nan)


def layer_grid(a: LayersA, b: LayersB, orders: Orders) -> LayerGrid:
    """Agreement of unit relations at all layer pairs, and its null, one relabeling for the whole grid.

    Cost of a draw: one gather of b's pairs and one product [layer_a, pair x feature] x [pair x feature,
    layer_b]. Only unordered pairs are summed: [t, s] holds the numbers of [s, t] once more.
    """
    scaffolds, features = a.shape[1], a.shape[3]
    first, second = pairs(scaffolds)
    left = np.ascontiguousarray(a[:, first, second]).reshape(len(a), -1)
    right = np.ascontiguousarray(b.transpose(1, 2, 3, 0)).reshape(scaffolds**2, features * len(b))
    picked = np.empty((len(first), features * len(b)))

    def product(order: Int[ndarray, " scaffold"], out: Float[ndarray, "layer_a layer_b"]) -> None:
        np.take(right, order[first] * scaffolds + order[second], axis=0, out=picked, mode="clip")
        np.matmul(left, picked.reshape(-1, len(b)), out=out)

    values, null = np.empty((len(a), len(b))), np.empty((len(orders), len(a), len(b)))
    product(np.arange(scaffolds), values)
    for order, out in zip(orders, null, strict=True):
        product(order, out)
    return LayerGrid(values, null)
