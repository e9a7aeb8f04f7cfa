"""How long does the whole layer grid with its permutation null take, from two models' states?

Question. Two models of 24 and 28 layers (d = 896 and 2048) under 16 scaffolds x 12 questions, n = 192 rows: every
pair of layers, each under 999 relabelings of the scaffolds. How long for debiased CKA, how long for RSA, and
how long for the plain way?

Ways. *lab*: `paired_grams`, `relations_by_layer`, `layer_grid`. Per relabeling one gather and one product serve all
672 pairs of layers. *plain*: inner products of all rows once per layer; then for every pair of layers and every
permutation one debiased CKA by the usual formula, three HSIC terms (Song et al. 2012, eq. 4; Kornblith et al.
2019). It is timed on `--plain-permutations` and multiplied. It leaves out a row's product with itself only,
so with more than one question its values say something else (`lab.geometry.cka`).

Prediction. CKA's grid takes less than 8 s on 2 cores.

Verdict rule. Supported when the median over `--runs` of the wall seconds says so, refuted otherwise; it holds
for the machine, the threads ("threads") and the load ("load") in the document.

Measured. Seconds from float32 states in memory to the grid with its null; drawing the states is not in it.
`--clock cpu` counts the process's CPU seconds: for a machine that others use too, with one thread. There, two threads
wait for each other at every product, and the wall's seconds say how busy the others are.

Run: OMP_NUM_THREADS=2 python experiments/benchmarks/geometry.py [--json] [--runs 3]     (about a minute)
"""

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from statistics import median
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

from lab.geometry.cka import CKA
from lab.geometry.grids import (
    LayerGrid,
    Measure,
    Orders,
    layer_grid,
    paired_grams,
    relabelings,
    relations_by_layer,
)
from lab.geometry.rsa import RSA
from lab.records.geometry import StateGrid

CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Config:
    """What to time."""

    layers: tuple[int, int] = (24, 28)
    widths: tuple[int, int] = (896, 2048)
    scaffolds: int = 16
    questions: int = 12
    permutations: int = 999
    plain_permutations: int = 1
    """How many the plain way is timed on."""
    runs: int = 3
    clock: str = "wall"
    seed: int = 0
    small: bool = False
    """Few layers and permutations, to try the script."""


def main(config: Config) -> dict[str, Any]:
    """Time all ways by turns; the document that `--json` prints."""
    if config.small:
        config = replace(
            config, layers=(2, 3), widths=(20, 30), scaffolds=6, questions=3, permutations=19, runs=2
        )
    rng = np.random.default_rng(config.seed)
    a, b = (states(rng, model, config) for model in range(2))
    orders = relabelings(config.scaffolds, config.permutations, rng)
    few = orders[: config.plain_permutations]
    seconds: dict[str, list[float]] = {"CKA": [], "RSA": [], "plain": []}
    for _ in range(config.runs):
        for name, measure in (("CKA", CKA), ("RSA", RSA)):
            seconds[name].append(timed(lambda m=measure: lab(a, b, m, orders), config.clock))
        seconds["plain"].append(timed(lambda: plain(a, b, few), config.clock))
    grid_s = median(seconds["CKA"])
    # The pairing itself is worked out beside the permutations.
    plain_s = median(seconds["plain"]) * (1 + config.permutations) / (1 + len(few))
    return {
        "grid_s": grid_s,
        "rsa_grid_s": median(seconds["RSA"]),
        "layers": list(config.layers),
        "widths": list(config.widths),
        "n": config.scaffolds * config.questions,
        "permutations": config.permutations,
        "plain_s": plain_s,
        "plain_permutations": len(few),
        "times_plain": plain_s / grid_s,
        "supported": {"less than 8 s": grid_s < 8},
        "seconds": seconds,
        "threads": sorted({pool["num_threads"] for pool in threadpool_info()}),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "config": asdict(config),
    }


def timed(way: Callable[[], object], clock: str) -> float:
    """Seconds of one call."""
    began = CLOCKS[clock]()
    way()
    return CLOCKS[clock]() - began


def states(rng: np.random.Generator, model: int, config: Config) -> StateGrid:
    """Random float32 states of one model, one wording per scaffold."""
    shape = (config.scaffolds, 1, config.questions, config.layers[model], config.widths[model])
    names = tuple(f"s{i}" for i in range(config.scaffolds))
    asked = tuple(f"q{i}" for i in range(config.questions))
    acts = rng.normal(size=shape).astype(np.float32)
    return StateGrid("ab"[model], "ab"[model], "reply_mean", "test", names, asked, acts)


# ------------------------------------------------------------------ the ways


def lab(a: StateGrid, b: StateGrid, measure: Measure, orders: Orders) -> LayerGrid:
    """From states to the grid with its null."""
    grams = paired_grams(a, b)
    one, other = (relations_by_layer(side, measure) for side in (grams.a, grams.b))
    return layer_grid(one, other, orders)


def plain(a: StateGrid, b: StateGrid, orders: Orders) -> np.ndarray:
    """[1 + draw, layer of a, layer of b]: the pairing first, then each relabeling of b's scaffolds."""
    one, other = ([_rows(grid, layer) for layer in range(grid.layers)] for grid in (a, b))
    questions = len(a.questions)
    found = np.empty((1 + len(orders), len(one), len(other)))
    for draw, order in enumerate([np.arange(len(a.scaffolds)), *orders]):
        rows = (order[:, None] * questions + np.arange(questions)).ravel()
        for i, k in enumerate(one):
            for j, m in enumerate(other):
                found[draw, i, j] = debiased_cka(k, m[np.ix_(rows, rows)])
    return found


def _rows(grid: StateGrid, layer: int) -> np.ndarray:
    """Inner products of all question-centred rows."""
    cells = grid.at(layer).mean(axis=1)
    rows = (cells - cells.mean(axis=0)).reshape(-1, cells.shape[2])
    return rows @ rows.T


def debiased_cka(k: np.ndarray, m: np.ndarray) -> float:
    """From two matrices of inner products [row, row]."""
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    return float(_hsic(k, m) / np.sqrt(_hsic(k, k) * _hsic(m, m)))


def _hsic(k: np.ndarray, m: np.ndarray) -> float:
    """Song et al. 2012, eq. 4, of matrices without their diagonals."""
    n = len(k)
    k_sum, m_sum = k.sum(axis=0), m.sum(axis=0)
    total = k_sum.sum() * m_sum.sum() / ((n - 1) * (n - 2)) - 2 / (n - 2) * (k_sum @ m_sum)
    return float(((k * m).sum() + total) / (n * (n - 3)))


# ------------------------------------------------------------------ the command


def _config(arguments: argparse.Namespace) -> Config:
    given: dict[str, Any] = {f.name: getattr(arguments, f.name, None) for f in fields(Config)}
    chosen: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in given.items() if v is not None
    }
    return Config(**chosen)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--layers", type=int, nargs=2, metavar=("A", "B"))
    parser.add_argument("--widths", type=int, nargs=2, metavar=("A", "B"))
    parser.add_argument("--scaffolds", type=int)
    parser.add_argument("--questions", type=int)
    parser.add_argument("--permutations", type=int)
    parser.add_argument("--plain-permutations", type=int, help="the plain way on this many, multiplied")
    parser.add_argument("--runs", type=int)
    parser.add_argument("--clock", choices=sorted(CLOCKS))
    parser.add_argument("--seed", type=int)
    parser.add_argument("--small", action="store_true", default=None, help="tiny, to try the script")
    return parser.parse_args()


if __name__ == "__main__":
    asked = _arguments()
    document = main(_config(asked))
    print(json.dumps(document, indent=None if asked.json else 2))
