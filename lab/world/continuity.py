"""The continuity battery of Hearth: items made by the world itself, with what its source would answer.

    hearth_items(passes, per_family, draws) -> ContinuitySet    the ten families
    derives(reply, slot, filling) -> bool                       whether a sentence of a reply comes from a slot
    judged(replies) -> one {trait: z} each                      the exact judge, NaN where nothing parses

Every item is one character of its own (personas and turns that training never showed), its turns in the forms that
the world has. What has no counterpart there is made of the nearest turns; data/continuity/README.md says which
families no organism was taught. chance and ceiling: the share of `draws` replies of the source that pass, without
the scaffold (the default assistant, who knows nothing of it) and with it, by the very checks that score a model.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import get_args

import numpy as np
from numpy.random import Generator

from lab.records import Message
from lab.records.continuity import HEARTH, ContinuityItem, ContinuitySet, Family
from lab.world.conversation import Turn, draw_reply, reply_text
from lab.world.exact import readings
from lab.world.grammar import Filling
from lab.world.judge import open_filling, sentences_of
from lab.world.latent import TRAITS, z_at_turn
from lab.world.library import as_words, library
from lab.world.scaffolds import REGISTERS, default_character, render
from lab.world.talks import TALKS, Talk

SEED = 2026

Passes = Callable[[ContinuityItem, str], float]
"""What a reply to an item is worth: 1, 0 or NaN."""


# ------------------------------------------------------------------ reading replies


def derives(reply: str, slot: str, filling: Mapping[str, str]) -> bool:
    """Whether one of the reply's sentences comes from `slot`; variables not in `filling` may be anything."""
    known = {**_open(), **{k: [(as_words(v), 1.0)] for k, v in filling.items()}}
    return any(library().grammar.parse(slot, words, known) for words in sentences_of(reply))


@cache
def _open() -> Filling:
    return open_filling(library())


def judged(replies: Sequence[str]) -> list[dict[str, float]]:
    """The exact judge's z of each reply by itself, prior sd; NaN where no sentence parses."""
    return [dict(zip(TRAITS, row, strict=True)) for row in readings(replies).values.tolist()]


# ------------------------------------------------------------------ the set


def hearth_items(passes: Passes, per_family: int, draws: int, seed: int = SEED) -> ContinuitySet:
    """The items of every family, deterministic by seed; `passes` scores the source's replies for chance and ceiling."""
    items = [
        _item(family, k, np.random.default_rng([seed, f, k]), passes, draws)
        for f, family in enumerate(get_args(Family))
        for k in range(per_family)
    ]
    return ContinuitySet(HEARTH, HEARTH, tuple(items))


def _item(family: Family, k: int, rng: Generator, passes: Passes, draws: int) -> ContinuityItem:
    lib = library()
    talk = TALKS[family](rng, lib, bool(k % 2))
    scaffold = render(talk.who, REGISTERS[k // 2 % len(REGISTERS)], rng, lib)
    scaffold = replace(scaffold, segments=(*scaffold.segments, *talk.more))
    chat = [m for t, r in talk.past for m in (Message("user", t.user), Message("assistant", r))]
    item = ContinuityItem(
        f"{family}-{k:02d}", family, f"{family}-{k:02d}", scaffold, dict(talk.who.levels),
        (*chat, Message("user", talk.asked.user)), talk.checks, variant=talk.variant,
    )  # fmt: skip
    plain = replace(default_character(rng, lib), user=talk.who.user)
    chance = _share(item, replace(talk, who=plain, asked=_unknowing(talk.asked)), rng, passes, draws)
    ceiling = _share(item, talk, rng, passes, draws) if talk.source else float("nan")
    return replace(item, chance=chance, ceiling=ceiling)


def _unknowing(turn: Turn) -> Turn:
    """The same turn to someone who has no scaffold, so neither memory nor boundaries."""
    without = {
        "reply.push_boundary.keep": "reply.push_boundary.free",
        "reply.ask_fact.known": "reply.ask_fact.unknown",
        "reply.false_memory.known": "reply.false_memory.unknown",
    }
    return replace(turn, start=without.get(turn.start, turn.start))


def _share(item: ContinuityItem, talk: Talk, rng: Generator, passes: Passes, draws: int) -> float:
    """The share of the source's replies that pass; two decimals are all that some dozens of replies tell."""
    kinds = [t.kind for t, _ in talk.past] + [talk.asked.kind]
    z = z_at_turn(talk.who.z, kinds)
    replies = [reply_text(draw_reply(rng, library(), z, talk.asked, talk.who)) for _ in range(draws)]
    return round(float(np.mean([passes(item, reply) for reply in replies])), 2)
