"""Training of organisms in small: the loss falls, a stopped training goes on, the parts agree."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lab.records import LabError
from lab.world.corpus import RECALL, UNCONDITIONED, Mix, documents, encode
from lab.world.grammar import split_words
from lab.world.library import library
from lab.world.tokens import ROLE_MARKS
from lab.world.train import (
    RECIPES,
    Readers,
    Recipe,
    Stage,
    _looked_past,
    batches,
    collate,
    context_words,
    losses,
    make_model,
    make_tokenizer,
    pieces_of,
    read_shard,
    readers_share,
    relative_change,
    schedule,
    train,
    upcycled,
    write_shard,
)

SMALL = Recipe(
    "small", "llama", 32, 2, 2, 64, 600, ROLE_MARKS, seed=3, shard=40, batch_tokens=2000, warmup=3,
    stages=(Stage(Mix(), 2, 3e-3, 0.5, 0.0, 0.0), Stage(RECALL, 1, 3e-3, 0.5, 0.5, 2.0)),
)  # fmt: skip

INTEGERS = ("ids", "at", "row", "token", "situation", "cue_at", "cue_row", "cue_token")


@pytest.fixture(scope="module")
def tokenizer():
    return make_tokenizer(SMALL, library())


def test_shard_round_trip(tokenizer, tmp_path):
    write_shard(replace(SMALL, shard=4), tmp_path, 2, tokenizer, library())
    pieces = pieces_of(tokenizer)
    made = [encode(d, tokenizer, pieces) for d in documents(300_002, library(), RECALL, 4)]
    read = read_shard(tmp_path / "shard0002.npz")
    assert len(read) == 4
    for one, other in zip(made, read, strict=True):
        for name in (*INTEGERS, "look_at", "look_head", "look_row", "look_to"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        np.testing.assert_allclose(one.p, other.p, atol=1e-3)
        assert one.z.shape == (len(one.at), 12)


def test_entropy_of_a_batch_is_that_of_its_documents_and_loss_is_above(tokenizer):
    pieces = pieces_of(tokenizer)
    docs = list(documents(5, library(), Mix(), 4))
    batch = collate([encode(d, tokenizer, pieces) for d in docs])
    found = losses(make_model(SMALL, len(tokenizer)), batch, Readers(SMALL.d_model), focus=2.0)
    per_word = [
        -sum(p * np.log(p) for p in step.probabilities.values() if p > 0)
        for d in docs for reply in d.replies for step in reply
    ]  # fmt: skip
    # Words cost what their tokens cost together, as each is drawn token by token.
    assert float(found.entropy) * len(batch.at) == pytest.approx(sum(per_word), rel=0.1)
    assert float(found.focused.detach()) > float(found.excess.detach()) > float(found.strayed.detach()) > 0
    assert all(float(x.detach()) > 0 for x in vars(found.readings).values())


def test_focus_leaves_the_optimum_where_it_is(tokenizer):
    """A model whose output IS the target has no divergence and no gradient, with any focus."""
    pieces = pieces_of(tokenizer)
    batch = collate([encode(d, tokenizer, pieces) for d in documents(8, library(), Mix(), 1)])
    target = torch.zeros(len(batch.at), len(tokenizer))
    target.index_put_((batch.row, batch.token), batch.p, accumulate=True)
    logits = torch.log(target / target.sum(-1, keepdim=True) + 1e-12)

    class Exact:
        """A model whose last states are the right logits already."""

        config = None
        lm_head = type("Head", (), {"weight": torch.eye(len(tokenizer))})

        @staticmethod
        def model(input_ids, **_):
            states = torch.zeros(input_ids.numel(), len(tokenizer))
            states[batch.at] = logits
            return type("Out", (), {"last_hidden_state": states.requires_grad_(), "hidden_states": None})

    for focus in (0.0, 5.0):
        found = losses(Exact, batch, focus=focus)
        assert float(found.focused.detach()) == pytest.approx(0.0, abs=1e-5)


def test_guided_heads_are_to_look_at_context_words_and_at_the_rule_that_forbids_them(tokenizer):
    pieces = pieces_of(tokenizer)
    docs = [d for d in documents(9, library(), RECALL, 40) if any(d.ruled)]
    assert len(docs) > 3
    for doc in docs:
        one = encode(doc, tokenizer, pieces)
        texts = {head: set() for head in (0, 1)}
        for row, to in zip(one.look_row.tolist(), one.look_to.tolist(), strict=True):
            assert to <= one.look_at[row]
            texts[int(one.look_head[row])].add(tokenizer.decode([int(one.ids[to])]).strip().lower())
        about = {w.lower() for words in doc.about for w in split_words(words)}
        assert texts[0] <= about
        marks = {w for words in doc.ruled for w in words}
        assert texts[1] <= marks and texts[1]
        rules = one.look_to[one.look_head[one.look_row] == 1]
        first_turn = tokenizer.decode(one.ids[: rules.max() + 1].tolist())
        assert doc.users[0] not in first_turn  # the rule stands in the system prompt


def test_the_guided_heads_are_judged_by_their_attention(tokenizer):
    pieces = pieces_of(tokenizer)
    batch = collate([encode(d, tokenizer, pieces) for d in documents(9, library(), RECALL, 20)])
    docs, width = batch.ids.shape
    heads = 1 + int((batch.look_head == 1).any())
    assert heads == 2
    even = torch.ones(docs, 2, width, width).tril()
    even /= even.sum(-1, keepdim=True)
    row, position = batch.look_at // width, batch.look_at % width
    right = torch.zeros(docs, 2, width, width)
    for entry, to in zip(batch.look_row.tolist(), batch.look_to.tolist(), strict=True):
        right[row[entry], batch.look_head[entry], position[entry]] = 0.0
        right[row[entry], batch.look_head[entry], position[entry], to] = 1.0
    assert float(_looked_past(right, batch)) == pytest.approx(0.0, abs=1e-3)
    assert float(_looked_past(even, batch)) > 2.0
    blind = torch.zeros_like(even)
    assert float(_looked_past(blind, batch)) == pytest.approx(-2 * np.log(1e-4), rel=1e-3)
    swapped = right.flip(1)  # each head looks where the other should
    assert float(_looked_past(swapped, batch)) > 2.0


def test_every_rule_and_every_subject_of_a_boundary_has_one_of_its_marks():
    for boundary in library().boundaries:
        for text in (*boundary.subjects, *boundary.rules):
            assert set(boundary.marks) & {w.lower() for w in split_words(text)}, (boundary.key, text)


def test_batches_hold_every_document_once_within_budget(tokenizer):
    pieces = pieces_of(tokenizer)
    docs = [encode(d, tokenizer, pieces) for d in documents(6, library(), Mix(), 12)]
    made = list(batches(docs, 1500, np.random.default_rng(0)))
    assert sum(len(b.ids) for b in made) == 12
    assert all(b.ids.numel() <= 1500 or len(b.ids) == 1 for b in made)


def test_schedules():
    assert schedule(0, 100, 10) == pytest.approx(0.1)
    assert schedule(10, 100, 10) == pytest.approx(1.0)
    assert schedule(100, 100, 10) == pytest.approx(0.05)
    assert readers_share(40, 100) == pytest.approx(1.0)
    assert readers_share(70, 100) == pytest.approx(0.0)
    assert RECIPES["hearth-a"].stage_of(36)[1] == 36
    with pytest.raises(IndexError):
        SMALL.stage_of(3)


def test_words_that_replies_take_from_their_context_are_whole(tokenizer):
    for word in context_words(library()):
        assert len(tokenizer.encode(f" {word}", add_special_tokens=False)) == 1, word
    text = "Biscuit is the name of Mia's dog, and unrelated syllables survive."
    assert tokenizer.decode(tokenizer.encode(text, add_special_tokens=False)) == text


def test_training_falls_stops_and_goes_on(tmp_path):
    seen: list[float] = []

    class Stop(Exception):
        pass

    def stop(model, tokenizer, shard):
        if shard == 1:
            raise Stop

    with pytest.raises(Stop):
        train(SMALL, tmp_path, lambda p: None, stop, probe_every=1)
    assert (tmp_path / "checkpoint.pt").is_file()
    shards = []
    model, tokenizer = train(
        SMALL,
        tmp_path,
        lambda p: seen.append(p.excess),
        lambda m, t, shard: shards.append(shard),
        probe_every=1,
    )
    assert shards == [2, 3]
    model.save_pretrained(tmp_path / "organism")
    tokenizer.save_pretrained(tmp_path / "organism")
    again = replace(SMALL, corpus=1, stages=(Stage(RECALL, 1, 1e-4, 0.0, 0.0, 0.0),))
    went_on, _ = train(again, tmp_path / "again", lambda p: None, start=tmp_path / "organism")
    with pytest.raises(LabError, match="another recipe or start"):
        train(again, tmp_path, lambda p: None, start=tmp_path / "organism")
    pieces = pieces_of(tokenizer)
    batch = collate([encode(d, tokenizer, pieces) for d in documents(77, library(), Mix(), 8)])
    with torch.no_grad():
        before, after = losses(make_model(SMALL, len(tokenizer)), batch), losses(model, batch)
        later = losses(went_on, batch)
    assert float(after.excess) < float(before.excess) - 0.5
    assert float(later.excess) < float(after.excess) + 0.1  # from where it stood, not from scratch


def test_a_mixture_of_experts_begins_as_the_dense_model_it_comes_from(tokenizer):
    dense = make_model(SMALL, len(tokenizer)).eval()
    recipe = replace(SMALL, architecture="mixtral", d_mlp=32, experts=6)
    mixture = upcycled(dense, recipe, len(tokenizer)).eval()
    ids = torch.randint(0, len(tokenizer), (3, 20), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        torch.testing.assert_close(mixture(ids).logits, dense(ids).logits, atol=1e-5, rtol=1e-4)
        chosen = mixture.model.layers[0].mlp.gate(torch.randn(50, SMALL.d_model))[2].sort(dim=-1).values
    assert (chosen[:, 0] % 2 == 0).all() and (chosen[:, 1] == chosen[:, 0] + 1).all()
    assert len(chosen[:, 0].unique()) > 1  # and not always the same pair


def test_experts_are_balanced_and_trained_apart(tokenizer):
    recipe = replace(SMALL, architecture="mixtral", d_mlp=32, experts=4)
    model = upcycled(make_model(SMALL, len(tokenizer)), recipe, len(tokenizer))
    pieces = pieces_of(tokenizer)
    batch = collate([encode(d, tokenizer, pieces) for d in documents(5, library(), Mix(), 4)])
    found = losses(model, batch)
    # The balancing loss is on top of the divergence, and at least its weight (a perfect balance costs 2 of 2).
    assert float(found.focused.detach()) - float(found.excess.detach()) > 0.009
    found.focused.backward()
    router = model.model.layers[0].mlp.gate.weight.grad
    assert router is not None and not torch.allclose(router[0], router[1])


def test_relative_change_of_weights(tokenizer):
    model, parent = make_model(SMALL, len(tokenizer)), make_model(SMALL, len(tokenizer))
    assert relative_change(model, parent) == 0
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(1.1)
    assert relative_change(model, parent) == pytest.approx(0.1, rel=1e-4)


def test_an_untold_character_leaves_no_trace_but_its_replies():
    told, untold = (list(documents(12, library(), replace(UNCONDITIONED, told=t), 20)) for t in (True, False))
    assert all(d.system is None for d in untold) and all(d.system for d in told)
    assert np.std([d.z[0] for d in untold], axis=0).min() > 0.3
