"""Claim 1: whether the places of concepts in two models line up.

Question. Do concept words sit at other places in two models than in two seeds of one, and is there no map that brings
the places of one model onto those of the other?

Prediction. A held-out map puts between a quarter and a half of the concepts that could line up where the other model
has them, so the maps do line up; two seeds line up better. (Seen before this was written, `lab atlas` of hearth-a
with hearth-b and with hearth-a2: own place among the five nearest .48 and .65, chance .13; things and roles fared
worst.)

Measure. 160 words of Hearth (or 130 of ordinary English) in 16 frames; layers chosen and maps fitted on eight, all
else read in the other eight. A concept lines up when its own place is among the five nearest, within its category, of
where a ridge map fitted on other concepts puts it; mean over both ways. Share = (lined up - chance) / (ceiling -
chance): chance from random pairings fitted again, ceiling from each target predicted from itself across frames.
Interval: resampling concepts. Beside it, over their own ceilings: RSA on crossnobis distances, debiased CKA, mutual
10 nearest, each within categories; and the share of every category. (First written without the untrained control:
flawed, because two tiny random checkpoints then lined up by .66, through nothing but the letters that their tokens
share.)

Null. 0: random pairings within categories; and the share of the two models' untrained twins, which share words and
tokens and nothing learned. The measure of "other places" is two seeds of one recipe.

Verdict rule. "Never line up" is supported if the share beyond that of the untrained twins lies below .10, fewer than
one in ten of the concepts that could, and refuted if it lies above. "Sit in different places" is supported if two
seeds' share exceeds the pair's by more than .10 of those concepts, refuted if by less. The claim needs both; one
refuted refutes it. Without a second seed the second abstains.

What would change it. Words from one narrow category, models of different languages, contexts that fix the meaning
less. Two seeds also share their tokenizer, so a part of "different places" may be the tokenizer's.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lab.claims import Frame, abstain, all_of, names, of, reported, statistic
from lab.geometry.cka import CKA
from lab.geometry.rsa import RSA
from lab.pipelines.atlas import AtlasConfig, atlas
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import Progress
from lab.pipelines.untrained_atlas import untrained_atlas
from lab.records.atlas import NEAR, AtlasBook, AtlasMap, Stage
from lab.records.claims import Effect, Observation
from lab.store import Store

TITLE = "Concepts such as joy, love or intimacy sit in different places in two models, and the two maps never line up"
COMBINE = all_of
COMPANIONS = ("second_seed",)
STAGE: Stage = "chosen layers"
SCOPE = "within category"
LINED = "concepts that line up, of those that could"
PAIR, SEEDS, TWINS = "pair", "two seeds", "untrained twins"


@dataclass(frozen=True)
class Config(ClaimConfig):
    """How hard to look, and what counts as never, and as different."""

    concepts: str = "auto"
    permutations: int = 99
    pairings: int = 39
    untrained: int = 2
    """Pairs of untrained twins."""
    never: float = 0.1
    different: float = 0.1


CONFIG = Config()
QUICK = Config(permutations=19, pairings=9, untrained=1)


def observe(config: Config, store: Store, progress: Progress) -> list[Observation]:
    """Per concept whether it lines up, chance and ceiling; and the pair's similarities over their ceilings."""
    one, two = config.models[:2]
    steps = 1 + bool(config.second_seed) + config.untrained
    done = 0

    def part(stage: str, share: float) -> None:
        progress(stage, (done + share) / steps)

    inner = AtlasConfig(
        (one, two), config.concepts, config.dtype, config.seed, config.permutations, config.pairings
    )
    book = atlas(inner, store, part)
    found = [*_lined(book, PAIR), *_similar(book)]
    if config.second_seed:
        done += 1
        found += _lined(atlas(replace(inner, models=(one, config.second_seed)), store, part), SEEDS)
    for twin in range(config.untrained):
        done += 1
        found += _lined(untrained_atlas(inner, twin, store, part), TWINS)
    return found


def _lined(book: AtlasBook, what: str) -> list[Observation]:
    label = " | ".join(book.labels)
    if STAGE not in book.stages:
        return []
    maps = [m for m in book.maps if _here(m)]
    chance = float(np.mean([m.near_null for m in maps]))
    rows = [Observation(label, f"chance, {what}", "all", chance)]
    for concept, both in book.scores_at(STAGE, SCOPE).items():
        kind = both[0].category
        note = f"{kind}; rank " + ", ".join(f"{s.rank:g} ({s.source} to {s.target})" for s in both)
        lined, best = (np.mean([r <= NEAR for r in ranks]) for ranks in _ranks(both))
        rows.append(Observation(label, f"lined up, {what}, {kind}", concept, float(lined), note=note))
        rows.append(Observation(label, f"ceiling, {what}, {kind}", concept, float(best)))
    return rows


def _ranks(both: Sequence) -> tuple[list[float], list[float]]:
    return [s.rank for s in both], [s.ceiling_rank for s in both]


def _here(m: AtlasMap) -> bool:
    return (m.stage, m.scope) == (STAGE, SCOPE)


def _similar(book: AtlasBook) -> list[Observation]:
    """Similarities within categories over their ceilings; the first row of a measure is with all dimensions."""
    rows: dict[str, Observation] = {}
    for s in book.similarities:
        f = s.found
        if (s.stage, s.scope) != (STAGE, SCOPE) or f.measure in rows or not f.ceiling > 0:
            continue
        values = [v / f.ceiling for v in (f.value, f.low, f.high, f.null_high)]
        rows[f.measure] = Observation(
            f"{f.model_a} | {f.model_b}", f"similar, {f.measure}", "all", values[0], float("nan"), *values[1:],
            n=f.questions, note=f.why or f"p {f.p:.3f} against relabelings",
        )  # fmt: skip
    wanted = (CKA.name, RSA.name, *(m for m in rows if "10" in m))
    return [row for name, row in rows.items() if name in wanted]


def judge(
    observed: Sequence[Observation], rng: np.random.Generator, never: float = Config.never,
    different: float = Config.different,
) -> list[Effect]:  # fmt: skip
    """The verdict rule."""
    label = next((r.models for r in observed if r.series == f"chance, {PAIR}"), "")
    beyond = Frame(
        label, "concepts that line up, of those that could, less untrained twins'", "share", "below", never,
        "0: as untrained twins", "concepts",
    )  # fmt: skip
    apart = Frame(
        label, "line up between two seeds and not between the models", "share", "above", different,
        "0: as alike as two seeds", "concepts",
    )  # fmt: skip
    if not label:
        why = "no layer of either model tells the concepts of a category apart"
        return [abstain(why, beyond), abstain(why, apart)]
    found = [
        _less(observed, PAIR, TWINS, rng, beyond, "untrained twins line nothing up, nor could they"),
        _less(observed, SEEDS, PAIR, rng, apart, "no second seed of the first model to hold it against"),
    ]
    for what in (PAIR, SEEDS, TWINS):
        lined, best, chance = _columns(observed, what)
        who = lined[0].models if lined else label
        frame = Frame(who, LINED, "share", "below", never, "0: random pairings", "concepts", decides=False)
        if lined:
            found.append(statistic([lined, best], lambda m, c=chance: _share(m, c), rng, frame))
    return [*found, *_beside(observed, label, rng)]


def _less(
    observed: Sequence[Observation], more: str, less: str, rng: np.random.Generator, frame: Frame, why: str
) -> Effect:
    """Share of one pair of models less that of another."""
    (a, a_best, a_chance), (b, b_best, b_chance) = (_columns(observed, what) for what in (more, less))
    if not a or not b:
        return abstain(why, frame)
    return statistic(
        [a, a_best, b, b_best], lambda m: _share(m[:2], a_chance) - _share(m[2:], b_chance), rng, frame
    )


def _columns(
    observed: Sequence[Observation], what: str, kind: str = ""
) -> tuple[list[Observation], list[Observation], float]:
    """Lined up and ceiling per concept, and chance."""
    lined, best = (
        [r for r in observed if r.series.startswith(f"{name}, {what}, {kind}")]
        for name in ("lined up", "ceiling")
    )
    return lined, best, float(np.mean([r.value for r in of(observed, series=f"chance, {what}")] or [np.nan]))


def _share(means: np.ndarray, chance: float) -> np.ndarray:
    """Of lined up and ceiling; NaN where the ceiling is no better than chance."""
    room = means[1] - chance
    return (means[0] - chance) / np.where(room > 0, room, np.nan)


def _beside(observed: Sequence[Observation], label: str, rng: np.random.Generator) -> list[Effect]:
    found = []
    for row in (r for r in observed if r.series.startswith("similar, ")):
        name = row.series.removeprefix("similar, ")
        frame = Frame(
            f"{label}, {name}", "agreement within categories", "share of its ceiling", "below", 0.5, "relabelings",
            "frames", decides=False,
        )  # fmt: skip
        found.append(reported(row, frame))
    for kind in dict.fromkeys(
        s.split(", ")[2] for s in names(observed, "series") if s.startswith("lined up, pair")
    ):
        lined, best, chance = _columns(observed, PAIR, kind)
        frame = Frame(
            f"{label}, {kind}", LINED, "share", "below", 0.1, "0: random pairings", "concepts", decides=False,
        )  # fmt: skip
        found.append(statistic([lined, best], lambda m, c=chance: _share(m, c), rng, frame))
    return found
