"""What pages read, cached. The only place of st.cache_data and st.cache_resource."""

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, TypeVar

import streamlit as st

from dashboards.jobs import Runner
from lab.records import Comparison, LabError
from lab.records.atlas import AtlasBook
from lab.records.cards import TraitBook
from lab.records.continuity import ContinuityResult
from lab.records.decomposition import DecompositionBook, ReadoutBook
from lab.records.feature_cards import FeatureBook
from lab.records.geometry import GeometryBook, TransferBook
from lab.records.personas import PersonaMap
from lab.records.steering import Steering
from lab.records.words import WordsBook
from lab.store import RunInfo, Store

if TYPE_CHECKING:
    from lab.pipelines.feature_runs import Hit
    from lab.pipelines.live import Speaker
    from lab.pipelines.watch import WatchConfig, Watcher
    from lab.records import Scaffold, ScaffoldFile
    from lab.records.claims import Finding
    from lab.records.continuity import ContinuityItem
    from lab.records.features import SaeOrigin
    from lab.records.similarity import Beside
    from lab.records.trajectories import PathPoint

Book = TypeVar("Book")
ROOT = Path(__file__).resolve().parents[1]


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


READERS: dict[type, str] = {
    Comparison: "lab.store:Store.load_comparison",
    PersonaMap: "lab.store:Store.load_persona_map",
    TraitBook: "lab.store:Store.load_traits",
    Steering: "lab.store:Store.load_steering",
    GeometryBook: "lab.pipelines.geometry_runs:load_geometry",
    TransferBook: "lab.pipelines.transfer:load_transfer",
    AtlasBook: "lab.pipelines.atlas:load_atlas",
    WordsBook: "lab.pipelines.words:load_words",
    ContinuityResult: "lab.pipelines.continuity:load_continuity",
    FeatureBook: "lab.pipelines.feature_runs:load_features",
    DecompositionBook: "lab.pipelines.decomposition_runs:load_decomposition",
    ReadoutBook: "lab.pipelines.readout_runs:load_readout",
}
"""What loads each kind of record: module and function of (store, run), imported when the first of its kind is read."""


@st.cache_resource(max_entries=16, show_spinner=False)
def _book(reader: str, folder: str, run: str, created: str) -> Any:
    return resolve_name(reader)(Store(Path(folder)), run)


def book(info: RunInfo, kind: type[Book]) -> Book:
    """What a finished run says; frozen, so that sessions may share it. LabError when it is damaged."""
    return _book(READERS[kind], str(runs_folder()), info.id, info.created)


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
def _feature_names(folder: str, run: str, created: str) -> "dict[str, dict[int, str]]":
    from lab.figures.feature_words import names

    found = _book(READERS[FeatureBook], folder, run, created)
    return {sae: names(found, sae) for sae in found.saes}


def feature_names(info: RunInfo) -> "dict[str, dict[int, str]]":
    """Words for the features of every dictionary of a finished run of `lab sae features`."""
    return _feature_names(str(runs_folder()), info.id, info.created)


@st.cache_data(max_entries=32, show_spinner=False)
def _hits(folder: str, run: str, created: str, word: str) -> "tuple[Hit, ...]":
    from lab.pipelines.feature_runs import search

    return search(_book(READERS[FeatureBook], folder, run, created), word, 1000)


def hits(info: RunInfo, word: str) -> "tuple[Hit, ...]":
    """Where a word turns up in such a run. LabError for no word."""
    return _hits(str(runs_folder()), info.id, info.created, word)


@st.cache_resource(max_entries=4, show_spinner=False)
def _findings(folder: str, seen: tuple[tuple[str, str], ...]) -> "tuple[Finding, ...]":
    from lab.pipelines.claims import SHIPPED, findings

    return findings([s for s in (Store(Path(folder)), Store(SHIPPED)) if s.root.is_dir()])


def findings() -> "tuple[Finding, ...]":
    """Tested claims, those that come with the lab too; the newest of every claim and set of models."""
    seen = tuple((x.id, x.created) for x in saved_runs("claims"))
    return _findings(str(runs_folder()), seen)


@st.cache_resource(show_spinner=False)
def claims() -> dict[int, str]:
    """Every claim that has an experiment: number to title."""
    from lab.pipelines.claims import claims as listed

    return {c.number: c.title for c in listed()}


@st.cache_resource(max_entries=8, show_spinner=False)
def _battery(folder: str, run: str, created: str) -> "dict[str, ContinuityItem]":
    from lab.pipelines.continuity_shown import asked

    return asked(_book(READERS[ContinuityResult], folder, run, created))


def battery(info: RunInfo) -> "dict[str, ContinuityItem]":
    """The items that a run of the battery asked, by id. LabError where their set does not come with the lab."""
    return _battery(str(runs_folder()), info.id, info.created)


def dictionaries() -> "dict[str, SaeOrigin]":
    """The sparse dictionaries that are here, with what their files say; not cached, so that new ones show up."""
    from lab.features.shelf import origin_of, shelf
    from lab.pipelines.sae import roots

    found = {}
    for name, path in shelf(roots(store())).items():
        with suppress(LabError):  # lab sae list tells of it
            found[name] = origin_of(path)
    return found


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
def speakers() -> "dict[tuple[str, str, str], Speaker]":
    """Models that are ready to be talked to, by folder of runs, model and trait set; those made ready first go first."""
    return {}


def speaker(model: str, trait_set: str = "auto") -> "Speaker | None":
    """A model that is ready to be talked to; None before `prepare` has made it so."""
    return speakers().get((str(runs_folder()), model, trait_set))


@st.cache_resource(show_spinner=False)
def watchers() -> "dict[tuple[object, ...], Watcher]":
    """What is ordinary for models under system prompts, by `watched`."""
    return {}


def watched(config: "WatchConfig") -> tuple[object, ...]:
    """Whose ordinary talk a configuration asks about."""
    system = tuple(m.content for m in config.conversation if m.role == "system")
    return str(runs_folder()), config.model, config.trait_set, config.promised, config.together, system


def watcher(config: "WatchConfig") -> "Watcher | None":
    """What is ordinary for this model under the conversation's system prompt; None before `learn`."""
    return watchers().get(watched(config))


@st.cache_data(show_spinner=False)
def words_text() -> str:
    """The text that the page Words begins with."""
    from lab.pipelines.words import shipped_texts

    return shipped_texts()[0]
