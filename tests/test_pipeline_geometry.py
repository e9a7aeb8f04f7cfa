"""Two organisms on one table: the whole job in small, what is saved, and what a wrong call says."""

import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lab.landing import landing_cells
from lab.pipelines import geometry as job
from lab.pipelines.compare import shipped_scaffolds
from lab.pipelines.geometry import GeometryConfig, geometry, grid_of
from lab.pipelines.geometry_runs import load_geometry, load_paths
from lab.pipelines.transfer import recovery
from lab.records import LabError
from lab.store import Store

SCAFFOLDS = tuple(replace(s, paraphrases=s.paraphrases[:1]) for s in shipped_scaffolds()[:12])


def silent(stage, fraction):
    """No progress shown."""


def config(*models, scaffolds=SCAFFOLDS):
    return GeometryConfig(
        models, scaffolds, "hearth:warmth,intimacy", max_new_tokens=16, permutations=99, pairings=39
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def book(store):
    return geometry(config("hearth-a", "hearth-b"), store, silent)


def test_the_same_scaffolds_lie_alike_in_two_organisms_and_one_maps_onto_the_other(book):
    place = book.at("reply_mean")
    cka = place.similarities[0]
    assert (cka.scaffolds, cka.questions, cka.split, cka.chosen_on) == (12, 12, "test", "select")
    assert cka.value > max(cka.null_high, 0.5) and cka.p < 0.05
    assert len([c for c in place.cells if c.measure == cka.measure]) == 6 * 4
    assert {(m.source, m.target) for m in place.maps} == {("hearth-a", "hearth-b"), ("hearth-b", "hearth-a")}
    ridge = [m for m in place.maps if m.method == "ridge"]
    assert all(m.r2 > m.null_high and m.p <= 0.05 for m in ridge)
    assert all(m.layer_source == (cka.layer_a if m.source == "hearth-a" else cka.layer_b) for m in ridge)
    assert {p.model for p in place.shared[0].points} == set(book.labels)
    for u in place.untrained:
        assert u.p == 0.04 and u.value > u.words_high, u  # 4 twins a side: the smallest p
    similar = {u.what: u for u in place.untrained if not u.source}
    assert similar[cka.measure].words > cka.null_high, "the words alone make untrained networks agree"
    assert {s.prepared for s in place.prepared} == {"without massive dimensions", "in noise units"}


def test_paths_end_in_the_frame_they_are_drawn_in(store, book):
    walked = load_paths(store, book.run)
    assert {p.target for p in walked} == set(book.labels) == {p.model for p in walked}
    assert {p.scaffold for p in walked} == {s.name for s in SCAFFOLDS}


def test_shares_and_agreement_are_of_landings(book):
    place = book.at("reply_mean")
    for trait in ("warmth", "intimacy"):
        mine = {s.source: s for s in place.shares if s.trait == trait}
        assert sum(s.share for s in mine.values()) == pytest.approx(1)
        assert mine["scaffold"].share > mine["weights"].share
    warm = next(a for a in place.agreements if a.trait == "warmth")
    placed = {
        m: [x.L for x in book.landings if (x.model, x.trait, x.position) == (m, "warmth", "reply_mean")]
        for m in book.labels
    }
    assert warm.r == pytest.approx(np.corrcoef(*placed.values())[0, 1], abs=0.02)


def test_other_recipes_conclude_too_and_the_reported_one_is_marked(book):
    cells = [c for c in book.multiverse if c.trait == "warmth"]
    assert len([c for c in cells if not c.selected]) == 4 * 4 * 6
    (reported,) = [c for c in cells if c.selected]
    place = book.at("reply_mean")
    assert reported.r == pytest.approx(next(a.r for a in place.agreements if a.trait == "warmth"))
    shares = {s.source: s.share for s in place.shares if s.trait == "warmth"}
    assert reported.scaffold == pytest.approx(shares["scaffold"])
    assert reported.crossed == pytest.approx(shares["scaffold x weights"])


def test_a_saved_run_comes_back_and_is_found_again(store, book, monkeypatch):
    assert repr(load_geometry(store, book.run)) == repr(book)  # repr: NaN is not equal to itself
    monkeypatch.setattr(job, "measure_sides", None)
    assert repr(geometry(config("hearth-a", "hearth-b"), store, silent)) == repr(book)
    with pytest.raises(LabError, match="run of `lab geometry`, not of `lab axis`"):
        store.load_persona_map(book.run)


def test_a_run_of_another_version_says_so(store, book, tmp_path):
    other = Store(tmp_path)
    shutil.copytree(store.folder(book.run), tmp_path / book.run)
    path = tmp_path / book.run / "maps.parquet"
    pd.read_parquet(path).rename(columns={"r2": "score"}).to_parquet(path)
    with pytest.raises(LabError, match="another version of the lab"):
        load_geometry(other, book.run)


def test_too_few_scaffolds_abstain_and_say_why(store):
    found = geometry(config("hearth-a", "hearth-b", scaffolds=SCAFFOLDS[:4]), store, silent)
    place = found.at("spawn")
    for row in (*place.similarities, *place.shares, *place.agreements):
        assert "4" in row.why and "scaffolds" in row.why
    assert place.maps == () and place.shared == ()
    with pytest.raises(LabError, match="two models"):
        geometry(config("hearth-a"), store, silent)


def test_states_are_where_their_scaffold_paraphrase_and_question_say(store, monkeypatch):
    kept = {}
    whole = job._place

    def keep(settings, traits, sides, *rest):
        kept[rest[1]] = (settings, traits, sides)
        return whole(settings, traits, sides, *rest)

    monkeypatch.setattr(job, "_place", keep)
    geometry(replace(config("hearth-a", "hearth-a"), pairings=9, untrained=0), store, silent)
    settings, traits, sides = kept["spawn"]
    grid = grid_of(sides[1], settings.scaffolds, traits, "spawn", "test")
    jobs, measured = sides[1].landed.groups[3], sides[1].landed.measured[3]
    row = next(k for k, j in enumerate(jobs) if j.question.id == grid.questions[4])
    np.testing.assert_array_equal(grid.acts[2, 0, 4], measured.pooled["spawn"][row])
    assert grid.scaffolds[2] == jobs[0].condition
    # One model twice: the spawn point has no randomness, so both sides are the same.
    again = grid_of(sides[0], settings.scaffolds, traits, "spawn", "test")
    np.testing.assert_allclose(again.acts, grid.acts, atol=2e-4)
    p = next(p for p in sides[0].landed.projections if p.position == "spawn")
    assert landing_cells(p).shape == (12, 1, 12)


# ------------------------------------------------------------------ recovery


def around(value, noise, rng):
    """An effect with all questions and with each of 12 left out."""
    by_question = value + noise * rng.standard_normal(12)
    total = by_question.sum()
    return np.array([total / 12, *((total - x) / 11 for x in by_question)])


def test_recovery_is_the_share_of_the_own_direction_above_random_ones():
    rng = np.random.default_rng(0)
    share, low, high = recovery(around(2.5, 0.3, rng), around(4.5, 0.3, rng), around(0.5, 0.3, rng))
    assert low < 0.5 < high and share == pytest.approx(0.5, abs=0.1)


def test_there_is_nothing_to_recover_where_the_own_direction_does_no_more_than_random():
    rng = np.random.default_rng(1)
    assert np.isnan(recovery(around(2.0, 1, rng), around(0.1, 1, rng), around(0.0, 1, rng))).all()
