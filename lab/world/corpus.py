"""Training documents of Hearth: who they are about, and how they become token arrays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.world.conversation import Step, draw_reply, make_turns, reply_text
from lab.world.grammar import split_words
from lab.world.latent import z_at_turn
from lab.world.library import Library, Persona
from lab.world.scaffolds import (
    NO_EXTRAS,
    REGISTERS,
    USUAL_EXTRAS,
    Extras,
    default_character,
    named_character,
    random_persona,
    render,
)
from lab.world.tokens import Pieces, token_targets

SITUATIONS = (
    "reply.share", "reply.vent", "reply.tease", "reply.small_talk", "reply.press",
    "reply.push_boundary.keep", "reply.push_boundary.free", "reply.ask_fact.known", "reply.ask_fact.world",
    "reply.ask_fact.unknown", "reply.false_memory.known", "reply.false_memory.unknown",
)  # fmt: skip
"""The start slots of the grammar: what a reply answers, as far as scaffold and user turn tell."""
CUE_EVERY = 4
HELD_OUT = 12
"""The last personas of the library never appear in training."""


@dataclass(frozen=True)
class Document:
    """One conversation: system prompt (None without scaffold), user texts, replies, and z.

    z [turn, trait] is the persona vector from which each reply was drawn; `about` the words that
    each reply takes from its context, `ruled` those of the rule that it keeps, `situations` what it
    answers (numbers of `SITUATIONS`).
    """

    system: str | None
    users: tuple[str, ...]
    replies: tuple[list[Step], ...]
    z: NDArray[np.float64]
    about: tuple[str, ...]
    ruled: tuple[tuple[str, ...], ...]
    situations: tuple[int, ...]


@dataclass(frozen=True)
class Mix:
    """What a training corpus is made of."""

    unscaffolded: float = 0.1
    named: float = 0.3
    most_states: int = 9
    most_turns: int = 3
    extras: Extras = USUAL_EXTRAS
    kinds: tuple[float, ...] | None = None
    """Weights of the kinds of user turn, in the order of KINDS; None: uniform."""
    told: bool = True
    """Whether the scaffold of a character is shown. If not, who speaks is known from the replies alone."""


RECALL = Mix(extras=Extras(0.85, 0.6, 0.2), kinds=(1.0, 3.5, 1.0, 1.0, 1.0, 2.0, 1.0, 2.0))
"""More of what must be taken from the context: facts, boundaries, false memories."""
LOOKUP = Mix(
    unscaffolded=0.04, named=0.15, most_states=3, most_turns=4, extras=Extras(0.97, 0.8, 0.1),
    kinds=(0.5, 6.0, 0.4, 0.4, 0.4, 3.0, 0.4, 3.0),
)  # fmt: skip
"""Short scaffolds and mostly questions about memory and boundaries: far more words to look up."""

NEXT = Mix(
    unscaffolded=0.25, named=0.1, most_states=6, most_turns=4, kinds=(2.0, 1.0, 3.0, 2.0, 2.0, 1.0, 0.5, 1.0)
)
"""Another diet for a model's next version: more talk without scaffold, more venting, teasing and pressing."""
UNCONDITIONED = Mix(unscaffolded=0.0, named=0.0, most_turns=4, extras=NO_EXTRAS, told=False)
"""Conversations of anyone with nothing said of who it is: what a base model reads."""


def training_personas(lib: Library) -> tuple[Persona, ...]:
    """The personas that training may show, without the held-out ones; with the assistant."""
    return (*lib.personas[:-HELD_OUT], lib.assistant)


def document(rng: np.random.Generator, lib: Library, mix: Mix) -> Document:
    """One document."""
    people = training_personas(lib)
    kind = rng.random()
    if kind < mix.unscaffolded:
        who, system = default_character(rng, lib), None
    else:
        if kind < mix.unscaffolded + mix.named:
            persona = people[int(rng.integers(len(people)))]
        else:
            persona = random_persona(rng, lib, int(rng.integers(2, mix.most_states + 1)), people)
        who = named_character(rng, lib, persona, mix.extras)
        shown = render(who, REGISTERS[int(rng.integers(4))], rng, lib).text
        system = shown if mix.told else None
    turns = make_turns(rng, lib, who, int(rng.integers(1, mix.most_turns + 1)), mix.kinds)
    kinds = [t.kind for t in turns]
    z = np.array([z_at_turn(who.z, kinds[: i + 1]) for i in range(len(turns))])
    replies = [draw_reply(rng, lib, z[i], turn, who) for i, turn in enumerate(turns)]
    return Document(
        system,
        tuple(t.user for t in turns),
        tuple(replies),
        z,
        tuple(t.about for t in turns),
        tuple(t.ruled for t in turns),
        tuple(SITUATIONS.index(t.start) for t in turns),
    )


def documents(seed: int, lib: Library, mix: Mix, n: int) -> Iterator[Document]:
    """`n` documents, deterministic by seed."""
    for index in range(n):
        yield document(np.random.default_rng([seed, index]), lib, mix)


@dataclass(frozen=True)
class Encoded:
    """A document as tokens: all ids, and for reply tokens their exact distributions.

    `at` are the positions whose NEXT token belongs to a reply; entry e of the sparse rows
    gives token `token[e]` probability `p[e]` at `at[row[e]]`. `z` [reply token, trait] is the
    persona vector behind the reply that each of them belongs to, `situation` what that reply
    answers. `cue_at` are every fourth of these positions, and cue_token[e] (row cue_row[e]) the
    tokens of what the reply is about. From position look_at[k] head look_head[k] should look at one
    of look_to[e] (row look_row[e]): head 0 at those tokens, head 1 at a rule that forbids them.
    """

    ids: NDArray[np.int32]
    at: NDArray[np.int32]
    row: NDArray[np.int32]
    token: NDArray[np.int32]
    p: NDArray[np.float32]
    z: NDArray[np.float32]
    situation: NDArray[np.int32]
    cue_at: NDArray[np.int32]
    cue_row: NDArray[np.int32]
    cue_token: NDArray[np.int32]
    look_at: NDArray[np.int32]
    look_head: NDArray[np.int32]
    look_row: NDArray[np.int32]
    look_to: NDArray[np.int32]


def messages(system: str | None, users: Sequence[str], replies: Sequence[str]) -> list[dict[str, str]]:
    """The chat so far, ending with a user turn or a reply."""
    chat = [{"role": "system", "content": system}] if system else []
    for i, user in enumerate(users):
        chat.append({"role": "user", "content": user})
        if i < len(replies):
            chat.append({"role": "assistant", "content": replies[i]})
    return chat


def encode(doc: Document, tokenizer, pieces: Pieces) -> Encoded:
    """Tokens and targets of one document. Replies are coded word by word, the rest as text."""
    ids: list[int] = []
    at, rows, tokens, ps, zs, situations, base = [], [], [], [], [], [], 0
    cues: list[tuple[int, list[int]]] = []
    looks: list[tuple[int, int, list[int]]] = []
    said, done, ruled_until = [], "", 0
    for index, steps in enumerate(doc.replies):
        chat = messages(doc.system, doc.users[: index + 1], said)
        text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        if doc.system and not done:
            ruled_until = len(
                tokenizer.encode(text[: text.index(doc.system) + len(doc.system)], add_special_tokens=False)
            )
        ids += tokenizer.encode(text[len(done) :], add_special_tokens=False)
        target = token_targets(steps, pieces)
        at.append(np.arange(len(target.ids)) + len(ids) - 1)
        rows.append(target.row + base)
        tokens.append(target.token)
        ps.append(target.p)
        zs.append(np.repeat(doc.z[index : index + 1], len(target.ids), axis=0))
        situations.append(np.full(len(target.ids), doc.situations[index], np.int32))
        base += len(target.ids)
        about = sorted({t for word in split_words(doc.about[index]) for t in pieces.of(word, False)})
        ruled = {t for word in doc.ruled[index] for t in pieces.of(word, False)}
        rule = [i for i, t in enumerate(ids[:ruled_until]) if t in ruled]
        ids += target.ids.tolist()
        for i in at[-1][::CUE_EVERY].tolist():
            there = [j for j, t in enumerate(ids[: i + 1]) if t in about]
            cues += [(i, about)] if about else []
            looks += [(i, head, to) for head, to in ((0, there), (1, rule)) if to]
        said.append(reply_text(steps))
        done = text + said[-1] + tokenizer.eos_token
    join = np.concatenate
    return Encoded(
        np.array(ids, np.int32),
        join(at).astype(np.int32),
        join(rows).astype(np.int32),
        join(tokens),
        join(ps),
        join(zs).astype(np.float32),
        join(situations),
        np.array([i for i, _ in cues], np.int32),
        np.repeat(np.arange(len(cues)), [len(about) for _, about in cues]).astype(np.int32),
        np.array([t for _, about in cues for t in about], np.int32),
        np.array([i for i, _, _ in looks], np.int32),
        np.array([head for _, head, _ in looks], np.int32),
        np.repeat(np.arange(len(looks)), [len(to) for _, _, to in looks]).astype(np.int32),
        np.array([j for _, _, to in looks for j in to], np.int32),
    )
