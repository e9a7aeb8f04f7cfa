"""What the comparison of two models' geometry takes in, states under one design, and all that it says."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from lab.records import LabError, ModelIdentity, Position, Split
from lab.records.maps import LandingAgreement, MapScore, Share, SharedMap
from lab.records.similarity import Dissimilarity, GridCell, Similarity, UntrainedControl


@dataclass(frozen=True)
class StateGrid:
    """Residual states of one model under scaffolds x paraphrases x questions.

    acts [scaffold, paraphrase, question, layer, d_model]: state of one reply, pooled at `position`; NaN
    where the reply failed. `scaffolds` and `questions` label the first and third axis; all questions are
    of `split`. Raises LabError where labels and axes do not fit.
    """

    model: str
    fingerprint: str
    position: Position
    split: Split
    scaffolds: tuple[str, ...]
    questions: tuple[str, ...]
    acts: Float[ndarray, "scaffold paraphrase question layer d_model"] = field(repr=False)

    def __post_init__(self) -> None:
        expected = (len(self.scaffolds), len(self.questions))
        if self.acts.ndim != 5 or (self.acts.shape[0], self.acts.shape[2]) != expected:
            raise LabError(
                f"{self.model}: expected states of {expected[0]} scaffolds x paraphrases x {expected[1]} "
                f"questions x layers x d_model, got the shape {self.acts.shape}"
            )
        if len(set(self.scaffolds)) != expected[0] or len(set(self.questions)) != expected[1]:
            raise LabError(f"{self.model}: scaffolds and questions must be named once each")

    @property
    def layers(self) -> int:
        """How many layers were read."""
        return self.acts.shape[3]

    def at(self, layer: int) -> Float[ndarray, "scaffold paraphrase question d_model"]:
        """Float64 states of one layer."""
        return self.acts[:, :, :, layer].astype(np.float64)


def check_pair(a: StateGrid, b: StateGrid) -> None:
    """LabError unless both models were read under the same scaffolds, paraphrases, questions and pooling."""
    for what in ("scaffolds", "questions", "position", "split"):
        if getattr(a, what) != getattr(b, what):
            raise LabError(
                f"expected the same {what} for {a.model} and {b.model}, got {getattr(a, what)} and "
                f"{getattr(b, what)}; run both models on one design"
            )
    if a.acts.shape[1] != b.acts.shape[1]:
        raise LabError(
            f"expected as many paraphrases for {a.model} as for {b.model}, got {a.acts.shape[1]} and "
            f"{b.acts.shape[1]}"
        )


@dataclass(frozen=True)
class Place:
    """Where two models are compared: at the spawn point, or over the replies.

    cells, dissimilarities: of the measures in `similarities`; maps: both ways, by every method, at the layers
    that CKA chose on *select*; shared: the picture of landings in one frame, both ways, or why there is none;
    shares, agreements: of landings L on the traits, each model at its own direction. prepared: the similarities
    once more, without massive dimensions and in noise units. untrained: beside networks that never trained.
    """

    position: Position
    similarities: tuple[Similarity, ...]
    cells: tuple[GridCell, ...]
    dissimilarities: tuple[Dissimilarity, ...]
    maps: tuple[MapScore, ...]
    shared: tuple[SharedMap, ...]
    shares: tuple[Share, ...]
    agreements: tuple[LandingAgreement, ...]
    prepared: tuple[Similarity, ...] = ()
    untrained: tuple[UntrainedControl, ...] = ()


@dataclass(frozen=True)
class PlacedLanding:
    """L of one scaffold on one trait in one model, mean over paraphrases and questions."""

    model: str
    position: Position
    trait: str
    scaffold: str
    L: float


@dataclass(frozen=True)
class MultiverseCell:
    """What one recipe for the direction would have concluded on one trait, both models read by it.

    depth: relative (0 first layer, 1 last), the same in both. r: correlation over scaffolds of the two models'
    landings; scaffold, crossed: shares of the landings' variance that the scaffold and scaffold x weights
    explain. selected: the recipe that the run reports. NaN: one of the models has no unit by this recipe.
    """

    trait: str
    estimator: str
    position: Position
    depth: float
    r: float
    scaffold: float
    crossed: float
    selected: bool


@dataclass(frozen=True)
class Transfer:
    """Steering one model with a direction that a map carried over from another.

    Effects are the judge's reading at the upper minus at the lower dose (doses chosen for the target's own
    direction on *select*), on *test* questions: native (its own), carried (the source's, through the map;
    95 % delete-one jackknife over questions), random (mean over random directions), permuted (mean over maps
    fitted on shuffled pairings of the scaffolds) and wrong (mean over the source's other traits, carried).
    recovery = (carried - random) / (native - random): 1, as good as its own; 0, no better than any
    direction of that norm; NaN where native and random do not differ clearly. p: share of permuted maps
    that do as well as the true one; controls: how many. cosine: of the carried with the native direction.
    """

    trait: str
    source: str
    target: str
    layer_source: int
    layer_target: int
    down: float
    up: float
    native: float
    native_low: float
    native_high: float
    carried: float
    carried_low: float
    carried_high: float
    random: float
    permuted: float
    permuted_high: float
    wrong: float
    recovery: float
    recovery_low: float
    recovery_high: float
    p: float
    cosine: float
    controls: int
    questions: int
    n: int
    judge: str
    unit: str


@dataclass(frozen=True)
class TransferDose:
    """What one dose does to the target: the judge's reading under it minus the reading without a push, on *test*.

    kind: native, carried, random, permuted or wrong, as in `Transfer`, or none (dose and change 0); draws: directions
    of that kind. dose: in mean residual norms of the site. change, with low and high: 95 % delete-one jackknife
    over questions for native and carried; for controls the mean over draws and the range in which 95 % of draws
    lie (NaN for fewer than 5). coherence: share of the replies that is language, mean over replies and draws.
    n: replies a draw.
    """

    trait: str
    source: str
    target: str
    kind: str
    dose: float
    change: float
    low: float
    high: float
    coherence: float
    draws: int
    n: int


@dataclass(frozen=True)
class TransferReply:
    """What the target said to one *test* question under one push.

    kind: none, native, carried, random, permuted or wrong; of the last three the first direction drawn, whatever
    it did: draw says which (for wrong, the trait that it is of). trait: "" for none, which is the same for all.
    dose: 0 for none, else the lower or upper dose of the `Transfer`. sample: which of several replies to the question.
    """

    trait: str
    source: str
    target: str
    kind: str
    draw: str
    dose: float
    question: str
    asked: str
    sample: int
    text: str


@dataclass(frozen=True)
class TransferBook:
    """Everything one `lab transfer` run says: both ways, every trait; doses one by one, and some of the replies."""

    run: str
    models: tuple[ModelIdentity, ...]
    labels: tuple[str, ...]
    transfers: tuple[Transfer, ...]
    settings: Mapping[str, object]
    doses: tuple[TransferDose, ...] = ()
    replies: tuple[TransferReply, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class GeometryBook:
    """Everything one `lab geometry` run says of two models."""

    run: str
    models: tuple[ModelIdentity, ...]
    labels: tuple[str, ...]
    places: tuple[Place, ...]
    landings: tuple[PlacedLanding, ...]
    settings: Mapping[str, object]
    multiverse: tuple[MultiverseCell, ...] = ()

    def at(self, position: Position) -> Place:
        """One of the places. LabError for one that was not compared."""
        for place in self.places:
            if place.position == position:
                return place
        raise LabError(
            f"run {self.run} has no {position}; it has {', '.join(p.position for p in self.places)}"
        )
