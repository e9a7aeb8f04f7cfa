"""A made-up comparison for layout tests: plausible numbers from a seed, no model behind them."""

import zlib
from collections.abc import Sequence

import numpy as np

from lab.records import (
    Anchors,
    Comparison,
    Interaction,
    Landing,
    LayerScore,
    ModelIdentity,
    NoiseFloor,
    Reply,
    ReplyRow,
    Scaffold,
    ScaffoldFile,
    Segment,
)

LABELS = ("hearth-a", "hearth-b")
TRAITS = ("assistant", "warmth", "intimacy")
POSITIONS = ("reply_mean", "spawn")
SCAFFOLDS = (
    "companion-card",
    "companion-diary",
    "task-assistant",
    "stoic-mentor",
    "old-friend",
    "night-clerk",
    "memory-only",
    "boundaries-only",
)
QUESTIONS = ("q-rain", "q-train", "q-list", "q-friend")
ASKED = ("Will it rain?", "Which train do I take?", "Make me a list.", "Do you remember my sister?")
WORDS = (
    "I",
    "am",
    "glad",
    "you",
    "came",
    "back",
    ";",
    "sit",
    "down",
    "and",
    "tell",
    "me",
    "about",
    "your",
    "day",
)
LAYERS = 6
CHOSEN = {"assistant": 3, "warmth": 4, "intimacy": 4}


def fake_comparison(
    seed: int = 0,
    scaffolds: Sequence[str] = SCAFFOLDS,
    labels: tuple[str, str] = LABELS,
    run: str = "fake-run",
) -> Comparison:
    """Two models, three traits, `scaffolds` x 3 paraphrases, both positions."""
    rng = np.random.default_rng(seed)
    landings = [x for label in labels for x in _landings(rng, label, scaffolds)]
    return Comparison(
        run=run,
        models=tuple(_identity(label) for label in labels),
        labels=labels,
        scaffolds=tuple(_scaffold(name) for name in scaffolds),
        trait_set="hearth",
        landings=tuple(landings),
        interactions=tuple(_interactions(rng, landings, labels)),
        noise_floor=tuple(
            NoiseFloor(label, trait, position, 0.05, 0.14 + 0.05 * i, 3 * len(scaffolds))
            for i, label in enumerate(labels)
            for trait in TRAITS
            for position in POSITIONS
        ),
        anchors=tuple(
            Anchors(label, trait, position, CHOSEN[trait], -3.0 + i, 0.5, 4.0 - i, 3.5 - i)
            for i, label in enumerate(labels)
            for trait in TRAITS
            for position in POSITIONS
        ),
        depth=tuple(x for label in labels for x in _depth(rng, label)),
        replies=tuple(x for label in labels for x in _replies(rng, label, scaffolds)),
        settings={
            "seed": seed,
            "dtype": "float32",
            "max_new_tokens": 48,
            "bootstrap_draws": 2000,
            "null_permutations": 999,
            "temperature": 1.0,
            "questions": {"extract": 24, "select": 16, "test": 24},
        },
    )


def _identity(label: str) -> ModelIdentity:
    fingerprint = f"{zlib.crc32(label.encode()):012d}"
    return ModelIdentity(
        label, f"/models/{label}", fingerprint, 5_000_000, LAYERS, 256, 4096, "float32", False
    )


def _scaffold(name: str) -> ScaffoldFile:
    texts = (f"You are {name}.", f"Your name is {name}.", f"Speak as {name}.")
    paraphrases = tuple(Scaffold(name, (Segment("identity", text),)) for text in texts)
    return ScaffoldFile(name, f"what {name} is like", paraphrases)


def _landings(rng: np.random.Generator, label: str, scaffolds: Sequence[str]) -> list[Landing]:
    out = []
    for scaffold in scaffolds:
        for trait in TRAITS:
            for position in POSITIONS:
                centre, half = rng.normal(0.2, 0.4), rng.uniform(0.06, 0.2)
                null = rng.uniform(0.1, 0.25)
                for paraphrase in (-1, 0, 1, 2):
                    shift = 0.0 if paraphrase < 0 else rng.normal(0, 0.06)
                    n = 72 if paraphrase < 0 else 24
                    out.append(
                        Landing(
                            label,
                            scaffold,
                            paraphrase,
                            trait,
                            position,
                            centre + shift,
                            centre + shift - half,
                            centre + shift + half,
                            -null,
                            null,
                            4 * centre,
                            n,
                            "test",
                            CHOSEN[trait],
                        )
                    )
    return out


def _interactions(
    rng: np.random.Generator, landings: Sequence[Landing], labels: tuple[str, str]
) -> list[Interaction]:
    mean = {(x.model, x.scaffold, x.trait, x.position): x.L for x in landings if x.paraphrase == -1}
    out = []
    for (model, scaffold, trait, position), L in mean.items():
        if model != labels[0]:
            continue
        D, half = L - mean[labels[1], scaffold, trait, position], rng.uniform(0.1, 0.3)
        p = float(np.clip(np.exp(-3 * abs(D) / half), 0.001, 1))
        out.append(
            Interaction(scaffold, trait, position, D, D - half, D + half, p, min(1.0, 2 * p), 24)  # pyright: ignore
        )
    return out


def _depth(rng: np.random.Generator, label: str) -> list[LayerScore]:
    out = []
    for trait in TRAITS:
        for position in POSITIONS:
            for layer in range(LAYERS):
                d = 3.5 - 0.5 * abs(layer - CHOSEN[trait]) + rng.normal(0, 0.15)
                out.append(
                    LayerScore(
                        label,
                        trait,
                        position,
                        layer,
                        "select",
                        min(0.99, 0.6 + d / 9),
                        d,
                        0.7 + 0.1 * rng.random(),
                        layer == CHOSEN[trait],
                    )
                )
    return out


def _replies(rng: np.random.Generator, label: str, scaffolds: Sequence[str]) -> list[ReplyRow]:
    out = []
    for scaffold in scaffolds:
        for paraphrase in range(3):
            for question, asked in zip(QUESTIONS, ASKED, strict=True):
                words = list(rng.permutation(WORDS))[:14]
                tokens = tuple(words[:1] + [" " + w for w in words[1:]])
                projections = {t: tuple(rng.normal(0.5, 2.5, len(tokens)).tolist()) for t in TRAITS}
                reply = Reply("".join(tokens), tokens, projections)
                prompt = f"[system] You are {scaffold}.\n[user] {asked}"
                out.append(ReplyRow(label, scaffold, paraphrase, question, "test", prompt, reply))
    return out
