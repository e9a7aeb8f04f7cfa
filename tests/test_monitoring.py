"""Drift: planted shifts are found, promised rates are kept on new conversations, baselines are fair."""

from dataclasses import replace

import numpy as np
import pytest

from lab.monitoring import (
    Ordinary,
    false_alarms,
    follow,
    joint_threshold,
    leaning,
    learn,
    least_threshold,
    length,
    quality,
    set_threshold,
    token_band,
    word_list,
    word_score,
)
from lab.records import LabError


def talks(rng, n, turns=12, shift=0.0, onset=5, trend=0.0):
    """Conversations with their own start, noise of sd 1 and a shift from `onset` on."""
    start = 5 * rng.normal(size=(n, 1))
    course = trend * np.arange(turns)
    moved = shift * (np.arange(turns) >= onset)
    return list(start + course + moved + rng.normal(size=(n, turns)))


def test_a_scaffold_that_starts_elsewhere_is_not_drift():
    rng = np.random.default_rng(0)
    ordinary = learn(talks(rng, 200))
    deviation = ordinary.deviation(100 + rng.normal(size=12))
    assert np.isnan(deviation[0])
    assert np.abs(deviation[1:]).max() < 4


def test_ordinary_deviations_are_standard():
    rng = np.random.default_rng(1)
    ordinary = learn(talks(rng, 300, trend=0.7))
    np.testing.assert_allclose(np.diff(ordinary.course), 0.7, atol=0.35)
    new = np.array([ordinary.deviation(c)[1:] for c in talks(rng, 400, trend=0.7)])
    np.testing.assert_allclose(new.mean(axis=0), 0.0, atol=0.25)
    np.testing.assert_allclose(new.std(axis=0), 1.0, atol=0.12)
    assert np.mean(np.abs(new) <= ordinary.reach) == pytest.approx(0.95, abs=0.02)


def test_a_turn_is_expected_where_the_turns_before_it_were():
    ordinary = Ordinary(np.array([0.0, 1.0, 2.0]), 2.0, 2.0, 100)
    mean, sd = ordinary.expected(np.array([5.0, np.nan, 9.0, 4.0]))
    np.testing.assert_allclose(mean, [np.nan, 6.0, 7.0, 8.0])  # 5 and 9 - 2 make 6, and 2 from the course
    np.testing.assert_allclose(sd, [np.nan, 2 * 2**0.5, 2 * 2**0.5, 2 * 1.5**0.5])


def test_an_anchored_series_is_held_against_its_level_as_far_as_conversations_agree_in_it():
    ordinary = Ordinary(np.zeros(3), 1.0, 2.0, 100, level=4.0, weight=3.0)
    mean, sd = ordinary.expected(np.array([8.0, 4.0, 0.0]))
    np.testing.assert_allclose(mean, [4.0, 4 + 4 / 4, 4 + 4 / 5])  # 8 is one turn against three at 4
    np.testing.assert_allclose(sd, np.sqrt([1 + 1 / 3, 1 + 1 / 4, 1 + 1 / 5]))
    fixed = Ordinary(np.zeros(3), 1.0, 2.0, 100, level=4.0, weight=np.inf)
    np.testing.assert_allclose(fixed.deviation(np.array([8.0, 4.0, 0.0])), [4.0, 0.0, -4.0])


def test_how_far_conversations_agree_is_learned():
    rng = np.random.default_rng(8)
    spread = [3 + tau * rng.normal() + rng.normal(size=10) for tau in [0.5] * 2000]
    learned = learn(spread, anchored=True)
    assert learned.level == pytest.approx(3.0, abs=0.1)
    assert learned.weight == pytest.approx(4.0, rel=0.25)
    assert learn([3 + rng.normal(size=10) for _ in range(2000)], anchored=True).weight > 50
    assert learn(talks(rng, 500), anchored=True).weight < 0.1  # they start anywhere: nothing to hold on to
    assert learn(spread).weight == 0.0


def test_a_level_that_is_known_finds_more_than_one_that_must_be_found():
    rng = np.random.default_rng(9)

    def noise(n, shift=0.0):
        return [rng.normal(size=10) + shift * (np.arange(10) >= 3) for _ in range(n)]

    plain, drifting, found = noise(300), noise(300, 1.0), {}
    for anchored in (True, False):
        ordinary = learn(plain[:100], anchored)
        threshold = set_threshold(plain[100:200], ordinary)
        found[anchored] = quality(drifting, [3] * 300, plain[200:], ordinary, threshold, 1.0, rng, 50).auroc
    assert found[True] > found[False] + 0.1


def test_a_lasting_shift_adds_up_and_a_single_outlier_does_not():
    ordinary = Ordinary(np.zeros(12), 1.0, 2.0, 100)
    lasting = np.array([0.0] * 6 + [1.5] * 6)
    (alarm, *_) = follow(lasting, ordinary, threshold=2.0).alarms
    assert 7 <= alarm <= 8
    assert follow(lasting, ordinary, threshold=2.0).up[alarm] > 2.0
    once = np.zeros(12)
    once[5] = 2.3
    assert follow(once, ordinary, threshold=2.0).alarms == ()
    assert follow(-lasting, ordinary, threshold=2.0).alarms[0] == alarm
    assert follow(lasting, ordinary).peak > follow(once, ordinary).peak


def ratios(x, push):
    """Log-likelihood ratios [turn, 2] of normal turns with mean ± push against mean 0."""
    return np.stack([push * x - push**2 / 2, -push * x - push**2 / 2], axis=-1)


def test_ratios_add_up_less_the_level_of_the_turns_before_the_sum_began():
    ordinary = Ordinary(np.array([0.0, 0.5]), 1.0, 2.0, 100, level=0.25, weight=2.0)
    series = np.array([[-1.0, -1.0], [np.nan, np.nan], [2.0, -3.0], [2.0, -3.0], [1.0, -1.0]])
    assert leaning(series).tolist()[2:] == [2.5, 2.5, 1.0]
    course = follow(series, ordinary)
    # The first turn leans to no side where .25 is usual: a third of it is what the second is held against.
    level = (0 - 0.25) / 3
    step = 2.0 - 0.75 - level
    np.testing.assert_allclose(course.up, [0, 0, step, 2 * step, 2 * step + 1 - 0.75 - level])
    # The sum down begins with the last turn, held against the two before it that leant up.
    level = (0 - 0.25 + 2 * (2.5 - 0.75)) / 5
    np.testing.assert_allclose(course.down, [0, 0, 0, 0, -1 + 0.75 + level])
    np.testing.assert_allclose(course.deviation, ordinary.deviation(leaning(series)))
    mirrored = replace(ordinary, course=-ordinary.course, level=-ordinary.level)
    np.testing.assert_allclose(follow(series[:, ::-1], mirrored).down, course.up)


def test_ratios_find_a_shift_sooner_than_their_lean_and_keep_the_promise():
    """Conversations that leave a trait more open than others vary more: ratios know that, one number does not."""
    rng = np.random.default_rng(14)

    def some(n, shift=0.0):
        push = rng.choice([0.7, 2.0], size=(n, 1))
        x = rng.normal(size=(n, 12)) + push * shift * (np.arange(12) >= 5)
        return list(ratios(x, push))

    plain, drifting = some(900), some(300, 1.0)
    found = {}
    for name, read in (("ratios", lambda c: c), ("lean", leaning)):
        one = [read(c) for c in plain]
        ordinary = learn(one[:200], anchored=True)
        threshold = set_threshold(one[200:600], ordinary)
        moved = [read(c) for c in drifting]
        found[name] = quality(moved, [5] * 300, one[600:], ordinary, threshold, 1.0, rng, 50)
    assert found["ratios"].auroc > found["lean"].auroc + 0.05
    assert found["ratios"].false_alarms == pytest.approx(1.0, abs=0.6)


@pytest.mark.parametrize("push", [0.2, 1.0, 3.0])
def test_the_least_threshold_keeps_the_promise_however_long_the_conversation(push):
    """What the level makes of them left aside: ratios of a model's own words, whatever the push."""
    rng = np.random.default_rng(15)
    ordinary = Ordinary(np.zeros(1), 1.0, 2.0, 100, weight=np.inf)
    own = list(ratios(rng.normal(size=(60, 1000)), push))
    for promised in (1.0, 5.0):
        assert false_alarms(own, ordinary, least_threshold(promised)) <= promised
    assert false_alarms(own, ordinary, np.log(2.0)) > 3
    other = list(ratios(rng.normal(size=(60, 1000)), push))
    both = least_threshold(5.0, series=2)
    raised = {(k, t) for x in (own, other) for k, c in enumerate(x) for t in follow(c, ordinary, both).alarms}
    assert 100 * len(raised) / 60_000 <= 5.0


def test_sums_start_anew_after_an_alarm():
    ordinary = Ordinary(np.zeros(3), 1.0, 2.0, 100)
    course = follow(np.array([0.0, 9.0, 4.5]), ordinary, threshold=2.0)
    assert course.alarms == (1,)
    assert course.up[2] == 0.0


def test_a_turn_without_a_reply_changes_nothing():
    ordinary = Ordinary(np.zeros(5), 1.0, 2.0, 100)
    with_gap = follow(np.array([0.0, 2.0, np.nan, 2.0]), ordinary)
    without = follow(np.array([0.0, 2.0, 2.0]), ordinary)
    assert with_gap.up.tolist() == [*without.up[:2], without.up[1], without.up[2]]


def test_the_promised_rate_is_kept_on_new_conversations():
    rng = np.random.default_rng(3)
    rates = []
    for _ in range(30):
        ordinary = learn(talks(rng, 60))
        threshold = set_threshold(talks(rng, 60), ordinary, promised=2.0)
        rates.append(false_alarms(talks(rng, 200), ordinary, threshold))
    assert np.mean(rates) == pytest.approx(2.0, abs=0.5)
    with pytest.raises(LabError, match="at least 100 ordinary turns"):
        set_threshold(talks(rng, 3), ordinary, promised=1.0)
    for none in (0.0, 100.0, np.nan):
        with pytest.raises(LabError, match="above 0 and below 100"):
            set_threshold(talks(rng, 60), ordinary, promised=none)
        with pytest.raises(LabError, match="above 0 and below 100"):
            least_threshold(none)


def test_a_threshold_from_few_turns_keeps_its_promise_on_average():
    """120 turns, 1 promised: the second largest peak as threshold would be passed by 2 of 121 new turns."""
    rng, rates = np.random.default_rng(10), []
    for _ in range(40):
        ordinary = Ordinary(np.zeros(1), 1.0, 2.0, 100, weight=np.inf)
        threshold = set_threshold(list(rng.normal(size=(120, 1))), ordinary)
        rates.append(false_alarms(list(rng.normal(size=(2000, 1))), ordinary, threshold))
    assert np.mean(rates) == pytest.approx(100 / 121, abs=0.3)  # sd of the mean .13
    values = np.arange(120.0)[:, None]
    flat = Ordinary(np.zeros(1), 1.0, 2.0, 100, weight=np.inf)
    assert false_alarms(list(values), flat, set_threshold(list(values), flat)) == 0.0
    assert false_alarms(list(values), flat, set_threshold(list(values), flat, 2.0)) == pytest.approx(
        100 / 120
    )


def test_one_threshold_for_several_series_counts_turns_with_an_alarm_in_any():
    rng = np.random.default_rng(11)
    ordinary = learn(talks(rng, 100))
    one, other = talks(rng, 150), talks(rng, 150)
    alone = [set_threshold(x, ordinary) for x in (one, other)]
    both = joint_threshold([one, other], [ordinary] * 2)
    assert both >= max(alone)
    assert joint_threshold([one, one], [ordinary] * 2) == pytest.approx(alone[0])
    new = [talks(rng, 2000) for _ in range(2)]
    turns = 2000 * 12
    raised = {(k, t) for x in new for k, c in enumerate(x) for t in follow(c, ordinary, both).alarms}
    assert 100 * len(raised) / turns == pytest.approx(1.0, abs=0.4)


def test_the_band_of_tokens_holds_nineteen_of_twenty():
    rng = np.random.default_rng(12)
    band = token_band([(3 + 2 * rng.normal(size=n)).tolist() for n in (0, 4000, 6000)])
    assert (band.mean, band.sd, band.n) == (pytest.approx(3, abs=0.1), pytest.approx(2, abs=0.1), 10_000)
    assert (band.low, band.high) == (pytest.approx(3 - 3.92, abs=0.2), pytest.approx(3 + 3.92, abs=0.2))
    assert np.isnan(token_band([(), ()]).mean)


def test_planted_drift_is_found_and_no_drift_is_chance():
    rng = np.random.default_rng(4)
    ordinary = learn(talks(rng, 100))
    threshold = set_threshold(talks(rng, 100), ordinary, 1.0)
    plain = talks(rng, 150)
    found = quality(talks(rng, 100, shift=3.0), [5] * 100, plain, ordinary, threshold, 1.0, rng, 300)
    assert found.low <= found.auroc <= found.high
    assert found.auroc > 0.98
    assert found.found > 0.9
    assert 0 <= found.delay <= 3
    nothing = quality(talks(rng, 100), [5] * 100, plain, ordinary, threshold, 1.0, rng, 300)
    assert nothing.low < 0.5 < nothing.high


def test_too_few_or_constant_conversations_are_refused():
    rng = np.random.default_rng(5)
    with pytest.raises(LabError, match="at least 10 ordinary conversations"):
        learn(talks(rng, 9))
    with pytest.raises(LabError, match="that vary"):
        learn([np.ones(5)] * 12)


def test_the_word_list_weighs_words_by_the_pole_they_belong_to():
    warm = ["my dear friend, I am glad", "dear one, so glad you came"] * 5
    cold = ["the matter is noted", "noted; the form is filed"] * 5
    weights = word_list(warm, cold, size=3)
    assert weights["dear"] > 2
    assert weights["noted"] < -2
    assert word_score("dear dear", weights) > 2 > -2 > word_score("Noted.", weights)
    assert np.isnan(word_score("...", weights))
    assert length("One, two three!") == 3
    with pytest.raises(LabError, match="with words at both poles"):
        word_list(["..."], ["!"])
