"""The benchmark of dictionaries, small: both loops end with the same weights, and the numbers are what they say."""

import dataclasses

import numpy as np
import pytest

from experiments.benchmarks import sae
from experiments.benchmarks.sae import Config, main


def test_the_document_has_its_keys_and_both_loops_do_the_same(monkeypatch):
    monkeypatch.setattr(
        sae, "grow", lambda config: {"texts": [1, 10], "peak_mb": [100.0, 120.0], "growth": 0.2}
    )
    found = main(Config(small=True, clock="cpu", expansion=2, k=4))
    training, reading = found["training"], found["reading"]
    assert training["same_weights"]
    assert training["ours_per_s"] == pytest.approx(64 / np.quantile(training["seconds"]["ours"], 0.1))
    ours, theirs = (np.quantile(training["seconds"][name], 0.1) for name in ("ours", "SAELens"))
    assert training["overhead"] == pytest.approx(ours / theirs - 1)
    assert {len(s) for s in training["seconds"].values()} == {2 * (3 - 1)}
    assert {len(s) for s in reading["seconds"].values()} == {2}
    assert reading["coded_per_s"] == pytest.approx(reading["tokens"] / np.median(reading["seconds"]["coded"]))
    assert list(found["supported"].values())[1] is False
    assert found["config"]["k"] == 4 == dataclasses.asdict(Config(k=4))["k"]


def test_streaming_reads_the_whole_corpus(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text("".join(f'{{"text": "tea rain sun Paris {i} {"tea " * 40}"}}\n' for i in range(300)))
    assert sae.stream_all(str(path), 300) > 50
