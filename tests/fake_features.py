"""Cards of two dictionaries made of planted numbers, for figures and pages."""

from lab.records import ModelIdentity
from lab.records.decomposition import ReadoutBook, SegmentEffect, SwitchedFeature
from lab.records.feature_cards import (
    FeatureBook,
    FeatureCard,
    FeatureChoice,
    FeatureExample,
    FeatureLabel,
    FeatureSummary,
    FeatureTwin,
)
from lab.records.features import SaeCard, SaeOrigin, SaeQuality

NAN = float("nan")
SAES = ("sae-a", "sae-b")
FEATURES = 4
"""Of each dictionary; the last one never fires."""
WORDS = ("tea", "<b>rain", "sea", "")
MATCH = {0: 2, 1: 1, 2: 0}
"""Features of the first dictionary and their nearest in the second; that of 2 is no nearer than chance."""


def identity(name: str, fingerprint: str = "f" * 64) -> ModelIdentity:
    return ModelIdentity(name, f"/m/{name}", fingerprint, 10, 4, 8, 100, "float32", False)


def card(sae, k):
    if k == FEATURES - 1:
        return FeatureCard(sae, k, 0.0, 0.0, 0.0, 0, NAN, NAN)
    up, down = (f" up{k}", "\n"), (f" <down{k}>", " no")
    return FeatureCard(
        sae,
        k,
        0.04 / (k + 1),
        0.01,
        0.05,
        20,
        1.5,
        4.0,
        (5, 3, 0, 1),
        up,
        (2.0, 1.0),
        down,
        (-1.0, -0.5),
        0.8,
    )


def examples(sae, k):
    tokens = ("I ", "like ", f"{WORDS[k]}", " a lot")
    for quantile, value in (("top", 4.0), ("90 %", 3.0), ("50 %", 1.0)):
        for rank in range(2):
            yield FeatureExample(
                sae, k, quantile, rank, value, rank, 9, rank == 0, 2, tokens, (0.0, 0.5, value, 0.0)
            )


def labels(sae, k):
    for i, (kind, name) in enumerate((("trait", "warmth"), ("trait", "wit <u>"), ("persona", "host"))):
        r = (0.8 - 0.2 * k) * (-1) ** i
        q = 0.001 if k < 2 else 0.6
        yield FeatureLabel(sae, k, kind, name, r, r - 0.1, r + 0.1, q, q, 40, "conversations <of> Hearth")


def twins():
    for k in range(FEATURES):
        told = (k, 0.95 - 0.4 * k, 0.4, 0.99, 0.2, 0.001, 0.01, 500) if k < 2 else (-1, *[NAN] * 6, 500)
        yield FeatureTwin(SAES[0], k, "seed", "sae-a-s1", *told, k, 0.9, 0.002)
    for one, other, pairs in ((*SAES, MATCH), (*SAES[::-1], {v: k for k, v in MATCH.items()})):
        for k in range(FEATURES):
            if k not in pairs:
                yield FeatureTwin(one, k, "model", other, -1, *[NAN] * 6, 300)
                continue
            q = 0.5 if 2 in (k, pairs[k]) and 0 in (k, pairs[k]) and pairs is not MATCH and k == 0 else 0.01
            if pairs is MATCH and k == 2:
                q = 0.5
            yield FeatureTwin(one, k, "model", other, pairs[k], 0.9 - 0.2 * k, 0.3, 0.95, 0.1, q, q, 300)


def quality(name):
    origin = SaeOrigin(
        "topk", 8, 4, "blocks.1.hook_out", "a", "/m/a", "f" * 64, False, "hearth", 1000, 0, 2.0
    )
    found = SaeQuality(
        0.94,
        0.93,
        0.95,
        2.0,
        1.9,
        2.1,
        0.25,
        0.2,
        0.3,
        0.97,
        0.96,
        0.98,
        1.0,
        1.1,
        3.0,
        "replies",
        128,
        9000,
        4000,
    )
    if name != SAES[0]:
        return SaeCard(name, f"/saes/{name}", origin, None, "hearth", "no <texts>")
    return SaeCard(name, f"/saes/{name}", origin, found, "hearth")


def fake_features(run="features-fake", saes=SAES):
    """Feature 0 of the first dictionary is “tea”, recurs, stands for a choice and is feature 2 of the second."""
    every = [(sae, k) for sae in saes for k in range(FEATURES)]
    choice = FeatureChoice(
        SAES[0], 0, "closing", 3, "stay <i>", "warmth", 1.0, 0.98, 0.96, 0.99, 0.97, 0.55, 0.01, 0.8, 30
    )
    summary = FeatureSummary(SAES[0], "features that recur in sae-a-s1", 0.4, 0.3, 0.5, 0.01, 3, "at 0.7")
    return FeatureBook(
        run, tuple(identity(n, n * 64) for n in "ab"[: len(saes)]), tuple(saes), "hearth",
        tuple(card(*x) for x in every), tuple(e for x in every if x[1] < FEATURES - 1 for e in examples(*x)),
        tuple(r for x in every for r in labels(*x) if x[1] < FEATURES - 1),
        tuple(t for t in twins() if t.sae in saes and (t.relation == "seed" or t.other in saes)),
        (choice,), (), (summary,), {"texts": 40}, tuple(map(quality, saes)),
    )  # fmt: skip


def fake_readout(run="readout-fake", scaffolds=("friend <u>", "poet"), **settings):
    """Under the first scaffold feature 0 of the first model and its match go up alike, 1 only in the first."""
    effects = {
        ("a", 0): (0.5, 0.001, 2, "common"), ("a", 1): (0.3, 0.01, 1, "only here"), ("a", 2): (0.0, 0.9, -1, ""),
        ("b", 2): (0.4, 0.001, 0, "common"), ("b", 1): (0.02, 0.7, 1, ""),
    }  # fmt: skip
    features = tuple(
        SwitchedFeature(
            model, SAES["ab".index(model)], scaffold, k, 0.1, 0.1 + 2 * e, 2 * e, 2 * e - 0.1, 2 * e + 0.1, e, 2.0,
            q, q, 12, match, place,
        )
        for scaffold in scaffolds
        for (model, k), (e, q, match, place) in effects.items()
    )  # fmt: skip
    segments = tuple(
        SegmentEffect(
            "a", scaffolds[0], said, s, kind, who, words, 0, 0.3 - 0.3 * s, 0.1, 0.5, 0.01, 0.01, 12
        )
        for said in ("same", "anew")
        for s, (kind, who, words) in enumerate(
            (("identity", "human", "You are <Ada>."), ("memory", "user", "Tea."))
        )
    )
    about = {"trait_set": "hearth", "dtype": "float32", "seed": 0, "max_new_tokens": 40, **settings}
    models = tuple(identity(n, n * 64) for n in "ab")
    return ReadoutBook(run, models, ("a", "b"), SAES, tuple(scaffolds), features, segments, about)
