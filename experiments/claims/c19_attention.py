"""Claim 19: whether two models attend differently to the same sentence.

Question. Given the same text, do the heads of another model look at other words than the corresponding heads of the
same model trained once more?

Prediction. They do look elsewhere, and so does a second seed: what is the model's own is small. (Seen before this was
written, `lab words hearth-a hearth-b --control hearth-a2`: .284 between the models, .287 between seeds, .381 on
different texts; .025 [.011, .035] beyond the second seed over the heads that both have a match for.)

Measure. Attention summed from tokens to words by characters, so that tokenizers do not matter; squared Hellinger
distance (0 same, 1 disjoint) of heads that were matched on half of the texts, on the other half. (a) What the same
text brings them nearer than different texts, over the distance on different texts. (b) Distance beyond that of the
second seed, over the seeds' distance, for heads that have a match in both. Interval: resampling texts; what is
divided by is held fixed.

Null. (a) 0: as on different texts; 1: the same attention. (b) 0: as two seeds of one recipe.

Verdict rule. (a) "They attend differently" is supported if the same text removes less than half of the distance that
different texts make, refuted if more. (b) "The model does it" is supported if the models lie more than a quarter
further apart than seeds, refuted if less. The claim needs both; one refuted refutes it. Without a second seed (b)
abstains.

What would change it. Longer texts, heads matched on more texts, architectures whose heads have no counterpart (other
numbers of layers and heads leave some unmatched), attention weighted by what it carries instead of by its size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lab.claims import Frame, abstain, all_of, effect, of
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import Progress
from lab.pipelines.words import WordsConfig, shipped_texts, words
from lab.records.claims import Effect, Observation
from lab.records.words import WordsBook
from lab.store import Store

TITLE = "Given the same sentence, two models attend differently"
COMBINE = all_of
COMPANIONS = ("second_seed",)
HEADS, GAIN, ALL, BEYOND = (
    "matched heads", "gain of matched heads", "all pairs of heads", "matched heads beyond the control",
)  # fmt: skip


@dataclass(frozen=True)
class Config(ClaimConfig):
    """Texts, and what counts as different."""

    texts: int = 0
    """How many of the shipped texts; 0: all."""
    longest: int = 0
    """Words of a text that are kept; 0: all. For tokenizers that cut nearly every letter."""
    gone: float = 0.5
    beyond: float = 0.25


CONFIG = Config()
QUICK = Config(texts=12, longest=50)


def observe(config: Config, store: Store, progress: Progress) -> list[Observation]:
    """Distances of heads over texts, with their intervals; and of every matched pair."""
    one, two = config.models[:2]
    texts = tuple(
        " ".join(t.split()[: config.longest]) if config.longest else t
        for t in shipped_texts()[: config.texts or None]
    )
    inner = WordsConfig(
        (one, two), config.second_seed or None, texts[0], texts, dtype=config.dtype, seed=config.seed
    )
    book = words(inner, store, progress)
    return [*_measures(book), *_heads(book)]


def _measures(book: WordsBook) -> list[Observation]:
    rows = []
    pairs = [f"{book.labels[0]} | {other}" for other in book.labels[1:]]
    for m in book.measures:
        if m.what in (HEADS, GAIN, ALL, BEYOND):
            # A second seed of the same label as the model is still the second of the pairs.
            second = m.model in pairs[1:] and m.model != pairs[0]
            who = "two seeds" if second else "two models"
            rows.append(
                Observation(
                    m.model, f"{m.what}, {who}", "all", m.value, float("nan"), m.low, m.high, m.null, m.p, m.n, m.note
                )
            )  # fmt: skip
    return rows


def _heads(book: WordsBook) -> list[Observation]:
    return [
        Observation(
            f"{m.model_a} | {m.model_b}", "matched pair of heads",
            f"layer {m.layer_a} head {m.head_a} | layer {m.layer_b} head {m.head_b}", m.divergence, low=m.low, high=m.high,
            null=m.other_text, n=m.n, note=f"nearer on the same text by {m.gain:.3f}, q {m.q:.3f}",
        )
        for m in book.matches
    ]  # fmt: skip


def judge(
    observed: Sequence[Observation], rng: np.random.Generator, gone: float = Config.gone,
    beyond: float = Config.beyond,
) -> list[Effect]:  # fmt: skip
    """The verdict rule."""
    apart = {r.models: r for r in observed if r.series.startswith(f"{HEADS}, ")}
    found = []
    for row in (r for who in ("two models", "two seeds") for r in of(observed, series=f"{GAIN}, {who}")):
        frame = Frame(
            row.models, "distance of heads that the same text removes", "shares of that on different texts", "below", gone,
            "0: as on different texts", "texts", decides=row.series.endswith("two models"),
        )  # fmt: skip
        found.append(_over(row, apart[row.models].null, frame))
    further = of(observed, series=f"{BEYOND}, two models")
    seeds = [r for r in apart.values() if r.series.endswith("two seeds")]
    label = next((r.models for r in apart.values() if r.series.endswith("two models")), "")
    frame = Frame(
        label, "distance of heads beyond a second seed's", "shares of the seeds' distance", "above", beyond,
        "0: as two seeds", "texts",
    )  # fmt: skip
    if further and seeds:
        found.append(_over(further[0], seeds[0].value, frame))
    else:
        found.append(abstain("no second seed of the first model to hold it against", frame))
    return found


def _over(row: Observation, by: float, frame: Frame) -> Effect:
    """An observation in units of another one."""
    if not by > 0:
        return abstain("nothing to measure by: no distance on different texts", frame)
    return effect(row.value / by, row.low / by, row.high / by, row.n, frame)
