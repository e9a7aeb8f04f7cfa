"""`lab extract`, `lab export`, `lab scoreboard`, `lab axis`: directions of one model, and how good they are."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

if TYPE_CHECKING:
    from lab.records import TraitBook

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
    one_of,
    print_json,
    progress,
    table,
)


@app.command()
def extract(
    model: Annotated[str, typer.Argument(help="A shipped name, a folder or a hub name.")],
    traits: Traits = "auto",
    dtype: Dtype = "float32",
    seed: Seed = 0,
    max_new_tokens: Tokens = 40,
    screen: Annotated[
        str,
        typer.Option(
            help="Make directions only of replies that pass the literature's filter by this judge: exact "
            "(Hearth), model:NAME or api:URL@MODEL. Test replies are never filtered."
        ),
    ] = "",
    key_variable: Annotated[
        str, typer.Option(help="Environment variable with the key of an api judge; none is sent without.")
    ] = "",
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Directions of every trait in one model, with how well each layer separates the poles."""
    from lab.pipelines.extract import ExtractConfig
    from lab.pipelines.extract import extract as job
    from lab.store import Store

    config = ExtractConfig(model, traits, dtype, seed, max_new_tokens, screen, key_variable)
    with progress(as_json) as update:
        found = job(config, Store(runs), update)
    if as_json:
        names = ("depth", "cards", "agreements", "transfers", "removed")
        tables = {name: [asdict(r) for r in getattr(found, name)] for name in names}
        print_json({"run": found.run, "model": found.model.name, **tables})
        return
    rows = [
        [
            c.trait, f"{c.estimator}, {c.position}, {c.layer}", f"{c.auroc:.3f} [{c.low:.3f}, {c.high:.3f}]",
            f"{c.d_prime:.2f}", f"{c.select_d_prime - c.d_prime:+.2f}", f"{c.p:.4f}",
            "yes" if c.p < 0.05 and c.auroc > 0.5 else "no direction",
        ]
        for c in found.cards
        if c.selected and c.elicitation == "instruction"
    ]  # fmt: skip
    columns = ["trait", "recipe, layer", "AUROC", "d′", "optimism", "p", "found"]
    title = (
        f"{found.model.name}: recipes chosen on select, scores on {found.cards[0].questions} test questions"
    )
    table(title, columns, rows)
    if found.transfers:
        _transfer_table(found)
    if screen:
        print(
            f"the filter by {screen} removed {len(found.removed)} extract and select replies (removed.parquet)"
        )
    print(f"run {found.run}; vectors in {runs / found.run}   (lab export {found.run} TRAIT FILE)")


def _transfer_table(found: "TraitBook") -> None:
    """How directions by one elicitation read what another brings out."""
    own = {(c.trait, c.elicitation): c for c in found.cards if c.selected}
    rows = [
        [
            t.trait, f"{t.made_by} → {t.read_on}", f"{t.auroc:.3f} [{t.low:.3f}, {t.high:.3f}]", f"{t.d_prime:.2f}",
            f"{own[t.trait, t.read_on].auroc:.3f}", f"{t.p:.4f}", f"{t.cosine:+.2f}",
        ]
        for t in found.transfers
    ]  # fmt: skip
    columns = ["trait", "made by → read on", "AUROC", "d′", "own AUROC there", "p", "cosine"]
    table(f"{found.model.name}: does a direction read what another elicitation brings out?", columns, rows)


@app.command()
def export(
    run: Annotated[str, typer.Argument(help="A run of `lab extract`.")],
    trait: Annotated[str, typer.Argument(help="Which trait.")],
    file: Annotated[Path, typer.Argument(help="Where to: .gguf, .pt or .safetensors.")],
    position: Annotated[
        str, typer.Option(help="Pooling: reply_mean, spawn, first_tokens or decision.")
    ] = "reply_mean",
    format: Annotated[
        str | None, typer.Option(help="lab, persona_vectors, assistant_axis or gguf; default by suffix.")
    ] = None,
    runs: Runs = DEFAULT_RUNS,
) -> None:
    """A persona vector in the format of another tool: llama.cpp, persona-vectors, assistant-axis."""
    from lab.pipelines.extract import Format
    from lab.pipelines.extract import export as job
    from lab.records import Position
    from lab.store import Store

    where = one_of("--position", position, get_args(Position))
    kind = None if format is None else one_of("--format", format, get_args(Format))
    for lost in job(Store(runs), run, trait, file, where, kind):
        print(f"lab: {lost}", file=sys.stderr)
    print(file)


@app.command()
def scoreboard(
    models: Annotated[
        list[str] | None, typer.Argument(help="Organisms of Hearth; default: hearth-a and hearth-b.")
    ] = None,
    trait: Annotated[list[str] | None, typer.Option(help="Only this trait; repeat for more.")] = None,
    select: Annotated[int, typer.Option(help="Characters that a recipe is chosen on.")] = 48,
    test: Annotated[int, typer.Option(help="Characters that it is reported on.")] = 72,
    seed: Seed = 0,
    max_new_tokens: Tokens = 70,
    runs: Runs = DEFAULT_RUNS,
    every: Annotated[bool, typer.Option("--all", help="Every recipe, not only the one chosen.")] = False,
    as_json: Json = False,
) -> None:
    """How well each recipe for a direction reads the known truth: estimator x pooling x trait."""
    from lab.pipelines.scoreboard import ScoreConfig
    from lab.pipelines.scoreboard import scoreboard as job
    from lab.store import Store

    names = models or ["hearth-a", "hearth-b"]
    config = ScoreConfig(tuple(names), tuple(trait or ()), select, test, max_new_tokens, seed)
    with progress(as_json) as update:
        found = job(config, Store(runs), update)
    if as_json:
        print_json({"rows": [asdict(row) for row in found.rows]})
        return
    columns = ["trait", "estimator, pooling, layer", "R² with z", "judge's", "share", "leakage", "optimism"]
    for organism in dict.fromkeys(r.organism for r in found.rows):
        rows = [
            [
                r.trait, f"{r.estimator}, {r.pooling}, {r.layer}", f"{r.r2:.2f} [{r.low:.2f}, {r.high:.2f}]",
                f"{r.ceiling:.2f}", f"{r.share_of_ceiling:.2f}", f"{r.leakage:.2f}", f"{r.select_r2 - r.r2:+.2f}",
            ]
            for r in found.rows
            if r.organism == organism and (r.selected or every)
        ]  # fmt: skip
        title = (
            f"{organism}: recipes chosen on {select} characters, R² with their z on {found.rows[0].n} others"
        )
        table(title, columns, rows)


@app.command()
def axis(
    models: Annotated[list[str], typer.Argument(help="One or two models.")],
    roles: Annotated[
        Path | None,
        typer.Option(help="Folder of role files, default.json in it or beside it; default: the shipped."),
    ] = None,
    questions: Annotated[int, typer.Option(help="Questions of each split.")] = 8,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    max_new_tokens: Tokens = 40,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """The assistant axis: where no scaffold and every role stand, and whether two models agree."""
    from lab.pipelines.axis import AxisConfig, find_axis
    from lab.store import Store

    config = AxisConfig(tuple(models), roles, questions, "reply_mean", dtype, seed, max_new_tokens)
    with progress(as_json) as update:
        found = find_axis(config, Store(runs), update)
    if as_json:
        document = {k: v for k, v in asdict(found).items() if k != "models"}
        print_json({**document, "models": [m.name for m in found.models]})
        return
    for side in found.summaries:
        rows = sorted((r for r in found.landings if r.model == side.model), key=lambda r: -r.loading)
        shown = [*rows[:10], *rows[10:][-8:]]
        cells = [[r.role, f"{r.loading:+.2f}{bracket(r.low, r.high)}"] for r in shown]
        title = (
            f"{side.model}, layer {side.layer}: most and least like the assistant (0 mean role, 1 default)"
        )
        table(title, ["role", "loading"], cells)
        print(
            f"first component: {side.share:.0%} of the variance between roles, cosine with the axis "
            f"{side.cosine:.2f}; {side.needed} components for 70 %; reliability of the loadings "
            f"{side.reliability:.2f} ({side.n} {side.split} questions)"
        )
    if found.agreement is not None:
        a = found.agreement
        print(
            f"both models: r {a.r:.2f}{bracket(a.low, a.high)} over {a.n} roles, p {a.p:.4f}, null 97.5 % "
            f"{a.null_high:.2f}, ceiling {a.ceiling:.2f}"
        )
    print(f"run {found.run}; tables and vectors in {runs / found.run}")
