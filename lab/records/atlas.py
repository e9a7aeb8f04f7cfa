"""Concepts in contexts, and what an atlas of two models says of where they stand."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lab.records import LabError, ModelIdentity
from lab.records.similarity import Similarity

NAN = float("nan")
SLOT = "{word}"
EMBEDDING = -1
"""The layer of input embeddings; 0 is the residual stream after the first block."""
NEAR = 5
"""A concept lines up when its own place is among the NEAR nearest to where a map puts it."""
Place = Literal["user", "system"]
Stage = Literal["embedding", "first layer", "chosen layers"]
Scope = Literal["all", "within category"]


# ------------------------------------------------------------------ what people write


@dataclass(frozen=True)
class Context:
    """One concept in one frame: characters start to end - 1 of `text` are the word; place: who says it."""

    concept: str
    category: str
    frame: int
    place: Place
    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Category:
    """Words of one kind, and the sentences that each of them is put into.

    frames: sentences with one SLOT, which is filled with `phrase`, in which SLOT is the word.
    """

    name: str
    words: tuple[str, ...]
    frames: tuple[str, ...]
    place: Place = "user"
    phrase: str = SLOT

    def context(self, word: str, frame: int) -> Context:
        """The word in one of the frames."""
        lead, rest = self.frames[frame].split(SLOT)
        before, after = self.phrase.split(SLOT)
        start = len(lead) + len(before)
        text = f"{lead}{before}{word}{after}{rest}"
        return Context(word, self.name, frame, self.place, text, start, start + len(word))


@dataclass(frozen=True)
class ConceptSet:
    """Categories of words; all have equally many frames, no word is in two."""

    name: str
    categories: tuple[Category, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """All words, category by category."""
        return tuple(w for c in self.categories for w in c.words)

    @property
    def codes(self) -> tuple[int, ...]:
        """The number of the category of every word."""
        return tuple(k for k, c in enumerate(self.categories) for _ in c.words)

    @property
    def frames(self) -> int:
        """In how many frames every word stands."""
        return len(self.categories[0].frames)

    @property
    def shared_frames(self) -> bool:
        """Whether all categories have the same frames, so that what frames do is centred out between them too."""
        return len({(c.frames, c.place) for c in self.categories}) == 1

    def contexts(self, word: str) -> tuple[Context, ...]:
        """The word in all of its frames. LabError for a word that is not in the set."""
        for c in self.categories:
            if word in c.words:
                return tuple(c.context(word, k) for k in range(len(c.frames)))
        raise LabError(f"no concept {word!r} in {self.name}; it has {', '.join(self.words[:8])}, …")


# ------------------------------------------------------------------ what is found


@dataclass(frozen=True)
class Concept:
    """A word and the number of tokens that it has in A and in B (mean over frames)."""

    concept: str
    category: str
    pieces_a: float
    pieces_b: float


@dataclass(frozen=True)
class AtlasSimilarity:
    """Agreement of two models about where concepts lie; `found` speaks of concepts as scaffolds, frames as questions.

    scope "within category": only pairs of concepts of one category, each category weighing as its number of
    pairs, labels permuted within categories. Layers of `found` are blocks, EMBEDDING for the input embedding.
    """

    stage: Stage
    scope: Scope
    found: Similarity


@dataclass(frozen=True)
class DepthRow:
    """Agreement at one relative depth (0 first block, 1 last, NaN the embedding); null_high: 95 % of its null."""

    scope: Scope
    measure: str
    depth: float
    layer_a: int
    layer_b: int
    value: float
    null_high: float


@dataclass(frozen=True)
class AtlasMap:
    """How well a map that was fitted on other concepts, in other frames, puts concepts where the target has them.

    r2: 1 - residual / total sum of squares of the target's landings around the mean of the training concepts
    (of the category, if that is the scope); 0 is no better than that mean. low, high: 95 %, resampling
    concepts, fits kept. null_high, p: concepts paired at random (within categories, if that is the scope) and
    fitted again. ceiling: r2 of the target predicted from itself in the other half of the frames, by the same
    procedure (for the embedding, from itself).
    first, near: share of concepts whose own landing is the nearest to the mapped one, or among the NEAR nearest,
    by cosine, of all candidates, none of which the map that decides was fitted on; *_null: mean over random
    pairings; *_p likewise; *_ceiling as above.
    """

    stage: Stage
    scope: Scope
    source: str
    target: str
    layer_source: int
    layer_target: int
    method: str
    r2: float
    low: float
    high: float
    null_high: float
    p: float
    ceiling: float
    first: float
    first_low: float
    first_high: float
    first_null: float
    first_p: float
    first_ceiling: float
    near: float
    near_low: float
    near_high: float
    near_null: float
    near_p: float
    near_ceiling: float
    concepts: int
    folds: int
    frames: int
    draws: int


@dataclass(frozen=True)
class ConceptScore:
    """One concept under one map of `AtlasMap`.

    r2, cosine: of its mapped with its own landing. rank: of its own landing among `candidates` by cosine with the
    mapped one, 1 nearest, ties share their mean; ceiling_rank: the same for the target mapped to itself.
    null_high: 95 % of r2 over random pairings, p its p, q over the concepts of the map (Benjamini-Hochberg).
    """

    stage: Stage
    scope: Scope
    source: str
    target: str
    concept: str
    category: str
    r2: float
    null_high: float
    p: float
    q: float
    cosine: float
    rank: float
    candidates: int
    ceiling_rank: float


@dataclass(frozen=True)
class Neighbour:
    """The rank-th nearest concept of one model.

    distance: crossnobis, over the root mean square of the model's pairs. shared: among the nearest in the other too.
    """

    stage: Stage
    model: str
    concept: str
    rank: int
    neighbour: str
    distance: float
    shared: bool


@dataclass(frozen=True)
class SharedNeighbours:
    """Share of the k nearest concepts that both models have in common, of one concept or a mean over a category.

    concept: "" for the mean over `category`, which is "" for the mean over all. chance: k / (n - 1), any
    concept being as near as another. null, null_high: mean and 95 % point with B's labels permuted within
    categories: what categories alone bring about. p: its p. purity_a, purity_b: share of the k nearest that
    are of the own category, purity_chance if categories meant nothing. low, high: 95 %, resampling
    concepts (NaN for a single one).
    """

    stage: Stage
    concept: str
    category: str
    k: int
    n: int
    shared: float
    low: float
    high: float
    chance: float
    null: float
    null_high: float
    p: float
    purity_a: float
    purity_b: float
    purity_chance: float


@dataclass(frozen=True)
class AtlasBook:
    """Everything one `lab atlas` run says of two models."""

    run: str
    models: tuple[ModelIdentity, ...]
    labels: tuple[str, ...]
    concept_set: ConceptSet
    concepts: tuple[Concept, ...]
    similarities: tuple[AtlasSimilarity, ...]
    depth: tuple[DepthRow, ...]
    maps: tuple[AtlasMap, ...]
    scores: tuple[ConceptScore, ...]
    neighbours: tuple[Neighbour, ...]
    shared: tuple[SharedNeighbours, ...]
    settings: Mapping[str, object]

    @property
    def stages(self) -> tuple[Stage, ...]:
        """Where the models were compared."""
        return tuple(dict.fromkeys(m.stage for m in self.maps))

    def scores_at(self, stage: Stage, scope: Scope) -> dict[str, tuple[ConceptScore, ...]]:
        """Both ways' scores of every concept. LabError for a stage that the run does not have."""
        if stage not in self.stages:
            raise LabError(f"run {self.run} has no {stage}; it has {', '.join(self.stages)}")
        found: dict[str, tuple[ConceptScore, ...]] = {}
        for s in self.scores:
            if (s.stage, s.scope) == (stage, scope):
                found[s.concept] = (*found.get(s.concept, ()), s)
        return found

    def astray(self, stage: Stage, scope: Scope, near: int = NEAR) -> tuple[str, ...]:
        """Concepts whose own landing is not among the `near` nearest, one way or the other; the worst first."""
        worst = {c: max(s.rank for s in both) for c, both in self.scores_at(stage, scope).items()}
        return tuple(sorted((c for c, rank in worst.items() if not rank <= near), key=lambda c: -worst[c]))
