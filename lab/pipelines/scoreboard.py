"""The scoreboard: estimator x pooling x trait, held against the known truth of Hearth.

Directions are made from contrastive prompts of each trait on the *extract* questions, as for any
model. What they are worth is measured on characters with known z: layer, estimator and pooling are
chosen on some characters with the *select* questions and reported on others with the *test*
questions. The ceiling is what the exact judge itself can tell of z from the same replies.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from lab.pipelines.compare import (
    CompareConfig,
    Job,
    Measured,
    Progress,
    Runner,
    resolve_model,
    resolve_trait_set,
)
from lab.pipelines.poles import poles_of
from lab.pipelines.replies import POOLED
from lab.recipes import Maker, Reading, agreement, by_scaffold, explained, make_directions, read_all
from lab.records import LabError, Position, Split, Trait, TraitSet
from lab.store import Store

SEED = 2026
ROW = (
    "organism", "trait", "estimator", "pooling", "layer", "r2", "ceiling", "share_of_ceiling", "leakage", "selected",
)  # fmt: skip
"""What `--json` says of a row; all else is in `document`'s "details"."""


@dataclass(frozen=True)
class Row:
    """One estimator and pooling for one trait of one organism.

    r2: share of the variance of z over test characters that the projections explain, with a 95 %
    interval over characters; ceiling: the same for the exact judge's reading of the same replies;
    leakage: share of the projections' variance that other traits explain beyond this one; select_r2:
    what r2 was where the layer was chosen; selected: the recipe with the best select_r2 of its trait.
    """

    organism: str
    trait: str
    estimator: str
    pooling: Position
    layer: int
    r2: float
    low: float
    high: float
    ceiling: float
    share_of_ceiling: float
    leakage: float
    select_r2: float
    selected: bool
    n: int


@dataclass(frozen=True)
class Agreement:
    """How alike the recipes of one trait rank the test characters: correlations, [recipe, recipe]."""

    organism: str
    trait: str
    recipes: tuple[Maker, ...]
    r: NDArray[np.float64]


@dataclass(frozen=True)
class Scoreboard:
    """All rows, best recipe of a trait first, and the agreement of the recipes."""

    rows: tuple[Row, ...]
    agreements: tuple[Agreement, ...]


@dataclass(frozen=True)
class _Population:
    """Characters with known z and their replies to the questions of one split."""

    z: NDArray[np.float64]
    states: dict[Position, NDArray[np.float64]]
    judged: NDArray[np.float64]


@dataclass(frozen=True)
class ScoreConfig:
    """What to score; how many characters a recipe is chosen on and how many it is reported on."""

    models: tuple[str, ...]
    traits: tuple[str, ...] = ()
    """Names; none: all of Hearth."""
    select: int = 48
    test: int = 72
    max_new_tokens: int = 70
    seed: int = 0


def scoreboard(config: ScoreConfig, store: Store, progress: Progress) -> Scoreboard:
    """Rows of every organism named. LabError for models that do not speak Hearth and unknown traits."""
    from lab.world.latent import TRAITS

    unknown = [t for t in config.traits if t not in TRAITS]
    if unknown:
        raise LabError(f"Hearth has no trait {', '.join(unknown)}; it has {', '.join(TRAITS)}")
    if min(config.select, config.test) < len(TRAITS) + 3:
        raise LabError(
            f"expected at least {len(TRAITS) + 3} characters to select and to test on, got {config.select} and "
            f"{config.test}; leakage is told from {len(TRAITS)} traits"
        )
    rows: list[Row] = []
    agreements: list[Agreement] = []
    for k, name in enumerate(config.models):
        part = lambda stage, share, k=k: progress(stage, (k + share) / len(config.models))  # noqa: E731
        made = _organism(name, config, store, part)
        rows += made.rows
        agreements += made.agreements
    return Scoreboard(tuple(rows), tuple(agreements))


def document(found: Scoreboard) -> dict[str, list[dict[str, object]]]:
    """What `lab scoreboard --json` prints: rows with the keys `ROW`, their details, agreement of the recipes."""
    rows = [asdict(row) for row in found.rows]
    apart = {"r2", "ceiling", "share_of_ceiling", "leakage", "selected"}
    return {
        "rows": [{key: row[key] for key in ROW} for row in rows],
        "details": [{key: value for key, value in row.items() if key not in apart} for row in rows],
        "agreements": [
            {
                "organism": a.organism, "trait": a.trait, "recipes": [" ".join(maker) for maker in a.recipes],
                "r": a.r.tolist(),
            }
            for a in found.agreements
        ],
    }  # fmt: skip


def markdown(found: Scoreboard) -> str:
    """The selected recipes as the table of the README: a trait a line, three columns per organism."""
    chosen = {(r.trait, r.organism): r for r in found.rows if r.selected}
    organisms = list(dict.fromkeys(r.organism for r in found.rows))
    heads = ["trait", *(h for o in organisms for h in (f"{o} R² with z", "judge", "leakage"))]
    lines = [heads, ["---"] * len(heads)]
    for trait in dict.fromkeys(r.trait for r in found.rows):
        cells = [trait]
        for o in organisms:
            r = chosen[trait, o]
            interval = f"{_short(r.r2)} [{_short(r.low)}, {_short(r.high)}]"
            cells += [interval, _short(r.ceiling), _short(r.leakage)]
        lines.append(cells)
    return "\n".join("|---" * len(c) + "|" if c[0] == "---" else f"| {' | '.join(c)} |" for c in lines)


def _short(value: float) -> str:
    """Two decimals, without the zero before the point."""
    return f"{value:.2f}".replace("0.", ".", 1)


def hearth_traits(questions: TraitSet, names: Sequence[str] = ()) -> TraitSet:
    """Traits of Hearth (all without `names`), each at its poles in words of its own, with given questions."""
    from lab.world.latent import TRAITS
    from lab.world.library import library
    from lab.world.scaffolds import contrast

    rng = np.random.default_rng(SEED)
    traits: tuple[Trait, ...] = tuple(contrast(rng, library(), t) for t in TRAITS)
    kept = tuple(t for t in traits if not names or t.name in names)
    return TraitSet("hearth-all", kept, questions.questions)


def _organism(name: str, config: ScoreConfig, store: Store, progress: Progress) -> Scoreboard:
    progress(f"loading {name}", 0.0)
    from lab.models import load
    from lab.world.latent import INDEX

    loaded = load(resolve_model(name))
    questions = resolve_trait_set("auto", [loaded])
    if questions.name != "hearth":
        raise LabError(
            f"{name} does not speak Hearth; the scoreboard needs the known truth of the shipped organisms"
        )
    traits = hearth_traits(questions, config.traits)
    generation = CompareConfig((name,), (), seed=config.seed, max_new_tokens=config.max_new_tokens)
    total = 2 * len(traits.traits) * len(traits.of("extract"))
    total += config.select * len(traits.of("select")) + config.test * len(traits.of("test"))
    done = 0

    def tick(n: int) -> None:
        nonlocal done
        done += n
        progress(f"replies of {loaded.identity.name}", 0.8 * done / total)

    runner = Runner(loaded, generation, store, 0, tick)
    extract = TraitSet(traits.name, traits.traits, traits.of("extract"))
    poles = poles_of(extract, runner)
    select = _population(traits, "select", config.select, runner)
    test = _population(traits, "test", config.test, runner)
    progress(f"the exact judge has read {loaded.identity.name}", 0.85)
    rng = np.random.default_rng([config.seed, 3])
    rows: list[Row] = []
    agreements: list[Agreement] = []
    for done_traits, trait in enumerate(traits.traits, 1):
        i = INDEX[trait.name]
        directions = make_directions({p: poles[trait.name].of(p, "extract") for p in POOLED})
        readings = read_all(directions, select.states, test.states, select.z, test.z, i, rng)
        ceiling = float(explained(test.judged[:, i], test.z[:, i]))
        rows += [_row(loaded.identity.name, trait.name, r, ceiling, k == 0) for k, r in enumerate(readings)]
        names: tuple[Maker, ...] = tuple((r.recipe.estimator, r.recipe.position) for r in readings)
        found = agreement(directions, readings, test.states)
        agreements.append(Agreement(loaded.identity.name, trait.name, names, found))
        progress(f"recipes for {trait.name}", 0.85 + 0.15 * done_traits / len(traits.traits))
    return Scoreboard(tuple(rows), tuple(agreements))


def _row(organism: str, trait: str, found: Reading, ceiling: float, selected: bool) -> Row:
    recipe = found.recipe
    share = found.r2 / ceiling if ceiling > 0 else float("nan")
    return Row(
        organism, trait, recipe.estimator, recipe.position, recipe.layer, found.r2, found.low, found.high,
        ceiling, share, found.leakage, found.select_r2, selected, found.n,
    )  # fmt: skip


def _population(traits: TraitSet, split: Split, n: int, runner: Runner) -> _Population:
    """Characters that training never showed, asked the questions of `split`; read by the judge."""
    from lab.world.corpus import HELD_OUT
    from lab.world.judge import judge_texts
    from lab.world.latent import Z_LIMIT
    from lab.world.library import library
    from lab.world.scaffolds import NO_EXTRAS, REGISTERS, named_character, random_persona, render

    lib, questions = library(), traits.of(split)
    people, jobs = [], []
    for index in range(n):
        rng = np.random.default_rng([SEED, ("select", "test").index(split), index])
        persona = random_persona(rng, lib, int(rng.integers(3, 8)), lib.personas[-HELD_OUT:])
        who = named_character(rng, lib, persona, NO_EXTRAS)
        people.append(np.clip(who.z, -Z_LIMIT, Z_LIMIT))
        text = render(who, REGISTERS[index % len(REGISTERS)], rng, lib).text
        jobs.append([Job(f"character {index}", 0, q, text) for q in questions])
    measured: list[Measured] = runner.measure(jobs)
    scaffolds = np.repeat(np.arange(len(jobs)), len(questions))
    states: dict[Position, NDArray[np.float64]] = {
        p: by_scaffold(np.concatenate([m.pooled[p] for m in measured]), scaffolds) for p in POOLED
    }
    judged = [judge_texts(lib, [r.text for r in m.replies])[0].mean for m in measured]
    return _Population(np.array(people), states, np.array(judged))
