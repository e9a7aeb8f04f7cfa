"""The lab's own numbers against the truth of Hearth: do directions read and steer what they name?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lab.pipelines.compare import (
    CompareConfig,
    Progress,
    Runner,
    extract_side,
    neutral_jobs,
    resolve_model,
    resolve_trait_set,
    scaffold_jobs,
)
from lab.records import LabError, Message, ScaffoldFile
from lab.store import Store


@dataclass(frozen=True)
class Reading:
    """How well projections tell what the exact judge reads from the same replies of one model.

    r2_scaffold: squared correlation over scaffold paraphrases (replies pooled); r2_reply: over
    single replies; n: paraphrases; layer: where the direction was read.
    """

    model: str
    trait: str
    r2_scaffold: float
    r2_reply: float
    n: int
    layer: int


@dataclass(frozen=True)
class Dose:
    """The judge's reading of replies that were steered by `coefficient` residual norms.

    reading and sd are NaN when no sentence parses; coherence is the share of sentences that do
    (the last, cut-off one of a reply counts as one that does not).
    """

    model: str
    trait: str
    coefficient: float
    reading: float
    sd: float
    coherence: float
    n: int


@dataclass(frozen=True)
class Truth:
    """All readings and doses of one model."""

    readings: tuple[Reading, ...]
    doses: tuple[Dose, ...]


def _r2(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    whole = ~(np.isnan(x) | np.isnan(y))
    return float(np.corrcoef(x[whole], y[whole])[0, 1] ** 2)


def known_truth(
    model: str, scaffolds: Sequence[ScaffoldFile], store: Store, progress: Progress, *,
    coefficients: Sequence[float] = (-1.0, -0.5, 0.0, 0.5, 1.0), max_new_tokens: int = 110, seed: int = 0,
) -> Truth:  # fmt: skip
    """Readings and dose-response of every trait of a Hearth organism. LabError for other models."""
    progress("loading model", 0.0)
    from lab.models import load

    loaded = load(resolve_model(model))
    traits = resolve_trait_set("auto", [loaded])
    if traits.name != "hearth":
        raise LabError(f"{model} does not speak Hearth; the exact judge can only read the shipped organisms")
    config = CompareConfig((model,), tuple(scaffolds), "auto", seed=seed, max_new_tokens=max_new_tokens)
    groups = [scaffold_jobs(traits, s) for s in scaffolds]
    total = 2 * len(traits.traits) * len(traits.questions) + sum(len(g) for g in groups)
    done = 0

    def tick(n: int) -> None:
        nonlocal done
        done += n
        progress(f"replies of {loaded.identity.name}", 0.5 * done / total)

    runner = Runner(loaded, config, store, 0, tick)
    made = extract_side(
        loaded.identity.name, loaded, traits, config, runner, np.random.default_rng([seed, 1, 0])
    )
    measured = runner.measure(groups)
    progress("the exact judge reads", 0.55)
    single, pooled = _judge(groups, measured)
    readings, doses = [], []
    for trait in traits.traits:
        direction = made.directions[trait.name, "reply_mean"]
        x = np.concatenate(
            [m.pooled["reply_mean"][:, direction.site.layer] @ direction.vector for m in measured]
        )
        readings.append(
            _reading(loaded.identity.name, trait.name, direction.site.layer, x, groups, single, pooled)
        )
    for k, trait in enumerate(traits.traits):
        progress(f"steering {trait.name}", 0.6 + 0.4 * k / len(traits.traits))
        direction = made.directions[trait.name, "reply_mean"]
        norm = float(measured[0].norm[direction.site.layer])
        for coefficient in coefficients:
            doses.append(_dose(loaded, traits, direction, coefficient, norm, max_new_tokens, seed))
    return Truth(tuple(readings), tuple(doses))


def _judge(groups, measured) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The judge's z per reply [reply, trait] and per paraphrase [paraphrase, trait]."""
    from lab.world.judge import judge_texts
    from lab.world.library import library

    single, pooled = [], []
    for jobs, m in zip(groups, measured, strict=True):
        single += [judge_texts(library(), [r.text])[0].mean for r in m.replies]
        for label in sorted({j.paraphrase for j in jobs}):
            texts = [r.text for j, r in zip(jobs, m.replies, strict=True) if j.paraphrase == label]
            pooled.append(judge_texts(library(), texts)[0].mean)
    return np.array(single), np.array(pooled)


def _reading(name, trait, layer, x, groups, single, pooled) -> Reading:
    from lab.world.latent import INDEX

    i = INDEX[trait]
    labels = np.concatenate([[(k, j.paraphrase) for j in jobs] for k, jobs in enumerate(groups)])
    keys = np.unique(labels, axis=0)
    means = np.array([np.nanmean(x[(labels == key).all(axis=1)]) for key in keys])
    return Reading(name, trait, _r2(means, pooled[:, i]), _r2(x, single[:, i]), len(keys), layer)


def _dose(loaded, traits, direction, coefficient: float, norm: float, new: int, seed: int) -> Dose:
    """Replies without scaffold to the test questions, pushed along one direction."""
    from lab.activations import generate
    from lab.prompts.chat import render
    from lab.steering import Add
    from lab.world.judge import judge_texts
    from lab.world.latent import INDEX
    from lab.world.library import library

    jobs = neutral_jobs(traits)
    chats = [render(loaded.tokenizer, [Message("user", j.question.text)]) for j in jobs]
    edits = [Add(direction, coefficient, norm)] if coefficient else []
    acts = generate(
        loaded, chats, max_new_tokens=new, seeds=[seed + k for k in range(len(jobs))], edits=edits
    )
    found, evidence = judge_texts(library(), [r.text for r in acts.replies])
    i = INDEX[direction.trait]
    name = loaded.identity.name
    if not evidence.parsed:  # nothing to read is not a reading of 0
        return Dose(name, direction.trait, coefficient, float("nan"), float("nan"), 0.0, len(jobs))
    return Dose(
        name,
        direction.trait,
        coefficient,
        float(found.mean[i]),
        float(found.sd[i]),
        evidence.coherence,
        len(jobs),
    )
