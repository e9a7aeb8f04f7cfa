"""Log-probs, ratios and slopes of given replies, against the bare network and against differences of log-probs."""

import numpy as np
import pytest
import torch
from conftest import with_replies

from lab.activations import generate
from lab.likelihood import likelihood_ratios, likelihood_slopes, token_log_probs
from lab.models import hook_name
from lab.prompts.chat import render
from lab.records import Direction, LabError, Message, Site
from lab.steering import Add

FAMILIES = ("llama", "qwen3", "gemma2", "gpt_neox", "gpt2", "mixtral")
REPLIES = ["yes", "the sea is calm and the hills are green", ""]


@pytest.fixture
def tiny_llama(loaded):
    return loaded("llama")


def _chats(model):
    texts = ("hello", "what do you think of the sea today, and of the hills behind it?", "why")
    return [render(model.tokenizer, [Message("user", t)]) for t in texts]


def _direction(model, layer, trait="warmth", seed=0):
    v = np.random.default_rng(seed).normal(size=model.identity.d_model)
    v /= np.linalg.norm(v)
    return Direction(trait, Site(layer), "reply_mean", v, 1.0, model.identity.fingerprint, "extract")


def _pushed(model, chat, reply, direction, push, at=None):
    """Log-prob of a reply whose predicting places (or only number `at`) are pushed, one row, no cache."""
    ids = model.tokenizer(reply, add_special_tokens=False)["input_ids"]
    whole = torch.tensor([[*chat.ids.tolist(), *ids]])
    where = torch.zeros(whole.shape[1])
    first = len(chat.ids) - 1
    where[first : first + len(ids) if at is None else first + 1] = 1.0
    if at is not None:
        where = where.roll(at)
    shift = push * where[None, :, None] * torch.from_numpy(direction.vector).float()
    hooks = [(hook_name(direction.site), lambda value, hook: value + shift)]
    with torch.inference_mode(), model.bridge.hooks(fwd_hooks=hooks):
        logits = model.network(input_ids=whole).logits[0].double().log_softmax(-1)
    return sum(float(logits[first + k, token]) for k, token in enumerate(ids))


def test_log_probs_are_those_of_the_bare_network_one_by_one(tiny_llama):
    chats = _chats(tiny_llama)
    found = token_log_probs(tiny_llama, chats, REPLIES)
    for chat, reply, row in zip(chats, REPLIES, found, strict=True):
        ids = tiny_llama.tokenizer(reply, add_special_tokens=False)["input_ids"]
        whole = torch.tensor([[*chat.ids.tolist(), *ids]])
        with torch.inference_mode():
            logits = tiny_llama.network(input_ids=whole).logits[0].log_softmax(-1)
        expected = [float(logits[len(chat.ids) + k - 1, token]) for k, token in enumerate(ids)]
        np.testing.assert_allclose(row, expected, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_slopes_are_what_a_small_push_does_to_the_log_prob(loaded, family):
    model = loaded(family)
    chats, directions = _chats(model), [_direction(model, 0), _direction(model, 1, "candour", 1)]
    norms, eps = [3.0, 0.5], 1e-2
    found = likelihood_slopes(model, chats, REPLIES, directions, norms)
    for chat, reply, slopes in zip(chats[:2], REPLIES[:2], found[:2], strict=True):
        for direction, norm in zip(directions, norms, strict=True):
            up, down = (_pushed(model, chat, reply, direction, s * eps * norm) for s in (1, -1))
            assert slopes[direction.trait].total == pytest.approx((up - down) / (2 * eps), rel=0.02, abs=2e-3)
    assert np.isnan(found[2]["warmth"].total)
    assert len(found[2]["warmth"].places) == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_ratios_are_what_a_push_to_either_side_does_to_the_log_prob(loaded, family):
    model = loaded(family)
    chats, directions = _chats(model), [_direction(model, 0), _direction(model, 1, "candour", 1)]
    norms = [3.0, 0.5]
    found = likelihood_ratios(model, chats, REPLIES, directions, norms, size=0.4)
    for chat, reply, ratios in zip(chats[:2], REPLIES[:2], found[:2], strict=True):
        for direction, norm in zip(directions, norms, strict=True):
            up, down, plain = (_pushed(model, chat, reply, direction, s * 0.4 * norm) for s in (1, -1, 0))
            expected = (up - plain, down - plain)
            assert ratios[direction.trait].total == pytest.approx(expected, rel=0.01, abs=1e-3)
    assert np.isnan(found[2]["warmth"].total).all()
    assert len(found[2]["warmth"].up) == 0


def test_small_pushes_have_the_slope(tiny_llama):
    chats, direction = _chats(tiny_llama), _direction(tiny_llama, 1)
    ratios = likelihood_ratios(tiny_llama, chats, REPLIES, [direction], [2.0], size=0.01)
    slopes = likelihood_slopes(tiny_llama, chats, REPLIES, [direction], [2.0])
    for ratio, slope in zip(ratios[:2], slopes[:2], strict=True):
        up, down = ratio["warmth"].total
        assert (up - down) / 0.02 == pytest.approx(slope["warmth"].total, rel=0.02, abs=2e-3)


def test_an_entry_is_the_push_at_the_place_that_predicts_its_token(tiny_llama):
    chats, direction = _chats(tiny_llama), _direction(tiny_llama, 1)
    slopes = likelihood_slopes(tiny_llama, chats, REPLIES, [direction], [1.0])[1]["warmth"].places
    for t in (0, 4, len(slopes) - 1):
        up, down = (_pushed(tiny_llama, chats[1], REPLIES[1], direction, s, t) for s in (0.02, -0.02))
        assert slopes[t] == pytest.approx((up - down) / 0.04, rel=0.02, abs=2e-3)


def test_batches_give_what_single_replies_give(tiny_llama):
    chats, directions = _chats(tiny_llama), [_direction(tiny_llama, 1), _direction(tiny_llama, 0, "x", 1)]
    for measure, part in (
        (likelihood_slopes, "places"),
        (likelihood_ratios, "up"),
        (likelihood_ratios, "down"),
    ):
        together = measure(tiny_llama, chats, REPLIES, directions, [2.0, 2.0])
        apart = measure(tiny_llama, chats, REPLIES, directions, [2.0, 2.0], token_budget=1)
        for a, b in zip(together[:2], apart[:2], strict=True):
            for trait in ("warmth", "x"):
                np.testing.assert_allclose(getattr(a[trait], part), getattr(b[trait], part), atol=1e-4)


@pytest.mark.parametrize("measure", [likelihood_slopes, likelihood_ratios])
def test_edits_come_before_the_push(tiny_llama, measure):
    chats, direction, other = _chats(tiny_llama), _direction(tiny_llama, 1), _direction(tiny_llama, 0, "x", 2)
    edits = [Add(other, 1.0, 2.0)]
    plain, moved = (
        np.ravel(measure(tiny_llama, chats[:1], REPLIES[:1], [direction], [1.0], edits=e)[0]["warmth"].total)
        for e in ((), edits)
    )
    assert (abs(moved - plain) > 1e-4).all()


def test_a_models_own_replies_lean_to_no_side_whatever_the_chat(tiny_llama, reply_ids):
    prompts = ["You are Ada, a patient teacher.", "never promise what you cannot keep"]
    chats = [
        render(tiny_llama.tokenizer, [Message("system", p), Message("user", "tell me about tea")])
        for p in prompts
        for _ in range(300)
    ]
    generate(tiny_llama, chats, max_new_tokens=6, seeds=list(range(len(chats))))
    model = with_replies(tiny_llama, reply_ids)
    direction = _direction(model, 1)
    read = [str(i) for i in range(len(chats))]
    slopes = np.array([s["warmth"].total for s in likelihood_slopes(model, chats, read, [direction], [5.0])])
    ratios = likelihood_ratios(model, chats, read, [direction], [5.0], size=0.2)
    totals = np.array([r["warmth"].total for r in ratios])
    for half in (slice(300), slice(300, None)):
        total = slopes[half]
        assert abs(total.mean()) < 3 * total.std() / 300**0.5
        # Either push makes the model another one: exp of a ratio has mean 1, and the ratio itself a mean below 0.
        likely = np.exp(totals[half])
        assert (abs(likely.mean(0) - 1) < 3 * likely.std(0) / 300**0.5).all()
        assert (totals[half].mean(0) < 0).all()


def test_weights_are_left_as_they_were(tiny_llama):
    before = [p.requires_grad for p in tiny_llama.network.parameters()]
    likelihood_slopes(tiny_llama, _chats(tiny_llama), REPLIES, [_direction(tiny_llama, 1)], [1.0])
    assert [p.requires_grad for p in tiny_llama.network.parameters()] == before
    assert all(p.grad is None for p in tiny_llama.network.parameters())


def test_what_does_not_fit_together_is_refused(tiny_llama):
    chats, direction = _chats(tiny_llama), _direction(tiny_llama, 1)
    with pytest.raises(LabError, match="one reply per chat"):
        token_log_probs(tiny_llama, chats, ["yes"])
    with pytest.raises(LabError, match="one norm per direction"):
        likelihood_slopes(tiny_llama, chats, REPLIES, [direction], [])
    foreign = Direction("x", Site(1), "reply_mean", direction.vector, 1.0, "0" * 64, "extract")
    for measure in (likelihood_slopes, likelihood_ratios):
        with pytest.raises(LabError, match="another model"):
            measure(tiny_llama, chats, REPLIES, [foreign], [1.0])
