"""Persona vectors of one model: made on *extract*, layer chosen on *select*, saved with their identity."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from lab.cards import Contrasts, trait_cards, transfers
from lab.directions import Contrast
from lab.estimators import ESTIMATORS
from lab.judging.trust import Screened
from lab.judging.verdicts import Replies
from lab.pipelines.compare import (
    CompareConfig,
    Extraction,
    Progress,
    extract_side,
    resolve_model,
    resolve_trait_set,
)
from lab.pipelines.judging import check_filter, screening
from lab.pipelines.poles import Poles, Told, poles_of, scenario_poles, screened
from lab.pipelines.replies import POOLED, Runner
from lab.prompts.questions import asked_by
from lab.records import Elicitation, LabError, ModelIdentity, Position, Question, Split, TraitSet
from lab.records.cards import PoleReply, RecipeAgreement, RemovedReply, TraitBook, TraitCard
from lab.store import Store, content_key
from lab.vectors.files import Format, load, save
from lab.vectors.record import PersonaVector

SPLITS: tuple[Split, ...] = get_args(Split)
Which = Position | Literal["selected"]
"""A pooling's mean difference, or the recipe that *select* speaks for."""
LEAST_PAIRS = 4
"""Questions of *extract* and of *select* that a filter must leave with a reply at both poles."""


@dataclass(frozen=True)
class ExtractConfig:
    """Whose directions to make, of what."""

    model: str
    trait_set: str = "auto"
    dtype: str = "float32"
    seed: int = 0
    max_new_tokens: int = 40
    screen: str = ""
    """A judge as `lab judge` names them, whose filter the replies must pass; "" takes all."""
    key_variable: str = ""
    """Name of the environment variable with the key of an API judge; "" sends none."""
    questions: tuple[Question, ...] = ()
    """Asked in place of the trait set's own, if any."""


def extract(config: ExtractConfig, store: Store, progress: Progress) -> TraitBook:
    """Extract every trait at every pooling and save each as `<trait>.<pooling>.safetensors` in a run.

    The files are `lab.vectors.record.PersonaVector`: all layers, the chosen one named. Those of a pooling
    are mean differences; `<trait>.selected.safetensors` is made by the recipe that was selected on *select*,
    whatever its estimator, pooling and layer. Traits with enough scenarios have a second set,
    `<trait>.<pooling>.scenario.safetensors`. Beside them: how every recipe separates the poles on *test*, how
    alike recipes read, how far one elicitation's direction reads the other's replies, the test replies, and
    what a filter removed. Replies are shared with `compare` through the cache. The states of one trait at a
    time are held.
    """
    if config.screen:
        _check_screen(config.screen)
    progress("loading model", 0.0)
    from lab.models import load as load_model

    loaded = load_model(resolve_model(config.model), config.dtype)
    traits = asked_by(resolve_trait_set(config.trait_set, [loaded]), config.questions)
    settings = {k: v for k, v in asdict(config).items() if k not in ("model", "trait_set", "questions")}
    run = "extract-" + content_key("extract-6", loaded.identity.fingerprint, asdict(traits), settings)[:10]
    if store.has(run):
        progress("found a finished run", 1.0)
        return store.load_traits(run)
    total = 2 * sum(len(traits.questions) + len(t.scenarios) for t in traits.traits)
    stage, done = f"replies of {loaded.identity.name}", 0

    def tick(n: int) -> None:
        nonlocal done
        done += n
        progress(stage, 0.02 + 0.9 * min(1.0, done / (total * (2 if config.screen else 1))))

    base = CompareConfig(
        (config.model,), (), config.trait_set, config.dtype, config.seed, config.max_new_tokens
    )
    runner = Runner(loaded, base, store, 0, tick)
    told: dict[Elicitation, Told] = {"instruction": poles_of(traits, runner)}
    told["scenario"] = scenario_poles(traits, runner)
    removed: list[RemovedReply] = []
    if config.screen:
        stage = f"{config.screen} filters"
        judge = screening(config.screen, config.key_variable, loaded, traits, runner, store, tick)
        told, removed = _screen(traits, told, judge)
    name, rng = loaded.identity.name, np.random.default_rng([config.seed, 1, 0])
    made = extract_side(name, loaded, traits, base, runner, rng, POOLED, told["instruction"])
    progress("recipes", 0.92)
    found = _book(run, config, loaded.identity, traits, made, told, removed)
    store.save_traits(found, lambda folder: _write(folder, found, config, traits, made, told))
    progress("done", 1.0)
    return found


def _check_screen(spec: str) -> None:
    """LabError for a judge that cannot filter, in words of `lab extract`."""
    try:
        check_filter(spec)
    except LabError as error:  # the judge's own words name the option of `lab judge`
        raise LabError(
            str(error).replace("add --judge", "give --screen").replace("--judge", "--screen")
        ) from error


def contrasts_of(poles: Poles) -> Contrasts:
    """Both poles of a trait at every pooling on every split."""
    return {p: {s: poles.of(p, s) for s in SPLITS} for p in POOLED}


def read_recipes(
    contrasts: Mapping[Elicitation, Contrasts], rng: np.random.Generator, *, model: str, trait: str
) -> tuple[list[TraitCard], list[RecipeAgreement]]:
    """Cards of every recipe of a trait by each elicitation, and how alike those by instruction read."""
    cards, agreements = [], []
    for way, contrast in contrasts.items():
        more, alike = trait_cards(contrast, rng, model=model, trait=trait, elicitation=way)
        cards += more
        agreements += alike if way == "instruction" else []
    return cards, agreements


def _book(
    run: str, config: ExtractConfig, model: ModelIdentity, traits: TraitSet, made: Extraction,
    told: Mapping[Elicitation, Mapping[str, Poles]], removed: Sequence[RemovedReply],
) -> TraitBook:  # fmt: skip
    """How well every recipe of every trait reads, by each elicitation."""
    cards, agreements, moved, replies = [], [], [], []
    for k, trait in enumerate(traits.traits):
        contrasts: dict[Elicitation, Contrasts] = {
            way: contrasts_of(poles[trait.name]) for way, poles in told.items() if trait.name in poles
        }
        rng = np.random.default_rng([config.seed, 5, k])
        mine, alike = read_recipes(contrasts, rng, model=model.name, trait=trait.name)
        cards += mine
        agreements += alike
        moved += transfers(contrasts, mine, rng)
        replies += _replies(model.name, made, trait.name)
    return TraitBook(
        run, model, made.depth, tuple(cards), tuple(agreements), tuple(replies), tuple(moved), tuple(removed)
    )


def _write(
    folder: Path, found: TraitBook, config: ExtractConfig, traits: TraitSet, made: Extraction,
    told: Mapping[Elicitation, Mapping[str, Poles]],
) -> None:  # fmt: skip
    """The vectors of every trait and elicitation: mean differences by pooling, and the selected recipe."""
    for card in found.cards:
        poles, plain = told[card.elicitation][card.trait], card.estimator == "mean_difference"
        if not (plain or card.selected):
            continue
        vector = _vector(poles, found.model, traits, config, card)
        if card.selected:
            save(vector, folder / vector_file(card.trait, "selected", card.elicitation))
        if plain:
            if card.elicitation == "instruction":
                vector = replace(vector, layer=made.directions[card.trait, card.position].site.layer)
            save(vector, folder / vector_file(card.trait, card.position, card.elicitation))


def vector_file(trait: str, which: Which, elicitation: Elicitation = "instruction") -> str:
    """Name of a vector's file in the folder of a run."""
    return f"{trait}.{which}{'' if elicitation == 'instruction' else f'.{elicitation}'}.safetensors"


def _screen(
    traits: TraitSet, told: Mapping[Elicitation, Told], judge: Callable[[Replies], Screened]
) -> tuple[dict[Elicitation, Told], list[RemovedReply]]:
    """All poles filtered; a trait whose scenarios are filtered away is left to its instructions.

    LabError where too little is left of one by instruction to make and choose a direction.
    """
    by_name = {t.name: t for t in traits.traits}
    kept: dict[Elicitation, Told] = {}
    removed: list[RemovedReply] = []
    for way, poles in told.items():
        lost: dict[str, NDArray[np.bool_]] = {}
        for name, all_of_it in poles.items():
            passed, out = screened(all_of_it, by_name[name], way, judge)
            removed += out
            left = min(_pairs(passed.of("reply_mean", split)) for split in ("extract", "select"))
            if left >= LEAST_PAIRS and passed.lost is not None:
                lost[name] = passed.lost
            elif way == "instruction":
                raise LabError(
                    f"{name}: the filter leaves {left} questions of extract or select with a reply at both "
                    f"poles, expected at least {LEAST_PAIRS} (it removed {len(out)} replies); leave the trait "
                    "out (--traits SET:NAMES), filter by another judge, or by none"
                )
        kept[way] = poles.without(lost)
    return kept, removed


def _pairs(contrast: Contrast) -> int:
    """Questions with a usable reply at both poles."""
    whole = ~np.isnan(contrast.acts).any(axis=(1, 2))
    up, down = (set(contrast.questions[whole & (contrast.positive == pole)]) for pole in (True, False))
    return len(up & down)


def _replies(model: str, made: Extraction, trait: str) -> list[PoleReply]:
    """The test replies at both poles, placed between the poles of *select*."""
    pole, direction = made.poles[trait], made.directions[trait, "reply_mean"]
    along = pole.pooled["reply_mean"][:, direction.site.layer].astype(np.float64) @ direction.vector
    split = np.array([j.question.split for j in pole.jobs])
    up = pole.positive
    high = np.nanmean(along[up & (split == "select")])
    low = np.nanmean(along[~up & (split == "select")])
    return [
        PoleReply(
            model, trait, "positive" if up[i] else "negative", job.question.text, job.system, reply.text,
            float((along[i] - (high + low) / 2) / ((high - low) / 2)),
        )
        for i, (job, reply) in enumerate(zip(pole.jobs, pole.replies, strict=True))
        if job.question.split == "test"
    ]  # fmt: skip


def _vector(
    poles: Poles, identity: ModelIdentity, traits: TraitSet, config: ExtractConfig, card: TraitCard
) -> PersonaVector:
    """What a card's recipe makes at all layers, as long as the poles are apart, its layer named."""
    contrast = poles.of(card.position, "extract")
    estimate = ESTIMATORS[card.estimator]
    rows = estimate(contrast.acts, contrast.positive, contrast.questions).astype(np.float32)
    settings = {
        "estimator": card.estimator, "questions": len(np.unique(contrast.questions)), "seed": config.seed,
        "max_new_tokens": config.max_new_tokens, "trait_set": traits.name, "elicitation": card.elicitation,
        "screened_by": config.screen,
    }  # fmt: skip
    return PersonaVector(
        card.trait, rows, card.layer, card.position, "extract", identity.name,
        identity.fingerprint, identity.dtype, settings=settings,
    )  # fmt: skip


def export(
    store: Store, run: str, trait: str, path: Path, which: Which = "selected",
    elicitation: Elicitation = "instruction", format: Format | None = None,
) -> tuple[str, ...]:  # fmt: skip
    """Write one vector of an extraction to `path` in another tool's format.

    `which`: the recipe selected, or the mean difference of a pooling. Returns what that format cannot hold, in
    sentences. LabError for an unknown run or trait, and for a vector that the run has not.
    """
    folder = store.folder(run)
    source = folder / vector_file(trait, which, elicitation)
    if not source.is_file():
        there = sorted(p.stem for p in folder.glob("*.safetensors"))
        raise LabError(
            f"run {run} has no vector {source.stem}; "
            + (f"it has {', '.join(there)}" if there else "it is not a run of `lab extract`")
        )
    return save(load(source), path, format)
