"""Does a direction of one model work in another? Carry it through the map and steer with it.

The map is that of `lab geometry`, fitted on the *extract* and *select* questions of all scaffolds at the two
layers where the trait is read. It is held against the target's own direction, random directions, maps
fitted on shuffled pairings of the scaffolds, and other traits' directions through the true map, all of equal
norm. Doses are chosen on *select* for the target's own direction, effects are read on *test*.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy import ndarray

from lab.dosage import Chosen, Taken, jackknife_interval
from lab.estimators import unit
from lab.geometry.maps import carry, fit_map, ridge
from lab.pipelines.bench import Bench, Push, SteerConfig, make_bench
from lab.pipelines.compare import DATA, Progress
from lab.pipelines.geometry import (
    TRAIN,
    GeometryConfig,
    Pair,
    Side,
    load_pair,
    measure_sides,
    pairs_of,
    run_key,
    settings_of,
)
from lab.pipelines.steer import choose_dose
from lab.prompts.tasks import read_task
from lab.records import LabError, ModelIdentity, Position
from lab.records.geometry import Transfer, TransferBook
from lab.store import Store, content_key, readable

POSITION: Position = "reply_mean"


@dataclass(frozen=True)
class TransferConfig:
    """What to carry over and how hard to look."""

    geometry: GeometryConfig
    doses: tuple[float, ...] = (0.25, 0.375)
    controls: int = 8
    """Random directions."""
    shuffled: int = 20
    """Maps fitted on shuffled pairings of the scaffolds: 19 are needed to reach p = .05."""
    reply_tokens: int = 110
    """Longest steered reply: one that is cut off does not parse to its end."""

    def check(self) -> None:
        """LabError for what cannot be run."""
        if self.controls < 1 or self.shuffled < 1 or not self.doses or min(self.doses) <= 0:
            raise LabError("expected doses above 0 and at least one control")


def transfer(config: TransferConfig, store: Store, progress: Progress) -> TransferBook:
    """Run (or find) the transfer of every trait, both ways. LabError for what the user can mend."""
    config.check()
    models, traits = load_pair(config.geometry, progress)
    more = {k: v for k, v in asdict(config).items() if k != "geometry"}
    key = run_key("transfer-1", config.geometry, models, traits)
    run = "transfer-" + content_key(key, more)[:10]
    if store.has(run):
        progress("found a finished run", 1.0)
        return load_transfer(store, run)
    sides = measure_sides(config.geometry, models, traits, store, lambda s, x: progress(s, 0.4 * x))
    pairs = pairs_of(config.geometry, sides, traits, POSITION)
    train = [pairs[s] for s in TRAIN]
    each = (
        len(traits.traits)
        * (len(config.doses) * 2 + 2 * (config.controls + config.shuffled + len(traits.traits) + 1))
        + 2
    )
    done, found = 0, []

    def tick(stage: str) -> None:
        nonlocal done
        done += 1
        progress(stage, min(0.99, 0.4 + 0.6 * done / (2 * each)))

    for source, target in ((0, 1), (1, 0)):
        steer = SteerConfig(
            config.geometry.models[target], config.geometry.trait_set, config.doses, (POSITION,),
            controls=config.controls, dtype=config.geometry.dtype, seed=config.geometry.seed,
            max_new_tokens=config.reply_tokens,
        )  # fmt: skip
        task = read_task(DATA / "tasks" / ("hearth.json" if traits.name == "hearth" else "chat.json"))
        name = sides[target].label
        bench = make_bench(steer, models[target], traits, task, store, lambda s, n=name: tick(f"{n}: {s}"))
        there: list[Pair] = [p if source == 0 else (p[1], p[0]) for p in train]
        way = _Way(config, bench, sides[source], sides[target], there)
        found += [_transfer(way, t.name) for t in traits.traits]
    identities, labels = tuple(s.identity for s in sides), tuple(s.label for s in sides)
    settings = {**settings_of(config.geometry, traits), **more}
    book = TransferBook(run, identities, labels, tuple(found), settings)
    rows = {"transfers": [asdict(r) for r in book.transfers]}
    store.save_records(run, "transfer", identities, rows, {"labels": labels, "settings": settings})
    progress("done", 1.0)
    return book


def load_transfer(store: Store, run: str) -> TransferBook:
    """The transfers of a finished run. LabError when it is missing or damaged."""
    data, tables = store.load_rows(run, "transfer", ("transfers",))
    with readable(run):
        return TransferBook(
            run, tuple(ModelIdentity(**m) for m in data["models"]), tuple(data["labels"]),
            tuple(Transfer(**r) for r in tables["transfers"]), data["settings"],
        )  # fmt: skip


@dataclass(frozen=True)
class _Way:
    """One direction of transfer: the bench of the target, both models' sides, the training pairs."""

    config: TransferConfig
    bench: Bench
    source: Side
    target: Side
    train: Sequence[Pair]

    def carried(self, trait: str, layer: int, order: ndarray | None = None) -> ndarray:
        """The source's direction of a trait as one at a layer of the target."""
        mine = self.source.landed.made.directions[trait, POSITION]
        fitted = fit_map(self.train, (mine.site.layer, layer), ridge, order)
        return carry(fitted, mine.vector.astype(np.float64))


def _transfer(way: _Way, trait: str) -> Transfer:
    bench, own = way.bench, way.bench.push(trait, POSITION)
    _, chosen = choose_dose(bench, trait)
    layer = own.directions[0].site.layer
    rng = np.random.default_rng([bench.config.seed, 9, bench.reader.traits.index(trait)])
    vectors = _vectors(way, trait, layer, rng)
    jobs = bench.neutral("test")
    questions = np.array([j.question.id for j in jobs])

    def pushed(push: Push) -> tuple[Taken, Taken]:
        sides = bench.read(jobs, push.edits(chosen.up)), bench.read(jobs, push.edits(chosen.down))
        bench.tick(f"{trait} carried over from {way.source.label}")
        return sides

    replies = {kind: [pushed(own.along(v, trait)) for v in some] for kind, some in vectors.items()}
    replies["native"] = [pushed(own)]
    index = bench.reader.traits.index(trait)
    effects = _effects(replies, questions, index)
    cosine = float(np.dot(vectors["carried"][0], own.directions[0].vector))
    return _conclude(way, trait, layer, chosen, effects, len(jobs), cosine)


def _vectors(way: _Way, trait: str, layer: int, rng: np.random.Generator) -> dict[str, list[ndarray]]:
    """Unit vectors at a layer of the target, by kind."""
    n, d = way.config.controls, way.bench.model.identity.d_model
    size = len(way.train[0][0].scaffolds)
    others = [t.name for t in way.bench.traits.traits if t.name != trait]
    return {
        "carried": [way.carried(trait, layer)],
        "permuted": [way.carried(trait, layer, rng.permutation(size)) for _ in range(way.config.shuffled)],
        "wrong": [way.carried(t, layer) for t in others],
        "random": list(unit(rng.standard_normal((n, d)))),
    }


def _effects(
    replies: Mapping[str, Sequence[tuple[Taken, Taken]]], questions: ndarray, index: int
) -> dict[str, ndarray]:
    """Reading up minus down, [draw, 1 + question]: with all questions, then each left out in turn."""
    rows = [np.arange(len(questions))]
    rows += [np.flatnonzero(questions != q) for q in dict.fromkeys(questions.tolist())]
    return {
        kind: np.array([[float((up.pooled(r) - down.pooled(r))[index]) for r in rows] for up, down in some])
        for kind, some in replies.items()
    }


def recovery(carried: ndarray, native: ndarray, random: ndarray) -> tuple[float, float, float]:
    """(carried - random) / (native - random) with its 95 % jackknife limits; all [1 + question].

    NaN where the jackknife interval of native - random holds 0: then there is nothing to recover.
    """
    gap = native - random
    low, high = jackknife_interval(gap[:1], gap[1:, None])
    if not (low[0] > 0 or high[0] < 0):
        return float("nan"), float("nan"), float("nan")
    share = (carried - random) / gap
    low, high = jackknife_interval(share[:1], share[1:, None])
    return float(share[0]), float(low[0]), float(high[0])


def _limits(effect: ndarray) -> tuple[float, float, float]:
    low, high = jackknife_interval(effect[:1], effect[1:, None])
    return float(effect[0]), float(low[0]), float(high[0])


def _conclude(
    way: _Way, trait: str, layer: int, chosen: Chosen, effects: Mapping[str, ndarray], n: int, cosine: float
) -> Transfer:
    native, carried = _limits(effects["native"][0]), _limits(effects["carried"][0])
    random, permuted = effects["random"].mean(axis=0), effects["permuted"][:, 0]
    regained = recovery(effects["carried"][0], effects["native"][0], random)
    wrong = effects["wrong"][:, 0].mean() if len(effects["wrong"]) else float("nan")
    return Transfer(
        trait=trait, source=way.source.label, target=way.target.label,
        layer_source=way.source.landed.made.directions[trait, POSITION].site.layer, layer_target=layer,
        down=chosen.down, up=chosen.up,
        native=native[0], native_low=native[1], native_high=native[2],
        carried=carried[0], carried_low=carried[1], carried_high=carried[2],
        random=float(random[0]), permuted=float(permuted.mean()),
        permuted_high=float(np.quantile(permuted, 0.95)), wrong=float(wrong),
        recovery=regained[0], recovery_low=regained[1], recovery_high=regained[2],
        p=(1 + int((permuted >= carried[0]).sum())) / (1 + len(permuted)), cosine=float(cosine),
        controls=len(permuted), questions=len(effects["native"][0]) - 1, n=n,
        judge=way.bench.reader.judge, unit=way.bench.reader.unit,
    )  # fmt: skip
