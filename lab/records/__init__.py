"""The frozen dataclasses that flow between stages. Stages import these, never each other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lab.errors import LabError as LabError
from lab.shapes import Chat, ChatLayerModel, Model, Pos

Split = Literal["extract", "select", "test"]
Position = Literal["reply_mean", "spawn", "first_tokens", "decision"]
Polarity = Literal["positive", "negative", "neutral"]
Elicitation = Literal["instruction", "scenario"]
"""How a trait is brought out: told by a system prompt, or by the situation that a user message describes."""
FIRST_TOKENS = 8
"""How many reply tokens the position "first_tokens" takes in, or all where there are fewer."""
SEGMENT_HEADINGS: dict[str, str] = {
    "memory": "Memory", "boundary": "Boundaries", "ritual": "Rituals", "lesson": "Lessons",
}  # fmt: skip


# ------------------------------------------------------------------ what people write


@dataclass(frozen=True)
class Segment:
    """One piece of a scaffold.

    `kind` is identity, memory, boundary, ritual or lesson; `provenance` says who wrote it
    (human, user, model, imported, verified).
    """

    kind: str
    text: str
    provenance: str = "human"


@dataclass(frozen=True)
class Scaffold:
    """What a person hands a model to make it someone. No segments: the model as it comes."""

    name: str
    segments: tuple[Segment, ...]

    @property
    def text(self) -> str:
        """The system prompt: identity first, then a headed list per other kind of segment."""
        parts = [s.text for s in self.segments if s.kind == "identity"]
        for kind, heading in SEGMENT_HEADINGS.items():
            lines = [s.text for s in self.segments if s.kind == kind]
            if lines:
                parts.append("\n".join([f"{heading}:", *lines]))
        return "\n".join(parts)


@dataclass(frozen=True)
class ScaffoldFile:
    """A scaffold with its paraphrases (at least one; the first is the scaffold as written)."""

    name: str
    description: str
    paraphrases: tuple[Scaffold, ...]


@dataclass(frozen=True)
class Question:
    """A user turn that is asked under every condition, and the split it belongs to."""

    id: str
    text: str
    split: Split


@dataclass(frozen=True)
class Trait:
    """A trait with contrastive system prompts (pairs by index).

    `rubric` is what a judge is asked ({question} and {answer} are filled in); `scenarios` are pairs
    of user messages, (positive, negative), whose situation draws the trait out without naming it.
    """

    name: str
    positive: tuple[str, ...]
    negative: tuple[str, ...]
    rubric: str = ""
    scenarios: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Role:
    """Someone a model can be told to be, in several system prompts; `description` is one line."""

    name: str
    prompts: tuple[str, ...]
    description: str = ""


@dataclass(frozen=True)
class RoleSet:
    """Roles, and the prompts of the default assistant that they are held against."""

    default: tuple[str, ...]
    roles: tuple[Role, ...]


@dataclass(frozen=True)
class TraitSet:
    """Traits and the questions they are measured on, three disjoint splits."""

    name: str
    traits: tuple[Trait, ...]
    questions: tuple[Question, ...]

    def of(self, split: Split) -> tuple[Question, ...]:
        """The questions of one split."""
        return tuple(q for q in self.questions if q.split == split)


# ------------------------------------------------------------------ what goes through a model


@dataclass(frozen=True)
class Message:
    """One message of a chat; role is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True)
class Span:
    """Token range [start, end) of one message's content, template tokens left out."""

    role: str
    start: int
    end: int


@dataclass(frozen=True)
class Rendered:
    """A chat as token ids [pos], ready to be continued by the assistant, with role spans."""

    ids: Pos
    spans: tuple[Span, ...]
    text: str


@dataclass(frozen=True)
class Site:
    """A place where we read or write: the residual stream after block `layer`, 0-based."""

    layer: int


@dataclass(frozen=True)
class ModelIdentity:
    """Which model, exactly. `fingerprint` covers weights, tokenizer, template and dtype."""

    name: str
    path: str
    fingerprint: str
    parameters: int
    layers: int
    d_model: int
    vocab: int
    dtype: str
    processed_weights: bool


@dataclass(frozen=True)
class Reply:
    """One generated reply: its text, token strings, and per trait the projection of each token.

    `tokens` are the decoded token pieces in order; `projections[trait][i]` is <h_i, v> at the
    layer of that trait's direction (empty when no directions were given).
    """

    text: str
    tokens: tuple[str, ...]
    projections: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Activations:
    """Replies of one model to many chats with what the residual stream did meanwhile.

    pooled [chat, layer, d_model] per position:
    "reply_mean": mean over the reply's tokens (end token left out);
    "spawn": state at the last prompt token;
    "first_tokens": mean over the first FIRST_TOKENS tokens of the reply;
    "decision": mean over the last prompt token and the reply's tokens, each weighted by the entropy
    of the model's distribution over the token that follows it: where the model decides.
    norm [layer]: mean residual norm over all reply tokens, the unit of steering.
    Rows are in the order of the chats that were given; an empty reply has NaN but for "spawn".
    """

    pooled: Mapping[Position, ChatLayerModel]
    norm: Chat
    replies: tuple[Reply, ...]

    @property
    def reply_mean(self) -> ChatLayerModel:
        """Mean over the reply's tokens."""
        return self.pooled["reply_mean"]

    @property
    def spawn(self) -> ChatLayerModel:
        """State at the last prompt token."""
        return self.pooled["spawn"]


# ------------------------------------------------------------------ what is concluded


@dataclass(frozen=True)
class Direction:
    """A persona vector: unit vector at a site with its original length.

    Positive means more of the trait. `position` says where it was pooled; `fingerprint` whose
    space it lives in; `split` on which questions it was made.
    """

    trait: str
    site: Site
    position: Position
    vector: Model
    length: float
    fingerprint: str
    split: Split


@dataclass(frozen=True)
class LayerScore:
    """How well one layer's direction separates a trait's poles on one split, held out.

    auroc in [0, 1]; d_prime in within-condition sd; null_high is the 97.5 % point of d_prime
    under pole-swapped directions.
    """

    model: str
    trait: str
    position: Position
    layer: int
    split: Split
    auroc: float
    d_prime: float
    null_high: float
    chosen: bool


@dataclass(frozen=True)
class Landing:
    """Where one scaffold puts one model on one trait.

    `paraphrase` is -1 for the mean over paraphrases, else the index of one. low/high: 95 %
    cluster bootstrap; null_low/null_high: 95 % band under pole-swapped directions of equal
    norm; n: replies; d_prime: separation from the model's own neutral.
    """

    model: str
    scaffold: str
    paraphrase: int
    trait: str
    position: Position
    L: float
    low: float
    high: float
    null_low: float
    null_high: float
    d_prime: float
    n: int
    split: Split
    layer: int


@dataclass(frozen=True)
class Interaction:
    """What a scaffold does in model A beyond what it does in model B: D with interval and test."""

    scaffold: str
    trait: str
    position: Position
    D: float
    low: float
    high: float
    p: float
    q: float
    n: int


@dataclass(frozen=True)
class NoiseFloor:
    """How far L moves inside one model when only the wording of a scaffold changes.

    `paraphrase_sd` is the pooled sd of L over paraphrases of one scaffold (their sampling
    noise included); `difference_95` the 95 % limit of |difference| of two paraphrases.
    """

    model: str
    trait: str
    position: Position
    paraphrase_sd: float
    difference_95: float
    n: int


@dataclass(frozen=True)
class Anchors:
    """The fixed points of a model's L: raw projections at negative, neutral, positive.

    `unit` is the raw projection difference that counts as 1.
    """

    model: str
    trait: str
    position: Position
    layer: int
    negative: float
    neutral: float
    positive: float
    unit: float


@dataclass(frozen=True)
class RoleLanding:
    """Where one role stands in one model.

    loading: along the assistant axis, 0 the mean over roles, 1 the default assistant, with a 95 %
    cluster-bootstrap interval over questions; across: on the first component of the roles' mean states
    that is orthogonal to the axis, in sd over roles. "default" and "no scaffold" are among the roles,
    though they are neither in the mean nor in the component.
    """

    model: str
    role: str
    loading: float
    low: float
    high: float
    across: float


@dataclass(frozen=True)
class RoleReply:
    """A test reply of who stands on a persona map: system prompt, what was asked, what was said.

    loading: where this reply's states stand, on the ruler of `RoleLanding.loading`, whose mean over replies that is;
    NaN for a base model's replies, which stand by their words.
    """

    model: str
    role: str
    system: str
    question: str
    text: str
    loading: float


@dataclass(frozen=True)
class AxisSummary:
    """One model's assistant axis on one split.

    reliability of the loadings over questions (split-half, stepped up); share and cosine: of the first
    principal component of the roles, its part of the variance between them and its cosine with the
    axis; needed: components for 70 % of that variance; across: the part of the component orthogonal to
    the axis; n: questions.
    """

    model: str
    layer: int
    position: Position
    split: Split
    reliability: float
    share: float
    cosine: float
    needed: int
    across: float
    n: int


@dataclass(frozen=True)
class LoadingAgreement:
    """Whether two models order the same roles alike along their own assistant axes.

    r: Pearson correlation over roles, with a 95 % bootstrap interval over roles; p: share of permuted
    role labels with an r at least as large (one-sided); null_high: 97.5 % point of these; ceiling: the r
    that two models with the same true loadings would reach, sqrt of the product of both reliabilities;
    n: roles.
    """

    r: float
    low: float
    high: float
    p: float
    null_high: float
    ceiling: float
    n: int


@dataclass(frozen=True)
class PersonaMap:
    """Everything one `lab axis` run says: one or two models, and whether two order roles alike."""

    run: str
    models: tuple[ModelIdentity, ...]
    summaries: tuple[AxisSummary, ...]
    landings: tuple[RoleLanding, ...]
    agreement: LoadingAgreement | None
    replies: tuple[RoleReply, ...] = ()


@dataclass(frozen=True)
class ReplyRow:
    """One reply of the comparison, for reading: what was asked under which scaffold."""

    model: str
    scaffold: str
    paraphrase: int
    question: str
    split: Split
    prompt: str
    reply: Reply


@dataclass(frozen=True)
class Comparison:
    """Everything one `lab compare` run says. Figures and reports are functions of this."""

    run: str
    models: tuple[ModelIdentity, ...]
    labels: tuple[str, ...]
    scaffolds: tuple[ScaffoldFile, ...]
    trait_set: str
    landings: tuple[Landing, ...]
    interactions: tuple[Interaction, ...]
    noise_floor: tuple[NoiseFloor, ...]
    anchors: tuple[Anchors, ...]
    depth: tuple[LayerScore, ...]
    replies: tuple[ReplyRow, ...]
    settings: Mapping[str, object]


# ------------------------------------------------------------------ steering


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


# ------------------------------------------------------------------ quality of directions


@dataclass(frozen=True)
class TraitCard:
    """How well one recipe's direction of one trait separates the poles on *test*.

    estimator, position: the recipe, its layer chosen on *select*; auroc in [0, 1] with a 95 %
    cluster-bootstrap interval over questions; d_prime in within-pole sd; select_d_prime: what it was
    where the layer was chosen, so that the difference is the optimism of choosing; p: two-sided sign
    flip over test questions of (positive - negative), valid whatever was chosen, since no test question
    had a part in it; selected: the recipe that *select* speaks for; n: test replies, questions: how many;
    elicitation: how the trait was brought out (a pair of scenarios counts as one question).
    """

    model: str
    trait: str
    estimator: str
    position: Position
    layer: int
    auroc: float
    low: float
    high: float
    d_prime: float
    select_d_prime: float
    p: float
    selected: bool
    n: int
    questions: int
    elicitation: Elicitation = "instruction"


@dataclass(frozen=True)
class ElicitationTransfer:
    """How a direction made by one elicitation separates the poles brought out by another, on *test*.

    Recipe and layer are those selected where it was made. auroc with a 95 % cluster-bootstrap interval over
    questions (pairs of scenarios), d_prime in within-pole sd, p: two-sided sign flip over them; cosine: with
    the direction that the other elicitation makes at the same layer by the same recipe, [-1, 1].
    """

    model: str
    trait: str
    made_by: Elicitation
    read_on: Elicitation
    layer: int
    auroc: float
    low: float
    high: float
    d_prime: float
    p: float
    cosine: float
    n: int
    questions: int


@dataclass(frozen=True)
class RemovedReply:
    """An *extract* or *select* reply that a filter took out before directions were made, and why."""

    trait: str
    elicitation: Elicitation
    pole: Polarity
    split: Split
    question: str
    text: str
    reasons: str


@dataclass(frozen=True)
class RecipeAgreement:
    """Whether two recipes order the same test replies alike: correlation inside the poles, [-1, 1]."""

    model: str
    trait: str
    first: str
    second: str
    r: float
    n: int


@dataclass(frozen=True)
class PoleReply:
    """A test reply at one pole of a trait, with its projection on the trait's direction.

    place: its projection in units of L's half pole-to-pole range around the middle of the poles, both
    from *select*: about -1 at the negative pole, 1 at the positive.
    """

    model: str
    trait: str
    pole: Polarity
    question: str
    prompt: str
    text: str
    place: float


@dataclass(frozen=True)
class TraitBook:
    """Everything one `lab extract` run says of one model's traits, but for the vectors themselves."""

    run: str
    model: ModelIdentity
    depth: tuple[LayerScore, ...]
    cards: tuple[TraitCard, ...]
    agreements: tuple[RecipeAgreement, ...]
    replies: tuple[PoleReply, ...]
    transfers: tuple[ElicitationTransfer, ...] = ()
    removed: tuple[RemovedReply, ...] = ()
