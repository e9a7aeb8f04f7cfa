"""Runs of `lab sae …` that belong to a model, a trait or a scaffold, and how to make the one that lacks."""

import shlex
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import streamlit as st

from dashboards import loaders, panels, related
from lab.pipelines.readout_runs import wordings_key
from lab.records import Comparison, ModelIdentity
from lab.store import RunInfo

FEATURES_PAGE = "views/features.py"


# ------------------------------------------------------------------ which there are


def dictionaries_of(model: ModelIdentity) -> list[str]:
    """Names of the dictionaries that were made of exactly this model."""
    found = loaders.dictionaries()
    return [name for name, origin in found.items() if origin.fingerprint == model.fingerprint]


def pair_of_dictionaries() -> list[str]:
    """The first dictionary that is here, and the first of another model; what there is of it."""
    found = loaders.dictionaries()
    first = next(iter(found), None)
    if first is None:
        return []
    others = (n for n, o in found.items() if o.fingerprint != found[first].fingerprint)
    return [first, *[name for name in [next(others, None)] if name]]


def cards_of(saes: Sequence[str]) -> RunInfo | None:
    """The newest run with cards of all these dictionaries."""
    for info in loaders.saved_runs("features"):
        if set(saes) <= set(loaders.manifest(info)["saes"]):
            return info
    return None


def decomposition_of(model: ModelIdentity, trait: str) -> RunInfo | None:
    """The newest decomposition of this trait's direction in exactly this model."""
    for info in loaders.saved_runs("decompose"):
        data = loaders.manifest(info)
        if data["models"][0]["fingerprint"] == model.fingerprint and trait in data["settings"]["traits"]:
            return info
    return None


def readout_of(comparison: Comparison, scaffold: str) -> RunInfo | None:
    """The readout of this scaffold in the comparison's models on the same replies: of most of them, then the newest."""
    wording = next(wordings_key(s) for s in comparison.scaffolds if s.name == scaffold)
    mine = {m.fingerprint for m in comparison.models}
    sampling = {name: comparison.settings.get(name) for name in related.DEFAULTS}
    found: list[tuple[int, RunInfo]] = []
    for info in loaders.saved_runs("readout"):
        data = loaders.manifest(info)
        settings = data["settings"]
        named = dict(zip(data["read_scaffolds"], settings.get("wordings", ()), strict=False))
        models = {m["fingerprint"] for m in data["models"]}
        same = {name: settings.get(name) for name in sampling} == sampling
        if (
            models <= mine
            and named.get(scaffold) == wording
            and same
            and settings["trait_set"] == comparison.trait_set
        ):
            found.append((len(models), info))
    return max(found, key=lambda each: each[0], default=(0, None))[1]


def readouts_of(saes: Sequence[str]) -> list[RunInfo]:
    """Readouts of all these dictionaries, the newest first."""
    return [
        info for info in loaders.saved_runs("readout") if set(saes) <= set(loaders.manifest(info)["saes"])
    ]


# ------------------------------------------------------------------ how to make one


def command(*words: str) -> str:
    """A command line that writes where the dashboard reads."""
    folder = str(loaders.runs_folder())
    return shlex.join(["lab", "sae", *words, *(["--runs", folder] if folder != "runs" else [])])


def offer(words: Sequence[str], job: str, config: Callable[[], object] | None, about: str) -> None:
    """The command that makes what lacks, and a button that runs it here with its progress."""
    st.code(command(*words), language=None, wrap_lines=True)
    related.make_now(job, config, about, f"make {about}")


def offer_cards(saes: Sequence[str]) -> None:
    """How to make cards of one or two dictionaries."""
    words = ["features", saes[0], *(["--other", saes[1]] if len(saes) > 1 else [])]
    offer(words, "lab.pipelines.features:features", partial(_cards, saes), f"cards of {' and '.join(saes)}")


def _cards(saes: Sequence[str]) -> object:
    from lab.pipelines.features import FeaturesConfig

    return FeaturesConfig(saes[0], saes[1] if len(saes) > 1 else "")


def offer_training(models: Sequence[ModelIdentity]) -> None:
    """How to train a dictionary of each of these models."""
    for model in models:
        st.info(f"No sparse dictionary of {panels.plain(model.name)} is here. One is trained by")
        st.code(command("train", related.model_name(model)), language=None, wrap_lines=True)


def offer_decomposition(model: ModelIdentity, trait: str) -> None:
    """How to decompose the directions of this model's traits."""
    names = dictionaries_of(model)
    if not names:
        offer_training([model])
        return
    st.info(f"The direction of {panels.plain(trait)} was not taken apart here yet. That is done by")
    offer(
        ["decompose", names[0]], "lab.pipelines.decompose:decompose_traits", partial(_decomposition, names[0]),
        f"decomposition of {model.name}",
    )  # fmt: skip
    st.caption(
        "With `--causal` the features are also pushed and taken out, which takes many replies. Only traits of the set that "
        "the model names are decomposed unless `--traits` says which."
    )


def _decomposition(sae: str) -> object:
    from lab.pipelines.decompose import DecomposeConfig

    return DecomposeConfig(sae)


def offer_readout(comparison: Comparison, scaffold: str) -> None:
    """How to read a scaffold in the features of a comparison's models."""
    lacking = [m for m in comparison.models if not dictionaries_of(m)]
    if lacking:
        offer_training(lacking)
        return
    saes = [dictionaries_of(m)[0] for m in comparison.models]
    cards = cards_of(saes)
    st.info(
        "What this scaffold switches on in the models' sparse features was not read here yet. That is done by"
    )
    path = loaders.scaffold_paths().get(scaffold, f"{scaffold}.md")
    words = ["readout", saes[0], "--other", saes[1], "--scaffold", path]
    words += ["--traits", comparison.trait_set] if comparison.trait_set in loaders.trait_sets() else []
    for name, usual in related.DEFAULTS.items():
        value = comparison.settings.get(name, usual)
        words += [f"--{name.replace('_', '-')}", str(value)] if value != usual else []
    if cards is not None:
        words += ["--twins", cards.id]
    config = partial(_readout, comparison, scaffold, saes, "" if cards is None else cards.id)
    offer(words, "lab.pipelines.readout:readout", config, f"readout of {scaffold}")
    if cards is None:
        st.caption("To tell what is common and what is in one model alone, features are matched first:")
        offer_cards(saes)


def _readout(comparison: Comparison, scaffold: str, saes: Sequence[str], twins: str) -> object:
    from lab.pipelines.readout import ReadoutConfig

    settings: Any = {**related.DEFAULTS, **comparison.settings}
    chosen = tuple(s for s in comparison.scaffolds if s.name == scaffold)
    return ReadoutConfig(
        tuple(saes), chosen, trait_set=comparison.trait_set, twins=twins,
        **{name: settings[name] for name in related.DEFAULTS},
    )  # fmt: skip
