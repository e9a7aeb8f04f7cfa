"""What one `lab steer` run says: doses, poolings, caps, and what is left after release."""

from collections.abc import Mapping
from dataclasses import dataclass

from lab.records import ModelIdentity, Position, Split


@dataclass(frozen=True)
class DoseRow:
    """What is read of one trait in replies that were steered, prompted or left alone.

    steered: the trait that is pushed; kind: "none" (left alone), "native" (its own direction), "ablate" (its
    own direction taken out: no dose, coefficient 0), "prompt" (its contrastive instructions and no push),
    "other" (another trait's direction), "random", "permuted", "covariance" (directions of equal norm that are
    not the trait); draw: which of several, or which other trait; coefficient: push in mean residual norms of
    the site (-1 and 1 for the poles of "prompt"); read: the trait that is judged. reading: in `unit` of the
    run, replies pooled; change: its difference from "none" on the same questions; low/high: 95 % of the change,
    jackknife over questions. wrong_way: share of questions that moved against the push, NaN without one.
    coherence: share of what was said that is language; task: share of task items right, NaN where not asked;
    n: replies.
    """

    model: str
    steered: str
    kind: str
    draw: str
    coefficient: float
    read: str
    reading: float
    change: float
    low: float
    high: float
    wrong_way: float
    coherence: float
    task: float
    n: int
    split: Split


@dataclass(frozen=True)
class SteerSummary:
    """How well one trait is steered: pooling and doses chosen on *select*, the effect on *test*.

    down, up: coefficients chosen, the strongest that stay coherent; effect: reading at up minus
    reading at down, low/high its 95 % jackknife interval over test questions; prompt: the same
    difference between the trait's instructions; null_high: 97.5 % point of |effect| of the `controls`
    directions of equal norm, p: their share at or above it (with one added); select_effect: the effect
    on the questions that chose, so select_effect - effect is the optimism of choosing; reached: whether
    a dose was coherent enough at all (else down and up are the weakest tried).
    """

    model: str
    trait: str
    position: Position
    layers: tuple[int, ...]
    down: float
    up: float
    effect: float
    low: float
    high: float
    prompt: float
    null_high: float
    p: float
    controls: int
    select_effect: float
    reached: bool
    n: int


@dataclass(frozen=True)
class PoolingDose:
    """How well a direction steers by where it was pooled: its strongest coherent doses on *select*.

    effect: reading at up minus at down on the questions of `split`, low/high its 95 % jackknife interval over
    them (on *select* of the best of several doses, so too hopeful); coherence: of the two; reached: whether
    both are coherent enough on *select*; chosen: the pooling that *select* speaks for; n: replies.
    """

    model: str
    trait: str
    position: Position
    layer: int
    down: float
    up: float
    effect: float
    coherence_down: float
    coherence_up: float
    reached: bool
    chosen: bool
    n: int
    split: Split = "select"
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True)
class CapRow:
    """What capping (or flooring) a trait does, with its threshold from other questions.

    kind: "cap" or "floor"; percentile: of token projections on *select* without scaffold that tau (raw
    projection, at the middle of `layers`; `taus`: at each) stands at, for a floor 100 minus it;
    alarm_tokens, alarm_replies: share of *test* tokens and replies without scaffold that the edit touches at
    any layer, of replies with a binomial interval (replies counted as independent, though a question has
    several); condition: "neutral" (benign work) or "against" (the pole it is meant against); reading,
    coherence, task: without and with the edit under that condition, low/high: 95 % of the change of the
    reading, jackknife over questions; n: replies; position: the pooling of the directions.
    """

    model: str
    trait: str
    kind: str
    percentile: float
    tau: float
    alarm_tokens: float
    alarm_replies: float
    condition: str
    reading: float
    reading_edited: float
    low: float
    high: float
    coherence: float
    coherence_edited: float
    task: float
    task_edited: float
    n: int
    alarm_low: float = float("nan")
    alarm_high: float = float("nan")
    position: Position = "reply_mean"
    layers: tuple[int, ...] = ()
    taus: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        # A table gives arrays back.
        object.__setattr__(self, "layers", tuple(int(k) for k in self.layers))
        object.__setattr__(self, "taus", tuple(float(t) for t in self.taus))


@dataclass(frozen=True)
class ReleaseRow:
    """Steer and let go: how far the state is off, token by token.

    token: of the reply, 0-based; pushed: whether the push was still on; difference: projection steered
    minus unsteered, same question and seed, in units of its mean under the push; low/high: 95 % bootstrap interval over
    questions; n: pairs of replies that both reach this token.
    """

    model: str
    trait: str
    coefficient: float
    token: int
    pushed: bool
    difference: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class HalfLife:
    """How fast the state returns once the push ends: the restoring force of scaffold and weights.

    carried: difference at the first token without push, 1 being its mean under the push (interval
    low/high), read at `layer`, above the push;
    tokens: from there until half of it is left; NaN where nothing is carried (its interval holds 0) or
    where it does not halve within the window.
    """

    model: str
    trait: str
    coefficient: float
    carried: float
    low: float
    high: float
    tokens: float
    window: int
    layer: int


@dataclass(frozen=True)
class Steering:
    """Everything one `lab steer` run says of one model."""

    run: str
    model: ModelIdentity
    judge: str
    unit: str
    doses: tuple[DoseRow, ...]
    poolings: tuple[PoolingDose, ...]
    summaries: tuple[SteerSummary, ...]
    caps: tuple[CapRow, ...]
    releases: tuple[ReleaseRow, ...]
    half_lives: tuple[HalfLife, ...]
    settings: Mapping[str, object]
