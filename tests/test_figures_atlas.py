"""Pictures of an atlas, mark by mark."""

from dataclasses import replace

import numpy as np
import pytest
from fake_atlas import CATEGORIES, LABELS, MEASURE, NAN, WORDS, K, fake_atlas

from lab.figures import atlas, atlas_tables
from lab.figures.theme import DARK, MODEL_COLOURS
from lab.records import LabError

BOOK = fake_atlas()


def traces(figure, role):
    return [t for t in figure.data if t.meta["role"] == role]


def note(figure):
    return next(a.text for a in figure.layout.annotations if a.name == "panel note").replace("<br>", " ")


def test_neighbours_stand_as_two_ranked_lists_with_lines_between_what_both_have():
    figure = atlas.neighbourhoods(BOOK, "joy", "chosen layers", DARK)
    left, right = traces(figure, "neighbours")
    assert [d[0] for d in left.customdata] == ["love <b>", "grief", "fear"]
    assert [d[0] for d in right.customdata] == ["grief", "fear", "nurse"]
    assert left.text[0].strip() == "love &lt;b&gt;" and left.name == "a &lt;i&gt;"
    assert list(left.y) == [1, 2, 3] and set(left.x) == {0} and set(right.x) == {1}
    assert (left.marker.color, right.marker.color) == MODEL_COLOURS[:2]
    assert list(right.marker.symbol) == [
        "diamond",
        "diamond",
        "diamond-open",
    ]  # the nurse is of another category
    assert [(t.customdata[0][0], tuple(t.y)) for t in traces(figure, "shared")] == [
        ("grief", (2, 1)),
        ("fear", (3, 2)),
    ]
    low, high = figure.layout.yaxis.range
    assert low > K > 1 > high, "the nearest stands on top, and all are in the picture"
    said = note(figure)
    assert "Shared: 2 of 3; chance 1.29, categories alone 1.35" in said and "p = .010" in said
    assert "block 2 of a &lt;i&gt; and block 3 of b" in said and "split: test, 4 frames" in said
    assert "no frames and no split" in note(atlas.neighbourhoods(BOOK, "joy", "embedding"))
    assert "fixed in advance" in note(atlas.neighbourhoods(BOOK, "joy", "first layer"))
    with pytest.raises(LabError, match="No concept 'nothing'"):
        atlas.neighbourhoods(BOOK, "nothing", "embedding")
    shallow = replace(BOOK, maps=tuple(m for m in BOOK.maps if m.stage != "chosen layers"))
    with pytest.raises(LabError, match="No stage 'chosen layers'"):
        atlas.neighbourhoods(shallow, "joy", "chosen layers")


def test_bars_stand_beside_chance_and_what_categories_do_alone():
    figure = atlas.shared_bars(BOOK, "embedding")
    (bars,), (chance,), (null,) = (traces(figure, role) for role in ("shared", "chance", "null"))
    assert list(bars.y) == ["all", "emotion", "role"]
    assert list(bars.x) == pytest.approx([2 / 3] * 3) and list(null.x) == [0.55] * 3
    assert list(bars.error_x.array) == pytest.approx([0.8 - 2 / 3] * 3)
    assert list(bars.error_x.arrayminus) == pytest.approx([2 / 3 - 0.5] * 3)
    assert list(chance.x) == pytest.approx([K / 7] * 3)
    assert list(figure.layout.xaxis.range) == [0, 1]
    assert "n = 4 emotion, 4 role" in note(figure) and "99 relabelings" in note(figure)


def test_every_concept_has_its_dot_and_those_astray_are_hollow():
    figure = atlas.concept_strip(BOOK, "chosen layers", "within category", "b")
    (near,), (far,), (null,), (ceiling,) = (traces(figure, r) for r in ("near", "far", "null", "ceiling"))
    assert {d[0] for d in near.customdata} | {d[0] for d in far.customdata} == set(WORDS)
    assert [d[0] for d in far.customdata] == ["grief"] and far.marker.symbol.endswith("-open")
    assert near.marker.color == MODEL_COLOURS[1]
    rows = {d[0]: (x, y) for t in (near, far) for d, x, y in zip(t.customdata, t.x, t.y, strict=True)}
    for k, word in enumerate(WORDS):
        assert rows[word][0] == pytest.approx(0.8 - 0.2 * k)
        assert round(rows[word][1]) == list(dict.fromkeys(CATEGORIES.values())).index(CATEGORIES[word])
    assert list(null.x) == [0.1, 0.1] and list(ceiling.x) == [0.8, 0.8]
    low, high = figure.layout.xaxis.range
    assert low < -0.6 and high > 0.8, "nothing is cut"
    said = note(figure)
    assert "R² 0.40 [0.30, 0.50], p = .010; null 95 %: 0.10 (99 random pairings, inside categories)" in said
    assert "among the 5 nearest: 0.80 [0.70, 0.90] (null 0.30, ceiling 1.00)" in said
    assert "block 3 of b" in said
    unknown = replace(BOOK, scores=tuple(replace(s, r2=NAN) for s in BOOK.scores))
    assert any(
        a.name == "abstention"
        for a in atlas.concept_strip(unknown, "embedding", "all", "b").layout.annotations
    )
    with pytest.raises(LabError, match="No model 'c'"):
        atlas.concept_strip(BOOK, "embedding", "all", "c")


def test_depth_begins_with_the_embedding():
    figure = atlas.by_depth(BOOK, "all", MEASURE)
    (value,), (null,) = traces(figure, "value"), traces(figure, "null")
    assert list(value.x) == [atlas.BEFORE, 0.0, 0.5, 1.0] and list(value.y) == [0.3, 0.5, 0.6, 0.7]
    assert value.customdata[0][2] == "embedding" and value.customdata[3][2] == "blocks 3 and 3"
    assert list(null.y) == [0.1] * 4
    assert figure.layout.xaxis.ticktext[0] == "embedding"
    assert "search included: 0.10; ceiling 0.90" in note(figure) and "2 and 3: 0.60 [0.50, 0.70]" in note(
        figure
    )
    with pytest.raises(LabError, match="No measure 'x'"):
        atlas.by_depth(BOOK, "all", "x")
    unknown = replace(BOOK, depth=tuple(replace(d, value=NAN) for d in BOOK.depth))
    assert any(a.name == "abstention" for a in atlas.by_depth(unknown, "all", MEASURE).layout.annotations)


def test_tables_have_a_row_per_record():
    assert len(atlas_tables.similarities(BOOK)) == len(BOOK.similarities)
    assert len(atlas_tables.maps(BOOK)) == len(BOOK.maps)
    assert len(atlas_tables.scores(BOOK, "embedding", "all")) == 2 * len(WORDS)
    assert len(atlas_tables.shared(BOOK, "embedding")) == 3 + len(WORDS)
    assert len(atlas_tables.neighbours(BOOK, "joy", "embedding")) == 2 * K
    depth = atlas_tables.depth(BOOK, "all", MEASURE)
    assert np.isnan(depth["depth"][0]) and list(depth["value"]) == [0.3, 0.5, 0.6, 0.7]
    contexts = atlas_tables.contexts(BOOK, "love <b>")
    assert contexts["read"][2] == "Number 2 says love <b>" and contexts["not read"][2] == ", as ever."


def test_concepts_that_go_astray_are_named_worst_first():
    assert BOOK.astray("embedding", "all") == ("grief",)
    assert BOOK.astray("embedding", "all", near=1)[0] == "grief"
    assert len(BOOK.astray("embedding", "all", near=1)) == 5
    assert [s.source for s in BOOK.scores_at("embedding", "all")["joy"]] == list(LABELS)
