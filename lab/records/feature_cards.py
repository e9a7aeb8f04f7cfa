"""Feature cards: what one feature of a sparse dictionary answers to, and what is known about that.

`Activity` is what cards are made of; a `FeatureBook` is everything that one run of `lab sae features` says, one
dataclass per table. Unknown is NaN, and fewer than 5 texts are too few to tell.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Bool, Int
from numpy import ndarray
from scipy.sparse import csr_array

from lab.records import LabError, ModelIdentity
from lab.records.features import SaeCard

csr: Any = csr_array
"""csr_array, whose types know neither its shape nor what a product of it is."""
if TYPE_CHECKING:
    Sparse = Any
else:
    Sparse = csr_array
Quantile = Literal["top", "90 %", "50 %"]
QUANTILES: tuple[Quantile, ...] = ("top", "90 %", "50 %")
"""Which examples: the strongest, and those at two quantiles of the activations that are not 0."""
SAME = 0.7
"""Correlation, or cosine, from which on two features count as the same."""
Level = Literal["in slot", "anywhere", "pole"]
LEVELS: tuple[Level, ...] = ("in slot", "anywhere", "pole")
"""What a choice is told from: the other alternatives of its slot, all other trait-bearing choices, or (for the sign
of the load) the alternatives of the slot that speak for the other pole."""


@dataclass(frozen=True)
class Activity:
    """Activations of all features of one dictionary at the counted tokens of texts.

    values: float32 csr [token, feature], never negative; text [token]: which text, ascending; position [token]: in
    the row that the model read; reply [token]: said by the assistant; start, end [token]: characters of
    texts[text]. texts: what the counted tokens say, messages apart by a line break. Tokens of one text are in
    reading order; one that begins a character which others end has no width. LabError for lengths that differ
    and for a negative activation.
    """

    values: Sparse
    text: Int[ndarray, " token"]
    position: Int[ndarray, " token"]
    reply: Bool[ndarray, " token"]
    start: Int[ndarray, " token"]
    end: Int[ndarray, " token"]
    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        lengths = {len(x) for x in (self.text, self.position, self.reply, self.start, self.end)}
        if lengths != {self.values.shape[0]}:
            raise LabError(
                f"expected one entry per token in every column, got {sorted(lengths)} for {self.values.shape[0]} "
                "rows of activations"
            )
        if self.values.nnz and float(self.values.data.min()) < 0:
            raise LabError(
                "expected activations of at least 0; a feature below 0 is not a feature of this kind"
            )

    @property
    def features(self) -> int:
        """How many features the dictionary has."""
        return int(self.values.shape[1])

    def piece(self, token: int) -> str:
        """What one token says."""
        return self.texts[self.text[token]][self.start[token] : self.end[token]]

    def of(self, texts: Int[ndarray, " some"]) -> "Activity":
        """The tokens of some texts; text numbers stay as they are."""
        at = np.flatnonzero(np.isin(self.text, texts))
        return Activity(
            self.values[at], self.text[at], self.position[at], self.reply[at], self.start[at], self.end[at],
            self.texts,
        )  # fmt: skip


# ------------------------------------------------------------------ tables


@dataclass(frozen=True)
class FeatureCard:
    """One feature on held-out text.

    sae: the dictionary; fires: share of counted tokens at which it is on, 95 % interval over texts; texts: in how
    many it is; mean, highest: of its activations that are not 0; histogram: counts of these in equal bins from 0
    to `highest`. promoted, suppressed: the tokens whose logits it raises and lowers most, with the
    change in nats that its mean activation makes through the last norm and the unembedding alone
    (`lab.features.unembedding`); promoted_null: 97.5 % point of the largest such logit for random rows of equal
    length with the decoder's covariance. A feature that never fires has NaN and no bins.
    """

    sae: str
    feature: int
    fires: float
    fires_low: float
    fires_high: float
    texts: int
    mean: float
    highest: float
    histogram: tuple[int, ...] = ()
    promoted: tuple[str, ...] = ()
    promoted_logits: tuple[float, ...] = ()
    suppressed: tuple[str, ...] = ()
    suppressed_logits: tuple[float, ...] = ()
    promoted_null: float = float("nan")


@dataclass(frozen=True)
class FeatureExample:
    """One place where a feature fires, with the tokens around it.

    quantile, rank: why it is shown; activation: at the token tokens[at]; values: the feature at every shown
    token, for shading; text, position: where; reply: whether the assistant says it.
    """

    sae: str
    feature: int
    quantile: Quantile
    rank: int
    activation: float
    text: int
    position: int
    reply: bool
    at: int
    tokens: tuple[str, ...]
    values: tuple[float, ...]


def peak_word(example: FeatureExample) -> str:
    """The word, or mark, in which an example has its highest token."""
    begin = sum(map(len, example.tokens[: example.at]))
    end = begin + len(example.tokens[example.at])
    text = "".join(example.tokens)
    words = [
        m
        for m in re.finditer(r"[\w'’]+|[^\w\s]+", text)
        if m.start() < max(end, begin + 1) and m.end() > begin
    ]
    return words[-1].group() if words else ""


@dataclass(frozen=True)
class FeatureLabel:
    """Whether a feature goes with a trait or a persona: point-biserial (Pearson) correlation over texts.

    r: of its mean activation over a text (its replies, where it has some) and the text's value; low/high: 95 %
    bootstrap interval over texts (questions, where several texts share one); p: two-sided, labels permuted; q:
    Benjamini-Hochberg over the features of this dictionary for this label; n: texts with a value. source: where
    texts and values come from.
    """

    sae: str
    feature: int
    kind: Literal["trait", "persona"]
    label: str
    r: float
    low: float
    high: float
    p: float
    q: float
    n: int
    source: str


@dataclass(frozen=True)
class FeatureTwin:
    """The nearest feature in another dictionary: another seed of the same model, or of another model.

    twin: its number, chosen by the correlation of activations on one half of the texts, -1 where the feature does
    not vary there; r: on the other half, with a 95 % interval over texts; null: mean of the same search with
    scrambled pairs (`relation` "seed": tokens shuffled, "model": words of other texts), p: share of such draws at
    or above r among features that fire about as often, q: Benjamini-Hochberg over features; units: tokens or
    words of the other half. near, cosine: decoder row with the best cosine, only for "seed"; cosine_p: share of
    best cosines with random rows of the same covariance at or above it. NaN where it fires in fewer than 5 texts.
    """

    sae: str
    feature: int
    relation: Literal["seed", "model"]
    other: str
    twin: int
    r: float
    low: float
    high: float
    null: float
    p: float
    q: float
    units: int
    near: int = -1
    cosine: float = float("nan")
    cosine_p: float = float("nan")


@dataclass(frozen=True)
class FeatureChoice:
    """Which choice of Hearth's grammar a feature stands for: the one it tells best from all others.

    AUROC over the places where the source chose, chosen on one half of the texts (`selected`), reported on the
    other (`auroc`, 95 % interval over texts); null: mean of the same search under shuffled choices, p: share of
    these at or above among features that fire about as often; mass: part of its activation over all places of the
    other half that is at this choice, since a feature of many choices tells each of them well from all the rest;
    words: what the choice says; load: what it says of `trait`, from -1 to 1; n: places of the choice on the other half.
    """

    sae: str
    feature: int
    slot: str
    alternative: int
    words: str
    trait: str
    load: float
    auroc: float
    low: float
    high: float
    selected: float
    null: float
    p: float
    mass: float
    n: int


@dataclass(frozen=True)
class ChoiceScore:
    """Which feature tells one trait-bearing choice of Hearth's grammar, and how well.

    level: what it is told from (LEVELS); alternative -1 and load 1 for level "pole" (positive load against
    negative). feature: best on one half of the texts, with AUROC `selected` there; auroc: on the other half, 95 %
    interval over texts; shuffled: mean AUROC of the same search with shuffled choices; elsewhere: AUROC of the same
    search over as many tokens at other spots of the same replies; positives, negatives: places
    on the other half. All NaN, feature -1, below 5 texts of either kind in either half.
    """

    sae: str
    level: Level
    slot: str
    alternative: int
    words: str
    trait: str
    load: float
    feature: int
    auroc: float
    low: float
    high: float
    selected: float
    shuffled: float
    elsewhere: float
    positives: int
    negatives: int


@dataclass(frozen=True)
class FeatureSummary:
    """One number about a dictionary: value, 95 % interval, the same under the null, of how many; `note` says how."""

    sae: str
    what: str
    value: float
    low: float
    high: float
    null: float
    n: int
    note: str = ""


TABLES: dict[str, type] = {
    "cards": FeatureCard, "examples": FeatureExample, "labels": FeatureLabel, "twins": FeatureTwin,
    "choices": FeatureChoice, "scores": ChoiceScore, "summaries": FeatureSummary,
}  # fmt: skip


@dataclass(frozen=True)
class FeatureBook:
    """Everything one run of `lab sae features` says of one or two dictionaries.

    saes: names of the dictionaries that have cards, models: theirs in the same order; choices and scores are empty
    but for Hearth. qualities: how good each dictionary is as loaded; empty in runs before it was measured with them.
    """

    run: str
    models: tuple[ModelIdentity, ...]
    saes: tuple[str, ...]
    corpus: str
    cards: tuple[FeatureCard, ...]
    examples: tuple[FeatureExample, ...]
    labels: tuple[FeatureLabel, ...]
    twins: tuple[FeatureTwin, ...]
    choices: tuple[FeatureChoice, ...]
    scores: tuple[ChoiceScore, ...]
    summaries: tuple[FeatureSummary, ...]
    settings: Mapping[str, Any]
    qualities: tuple[SaeCard, ...] = ()
