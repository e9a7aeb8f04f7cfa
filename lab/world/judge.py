"""The exact judge: Bayes over z for any reply of Hearth, and the share of it that parses.

No opinion and no API: P(reply | z) is computed from the grammar that the replies come from.
Every trait slot depends on one coordinate of z, so the log-likelihood is a sum of concave
one-dimensional functions; the posterior is sampled by importance around its mode.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from lab.world.grammar import SHARPNESS, Choice, Filling, Grammar, Ref, Words, split_words
from lab.world.latent import INDEX, TRAITS, prior_covariance
from lab.world.library import Library, as_words

Derivation = tuple[Choice, ...]


@dataclass(frozen=True)
class Evidence:
    """What a text says about z: per parsed sentence its possible derivations.

    `sentences` counts all sentences, `parsed` those with a derivation or a known fixed phrase.
    """

    derivations: tuple[tuple[Derivation, ...], ...]
    sentences: int
    parsed: int

    def __add__(self, other: "Evidence") -> "Evidence":
        return Evidence(
            self.derivations + other.derivations,
            self.sentences + other.sentences,
            self.parsed + other.parsed,
        )

    @property
    def coherence(self) -> float:
        """Share of sentences that parse; NaN for an empty text."""
        return self.parsed / self.sentences if self.sentences else float("nan")


@dataclass(frozen=True)
class Posterior:
    """Posterior of z: mean, spread and central 80 % interval, each [trait], prior sd units."""

    mean: NDArray[np.float64]
    sd: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    effective_samples: float


def sentences_of(text: str) -> list[Words]:
    """The sentences of a text, each with its end mark; a rest without end mark counts as one."""
    sentences: list[Words] = []
    current: list[str] = []
    for word in split_words(text):
        current.append(word)
        if word in (".", "!", "?"):
            sentences.append(tuple(current))
            current = []
    return [*sentences, tuple(current)] if current else sentences


def sentence_slots(grammar: Grammar, kind: str | None = None) -> list[str]:
    """Slots that derive whole sentences, of one kind of turn or of all."""
    prefix = "reply." if kind is None else f"reply.{kind}"
    names: dict[str, None] = {}
    for name, slot in grammar.slots.items():
        if name == prefix or name.startswith(prefix if kind is None else prefix + "."):
            for alternative in slot.alternatives:
                names.update((s.slot, None) for s in alternative if isinstance(s, Ref))
    return list(names)


def read_evidence(
    grammar: Grammar, text: str, filling: Filling, kind: str | None = None, fixed: Iterable[Words] = ()
) -> Evidence:
    """Parse a reply sentence by sentence. `fixed` sentences (rituals) parse but tell nothing."""
    phrases = {tuple(w.lower() for w in words) for words in fixed}
    slots = sentence_slots(grammar, kind)
    found: list[tuple[Derivation, ...]] = []
    sentences = sentences_of(text)
    parsed = 0
    for words in sentences:
        if tuple(w.lower() for w in words) in phrases:
            parsed += 1
            continue
        options = [d for slot in slots for d in grammar.parse(slot, words, filling)]
        if options:
            parsed += 1
            found.append(tuple(options))
    return Evidence(tuple(found), len(sentences), parsed)


class _LogLikelihood:
    """log P(text | z) up to a constant, for many z at once."""

    def __init__(self, grammar: Grammar, evidence: Evidence) -> None:
        self._grammar = grammar
        self._single: Counter[Choice] = Counter()
        self._mixed: list[list[Counter[Choice]]] = []
        for options in evidence.derivations:
            counts = [Counter(c for c in d if grammar.slots[c[0]].trait) for d in options]
            if all(c == counts[0] for c in counts):
                self._single.update(counts[0])
            else:
                self._mixed.append(counts)

    def _sum(self, choices: Counter[Choice], z: NDArray[np.float64]) -> NDArray[np.float64]:
        total = np.zeros(len(z))
        for (name, index), n in choices.items():
            slot = self._grammar.slots[name]
            x = SHARPNESS * z[:, INDEX[slot.trait or ""]]
            total += n * (x * slot.loads[index] - logsumexp(x[:, None] * slot.loads, axis=1))
        return total

    def __call__(self, z: NDArray[np.float64]) -> NDArray[np.float64]:
        """[sample] for z [sample, trait]."""
        total = self._sum(self._single, z)
        for options in self._mixed:
            total += np.asarray(logsumexp([self._sum(choices, z) for choices in options], axis=0))
        return total

    def derivatives(self, z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Gradient and (diagonal) curvature at one z; ambiguous sentences by first derivation."""
        gradient, curvature = np.zeros(len(z)), np.zeros(len(z))
        choices = self._single + sum((options[0] for options in self._mixed), Counter())
        for (name, index), n in choices.items():
            slot = self._grammar.slots[name]
            i = INDEX[slot.trait or ""]
            p = np.exp(slot.log_probabilities(z))
            mean = p @ slot.loads
            gradient[i] += n * SHARPNESS * (slot.loads[index] - mean)
            curvature[i] -= n * SHARPNESS**2 * (p @ slot.loads**2 - mean**2)
        return gradient, curvature


def posterior(
    grammar: Grammar, evidence: Evidence, rng: np.random.Generator, samples: int = 2000
) -> Posterior:
    """Posterior of z under the prior of the world, given everything in `evidence`."""
    log_likelihood = _LogLikelihood(grammar, evidence)
    covariance = prior_covariance()
    precision = np.linalg.inv(covariance)
    mode = np.zeros(len(TRAITS))
    for _ in range(30):
        gradient, curvature = log_likelihood.derivatives(mode)
        step = np.linalg.solve(precision - np.diag(curvature), gradient - precision @ mode)
        mode = mode + np.clip(step, -1.0, 1.0)
        if np.abs(step).max() < 1e-8:
            break
    hessian = precision - np.diag(log_likelihood.derivatives(mode)[1])
    chol = np.linalg.cholesky(np.linalg.inv(hessian) * 1.2)
    noise = rng.standard_normal((samples, len(mode)))
    z = mode + noise @ chol.T
    weight = log_likelihood(z) - 0.5 * np.einsum("st,tu,su->s", z, precision, z) + 0.5 * (noise**2).sum(1)
    weight = np.exp(weight - weight.max())
    weight /= weight.sum()
    mean = weight @ z
    low, high = _quantiles(z, weight, (0.1, 0.9))
    return Posterior(mean, np.sqrt(weight @ (z - mean) ** 2), low, high, float(1 / (weight**2).sum()))


def _quantiles(
    z: NDArray[np.float64], weight: NDArray[np.float64], levels: Sequence[float]
) -> list[NDArray[np.float64]]:
    order = np.argsort(z, axis=0)
    cumulative = np.cumsum(weight[order], axis=0)
    columns = np.arange(z.shape[1])
    rows = [np.minimum((cumulative < level).sum(axis=0), len(z) - 1) for level in levels]
    return [np.take_along_axis(z, order, axis=0)[row, columns] for row in rows]


def open_filling(lib: Library) -> Filling:
    """Every way the world can fill every variable: for judging a reply without its conversation."""
    nouns = [n for topic in lib.topics for n in topic.nouns]
    held = [(a, value) for a in lib.attributes for value in a.values]
    answers = [a.answer.replace("{value}", value) for a, value in held]
    options = {
        "topic": nouns,
        "user": list(lib.users),
        "subject": [s for b in lib.boundaries for s in b.subjects],
        "answer": answers,
        "claim": answers,
        "word": [word for topic in lib.topics for _, word in topic.facts],
    }
    return {name: [(as_words(text), 1 / len(texts)) for text in texts] for name, texts in options.items()}


def judge_texts(lib: Library, texts: Sequence[str], samples: int = 500) -> tuple[Posterior, Evidence]:
    """The posterior of z given all `texts` together, without knowing what they reply to."""
    filling = open_filling(lib)
    fixed = [as_words(ritual.phrase) for ritual in lib.rituals]
    found = [read_evidence(lib.grammar, text, filling, None, fixed) for text in texts]
    pooled = sum(found, Evidence((), 0, 0))
    return posterior(lib.grammar, pooled, np.random.default_rng(0), samples), pooled
