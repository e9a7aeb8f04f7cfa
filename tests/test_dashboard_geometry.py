"""The page Geometry, without a browser: what it shows, what a click does, what it says when there is nothing."""

from dataclasses import replace

import pytest
from fake_comparison import fake_comparison
from fake_geometry import LABELS, MEASURES, SCAFFOLDS, TRAITS, fake_geometry
from pages import assert_no_torch, chart, charts, click, given_away, page, query, role, roles

from lab.figures import scores
from lab.pipelines.geometry_runs import save_geometry
from lab.records import LabError

SHOWN = ("grid", "controls", "dissimilarities", "maps", "shared_map", "agreement", "shares", "multiverse")


@pytest.fixture
def saved(store):
    found = fake_geometry()
    save_geometry(store, found, {})
    return found


def specs(at):
    """The charts that this file knows, by name; the page may have more."""
    return {name: chart(at, f"geometry_{name}") for name in SHOWN}


def test_without_a_run_the_page_says_how_to_make_one(store):
    at = page("geometry")
    assert "No comparison of geometry is saved here yet" in at.info[0].value
    assert at.code[0].value == "lab geometry hearth-a hearth-b"


def test_the_page_shows_every_picture_and_one_scaffold(saved):
    at = page("geometry")
    found = {name: roles(spec) for name, spec in specs(at).items()}
    assert found["grid"] == {"grid", "cells", "max null", "gap", "chosen"}
    assert found["shared_map"] == {"landing", "ellipse", "link"}
    assert found["agreement"] == {"landing", "identity"}
    assert at.selectbox(key="geometry_measure").options == list(MEASURES)
    assert at.selectbox(key="geometry_source").options == list(LABELS)
    shown = table(at)
    assert list(shown["scaffold"]) == [SCAFFOLDS[0]] * 2 and list(shown["trait"]) == list(TRAITS)
    assert any("none is saved here" in x.value for x in at.info)


def table(at):
    return next(x.value for x in at.dataframe if "scaffold" in x.value.columns and "trait" in x.value.columns)


def test_choices_change_the_pictures_and_stand_in_the_url(saved):
    at = page("geometry")
    at.selectbox(key="geometry_measure").set_value("RSA")
    at.selectbox(key="geometry_source").set_value(LABELS[1])
    at.selectbox(key="geometry_trait").set_value(TRAITS[1])
    at.selectbox(key="geometry_scaffold").set_value("poet").run()
    assert not at.exception, at.exception
    again = page("geometry", **query(at))
    found = specs(again)
    assert "RSA" in found["grid"]["layout"]["title"]["text"]
    assert not found["shared_map"]["data"], "this way there is no shared map, only the reason"
    assert "candour &lt;b&gt;" in found["agreement"]["layout"]["title"]["text"]
    assert table(again)["L in b <i>"].isna().tolist() == [False, True]


def test_a_place_that_abstains_has_reasons_in_place_of_marks(saved):
    at = page("geometry", geometry_position="spawn")
    assert at.selectbox(key="geometry_position").value == "spawn"
    found = {name: roles(spec) for name, spec in specs(at).items()}
    assert found.pop("controls") >= {"gap"}
    assert set(map(frozenset, found.values())) == {frozenset()}


def test_a_click_on_a_mark_chooses_its_scaffold_its_trait_or_its_model(saved, monkeypatch):
    from dashboards.geometry_parts import Look

    look = Look(saved, "reply_mean", TRAITS[0])
    found = specs(page("geometry"))
    wanted = {
        "shared_map": ("landing", {look.scaffold_key: 0}, SCAFFOLDS[3]),
        "agreement": ("landing", {look.scaffold_key: 0}, SCAFFOLDS[3]),
        "shares": ("gap", {look.trait_key: 0}, TRAITS[1]),
        "maps": ("r2", {"geometry_source": 1}, LABELS[0]),
        "controls": ("ceiling", {"geometry_measure": 0}, MEASURES[1]),
    }
    for name, (kind, into, value) in wanted.items():
        marks = role(found[name], kind)[0]["customdata"]
        assert click(monkeypatch, marks[min(3, len(marks) - 1)], into) == {next(iter(into)): value}
    assert click(monkeypatch, None, {look.scaffold_key: 0}) == {}


def test_a_click_on_a_cell_tells_its_numbers_or_chooses_its_scaffolds(saved, monkeypatch):
    at = page("geometry")
    found = specs(at)
    (cells,) = role(found["grid"], "cells")
    assert len(cells["customdata"]) == sum(
        x is not None for row in role(found["grid"], "grid")[0]["z"] for x in row
    )
    one = cells["customdata"][1]
    layers = click(monkeypatch, one, {"geometry_layer_a": 1, "geometry_layer_b": 2})
    assert any("Click a cell" in c.value for c in at.caption)
    for key, layer in layers.items():
        at.session_state[key] = layer
    at.run()
    (said,) = [m.value for m in at.markdown if "largest cell" in m.value]
    assert f": {one[-1]:.2f};".replace("-", "−") in said and f"Layer {one[1]} of" in said and "n = " in said
    for trace in role(found["dissimilarities"], "cells"):
        s, t = trace["customdata"][3][:2]
        pair = click(monkeypatch, trace["customdata"][3], {"geometry_scaffold": 0, "geometry_other": 1})
        assert pair == {"geometry_scaffold": s, "geometry_other": t} and {s, t} <= set(SCAFFOLDS) and s != t
    for key, name in pair.items():
        at.session_state[key] = name
    at.run()
    at.button(key="geometry_turn").click().run()
    assert set(table(at)["scaffold"]) == {pair["geometry_other"]}


def test_with_a_comparison_of_the_same_replies_the_scaffold_is_read_and_measured(saved, store, monkeypatch):
    from dashboards import related

    design = {"trait_set": "hearth", "traits": ["assistant", "warmth", "intimacy"], "seed": 2}
    comparison = fake_comparison(2, scaffolds=SCAFFOLDS, run="replies")
    whole = replace(comparison, models=saved.models, settings={**comparison.settings, **design})
    store.save_comparison(whole, "a vs b")
    same = {**design, "dtype": "float32", "max_new_tokens": 48, "scaffolds": list(SCAFFOLDS)}
    save_geometry(store, replace(saved, settings=same), {})
    at = page("geometry", geometry_scaffold="poet")
    shown = table(at)
    assert {"L", "low", "high", "null_low", "n", "split"} <= {c.split(": ")[-1] for c in shown.columns}
    assert set(shown["scaffold"]) == {"poet"} and list(shown["trait"]) == design["traits"]
    assert "Speak as poet." in at.text[1].value or "poet" in " ".join(x.value for x in at.text)
    assert not any("none is saved here" in x.value for x in at.info)
    for other in ({"seed": 3}, {"scaffolds": [*SCAFFOLDS, "new"]}, {"traits": ["warmth"]}):
        assert related.comparison_of(replace(saved, settings={**same, **other})) is None


def test_the_distance_of_two_runs_is_taken_on_the_wordings_that_both_read():
    from dashboards import related

    book, comparison = fake_geometry(), fake_comparison(2, scaffolds=SCAFFOLDS)
    names = dict(zip(LABELS, comparison.labels, strict=True))
    two = {s.name: replace(s, paraphrases=s.paraphrases[:2]) for s in comparison.scaffolds}
    fewer = replace(
        comparison, scaffolds=(two["poet"], *(s for s in comparison.scaffolds if s.name != "poet"))
    )
    found = {
        (x.model, x.position, x.scaffold, x.paraphrase): x.L
        for x in comparison.landings
        if x.trait == "warmth"
    }
    mine = [x for x in book.landings if x.trait == "warmth"]
    for given, k in ((comparison, 3), (fewer, 2)):
        same = [
            replace(x, L=sum(found[names[x.model], x.position, x.scaffold, i] for i in range(k)) / k)
            for x in mine
        ]
        assert related.wordings(given, book) == k
        assert related.distance(given, replace(book, landings=tuple(same))) == pytest.approx(0)
        same[3] = replace(same[3], L=same[3].L + 0.5)
        assert related.distance(given, replace(book, landings=tuple(same))) == pytest.approx(0.5)
    assert related.distance(replace(comparison, landings=()), book) == 0.0


def test_shares_of_one_trait_are_its_bars_and_another_trait_is_refused(saved):
    whole, one = (scores.variance_shares(saved, "reply_mean", trait=t) for t in (None, TRAITS[0]))
    for figure, traits in ((whole, set(TRAITS)), (one, {TRAITS[0]})):
        assert {c[0] for t in figure.data for c in t.customdata} == traits
    assert one.data[0].x == whole.data[0].x
    with pytest.raises(LabError, match="No trait 'none'"):
        scores.variance_shares(saved, "reply_mean", trait="none")


def test_downloads_name_the_run_and_both_models(saved, monkeypatch):
    made = given_away(monkeypatch, saved, "grid", lambda: "figure", lambda: "table", measure="CKA")
    stem, figure, numbers, origin = made
    assert (stem, figure, numbers) == ("grid", "figure", "table")
    assert origin["run"] == saved.run and [m["name"] for m in origin["models"]] == list(LABELS)


def test_a_damaged_run_is_told(saved, store):
    (store.root / saved.run / "maps.parquet").write_bytes(b"no table")
    assert "is damaged" in page("geometry").error[0].value


def test_the_page_loads_no_torch(saved):
    assert_no_torch("geometry", len(charts(page("geometry"))))
