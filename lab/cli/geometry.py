"""`lab geometry` and `lab transfer`: do two models share a geometry, and does one's direction work in the other?"""

from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lab.cli.common import (
    DEFAULT_RUNS,
    Dtype,
    Json,
    Runs,
    Seed,
    Tokens,
    Traits,
    app,
    bracket,
    number,
    print_json,
    progress,
    table,
    with_interval,
)

if TYPE_CHECKING:
    from lab.pipelines.geometry import GeometryConfig
    from lab.records.geometry import GeometryBook, Place

Scaffolds = Annotated[
    list[Path] | None,
    typer.Option("--scaffold", help="A scaffold file; repeat for more (8 or more). Default: all shipped."),
]
A = Annotated[str, typer.Argument(help="A shipped name, a folder or a hub name.")]
B = Annotated[str, typer.Argument(help="The other model; the same one is allowed, as a control.")]


@app.command()
def geometry(
    a: A,
    b: B,
    scaffold: Scaffolds = None,
    traits: Traits = "auto",
    permutations: Annotated[int, typer.Option(help="Relabelings of the scaffolds.")] = 999,
    pairings: Annotated[int, typer.Option(help="Random pairings that every map is fitted again for.")] = 100,
    untrained: Annotated[
        int, typer.Option(help="Untrained twins of each model that read the same texts; 0 leaves them out.")
    ] = 4,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    max_new_tokens: Tokens = 40,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Similarity of two models' scaffold geometry, maps between them, and what landings consist of."""
    from lab.pipelines.geometry import geometry as job
    from lab.store import Store

    config = _config((a, b), scaffold, traits, dtype, seed, max_new_tokens, permutations, pairings, untrained)
    with progress(as_json) as update:
        found = job(config, Store(runs), update)
    if as_json:
        print_json(asdict(found))
        return
    for place in found.places:
        _show(found, place)
    print(f"run {found.run}; tables in {runs / found.run}   (lab dashboard, page Geometry)")


def _config(
    models: tuple[str, str], scaffold: list[Path] | None, traits: str, dtype: str, seed: int, tokens: int,
    permutations: int = 999, pairings: int = 100, untrained: int = 4,
) -> "GeometryConfig":  # fmt: skip
    from lab.pipelines.compare import shipped_scaffolds
    from lab.pipelines.geometry import GeometryConfig
    from lab.prompts.scaffolds import read_scaffold

    files = [read_scaffold(p) for p in scaffold] if scaffold else shipped_scaffolds()
    return GeometryConfig(
        models, tuple(files), traits, dtype, seed, tokens, permutations, pairings, untrained
    )


def _show(found: "GeometryBook", place: "Place") -> None:
    where = {"reply_mean": "over the replies", "spawn": "at the spawn point"}[place.position]
    some = place.similarities[0]
    rows = [
        [
            s.measure, f"{s.layer_a}, {s.layer_b}", with_interval(s.value, s.low, s.high), number(s.null_high),
            number(s.p, 3), number(s.ceiling),
        ]
        for s in place.similarities
    ]  # fmt: skip
    title = (
        f"{' and '.join(found.labels)}, {where}: {some.scaffolds} scaffolds, {some.questions} test questions"
    )
    table(title, ["similarity", "layers", "value", "null 95 %", "p", "ceiling"], rows)
    for source, target in dict.fromkeys((m.source, m.target) for m in place.maps):
        rows = [
            [
                m.method, with_interval(m.r2, m.low, m.high), number(m.null_high), number(m.p, 3), number(m.ceiling),
                f"{number(m.retrieval)} ({m.chance:.2f})",
            ]
            for m in place.maps
            if (m.source, m.target) == (source, target)
        ]  # fmt: skip
        columns = ["map", "held-out R²", "null 95 %", "p", "ceiling", "found again (chance)"]
        table(f"{source} → {target}: scaffolds that no fit has seen, test questions", columns, rows)
    _show_untrained(place)
    sources = list(dict.fromkeys(s.source for s in place.shares))
    cell = {(s.trait, s.source): s for s in place.shares}
    rows = [
        [t, *(with_interval(cell[t, k].share, cell[t, k].low, cell[t, k].high) for k in sources)]
        for t in dict.fromkeys(s.trait for s in place.shares)
    ]
    table("what the landings' variance consists of", ["trait", *sources], rows)
    for a in place.agreements:
        told = a.why or f"p {a.p:.4f}, null 95 % {a.null_high:.2f}, ceiling {a.ceiling:.2f}"
        print(f"{a.trait}: landings in both models, r {with_interval(a.r, a.low, a.high)}; {told}")
    for why in dict.fromkeys(x.why for x in (*place.similarities, *place.maps, *place.shares) if x.why):
        print(f"cannot tell: {why}")


def _show_untrained(place: "Place") -> None:
    rows = [
        [
            u.what if not u.source else f"{u.what}, {u.source} → {u.target}", number(u.value), number(u.words),
            number(u.words_high), number(u.p, 3),
        ]
        for u in place.untrained
        if not u.why
    ]  # fmt: skip
    if rows:
        twins = place.untrained[0].twins
        title = f"beside {twins} untrained twins of each model that read the same texts (first wordings)"
        table(title, ["", "the models", "twins, median", "twins, largest", "p"], rows)
    rows = [
        [s.measure, s.prepared, with_interval(s.value, s.low, s.high), number(s.p, 3)] for s in place.prepared
    ]
    if rows:
        table("the same with states prepared otherwise", ["similarity", "states", "value", "p"], rows)


@app.command()
def beside(
    run: Annotated[str, typer.Argument(help="A run of `lab geometry`.")],
    reference: Annotated[
        str, typer.Argument(help="Another with the same first model, such as that of its second seed.")
    ],
    seed: Seed = 0,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Whether one pair of models is less alike than another: the noise floor of seeds, or of wordings."""
    from lab.pipelines.beside import beside as job
    from lab.store import Store

    found = job(run, reference, Store(runs), seed)
    if as_json:
        print_json({"rows": [{**asdict(row), "verdict": row.verdict} for row in found]})
        return
    rows = [
        [
            row.position, row.measure, number(row.value), number(row.reference),
            with_interval(row.difference, row.low, row.high), row.why or row.verdict,
        ]
        for row in found
    ]  # fmt: skip
    n = max((row.questions for row in found), default=0)
    columns = ["place", "measure", "this pair", "reference", "difference", "verdict"]
    table(f"{run} beside {reference}: 95 % over {n} test questions, scaffolds fixed", columns, rows)


@app.command()
def transfer(
    a: A,
    b: B,
    scaffold: Scaffolds = None,
    traits: Traits = "auto",
    controls: Annotated[int, typer.Option(help="Random directions.")] = 8,
    shuffled: Annotated[int, typer.Option(help="Maps fitted on shuffled pairings of the scaffolds.")] = 20,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Steer each model with the other's directions, carried through the map, beside its own and controls."""
    from lab.pipelines.transfer import TransferConfig
    from lab.pipelines.transfer import transfer as job
    from lab.store import Store

    config = TransferConfig(
        _config((a, b), scaffold, traits, dtype, seed, 40), controls=controls, shuffled=shuffled
    )
    with progress(as_json) as update:
        found = job(config, Store(runs), update)
    if as_json:
        print_json(asdict(found))
        return
    rows = [
        [
            t.trait, f"{t.source} {t.layer_source} → {t.target} {t.layer_target}",
            f"{_signed(t.native)}{bracket(t.native_low, t.native_high)}",
            f"{_signed(t.carried)}{bracket(t.carried_low, t.carried_high)}",
            _signed(t.random), _signed(t.permuted), _signed(t.wrong),
            f"{number(t.recovery)}{bracket(t.recovery_low, t.recovery_high)}", number(t.p, 3),
        ]
        for t in found.transfers
    ]  # fmt: skip
    columns = [
        "trait",
        "layer → layer",
        "native",
        "carried",
        "random",
        "shuffled map",
        "wrong trait",
        "recovery",
        "p",
    ]
    some = found.transfers[0]
    table(f"judge {some.judge}, {some.unit}; {some.questions} test questions", columns, rows)
    print(f"run {found.run}; tables in {runs / found.run}")


def _signed(value: float) -> str:
    """A change with its sign; unknown: as `number` has it."""
    return number(value) if isnan(value) else f"{value:+.2f}"
