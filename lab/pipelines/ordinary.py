"""Ordinary conversations: a model's own, or given ones, read once and kept in the store."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from lab.pipelines.turns import Conversation, Turns, fitting, read_turns
from lab.records import Direction, LabError, Message, Reply
from lab.store import Store, content_key

if TYPE_CHECKING:
    from lab.models import LoadedModel

SERIES = ("ratios", "projections")


class Talking(Protocol):
    """How ordinary conversations are made: how many, of how many turns, and how replies are drawn."""

    @property
    def own(self) -> int: ...
    @property
    def turns(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def max_new_tokens(self) -> int: ...


def own_conversations(
    model: "LoadedModel", system: Sequence[Message], questions: Sequence[str], config: Talking,
    progress: Callable[[float], None],
) -> list[tuple[Message, ...]]:  # fmt: skip
    """The model's replies to ordinary questions under a system prompt, `config.turns` turns each."""
    from lab.activations import generate

    if len(questions) < config.turns:
        raise LabError(
            f"expected at least {config.turns} questions, got {len(questions)}; ask for fewer turns"
        )
    rng = np.random.default_rng([config.seed, 7])
    plans = [rng.permutation(len(questions))[: config.turns] for _ in range(config.own)]
    talks = [list(system[:1]) for _ in plans]
    for turn in range(config.turns):
        for talk, plan in zip(talks, plans, strict=True):
            talk.append(Message("user", str(questions[int(plan[turn])])))
        chats = [fitting(model, talk, config.max_new_tokens) for talk in talks]
        seeds = [int(s) for s in rng.integers(2**31, size=len(chats))]
        acts = generate(model, chats, max_new_tokens=config.max_new_tokens, seeds=seeds)
        for talk, reply in zip(talks, acts.replies, strict=True):
            talk.append(Message("assistant", reply.text))
        progress((turn + 1) / config.turns)
    return [tuple(talk) for talk in talks]


def ordinary_turns(
    model: "LoadedModel", directions: Sequence[Direction], system: Sequence[Message], questions: Sequence[str],
    given: Sequence[Conversation], config: Talking, store: Store, progress: Callable[[str, float], None],
) -> list[Turns]:  # fmt: skip
    """The turns of the given conversations, or of the model's own if there are none; in the store from then on.

    `progress(stage, fraction)` runs from 0 to 1. LabError as for `own_conversations`.
    """
    of: list[object] = [[[m.role, m.content] for m in talk] for talk in given] or [
        [m.content for m in system[:1]], list(questions), config.own, config.turns, config.seed,
        config.max_new_tokens,
    ]  # fmt: skip
    read = [[d.trait, d.site.layer, d.vector] for d in directions]
    key = content_key("ordinary-2", model.identity.fingerprint, model.identity.dtype, read, of)
    names = [d.trait for d in directions]
    hit = store.cached(key)
    if hit is not None:
        return _unpacked(*hit, names)
    talks = given or own_conversations(
        model, system, questions, config, lambda part: progress("ordinary conversations", 0.5 * part)
    )
    progress("reading ordinary conversations", 0.5)
    turns = read_turns(model, talks, directions)
    store.put(key, *_packed(turns, names))
    return turns


def _packed(turns: Sequence[Turns], names: Sequence[str]) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """Arrays [trait, turn of all conversations, …], and the rest as JSON."""
    arrays = {
        part: np.stack([np.concatenate([getattr(t, part)[name] for t in turns]) for name in names])
        for part in SERIES
    }
    replies = [
        [[r.text, list(r.tokens), {k: list(v) for k, v in r.projections.items()}] for r in t.replies]
        for t in turns
    ]
    return arrays, {"replies": replies, "norms": turns[0].norms}


def _unpacked(arrays: dict[str, np.ndarray], note: dict, names: Sequence[str]) -> list[Turns]:
    found, start = [], 0
    for rows in note["replies"]:
        stop = start + len(rows)
        ratios, projections = (
            {name: arrays[part][k, start:stop] for k, name in enumerate(names)} for part in SERIES
        )
        replies = tuple(Reply(text, tuple(x), {k: tuple(v) for k, v in p.items()}) for text, x, p in rows)
        found.append(Turns(replies, ratios, projections, note["norms"]))
        start = stop
    return found
