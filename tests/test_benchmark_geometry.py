"""The geometry benchmark, small: both ways give the same grid where they say the same, and the document has its keys."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from experiments.benchmarks import geometry
from experiments.benchmarks.geometry import Config, lab, main, plain, states
from lab.geometry.cka import CKA
from lab.geometry.grids import relabelings


def test_the_plain_way_on_one_question_gives_our_grid_and_its_null():
    config = Config(layers=(2, 3), widths=(9, 14), scaffolds=8, questions=1)
    rng = np.random.default_rng(0)
    a, b = (states(rng, model, config) for model in (0, 1))
    orders = relabelings(8, 5, rng)
    ours, slow = lab(a, b, CKA, orders), plain(a, b, orders)
    np.testing.assert_allclose(ours.values, slow[0])
    np.testing.assert_allclose(ours.null, slow[1:])


def test_the_document_has_its_keys_and_is_multiplied_as_it_says():
    found = main(Config(small=True, plain_permutations=3))
    assert {"grid_s", "layers", "n", "permutations", "plain_s", "plain_permutations"} <= found.keys()
    assert (found["layers"], found["n"], found["permutations"]) == ([2, 3], 18, 19)
    assert found["plain_permutations"] == 3
    assert found["plain_s"] == pytest.approx(np.median(found["seconds"]["plain"]) * 20 / 4)
    assert found["grid_s"] == np.median(found["seconds"]["CKA"]) > 0
    assert {len(seconds) for seconds in found["seconds"].values()} == {2}
    assert found["supported"] == {"less than 8 s": True}


def test_the_script_prints_one_document():
    done = subprocess.run(
        [sys.executable, geometry.__file__, "--small", "--json", "--runs", "1", "--clock", "cpu"],
        capture_output=True, text=True, check=True, cwd=Path(geometry.__file__).parents[2],
    )  # fmt: skip
    assert json.loads(done.stdout)["config"]["clock"] == "cpu"
