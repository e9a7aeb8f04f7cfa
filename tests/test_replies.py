"""Generation with cache: what is kept, and that a killed run goes on to the same bits."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from conftest import with_replies  # noqa: F401

from lab.pipelines import replies
from lab.pipelines.replies import Job, Runner
from lab.records import Direction, Message, Question, Site
from lab.steering import Add
from lab.store import Store


@dataclass(frozen=True)
class Draw:
    dtype: str = "float32"
    seed: int = 3
    max_new_tokens: int = 6


def groups(n=6):
    """Groups of chats whose lengths differ, so that batches pad differently."""
    words = (
        "what",
        "do",
        "you",
        "think",
        "of",
        "the",
        "sea",
        "hills",
        "and",
        "long",
        "roads",
        "at",
        "home",
        "today",
    )
    return [
        [Job("c", 0, Question(f"{g}-{k}", " ".join(words[: 2 + (5 * g + 3 * k) % 13]), "test"), f"S{g}.") for k in range(5)]
        for g in range(n)
    ]  # fmt: skip


def run(model, folder, jobs, **reading):
    return Runner(model, Draw(), Store(folder), 0, lambda _: None).measure(jobs, **reading)


def same(one, other):
    for a, b in zip(one, other, strict=True):
        assert a.replies == b.replies
        np.testing.assert_array_equal(a.norm, b.norm)
        for position in a.pooled:
            np.testing.assert_array_equal(a.pooled[position], b.pooled[position])


@pytest.mark.parametrize("kept", range(1, 7))
def test_killed_after_any_save_it_resumes_to_the_same_bits(loaded, tmp_path, monkeypatch, kept):
    model, jobs = loaded("llama"), groups()
    monkeypatch.setattr(replies, "STAGE_ROWS", 15)  # two parts of three groups
    whole = run(model, tmp_path / "whole", jobs)
    put, done = Store.put, 0

    def killed(self, *args):
        nonlocal done
        if done == kept:
            raise KeyboardInterrupt
        done += 1
        put(self, *args)

    monkeypatch.setattr(Store, "put", killed)
    with pytest.raises(KeyboardInterrupt):
        run(model, tmp_path / "killed", jobs)
    monkeypatch.setattr(Store, "put", put)
    same(run(model, tmp_path / "killed", jobs), whole)
    same(run(model, tmp_path / "killed", jobs), whole)


def test_a_finished_call_generates_nothing(loaded, tmp_path, monkeypatch):
    model, jobs = loaded("llama"), groups(2)
    first = run(model, tmp_path, jobs)
    monkeypatch.setattr(Runner, "_generate", None)
    same(run(model, tmp_path, jobs), first)
    same(run(model, tmp_path, jobs[1:]), first[1:])


def test_edits_and_their_end_have_replies_of_their_own(loaded, tmp_path):
    model, jobs = loaded("llama"), groups(1)
    v = np.random.default_rng(0).normal(size=model.identity.d_model)
    direction = Direction(
        "t",
        Site(1),
        "reply_mean",
        (v / np.linalg.norm(v)).astype(np.float32),
        1.0,
        model.identity.fingerprint,
        "extract",
    )
    edits = [Add(direction, 1.0, 4.0)]
    plain, pushed, short = (
        run(model, tmp_path, jobs, directions=[direction], **how)[0]
        for how in ({}, {"edits": edits}, {"edits": edits, "release": 2})
    )
    first = lambda m: np.array([r.projections["t"][0] for r in m.replies])  # noqa: E731
    np.testing.assert_allclose(first(pushed), first(short), atol=1e-4)
    assert [r.tokens[:2] for r in pushed.replies] == [r.tokens[:2] for r in short.replies]
    spawn = pushed.pooled["spawn"][:, 1] - plain.pooled["spawn"][:, 1]
    np.testing.assert_allclose(spawn @ direction.vector, 4.0, atol=1e-3)
    mean = lambda m: np.array([np.mean(r.projections["t"][2:]) for r in m.replies])  # noqa: E731
    assert (mean(pushed) - mean(short)).mean() > 2.0, "the push is gone after two tokens"


def test_what_was_said_before_the_question_is_part_of_a_chat_and_of_its_key(loaded, tmp_path):
    question = Question("q", "How was your day?", "test")
    plain = Job("s", 0, question, "You are kind.")
    after = replace(plain, history=(Message("user", "Hello."), Message("assistant", "Go away.")))
    assert plain.content == ["You are kind.", "How was your day?", 0, 0]
    assert after.content != plain.content
    one, two = run(loaded("llama"), tmp_path, [[plain], [after]])
    assert "Go away." in two.prompts[0] and "Go away." not in one.prompts[0]
    assert not np.array_equal(one.pooled["spawn"], two.pooled["spawn"])
