"""Encoded replies, and how two conditions differ in them: activations are encoded, then differenced.

Per feature: mean over the tokens of a reply, then over replies to a question, then over questions; conditions are
paired by question. (A difference of states must not be encoded itself, arXiv 2411.08790.)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Shaped
from numpy import ndarray

from lab.features.load import Sae, encode_tokens
from lab.features.stream import Tokens, tokens_of_reply
from lab.models import LoadedModel
from lab.prompts.chat import render
from lab.records import LabError, Message
from lab.stats import EXACT_UP_TO, MIN_CLUSTERS, benjamini_hochberg, cluster_weights, interval

AT_ONCE = 2**22
"""Numbers of a bootstrap or of a sign-flip test that are held at once, [draw, feature]."""
ByFeature = Float[ndarray, " feature"]
Answers = Mapping[str, Float[ndarray, "feature"]]


@dataclass(frozen=True)
class Coded:
    """Replies in features, float64. mean [reply, feature]: mean activation over the reply's tokens; on: share of tokens
    at which the feature is on. NaN for a reply without tokens."""

    mean: Float[ndarray, "reply feature"]
    on: Float[ndarray, "reply feature"]


def reply_tokens(
    model: LoadedModel, systems: Sequence[str], questions: Sequence[str], replies: Sequence[str]
) -> list[Tokens]:
    """Replies to questions under system prompts ("": none) as the model reads them."""
    rows = []
    for system, question, reply in zip(systems, questions, replies, strict=True):
        told = [Message("system", system)] if system else []
        chat = render(model.tokenizer, [*told, Message("user", question)])
        rows.append(tokens_of_reply(model.tokenizer, chat, reply))
    return rows


def coded(sae: Sae, model: LoadedModel, rows: Sequence[Tokens]) -> Coded:
    """Activations over each row's reply tokens; rows in the order given. Memory: 16 bytes per row and feature."""
    found = Coded(*(np.full((len(rows), sae.origin.d_sae), np.nan) for _ in range(2)))
    for i, codes in encode_tokens(sae, model, rows):
        where = np.flatnonzero(rows[i].reply)
        if len(where):
            said = codes[where]
            found.mean[i] = np.asarray(said.sum(axis=0)).ravel() / len(where)
            found.on[i] = np.bincount(said.indices[said.data > 0], minlength=said.shape[1]) / len(where)
    return found


def by_question(
    values: Float[ndarray, "reply feature"], questions: Shaped[ndarray, " reply"], asked: Sequence[str]
) -> Float[ndarray, "question feature"]:
    """Mean over the replies to each of the questions `asked`; NaN where none has tokens."""
    out = np.full((len(asked), values.shape[1]), np.nan)
    known = ~np.isnan(values[:, 0])
    for k, question in enumerate(asked):
        here = known & (questions == question)
        if here.any():
            out[k] = values[here].mean(axis=0)
    return out


# ------------------------------------------------------------------ two conditions


@dataclass(frozen=True)
class Paired:
    """One condition minus the other, by feature.

    one, other: means over questions; difference with 95 % limits; p: two-sided sign flip over questions, NaN for a
    feature that differs on fewer than 5 of them; q: Benjamini-Hochberg over the features with a p. n: questions with
    replies on both sides. Below 5 of them limits, p and q are NaN.
    """

    one: ByFeature
    other: ByFeature
    difference: ByFeature
    low: ByFeature
    high: ByFeature
    p: ByFeature
    q: ByFeature
    n: int


def paired(
    one: Float[ndarray, "question feature"], other: Float[ndarray, "question feature"], rng: np.random.Generator,
    draws: int = 1000, flips: int = 10000,
) -> Paired:  # fmt: skip
    """Compare two conditions on the same questions, in the same order.

    A question without replies on one side is left out. Which features have a p does not depend on the signs
    that are tested, so it costs no validity. LabError when no question is left.
    """
    known = ~np.isnan(one).any(axis=1) & ~np.isnan(other).any(axis=1)
    if not known.any():
        raise LabError("expected replies to the same questions in both conditions, got none in common")
    one, other = one[known].astype(np.float64), other[known].astype(np.float64)
    difference = one - other
    n, features = difference.shape
    low, high, p = (np.full(features, np.nan) for _ in range(3))
    if n >= MIN_CLUSTERS:
        weights = cluster_weights([np.arange(n)], draws, rng) / n
        signs = _signs(n, flips, rng)
        told = (difference != 0).sum(axis=0) >= MIN_CLUSTERS
        for part in _parts(features, max(len(weights), len(signs))):
            low[part], high[part] = interval(weights @ difference[:, part], n)
            p[part] = np.where(told[part], _flipped(difference[:, part], signs), np.nan)
    return Paired(
        one.mean(axis=0), other.mean(axis=0), difference.mean(axis=0), low, high, p, benjamini_hochberg(p), n
    )


def _parts(features: int, draws: int) -> list[slice]:
    step = max(1, AT_ONCE // draws)
    return [slice(k, k + step) for k in range(0, features, step)]


def _signs(n: int, flips: int, rng: np.random.Generator) -> Float[ndarray, "pattern question"]:
    """All sign patterns of few questions, as `lab.stats.sign_flip`; else the true one and random ones."""
    if n <= EXACT_UP_TO:
        return 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    return np.concatenate([np.ones((1, n)), rng.choice([-1.0, 1.0], size=(flips, n))])


def _flipped(
    values: Float[ndarray, "question feature"], signs: Float[ndarray, "pattern question"]
) -> Float[ndarray, " feature"]:
    """Share of sign patterns with a sum at least as far from 0; one set of patterns serves all features."""
    bar = np.abs(values.sum(axis=0)) - 1e-12 * np.abs(values).sum(axis=0)
    return (np.abs(signs @ values) >= bar).mean(axis=0)
