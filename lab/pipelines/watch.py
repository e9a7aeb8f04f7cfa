"""Watching conversations: ratios and projections of every assistant turn, with a band of what is ordinary.

Log-likelihood ratios (`lab.likelihood`) raise the alarms: which way would the model have to be steered to say this
reply, had it only its system prompt and the user turn before it? Without the turns before, on purpose: under those a
model finds what it has drifted to likely. Projections stand beside them: where the state is while it reads the
whole conversation. On planted drift they tell nothing (experiments/drift.py): the state holds the persona of
the system prompt, not that of the words.

What is ordinary comes from conversation files that the user names, or from the model itself: it is
given the same system prompt and asked ordinary questions, several turns long.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lab.monitoring import check_promised
from lab.pipelines.compare import (
    CompareConfig,
    Progress,
    Runner,
    extract_side,
    resolve_model,
    resolve_trait_set,
)
from lab.pipelines.given import VectorFile, directions_of, take_vectors
from lab.pipelines.ordinary import ordinary_turns, own_conversations
from lab.pipelines.turns import Turns, read_turns
from lab.pipelines.watcher import Seen, Watch, Watched, Watcher, learn_watcher
from lab.records import Direction, Message, TraitSet
from lab.store import Store

if TYPE_CHECKING:
    from lab.models import LoadedModel

__all__ = [
    "Seen", "Turns", "Watch", "WatchConfig", "Watched", "Watcher", "make_watcher", "own_conversations", "read_turns",
    "watch",
]  # fmt: skip


@dataclass(frozen=True)
class WatchConfig:
    """What to watch: one conversation, in one model, on the traits of one set."""

    model: str
    conversation: tuple[Message, ...]
    ordinary: tuple[tuple[Message, ...], ...] = ()
    """Ordinary conversations; none: the model's own."""
    trait_set: str = "auto"
    own: int = 40
    """How many conversations the model is asked to have with itself when none are given."""
    turns: int = 6
    promised: float = 1.0
    """False alarms per 100 ordinary turns."""
    vectors: tuple[VectorFile, ...] = ()
    """Files to take the directions from; none: the trait set's, extracted."""
    together: bool = False
    """Whether the promise is for all traits together; else for each."""
    dtype: str = "float32"
    seed: int = 0
    max_new_tokens: int = 40

    def __post_init__(self) -> None:
        check_promised(self.promised)


def watch(config: WatchConfig, store: Store, progress: Progress) -> Watch:
    """Follow one conversation. LabError when there is too little to tell what is ordinary."""
    watcher = make_watcher(config, store, progress)
    progress("reading the conversation", 0.95)
    found = watcher.report(watcher.read(config.conversation))
    progress("done", 1.0)
    return found


def make_watcher(config: WatchConfig, store: Store, progress: Progress) -> Watcher:
    """Load the model, make its directions, and learn what is ordinary under the conversation's system prompt."""
    progress("loading model", 0.0)
    from lab.models import load

    model = load(resolve_model(config.model), config.dtype)
    traits = resolve_trait_set(config.trait_set, [model])
    if config.vectors:
        directions = directions_of(take_vectors(config.vectors, model.identity).values(), model.identity)
    else:
        directions = _extracted(config, model, traits, store, progress)
    turns = ordinary_turns(
        model, directions, [m for m in config.conversation if m.role == "system"],
        [q.text for q in traits.of("select")], config.ordinary, config, store,
        lambda stage, part: progress(stage, 0.5 + 0.45 * part),
    )  # fmt: skip
    return learn_watcher(model, directions, turns, config.promised, config.together, config.seed)


def _extracted(
    config: WatchConfig, model: "LoadedModel", traits: TraitSet, store: Store, progress: Progress
) -> list[Direction]:
    """The model's own direction of every trait."""
    compare = CompareConfig(
        (config.model,), (), config.trait_set, config.dtype, config.seed, config.max_new_tokens
    )
    total, done = 2 * len(traits.traits) * len(traits.questions), 0

    def tick(n: int) -> None:
        nonlocal done
        done += n
        progress("directions", 0.5 * done / total)

    runner = Runner(model, compare, store, 0, tick)
    made = extract_side(
        model.identity.name, model, traits, compare, runner, np.random.default_rng([config.seed, 1, 0]),
        ("reply_mean",),
    )  # fmt: skip
    return [made.directions[t.name, "reply_mean"] for t in traits.traits]
