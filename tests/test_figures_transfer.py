"""Steering with carried directions, mark by mark and on its page; nothing from people gets through raw."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from fake_transfer import ASKED, DOWN, DRAWN, LABELS, NAN, TRAITS, UP, change, effect, fake_transfer
from pages import assert_no_torch, charts, click, given_away, page, role

from lab.figures import transfer, transfer_doses
from lab.figures.theme import DARK, LIGHT, MODEL_COLOURS
from lab.pipelines.transfer import load_transfer, save_transfer
from lab.records import LabError

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
    for name, value in planted.items():
        there, back = traces(figure, name)
        assert list(there.x) == [value] * 2
        assert list(back.x) == [value] * (1 if name == "wrong" else 2)
        assert (there.showlegend, back.showlegend) == (True, False)
        own = {(c[0], y) for t in traces(figure, "native") for c, y in zip(t.customdata, t.y, strict=True)}
        for c, y in zip(there.customdata, there.y, strict=True):
            (row,) = {v for trait, v in own if trait == c[0]}
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


def test_too_few_scaffolds_for_a_test_are_told():
    few = replace(every(BOOK, p=NAN), settings={"controls": 5, "scaffolds": ["a", "b", "c"]})
    figure = transfer.transfer_matrix(few)
    assert "5 scaffolds are needed to shuffle their pairing, 3 given" in note(figure)
    assert all("p not computed" in x for t in traces(figure, "numbers") for x in t.text)
    assert "needed" not in note(transfer.transfer_matrix(replace(few, settings={"scaffolds": list("abcde")})))


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
@pytest.mark.parametrize(
    "make",
    [
        transfer.transfer_matrix,
        lambda book, theme: transfer_doses.dose_curve(book, TRAITS[1], LABELS[1], theme),
    ],
)
def test_every_mark_has_ids_and_names_of_people_stay_text(theme, make):
    figure = make(BOOK, theme)
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


def test_numbers_to_be_read_have_interval_null_n_and_split():
    first, *_, last = transfer.numbers(BOOK).to_dict("records")
    assert (first["own"], first["recovery"]) == ("2.00 [1.50, 2.50]", "0.75 [0.50, 1.00]")
    assert first["shuffled maps, mean (95 %)"] == "0.30 (0.90)" and first["p"] == "p = .11, 8 maps"
    assert (first["n"], first["split"], first["doses"]) == (
        "24 replies, 12 questions",
        "test",
        "−0.25, +0.375",
    )
    assert (last["carried"], last["recovery"], last["p"]) == (
        "cannot tell",
        "cannot tell",
        "p not computed, 8 maps",
    )


# ------------------------------------------------------------------ doses and replies


def test_the_curve_goes_through_no_push_and_both_doses_with_controls_beside_them():
    figure = transfer_doses.dose_curve(BOOK, TRAITS[0], LABELS[0])
    for kind, model, dash in (("native", 1, "solid"), ("carried", 0, "dash")):
        (line,) = traces(figure, f"{kind} change")
        assert list(line.x) == [DOWN, 0.0, UP] and line.line.dash == dash
        assert line.line.color == MODEL_COLOURS[model], "own in the target's colour, carried in the source's"
        np.testing.assert_allclose(
            line.y, [change(LABELS[0], TRAITS[0], k, d) for k, d in ((kind, DOWN), ("none", 0), (kind, UP))]
        )
        np.testing.assert_allclose(
            line.error_y.array, {"native": [0.3, 0, 0.3], "carried": [0.4, 0, 0.4]}[kind]
        )
        (share,) = traces(figure, f"{kind} coherence")
        assert list(share.y) == [{"native": 0.95, "carried": 0.9}[kind], 1.0, share.y[0]]
    places = {k: traces(figure, f"{k} change")[0] for k in ("random", "permuted", "wrong")}
    assert len({round(x, 6) for t in places.values() for x in t.x}) == 6, "none covers another"
    for kind, marks in places.items():
        np.testing.assert_allclose(sorted(marks.x), [DOWN, UP], atol=0.02)
        assert list(marks.y) == [change(LABELS[0], TRAITS[0], kind, d) for d in (UP, DOWN)]
    ends = figure.layout.yaxis.range
    assert ends[0] < -1.3 and ends[1] > 1.3, "bars are not cut off"


def test_the_curve_says_unit_split_n_null_and_which_controls_are_too_few():
    said = note(transfer_doses.dose_curve(BOOK, TRAITS[0], LABELS[0]))
    for words in ("Unit: prior", "Split: test", "n = 24 replies", "12 questions", "5 random", "8 shuffled"):
        assert words in said, words
    assert "5 draws are needed for a bar: 2 other traits, carried given" in said
    enough = replace(BOOK, doses=tuple(d for d in BOOK.doses if d.kind != "wrong"))
    assert "needed" not in note(transfer_doses.dose_curve(enough, TRAITS[0], LABELS[0]))


def test_a_curve_without_doses_is_a_sentence_and_an_unread_dose_is_told():
    silent = replace(BOOK, doses=())
    figure = transfer_doses.dose_curve(silent, TRAITS[0], LABELS[0])
    assert not figure.data and "kept no single doses" in figure.layout.annotations[0].text
    gap = replace(BOOK, doses=tuple(replace(d, change=NAN) if d.kind == "carried" else d for d in BOOK.doses))
    figure = transfer_doses.dose_curve(gap, TRAITS[0], LABELS[0])
    assert list(traces(figure, "carried change")[0].x) == [0.0]
    assert "without a mark" in note(figure)


def test_replies_of_a_push_are_those_of_its_trait_way_dose_and_question():
    found = transfer_doses.replies_of(BOOK, TRAITS[1], LABELS[1], "down", "q2")
    assert list(found) == ["none", *DRAWN]
    assert [r.text for r in found["none"]] == [f"a  none +0 q2 {k} <u>" for k in (0, 1)]
    assert [r.text for r in found["random"]] == [f"a {TRAITS[1]} random -0.25 q2 {k} <u>" for k in (0, 1)]
    heads = [transfer_doses.head(rows[0]) for rows in found.values()]
    assert heads[0] == "no push" and heads[-1] == "another trait, carried (another <i>trait)"
    assert transfer_doses.questions(BOOK) == ASKED
    for wrong in (
        ("no trait", LABELS[0], "up"),
        (TRAITS[0], "no model", "up"),
        (TRAITS[0], LABELS[0], "no side"),
    ):
        with pytest.raises(LabError, match=r"No .* in this comparison"):
            transfer_doses.replies_of(BOOK, *wrong, "q1")


# ------------------------------------------------------------------ page


@pytest.fixture
def saved(store):
    save_transfer(store, BOOK)
    return BOOK


def test_without_a_run_the_page_says_how_to_make_one(store):
    at = page("transfer")
    assert "No transfer is saved here yet" in at.info[0].value
    assert at.code[0].value == "lab transfer hearth-a hearth-b"


def test_the_page_shows_pictures_numbers_and_replies_of_the_saved_run(saved, store):
    assert load_transfer(store, saved.run).replies == saved.replies
    assert repr(load_transfer(store, saved.run)) == repr(saved), "repr: NaN is not equal to itself"
    at = page("transfer", transfer_trait=TRAITS[1], transfer_source=LABELS[1], transfer_side="down")
    matrix, curve = charts(at)
    assert [t["customdata"][0][1:3] for t in role(matrix, "native")] == [list(LABELS), list(LABELS[::-1])]
    assert "candour &lt;b&gt;" in curve["layout"]["title"]["text"]
    assert at.dataframe[0].value["recovery"].tolist()[0] == "0.75 [0.50, 1.00]"
    said = [x.value for x in at.text]
    assert said[:4] == [
        "a  none +0 q1 0 <u>", "a  none +0 q1 1 <u>",
        *(f"a {TRAITS[1]} native -0.25 q1 {k} <u>" for k in (0, 1)),
    ]  # fmt: skip
    assert len(said) == 12, "two replies under each of six pushes"
    assert not any("<i>" in x.proto.body for x in at.get("html"))
    at.selectbox(key="transfer_question").set_value("q2").run()
    at.selectbox(key="transfer_side").set_value("up").run()
    assert f"a {TRAITS[1]} carried +0.375 q2 0 <u>" in [x.value for x in at.text]


def test_a_click_on_a_mark_chooses_its_trait_its_way_and_its_dose(saved, monkeypatch):
    matrix, curve = charts(page("transfer"))
    into = {"transfer_trait": 0, "transfer_source": 1}
    for name in ("native", "carried", "random", "permuted", "permuted_high", "wrong"):
        mark = role(matrix, name)[0]["customdata"][1]
        assert click(monkeypatch, mark, into) == {"transfer_trait": TRAITS[1], "transfer_source": LABELS[0]}
    for mark in role(curve, "carried change")[0]["customdata"]:
        found = click(monkeypatch, mark, {"transfer_side": 2})["transfer_side"]
        assert found == {"none": "up"}.get(mark[3], found) and found in transfer_doses.SIDES


def test_downloads_name_the_run_and_both_models(saved, monkeypatch):
    *_, origin = given_away(monkeypatch, saved, "transfer_matrix", lambda: "figure", lambda: "table")
    assert origin["run"] == saved.run and [m["name"] for m in origin["models"]] == list(LABELS)


def test_a_damaged_run_and_one_of_another_version_are_told(saved, store):
    manifest = store.root / saved.run / "manifest.json"
    told = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({k: v for k, v in told.items() if k != "version"}))
    assert "another version of the lab" in page("transfer").error[0].value
    manifest.write_text(json.dumps(told))
    (store.root / saved.run / "transfers.parquet").write_bytes(b"no table")
    with pytest.raises(LabError, match="is damaged"):
        load_transfer(store, saved.run)


def test_the_page_loads_no_torch(saved):
    assert_no_torch("transfer", 2)
