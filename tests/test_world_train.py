"""Training of organisms in small: the loss falls, a stopped training goes on, the parts agree."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lab.world.corpus import RECALL, Mix, documents, encode
from lab.world.library import library
from lab.world.tokens import ROLE_MARKS
from lab.world.train import (
    RECIPES,
    Readers,
    Recipe,
    Stage,
    batches,
    collate,
    losses,
    make_model,
    make_tokenizer,
    pieces_of,
    read_shard,
    readers_weight,
    schedule,
    train,
    write_shard,
)

SMALL = Recipe(
    "small", "llama", 32, 2, 2, 64, 600, ROLE_MARKS, seed=3,
    stages=(Stage(Mix(), 2, 3e-3, 0.5), Stage(RECALL, 1, 3e-3, 0.5)), shard=40, batch_tokens=2000, warmup=3,
)  # fmt: skip


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
        for name in ("ids", "at", "row", "token", "cue_at", "cue_row", "cue_token"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        np.testing.assert_allclose(one.p, other.p, atol=1e-3)
        assert one.z.shape == (len(one.at), 12)


def test_entropy_of_a_batch_is_that_of_its_documents_and_loss_is_above(tokenizer):
    pieces = pieces_of(tokenizer)
    docs = list(documents(5, library(), Mix(), 4))
    batch = collate([encode(d, tokenizer, pieces) for d in docs])
    found = losses(make_model(SMALL), batch, Readers(SMALL.d_model, SMALL.vocab))
    per_word = [
        -sum(p * np.log(p) for p in step.probabilities.values() if p > 0)
        for d in docs for reply in d.replies for step in reply
    ]  # fmt: skip
    # Words cost what their tokens cost together, as each is drawn token by token.
    assert float(found.entropy) * len(batch.at) == pytest.approx(sum(per_word), rel=0.1)
    assert float(found.loss.detach()) > float(found.entropy)
    assert float(found.cue.detach()) > 0


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
    assert readers_weight(0, 100, 0.5) == 0.5
    assert readers_weight(70, 100, 0.5) == pytest.approx(0.0)
    assert RECIPES["hearth-a"].stage_of(0)[1] == 0
    with pytest.raises(IndexError):
        SMALL.stage_of(3)


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
    pieces = pieces_of(tokenizer)
    batch = collate([encode(d, tokenizer, pieces) for d in documents(77, library(), Mix(), 8)])
    with torch.no_grad():
        before, after = losses(make_model(SMALL), batch), losses(model, batch)
    assert float(after.loss) < float(before.loss) - 0.5
