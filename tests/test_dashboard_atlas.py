"""The page Atlas, without a browser."""

from dataclasses import replace

from fake_atlas import LABELS, MEASURE, fake_atlas
from pages import charts, click, page, role

from lab.pipelines.atlas import load_atlas, save_atlas


def test_without_a_run_the_page_says_how_to_make_one(store):
    at = page("atlas")
    assert "No atlas" in at.info[0].value and "lab atlas" in at.code[0].value


def test_what_is_saved_comes_back_as_it_was(store):
    book = fake_atlas()
    save_atlas(store, book)
    again = load_atlas(store, book.run)
    assert again.similarities == book.similarities and again.maps == book.maps and again.scores == book.scores
    assert again.concept_set == book.concept_set and again.labels == LABELS
    assert again.neighbours == book.neighbours and again.concepts == book.concepts


def test_the_page_shows_a_concept_in_both_models_and_all_of_them(store):
    save_atlas(store, fake_atlas())
    at = page("atlas", concept="nurse", atlas_stage="embedding")
    assert (
        at.selectbox(key="concept").value == "nurse" and at.selectbox(key="atlas_stage").value == "embedding"
    )
    shown = charts(at)
    assert [c["layout"]["title"]["text"][:12] for c in shown] == [
        "Who stands n",
        "Of the 3 nea",
        "Which concep",
        "How far down",
    ]
    assert "<b>nurse</b>" in shown[0]["layout"]["title"]["text"]
    captions = " ".join(c.value for c in at.caption)
    assert "7 of 8 line up both ways" in captions and "Not, the farthest first: grief" in captions
    assert "2 in b" in captions  # tokens of "nurse"
    frames = {len(d.value) for d in at.dataframe}
    assert {2, 6, 8, 12} <= frames  # its scores, similarities, its sentences, maps
    assert not any("<i>" in c.value for c in at.caption)
    at.selectbox(key="concept").set_value("love <b>").run()
    assert not at.exception
    assert "<b>love &lt;b&gt;</b>" in charts(at)[0]["layout"]["title"]["text"]
    at.selectbox(key="atlas_source").set_value("b").run()
    assert "<b>b</b>" in charts(at)[2]["layout"]["title"]["text"]
    at.selectbox(key="atlas_scope").set_value("all").run()
    assert not at.exception
    assert at.selectbox(key="atlas_measure").value == MEASURE


def test_frames_of_their_own_are_warned_of(store):
    book = fake_atlas()
    one, two = book.concept_set.categories
    own = replace(two, frames=tuple(f"Other {f}" for f in two.frames))
    save_atlas(store, replace(book, concept_set=replace(book.concept_set, categories=(one, own))))
    at = page("atlas", atlas_scope="all")
    assert any("sentences of their own" in c.value for c in at.caption)


def test_a_click_on_a_concept_chooses_it(store, monkeypatch):
    save_atlas(store, fake_atlas())
    near, bars, strip, depth = charts(page("atlas", concept="nurse"))
    (mark,) = [c for c in role(near, "neighbours")[1]["customdata"] if c[0] == "joy"]
    assert click(monkeypatch, mark, {"concept": 0}) == {"concept": "joy"}
    (mark,) = [c for c in role(strip, "far")[0]["customdata"] if c[0] == "grief"]
    assert click(monkeypatch, mark, {"concept": 0}) == {"concept": "grief"}
    category = {c.concept: c.category for c in fake_atlas().concepts}
    for found in (role(strip, "ceiling"), role(strip, "null")):
        firsts = [c[0] for c in found[0]["customdata"]]
        assert [category[c] for c in firsts] == list(dict.fromkeys(category.values())), "of each category one"
    for name in ("shared", "chance", "null"):
        (found,) = role(bars, name)
        assert {c[0] for c in found["customdata"]} <= set(category)
    stages = [c[3] for c in role(depth, "value")[0]["customdata"]]
    assert stages[0] == "embedding" and set(stages) <= {"embedding", "first layer", "chosen layers"}
