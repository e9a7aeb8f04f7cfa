"""`lab atlas`: do the same concepts have corresponding places in two models?"""

from dataclasses import asdict
from math import isnan
from typing import TYPE_CHECKING, Annotated

import typer

from lab.cli.common import (
    DEFAULT_RUNS,
    Dtype,
    Json,
    Runs,
    Seed,
    app,
    bracket,
    number,
    print_json,
    progress,
    table,
)

if TYPE_CHECKING:
    from lab.records.atlas import AtlasBook, ConceptScore, Scope, Stage

NAMED = 8
"""Best and worst concepts that are shown."""
LISTED = 40
"""Concepts that do not line up, by name."""


@app.command()
def atlas(
    a: Annotated[str, typer.Argument(help="A shipped name, a folder or a hub name.")],
    b: Annotated[str, typer.Argument(help="The other model; the same one is allowed, as a control.")],
    concepts: Annotated[
        str,
        typer.Option(
            help='Concept set: a file, "hearth", "words" or "auto" (hearth for the shipped organisms, else words).'
        ),
    ] = "auto",
    neighbours: Annotated[int, typer.Option(help="Nearest concepts that are listed and compared.")] = 10,
    permutations: Annotated[int, typer.Option(help="Relabelings of the concepts.")] = 200,
    pairings: Annotated[int, typer.Option(help="Random pairings that every map is fitted again for.")] = 100,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Concepts such as joy, love, intimacy: do they lie alike in two models, already in the embedding, and which do not?"""
    from lab.pipelines.atlas import AtlasConfig
    from lab.pipelines.atlas import atlas as job
    from lab.store import Store

    config = AtlasConfig((a, b), concepts, dtype, seed, permutations, pairings, neighbours)
    with progress(as_json) as update:
        found = job(config, Store(runs), update)
    if as_json:
        print_json(asdict(found))
        return
    _similarities(found)
    _maps(found)
    _neighbours(found)
    _concepts(found)
    print(f"run {found.run}; tables in {runs / found.run}   (lab dashboard, page Atlas)")


def _similarities(found: "AtlasBook") -> None:
    some = found.similarities[-1].found
    print(
        f"{' and '.join(found.labels)}: {some.scaffolds} concepts ({found.concept_set.name}), {some.questions} test frames "
        f"of {found.concept_set.frames}"
    )
    for scope in dict.fromkeys(s.scope for s in found.similarities):
        rows = []
        for s in (s for s in found.similarities if s.scope == scope):
            f = s.found
            name = f.measure if f.prepared == "as is" else f"{f.measure}, {f.prepared}"
            value = f"{number(f.value)}{bracket(f.low, f.high)}"
            rows.append([s.stage, name, f"{f.layer_a}, {f.layer_b}", value, number(f.null_high), number(f.p, 3),
                         "" if isnan(f.ceiling) else f"{f.ceiling:.2f}"])  # fmt: skip
        columns = ["stage", "similarity", "layers", "1 same, 0 chance", "null 95 %", "p", "ceiling"]
        table(f"pairs of concepts: {scope}", columns, rows)
    if not found.concept_set.shared_frames:
        print(
            "Categories have frames of their own: agreement over all pairs holds these too; believe the one within."
        )


def _maps(found: "AtlasBook") -> None:
    for scope in dict.fromkeys(m.scope for m in found.maps):
        rows = [
            [
                m.stage, f"{m.source} → {m.target}", f"{number(m.r2)}{bracket(m.low, m.high)}", number(m.null_high),
                number(m.p, 3), number(m.ceiling), f"{m.first:.2f} ({m.first_null:.2f}; {m.first_ceiling:.2f})",
                f"{m.near:.2f} ({m.near_null:.2f}; {m.near_ceiling:.2f})",
            ]
            for m in found.maps if m.scope == scope
        ]  # fmt: skip
        title = f"maps to concepts that no fit has seen, in other frames; {scope}; own place found (null; ceiling)"
        columns = ["stage", "map", "held-out R²", "null 95 %", "p", "ceiling", "as nearest", "among 5"]
        table(title, columns, rows)


def _neighbours(found: "AtlasBook") -> None:
    rows = [
        [
            s.stage, s.category or "all", f"{s.shared:.2f}{bracket(s.low, s.high)}", f"{s.chance:.2f}",
            f"{s.null:.2f}, {s.null_high:.2f}", number(s.p, 3),
            f"{s.purity_a:.2f}, {s.purity_b:.2f} ({s.purity_chance:.2f})",
        ]
        for s in found.shared if not s.concept
    ]  # fmt: skip
    k = found.shared[0].k if found.shared else 0
    columns = ["stage", "category", "shared", "chance", "within category, 95 %", "p", "own category (chance)"]
    table(f"share of the {k} nearest concepts that both models have in common", columns, rows)


def _concepts(found: "AtlasBook") -> None:
    stage: Stage = found.stages[-1]
    scope: Scope = "within category"
    scores = found.scores_at(stage, scope)
    order = sorted(scores, key=lambda c: -_r2(scores[c]))
    for title, chosen in (("best", order[:NAMED]), ("worst", order[::-1][:NAMED])):
        rows = [
            [
                c,
                scores[c][0].category,
                *(f"{s.r2:.2f} / {s.cosine:.2f} / {s.rank:g} of {s.candidates}" for s in scores[c]),
            ]
            for c in chosen
        ]
        ways = [f"{s.source} → {s.target}: R² / cosine / rank" for s in scores[order[0]]]
        table(f"{title} concepts, {stage}, {scope}", ["concept", "category", *ways], rows)
    for at in found.stages:
        lost, total = found.astray(at, scope), len(found.concepts)
        first = sum(all(s.rank <= 1 for s in both) for both in found.scores_at(at, scope).values())
        more = f" and {len(lost) - LISTED} more" if len(lost) > LISTED else ""
        print(
            f"{at}, {scope}: {total - len(lost)} of {total} line up both ways (own place among the 5 nearest), {first} as "
            f"the nearest. Not: {', '.join(lost[:LISTED]) or 'none'}{more}."
        )


def _r2(both: "tuple[ConceptScore, ...]") -> float:
    return sum(s.r2 for s in both) / len(both)
