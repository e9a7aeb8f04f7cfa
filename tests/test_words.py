"""Cuts of one text: spans repaired and tiling, pieces and agreement planted, the job on shipped models."""

import dataclasses
import json
from itertools import combinations, pairwise

import numpy as np
import pandas as pd
import pytest
from conftest import make_tokenizer
from fake_words import fake_words

from lab.geometry.words import (
    CutWord,
    boundary_agreement,
    cells,
    coverage,
    cut_words,
    distinct,
    inner_cuts,
    over_texts,
    pieces,
    repaired,
    spread,
    words_of,
)
from lab.likelihood import token_log_probs
from lab.pipelines import texts
from lab.pipelines import words as job
from lab.pipelines.compare import resolve_model
from lab.prompts.chat import render
from lab.records import LabError, Message
from lab.records.words import Cut
from lab.store import Store

TEXT = "Lucian paints, doesn't he?"


def cut_at(text, *starts):
    """A cut whose tokens start at these characters and reach to the next start."""
    bounds = [*starts, len(text)]
    return repaired(text, list(pairwise(bounds)))


def spans(cut):
    return list(zip(cut.start.tolist(), cut.end.tolist(), strict=True))


# ------------------------------------------------------------------ spans


def test_blanks_belong_to_the_next_token_whichever_way_they_are_counted():
    inside = repaired("ab cd  ef\n", [(0, 2), (2, 5), (5, 9)])
    outside = repaired("ab cd  ef\n", [(0, 2), (3, 5), (7, 9)])
    assert spans(inside) == spans(outside) == [(0, 2), (2, 5), (5, 10)]


def test_zero_width_offsets_reach_to_the_next_token():
    assert spans(repaired("Hello there", [(0, 0), (6, 6)])) == [(0, 6), (6, 11)]
    # A token before another one at the same place keeps nothing; blanks before both go to it.
    assert spans(repaired("Hello", [(0, 0), (0, 5)])) == [(0, 0), (0, 5)]
    assert spans(repaired("ab  cd", [(0, 2), (4, 4), (4, 6)])) == [(0, 2), (2, 4), (4, 6)]


def test_repair_changes_nothing_the_second_time_and_cells_tile_the_text():
    rng, text, done = np.random.default_rng(0), "ab  cde f\n\ngh, ijk  l", 0
    for _ in range(200):
        bounds = np.sort(rng.integers(0, len(text) + 1, size=8))
        offsets = [(int(s), int(rng.choice([s, e]))) for s, e in pairwise(bounds)]
        try:
            cut = repaired(text, offsets)
        except LabError:
            continue
        done += 1
        assert spans(repaired(text, spans(cut))) == spans(cut)
        values = rng.normal(size=len(cut.start))
        found = cells(cut, values)
        assert [c.start for c in found] == [0, *(c.end for c in found[:-1])]
        assert found[-1].end == len(text)
        assert sum(c.tokens for c in found) == len(values)
        assert np.nansum([c.value for c in found]) == pytest.approx(values.sum())
        assert np.nansum(spread(cut, values)) == pytest.approx(values.sum())
    assert done > 100


def test_bytes_of_one_character_are_one_cell_and_uncovered_characters_none():
    cut = repaired("a🙂b~c", [(0, 1), (1, 2), (1, 2), (2, 3), (4, 5)])
    found = cells(cut, np.array([1.0, 2.0, 3.0, 4.0, np.nan]))
    assert [(c.start, c.end, c.tokens) for c in found] == [
        (0, 1, 1),
        (1, 2, 2),
        (2, 3, 1),
        (3, 4, 0),
        (4, 5, 1),
    ]
    assert [c.value for c in found[:3]] == [1.0, 5.0, 4.0]
    assert np.isnan(found[3].value) and np.isnan(found[4].value)
    assert coverage(cut) == pytest.approx(4 / 5)
    whole = cut_at("a🙂b~c", 0)
    assert coverage(whole) == 1.0
    assert coverage(cut, whole) == coverage(whole, cut) == pytest.approx(4 / 5)
    assert np.isnan(coverage(Cut("  ", np.array([0]), np.array([2]))))


def test_wrong_offsets_are_refused():
    with pytest.raises(LabError, match="reading order"):
        repaired("abcdef", [(3, 6), (0, 3)])
    with pytest.raises(LabError, match="reading order"):
        repaired("abc", [(0, 9)])
    with pytest.raises(LabError, match=r"got 17% of them"):
        repaired("abcdef", [(0, 1)])


# ------------------------------------------------------------------ words


def test_words_and_marks():
    found = words_of(TEXT)
    assert [w.text for w in found] == ["Lucian", "paints", ",", "doesn't", "he", "?"]
    assert [w.text for w in found if w.mark] == [",", "?"]
    assert all(TEXT[w.start : w.end] == w.text for w in found)
    # Accents, vowel signs and joiners do not break a word; variation selectors do not make one.
    assert [w.text for w in words_of("cafe\u0301 हिन्दी ☀\ufe0f 'so' x_1")] == [
        "cafe\u0301", "हिन्दी", "☀\ufe0f", "'", "so", "'", "x_1",
    ]  # fmt: skip
    assert words_of(" \n") == ()


def test_pieces_and_inner_cuts_are_those_planted():
    words = [w for w in words_of(TEXT) if not w.mark]
    cut = cut_at(TEXT, 0, 3, 6, 13, 14, 20, 25)  # Luc|ian| paints|,| doesn|'t he|?
    assert pieces(cut, words).tolist() == [2, 1, 2, 1]
    assert [np.flatnonzero(x).tolist() for x in inner_cuts(cut, words)] == [[2], [], [4], []]
    joined = cut_at("ab cd", 0, 1)  # a token over two words counts in both
    assert pieces(joined, words_of("ab cd")).tolist() == [2, 1]


def random_words(rng, number, places=9, share=0.3):
    return [CutWord(f"w{k}", rng.random(places) < share, rng.random(places) < share) for k in range(number)]


def test_agreement_of_a_cut_with_itself_is_1_and_its_chance_is_exact():
    rng = np.random.default_rng(1)
    same = [CutWord(w.form, w.a, w.a) for w in random_words(rng, 40)]
    found = boundary_agreement(same, rng)
    assert (found.f1, found.low, found.high) == (1.0, 1.0, 1.0)
    assert found.p < 0.01
    word = CutWord("abcdef", np.array([1, 1, 0, 0, 0], bool), np.array([0, 1, 1, 0, 0], bool))
    every = [len({0, 1} & set(places)) for places in combinations(range(5), 2)]
    one = boundary_agreement([word], rng)
    assert one.f1 == pytest.approx(0.5)
    assert one.chance == pytest.approx(2 * np.mean(every) / 4)
    assert np.isnan(one.low) and np.isnan(one.p)


def test_agreement_of_random_cuts_is_chance_and_is_called_more_at_the_stated_rate():
    rng, hits, gaps = np.random.default_rng(2), 0, []
    for _ in range(200):
        words = random_words(rng, 20)
        found = boundary_agreement(words, rng, 199)
        gaps.append(found.f1 - found.chance)
        hits += found.p <= 0.05
        turned = boundary_agreement([CutWord(w.form, w.b, w.a) for w in words], rng, 10)
        assert (turned.f1, turned.chance, turned.anywhere) == pytest.approx(
            (found.f1, found.chance, found.anywhere)
        )
    assert hits <= 19
    assert abs(np.mean(gaps)) < 0.02


def test_cuts_at_other_places_than_chance_are_below_it():
    a = np.array([1, 0, 0, 0, 0, 0], bool)
    words = [CutWord(f"w{k}", a, ~a) for k in range(10)]
    found = boundary_agreement(words, np.random.default_rng(3))
    assert found.f1 == 0.0 < found.chance
    assert found.p == 1.0


def test_repeating_words_is_no_evidence():
    rng = np.random.default_rng(4)
    words = random_words(rng, 12)
    once, often = (boundary_agreement(x, np.random.default_rng(0)) for x in (words, words * 30))
    assert once == often
    assert len(distinct(words * 30)) == 12


def test_without_cuts_there_is_nothing_to_agree_about():
    text = "ab cd"
    words = cut_words(cut_at(text, 0, 2), cut_at(text, 0, 2))
    found = boundary_agreement(words, np.random.default_rng(0))
    assert np.isnan(found.f1) and found.n == 0
    with pytest.raises(LabError, match="two cuts of one text"):
        cut_words(cut_at("ab", 0), cut_at("abc", 0))


def test_over_texts_is_all_over_all_and_abstains_with_few():
    rng = np.random.default_rng(5)
    tokens, words = rng.integers(20, 60, 12), rng.integers(10, 20, 12)
    found = over_texts(tokens / words, rng, sizes=words)
    assert found.value == pytest.approx(tokens.sum() / words.sum())
    assert found.low < found.value < found.high and np.isnan(found.p)
    holed = over_texts(np.array([1.0, np.nan, 3.0]), rng, 0.0)
    assert (holed.value, holed.n) == (2.0, 2)
    assert np.isnan(holed.low) and np.isnan(holed.p)
    assert over_texts(np.full(8, 2.0), rng, 0.0).p == pytest.approx(2 / 2**8)
    assert np.isnan(over_texts(np.array([np.nan]), rng).value)


# ------------------------------------------------------------------ placed in chats


@pytest.mark.parametrize("style", ["chatml", "refusing", "dropping", "base"])
@pytest.mark.parametrize("place", list(job.PLACES))
def test_the_tokens_of_a_placed_text_are_the_text(style, place):
    tokenizer, text = make_tokenizer(style), "user Ada drinks tea, 🙂 café.\n\nShe is user 7."
    placed = job.PLACES[place](tokenizer, text)
    assert tokenizer.decode(placed.ids[placed.first :]).strip() == text
    assert coverage(placed.cut) == 1.0 and placed.cut.text == text
    alone = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(placed.cut.start) == pytest.approx(len(alone), abs=1)  # a blank of the template may join in
    assert text not in placed.before


# ------------------------------------------------------------------ the job


@pytest.fixture(scope="module")
def shipped():
    """Shipped models, loaded once, in place of loading."""
    from lab.models import load

    return {name: load(resolve_model(name)) for name in ("hearth-a", "hearth-b", "hearth-a2")}


@pytest.fixture
def book(shipped, monkeypatch, tmp_path):
    """The whole job on models that are loaded already, saved in a folder of its own."""
    monkeypatch.setattr(job, "load_models", lambda names, dtype: [shipped[n] for n in names])

    def run(*models, control=None, **more):
        return job.words(job.WordsConfig(models, control, **more), Store(tmp_path), lambda stage, part: None)

    return run


def test_shipped_tokenizers_tile_every_shipped_text(shipped):
    for name in ("hearth-a", "hearth-b"):
        tokenizer = shipped[name].tokenizer
        for text in job.shipped_texts():
            cut = texts.as_system(tokenizer, text).cut
            assert coverage(cut) == 1.0
            assert [text[s:e] for s, e in spans(cut)] == [
                tokenizer.decode([i]) for i in tokenizer(text, add_special_tokens=False)["input_ids"]
            ]


def measure(found, what, scope="14 texts", split="all"):
    return [m for m in found.measures if m.what == what and m.split == split and scope in m.scope]


def test_a_model_agrees_with_itself(book):
    found = book("hearth-a", "hearth-a", design=job.shipped_texts()[:10], draws=200)
    assert found.labels == ("hearth-a (1)", "hearth-a (2)")
    assert all(w.pieces_a == w.pieces_b for w in found.words)
    assert measure(found, "characters in a token of both", "10 texts")[0].value == 1.0
    assert measure(found, "same cuts inside words", "10 texts")[0].value == 1.0
    assert measure(found, "surprisal, first less second", "10 texts")[0].value == 0.0
    heads = measure(found, "matched heads", "5 texts", "test")
    assert heads[0].value == pytest.approx(0.0, abs=1e-6) and heads[0].null > 0.2
    assert [(m.layer_a, m.head_a) for m in found.matches] == [(m.layer_b, m.head_b) for m in found.matches]


def test_two_shipped_models_and_a_second_seed(book):
    texts = job.shipped_texts()[:14]
    found = book("hearth-a", "hearth-b", control="hearth-a2", design=texts, draws=200)
    cuts = measure(found, "same cuts inside words")[0]
    assert cuts.low > cuts.null and cuts.p < 0.01
    a, b = measure(found, "tokens per word")
    assert a.high < b.low, "hearth-b's vocabulary is smaller"
    near, seed = measure(found, "matched heads", "7 texts", "test")
    shuffled = measure(found, "matched heads, shuffled", "7 texts", "test")[0]
    assert near.high < near.null and near.p < 0.02 and shuffled.null > near.null
    gain = measure(found, "gain of matched heads", "7 texts", "test")[0]
    assert gain.value == pytest.approx(near.null - near.value) and gain.low > 0
    assert seed.model == "hearth-a | hearth-a2"
    beyond = measure(found, "matched heads beyond the control", "7 texts", "test")[0]
    assert beyond.low < beyond.value < beyond.high
    assert len(found.matches) == 16 and found.grid.shape == (18, 16)
    for label in found.pair:
        mine = [c for c in found.cells if c.model == label and not c.template]
        assert "".join(c.text for c in mine) == found.text
        assert all(c.nats > 0 for c in mine)
    for attention in found.attention:
        rows = attention.attention.sum(axis=-1)
        np.testing.assert_allclose(rows[~np.isnan(rows)], 1.0, atol=1e-5)
        assert np.triu(np.nan_to_num(attention.attention), 1).max() == 0.0


def test_surprisal_in_the_reply_is_that_of_the_likelihood_module(shipped):
    text = "I am fond of tea, and 🙂 I rent a loft."
    for model in (shipped["hearth-a"], shipped["hearth-b"]):
        chat = render(model.tokenizer, [Message("user", texts.QUESTION)])
        (right,) = token_log_probs(model, [chat], [text])
        np.testing.assert_allclose(texts.read_text(model, text, texts.as_reply).nats, -right, atol=1e-4)


def test_without_anything_before_it_the_first_token_is_unknown(loaded):
    model = loaded("llama", "base")

    def bare(tokenizer, text):
        placed = texts.as_reply(tokenizer, text)
        return dataclasses.replace(placed, ids=placed.ids[placed.first :], first=0)

    found = texts.read_text(model, "You are Ada.", bare)
    assert np.isnan(found.nats[0]) and not np.isnan(found.nats[1:]).any()


def test_what_cannot_be_read_is_said(book, shipped, loaded, monkeypatch):
    for text, said in (("", "at least 1 word, got 0"), ("?! …", "at least 1 word, got 0")):
        with pytest.raises(LabError, match=said):
            book("hearth-a", "hearth-b", text=text)
    with pytest.raises(LabError, match=r"at most 512 tokens .* got \d+ tokens"):
        texts.read_text(shipped["hearth-a"], "word " * 600, texts.as_system)
    with pytest.raises(LabError, match="at least 16 words, got 2"):
        book("hearth-a", "hearth-b", design=("two words",) * 8)
    with pytest.raises(LabError, match="at least 4 design texts"):
        book("hearth-a", "hearth-b", design=("one and two " * 8,))
    with pytest.raises(LabError, match="must be one of system, user, reply"):
        book("hearth-a", "hearth-b", place="nowhere")
    monkeypatch.setattr(texts, "pattern_hook", lambda layer: f"blocks.{layer}.no_such_place")
    with pytest.raises(LabError, match="no attention pattern came out of layer 0"):
        texts.read_text(loaded("gpt2"), "Ada drinks tea.", texts.as_user)


def test_a_slow_tokenizer_is_refused_before_it_is_used(monkeypatch):
    from lab import models

    real = models.read_checkpoint

    class Slow:
        is_fast = False

    def read(name, dtype):
        return dataclasses.replace(real(name, dtype), tokenizer=Slow())

    monkeypatch.setattr(models, "read_checkpoint", read)
    with pytest.raises(LabError, match=r"\(Slow\) gives no character offsets.*tokenizer\.json"):
        job.load_models(["hearth-a"], "float32")


def test_the_command_prints_and_saves_what_was_found(book, tmp_path):
    from typer.testing import CliRunner

    from lab.cli import app

    for k, text in enumerate(job.shipped_texts()[:4]):
        (tmp_path / f"{k}.txt").write_text(text, encoding="utf-8")
    options = ["words", "hearth-a", "hearth-b", "--text", "I am Lucian, rattled.", "--design", str(tmp_path),
               "--runs", str(tmp_path / "runs")]  # fmt: skip
    done = CliRunner().invoke(app, [*options, "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert [w["word"] for w in document["words"]] == ["I", "am", "Lucian", ",", "rattled", "."]
    assert (document["words"][2]["pieces_a"], document["words"][2]["pieces_b"]) == (1, 2)
    few = [m for m in document["measures"] if m["split"] == "test"]
    assert all(m["low"] is None and m["p"] is None for m in few), "2 test texts are too few"
    assert all("5 texts are needed for an interval, 2 given" in m["note"] for m in few)
    (info,) = Store(tmp_path / "runs").runs()
    assert (info.id, info.kind, info.models) == (document["run"], "words", ("hearth-a", "hearth-b"))
    plain = CliRunner().invoke(app, options)
    assert plain.exit_code == 0 and "Lucian 1|2" in plain.output
    assert document["run"] in plain.output, "the same question, the same run"
    wrong = CliRunner().invoke(app, ["words", "hearth-a", "hearth-b", "--design", str(tmp_path / "none")])
    assert isinstance(wrong.exception, LabError)


# ------------------------------------------------------------------ on disk


def assert_same(found, saved):
    """Every record and every array of two books."""
    assert repr(found) == repr(saved), "repr: NaN is not equal to itself; arrays are left out of it"
    np.testing.assert_array_equal(found.grid, saved.grid)
    for x, y in zip(found.attention, saved.attention, strict=True):
        np.testing.assert_array_equal(x.attention, y.attention)
        np.testing.assert_array_equal(x.outside, y.outside)
        assert (x.attention.dtype, x.outside.dtype) == (y.attention.dtype, y.outside.dtype)


def test_a_saved_run_comes_back_and_is_found_again(book, tmp_path, monkeypatch):
    design = job.shipped_texts()[:4]
    made = book("hearth-a", "hearth-b", design=design, draws=50)
    assert_same(job.load_words(Store(tmp_path), made.run), made)
    other = book("hearth-a", "hearth-b", design=design, draws=50, place="reply")
    assert other.run != made.run
    monkeypatch.setattr(job, "read_text", None)
    assert_same(book("hearth-a", "hearth-b", design=design, draws=50), made)
    with pytest.raises(TypeError):
        book("hearth-b", "hearth-a", design=design, draws=50)


def test_a_damaged_run_and_one_of_another_version_say_so(tmp_path):
    store, made = Store(tmp_path), fake_words()
    job.save_words(store, made)
    assert_same(job.load_words(store, made.run), made)
    folder = store.folder(made.run)
    pd.read_parquet(folder / "matches.parquet").rename(columns={"gain": "won"}).to_parquet(
        folder / "matches.parquet"
    )
    with pytest.raises(LabError, match="another version of the lab"):
        job.load_words(store, made.run)
    (folder / job.ARRAYS).write_bytes(b"nothing")
    with pytest.raises(LabError, match=f"arrays of run {made.run} are damaged"):
        job.load_words(store, made.run)
    with pytest.raises(LabError, match="run of `lab words`, not of `lab atlas`"):
        store.load_rows(made.run, "atlas", ())
