"""Does a direction of one model work in another? Carry it through the map and steer with it.

The map is that of `lab geometry`, fitted on the *extract* and *select* questions of all scaffolds at the two
layers where the trait is read. It is held against the target's own direction, random directions, maps
fitted on shuffled pairings of the scaffolds, and other traits' directions through the true map, all of equal
norm. Doses are chosen on *select* for the target's own direction, effects are read on *test*.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy import ndarray

from lab.dosage import Chosen, Taken, change, jackknife_interval, mean_coherence
from lab.estimators import unit
from lab.geometry.fits import ridge
from lab.geometry.maps import carry, fit_map
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
from lab.pipelines.replies import Job
from lab.pipelines.steer import choose_dose
from lab.prompts.tasks import read_task
from lab.records import LabError, ModelIdentity, Position
from lab.records.geometry import Transfer, TransferBook, TransferDose, TransferReply
from lab.stats import MIN_CLUSTERS, upper_p
from lab.store import Store, content_key, readable

POSITION: Position = "reply_mean"
VERSION = 2
"""Of what a saved run holds; since 2 doses one by one, and replies."""
_TABLES: dict[str, type] = {"transfers": Transfer, "doses": TransferDose, "replies": TransferReply}


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

    def steps(self, traits: int) -> int:
        """Sets of replies that one way takes, for the progress bar."""
        pushed = self.controls + self.shuffled + traits + 1
        return 3 + traits * (2 * len(self.doses) + pushed)


def transfer(config: TransferConfig, store: Store, progress: Progress) -> TransferBook:
    """Run (or find) the transfer of every trait, both ways. LabError for what the user can mend."""
    config.check()
    models, traits = load_pair(config.geometry, progress)
    more = {k: v for k, v in asdict(config).items() if k != "geometry"}
    more["doses"] = list(config.doses)
    key = run_key(f"transfer-{VERSION}", config.geometry, models, traits)
    run = "transfer-" + content_key(key, more)[:10]
    if store.has(run):
        progress("found a finished run", 1.0)
        return load_transfer(store, run)
    sides = measure_sides(config.geometry, models, traits, store, lambda s, x: progress(s, 0.4 * x))
    pairs = pairs_of(config.geometry, sides, traits, POSITION)
    train = [pairs[s] for s in TRAIN]
    done: int = 0
    found: list[_Found] = []

    def tick(stage: str) -> None:
        nonlocal done
        done += 1
        progress(stage, min(0.99, 0.4 + 0.6 * done / (2 * config.steps(len(traits.traits)))))

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
        jobs = bench.neutral("test")
        way = _Way(config, bench, sides[source], sides[target], there, jobs, _say(bench, jobs))
        bench.tick("replies to the test questions without push")
        found += [_Found(replies=way.replies("", "none", "", 0.0, way.plain))]
        found += [_transfer(way, t.name) for t in traits.traits]
    book = TransferBook(
        run, tuple(s.identity for s in sides), tuple(s.label for s in sides),
        tuple(f.transfer for f in found if f.transfer), {**settings_of(config.geometry, traits, models), **more},
        tuple(d for f in found for d in f.doses), tuple(r for f in found for r in f.replies),
    )  # fmt: skip
    save_transfer(store, book)
    progress("done", 1.0)
    return book


# ------------------------------------------------------------------ on disk


def save_transfer(store: Store, found: TransferBook) -> None:
    """A run of tables, one per kind of record."""
    rows = {name: [asdict(r) for r in getattr(found, name)] for name in _TABLES}
    more = {"labels": found.labels, "settings": dict(found.settings), "version": VERSION}
    store.save_records(found.run, "transfer", found.models, rows, more)


def load_transfer(store: Store, run: str) -> TransferBook:
    """The transfers of a finished run. LabError when it is missing, damaged or of another version."""
    data, rows = store.load_rows(run, "transfer", tuple(_TABLES))
    if data.get("version") != VERSION:
        raise LabError(
            f"run {run} was made by another version of the lab, which kept no replies; run `lab transfer` again (what is "
            "in the cache is not generated again)"
        )
    with readable(run):
        tables: dict[str, Any] = {
            name: tuple(kind(**r) for r in rows[name]) for name, kind in _TABLES.items()
        }
        models = tuple(ModelIdentity(**m) for m in data["models"])
        return TransferBook(run, models, tuple(data["labels"]), settings=data["settings"], **tables)


# ------------------------------------------------------------------ one trait, one way


@dataclass(frozen=True)
class _Said:
    """Replies under one dose, and what the judge keeps of them."""

    texts: tuple[str, ...]
    taken: Taken


@dataclass(frozen=True)
class _Found:
    """What one trait carried one way has to say."""

    transfer: Transfer | None = None
    doses: tuple[TransferDose, ...] = ()
    replies: tuple[TransferReply, ...] = ()


Sides = tuple[_Said, _Said]
"""At the upper and at the lower dose."""


@dataclass(frozen=True)
class _Way:
    """One direction of transfer: the bench of the target, both models' sides, the training pairs, the test questions.

    plain: the target's replies to `jobs` without a push.
    """

    config: TransferConfig
    bench: Bench
    source: Side
    target: Side
    train: Sequence[Pair]
    jobs: Sequence[Job]
    plain: _Said

    def carried(self, trait: str, layer: int, order: ndarray | None = None) -> ndarray:
        """The source's direction of a trait as one at a layer of the target."""
        mine = self.source.landed.made.directions[trait, POSITION]
        fitted = fit_map(self.train, (mine.site.layer, layer), ridge, order)
        return carry(fitted, mine.vector.astype(np.float64))

    def others(self, trait: str) -> list[str]:
        """The traits of the set that are not this one."""
        return [t.name for t in self.bench.traits.traits if t.name != trait]

    def replies(
        self, trait: str, kind: str, draw: str, dose: float, said: _Said
    ) -> tuple[TransferReply, ...]:
        """One row per job."""
        names = self.source.label, self.target.label
        return tuple(
            TransferReply(trait, *names, kind, draw, dose, j.question.id, j.question.text, j.sample, text)
            for j, text in zip(self.jobs, said.texts, strict=True)
        )


def _say(bench: Bench, jobs: Sequence[Job], push: Push | None = None, dose: float = 0.0) -> _Said:
    texts = tuple(r.text for r in bench.say(jobs, push.edits(dose) if push else ()).replies)
    return _Said(texts, bench.reader.take([j.question.text for j in jobs], texts))


def _transfer(way: _Way, trait: str) -> _Found:
    bench, own = way.bench, way.bench.push(trait, POSITION)
    _, chosen = choose_dose(bench, trait)
    layer = own.directions[0].site.layer
    index = bench.reader.traits.index(trait)
    vectors = _vectors(way, trait, layer, np.random.default_rng([bench.config.seed, 9, index]))

    def pushed(push: Push) -> Sides:
        sides = _say(bench, way.jobs, push, chosen.up), _say(bench, way.jobs, push, chosen.down)
        bench.tick(f"{trait} carried over from {way.source.label}")
        return sides

    said = {"native": [pushed(own)]}
    said |= {kind: [pushed(own.along(v, trait)) for v in some] for kind, some in vectors.items()}
    questions = np.array([j.question.id for j in way.jobs])
    effects = _effects(said, questions, index)
    cosine = float(np.dot(vectors["carried"][0], own.directions[0].vector))
    found = _conclude(way, trait, layer, chosen, effects, len(way.jobs), cosine)
    return _Found(found, _doses(way, trait, index, chosen, said), _some_replies(way, trait, chosen, said))


def _vectors(way: _Way, trait: str, layer: int, rng: np.random.Generator) -> dict[str, list[ndarray]]:
    """Unit vectors at a layer of the target, by kind."""
    n, d = way.config.controls, way.bench.model.identity.d_model
    size = len(way.train[0][0].scaffolds)
    return {
        "carried": [way.carried(trait, layer)],
        "permuted": [way.carried(trait, layer, rng.permutation(size)) for _ in range(way.config.shuffled)],
        "wrong": [way.carried(t, layer) for t in way.others(trait)],
        "random": list(unit(rng.standard_normal((n, d)))),
    }


def _some_replies(
    way: _Way, trait: str, chosen: Chosen, said: Mapping[str, Sequence[Sides]]
) -> tuple[TransferReply, ...]:
    """What is kept to be read: of every kind the first direction drawn, at both doses."""
    draws = {kind: f"1 of {len(said[kind])}" for kind in ("random", "permuted")}
    draws |= {"wrong": next(iter(way.others(trait)), "")}
    rows: list[TransferReply] = []
    for kind, some in said.items():
        for sides in some[:1]:
            for dose, one in zip((chosen.up, chosen.down), sides, strict=True):
                rows += way.replies(trait, kind, draws.get(kind, ""), dose, one)
    return tuple(rows)


def _doses(
    way: _Way, trait: str, index: int, chosen: Chosen, said: Mapping[str, Sequence[Sides]]
) -> tuple[TransferDose, ...]:
    """Change from no push at the upper and at the lower dose, by kind."""
    questions = [j.question.id for j in way.jobs]
    every, names, n = np.arange(len(questions)), (way.source.label, way.target.label), len(questions)
    plain = way.plain.taken
    base = plain.pooled(every)
    rows = [TransferDose(trait, *names, "none", 0.0, 0.0, 0.0, 0.0, mean_coherence(plain), 0, n)]
    for kind, some in ((kind, some) for kind, some in said.items() if some):
        for k, dose in enumerate((chosen.up, chosen.down)):
            taken = [sides[k].taken for sides in some]
            if kind in ("native", "carried"):
                one = change(taken[0], questions, plain, questions)
                value, low, high = (float(x[index]) for x in (one.change, one.low, one.high))
            else:
                values = np.array([(t.pooled(every) - base)[index] for t in taken])
                value, (low, high) = float(values.mean()), _within(values)
            coherence = float(np.mean([mean_coherence(t) for t in taken]))
            rows.append(TransferDose(trait, *names, kind, dose, value, low, high, coherence, len(some), n))
    return tuple(rows)


def _within(values: ndarray) -> tuple[float, float]:
    """Between what 95 % of draws lie; NaN for too few."""
    if len(values) < MIN_CLUSTERS:
        return float("nan"), float("nan")
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _effects(said: Mapping[str, Sequence[Sides]], questions: ndarray, index: int) -> dict[str, ndarray]:
    """Reading up minus down, [draw, 1 + question]: with all questions, then each left out in turn."""
    rows = [np.arange(len(questions))]
    rows += [np.flatnonzero(questions != q) for q in dict.fromkeys(questions.tolist())]
    return {
        kind: np.array(
            [[float((up.taken.pooled(r) - down.taken.pooled(r))[index]) for r in rows] for up, down in some]
        )
        for kind, some in said.items()
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


def pairing_p(effect: float, permuted: ndarray, scaffolds: int) -> float:
    """Share of maps fitted on shuffled pairings that do as well; NaN below MIN_CLUSTERS scaffolds: too few to shuffle."""
    return upper_p(effect, permuted) if scaffolds >= MIN_CLUSTERS else float("nan")


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
        p=pairing_p(carried[0], permuted, len(way.train[0][0].scaffolds)), cosine=float(cosine),
        controls=len(permuted), questions=len(effects["native"][0]) - 1, n=n,
        judge=way.bench.reader.judge, unit=way.bench.reader.unit,
    )  # fmt: skip
