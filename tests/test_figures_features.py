"""Decompositions, readouts and near twins, mark by mark; notes say unit, n, split and null; nothing raw gets through."""

from dataclasses import replace

import numpy as np
import plotly.graph_objects as go
import pytest

from lab.figures import decomposition as parts
from lab.figures import feature_readout as reads
from lab.figures.theme import DARK, LIGHT
from lab.records import LabError, ModelIdentity
from lab.records.decomposition import (
    CausalEffect,
    DecompositionBook,
    DecompositionVerdict,
    DifferenceBook,
    DirectionPart,
    ExplainedShare,
    FeatureDifference,
    LatentScale,
    ReadoutBook,
    SegmentEffect,
    ShareNull,
    SwitchedFeature,
)

NAN = float("nan")
TRAITS = ("warmth", "candour <b>")
KS = (1, 2, 4)


def model(name):
    return ModelIdentity(name, name, name, 1, 6, 32, 100, "float32", False)


def fake_decomposition(causal=True):
    """Two traits: the first made of features 3 and 5, the second of none."""
    shares, nulls, found, verdicts, effects = [], [], [], [], []
    for t, trait in enumerate(TRAITS):
        for method in ("signed", "non-negative"):
            shares += [
                ExplainedShare(trait, method, k, 0.2 * (i + 1), 0.1, 0.9, 0.15, 16) for i, k in enumerate(KS)
            ]
            nulls += [
                ShareNull(trait, method, k, null, 0.05, 0.1 * (i + 1), 0.01, 200)
                for null in ("random", "permuted", "covariance")
                for i, k in enumerate(KS)
            ]
            for k in KS[:2]:
                rows = [(3, 0.5, 0.2, 0.01), (5, -0.7, NAN, NAN)][:k]
                found += [
                    DirectionPart(trait, method, k, i + 1, f, w, w, d, d - 0.1, d + 0.1, q)
                    for i, (f, w, d, q) in enumerate(rows)
                ]
            verdicts.append(
                DecompositionVerdict(
                    trait, method, "reply_mean", 3, t == 0, 0.4, 0.005 if t == 0 else 0.6, "permuted", 4, 0.9, 1.0, 1,
                    "so it is" if t == 0 else "not decomposable: no more than <i> directions do",
                )
            )  # fmt: skip
        for way, whole in (("steer", "direction"), ("ablate", "instruction")):
            kinds = [(whole, -1, 2.0), ("features", -1, 1.5), ("random", 0, 0.1), ("random", 1, -0.2)]
            effects += [
                CausalEffect(
                    trait, way, what, draw, 8, 1.0, -0.25, 0.25, x, x - 0.3, x + 0.3, x / 2,
                    0.2 if what == "features" else NAN, 0.05 if what == "features" else NAN, 0.98, 24,
                )
                for what, draw, x in kinds
            ]  # fmt: skip
    seen = tuple(FeatureDifference(t, 3, 0.3, 0.1, 0.2, 0.1, 0.3, 0.001, 0.01, 12) for t in TRAITS)
    settings = {"features": 1536, "judge": "exact <x>", "unit": "prior sd"}
    return DecompositionBook(
        "decompose-x", model("a"), "sae <a>", 3, tuple(shares), tuple(nulls), tuple(found), tuple(verdicts), seen,
        tuple(effects) if causal else (), settings,
    )  # fmt: skip


BOOK = fake_decomposition()


def traces(figure, role):
    return [t for t in figure.data if t.meta["role"] == role]


def note(figure):
    (found,) = [a.text for a in figure.layout.annotations if a.name == "panel note"]
    return found.replace("<br>", " ")


def everything(figure):
    return figure.to_json()


# ------------------------------------------------------------------ directions


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_the_share_curve_holds_curve_nulls_and_what_others_explain(theme):
    figure = parts.share_curve(BOOK, "warmth", theme)
    signed, non_negative = traces(figure, "share")
    assert list(signed.x) == list(KS) and list(signed.y) == pytest.approx([0.2, 0.4, 0.6])
    np.testing.assert_allclose(np.add(signed.y, signed.error_y.array), 0.9)
    np.testing.assert_allclose(np.subtract(signed.y, signed.error_y.arrayminus), 0.1)
    assert (signed.xaxis, non_negative.xaxis) == ("x", "x2")
    assert [t.meta["null"] for t in traces(figure, "null")] == ["random", "permuted", "covariance"] * 2
    assert list(traces(figure, "null")[0].y) == pytest.approx([0.1, 0.2, 0.3])
    assert (
        list(traces(figure, "ceiling")[0].y) == [0.9, 0.9]
        and list(traces(figure, "held out")[0].y) == [0.15] * 3
    )
    assert [a.text for a in figure.layout.annotations[:2]] == [
        "signed: few features",
        "non-negative: few features",
    ]
    assert figure.layout.xaxis.type == "log" and figure.layout.paper_bgcolor == theme.paper


def test_the_note_says_unit_split_n_null_and_verdict():
    said = note(parts.share_curve(BOOK, "warmth"))
    for words in (
        "Unit: squared length",
        "1536 features, layer 3",
        "Nulls: 200",
        "Split: extract, n = 16",
        "so it is",
    ):
        assert words in said
    refused = parts.share_curve(BOOK, TRAITS[1])
    assert "&lt;i&gt;" in note(refused) and "signed: not decomposable" in refused.layout.annotations[0].text
    assert "candour &lt;b&gt;" in refused.layout.title.text
    with pytest.raises(LabError, match="No trait 'wit'"):
        parts.share_curve(BOOK, "wit")


def test_parts_stand_by_weight_beside_what_encoded_replies_say():
    figure = parts.part_bars(BOOK, "warmth", names={5: "tea <3"})
    (weight,), (difference,) = traces(figure, "weight"), traces(figure, "difference")
    assert list(weight.x) == [-0.7, 0.5]
    assert list(weight.marker.color) == [LIGHT.low, LIGHT.high]
    assert list(figure.layout.yaxis.ticktext) == ["tea &lt;3", "feature 3"]
    assert list(difference.x) == [0.2] and list(difference.y) == [1], "one feature could not be tested"
    said = note(figure)
    for words in (
        "split: extract; sae &lt;a&gt;",
        "split: test, n = 12",
        "1 of 2 differ on fewer",
        "Null: so it is",
    ):
        assert words in said
    assert list(traces(parts.part_bars(BOOK, "warmth", k=1), "weight")[0].x) == [0.5]
    nothing = replace(BOOK, parts=())
    assert "Cannot tell: no feature points" in everything(parts.part_bars(nothing, "warmth"))
    with pytest.raises(LabError, match="No method 'both'"):
        parts.parts_of(BOOK, "warmth", "both")


def test_causal_effects_show_every_part_and_other_features_without_bars():
    figure = parts.causal_effects(BOOK, "warmth")
    (steer,), (ablate,) = traces(figure, "steer"), traces(figure, "ablate")
    assert list(steer.x) == [2.0, 1.5, 0.1, -0.2] and list(steer.y) == [0, 1, 2, 2]
    assert list(steer.error_x.array) == pytest.approx([0.3, 0.3, 0, 0])
    assert list(figure.layout.yaxis.ticktext) == ["the whole direction", "its features", "other features"]
    assert list(figure.layout.yaxis2.ticktext)[-1] == "the instruction itself" and ablate.xaxis == "x2"
    said = note(figure)
    for words in (
        "Unit: prior sd, judge “exact &lt;x&gt;”",
        "Split: test; n = 24",
        "75% of the whole",
        "null (crosses): 2 sets",
        "97.5 % of other features stay within ±0.20 (p = .050)",
        "doses -0.25 and +0.25",
    ):
        assert words in said  # fmt: skip
    empty = parts.causal_effects(fake_decomposition(causal=False), "warmth")
    assert "--causal" in everything(empty)


# ------------------------------------------------------------------ scaffolds


def fake_readout():
    """Three switched features and one that is not, two segments."""
    rows = [(1, 0.4, 0.001, 7, "common"), (2, -0.2, 0.01, 8, "only here"), (9, 0.1, 0.04, -1, "no counterpart"),
            (4, 0.3, 0.5, -1, "")]  # fmt: skip
    features = tuple(
        SwitchedFeature(
            "a",
            "sae",
            "friend <u>",
            f,
            0.1,
            0.1 + e * 2,
            e * 2,
            e * 2 - 0.1,
            e * 2 + 0.1,
            e,
            2.0,
            q,
            q,
            12,
            m,
            p,
        )
        for f, e, q, m, p in rows
    )
    segments = tuple(
        SegmentEffect("a", "friend <u>", said, s, kind, who, text, f, fall, fall - 0.1, fall + 0.1, q, q, 12)
        for said in ("same", "anew")
        for s, (kind, who, text) in enumerate(
            (("identity", "human", "You are <Ada>."), ("memory", "user", "Tea."))
        )
        for f, fall, q in ((1, 0.3 if s == 0 else 0.0, 0.01 if s == 0 else 0.8), (9, 0.0, 0.9))
        if said == "same" or s == 0
    )
    return ReadoutBook(
        "readout-x",
        (model("a"),),
        ("a",),
        ("sae",),
        ("friend <u>",),
        features,
        segments,
        {},
        "not matched <?>",
    )


READ = fake_readout()


def test_readout_bars_show_switched_features_with_intervals_and_their_matches():
    figure = reads.readout_bars(READ, "a", "friend <u>")
    (bars,) = traces(figure, "effect")
    assert list(bars.x) == [0.4, -0.2, 0.1], "largest first, and not the one that is not switched"
    np.testing.assert_allclose(bars.error_x.array, 0.05)
    places = {t.meta["place"]: list(t.y) for t in traces(figure, "place")}
    assert places == {"common": [0], "only here": [1], "no counterpart": [2]}
    said = note(figure)
    for words in (
        "Unit: mean activation",
        "n = 12 questions",
        "3 of 4 features",
        "Null: signs",
        "1 common, 1 only here",
    ):
        assert words in said
    assert "No p can be below" not in said, "of 4 features one at the smallest p is told"
    more = replace(READ, features=tuple(f for _ in range(100) for f in READ.features))
    assert "below 0.00049 at this n, so fewer than 4 switched" in note(
        reads.readout_bars(more, "a", "friend <u>")
    )
    assert "not matched &lt;?&gt;" in said and "friend &lt;u&gt;" in figure.layout.title.text
    none = replace(READ, features=READ.features[3:])
    assert "no feature differs from neutral" in everything(reads.readout_bars(none, "a", "friend <u>"))
    for wrong in (("b", "friend <u>"), ("a", "foe")):
        with pytest.raises(LabError, match="in this comparison"):
            reads.readout_bars(READ, *wrong)


def test_the_segment_map_rings_what_is_clear_and_names_provenance():
    figure = reads.segment_map(READ, "a", "friend <u>")
    (heat,), (clear,) = traces(figure, "fall"), traces(figure, "clear")
    np.testing.assert_allclose(heat.z, [[0.3, 0.0], [0.0, 0.0]])
    assert (list(clear.x), list(clear.y)) == ([0], [0])
    assert list(figure.layout.yaxis.ticktext) == ["You are &lt;Ada&gt;. [human]", "Tea. [user]"]
    assert "the replies staying what they were" in note(figure) and "n = 12" in note(figure)
    anew = reads.segment_map(READ, "a", "friend <u>", "anew")
    assert np.shape(traces(anew, "fall")[0].z) == (1, 2) and "made anew" in note(anew)
    with pytest.raises(LabError, match="No way to leave a segment out 'twice'"):
        reads.segment_map(READ, "a", "friend <u>", "twice")
    assert "no segment was left out" in everything(
        reads.segment_map(replace(READ, segments=()), "a", "friend <u>")
    )


# ------------------------------------------------------------------ near twins


def test_the_scatter_tells_what_looks_missing_from_what_is():
    rows = [
        (1, 1.0, 0.95, "shared"),
        (2, 0.05, 0.6, "shrunk"),
        (3, 0.0, 0.02, "specific"),
        (4, 0.5, NAN, "cannot tell"),
    ]
    latents = tuple(
        LatentScale(f, 30, 0.2, ratio, 1.0, nu, nu, nu - 0.1, nu + 0.1, nu, 0.1, 0.01, 0.01, verdict)
        for f, ratio, nu, verdict in rows
    )
    book = DifferenceBook("d", (model("a <1>"), model("b")), "sae", 3, 0.96, 64, 9000, latents, {})
    figure = reads.scale_scatter(book)
    found = {t.meta["verdict"]: (list(t.x), list(t.y)) for t in traces(figure, "latent")}
    assert found["shrunk"] == ([0.05], [0.6]) and found["specific"] == ([0.0], [0.02])
    assert "cannot tell" not in found and "1 of 4 latents are not drawn" in note(figure)
    assert "a &lt;1&gt;" in figure.layout.title.text
    said = note(figure)
    for words in ("n = 9000 tokens of 64 texts", "Split: held out", "Grey band: 95 %", "correlate 0.96"):
        assert words in said
    why = replace(book, latents=(), why="no <common> coordinates")
    assert "no &lt;common&gt; coordinates" in reads.scale_scatter(why).layout.annotations[0].text


def test_figures_are_figures_in_both_themes():
    for theme in (LIGHT, DARK):
        for figure in (
            parts.part_bars(BOOK, TRAITS[1], theme=theme),
            parts.causal_effects(BOOK, TRAITS[1], theme),
            reads.readout_bars(READ, "a", "friend <u>", theme),
            reads.segment_map(READ, "a", "friend <u>", theme=theme),
        ):
            assert isinstance(figure, go.Figure) and figure.layout.height > 200
            assert "<b>candour <b>" not in everything(figure) and "<u>" not in everything(figure)  # fmt: skip
