"""Feature cards: planted features come back with their places, labels and twins; nothing comes out of noise."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats
from scipy.sparse import csr_array
from test_feature_readout import save_sae
from test_features_stream import json_lines, numbered
from typer.testing import CliRunner

from lab.features.activity import activity, spell
from lab.features.corpora import Sample
from lab.features.load import load_sae
from lab.features.stream import Tokens, states, tokens_of
from lab.features.unembedding import norm_slope, promoted, random_rows
from lab.geometry.feature_auroc import auroc_band, aurocs, halved, ranked, search
from lab.geometry.feature_match import (
    best,
    cosine_null,
    match,
    nearest_rows,
    other_texts,
    shuffled_rows,
    token_units,
    word_units,
)
from lab.geometry.features import (
    AFTER,
    BEFORE,
    associations,
    examples,
    firing,
    permuted,
    pooled_p,
    text_means,
)
from lab.geometry.words import words_of
from lab.pipelines.feature_labels import Labels, run_texts
from lab.pipelines.feature_runs import latest, load_features
from lab.pipelines.feature_runs import search as look
from lab.pipelines.feature_sides import label_rows
from lab.pipelines.features import FeaturesConfig, features
from lab.prompts.chat import render
from lab.records import LabError, Message, Site
from lab.records.cards import PoleReply, TraitBook, TraitCard
from lab.records.feature_cards import TABLES, Activity, FeatureExample, peak_word
from lab.stats import auroc, cluster_weights

NAN = float("nan")
WORDS = ("tea", "rain", "Paris", "sun", "goose", "lamp", "river", "bread")


def table(texts, cuts, values, reply=None):
    """An Activity of texts cut at given (start, end) spans, with activations [token, feature]."""
    text = np.repeat(np.arange(len(texts)), [len(c) for c in cuts])
    spans = np.array([span for cut in cuts for span in cut]).reshape(-1, 2)
    place = np.concatenate([np.arange(len(c)) for c in cuts])
    said = np.zeros(len(text), bool) if reply is None else np.asarray(reply, bool)
    return Activity(
        csr_array(np.asarray(values, np.float32)), text, place, said, spans[:, 0], spans[:, 1], tuple(texts)
    )


def whole_words(text):
    return [(w.start, w.end) for w in words_of(text)]


def pieces(text, size=2):
    """Each word in pieces of `size` characters: another tokenizer."""
    return [(k, min(k + size, w.end)) for w in words_of(text) for k in range(w.start, w.end, size)]


def talk(rng, n, words=30):
    return [" ".join(rng.choice(WORDS, size=words)) for _ in range(n)]


def sparse(rng, shape, density=0.1):
    return np.where(rng.random(shape) < density, rng.gamma(2.0, size=shape), 0.0).astype(np.float32)


# ------------------------------------------------------------------ spelling and reading


def metaspace():
    """A tokenizer that drops the blank in front of a text, as Llama 2's does."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(models.BPE(unk_token="<unk>"))
    made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=120, special_tokens=["<unk>"], show_progress=False)
    made.train_from_iterator(["tea and rain in Paris, it is so"] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


def whole_row(ids):
    return Tokens(np.array(ids, np.int64), np.ones(len(ids), bool), np.zeros(len(ids), bool))


def test_tokens_are_spelled_as_they_were_said(loaded):
    tokenizer = loaded("llama").tokenizer
    said = ("You are Adá 🙂, a teacher.", "Who  are you?", "I am\nAda — 日本.", "So?", "Yes 🙂🙂")
    roles = ("system", "user", "assistant", "user", "assistant")
    sample = Sample(messages=tuple(map(Message, roles, said)))
    (row,) = tokens_of(tokenizer, sample, 500)
    found = spell(tokenizer, row)
    assert found.text == "\n".join(said)
    assert len(found.start) == row.counts.sum()
    assert (found.start <= found.end).all() and (np.diff(found.end) >= 0).all()
    inside = [found.text[s:e] for s, e in zip(found.start, found.end, strict=True)]
    assert "".join(inside) == "".join(said), "spans tile the messages"
    assert "" in inside, "a token that begins a character which others end has no width"
    spoken = row.reply[row.counts]
    assert "".join(np.array(inside)[spoken]) == said[2] + said[4]


def test_a_tokenizer_that_hides_the_first_blank_is_spelled_too():
    tokenizer = metaspace()
    ids = tokenizer("tea and rain in Paris", add_special_tokens=False)["input_ids"]
    found = spell(tokenizer, whole_row(ids))
    assert found.text == tokenizer.decode(ids) and found.start[0] == 0 and found.end[-1] == len(found.text)
    assert (found.start[1:] == found.end[:-1]).all()
    assert len(spell(tokenizer, Tokens(*(np.zeros(0, t) for t in (np.int64, bool, bool)))).text) == 0


@pytest.fixture(scope="module")
def small(loaded, tmp_path_factory):
    """A tiny model with a dictionary whose feature j is dimension j above 0."""
    model = loaded("llama")
    return model, load_sae(str(save_sae(tmp_path_factory.mktemp("sae") / "eye", model, np.eye(32))), model)


def test_the_table_holds_every_counted_token_in_order(small):
    model, sae = small
    samples = [Sample(text=t) for t in (*numbered(6), "Paris.", "")]
    rows = [row for s in samples for row in tokens_of(model.tokenizer, s, 200)]
    found = activity(sae, model, rows)
    assert found.features == 32 and len(found.texts) == len(rows) == 7
    for i, state in states(model, Site(1), rows):
        mine = np.flatnonzero(found.text == i)
        np.testing.assert_array_equal(found.position[mine], np.flatnonzero(rows[i].counts))
        expected = np.maximum(state.cpu().numpy()[rows[i].counts], 0)
        np.testing.assert_allclose(found.values[mine].toarray(), expected, atol=1e-5)
        assert "".join(found.piece(int(t)) for t in mine) == samples[i].text
    assert found.of(np.array([2])).texts == found.texts and set(found.of(np.array([2])).text) == {2}
    with pytest.raises(LabError, match="fewer texts"):
        activity(sae, model, rows, most=100)
    with pytest.raises(LabError, match="at least 0"):
        table(["tea"], [[(0, 3)]], [[-1.0]])
    with pytest.raises(LabError, match="one entry per token"):
        replace(found, values=found.values[1:])


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_promoted_tokens_are_what_a_small_push_raises(loaded, family):
    model = loaded(family)
    rng = np.random.default_rng(0)
    (row,) = tokens_of(model.tokenizer, Sample(text="the capital of France is Paris"), 40)
    one = replace(row, counts=np.arange(len(row.ids)) == len(row.ids) - 1)
    width = model.identity.d_model
    decoder = rng.normal(size=(4, width)).astype(np.float32)
    found = promoted(model, norm_slope(model, [one], rng), decoder, 3)
    ((_, state),) = states(model, Site(model.identity.layers - 1), [one])
    norm, head = model.bridge.ln_final.original_component, model.network.get_output_embeddings().weight

    def logits(h):
        return norm(h[None])[0].double() @ head.double().T

    for k, push in enumerate(torch.from_numpy(decoder)):
        with torch.no_grad():
            step = 1e-2
            slope = (logits(state[-1] + step * push) - logits(state[-1] - step * push)) / (2 * step)
        slope = (slope - slope[: len(model.tokenizer)].mean())[: len(model.tokenizer)].numpy()
        np.testing.assert_allclose(found.up_logits[k], np.sort(slope)[::-1][:3], rtol=0.02, atol=1e-3)
        np.testing.assert_allclose(found.down_logits[k], np.sort(slope)[:3], rtol=0.02, atol=1e-3)
        np.testing.assert_allclose(slope[found.up[k]], found.up_logits[k], rtol=0.02, atol=1e-3)


def test_random_rows_have_the_spread_of_the_decoder():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(300, 12)) * np.array([20.0, *[1.0] * 11])
    found = random_rows(rows, rng, 2000)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-5)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert np.mean(unit[:, 0] ** 2) > 0.7, "most of it along the massive dimension"
    assert np.mean(found[:, 0] ** 2) == pytest.approx(np.mean(unit[:, 0] ** 2), abs=0.25)


# ------------------------------------------------------------------ where features fire


def planted_fires(rng):
    texts = talk(rng, 12)
    cuts = [whole_words(t) for t in texts]
    said = np.array([t[s:e] for t, cut in zip(texts, cuts, strict=True) for s, e in cut])
    values = np.zeros((len(said), 3))
    values[said == "goose", 0] = rng.uniform(1, 5, size=(said == "goose").sum())
    values[7, 1] = 2.0
    return table(texts, cuts, values), said


def test_examples_show_the_strongest_and_the_quantiles_one_per_text():
    found, _ = planted_fires(np.random.default_rng(2))
    rows = list(examples(found, "d"))
    goose = [r for r in rows if r.feature == 0]
    values = found.values.toarray()[:, 0]
    assert {r.feature for r in rows} == {0, 1}, "a feature that never fires has no example"
    assert all(r.tokens[r.at] == "goose" and r.values[r.at] == pytest.approx(r.activation) for r in goose)
    top = [r for r in goose if r.quantile == "top"]
    best_per_text = sorted((values[found.text == t].max() for t in range(12)), reverse=True)
    np.testing.assert_allclose([r.activation for r in top], best_per_text[: len(top)], rtol=1e-6)
    assert len(top) == 6 and len({r.text for r in top}) == 6
    on = values[values > 0]
    for quantile, q in (("90 %", 0.9), ("50 %", 0.5)):
        first = next(r for r in goose if r.quantile == quantile)
        assert abs(first.activation - np.quantile(on, q)) == pytest.approx(
            np.abs(on - np.quantile(on, q)).min()
        )
    for r in goose:
        assert len(r.tokens) == len(r.values) <= BEFORE + 1 + AFTER
        assert all((v > 0) == (t == "goose") for t, v in zip(r.tokens, r.values, strict=True))
        low = r.position - r.at
        words = [w.text for w in words_of(found.texts[r.text])]
        assert list(r.tokens) == words[low : low + len(r.tokens)], "one text, in order"
    assert sum(r.feature == 1 for r in rows) == 3, "a single place is shown per quantile"


def test_firing_counts_tokens_and_resamples_texts():
    rng = np.random.default_rng(3)
    found, said = planted_fires(rng)
    fires = firing(found, rng)
    assert fires.fires[0] == pytest.approx((said == "goose").mean())
    assert fires.low[0] < fires.fires[0] < fires.high[0]
    values = found.values.toarray()
    assert fires.mean[0] == pytest.approx(values[values[:, 0] > 0, 0].mean(), rel=1e-6)
    np.testing.assert_array_equal(
        fires.histogram[0], np.histogram(values[values[:, 0] > 0, 0], 20, (0, values[:, 0].max()))[0]
    )
    np.testing.assert_array_equal(fires.texts, [len(set(found.text[said == "goose"])), 1, 0])
    assert np.isnan(fires.mean[2]) and np.isnan(fires.highest[2]) and fires.fires[2] == 0
    few = firing(found.of(np.arange(4)), rng)
    assert np.isnan(few.low).all() and not np.isnan(few.fires).any(), "four texts give no interval"


def test_text_means_are_over_replies_where_there_are_some():
    texts = ["tea rain", "sun sun", ""]
    cuts = [whole_words(t) for t in texts]
    found = table(texts, cuts, [[4.0], [2.0], [3.0], [5.0]], reply=[False, True, False, False])
    np.testing.assert_allclose(text_means(found), [[2.0], [4.0], [NAN]])


# ------------------------------------------------------------------ with what they go


def labelled(rng, texts=120, features=260):
    """Sparse text means of which feature 0 follows label 0, and 1 the rare label 1."""
    means = sparse(rng, (texts, features), 0.15).astype(np.float64)
    trait = rng.normal(size=texts)
    persona = (np.arange(texts) % 10 == 0).astype(float)
    means[:, 0] = np.maximum(trait + 0.5 * rng.normal(size=texts), 0)
    means[:, 1] = np.where(persona > 0, rng.uniform(1, 2, size=texts), sparse(rng, texts, 0.05))
    return means, np.stack([trait, persona])


def test_a_planted_label_is_found_and_the_rest_is_not():
    rng = np.random.default_rng(4)
    means, values = labelled(rng)
    alone, together = np.arange(120), np.zeros(120, int)
    found = associations(means, values, alone, together, rng)
    for label in (0, 1):
        expected = scipy_stats.pearsonr(means[:, label], values[label]).statistic
        assert found.r[label, label] == pytest.approx(expected) and expected > 0.6
        assert found.low[label, label] < expected < found.high[label, label]
        assert found.q[label, label] < 0.05
    noise = found.q[:, 2:]
    assert np.mean(noise < 0.05) < 0.01
    assert found.r[1, 1] == pytest.approx(scipy_stats.pointbiserialr(values[1], means[:, 1]).statistic)
    np.testing.assert_array_equal(found.n, [120, 120])


def test_p_keeps_its_error_rate_with_rare_features_and_rare_labels():
    """A t-test of the same correlations does not: a rare feature that meets a rare label is called certain."""
    rng, p, t = np.random.default_rng(5), [], []
    for _ in range(6):
        means = sparse(rng, (100, 200), 0.07).astype(np.float64)
        label = rng.permutation(100) < 7
        found = associations(means, label[None].astype(float), np.arange(100), np.zeros(100, int), rng, 200)
        known = ~np.isnan(found.p[0])
        p += found.p[0, known].tolist()
        t += [scipy_stats.pearsonr(m, label).pvalue for m in means[:, known].T]
    assert 0.03 < np.mean(np.array(p) < 0.05) < 0.07
    assert np.mean(np.array(p) < 0.002) < 0.005
    assert np.mean(np.array(t) < 0.002) > 2 * np.mean(np.array(p) < 0.002)


def test_labels_are_permuted_inside_questions_where_texts_share_them():
    rng = np.random.default_rng(6)
    strata = np.repeat(np.arange(30), 4)
    order = permuted(strata, rng)
    np.testing.assert_array_equal(strata[order], strata)
    assert sorted(order) == list(range(120)) and (order != np.arange(120)).mean() > 0.5
    # A feature of the question alone has nothing to do with a label that is balanced inside questions.
    means = np.repeat(rng.gamma(1.0, size=(30, 150)), 4, axis=0) + 0.01 * rng.random((120, 150))
    label = np.tile([0.0, 0.0, 1.0, 1.0], 30)[None]
    means[:, 0] += label[0]
    found = associations(means, label, strata, strata, rng, 200)
    assert found.q[0, 0] < 0.05 and np.mean(found.q[0, 1:] < 0.05) < 0.03


def test_too_little_is_not_told():
    rng = np.random.default_rng(7)
    means, values = labelled(rng)
    means[:, 5] = 0
    means[:4, 6], means[4:, 6] = 1.0, 0.0
    values[0, 30:] = NAN
    rare = np.where(np.arange(120) < 4, 1.0, 0.0)
    values = np.vstack([values, rare, np.ones(120)])
    found = associations(means, values, np.arange(120), np.zeros(120, int), rng)
    assert np.isnan(found.r[0, [5, 6]]).all() and not np.isnan(found.r[0, 0])
    assert np.isnan(found.r[2:]).all(), "a label of four texts, and one that does not vary"
    np.testing.assert_array_equal(found.n, [30, 120, 120, 120])
    few = associations(means, values[:1], np.repeat(np.arange(4), 30), np.zeros(120, int), rng)
    assert np.isnan(few.r).all(), "four questions"
    kept = list(label_rows("d", means, Labels(("trait", "persona"), ("warmth", "Ada"), values[:2], np.arange(120),
                                              np.zeros(120, int), "made up"), rng))  # fmt: skip
    assert {(r.kind, r.label) for r in kept if r.feature == 1 and r.q < 0.05} == {("persona", "Ada")}
    assert not [r for r in kept if r.feature == 5] and {r.n for r in kept} == {30, 120}


def test_a_pooled_p_is_a_share_of_all_draws():
    null = np.arange(20.0).reshape(4, 5)
    np.testing.assert_allclose(pooled_p(np.array([100.0, 19.0, 0.0, NAN]), null), [1 / 21, 2 / 21, 1.0, NAN])


# ------------------------------------------------------------------ twins


def dense_best(x, y):
    r = np.corrcoef(x.T, y.T)[: x.shape[1], x.shape[1] :]
    return r.argmax(axis=1), r.max(axis=1)


def test_the_best_of_all_correlations_is_that_of_numpy(monkeypatch):
    rng = np.random.default_rng(8)
    x, y = sparse(rng, (200, 7), 0.3), sparse(rng, (200, 5), 0.3)
    y[:, 2] = x[:, 4]
    which, value = best(csr_array(x), csr_array(y))
    np.testing.assert_array_equal(which, dense_best(x, y)[0])
    np.testing.assert_allclose(value, dense_best(x, y)[1], atol=1e-5)
    monkeypatch.setattr("lab.geometry.feature_match.CELLS", 9)
    np.testing.assert_array_equal(best(csr_array(x), csr_array(y))[0], which)
    x[:, 3] = 0
    assert best(csr_array(x), csr_array(y))[0][3] == -1


def two_readings(rng, texts=40, words=30, twins=8, features=12):
    """Words with activations in two tokenizers; feature j < twins of A is feature twins - 1 - j of B."""
    said = talk(rng, texts, words)
    values = [sparse(rng, (len(whole_words(t)), features), 0.15) for t in said]
    cuts_b = [pieces(t) for t in said]
    in_b = []
    for text, mine, cut in zip(said, values, cuts_b, strict=True):
        theirs = sparse(rng, (len(mine), features), 0.15)
        theirs[:, :twins] = mine[:, :twins][:, ::-1] * rng.uniform(0.8, 1.2, size=(len(mine), twins))
        word_of = [k for k, w in enumerate(words_of(text)) for _ in range(w.start, w.end, 2)]
        assert len(word_of) == len(cut)
        in_b.append(theirs[word_of])
    a = table(said, [whole_words(t) for t in said], np.concatenate(values))
    b = table(
        [" " + t for t in said], [[(s + 1, e + 1) for s, e in cut] for cut in cuts_b], np.concatenate(in_b)
    )
    return a, b


def test_twins_are_found_across_two_tokenizers_and_strangers_are_not():
    rng = np.random.default_rng(9)
    a, b = two_readings(rng)
    one, other, coverage = word_units(a, b)
    assert coverage == 1.0 and one.values.shape[0] == other.values.shape[0] == 40 * 30
    np.testing.assert_allclose(one.values.toarray(), a.values.toarray(), atol=1e-6)
    found = match(one, other, other_texts, rng)
    np.testing.assert_array_equal(found.twin[:8], np.arange(7, -1, -1))
    assert (found.r[:8] > 0.9).all() and (found.q[:8] < 0.05).all()
    assert (found.low[:8] <= found.r[:8]).all() and (found.r[:8] <= found.high[:8]).all()
    assert (np.abs(found.r[8:]) < 0.15).all() and (found.q[8:] > 0.05).all(), "chosen on the other half"
    assert np.abs(found.null).max() < 0.1 and found.texts == 20 and found.units == 600


def test_words_have_the_mean_of_their_characters():
    text = "tea rain"
    a = table([text], [[(0, 2), (2, 6), (6, 8)]], [[1.0], [4.0], [2.0]])
    b = table(["tea rain sun"], [whole_words("tea rain sun")], [[1.0], [1.0], [9.0]])
    one, other, coverage = word_units(a, b)
    np.testing.assert_allclose(one.values.toarray().ravel(), [(1 + 1 + 4) / 3, (4 + 4 + 2 + 2) / 4])
    np.testing.assert_allclose(other.values.toarray().ravel(), [1.0, 1.0])
    assert coverage == pytest.approx(2 / 3), "only what both read"
    with pytest.raises(LabError, match="no word in common"):
        word_units(a, replace(a, texts=("xyz rain",)))
    with pytest.raises(LabError, match="same texts"):
        word_units(a, table(["a", "b"], [[(0, 1)], [(0, 1)]], [[1.0], [1.0]]))


def test_a_second_seed_is_matched_at_tokens_and_by_rows():
    rng = np.random.default_rng(10)
    texts = talk(rng, 30)
    cuts = [whole_words(t) for t in texts]
    values = sparse(rng, (900, 10))
    order = rng.permutation(10)
    noisy = values[:, order] * rng.uniform(0.9, 1.1, size=(900, 10))
    noisy[:, 0] = sparse(rng, 900)
    values[np.arange(900) >= 60, 9] = 0.0  # fires in two texts
    a, b = table(texts, cuts, values), table(texts, cuts, noisy)
    one, other, coverage = token_units(a, b)
    found = match(one, other, shuffled_rows, rng)
    inverse = np.argsort(order)
    shared = [k for k in range(9) if inverse[k] != 0]
    np.testing.assert_array_equal(found.twin[shared], inverse[shared])
    assert coverage == 1.0 and (found.r[shared] > 0.9).all() and (found.p[shared] < 0.02).all()
    assert np.isnan(found.r[9]) and np.isnan(found.p[9]), "fewer than 5 texts of the half"
    with pytest.raises(LabError, match="same tokens"):
        token_units(a, b.of(np.arange(5)))
    with pytest.raises(LabError, match="at least 4 texts"):
        match(*(replace(u, values=u.values[:60], text=u.text[:60]) for u in (one, other)), shuffled_rows, rng)
    rows = rng.normal(size=(10, 16))
    near, cosine = nearest_rows(rows, 3.0 * rows[order])
    np.testing.assert_array_equal(near, inverse)
    np.testing.assert_allclose(cosine, 1.0)
    with pytest.raises(LabError, match="one width"):
        nearest_rows(rows, rows[:, :8])


def test_the_null_of_cosines_knows_a_massive_dimension():
    rng = np.random.default_rng(11)
    plain = rng.normal(size=(60, 24))
    massive = plain * np.array([15.0, *[1.0] * 23])
    assert (
        np.median(cosine_null(plain, plain, rng)) < 0.7 < 0.9 < np.median(cosine_null(massive, massive, rng))
    )


def test_scrambled_pairs_are_of_other_texts():
    rng = np.random.default_rng(12)
    text = np.repeat(np.arange(6), [4, 5, 3, 6, 4, 5])
    a, b = other_texts(text, rng)
    assert (text[a] != text[b]).all() and len(set(text[a])) == 6
    start = np.searchsorted(text, text)
    np.testing.assert_array_equal((np.arange(27) - start)[a], (np.arange(27) - start)[b])
    one, other = shuffled_rows(text, rng)
    assert sorted(other) == one.tolist() == list(range(27))


# ------------------------------------------------------------------ AUROC


def test_aurocs_are_those_of_one_feature_at_a_time():
    rng = np.random.default_rng(13)
    values = np.round(sparse(rng, (80, 6), 0.5), 1)  # ties above 0 too
    values[:, 5] = 0
    codes = rng.integers(-1, 3, size=80)
    found = aurocs(ranked(csr_array(values)), codes, 4)
    for label in range(3):
        for k in range(6):
            mine = values[:, k].astype(np.float64)
            assert found[label, k] == pytest.approx(auroc(mine[codes == label], mine[codes != label]))
    assert np.isnan(found[3]).all(), "a label that no place has"


def test_the_band_of_an_auroc_is_that_of_a_slow_bootstrap():
    rng = np.random.default_rng(14)
    text = np.repeat(np.arange(25), 4)
    label = rng.random(100) < 0.4
    value = np.where(rng.random(100) < 0.5, np.round(rng.gamma(2.0, size=100) + label, 1), 0.0)
    weights = cluster_weights([np.arange(25)], 400, rng)
    low, high = auroc_band(value, label, text, weights)
    slow = []
    for draw in weights[:, text].astype(int):
        v, k = np.repeat(value, draw), np.repeat(label, draw)
        slow.append(auroc(v[k], v[~k]))
    assert (low, high) == pytest.approx(tuple(np.quantile(slow, [0.0165, 0.9835])), abs=0.01)
    assert low < auroc(value[label], value[~label]) < high
    assert np.isnan(auroc_band(value, text < 4, text, weights)).all()


def test_the_best_feature_is_chosen_on_one_half_and_told_on_the_other():
    rng = np.random.default_rng(15)
    text = np.repeat(np.arange(60), 5)
    codes = rng.integers(0, 4, size=300)
    codes[(codes == 3) & (text > 8)] = 0
    values = sparse(rng, (300, 40), 0.3)
    values[codes == 1, 7] = 9.0
    first = text % 2 == 0
    found = search(halved(csr_array(values), text, first), codes, 5)
    assert found.feature[1] == 7 and found.auroc[1] > 0.95 and found.selected[1] > 0.95
    assert found.selected[2] > 0.55 > found.auroc[2], "the best of 40 looks good where it was chosen"
    assert (found.feature[3:] == -1).all() and np.isnan(found.auroc[3:]).all()
    assert (
        found.positives[1] == ((codes == 1) & ~first).sum()
        and found.negatives[1] == ((codes != 1) & ~first).sum()
    )


# ------------------------------------------------------------------ the job


@pytest.fixture(scope="module")
def shelf(loaded, tmp_path_factory):
    """Two seeds of a dictionary of one tiny model, one of another with another tokenizer, and texts."""
    root = tmp_path_factory.mktemp("runs")
    a, b = loaded("llama"), loaded("gpt2")
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(32, 32)))[0]
    save_sae(root / "saes" / "one", a, turn)
    save_sae(root / "saes" / "two", a, turn[::-1])
    save_sae(root / "saes" / "other", b, np.eye(b.identity.d_model))
    config = root / "saes" / "two" / "cfg.json"
    said = json.loads(config.read_text())
    said["metadata"]["lab_seed"] = 1
    config.write_text(json.dumps(said))
    return root, json_lines(root / "texts.jsonl", [{"text": t} for t in numbered(600, 14)])


def quiet(said, fraction):
    assert 0 <= fraction <= 1


def test_cards_of_two_models_side_by_side(shelf):
    from lab.store import Store

    root, corpus = shelf
    store = Store(root)
    config = FeaturesConfig("one", "other", corpus=corpus, texts=16)
    book = features(config, store, quiet)
    assert book.saes == ("one", "other") and len(book.models) == 2
    assert [sum(c.sae == s for c in book.cards) for s in book.saes] == [32, 48]
    assert not book.labels and not book.choices and not book.scores, "nothing is known of these texts"
    seeds = [t for t in book.twins if t.relation == "seed"]
    assert [t.near for t in seeds] == list(range(31, -1, -1)) and all(t.other == "two" for t in seeds)
    told = [t for t in seeds if not np.isnan(t.r)]
    assert told and all(t.twin == t.near and t.r > 0.999 for t in told), "the same features in another order"
    across = [t for t in book.twins if t.relation == "model"]
    assert len(across) == 32 + 48 and {t.other for t in across} == {"one", "other"}
    recur = next(s for s in book.summaries if "recur" in s.what and "activation" in s.what)
    assert recur.value == 1.0 and recur.null < 0.05
    card = max(book.cards, key=lambda c: c.fires if c.sae == "one" else -1)
    assert sum(card.histogram) > 0 and card.fires_low <= card.fires <= card.fires_high
    assert len(card.promoted) == len(card.promoted_logits) == 8 and card.promoted_null > 0
    assert list(card.promoted_logits) == sorted(card.promoted_logits, reverse=True)
    saved = load_features(store, book.run)
    for name in TABLES:
        assert repr(getattr(saved, name)) == repr(getattr(book, name)), f"{name} as saved"
    assert saved.settings == json.loads(json.dumps(book.settings)) and saved.models == book.models
    assert repr(saved.qualities) == repr(book.qualities) and [q.name for q in book.qualities] == [
        "one",
        "other",
    ]
    measured = [q.quality for q in book.qualities]
    assert all(m and m.explained_low <= m.explained_variance <= m.explained_high for m in measured)
    assert features(config, store, quiet).run == book.run
    assert latest(store, "other") == book.run and latest(store, "two") is None
    hits = look(book, "Paris")
    assert hits == tuple(sorted(hits, key=lambda h: (-h.score, h.sae, h.feature)))
    tops = {(e.sae, e.feature) for e in book.examples if e.quantile == "top" and peak_word(e) == "Paris"}
    assert tops and tops <= {(h.sae, h.feature) for h in look(book, "paris", 1000)}
    assert look(book, "xylophone") == ()


def test_the_command_tells_and_refuses(shelf):
    from lab.cli import app

    root, corpus = shelf
    base = ["sae", "features", "two", "--corpus", corpus, "--texts", "8", "--runs", str(root)]
    found = CliRunner().invoke(app, [*base, "--second", "none", "--search", "tea", "--json"])
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    assert said["saes"] == ["two"] and not said["twins"] and said["hits"]
    assert {c["feature"] for c in said["cards"]} == {h["feature"] for h in said["hits"]}
    wrong = {
        "no dictionary 'three'": ["--second", "three"], "expected another": ["--other", "two"],
        "no run 'nothing'": ["--replies", "nothing"], "expected a word": ["--search", " "],
    }  # fmt: skip
    for message, more in wrong.items():
        refused = CliRunner().invoke(app, [*base, "--texts", "9", *more])
        assert (
            refused.exit_code
            and isinstance(refused.exception, LabError)
            and message in str(refused.exception)
        )


def test_hearth_conversations_bring_their_labels(loaded, tmp_path):
    from lab.store import Store

    save_sae(tmp_path / "saes" / "eye", loaded("llama"), np.eye(32))
    book = features(FeaturesConfig("eye", texts=12, per_persona=0, truth_texts=0), Store(tmp_path), quiet)
    assert book.corpus == "hearth" and not book.twins
    assert {r.kind for r in book.labels} == {"trait"} and {r.n for r in book.labels} == {12}
    assert all(-1 <= r.low <= r.r <= r.high <= 1 for r in book.labels)
    assert any(e.reply for e in book.examples)


def test_replies_of_a_run_bring_their_poles(loaded, store):
    model = loaded("llama")
    prompt = render(model.tokenizer, [Message("user", "Who are you?")]).text
    replies = tuple(
        PoleReply("m", trait, pole, f"q{i % 6}", prompt, f"I am {pole} {i}.", 0.0)
        for trait in ("warmth", "candour")
        for pole in ("positive", "negative")
        for i in range(6)
    )
    card = TraitCard(
        "m", "warmth", "mean difference", "reply_mean", 1, *(0.9, 0.8, 1.0, 2.0, 2.0, 0.01), True, 24, 6
    )
    book = TraitBook("extract-1", model.identity, (), (card,), (), replies)
    store.save_traits(book, lambda folder: None)
    found = run_texts(store, "extract-1", model)
    assert found.labels.names == ("warmth", "candour") and found.labels.kinds == ("trait", "trait")
    np.testing.assert_array_equal(found.labels.values[0], [*[1.0] * 6, *[0.0] * 6, *[NAN] * 12])
    assert len(set(found.labels.clusters)) == 6 and (found.labels.clusters == found.labels.strata).all()
    for row, reply in zip(found.rows, replies, strict=True):
        assert model.tokenizer.decode(row.ids[row.reply]) == reply.text and (row.counts == row.reply).all()
    with pytest.raises(LabError, match="another model"):
        run_texts(store, "extract-1", loaded("gpt2"))
    with pytest.raises(LabError, match="lab extract or lab compare"):
        run_texts(store, "nothing", model)


def test_the_word_of_a_peak_is_whole():
    def example(tokens, at):
        return FeatureExample("d", 0, "top", 0, 1.0, 0, 0, False, at, tuple(tokens), (0.0,) * len(tokens))

    assert peak_word(example([" the", " gar", "den", "er", "."], 2)) == "gardener"
    assert peak_word(example(["so", "!"], 1)) == "!"
    assert peak_word(example([" "], 0)) == ""
