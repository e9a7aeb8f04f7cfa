"""Strips and head pictures, mark by mark."""

import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest
from fake_words import LABELS, TEXT, WORDS, fake_words

from lab.figures import heads, words
from lab.figures.theme import DARK
from lab.figures.tokens import shade
from lab.records import LabError


def trace(figure, role):
    return next(t for t in figure.data if t.meta["role"] == role)


def note(figure):
    return next(a.text for a in figure.layout.annotations if a.name == "panel note").replace("<br>", " ")


def visible(html):
    return unescape(re.sub(r"<[^>]*>", "", html))


def test_each_word_carries_its_pieces_and_only_unequal_ones_a_colour():
    html = words.fragmentation_map(fake_words())
    found = re.findall(
        r'data-start="(\d+)" data-a="(\d+)" data-b="(\d+)"[^>]*style="background:([^;]*);', html
    )
    assert [tuple(map(int, x[:3])) for x in found] == [(w[1], w[4], w[5]) for w in WORDS]
    colours = {w[0]: x[3] for w, x in zip(WORDS, found, strict=True)}
    assert (colours["Ada"], colours["smells"]) == (shade(1, 2, words.LIGHT)[0], shade(-2, 2, words.LIGHT)[0])
    assert colours["!"] == "transparent"
    assert "1|2" in html and "3|1" in html and "1|1" not in html
    assert "F1 0.50 [0.40, 0.60], null 0.20, p = .030" in html
    counted = re.sub(r"<sup.*?</sup>", "", html).replace("<br>", "\n")
    assert TEXT in visible(counted), "the text stands there as it is"
    assert "<b>" not in html and "<i>" not in html


def test_both_rows_of_the_strip_are_the_text_character_by_character():
    book = fake_words()
    html = words.aligned_strip(book)
    rows = re.findall(r'data-row="([^"]*)"[^>]*>(.*?)</div>', html)
    for label in book.pair:
        said = "".join(visible(row) for name, row in rows if unescape(name) == label)
        assert said == TEXT.replace("\n", "⏎")
    assert len(rows) == 4, "two lines in two models"
    starts = [int(x) for x in re.findall(r'data-model="a" data-start="(\d+)"', html)]
    assert starts == [0, 3, 8, 10, 12, 14, 16, 19, 23]
    assert html.count("surprisal unknown") == 2 and "repeating-linear-gradient" in html
    assert "9.00 nats, 9.00 per character, 2 tokens" in html
    assert "&lt;start of a&gt;" in html and "<start" not in html and "<i>" not in html
    assert "visible characters in a token of both models 0.90 [0.80, 1.00]" in html


def test_a_token_cut_by_a_line_starts_once():
    book = fake_words()
    long = replace(
        book, text="x" * 200,
        cells=tuple(replace(c, text="x" * 200, start=0, end=200) for c in book.cells if c.template is False)[:1]
        + tuple(c for c in book.cells if c.template),
    )  # fmt: skip
    html = words.aligned_strip(long)
    assert html.count("inset 1px") == 1
    assert html.count('data-start="') == 3


@pytest.mark.parametrize("text", ["", "x" * 300, "one two\nthree " * 20, "\n\n a"])
def test_lines_tile_the_text(text):
    found = words.lines_of(text, 20)
    assert "".join(text[s:e] for s, e in found) == text
    assert all(0 < e - s <= 20 for s, e in found)


def test_one_scale_for_both_models_with_few_characters_beyond_it():
    cells = [c for c in fake_words().cells if not c.template]
    end = words.scale_end(cells)
    each = np.concatenate(
        [np.full(c.end - c.start, c.nats / (c.end - c.start)) for c in cells if c.nats == c.nats]
    )
    assert 0 < np.mean(each > end) <= 0.06
    assert words.scale_end([]) == 1.0


def test_the_grid_holds_every_pair_and_marks_the_matched_ones():
    book = fake_words()
    figure = heads.head_grid(book, DARK)
    grid, marks = trace(figure, "grid"), trace(figure, "matched")
    np.testing.assert_allclose(np.array(grid.z), book.grid)
    assert (grid.zmin, grid.zmax) == (0, book.grid.max())
    assert (list(grid.y), list(grid.x)) == (
        ["0.0", "0.1", "1.0", "1.1"],
        [f"{i}.{j}" for i in (0, 1) for j in range(3)],
    )
    assert list(zip(marks.y, marks.x, strict=True)) == [
        ("0.0", "0.0"),
        ("0.1", "0.1"),
        ("1.0", "0.2"),
        ("1.1", "1.0"),
    ]
    said = note(figure)
    assert "matched heads, a | b &lt;i&gt;: 0.28 [0.18, 0.38], null 0.38, p = .002" in said
    assert "gain of matched heads, a | b &lt;i&gt;: 0.10 [0.00, 0.20]" in said and "Split: test" in said
    assert "b &lt;i&gt;" in figure.layout.title.text


def test_matched_heads_stand_beside_their_null():
    book = fake_words()
    figure = heads.matched_heads(book)
    same, null = trace(figure, "matched"), trace(figure, "null")
    rows = sorted(book.matches, key=lambda m: -m.gain)
    assert list(same.x) == [m.divergence for m in rows] and list(null.x) == [m.other_text for m in rows]
    assert list(same.y) == [heads.pair_name(m) for m in rows]
    assert list(same.marker.symbol) == ["circle", "circle", "circle-open", "circle-open"]
    assert list(figure.layout.xaxis.range) == [0, 1]
    assert "needed" not in note(figure)
    few = replace(book, matches=tuple(replace(m, n=2, low=np.nan, high=np.nan) for m in book.matches))
    assert "No bars: 5 test texts are needed, 2 given" in note(heads.matched_heads(few))
    many = replace(book, matches=book.matches * 20)
    assert "of 80" in note(heads.matched_heads(many))


def test_a_pair_shows_where_both_heads_look_on_one_scale():
    book = fake_words()
    figure = heads.pair_attention(book, "1.1 with 1.0")
    assert [t.meta["role"] for t in figure.data] == list(book.pair)
    assert {(t.zmin, t.zmax) for t in figure.data} == {(0, 1)}
    for panel, attention, at in zip(figure.data, book.attention, ((1, 1), (1, 0)), strict=True):
        shown = np.array([[np.nan if v is None else v for v in row] for row in panel.z], dtype=float)
        np.testing.assert_allclose(np.nan_to_num(shown), attention.attention[at])
        assert np.isnan(shown[0, 1])
    assert panel.customdata[4][0] == "smells looks at Ada" and "&lt;" in panel.customdata[1][1]
    with pytest.raises(LabError, match="No pair of heads “1"):
        heads.pair_attention(book, "1.1 with 2.0")
    alone = heads.pair_attention(book, "0.1 with 1.2")
    assert f"this pair is {book.grid[1, 5]:.2f} apart; it was not matched" in note(alone)


def test_every_line_under_the_strips_says_n_split_and_what_is_too_few():
    html = words.aligned_strip(fake_words())
    assert html.count("n = 10 texts, split: all; why") == 3, "surprisal of both models, characters in both"
    few = replace(
        fake_words(), measures=tuple(replace(m, note="5 <b> are needed") for m in fake_words().measures)
    )
    for strip in (words.aligned_strip(few), words.fragmentation_map(few)):
        assert "5 &lt;b&gt; are needed" in strip


def test_what_was_given_is_template_and_text_and_the_table_of_a_pair_is_its_picture():
    book = fake_words()
    assert words.given(book, LABELS[1]) == f"<start of b <i>>{TEXT}"
    with pytest.raises(LabError, match="No cells of 'a2' here; there are those of a, b <i>"):
        words.given(book, LABELS[2])
    table, figure = heads.attended(book, "1.1 with 1.0"), heads.pair_attention(book, "1.1 with 1.0")
    assert len(table) == len(WORDS) * (len(WORDS) + 1) // 2
    assert list(table.columns[4:]) == ["a: head 1.1", "b <i>: head 1.0"]
    for panel, column in zip(figure.data, table.columns[4:], strict=True):
        for row in table[["looking", "looked at", column]].itertuples(index=False):
            assert panel.z[row[0]][row[1]] == pytest.approx(row[2])
    assert table.loc[5, ["word", "word looked at"]].tolist() == ["b", "b"]


def test_marks_of_pairs_carry_the_name_of_their_pair():
    book = fake_words()
    names = [heads.pair_name(m) for m in book.matches]
    grid, both = heads.head_grid(book), heads.matched_heads(book)
    assert [c[0] for c in trace(grid, "matched").customdata] == names
    cells = trace(grid, "cells")
    assert [c[0] for c in cells.customdata] == [
        f"{y} with {x}" for y, x in zip(cells.y, cells.x, strict=True)
    ]
    assert len(cells.x) == book.grid.size and set(names) < {c[0] for c in cells.customdata}
    for role in ("matched", "null"):
        assert [c[0] for c in trace(both, role).customdata] == list(trace(both, role).y)
    assert set(trace(both, "null").y) == set(names)


def test_tables_have_a_row_per_record_and_unknown_measures_are_named():
    book = fake_words()
    sizes = (len(book.measures), len(book.matches), len(book.cells), len(WORDS))
    assert tuple(len(f(book)) for f in (words.measures, words.matches, words.cells, words.pieces)) == sizes
    with pytest.raises(LabError, match="No measure 'nothing' here; there are characters in a token of both"):
        words.rows_of(book, "nothing")
    assert LABELS[2] not in words.aligned_strip(book)
