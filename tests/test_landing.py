"""Landing: planted truth, invariance, and calibration of every interval, test and floor by simulation.

Simulated rows: level of the condition + effect of this wording + effect of the question (sd .5, shared
by all conditions and both models) + question × condition (sd .3) + question × condition × wording
(sd .2) + sampling noise (sd .4); poles at ±1.5, three wordings, three prompts per pole.
"""

from dataclasses import replace

import numpy as np
import pytest
from jaxtyping import TypeCheckError
from scipy import stats as scipy_stats

from lab.landing import Projections, anchors, has_unit, interactions, landings, noise_floor
from lab.records import LabError
from lab.stats import cluster_weights, interval

LEVELS = np.array([0.0, 1.0, -0.7, 2.0])


def effects(rng, scaffolds=4, questions=12, wordings=3):
    """What the questions do: [condition, wording, question], conditions are 3 anchors + scaffolds."""
    own = 0.2 * rng.normal(size=(3 + scaffolds, wordings, questions))
    return 0.5 * rng.normal(size=questions) + 0.3 * rng.normal(size=(3 + scaffolds, 1, questions)) + own


def world(rng, levels=LEVELS, wording=None, asked=None, poles=(-1.5, 0.0, 1.5), model="A", questions=12):
    """Projections of one simulated model; `wording` [scaffold, 3] and `asked` (effects) may be shared."""
    wording = np.zeros((len(levels), 3)) if wording is None else wording
    asked = effects(rng, len(levels), questions) if asked is None else asked
    names = ["negative", "neutral", "positive", *(f"s{i}" for i in range(len(levels)))]
    shift = np.concatenate([np.repeat(np.array(poles)[:, None], 3, 1), levels[:, None] + wording])
    value = shift[:, :, None] + asked + 0.4 * rng.normal(size=asked.shape)
    c, w, q = (x.ravel() for x in np.indices(value.shape))
    rows = (c != 1) | (w == 0)  # neutral is one wording: no scaffold
    return Projections(
        model, "warmth", "reply_mean", 3, "test",
        value.ravel()[rows], np.array(names)[c[rows]], w[rows], q[rows], np.zeros((rows.sum(), 0)),
    )  # fmt: skip


def with_values(p, value, null=None):
    return replace(p, value=value, null_value=p.null_value if null is None else null)


def by_key(found):
    return {(x.scaffold, x.paraphrase): x for x in found}


def test_landing_recovers_planted_levels_in_half_ranges():
    rng = np.random.default_rng(0)
    wording = 0.3 * rng.normal(size=(4, 3))
    found = by_key(landings(world(rng, wording=wording, questions=400), rng, 50))
    for i, level in enumerate(LEVELS):
        assert found[f"s{i}", -1].L == pytest.approx((level + wording[i].mean()) / 1.5, abs=0.08)
        for j in range(3):
            assert found[f"s{i}", j].L == pytest.approx((level + wording[i, j]) / 1.5, abs=0.1)
    one = found["s1", -1]
    assert (one.n, found["s1", 0].n, one.split, one.layer) == (1200, 400, "test", 3)
    assert one.low < one.L < one.high
    assert 0.5 < one.d_prime < 2.5


def test_a_scaffold_at_a_pole_lands_at_one_and_an_empty_one_at_zero():
    rng = np.random.default_rng(31)
    found = by_key(landings(world(rng, np.array([1.5, 0.0, -1.5]), questions=400), rng, 100))
    for name, expected in (("s0", 1.0), ("s1", 0.0), ("s2", -1.0)):
        assert found[name, -1].L == pytest.approx(expected, abs=0.08)
        assert found[name, -1].high - found[name, -1].low < 0.2


def test_landing_agrees_with_the_formula_written_out():
    rng = np.random.default_rng(1)
    p = world(rng)
    mean = {c: p.value[p.condition == c].mean() for c in np.unique(p.condition)}
    found = by_key(landings(p, rng, 10))
    for name in p.scaffolds:
        expected = (mean[name] - mean["neutral"]) / ((mean["positive"] - mean["negative"]) / 2)
        assert found[name, -1].L == pytest.approx(expected)
    a = anchors(p)
    for name in ("negative", "neutral", "positive"):
        assert getattr(a, name) == pytest.approx(mean[name])
    assert a.unit == pytest.approx((mean["positive"] - mean["negative"]) / 2)


@pytest.mark.parametrize(("scale", "offset"), [(250.0, 0.0), (1.0, 40.0), (-3.0, 7.0)])
def test_landing_has_no_scale_no_origin_and_no_sign(scale, offset):
    rng = np.random.default_rng(2)
    p = world(rng)
    p = with_values(p, p.value, rng.normal(size=(len(p.value), 60)))
    # An offset moves every null direction on its own; a sign turns the band around with its edges.
    moved = abs(scale) * p.null_value + offset * np.arange(60)
    one = landings(p, np.random.default_rng(3), 200)
    two = landings(
        with_values(p, scale * p.value + offset, np.sign(scale) * moved), np.random.default_rng(3), 200
    )
    for x, y in zip(one, two, strict=True):
        np.testing.assert_allclose([x.L, x.low, x.high], [y.L, y.low, y.high], atol=1e-9)
        np.testing.assert_allclose([x.null_low, x.null_high], [y.null_low, y.null_high], atol=1e-9)
        assert abs(x.d_prime) == pytest.approx(abs(y.d_prime))


def test_landing_is_unchanged_when_model_and_direction_rotate():
    rng = np.random.default_rng(4)
    p = world(rng)
    states = np.concatenate([p.value[:, None], rng.normal(size=(len(p.value), 9))], axis=1)
    v, turn = np.eye(10)[0], np.linalg.qr(rng.normal(size=(10, 10)))[0]
    turned = with_values(p, (states @ turn) @ (v @ turn))
    for x, y in zip(
        landings(p, np.random.default_rng(5), 100),
        landings(turned, np.random.default_rng(5), 100),
        strict=True,
    ):
        np.testing.assert_allclose([x.L, x.low, x.high], [y.L, y.low, y.high], atol=1e-9)


def test_half_pole_range_is_stable_where_positive_minus_neutral_explodes():
    """Neutral at the positive pole (trait "assistant"): median 95 % width over 400 worlds, measured.

    | unit                       | neutral in the middle | neutral at the positive pole |
    |----------------------------|-----------------------|------------------------------|
    | positive − neutral         | 0.75                  | 170 (median |L| 5.2)         |
    | (positive − negative) / 2  | 0.54                  | 0.56                         |
    """
    rng = np.random.default_rng(6)

    def widths(poles):
        first, second = [], []
        for _ in range(200):
            p = world(rng, levels=np.array([-0.7]), poles=poles)
            per_question = {
                c: np.array([p.value[(p.condition == c) & (p.question == q)].mean() for q in range(12)])
                for c in np.unique(p.condition)
            }
            weights = cluster_weights([np.arange(12)], 300, rng)
            gap = weights @ (per_question["s0"] - per_question["neutral"])
            low, high = interval(gap / (weights @ (per_question["positive"] - per_question["neutral"])), 12)
            first.append(high - low)
            ours = landings(p, rng, 300)[0]
            second.append(ours.high - ours.low)
        return np.median(first), np.median(second)

    middle = widths((-1.5, 0.0, 1.5))
    at_pole = widths((-3.0, 0.0, 0.0))
    assert middle[0] < 1
    assert middle[1] < 1
    assert at_pole[0] > 20 * middle[0]
    assert at_pole[1] < 1.3 * middle[1]


def test_landing_interval_coverage():
    """Share of 95 % intervals of L with the true L of these wordings (400 worlds, 500 draws, measured).

    | questions, poles | mean over wordings | one wording |
    |------------------|--------------------|-------------|
    | 5, ±1.5          | .902               | .906        |
    | 6, ±1.5          | .922               | .925        |
    | 8, ±1.5          | .928               | .930        |
    | 12, ±1.5         | .956               | .952        |
    | 12, ±0.4 (weak)  | .962               | .956        |
    | 20, ±1.5         | .936               | .937        |

    With 5 questions the interval is a little short; ask 8 or more.
    """
    rng = np.random.default_rng(7)
    inside = []
    for _ in range(200):
        wording = 0.3 * rng.normal(size=(4, 3))
        for (name, paraphrase), x in by_key(landings(world(rng, wording=wording), rng, 400)).items():
            i = int(name[1:])
            effect = wording[i].mean() if paraphrase == -1 else wording[i, paraphrase]
            inside.append(x.low <= (LEVELS[i] + effect) / 1.5 <= x.high)
    assert 0.92 <= np.mean(inside) <= 0.98


def test_same_model_sampled_twice_has_no_interaction():
    """One model sampled twice (questions and wordings shared, own sampling noise): measured, 400 worlds.

    | questions, poles | interval of D covers 0 | p ≤ .05 | p ≤ .01 |
    |------------------|------------------------|---------|---------|
    | 5, ±1.5          | .897                   | 0       | 0       |
    | 6, ±1.5          | .937                   | .026    | 0       |
    | 8, ±1.5          | .925                   | .049    | .011    |
    | 12, ±1.5         | .950                   | .043    | .005    |
    | 12, ±0.4 (weak)  | .955                   | .016    | .001    |
    | 20, ±1.5         | .929                   | .062    | .015    |

    (5 questions cannot reach p < .05.)
    """
    rng = np.random.default_rng(8)
    covered, p = [], []
    for _ in range(200):
        asked, wording = effects(rng), 0.3 * rng.normal(size=(4, 3))
        a, b = (world(rng, wording=wording, asked=asked, model=m) for m in "AB")
        for cell in interactions([a], [b], rng, 400):
            covered.append(cell.low <= 0 <= cell.high)
            p.append(cell.p)
    assert 0.92 <= np.mean(covered) <= 0.98
    # Cells of one world share anchors, so the band is that of 200 worlds, not of 800 cells.
    low, high = scipy_stats.binom.interval(0.99, 200, 0.05)
    assert low / 200 <= np.mean(np.array(p) <= 0.05) <= high / 200


def test_p_of_one_model_sampled_twice_is_uniform():
    rng = np.random.default_rng(32)
    p = []
    for _ in range(250):  # one cell per world, because cells of a world share their anchors
        asked = effects(rng, 1)
        a, b = (world(rng, levels=LEVELS[1:2], asked=asked, model=m) for m in "AB")
        p.append(interactions([a], [b], rng, 2)[0].p)
    assert scipy_stats.kstest(p, "uniform").pvalue > 0.01


def test_interaction_finds_a_planted_difference_and_its_sign():
    rng = np.random.default_rng(9)
    asked = effects(rng, questions=20)
    moved = LEVELS + np.array([0.0, 1.2, 0.0, 0.0])
    a = world(rng, levels=moved, asked=asked)
    # B lives on another scale and origin: units take that out.
    b = world(rng, asked=asked, model="B")
    b = with_values(b, 80 * b.value - 5)
    found = {x.scaffold: x for x in interactions([a], [b], rng, 500)}
    assert found["s1"].D == pytest.approx(0.8, abs=0.25)
    assert found["s1"].low > 0.4
    assert found["s1"].q < 0.01
    assert found["s0"].q > found["s1"].q
    assert found["s1"].n == 20
    back = {x.scaffold: x for x in interactions([b], [a], rng, 500)}
    assert back["s1"].D == pytest.approx(-found["s1"].D)
    L = {m: by_key(landings(p, rng, 5)) for m, p in (("a", a), ("b", b))}
    assert found["s2"].D == pytest.approx(L["a"]["s2", -1].L - L["b"]["s2", -1].L)


def test_q_is_over_all_traits_and_scaffolds():
    rng = np.random.default_rng(10)
    pairs = [(world(rng), world(rng, model="B")) for _ in range(3)]
    pa = [replace(a, trait=f"t{i}") for i, (a, _) in enumerate(pairs)]
    pb = [replace(b, trait=f"t{i}") for i, (_, b) in enumerate(pairs)]
    found = interactions(pa, pb, rng, 50)
    assert len(found) == 12
    expected = scipy_stats.false_discovery_control([x.p for x in found])
    np.testing.assert_allclose([x.q for x in found], expected)


def test_noise_floor_holds_for_new_wordings():
    """Two further wordings of a scaffold stay inside difference_95 (400 worlds, 4 scaffolds × 3).

    With t(.975, 8): .942–.955 over 5 to 20 questions; with 1.96 instead: .908–.921.
    """
    rng = np.random.default_rng(11)
    ours, normal = [], []
    for _ in range(250):
        floor = noise_floor(world(rng, wording=0.3 * rng.normal(size=(4, 3))))
        new = by_key(landings(world(rng, wording=0.3 * rng.normal(size=(4, 3))), rng, 2))
        for i in range(4):
            difference = abs(new[f"s{i}", 0].L - new[f"s{i}", 1].L)
            ours.append(difference <= floor.difference_95)
            normal.append(difference <= 1.96 * np.sqrt(2) * floor.paraphrase_sd)
    assert 0.92 <= np.mean(ours) <= 0.98
    assert np.mean(normal) < np.mean(ours)
    assert floor.n == 12


def test_null_band_on_permuted_directions():
    rng = np.random.default_rng(12)
    p = world(rng, levels=np.array([0.0, 3.0]))
    # Unrelated directions of equal norm: rows vary as much, conditions do not differ.
    p = with_values(p, p.value, rng.normal(size=(len(p.value), 400)))
    found = by_key(landings(p, rng, 50))
    strong = found["s1", -1]
    assert strong.null_low < 0 < strong.null_high < strong.L
    assert found["s0", -1].null_low < found["s0", -1].L < found["s0", -1].null_high
    # In the band's own scale: sd of a difference of means over 36 and 12 rows, in true units.
    expected = 1.96 * np.sqrt(1 / 36 + 1 / 12) / anchors(p).unit
    assert strong.null_high == pytest.approx(expected, rel=0.25)


def test_null_band_false_positive_rate():
    """300 worlds in which v is itself an unrelated direction: L leaves the band in about 5 %.

    Poles get a large known gap so that there is a unit; scaffold rows are pure noise for v and nulls.
    """
    rng = np.random.default_rng(13)
    outside = 0
    for _ in range(300):
        p = world(rng, levels=np.array([0.0]))
        noise = rng.normal(size=(len(p.value), 101))
        anchor = 5.0 * ((p.condition == "positive") * 1.0 - (p.condition == "negative"))
        x = landings(with_values(p, noise[:, 0] + anchor, noise[:, 1:]), rng, 5)[0]
        outside += not x.null_low <= x.L <= x.null_high
    low, high = scipy_stats.binom.interval(0.999, 300, 0.06)
    assert low <= outside <= high


def test_no_unit_means_nan_and_a_reason():
    rng = np.random.default_rng(14)
    flat = world(rng, poles=(0.0, 0.0, 0.0))
    flat = with_values(flat, flat.value, rng.normal(size=(len(flat.value), 20)))
    assert not has_unit(flat)
    assert has_unit(world(rng))
    x = landings(flat, rng, 50)[0]
    assert np.isnan([x.L, x.low, x.high, x.null_low, x.null_high]).all()
    assert np.isfinite(x.d_prime)
    cell = interactions([flat], [world(rng, model="B")], rng, 50)[0]
    assert np.isnan([cell.D, cell.low, cell.high, cell.p, cell.q]).all()
    assert np.isnan(noise_floor(flat).difference_95)
    assert np.isfinite(anchors(flat).unit)


def test_has_unit_false_positive_rate():
    rng = np.random.default_rng(15)
    found = sum(has_unit(world(rng, levels=LEVELS[:1], poles=(0.0, 0.0, 0.0))) for _ in range(400))
    low, high = scipy_stats.binom.interval(0.999, 400, 0.05)
    assert low <= found <= high


def test_fewer_than_five_questions_abstain():
    rng = np.random.default_rng(16)
    asked = effects(rng, questions=4)
    a, b = (world(rng, asked=asked, poles=(-9.0, 0.0, 9.0), model=m) for m in "AB")
    x, cell = landings(a, rng, 50)[0], interactions([a], [b], rng, 50)[0]
    assert np.isfinite([x.L, cell.D]).all()
    assert np.isnan([x.low, x.high, cell.low, cell.high, cell.p, cell.q]).all()


def test_failed_replies_stay_failed_and_questions_do_not_leak():
    rng = np.random.default_rng(17)
    clean = world(rng)
    # A huge effect of one question: any mean over unequal questions would show it.
    base = with_values(clean, clean.value + 1000.0 * (clean.question == 5))
    value = base.value.copy()
    value[(base.condition == "s1") & (base.question == 5) & (base.paraphrase == 2)] = np.nan
    value[(base.condition == "s2") & (base.question == 5)] = np.nan
    p = with_values(base, value)
    before, after = (by_key(landings(x, np.random.default_rng(18), 200)) for x in (clean, p))
    for name in p.scaffolds:
        assert after[name, -1].L == pytest.approx(before[name, -1].L, abs=0.15)
    assert (after["s1", 2].n, after["s2", -1].n, after["s3", -1].n) == (11, 33, 36)
    assert after["s3", -1].L == pytest.approx(before["s3", -1].L)
    other = world(rng, model="B")
    cell = {x.scaffold: x for x in interactions([p], [other], rng, 100)}
    assert (cell["s2"].n, cell["s1"].n) == (11, 12)
    assert all(np.isfinite([x.D, x.low, x.high, x.p]).all() for x in cell.values())


def test_a_failed_neutral_reply_takes_its_question_out_of_the_means_only():
    p = world(np.random.default_rng(33))
    gone = with_values(p, np.where((p.condition == "neutral") & (p.question == 3), np.nan, p.value))
    kept = p.question != 3
    rest = replace(
        p, value=p.value[kept], condition=p.condition[kept], paraphrase=p.paraphrase[kept],
        question=p.question[kept], null_value=p.null_value[kept],
    )  # fmt: skip
    one, two = (landings(x, np.random.default_rng(34), 100) for x in (gone, rest))
    assert [x.L for x in one] == pytest.approx([x.L for x in two])
    assert [x.n for x in one if x.paraphrase == -1] == [36] * 4  # replies under a scaffold did not fail
    cells = interactions([gone], [world(np.random.default_rng(35), model="B")], np.random.default_rng(36), 50)
    assert {x.n for x in cells} == {11}


def test_a_scaffold_without_any_reply_is_nan_and_the_rest_is_not():
    rng = np.random.default_rng(19)
    p = world(rng)
    p = with_values(p, np.where(p.condition == "s0", np.nan, p.value))
    found = by_key(landings(p, rng, 50))
    assert np.isnan([found["s0", -1].L, found["s0", -1].low, found["s0", -1].d_prime]).all()
    assert found["s0", -1].n == 0
    assert np.isfinite(found["s1", -1].low)
    cells = interactions([p], [world(rng, model="B")], rng, 50)
    assert np.isnan(cells[0].q)
    assert np.isfinite([x.q for x in cells[1:]]).all()
    assert noise_floor(p).n == 9


def test_wrong_inputs_are_refused():
    rng = np.random.default_rng(20)
    p, b = world(rng), world(rng, model="B")
    # With --jaxtyping-packages the type checker sees it first.
    with pytest.raises((LabError, TypeCheckError), match=r"one length|row=227"):
        replace(p, value=p.value[1:])
    with pytest.raises(LabError, match="neutral"):
        replace(p, condition=np.where(p.condition == "neutral", "x", p.condition))
    with pytest.raises(LabError, match="extract"):
        replace(p, split="extract")
    with pytest.raises(LabError, match="same questions"):
        interactions([p], [replace(b, question=b.question + 1)], rng)
    with pytest.raises(LabError, match="same trait"):
        interactions([p], [replace(b, trait="calm")], rng)
    with pytest.raises(LabError, match="as many traits"):
        interactions([p, p], [b], rng)
    rows = (b.condition != "s1") | (b.paraphrase != 2)
    fewer = replace(
        b, value=b.value[rows], condition=b.condition[rows], paraphrase=b.paraphrase[rows],
        question=b.question[rows], null_value=b.null_value[rows],
    )  # fmt: skip
    renamed = replace(b, condition=np.where(b.condition == "s1", "s9", b.condition))
    for other in (fewer, renamed):
        with pytest.raises(LabError, match="same scaffolds and paraphrases in A and B"):
            interactions([p], [other], rng)
    with pytest.raises(LabError, match="same split"):
        interactions([p], [replace(b, split="select")], rng)
    with pytest.raises(LabError, match="same position"):
        interactions([p], [replace(b, position="spawn")], rng)
    # Rows in another order are the same design.
    order = rng.permutation(len(b.value))
    shuffled = replace(
        b, value=b.value[order], condition=b.condition[order], paraphrase=b.paraphrase[order],
        question=b.question[order], null_value=b.null_value[order],
    )  # fmt: skip
    D = {x.scaffold: x.D for x in interactions([p], [b], rng, 5)}
    again = {x.scaffold: x.D for x in interactions([p], [shuffled], rng, 5)}
    assert again == pytest.approx(D)
