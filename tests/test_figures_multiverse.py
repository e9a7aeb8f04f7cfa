"""The strip of other recipes, mark by mark and on the page Geometry: nothing is hidden, nothing invented."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from fake_geometry import NAN, TRAITS, fake_geometry
from streamlit.testing.v1 import AppTest

from lab.figures import geometry_tables, multiverse
from lab.figures.theme import DARK, LIGHT
from lab.pipelines.geometry_runs import load_geometry, save_geometry
from lab.records import LabError
from lab.records.geometry import MultiverseCell
from lab.records.maps import LandingAgreement
from lab.store import Store

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
ESTIMATORS = ("mean_difference", "odd <b>one")
POOLINGS = ("reply_mean", "spawn")
DEPTHS = (0.0, 0.5, 1.0)
REPORTED = 0.9


def planted(e, p, d):
    """r of a recipe: every one another; the first layer has no unit at the spawn point."""
    return NAN if (p, d) == (1, 0) else round(0.95 - 0.31 * e - 0.17 * p - 0.4 * (d - 1) ** 2, 3)


def cells(trait):
    grid = [
        MultiverseCell(trait, e, p, d, planted(i, j, k), 0.5 * planted(i, j, k), -0.1 * planted(i, j, k), False)
        for i, e in enumerate(ESTIMATORS) for j, p in enumerate(POOLINGS) for k, d in enumerate(DEPTHS)
    ]  # fmt: skip
    return (*grid, MultiverseCell(trait, ESTIMATORS[0], POOLINGS[0], 0.4, REPORTED, 0.6, -0.03, True))


BOOK = replace(fake_geometry(), multiverse=tuple(c for t in TRAITS for c in cells(t)))
GRID = [c for c in cells(TRAITS[0]) if not c.selected]


def traces(figure, role):
    return [t for t in figure.data if t.meta["role"] == role]


def note(figure):
    (found,) = [a.text for a in figure.layout.annotations if a.name == "panel note"]
    return found.replace("<br>", " ")


def refusal(figure):
    return [a.text.replace("<br>", " ") for a in figure.layout.annotations if a.name == "abstention"]


@pytest.mark.parametrize("what", multiverse.CONCLUSIONS)
def test_every_recipe_is_one_mark_in_ascending_order_and_none_is_dropped(what):
    figure = multiverse.multiverse_strip(BOOK, TRAITS[0], what)
    (others,), (star,), (gaps,) = (traces(figure, role) for role in ("recipe", "reported", "gap"))
    at = dict(zip([*others.x, *star.x], [*others.y, *star.y], strict=True))
    values = [at[x] for x in sorted(at)]
    known = [getattr(c, what) for c in cells(TRAITS[0]) if np.isfinite(c.r)]
    assert sorted(at) == list(range(len(known))) and values == sorted(known)
    assert list(gaps.x) == [len(known), len(known) + 1] and list(gaps.text) == ["?", "?"]
    assert {tuple(c[1:4]) for c in gaps.customdata} == {(e, "spawn", 0.0) for e in ESTIMATORS}
    low, high = figure.layout.yaxis.range
    assert low < min(known) and high > max(known) and low <= 0 <= high


def test_the_lower_panels_say_what_each_mark_is():
    figure = multiverse.multiverse_strip(BOOK, TRAITS[0])
    (others,) = traces(figure, "recipe")
    for role, field, axis in (("estimator", 1, "yaxis2"), ("pooling", 2, "yaxis3"), ("depth", 3, "yaxis4")):
        (dots,) = traces(figure, role)
        assert len(dots.x) == len(GRID), "those without an answer too"
        ticks = list(figure.layout[axis].tickvals)
        known = {"estimator": ESTIMATORS, "pooling": POOLINGS, "depth": DEPTHS}[role]
        mine = {x: known[ticks.index(y)] for x, y in zip(dots.x, dots.y, strict=True)}
        assert [mine[x] for x in others.x] == [c[field] for c in others.customdata]
    (own,) = traces(figure, "depth reported")
    assert list(own.y) == [0.4], "between the depths of the grid"
    assert list(own.x) == list(traces(figure, "reported")[0].x)
    assert figure.layout.yaxis4.range[0] > figure.layout.yaxis4.range[1], "the first layer at the top"


def test_the_reported_recipe_carries_the_interval_null_and_ceiling_of_the_run():
    figure = multiverse.multiverse_strip(BOOK, TRAITS[0])
    (star,) = traces(figure, "reported")
    assert list(star.y) == [REPORTED]
    assert star.error_y.array[0] == pytest.approx(0.99 - REPORTED)
    assert star.error_y.arrayminus[0] == pytest.approx(REPORTED - 0.5)
    assert list(traces(figure, "null")[0].y) == [0.6] * 2
    assert list(traces(figure, "ceiling")[0].y) == [0.98] * 2
    figure = multiverse.multiverse_strip(BOOK, TRAITS[0], "crossed")
    assert list(traces(figure, "null")[0].y) == [0.02] * 2 and not traces(figure, "ceiling")
    assert traces(figure, "reported")[0].error_y.array[0] == pytest.approx(0.02 + 0.03)


def test_the_note_counts_recipes_and_gives_range_median_and_null():
    said = note(multiverse.multiverse_strip(BOOK, TRAITS[0]))
    known = [c.r for c in GRID if np.isfinite(c.r)]
    above = sum(v > 0.6 for v in known)
    assert "12 (2 estimators × 2 poolings × 3 depths), 2 without an answer" in said
    ends = f"{min(known):.2f} to {max(known):.2f}, median {median(known):.2f}, {above} of them above"
    assert ends.replace("-", "−") in said and 0 < above < len(known)
    assert "0.90 [0.50, 0.99], p = .003" in said and "0.60; ceiling" in said
    assert "Unit: r" in said and "Split: test; n = 6 scaffolds, 12 questions (1 dropped)" in said
    share = note(multiverse.multiverse_strip(BOOK, TRAITS[0], "crossed"))
    assert (
        "scaffold × weights explains" in share
        and "−3.0 % [−8.0 %, 2.0 %], p = .50; null, 95 % of labels shuffled: 2.0 %." in share
    )


def test_where_the_run_abstains_or_has_no_recipes_there_is_a_sentence():
    silent = multiverse.multiverse_strip(BOOK, TRAITS[1])
    assert not silent.data and "1 question &lt;b&gt;without" in refusal(silent)[0]
    none = replace(BOOK, multiverse=())
    assert "tried no other recipes" in refusal(multiverse.multiverse_strip(none, TRAITS[0]))[0]
    lost = replace(BOOK, multiverse=tuple(replace(c, r=NAN) for c in BOOK.multiverse))
    assert "no recipe has a unit" in refusal(multiverse.multiverse_strip(lost, TRAITS[0]))[0]
    elsewhere = replace(BOOK, places=BOOK.places[1:])
    assert "no interval and no null" in refusal(multiverse.multiverse_strip(elsewhere, TRAITS[0]))[0]


def test_a_reported_recipe_without_an_answer_is_among_the_unknown():
    few = replace(BOOK, multiverse=tuple(replace(c, r=NAN) if c.selected else c for c in BOOK.multiverse))
    figure = multiverse.multiverse_strip(few, TRAITS[0])
    assert not traces(figure, "reported") and len(traces(figure, "gap")[0].x) == 3
    assert "depth 0.40): cannot tell" in note(figure)


def test_an_unknown_trait_or_conclusion_is_refused():
    with pytest.raises(LabError, match="absent"):
        multiverse.multiverse_strip(BOOK, "absent")
    with pytest.raises(LabError, match="conclusion"):
        multiverse.multiverse_strip(BOOK, TRAITS[0], "absent")
    with pytest.raises(LabError, match="absent"):
        geometry_tables.multiverse(BOOK, "absent")


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_every_mark_has_ids_and_names_stay_text(theme):
    told_well = LandingAgreement(TRAITS[1], 6, 12, 0, "", 0.9, 0.5, 0.99, 0.003, 0.6, 0.8, 0.01, 0.98)
    book = replace(BOOK, places=(replace(BOOK.places[0], agreements=(told_well,)),))
    figure = multiverse.multiverse_strip(book, TRAITS[1], theme=theme)
    assert figure.layout.paper_bgcolor == theme.paper and figure.data
    for t in figure.data:
        assert len(t.customdata) == len(t.y) and t.meta["role"]
    told = json.loads(figure.to_json())
    for trace in told["data"]:
        for ids in trace["customdata"]:
            assert "<b>" not in ids.pop()
        trace.pop("customdata")
    shown = json.dumps(told)
    assert "odd <b>" not in shown and "candour <b>" not in shown and "odd &lt;b&gt;" in shown


def test_the_table_holds_every_recipe():
    table = geometry_tables.multiverse(BOOK, TRAITS[0])
    assert len(table) == len(GRID) + 1 and table["selected"].tolist()[-1]
    assert table["r"].isna().sum() == 2
    assert table.iloc[-1]["r"] == REPORTED


# ------------------------------------------------------------------ page


def test_the_page_keeps_the_conclusion_in_the_url_and_follows_the_trait(tmp_path, monkeypatch):
    import streamlit as st

    st.cache_data.clear()
    st.cache_resource.clear()
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    store = Store(tmp_path)
    save_geometry(store, BOOK, {})
    assert repr(load_geometry(store, BOOK.run)) == repr(BOOK)
    at = AppTest.from_file(str(ROOT / "dashboards" / "views" / "geometry.py"), default_timeout=60)
    at.query_params["geometry_what"] = "crossed"
    at.run()
    assert not at.exception, at.exception
    spec = json.loads(at.get("plotly_chart")[-1].proto.spec)
    assert {"recipe", "reported", "gap", "null"} <= {t["meta"]["role"] for t in spec["data"]}
    assert "scaffold × weights" in spec["layout"]["title"]["text"]
    at.selectbox(key="geometry_what").set_value("r")
    at.selectbox(key="geometry_trait").set_value(TRAITS[1]).run()
    assert not at.exception, at.exception
    spec = json.loads(at.get("plotly_chart")[-1].proto.spec)
    assert not spec["data"] and "candour &lt;b&gt;" in spec["layout"]["title"]["text"]
    kept = at.query_params["geometry_what"]
    assert (kept[0] if isinstance(kept, list) else kept) == "r"
