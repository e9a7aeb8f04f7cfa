"""The page Geometry, without a browser: what it shows, what a click does, what it says when there is nothing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fake_geometry import LABELS, MEASURES, SCAFFOLDS, TRAITS, fake_geometry
from streamlit.testing.v1 import AppTest

from lab.pipelines.geometry import save_geometry
from lab.store import Store

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
PAGE = str(ROOT / "dashboards" / "views" / "geometry.py")
SHOWN = ("grid", "controls", "dissimilarities", "maps", "shared_map", "agreement", "shares", "multiverse")


@pytest.fixture
def store(tmp_path, monkeypatch):
    import streamlit as st

    st.cache_data.clear()
    st.cache_resource.clear()
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    return Store(tmp_path)


@pytest.fixture
def saved(store):
    found = fake_geometry()
    save_geometry(store, found)
    return found


def page(**query):
    at = AppTest.from_file(PAGE, default_timeout=60)
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception, at.exception
    return at


def roles(at):
    specs = [json.loads(x.proto.spec) for x in at.get("plotly_chart")]
    return {n: {t["meta"]["role"] for t in s["data"]} for n, s in zip(SHOWN, specs, strict=True)}


def test_without_a_run_the_page_says_how_to_make_one(store):
    at = page()
    assert "No comparison of geometry is saved here yet" in at.info[0].value
    assert at.code[0].value == "lab geometry hearth-a hearth-b"


def test_the_page_shows_every_picture_and_one_scaffold(saved):
    at = page()
    found = roles(at)
    assert found["grid"] == {"grid", "max null", "gap", "chosen"}
    assert found["shared_map"] == {"landing", "ellipse", "link"}
    assert found["agreement"] == {"landing", "identity"}
    assert at.selectbox(key="geometry_measure").options == list(MEASURES)
    assert at.selectbox(key="geometry_source").options == list(LABELS)
    shown = at.dataframe[0].value
    assert list(shown["scaffold"]) == [SCAFFOLDS[0]] * 2 and list(shown["trait"]) == list(TRAITS)
    assert any("page Compare" in c.value for c in at.caption)


def test_choices_change_the_pictures_and_stand_in_the_url(saved):
    at = page()
    at.selectbox(key="geometry_measure").set_value("RSA")
    at.selectbox(key="geometry_source").set_value(LABELS[1])
    at.selectbox(key="geometry_trait").set_value(TRAITS[1])
    at.selectbox(key="geometry_scaffold").set_value("poet").run()
    assert not at.exception, at.exception
    kept = {k: v[0] if isinstance(v, list) else v for k, v in at.query_params.items()}
    again = page(**kept)
    specs = [json.loads(x.proto.spec) for x in again.get("plotly_chart")]
    assert "RSA" in specs[0]["layout"]["title"]["text"]
    assert not specs[4]["data"], "this way there is no shared map, only the reason"
    assert "candour &lt;b&gt;" in specs[5]["layout"]["title"]["text"]
    assert again.dataframe[0].value["L in b <i>"].isna().tolist() == [False, True]


def test_a_place_that_abstains_has_reasons_in_place_of_marks(saved):
    at = page(geometry_position="spawn")
    assert at.selectbox(key="geometry_position").value == "spawn"
    found = roles(at)
    assert found.pop("controls") >= {"gap"}
    assert set(map(frozenset, found.values())) == {frozenset()}


def test_a_click_on_a_mark_chooses_its_scaffold(saved, monkeypatch):
    from dashboards import panels

    charts = [json.loads(x.proto.spec) for x in page().get("plotly_chart")]
    for spec in (charts[SHOWN.index("shared_map")], charts[SHOWN.index("agreement")]):
        point = next(t for t in spec["data"] if t["meta"]["role"] == "landing")["customdata"][3]
        state = {"clicked": {"selection": {"points": [{"customdata": point}]}}}
        with monkeypatch.context() as patched:
            patched.setattr(panels.st, "session_state", state)
            panels.take_scaffold("clicked", "geometry_scaffold")
        assert state["geometry_scaffold"] == SCAFFOLDS[3]


def test_downloads_name_the_run_and_both_models(saved, monkeypatch):
    from dashboards import panels

    made = []
    monkeypatch.setattr(panels.st, "download_button", lambda label, data, name, *a, **k: made.append(data))
    monkeypatch.setattr(
        panels, "figure_zip", lambda stem, figure, table, origin: (stem, figure, table, origin)
    )
    panels.give(saved, "grid", lambda: "figure", lambda: "table", measure="CKA")
    stem, figure, table, origin = made[0]()
    assert (stem, figure, table) == ("grid", "figure", "table")
    assert origin["run"] == saved.run and [m["name"] for m in origin["models"]] == list(LABELS)


def test_a_damaged_run_is_told(saved, store):
    (store.root / saved.run / "maps.parquet").write_bytes(b"no table")
    assert "is damaged" in page().error[0].value


def test_the_page_loads_no_torch(saved):
    code = (
        f"import sys; from streamlit.testing.v1 import AppTest; at = AppTest.from_file({PAGE!r}, default_timeout=60); "
        "at.run(); assert not at.exception, at.exception; assert len(at.get('plotly_chart')) == 8; "
        "heavy = {'torch', 'transformers', 'transformer_lens', 'sae_lens'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
