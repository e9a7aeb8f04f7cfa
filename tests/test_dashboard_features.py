"""The page Features and what other pages show of sparse features, without a browser."""

import types
from dataclasses import replace
from pkgutil import resolve_name

import pytest
from fake_comparison import SCAFFOLDS, fake_comparison
from fake_features import MATCH, SAES, fake_features, fake_readout, identity
from fake_traits import fake_traits
from pages import assert_no_torch, chart, charts, click, given_away, page, query, role, roles, values
from test_figures_features import fake_decomposition

from lab.figures import feature_cards, feature_scatter, feature_tables
from lab.figures import feature_words as words
from lab.figures.theme import DARK, LIGHT, apart
from lab.pipelines.decomposition_runs import save_decomposition
from lab.pipelines.feature_runs import load_features, save_features
from lab.pipelines.readout_runs import save_readout, wordings_key
from lab.records import LabError
from lab.records.features import SaeOrigin

BOOK = fake_features()
READ = fake_readout()
OURS = ("features_a_labels", "features_a_tokens", "features_a_histogram")


@pytest.fixture
def saved(store):
    save_features(store, BOOK)
    return BOOK


@pytest.fixture
def shelf(monkeypatch):
    """One dictionary each of two models that are here."""
    from dashboards import loaders

    def origin(name):
        return SaeOrigin("topk", 8, 4, "blocks.1.hook_out", name, name, name * 64, False, "hearth", 9, 0, 2.0)

    found = {sae: origin(name) for sae, name in zip(SAES, "ab", strict=True)}
    monkeypatch.setattr(loaders, "dictionaries", lambda: found)
    return found


def said(at):
    """Everything that the page says in captions and boxes, Markdown's escapes undone."""
    parts = [x.value for kind in (at.caption, at.info, at.warning, at.error, at.code) for x in kind]
    return " ".join(parts).replace("\\", "")


def html(at):
    return " ".join(x.proto.body for x in at.get("html"))


# ------------------------------------------------------------------ the page


def test_a_run_is_read_as_it_was_saved(saved, store):
    assert repr(load_features(store, saved.run)) == repr(saved)


def test_without_a_run_the_command_is_told_and_a_button_makes_it(store, shelf, monkeypatch):
    from dashboards import loaders
    from lab.pipelines import features as job

    asked = []
    monkeypatch.setattr(job, "features", lambda config, store, report: asked.append(config))
    at = page("features")
    assert at.code[0].value == f"lab sae features sae-a --other sae-b --runs {store.root}"
    next(b for b in at.button if b.label == "Make it now").click().run()
    loaders.runner().job.outcome.result(timeout=30)
    assert (asked[0].sae, asked[0].other) == SAES
    shelf.clear()
    assert "lab sae train" in page("features").code[0].value


def test_the_page_shows_dictionaries_and_both_cards(saved):
    at = page("features", features_a_feature="0", features_b_feature="2")
    assert at.selectbox(key="features_b").value == f"{saved.run} {SAES[1]}", (
        "the other of the run stands beside it"
    )
    quality = next(d.value for d in at.dataframe if "reference" in d.value.columns)
    assert list(quality["value"]) == [0.94, 2.0, 0.25, 0.97] and {"low", "high", "texts"} <= set(
        quality.columns
    )
    assert "How good sae-b is was not measured with this run: no <texts>" in said(at)
    assert "lab sae measure sae-b" in said(at)
    for key in (*OURS, *(k.replace("_a_", "_b_") for k in OURS)):
        assert roles(chart(at, key)) <= {"label", "logit", "histogram"}
    assert values(role(chart(at, OURS[0]), "label")[0]["x"]) == pytest.approx([0.8, -0.8, 0.8])
    strips = html(at)
    assert "feature-examples" in strips and ">recurs<" in strips and ">not known<" in strips
    assert "<b>rain" not in html(page("features", features_a_feature="1")), "no markup out of texts"
    told = said(at)
    for numbers in (
        "sae-a-s1: feature 0, r = 0.95 [0.40, 0.99]; 0.20 by chance",
        "“stay <i>” (slot closing; +1 warmth), AUROC 0.98 [0.96, 0.99], 0.55 by chance",
        "sae-b, nearest: feature 2, r = 0.90 [0.30, 0.95]",
        "On at 4.00% [1.00%, 5.00%] of the tokens, in 20 texts",
    ):
        assert numbers in told
    assert {s.name for s in saved.qualities} == set(SAES)


def test_a_word_a_trait_and_a_persona_find_features(saved):
    at = page("features", features_find="word", features_word="tea")
    hits = next(d.value for d in at.dataframe if "why" in d.value.columns)
    assert list(hits["feature"]) == ["0 “tea”"] and "2 of 2 top examples" in hits["why"][0]
    assert at.selectbox(key="features_a_feature").value == "0"
    at.text_input(key="features_word").set_value("sea").run()
    assert at.selectbox(key="features_a_feature").value == "2", "what is asked anew is shown"
    at.text_input(key="features_word").set_value("xylophone").run()
    assert "No feature of xylophone here" in said(at) and not at.exception
    at = page("features", features_find="trait", features_trait="wit <u>")
    forest = role(chart(at, "features_a_by_label"), "label")[0]
    assert [m[0] for m in forest["customdata"]] == ["0", "1", "2"]
    assert list(forest["marker"]["symbol"]) == ["circle", "circle", "circle-open"]
    assert at.selectbox(key="features_a_feature").value == "0"
    again = page("features", **{**query(at), "features_b": "nothing"})
    assert again.selectbox(key="features_trait").value == "wit <u>"
    assert len(charts(again)) == 4, "one column, one dictionary"
    at.selectbox(key="features_find").set_value("persona").run()
    assert at.selectbox(key="features_persona").options == ["host"]


def test_clicks_choose_features_and_labels(saved, monkeypatch):
    from dashboards import feature_card_parts, feature_parts

    at = page("features", features_find="trait", features_trait="warmth")
    marks = role(chart(at, "features_a_by_label"), "label")[0]["customdata"]
    assert click(monkeypatch, marks[1], {"features_a_feature": 0}) == {"features_a_feature": "1"}
    marks = role(chart(at, OURS[0]), "label")[0]["customdata"]
    taken = click(monkeypatch, marks[2], feature_card_parts.LABEL_CLICK)
    assert taken == {"features_find": "persona", "features_trait": "host", "features_persona": "host"}
    state = {"list": {"selection": {"rows": [1]}}}
    monkeypatch.setattr(feature_parts.st, "session_state", state)
    feature_parts.take_row("list", "chosen", [7, 9])
    assert state["chosen"] == "9"


def test_the_button_leads_to_the_nearest_in_the_other_model(saved):
    at = page("features", features_find="all", features_a_feature="0")
    next(b for b in at.button if b.label == "Show feature 2 of sae\\-b").click().run()
    assert not at.exception
    assert at.selectbox(key="features_b_feature").value == str(MATCH[0])
    alone = page("features", features_a_feature="0", features_b="nothing")
    next(b for b in alone.button if b.label.startswith("Show feature 2")).click().run()
    assert alone.selectbox(key="features_b").value.endswith(SAES[1])
    assert alone.selectbox(key="features_b_feature").value == "2"


def test_a_feature_that_never_fires_is_said_to(saved):
    at = page("features", features_find="all", features_a_feature="3", features_b="nothing")
    assert "Never on in these texts" in said(at) and "cannot tell" in html(at)
    assert not charts(at)


def test_two_runs_stand_side_by_side(store):
    save_features(store, fake_features("features-one", SAES[:1]))
    save_features(store, fake_features("features-two", SAES[1:]))
    at = page("features", features_run="features-one", features_b="features-two sae-b")
    assert html(at).count("feature-examples") == 2
    assert "Both models under a scaffold" not in [s.value for s in at.subheader]
    assert "No other model was read beside it" in said(at)


def test_the_scatter_of_matched_features_leads_to_both_cards(saved, store, monkeypatch):
    assert "lab sae readout sae-a --other sae-b --twins features-fake" in said(page("features"))
    save_readout(store, READ)
    at = page("features")
    (dots,) = [
        t for t in role(chart(at, "features_scatter"), "pair") if t["meta"]["clear"] == "clear in both"
    ]
    assert values(dots["x"]) == pytest.approx([0.5]) and values(dots["y"]) == pytest.approx([0.4])
    keys = {"features_a_feature": 0, "features_b_feature": 1}
    assert click(monkeypatch, dots["customdata"][0], keys) == {
        "features_a_feature": "0",
        "features_b_feature": "2",
    }
    places = next(d.value for d in at.dataframe if "on, only here" in d.value.columns)
    assert places["on, common"].tolist() == [1, 1] and places["on, only here"].tolist() == [1, 0]


def test_a_damaged_run_is_told(saved, store):
    (store.root / saved.run / "cards.parquet").write_bytes(b"no table")
    assert "is damaged" in page("features").error[0].value


def test_the_page_loads_no_torch(saved):
    assert_no_torch("features", len(charts(page("features"))))


# ------------------------------------------------------------------ figures and tables


def test_the_scatter_holds_pairs_that_are_matched_and_tested():
    found, lost = feature_scatter.pairs(BOOK, READ, "poet")
    assert [(p.feature, p.match, p.clear, p.recurs) for p in found] == [
        (0, 2, "clear in both", "recurs"), (1, 1, "clear in the first", "does not recur")
    ]  # fmt: skip
    assert lost == 0 and found[0].x_low == pytest.approx(0.45) and found[0].n == 12
    fewer = replace(READ, features=READ.features[:3])
    assert feature_scatter.pairs(BOOK, fewer, READ.scaffolds[0]) == ([], 2)
    figure = feature_scatter.feature_scatter(BOOK, fewer, READ.scaffolds[0], DARK)
    assert "no feature is matched" in figure.to_json() and "friend &lt;u&gt;" in figure.layout.title.text
    whole = feature_scatter.feature_scatter(BOOK, READ, READ.scaffolds[0])
    note = next(a.text for a in whole.layout.annotations if a.name == "panel note").replace("<br>", " ")
    for part in ("Split: test; n = 12", "null: signs", "2 of 3 features", "q < .05"):
        assert part in note
    assert list(whole.layout.xaxis.range) == list(whole.layout.yaxis.range)
    assert len(feature_scatter.table(BOOK, READ, "poet")) == 2
    with pytest.raises(LabError, match="No scaffold 'foe'"):
        feature_scatter.pairs(BOOK, READ, "foe")
    with pytest.raises(LabError, match="No dictionary 'sae-b'"):
        feature_scatter.pairs(BOOK, replace(READ, saes=("sae-a", "other")), "poet")


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_figures_of_a_card_say_unit_n_split_and_null(theme):
    for make, parts in (
        (feature_cards.goes_with, ("Unit: point-biserial", "n = 40", "Null: labels", "&lt;of&gt;")),
        (feature_cards.token_bars, ("Unit: change of the logit", "±0.80", "(null)")),
        (feature_cards.activation_histogram, ("Unit: activation", "Split: texts held out", "No null")),
    ):
        figure = make(BOOK, SAES[0], 0, theme)
        note = next(a.text for a in figure.layout.annotations if a.name == "panel note").replace("<br>", " ")
        assert all(p in note for p in parts), note
        assert figure.layout.paper_bgcolor == theme.paper
        assert "Cannot tell" in make(BOOK, SAES[0], 3, theme).to_json()
        with pytest.raises(LabError, match="has no feature 99"):
            make(BOOK, SAES[0], 99, theme)
    bars = feature_cards.token_bars(BOOK, SAES[0], 0, theme)
    assert list(bars.data[0].x) == [2.0, 1.0, -0.5, -1.0]
    assert list(bars.layout.yaxis.ticktext) == [" up0", "⏎", " no", " &lt;down0&gt;"]


def test_a_note_comes_apart_from_its_figure_for_narrow_places():
    whole = feature_scatter.feature_scatter(BOOK, READ, "poet")
    copy, note = apart(whole)
    assert (
        note.startswith("Unit: ") and "questions' differences" in note and "<" not in note.replace("q <", "")
    )
    assert not copy.layout.annotations and whole.layout.annotations, "the figure itself stays whole"
    assert copy.layout.height < whole.layout.height and copy.layout.margin.b < whole.layout.margin.b
    assert copy.data == whole.data


def test_words_say_what_is_known_and_what_is_not():
    assert [words.stability(BOOK, SAES[0], k)[0] for k in range(4)] == [
        "recurs", "does not recur", "cannot tell", "cannot tell",
    ]  # fmt: skip
    assert "no second seed" in words.stability(BOOK, SAES[1], 0)[1]
    assert words.names(BOOK, SAES[0]) == {0: "0 “tea”", 1: "1 “rain”", 2: "2 “sea”", 3: "3"}
    chance = words.counterpart(words.twin_of(BOOK, SAES[0], 2, "model"))
    assert "no nearer than chance" in chance and "cannot tell" in words.counterpart(
        words.twin_of(BOOK, SAES[0], 3, "model")
    )
    assert words.choice_words(words.choice_of(BOOK, SAES[0], 1)) == ""
    assert len(feature_tables.histogram(BOOK, SAES[0], 0)) == 4
    assert feature_tables.tokens(BOOK, SAES[0], 0)["null"].eq(0.8).all()


def test_downloads_name_run_and_models(monkeypatch):
    found = given_away(monkeypatch, BOOK, "tokens", lambda: "figure", lambda: "table", feature="0")
    assert found[3]["run"] == BOOK.run and [m["name"] for m in found[3]["models"]] == ["a", "b"]
    one = given_away(monkeypatch, fake_decomposition(), "shares", lambda: "figure", lambda: "table")
    assert [m["name"] for m in one[3]["models"]] == ["a"]


# ------------------------------------------------------------------ inside Traits


def test_a_direction_is_taken_apart_under_its_trait(store, shelf):
    extracted = fake_traits()
    mine = replace(extracted, model=replace(extracted.model, fingerprint="a" * 64))
    store.save_traits(mine, lambda folder: None)
    at = page("traits", card_trait="warmth")
    assert f"lab sae decompose sae-a --runs {store.root}" in said(at)
    assert len(charts(at)) == 3
    book = fake_decomposition()
    settings = {**book.settings, "traits": ["warmth", "candour <b>"]}
    save_decomposition(store, replace(book, sae=SAES[0], model=identity("a", "a" * 64), settings=settings))
    at = page("traits", card_trait="warmth")
    assert "mean difference over extract replies at layer 3" in said(at)
    assert {"share", "null", "ceiling", "held out"} == roles(chart(at, "direction_shares"))
    assert len(role(chart(at, "direction_causal"), "steer")) == 1
    weights = role(chart(at, "direction_parts"), "weight")[0]
    assert values(weights["x"]) == [-0.7, 0.5]
    assert "lab sae features sae-a" in said(at), "no cards yet"
    save_features(store, BOOK)
    at = page("traits", card_trait="warmth", direction_feature="3")
    (link,) = [x.proto for x in at.get("page_link")]
    assert "features_a_feature=3" in link.query_string and "features_a=sae-a" in link.query_string
    other = replace(mine, run="extract-other", model=replace(mine.model, fingerprint="c" * 64, name="other"))
    store.save_traits(other, lambda folder: None)
    assert "No sparse dictionary of other is here" in said(page("traits", traits_run="extract-other"))


# ------------------------------------------------------------------ inside Compare


def comparison_of_both(run="whole"):
    found = fake_comparison(3, run=run)
    models = tuple(replace(m, fingerprint=n * 64) for m, n in zip(found.models, "ab", strict=True))
    settings = {**found.settings, "dtype": "float32", "seed": 0, "max_new_tokens": 40}
    return replace(found, models=models, trait_set="hearth", settings=settings)


def test_what_a_scaffold_switches_stands_below_its_replies(store, shelf, monkeypatch):
    from dashboards import related_features

    comparison = comparison_of_both()
    store.save_comparison(comparison, "a vs b")
    at = page(run="whole", scaffold="old-friend")
    told = said(at)
    assert (
        "lab sae readout sae-a --other sae-b --scaffold" in told
        and "lab sae features sae-a --other sae-b" in told
    )
    keys = [wordings_key(s) for s in comparison.scaffolds if s.name in SCAFFOLDS[:2]]
    names = [s.name for s in comparison.scaffolds][: len(keys)]
    read = fake_readout(scaffolds=tuple(names), wordings=keys)
    for wrong in ({"seed": 5}, {"trait_set": "chat"}, {"wordings": ["x", "y"]}):
        save_readout(store, replace(read, run="readout-wrong", settings={**read.settings, **wrong}))
        assert related_features.readout_of(comparison, names[0]) is None
    save_readout(store, read)
    save_features(store, BOOK)
    at = page(run="whole", scaffold=names[0])
    assert roles(chart(at, "switch_bars")) == {"effect", "place"}
    assert values(role(chart(at, "switch_bars"), "effect")[0]["x"]) == [0.5, 0.3]
    assert roles(chart(at, "switch_segments")) == {"fall", "cells", "clear"}
    assert role(chart(at, "features_scatter"), "pair")
    assert any("[user]" in t for t in chart(at, "switch_segments")["layout"]["yaxis"]["ticktext"])
    (link,) = [x.proto for x in at.get("page_link") if "Card of" in x.proto.label]
    assert "features_a_feature=0" in link.query_string
    marks = role(chart(at, "switch_bars"), "effect")[0]["customdata"]
    assert click(monkeypatch, marks[1], {"switch_feature": 0}) == {"switch_feature": "1"}


def test_without_dictionaries_training_is_offered(store, shelf):
    shelf.clear()
    store.save_comparison(comparison_of_both(), "a vs b")
    told = said(page(run="whole"))
    assert "No sparse dictionary of" in told and "lab sae train" in told


# ------------------------------------------------------------------ loaders


def test_every_kind_of_record_has_a_reader_that_is_there():
    from dashboards import loaders

    assert len(loaders.READERS) == len(set(loaders.READERS.values()))
    for name in loaders.READERS.values():
        assert isinstance(resolve_name(name), types.FunctionType), name
