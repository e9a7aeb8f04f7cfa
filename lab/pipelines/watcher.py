"""What is ordinary for a model, learned once, and conversations held against it as they go on."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lab.monitoring import (
    Course,
    Ordinary,
    TokenBand,
    follow,
    joint_threshold,
    leaning,
    learn,
    least_threshold,
    token_band,
)
from lab.pipelines.turns import Conversation, Turns, read_turns
from lab.records import Direction, Message, Reply

if TYPE_CHECKING:
    from lab.models import LoadedModel


@dataclass(frozen=True)
class Watched:
    """One trait along the conversation, in one series.

    value [turn]: half of what the reply is likelier under a push up the trait's direction than under one down (nats),
    or its projection on the direction; expected, reach [turn]: the band is expected ± reach (95 % of ordinary turns), NaN
    where nothing came before; course: deviations, sums, alarms; threshold of the sums.
    """

    trait: str
    layer: int
    value: NDArray[np.float64]
    expected: NDArray[np.float64]
    reach: NDArray[np.float64]
    course: Course
    ordinary: Ordinary
    threshold: float


@dataclass(frozen=True)
class Watch:
    """All traits, and the replies with their tokens' projections, one per assistant turn.

    traits: likelihood ratios, whose alarms count; projections: the same for projections, to be looked at; bands: the
    tokens of ordinary turns, one per trait. promised: false alarms per 100 ordinary turns, of all traits
    together or of each.
    """

    model: str
    traits: tuple[Watched, ...]
    projections: tuple[Watched, ...]
    replies: tuple[Reply, ...]
    ordinary_conversations: int
    promised: float
    bands: tuple[TokenBand, ...] = ()
    together: bool = False
    longest: int = 0
    """Turns of the longest ordinary conversation; 0: not known."""

    def tokens_in_sd(self, turn: int) -> dict[str, tuple[float, ...]]:
        """Per trait the tokens of a turn, in sd of the tokens of ordinary turns; only traits that have both."""
        bands = {w.trait: band for w, band in zip(self.projections, self.bands, strict=False)}
        return {
            trait: tuple((x - bands[trait].mean) / bands[trait].sd for x in values)
            for trait, values in self.replies[turn].projections.items()
            if trait in bands and bands[trait].sd > 0 and len(values)
        }

    def band_in_sd(self, trait: str) -> tuple[float, float]:
        """Where the middle 95 % of ordinary tokens are, in the same unit. ValueError for another trait."""
        band = self.bands[[w.trait for w in self.projections].index(trait)]
        return (band.low - band.mean) / band.sd, (band.high - band.mean) / band.sd

    @property
    def promise(self) -> str:
        """What is promised, in words."""
        of = "for all traits together" if self.together else "for each trait"
        n = len(self.traits)
        most = "" if self.together or n < 2 else f" (so at most {n * self.promised:g} for all {n})"
        return f"at most {self.promised:g} per 100 ordinary turns {of}{most}"


@dataclass(frozen=True)
class Standard:
    """What is ordinary in one series of one trait, and the threshold that keeps the promise."""

    ordinary: Ordinary
    threshold: float

    def held(self, direction: Direction, series: NDArray[np.float64]) -> Watched:
        """A conversation's numbers [turn] or ratios [turn, 2] held against it."""
        value = leaning(series)
        expected, sd = self.ordinary.expected(value)
        return Watched(
            direction.trait, direction.site.layer, value, expected, self.ordinary.reach * sd,
            follow(series, self.ordinary, self.threshold), self.ordinary, self.threshold,
        )  # fmt: skip


@dataclass(frozen=True)
class Usual:
    """What is ordinary for one trait: the turns in both series, and the tokens.

    norm: residual norm that pushes are measured in.
    """

    direction: Direction
    norm: float
    ratio: Standard
    projection: Standard
    tokens: TokenBand


@dataclass(frozen=True)
class Seen:
    """A conversation as far as it was read."""

    messages: tuple[Message, ...] = ()
    turns: Turns | None = None

    def known(self, conversation: Conversation) -> int:
        """How many of a conversation's assistant turns were read, under the same words before them."""
        n = 0
        for mine, theirs in zip(self.messages, conversation, strict=False):
            if mine != theirs:
                break
            n += mine.role == "assistant"
        return n if self.turns is not None else 0


@dataclass(frozen=True)
class Watcher:
    """A model, its directions, and what is ordinary for it."""

    model: "LoadedModel"
    usual: tuple[Usual, ...]
    conversations: int
    promised: float
    together: bool = False
    longest: int = 0
    """Turns of the longest ordinary conversation."""
    alone: AbstractContextManager[Any] = field(default_factory=Lock, compare=False, repr=False)
    """Hooks belong to the model: one reading at a time, whoever asks."""

    def read(self, conversation: Conversation, seen: Seen | None = None) -> Seen:
        """The conversation, of which only those turns are read that `seen` does not hold.

        LabError for a conversation without an assistant turn.
        """
        known = seen.known(conversation) if seen else 0
        if seen is not None and seen.turns is not None and known == _spoken(conversation) > 0:
            return Seen(tuple(conversation), seen.turns.first(known))
        with self.alone:
            (turns,) = read_turns(
                self.model, [conversation], [u.direction for u in self.usual],
                norms=[u.norm for u in self.usual], skip=known,
            )  # fmt: skip
        if seen is not None and seen.turns is not None and known:
            turns = seen.turns.first(known).then(turns)
        return Seen(tuple(conversation), turns)

    def report(self, seen: Seen) -> Watch:
        """What has been seen, held against what is ordinary. ValueError when nothing was read."""
        if seen.turns is None:
            raise ValueError("nothing was read yet; call read first")
        turns = seen.turns
        ratios = [u.ratio.held(u.direction, turns.ratios[u.direction.trait]) for u in self.usual]
        projections = [
            u.projection.held(u.direction, turns.projections[u.direction.trait]) for u in self.usual
        ]
        return Watch(
            self.model.identity.name, tuple(ratios), tuple(projections), turns.replies, self.conversations,
            self.promised, tuple(u.tokens for u in self.usual), self.together, self.longest,
        )  # fmt: skip


def _spoken(conversation: Conversation) -> int:
    return sum(m.role == "assistant" for m in conversation)


def learn_watcher(
    model: "LoadedModel", directions: Sequence[Direction], turns: Sequence[Turns], promised: float = 1.0,
    together: bool = False, seed: int = 0, alone: AbstractContextManager[Any] | None = None,
) -> Watcher:  # fmt: skip
    """From the turns of ordinary conversations: one half says what is usual, the other sets the thresholds.

    Those of ratios are never below `least_threshold`, so that sums over what the model itself would say keep the promise in
    conversations longer than the ordinary ones; over others' words they need not (experiments/watch_alarms.py).
    LabError when they are too few to tell what is ordinary or to promise so few alarms.
    """
    order = np.random.default_rng([seed, 6]).permutation(len(turns))
    names = [d.trait for d in directions]
    ratios = [[x.ratios[t] for x in turns] for t in names]
    projections = [[x.projections[t] for x in turns] for t in names]
    usual = [
        Usual(
            d, turns[0].norms[d.trait], ratio, projection,
            token_band([r.projections[d.trait] for x in turns for r in x.replies]),
        )
        for d, ratio, projection in zip(
            directions,
            _standards(ratios, order, promised, together, anchored=True),
            _standards(projections, order, promised, together, anchored=False),
            strict=True,
        )
    ]  # fmt: skip
    longest = max(len(x.replies) for x in turns)
    return Watcher(model, tuple(usual), len(turns), promised, together, longest, alone or Lock())


def _standards(
    series: Sequence[Sequence[NDArray[np.float64]]], order: NDArray[np.int64], promised: float, together: bool,
    anchored: bool,
) -> list[Standard]:  # fmt: skip
    """Per trait: one half of its conversations, in this order, is learned from, one sets the threshold.

    `anchored`: they are ratios.
    """
    first, second = np.array_split(order, 2)
    ordinary = [learn([s[i] for i in first], anchored) for s in series]
    held = [[s[i] for i in second] for s in series]
    groups = [range(len(series))] if together else [[k] for k in range(len(series))]
    thresholds: dict[int, float] = {}
    for group in groups:
        found = joint_threshold([held[k] for k in group], [ordinary[k] for k in group], promised)
        if anchored:
            found = max(found, least_threshold(promised, len(group)))
        thresholds |= dict.fromkeys(group, found)
    return [Standard(o, thresholds[k]) for k, o in enumerate(ordinary)]
