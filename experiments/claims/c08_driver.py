"""Claim 8: whether a model steers back when it is pushed off its path.

Question. When a push along a persona direction ends, and when a reply has begun in a voice that is not the
scaffold's, does the model come back to where its scaffold has it?

Prediction. Yes, at once: hardly anything of a push is left at the first free token, and after a foreign first
sentence the rest of the reply is mostly the scaffold's again. It does not make up for the deviation. (Seen before
this was written, `lab steer`: .00 to .10 of a push is left above its layer. Never looked at: foreign beginnings.)

Measure. (a) Without scaffold, replies to test questions are pushed both ways by a quarter of the residual norm for 8
tokens, then let go; share of the difference from unpushed replies that is left at the first free token, read above
the push; mean over traits and ways, interval over questions (half-widths averaged, as if errors went together). The
course over the 24 tokens after is drawn below. (b) Both poles of every trait are voices; each goes on from the first
sentence of its own replies and of the other's; a judge reads only the rest. Return = 1 where the rest is as after its
own beginning, 0 where it is as if the other voice spoke on; mean over both ways and traits, interval by resampling
questions. Beside it, compensation, return less 1: how much further to its own side the rest lies after the other's
beginning than after its own.

Null. (a) 1: a push that stays; (b) 0: the reply goes on as it began. A model that is deaf to its own words returns
too, without sensing anything; it has a compensation of 0.

Verdict rule. Per model: (a) supported if less than half of the push is left, refuted if more; (b) supported if more
than half of the way is returned, refuted if less. The claim needs both in every model; one refuted refutes it.
Compensation (bar .1) stands beside: above it, the model does more than not listen to itself.

What would change it. Longer foreign passages or foreign turns, a push that lasts longer, scaffolds that say less, and
models trained to go on in whatever voice a text has.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lab.claims import Frame, abstain, all_of, effect, names, of, statistic
from lab.dosage import Chosen
from lab.pipelines.bench import SteerConfig, make_bench
from lab.pipelines.claim_landings import load_model, traits_of
from lab.pipelines.claim_returns import Talk, rest
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import DATA, Progress
from lab.pipelines.restraint import letting_go
from lab.prompts.tasks import read_task
from lab.records import TraitSet
from lab.records.claims import Effect, Observation
from lab.store import Store

if TYPE_CHECKING:
    from lab.models import LoadedModel

TITLE = "The model is a driver: it senses slopes and steers back"
COMBINE = all_of
CELLS = ("up after up", "up after down", "down after up", "down after down")
"""Who speaks, after whose beginning: `up` is a trait's positive pole."""


@dataclass(frozen=True)
class Config(ClaimConfig):
    """How hard to push and for how long, and what counts as coming back."""

    dose: float = 0.25
    release: int = 8
    window: int = 24
    reply_tokens: int = 40
    samples: int = 3
    left: float = 0.5
    returned: float = 0.5
    made_up: float = 0.1


CONFIG = Config()
QUICK = Config(
    traits="chat:warmth", release=4, window=8, reply_tokens=14, samples=1, questions=10, max_new_tokens=14
)


def observe(config: Config, store: Store, progress: Progress) -> list[Observation]:
    """Per model the course of every push, and the judge's reading of every voice after every beginning."""
    found: list[Observation] = []
    for k, name in enumerate(config.models):
        progress(f"pushing and letting go, {name}", k / len(config.models))
        model = load_model(name, config)
        traits = traits_of(model, config)
        found += _released(config, name, model, traits, store)
        progress(f"foreign beginnings, {name}", (k + 0.6) / len(config.models))
        talk = Talk(model, traits, config, store, config.samples)
        reader = talk.reader()
        for trait in traits.traits:
            voices = {"up": trait.positive, "down": trait.negative}
            begun = talk.begun(voices)
            for cell in CELLS:
                speaker, beginner = cell.split(" after ")
                found += rest(
                    talk, voices[speaker], begun[beginner], reader, trait.name, f"{cell}, {trait.name}"
                )
    return found


def _released(
    config: Config, name: str, model: "LoadedModel", traits: TraitSet, store: Store
) -> list[Observation]:
    """Share of a push that is left, token by token from its last one on, with intervals over questions."""
    steer = SteerConfig(
        name, config.traits, (config.dose,), ("reply_mean",), release=config.release, window=config.window,
        dtype=config.dtype, seed=config.seed, max_new_tokens=config.reply_tokens,
    )  # fmt: skip
    task = read_task(DATA / "tasks" / ("hearth.json" if traits.name == "hearth" else "chat.json"))
    bench = make_bench(steer, model, traits, task, store, lambda _: None)
    chosen = Chosen(-config.dose, config.dose, float("nan"), True)
    questions = len(traits.of("test"))
    rows = []
    for trait in traits.traits:
        course, _ = letting_go(bench, trait.name, bench.push(trait.name, "reply_mean"), chosen)
        rows += [
            Observation(
                model.identity.name, f"push {'up' if r.coefficient > 0 else 'down'}, {trait.name}", "all", r.difference,
                float(r.token - config.release), r.low, r.high, n=questions,
            )
            for r in course
            if r.token >= config.release - 1
        ]  # fmt: skip
    return rows


def judge(
    observed: Sequence[Observation], rng: np.random.Generator, settings: Config = CONFIG
) -> list[Effect]:
    """The verdict rule."""
    found = []
    for model in names(observed, "models"):
        mine = of(observed, models=model)
        frame = Frame(
            model,
            "left of a push at the first free token",
            "share",
            "below",
            settings.left,
            "1: the push stays",
        )
        found.append(_left([r for r in mine if r.series.startswith("push ") and r.x == 0], frame))
        found += _returns(mine, model, settings, rng)
    return found


def _left(rows: Sequence[Observation], frame: Frame) -> Effect:
    """Mean over traits and ways with the mean of their half-widths."""
    if not rows or any(np.isnan(r.low) for r in rows):
        return abstain("too few questions, or replies that ended before the push", frame)
    value, low, high = (float(np.mean([getattr(r, k) for r in rows])) for k in ("value", "low", "high"))
    return effect(value, low, high, min(r.n for r in rows), frame)


def _returns(
    mine: Sequence[Observation], model: str, settings: Config, rng: np.random.Generator
) -> list[Effect]:
    """Return and compensation, over the traits whose voices differ in what they say."""
    back = Frame(
        model,
        "way back after a foreign beginning",
        "share",
        "above",
        settings.returned,
        "0: goes on as it began",
    )
    extra = Frame(
        model, "further to its own side after a foreign beginning than after its own", "share of the way", "above",
        settings.made_up, "0: deaf to its own words", decides=False,
    )  # fmt: skip
    traits = [s.split(", ")[1] for s in names(mine, "series") if s.startswith(f"{CELLS[0]}, ")]
    columns = {t: [of(mine, series=f"{c}, {t}") for c in CELLS] for t in traits}
    apart = Frame(model, "voices apart", "", "above", 0.0, "")
    kept = [
        c for c in columns.values() if statistic(c, lambda m: m[0] - m[3], rng, apart).verdict == "supported"
    ]
    if not kept:
        why = "the poles' prompts do not change what is said"
        return [abstain(why, back), abstain(why, extra)]
    flat = [rows for c in kept for rows in c]
    return [statistic(flat, _back, rng, back), statistic(flat, _further, rng, extra)]


def _back(means: np.ndarray) -> np.ndarray:
    """Return, mean over traits; four rows each, in the order of CELLS."""
    up, foreign_up, foreign_down, down = means.reshape(-1, 4, means.shape[1]).transpose(1, 0, 2)
    return (((foreign_up - down) + (up - foreign_down)) / (2 * (up - down))).mean(axis=0)


def _further(means: np.ndarray) -> np.ndarray:
    """Compensation, mean over traits."""
    up, foreign_up, foreign_down, down = means.reshape(-1, 4, means.shape[1]).transpose(1, 0, 2)
    return (((foreign_up - up) + (down - foreign_down)) / (2 * (up - down))).mean(axis=0)
