"""The extraction benchmark, small: every way gives the same vectors, and the document has its keys."""

import json
import subprocess
import sys

import numpy as np
import pytest

from experiments.benchmarks import extraction
from experiments.benchmarks.extraction import Config, main

PEERS = ("one_prompt", "one_prompt_no_grad", "batch_16")
OWN = (*extraction.OURS, *PEERS)


@pytest.fixture(scope="module")
def document():
    return main(Config(small=True, fresh=False, ways=(*OWN, *extraction.PACKAGES)))


def test_every_way_gives_the_same_vectors(document):
    assert document["config"]["dtype"] == "float32"
    for way in PEERS:
        assert document["max_abs_diff"][way] < 1e-4 * max(1.0, document["largest_entry"]), way
    assert document["largest_entry"] > 0.01


def test_the_document_has_its_keys_and_says_what_it_left_out(document):
    assert {"floor_s", "lab_s", "peers", "max_abs_diff", "peak_mb"} <= document.keys()
    assert document["peers"].keys() == document["max_abs_diff"].keys() == {*PEERS, *extraction.PACKAGES}
    assert document["peak_mb"].keys() == {"floor", *extraction.LAB, *document["peers"]}
    assert 0 < document["floor_s"] and 0 < document["lab_s"] and 0 < document["lab_decision_s"]
    for way, seconds in document["peers"].items():
        assert (seconds is None) == (way in document["left_out"])
    json.dumps(document)


def test_reading_decisions_too_leaves_the_other_vectors_alone(tmp_path):
    few = Config(small=True, questions=2, scaffold_tokens=40, reply_tokens=(4, 8), dtype="float32")
    case = extraction.make_case(few, tmp_path)
    plain, more = (extraction.measure(way, case)["vectors"] for way in extraction.LAB)
    np.testing.assert_allclose(more, plain, atol=1e-5 * np.abs(plain).max())


def test_unique_tokens_count_each_pole_s_scaffold_once(document):
    tokens = document["tokens"]
    assert tokens["rows"] == 8 and tokens["all"] == tokens["prompts"] + tokens["replies"]
    assert 6 * 40 <= tokens["all"] - tokens["unique"] <= 6 * 70


def test_a_part_of_the_questions_is_multiplied():
    found = main(Config(small=True, fresh=False, peer_questions=2, ways=("floor", "lab", "one_prompt")))
    assert found["scaled"] == 2
    assert found["peers"]["one_prompt"] == 2 * found["runs"]["one_prompt"][0]["wall_s"]
    assert found["max_abs_diff"]["one_prompt"] < 1e-4 * max(1.0, found["largest_entry"])


@pytest.mark.slow
def test_a_way_in_a_process_of_its_own_prints_one_document():
    done = subprocess.run(
        [sys.executable, extraction.__file__, "--small", "--json", "--ways", "floor", "lab"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["peers"] == {} and found["supported"]["one_prompt takes at least 8 times as long"] is False
    assert np.isfinite(found["peak_mb"]["lab"])
