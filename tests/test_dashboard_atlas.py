"""The page Atlas, without a browser."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fake_atlas import LABELS, MEASURE, fake_atlas
from streamlit.testing.v1 import AppTest

from lab.pipelines.atlas import load_atlas, save_atlas
from lab.store import Store

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    import streamlit as st

    st.cache_data.clear()
    st.cache_resource.clear()
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    return tmp_path


def open_page(**query):
    at = AppTest.from_file(str(ROOT / "dashboards" / "app.py"), default_timeout=60)
    at.switch_page("views/atlas.py")
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception, at.exception
    return at


def charts(at):
    return [json.loads(x.proto.spec) for x in at.get("plotly_chart")]


def test_without_a_run_the_page_says_how_to_make_one(folder):
    at = open_page()
    assert "No atlas" in at.info[0].value and "lab atlas" in at.code[0].value


def test_what_is_saved_comes_back_as_it_was(folder):
    book = fake_atlas()
    save_atlas(Store(folder), book)
    again = load_atlas(Store(folder), book.run)
    assert again.similarities == book.similarities and again.maps == book.maps and again.scores == book.scores
    assert again.concept_set == book.concept_set and again.labels == LABELS
    assert again.neighbours == book.neighbours and again.concepts == book.concepts


def test_the_page_shows_a_concept_in_both_models_and_all_of_them(folder):
    save_atlas(Store(folder), fake_atlas())
    at = open_page(concept="nurse", atlas_stage="embedding")
    assert (
        at.selectbox(key="concept").value == "nurse" and at.selectbox(key="atlas_stage").value == "embedding"
    )
    shown = charts(at)
    assert [c["layout"]["title"]["text"][:12] for c in shown] == [
        "Who stands n",
        "Of the 3 nea",
        "Which concep",
        "How far down",
    ]
    assert "<b>nurse</b>" in shown[0]["layout"]["title"]["text"]
    captions = " ".join(c.value for c in at.caption)
    assert "7 of 8 line up both ways. Not, the farthest first: grief" in captions
    assert "2 in b" in captions  # tokens of "nurse"
    frames = {len(d.value) for d in at.dataframe}
    assert {2, 6, 8, 12} <= frames  # its scores, similarities, its sentences, maps
    assert not any("<i>" in c.value for c in at.caption)
    at.selectbox(key="concept").set_value("love <b>").run()
    assert not at.exception
    assert "<b>love &lt;b&gt;</b>" in charts(at)[0]["layout"]["title"]["text"]
    at.selectbox(key="atlas_source").set_value("b").run()
    assert "<b>b</b>" in charts(at)[2]["layout"]["title"]["text"]
    at.selectbox(key="atlas_scope").set_value("all").run()
    assert not at.exception
    assert at.selectbox(key="atlas_measure").value == MEASURE


def test_frames_of_their_own_are_warned_of(folder):
    book = fake_atlas()
    one, two = book.concept_set.categories
    own = replace(two, frames=tuple(f"Other {f}" for f in two.frames))
    save_atlas(Store(folder), replace(book, concept_set=replace(book.concept_set, categories=(one, own))))
    at = open_page(atlas_scope="all")
    assert any("sentences of their own" in c.value for c in at.caption)
