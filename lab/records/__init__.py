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
