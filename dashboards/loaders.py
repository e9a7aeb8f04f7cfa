"""What pages read, cached. The only place of st.cache_data and st.cache_resource."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboards.jobs import Runner
from lab.records import Comparison, PersonaMap, Steering, TraitBook
from lab.records.geometry import GeometryBook, TransferBook
from lab.store import RunInfo, Store

if TYPE_CHECKING:
    from dashboards.jobs import Job, Progress
    from lab.pipelines.geometry import GeometryConfig
    from lab.pipelines.live import Speaker
    from lab.pipelines.watch import WatchConfig, Watcher
    from lab.pipelines.words import WordsConfig
    from lab.records import Scaffold, ScaffoldFile
    from lab.records.atlas import AtlasBook
    from lab.records.similarity import Beside
    from lab.records.trajectories import PathPoint
    from lab.records.words import WordsBook

ROOT = Path(__file__).resolve().parents[1]
KEPT_MODELS = 3
"""Loaded models that the server keeps for talking; the one made ready first goes first."""


def runs_folder() -> Path:
    """`--runs FOLDER` after `--` on streamlit's command line, else $LAB_RUNS, else `runs`."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--runs", default=os.environ.get("LAB_RUNS", "runs"))
    return Path(parser.parse_known_args(sys.argv[1:])[0].runs)


def store() -> Store:
    """The store of finished runs."""
    return Store(runs_folder())


def saved_runs(kind: str = "compare") -> list[RunInfo]:
    """Finished runs of a kind, newest first; not cached, so that new ones show up."""
    return [x for x in store().runs() if x.kind == kind]


@st.cache_resource(max_entries=64, show_spinner=False)
def _manifest(folder: str, run: str, kind: str, created: str) -> dict[str, Any]:
    return Store(Path(folder)).load_rows(run, kind, ())[0]


def manifest(info: RunInfo) -> dict[str, Any]:
    """What a finished run says of itself, without its tables."""
    return _manifest(str(runs_folder()), info.id, info.kind, info.created)


@st.cache_resource(max_entries=8, show_spinner=False)
def _persona_map(folder: str, run: str, created: str) -> PersonaMap:
    return Store(Path(folder)).load_persona_map(run)


def persona_map(info: RunInfo) -> PersonaMap:
    """A finished run of `lab axis`; frozen, so that sessions may share it."""
    return _persona_map(str(runs_folder()), info.id, info.created)


@st.cache_resource(max_entries=8, show_spinner=False)
def _traits(folder: str, run: str, created: str) -> TraitBook:
    return Store(Path(folder)).load_traits(run)


def traits(info: RunInfo) -> TraitBook:
    """A finished run of `lab extract`; frozen, so that sessions may share it."""
    return _traits(str(runs_folder()), info.id, info.created)


@st.cache_resource(max_entries=8, show_spinner=False)
def _steering(folder: str, run: str, created: str) -> Steering:
    return Store(Path(folder)).load_steering(run)


def steering(info: RunInfo) -> Steering:
    """A finished run of `lab steer`; frozen, so that sessions may share it."""
    return _steering(str(runs_folder()), info.id, info.created)


@st.cache_resource(max_entries=8, show_spinner=False)
def _geometry(folder: str, run: str, created: str) -> GeometryBook:
    from lab.pipelines.geometry_runs import load_geometry

    return load_geometry(Store(Path(folder)), run)


def geometry(info: RunInfo) -> GeometryBook:
    """A finished run of `lab geometry`; frozen, so that sessions may share it."""
    return _geometry(str(runs_folder()), info.id, info.created)


@st.cache_resource(max_entries=4, show_spinner=False)
def _paths(folder: str, run: str, created: str) -> "tuple[PathPoint, ...]":
    from lab.pipelines.geometry_runs import load_paths

    return load_paths(Store(Path(folder)), run)


def paths(info: RunInfo) -> "tuple[PathPoint, ...]":
    """Replies of a finished run of `lab geometry`, token by token in the shared frame."""
    return _paths(str(runs_folder()), info.id, info.created)


@st.cache_resource(max_entries=32, show_spinner=False)
def _beside(folder: str, run: str, reference: str, created: str) -> "tuple[Beside, ...]":
    from lab.pipelines.beside import beside as job

    return job(run, reference, Store(Path(folder)))


def beside(run: str, reference: RunInfo) -> "tuple[Beside, ...]":
    """One run of `lab geometry` held against another. LabError where their designs differ."""
    return _beside(str(runs_folder()), run, reference.id, reference.created)


@st.cache_resource(max_entries=8, show_spinner=False)
def _transfer(folder: str, run: str, created: str) -> TransferBook:
    from lab.pipelines.transfer import load_transfer

    return load_transfer(Store(Path(folder)), run)


def transfer(info: RunInfo) -> TransferBook:
    """A finished run of `lab transfer`; frozen, so that sessions may share it."""
    return _transfer(str(runs_folder()), info.id, info.created)


@st.cache_resource(max_entries=8, show_spinner=False)
def _atlas(folder: str, run: str, created: str) -> "AtlasBook":
    from lab.pipelines.atlas import load_atlas

    return load_atlas(Store(Path(folder)), run)


def atlas(info: RunInfo) -> "AtlasBook":
    """A finished run of `lab atlas`; frozen, so that sessions may share it."""
    return _atlas(str(runs_folder()), info.id, info.created)


@st.cache_resource(max_entries=8, show_spinner=False)
def _words(folder: str, run: str, created: str) -> "WordsBook":
    from lab.pipelines.words import load_words

    return load_words(Store(Path(folder)), run)


def words(info: RunInfo) -> "WordsBook":
    """A finished run of `lab words`; frozen, so that sessions may share it."""
    return _words(str(runs_folder()), info.id, info.created)


@st.cache_resource(max_entries=8, show_spinner=False)
def _comparison(folder: str, run: str, created: str) -> Comparison:
    return Store(Path(folder)).load_comparison(run)


def comparison(info: RunInfo) -> Comparison:
    """A finished comparison; frozen, so that sessions may share it."""
    return _comparison(str(runs_folder()), info.id, info.created)


@st.cache_data(show_spinner=False)
def model_names() -> list[str]:
    """The models that come with the lab; those named after another, its controls, last."""
    from lab.pipelines.compare import shipped_models

    names = [str(x["name"]) for x in shipped_models()]
    return sorted(names, key=lambda name: (any(name != n and name.startswith(n) for n in names), name))


@st.cache_data(show_spinner=False)
def _scaffolds() -> "dict[Path, ScaffoldFile]":
    from lab.pipelines.compare import DATA
    from lab.prompts.scaffolds import read_scaffold

    paths = [p for p in sorted((DATA / "scaffolds").glob("*.md")) if p.stem != "README"]
    return {p: read_scaffold(p) for p in paths}


def scaffold_texts() -> dict[str, str]:
    """The scaffolds that come with the lab: name to file text."""
    return {s.name: p.read_text(encoding="utf-8") for p, s in _scaffolds().items()}


def scaffold_paths() -> dict[str, str]:
    """The same: name to its file, as it can be typed where the dashboard was started."""
    here = Path.cwd()
    return {
        s.name: str(p.relative_to(here) if p.is_relative_to(here) else p) for p, s in _scaffolds().items()
    }


def scaffolds() -> "dict[str, tuple[Scaffold, ...]]":
    """The same: name to its wordings."""
    return {s.name: s.paraphrases for s in _scaffolds().values()}


@st.cache_data(show_spinner=False)
def trait_sets() -> list[str]:
    """The names of the trait sets that come with the lab."""
    from lab.prompts.traits import shipped_trait_sets

    return list(shipped_trait_sets(ROOT))


@st.cache_data(show_spinner=False)
def example_conversation() -> str:
    """A conversation that comes with the lab and drifts, as JSON."""
    from lab.pipelines.compare import DATA

    return (DATA / "conversations" / "cooling.json").read_text(encoding="utf-8")


@st.cache_data(max_entries=64, show_spinner=False)
def unseen_words(model: str, text: str) -> list[str] | None:
    """Words that the model's training never showed it; None where that is not known."""
    from lab.pipelines.compare import unseen_words as look_up

    return look_up(model, text)


@st.cache_resource(show_spinner=False)
def runner() -> Runner:
    """The one runner of this server."""
    return Runner()


@st.cache_resource(show_spinner=False)
def _speakers() -> "dict[tuple[str, str, str], Speaker]":
    return {}


def speaker(model: str, trait_set: str = "auto") -> "Speaker | None":
    """A model that is ready to be talked to; None before `prepare` has made it so."""
    return _speakers().get((str(runs_folder()), model, trait_set))


def prepare(models: list[str], trait_set: str = "auto") -> None:
    """Make models ready in the background."""
    folder, ready = str(runs_folder()), _speakers()

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

    runner().start(work)


def learn_ordinary(speakers: "list[Speaker]", system: str) -> "Job":
    """Learn in the background what is ordinary for models under a system prompt."""
    folder = str(runs_folder())

    def work(report: "Progress") -> None:
        for k, one in enumerate(speakers):
            one.learn(
                system,
                Store(Path(folder)),
                lambda stage, part, k=k: report(stage, (k + part) / len(speakers)),
            )

    return runner().start(work)


@st.cache_resource(show_spinner=False)
def _watchers() -> "dict[tuple[object, ...], Watcher]":
    return {}


def _watched(config: "WatchConfig") -> tuple[object, ...]:
    system = tuple(m.content for m in config.conversation if m.role == "system")
    return str(runs_folder()), config.model, config.trait_set, config.promised, config.together, system


def watcher(config: "WatchConfig") -> "Watcher | None":
    """What is ordinary for this model under the conversation's system prompt; None before `learn`."""
    return _watchers().get(_watched(config))


def learn(config: "WatchConfig") -> "Job":
    """Learn it in the background; the one learned first goes first."""
    folder, key, ready = str(runs_folder()), _watched(config), _watchers()

    def work(report: "Progress") -> None:
        from lab.pipelines.watch import make_watcher

        ready[key] = make_watcher(config, Store(Path(folder)), report)
        while len(ready) > KEPT_MODELS:
            ready.pop(next(iter(ready)))

    return runner().start(work)


def follow(config: "WatchConfig") -> None:
    """Follow a conversation in the background."""
    folder = str(runs_folder())

    def work(report: "Progress") -> object:
        from lab.pipelines.watch import watch

        return watch(config, Store(Path(folder)), report)

    runner().start(work)


@st.cache_data(show_spinner=False)
def words_text() -> str:
    """The text that the page Words begins with."""
    from lab.pipelines.words import shipped_texts

    return shipped_texts()[0]


def read_words(config: "WordsConfig") -> None:
    """Read a text in two models in the background."""
    folder = str(runs_folder())

    def work(report: "Progress") -> object:
        from lab.pipelines.words import words

        return words(config, Store(Path(folder)), report)

    runner().start(work)


def make_geometry(config: "GeometryConfig", about: str) -> None:
    """Compare two models' geometry in the background."""
    folder = str(runs_folder())

    def work(report: "Progress") -> object:
        from lab.pipelines.geometry import geometry

        return geometry(config, Store(Path(folder)), report)

    runner().start(work, about)
