"""The exact judge of Hearth behind the protocol of judges, and all its readings in one pass.

`readings` gives all twelve traits and coherence of many replies, `pooled` those of groups of replies
taken together; `ExactJudge` is one of these as a `lab.judging.judges.Judge`. The numbers are those of
`lab.world.judge.judge_texts`: what does not depend on the text is made once, and a sentence that was
read before is not parsed again.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from hashlib import sha256

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray

from lab.judging.judges import Item, Score, Scores, Unit, unscored
from lab.records import LabError
from lab.world.grammar import Filling, Words
from lab.world.judge import Evidence, open_filling, posterior, read_evidence, sentences_of
from lab.world.latent import INDEX, TRAITS
from lab.world.library import TEXT, as_words, library

SAMPLES = 500
"""Draws of the posterior, as many as `judge_texts` takes."""
COHERENCE = "coherence"
RowTrait = Float[ndarray, "row trait"]


@dataclass(frozen=True)
class Readings:
    """What the exact judge reads; a row is a reply, or a group of replies taken together.

    values, sd [row, trait]: posterior mean and spread of z, prior sd, in the order of
    `lab.world.latent.TRAITS`; NaN where no sentence parses, since the prior is no reading.
    coherence [row]: share of sentences that parse, NaN without sentences. parsed, sentences [row]: counts.
    """

    values: RowTrait
    sd: RowTrait
    coherence: Float[ndarray, " row"]
    parsed: Int[ndarray, " row"]
    sentences: Int[ndarray, " row"]

    def of(self, trait: str) -> Float[ndarray, " row"]:
        """One trait's values. LabError for a trait that Hearth has not."""
        return self.values[:, INDEX[_known(trait)]]


def readings(texts: Sequence[str], samples: int = SAMPLES) -> Readings:
    """Every trait and the coherence of each text, without knowing what it replies to.

    Cost: 9 ms a reply of two or three new sentences on one core, 3 ms where its sentences are known
    (`judge_texts`, one reply a call: 11 ms).
    """
    return _read([_evidence(text) for text in texts], samples)


def pooled(
    texts: Sequence[str], groups: Sequence[Hashable], samples: int = SAMPLES
) -> tuple[tuple[Hashable, ...], Readings]:
    """The groups in order of first appearance, and one row per group: its texts as replies of one z.

    Narrower than the mean over replies, which each lean to the prior by themselves. Raises ValueError
    unless there is one group per text.
    """
    if len(texts) != len(groups):
        raise ValueError(f"expected one group per text, got {len(groups)} for {len(texts)} texts")
    found: dict[Hashable, Evidence] = {}
    for text, group in zip(texts, groups, strict=True):
        found[group] = found.get(group, Evidence((), 0, 0)) + _evidence(text)
    return tuple(found), _read(list(found.values()), samples)


def coherence(texts: Sequence[str]) -> Float[ndarray, " row"]:
    """Share of each text's sentences that parse, without a posterior; NaN for an empty text."""
    return np.array([_evidence(text).coherence for text in texts], dtype=np.float64)


def edition() -> str:
    """A hash of the text of the world: readings of another edition are other readings."""
    files = sorted(TEXT.glob("*.txt"))
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


# ------------------------------------------------------------------ as a judge


@dataclass(frozen=True)
class ExactJudge:
    """One trait of Hearth (unit "prior sd") or "coherence" ("0-100"); rubrics are not read."""

    measures: str

    def __post_init__(self) -> None:
        if self.measures != COHERENCE:
            _known(self.measures)

    @property
    def name(self) -> str:
        return "exact"

    @property
    def unit(self) -> Unit:
        return "0-100" if self.measures == COHERENCE else "prior sd"

    def score(self, items: Sequence[Item]) -> Scores:
        """One score per item; unscored where nothing parses (a trait) or there is no sentence."""
        return scores_of(readings([item.answer for item in items]), self.measures)


def scores_of(found: Readings, measures: str) -> Scores:
    """One trait, or "coherence", of readings as scores of a judge named "exact"."""
    if measures == COHERENCE:
        rows = [
            Score(100 * c, how="exact") if n else unscored("refused", "empty reply")
            for c, n in zip(found.coherence.tolist(), found.sentences.tolist(), strict=True)
        ]
        return Scores("exact", "0-100", tuple(rows))
    rows = [
        Score(z, how="exact")
        if k
        else unscored("refused", f"none of {n} sentences parses: the posterior would be the prior")
        for z, k, n in zip(
            found.of(measures).tolist(), found.parsed.tolist(), found.sentences.tolist(), strict=True
        )
    ]
    return Scores("exact", "prior sd", tuple(rows))


# ------------------------------------------------------------------ reading


@cache
def _desk() -> tuple[Filling, tuple[Words, ...]]:
    """What reading needs besides the text: the open filling and the rituals."""
    lib = library()
    return open_filling(lib), tuple(as_words(ritual.phrase) for ritual in lib.rituals)


@lru_cache(maxsize=1 << 16)
def _sentence(words: Words) -> Evidence:
    filling, fixed = _desk()
    return read_evidence(library().grammar, " ".join(words), filling, None, fixed)


def _evidence(text: str) -> Evidence:
    return sum((_sentence(words) for words in sentences_of(text)), Evidence((), 0, 0))


def _read(evidence: Sequence[Evidence], samples: int) -> Readings:
    values, sd = np.full((2, len(evidence), len(TRAITS)), np.nan)
    for i, found in enumerate(evidence):
        if found.parsed:
            z = posterior(library().grammar, found, np.random.default_rng(0), samples)
            values[i], sd[i] = z.mean, z.sd
    return Readings(
        values, sd, np.array([e.coherence for e in evidence], dtype=np.float64),
        np.array([e.parsed for e in evidence], dtype=np.int64),
        np.array([e.sentences for e in evidence], dtype=np.int64),
    )  # fmt: skip


def _known(trait: str) -> str:
    if trait not in TRAITS:
        raise LabError(f"Hearth has no trait {trait!r}; it has {', '.join(TRAITS)}")
    return trait
