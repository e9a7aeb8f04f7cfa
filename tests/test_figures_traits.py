"""Figures of quality cards, mark by mark."""

import numpy as np
import pandas as pd
import pytest
from fake_traits import RECIPES, TRAITS, fake_traits

from lab.figures import tables, traits
from lab.records import LabError
from lab.store import Store


def traced(figure, role):
    return next(t for t in figure.data if t.meta["role"] == role)


def test_depth_shows_every_layer_with_its_null_and_the_chosen_one():
    figure = traits.depth(fake_traits(), "warmth", "spawn")
    line = traced(figure, "d_prime")
    np.testing.assert_allclose(line.y, [1, 2, 3, 4])
    assert list(line.marker.symbol) == ["circle", "circle", "star", "circle"]
    band = traced(figure, "null")
    assert max(band.y) == 0.8
    assert min(band.y) == -0.8
    assert band.mode == "lines"


def test_recipes_show_what_was_promised_and_what_was_kept():
    figure = traits.recipes(fake_traits(), "warmth")
    kept, promised = traced(figure, "test"), traced(figure, "select")
    assert kept.y[-1] == "mean difference, mean over the reply's tokens"
    assert (kept.x[-1], promised.x[-1]) == (3.0, 3.5)
    assert kept.marker.symbol[-1] == "star"
    note = " ".join(a.text for a in figure.layout.annotations).replace("<br>", " ")
    assert "n = 24 replies to 12 questions" in note


def test_agreement_is_symmetric_with_ones_on_the_diagonal():
    matrix = np.array(traced(traits.recipe_agreement(fake_traits(), TRAITS[1]), "agreement").z)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_array_equal(np.diag(matrix), 1.0)
    assert matrix.shape == (len(RECIPES), len(RECIPES))
    assert matrix[0, 1] == 0.5


def test_unknown_traits_are_refused_and_names_stay_text():
    assert "&lt;b&gt;" in traits.recipes(fake_traits(), TRAITS[1]).layout.title.text
    with pytest.raises(LabError, match="trait"):
        traits.depth(fake_traits(), "absent", "spawn")


def test_a_saved_extraction_comes_back_and_an_old_one_says_so(tmp_path):
    store, found = Store(tmp_path), fake_traits()
    store.save_traits(found, lambda folder: None)
    assert store.load_traits(found.run) == found
    selected = tables.cards(found)
    assert list(selected["trait"]) == [t for t in TRAITS for _ in ("instruction", "scenario")]
    assert list(selected["elicitation"]) == ["instruction", "scenario"] * 2
    assert len(tables.cards(found, "warmth")) == len(RECIPES) + 1
    assert len(traits.cards_of(found, "warmth")) == len(RECIPES)  # the figure shows instructions
    places = tables.pole_replies(found, "warmth")["place"].tolist()
    assert places == sorted(places, reverse=True)
    store.save_tables("extract-old", "extract", [found.model], {"depth": pd.DataFrame()})
    with pytest.raises(LabError, match="run it again"):
        store.load_traits("extract-old")
