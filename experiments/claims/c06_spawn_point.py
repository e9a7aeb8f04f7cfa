"""Claim 6: where a scaffold starts a model.

Question. Do an expert-coder prompt and an identity document start the same model in regions that lie further apart
than wordings of one scaffold do, and does the reply stay where it started?

Prediction. Both models: the two landings lie more than three noise floors apart, at the spawn point and over the
reply. Most of the distance is still there in the last third of the reply.

Measure. Distance between the two scaffolds' mean landings over all traits (Euclidean, in L), divided by the noise
floor: the root mean square distance of two wordings of one scaffold, over all scaffolds of the run. Test questions;
interval by resampling questions. Beside it: the distance over the last third of the reply's tokens, as a share of
that over the first third; and after three exchanges of the model's own, as a share of the first turn's (added after
the other distances had been seen).

Null. Wordings of one scaffold lie one noise floor apart by construction; the bar, "radically", is three.

Verdict rule. Per model and place: supported if the interval lies above 3 noise floors, refuted if below. The claim
needs every model and both places; one refuted refutes it.

What would change it. Scaffolds nearer to each other (the claim names two far ones), a model that ignores system
prompts, or traits on which the two do not differ.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lab.claims import Frame, abstain, all_of, names, of, statistic
from lab.pipelines.claim_landings import Landings, land, load_model, scaffolds_of, traits_of, variant
from lab.pipelines.claim_talk import History, talk
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import POSITIONS, Progress
from lab.records import ScaffoldFile
from lab.records.claims import Effect, Observation
from lab.store import Store

TITLE = "A scaffold is a spawn point: a coder prompt and an identity document start a model in radically different regions"
COMBINE = all_of
PLACES = {"reply_mean": "over the reply", "spawn": "at the spawn point"}


@dataclass(frozen=True)
class Config(ClaimConfig):
    """Which two scaffolds, and the distance that counts as radical, in noise floors."""

    pair: tuple[str, str] = ("Coder", "Identity document")
    bar: float = 3.0
    turns: int = 3
    """Exchanges of the model's own before the last turn at which the landings are compared."""


CONFIG = Config(scaffolds=0)
QUICK = Config(scaffolds=6, questions=8, turns=1)


def observe(config: Config, store: Store, progress: Progress) -> list[Observation]:
    """Per model, place, trait and question: the difference of the two landings; and the noise floor of each trait."""
    found: list[Observation] = []
    for k, name in enumerate(config.models):
        part = lambda stage, share, k=k: progress(stage, (k + share) / len(config.models))  # noqa: E731
        files = scaffolds_of(config, config.pair)
        model = load_model(name, config)
        pair = [f for f in files if f.name in config.pair]
        asked = traits_of(model, config).of("select")
        said = talk(model, pair, [[q, q] for q in asked[: config.turns]], config, store, part)
        later, histories = _later(pair, said)
        landed = land(model, [*files, *later], config, store, part, histories=histories)
        found += _differences(landed, config.pair) + _thirds(landed, config.pair)
        found += _turns(landed, config.pair, config.turns)
    return found


def _differences(landed: Landings, pair: Sequence[str]) -> list[Observation]:
    rows = []
    for trait in landed.traits:
        for place in POSITIONS:
            gap = landed.at(pair[0], trait, place) - landed.at(pair[1], trait, place)
            said = [landed.reply(pair[0], q) for q in landed.questions]
            rows += [
                Observation(landed.label, f"{place}, {trait}", q, float(v), note=text)
                for q, v, text in zip(landed.questions, gap, said, strict=True)
            ]
            rows.append(
                Observation(landed.label, f"floor, {place}, {trait}", "all", landed.floor[trait, place])
            )
    return rows


def _later(
    pair: Sequence[ScaffoldFile], said: Mapping[str, History]
) -> tuple[list[ScaffoldFile], dict[str, History]]:
    """The first wordings again, to be asked after 0, 1, … exchanges of the model's own."""
    files, histories = [], {}
    for f in pair:
        for k in range(len(said[f.name]) // 2 + 1):
            name = f"{f.name}, turn {k + 1}"
            files.append(variant(f.paraphrases[0], name, f.paraphrases[0].segments))
            histories[name] = said[f.name][: 2 * k]
    return files, histories


def _turns(landed: Landings, pair: Sequence[str], turns: int) -> list[Observation]:
    """Differences of the two landings at each turn of the conversation."""
    rows = []
    for k in range(1, turns + 2):
        for trait in landed.traits:
            gap = landed.at(f"{pair[0]}, turn {k}", trait) - landed.at(f"{pair[1]}, turn {k}", trait)
            rows += [
                Observation(landed.label, f"turn {k}, {trait}", q, float(v), x=float(k))
                for q, v in zip(landed.questions, gap, strict=True)
            ]
    return rows


def _thirds(landed: Landings, pair: Sequence[str]) -> list[Observation]:
    """Mean projection over the first and last third of each reply, differences of the two scaffolds, raw."""
    rows = []
    for trait in landed.traits:
        for third in (0, 2):
            means = [_third(landed, s, trait, third) for s in pair]
            rows += [
                Observation(landed.label, f"third {third}, {trait}", q, float(a - b), x=float(third))
                for q, a, b in zip(landed.questions, *means, strict=True)
            ]
    return rows


def _third(landed: Landings, scaffold: str, trait: str, third: int) -> list[float]:
    group = 1 + landed.scaffolds.index(scaffold)
    by_question: dict[str, list[float]] = {q: [] for q in landed.questions}
    measured = landed.landed.measured[group]
    for job, reply in zip(landed.landed.groups[group], measured.replies, strict=True):
        tokens = np.array(reply.projections[trait])
        if len(tokens) >= 3:
            by_question[job.question.id].append(float(np.array_split(tokens, 3)[third].mean()))
    return [float(np.mean(v)) if v else float("nan") for v in by_question.values()]


def judge(observed: Sequence[Observation], rng: np.random.Generator, bar: float = Config.bar) -> list[Effect]:
    """The verdict rule."""
    found = []
    for model in names(observed, "models"):
        mine = of(observed, models=model)
        traits = [s.removeprefix("spawn, ") for s in names(mine, "series") if s.startswith("spawn, ")]
        for place, words in PLACES.items():
            floor = np.sqrt(2 * sum(of(mine, series=f"floor, {place}, {t}")[0].value ** 2 for t in traits))
            frame = Frame(
                model,
                f"distance {words}",
                "noise floors",
                "above",
                bar,
                "wordings of one scaffold lie 1 apart",
            )
            if not np.isfinite(floor) or floor == 0:
                found.append(
                    abstain("no noise floor: scaffolds have one wording, or poles do not lie apart", frame)
                )
                continue
            columns = [of(mine, series=f"{place}, {t}") for t in traits]
            found.append(statistic(columns, lambda m, f=floor: np.sqrt((m**2).sum(axis=0)) / f, rng, frame))
        columns = [of(mine, series=f"third {third}, {t}") for third in (0, 2) for t in traits]
        frame = Frame(
            model, "distance in the last third of the reply", "share of the first third's", "above", 0.5,
            "0: nothing of it is left", decides=False,
        )  # fmt: skip
        found.append(statistic(columns, _stays, rng, frame))
        found += _rest(mine, model, traits, rng)
    return found


def _rest(
    mine: Sequence[Observation], model: str, traits: Sequence[str], rng: np.random.Generator
) -> list[Effect]:
    """The distance at the last turn, as a share of that at the first."""
    turns = sorted({int(r.x) for r in mine if r.series.startswith("turn ")})
    if len(turns) < 2:
        return []
    columns = [of(mine, series=f"turn {k}, {t}") for k in (turns[0], turns[-1]) for t in traits]
    frame = Frame(
        model, f"distance at turn {turns[-1]} of a conversation", "share of the first turn's", "above", 0.5,
        "0: nothing of it is left", decides=False,
    )  # fmt: skip
    return [statistic(columns, _stays, rng, frame)]


def _stays(means: np.ndarray) -> np.ndarray:
    """Length of the second half of the columns over that of the first."""
    first, last = np.split(means, 2)
    return np.sqrt((last**2).sum(axis=0) / (first**2).sum(axis=0))
