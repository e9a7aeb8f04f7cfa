"""Steering, judged: dose and response with controls, the prompt baseline, capping, and letting go.

Directions are made on *extract*. Where they are pooled and how strongly they are pushed is chosen on
*select*; everything reported is read on *test*. All conditions answer the same questions with the same
seeds, so that changes are paired.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
from numpy.typing import NDArray

from lab.dosage import (
    Chosen,
    Taken,
    change,
    choose_doses,
    control_p,
    covariance_directions,
    mean_coherence,
)
from lab.estimators import mean_difference, unit
from lab.pipelines.bench import SAMPLES, Bench, Push, SteerConfig, make_bench
from lab.pipelines.compare import DATA, Progress, resolve_model, resolve_trait_set
from lab.pipelines.replies import Job
from lab.pipelines.restraint import caps, letting_go
from lab.prompts.tasks import Task, read_task
from lab.records import DoseRow, PoolingDose, Position, Steering, SteerSummary, Trait, TraitSet
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
    run = _run_key(config, loaded.identity.fingerprint, traits, task)
    if store.has(run):
        progress("found a finished run", 1.0)
        return store.load_steering(run)
    done, total = 0, _steps(config, len(traits.traits))

    def tick(stage: str) -> None:
        nonlocal done
        done += 1
        progress(stage, min(0.99, 0.02 + 0.97 * done / total))

    bench = make_bench(config, loaded, traits, task, store, tick)
    doses, poolings, summaries, capped, releases, halves = [], [], [], [], [], []
    for trait in traits.traits:
        tried, chosen = choose_dose(bench, trait.name)
        poolings += tried
        position: Position = next(row for row in tried if row.chosen).position
        push = bench.push(trait.name, position)
        rows = _curve(bench, trait, push)
        rows += _controls(bench, trait.name, position, push, chosen)
        doses += rows
        summaries.append(_summary(bench, trait.name, position, push, chosen, rows))
        capped += caps(bench, trait)
        course, half = letting_go(bench, trait.name, push, chosen)
        releases += course
        halves += half
    settings = {
        **_settings(config), "traits": [t.name for t in traits.traits], "read": list(bench.reader.traits),
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
    return {k: v for k, v in asdict(config).items() if k not in ("model", "trait_set", "task")}


def _run_key(config: SteerConfig, fingerprint: str, traits: TraitSet, task: Task) -> str:
    """The id of the run: the same content gives the same id."""
    key = content_key("steer-3", fingerprint, asdict(traits), asdict(task), _settings(config))
    return f"steer-{key[:10]}"


def _steps(config: SteerConfig, traits: int) -> int:
    """Conditions to run, for the progress bar."""
    doses = 2 * len(config.doses)
    each = doses * len(config.positions) + doses + 2 + 2 * (3 * config.controls + traits - 1)
    return 2 + traits * (each + 4 * len(config.percentiles) + 4)


def _coefficients(config: SteerConfig) -> list[float]:
    return sorted([*(-d for d in config.doses), *config.doses])


def choose_dose(bench: Bench, trait: str) -> tuple[list[PoolingDose], Chosen]:
    """Per pooling the doses whose readings lie farthest apart on *select* while coherent; the best."""
    jobs, index = bench.neutral("select"), bench.reader.traits.index(trait)
    everything = np.arange(len(jobs))
    plain = bench.unsteered("select")
    found: dict[Position, tuple[Chosen, PoolingDose]] = {}
    for position in bench.config.positions:
        push = bench.push(trait, position)
        readings = {0.0: (float(plain.pooled(everything)[index]), mean_coherence(plain))}
        for c in _coefficients(bench.config):
            taken = bench.read(jobs, push.edits(c))
            readings[c] = (float(taken.pooled(everything)[index]), mean_coherence(taken))
            bench.tick(f"{trait}: choosing pooling and dose")
        best = choose_doses(readings)
        row = PoolingDose(
            bench.name, trait, position, bench.made.directions[trait, position].site.layer, best.down, best.up,
            best.effect, readings[best.down][1], readings[best.up][1], best.reached, False, len(jobs),
        )  # fmt: skip
        found[position] = best, row
    chosen = max(found, key=lambda p: (found[p][0].reached, np.nan_to_num(found[p][0].effect, nan=-np.inf)))
    rows = [replace(row, chosen=position == chosen) for position, (_, row) in found.items()]
    return rows, found[chosen][0]


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
    """The unsteered base, the trait's own direction at every dose, and its instructions."""
    jobs, name = bench.neutral("test"), trait.name
    rows = _rows(bench, name, "none", "", 0.0, bench.unsteered("test"), jobs, bench.ability())
    for c in _coefficients(bench.config):
        edits = push.edits(c)
        rows += _rows(bench, name, "native", "", c, bench.read(jobs, edits), jobs, bench.ability(edits))
        bench.tick(f"{name}: dose and response")
    for sign, prompts in ((-1.0, trait.negative), (1.0, trait.positive)):
        told = bench.told(prompts)
        rows += _rows(bench, name, "prompt", "", sign, bench.read(told), told, bench.ability((), prompts[0]))
        bench.tick(f"{name}: told instead of pushed")
    return rows


def _controls(bench: Bench, trait: str, position: Position, push: Push, chosen: Chosen) -> list[DoseRow]:
    """Directions of equal norm that are not the trait, at the chosen doses."""
    rng = np.random.default_rng([bench.config.seed, 3, bench.reader.traits.index(trait)])
    vectors = _control_vectors(bench, trait, position, push, rng)
    jobs = bench.neutral("test")
    rows = []
    for (kind, draw), vector in vectors.items():
        other = push.along(vector, trait)
        for c in (chosen.down, chosen.up):
            taken = bench.read(jobs, other.edits(c))
            rows += _rows(bench, trait, kind, draw, c, taken, jobs, float("nan"))
            bench.tick(f"{trait}: controls of equal norm")
    return rows


def _control_vectors(
    bench: Bench, trait: str, position: Position, push: Push, rng: np.random.Generator
) -> dict[tuple[str, str], NDArray[np.float64]]:
    """Unit vectors at the layer of the push, by (kind, draw)."""
    n, layer = bench.config.controls, push.directions[len(push.directions) // 2].site.layer
    drawn = rng.standard_normal((n, bench.model.identity.d_model))
    poles = {t: p.of(position, "extract") for t, p in bench.made.poles.items()}
    states = np.concatenate([c.acts[:, layer] for c in poles.values()])
    groups = [f"{t} {up}" for t, c in poles.items() for up in c.positive]
    whole = ~np.isnan(states).any(axis=1)
    kept = np.array(groups)[whole].tolist()
    sets = {
        "random": drawn / np.linalg.norm(drawn, axis=1, keepdims=True),
        "permuted": bench.made.nulls[trait, position][:n],
        "covariance": covariance_directions(states[whole], kept, n, rng),
    }
    found = {(kind, str(k)): v for kind, vs in sets.items() for k, v in enumerate(vs)}
    for other, contrast in poles.items():
        if other != trait:
            raw = mean_difference(contrast.acts[:, layer : layer + 1], contrast.positive, contrast.questions)
            found["other", other] = unit(raw[0])
    return found


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
