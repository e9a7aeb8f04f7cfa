"""Runs that belong together: a comparison and the geometry of its models, and how to make the one that lacks."""

import shlex
from collections.abc import Callable, Sequence
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any

import streamlit as st

from dashboards import background, loaders, panels, start
from lab.figures import lookup
from lab.records import Comparison, ModelIdentity, ScaffoldFile
from lab.records.geometry import GeometryBook
from lab.store import RunInfo

if TYPE_CHECKING:
    from lab.pipelines.geometry import GeometryConfig

SAME = 0.02
"""Landings of two runs that read the same replies differ by rounding and by how failed replies are left out."""
FEWEST = 5
"""Scaffolds that a geometry needs to say anything."""
DEFAULTS = {"dtype": "float32", "seed": 0, "max_new_tokens": 40}


# ------------------------------------------------------------------ which runs belong together


def geometry_of(comparison: Comparison) -> RunInfo | None:
    """The newest geometry of the same models under the same scaffolds, read on the same traits."""
    wanted = _design(comparison.models, comparison.trait_set, lookup.traits(comparison), comparison.settings)
    names = {s.name for s in comparison.scaffolds}
    for info in loaders.saved_runs("geometry"):
        data = loaders.manifest(info)
        settings = data["settings"]
        design = _design(_models(data), settings["trait_set"], settings["traits"], settings)
        if design == wanted and set(settings["scaffolds"]) == names:
            return info
    return None


def comparison_of(book: GeometryBook) -> Comparison | None:
    """The newest comparison of the same models that has all scaffolds of the geometry, read on the same traits."""
    settings: Any = book.settings
    known = ("trait_set", "traits", "scaffolds")
    if not all(name in settings for name in known):
        return None
    wanted = _design(book.models, settings["trait_set"], settings["traits"], settings)
    for info in loaders.saved_runs():
        data = loaders.manifest(info)
        traits = data["settings"].get("traits", ())
        names = {s["name"] for s in data["scaffolds"]}
        if _design(_models(data), data["trait_set"], traits, data["settings"]) == wanted and names >= set(
            settings["scaffolds"]
        ):
            return loaders.book(info, Comparison)
    return None


def _models(data: dict[str, Any]) -> list[ModelIdentity]:
    return [ModelIdentity(**m) for m in data["models"]]


def _design(models: Sequence[ModelIdentity], trait_set: str, traits: Sequence[str], settings: Any) -> object:
    sampling = {name: settings.get(name) for name in DEFAULTS}
    return [m.fingerprint for m in models], trait_set, list(traits), sampling


def tell_distance(comparison: Comparison, book: GeometryBook) -> None:
    """A warning where two runs of one design do not say the same of landings: a text was changed in between."""
    apart = distance(comparison, book)
    if apart > SAME:
        st.warning(
            f"The landings of run {panels.plain(book.run)} and of run {panels.plain(comparison.run)} differ by up to "
            f"{apart:.2f}: they did not read the same replies. Was a scaffold changed in between?"
        )


def wordings(comparison: Comparison, book: GeometryBook) -> int:
    """How many wordings of each scaffold a geometry reads: the first ones, as many as the scaffold with the fewest has."""
    read = {x.scaffold for x in book.landings}
    return min((len(s.paraphrases) for s in comparison.scaffolds if s.name in read), default=1)


def distance(comparison: Comparison, book: GeometryBook) -> float:
    """The largest difference of L between both runs on the wordings that both read, 0 where they share none."""
    read = range(wordings(comparison, book))
    places = {label: k for k, label in enumerate(comparison.labels)}
    single: dict[object, list[float]] = {}
    whole: dict[object, float] = {}
    for x in comparison.landings:
        cell = (places[x.model], x.trait, x.position, x.scaffold)
        if x.paraphrase in read:
            single.setdefault(cell, []).append(x.L)
        elif x.paraphrase == -1:
            whole[cell] = x.L
    apart = [0.0]
    for x in book.landings:
        cell = (book.labels.index(x.model), x.trait, x.position, x.scaffold)
        mine = single.get(cell) or ([whole[cell]] if cell in whole else [])
        if mine:
            apart.append(abs(sum(mine) / len(mine) - x.L))
    return max(v for v in apart if isfinite(v))


# ------------------------------------------------------------------ how to make the other one


def model_name(model: ModelIdentity) -> str:
    """How a model is asked for: a shipped one by its name, any other by where it came from."""
    return model.name if model.name in loaders.model_names() else model.path


def trait_names(trait_set: str, traits: Sequence[str]) -> str | None:
    """What `--traits` takes for these; None for a set that does not come with the lab."""
    return f"{trait_set}:{','.join(traits)}" if trait_set in loaders.trait_sets() else None


def _options(trait_set: str, traits: Sequence[str], settings: Any) -> list[str]:
    found = ["--traits", trait_names(trait_set, traits) or f"{trait_set}.json"]
    for name, usual in DEFAULTS.items():
        if settings.get(name, usual) != usual:
            found += [f"--{name.replace('_', '-')}", str(settings[name])]
    folder = str(loaders.runs_folder())
    return [*found, *(["--runs", folder] if folder != "runs" else [])]


def _scaffold_options(names: Sequence[str]) -> list[str]:
    """None for all that come with the lab in their order; files not among them go by their name."""
    paths = loaders.scaffold_paths()
    if list(names) == list(paths):
        return []
    return [x for name in names for x in ("--scaffold", paths.get(name, f"{name}.md"))]


def geometry_command(comparison: Comparison) -> str:
    """The command that makes the geometry of a comparison's models."""
    names = [s.name for s in comparison.scaffolds]
    words = ["lab", "geometry", *map(model_name, comparison.models), *_scaffold_options(names)]
    return shlex.join(
        [*words, *_options(comparison.trait_set, lookup.traits(comparison), comparison.settings)]
    )


def compare_command(book: GeometryBook) -> str:
    """The command that makes a comparison of the same replies as a geometry."""
    settings: Any = book.settings
    words = ["lab", "compare", "--models", *map(model_name, book.models)]
    if "scaffolds" in settings:
        words += _scaffold_options(settings["scaffolds"])
        words += _options(settings["trait_set"], settings["traits"], settings)
    return shlex.join(words)


def unfiled(scaffolds: Sequence[ScaffoldFile]) -> list[str]:
    """Scaffolds that are in no file of the lab as they were used."""
    texts = loaders.scaffolds()
    return [s.name for s in scaffolds if texts.get(s.name) != s.paraphrases]


def offer_geometry(comparison: Comparison) -> None:
    """How to make the geometry that lacks: the command, and a button with its progress."""
    given = len(comparison.scaffolds)
    if given < FEWEST:
        st.info(f"A geometry cannot be told here: {FEWEST} scaffolds are needed, {given} given.")
        return
    st.write("No geometry of these two models under these scaffolds is saved here. It is made by")
    st.code(geometry_command(comparison), language=None, wrap_lines=True)
    own = unfiled(comparison.scaffolds)
    if own:
        st.caption(
            f"{panels.plain(', '.join(own))}: in no file that comes with the lab as used here; put your own files in "
            "their place."
        )
    traits = trait_names(comparison.trait_set, lookup.traits(comparison))
    config = None if traits is None else partial(_config, comparison, traits)
    make_now("lab.pipelines.geometry:geometry", config, f"geometry of {comparison.run}", "make_geometry")
    st.caption("Replies that the comparison made are taken from the cache; the others take minutes.")


def make_now(job: str, config: Callable[[], object] | None, about: str, key: str) -> None:
    """A button that runs a job (module:function) in the background, and its progress; None: no button.

    about: told apart from the jobs of other places by this.
    """
    now = loaders.runner().job
    busy = now is not None and now.running
    if config is not None and st.button("Make it now", disabled=busy, key=key):
        background.in_background(job, config(), about)
        st.rerun()
    if now is not None and now.about == about:
        start.progress(lambda done: None)


def _config(comparison: Comparison, traits: str) -> "GeometryConfig":
    from lab.pipelines.geometry import GeometryConfig

    settings: Any = {**DEFAULTS, **comparison.settings}
    a, b = map(model_name, comparison.models)
    return GeometryConfig(
        (a, b), comparison.scaffolds, traits, settings["dtype"], settings["seed"], settings["max_new_tokens"]
    )


# ------------------------------------------------------------------ replies at the poles


def link_poles(comparison: Comparison, trait: str) -> None:
    """Where the replies are read that a trait's depth profile stands on; a comparison does not keep them."""
    saved = loaders.saved_runs("extract")
    for label, model in zip(comparison.labels, comparison.models, strict=True):
        same = (x for x in saved if _models(loaders.manifest(x))[0].fingerprint == model.fingerprint)
        info = next(same, None)
        if info is None:
            name = shlex.quote(model_name(model))
            st.caption(f"{panels.plain(label)}'s replies at both poles are kept by `lab extract {name}`.")
        else:
            st.page_link(
                "views/traits.py", label=f"Replies of {panels.plain(label)} at both poles: page Traits",
                icon=":material/forum:", query_params={"traits_run": info.id, "card_trait": trait},
            )  # fmt: skip
