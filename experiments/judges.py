"""Does a judge that asks nothing order replies as the exact judge does?

Question. The contrast judge scores a reply by how much likelier the model itself finds it under a trait's
positive prompts than under its negative ones, in nats per token (`lab.judging.likelihood_ratio`). It needs
no API, no rubric and no instruction following. On Hearth the exact judge computes what a reply says of
each trait. Do the two order the replies of an organism alike, and can nats be put into prior sd? Besides:
does strangeness (nats per token under the likeliest prompt) tell scrambled replies from replies in character?

Design. Replies of each organism, not steered, to test questions under every paraphrase of the shipped
scaffolds, and to select questions under the first paraphrase of each. Spearman correlation of both
judges per trait: over paraphrases (exact: one posterior of all replies of a paraphrase; contrast: their
mean) and over single replies. Intervals: 95 % cluster bootstrap over scaffolds. Null: whole scaffolds
permuted, 97.5 % point of |rho|. Beside it the largest |rho| with another mission trait's exact reading: above
the own one it would say that the judge reads something else. Calibration: a line fitted on the replies to
select questions, its mean absolute error on the replies to test questions, against always saying the
select median; the difference has an interval over scaffolds. Scrambled: the words of test replies in random
order; the limit is the ordinary point of 80 replies without scaffold.

Prediction (written before the first run). (1) Over paraphrases rho >= .8 for assistant, warmth and intimacy
in both organisms. (2) Over single replies rho >= .5. (3) The line's error is below the median's. (4) At
least 90 % of scrambled replies are above the limit and at least 90 % of replies in character below.

Verdict rule. (1), (2), (4) per trait and organism: supported by the point value, refuted otherwise, the
interval beside it. (3) supported when the whole interval of the difference is below 0, refuted when it is
above, else not told apart.

Run: nice python experiments/judges.py [model ...]      (about ten minutes a model on one core; it resumes)
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lab.judging.judges import Item, Score, Scores
from lab.judging.likelihood_ratio import as_scores, contrast, ordinary_limit, strangeness
from lab.judging.trust import LinearMap, agreement, spearman
from lab.models import load
from lab.pipelines.compare import (
    CompareConfig,
    Job,
    Runner,
    resolve_model,
    resolve_trait_set,
    shipped_scaffolds,
)
from lab.pipelines.judge_answers import kept_likelihoods, kept_readings
from lab.pipelines.judging import ordinary_replies
from lab.records import Split, TraitSet
from lab.stats import cluster_weights, interval
from lab.store import Store
from lab.world.exact import pooled, scores_of


@dataclass(frozen=True)
class Config:
    """What to run."""

    models: tuple[str, ...] = ("hearth-a", "hearth-b")
    test: int = 6
    """Test questions per paraphrase."""
    select: int = 5
    """Select questions per scaffold."""
    scrambled: int = 60
    max_new_tokens: int = 70
    draws: int = 2000
    seed: int = 0
    runs: Path = Path("runs")


@dataclass(frozen=True)
class Sample:
    """Replies with what they were made under, arrays [item]; `paraphrase` is unique over scaffolds."""

    items: list[Item]
    scaffold: np.ndarray
    paraphrase: np.ndarray


def sample(traits: TraitSet, split: Split, config: Config, runner: Runner) -> Sample:
    """Replies to the first questions of a split under every paraphrase (test) or the first (select)."""
    questions = traits.of(split)[: config.test if split == "test" else config.select]
    groups, names, labels = [], [], []
    for scaffold in (s for s in shipped_scaffolds() if s.paraphrases[0].segments):
        for k, paraphrase in enumerate(scaffold.paraphrases[: None if split == "test" else 1]):
            groups.append([Job(scaffold.name, k, q, paraphrase.text) for q in questions])
            names += [scaffold.name] * len(questions)
            labels += [f"{scaffold.name} {k}"] * len(questions)
    replies = [r.text for m in runner.measure(groups) for r in m.replies]
    jobs = [job for group in groups for job in group]
    items = [Item(j.question.text, text, "") for j, text in zip(jobs, replies, strict=True)]
    return Sample(items, np.array(names), np.array(labels))


def by_paraphrase(part: Sample, values: np.ndarray) -> np.ndarray:
    """Mean per paraphrase, NaN left out, in order of first appearance."""
    return np.array([np.nanmean(values[part.paraphrase == p]) for p in dict.fromkeys(part.paraphrase)])


def null_high(x: np.ndarray, y: np.ndarray, scaffold: np.ndarray, rng: np.random.Generator) -> float:
    """97.5 % point of |Spearman| with whole scaffolds (equally many paraphrases each) permuted."""
    blocks = y.reshape(len(np.unique(scaffold)), -1)
    drawn = [
        spearman(x, blocks[rng.permutation(len(blocks))].ravel(), np.ones((1, len(x))))[0]
        for _ in range(1000)
    ]
    return float(np.quantile(np.abs(drawn), 0.975))


def calibration(
    x: Scores, y: Scores, fit_x: Scores, fit_y: Scores, scaffold: np.ndarray, config: Config
) -> dict[str, float]:
    """Errors on test replies of a line and of the median, both from select replies, with the difference."""
    known = ~np.isnan(fit_x.values) & ~np.isnan(fit_y.values)
    line = LinearMap.fit(fit_x.values[known], fit_y.values[known])
    both = ~np.isnan(x.values) & ~np.isnan(y.values)
    error = np.abs(line(x.values[both]) - y.values[both])
    null = np.abs(np.median(fit_y.values[known]) - y.values[both])
    weights = cluster_weights([scaffold[both]], config.draws, np.random.default_rng(config.seed))
    low, high = interval(weights @ (error - null) / weights.sum(axis=1), len(np.unique(scaffold)))
    return {
        "slope": line.slope, "error": error.mean(), "null_error": null.mean(), "diff_low": float(low),
        "diff_high": float(high),
    }  # fmt: skip


def judge(name: str, config: Config) -> tuple[pd.DataFrame, dict[str, float]]:
    """One row per trait, and the shares above the limit of strangeness."""
    store, model = Store(config.runs), load(resolve_model(name))
    traits = resolve_trait_set("auto", [model])
    settings = CompareConfig((name,), (), seed=config.seed, max_new_tokens=config.max_new_tokens)
    runner = Runner(model, settings, store, 0, lambda _: None)
    test, select = (sample(traits, s, config, runner) for s in ("test", "select"))
    read = [kept_readings(part.items, store, lambda _: None) for part in (test, select)]
    labels, together = pooled([i.answer for i in test.items], test.paraphrase.tolist())
    scaffold = np.array([test.scaffold[test.paraphrase == p][0] for p in labels])
    rng, rows = np.random.default_rng(config.seed), []
    done = 0

    def tick(n: int) -> None:
        nonlocal done
        done += n
        print(f"{name}: {done} replies weighed", end="\r", file=sys.stderr)

    for trait in traits.traits:
        likely = [kept_likelihoods(model, trait, part.items, store, tick) for part in (test, select)]
        mine, fit_mine = (as_scores("contrast", "nats per token", contrast(found)) for found in likely)
        exact, fit_exact = (scores_of(found, trait.name) for found in read)
        means = Scores(
            "contrast", "nats per token", tuple(Score(v) for v in by_paraphrase(test, mine.values))
        )
        posterior = scores_of(together, trait.name)
        over = agreement(posterior, means, scaffold, rng, config.draws)
        single = agreement(exact, mine, test.scaffold, rng, config.draws)
        ones = np.ones((1, len(labels)))
        rows.append(
            {
                "trait": trait.name, "rho": over.spearman, "low": over.spearman_low,
                "high": over.spearman_high,
                "null": null_high(means.values, posterior.values, scaffold, rng), "n": over.n,
                "other": max(abs(float(spearman(means.values, together.of(t.name), ones)[0]))
                             for t in traits.traits if t.name != trait.name),
                "rho_reply": single.spearman, "low_reply": single.spearman_low,
                "high_reply": single.spearman_high, "n_reply": single.n,
                **calibration(mine, exact, fit_mine, fit_exact, test.scaffold, config),
            }
        )  # fmt: skip
        if trait is traits.traits[0]:
            strange = _strange(model, traits, likely[0], test, config, runner, store)
    return pd.DataFrame(rows), strange


def _strange(model, traits, likely, test: Sample, config: Config, runner, store) -> dict[str, float]:
    """Shares above the ordinary limit: of replies in character, and of the same with their words shuffled."""
    trait, rng = traits.traits[0], np.random.default_rng(config.seed)
    known = kept_likelihoods(model, trait, ordinary_replies(traits, runner), store, lambda _: None)
    limit = ordinary_limit(strangeness(known))
    picked = rng.choice(len(test.items), config.scrambled, replace=False)
    shuffled = [
        Item(test.items[i].question, " ".join(rng.permutation(test.items[i].answer.split())), "")
        for i in picked.tolist()
    ]
    noise = strangeness(kept_likelihoods(model, trait, shuffled, store, lambda _: None))
    plain = strangeness(likely)
    return {
        "limit": limit, "in_character": float((plain > limit).mean()), "n_in_character": len(plain),
        "scrambled": float((noise > limit).mean()), "n_scrambled": len(noise),
        "median_in_character": float(np.nanmedian(plain)), "median_scrambled": float(np.nanmedian(noise)),
    }  # fmt: skip


def main(config: Config) -> None:
    """Print one table per organism and the verdicts."""
    say = lambda holds: "supported" if holds else "refuted"  # noqa: E731
    for name in config.models:
        table, strange = judge(name, config)
        print(f"\n{name}\n{table.round(3).to_string(index=False)}")
        print({k: round(v, 3) for k, v in strange.items()})
        for row in table.to_dict("records"):
            told = row["diff_high"] < 0 or row["diff_low"] > 0
            third = say(row["diff_high"] < 0) if told else "not told apart"
            print(
                f"{name} {row['trait']}: (1) {say(row['rho'] >= 0.8)}, (2) {say(row['rho_reply'] >= 0.5)}, "
                f"(3) {third}"
            )
        print(
            f"{name}: (4) {say(strange['scrambled'] >= 0.9 and strange['in_character'] <= 0.1)} "
            f"({strange['scrambled']:.0%} of scrambled, {strange['in_character']:.0%} in character above)"
        )


if __name__ == "__main__":
    main(Config(models=tuple(sys.argv[1:]) or Config.models))
