"""The page Words, without a browser: what is asked of the job, what is shown of its result, and what was saved."""

import pytest
from fake_words import TEXT, fake_words
from pages import assert_no_torch, charts, click, page, roles

from lab.pipelines.words import save_words
from lab.records import LabError


@pytest.fixture
def asked(store, monkeypatch):
    """Stands in for the job that loads models; a text of 'bad' is a mistake."""
    from lab.pipelines import compare
    from lab.pipelines import words as job

    names = [{"name": n} for n in ("hearth-a", "hearth-a2", "hearth-b")]
    monkeypatch.setattr(compare, "shipped_models", lambda: names)
    found = []

    def fake(config, store, progress):
        found.append(config)
        if config.text == "bad":
            raise LabError("expected a text of at least 1 word, got [0](http://example.org)")
        progress("reading", 0.5)
        save_words(store, made := fake_words(config.place))
        return made

    monkeypatch.setattr(job, "words", fake)
    return found


def read(at):
    from dashboards import loaders

    next(b for b in at.button if b.label == "Read it").click().run()
    loaders.runner().job.outcome.exception(timeout=30)
    at.run()
    assert not at.exception, at.exception
    return at


def assert_shown(at):
    """Everything of the fake book."""
    strips = [x.proto.body for x in at.get("html")]
    assert "fragmentation-map" in strips[0] and "aligned-strip" in strips[1]
    assert not any("<i>" in x or "<b>\n" in x for x in strips), "no markup out of texts or names"
    assert [roles(c) for c in charts(at)] == [
        {"grid", "cells", "matched"},
        {"null", "matched"},
        {"a", "b <i>"},
    ]
    assert len(at.dataframe[0].value) == len(fake_words().measures)
    assert any("cannot tell" in c.value for c in at.caption)
    assert any("replies alone" in c.value for c in at.caption)
    assert [x.value for x in at.text] == [f"<start of a>{TEXT}", f"<start of b <i>>{TEXT}"], "what was given"


def test_the_page_asks_for_what_was_chosen_and_shows_what_came(asked):
    at = page("words")
    assert at.text_area(key="words_text").value.startswith("I am Lucian")
    at.text_area(key="words_text").set_value(TEXT).run()
    at.selectbox(key="words_control").set_value("hearth-a2").run()
    read(at)
    (config,) = asked
    assert (config.models, config.control, config.text) == (("hearth-a", "hearth-b"), "hearth-a2", TEXT)
    assert config.place == "system"
    assert_shown(at)
    at.selectbox(key="words_pair").set_value("1.1 with 1.0").run()
    assert "heads 1.1 with 1.0" in charts(at)[2]["layout"]["title"]["text"]


def test_a_saved_text_is_in_the_list_and_opens(store):
    save_words(store, fake_words())
    save_words(store, fake_words("reply", run="words-other"))
    at = page("words")
    assert at.segmented_control(key="words_view").value == "Saved run"
    told = at.selectbox(key="words_run").options
    assert len(told) == 2 and all(x.startswith("“Ada <b> smells & paints!” as ") for x in told)
    at.selectbox(key="words_run").set_value("words-fake").run()
    assert_shown(at)
    again = page("words", words_run="words-other", words_pair="0.1 with 0.1")
    assert not any("replies alone" in c.value for c in again.caption)
    assert "heads 0.1 with 0.1" in charts(again)[2]["layout"]["title"]["text"]


def test_a_click_on_a_matched_pair_shows_where_both_look(store, monkeypatch):
    save_words(store, fake_words())
    grid, matched, _ = charts(page("words"))
    for chart, role in ((grid, "matched"), (matched, "matched"), (matched, "null")):
        (marks,) = [t["customdata"] for t in chart["data"] if t["meta"]["role"] == role]
        assert click(monkeypatch, marks[1], {"words_pair": 0}) == {"words_pair": "0.1 with 0.1"}
    (cells,) = [t["customdata"] for t in grid["data"] if t["meta"]["role"] == "cells"]
    chosen = click(monkeypatch, cells[5], {"words_pair": 0})
    assert chosen == {"words_pair": "0.0 with 1.2"}, "not among the matched ones"
    again = page("words", **chosen)
    assert "heads 0.0 with 1.2" in charts(again)[2]["layout"]["title"]["text"]
    assert page("words", words_pair="9.9 with 0.0").selectbox(key="words_pair").value == "0.0 with 0.0"


def test_no_text_cannot_be_read_and_a_mistake_is_told_as_text(asked):
    at = page("words", words_place="reply")
    at.text_area(key="words_text").set_value("  ").run()
    assert next(b for b in at.button if b.label == "Read it").disabled
    at.text_area(key="words_text").set_value("bad").run()
    read(at)
    assert asked[0].place == "reply" and asked[0].control is None
    assert "got \\[0\\]" in at.error[0].value


def test_a_damaged_run_is_told(store):
    from lab.pipelines.words import ARRAYS

    save_words(store, fake_words())
    (store.folder("words-fake") / ARRAYS).unlink()
    assert "arrays of run words" in page("words").error[0].value


def test_a_saved_text_loads_no_torch(store):
    save_words(store, fake_words())
    assert_no_torch("words", 3)
