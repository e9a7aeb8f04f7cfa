"""Steering: what each edit does to the stream, when it ends, and whose directions it takes."""

import dataclasses

import numpy as np
import pytest
from conftest import FAMILIES, residuals, with_replies

from lab.activations import generate
from lab.models import hook_name
from lab.prompts.chat import render
from lab.reading import read
from lab.records import Direction, LabError, Message, Site
from lab.steering import Ablate, Add, Cap, steered

TEXTS = ("I like tea.", "Paris")


def direction_of(model, layer=1, seed=3, trait="warm"):
    """A random unit direction."""
    v = np.random.default_rng(seed).normal(size=model.identity.d_model)
    v = (v / np.linalg.norm(v)).astype(np.float32)
    return Direction(trait, Site(layer), "reply_mean", v, 1.0, model.identity.fingerprint, "extract")


def chats_of(model):
    """Two chats of unequal length."""
    questions = ("Who?", "What is the capital of France, and who lives there?")
    return [render(model.tokenizer, [Message("user", q)]) for q in questions]


def projections(model, direction, edits=()):
    """The projections of every reply token, and the activations."""
    acts = read(model, chats_of(model), TEXTS, directions=[direction], edits=edits)
    return np.concatenate([r.projections[direction.trait] for r in acts.replies]), acts


@pytest.mark.parametrize("family", FAMILIES)
def test_no_strength_is_the_identity(loaded, family):
    model = loaded(family)
    d = direction_of(model)
    _, plain = projections(model, d)
    for edits in ([], [Add(d, 0.0, 5.0)], [Cap(d, 1e6)]):
        _, acts = projections(model, d, edits)
        np.testing.assert_array_equal(acts.reply_mean, plain.reply_mean)
        np.testing.assert_array_equal(acts.spawn, plain.spawn)


@pytest.mark.parametrize("family", FAMILIES)
def test_add_shifts_by_coefficient_times_norm(loaded, family):
    model = loaded(family)
    d = direction_of(model)
    before, plain = projections(model, d)
    after, acts = projections(model, d, [Add(d, 0.5, 4.0)])
    np.testing.assert_allclose(after, before + 2.0, atol=1e-4)
    np.testing.assert_allclose(acts.spawn[:, 1], plain.spawn[:, 1] + 2.0 * d.vector, atol=1e-4)
    np.testing.assert_array_equal(acts.reply_mean[:, 0], plain.reply_mean[:, 0])


@pytest.mark.parametrize("family", FAMILIES)
def test_ablate_takes_the_projection_out_and_nothing_else(loaded, family):
    model = loaded(family)
    d = direction_of(model)
    before, plain = projections(model, d)
    after, acts = projections(model, d, [Ablate(d)])
    assert np.abs(before).max() > 0.1
    np.testing.assert_allclose(after, 0, atol=1e-5)
    rest = plain.spawn[:, 1] - (plain.spawn[:, 1] @ d.vector)[:, None] * d.vector
    np.testing.assert_allclose(acts.spawn[:, 1], rest, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_cap_holds_what_is_above_and_leaves_what_is_below(loaded, family):
    model = loaded(family)
    d = direction_of(model)
    before, _ = projections(model, d)
    at = float(np.median(before))
    after, _ = projections(model, d, [Cap(d, at)])
    assert (before > at + 0.01).any()
    assert after.max() <= at + 1e-5
    np.testing.assert_allclose(after, np.minimum(before, at), atol=1e-5)


def test_edits_act_in_the_order_given(loaded):
    model = loaded("llama")
    d = direction_of(model)
    after, _ = projections(model, d, [Ablate(d), Add(d, 1.0, 2.0)])
    np.testing.assert_allclose(after, 2.0, atol=1e-5)
    after, _ = projections(model, d, [Add(d, 1.0, 2.0), Ablate(d)])
    np.testing.assert_allclose(after, 0.0, atol=1e-5)
    last = direction_of(model, layer=2, seed=4, trait="bold")
    acts = read(
        model, chats_of(model), TEXTS, directions=[d, last], edits=[Ablate(last), Add(d, 1.0, 2.0), Ablate(d)]
    )
    for reply in acts.replies:
        np.testing.assert_allclose([*reply.projections["warm"], *reply.projections["bold"]], 0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_with_its_cache_is_steered_as_a_full_forward(loaded, reference, reply_ids, family):
    import torch

    model = loaded(family)
    d = direction_of(model, layer=0)
    edits = [Add(d, 1.5, 3.0)]
    chats = chats_of(model)
    acts = generate(model, chats, max_new_tokens=6, seeds=[0, 1], edits=edits, directions=[d])
    coded = list(reply_ids)
    assert acts.replies != generate(model, chats, max_new_tokens=6, seeds=[0, 1], directions=[d]).replies
    forced = read(with_replies(model, coded), chats, ["0", "1"], edits=edits, directions=[d])
    np.testing.assert_allclose(forced.reply_mean, acts.reply_mean, atol=1e-4)
    network = reference(family)
    blocks = getattr(network, "model", None) or getattr(network, "gpt_neox", None) or network.transformer
    block = (getattr(blocks, "layers", None) or blocks.h)[0]
    shift = torch.from_numpy(4.5 * d.vector)
    handle = block.register_forward_hook(
        lambda module, args, out: (out[0] + shift, *out[1:]) if isinstance(out, tuple) else out + shift
    )
    try:
        for i, (chat, ids) in enumerate(zip(chats, coded, strict=True)):
            states = residuals(network, np.concatenate([chat.ids, ids]))
            for layer, state in list(enumerate(states))[1:]:
                np.testing.assert_allclose(
                    acts.reply_mean[i, layer], state[len(chat.ids) :].mean(0), atol=1e-4
                )
    finally:
        handle.remove()


def test_hooks_are_gone_after_the_block(loaded):
    import torch

    model = loaded("llama")
    ids = torch.from_numpy(chats_of(model)[0].ids)[None]
    edits = [Add(direction_of(model), 1.0, 9.0)]

    def logits():
        with torch.no_grad():
            return model.network(ids).logits

    before = logits()
    with steered(model, edits):
        assert not torch.equal(logits(), before)
    assert torch.equal(logits(), before)
    with pytest.raises(RuntimeError, match="inside"), steered(model, edits):
        raise RuntimeError("inside")
    assert torch.equal(logits(), before)
    wrong = dataclasses.replace(direction_of(model), vector=np.ones(7, np.float32))
    with pytest.raises(RuntimeError), steered(model, [Add(wrong, 1.0, 1.0), *edits]):
        logits()
    assert torch.equal(logits(), before)


def test_blocks_may_be_nested(loaded):
    import torch

    model = loaded("llama")
    ids = torch.from_numpy(chats_of(model)[0].ids)[None]
    d, seen = direction_of(model), []
    note = [(hook_name(d.site), lambda value, hook: seen.append((value[0].numpy() @ d.vector)[-1]))]
    with torch.no_grad(), steered(model, [Ablate(d)]):
        with steered(model, [Add(d, 1.0, 3.0)]), model.bridge.hooks(fwd_hooks=note):
            model.network(ids)
        with model.bridge.hooks(fwd_hooks=note):
            model.network(ids)
    np.testing.assert_allclose(seen, [3.0, 0.0], atol=1e-5)


def test_a_direction_of_another_model_is_refused(loaded):
    model = loaded("llama")
    foreign = direction_of(loaded("llama", "base"))
    with pytest.raises(LabError, match=r"'warm' was made in another model.*extract it here first"):
        read(model, chats_of(model), TEXTS, edits=[Ablate(foreign)])
    with pytest.raises(LabError, match="another model"), steered(model, [Add(foreign, 0.0, 1.0)]):
        pass
