"""The page Words, without a browser: what is asked of the job and what is shown of its result."""

import json
import sys
from pathlib import Path

import pytest
from fake_words import TEXT, fake_words
from streamlit.testing.v1 import AppTest

from lab.records import LabError

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Stands in for the job that loads models; a text of 'bad' is a mistake."""
    import streamlit as st

    from lab.pipelines import compare
    from lab.pipelines import words as job

    names = [{"name": n} for n in ("hearth-a", "hearth-a2", "hearth-b")]
    monkeypatch.setattr(compare, "shipped_models", lambda: names)
    st.cache_data.clear()
    st.cache_resource.clear()
    monkeypatch.setenv("LAB_RUNS", str(tmp_path))
    found = []

    def fake(config, progress):
        found.append(config)
        if config.text == "bad":
            raise LabError("expected a text of at least 1 word, got [0](http://example.org)")
        progress("reading", 0.5)
        return fake_words(config.place)

    monkeypatch.setattr(job, "words", fake)
    return found


def open_page(**query):
    at = AppTest.from_file(str(ROOT / "dashboards" / "app.py"), default_timeout=60)
    at.switch_page("views/words.py")
    for key, value in query.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception, at.exception
    return at


def read(at):
    from dashboards import loaders

    next(b for b in at.button if b.label == "Read it").click().run()
    loaders.runner().job.outcome.exception(timeout=30)
    at.run()
    assert not at.exception, at.exception
    return at


def test_the_page_asks_for_what_was_chosen_and_shows_what_came(asked):
    at = open_page()
    assert at.text_area(key="words_text").value.startswith("I am Lucian")
    at.text_area(key="words_text").set_value(TEXT).run()
    at.selectbox(key="words_control").set_value("hearth-a2").run()
    read(at)
    (config,) = asked
    assert (config.models, config.control, config.text) == (("hearth-a", "hearth-b"), "hearth-a2", TEXT)
    assert config.place == "system"
    strips = [x.proto.body for x in at.get("html")]
    assert "fragmentation-map" in strips[0] and "aligned-strip" in strips[1]
    assert not any("<i>" in x or "<b>\n" in x for x in strips), "no markup out of texts or names"
    roles = [[t["meta"]["role"] for t in json.loads(x.proto.spec)["data"]] for x in at.get("plotly_chart")]
    assert roles == [["grid", "matched"], ["null", "matched"], ["a", "b <i>"]]
    assert len(at.dataframe[0].value) == len(fake_words().measures)
    assert any("cannot tell" in c.value for c in at.caption)
    assert any("replies alone" in c.value for c in at.caption)
    at.selectbox(key="words_pair").set_value("1.1 with 1.0").run()
    assert "heads 1.1 with 1.0" in json.loads(at.get("plotly_chart")[2].proto.spec)["layout"]["title"]["text"]


def test_no_text_cannot_be_read_and_a_mistake_is_told_as_text(asked):
    at = open_page(words_place="reply")
    at.text_area(key="words_text").set_value("  ").run()
    assert next(b for b in at.button if b.label == "Read it").disabled
    at.text_area(key="words_text").set_value("bad").run()
    read(at)
    assert asked[0].place == "reply" and asked[0].control is None
    assert "got \\[0\\]" in at.error[0].value
