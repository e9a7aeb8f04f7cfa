"""What directions, scaffolds and model differences say in sparse features. One table each.

feature: index in the dictionary, 0-based. All in the dictionary's own units unless said otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from lab.records import ModelIdentity, Position, Split

NAN = float("nan")

# ------------------------------------------------------------------ directions


@dataclass(frozen=True)
class ExplainedShare:
    """How much of a direction `k` decoder rows explain.

    method: "signed" (weights of both signs) or "non-negative". share: 1 - squared residual of the unit direction;
    low, high: 95 %, delete-a-group jackknife over extract questions with the features chosen anew, NaN where there is
    none. held_out: squared cosine of the sparse reconstruction with the direction that test questions make. n:
    extract questions.
    """

    trait: str
    method: str
    k: int
    share: float
    low: float
    high: float
    held_out: float
    n: int
    split: Split = "extract"


@dataclass(frozen=True)
class ShareNull:
    """What `k` decoder rows explain of unit directions that are not the trait.

    null: "random" (isotropic), "permuted" (poles swapped in half of the questions), "covariance" (drawn with the
    covariance of replies inside their conditions). median, high: their 50 and 95 % points; p: share of them with as
    large a share as the trait's (one-sided, one added); draws: how many.
    """

    trait: str
    method: str
    k: int
    null: str
    median: float
    high: float
    p: float
    draws: int


@dataclass(frozen=True)
class DirectionPart:
    """One decoder row with its weight among the `k` that explain a direction best.

    rank: when it was chosen, 1 first; weight: of the decoder row as it is, in the unit direction; cosine: of row and
    direction. difference, low, high, q: of the encoded replies at both poles (`FeatureDifference`), NaN where that is
    not known.
    """

    trait: str
    method: str
    k: int
    rank: int
    feature: int
    weight: float
    cosine: float
    difference: float = NAN
    low: float = NAN
    high: float = NAN
    q: float = NAN


@dataclass(frozen=True)
class DecompositionVerdict:
    """Whether a direction is made of few features more than directions that are not the trait.

    decomposable: the mean share over all k is above 95 % of every null. p: the largest of the nulls' p, null:
    whose; mean: that mean share. half: fewest of the tried k that explain half of the direction, 0 where none does.
    ceiling: squared cosine of the direction with the one that test questions make, what `held_out` can reach.
    agree: share of the parts whose weight has the sign of their difference in encoded replies, of those `told` with
    q < .05 (NaN: none); why: a sentence.
    """

    trait: str
    method: str
    position: Position
    layer: int
    decomposable: bool
    mean: float
    p: float
    null: str
    half: int
    ceiling: float
    agree: float
    told: int
    why: str


@dataclass(frozen=True)
class FeatureDifference:
    """How much more a feature is on in replies at a trait's positive than at its negative pole.

    positive, negative: mean over tokens of a reply, replies of a question, then questions; difference with a 95 %
    paired bootstrap interval over questions; p: two-sided sign flip over questions, q: Benjamini-Hochberg over the
    features of the trait. n: questions.
    """

    trait: str
    feature: int
    positive: float
    negative: float
    difference: float
    low: float
    high: float
    p: float
    q: float
    n: int
    split: Split = "test"


@dataclass(frozen=True)
class CausalEffect:
    """What pushing along, or taking out, a part of a direction does to the trait, as the judge reads it.

    way: "steer" (effect: reading at the upper minus at the lower dose, without instruction) or "ablate" (effect: change
    of the reading under the trait's positive instructions). what: "direction" (all of it), "features" (its `k` decoder
    rows; ablated: those with a positive weight, as they are active), "residual" (the direction without them),
    "random" (as many other features, a `draw` each; steered at the norm of "features"), "instruction" (ablate only:
    what there is to take out, the positive instructions against none). low, high: 95 %, jackknife over questions.
    share: effect / that of the direction (ablate: of the instruction with its sign turned), NaN where the interval of
    the latter holds 0. null_high: 97.5 % point of |effect| of the random features, p: share of them at or above it
    (one added); NaN but for "features". length: norm of the push as a part of the unit direction. down, up: doses in
    mean residual norms, chosen on select. coherence: share of the replies that is language, the lower of both doses.
    n: replies per dose.
    """

    trait: str
    way: str
    what: str
    draw: int
    k: int
    length: float
    down: float
    up: float
    effect: float
    low: float
    high: float
    share: float
    null_high: float
    p: float
    coherence: float
    n: int
    split: Split = "test"


@dataclass(frozen=True)
class DecompositionBook:
    """Everything one `lab sae decompose` run says."""

    run: str
    model: ModelIdentity
    sae: str
    layer: int
    shares: tuple[ExplainedShare, ...]
    nulls: tuple[ShareNull, ...]
    parts: tuple[DirectionPart, ...]
    verdicts: tuple[DecompositionVerdict, ...]
    differences: tuple[FeatureDifference, ...]
    causal: tuple[CausalEffect, ...]
    settings: Mapping[str, object]


# ------------------------------------------------------------------ scaffolds


@dataclass(frozen=True)
class SwitchedFeature:
    """What a scaffold does to a feature in one model, against its own neutral on the same questions.

    neutral, scaffolded: mean activation over the tokens of a reply, then replies, then questions; difference with a 95 %
    paired bootstrap interval over questions. effect: the difference in `unit`, the feature's mean activation where it is
    on, so about the change of the share of tokens with it. p: sign flip, q: Benjamini-Hochberg over the
    features of model and scaffold. match: the feature of the other model that it is paired with, -1 for none.
    place: "common" (the match is switched the same way), "opposite", "only here" (the match moves by less than half),
    "cannot tell", "no counterpart"; "" where it is not switched or there is no other model. n: questions.
    """

    model: str
    sae: str
    scaffold: str
    feature: int
    neutral: float
    scaffolded: float
    difference: float
    low: float
    high: float
    effect: float
    unit: float
    p: float
    q: float
    n: int
    match: int = -1
    place: str = ""
    split: Split = "test"


@dataclass(frozen=True)
class SegmentEffect:
    """How far a feature that a scaffold switches on falls when one segment is left out.

    said: "same" (the replies under the whole scaffold are read with the segment left out of the prompt: what it does to
    the state) or "anew" (new replies: what it does to what is said as well). segment: place in the scaffold as
    written, 0-based; kind, provenance, text: of the segment. fall: effect
    with the whole scaffold minus without the segment, in the unit of `SwitchedFeature.effect`, so positive where the
    segment holds the feature up; 95 % paired bootstrap interval over questions. p: sign flip, q: Benjamini-Hochberg
    over features and segments of model, scaffold and `said`. n: questions.
    """

    model: str
    scaffold: str
    said: str
    segment: int
    kind: str
    provenance: str
    text: str
    feature: int
    fall: float
    low: float
    high: float
    p: float
    q: float
    n: int
    split: Split = "test"


@dataclass(frozen=True)
class ReadoutBook:
    """Everything one `lab sae readout` run says of one or two models; `why`: what could not be told."""

    run: str
    models: tuple[ModelIdentity, ...]
    labels: tuple[str, ...]
    saes: tuple[str, ...]
    scaffolds: tuple[str, ...]
    features: tuple[SwitchedFeature, ...]
    segments: tuple[SegmentEffect, ...]
    settings: Mapping[str, object]
    why: str = ""


# ------------------------------------------------------------------ two models


@dataclass(frozen=True)
class LatentScale:
    """How much of a latent of model A's dictionary is in both models' states of the same texts.

    activity: mean activation over A's tokens; ratio: the same on B's states, as the dictionary reads them,
    over that on A's: what "only in A" would be judged by alone. beta_a, beta_b: scale of the latent's
    contribution, as A activates it, in each model's states, all latents fitted together; nu = beta_b /
    beta_a: 0 absent from B, 1 as in A, NaN where beta_a is not clearly above 0; low, high: 95 %, delete-a-
    group jackknife over texts. alone: nu with every latent fitted by itself. null_high: 95 % point of |nu|
    with B's texts paired wrongly. p: one-sided, of nu at least `PRESENT`; q: Benjamini-Hochberg over
    latents that can be told. verdict: see `lab.geometry.latent_scaling.verdict`. texts: in which A
    activates it.
    """

    feature: int
    texts: int
    activity: float
    ratio: float
    beta_a: float
    beta_b: float
    nu: float
    low: float
    high: float
    alone: float
    null_high: float
    p: float
    q: float
    verdict: str


@dataclass(frozen=True)
class DifferenceBook:
    """Everything one `lab sae difference` run says of the models (A, whose dictionary it is, and B).

    coordinates: whether the two have the same coordinates (`lab.axis.same_coordinates`); why: the reason where that
    leaves no verdict. texts, tokens: held out from the dictionary's training.
    """

    run: str
    models: tuple[ModelIdentity, ...]
    sae: str
    layer: int
    coordinates: float
    texts: int
    tokens: int
    latents: tuple[LatentScale, ...]
    settings: Mapping[str, object]
    why: str = ""
