"""Judges: scores from log-probs, and what planted judges are found to be."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from judge_server import items, statuses, worth
from scipy import stats as scipy_stats

from lab.judging.judges import (
    Item,
    Judge,
    LogprobJudge,
    Score,
    Scores,
    Unit,
    expected_score,
    rubric_prompt,
    unscored,
)
from lab.judging.likelihood_ratio import (
    ContrastJudge,
    FamiliarityJudge,
    contrast,
    likelihoods,
    ordinary_limit,
    strangeness,
)
from lab.judging.poles import agreement_within, separation
from lab.judging.trust import IsotonicMap, LinearMap, agreement, calibrate, screen, spearman
from lab.judging.verdicts import Replies, Said, percentiles, verdict
from lab.records import LabError, Trait
from lab.stats import auroc, cluster_weights, correlation, interval


def planted(values, judge="planted", unit: Unit = "0-100") -> Scores:
    rows = [unscored("failed", "down") if math.isnan(v) else Score(float(v)) for v in values]
    return Scores(judge, unit, tuple(rows))


# ------------------------------------------------------------------ scores and rubrics


def test_a_value_and_a_reason_never_go_together_or_both_lack():
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="if and only if"):
            Score(value)
    with pytest.raises(ValueError, match="if and only if"):
        Score(0.0, "failed")
    with pytest.raises(ValueError, match="from 0 to 100"):
        Scores("j", "0-100", (Score(101.0),))
    assert Scores("j", "prior sd", (Score(-1.5),)).values.tolist() == [-1.5]


def test_values_keep_their_place_and_counts_name_what_is_missing():
    scores = Scores("j", "0-100", (Score(3.0), unscored("refused", "no"), Score(0.0)))
    np.testing.assert_array_equal(scores.values, [3.0, np.nan, 0.0])
    assert scores.counts == {"scored": 2, "refused": 1}


def test_a_rubric_is_filled_once_and_braces_stay():
    item = Item("what is {answer}?", '{"a": {question}}', "Q: {question}\nA: {answer}\nkeep {this}")
    assert rubric_prompt(item) == 'Q: what is {answer}?\nA: {"a": {question}}\nkeep {this}'
    with pytest.raises(LabError, match="eval_prompt"):
        rubric_prompt(Item("q", "a", ""))


# ------------------------------------------------------------------ expected value


def logs(probabilities: dict[str, float]) -> list[tuple[str, float]]:
    return [(token, math.log(p)) for token, p in probabilities.items()]


def test_expected_value_over_whole_numbers_only():
    probabilities = {
        "70": 0.3, " 80": 0.2, "80": 0.1, "0": 0.05, "100": 0.05, "07": 0.04, "101": 0.04, "-3": 0.04,
        "7.": 0.04, "+7": 0.03, "1_0": 0.02, "٣": 0.02, "I": 0.05,
    }  # fmt: skip
    expected = (70 * 0.3 + 80 * 0.3 + 0 + 100 * 0.05) / 0.7
    found = expected_score(logs(probabilities))
    assert found.value == pytest.approx(expected)
    assert (found.status, found.how) == ("scored", "logprobs")


@pytest.mark.parametrize(("mass", "status"), [(0.24, "refused"), (0.26, "scored")])
def test_too_little_probability_of_numbers_is_a_refusal(mass, status):
    found = expected_score(logs({"I": 1 - mass, "50": mass}))
    assert found.status == status
    assert status == "scored" or "'I'" in found.reason


def test_only_the_twenty_likeliest_tokens_count():
    probabilities = {str(n): 0.04 for n in range(50, 70)} | {"0": 0.039, "1": 0.039}
    assert expected_score(logs(dict(reversed(probabilities.items())))).value == pytest.approx(59.5)


def test_the_ends_of_the_scale():
    assert expected_score(logs({"100": 0.1, " 100": 0.7})).value == 100
    assert expected_score([("0", 0.0), ("5", -9999.0)]).value == 0


@pytest.mark.parametrize(
    ("pairs", "status"),
    [([], "failed"), ([("50", 3.2), ("7", 1.0)], "malformed"), ([("50", float("nan"))], "malformed")],
)
def test_what_is_no_distribution_is_not_scored(pairs, status):
    assert expected_score(pairs).status == status


# ------------------------------------------------------------------ a local model


def chunks(width: int) -> Callable[[str], bool]:
    """A tokenizer that writes numbers in pieces of up to `width` digits: is this text one token?"""
    return lambda text: len(text) <= width


def test_a_local_judge_recovers_planted_values_and_keeps_failures_in_place():
    def model(chats):
        found = []
        for chat in chats:
            assert [m.role for m in chat] == ["user"]
            n = worth(chat[0].content)
            found.append(
                {"I": math.log(0.9)} if n == 2 else {f" {n - 1}": math.log(0.4), f"{n + 1}": math.log(0.4)}
            )
        return found

    judge: Judge = LogprobJudge("local", model, chunks(3))
    scores = judge.score(items(5)[1:])
    np.testing.assert_allclose(scores.values, [1, np.nan, 3, 4])
    assert (scores.judge, scores.unit) == ("local", "0-100")
    assert statuses(scores) == ["scored", "refused", "scored", "scored"]


@pytest.mark.parametrize(("width", "first"), [(1, "10"), (2, "100")])
def test_numbers_in_pieces_are_refused_before_anything_is_asked(width, first):
    with pytest.raises(LabError, match=rf"\({first} is the first\)"):
        LogprobJudge("local", lambda chats: pytest.fail("asked"), chunks(width))


def test_a_model_that_skips_a_chat_is_an_error():
    judge = LogprobJudge("local", lambda chats: [{"5": 0.0}] * (len(chats) - 1), chunks(3))
    with pytest.raises(LabError, match="3 chats, got 2"):
        judge.score(items(3))


# ------------------------------------------------------------------ the exact judge fits the protocol


@pytest.fixture(scope="module")
def spoken():
    """Replies of Hearth from known z: items, truth [item, trait]."""
    from lab.world.conversation import draw_reply, make_turn, reply_text
    from lab.world.latent import KINDS, sample_prior
    from lab.world.library import library
    from lab.world.scaffolds import NO_EXTRAS, named_character

    lib = library()
    truth, replies = [], []
    for k in range(30):
        rng = np.random.default_rng([3, k])
        truth.append(sample_prior(rng))
        who = named_character(rng, lib, lib.personas[k], extras=NO_EXTRAS)
        turn = make_turn(rng, lib, who, KINDS[k % 8])
        replies.append(Item(turn.user, reply_text(draw_reply(rng, lib, truth[-1], turn, who)), ""))
    return replies, np.array(truth)


NONSENSE = "Colourless green ideas sleep furiously."


def test_the_exact_judge_of_hearth_fulfils_the_protocol(spoken):
    from lab.world.exact import ExactJudge
    from lab.world.latent import INDEX

    replies, truth = spoken
    judges: list[Judge] = [ExactJudge("warmth"), ExactJudge("coherence")]
    asked = [*replies, Item("q", NONSENSE, ""), Item("q", "", "")]
    z, coherent = (judge.score(asked) for judge in judges)
    assert (z.unit, coherent.unit) == ("prior sd", "0-100")
    np.testing.assert_array_equal(np.isnan(z.values), [False] * 30 + [True, True])
    assert statuses(z)[30:] == ["refused", "refused"] and "none of 1 sentences parses" in z.rows[30].reason
    np.testing.assert_array_equal(coherent.values[:31], [100.0] * 30 + [0.0])
    assert np.isnan(coherent.values[31])
    known = [*truth[:, INDEX["warmth"]], np.nan, np.nan]
    found = agreement(z, planted(known, "truth", "prior sd"), np.arange(32), np.random.default_rng(0))
    assert found.pearson > 0.6
    assert (found.n, found.missing_first) == (30, 2)
    with pytest.raises(LabError, match="exact in prior sd"):
        screen(z, coherent, np.ones(32, bool))
    with pytest.raises(LabError, match="no trait 'charm'"):
        ExactJudge("charm")


def test_readings_are_those_of_one_reply_at_a_time_in_any_order(spoken):
    from lab.world.exact import readings
    from lab.world.judge import judge_texts
    from lab.world.library import library

    texts = [*(item.answer for item in spoken[0][:6]), f"{spoken[0][6].answer} {NONSENSE}"]
    found, turned = readings(texts), readings(texts[::-1])
    for i, text in enumerate(texts):
        z, evidence = judge_texts(library(), [text])
        np.testing.assert_array_equal(found.values[i], z.mean)
        np.testing.assert_array_equal(found.sd[i], z.sd)
        assert (found.parsed[i], found.sentences[i]) == (evidence.parsed, evidence.sentences)
        assert found.coherence[i] == evidence.coherence
    assert found.coherence[6] < 1 == found.coherence[5]
    np.testing.assert_array_equal(found.values, turned.values[::-1])
    nothing = readings([NONSENSE, texts[0]])  # the prior is no reading
    assert np.isnan(nothing.values[0]).all() and np.isnan(nothing.sd[0]).all()
    np.testing.assert_array_equal(nothing.values[1], found.values[0])


def test_pooled_readings_are_one_posterior_and_nearer_to_the_truth_than_the_mean_of_single_ones():
    from lab.world.conversation import draw_reply, make_turn, reply_text
    from lab.world.exact import pooled, readings
    from lab.world.judge import judge_texts
    from lab.world.latent import KINDS, sample_prior
    from lab.world.library import library
    from lab.world.scaffolds import NO_EXTRAS, named_character

    lib, truth, texts, groups = library(), [], [], []
    for who in range(12):
        rng = np.random.default_rng([17, who])
        z = sample_prior(rng)
        character = named_character(rng, lib, lib.personas[who], extras=NO_EXTRAS)
        truth.append(z)
        for k in range(6):
            turn = make_turn(rng, lib, character, KINDS[k])
            texts.append(reply_text(draw_reply(rng, lib, z, turn, character)))
            groups.append(f"p{who}")
    order = np.random.default_rng(0).permutation(len(texts))
    names, found = pooled([texts[i] for i in order], [groups[i] for i in order])
    assert names == tuple(dict.fromkeys(groups[i] for i in order))
    at = [names.index(f"p{who}") for who in range(12)]
    alone = [judge_texts(lib, [texts[i] for i in order if groups[i] == "p3"])[0].mean]
    np.testing.assert_array_equal(found.values[[at[3]]], alone)
    means = readings(texts).values.reshape(12, 6, -1).mean(axis=1)
    assert np.abs(found.values[at] - truth).mean() < 0.8 * np.abs(means - truth).mean()
    with pytest.raises(ValueError, match="2 for 3 texts"):
        pooled(texts[:3], groups[:2])


# ------------------------------------------------------------------ agreement


def two_judges(rng, questions=15, replies=4, r=0.7, topic=1.0):
    """Two judges whose question effects and reply effects both correlate by r; unit scale around 50."""
    pull = np.linalg.cholesky([[1, r], [r, 1]])
    labels = np.repeat(np.arange(questions), replies)
    effect = topic * (rng.normal(size=(questions, 2)) @ pull.T)[labels]
    return np.clip(50 + 5 * (effect + rng.normal(size=(len(labels), 2)) @ pull.T), 0, 100).T, labels


def test_agreement_equals_scipy_and_counts_what_is_missing():
    rng = np.random.default_rng(0)
    (x, y), labels = two_judges(rng)
    x, y = x.round(), y.round()  # ties
    x[3] = y[3] = y[10] = np.nan
    both = ~np.isnan(x) & ~np.isnan(y)
    found = agreement(planted(x, "a"), planted(y, "b"), labels, rng)
    assert found.pearson == pytest.approx(scipy_stats.pearsonr(x[both], y[both])[0])
    assert found.spearman == pytest.approx(scipy_stats.spearmanr(x[both], y[both])[0])
    assert found.mean_abs_difference == pytest.approx(np.abs(x - y)[both].mean())
    assert (found.n, found.questions, found.missing_first, found.missing_second) == (58, 15, 1, 2)
    assert found.pearson_low < found.pearson < found.pearson_high
    assert found.spearman_low < found.spearman < found.spearman_high


def test_the_bootstrap_of_ranks_equals_ranking_the_drawn_rows():
    rng = np.random.default_rng(1)
    (x, y), labels = two_judges(rng, questions=8)
    x = x.round()
    weights = cluster_weights([labels], 20, rng)
    for statistic, second in ((correlation, scipy_stats.pearsonr), (spearman, scipy_stats.spearmanr)):
        slow = []
        for draw in weights.astype(int):
            rows = np.repeat(np.arange(len(x)), draw)
            slow.append(second(x[rows], y[rows])[0])
        np.testing.assert_allclose(statistic(x, y, weights), slow, atol=1e-9)


def test_intervals_of_agreement_cover_the_planted_correlation():
    inside = []
    for seed in range(100):
        rng = np.random.default_rng([7, seed])
        (x, y), labels = two_judges(rng, r=0.6)
        found = agreement(planted(x, "a"), planted(y, "b"), labels, rng, draws=200)
        inside.append(found.pearson_low <= 0.6 <= found.pearson_high)
    assert 0.9 <= np.mean(inside) <= 0.995, np.mean(inside)


def test_replies_to_one_question_are_not_independent_evidence():
    rng = np.random.default_rng(3)
    (x, y), labels = two_judges(rng, questions=12, replies=1, r=0.5)
    copies = np.repeat(np.arange(12), 10)
    once = agreement(planted(x, "a"), planted(y, "b"), labels, np.random.default_rng(0))
    tenfold = agreement(planted(x[copies], "a"), planted(y[copies], "b"), copies, np.random.default_rng(0))
    assert tenfold.pearson_high - tenfold.pearson_low == pytest.approx(once.pearson_high - once.pearson_low)


def test_unrelated_judges_do_not_agree_and_reversed_ones_disagree():
    rng = np.random.default_rng(4)
    (x, y), labels = two_judges(rng, questions=40, r=0.0)
    none = agreement(planted(x, "a"), planted(y, "b"), labels, rng)
    assert none.pearson_low < 0 < none.pearson_high and none.spearman_low < 0 < none.spearman_high
    turned = agreement(planted(x, "a"), planted(100 - x, "b"), labels, rng)
    assert turned.pearson == pytest.approx(-1) and turned.spearman == pytest.approx(-1)


def test_agreement_abstains_where_nothing_can_be_said():
    rng = np.random.default_rng(5)
    (x, y), labels = two_judges(rng, questions=4)
    few = agreement(planted(x, "a"), planted(y, "b"), labels, rng)
    assert not math.isnan(few.pearson) and math.isnan(few.pearson_low) and math.isnan(few.spearman_high)
    flat = agreement(planted(np.full(16, 70.1), "a"), planted(y, "b"), labels, rng)
    assert math.isnan(flat.pearson) and math.isnan(flat.spearman)
    gone = agreement(planted(np.full(16, np.nan), "a"), planted(y, "b"), labels, rng)
    assert math.isnan(gone.pearson) and gone.n == 0 and gone.missing_first == 16
    units = agreement(planted(x, "a", "prior sd"), planted(y, "b"), labels, rng)
    assert math.isnan(units.mean_abs_difference) and units.pearson == few.pearson


def test_a_retest_needs_two_takes_and_equal_lists():
    a = planted([1.0, 2.0, 3.0], "a")
    with pytest.raises(LabError, match="take=1"):
        agreement(a, a, np.arange(3), np.random.default_rng(0))
    with pytest.raises(LabError, match="3, 2 and 3"):
        agreement(a, planted([1.0, 2.0], "b"), np.arange(3), np.random.default_rng(0))


# ------------------------------------------------------------------ calibration


def test_a_planted_line_is_recovered_with_its_error():
    rng = np.random.default_rng(6)
    labels = np.repeat(np.arange(30), 6)
    z = rng.normal(size=180)
    y = 50 + 10 * z + rng.normal(size=180)
    z[:7] = np.nan
    found = calibrate(planted(z, "exact", "prior sd"), planted(y, "api"), labels, rng)
    assert isinstance(found.map, LinearMap)
    assert found.map.slope == pytest.approx(10, abs=0.5)
    assert found.map.intercept == pytest.approx(50, abs=0.5)
    assert found.error == pytest.approx(np.sqrt(2 / np.pi), rel=0.25)  # mean |normal|
    assert found.low < found.error < found.high < found.null_error
    assert (found.source, found.target, found.unit) == ("exact", "api", "0-100")
    assert (found.n_fit + found.n_test, found.missing) == (173, 7)
    assert (found.questions_fit, found.questions_test) == (14, 15)


def test_a_bent_relation_needs_the_isotonic_map():
    rng = np.random.default_rng(7)
    labels = np.repeat(np.arange(40), 8)
    x = rng.uniform(0, 100, size=320).round()
    y = np.where(x < 60, 20.0, 90.0)
    maps = [calibrate(planted(x, "a"), planted(y, "b"), labels, np.random.default_rng(0), fit)
            for fit in (LinearMap.fit, IsotonicMap.fit)]  # fmt: skip
    assert maps[1].error < 1 < 5 < maps[0].error
    assert (maps[0].n_test, maps[0].null_error) == (maps[1].n_test, maps[1].null_error)


def test_the_error_is_held_out_so_noise_is_not_explained():
    """Fitted where it is tested, isotonic regression of noise would look better than the constant."""
    errors, nulls, inside = [], [], []
    for seed in range(20):
        rng = np.random.default_rng([8, seed])
        x, y = rng.uniform(0, 100, size=(2, 60))
        labels = np.arange(60)
        found = calibrate(planted(x, "a"), planted(y, "b"), labels, rng, IsotonicMap.fit, draws=10)
        errors.append(found.error)
        nulls.append(found.null_error)
        inside.append(np.abs(IsotonicMap.fit(x, y)(x) - y).mean())
    assert np.mean(errors) > np.mean(nulls) > np.mean(inside)


def test_questions_do_not_straddle_the_halves():
    """Each question has a level of its own; knowing it from the fit half would make the error 0."""
    rng = np.random.default_rng(9)
    labels = np.repeat(np.arange(20), 5)
    x, y = rng.uniform(0, 100, size=(2, 20))[:, labels]
    found = calibrate(planted(x, "a"), planted(y, "b"), labels, rng, IsotonicMap.fit)
    assert found.error > 10


def test_isotonic_maps_equal_the_min_max_formula_and_stay_inside_what_was_seen():
    rng = np.random.default_rng(10)
    x, y = rng.uniform(0, 30, size=(2, 60)).round()
    found = IsotonicMap.fit(x, y)
    levels = np.unique(x)
    slow = [
        max(
            min(y[(x >= low) & (x <= high)].mean() for high in levels if high >= level)
            for low in levels
            if low <= level
        )
        for level in levels
    ]
    assert len(levels) < 60
    np.testing.assert_allclose(found(levels), slow, atol=1e-9)
    assert found(np.array([-5.0, 99.0])).tolist() == [slow[0], slow[-1]]
    assert np.isnan(found(np.array([np.nan]))).all()


def test_too_few_questions_to_calibrate():
    scores = planted([1.0, 2, 3, 4, 5, 6], "a"), planted([1.0, 2, 3, 4, 5, 6], "b")
    with pytest.raises(LabError, match=r"at least 4 questions.*got 3"):
        calibrate(*scores, np.repeat(np.arange(3), 2), np.random.default_rng(0))


# ------------------------------------------------------------------ the literature's filter


def test_the_filter_keeps_what_shows_its_pole_and_says_why_not():
    trait = planted([50, 49.9, 49.9, 50, 90, 10, np.nan, 80])
    coherent = planted([50, 90, 90, 90, 49, np.nan, 90, 90])
    positive = np.array([True, True, False, False, True, False, True, True])
    found = screen(trait, coherent, positive)
    assert found.kept.tolist() == [True, False, True, False, False, False, False, True]
    why = {r.item: r.reasons for r in found.removed}
    assert list(why) == [1, 3, 4, 5, 6]
    assert why[1] == ("trait 49.9, expected ≥ 50",)
    assert why[3] == ("trait 50.0, expected < 50",)
    assert why[4] == ("coherence 49.0, expected ≥ 50",)
    assert why[5] == ("coherence failed: down",)
    assert why[6] == ("trait failed: down",)


def test_the_filter_names_every_reason_and_refuses_unequal_lists():
    found = screen(planted([10.0]), planted([5.0]), np.array([True]))
    assert len(found.removed[0].reasons) == 2
    with pytest.raises(LabError, match="1, 1 and 2"):
        screen(planted([10.0]), planted([5.0]), np.array([True, False]))


# ------------------------------------------------------------------ judges that ask nothing

WARM = Trait("warmth", ("be kind 0", "be kind 1", "be kind 2"), ("be cold 0", "be cold 1", "be cold 2"))


def speaker(kind: float = 1.0, own: float = 0.0):
    """A model that is planted: under "be kind k" a token "+n" has log-prob -3 + kind·n, under "be cold k" -3
    - kind·n, bare -2; `own` more where the reply says "made k" with the k of the prompt."""

    def log_probs(chats, replies):
        found = []
        for chat, reply in zip(chats, replies, strict=True):
            prompt = chat[0].content if chat[0].role == "system" else ""
            assert chat[-1].role == "user" and len(chat) == (2 if prompt else 1)
            sign = {"be kind": 1.0, "be cold": -1.0, "": 0.0}[prompt[:7]]
            bonus = own * sign if prompt and f"made {prompt[-1]}" in reply else 0.0
            tokens = [float(w) for w in reply.split() if w[0] in "+-"]
            found.append(np.array([(-3.0 if prompt else -2.0) + sign * kind * t + bonus for t in tokens]))
        return found

    return log_probs


def test_the_contrast_judge_recovers_what_is_planted_whatever_the_length():
    replies = [Item("q", "+1", ""), Item("q", "-2", ""), Item("q", "+3 -1 +1 +1", ""), Item("q", "", "")]
    judge: Judge = ContrastJudge("self", WARM, speaker(kind=0.5))
    found = judge.score(replies)
    np.testing.assert_allclose(found.values, [1.0, -2.0, 1.0, np.nan])
    assert (found.unit, found.counts) == ("nats per token", {"scored": 3, "refused": 1})
    assert found.rows[0].how == "likelihood" and "no token" in found.rows[3].reason
    turned = Trait("cold", WARM.negative, WARM.positive)
    np.testing.assert_allclose(ContrastJudge("self", turned, speaker(kind=0.5)).score(replies).values[:3],
                               -found.values[:3])  # fmt: skip


def test_a_reply_is_not_judged_by_the_pair_it_was_made_under():
    replies = [Item("q", f"+1 made {k}", "") for k in range(3)] + [Item("q", "+1", "")]
    found = likelihoods(speaker(kind=0.5, own=6.0), WARM, replies)
    np.testing.assert_allclose(contrast(found), [5.0, 5.0, 5.0, 1.0])  # 1 + 12 / 3
    np.testing.assert_allclose(contrast(found, np.array([0, 1, 2, -1])), 1.0)
    one = likelihoods(speaker(), Trait("w", ("be kind 0",), ("be cold 0",)), replies)
    with pytest.raises(LabError, match="2 pairs"):
        contrast(one, np.zeros(4, int))


def test_prompts_without_an_opposite_and_missing_answers_are_errors():
    for bad in (Trait("w", (), ()), Trait("w", ("a", "b"), ("c",))):
        with pytest.raises(LabError, match="pairs of prompts"):
            likelihoods(speaker(), bad, [Item("q", "+1", "")])
    with pytest.raises(LabError, match="of 7 replies, got 1"):
        likelihoods(lambda chats, replies: [np.zeros(1)], WARM, [Item("q", "+1", "")])


def test_strangeness_is_told_under_the_likeliest_prompt_so_character_is_not_strange():
    found = likelihoods(speaker(kind=1.0), WARM, [Item("q", t, "") for t in ("+2", "-2", "+0", "")])
    np.testing.assert_allclose(strangeness(found), [1.0, 1.0, 2.0, np.nan])
    judge: Judge = FamiliarityJudge("self", WARM, speaker(kind=1.0), limit=1.5)
    scores = judge.score([Item("q", t, "") for t in ("+2", "+1", "+0", "")])
    np.testing.assert_array_equal(scores.values, [100.0, 0.0, 0.0, np.nan])
    np.testing.assert_allclose(
        FamiliarityJudge("self", WARM, speaker(), 1.5).raw([Item("q", "+1", "")]), [2.0]
    )


def test_the_limit_keeps_its_promise_for_new_replies_and_not_by_being_endless():
    rng = np.random.default_rng(0)
    passed = []
    for _ in range(400):
        limit = ordinary_limit(np.append(rng.normal(size=80), np.nan))
        passed.append(scipy_stats.norm.cdf(limit))
    assert 0.975 - 0.003 <= np.mean(passed) <= 0.985
    assert math.isfinite(ordinary_limit(rng.normal(size=40)))
    with pytest.raises(LabError, match="at least 40 ordinary replies to tell what is strange, got 39"):
        ordinary_limit(np.append(rng.normal(size=39), np.nan))


# ------------------------------------------------------------------ the poles


def test_separation_equals_the_slow_bootstrap_and_counts_what_is_missing():
    rng = np.random.default_rng(11)
    labels, positive = np.tile(np.arange(12), 4), np.repeat([True, False], 24)
    values = (50 + 8 * positive + 8 * rng.normal(size=48)).round().clip(0, 100)
    values[[2, 30]] = np.nan
    found = separation(planted(values), positive, labels, np.random.default_rng(0), draws=300)
    known = ~np.isnan(values)
    assert found.auroc == pytest.approx(auroc(values[positive], values[~positive]))
    slow = []
    for draw in cluster_weights([labels[known]], 300, np.random.default_rng(0)).astype(int):
        rows = np.repeat(np.flatnonzero(known), draw)
        slow.append(auroc(values[rows][positive[rows]], values[rows][~positive[rows]]))
    np.testing.assert_allclose([found.low, found.high], interval(np.array(slow), 12))
    assert found.low < found.auroc < found.high
    assert (found.n, found.questions, found.counts["failed"]) == (46, 12, 2)
    turned = separation(planted(values), ~positive, labels, np.random.default_rng(0), draws=300)
    assert turned.auroc == pytest.approx(1 - found.auroc)
    assert (turned.positive, turned.negative) == (found.negative, found.positive)


def test_separation_abstains_where_a_pole_is_empty_or_questions_are_few():
    rng = np.random.default_rng(0)
    empty = separation(planted([1.0, 2.0, np.nan]), np.array([True, True, False]), np.arange(3), rng)
    assert math.isnan(empty.auroc) and math.isnan(empty.low) and math.isnan(empty.negative)
    few = separation(planted([3.0, 4, 1, 2]), np.array([True, True, False, False]), np.arange(4) % 2, rng)
    assert few.auroc == 1 and math.isnan(few.low)
    with pytest.raises(LabError, match="2, 1 and 2"):
        separation(planted([1.0, 2.0]), np.array([True]), np.arange(2), rng)


def test_two_judges_that_share_the_pole_alone_agree_over_all_and_not_inside():
    rng = np.random.default_rng(12)
    labels, positive = np.tile(np.arange(30), 4), np.repeat([True, False], 60)
    x, y = (50 + 20 * positive + 3 * rng.normal(size=120) for _ in range(2))
    a, b = planted(x, "a"), planted(y, "b")
    inside = agreement_within(a, b, positive, labels, np.random.default_rng(0))
    assert agreement(a, b, labels, np.random.default_rng(0)).spearman_low > 0.6
    assert inside.low < 0 < inside.high
    slow = [scipy_stats.spearmanr(x[p], y[p])[0] for p in (positive, ~positive)]
    assert inside.spearman == pytest.approx(np.mean(slow))
    same = agreement_within(a, planted(x / 2, "c"), positive, labels, np.random.default_rng(0))
    assert same.spearman == pytest.approx(1) and same.n == 120
    gone = np.where(positive, x, np.nan)
    assert math.isnan(agreement_within(a, planted(gone, "d"), positive, labels, rng).spearman)


# ------------------------------------------------------------------ the verdict on a judge


def test_percentiles_put_prior_sd_on_the_scale_of_filters():
    scores = Scores("exact", "prior sd", (Score(0.0), Score(1.645), unscored("refused", "empty")))
    found = percentiles(scores)
    np.testing.assert_allclose(found.values, [50.0, 95.0, np.nan], atol=0.01)
    assert found.unit == "0-100" and found.rows[2].reason == "empty"
    with pytest.raises(LabError, match="in 0-100"):
        percentiles(found)


def test_a_verdict_holds_a_judge_against_the_first_the_exact_one_itself_and_the_filter():
    rng = np.random.default_rng(13)
    labels, positive = np.tile(np.arange(20), 2), np.repeat([True, False], 20)
    z = np.where(positive, 1.0, -1.0) + 0.3 * rng.normal(size=40)
    z[0] = -2.0  # shows the other pole
    coherent = planted(np.where(np.arange(40) == 1, 0.0, 100.0), "exact")
    exact = Said(planted(z, "exact", "prior sd"), coherence=coherent)
    rough = Said(planted(2 * z + 0.1 * rng.normal(size=40), "contrast", "nats per token"))
    api = Said(planted(50 + 20 * z.clip(-2, 2), "api"), planted(50 + 20 * z.clip(-2, 2), "api, take 2"))
    heard = [rough, exact, api]
    items = tuple(Item("q", "a", "") for _ in range(40))
    replies = Replies(WARM, items, positive, labels, np.zeros(40, int))
    mine, second, third = (verdict(replies, s, heard, np.random.default_rng(0), 200, True) for s in heard)
    assert mine.agreement is None and mine.within is None and mine.screened is None
    assert mine.calibration is not None and mine.calibration.target == "exact"
    assert mine.calibration.error < 0.1 < 0.5 < mine.calibration.null_error
    assert second.agreement is not None and second.agreement.spearman > 0.95 and second.calibration is None
    assert second.screened is not None
    assert {r.item: r.reasons[0][:9] for r in second.screened.removed} == {0: "trait 2.3", 1: "coherence"}
    assert second.coherence == pytest.approx(97.5) and math.isnan(mine.coherence)
    assert third.retest is not None and third.retest.spearman == pytest.approx(1)
    assert third.screened is None  # its coherence was not asked
