"""A model ready to be talked to while its traits are pushed: what the dashboard's Steer page holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np

from lab.pipelines.compare import CompareConfig, Progress, extract_side, resolve_model, resolve_trait_set
from lab.pipelines.ordinary import ordinary_turns
from lab.pipelines.replies import Runner, neutral_jobs
from lab.pipelines.watch import WatchConfig
from lab.pipelines.watcher import Watcher, learn_watcher
from lab.records import Direction, LabError, Message, Position
from lab.steering import Add
from lab.store import Store

if TYPE_CHECKING:
    from lab.models import LoadedModel

POSITION: Position = "reply_mean"
CHAT_TOKENS = 110
"""Longest reply of a chat, and of the ordinary conversations that it is held against."""


@dataclass(frozen=True)
class Gauge:
    """A trait's direction in one model, and its scale: projection at neutral, and of one L."""

    direction: Direction
    neutral: float
    unit: float
    norm: float


@dataclass(frozen=True)
class Spoken:
    """A reply, and per trait its tokens in L (the push itself included where it is applied)."""

    text: str
    tokens: tuple[str, ...]
    traces: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True)
class Speaker:
    """A loaded model with a gauge per trait; watchers: what is ordinary under a system prompt, once learned."""

    model: "LoadedModel"
    gauges: Mapping[str, Gauge]
    questions: tuple[str, ...] = ()
    """What the model is asked in ordinary conversations."""
    watchers: dict[str, Watcher] = field(default_factory=dict, compare=False, repr=False)
    alone: Lock = field(default_factory=Lock, compare=False, repr=False)
    """Hooks belong to the model: one reply at a time, whoever asks."""

    def learn(self, system: str, store: Store, progress: Progress) -> None:
        """Learn what is ordinary under a system prompt ("" for none), unless it is known.

        The unpushed model has conversations with itself, kept in the store; chats wait meanwhile.
        """
        if system in self.watchers:
            return
        directions = [g.direction for g in self.gauges.values()]
        before = [Message("system", system)] if system else []
        how = WatchConfig(self.model.identity.name, (), max_new_tokens=CHAT_TOKENS)
        with self.alone:
            turns = ordinary_turns(
                self.model, directions, before, self.questions, (), how, store, progress
            )  # fmt: skip
        self.watchers[system] = learn_watcher(self.model, directions, turns, alone=self.alone)

    def say(
        self, messages: Sequence[Message], pushes: Mapping[str, float], *, max_new_tokens: int, seed: int
    ) -> Spoken:
        """One reply with every trait pushed by its coefficient, in mean residual norms of its site.

        LabError for a trait without a gauge, and for a chat that does not fit into the context.
        """
        from lab.activations import generate
        from lab.prompts.chat import check_length, render

        unknown = [t for t in pushes if t not in self.gauges]
        if unknown:
            raise LabError(f"no direction for {', '.join(unknown)}; there are {', '.join(self.gauges)}")
        chat = render(self.model.tokenizer, messages)
        check_length(chat, self.model.context, max_new_tokens)
        edits = [
            Add(self.gauges[t].direction, c, self.gauges[t].norm) for t, c in pushes.items() if abs(c) > 1e-9
        ]
        directions = [g.direction for g in self.gauges.values()]
        with self.alone:
            (reply,) = generate(
                self.model, [chat], max_new_tokens=max_new_tokens, seeds=[seed], edits=edits,
                directions=directions,
            ).replies  # fmt: skip
        traces = {
            t: tuple((x - g.neutral) / g.unit for x in reply.projections[t]) for t, g in self.gauges.items()
        }
        return Spoken(reply.text, reply.tokens, traces)


def prepare(model: str, store: Store, progress: Progress, trait_set: str = "auto", seed: int = 0) -> Speaker:
    """Load a model and make its directions, or find their replies in the cache of `lab extract`."""
    progress(f"loading {model}", 0.0)
    from lab.models import load

    loaded = load(resolve_model(model))
    traits = resolve_trait_set(trait_set, [loaded])
    config = CompareConfig((model,), (), trait_set, seed=seed)
    total, done = 2 * len(traits.traits) * len(traits.questions) + 2 * len(traits.of("select")), 0

    def tick(n: int) -> None:
        nonlocal done
        done += n
        progress(f"replies of {loaded.identity.name} at both poles", 0.02 + 0.97 * done / total)

    runner = Runner(loaded, config, store, 0, tick)
    rng = np.random.default_rng([seed, 1, 0])
    made = extract_side(loaded.identity.name, loaded, traits, config, runner, rng, (POSITION,))
    (plain,) = runner.measure([neutral_jobs(traits, "select")])
    gauges = {}
    for trait in traits.traits:
        direction = made.directions[trait.name, POSITION]
        layer = direction.site.layer
        poles = made.poles[trait.name].of(POSITION, "select")
        along = poles.acts[:, layer].astype(np.float64) @ direction.vector
        up, down = np.nanmean(along[poles.positive]), np.nanmean(along[~poles.positive])
        neutral = float(np.nanmean(plain.pooled[POSITION][:, layer] @ direction.vector))
        gauges[trait.name] = Gauge(direction, neutral, float(up - down) / 2, float(plain.norm[layer]))
    progress("ready", 1.0)
    return Speaker(loaded, gauges, tuple(q.text for q in traits.of("select")))
