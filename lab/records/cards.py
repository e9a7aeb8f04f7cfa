"""What one `lab extract` run says of a model's traits: quality cards, agreement of recipes, replies."""

from dataclasses import dataclass

from lab.records import Elicitation, LayerScore, ModelIdentity, Polarity, Position, Split


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
