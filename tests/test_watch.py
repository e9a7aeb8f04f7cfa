"""Watching a conversation with a shipped organism: the numbers are those of its replies."""

import itertools
import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lab.directions import apart
from lab.estimators import unit
from lab.likelihood import likelihood_ratios
from lab.models import load
from lab.monitoring import least_threshold
from lab.pipelines import ordinary
from lab.pipelines import watcher as job
from lab.pipelines.compare import resolve_model
from lab.pipelines.following import follow, so_far
from lab.pipelines.ordinary import ordinary_turns
from lab.pipelines.turns import fitting
from lab.pipelines.watch import WatchConfig, own_conversations, read_turns
from lab.pipelines.watcher import learn_watcher
from lab.prompts.chat import render
from lab.reading import read
from lab.records import Direction, LabError, Message, Site
from lab.store import Store

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


def test_ratios_are_those_under_the_system_prompt_and_the_last_user_turn_alone(model):
    d = direction(model)
    (turns,) = read_turns(model, [TALK], [d])
    chats = [render(model.tokenizer, [TALK[0], TALK[1]]), render(model.tokenizer, [TALK[0], TALK[3]])]
    said = [TALK[2].content, TALK[4].content]
    norm = float(read(model, [render(model.tokenizer, list(TALK[:i])) for i in (2, 4)], said).norm[2])
    ratios = likelihood_ratios(model, chats, said, [d], [norm])
    np.testing.assert_allclose(turns.ratios["warmth"], [r["warmth"].total for r in ratios], rtol=1e-3)


def test_ratios_of_several_traits_go_along_what_is_their_own(model):
    warm = direction(model)
    v = np.random.default_rng(1).normal(size=model.identity.d_model)
    agency = replace(warm, trait="agency", vector=unit(unit(v) + warm.vector))
    (turns,) = read_turns(model, [TALK], [warm, agency], norms=[10.0, 10.0])
    chats = [render(model.tokenizer, [TALK[0], TALK[1]]), render(model.tokenizer, [TALK[0], TALK[3]])]
    said = [TALK[2].content, TALK[4].content]
    for pair, same in ((apart([warm, agency]), True), ([warm, agency], False)):
        ratios = likelihood_ratios(model, chats, said, pair, [10.0, 10.0])
        for d in pair:
            wanted = [r[d.trait].total for r in ratios]
            assert np.allclose(turns.ratios[d.trait], wanted, rtol=1e-3, atol=1e-4) == same
    (alone,) = read_turns(model, [TALK], [agency])
    np.testing.assert_allclose(turns.projections["agency"], alone.projections["agency"], rtol=1e-3)
    (one,) = read_turns(model, [TALK], [warm, agency], norms=[10.0, 10.0], traits=["agency"])
    np.testing.assert_allclose(one.ratios["agency"], turns.ratios["agency"], rtol=1e-3, atol=1e-4)
    assert (list(one.ratios), list(one.projections)) == (["agency"], ["warmth", "agency"])


def test_a_turn_without_words_has_no_ratio(model):
    empty = (*TALK[:2], Message("assistant", ""), *TALK[3:])
    (turns,) = read_turns(model, [empty], [direction(model)])
    assert np.isnan(turns.ratios["warmth"]).tolist() == [[True] * 2, [False] * 2]
    assert np.isnan(turns.projections["warmth"]).tolist() == [True, False]


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


@pytest.fixture(scope="module")
def little(loaded):
    """A tiny random model with two directions and what is ordinary for it."""
    model, rng = loaded("llama"), np.random.default_rng(3)
    v = np.linalg.qr(rng.normal(size=(model.identity.d_model, 2)))[0].T
    d = [
        Direction(t, Site(1), "reply_mean", v[k], 1.0, model.identity.fingerprint, "extract")
        for k, t in enumerate(("warmth", "agency"))
    ]
    config = WatchConfig("little", (), own=34, turns=3, max_new_tokens=6)
    return (
        model,
        d,
        own_conversations(model, TALK[:1], [m.content for m in TALK[1::2]] + ["Tea?"], config, _no),
    )


def _no(share):
    return None


@pytest.fixture(scope="module")
def watcher(little):
    model, directions, talks = little
    return learn_watcher(model, directions, read_turns(model, talks, directions), promised=2.0)


def test_a_conversation_that_goes_on_is_read_on_and_comes_out_the_same(watcher, monkeypatch):
    long = (
        *TALK,
        TALK[3],
        Message("assistant", "Well, letters then."),
        TALK[1],
        Message("assistant", "Yes."),
    )
    whole, asked = watcher.read(long), []
    real = job.read_turns
    monkeypatch.setattr(job, "read_turns", lambda *a, **k: asked.append(k["skip"]) or real(*a, **k))
    seen = watcher.read(long[:3])
    seen = watcher.read(long[:5], seen)
    seen = watcher.read(long[:6], seen)  # only the user spoke: nothing to read
    seen = watcher.read(long, seen)
    assert asked == [0, 1, 2]
    a, b = watcher.report(whole), watcher.report(seen)
    for x, y in zip((*a.traits, *a.projections), (*b.traits, *b.projections), strict=True):
        np.testing.assert_allclose(x.value, y.value, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(x.course.up, y.course.up, rtol=1e-3, atol=1e-3)
    assert [r.text for r in b.replies] == [m.content for m in long if m.role == "assistant"]
    assert b.longest == 3
    changed = (*long[:4], Message("assistant", "Something else."), *long[5:])
    assert seen.known(changed) == 1
    again = watcher.report(watcher.read(changed, seen))
    np.testing.assert_allclose(
        again.traits[0].value, watcher.report(watcher.read(changed)).traits[0].value, rtol=1e-3
    )
    assert asked[3:] == [1, 0]


def test_the_oldest_turns_go_where_the_context_ends_and_the_system_prompt_stays(little):
    model, d, _ = little
    long = (*TALK, *(m for _ in range(30) for m in TALK[1:]))
    reply = len(model.tokenizer(TALK[2].content, add_special_tokens=False)["input_ids"])
    room = [len(fitting(model, long[: 4 * k + 2], reply).ids) + reply for k in range(31)]
    turn = len(render(model.tokenizer, TALK[:2]).ids) + reply  # what was left out would not have fitted
    assert max(room) <= model.context < min(room[10:]) + 2 * turn
    (turns,) = read_turns(model, [long], d)
    assert len(turns.replies) == 62
    assert np.isfinite(turns.projections["warmth"]).all()
    assert np.isfinite(turns.ratios["warmth"]).all()
    huge = (Message("system", "warm " * 1100), *TALK[1:])
    with pytest.raises(LabError, match="fit the model's context of 512"):
        read_turns(model, [huge], d)


def test_what_was_learned_comes_from_the_store_the_second_time(little, tmp_path, monkeypatch):
    model, d, _ = little
    config = WatchConfig("little", (), own=20, turns=2, max_new_tokens=4)
    args = (model, d, TALK[:1], ["One?", "Two?"], (), config, Store(tmp_path), lambda stage, part: None)
    first = ordinary_turns(*args)
    monkeypatch.setattr(ordinary, "own_conversations", None)
    for x, y in zip(first, ordinary_turns(*args), strict=True):
        assert x.replies == y.replies
        assert x.norms == pytest.approx(y.norms)
        for part in ordinary.SERIES:
            for t in ("warmth", "agency"):
                np.testing.assert_array_equal(getattr(x, part)[t], getattr(y, part)[t])


def test_a_promise_for_all_traits_together_has_one_threshold(little, watcher):
    model, directions, talks = little
    turns = read_turns(model, talks, directions)
    both = learn_watcher(model, directions, turns, promised=2.0, together=True)
    (h,) = {u.ratio.threshold for u in both.usual}
    assert h >= max(u.ratio.threshold for u in watcher.usual)
    assert h >= least_threshold(2.0, series=2)
    assert min(u.ratio.threshold for u in watcher.usual) >= least_threshold(2.0)
    assert watcher.report(watcher.read(TALK)).promise.startswith(
        "at most 2 per 100 ordinary turns for each trait"
    )
    assert both.report(both.read(TALK)).promise == "at most 2 per 100 ordinary turns for all traits together"


def test_tokens_are_in_sd_of_ordinary_tokens(watcher):
    found = watcher.report(watcher.read(TALK))
    raw, band = found.replies[1].projections["agency"], found.bands[1]
    assert found.tokens_in_sd(1)["agency"] == pytest.approx([(x - band.mean) / band.sd for x in raw])
    assert found.band_in_sd("agency")[0] < 0 < found.band_in_sd("agency")[1]
    values = np.concatenate(
        [[t for r in x.replies for t in r.projections["agency"]] for x in _turns(watcher)]
    )
    assert np.mean((values >= band.low) & (values <= band.high)) == pytest.approx(0.95, abs=0.01)


def _turns(watcher):
    questions = [m.content for m in TALK[1::2]] + ["Tea?"]
    config = WatchConfig("little", (), own=34, turns=3, max_new_tokens=6)
    talks = own_conversations(watcher.model, TALK[:1], questions, config, _no)
    return read_turns(watcher.model, talks, [u.direction for u in watcher.usual])


# ------------------------------------------------------------------ a file that grows


def document(*messages):
    return [{"role": m.role, "content": m.content} for m in messages]


def test_what_is_still_being_written_is_waited_for_and_what_is_wrong_is_told():
    path, text = Path("talk.json"), json.dumps({"conversation": document(*TALK)}, ensure_ascii=False)
    assert so_far(text.encode(), path) == TALK
    assert all(so_far(text.encode()[:n], path) is None for n in range(0, len(text.encode()) - 1, 7))
    lines = "\n".join(json.dumps(x) for x in document(*TALK)) + "\n"
    assert so_far(lines.encode(), path) == TALK
    assert so_far(lines[:-20].encode(), path) == TALK[:4]
    assert so_far(lines[: len(lines.splitlines()[0]) + 20].encode(), path) is None  # no reply yet
    umlaut = (lines + '{"role": "user", "content": "ü').encode()[:-1]
    assert so_far(umlaut, path) == TALK  # a character cut in two
    for bad, words in (
        (lines.replace('"user"', '"robot"', 1), "line 2: .*should be 'system', 'user' or 'assistant'"),
        (lines.replace('{"role": "user"', "{role", 1), "line 2, column 2: not JSON"),
        ('{"messages": []}', "Field required"),
        (json.dumps(document(TALK[1], TALK[0])), "may only be the first"),
    ):
        with pytest.raises(LabError, match=words):
            so_far(bad.encode(), path)
    with pytest.raises(LabError, match="expected UTF-8"):
        so_far(b"[\xff\xff]", path)


def test_a_file_is_followed_turn_by_turn(tmp_path, watcher):
    path, learned = tmp_path / "talk.jsonl", []
    lines = [json.dumps(x) + "\n" for x in document(*TALK, TALK[1], Message("assistant", "Yes."))]
    other = [json.dumps(x) + "\n" for x in document(Message("system", "You are cold."), *TALK[1:3])]
    states = iter(
        [lines[:3], [*lines[:4], lines[4][:9]], lines[:5], None, lines[:6], lines, lines[:3], other]
    )

    def wait():
        state = next(states)
        path.unlink(missing_ok=True)
        if state is not None:
            path.write_text("".join(state), encoding="utf-8")

    path.write_text("", encoding="utf-8")
    said = []
    states_of_file = follow(path, lambda talk: learned.append(talk) or watcher, wait)
    for found, first in itertools.islice(states_of_file, 5):
        said.append((first, [r.text for r in found.replies]))
    warm, cold, yes = TALK[2].content, TALK[4].content, "Yes."
    assert said == [(0, [warm]), (1, [warm, cold]), (2, [warm, cold, yes]), (1, [warm]), (0, [warm])]
    assert [t[0].content for t in learned] == [TALK[0].content, "You are cold."]


# ------------------------------------------------------------------ the command


@pytest.fixture(scope="module")
def command(checkpoint, tmp_path_factory):
    """`lab watch` on a tiny random model, as a list of words."""
    code = [sys.executable, "-c", "from lab.cli import main; main()", "watch"]
    folder = tmp_path_factory.mktemp("ordinary")
    for k in range(24):
        talk = [TALK[0], *TALK[1:3], TALK[3], Message("assistant", f"Number {k * k} it is.")]
        (folder / f"{k}.json").write_text(json.dumps(document(*talk)), encoding="utf-8")
    few = [
        "--traits",
        "chat:warmth,intimacy",
        "--max-new-tokens",
        "2",
        "--ordinary",
        str(folder),
        "--promised",
        "5",
    ]
    return [*code, "--model", str(checkpoint("llama")), *few, "--runs", str(tmp_path_factory.mktemp("runs"))]


def test_the_command_tells_every_turn_and_token(tmp_path, command):
    path = tmp_path / "talk.jsonl"
    path.write_text("\n".join(json.dumps(x) for x in document(*TALK)), encoding="utf-8")
    rest = ["--json", "--tokens"]
    done = subprocess.run([*command, str(path), *rest], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["replies"] == [TALK[2].content, TALK[4].content]
    for trait in told["traits"]:
        departure = (trait["value"][1] - trait["expected"][1]) / trait["deviation"][1]
        assert departure > 0  # in units of one sd
        assert trait["threshold"] > 0
    assert told["promised_for"] == "each trait"
    for turn, words in zip(told["tokens"], told["replies"], strict=True):
        assert "".join(turn["tokens"]) == words
        assert {len(v) for v in turn["token_projections"].values()} == {len(turn["tokens"])}
    for k, trait in enumerate(told["projections"]):
        means = [np.mean(t["token_projections"][trait["trait"]]) for t in told["tokens"]]
        assert trait["value"] == pytest.approx(means)
        assert trait["ordinary_tokens"]["low"] < trait["ordinary_tokens"]["high"]
        assert trait["trait"] == told["traits"][k]["trait"]
    bad = subprocess.run([*command, str(tmp_path / "no.json")], capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    assert "Traceback" not in bad.stderr


@pytest.mark.parametrize("promised", [0.0, -1.0, 100.0, float("nan")])
def test_a_promise_of_no_or_only_alarms_is_refused(promised):
    with pytest.raises(LabError, match="above 0 and below 100"):
        WatchConfig("hearth-a", TALK, promised=promised)


def test_the_command_follows_a_file_until_ctrl_c(tmp_path, command):
    path = tmp_path / "talk.jsonl"
    lines = [json.dumps(x) + "\n" for x in document(*TALK)]
    path.write_text("".join(lines[:3]) + lines[3][:7], encoding="utf-8")
    run = subprocess.Popen(
        [*command, str(path), "--follow", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # shells ignore it in background jobs
    )  # fmt: skip
    try:
        assert run.stdout is not None
        head, first = (json.loads(run.stdout.readline()) for _ in range(2))
        assert set(head["thresholds"]) == {"warmth", "intimacy"}
        assert (first["turn"], first["reply"]) == (1, TALK[2].content)
        path.write_text("".join(lines), encoding="utf-8")
        second = json.loads(run.stdout.readline())
        assert (second["turn"], second["reply"]) == (2, TALK[4].content)
        assert [t["alarm"] for t in second["traits"]] == [False, False]
    finally:
        run.send_signal(signal.SIGINT)
        _, errors = run.communicate(timeout=90)
    assert run.returncode == 0, errors
    assert "Traceback" not in errors
