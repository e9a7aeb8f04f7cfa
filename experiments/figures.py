"""Every figure of a write-up, in one style: out of finished runs, without any model.

For each kind of run (lab compare, geometry, transfer, atlas, words, steer, axis, extract, sae readout, claims) the newest
run of every set of models is drawn: PDF, SVG and PNG (where a Chrome is found), HTML, CSV and a JSON manifest with
the run it came from. `captions.md` holds the title of each figure and its note, which states unit, n, split and null.
`data/pictures/` holds those that the README shows.

Run: python experiments/figures.py [--runs runs] [--into figures] [--only compare geometry …]
"""

import argparse
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from lab.figures import (
    atlas,
    atlas_tables,
    claims,
    controls,
    dissimilarities,
    feature_readout,
    feature_tables,
    geometry,
    geometry_tables,
    heads,
    landing,
    lookup,
    multiverse,
    personas,
    scores,
    shared,
    steering,
    tables,
    traits,
    transfer,
    transfer_doses,
    words,
)
from lab.figures.export import export
from lab.pipelines import claims as claim_runs
from lab.pipelines.atlas import load_atlas
from lab.pipelines.geometry_runs import load_geometry
from lab.pipelines.readout_runs import load_readout
from lab.pipelines.transfer import load_transfer
from lab.pipelines.words import load_words
from lab.records import LabError
from lab.store import Store


@dataclass(frozen=True)
class Picture:
    """A figure that is drawn when it is asked for, and its numbers."""

    name: str
    make: Callable[[], Any]
    table: Callable[[], pd.DataFrame]


def of_comparison(store: Store, run: str) -> Iterator[Picture]:
    """Landing forest and depth profile of every trait and position."""
    found = store.load_comparison(run)
    for position in lookup.positions(found):
        for t in lookup.traits(found):
            yield Picture(
                f"landing-{t}-{position}", lambda t=t, p=position: landing.landing_forest(found, t, p),
                lambda t=t, p=position: tables.summary(found, t, p),
            )  # fmt: skip
            yield Picture(
                f"depth-{t}-{position}", lambda t=t, p=position: landing.depth_profile(found, t, p),
                lambda: tables.depth(found),
            )  # fmt: skip


def of_geometry(store: Store, run: str) -> Iterator[Picture]:
    """Grid, dissimilarities, maps, shared frame, shares, agreement, multiverse and controls."""
    book = load_geometry(store, run)
    yield Picture(
        "controls", lambda: controls.controls_strip(book), lambda: geometry_tables.similarities(book)
    )
    for p in geometry.positions(book):
        for m in geometry.measures(book, p):
            slug = re.sub(r"\W+", "-", m).strip("-")
            yield Picture(
                f"layers-{slug}-{p}", lambda p=p, m=m: geometry.layer_grid(book, p, m),
                lambda p=p, m=m: geometry_tables.grid(book, p, m),
            )  # fmt: skip
        yield Picture(
            f"dissimilarities-{p}", lambda p=p: dissimilarities.dissimilarities(book, p),
            lambda p=p: geometry_tables.dissimilarities(book, p),
        )  # fmt: skip
        yield Picture(
            f"maps-{p}", lambda p=p: scores.map_scores(book, p), lambda p=p: geometry_tables.maps(book, p)
        )
        yield Picture(
            f"shares-{p}",
            lambda p=p: scores.variance_shares(book, p),
            lambda p=p: geometry_tables.shares(book, p),
        )
        for s in shared.sources(book):
            yield Picture(
                f"shared-{s}-{p}", lambda p=p, s=s: shared.shared_map(book, p, s),
                lambda p=p, s=s: geometry_tables.shared(book, p, s),
            )  # fmt: skip
        for t in geometry.traits(book):
            yield Picture(
                f"agreement-{t}-{p}", lambda p=p, t=t: shared.agreement(book, p, t),
                lambda p=p: geometry_tables.agreements(book, p),
            )  # fmt: skip
    for t in multiverse.traits(book):
        yield Picture(
            f"multiverse-{t}", lambda t=t: multiverse.multiverse_strip(book, t),
            lambda t=t: geometry_tables.multiverse(book, t),
        )  # fmt: skip


def of_transfer(store: Store, run: str) -> Iterator[Picture]:
    """The transfer matrix, and doses of every trait and way."""
    book = load_transfer(store, run)
    yield Picture("transfer", lambda: transfer.transfer_matrix(book), lambda: transfer.numbers(book))
    for s in transfer_doses.sources(book):
        for t in transfer.traits(book):
            yield Picture(
                f"doses-{t}-from-{s}", lambda s=s, t=t: transfer_doses.dose_curve(book, t, s),
                lambda s=s, t=t: transfer_doses.doses(book, t, s),
            )  # fmt: skip


def of_atlas(store: Store, run: str) -> Iterator[Picture]:
    """Which concepts line up, where, and how it changes with depth."""
    book = load_atlas(store, run)
    for stage in book.stages:
        yield Picture(
            f"shared-{stage}",
            lambda s=stage: atlas.shared_bars(book, s),
            lambda s=stage: atlas_tables.shared(book, s),
        )
        yield Picture(
            f"concepts-{stage}", lambda s=stage: atlas.concept_strip(book, s, "within category", book.labels[0]),
            lambda s=stage: atlas_tables.scores(book, s, "within category"),
        )  # fmt: skip
    for k, m in enumerate(atlas.measures(book)):
        yield Picture(
            f"by-depth-{k}", lambda m=m: atlas.by_depth(book, "within category", m),
            lambda m=m: atlas_tables.depth(book, "within category", m),
        )  # fmt: skip


def of_words(store: Store, run: str) -> Iterator[Picture]:
    """Which heads look alike."""
    book = load_words(store, run)
    yield Picture("heads", lambda: heads.head_grid(book), lambda: words.matches(book))
    yield Picture("matched-heads", lambda: heads.matched_heads(book), lambda: words.matches(book))


def of_steering(store: Store, run: str) -> Iterator[Picture]:
    """Doses, what else moves, and what stays once the push ends."""
    found = store.load_steering(run)
    yield Picture("entanglement", lambda: steering.entanglement(found), lambda: tables.doses(found))
    for t in steering.traits(found):
        yield Picture(
            f"dose-{t}", lambda t=t: steering.dose_response(found, t), lambda t=t: tables.doses(found, t)
        )
        yield Picture(
            f"letting-go-{t}",
            lambda t=t: steering.letting_go(found, t),
            lambda t=t: tables.releases(found, t),
        )


def of_axis(store: Store, run: str) -> Iterator[Picture]:
    """The persona map of every model, and their agreement."""
    found = store.load_persona_map(run)
    for s in found.summaries:
        yield Picture(
            f"personas-{s.model}",
            lambda m=s.model: personas.persona_map(found, m),
            lambda: tables.roles(found),
        )
    if found.agreement is not None:
        yield Picture("roles", lambda: personas.role_agreement(found), lambda: tables.roles(found))


def of_traits(store: Store, run: str) -> Iterator[Picture]:
    """Separation per layer and recipe of every trait."""
    book = store.load_traits(run)
    for t in traits.traits(book):
        yield Picture(f"recipes-{t}", lambda t=t: traits.recipes(book, t), lambda t=t: tables.cards(book, t))
        yield Picture(
            f"recipe-agreement-{t}",
            lambda t=t: traits.recipe_agreement(book, t),
            lambda t=t: tables.agreements(book, t),
        )


def of_readout(store: Store, run: str) -> Iterator[Picture]:
    """Which features a scaffold switches on."""
    read = load_readout(store, run)
    for s in read.scaffolds:
        for m in read.labels:
            yield Picture(
                f"switched-{s}-{m}".replace(" ", "-"), lambda s=s, m=m: feature_readout.readout_bars(read, m, s),
                lambda s=s, m=m: feature_tables.switched(read, s, m),
            )  # fmt: skip


def of_claim(store: Store, run: str) -> Iterator[Picture]:
    """Effects against their bars."""
    found = claim_runs.load(run, store)
    name = f"claim-{found.claim:02}"
    yield Picture(name, lambda: claims.claim_figure(found), lambda: claims.effects_table(found))


KINDS: dict[str, Callable[[Store, str], Iterator[Picture]]] = {
    "compare": of_comparison, "geometry": of_geometry, "transfer": of_transfer, "atlas": of_atlas, "words": of_words,
    "steer": of_steering, "axis": of_axis, "extract": of_traits, "readout": of_readout, "claims": of_claim,
}  # fmt: skip


def caption(figure: Any) -> str:
    """The note of a figure as plain text: unit, n, split, null."""
    notes = [a.text for a in figure.layout.annotations if a.name == "panel note"]
    return " ".join(re.sub(r"<[^>]+>", " ", n) for n in notes)


def draw(store: Store, kind: str, run: str, folder: Path) -> list[str]:
    """Every figure of one run; the captions."""
    data, _ = store.load_rows(run, kind, ())
    origin = {"run": run, "models": data.get("models"), "settings": data.get("settings")}
    lines = []
    for picture in KINDS[kind](store, run):
        try:
            figure = picture.make()
            export(figure, folder / run, picture.name, picture.table(), {**origin, "figure": picture.name})
        except LabError as error:
            lines.append(f"- {run}/{picture.name}: not drawn: {error}")
            continue
        title = re.sub(r"<[^>]+>", " ", figure.layout.title.text or picture.name)
        lines.append(
            f"- **{run}/{picture.name}**: {' '.join(title.split())}. {' '.join(caption(figure).split())}"
        )
    return lines


def main(runs: Path, folder: Path, only: list[str]) -> Path:
    """Draw the newest run of every kind and set of models; the path of the captions."""
    store, drawn, lines = Store(runs), set(), ["# Captions", ""]
    for info in store.runs():
        key = (info.kind, info.title.split(":")[0], *info.models)
        if info.kind == "claims":
            key = (*key, info.id.split("-")[0])
        if info.kind not in KINDS or (only and info.kind not in only) or key in drawn:
            continue
        drawn.add(key)
        print(f"{info.kind}: {info.id}", flush=True)
        try:
            captions = draw(store, info.kind, info.id, folder)
        except LabError as error:
            print(f"  left out: {error}", flush=True)
            continue
        lines += [f"## {info.kind}: {info.title} ({info.id})", "", *captions, ""]
    if not drawn:
        raise SystemExit(f"no run in {runs} to draw; make one, e.g. lab compare --models hearth-a hearth-b")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "captions.md").write_text("\n".join(lines), encoding="utf-8")
    return folder / "captions.md"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--into", type=Path, default=Path("figures"))
    parser.add_argument("--only", nargs="+", choices=sorted(KINDS), default=[])
    asked = parser.parse_args()
    print(main(asked.runs, asked.into, asked.only))
