"""`lab compare` and `lab show`: where scaffolds put two models."""

from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
    print_json,
    progress,
    table,
)

if TYPE_CHECKING:
    from lab.records import Comparison, Landing


@app.command()
def compare(
    models: Annotated[list[str], typer.Option("--models", help="The two models: --models A B or twice.")],
    rest: Annotated[list[str] | None, typer.Argument(hidden=True)] = None,
    scaffold: Annotated[
        list[Path] | None,
        typer.Option("--scaffold", help="A scaffold file; repeat for more. Default: all shipped."),
    ] = None,
    traits: Traits = "auto",
    dtype: Dtype = "float32",
    seed: Seed = 0,
    max_new_tokens: Tokens = 40,
    runs: Runs = DEFAULT_RUNS,
    report: Annotated[bool, typer.Option(help="Write the HTML report and figures.")] = True,
    as_json: Json = False,
) -> None:
    """Where scaffolds put two models on every trait, and where the two part ways."""
    from lab.pipelines.compare import CompareConfig, shipped_scaffolds
    from lab.pipelines.compare import compare as job
    from lab.prompts.scaffolds import read_scaffold
    from lab.store import Store

    names = [*models, *(rest or [])]
    files = [read_scaffold(p) for p in scaffold] if scaffold else shipped_scaffolds()
    config = CompareConfig(
        tuple(names), tuple(files), traits, dtype=dtype, seed=seed, max_new_tokens=max_new_tokens
    )
    store = Store(runs)
    with progress(as_json) as update:
        found = job(config, store, update)
    where = None
    if report:
        from lab.figures.report import write_report

        where = write_report(found, store.folder(found.run))
    _show_comparison(found, as_json)
    if where and not as_json:
        print(f"report: {where}\nrun:    {found.run}   (lab show {found.run}, lab dashboard)")


@app.command()
def show(run: str, runs: Runs = DEFAULT_RUNS, as_json: Json = False) -> None:
    """A saved comparison as a table."""
    from lab.store import Store

    _show_comparison(Store(runs).load_comparison(run), as_json)


def comparison_document(found: "Comparison") -> dict[str, Any]:
    """What `lab compare --json` prints."""

    def rows(position: str, whole: bool) -> list[dict[str, Any]]:
        return [asdict(r) for r in found.landings if r.position == position and (r.paraphrase == -1) == whole]

    def crossed(position: str) -> list[dict[str, Any]]:
        return [asdict(r) for r in found.interactions if r.position == position]

    return {
        "run": found.run,
        "landing": rows("reply_mean", True),
        "interaction": crossed("reply_mean"),
        "noise_floor": [asdict(r) for r in found.noise_floor],
        "spawn_point": {"landing": rows("spawn", True), "interaction": crossed("spawn")},
        "paraphrases": rows("reply_mean", False),
        "anchors": [asdict(r) for r in found.anchors],
        "models": [asdict(m) for m in found.models],
        "trait_set": found.trait_set,
        "settings": dict(found.settings),
    }


def _show_comparison(found: "Comparison", as_json: bool) -> None:
    if as_json:
        print_json(comparison_document(found))
        return
    for trait in dict.fromkeys(r.trait for r in found.landings):
        _trait_table(found, trait)
    questions = found.settings["questions"]
    print(
        "L: 0 = the model's own neutral, 1 = half its own pole-to-pole range; [95 % interval over "
        f"{questions['test']} test questions]; D = L of the first model - L of the second; "  # type: ignore[index]
        "q: Benjamini-Hochberg over all cells; * q < .05."
    )


def _cell(row: "Landing | None") -> str:
    if row is None or isnan(row.L):
        return "cannot tell"
    return f"{row.L:+.2f} [{row.low:+.2f}, {row.high:+.2f}]"


def _trait_table(found: "Comparison", trait: str) -> None:
    landed = {
        (r.model, r.scaffold): r
        for r in found.landings
        if r.trait == trait and r.position == "reply_mean" and r.paraphrase == -1
    }
    crossed = {r.scaffold: r for r in found.interactions if r.trait == trait and r.position == "reply_mean"}
    rows = []
    for name in dict.fromkeys(s for _, s in landed):
        d = crossed.get(name)
        text = "cannot tell" if d is None or isnan(d.D) else f"{d.D:+.2f} [{d.low:+.2f}, {d.high:+.2f}]"
        q = "" if d is None or isnan(d.q) else f"{d.q:.3f}{' *' if d.q < 0.05 else ''}"
        rows.append([name, *(_cell(landed.get((m, name))) for m in found.labels), text, q])
    floor = {
        f.model: f.difference_95 for f in found.noise_floor if f.trait == trait and f.position == "reply_mean"
    }
    notes = ", ".join(f"{m} {v:.2f}" for m, v in floor.items())
    table(
        f"{trait}: landing L   (noise floor, two paraphrases differ by less in 95 %: {notes})",
        ["scaffold", *(f"L in {m}" for m in found.labels), "D", "q"],
        rows,
    )
