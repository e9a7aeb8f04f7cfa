"""What pages start in the background; `loaders.runner` holds the one job that runs."""

from collections.abc import Sequence
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from dashboards import loaders
from lab.store import Store

if TYPE_CHECKING:
    from dashboards.jobs import Job, Progress
    from lab.pipelines.live import Speaker
    from lab.pipelines.watch import WatchConfig

KEPT_MODELS = 3
"""Loaded models that the server keeps for talking; the one made ready first goes first."""


def busy() -> bool:
    """Whether a job runs, so that no other can be started."""
    job = loaders.runner().job
    return job is not None and job.running


def in_background(job: str, config: object, about: str = "") -> "Job":
    """Start a job by module and function of (config, store, progress), which is imported when it runs."""
    found = loaders.store()
    return loaders.runner().start(lambda report: resolve_name(job)(config, found, report), about)


def test_claim(number: int, models: tuple[str, ...], quick: bool) -> "Job":
    """Test a claim on two models."""
    from lab.pipelines.claims import ClaimJob

    return in_background(
        "lab.pipelines.claims:put_to_test", ClaimJob(number, models, quick), f"claim {number}"
    )


def ask_battery(model: str, conditions: Sequence[str], items: str, judge: str) -> "Job":
    """Ask a model the items of the continuity battery. LabError for items or a scaffold that cannot be read.

    conditions: names of the battery's own or of scaffolds that come with the lab; items, judge: "" for the usual ones.
    """
    from lab.pipelines.continuity import AUTO, ContinuityConfig
    from lab.pipelines.continuity_items import CONDITIONS, shipped_items, wearing
    from lab.prompts.scaffolds import read_scaffold, stated_levels

    own, paths = {c.name: c for c in CONDITIONS}, loaders.scaffold_paths()
    made = tuple(
        own[n] if n in own else wearing(read_scaffold(Path(paths[n])), stated_levels(Path(paths[n])))
        for n in conditions
    )
    asked = shipped_items(items) if items else None
    config = ContinuityConfig(model, made, asked, judge or AUTO)
    return in_background("lab.pipelines.continuity:continuity", config, f"continuity of {model}")


def prepare(models: list[str], trait_set: str = "auto") -> None:
    """Make models ready to be talked to."""
    folder, ready = str(loaders.runs_folder()), loaders.speakers()

    def work(report: "Progress") -> None:
        from lab.pipelines.live import prepare as make

        for k, model in enumerate(models):
            made = make(
                model, Store(Path(folder)), lambda stage, part, k=k: report(stage, (k + part) / len(models)),
                trait_set,
            )  # fmt: skip
            ready[folder, model, trait_set] = made
            while len(ready) > KEPT_MODELS:
                ready.pop(next(iter(ready)))

    loaders.runner().start(work)


def learn_ordinary(speakers: "list[Speaker]", system: str) -> "Job":
    """Learn what is ordinary for models under a system prompt."""
    folder = str(loaders.runs_folder())

    def work(report: "Progress") -> None:
        for k, one in enumerate(speakers):
            one.learn(
                system,
                Store(Path(folder)),
                lambda stage, part, k=k: report(stage, (k + part) / len(speakers)),
            )

    return loaders.runner().start(work)


def learn(config: "WatchConfig") -> "Job":
    """Learn it for a conversation's model and system prompt; the one learned first goes first."""
    folder, key, ready = str(loaders.runs_folder()), loaders.watched(config), loaders.watchers()

    def work(report: "Progress") -> None:
        from lab.pipelines.watch import make_watcher

        ready[key] = make_watcher(config, Store(Path(folder)), report)
        while len(ready) > KEPT_MODELS:
            ready.pop(next(iter(ready)))

    return loaders.runner().start(work)
