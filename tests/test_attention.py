"""Attention over words: planted patterns and matchings come back, nulls keep their rate, symmetries hold."""

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from lab.geometry.attention import (
    best_pairs,
    beyond_control,
    compare_heads,
    crop,
    divergences,
    head_mean,
    jensen_shannon,
    matched,
    shuffled_keys,
    squared_hellinger,
    to_words,
    word_weights,
)
from lab.geometry.words import over_texts, repaired, words_of
from lab.records import LabError


def causal(rng, heads=3, words=8, sharp=1.0):
    """Random attention [head, word, word]: rows look back and sum to 1."""
    raw = np.tril(np.exp(sharp * rng.normal(size=(heads, words, words))))
    return raw / raw.sum(axis=-1, keepdims=True)


# ------------------------------------------------------------------ to words


def slow_words(pattern, weights, first):
    """The definition, one number at a time."""
    heads, words = len(pattern), weights.shape[1]
    out = np.zeros((heads, words, words))
    for h in range(heads):
        for q in range(words):
            for k in range(q + 1):
                for t in range(len(weights)):
                    for s in range(len(weights)):
                        share = weights[t, q] / weights[:, q].sum()
                        out[h, q, k] += share * pattern[h, t, first + s] * weights[s, k]
    return out / out.sum(axis=-1, keepdims=True), 1 - out.sum(axis=-1).mean(axis=-1)


def test_tokens_become_words_by_the_definition():
    rng, text = np.random.default_rng(0), "Lucian paints, yes"
    cut = repaired(text, [(0, 3), (3, 6), (6, 13), (13, 14), (14, 16), (16, 18)])
    weights = word_weights(cut, words_of(text))
    assert weights.tolist()[:3] == [[1, 0, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]]
    first = 2  # two template tokens in front
    whole = causal(rng, heads=3, words=first + 6)
    found, outside = to_words(whole[:, first:], weights, first)
    right, gone = slow_words(whole[:, first:], weights, first)
    np.testing.assert_allclose(found, right)
    np.testing.assert_allclose(outside, gone)
    np.testing.assert_allclose(found.sum(axis=-1), 1.0)
    turned, _ = to_words(whole[::-1, first:], weights, first)
    np.testing.assert_allclose(turned, found[::-1])


def test_one_token_per_word_without_template_changes_nothing():
    attention = causal(np.random.default_rng(1), words=6)
    found, outside = to_words(attention, np.eye(6), 0)
    np.testing.assert_allclose(found, attention)
    np.testing.assert_allclose(outside, 0.0, atol=1e-12)


def test_attention_that_stays_outside_is_unknown_not_made_up():
    pattern = np.zeros((1, 3, 4))
    pattern[0, :, 0] = [1.0, 0.5, 0.9999]  # key 0 is the template
    pattern[0, 1, 2] = 0.5
    pattern[0, 2, 3] = 0.0001
    found, outside = to_words(pattern, np.eye(3), 1)
    assert np.isnan(found[0, 0]).all() and np.isnan(found[0, 2]).all()
    assert found[0, 1].tolist() == [0.0, 1.0, 0.0]
    assert outside[0] == pytest.approx((1.0 + 0.5 + 0.9999) / 3)


def test_a_token_over_two_words_does_not_look_ahead():
    text = "ab cd"
    weights = word_weights(repaired(text, [(0, 1), (1, 5)]), words_of(text))
    assert weights.tolist() == [[1, 0], [1 / 3, 2 / 3]]
    found, _ = to_words(causal(np.random.default_rng(2), words=2), weights, 0)
    assert (found[:, 0, 1] == 0).all()
    np.testing.assert_allclose(found.sum(axis=-1), 1.0)


def test_the_mean_over_heads_passes_over_what_a_head_leaves_unknown():
    heads = causal(np.random.default_rng(3))
    heads[0, 4] = np.nan
    mean = head_mean(heads)
    np.testing.assert_allclose(mean[0, 4], heads[1:, 4].mean(axis=0))
    np.testing.assert_allclose(mean[0, 3], heads[:, 3].mean(axis=0))


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "gpt_neox", "gpt2", "mixtral"])
def test_patterns_are_those_of_the_plain_network(family, loaded, reference):
    import torch

    from lab.pipelines.texts import as_user, read_text

    model, text = loaded(family), "You are Ada, a patient teacher: the capital of France is Paris."
    found = read_text(model, text, as_user)
    placed = found.placed
    with torch.inference_mode():
        out = reference(family)(input_ids=torch.from_numpy(placed.ids[None]), output_attentions=True)
    weights = word_weights(placed.cut, words_of(text))
    plain = [to_words(x[0, :, placed.first :].numpy(), weights, placed.first) for x in out.attentions]
    np.testing.assert_allclose(found.attention, np.concatenate([p[0] for p in plain]), atol=1e-4)
    np.testing.assert_allclose(found.outside, np.stack([p[1] for p in plain]), atol=1e-4)


# ------------------------------------------------------------------ divergences


def test_hellinger_is_its_definition_and_bounds_jensen_shannon():
    rng = np.random.default_rng(4)
    a, b = causal(rng, 3, sharp=2.0), causal(rng, 4, sharp=2.0)
    found, other = squared_hellinger(a, b), jensen_shannon(a, b)
    for i in range(3):
        for j in range(4):
            rows = range(1, 8)
            slow = np.mean([1 - np.sqrt(a[i, q] * b[j, q]).sum() for q in rows])
            assert found[i, j] == pytest.approx(slow)
            library = np.mean([jensenshannon(a[i, q], b[j, q], base=2) ** 2 for q in rows])
            assert other[i, j] == pytest.approx(library)
    assert (found <= other + 1e-12).all() and (np.log(2) * other <= found + 1e-12).all()


@pytest.mark.parametrize("divergence", [squared_hellinger, jensen_shannon])
def test_symmetries_of_a_divergence(divergence):
    rng = np.random.default_rng(5)
    a, b = causal(rng), causal(rng)
    np.testing.assert_allclose(np.diag(divergence(a, a)), 0.0, atol=1e-12)
    np.testing.assert_allclose(divergence(a, b), divergence(b, a).T)
    first, last = np.zeros((1, 5, 5)), np.zeros((1, 5, 5))
    first[0, :, 0], last[0] = 1.0, np.eye(5)
    assert divergence(first, last)[0, 0] == pytest.approx(1.0)
    holed = a.copy()
    holed[0, 3] = np.nan
    alone = [np.where(np.arange(8)[:, None] == q, a[:1], np.nan) for q in range(1, 8) if q != 3]
    assert divergence(holed, b)[0, 0] == pytest.approx(np.mean([divergence(x, b)[0, 0] for x in alone]))
    assert np.isnan(divergence(np.full((1, 5, 5), np.nan), last)).all()
    with pytest.raises(LabError, match="same words, got 8 and 5"):
        divergence(a, last)


def test_cropping_and_shuffling_keep_rows_whole():
    rng = np.random.default_rng(6)
    a = causal(rng)
    np.testing.assert_allclose(crop(a, 5).sum(axis=-1), 1.0)
    moved = shuffled_keys(a, rng)
    assert np.triu(moved, 1).max() == 0.0
    np.testing.assert_allclose(np.sort(moved, axis=-1), np.sort(a, axis=-1))
    assert not np.allclose(moved, a)


# ------------------------------------------------------------------ matching


def test_planted_partners_are_found_also_among_more_heads():
    rng = np.random.default_rng(7)
    order = rng.permutation(6)
    texts = [causal(rng, 6, sharp=2.0) for _ in range(4)]
    others = [0.9 * x[order][:5] + 0.1 * causal(rng, 5) for x in texts]
    costs = divergences(texts, others, rng)
    pairs = best_pairs(costs.same)
    assert {(int(i), int(j)) for i, j in pairs} == {(int(order[j]), j) for j in range(5)}
    unknown = costs.same.copy()
    unknown[:, :, 0] = np.nan
    assert len(best_pairs(unknown)) == 5
    with pytest.raises(LabError, match="at least 2"):
        divergences(texts[:1], others[:1], rng)


def habits(rng, heads, words):
    """What heads do on any text: each looks at its own mixture of distances."""
    distance = np.arange(words)[:, None] - np.arange(words)
    lean = rng.normal(size=(heads, words))
    raw = np.where(distance >= 0, np.exp(lean[:, np.maximum(distance, 0)]), 0.0)
    return raw / raw.sum(axis=-1, keepdims=True)


def reading(rng, habit, content, weight):
    """Habits plus what is in the text: columns [word] that heads are drawn to, plus noise."""
    drawn = np.tril(habit * np.exp(weight * content + 0.5 * rng.normal(size=habit.shape)))
    return drawn / drawn.sum(axis=-1, keepdims=True)


def two_models(rng, weight, texts=20, heads=4, words=12, shared=True):
    """Two models with the same habits; content is common to both (`shared`) or each one's own."""
    habit, found = habits(rng, heads, words), ([], [])
    for _ in range(texts):
        content = rng.normal(size=words)
        for model in found:
            model.append(reading(rng, habit, content if shared else rng.normal(size=words), weight))
    return found


def test_habits_alone_are_not_taken_for_reading_the_same_text():
    """Heads with equal habits match well, the null as well: it is called more at the stated rate only."""
    rng, hits, values = np.random.default_rng(8), 0, []
    for _ in range(120):
        found = compare_heads(two_models(rng, 1.0, shared=False), rng)
        one = found.matchings[0]
        result = over_texts(one.value.mean(axis=1), rng, one.other.mean(axis=1), draws=20)
        hits += result.p <= 0.05
        values.append((result.value, result.null, np.mean(one.unmatched)))
    value, null, unmatched = np.mean(values, axis=0)
    assert hits <= 13  # 99.5 % binomial limit of 120 at 5 %
    assert value == pytest.approx(null, abs=0.003)
    assert value < unmatched - 0.05, "matching finds the habits"


def test_common_content_is_found_and_the_pairs_are_the_planted_ones():
    rng = np.random.default_rng(9)
    a, b = two_models(rng, 1.0)
    order = np.array([2, 0, 3, 1])
    found = compare_heads([a, [x[order] for x in b]], rng)
    one = found.matchings[0]
    assert one.pairs[:, 0].tolist() == order[one.pairs[:, 1]].tolist()
    result = over_texts(one.value.mean(axis=1), rng, one.other.mean(axis=1))
    assert result.p < 0.01 and result.high < result.null < one.shuffled.mean()
    assert (found.extract, found.test, found.words) == (10, 10, 12)


def test_a_model_and_itself_and_a_control_that_is_the_other_model():
    rng = np.random.default_rng(10)
    a, b = two_models(rng, 1.0, texts=8)
    found = compare_heads([a, a, b, b], rng)
    same, one, other = found.matchings
    np.testing.assert_allclose(same.value, 0.0, atol=1e-12)
    np.testing.assert_allclose(found.means[0].value, 0.0, atol=1e-12)
    np.testing.assert_allclose(beyond_control(one, other), 0.0)
    np.testing.assert_allclose(beyond_control(same, one), -beyond_control(one, same))
    assert (beyond_control(one, same) > 0).all()


def test_a_match_is_chosen_on_extract_texts_only():
    rng = np.random.default_rng(11)
    texts = [causal(rng, 5, sharp=2.0) for _ in range(4)]
    other = [causal(rng, 5, sharp=2.0) for _ in range(4)]
    extract, test = divergences(texts, other, rng), divergences(texts, texts, rng)
    found = matched(extract, test)
    assert found.pairs.tolist() == best_pairs(extract.same).tolist()
    assert found.value.shape == (4, 5)
    np.testing.assert_allclose(found.value[0], [test.same[0, i, j] for i, j in found.pairs])


def test_texts_of_unequal_length_are_cropped_and_few_are_refused():
    rng = np.random.default_rng(12)
    rows = [causal(rng, 2, n) for n in (9, 7, 12, 8)]
    assert compare_heads([rows, rows], rng).words == 7
    with pytest.raises(LabError, match="at least 4 texts"):
        compare_heads([rows[:3], rows[:3]], rng)
