"""`lab calibrate`: how often does each measure call two unrelated models alike?"""

import sys
from dataclasses import asdict
from math import isnan
from typing import TYPE_CHECKING, Annotated

import typer

from lab.cli.common import Json, app, number, print_json, progress, table

if TYPE_CHECKING:
    from lab.records.calibration import Rate


VERDICTS = """holds: the interval reaches down to 5 %. unclear: it does not, as for 1 in 40 right measures by luck;
another --seed and more --runs tell. too many: above 5 % with all rows counted (Benjamini–Hochberg).
Why some promise at most 5 %, or are wrong:"""


@app.command()
def calibrate(
    runs: Annotated[int, typer.Option(help="Simulated pairs of unrelated models.")] = 500,
    seed: Annotated[int, typer.Option(help="Seed of the simulation.")] = 0,
    measures: Annotated[
        list[str] | None,
        typer.Option(help='Only measures with this in their name, "CKA" or "ridge,RSA"; repeat for more.'),
    ] = None,
    wrong: Annotated[bool, typer.Option("--wrong", help="Also measures that are wrong on purpose.")] = False,
    as_json: Json = False,
) -> None:
    """False alarms at 5 % of every measure of agreement, on simulated models that have nothing in common."""
    from lab.pipelines.calibrate import CalibrateConfig
    from lab.pipelines.calibrate import calibrate as job

    config = CalibrateConfig(runs, seed, tuple(measures or ()), wrong)
    with progress(as_json) as update:
        try:
            found = job(config, update)
        except KeyboardInterrupt:
            print("lab: interrupted; nothing was kept", file=sys.stderr)
            raise typer.Exit(130) from None
    if as_json:
        print_json({"rows": [asdict(row) for row in found], "runs": runs, "seed": seed})
        return
    _show(found, runs)


def _percent(row: "Rate") -> str:
    return (
        f"{100 * row.rate:.1f} % [{100 * row.low:.1f}, {100 * row.high:.1f}]" if row.runs else "cannot tell"
    )


def _mean(row: "Rate") -> str:
    return number(row.mean) + ("" if isnan(row.chance) else f" ({row.chance:.2f})")


def _show(found: tuple["Rate", ...], runs: int) -> None:
    rows = [
        [
            row.measure, _percent(row),
            "at most 5 %" if row.at_most else "5 %", _mean(row), row.verdict,
        ]
        for row in found
    ]  # fmt: skip
    title = f"{runs} pairs of unrelated models under the same questions; p at or below .05 is a false alarm"
    table(title, ["measure", "false alarms [95 %]", "promised", "value (its null)", "verdict"], rows)
    print(VERDICTS)
    for why in dict.fromkeys(row.why for row in found if row.why):
        print(f"  {why}: {'; '.join(row.measure for row in found if row.why == why)}")
