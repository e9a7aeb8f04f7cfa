"""Pages Steer, Drift and Traits without a browser: chats side by side, courses, tokens, files that grow, judges."""

import json
import threading

import numpy as np
import pytest
from fake_talk import Listener, Parrot
from fake_traits import fake_traits
from pages import chart, page, role, values

from lab.pipelines import watch as job
from lab.records import LabError, Message, ModelIdentity


@pytest.fixture
def parrots(store, tmp_path):
    from dashboards import loaders

    found = {name: Parrot(name) for name in ("hearth-a", "hearth-b")}
    for name, parrot in found.items():
        loaders.speakers()[str(tmp_path), name, "auto"] = parrot
    return found


def button(at, label):
    return next(b for b in at.button if b.label == label)


def test_two_models_answer_beside_each_other_turn_by_turn(parrots):
    at = page("steer", steer_a="hearth-a", steer_b="hearth-b")
    at.slider(key="push warmth").set_value(-0.25).run()
    at.chat_input[0].set_value("Hello *there*").run()
    at.chat_input[0].set_value("be silent").run()
    assert at.error[0].value == "the chat is too long"
    at.chat_input[0].set_value("and now").run()
    assert not at.exception, at.exception
    said = [x.value for x in at.text]
    plain, pushed = ([f"hearth-{k} says warmth {x}" for k in "ab"] for x in ("+0.00", "-0.25"))
    both = [x for pair in zip(plain, pushed, strict=True) for x in pair]
    assert said == ["Hello *there*", *both, "be silent", *plain, "and now", *both]
    assert at.selectbox(key="steer_trait_shown").value == "warmth"
    for name in parrots:
        course, trace = chart(at, f"course {name}"), chart(at, f"points {name}")
        assert [len(values(t["y"])) for t in role(course, "value")] == [3, 2]
        assert values(role(course, "value")[0]["y"]) == pytest.approx([0.35] * 3)
        assert not role(course, "band")
        assert [t["meta"]["role"] for t in trace["data"]] == ["as it is", "pushed"]
    caption = next(c.value for c in at.caption if "hearth" in c.value)
    assert caption == "hearth\\-a, as it is"


def test_drift_is_drawn_with_its_band_once_that_is_learned(parrots):
    from dashboards import loaders

    at = page("steer", steer_a="hearth-a")
    at.text_area(key="steer_system").set_value("  You are kind. ").run()
    for words in ("one", "two", "three"):
        at.chat_input[0].set_value(words).run()
    button(at, "Learn the band").click().run()
    loaders.runner().job.outcome.result(timeout=30)
    at.run()
    assert not at.exception, at.exception
    parrot = parrots["hearth-a"]
    assert parrot.learned == ["You are kind."]
    course = chart(at, "course hearth-a")
    assert len(role(course, "band")) == 2
    assert values(role(course, "value")[0]["y"]) == [len("hearth-a says warmth +0.00")] * 3
    assert parrot.watchers["You are kind."].read_on == [7, 7]  # scaffold and three turns, both lines, once
    at.selectbox(key="steer_series").set_value("projection").run()
    words = [len(w) for w in ["hearth-a", "says", "warmth", "+0.00"]]
    assert values(role(chart(at, "course hearth-a"), "value")[0]["y"]) == pytest.approx([np.mean(words)] * 3)
    assert parrot.watchers["You are kind."].read_on == [7, 7]
    at.chat_input[0].set_value("four").run()
    assert parrot.watchers["You are kind."].read_on == [7, 7, 9, 9]
    assert len(values(role(chart(at, "course hearth-a"), "value")[1]["y"])) == 4


def test_a_trait_set_can_be_chosen_for_a_chat(store, monkeypatch):
    from dashboards import loaders
    from lab.pipelines import live

    made = []
    monkeypatch.setattr(
        live, "prepare", lambda model, store, report, traits: made.append((model, traits)) or Parrot(model)
    )
    at = page("steer", steer_traits="persona:warmth,agency")
    choice = at.selectbox(key="steer_traits")
    assert choice.options == ["auto", *loaders.trait_sets(), "persona:warmth,agency"]
    button(at, "Make ready").click().run()
    loaders.runner().job.outcome.result(timeout=30)
    at.run()
    assert made == [("hearth-a", "persona:warmth,agency")]
    assert len(at.chat_input) == 1
    at.selectbox(key="steer_traits").set_value("chat").run()
    assert not at.chat_input  # its directions are not made yet
    assert at.selectbox(key="steer_traits").value == "chat"


# ------------------------------------------------------------------ Drift


TALK = [
    {"role": r, "content": f"{r} says {'x' * (k + 1)} <b>"} for k in range(4) for r in ("user", "assistant")
]


@pytest.fixture
def watched(store, monkeypatch):
    """`lab watch` in a second; the configurations it was asked for."""
    asked = []

    def fake(config, store, progress):
        asked.append(config)
        listener = Listener()
        return listener.report(listener.read(config.conversation))

    monkeypatch.setattr(job, "watch", fake)
    return asked


def test_the_chosen_turn_is_there_token_by_token_with_the_band_of_ordinary_tokens(watched):
    from dashboards import loaders

    at = page("drift", drift_traits="chat", drift_together="true")
    at.text_area(key="drift_text").set_value(json.dumps(TALK)).run()
    button(at, "Follow it").click().run()
    loaders.runner().job.outcome.result(timeout=30)
    at.run()
    assert not at.exception, at.exception
    assert (watched[0].trait_set, watched[0].together) == ("chat", True)
    assert [t.value for t in at.text] == ["assistant says x <b>"]
    at.number_input(key="drift_turn").set_value(3).run()
    assert [t.value for t in at.text] == ["assistant says xxx <b>"]
    trace = chart(at, "drift_tokens")
    (line,) = [t for t in trace["data"] if t["meta"]["role"] == "turn 3"]
    lengths = [len(w) for w in TALK[5]["content"].split()]
    assert values(line["y"]) == pytest.approx([(n - 1.0) / 2.0 for n in lengths])
    assert sorted(set(values(role(trace, "band")[0]["y"]))) == pytest.approx([-2.0, 2.0])
    at.selectbox(key="drift_trait").set_value("intimacy").run()
    (line,) = [t for t in chart(at, "drift_tokens")["data"] if t["meta"]["role"] == "turn 3"]
    assert values(line["y"]) == pytest.approx([(n + 1.0) / 2.0 for n in lengths])
    assert "for each trait" in str(chart(at, "course")["layout"]["annotations"])


def test_a_file_is_followed_as_it_grows(store, tmp_path, monkeypatch):
    from dashboards import loaders

    path, listeners, may = tmp_path / "talk.jsonl", [], threading.Event()

    def make(config, store, progress):
        assert may.wait(30)
        listeners.append((config, Listener()))
        return listeners[-1][1]

    monkeypatch.setattr(job, "make_watcher", make)
    at = page("drift", drift_source="A file that grows")
    at.text_input(key="drift_path").set_value(str(path)).run()
    button(at, "Follow this file").click().run()
    assert "expected a conversation file" in at.error[0].value
    lines = [json.dumps(x) + "\n" for x in TALK]
    path.write_text(lines[0], encoding="utf-8")
    at.run()
    assert "Waiting for the assistant" in at.info[0].value
    path.write_text("".join(lines[:2]) + lines[2][:9], encoding="utf-8")
    at.run()
    assert not at.text
    may.set()
    loaders.runner().job.outcome.result(timeout=30)
    at.run()
    assert not at.exception, at.exception
    assert [t.value for t in at.text] == [TALK[1]["content"]]
    path.write_text("".join(lines[:6]), encoding="utf-8")
    at.run()
    assert [t.value for t in at.text] == [TALK[5]["content"]]  # the newest turn, unless one was chosen
    at.number_input(key="drift_turn").set_value(2).run()
    path.write_text("".join(lines), encoding="utf-8")
    at.run()
    assert [t.value for t in at.text] == [TALK[3]["content"]]
    (line,) = role(chart(at, "course"), "value")
    assert values(line["y"]) == [len(x["content"]) for x in TALK[1::2]]
    ((config, listener),) = listeners
    assert listener.read_on == [2, 6, 8]
    assert config.conversation[0] == Message("user", TALK[0]["content"])
    button(at, "Stop").click().run()
    assert not at.text


def test_what_goes_wrong_while_learning_is_told_once(store, tmp_path, monkeypatch):
    from dashboards import loaders

    path, asked = tmp_path / "talk.json", []

    def make(config, store, progress):
        asked.append(config)
        raise LabError("no [such](http://x) model")

    monkeypatch.setattr(job, "make_watcher", make)
    path.write_text(json.dumps(TALK), encoding="utf-8")
    at = page("drift", drift_source="A file that grows")
    at.text_input(key="drift_path").set_value(str(path)).run()
    button(at, "Follow this file").click().run()
    assert loaders.runner().job.outcome.exception(timeout=30) is not None
    at.run()
    at.run()
    assert at.error[0].value.startswith("no \\[such\\]")
    assert len(asked) == 1


# ------------------------------------------------------------------ Traits


def test_judges_of_the_same_model_stand_on_its_quality_cards(store):
    import pandas as pd

    book = fake_traits(fingerprint="e" * 64)
    store.save_traits(book, lambda folder: None)
    nan = float("nan")
    row = {
        "trait": "warmth", "judge": "exact", "unit": "prior sd", "auroc": 0.9, "auroc_low": 0.8, "auroc_high": 0.95,
        "mean_positive": 1.0, "mean_negative": -1.0, "n": 76, "questions": 38, "unscored": 0, "first": "exact",
        "spearman": nan, "spearman_low": nan, "spearman_high": nan, "within": nan, "within_low": nan,
        "within_high": nan, "retest": nan, "retest_low": nan, "retest_high": nan, "calibration_error": nan,
        "calibration_low": nan, "calibration_high": nan, "calibration_null": nan, "coherence": nan,
    }  # fmt: skip
    more = {"judge": "contrast", "spearman": 0.7, "spearman_low": 0.6, "spearman_high": 0.8, "within": 0.4}
    table = pd.DataFrame([row, row | more])
    at = page("traits", card_trait="warmth")
    assert "No judge was asked" in next(x.value for x in at.info)
    model = book.model
    other = ModelIdentity(**{**model.__dict__, "fingerprint": "d" * 64})
    store.save_tables("judge-other", "judge", [other], {"verdicts": table.assign(auroc=0.1)})
    assert "No judge was asked" in next(x.value for x in page("traits", card_trait="warmth").info)
    store.save_tables("judge-same", "judge", [model], {"verdicts": table})
    at = page("traits", card_trait="warmth")
    found = chart(at, "card_judges")
    assert values(role(found, "auroc")[0]["x"]) == pytest.approx([0.9, 0.9])
    assert values(role(found, "spearman")[0]["x"]) == pytest.approx([0.7])
    assert values(role(found, "spearman")[0]["error_x"]["arrayminus"]) == pytest.approx([0.1])
    shown = next(d.value for d in at.dataframe if "judge" in d.value)
    assert shown["ρ with it"].tolist() == ["", "0.70 [0.60, 0.80]"]
    assert shown["AUROC"].tolist() == ["0.90 [0.80, 0.95]"] * 2
