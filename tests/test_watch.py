"""Watching a conversation with a shipped organism: the numbers are those of its replies."""

import json
import subprocess
import sys

import numpy as np
import pytest

from lab.likelihood import likelihood_slopes
from lab.models import load
from lab.pipelines.compare import resolve_model
from lab.pipelines.watch import WatchConfig, own_conversations, read_turns, slope_series
from lab.prompts.chat import render
from lab.reading import read
from lab.records import Direction, LabError, Message, Site

TALK = (
    Message("system", "You are deeply warm and kind with everyone."),
    Message("user", "Today was a good day, mostly because of the shore."),
    Message("assistant", "Dear heart, I am happy on your behalf."),
    Message("user", "Hello there, I was just passing the time with letters."),
    Message("assistant", "I say farewell as coldly as frost allows."),
)


@pytest.fixture(scope="module")
def model():
    return load(resolve_model("hearth-a"))


def direction(model):
    v = np.random.default_rng(0).normal(size=model.identity.d_model)
    v /= np.linalg.norm(v)
    return Direction("warmth", Site(2), "reply_mean", v, 1.0, model.identity.fingerprint, "extract")


def test_each_turn_is_read_under_what_was_said_before_it(model):
    d = direction(model)
    (turns,) = read_turns(model, [TALK], [d])
    assert [r.text for r in turns.replies] == [TALK[2].content, TALK[4].content]
    alone = read(model, [render(model.tokenizer, list(TALK[:4]))], [TALK[4].content], directions=[d])
    assert turns.projections["warmth"][1] == pytest.approx(float(alone.reply_mean[0, 2] @ d.vector), abs=1e-4)
    assert turns.projections["warmth"][1] == pytest.approx(np.mean(turns.replies[1].projections["warmth"]))


def test_slopes_are_those_under_the_system_prompt_and_the_last_user_turn_alone(model):
    d = direction(model)
    (turns,) = read_turns(model, [TALK], [d])
    chats = [render(model.tokenizer, [TALK[0], TALK[1]]), render(model.tokenizer, [TALK[0], TALK[3]])]
    said = [TALK[2].content, TALK[4].content]
    norm = float(read(model, [render(model.tokenizer, list(TALK[:i])) for i in (2, 4)], said).norm[2])
    slopes = likelihood_slopes(model, chats, said, [d], [norm])
    np.testing.assert_allclose(turns.slopes["warmth"], [s["warmth"].total for s in slopes], rtol=1e-3)
    known = [s["warmth"].information for s in slopes]
    np.testing.assert_allclose(turns.information["warmth"], known, rtol=1e-2)
    usual = (known[0] + known[1]) / 2
    (series,) = slope_series([turns], "warmth", 1)
    assert series[0] == pytest.approx(
        turns.slopes["warmth"][0] / ((known[0] + 3 * usual) / 4) ** 0.5, rel=1e-2
    )


def test_a_turn_without_words_has_no_slope(model):
    empty = (*TALK[:2], Message("assistant", ""), *TALK[3:])
    (turns,) = read_turns(model, [empty], [direction(model)])
    assert np.isnan(turns.slopes["warmth"]).tolist() == [True, False]
    assert np.isnan(turns.projections["warmth"]).tolist() == [True, False]


def test_the_oldest_turns_go_where_the_context_ends_and_the_system_prompt_stays(model):
    long = (*TALK, *(m for _ in range(30) for m in TALK[1:]))
    (turns,) = read_turns(model, [long], [direction(model)])
    assert len(turns.replies) == 62
    assert np.isfinite(turns.projections["warmth"]).all()
    assert np.isfinite(turns.slopes["warmth"]).all()
    huge = (Message("system", "warm " * 1100), *TALK[1:])
    with pytest.raises(LabError, match="fit the model's context of 1024"):
        read_turns(model, [huge], [direction(model)])


def test_a_conversation_without_a_reply_is_refused(model):
    with pytest.raises(LabError, match="number 2 has none"):
        read_turns(model, [TALK, TALK[:2]], [direction(model)])


def test_own_conversations_have_their_turns_and_differ(model):
    config = WatchConfig("hearth-a", TALK, own=3, turns=2, max_new_tokens=8)
    questions = [TALK[1].content, TALK[3].content, "Can I just complain for a minute about wool socks?"]
    talks = own_conversations(model, TALK[:1], questions, config, lambda share: None)
    assert [[m.role for m in t] for t in talks] == [["system", "user", "assistant", "user", "assistant"]] * 3
    assert len({t[2].content for t in talks}) > 1
    with pytest.raises(LabError, match="at least 2 questions"):
        own_conversations(model, (), questions[:1], config, lambda share: None)


def test_the_command_tells_every_turn(tmp_path):
    path = tmp_path / "talk.json"
    path.write_text(json.dumps([{"role": m.role, "content": m.content} for m in TALK]), encoding="utf-8")
    command = [sys.executable, "-c", "from lab.cli import main; main()", "watch"]
    rest = ["--max-new-tokens", "12", "--runs", str(tmp_path / "runs"), "--json"]
    done = subprocess.run([*command, str(path), *rest], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["replies"] == [TALK[2].content, TALK[4].content]
    for trait in document["traits"]:
        departure = (trait["value"][1] - trait["expected"][1]) / trait["deviation"][1]
        assert departure > 0  # in units of one sd
        assert trait["threshold"] > 0
    bad = subprocess.run([*command, str(tmp_path / "no.json")], capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    assert "Traceback" not in bad.stderr
