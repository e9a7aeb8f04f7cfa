"""One dictionary's cards: what its model reads, where features fire, with what they go, who their twins are.

side(opened, samples, labels, extra, rng, progress) -> Side
twins_by_seed(side, second, rng), twins_by_model(a, b, rng) -> (FeatureTwin rows, FeatureSummary)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.geometry.feature_match import (
    Match,
    cosine_null,
    match,
    nearest_rows,
    other_texts,
    shuffled_rows,
    token_units,
    word_units,
)
from lab.geometry.features import associations, examples, firing, pooled_p, text_means
from lab.pipelines.feature_labels import LabelledRows, Labels
from lab.pipelines.feature_replies import Opened
from lab.records.feature_cards import (
    SAME,
    Activity,
    FeatureCard,
    FeatureExample,
    FeatureLabel,
    FeatureSummary,
    FeatureTwin,
)
from lab.stats import cluster_weights, interval

if TYPE_CHECKING:
    from lab.features.corpora import Sample
    from lab.features.load import Sae
    from lab.features.stream import Tokens

TOKENS_SHOWN = 8
KEPT = 3
"""Labels of each kind that a feature keeps besides those with q < .05."""


@dataclass(frozen=True)
class Side:
    """A dictionary with its activity on the common texts, and its rows of every table."""

    opened: Opened
    rows: "tuple[Tokens, ...]"
    activity: Activity
    cards: tuple[FeatureCard, ...]
    examples: tuple[FeatureExample, ...]
    labels: tuple[FeatureLabel, ...]

    @property
    def name(self) -> str:
        """The dictionary's."""
        return self.opened.sae.name


def side(
    opened: Opened, samples: "Sequence[Sample]", labels: Labels, extra: Sequence[LabelledRows],
    rng: np.random.Generator, progress: Callable[[str, float], None],
) -> Side:  # fmt: skip
    """Read the samples (and labelled replies of the same model) and make every table but twins and choices."""
    from lab.features.activity import activity

    sae, model = opened.sae, opened.model
    rows = tuple(first_row(model.tokenizer, s, model.context) for s in samples)
    found = activity(sae, model, rows, progress=lambda x: progress(f"{sae.name}: reading", 0.6 * x))
    progress(f"{sae.name}: cards", 0.6)
    cards = tuple(_cards(opened, rows, found, rng))
    shown = tuple(examples(found, sae.name))
    progress(f"{sae.name}: traits and personas", 0.8)
    said = list(label_rows(sae.name, text_means(found), labels, rng))
    for more in extra:
        said += label_rows(sae.name, text_means(activity(sae, model, more.rows)), more.labels, rng)
    return Side(opened, rows, found, cards, shown, tuple(said))


def first_row(tokenizer: object, sample: "Sample", longest: int) -> "Tokens":
    """A chat, or the beginning of a text; a row without a token where there is nothing to read."""
    from lab.features.stream import Tokens, tokens_of

    nothing = Tokens(np.zeros(0, np.int64), np.zeros(0, bool), np.zeros(0, bool))
    return next(iter(tokens_of(tokenizer, sample, longest)), nothing)


# ------------------------------------------------------------------ cards


def _cards(
    opened: Opened, rows: "Sequence[Tokens]", found: Activity, rng: np.random.Generator
) -> Iterator[FeatureCard]:
    from lab.features.load import decoder_rows
    from lab.features.unembedding import norm_slope, promoted, random_rows

    model, fires = opened.model, firing(found, rng)
    decoder = decoder_rows(opened.sae)
    strength = np.where(np.isnan(fires.mean), 1.0, fires.mean)
    slope = norm_slope(model, [row for row in rows if row.counts.any()], rng)
    tokens = promoted(model, slope, (decoder * strength[:, None]).astype(np.float32), TOKENS_SHOWN)
    chance = np.quantile(promoted(model, slope, random_rows(decoder, rng), 1).up_logits[:, 0], 0.975)
    bar = chance * np.linalg.norm(decoder, axis=1) * strength
    for k in range(found.features):
        up, down = ([model.tokenizer.decode([int(i)]) for i in ids[k]] for ids in (tokens.up, tokens.down))
        yield FeatureCard(
            opened.sae.name, k, float(fires.fires[k]), float(fires.low[k]), float(fires.high[k]), int(fires.texts[k]),
            float(fires.mean[k]), float(fires.highest[k]), tuple(fires.histogram[k].tolist()) if fires.texts[k] else (),
            tuple(up), tuple(tokens.up_logits[k].tolist()), tuple(down), tuple(tokens.down_logits[k].tolist()),
            float(bar[k]),
        )  # fmt: skip


def label_rows(
    sae: str, means: Float[ndarray, "text feature"], labels: Labels, rng: np.random.Generator
) -> Iterator[FeatureLabel]:
    """Correlations worth keeping: q < .05, and the KEPT strongest of each feature and kind."""
    if not len(labels.names):
        return
    found = associations(means, labels.values, labels.clusters, labels.strata, rng)
    keep = np.nan_to_num(found.q, nan=1.0) < 0.05
    for kind in dict.fromkeys(labels.kinds):
        mine = np.flatnonzero(np.array(labels.kinds) == kind)
        order = np.argsort(-np.nan_to_num(np.abs(found.r[mine]), nan=-1.0), axis=0)[:KEPT]
        keep[mine[order], np.arange(means.shape[1])] = True
    for k, feature in zip(*np.nonzero(keep & ~np.isnan(found.r)), strict=True):
        at = (k, feature)
        yield FeatureLabel(
            sae, int(feature), labels.kinds[k], labels.names[k], float(found.r[at]), float(found.low[at]),
            float(found.high[at]), float(found.p[at]), float(found.q[at]), int(found.n[k]), labels.source,
        )  # fmt: skip


# ------------------------------------------------------------------ twins


def twins_by_seed(
    found: Side, second: "Sae", rng: np.random.Generator
) -> tuple[tuple[FeatureTwin, ...], tuple[FeatureSummary, ...]]:
    """Every feature's twin in another dictionary of the same model, at the same tokens, and by decoder rows."""
    from lab.features.activity import activity
    from lab.features.load import decoder_rows

    mine, theirs, _ = token_units(found.activity, activity(second, found.opened.model, found.rows))
    best = match(mine, theirs, shuffled_rows, rng)
    a, b = decoder_rows(found.opened.sae), decoder_rows(second)
    near, cosine = nearest_rows(a, b)
    chance = cosine_null(a, b, rng)
    p = pooled_p(cosine, chance[None])
    rows = tuple(
        FeatureTwin(
            found.name,
            k,
            "seed",
            second.name,
            *_numbers(best, k),
            int(near[k]),
            float(cosine[k]),
            float(p[k]),
        )
        for k in range(len(best.r))
    )
    seen = np.flatnonzero(~np.isnan(best.r))
    return rows, (
        _share(
            found.name, f"features that recur in {second.name}, by activation", best.r, best.null_r, rng,
            "tokens shuffled",
        ),
        _share(
            found.name, f"features that recur in {second.name}, by decoder row", cosine[seen], chance[None], rng,
            "random rows of the same covariance",
        ),
    )  # fmt: skip


def twins_by_model(
    a: Side, b: Side, rng: np.random.Generator
) -> tuple[tuple[FeatureTwin, ...], tuple[FeatureSummary, ...]]:
    """Every feature's nearest in the other model, both ways, at the words that both read."""
    one, other, coverage = word_units(a.activity, b.activity)
    rows, shares = [], []
    for mine, units, theirs, target in ((a, one, b, other), (b, other, a, one)):
        best = match(units, target, other_texts, rng)
        rows += [
            FeatureTwin(mine.name, k, "model", theirs.name, *_numbers(best, k)) for k in range(len(best.r))
        ]
        note = f"words of other texts; {coverage:.1%} of words read by both"
        shares.append(
            _share(mine.name, f"features with a twin in {theirs.name}", best.r, best.null_r, rng, note)
        )
    return tuple(rows), tuple(shares)


def _numbers(best: Match, k: int) -> tuple[int, float, float, float, float, float, float, int]:
    values = (float(x[k]) for x in (best.r, best.low, best.high, best.null, best.p, best.q))
    r, low, high, null, p, q = values
    return int(best.twin[k]), r, low, high, null, p, q, best.units


def _share(
    sae: str, what: str, values: Float[ndarray, " feature"], null: Float[ndarray, "draw any_feature"],
    rng: np.random.Generator, how: str,
) -> FeatureSummary:  # fmt: skip
    """Share of features at SAME or more; interval over features."""
    known = values[~np.isnan(values)]
    same = (known >= SAME).astype(np.float64)
    value = low = high = float("nan")
    if len(same):
        weights = cluster_weights([np.arange(len(same))], 500, rng)
        value, (low, high) = same.mean(), interval(weights @ same / len(same), len(same))
    chance = null[:, ~np.isnan(null).all(axis=0)]
    by_chance = float((np.nan_to_num(chance) >= SAME).mean()) if chance.size else float("nan")
    return FeatureSummary(
        sae, what, float(value), float(low), float(high), by_chance, len(same),
        f"at {SAME} or more, of features that fire in 5 texts; interval over features, null: {how}",
    )  # fmt: skip
