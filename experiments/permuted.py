"""Does the pipeline find a direction where the labels say nothing? 200 extractions with permuted poles.

Question. `lab extract` calls a trait found by its sign-flip p on *test*, after an estimator, a pooling and a
layer were chosen among 16 recipes and all layers on *select*. Does that choice make it find what is not there?

What is done. The replies of one organism at both poles of its traits are read once (from the cache of
`lab extract`, or generated into it). Then, 200 times, the poles are swapped in a random part of the questions of
every split, and the rest is the code that `lab extract` runs: four estimators at four poolings on *extract*, layer
and recipe on *select*, p on *test*. The traits take turns. What one prompt or question does to the states stays
as it is, only what the label says about it is gone.

Prediction. The share of permuted extractions with p < .05 is .05: the test questions had no part in any choice,
and flipping their labels is the very thing that p is about.

Verdict rule. Supported when the number of significant ones lies within the central 95 % of a binomial with
n = draws and share .05 (for 200: 4 to 16), refuted otherwise. Beside it, without a verdict: the share that the
command line would call found (p < .05 and AUROC above .5, so about half as many), the same for each trait, how
often another recipe than the plain one was selected, and the extraction with the labels as they are.

Run: python experiments/permuted.py [--model hearth-a] [--draws 200] [--json]     (about five minutes)
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from lab.cards import DEFAULT
from lab.dosage import binomial_interval
from lab.pipelines.compare import CompareConfig, resolve_model, resolve_trait_set
from lab.pipelines.extract import contrasts_of, read_recipes
from lab.pipelines.poles import Poles, Told, poles_of
from lab.pipelines.replies import Job, Runner
from lab.records.cards import TraitCard
from lab.store import Store

LEVEL = 0.05


@dataclass(frozen=True)
class Config:
    """What to run."""

    model: str = "hearth-a"
    trait_set: str = "auto"
    draws: int = 200
    seed: int = 0
    runs: Path = Path("runs")


def permuted(poles: Poles, rng: np.random.Generator) -> Poles:
    """The same replies with the poles of each question swapped or not, by a fair coin."""
    questions = dict.fromkeys(j.question.id for j in poles.jobs)
    swapped = {q for q, heads in zip(questions, rng.random(len(questions)) < 0.5, strict=True) if heads}
    other = {"positive": "negative", "negative": "positive"}

    def turned(job: Job) -> Job:
        return replace(job, condition=other[job.condition]) if job.question.id in swapped else job

    return replace(poles, jobs=tuple(turned(j) for j in poles.jobs))


def selected(poles: Poles, rng: np.random.Generator, model: str, trait: str) -> TraitCard:
    """The card of the recipe that an extraction from these poles would report."""
    cards, _ = read_recipes({"instruction": contrasts_of(poles)}, rng, model=model, trait=trait)
    return next(c for c in cards if c.selected)


def states(config: Config) -> tuple[str, Told]:
    """The model's name and its replies at both poles, as `lab extract` keeps them."""
    from lab.models import load

    loaded = load(resolve_model(config.model))
    traits = resolve_trait_set(config.trait_set, [loaded])
    base = CompareConfig((config.model,), (), config.trait_set)
    return loaded.identity.name, poles_of(traits, Runner(loaded, base, Store(config.runs), 0, lambda _: None))


def main(config: Config) -> dict[str, Any]:
    """Run all draws; the document that `--json` prints."""
    model, told = states(config)
    traits, cards = list(told), []
    honest = [selected(told[t], np.random.default_rng([config.seed, 5]), model, t) for t in traits]
    for k, trait in enumerate(traits):
        mine = range(k, config.draws, len(traits))
        for draw in mine:
            rng = np.random.default_rng([config.seed, 12, draw])
            cards.append(selected(permuted(told[trait], rng), rng, model, trait))
            print(f"{len(cards)}/{config.draws} {trait}", end="\r", file=sys.stderr)
    return report(config, cards, honest)


def report(config: Config, cards: Sequence[TraitCard], honest: Sequence[TraitCard]) -> dict[str, Any]:
    """Shares with their binomial intervals, and the verdict."""
    low, high = (int(x) for x in stats.binom.interval(0.95, len(cards), LEVEL))
    hits = sum(c.p < LEVEL for c in cards)
    return {
        "draws": len(cards),
        "significant": _share(cards, lambda c: c.p < LEVEL),
        "called_found": _share(cards, lambda c: c.p < LEVEL and c.auroc > 0.5),
        "abstained": sum(c.p != c.p for c in cards),
        "expected": [low, high],
        "supported": low <= hits <= high,
        "by_trait": {
            t: _share([c for c in cards if c.trait == t], lambda c: c.p < LEVEL)
            for t in dict.fromkeys(c.trait for c in cards)
        },
        "not_the_plain_recipe": _share(cards, lambda c: (c.estimator, c.position) != DEFAULT),
        "median_auroc": float(np.median([c.auroc for c in cards])),
        "unpermuted": [
            {
                "trait": c.trait, "estimator": c.estimator, "pooling": c.position, "layer": c.layer,
                "auroc": c.auroc, "p": c.p,
            }
            for c in honest
        ],
        "config": {**asdict(config), "runs": str(config.runs)},
    }  # fmt: skip


def _share(cards: Sequence[TraitCard], hit: Any) -> dict[str, float]:
    count = sum(bool(hit(c)) for c in cards)
    low, high = binomial_interval(count, len(cards))
    return {"count": count, "n": len(cards), "share": count / max(1, len(cards)), "low": low, "high": high}


def _say(found: dict[str, Any]) -> None:
    def words(s: dict[str, float]) -> str:
        return f"{s['count']:.0f} of {s['n']:.0f}, {s['share']:.1%} [{s['low']:.1%}, {s['high']:.1%}]"

    print(f"significant at 5 %: {words(found['significant'])}; {found['abstained']} abstained")
    low, high = found["expected"]
    print(f"expected {low} to {high}: {'supported' if found['supported'] else 'refuted'}")
    print(f"called found by lab extract: {words(found['called_found'])}")
    print(f"another recipe than the plain one selected: {words(found['not_the_plain_recipe'])}")
    for trait, share in found["by_trait"].items():
        print(f"  {trait}: {words(share)}")
    for c in found["unpermuted"]:
        recipe = f"{c['estimator']}, {c['pooling']}, layer {c['layer']}"
        print(f"labels as they are, {c['trait']}: {recipe}: AUROC {c['auroc']:.3f}, p {c['p']:.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--model", default=Config.model)
    parser.add_argument("--draws", type=int, default=Config.draws)
    parser.add_argument("--seed", type=int, default=Config.seed)
    parser.add_argument("--runs", type=Path, default=Config.runs)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    asked = parser.parse_args()
    document = main(Config(asked.model, draws=asked.draws, seed=asked.seed, runs=asked.runs))
    if asked.json:
        print(json.dumps(document, indent=1))
    else:
        _say(document)
