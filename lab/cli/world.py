"""`lab world …`: making and measuring organisms."""

from pathlib import Path
from typing import Annotated

import typer

from lab.cli.common import ROOT, app

world = typer.Typer(help="Hearth, the synthetic world with known truth.", no_args_is_help=True)
app.add_typer(world, name="world")


@world.command("train")
def world_train(
    name: Annotated[
        str,
        typer.Argument(
            help="A recipe: hearth-a, hearth-b, hearth-a2, hearth-a-next, hearth-a-moe or hearth-base."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where the organism goes; default data/organisms/NAME.")
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder for shards and checkpoints.")] = Path("runs/world"),
    workers: Annotated[int, typer.Option(help="Processes that write the corpus.")] = 1,
    start: Annotated[
        Path | None, typer.Option(help="Train on from this organism instead of from scratch.")
    ] = None,
) -> None:
    """Train a model organism; resumes where it was stopped."""
    from lab.pipelines.organism import train_organism

    train_organism(name, out or ROOT / "data" / "organisms" / name, work / name, workers, print, start)


@world.command("measure")
def world_measure(name: Annotated[str, typer.Argument(help="A shipped organism.")]) -> None:
    """Measure an organism against the source and write its model card again."""
    from lab.pipelines.organism import measure_organism

    measure_organism(ROOT / "data" / "organisms" / name, print)
