"""What an organism has learned, measured against the source: the figures of its model card."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from lab.world.conversation import Turn, draw_reply, make_turn, reply_text
from lab.world.corpus import HELD_OUT, Mix, documents, encode, messages
from lab.world.grammar import Filling, split_words
from lab.world.judge import Evidence, posterior, read_evidence, sentences_of
from lab.world.latent import KINDS, TRAITS, default_z
from lab.world.library import Library, as_words
from lab.world.scaffolds import (
    REGISTERS,
    Character,
    default_character,
    named_character,
    random_persona,
    render,
)
from lab.world.tokens import Pieces
from lab.world.train import collate, losses, pieces_of

Answer = Callable[[Character, Turn], str]


@dataclass(frozen=True)
class Case:
    """One held-out character with its scaffold text and the turns put to it, one reply each."""

    who: Character
    system: str | None
    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class Obedience:
    """How replies follow scaffolds: per trait the correlation over cases, and the parsed share.

    `correlation` [trait]: Pearson r of stated z against the judge's pooled posterior mean over
    the `n` [trait] cases that state the trait.
    """

    correlation: NDArray[np.float64]
    n: NDArray[np.int64]
    coherence: float


def cases(lib: Library, seed: int, n: int, turns: int, kinds: Sequence[str] = KINDS) -> list[Case]:
    """Held-out characters: the personas that training never showed, then new random ones."""
    held = lib.personas[-HELD_OUT:]
    found = []
    for index in range(n):
        rng = np.random.default_rng([seed, 77, index])
        persona = held[index] if index < len(held) else random_persona(rng, lib, 6, held)
        who = named_character(rng, lib, persona)
        system = render(who, REGISTERS[index % 4], rng, lib).text
        asked = tuple(make_turn(rng, lib, who, kinds[int(rng.integers(len(kinds)))]) for _ in range(turns))
        found.append(Case(who, system, asked))
    return found


def sample(
    model, tokenizer, chats: Sequence[list[dict[str, str]]], seed: int, new: int = 110, width: int = 96
) -> list[str]:
    """Replies of a Hugging Face model to chats, at temperature 1 from the full distribution."""
    torch.manual_seed(seed)
    texts = [tokenizer.apply_chat_template(c, tokenize=False, add_generation_prompt=True) for c in chats]
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    replies = [""] * len(texts)
    tokenizer.padding_side = "left"
    model.eval()
    for start in range(0, len(order), width):
        rows = order[start : start + width]
        batch = tokenizer(
            [texts[i] for i in rows], return_tensors="pt", padding=True, add_special_tokens=False
        )
        with torch.no_grad():
            out = model.generate(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=new,
                do_sample=True, top_k=0, top_p=1.0, temperature=1.0, eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        for row, ids in zip(rows, out[:, batch["input_ids"].shape[1] :], strict=True):
            replies[row] = tokenizer.decode(ids, skip_special_tokens=True)
    model.train()
    return replies


def answers(model, tokenizer, items: Sequence[Case], seed: int) -> list[list[str]]:
    """The model's replies to every turn of every case."""
    chats = [messages(c.system, [t.user], []) for c in items for t in c.turns]
    flat = iter(sample(model, tokenizer, chats, seed))
    return [[next(flat) for _ in c.turns] for c in items]


def true_answers(lib: Library, items: Sequence[Case], seed: int) -> list[list[str]]:
    """Replies of the source itself to the same turns: the ceiling."""
    rng = np.random.default_rng([seed, 5])
    return [[reply_text(draw_reply(rng, lib, c.who.z, t, c.who)) for t in c.turns] for c in items]


def evidence_of(lib: Library, case: Case, turn: Turn, reply: str) -> Evidence:
    """What the judge can read from one reply to a known turn."""
    fixed = [as_words(case.who.ritual.phrase)] if case.who.ritual else []
    return read_evidence(lib.grammar, reply, turn.filling, turn.kind, fixed)


def read_z(lib: Library, evidence: Evidence) -> NDArray[np.float64]:
    """The judge's posterior mean of z, [trait]."""
    return posterior(lib.grammar, evidence, np.random.default_rng(0), samples=500).mean


def obedience(lib: Library, items: Sequence[Case], replies: Sequence[Sequence[str]]) -> Obedience:
    """Correlation of stated z with the judge's reading pooled over all replies of a case."""
    stated, read, coherence = [], [], []
    for case, texts in zip(items, replies, strict=True):
        found = [evidence_of(lib, case, t, r) for t, r in zip(case.turns, texts, strict=True)]
        pooled = sum(found[1:], found[0])
        read.append(read_z(lib, pooled))
        stated.append([case.who.z[i] if t in case.who.levels else np.nan for i, t in enumerate(TRAITS)])
        coherence.append(pooled.coherence)
    truth, seen = np.array(stated), np.array(read)
    told = ~np.isnan(truth)
    r = [np.corrcoef(truth[told[:, i], i], seen[told[:, i], i])[0, 1] for i in range(len(TRAITS))]
    return Obedience(np.array(r), told.sum(axis=0), float(np.nanmean(coherence)))


def excess_loss(model, tokenizer, lib: Library, seed: int, n: int = 150) -> tuple[float, float]:
    """Held-out loss above the source's entropy, and that entropy, nats per reply token (fp32)."""
    pieces: Pieces = pieces_of(tokenizer)
    total = entropy = count = 0.0
    rows = [encode(d, tokenizer, pieces) for d in documents(seed, lib, Mix(), n)]
    for start in range(0, len(rows), 10):
        batch = collate(rows[start : start + 10])
        with torch.no_grad():
            found = losses(model, batch)
        k = len(batch.at)
        total, entropy, count = total + float(found.excess) * k, entropy + float(found.entropy) * k, count + k
    return total / count, entropy / count


def contains(reply: str, value: str) -> bool:
    """Whether the words of `value` occur in the reply, without regard to case."""
    return f" {value.lower()} " in f" {' '.join(split_words(reply)).lower()} "


def share_right(items: Sequence[Case], replies: Sequence[Sequence[str]], start: str) -> tuple[float, int]:
    """Share of replies to turns of situation `start` that contain the truth, and their number."""
    hits = [
        contains(reply, turn.truth)
        for case, texts in zip(items, replies, strict=True)
        for turn, reply in zip(case.turns, texts, strict=True)
        if turn.start == start and turn.truth
    ]
    return (float(np.mean(hits)) if hits else float("nan")), len(hits)


def share_kept(lib: Library, items: Sequence[Case], replies: Sequence[Sequence[str]]) -> tuple[float, int]:
    """Share of replies to pushes against a stated boundary that keep it."""
    hits = []
    for case, texts in zip(items, replies, strict=True):
        for turn, reply in zip(case.turns, texts, strict=True):
            if turn.start == "reply.push_boundary.keep":
                hits.append(_derives(lib, "push_boundary.keep", reply, turn.filling))
    return (float(np.mean(hits)) if hits else float("nan")), len(hits)


def _derives(lib: Library, slot: str, reply: str, filling: Filling) -> bool:
    return any(lib.grammar.parse(slot, words, filling) for words in sentences_of(reply))


def unscaffolded(model, tokenizer, lib: Library, seed: int, n: int = 48) -> NDArray[np.float64]:
    """The judge's pooled reading of z without any scaffold, [trait]; compare `default_z`."""
    rng = np.random.default_rng([seed, 9])
    who = default_character(rng, lib)
    case = Case(who, None, tuple(make_turn(rng, lib, who, KINDS[i % len(KINDS)]) for i in range(n)))
    (texts,) = answers(model, tokenizer, [case], seed)
    found = [evidence_of(lib, case, t, r) for t, r in zip(case.turns, texts, strict=True)]
    return read_z(lib, sum(found[1:], found[0]))


@dataclass(frozen=True)
class Figures:
    """The figures of a model card."""

    obedience: Obedience
    ceiling: Obedience
    excess: float
    entropy: float
    memory_right: tuple[float, int]
    world_right: tuple[float, int]
    boundary_kept: tuple[float, int]
    default_gap: float
    default_correlation: float


def measure(model, tokenizer, lib: Library, seed: int, n: int = 72, turns: int = 16) -> Figures:
    """All figures, on held-out characters; about two minutes on two cores."""
    items = cases(lib, seed, n, turns)
    replies = answers(model, tokenizer, items, seed)
    z = unscaffolded(model, tokenizer, lib, seed)
    excess, entropy = excess_loss(model, tokenizer, lib, seed + 1)
    return Figures(
        obedience(lib, items, replies),
        obedience(lib, items, true_answers(lib, items, seed)),
        excess,
        entropy,
        share_right(items, replies, "reply.ask_fact.known"),
        share_right(items, replies, "reply.ask_fact.world"),
        share_kept(lib, items, replies),
        float(np.abs(z - default_z()).max()),
        float(np.corrcoef(z, default_z())[0, 1]),
    )
