"""What do texts alone make alike? Two models' agreement beside that of untrained networks on the same texts.

Permuting scaffold labels tells agreement from chance. It does not tell it from words: two scaffolds that share
words lie near each other in every network that mixes its input, trained or not, so two networks of random
weights agree far above chance (experiments/random_weights.py). Here each model gets twins with its architecture
and tokenizer and weights drawn anew, which read the same prompts and replies.

With k twins a side there are (k + 1)^2 pairs of a network of A's kind with one of B's. If both models
are untrained, rows and columns of this table are exchangeable and the models' own pair is as likely to be largest
as any other: p = share of pairs with a value as large is exact, and 4 twins can reach .04.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from lab.geometry.fits import Linear, compact, others
from lab.geometry.grids import (
    AS_IS,
    Measure,
    known_questions,
    layer_grams,
    layer_grid,
    peak_layers,
    relations_by_layer,
)
from lab.records.geometry import StateGrid
from lab.records.similarity import NO_LAYER, UntrainedControl
from lab.stats import MIN_CLUSTERS, upper_p

NAN = float("nan")
Networks = Sequence[StateGrid]
"""The model first, then its untrained twins, under one design."""
Table = Float[ndarray, "network_a network_b"]
Layers = Int[ndarray, "network_a network_b 2"]
Grid = Float[ndarray, "layer_a layer_b"]
Trained = tuple[Float[ndarray, "scaffold train d"], Float[ndarray, "scaffold question d"]]


def chosen_layers(select: tuple[Networks, Networks], measure: Measure) -> Layers:
    """The pair of layers that agree most on select, for every pair of networks by itself; NO_LAYER where none can."""
    found = np.full((len(select[0]), len(select[1]), 2), NO_LAYER)
    for (i, j), values in _grids(select, measure).items():
        if not np.isnan(values).all():
            found[i, j] = peak_layers(values)
    return found


def similarities(layers: Layers, test: tuple[Networks, Networks], measure: Measure) -> Table:
    """The measure for every pair of networks at its own layers, on the test questions."""
    return np.array(
        [
            [NAN if NO_LAYER in at else grid[tuple(at)] for at, grid in row]
            for row in _rows(layers, _grids(test, measure))
        ]
    )


def _rows(layers: Layers, grids: Mapping[tuple[int, int], Grid]) -> list[list[tuple[ndarray, Grid]]]:
    return [[(at, grids[i, j]) for j, at in enumerate(row)] for i, row in enumerate(layers)]


def _grids(sides: tuple[Networks, Networks], measure: Measure) -> dict[tuple[int, int], Grid]:
    """The layer grid of every pair of networks, without a null."""
    known = known_questions(*sides[0], *sides[1])
    a, b = ([relations_by_layer(layer_grams(grid, known, AS_IS), measure) for grid in side] for side in sides)
    nothing = np.zeros((0, len(sides[0][0].scaffolds)), dtype=int)
    return {(i, j): layer_grid(a[i], b[j], nothing).values for i, j in np.ndindex(len(a), len(b))}


def map_table(
    train: tuple[Networks, Networks], test: tuple[Networks, Networks], layers: Layers, method: Linear
) -> Table:
    """Held-out R² of the map from every network of the first side to every one of the second, as `map_score`.

    layers [network_a, network_b, 2]: of each pair, so that no pair is favoured; NaN where there is none.
    """
    seen, asked = known_questions(*train[0], *train[1]), known_questions(*test[0], *test[1])

    def prepared(side: int, network: int, layer: int) -> Trained:
        x, x_test = (part[side][network].at(layer) for part in (train, test))
        return compact(x[:, :, seen], x_test[:, :, asked])

    everyone = range(len(test[0][0].scaffolds))
    order = np.arange(len(everyone) - 1)
    found = np.full(layers.shape[:2], NAN)
    pairs = [(i, j) for i, j in np.ndindex(found.shape) if NO_LAYER not in layers[i, j]]
    targets = {}
    for j, layer in dict.fromkeys((j, int(layers[i, j, 1])) for i, j in pairs):
        y, y_test = prepared(1, j, layer)
        actual = np.stack([y_test[s] - others(y_test, s) for s in everyone])
        made = [method.target(np.delete(y, s, axis=0) - others(y, s)) for s in everyone]
        targets[j, layer] = made, actual, (actual**2).sum()
    for i, layer in dict.fromkeys((i, int(layers[i, j, 0])) for i, j in pairs):
        x, x_test = prepared(0, i, layer)
        joins = [method.source(np.delete(x, s, axis=0) - others(x, s)) for s in everyone]
        for j in (j for k, j in pairs if k == i and layers[i, j, 0] == layer):
            made, actual, total = targets[j, int(layers[i, j, 1])]
            errors = (actual[s] - joins[s](made[s], order)(x_test[s] - others(x_test, s)) for s in everyone)
            found[i, j] = 1 - sum((e**2).sum() for e in errors) / total
    return found


def control(
    what: str, table: Table, test: tuple[Networks, Networks], directed: bool = False
) -> UntrainedControl:
    """The record of one table; abstains where a scaffold fails, as the measure itself does."""
    a, b = (side[0] for side in test)
    questions = int(known_questions(*test[0], *test[1]).sum())
    record = {
        "what": what, "source": a.model if directed else "", "target": b.model if directed else "",
        "twins": len(table) - 1, "scaffolds": len(a.scaffolds), "questions": questions, "split": a.split,
    }  # fmt: skip
    value, both = float(table[0, 0]), table[1:, 1:]
    if np.isnan(value) or np.isnan(both).all():
        return UntrainedControl(**record, why="the two models or their untrained twins have no value here")
    known = table[~np.isnan(table)]
    return UntrainedControl(
        **record, value=value, words=float(np.nanmedian(both)), words_high=float(np.nanmax(both)),
        p=upper_p(value, known[1:]),
    )  # fmt: skip


def why_not(scaffolds: int, questions: Mapping[str, int], twins: int) -> str:
    """Why this control cannot be had, or ""."""
    if not twins:
        return "no untrained twins were asked for"
    if scaffolds < MIN_CLUSTERS:
        return f"{scaffolds} scaffolds, and {MIN_CLUSTERS} are needed: add scaffolds"
    few = [f"{n} {split}" for split, n in questions.items() if n < 2]
    return f"{', '.join(few)} questions, and 2 are needed of each: add questions" if few else ""
