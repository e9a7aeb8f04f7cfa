"""The assistant axis of a model: where no scaffold, a base model and every role stand, and whether two agree.

The axis is made on *extract* questions, its layer chosen on *select*, everything reported on *test*.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lab.axis import (
    RoleStates,
    across_axis,
    assistant_axis,
    loading_agreement,
    loading_intervals,
    loadings,
    loadings_beside,
    means_beside,
    parts_default,
    persona_space,
    reliability,
    reply_loadings,
    role_means,
)
from lab.directions import Contrast, layer_scores
from lab.pipelines.base_model import ACROSS, ALONG, Heard, Pair, place_base
from lab.pipelines.compare import (
    DATA,
    CompareConfig,
    Job,
    Progress,
    Runner,
    labels_of,
    resolve_model,
    resolve_trait_set,
)
from lab.prompts.personas import addressed, read_role_set
from lab.prompts.questions import asked_by
from lab.records import LabError, ModelIdentity, Position, Question, Role, RoleSet, Split, TraitSet
from lab.records.personas import DEFAULT, NOBODY, AxisSummary, PersonaMap, RoleLanding, RoleReply, said_by
from lab.stats import MIN_CLUSTERS
from lab.store import Store, content_key
from lab.vectors.files import save
from lab.vectors.record import PersonaVector

if TYPE_CHECKING:
    from lab.models import LoadedModel

SPLITS: tuple[Split, ...] = ("extract", "select", "test")
SEED = 2026


@dataclass(frozen=True)
class AxisConfig:
    """What to run: one or two models, who is asked, and what."""

    models: tuple[str, ...]
    roles: Path | None = None
    """Folder of role files with the default's; None: the shipped roles, or the personas of Hearth."""
    per_split: int = 8
    """Questions of each split, drawn with a fixed seed: lists often go theme by theme."""
    position: Position = "reply_mean"
    dtype: str = "float32"
    seed: int = 0
    max_new_tokens: int = 40
    trait_set: str = "auto"
    """Whose questions are asked: a set by name, file or folder; see `lab.pipelines.compare.resolve_trait_set`."""
    questions: tuple[Question, ...] = ()
    """Asked in place of the trait set's own, if any."""
    base: str = ""
    """A model that is placed on the axis of the others; "" for none."""


@dataclass(frozen=True)
class _Side:
    """One model's axis [d_model], its roles on *test* questions, and what is said of them."""

    axis: NDArray[np.float64]
    states: RoleStates
    beside: Mapping[str, NDArray[np.float64]]
    """States [question, d_model] of what is no role, on *test* questions."""
    heard: Heard | None
    """What was said on *test* questions, weighed, where a base model is placed."""
    loading: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    summary: AxisSummary
    replies: tuple[RoleReply, ...]


def find_axis(config: AxisConfig, store: Store, progress: Progress) -> PersonaMap:
    """Run (or find) the roles through every model. LabError for anything that the user can mend."""
    _check(config)
    progress("loading models", 0.0)
    from lab.models import load

    models = [load(resolve_model(name), config.dtype) for name in config.models]
    base = load(resolve_model(config.base), config.dtype) if config.base else None
    traits = asked_by(resolve_trait_set(config.trait_set, models), config.questions)
    roles = _roles(config, models)
    told = [addressed(roles, model.identity.name) for model in models]
    questions = _questions(traits, config.per_split)
    identities = tuple(m.identity for m in [*models, *([base] if base else [])])
    given = ("models", "roles", "trait_set", "questions", "base")
    settings = {k: v for k, v in asdict(config).items() if k not in given}
    parts = [[m.fingerprint for m in identities], len(models), settings, [asdict(r) for r in told], questions]
    run = "axis-" + content_key("axis-3", *parts)[:10]
    if store.has(run):
        progress("found a finished run", 1.0)
        return store.load_persona_map(run)
    sides = []
    for k, (label, model) in enumerate(zip(labels_of(models), models, strict=True)):
        part = lambda stage, share, k=k: progress(stage, (k + share) / len(models))  # noqa: E731
        sides.append(_side(label, model, told[k], questions, base, config, store, k, part))
    agreement = None
    if len(sides) == 2:
        rng = np.random.default_rng([config.seed, 4])
        agreement = loading_agreement(*((s.states, s.axis) for s in sides), rng=rng)
    landings = [row for k, side in enumerate(sides) for row in _landings(side, sides[0], [config.seed, 6, k])]
    replies = tuple(reply for side in sides for reply in side.replies)
    result = PersonaMap(run, identities, tuple(s.summary for s in sides), tuple(landings), agreement, replies)
    store.save_persona_map(result, lambda folder: _save_vectors(folder, sides, identities[: len(sides)]))
    progress("done", 1.0)
    return result


def _check(config: AxisConfig) -> None:
    if not 1 <= len(config.models) <= 2:
        raise LabError(f"expected one or two models, got {len(config.models)}")
    if config.per_split < 4:
        raise LabError(f"expected at least 4 questions of each split, got {config.per_split}")
    if config.base and config.per_split < MIN_CLUSTERS:
        raise LabError(
            f"expected at least {MIN_CLUSTERS} questions of each split to place a base model, got {config.per_split}: "
            "with fewer there is no interval, and no telling whether its words lean anywhere"
        )


def _landings(side: _Side, first: _Side, seed: list[int]) -> Iterator[RoleLanding]:
    """Every role, then what is no role; the component across is oriented by that of the `first` model."""
    label, rng = side.summary.model, np.random.default_rng(seed)
    across, _ = across_axis(side.states, side.axis)
    at = role_means(side.states) @ across
    usual = role_means(first.states) @ across_axis(first.states, first.axis)[0]
    flip = -1.0 if np.corrcoef(usual, at)[0, 1] < 0 else 1.0
    places = flip * (at - at.mean()) / at.std()
    for k, name in enumerate(side.states.names):
        low, high = float(side.low[k]), float(side.high[k])
        yield RoleLanding(label, name, float(side.loading[k]), low, high, float(places[k]))
    yield from _beside(label, side.states, (side.axis, flip * across), side.beside, rng)
    if side.heard is not None and parts_default(side.heard.ruler, ALONG, rng):
        yield from _beside(label, side.heard.ruler, (ALONG, flip * ACROSS), side.heard.said, rng)


def _beside(
    label: str, ruler: RoleStates, axes: tuple[NDArray[np.float64], NDArray[np.float64]],
    who: Mapping[str, NDArray[np.float64]], rng: np.random.Generator,
) -> Iterator[RoleLanding]:  # fmt: skip
    """What is no role, on the ruler that the roles make."""
    axis, across = axes
    others = np.array(list(who.values()))
    loading = loadings_beside(ruler, axis, others)
    low, high = loading_intervals(ruler, axis, rng, others=others)
    at = role_means(ruler) @ across
    place = (means_beside(ruler, others) @ across - at.mean()) / at.std()
    for k, name in enumerate(who):
        fixed = name == DEFAULT  # 1 by definition, without error
        bounds = (float("nan"), float("nan")) if fixed else (float(low[k]), float(high[k]))
        yield RoleLanding(label, name, float(loading[k]), *bounds, float(place[k]))


def hearth_roles() -> RoleSet:
    """The named personas of Hearth as roles, five wordings each, and its default assistant."""
    from lab.world.library import library
    from lab.world.scaffolds import NO_EXTRAS, REGISTERS, named_character, render

    lib = library()

    def prompts(persona: object) -> tuple[str, ...]:
        rng = np.random.default_rng([SEED, len(lib.personas)])
        who = named_character(rng, lib, persona, NO_EXTRAS)  # type: ignore[arg-type]
        return tuple(render(who, REGISTERS[i % len(REGISTERS)], rng, lib).text for i in range(5))

    return RoleSet(prompts(lib.assistant), tuple(Role(p.name, prompts(p)) for p in lib.personas))


def _roles(config: AxisConfig, models: Sequence["LoadedModel"]) -> RoleSet:
    if config.roles is not None:
        return read_role_set(config.roles)
    if all(model.trait_set == "hearth" for model in models):
        return hearth_roles()
    return read_role_set(DATA / "personas" / "roles")


def _questions(traits: TraitSet, n: int) -> tuple[Question, ...]:
    """`n` questions of every split, in the order of the list."""
    short = [f"{split} {len(traits.of(split))}" for split in SPLITS if len(traits.of(split)) < n]
    if short:
        raise LabError(f"the trait set {traits.name!r} has fewer than {n} questions: {', '.join(short)}")
    rng, found = np.random.default_rng(SEED), []
    for split in SPLITS:
        those = traits.of(split)
        found += [those[i] for i in sorted(rng.permutation(len(those))[:n])]
    return tuple(found)


def _side(
    label: str, model: "LoadedModel", roles: RoleSet, questions: Sequence[Question], base: "LoadedModel | None",
    config: AxisConfig, store: Store, stream: int, progress: Progress,
) -> _Side:  # fmt: skip
    who = {DEFAULT: roles.default, **{r.name: r.prompts for r in roles.roles}, NOBODY: ("",)}
    groups = [_jobs(name, prompts, questions) for name, prompts in who.items()]
    rows = {split: np.array([q.split == split for q in questions]) for split in SPLITS}
    done = 0
    total = len(groups) * len(questions) + (0 if base is None else (len(groups) + 1) * config.per_split)

    def tick(n: int) -> None:
        nonlocal done
        done += n
        progress(f"replies of {label}", done / total)

    measured = Runner(model, _sampling(label, config), store, stream, tick).measure(groups)
    acts = np.array([m.pooled[config.position] for m in measured])  # [who, question, layer, d_model]
    rng = np.random.default_rng([config.seed, 5, stream])
    layer = _layer(acts[:-1], questions, label, config.position, rng)
    names, states = tuple(r.name for r in roles.roles), acts[:, :, layer].astype(np.float64)
    made = RoleStates(names, states[0, rows["extract"]], states[1:-1, rows["extract"]])
    test = RoleStates(names, states[0, rows["test"]], states[1:-1, rows["test"]])
    axis = assistant_axis(made)
    found = loadings(test, axis)
    low, high = loading_intervals(test, axis, rng)
    summary = _summary(label, layer, config.position, test, axis, rng)
    beside, heard = {DEFAULT: states[0, rows["test"]], NOBODY: states[-1, rows["test"]]}, None
    said = {name: [r.text for r in m.replies] for name, m in zip(who, measured, strict=True)}
    places = reply_loadings(test, axis, states[:, rows["test"]])
    replies = [
        r
        for jobs, name, at in zip(groups, who, places, strict=True)
        for r in _replies(label, jobs, said[name], at)
    ]
    if base is not None:
        told, own = _told(base, questions, config, store), said.pop(NOBODY)
        placed = place_base(
            Pair(base, model, label, layer, (axis, across_axis(test, axis)[0])), questions, config.position,
            told, own, said, tick,
        )  # fmt: skip
        beside, heard = {**beside, **placed.states}, placed.heard
        unplaced = np.full(rows["test"].sum(), np.nan)
        replies += _replies(label, _jobs(said_by(base.identity.name), ("",), questions), told, unplaced)
    return _Side(axis, test, beside, heard, found, low, high, summary, tuple(replies))


def _replies(
    label: str, jobs: Sequence[Job], said: Sequence[str], places: NDArray[np.float64]
) -> Iterator[RoleReply]:
    """The test replies of one row of the map; `places`: where each of them stands."""
    test = [(job, text) for job, text in zip(jobs, said, strict=True) if job.question.split == "test"]
    for (job, text), place in zip(test, places.tolist(), strict=True):
        yield RoleReply(label, job.condition, job.system, job.question.text, text, place)


def _summary(
    label: str, layer: int, position: Position, test: RoleStates, axis: NDArray[np.float64],
    rng: np.random.Generator,
) -> AxisSummary:  # fmt: skip
    space, (_, across) = persona_space(test, axis), across_axis(test, axis)
    return AxisSummary(
        label, layer, position, "test", reliability(test, axis, rng), float(space.share[0]),
        float(space.cosine[0]), space.needed(0.7), across, len(test.default),
    )  # fmt: skip


def _told(base: "LoadedModel", questions: Sequence[Question], config: AxisConfig, store: Store) -> list[str]:
    """A base model's replies without scaffold.

    With the seeds of a first model, so that a model that is its own base says what it says anyway.
    """
    runner = Runner(base, _sampling(base.identity.name, config), store, 0, lambda n: None)
    return [r.text for r in runner.measure([_jobs(NOBODY, ("",), questions)])[0].replies]


def _jobs(name: str, prompts: Sequence[str], questions: Sequence[Question]) -> list[Job]:
    return [Job(name, i % len(prompts), q, prompts[i % len(prompts)]) for i, q in enumerate(questions)]


def _sampling(label: str, config: AxisConfig) -> CompareConfig:
    return CompareConfig((label,), (), "auto", config.dtype, config.seed, config.max_new_tokens)


def _layer(
    acts: NDArray[np.float32], questions: Sequence[Question], label: str, position: Position,
    rng: np.random.Generator,
) -> int:  # fmt: skip
    """The layer where the default parts best from the roles, chosen on *select*; acts[0] is the default."""
    ids = np.array([q.id for q in questions])

    def contrast(split: Split) -> Contrast:
        rows = np.array([q.split == split for q in questions])
        flat = acts[:, rows].reshape(-1, *acts.shape[2:])
        positive = np.repeat(np.arange(len(acts)) == 0, rows.sum())
        return Contrast(flat, positive, np.tile(ids[rows], len(acts)), split)

    scores = layer_scores(
        contrast("extract"), contrast("select"), rng, 50, model=label, trait="assistant", position=position
    )
    return next(s.layer for s in scores if s.chosen)


def _save_vectors(folder: Path, sides: Sequence[_Side], identities: Sequence[ModelIdentity]) -> None:
    for k, (side, identity) in enumerate(zip(sides, identities, strict=True)):
        rows = np.full((identity.layers, identity.d_model), np.nan, np.float32)
        rows[side.summary.layer] = side.axis
        vector = PersonaVector(
            "assistant_axis", rows, side.summary.layer, side.summary.position, "extract", identity.name,
            identity.fingerprint, identity.dtype, settings={"estimator": "default_minus_roles"},
        )  # fmt: skip
        save(vector, folder / f"assistant_axis.{k}.safetensors")
