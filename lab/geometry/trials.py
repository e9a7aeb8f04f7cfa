"""One trial for every measure of agreement that the lab reports, and for mistakes that call anything alike.

The mistakes are named as such and reported nowhere but in `lab calibrate --wrong`:

- *Rows as units.* The value is taken over rows (scaffold x question) and rows are permuted. Questions move all
  rows of both models alike, so unrelated models beat every permutation. Centring questions is not enough:
  rows of one scaffold belong together in both models, so whole scaffolds must be permuted (`lab.geometry.cka`).
- *The training fit.* R² of least squares on the rows it was fitted on, beside rows of the target that were
  permuted after fitting: the fit has seen the true order and no other.
- *A search that is not paid for.* Layers chosen on other questions, held against the null of a fixed pair.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.geometry.calibration import (
    QUESTIONS,
    SCAFFOLDS,
    Outcome,
    Result,
    Row,
    States,
    Trial,
    TwoModels,
    fixed_pair,
    landing_world,
    map_world,
    null_world,
    search,
    searched_world,
    strong_topics,
)
from lab.geometry.cka import CKA, u_centred
from lab.geometry.fits import Method, procrustes, ridge
from lab.geometry.grids import Measure, layer_grid, relabelings, unit_relations
from lab.geometry.maps import map_score
from lab.geometry.neighbours import neighbours
from lab.geometry.relative import relative
from lab.geometry.rsa import RSA
from lab.geometry.shares import SOURCES, agreement, shares

Rows = Float[ndarray, "row d_model"]

DRAWS = 99
"""Relabelings of the scaffolds, and shuffles of landings."""
PAIRINGS = 19
"""Pairings that a map is fitted again for."""
TIED = "few values are possible and ties count against a finding: at most 5 %"
MEASURES = ((CKA, ""), (RSA, ""), (neighbours(3), TIED), (neighbours(5), TIED))
"""With the reason why p is conservative."""
_EFFECTS = {
    "question": "question",
    "scaffold": "scaffold",
    "weights": "weights",
    "scaffold x weights": "both",
}


def told(result: Result) -> Outcome:
    """The outcome of a test whose null is at hand."""
    return Outcome(result.value, result.p, float(result.null.mean()))


def _similarity(measure: Measure, why: str = "") -> tuple[Trial, Trial]:
    tied = bool(why)

    def pair(rng: np.random.Generator) -> list[Outcome]:
        cells = null_world(rng)
        return [told(fixed_pair(cells, measure, relabelings(SCAFFOLDS, DRAWS, rng)))]

    def layers(rng: np.random.Generator) -> list[Outcome]:
        choosing, telling = searched_world(rng)
        found = search(choosing, telling, measure, relabelings(SCAFFOLDS, DRAWS, rng))
        return [told(found.chosen), told(found.largest)]

    names = (f"searched layers, {measure.name}", f"largest of the grid, {measure.name}")
    return (
        Trial((Row(measure.name, DRAWS, why, tied),), pair),
        Trial(tuple(Row(name, DRAWS, why, tied) for name in names), layers),
    )


def _map(method: Method) -> Trial:
    def run(rng: np.random.Generator) -> list[Outcome]:
        train, test = map_world(rng)
        found = map_score(train, test, (0, 0), method, rng, PAIRINGS)
        return [
            Outcome(found.r2, found.p),
            Outcome(found.retrieval, found.retrieval_p, found.null_retrieval),
        ]

    return Trial(
        (
            Row(f"map {method.name}, held-out R²", PAIRINGS),
            Row(f"map {method.name}, retrieval", PAIRINGS, TIED, at_most=True),
        ),
        run,
    )


_PRESENT = {"question": 3.0, "scaffold": 1.0, "weights": 1.0, "both": 1.0}
_NOISE = {"wording": 0.4, "wording_weights": 0.4, "by_question": 0.6, "all_three": 0.6}
_SHARED = {
    "scaffold": "the larger p of two nulls: at most 5 %",
    "scaffold x weights": "the larger p of two nulls: at most 5 %",
    "weights": "swapping models question by question has few patterns and ties count: at most 5 %",
}


def _share(source: str) -> Trial:
    present = {name: size for name, size in _PRESENT.items() if name != _EFFECTS[source]}
    why = _SHARED.get(source, "")

    def run(rng: np.random.Generator) -> list[Outcome]:
        found = shares(landing_world(rng, (8, 2, 6), **present, **_NOISE), "t", rng, DRAWS)
        one = found[SOURCES.index(source)]
        return [Outcome(one.share, one.p, 0.0)]

    return Trial((Row(f"variance share, {source}", DRAWS, why, bool(why)),), run)


def _landings(rng: np.random.Generator) -> list[Outcome]:
    asked = strong_topics(rng, QUESTIONS)[:, 0]
    a, b = (landing_world(rng, (SCAFFOLDS, 2, QUESTIONS), scaffold=1.0, **_NOISE)[0] + asked for _ in "ab")
    found = agreement(a, b, "t", rng, DRAWS)
    return [Outcome(found.r, found.p, 0.0), Outcome(found.rho, found.rho_p, 0.0)]


def trials() -> tuple[Trial, ...]:
    """One of each kind that the lab reports; a fixed pair of layers first, then a search."""
    fixed, over_layers = zip(*(_similarity(*measure) for measure in MEASURES), strict=True)
    agreeing = ("landing agreement, Pearson", "landing agreement, Spearman")
    return (
        *fixed, *over_layers, *(_map(method) for method in (ridge, procrustes, relative)),
        *(_share(source) for source in _EFFECTS), Trial(tuple(Row(name, DRAWS) for name in agreeing), _landings),
    )  # fmt: skip


# ------------------------------------------------------------------ mistakes


def as_rows(cells: States) -> Rows:
    """Rows of all scaffolds and questions, as if they were independent."""
    return cells.reshape(-1, cells.shape[2])


def biased_cka(x: Rows, y: Float[ndarray, "row d_other"]) -> float:
    """Linear CKA of column-centred rows (Kornblith et al. 2019, eq. 3); near 1 as soon as widths exceed rows."""
    x, y = x - x.mean(axis=0), y - y.mean(axis=0)
    lengths = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return float(np.linalg.norm(x.T @ y) ** 2 / lengths)


def least_squares(x: Rows, y: Float[ndarray, "row d_other"]) -> Float[ndarray, "row d_other"]:
    """What least squares, fitted on all rows, says about these same rows."""
    return x @ np.linalg.lstsq(x, y, rcond=None)[0]


def r2(predicted: Rows, y: Rows) -> float:
    """1 − residual / total around 0."""
    return float(1 - ((y - predicted) ** 2).sum() / (y**2).sum())


def _biased(cells: TwoModels, rng: np.random.Generator) -> Result:
    x, y = map(as_rows, cells)
    null = [biased_cka(x, rng.permutation(y)) for _ in range(DRAWS)]
    return Result(biased_cka(x, y), np.array(null))


def _row_wise(cells: TwoModels, rng: np.random.Generator) -> Result:
    """Debiased CKA as it is usual: question-centred rows, each row's own product left out."""
    sides = []
    for x in cells:
        rows = as_rows(x - x.mean(axis=0))
        sides.append(unit_relations(u_centred((rows @ rows.T)[:, :, None]))[None])
    grid = layer_grid(sides[0], sides[1], relabelings(len(sides[0][0]), DRAWS, rng))
    return Result(float(grid.values[0, 0]), grid.null[:, 0, 0])


def _training_fit(cells: TwoModels, rng: np.random.Generator) -> Result:
    x, y = (as_rows(side - side.mean(axis=0)) for side in cells)
    predicted = least_squares(x, y)
    null = [r2(predicted, rng.permutation(y)) for _ in range(DRAWS)]
    return Result(r2(predicted, y), np.array(null))


def _mistake(name: str, why: str, made: Callable[[TwoModels, np.random.Generator], Result]) -> Trial:
    row = Row(f"WRONG: {name}", DRAWS, why, wrong=True)
    return Trial((row,), lambda rng: [told(made(null_world(rng), rng))])


def _unpaid(rng: np.random.Generator) -> list[Outcome]:
    choosing, telling = searched_world(rng)
    return [told(search(choosing, telling, RSA, relabelings(SCAFFOLDS, DRAWS, rng)).unpaid)]


def mistakes() -> tuple[Trial, ...]:
    """What people do; each must call far more than 5 % of unrelated models alike."""
    unpaid = "the null holds still while the layers were chosen"
    return (
        _mistake(
            "biased CKA, rows permuted", "questions are not centred and rows are not the units", _biased
        ),
        _mistake("debiased CKA over rows, rows permuted", "rows of one scaffold belong together", _row_wise),
        _mistake("training R² of least squares", "the target is permuted after the fit", _training_fit),
        Trial((Row(f"WRONG: searched layers, {RSA.name}", DRAWS, unpaid, wrong=True),), _unpaid),
    )
