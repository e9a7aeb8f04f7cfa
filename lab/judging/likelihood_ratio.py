"""Judges that ask nothing: how likely a model finds a reply under contrastive prompts.

A model that is read, not asked, needs no rubric, no instruction following and no chat template; so a base
model can judge too, and the model under study can judge itself. The trait is a log-likelihood ratio
between the poles' prompts (`ContrastJudge`), coherence is that the reply is no stranger to the model than
its own replies are (`FamiliarityJudge`). Both are functions of one record, `Likelihoods`.

Not to be forgotten: the ratio tells what the *prompts* mean to this model, with all that goes along with
the trait in their wording; and a model that takes a text for likely has not said that it is good.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from lab.judging.judges import Item, Score, Scores, Unit, Values, unscored
from lab.records import LabError, Message, Trait

LogProbs = Callable[[Sequence[Sequence[Message]], Sequence[str]], Sequence[Float[ndarray, " token"]]]
"""Per chat and reply the natural log-probs of the reply's tokens, each given the chat and the tokens before
it, the end of turn not counted. The model that reads is not steered."""
ItemPair = Float[ndarray, "item pair"]

ORDINARY = 0.975
"""Share of a model's own unsteered replies that must pass as coherent."""
LEAST_REFERENCE = 40
"""Below this many replies their ORDINARY point cannot be told: 1 / (1 - ORDINARY)."""


@dataclass(frozen=True)
class Likelihoods:
    """Mean natural log-prob per reply token, by what the model was told before the question.

    neutral [item]: no system message; positive, negative [item, pair]: the trait's prompts. NaN in the
    whole row for a reply without tokens.
    """

    neutral: Values
    positive: ItemPair
    negative: ItemPair


def likelihoods(log_probs: LogProbs, trait: Trait, items: Sequence[Item]) -> Likelihoods:
    """How likely each reply is under no prompt and under each of the trait's.

    Costs 1 + 2 × pairs forward passes per item. Raises LabError when positive and negative prompts
    do not come in pairs, and when `log_probs` answers another number of replies.
    """
    n = len(trait.positive)
    if n == 0 or n != len(trait.negative):
        raise LabError(
            f"trait {trait.name}: expected pairs of prompts, got {n} positive and {len(trait.negative)} "
            "negative; give each positive prompt its opposite (data/traits/README.md)"
        )
    prompts = ["", *trait.positive, *trait.negative]
    asked = [[Message("user", item.question)] for item in items]
    chats = [
        [Message("system", prompt), *question] if prompt else question
        for question in asked
        for prompt in prompts
    ]
    found = log_probs(chats, [item.answer for item in items for _ in prompts])
    if len(found) != len(chats):
        raise LabError(f"expected log-probs of {len(chats)} replies, got {len(found)}; answer every one")
    means = np.array([x.mean() if len(x) else np.nan for x in found], dtype=np.float64)
    rows = means.reshape(len(items), len(prompts))
    return Likelihoods(rows[:, 0], rows[:, 1 : n + 1], rows[:, n + 1 :])


def contrast(found: Likelihoods, left_out: Int[ndarray, " item"] | None = None) -> Values:
    """Mean over pairs of log p(reply | positive) − log p(reply | negative), [item], nats per token.

    `left_out` names per item one pair that does not count (-1: none): the pair whose prompt the reply was
    made under, which the model would recognise by more than the trait. Positive: more of the trait.
    """
    difference = found.positive - found.negative
    if left_out is None:
        return difference.mean(axis=1)
    if difference.shape[1] < 2:
        raise LabError("expected at least 2 pairs of prompts to leave one out, got 1; write another pair")
    counts = np.arange(difference.shape[1]) != np.asarray(left_out)[:, None]
    return (difference * counts).sum(axis=1) / counts.sum(axis=1)


def strangeness(found: Likelihoods) -> Values:
    """−log p per token under the likeliest of all prompts, neutral included, [item], nats per token.

    Under the likeliest, so that being in character is no strangeness. Low for what loops: a model
    finds its own repetitions likely.
    """
    return -np.column_stack([found.neutral, found.positive, found.negative]).max(axis=1)


def ordinary_limit(reference: Values) -> float:
    """The strangeness that a new ordinary reply stays below with probability ORDINARY at least.

    reference [item]: strangeness of the model's own unsteered replies, NaN left out. The order statistic
    ⌈(n + 1) · ORDINARY⌉ keeps the promise for a new reply, not for these (split conformal: Vovk, Gammerman
    & Shafer 2005); it holds if references and new replies answer alike questions. Raises LabError for
    fewer than LEAST_REFERENCE references.
    """
    known = np.sort(reference[~np.isnan(reference)])
    if len(known) < LEAST_REFERENCE:
        raise LabError(
            f"expected at least {LEAST_REFERENCE} ordinary replies to tell what is strange, got "
            f"{len(known)}; give the model more questions without a scaffold"
        )
    return float(known[min(math.ceil((len(known) + 1) * ORDINARY), len(known)) - 1])


# ------------------------------------------------------------------ as judges


@dataclass(frozen=True)
class ContrastJudge:
    """The trait as a log-likelihood ratio; the scale is the model's own, so never compared between models."""

    name: str
    trait: Trait
    log_probs: LogProbs
    unit: Unit = field(default="nats per token", init=False)

    def score(self, items: Sequence[Item]) -> Scores:
        """`contrast` over all pairs; rubrics are not read."""
        return as_scores(self.name, self.unit, contrast(likelihoods(self.log_probs, self.trait, items)))


@dataclass(frozen=True)
class FamiliarityJudge:
    """100 where a reply is no stranger than `limit` (see `ordinary_limit`), else 0; `raw` has the nats.

    The mean over replies is the share of them that the model might have said unsteered, 97.5 for
    ordinary ones.
    """

    name: str
    trait: Trait
    log_probs: LogProbs
    limit: float
    unit: Unit = field(default="0-100", init=False)

    def raw(self, items: Sequence[Item]) -> Values:
        """[item] strangeness, nats per token."""
        return strangeness(likelihoods(self.log_probs, self.trait, items))

    def score(self, items: Sequence[Item]) -> Scores:
        """One 0 or 100 per item; unscored where there is no token."""
        return as_scores(self.name, self.unit, familiar(self.raw(items), self.limit))


def familiar(raw: Values, limit: float) -> Values:
    """100 where strangeness is at most `limit`, 0 above, NaN where it is unknown, [item]."""
    return np.where(np.isnan(raw), np.nan, 100.0 * (raw <= limit))


def as_scores(name: str, unit: Unit, values: Values) -> Scores:
    """Values of replies as scores; NaN is a reply without tokens."""
    rows = [
        unscored("refused", "empty reply: no token to weigh") if math.isnan(v) else Score(v, how="likelihood")
        for v in values.tolist()
    ]
    return Scores(name, unit, tuple(rows))
