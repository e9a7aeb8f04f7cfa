"""What the commands share: the app, options, progress, tables, JSON."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isnan
from pathlib import Path
from typing import Annotated, Any

import typer

from lab.errors import LabError

ROOT = Path(__file__).resolve().parents[2]
app = typer.Typer(
    help="Where the same scaffold lands in two language models' latent geometry, with error bars.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, nothing else.")]
Runs = Annotated[Path, typer.Option("--runs", help="Folder for results and caches.")]
Traits = Annotated[
    str,
    typer.Option(
        help='Trait set: "persona" (17 traits, 330 questions), "chat" (3 of them, 60 questions: a quick look), '
        '"hearth", a file, a folder of public trait files, or "auto" (what the model names, else chat). '
        '"persona:warmth,agency" picks.'
    ),
]
Dtype = Annotated[str, typer.Option(help="float32 or bfloat16.")]
Seed = Annotated[int, typer.Option(help="Seed of replies, bootstrap and permutations.")]
Tokens = Annotated[int, typer.Option(help="Longest reply, in tokens.")]
DEFAULT_RUNS = Path("runs")


@contextmanager
def progress(quiet: bool) -> Iterator[Callable[[str, float], None]]:
    """A progress bar on stderr; `update(stage, fraction)`."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=quiet) as bar:
        task = bar.add_task("starting", total=1.0)
        try:
            yield lambda stage, fraction: bar.update(task, description=stage, completed=fraction)
        except KeyboardInterrupt:
            bar.stop()
            print(
                "lab: interrupted; what is finished is kept, the same command goes on there", file=sys.stderr
            )
            raise typer.Exit(130) from None


def print_json(document: object) -> None:
    def clean(value: Any) -> Any:
        if isinstance(value, float) and isnan(value):
            return None
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items()}
        return [clean(v) for v in value] if isinstance(value, (list, tuple)) else value

    print(json.dumps(clean(document), ensure_ascii=False, indent=1, allow_nan=False))


def table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def one_of(option: str, value: str, choices: tuple[Any, ...]) -> Any:
    """The value if it is one of the choices."""
    if value not in choices:
        raise LabError(f"{option} must be one of {', '.join(choices)}, got {value!r}")
    return value


def number(value: float, digits: int = 2) -> str:
    """The value, or that it cannot be told."""
    return "cannot tell" if isnan(value) else f"{value:.{digits}f}"


def with_interval(value: float, low: float, high: float) -> str:
    """The value with its interval, where there is one."""
    return number(value) + ("" if isnan(value) or isnan(low) else f" [{low:.2f}, {high:.2f}]")


def bracket(low: float, high: float) -> str:
    """The interval in brackets; nothing where there is none."""
    return "" if isnan(low) else f" [{low:+.2f}, {high:+.2f}]"
