"""Students learn what they are told, resume from the store, and lie near what they were made of."""

from dataclasses import replace

import numpy as np
import pytest
from conftest import residuals

from lab.models import matrices, read_checkpoint, wire
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.distil import (
    Said,
    Training,
    _plan,
    beginning,
    losses,
    nearness,
    spawn_states,
    student,
    taught,
    trained,
)
from lab.prompts.chat import render
from lab.records import LabError, Message, Question, Scaffold, Segment
from lab.weights import relative_size

NAMES = ("Ada", "Bo", "Cy", "Di", "Ed", "Flo")
SCAFFOLDS = [Scaffold(n, (Segment("identity", f"You are {n}, a teacher."),)) for n in NAMES]
QUESTIONS = [Question(f"q{i}", text, "extract") for i, text in enumerate(("Who are you?", "Does it rain?"))]
LESSONS = [Said(s.text, q.text, "the sun comes out again") for s in SCAFFOLDS for q in QUESTIONS]
FEW = Training(steps=30, rows=4, learning_rate=3e-3)


@pytest.fixture(scope="module")
def start(checkpoint):
    return read_checkpoint(str(checkpoint("llama")))


def test_a_student_learns_and_is_the_same_again_out_of_the_store(start, store):
    before = {n: w.copy() for n, w in matrices(start).items()}
    one = student(start, LESSONS, FEW, 0, "student", store)
    assert one.name == "student" and one.fingerprint != start.fingerprint
    assert student(start, LESSONS, FEW, 0, "student", store).fingerprint == one.fingerprint
    assert student(start, LESSONS, FEW, 1, "student", store).fingerprint != one.fingerprint
    assert relative_size(before, matrices(start)) == 0.0
    pupil, begun = wire(one), wire(replace(start, network=start.network))
    assert losses(pupil, LESSONS, store).mean() < 0.5 * losses(begun, LESSONS, store).mean()


def test_training_in_another_process_order_gives_the_same_weights(checkpoint):
    fresh_start = read_checkpoint(str(checkpoint("llama")))
    few = replace(FEW, steps=3)
    a, b = (trained(fresh_start, LESSONS, few, np.random.default_rng(5)) for _ in range(2))
    assert all(np.array_equal(a[n], b[n]) for n in a)
    assert any("norm" in n for n in a), "gains are learned too"


def test_every_lesson_comes_once_before_any_comes_again():
    lengths = [10, 200] * 10
    plan = _plan(lengths, Training(steps=10, rows=4), np.random.default_rng(0))
    assert len(plan) == 10
    for half in (plan[:5], plan[5:]):
        assert sorted(np.concatenate(half).tolist()) == list(range(20))
    assert np.mean([len({lengths[i] for i in rows}) == 1 for rows in plan]) > 0.7  # little padding


def test_too_few_lessons_and_a_loss_that_blows_up_are_told(checkpoint):
    start = read_checkpoint(str(checkpoint("llama")))
    with pytest.raises(LabError, match="at least 16 replies to learn from, got 3"):
        trained(start, LESSONS[:3], Training(), np.random.default_rng(0))
    with pytest.raises(LabError, match="not finite at step"):
        trained(start, LESSONS, Training(40, 4, 1e30), np.random.default_rng(0))


def test_without_a_base_the_beginning_is_untrained(checkpoint):
    teacher = read_checkpoint(str(checkpoint("llama")))
    assert beginning(teacher, teacher, 0) is teacher
    assert beginning(None, teacher, 0).fingerprint != teacher.fingerprint


def test_a_teacher_is_asked_everything_and_another_sample_says_something_else(loaded, store):
    config = ClaimConfig(max_new_tokens=6)
    one, again, other = (
        taught(loaded("llama"), SCAFFOLDS[:2], QUESTIONS, k, config, store) for k in (0, 0, 1)
    )
    assert one == again != other
    assert {(s.system, s.question) for s in one} <= {(s.text, q.text) for s in SCAFFOLDS for q in QUESTIONS}
    assert all(s.reply for s in one)


def test_nearness_is_1_to_oneself_and_to_what_is_turned_and_0_to_chance():
    rng = np.random.default_rng(2)
    one = rng.normal(size=(30, 4, 3, 40))
    turn, _ = np.linalg.qr(rng.normal(size=(40, 40)))
    np.testing.assert_allclose(nearness(one, one), 1.0)
    np.testing.assert_allclose(nearness(one, 3 * one @ turn), 1.0)
    assert abs(nearness(one, rng.normal(size=(30, 4, 5, 20))).mean()) < 0.1
    noisy = one + rng.normal(size=one.shape)
    assert 0.2 < nearness(one, noisy).mean() < 0.9
    deeper = np.repeat(one, 2, axis=2)  # every layer twice: the first and last still meet
    np.testing.assert_allclose(nearness(one[:, :, [0, 2]], deeper[:, :, [0, 5]]), 1.0)


def test_spawn_states_are_those_before_the_first_word(loaded, reference, store):
    model = loaded("llama")
    found = spawn_states(model, SCAFFOLDS[:2], QUESTIONS, store)
    said = [Message("system", SCAFFOLDS[1].text), Message("user", QUESTIONS[0].text)]
    states = residuals(reference("llama"), render(model.tokenizer, said).ids)
    for layer, state in enumerate(states):
        np.testing.assert_allclose(found[1, 0, layer], state[-1].numpy(), rtol=1e-3, atol=1e-4)
