"""Claims put to the test: finds the experiments, runs one, keeps what came out, gathers the report.

An experiment is a file of `experiments/claims` with a docstring (the sections of `records.claims.SECTIONS`), a TITLE,
a frozen CONFIG and a smaller QUICK one (both `ClaimConfig`s), and three functions:

    COMPANIONS                                            the `ClaimConfig` fields of NAMED that it reads, if any
    observe(config, store, progress) -> observations      runs models; stages are cached in the store
    judge(observed, rng) -> effects                       pure: the verdict rule
    COMBINE(verdicts) -> verdict                          `lab.claims.all_of` or `any_of`

So a verdict can be tested on simulated observations, and a report needs no model.
"""

import hashlib
import inspect
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from lab.claims import Combine, conclude
from lab.models import files_digest
from lab.pipelines.compare import DATA, Progress, resolve_model
from lab.records import LabError
from lab.records.claims import SECTIONS, Effect, Finding, Observation, TestedModel
from lab.store import Store, content_key, readable

FOLDER = DATA.parent / "experiments" / "claims"
SHIPPED = DATA / "claims"
"""Findings on the shipped models, as runs."""
KIND = "claims"
NAMED = ("second_seed", "next_version", "experts", "base")
"""Fields of `ClaimConfig` that name a companion of the first model."""


@dataclass(frozen=True)
class ClaimConfig:
    """What every claim is tested with; experiments add fields of their own.

    models: the pair (or those that are read one by one). The others are companions that some claims need, "" where
    there is none: another seed of the first model's recipe, its next version, its twin as a mixture of experts, and
    the base model it grew from.
    """

    models: tuple[str, ...] = ("hearth-a", "hearth-b")
    second_seed: str = "hearth-a2"
    next_version: str = "hearth-a-next"
    experts: str = "hearth-a-moe"
    base: str = "hearth-base"
    traits: str = "auto"
    scaffolds: int = 12
    """How many of the shipped scaffolds, in the order of their files; 0: all."""
    questions: int = 0
    """How many questions of each split; 0: all."""
    dtype: str = "float32"
    seed: int = 0
    max_new_tokens: int = 40
    quick: bool = False
    """Whether this is the smaller run; only told, not read."""

    @property
    def companions(self) -> tuple[str, ...]:
        """The companions that are there."""
        return tuple(c for n in NAMED if (c := getattr(self, n)))


class Experiment(Protocol):
    """The module of one claim."""

    __doc__: str
    __name__: str
    TITLE: str
    CONFIG: ClaimConfig
    QUICK: ClaimConfig
    COMBINE: Combine

    def observe(self, config: ClaimConfig, store: Store, progress: Progress) -> Sequence[Observation]: ...

    def judge(self, observed: Sequence[Observation], rng: np.random.Generator) -> Sequence[Effect]: ...


@dataclass(frozen=True)
class Claim:
    """One row of the list: its number, and the experiment that tests it."""

    number: int
    file: Path
    experiment: Experiment

    @property
    def companions(self) -> tuple[str, ...]:
        """Which companions of the first model its experiment reads."""
        return getattr(self.experiment, "COMPANIONS", ())

    @property
    def title(self) -> str:
        """The claim in a sentence."""
        return self.experiment.TITLE

    @property
    def sections(self) -> dict[str, str]:
        """Question, prediction, measure, null, verdict rule and what would change it, from the docstring."""
        return sections_of(inspect.cleandoc(self.experiment.__doc__), self.file)


def sections_of(text: str, file: Path) -> dict[str, str]:
    """The sections of a docstring. LabError for one that is missing."""
    found = {}
    for paragraph in re.split(r"\n\s*\n", text):
        head = next((s for s in SECTIONS if paragraph.startswith(f"{s}. ")), None)
        if head:
            found[head] = " ".join(paragraph.removeprefix(f"{head}. ").split())
    missing = [s for s in SECTIONS if s not in found]
    if missing:
        raise LabError(
            f"{file}: the docstring has no section {', '.join(missing)}; begin a paragraph with it, and a full stop"
        )
    return found


def claims(folder: Path = FOLDER) -> tuple[Claim, ...]:
    """Every claim with an experiment, by number. LabError where the experiments are not there."""
    files = sorted(folder.glob("c[0-9][0-9]_*.py"))
    if not files:
        raise LabError(f"no experiments in {folder}; claims are run from a checkout of the repository")
    return tuple(Claim(int(f.stem[1:3]), f, _module(f)) for f in files)


def claim(number: int, folder: Path = FOLDER) -> Claim:
    """One claim by number. LabError for a number that no experiment has."""
    known = claims(folder)
    for each in known:
        if each.number == number:
            return each
    raise LabError(f"no claim {number}; there are {', '.join(str(c.number) for c in known)}")


def _module(file: Path) -> Experiment:
    name = f"lab_claims_{file.stem}"
    if name not in sys.modules:
        spec = spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return cast(Experiment, sys.modules[name])


# ------------------------------------------------------------------ a run


def configured(
    each: Claim, models: Sequence[str] = (), quick: bool = False, seed: int = 0, **more: object
) -> ClaimConfig:
    """The claim's own settings, on other models if some are named: then without companions but those in `more`.

    LabError for a companion that the claim does not read.
    """
    useless = [n for n in NAMED if more.get(n) and n not in each.companions]
    if useless:
        known = ", ".join(each.companions) or "no companion"
        raise LabError(f"claim {each.number} reads {known}; leave out {', '.join(useless)}")
    config = each.experiment.QUICK if quick else each.experiment.CONFIG
    if models:
        config = replace(config, models=tuple(models), **dict.fromkeys(NAMED, ""))
    config = replace(config, **{n: "" for n in NAMED if n not in each.companions})
    return replace(config, seed=seed, quick=quick, **{k: v for k, v in more.items() if v})  # type: ignore[arg-type]


def run(each: Claim, config: ClaimConfig, store: Store, progress: Progress) -> Finding:
    """Test a claim, or find that it was tested with these very settings, files and rule."""
    if not config.models:
        raise LabError(f"claim {each.number} needs a model; give --models NAME NAME")
    tested = [tested_model(name) for name in dict.fromkeys((*config.models, *config.companions))]
    key = run_key(each, config, tested)
    if store.has(key):
        progress("found a finished run", 1.0)
        return load(key, store)
    observed = tuple(each.experiment.observe(config, store, progress))
    finding = judged(each, config, tested, observed, key)
    save(finding, store)
    progress("done", 1.0)
    return load(key, store)


def judged(
    each: Claim, config: ClaimConfig, tested: Sequence[TestedModel], observed: Sequence[Observation], key: str
) -> Finding:
    """The finding that follows from the observations by the claim's rule."""
    effects = tuple(each.experiment.judge(observed, np.random.default_rng([config.seed, each.number])))
    said, over = conclude(effects, each.experiment.COMBINE)
    return Finding(
        key, each.number, each.title, each.sections, tuple(tested), said, over, asdict(config), effects,
        tuple(observed),
    )  # fmt: skip


def tested_model(name: str) -> TestedModel:
    """A model as it will be read; the digest of a hub name is the name itself."""
    path = resolve_model(name)
    here = (Path(path) / "config.json").is_file()
    label = Path(path).name if here else name
    return TestedModel(label, name, files_digest(Path(path)) if here else name)


def run_key(each: Claim, config: ClaimConfig, tested: Sequence[TestedModel]) -> str:
    """The id of the run: the same files, settings and rule give the same id."""
    rule = hashlib.sha256(each.file.read_bytes()).hexdigest()
    settings = {k: v for k, v in asdict(config).items() if k not in ("models", "quick", *NAMED)}
    places = [len(config.models), *(bool(getattr(config, n)) for n in NAMED)]
    digests = [t.digest for t in tested]
    return f"claim{each.number:02}-" + content_key("claims-1", rule, settings, places, digests)[:10]


def save(finding: Finding, store: Store) -> None:
    """Write a finding as a run of two tables."""
    apart = ("observations", "effects", "models", "run", "created")
    more = {k: v for k, v in asdict(finding).items() if k not in apart}
    rows = {"observations": finding.observations, "effects": finding.effects}
    tables = {name: [asdict(r) for r in each] for name, each in rows.items()}
    title = f"claim {finding.claim}: {finding.said}"
    store.save_records(finding.run, KIND, finding.models, tables, more, title)


def load(run_id: str, store: Store) -> Finding:
    """The finding of a finished run. LabError when it is missing, damaged or no run of a claim."""
    data, rows = store.load_rows(run_id, KIND, ("observations", "effects"))
    with readable(run_id):
        return Finding(
            data["run"], data["claim"], data["title"], data["sections"],
            tuple(TestedModel(**m) for m in data["models"]), data["verdict"], data["over"], data["settings"],
            tuple(Effect(**r) for r in rows["effects"]), tuple(Observation(**r) for r in rows["observations"]),
            data["info"]["created"],
        )  # fmt: skip


# ------------------------------------------------------------------ the report


def findings(stores: Sequence[Store]) -> tuple[Finding, ...]:
    """The newest finding of every claim and set of models, quick looks by themselves; no model is needed."""
    newest: dict[tuple[object, ...], tuple[str, Finding]] = {}
    for store in stores:
        for info in store.runs():
            if info.kind != KIND:
                continue
            found = load(info.id, store)
            key = (found.claim, found.quick, tuple((m.name, m.digest) for m in found.models))
            if key not in newest or newest[key][0] < info.created:
                newest[key] = (info.created, found)
    return tuple(f for _, f in sorted(newest.values(), key=lambda pair: (pair[1].claim, pair[1].over)))


def rows(found: Sequence[Finding], figure: Callable[[Finding], str]) -> list[dict[str, object]]:
    """The lines of `lab claims report --json`: one per effect that decides."""
    return [
        {
            "claim": f.claim, "verdict": f.verdict, "effect": e.effect, "low": e.low, "high": e.high, "unit": e.unit,
            "null": e.null, "n": e.n, "models": e.models, "figure": figure(f), "run": f.run, "what": e.what,
            "bar": e.bar, "side": e.side, "p": e.p, "row_verdict": e.verdict, "over": f.over, "why": e.why,
        }
        for f in found
        for e in f.effects
        if e.decides
    ]  # fmt: skip


# ------------------------------------------------------------------ as a job


@dataclass(frozen=True)
class ClaimJob:
    """A claim to be tested on two models, for what starts jobs by one settings object."""

    number: int
    models: tuple[str, ...]
    quick: bool = False
    seed: int = 0


def put_to_test(job: ClaimJob, store: Store, progress: Progress) -> Finding:
    """Test a claim on the models named; on none: on the shipped ones with their companions."""
    each = claim(job.number)
    return run(each, configured(each, job.models, job.quick, job.seed), store, progress)
