"""Trait directions in sparse features: signed and non-negative regression, encoded replies, and a causal check.

Directions are made on *extract* at the dictionary's own layer and decomposed there; which features differ between the
encoded replies at both poles, and what pushing and taking out features does, is read on *test*.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.directions import Contrast, permuted_directions
from lab.dosage import covariance_directions
from lab.estimators import mean_difference, unit
from lab.geometry.decomposition import (
    KS,
    METHODS,
    decompose,
    null_shares,
    random_directions,
)
from lab.pipelines.compare import CompareConfig, Progress, resolve_trait_set
from lab.pipelines.decomposition_runs import (
    TABLES,
    load_decomposition,
    null_rows,
    part_rows,
    save_decomposition,
    share_rows,
    verdict_row,
)
from lab.pipelines.feature_causes import CausalConfig, Stage, causes
from lab.pipelines.feature_replies import Opened, coded_jobs, open_sae, questions_of
from lab.pipelines.poles import Poles, poles_of, split_rows
from lab.pipelines.replies import Runner
from lab.records import Direction, LabError, Position, Split, TraitSet
from lab.records.decomposition import DecompositionBook, FeatureDifference
from lab.shapes import Model
from lab.stats import MIN_CLUSTERS
from lab.store import Store, content_key

POSITION: Position = "reply_mean"
GROUPS = 20
"""Groups of extract questions, at most, that are left out in turn."""


@dataclass(frozen=True)
class DecomposeConfig:
    """Whose directions to decompose, and how hard to look. model: "" for the one that the dictionary's files name."""

    sae: str
    model: str = ""
    trait_set: str = "auto"
    draws: int = 200
    """Null directions of each kind."""
    k: int = 8
    """Features that a verdict's agreement and the causal check are about."""
    causal: CausalConfig | None = None
    dtype: str = "float32"
    seed: int = 0
    max_new_tokens: int = 40
    force: bool = False

    def check(self) -> None:
        """LabError for what cannot be run."""
        if self.k not in KS:
            raise LabError(f"k must be one of {', '.join(map(str, KS))}, got {self.k}")
        if self.draws < 19:
            raise LabError(f"expected at least 19 null directions, for a p of .05, got {self.draws}")
        if self.causal is not None:
            self.causal.check()


def decompose_traits(config: DecomposeConfig, store: Store, progress: Progress) -> DecompositionBook:
    """Run (or find) the decomposition of every trait's direction. LabError for what the user can mend."""
    config.check()
    progress("loading model and dictionary", 0.0)
    opened = open_sae(config.sae, config.model, store, config.dtype, config.force)
    traits = resolve_trait_set(config.trait_set, [opened.model])
    settings = {k: v for k, v in asdict(config).items() if k not in ("sae", "model", "trait_set", "force")}
    if config.causal is not None:
        settings["causal"] = {"doses": list(config.causal.doses), "controls": config.causal.controls}
    key = content_key(
        "decompose-1", opened.model.identity.fingerprint, opened.digest, asdict(traits), settings
    )
    run = f"decompose-{key[:10]}"
    if store.has(run):
        progress("found a finished run", 1.0)
        return load_decomposition(store, run)
    found = _book(run, config, opened, traits, store, progress, settings)
    save_decomposition(store, found)
    progress("done", 1.0)
    return found


def _book(
    run: str, config: DecomposeConfig, opened: Opened, traits: TraitSet, store: Store, progress: Progress,
    settings: Mapping[str, object],
) -> DecompositionBook:  # fmt: skip
    from lab.features.load import decoder_rows

    total = 2 * len(traits.traits) * len(traits.questions)
    done, share = 0, 0.3 if config.causal else 0.6

    def tick(n: int) -> None:
        nonlocal done
        done += n
        progress("replies at both poles", 0.02 + share * min(1.0, done / total))

    base = CompareConfig((config.model,), (), traits.name, config.dtype, config.seed, config.max_new_tokens)
    runner = Runner(opened.model, base, store, 0, tick)
    sides = [_side(trait, pole, opened) for trait, pole in poles_of(traits, runner).items()]
    rows = decoder_rows(opened.sae).astype(np.float64)
    nulls = _shared_nulls(config, sides, rows)
    stage = None
    if config.causal is not None:
        stage = causes(config.causal, config.k, opened, traits, runner)
    parts: dict[str, list[Any]] = {name: [] for name in TABLES}
    for i, side in enumerate(sides):
        progress(f"{side.trait}: sparse regression", share + 0.05 + (0.9 - share) * i / len(sides))
        rng = np.random.default_rng([config.seed, 21, i])
        for name, found in _trait(config, opened, side, rows, nulls, stage, rng).items():
            parts[name] += found
    return DecompositionBook(
        run, opened.model.identity, opened.sae.name, opened.sae.site.layer,
        **{name: tuple(rows) for name, rows in parts.items()},
        settings={
            **settings, "trait_set": traits.name, "traits": [t.name for t in traits.traits], "position": POSITION,
            "questions": {s: len(traits.of(s)) for s in ("extract", "select", "test")},
            "features": int(opened.sae.origin.d_sae),
            **({"judge": stage.reader.judge, "unit": stage.reader.unit} if stage else {}),
        },
    )  # fmt: skip


# ------------------------------------------------------------------ one trait


@dataclass(frozen=True)
class _Side:
    """A trait's poles at the dictionary's layer [row, 1, d_model], and its encoded test replies.

    positive, negative [question, feature]: mean activations on test; on [feature]: share of all their tokens.
    """

    trait: str
    extract: Contrast
    test: Contrast
    positive: Float[ndarray, "question feature"]
    negative: Float[ndarray, "question feature"]
    on: Float[ndarray, " feature"]


def _side(trait: str, poles: Poles, opened: Opened) -> _Side:
    layer = opened.sae.site.layer

    def at(split: Split) -> Contrast:
        whole = poles.of(POSITION, split)
        return replace(whole, acts=whole.acts[:, layer : layer + 1].copy())

    rows = np.flatnonzero(split_rows(poles.jobs, "test"))
    jobs = [poles.jobs[i] for i in rows]
    coded = coded_jobs(opened, jobs, [poles.replies[i] for i in rows])
    from lab.features.contrast import by_question

    asked, which = list(dict.fromkeys(j.question.id for j in jobs)), questions_of(jobs)
    up = poles.positive[rows]
    high, low = (by_question(coded.mean[pole], which[pole], asked) for pole in (up, ~up))
    return _Side(trait, at("extract"), at("test"), high, low, np.nanmean(coded.on, axis=0))


def direction_of(contrast: Contrast) -> Model:
    """Mean difference of a contrast at one layer, as long as the poles are apart."""
    return mean_difference(contrast.acts, contrast.positive, contrast.questions)[0]


def left_out(contrast: Contrast) -> Float[ndarray, "group d_model"]:
    """The direction without one group of questions each."""
    questions = np.unique(contrast.questions)
    if len(questions) < MIN_CLUSTERS:
        return np.zeros((0, contrast.acts.shape[2]))
    found = []
    for group in np.array_split(questions, min(GROUPS, len(questions))):
        kept = ~np.isin(contrast.questions, group)
        found.append(
            mean_difference(contrast.acts[kept], contrast.positive[kept], contrast.questions[kept])[0]
        )
    return np.array(found)


Nulls = Mapping[str, Mapping[str, Float[ndarray, "draw k"]]]


def _shared_nulls(
    config: DecomposeConfig, sides: Sequence[_Side], rows: Float[ndarray, "feature d_model"]
) -> Nulls:
    """By method and kind: shares of directions that have nothing to do with any trait."""
    rng = np.random.default_rng([config.seed, 20])
    states = np.concatenate([s.extract.acts[:, 0] for s in sides]).astype(np.float64)
    groups = [f"{s.trait} {up}" for s in sides for up in s.extract.positive]
    whole = np.flatnonzero(~np.isnan(states).any(axis=1))
    kept = [groups[i] for i in whole]
    drawn = {
        "random": random_directions(config.draws, rows.shape[1], rng),
        "covariance": covariance_directions(states[whole], kept, config.draws, rng),
    }
    return {
        method: {name: null_shares(directions, rows, fit) for name, directions in drawn.items()}
        for method, fit in METHODS.items()
    }


def _trait(
    config: DecomposeConfig, opened: Opened, side: _Side, rows: Float[ndarray, "feature d_model"], nulls: Nulls,
    stage: Stage | None, rng: np.random.Generator,
) -> dict[str, list[Any]]:  # fmt: skip
    """All tables of one trait."""
    raw, test = direction_of(side.extract), unit(direction_of(side.test))
    direction = unit(raw)
    permuted = permuted_directions(
        side.extract.acts, side.extract.positive, side.extract.questions, config.draws, rng
    )[:, 0]
    differences = _differences(side, rng)
    told = {d.feature: d for d in differences}
    out: dict[str, list[Any]] = {name: [] for name in TABLES}
    out["differences"] = list(differences)
    for method, fit in METHODS.items():
        against = {**nulls[method], "permuted": null_shares(permuted, rows, fit)}
        made = decompose(direction, rows, against, fit, left_out=left_out(side.extract))
        n = len(np.unique(side.extract.questions))
        out["shares"] += share_rows(side.trait, method, made, rows, test, n)
        out["nulls"] += null_rows(side.trait, method, made)
        mine = part_rows(side.trait, method, made, rows, direction, told)
        out["parts"] += mine
        ceiling = float(direction @ test) ** 2
        out["verdicts"].append(
            verdict_row(
                side.trait,
                method,
                POSITION,
                opened.sae.site.layer,
                made,
                ceiling,
                [p for p in mine if p.k == config.k],
            )
        )
        if stage is not None and method == "signed":
            whole = Direction(
                side.trait, opened.sae.site, POSITION, direction, float(np.linalg.norm(raw)),
                opened.model.identity.fingerprint, "extract",
            )  # fmt: skip
            features, weights = made.sparse.at(config.k)
            out["causal"] += stage.check(whole, features, weights, rows, side.on, rng)
    return out


def _differences(side: _Side, rng: np.random.Generator) -> list[FeatureDifference]:
    """Of every feature that could be tested."""
    from lab.features.contrast import paired

    found = paired(side.positive, side.negative, rng)
    return [
        FeatureDifference(
            side.trait, int(i), float(found.one[i]), float(found.other[i]), float(found.difference[i]),
            float(found.low[i]), float(found.high[i]), float(found.p[i]), float(found.q[i]), found.n,
        )
        for i in np.flatnonzero(~np.isnan(found.p))
    ]  # fmt: skip
