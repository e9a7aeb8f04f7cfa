"""Readers of traits for steering: the exact judge on Hearth, likelihood ratios on any other model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from lab.dosage import Reader
from lab.judging.judges import Item
from lab.judging.likelihood_ratio import (
    Likelihoods,
    contrast,
    familiar,
    likelihoods,
    ordinary_limit,
    strangeness,
)
from lab.records import Message, Trait, TraitSet

if TYPE_CHECKING:
    from lab.models import LoadedModel

PAIRS = 2
"""Contrastive pairs that a reply is weighed under: each costs two forward passes per reply and trait."""


@dataclass(frozen=True)
class ExactTaken:
    """Replies for the exact judge; see `lab.dosage.Taken`."""

    texts: tuple[str, ...]
    traits: tuple[str, ...]

    @property
    def coherence(self) -> Float[ndarray, " reply"]:
        """Share of each reply's sentences that parse."""
        from lab.world.exact import coherence

        return coherence(self.texts)

    def pooled(self, rows: Int[ndarray, " row"]) -> Float[ndarray, " trait"]:
        """Posterior mean of z given these replies together, prior sd."""
        from lab.world.exact import pooled

        if not len(rows):
            return np.full(len(self.traits), np.nan)
        _, found = pooled([self.texts[i] for i in rows], [0] * len(rows))
        return np.array([found.of(trait)[0] for trait in self.traits])


@dataclass(frozen=True)
class ExactReader:
    """Hearth's judge, for traits of Hearth."""

    traits: tuple[str, ...]
    judge: str = "exact"
    unit: str = "prior sd"

    def take(self, questions: Sequence[str], replies: Sequence[str]) -> ExactTaken:
        """Questions are not needed: the judge reads a reply by itself."""
        return ExactTaken(tuple(replies), self.traits)


@dataclass(frozen=True)
class WeighedTaken:
    """Replies with their likelihood ratios [reply, trait] and coherence [reply]."""

    values: Float[ndarray, "reply trait"]
    coherence: Float[ndarray, " reply"]

    def pooled(self, rows: Int[ndarray, " row"]) -> Float[ndarray, " trait"]:
        """Mean over replies, nats per token; NaN where no reply has tokens."""
        here = self.values[rows]
        known = ~np.isnan(here)
        total = np.where(known, here, 0.0).sum(axis=0)
        return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)


class ContrastReader:
    """The unsteered model as its own judge: how much likelier a reply is under a trait's prompts.

    Coherent is a reply no stranger to the unsteered model than 97.5 % of its own (`reference`: questions
    and replies without scaffold and push, of other splits than the ones reported).
    """

    judge = "contrast"
    unit = "nats per token"

    def __init__(
        self, model: "LoadedModel", traits: Sequence[Trait], reference: tuple[Sequence[str], Sequence[str]]
    ) -> None:
        self._traits = [replace(t, positive=t.positive[:PAIRS], negative=t.negative[:PAIRS]) for t in traits]
        self.traits = tuple(t.name for t in traits)
        self._log_probs = _weigh(model)
        self._limit = ordinary_limit(_strangest(self._weighed(*reference)))

    def take(self, questions: Sequence[str], replies: Sequence[str]) -> WeighedTaken:
        """Weigh replies under every trait's prompts."""
        found = self._weighed(questions, replies)
        values = np.column_stack([contrast(f) for f in found])
        return WeighedTaken(values, familiar(_strangest(found), self._limit) / 100)

    def _weighed(self, questions: Sequence[str], replies: Sequence[str]) -> list[Likelihoods]:
        items = [Item(q, r, "") for q, r in zip(questions, replies, strict=True)]
        return [likelihoods(self._log_probs, trait, items) for trait in self._traits]


def _strangest(found: Sequence[Likelihoods]) -> Float[ndarray, " reply"]:
    """Strangeness under the likeliest of all traits' prompts."""
    return np.min([strangeness(f) for f in found], axis=0)


def _weigh(
    model: "LoadedModel",
) -> Callable[[Sequence[Sequence[Message]], Sequence[str]], list[Float[ndarray, " token"]]]:
    from lab.likelihood import token_log_probs
    from lab.prompts.chat import render

    def log_probs(chats: Sequence[Sequence[Message]], replies: Sequence[str]) -> list:
        return token_log_probs(model, [render(model.tokenizer, c) for c in chats], replies)

    return log_probs


def reader_of(
    model: "LoadedModel", traits: TraitSet, reference: Callable[[], tuple[Sequence[str], Sequence[str]]]
) -> Reader:
    """The exact judge on all of Hearth's traits where the set is Hearth's, else likelihood ratios."""
    if traits.name == "hearth":
        from lab.world.latent import TRAITS

        return ExactReader(TRAITS)
    return ContrastReader(model, traits.traits, reference())
