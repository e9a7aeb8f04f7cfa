"""Ways between scaffolds: rungs, routers, and what the lengths of steps say of slopes and stairs."""

import numpy as np
import pytest

from lab.pipelines.ladders import (
    FINE,
    Way,
    climb,
    experts_of,
    gap_share,
    jumpiness,
    largest_share,
    pieces,
    reading_losses,
    routers_of,
    rungs,
    switch_ratio,
)
from lab.records import Question, Scaffold, Segment

ONE = Scaffold(
    "one", (Segment("identity", "I am Ada. I teach.\nI like tea!"), Segment("memory", "The user likes rain."))
)
OTHER = Scaffold("other", (Segment("identity", "You are Bo. You sell boats."),))
QUESTIONS = (Question("q1", "Who are you?", "test"), Question("q2", "Does it rain?", "test"))


def test_rungs_lead_from_one_text_to_the_other_a_piece_at_a_time():
    assert [p.text for p in pieces(ONE)] == ["I am Ada.", "I teach.", "I like tea!", "The user likes rain."]
    found = rungs(ONE, OTHER)
    assert [s.text for s in found] == [
        "I am Ada. I teach. I like tea!\nMemory:\nThe user likes rain.",
        "You are Bo. I teach. I like tea!\nMemory:\nThe user likes rain.",
        "You are Bo. You sell boats. I like tea!\nMemory:\nThe user likes rain.",
        "You are Bo. You sell boats.\nMemory:\nThe user likes rain.",
        OTHER.text,
    ]
    assert [s.text for s in rungs(OTHER, ONE)][-1] == found[0].text
    assert len({s.name for s in found}) == len(found)


def test_routers_are_found_where_there_are_experts(loaded):
    assert routers_of(loaded("llama")) == []
    mixed = loaded("mixtral")
    assert experts_of(mixed) == 4
    assert len(routers_of(mixed)) == mixed.identity.layers


def test_a_straight_way_through_a_dense_model_ends_where_it_should(loaded, store):
    model = loaded("llama")
    ladder = climb(model, ONE, OTHER, QUESTIONS, 16, store)
    assert ladder.words.steps.shape == (2, 4)
    assert ladder.states.steps.shape == (2, 16)
    assert ladder.fine.steps.shape == (2, 16 * FINE)
    assert ladder.routers == 0 and not ladder.fine.switches.any()
    assert (ladder.fine.steps.sum(axis=1) >= ladder.states.steps.sum(axis=1) - 1e-9).all()  # chords
    largest = [way.steps.max(axis=1) for way in (ladder.states, ladder.fine)]
    np.testing.assert_allclose(largest[0] / largest[1], FINE, rtol=0.2)  # a slope: finer steps are shorter
    again = climb(model, ONE, OTHER, QUESTIONS, 16, store)
    assert np.array_equal(again.fine.steps, ladder.fine.steps)


def test_a_gap_stays_as_it_is_on_a_finer_grid(loaded, store):
    ladder = climb(loaded("mixtral", num_hidden_layers=4), ONE, OTHER, QUESTIONS, 16, store)
    assert ladder.routers > 0
    rows = np.flatnonzero(ladder.fine.switches.sum(axis=1)).tolist()
    assert len(rows), "four experts of random weights switch on the way"
    for row in rows:
        on = ladder.fine.switches[row] > 0
        assert ladder.fine.steps[row][on].max() > 3 * np.median(ladder.fine.steps[row][~on])
        assert switch_ratio(ladder.fine, row) > 1
        assert 0 < gap_share(ladder.fine, row) < 1
    nowhere = climb(loaded("mixtral", num_hidden_layers=4), ONE, ONE, QUESTIONS, 16, store)
    assert nowhere.fine.steps.max() < 1e-4
    assert not nowhere.words.switches.any()


def test_planted_slopes_and_stairs_are_told_apart():
    slope, stair = np.full((1, 256), 1.0), np.full((1, 256), 0.25)
    at = np.zeros((1, 256), int)
    at[0, [50, 100, 150]] = 1
    stair[0, at[0] > 0] += 64.0
    assert gap_share(Way(slope, at), 0) == pytest.approx(0.0)
    assert gap_share(Way(stair, at), 0) == pytest.approx(0.75)
    assert gap_share(Way(stair, 0 * at), 0) == 0.0
    assert np.isnan(gap_share(Way(stair, 0 * at + 1), 0))
    assert jumpiness(slope[0]) == pytest.approx(0.0)
    assert jumpiness(stair[0]) == pytest.approx(np.log(64.25 / 0.25))
    assert largest_share(slope[0]) == pytest.approx(26 / 256)
    assert largest_share(stair[0]) > 0.75
    assert switch_ratio(Way(stair, at), 0) == pytest.approx(np.log(64.25 / 0.25))
    assert np.isnan(switch_ratio(Way(slope, 0 * at), 0))
    assert (
        np.isnan(jumpiness(np.ones(3)))
        and np.isnan(jumpiness(np.zeros(9)))
        and np.isnan(largest_share(np.zeros(9)))
    )


def test_losses_are_read_once_and_an_empty_reply_is_unknown(loaded, store):
    model = loaded("llama")
    replies = [["It rains.", ""], ["", ""]]
    loss = reading_losses(model, [ONE, OTHER], QUESTIONS, replies, store)
    assert loss[0] > 0 and np.isnan(loss[1])
    assert np.array_equal(
        reading_losses(model, [ONE, OTHER], QUESTIONS, replies, store), loss, equal_nan=True
    )
