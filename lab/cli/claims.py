"""`lab claims list | run | report`: what people claim of weights and scaffolds, put to the test."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lab.cli.common import DEFAULT_RUNS, Dtype, Json, Runs, Seed, app, number, print_json, progress, table
from lab.errors import LabError

if TYPE_CHECKING:
    from lab.records.claims import Effect, Finding

claims_app = typer.Typer(
    help="Claims about weights, scaffolds and continuity: list, run, report.", no_args_is_help=True
)
app.add_typer(claims_app, name="claims")


def companion(words: str) -> object:
    """An option that names a companion model."""
    return typer.Option(help=f"{words}, where a claim needs one. Without --models: the shipped one.")


@claims_app.command("list")
def list_claims(as_json: Json = False) -> None:
    """Every claim, with what the lab measures for it."""
    from lab.pipelines.claims import claims

    known = claims()
    if as_json:
        print_json(
            {"claims": [{"claim": c.number, "title": c.title, **c.sections} for c in known]},
        )
        return
    table(
        "claims", ["#", "claim", "measure"], [[str(c.number), c.title, c.sections["Measure"]] for c in known]
    )


@claims_app.command()
def run(
    which: Annotated[
        list[str], typer.Argument(help="A claim's number, several, or all.", metavar="NUMBER...")
    ],
    models: Annotated[
        list[str] | None,
        typer.Option("--models", help="Whom to test it on: --models A B. Default: the shipped models."),
    ] = None,
    second_seed: Annotated[str, companion("Another seed of the first model")] = "",
    next_version: Annotated[str, companion("The next version of the first model")] = "",
    experts: Annotated[str, companion("A mixture-of-experts twin of the first model")] = "",
    base: Annotated[str, companion("The base model of the first")] = "",
    traits: Annotated[str, typer.Option(help='Trait set, as in "lab compare".')] = "",
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer scaffolds and questions: a first look.")
    ] = False,
    dtype: Dtype = "float32",
    seed: Seed = 0,
    runs: Runs = DEFAULT_RUNS,
    as_json: Json = False,
) -> None:
    """Test claims; what was finished before is found, not run again."""
    from lab.pipelines.claims import claim, claims, configured
    from lab.pipelines.claims import run as job
    from lab.store import Store

    numbers, more = _parted(which)
    if more and not models:
        raise LabError(f"expected claims' numbers or all, got {' '.join(more)}; models come after --models")
    chosen = list(claims()) if numbers == ["all"] else [claim(int(n)) for n in numbers]
    companions = {"second_seed": second_seed, "next_version": next_version, "experts": experts, "base": base}
    found, failed = [], []
    for each in chosen:
        config = configured(
            each, [*(models or ()), *more], quick, seed, traits=traits, dtype=dtype, **companions
        )
        try:
            with progress(as_json) as update:
                finding = job(
                    each, config, Store(runs), lambda s, f, n=each.number: update(f"claim {n}: {s}", f)
                )
        except LabError as error:
            if len(chosen) == 1:
                raise
            failed.append(f"claim {each.number}: {error}")
            continue
        found.append(finding)
        if not as_json:
            show(finding)
    if as_json:
        print_json({"claims": _rows(found)})
    if failed:
        raise LabError("not tested:\n" + "\n".join(failed))


def _parted(which: list[str]) -> tuple[list[str], list[str]]:
    """Claims' numbers (or "all"), and the other words: models after the first."""
    words = [w for part in which for w in part.split(",") if w]
    numbers = [w for w in words if w.isdigit() or w == "all"]
    if not numbers or ("all" in numbers and len(numbers) > 1):
        raise LabError(f'expected a claim\'s number, several, or "all"; got {" ".join(which)!r}')
    return numbers, [w for w in words if w not in numbers]


@claims_app.command()
def report(
    folder: Annotated[
        Path, typer.Option("--into", help="Where the page, the table and the figures go.")
    ] = Path("runs/claims-report"),
    runs: Runs = DEFAULT_RUNS,
    shipped: Annotated[bool, typer.Option(help="Show the findings that came with the lab, too.")] = True,
    as_json: Json = False,
) -> None:
    """One HTML page and a Markdown table of everything that was tested; no model is loaded."""
    from lab.figures.claims_report import write_report
    from lab.pipelines.claims import SHIPPED, findings
    from lab.store import Store

    stores = [Store(runs), *([Store(SHIPPED)] if shipped else [])]
    found = findings([s for s in stores if s.root.is_dir()])
    if not found:
        raise LabError(f"no claim was tested yet in {runs}; run: lab claims run all")
    if as_json:
        print_json({"claims": _rows(found)})
        return
    page = write_report(found, folder)
    for finding in found:
        print(f"{finding.claim:>2} {finding.said:12} {finding.title}   ({finding.over})")
    print(f"{page}; {folder / 'report.md'}")


def _rows(found: "list[Finding] | tuple[Finding, ...]") -> list[dict[str, object]]:
    from lab.pipelines.claims import rows

    return rows(found, lambda f: f"figures/{f.run}.svg")


def show(finding: "Finding") -> None:
    """One finding in lines, its verdict above."""
    print(
        f"\nclaim {finding.claim}: {finding.title}\n{finding.said.upper()} over {finding.over or 'no model'}"
    )
    for e in finding.effects:
        p = f", p {number(e.p, 3)}" if e.p == e.p else ""
        print(
            f"  {e.models}: {e.what}: {told(e)}\n    wanted {e.side} {e.bar:g}; null: {e.null}{p}: {e.said}"
        )
    print(f"  run {finding.run}")


def told(e: "Effect") -> str:
    """Value, interval, unit and n of an effect, or why there is none."""
    if e.effect != e.effect:
        return e.why
    bounds = f" [{e.low:.3g}, {e.high:.3g}]" if e.low == e.low else f" ({e.why})"
    return f"{e.effect:.3g}{bounds} {e.unit}, n = {e.n} {e.cluster}" + ("" if e.decides else " (beside)")
