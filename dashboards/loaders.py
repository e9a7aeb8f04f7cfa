"""What pages read, cached. The only place of st.cache_data and st.cache_resource."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from dashboards.jobs import Runner
from lab.records import Comparison, PersonaMap, Steering, TraitBook
from lab.records.geometry import GeometryBook, TransferBook
from lab.store import RunInfo, Store

if TYPE_CHECKING:
    from dashboards.jobs import Progress
    from lab.pipelines.live import Speaker
    from lab.pipelines.watch import WatchConfig
    from lab.pipelines.words import WordsConfig
    from lab.records.atlas import AtlasBook

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
    from lab.pipelines.geometry import load_geometry

    return load_geometry(Store(Path(folder)), run)


def geometry(info: RunInfo) -> GeometryBook:
    """A finished run of `lab geometry`; frozen, so that sessions may share it."""
    return _geometry(str(runs_folder()), info.id, info.created)


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
def scaffold_texts() -> dict[str, str]:
    """The scaffolds that come with the lab: name to file text."""
    from lab.pipelines.compare import DATA
    from lab.prompts.scaffolds import read_scaffold

    paths = [p for p in sorted((DATA / "scaffolds").glob("*.md")) if p.stem != "README"]
    return {read_scaffold(p).name: p.read_text(encoding="utf-8") for p in paths}


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
def _speakers() -> "dict[tuple[str, str], Speaker]":
    return {}


def speaker(model: str) -> "Speaker | None":
    """A model that is ready to be talked to; None before `prepare` has made it so."""
    return _speakers().get((str(runs_folder()), model))


def prepare(models: list[str]) -> None:
    """Make models ready in the background."""
    folder, ready = str(runs_folder()), _speakers()

    def work(report: "Progress") -> None:
        from lab.pipelines.live import prepare as make

        for k, model in enumerate(models):
            made = make(
                model, Store(Path(folder)), lambda stage, part, k=k: report(stage, (k + part) / len(models))
            )
            ready[folder, model] = made
            while len(ready) > KEPT_MODELS:
                ready.pop(next(iter(ready)))

    runner().start(work)


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

    def work(report: "Progress") -> object:
        from lab.pipelines.words import words

        return words(config, report)

    runner().start(work)
