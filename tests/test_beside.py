"""One pair of models beside another: what differs is found, what does not is found at the stated rate."""

from dataclasses import replace

import numpy as np
import pytest
from fake_geometry import fake_geometry
from scipy.stats import binom, ortho_group

from lab.geometry.beside import beside
from lab.geometry.cka import CKA
from lab.geometry.grids import gram
from lab.geometry.rsa import RSA
from lab.pipelines.beside import beside as job
from lab.pipelines.beside import check_designs
from lab.pipelines.geometry_runs import save_geometry
from lab.records import LabError
from lab.records.similarity import ChosenGrams
from lab.store import Store

QUESTIONS = tuple(f"q{i}" for i in range(12))


def seen(rng, places, noise=1.0, width=24):
    """One model's inner products: `places` [scaffold, r] without distortion, each question turned a little."""
    embed = ortho_group.rvs(width, random_state=rng)[: places.shape[1]] * np.sqrt(width)
    x = (places @ embed)[:, None] + noise * rng.normal(size=(len(places), len(QUESTIONS), width))
    return gram(x + 0.3 * np.einsum("sr,qrd->sqd", places, rng.normal(size=(12, places.shape[1], width))))


def pair(rng, one, other):
    return [ChosenGrams(m.name, QUESTIONS, seen(rng, one), seen(rng, other)) for m in (CKA, RSA)]


def test_a_pair_that_is_less_alike_is_outside_and_the_signs_turn_with_the_reference():
    rng = np.random.default_rng(0)
    places = rng.normal(size=(10, 4))
    same, changed = pair(rng, places, places), pair(rng, places, places + 1.2 * rng.normal(size=places.shape))
    for row in beside("spawn", changed, same, (CKA, RSA), rng):
        assert row.outside and row.verdict == "less alike than the reference pair"
        assert row.low < row.difference < row.high < 0
        assert row.value + 1e-12 - row.reference == pytest.approx(row.difference)
    for row in beside("spawn", same, changed, (CKA, RSA), rng):
        assert not row.outside and row.verdict.startswith("more alike")


def test_pairs_that_are_equally_alike_are_called_less_alike_at_most_at_the_stated_rate():
    rng, worlds = np.random.default_rng(1), 120
    hits = np.zeros(2)
    for _ in range(worlds):
        places = rng.normal(size=(8, 3))
        other = places + 0.4 * rng.normal(size=places.shape)
        one, two = pair(rng, places, other), pair(rng, places, other)
        hits += [r.outside for r in beside("spawn", one, two, (CKA, RSA), rng, draws=200)]
    assert (hits <= binom.ppf(0.995, worlds, 0.025)).all(), hits


def test_only_common_questions_count_and_too_few_abstain():
    rng = np.random.default_rng(2)
    places = rng.normal(size=(8, 3))
    one = pair(rng, places, places)
    few = [replace(g, questions=(*QUESTIONS[:4], *(f"r{i}" for i in range(8)))) for g in one]
    (row, _) = beside("spawn", one, few, (CKA, RSA), rng)
    assert (row.questions, row.verdict) == (4, "cannot tell") and "4 common questions" in row.why
    turned = [
        replace(g, questions=QUESTIONS[::-1], a=g.a[:, ::-1][:, :, :, ::-1], b=g.b[:, ::-1][:, :, :, ::-1])
        for g in one
    ]
    (row, _) = beside("spawn", one, turned, (CKA, RSA), rng)
    assert row.difference == pytest.approx(0) and row.low == pytest.approx(0) and row.high == pytest.approx(0)
    assert "no value" in beside("spawn", one, [], (CKA,), rng)[0].why


# ------------------------------------------------------------------ saved runs

DESIGN = {"scaffolds": "1", "questions": "2", "template of the first model": "3", "first model": "4"}


def saved(store, run, **design):
    rng = np.random.default_rng(3)
    places = rng.normal(size=(8, 3))
    book = replace(fake_geometry(run), settings={"design": {**DESIGN, **design}})
    save_geometry(store, book, {"reply_mean": pair(rng, places, places)})
    return run


def test_saved_runs_of_one_design_are_compared_and_others_are_refused_with_what_differs(tmp_path):
    store = Store(tmp_path)
    runs = saved(store, "geometry-1"), saved(store, "geometry-2")
    told = {(r.position, r.measure): r for r in job(*runs, store)}
    assert told["reply_mean", CKA.name].difference == 0
    assert told["spawn", CKA.name].why
    for what in DESIGN:
        other = saved(store, "geometry-other", **{what: "x"})
        with pytest.raises(LabError, match=f"they differ in {what};"):
            job(runs[0], other, store)
    with pytest.raises(LabError, match="no run 'nothing'"):
        job(runs[0], "nothing", store)


def test_a_run_without_its_design_or_its_inner_products_says_so(tmp_path):
    store = Store(tmp_path)
    saved(store, "geometry-1")
    with pytest.raises(LabError, match="does not say how it was made"):
        check_designs(fake_geometry(), fake_geometry())
    (tmp_path / "geometry-1" / "grams.safetensors").write_bytes(b"nothing")
    with pytest.raises(LabError, match=r"no readable grams\.safetensors"):
        job("geometry-1", "geometry-1", store)
