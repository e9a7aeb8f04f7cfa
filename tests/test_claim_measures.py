"""Measures that several claims stand on: neighbours by angle, beginnings of replies, who goes on from them."""

import numpy as np
import pytest
from planted_claims import PLANTED, noisy

from lab.geometry.atlas import overlap, relabelings_within
from lab.pipelines.claims import ClaimConfig, claim
from lab.pipelines.prefixes import Begun, _chat, beginning, continued
from lab.pipelines.word_vectors import angles, shared_nearest
from lab.prompts.chat import render
from lab.records import Message, Question
from lab.store import Store

WORDS, CUT = 60, 15
CODES = np.zeros(WORDS, dtype=int)


def random_words(seed: int) -> np.ndarray:
    """Unrelated vectors; some words have several tokens, hence shorter means, the same ones in every model."""
    rng = np.random.default_rng(seed)
    tokens = np.where(np.arange(WORDS) < CUT, 4, 1)
    return np.array([rng.standard_normal((n, 32)).mean(axis=0) for n in tokens])


def test_words_of_several_tokens_are_near_everyone_by_distance_and_not_by_angle():
    orders = relabelings_within(CODES, 20, np.random.default_rng(0))
    by_angle, by_distance = [], []
    for seed in range(6):
        a, b = random_words(2 * seed), random_words(2 * seed + 1)
        squares = [((x[:, None] - x) ** 2).sum(axis=2) for x in (a, b)]
        plain = overlap(squares[0], squares[1], CODES, 10, orders)
        found = shared_nearest(a, b, CODES, 10, 20, np.random.default_rng(seed))
        by_distance.append(plain.shared.mean() - plain.null.mean())
        by_angle.append(found.shared.mean() - found.null.mean())
    assert min(by_distance) > 0.2
    assert abs(np.mean(by_angle)) < 0.03


def test_angles_do_not_change_with_rotation_scale_and_place():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((12, 5))
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    np.testing.assert_allclose(angles(3 * x @ turn + rng.standard_normal(5)), angles(x), atol=1e-12)
    centred = x - x.mean(axis=0)
    cosine = centred[2] @ centred[7] / np.linalg.norm(centred[2]) / np.linalg.norm(centred[7])
    assert angles(x)[2, 7] == pytest.approx(1 - cosine)


@pytest.mark.parametrize(
    ("reply", "start"),
    [
        ("I like tea. You know it!", "I like tea."),
        ("No! Why? Because.", "No!"),
        ("only one sentence here.", "only one"),
        ("a b c d e", "a b c"),
        ("word", "word"),
        ("", ""),
        ("  ", ""),
    ],
)
def test_a_beginning_is_a_sentence_that_leaves_something_to_say_else_half_of_the_words(reply, start):
    assert beginning(reply) == start


def test_a_beginning_stands_in_the_models_own_turn_and_replies_are_kept(loaded, tmp_path):
    model, config = loaded("llama"), ClaimConfig(max_new_tokens=6)
    begun = Begun("You are Ada.", Question("q", "What is the capital?", "test"), "It is")
    chat = _chat(model, begun, 6)
    prompt = render(model.tokenizer, [Message("system", begun.system), Message("user", begun.question.text)])
    np.testing.assert_array_equal(chat.ids[: len(prompt.ids)], prompt.ids)
    assert model.tokenizer.decode(chat.ids[len(prompt.ids) :]) == "It is"
    store = Store(tmp_path)
    both = [begun, Begun("", begun.question, "", 1)]
    said = continued(model, both, config, store)
    assert len(said) == 2
    assert continued(model, both, config, store) == said


# ------------------------------------------------------------------ rules that a planted verdict does not show


def test_collision_recovers_its_share_and_abstains_where_cards_do_nothing():
    experiment = claim(5).experiment
    rng = np.random.default_rng(0)
    found = experiment.judge(PLANTED[5](rng, "bar"), rng)[0]
    assert found.low < 0.25 < found.high
    assert found.effect == pytest.approx(0.25, abs=0.05)
    rows = PLANTED[5](rng, "bar")
    noise = [
        type(r)(r.models, r.series, r.cluster, 1.0 if r.series == "pair" else rng.normal()) for r in rows
    ]
    (silent,) = experiment.judge(noise, rng)
    assert silent.verdict == "cannot tell"
    assert "beyond noise" in silent.why


def test_a_model_that_is_deaf_to_its_own_words_returns_without_compensation():
    experiment, rng = claim(8).experiment, np.random.default_rng(0)
    rows = []
    for cell in ("up after up", "up after down", "down after up", "down after down"):
        mean = 1.0 if cell.startswith("up") else -1.0
        rows += noisy(rng, "m", f"{cell}, warmth", mean, 0.01)
    back, extra = experiment.judge(rows, rng)[1:]
    assert back.effect == pytest.approx(1, abs=0.02)
    assert extra.effect == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("number", [1, 2, 18, 19])
def test_without_its_companion_a_claim_of_difference_is_never_supported(number):

    rng = np.random.default_rng(number)
    rows = [
        r
        for r in PLANTED[number](rng, "beyond")
        if "two seeds" not in r.series and "beyond the control" not in r.series
    ]
    rows = [r for r in rows if "base" not in r.series and "(base)" not in r.models]
    effects = claim(number).experiment.judge(rows, rng)
    assert "cannot tell" in {e.verdict for e in effects if e.decides}
