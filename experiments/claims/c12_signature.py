"""Claim 12: whether the terrain of a student tells which of two teachers it learned from.

Question. One student architecture, trained on the replies of a dense teacher or on those of a mixture of experts: do
scaffolds lie in the student as they lie in its own teacher, rather than as in the other?

Prediction. Hardly: what the two teachers say is nearly the same (they stem from one source), so students inherit
less than a tenth of what sets the two teachers' geometries apart.

Measure. Both teachers reply to the same scaffolds (two wordings) and questions (extract, select); students begin as the
base model and learn the teacher's probabilities of every token of its replies (another tokenizer: the tokens), in the same
number of steps; two students per teacher, each with other replies in another order. Nearness: debiased CKA of the
spawn states over scaffolds, a test question at a time, mean over layers at equal relative depth. Signature: nearness to the
own teacher minus nearness to the other, mean of both teachers' students, so that a teacher whom every student resembles
cancels; in units of what separates the teachers (1 − their nearness). 1: the student lies as its teacher does; 0: no
trace. Interval by resampling test questions. Beside: how much nearer students of one teacher are to each other
than to the other's, across seeds; the difference of the two seeds' signatures; the signature over questions, a scaffold at
a time; how much of the way from the base's loss to the teacher's the students went on held-out questions, and how
much of their teacher's use of the scaffold (loss under another scaffold minus loss under its own) they have.

Null. 0: no trace. The bar is a tenth of what separates the teachers; two seeds stand for what training by itself
does, and each has to pass.

Verdict rule. Per seed: supported if the interval lies above .1, refuted if below; the claim needs both seeds. Where a
student went less than half of the way to its teacher's loss, or has less than a quarter of its use of the scaffold, it
did not learn what is measured: cannot tell. (A first try of 40 and 120 steps, of which losses alone were looked at: two
thirds of the way, and no use of the scaffold. The condition on use was added then, before any geometry of
trained students was seen.)

What would change it. Teachers of different worlds, whose replies differ; training a hundred times as long, until students
read scaffolds; a beginning that reads them already (but another seed of the recipe reads a teacher's replies .01 nats
worse than the teacher does: too little to see whether it learned).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from lab.claims import Frame, abstain, all_of, difference, mean_over, names, of, ratio, reported
from lab.pipelines.claim_landings import load_model, scaffolds_of, traits_of
from lab.pipelines.claims import ClaimConfig
from lab.pipelines.compare import Progress, resolve_model
from lab.pipelines.distil import (
    Said,
    Training,
    beginning,
    losses,
    nearness,
    same_tokens,
    spawn_states,
    student,
    taught,
)
from lab.records.claims import Effect, Observation
from lab.store import Store

if TYPE_CHECKING:
    from lab.models import LoadedModel

TITLE = "What a model was distilled from leaves its signature in the terrain"
COMBINE = all_of
COMPANIONS = ("experts", "base")
WAY, USE = "way from the base's loss to its own", "use of the scaffold"


@dataclass(frozen=True)
class Config(ClaimConfig):
    """students: per teacher; bar: of the signature; learned, used: least shares of the teacher's loss and use."""

    students: int = 2
    steps: int = 80
    rows: int = 16
    learning_rate: float = 5e-4
    wordings: int = 2
    held_out: int = 3
    """Test questions whose replies are read for the losses."""
    bar: float = 0.1
    learned: float = 0.5
    used: float = 0.25


CONFIG = Config(scaffolds=12, max_new_tokens=32)
QUICK = Config(scaffolds=6, questions=5, max_new_tokens=8, wordings=1, held_out=1, steps=4, rows=8)


def observe(config: Config, store: Store, progress: Progress) -> list[Observation]:
    """Per seed and test question: signature and what separates the teachers; per student: what it learned."""
    from lab.models import read_checkpoint, wire

    config = replace(config, dtype="float32")
    teachers = [config.models[0], config.experts or config.models[-1]]
    loaded = [load_model(name, config) for name in teachers]
    labels = ["dense teacher", "experts teacher"] if config.experts else ["first teacher", "second teacher"]
    pair = " | ".join(m.identity.name for m in loaded)
    if loaded[0].identity.fingerprint == loaded[1].identity.fingerprint:
        return [
            Observation(pair, "one teacher", "all", float("nan"), note="both teachers are the same model")
        ]
    files, traits = scaffolds_of(config), traits_of(loaded[0], config)
    texts = [w for s in files for w in s.paraphrases[: config.wordings]]
    first, test = [s.paraphrases[0] for s in files], traits.of("test")
    asked = [*traits.of("extract"), *traits.of("select")]
    base = read_checkpoint(resolve_model(config.base)) if config.base else None
    sources = [read_checkpoint(resolve_model(name)) for name in teachers]
    start = beginning(base, sources[0], config.seed)
    training = Training(config.steps, config.rows, config.learning_rate)
    made, steps = {}, len(teachers) * config.students + 1
    held = [taught(m, first, test[: config.held_out], 0, config, store) for m in loaded]
    for t, teacher in enumerate(loaded):
        for k in range(config.students):
            progress(f"student {k + 1} of the {labels[t]}", (t * config.students + k) / steps)
            lessons = taught(teacher, texts, asked, k, config, store)
            source = sources[t] if same_tokens(start, sources[t]) else None
            name = f"student {k + 1} of the {labels[t]}"
            made[t, k] = wire(student(start, lessons, training, config.seed + k, name, store, source))
    progress("states and losses", (steps - 1) / steps)
    states = {key: spawn_states(m, first, test, store) for key, m in (*enumerate(loaded), *made.items())}
    rows = _signatures(pair, states, [q.id for q in test], config.students)
    turned = {key: x.swapaxes(0, 1) for key, x in states.items()}
    over = _signatures(pair, turned, [s.name for s in first], config.students)
    rows += [replace(r, series=f"{r.series}, over questions") for r in over]
    begun = wire(start)
    for (t, k), pupil in made.items():
        rows += _learned(pupil, loaded[t], begun, held[t], f"student {k + 1} of the {labels[t]}", store)
    return rows


def _signatures(
    pair: str, states: dict[Any, np.ndarray], questions: Sequence[str], students: int
) -> list[Observation]:
    """Rows per question; keys of `states`: 0 and 1 for the teachers, (teacher, seed) for students."""

    def rows(series: str, values: np.ndarray) -> list[Observation]:
        return [Observation(pair, series, q, float(v)) for q, v in zip(questions, values, strict=True)]

    found = rows("what separates the teachers", 1 - nearness(states[0], states[1]))
    for k in range(students):
        near = {(t, to): nearness(states[t, k], states[to]) for t in (0, 1) for to in (0, 1)}
        found += rows(
            f"own minus other, seed {k + 1}", (near[0, 0] - near[0, 1] + near[1, 1] - near[1, 0]) / 2
        )
        for t, to in near:
            found += rows(f"student of {t + 1} to teacher {to + 1}, seed {k + 1}", near[t, to])
    if students > 1:
        for name, both in (("one teacher", ((0, 0), (1, 1))), ("two teachers", ((0, 1), (1, 0)))):
            near_by = [nearness(states[t, 0], states[u, 1]) for t, u in both]
            found += rows(f"students of {name}", np.mean(near_by, axis=0))
    return found


def _learned(
    pupil: "LoadedModel", teacher: "LoadedModel", begun: "LoadedModel", held: Sequence[Said], name: str, store: Store
) -> list[Observation]:  # fmt: skip
    """How far the student went to its teacher on replies that it never saw, and how much it uses the scaffold."""
    systems = list(dict.fromkeys(s.system for s in held))
    turned = dict(zip(systems, [*systems[1:], *systems[:1]], strict=True))
    swapped = [replace(s, system=turned[s.system]) for s in held]
    own = {
        k: float(np.nanmean(losses(m, held, store))) for k, m in (("s", pupil), ("t", teacher), ("b", begun))
    }
    other = {k: float(np.nanmean(losses(m, swapped, store))) for k, m in (("s", pupil), ("t", teacher))}
    way = _share(own["b"] - own["s"], own["b"] - own["t"])
    use = _share(other["s"] - own["s"], other["t"] - own["t"])
    told = f"nats per token: {own['b']:.2f} before, {own['s']:.2f} after, teacher {own['t']:.2f}"
    n = len(held)
    return [Observation(name, what, "all", v, n=n, note=told) for what, v in ((WAY, way), (USE, use))]


def _share(part: float, whole: float) -> float:
    """NaN where there was nothing to learn."""
    return part / whole if whole > 0 else float("nan")


# ------------------------------------------------------------------ the rule


def judge(
    observed: Sequence[Observation], rng: np.random.Generator, bar: float = Config.bar,
    learned: float = Config.learned, used: float = Config.used,
) -> list[Effect]:  # fmt: skip
    """The verdict rule."""
    apart = of(observed, series="what separates the teachers")
    pair = next(r.models for r in observed)
    frame = Frame(
        pair, "signature, seed 1", "shares of what separates the teachers", "above", bar, "0: no trace"
    )
    if lacking := of(observed, series="one teacher"):
        return [abstain(lacking[0].note, frame)]
    found = []
    failed = [
        *(r for r in of(observed, series=WAY) if not r.value >= learned),
        *(r for r in of(observed, series=USE) if not r.value >= used),
    ]
    seeds = sum(s.startswith("own minus other") and "over" not in s for s in names(observed, "series"))
    for k in range(1, seeds + 1):
        own = of(observed, series=f"own minus other, seed {k}")
        this = replace(frame, what=f"signature, seed {k}")
        if failed:
            worst = min(failed, key=lambda r: r.value)
            had = "no measure" if np.isnan(worst.value) else f"{worst.value:.0%}"
            said = f"did not learn what is measured: {worst.models} has {had} of its teacher's {worst.series}"
            found.append(abstain(f"{said} ({worst.note})", this))
            this = replace(this, what=f"{this.what}, for what it is worth", decides=False)
        found.append(ratio(own, apart, rng, this))
    return [*found, *_beside(observed, apart, rng, replace(frame, decides=False))]


def _beside(
    observed: Sequence[Observation], apart: Sequence[Observation], rng: np.random.Generator, frame: Frame
) -> list[Effect]:
    found = []
    same, crossed = (of(observed, series=f"students of {n}") for n in ("one teacher", "two teachers"))
    if same:
        words = replace(frame, what="nearness of students of one teacher − of two", unit="CKA", bar=0.0)
        found.append(difference(same, crossed, rng, words))
    one, two = (of(observed, series=f"own minus other, seed {k}") for k in (1, 2))
    if one and two:
        words = replace(
            frame, what="signature of seed 1 − of seed 2, times what separates the teachers", unit="CKA"
        )
        found.append(difference(one, two, rng, replace(words, bar=0.0, null="0: seeds agree")))
    wide = of(observed, series="what separates the teachers, over questions")
    for k in (1, 2):
        if own := of(observed, series=f"own minus other, seed {k}, over questions"):
            words = replace(frame, what=f"signature over questions, seed {k}", cluster="scaffolds")
            found.append(ratio(own, wide, rng, words))
    words = replace(
        frame, what="what separates the teachers", unit="1 − CKA", bar=0.0, null="0: one geometry"
    )
    found.append(mean_over(apart, rng, words))
    for row in (*of(observed, series=WAY), *of(observed, series=USE)):
        words = replace(
            frame, models=row.models, what=row.series, unit="shares of the teacher's", bar=0.5, null="0: as before",
            cluster="held-out replies",
        )  # fmt: skip
        found.append(reported(row, words))
    return found
