"""Known truth for features: which feature tells which choice of Hearth's grammar.

Per choice the feature with the best AUROC over places (`feature_places`) on one half of the texts is reported on the
other half, and the same search under shuffled choices says how often that finds something by chance.

    choice_scores(places, sae, rng) -> (ChoiceScore rows, FeatureSummary rows)
    feature_choices(places, sae, rng) -> FeatureChoice rows      the other way round: what each feature stands for
    feature_truth(config, store, progress) -> Truth              the whole job, for a dictionary by name

Three levels (LEVELS): "in slot", the alternative against the others of its slot, is the choice as the source makes it;
"anywhere", against every other trait-bearing choice (that is words alone); "pole", which side of the trait the slot
spoke for.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy import ndarray

from lab.geometry.feature_auroc import Halves, auroc_band, aurocs, enough_texts, halved, search
from lab.geometry.features import alike, pooled_p
from lab.pipelines.feature_places import Places, hearth_places, options
from lab.records.feature_cards import (
    LEVELS,
    ChoiceScore,
    FeatureChoice,
    FeatureSummary,
    Level,
    Sparse,
)
from lab.stats import average, cluster_weights, interval
from lab.world.choices import Option

if TYPE_CHECKING:
    from lab.store import Store

GOOD = 0.95
"""An AUROC from which on a feature counts as standing for a choice."""
SHUFFLES = 10
Progress = Callable[[str, float], None]
PlaceMask = Bool[ndarray, " _place"]


# ------------------------------------------------------------------ per choice


@dataclass(frozen=True)
class _Question:
    """What is told apart at some places `at`: codes [some] say which of `options` each is, -1 for none of them."""

    level: Level
    at: Int[ndarray, " some"]
    options: tuple[Option, ...]
    codes: Int[ndarray, " some"]


def _questions(found: Places, levels: Sequence[Level]) -> Iterator[_Question]:
    every = options()
    slots = np.array([o.slot for o in every])[found.choice]
    for name in dict.fromkeys(o.slot for o in every):
        mine = [k for k, o in enumerate(every) if o.slot == name]
        at = np.flatnonzero(slots == name)
        codes = found.choice[at] - mine[0]
        first = every[mine[0]]
        if "in slot" in levels:
            yield _Question("in slot", at, tuple(every[k] for k in mine), codes)
        if "pole" in levels:
            positive = np.array([every[k].load > 0 for k in mine])
            pole = Option(name, -1, "", first.trait, 1.0)
            yield _Question("pole", at, (pole,), np.where(positive[codes], 0, -1))
    if "anywhere" in levels:
        kept = [k for k, o in enumerate(every) if o.inner]
        number = np.full(len(every), -1)
        number[kept] = np.arange(len(kept))
        yield _Question(
            "anywhere", found.inner, tuple(every[k] for k in kept), number[found.choice[found.inner]]
        )


def first_half(text: Int[ndarray, " place"], rng: np.random.Generator) -> PlaceMask:
    """Places of a random half of the texts."""
    texts = np.unique(text)
    return np.isin(text, rng.permutation(texts)[: len(texts) // 2])


def choice_scores(
    found: Places, sae: str, rng: np.random.Generator, levels: Sequence[Level] = LEVELS,
    shuffles: int = SHUFFLES, draws: int = 500,
) -> tuple[tuple[ChoiceScore, ...], tuple[FeatureSummary, ...]]:  # fmt: skip
    """Per choice and level the best feature, and per level the share of choices that have one of at least GOOD."""
    first, band = first_half(found.text, rng), Band.of(found, rng, draws)
    scores: list[ChoiceScore] = []
    chance = {level: [] for level in levels}
    for asked in _questions(found, levels):
        here, half, count = found.of(asked.at), first[asked.at], len(asked.options)
        halves = halved(here.values, here.text, half)
        best = search(halves, asked.codes, count)
        away, null = np.full(count, np.nan), np.full((shuffles, count), np.nan)
        if (best.feature >= 0).any():
            away = search(halved(here.elsewhere, here.text, half), asked.codes, count).auroc
            for k in range(shuffles):
                null[k] = search(halves, rng.permutation(asked.codes), count).auroc
        chance[asked.level].append(null[:, best.feature >= 0])
        columns, mean = here.values.tocsc(), np.asarray(average(null, 0))
        for k, option in enumerate(asked.options):
            label, feature = asked.codes[~half] == k, int(best.feature[k])
            low, high = band.at(columns, feature, ~half, label, asked.at[~half])
            scores.append(
                ChoiceScore(
                    sae, asked.level, option.slot, option.alternative, option.words, option.trait, option.load,
                    feature, float(best.auroc[k]), low, high, float(best.selected[k]), float(mean[k]), float(away[k]),
                    int(best.positives[k]), int(best.negatives[k]),
                )
            )  # fmt: skip
    rows = tuple(scores)
    return rows, tuple(_summary(sae, level, rows, chance[level], rng) for level in levels)


@dataclass(frozen=True)
class Band:
    """Intervals of AUROCs under one resampling of texts: text [place] is a column of weights [draw, text]."""

    text: Int[ndarray, " place"]
    weights: Float[ndarray, "draw text"]

    @staticmethod
    def of(found: Places, rng: np.random.Generator, draws: int) -> "Band":
        """For the places of some texts."""
        texts, which = np.unique(found.text, return_inverse=True)
        return Band(which, cluster_weights([np.arange(len(texts))], draws, rng))

    def at(
        self, columns: Any, feature: int, rows: PlaceMask, label: PlaceMask, places: Int[ndarray, " some"]
    ) -> tuple[float, float]:
        """The interval of one feature (of the csc table `columns`, at `rows`) for a label of these places."""
        if feature < 0:
            return float("nan"), float("nan")
        value = columns[:, [feature]].toarray().ravel()[rows].astype(np.float64)
        return auroc_band(value, label, self.text[places], self.weights)


def _summary(
    sae: str, level: Level, scores: Sequence[ChoiceScore], chance: Sequence[Float[ndarray, "_draw _label"]],
    rng: np.random.Generator,
) -> FeatureSummary:  # fmt: skip
    """Share of the scored choices with a feature of at least GOOD; interval over slots."""
    mine = [s for s in scores if s.level == level]
    told = [s for s in mine if s.feature >= 0]
    null = np.concatenate([np.zeros(0), *(c.ravel() for c in chance)])
    good = np.array([s.auroc >= GOOD for s in told], np.float64)
    value = float(good.mean()) if len(good) else float("nan")
    low = high = float("nan")
    if len(good):
        slots = np.array([s.slot for s in told])
        weights = cluster_weights([slots], 1000, rng)
        low, high = interval((weights @ good) / weights.sum(axis=1), len(set(slots.tolist())))
    away = float(np.mean([s.elsewhere >= GOOD for s in told])) if told else float("nan")
    return FeatureSummary(
        sae, f"choices with a feature of AUROC {GOOD} or more, {level}", value, float(low), float(high),
        float(np.mean(null >= GOOD)) if len(null) else float("nan"), len(told),
        f"{len(mine) - len(told)} of {len(mine)} choices come in too few texts to tell; interval over slots, null: "
        f"shuffled choices; {away:.1%} when read elsewhere in the same replies",
    )  # fmt: skip


# ------------------------------------------------------------------ per feature


def feature_choices(
    found: Places, sae: str, rng: np.random.Generator, shuffles: int = SHUFFLES, draws: int = 500
) -> tuple[FeatureChoice, ...]:
    """The choice that each feature tells best from all others; features that are on at no place are left out.

    Only choices that come in 5 texts of either half are asked about; the others are among what they are told from.
    """
    every, found = options(), found.of(found.inner)
    first, band = first_half(found.text, rng), Band.of(found, rng, draws)
    halves = halved(found.values, found.text, first)
    usable = np.flatnonzero(enough_texts(halves, found.choice, len(every)))
    if not len(usable):
        return ()
    number = np.full(len(every), -1)
    number[usable] = np.arange(len(usable))
    codes = number[found.choice]
    which, selected, told = _best_choice(halves, codes, len(usable))
    null = np.array([_best_choice(halves, rng.permutation(codes), len(usable))[2] for _ in range(shuffles)])
    null = null.reshape(shuffles, len(told))
    fires = _on(found.values).astype(np.float64)
    on = np.flatnonzero(_on(found.values[np.flatnonzero(first)]) > 0)
    p = np.full(len(told), np.nan)
    for part in alike(fires[on]):
        p[on[part]] = pooled_p(told[on[part]], null[:, on[part]])
    columns, rest, rows = found.values.tocsc(), np.flatnonzero(~first), []
    for feature in on.tolist():
        option = every[usable[which[feature]]]
        label = codes[rest] == which[feature]
        value = columns[:, [feature]].toarray().ravel()[rest].astype(np.float64)
        mass = float(value[label].sum() / value.sum()) if value.any() else float("nan")
        rows.append(
            FeatureChoice(
                sae, feature, option.slot, option.alternative, option.words, option.trait, option.load,
                float(told[feature]), *band.at(columns, feature, ~first, label, rest), float(selected[feature]),
                float(average(null[:, feature], 0)), float(p[feature]), mass, int(label.sum()),
            )
        )  # fmt: skip
    return tuple(rows)


def _on(values: Sparse) -> Int[ndarray, " feature"]:
    """At how many places each feature is on."""
    return np.bincount(values.tocoo().col, minlength=values.shape[1])


def _best_choice(
    halves: Halves, codes: Int[ndarray, " place"], labels: int
) -> tuple[Int[ndarray, " feature"], Float[ndarray, " feature"], Float[ndarray, " feature"]]:
    """Per feature the label of highest AUROC on the first half, that, and its AUROC on the other half."""
    chosen = aurocs(halves.chosen, codes[halves.first], labels)
    told = aurocs(halves.told, codes[~halves.first], labels)
    which = chosen.argmax(
        axis=0
    )  # after a shuffle too every label has places in both halves, but for very few
    columns = np.arange(chosen.shape[1])
    return which, chosen[which, columns], told[which, columns]


# ------------------------------------------------------------------ the job


@dataclass(frozen=True)
class TruthConfig:
    """Which dictionary (by name or folder), on how many new conversations."""

    sae: str
    model: str = ""
    """"": the one that the dictionary's files name."""
    texts: int = 4000
    """A choice of the rarer slots comes in one of 250 conversations."""
    levels: tuple[Level, ...] = LEVELS
    dtype: str = "float32"
    seed: int = 0


@dataclass(frozen=True)
class Truth:
    """Scores per choice, their summary per level, and what was read."""

    scores: tuple[ChoiceScore, ...]
    summaries: tuple[FeatureSummary, ...]
    places: int
    sentences: int
    parsed: int


def feature_truth(config: TruthConfig, store: "Store", progress: Progress) -> Truth:
    """Known truth of one dictionary of a Hearth model. LabError as `lab.features.load.load_sae`."""
    from lab.pipelines.feature_replies import open_sae

    progress("loading model and dictionary", 0.0)
    opened = open_sae(config.sae, config.model, store, config.dtype)
    found = hearth_places(
        opened, config.texts, config.seed, lambda x: progress("reading conversations", 0.8 * x)
    )
    progress("searching", 0.8)
    rng = np.random.default_rng([config.seed, 41])
    scores, summaries = choice_scores(found, opened.sae.name, rng, config.levels)
    return Truth(scores, summaries, len(found.choice), found.sentences, found.parsed)
