"""Pictures of a geometry run, mark by mark: values, nulls, ids, abstentions; nothing from people gets through raw."""

import json
import re
from dataclasses import replace
from math import isfinite

import numpy as np
import pytest
from fake_geometry import (
    CHOSEN,
    LABELS,
    LAYERS,
    MAX_HIGH,
    MEASURES,
    SCAFFOLDS,
    SOURCES,
    TRAITS,
    L,
    cell,
    distance,
    fake_geometry,
)

from lab.figures import beside, controls, dissimilarities, geometry, labels, scores, shared
from lab.figures import geometry_tables as tables
from lab.figures.theme import DARK, LIGHT, MODEL_COLOURS
from lab.records import LabError
from lab.records.similarity import Beside, Dissimilarity

BOOK = fake_geometry()
HERE = "reply_mean"
FIGURES = {
    "grid": lambda p, theme=LIGHT: geometry.layer_grid(BOOK, p, "CKA", theme),
    "dissimilarities": lambda p, theme=LIGHT: dissimilarities.dissimilarities(BOOK, p, "RSA", theme),
    "controls": lambda p, theme=LIGHT: controls.controls_strip(BOOK, theme),
    "maps": lambda p, theme=LIGHT: scores.map_scores(BOOK, p, theme),
    "shared": lambda p, theme=LIGHT: shared.shared_map(BOOK, p, "a", theme),
    "not shared": lambda p, theme=LIGHT: shared.shared_map(BOOK, p, "b <i>", theme),
    "shares": lambda p, theme=LIGHT: scores.variance_shares(BOOK, p, theme),
    "agreement": lambda p, theme=LIGHT: shared.agreement(BOOK, p, TRAITS[0], theme),
    "no agreement": lambda p, theme=LIGHT: shared.agreement(BOOK, p, TRAITS[1], theme),
}


def traces(figure, role):
    return [t for t in figure.data if t.meta["role"] == role]


def note(figure):
    (found,) = [a.text for a in figure.layout.annotations if a.name == "panel note"]
    return found.replace("<br>", " ")


def refusal(figure):
    return [a.text.replace("<br>", " ") for a in figure.layout.annotations if a.name == "abstention"]


# ------------------------------------------------------------------ all of them


@pytest.mark.parametrize("name", FIGURES)
def test_every_mark_has_ids_and_a_role_and_every_note_split_and_n(name):
    for place in (HERE, "spawn"):
        for theme in (LIGHT, DARK):
            figure = FIGURES[name](place, theme)
            for t in figure.data:
                assert t.meta["role"]
                assert len(t.customdata) == len(t.y), t.meta
            assert figure.layout.paper_bgcolor == theme.paper
            said = note(figure)
            assert "Unit: " in said
            if name != "maps" or place == HERE:
                assert re.search(r"[Ss]plit: test", said) or "shared" in name
            assert refusal(figure) or "n = " in said
            assert bool(figure.data) != bool(refusal(figure)), "marks, or a sentence in their place"


@pytest.mark.parametrize("name", FIGURES)
def test_names_of_people_stay_text(name):
    for place in (HERE, "spawn"):
        figure = json.loads(FIGURES[name](place).to_json())
        for trace in figure["data"]:
            trace.pop("customdata"), trace.pop("meta")
        told = json.dumps(figure)
        assert "<i>" not in told and "<b>mean" not in told and "<b>and" not in told and "<b>low" not in told
        assert "<b>varies" not in told and "<b>questions" not in told and "<b>without" not in told


def test_what_is_not_there_is_refused():
    for make in (
        lambda: geometry.layer_grid(BOOK, HERE, "absent"),
        lambda: shared.shared_map(BOOK, HERE, "absent"),
        lambda: shared.agreement(BOOK, HERE, "absent"),
        lambda: tables.scaffold(BOOK, HERE, "absent"),
        lambda: scores.map_scores(BOOK, "absent"),
    ):
        with pytest.raises(LabError, match="absent"):
            make()


# ------------------------------------------------------------------ alike


def test_the_grid_holds_every_cell_by_relative_depth_with_its_own_null():
    (heat,) = traces(geometry.layer_grid(BOOK, HERE, "CKA"), "grid")
    expected = [[None if not isfinite(cell(i, j)) else cell(i, j) for i in range(3)] for j in range(4)]
    assert [list(row) for row in heat.z] == expected
    np.testing.assert_allclose(heat.x, [0, 0.5, 1])
    np.testing.assert_allclose(heat.y, [0, 1 / 3, 2 / 3, 1])
    assert (heat.zmin, heat.zmid, heat.zmax) == (-1, 0, 1)
    assert heat.customdata[2][1] == ["CKA", 1, 2, "0.25"]


def test_the_outline_goes_round_the_cells_above_the_null_of_the_largest():
    """Crossing counts: from any cell's middle to the left, an odd number of borders is met inside, an even outside."""
    (line,) = traces(geometry.layer_grid(BOOK, HERE, "CKA"), "max null")
    pieces = [(line.x[k], line.x[k + 1], line.y[k], line.y[k + 1]) for k in range(0, len(line.x), 3)]
    assert all(line.x[k + 2] is None for k in range(0, len(line.x), 3))
    for i in range(LAYERS[0]):
        for j in range(LAYERS[1]):
            x, y = i / (LAYERS[0] - 1), j / (LAYERS[1] - 1)
            met = sum(x0 == x1 < x and min(y0, y1) < y < max(y0, y1) for x0, x1, y0, y1 in pieces)
            assert (met % 2 == 1) == (cell(i, j) > MAX_HIGH), (i, j)


def test_the_chosen_pair_is_ringed_and_unknown_cells_are_marked():
    figure = geometry.layer_grid(BOOK, HERE, "CKA")
    (ring,), (gap,) = traces(figure, "chosen"), traces(figure, "gap")
    assert (ring.x[0], ring.y[0]) == (0.5, 2 / 3)
    assert [c[1] for c in gap.customdata] == [0] * 4 and set(gap.text) == {"?"}
    said = note(figure)
    assert "0.90 [0.80, 0.95], p = .002; null 95 %: 0.30; ceiling 0.96" in said
    above = sum(cell(i, j) > MAX_HIGH for i in range(3) for j in range(4))
    assert f"{above} of 12 cells, above 0.40" in said and "0.90 (p = .004)" in said
    assert "12 questions (1 dropped)" in said and "999 relabelings" in said


def test_a_measure_that_abstains_says_why_instead():
    (said,) = refusal(geometry.layer_grid(BOOK, "spawn", "CKA"))
    assert said == "Cannot tell: 4 scaffolds &lt;b&gt;and&lt;/b&gt; 5 are needed."


def test_a_value_without_interval_keeps_its_marks_and_its_reason():
    place = BOOK.places[0]
    short = replace(
        place.similarities[0], low=float("nan"), high=float("nan"), why="4 questions give no interval"
    )
    figure = geometry.layer_grid(replace(BOOK, places=(replace(place, similarities=(short,)),)), HERE, "CKA")
    assert traces(figure, "chosen")
    assert "[no interval]" in note(figure) and "4 questions give no interval." in note(figure)


def test_matrices_share_order_and_scale_and_the_third_is_the_rank_difference():
    figure = dissimilarities.dissimilarities(BOOK, HERE, "RSA")
    a, b = traces(figure, "dissimilarity")
    (off,) = traces(figure, "difference")
    order = [row[0][0] for row in a.customdata]
    assert sorted(order) == sorted(SCAFFOLDS)
    assert order == [row[0][0] for row in b.customdata] == [c[1] for c in a.customdata[0]]
    assert (a.zmin, a.zmax) == (b.zmin, b.zmax) and a.zmin < 0 and (off.zmin, off.zmax) == (-1, 1)
    paper = next(at for at, colour in a.colorscale if colour == LIGHT.paper)
    assert paper * (a.zmax - a.zmin) + a.zmin == pytest.approx(0), "paper is 0, also where noise goes below"
    rows = {(x.model, x.scaffold_a, x.scaffold_b): x for x in BOOK.places[0].dissimilarities}
    for i, s in enumerate(order):
        for j, t in enumerate(order):
            if i == j:
                assert a.z[i][j] is None
                continue
            where = [SCAFFOLDS.index(x) for x in (s, t)]
            assert a.z[i][j] == a.z[j][i] == pytest.approx(distance("a", *where))
            key = (s, t) if ("a", s, t) in rows else (t, s)
            assert off.z[i][j] == pytest.approx(rows["a", *key].rank - rows["b <i>", *key].rank)


def test_scaffolds_on_a_line_are_put_in_their_order_and_unknown_ranks_do_no_harm():
    names = [f"s{k}" for k in (3, 0, 4, 1, 2)]
    pairs = [(s, t) for i, s in enumerate(names) for t in names[i + 1 :]]
    rows = [Dissimilarity("a", 0, s, t, 0.0, abs(int(s[1]) - int(t[1])) / 4) for s, t in pairs]
    found = dissimilarities.seriation(rows)
    assert found in ([f"s{k}" for k in range(5)], [f"s{k}" for k in range(4, -1, -1)])
    unknown = [replace(x, rank=float("nan")) for x in rows]
    assert dissimilarities.seriation(unknown) == names


def test_names_stand_beside_a_matrix_only_where_they_fit():
    names = [f"s{k:02d}" for k in range(dissimilarities.NAMED + 1)]
    rows = tuple(
        Dissimilarity(m, layer, s, t, 1.0, 0.5)
        for m, layer in zip(LABELS, CHOSEN, strict=True) for i, s in enumerate(names) for t in names[i + 1 :]
    )  # fmt: skip
    crowded = replace(BOOK, places=(replace(BOOK.places[0], dissimilarities=rows),))
    assert not dissimilarities.dissimilarities(crowded, HERE, "RSA").layout.yaxis.showticklabels
    shown = dissimilarities.dissimilarities(BOOK, HERE).layout.yaxis
    assert shown.showticklabels and len(shown.ticktext) == len(SCAFFOLDS)
    assert max(map(len, shown.ticktext)) < 40


def test_controls_stand_beside_every_value():
    figure = controls.controls_strip(BOOK)
    value, silent = traces(figure, "value")
    assert list(value.x) == [0.9, 0.9] and list(silent.x) == []
    assert list(traces(figure, "null")[0].x) == [0.3, 0.3]
    assert list(traces(figure, "ceiling")[0].x) == [0.96, 0.96]
    assert list(traces(figure, "itself 1")[0].x) == [0.95, 0.95]
    assert [c[0] for c in traces(figure, "gap")[0].customdata] == list(MEASURES)
    assert "random weights" in note(figure) and "4 scaffolds" in note(figure)
    words, none = traces(figure, "untrained")
    assert list(words.x) == [0.4, 0.4] and list(words.error_x.array) == pytest.approx([0.2, 0.2])
    assert list(none.x) == []


def test_a_pair_beside_its_reference_says_which_way_and_where_it_cannot_tell():
    told = Beside("reply_mean", "CKA", 12, "", 0.9, 0.95, -0.05, -0.08, -0.02)
    rows = (
        told,
        replace(told, measure="RSA", low=-0.08, high=0.01),
        Beside("spawn", "CKA", 3, "3 <b>questions"),
    )
    figure = beside.beside_strip(rows, "a and <b>", "a and c")
    (marks,) = traces(figure, "difference")
    assert list(marks.x) == [-0.05, -0.05]
    assert list(traces(figure, "verdict")[0].text) == ["less alike than", "as alike as", "cannot tell"]
    assert "3 &lt;b&gt;questions" in note(figure) and "<b>a and &lt;b&gt;</b>" in figure.layout.title.text
    low, high = figure.layout.xaxis.range
    assert low < -0.08 and high > 0.01
    with pytest.raises(LabError):
        beside.beside_strip((), "a", "b")


# ------------------------------------------------------------------ maps


def test_map_scores_show_both_ways_with_null_chance_and_ceiling():
    figure = scores.map_scores(BOOK, HERE)
    there, back = traces(figure, "r2")
    assert (list(there.x), list(back.x)) == ([0.5, 0.5], [0.2])
    assert (there.marker.color, back.marker.color) == MODEL_COLOURS[:2]
    np.testing.assert_allclose(np.add(there.x, there.error_x.array), 0.7)
    assert list(traces(figure, "null")[0].x) == [-0.2] * 3
    assert list(traces(figure, "ceiling")[0].x) == [0.9, 0.9], "relative coordinates have none"
    assert list(traces(figure, "chance")[0].x) == [1 / 6] * 3
    assert "cannot tell" in traces(figure, "gap")[0].text[0] and "nothing &lt;b&gt;varies" in note(figure)
    low, high = figure.layout.xaxis.range
    assert low < -0.2 and high > 0.9
    assert (
        "p = .010" in traces(figure, "numbers")[0].text[0]
        and "p = .020" in traces(figure, "numbers")[0].text[0]
    )
    assert "no layers were chosen" in refusal(scores.map_scores(BOOK, "spawn"))[0]


def test_a_shared_map_shows_both_landings_of_a_scaffold_with_their_ellipses():
    figure = shared.shared_map(BOOK, HERE, "a")
    own, carried = traces(figure, "landing")
    assert (own.meta["model"], carried.meta["model"]) == ("b <i>", "a")
    assert (own.marker.color, carried.marker.color) == (MODEL_COLOURS[1], MODEL_COLOURS[0])
    assert [c[0] for c in own.customdata] == [c[0] for c in carried.customdata] == list(SCAFFOLDS)
    np.testing.assert_allclose(np.subtract(carried.x, own.x), 1.0)
    (link,) = traces(figure, "link")
    assert list(link.x[:3]) == [own.x[0], carried.x[0], None]
    ring = traces(figure, "ellipse")[0]
    x = np.array(
        [v for v, c in zip(ring.x, ring.customdata, strict=True) if c[0] == "clerk" and v is not None]
    )
    y = np.array(
        [v for v, c in zip(ring.y, ring.customdata, strict=True) if c[0] == "clerk" and v is not None]
    )
    assert np.ptp(y) == pytest.approx(4.0) and np.ptp(x) == pytest.approx(2.0), "turned by 90 degrees"
    assert {c[0] for v, c in zip(ring.x, ring.customdata, strict=True) if v is not None} == set(SCAFFOLDS[:5])
    assert figure.layout.yaxis.scaleanchor == "x" and figure.layout.yaxis.scaleratio == 1
    assert "held-out R² 0.50 (random pairings, 95 %: −0.20)" in figure.layout.title.text
    assert "50%" in figure.layout.xaxis.title.text


def test_without_a_shared_map_there_is_a_sentence():
    assert "R² is &lt;b&gt;low" in refusal(shared.shared_map(BOOK, HERE, "b <i>"))[0]
    assert "no layers were chosen" in refusal(shared.shared_map(BOOK, "spawn", "a"))[0]


# ------------------------------------------------------------------ landings


def test_shares_are_drawn_as_they_are_below_zero_too():
    figure = scores.variance_shares(BOOK, HERE)
    bars = {t.meta["source"]: t for t in traces(figure, "share")}
    assert list(bars) == list(SOURCES)
    assert bars["scaffold x weights"].x[0] == -0.03
    assert bars["scaffold"].error_x.array[0] == pytest.approx(0.05)
    assert bars["scaffold"].marker.color[0] != bars["question"].marker.color[0], "dark where p < .05"
    nulls = {t.meta["source"]: list(t.x) for t in traces(figure, "null")}
    assert nulls == {s: [] if s == "residual" else [0.02] for s in SOURCES}
    assert all(list(g.text) == ["cannot tell"] for g in traces(figure, "gap"))
    assert "4 &lt;b&gt;questions" in note(figure)
    assert figure.layout.xaxis.range[0] < -0.08
    assert traces(figure, "numbers")[3].text[0] == "−3.0 % [−8.0, 2.0]"
    assert len({tuple(figure.layout[f"xaxis{k}"].range) for k in ("", 2, 3, 4, 5)}) == 1, "one scale"


def test_agreement_shows_each_scaffold_on_equal_axes_with_null_and_ceiling():
    figure = shared.agreement(BOOK, HERE, TRAITS[0])
    (dots,), (line,) = traces(figure, "landing"), traces(figure, "identity")
    np.testing.assert_allclose(dots.x, [L("a", TRAITS[0], k) for k in range(6)])
    np.testing.assert_allclose(dots.y, [L("b <i>", TRAITS[0], k) for k in range(6)])
    assert list(line.x) == list(line.y) == list(figure.layout.xaxis.range) == list(figure.layout.yaxis.range)
    assert "r = 0.90 [0.50, 0.99], p = .003; null, 95 % of random pairings: 0.60" in note(figure)
    assert "0.98" in note(figure)


def test_a_trait_without_agreement_cannot_tell_and_says_why():
    figure = shared.agreement(BOOK, HERE, TRAITS[1])
    assert [c[0] for c in traces(figure, "landing")[0].customdata] == [s for s in SCAFFOLDS if s != "poet"]
    said = note(figure)
    assert "cannot tell. 1 question &lt;b&gt;without" in said and "one of the models: poet." in said
    assert refusal(shared.agreement(BOOK, "spawn", TRAITS[0]))


# ------------------------------------------------------------------ names


def boxes(at, placed, pixels):
    return [
        labels._box((x * pixels, y * pixels), n, p) for (x, y), (n, p) in zip(at, placed, strict=True) if n
    ]


def test_names_do_not_cover_names_or_marks_or_leave_the_axis():
    rng = np.random.default_rng(0)
    at = [tuple(map(float, v)) for v in rng.uniform(0, 1, (25, 2))]
    names = [f"scaffold {k}" for k in range(25)]
    placed = labels.place_names(at, names, [], 500.0, (0.0, 1.0))
    found = boxes(at, placed, 500.0)
    assert len(found) > 15
    area = labels.LETTER * len("scaffold 10") * labels.LINE
    for k, box in enumerate(found):
        covered = sum(labels._overlap(box, other) for i, other in enumerate(found) if i != k)
        assert covered <= 0.3 * area, "a name placed later may add a little"
        assert box[0] > -20 and box[1] < 520
    fixed = [labels._box((x * 500, y * 500), n, "top center") for (x, y), n in zip(at, names, strict=True)]
    naive = sum(labels._overlap(p, q) for i, p in enumerate(fixed) for q in fixed[i + 1 :])
    assert sum(labels._overlap(p, q) for i, p in enumerate(found) for q in found[i + 1 :]) < 0.1 * naive


def test_a_name_without_a_free_place_is_left_out():
    crowd = [(0.0, 0.0)] + [
        (x / 10, y / 10) for x in range(-9, 10) for y in range(-9, 10) if (x, y) != (0, 0)
    ]
    assert labels.place_names(crowd[:1], ["x" * 20], crowd[1:], 60.0) == [("", "top center")]
    assert labels.place_names(crowd[:1], ["x" * 40], [], 60.0)[0][0].endswith("…")


# ------------------------------------------------------------------ tables


def test_tables_hold_the_numbers_of_the_figures():
    assert len(tables.similarities(BOOK)) == 4
    grid = tables.grid(BOOK, HERE, "CKA")
    assert len(grid) == 12 and list(grid[grid["chosen"]]["value"]) == [cell(*CHOSEN)]
    apart = tables.dissimilarities(BOOK, HERE, "RSA").set_index(["scaffold_a", "scaffold_b"])
    row = apart.loc["old friend", "clerk"]
    assert row["a: value"] == pytest.approx(distance("a", 0, 1))
    assert row["rank difference"] == pytest.approx(row["a: rank"] - row["b <i>: rank"])
    assert len(tables.maps(BOOK, HERE)) == 4 and len(tables.shares(BOOK, HERE)) == 10
    assert tables.shared(BOOK, HERE, "a")["carried"].sum() == 6
    assert len(tables.shared(BOOK, "spawn", "a")) == 0 and len(tables.dissimilarities(BOOK, "spawn")) == 0
    assert list(tables.agreements(BOOK, HERE)["trait"]) == list(TRAITS)
    landings = tables.landings(BOOK, HERE, TRAITS[1]).set_index("scaffold")
    assert np.isnan(landings.loc["poet", "L in b <i>"]) and landings["why"].str.contains("1 question").all()
    one = tables.scaffold(BOOK, HERE, "clerk")
    assert list(one["trait"]) == list(TRAITS)
    np.testing.assert_allclose(one["A − B"], one["L in a"] - one["L in b <i>"])
