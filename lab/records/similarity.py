"""What a comparison of two models' scaffold geometry says: one value, its layer grid, its two matrices."""

from dataclasses import dataclass, field

from jaxtyping import Float
from numpy import ndarray

NO_LAYER = -1
"""The layer of a comparison that abstained before a layer was chosen."""


@dataclass(frozen=True)
class Similarity:
    """How alike the scaffolds lie in model A at `layer_a` and in model B at `layer_b`.

    value: at most 1 (the same geometry); 0 is chance, its mean over all relabelings of the scaffolds; it may
    be negative. low, high: 95 % cluster bootstrap over questions with the scaffolds held fixed, that is how
    far the value moves with other questions put to *these* scaffolds; nothing about other scaffolds. p,
    null_high: one-sided permutation p and the 95th percentile of the null, scaffold labels permuted as whole
    blocks. Where the layers were chosen on a split (`chosen_on`), every permutation chooses anew there, so
    the search is paid for; other questions alone do not pay, since the scaffolds are the same.
    largest: the largest value of the layer grid of these questions; p_max, max_high: its p and 95th
    percentile under the null of the maximum.

    reliability_a, reliability_b: each model against itself on disjoint halves of the questions, between 0
    and 1; ceiling = sqrt of their product, about what two models with one and the same geometry reach here.
    Where models share answers to single questions the value may exceed it.
    questions: how many were used; dropped: how many were left out because some scaffold has no state on
    them in one of the models. prepared: what was done to the dimensions of each model.
    NaN: the lab abstains or cannot tell; `why` is the reason, "" where there is a value.
    """

    measure: str
    model_a: str
    model_b: str
    layer_a: int
    layer_b: int
    value: float
    low: float
    high: float
    p: float
    null_high: float
    largest: float
    p_max: float
    max_high: float
    reliability_a: float
    reliability_b: float
    ceiling: float
    scaffolds: int
    questions: int
    dropped: int
    draws: int
    split: str
    chosen_on: str
    prepared: str
    why: str


@dataclass(frozen=True)
class GridCell:
    """One cell of the layer x layer grid.

    null_high: 95th percentile of this cell's own null; a cell above `Similarity.max_high` of the same
    measure stands out after correction for the whole grid. NaN: one of the layers does not vary over
    scaffolds.
    """

    measure: str
    layer_a: int
    layer_b: int
    value: float
    null_high: float


@dataclass(frozen=True)
class Dissimilarity:
    """How far apart two scaffolds lie in one model at one layer, once per unordered pair.

    value: crossnobis (unbiased squared distance, so 0 means "the same state" and noise can bring it below
    0), in units of the root mean square over this model's pairs, so that two models can be drawn in one
    scale. rank: 0 nearest pair to 1 farthest; ties share their mean rank. NaN: the layer does not vary.
    """

    model: str
    layer: int
    scaffold_a: str
    scaffold_b: str
    value: float
    rank: float


@dataclass(frozen=True)
class UntrainedControl:
    """A value of two models beside what untrained networks reach on the same texts.

    what: a measure, or the method of a map from `source` to `target` ("" for a measure, which has no direction).
    value: of the two models, on the first wording of every scaffold; of a map: fitted on extract alone.
    words, words_high: median and largest value of the pairs in which both are untrained twins: what prompts,
    replies, tokenizers and architectures give by themselves. p: share of all (twins + 1)^2 pairs of one side's
    networks with the other's that do as well as the two models; exact for models that are untrained themselves,
    since then all networks of a side are interchangeable. NaN where `why` says why.
    """

    what: str
    source: str
    target: str
    twins: int
    scaffolds: int
    questions: int
    split: str
    why: str = ""
    value: float = float("nan")
    words: float = float("nan")
    words_high: float = float("nan")
    p: float = float("nan")


@dataclass(frozen=True)
class ChosenGrams:
    """Inner products of question-centred states of both models, at the layers that a measure chose."""

    measure: str
    questions: tuple[str, ...]
    a: Float[ndarray, "scaffold question scaffold question"] = field(repr=False)
    b: Float[ndarray, "scaffold question scaffold question"] = field(repr=False)


@dataclass(frozen=True)
class Beside:
    """One agreement beside another of the same design, such as that of two seeds: is it less?

    difference = value - reference; low, high: 95 % bootstrap over questions, the same draws for both, scaffolds
    fixed. outside: the whole interval is below 0: these models differ by more than the reference pair does. NaN
    where `why` says why.
    """

    position: str
    measure: str
    questions: int
    why: str = ""
    value: float = float("nan")
    reference: float = float("nan")
    difference: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")

    @property
    def outside(self) -> bool:
        """Whether the difference from the reference is measurable and negative."""
        return self.high < 0

    @property
    def verdict(self) -> str:
        """The same in words."""
        if self.why or self.low != self.low:
            return "cannot tell"
        if self.outside:
            return "less alike than the reference pair"
        return "more alike than the reference pair" if self.low > 0 else "as alike as the reference pair"


@dataclass(frozen=True)
class SimilarityReport:
    """All that `lab.geometry.similarity.compare` finds: a value per measure, their grids, the matrices."""

    similarities: tuple[Similarity, ...]
    cells: tuple[GridCell, ...]
    dissimilarities: tuple[Dissimilarity, ...]
    grams: tuple[ChosenGrams, ...] = field(default=(), repr=False)
