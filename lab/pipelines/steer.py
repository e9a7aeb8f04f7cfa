"""Steering, judged: dose and response with controls, the prompt baseline, capping, and letting go.

Directions are made on *extract*. Where they are pooled and how strongly they are pushed is chosen on
*select*; everything reported is read on *test*. All conditions answer the same questions with the same
seeds, so that changes are paired. Directions may also come from files; then nothing is extracted, and
controls that need replies at the poles are left out.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np

from lab.dosage import (
    Chosen,
    Taken,
    change,
    choose_doses,
    control_p,
    mean_coherence,
)
from lab.pipelines.bench import SAMPLES, Bench, Push, SteerConfig, make_bench
from lab.pipelines.compare import DATA, Progress, resolve_model, resolve_trait_set
from lab.pipelines.given import described, take_vectors
from lab.pipelines.replies import Job
from lab.pipelines.restraint import caps, letting_go
from lab.prompts.tasks import Task, read_task
from lab.records import Position, Split, Trait, TraitSet
from lab.records.steering import DoseRow, PoolingDose, Steering, SteerSummary
from lab.store import Store, content_key


def steer(config: SteerConfig, store: Store, progress: Progress) -> Steering:
    """Run (or go on with) the whole battery on one model. LabError for what the user can mend."""
    config.check()
    progress("loading model", 0.0)
    from lab.models import load

    loaded = load(resolve_model(config.model), config.dtype)
    traits = resolve_trait_set(config.trait_set, [loaded])
    task = read_task(
        config.task or DATA / "tasks" / ("hearth.json" if traits.name == "hearth" else "chat.json")
    )
    given = [described(v, loaded.identity) for v in take_vectors(config.vectors, loaded.identity).values()]
    run = _run_key(config, loaded.identity.fingerprint, traits, task, given)
    if store.has(run):
        progress("found a finished run", 1.0)
        return store.load_steering(run)
    pushed = [t for t in traits.traits if not given or t.name in {v["trait"] for v in given}]
    done, total = 0, _steps(config, len(pushed))

    def tick(stage: str) -> None:
        nonlocal done
        done += 1
        progress(stage, min(0.99, 0.02 + 0.97 * done / total))

    bench = make_bench(config, loaded, traits, task, store, tick)
    doses, poolings, summaries, capped, releases, halves = [], [], [], [], [], []
    for trait in pushed:
        tried, chosen = choose_dose(bench, trait.name)
        poolings += [*tried, *judge_poolings(bench, tried)]
        position: Position = next(row for row in tried if row.chosen).position
        push = bench.push(trait.name, position)
        rows = _curve(bench, trait, push)
        rows += _controls(bench, trait.name, position, push, chosen)
        doses += rows
        summaries.append(_summary(bench, trait.name, position, push, chosen, rows))
        capped += caps(bench, trait, position)
        course, half = letting_go(bench, trait.name, push, chosen)
        releases += course
        halves += half
    settings = {
        **_settings(config), "vectors": given, "traits": [t.name for t in pushed], "read": list(bench.reader.traits),
        "task": task.name, "samples": SAMPLES,
        "questions": {s: len(traits.of(s)) for s in ("extract", "select", "test")},
    }  # fmt: skip
    found = Steering(
        run, loaded.identity, bench.reader.judge, bench.reader.unit, tuple(doses), tuple(poolings),
        tuple(summaries), tuple(capped), tuple(releases), tuple(halves), settings,
    )  # fmt: skip
    store.save_steering(found)
    progress("done", 1.0)
    return found


def _settings(config: SteerConfig) -> dict[str, object]:
    return {k: v for k, v in asdict(config).items() if k not in ("model", "trait_set", "task", "vectors")}


def _run_key(
    config: SteerConfig, fingerprint: str, traits: TraitSet, task: Task, given: Sequence[dict[str, object]]
) -> str:
    """The id of the run: the same content gives the same id."""
    key = content_key("steer-4", fingerprint, asdict(traits), asdict(task), _settings(config), given)
    return f"steer-{key[:10]}"


def _steps(config: SteerConfig, traits: int) -> int:
    """Conditions to run, for the progress bar."""
    doses = 2 * len(config.doses)
    positions = 1 if config.vectors else len(config.positions)
    kinds = 2 if config.vectors else 3
    each = (doses + 1) * positions + doses + config.ablate + 2 + 2 * (kinds * config.controls + traits - 1)
    return 2 + traits * (each + 2 * len(config.percentiles) + 2)


def _coefficients(config: SteerConfig) -> list[float]:
    return sorted([*(-d for d in config.doses), *config.doses])


def choose_dose(bench: Bench, trait: str) -> tuple[list[PoolingDose], Chosen]:
    """Per pooling the doses whose readings lie farthest apart on *select* while coherent; the best."""
    jobs, index = bench.neutral("select"), bench.reader.traits.index(trait)
    everything = np.arange(len(jobs))
    plain = bench.unsteered("select")
    found: dict[Position, tuple[Chosen, PoolingDose]] = {}
    for position in bench.origin.positions(trait):
        push = bench.push(trait, position)
        taken = {0.0: plain}
        for c in _coefficients(bench.config):
            taken[c] = bench.read(jobs, push.edits(c))
            bench.tick(f"{trait}: choosing pooling and dose")
        best = choose_doses(
            {c: (float(t.pooled(everything)[index]), mean_coherence(t)) for c, t in taken.items()}
        )
        layer = bench.origin.direction(trait, position).site.layer
        row = PoolingDose(
            bench.name, trait, position, layer, best.down, best.up, best.effect, float("nan"), float("nan"),
            best.reached, False, len(jobs),
        )  # fmt: skip
        found[position] = best, _between(bench, row, taken[best.down], taken[best.up], "select")
    chosen = max(found, key=lambda p: (found[p][0].reached, np.nan_to_num(found[p][0].effect, nan=-np.inf)))
    rows = [replace(row, chosen=position == chosen) for position, (_, row) in found.items()]
    return rows, found[chosen][0]


def judge_poolings(bench: Bench, tried: Sequence[PoolingDose]) -> list[PoolingDose]:
    """What each pooling's own doses, chosen on *select*, do on *test*."""
    jobs, found = bench.neutral("test"), []
    for row in tried:
        push = bench.push(row.trait, row.position)
        down, up = (bench.read(jobs, push.edits(c)) for c in (row.down, row.up))
        found.append(_between(bench, row, down, up, "test"))
        bench.tick(f"{row.trait}: poolings on test")
    return found


def _between(bench: Bench, row: PoolingDose, down: Taken, up: Taken, split: Split) -> PoolingDose:
    """The row with what its two doses do on one split."""
    index, questions = bench.reader.traits.index(row.trait), [j.question.id for j in bench.neutral(split)]
    found = change(up, questions, down, questions)
    return replace(
        row, effect=float(found.change[index]), low=float(found.low[index]), high=float(found.high[index]),
        coherence_down=mean_coherence(down), coherence_up=found.coherence, n=found.n, split=split,
    )  # fmt: skip


def _rows(
    bench: Bench, trait: str, kind: str, draw: str, coefficient: float, taken: Taken, jobs: Sequence[Job],
    task: float,
) -> list[DoseRow]:  # fmt: skip
    """One row per trait that is read."""
    base = bench.neutral("test")
    found = change(
        taken, [j.question.id for j in jobs], bench.unsteered("test"), [j.question.id for j in base],
        coefficient or 1.0,
    )  # fmt: skip
    nan = float("nan")
    return [
        DoseRow(
            bench.name, trait, kind, draw, coefficient, read, float(found.reading[k]), float(found.change[k]),
            float(found.low[k]), float(found.high[k]), float(found.wrong_way[k]) if coefficient else nan,
            found.coherence, task, found.n, "test",
        )
        for k, read in enumerate(bench.reader.traits)
    ]  # fmt: skip


def _curve(bench: Bench, trait: Trait, push: Push) -> list[DoseRow]:
    """The unsteered base, the trait's own direction at every dose and taken out, and its instructions."""
    jobs, name = bench.neutral("test"), trait.name
    rows = _rows(bench, name, "none", "", 0.0, bench.unsteered("test"), jobs, bench.ability())
    for c in _coefficients(bench.config):
        edits = push.edits(c)
        rows += _rows(bench, name, "native", "", c, bench.read(jobs, edits), jobs, bench.ability(edits))
        bench.tick(f"{name}: dose and response")
    if bench.config.ablate:
        edits = push.ablation()
        rows += _rows(bench, name, "ablate", "", 0.0, bench.read(jobs, edits), jobs, bench.ability(edits))
        bench.tick(f"{name}: taken out")
    for sign, prompts in ((-1.0, trait.negative), (1.0, trait.positive)):
        told = bench.told(prompts)
        rows += _rows(bench, name, "prompt", "", sign, bench.read(told), told, bench.ability((), prompts[0]))
        bench.tick(f"{name}: told instead of pushed")
    return rows


def _controls(bench: Bench, trait: str, position: Position, push: Push, chosen: Chosen) -> list[DoseRow]:
    """Directions of equal norm that are not the trait, at the chosen doses."""
    rng = np.random.default_rng([bench.config.seed, 3, bench.reader.traits.index(trait)])
    layer = push.directions[len(push.directions) // 2].site.layer
    vectors = bench.origin.controls(trait, position, layer, bench.config.controls, rng)
    jobs = bench.neutral("test")
    rows = []
    for (kind, draw), vector in vectors.items():
        other = push.along(vector, trait)
        for c in (chosen.down, chosen.up):
            taken = bench.read(jobs, other.edits(c))
            rows += _rows(bench, trait, kind, draw, c, taken, jobs, float("nan"))
            bench.tick(f"{trait}: controls of equal norm")
    return rows


def _summary(
    bench: Bench, trait: str, position: Position, push: Push, chosen: Chosen, rows: Sequence[DoseRow],
) -> SteerSummary:  # fmt: skip
    """The effect on *test* with its interval, beside prompt and controls."""
    index, jobs = bench.reader.traits.index(trait), bench.neutral("test")
    questions = [j.question.id for j in jobs]
    up, down = (bench.read(jobs, push.edits(c)) for c in (chosen.up, chosen.down))
    effect = change(up, questions, down, questions)
    mine = [r for r in rows if r.read == trait]

    def between(kind: str, low: float, high: float) -> list[float]:
        sides: dict[str, dict[float, float]] = {}
        for r in mine:
            if r.kind == kind:
                sides.setdefault(r.draw, {})[r.coefficient] = r.reading
        return [side[high] - side[low] for side in sides.values()]

    controls = [
        x for kind in ("random", "permuted", "covariance") for x in between(kind, chosen.down, chosen.up)
    ]
    value = float(effect.change[index])
    null_high, p = control_p(value, controls)
    return SteerSummary(
        bench.name, trait, position, tuple(d.site.layer for d in push.directions), chosen.down, chosen.up, value,
        float(effect.low[index]), float(effect.high[index]), between("prompt", -1.0, 1.0)[0], null_high, p,
        len(controls), chosen.effect, chosen.reached, len(jobs),
    )  # fmt: skip
