"""Claim 11: whether the way between two scaffolds is a slope or a stair, in a dense model and in its twin of experts.

Question. On the same ways from one scaffold to another, does a mixture of experts move in jumps where its dense twin
(same tokenizer, corpus and active parameters) moves evenly, and is most of what it moves made in the jumps?

Prediction. In states: jumps are there, and larger than in the dense twin, because choosing experts is not continuous.
In words: no difference; every sentence is a jump already, in both. And the gaps make up less than a quarter of the
way: what two experts of eight say differs little beside what attention and the residual stream carry.

Measure. Ladders between neighbouring scaffolds, the same for both twins. In words: sentences and entries replaced one at
a time. In states: the last prompt token led on a straight line from its state under the first scaffold to that under
the second, at two fifths of the depth, in 32 steps. Read after the last block, at the spawn point (Euclidean steps).
(First run, six ladders: led at a fifth of the depth, read at four fifths. Flawed because the last token holds little of
the scaffold there: the ways covered a fifth of the distance between the scaffolds' own states, and no router
switched. Now ways that cover less than half are left out.)
Jumpiness: log of the largest step over the median step, mean over questions; effect: experts − dense, paired over
ladders. Gaps: the part of the way by which steps with a switched router exceed the smooth steps beside them, on a grid
of 256 steps, where a slope has shrunk eightfold and a gap has not. Beside: the same jumpiness for another seed of the
dense model; the share of the largest tenth of the steps; whether steps with a switch are larger; switches per way;
loss of both twins on what the second model said.

Null. 0: the twins step alike. Two dense seeds differ too, which stands beside. The bar of jumpiness is log 1.5, the
largest step half as large again: less would be lost among the median-to-largest ratios of different scaffolds. The
bar of gaps is a quarter: terrain whose ways are three quarters slope is no stair.

Verdict rule. Supported if the interval lies above the bar, refuted if below; the claim needs all three: jumps in
states, jumps in words, and a way that is made of gaps. Without a twin or a router: cannot tell.

What would change it. Experts trained from scratch and not grown out of the dense model, one expert per token, more
and smaller experts, a twin that lost much of what its dense parent knew (see the losses), or another place to read.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from lab.claims import Frame, abstain, all_of, difference, mean_over, of
from lab.pipelines.claim_landings import load_model, scaffolds_of, traits_of
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import Progress
from lab.pipelines.ladders import Ladder, climb, gap_share, jumpiness, largest_share, switch_ratio
from lab.pipelines.ladders import reading_losses as losses_of
from lab.records import Question, Scaffold
from lab.records.claims import Effect, Observation
from lab.store import Store

TITLE = "Dense models are continuous terrain, mixture-of-experts models are plateaus with gaps"
COMBINE = all_of
COMPANIONS = ("second_seed", "experts")
PLACES = ("in words", "in states")
LEAST_REACH = 0.5
"""Of the distance between the scaffolds' own states: a way that covers less is not one between them."""
DENSE, EXPERTS, SEED = "dense", "experts", "another dense seed"


@dataclass(frozen=True)
class Config(ClaimConfig):
    """steps: of the coarse grid in states; jump, gaps: the two bars."""

    steps: int = 32
    jump: float = float(np.log(1.5))
    gaps: float = 0.25


CONFIG = Config(scaffolds=16, questions=2)
QUICK = Config(scaffolds=6, questions=1, max_new_tokens=12, steps=16)


def observe(config: Config, store: Store, progress: Progress) -> list[Observation]:
    """Per twin and ladder: jumpiness, shares, switches and gaps; and the loss on a third model's replies."""
    files = scaffolds_of(config)
    ring = [(a.paraphrases[0], b.paraphrases[-1]) for a, b in pairwise([*files, files[0]])]
    if not config.experts:
        return [
            Observation(
                Path(config.models[0]).name,
                "no twin",
                "all",
                float("nan"),
                note="no mixture-of-experts twin was given",
            )
        ]
    roles = {DENSE: config.models[0], EXPERTS: config.experts}
    roles |= {SEED: config.second_seed} if config.second_seed else {}
    found: list[Observation] = []
    texts: list[list[str]] = []
    for k, (role, name) in enumerate(roles.items()):
        model = load_model(name, config)
        questions = traits_of(model, config).of("test")[: config.questions or None]
        if k == 0:
            texts = _third(config, [one for one, _ in ring], questions, store)
        for i, (one, other) in enumerate(ring):
            progress(f"ways of {model.identity.name}", (k + i / len(ring)) / len(roles))
            ladder = climb(model, one, other, questions, config.steps, store)
            found += _rows(ladder, role, model.identity.name, f"{one.name} to {other.name}")
        loss = losses_of(model, [one for one, _ in ring], questions, texts, store) if texts else []
        found += [
            Observation(model.identity.name, f"loss, {role}", f"{one.name} to {other.name}", float(v))
            for (one, other), v in zip(ring, loss, strict=False)
        ]
    return found


def _third(
    config: Config, scaffolds: Sequence[Scaffold], questions: Sequence[Question], store: Store
) -> list[list[str]]:
    """What the second model says under each scaffold: nobody's own words for the twins to be measured on."""
    from lab.pipelines.replies import Job, Runner

    if len(config.models) < 2:
        return []
    runner = Runner(load_model(config.models[1], config), config, store, 0, lambda _: None)
    groups = [[Job(s.name, 0, q, s.text) for q in questions] for s in scaffolds]
    return [[r.text for r in m.replies] for m in runner.measure(groups)]


def _rows(ladder: Ladder, role: str, label: str, cluster: str) -> list[Observation]:
    found = []
    for place, way in zip(PLACES, (ladder.words, ladder.states), strict=True):
        for row, steps in enumerate(way.steps):
            values = {
                "jumpiness": jumpiness(steps),
                "largest tenth": largest_share(steps),
                "switch ratio": switch_ratio(way, row),
                "switches": float(way.switches[row].sum()) if ladder.routers else np.nan,
            }
            if place == "in states":
                values["gaps"] = gap_share(ladder.fine, row) if ladder.routers else np.nan
                if not ladder.reach[row] >= LEAST_REACH:
                    values = dict.fromkeys(values, np.nan)
                values["reach"] = ladder.reach[row]
            found += [
                Observation(label, f"{what}, {place}, {role}", cluster, float(v))
                for what, v in values.items()
            ]
    return found


# ------------------------------------------------------------------ the rule


def judge(
    observed: Sequence[Observation], rng: np.random.Generator, jump: float = Config.jump,
    gaps: float = Config.gaps,
) -> list[Effect]:  # fmt: skip
    """The verdict rule."""
    label = " | ".join(
        dict.fromkeys(
            r.models for role in (EXPERTS, DENSE) for r in observed if r.series.endswith(f", {role}")
        )
    )
    frame = Frame(label, "", "log ratio", "above", jump, "0: the twins step alike", "ladders")
    deciding = [
        replace(frame, what=f"largest over median step {place}, experts over dense") for place in PLACES
    ]
    stair = Frame(
        label.split(" | ")[0], "the way that is made in gaps", "shares", "above", gaps, "0: no gap", "ladders"
    )
    if lacking := of(observed, series="no twin"):
        alone = lacking[0].models
        return [abstain(lacking[0].note, replace(f, models=alone)) for f in (*deciding, stair)]
    found = [
        _between_twins(observed, f"jumpiness, {place}", rng, f)
        for place, f in zip(PLACES, deciding, strict=True)
    ]
    made = of(observed, series=f"gaps, in states, {EXPERTS}")
    if all(np.isnan(r.value) for r in made):
        found.append(
            abstain("the twin has no router, or the ways do not reach half as far as the scaffolds", stair)
        )
    else:
        found.append(mean_over(made, rng, stair))
    return [*found, *_beside(observed, rng, frame)]


def _between_twins(
    observed: Sequence[Observation], what: str, rng: np.random.Generator, frame: Frame
) -> Effect:
    """Experts − dense, over the ladders that both have."""
    experts, dense = (of(observed, series=f"{what}, {role}") for role in (EXPERTS, DENSE))
    return difference(experts, dense, rng, frame)


def _beside(observed: Sequence[Observation], rng: np.random.Generator, frame: Frame) -> list[Effect]:
    beside, found = replace(frame, decides=False), []
    seed = next((r.models for r in observed if r.series.endswith(f", {SEED}")), "")
    dense = next(r.models for r in observed if r.series.endswith(f", {DENSE}"))
    for place in PLACES:
        rows = {r: of(observed, series=f"jumpiness, {place}, {r}") for r in (DENSE, SEED)}
        words = replace(
            beside, models=f"{seed} | {dense}", what=f"largest over median step {place}, two dense seeds"
        )
        if rows[SEED]:
            found.append(difference(rows[SEED], rows[DENSE], rng, words))
        share = replace(
            beside,
            what=f"largest tenth of the steps {place}, experts − dense",
            unit="shares of the way",
            bar=0.1,
        )
        found.append(_between_twins(observed, f"largest tenth, {place}", rng, share))
        switched = replace(
            beside, models=frame.models.split(" | ")[0], what=f"steps with a switch over steps without, {place}",
            bar=0.0, null="0: as long as those without",
        )  # fmt: skip
        found.append(mean_over(of(observed, series=f"switch ratio, {place}, {EXPERTS}"), rng, switched))
    often = replace(
        beside, models=frame.models.split(" | ")[0], what="router switches on a way in states", unit="switches", bar=1.0,
        null="0: one plateau",
    )  # fmt: skip
    found.append(mean_over(of(observed, series=f"switches, in states, {EXPERTS}"), rng, often))
    for role in (EXPERTS, DENSE):
        if rows := of(observed, series=f"reach, in states, {role}"):
            far = replace(
                beside, models=rows[0].models, what="reach of the ways in states", bar=LEAST_REACH,
                unit="shares of the distance between the scaffolds' own states", null="0: no scaffold there yet",
            )  # fmt: skip
            found.append(mean_over(rows, rng, far))
    loss = replace(
        beside,
        what="loss, experts − dense",
        unit="nats per token",
        side="below",
        bar=0.1,
        null="0: matched in loss",
    )
    return [*found, _between_twins(observed, "loss", rng, loss)]
