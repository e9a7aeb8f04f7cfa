"""Steering with carried directions, mark by mark and on its page; nothing from people gets through raw."""

import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from fake_transfer import LABELS, NAN, TRAITS, effect, fake_transfer
from streamlit.testing.v1 import AppTest

from lab.figures import transfer
from lab.figures.theme import DARK, LIGHT, MODEL_COLOURS
from lab.pipelines.transfer import load_transfer
from lab.store import Store

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
PAGE = str(ROOT / "dashboards" / "views" / "transfer.py")
BOOK = fake_transfer()


def traces(figure, role):
    return [t for t in figure.data if t.meta["role"] == role]


def note(figure):
    (found,) = [a.text for a in figure.layout.annotations if a.name == "panel note"]
    return found.replace("<br>", " ")


def every(book, **changes):
    return replace(book, transfers=tuple(replace(t, **changes) for t in book.transfers))


def test_a_panel_per_way_holds_native_and_carried_in_their_models_colours():
    figure = transfer.transfer_matrix(BOOK)
    there, back = traces(figure, "native")
    assert list(there.x) == [effect("a", t) for t in TRAITS]
    assert list(back.x) == [effect("b <i>", t) for t in TRAITS]
    assert (there.marker.color, back.marker.color) == (MODEL_COLOURS[1], MODEL_COLOURS[0]), "the target's"
    assert (there.xaxis, back.xaxis) == ("x", "x3")
    carried, alone = traces(figure, "carried")
    assert carried.marker.color == MODEL_COLOURS[0], "the source's"
    np.testing.assert_allclose(np.add(carried.x, carried.error_x.array), np.array(carried.x) + 0.7)
    np.testing.assert_allclose(np.subtract(there.x, there.error_x.arrayminus), np.array(there.x) - 0.5)
    assert [c[0] for c in alone.customdata] == [TRAITS[0]]
    heads = [a.text for a in figure.layout.annotations]
    assert heads[:2] == ["from <b>a</b> into <b>b &lt;i&gt;</b>", "from <b>b &lt;i&gt;</b> into <b>a</b>"]


def test_controls_stand_in_every_row_and_once_in_the_legend():
    figure = transfer.transfer_matrix(BOOK)
    planted = {"random": 0.1, "permuted": 0.3, "permuted_high": 0.9, "wrong": -0.2}
    for role, value in planted.items():
        there, back = traces(figure, role)
        assert list(there.x) == [value] * 2
        assert list(back.x) == [value] * (1 if role == "wrong" else 2)
        assert (there.showlegend, back.showlegend) == (True, False)
        own = {(c[0], y) for t in traces(figure, "native") for c, y in zip(t.customdata, t.y, strict=True)}
        for c, y in zip(there.customdata, there.y, strict=True):
            (row,) = {v for name, v in own if name == c[0]}
            assert 0 < y - row < 0.7, "under its own row"


def test_recovery_is_written_and_what_cannot_be_told_is_said():
    figure = transfer.transfer_matrix(BOOK)
    there, back = traces(figure, "numbers")
    assert list(there.text) == ["recovery 0.75 [0.50, 1.00]<br>p = .11, cosine 0.90"] * 2
    assert "cannot tell" not in back.text[0]
    assert back.text[1].startswith("recovery: cannot tell")
    (gap,) = traces(figure, "gap")
    assert list(gap.text) == ["carried: cannot tell"] and gap.customdata[0][0] == TRAITS[1]
    said = note(figure)
    assert "own and random do not differ clearly" in said and "no p below .11 is possible" in said
    enough = every(BOOK, controls=20, recovery=1.0)
    assert "is possible" not in note(transfer.transfer_matrix(enough))
    assert "differ clearly" not in note(transfer.transfer_matrix(enough))


def test_the_note_says_unit_split_n_doses_and_nulls():
    said = note(transfer.transfer_matrix(BOOK))
    for words in (
        "Unit: prior",
        "Split: test",
        "n = 24",
        "12 questions",
        "−0.25 and 0.375",
        "8 maps",
        "5 random",
    ):
        assert words in said, words


def test_panels_share_a_scale_only_in_one_unit_and_cut_nothing():
    figure = transfer.transfer_matrix(BOOK)
    ends = figure.layout.xaxis.range
    assert ends == figure.layout.xaxis3.range
    reached = [v for t in BOOK.transfers for v in (t.native_high, t.native_low, t.wrong) if v == v]
    assert ends[0] < min(reached) and max(reached) < ends[1]
    rows = BOOK.transfers
    mixed = replace(
        BOOK, transfers=(*rows[:2], *(replace(t, unit="nats", native_high=9.0) for t in rows[2:]))
    )
    figure = transfer.transfer_matrix(mixed)
    assert figure.layout.xaxis.range[1] < 4 < 9 < figure.layout.xaxis3.range[1]
    assert "nats" in figure.layout.xaxis3.title.text and "nats" not in figure.layout.xaxis.title.text


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_every_mark_has_ids_and_names_of_people_stay_text(theme):
    figure = transfer.transfer_matrix(BOOK, theme)
    assert figure.layout.paper_bgcolor == theme.paper
    for t in figure.data:
        assert len(t.customdata) == len(t.y) and t.meta["role"]
    told = json.loads(figure.to_json())
    for trace in told["data"]:
        trace.pop("customdata")
    shown = json.dumps(told)
    assert not [tag for tag in ("<i>", "<u>", "<s>", "candour <b>") if tag in shown]


def test_without_readable_replies_there_is_a_sentence():
    for book, why in (
        (replace(BOOK, transfers=()), "carried nothing over"),
        (every(BOOK, native=NAN, carried=NAN), "no steered reply could be read"),
    ):
        figure = transfer.transfer_matrix(book)
        assert not figure.data
        assert [why in a.text for a in figure.layout.annotations if a.name == "abstention"] == [True]


def test_the_table_holds_every_number():
    table = transfer.transfers(BOOK)
    assert len(table) == 4 and table["recovery"].isna().tolist() == [False, False, False, True]
    assert table.loc[0].to_dict() == asdict(BOOK.transfers[0])
    assert list(transfer.transfers(replace(BOOK, transfers=())).columns) == list(table.columns)


# ------------------------------------------------------------------ page


@pytest.fixture
def store(tmp_path, monkeypatch):
    import streamlit as st

    st.cache_data.clear()
    st.cache_resource.clear()
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    return Store(tmp_path)


@pytest.fixture
def saved(store):
    rows = {"transfers": [asdict(t) for t in BOOK.transfers]}
    more = {"labels": BOOK.labels, "settings": BOOK.settings}
    store.save_records(BOOK.run, "transfer", BOOK.models, rows, more)
    return BOOK


def page():
    at = AppTest.from_file(PAGE, default_timeout=60).run()
    assert not at.exception, at.exception
    return at


def test_without_a_run_the_page_says_how_to_make_one(store):
    at = page()
    assert "No transfer is saved here yet" in at.info[0].value
    assert at.code[0].value == "lab transfer hearth-a hearth-b"


def test_the_page_shows_the_picture_and_the_numbers_of_the_saved_run(saved, store):
    assert repr(load_transfer(store, saved.run)) == repr(saved), "repr: NaN is not equal to itself"
    at = page()
    (chart,) = at.get("plotly_chart")
    drawn = [t for t in json.loads(chart.proto.spec)["data"] if t["meta"]["role"] == "native"]
    assert [t["customdata"][0][1:3] for t in drawn] == [list(LABELS), list(LABELS[::-1])]
    assert at.dataframe[0].value["recovery"].tolist()[:3] == [0.75] * 3


def test_downloads_name_the_run_and_both_models(saved, monkeypatch):
    from dashboards import panels

    made = []
    monkeypatch.setattr(panels.st, "download_button", lambda label, data, *a, **k: made.append(data))
    monkeypatch.setattr(panels, "figure_zip", lambda stem, figure, table, origin: origin)
    panels.give(saved, "transfer_matrix", lambda: "figure", lambda: "table")
    origin = made[0]()
    assert origin["run"] == saved.run and [m["name"] for m in origin["models"]] == list(LABELS)


def test_a_damaged_run_is_told(saved, store):
    (store.root / saved.run / "transfers.parquet").write_bytes(b"no table")
    assert "is damaged" in page().error[0].value


def test_the_page_loads_no_torch(saved):
    code = (
        f"import sys; from streamlit.testing.v1 import AppTest; at = AppTest.from_file({PAGE!r}, default_timeout=60); "
        "at.run(); assert not at.exception, at.exception; assert len(at.get('plotly_chart')) == 1; "
        "heavy = {'torch', 'transformers', 'transformer_lens', 'sae_lens'} & set(sys.modules); assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
