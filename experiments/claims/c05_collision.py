"""Claim 5: what makes a landing, the card or the collision of card and weights.

Question. Of what a character card does to where a model lands, how much belongs to the card, being the same in two
models, and how much to the collision of this card with these weights?

Prediction. The card's own part is by far the larger: the collision holds less than a tenth. (Seen before this was
written, on all 21 scaffolds: scaffold .89 to .97, scaffold x weights .02 to .04 for hearth-a with hearth-b.)

Measure. Landings L of every card and wording on the test questions, each in its model's own unit. Sums of squares of
the table model x scaffold x wording x question, noise of questions and wordings subtracted (`lab.geometry.shares`),
give the shares of scaffold, weights and scaffold x weights, averaged over traits. Collision = scaffold x weights over
(scaffold + scaffold x weights). Interval: delete-one jackknife over questions, these cards and wordings held fixed.

Null. 0 where every card moves both models alike; one half where landings of the two models are uncorrelated over
cards, so that a card says nothing about where it lands in the other model. The bar is a quarter: there landings
correlate with r = .5, and three quarters of what a card does in one model cannot be told from the other.

Verdict rule. Supported if the interval of the collision lies above .25, refuted if below. Abstains where a model's
poles do not lie apart, or cards do not move landings beyond noise. Beside it: the shares themselves, and the
collision of two seeds of one recipe.

What would change it. Cards of other kinds, models that were trained on different worlds or read no cards (two
untrained networks collide by half or more, for want of anything to share), and traits on which these cards do not
differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lab.claims import Frame, abstain, all_of, by_cluster, effect, names, of
from lab.dosage import jackknife_interval
from lab.geometry.shares import SOURCES, variance_shares
from lab.pipelines.claim_landings import Landings, land, load_model, scaffolds_of
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import Progress
from lab.records.claims import Effect, Observation
from lab.stats import MIN_CLUSTERS
from lab.store import Store

TITLE = "A character card holds no personality; personality is the collision of prompt and weights"
COMBINE = all_of
COMPANIONS = ("second_seed",)
SCAFFOLD, WEIGHTS, CROSSED = (SOURCES.index(s) for s in ("scaffold", "weights", "scaffold x weights"))
BESIDE = {"scaffold": SCAFFOLD, "weights": WEIGHTS, "scaffold x weights": CROSSED}


@dataclass(frozen=True)
class Config(ClaimConfig):
    """How much of what a card does the collision must hold."""

    bar: float = 0.25


CONFIG = Config()
QUICK = Config(scaffolds=6, questions=8, max_new_tokens=16)


def observe(config: Config, store: Store, progress: Progress) -> list[Observation]:
    """L of every model, trait, card, wording and question; and which models make a pair."""
    chosen = [*config.models[:2], *([config.second_seed] if config.second_seed else [])]
    files = scaffolds_of(config)
    found: list[Observation] = []
    labels = []
    for k, name in enumerate(chosen):
        part = lambda stage, share, k=k: progress(stage, (k + share) / len(chosen))  # noqa: E731
        twice = name in chosen[:k]
        landed = land(load_model(name, config), files, config, store, part, f"{name} again" if twice else "")
        labels.append(landed.label)
        found += _rows(landed)
    pairs = zip(("pair", "two seeds"), labels[1:], strict=False)
    return [*(Observation(f"{labels[0]} | {other}", what, "all", 1.0) for what, other in pairs), *found]


def _rows(landed: Landings) -> list[Observation]:
    return [
        Observation(landed.label, f"L, {trait}, {s}, {w}", q, float(landed.L[trait, "reply_mean"][i, w, j]))
        for trait in landed.traits
        for i, s in enumerate(landed.scaffolds)
        for w in range(landed.L[trait, "reply_mean"].shape[1])
        for j, q in enumerate(landed.questions)
    ]


def judge(observed: Sequence[Observation], rng: np.random.Generator, bar: float = Config.bar) -> list[Effect]:
    """The verdict rule."""
    found = []
    for kind in ("pair", "two seeds"):
        for row in of(observed, series=kind):
            frame = Frame(
                row.models, "collision: scaffold x weights over all that cards do", "share", "above", bar,
                "0: cards move both alike; .5: unrelated", decides=kind == "pair",
            )  # fmt: skip
            found += _judged(_tables(observed, row.models), frame)
    return found


def _tables(observed: Sequence[Observation], pair: str) -> dict[str, np.ndarray]:
    """[model, scaffold, wording, question] per trait, with the questions that every model and card has."""
    sides = [of(observed, models=m) for m in pair.split(" | ")]
    grids = [{s: by_cluster(of(side, series=s)) for s in names(side, "series")} for side in sides]
    cells = [tuple(s.split(", ")[1:]) for s in grids[0]]
    found = {}
    for trait in dict.fromkeys(c[0] for c in cells):
        cards = list(dict.fromkeys(c[1] for c in cells if c[0] == trait))
        wordings = min(sum(c[:2] == (trait, card) for c in cells) for card in cards)
        table = np.array(
            [
                [[list(g[f"L, {trait}, {c}, {w}"].values()) for w in range(wordings)] for c in cards]
                for g in grids
            ]
        )
        found[trait] = table[..., ~np.isnan(table).any(axis=(0, 1, 2))]
    return found


def _judged(tables: dict[str, np.ndarray], frame: Frame) -> list[Effect]:
    """The collision, and beside it the shares."""
    usable = {t: v for t, v in tables.items() if v.shape[3] >= MIN_CLUSTERS}
    if not usable:
        why = "no trait whose poles lie apart in both models on 5 questions or more"
        return [abstain(why, frame)]
    cards, questions = (min(v.shape[k] for v in usable.values()) for k in (1, 3))
    if cards < MIN_CLUSTERS:
        return [abstain(f"{cards} scaffolds, and shares need {MIN_CLUSTERS}: add scaffolds", frame)]
    whole = _shares(usable)
    left = np.stack(
        [_shares({t: np.delete(v, q, axis=3) for t, v in usable.items()}) for q in range(questions)]
    )
    moved = left[:, [SCAFFOLD, CROSSED]].sum(axis=1)
    (low,), _ = jackknife_interval(whole[[[SCAFFOLD, CROSSED]]].sum(axis=1), moved[:, None])
    if not low > 0:
        return [abstain("cards do not move landings beyond noise: nothing to share out", frame)]
    found = [_effect(_collision(whole), _collision(left), questions, frame)]
    if frame.decides:
        for name, k in BESIDE.items():
            words = replace(
                frame, what=f"share of {name}", bar=0.25, null="0: nothing but noise", decides=False
            )
            found.append(_effect(whole[k], left[:, k], questions, words))
    return found


def _shares(tables: dict[str, np.ndarray]) -> np.ndarray:
    """Shares in the order of SOURCES, mean over traits."""
    return np.mean([variance_shares(v) for v in tables.values()], axis=0)


def _collision(shares: np.ndarray) -> np.ndarray:
    return shares[..., CROSSED] / (shares[..., SCAFFOLD] + shares[..., CROSSED])


def _effect(whole: float | np.ndarray, left: np.ndarray, questions: int, frame: Frame) -> Effect:
    (low,), (high,) = jackknife_interval(np.atleast_1d(whole), left[:, None])
    return effect(float(whole), float(low), float(high), questions, frame)
